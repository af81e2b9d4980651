"""Tables of named columns in files, for the command line: CSV, and Parquet by pyarrow (extra "arrow")."""

from __future__ import annotations

import csv
import io
import itertools
import math
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np

from .errors import MALFORMED, ConfigError
from .times import Times, is_date
from .writing import csv_text, named, replace

Array = np.ndarray[Any, Any]

PART = 4096  # rows
CHARACTERS = frozenset("0123456789+-.eE \t")  # the characters of numbers
SIMPLE = re.compile(r"\s*[+-]?[\d.,]+([eE][+-]?\d+)?\s*")  # numbers with marks of any kind
THOUSANDS = re.compile(r"\s*[+-]?[1-9]\d{0,2}([.,]\d{3})+\s*")  # numbers whose marks may separate thousands
COMMA_TO_POINT = str.maketrans({",": ".", ".": ","})
SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs"}  # those that are detected
MARKS = ".,"  # between the units and the tenths of a number


class InputError(Exception):
    """A file given on the command line cannot be used."""


@dataclass(frozen=True)
class Dialect:
    """How a CSV file separates cells and writes numbers; None: to be detected.

    Parameters
    ----------
    sep : str, optional
        The separator of cells.
    decimal : {".", ","}, optional
        The decimal mark of numbers.
    """

    sep: str | None = None
    decimal: str | None = None


ENGLISH = Dialect(",", ".")


@dataclass(frozen=True)
class Table:
    """Columns of a file.

    Parameters
    ----------
    values : ndarray (rows, columns) of float64
        The numbers.
    times : Times or None
        The times of the rows, if a column of times was wanted and the file has rows.
    dialect : Dialect
        The dialect of the file.
    """

    values: Array
    times: Times | None
    dialect: Dialect

    def __len__(self) -> int:
        return len(self.values)


def read_table(
    path: str,
    columns: Sequence[str],
    time: str | None = None,
    dialect: Dialect | None = None,
    before: Times | None = None,
) -> Table:
    """Read the named columns of a Parquet file (*.parquet) or of a CSV file with a header.

    Parameters
    ----------
    path : str
        The file.  A CSV is UTF-8, with as many cells in each row as in the header; cells in double quotes may
        contain separators and line ends.  Empty lines, rows of empty cells at the end, and # lines before the
        header are skipped; the last # line is the header if only it has the names.
    columns : sequence of str
        Names from the header, without surrounding spaces; duplicates are allowed.
    time : str, optional
        The column of times, dates or numbers that increase.
    dialect : Dialect, optional
        That of the CSV.  What it leaves open is detected: the separator (comma, semicolon, tab) from the
        header, and the decimal comma, unless cells are separated by commas, from the numbers.
    before : Times, optional
        Times of other rows, whose format is preferred where several fit.

    Returns
    -------
    table : Table

    Raises
    ------
    InputError
        If the file is empty or of another format, a column is missing, the number of cells in a row differs
        from the header, a cell is no finite number, times do not increase, or more than one dialect fits; the
        message names the file, the line (for Parquet the row, from 1) and the column.  Also if pyarrow is
        missing.
    OSError
        If the file cannot be read.

    Examples
    --------
    >>> from bptt_fast.files import read_table
    >>> read_table("measured.csv", ["a", "b"]).values  # doctest: +SKIP
    """
    path = named(path)
    if is_parquet(path):
        return _read_parquet(path, columns, time, before)
    return _read_csv(path, columns, time, dialect or Dialect(), before)


def write_table(
    path: str | None, names: list[str], columns: list[list[Any]], dialect: Dialect = ENGLISH
) -> None:
    """Write columns of equal length to a Parquet (*.parquet) or CSV file; None: CSV to standard output.

    CSV is always in UTF-8, regardless of the encoding of the terminal.
    """
    path = None if path is None else named(path)
    if path is not None and is_parquet(path):
        pyarrow, content = _pyarrow(path), io.BytesIO()
        pyarrow.parquet.write_table(pyarrow.table(columns, names=names), content)
        replace(path, content.getvalue())
        return
    if dialect.decimal == ",":
        columns = [[_with_comma(value) for value in column] for column in columns]
    text = csv_text(names, columns, "\n", dialect.sep or ",")
    if path is not None:
        replace(path, text.encode(errors="backslashreplace"))
    elif hasattr(sys.stdout, "buffer"):
        sys.stdout.flush()
        sys.stdout.buffer.write(text.encode(errors="backslashreplace"))
        sys.stdout.buffer.flush()
    else:
        sys.stdout.write(text)


def check_kind(path: str) -> None:
    """Raise an InputError if this file format needs a library that is not installed."""
    if is_parquet(path):
        _pyarrow(path)


def is_parquet(path: str) -> bool:
    return path.lower().endswith(".parquet")


def _with_comma(value: Any) -> Any:
    return str(value).replace(".", ",") if isinstance(value, float) else value


def _times(
    path: str, name: str, cells: Sequence[str], places: Sequence[str], before: Times | None
) -> Times | None:
    """The times in a column, whose cells are at the `places`, such as "line 3"."""
    if not cells:
        return None
    try:
        return Times(cells, before)
    except ConfigError as error:
        raise InputError(f"{path}, {places[error.row]}, column {name!r}: {error}") from None  # type: ignore[attr-defined]


# ---- CSV


class _Lines:
    """The lines of a CSV file from its header on, checked to be UTF-8, and the position of the reader."""

    def __init__(self, file: Iterable[str], path: str) -> None:
        self.file, self.path = file, path
        self.number = 0  # of the line yielded last
        self.row: list[str] = []  # the lines of the current row
        self.comment = ""  # the # line before the first line yielded

    def __iter__(self) -> Iterator[str]:
        begun = False
        for line in self.file:
            self.number += 1
            if not line.isascii() or "\0" in line:
                self._check(line)
            if not begun and line.startswith("#"):
                self.comment = line
                continue
            begun = begun or not line.isspace()
            self.row.append(line)
            yield line

    def _check(self, line: str) -> None:
        wrong = re.search("[\0\udc80-\udcff]", line)
        if wrong:
            raise InputError(
                f"{self.path}, line {self.number}: expected text in UTF-8, got the byte "
                f"{ord(wrong[0]) & 0xFF:#04x}.  Save the file in UTF-8."
            )


class _Csv:
    """The reader of one CSV file, which detects what its dialect leaves open."""

    def __init__(
        self, path: str, columns: Sequence[str], time: str | None, dialect: Dialect, before: Times | None
    ) -> None:
        self.path, self.columns, self.time, self.before = path, columns, time, before
        self.sep, self.decimal = dialect.sep, dialect.decimal
        self.wanted = {name.strip() for name in [*columns, *([] if time is None else [time])]}
        self.numbers: list[int] = []  # of the first lines of the rows
        self.times: list[str] = []

    def read(self, file: Iterator[str]) -> Table:
        begin = _begin(file)
        if self.sep is None:
            self.sep = self._separator(begin)
        if self.sep == "," and self.decimal is None:
            self.decimal = "."
        lines = _Lines(itertools.chain(begin, file), self.path)
        try:
            parts = list(self._parts(lines))
        except csv.Error as error:
            number = lines.number - len(lines.row) + 1
            raise InputError(
                f"{self.path}, line {number}: expected cells separated by {self._separators()}, each quote "
                f"closed, got something else ({error})."
            ) from None
        values = np.concatenate(parts)
        places = [f"line {number}" for number in self.numbers]
        if self.decimal == ",":  # dates have points or none
            self.times = [cell if "." in cell else cell.replace(",", ".") for cell in self.times]
        times = None
        if self.time is not None:
            times = _times(self.path, self.time, self.times, places, self.before)
        return Table(values, times, Dialect(self.sep, self.decimal or "."))

    def _separators(self) -> str:
        return SEPARATORS.get(self.sep or ",", repr(self.sep))

    def _parts(self, lines: _Lines) -> Iterator[Array]:
        """The columns, in blocks of PART rows."""
        header, rows = self._header(lines, self._cells(lines, strict=True))
        places = [self._place(header, name) for name in self.columns]
        time = None if self.time is None else self._place(header, self.time)
        width, gap = len(header), 0
        rows_read: list[tuple[int, list[str]]] = []
        for number, cells in rows:
            if not any(cells) or (len(cells) != width and not any(map(str.strip, cells))):
                if len(cells) > 1 or width == 1:  # else an empty line
                    gap = gap or number
                continue
            if gap:
                raise InputError(f"{self.path}, line {gap}: expected numbers, got empty cells.")
            if len(cells) != width:
                raise InputError(
                    f"{self.path}, line {number}: expected {width} cells as in the header, got "
                    f"{len(cells)}.  Are there {self._separators()} within numbers?  --sep and --decimal "
                    f"describe the file."
                )
            if number != lines.number and sum(self._is_row(line, width, places) for line in lines.row) > 1:
                raise InputError(
                    f"{self.path}, line {number}: expected a quote that is closed before the next row, got a "
                    f"cell that extends to line {lines.number}."
                )
            rows_read.append((number, cells))
            if time is not None:
                self.numbers.append(number)
                self.times.append(cells[time])
            if len(rows_read) == PART:
                yield self._numbers(rows_read, header, places)
                rows_read = []
        yield self._numbers(rows_read, header, places)

    def _cells(
        self, lines: Iterable[str], sep: str | None = None, strict: bool = False
    ) -> Iterator[list[str]]:
        return csv.reader(lines, delimiter=sep or self.sep or ",", strict=strict, skipinitialspace=True)

    def _names(self, line: str, sep: str | None = None) -> list[str]:
        """The cells of a header line; none if it cannot be one."""
        try:
            return _stripped(next(self._cells([line], sep), []))
        except csv.Error:
            return []

    def _separator(self, begin: Sequence[str]) -> str:
        """The separator with which the header, or the comment before it, has all names that are wanted."""
        comments = [line for line in begin if line.startswith("#")][-1:]
        header = "".join(line for line in begin if not line.startswith("#"))
        texts = [header.strip(), *comments, *(line.lstrip("#") for line in comments)]
        width, fitting = {}, []
        for sep in SEPARATORS:
            names = [self._names(text, sep) for text in texts]
            width[sep] = len(names[0])
            if any(self.wanted <= set(known) and len(known) > 1 for known in names):
                fitting.append(sep)
        if len(fitting) > 1:
            several = " and ".join(SEPARATORS[sep] for sep in fitting)
            raise InputError(
                f"{self.path}: expected one separator of cells, got a header with the columns for "
                f"{several}.  Pass --sep."
            )
        return fitting[0] if fitting else max(width, key=lambda sep: width[sep])

    def _header(
        self, lines: _Lines, reader: Iterator[list[str]]
    ) -> tuple[list[str], Iterator[tuple[int, list[str]]]]:
        """The column names, and the rows after them, each with the number of its first line.

        The header is the first line that has text and is no comment, or the comment before it if only that
        has all requested names.
        """
        rows = _numbered(lines, reader)
        first = next(((number, cells) for number, cells in rows if any(map(str.strip, cells))), None)
        names = [] if first is None else _stripped(first[1])
        if not self.wanted <= set(names) and lines.comment:
            for text in (lines.comment, lines.comment.lstrip("#")):  # a # may belong to the first name
                found = self._names(text)
                if self.wanted <= set(found):
                    return found, itertools.chain([first] if first else [], rows)
        if not names:
            raise InputError(f"{self.path}: expected a header line and rows of numbers, got an empty file.")
        return names, rows

    def _place(self, header: Sequence[str], name: str) -> int:
        hint = ""
        if len(header) == 1:
            hint = "  Which character separates the cells?  Pass it as --sep."
        if all(math.isfinite(self._number(text)) for text in header):
            hint = "  Is the header line missing?"
        return _place(header, name, self.path, hint)

    def _is_row(self, line: str, width: int, places: Sequence[int]) -> bool:
        """Whether a single line, without its quotes, is a row of numbers."""
        cells = line.replace('"', "").strip("\r\n").split(self.sep)
        return len(cells) == width and all(math.isfinite(self._number(cells[place])) for place in places)

    def _number(self, cell: str) -> float:
        """A number without separators of thousands; nan for other text."""
        try:
            cell = self._with_point(cell)
            return float(cell) if CHARACTERS.issuperset(cell) else math.nan
        except ValueError:
            return math.nan

    def _with_point(self, cell: str) -> str:
        """A cell, or joined cells, with decimal points."""
        return cell.translate(COMMA_TO_POINT) if self.decimal == "," else cell

    def _numbers(self, rows: list[tuple[int, list[str]]], header: list[str], places: Sequence[int]) -> Array:
        """The cells at the `places` as numbers: a faster version of `_number` for columns."""
        columns = [[row[place] for _, row in rows] for place in places]
        if self.decimal is None:
            self.decimal = self._decimal(columns)
        values = np.full((len(rows), len(places)), np.nan)
        for i, (place, cells) in enumerate(zip(places, columns, strict=True)):
            text = self._with_point("\n".join(cells))
            if CHARACTERS.issuperset(text.replace("\n", "")) and text.count("\n") == len(cells) - 1:
                with suppress(ValueError):
                    values[:, i] = list(map(float, text.split("\n")))
            if not np.isfinite(values[:, i]).all():
                number, cell = next(
                    (n, row[place]) for n, row in rows if not math.isfinite(self._number(row[place]))
                )
                raise InputError(
                    f"{self.path}, line {number}, column {header[place]!r}: expected a finite number, got "
                    f"{cell!r}.{self._hint(cell, header[place])}"
                )
        return values

    def _hint(self, cell: str, name: str) -> str:
        other = "." if self.decimal == "," else ","
        if SIMPLE.fullmatch(cell) and cell.count(other) == 1:
            return f"  Is this a decimal mark?  Pass --decimal {other!r}."
        return f"  Is it the time?  Pass --time {name!r}." if is_date(cell) else ""

    def _decimal(self, columns: Sequence[Sequence[str]]) -> str | None:
        """The decimal mark of numbers; None if all of them are integers."""
        marked = [cell for cells in columns for cell in cells if SIMPLE.fullmatch(cell)]
        found = {mark: [cell for cell in marked if mark in cell] for mark in MARKS}
        used = [mark for mark, cells in found.items() if cells]
        if len(used) > 1:
            got = " and ".join(repr(cells[0]) for cells in found.values())
            raise InputError(
                f"{self.path}: expected one decimal mark and no separators of thousands, got {got}.  Pass "
                f"--decimal."
            )
        if used and all(map(THOUSANDS.fullmatch, found[used[0]])):
            raise InputError(
                f"{self.path}: expected a decimal mark that is clear, got {found[used[0]][0]!r}, which "
                f"may be thousands.  Pass --decimal {used[0]!r} if it is the decimal mark."
            )
        return used[0] if used else None


def _begin(file: Iterator[str]) -> list[str]:
    """The lines of a file up to the end of its header."""
    lines: list[str] = []
    header = ""
    for line in file:
        lines.append(line)
        if header or not (line.isspace() or line.startswith("#")):
            header += line
            if header.count('"') % 2 == 0 or header.count("\n") > 9:  # of a quote that is not closed
                break
    return lines


def _read_csv(
    path: str, columns: Sequence[str], time: str | None, dialect: Dialect, before: Times | None
) -> Table:
    with open(path, newline="", encoding="utf-8-sig", errors="surrogateescape") as file:
        return _Csv(path, columns, time, dialect, before).read(file)


def _numbered(lines: _Lines, reader: Iterator[list[str]]) -> Iterator[tuple[int, list[str]]]:
    for cells in reader:
        yield lines.number - len(lines.row) + 1, cells
        lines.row.clear()


def _stripped(names: Iterable[str]) -> list[str]:
    return [name.strip() for name in names]


def _place(header: Iterable[str], name: str, path: str, hint: str = "") -> int:
    names, name = _stripped(header), name.strip()
    if names.count(name) != 1:
        what = "no such column" if name not in names else f"{names.count(name)} columns of that name"
        raise InputError(f"{path}: column {name!r}: expected one of {', '.join(names)}, got {what}.{hint}")
    return names.index(name)


# ---- Parquet


def _pyarrow(path: str) -> Any:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise InputError(f'{path}: Parquet files need pyarrow: pip install "bptt-fast[arrow]".') from None
    return pyarrow


def _read_parquet(path: str, columns: Sequence[str], time: str | None, before: Times | None) -> Table:
    pyarrow = _pyarrow(path)
    with open(path, "rb") as file:
        try:
            table = pyarrow.parquet.ParquetFile(file).read()
        except (pyarrow.ArrowException, OSError, *MALFORMED) as error:
            if getattr(error, "errno", None):  # of the system, not of damage that pyarrow found
                raise
            raise InputError(f"{path}: expected a Parquet file, got something else ({error}).") from None
    values = np.empty((table.num_rows, len(columns)))
    for i, name in enumerate(columns):
        column = table.column(_place(table.column_names, name, path))
        if not (pyarrow.types.is_integer(column.type) or pyarrow.types.is_floating(column.type)):
            raise InputError(f"{path}, column {name!r}: expected numbers, got {column.type}.")
        values[:, i] = column.to_numpy()
        wrong = np.flatnonzero(~np.isfinite(values[:, i]))
        if len(wrong):
            raise InputError(
                f"{path}, row {wrong[0] + 1}, column {name!r}: expected a finite number, got "
                f"{column[int(wrong[0])]}."
            )
    times = None
    if time is not None:
        cells = [str(cell) for cell in table.column(_place(table.column_names, time, path)).to_pylist()]
        times = _times(path, time, cells, [f"row {i + 1}" for i in range(len(cells))], before)
    return Table(values, times, ENGLISH)
