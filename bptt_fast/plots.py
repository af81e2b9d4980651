"""Plots.  They need matplotlib (the extra "plots"), which is imported on first use.

`COLORS` are the colours of M. Okabe and K. Ito (2008), which colour-blind eyes tell apart.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import cycle
from textwrap import fill
from typing import TYPE_CHECKING, Any

from . import notebook
from .errors import ConfigError, ShapeError, integer, suggesting

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.typing import ArrayLike

    from .backtesting import Backtest
    from .diagnostics import FixedPoints, GradientFlow, Surface
    from .network import Network
    from .restarting import Restarts


COLORS = BLUE, VERMILLION, GREEN, PURPLE, ORANGE, SKY = (
    *notebook.COLORS,
    "#009e73",
    "#cc79a7",
    "#e69f00",
    "#56b4e9",
)
ROW = 0.08  # of the height of the axes, for the names of periods


@suggesting
def history(record: Mapping[str, Sequence[float]], *, log: bool = True, ax: Axes | None = None) -> Axes:
    """Draw the losses of a fit over its epochs.

    Parameters
    ----------
    record : History or mapping
        The result of ``Network.fit``: "epoch", "loss", and "val_loss" if there was validation.
    log : bool, default True
        Logarithmic axis of losses, if all are positive.
    ax : matplotlib Axes, optional
        Axes to draw on; None: a new figure.

    Returns
    -------
    ax : matplotlib Axes
        The axes, for example for ``ax.figure.savefig("history.png")``.

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
    for (name, values), color in zip(curves.items(), COLORS, strict=False):
        ax.plot(record["epoch"], values, color=color, marker=_marker(values), label=names[name])
    losses = [value for values in curves.values() for value in values]
    if log and all(value > 0 for value in losses) and len(set(losses)) > 1:
        _log_losses(ax)
    _label_epochs(ax)
    ax.set_ylabel("loss")
    if len(curves) > 1:
        _legend(ax)
    return ax


@suggesting
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
        Times, actual values and predictions; NaN leaves a gap.  The names of a pandas Index `time` and of a
        Series `actual` become the labels of the axes.
    spans : mapping of str to (first, last), optional
        Labelled periods of time to shade.
    ax : matplotlib Axes, optional
        Axes to draw on; None: a new figure.

    Returns
    -------
    ax : matplotlib Axes
        The axes, for example for ``ax.figure.savefig("prediction.png")``.

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
    for i, (first, last) in enumerate((spans or {}).values()):
        edge = 1.0 if first == last else 0.0
        ax.axvspan(first, last, color="0.5", alpha=0.08 + 0.08 * (i % 2), linewidth=edge)
    ax.plot(time, actual, color=_grey(ax), linewidth=1.2, marker=_marker(actual), label="actual")
    ax.plot(time, predicted, color=VERMILLION, linewidth=1.2, marker=_marker(predicted), label="predicted")
    _shorten_dates(ax)
    ax.margins(x=0.01)
    _name_spans(ax, spans or {})
    ax.set_xlabel(_wrapped(getattr(time, "name", None) or "time"))
    ax.set_ylabel(_wrapped(getattr(actual, "name", None) or "value"))
    _legend(ax)
    return ax


@suggesting
def forecast(
    history: Any,
    forecast: Any,
    *,
    quantiles: Any = None,
    actual: Any = None,
    last: int | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw a forecast after the series that it continues, with its intervals.

    Parameters
    ----------
    history : Series, or DataFrame of one column
        The known steps.
    forecast : Series, or DataFrame of one column
        The forecast, as ``Forecaster.predict`` returns it for one target.
    quantiles : DataFrame, optional
        A column for each quantile, or the table of ``Forecaster.predict_quantiles`` for one target; the
        lowest and the highest bound the first interval, and so on inwards.
    actual : Series, or DataFrame of one column, optional
        What followed.
    last : int, optional
        How many steps of the history to draw; None: all.
    ax : matplotlib Axes, optional
        Axes to draw on; None: a new figure.

    Returns
    -------
    ax : matplotlib Axes
        The axes, for example for ``ax.figure.savefig("forecast.png")``.

    Raises
    ------
    ImportError
        If matplotlib is not installed.
    ShapeError
        If a table has several columns or targets.

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> from bptt_fast import plots
    >>> load = pd.Series(np.sin(np.arange(60) / 5), name="load")
    >>> ax = plots.forecast(load[:50], 0.9 * load[50:], actual=load[50:])  # doctest: +SKIP
    """
    ax = _axes(ax)
    known = _single(history, "history")
    known = known if last is None else known.iloc[-integer(last, "last") :]
    ahead = _single(forecast, "forecast")
    ax.plot(_times(known), known, color=_grey(ax), linewidth=1.2, marker=_marker(known), label="history")
    if actual is not None:
        followed = _single(actual, "actual")
        style: dict[str, Any] = dict(linewidth=1.2, linestyle=":", marker=_marker(followed))
        ax.plot(_times(followed), followed, color=_grey(ax), label="actual", **style)
    if quantiles is not None:
        _draw_intervals(ax, _of_one_target(quantiles))
    ax.plot(_times(ahead), ahead, color=BLUE, linewidth=1.6, marker=_marker(ahead, "o"), label="forecast")
    _finish_time_axes(ax, known)
    return ax


@suggesting
def backtest(result: Backtest, *, series: Any = None, target: Any = None, ax: Axes | None = None) -> Axes:
    """Draw the forecasts of a backtest from all origins, and the actual values.

    Parameters
    ----------
    result : Backtest
        What ``bptt_fast.backtest`` returns.
    series, target : optional
        The series, by its key, and the target to draw; default: the first.
    ax : matplotlib Axes, optional
        Axes to draw on; None: a new figure.

    Returns
    -------
    ax : matplotlib Axes
        The axes, for example for ``ax.figure.savefig("backtest.png")``; points mark the first step after
        each origin.

    Raises
    ------
    ImportError
        If matplotlib is not installed.
    ConfigError
        If the backtest has no such series or target.

    Examples
    --------
    >>> from bptt_fast import plots
    >>> ax = plots.backtest(result)  # doctest: +SKIP
    """
    ax = _axes(ax)
    rows = result.forecasts
    for name, wanted in (("series", series), ("target", target)):
        wanted = rows[name].iloc[0] if wanted is None else wanted
        chosen = rows[rows[name] == wanted]
        if chosen.empty:
            raise ConfigError(f"{name}: expected one of {rows[name].unique().tolist()}, got {wanted!r}.")
        rows = chosen
    actual = rows.drop_duplicates("time").set_index("time")["actual"].sort_index()
    ax.plot(_times(actual), actual, color=_grey(ax), linewidth=1.2, marker=_marker(actual), label="actual")
    quantiles = list(result.quantiles)
    for i, (_, part) in enumerate(rows.groupby("origin")):
        part = part.set_index("time")
        if len(quantiles) > 1:
            _draw_intervals(ax, part[quantiles], labels=i == 0)
        label = "forecast" if i == 0 else None
        style: dict[str, Any] = dict(color=BLUE, linewidth=1.2, markersize=5, markevery=[0])
        ax.plot(_times(part), part["forecast"], ".-", label=label, **style)
    name = rows["target"].iloc[0]
    _finish_time_axes(ax, actual.rename(name).rename_axis(None))
    return ax


@suggesting
def restarts(table: Restarts, *, log: bool = True, ax: Axes | None = None) -> Axes:
    """Draw the losses of all copies of `bptt_fast.restarts`, and the epochs at which copies were dropped.

    Parameters
    ----------
    table : Restarts
        The table that ``bptt_fast.restarts`` returns.
    log : bool, default True
        Logarithmic axis of losses, if all are positive, and of epochs, if copies were dropped.
    ax : matplotlib Axes, optional
        Axes to draw on; None: a new figure.

    Returns
    -------
    ax : matplotlib Axes
        The axes, for example for ``ax.figure.savefig("restarts.png")``.

    Raises
    ------
    ImportError
        If matplotlib is not installed.

    Examples
    --------
    >>> import numpy as np, bptt_fast as bf
    >>> net = bf.Network(1, 4, 1, seed=0)
    >>> best, table = bf.restarts(net, np.ones((8, 5, 1)), np.zeros(8), n=4, epochs=4, verbose=0)
    >>> ax = table.plot()  # doctest: +SKIP
    """
    ax = _axes(ax)
    from matplotlib import ticker

    name = "val_loss" if "val_loss" in table else "loss"
    for rung in table.rungs:
        ax.axvline(rung, color="0.8", linewidth=0.8, linestyle=":", zorder=0)
    dropped = {"halving": "dropped", "diverged": "diverged", "not needed": "not needed"}
    styles: dict[str, dict[str, Any]] = {
        "dropped": dict(color="0.65", linewidth=0.8),
        "not needed": dict(color=GREEN, linewidth=0.8),
        "diverged": dict(color=ORANGE, linewidth=0.8),
        "trained to the end": dict(color=BLUE, linewidth=0.9),
        "best": dict(color=VERMILLION, linewidth=1.8),
    }
    counts: dict[str, int] = {}
    outcomes = ["best"] + [dropped.get(why, "trained to the end") for why in table["stopped"][1:]]
    for outcome in outcomes:
        counts[outcome] = counts.get(outcome, 0) + 1
    positive, drawn = log, set[str]()
    for outcome, record, seed in reversed(list(zip(outcomes, table.histories, table["seed"], strict=True))):
        losses = record[name]
        positive = positive and all(loss > 0 for loss in losses)
        text = f"best (seed {seed})" if outcome == "best" else f"{outcome} ({counts[outcome]})"
        label = None if outcome in drawn else text
        drawn.add(outcome)
        marker = _marker(losses)
        ax.plot(record["epoch"], losses, label=label, marker=marker, markersize=4, **styles[outcome])
    if positive and len({loss for record in table.histories for loss in record[name]}) > 1:
        _log_losses(ax)
    if positive and table.rungs:
        ax.set_xscale("log")
        epochs = [epoch for record in table.histories for epoch in record["epoch"]]
        ax.set_xticks(sorted({min(epochs), *table.rungs, max(epochs)}))
        ax.xaxis.set_major_formatter("{x:g}")
        ax.xaxis.set_minor_locator(ticker.NullLocator())
    _label_epochs(ax)
    ax.set_ylabel("validation loss" if name == "val_loss" else "training loss")
    n, halvings = len(table.networks), len(table.rungs)
    text = f", the worse half dropped {halvings} time{'s' * (halvings > 1)}" if halvings else ""
    _legend(ax, f"{n} restart{'s' * (n > 1)}{text}", columns=4, backwards=True)
    return ax


@suggesting
def gradient_flow(flow: GradientFlow | Mapping[str, GradientFlow], *, ax: Axes | None = None) -> Axes:
    """Draw gradient norms of the loss with respect to earlier states.

    Parameters
    ----------
    flow : GradientFlow or mapping of str to GradientFlow
        The result of ``diagnostics.gradient_flow``, or several by name, to compare.
    ax : matplotlib Axes, optional
        Axes to draw on; None: a new figure.

    Returns
    -------
    ax : matplotlib Axes
        The axes, for example for ``ax.figure.savefig("flow.png")``.  Lines are medians over the sequences,
        bands reach from the tenth to the ninetieth percentile.

    Raises
    ------
    ImportError
        If matplotlib is not installed.

    Examples
    --------
    >>> import numpy as np, bptt_fast as bf
    >>> from bptt_fast import plots
    >>> flow = bf.diagnostics.gradient_flow(bf.Network(1, 4, 1, seed=0), np.ones((8, 50, 1)), np.zeros(8))
    >>> ax = plots.gradient_flow(flow)  # doctest: +SKIP
    """
    import numpy as np

    ax = _axes(ax)
    flows = flow if isinstance(flow, Mapping) else {"": flow}
    for (name, one_flow), color in zip(flows.items(), cycle(COLORS), strict=False):
        prefix = f"{_cut(name, 24)}: " if name != "" else ""
        found = np.isfinite(one_flow.factor)
        label = prefix + (f"\u00d7 {one_flow.factor:.3g} per step" if found else "too few steps for a factor")
        marker = _marker(one_flow.median)
        ax.plot(one_flow.lag, one_flow.median, color=color, label=label, linewidth=1.6, marker=marker)
        low, high = np.nanpercentile(one_flow.norm, (10, 90), axis=0)
        ax.fill_between(one_flow.lag, low, high, color=color, alpha=0.15, linewidth=0)
    if any((one_flow.median > 0).any() for one_flow in flows.values()):
        ax.set_yscale("log")
    _integers(ax)
    ax.set_xlim(left=0)
    ax.set_xlabel("lag (steps back in time)")
    ax.set_ylabel("norm of the gradient, dLoss / dstate")
    _legend(ax, columns=2)
    return ax


@suggesting
def error_surface(
    net: Network | Surface,
    x: Any = None,
    y: Any = None,
    *,
    log: bool = True,
    ax: Axes | None = None,
    **options: Any,
) -> Axes:
    """Draw the loss on a two-dimensional slice through the parameters of a network.

    Parameters
    ----------
    net : Network or Surface
        A network, with x and y as in ``Network.evaluate``, or the result of ``diagnostics.error_surface``.
    x, y : array or list
        The data, if `net` is a network.
    log : bool, default True
        Colours on a logarithmic scale, if the loss is positive.
    ax : matplotlib Axes, optional
        Axes to draw on; None: a new figure.
    **options
        Options of ``diagnostics.error_surface``: `along` (random directions, two weights, towards another
        solution), `span`, `points`, `seed`, `loss`.

    Returns
    -------
    ax : matplotlib Axes
        The axes, for example for ``ax.figure.savefig("surface.png")``.

    Raises
    ------
    ImportError
        If matplotlib is not installed.
    ShapeError, ConfigError
        If an argument is invalid; the message names it.

    Examples
    --------
    >>> import numpy as np, bptt_fast as bf
    >>> from bptt_fast import plots
    >>> net = bf.Network(1, 4, 1, seed=0)
    >>> ax = plots.error_surface(net, np.ones((8, 5, 1)), np.zeros(8))  # doctest: +SKIP
    """
    import numpy as np

    from . import diagnostics

    ax = _axes(ax)
    from matplotlib.colors import LogNorm

    surface = net if isinstance(net, diagnostics.Surface) else diagnostics.error_surface(net, x, y, **options)
    loss = np.ma.masked_invalid(surface.loss)
    low, high = float(loss.min()), float(loss.max())
    if log and low > 0 and high > 1.01 * low:
        # else the bottom of a narrow valley uses most of the colours
        low = min(max(low, float(np.quantile(loss.compressed(), 0.003))), high / 1.01)
        levels, norm = np.geomspace(low, high, 25), LogNorm(low, high)
        filled = ax.contourf(surface.a, surface.b, loss, levels, norm=norm, cmap="viridis", extend="min")
        ticks = np.geomspace(low, high, 6)
    else:
        filled = ax.contourf(surface.a, surface.b, loss, 24, cmap="viridis")
        ticks = np.linspace(low, high, 6)
    ax.contour(
        surface.a, surface.b, loss, list(filled.levels)[::3], colors="white", linewidths=0.4, alpha=0.6
    )
    largest, width = max(abs(low), abs(high), 1e-300), max(high - low, 1e-300)
    shared = max(0, round(np.log10(largest / width)))  # leading digits that all ticks have in common
    bar = ax.figure.colorbar(filled, ax=ax, ticks=ticks, format=f"%.{2 + shared}g")
    bar.ax.minorticks_off()
    bar.set_label(f"loss ({options['loss']})" if "loss" in options else "loss")
    for i, (name, (a, b)) in enumerate(surface.marks.items()):
        marker = "o*PX"[i % 4]
        size = 13 if marker == "*" else 9
        ax.plot(
            a,
            b,
            marker,
            color=VERMILLION,
            markersize=size,
            markeredgecolor="white",
            label=name,
            linestyle="none",
        )
    ax.locator_params(nbins=6)
    ax.set_xlabel(surface.labels[0])
    ax.set_ylabel(surface.labels[1])
    _legend(ax, f"Error surface: {surface.title}")
    return ax


@suggesting
def phase_plane(found: FixedPoints, *, ax: Axes | None = None) -> Axes:
    """Draw fixed points and the trajectories around them in the plane of the first two principal components.

    Parameters
    ----------
    found : FixedPoints
        The result of ``diagnostics.fixed_points``.
    ax : matplotlib Axes, optional
        Axes to draw on; None: a new figure.

    Returns
    -------
    ax : matplotlib Axes
        The axes, for example for ``ax.figure.savefig("plane.png")``.  The components are those of all states
        of the trajectories; the lines through unstable points are the directions of the largest eigenvalues.

    Raises
    ------
    ImportError
        If matplotlib is not installed.

    Examples
    --------
    >>> import numpy as np, bptt_fast as bf
    >>> from bptt_fast import plots
    >>> found = bf.diagnostics.fixed_points(bf.Network(1, 8, 1, seed=0), [0.0])
    >>> ax = plots.phase_plane(found)  # doctest: +SKIP
    """
    import numpy as np

    ax = _axes(ax)
    runs = found.trajectories
    runs = runs[np.isfinite(runs).all(axis=(1, 2))]
    states = np.concatenate([*runs, found.points])
    center = states.mean(axis=0)
    _, scales, axes = np.linalg.svd(states - center, full_matrices=False)
    plane = np.zeros((2, states.shape[1]))  # a network may have one unit
    plane[: len(axes)] = axes[:2]
    shares = np.append(scales, 0)[:2] ** 2 / max((scales**2).sum(), 1e-300)
    for run in (runs - center) @ plane.T:
        ax.plot(*run.T, color="0.7", linewidth=0.7, zorder=1)
        ax.plot(*run[0], ".", color="0.7", markersize=3, zorder=1)
    points = (found.points - center) @ plane.T
    span = 0.06 * np.ptp((states - center) @ plane.T, axis=0).max()
    for point, jacobian in zip(points[~found.stable], found.jacobians[~found.stable], strict=True):
        values, vectors = np.linalg.eig(jacobian)
        direction = plane @ vectors[:, np.abs(values).argmax()].real
        a, b = point - span * direction, point + span * direction
        ax.plot(*zip(a, b, strict=True), color=VERMILLION, linewidth=1.4, zorder=2)
    kinds: dict[str, tuple[Any, dict[str, Any]]] = {
        "stable": (found.stable, {"color": BLUE}),
        "unstable": (
            ~found.stable,
            {"color": "white", "markeredgecolor": VERMILLION, "markeredgewidth": 1.4},
        ),
    }
    for name, (chosen, style) in kinds.items():
        if chosen.any():
            ax.plot(*points[chosen].T, "o", markersize=6, label=f"{name} ({chosen.sum()})", zorder=3, **style)
    labels = [f"principal component {i + 1} ({share:.0%} of the variance)" for i, share in enumerate(shares)]
    ax.set_xlabel(labels[0])
    ax.set_ylabel(labels[1])
    _legend(ax, f"Phase plane: {len(found)} fixed point{'s' * (len(found) != 1)}")
    return ax


def _single(table: Any, name: str) -> Any:
    """A table of one column as a Series."""
    if not hasattr(table, "columns"):
        if hasattr(table, "iloc"):
            return table
        raise ConfigError(f"{name}: expected a Series or DataFrame of pandas, got {type(table).__name__}.")
    if table.shape[1] != 1:
        raise ShapeError(f"{name}: expected one column, got {table.shape[1]}.  Select one: {name}[...].")
    return table.iloc[:, 0]


def _times(table: Any) -> Any:
    """The index of a table, periods as the times when they begin."""
    index = table.index
    return index.to_timestamp() if hasattr(index, "to_timestamp") and hasattr(index, "start_time") else index


def _of_one_target(quantiles: Any) -> Any:
    """Columns of quantiles, of a table whose columns may be pairs (target, quantile)."""
    if quantiles.columns.nlevels == 1:
        return quantiles
    targets = quantiles.columns.get_level_values(0).unique().tolist()
    if len(targets) > 1:
        listed = ", ".join(map(str, targets))
        raise ShapeError(
            f"quantiles: expected those of one target, got {listed}.  Select one: quantiles[{targets[0]!r}]."
        )
    return quantiles[targets[0]]


def _draw_intervals(ax: Axes, quantiles: Any, labels: bool = True) -> None:
    """Shade the intervals between pairs of quantiles, the outer ones nearer to the background."""
    from matplotlib.colors import to_rgb

    levels, times, background = list(quantiles.columns), _times(quantiles), _background(ax)
    paler = 0.8 if sum(background) > 1.5 else 0.7  # dark blue on black is hard to see
    for i in range(len(levels) // 2):
        low, high = levels[i], levels[-1 - i]
        label = f"{high - low:.0%} interval" if labels else None
        share = paler ** (i + 1)
        color = [share * a + (1 - share) * b for a, b in zip(background, to_rgb(BLUE), strict=True)]
        if len(times) == 1:  # an area would have no width
            style: dict[str, Any] = dict(color=[color], linewidth=6, zorder=1, label=label)
            ax.vlines(times, quantiles[low], quantiles[high], **style)
        else:
            ax.fill_between(times, quantiles[low], quantiles[high], color=color, linewidth=0, label=label)


def _finish_time_axes(ax: Axes, series: Any) -> None:
    """Labels of both axes, dates that do not overlap, and a legend above the curves."""
    ax.set_xlabel(_wrapped(series.index.name or ("time" if _shorten_dates(ax) else "step")))
    ax.set_ylabel("value" if series.name is None else _wrapped(series.name))
    ax.margins(x=0.01)
    _legend(ax, columns=5)


def _wrapped(name: Any) -> str:
    """A name as the label of an axis, in at most three lines."""
    return fill(_cut(name, 105), 38)


def _cut(name: Any, most: int) -> str:
    """A name as text of at most so many characters, with an ellipsis if some are missing."""
    text = str(name)
    return text if len(text) <= most else f"{text[: most - 3].rstrip()}..."


def _grey(ax: Axes) -> str:
    """The grey of measured data: dark on a light background, and light on a dark one."""
    return "0.25" if sum(_background(ax)) > 1.5 else "0.8"


def _background(ax: Axes) -> list[float]:
    """The colour behind the curves, red, green and blue; white if the axes are transparent."""
    from matplotlib.colors import to_rgba

    *color, alpha = to_rgba(ax.get_facecolor())
    return [alpha * part + 1 - alpha for part in color]


def _marker(values: Any, marker: str = ".") -> str | None:
    """The marker of a curve that is a single point, which has no line."""
    import numpy as np

    return marker if np.isfinite(np.asarray(values, dtype=float)).sum() == 1 else None


def _name_spans(ax: Axes, spans: Mapping[str, tuple[Any, Any]]) -> None:
    """Names of periods above the curves: each at its period, within the axes, and in a row where it fits."""
    left, right = ax.get_xlim()
    points = ax.get_window_extent().width * 72 / ax.figure.dpi  # the width of the axes
    character = 5 / max(points, 1)  # mean width of a character, as a part of that
    ends: list[float] = []  # of each row
    for key, (first, last) in spans.items():
        name = str(key)
        middle = sum((float(ax.convert_xunits(end)) - left) / (right - left) for end in (first, last)) / 2
        width = character * (len(name) + 1)
        begin = min(max(middle - width / 2, 0.0), max(1 - width, 0.0))
        row = next((i for i, end in enumerate(ends) if end <= begin), len(ends))
        ends[row : row + 1] = [begin + width]
        at = left + (begin + width / 2) * (right - left), 0.98 - ROW * row
        ax.text(*at, name, ha="center", va="top", size="small", transform=ax.get_xaxis_transform())
    if ends:
        low, high = ax.get_ylim()
        ax.set_ylim(top=high + (high - low) * ROW * len(ends) / (1 - ROW * len(ends)))


def _integers(ax: Axes) -> None:
    """Marks at integers on the horizontal axis, which shows at least two of them."""
    from matplotlib import ticker

    low, high = ax.get_xlim()
    if high - low < 1:
        middle = round((low + high) / 2)
        ax.set_xlim(middle - 1, middle + 1)
    ax.xaxis.set_major_locator(ticker.MaxNLocator("auto", integer=True, steps=[1, 2, 5, 10]))


def _label_epochs(ax: Axes) -> None:
    """The axis of epochs, with marks at integers."""
    if ax.get_xscale() == "linear":
        _integers(ax)
    ax.set_xlabel("epoch")


def _log_losses(ax: Axes) -> None:
    """A logarithmic axis of losses, within a decade with plain numbers as marks."""
    from matplotlib import ticker

    ax.set_yscale("log")
    low, high = ax.get_ylim()
    if high < 10 * low:
        ax.yaxis.set_major_locator(ticker.MaxNLocator(6))
        ax.yaxis.set_major_formatter(ticker.ScalarFormatter(useOffset=False))
        ax.yaxis.set_minor_locator(ticker.NullLocator())


def _legend(ax: Axes, title: str = "", *, columns: int = 3, backwards: bool = False) -> None:
    """A legend above the axes, where it hides nothing, and a title above both."""
    ax.yaxis.get_offset_text().set(x=-0.01, horizontalalignment="right")  # a power of ten, left of the legend
    handles, labels = ax.get_legend_handles_labels()
    size, capacity = ("small", 88) if len(labels) <= 6 else ("x-small", 105)  # characters in six inches
    if labels:
        columns = max(1, min(columns, capacity // (max(map(len, labels)) + 5)))
    order = slice(None, None, -1 if backwards else None)
    if handles:
        ax.legend(
            handles[order],
            labels[order],
            frameon=False,
            loc="lower left",
            bbox_to_anchor=(0, 1),
            ncols=columns,
            borderaxespad=0,
            borderpad=0.2,
            fontsize=size,
            handlelength=1.3,
            columnspacing=1.2,
        )
    if title:
        rows = -(-len(handles) // columns)
        ax.set_title(title, loc="left", size="medium", pad=5 + 12 * rows)  # points


def _shorten_dates(ax: Axes) -> bool:
    """Labels of dates that do not overlap; whether the horizontal axis has dates."""
    from matplotlib import dates

    if not isinstance(ax.xaxis.get_major_locator(), dates.AutoDateLocator):
        return False
    locator = dates.AutoDateLocator(minticks=3)
    ax.xaxis.set_major_locator(locator)
    ax.xaxis.set_major_formatter(dates.ConciseDateFormatter(locator))
    return True


def _axes(ax: Axes | None) -> Axes:
    """The caller's axes, or the axes of a new figure."""
    if ax is not None:
        return ax
    try:
        from matplotlib import pyplot
    except ImportError as error:
        raise ImportError(
            'plots: matplotlib is not installed.  Try: pip install "bptt-fast[plots]"'
        ) from error
    return pyplot.subplots(figsize=(6, 4), layout="constrained")[1]
