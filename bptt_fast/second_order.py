"""Optimisers of second order: L-BFGS, Levenberg-Marquardt and Hessian-free, with full-batch iterations.

All computation is in float64, regardless of the dtype of the network, because differences of losses decide.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np

from . import _core, data, losses, own_loss  # type: ignore[attr-defined]
from .errors import (
    ABOVE_ONE,
    COUNT,
    NONNEGATIVE,
    POSITIVE,
    PROPORTION,
    ConfigError,
    argument,
    check_fields,
    flag,
    integer,
    number,
    suggesting,
)
from .interrupts import in_parts
from .plans import PlanSize, core_data, make_plan, with_groups
from .rules import Piece
from .runners import Record, Runner, check_weights

if TYPE_CHECKING:
    from .data import Array, Sequences
    from .losses import Loss
    from .model import Model
    from .runners import Job, Poll
    from .unfolding import Unfolding

BATCH = 256  # sequences per batch if the method does not need a single batch
ROWS = 32  # rows of the Jacobian at once, so that their tapes fit into the cache
VECTOR = 16  # reals: what the core's widths are multiples of
MAX_PARAMETERS = 5000  # so that J'J fits into memory
SMALLEST = 1e-20  # lower bound of the damping
DECREASE, FLATNESS = 1e-3, 0.9  # c1 and c2 of the strong Wolfe conditions


_Step = Callable[[float], "Array | None"]  # of a damping


def _either(**properties: Any) -> str:
    """The losses with these properties, for a message."""
    return " or ".join(f'"{name}"' for name in losses.named(**properties))


@dataclass(frozen=True)
class SecondOrder:
    """Base class of the optimisers of second order, which need a deterministic loss."""

    name: ClassVar[str]
    full_batch: ClassVar[bool] = True  # an update needs all sequences at once
    schedule: ClassVar[None] = None

    def __post_init__(self) -> None:
        check_fields(self)

    def hyper(self, noise_seed: int = 0) -> dict[str, Any]:
        """No hyperparameters: the core's optimisers are not used."""
        return {}

    def check_hyper(self, hyper: Mapping[str, Any]) -> None:
        """Nothing to check."""

    def rates(self, epochs: int, updates: int) -> None:
        """No learning rates: a line search or the damping sets the length of a step."""

    def check(self, net: Model, loss: Loss, unfold: Unfolding, stateful: Any, teacher_forcing: Any) -> None:
        """Raise unless the loss is a smooth function of the parameters alone."""
        name = type(self).__name__
        if not unfold.plain:
            raise ConfigError(
                f"bptt: {name} needs the exact gradient of all sequences and expects FullBPTT(), got "
                f"{unfold!r}.  Use SGD() or Adam()."
            )
        self.check_loss(net, loss)
        net.description.check_plain(f"optimizer: {name} expects", "Use SGD() or Adam().")
        if flag(stateful, "stateful"):
            raise ConfigError(
                f"stateful: expected False with {name}, whose steps need the same loss each time, got True.  "
                f"Use SGD() or Adam()."
            )
        if number(teacher_forcing, "teacher_forcing", 0, 1) < 1:
            raise ConfigError(
                f"teacher_forcing: expected 1 with {name}, whose steps need the same loss each time, got "
                f"{teacher_forcing:g}.  Use SGD() or Adam()."
            )
        for block, rule in net.rules.items():
            if rule.group is not None:
                raise ConfigError(
                    f"rules[{block!r}]: expected no group with {name}, whose steps need a loss that is "
                    f"smooth in each orthant, got {rule}.  Use l1, or SGD() or Adam()."
                )

    def check_loss(self, net: Model, loss: Loss) -> None:
        """Raise unless the method can minimise this loss."""

    def runner(self, job: Job) -> Runner:
        """The runner of the iterations of a fit."""
        raise NotImplementedError


@suggesting
@dataclass(frozen=True)
class LBFGS(SecondOrder):
    """Limited-memory BFGS on the loss of all sequences.

    An iteration moves along -B g, with g the gradient and B the inverse of the curvature that the last
    `memory` steps s and changes of the gradient y imply: B <- (I - s y'/y's) B (I - y s'/y's) + s s'/y's.  A
    line search sets the length of the step by the strong Wolfe conditions, with c1 = 1e-3 and c2 = 0.9.

    Parameters
    ----------
    memory : int, default 10
        Number of stored pairs s, y.
    max_evaluations : int, default 20
        Maximum number of evaluations of loss and gradient per line search.
    gradient_tolerance : float, default 1e-10
        Above 0.  Training has converged if no entry of g is larger.

    Raises
    ------
    ConfigError
        If a value is out of range.  In `Network.fit`: with a `batch_size` below the number of sequences,
        since differences of gradients need a deterministic loss; with another unfolding than `FullBPTT`,
        with dropout, or with a group lasso in ``net.rules``.

    Notes
    -----
    An epoch of `Network.fit` is an iteration; the arithmetic is in float64 for any dtype of the network.
    ``history.stopped`` is "converged" if no further step lowers the loss.  Each fit resets the memory, and so
    does a callback that changes the parameters.

    D. C. Liu and J. Nocedal, "On the limited memory BFGS method for large scale optimization", Mathematical
    Programming 45 (1989).

    Examples
    --------
    >>> import numpy as np, bptt_fast as bf
    >>> x = np.sin(np.arange(200) / 5).reshape(20, 10, 1)
    >>> net = bf.Network(1, 4, 1, seed=0)
    >>> history = net.fit(x[:, :-1], x[:, -1], optimizer=bf.LBFGS(), epochs=30, verbose=0)
    >>> history["loss"][-1] < 0.1 * history["loss"][0]
    True
    """

    name = "lbfgs"

    memory: int = field(default=10, metadata={"check": partial(integer, low=1, high=1000)})
    max_evaluations: int = field(default=20, kw_only=True, metadata={"check": partial(integer, low=2)})
    gradient_tolerance: float = field(default=1e-10, kw_only=True, metadata=POSITIVE)

    def runner(self, job: Job) -> Runner:
        return _LimitedMemory(self, job)


class _Damped(SecondOrder):
    """Base class of the damped methods."""

    damping: float
    max_damping: float

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.max_damping < self.damping:
            raise ConfigError(
                f"{argument(self, 'max_damping')}: expected at least damping={self.damping:g}, got "
                f"{self.max_damping:g}."
            )


@suggesting
@dataclass(frozen=True)
class LevenbergMarquardt(_Damped):
    """Levenberg-Marquardt: least squares for small networks, with the exact Jacobian through time.

    With a residual r = sqrt(weight) (y - target) for each output of each target row and J = dr/dw, an
    iteration solves (J'J + damping I) d = J'r by Cholesky.  If w - d lowers the loss, it becomes the new w
    and damping <- damping / decrease; else damping <- damping * increase, and J is reused.

    Parameters
    ----------
    damping : float, default 3
        Initial damping, above 0.  Large values yield short gradient steps, small values Gauss-Newton steps.
    increase, decrease : float, default 3 and 5
        Factors, above 1.  Marquardt used 10 and 10; finer steps took half as many iterations in our
        benchmarks.
    max_damping : float, default 1e10
        Largest damping; training has converged if no step up to it lowers the loss.

    Raises
    ------
    ConfigError
        If a value is out of range.  In `Network.fit`: with a loss other than "mse", which is no sum of
        squares, with more than 5000 parameters, and in the cases of `LBFGS`.

    Notes
    -----
    An epoch of `Network.fit` is an iteration over all sequences, for any number of dampings tried; the
    arithmetic is in float64 for any dtype of the network.  J'J and J'r are summed a few rows of J at a time;
    if there are fewer residuals than parameters, J is stored, and d = J'(J J' + damping I)^-1 r.  An
    iteration takes P^2 numbers of memory and, with N residuals over T steps, on the order of N T P + N P^2 +
    P^3 operations (fewer for long sequences with readout "every": one-layer "elman", "gru" and "lstm" then
    use forward-mode tangents).  The method suits some hundred parameters.  ``history.stopped`` is "converged"
    if no step lowers the loss any more.

    K. Levenberg, "A method for the solution of certain non-linear problems in least squares", Quarterly of
    Applied Mathematics 2 (1944); D. W. Marquardt, "An algorithm for least-squares estimation of nonlinear
    parameters", Journal of the Society for Industrial and Applied Mathematics 11 (1963).

    Examples
    --------
    >>> import numpy as np, bptt_fast as bf
    >>> x = np.sin(np.arange(200) / 5).reshape(20, 10, 1)
    >>> net = bf.Network(1, 4, 1, seed=0)
    >>> history = net.fit(x[:, :-1], x[:, -1], optimizer=bf.LevenbergMarquardt(), epochs=20, verbose=0)
    >>> history["loss"][-1] < 1e-4
    True
    """

    name = "levenberg_marquardt"

    damping: float = field(default=3.0, metadata=POSITIVE)
    increase: float = field(default=3.0, kw_only=True, metadata=ABOVE_ONE)
    decrease: float = field(default=5.0, kw_only=True, metadata=ABOVE_ONE)
    max_damping: float = field(default=1e10, kw_only=True, metadata=POSITIVE)

    def check_loss(self, net: Model, loss: Loss) -> None:
        if not loss.least_squares:
            raise ConfigError(
                f"loss: LevenbergMarquardt needs a sum of squares and expects {_either(least_squares=True)}, "
                f'got "{loss.name}".  Use {"HessianFree() or LBFGS()" if loss.curved else "LBFGS()"}.'
            )
        if net.num_parameters > MAX_PARAMETERS:
            raise ConfigError(
                f"optimizer: LevenbergMarquardt solves for all parameters at once and expects at most "
                f"{MAX_PARAMETERS}, got {net.num_parameters}.  Use HessianFree() or LBFGS()."
            )

    def runner(self, job: Job) -> Runner:
        return _Marquardt(self, job)


@suggesting
@dataclass(frozen=True)
class HessianFree(_Damped):
    """Hessian-free optimisation: Gauss-Newton steps by conjugate gradients, for networks of any size.

    An iteration minimises q(d) = g'd + d'(G + damping I + damping structural_damping S) d / 2
    by conjugate gradients, with g the gradient, G = J' H J the Gauss-Newton matrix (J: outputs by parameters,
    H: loss by outputs) and S = J_h' J_h that of the states of the top layer, all of them means over their
    rows.  Neither matrix is formed: a product costs two forward passes, for the outputs along d, and one
    gradient.  The step is the iterate with the lowest loss.  With rho = (loss(w + d) - loss(w)) / q(d),
    damping is multiplied by 3/2 if rho < 1/4 and by 2/3 if rho > 3/4.

    Parameters
    ----------
    damping : float, default 0.01
        Initial damping, above 0.
    structural_damping : float, default 0
        At least 0; penalises large changes of the states.
    max_products : int, default 100
        Maximum number of conjugate gradient steps per iteration.
    tolerance : float, default 5e-4
        Above 0; conjugate gradients end if q decreases by less than this share per step, averaged over ten.
    warm_start : float, default 0.95
        In [0, 1].  Conjugate gradients start from this share of the last step.
    max_damping : float, default 1e10
        Largest damping; training has converged if no step up to it lowers the loss.

    Raises
    ------
    ConfigError
        If a value is out of range.  In `Network.fit`: with "mae" and "huber", which have no curvature in
        part of their range, and in the cases of `LBFGS`.

    Notes
    -----
    An epoch of `Network.fit` is an iteration over all sequences; the arithmetic is in float64 for any dtype
    of the network, which the differences along d need.  ``history.stopped`` is "converged" if no further step
    lowers the loss.

    J. Martens and I. Sutskever, "Learning recurrent neural networks with Hessian-free optimization", ICML
    2011.

    Examples
    --------
    >>> import numpy as np, bptt_fast as bf
    >>> x = np.sin(np.arange(200) / 5).reshape(20, 10, 1)
    >>> net = bf.Network(1, 4, 1, seed=0)
    >>> history = net.fit(x[:, :-1], x[:, -1], optimizer=bf.HessianFree(), epochs=20, verbose=0)
    >>> history["loss"][-1] < 0.01 * history["loss"][0]
    True
    """

    name = "hessian_free"

    damping: float = field(default=0.01, metadata=POSITIVE)
    structural_damping: float = field(default=0.0, kw_only=True, metadata=NONNEGATIVE)
    max_products: int = field(default=100, kw_only=True, metadata=COUNT)
    tolerance: float = field(default=5e-4, kw_only=True, metadata=POSITIVE)
    warm_start: float = field(default=0.95, kw_only=True, metadata=PROPORTION)
    max_damping: float = field(default=1e10, kw_only=True, metadata=POSITIVE)

    def check_loss(self, net: Model, loss: Loss) -> None:
        if not loss.curved:
            raise ConfigError(
                f"loss: HessianFree needs curvature everywhere and expects {_either(curved=True)}, got "
                f'"{loss.name}".  Use LBFGS().'
            )

    def runner(self, job: Job) -> Runner:
        return _HessianFree(self, job)


class _Interrupted(Exception):
    """Raised if the poll stops the run."""


class Problem:
    """The loss of a network on the first `n` sequences, as a function of float64 parameters."""

    def __init__(self, job: Job, n: int) -> None:
        net, train = job.net, job.train
        self.net, self.chosen_loss, self.every, self.n = net, job.loss, job.every, n
        self.desc = net.desc() | {"dtype": "float64"}
        self.sequences, self.steps = _double(train), int(train.length[:n].max())
        self.data, self.order = core_data(self.sequences), data.counting(n)
        self.machine = (job.threads, job.isa)
        self.weights = net.params.astype(np.float64)
        self.constraints = net.constraints

    def plan(self, batch: int, residuals: int = 0) -> Any:
        """A plan for the network and the sequences."""
        return self.plan_of(self.desc, self.chosen_loss, self.every, batch, residuals=residuals)

    def plan_of(self, desc: dict[str, Any], loss: Loss | str, every: bool, batch: int, **more: int) -> Any:
        """A plan for another network on the sequences."""
        size = PlanSize(loss, every, batch, self.steps, *self.machine)
        return make_plan(desc, size, with_groups(self.sequences.length[: self.n], desc, size, more))

    @cached_property
    def forward(self) -> Any:
        """A plan for losses without gradients."""
        return self.plan(min(BATCH, self.n))

    def begin(self) -> Array:
        """The parameters of the last step, or of the network if it was changed since."""
        if not np.array_equal(self.weights.astype(self.net.dtype), self.net.params):
            self.weights = self.net.params.astype(np.float64)
        return self.weights

    def finish(self, weights: Array) -> None:
        """Store the parameters of a step in the network; fixed ones keep their bits."""
        if self.constraints is not None:
            weights = np.where(self.constraints.fixed, self.weights, weights)
        self.weights = weights
        self.net.params[:] = weights

    def fits(self, weights: Array) -> bool:
        """Whether these parameters are finite in the dtype of the network."""
        with np.errstate(over="ignore"):
            return data.finite(weights.astype(self.net.dtype))

    def loss(self, weights: Array) -> float:
        """The loss with penalties at these parameters; infinite instead of NaN."""
        if not self.fits(weights):
            return math.inf
        value = self.loss_of_data(weights) + self.penalty(weights)
        return value if math.isfinite(value) else math.inf

    def loss_of_data(self, weights: Array) -> float:
        """The loss without penalties."""
        if self.chosen_loss.function is not None:
            own = self.chosen_loss, self.forward, weights, self.sequences, self.order, self.every
            return own_loss.evaluate(*own)
        return float(self.forward.evaluate(weights, self.data, self.order)[1])

    def penalty(self, weights: Array) -> float:
        """The penalties of the rules at these parameters."""
        return 0.0 if self.constraints is None else self.constraints.penalty(weights)

    @cached_property
    def residuals(self) -> float:
        """The sum of squares of the residuals is this number times the loss without penalties."""
        s, n = self.sequences, self.n
        assert s.targets is not None
        used = data.covered(len(s.targets), s.target_offset[:n], s.length[:n] if self.every else 1)
        return s.targets.shape[1] * float(used.sum() if s.weight is None else s.weight[used].sum())


def _double(sequences: Sequences) -> Sequences:
    """The sequences in float64."""
    s = sequences
    doubled = data.Sequences(data.cast(s.values, np.float64), s.offset, s.length, s.form, s.steps)
    doubled.target_offset, doubled.classes = s.target_offset, s.classes
    doubled.targets, doubled.weight, doubled.state = _cast(s.targets), _cast(s.weight), _cast(s.state)
    return doubled


def _cast(array: Array | None) -> Array | None:
    return None if array is None else data.cast(array, np.float64)


class _Iterations(Runner):
    """Base of the runners; an epoch is one call of `iterate`, and `loss` the loss after it."""

    kept: ClassVar[tuple[str, ...]] = ("weights",)
    updates, unit = 1, "iteration"
    loss = math.nan
    at: Array | None = None  # the weights that `loss` belongs to

    def __init__(self, options: Any, job: Job) -> None:
        super().__init__(job)
        name = type(options).__name__
        if job.train.form == "windows":
            raise ConfigError(
                f"x: expected sequences, a series or a list with {name}, got windows.  Use an array."
            )
        n, self.validate = job.split_sequences()
        check_weights(job.train, data.counting(n), job.every, "training")
        if job.batch_size is not None and job.batch_size < n:
            raise ConfigError(
                f"batch_size: expected None, or at least all {n} sequences, with {name}, whose steps need "
                f"the loss of all of them, got {job.batch_size}.  Use Adam() for minibatches."
            )
        self.options, self.problem = options, Problem(job, n)
        self.steps, self.record = int(job.train.length[:n].sum()), Record(1, weighted=False)

    @property
    def weights(self) -> Array:
        """The parameters in float64."""
        return self.problem.weights

    @weights.setter
    def weights(self, value: Array) -> None:
        self.problem.weights = value

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict(state)
        self.at = self.weights

    def iterate(self, poll: Poll) -> str:
        """Run one iteration; its status."""
        raise NotImplementedError

    def epoch(self, number: int, poll: Poll) -> tuple[str, int]:
        try:
            status = self.iterate(poll)
        except _Interrupted:
            status = "INTERRUPTED"
        self.record.losses[0] = self.loss - self.problem.penalty(self.weights)
        return status, int(status == "OK")

    def finish(self, weights: Array, loss: float) -> None:
        """End an iteration with these parameters."""
        self.problem.finish(weights)
        self.at, self.loss = self.weights, loss


class _Marquardt(_Iterations):
    """The runner of `LevenbergMarquardt`."""

    kept = (*_Iterations.kept, "loss", "damping")

    def __init__(self, options: LevenbergMarquardt, job: Job) -> None:
        super().__init__(options, job)
        self.damping, problem = options.damping, self.problem
        size = problem.net.num_parameters
        self.plan = problem.plan(min(BATCH, problem.n), ROWS)
        self.rows = self._few_rows(size)
        self.product = None if self.rows is not None else np.empty((size + 1, size + 1))

    def _few_rows(self, size: int) -> Array | None:
        """An array for [J r] if it has fewer rows than columns; rows without a residual stay zero."""
        targets, rules = self.problem.sequences.targets, self.problem.constraints
        assert targets is not None
        if rules is not None and rules.penalised:
            return None
        return np.zeros((*targets.shape, size + 1)) if targets.size < size else None

    def iterate(self, poll: Poll) -> str:
        p = self.problem
        weights = p.begin()
        if weights is not self.at:
            self.at, self.loss = weights, p.loss(weights)
        status: str = self.plan.gauss_newton(weights, p.data, p.order, self.product, self.rows, poll)
        if status != "OK" or not math.isfinite(self.loss):
            return status if status == "INTERRUPTED" else "DIVERGED"
        equations = self._dual if self.rows is not None else self._primal
        step, piece = equations(weights, poll)
        while self.damping <= self.options.max_damping:
            change = step(self.damping)
            there = weights if change is None else _inside(weights - change, piece)
            loss = math.inf if change is None else p.loss(there)
            if loss < self.loss:
                self.finish(there, loss)
                self.damping = max(self.damping / self.options.decrease, SMALLEST)
                return "OK"
            self.damping *= self.options.increase
        return "CONVERGED"

    def _primal(self, weights: Array, poll: Poll) -> tuple[_Step, Piece | None]:
        """The step by damping, from the normal equations of the free parameters."""
        assert self.product is not None
        matrix, slope, rules = self.product[:-1, :-1], self.product[:-1, -1], self.problem.constraints
        if rules is None:
            return partial(self._solve, matrix, slope, poll), None
        half = self.problem.residuals / 2  # half the squared error is so many times the loss
        piece = rules.piece(weights, slope / half + rules.l2 * weights)
        free = np.flatnonzero(piece.free)
        matrix, slope = matrix[np.ix_(free, free)], half * piece.slope[free]
        matrix[np.diag_indices(len(free))] += half * rules.l2[free]

        def step(damping: float) -> Array | None:
            solution = self._solve(matrix, slope, poll, damping) if len(free) else None
            return None if solution is None else _spread(solution, piece.free)

        return step, piece

    def _dual(self, weights: Array, poll: Poll) -> tuple[_Step, Piece | None]:
        """The same from the equations of the residuals."""
        assert self.rows is not None
        rows = self.rows.reshape(-1, self.rows.shape[-1])
        jacobian, residuals, n = rows[:, :-1], rows[:, -1], len(rows)
        piece, rules = None, self.problem.constraints
        if rules is not None:  # without penalties: those need the normal equations
            piece = rules.piece(weights, np.einsum("ij,i->j", jacobian, residuals))
            jacobian = jacobian * piece.free
        columns = np.zeros((jacobian.shape[1], _whole_vectors(n)))  # J' in whole vectors
        columns[:, :n] = jacobian.T
        matrix = np.zeros((columns.shape[1],) * 2)
        if self.plan.gram(columns, matrix, poll) == "INTERRUPTED":
            raise _Interrupted

        def step(damping: float) -> Array | None:
            solution = self._solve(matrix[:n, :n], residuals, poll, damping)
            return None if solution is None else np.einsum("ij,i->j", jacobian, solution)

        return step, piece

    def _solve(self, matrix: Array, right: Array, poll: Poll, damping: float) -> Array | None:
        """(matrix + damping I)^-1 right, from the upper triangle; None: not positive definite.

        In the core, on one thread: the threads of a BLAS library would change the bits, and with two such
        libraries, NumPy's and SciPy's, small systems take several times as long.
        """
        n = len(matrix)
        rows, solution = np.zeros((_whole_vectors(n + 1),) * 2), np.empty(n)
        np.negative(matrix, out=rows[:n, :n])
        np.negative(right, out=rows[:n, n])
        rows[np.diag_indices(n)] -= damping
        status = self.plan.solve(rows, solution, poll)
        if status == "INTERRUPTED":
            raise _Interrupted
        return solution if status == "OK" and np.isfinite(solution).all() else None


def _inside(weights: Array, piece: Piece | None) -> Array:
    """The nearest parameters within the bounds of a piece."""
    return weights if piece is None else np.clip(weights, piece.low, piece.high)


def _spread(values: Array, free: Array) -> Array:
    """Values of the free parameters, and zeros for the others."""
    spread = np.zeros(len(free))
    spread[free] = values
    return spread


def _whole_vectors(width: int) -> int:
    """The next width that is a number of vectors of the core."""
    return -(-width // VECTOR) * VECTOR


def _dot(a: Array, b: Array) -> float:
    """a'b; the order of the sum does not depend on the threads of a BLAS library."""
    return float((a * b).sum())


class _Gradients:
    """Loss and gradient of all sequences as one batch: the loss with penalties, the gradient with l2."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self.plan = problem.plan(problem.n)
        self.own_loss = None
        if problem.chosen_loss.function is not None:
            outputs, n = problem.net.output_size, problem.n
            self.own_loss = own_loss.BatchLoss(
                problem.chosen_loss, problem.sequences, problem.every, outputs, n, n
            )

    def __call__(self, weights: Array, poll: Poll | None = None) -> tuple[float, Array]:
        p, grad = self.problem, np.zeros_like(weights)
        if not p.fits(weights):
            return math.inf, grad
        own = None if self.own_loss is None else self.own_loss.core
        status, loss = self.plan.loss_and_grad(weights, p.data, p.order, grad, poll=poll, own_loss=own)
        if status == "INTERRUPTED":
            raise _Interrupted
        if status != "OK":
            return math.inf, np.zeros_like(weights)
        if p.constraints is not None:
            grad = np.where(p.constraints.fixed, 0.0, grad + p.constraints.l2 * weights)
            loss += p.penalty(weights)
        return loss, grad


class _Point(NamedTuple):
    """A step along a direction, with the loss there, its slope along the direction, and its gradient."""

    step: float
    loss: float
    slope: float
    grad: Array


class _LimitedMemory(_Iterations):
    """The runner of `LBFGS`."""

    kept = (*_Iterations.kept, "loss", "grad", "pairs")

    def __init__(self, options: LBFGS, job: Job) -> None:
        super().__init__(options, job)
        self.gradients, self.grad = _Gradients(self.problem), np.zeros_like(self.weights)
        self.pairs: list[tuple[Array, Array]] = []  # s and y, the oldest first

    def iterate(self, poll: Poll) -> str:
        weights = self.problem.begin()
        if weights is not self.at:
            loss, grad = self.gradients(weights, poll)
            if not math.isfinite(loss):
                return "DIVERGED"
            self.at, self.loss, self.grad, self.pairs = weights, loss, grad, []
        rules = self.problem.constraints
        while True:
            piece = None if rules is None else rules.piece(weights, self.grad)
            slope = self.grad if piece is None else piece.slope
            if not abs(slope).max() > self.options.gradient_tolerance:
                break
            direction = self._direction(slope, piece)
            if piece is None or rules is None or rules.smooth:
                found = self._search(weights, direction, poll)
            else:
                found = self._search_inside(weights, direction, piece, poll)
            if found is not None:
                there = _inside(weights + found.step * direction, piece)
                change = found.step * direction if piece is None else there - weights
                slopes = found.grad - self.grad
                if _dot(change, slopes) > np.finfo(float).eps * abs(_dot(change, self.grad)):
                    self.pairs = [*self.pairs, (change, slopes)][-self.options.memory :]
                self.finish(there, found.loss)
                self.grad = found.grad
                return "OK"
            if not self.pairs:
                break
            self.pairs = []
        return "CONVERGED"

    def _direction(self, slope: Array, piece: Piece | None) -> Array:
        """-B g, by the two loops over the pairs; in a piece those of its free parameters."""
        pairs = self.pairs
        if piece is not None:
            pairs = [(s * piece.free, y * piece.free) for s, y in pairs]
            pairs = [(s, y) for s, y in pairs if _dot(s, y) > np.finfo(float).eps * _dot(abs(s), abs(y))]
        d, shares = -slope, []
        for s, y in reversed(pairs):
            shares.append(_dot(s, d) / _dot(s, y))
            d = d - shares[-1] * y
        if pairs:
            s, y = pairs[-1]
            d = _dot(s, y) / _dot(y, y) * d
        for (s, y), share in zip(pairs, reversed(shares), strict=True):
            d = d + (share - _dot(y, d) / _dot(s, y)) * s
        return d

    def _search_inside(self, weights: Array, direction: Array, piece: Piece, poll: Poll) -> _Point | None:
        """A point along the direction, projected on the bounds of the piece, with a sufficient decrease."""
        step = 1.0 if self.pairs else min(1.0, 1 / math.sqrt(_dot(direction, direction)))
        for _ in range(self.options.max_evaluations):
            there = _inside(weights + step * direction, piece)
            loss, grad = self.gradients(there, poll)
            slope = _dot(piece.slope, there - weights)
            if loss <= self.loss + DECREASE * slope and loss < self.loss:
                return _Point(step, loss, slope, grad)
            step /= 4
        return None

    def _search(self, weights: Array, direction: Array, poll: Poll) -> _Point | None:
        """A point along the direction that satisfies the strong Wolfe conditions.

        After `max_evaluations` the best point with a sufficient decrease; None if there is none.
        """
        start = low = _Point(0.0, self.loss, _dot(self.grad, direction), self.grad)
        high: _Point | None = None  # between low and high lies a point that satisfies the conditions
        step = 1.0 if self.pairs else min(1.0, 1 / math.sqrt(_dot(direction, direction)))
        for _ in range(self.options.max_evaluations):
            loss, grad = self.gradients(weights + step * direction, poll)
            with np.errstate(over="ignore", invalid="ignore"):
                here = _Point(step, loss, _dot(grad, direction), grad)
            if loss > start.loss + DECREASE * step * start.slope or loss >= low.loss:
                high = here
            elif abs(here.slope) <= -FLATNESS * start.slope:
                return here
            else:
                if here.slope * ((math.inf if high is None else high.step) - low.step) >= 0:
                    high = low
                low = here
            step = 4 * step if high is None else _between(low, high)
            if step == low.step:
                break
        return low if low.step else None


def _between(low: _Point, high: _Point) -> float:
    """The minimum of the cubic through both points, away from the ends of the interval."""
    width, share = high.step - low.step, 0.0
    a = low.slope + high.slope - 3 * (high.loss - low.loss) / width
    square = a * a - low.slope * high.slope
    if math.isfinite(square):
        root = math.copysign(math.sqrt(max(square, 0.0)), width)
        if high.slope - low.slope + 2 * root:
            share = 1 - (high.slope + root - a) / (high.slope - low.slope + 2 * root)
    return low.step + min(max(share, 0.1), 0.9) * width


class _Curvature:
    """Products G v = J' H J v over all sequences, with H the second derivative of the loss by the outputs.

    J v is a central difference of the outputs along v; J' u is the gradient of a squared error with targets
    y - u for outputs y.  Both use the ordinary kernels.
    """

    def __init__(self, problem: Problem, desc: dict[str, Any] | None = None) -> None:
        """Prepare products; `desc` is another network, with the squared outputs of every step as its loss."""
        p, s = problem, problem.sequences
        hidden = desc is not None
        self.loss = None if hidden else p.chosen_loss
        self.desc = p.desc if desc is None else desc
        every, offset = hidden or p.every, s.offset if hidden else s.target_offset
        rows = int((offset[: p.n] + (s.length[: p.n] if every else 1)).max())
        self.outputs = [np.zeros((rows, self.desc["output_size"])) for _ in range(3)]
        self.targets = np.zeros_like(self.outputs[0])
        weight = None if hidden else s.weight
        self.data = _core.Data(
            s.values, s.offset, s.length, offset, targets=self.targets, weight=weight, state=s.state
        )
        self.order, self.every = p.order, every
        self.plan = p.plan_of(self.desc, "mse", every, p.n)

    def begin(self, weights: Array) -> None:
        """Set the parameters at which products are taken."""
        self.weights = weights
        self.reach = 1e-5 * max(1.0, math.sqrt(_dot(weights, weights)))
        self._run(weights, self.outputs[0])

    def _run(self, weights: Array, y: Array) -> None:
        self.plan.predict(weights, self.data, self.order, y, self.every)

    def times(self, v: Array, poll: Poll) -> Array:
        """G v."""
        grad, size = np.zeros_like(v), math.sqrt(_dot(v, v))
        if size == 0:
            return grad
        y, above, below = self.outputs
        self._run(self.weights + self.reach / size * v, above)
        self._run(self.weights - self.reach / size * v, below)
        dy = (above - below) / (2 * self.reach)
        if self.loss is not None:
            of_loss = self.loss.name, tuple(self.loss.parameters.values())
            for part in in_parts(y.shape[:1], 10 * y.shape[1]):
                dy[part] = _core.curvature(*of_loss, y[part], dy[part])
        self.targets[:] = y - dy
        status = self.plan.loss_and_grad(self.weights, self.data, self.order, grad, poll=poll)[0]
        if status == "INTERRUPTED":
            raise _Interrupted
        return grad * size


class _States:
    """Products J' J v of the states of the top layer after every step, for structural damping."""

    def __init__(self, problem: Problem) -> None:
        desc = problem.desc
        width = (desc["proj_size"] or desc["hidden_size"]) * (1 + desc["bidirectional"])
        self.recurrent = next(at for name, _, _, at in _core.blocks(desc) if name == "head.0.weight")
        self.identity = np.concatenate([np.eye(width).ravel(), np.zeros(width)])
        self.size = problem.net.num_parameters
        self.curvature = _Curvature(problem, desc | {"head": (), "skip": False, "output_size": width})

    def begin(self, weights: Array) -> None:
        """Set the parameters at which products are taken."""
        self.curvature.begin(np.concatenate([weights[: self.recurrent], self.identity]))

    def times(self, v: Array, poll: Poll) -> Array:
        """J' J v; the entries of g are zero."""
        wide = np.concatenate([v[: self.recurrent], np.zeros_like(self.identity)])
        product = np.zeros(self.size)
        product[: self.recurrent] = self.curvature.times(wide, poll)[: self.recurrent]
        return product


class _HessianFree(_Iterations):
    """The runner of `HessianFree`: conjugate gradients on the damped Gauss-Newton model."""

    kept = (*_Iterations.kept, "damping", "direction")

    def __init__(self, options: HessianFree, job: Job) -> None:
        super().__init__(options, job)
        self.damping, problem = options.damping, self.problem
        self.gradients, self.curvature = _Gradients(problem), _Curvature(problem)
        self.states = _States(problem) if options.structural_damping else None
        self.direction = np.zeros(problem.net.num_parameters)

    def iterate(self, poll: Poll) -> str:
        p = self.problem
        weights = p.begin()
        current, slope = self.gradients(weights, poll)
        if not math.isfinite(current):
            return "DIVERGED"
        rules = p.constraints
        piece = None if rules is None else rules.piece(weights, slope)
        if piece is not None:
            slope, self.direction = piece.slope, self.direction * piece.free
        self.curvature.begin(weights)
        if self.states is not None:
            self.states.begin(weights)

        def product(v: Array) -> Array:
            result = self.curvature.times(v, poll) + self.damping * v
            if self.states is not None:
                result += self.damping * self.options.structural_damping * self.states.times(v, poll)
            return result if rules is None or piece is None else (result + rules.l2 * v) * piece.free

        while self.damping <= self.options.max_damping:
            iterates, models = self._conjugate(product, slope)
            self.direction = iterates[-1]
            losses = [p.loss(_inside(weights + iterates[-1], piece))]
            for earlier in reversed(iterates[:-1]):  # back to the last iterate before the loss grows
                loss = p.loss(_inside(weights + earlier, piece))
                if loss >= losses[-1] and losses[-1] < current:
                    break
                losses.append(loss)
            best = len(iterates) - 1 - int(np.argmin(losses))
            change, loss = iterates[best], min(losses)
            ratio = (losses[0] - current) / models[-1] if models[-1] < 0 else 0.0
            if ratio < 0.25 or not math.isfinite(ratio):
                self.damping *= 1.5 if loss < current else 4.0
            elif ratio > 0.75:
                self.damping = max(self.damping / 1.5, SMALLEST)
            if loss < current:
                self.finish(_inside(weights + change, piece), loss)
                return "OK"
            self.direction = np.zeros_like(slope)
        return "CONVERGED"

    def _conjugate(self, product: Callable[[Array], Array], slope: Array) -> tuple[list[Array], list[float]]:
        """Some iterates d of conjugate gradients on q(d) = slope'd + d'A d / 2, with the last one, and q."""
        d = self.options.warm_start * self.direction
        residual = -slope - product(d) if d.any() else -slope
        if d.any() and -0.5 * _dot(d, residual - slope) > 0:  # q(d) > 0: worse than d = 0
            d, residual = np.zeros_like(d), -slope
        v, square = residual.copy(), _dot(residual, residual)
        iterates: list[Array] = []
        models: list[float] = []
        values, wanted = [], 1.0
        for i in range(1, self.options.max_products + 1):
            a = product(v)
            curvature = _dot(v, a)
            if not curvature > 0 or square == 0:
                break
            d = d + square / curvature * v
            residual = residual - square / curvature * a
            values.append(-0.5 * _dot(d, residual - slope))
            if i >= wanted:
                iterates.append(d)
                models.append(values[-1])
                wanted = max(wanted * 1.3, i + 1.0)
            before = max(10, i // 10)
            gained = values[-1 - before] - values[-1] if i > before else math.inf
            if gained < -self.options.tolerance * before * values[-1]:
                break
            new = _dot(residual, residual)
            v, square = residual + new / square * v, new
        if not iterates or iterates[-1] is not d:
            iterates.append(d)
            models.append(values[-1] if values else 0.0)
        return iterates, models
