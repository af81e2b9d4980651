"""The times of the rows of a table, for the command line: their formats, their order, and what follows."""

from __future__ import annotations

import itertools
from bisect import bisect
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any

import numpy as np

from .errors import ConfigError

Array = np.ndarray[Any, Any]

DAYS = ("%d.%m.%Y", "%d/%m/%Y", "%m/%d/%Y", "%Y/%m/%d", "%d-%m-%Y")
PATTERNS = ("%Y-%m", "%Y%m%d", *(day + clock for day in DAYS for clock in ("", " %H:%M", " %H:%M:%S")))
SECOND = timedelta(seconds=1)


class Times:
    """Increasing times of rows, as dates or as numbers.

    Parameters
    ----------
    cells : sequence of str
        At least one time: dates as in ISO 8601, ``31.12.2024 23:00``, ``12/31/2024`` or ``31/12/2024``, or
        numbers.
    before : Times, optional
        Times of other rows, whose format is preferred where several fit.

    Attributes
    ----------
    values : list of datetime, or of int or float
        The times.
    written : list of str, or of int or float
        The times for a table: dates as their cells, numbers as numbers.
    gaps : int
        The number of differences that are not the usual one.

    Raises
    ------
    ConfigError
        If a cell is no time, or the times do not increase; attribute `row` is the number of the cell, from 0.

    Examples
    --------
    >>> from bptt_fast.times import Times
    >>> Times(["2024-01-31", "2024-02-29", "2024-03-31"]).ahead(2).written
    ['2024-04-30', '2024-05-31']
    """

    _format: str

    def __init__(self, cells: Sequence[str], before: Times | None = None) -> None:
        self.written: list[Any] = list(cells)
        readings = list(_readings(cells))
        if not readings:
            row = bisect(range(len(cells)), False, key=lambda i: not list(_readings(cells[: i + 1])))
            wanted = f" as {cells[row - 1]!r}" if row else ", such as 2024-12-31 23:00 or a number"
            raise _wrong(row, f"expected a time{wanted}, got {cells[row]!r}.")
        if before is not None:
            readings = [reading for reading in readings if reading[2] == before._format] or readings
        faults = [_fault(values) for values, *_ in readings]
        fitting = [reading for reading, fault in zip(readings, faults, strict=True) if fault is None]
        if not fitting:
            row = max(fault for fault in faults if fault is not None)
            raise _wrong(
                row,
                f"expected a later time than in the row before, {cells[row - 1]!r}, got {cells[row]!r}.  "
                f"Sort the rows by time, each once.",
            )
        if len(fitting) > 1 and len(cells) > 1:
            last = len(cells) - 1
            both = " or ".join(str(values[-1].date()) for values, *_ in fitting)
            raise _wrong(
                last, f"expected a date that is clear, got {cells[last]!r}: {both}?  Write it as 2024-12-31."
            )
        self.values, self._write, self._format = fitting[0]
        if not isinstance(self.values[0], datetime):
            self.written = list(self.values)
        self._add, self.gaps = _steps(self.values)

    def ahead(self, n: int) -> Times:
        """The next n times.

        Parameters
        ----------
        n : int
            A number of rows.

        Returns
        -------
        times : Times
        """
        if n and len(self.values) < 2:
            raise ConfigError("expected at least two times to continue them, got one.")
        following = object.__new__(Times)
        try:
            following.values = [self._add(self.values[-1], i + 1) for i in range(n)]
        except (OverflowError, ValueError):
            raise ConfigError(f"expected times before the year 10000, got {n} rows after the last.") from None
        following.written = [self._write(value) for value in following.values]
        if not isinstance(self.values[0], datetime):
            following.values = following.written  # rounded as they are written
        following._write, following._format = self._write, self._format
        following._add, following.gaps = self._add, 0
        return following


def is_date(cell: str) -> bool:
    """Whether a cell is a date, and not a number."""
    return any(isinstance(values[0], datetime) for values, *_ in _readings([cell]))


def _wrong(row: int, message: str) -> ConfigError:
    error = ConfigError(message)
    error.row = row  # type: ignore[attr-defined]
    return error


def _fault(values: Sequence[Any]) -> int | None:
    """The first place whose time is not later than the one before it."""
    return next((i for i in range(1, len(values)) if not values[i - 1] < values[i]), None)


def _readings(cells: Sequence[str]) -> Any:
    """The values of the cells, the function that writes such a value, and the format, for each that fits all.

    The format is the pattern of strptime, or "" for numbers and dates as in ISO 8601.
    """
    for pattern in PATTERNS:
        with suppress(ValueError):
            datetime.strptime(cells[0].strip(), pattern)
            if pattern == "%Y%m%d" and {len(cell.strip()) for cell in cells} != {8}:
                continue  # numbers
            values = [datetime.strptime(cell.strip(), pattern) for cell in cells]
            yield values, lambda value, pattern=pattern: value.strftime(pattern), pattern
            if pattern == "%Y%m%d":
                return
    with suppress(ValueError, OverflowError):
        numbers: list[Any] = [_number(cell) for cell in cells]
        digits = max(_decimals(cell) for cell in cells)
        yield numbers, lambda value: value if isinstance(value, int) else round(value, digits), ""
        return
    with suppress(ValueError):
        values = [datetime.fromisoformat(cell.strip()) for cell in cells]
        if len({value.tzinfo is None for value in values}) == 1:
            yield values, _iso(cells[0].strip(), values[0]), ""


def _number(cell: str) -> int | float:
    try:
        return int(cell)
    except ValueError:
        value = float(cell)
    if not np.isfinite(value):
        raise ValueError
    return value


def _decimals(cell: str) -> int:
    """The number of decimal places of a number, ``1.5e-3`` has four."""
    return max(0, -int(Decimal(cell.strip()).as_tuple().exponent))


def _iso(cell: str, value: datetime) -> Callable[[datetime], str]:
    """The function that writes times as `cell` is written, if it is one of the usual forms of ISO 8601."""
    if len(cell) == len("2024-12-31"):
        return lambda value: value.date().isoformat()
    for zone in ("Z", "+00:00"):
        for unit in ("minutes", "seconds", "milliseconds", "microseconds"):

            def write(value: datetime, unit: str = unit, zone: str = zone) -> str:
                text = value.isoformat(cell[10], unit)
                return text.removesuffix("+00:00") + zone if text.endswith("+00:00") else text

            if write(value) == cell:
                return write
    return lambda value: value.isoformat(" ")


def _steps(values: Sequence[Any]) -> tuple[Callable[[Any, int], Any], int]:
    """The function that adds steps to a time, and the number of differences of another size.

    Steps are the most frequent difference, or a number of months.
    """
    if len(values) < 2:
        return lambda value, n: value, 0
    dates = isinstance(values[0], datetime)
    differences = [b - a for a, b in itertools.pairwise(values)]
    sizes = np.array([d / SECOND for d in differences] if dates else differences, dtype=float)
    ordered = np.sort(sizes)
    # the difference with most others within rounding of it
    counts = np.searchsorted(ordered, ordered * (1 + 1e-6), "right") - np.searchsorted(
        ordered, ordered * (1 - 1e-6)
    )
    usual = ordered[counts.argmax()]
    gaps = int((abs(sizes - usual) > 1e-6 * usual).sum())
    months = _months(values) if dates else None
    if months is not None:
        return months, 0
    step = differences[int(abs(sizes - usual).argmin())]
    return lambda value, n: value + n * step, gaps


def _months(values: Sequence[datetime]) -> Callable[[datetime, int], datetime] | None:
    """The function that adds steps of whole months, if all differences are that."""
    numbers = [12 * value.year + value.month - 1 for value in values]
    steps = set(np.diff(numbers).tolist())
    days = {value.day for value in values}
    last = all(value.day == _last_day(number) for value, number in zip(values, numbers, strict=True))
    if (
        len(steps) > 1
        or 0 in steps
        or len({value.time() for value in values}) > 1
        or not (last or len(days) == 1)
    ):
        return None
    (step,) = steps

    def add(value: datetime, n: int) -> datetime:
        number = 12 * value.year + value.month - 1 + n * step
        end = _last_day(number)
        day = end if last else min(values[0].day, end)
        return value.replace(year=number // 12, month=number % 12 + 1, day=day)

    return add


def _last_day(number: int) -> int:
    """The last day of a month, which is the given number of months after the year 0."""
    first, following = (date(n // 12, n % 12 + 1, 1) for n in (number, number + 1))
    return (following - first).days
