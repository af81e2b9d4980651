"""Restarts: concurrent training of many copies of a network from different seeds or settings.

A copy is a fit that pauses between epochs, each of which is one call of the C core without the GIL.  Worker
threads process the copies from a queue, so results cannot depend on the number of workers.
"""

from __future__ import annotations

import dataclasses
import inspect
import itertools
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Hashable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar, cast

import numpy as np

from . import data, optimizers, unfolding
from .callbacks import BackupAndRestore, Table, check_verbose
from .description import Description
from .errors import ConfigError, DivergedError, ShapeError, choice, integer, plain
from .fit import Training, fit
from .interrupts import wait
from .machine import machine_for
from .model import Model
from .resuming import Resumable
from .runners import SlidingRunner, epoch_of_copies, fewest_copies

if TYPE_CHECKING:
    from .callbacks import History
    from .network import Network

SLICE_SECONDS = 0.05  # approximate time that a worker spends on a copy before the next
# arguments of fit that cannot differ between copies, and why
COMMON = {
    "epochs": "it is an argument of restarts itself",
    "threads": "it is an argument of restarts itself",
    "verbose": "it is an argument of restarts itself",
    "callbacks": "a callback watches one fit; read the histories of the table instead",
    "initial_epoch": "every copy begins with its first epoch",
    "x0": "pass it to restarts, it is the same for all copies",
    "sample_weight": "pass it to restarts, it is the same for all copies",
    "lengths": "pass it to restarts, it is the same for all copies",
    "validation_data": "pass it to restarts, it is the same for all copies",
    "scaling": "the losses of different scalings cannot be compared; pass it to restarts",
    "seed": "pass seeds=[...]",
}
OF_ALL = ("x0", "sample_weight", "lengths", "validation_data", "scaling")


Step = TypeVar("Step")


class Restarts(Table):
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
        Number of copies trained concurrently.
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

    def rows(self) -> list[dict[str, Any]]:
        """Rows of the table.

        Returns
        -------
        rows : list of dict
            One dict per copy, the best first, with the keys of the table.
        """
        return [dict(zip(self, row, strict=True)) for row in zip(*self.values(), strict=True)]

    def __str__(self) -> str:
        texts = [list(self)] + [[_short(value) for value in row.values()] for row in self.rows()]
        widths = [max(map(len, column)) for column in zip(*texts, strict=True)]
        return "\n".join(
            "  ".join(text.rjust(width) for text, width in zip(row, widths, strict=True)) for row in texts
        )


def restarts(
    net: Network,
    x: Any,
    y: Any,
    n: int = 32,
    *,
    epochs: int,
    keep: str = "halving",
    rungs: Sequence[int] | None = None,
    survivors: int = 1,
    seeds: Sequence[int] | None = None,
    grid: Mapping[str, Sequence[Any]] | None = None,
    draws: Mapping[str, Any] | None = None,
    threads: int | None = None,
    verbose: int | str = "auto",
    backup: BackupAndRestore | None = None,
    **options: Any,
) -> tuple[Network, Restarts]:
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
    if not isinstance(net, Model):
        raise ConfigError(f"net: expected a Network, got {type(net).__name__}.")
    n, epochs = integer(n, "n"), integer(epochs, "epochs")
    halts_at = _rungs(n, epochs, choice(keep, "keep", ("halving", "all")), rungs, survivors)
    prints = check_verbose(verbose)
    if backup is not None and not isinstance(backup, BackupAndRestore):
        raise ConfigError(f"backup: expected callbacks.BackupAndRestore(...) or None, got {backup!r}.")
    workers = min(machine_for(threads, options.get("isa"))[0], n)
    varied, settings = _settings(net, n, grid, draws, options)
    halt = threading.Event()
    copies = _prepare(net, x, y, epochs, _seeds(net, n, seeds), settings, options, halt)
    race = _Race(copies)
    pauses = list[int]()
    if backup is not None:
        given = {"n": n, "rungs": halts_at, "survivors": survivors, "settings": _plain(settings)}
        given["seeds"] = [copy.net.seed for copy in copies]
        found = backup.find(
            copies[0].training.identity() | {name: repr(value) for name, value in given.items()}
        )
        if found is not None:
            backup.restore(race, found)
        pauses = list(range(backup.every, epochs, backup.every))
    start -= race.seconds
    error: BaseException | None = None
    try:
        for until in sorted({*halts_at, *pauses, epochs}):
            if until <= race.until:
                continue
            last = until == epochs
            _advance(race.active, math.inf if last else until, workers, halt)
            race.until, race.seconds = until, time.perf_counter() - start
            if last or until in halts_at:
                ranked = sorted(race.active, key=_Copy.rank)
                reached = any(copy.history.stopped == "target_loss" for copy in ranked)
                over = last or reached or all(copy.done for copy in ranked)
                stay = len(ranked) if over else max(-(-len(ranked) // 2), survivors)
                if prints:
                    print(_line(until, epochs, ranked, 0 if over else stay, race.seconds), flush=True)
                for copy in ranked if over else ranked[stay:]:
                    copy.end("not needed" if over else "halving")
                if over:
                    break
                race.dropped_at.append(until)
                race.active = ranked[:stay]
            if backup is not None:
                backup.save(until, race.state_dict)
    except KeyboardInterrupt as interrupt:
        error = interrupt
        for copy in copies:
            copy.end("interrupted")
    table = _table(copies, varied)
    table.rungs, table.threads, table.seconds = race.dropped_at, workers, time.perf_counter() - start
    if error is not None:
        error.best, error.table = table.networks[0], table  # type: ignore[attr-defined]
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
    return table.networks[0], table


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
        record = self.history
        columns = [name for name in ("loss", "val_loss") if name in record]
        if not record["epoch"]:
            return dict.fromkeys(columns, math.nan)
        at = -1 if record.best_epoch is None else record["epoch"].index(record.best_epoch)
        return {name: record[name][at] for name in columns}

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
    errors: list[BaseException] = []

    def work(finished: threading.Event) -> None:
        try:
            while not halt.is_set():
                copy = waiting.popleft()
                if copy.advance(until, halt):
                    waiting.append(copy)
        except IndexError:
            pass
        except BaseException as error:
            errors.append(error)
            halt.set()
        finally:
            finished.set()

    if workers == 1 or len(copies) == 1:
        work(threading.Event())
    else:
        ends = [threading.Event() for _ in range(min(workers, len(copies)))]
        team = [threading.Thread(target=work, args=(end,), daemon=True) for end in ends]
        try:
            for worker in team:
                worker.start()
            for end in ends:  # not join: an interrupt makes it report a running thread as ended
                wait(end)
        except BaseException as error:
            errors.append(error)
            halt.set()
        for worker, end in zip(team, ends, strict=True):
            if worker.ident is not None:
                end.wait()
                worker.join()
    if errors:
        raise errors[0]


# ---- before and after


def _prepare(
    net: Network,
    x: Any,
    y: Any,
    epochs: int,
    seeds: list[int],
    settings: list[dict[str, Any]],
    options: dict[str, Any],
    halt: threading.Event,
) -> list[_Copy]:
    """All copies with checked arguments; the data are converted once."""
    config = {field.name: getattr(net.description, field.name) for field in dataclasses.fields(Description)}
    defaults = {
        name: parameter.default
        for name, parameter in _fit_parameters().items()
        if parameter.default is not inspect.Parameter.empty
    }
    shared = data.Shared(x)
    options = dict(options)
    validation = options.get("validation_data")
    if isinstance(validation, (tuple, list)) and len(validation) in (2, 3):
        options["validation_data"] = (data.Shared(validation[0]), *validation[1:])
    copies = []
    for index, (seed, setting) in enumerate(zip(seeds, settings, strict=True)):
        own = {name: value for name, value in setting.items() if name in config}
        if "cell" in own or "f" in own:  # nonlinearities depend on the cell
            own = {"nonlinearity": None} | own
        try:
            copy = type(net)(**(config | own | {"seed": seed}))
            copy.extra, copy.columns, copy.rules = dict(net.extra), net.columns, net.rules
            arguments = defaults | options | {"epochs": epochs, "threads": 1, "verbose": 0}
            arguments |= {name: value for name, value in setting.items() if name in defaults}
            of_optimizer = {k: v for k, v in setting.items() if k not in config and k not in defaults}
            if of_optimizer:
                _check_fields(_optimizer(arguments), of_optimizer)
                arguments["optimizer"] = dataclasses.replace(_optimizer(arguments), **of_optimizer)
            training = Training(copy, shared, y, arguments, halt.is_set)
            copies.append(_Copy(index, copy, training, setting))
        except (ConfigError, ShapeError) as error:
            if not setting:
                raise
            values = ", ".join(f"{name}={value!r}" for name, value in setting.items())
            raise type(error)(f"restarts, copy {index} with {values}: {error}") from None
    return copies


def _fit_parameters() -> dict[str, inspect.Parameter]:
    names = dict(inspect.signature(fit).parameters)
    return {name: names[name] for name in names if name not in ("net", "x", "y")}


def _check_fields(optimizer: optimizers.Optimizer, names: Mapping[str, Any]) -> None:
    """Raise for fields that the optimiser does not have, such as the learning rate of second order."""
    for name in names:
        if name not in {field.name for field in dataclasses.fields(optimizer)}:
            raise ConfigError(
                f"{name}: {type(optimizer).__name__} has none.  Leave it out, or use SGD() or Adam()."
            )


def _optimizer(arguments: Mapping[str, Any]) -> optimizers.Optimizer:
    """The optimiser that `fit` uses for these arguments."""
    chosen = arguments["optimizer"]
    if chosen is None:
        chosen = unfolding.get(arguments["bptt"]).default_optimizer
    return optimizers.get(chosen)


def _settings(
    net: Network,
    n: int,
    grid: Mapping[str, Sequence[Any]] | None,
    draws: Mapping[str, Any] | None,
    options: dict[str, Any],
) -> tuple[list[str], list[dict[str, Any]]]:
    """The names of the varied settings, and each copy's values."""
    known = _fit_parameters()
    for name in options:
        if name in ("callbacks", "initial_epoch"):
            raise ConfigError(f"{name}: restarts does not accept it; {COMMON[name]}.")
        choice(name, "restarts, argument", [key for key in known if key not in COMMON or key in OF_ALL])
    if grid is not None and draws is not None:
        raise ConfigError(
            "draws: expected None with grid, got both.  Values of a list in draws are drawn at random."
        )
    name = "grid" if grid is not None else "draws"
    varied = grid if grid is not None else {} if draws is None else draws
    if not isinstance(varied, Mapping):
        raise ConfigError(f"{name}: expected a dict of names and values, got {type(varied).__name__}.")
    _check_names(varied, name, options)
    if grid is not None:
        for key, values in varied.items():
            _check_values(values, f"grid[{key!r}]")
        combinations = [
            dict(zip(varied, values, strict=True)) for values in itertools.product(*varied.values())
        ]
        if len(combinations) > n:
            raise ConfigError(
                f"n: expected at least {len(combinations)}, the number of combinations in grid, got {n}."
            )
        return list(varied), [combinations[i % len(combinations)] for i in range(n)]
    random = np.random.default_rng([net.seed, 0x64726177])  # "draw"
    sources = {key: _source(value, f"draws[{key!r}]") for key, value in varied.items()}
    return list(varied), [{key: draw(random) for key, draw in sources.items()} for _ in range(n)]


def _check_names(varied: Mapping[str, Any], name: str, options: Mapping[str, Any]) -> None:
    network = [field.name for field in dataclasses.fields(Description) if field.name != "seed"]
    of_fit = [key for key in _fit_parameters() if key not in COMMON]
    chosen = _optimizer({"optimizer": options.get("optimizer"), "bptt": options.get("bptt")})
    of_optimizer = {field.name for field in dataclasses.fields(chosen)}
    if "optimizer" in varied:
        of_optimizer |= {"learning_rate"}
    for key in varied:
        if key in COMMON:
            raise ConfigError(f"{name}: {key!r} cannot be varied; {COMMON[key]}.")
        choice(key, f"{name}, name", [*network, *of_fit, *sorted(of_optimizer)])


def _check_values(values: Any, name: str) -> None:
    if not isinstance(values, (list, tuple, np.ndarray)) or len(values) == 0:
        raise ConfigError(f"{name}: expected a list of at least one value, got {values!r}.")


def _source(value: Any, name: str) -> Callable[[np.random.Generator], Any]:
    """A function that draws one value."""
    if hasattr(value, "rvs"):
        return lambda random: plain(value.rvs(random_state=random))
    if callable(value):
        return lambda random: plain(value(random))
    if not isinstance(value, (list, tuple, np.ndarray)) or len(value) == 0:
        raise ConfigError(
            f"{name}: expected a list of values, a distribution with a method rvs, or a function of a "
            f"numpy.random.Generator, got {value!r}."
        )
    return lambda random: plain(value[random.integers(len(value))])


def _seeds(net: Network, n: int, seeds: Sequence[int] | None) -> list[int]:
    if seeds is None:
        return [(net.seed + i) % 2**64 for i in range(n)]
    try:
        checked = [integer(seed, f"seeds[{i}]", 0, 2**64 - 1) for i, seed in enumerate(seeds)]
    except TypeError:
        raise ConfigError(f"seeds: expected a list of {n} integers, got {seeds!r}.") from None
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


def _plain(settings: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The settings with the names of functions in place of their addresses."""
    return [{k: getattr(v, "__qualname__", v) for k, v in setting.items()} for setting in settings]


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
