"""Runners of the epochs of a fit: batches of sequences, or the windows of the online algorithm.

An unfolding (`unfolding`) or an optimiser of second order (`second_order`) creates a runner, with checked
data.  `fit.Training` is the loop around the epochs.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from . import _core, data, own_loss  # type: ignore[attr-defined]
from .errors import ConfigError, ShapeError
from .interrupts import PART, in_parts
from .plans import PlanSize, Pooled, core_data, make_plan, with_groups
from .ranks import Ranks, Sums
from .resuming import Resumable, check_alike
from .sources import Parts, in_batches

if TYPE_CHECKING:
    from .data import Array, Sequences
    from .fit import Training
    from .losses import Loss
    from .model import Model
    from .unfolding import SlidingBPTT, Unfolding

CACHED = 24 << 10  # bytes of the weights of copies that are trained at once
BATCH = 32  # sequences per batch by default, and at least that many in validation

Poll = Callable[[int], bool]
"""Called with the number of finished updates, in the calling thread; true stops the run."""


@dataclass
class Job:
    """The checked arguments and the data of a fit."""

    net: Model
    loss: Loss
    unfold: Unfolding
    hyper: dict[str, Any]  # hyperparameters and counters of the optimiser, which the core advances
    first_epoch: int
    batch_size: int | None
    shuffle: bool
    stateful: bool
    sampling_probability: float
    threads: int
    isa: str | None
    train: Sequences  # the caller's; a runner copies what it changes
    split: float  # the share of `train` that is held out for validation
    validation: Sequences | None  # separate validation data
    given_states: bool  # whether the caller passed initial states
    parts: Parts | None = None  # all data, if `train` is only the first of them
    validation_parts: Parts | None = None
    ranks: Ranks | None = None  # None: batches are computed as a whole
    pooled: Pooled | None = None  # the plan for training
    make: Callable[[], Any] | None = None  # makes further plans like it

    @property
    def every(self) -> bool:
        """Whether there is a target for every step."""
        return self.net.readout == "every"

    def batch(self, n: int) -> int:
        """The batch size for n sequences."""
        return min(self.batch_size or BATCH, n)

    def training_plan(
        self,
        every: bool,
        batch: int,
        steps: int,
        options: dict[str, Any],
        lengths: Array | None = None,
        isa: str | None = None,
    ) -> Any:
        """A plan for training, whose dropout masks depend on the first epoch.

        `lengths` are those of the sequences if batches may be computed in groups; `isa` overrides the fit's.
        """
        desc = self.net.desc()
        desc["seed"] = (desc["seed"] + self.first_epoch * 0x9E3779B97F4A7C15) % 2**64
        size = PlanSize(self.loss, every, batch, steps, self.threads, isa or self.isa)
        options = options | self.net.update_options()
        if lengths is not None:
            options = with_groups(lengths, desc, size, options)
        key = (desc["seed"], *size, *sorted(options.items()))
        self.make = partial(make_plan, desc, size, options)
        self.pooled = self.net.plans.acquire(key, (), self.make)
        if self.net.constraints is not None:
            self.pooled.plan.set_rules(*self.net.constraints.core)
        return self.pooled.plan

    def further_plans(self, n: int) -> list[Any]:
        """Plans like the one for training."""
        assert self.make is not None
        return [self.make() for _ in range(n)]

    def release_plan(self) -> None:
        """Return the plan for training to the network's pool, for the next fit."""
        if self.pooled is not None:
            self.net.plans.release(self.pooled)
            self.pooled = None

    def optimizer_state(self) -> Array:
        """The initial optimiser state, zeros."""
        vectors = _core.state_vectors(self.hyper["optimizer"])
        state = np.zeros(vectors * self.net.num_parameters, self.net.dtype)
        if state.size > PART:  # the memory must be in use before the end of an epoch, which is not cut
            for part in in_parts(state.shape):
                state[part] = 0
        return state

    def split_sequences(self) -> tuple[int, Callable[[], float] | None]:
        """The number of training sequences, and a function that returns the validation loss, or None."""
        n, held_out = split_parts(self.train, self.split)
        if self.validation_parts is not None:
            return n, PartsLoss(self, self.validation_parts)
        if self.validation is not None:
            return n, self.validation_loss(self.validation, data.counting(len(self.validation)), self.every)
        if not len(held_out):
            return n, None
        check_weights(self.train, data.counting(n), self.every, "training")
        check_weights(self.train, held_out, self.every, "validation")
        return n, self.validation_loss(self.train, held_out, self.every)

    def validation_loss(self, sequences: Sequences, order: Array, every: bool) -> Callable[[], float]:
        """A function that returns the loss of the sequences with the indices `order`."""
        steps = self.net.steps_without_gradient(int(sequences.length[order].max()))
        batch = min(max(self.batch_size or BATCH, BATCH), len(order))
        desc, size = self.net.desc(), PlanSize(self.loss, every, batch, steps, self.threads, self.isa)
        plan = make_plan(desc, size, with_groups(sequences.length[order], desc, size))
        if self.loss.function is not None:
            own = self.loss, plan, self.net.params, sequences, order, every
            return lambda: own_loss.evaluate(*own)
        validation = core_data(sequences)
        if self.ranks is None:
            return lambda: float(plan.evaluate(self.net.params, validation, order)[1])
        return partial(
            _loss_of_shards, self.ranks, plan, self.net.params, validation, sequences, order, every
        )


def _loss_of_shards(
    ranks: Ranks, plan: Any, params: Array, core: Any, sequences: Sequences, order: Array, every: bool
) -> float:
    """The mean loss of the sequences `order`, of which each rank evaluates its shards."""
    sums, weights = {}, {}
    for i in range(*ranks.part):
        part = order[len(order) * i // ranks.shards : len(order) * (i + 1) // ranks.shards]
        rows = own_loss.target_rows(sequences, part, every) if len(part) else part
        weights[i] = float(len(rows) if sequences.weight is None else sequences.weight[rows].sum(dtype=float))
        sums[i] = float(plan.evaluate(params, core, part)[1]) * weights[i] if weights[i] else 0.0
    return ranks.sum(sums) / ranks.sum(weights)


class Record:
    """The mean loss of each update of an epoch, and the sum of the weights of its target rows.

    Parameters
    ----------
    updates : int, default 0
        The number of updates.
    weighted : bool, default True
        False: all weights are 1.
    """

    def __init__(self, updates: int = 0, weighted: bool = True) -> None:
        self.updates = updates
        self.losses, self.weights = np.zeros(updates), np.zeros(updates) if weighted else None

    def begin(self, updates: int) -> None:
        """Prepare the record of an epoch of `updates` updates."""
        if updates > len(self.losses):
            self.losses, self.weights = np.zeros(updates), np.zeros(updates)
        self.updates = updates

    def after(self, done: int, updates: int) -> tuple[Array, Array]:
        """Losses and weights of the `updates` updates after the first `done`, to be filled in."""
        assert self.weights is not None
        short = done + updates - len(self.losses)
        if short > 0:
            room = np.zeros(max(short, len(self.losses)))
            self.losses, self.weights = (np.concatenate([a, room]) for a in (self.losses, self.weights))
        return self.losses[done:], self.weights[done:]

    def mean(self, done: int) -> float:
        """The mean loss over all target rows of the first `done` updates; nan without target rows."""
        if self.weights is None:
            return float(np.add.reduce(self.losses[:done]) / done) if done else math.nan
        if done == 1:  # an epoch of a tiny network takes hardly longer than NumPy's sums
            loss, weight = float(self.losses[0]), float(self.weights[0])
            return loss * weight / weight if weight > 0 else math.nan
        losses, weights = self.losses[:done], self.weights[:done]
        counted = weights > 0
        if not counted.all():
            losses, weights = losses[counted], weights[counted]
        return float((losses * weights).sum() / weights.sum()) if len(weights) else math.nan


class PatternRecord(Record):
    """The losses of patterns, each times the weight of its target.

    Parameters
    ----------
    weights : ndarray (updates,)
    """

    def __init__(self, weights: Array) -> None:
        super().__init__(len(weights))
        self.weights = weights.astype(float)

    def mean(self, done: int) -> float:
        """The weighted mean loss of the first `done` patterns; nan if all their weights are 0."""
        assert self.weights is not None
        weight = float(self.weights[:done].sum())
        return float(self.losses[:done].sum()) / weight if weight else math.nan


class Runner(Resumable):
    """Base class of runners; an epoch is one call of the C core.

    Attributes
    ----------
    record : Record
        The losses of the latest epoch.
    updates : int
        Maximum number of updates per epoch.
    unit : str
        The unit of an update: "batch", "pass", "pattern" or "iteration".
    steps : int
        Number of time steps per epoch.
    validate : callable or None
        Returns the validation loss.
    left_out : int
        Sequences used neither for training nor for validation.
    in_shards : bool
        Whether several ranks can run it together.
    """

    record: Record
    updates: int
    unit: str
    steps: int
    validate: Callable[[], float] | None
    left_out: int = 0
    in_shards: ClassVar[bool] = False

    def __init__(self, job: Job) -> None:
        self.job = job

    def close(self) -> None:
        """Return the plan for training to the network's pool."""
        self.job.release_plan()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        for name in self.kept:
            present = getattr(self, name)
            if isinstance(present, np.ndarray):
                check_alike(present, state[name], name)
        super().load_state_dict(state)

    def epoch(self, number: int, poll: Poll) -> tuple[str, int]:
        """Run one epoch; its status (a name of status.def) and its number of finished updates."""
        raise NotImplementedError

    def advance(self, training: Training) -> bool:
        """Train until the next pause; True if there is more to do."""
        poll = training.begin_epoch()
        return poll is not None and training.end_epoch(*self.epoch(training.epoch, poll))


class BatchRunner(Runner):
    """The runner of minibatches, unfolded over all steps, in passes or in segments."""

    kept = ("optimizer_state", "states")
    in_shards = True

    def __init__(self, job: Job) -> None:
        super().__init__(job)
        if job.ranks is not None:
            check_shards(job)
        if job.stateful:
            job.train = copy.copy(job.train)  # its states change from epoch to epoch
        net, train, unfold = job.net, job.train, job.unfold
        self.n, self.validate = job.split_sequences()
        self.left_out = len(train) - self.n - len(split_parts(train, job.split)[1])
        batch, steps = job.batch(self.n), int(train.length[: self.n].max())
        options = unfold.plan_options(train, self.n, job.sampling_probability, not job.shuffle)
        lengths, ranks = train.length[: self.n], job.ranks
        if ranks is None:
            self.plan, self.shards = job.training_plan(job.every, batch, steps, options, lengths), None
        else:
            ranks.divide(batch)
            self.plan = job.training_plan(job.every, ranks.capacity, steps, options, lengths)
            first, end = ranks.part
            # truncated, a shard keeps its states from update to update
            others = job.further_plans(end - first - 1 if "update_every" in options else 0)
            sums = Sums(ranks, self.plan.sum_size, self.plan.dtype)
            self.shards = (batch, ranks.shards, first, end, others, sums.rows, sums.add, sums.exchange)
        self.states = _carried_states(job, self.n) if job.stateful else None
        self.train, self.data = train, core_data(train)
        self.batch, self.own_loss = batch, None
        if job.loss.function is not None:
            outputs = net.output_size
            self.own_loss = own_loss.BatchLoss(job.loss, train, job.every, outputs, self.n, batch)
        self.params, self.optimizer_state, self.record = net.params, job.optimizer_state(), Record()
        self.updates, self.unit = unfold.updates(-(-self.n // batch), steps)
        self.steps = int(train.length[: self.n].sum())

    def epoch(self, number: int, poll: Poll) -> tuple[str, int]:
        job = self.job
        order = _core.shuffled(job.net.seed, number, self.n) if job.shuffle else data.counting(self.n)
        own = self.own_loss
        if own is not None:
            own.order = order
        self.record.begin(self.plan.updates(self.data, order, None if self.shards is None else self.batch))
        before, done = None if self.states is None else self.states.copy(), 0
        try:
            status, done = self.plan.epoch(
                self.params,
                self.optimizer_state,
                job.hyper,
                self.data,
                order,
                self.record.losses,
                self.record.weights,
                self.states,
                poll,
                None if own is None else own.core,
                self.shards,
            )
        except BaseException as error:  # of a signal handler or the display
            done = getattr(error, "done", 0)
            raise
        finally:
            if self.states is not None and before is not None:
                if job.unfold.plain:  # some groups of a batch may have gone on, though it got no update
                    rest = order[done * self.batch :]
                    self.states[rest] = before[rest]
                self._carry(self.states)
        return status, done

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict(state)
        if self.states is not None:
            self._carry(self.states)

    def _carry(self, states: Array) -> None:
        """Let the next epoch, and the next stateful fit, start from these states."""
        self.job.net.carried_states = states[: self.n]
        if self.train.state is not states:  # the first epoch started from the initial states
            self.train.state = states
            self.data = core_data(self.train)


def _carried_states(job: Job, n: int) -> Array:
    """The array of states that a stateful fit carries from epoch to epoch, with its first states.

    `train` gets the same states, unless they are the network's initial state, which may be trained.
    """
    net, train = job.net, job.train
    states = np.zeros((len(train), net.state_size), net.dtype)
    if job.given_states:
        states[:] = train.state
    elif net.carried_states is not None:
        if len(net.carried_states) != n:
            raise ConfigError(
                f"x: expected {len(net.carried_states)} training sequences, whose states an earlier stateful "
                f"fit has kept, got {n}.  Call net.reset_state() to start from the initial states."
            )
        states[:n] = net.carried_states
    else:
        trained = [net[name] for name in net if name.startswith("initial_")]
        if trained:
            states[:] = np.concatenate(trained)
        return states
    train.state = states
    return states


class PartsRunner(Runner):
    """The runner of minibatches of data that come in parts: an epoch is a call of the C core for each.

    Between two calls nothing but the counters of the optimiser is carried over, as between two epochs.
    """

    kept = ("optimizer_state",)

    def __init__(self, job: Job) -> None:
        super().__init__(job)
        assert job.parts is not None
        self.parts, self.validate = job.parts, job.split_sequences()[1]
        source, head = self.parts.source, self.parts.head
        self.batched, lengths = source.batched, source.lengths
        sizes = len(head), int(head.length.max())
        batches, self.steps = source.count or 0, int(head.length.sum()) * (source.count or 0)
        if lengths is not None:
            sizes = job.batch(len(lengths)), int(lengths.max())
            batches, self.steps = -(-len(lengths) // sizes[0]), int(lengths.sum())
        self.lengths = lengths
        self._plan(*sizes)
        self.params, self.optimizer_state, self.record = job.net.params, job.optimizer_state(), Record()
        self.updates, self.unit = job.unfold.updates(batches, sizes[1])

    def _plan(self, batch: int, steps: int) -> None:
        """Set the plan, for batches of so many sequences of so many steps."""
        job, self.batch, self.longest = self.job, batch, steps
        longest = data.replaced(self.parts.head, length=np.array([steps]))
        options = job.unfold.plan_options(longest, 1, job.sampling_probability, False)
        job.release_plan()
        self.plan = job.training_plan(job.every, batch, steps, options, self.lengths)

    def epoch(self, number: int, poll: Poll) -> tuple[str, int]:
        job, record, source = self.job, self.record, self.parts.source
        draw = np.random.default_rng([job.net.seed, number]) if job.shuffle else None
        order = None if draw is None else draw.permutation(source.count or 0)
        record.begin(self.updates)
        done = 0
        with closing(self.parts.read(order)) as read:
            parts = (
                (part, data.counting(len(part)) if draw is None else draw.permutation(len(part)))
                for part in read
            )
            for part, rows in parts if self.batched else in_batches(parts, self.batch, job.every):
                status, now = self._train(part, rows, done, poll)
                done += now
                if status == "OK" and poll(done):
                    status = "INTERRUPTED"
                if status != "OK":
                    return status, done
        if math.isnan(record.mean(done)):
            raise ConfigError("sample_weight: expected a weight above 0 in each epoch, got only zeros.")
        return "OK", done

    def _train(self, part: Sequences, order: Array, done: int, poll: Poll) -> tuple[str, int]:
        """Update for the sequences `order` of a part, after `done` updates in this epoch."""
        job, record, hyper, own = self.job, self.record, self.job.hyper, None
        longest = int(part.length.max())
        if longest > self.longest or (self.batched and len(order) > self.batch):
            self._plan(max(self.batch, len(order)), max(self.longest, longest))
        if job.loss.function is not None:
            outputs, batch = job.net.output_size, min(self.batch, len(part))
            own = own_loss.BatchLoss(job.loss, part, job.every, outputs, len(part), batch)
            own.order = order
        core = core_data(part)
        updates = self.plan.updates(core, order)
        rates = hyper.get("rates")
        if rates is not None:
            if len(rates) < done + updates:
                raise ConfigError(
                    f"optimizer: expected at most {len(rates)} updates in an epoch for its schedule, by the "
                    f"length of the first sequences, got {done + updates}.  Use a constant learning_rate."
                )
            hyper["rates"] = rates[done:]
        try:
            result: tuple[str, int] = self.plan.epoch(
                self.params,
                self.optimizer_state,
                hyper,
                core,
                order,
                *record.after(done, updates),
                None,
                lambda now: poll(done + now),
                None if own is None else own.core,
            )
            return result
        finally:
            if rates is not None:
                hyper["rates"] = rates


class PartsLoss:
    """The validation loss of data that come in parts: the mean over the target rows of all.

    Parameters
    ----------
    job : Job
    parts : Parts
    """

    def __init__(self, job: Job, parts: Parts) -> None:
        self.job, self.parts, self.size = job, parts, (0, 0)
        self.plan: Any = None

    def __call__(self) -> float:
        total = weight = 0.0
        with closing(self.parts.read()) as read:
            for part in read:
                rows = own_loss.target_rows(part, data.counting(len(part)), self.job.every)
                counted = len(rows) if part.weight is None else float(part.weight[rows].sum(dtype=np.float64))
                if counted:
                    total, weight = total + counted * self._loss(part), weight + counted
        if not weight:
            raise ConfigError("validation_data: expected a weight above 0, got only zeros.")
        return total / weight

    def _loss(self, part: Sequences) -> float:
        """The loss of a part, in the same plan as the parts before if they were not smaller."""
        job = self.job
        least = min(max(job.batch_size or BATCH, BATCH), len(part)), int(part.length.max())
        if self.plan is None or least[0] > self.size[0] or least[1] > self.size[1]:
            self.size = max(least[0], self.size[0]), max(least[1], self.size[1])
            steps = job.net.steps_without_gradient(self.size[1])
            size = PlanSize(job.loss, job.every, self.size[0], steps, job.threads, job.isa)
            self.plan = make_plan(job.net.desc(), size)
        return float(self.plan.evaluate(job.net.params, core_data(part), data.counting(len(part)))[1])


class SlidingRunner(Runner):
    """The runner of the online algorithm, which updates after every pattern, sequence by sequence."""

    kept = ("optimizer_state",)
    unit = "pattern"

    def __init__(self, job: Job, unfold: SlidingBPTT) -> None:
        super().__init__(job)
        train, k, lead, split = job.train, unfold.k, unfold.lead, job.split
        n, validation = len(train), job.validation
        check_lengths(train.length, k, lead, "x")
        self.validate = None
        if validation is not None:
            check_no_windows(validation, "validation_data[0]")
            check_lengths(validation.length, k, lead, "validation_data[0]")
            run = plain_run(validation, k, lead)
            self.validate = job.validation_loss(run, data.counting(len(validation)), True)
        elif split and n > 1:
            n = n_training(n, split, "sequences")
            order = np.arange(n, len(train), dtype=np.int64)
            self.validate = job.validation_loss(plain_run(train, k, lead), order, True)
        elif split:
            begin = n_training(int(train.length[0]), split, "steps")
            run = plain_run(train, k, lead, begin)
            self.validate = job.validation_loss(run, data.counting(1), True)
            train = copy.copy(train)
            train.length = np.array([begin], dtype=np.int64)
            check_lengths(train.length, k, lead, "x without its validation steps")
        self.k, self.lead, self.hyper = k, lead, job.hyper
        self.plan = job.training_plan(False, 1, k, {}, isa=unfold.isa(job.net, job.isa))
        self.data, self.order = core_data(train), data.counting(n)
        self.params, self.optimizer_state = job.net.params, job.optimizer_state()
        self.updates = self.steps = sum(train.length[:n].tolist()) - n * (k + lead - 1)
        self.record = Record(self.updates, weighted=False)
        if train.weight is not None:  # weights of classes
            spans = zip(train.offset[:n], train.length[:n], strict=True)
            self.record = PatternRecord(
                np.concatenate([train.weight[begin + k - 1 + lead : begin + steps] for begin, steps in spans])
            )

    def epoch(self, number: int, poll: Poll) -> tuple[str, int]:
        result: tuple[str, int] = self.plan.slide(
            self.params,
            self.optimizer_state,
            self.hyper,
            self.data,
            self.order,
            self.k,
            self.lead,
            self.record.losses,
            poll,
        )
        return result

    def common(self) -> Hashable:
        """What fits must have in common to be trained by `epoch_of_copies`; None: this one never is."""
        job, hyper, train = self.job, self.hyper, self.job.train
        if hyper["noise"]:
            return None
        desc = {name: value for name, value in self.plan.desc.items() if name != "seed"}
        arrays = (train.values, train.targets, train.classes, train.weight, train.state)
        rows = (train.offset, train.length, train.target_offset, self.order)
        has = [name for name in ("nesterov", "centered", "momentum") if hyper.get(name)]
        same = ("optimizer", "no_bias_decay", "clip_value", "clip_state")
        return (
            *(repr(desc), repr(job.loss), job.isa, self.plan.isa, self.k, self.lead, *has),
            *(hyper[name] for name in same),
            *(id(array) for array in arrays),
            *(array.tobytes() for array in rows),
        )

    def copies_plan(self, n: int) -> Any:
        """A plan for `epoch_of_copies` of up to n fits; None if these are not faster at once.

        Its attribute `copies` is how many it takes.  Weights that the nearest cache cannot hold are not
        faster, nor are copies that leave more than half of the lanes empty; there are no kernels for rules.
        """
        job, own = self.job, self.plan.isa
        if job.net.constraints is not None:
            return None
        for isa in dict.fromkeys((job.isa, own)):
            size = PlanSize(job.loss, False, 1, self.k, 1, isa)
            plan = make_plan(job.net.desc(), size, {"lanes": "copies", "single_isa": own})
            nbytes = plan.copies * job.net.num_parameters * job.net.dtype.itemsize
            if 0 < nbytes <= CACHED and n >= fewest_copies(plan):
                return plan
        return None


def fewest_copies(plan: Any) -> int:
    """The number of copies from which on they are faster at once than one by one."""
    return max(2, plan.copies // 2)


def epoch_of_copies(plan: Any, runners: Sequence[SlidingRunner], poll: Poll) -> list[tuple[str, int]]:
    """Run an epoch of several fits at once, whose `common` is equal; the result of each, as of `epoch`."""
    first = runners[0]
    copies = [(one.params, one.optimizer_state, one.hyper, one.record.losses) for one in runners]
    result: list[tuple[str, int]] = plan.slide_copies(
        copies, first.data, first.order, first.k, first.lead, poll
    )
    return result


def plain_run(sequences: Sequences, k: int, lead: int, begin: int = 0) -> Sequences:
    """The patterns of the online algorithm as one run of f with readout "every".

    With constant weights both have the same predictions.  Targets before step `begin` get weight 0.
    """
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


# ---- checks of data


def check_shards(job: Job) -> None:
    """Raise unless the batches of a fit can be cut into shards."""
    if job.stateful:
        raise ConfigError(
            "stateful: expected False with comm, as no rank has the states of all sequences, got "
            "True.  Use longer sequences with TruncatedBPTT(k1, k2)."
        )
    if job.loss.function is not None:
        raise ConfigError(
            f"loss: expected a loss by name with comm, got the function {job.loss.name}, which "
            f"needs the outputs of whole batches.  Use Loss(name)."
        )


def check_no_windows(sequences: Sequences, name: str) -> None:
    """Raise if the sequences are windows, which the online algorithm creates itself."""
    if sequences.form == "windows":
        raise ConfigError(
            f"{name}: expected a series or a list of them with SlidingBPTT, which slides over them itself, "
            f"got windows.  Pass the series."
        )


def check_lengths(length: Array, k: int, lead: int, name: str) -> None:
    """Raise unless every sequence has at least one pattern."""
    if min(length.tolist()) < k + lead:  # of a few, as most often, faster than NumPy
        short = np.flatnonzero(length < k + lead)
        raise ShapeError(
            f"{name}: expected at least k + lead = {k + lead} steps for SlidingBPTT(k={k}, lead={lead}), got "
            f"{length[short[0]]} in sequence {short[0]}.  Use a smaller k or a longer series."
        )


def check_weights(sequences: Sequences, part: Array, every: bool, what: str) -> None:
    """Raise unless a target of these sequences has a weight above 0."""
    weight, start = sequences.weight, sequences.target_offset
    stop = start + (sequences.length if every else 1)
    if weight is not None and not any(weight[start[i] : stop[i]].any() for i in part):
        raise ConfigError(
            f"sample_weight: expected a weight above 0 on each side of validation_split, got none for {what}."
        )


def split_parts(train: Sequences, split: float) -> tuple[int, Array]:
    """The number of training sequences, which come first, and the indices of the validation sequences.

    Windows share rows, so their series is split, and windows with inputs or targets in both parts are left
    out.
    """
    if not split or train.form != "windows":
        n = n_training(len(train), split, "sequences")
        return n, np.arange(n, len(train), dtype=np.int64)
    rows, window = len(train.values), train.steps + train.horizon
    begin = n_training(rows, split, "rows")
    n = int(np.searchsorted(train.offset, begin - window, side="right"))
    first = int(np.searchsorted(train.offset, begin))
    if n == 0 or first == len(train):
        raise ConfigError(
            f"validation_split: expected a window of length + horizon = {window} rows on each side, got "
            f"{split:g}, which leaves {begin} of the {rows} rows for training.  Use shorter windows or a "
            f"longer series."
        )
    return n, np.arange(first, len(train), dtype=np.int64)


def n_training(n: int, split: float, what: str) -> int:
    """The number of n items that are used for training."""
    training = math.floor(n * (1 - split) + 1e-9)
    if split and not 0 < training < n:
        raise ConfigError(
            f"validation_split: expected at least one of the {n} {what} on each side, got {split:g}, which "
            f"leaves {training} for training.  Use validation_data."
        )
    return training
