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
from typing import Any

import numpy as np

from .errors import MALFORMED
from .writing import csv_text, named, replace

Array = np.ndarray[Any, Any]

PART = 4096  # rows
CHARACTERS = frozenset("0123456789+-.eE \t")  # the characters of numbers


class InputError(Exception):
    """A file given on the command line cannot be used."""


def read_table(path: str, columns: Sequence[str]) -> Array:
    """Read the named columns of a Parquet file (*.parquet) or of a CSV file with a header.

    Parameters
    ----------
    path : str
        The file.  A CSV is UTF-8, comma-separated, with as many cells in each row as in the header; cells in
        double quotes may contain commas and line ends.  Empty lines, rows of empty cells at the end, and #
        lines before the header are skipped; the last # line is the header if only it has the names.
    columns : sequence of str
        Names from the header, without surrounding spaces; duplicates are allowed.

    Returns
    -------
    table : ndarray (rows, len(columns)) of float64

    Raises
    ------
    InputError
        If the file is empty or of another format, a column is missing, the number of cells in a row differs
        from the header, or a cell is no finite number; the message names the file, the line (for Parquet the
        row, from 1) and the column.  Also if pyarrow is missing.
    OSError
        If the file cannot be read.

    Examples
    --------
    >>> from bptt_fast.files import read_table
    >>> read_table("measured.csv", ["a", "b"])  # doctest: +SKIP
    """
    path = named(path)
    return (_read_parquet if _is_parquet(path) else _read_csv)(path, columns)


def write_table(path: str | None, names: list[str], columns: list[list[Any]]) -> None:
    """Write columns of equal length to a Parquet (*.parquet) or CSV file; None: CSV to standard output.

    CSV is always in UTF-8, regardless of the encoding of the terminal.
    """
    path = None if path is None else named(path)
    if path is not None and _is_parquet(path):
        pyarrow, content = _pyarrow(path), io.BytesIO()
        pyarrow.parquet.write_table(pyarrow.table(columns, names=names), content)
        replace(path, content.getvalue())
        return
    text = csv_text(names, columns, "\n")
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
    if _is_parquet(path):
        _pyarrow(path)


def _is_parquet(path: str) -> bool:
    return path.lower().endswith(".parquet")


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


def _read_csv(path: str, columns: Sequence[str]) -> Array:
    with open(path, newline="", encoding="utf-8-sig", errors="surrogateescape") as file:
        lines = _Lines(file, path)
        try:
            parts = list(_parts(lines, columns))
        except csv.Error as error:
            number = lines.number - len(lines.row) + 1
            raise InputError(
                f"{path}, line {number}: expected comma-separated cells, each quote closed, got something "
                f"else ({error})."
            ) from None
    return np.concatenate(parts).reshape(-1, len(columns))


def _parts(lines: _Lines, columns: Sequence[str]) -> Iterator[Array]:
    """The columns, in blocks of PART rows."""
    reader = csv.reader(lines, strict=True, skipinitialspace=True)
    header, rows = _header(lines, reader, columns)
    places = [_place(header, name, lines.path) for name in columns]
    width, gap = len(header), 0
    rows_read: list[tuple[int, list[str]]] = []
    for number, cells in rows:
        if not any(cells) or (len(cells) != width and not any(map(str.strip, cells))):
            if len(cells) > 1 or width == 1:  # else an empty line
                gap = gap or number
            continue
        if gap:
            raise InputError(f"{lines.path}, line {gap}: expected numbers, got empty cells.")
        if len(cells) != width:
            raise InputError(
                f"{lines.path}, line {number}: expected {width} cells as in the header, got {len(cells)}.  "
                f"Are there commas within numbers?"
            )
        if number != lines.number and sum(_is_row(line, width, places) for line in lines.row) > 1:
            raise InputError(
                f"{lines.path}, line {number}: expected a quote that is closed before the next row, got a "
                f"cell that extends to line {lines.number}."
            )
        rows_read.append((number, cells))
        if len(rows_read) == PART:
            yield _numbers(rows_read, header, places, lines.path)
            rows_read = []
    yield _numbers(rows_read, header, places, lines.path)


def _header(
    lines: _Lines, reader: Iterator[list[str]], columns: Sequence[str]
) -> tuple[list[str], Iterator[tuple[int, list[str]]]]:
    """The column names, and the rows after them, each with the number of its first line.

    The header is the first line that has text and is no comment, or the comment before it if only that has
    all requested names.
    """
    rows = _numbered(lines, reader)
    first = next(((number, cells) for number, cells in rows if any(map(str.strip, cells))), None)
    wanted = {name.strip() for name in columns}
    names = [] if first is None else _stripped(first[1])
    if not wanted <= set(names) and lines.comment:
        for text in (lines.comment, lines.comment.lstrip("#")):  # a # may belong to the first name
            found = _stripped(next(csv.reader([text], skipinitialspace=True)))
            if wanted <= set(found):
                return found, itertools.chain([first] if first else [], rows)
    if not names:
        raise InputError(f"{lines.path}: expected a header line and rows of numbers, got an empty file.")
    return names, rows


def _numbered(lines: _Lines, reader: Iterator[list[str]]) -> Iterator[tuple[int, list[str]]]:
    for cells in reader:
        yield lines.number - len(lines.row) + 1, cells
        lines.row.clear()


def _stripped(names: Iterable[str]) -> list[str]:
    return [name.strip() for name in names]


def _place(header: Iterable[str], name: str, path: str) -> int:
    names, name = _stripped(header), name.strip()
    if names.count(name) != 1:
        what = "no such column" if name not in names else f"{names.count(name)} columns of that name"
        hint = "  Are the cells separated by commas?" if re.search("[;\t]", names[0]) else ""
        if all(math.isfinite(_number(text)) for text in names):
            hint = "  Is the header line missing?"
        raise InputError(f"{path}: column {name!r}: expected one of {', '.join(names)}, got {what}.{hint}")
    return names.index(name)


def _is_row(line: str, width: int, places: Sequence[int]) -> bool:
    """Whether a single line, without its quotes, is a row of numbers."""
    cells = line.replace('"', "").strip("\r\n").split(",")
    return len(cells) == width and all(math.isfinite(_number(cells[place])) for place in places)


def _number(cell: str) -> float:
    """A number in English notation without thousands separators; nan for other text."""
    try:
        return float(cell) if CHARACTERS.issuperset(cell) else math.nan
    except ValueError:
        return math.nan


def _numbers(rows: list[tuple[int, list[str]]], header: list[str], places: Sequence[int], path: str) -> Array:
    """The cells at the `places` as numbers: a faster version of `_number` for columns."""
    values = np.full((len(rows), len(places)), np.nan)
    for i, place in enumerate(places):
        cells = [row[place] for _, row in rows]
        if CHARACTERS.issuperset("".join(cells)):
            with suppress(ValueError):
                values[:, i] = list(map(float, cells))
        if not np.isfinite(values[:, i]).all():
            number, cell = next((n, row[place]) for n, row in rows if not math.isfinite(_number(row[place])))
            raise InputError(
                f"{path}, line {number}, column {header[place]!r}: expected a finite number, got {cell!r}."
            )
    return values


# ---- Parquet


def _pyarrow(path: str) -> Any:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise InputError(f'{path}: Parquet files need pyarrow: pip install "bptt-fast[arrow]".') from None
    return pyarrow


def _read_parquet(path: str, columns: Sequence[str]) -> Array:
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
    return values
