"""Backtests: forecasts from many past origins, compared with what followed."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from . import metrics, notebook
from .errors import (
    ConfigError,
    check_arguments,
    choice,
    flag,
    integer,
    items,
    parameters_of,
    plain,
    suggesting,
)
from .forecasting import Forecaster, checked_levels, origins_of
from .network import Network
from .series import Series, read, tables

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Array = np.ndarray[Any, Any]
GROUPS = ("series", "target", "step", "origin", "time")


@suggesting
def backtest(
    forecaster: Forecaster,
    data: Any,
    *,
    start: Any = 0.5,
    step: int | None = None,
    horizon: int | None = None,
    window: int | None = None,
    refit: bool | int = False,
    quantiles: Sequence[float] = (),
    season: int = 1,
    paths: int = 200,
    rng: Any = None,
    **options: Any,
) -> Backtest:
    """Forecast from many origins in the past and compare with what followed.

    Parameters
    ----------
    forecaster : Forecaster
        Without `refit` a fitted one, whose training data end before `start`.
    data : as in ``Forecaster.fit``
        The series.
    start : label, float or int, default 0.5
        The time of the first step of the first forecast, or the share or number of times before it.
    step : int, optional
        Times from one origin to the next; default: `horizon`.
    horizon : int, optional
        Steps of each forecast; default: that of the forecaster.
    window : int, optional
        Rows of the history that are known at an origin: a sliding window.  None: all, an expanding one.
    refit : bool or int, default False
        Whether a new forecaster with the same arguments is trained before each origin, on the rows of all
        series before it (within the `window`); a number k: before each k-th origin.
    quantiles : sequence of float, default ()
        Quantiles to forecast as well, for the pinball loss and the coverage between the outer two.
    season : int, default 1
        Steps of a season, for MASE.
    paths, rng
        As in ``Forecaster.predict_quantiles``.
    **options
        Arguments of ``Forecaster.fit``, with `refit`.

    Returns
    -------
    result : Backtest
        All forecasts, and tables of their errors.

    Raises
    ------
    ConfigError, ShapeError
        If an argument is invalid, the forecaster was trained on rows that it would forecast, or as in
        ``Forecaster.fit``.

    Notes
    -----
    Origins are times, the same for all series; a series takes part in those before which it has a row, and
    after which it has all steps.  Known covariates are taken from `data`.

    Examples
    --------
    >>> import numpy as np, pandas as pd, bptt_fast as bf
    >>> days = pd.date_range("2024-01-01", periods=120, freq="D")
    >>> sales = pd.DataFrame({"sales": 100 + 20.0 * (days.day_of_week >= 5)}, index=days)
    >>> model = bf.Forecaster("sales", calendar=["weekday"], horizon=7, hidden_size=8, seed=0)
    >>> history = model.fit(sales[:80], epochs=20, optimizer=bf.Adam(0.01), verbose=0)
    >>> result = bf.backtest(model, sales, start=days[80], season=7)
    >>> len(result.forecasts), result.table().columns.tolist()
    (35, ['n', 'mae', 'rmse', 'mase', 'smape'])
    """
    if not isinstance(forecaster, Forecaster):
        raise ConfigError(f"forecaster: expected a Forecaster, got {type(forecaster).__name__}.")
    steps = forecaster.check_steps(horizon)
    every = _every(refit)
    names = [*parameters_of(backtest)[:-1], *parameters_of(Forecaster.fit)[:-1], *parameters_of(Network.fit)]
    check_arguments("backtest", options, list(dict.fromkeys(names)))
    if not every and options:
        raise ConfigError(f"backtest: expected options of fit with refit only, got {next(iter(options))!r}.")
    levels = () if items(quantiles) == [] else checked_levels(quantiles)
    roles = forecaster.roles.resolved(tables(data, forecaster.roles)[0][0][1])
    rate = None if every else forecaster.frequency
    series, _ = read(data, roles, forecaster.missing == "indicator", rate)
    if window is not None:
        window = integer(window, "window", forecaster.minimum_rows)
    season = integer(season, "season")
    origins = origins_of(series, start, steps if step is None else step, steps)
    size = every or len(origins)
    parts = []
    for begin in range(0, len(origins), size):
        group = origins[begin : begin + size]
        model = forecaster
        if every:
            model = forecaster.unfitted()
            known = [_before(one, int(one.index.searchsorted(group[0][0])), window) for one in series]
            model.fit_series([one for one in known if len(one) >= model.minimum_rows], roles, **options)
        pairs = [
            (one, row) for _, rows in group for one, row in zip(series, rows, strict=True) if row is not None
        ]
        if not every:
            model.check_unseen(pairs, "backtest")
        parts += _compared(model, pairs, steps, window, levels, season, paths, rng)
    return Backtest(_concatenated(parts), levels, season)


def _every(refit: Any) -> int:
    """The number of origins from one fit to the next; 0: no fit."""
    if isinstance(plain(refit), bool):
        return int(flag(refit, "refit"))
    return integer(refit, "refit")


def _before(one: Series, end: int, window: int | None) -> Series:
    """The rows of a series before `end`."""
    return cut(one, 0 if window is None else max(0, end - window), end)


def cut(one: Series, first: int, last: int) -> Series:
    """The rows from `first` to `last` of a series."""
    rows = slice(first, last)
    labels = {name: values[rows] for name, values in one.labels.items()}
    blocks = {name: getattr(one, name)[rows] for name in ("index", "targets", "past", "known", "calendar")}
    return replace(one, labels=labels, **blocks)


def _compared(
    model: Forecaster,
    pairs: Sequence[tuple[Series, int]],
    steps: int,
    window: int | None,
    levels: tuple[float, ...],
    season: int,
    paths: int,
    rng: Any,
) -> list[Any]:
    """Tables of the forecasts from each origin, and what followed."""
    import pandas

    firsts = [0 if window is None else max(0, row - window) for _, row in pairs]
    parts = [cut(one, first, row + steps) for (one, row), first in zip(pairs, firsts, strict=True)]
    rows = [row - first for (_, row), first in zip(pairs, firsts, strict=True)]
    points = model.forecast_rows(parts, rows, steps)
    spread = model.quantile_rows(parts, rows, steps, levels, paths, rng) if levels else None
    found = []
    for i, (one, row) in enumerate(zip(parts, rows, strict=True)):
        for j, target in enumerate(model.roles.target or ()):
            columns: dict[Hashable, Any] = {
                "series": "" if one.key is None else one.key,
                "target": target,
                "origin": one.index[row - 1],
                "step": np.arange(1, steps + 1),
                "time": one.index[row : row + steps],
                "actual": one.targets[row : row + steps, j],
                "forecast": points[i, :, j],
                "naive_error": metrics.naive_error(one.targets[:row, j], season),
            }
            if spread is not None:
                columns |= {level: spread[i, :, j, k] for k, level in enumerate(levels)}
            found.append(pandas.DataFrame(columns))
    return found


def _concatenated(parts: list[Any]) -> Any:
    import pandas

    return pandas.concat(parts, ignore_index=True)


@dataclass(frozen=True, repr=False)
class Backtest:
    """The forecasts of a backtest, and their errors.

    Attributes
    ----------
    forecasts : DataFrame
        One row for each series, target, origin and step: "series" (its key), "target", "origin" (the time of
        the last known row), "step" from 1, "time", "actual", "forecast", "naive_error" (the scale of MASE),
        and one column for each quantile.
    quantiles : tuple of float
        The quantiles that were forecast.
    season : int
        Steps of a season, for MASE.

    Examples
    --------
    >>> import numpy as np, pandas as pd, bptt_fast as bf
    >>> series = pd.Series(np.sin(np.arange(100) / 4), name="height")
    >>> model = bf.Forecaster(horizon=4, hidden_size=4, window=16, seed=0)
    >>> result = bf.backtest(model, series, start=80, refit=True, epochs=1, verbose=0)
    >>> result.table("step")["n"].tolist(), result.forecasts["origin"].unique().tolist()
    ([5, 5, 5, 5], [79, 83, 87, 91, 95])
    """

    forecasts: Any
    quantiles: tuple[float, ...]
    season: int

    def table(self, by: Any = "target") -> Any:
        """Errors of the forecasts, in groups.

        Parameters
        ----------
        by : str or list of str, default "target"
            "series", "target", "step", "origin" or "time": a row of the table for each of their values.

        Returns
        -------
        table : DataFrame
            "n", the number of steps with a known actual value, and their errors by ``bptt_fast.metrics``:
            "mae", "rmse", "mase" and "smape"; with quantiles "pinball", their mean, and "coverage", the share
            of actual values between the outer two.

        Raises
        ------
        ConfigError
            If a group is unknown.
        """
        import pandas

        groups = [choice(name, "by", GROUPS) for name in ([by] if isinstance(by, str) else by)]
        if not groups:
            raise ConfigError("by: expected at least one group, got none.")
        rows = {}
        for values, part in self.forecasts.groupby(groups, sort=False):
            rows[values] = self._errors(part)
        index = pandas.MultiIndex.from_tuples(rows, names=groups)
        if len(groups) == 1:
            index = index.get_level_values(0)
        return pandas.DataFrame(list(rows.values()), index=index)

    def _errors(self, part: Any) -> dict[str, float]:
        y, f = part["actual"].to_numpy(), part["forecast"].to_numpy()
        naive = part["naive_error"].to_numpy()
        with np.errstate(divide="ignore", invalid="ignore"):
            scaled = np.abs(y - f) / naive
        errors = {
            "n": int(np.isfinite(y).sum()),
            "mae": metrics.mae(y, f),
            "rmse": metrics.rmse(y, f),
            "mase": float(np.nanmean(scaled)) if np.isfinite(y).any() else float("nan"),
            "smape": metrics.smape(y, f),
        }
        if self.quantiles:
            each = [metrics.pinball(y, part[q].to_numpy(), q) for q in self.quantiles]
            errors["pinball"] = float(np.mean(each))
        if len(self.quantiles) > 1:
            low, high = (part[q].to_numpy() for q in (self.quantiles[0], self.quantiles[-1]))
            errors["coverage"] = metrics.coverage(y, low, high)
        return errors

    def plot(self, *, series: Any = None, target: Any = None, ax: Axes | None = None) -> Axes:
        """Draw the forecasts from all origins and the actual values, see ``plots.backtest``.

        Parameters
        ----------
        series, target : optional
            Which ones; default: the first.
        ax : matplotlib Axes, optional
            Axes to draw on; None: a new figure.

        Returns
        -------
        ax : matplotlib Axes
        """
        from . import plots

        return plots.backtest(self, series=series, target=target, ax=ax)

    def _repr_html_(self) -> str:
        errors = self.table()
        rows = [
            (str(target), *values)
            for target, values in zip(errors.index, errors.values.tolist(), strict=True)
        ]
        return notebook.titled(self._title(), notebook.table(rows, ["target", *errors.columns]))

    def __repr__(self) -> str:
        return f"{self._title()}\n{self.table()}"

    def _title(self) -> str:
        origins, series = (self.forecasts[name].nunique() for name in ("origin", "series"))
        return f"Backtest({series} series, {origins} origins)"
