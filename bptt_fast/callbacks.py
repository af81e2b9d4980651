"""What happens around the epochs of a fit: the record, the user's hooks, and what the terminal shows."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from .errors import ConfigError

if TYPE_CHECKING:
    from os import PathLike

    from .network import Network

Logs = dict[str, float]


class History(dict[str, list[Any]]):
    """The record of a fit: a dict of lists of equal length, one entry an epoch.

    Keys are "epoch" (counted from 1), "loss", "val_loss" (if there was validation) and "seconds" (what the
    epoch took, validation included).

    Attributes
    ----------
    stopped : str
        Why the fit ended: "epochs", "target_loss", "patience", "max_seconds", "callback" or, with an
        optimiser of second order, "converged"; "" while it runs.
    best_epoch : int or None
        The epoch whose weights the network has, if `patience` restored them.

    Examples
    --------
    >>> import numpy as np, bptt_fast as bf
    >>> net = bf.Network(1, 4, 1, seed=0)
    >>> history = net.fit(np.ones((8, 5, 1)), np.zeros((8, 1)), epochs=3, verbose=0)
    >>> history["epoch"], history.stopped
    ([1, 2, 3], 'epochs')
    """

    def __init__(self, *columns: str) -> None:
        super().__init__((column, []) for column in columns)
        self.stopped = ""
        self.best_epoch: int | None = None

    def add(self, row: dict[str, Any]) -> None:
        """Append one epoch."""
        for column, entries in self.items():
            entries.append(row[column])

    def to_csv(self, path: str | PathLike[str]) -> None:
        """Write the record as comma-separated values with a header line.

        Parameters
        ----------
        path : str or path-like
            The file, replaced if it exists.

        Raises
        ------
        OSError
            If the file cannot be written.
        """
        import csv

        with open(path, "w", newline="", encoding="utf-8") as file:
            table = csv.writer(file)
            table.writerow(self)
            table.writerows(zip(*self.values(), strict=True))

    def plot(self, **options: Any) -> Any:
        """Draw the losses over the epochs (needs matplotlib); options are those of ``plots.history``."""
        from .plots import history

        return history(self, **options)


class Callback:
    """A base for the user's hooks, with Keras' names.  Override what you need; the base does nothing.

    There are no hooks for single batches: an epoch is one call of compiled code.

    Attributes
    ----------
    model : Network
        The network being trained; set before ``on_train_begin``.

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

    def on_train_begin(self, logs: Logs) -> None:
        """Before the first epoch; `logs` is empty."""

    def on_epoch_begin(self, epoch: int, logs: Logs) -> None:
        """Before epoch `epoch`, counted from 0 as in Keras; `logs` is empty."""

    def on_epoch_end(self, epoch: int, logs: Logs) -> bool | None:
        """After epoch `epoch`; `logs` has "loss", "val_loss" (if any), "seconds".  Return True to stop."""

    def on_train_end(self, logs: Logs) -> None:
        """After the last epoch, best weights restored; `logs` of that epoch.  Not called after an error."""


def check_callbacks(callbacks: Any) -> list[Callback]:
    """The user's callbacks as a list, or a ConfigError."""
    found = [callbacks] if isinstance(callbacks, Callback) else callbacks
    try:
        found = list(found)
    except TypeError:
        raise ConfigError(f"callbacks: expected a list of Callback objects, got {callbacks!r}.") from None
    for i, callback in enumerate(found):
        if not isinstance(callback, Callback):
            raise ConfigError(
                f"callbacks[{i}]: expected an object of a subclass of Callback, got {callback!r}."
            )
    return found


class Progress:
    """What the terminal shows of a fit: nothing here, see the subclasses."""

    def begin(self, epoch: int) -> None:
        """An epoch, counted from 1, begins."""

    def within(self, done: int) -> None:
        """`done` batches of it are finished."""

    def end(self, epoch: int, logs: Logs) -> None:
        """It is finished."""

    def close(self) -> None:
        """The fit is over, whatever the reason."""


class _Lines(Progress):
    """One line an epoch on standard output."""

    def __init__(self, epochs: int) -> None:
        self.epochs = epochs

    def end(self, epoch: int, logs: Logs) -> None:
        losses = "  ".join(f"{name} {value:.6g}" for name, value in logs.items() if name != "seconds")
        print(f"epoch {epoch}/{self.epochs}  {losses}  {logs['seconds']:.3g} s", flush=True)


class _Bar(Progress):
    """A tqdm bar over the epochs on standard error, with the share of the running epoch that is done."""

    def __init__(self, first: int, epochs: int, batches: int) -> None:
        from tqdm import tqdm

        self.batches = batches
        self.text = ""
        self.bar = tqdm(total=epochs, initial=first, unit="epoch", dynamic_ncols=True, file=sys.stderr)

    def within(self, done: int) -> None:
        self.bar.set_postfix_str(f"{self.text} {done / self.batches:.0%}".lstrip(), refresh=False)
        self.bar.refresh()

    def end(self, epoch: int, logs: Logs) -> None:
        self.text = ", ".join(f"{name} {value:.4g}" for name, value in logs.items() if name != "seconds")
        self.bar.set_postfix_str(self.text, refresh=False)
        self.bar.update()

    def close(self) -> None:
        self.bar.refresh()
        self.bar.close()


def check_verbose(verbose: Any) -> int:
    """0 silence, 1 a bar, 2 a line an epoch; "auto" is 1 on a terminal, else 2."""
    if isinstance(verbose, str) and verbose == "auto":
        return 1 if sys.stderr is not None and sys.stderr.isatty() else 2
    if isinstance(verbose, int) and verbose in (0, 1, 2):
        return int(verbose)
    raise ConfigError(
        f'verbose: expected "auto", 0 (silence), 1 (progress bar) or 2 (a line an epoch), got {verbose!r}.'
    )


def progress(verbose: int, first: int, epochs: int, batches: int) -> Progress:
    """The display for a fit of the epochs `first` to `epochs`, with `batches` batches each."""
    if verbose == 0:
        return Progress()
    return _Bar(first, epochs, batches) if verbose == 1 else _Lines(epochs)
