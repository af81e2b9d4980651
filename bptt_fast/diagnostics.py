"""Diagnostics: gradients over time, state dynamics, fixed points, saturation, curvature, error surfaces.

Everything except surfaces is computed in float64, without dropout, on a copy of the network, by the C core.
Gradients and Jacobians of the state are exact.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from . import _core, data, losses, own_loss  # type: ignore[attr-defined]
from .choices import LossName
from .columns import Scaling, ordered
from .description import Description
from .errors import (
    ConfigError,
    DivergedError,
    ShapeError,
    check_arguments,
    choice,
    integer,
    number,
    parameters_of,
    suggesting,
)
from .inference import evaluate, loss_and_grad, predict
from .initialisation import CELLS, is_own
from .interrupts import answer, in_parts
from .losses import Loss
from .machine import machine_for
from .model import Model, check_network
from .plans import planning

Array = np.ndarray[Any, Any]

STEP = 6e-6  # of central differences, about the cube root of the machine epsilon of float64
ROWS = 4096  # sequences per batch
RANDOM = ("dropout", "recurrent_dropout", "recurrent_noise", "input_noise")  # of training alone
STARTS = 100  # states from which fixed points are sought by default
RUN = 50  # steps of the trajectories
ITERATIONS = 200  # of Levenberg-Marquardt


@dataclass(frozen=True)
class GradientFlow:
    """The result of `gradient_flow`.

    Attributes
    ----------
    lag : ndarray of int (L,)
        Lags in steps: 1 is the state before the last step.
    norm : ndarray (n, L)
        Norm of the gradient of a sequence's loss with respect to its state `lag` steps before the end; NaN if
        the sequence is shorter.
    """

    lag: Array
    norm: Array

    def __repr__(self) -> str:
        n, lags = self.norm.shape
        return f"GradientFlow({n} sequences, {lags} lags, factor {self.factor:.3g} per step back)"

    @property
    def median(self) -> Array:
        """The median norm over the sequences, (L,)."""
        return np.nanmedian(self.norm, axis=0)

    @property
    def factor(self) -> float:
        """The factor of the gradient norm per step back in time, from a linear fit of its logarithm.

        Below 1 the gradient vanishes, above 1 it explodes; NaN with fewer than two lags."""
        middle = self.median
        fitted = middle > 0
        if fitted.sum() < 2:
            return math.nan
        return float(np.exp(np.polyfit(self.lag[fitted], np.log(middle[fitted]), 1)[0]))


@dataclass(frozen=True)
class Dynamics:
    """The result of `dynamics` along one run of T steps.

    Attributes
    ----------
    spectral_radius : ndarray (T,)
        The largest modulus of the eigenvalues of J[t], the derivative of the state after step t with respect
        to that before it.
    gain : ndarray (T,)
        The largest singular value of J[t]: the largest growth of a small difference in one step.
    exponents : ndarray (T,)
        The logarithmic growth per step of a small difference, which aligns with the fastest growing
        direction.
    skip : int
        Initial steps that `lyapunov` excludes.
    """

    spectral_radius: Array
    gain: Array
    exponents: Array
    skip: int

    def __repr__(self) -> str:
        radius = self.spectral_radius
        return (
            f"Dynamics({len(radius)} steps, spectral radius {radius.min():.3g} to {radius.max():.3g}, "
            f"Lyapunov exponent {self.lyapunov:.3g} per step)"
        )

    @property
    def lyapunov(self) -> float:
        """The largest Lyapunov exponent along the run, per step.

        Below 0 the past is forgotten, above 0 the run is chaotic."""
        return float(self.exponents[self.skip :].mean())


@dataclass(frozen=True)
class FixedPoints:
    """The result of `fixed_points`: m points at which the state stays, or nearly stays.

    Attributes
    ----------
    points : ndarray (m, state_size)
        The states, in the order of the first start that led to each.
    q : ndarray (m,)
        The speed ``q(h) = 1/2 |F(h, x) - h|^2`` at each point.
    jacobians : ndarray (m, state_size, state_size)
        The derivatives of F(h, x) with respect to h at each point.
    eigenvalues : ndarray of complex (m, state_size)
        The eigenvalues of the Jacobians, the largest modulus first.
    counts : ndarray of int (m,)
        The number of starts that led to each point.
    starts : ndarray (n, state_size)
        The states from which points were sought.
    trajectories : ndarray (n, 51, state_size)
        The runs of 50 steps from the starts under the same input; NaN or infinite where a run diverges.
    """

    points: Array
    q: Array
    jacobians: Array
    eigenvalues: Array
    counts: Array
    starts: Array
    trajectories: Array

    def __repr__(self) -> str:
        lines = [f"FixedPoints({len(self)} from {len(self.starts)} starts)"]
        if len(self):
            lines.append("starts        q  largest |eigenvalue|  unstable directions")
        for count, q, values, unstable in zip(
            self.counts, self.q, self.eigenvalues, self.unstable, strict=True
        ):
            lines.append(f"{count:6}  {q:7.1g}  {abs(values[0]):20.4g}  {unstable:19}")
        return "\n".join(lines)

    def __len__(self) -> int:
        return len(self.points)

    @property
    def unstable(self) -> Array:
        """The number of eigenvalues outside the unit circle at each point, (m,)."""
        return np.asarray((np.abs(self.eigenvalues) > 1).sum(axis=1))

    @property
    def stable(self) -> Array:
        """Whether all eigenvalues lie inside the unit circle, (m,)."""
        return np.asarray((np.abs(self.eigenvalues) < 1).all(axis=1))


@dataclass(frozen=True)
class Conditioning:
    """The result of `conditioning`.

    Attributes
    ----------
    singular_values : ndarray (min(N, P),)
        Singular values of J, the derivatives of all N outputs with respect to the P parameters, in descending
        order.
    parameters : int
        The number of parameters, P.
    """

    singular_values: Array
    parameters: int

    def __repr__(self) -> str:
        return f"Conditioning({self.parameters} parameters, rank {self.rank}, condition {self.condition:.3g})"

    @property
    def condition(self) -> float:
        """Condition number of J'J; infinite if there are fewer outputs than parameters."""
        smallest = self.singular_values[-1]
        if len(self.singular_values) < self.parameters or smallest == 0:
            return math.inf
        return float((self.singular_values[0] / smallest) ** 2)

    @property
    def rank(self) -> int:
        """The numerical rank of J, with the resolution of central differences, 1e-8 of the largest value."""
        return int((self.singular_values > 1e-8 * self.singular_values[0]).sum())


@dataclass(frozen=True)
class Surface:
    """The result of `error_surface`: the loss on a grid of two directions through a network's parameters.

    Attributes
    ----------
    a, b : ndarray (points,)
        Coordinates along the two axes.
    loss : ndarray (points, points)
        ``loss[i, j]`` at b[i] and a[j]; infinite where it is not finite.
    labels : tuple of two str
        Labels of the two axes.
    marks : dict of str to (a, b)
        Coordinates of the networks.
    title : str
        Description of the slice.
    """

    a: Array
    b: Array
    loss: Array
    labels: tuple[str, str]
    marks: dict[str, tuple[float, float]]
    title: str

    def __repr__(self) -> str:
        b, a = self.loss.shape
        return f"Surface({self.title}: {a} x {b} points, loss {self.loss.min():.3g} to {self.loss.max():.3g})"


# ---- gradients over time


@suggesting
def gradient_flow(
    net: Model,
    x: Any,
    y: Any,
    *,
    lags: int | ArrayLike | None = None,
    loss: LossName | Loss = "mse",
    x0: ArrayLike | None = None,
    lengths: ArrayLike | None = None,
) -> GradientFlow:
    """Gradient norms of the loss at the end of a sequence with respect to earlier states.

    Parameters
    ----------
    net : Network
        A network with one direction.
    x, y, x0, lengths
        As in ``Network.fit``.  With readout "every" only the last target of each sequence is used.
    lags : int or array of int, optional
        The largest lag, or the lags themselves.  Default: all, or 200 evenly spaced ones if there are more.
    loss : str, default "mse"
        As in ``Network.fit``.

    Returns
    -------
    flow : GradientFlow

    Raises
    ------
    ShapeError, ConfigError
        If an argument is invalid; the message names it.
    DivergedError
        If the loss is NaN or infinite.

    Notes
    -----
    The gradients are exact; each lag takes one forward and backward pass.  Vanishing and exploding gradients
    make long dependencies hard to learn: S. Hochreiter, "Untersuchungen zu dynamischen neuronalen Netzen",
    1991; Y. Bengio, P. Simard and P. Frasconi, "Learning long-term dependencies with gradient descent is
    difficult", 1994.

    Examples
    --------
    >>> import numpy as np, bptt_fast as bf
    >>> net = bf.Network(1, 8, 1, seed=0)
    >>> x = np.random.default_rng(0).normal(size=(4, 50, 1))
    >>> flow = bf.diagnostics.gradient_flow(net, x, np.zeros(4))
    >>> flow.norm.shape, flow.factor < 1
    ((4, 50), True)
    """
    twin = _twin(net)
    evaluate(net, x, y, loss=loss, x0=x0, lengths=lengths)  # raises for invalid arguments
    parts, start = _parts(net, x, x0, lengths)
    targets = _last_targets(net, ordered(y, net.output_names, "y"), parts, x)
    longest = max(map(len, parts))
    if lags is None:
        lags = np.unique(np.linspace(1, longest, min(longest, 200)).round().astype(int))
    elif np.ndim(lags) == 0:
        lags = np.arange(1, integer(lags, "lags", 1, longest) + 1)
    else:
        lags = np.array([integer(lag, f"lags[{i}]", 1, longest) for i, lag in enumerate(np.asarray(lags))])
    states = _states(twin, parts, start)
    norm = np.full((len(parts), len(lags)), np.nan)
    for j, lag in enumerate(lags):
        among = [i for i, part in enumerate(parts) if len(part) >= lag]
        ends = np.stack([parts[i][len(parts[i]) - lag :] for i in among])
        before = np.stack([states[i][len(parts[i]) - lag] for i in among])
        wanted = np.stack([targets[i] for i in among])
        _, grads = loss_and_grad(twin, ends, wanted, loss=loss, x0=before, with_inputs=True)
        norm[among, j] = np.linalg.norm(grads["x0"], axis=1) * len(among)
    return GradientFlow(lags, norm)


# ---- the dynamics of the state


@suggesting
def states(net: Model, x: Any, *, x0: ArrayLike | None = None) -> Any:
    """States along one run or several.

    Parameters
    ----------
    net : Network
        A network with one direction.
    x : array (T, I) or (n, T, I), or list of n arrays (T_i, I)
        One series, or sequences.
    x0 : array (state_size,) or (n, state_size), optional
        Initial states; default: the network's.

    Returns
    -------
    states : ndarray (T + 1, state_size) or (n, T + 1, state_size), or list of ndarray (T_i + 1, state_size)
        The states; the first is the initial state.

    Raises
    ------
    ShapeError, ConfigError
        If an argument is invalid; the message names it.

    Examples
    --------
    >>> import numpy as np, bptt_fast as bf
    >>> bf.diagnostics.states(bf.Network(1, 4, 1, seed=0), np.ones((10, 1))).shape
    (11, 4)
    """
    twin = _twin(net)
    runs = _states(twin, *_parts(net, x, x0, None))
    if data.is_list(x):
        return runs
    return np.stack(runs) if getattr(x, "ndim", np.ndim(x)) == 3 else runs[0]


@suggesting
def state_jacobians(net: Model, x: Any, *, x0: ArrayLike | None = None) -> Array:
    """Derivatives of each state with respect to the previous one, along one run.

    Parameters
    ----------
    net, x, x0
        As in `states`, for one series.

    Returns
    -------
    jacobians : ndarray (T, state_size, state_size)
        ``jacobians[t, i, j]`` is the derivative of entry i of the state after step t with respect to entry j
        before it.

    Raises
    ------
    ShapeError, ConfigError
        If an argument is invalid; the message names it.

    Examples
    --------
    >>> import numpy as np, bptt_fast as bf
    >>> bf.diagnostics.state_jacobians(bf.Network(1, 4, 1, seed=0), np.ones((10, 1))).shape
    (10, 4, 4)
    """
    twin = _twin(net)
    parts, start = _parts(net, _one_series(x), x0, None)
    run = _states(twin, parts, start)[0][:-1]
    (inputs,) = parts
    if net.scaling is not None:
        inputs = net.scaling.inputs(inputs, np.float64)
    step = _StateMap(twin)
    jacobians = np.empty((len(run), net.state_size, net.state_size))
    for part in in_parts(run.shape[:1], net.state_size**2):
        jacobians[part] = step.linearised(run[part], inputs[part])[1]
    return jacobians


@suggesting
def dynamics(net: Model, x: Any, *, x0: ArrayLike | None = None, skip: int | None = None) -> Dynamics:
    """Spectral radius of the state Jacobian at each step, and the largest Lyapunov exponent of the run.

    Parameters
    ----------
    net, x, x0
        As in `states`, for one series.
    skip : int, optional
        Initial steps that the exponent excludes.  Default: a tenth of the steps.

    Returns
    -------
    dynamics : Dynamics

    Raises
    ------
    ShapeError, ConfigError
        If an argument is invalid; the message names it.

    Examples
    --------
    >>> import numpy as np, bptt_fast as bf
    >>> net = bf.Network(1, 8, 1, seed=0)
    >>> result = bf.diagnostics.dynamics(net, np.random.default_rng(0).normal(size=(100, 1)))
    >>> result.spectral_radius.shape, result.lyapunov < 0
    ((100,), True)
    """
    jacobians = state_jacobians(net, x, x0=x0)
    steps = len(jacobians)
    skip = steps // 10 if skip is None else integer(skip, "skip", 0, steps - 1)
    random = np.random.default_rng(0)
    direction = random.normal(size=jacobians.shape[1])
    direction /= np.linalg.norm(direction)
    exponents = np.empty(steps)
    for t, jacobian in enumerate(jacobians):
        direction = jacobian @ direction
        growth = np.linalg.norm(direction)
        if growth == 0:  # all differences vanish within one step
            exponents[t:] = -np.inf
            break
        exponents[t] = np.log(growth)
        direction /= growth
    return Dynamics(
        _per_step(lambda some: np.abs(np.linalg.eigvals(some)).max(axis=1), jacobians),
        _per_step(lambda some: np.linalg.norm(some, ord=2, axis=(1, 2)), jacobians),
        exponents,
        skip,
    )


def _per_step(function: Callable[[Array], Array], jacobians: Array) -> Array:
    """A function of the matrices (T, n, n), (T,), some steps at a time."""
    work = 10 * (jacobians.shape[1] + 16) ** 3  # of a step
    results = []
    for part in in_parts(jacobians.shape[:1], work // 100):
        some = jacobians[part]
        results.append(answer(partial(function, some), work * len(some)))
    return np.concatenate(results)


# ---- fixed points


@suggesting
def fixed_points(
    net: Model,
    x: Any,
    starts: ArrayLike | None = None,
    *,
    tolerance: float = 1e-12,
    distance: float = 1e-3,
    seed: int = 0,
) -> FixedPoints:
    """Fixed and slow points of the state under a constant input, with their stability.

    Parameters
    ----------
    net : Network
        A network with one direction.
    x : array (I,)
        The input of every step.
    starts : array (n, state_size), optional
        States from which points are sought, for example those of `states` along a run.  Default: 100 states
        on trajectories of up to 50 steps under x, which begin at random states.
    tolerance : float, default 1e-12
        The largest ``q(h) = 1/2 |F(h, x) - h|^2`` of a point.  A larger tolerance also returns slow points:
        local minima of q above zero.
    distance : float, default 1e-3
        Points that are closer are one point, that with the smaller q.
    seed : int, default 0
        The seed of the default starts.

    Returns
    -------
    points : FixedPoints

    Raises
    ------
    ShapeError, ConfigError
        If an argument is invalid; the message names it.

    See Also
    --------
    bptt_fast.plots.phase_plane : A picture of the result.

    Notes
    -----
    q is minimised from all starts at once by the Levenberg-Marquardt method with the exact Jacobian and a
    damping proportional to q, so that convergence is quadratic, on a line of fixed points too.  Points that
    lie more than ten times as far from the centre of the starts as these do on average are dropped.
    D. Sussillo and O. Barak, "Opening the black box: low-dimensional dynamics in high-dimensional recurrent
    neural networks", 2013; N. Yamashita and M. Fukushima, "On the rate of convergence of the
    Levenberg-Marquardt method", 2001.

    Examples
    --------
    >>> import numpy as np, bptt_fast as bf
    >>> net = bf.Network(1, 1, 1, seed=0)
    >>> net.params[:] = 0
    >>> net["weight_hh_l0"] = 2.0  # h = tanh(2 h)
    >>> found = bf.diagnostics.fixed_points(net, [0.0])
    >>> np.sort(found.points[:, 0]).round(4).tolist(), int(found.stable.sum())
    ([-0.9575, 0.0, 0.9575], 2)
    """
    tolerance = number(tolerance, "tolerance", 0, open_low=True)
    distance = number(distance, "distance", 0)
    random = np.random.default_rng(integer(seed, "seed", 0, 2**64 - 1))
    step = _StateMap(_twin(net))
    row = data.numbers(x, "x")
    if row.shape != (net.input_size,):
        raise ShapeError(f"x: expected ({net.input_size},), the input of every step, got {row.shape}.")
    inputs = data.sequences(row[None], net.input_size, np.float64, columns=net.columns).values
    if starts is None:
        # near the origin and far from it, soon after the beginning and late
        runs = step.run(
            random.uniform(size=(STARTS, 1)) * random.normal(size=(STARTS, net.state_size)), inputs
        )
        late = (RUN + 1) ** random.uniform(size=STARTS) - 1
        begin = runs[np.arange(STARTS), late.astype(int)]
        begin = np.where(np.isfinite(begin), begin, 0)
    else:
        begin = np.atleast_2d(data.cast(data.numbers(starts, "starts"), np.float64))
        if begin.ndim != 2 or begin.shape[1] != net.state_size or not len(begin):
            raise ShapeError(f"starts: expected (n, {net.state_size}), got {np.shape(starts)}.")
        if not np.isfinite(begin).all():
            raise ConfigError(f"starts: expected finite numbers, got {begin[~np.isfinite(begin)][0]}.")
    states, q = np.empty_like(begin), np.empty(len(begin))
    for part in in_parts(begin.shape[:1], 4 * net.state_size**2):
        states[part], q[part] = _slowest(step, begin[part], inputs)
    with np.errstate(over="ignore", invalid="ignore"):
        center = begin.mean(axis=0)
        reach = 10 * max(1.0, np.linalg.norm(begin - center, axis=1).mean())
        kept = (q <= tolerance) & (np.linalg.norm(states - center, axis=1) <= reach)
    candidates = np.flatnonzero(kept)
    chosen, counts = _distinct(states[candidates], q[candidates], distance)
    points = states[candidates[chosen]]
    jacobians = np.empty((len(points), net.state_size, net.state_size))
    eigenvalues = np.empty((len(points), net.state_size), dtype=complex)
    for part in in_parts(points.shape[:1], net.state_size**2):
        jacobians[part] = step.linearised(points[part], inputs)[1]
    if len(points):
        eigenvalues[:] = _per_step(np.linalg.eigvals, jacobians)
        order = np.argsort(-np.abs(eigenvalues), axis=1, kind="stable")
        eigenvalues = np.take_along_axis(eigenvalues, order, axis=1)
    return FixedPoints(
        points, q[candidates[chosen]], jacobians, eigenvalues, counts, begin, step.run(begin, inputs)
    )


def _slowest(step: _StateMap, starts: Array, inputs: Array) -> tuple[Array, Array]:
    """Local minima h (n, size) of q(h) = 1/2 |F(h, x) - h|^2 from the starts, and q there (NaN: none)."""
    h, size = starts.copy(), starts.shape[1]
    after, jacobians = step.linearised(h, inputs)
    with np.errstate(over="ignore", invalid="ignore"):
        r = after - h
        q = 0.5 * (r**2).sum(axis=1)
    a = jacobians - np.eye(size)
    active = np.flatnonzero(np.isfinite(q))
    factor, growth = np.ones(len(h)), np.full(len(h), 2.0)  # of the damping
    factor[active] = np.minimum(1, 1e-2 * (a[active] ** 2).sum(axis=(1, 2)) / (size * q[active] + 1e-300))
    for _ in range(ITERATIONS):
        rounding = 4e-16 * (1 + np.abs(h).max(axis=1))
        active = active[q[active] > 0.5 * size * rounding[active] ** 2]
        if not len(active):
            break
        # (A'A + mu) d = -A'r, mu = factor q
        mu = np.maximum(factor[active] * q[active], 1e-300)[:, None]
        transposed = a[active].transpose(0, 2, 1)
        gradient = (transposed @ r[active][..., None])[..., 0]
        d = -_solved(transposed @ a[active] + mu[..., None] * np.eye(size), gradient)
        trial = h[active] + d
        with np.errstate(over="ignore", invalid="ignore"):
            q_trial = 0.5 * ((step.after(trial, inputs) - trial) ** 2).sum(axis=1)
            gain = (q[active] - q_trial) / np.maximum(0.5 * (d * (mu * d - gradient)).sum(axis=1), 1e-300)
        better = q_trial < q[active]
        # a minimum above zero: an almost undamped step brought next to nothing
        undamped = size * mu[:, 0] <= (transposed**2).sum(axis=(1, 2))
        done = better & undamped & (q[active] - q_trial < 1e-5 * q[active])
        done |= np.abs(d).max(axis=1) <= rounding[active]
        at, rejected = active[better], active[~better]
        factor[at] *= np.maximum(1 / 3, 1 - (2 * np.clip(gain[better], 0, 1) - 1) ** 3)
        growth[at] = 2
        factor[rejected] *= growth[rejected]
        growth[rejected] *= 2
        h[at], q[at] = trial[better], q_trial[better]
        if len(at):
            after, jacobians = step.linearised(h[at], inputs)
            r[at], a[at] = after - h[at], jacobians - np.eye(size)
        active = active[~done]
    return h, q


def _solved(matrices: Array, rights: Array) -> Array:
    """The solutions of positive definite equations; the steepest descent where a matrix is singular."""
    try:
        return np.linalg.solve(matrices, rights[..., None])[..., 0]
    except np.linalg.LinAlgError:
        return rights / np.trace(matrices, axis1=1, axis2=2)[:, None]


def _distinct(states: Array, q: Array, distance: float) -> tuple[Array, Array]:
    """Indices of states no two of which are within `distance`, in their order, and the states near each."""
    owner = np.full(len(states), -1)
    for i in np.argsort(q, kind="stable"):
        if owner[i] < 0:
            near = (owner < 0) & (np.linalg.norm(states - states[i], axis=1) <= distance)
            owner[near], owner[i] = i, i
    _, first, counts = np.unique(owner, return_index=True, return_counts=True)
    order = np.argsort(first)
    return owner[first[order]], counts[order]


class _StateMap:
    """One step h' = F(h, x) of a float64 network, for many states at once, and its derivatives.

    States are (n, size), scaled inputs (n, I) or (1, I) for all.
    """

    def __init__(self, twin: Model) -> None:
        d = twin.description
        self.size, self.layers = twin.state_size, d.num_layers
        kinds = CELLS[twin.desc()["cell"]]["states"]
        self.cuts = [self.size // d.num_layers - k * d.hidden_size for k in range(kinds - 1, 0, -1)]
        desc = twin.desc() | {"head": (), "skip": False, "output_size": 0}  # outputs are h of the top layer
        self.output_size = d.proj_size or d.hidden_size
        self.batch = max(ROWS // self.size, 1) * self.size
        threads, isa = machine_for(None, None)
        with planning(f"{self.batch} states", "Use a smaller network."):
            self.tape = _core.Tape(desc, batch=self.batch, steps=1, threads=threads, isa=isa)
        self.parameters = tuple(twin[name].copy() for name, *_ in _core.blocks(desc))

    def after(self, states: Array, inputs: Array) -> Array:
        """The states after the step; not finite where it overflows."""
        result = np.empty_like(states)
        for part in self._parts(len(states), self.batch):
            result[part] = self._forward(
                states[part], inputs[part if len(inputs) > 1 else slice(None)], False
            )
        return result

    def linearised(self, states: Array, inputs: Array) -> tuple[Array, Array]:
        """The states after the step, and their derivatives by those before it, (n, size, size)."""
        after, jacobians = np.empty_like(states), np.empty((len(states), self.size, self.size))
        for part in self._parts(len(states), self.batch // self.size):
            rows = np.repeat(states[part], self.size, axis=0)
            inputs_of_rows = np.repeat(inputs[part], self.size, axis=0) if len(inputs) > 1 else inputs
            after[part] = self._forward(rows, inputs_of_rows, True)[:: self.size]
            # row i of each state: the gradient of entry i of the state after the step
            n = len(rows) // self.size
            jacobians[part] = self._backward(np.tile(np.eye(self.size), (n, 1))).reshape(n, self.size, -1)
        return after, jacobians

    def run(self, states: Array, inputs: Array) -> Array:
        """The trajectories (n, RUN + 1, size) under a constant input."""
        runs = np.empty((len(states), RUN + 1, self.size))
        runs[:, 0] = states
        for t in range(RUN):
            runs[:, t + 1] = self.after(runs[:, t], inputs)
        return runs

    @staticmethod
    def _parts(n: int, at_once: int) -> Iterator[slice]:
        return (slice(first, first + at_once) for first in range(0, n, at_once))

    def _forward(self, states: Array, inputs: Array, keep: bool) -> Array:
        n = len(states)
        x = np.ascontiguousarray(np.broadcast_to(inputs, (n, inputs.shape[1])))
        y, before = np.empty((n, self.output_size)), self._split(states)
        final = [np.empty_like(kind) for kind in before]
        self.tape.lay(data.counting(n), np.ones(n, np.int64), None)
        self.tape.forward(
            _address(x), *map(_addresses, (self.parameters, before)), _address(y), _addresses(final), keep, 0
        )
        return self._join(final)

    def _backward(self, dstates: Array) -> Array:
        dy, dfinal = np.zeros((len(dstates), self.output_size)), self._split(dstates)
        dinitial = [np.empty_like(kind) for kind in dfinal]
        unwanted = (0,) * len(self.parameters)
        self.tape.backward(_address(dy), _addresses(dfinal), unwanted, 0, _addresses(dinitial))
        return self._join(dinitial)

    def _split(self, states: Array) -> list[Array]:
        """h and, where the cell has it, c: (layers, n, width) each, from (n, size)."""
        kinds = np.split(states.reshape(len(states), self.layers, -1), self.cuts, axis=2)
        return [np.ascontiguousarray(kind.transpose(1, 0, 2)) for kind in kinds]

    def _join(self, kinds: Sequence[Array]) -> Array:
        """The inverse of `_split`."""
        joined = np.concatenate([kind.transpose(1, 0, 2) for kind in kinds], axis=2)
        return joined.reshape(len(joined), -1)


def _address(a: Array) -> int:
    return int(a.ctypes.data)


def _addresses(arrays: Sequence[Array]) -> tuple[int, ...]:
    return tuple(map(_address, arrays))


# ---- saturation


@suggesting
def saturation(
    net: Model,
    x: Any,
    *,
    threshold: float = 0.95,
    x0: ArrayLike | None = None,
    lengths: ArrayLike | None = None,
) -> dict[str, Array]:
    """Share of steps in which each unit's nonlinearity is saturated, so that little gradient passes.

    Parameters
    ----------
    net : Network
        A network with one direction.
    x, x0, lengths
        As in ``Network.fit``.
    threshold : float, default 0.95
        In (0, 1).  A tanh is saturated beyond +-threshold, a sigmoid above it and below 1 - threshold, a relu
        where it is zero, a retanh where it is zero and above threshold; other nonlinearities never are.

    Returns
    -------
    shares : dict of str to ndarray (units,)
        The share of all steps, from 0 to 1.  "h_l0": the states of layer 0, for "elman", "mlp" and "indrnn",
        or phi of a "ctrnn"; "f.0_l0": the inner layers of an "mlp"; "r_l0", "z_l0": the gates of a "gru",
        "z_l0" that of a "mingru"; "f_l0", "i_l0": those of a "minlstm"; "i_l0", "f_l0", "o_l0", and "c_l0"
        for tanh(c): those of an "lstm".  None of a cell of the user's own.

    Raises
    ------
    ShapeError, ConfigError
        If an argument is invalid; the message names it.

    Examples
    --------
    >>> import numpy as np, bptt_fast as bf
    >>> net = bf.Network(1, 4, 1, cell="lstm", seed=0)
    >>> shares = bf.diagnostics.saturation(net, np.ones((2, 10, 1)))
    >>> list(shares), float(shares["i_l0"].max())
    (['i_l0', 'f_l0', 'o_l0', 'c_l0'], 0.0)
    """
    limit = number(threshold, "threshold", 0, 1, open_low=True, open_high=True)
    twin = _twin(net)
    parts, start = _parts(net, x, x0, lengths)
    runs = _states(twin, parts, start)
    before = np.concatenate([run[:-1] for run in runs])
    after = np.concatenate([run[1:] for run in runs])
    below = np.concatenate(parts)
    if net.scaling is not None:
        below = net.scaling.inputs(below, np.float64)
    below = net.encoded(below)
    weights = twin.state_dict()
    d, shares, at = net.description, dict[str, Array](), 0
    width = d.proj_size or d.hidden_size
    for layer in range(d.num_layers):
        own = {k.removesuffix(f"_l{layer}"): v for k, v in weights.items() if k.endswith(f"_l{layer}")}
        h, new = before[:, at : at + width], after[:, at : at + width]
        at += width
        if d.follows:  # the states are potentials
            h, new = (_NONLINEARITIES[d.nonlinearity[0]](v) for v in (h, new))
        c: tuple[Array, ...] = ()  # before and after the step
        if CELLS[d.cell]["states"] > 1:
            c = before[:, at : at + d.hidden_size], after[:, at : at + d.hidden_size]
            at += d.hidden_size
        for name, (nonlinearity, values) in _units(d, own, below, h, new, c).items():
            shares[f"{name}_l{layer}"] = _flat(nonlinearity, values, limit).mean(axis=0)
        below = new
    return shares


def _units(
    d: Description, w: Mapping[str, Array], x: Array, h: Array, new: Array, c: tuple[Array, ...]
) -> dict[str, tuple[str, Array]]:
    """The units of a layer that can saturate, {name: (nonlinearity, outputs (rows, units))}."""
    if is_own(d.cell):  # what its gates are is not known
        return {}
    if not CELLS[d.cell]["recurrent"]:
        values = np.split(x @ w["weight_ih"].T + w["bias_ih"], CELLS[d.cell]["gates"], axis=1)
        names = {"mingru": ("z",), "minlstm": ("f", "i")}.get(d.cell, ())
        if not names:
            return {"h": (d.nonlinearity[0], new)}
        return {name: ("sigmoid", _sigmoid(gate)) for name, gate in zip(names, values, strict=False)}
    if CELLS[d.cell]["activation"]:
        units, kinds = {}, d.nonlinearity
        a = x @ w["weight_ih"].T + w["bias_ih"] + h @ w["weight_hh"].T + w["bias_hh"]
        for i in range(len(kinds) - 1):
            units[f"f.{i}"] = kinds[i], _NONLINEARITIES[kinds[i]](a)
            a = units[f"f.{i}"][1] @ w[f"f.{i + 1}.weight"].T + w[f"f.{i + 1}.bias"]
        return units | {
            "h": (kinds[-1], _NONLINEARITIES[kinds[-1]](a) if d.cell == "ctrnn" and not d.follows else new)
        }
    z = x @ w["weight_ih"].T + w["bias_ih"] + h @ w["weight_hh"].T + w["bias_hh"]
    if d.cell == "gru":
        r, update, _ = np.split(z, 3, axis=1)
        return {"r": ("sigmoid", _sigmoid(r)), "z": ("sigmoid", _sigmoid(update))}
    if d.cell != "lstm":
        return {}
    at_i, at_f, _, at_o = np.split(z, 4, axis=1)
    if d.peephole:
        of_i, of_f, of_o = np.split(w["weight_peephole"], 3)
        at_i, at_f, at_o = at_i + of_i * c[0], at_f + of_f * c[0], at_o + of_o * c[1]
    gates = {name: ("sigmoid", _sigmoid(gate)) for name, gate in (("i", at_i), ("f", at_f), ("o", at_o))}
    return gates | {"c": ("tanh", np.tanh(c[1]))}


def _sigmoid(z: Array) -> Array:
    return np.asarray(0.5 + 0.5 * np.tanh(0.5 * z))


_NONLINEARITIES: dict[str, Callable[[Array], Array]] = {
    "tanh": np.tanh,
    "sigmoid": _sigmoid,
    "relu": lambda z: np.maximum(z, 0),
    "linear": lambda z: z,
    "leaky_relu": lambda z: np.where(z > 0, z, 0.01 * z),
    "retanh": lambda z: np.maximum(np.tanh(z), 0),
    "softplus": lambda z: np.logaddexp(z, 0),
}


def _flat(nonlinearity: str, values: Array, threshold: float) -> Array:
    """Mask of the outputs at which a nonlinearity is saturated."""
    if nonlinearity == "tanh":
        return np.abs(values) > threshold
    if nonlinearity == "retanh":
        return (values == 0) | (values > threshold)
    if nonlinearity == "sigmoid":
        return (values > threshold) | (values < 1 - threshold)
    return values == 0 if nonlinearity == "relu" else np.zeros(values.shape, dtype=bool)


# ---- curvature


@suggesting
def conditioning(
    net: Model, x: Any, *, x0: ArrayLike | None = None, lengths: ArrayLike | None = None
) -> Conditioning:
    """Singular values of the derivatives of all outputs with respect to all parameters.

    Parameters
    ----------
    net : Network
        A network of at most 2000 parameters.
    x, x0, lengths
        As in ``Network.fit``.

    Returns
    -------
    conditioning : Conditioning

    Raises
    ------
    ShapeError, ConfigError
        If an argument is invalid; the message names it.

    Notes
    -----
    J'J approximates the curvature of the mean squared error near a good fit; with `scaling`, that of scaled
    outputs.  J is computed by central differences, two runs per parameter; singular values below 1e-8 of the
    largest are noise, which `rank` leaves out.

    Examples
    --------
    >>> import numpy as np, bptt_fast as bf
    >>> net = bf.Network(1, 4, 1, seed=0)
    >>> result = bf.diagnostics.conditioning(net, np.random.default_rng(0).normal(size=(60, 10, 1)))
    >>> result.rank < result.parameters  # the two biases of a layer are redundant
    True
    """
    check_network(net)
    if net.num_parameters > 2000:
        raise ConfigError(
            f"net: expected at most 2000 parameters for conditioning, which runs twice per parameter, got "
            f"{net.num_parameters}."
        )
    twin = _twin(net, readout=net.readout, both=True)
    if net.scaling is not None:
        twin.scaling = Scaling(net.scaling.input_mean, net.scaling.input_scale)
    columns, center = [], twin.params.copy()

    def outputs() -> Array:
        y = predict(twin, x, x0=x0, lengths=lengths)
        return np.concatenate([np.ravel(part) for part in y]) if isinstance(y, list) else y.ravel()

    for i, value in enumerate(center):
        step = STEP * max(1.0, abs(value))
        twin.params[i] = value + step
        above = outputs()
        twin.params[i] = value - step
        columns.append((above - outputs()) / (2 * step))
        twin.params[i] = value
    jacobian = np.stack(columns, axis=1)
    work = 4 * jacobian.size * min(jacobian.shape)
    return Conditioning(answer(lambda: np.linalg.svd(jacobian, compute_uv=False), work), len(center))


# ---- the error surface


@suggesting
def error_surface(
    net: Model,
    x: Any,
    y: Any,
    *,
    along: Any = "random",
    span: float | None = None,
    points: int = 41,
    seed: int = 0,
    **options: Any,
) -> Surface:
    """The loss on a two-dimensional slice through the parameters of a network.

    Parameters
    ----------
    net : Network
        The network at the centre of the slice, or at its left; not changed.
    x, y : array or list
        As in ``Network.evaluate``.
    along : "random", Network or pair, default "random"
        The slice.  "random": two random directions, scaled to the norm of each parameter block.  A
        ``Network`` of the same kind, another solution: the line from `net` at 0 to it at 1, and an orthogonal
        random direction.  Two networks: the plane through all three.  Two weights, each a name and indices:
        ``("weight_hh_l0", 0, 0)`` and ``("bias_hh_l0", 1)``.
    span : float, optional
        Extent of the slice from `net` in both directions.  Default 1; for weights 3, and towards other
        networks half the distance beyond them.
    points : int, default 41
        Grid points along each axis.
    seed : int, default 0
        Seed of the random directions.
    **options
        `loss`, `sample_weight`, `x0`, `lengths`, `batch_size`, `threads` of ``Network.evaluate``.

    Returns
    -------
    surface : Surface

    Raises
    ------
    ShapeError, ConfigError
        If an argument is invalid; the message names it.

    Notes
    -----
    Directions scaled to the weights make surfaces of different networks comparable: H. Li et al.,
    "Visualizing the loss landscape of neural nets", 2018.

    Examples
    --------
    >>> import numpy as np, bptt_fast as bf
    >>> net = bf.Network(1, 4, 1, seed=0)
    >>> surface = bf.diagnostics.error_surface(net, np.ones((3, 5, 1)), np.zeros(3), points=5)
    >>> surface.loss.shape
    (5, 5)
    """
    known = dict.fromkeys([*parameters_of(error_surface)[:-1], *parameters_of(evaluate)])
    check_arguments("error_surface", options, list(known))
    check_network(net)
    points = integer(points, "points", 2, 1001)
    random = np.random.default_rng(integer(seed, "seed", 0, 2**64 - 1))
    plane = _plane(net, along, random)
    low, high = plane.low, plane.high
    if span is not None:
        reach = number(span, "span", 0, open_low=True)
        low, high = plane.middle - reach, plane.middle + reach
    a, b = np.linspace(low[0], high[0], points), np.linspace(low[1], high[1], points)
    loss, probe = np.empty((points, points)), copy.copy(net)
    for i, v in enumerate(b):
        for j, u in enumerate(a):
            probe.params[:] = plane.origin + u * plane.directions[0] + v * plane.directions[1]
            try:
                loss[i, j] = evaluate(probe, x, y, **options)
            except DivergedError:
                loss[i, j] = math.inf
    return Surface(a, b, loss, plane.labels, plane.marks, plane.title)


class _Plane(NamedTuple):
    """A plane through the parameters, and how a surface on it is drawn."""

    title: str
    labels: tuple[str, str]
    origin: Array  # the parameters at (0, 0)
    directions: Sequence[Array]
    middle: Array  # the coordinates of the network
    low: Array
    high: Array
    marks: dict[str, tuple[float, float]]


def _plane(net: Model, along: Any, random: np.random.Generator) -> _Plane:
    """The plane that `along` of `error_surface` says."""
    center, zero = net.params.astype(float), np.zeros(2)
    marks = {"network": (0.0, 0.0)}
    if isinstance(along, str):
        choice(along, "along", ("random",))
        labels = (
            "random direction 1 (lengths of the weights)",
            "random direction 2 (lengths of the weights)",
        )
        directions = [_random_direction(net, random) for _ in range(2)]
        return _Plane("two random directions", labels, center, directions, zero, zero - 1, zero + 1, marks)
    if isinstance(along, Model):
        labels = ("towards the other solution (share of the way)", "random direction (the same lengths)")
        far = _towards(net, along, 0)
        other = _random_direction(net, random)
        other -= far * (other @ far) / (far @ far)
        directions = [far, other / np.linalg.norm(other) * np.linalg.norm(far)]
        marks["other solution"] = (1.0, 0.0)
        low, high = np.array([-0.5, -1.0]), np.array([1.5, 1.0])
        return _Plane("towards another solution", labels, center, directions, zero, low, high, marks)
    pair = along if isinstance(along, (tuple, list)) and len(along) == 2 else ()
    if pair and all(isinstance(one, Model) for one in pair):
        labels = ("towards solution 1 (share of the way)", "towards solution 2 (share of the way)")
        directions = [_towards(net, other, i) for i, other in enumerate(pair)]
        marks |= {"solution 1": (1.0, 0.0), "solution 2": (0.0, 1.0)}
        title = "the plane through three solutions"
        return _Plane(title, labels, center, directions, zero, zero - 0.5, zero + 1.5, marks)
    if pair:
        places = [_place(net, weight, f"along[{i}]") for i, weight in enumerate(pair)]
        if places[0] == places[1]:
            raise ConfigError(f"along: expected two different weights, got {pair[0]!r} twice.")
        directions = [np.eye(1, len(center), place)[0] for place in places]
        words = [f"{weight[0]}[{', '.join(map(str, weight[1:]))}]" for weight in pair]
        middle = center[places]
        marks = {"network": (float(middle[0]), float(middle[1]))}
        center[places] = 0
        labels = (words[0], words[1])
        return _Plane("two weights", labels, center, directions, middle, middle - 3, middle + 3, marks)
    raise ConfigError(
        f'along: expected "random", a Network, two networks, or two weights such as '
        f'("weight_hh_l0", 0, 0), got {along!r}.'
    )


def _random_direction(net: Model, random: np.random.Generator) -> Array:
    """A random direction with the norm of the parameters in each block."""
    parts = []
    for view in map(net.__getitem__, net.keys()):
        part = random.normal(size=view.size)
        parts.append(part * (np.linalg.norm(view) / np.linalg.norm(part)))
    return np.concatenate(parts)


def _towards(net: Model, solution: Model, index: int) -> Array:
    if solution.num_parameters != net.num_parameters or solution.keys() != net.keys():
        raise ShapeError(
            f"along[{index}]: expected a network with the parameters of net ({net.num_parameters}), got "
            f"{solution.num_parameters}."
        )
    difference: Array = solution.params.astype(float) - net.params
    if not difference.any():
        raise ConfigError(f"along[{index}]: expected another solution than net, got the same parameters.")
    return difference


def _place(net: Model, weight: Any, name: str) -> int:
    """The index of a weight in the flat vector of parameters."""
    if not isinstance(weight, (tuple, list)) or len(weight) < 2 or weight[0] not in net:
        raise ConfigError(
            f"{name}: expected a name ({', '.join(net)}) and indices, such as ({next(iter(net))!r}, 0, 0), "
            f"got {weight!r}."
        )
    view, index = net[weight[0]], tuple(weight[1:])
    if len(index) != view.ndim or not all(
        isinstance(i, (int, np.integer)) and 0 <= i < size for i, size in zip(index, view.shape, strict=True)
    ):
        raise ConfigError(f"{name}: expected an index into {weight[0]} of shape {view.shape}, got {index}.")
    names = net.keys()
    before = sum(net[earlier].size for earlier in names[: names.index(weight[0])])
    return before + int(np.ravel_multi_index(index, view.shape))


# ---- shared helpers


def _twin(net: Model, readout: str = "last", both: bool = False) -> Model:
    """A copy of the network in float64, without dropout and noise."""
    check_network(net)
    if not both:
        net.description.check_forward("net: expected", "Use a network with one direction.")
    changes = {"dtype": "float64", "readout": readout} | dict.fromkeys(RANDOM, 0.0)
    return type(net).rebuilt(net.config() | changes, net.state_dict(), {}, net.columns)


def _one_series(x: Any) -> Any:
    shape = data.numbers(x, "x").shape
    if len(shape) != 2:
        raise ShapeError(f"x: expected one series (T, I), got {shape}.  For a sequence of a batch: x[0].")
    return x


def _parts(net: Model, x: Any, x0: Any, lengths: Any) -> tuple[Sequence[Array], Array]:
    """The sequences (T_i, I), not scaled, and their initial states (n, state size)."""
    columns = replace(net.columns, scaling=None)
    sequences = data.sequences(x, net.input_size, np.float64, lengths, columns=columns)
    if sequences.form == "windows":
        raise ConfigError("x: expected sequences, got windows.  Pass them as an array (n, T, I).")
    parts = [sequences.values[o : o + n] for o, n in zip(sequences.offset, sequences.length, strict=True)]
    start = data.states(x0, len(parts), net.state_size, np.float64)
    if start is None:
        trained = [net[name] for name in net if name.startswith("initial_")]
        state = np.concatenate(trained).astype(float) if trained else np.zeros(net.state_size)
        start = np.tile(state, (len(parts), 1))
    return parts, start


def _states(twin: Model, parts: Sequence[Array], start: Array) -> list[Array]:
    """All states of each sequence, (T_i + 1, state size), computed step by step."""
    runs = [np.empty((len(part) + 1, twin.state_size)) for part in parts]
    for run, state in zip(runs, start, strict=True):
        run[0] = state
    for t in range(max(map(len, parts))):
        active = [i for i, part in enumerate(parts) if len(part) > t]
        inputs = np.stack([parts[i][t : t + 1] for i in active])
        before = np.stack([runs[i][t] for i in active])
        _, after = predict(twin, inputs, x0=before, return_state=True)
        for i, state in zip(active, after, strict=True):
            runs[i][t + 1] = state
    return runs


def _last_targets(net: Model, y: Any, parts: Sequence[Array], x: Any) -> list[Any]:
    """The last target of each sequence."""
    x, y = data.unboxed(x), data.unboxed(y)
    many = data.is_list(x) or getattr(x, "ndim", np.ndim(x)) == 3
    if net.readout == "last":
        rows = data.numbers(y, "y")
        return list(rows if many else rows[None])
    if not many:
        return [data.numbers(y, "y")[-1]]
    return [np.asarray(row)[len(part) - 1] for row, part in zip(y, parts, strict=True)]


@suggesting
def check_loss(
    loss: Callable[..., Any] | Loss, outputs: Any, targets: Any, weights: Any = None, *, step: float = 1e-6
) -> float:
    """Compare the gradient of a loss that is a function with central differences, in float64.

    Parameters
    ----------
    loss : callable
        As for ``Network.fit``.
    outputs : array (rows, O)
        Outputs such as those of a first batch, for example ``net.predict(x)``; few rows are enough, as the
        loss is computed twice for each number.
    targets : array (rows, D), or (rows,) of classes
        What the function gets.
    weights : array (rows,), optional
        Default ones.
    step : float, default 1e-6
        Of the differences, relative to an output, or absolute if that is below 1.

    Returns
    -------
    error : float
        The largest difference between the two, relative to the largest entry of the gradient.

    Raises
    ------
    ConfigError
        If the error exceeds 1e-4; the message names the entry.
    ShapeError
        If the function returns a gradient of another shape.

    Examples
    --------
    >>> import numpy as np, bptt_fast as bf
    >>> def squares(outputs, targets, weights):
    ...     return np.sum((outputs - targets) ** 2), 2 * (outputs - targets)
    >>> bf.diagnostics.check_loss(squares, np.ones((3, 2)), np.zeros((3, 2))) < 1e-8
    True
    """
    chosen = losses.get(loss)
    if chosen.function is None:
        raise ConfigError(f"check_loss: expected a function, got {chosen}.")
    p, y = np.array(data.numbers(outputs, "outputs"), float, ndmin=2), data.numbers(targets, "targets")
    w = np.ones(len(p)) if weights is None else np.array(data.numbers(weights, "weights"), float)
    _, gradient = own_loss.call(chosen, p.copy(), y.copy(), w.copy())
    worst, where = 0.0, (0, 0)
    for i in np.ndindex(p.shape):
        size, values = step * max(1.0, float(abs(p[i]))), []
        for sign in (1, -1):
            moved = p.copy()
            moved[i] += sign * size
            values.append(own_loss.call(chosen, moved, y.copy(), w.copy())[0])
        error = abs((values[0] - values[1]) / (2 * size) - gradient[i])
        if not error <= worst:
            worst, where = float(error), i
    worst /= max(float(abs(gradient).max()), np.finfo(float).tiny)
    if not worst <= 1e-4:
        raise ConfigError(
            f"loss: expected the gradient of {chosen.name} to agree with finite differences, got "
            f"{gradient[where]:g} at row {where[0]}, output {where[1]}, off by {worst:.1e} of "
            f"the largest entry."
        )
    return worst
