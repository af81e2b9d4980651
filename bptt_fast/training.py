"""The fit loop: one call of the C core an epoch, and around it order, validation, stopping and the record."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from . import _core, data, losses, optimizers, second_order, unfolding  # type: ignore[attr-defined]
from .callbacks import History, check_callbacks, check_verbose, progress
from .errors import ConfigError, DivergedError, ShapeError, choice, flag, integer, number
from .network import READOUTS, Gradients, core_data, machine_for, make_plan
from .unfolding import SlidingBPTT

if TYPE_CHECKING:
    from .callbacks import Callback, Progress
    from .data import Array, Sequences
    from .network import Network

Poll = Callable[[int], bool]
Epochs = Generator[tuple[int, Poll], tuple[str, int], None]


def evaluate(
    net: Network,
    x: Any,
    y: Any,
    *,
    loss: Any,
    readout: Any,
    sample_weight: Any,
    x0: Any,
    lengths: Any,
    batch_size: Any,
    threads: Any,
    isa: Any,
) -> float:
    """See `Network.evaluate`."""
    every = (net.readout if readout is None else choice(readout, "readout", READOUTS)) == "every"
    sequences = _sequences(net, x, y, losses.get(loss), every, sample_weight, x0, lengths)
    batch = min(integer(batch_size, "batch_size", 1, None), len(sequences))
    key = (loss, every, batch, net._forward_steps(sequences.steps), *machine_for(threads, isa), False)
    plan = net._borrow(key)
    _, value = plan.evaluate(net.params, core_data(sequences), data.counting(len(sequences)))
    net._give_back(key, plan)
    if not math.isfinite(value):
        raise DivergedError(
            "evaluate: the loss is not finite.  Are the parameters, and the data of reasonable size?"
        )
    return value


def loss_and_grad(
    net: Network,
    x: Any,
    y: Any,
    *,
    loss: Any,
    sample_weight: Any,
    x0: Any,
    lengths: Any,
    with_inputs: Any,
    threads: Any,
    isa: Any,
) -> tuple[float, Gradients]:
    """See `Network.loss_and_grad`."""
    every = net.readout == "every"
    sequences = _sequences(net, x, y, losses.get(loss), every, sample_weight, x0, lengths)
    n = len(sequences)
    key = (
        loss,
        every,
        n,
        int(sequences.length.max()),
        *machine_for(threads, isa),
        flag(with_inputs, "with_inputs"),
    )
    plan = net._borrow(key)
    grads = Gradients(net)
    dx = np.zeros_like(sequences.values) if with_inputs else None
    dstate = np.zeros((n, net.state_size), net.dtype) if with_inputs else None
    status, value = plan.loss_and_grad(
        net.params, core_data(sequences), data.counting(n), grads.flat, dx, dstate
    )
    net._give_back(key, plan)
    if status != "OK":
        raise DivergedError(
            "loss_and_grad: the loss or the gradient is not finite.  Are the parameters, and the data of "
            "reasonable size?"
        )
    if dx is not None and dstate is not None:
        grads["x"] = sequences.arrange(dx, True)
        grads["x0"] = dstate[0] if sequences.form == "series" else dstate
    return value, grads


def fit(
    net: Network,
    x: Any,
    y: Any,
    *,
    epochs: Any,
    batch_size: Any,
    optimizer: Any,
    loss: Any,
    bptt: Any,
    sample_weight: Any,
    x0: Any,
    lengths: Any,
    validation_split: Any,
    validation_data: Any,
    callbacks: Any,
    verbose: Any,
    initial_epoch: Any,
    shuffle: Any,
    clip_norm: Any,
    target_loss: Any,
    patience: Any,
    min_delta: Any,
    restore_best: Any,
    max_seconds: Any,
    threads: Any,
    isa: Any,
) -> History:
    """See `Network.fit`.  Whatever can be wrong with the arguments raises before the network changes."""
    start = time.perf_counter()
    first, last = integer(initial_epoch, "initial_epoch", 0, None), integer(epochs, "epochs", 1, None)
    deadline = (
        math.inf if max_seconds is None else start + number(max_seconds, "max_seconds", 0, open_low=True)
    )
    stopping = _Stopping(target_loss, patience, min_delta, restore_best)
    unfold = unfolding.get(bptt)
    slides = isinstance(unfold, SlidingBPTT)
    if optimizer is None:
        optimizer = "sgd" if slides else "adam"
    clip = 0.0 if clip_norm is None else number(clip_norm, "clip_norm", 0, open_low=True)
    method = optimizers.get(optimizer)
    whole = isinstance(method, optimizers.SecondOrder)
    size = None if batch_size is None else integer(batch_size, "batch_size", 1, None)
    if isinstance(method, optimizers.SecondOrder):
        _check_second_order(net, method, losses.get(loss), unfold, clip)
    setting = _Setting(
        net,
        losses.get(loss),
        {} if isinstance(method, optimizers.SecondOrder) else optimizers.hyper(method, clip),
        first,
        size or (second_order.BATCH if whole else 32),
        flag(shuffle, "shuffle"),
        *machine_for(threads, isa),
    )
    split = number(validation_split, "validation_split", 0, 1, open_high=True)
    if split and validation_data is not None:
        raise ConfigError(
            f"validation_split: expected 0 beside validation_data, got {split:g}.  Give one of the two."
        )
    hooks, shown = check_callbacks(callbacks), check_verbose(verbose)

    every = slides or net.readout == "every"
    if slides:
        _check_sliding(net, sample_weight)
    train = _sequences(net, x, y, setting.loss, every, sample_weight, x0, lengths)
    other = (
        None if validation_data is None else _validation_data(net, validation_data, setting.loss, every, x0)
    )
    job: _Job | _WholeJob
    if isinstance(unfold, SlidingBPTT):
        job = _sliding_job(setting, unfold, train, split, other)
    elif isinstance(method, optimizers.SecondOrder):
        job = _whole_job(setting, method, size, train, split, other)
    else:
        job = _full_job(setting, train, split, other)

    history = History("epoch", "loss", *["val_loss"] * (job.validate is not None), "seconds")
    display = progress(shown, first, max(first, last), len(job.losses))
    try:
        job.drive(_loop(net, job, range(first, last), hooks, display, stopping, deadline, history))
    except (KeyboardInterrupt, DivergedError) as error:
        error.history = history  # type: ignore[union-attr]
        raise
    finally:
        display.close()
    return history


def _loop(
    net: Network,
    job: _Job | _WholeJob,
    epochs: range,
    hooks: list[Callback],
    display: Progress,
    stopping: _Stopping,
    deadline: float,
    history: History,
) -> Epochs:
    """Asks for epochs (number, poll), is sent how each ended (status, finished batches)."""

    def poll(done: int) -> bool:
        display.within(done)
        return time.perf_counter() >= deadline

    logs: dict[str, float] = {}
    reason = ""
    for hook in hooks:
        hook.model = net
        hook.on_train_begin({})
    for epoch in epochs:
        begin = time.perf_counter()
        if begin >= deadline and history["epoch"]:
            reason = "max_seconds"
            break
        for hook in hooks:
            hook.on_epoch_begin(epoch, {})
        status, done = yield epoch, poll
        if status == "DIVERGED":
            raise _diverged("the loss, the gradient or the update", epoch + 1, job.unit, done + 1)
        if done == 0:
            reason = "converged" if status == "CONVERGED" else "max_seconds"
            break
        logs = {"loss": job.mean(done)}
        if job.validate is not None:
            logs["val_loss"] = job.validate()
            if not math.isfinite(logs["val_loss"]):
                raise _diverged("the loss", epoch + 1, "validation", None)
        logs["seconds"] = time.perf_counter() - begin
        history.add({"epoch": epoch + 1, **logs})
        reason = stopping.after(epoch + 1, logs.get("val_loss", logs["loss"]), net.params)
        display.end(epoch + 1, logs)
        asked = [hook.on_epoch_end(epoch, dict(logs)) for hook in hooks]
        reason = reason or ("callback" if any(asked) else "max_seconds" if status == "INTERRUPTED" else "")
        if reason:
            break
    history.stopped = reason or "epochs"
    history.best_epoch = stopping.restore(net.params)
    for hook in hooks:
        hook.on_train_end(dict(logs))


def _diverged(what: str, epoch: int, unit: str, batch: int | None) -> DivergedError:
    where = f"epoch {epoch}, {unit}" + ("" if batch is None else f" {batch}")
    error = DivergedError(
        f"fit: {what} is not finite in {where}; the network has its last finite weights.  "
        + (
            "Are the parameters, and the data of reasonable size?"
            if unit == "iteration"
            else "Try a smaller learning_rate, or clip_norm=1.0."
        )
    )
    error.epoch, error.batch = epoch, batch
    return error


class _Stopping:
    """Reasons to stop that look at the loss, and the best weights so far."""

    def __init__(self, target_loss: Any, patience: Any, min_delta: Any, restore_best: Any) -> None:
        self.target = -math.inf if target_loss is None else number(target_loss, "target_loss")
        self.patience = math.inf if patience is None else integer(patience, "patience", 1, None)
        self.min_delta = number(min_delta, "min_delta", 0)
        self.keeps = flag(restore_best, "restore_best") and patience is not None
        self.best, self.waited = math.inf, 0
        self.best_epoch: int | None = None
        self.weights: Array | None = None

    def after(self, epoch: int, loss: float, params: Array) -> str:
        """The reason to stop after this epoch, or ""."""
        if loss < self.best - self.min_delta:
            self.best, self.waited = loss, 0
            if self.keeps:
                self.best_epoch, self.weights = epoch, params.copy()
        else:
            self.waited += 1
        return "target_loss" if loss <= self.target else "patience" if self.waited >= self.patience else ""

    def restore(self, params: Array) -> int | None:
        """Put the best weights back, if they were to be kept; the epoch they are of."""
        if self.weights is not None:
            params[:] = self.weights
        return self.best_epoch


# ---- what the loop runs


@dataclass
class _Job:
    """An epoch and its validation as calls of the C core.

    `losses` (batches or patterns) is filled by `epoch`; `sizes` are their weights in the mean, None: all
    equal.
    """

    epoch: Callable[[int, Poll], tuple[str, int]]
    losses: Array
    sizes: Array | None
    unit: str
    validate: Callable[[], float] | None

    def drive(self, loop: Epochs) -> None:
        """Run the epochs that the loop asks for."""
        with suppress(StopIteration):
            asked = next(loop)
            while True:
                asked = loop.send(self.epoch(*asked))

    def mean(self, done: int) -> float:
        """The mean loss of the first `done` batches."""
        return float(
            np.average(self.losses[:done], weights=None if self.sizes is None else self.sizes[:done])
        )


@dataclass
class _Setting:
    """What both unfoldings need to know."""

    net: Network
    loss: losses.Loss
    hyper: dict[str, Any]
    first: int
    batch: int
    shuffle: bool
    threads: int
    isa: str | None

    def plan(self, every: bool, batch: int, steps: int, training: bool = True) -> Any:
        """A plan; the masks of dropout depend on the epoch a fit begins with, as the order of sequences."""
        desc = self.net._desc
        if training:
            desc = desc | {"seed": (desc["seed"] + self.first * 0x9E3779B97F4A7C15) % 2**64}
        return make_plan(desc, self.loss.name, every, batch, steps, self.threads, self.isa, False)

    def optimizer_state(self) -> Array:
        """Zeros for what the optimiser keeps."""
        return np.zeros(_core.slots(self.hyper["optimizer"]) * self.net.num_parameters, self.net.dtype)

    def validation(self, sequences: Sequences, order: Array, every: bool) -> Callable[[], float]:
        """A function that gives the loss of the sequences `order`."""
        steps = self.net._forward_steps(int(sequences.length[order].max()))
        plan = self.plan(every, min(max(self.batch, 32), len(order)), steps, False)
        found = core_data(sequences)
        return lambda: plan.evaluate(self.net.params, found, order)[1]


def _full_job(s: _Setting, train: Sequences, split: float, other: Sequences | None) -> _Job:
    every = s.net.readout == "every"
    n = _kept(len(train), split, "sequences")
    if split:
        _check_weights(train, range(n), every, "training")
        _check_weights(train, range(n, len(train)), every, "validation")
    batch = min(s.batch, n)
    plan = s.plan(every, batch, int(train.length[:n].max()))
    found, state, params = core_data(train), s.optimizer_state(), s.net.params
    batch_losses = np.zeros(-(-n // batch))
    sizes = np.full(len(batch_losses), batch)
    sizes[-1] = n - batch * (len(sizes) - 1)

    def epoch(number: int, poll: Poll) -> tuple[str, int]:
        order = data.counting(n)
        if s.shuffle:
            order = np.random.default_rng([s.net.seed, number]).permutation(order)
        return plan.epoch(params, state, s.hyper, found, order, batch_losses, poll)

    validate = None
    if other is not None:
        validate = s.validation(other, data.counting(len(other)), every)
    elif split:
        validate = s.validation(train, np.arange(n, len(train), dtype=np.int64), every)
    return _Job(epoch, batch_losses, sizes, "batch", validate)


def _sliding_job(
    s: _Setting, unfold: SlidingBPTT, train: Sequences, split: float, other: Sequences | None
) -> _Job:
    k, lead = unfold.k, unfold.lead
    n, begin = len(train), 0
    _check_lengths(train.length, k, lead, "x")
    if other is not None:
        _check_lengths(other.length, k, lead, "validation_data[0]")
        validate = s.validation(_run_over(other, k, lead), data.counting(len(other)), True)
    elif split and n > 1:
        n = _kept(n, split, "sequences")
        validate = s.validation(_run_over(train, k, lead), np.arange(n, len(train), dtype=np.int64), True)
    elif split:
        begin = _kept(int(train.length[0]), split, "steps")
        validate = s.validation(_run_over(train, k, lead, begin), data.counting(1), True)
        train.length = np.array([begin], dtype=np.int64)
        _check_lengths(train.length, k, lead, "x without its validation steps")
    else:
        validate = None
    plan = s.plan(False, 1, k)
    found, state, params, order = core_data(train), s.optimizer_state(), s.net.params, data.counting(n)
    pattern_losses = np.zeros(int((train.length[:n] - (k + lead - 1)).sum()))

    def epoch(number: int, poll: Poll) -> tuple[str, int]:
        return plan.slide(params, state, s.hyper, found, order, k, lead, pattern_losses, poll)

    return _Job(epoch, pattern_losses, None, "pattern", validate)


@dataclass
class _WholeJob:
    """Iterations over all sequences, in the place of a `_Job`: the method itself answers the loop."""

    method: Any
    validate: Callable[[], float] | None
    unit: ClassVar[str] = "iteration"
    losses: ClassVar[tuple[None]] = (None,)

    def drive(self, loop: Epochs) -> None:
        """Run the iterations that the loop asks for."""
        self.method.drive(loop)

    def mean(self, done: int) -> float:
        """The loss after the iteration."""
        return float(self.method.loss)


def _whole_job(
    s: _Setting,
    method: optimizers.SecondOrder,
    size: int | None,
    train: Sequences,
    split: float,
    other: Sequences | None,
) -> _WholeJob:
    every = s.net.readout == "every"
    n = _kept(len(train), split, "sequences")
    if size is not None and size < n:
        name = type(method).__name__
        raise ConfigError(
            f"batch_size: expected None, or at least all {n} sequences, with {name}, whose steps need the "
            f"loss of all of them, got {size}.  Use Adam() for minibatches."
        )
    _check_weights(train, range(n), every, "training")
    validate = None
    if other is not None:
        validate = s.validation(other, data.counting(len(other)), every)
    elif split:
        _check_weights(train, range(n, len(train)), every, "validation")
        validate = s.validation(train, np.arange(n, len(train), dtype=np.int64), every)
    problem = second_order.Problem(s.net, s.loss.name, train, n, s.threads, s.isa)
    return _WholeJob(second_order.method(method, problem), validate)


def _run_over(sequences: Sequences, k: int, lead: int, begin: int = 0) -> Sequences:
    """The same patterns as one plain run, g read at every step; only targets from step `begin` on count."""
    run = data.Sequences(
        sequences.values, sequences.offset, sequences.length - lead, sequences.form, sequences.steps
    )
    run.target_offset = sequences.offset + lead
    run.targets, run.classes, run.state = sequences.targets, sequences.classes, sequences.state
    run.weight = np.zeros(len(sequences.values), sequences.values.dtype)
    for offset, length in zip(sequences.offset, sequences.length, strict=True):
        part = slice(offset + max(k - 1 + lead, begin), offset + length)
        run.weight[part] = 1 if sequences.weight is None else sequences.weight[part]
    return run


# ---- checks


def _sequences(
    net: Network,
    x: Any,
    y: Any,
    loss: losses.Loss,
    every: bool,
    sample_weight: Any,
    x0: Any,
    lengths: Any,
    names: Sequence[str] = ("x", "y", "sample_weight"),
) -> Sequences:
    found = data.sequences(x, net.input_size, net.dtype, lengths, names[0])
    data.set_targets(found, y, net.output_size, loss.targets, every, sample_weight, names[1], names[2])
    found.state = data.states(x0, len(found), net.state_size, net.dtype)
    return found


def _validation_data(net: Network, given: Any, loss: losses.Loss, every: bool, x0: Any) -> Sequences:
    if not isinstance(given, (tuple, list)) or len(given) not in (2, 3):
        got = f"{len(given)} entries" if isinstance(given, (tuple, list)) else type(given).__name__
        raise ConfigError(f"validation_data: expected (x, y) or (x, y, sample_weight), got {got}.")
    x, y, weight = (*given, None)[:3]
    return _sequences(
        net,
        x,
        y,
        loss,
        every,
        weight,
        x0 if np.ndim(x0) == 1 else None,
        None,
        [f"validation_data[{i}]" for i in range(3)],
    )


def _check_sliding(net: Network, sample_weight: Any) -> None:
    if net.readout != "last":
        raise ConfigError(
            'bptt: SlidingBPTT reads the last state of each window and expects Network(readout="last"), got '
            f'readout="{net.readout}".'
        )
    if net.description.bidirectional:
        raise ConfigError(
            "bptt: SlidingBPTT expects a network that runs forward in time, got bidirectional=True."
        )
    if net.description.dropout or net.description.recurrent_dropout:
        raise ConfigError(
            "bptt: SlidingBPTT expects a network without dropout, got "
            f"dropout={net.description.dropout:g}, recurrent_dropout={net.description.recurrent_dropout:g}.  "
            "Use FullBPTT()."
        )
    if sample_weight is not None:
        raise ConfigError(
            "sample_weight: expected None with SlidingBPTT, which updates after every single pattern, got "
            f"{type(sample_weight).__name__}.  Use FullBPTT()."
        )


def _check_second_order(
    net: Network, method: optimizers.SecondOrder, loss: losses.Loss, unfold: unfolding.Unfolding, clip: float
) -> None:
    name, d = type(method).__name__, net.description
    if not isinstance(unfold, unfolding.FullBPTT):
        raise ConfigError(
            f"bptt: {name} needs the exact gradient of all sequences and expects FullBPTT(), got "
            f"{unfold!r}.  Use SGD() or Adam()."
        )
    if isinstance(method, optimizers.LevenbergMarquardt):
        if loss.name != "mse":
            raise ConfigError(
                f'loss: LevenbergMarquardt needs a sum of squares and expects "mse", got "{loss.name}".  Use '
                f"{'LBFGS()' if loss.name in ('mae', 'huber') else 'HessianFree() or LBFGS()'}."
            )
        if net.num_parameters > second_order.MOST_PARAMETERS:
            raise ConfigError(
                f"optimizer: LevenbergMarquardt solves for all parameters at once and expects at most "
                f"{second_order.MOST_PARAMETERS}, got {net.num_parameters}.  Use HessianFree() or LBFGS()."
            )
    if isinstance(method, optimizers.HessianFree) and loss.name in ("mae", "huber"):
        raise ConfigError(
            f'loss: HessianFree needs curvature everywhere and expects "mse" or a cross-entropy, got '
            f'"{loss.name}".  Use LBFGS().'
        )
    if d.dropout or d.recurrent_dropout:
        raise ConfigError(
            f"optimizer: {name} expects a network without dropout, got dropout={d.dropout:g}, "
            f"recurrent_dropout={d.recurrent_dropout:g}.  Use SGD() or Adam()."
        )
    if clip:
        raise ConfigError(
            f"clip_norm: expected None with {name}, which chooses the length of its steps, got {clip:g}."
        )


def _check_lengths(length: Array, k: int, lead: int, name: str) -> None:
    short = np.flatnonzero(length < k + lead)
    if len(short):
        raise ShapeError(
            f"{name}: expected at least k + lead = {k + lead} steps for SlidingBPTT(k={k}, lead={lead}), got "
            f"{length[short[0]]} in sequence {short[0]}.  Use a smaller k or a longer series."
        )


def _check_weights(sequences: Sequences, part: range, every: bool, what: str) -> None:
    weight, start = sequences.weight, sequences.target_offset
    stop = start + (sequences.length if every else 1)
    if weight is not None and not any(weight[start[i] : stop[i]].any() for i in part):
        raise ConfigError(
            f"sample_weight: expected a weight above 0 on each side of validation_split, got none for {what}."
        )


def _kept(n: int, split: float, what: str) -> int:
    """How many of n are for training."""
    kept = math.floor(n * (1 - split) + 1e-9)
    if split and not 0 < kept < n:
        raise ConfigError(
            f"validation_split: expected at least one of the {n} {what} on each side, got {split:g}, which "
            f"leaves {kept} for training.  Use validation_data."
        )
    return kept
