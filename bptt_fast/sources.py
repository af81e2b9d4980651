"""Training data that come in parts: iterables of batches, and files larger than memory."""

from __future__ import annotations

import itertools
import os
import zlib
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar, NamedTuple

import numpy as np

from . import data
from .columns import Columns, is_table
from .data import Array, Sequences
from .errors import MALFORMED, ConfigError, CorruptFileError, ShapeError, integer, suggesting
from .interrupts import prefetched
from .writing import named

SUFFIXES = (".npy", ".npz", ".parquet")
ARRAYS = ("x", "y", "sample_weight", "lengths")  # of a .npz file


class Part(NamedTuple):
    """Some sequences with their targets, in the forms that `fit` takes."""

    x: Any
    y: Any
    weight: Any
    lengths: Any
    names: tuple[str, str, str]  # of x, y and weight, for messages
    begin: int | None = None  # the number of the first sequence; None: they follow on the part before


Memory = dict[str, Array]
"""Arrays of bytes that a part uses in place of fresh ones, which the system must clear first."""


class Source:
    """Base class of training data that come in parts.

    Attributes
    ----------
    batched : bool
        Whether each part is a batch, in an order of the source's own.
    count : int or None
        The number of parts, if it is known.
    lengths : ndarray of int64 (n,) or None
        The steps of each sequence, if they are known.
    """

    batched: ClassVar[bool]
    count: int | None
    lengths: Array | None = None

    def _first(self, every: bool) -> Part:
        """A part that shows names and sizes of columns, with targets for each step if `every`."""
        raise NotImplementedError

    def _parts(
        self, every: bool, columns: Columns, order: Iterable[int] | None, memory: Sequence[Memory]
    ) -> Iterator[Part]:
        """The parts of one pass in this order (None: their own), with the columns in that of `columns`.

        Their arrays may lie in each `memory` in turn.
        """
        raise NotImplementedError

    def check_passes(self, passes: int, what: str) -> None:
        """Raise unless the data can be read so many times, which `what` needs."""

    def _fingerprint(self) -> str:
        """What the content depends on, as text; raises a ConfigError if that is not known."""
        raise NotImplementedError


class Batches(Source):
    """An iterable of batches (x, y) or (x, y, sample_weight), such as a list, a generator or a DataLoader.

    Parameters
    ----------
    batches : iterable
    name : str
        The user's name of it, for messages.
    """

    batched = True

    def __init__(self, batches: Any, name: str) -> None:
        self.iterable, self.name = batches, name
        iterator = iter(batches)
        self.once = iterator is batches
        try:
            self.count = len(batches)
        except TypeError:  # not known
            self.count = None
        self.begun: Iterator[Part] | None = self._numbered(iterator)
        self.head = next(self.begun)

    def check_passes(self, passes: int, what: str) -> None:
        if self.once and passes > 1:
            raise ConfigError(
                f"{self.name}: expected an iterable that can be read again, for {what}, got a "
                f"{type(self.iterable).__name__}, which is used up after one pass.  Pass a list of the "
                f"batches, or an object whose __iter__ begins again."
            )

    def _first(self, every: bool) -> Part:
        return self.head

    def _parts(
        self, every: bool, columns: Columns, order: Iterable[int] | None, memory: Sequence[Memory]
    ) -> Iterator[Part]:
        begun, self.begun = self.begun, None
        if begun is None:
            yield from self._numbered(iter(self.iterable))
        else:  # the constructor has taken the first
            yield self.head
            yield from begun

    def _numbered(self, items: Iterable[Any]) -> Iterator[Part]:
        number = 0
        for number, item in enumerate(items, 1):
            if self.count is not None and number > self.count:
                raise self._miscounted("more")
            name = f"{self.name}, batch {number}"
            if not isinstance(item, (tuple, list)) or len(item) not in (2, 3):
                got = f"{len(item)} entries" if isinstance(item, (tuple, list)) else type(item).__name__
                raise ConfigError(f"{name}: expected (x, y) or (x, y, sample_weight), got {got}.")
            x, y, weight = (*item, None)[:3]
            yield Part(x, y, weight, None, (f"{name}: x", f"{name}: y", f"{name}: sample_weight"))
        if not number:
            raise ConfigError(f"{self.name}: expected at least one batch in each pass, got none.")
        if self.count is not None and number < self.count:
            raise self._miscounted(str(number))

    def _miscounted(self, got: str) -> ConfigError:
        return ConfigError(f"{self.name}: expected {self.count} batches, its length, got {got}.")

    def _fingerprint(self) -> str:
        raise ConfigError(
            f"{self.name}: expected arrays or Files for a fit with a backup, got a "
            f"{type(self.iterable).__name__}, whose batches are not known before they are used.  Leave the "
            f"backup out, or write the batches to files."
        )


@suggesting
class Files(Source):
    """Sequences in files, as x of `fit`: read part by part during training, never all at once.

    Parameters
    ----------
    x : path or list of paths
        Files of one format, or a folder with such files, which are taken in the order of their names:

        - .npy: an array (n, T, I), n sequences, or (T, I), one sequence.
        - .npz: the arrays "x" and "y", optionally "sample_weight" and "lengths", as arguments of `fit`.
        - .parquet: tables with a row for each step; they need pyarrow.
    y, sample_weight : path or list of paths, optional
        .npy: files with the targets, and with weights, one for each file of x in the same order.
    inputs, targets : list of str, optional
        .parquet: the columns of inputs and targets.  With readout "last" targets, and the weight, are those
        in the last row of a sequence.
    weight : str, optional
        .parquet: the column of weights.
    sequence : str, optional
        .parquet: a column that has one value in all rows of a sequence, and another one in the next
        sequence.  Default: a file is one sequence.
    part_bytes : int, default 16 MiB
        A .npy file (n, T, I) is read in parts of at most so many bytes, each of as many sequences as the
        greatest power of two that fits; another file is one part.

    Raises
    ------
    ConfigError, ShapeError
        If there are no files, a file cannot be read, files do not fit together, or an argument is invalid;
        the message names the file.
    CorruptFileError
        If a file is damaged or of another format.

    Notes
    -----
    A fit holds one part, and the next one, which a thread reads in the meantime.  The constructor reads only
    headers (and the column `sequence`); a file that changes or vanishes later ends the fit with a
    ConfigError.

    With ``fit(shuffle=True)`` the order of the parts, and then that of the sequences of each part, is drawn
    from ``numpy.random.default_rng([seed, epoch])``.  The sequences that are left at the end of a part begin
    the next batch, so that only the last batch of an epoch may be smaller, as with data in memory.

    Examples
    --------
    >>> import os, tempfile, numpy as np, bptt_fast as bf
    >>> x = np.sin(np.arange(2000) / 5).reshape(100, 20, 1)
    >>> net = bf.Network(1, 8, 1, seed=0)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for i in range(4):
    ...         part = x[25 * i : 25 * (i + 1)]
    ...         np.savez(os.path.join(folder, f"{i}.npz"), x=part[:, :-1], y=part[:, -1])
    ...     history = net.fit(bf.Files(folder), epochs=3, verbose=0)
    >>> history["loss"][-1] < history["loss"][0]
    True
    """

    batched = False

    def __init__(
        self,
        x: Any,
        y: Any = None,
        sample_weight: Any = None,
        *,
        inputs: Sequence[str] | None = None,
        targets: Sequence[str] | None = None,
        weight: str | None = None,
        sequence: str | None = None,
        part_bytes: int = 2**24,
    ) -> None:
        paths = {"x": _listed(x, "x")}
        suffix = _suffix(paths["x"][0])
        files = {"y": y, "sample_weight": sample_weight}
        columns = {"inputs": inputs, "targets": targets, "weight": weight, "sequence": sequence}
        for given, wanted in ((files, ".npy"), (columns, ".parquet")):
            for name, value in given.items():
                if value is not None and suffix != wanted:
                    raise ConfigError(
                        f"{name}: expected None, as x is no {wanted} file but {suffix}, got {value!r}."
                    )
        most = integer(part_bytes, "part_bytes", 1, None)
        self.files: list[_File]
        if suffix == ".npy":
            if y is None:
                raise ConfigError("y: expected the .npy files with the targets, got None.")
            paths |= {name: _listed(value, name) for name, value in files.items() if value is not None}
            for name, those in paths.items():
                if len(those) != len(paths["x"]):
                    raise ConfigError(
                        f"{name}: expected {len(paths['x'])} files, as x has, got {len(those)}."
                    )
            names = list(paths)
            self.files = [
                _Arrays(dict(zip(names, those, strict=True)), most)
                for those in zip(*paths.values(), strict=True)
            ]
        elif suffix == ".npz":
            self.files = [_Archive(path) for path in paths["x"]]
        else:
            _check_columns(columns)
            self.files = [_Table(path, columns) for path in paths["x"]]
        for file in self.files[1:]:
            file.check_like(self.files[0])
        self.pieces = [(file, begin) for file in self.files for begin in file.begins]
        self.count = len(self.pieces)
        before = np.cumsum([0, *(len(file.lengths) for file in self.files)]).tolist()
        self.starts = [
            start + begin
            for file, start in zip(self.files, before[:-1], strict=True)
            for begin in file.begins
        ]
        self.lengths = np.concatenate([file.lengths for file in self.files])
        self._settings = repr((columns, most))

    def __repr__(self) -> str:
        return f"<Files: {len(self.files)} files, {len(self)} sequences>"

    def __len__(self) -> int:
        """The number of sequences."""
        return sum(len(file.lengths) for file in self.files)

    def _first(self, every: bool) -> Part:
        file, begin = self.pieces[0]
        return file.first(begin, every)

    def _parts(
        self, every: bool, columns: Columns, order: Iterable[int] | None, memory: Sequence[Memory]
    ) -> Iterator[Part]:
        order = range(len(self.pieces)) if order is None else order
        for number, place in zip(order, itertools.cycle(memory), strict=False):
            file, begin = self.pieces[number]
            file.check_same()
            yield file.read(begin, every, columns, place)._replace(begin=self.starts[number])

    def _fingerprint(self) -> str:
        from hashlib import sha256

        known = [
            (os.path.basename(path), *status) for file in self.files for path, status in file.known.items()
        ]
        checksum = sha256((self._settings + repr(known)).encode()).hexdigest()[:16]
        return f"{len(known)} files whose names, sizes and times of change have the checksum {checksum}"


class Parts:
    """A source in a fit, its parts checked, converted and scaled.

    Parameters
    ----------
    source : Source
    every : bool
        Whether there is a target for every step.
    convert : callable
        Makes sequences from a part and columns.
    columns : Columns

    Attributes
    ----------
    head : Sequences
        Some sequences.
    columns : Columns
        Those of all parts.
    """

    def __init__(
        self, source: Source, every: bool, convert: Callable[[Part, Columns], Sequences], columns: Columns
    ) -> None:
        self.source, self.every, self.convert = source, every, convert
        # one is in use, the next is ready, and the one after may be begun before the first is let go
        self.memory: list[Memory] = [{}, {}, {}]
        self.head = convert(source._first(every), columns)
        self.columns = self.head.columns

    def fingerprint(self) -> str:
        """What the content depends on, as text; raises a ConfigError if that is not known."""
        return self.source._fingerprint()

    def read(self, order: Iterable[int] | None = None) -> Generator[Sequences, None, None]:
        """The sequences of each part in this order of the parts, each read while the last one is used."""
        return prefetched(self._converted(order))

    def _converted(self, order: Iterable[int] | None) -> Iterator[Sequences]:
        end = 0
        for part in self.source._parts(self.every, self.columns, order, self.memory):
            sequences = self.convert(part, self.columns)
            begin = end if part.begin is None else part.begin
            end = begin + len(sequences)
            sequences.number = np.arange(begin, end, dtype=np.int64)
            yield sequences


def picked(some: Sequence[tuple[Sequences, Array]], every: bool) -> Sequences:
    """A copy of the sequences with these indices in each of some sets."""
    values, lengths, states = [], [], []
    targets: list[Array] = []
    classes: list[Array] = []
    weights: list[Array] = []
    numbers: list[Array] = []
    weighted = any(sequences.weight is not None for sequences, _ in some)
    for s, order in some:
        length = s.length[order]
        lengths.append(length)
        values.append(s.values[data.spans(s.offset[order], length)])
        rows = data.spans(s.target_offset[order], length if every else np.ones_like(length))
        for to, a in ((targets, s.targets), (classes, s.classes), (weights, s.weight)):
            if a is not None:
                to.append(a[rows])
        if s.number is not None:
            numbers.append(s.number[order])
        if weighted and s.weight is None:
            weights.append(np.ones(len(rows), s.values.dtype))
        if s.state is not None:
            states.append(s.state[order])
    length = np.concatenate(lengths)
    offset = np.cumsum(length) - length
    found = Sequences(np.concatenate(values), offset, length, "list", int(length.max()))
    found.target_offset = offset if every else data.counting(len(length))
    for name, parts in (
        ("targets", targets),
        ("classes", classes),
        ("weight", weights),
        ("state", states),
        ("number", numbers),
    ):
        if parts:
            setattr(found, name, np.concatenate(parts))
    return found


def in_batches(
    parts: Iterable[tuple[Sequences, Array]], batch: int, every: bool
) -> Iterator[tuple[Sequences, Array]]:
    """The same sequences in the same order, where only the last number of them is no multiple of `batch`.

    Parameters
    ----------
    parts : iterable of (Sequences, ndarray of int64)
        Sets of sequences, and the order of each.
    """
    rest: list[tuple[Sequences, Array]] = []
    for sequences, order in parts:
        if rest:
            missing = batch - len(rest[0][1])
            joined = picked([*rest, (sequences, order[:missing])], every)
            rest, order = [(joined, data.counting(len(joined)))], order[missing:]
            if len(joined) == batch:
                yield rest.pop()
        whole = len(order) - len(order) % batch
        if whole:
            yield sequences, order[:whole]
        if whole < len(order):
            left = picked([(sequences, order[whole:])], every)
            rest = [(left, data.counting(len(left)))]
    yield from rest


# ---- files


class Shape(NamedTuple):
    """What the header of an array says, and where the numbers begin."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    fortran: bool
    offset: int


class _File:
    """A file of sequences, or files of inputs, targets and weights of the same ones.

    Parameters
    ----------
    paths : list of str

    Attributes
    ----------
    lengths : ndarray of int64 (n,)
        The steps of each sequence.
    begins : sequence of int
        The first sequence of each part.
    kinds : dict
        For each array or column the dtype and the axes that all files must have in common.
    """

    lengths: Array
    begins: Sequence[int] = (0,)

    def __init__(self, paths: Iterable[str]) -> None:
        self.kinds: dict[str, tuple[str, str]] = {}
        self.known = {path: _status(path) for path in paths}
        self.path = next(iter(self.known))

    def check_same(self) -> None:
        """Raise if a file has changed since its header was read."""
        for path, status in self.known.items():
            if _status(path) != status:
                raise ConfigError(
                    f"{path}: expected the file that Files(...) was made for, got one that has changed since."
                )

    def check_like(self, other: _File) -> None:
        """Raise unless the file has the arrays or columns of another one."""
        if self.kinds.keys() != other.kinds.keys():
            raise ConfigError(
                f"{self.path}: expected {', '.join(other.kinds)} as in {other.path}, got "
                f"{', '.join(self.kinds)}."
            )
        for name, (dtype, axes) in self.kinds.items():
            if axes != other.kinds[name][1]:
                raise ShapeError(
                    f"{self.path}: {name}: expected {other.kinds[name][1]} as in {other.path}, got {axes}."
                )
            if dtype != other.kinds[name][0]:
                raise ConfigError(
                    f"{self.path}: {name}: expected {other.kinds[name][0]} as in {other.path}, got {dtype}."
                )

    def first(self, begin: int, every: bool) -> Part:
        """A part that shows names and sizes of columns."""
        return self.read(begin, every, Columns(), {})

    def read(self, begin: int, every: bool, columns: Columns, memory: Memory) -> Part:
        """The part that begins with sequence `begin`."""
        raise NotImplementedError

    def _take_shapes(self, shapes: Mapping[str, Shape], where: Mapping[str, str]) -> None:
        """Set `lengths` and `kinds` from the headers of arrays in the files `where`."""
        x = shapes["x"].shape
        if len(x) not in (2, 3) or 0 in x:
            raise ShapeError(f"{where['x']}: x: expected (n, T, I) or (T, I), without zeros, got {x}.")
        for name, array in shapes.items():
            if len(x) == 3 and array.shape[:1] != x[:1]:
                raise ShapeError(
                    f"{where[name]}: {name}: expected an entry for each of the {x[0]} sequences of x, got "
                    f"{array.shape}."
                )
            wide = len(array.shape) == len(x)
            axes = f"{len(array.shape)} axes" + f", the last of {array.shape[-1]}" * wide
            self.kinds[name] = str(array.dtype), axes
        self.lengths = np.full(*x[:2], dtype=np.int64) if len(x) == 3 else np.array(x[:1], dtype=np.int64)


class _Arrays(_File):
    """The .npy files of inputs, targets and perhaps weights, by name.

    Parameters
    ----------
    paths : dict of str
    part_bytes : int
        The size of a part of inputs.
    """

    def __init__(self, paths: dict[str, str], part_bytes: int) -> None:
        super().__init__(paths.values())
        self.paths, self.shapes = paths, {}
        for name, path in paths.items():
            with _reading(path), open(path, "rb") as file:
                self.shapes[name] = shape = _header(file)
                size = shape.offset + int(np.prod(shape.shape)) * shape.dtype.itemsize
                if self.known[path][0] < size:
                    raise CorruptFileError(
                        f"{path}: expected {size} bytes for {shape.dtype} {shape.shape}, got "
                        f"{self.known[path][0]}."
                    )
        self._take_shapes(self.shapes, paths)
        x = self.shapes["x"]
        n = len(self.lengths)
        in_order = not any(shape.fortran for shape in self.shapes.values())
        self.step = n
        if len(x.shape) == 3 and in_order:
            most = max(1, part_bytes // (x.shape[1] * x.shape[2] * x.dtype.itemsize))
            self.step = min(n, 1 << most.bit_length() - 1)  # a multiple of most batch sizes
        self.begins = range(0, n, self.step)

    def read(self, begin: int, every: bool, columns: Columns, memory: Memory) -> Part:
        found = {name: self._array(name, begin, memory) for name in self.paths}
        names = [f"{path}: {name}" for name, path in self.paths.items()]
        return Part(found["x"], found["y"], found.get("sample_weight"), None, (*names, "")[:3])  # type: ignore[arg-type]

    def _array(self, name: str, begin: int, memory: Memory) -> Array:
        path, (shape, dtype, fortran, offset) = self.paths[name], self.shapes[name]
        if len(self.shapes["x"].shape) == 3:  # several sequences
            rest, shape = shape[1:], (min(self.step, shape[0] - begin), *shape[1:])
            offset += begin * int(np.prod(rest)) * dtype.itemsize
        with _reading(path), open(path, "rb") as file:
            file.seek(offset)
            nbytes = int(np.prod(shape)) * dtype.itemsize
            if name not in memory or len(memory[name]) < nbytes:
                memory[name] = np.empty(nbytes, np.uint8)
            read = file.readinto(memory[name][:nbytes].data)
            if read < nbytes:
                raise ValueError(f"{read} bytes where {nbytes} were")
        return memory[name][:nbytes].view(dtype).reshape(shape, order="F" if fortran else "C")


class _Archive(_File):
    """A .npz file with the arrays of `fit` by the names of its arguments."""

    def __init__(self, path: str) -> None:
        from zipfile import ZipFile

        super().__init__([path])
        shapes, lengths = {}, None
        with _reading(path), ZipFile(path) as archive:
            for member in archive.namelist():
                with archive.open(member) as file:
                    shapes[member.removesuffix(".npy")] = _header(file)
        if not {"x", "y"} <= shapes.keys() <= {*ARRAYS}:
            raise ConfigError(
                f"{path}: expected the arrays x and y, and optionally sample_weight and lengths, got "
                f"{', '.join(shapes) or 'none'}."
            )
        self._take_shapes(shapes, dict.fromkeys(shapes, path))
        if "lengths" in shapes:
            with _reading(path), np.load(path) as arrays:
                lengths = arrays["lengths"]
            x = shapes["x"].shape
            if len(x) != 3:
                raise ShapeError(f"{path}: lengths: expected x (n, T, I) with lengths, got {x}.")
            self.lengths = data.checked_lengths(lengths, x[0], x[1], f"{path}: x", f"{path}: lengths")

    def read(self, begin: int, every: bool, columns: Columns, memory: Memory) -> Part:
        names = f"{self.path}: x", f"{self.path}: y", f"{self.path}: sample_weight"
        with _reading(self.path), np.load(self.path) as arrays:
            x, y, weight, lengths = (arrays.get(name) for name in ARRAYS)
        return Part(x, y, weight, lengths, names)


class _Table(_File):
    """A .parquet file with the columns of `Files`."""

    def __init__(self, path: str, columns: Mapping[str, Any]) -> None:
        super().__init__([path])
        self.inputs, self.targets = tuple(columns["inputs"]), tuple(columns["targets"])
        self.weight = columns["weight"]
        key = columns["sequence"]
        single = [name for name in (self.weight, key) if name is not None]
        with self._open() as file:
            types = dict(zip(file.schema_arrow.names, map(str, file.schema_arrow.types), strict=True))
            for name in (*self.inputs, *self.targets, *single):
                if name not in types:
                    raise ConfigError(
                        f"{path}: column {name!r}: expected one of {', '.join(types)}, got no such column."
                    )
                self.kinds[f"column {name!r}"] = types[name], ""
            rows = file.metadata.num_rows
            if not rows:
                raise ShapeError(f"{path}: expected at least one row, got none.")
            self.lengths = np.array([rows], dtype=np.int64)
            if key is not None:
                self.lengths = _runs(file.read(columns=[key]).column(0), f"{path}: column {key!r}")

    @contextmanager
    def _open(self) -> Iterator[Any]:
        try:
            from pyarrow.parquet import ParquetFile
        except ImportError:
            raise ConfigError(
                f'{self.path}: Parquet files need pyarrow: pip install "bptt-fast[arrow]".'
            ) from None
        with _reading(self.path), open(self.path, "rb") as file:
            yield ParquetFile(file)

    def first(self, begin: int, every: bool) -> Part:
        """The first sequence, as tables, from which the network learns the names of columns."""
        with self._open() as file:
            rows = file.read(columns=[*{*self.inputs, *self.targets}])
        rows = rows.slice(0, int(self.lengths[0]))
        x, y = rows.select(list(self.inputs)), rows.select(list(self.targets))
        names = f"{self.path}: inputs", f"{self.path}: targets", ""
        return Part([x], [y] if every else y.slice(len(y) - 1), None, None, names)

    def read(self, begin: int, every: bool, columns: Columns, memory: Memory) -> Part:
        inputs = columns.inputs or self.inputs
        targets = columns.outputs if {*(columns.outputs or ())} == {*self.targets} else self.targets
        weight = () if self.weight is None else (self.weight,)
        with self._open() as file:
            rows = file.read(columns=[*{*inputs, *targets, *weight}])
        ends = np.cumsum(self.lengths)
        names = f"{self.path}: inputs", f"{self.path}: targets", f"{self.path}: weight"

        def of(which: Sequence[str], name: str, every: bool) -> Any:
            """The columns in each row of each sequence, or in the last one."""
            a = data.numbers(rows.select(list(which)), name)
            return np.split(a, ends[:-1]) if every else a[ends - 1]

        w = of(weight, names[2], every) if weight else None
        w = w if w is None or every else w[:, 0]
        return Part(of(inputs, names[0], True), of(targets, names[1], every), w, None, names)


def _runs(column: Any, name: str) -> Array:
    """The lengths of the runs of equal values, each of which may occur once."""
    if column.null_count:
        raise ConfigError(f"{name}: expected a value in each row, got {column.null_count} rows without one.")
    values = column.to_numpy()
    begins = np.flatnonzero(np.concatenate([[True], values[1:] != values[:-1]]))
    if len(set(values[begins].tolist())) < len(begins):
        raise ConfigError(
            f"{name}: expected the rows of a sequence one after the other, got a value that comes back after "
            f"another one.  Sort the rows first."
        )
    return np.diff(begins, append=len(values)).astype(np.int64)


def _header(file: Any) -> Shape:
    """The header of an array in the .npy format."""
    version = np.lib.format.read_magic(file)
    read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    if version not in read:
        raise ValueError(f"version {version} of the .npy format")
    shape, fortran, dtype = read[version](file)
    if dtype.hasobject:
        raise ValueError("an array of Python objects")
    return Shape(shape, dtype, fortran, file.tell())


def _status(path: str) -> tuple[int, int]:
    """Size and time of change of a file."""
    with _reading(path):
        status = os.stat(path)
    return status.st_size, status.st_mtime_ns


@contextmanager
def _reading(path: str) -> Iterator[None]:
    """Name the file in errors about its content, and about the system."""
    from zipfile import BadZipFile

    try:
        yield
    except (ConfigError, CorruptFileError, ShapeError):
        raise
    except (*MALFORMED, OSError, EOFError, BadZipFile, zlib.error) as error:
        if isinstance(error, OSError) and error.errno:
            raise ConfigError(f"{path}: expected a file that can be read, got: {error.strerror}.") from None
        raise CorruptFileError(
            f"{path}: expected a {_suffix(path)} file of numbers, got a damaged or another one ({error})."
        ) from None


def _suffix(path: str) -> str:
    return os.path.splitext(path)[1].lower()


def _listed(paths: Any, name: str) -> list[str]:
    """The files of a folder in the order of their names, or those of a list: of one format."""
    if is_path(paths):
        folder = named(paths, name)
        found = [folder]
        if os.path.isdir(folder):
            with _reading(folder):
                entries = sorted(os.listdir(folder))
            found = [os.path.join(folder, entry) for entry in entries if _suffix(entry) in SUFFIXES]
    elif isinstance(paths, (list, tuple)):
        found = [named(path, f"{name}[{i}]") for i, path in enumerate(paths)]
    else:
        raise ConfigError(f"{name}: expected a path or a list of paths, got {type(paths).__name__}.")
    suffixes = list(dict.fromkeys(map(_suffix, found)))
    if len(suffixes) != 1 or suffixes[0] not in SUFFIXES:
        got = ", ".join(suffix or "a file without" for suffix in suffixes) or "none"
        raise ConfigError(
            f"{name}: expected files of one format, {', '.join(SUFFIXES)}"
            f"{f' in {paths}' if is_path(paths) else ''}, got {got}."
        )
    if name != "x" and suffixes != [".npy"]:
        raise ConfigError(f"{name}: expected .npy files, as x has, got {suffixes[0]}.")
    return found


def _check_columns(columns: Mapping[str, Any]) -> None:
    for name in ("inputs", "targets"):
        value = columns[name]
        entries = value if isinstance(value, (list, tuple)) else ()
        if (
            not entries
            or not all(isinstance(entry, str) for entry in entries)
            or len({*entries}) < len(entries)
        ):
            raise ConfigError(f"{name}: expected a list of names of columns, got {value!r}.")
    for name in ("weight", "sequence"):
        if not isinstance(columns[name], str | None):
            raise ConfigError(f"{name}: expected the name of a column, got {columns[name]!r}.")


# ---- what the argument x of fit is


def is_path(x: Any) -> bool:
    """Whether `x` is a path."""
    return isinstance(x, (str, bytes, os.PathLike))


def are_paths(x: Any) -> bool:
    """Whether `x` is a path or a list of paths."""
    return is_path(x) or (isinstance(x, (list, tuple)) and len(x) > 0 and all(map(is_path, x)))


def get(x: Any, y: Any, sample_weight: Any, name: str = "x") -> Source | None:
    """The source of the data `x` of `fit`; None: they are in memory."""
    shared = isinstance(x, data.Shared)
    x = x.x if shared else x
    paths = are_paths(x)
    if not paths and not isinstance(x, Files) and (y is not None or not _is_iterable_of_batches(x)):
        return None
    if shared:
        raise ConfigError(
            f"{name}: expected arrays, as several networks are trained on the same data at once, got "
            f"{type(x).__name__}.  Call fit for each network."
        )
    if paths:
        return Files(x, y, sample_weight)
    for what, value in (("y", y), ("sample_weight", sample_weight)):
        if value is not None:
            raise ConfigError(
                f"{what}: expected None, as {name} has the targets and weights, got {type(value).__name__}."
            )
    return x if isinstance(x, Files) else Batches(x, name)


def _is_iterable_of_batches(x: Any) -> bool:
    if isinstance(x, (list, tuple)):
        return len(x) > 0 and all(isinstance(item, tuple) for item in x)
    array = isinstance(x, (np.ndarray, Sequences, Mapping)) or is_table(x) or hasattr(x, "__array__")
    return not array and hasattr(x, "__iter__")
