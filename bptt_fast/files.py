"""Tables of named columns in files, for the command line: CSV, and Parquet by pyarrow (extra "arrow")."""

from __future__ import annotations

import csv
import math
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


class InputError(Exception):
    """A file given on the command line cannot be used."""


def read_table(path: str, columns: Sequence[str]) -> Array:
    """The named columns of a Parquet file, if its name ends with .parquet, else of a CSV file with a header.

    Parameters
    ----------
    path : str
        The file.  A CSV is UTF-8, comma-separated; empty lines, and # lines before the header, are skipped.
    columns : sequence of str
        Names from the header; one may be asked for twice.

    Returns
    -------
    table : ndarray (rows, len(columns)) of float64

    Raises
    ------
    InputError
        If the file is empty or of another kind, or a column is missing, or a cell is no finite number: the
        text names the file, the line (of a Parquet file the row, from 1) and the column.  Also without
        pyarrow.
    OSError
        If the file cannot be read.

    Examples
    --------
    >>> from bptt_fast.files import read_table
    >>> read_table("measured.csv", ["a", "b"])  # doctest: +SKIP
    """
    return (_read_parquet if _is_parquet(path) else _read_csv)(path, columns)


def write_table(path: str | None, names: list[str], columns: list[list[Any]]) -> None:
    """Write columns of equal length to a file of the kind its name says; None: CSV to standard output."""
    if path is None:
        _write_csv(sys.stdout, names, columns)
    elif _is_parquet(path):
        pyarrow = _pyarrow(path)
        pyarrow.parquet.write_table(pyarrow.table(columns, names=names), path)
    else:
        with open(path, "w", newline="", encoding="utf-8") as file:
            _write_csv(file, names, columns)


def check_kind(path: str) -> None:
    """Raise an InputError if this kind of file needs a library that is not here."""
    if _is_parquet(path):
        _pyarrow(path)


def _is_parquet(path: str) -> bool:
    return path.lower().endswith(".parquet")


# ---- CSV


def _write_csv(file: Any, names: list[str], columns: list[list[Any]]) -> None:
    table = csv.writer(file, lineterminator="\n")
    table.writerow(names)
    table.writerows(zip(*columns, strict=True))


def _read_csv(path: str, columns: Sequence[str]) -> Array:
    table: list[list[float]] = []
    places: list[int] = []
    header: list[str] | None = None
    with open(path, newline="", encoding="utf-8-sig") as file:
        reader = csv.reader(file)
        try:
            for cells in reader:
                if not any(cell.strip() for cell in cells) or (header is None and cells[0].startswith("#")):
                    continue
                if header is None:
                    header = [cell.strip() for cell in cells]
                    places = [_place(header, name, path) for name in columns]
                else:
                    table.append(
                        [
                            _number(cells, place, header[place], f"{path}, line {reader.line_num}")
                            for place in places
                        ]
                    )
        except (csv.Error, UnicodeDecodeError) as error:
            raise InputError(
                f"{path}, line {reader.line_num + 1}: expected comma-separated text in UTF-8, got something "
                f"else ({error})."
            ) from None
    if header is None:
        raise InputError(f"{path}: expected a header line and rows of numbers, got an empty file.")
    return np.array(table, dtype=np.float64).reshape(-1, len(columns))


def _place(header: Sequence[str], name: str, path: str) -> int:
    if header.count(name) != 1:
        what = "no such column" if name not in header else f"{header.count(name)} columns of that name"
        raise InputError(f"{path}: column {name!r}: expected one of {', '.join(header)}, got {what}.")
    return header.index(name)


def _number(cells: list[str], place: int, name: str, where: str) -> float:
    if place >= len(cells):
        raise InputError(
            f"{where}, column {name!r}: expected a number, got a line of only {len(cells)} cells."
        )
    try:
        value = float(cells[place])
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise InputError(f"{where}, column {name!r}: expected a finite number, got {cells[place]!r}.")
    return value


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
        except pyarrow.ArrowException as error:
            raise InputError(f"{path}: expected a Parquet file, got something else ({error}).") from None
    found = np.empty((table.num_rows, len(columns)))
    for i, name in enumerate(columns):
        column = table.column(_place(table.column_names, name, path))
        if not (pyarrow.types.is_integer(column.type) or pyarrow.types.is_floating(column.type)):
            raise InputError(f"{path}, column {name!r}: expected numbers, got {column.type}.")
        found[:, i] = column.to_numpy()
        wrong = np.flatnonzero(~np.isfinite(found[:, i]))
        if len(wrong):
            raise InputError(
                f"{path}, row {wrong[0] + 1}, column {name!r}: expected a finite number, got "
                f"{column[int(wrong[0])]}."
            )
    return found
