"""The record, the hooks and the progress display of a fit."""

from __future__ import annotations

import math
import os
import sys
import time
from contextlib import suppress
from importlib import import_module
from typing import TYPE_CHECKING, Any, ClassVar, get_args

import numpy as np

from . import notebook
from .choices import Mode
from .errors import MALFORMED, ConfigError, CorruptFileError, choice, flag, integer, number, plain, suggesting
from .resuming import Resumable
from .storage import save_state
from .writing import csv_text, ends_in_line, named, naming, replace, shorten, size_on_disk

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import pandas
    from matplotlib.axes import Axes

    from .fit import Training
    from .model import Array
    from .network import Network

    PathLike = os.PathLike[str]

Logs = dict[str, float]


SHOWN = 10  # rows of a table in a notebook
PRINTED = 30  # rows of a table as text


class Table(dict[str, list[Any]]):
    """A dict of lists of equal length, one per column; base class of `History`, `Restarts` and `Sweep`."""

    def __init__(self, *columns: str) -> None:
        super().__init__((column, []) for column in columns)

    def add(self, row: Mapping[str, Any]) -> None:
        """Append one row.

        Parameters
        ----------
        row : mapping of str
            A value for every column.
        """
        for column, entries in self.items():
            entries.append(row[column])

    def to_csv(self, path: str | PathLike) -> None:
        """Write the table as comma-separated values with a header line.

        Parameters
        ----------
        path : str or path-like
            The file, replaced if it exists.

        Raises
        ------
        ConfigError
            If `path` is not a path.
        OSError
            If the file cannot be written; an existing file is unchanged.
        """
        replace(named(path), csv_text(self, self.values()).encode())

    def rows(self) -> list[dict[str, Any]]:
        """Rows of the table.

        Returns
        -------
        rows : list of dict
            One dict per row, with the keys of the table.
        """
        return [dict(zip(self, row, strict=True)) for row in zip(*self.values(), strict=True)]

    def to_pandas(self) -> pandas.DataFrame:
        """The table as a DataFrame (needs pandas).

        Returns
        -------
        table : pandas.DataFrame

        Raises
        ------
        ImportError
            If pandas is not installed.
        """
        from pandas import DataFrame

        return DataFrame(dict(self))


class Drawable(Table):
    """A table that `plots` can draw."""

    drawing: ClassVar[str]  # the function of `plots`

    def plot(self, **options: Any) -> Axes:
        """Draw the losses over the epochs (needs matplotlib).

        Parameters
        ----------
        **options
            Keyword arguments of ``bptt_fast.plots.history`` or ``bptt_fast.plots.restarts``.

        Returns
        -------
        ax : matplotlib Axes

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        """
        from . import plots

        axes: Axes = getattr(plots, self.drawing)(self, **options)
        return axes


class Comparison(Table):
    """A table of fits, one row each, that prints in aligned columns."""

    def __repr__(self) -> str:
        rows = self.rows()
        texts = [list(self)] + [[notebook.short(value) for value in row.values()] for row in rows[:PRINTED]]
        widths = [max(map(len, column)) for column in zip(*texts, strict=True)]
        lines = ["  ".join(map(str.rjust, row, widths)) for row in texts]
        return "\n".join([*lines, *[f"... {len(rows)} rows in all"] * (len(rows) > PRINTED)])

    def _repr_html_(self) -> str:
        rows = [list(row.values()) for row in self.rows()]
        title = f"{type(self).__name__}: {len(rows)} fits" + f", the first {SHOWN}" * (len(rows) > SHOWN)
        return notebook.titled(title, notebook.table(rows[:SHOWN], list(self)))


class History(Drawable, Resumable):
    """The record of a fit: a dict of lists of equal length, one entry per epoch.

    Keys are "epoch" (counted from 1), "loss", "val_loss" (if there was validation), "learning_rate" (of the
    last update, if it follows a schedule) and "seconds" (duration of the epoch, validation included).

    Attributes
    ----------
    stopped : str
        Why the fit ended: "epochs", "target_loss", "patience", "max_seconds", "callback" or, with an
        optimiser of second order, "converged"; "" while it runs.
    best_epoch : int or None
        The epoch whose weights `patience` restored; None if it restored none.
    left_out : int
        Windows that `validation_split` excluded because they share rows with both parts.

    Examples
    --------
    >>> import numpy as np, bptt_fast as bf
    >>> net = bf.Network(1, 4, 1, seed=0)
    >>> history = net.fit(np.ones((8, 5, 1)), np.zeros((8, 1)), epochs=3, verbose=0)
    >>> history["epoch"], history.stopped
    ([1, 2, 3], 'epochs')
    """

    drawing = "history"
    kept = ("stopped", "best_epoch")

    def __init__(self, *columns: str) -> None:
        super().__init__(*columns)
        self.stopped = ""
        self.best_epoch: int | None = None
        self.left_out = 0

    def __repr__(self) -> str:
        parts = [f"{len(self['epoch'])} epochs", *self._losses()]
        if self.stopped:
            parts.append(f'stopped: "{self.stopped}"')
        if self.best_epoch is not None:
            parts.append(f"weights of epoch {self.best_epoch}")
        return f"History({', '.join(parts)})"

    def _losses(self) -> list[str]:
        """The last loss, and the last and the lowest one of validation."""
        texts = [f"{name} {self[name][-1]:.4g}" for name in ("loss", "val_loss") if self.get(name)]
        watched = self.get("val_loss") or self.get("loss")
        known = [value for value in watched or () if not math.isnan(value)]
        return texts + ([f"lowest {min(known):.4g}"] if known else [])

    def _repr_html_(self) -> str:
        curves = {name: self[name] for name in ("loss", "val_loss") if name in self}
        rows = [list(row.values()) for row in self.rows()[-5:]]
        return notebook.titled(
            repr(self), notebook.chart(self["epoch"], curves, "epoch"), notebook.table(rows, list(self))
        )

    def state_dict(self) -> dict[str, Any]:
        """The record of the finished epochs, for a backup; the columns as arrays.

        Returns
        -------
        state : dict of str
        """
        return super().state_dict() | {"columns": {name: np.array(rows) for name, rows in self.items()}}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from a record.

        Parameters
        ----------
        state : mapping of str
            A result of `state_dict`.
        """
        super().load_state_dict(state)
        for name, rows in self.items():
            rows[:] = state["columns"][name].tolist()


class Callback(Resumable):
    """A base class for the user's hooks, named as in Keras.  Every method does nothing unless overridden.

    Hooks per batch do not exist, because an epoch is one call of compiled code.  ``on_epoch_end`` ends the
    training if it returns True, in place of Keras' ``model.stop_training``.

    Attributes
    ----------
    kept : tuple of str
        The names of the attributes that ``callbacks.BackupAndRestore`` keeps, set by ``on_train_begin`` or
        before; default none.  What attributes cannot express is added by overriding `state_dict` and
        `load_state_dict`.
    model : Network
        The network being trained; set before ``on_train_begin``.
    hyper : dict
        The hyperparameters of the optimiser; set before ``on_train_begin``.  Assigning "learning_rate" takes
        effect in the next epoch.

    Examples
    --------
    >>> import numpy as np, bptt_fast as bf
    >>> class StopEarly(bf.Callback):
    ...     def on_epoch_end(self, epoch, logs):
    ...         return epoch == 1
    >>> net = bf.Network(1, 4, 1, seed=0)
    >>> history = net.fit(np.ones((8, 5, 1)), np.zeros((8, 1)), epochs=9, callbacks=[StopEarly()], verbose=0)
    >>> len(history["loss"]), history.stopped
    (2, 'callback')
    """

    model: Network
    hyper: dict[str, Any]
    runs_last: ClassVar[bool] = False  # after the other callbacks, whose state is then that of the epoch

    def identity(self) -> str:
        """What a callback must have in common with the one in a backup, whose state it takes over.

        Returns
        -------
        identity : str
            The name of the class, "" if it keeps no state.
        """
        keeps = self.kept or type(self).state_dict is not Callback.state_dict
        return type(self).__name__ if keeps else ""

    def on_setup(self, training: Training) -> None:
        """Run before the network changes; an error leaves it as it was.

        Parameters
        ----------
        training : Training
            The fit, with its `identity`, `state_dict` and `load_state_dict`.
        """

    def on_train_begin(self, logs: Logs) -> None:
        """Run before the first epoch.

        Parameters
        ----------
        logs : dict
            Empty.
        """

    def on_epoch_begin(self, epoch: int, logs: Logs) -> None:
        """Run before each epoch.

        Parameters
        ----------
        epoch : int
            The epoch, counted from 0 as in Keras.
        logs : dict
            Empty.
        """

    def on_epoch_end(self, epoch: int, logs: Logs) -> bool | None:
        """Run after each epoch.

        Parameters
        ----------
        epoch : int
            The epoch, counted from 0 as in Keras.
        logs : dict of str to float
            "loss", "val_loss" (if there was validation), "learning_rate" (if it follows a schedule) and
            "seconds".

        Returns
        -------
        stop : bool or None
            True ends the training.
        """

    def on_train_end(self, logs: Logs) -> None:
        """Run after the last epoch, when the best weights are restored.  Not called after an error.

        Parameters
        ----------
        logs : dict of str to float
            The logs of the last epoch.
        """


@suggesting
class LambdaCallback(Callback):
    """A callback made of functions.

    Parameters
    ----------
    on_epoch_begin, on_epoch_end : callable, optional
        Called with the epoch, counted from 0, and `logs`.  ``on_epoch_end`` may return True to stop.
    on_train_begin, on_train_end : callable, optional
        Called with `logs`.

    Raises
    ------
    ConfigError
        If an argument is not a function.

    Examples
    --------
    >>> import numpy as np, bptt_fast as bf
    >>> show = bf.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: print(epoch, sorted(logs)))
    >>> net = bf.Network(1, 4, 1, seed=0)
    >>> history = net.fit(np.ones((8, 5, 1)), np.zeros((8, 1)), epochs=2, callbacks=show, verbose=0)
    0 ['loss', 'seconds']
    1 ['loss', 'seconds']
    """

    def __init__(
        self,
        on_epoch_begin: Callable[[int, Logs], Any] | None = None,
        on_epoch_end: Callable[[int, Logs], Any] | None = None,
        on_train_begin: Callable[[Logs], Any] | None = None,
        on_train_end: Callable[[Logs], Any] | None = None,
    ) -> None:
        self._end = on_epoch_end
        for name, function in dict(locals()).items():
            if name == "self" or function is None:
                continue
            if not callable(function):
                raise ConfigError(f"LambdaCallback({name}): expected a function, got {function!r}.")
            if name != "on_epoch_end":
                setattr(self, name, function)  # hides the method of `Callback`

    def on_epoch_end(self, epoch: int, logs: Logs) -> bool | None:
        """See `Callback`; only True stops training, no other true result of the function."""
        return self._end is not None and self._end(epoch, logs) is True


class _Monitor(Callback):
    """A base class that tracks the best value of one entry of the logs and the epochs since (`wait`)."""

    kept: ClassVar[tuple[str, ...]] = ("best", "wait")
    arguments: ClassVar[tuple[str, ...]] = ()  # which a fit and its backup have in common

    def identity(self) -> str:
        """See `Callback`; includes the arguments that can change the training."""
        values = (f"{name}={getattr(self, name)!r}" for name in self.arguments)
        return f"{type(self).__name__}({', '.join(values)})"

    def __init__(self, monitor: str | None, mode: Mode, min_delta: float) -> None:
        self.monitor = monitor
        self.sign = -1.0 if choice(mode, f"{type(self).__name__}(mode)", get_args(Mode)) == "max" else 1.0
        self.min_delta = number(min_delta, f"{type(self).__name__}(min_delta)", 0)

        self.begin()

    def begin(self, best: float | None = None) -> None:
        """Reset the best value to `best`, or to the worst possible value."""
        self.best = self.sign * math.inf if best is None else best
        self.wait = 0

    def on_train_begin(self, logs: Logs) -> None:
        """Reset the best value; see `Callback`."""
        self.begin()

    def watches(self, logs: Logs) -> str:
        """The name of the watched entry of the logs."""
        if self.monitor is None:
            return "val_loss" if "val_loss" in logs else "loss"
        return choice(self.monitor, f"{type(self).__name__}(monitor)", tuple(logs))

    def better(self, value: float) -> bool:
        """Whether `value` is better than the best; if so, it becomes the best."""
        self.wait += 1
        if self.sign * (self.best - value) <= self.min_delta:
            return False
        self.best, self.wait = value, 0
        return True


MONITOR_WORDS = """monitor : str, optional
        The entry of the logs to watch.  None: "val_loss" if there is validation, else "loss"."""

MODE_WORDS = """mode : {"auto", "min", "max"}, default "auto"
        Whether lower or higher is better; "auto" is "min"."""


@suggesting
class EarlyStopping(_Monitor):
    __doc__ = f"""Stop training when a monitored value no longer improves.

    ``Network.fit(patience=...)`` does the same for the loss.  Each fit resets the callback.

    Parameters
    ----------
    {MONITOR_WORDS}
    min_delta : float, default 0
        Smallest change that counts as an improvement.
    patience : int, default 0
        Stop after this many consecutive epochs without improvement; 0 acts as 1.
    {MODE_WORDS}
    baseline : float, optional
        Initial value that the monitored value has to improve on.
    restore_best_weights : bool, default False
        Restore the weights of the best epoch at the end.
    start_from_epoch : int, default 0
        Ignore the epochs before this one, counted from 0.

    Attributes
    ----------
    best : float
        The best value.
    best_epoch : int or None
        The epoch of the best value, counted from 0.
    stopped_epoch : int or None
        The epoch, counted from 0, after which this callback stopped the fit.

    Raises
    ------
    ConfigError
        If an argument is invalid, or the logs have no such entry.

    Examples
    --------
    >>> import numpy as np, bptt_fast as bf
    >>> stop = bf.callbacks.EarlyStopping(min_delta=10.0, patience=2, restore_best_weights=True)
    >>> net = bf.Network(1, 4, 1, seed=0)
    >>> history = net.fit(np.ones((8, 5, 1)), np.zeros((8, 1)), epochs=9, callbacks=stop, verbose=0)
    >>> history.stopped, stop.best_epoch, stop.stopped_epoch
    ('callback', 0, 2)
    """

    kept = (*_Monitor.kept, "best_epoch", "stopped_epoch", "weights")
    arguments = ("monitor", "sign", "min_delta", "patience", "baseline", "restores", "start_from_epoch")

    def __init__(
        self,
        monitor: str | None = None,
        min_delta: float = 0.0,
        patience: int = 0,
        *,
        mode: Mode = "auto",
        baseline: float | None = None,
        restore_best_weights: bool = False,
        start_from_epoch: int = 0,
    ) -> None:
        super().__init__(monitor, mode, min_delta)
        self.patience = max(1, integer(patience, "EarlyStopping(patience)", 0, None))
        self.baseline = None if baseline is None else number(baseline, "EarlyStopping(baseline)")
        self.restores = flag(restore_best_weights, "EarlyStopping(restore_best_weights)")
        self.start_from_epoch = integer(start_from_epoch, "EarlyStopping(start_from_epoch)", 0, None)

    def on_train_begin(self, logs: Logs) -> None:
        """See `Callback`."""
        self.begin(self.baseline)
        self.best_epoch: int | None = None
        self.stopped_epoch: int | None = None
        self.weights: Array | None = None

    def on_epoch_end(self, epoch: int, logs: Logs) -> bool:
        """See `Callback`."""
        if epoch < self.start_from_epoch:
            return False
        if self.better(logs[self.watches(logs)]):
            self.best_epoch = epoch
            self.weights = self.model.params.copy() if self.restores else None
        if self.wait < self.patience:
            return False
        self.stopped_epoch = epoch
        return True

    def on_train_end(self, logs: Logs) -> None:
        """See `Callback`."""
        if self.weights is not None:
            self.model.params[:] = self.weights


@suggesting
class ModelCheckpoint(_Monitor):
    __doc__ = f"""Save the network after every epoch, or after every epoch that is the best so far.

    ``Network.save`` writes each file completely or not at all; ``bptt_fast.load`` reads it.

    Parameters
    ----------
    filepath : str or path-like
        The file; {{epoch}}, counted from 1, and the names of the logs are filled in by ``str.format``:
        "net-{{epoch:03d}}-{{val_loss:.4f}}.safetensors".
    {MONITOR_WORDS}
    save_best_only : bool, default False
        Save only if the monitored value is the best so far.
    {MODE_WORDS}
    initial_value_threshold : float, optional
        Initial value that the monitored value has to improve on.
    keep_last : int, optional
        Number of latest files to keep, in addition to the best one; older files of this callback are
        deleted.  Needs {{epoch}} in `filepath`.

    Attributes
    ----------
    best : float
        The best value of all fits with this callback.
    best_path : str or None
        The file of the best value.
    paths : list of str
        The existing files of this callback, the oldest first.

    Raises
    ------
    ConfigError
        If an argument is invalid, or the logs have no such entry.
    OSError
        If a file cannot be written; older files are unchanged.

    Notes
    -----
    As in Keras, the best value carries over from fit to fit, so that ``fit(epochs=1)`` in a loop keeps the
    best of all calls; `EarlyStopping` and `ReduceLROnPlateau` are reset by each fit.  For another network,
    create a new callback.  If monitor is None, and one fit has validation while the next has none, the
    watched entry changes and the best value is reset.

    Examples
    --------
    >>> import os, tempfile, numpy as np, bptt_fast as bf
    >>> net = bf.Network(1, 4, 1, seed=0)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = os.path.join(folder, "net-{{epoch:03d}}.safetensors")
    ...     keep = bf.callbacks.ModelCheckpoint(path, keep_last=2)
    ...     history = net.fit(np.ones((8, 5, 1)), np.zeros((8, 1)), epochs=5, callbacks=keep, verbose=0)
    ...     sorted(os.listdir(folder))
    ['net-004.safetensors', 'net-005.safetensors']
    """

    kept = (*_Monitor.kept, "watched", "best_path", "paths")

    def __init__(
        self,
        filepath: str | PathLike,
        monitor: str | None = None,
        *,
        save_best_only: bool = False,
        mode: Mode = "auto",
        initial_value_threshold: float | None = None,
        keep_last: int | None = None,
    ) -> None:
        super().__init__(monitor, mode, 0.0)
        self.filepath = named(filepath, "ModelCheckpoint(filepath)")
        self.save_best_only = flag(save_best_only, "ModelCheckpoint(save_best_only)")
        self.threshold = (
            None
            if initial_value_threshold is None
            else number(initial_value_threshold, "ModelCheckpoint(initial_value_threshold)")
        )
        self.keep_last = None if keep_last is None else integer(keep_last, "ModelCheckpoint(keep_last)")
        if keep_last is not None and "{epoch" not in self.filepath:
            raise ConfigError(
                f"ModelCheckpoint(filepath): expected {{epoch}} in it with keep_last={keep_last}, got "
                f"{self.filepath!r}, one file for all epochs."
            )

        self.begin(self.threshold)
        self.watched: str | None = None  # the entry that `best` belongs to, after an epoch
        self.best_path: str | None = None
        self.paths: list[str] = []

    def on_train_begin(self, logs: Logs) -> None:
        """Keep the best value of earlier fits."""

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        """See `Callback`."""
        watched = self.watches(logs)
        if self.watched not in (None, watched):
            self.begin(self.threshold)
        self.watched = watched
        better = self.better(logs[watched])
        if self.save_best_only and not better:
            return
        try:
            path = self.filepath.format(epoch=epoch + 1, **logs)
        except (AttributeError, LookupError, TypeError, ValueError) as error:
            raise ConfigError(
                f"ModelCheckpoint(filepath): expected only names among epoch, {', '.join(logs)} in braces, "
                f"got {self.filepath!r} ({error!r})."
            ) from None
        self.model.save(path)
        if better:
            self.best_path = path
        self.paths = [old for old in self.paths if old != path] + [path]
        if self.keep_last is not None:
            for old in self.paths[: -self.keep_last]:
                if old != self.best_path:
                    self.paths.remove(old)
                    if os.path.exists(old):
                        os.unlink(old)


@suggesting
class ReduceLROnPlateau(_Monitor):
    __doc__ = f"""Lower the learning rate when a monitored value no longer improves.

    Each fit resets the callback and starts with the learning rate of its optimizer.

    Parameters
    ----------
    {MONITOR_WORDS}
    factor : float, default 0.1
        Factor of a reduction, between 0 and 1.
    patience : int, default 10
        Consecutive epochs without improvement before a reduction.
    {MODE_WORDS}
    min_delta : float, default 1e-4
        Smallest change that counts as an improvement.
    cooldown : int, default 0
        Epochs after a reduction that do not count towards `patience`.
    min_lr : float, default 0
        Lower bound of the learning rate.

    Raises
    ------
    ConfigError
        If an argument is invalid, the logs have no such entry, or the learning rate follows a schedule.

    Examples
    --------
    >>> import numpy as np, bptt_fast as bf
    >>> slower = bf.callbacks.ReduceLROnPlateau(factor=0.5, patience=2, min_delta=10.0)
    >>> net = bf.Network(1, 4, 1, seed=0)
    >>> x, y = np.ones((8, 5, 1)), np.zeros((8, 1))
    >>> history = net.fit(x, y, epochs=5, optimizer=bf.SGD(0.1), callbacks=slower, verbose=0)
    >>> slower.hyper["learning_rate"]
    0.025
    """

    kept = (*_Monitor.kept, "cooling")
    arguments = ("monitor", "sign", "min_delta", "factor", "patience", "cooldown", "min_lr")

    def __init__(
        self,
        monitor: str | None = None,
        factor: float = 0.1,
        patience: int = 10,
        *,
        mode: Mode = "auto",
        min_delta: float = 1e-4,
        cooldown: int = 0,
        min_lr: float = 0.0,
    ) -> None:
        super().__init__(monitor, mode, min_delta)
        self.factor = number(factor, "ReduceLROnPlateau(factor)", 0, 1, open_low=True, open_high=True)
        self.patience = max(1, integer(patience, "ReduceLROnPlateau(patience)", 0, None))
        self.cooldown = integer(cooldown, "ReduceLROnPlateau(cooldown)", 0, None)
        self.min_lr = number(min_lr, "ReduceLROnPlateau(min_lr)", 0)

    def on_train_begin(self, logs: Logs) -> None:
        """See `Callback`."""
        super().on_train_begin(logs)
        self.cooling = 0

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        """See `Callback`."""
        if "rates" in self.hyper:
            raise ConfigError(
                "ReduceLROnPlateau: expected an optimizer whose learning_rate is a number, got one with a "
                "schedule.  Use one of the two."
            )
        if "learning_rate" not in self.hyper:
            raise ConfigError(
                "ReduceLROnPlateau: expected an optimizer with a learning_rate, got one of second order.  "
                "Leave the callback out."
            )
        self.better(logs[self.watches(logs)])
        if self.cooling:
            self.cooling, self.wait = self.cooling - 1, 0
        if self.wait >= self.patience:
            rate = self.hyper["learning_rate"]
            self.hyper["learning_rate"] = min(rate, max(rate * self.factor, self.min_lr))
            self.cooling, self.wait = self.cooldown, 0


class _Logger(Callback):
    """A base class that writes a row per epoch: "epoch", counted from 1, the logs, "learning_rate"."""

    def on_epoch_begin(self, epoch: int, logs: Logs) -> None:
        """See `Callback`."""
        # before another callback lowers it for the next epoch; second order has none
        self.rate = plain(self.hyper.get("learning_rate", math.nan))

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        """See `Callback`."""
        self.write({"epoch": epoch + 1, **logs, "learning_rate": logs.get("learning_rate", self.rate)})

    def write(self, row: Logs) -> None:
        """Write one row."""
        raise NotImplementedError


class _FileLogger(_Logger):
    """A base class of loggers that append to a file; a part of a row there stays alone in its line."""

    filename: str
    append: bool

    def on_train_begin(self, logs: Logs) -> None:
        """See `Callback`."""
        self.length: int | None = None if self.append else 0  # of the part to keep; None: all
        self.ended = False  # whether the last row of the file is known to be whole

    def on_epoch_begin(self, epoch: int, logs: Logs) -> None:
        """See `Callback`."""
        super().on_epoch_begin(epoch, logs)
        if self.length is not None:
            shorten(self.filename, self.length)
            self.length = None
            self.ended = True

    def add(self, text: str) -> None:
        """Append the text of a row."""
        if not self.ended:
            text, self.ended = "\n" * (not ends_in_line(self.filename)) + text, True
        with naming(self.filename), open(self.filename, "a", newline="", encoding="utf-8") as file:
            file.write(text)

    def state_dict(self) -> dict[str, Any]:
        """The length of the file in addition; later rows are written again."""
        return super().state_dict() | {"length": size_on_disk(self.filename)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue after the rows of that time."""
        present, length = size_on_disk(self.filename), state["length"]
        if present < length:
            raise ConfigError(
                f"{type(self).__name__}(filename): expected {self.filename} with at least the {length} bytes "
                f"that it had at the backup, got {present}.  Restore the file, or delete the backup."
            )
        super().load_state_dict(state)
        self.length = length


@suggesting
class CSVLogger(_FileLogger):
    """Write the logs as comma-separated values, one row per epoch; finished rows survive a crash.

    Columns are "epoch", counted from 1, "loss", "val_loss" (if any), "seconds" and "learning_rate".

    Parameters
    ----------
    filename : str or path-like
        The file.
    separator : str, default ","
        The separator of columns, one character.
    append : bool, default False
        Append to an existing file instead of replacing it.

    Raises
    ------
    ConfigError
        If an argument is invalid, or the file to append to has other columns.
    OSError
        If the file cannot be written.

    Examples
    --------
    >>> import os, tempfile, numpy as np, bptt_fast as bf
    >>> net = bf.Network(1, 4, 1, seed=0)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     log = bf.callbacks.CSVLogger(os.path.join(folder, "log.csv"))
    ...     history = net.fit(np.ones((8, 5, 1)), np.zeros((8, 1)), epochs=2, callbacks=log, verbose=0)
    ...     print(open(log.filename).readline().strip())
    epoch,loss,seconds,learning_rate
    """

    kept = ("columns",)

    def __init__(self, filename: str | PathLike, separator: str = ",", append: bool = False) -> None:
        self.filename = named(filename, "CSVLogger(filename)")
        if not isinstance(separator, str) or len(separator) != 1 or separator in '"\r\n':
            raise ConfigError(f"CSVLogger(separator): expected one character, got {separator!r}.")
        self.separator = separator
        self.append = flag(append, "CSVLogger(append)")

    def on_train_begin(self, logs: Logs) -> None:
        """See `Callback`."""
        super().on_train_begin(logs)
        self.columns: list[str] = []
        if self.append and os.path.exists(self.filename):
            with open(self.filename, encoding="utf-8-sig", errors="backslashreplace") as file:
                header = file.readline().rstrip("\r\n")
            self.columns = header.split(self.separator) if header else []

    def write(self, row: Logs) -> None:
        """Append the row; a new file gets a header first."""
        if self.columns not in ([], list(row)):
            raise ConfigError(
                f"CSVLogger(append): expected a file with the columns {', '.join(row)}, got "
                f"{self.filename} with {', '.join(self.columns)}."
            )
        text = csv_text(row, ([value] for value in row.values()), sep=self.separator)
        self.add(text.partition("\r\n")[2] if self.columns else text)
        self.columns = list(row)


@suggesting
class JSONLogger(_FileLogger):
    """Write the logs as JSON lines, one object per epoch; finished lines survive a crash.

    Names are "epoch", counted from 1, "loss", "val_loss" (if any), "seconds" and "learning_rate", which
    is null with an optimiser of second order.

    Parameters
    ----------
    filename : str or path-like
        The file.
    append : bool, default False
        Append to an existing file instead of replacing it.

    Raises
    ------
    ConfigError
        If an argument is invalid.
    OSError
        If the file cannot be written.

    Examples
    --------
    >>> import json, os, tempfile, numpy as np, bptt_fast as bf
    >>> net = bf.Network(1, 4, 1, seed=0)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     log = bf.callbacks.JSONLogger(os.path.join(folder, "log.jsonl"))
    ...     history = net.fit(np.ones((8, 5, 1)), np.zeros((8, 1)), epochs=2, callbacks=log, verbose=0)
    ...     rows = [json.loads(line) for line in open(log.filename)]
    >>> rows[1]["epoch"], rows[1]["loss"] == history["loss"][1]
    (2, True)
    """

    def __init__(self, filename: str | PathLike, append: bool = False) -> None:
        self.filename = named(filename, "JSONLogger(filename)")
        self.append = flag(append, "JSONLogger(append)")

    def write(self, row: Logs) -> None:
        """Append the row."""
        import json

        values = {name: value if math.isfinite(value) else None for name, value in row.items()}
        self.add(json.dumps(values) + "\n")


@suggesting
class TensorBoard(_Logger):
    """Write the logs for TensorBoard, named as in Keras (extra "tensorboard", the package tensorboardX).

    The folder train gets the "epoch_loss" of training and "epoch_learning_rate", the folder validation the
    "epoch_loss" of validation, so that TensorBoard draws both losses in one chart.

    Parameters
    ----------
    log_dir : str or path-like, default "logs"
        The folder, created if missing; use one folder per fit to compare fits.
    histogram_freq : int, default 0
        Write histograms of all parameter blocks every so many epochs; 0: never.

    Raises
    ------
    ConfigError
        If an argument is invalid.
    ImportError
        If tensorboardX is not installed.

    Examples
    --------
    >>> import numpy as np, bptt_fast as bf
    >>> net = bf.Network(1, 4, 1, seed=0)
    >>> net.fit(
    ...     np.ones((8, 5, 1)), np.zeros((8, 1)), callbacks=bf.callbacks.TensorBoard("logs/first"), verbose=0
    ... )  # doctest: +SKIP
    """

    kept = ("epoch",)

    def __init__(self, log_dir: str | PathLike = "logs", histogram_freq: int = 0) -> None:
        self.log_dir = named(log_dir, "TensorBoard(log_dir)")
        self.histogram_freq = integer(histogram_freq, "TensorBoard(histogram_freq)", 0, None)

    def on_train_begin(self, logs: Logs) -> None:
        """See `Callback`."""
        writer = _package("tensorboardX", "TensorBoard", "tensorboard").SummaryWriter
        unique = (
            f".{os.getpid()}.{os.urandom(4).hex()}"  # tensorboardX names a file by the second of its creation
        )
        self.epoch = 0  # the last one written
        self._open = lambda part: writer(
            os.path.join(self.log_dir, part),
            purge_step=self.epoch + 1 if self.epoch else None,
            filename_suffix=unique,
        )
        self.writers: dict[str, Any] = {}

    def write(self, row: Logs) -> None:
        """Write the values and flush the files."""
        epoch = int(row["epoch"])
        for name, value in row.items():
            if name not in ("epoch", "seconds"):
                writer = self._writer("validation" if name.startswith("val_") else "train")
                writer.add_scalar(f"epoch_{name.removeprefix('val_')}", value, epoch)
        if self.histogram_freq and epoch % self.histogram_freq == 0:
            for name in self.model:
                self._writer("train").add_histogram(name, self.model[name], epoch)
        for writer in self.writers.values():
            writer.flush()
        self.epoch = epoch

    def on_train_end(self, logs: Logs) -> None:
        """See `Callback`."""
        for writer in self.writers.values():
            writer.close()

    def _writer(self, part: str) -> Any:
        if part not in self.writers:
            self.writers[part] = self._open(part)
        return self.writers[part]


@suggesting
class OptunaPruning(_Monitor):
    __doc__ = f"""Report each epoch to a trial of Optuna, which may prune it (needs optuna).

    Parameters
    ----------
    trial : optuna.trial.Trial
        The trial.
    {MONITOR_WORDS}

    Raises
    ------
    ConfigError
        If `trial` is no trial, or the logs have no such entry.
    ImportError
        If optuna is not installed.
    optuna.TrialPruned
        By ``Network.fit``, after an epoch after which the trial is pruned; the study continues with the next.

    Notes
    -----
    Training releases the GIL: with ``fit(..., threads=1)``, ``study.optimize(..., n_jobs=4)`` trains four
    networks at the same time.

    Examples
    --------
    >>> import optuna  # doctest: +SKIP
    >>> def objective(trial):  # doctest: +SKIP
    ...     net = bf.Network(1, trial.suggest_int("hidden_size", 1, 8), 1, seed=0)
    ...     pruning = bf.callbacks.OptunaPruning(trial)
    ...     history = net.fit(x, y, epochs=50, validation_split=0.2, callbacks=pruning, threads=1, verbose=0)
    ...     return min(history["val_loss"])
    >>> optuna.create_study().optimize(objective, n_trials=20, n_jobs=2)  # doctest: +SKIP
    """

    kept = ()

    def __init__(self, trial: Any, monitor: str | None = None) -> None:
        self.pruned = _package("optuna", "OptunaPruning", "optuna").TrialPruned
        if not hasattr(trial, "report") or not hasattr(trial, "should_prune"):
            raise ConfigError(f"OptunaPruning(trial): expected a trial of Optuna, got {trial!r}.")
        super().__init__(monitor, "auto", 0.0)
        self.trial = trial

    def identity(self) -> str:
        """Nothing, as the study keeps what was reported.

        Returns
        -------
        identity : str
            "".
        """
        return ""

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        """See `Callback`."""
        self.trial.report(logs[self.watches(logs)], epoch + 1)
        if self.trial.should_prune():
            raise self.pruned(f"after epoch {epoch + 1}")


@suggesting
class RayTuneReport(Callback):
    """Report each epoch to the trial of Ray Tune in which the network is trained (needs ray[tune]).

    The metrics are the entries of the history: "epoch", "loss", "val_loss" if there is validation,
    "learning_rate" if there is a schedule, and "seconds".

    Parameters
    ----------
    checkpoint_every : int, default 0
        Report a checkpoint with the network, the file network.safetensors, every so many epochs; 0: never.

    Raises
    ------
    ConfigError
        If `checkpoint_every` is invalid, or the fit does not run in a trial; the network is unchanged.
    ImportError
        If Ray Tune is not installed.

    Examples
    --------
    >>> from ray import tune  # doctest: +SKIP
    >>> def train(config):  # doctest: +SKIP
    ...     net = bf.Network(1, config["hidden_size"], 1, seed=0)
    ...     report = bf.callbacks.RayTuneReport(checkpoint_every=10)
    ...     net.fit(x, y, epochs=50, validation_split=0.2, callbacks=report, threads=1, verbose=0)
    >>> tuner = tune.Tuner(train, param_space={"hidden_size": tune.randint(1, 9)})  # doctest: +SKIP
    >>> best = tuner.fit().get_best_result("val_loss", mode="min")  # doctest: +SKIP
    """

    def __init__(self, checkpoint_every: int = 0) -> None:
        self.checkpoint_every = integer(checkpoint_every, "RayTuneReport(checkpoint_every)", 0, None)
        self.tune = _package("ray.tune", "RayTuneReport", "ray")

    def on_setup(self, training: Training) -> None:
        """See `Callback`."""
        if self.tune.get_context().get_trial_id() is None:
            raise ConfigError(
                "RayTuneReport: expected a fit in a trial of Ray Tune, got one outside.  Fit in the function "
                "that tune.Tuner(...) calls."
            )

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        """See `Callback`."""
        from tempfile import TemporaryDirectory

        metrics = {"epoch": epoch + 1, **logs}
        if not self.checkpoint_every or (epoch + 1) % self.checkpoint_every:
            self.tune.report(metrics)
            return
        with TemporaryDirectory() as folder:
            self.model.save(os.path.join(folder, "network.safetensors"))
            self.tune.report(metrics, checkpoint=self.tune.Checkpoint.from_directory(folder))


def _package(name: str, user: str, extra: str) -> Any:
    """A module of another package, which the class `user` needs."""
    try:
        return import_module(name)
    except ImportError as error:
        raise ImportError(
            f"{user} needs the package {name.partition('.')[0]} ({error}).  Install it: "
            f'pip install "bptt-fast[{extra}]".'
        ) from error


@suggesting
class BackupAndRestore(Callback):
    """Back up a fit after its epochs, so that it can go on after a crash, to the bit.

    If the folder has a backup, ``fit`` with the same arguments continues from there, and ends with the
    weights and the history of a fit that was never interrupted.  At its end the backup is deleted.

    Parameters
    ----------
    backup_dir : str or path-like
        The folder, created if missing; each fit needs its own.
    every : int, default 1
        Epochs between two backups.
    seconds : float, default 0
        Shortest time between two backups, at least 0.
    delete_checkpoint : bool, default True
        Whether to delete the backup after the fit.  If it is kept, the same fit again takes no time.

    Attributes
    ----------
    path : str
        The file of the backup.

    Raises
    ------
    ConfigError
        If an argument is invalid, or the backup is that of a fit with other arguments; the network is
        unchanged.
    CorruptFileError
        If the file is damaged or not a backup of this version.
    OSError
        If the file cannot be read or written; an existing backup is unchanged.

    Notes
    -----
    A backup holds the weights, the state and counters of the optimiser, the states of a stateful fit, the
    history, best weights, and the state of the schedule, of `patience` and of the other callbacks.  It is a
    safetensors file with a checksum, which replaces the previous one only when it is complete, and holds
    data, never code.  When it is made does not change the results.

    The arguments are compared one by one, those of the network and its seed included, the data by a checksum.
    The initial weights, `threads` and `verbose` may differ, and so may callbacks that keep no state.  A seed
    that was chosen at random differs: pass ``Network(seed=...)``.

    The argument `backup` of `restarts` takes a BackupAndRestore too.  A learner has a ``save`` of its own.

    Examples
    --------
    >>> import tempfile, numpy as np, bptt_fast as bf
    >>> def train(folder, *others):
    ...     net, backup = bf.Network(1, 4, 1, seed=0), bf.callbacks.BackupAndRestore(folder)
    ...     x, y = np.ones((8, 5, 1)), np.zeros((8, 1))
    ...     return net.fit(x, y, epochs=5, callbacks=[backup, *others], verbose=0)
    >>> class Crash(bf.Callback):
    ...     def on_epoch_begin(self, epoch, logs):
    ...         if epoch == 3:
    ...             raise RuntimeError("out of power")
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     try:
    ...         train(folder, Crash())
    ...     except RuntimeError:
    ...         history = train(folder)  # the last two epochs
    >>> history["epoch"]
    [1, 2, 3, 4, 5]
    """

    runs_last = True

    def __init__(
        self,
        backup_dir: str | PathLike,
        every: int = 1,
        *,
        seconds: float = 0.0,
        delete_checkpoint: bool = True,
    ) -> None:
        self.path = os.path.join(named(backup_dir, "BackupAndRestore(backup_dir)"), "backup.safetensors")
        self.every = integer(every, "BackupAndRestore(every)")
        self.seconds = number(seconds, "BackupAndRestore(seconds)", 0)
        self.delete_checkpoint = flag(delete_checkpoint, "BackupAndRestore(delete_checkpoint)")

    def find(self, identity: dict[str, str]) -> dict[str, Any] | None:
        """The state in the backup, if there is one.

        Parameters
        ----------
        identity : dict of str to str
            What the results depend on; kept for `save`.

        Returns
        -------
        state : dict of str or None
        """
        from .persistence import load_state

        self.given, self.saved = identity, time.perf_counter()
        try:
            known, state = load_state(self.path)
        except FileNotFoundError:
            os.makedirs(os.path.dirname(self.path) or ".", exist_ok=True)
            return None
        for name in {**known, **identity}:
            expected, got = known.get(name, "none"), identity.get(name, "none")
            if expected != got:
                raise ConfigError(
                    f"{name}: expected {expected} as in the backup {self.path}, got {got}.  Repeat the "
                    f"interrupted call with all its arguments, those of the network and its seed included, "
                    f"or delete the backup."
                )
        return state

    def restore(self, training: Resumable, state: dict[str, Any]) -> None:
        """Continue from a state that `find` has found.

        Parameters
        ----------
        training : Resumable
            What the state belongs to.
        state : dict of str
        """
        try:
            training.load_state_dict(state)
        except ConfigError:
            raise
        except MALFORMED as error:
            raise CorruptFileError(
                f"{self.path}: expected a backup that this version and these callbacks know, but {error!r}.  "
                f"Delete it to start again."
            ) from error

    def save(self, epoch: int, state: Callable[[], dict[str, Any]]) -> None:
        """Replace the backup, if it is due.

        Parameters
        ----------
        epoch : int
            The number of finished epochs.
        state : callable
            Returns the state.
        """
        if epoch % self.every == 0 and time.perf_counter() - self.saved >= self.seconds:
            save_state(self.path, self.given, state())
            self.saved = time.perf_counter()

    def on_setup(self, training: Training) -> None:
        """See `Callback`."""
        self.training, self.state = training, self.find(training.identity())

    def on_train_begin(self, logs: Logs) -> None:
        """See `Callback`."""
        if self.state is not None:
            self.restore(self.training, self.state)
            self.state = None

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        """See `Callback`."""
        self.save(epoch + 1, self.training.state_dict)

    def on_train_end(self, logs: Logs) -> None:
        """See `Callback`."""
        if self.delete_checkpoint and os.path.exists(self.path):
            os.unlink(self.path)
            with suppress(OSError):  # the folder has other files
                os.rmdir(os.path.dirname(self.path))


def check_callbacks(callbacks: Any) -> list[Callback]:
    """The user's callbacks as a list, in the order of their calls; raises a ConfigError if they are none."""
    hooks = [callbacks] if isinstance(callbacks, Callback) else callbacks
    try:
        hooks = list(hooks)
    except TypeError:
        raise ConfigError(f"callbacks: expected a list of Callback objects, got {callbacks!r}.") from None
    for i, callback in enumerate(hooks):
        if not isinstance(callback, Callback):
            raise ConfigError(
                f"callbacks[{i}]: expected an object of a subclass of Callback, got {callback!r}."
            )
    return sorted(hooks, key=lambda callback: callback.runs_last)


class Progress:
    """The progress display of a fit; this base class shows nothing."""

    def within(self, done: int, updates: int) -> None:
        """Show that `done` of the epoch's updates are finished."""

    def end(self, epoch: int, logs: Logs) -> None:
        """Show that an epoch, counted from 1, is finished."""

    def close(self) -> None:
        """Close the display."""


class _Lines(Progress):
    """One line per epoch on standard output."""

    def __init__(self, epochs: int) -> None:
        self.epochs = epochs

    def end(self, epoch: int, logs: Logs) -> None:
        losses = "  ".join(f"{name} {value:.6g}" for name, value in logs.items() if name != "seconds")
        print(f"epoch {epoch}/{self.epochs}  {losses}  {logs['seconds']:.3g} s", flush=True)


class _Bar(Progress):
    """A tqdm bar over the steps of all epochs, with losses, speed and time left."""

    def __init__(self, first: int, epochs: int, steps: int) -> None:
        from tqdm import tqdm

        self.first, self.epochs, self.steps = first, epochs, steps
        self.finished = first
        self.bar = tqdm(
            total=(epochs - first) * steps,
            desc=self._epoch(min(first + 1, epochs)),
            unit=" steps",
            unit_scale=True,
            dynamic_ncols=True,
            file=sys.stderr,
        )

    def _epoch(self, epoch: int) -> str:
        return f"epoch {epoch}/{self.epochs}"

    def within(self, done: int, updates: int) -> None:
        self._move(self.finished - self.first + done / max(updates, 1))

    def end(self, epoch: int, logs: Logs) -> None:
        self.finished = epoch
        losses = {name: f"{value:.4g}" for name, value in logs.items() if name != "seconds"}
        self.bar.set_description(self._epoch(min(epoch + 1, self.epochs)), refresh=False)
        self.bar.set_postfix(losses, refresh=False)
        self._move(epoch - self.first)

    def _move(self, epochs: float) -> None:
        self.bar.update(int(epochs * self.steps) - self.bar.n)

    def close(self) -> None:
        self.bar.set_description(self._epoch(self.finished), refresh=False)
        self.bar.close()


class _Clock:
    """When a display in a notebook is shown again, at most five times a second, and its time so far."""

    def __init__(self) -> None:
        self.begin = self.last = time.perf_counter()
        self.running = True

    def due(self) -> bool:
        now = time.perf_counter()
        if now - self.last < 0.2:
            return False
        self.last = now
        return True

    def spent(self, share: float) -> str:
        """The seconds that have passed, and that are left if `share` of the work is done."""
        seconds = time.perf_counter() - self.begin
        left = f", {seconds / share * (1 - share):.3g} s left" if self.running and 0 < share < 1 else ""
        return f"{seconds:.3g} s{left}"


class _Cell(Progress):
    """A bar in the output of a notebook's cell, which an exported page keeps."""

    def __init__(self, first: int, epochs: int, steps: int) -> None:
        self.first, self.epochs, self.steps = first, epochs, steps
        self.epoch, self.losses = first, ""
        self.display, self.clock = notebook.Display(), _Clock()

    def within(self, done: int, updates: int) -> None:
        if self.clock.due():
            self._show(self.epoch - self.first + done / max(updates, 1))

    def end(self, epoch: int, logs: Logs) -> None:
        self.epoch = epoch
        self.losses = "".join(f", {name} {value:.4g}" for name, value in logs.items() if name != "seconds")
        if self.clock.due():
            self._show(epoch - self.first)

    def _show(self, epochs: float) -> None:
        share = epochs / max(self.epochs - self.first, 1)
        speed = epochs * self.steps / max(time.perf_counter() - self.clock.begin, 1e-9)
        text = (
            f"epoch {self.epoch}/{self.epochs}{self.losses}, {self.clock.spent(share)}, {speed:.3g} steps/s"
        )
        self.display.show(share, text)

    def close(self) -> None:
        self.clock.running = False  # perhaps interrupted
        self._show(self.epoch - self.first)


def check_verbose(verbose: Any) -> int:
    """The checked verbosity; "auto" is 1 on a terminal and in a notebook, else 2."""
    if isinstance(verbose, str) and verbose == "auto":
        terminal = sys.stderr is not None and sys.stderr.isatty()
        return 1 if terminal or notebook.is_active() else 2
    if isinstance(verbose, int) and verbose in (0, 1, 2):
        return int(verbose)
    raise ConfigError(
        f'verbose: expected "auto", 0 (silence), 1 (progress bar) or 2 (one line per epoch), got {verbose!r}.'
    )


def progress(verbose: int, first: int, epochs: int, steps: int) -> Progress:
    """The display for a fit from epoch `first` to `epochs`, each of `steps` steps."""
    if verbose == 0:
        return Progress()
    if verbose == 2:
        return _Lines(epochs)
    return (_Cell if notebook.is_active() else _Bar)(first, epochs, steps)


class FitProgress:
    """The progress display of many fits; this base class shows nothing."""

    def end(self, finished: int) -> None:
        """Show how many fits are finished."""

    def close(self) -> None:
        """Close the display."""


class _FitBar(FitProgress):
    """A tqdm bar over the fits, with the time left."""

    def __init__(self, fits: int, finished: int) -> None:
        from tqdm import tqdm

        self.bar = tqdm(total=fits, initial=finished, unit=" fits", dynamic_ncols=True, file=sys.stderr)

    def end(self, finished: int) -> None:
        self.bar.update(finished - self.bar.n)

    def close(self) -> None:
        self.bar.close()


class _FitCell(FitProgress):
    """The same in the output of a notebook's cell."""

    def __init__(self, fits: int, finished: int) -> None:
        self.fits, self.first, self.finished = fits, finished, finished
        self.display, self.clock = notebook.Display(), _Clock()

    def end(self, finished: int) -> None:
        self.finished = finished
        if self.clock.due():
            self._show()

    def _show(self) -> None:
        share = (self.finished - self.first) / max(self.fits - self.first, 1)
        text = f"fit {self.finished}/{self.fits}, {self.clock.spent(share)}"
        self.display.show(self.finished / max(self.fits, 1), text)

    def close(self) -> None:
        self.clock.running = False
        self._show()


class _FitLines(FitProgress):
    """At most a hundred lines on standard output, with the time left."""

    def __init__(self, fits: int, finished: int) -> None:
        self.fits, self.first, self.shown, self.begin = fits, finished, finished, time.perf_counter()

    def end(self, finished: int) -> None:
        if finished < self.fits and finished - self.shown < self.fits / 100:
            return
        self.shown = finished
        seconds = time.perf_counter() - self.begin
        left = seconds / (finished - self.first) * (self.fits - finished)
        print(f"fit {finished}/{self.fits}  {seconds:.3g} s, {left:.3g} s left", flush=True)


def fit_progress(verbose: int, fits: int, finished: int) -> FitProgress:
    """The display for so many fits, some of which are finished."""
    if verbose == 0:
        return FitProgress()
    if verbose == 2:
        return _FitLines(fits, finished)
    return (_FitCell if notebook.is_active() else _FitBar)(fits, finished)
