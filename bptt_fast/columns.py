"""Names and scaling of the columns of a network's data.  Tables are recognised by duck typing.

A table is a pandas or polars DataFrame or Series, or an Arrow Table.  This module imports none of these
libraries before it gets one of their tables.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike

from .errors import ConfigError, ShapeError, integer, number, plain, suggesting
from .interrupts import PART, in_parts
from .suggestions import suggestion

Array = np.ndarray[Any, Any]
Names = tuple[Hashable, ...]
BLOCK = 2**16  # rows converted to float64 at a time


@suggesting
@dataclass(frozen=True)
class Scaling:
    """Affine scaling of inputs, (x - input_mean) / input_scale, and outputs, y output_scale + output_mean.

    Parameters
    ----------
    input_mean, input_scale : sequence of I float
        Means and scales of the inputs: finite numbers, the scales above 0.
    output_mean, output_scale : sequence of O float, optional
        Means and scales of targets and outputs.  None: targets and outputs are not scaled.

    Raises
    ------
    ConfigError
        If a value is not a finite number, or a scale is not above 0.
    ShapeError
        If a mean and its scale have different lengths.

    Notes
    -----
    Scaling is computed in float64; the result is then cast to the network's dtype.  So a mean that is large
    compared with the deviation costs no precision in float32.

    Examples
    --------
    >>> import bptt_fast as bf
    >>> net = bf.Network(2, 8, 1, seed=0)
    >>> net.scaling = bf.Scaling(input_mean=[20.0, 1013.0], input_scale=[5.0, 10.0])
    >>> net.predict([[20.0, 1013.0]]).shape
    (1,)
    """

    input_mean: Any
    input_scale: Any
    output_mean: Any = None
    output_scale: Any = None

    def __post_init__(self) -> None:
        for mean, scale in (("input_mean", "input_scale"), ("output_mean", "output_scale")):
            if mean == "output_mean" and self.output_mean is None and self.output_scale is None:
                continue
            sizes = [self._check(mean, False), self._check(scale, True)]
            if sizes[0] != sizes[1]:
                raise ShapeError(f"{scale}: expected {sizes[0]} numbers, as {mean} has, got {sizes[1]}.")

    def _check(self, name: str, positive: bool) -> int:
        value = getattr(self, name)
        is_list = isinstance(value, (Sequence, np.ndarray)) and getattr(value, "ndim", 1) > 0
        if not is_list or isinstance(value, (str, bytes)):
            raise ConfigError(f"{name}: expected a list of numbers, one for each column, got {value!r}.")
        low = 0 if positive else -np.inf
        checked = tuple(number(a, f"{name}[{i}]", low, open_low=positive) for i, a in enumerate(value))
        object.__setattr__(self, name, checked)
        return len(checked)

    @classmethod
    def standard(cls, inputs: Array, targets: Array | None = None, categories: int = 0) -> Scaling:
        """Scaling by the means and standard deviations of columns; a constant column is only shifted.

        The scale of a constant column is 1, or, above 1e14, the rounding error of its mean.

        Parameters
        ----------
        inputs : ndarray (rows, I)
            The inputs.
        targets : ndarray (rows, O), optional
            The targets; if None, targets and outputs are not scaled.
        categories : int, default 0
            The number of last columns of the inputs that are not scaled.

        Returns
        -------
        scaling : Scaling
        """
        first = Moments.of(inputs[:, : inputs.shape[1] - categories])
        return cls.by(first, None if targets is None else Moments.of(targets), categories)

    @classmethod
    def by(cls, inputs: Moments, targets: Moments | None, categories: int = 0) -> Scaling:
        """The same from the moments of the inputs without categories, and of the targets."""
        unscaled = [*inputs.mean.tolist(), *[0.0] * categories], [*inputs.scale.tolist(), *[1.0] * categories]
        return cls(*unscaled, *(() if targets is None else (targets.mean.tolist(), targets.scale.tolist())))

    @property
    def closed(self) -> bool:
        """Whether inputs and outputs have the same scaling, so that outputs can be fed back."""
        return (self.input_mean, self.input_scale) == (self.output_mean, self.output_scale)

    def inputs(self, x: Array, dtype: DTypeLike) -> Array:
        """Scaled inputs.

        Parameters
        ----------
        x : ndarray (..., I)
            Values in the units of the data.
        dtype : dtype
            The dtype of the result.

        Returns
        -------
        x : ndarray (..., I)
        """
        return _scaled(x, self.input_mean, self.input_scale, dtype)

    def targets(self, y: Array, dtype: DTypeLike) -> Array:
        """Scaled targets.

        Parameters
        ----------
        y : ndarray (..., O)
            Values in the units of the data.
        dtype : dtype
            The dtype of the result.

        Returns
        -------
        y : ndarray (..., O)
        """
        return y if self.output_mean is None else _scaled(y, self.output_mean, self.output_scale, dtype)

    def outputs(self, y: Array) -> Array:
        """Outputs in the units of the targets.

        Parameters
        ----------
        y : ndarray (..., O)
            Outputs of the network.

        Returns
        -------
        y : ndarray (..., O)
            In float64 if targets are scaled.
        """
        if self.output_mean is None:
            return y
        mean, scale = np.array(self.output_mean), np.array(self.output_scale)
        scaled = np.empty(y.shape, np.result_type(y, scale))
        for part in in_parts(y.shape[:-1], y.shape[-1]):
            scaled[part] = y[part] * scale + mean
        return scaled


def _scaled(a: Array, mean: Any, scale: Any, dtype: DTypeLike) -> Array:
    mean, scale, scaled = np.array(mean), np.array(scale), np.empty(a.shape, dtype)
    with np.errstate(over="ignore", invalid="ignore"):
        for part in in_parts(a.shape[:-1], a.shape[-1]):
            scaled[part] = (a[part] - mean) / scale
    return scaled


def moments(rows: Array, weights: Array | None = None) -> tuple[Array, Array]:
    """Means and standard deviations of columns.

    The deviation of a constant column is 1, or the rounding error of its mean if that is larger.

    Both are computed in float64, whatever the dtype of the rows, a block of rows at a time.  Each column is
    scaled by a power of two, which is exact, and shifted by its first row: numbers of any size, and a mean
    that is large compared with the deviation, cost no precision.

    Parameters
    ----------
    rows : ndarray (rows, N)
        Finite values.
    weights : ndarray (rows,), optional
        Weights of the rows, at least 0; rows of weight 0 are ignored.

    Returns
    -------
    mean, deviation : ndarray of float64 (N,)
    """
    found = Moments.of(rows, weights)
    return found.mean, found.scale


class Moments(NamedTuple):
    """Means and standard deviations of columns, and what merges them with those of other rows."""

    rows: int
    mean: Array
    deviation: Array
    low: Array
    high: Array

    @classmethod
    def of(cls, rows: Array, weights: Array | None = None) -> Moments:
        """See `moments`."""
        weights = np.ones(len(rows)) if weights is None else np.asarray(weights, dtype=np.float64)
        if not weights.all():
            rows, weights = rows[weights > 0], weights[weights > 0]
        if len(rows) == 0:
            zeros = np.zeros(rows.shape[1])
            return cls(0, zeros, zeros, zeros, zeros)
        return cls(len(rows), *_weighted(rows, weights / weights.max()))  # so that a sum cannot overflow

    @property
    def scale(self) -> Array:
        """The deviations; for a constant column 1, or the rounding error of its mean if that is larger."""
        rounding = 10 * np.finfo(np.float64).eps * np.abs(self.mean)
        with np.errstate(over="ignore"):
            constant = (self.high - self.low <= rounding) | (self.high == self.low)
        # a large constant gets the rounding error of its mean; a deviation must not underflow to zero
        smallest = np.nextafter(0, 1)
        return np.where(constant, np.maximum(rounding, 1.0), np.maximum(self.deviation, smallest))

    def merged(self, other: Moments | None) -> Moments:
        """The moments of the rows of both, without weights."""
        if other is None or not (self.rows and other.rows):
            return self if other is None or self.rows else other
        low, high = np.minimum(self.low, other.low), np.maximum(self.high, other.high)
        exponent = np.frexp(np.maximum(np.abs(low), np.abs(high)))[1]
        (a, s), (b, t) = (
            (np.ldexp(one.mean, -exponent), np.ldexp(one.deviation, -exponent)) for one in (self, other)
        )
        rows = self.rows + other.rows
        share = other.rows / rows
        variance = s**2 * (1 - share) + t**2 * share + (b - a) ** 2 * share * (1 - share)
        mean = np.ldexp(a + (b - a) * share, exponent)
        return Moments(rows, mean, np.ldexp(np.sqrt(variance), exponent), low, high)


def _weighted(rows: Array, weights: Array) -> tuple[Array, Array, Array, Array]:
    """Mean, deviation, least and greatest number of each column."""
    block = min(BLOCK, max(1, PART // max(1, rows.shape[1])))
    blocks = [slice(start, start + block) for start in range(0, len(rows), block)]
    low, high = (
        extreme.reduce([extreme.reduce(rows[part]) for part in blocks]).astype(np.float64)
        for extreme in (np.minimum, np.maximum)
    )
    exponent = np.frexp(np.maximum(np.abs(low), np.abs(high)))[1]

    def mean_of(shift: Array, power: int) -> Any:
        """Weighted mean of (row - shift)^power over the scaled rows."""
        total = sum(
            weights[p] @ (np.ldexp(rows[p].astype(np.float64), -exponent) - shift) ** power for p in blocks
        )
        return total / weights.sum()

    first = np.ldexp(rows[0].astype(np.float64), -exponent)
    mean = first + mean_of(first, 1)
    error = mean_of(mean, 1)  # the rounding error of the mean
    deviation = np.ldexp(np.sqrt(np.maximum(mean_of(mean, 2) - error**2, 0)), exponent)
    return np.ldexp(mean + error, exponent), deviation, low, high


@dataclass(frozen=True)
class Running:
    """Means and deviations of the rows so far, by Welford's algorithm; a further row makes a new object.

    Parameters
    ----------
    count : int
        n, the number of rows.
    mean : sequence of N float
        m, the mean of each column.
    squares : sequence of N float
        M, the sum of (row - m)^2 of each column.
    last : int, default 0
        The number of last columns that are neither shifted nor scaled.

    Notes
    -----
    The n-th row a: d = a - m, m <- m + d / n, M <- M + d (a - m), in float64.  The scale is sqrt(M / n), or 1
    where M is 0.

    B. P. Welford, "Note on a method for calculating corrected sums of squares and products", Technometrics 4
    (1962).
    """

    count: int
    mean: Array
    squares: Array
    last: int = 0

    @classmethod
    def restored(cls, values: Any, size: int, last: int) -> Running:
        """Moments of `size` columns from the values of `plain`; raises a ConfigError if these are damaged."""
        count, mean, squares = values
        mean, squares = (np.array([number(a, "running") for a in one]) for one in (mean, squares))
        if mean.shape != (size,) or squares.shape != (size,) or (squares < 0).any():
            raise ConfigError(f"running: expected means and sums of squares of {size} columns, got others.")
        return cls(integer(count, "running", 0, None), mean, squares, last)

    def plain(self) -> list[Any]:
        """The count, the means and the sums of squares as plain values."""
        return [self.count, self.mean.tolist(), self.squares.tolist()]

    def after(self, row: Array) -> Running:
        """The moments with a further row (N,)."""
        n = self.count + 1
        with np.errstate(over="ignore", invalid="ignore"):
            difference = row - self.mean
            if self.last:
                difference[-self.last :] = 0
            mean = self.mean + difference / n
            remaining = row - mean
            if self.last:
                remaining[-self.last :] = 0
            return Running(n, mean, self.squares + difference * remaining, self.last)

    @classmethod
    def none(cls, size: int, last: int) -> Running:
        """The moments of `size` columns before the first row."""
        return cls(0, np.zeros(size), np.zeros(size), last)

    @property
    def scale(self) -> Array:
        """The scale of each column."""
        deviation = np.sqrt(self.squares / max(self.count, 1))
        return np.where(deviation > 0, deviation, 1.0)

    def scaled(self, row: Array, dtype: DTypeLike) -> Array:
        """A row in units of the scale, cast to `dtype`."""
        return _scaled(row, self.mean, self.scale, dtype)


@dataclass(frozen=True)
class Columns:
    """Names of inputs and outputs (None: unknown), their scaling (None: no scaling), and which are integers.

    `label` makes the names from the labels of table columns.  `lead` is the number of rows from the last row
    of the inputs to the row of the output.  `categories` are the numbers of values of the last inputs, which
    are integers; they come from the network's description.

    Raises
    ------
    ConfigError
        If a name is not hashable or not unique, or `lead` is not an integer of at least 0.
    """

    inputs: Any = None
    outputs: Any = None
    scaling: Scaling | None = None
    lead: int = 0
    categories: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        for which, what in (("inputs", "input_names"), ("outputs", "output_names")):
            names = getattr(self, which)
            if names is not None:
                object.__setattr__(self, which, _checked_names(names, what))
        if not isinstance(self.scaling, Scaling | None):
            raise ConfigError(f"scaling: expected a Scaling or None, got {self.scaling!r}.")
        object.__setattr__(self, "lead", integer(self.lead, "lead", 0))

    def check(self, inputs: int, outputs: int) -> None:
        """Raise a ShapeError unless the names and the scaling fit a network of these sizes."""
        scaling = self.scaling
        for name, entries, size in (
            ("input_names", self.inputs, inputs),
            ("output_names", self.outputs, outputs),
            ("scaling.input_mean", None if scaling is None else scaling.input_mean, inputs),
            ("scaling.output_mean", None if scaling is None else scaling.output_mean, outputs),
        ):
            if entries is not None and len(entries) != size:
                what = f"{name.removeprefix('scaling.').partition('_')[0]}_size={size}"
                raise ShapeError(f"{name}: expected {size} of them ({what}), got {len(entries)}.")
        for column in range(inputs - len(self.categories), inputs):
            if scaling is not None and (scaling.input_mean[column], scaling.input_scale[column]) != (0, 1):
                raise ConfigError(
                    f"scaling: expected mean 0 and scale 1 for column {column}, whose values are categories, "
                    f"got {scaling.input_mean[column]:g} and {scaling.input_scale[column]:g}."
                )

    def check_targets(self, scales: bool, what: str) -> None:
        """Raise if outputs are scaled, unless the outputs of the loss are in the units of its targets."""
        if not scales and self.scaling is not None and self.scaling.output_mean is not None:
            raise ConfigError(
                f"{what}: expected a network without scaling of outputs, with a loss of classes, "
                f"probabilities, counts or several outputs per target, got one with "
                f"scaling.output_mean.  Set net.scaling to one without, or None."
            )

    def feedback(self, what: str) -> list[int] | None:
        """Index of the output that feeds each input, if outputs are fed back; None: the same index.

        If inputs and outputs have the same names, outputs are matched by name.  If they have none in common,
        as with inputs that are lags of the outputs, or names are unknown, they are matched by position.

        Raises
        ------
        ConfigError
            If only some of the names agree, or inputs are categories.
        """
        a, b = self.inputs, self.outputs
        if self.categories:
            raise ConfigError(
                f"{what}: expected inputs that are numbers, as outputs are fed back as inputs, got "
                f"categories.  Sample integers from the outputs: forecast(..., next_input=...)."
            )
        if a is None or b is None or a == b or not set(a) & set(b):
            return None
        if set(a) != set(b):
            missing = next(name for name in a if name not in b)
            raise ConfigError(
                f"{what}: expected an output of each input's name, as outputs are fed back as inputs, "
                f"got none for {missing!r}: inputs {listed(a)}, outputs {listed(b)}.  Train with targets of "
                f"those names, or set net.output_names = None to feed outputs back by position."
            )
        return [b.index(name) for name in a]

    def plain(self) -> dict[str, Any]:
        """The fields of the data as plain values; `restored` is the inverse, without `categories`."""
        values = asdict(self)
        del values["categories"]
        return values

    @classmethod
    def restored(cls, values: dict[str, Any]) -> Columns:
        """Columns from the values of `plain`, also after a round trip through JSON."""
        scaling = values.get("scaling")
        names = {which: _tuples(values.get(which)) for which in ("inputs", "outputs")}
        return cls(**values | names | {"scaling": None if scaling is None else Scaling(**scaling)})


UNKNOWN = Columns()


def label(name: Any) -> Hashable:
    """The name of a column for its label, in a form that a file can store.

    str, bool, int and finite float stay as they are, NumPy scalars become Python's, and tuples of labels stay
    tuples; every other label, such as a date, becomes its str.

    Raises
    ------
    TypeError
        If the label is not hashable.
    """
    hash(name)
    if isinstance(name, tuple):
        return tuple(map(label, name))
    if isinstance(name, np.generic) and name.dtype.kind in "biufU":
        name = name.item()
    if isinstance(name, (str, int)) or (isinstance(name, float) and math.isfinite(name)):
        return name
    return str(name)


def _tuples(names: Any) -> Any:
    """Nested lists, which JSON makes of tuples, as tuples."""
    return tuple(map(_tuples, names)) if isinstance(names, list) else names


def _checked_names(names: Any, what: str) -> Names:
    try:
        if isinstance(names, (str, bytes)):
            raise TypeError
        labels = tuple(map(label, names))
    except TypeError:
        raise ConfigError(f"{what}: expected a list of names, one for each column, got {names!r}.") from None
    if len(set(labels)) < len(labels):
        name = next(name for i, name in enumerate(labels) if name in labels[:i])
        raise ConfigError(
            f"{what}: expected different names, got {name!r} more than once.  Rename the columns, or "
            f"pass an array."
        )
    return labels


def listed(names: Names) -> str:
    """Names as text for a message."""
    return ", ".join(map(str, names))


# ---- tables


def is_table(x: Any) -> bool:
    """Whether `x` is a DataFrame, a Series or an Arrow Table."""
    return _is_arrow(x) or (hasattr(x, "to_numpy") and (hasattr(x, "columns") or hasattr(x, "to_frame")))


def _is_arrow(x: Any) -> bool:
    return hasattr(x, "to_pydict")


def names_of(table: Any) -> Names | None:
    """Names of a table's columns; None for a Series without a name."""
    if hasattr(table, "columns"):
        return tuple(map(label, table.column_names if _is_arrow(table) else table.columns)) or None
    name = getattr(table, "name", None)
    unnamed = name is None or (isinstance(name, str) and name == "")  # polars names every Series
    return None if unnamed else (label(name),)


def order(present: Names | None, wanted: Names | None, what: str) -> list[int] | None:
    """Indices of the `wanted` names among those `present`; None: in order already, or unknown.

    Raises
    ------
    ShapeError
        If a column is missing, or there is an extra one.
    """
    if present is None or wanted is None or present == wanted:
        return None
    for name in wanted:
        if present.count(name) != 1:
            got = "no such column" if name not in present else f"{present.count(name)} columns of that name"
            raise ShapeError(
                f"{what}: column {name!r}: expected one of {listed(present)}, got {got}.  The network was "
                f"trained with {listed(wanted)}; arrays are matched by position: {what}.to_numpy()."
            )
    extra = [name for name in present if name not in wanted]
    if extra:
        raise ShapeError(
            f"{what}: column {extra[0]!r}: expected {listed(wanted)} only, got one that the network does "
            f"not know.  Select the known ones: {what}[{list(wanted)}]."
        )
    return [present.index(name) for name in wanted]


def ordered(table: Any, wanted: Names | None, what: str) -> Any:
    """A table with its columns in the order of the `wanted` names; other values unchanged."""
    if type(table) is np.ndarray or not is_table(table):
        return table
    places = order(names_of(table), wanted, what)
    if places is None:
        return table
    if _is_arrow(table):
        return table.select(places)
    return table.iloc[:, places] if hasattr(table, "iloc") else table[:, places]


def by_name(row: Any, wanted: Names | None, what: str) -> Any:
    """The numbers of one row in the order of the `wanted` names, if it has names; other values unchanged.

    A row has names if it is a dict, a table, or a Series with a label among the names or with labels that are
    all text.

    Raises
    ------
    ShapeError
        If a name is missing or unknown, or the network has no names for those of a dict.
    ConfigError
        If a value is not a finite number.
    """
    if isinstance(row, np.ndarray):
        return row
    if hasattr(row, "columns"):
        return ordered(row, wanted, what)
    if hasattr(row, "to_dict") and hasattr(row, "index"):
        labels = row.index.tolist() if wanted is not None else []
        if not labels or not (set(labels) & set(wanted or ()) or all(isinstance(k, str) for k in labels)):
            return row
        row = row.to_dict()
    if not isinstance(row, Mapping):
        return row
    if wanted is None:
        raise ShapeError(
            f"{what}: expected an array, as the network knows no names, got a dict.  Set net.input_names and "
            f"net.output_names first, or train it with a DataFrame."
        )
    values = {label(name): value for name, value in row.items()}
    for name in wanted:
        if name not in values:
            raise ShapeError(f"{what}: expected the names {listed(wanted)}, got none of {name!r}.")
    for name in values:
        if name not in wanted:
            raise ShapeError(
                f"{what}: expected the names {listed(wanted)} only, got {name!r}."
                f"{suggestion(str(name), [w for w in wanted if isinstance(w, str)])}"
            )
    return np.array([_entry(values[name], f"{what}[{name!r}]") for name in wanted], dtype=np.float64)


def _entry(value: Any, what: str) -> float:
    """A finite number; True and False are 1 and 0."""
    value = plain(value)
    return float(value) if isinstance(value, bool) else number(value, what)


def like(table: Any, rows: Array, names: Sequence[Any] | None, index: Any = None) -> Any:
    """Rows (T, N) as a table of the type of `table` (a Series if N is 1 and it was one), else as an array."""
    single = not hasattr(table, "columns") and rows.shape[1] == 1
    if hasattr(table, "iloc"):
        index = table.index if index is None else index
        if single:
            return type(table)(rows[:, 0], index=index, name=names[0] if names else None)
        frame = table if hasattr(table, "columns") else table.to_frame()
        return type(frame)(rows, index=index, columns=_labels(frame, names))
    texts = None if names is None else list(map(str, names))  # the other libraries take only str
    if hasattr(table, "to_arrow"):  # polars
        if single:
            return type(table)(texts[0] if texts else "", rows[:, 0])
        frame = table if hasattr(table, "columns") else table.to_frame()
        return type(frame)(rows, schema=texts)
    if _is_arrow(table):
        return type(table).from_pydict(
            dict(zip(texts or map(str, range(rows.shape[1])), rows.T, strict=True))
        )
    return rows


def _labels(frame: Any, names: Sequence[Any] | None) -> Any:
    """Column labels for a pandas frame: those of `frame` if it has all the names, else the names."""
    places = {name: i for i, name in enumerate(names_of(frame) or ())}
    if names is None or not places.keys() >= set(names):
        return names
    return frame.columns[[places[name] for name in names]]


# ---- the index of pandas


def continued(table: Any, steps: int, what: str) -> Any:
    """The next `steps` labels of a table's index; None if it has no index.

    Raises
    ------
    ConfigError
        If the index has no frequency and no constant step, or cannot be extended so far.
    """
    index = getattr(table, "index", None)
    if index is None or not hasattr(table, "iloc") or len(index) == 0:
        return None
    reason = ""
    try:
        ahead = _ahead(index, steps)
    except MemoryError:
        raise
    except Exception as error:  # nonexistent local times, overflow: pandas raises many types
        ahead, reason = None, f" ({type(error).__name__}: {error})"
    if ahead is None or len(ahead) != steps:
        raise ConfigError(
            f"{what}: expected an index with a frequency or a constant step, so that it can be extended, got "
            f"one of {len(index)} labels that ends with {index[-1]}{reason}.  Set a frequency, for example "
            f'with asfreq("D"), or number the rows: reset_index(drop=True).'
        )
    return ahead.rename(index.name)


def _ahead(index: Any, steps: int) -> Any:
    """The next labels; None if no rule reproduces the existing ones."""
    import pandas

    kind = "P" if isinstance(index, pandas.PeriodIndex) else getattr(index.dtype, "kind", "O")
    rule = _RULES.get(kind)
    return None if rule is None or index.hasnans else rule(pandas, index, steps)


def _dates_ahead(pandas: Any, index: Any, steps: int) -> Any:
    """The next dates by the calendar frequency, or by a constant duration if that gives other labels."""
    dates = pandas.DatetimeIndex(index)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pandas 3 warns that the type of what it infers will change
        rate = dates.freq or (dates.inferred_freq if len(dates) > 2 else None)
    unit = {"unit": dates.unit} if hasattr(dates, "unit") else {}  # from pandas 2.0 on
    end = dates[-1000:]
    if rate is not None and pandas.date_range(end[0], periods=len(end), freq=rate, **unit).equals(end):
        return pandas.date_range(dates[-1], periods=steps + 1, freq=rate, **unit)[1:].astype(index.dtype)
    ahead_ns = _progression(dates.asi8, steps) if len(dates) > 2 and dates.tz is not None else None
    if not ahead_ns:
        return None
    ahead = np.array(ahead_ns, np.int64).view(f"M8[{unit.get('unit', 'ns')}]")
    return pandas.DatetimeIndex(ahead).tz_localize("UTC").tz_convert(dates.tz).astype(index.dtype)


def _durations_ahead(pandas: Any, index: Any, steps: int) -> Any:
    durations = pandas.TimedeltaIndex(index)
    if durations.freq is not None:
        ahead = pandas.timedelta_range(durations[-1], periods=steps + 1, freq=durations.freq)[1:]
    else:
        labels = durations.to_numpy()
        following = _progression(labels.view(np.int64), steps)
        ahead = pandas.Index(np.array(following, np.int64).view(labels.dtype)) if following else None
    return None if ahead is None else ahead.astype(index.dtype)


def _periods_ahead(pandas: Any, index: Any, steps: int) -> Any:
    unit = index.freq.n
    following = _progression(index.asi8, steps, unit if len(index) == 1 else None)
    step = following[0] - int(index.asi8[-1]) if following else 0
    a_gap = len(index) == 2 and abs(step) != unit  # two labels do not override the frequency
    if step == 0 or step % unit or a_gap:
        return None
    return index[-1:].repeat(steps) + step // unit * np.arange(1, steps + 1)


def _integers_ahead(pandas: Any, index: Any, steps: int) -> Any:
    dtype = np.dtype(getattr(index.dtype, "numpy_dtype", index.dtype))  # extension types of pandas and Arrow
    following = _progression(index.to_numpy(dtype), steps, getattr(index, "step", None))
    if not following:
        return None
    fits = np.iinfo(dtype).min <= following[-1] <= np.iinfo(dtype).max
    return pandas.Index(following, dtype=index.dtype if fits else None)


def _floats_ahead(pandas: Any, index: Any, steps: int) -> Any:
    """The next labels, by the shortest decimal step that reproduces all labels, or by the mean step."""
    dtype = np.dtype(getattr(index.dtype, "numpy_dtype", index.dtype))
    labels = index.to_numpy(dtype)
    wide, n = labels.astype(np.float64), len(labels)
    mean = (wide[-1] - wide[0]) / (n - 1) if n > 1 else 0.0
    if mean == 0 or not math.isfinite(mean):
        return None
    counts = np.arange(n + steps)
    decimals = 14 - int(np.floor(np.log10(np.abs(wide).max())))  # to which labels read from text are exact
    for step in (*(float(f"{mean:.{digits}g}") for digits in (3, 6, 9, 12, 15)), wide[1] - wide[0], mean):
        exact = wide[0] + counts * step
        for candidates in (exact.astype(dtype), exact.round(decimals).astype(dtype)):
            if (candidates[:n] == labels).all():
                return pandas.Index(candidates[n:], dtype=index.dtype)
    rounding = 4 * np.finfo(dtype).eps * np.abs(wide).max()
    if rounding > abs(mean) / 10 or np.abs(np.diff(wide) - mean).max() > rounding:
        return None
    return pandas.Index((wide[-1] + np.arange(1, steps + 1) * mean).astype(dtype), dtype=index.dtype)


def _progression(labels: Array, steps: int, step: int | None = None) -> list[int] | None:
    """The integers after `labels` with a constant `step`, by default that of `labels`; None without one."""
    first, last = int(labels[0]), int(labels[-1])
    if step is None:
        step = int(labels[1]) - first if len(labels) > 1 else 0
        apart = np.diff(labels)  # may have overflowed; the sum has not
        if (apart != apart[:1]).any() or last - first != step * (len(labels) - 1):
            return None
    return [*range(last + step, last + step * (steps + 1), step)] if step else None


_RULES = {
    "M": _dates_ahead,
    "m": _durations_ahead,
    "P": _periods_ahead,
    "i": _integers_ahead,
    "u": _integers_ahead,
    "f": _floats_ahead,
}  # by dtype.kind
