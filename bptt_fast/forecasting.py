"""A forecaster: a network that predicts the targets of each row of a series from what is known before it.

The inputs of row t are the targets and past covariates of row t - 1, the known covariates and the calendar of
row t, the static covariates, and categories; its outputs are the targets of row t.  A recursive forecast
feeds predicted targets back as inputs.  For a direct forecast the rows after the origin have no targets
among their inputs (0, and an indicator of 0), as it was in training, so nothing is fed back.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from reprlib import Repr
from typing import TYPE_CHECKING, Any, TypedDict, TypeVar, Unpack, get_args, overload

import numpy as np

from . import notebook
from .callbacks import History
from .choices import Cell, LossName, ManySeries, Missing, SeriesScaling, Strategy, Table
from .columns import moments
from .data import Sequences
from .errors import (
    ConfigError,
    ShapeError,
    check_arguments,
    choice,
    integer,
    items,
    number,
    parameters_of,
    plain,
    suggesting,
)
from .losses import generator
from .losses import get as get_loss
from .network import Network
from .series import Roles, Series, by_key, categories_of, codes, extended, read, regular, results, tables

if TYPE_CHECKING:
    import pandas

    from .losses import Loss

Array = np.ndarray[Any, Any]
Scales = tuple[Array, Array]  # means and deviations of columns

SET_BY_ROLES = ("input_size", "output_size", "readout", "bidirectional", "categories")
SET_BY_DATA = {  # the options of Network.fit that a forecaster sets, and what to do
    **dict.fromkeys(("validation_split", "validation_data"), "Use validation=0.1, a share of the last rows."),
    **dict.fromkeys(("scaling", "loss"), "The forecaster has it: bf.Forecaster(..., loss=..., scaling=...)."),
    **dict.fromkeys(("sample_weight", "x0", "lengths", "stateful", "teacher_forcing"), "Leave it out."),
}
Key = TypeVar("Key")
PATHS_AT_ONCE = 20_000  # rows of one batch of sample paths


class _Options(TypedDict, total=False):
    """The arguments of quantiles and intervals on which the type of the result does not depend."""

    future: Any
    paths: int
    rng: Any


class Forecaster:
    """Forecasts of one series or many, with covariates, calendar features and intervals.

    Parameters
    ----------
    target : name or list of names, optional
        The columns to forecast; None: all without another role.
    past : list of names, default ()
        Covariates that are known up to the last row of the history, such as measurements.
    known : list of names, default ()
        Covariates that are also known for the steps ahead, such as prices that are set, or weather forecasts.
    static : list of names, default ()
        Columns with one value in all rows of a series.
    categorical : list of names, default ()
        Those of `known` and `static` whose values are categories: text, integers, ...
    calendar : list of str, default ()
        Features of the rows' times: "minute", "hour", "weekday", "day" (of the month), "dayofyear", "week",
        "month" and "quarter", each as sine and cosine of its place in the cycle; "weekend" and "holiday" as 0
        or 1.
    holidays : list of dates, default ()
        The dates of "holiday".
    key : name, optional
        The column of a long table that says to which series a row belongs.
    time : name, optional
        The column of times; None: the index of the tables.
    horizon : int, default 1
        Number of steps to forecast.
    window : int, default 32
        Rows of a series that the network reads before a forecast; the length of the windows for training.
    stride : int, default 1
        Rows from one window to the next.  Larger values make epochs shorter.
    strategy : {"recursive", "direct"}, default "recursive"
        "recursive": the network learns to predict one step, and its forecasts are fed back as inputs; any
        number of steps.  "direct": it learns to predict all steps of the horizon from the history; needed for
        `past` covariates and a horizon above 1.
    loss : str or Loss, default "mse"
        "mse", "mae" or "huber" yield a forecast; "pinball" with quantiles and the distributions
        ("gaussian", "laplace", "student_t", "poisson", "negative_binomial") yield quantiles as well, those of
        "pinball" and "ordered_pinball" one step ahead or directly.
    scaling : {"auto", "global", "series", None}, default "auto"
        Targets are shifted and divided by the mean and deviation of all series ("global") or of the history
        of each series ("series"); "auto": "global" for one series, else "series".  Counts are scaled as
        inputs only.  Covariates that are numbers are always scaled globally; None: nothing is scaled.
    missing : {"error", "indicator"}, default "error"
        Whether NaN is an error, or a missing value: as an input it is 0, with a further input that is 0 where
        a value is missing and else 1; rows without all targets have weight 0 in training.
    hidden_size : int, default 32
        State size of each layer.
    cell : str, default "gru"
        The cell, as in ``Network``.
    **network
        Further arguments of ``Network``: `num_layers`, `head`, `dropout`, `dtype`, `seed`, ...

    Attributes
    ----------
    network : Network
        The trained network; its inputs and outputs are scaled.
    roles : Roles
        The columns by role.
    frequency : str or int
        The frequency of the series, of integers the step.
    categories : dict of name to list
        The categories of each column.

    Raises
    ------
    ConfigError
        If an argument is invalid.

    Notes
    -----
    `fit` and `predict` take a DataFrame or Series of pandas, a list or a dict of them, or a long table with
    `key`; forecasts have the same form.  Series may begin and end at different times and have different
    lengths.  Every series has one frequency, the same for all, and every column a role.

    A forecast depends on the history and on known covariates only.  With scaling "series" the mean and the
    deviation are those of the history.

    Examples
    --------
    A daily series with a weekly cycle, and its next week.

    >>> import numpy as np, pandas as pd, bptt_fast as bf
    >>> days = pd.date_range("2024-01-01", periods=140, freq="D")
    >>> sales = pd.DataFrame({"sales": 100 + 20.0 * (days.day_of_week >= 5)}, index=days)
    >>> model = bf.Forecaster("sales", calendar=["weekday"], horizon=7, hidden_size=8, seed=0)
    >>> history = model.fit(sales, epochs=20, optimizer=bf.Adam(0.01), verbose=0)
    >>> future = model.predict(sales)
    >>> future.index[0].date().isoformat(), future["sales"].between(80, 140).all().item()
    ('2024-05-20', True)
    """

    def __init__(
        self,
        target: Any = None,
        *,
        past: Sequence[Hashable] = (),
        known: Sequence[Hashable] = (),
        static: Sequence[Hashable] = (),
        categorical: Sequence[Hashable] = (),
        calendar: Sequence[str] = (),
        holidays: Sequence[Any] = (),
        key: Hashable | None = None,
        time: Hashable | None = None,
        horizon: int = 1,
        window: int = 32,
        stride: int = 1,
        strategy: Strategy = "recursive",
        loss: LossName | Loss = "mse",
        scaling: SeriesScaling | None = "auto",
        missing: Missing = "error",
        hidden_size: int = 32,
        cell: Cell = "gru",
        **network: Any,
    ) -> None:
        self._arguments: dict[str, Any] = {
            name: value for name, value in locals().items() if name not in ("self", "network")
        } | network
        self.roles = Roles(target, past, known, static, categorical, calendar, holidays, key, time)
        self.horizon, self.window = integer(horizon, "horizon"), integer(window, "window")
        self.stride = integer(stride, "stride")
        self.strategy = choice(strategy, "strategy", get_args(Strategy))
        self.loss = _checked_loss(loss)
        self.scaling = None if scaling is None else choice(scaling, "scaling", get_args(SeriesScaling))
        self.missing = choice(missing, "missing", get_args(Missing))
        if self.roles.past and self.strategy == "recursive" and self.horizon > 1:
            raise ConfigError(
                f'past: expected horizon=1 with the strategy "recursive", as past covariates are unknown in '
                f'the steps ahead, got horizon={horizon}.  Use strategy="direct".'
            )
        own, of_network = parameters_of(type(self).__init__), parameters_of(Network.__init__)
        check_arguments("Forecaster", network, list(dict.fromkeys([*own[:-1], *of_network])))
        for name in SET_BY_ROLES:
            if name in network:
                raise ConfigError(
                    f"Forecaster: expected options of Network that the columns leave open, got {name!r}."
                )
        self._options = {"hidden_size": hidden_size, "cell": cell, **network}
        Network(1, output_size=1, **self._options)  # checks them
        self._fitted: _Fitted | None = None
        self._scores: Array | None = None

    def __repr__(self) -> str:
        return f"Forecaster({', '.join(f'{name}={value}' for name, value in self._shown().items())})"

    def _repr_html_(self) -> str:
        net = None if self._fitted is None else self._fitted.network
        title = "Forecaster" + (", not fitted" if net is None else f": {net.num_parameters:,} parameters")
        parts = [] if net is None else [notebook.folded("Network", net._repr_html_())]
        return notebook.titled(title, notebook.table(list(self._shown().items())), *parts)

    def _shown(self) -> dict[str, str]:
        """The arguments that matter, by name, as texts, in which long lists are shortened."""
        short = Repr()
        short.maxother = short.maxstring = 100
        given = self._arguments.items()
        return {
            name: short.repr(value) for name, value in given if value not in (None, ()) or name == "scaling"
        }

    @property
    def network(self) -> Network:
        """The trained network."""
        return self._checked("network").network

    @property
    def frequency(self) -> Any:
        """The frequency of the series."""
        return self._checked("frequency").rate

    @property
    def categories(self) -> dict[Hashable, list[Any]]:
        """The categories of each column."""
        return self._checked("categories").categories

    def _checked(self, what: str) -> _Fitted:
        if self._fitted is None:
            raise ConfigError(f"{what}: expected a fitted forecaster, got one before fit.")
        return self._fitted

    def unfitted(self) -> Forecaster:
        """A forecaster with the same arguments, not fitted.

        Returns
        -------
        forecaster : Forecaster
        """
        return Forecaster(**self._arguments)

    # ---- training

    def fit(
        self, data: Any, *, epochs: int = 50, validation: float = 0.1, patience: Any = 5, **options: Any
    ) -> History:
        """Train a new network.

        Parameters
        ----------
        data : DataFrame or Series, list or dict of them, or a long table
            The series.
        epochs : int, default 50
            Greatest number of passes over the windows.
        validation : float, default 0.1
            Share, in [0, 1), of the last rows of each series that is held out; series that are too short for
            it are used for training alone.
        patience : int or Stopping or None, default 5
            Stop after so many epochs without a lower loss, and restore the best weights.
        **options
            Further arguments of ``Network.fit``: `optimizer`, `batch_size`, `callbacks`, `verbose`, ...

        Returns
        -------
        history : History
            The record of the training; losses refer to scaled targets.

        Raises
        ------
        ConfigError, ShapeError
            If an argument or the data are invalid; the forecaster is unchanged.
        DivergedError
            If the loss is NaN or infinite; the forecaster is unchanged.
        KeyboardInterrupt
            On Ctrl-C; the forecaster has the weights of the last finished update.

        Warns
        -----
        UserWarning
            If the median of the rows of a target that are held out lies above or below all rows that are
            learned, unless `scaling` is that of each series: a trend.
        """
        first = tables(data, self.roles)[0][0][1]
        roles = self.roles.resolved(first)
        if not roles.target:
            raise ConfigError("target: expected at least one column to forecast, got none.")
        series, _ = read(data, roles, self.missing == "indicator")
        return self.fit_series(
            series, roles, epochs=epochs, validation=validation, patience=patience, **options
        )

    def fit_series(
        self,
        series: Sequence[Series],
        roles: Roles,
        *,
        epochs: int = 50,
        validation: float = 0.1,
        patience: Any = 5,
        **options: Any,
    ) -> History:
        """`fit` for series that have been read."""
        own, of_network = parameters_of(type(self).fit), parameters_of(Network.fit)
        check_arguments("fit", options, list(dict.fromkeys([*own[:-1], *of_network])))
        for name in options:
            if name in SET_BY_DATA:
                raise ConfigError(
                    "fit: expected options of Network.fit that the forecaster does not set itself, got "
                    f"{name!r}.  {SET_BY_DATA[name]}"
                )
        share = number(validation, "validation", 0, 1, open_high=True)
        least = self.minimum_rows
        for one in series:
            if len(one) < least:
                raise ShapeError(f"{one.name}: expected at least {least} rows, got {len(one)}.")
        ends = [self._training_rows(len(one), share) for one in series]
        fitted = self._encoding(series, ends, roles)
        net = fitted.network
        x, y, weight = (self._direct if self.strategy == "direct" else self._windows)(fitted, series, ends)
        held = self._held_out(fitted, series, ends)
        try:
            record = net.fit(
                x,
                y,
                sample_weight=weight,
                loss=self.loss,
                epochs=epochs,
                patience=patience,
                validation_data=held,
                **options,
            )
        except KeyboardInterrupt:
            self.roles, self._fitted, self._scores = roles, fitted, None
            raise
        self.roles, self._fitted, self._scores = roles, fitted, None
        if fitted.targets is not None:
            _warn_of_trends(series, ends, roles.target or ())
        return record

    @property
    def minimum_rows(self) -> int:
        """The least number of rows of a series in `fit`."""
        return 1 + (self.horizon if self.strategy == "direct" else 1)

    def _training_rows(self, rows: int, share: float) -> int:
        """The number of first rows that are not held out."""
        if share == 0:
            return rows
        held = max(round(share * rows), self.minimum_rows - 1)
        return rows - held if rows - held >= self.minimum_rows else rows

    def _encoding(self, series: Sequence[Series], ends: Sequence[int], roles: Roles) -> _Fitted:
        known = [replace(one, targets=one.targets[:end]) for one, end in zip(series, ends, strict=True)]
        scaling = self.scaling
        if scaling == "auto":
            scaling = "global" if len(series) == 1 else "series"

        def measure(blocks: Sequence[Array]) -> Scales:
            return _scales(np.concatenate(blocks), self.scaling is not None)

        pairs = list(zip(series, ends, strict=True))
        categories = categories_of(series, roles)
        sizes = [len(values) for values in categories.values()]
        may_miss, direct = self.missing == "indicator", self.strategy == "direct"
        fitted = _Fitted(
            roles,
            regular(series[0].index, None, series[0].name)[1],
            categories,
            measure([one.past[:end] for one, end in pairs]),
            measure([one.known[:end] for one, end in pairs]),
            measure([one.static[None] for one in series]),
            None if scaling == "series" else measure([one.targets for one in known]),
            {one.key: one.index[-1] for one in series},
            (may_miss or direct, may_miss),
        )
        width = fitted.inputs(series[0], 1, 2, len(series[0]), fitted.scales_of(series[0], ends[0])).shape[1]
        fitted.network = Network(
            width,
            output_size=len(roles.target or ()) * self.loss.outputs,
            readout="every",
            categories={width - len(sizes) + i: size for i, size in enumerate(sizes)},
            **self._options,
        )
        return fitted

    def _windows(
        self, fitted: _Fitted, series: Sequence[Series], ends: Sequence[int]
    ) -> tuple[Any, Array, Array]:
        """Windows as offsets into the rows of all series, for training one step ahead.

        A series that is shorter than a window is followed by rows of weight 0.
        """
        length, counts = min(self.window, max(ends) - 1), self.loss.targets == "count"
        columns: tuple[list[Array], list[Array], list[Array]] = ([], [], [])
        offsets, start = [], 0
        for one, end in zip(series, ends, strict=True):
            gap = max(length - (end - 1), 0)
            for blocks, rows in zip(columns, fitted.rows(one, 1, end, end, end, counts), strict=True):
                blocks.append(np.concatenate([rows, np.zeros((gap, *rows.shape[1:]))]))
            last = end - 1 + gap - length
            offsets += [start + offset for offset in (*range(0, last, self.stride), last)]
            start += end - 1 + gap
        x, y, weight = map(np.concatenate, columns)
        rows = x.astype(fitted.network.dtype)
        starts = np.array(offsets, dtype=np.int64)
        windows = Sequences(rows, starts, np.full(len(starts), length, np.int64), "windows", length, 1, 0)
        return windows, y, weight

    def _direct(
        self, fitted: _Fitted, series: Sequence[Series], ends: Sequence[int]
    ) -> tuple[list[Array], list[Array], list[Array]]:
        """Windows and the steps after each, which alone have weights, for training all steps at once."""
        parts = []
        for one, end in zip(series, ends, strict=True):
            last = end - self.horizon
            first = min(self.window, last)
            for origin in (*range(first, last, self.stride), last):
                parts.append(self._direct_rows(fitted, one, origin, end))
        return _unzipped(parts, fitted.network.dtype)

    def _direct_rows(self, fitted: _Fitted, one: Series, origin: int, end: int) -> tuple[Array, Array, Array]:
        first, last = max(1, origin - self.window + 1), origin + self.horizon
        x, y, weight = fitted.rows(one, first, last, origin, end, self.loss.targets == "count")
        weight[: origin - first] = 0
        return x, y, weight

    def _held_out(self, fitted: _Fitted, series: Sequence[Series], ends: Sequence[int]) -> Any:
        """Inputs, targets and weights of the held-out rows, after windows of weight 0; None without any."""
        parts = []
        for one, end in zip(series, ends, strict=True):
            if end == len(one):
                continue
            if self.strategy == "direct":
                last = len(one) - self.horizon
                parts += [
                    self._direct_rows(fitted, one, origin, end)
                    for origin in (*range(end, last, self.stride), last)
                ]
            else:
                first = max(1, end - self.window)
                x, y, weight = fitted.rows(one, first, len(one), len(one), end, self.loss.targets == "count")
                weight[: end - first] = 0
                parts.append((x, y, weight))
        return _unzipped(parts, fitted.network.dtype) if parts else None

    # ---- forecasts

    @suggesting
    def predict(self, history: ManySeries, horizon: int | None = None, *, future: Any = None) -> ManySeries:
        """Forecast the steps after the end of each series.

        Parameters
        ----------
        history : as in `fit`
            The known rows of each series, at least one; the last `window` rows are read.
        horizon : int, optional
            Number of steps; default: the parameter `horizon`.
        future : as `history`, optional
            Tables with the known covariates of the steps ahead, matched by their times.  Other rows, and
            columns with another role, are not read; one without a role is an error.

        Returns
        -------
        forecast : DataFrame or Series, or a list, dict or long table of them
            One row per step and one column per target, in the form of `history`.  For a distribution the
            forecast is its mean, for "pinball" the quantile nearest to the median; a recursive one feeds it
            back.

        Raises
        ------
        ConfigError, ShapeError
            If the tables lack a column, a time or a known covariate; the message names it.
        DivergedError
            If an output is NaN or infinite.
        """
        series, form, steps = self._ahead(history, horizon, future)
        points = self.forecast_rows(series, [len(one) - steps for one in series], steps)
        return self._as_tables(list(points), series, form, steps)

    @overload
    def predict_quantiles(
        self,
        history: list[Any],
        quantiles: Sequence[float] = (0.1, 0.5, 0.9),
        horizon: int | None = None,
        **options: Unpack[_Options],
    ) -> list[pandas.DataFrame]: ...
    @overload
    def predict_quantiles(
        self,
        history: Mapping[Key, Any],
        quantiles: Sequence[float] = (0.1, 0.5, 0.9),
        horizon: int | None = None,
        **options: Unpack[_Options],
    ) -> dict[Key, pandas.DataFrame]: ...
    @overload
    def predict_quantiles(
        self,
        history: Table,
        quantiles: Sequence[float] = (0.1, 0.5, 0.9),
        horizon: int | None = None,
        **options: Unpack[_Options],
    ) -> pandas.DataFrame: ...
    @suggesting
    def predict_quantiles(
        self,
        history: Any,
        quantiles: Sequence[float] = (0.1, 0.5, 0.9),
        horizon: int | None = None,
        *,
        future: Any = None,
        paths: int = 200,
        rng: Any = None,
    ) -> Any:
        """Forecast quantiles of the steps after the end of each series.

        Parameters
        ----------
        history, horizon, future
            As in `predict`.
        quantiles : sequence of float, default (0.1, 0.5, 0.9)
            Increasing numbers between 0 and 1.
        paths : int, default 200
            Number of sample paths for the quantiles of recursive forecasts of more than one step.
        rng : numpy.random.Generator or int, optional
            The source of the sample paths, or its seed.

        Returns
        -------
        forecast : DataFrame, or a list, dict or long table of them
            One row per step; the columns are pairs (target, quantile), so that ``forecast["load"][0.9]`` is
            one of them.

        Raises
        ------
        ConfigError
            If the loss has no quantiles and `calibrate` was not called, or as in `predict`.

        Examples
        --------
        >>> import numpy as np, pandas as pd, bptt_fast as bf
        >>> series = pd.Series(np.sin(np.arange(100) / 4), name="height")
        >>> model = bf.Forecaster(horizon=3, hidden_size=4, window=16, loss="gaussian", seed=0)
        >>> record = model.fit(series, epochs=1, verbose=0)
        >>> spread = model.predict_quantiles(series, [0.1, 0.9], rng=0)["height"]
        >>> spread.shape, bool((spread[0.1] < spread[0.9]).all())
        ((3, 2), True)
        """
        levels = checked_levels(quantiles)
        series, form, steps = self._ahead(history, horizon, future)
        origins = [len(one) - steps for one in series]
        values = self.quantile_rows(series, origins, steps, levels, paths, rng)
        return self._as_tables(list(values), series, form, steps, levels)

    @overload
    def predict_interval(
        self,
        history: list[Any],
        coverage: float = 0.9,
        horizon: int | None = None,
        **options: Unpack[_Options],
    ) -> list[pandas.DataFrame]: ...
    @overload
    def predict_interval(
        self,
        history: Mapping[Key, Any],
        coverage: float = 0.9,
        horizon: int | None = None,
        **options: Unpack[_Options],
    ) -> dict[Key, pandas.DataFrame]: ...
    @overload
    def predict_interval(
        self,
        history: Table,
        coverage: float = 0.9,
        horizon: int | None = None,
        **options: Unpack[_Options],
    ) -> pandas.DataFrame: ...
    @suggesting
    def predict_interval(
        self,
        history: Any,
        coverage: float = 0.9,
        horizon: int | None = None,
        *,
        future: Any = None,
        paths: int = 200,
        rng: Any = None,
    ) -> Any:
        """Forecast an interval around the median that holds the actual value with a given probability.

        Parameters
        ----------
        history, horizon, future, paths, rng
            As in `predict_quantiles`.
        coverage : float, default 0.9
            The probability.  After `calibrate` the interval is conformal: the forecast plus and minus a
            quantile of the absolute errors on the held-out part.

        Returns
        -------
        forecast : DataFrame, or a list, dict or long table of them
            As `predict_quantiles` with the quantiles (1 - coverage) / 2, 0.5 and (1 + coverage) / 2.
        """
        share = number(coverage, "coverage", 0, 1, open_low=True, open_high=True)
        levels = (round((1 - share) / 2, 12), 0.5, round((1 + share) / 2, 12))
        return self.predict_quantiles(history, levels, horizon, future=future, paths=paths, rng=rng)

    @overload
    def sample_paths(
        self,
        history: list[Any],
        paths: int = 100,
        horizon: int | None = None,
        *,
        future: Any = None,
        rng: Any = None,
    ) -> list[Array]: ...
    @overload
    def sample_paths(
        self,
        history: Mapping[Key, Any],
        paths: int = 100,
        horizon: int | None = None,
        *,
        future: Any = None,
        rng: Any = None,
    ) -> dict[Key, Array]: ...
    @overload
    def sample_paths(
        self,
        history: Table,
        paths: int = 100,
        horizon: int | None = None,
        *,
        future: Any = None,
        rng: Any = None,
    ) -> Any: ...
    @suggesting
    def sample_paths(
        self,
        history: Any,
        paths: int = 100,
        horizon: int | None = None,
        *,
        future: Any = None,
        rng: Any = None,
    ) -> Any:
        """Draw paths from the distribution of the forecasts.

        A recursive forecast feeds each draw back as an input of its path; all paths are rows of one batch.
        The steps of direct forecasts are drawn independently of each other.

        Parameters
        ----------
        history, horizon, future
            As in `predict`.
        paths : int, default 100
            Number of paths of each series.
        rng : numpy.random.Generator or int, optional
            The source of the draws, or its seed.

        Returns
        -------
        paths : array (paths, steps, targets), or a list, or a dict by key of them

        Raises
        ------
        ConfigError
            If the loss has no distribution, or as in `predict`.

        Examples
        --------
        >>> import numpy as np, pandas as pd, bptt_fast as bf
        >>> series = pd.Series(np.sin(np.arange(100) / 4), name="height")
        >>> model = bf.Forecaster(horizon=3, hidden_size=4, window=16, loss="student_t", seed=0)
        >>> record = model.fit(series, epochs=1, verbose=0)
        >>> model.sample_paths([series, series], 50, rng=0)[1].shape
        (50, 3, 1)
        """
        series, form, steps = self._ahead(history, horizon, future)
        drawn = self._paths(series, [len(one) - steps for one in series], steps, paths, rng)
        if form in ("table", "column"):
            return drawn[0]
        return (
            list(drawn)
            if form == "list"
            else {one.key: part for one, part in zip(series, drawn, strict=True)}
        )

    @suggesting
    def calibrate(self, data: Any, start: Any = 0.5, *, step: int = 1) -> int:
        """Measure errors on held-out rows, for conformal intervals.

        Parameters
        ----------
        data : as in `fit`
            The series, with rows after those of `fit`.
        start : label, float or int, default 0.5
            The time of the first step that is forecast, or the share or number of times before it.
        step : int, default 1
            Times from one forecast to the next.

        Returns
        -------
        forecasts : int
            Their number.  Intervals of coverage c need at least c / (1 - c) of them.

        Raises
        ------
        ConfigError
            If there is no time left, or the forecaster was trained on one of these steps.

        Notes
        -----
        Split conformal prediction: the half width of an interval is the ceil((n + 1) c)-th smallest absolute
        error of n forecasts, separately for each step and target, and with scaling "series" in units of the
        deviation of each history.  Errors of series are not exchangeable, so coverage is approximate.

        V. Vovk, A. Gammerman and G. Shafer, "Algorithmic Learning in a Random World", 2005.

        Examples
        --------
        >>> import numpy as np, pandas as pd, bptt_fast as bf
        >>> series = pd.Series(np.sin(np.arange(100) / 4), name="height")
        >>> model = bf.Forecaster(horizon=2, hidden_size=4, window=16, seed=0)
        >>> record = model.fit(series[:60], epochs=1, verbose=0)
        >>> model.calibrate(series, start=60)
        39
        >>> model.predict_interval(series, 0.9)["height"].columns.tolist()
        [0.05, 0.5, 0.95]
        """
        fitted = self._checked("calibrate")
        series, _ = read(data, self.roles, self.missing == "indicator", fitted.rate)
        pairs = [
            (one, row)
            for _, rows in origins_of(series, start, step, self.horizon)
            for one, row in zip(series, rows, strict=True)
            if row is not None
        ]
        self.check_unseen(pairs, "calibrate")
        ones, rows = [one for one, _ in pairs], [row for _, row in pairs]
        points = self.forecast_rows(ones, rows, self.horizon)
        actual = np.stack([one.targets[row : row + self.horizon] for one, row in pairs])
        scale = np.stack([fitted.scales_of(one, row)[1] for one, row in pairs])
        self._scores = np.abs(actual - points) / scale[:, None, :]
        return len(pairs)

    def check_unseen(self, pairs: Sequence[tuple[Series, int]], what: str) -> None:
        """Raise a ConfigError if a row from an origin on was among the rows of `fit`."""
        ends = self._checked(what).ends
        for one, row in pairs:
            if one.key in ends and not one.index[row] > ends[one.key]:
                raise ConfigError(
                    f"{what}: expected forecasts from times after the rows of fit, which end at "
                    f"{ends[one.key]}, got {one.index[row]} in {one.name}.  Fit on earlier rows."
                )

    def _ahead(self, history: Any, horizon: int | None, future: Any) -> tuple[list[Series], str, int]:
        """The series with the rows ahead, their form, and the number of steps."""
        fitted = self._checked("predict")
        steps = self.check_steps(horizon)
        missing = self.missing == "indicator"
        series, form = read(history, self.roles, missing, fitted.rate, "history")
        if future is not None and not self.roles.known:
            raise ConfigError(
                f"future: expected None, as no covariates are known ahead, got {type(future).__name__}."
            )
        parts = by_key(future, series, form, self.roles, "future")
        ahead = [
            extended(one, self.roles, part, steps, missing) for one, part in zip(series, parts, strict=True)
        ]
        return ahead, form, steps

    def check_steps(self, horizon: int | None) -> int:
        """The number of steps of a forecast."""
        steps = self.horizon if horizon is None else integer(horizon, "horizon")
        if steps > self.horizon and (self.strategy == "direct" or self.roles.past):
            raise ConfigError(
                f"horizon: expected at most {self.horizon}, for which the network was trained, got {steps}."
            )
        return steps

    def _as_tables(
        self, values: list[Array], series: Sequence[Series], form: str, steps: int, levels: Any = None
    ) -> Any:
        import pandas

        columns: Any = list(self.roles.target or ())
        if levels is not None:
            columns = pandas.MultiIndex.from_product([columns, levels], names=["target", "quantile"])
        parts = []
        for one, rows in zip(series, values, strict=True):
            index = regular(one.index[-steps:], self._checked("predict").rate, one.name)[0]
            part = pandas.DataFrame(rows.reshape(steps, -1), index=index, columns=columns)
            parts.append(part.iloc[:, 0] if form == "column" and levels is None else part)
        return results(parts, series, form, self.roles)

    def forecast_rows(self, series: Sequence[Series], origins: Sequence[int], steps: int) -> Array:
        """Forecasts (n, steps, D) of the rows from `origins` on, in the units of the data."""
        outputs, scales = self._run(list(zip(series, origins, strict=True)), steps)
        return self._in_units(self.loss.prediction(outputs), scales)

    def quantile_rows(
        self,
        series: Sequence[Series],
        origins: Sequence[int],
        steps: int,
        levels: Sequence[float],
        paths: int,
        rng: Any,
    ) -> Array:
        """Quantiles (n, steps, D, Q) of the rows from `origins` on, in the units of the data."""
        fitted = self._checked("predict_quantiles")
        if self._scores is not None:
            points = self.forecast_rows(series, origins, steps)
            scale = np.stack([fitted.scales_of(*pair)[1] for pair in zip(series, origins, strict=True)])
            margins = np.stack([self._margin(level, steps) for level in levels], axis=-1)
            return points[..., None] + margins * scale[:, None, :, None]
        recursive = self.strategy == "recursive" and steps > 1
        if not self.loss.has_distribution and (recursive or not self.loss.has_quantiles):
            raise ConfigError(
                f"quantiles: expected a loss with a distribution, one of quantiles (for one step, or with "
                f'strategy="direct"), or a forecaster after calibrate(...), got {self.loss}.  Try "gaussian".'
            )
        if recursive:
            drawn = self._paths(series, origins, steps, paths, rng)
            return np.moveaxis(np.quantile(drawn, levels, axis=1), 0, -1)
        outputs, scales = self._run(list(zip(series, origins, strict=True)), steps)
        values = self._in_units(self.loss.quantile(outputs, levels).swapaxes(0, 1), scales)
        return np.moveaxis(values, 1, -1)

    def _margin(self, level: float, steps: int) -> Array:
        """The distance of a conformal quantile from the forecast, in units of the deviation, (steps, D)."""
        scores = self._scores
        assert scores is not None
        if steps > scores.shape[1]:
            raise ConfigError(
                f"horizon: expected at most the {scores.shape[1]} steps of calibrate, got {steps}."
            )
        share, margin = abs(2 * level - 1), np.zeros(scores.shape[1:])
        if share == 0:
            return margin[:steps]
        for place in np.ndindex(margin.shape):
            known = np.sort(scores[(slice(None), *place)])
            known = known[np.isfinite(known)]
            rank = math.ceil(round((len(known) + 1) * share, 9))
            if rank > len(known):
                needed = math.ceil(round(share / (1 - share), 9))
                raise ConfigError(
                    f"quantiles: expected at least {needed} forecasts in calibrate for the quantile "
                    f"{level:g}, got {len(known)}.  Calibrate on more rows."
                )
            margin[place] = known[rank - 1]
        return math.copysign(1, level - 0.5) * margin[:steps]

    def _paths(
        self, series: Sequence[Series], origins: Sequence[int], steps: int, paths: int, rng: Any
    ) -> Array:
        """Sample paths (n, paths, steps, D) in the units of the data."""
        paths = integer(paths, "paths")
        if not self.loss.has_distribution:
            raise ConfigError(
                f'sample_paths: expected a loss with a distribution, got {self.loss}.  Try Loss("gaussian").'
            )
        random = generator(rng)
        pairs = list(zip(series, origins, strict=True))
        at_once, drawn = max(1, PATHS_AT_ONCE // paths), []
        for begin in range(0, len(pairs), at_once):
            part = pairs[begin : begin + at_once]
            drawn.append(self._in_units(*self._run(part, steps, paths, random)))
        return np.concatenate(drawn)

    def _run(
        self,
        pairs: Sequence[tuple[Series, int]],
        steps: int,
        paths: int | None = None,
        random: np.random.Generator | None = None,
    ) -> tuple[Array, Scales]:
        """Scaled outputs (n, steps, O), or draws (n, paths, steps, D), and the scales of the targets."""
        fitted = self._checked("predict")
        net, targets = fitted.network, len(self.roles.target or ())
        scales = [fitted.scales_of(one, origin) for one, origin in pairs]
        mean, scale = (np.stack(part) for part in zip(*scales, strict=True))
        rows = [
            fitted.inputs(one, max(1, origin - self.window + 1), origin + steps, origin, each)
            for (one, origin), each in zip(pairs, scales, strict=True)
        ]
        if self.strategy == "direct":
            outputs = np.stack([part[-steps:] for part in net.predict(rows, readout="every")])
            if paths is None:
                return outputs, (mean, scale)
            return self.loss.sample(outputs, random, paths).swapaxes(0, 1), (mean, scale)
        ahead, wide_mean, wide_scale = (
            part.repeat(paths or 1, axis=0) for part in (np.stack([x[-steps:] for x in rows]), mean, scale)
        )

        def next_input(fed: Array, step: int) -> Array:
            x = ahead[:, step + 1]
            x[:, :targets] = (fed - wide_mean) / wide_scale if self.loss.targets == "count" else fed
            x[:, fitted.observed_targets] = 1
            return x

        known = [part[: len(part) - steps + 1] for part in rows]
        forecast = net.forecast(
            known, steps, next_input=next_input, loss=self.loss, samples=paths, rng=random
        )
        return forecast, (mean, scale)

    def _in_units(self, values: Array, scales: Scales) -> Array:
        """Values (n, ..., D) in the units of the data, in which counts are."""
        if self.loss.targets == "count":
            return values.astype(np.float64)
        mean, scale = (part.reshape(len(part), *(1,) * (values.ndim - 2), -1) for part in scales)
        return values * scale + mean


def _warn_of_trends(series: Sequence[Series], ends: Sequence[int], targets: Sequence[Hashable]) -> None:
    """Warn the caller of `fit` if held-out targets are beyond those of training."""
    for one, end in zip(series, ends, strict=True):
        for target, column in zip(targets, one.targets.T, strict=True):
            known, held = (rows[np.isfinite(rows)] for rows in (column[:end], column[end:]))
            if min(len(known), len(held)) > 3 and not known.min() <= np.median(held) <= known.max():
                where = "above" if np.median(held) > known.max() else "below"
                warnings.warn(
                    f"fit: {one.name}: most of the last {len(held)} rows of {target!r}, which are held out, "
                    f"lie {where} all rows before them.  A network does not learn to continue a trend: "
                    'forecast changes, such as diff(), or use scaling="series".',
                    UserWarning,
                    stacklevel=5,
                )
                return


@dataclass
class _Fitted:
    """What `fit` learned: the network, and how rows become its inputs.

    `past`, `known` and `static` are the means and deviations of covariates, `targets` those of the targets,
    None if each series has its own.  `ends` are the last times of the series in `fit` by key.  `indicators`
    says whether targets and past covariates, and known covariates, have indicators of missing values.
    """

    roles: Roles
    rate: Any
    categories: dict[Hashable, list[Any]]
    past: Scales
    known: Scales
    static: Scales
    targets: Scales | None
    ends: dict[Any, Any]
    indicators: tuple[bool, bool]
    network: Network = field(init=False)

    @property
    def observed_targets(self) -> slice:
        """The inputs that say whether the previous targets are known."""
        first = sum(len(scale) for _, scale in (self.past, self.known)) + len(self.roles.target or ())
        return slice(first, first + len(self.roles.target or ()) * self.indicators[0])

    def scales_of(self, one: Series, origin: int) -> Scales:
        """Means and deviations of the targets of a series, from its rows before the origin."""
        return _scales(one.targets[:origin]) if self.targets is None else self.targets

    def inputs(self, one: Series, first: int, last: int, origin: int, scales: Scales) -> Array:
        """Inputs (last - first, I) of the rows from `first` to `last`.

        Targets and past covariates of rows from the origin on are unknown.
        """
        unknown = np.arange(first - 1, last - 1) >= origin
        lags, past = (
            np.where(unknown[:, None], np.nan, _scaled(values[first - 1 : last - 1], each))
            for values, each in ((one.targets, scales), (one.past, self.past))
        )
        known = _scaled(one.known[first:last], self.known)
        marked = [*(lags, past) * self.indicators[0], *(known,) * self.indicators[1]]
        static = np.tile(_scaled(one.static, self.static), (last - first, 1))
        return np.concatenate(
            [
                *(_filled(values) for values in (lags, past, known)),
                *(np.isfinite(values) for values in marked),
                one.calendar[first:last],
                static,
                codes(one, self.categories, slice(first, last)),
            ],
            axis=1,
        )

    def rows(
        self, one: Series, first: int, last: int, origin: int, end: int, counts: bool
    ) -> tuple[Array, Array, Array]:
        """Inputs, targets and weights of rows for training; scaled by the rows before `end`."""
        scales = self.scales_of(one, end)
        targets = one.targets[first:last] if counts else _scaled(one.targets[first:last], scales)
        weight = np.isfinite(targets).all(axis=1) * np.ones(len(targets))
        inputs = self.inputs(one, first, last, origin, scales)
        return inputs, _filled(targets), weight


def _scales(rows: Array, scaled: bool = True) -> Scales:
    """Means and deviations of the values of each column that are not missing; 0 and 1 unless `scaled`."""
    columns = [moments(column[np.isfinite(column), None]) for column in rows.T] if scaled else []
    if not columns:
        return np.zeros(rows.shape[1]), np.ones(rows.shape[1])
    mean, scale = (np.concatenate(part) for part in zip(*columns, strict=True))
    return mean, scale


def _scaled(values: Array, scales: Scales) -> Array:
    return (values - scales[0]) / scales[1]


def _filled(values: Array) -> Array:
    """Values with 0 in place of missing ones."""
    filled: Array = np.where(np.isfinite(values), values, 0)
    return filled


def _unzipped(
    parts: Sequence[tuple[Array, Array, Array]], dtype: Any
) -> tuple[list[Array], list[Array], list[Array]]:
    """Lists of inputs, in the dtype, targets and weights."""
    inputs, targets, weights = (list(part) for part in zip(*parts, strict=True))
    return [x.astype(dtype) for x in inputs], targets, weights


def _checked_loss(loss: Any) -> Loss:
    checked = get_loss(loss)
    if checked.targets not in ("real", "count"):
        raise ConfigError(f"loss: expected one of real numbers or counts, got {checked}.")
    return checked


def checked_levels(quantiles: Any) -> tuple[float, ...]:
    """Increasing quantiles as a tuple; else raises a ConfigError."""
    given = items(quantiles)
    if not given:
        raise ConfigError(f"quantiles: expected a list of numbers between 0 and 1, got {quantiles!r}.")
    levels = tuple(number(q, "quantiles", 0, 1, open_low=True, open_high=True) for q in given)
    if any(b <= a for a, b in pairwise(levels)):
        raise ConfigError(f"quantiles: expected increasing numbers, got {levels}.")
    return levels


def origins_of(
    series: Sequence[Series], start: Any, step: int, horizon: int
) -> list[tuple[Any, list[int | None]]]:
    """Times of the first step of forecasts, and for each the row of every series.

    Parameters
    ----------
    series : list of Series
    start : label, float or int
        The first time, or the share or number of times before it, over the times of all series.
    step : int
        Times from one origin to the next.
    horizon : int
        Number of rows of a series that an origin needs, that row included.

    Returns
    -------
    origins : list of (time, rows)
        A row is None if the series has no earlier row, or too few later ones.
    """
    times = series[0].index
    for one in series[1:]:
        times = times.union(one.index)
    start = plain(start)
    if isinstance(start, float):
        first = round(number(start, "start", 0, 1, open_low=True, open_high=True) * len(times))
    elif isinstance(start, int):
        first = integer(start, "start")
    else:
        try:
            first = int(times.searchsorted(_label(start, times)))
        except (TypeError, ValueError):
            raise ConfigError(
                f"start: expected a time such as {times[0]}, a share or a number, got {start!r}."
            ) from None
    step = integer(step, "step")
    origins: list[tuple[Any, list[int | None]]] = []
    for time in times[max(first, 1) :: step]:
        places = [int(one.index.searchsorted(time)) for one in series]
        rows = [
            row if 0 < row <= len(one) - horizon and one.index[row] == time else None
            for one, row in zip(series, places, strict=True)
        ]
        if any(row is not None for row in rows):
            origins.append((time, rows))
    if not origins:
        raise ConfigError(
            f"start: expected a time with at least horizon={horizon} rows from it on, got {start!r} of "
            f"{len(times)} times from {times[0]} to {times[-1]}."
        )
    return origins


def _label(start: Any, times: Any) -> Any:
    """A label of the index's type."""
    import pandas

    if isinstance(times, pandas.PeriodIndex):
        return pandas.Period(start, times.freq)
    if isinstance(times, pandas.DatetimeIndex):
        stamp = pandas.Timestamp(start)
        return stamp.tz_localize(times.tz) if stamp.tzinfo is None else stamp.tz_convert(times.tz)
    raise TypeError
