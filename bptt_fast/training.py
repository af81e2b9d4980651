"""The fit loop: one call of the C core an epoch, and around it order, validation, stopping and the record."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from . import _core, data, losses, optimizers, second_order, unfolding  # type: ignore[attr-defined]
from .callbacks import History, check_callbacks, check_verbose, progress
from .columns import Columns, Scaling, listed
from .errors import ConfigError, DivergedError, ShapeError, choice, flag, integer, number
from .network import READOUTS, Gradients, core_data, machine_for, make_plan, plan_bytes
from .schedules import Rates, Schedule
from .unfolding import CheckpointedBPTT, FullBPTT, SlidingBPTT, TruncatedBPTT

if TYPE_CHECKING:
    from .callbacks import Callback, Progress
    from .data import Array, Sequences
    from .network import Network
    from .unfolding import Unfolding

Poll = Callable[[int], bool]
Epochs = Generator[Any, Any, None]


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
    bptt: Any,
    teacher_forcing: Any,
    sample_weight: Any,
    x0: Any,
    lengths: Any,
    with_inputs: Any,
    threads: Any,
    isa: Any,
) -> tuple[float, Gradients]:
    """See `Network.loss_and_grad`."""
    every = net.readout == "every"
    unfold = unfolding.get(bptt)
    if isinstance(unfold, SlidingBPTT):
        raise ConfigError(
            f"bptt: expected FullBPTT(), TruncatedBPTT(k1, k2) or CheckpointedBPTT(), got {unfold}, which "
            f"has no gradient for one set of weights.  Use fit."
        )
    found = losses.get(loss)
    sequences = _sequences(net, x, y, found, every, sample_weight, x0, lengths)
    if flag(with_inputs, "with_inputs") and (
        sequences.form == "windows" or isinstance(unfold, TruncatedBPTT)
    ):
        what = "windows" if sequences.form == "windows" else repr(unfold)
        raise ConfigError(
            f"with_inputs: expected False for {what}, got True.  Use whole sequences and FullBPTT()."
        )
    n, steps = len(sequences), int(sequences.length.max())
    own_inputs = _own_inputs(net, unfold, found, teacher_forcing)
    _check_own_inputs(own_inputs, sequences.columns)
    more = _plan_words(net, unfold, sequences, n, own_inputs, True)
    key = (loss, every, n, steps, *machine_for(threads, isa), with_inputs, more)
    plan = net._borrow(key)
    _note_long_k2(unfold, sequences)
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
        if net.scaling is not None:
            dx /= np.array(net.scaling.input_scale)
        grads["x"] = sequences.arrange(dx, True, sequences.columns.inputs)
        grads["x0"] = dstate[0] if sequences.form == "series" else dstate
    return value, grads


def estimate_memory(
    net: Network, batch: Any, steps: Any, *, bptt: Any, loss: Any, readout: Any, threads: Any, isa: Any
) -> int:
    """See `Network.estimate_memory`."""
    every = (net.readout if readout is None else choice(readout, "readout", READOUTS)) == "every"
    batch, steps, unfold = integer(batch, "batch"), integer(steps, "steps"), unfolding.get(bptt)
    _check_directions(net, unfold)
    if isinstance(unfold, SlidingBPTT):
        every, batch, steps = False, 1, unfold.k
    return plan_bytes(
        net._desc,
        losses.get(loss),
        every,
        batch,
        steps,
        *machine_for(threads, isa),
        unfold=unfold.core(steps),
    )


def fit(net: Network, x: Any, y: Any, **arguments: Any) -> History:
    """See `Network.fit`.  Whatever can be wrong with the arguments raises before the network changes."""
    steps = in_steps(net, x, y, **arguments)
    history = next(steps)
    try:
        for _ in steps:
            pass
    except (KeyboardInterrupt, DivergedError) as error:
        error.history = history  # type: ignore[union-attr]
        raise
    return history


def in_steps(
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
    stateful: Any,
    teacher_forcing: Any,
    clip_norm: Any,
    clip_value: Any,
    clip_state: Any,
    gradient_noise: Any,
    target_loss: Any,
    patience: Any,
    min_delta: Any,
    restore_best: Any,
    max_seconds: Any,
    scaling: Any,
    threads: Any,
    isa: Any,
    halt: Callable[[], bool] = bool,
) -> Iterator[History]:
    """A fit that pauses: before its first epoch, when all arguments are checked, and between epochs.

    It gives its growing history each time.  `halt` is asked every 30 ms or so; once true, the fit ends.
    """
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
    chosen = optimizers.get(optimizer)
    size = None if batch_size is None else integer(batch_size, "batch_size", 1, None)
    changes = {
        "clip_norm": _limit(clip_norm, "clip_norm"),
        "clip_value": _limit(clip_value, "clip_value"),
        "clip_state": _limit(clip_state, "clip_state"),
        "gradient_noise": number(gradient_noise, "gradient_noise", 0),
    }
    if isinstance(chosen, optimizers.SecondOrder):
        _check_second_order(net, chosen, losses.get(loss), unfold, changes, stateful, teacher_forcing)
        hyper: dict[str, Any] = {}
    else:
        noise = changes.pop("gradient_noise")
        hyper = optimizers.hyper(chosen, **changes, noise=noise, noise_seed=net.seed)
    setting = _Setting(
        net,
        losses.get(loss),
        unfold,
        hyper,
        first,
        size or (second_order.BATCH if isinstance(chosen, optimizers.SecondOrder) else 32),
        *_order(net, unfold, shuffle, stateful),
        _own_inputs(net, unfold, losses.get(loss), teacher_forcing),
        *machine_for(threads, isa),
    )
    split = number(validation_split, "validation_split", 0, 1, open_high=True)
    if split and validation_data is not None:
        raise ConfigError(
            f"validation_split: expected 0 beside validation_data, got {split:g}.  Give one of the two."
        )
    if split:
        _note_shared_rows(x.x if isinstance(x, data.Shared) else x)
    hooks, shown = check_callbacks(callbacks), check_verbose(verbose)

    every = slides or net.readout == "every"
    if slides:
        check_sliding(net, sample_weight)
    made = partial(_sequences, net, x, y, setting.loss, every, sample_weight, x0, lengths)
    known = net.columns
    if scaling is not None:
        known = replace(known, scaling=_scaling(setting, scaling, split, every, made))
    train = made(columns=known)
    _check_own_inputs(setting.own_inputs, train.columns)
    if slides:
        _check_no_windows(train, "x")
    other = None
    if validation_data is not None:
        other = _validation_data(net, validation_data, setting.loss, every, x0, train.columns)
    job: _Job | _WholeJob
    if isinstance(unfold, SlidingBPTT):
        job = _sliding_job(setting, unfold, train, split, other)
    elif isinstance(chosen, optimizers.SecondOrder):
        job = _whole_job(setting, chosen, size, train, split, other)
    else:
        job = _batch_job(setting, train, split, other, x0 is not None)

    setting.hyper["noise_from"] = first * job.updates
    rates = None
    if not isinstance(chosen, optimizers.SecondOrder) and isinstance(chosen.learning_rate, Schedule):
        rates = Rates(chosen.learning_rate, max(first, last), job.updates)
    columns = ["val_loss"] * (job.validate is not None) + ["learning_rate"] * (rates is not None)
    history = History("epoch", "loss", *columns, "seconds")
    history.left_out = job.left_out
    _note_long_k2(unfold, train, 3)
    display = progress(shown, first, max(first, last), job.steps)
    lead = unfold.lead if isinstance(unfold, SlidingBPTT) else train.horizon
    net.columns = replace(train.columns, lead=lead)  # which ends a learner
    try:
        yield history
        loop = _loop(
            net,
            job,
            range(first, last),
            rates,
            setting.hyper,
            hooks,
            display,
            stopping,
            deadline,
            halt,
            history,
        )
        for _ in job.drive(loop):
            yield history
    finally:
        display.close()


def _loop(
    net: Network,
    job: _Job | _WholeJob,
    epochs: range,
    rates: Rates | None,
    hyper: dict[str, Any],
    hooks: list[Callback],
    display: Progress,
    stopping: _Stopping,
    deadline: float,
    halt: Callable[[], bool],
    history: History,
) -> Epochs:
    """Asks for epochs (number, poll), is sent how each ended (status, finished updates), and pauses."""

    def poll(done: int) -> bool:
        display.within(done, job.record.updates)
        return time.perf_counter() >= deadline or halt()

    logs: dict[str, float] = {}
    reason = ""
    for hook in hooks:
        hook.model, hook.hyper = net, hyper
        hook.on_train_begin({})
    for epoch in epochs:
        begin = time.perf_counter()
        if begin >= deadline and history["epoch"]:
            reason = "max_seconds"
            break
        for hook in hooks:
            hook.on_epoch_begin(epoch, {})
        if rates is not None:
            hyper["rates"] = rates.of(epoch)
        status, done = yield epoch, poll
        if status == "DIVERGED":
            raise _diverged("the loss, the gradient or the update", epoch + 1, job.unit, done + 1)
        loss = job.record.mean(done)
        if math.isnan(loss):  # stopped before the first update
            reason = "converged" if status == "CONVERGED" else "max_seconds"
            break
        logs = {"loss": loss}
        if job.validate is not None:
            logs["val_loss"] = job.validate()
            if not math.isfinite(logs["val_loss"]):
                raise _diverged("the loss", epoch + 1, "validation", None)
        if rates is not None:
            logs["learning_rate"] = float(hyper["rates"][done - 1])
            rates.after(logs.get("val_loss", logs["loss"]))
        logs["seconds"] = time.perf_counter() - begin
        history.add({"epoch": epoch + 1, **logs})
        reason = stopping.after(epoch + 1, logs.get("val_loss", logs["loss"]), net.params)
        display.end(epoch + 1, logs)
        asked = [hook.on_epoch_end(epoch, dict(logs)) for hook in hooks]
        reason = reason or ("callback" if any(asked) else "max_seconds" if status == "INTERRUPTED" else "")
        if reason:
            break
        yield None
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


class _Record:
    """The mean loss of each update of an epoch, and the sum of the weights of its target rows."""

    def __init__(self) -> None:
        self.updates = 0
        self.losses = self.weights = np.zeros(0)

    def begin(self, updates: int) -> None:
        """Make room for so many updates."""
        if updates > len(self.losses):
            self.losses, self.weights = np.zeros(updates), np.zeros(updates)
        self.updates = updates

    def mean(self, done: int) -> float:
        """The mean loss of all target rows of the first `done` updates; nan if there is none."""
        with_targets = self.weights[:done] > 0
        if not with_targets.any():
            return math.nan
        return float(np.average(self.losses[:done][with_targets], weights=self.weights[:done][with_targets]))


@dataclass
class _Job:
    """An epoch and its validation as calls of the C core; an epoch fills `record`, an entry a `unit`, at most
    `updates` of them.  `steps` is how many steps of sequences an epoch trains, `left_out` how many sequences
    are neither for training nor for validation.
    """

    epoch: Callable[[int, Poll], tuple[str, int]]
    record: _Record
    updates: int
    unit: str
    steps: int
    validate: Callable[[], float] | None
    left_out: int = 0

    def drive(self, loop: Epochs) -> Iterator[None]:
        """Run the epochs that the loop asks for, and pause where it does."""
        for asked in loop:
            result = self.epoch(*asked)
            with suppress(StopIteration):
                loop.send(result)
                yield


@dataclass
class _Setting:
    """What every unfolding needs to know."""

    net: Network
    loss: losses.Loss
    unfold: Unfolding
    hyper: dict[str, Any]
    first: int
    batch: int
    shuffle: bool
    stateful: bool
    own_inputs: float
    threads: int
    isa: str | None

    def plan(self, every: bool, batch: int, steps: int) -> Any:
        """A plan for runs without gradients."""
        return make_plan(self.net._desc, self.loss, every, batch, steps, self.threads, self.isa)

    def training_plan(self, every: bool, batch: int, steps: int, unfold: dict[str, Any]) -> Any:
        """A plan; the masks of dropout depend on the epoch a fit begins with, as the order of sequences."""
        desc = self.net._desc
        desc = desc | {"seed": (desc["seed"] + self.first * 0x9E3779B97F4A7C15) % 2**64}
        return make_plan(desc, self.loss, every, batch, steps, self.threads, self.isa, False, unfold)

    def optimizer_state(self) -> Array:
        """Zeros for what the optimiser keeps."""
        return np.zeros(
            _core.state_vectors(self.hyper["optimizer"]) * self.net.num_parameters, self.net.dtype
        )

    def validation(self, sequences: Sequences, order: Array, every: bool) -> Callable[[], float]:
        """A function that gives the loss of the sequences `order`."""
        steps = self.net._forward_steps(int(sequences.length[order].max()))
        plan = self.plan(every, min(max(self.batch, 32), len(order)), steps)
        found = core_data(sequences)
        return lambda: plan.evaluate(self.net.params, found, order)[1]


def _batch_job(s: _Setting, train: Sequences, split: float, other: Sequences | None, given: bool) -> _Job:
    """Batches of sequences; `given`: the user gave initial states."""
    net, every = s.net, s.net.readout == "every"
    n, held = _parts(train, split)
    validate = _validate(s, train, n, held, other)
    batch, steps = min(s.batch, n), int(train.length[:n].max())
    words = _plan_words(net, s.unfold, train, n, s.own_inputs, not s.shuffle)
    plan = s.training_plan(every, batch, steps, words)
    states = _kept_states(net, train, n, given) if s.stateful else None
    found, slots, params, record = core_data(train), s.optimizer_state(), net.params, _Record()

    def epoch(number: int, poll: Poll) -> tuple[str, int]:
        nonlocal found
        order = data.counting(n)
        if s.shuffle:
            order = np.random.default_rng([net.seed, number]).permutation(order)
        record.begin(plan.updates(found, order))
        try:
            result: tuple[str, int] = plan.epoch(
                params, slots, s.hyper, found, order, record.losses, record.weights, states, poll
            )
        finally:
            if states is not None:
                net._states = states[:n]
                if train.state is not states:
                    train.state = states
                    found = core_data(train)
        return result

    updates, unit = -(-n // batch), "batch"
    if isinstance(s.unfold, TruncatedBPTT):
        updates, unit = updates * -(-steps // s.unfold.k1), "pass"
    left_out = len(train) - n - len(held)
    return _Job(epoch, record, updates, unit, int(train.length[:n].sum()), validate, left_out)


def _validate(
    s: _Setting, train: Sequences, n: int, held: Array, other: Sequences | None
) -> Callable[[], float] | None:
    """A function that gives the loss of `other` or of the sequences `held` out, if there are any."""
    every = s.net.readout == "every"
    if other is not None:
        return s.validation(other, data.counting(len(other)), every)
    if not len(held):
        return None
    _check_weights(train, data.counting(n), every, "training")
    _check_weights(train, held, every, "validation")
    return s.validation(train, held, every)


def _kept_states(net: Network, train: Sequences, n: int, given: bool) -> Array:
    """Room for the states that a stateful fit keeps, holding those it begins with.  `train` begins with them
    too, unless that is the network's own initial state, which may be trained.
    """
    states = np.zeros((len(train), net.state_size), net.dtype)
    if given:
        states[:] = train.state
    elif net._states is not None:
        if len(net._states) != n:
            raise ConfigError(
                f"x: expected {len(net._states)} training sequences, whose states an earlier stateful fit "
                f"has kept, got {n}.  Call net.reset_state() to begin anew."
            )
        states[:n] = net._states
    else:
        trained = [view for name, view in net._views.items() if name.startswith("initial_")]
        if trained:
            states[:] = np.concatenate(trained)
        return states
    train.state = states
    return states


def _sliding_job(
    s: _Setting, unfold: SlidingBPTT, train: Sequences, split: float, other: Sequences | None
) -> _Job:
    k, lead = unfold.k, unfold.lead
    n, begin = len(train), 0
    _check_lengths(train.length, k, lead, "x")
    if other is not None:
        _check_no_windows(other, "validation_data[0]")
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
    plan = s.training_plan(False, 1, k, {})
    found, state, params, order = core_data(train), s.optimizer_state(), s.net.params, data.counting(n)
    record = _Record()
    record.begin(int((train.length[:n] - (k + lead - 1)).sum()))
    record.weights[:] = 1

    def epoch(number: int, poll: Poll) -> tuple[str, int]:
        result: tuple[str, int] = plan.slide(
            params, state, s.hyper, found, order, k, lead, record.losses, poll
        )
        return result

    return _Job(epoch, record, record.updates, "pattern", record.updates, validate)


class _WholeRecord(_Record):
    """One entry, the loss after an iteration over all sequences."""

    def __init__(self, method: Any) -> None:
        super().__init__()
        self.method = method
        self.begin(1)

    def mean(self, done: int) -> float:
        return float(self.method.loss) if done else math.nan


@dataclass
class _WholeJob:
    """Iterations over all sequences, in the place of a `_Job`: the method itself answers the loop."""

    method: Any
    record: _WholeRecord
    steps: int
    validate: Callable[[], float] | None
    updates: ClassVar[int] = 1
    left_out: ClassVar[int] = 0
    unit: ClassVar[str] = "iteration"

    def drive(self, loop: Epochs) -> Iterator[None]:
        """Run the iterations that the loop asks for, and pause where the method can."""
        found: Iterator[None] = self.method.drive(loop)
        return found


def _whole_job(
    s: _Setting,
    method: optimizers.SecondOrder,
    size: int | None,
    train: Sequences,
    split: float,
    other: Sequences | None,
) -> _WholeJob:
    every, name = s.net.readout == "every", type(method).__name__
    n, held = _parts(train, split)
    if train.form == "windows":
        raise ConfigError(
            f"x: expected sequences, a series or a list with {name}, got windows.  Use an array."
        )
    if size is not None and size < n:
        raise ConfigError(
            f"batch_size: expected None, or at least all {n} sequences, with {name}, whose steps need the "
            f"loss of all of them, got {size}.  Use Adam() for minibatches."
        )
    _check_weights(train, data.counting(n), every, "training")
    validate = _validate(s, train, n, held, other)
    found = second_order.method(method, second_order.Problem(s.net, s.loss, train, n, s.threads, s.isa))
    return _WholeJob(found, _WholeRecord(found), int(train.length[:n].sum()), validate)


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


def _limit(value: Any, name: str) -> float:
    """Above 0; None is none, for which C takes 0."""
    return 0.0 if value is None else number(value, name, 0, open_low=True)


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
    columns: Columns | None = None,
    dtype: Any = None,
) -> Sequences:
    """Inputs, targets and states, scaled; `columns` and `dtype` in place of the network's."""
    columns, dtype = columns or net.columns, dtype or net.dtype
    if isinstance(x, data.Shared):
        state_size = 0 if x0 is None else net.state_size
        key = (net.input_size, net.output_size, dtype, state_size, loss.targets, every, *names, columns)
        return x.made_once(
            key,
            lambda: _sequences(net, x.x, y, loss, every, sample_weight, x0, lengths, names, columns, dtype),
        )
    found = data.sequences(x, net.input_size, dtype, lengths, names[0], columns)
    data.set_targets(found, y, net.output_size, loss.targets, every, sample_weight, names[1], names[2])
    found.state = data.states(x0, len(found), net.state_size, dtype)
    return found


def _scaling(s: _Setting, scaling: Any, split: float, every: bool, made: Callable[..., Sequences]) -> Scaling:
    """The scaling that a fit asks for; `made`: `_sequences` with the data of the fit."""
    net = s.net
    if isinstance(scaling, Scaling):
        Columns(scaling=scaling).check(net.input_size, net.output_size)
        return scaling
    choice(scaling, "scaling", ("standard",))
    raw = made(columns=replace(net.columns, scaling=None), dtype=np.dtype(np.float64))
    if isinstance(s.unfold, SlidingBPTT) and len(raw) == 1:  # which keeps its last steps for validation
        n, length = 1, np.array([_kept(int(raw.length[0]), split, "steps")])
    else:
        n = _parts(raw, split)[0]
        length = raw.length[:n]
    inputs = raw.values[data.covered(len(raw.values), raw.offset[:n], length)]
    if raw.targets is None or s.loss.targets != "real":
        return Scaling.standard(inputs)
    if s.own_inputs:
        found = Scaling.standard(inputs)
        return replace(found, output_mean=found.input_mean, output_scale=found.input_scale)
    counted = data.covered(len(raw.targets), raw.target_offset[:n], length if every else 1)
    if raw.weight is not None:
        counted &= raw.weight > 0
    return Scaling.standard(inputs, raw.targets[counted])


def _validation_data(
    net: Network, given: Any, loss: losses.Loss, every: bool, x0: Any, columns: Columns
) -> Sequences:
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
        columns,
    )


def _order(net: Network, unfold: Unfolding, shuffle: Any, stateful: Any) -> tuple[bool, bool]:
    """Whether sequences are shuffled, and whether they go on from where they were."""
    if not flag(stateful, "stateful"):
        return True if shuffle is None else flag(shuffle, "shuffle"), False
    if not isinstance(unfold, (FullBPTT, TruncatedBPTT)):
        raise ConfigError(f"stateful: True needs FullBPTT() or TruncatedBPTT(k1, k2), got {unfold}.")
    if net.description.bidirectional:
        raise ConfigError(
            "stateful: True needs a network that runs forward in time, got bidirectional=True.  Use "
            "stateful=False."
        )
    if shuffle is not None and flag(shuffle, "shuffle"):
        raise ConfigError(
            "shuffle: expected False with stateful=True, which goes on with each sequence from where it was, "
            "got True.  Leave shuffle out."
        )
    return False, True


def _own_inputs(net: Network, unfold: Unfolding, loss: losses.Loss, teacher_forcing: Any) -> float:
    """The probability with which a step takes the network's own output for its input."""
    ratio = number(teacher_forcing, "teacher_forcing", 0, 1)
    if ratio == 1:
        return 0.0
    d = net.description
    wrong = {
        f'readout="{net.readout}"': net.readout != "every",
        f"input_size={d.input_size} and output_size={d.output_size}": d.input_size != d.output_size,
        "bidirectional=True": d.bidirectional,
        f'loss="{loss.name}"': loss.targets != "real",
        f"bptt={unfold}": not isinstance(unfold, FullBPTT),
    }
    if any(wrong.values()):
        got = ", ".join(text for text, holds in wrong.items() if holds)
        raise ConfigError(
            f'teacher_forcing: below 1 outputs are fed back, which needs readout="every", output_size equal '
            f"to input_size, one direction, targets that are real numbers, and FullBPTT(); got {ratio:g} "
            f"with {got}.  Use teacher_forcing=1."
        )
    return 1 - ratio


def _check_own_inputs(own_inputs: float, columns: Columns) -> None:
    """Raise unless outputs can go in again as they are, where they do."""
    if not own_inputs:
        return
    if columns.feedback("teacher_forcing") is not None:
        raise ConfigError(
            f"teacher_forcing: below 1 output j is fed back as input j, which needs names in one order, got "
            f"inputs {listed(columns.inputs)}, outputs {listed(columns.outputs)}.  Give x and y in one order "
            f"of columns to a new network, or use teacher_forcing=1."
        )
    if columns.scaling is not None and not columns.scaling.closed:
        raise ConfigError(
            "teacher_forcing: below 1 scaled outputs are fed back as they are, which needs a scaling of the "
            'outputs that is that of the inputs, got another.  Use fit(scaling="standard") with this '
            "teacher_forcing, or teacher_forcing=1."
        )


def _plan_words(
    net: Network,
    unfold: Unfolding,
    train: Sequences,
    n: int,
    own_inputs: float,
    in_order: bool,
) -> dict[str, Any]:
    """How the plan of a training run on the first `n` sequences unfolds, in the words of the C core."""
    _check_directions(net, unfold)
    steps = int(train.length[:n].max())
    words: dict[str, Any] = dict(unfold.core(steps))
    if own_inputs:
        words["sampling_probability"] = own_inputs
    elif train.form == "windows" and in_order and train.stride < train.steps and isinstance(unfold, FullBPTT):
        words["window_stride"] = train.stride
    return words


def _note_long_k2(unfold: Unfolding, sequences: Sequences, above: int = 2) -> None:
    """Tell the user, whose call is `above` the caller, that a truncation has no effect."""
    steps = int(sequences.length.max())
    if isinstance(unfold, TruncatedBPTT) and unfold.k2 is not None and unfold.k2 > steps:
        warnings.warn(
            f"bptt: {unfold} truncates nothing, as the longest sequence has {steps} steps: every error "
            f"travels back to the first step.  Training goes on; a k2 below {steps} would truncate.",
            UserWarning,
            stacklevel=2 + above,
        )


def _note_shared_rows(x: Any) -> None:
    """Warn the user, who called `fit`, that sequences on both sides of `validation_split` share memory."""
    several = (isinstance(x, np.ndarray) and x.ndim == 3) or data.is_list(x)
    two = [part for part in x[:2] if isinstance(part, np.ndarray)] if several else []
    if len(two) == 2 and np.shares_memory(two[0], two[1]):
        warnings.warn(
            "validation_split: the sequences of x are views of the same rows, so the last training sequences "
            "share rows with the first ones of the validation, whose loss comes out too low.  "
            "Sequences.windows(series, length) leaves a gap between the two parts.",
            UserWarning,
            stacklevel=5,
        )


def _check_directions(net: Network, unfold: Unfolding) -> None:
    if net.description.bidirectional and isinstance(unfold, (TruncatedBPTT, CheckpointedBPTT)):
        raise ConfigError(
            f"bptt: {unfold} expects a network that runs forward in time, got bidirectional=True.  Use "
            f"FullBPTT()."
        )


def check_sliding(net: Network, sample_weight: Any = None) -> None:
    """Raise unless the network, and the weights of the targets, are ones for `SlidingBPTT`."""
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
    if net.description.initial_state == "trained":
        raise ConfigError(
            "bptt: SlidingBPTT takes the context as given, without a gradient, and expects a network with "
            'initial_state="zeros", got "trained".  Use FullBPTT().'
        )
    if sample_weight is not None:
        raise ConfigError(
            "sample_weight: expected None with SlidingBPTT, which updates after every single pattern, got "
            f"{type(sample_weight).__name__}.  Use FullBPTT()."
        )


def _either(**properties: Any) -> str:
    """The losses with these properties, as words."""
    return " or ".join(f'"{name}"' for name in losses.named(**properties))


def _check_second_order(
    net: Network,
    method: optimizers.SecondOrder,
    loss: losses.Loss,
    unfold: Unfolding,
    changes: dict[str, float],
    stateful: Any,
    teacher_forcing: Any,
) -> None:
    """`changes`: of the gradient, by the names of their arguments; 0 is none."""
    name, d = type(method).__name__, net.description
    if not isinstance(unfold, FullBPTT):
        raise ConfigError(
            f"bptt: {name} needs the exact gradient of all sequences and expects FullBPTT(), got "
            f"{unfold!r}.  Use SGD() or Adam()."
        )
    if isinstance(method, optimizers.LevenbergMarquardt):
        if not loss.least_squares:
            raise ConfigError(
                f"loss: LevenbergMarquardt needs a sum of squares and expects {_either(least_squares=True)}, "
                f'got "{loss.name}".  Use {"HessianFree() or LBFGS()" if loss.curved else "LBFGS()"}.'
            )
        if net.num_parameters > second_order.MOST_PARAMETERS:
            raise ConfigError(
                f"optimizer: LevenbergMarquardt solves for all parameters at once and expects at most "
                f"{second_order.MOST_PARAMETERS}, got {net.num_parameters}.  Use HessianFree() or LBFGS()."
            )
    if isinstance(method, optimizers.HessianFree) and not loss.curved:
        raise ConfigError(
            f"loss: HessianFree needs curvature everywhere and expects {_either(curved=True)}, got "
            f'"{loss.name}".  Use LBFGS().'
        )
    if d.dropout or d.recurrent_dropout:
        raise ConfigError(
            f"optimizer: {name} expects a network without dropout, got dropout={d.dropout:g}, "
            f"recurrent_dropout={d.recurrent_dropout:g}.  Use SGD() or Adam()."
        )
    if d.initial_state == "trained":
        raise ConfigError(
            f'optimizer: {name} expects a network with initial_state="zeros", got "trained".  Use SGD() or '
            f"Adam()."
        )
    if flag(stateful, "stateful"):
        raise ConfigError(
            f"stateful: expected False with {name}, whose steps need the same loss each time, got True.  Use "
            f"SGD() or Adam()."
        )
    if number(teacher_forcing, "teacher_forcing", 0, 1) < 1:
        raise ConfigError(
            f"teacher_forcing: expected 1 with {name}, whose steps need the same loss each time, got "
            f"{teacher_forcing:g}.  Use SGD() or Adam()."
        )
    for argument, value in changes.items():
        if value:
            none, why = (
                (0, "needs the exact gradient")
                if argument == "gradient_noise"
                else (None, "chooses the length of its steps")
            )
            raise ConfigError(f"{argument}: expected {none} with {name}, which {why}, got {value:g}.")


def _check_no_windows(sequences: Sequences, name: str) -> None:
    if sequences.form == "windows":
        raise ConfigError(
            f"{name}: expected a series or a list of them with SlidingBPTT, which slides over them itself, "
            f"got windows.  Pass the series."
        )


def _check_lengths(length: Array, k: int, lead: int, name: str) -> None:
    short = np.flatnonzero(length < k + lead)
    if len(short):
        raise ShapeError(
            f"{name}: expected at least k + lead = {k + lead} steps for SlidingBPTT(k={k}, lead={lead}), got "
            f"{length[short[0]]} in sequence {short[0]}.  Use a smaller k or a longer series."
        )


def _check_weights(sequences: Sequences, part: Array, every: bool, what: str) -> None:
    weight, start = sequences.weight, sequences.target_offset
    stop = start + (sequences.length if every else 1)
    if weight is not None and not any(weight[start[i] : stop[i]].any() for i in part):
        raise ConfigError(
            f"sample_weight: expected a weight above 0 on each side of validation_split, got none for {what}."
        )


def _parts(train: Sequences, split: float) -> tuple[int, Array]:
    """How many sequences, from the first on, are for training, and which ones are for validation.

    Windows share rows, so their series is split: none of its rows, of inputs or of targets, is in a window of
    each part.  The windows between the parts are in none.
    """
    if not split or train.form != "windows":
        n = _kept(len(train), split, "sequences")
        return n, np.arange(n, len(train), dtype=np.int64)
    rows, window = len(train.values), train.steps + train.horizon
    begin = _kept(rows, split, "rows")
    n = int(np.searchsorted(train.offset, begin - window, side="right"))
    first = int(np.searchsorted(train.offset, begin))
    if n == 0 or first == len(train):
        raise ConfigError(
            f"validation_split: expected a window of length + horizon = {window} rows on each side, got "
            f"{split:g}, which leaves {begin} of the {rows} rows for training.  Use shorter windows or a "
            f"longer series."
        )
    return n, np.arange(first, len(train), dtype=np.int64)


def _kept(n: int, split: float, what: str) -> int:
    """How many of n are for training."""
    kept = math.floor(n * (1 - split) + 1e-9)
    if split and not 0 < kept < n:
        raise ConfigError(
            f"validation_split: expected at least one of the {n} {what} on each side, got {split:g}, which "
            f"leaves {kept} for training.  Use validation_data."
        )
    return kept
