"""The exceptions of the package, and the checks of plain values that raise them."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Collection, Sequence
from dataclasses import fields
from functools import partial, wraps
from numbers import Number
from typing import Any, TypeVar, cast

import numpy as np

from .suggestions import suggestion

MAX_SIZE = 2**31 - 1
Option = TypeVar("Option", bound=str)

Known = TypeVar("Known", bound=Callable[..., Any])


class ShapeError(ValueError):
    """An array does not have the shape that the network or another array requires.

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
    """An argument, an option or a number in the data has an invalid value.

    Examples
    --------
    >>> import bptt_fast as bf
    >>> bf.Network(2, 4, 1, cell="lstmm")
    Traceback (most recent call last):
    bptt_fast.errors.ConfigError: cell: expected one of 'elman', ..., got 'lstmm'. Did you mean 'lstm'?
    """


class ArgumentError(ConfigError, TypeError):
    """A function has no argument of this name.

    Examples
    --------
    >>> import bptt_fast as bf
    >>> bf.Network(2, units=4, output_size=1)
    Traceback (most recent call last):
    bptt_fast.errors.ArgumentError: Network: got the unknown argument 'units'. Did you mean 'hidden_size'?
    """


class CorruptFileError(ValueError):
    """A file is truncated, damaged, or of another format.

    `bptt_fast.load` raises it and loads nothing, `bptt_fast.Files` and a fit with them if a file of data is.
    """


class CellError(RuntimeError):
    """A cell of the user's own can't be compiled, its gradient is wrong, or a file has another one.

    Examples
    --------
    >>> import os, tempfile, bptt_fast as bf
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = os.path.join(folder, "empty.h")
    ...     open(path, "w").close()
    ...     try:
    ...         bf.build_cell(path)
    ...     except bf.CellError as error:
    ...         print(str(error).removeprefix(folder)[1:])
    empty.h: expected definitions of GATES, STATES, empty_forward and empty_backward, got no GATES, ...
    """


class RankError(RuntimeError):
    """Another rank of a fit with `comm` has failed; the message says which one, and why."""


# what the content of a damaged file may raise, wherever it is used for the first time
MALFORMED = (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError)


class DivergedError(ArithmeticError):
    """A parameter, loss, gradient or output is NaN or infinite; the network keeps its last finite weights.

    Attributes
    ----------
    epoch, batch : int or None
        The epoch and batch of the failure, counted from 1; with ``SlidingBPTT`` `batch` counts patterns, with
        ``TruncatedBPTT`` passes.
    history : History or None
        The record of the finished epochs.

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
    """The Python int, float, bool or str for a scalar of NumPy or another library; other values unchanged.

    Arrays and tensors without dimensions, Fractions and Decimals are converted too.
    """
    if type(value) in (int, float, str, bool):
        return value
    try:
        if getattr(value, "ndim", None) == 0 and hasattr(value, "item"):
            value = value.item()
        if not isinstance(value, (int, float)) and isinstance(value, Number):
            return float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError, RuntimeError):  # the checks report such values
        pass
    return value


def plain_fields(frozen: Any) -> None:
    """Make every field of a frozen dataclass plain, so that it can be written as JSON and compared."""
    for name, value in vars(frozen).items():
        object.__setattr__(frozen, name, plain(value))


def items(value: Any) -> list[Any] | None:
    """The items of a list, array (along its first axis) or Series; None if the value is none of these."""
    if isinstance(value, (str, bytes)) or not (isinstance(value, Sequence) or hasattr(value, "__array__")):
        return None
    try:
        return list(value)
    except TypeError:  # an array without axes
        return None


def integer(value: Any, name: str, low: int = 1, high: int | None = MAX_SIZE) -> int:
    """`value` as an int in [low, high]; raises a ConfigError if it is none."""
    wanted = f"an integer of at least {low}"
    try:
        plain_value = plain(value)
        if isinstance(plain_value, bool):
            raise TypeError
        number = operator.index(plain_value)
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
    """`value` as a finite float between `low` and `high` (excluded where open); else raises a ConfigError."""
    got = ""
    try:
        value = plain(value)
        if type(value) is not float and (isinstance(value, (bool, str, bytes)) or np.ndim(value)):
            raise TypeError
        result = float(value)
    except (TypeError, ValueError, OverflowError):
        got = f"{value!r} ({type(value).__name__})"
    else:
        inside = (low < result if open_low else low <= result) and (
            result < high if open_high else result <= high
        )
        if inside and math.isfinite(result):
            return result
        got = f"{result:g}"
    wanted = "a finite number"
    if low > -math.inf:
        wanted += f" {'above' if open_low else 'of at least'} {low:g}"
    if high < math.inf:
        wanted += f"{' and' if low > -math.inf else ''} {'below' if open_high else 'at most'} {high:g}"
    raise ConfigError(f"{name}: expected {wanted}, got {got}.")


def choice(value: Any, name: str, options: Sequence[Option], hint: str = "") -> Option:
    """`value` if it is one of `options`; else raises a ConfigError with the nearest one, or with `hint`."""
    value = plain(value)
    if isinstance(value, str) and value in options:
        return options[options.index(value)]
    if isinstance(value, str):
        hint = suggestion(value, options) or hint
    raise ConfigError(f"{name}: expected one of {', '.join(map(repr, options))}, got {value!r}.{hint}")


def flag(value: Any, name: str) -> bool:
    """`value` as a bool if it is True or False (Python's or NumPy's); else raises a ConfigError."""
    plain_value = plain(value)
    if isinstance(plain_value, bool):
        return plain_value
    raise ConfigError(f"{name}: expected True or False, got {value!r} ({type(value).__name__}).")


# ---- names of arguments

OWNERS = ("self", "cls", "net", "model")  # the object of a method


def check_arguments(what: str, given: Collection[str], known: Collection[str]) -> None:
    """Raise an ArgumentError for the first name that is not one of the `known` arguments."""
    for name in given:
        if name not in known:
            listed = ", ".join(other for other in known if other not in OWNERS)
            hint = suggestion(name, known) or f"  There are {listed}."
            raise ArgumentError(f"{what}: got the unknown argument {name!r}.{hint}")


def suggesting(known: Known) -> Known:
    """A function, or a class for its constructor, whose error for an unknown argument suggests another.

    The signature is kept.  The names are compared only after Python has raised a TypeError.
    """
    if isinstance(known, type):
        known.__init__ = suggesting(known.__init__)  # type: ignore[misc]
        return known

    @wraps(known)
    def call(*args: Any, **kwargs: Any) -> Any:
        try:
            return known(*args, **kwargs)
        except ArgumentError:
            raise
        except TypeError:
            constructor = known.__name__ == "__init__"
            what = type(args[0]).__name__ if constructor else known.__name__
            check_arguments(what, *_in_question(known, len(args), kwargs))
            raise

    return cast(Known, call)


def _in_question(
    function: Callable[..., Any], positional: int, given: Collection[str]
) -> tuple[Collection[str], Collection[str]]:
    """The names for `check_arguments` after a call with `positional` arguments and the `given` names.

    A function with ``**arguments`` accepts any name: only one that is near to a missing argument is wrong.
    """
    import inspect

    parameters = inspect.signature(function).parameters
    if all(parameter.kind is not parameter.VAR_KEYWORD for parameter in parameters.values()):
        return given, list(parameters)
    missing = [
        name
        for place, (name, parameter) in enumerate(parameters.items())
        if name not in given
        and parameter.default is parameter.empty
        and (parameter.kind is parameter.KEYWORD_ONLY or place >= positional)
        and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
    ]
    others = [name for name in given if name not in parameters]
    return [name for name in others if suggestion(name, missing).startswith(" Did")], missing


def parameters_of(function: Callable[..., Any]) -> list[str]:
    """The names of the parameters of a function."""
    import inspect

    return list(inspect.signature(function).parameters)


# ---- metadata of dataclass fields, for `check_fields`

POSITIVE = {"check": partial(number, low=0, open_low=True)}
NONNEGATIVE = {"check": partial(number, low=0)}
PROPORTION = {"check": partial(number, low=0, high=1)}
BELOW_ONE = {"check": partial(number, low=0, high=1, open_high=True)}  # [0, 1)
FACTOR = {"check": partial(number, low=0, high=1, open_low=True)}  # (0, 1]
REDUCTION = {"check": partial(number, low=0, high=1, open_low=True, open_high=True)}  # (0, 1)
AT_LEAST_ONE = {"check": partial(number, low=1)}
ABOVE_ONE = {"check": partial(number, low=1, open_low=True)}
COUNT = {"check": integer}
NATURAL = {"check": partial(integer, low=0)}
BOOLEAN = {"check": flag}


def argument(owner: Any, name: str) -> str:
    """The argument of a constructor, for a message: "Adam(beta1)"."""
    return f"{type(owner).__name__}({name})"


def check_fields(frozen: Any) -> None:
    """Make the fields of a frozen dataclass plain, and run the check in the metadata of each.

    None is valid where it is the default.
    """
    plain_fields(frozen)
    for field in fields(frozen):
        value = getattr(frozen, field.name)
        if "check" in field.metadata and not (value is None and field.default is None):
            field.metadata["check"](value, argument(frozen, field.name))
