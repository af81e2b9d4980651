"""Errors of forecasts, and the variance that they explain.

Steps without an actual value (NaN, or under a mask) are left out; forecasts must be numbers.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from .data import numbers
from .errors import ConfigError, ShapeError, integer, number, suggesting

Array = np.ndarray[Any, Any]


@suggesting
def mae(actual: ArrayLike, forecast: ArrayLike) -> float:
    """Mean absolute error, ``mean |y - f|``.

    Parameters
    ----------
    actual, forecast : array
        Values of equal shape.

    Returns
    -------
    error : float
        NaN if no actual value is known.

    Examples
    --------
    >>> from bptt_fast import metrics
    >>> metrics.mae([1.0, 2.0, 4.0], [1.0, 3.0, 2.0])
    1.0
    """
    y, f = _paired(actual, forecast=forecast)
    return _mean(np.abs(y - f))


@suggesting
def rmse(actual: ArrayLike, forecast: ArrayLike) -> float:
    """Root of the mean squared error, sqrt(mean (y - f)^2).

    Parameters
    ----------
    actual, forecast : array
        Values of equal shape.

    Returns
    -------
    error : float

    Examples
    --------
    >>> from bptt_fast import metrics
    >>> metrics.rmse([1.0, 2.0], [4.0, 5.0])
    3.0
    """
    y, f = _paired(actual, forecast=forecast)
    return float(np.sqrt(_mean((y - f) ** 2)))


@suggesting
def r2(actual: ArrayLike, forecast: ArrayLike) -> float:
    """Coefficient of determination, ``1 - sum (y - f)^2 / sum (y - mean y)^2``.

    Parameters
    ----------
    actual, forecast : array
        Values of equal shape.

    Returns
    -------
    share : float
        1 for errors of 0, 0 for a forecast as good as the mean; NaN if the known actual values are equal.

    Examples
    --------
    >>> from bptt_fast import metrics
    >>> metrics.r2([1.0, 2.0, 3.0], [1.0, 2.0, 2.0])
    0.5
    """
    y, f = _paired(actual, forecast=forecast)
    if not y.size or y.min() == y.max():
        return float("nan")
    return 1 - _mean((y - f) ** 2) / _mean((y - _mean(y)) ** 2)


@suggesting
def accuracy(actual: ArrayLike, forecast: ArrayLike) -> float:
    """Share of the classes that are right.

    Parameters
    ----------
    actual, forecast : array
        Classes, as numbers, of equal shape.

    Returns
    -------
    share : float

    Examples
    --------
    >>> from bptt_fast import metrics
    >>> metrics.accuracy([0, 1, 2, 2], [0, 1, 2, 1])
    0.75
    """
    y, f = _paired(actual, forecast=forecast)
    return _mean((y == f).astype(np.float64))


@suggesting
def smape(actual: ArrayLike, forecast: ArrayLike) -> float:
    """Symmetric mean absolute percentage error, ``mean 200 |y - f| / (|y| + |f|)``, from 0 to 200.

    A step with y = f = 0 counts as 0.

    Parameters
    ----------
    actual, forecast : array
        Values of equal shape.

    Returns
    -------
    error : float

    Examples
    --------
    >>> from bptt_fast import metrics
    >>> metrics.smape([1.0, 0.0], [3.0, 0.0])
    50.0
    """
    y, f = _paired(actual, forecast=forecast)
    size = np.abs(y) + np.abs(f)
    return _mean(np.divide(200 * np.abs(y - f), size, out=np.zeros_like(size), where=size > 0))


@suggesting
def mase(actual: ArrayLike, forecast: ArrayLike, history: ArrayLike, season: int = 1) -> float:
    """Mean absolute scaled error: `mae` divided by `naive_error` of the history (Hyndman and Koehler 2006).

    Parameters
    ----------
    actual, forecast : array
        Values of equal shape.
    history : array (T,)
        The known steps before the forecast.
    season : int, default 1
        Steps of a season.

    Returns
    -------
    error : float

    Examples
    --------
    >>> from bptt_fast import metrics
    >>> metrics.mase([5.0, 6.0], [5.0, 7.0], history=[1.0, 2.0, 3.0, 4.0])
    0.5
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        return float(np.float64(mae(actual, forecast)) / naive_error(history, season))


@suggesting
def naive_error(history: ArrayLike, season: int = 1) -> float:
    """Mean absolute error of the seasonal naive forecast within a series: ``mean |y[t] - y[t - season]|``.

    Parameters
    ----------
    history : array (T,)
        A series; NaN where it is unknown.
    season : int, default 1
        Steps of a season.

    Returns
    -------
    error : float
        NaN if the series has no two known values a season apart.

    Examples
    --------
    >>> from bptt_fast import metrics
    >>> metrics.naive_error([1.0, 2.0, 4.0])
    1.5
    """
    season = integer(season, "season")
    known = _numbers(history, "history")
    if known.ndim != 1:
        raise ShapeError(f"history: expected one series (T,), got {known.shape}.")
    differences = np.abs(known[season:] - known[:-season])
    return _mean(differences[np.isfinite(differences)])


@suggesting
def pinball(actual: ArrayLike, forecast: ArrayLike, quantile: float) -> float:
    """Mean pinball loss of forecasts of one quantile q, mean max(q (y - f), (q - 1) (y - f)).

    Parameters
    ----------
    actual, forecast : array
        Values of equal shape.
    quantile : float
        q, between 0 and 1.

    Returns
    -------
    error : float

    Examples
    --------
    >>> from bptt_fast import metrics
    >>> metrics.pinball([1.0, 1.0], [0.0, 2.0], quantile=0.75)
    0.5
    """
    q = number(quantile, "quantile", 0, 1, open_low=True, open_high=True)
    y, f = _paired(actual, forecast=forecast)
    return _mean(np.maximum(q * (y - f), (q - 1) * (y - f)))


@suggesting
def coverage(actual: ArrayLike, lower: ArrayLike, upper: ArrayLike) -> float:
    """Share of the actual values in their interval, bounds included.

    Parameters
    ----------
    actual, lower, upper : array
        Values and bounds of equal shape.

    Returns
    -------
    share : float

    Examples
    --------
    >>> from bptt_fast import metrics
    >>> metrics.coverage([1.0, 2.0, 3.0, 4.0], [0.0, 0.0, 0.0, 0.0], [2.5, 2.5, 2.5, 2.5])
    0.5
    """
    y, low, high = _paired(actual, lower=lower, upper=upper)
    return _mean(((low <= y) & (y <= high)).astype(np.float64))


def _paired(actual: ArrayLike, **forecasts: ArrayLike) -> list[Array]:
    """The known actual values and the forecasts of the same steps, flat."""
    y = _numbers(actual, "actual")
    known = ~np.isnan(y)
    paired = [y[known]]
    for name, values in forecasts.items():
        f = _numbers(values, name)
        if f.shape != y.shape:
            raise ShapeError(f"{name}: expected the shape of actual, {y.shape}, got {f.shape}.")
        if not np.isfinite(f[known]).all():
            raise ConfigError(f"{name}: expected finite numbers where actual is known, got NaN or infinity.")
        paired.append(f[known])
    return paired


def _numbers(values: Any, name: str) -> Array:
    """The numbers in float64, NaN where one is missing or under a mask."""
    if isinstance(values, np.ma.MaskedArray):
        values = np.ma.filled(values.astype(np.float64), np.nan)
    try:
        return np.asarray(values, dtype=np.float64)
    except Exception:  # gaps of pandas, tensors with gradients; or else `numbers` says what is wrong
        return numbers(values, name).astype(np.float64)


def _mean(values: Array) -> float:
    return float(values.mean()) if values.size else float("nan")
