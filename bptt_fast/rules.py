"""Rules on parameters, which training obeys: masks, signs, bounds, frozen weights, L1, L2 and group lasso."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, MutableMapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike

from . import data
from .errors import (
    NONNEGATIVE,
    ConfigError,
    ShapeError,
    argument,
    check_fields,
    choice,
    number,
    plain,
    suggesting,
)
from .initialisation import CELLS

if TYPE_CHECKING:
    from .model import Model

Array = np.ndarray[Any, Any]

GROUPS = ("rows", "columns")
ARRAYS = ("trainable", "mask", "sign", "low", "high")  # what may be an array, in a file


@suggesting
@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Rule:
    """A rule on one block of parameters, for ``Network.rules``.

    Parameters
    ----------
    trainable : bool or array of bool, default True
        Whether the weights may change, all or each; the others are frozen and keep their bits.
    mask : array of bool, optional
        The weights that exist; the others are 0 and stay so.
    sign : {1, -1, 0} or array of them, optional
        The sign of all weights, of each column (the weights from one unit or input), or of each weight.
        1: at least 0; -1: at most 0; 0: any.
    bounds : tuple (low, high), optional
        Bounds of the weights that exist: numbers, arrays of the shape of the block, or None for no bound.
    l1 : float, default 0
        At least 0: the penalty l1 sum abs(w) makes weights exactly 0.
    l2 : float, default 0
        At least 0: the penalty l2/2 sum w^2.
    group : tuple ("rows" or "columns", float), optional
        Group lasso: the penalty strength * sum ||row||, or columns, of a matrix makes whole rows or columns
        exactly 0.  Frozen weights belong to no group.

    Raises
    ------
    ConfigError
        If a value is invalid, or the bounds contradict each other or the sign.  When assigned to a network:
        if there is no such block, or the bounds contradict the signs, or its dtype has no number between
        them.
    ShapeError
        When assigned to a network: if an array does not fit the block.

    Examples
    --------
    >>> import numpy as np, bptt_fast as bf
    >>> net = bf.Network(2, 4, 1, seed=0)
    >>> net.rules["weight_hh_l0"] = bf.Rule(mask=~np.eye(4, dtype=bool), l1=1e-3)
    >>> net["weight_hh_l0"].diagonal()
    array([0., 0., 0., 0.], dtype=float32)
    """

    trainable: Any = True
    mask: Any = None
    sign: Any = None
    bounds: Any = None
    l1: float = field(default=0.0, metadata=NONNEGATIVE)
    l2: float = field(default=0.0, metadata=NONNEGATIVE)
    group: tuple[str, float] | None = None

    def __post_init__(self) -> None:
        check_fields(self)
        checked = {"trainable": _booleans(self.trainable, argument(self, "trainable"))}
        if self.mask is not None:
            checked["mask"] = _booleans(self.mask, argument(self, "mask"), an_array=True)
        if self.sign is not None:
            checked["sign"] = _signs(self.sign, argument(self, "sign"))
        if self.bounds is not None:
            checked["bounds"] = _bounds(self.bounds, argument(self, "bounds"))
        if self.group is not None:
            checked["group"] = _group(self.group, argument(self, "group"))
        for name, value in checked.items():
            object.__setattr__(self, name, value)

    def __repr__(self) -> str:
        shown = {name: value for name, value in vars(self).items() if _differs(value, _DEFAULTS[name])}
        return f"Rule({', '.join(f'{name}={_short(value)}' for name, value in shown.items())})"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Rule):
            return NotImplemented
        (mine, arrays), (theirs, others) = _fields(self), _fields(other)
        return (
            mine == theirs
            and arrays.keys() == others.keys()
            and all(np.array_equal(arrays[name], others[name]) for name in arrays)
        )

    __hash__ = None  # type: ignore[assignment]


_DEFAULTS = {name: f.default for name, f in Rule.__dataclass_fields__.items()}


@suggesting
class Rules(MutableMapping[str, Rule]):
    """The rules of a network, ``Network.rules``: a dict of `Rule` by the name of the block.

    Parameters
    ----------
    net : Network

    Notes
    -----
    Assigning changes the present weights once, so that they obey: a weight of the wrong sign changes its
    sign, a weight outside its bounds becomes the nearest bound, a weight outside its mask 0.  Deleting a rule
    leaves the weights as they are.  A live learner ends.

    Examples
    --------
    >>> import bptt_fast as bf
    >>> net = bf.Network(2, 4, 1, seed=0)
    >>> net.rules["head.0.bias"] = bf.Rule(trainable=False)
    >>> net.rules
    Rules({'head.0.bias': Rule(trainable=False)})
    """

    __slots__ = ("_net",)

    def __init__(self, net: Model) -> None:
        self._net = net

    @property
    def _held(self) -> dict[str, Rule]:
        constraints = self._net.constraints
        return {} if constraints is None else constraints.rules

    def __getitem__(self, name: str) -> Rule:
        return self._held[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._held)

    def __len__(self) -> int:
        return len(self._held)

    def __setitem__(self, name: str, rule: Rule) -> None:
        self._net.rules = {**self, name: rule}

    def __delitem__(self, name: str) -> None:
        if name not in self:
            raise KeyError(name)
        self._net.rules = {other: rule for other, rule in self.items() if other != name}

    def clear(self) -> None:
        """Remove all rules."""
        self._net.rules = {}

    def update(self, *others: Any, **more: Rule) -> None:
        """Assign several rules, or none if one of them is invalid.

        Parameters
        ----------
        *others : mapping of str to Rule, or pairs
            At most one, as for ``dict.update``.
        **more : Rule
            Rules by the name of the block.
        """
        self._net.rules = {**self, **dict(*others, **more)}

    def __repr__(self) -> str:
        return f"Rules({self._held})"


def saved(rules: Mapping[str, Rule]) -> tuple[dict[str, Any], dict[str, Array]]:
    """Rules as plain values by block, and their arrays by "block.field"; `restored` is the inverse."""
    values: dict[str, Any] = {}
    arrays: dict[str, Array] = {}
    for name, rule in rules.items():
        values[name], own = _fields(rule)
        arrays |= {f"{name}.{key}": array for key, array in own.items()}
    return values, arrays


def restored(values: Mapping[str, Any], arrays: Mapping[str, Array]) -> dict[str, Rule]:
    """The rules from the result of `saved`."""
    fields = {name: dict(value) for name, value in values.items()}
    for key, array in arrays.items():
        name, _, which = key.rpartition(".")
        fields[name][which] = array
    for own in fields.values():
        own["bounds"] = own.pop("low"), own.pop("high")
    return {name: Rule(**own) for name, own in fields.items()}


def _fields(rule: Rule) -> tuple[dict[str, Any], dict[str, Array]]:
    """The fields of a rule as plain values and as arrays; the bounds are "low" and "high"."""
    values = dict(vars(rule))
    values["low"], values["high"] = values.pop("bounds") or (None, None)
    arrays = {name: values.pop(name) for name in ARRAYS if isinstance(values[name], np.ndarray)}
    return values, arrays


def _limits(rule: Rule, name: str, shape: tuple[int, ...]) -> tuple[Array, Array, Array]:
    """Bounds of each weight of a block, and whether it is frozen."""
    where = f"rules[{name!r}]"
    if rule.group is not None and len(shape) < 2:
        raise ConfigError(f"{where}: expected no group for a vector, got {rule.group!r}.  Use l1.")
    if rule.group is not None and name.startswith("embedding."):
        raise ConfigError(f"{where}: expected no group for an embedding, got {rule.group!r}.  Use l1.")
    low, high = np.full(shape, -math.inf), np.full(shape, math.inf)
    for bound, given in zip((low, high), rule.bounds or (), strict=False):
        if given is not None:
            bound[...] = _of_shape(given, shape, f"{where}, bounds")
    sign = _of_shape(0 if rule.sign is None else rule.sign, shape, f"{where}, sign", columns=True)
    low, high = np.where(sign > 0, np.maximum(low, 0), low), np.where(sign < 0, np.minimum(high, 0), high)
    if (low > high).any():
        at = tuple(int(i) for i in np.argwhere(low > high)[0])
        raise ConfigError(
            f"{where}: expected bounds that allow the sign, got sign {sign[at]:+d} with the bounds "
            f"{rule.bounds} at {at}.  Change one of the two."
        )
    if rule.mask is not None:
        exists = _of_shape(rule.mask, shape, f"{where}, mask")
        low, high = np.where(exists, low, 0), np.where(exists, high, 0)
    return low, high, ~_of_shape(rule.trainable, shape, f"{where}, trainable")


class Piece(NamedTuple):
    """The penalised loss near some weights, where it is smooth: within the bounds and an orthant of L1."""

    slope: Array  # its gradient; 0 where a step downhill would leave the bounds
    low: Array
    high: Array
    free: Array  # where the slope is not 0 for that reason


class Constraints:
    """The rules of a network as flat vectors.

    Attributes
    ----------
    rules : dict of str to Rule
    low, high : ndarray (P,)
        Bounds in the dtype of the network.
    fixed : ndarray (P,) of bool
        Weights that cannot change.
    penalties : ndarray (blocks, 4)
        l1, l2, and the strengths of the group lasso over rows and columns.
    """

    def __init__(
        self, rules: Mapping[str, Rule], blocks: Iterable[tuple[str, int, int, int]], dtype: DTypeLike
    ) -> None:
        shapes = {name: (rows, cols) if cols else (rows,) for name, rows, cols, _ in blocks}
        for name, rule in rules.items():
            choice(name, "rules", list(shapes))
            if not isinstance(rule, Rule):
                raise ConfigError(f"rules[{name!r}]: expected a Rule, got {rule!r}.  Use bf.Rule(...).")
        self.rules = {name: rules[name] for name in shapes if name in rules}
        free = Rule()
        parts = []
        self.penalties = np.zeros((len(shapes), 2 + len(GROUPS)))
        for number_, (name, shape) in enumerate(shapes.items()):
            rule = self.rules.get(name, free)
            low, high, frozen = _limits(rule, name, shape)
            low, high = _inward(low, high, np.dtype(dtype), f"rules[{name!r}], bounds")
            parts.append([part.ravel() for part in (low, high, frozen)])
            self.penalties[number_, :2] = rule.l1, rule.l2
            if rule.group is not None:
                self.penalties[number_, 2 + GROUPS.index(rule.group[0])] = rule.group[1]
        self.low, self.high, frozen = (np.concatenate(vectors) for vectors in zip(*parts, strict=True))
        self.fixed = frozen | (self.low == self.high)
        self._sizes = [math.prod(shape) for shape in shapes.values()]

    def enter(self, weights: Array) -> None:
        """Make weights obey that never did: signs change, then as in `project`."""
        wrong = ((self.low >= 0) & (weights < 0)) | ((self.high <= 0) & (weights > 0))
        weights[wrong] *= -1
        self.project(weights)
        weights[(self.low == 0) & (self.high == 0)] = 0

    def project(self, weights: Array) -> None:
        """Make weights outside their bounds the nearest bound; the others keep their bits."""
        outside = (weights < self.low) | (weights > self.high)
        if outside.any():
            weights[outside] = np.clip(weights[outside], self.low[outside], self.high[outside])

    @cached_property
    def core(self) -> tuple[Array, Array, Array]:
        """The arguments of the core's `set_rules`, where equal bounds mean a fixed weight."""
        low, high = (np.where(self.fixed, bound.dtype.type(0), bound) for bound in (self.low, self.high))
        return low, high, self.penalties

    # ---- for second order, in float64

    @cached_property
    def l1(self) -> Array:
        """The strength of each weight (P,)."""
        return np.repeat(self.penalties[:, 0], self._sizes)

    @cached_property
    def l2(self) -> Array:
        """The strength of each weight (P,)."""
        return np.repeat(self.penalties[:, 1], self._sizes)

    @property
    def groups(self) -> list[str]:
        """The blocks with a group lasso."""
        return [name for name, rule in self.rules.items() if rule.group is not None]

    @cached_property
    def penalised(self) -> bool:
        """Whether there are penalties."""
        return bool(self.penalties.any())

    @cached_property
    def smooth(self) -> bool:
        """Whether the weights that can change have neither bounds nor L1."""
        bounded = np.isfinite(self.low) | np.isfinite(self.high) | (self.l1 > 0)
        return not (bounded & ~self.fixed).any()

    def penalty(self, weights: Array) -> float:
        """The penalties l1 and l2."""
        terms = self.l1 * abs(weights) + 0.5 * self.l2 * weights**2
        return float(terms.sum()) if self.penalised else 0.0

    def piece(self, weights: Array, slope: Array) -> Piece:
        """The smooth piece downhill of the weights; `slope` is the gradient of the loss with the penalty l2.

        The orthant of a weight with L1 is its sign, or at 0 the one in which the loss decreases; it is left
        only through 0 (OWL-QN: G. Andrew and J. Gao, ICML 2007).
        """
        l1 = self.l1
        downhill = -np.sign(slope) * (abs(slope) > l1)
        orthant = np.where(weights == 0, downhill, np.sign(weights))
        slope = slope + l1 * orthant
        low = np.where((l1 > 0) & (orthant >= 0), np.maximum(self.low, 0.0), self.low)
        high = np.where((l1 > 0) & (orthant <= 0), np.minimum(self.high, 0.0), self.high)
        free = ~self.fixed & ~((weights <= low) & (slope >= 0)) & ~((weights >= high) & (slope <= 0))
        return Piece(np.where(free, slope, 0.0), low, high, free)


@suggesting
def dale(net: Model, excitatory: float = 0.8) -> Array:
    """Give a network Dale's law: all weights out of a unit have one sign.

    The first units of each layer are excitatory, the others inhibitory.  The rules are set on the recurrent
    weights and, in a network of several layers, on the weights into the next layer; other rules of these
    blocks stay.  Weights of the wrong sign change their sign.  The readout is left as it is.

    Parameters
    ----------
    net : Network
        A network without projections.  Its states should not be negative: nonlinearity "retanh", "relu",
        "softplus" or "sigmoid".
    excitatory : float, default 0.8
        Share of excitatory units, from 0 to 1.

    Returns
    -------
    signs : ndarray (H,) of int
        1 for an excitatory unit, -1 for an inhibitory one.

    Raises
    ------
    ConfigError
        If `excitatory` is out of range, or the network has projections, no recurrent matrix, or other rules
        that contradict; the network is unchanged.

    Notes
    -----
    H. F. Song, G. R. Yang and X.-J. Wang, "Training excitatory-inhibitory recurrent neural networks for
    cognitive tasks: a simple and flexible framework", PLoS Computational Biology 12 (2016).

    Examples
    --------
    >>> import bptt_fast as bf
    >>> net = bf.Network(2, 10, 1, nonlinearity="relu", seed=0)
    >>> bf.dale(net, excitatory=0.8)
    array([ 1,  1,  1,  1,  1,  1,  1,  1, -1, -1])
    >>> bool((net["weight_hh_l0"][:, :8] >= 0).all() and (net["weight_hh_l0"][:, 8:] <= 0).all())
    True
    """
    if not hasattr(net, "description"):
        raise ConfigError(f"net: expected a Network, got {type(net).__name__}.")
    share, description = number(excitatory, "excitatory", 0, 1), net.description
    if description.proj_size:
        raise ConfigError(
            f"dale: expected a network without projections, got proj_size={description.proj_size}.  Set the "
            f"signs by rules."
        )
    if not CELLS[description.cell]["recurrent"]:
        raise ConfigError(
            f"dale: expected a cell with a recurrent matrix, whose columns have the signs, got "
            f'cell="{description.cell}".  Set the signs by rules.'
        )
    signs = np.ones(net.hidden_size, np.int64)
    signs[round(share * net.hidden_size) :] = -1
    new = {}
    for name in net:
        into_next = name.startswith("weight_ih") and not name.startswith("weight_ih_l0")
        if name.startswith("weight_hh") or into_next:
            directions = net[name].shape[1] // net.hidden_size
            new[name] = replace(net.rules.get(name, Rule()), sign=np.tile(signs, directions))
    net.rules.update(new)
    return signs


# ---- checks


def _array(value: Any, where: str) -> Array:
    """A copy of numbers or booleans that cannot be written."""
    array = np.array(data.numbers(value, where))
    array.flags.writeable = False
    return array


def _booleans(value: Any, where: str, an_array: bool = False) -> Any:
    """A bool, or an array of them."""
    if isinstance(value, bool) and not an_array:
        return value
    array = _array(value, where)
    if array.dtype != np.bool_ or not array.ndim:
        wanted = "an array of booleans" if an_array else "booleans"
        raise ConfigError(f"{where}: expected {wanted}, got {_short(value)}.  Try array != 0.")
    return array


def _signs(value: Any, where: str) -> Any:
    """1, -1 or 0, or an array of them."""
    array = _array(value, where)
    if array.dtype == np.bool_ or not np.isin(array, (-1, 0, 1)).all():
        raise ConfigError(f"{where}: expected 1, -1 or 0, got {_short(value)}.")
    signs = array.astype(np.int8)
    signs.flags.writeable = False
    return signs if signs.ndim else int(signs)


def _bounds(value: Any, where: str) -> tuple[Any, Any] | None:
    """A pair of numbers, arrays or None; None: no bounds."""
    if not isinstance(value, (tuple, list)) or len(value) != 2:
        raise ConfigError(f"{where}: expected (low, high), got {value!r}.  None: no bound.")
    low, high = (
        np.array(endless if bound is None else _array(bound, where), np.float64)
        for bound, endless in zip(value, (-math.inf, math.inf), strict=True)
    )
    if low.ndim and high.ndim and low.shape != high.shape:
        raise ShapeError(f"{where}: expected two arrays of one shape, got {low.shape} and {high.shape}.")
    if not (low <= high).all() or (low == math.inf).any() or (high == -math.inf).any():
        raise ConfigError(
            f"{where}: expected low <= high, got {_short(value[0])} and {_short(value[1])}.  None: no bound."
        )
    bounds = _bound(low), _bound(high)
    return None if bounds[0] is None and bounds[1] is None else bounds


def _bound(bound: Array) -> Any:
    """A bound as a float, None if it is infinite, or an array."""
    if not bound.ndim:
        return float(bound) if math.isfinite(bound) else None
    bound.flags.writeable = False
    return bound


def _group(value: Any, where: str) -> tuple[str, float]:
    if not isinstance(value, (tuple, list)) or len(value) != 2:
        raise ConfigError(f'{where}: expected ("rows", strength) or ("columns", strength), got {value!r}.')
    return choice(value[0], where, GROUPS), number(value[1], where, 0, open_low=True)


def _of_shape(value: Any, shape: tuple[int, ...], where: str, columns: bool = False) -> Array:
    """One value for all, or an array of the block's shape; with `columns` also one value per column."""
    array = np.asarray(value)
    if array.ndim and array.shape != shape and not (columns and array.shape == shape[1:]):
        also = f" or {shape[1:]}" if columns and len(shape) > 1 else ""
        raise ShapeError(f"{where}: expected {shape}{also}, got {array.shape}.")
    return np.broadcast_to(array, shape)


def _inward(low: Array, high: Array, dtype: np.dtype[Any], where: str) -> tuple[Array, Array]:
    """Bounds rounded to a dtype so that no number of it that lies between them is outside."""
    with np.errstate(over="ignore"):
        narrow_low, narrow_high = low.astype(dtype), high.astype(dtype)
    narrow_low = np.where(narrow_low < low, np.nextafter(narrow_low, dtype.type(math.inf)), narrow_low)
    narrow_high = np.where(narrow_high > high, np.nextafter(narrow_high, dtype.type(-math.inf)), narrow_high)
    same = low == high
    narrow_low[same] = narrow_high[same] = low[same].astype(dtype)
    empty = (narrow_low > narrow_high) | np.isposinf(narrow_low) | np.isneginf(narrow_high)
    if empty.any():
        raise ConfigError(
            f"{where}: expected bounds with a number of {dtype} between them, got {low[empty][0]:.17g} and "
            f"{high[empty][0]:.17g}."
        )
    return narrow_low, narrow_high


def _differs(value: Any, default: Any) -> bool:
    return isinstance(value, (np.ndarray, tuple)) or value != default


def _short(value: Any) -> str:
    """A value for a message; of an array its shape and dtype."""
    if isinstance(value, tuple):
        return f"({', '.join(map(_short, value))})"
    if np.ndim(value):
        array = np.asarray(value)
        return f"<{' x '.join(map(str, array.shape))} {array.dtype}>"
    return repr(plain(value))
