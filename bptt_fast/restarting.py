"""Restarts: concurrent training of many copies of a network from different seeds or settings.

A copy is a fit that pauses between epochs, each of which is one call of the C core without the GIL.  Worker
threads process the copies from a queue, so results cannot depend on the number of workers.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
import pickle
import threading
import time
from collections import deque
from collections.abc import Callable, Hashable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar, cast, get_args

import numpy as np

from . import backends, data, notebook
from .callbacks import BackupAndRestore, Comparison, Drawable, check_verbose
from .choices import Keep, Verbose
from .errors import ConfigError, DivergedError, choice, integer, suggesting
from .fit import Training
from .interrupts import in_threads
from .machine import machine_for
from .model import check_network
from .resuming import Resumable
from .runners import SlidingRunner, epoch_of_copies, fewest_copies
from .settings import (
    Common,
    Setting,
    Varying,
    check_seeds,
    combinations,
    drawn,
    losses_of_weights,
    named_functions,
    shared_validation,
)

if TYPE_CHECKING:
    from .callbacks import History
    from .network import Network

SLICE_SECONDS = 0.05  # approximate time that a worker spends on a copy before the next
VARYING = Varying("restarts", "read the histories of the table instead")

Step = TypeVar("Step")


class Restarts(Comparison, Drawable):
    """The table of `restarts`: a dict of lists of equal length, one entry per copy, the best copy first.

    Keys are "seed", the names of the varied settings, "loss", "val_loss" (if there was validation), "epochs"
    (their number), "seconds" (their duration) and "stopped", the reason why the copy ended: "epochs",
    "target_loss", "patience", "max_seconds" and "converged" as in `History`, or "halving" (dropped at a
    rung), "diverged", "interrupted", or "not needed" (another copy reached `target_loss`).

    Attributes
    ----------
    networks : list of Network
        All copies in their final state, in the order of the table.
    histories : list of History
        The records of the copies.
    rungs : list of int
        The epochs after which the worse half was dropped.
    threads : int
        Number of copies trained concurrently, without a backend of joblib.
    seconds : float
        Total duration.

    Examples
    --------
    >>> import numpy as np, bptt_fast as bf
    >>> net = bf.Network(1, 4, 1, seed=0)
    >>> x = np.sin(np.arange(200) / 5).reshape(20, 10, 1)
    >>> best, table = bf.restarts(net, x, x[:, 0], n=4, epochs=4, verbose=0)
    >>> table["epochs"], table["stopped"]
    ([4, 2, 1, 1], ['epochs', 'halving', 'halving', 'halving'])
    """

    drawing = "restarts"

    def __init__(self, *columns: str) -> None:
        super().__init__(*columns)
        self.networks: list[Network] = []
        self.histories: list[History] = []
        self.rungs: list[int] = []
        self.threads = 1
        self.seconds = 0.0


class Outcome(NamedTuple):
    """The pair of the best copy and the table of all, which a notebook shows as HTML."""

    best: Network
    table: Restarts

    def __repr__(self) -> str:
        first = {name: entries[0] for name, entries in self.table.items()}
        shown = ", ".join(f"{name} {notebook.short(value)}" for name, value in first.items())
        n = len(self.table.networks)
        return f"Outcome(best: {shown}; table: {n} fit{'s' * (n > 1)})"

    def _repr_html_(self) -> str:
        return self.table._repr_html_() + notebook.folded("The best network", self.best._repr_html_())


@suggesting
def restarts(
    net: Network,
    x: Any,
    y: Any,
    n: int = 32,
    *,
    epochs: int,
    keep: Keep = "halving",
    rungs: Sequence[int] | None = None,
    survivors: int = 1,
    seeds: Sequence[int] | None = None,
    grid: Mapping[str, Sequence[Any]] | None = None,
    draws: Mapping[str, Any] | None = None,
    threads: int | None = None,
    verbose: Verbose = "auto",
    backup: BackupAndRestore | None = None,
    **options: Any,
) -> Outcome:
    """Train n copies of a network from different seeds, drop the worse half repeatedly, return the best.

    Parameters
    ----------
    net : Network
        The description of the copies.  Its parameters are neither used nor changed: every copy starts from
        its own initial parameters.
    x, y : array or list
        As in ``Network.fit``; checked and converted once, for all copies.
    n : int, default 32
        Number of copies.
    epochs : int
        Epochs of the surviving copies.
    keep : {"halving", "all"}, default "halving"
        Whether to drop the worse half of the copies at each of the `rungs`, or to train all to the end.
    rungs : list of int, optional
        Epochs after which the worse half is dropped, increasing and below `epochs`.  Default: epochs / 2,
        / 4, / 8, ..., as many as needed to get from n to `survivors`.
    survivors : int, default 1
        Minimum number of copies trained to the end.
    seeds : list of n int, optional
        Default: the network's seed and those that follow it.
    grid : mapping of str to list, optional
        Settings to vary: arguments of `Network` ("hidden_size"), of ``Network.fit`` ("batch_size",
        "optimizer") and of the optimiser ("learning_rate", "clip_norm"), each with its values.  The copies
        cycle through all combinations; n is at least their number.
    draws : mapping of str to list, distribution or function, optional
        Settings to draw for each copy: from a list, from a distribution with a method `rvs` such as
        ``scipy.stats.loguniform(1e-4, 1e-1)``, or by a function of a ``numpy.random.Generator``.  The draws
        depend on the network's seed.
    threads : int, optional
        Number of copies trained concurrently, each on one thread; default: as many as the machine and the
        environment allow, see `show_config`.
    verbose : {"auto", 0, 1, 2}, default "auto"
        0: silence; else one line at each rung and at the end.
    backup : callbacks.BackupAndRestore, optional
        Backs up all copies together, so that the same call continues after a crash, to the bit.  The copies
        wait for each other every `every` epochs.
    **options
        Other arguments of ``Network.fit``, for every copy, except ``callbacks`` and ``initial_epoch``.  The
        `max_seconds` of a `Stopping` limits the time of all copies together.

    Returns
    -------
    best : Network
        The copy with the lowest loss (the validation loss if there is any, else the training loss) in its
        last epoch, with `patience` in its best one.
    table : Restarts
        One row per copy, the best first, as a dict of lists: seed, varied settings, losses, epochs, time.
        A notebook shows the pair as HTML; its attributes are `best` and `table`.

    Raises
    ------
    ShapeError, ConfigError
        If an argument is invalid, before any training.
    DivergedError
        If all copies diverged.  Its attribute `table` is the table.
    KeyboardInterrupt
        On Ctrl-C; the attributes `best` and `table` of the exception are the best copy so far and the table.

    Notes
    -----
    Copies are compared only at the rungs, so the result does not depend on `threads`, and each copy equals,
    to the bit, ``Network(..., seed=seed).fit(...)`` stopped after as many epochs.  If a copy has reached
    `target_loss` at a rung, the others end there.

    If the caller has chosen a backend by ``joblib.parallel_config``, its workers train the copies, each
    `threads` at a time, in a round of calls for each rung; the results are the same, to the bit.

    With the default rungs n copies cost about (1 + log2(n) / 2) trainings.  All copies, each with its plan,
    are in memory at the same time.

    K. Jamieson and A. Talwalkar, "Non-stochastic best arm identification and hyperparameter optimization",
    2016 (successive halving).

    Examples
    --------
    >>> import numpy as np, bptt_fast as bf
    >>> x = np.sin(np.arange(200) / 5).reshape(20, 10, 1)
    >>> net = bf.Network(1, 4, 1, seed=0)
    >>> best, table = bf.restarts(net, x, x[:, 0], n=8, epochs=16, draws={"learning_rate": [0.01, 0.03]},
    ...                           verbose=0)
    >>> len(table["loss"]), table.rungs
    (8, [2, 4, 8])
    >>> best is table.networks[0] and table["loss"][0] == min(table["loss"])
    True
    """
    start = time.perf_counter()
    check_network(net)
    n, epochs = integer(n, "n"), integer(epochs, "epochs")
    halts_at = _rungs(n, epochs, choice(keep, "keep", get_args(Keep)), rungs, survivors)
    prints = check_verbose(verbose)
    if backup is not None and not isinstance(backup, BackupAndRestore):
        raise ConfigError(f"backup: expected callbacks.BackupAndRestore(...) or None, got {backup!r}.")
    workers, isa = machine_for(threads, options.get("isa"))
    workers = min(workers, n)
    varied, settings = _settings(net, n, grid, draws, options)
    halt = threading.Event()
    job = _Job(net, data.Shared(x), y, shared_validation(options) | {"epochs": epochs, "isa": isa})
    copies = job.copies(_seeds(net, n, seeds), settings, halt)
    race, elsewhere = _Race(copies), backends.chosen()
    advance = partial(_advance, workers=workers, halt=halt)
    if elsewhere is not None:
        advance = partial(_distribute, workers=elsewhere, job=job.elsewhere(), threads=threads)
    pauses = list[int]()
    if backup is not None:
        given = {"n": n, "rungs": halts_at, "survivors": survivors}
        _restore(backup, race, given | {"settings": [named_functions(setting) for setting in settings]})
        pauses = list(range(backup.every, epochs, backup.every))
    start -= race.seconds

    def show(ranked: list[_Copy], stay: int) -> None:
        if prints:
            print(_line(race.until, epochs, ranked, stay, race.seconds), flush=True)

    error: BaseException | None = None
    try:
        for until in sorted({*halts_at, *pauses, epochs}):
            if until <= race.until:
                continue
            last = until == epochs
            advance(race.active, math.inf if last else until)
            race.until, race.seconds = until, time.perf_counter() - start
            if (last or until in halts_at) and race.halve(last, survivors, show):
                break
            if backup is not None:
                backup.save(until, race.state_dict)
    except KeyboardInterrupt as interrupt:
        error = interrupt
        for copy in copies:
            copy.end("interrupted")
    finally:
        if elsewhere is not None:
            elsewhere.close()
    table = _table(copies, varied)
    table.rungs, table.threads, table.seconds = race.dropped_at, workers, time.perf_counter() - start
    if error is not None:
        error.best, error.table = table.networks[0], table  # type: ignore[attr-defined]
        error.add_note(
            "restarts: the attributes best and table of the exception are the best copy so far and the table."
        )
        raise error
    if all(stopped == "diverged" for stopped in table["stopped"]):
        diverged = DivergedError(
            f"restarts: all {n} copies diverged.  Try a smaller learning_rate, or "
            f"clip_norm=1.0 in the optimizer."
        )
        diverged.table = table  # type: ignore[attr-defined]
        raise diverged
    if backup is not None:
        backup.on_train_end({})
    return Outcome(table.networks[0], table)


def _restore(backup: BackupAndRestore, race: _Race, given: dict[str, Any]) -> None:
    """Continue from the backup, if there is one; raise if it is of a call with other arguments."""
    given |= {"seeds": [copy.net.seed for copy in race.copies]}
    identity = race.copies[0].training.identity() | {name: repr(value) for name, value in given.items()}
    found = backup.find(identity)
    if found is not None:
        backup.restore(race, found)


@dataclasses.dataclass
class _Job(Common):
    """What all copies have in common; the data are converted once."""

    def copies(self, seeds: list[int], settings: list[Setting], halt: threading.Event) -> list[_Copy]:
        """Copies with these seeds and settings, whose arguments are checked."""
        copies: list[_Copy] = []
        for index, (seed, setting) in enumerate(zip(seeds, settings, strict=True)):

            def begin(copy: Network, arguments: dict[str, Any], setting: Setting = setting) -> _Copy:
                return _Copy(
                    len(copies), copy, Training(copy, self.x, self.y, arguments, halt.is_set), setting
                )

            copies.append(VARYING.train(self.net, seed, setting, f"copy {index}", self.options, begin))
        return copies


@dataclasses.dataclass(frozen=True)
class _Packed:
    """A copy on its way between processes."""

    index: int
    seed: int
    setting: Setting
    state: bytes | None  # no arrays, since some backends share those, and only to be read; None: it is new


class _Race(Resumable):
    """All copies, and those that no rung has dropped."""

    kept = ("until", "dropped_at", "seconds")

    def __init__(self, copies: list[_Copy]) -> None:
        self.copies = self.active = copies
        self.until, self.dropped_at, self.seconds = 0, list[int](), 0.0

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {
            "copies": [copy.training.state_dict() for copy in self.copies],
            "active": [copy.index for copy in self.active],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict(state)
        for copy, kept in zip(self.copies, state["copies"], strict=True):
            copy.training.load_state_dict(kept)
        self.active = [self.copies[index] for index in state["active"]]

    def halve(self, last: bool, survivors: int, show: Callable[[list[_Copy], int], None]) -> bool:
        """End the worse half of the copies; True if all ended: training is over, or has reached its target.

        `show` gets the copies by rank and how many of them continue, before the others end.
        """
        ranked = sorted(self.active, key=_Copy.rank)
        reached = any(copy.history.stopped == "target_loss" for copy in ranked)
        over = last or reached or all(copy.done for copy in ranked)
        stay = 0 if over else max(-(-len(ranked) // 2), survivors)
        show(ranked, stay)
        for copy in ranked[stay:]:
            copy.end("not needed" if over else "halving")
        if not over:
            self.dropped_at.append(self.until)
            self.active = ranked[:stay]
        return over


class _Copy:
    """One network in training, and its varied settings."""

    def __init__(self, index: int, net: Network, training: Training, setting: dict[str, Any]) -> None:
        self.index, self.net, self.training, self.setting = index, net, training, setting
        self.history = training.history

    @property
    def done(self) -> bool:
        return self.training.finished

    def advance(self, until: float, halt: threading.Event) -> bool:
        """Train for about SLICE_SECONDS; True if epoch `until` is not reached yet."""
        begin = time.perf_counter()
        while self.has_epochs(until) and not halt.is_set():
            self.attempt(self.training.advance)
            if time.perf_counter() - begin > SLICE_SECONDS:
                return self.has_epochs(until)
        return False

    def has_epochs(self, until: float) -> bool:
        """Whether the copy is not over and has not reached epoch `until`."""
        return not self.done and len(self.history["epoch"]) < until

    def packed(self) -> _Packed:
        """The copy as it is now."""
        new = not self.done and not self.history["epoch"]
        state = None if new else pickle.dumps(self.training.state_dict(), pickle.HIGHEST_PROTOCOL)
        return _Packed(self.index, self.net.seed, self.setting, state)

    def unpack(self, packed: _Packed) -> None:
        """Take over the state of the same copy; its time limit also counts the time of its way."""
        if packed.state is None:
            return
        watch = self.training.watch
        begin = watch.begin
        self.training.load_state_dict(pickle.loads(packed.state))
        watch.begin = min(begin, watch.begin)

    def attempt(self, step: Callable[[], Step]) -> Step | None:
        """The result of a step of the training, which is over if that is None or False, or it diverges."""
        try:
            result = step()
            if not result:
                self.training.close()
            return result
        except DivergedError:
            self.end("diverged")
            return None

    def end(self, why: str) -> None:
        """Stop the copy, unless it has ended, and release its plan and the optimiser state."""
        if not self.done:
            self.training.close()
            self.history.stopped = why

    def losses(self) -> dict[str, float]:
        """Training and validation loss of the epoch whose weights the network has."""
        return losses_of_weights(self.history)

    def rank(self) -> tuple[bool, float, int]:
        """A sort key, lower is better; diverged copies come last."""
        loss = list(self.losses().values())[-1]
        lost = self.history.stopped == "diverged" or not math.isfinite(loss)
        return lost, math.inf if lost else loss, self.index


class _Team:
    """Copies of the online algorithm that the core trains at once, each in a lane of its vectors."""

    def __init__(self, copies: list[_Copy], plan: Any) -> None:
        self.copies, self.plan = copies, plan

    def advance(self, until: float, halt: threading.Event) -> bool:
        """Train for about SLICE_SECONDS; True if epoch `until` is not reached yet."""
        begin = time.perf_counter()
        while not halt.is_set():
            active = [copy for copy in self.copies if copy.has_epochs(until)]
            if len(active) < fewest_copies(self.plan):
                return any([copy.advance(until, halt) for copy in active])
            self._epoch(active)
            if time.perf_counter() - begin > SLICE_SECONDS:
                return True
        return False

    def _epoch(self, copies: list[_Copy]) -> None:
        """Train these copies for an epoch, those that are not over when it begins."""
        polls = [(copy, copy.attempt(copy.training.begin_epoch)) for copy in copies]
        begun = [(copy, poll) for copy, poll in polls if poll is not None]
        if not begun:
            return
        runners = [cast("SlidingRunner", copy.training.runner) for copy, _ in begun]
        ends = epoch_of_copies(self.plan, runners, lambda done: any(poll(done) for _, poll in begun))
        for (copy, _), (status, done) in zip(begun, ends, strict=True):
            copy.attempt(partial(copy.training.end_epoch, status, done))


def _teams(copies: list[_Copy], workers: int) -> list[_Copy | _Team]:
    """The copies, those in teams that the core trains faster at once, if there are enough for all workers."""
    kinds: dict[Hashable, list[_Copy]] = {}
    for copy in copies:
        runner = None if copy.done else copy.training.runner
        common = runner.common() if isinstance(runner, SlidingRunner) else None
        kinds.setdefault(copy if common is None else common, []).append(copy)
    teams: list[_Copy | _Team] = []
    for alike in kinds.values():
        share = -(-len(alike) // workers)
        while alike:
            n, plan = min(share, len(alike)), None
            if n > 1:
                plan = cast("SlidingRunner", alike[0].training.runner).copies_plan(n)
            if plan is None:
                teams += alike
                break
            n = min(plan.copies, n)
            teams.append(_Team(alike[:n], plan))
            alike = alike[n:]
    return teams


def _advance(copies: list[_Copy], until: float, workers: int, halt: threading.Event) -> None:
    """Train all copies up to epoch `until` in worker threads."""
    waiting = deque(_teams(copies, workers))

    def work() -> None:
        while not halt.is_set():
            try:
                copy = waiting.popleft()
            except IndexError:
                return
            if copy.advance(until, halt):
                waiting.append(copy)

    in_threads(work, min(workers, len(copies)), halt)


def _distribute(
    copies: list[_Copy], until: float, workers: backends.Workers, job: _Job, threads: int | None
) -> None:
    """Train all copies up to epoch `until` in the workers, each as many at a time as it has threads."""
    waiting = [copy for copy in copies if copy.has_epochs(until)]
    parts = [waiting[k :: workers.n] for k in range(min(workers.n, len(waiting)))]
    calls = [([copy.packed() for copy in part], until, threads) for part in parts]
    at = {copy.index: copy for copy in waiting}
    for found in workers.results(_remotely, job, calls):
        for packed in found:
            at[packed.index].unpack(packed)


def _remotely(job: _Job, packed: list[_Packed], until: float, threads: int | None) -> list[_Packed]:
    """These copies at epoch `until`, in a worker."""
    halt = threading.Event()
    copies = job.copies([copy.seed for copy in packed], [copy.setting for copy in packed], halt)
    for copy, state in zip(copies, packed, strict=True):
        copy.index = state.index
        copy.unpack(state)
    _advance(copies, until, min(machine_for(threads, None)[0], len(copies)), halt)
    return [copy.packed() for copy in copies]


# ---- before and after


def _settings(
    net: Network,
    n: int,
    grid: Mapping[str, Sequence[Any]] | None,
    draws: Mapping[str, Any] | None,
    options: dict[str, Any],
) -> tuple[list[str], list[Setting]]:
    """The names of the varied settings, and each copy's values."""
    refused = {name: VARYING.common[name] for name in ("callbacks", "initial_epoch")}
    VARYING.check_options(options, refused, restarts)
    grid, draws = VARYING.check_varied(grid, draws, options)
    if draws:
        return list(draws), drawn(draws, net.seed, n)
    choices = combinations(grid)
    if len(choices) > n:
        raise ConfigError(
            f"n: expected at least {len(choices)}, the number of combinations in grid, got {n}."
        )
    return list(grid), [choices[i % len(choices)] for i in range(n)]


def _seeds(net: Network, n: int, seeds: Sequence[int] | None) -> list[int]:
    if seeds is None:
        return [(net.seed + i) % 2**64 for i in range(n)]
    checked = check_seeds(seeds, f"{n} integers")
    if len(checked) != n:
        raise ConfigError(
            f"seeds: expected {n} of them, one per copy, got {len(checked)}.  Change n or seeds."
        )
    return checked


def _rungs(n: int, epochs: int, keep: str, rungs: Sequence[int] | None, survivors: int) -> list[int]:
    """The checked or default epochs after which copies are dropped."""
    survivors = integer(survivors, "survivors", 1, n)
    if keep == "all":
        if rungs is not None:
            raise ConfigError(f'rungs: expected None with keep="all", which drops no copy, got {rungs!r}.')
        if survivors > 1:
            raise ConfigError(
                f'survivors: expected 1 with keep="all", which drops no copy, got {survivors}.  Leave it out.'
            )
        return []
    if rungs is None:
        halvings = max(0, math.ceil(math.log2(n / survivors)))
        return sorted({epochs >> i for i in range(1, halvings + 1)} - {0, epochs})
    try:
        checked = [integer(rung, f"rungs[{i}]", 1, None) for i, rung in enumerate(rungs)]
    except TypeError:
        raise ConfigError(f"rungs: expected a list of epochs, got {rungs!r}.") from None
    if any(a >= b for a, b in itertools.pairwise([*checked, epochs])):
        raise ConfigError(f"rungs: expected increasing epochs below epochs={epochs}, got {checked}.")
    return checked


def _table(copies: list[_Copy], varied: list[str]) -> Restarts:
    copies = sorted(copies, key=_Copy.rank)
    table = Restarts("seed", *varied, *copies[0].losses(), "epochs", "seconds", "stopped")
    for copy in copies:
        row = {"seed": copy.net.seed, **copy.setting, **copy.losses()}
        row |= {"epochs": len(copy.history["epoch"]), "seconds": sum(copy.history["seconds"])}
        row["stopped"] = copy.history.stopped
        table.add(row)
        table.networks.append(copy.net)
        table.histories.append(copy.history)
    return table


def _line(epoch: int, epochs: int, ranked: list[_Copy], stay: int, seconds: float) -> str:
    losses = [loss for lost, loss, _ in map(_Copy.rank, ranked) if not lost]
    summary = f"best {losses[0]:.6g}, median {np.median(losses):.6g}" if losses else "all diverged"
    copies = "1 copy" if len(ranked) == 1 else f"{len(ranked)} copies"
    line = f"epoch {epoch}/{epochs}  {copies}: {summary}  {seconds:.3g} s"
    return line + (f"; {stay} continue" if stay else "")
