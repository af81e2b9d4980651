"""Sets of sequences in the layout of the C core, from the user's data, which are never modified."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike

from . import notebook
from .columns import UNKNOWN, Columns, Names, is_table, like, names_of, order, ordered
from .errors import ConfigError, ShapeError, integer, plain, suggesting
from .interrupts import PART, fill, in_parts, pieces
from .losses import Loss

Array = np.ndarray[Any, Any]


@dataclass(slots=True, eq=False, repr=False)
class Sequences:
    """n sequences in one block of rows: sequence i is rows ``offset[i] : offset[i] + length[i]``.

    `Sequences.windows` is the public constructor; every method of a network accepts the result as x.

    Attributes
    ----------
    values : ndarray (S, I)
        The inputs of all sequences, padding included if there is any.
    offset, length : ndarray of int64 (n,)
        First row and number of steps of each sequence.
    target_offset : ndarray of int64 (n,)
        First target row of each sequence; a sequence has one target row, or one per step.
    targets : ndarray (rows, O) or None
        Targets that are real numbers or probabilities.
    classes : ndarray of int64 (rows,) or None
        Targets that are class indices.
    weight : ndarray (rows,) or None
        Weights of the target rows; None: all one.
    state : ndarray (n, state size) or None
        Initial states; None: zeros.
    number : ndarray of int64 (n,) or None
        By what dropout and noise of each sequence are drawn, its place in the whole of which these are a
        part; None: its index.
    form : {"series", "array", "list", "windows"}
        The form of x: one series (T, I), an array (n, T, I), a list of (T_i, I), or windows of a series.
    steps : int
        Rows from one sequence to the next in an array, T; for a list the greatest length; the length of a
        window.
    stride, horizon : int
        Arguments of `windows`; 0 for other forms.
    columns : Columns
        Names of inputs and targets, where known, and the scaling applied.
    tables : list
        The DataFrames or Series of the sequences, one per sequence; empty for arrays.

    Examples
    --------
    >>> import numpy as np, bptt_fast as bf
    >>> len(bf.Sequences.windows(np.zeros((100, 3)), length=10))
    91
    """

    values: Array
    offset: Array
    length: Array
    form: str
    steps: int
    stride: int = 0
    horizon: int = 0
    ragged: bool = field(init=False)  # whether the sequences may differ in length
    target_offset: Array = field(init=False)
    targets: Array | None = field(default=None, init=False)
    classes: Array | None = field(default=None, init=False)
    weight: Array | None = field(default=None, init=False)
    state: Array | None = field(default=None, init=False)
    number: Array | None = field(default=None, init=False)
    columns: Columns = field(default=UNKNOWN, init=False)
    tables: list[Any] = field(default_factory=list, init=False)

    def __post_init__(self) -> None:
        self.ragged = self.form == "list"
        self.target_offset = self.offset

    def __len__(self) -> int:
        return len(self.offset)

    def __repr__(self) -> str:
        return f"Sequences({', '.join(f'{name}={value}' for name, value in self._facts())})"

    def _repr_html_(self) -> str:
        return notebook.titled("Sequences", notebook.table(self._facts()))

    def _facts(self) -> list[tuple[str, Any]]:
        """What a reader wants to know of the data, by name."""
        shortest, longest = (int(end(self.length)) for end in (np.min, np.max)) if len(self) else (0, 0)
        facts: list[tuple[str, Any]] = [("form", self.form), ("sequences", len(self))]
        facts.append(("steps", longest if shortest == longest else f"{shortest} to {longest}"))
        facts += [
            ("inputs", self.values.shape[1]),
            ("rows", len(self.values)),
            ("dtype", str(self.values.dtype)),
        ]
        if self.form == "windows":
            facts += [("stride", self.stride), ("horizon", self.horizon)]
        return facts

    @classmethod
    @suggesting
    def windows(cls, series: Any, length: int, stride: int = 1, horizon: int = 1) -> Sequences:
        """All windows of one series, without copying: each is an offset into the series and a length.

        Parameters
        ----------
        series : array (S, I), DataFrame, or Series for I = 1
            Real numbers; not copied if contiguous, aligned and of the network's dtype, and the network has no
            scaling.
        length : int
            Steps of a window, at most S.
        stride : int, default 1
            Rows from the start of a window to the start of the next.
        horizon : int, default 1
            Rows from an input to its target.  The target of the window that starts at row o is row
            o + length - 1 + horizon of y with readout "last", and rows o + horizon + j, j = 0 .. length-1,
            with "every".  0: rows of x and y belong together.

        Returns
        -------
        windows : Sequences
            As x of `fit` and `evaluate`, with y (S, O), one row for each row of the series, and sample_weight
            (S,); windows whose targets do not exist are left out.  As x of `predict` and `forecast`, which
            use all windows and return (n, ...).

        Raises
        ------
        ShapeError
            If `series` is not a table with at least `length` rows.
        ConfigError
            If `series` has no real numbers, `length` or `stride` is not an integer of at least 1, or
            `horizon` is not one of at least 0.

        Notes
        -----
        In training without shuffling, overlapping windows share the product with the input weights: it is
        computed once per row of the series in a batch.

        The `validation_split` of `fit` splits the rows of the series and leaves out windows with inputs or
        targets on both sides.

        Examples
        --------
        >>> import numpy as np, bptt_fast as bf
        >>> series = np.sin(np.arange(400) / 5)[:, None]
        >>> windows = bf.Sequences.windows(series, length=20)
        >>> net = bf.Network(1, 8, 1, seed=0)
        >>> history = net.fit(windows, series, shuffle=False, epochs=2, verbose=0)
        >>> net.predict(windows).shape
        (381, 1)
        """
        names = names_of(series) if is_table(series) else None
        a = numbers(_frame(series), "series")
        if a.ndim != 2:
            hint = "  A single input per step: series[:, None]." if a.ndim == 1 else ""
            raise ShapeError(f"series: expected one series (S, I), got {a.shape}.{hint}")
        length, stride = integer(length, "length"), integer(stride, "stride")
        horizon = integer(horizon, "horizon", 0)
        if length > len(a):
            raise ShapeError(
                f"length: expected windows of at most {len(a)} steps (the rows of series), got {length}.  "
                f"Use shorter windows or a longer series."
            )
        n = (len(a) - length) // stride + 1
        offset = np.arange(n, dtype=np.int64) * stride
        windows = cls(a, offset, np.full(n, length, np.int64), "windows", length, stride, horizon)
        windows.columns = Columns(names)
        return windows

    def place_outputs(self, every: bool) -> int:
        """Set `target_offset` for outputs of each step if `every`, else each sequence; the number of rows."""
        n = len(self)
        if every and self.form != "windows":
            self.target_offset = self.offset
            return len(self.values)
        steps = self.steps if every else 1
        self.target_offset = _regular(n, steps)[0]
        return n * steps

    def arrange(self, rows: Array, every: bool, names: Names | None = None) -> Any:
        """Output rows in the form of x; `rows` has one row per step if `every`, else one per sequence.

        A series becomes (T, .) or (.), an array or windows (n, T, .) or (n, .), a list a list of (T_i, .) or
        (n, .).  For tables, (T, .) are tables with the column names `names`.
        """
        if not every:
            return rows[0] if self.form == "series" else rows
        if self.form in ("array", "windows"):
            return rows.reshape(len(self), self.steps, -1)
        parts = [rows[start : start + length] for start, length in zip(self.offset, self.length, strict=True)]
        if self.tables:
            parts = [like(table, part, names) for table, part in zip(self.tables, parts, strict=True)]
        return parts[0] if self.form == "series" else parts


class Share(NamedTuple):
    """Part `part` of `parts` equal ones of the rows of an array."""

    part: int
    parts: int

    def of(self, a: Array) -> Array:
        """A view of these rows."""
        return a[len(a) * self.part // self.parts : len(a) * (self.part + 1) // self.parts]


WHOLE: Share = Share(0, 1)


class Shared:
    """Inputs shared by several networks, converted to sequences once per kind of network.

    All calls pass the same targets, weights, states and lengths with it.
    """

    def __init__(self, x: Any) -> None:
        self.x = x
        self._made: dict[Any, Sequences] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_made": {}}  # another process converts x, rather than get it twice

    def made_once(self, key: Any, make: Callable[[], Sequences]) -> Sequences:
        """A shallow copy of the sequences under `key`, since a fit sets attributes of its own."""
        if key not in self._made:
            self._made[key] = make()
        return copy.copy(self._made[key])


class Subset(Shared):
    """Some of the sequences of shared inputs, whose values are not copied.

    Parameters
    ----------
    whole : Shared
        All sequences; targets, weights and states that are passed with a subset belong to these.
    rows : ndarray of int64 (m,)
        The indices of the sequences, in increasing order.
    scaled : Shared
        All sequences, for conversions with the scaling of one fit, which shall not outlive it.
    """

    def __init__(self, whole: Shared, rows: Array, scaled: Shared) -> None:
        super().__init__(whole.x)
        self.whole, self.rows, self.scaled = whole, rows, scaled

    def of(self, sequences: Sequences, every: bool) -> Sequences:
        """The subset of all sequences, which have a target for each step if `every`."""
        rows, state = self.rows, sequences.state
        subset = replaced(
            sequences,
            offset=sequences.offset[rows],
            length=sequences.length[rows],
            target_offset=sequences.target_offset[rows],
            state=None if state is None else state[rows],
            tables=[sequences.tables[row] for row in rows] if sequences.tables else [],
        )
        weight = subset.weight
        if weight is not None:
            counted = covered(len(weight), subset.target_offset, subset.length if every else 1)
            if not weight[counted].any():
                raise ConfigError(
                    "sample_weight: expected a weight above 0 in each part of the folds, got only zeros in "
                    f"one of {len(rows)} sequences."
                )
        return subset


LABELS = (
    'Labels of classes: number them, np.unique(y, return_inverse=True)[1], with loss="cross_entropy"; an '
    "RNNClassifier takes them as they are."
)


def numbers(a: Any, name: str, of_text: str = "") -> Array:
    """`a` as an array of real numbers of any dtype; accepts DataFrames and tensors.

    `of_text` is what to do with text, for a message.
    """
    source = a
    if type(a) is not np.ndarray:
        if isinstance(a, np.ma.MaskedArray):
            raise ConfigError(
                f"{name}: expected plain numbers, got a masked array.  Fill the gaps first: a.filled(...)."
            )
        try:
            if hasattr(a, "detach"):
                a = _of_tensor(a)
            a = _table(a) if hasattr(a, "to_numpy") else np.asarray(a)
        except Exception as error:
            wrong_columns = columns_without_numbers(source, False, of_text)
            if wrong_columns:
                raise ConfigError(f"{name}: expected real numbers, got {wrong_columns}") from None
            ragged = "  Sequences of different length go in a list of 2-D arrays."
            raise ShapeError(
                f"{name}: expected an array of numbers, got {type(source).__name__} that NumPy cannot read "
                f"({str(error).rstrip('.')}).{ragged * isinstance(source, (list, tuple))}"
            ) from None
    # polars converts dates to numbers if other columns are numbers
    dates = hasattr(source, "to_arrow") and columns_without_numbers(source, False, of_text)
    if dates or a.dtype.kind not in "fiub":
        raise ConfigError(f"{name}: expected real numbers, got {dates or _not_numbers(a, source, of_text)}")
    return a


def _of_tensor(tensor: Any) -> Array:
    """The numbers of a PyTorch tensor; those of a type that NumPy lacks, such as bfloat16, in float32."""
    tensor = tensor.detach().cpu().resolve_neg()
    try:
        return np.asarray(tensor)
    except TypeError:
        return np.asarray(tensor.float())


def columns_without_numbers(table: Any, objects: bool = False, of_text: str = "") -> str:
    """The non-numeric columns of a table, for a message; "" if there are none, or it is no table.

    With `objects` a column of objects is numeric if all of them are.  `of_text` as in `numbers`.
    """
    if not is_table(table):
        return ""
    table = _frame(table)
    if all(getattr(dtype, "kind", "O") in "fiub" for dtype in getattr(table, "dtypes", [None])):
        return ""  # pandas, the usual case
    names = getattr(table, "column_names", table.columns)  # `columns` of Arrow tables are the data
    parts = [table.iloc[:, i] if hasattr(table, "iloc") else table[names[i]] for i in range(table.shape[1])]
    wrong = {name: part for name, part in zip(names, parts, strict=True) if _is_no_number(part, objects)}
    if not wrong:
        return ""
    columns, which = ("columns", "them") if len(wrong) > 1 else ("column", "it")
    name, first = next(iter(wrong.items()))
    values = _table(first)
    index, entry = _first_without_number(values)
    holds = index is None and values.dtype.kind in "OUS"
    convert = (
        f"It holds numbers: convert it, astype({{{name!r}: float}})." if holds and len(wrong) == 1 else ""
    )
    of_text = of_text if len(parts) == 1 and isinstance(plain(entry), str) else ""
    return (
        f"{columns} {', '.join(map(repr, wrong))} of dtype {getattr(first, 'dtype', None) or first.type} "
        f"with entries such as {_entry(entry)}.  {_remedy(entry, which, of_text or convert)}"
    )


def _remedy(entry: Any, which: str, known: str) -> str:
    """What to do with a column that has this entry, or with several of `which` it is the first."""
    if isinstance(plain(entry), str):
        numbered = (
            f"Leave {which} out, or number text, the same in all tables, "
            "pandas.Categorical(..., categories=[...]).codes, with categories= for it."
        )
        return known or numbered
    if hasattr(entry, "isoformat") or (isinstance(entry, np.generic) and entry.dtype.kind == "M"):
        return f"Leave {which} out, make dates the index, or compute numbers from them, such as the hour."
    return known or f"Leave {which} out, or convert {which} to numbers first."


def _is_no_number(column: Any, objects: bool) -> bool:
    a = _table(column)
    numeric = objects and a.dtype.kind in "OUS" and _first_without_number(a)[0] is None
    return not numeric and a.dtype.kind not in "fiub"


def _not_numbers(a: Array, source: Any, of_text: str) -> str:
    """The end of a message on an array `a`, made from `source`, without real numbers: contents and remedy."""
    wrong_columns = columns_without_numbers(source, False, of_text)
    if wrong_columns:
        return wrong_columns
    if a.dtype.kind == "c":
        return f"an array of dtype {a.dtype}.  Pass real and imaginary parts as columns: x.real, x.imag."
    if a.dtype.names is not None:
        return (
            f"an array with the fields {', '.join(a.dtype.names)}.  Convert them to columns first, with "
            f"numpy.lib.recfunctions.structured_to_unstructured."
        )
    index, entry = _first_without_number(a)
    if index is None:
        return (
            f"an array of dtype {a.dtype}.  Convert it first, for example with np.asarray(..., dtype=float)."
        )
    if hasattr(entry, "toarray"):
        return "a sparse matrix.  Convert it first: x.toarray()."
    if isinstance(entry, (list, tuple)) or (hasattr(entry, "ndim") and entry.ndim):
        return f"an array of arrays, {a.shape}.  Sequences of different length go in a list of 2-D arrays."
    where = f" at index {index}" if index else ""
    remedy = of_text if of_text and isinstance(entry, str) else "Leave it out, or convert it first."
    return f"{_entry(entry)}{where} in an array of dtype {a.dtype}.  {remedy}"


def _first_without_number(a: Array) -> tuple[tuple[int, ...] | None, Any]:
    """Index and value of the first non-numeric entry in an array of objects or text."""
    for index, entry in np.ndenumerate(a if a.dtype.kind in "OUS" else np.empty(0)):
        try:
            if np.ndim(entry) == 0:
                float(entry)
                continue
        except (TypeError, ValueError, OverflowError):
            pass
        return index, entry
    return None, a.flat[0] if a.size else None


def _entry(value: Any) -> str:
    """A value as text for a message, shortened."""
    text = repr(plain(value))
    return text if len(text) <= 40 else text[:37] + "..."


def unboxed(x: Any) -> Any:
    """An object array (n,) of arrays or tables as a list; other values unchanged."""
    boxed = isinstance(x, np.ndarray) and x.ndim == 1 and x.dtype.kind == "O"
    return list(x) if boxed and all(np.ndim(part) > 0 for part in x) else x


def _table(table: Any) -> Array:
    """The numbers of a table; gaps in nullable columns (pandas' Int64) become NaN."""
    try:
        a = table.to_numpy()
    except Exception:
        if not hasattr(table, "to_list"):
            raise
        a = np.array(table.to_list(), object)  # a column of a type that NumPy lacks, such as polars' Int128
    columns: list[Any] = (
        [getattr(table, "dtype", None)] if a.ndim == 1 else list(getattr(table, "dtypes", [None]))
    )
    if a.dtype == object and all(getattr(column, "kind", "O") in "fiub" for column in columns):
        return table.to_numpy(dtype=float, na_value=np.nan)
    return a


def cast(a: Array, dtype: DTypeLike) -> Array:
    """`a` as a C-contiguous aligned array of `dtype`, without a copy if it is one."""
    if a.dtype == dtype and a.flags.c_contiguous and a.flags.aligned:
        return a
    with np.errstate(over="ignore", invalid="ignore"):
        if a.size <= PART:
            return np.array(a, dtype=dtype, order="C", ndmin=1)
        converted = np.empty(a.shape, dtype)
        fill(converted, a)
        return converted


def _frame(x: Any) -> Any:
    """A Series as a DataFrame of one column; other values unchanged."""
    return x.to_frame() if hasattr(x, "to_frame") and not hasattr(x, "columns") else x


def sequences(
    x: Any,
    features: int,
    dtype: DTypeLike,
    lengths: Any = None,
    name: str = "x",
    columns: Columns = UNKNOWN,
    share: Share = WHOLE,
) -> Sequences:
    """The checked inputs `x` as Sequences without targets.

    Parameters
    ----------
    x : array (n, T, I) or (T, I), list of n arrays (T_i, I), or Sequences.windows(...)
        Real numbers of any dtype and memory layout; not copied if contiguous, aligned and of `dtype` (except
        lists and scaled inputs).  Arrays (T, I) may be tables.
    features : int
        I, the input size of the network.
    dtype : dtype
        float32 or float64.
    lengths : array of int (n,), optional
        Valid steps of each sequence of an array (n, T, I).  Values after them are never read.
    name : str
        The user's name of `x`, for messages.
    columns : Columns
        Columns of tables are reordered by its names; its scaling is applied, and its categories are checked.
    share : Share
        The rows that are checked to be finite.

    Raises
    ------
    ShapeError, ConfigError
        If the shape, the feature count or the dtype is wrong, a sequence is empty or there is none, or a
        value is NaN or infinite, or not one of its category; the message names its index.
    """
    scaling = columns.scaling
    wide: DTypeLike = dtype if scaling is None else np.float64
    x = unboxed(x)
    tables: list[Any] = []
    labels: Any = None
    if isinstance(x, Sequences):
        sequence_set = _windows(x, features, wide, lengths, name, columns.inputs)
        labels = columns.inputs or sequence_set.columns.inputs
    elif is_list(x):
        if lengths is not None:
            raise ConfigError(
                f"lengths: expected None for a list ({name} already says the length of each sequence), "
                f"got {type(lengths).__name__}."
            )
        names = columns.inputs
        framed = [part for part in x if is_table(part)]
        if framed:
            tables, names = list(x), names or names_of(framed[0])
            labels = names
        items = [ordered(part, names, f"{name}[{i}]") for i, part in enumerate(x)]
        parts = [_series(part, features, f"{name}[{i}]") for i, part in enumerate(items)]
        values, offset, length = _joined(parts, (features,), wide)
        sequence_set = Sequences(values, offset, length, "list", int(length.max()))
    else:
        if type(x) is not np.ndarray and is_table(x):
            tables, x = [x], _frame(ordered(x, columns.inputs, name))
            labels = names_of(x)
        sequence_set = _from_array(numbers(x, name), features, wide, lengths, name)
    known = sequence_set.columns.inputs
    if tables and not known:
        known = next((names_of(table) for table in tables if is_table(table)), None)
    sequence_set.columns = replace(columns, inputs=columns.inputs or known) if known else columns
    sequence_set.tables = tables
    if scaling is not None:
        sequence_set.values = scaling.inputs(sequence_set.values, dtype)
    if not finite(share.of(sequence_set.values)):
        _check_rows(
            sequence_set.values,
            sequence_set,
            True,
            None,
            name,
            "feature",
            "Fill or drop the gaps first.",
            labels,
        )
    if columns.categories:
        _check_categories(sequence_set, columns, name)
    return sequence_set


def _from_array(a: Array, features: int, dtype: Any, lengths: Any, name: str) -> Sequences:
    """The sequences of an array of one or several of the same length, or of `lengths`."""
    if a.ndim == 2:
        a, form = _series(a, features, name)[None], "series"
    elif a.ndim == 3:
        form = "array"
    else:
        hint = f"  A single input per step: {name}[:, None]." if a.ndim == 1 and features == 1 else ""
        hint += one_hot_hint(a, features, name)
        raise ShapeError(
            f"{name}: expected (n, T, {features}), a list of (T_i, {features}) or one series "
            f"(T, {features}), got {a.shape}.{hint}"
        )
    n, steps, width = a.shape
    if width != features:
        raise ShapeError(_wrong_width(name, a, features))
    if n == 0 or steps == 0:
        raise ShapeError(f"{name}: expected at least one sequence of at least one step, got {a.shape}.")
    offset, length = _regular(n, steps)
    if lengths is not None:
        length = checked_lengths(lengths, n, steps, name)
    sequence_set = Sequences(cast(a, dtype).reshape(n * steps, features), offset, length, form, steps)
    sequence_set.ragged = lengths is not None
    return sequence_set


def set_targets(
    data: Sequences,
    y: Any,
    outputs: int,
    loss: Loss,
    every: bool,
    sample_weight: Any = None,
    name: str = "y",
    weight_name: str = "sample_weight",
    is_part: bool = False,
    share: Share = WHOLE,
) -> None:
    """Check the targets and weights, scale the targets by `data.columns` and store both in `data`.

    Parameters
    ----------
    data : Sequences
        The inputs, of the network's dtype.
    y : array or list
        One row of D targets for each sequence, or for each step if `every`, in the form of the inputs; for
        windows one for each row of their series, and windows whose targets do not exist are dropped.  Classes
        have no last axis; it is optional if D is 1.  Rows of weight 0 are not checked.
    outputs : int
        O.
    loss : Loss
        It says what the targets are and, by O, how many: D is O for most losses.
    every : bool
        Whether there is one target per step instead of one per sequence.
    sample_weight : array or list, optional
        One number for each sequence, or for each target row; at least 0, not all 0.
    name, weight_name : str
        The user's names of both, for messages.
    is_part : bool
        Whether there are other sequences, so that all weights may be 0.
    share : Share
        As in `sequences`, of the targets.

    Raises
    ------
    ShapeError, ConfigError
        As in `sequences`; also for class indices out of range, probabilities outside [0, 1], and negative
        counts.
    """
    dtype, scaling, kind = data.values.dtype, data.columns.scaling, loss.targets
    columns = loss.columns(outputs)
    y, sample_weight = unboxed(y), unboxed(sample_weight)
    y = _named_targets(data, y, columns, kind, name, outputs)
    if data.form == "windows":
        _drop_windows(data, every, name)
    else:
        data.target_offset = data.offset if every else counting(len(data))
    of_sequences = False
    if sample_weight is not None:
        data.weight, of_sequences = _weight(data, sample_weight, every, weight_name, is_part)
    if loss.average == "sequences":
        _average_over_sequences(data, every, of_sequences, weight_name)
    last = () if kind == "class" else None if columns is None else (columns,)
    try:
        rows = _target_rows(data, y, last, every, name)
    except ShapeError as error:
        if loss.outputs == 1:
            raise
        raise ShapeError(
            f'{error}  "{loss.name}" takes {loss.outputs} outputs per target: {loss.layout}.'
        ) from None
    if kind == "real" and rows.dtype.kind == "b" and loss.function is None:
        raise ConfigError(
            f'{name}: expected real numbers for "{loss.name}", got True and False.  Labels of classes: '
            f'loss="binary_cross_entropy"; as numbers: {name}.astype(float).'
        )
    data.columns.check_targets(loss.scales(0 if kind == "class" else rows.shape[1], outputs), name)
    if kind == "class":
        if rows.dtype.kind not in "iu":
            raise ConfigError(
                f"{name}: expected class indices, integers from 0 to {outputs - 1}, got dtype {rows.dtype}.  "
                f"Convert them: y.astype(int)."
            )
        if loss.function is None:
            expected = f"class indices from 0 to {outputs - 1}"
            if outputs == 1:
                expected += ' with output_size=1 (an output for each class, or loss="binary_cross_entropy")'
            unknown = "  A sample_weight of 0 marks rows without a class."
            _check_range(data, rows, 0, outputs - 1, every, name, expected, unknown)
        data.classes = cast(rows, np.int64)
        if loss.class_weight is not None:
            _weigh_classes(data, loss.weights_of_classes(outputs), every, is_part)
        return
    data.targets = cast(rows if scaling is None else scaling.targets(rows, dtype), dtype)
    if not finite(share.of(data.targets)):
        _check_rows(
            data.targets,
            data,
            every,
            data.weight,
            name,
            "output" if loss.outputs == 1 else "target",
            "A sample_weight of 0 marks rows without a target.",
            data.columns.outputs if data.targets.shape[1] == outputs else None,
        )
    if kind == "probability":
        _check_range(data, data.targets, 0, 1, every, name, "numbers from 0 to 1")
    if kind == "count":
        _check_range(data, data.targets, 0, math.inf, every, name, f'counts of at least 0 for "{loss.name}"')


def _average_over_sequences(data: Sequences, every: bool, weighted: bool, name: str) -> None:
    """Weights of rows whose sum over each sequence is 1, or if `weighted` the weight of the sequence."""
    if not every:
        raise ConfigError(
            'loss: expected a target for every step with average="sequences", got one per sequence.  Use '
            'average="rows".'
        )
    ends = data.target_offset + data.length
    if data.form == "windows":  # all are of one length: without weights both means are the same
        if data.weight is None:
            return
        raise ConfigError(
            f'{name}: expected None for windows with average="sequences", as a row may belong to several, '
            f"got weights."
        )
    weight = np.ones(len(data.values)) if data.weight is None else data.weight.astype(np.float64)
    for begin, end in zip(data.target_offset, ends, strict=True):
        total = end - begin if weighted else weight[begin:end].sum()
        weight[begin:end] /= total or 1
    data.weight = weight.astype(data.values.dtype)


def _weigh_classes(data: Sequences, weights: Array, every: bool, is_part: bool) -> None:
    """Multiply the weight of each target row by that of its class."""
    assert data.classes is not None
    weight = np.take(weights, data.classes, mode="clip").astype(data.values.dtype)
    data.weight = weight if data.weight is None else data.weight * weight
    if not is_part and not data.weight[_counted(data, len(weight), every, None)].any():
        raise ConfigError(
            "class_weight: expected a weight above 0 for a class of the targets, got only zeros."
        )


def _named_targets(data: Sequences, y: Any, columns: int | None, kind: str, name: str, outputs: int) -> Any:
    """`y` with the columns of tables ordered by the output names, by default those of the first table.

    Outputs have the names of the targets where each target has one output.
    """
    listed = is_list(y)
    tables = [part for part in (y if listed else [y]) if is_table(part)]
    if kind == "class" or not tables:
        return y
    known = (data.columns.outputs if columns == outputs else None) or names_of(tables[0])
    if known is not None and len(known) == outputs == columns:
        data.columns = replace(data.columns, outputs=known)
    if listed:
        return [ordered(part, known, f"{name}[{i}]") for i, part in enumerate(y)]
    return ordered(y, known, name)


def states(x0: Any, n: int, size: int, dtype: DTypeLike, name: str = "x0") -> Array | None:
    """Initial states (n, size) from None, (size,) for all sequences, or (n, size)."""
    if x0 is None:
        return None
    a = cast(numbers(x0, name), dtype)
    if a.shape not in ((size,), (n, size)):
        raise ShapeError(
            f"{name}: expected ({n}, {size}), one state per sequence, or ({size},), one for all; got "
            f"{a.shape}."
        )
    if not finite(a):
        where = tuple(int(i) for i in np.argwhere(~np.isfinite(a))[0])
        raise ConfigError(f"{name}: expected finite numbers, got {a[where]} at index {where}.")
    return a if a.ndim == 2 else np.ascontiguousarray(np.broadcast_to(a, (n, size)))


def replaced(sequences: Sequences, **attributes: Any) -> Sequences:
    """A shallow copy with other values of some attributes."""
    other = copy.copy(sequences)
    for name, value in attributes.items():
        setattr(other, name, value)
    return other


def is_list(x: Any) -> bool:
    """Whether `x` is a list of sequences: 2-D arrays or tables, not nested lists of numbers."""
    return (
        isinstance(x, (list, tuple))
        and all(len(getattr(part, "shape", ())) == 2 for part in x)
        and len(x) > 0
    )


def are_overlapping(x: Any) -> bool:
    """Whether the sequences of an array or a list are views of the same rows, by the first two."""
    several = isinstance(x, (list, tuple)) or (isinstance(x, np.ndarray) and x.ndim > 1)
    two = [part for part in x[:2] if isinstance(part, np.ndarray)] if several else []
    return len(two) == 2 and np.shares_memory(two[0], two[1])


def counting(n: int) -> Array:
    """The indices 0, 1, ..., n-1."""
    return _regular(n, 1)[0]


def _windows(
    x: Sequences, features: int, dtype: DTypeLike, lengths: Any, name: str, names: Names | None
) -> Sequences:
    """A copy of the windows in `dtype`, with columns in the order of `names`."""
    if x.form != "windows":
        raise ConfigError(f"{name}: expected Sequences made by Sequences.windows(...), got other ones.")
    if lengths is not None:
        raise ConfigError(f"lengths: expected None for windows, got {type(lengths).__name__}.")
    places = order(x.columns.inputs, names, name)
    if x.values.shape[1] != features:
        raise ShapeError(_wrong_width(name, x.values, features))
    values = cast(x.values if places is None else x.values[:, places], dtype)
    windows = Sequences(values, x.offset, x.length, x.form, x.steps, x.stride, x.horizon)
    windows.columns = x.columns
    return windows


def _drop_windows(data: Sequences, every: bool, name: str) -> None:
    """Keep the windows whose targets exist, and set the `target_offset` of these."""
    rows, needed = len(data.values), data.steps + data.horizon
    n = (rows - needed) // data.stride + 1
    if n < 1:
        raise ShapeError(
            f"{name}: expected at least length + horizon = {needed} rows, so that one window has a target, "
            f"got a series of {rows}.  Use shorter windows or a longer series."
        )
    data.offset, data.length = data.offset[:n], data.length[:n]
    data.target_offset = data.offset + (data.horizon if every else needed - 1)


def _regular(n: int, steps: int) -> tuple[Array, Array]:
    """Offsets and lengths of n sequences of `steps` steps."""
    return _few(n, steps) if n <= 1024 else _few.__wrapped__(n, steps)


@lru_cache(maxsize=32)
def _few(n: int, steps: int) -> tuple[Array, Array]:
    """The same arrays, cached because they are a large part of the time of small runs, hence read-only."""
    offset = np.arange(n, dtype=np.int64) * steps
    length = np.full(n, steps, dtype=np.int64)
    offset.setflags(write=False)
    length.setflags(write=False)
    return offset, length


def _wrong_width(name: str, a: Array, features: int) -> str:
    wanted = f"{features} features on the last axis (input_size={features})"
    hint = one_hot_hint(a, features, name)
    if a.ndim == 2 and features == 1:
        hint = (
            f"  It is read as one series of {a.shape[0]} steps; {a.shape[0]} series of {a.shape[1]} single "
            f"numbers: {name}[:, :, None]."
        )
    elif not hint and a.ndim > 1 and a.shape[-2] == features:
        hint = f"  Inputs on the axis before: {name}.swapaxes(-1, -2)."
    return f"{name}: expected {wanted}, got {a.shape[-1]} (shape {a.shape}).{hint}"


def one_hot_hint(a: Array, features: int, name: str) -> str:
    """The end of a message on an array of a wrong shape, if its integers may stand for one-hot vectors."""
    if features == 1 or a.dtype.kind not in "iu" or not a.size or a.min() < 0 or a.max() >= features:
        return ""
    return (
        f"  Integers that stand for one of {features} values: one-hot rows np.eye({features})[{name}], or a "
        f"column of integers with Network(1, ..., categories={{0: {features}}})."
    )


def _series(x: Any, features: int, name: str) -> Array:
    a = numbers(x, name)
    if a.ndim != 2 or a.shape[1] != features:
        raise ShapeError(_wrong_width(name, a, features))
    if a.shape[0] == 0:
        raise ShapeError(f"{name}: expected at least one step, got a sequence of length 0.  Leave it out.")
    return a


def _joined(parts: Sequence[Array], last: tuple[int, ...], dtype: DTypeLike) -> tuple[Array, Array, Array]:
    """The rows of all parts in one block of `dtype`, with the offset and length of each."""
    length = np.array([len(part) for part in parts], dtype=np.int64)
    offset = np.cumsum(length) - length
    values = np.empty((int(length.sum()), *last), dtype=dtype)
    with np.errstate(over="ignore", invalid="ignore"):
        for start, part in zip(offset, parts, strict=True):
            fill(values[start : start + len(part)], part)
    return values, offset, length


def checked_lengths(lengths: Any, n: int, steps: int, name: str, what: str = "lengths") -> Array:
    """The argument `what`, the valid steps of each of n sequences `name` of at most so many steps."""
    a = numbers(lengths, what)
    if a.dtype.kind not in "iu":
        raise ConfigError(f"{what}: expected integers, got dtype {a.dtype}.")
    if a.shape != (n,):
        raise ShapeError(f"{what}: expected ({n},), one for each sequence of {name}, got {a.shape}.")
    wrong = np.flatnonzero((a < 1) | (a > steps))
    if len(wrong):
        raise ConfigError(
            f"{what}: expected numbers from 1 to {steps} (the steps of {name}), got {a[wrong[0]]} "
            f"for sequence {wrong[0]}."
        )
    return a.astype(np.int64)


def finite(a: Array) -> bool:
    """Whether all numbers are finite.  A finite sum proves it without a temporary array."""
    if a.size <= 1024:
        return b"\0" not in np.isfinite(a).tobytes()  # all() takes twice as long
    if a.size > PART:
        return all(finite(a[part]) for part in in_parts(a.shape))
    with np.errstate(over="ignore", invalid="ignore"):
        return math.isfinite(np.add.reduce(a, axis=None)) or bool(np.isfinite(a).all())


def spans(start: Array, length: Array) -> Array:
    """The indices of the rows ``start[i] : start[i] + length[i]`` for each i, one after the other."""
    steps = int(length[0])
    if (length == steps).all():
        return (start[:, None] + np.arange(steps)).ravel()
    end = np.cumsum(length)
    return np.repeat(start - (end - length), length) + np.arange(end[-1])


def covered(rows: int, start: Array, length: Array | int) -> Array:
    """Mask of the `rows` rows that lie in ``start[i] : start[i] + length[i]`` for some i."""
    begun, ended = (np.bincount(a, minlength=rows + 1) for a in (start, start + length))
    return np.cumsum(begun - ended)[:rows] > 0


def fingerprint(sequences: Sequences, every: bool, contents: bool = True) -> str:
    """The number of sequences and a checksum of what training reads: no padding, no targets of weight 0.

    Without `contents` of the shapes and lengths alone.
    """
    from hashlib import sha256

    s = sequences
    targets = s.targets if s.classes is None else s.classes
    parts: list[Array | None] = [s.offset, s.length, s.target_offset, s.state]
    if not contents:
        arrays = [s.values, targets, s.weight]
        shapes = repr([None if a is None else (str(a.dtype), a.shape) for a in arrays])
        parts, targets = [*parts, np.frombuffer(shapes.encode(), np.uint8)], None
    else:
        parts.append(_part(s.values, covered(len(s.values), s.offset, s.length)))
    if targets is not None:
        counted = covered(len(targets), s.target_offset, s.length if every else 1)
        if s.weight is not None:
            counted &= s.weight > 0
            parts.append(_part(s.weight, counted))
        parts.append(_part(targets, counted))
    checksum = sha256()
    for part in parts:
        checksum.update(b"none" if part is None else f"{part.dtype} {part.shape}".encode())
        for piece in () if part is None else pieces(np.ascontiguousarray(part).data):
            checksum.update(piece)
    return f"{len(s)} sequences with the checksum {checksum.hexdigest()[:16]}"


def _part(a: Array, mask: Array) -> Array:
    """The rows under a mask; not copied if these are all."""
    return a if mask.all() else a[mask]


def _counted(data: Sequences, rows: int, every: bool, weight: Array | None) -> Array:
    """Mask of the `rows` rows that belong to a sequence (are not padding) and have a weight above 0."""
    counted = np.ones(rows, dtype=bool)
    if every or data.form == "windows":
        counted = covered(rows, data.target_offset, data.length if every else 1)
    return counted if weight is None else counted & (weight > 0)


def _place(data: Sequences, row: int, every: bool) -> str:
    """The position of row `row`, for a message."""
    if data.form == "windows" or (every and data.form == "series"):
        return f"row {row}"
    if not every:
        return f"sequence {row}"
    i = int(np.searchsorted(data.offset, row, side="right")) - 1
    return f"sequence {i}, step {row - int(data.offset[i])}"


def _check_rows(
    a: Array,
    data: Sequences,
    every: bool,
    weight: Array | None,
    name: str,
    axis: str,
    hint: str,
    labels: Any = None,
) -> None:
    """Raise a ConfigError for the first NaN or infinity in a row that is neither padding nor of weight 0."""
    counted = _counted(data, len(a), every, weight)
    for part in in_parts(counted.shape, a.shape[1]):
        counted[part] &= ~np.isfinite(a[part]).all(axis=1)
    wrong = np.flatnonzero(counted)
    if len(wrong) == 0:
        return
    row = int(wrong[0])
    column = int(np.flatnonzero(~np.isfinite(a[row]))[0])
    axis = "column" if every and data.form in ("series", "windows") else axis
    label = f" ({labels[column]!r})" if labels is not None else ""
    raise ConfigError(
        f"{name}: expected finite numbers in {a.dtype}, got {a[row, column]} at {_place(data, row, every)}, "
        f"{axis} {column}{label}; {len(wrong)} such row{'s' if len(wrong) > 1 else ''}.  {hint}"
    )


def out_of_category(values: Array, sizes: Sequence[int]) -> Array:
    """Mask of the values (..., Q) that are no integers from 0 to the size of their column - 1."""
    with np.errstate(invalid="ignore"):
        return np.asarray(~((values >= 0) & (values < np.array(sizes)) & (values == np.floor(values))))


def not_a_category(
    rows: Array, sizes: tuple[int, ...], name: str, names: Sequence[Hashable] | None = None
) -> tuple[Array, Callable[[int, str], str]]:
    """Mask of the rows (n, I) with a value that is none of its category, and the message for such a row."""
    first = rows.shape[1] - len(sizes)

    def wrong(some: Array) -> Array:
        return out_of_category(some[..., first:], sizes)

    def message(row: int, place: str) -> str:
        column = first + int(np.flatnonzero(wrong(rows[row]))[0])
        label = "" if names is None else f" ({names[column]!r})"
        return (
            f"{name}: expected integers from 0 to {sizes[column - first] - 1} in column {column}{label}, got "
            f"{rows[row, column]:g} at {place}.  The numbers of values, by the column, are "
            f"{dict(enumerate(sizes, first))}."
        )

    mask = np.empty(len(rows), dtype=bool)
    for part in in_parts(mask.shape, len(sizes)):
        mask[part] = wrong(rows[part]).any(axis=1)
    return mask, message


def _check_categories(data: Sequences, columns: Columns, name: str) -> None:
    """Raise a ConfigError for the first row, padding aside, with a value that is none of its category."""
    wrong, message = not_a_category(data.values, columns.categories, name, columns.inputs)
    if wrong.any():
        guilty = np.flatnonzero(wrong & _counted(data, len(wrong), True, None))
        if len(guilty):
            raise ConfigError(message(int(guilty[0]), _place(data, int(guilty[0]), True)))


def _target_rows(data: Sequences, y: Any, last: tuple[int, ...] | None, every: bool, name: str) -> Array:
    """The targets as rows (rows, D), or (rows,) for classes, in their own dtype, from any accepted shape.

    `last` is (D,), () for classes, or None for any D.
    """
    n, steps = len(data), data.steps
    if y is None:
        raise ConfigError(f"{name}: expected targets for x, which is an array or a list of them, got None.")
    if every and data.form == "list":
        return _target_list(data, y, last, name)
    if data.form == "windows":  # targets belong to rows of the series
        n, steps, every = 1, len(data.values), True
    a = numbers(y, name, LABELS)
    leads: list[tuple[int, ...]] = [(n, steps)] if every else [(n,)]
    if data.form in ("series", "windows"):
        leads.append((steps,) if every else ())
    if last is None:
        widths = [a.shape[len(lead) :] for lead in leads if a.shape[: len(lead)] == lead]
        last = next((width or (1,) for width in widths if len(width) < 2), (1,))
    wanted = leads[-1] + last
    if a.shape != wanted:
        last_axes = ((), (1,)) if last in ((), (1,)) else (last,)
        if a.shape not in [lead + last_axis for lead in leads for last_axis in last_axes]:
            raise ShapeError(
                f"{name}: expected {wanted}, {_meaning(every, last)}, got {a.shape}."
                + _target_hint(a, wanted, every, last, data)
            )
    return a.reshape((n * steps if every else n, *last))


def _target_list(data: Sequences, y: Any, last: tuple[int, ...] | None, name: str) -> Array:
    if not isinstance(y, (list, tuple)) or len(y) != len(data):
        got = f"{len(y)} entries" if isinstance(y, (list, tuple)) else type(y).__name__
        raise ShapeError(
            f"{name}: expected a list of {len(data)} arrays, one for each sequence of x, got {got}."
        )
    if last is None:
        last = numbers(y[0], f"{name}[0]").shape[1:2] or (1,)
    parts = []
    for i, (part, length) in enumerate(zip(y, data.length.tolist(), strict=True)):
        a = numbers(part, f"{name}[{i}]", LABELS)
        allowed = [(length, *last)] + ([(length,), (length, 1)] if last in ((), (1,)) else [])
        if a.shape not in allowed:
            hint = _class_hint(a, allowed[0], last)
            raise ShapeError(
                f"{name}[{i}]: expected {allowed[0]}, {_meaning(True, last)}, got {a.shape}.{hint}"
            )
        parts.append(a.reshape(length, *last))
    return _joined(parts, last, np.result_type(*{part.dtype for part in parts}))[0]


def _meaning(every: bool, last: tuple[int, ...]) -> str:
    return (
        f"{'a class index' if last == () else 'a row of targets'} for each {'step' if every else 'sequence'}"
    )


def _target_hint(
    a: Array, wanted: tuple[int, ...], every: bool, last: tuple[int, ...], data: Sequences
) -> str:
    got = a.shape
    if last == () and len(got) == len(wanted) + 1:
        return "  From one-hot rows: y.argmax(-1)."
    of_classes = _class_hint(a, wanted, last)
    if of_classes:
        return of_classes
    if len(got) == len(wanted) > 1 and got == (*wanted[:-2], wanted[-1], wanted[-2]):
        return "  Outputs on the axis before: y.swapaxes(-1, -2)."
    n, steps = len(data), data.steps
    if data.form == "array" and n != steps and got[: 1 + every] == (steps, n)[: 1 + every]:
        return f"  x is read as {n} sequences of {steps} steps.  Time on its first axis: x.swapaxes(0, 1)."
    if every and len(got) < len(wanted):
        return '  For one target per sequence: Network(readout="last").'
    if not every and data.form == "series" and got[:1] == (data.steps,) and data.steps > 1:
        return (
            f'  x is read as one series of {data.steps} steps.  For one target per step: readout="every" of '
            f"Network or evaluate, or bptt=SlidingBPTT(k) of fit; for {data.steps} series of single numbers: "
            "x[:, :, None]."
        )
    if not every and len(got) > len(wanted):
        return '  For one target per step: Network(readout="every").'
    return ""


def _class_hint(a: Array, wanted: tuple[int, ...], last: tuple[int, ...]) -> str:
    """The end of a message on targets without the axis of outputs, if they are class indices."""
    lead = wanted[: len(wanted) - 1]
    if len(last) != 1 or last == (1,) or a.shape not in (lead, (*lead, 1)):
        return ""
    if a.dtype.kind not in "iub" or not a.size or a.min() < 0 or a.max() >= last[0]:
        return ""
    return '  Class indices: loss="cross_entropy".'


def _weight(data: Sequences, sample_weight: Any, every: bool, name: str, is_part: bool) -> tuple[Array, bool]:
    """The weight of each target row, in the network's dtype; whether the caller's are of sequences."""
    n, dtype, of_sequences = len(data), data.values.dtype, False
    if (
        every
        and data.form == "list"
        and isinstance(sample_weight, (list, tuple))
        and any(map(np.ndim, sample_weight))
    ):
        weight = cast(_target_list(data, sample_weight, (), name), dtype)
    else:
        a = cast(numbers(sample_weight, name), dtype)
        if data.form == "windows":
            if a.shape != (len(data.values),):
                raise ShapeError(
                    f"{name}: expected ({len(data.values)},), one for each row of the series, got {a.shape}."
                )
            weight = a
        elif a.shape == (n,):
            repeats: Any = data.length if data.form == "list" else data.steps
            weight, of_sequences = np.repeat(a, repeats) if every else a, True
        elif every and (
            (data.form != "list" and a.shape == (n, data.steps))
            or (data.form == "series" and a.shape == (data.steps,))
        ):
            weight = a.reshape(-1)
        else:
            steps = (
                f" or ({n}, {data.steps}), one for each step"
                if every and data.form != "list"
                else (" or a list of arrays (T_i,)" if every else "")
            )
            raise ShapeError(f"{name}: expected ({n},), one for each sequence{steps}, got {a.shape}.")
    counted = _counted(data, len(weight), every, None)
    wrong = np.flatnonzero(counted & ~(np.isfinite(weight) & (weight >= 0)))
    if len(wrong):
        raise ConfigError(
            f"{name}: expected finite numbers of at least 0, got {weight[wrong[0]]} at "
            f"{_place(data, int(wrong[0]), every)}."
        )
    if not is_part and not weight[counted].any():
        raise ConfigError(f"{name}: expected at least one weight above 0, got only zeros.")
    return weight, of_sequences


def _check_range(
    data: Sequences,
    rows: Array,
    low: float,
    high: float,
    every: bool,
    name: str,
    expected: str,
    below: str = "",
) -> None:
    """Raise for the first number outside [low, high] in a row that is neither padding nor of weight 0.

    The message ends with `below` if the number is less than `low`.
    """
    if rows.min() >= low and rows.max() <= high:
        return
    wrong = ((rows < low) | (rows > high)).reshape(len(rows), -1).any(axis=1)
    guilty = np.flatnonzero(wrong & _counted(data, len(rows), every, data.weight))
    if len(guilty):
        got = rows[guilty[0]]
        raise ConfigError(
            f"{name}: expected {expected}, got {got} at {_place(data, int(guilty[0]), every)}."
            f"{below if (got < low).any() else ''}"
        )
