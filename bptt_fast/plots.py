"""Pictures.  They need matplotlib (the extra "plots"), which is imported inside the functions only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.typing import ArrayLike


def history(record: Mapping[str, Sequence[float]], *, log: bool = True, ax: Axes | None = None) -> Axes:
    """Draw the losses of a fit over its epochs.

    Parameters
    ----------
    record : History or mapping
        What ``Network.fit`` returned: "epoch", "loss", and "val_loss" if there was validation.
    log : bool, default True
        Logarithmic losses, where all of them are positive.
    ax : matplotlib Axes, optional
        Where to draw.  None makes a new figure.

    Returns
    -------
    ax : matplotlib Axes
        For further touches, or ``ax.figure.savefig("history.png")``.

    Raises
    ------
    ImportError
        If matplotlib is not installed.

    Examples
    --------
    >>> import numpy as np, bptt_fast as bf
    >>> net = bf.Network(1, 4, 1, seed=0)
    >>> record = net.fit(np.ones((8, 5, 1)), np.zeros((8, 1)), epochs=3, verbose=0)
    >>> ax = record.plot()  # doctest: +SKIP
    """
    ax = _axes(ax)
    names = {"loss": "training", "val_loss": "validation"}
    curves = {name: record[name] for name in names if name in record}
    for name, values in curves.items():
        ax.plot(record["epoch"], values, label=names[name])
    if log and all(value > 0 for values in curves.values() for value in values):
        ax.set_yscale("log")
    ax.set_xlabel("epoch")
    ax.set_ylabel("loss")
    if len(curves) > 1:
        ax.legend(frameon=False)
    return ax


def prediction(
    time: ArrayLike,
    actual: ArrayLike,
    predicted: ArrayLike,
    *,
    spans: Mapping[str, tuple[float, float]] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw a series and its predictions over the same time.

    Parameters
    ----------
    time, actual, predicted : array (n,)
        Where, what was, and what was predicted; NaN leaves a gap.
    spans : mapping of str to (first, last), optional
        Stretches of time to shade, by the name that stands above each.
    ax : matplotlib Axes, optional
        Where to draw.  None makes a new figure.

    Returns
    -------
    ax : matplotlib Axes
        For further touches, or ``ax.figure.savefig("prediction.png")``.

    Raises
    ------
    ImportError
        If matplotlib is not installed.

    Examples
    --------
    >>> from bptt_fast import plots
    >>> ax = plots.prediction([1, 2, 3], [0.0, 1.0, 0.0], [0.1, 0.9, 0.2])  # doctest: +SKIP
    """
    ax = _axes(ax)
    for i, (name, (first, last)) in enumerate((spans or {}).items()):
        ax.axvspan(first, last, color="0.5", alpha=0.08 + 0.08 * (i % 2), linewidth=0)
        ax.text(
            (first + last) / 2,
            0.98,
            name,
            ha="center",
            va="top",
            size="small",
            transform=ax.get_xaxis_transform(),
        )
    ax.plot(time, actual, color="0.25", linewidth=1.2, label="actual")
    ax.plot(time, predicted, color="tab:red", linewidth=1.2, label="predicted")
    ax.margins(x=0.01)
    ax.legend(frameon=False, loc="lower right", bbox_to_anchor=(1, 1), ncols=2, borderaxespad=0)
    return ax


def _axes(ax: Axes | None) -> Axes:
    """The caller's axes, or those of a new figure."""
    if ax is not None:
        return ax
    try:
        from matplotlib import pyplot
    except ImportError as error:
        raise ImportError(
            'plots: matplotlib is not installed.  Try: pip install "bptt-fast[plots]"'
        ) from error
    return pyplot.subplots()[1]
