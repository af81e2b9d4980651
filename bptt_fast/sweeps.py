"""Sweeps: one fit for each subject, fold, setting and seed, concurrent in threads, with results in a folder.

A fit is a `fit.Training` on subsets of shared data; each epoch is one call of the C core without the GIL.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from functools import partial
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import numpy as np

from . import backends, data, losses, stopping, unfolding
from .callbacks import Comparison, check_verbose, fit_progress
from .choices import Readout, Verbose
from .errors import (
    MALFORMED,
    ConfigError,
    CorruptFileError,
    DivergedError,
    ShapeError,
    flag,
    integer,
    suggesting,
)
from .fit import Training
from .folds import Part, parts
from .inference import evaluate, training_data
from .interrupts import in_threads
from .machine import machine_for
from .model import check_network
from .persistence import load
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
from .storage import json_object, save
from .writing import named, naming, replace, shorten

if TYPE_CHECKING:
    from .network import Network

Row = dict[str, Any]
Add = Callable[[int, Row, "Network | None"], None]

VARYING = Varying("sweep", "read the table instead")
REFUSED = {name: VARYING.common[name] for name in ("callbacks", "initial_epoch")}
REFUSED["lengths"] = "pass a list of sequences"
FORMAT = "bptt_fast 1 sweep"
LABELS = ("subject", "fold", "inner")  # of the parts of the data
FITS, NETWORKS = "fits.jsonl", "networks"  # in the folder of a sweep


class Sweep(Comparison):
    """The table of `sweep` and `cross_validate`: a dict of lists of equal length, one entry per fit.

    Keys are "subject", "fold" and "inner" (the labels of the data, if there are any), "seed", the names of
    the varied settings, "train_loss", "val_loss" and "test_loss" (of the weights that the network has at the
    end; if there is validation these are the best ones), "epochs" (their number), "best_epoch" (None if no
    weights were restored), "seconds" (the duration of the epochs) and "stopped", as in `History`, or
    "diverged", with losses that are NaN.

    Attributes
    ----------
    networks : list of Network
        With ``keep=True`` the networks, in the order of the table; else empty.
    threads : int
        Number of fits that ran concurrently, without a backend of joblib.

    Examples
    --------
    >>> import numpy as np, bptt_fast as bf
    >>> net = bf.Network(1, 4, 1, seed=0)
    >>> x = np.sin(np.arange(200) / 5).reshape(20, 10, 1)
    >>> table = bf.cross_validate(net, x, x[:, 0], cv=4, epochs=2, verbose=0)
    >>> table["fold"], len(table["test_loss"])
    ([0, 1, 2, 3], 4)
    """

    def __init__(self, *columns: str) -> None:
        super().__init__(*columns)
        self.networks: list[Network] = []
        self.threads = 1


@suggesting
def sweep(
    net: Network,
    x: Any,
    y: Any,
    *,
    epochs: int,
    cv: Any = None,
    inner: Any = None,
    groups: Any = None,
    subjects: Any = None,
    grid: Mapping[str, Sequence[Any]] | None = None,
    draws: Mapping[str, Any] | None = None,
    n: int | None = None,
    seeds: Sequence[int] | None = None,
    folder: str | os.PathLike[str] | None = None,
    keep: bool = False,
    threads: int | None = None,
    verbose: Verbose = "auto",
    **options: Any,
) -> Sweep:
    """Fit a network for each subject, fold, inner fold, setting and seed, and return a table of losses.

    Parameters
    ----------
    net : Network
        The description of the networks.  Its parameters are neither used nor changed.
    x, y : array (n, T, I) or list, array or list
        As in ``Network.fit``, several sequences; checked and converted once, and shared by all fits.
    epochs : int
        Maximum number of epochs of a fit.
    cv : int, array of int (n,), splitter or list of pairs, optional
        The outer folds, which are held out for the test: a number of contiguous folds, the number of the
        fold of each sequence, a splitter of scikit-learn, or pairs (train, test) of indices.  Default: no
        test.
    inner : as cv, optional
        The folds of the other sequences, each held out for validation.  Fold numbers may be those of `cv`:
        of 5 folds, each is the test once, and for each test the other 4 are the validation once.
    groups : array (n,) or (n, columns), optional
        Labels, such as the session: all sequences of a group stay on one side of each fold.
    subjects : array (n,), optional
        Labels: the sequences of each are fitted apart.
    grid : mapping of str to list, optional
        Settings to vary, all combinations, as in `restarts`.
    draws : mapping of str to list, distribution or function, optional
        Settings to draw `n` times, as in `restarts`; the same for all folds and subjects.
    n : int, optional
        Number of draws.
    seeds : list of int, optional
        Seeds of the networks.  Default: the seed of `net`.
    folder : str or path-like, optional
        Where results are written as they come.  The same call with this folder continues after a crash,
        and returns the same table.
    keep : bool, default False
        Whether to return the networks too, and with `folder` to write them.
    threads : int, optional
        Number of concurrent fits, each on one thread; default: as many as the machine and the environment
        allow, see `show_config`.
    verbose : {"auto", 0, 1, 2}, default "auto"
        0: silence; 1: a progress bar over the fits, with the time left; 2: at most a hundred lines; "auto":
        1 on a terminal and in a notebook, else 2.
    **options
        Other arguments of ``Network.fit``, for every fit, except `callbacks`, `initial_epoch` and `lengths`
        (pass a list of sequences instead).

    Returns
    -------
    table : Sweep
        A dict of lists, one entry per fit.

    Raises
    ------
    ShapeError, ConfigError
        If an argument is invalid, before any training: if folds do not cover the sequences, a group lies on
        both sides of a fold, or the folder belongs to another sweep, which is left as it is.
    CorruptFileError
        If a file in the folder is damaged.
    KeyboardInterrupt
        On Ctrl-C; the attribute `table` of the exception has the finished fits.

    Notes
    -----
    Each fit equals, to the bit, ``Network(..., seed=seed).fit(x[train], y[train], validation_data=(x[val],
    y[val]), ...)``, and its test loss ``evaluate(x[test], y[test])``, for any number of threads.  If there is
    validation and no `patience`, the best weights are restored as with ``patience=epochs``.

    If the caller has chosen a backend by ``joblib.parallel_config``, its workers run the fits, each `threads`
    at a time; the results are the same, to the bit.

    Rows of inputs and targets are not copied per fit, except with `scaling`, whose values depend on the fold.

    The folder holds ``sweep.json``, which identifies the sweep (all arguments, and the data by a checksum),
    ``fits.jsonl``, one line per finished fit, and with `keep` the networks.  A seed that was chosen at random
    differs in the next call: pass ``Network(seed=...)`` or `seeds`.

    Examples
    --------
    >>> import numpy as np, bptt_fast as bf
    >>> x = np.sin(np.arange(200) / 5).reshape(20, 10, 1)
    >>> net = bf.Network(1, 4, 1, seed=0)
    >>> folds = np.arange(20) % 5
    >>> table = bf.sweep(net, x, x[:, 0], cv=folds, inner=folds, grid={"hidden_size": [1, 2]}, epochs=3,
    ...                  seeds=[0, 1, 2], verbose=0)
    >>> len(table["val_loss"]), table.rows()[0]["hidden_size"]
    (120, 1)
    """
    check_network(net)
    workers, isa = machine_for(threads, options.get("isa"))
    shown, keep = check_verbose(verbose), flag(keep, "keep")
    options = options | {"epochs": integer(epochs, "epochs"), "isa": isa}  # the same on all machines
    plan = _plan(net, x, y, options, (cv, inner, groups, subjects), (grid, draws, n), seeds, keep)
    store = _Store(plan, None if folder is None else named(folder, "folder"))
    left = [i for i in range(len(plan)) if i not in store.rows]
    display = fit_progress(shown, len(plan), len(store.rows))
    lock = threading.Lock()

    def add(i: int, row: Row, copy: Network | None) -> None:
        with lock:
            store.add(i, row, copy)
            display.end(len(store.rows))

    elsewhere = backends.chosen()
    try:
        if elsewhere is None:
            plan.run(left, workers, add)
        else:
            _distribute(elsewhere, plan, left, threads, add)
    except KeyboardInterrupt as interrupt:
        interrupt.table = store.table(workers)  # type: ignore[attr-defined]
        interrupt.add_note(
            f"sweep: the attribute table of the exception has the {len(store.rows)} finished of {len(plan)} "
            f"fits" + ("." if folder is None else "; with the same folder, the same call continues.")
        )
        raise
    finally:
        display.close()
        if elsewhere is not None:
            elsewhere.close()
    return store.table(workers)


def _distribute(
    workers: backends.Workers, plan: _Plan, left: list[int], threads: int | None, add: Add
) -> None:
    """Run these fits in the workers, each as many at a time as it has threads."""
    size = max(1, min(len(left) // (4 * workers.n), 100))
    calls = [(left[k : k + size], threads) for k in range(0, len(left), size)]
    for found in workers.results(_remotely, plan.elsewhere(), calls):
        for results in found:
            add(*results)


def _remotely(plan: _Plan, left: list[int], threads: int | None) -> list[tuple[int, Row, Network | None]]:
    """The results of these fits, in a worker."""
    found: list[tuple[int, Row, Network | None]] = []
    plan.run(left, machine_for(threads, None)[0], lambda *results: found.append(results))
    return found


@suggesting
def cross_validate(net: Network, x: Any, y: Any, *, cv: Any = 5, **arguments: Any) -> Sweep:
    """Fit a network for each fold, and return a table of training and test losses.

    Parameters
    ----------
    net, x, y
        As in `sweep`.
    cv : int, array of int (n,), splitter or list of pairs, default 5
        The folds, each of which is the test of one fit per seed.
    **arguments
        Other arguments of `sweep`: `epochs`, `groups`, `seeds`, arguments of ``Network.fit``, ...

    Returns
    -------
    table : Sweep
        A dict of lists, one entry per fit.

    Raises
    ------
    ShapeError, ConfigError
        As `sweep`.

    Examples
    --------
    >>> import numpy as np, bptt_fast as bf
    >>> x = np.sin(np.arange(200) / 5).reshape(20, 10, 1)
    >>> net = bf.Network(1, 4, 1, seed=0)
    >>> table = bf.cross_validate(net, x, x[:, 0], cv=np.arange(20) % 2, seeds=[0, 1], epochs=2, verbose=0)
    >>> table["fold"], table["seed"]
    ([0, 0, 1, 1], [0, 1, 0, 1])
    """
    if cv is None:
        raise ConfigError("cv: expected folds, got None.  Use sweep for fits without a test.")
    return sweep(net, x, y, cv=cv, **arguments)


class _Fit:
    """One fit: its training, which has not begun, and its results at the end."""

    def __init__(
        self, plan: _Plan, part: Part, halt: Callable[[], bool], net: Network, arguments: Row
    ) -> None:
        self.net, self.arguments, self.y, self.halt = net, arguments, plan.y, halt
        scaled, weight = data.Shared(plan.x.x), arguments["sample_weight"]
        train, validation, test = (
            data.Subset(plan.x, rows, scaled) for rows in (part.train, part.validation, part.test)
        )
        self.test = test if len(part.test) else None
        if len(part.validation):
            arguments["validation_data"] = (validation, plan.y, *([] if weight is None else [weight]))
        rules = stopping.get(arguments["patience"])
        validates = arguments["validation_data"] is not None or arguments["validation_split"]
        if validates and rules.patience is None:
            arguments["patience"] = dataclasses.replace(rules, patience=arguments["epochs"])
        self.every = unfolding.get(arguments["bptt"]).every(net)
        self.training = Training(net, train, plan.y, arguments, halt)

    def run(self) -> bool:
        """Train to the end; False if the fit was halted."""
        training = self.training
        try:
            with closing(training):
                while not (self.halt() or training.finished):
                    training.advance()
        except DivergedError:
            training.history.stopped = "diverged"
        return training.history.stopped not in ("", "interrupted")

    def results(self) -> Row:
        """Losses, epochs and time."""
        history = self.training.history
        kept = losses_of_weights(history)
        row: Row = {"train_loss": kept.pop("loss"), **kept}
        if self.test is not None:
            row["test_loss"] = self.test_loss()
        if history.stopped == "diverged":
            row = dict.fromkeys(row, math.nan)
        row |= {"epochs": len(history["epoch"]), "best_epoch": history.best_epoch}
        return row | {"seconds": sum(history["seconds"]), "stopped": history.stopped}

    def test_loss(self) -> float:
        """The loss of the sequences of the test, NaN if it is not finite."""
        same = {name: self.arguments[name] for name in ("loss", "x0", "sample_weight", "isa")}
        readout: Readout = "every" if self.every else "last"
        try:
            return evaluate(self.net, self.test, self.y, readout=readout, threads=1, **same)
        except DivergedError:
            return math.nan


@dataclasses.dataclass
class _Plan(Common):
    """All fits of a sweep, by number, so that they can run anywhere in any order."""

    parts: list[Part]
    settings: list[Setting]
    seeds: list[int]
    keep: bool

    def __len__(self) -> int:
        return len(self.parts) * len(self.settings) * len(self.seeds)

    def run(self, left: Sequence[int], workers: int, add: Add) -> None:
        """Run these fits in so many threads; `add` gets the results of each as it ends."""
        waiting, halt, lock = iter(left), threading.Event(), threading.Lock()

        def work() -> None:
            while not halt.is_set():
                with lock:
                    i = next(waiting, None)
                if i is None:
                    return
                fit = self.fit(i, halt.is_set)
                if fit.run():
                    add(i, fit.results(), fit.net if self.keep else None)

        in_threads(work, max(1, min(workers, len(left))), halt)

    def labels(self, i: int) -> Row:
        """What distinguishes fit i, by column."""
        part, setting, seed = self._of(i)
        first = self.parts[0]
        row = {name: getattr(part, name) for name in LABELS if getattr(first, name) is not None}
        return row | {"seed": seed, **setting}

    def fit(self, i: int, halt: Callable[[], bool]) -> _Fit:
        """Fit i, whose arguments are checked."""
        part, setting, seed = self._of(i)
        begin = partial(_Fit, self, part, halt)
        fit: _Fit = VARYING.train(self.net, seed, setting, f"fit {i}", self.options, begin)
        return fit

    def _of(self, i: int) -> tuple[Part, Setting, int]:
        rest, seed = divmod(i, len(self.seeds))
        part, setting = divmod(rest, len(self.settings))
        return self.parts[part], self.settings[setting], self.seeds[seed]

    def check(self) -> tuple[list[str], dict[str, str]]:
        """Check the arguments of each setting; the names of the results, and what they depend on, by name."""
        for j in reversed(range(len(self.settings))):
            fit = self.fit(j * len(self.seeds), bool)
            columns = ["train_loss", *["val_loss"] * ("val_loss" in fit.training.history)]
            columns += ["test_loss"] * (fit.test is not None)
            identity = fit.training.identity()
            fit.training.close()
        loss, weight, x0 = (fit.arguments[name] for name in ("loss", "sample_weight", "x0"))
        raw = dataclasses.replace(self.net.columns, scaling=None)
        whole = training_data(
            fit.net, self.x, self.y, losses.get(loss), fit.every, weight, x0, None, columns=raw
        )
        folds = sha256()
        for part in self.parts:
            folds.update(repr((part.subject, part.fold, part.inner)).encode())
            for rows in (part.train, part.validation, part.test):
                folds.update(f"{len(rows)} ".encode() + rows.tobytes())
        if any(len(part.validation) for part in self.parts):
            del identity["validation_data"]  # which the folds and the data determine
        return columns, identity | {
            "x and y": data.fingerprint(whole, fit.every),
            "cv, inner and subjects": f"{len(self.parts)} parts with the checksum {folds.hexdigest()[:16]}",
            "grid or draws": repr([named_functions(setting) for setting in self.settings]),
            "seeds": repr(self.seeds),
        }


class _Store:
    """The results of the finished fits, and their networks if these are kept, in memory and in a folder."""

    def __init__(self, plan: _Plan, folder: str | None) -> None:
        self.plan, self.keep, self.folder = plan, plan.keep, folder
        self.rows: dict[int, Row] = {}
        self.networks: dict[int, Network] = {}
        columns, identity = plan.check()
        self.columns = [*columns, "epochs", "best_epoch", "seconds", "stopped"]
        if folder is None:
            return
        os.makedirs(self._path(NETWORKS) if plan.keep else folder, exist_ok=True)
        self._identify(folder, identity | {"keep": repr(plan.keep)})
        self._read()

    def _path(self, *names: str) -> str:
        assert self.folder is not None
        return os.path.join(self.folder, *names)

    def _network(self, i: int) -> str:
        return self._path(NETWORKS, f"{i:06d}.safetensors")

    def _identify(self, folder: str, identity: dict[str, str]) -> None:
        """Mark a new folder; raise if it is that of another sweep."""
        path = self._path("sweep.json")
        try:
            with open(path, encoding="utf-8", errors="replace") as file:
                found = json_object(file.read(), path)
        except FileNotFoundError:
            if os.path.exists(self._path(FITS)):
                raise ConfigError(
                    f"folder: expected a new one or that of this sweep, got {folder} with {FITS}, but "
                    f"without sweep.json.  Use another folder."
                ) from None
            text = json.dumps({"format": FORMAT, "identity": identity}, indent=1)
            replace(path, text.encode())
            return
        known = found.get("identity")
        if found.get("format") != FORMAT or not isinstance(known, dict):
            raise CorruptFileError(f"{path}: expected the arguments of a sweep of this version, got others.")
        for name in {**known, **identity}:
            expected, got = known.get(name, "none"), identity.get(name, "none")
            if expected != got:
                raise ConfigError(
                    f"{name}: expected {expected} as in the sweep of {folder}, got {got}.  Repeat the call "
                    f"with all its arguments, the seed of the network included, or use another folder."
                )

    def _read(self) -> None:
        """Read the finished fits; the last line may be one that a crash has cut."""
        try:
            with open(self._path(FITS), "rb") as file:
                lines = file.read().split(b"\n")
        except FileNotFoundError:
            return
        if lines[-1]:
            shorten(self._path(FITS), sum(map(len, lines[:-1])) + len(lines) - 1)
        for number, line in enumerate(lines[:-1], 1):
            try:
                row = json.loads(line)
                i, results = row["fit"], {name: row[name] for name in self.columns}
                if type(i) is not int or not 0 <= i < len(self.plan):
                    raise ValueError(f"there is no fit {i!r}")
                for name, label in self.plan.labels(i).items():
                    if isinstance(label, (str, int, float)) and row.get(name) != label:
                        raise ValueError(f"{name} of fit {i} is {label!r}")
                for name, value in results.items():
                    kind = str if name == "stopped" else (int, float)
                    if value is not None and not isinstance(value, kind):
                        raise ValueError(f"{name!r} is {value!r}")
            except MALFORMED as error:
                raise CorruptFileError(
                    f"{self._path(FITS)}: expected the results of a fit in line {number}, but {error!r}.  "
                    f"Delete the line to repeat its fit."
                ) from error
            if self.keep:
                if not os.path.exists(self._network(i)):
                    continue
                self.networks[i] = load(self._network(i))
            self.rows[i] = results

    def add(self, i: int, row: Row, net: Network | None) -> None:
        """Add a finished fit."""
        if net is not None:
            self.networks[i] = net
        if self.folder is not None:
            if net is not None:
                save(net, self._network(i))
            line = json.dumps({"fit": i, **named_functions(self.plan.labels(i)), **row}, default=repr)
            with naming(self._path(FITS)), open(self._path(FITS), "ab") as file:
                file.write(line.encode() + b"\n")
        self.rows[i] = row

    def table(self, threads: int) -> Sweep:
        """The table of the finished fits."""
        table = Sweep(*self.plan.labels(0), *self.columns)
        table.threads = threads
        for i in sorted(self.rows):
            table.add(self.plan.labels(i) | self.rows[i])
        table.networks = [self.networks[i] for i in sorted(self.networks)]
        return table


def _plan(
    net: Network,
    x: Any,
    y: Any,
    options: Row,
    folds: tuple[Any, Any, Any, Any],
    variation: tuple[Any, Any, Any],
    seeds: Sequence[int] | None,
    keep: bool,
) -> _Plan:
    """All fits; the arguments of `fit` are checked later."""
    VARYING.check_options({name: options[name] for name in options if name != "epochs"}, REFUSED, sweep)
    grid, draws, n = variation
    grid, draws = VARYING.check_varied(grid, draws, options)
    if bool(draws) != (n is not None):
        raise ConfigError(f"n: expected the number of draws with draws, and None without, got {n!r}.")
    settings = drawn(draws, net.seed, integer(n, "n")) if draws else combinations(grid)
    checked = [net.seed] if seeds is None else check_seeds(seeds)
    if not checked or len(set(checked)) < len(checked):
        raise ConfigError(f"seeds: expected at least one, and different ones, got {checked}.")
    if np.ndim(options.get("x0", 0)) > 1:
        raise ConfigError("x0: expected one state for all sequences, got an array with several.")
    if folds[1] is not None and options.get("validation_data") is not None:
        raise ConfigError("validation_data: expected None with inner, got data.  Give one of the two.")
    known = parts(_count(x), y, *folds)
    return _Plan(net, data.Shared(x), y, shared_validation(options), known, settings, checked, keep)


def _count(x: Any) -> int:
    """The number of sequences."""
    x = data.unboxed(x)
    if data.is_list(x) or getattr(x, "ndim", 0) == 3:
        return len(x)
    got = "windows" if isinstance(x, data.Sequences) else f"{type(x).__name__} {getattr(x, 'shape', '')}"
    raise ShapeError(
        f"x: expected several sequences, an array (n, T, I) or a list of arrays (T_i, I), got {got.strip()}."
    )
