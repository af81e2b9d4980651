"""Second order: iterations over all sequences at once, for L-BFGS, Levenberg-Marquardt and Hessian-free.

Everything here is in float64, whatever the dtype of the network: differences of losses decide.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Iterator
from contextlib import suppress
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from . import _core, data, losses  # type: ignore[attr-defined]
from .network import core_data, make_plan
from .optimizers import LBFGS, HessianFree, LevenbergMarquardt, SecondOrder

if TYPE_CHECKING:
    from .data import Array, Sequences
    from .network import Network

Poll = Callable[[int], bool]
Epochs = Generator[Any, Any, None]  # see training._loop

BATCH = 256  # sequences at once where no single batch is asked for
ROWS = 32  # of the Jacobian at once: their tapes should stay in the cache
MOST_PARAMETERS = 5000  # whose J'J still fits into memory
SMALLEST = 1e-20  # of dampings


class _Leave(Exception):
    """Out of scipy's loop."""


class _Interrupted(Exception):
    """The poll said stop."""


class Problem:
    """The loss of a network on the first `n` sequences, as a function of float64 parameters."""

    def __init__(
        self, net: Network, loss: Any, train: Sequences, n: int, threads: int, isa: str | None
    ) -> None:
        self.net, self.chosen_loss, self.every, self.n = net, losses.get(loss), net.readout == "every", n
        self.desc = net.desc() | {"dtype": "float64"}
        self.sequences, self.steps = _double(train), int(train.length[:n].max())
        self.data, self.order = core_data(self.sequences), data.counting(n)
        self.machine = (threads, isa)
        self.weights = net.params.astype(np.float64)

    def plan(self, batch: int, residuals: int = 0) -> Any:
        """A plan for this network and these sequences."""
        words = (self.desc, self.chosen_loss, self.every, batch, self.steps, *self.machine)
        return make_plan(*words, False, {"residuals": residuals} if residuals else None)

    @cached_property
    def forward(self) -> Any:
        """The plan for losses without gradients."""
        return self.plan(min(BATCH, self.n))

    def begin(self) -> Array:
        """The parameters: those of the last step, unless somebody has changed the network since."""
        if not np.array_equal(self.weights.astype(self.net.dtype), self.net.params):
            self.weights = self.net.params.astype(np.float64)
        return self.weights

    def finish(self, weights: Array) -> None:
        """The step is made."""
        self.weights = weights
        self.net.params[:] = weights

    def loss(self, weights: Array) -> float:
        """The loss at these parameters, infinite where it is not a number."""
        with np.errstate(over="ignore"):
            if not np.isfinite(weights.astype(self.net.dtype)).all():
                return math.inf
        value = self.forward.evaluate(weights, self.data, self.order)[1]
        return value if math.isfinite(value) else math.inf


def _double(sequences: Sequences) -> Sequences:
    """The same sequences in float64."""
    s = sequences
    found = data.Sequences(_cast(s.values), s.offset, s.length, s.form, s.steps)
    found.target_offset, found.classes = s.target_offset, s.classes
    found.targets, found.weight, found.state = _cast(s.targets), _cast(s.weight), _cast(s.state)
    return found


def _cast(array: Array | None) -> Any:
    return None if array is None else array.astype(np.float64)


class _Iterations:
    """Drives the epochs of a fit, each one call of `iterate`; `loss` is that of the epoch just finished."""

    loss = math.nan

    def iterate(self, poll: Poll) -> str:
        """One iteration: "OK", or why there was none."""
        raise NotImplementedError

    def drive(self, epochs: Epochs) -> Iterator[None]:
        """Answer what the loop asks for until it ends, and pause where it does."""
        for _, poll in epochs:
            status = self.iterate(poll)
            with suppress(StopIteration):
                epochs.send((status, int(status == "OK")))
                yield


class _Marquardt(_Iterations):
    """Levenberg-Marquardt; see `optimizers.LevenbergMarquardt`."""

    def __init__(self, options: LevenbergMarquardt, problem: Problem) -> None:
        size = problem.net.num_parameters
        self.options, self.problem, self.damping = options, problem, options.damping
        self.plan = problem.plan(min(BATCH, problem.n), ROWS)
        self.rows = self._few_rows(size)
        self.product = None if self.rows is not None else np.empty((size + 1, size + 1))
        self.at, self.current = problem.weights, math.nan

    def _few_rows(self, size: int) -> Array | None:
        """Room for J itself if it has fewer rows than columns; rows without a residual stay zero."""
        targets = self.problem.sequences.targets
        assert targets is not None
        return np.zeros((*targets.shape, size + 1)) if targets.size < size else None

    def iterate(self, poll: Poll) -> str:
        p = self.problem
        weights = p.begin()
        if weights is not self.at or math.isnan(self.current):
            self.current = p.loss(weights)
        status: str = self.plan.gauss_newton(weights, p.data, p.order, self.product, self.rows, poll)
        if status != "OK" or not math.isfinite(self.current):
            return status if status == "INTERRUPTED" else "DIVERGED"
        step = self._dual() if self.rows is not None else self._primal()
        while self.damping <= self.options.max_damping:
            if poll(0):
                return "INTERRUPTED"
            change = step(self.damping)
            loss = math.inf if change is None else p.loss(weights - change)
            if loss < self.current:
                p.finish(weights - change)
                self.at, self.current, self.loss = p.weights, loss, loss
                self.damping = max(self.damping / self.options.decrease, SMALLEST)
                return "OK"
            self.damping *= self.options.increase
        return "CONVERGED"

    def _primal(self) -> Callable[[float], Array | None]:
        assert self.product is not None
        matrix, slope = self.product[:-1, :-1], self.product[:-1, -1]
        return lambda damping: _solve(matrix, damping, slope)

    def _dual(self) -> Callable[[float], Array | None]:
        assert self.rows is not None
        rows = self.rows.reshape(-1, self.rows.shape[-1])
        jacobian, residuals = rows[:, :-1], rows[:, -1]
        matrix = jacobian @ jacobian.T

        def step(damping: float) -> Array | None:
            found = _solve(matrix, damping, residuals)
            return None if found is None else jacobian.T @ found

        return step


def _solve(matrix: Array, damping: float, right: Array) -> Array | None:
    """(matrix + damping I)^-1 right by Cholesky, from the upper triangle; None: not positive definite."""
    from scipy.linalg.lapack import dposv

    damped = matrix.copy()
    np.fill_diagonal(damped, matrix.diagonal() + damping)
    found: Array
    # Fortran's order: the transposed view, whose lower triangle this is
    _, found, info = dposv(damped.T, right, lower=True, overwrite_a=True)
    return found if info == 0 and np.isfinite(found).all() else None


class _Gradients:
    """Loss and gradient of all sequences as one batch."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self.plan = problem.plan(problem.n)

    def __call__(self, weights: Array, poll: Poll | None = None) -> tuple[float, Array]:
        p, grad = self.problem, np.zeros_like(weights)
        status, loss = self.plan.loss_and_grad(weights, p.data, p.order, grad, poll=poll)
        if status == "INTERRUPTED":
            raise _Interrupted
        if status != "OK":
            return math.inf, np.zeros_like(weights)
        return loss, grad


class _LimitedMemory:
    """scipy's L-BFGS, whose callback answers what the loop of the fit asks for; see `optimizers.LBFGS`."""

    def __init__(self, options: LBFGS, problem: Problem) -> None:
        self.options, self.problem, self.loss = options, problem, math.nan
        self.gradients = _Gradients(problem)

    def drive(self, epochs: Epochs) -> Iterator[None]:
        """Run scipy's loop, which cannot pause, until it or the fit's ends."""
        self._run(epochs)
        yield from ()

    def _run(self, epochs: Epochs) -> None:
        from scipy.optimize import minimize

        problem, options = self.problem, self.options
        try:
            _, poll = next(epochs)
        except StopIteration:
            return
        seen: dict[bytes, float] = {}

        def function(weights: Array) -> tuple[float, Array]:
            loss, grad = self.gradients(weights, poll)
            seen[weights.tobytes()] = loss
            return loss, grad

        def finished(weights: Array) -> None:
            nonlocal poll
            key = weights.tobytes()
            self.loss = seen[key] if key in seen else self.gradients(weights)[0]
            seen.clear()
            problem.finish(weights.copy())
            try:
                epochs.send(("OK", 1))
                _, poll = next(epochs)
            except StopIteration:
                raise _Leave from None

        status = "CONVERGED"
        try:
            if not math.isfinite(self.gradients(problem.weights, poll)[0]):
                status = "DIVERGED"
            else:
                minimize(
                    function,
                    problem.weights,
                    jac=True,
                    method="L-BFGS-B",
                    callback=finished,
                    options={
                        "maxcor": options.memory,
                        "maxls": options.max_evaluations,
                        "gtol": options.gradient_tolerance,
                        "ftol": 0.0,
                        "maxiter": 2**31 - 1,
                        "maxfun": 2**31 - 1,
                    },
                )
        except _Leave:
            return
        except _Interrupted:
            status = "INTERRUPTED"
        with suppress(StopIteration):
            epochs.send((status, 0))


class _Curvature:
    """Products G v = J' H J v of all sequences, H the second derivative of the loss by the outputs.

    J v is a central difference of the outputs along v, J' u the gradient of a squared error whose targets lie
    u beside the outputs: both are runs of the ordinary kernels.
    """

    def __init__(self, problem: Problem, desc: dict[str, Any] | None = None) -> None:
        """`desc`: another network, with the square of its outputs after every step for a loss."""
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
        self.plan = make_plan(self.desc, "mse", every, p.n, p.steps, *p.machine, False)

    def begin(self, weights: Array) -> None:
        """The point at which products are taken."""
        self.weights = weights
        self.reach = 1e-5 * max(1.0, float(np.linalg.norm(weights)))
        self._run(weights, self.outputs[0])

    def _run(self, weights: Array, y: Array) -> None:
        self.plan.predict(weights, self.data, self.order, y, self.every)

    def times(self, v: Array, poll: Poll) -> Array:
        """G v."""
        grad, size = np.zeros_like(v), float(np.linalg.norm(v))
        if size == 0:
            return grad
        y, above, below = self.outputs
        self._run(self.weights + self.reach / size * v, above)
        self._run(self.weights - self.reach / size * v, below)
        dy = (above - below) / (2 * self.reach)
        if self.loss is not None:
            dy = _core.curvature(self.loss.name, tuple(self.loss.parameters.values()), y, dy)
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
        self.curvature = _Curvature(problem, desc | {"head": (), "output_size": width})

    def begin(self, weights: Array) -> None:
        """The point at which products are taken."""
        self.curvature.begin(np.concatenate([weights[: self.recurrent], self.identity]))

    def times(self, v: Array, poll: Poll) -> Array:
        """J' J v; g has no part in it."""
        wide = np.concatenate([v[: self.recurrent], np.zeros_like(self.identity)])
        found = np.zeros(self.size)
        found[: self.recurrent] = self.curvature.times(wide, poll)[: self.recurrent]
        return found


class _HessianFree(_Iterations):
    """Conjugate gradients on the damped Gauss-Newton model; see `optimizers.HessianFree`."""

    def __init__(self, options: HessianFree, problem: Problem) -> None:
        self.options, self.problem, self.damping = options, problem, options.damping
        self.gradients, self.curvature = _Gradients(problem), _Curvature(problem)
        self.states = _States(problem) if options.structural_damping else None
        self.direction = np.zeros(problem.net.num_parameters)

    def iterate(self, poll: Poll) -> str:
        try:
            return self._iterate(poll)
        except _Interrupted:
            return "INTERRUPTED"

    def _iterate(self, poll: Poll) -> str:
        p = self.problem
        weights = p.begin()
        current, slope = self.gradients(weights, poll)
        if not math.isfinite(current):
            return "DIVERGED"
        self.curvature.begin(weights)
        if self.states is not None:
            self.states.begin(weights)

        def product(v: Array) -> Array:
            found = self.curvature.times(v, poll) + self.damping * v
            if self.states is not None:
                found += self.damping * self.options.structural_damping * self.states.times(v, poll)
            return found

        while self.damping <= self.options.max_damping:
            found, models = self._conjugate(product, slope)
            self.direction = found[-1]
            losses = [p.loss(weights + found[-1])]
            for earlier in reversed(found[:-1]):  # the last of the iterates before the loss grows
                loss = p.loss(weights + earlier)
                if loss >= losses[-1] and losses[-1] < current:
                    break
                losses.append(loss)
            best = len(found) - 1 - int(np.argmin(losses))
            change, loss = found[best], min(losses)
            ratio = (losses[0] - current) / models[-1] if models[-1] < 0 else 0.0
            if ratio < 0.25 or not math.isfinite(ratio):
                self.damping *= 1.5 if loss < current else 4.0
            elif ratio > 0.75:
                self.damping = max(self.damping / 1.5, SMALLEST)
            if loss < current:
                p.finish(weights + change)
                self.loss = loss
                return "OK"
            self.direction = np.zeros_like(slope)
        return "CONVERGED"

    def _conjugate(self, product: Callable[[Array], Array], slope: Array) -> tuple[list[Array], list[float]]:
        """Some iterates towards the minimum of q(d) = slope'd + d'A d / 2, the last one included, and q."""
        d = self.options.warm_start * self.direction
        residual = -slope - product(d) if d.any() else -slope
        if d.any() and -0.5 * float(d @ (residual - slope)) > 0:  # q(d) > 0: worse than nothing
            d, residual = np.zeros_like(d), -slope
        v, square = residual.copy(), float(residual @ residual)
        found: list[Array] = []
        models: list[float] = []
        every, wanted = [], 1.0
        for i in range(1, self.options.max_products + 1):
            a = product(v)
            curvature = float(v @ a)
            if not curvature > 0 or square == 0:
                break
            d = d + square / curvature * v
            residual = residual - square / curvature * a
            every.append(-0.5 * float(d @ (residual - slope)))
            if i >= wanted:
                found.append(d)
                models.append(every[-1])
                wanted = max(wanted * 1.3, i + 1.0)
            before = max(10, i // 10)
            gained = every[-1 - before] - every[-1] if i > before else math.inf
            if gained < -self.options.tolerance * before * every[-1]:
                break
            new = float(residual @ residual)
            v, square = residual + new / square * v, new
        if not found or found[-1] is not d:
            found.append(d)
            models.append(every[-1] if every else 0.0)
        return found, models


METHODS: dict[type, Any] = {
    LBFGS: _LimitedMemory,
    LevenbergMarquardt: _Marquardt,
    HessianFree: _HessianFree,
}


def method(options: SecondOrder, problem: Problem) -> Any:
    """What drives the epochs of a fit with this optimiser."""
    return METHODS[type(options)](options, problem)
