"""Series of pandas tables for forecasting: the roles of columns, regular time, calendar features, categories.

pandas is imported when the first table arrives.  A `Series` here is one time series with all its columns.
"""

from __future__ import annotations

import warnings
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

import numpy as np

from .columns import Names, continued, is_table, listed
from .data import numbers
from .errors import ConfigError, ShapeError, choice, plain

Array = np.ndarray[Any, Any]

# pandas' name, the lowest value and the period of each cyclic feature, which becomes a sine and a cosine
CYCLES = {
    "minute": ("minute", 0, 60),
    "hour": ("hour", 0, 24),
    "weekday": ("day_of_week", 0, 7),
    "day": ("day", 1, 31),
    "dayofyear": ("day_of_year", 1, 366),
    "week": ("week", 1, 53),
    "month": ("month", 1, 12),
    "quarter": ("quarter", 1, 4),
}
MARKS = ("weekend", "holiday")  # features that are 0 or 1
NAME_IT = "Name it in categorical as well."  # what to do with text


@dataclass(frozen=True)
class Roles:
    """The names of columns by role; `target` None: all columns without another role.

    Raises
    ------
    ConfigError
        If a role is no list of names, a column has two roles, or a feature of the calendar is unknown.
    """

    target: Names | None = None
    past: Sequence[Hashable] = ()
    known: Sequence[Hashable] = ()
    static: Sequence[Hashable] = ()
    categorical: Sequence[Hashable] = ()
    calendar: Sequence[str] = ()
    holidays: Any = ()
    key: Hashable | None = None
    time: Hashable | None = None

    def __post_init__(self) -> None:
        for field_name in ("target", "past", "known", "static", "categorical", "calendar"):
            value = getattr(self, field_name)
            if value is not None or field_name != "target":
                object.__setattr__(self, field_name, _names(value, field_name))
        for field_name in ("key", "time"):
            _check_name(getattr(self, field_name), field_name)
        for feature in self.calendar:
            choice(feature, "calendar", (*CYCLES, *MARKS))
        object.__setattr__(self, "holidays", _listed(self.holidays, "holidays"))
        if ("holiday" in self.calendar) != bool(self.holidays):
            raise ConfigError(
                f'holidays: expected dates together with "holiday" in calendar, got {len(self.holidays)} '
                f"dates and calendar={list(self.calendar)}."
            )
        owners: dict[Hashable, str] = {}
        for role in ("target", "past", "known", "static"):
            for name in getattr(self, role) or ():
                if name in owners:
                    raise ConfigError(
                        f"{role}: expected columns with one role each, got {name!r}, which {owners[name]} "
                        f"has as well."
                    )
                owners[name] = role
        for name in self.categorical:
            if owners.get(name) not in ("known", "static"):
                raise ConfigError(
                    f"categorical: expected columns that known or static name too, got {name!r} of "
                    f"{owners.get(name, 'neither')}."
                )
        if self.time is not None and self.time in owners:
            raise ConfigError(f"time: expected a column without another role, got {self.time!r}.")
        if self.key is not None and owners.get(self.key, "static") != "static":
            raise ConfigError(
                f"key: expected a column that is static or without another role, got {self.key!r}."
            )

    @property
    def numeric(self) -> tuple[Names, Names, Names]:
        """Names of the past, known and static columns that are numbers."""
        past, known, static = (
            tuple(name for name in names if name not in self.categorical)
            for names in (self.past, self.known, self.static)
        )
        return past, known, static

    def resolved(self, table: Any) -> Roles:
        """The roles with their targets by name, from the first table."""
        if self.target is not None:
            return self
        others = {*self.past, *self.known, *self.static, self.key, self.time}
        return replace(self, target=tuple(name for name in table.columns if name not in others))


def _listed(value: Any, name: str) -> tuple[Any, ...]:
    try:
        if not isinstance(value, (str, bytes)):
            return tuple(value)
    except TypeError:  # no list, or an array without axes
        pass
    raise ConfigError(f"{name}: expected a list, got {value!r}.")


def _names(value: Any, name: str) -> Names:
    """One name, or several, as a tuple."""
    names = (value,) if isinstance(value, (str, int)) else _listed(value, name)
    for i, one in enumerate(names):
        _check_name(one, name)
        if one in names[:i]:
            raise ConfigError(f"{name}: expected different names, got {one!r} twice.")
    return names


def _check_name(value: Any, name: str) -> None:
    try:
        hash(value)
    except TypeError:
        raise ConfigError(f"{name}: expected the name of a column, got {value!r}.") from None


@dataclass
class Series:
    """One series of T rows.

    `key` is its key in the user's data, and `name` what messages call it.  `targets` (T, D), `past` (T, P),
    `known` (T, K) and `static` (S,) are numbers in float64, with NaN for a missing value; `labels` are the
    columns of categories, (T,) each.  `calendar` is (T, F).
    """

    key: Any
    name: str
    index: Any
    targets: Array
    past: Array
    known: Array
    static: Array
    labels: dict[Hashable, Array]
    calendar: Array = field(default_factory=lambda: np.empty((0, 0)))

    def __len__(self) -> int:
        return len(self.targets)


# ---- reading


def read(
    data: Any, roles: Roles, missing: bool, rate: Any = None, name: str = "data"
) -> tuple[list[Series], str]:
    """All series of the user's data, and its form.

    Parameters
    ----------
    data : DataFrame, Series, list or dict of them, or a long table with a key column
        The tables.
    roles : Roles
        With targets by name.
    missing : bool
        Whether values may be missing.
    rate : str or int, optional
        The frequency of all series; None: that of the first one.
    name : str
        The user's name of `data`, for messages.

    Returns
    -------
    series : list of Series
    form : {"column", "table", "list", "dict", "long"}
    """
    parts, form = tables(data, roles, name)
    series = []
    for key, table, label in parts:
        one = _series(key, table, roles, label)
        one.index, rate = regular(one.index, rate, label)
        one.calendar = calendar(one.index, roles, label)
        _check_gaps(one, roles, missing, slice(None))
        series.append(one)
    return series, form


def tables(data: Any, roles: Roles, name: str = "data") -> tuple[list[tuple[Any, Any, str]], str]:
    """The triples (key, DataFrame, name for messages) of the user's data, and its form."""
    if is_table(data):
        table = _frame(data, name)
        if roles.key is None:
            return [(None, table, name)], "table" if hasattr(data, "columns") else "column"
        _check_columns(table, (roles.key,), name)
        if table[roles.key].isna().any():
            raise ConfigError(f"{name}: expected a key in each row, got a missing one in {roles.key!r}.")
        groups = table.groupby(roles.key, sort=False, observed=True)
        return [(key, part, f"{name}, {roles.key}={key!r}") for key, part in groups], "long"
    if roles.key is not None:
        raise ConfigError(
            f"{name}: expected one DataFrame with the key column {roles.key!r}, got {_kind(data)}."
        )
    pairs = list(data.items()) if isinstance(data, Mapping) else None
    if pairs is None and isinstance(data, (list, tuple)):
        pairs = list(enumerate(data))
    if not pairs:
        raise ConfigError(
            f"{name}: expected a DataFrame or Series of pandas, a list or dict of them, or a long table with "
            f"key=..., got {_kind(data)}.  Arrays: Network.forecast or RNNForecaster."
        )
    parts = [(key, _frame(part, f"{name}[{key!r}]"), f"{name}[{key!r}]") for key, part in pairs]
    return parts, "dict" if isinstance(data, Mapping) else "list"


def _kind(data: Any) -> str:
    try:
        return f"{'an empty ' * (len(data) == 0)}{type(data).__name__}"
    except TypeError:  # an array without axes, too
        return type(data).__name__


def _frame(table: Any, name: str) -> Any:
    if not hasattr(table, "iloc"):
        hint = "  Convert it: table.to_pandas()." if is_table(table) else ""
        raise ConfigError(f"{name}: expected a DataFrame or Series of pandas, got {_kind(table)}.{hint}")
    if len(table) == 0:
        raise ShapeError(f"{name}: expected at least one row, got none.")
    if hasattr(table, "columns"):
        return table
    return table.to_frame("value" if table.name is None else table.name)


def _check_columns(table: Any, names: Sequence[Hashable], name: str) -> None:
    present = list(table.columns)
    for column in names:
        count = present.count(column)
        if count != 1:
            got = "no such column" if not count else f"{count} columns of that name"
            raise ConfigError(
                f"{name}: column {column!r}: expected one of {listed(tuple(present))}, got {got}."
            )


def _series(key: Any, table: Any, roles: Roles, name: str) -> Series:
    targets = roles.target or ()
    _check_columns(table, _with_roles(roles), name)
    _check_roles(table, roles, name)
    index = table.index if roles.time is None else table.set_index(roles.time).index
    kinds = ("", NAME_IT, NAME_IT)
    past, known, static = (_numbers(table, *pair, name) for pair in zip(roles.numeric, kinds, strict=True))
    for i, column in enumerate(roles.numeric[2]):
        _check_constant(static[:, i], column, name)
    labels = {}
    for column in roles.categorical:
        labels[column] = table[column].to_numpy(dtype=object)
        if table[column].isna().any():
            raise ConfigError(
                f"{name}: column {column!r}: expected a category in each row, got a missing one."
            )
        if column in roles.static:
            _check_constant(labels[column], column, name)
    return Series(key, name, index, _numbers(table, targets, "", name), past, known, static[0], labels)


def _with_roles(roles: Roles) -> Names:
    """The columns that have a role."""
    names = (*(roles.target or ()), *roles.past, *roles.known, *roles.static)
    return (*names, *(n for n in (roles.time, roles.key) if n is not None and n not in names))


def _check_roles(table: Any, roles: Roles, name: str) -> None:
    """Raise for a column without a role, which would be ignored."""
    known = _with_roles(roles)
    extra = [column for column in table.columns if column not in known]
    if extra:
        raise ConfigError(
            f"{name}: column {extra[0]!r}: expected a role (target, past, known or static), got none.  Name "
            f"it, or leave it out: drop(columns={extra!r})."
        )


def _numbers(table: Any, names: Names, of_text: str, name: str) -> Array:
    """Columns (T, N) in float64; `of_text` is what to do with text, for a message."""
    columns = [table[column].to_numpy() for column in names]
    if all(column.dtype.kind in "fiub" for column in columns):
        return np.array(columns, dtype=np.float64).reshape(-1, len(table)).T
    return numbers(table[list(names)], name, of_text).astype(np.float64)


def _check_constant(values: Array, column: Hashable, name: str) -> None:
    """Raise unless all rows have one value, or NaN from the first one on, which `_check_gaps` names."""
    different = np.flatnonzero(values != values[0])
    if len(different) and values[0] == values[0]:
        raise ConfigError(
            f"{name}: column {column!r}: expected one value in all rows, as it is static, got "
            f"{plain(values[0])!r} and {plain(values[different[0]])!r}."
        )


def _check_gaps(one: Series, roles: Roles, missing: bool, rows: slice) -> None:
    """Raise for infinity, and for NaN unless values may be missing.  `rows` are those that are looked at."""
    past, known, static = roles.numeric
    blocks = ((roles.target or (), one.targets), (past, one.past), (known, one.known))
    for names, values in blocks:
        seen = values[rows]
        wrong = ~np.isfinite(seen) if not missing else np.isinf(seen)
        if wrong.any():
            row, column = np.argwhere(wrong)[0]
            more = int(wrong.any(axis=1).sum())
            hint = "" if missing else '  Fill them, or set missing="indicator".'
            raise ConfigError(
                f"{one.name}: column {names[column]!r}: expected finite numbers, got {seen[row, column]} at "
                f"{one.index[rows][row]}; {more} such row{'s' if more > 1 else ''}.{hint}"
            )
    if not np.isfinite(one.static).all():
        column = int(np.flatnonzero(~np.isfinite(one.static))[0])
        raise ConfigError(
            f"{one.name}: column {static[column]!r}: expected a finite number, got {one.static[column]}."
        )


# ---- time


def regular(index: Any, rate: Any, name: str) -> tuple[Any, Any]:
    """A checked index with its frequency, and this frequency.

    Parameters
    ----------
    index : pandas Index
        Dates, periods or integers.
    rate : str or int or None
        The expected frequency; of integers the step.
    name : str
        For messages.

    Raises
    ------
    ConfigError
        If the index has no constant frequency, or another one.
    """
    import pandas

    if not index.is_unique or not index.is_monotonic_increasing:
        wrong = "twice" if not index.is_unique else "out of order"
        label = index[index.duplicated()][0] if not index.is_unique else _first_descent(index)
        hint = (
            "  Several series in one table: key=..." if wrong == "twice" else "  Sort it first: sort_index()."
        )
        raise ConfigError(f"{name}: expected increasing times, got {label} {wrong}.{hint}")
    if isinstance(index, pandas.DatetimeIndex):
        return _regular_dates(pandas, index, rate, name)
    if isinstance(index, pandas.PeriodIndex):
        found, step, steps = index.freqstr, index.freq.n, np.diff(index.asi8)
    elif getattr(index.dtype, "kind", "O") in "iu":
        steps = np.diff(index.to_numpy(np.int64))
        found = step = int(steps[0]) if len(steps) else rate or 1
    else:
        called, hint = "an index", ", or name a column: time=..."
        if index.name is not None:
            called, hint = f"times {index.name!r}", "."
        raise ConfigError(
            f"{name}: expected {called} of dates, periods or integers, got dtype {index.dtype} with "
            f"{index[0]!r}.  Convert it: pandas.to_datetime(...){hint}"
        )
    gaps = np.flatnonzero(steps != step)
    if len(gaps):
        raise ConfigError(_gap(name, found, index[gaps[0]], index[gaps[0] + 1]))
    _check_rate(found, rate, name)
    return index, found


def _regular_dates(pandas: Any, index: Any, rate: Any, name: str) -> tuple[Any, Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pandas 3 warns that the type of what it infers will change
        found = index.freqstr or (index.inferred_freq if len(index) > 2 else None)
    found = getattr(found, "freqstr", found)
    if rate is not None and found != rate:  # also "7D" for "W-SUN", and indices that are too short to infer
        try:
            return pandas.DatetimeIndex(index, freq=rate), rate
        except ValueError:
            if found is not None:
                _check_rate(found, rate, name)
    if found is None:
        if len(index) < 3:
            raise ConfigError(
                f"{name}: expected an index with a frequency, got {len(index)} date{'s' * (len(index) > 1)}."
                f'  Set it: asfreq("D").'
            )
        steps = np.diff(index.asi8)
        usual = np.median(steps)
        gap = int(np.flatnonzero(steps != usual)[0]) if (steps != usual).any() else 0
        raise ConfigError(
            _gap(name, rate or pandas.Timedelta(index[1] - index[0]), index[gap], index[gap + 1])
        )
    return (index if index.freq is not None else pandas.DatetimeIndex(index, freq=found)), found


def _first_descent(index: Any) -> Any:
    """The first label that is smaller than the one before it."""
    return next(later for before, later in pairwise(index) if not later > before)


def _gap(name: str, rate: Any, before: Any, after: Any) -> str:
    return (
        f"{name}: expected a constant frequency, got a step from {before} to {after}.  Add the rows between "
        f'({rate!s}): asfreq(...), with missing="indicator"; or count rows in place of time, such as trading '
        "days: reset_index(drop=True)."
    )


def _check_rate(found: Any, rate: Any, name: str) -> None:
    if rate is not None and found != rate:
        raise ConfigError(
            f"{name}: expected the frequency {rate!r} of the first series in fit, got {found!r}."
        )


def calendar(index: Any, roles: Roles, name: str) -> Array:
    """The features of the calendar, (T, F): sine and cosine of each cycle, 0 or 1 for marks."""
    if not roles.calendar:
        return np.empty((len(index), 0))
    import pandas

    if not isinstance(index, (pandas.DatetimeIndex, pandas.PeriodIndex)):
        raise ConfigError(
            f"calendar: expected an index of dates or periods, got {type(index).__name__} in {name}.  Set "
            f"one, or name a column of dates: time=..."
        )
    columns = []
    for feature in roles.calendar:
        if feature == "weekend":
            columns.append(np.asarray(index.day_of_week >= 5, dtype=np.float64))
        elif feature == "holiday":
            columns.append(_holidays(pandas, index, roles.holidays))
        else:
            attribute, lowest, period = CYCLES[feature]
            if feature == "week" and isinstance(index, pandas.DatetimeIndex):
                value = index.isocalendar().week
            else:
                value = getattr(index, attribute)
            angle = (value.to_numpy(dtype=np.float64) - lowest) * (2 * np.pi / period)
            columns += [np.sin(angle), np.cos(angle)]
    return np.column_stack(columns)


def _holidays(pandas: Any, index: Any, holidays: Sequence[Any]) -> Array:
    try:
        days = pandas.DatetimeIndex([pandas.Timestamp(day).tz_localize(None) for day in holidays]).normalize()
    except (TypeError, ValueError) as error:
        raise ConfigError(f"holidays: expected dates, got {list(holidays)[:3]!r} ({error}).") from None
    dates = index.to_timestamp() if isinstance(index, pandas.PeriodIndex) else index.tz_localize(None)
    return dates.normalize().isin(days).astype(np.float64)


# ---- the steps ahead


def extended(one: Series, roles: Roles, future: Any, steps: int, missing: bool) -> Series:
    """The series with `steps` further rows, in which targets and past covariates are missing.

    Parameters
    ----------
    one : Series
    roles : Roles
    future : DataFrame or None
        Rows with the known covariates; matched by time.
    steps : int
    missing : bool
        Whether known covariates may be missing.

    Raises
    ------
    ConfigError
        If there are known covariates, but not for all the steps.
    """
    ahead = continued(one.index.to_series(), steps, one.name)
    index = one.index.append(ahead)
    known_names = roles.numeric[1]
    known = np.full((steps, len(known_names)), np.nan)
    labels = {name: np.repeat(values[-1:], steps) for name, values in one.labels.items()}
    if roles.known:
        rows = _rows_ahead(one, roles, future, ahead)
        known = _numbers(rows, known_names, "", "future")
        for column in roles.categorical:
            if column in roles.known:
                if rows[column].isna().any():
                    raise ConfigError(
                        f"future: column {column!r}: expected a category in each row, got a missing one."
                    )
                labels[column] = rows[column].to_numpy(dtype=object)
    whole = Series(
        one.key,
        one.name,
        index,
        np.concatenate([one.targets, np.full((steps, one.targets.shape[1]), np.nan)]),
        np.concatenate([one.past, np.full((steps, one.past.shape[1]), np.nan)]),
        np.concatenate([one.known, known]),
        one.static,
        {name: np.concatenate([one.labels[name], labels[name]]) for name in one.labels},
        np.concatenate([one.calendar, calendar(ahead, roles, one.name)]),
    )
    seen = replace(whole, targets=np.zeros_like(whole.targets), past=np.zeros_like(whole.past))
    _check_gaps(replace(seen, name=f"future of {one.name}"), roles, missing, slice(len(one), None))
    return whole


def _rows_ahead(one: Series, roles: Roles, future: Any, ahead: Any) -> Any:
    """The rows of `future` at the times `ahead`."""
    if future is None:
        raise ConfigError(
            f"future: expected a table with the known covariates {listed(tuple(roles.known))} from "
            f"{ahead[0]} to {ahead[-1]} for {one.name}, got none."
        )
    _check_columns(future, roles.known, "future")
    _check_roles(future, roles, "future")
    if roles.time is not None:
        _check_columns(future, (roles.time,), "future")
        future = future.set_index(roles.time)
    if not future.index.is_unique:
        raise ConfigError(
            f"future: expected one row for each time, got {future.index[future.index.duplicated()][0]} twice."
        )
    places = future.index.get_indexer(ahead)
    if (places < 0).any():
        raise ConfigError(
            f"future: expected rows from {ahead[0]} to {ahead[-1]} for {one.name}, got none for "
            f"{ahead[int(np.argmax(places < 0))]}."
        )
    return future.iloc[places]


# ---- categories


def categories_of(series: Sequence[Series], roles: Roles) -> dict[Hashable, list[Any]]:
    """The categories of each column, sorted where they can be, else in their order of appearance."""
    found: dict[Hashable, list[Any]] = {}
    for name in roles.categorical:
        values = list(dict.fromkeys(value for one in series for value in one.labels[name]))
        try:
            found[name] = sorted(values)
        except TypeError:
            found[name] = values
    return found


def codes(one: Series, categories: Mapping[Hashable, list[Any]], rows: slice) -> Array:
    """The numbers of the categories in some rows, (rows, C).

    Raises
    ------
    ConfigError
        If a category is unknown.
    """
    columns = []
    for name, values in categories.items():
        number = {value: i for i, value in enumerate(values)}
        column = [number.get(value, -1) for value in one.labels[name][rows]]
        if -1 in column:
            row = column.index(-1)
            raise ConfigError(
                f"{one.name}: column {name!r}: expected one of the {len(values)} categories in fit "
                f"({listed(tuple(values[:5]))}{', ...' * (len(values) > 5)}), got "
                f"{one.labels[name][rows][row]!r} at {one.index[rows][row]}."
            )
        columns.append(np.array(column, dtype=np.float64))
    return np.column_stack(columns) if columns else np.empty((len(one.index[rows]), 0))


# ---- results


def results(parts: Sequence[Any], series: Sequence[Series], form: str, roles: Roles) -> Any:
    """Tables with an index of times, one for each series, in the form of the user's data."""
    import pandas

    if form in ("table", "column"):
        return parts[0]
    if form == "list":
        return list(parts)
    by_key = {one.key: part for one, part in zip(series, parts, strict=True)}
    if form == "dict":
        return by_key
    named = []
    for key, part in by_key.items():
        table = part.reset_index(names=[roles.time]) if roles.time is not None else part
        table.insert(0, roles.key, [key] * len(table))
        named.append(table)
    return pandas.concat(named, ignore_index=roles.time is not None)


def by_key(data: Any, series: Sequence[Series], form: str, roles: Roles, name: str) -> list[Any]:
    """The table of each series in `data`, which has the form of the series; None where `data` is None."""
    if data is None:
        return [None] * len(series)
    parts, got = tables(data, roles, name)
    if {form, got} - {"table", "column"} and form != got:
        raise ConfigError(f"{name}: expected the form of the history ({form}), got {got}.")
    found = {key: part for key, part, _ in parts}
    lacking = [one.name for one in series if one.key not in found]
    if lacking:
        raise ConfigError(f"{name}: expected a table for each series, got none for {lacking[0]}.")
    extra = set(found) - {one.key for one in series}
    if extra:
        raise ConfigError(
            f"{name}: expected tables of the series of the history only, got {sorted(map(repr, extra))[0]}."
        )
    return [found[one.key] for one in series]
