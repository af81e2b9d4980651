"""What a network knows of the columns of its data: their names and their scaling.  Tables by duck typing.

A table is a pandas or polars DataFrame or Series; neither library is imported here.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from .errors import ConfigError, ShapeError, number

Array = np.ndarray[Any, Any]
Names = tuple[str, ...]
BLOCK = 2**16  # rows that are in float64 at a time


@dataclass(frozen=True)
class Scaling:
    """Inputs go into a network as (x - input_mean) / input_scale; y output_scale + output_mean comes out.

    Parameters
    ----------
    input_mean, input_scale : sequence of I float
        Finite; the scales above 0.
    output_mean, output_scale : sequence of O float, optional
        Targets are scaled by them, outputs brought back.  None: targets and outputs stay as they are.

    Raises
    ------
    ConfigError
        If a number does not fit.
    ShapeError
        If a mean and its scale have different lengths.

    Notes
    -----
    All of it is computed in float64; scaled numbers are then cast to the network's dtype.  So a mean that is
    large beside the deviation costs no precision in float32.

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
        if not isinstance(value, (Sequence, np.ndarray)) or isinstance(value, str):
            raise ConfigError(f"{name}: expected a list of numbers, one for each column, got {value!r}.")
        low = 0 if positive else -np.inf
        checked = tuple(number(a, f"{name}[{i}]", low, open_low=positive) for i, a in enumerate(value))
        object.__setattr__(self, name, checked)
        return len(checked)

    @classmethod
    def standard(cls, inputs: Array, targets: Array | None = None) -> Scaling:
        """Means and standard deviations of columns; the scale of a constant column is 1.

        Parameters
        ----------
        inputs : ndarray (rows, I)
            Of the inputs.
        targets : ndarray (rows, O), optional
            Of the targets; without them targets and outputs stay as they are.

        Returns
        -------
        scaling : Scaling
        """
        columns = [inputs] if targets is None else [inputs, targets]
        return cls(*(numbers.tolist() for rows in columns for numbers in moments(rows)))

    @property
    def closed(self) -> bool:
        """Whether outputs can be inputs as they are, scaled."""
        return (self.input_mean, self.input_scale) == (self.output_mean, self.output_scale)

    def inputs(self, x: Array, dtype: DTypeLike) -> Array:
        """Inputs as the network sees them.

        Parameters
        ----------
        x : ndarray (..., I)
            In their own units.
        dtype : dtype
            Of the result.

        Returns
        -------
        x : ndarray (..., I)
        """
        return _scaled(x, self.input_mean, self.input_scale, dtype)

    def targets(self, y: Array, dtype: DTypeLike) -> Array:
        """Targets as the loss sees them.

        Parameters
        ----------
        y : ndarray (..., O)
            In their own units.
        dtype : dtype
            Of the result.

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
            Of the network.

        Returns
        -------
        y : ndarray (..., O)
            In float64, if there is a scaling of the targets.
        """
        if self.output_mean is None:
            return y
        return np.asarray(y * np.array(self.output_scale) + np.array(self.output_mean))


def _scaled(a: Array, mean: Any, scale: Any, dtype: DTypeLike) -> Array:
    with np.errstate(over="ignore", invalid="ignore"):
        return ((a - np.array(mean)) / np.array(scale)).astype(dtype)


def moments(rows: Array, weights: Array | None = None) -> tuple[Array, Array]:
    """Means and standard deviations of columns; the deviation of a constant column is 1.

    Both are computed in float64, whatever the dtype of the rows, a block of rows at a time.  Each column is
    scaled by a power of two, which is exact, and shifted by its first row: numbers of any size, and a mean
    that is large compared with the deviation, cost no precision.

    Parameters
    ----------
    rows : ndarray (rows, N)
        Finite numbers.
    weights : ndarray (rows,), optional
        At least 0; rows of weight 0 are as if they were not there.

    Returns
    -------
    mean, deviation : ndarray of float64 (N,)
    """
    weights = np.ones(len(rows)) if weights is None else np.asarray(weights, dtype=np.float64)
    if not weights.all():
        rows, weights = rows[weights > 0], weights[weights > 0]
    if len(rows) == 0:
        return np.zeros(rows.shape[1]), np.ones(rows.shape[1])
    weights = weights / weights.max()  # whose sum can't overflow
    parts = [slice(start, start + BLOCK) for start in range(0, len(rows), BLOCK)]
    low, high = (
        extreme.reduce([extreme.reduce(rows[part]) for part in parts]).astype(np.float64)
        for extreme in (np.minimum, np.maximum)
    )
    exponent = np.frexp(np.maximum(np.abs(low), np.abs(high)))[1]

    def mean_of(shift: Array, power: int) -> Any:
        """The weighted mean of (row - shift)^power, of scaled rows."""
        total = sum(
            weights[p] @ (np.ldexp(rows[p].astype(np.float64), -exponent) - shift) ** power for p in parts
        )
        return total / weights.sum()

    first = np.ldexp(rows[0].astype(np.float64), -exponent)
    mean = first + mean_of(first, 1)
    error = mean_of(mean, 1)  # of the rounded mean
    deviation = np.ldexp(np.sqrt(np.maximum(mean_of(mean, 2) - error**2, 0)), exponent)
    mean = np.ldexp(mean + error, exponent)
    with np.errstate(over="ignore"):
        constant = (high - low <= 10 * np.finfo(np.float64).eps * np.abs(mean)) | (deviation == 0)
    return mean, np.where(constant, 1.0, deviation)


@dataclass(frozen=True)
class Columns:
    """Names of the inputs and of the outputs, and their scaling; None: unknown, and none.

    Raises
    ------
    ConfigError
        If a name is no str, or comes twice.
    """

    inputs: Any = None
    outputs: Any = None
    scaling: Scaling | None = None

    def __post_init__(self) -> None:
        for which, what in (("inputs", "input_names"), ("outputs", "output_names")):
            names = getattr(self, which)
            if names is not None:
                object.__setattr__(self, which, _checked_names(names, what))
        if not isinstance(self.scaling, Scaling | None):
            raise ConfigError(f"scaling: expected a Scaling or None, got {self.scaling!r}.")

    def check(self, inputs: int, outputs: int) -> None:
        """Raise a ShapeError unless they are those of a network with so many inputs and outputs."""
        scaling = self.scaling
        for name, found, size in (
            ("input_names", self.inputs, inputs),
            ("output_names", self.outputs, outputs),
            ("scaling.input_mean", None if scaling is None else scaling.input_mean, inputs),
            ("scaling.output_mean", None if scaling is None else scaling.output_mean, outputs),
        ):
            if found is not None and len(found) != size:
                what = f"{name.removeprefix('scaling.').partition('_')[0]}_size={size}"
                raise ShapeError(f"{name}: expected {size} of them ({what}), got {len(found)}.")

    def check_targets(self, kind: str, what: str) -> None:
        """Raise if outputs are scaled but the targets, of the kind that a loss takes, are no real numbers."""
        if kind != "real" and self.scaling is not None and self.scaling.output_mean is not None:
            raise ConfigError(
                f"{what}: expected a network whose outputs are not scaled, with a loss that takes classes or "
                f"probabilities, got one with scaling.output_mean.  Set net.scaling to one without, or None."
            )

    def check_feedback(self, what: str) -> None:
        """Raise unless each output can be the input that stands in the same place."""
        a, b = self.inputs, self.outputs
        if a is not None and b is not None and a != b and set(a) == set(b):
            raise ConfigError(
                f"{what}: outputs are fed back as inputs, which needs both in one order, got inputs "
                f"{', '.join(a)} and outputs {', '.join(b)}.  Train with targets in the order of the inputs."
            )

    def plain(self) -> dict[str, Any]:
        """As plain values; `restored` takes them."""
        return asdict(self)

    @classmethod
    def restored(cls, values: dict[str, Any]) -> Columns:
        """From what `plain` gave, also by way of JSON."""
        scaling = values.get("scaling")
        return cls(**values | {"scaling": None if scaling is None else Scaling(**scaling)})


UNKNOWN = Columns()


def _checked_names(names: Any, what: str) -> Names:
    if isinstance(names, str) or not all(isinstance(name, str) for name in names):
        raise ConfigError(f"{what}: expected a list of str, one for each column, got {names!r}.")
    for name in names:
        if list(names).count(name) > 1:
            raise ConfigError(f"{what}: expected different names, got {name!r} more than once.")
    return tuple(names)


# ---- tables


def is_table(x: Any) -> bool:
    """Whether `x` is a DataFrame or a Series."""
    return hasattr(x, "to_numpy") and (hasattr(x, "columns") or hasattr(x, "to_frame"))


def names_of(table: Any) -> Names | None:
    """The names of a table's columns, if all of them are str."""
    names = tuple(table.columns) if hasattr(table, "columns") else (getattr(table, "name", None),)
    return names if names and all(isinstance(name, str) for name in names) else None


def order(found: Names | None, wanted: Names | None, what: str) -> list[int] | None:
    """Where the `wanted` names are among those `found`; None: as they are, or unknown.

    Raises
    ------
    ShapeError
        If a column is missing, or there is one more.
    """
    if found is None or wanted is None or found == wanted:
        return None
    for name in wanted:
        if found.count(name) != 1:
            got = "no such column" if name not in found else f"{found.count(name)} columns of that name"
            raise ShapeError(
                f"{what}: column {name!r}: expected one of {', '.join(found)}, got {got}.  The network was "
                f"trained with {', '.join(wanted)}."
            )
    extra = [name for name in found if name not in wanted]
    if extra:
        raise ShapeError(
            f"{what}: column {extra[0]!r}: expected {', '.join(wanted)} only, got one that the network does "
            f"not know.  Take those it knows: {what}[{list(wanted)}]."
        )
    return [found.index(name) for name in wanted]


def ordered(table: Any, wanted: Names | None, what: str) -> Any:
    """A table with its columns in the order of the `wanted` names; all else, and a Series, as it is."""
    if type(table) is np.ndarray or not hasattr(table, "columns") or not is_table(table):
        return table
    return table if order(names_of(table), wanted, what) is None else table[list(wanted or ())]


def like(table: Any, rows: Array, names: Sequence[Any] | None, index: Any = None) -> Any:
    """Rows (T, N) as a table of the same kind, a Series if it was one and N is 1; else as they are."""
    single = not hasattr(table, "columns") and rows.shape[1] == 1
    if hasattr(table, "iloc"):
        index = table.index if index is None else index
        if single:
            return type(table)(rows[:, 0], index=index, name=names[0] if names else None)
        frame = table if hasattr(table, "columns") else table.to_frame()
        return type(frame)(rows, index=index, columns=names)
    if hasattr(table, "to_arrow"):  # polars
        if single:
            return type(table)(names[0] if names else "", rows[:, 0])
        frame = table if hasattr(table, "columns") else table.to_frame()
        return type(frame)(rows, schema=list(names) if names else None)
    return rows


def continued(table: Any, steps: int, what: str) -> Any:
    """The `steps` labels after those of a table's index; None if it has none.

    Raises
    ------
    ConfigError
        If the index has no frequency, no constant step.
    """
    index = getattr(table, "index", None)
    if index is None or not hasattr(table, "iloc"):
        return None
    last = index[-1:]
    if hasattr(index, "tz"):  # points in time, not always as many hours apart
        rate = index.freq
        if rate is None and len(index) > 2:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # pandas 3 tells that the type of what it infers will change
                rate = index.inferred_freq
        if rate is not None:
            end = last.shift(steps, freq=rate)
            return last.append(end).to_series().asfreq(rate).index[1:].rename(index.name)
        step = None
    else:
        step = 1 if hasattr(index, "asfreq") else _constant_step(index)  # 1 of a PeriodIndex
    if step is None:
        raise ConfigError(
            f"{what}: expected an index with a frequency, or with a constant step, so that it can go on, got "
            f"one of {len(index)} labels that ends with {index[-1]}.  Give it one, for example with "
            f'asfreq("D"), or number the rows: reset_index(drop=True).'
        )
    return last.repeat(steps) + step * np.arange(1, steps + 1)


def _constant_step(index: Any) -> Any:
    if hasattr(index, "step"):
        return index.step
    steps = np.diff(index.to_numpy()) if index.dtype.kind in "ium" else np.zeros(0)
    return steps[0] if len(steps) and (steps == steps[0]).all() else None
