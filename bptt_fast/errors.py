"""The exceptions of the package, and the checks of plain values that raise them in words."""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from numbers import Number
from typing import Any

import numpy as np

MAX_SIZE = 2**31 - 1


class ShapeError(ValueError):
    """An array does not have the shape that the network or another array asks for.

    Examples
    --------
    >>> import numpy as np, bptt_fast as bf
    >>> try:
    ...     bf.Network(2, 4, 1, seed=0).predict(np.zeros((3, 5, 1)))
    ... except bf.ShapeError as error:
    ...     print(str(error)[:2])
    x:
    """


class ConfigError(ValueError):
    """An argument, an option or a number in the data has a value that cannot be used.

    Examples
    --------
    >>> import bptt_fast as bf
    >>> bf.Network(2, 4, 1, cell="lstmm")
    Traceback (most recent call last):
    bptt_fast.errors.ConfigError: cell: expected one of 'elman', ..., got 'lstmm'. Did you mean 'lstm'?
    """


class CorruptFileError(ValueError):
    """A model file is truncated, damaged, or not a model file of this package.

    `bptt_fast.load` raises it; nothing has been loaded then.
    """


class DivergedError(ArithmeticError):
    """A loss, a gradient or a prediction is not finite any more.  The network keeps its last finite weights.

    Attributes
    ----------
    epoch, batch : int or None
        Where training stopped, counted from 1; with ``SlidingBPTT`` `batch` counts patterns, with
        ``TruncatedBPTT`` passes.
    history : History or None
        The epochs finished before.

    Examples
    --------
    >>> import numpy as np, bptt_fast as bf
    >>> net = bf.Network(1, 4, 1, nonlinearity="relu", seed=0)
    >>> x = np.ones((8, 50, 1))
    >>> try:
    ...     history = net.fit(x, x[:, 0], epochs=100, optimizer=bf.SGD(1e6), verbose=0)
    ... except bf.DivergedError as error:
    ...     print(error.epoch is not None, np.isfinite(net.params).all())
    True True
    """

    epoch: int | None = None
    batch: int | None = None
    history: Any = None


def plain(value: Any) -> Any:
    """A number of NumPy's, or of another library, as Python's int, float, bool or str; all else as it is.

    So it is for arrays and tensors without dimensions, and for a Fraction or a Decimal.
    """
    if type(value) in (int, float, str, bool):
        return value
    try:
        if getattr(value, "ndim", None) == 0 and hasattr(value, "item"):
            value = value.item()
        if not isinstance(value, (int, float)) and isinstance(value, Number):
            return float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError, RuntimeError):  # which the checks report
        pass
    return value


def plain_fields(frozen: Any) -> None:
    """Make every field of a frozen dataclass plain: what can be written as JSON, and compared."""
    for name, value in vars(frozen).items():
        object.__setattr__(frozen, name, plain(value))


def integer(value: Any, name: str, low: int = 1, high: int | None = MAX_SIZE) -> int:
    """`value` as an int in [low, high], or a ConfigError."""
    wanted = f"an integer of at least {low}"
    try:
        found = plain(value)
        if isinstance(found, bool):
            raise TypeError
        number = operator.index(found)
    except TypeError:
        raise ConfigError(f"{name}: expected {wanted}, got {value!r} ({type(value).__name__}).") from None
    if number < low:
        raise ConfigError(f"{name}: expected {wanted}, got {number}.")
    if high is not None and number > high:
        raise ConfigError(f"{name}: expected at most {high}, got {number}, which is too large.")
    return number


def number(
    value: Any,
    name: str,
    low: float = -math.inf,
    high: float = math.inf,
    *,
    open_low: bool = False,
    open_high: bool = False,
) -> float:
    """`value` as a finite float between `low` and `high` (excluded where open), or a ConfigError."""
    wanted = "a finite number"
    if low > -math.inf:
        wanted += f" {'above' if open_low else 'of at least'} {low:g}"
    if high < math.inf:
        wanted += f"{' and' if low > -math.inf else ''} {'below' if open_high else 'at most'} {high:g}"
    try:
        value = plain(value)
        if isinstance(value, (bool, str, bytes)) or np.ndim(value):
            raise TypeError
        result = float(value)
    except (TypeError, ValueError, OverflowError):
        raise ConfigError(f"{name}: expected {wanted}, got {value!r} ({type(value).__name__}).") from None
    if (
        not math.isfinite(result)
        or result < low
        or result > high
        or (open_low and result == low)
        or (open_high and result == high)
    ):
        raise ConfigError(f"{name}: expected {wanted}, got {result:g}.")
    return result


def choice(value: Any, name: str, options: Sequence[str]) -> str:
    """`value` if it is one of `options`, or a ConfigError that suggests the nearest."""
    value = plain(value)
    if isinstance(value, str) and value in options:
        return options[options.index(value)]
    hint = ""
    if isinstance(value, str):
        from difflib import get_close_matches

        near = get_close_matches(value.lower(), options, 1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
    raise ConfigError(f"{name}: expected one of {', '.join(map(repr, options))}, got {value!r}.{hint}")


def flag(value: Any, name: str) -> bool:
    """`value` as a bool if it is True or False (Python's or NumPy's), or a ConfigError."""
    found = plain(value)
    if isinstance(found, bool):
        return found
    raise ConfigError(f"{name}: expected True or False, got {value!r} ({type(value).__name__}).")
