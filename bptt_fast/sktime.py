"""The forecaster of sktime on top of ``Forecaster`` (extra "sktime").

This module only translates: y and X into tables with roles, the horizon into steps, and forecasts back.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from .choices import Cell, LossName, Missing, SeriesScaling, Strategy
from .errors import ConfigError
from .forecasting import Forecaster
from .losses import Loss
from .losses import get as get_loss
from .series import regular

try:
    import pandas
    from sktime.forecasting.base import BaseForecaster, ForecastingHorizon
except ImportError as error:
    raise ImportError(
        f'bptt_fast.sktime needs sktime ({error}).  Install it: pip install "bptt-fast[sktime]".'
    ) from error

__all__ = ["SktimeForecaster"]


class SktimeForecaster(BaseForecaster):
    """A recurrent network as a forecaster of sktime.

    It forecasts one series or several, and, from a panel, all series by one network.  The columns of X are
    covariates that are known for the steps ahead; those that are not numbers are categories.

    Parameters
    ----------
    window, stride, strategy, loss, scaling, missing, calendar, holidays, hidden_size, cell
        As in ``Forecaster``.  "direct" needs the horizon in `fit`; a distribution as `loss` adds quantiles,
        intervals and variances.
    network : dict, optional
        Further arguments of ``Network``: ``{"num_layers": 2}``.
    epochs, validation, patience
        As in ``Forecaster.fit``.
    training : dict, optional
        Further arguments of ``Network.fit``: ``{"optimizer": bf.Adam(0.01), "batch_size": 16}``.
    paths : int, default 200
        Number of sample paths for quantiles of recursive forecasts.
    random_state : int, optional
        Seed of the network and of the sample paths.

    Attributes
    ----------
    forecaster_ : Forecaster
        The fitted forecaster.
    history_ : History
        The record of its training.

    Raises
    ------
    ConfigError, ShapeError
        In `fit` and `predict`, as in ``Forecaster``.

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> from bptt_fast.sktime import SktimeForecaster
    >>> y = pd.Series(np.sin(np.arange(100) / 4))
    >>> forecaster = SktimeForecaster(window=16, hidden_size=4, epochs=2, random_state=0)
    >>> forecaster.fit(y, fh=[1, 2, 3]).predict().index.tolist()
    [100, 101, 102]
    """

    _tags: ClassVar[dict[str, Any]] = {
        "authors": "The bptt_fast developers",
        "maintainers": "The bptt_fast developers",
        "python_dependencies": ["bptt-fast"],
        "y_inner_mtype": ["pd.DataFrame", "pd-multiindex"],
        "X_inner_mtype": ["pd.DataFrame", "pd-multiindex"],
        "capability:multivariate": True,
        "capability:exogenous": True,
        "capability:categorical_in_X": True,
        "capability:non_contiguous_X": False,
        "capability:insample": False,
        "capability:pred_int:insample": False,
        "capability:random_state": True,
        "requires-fh-in-fit": False,
    }

    def __init__(
        self,
        window: int = 32,
        stride: int = 1,
        strategy: Strategy = "recursive",
        loss: LossName | Loss = "mse",
        scaling: SeriesScaling | None = "auto",
        missing: Missing = "error",
        calendar: Sequence[str] = (),
        holidays: Sequence[Any] = (),
        hidden_size: int = 32,
        cell: Cell = "gru",
        network: Mapping[str, Any] | None = None,
        epochs: int = 50,
        validation: float = 0.1,
        patience: Any = 5,
        training: Mapping[str, Any] | None = None,
        paths: int = 200,
        random_state: int | None = None,
    ) -> None:
        self.window, self.stride, self.strategy, self.loss = window, stride, strategy, loss
        self.scaling, self.missing, self.calendar, self.holidays = scaling, missing, calendar, holidays
        self.hidden_size, self.cell, self.network = hidden_size, cell, network
        self.epochs, self.validation, self.patience, self.training = epochs, validation, patience, training
        self.paths, self.random_state = paths, random_state
        super().__init__()
        self.set_config(remember_data=True)  # forecasts read the history
        spread, direct = get_loss(loss), strategy == "direct"
        self.set_tags(
            **{
                "requires-fh-in-fit": direct,
                "capability:missing_values": missing == "indicator",
                "capability:pred_int": spread.has_distribution or (direct and spread.has_quantiles),
            }
        )

    def _fit(self, y: Any, X: Any, fh: Any) -> SktimeForecaster:
        known = [] if X is None else list(range(len(X.columns)))
        texts = [] if X is None else [i for i in known if X.dtypes.iloc[i].kind not in "fiub"]
        data = self._tables(y, X)
        options: dict[str, Any] = dict(
            known=[f"X{i}" for i in known],
            categorical=[f"X{i}" for i in texts],
            calendar=self.calendar,
            holidays=self.holidays,
            horizon=1 if fh is None else max(_most_steps(data, self._times(data, fh)), 1),
            window=self.window,
            stride=self.stride,
            strategy=self.strategy,
            loss=self.loss,
            scaling=self.scaling,
            missing=self.missing,
            hidden_size=self.hidden_size,
            cell=self.cell,
        )
        options = {"seed": self.random_state, **_joined(options, self.network, "network")}
        forecaster = Forecaster([f"y{i}" for i in range(len(y.columns))], **options)
        options = dict(epochs=self.epochs, validation=self.validation, patience=self.patience)
        options = {"verbose": 0, **_joined(options, self.training, "training")}
        self.history_ = forecaster.fit(data, **options)
        self.forecaster_ = forecaster
        return self

    def _predict(self, fh: Any, X: Any) -> Any:
        history, steps, future, times = self._question(fh, X)
        forecast = self.forecaster_.predict(history, steps, future=future)
        return self._answer(forecast, times, self._y.columns)

    def _predict_quantiles(self, fh: Any, X: Any, alpha: Sequence[float]) -> Any:
        history, steps, future, times = self._question(fh, X)
        forecast = self.forecaster_.predict_quantiles(
            history, sorted(alpha), steps, future=future, paths=self.paths, rng=self.random_state
        )
        names = self._get_varnames()
        columns = pandas.MultiIndex.from_product([names, sorted(alpha)])
        return self._answer(forecast, times, columns)[
            pandas.MultiIndex.from_product([names, alpha]).to_list()
        ]

    def _question(self, fh: Any, X: Any) -> tuple[Any, int, Any, Any]:
        """The history, the number of steps, the known covariates ahead, and the times that are asked for."""
        history = self._tables(self._y, self._X)
        future = None
        if X is not None:
            past = self._X.loc[~self._X.index.isin(X.index)]
            future = self._tables(None, pandas.concat([past, X]).sort_index())
        times = self._times(history, fh)
        return history, _most_steps(history, times), future, times

    def _times(self, data: dict[Any, Any], fh: Any) -> Any:
        """The times of the horizon; sktime does not find the frequency of dates in a panel."""
        dates = isinstance(self.cutoff, pandas.DatetimeIndex)
        if dates and fh.is_relative and fh.freq is None:
            index = next(iter(data.values())).index
            fh = ForecastingHorizon(fh.to_numpy(), freq=regular(index, None, "y")[1])
        return fh.to_absolute_index(self.cutoff)

    def _answer(self, forecast: dict[Any, Any], times: Any, columns: Any) -> Any:
        """Forecasts in the form of y."""
        for table in forecast.values():
            strange = times.difference(table.index)
            if len(strange):
                raise ConfigError(
                    f"fh: expected times of the forecast, {table.index[0]} to {table.index[-1]} at the steps "
                    f"of y, got {strange[0]}.  sktime adds 1 per step to integers, whatever the step of y."
                )
        parts = {key: table.set_axis(columns, axis=1).loc[times] for key, table in forecast.items()}
        if self._y.index.nlevels == 1:
            return parts[None]
        found = pandas.concat(parts)
        return found.set_axis(found.index.set_names(self._y.index.names))

    @staticmethod
    def _tables(y: Any, X: Any) -> dict[Any, Any]:
        """The tables of all series by their instance, None for a single one, with the names of the roles."""
        named = [
            table.set_axis([f"{prefix}{i}" for i in range(len(table.columns))], axis=1)
            for prefix, table in (("y", y), ("X", X))
            if table is not None
        ]
        table = named[0] if len(named) == 1 else named[0].join(named[1])
        if table.index.nlevels == 1:
            return {None: table}
        return {key: part.droplevel(0) for key, part in table.groupby(level=0, sort=False)}

    @classmethod
    def get_test_params(cls, parameter_set: str = "default") -> list[dict[str, Any]]:
        """Parameters with which sktime tests this class."""
        small = {"window": 8, "hidden_size": 4, "epochs": 1, "random_state": 0}
        return [small, small | {"loss": "gaussian", "strategy": "direct", "cell": "elman"}]


def _joined(own: Mapping[str, Any], further: Mapping[str, Any] | None, name: str) -> dict[str, Any]:
    """The arguments that this class sets, and the further ones of a parameter."""
    for key in further or ():
        if key in own:
            raise ConfigError(f"{name}: expected arguments that SktimeForecaster does not set, got {key!r}.")
    return {**own, **(further or {})}


def _most_steps(data: dict[Any, Any], times: Any) -> int:
    """The greatest number of steps from the end of a series to the last of the times."""
    return max(_steps(table.index, times[-1]) for table in data.values())


def _steps(index: Any, last: Any) -> int:
    """The number of steps from the end of an index to a later time."""
    rate = regular(index, None, "y")[1]
    if isinstance(index, pandas.DatetimeIndex):
        return len(pandas.date_range(index[-1], last, freq=rate)) - 1
    if isinstance(index, pandas.PeriodIndex):
        return len(pandas.period_range(index[-1], last, freq=rate)) - 1
    return int(last - index[-1]) // int(rate)
