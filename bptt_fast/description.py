"""The description of a network without its parameters: names and sizes, checked on construction."""

from __future__ import annotations

import operator
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self, get_args

import numpy as np

from . import _core  # type: ignore[attr-defined]
from .choices import Cell, Equation, Init, InitialState, Noise, Nonlinearity, Readout, Reset
from .errors import ConfigError, ShapeError, choice, flag, integer, number, plain_fields
from .initialisation import CELLS, is_own

# cells of the core that are a cell with an option here
VARIANTS = {
    "gru_reset_before": ("gru", "reset", "before"),
    "lstm_peephole": ("lstm", "peephole", True),
    "ctrnn_potential": ("ctrnn", "equation", "potential"),
}
NONLINEARITIES = _core.activations()
MAX_F, MAX_HEAD, MAX_LAYERS, MAX_CATEGORIES = 14, 15, 16, 15
MAX_VALUES = 2**24  # float32 holds integers up to here
# options that act only with another one
NEEDED = {"head_nonlinearity": "head", "noise": "recurrent_noise", "rate_target": "rate_penalty"}

Category = int | tuple[int, int]  # the number of values of an integer; with an embedding its width, too


@dataclass(frozen=True)
class Description:
    """A network without its parameters, checked on construction; `Network` documents the fields."""

    input_size: int
    hidden_size: int
    output_size: int
    categories: Any = ()
    cell: Cell = "elman"
    nonlinearity: Any = None
    f: Any = ()
    head: Any = ()
    head_nonlinearity: Nonlinearity = "tanh"
    skip: bool = False
    readout: Readout = "last"
    num_layers: int = 1
    bidirectional: bool = False
    reset: Reset = "after"
    peephole: bool = False
    equation: Equation = "rate"
    tau: Any = 10.0
    dt: float = 1.0
    train_tau: bool = False
    recurrent_noise: float = 0.0
    noise: Noise = "sde"
    input_noise: float = 0.0
    rate_penalty: float = 0.0
    rate_target: float = 0.0
    proj_size: int = 0
    dropout: float = 0.0
    recurrent_dropout: float = 0.0
    initial_state: InitialState = "zeros"
    dtype: Any = "float32"
    seed: Any = None
    init: Any = None
    spectral_radius: float | None = None
    forget_bias: float | None = None

    def __post_init__(self) -> None:
        plain_fields(self)
        checked: dict[str, Any] = {
            name: integer(getattr(self, name), name) for name in ("input_size", "hidden_size", "output_size")
        }
        checked["categories"] = _categories(self.categories, checked["input_size"])
        checked["num_layers"] = integer(self.num_layers, "num_layers", 1, MAX_LAYERS)
        cell = choice(self.cell, "cell", tuple(CELLS), " Call build_cell first for a cell of your own.")
        if cell in VARIANTS:
            cell, option, value = VARIANTS[cell]
            object.__setattr__(self, option, value)
        f = _widths(self.f, "f", MAX_F)
        _check_cell(cell, "hidden_layers", "f", f, ())
        checked |= {
            "cell": cell,
            "f": f,
            "head": _widths(self.head, "head", MAX_HEAD),
            "nonlinearity": _nonlinearities(self, cell, f),
            "head_nonlinearity": choice(self.head_nonlinearity, "head_nonlinearity", NONLINEARITIES),
            "skip": flag(self.skip, "skip"),
            "readout": choice(self.readout, "readout", get_args(Readout)),
            "initial_state": choice(self.initial_state, "initial_state", get_args(InitialState)),
            "bidirectional": flag(self.bidirectional, "bidirectional"),
            "reset": choice(self.reset, "reset", get_args(Reset)),
            "peephole": flag(self.peephole, "peephole"),
            "equation": choice(self.equation, "equation", get_args(Equation)),
            **self._times(cell),
            **self._noise_and_rates(cell),
        }
        if checked["head_nonlinearity"] != "tanh" and not checked["head"]:
            raise ConfigError(
                f"head_nonlinearity: expected hidden layers in head with it, got head=() and "
                f'head_nonlinearity="{checked["head_nonlinearity"]}".  Example: head=(16,).'
            )
        for base, option, value in VARIANTS.values():
            if checked[option] == value and cell != base:
                wanted = f'"{value}"' if isinstance(value, str) else value
                raise ConfigError(f'{option}: {wanted} is for cell="{base}", got cell="{cell}".')
        proj_size = integer(self.proj_size, "proj_size", 0)
        _check_cell(cell, "projection", "proj_size", proj_size, 0)
        if proj_size >= checked["hidden_size"]:
            raise ConfigError(
                f"proj_size: expected less than hidden_size={checked['hidden_size']}, got {proj_size}."
            )
        checked |= {
            "proj_size": proj_size,
            **self._dropouts(cell, checked["num_layers"]),
            "dtype": _dtype_name(self.dtype),
            "seed": _seed(self.seed),
            "init": _init(self.init),
            **self._initial(cell, f),
        }
        for name, value in checked.items():
            object.__setattr__(self, name, value)

    def _noise_and_rates(self, cell: str) -> dict[str, Any]:
        """The checked noise in the equations, and the checked penalty of their rates."""
        noise = choice(self.noise, "noise", get_args(Noise))
        recurrent_noise = number(self.recurrent_noise, "recurrent_noise", 0)
        input_noise = number(self.input_noise, "input_noise", 0)
        rate_penalty = number(self.rate_penalty, "rate_penalty", 0)
        rate_target = number(self.rate_target, "rate_target")
        if noise != "sde" and not recurrent_noise:
            raise ConfigError(
                f"noise: expected a recurrent_noise above 0 with it, got recurrent_noise=0 and "
                f'noise="{noise}".  Leave it out.'
            )
        if rate_target and not rate_penalty:
            raise ConfigError(
                f"rate_target: expected a rate_penalty above 0 with it, got rate_penalty=0 and "
                f"rate_target={rate_target:g}."
            )
        if input_noise and self.categories:
            raise ConfigError(
                f"input_noise: expected 0 with categories, whose inputs are integers, got {input_noise:g}."
            )
        _check_cell(cell, "leak", "recurrent_noise", recurrent_noise, 0)
        return {
            "noise": noise,
            "recurrent_noise": recurrent_noise,
            "input_noise": input_noise,
            "rate_penalty": rate_penalty,
            "rate_target": rate_target,
        }

    def _dropouts(self, cell: str, num_layers: int) -> dict[str, float]:
        """The checked `dropout` and `recurrent_dropout`."""
        dropout = number(self.dropout, "dropout", 0, 1, open_high=True)
        if dropout and num_layers == 1:
            raise ConfigError(
                f"dropout: {dropout:g} acts between layers, and num_layers=1 has only one.  Did you mean "
                f"recurrent_dropout?"
            )
        recurrent_dropout = number(self.recurrent_dropout, "recurrent_dropout", 0, 1, open_high=True)
        if recurrent_dropout and not CELLS[cell]["recurrent"]:
            raise ConfigError(
                f'recurrent_dropout: expected 0 for cell="{cell}", which has no recurrent product, got '
                f"{recurrent_dropout:g}.  Did you mean dropout, between layers?"
            )
        return {"dropout": dropout, "recurrent_dropout": recurrent_dropout}

    def _initial(self, cell: str, f: tuple[int, ...]) -> dict[str, float | None]:
        """The checked fields that change the initial parameters after `init`."""
        radius, bias = self.spectral_radius, self.forget_bias
        if radius is not None:
            radius = number(radius, "spectral_radius", 0, open_low=True)
            if not CELLS[cell]["recurrent"]:
                raise ConfigError(
                    f'spectral_radius: expected None for cell="{cell}", which has no recurrent matrix, got '
                    f"{radius:g}.  Use init, a function, to set weights."
                )
            if self.proj_size or (f and f[0] != self.hidden_size):
                shape = f"proj_size={self.proj_size}" if self.proj_size else f"f={f}"
                raise ConfigError(
                    f"spectral_radius: expected square recurrent weights, got hidden_size={self.hidden_size} "
                    f"with {shape}."
                )
        if bias is not None:
            bias = number(bias, "forget_bias")
            _check_cell(cell, "keep_gate", "forget_bias", bias, None)
        return {"spectral_radius": radius, "forget_bias": bias}

    def _times(self, cell: str) -> dict[str, Any]:
        """The checked time constants, and the step of time, of a rate network."""
        dt = number(self.dt, "dt", 0, open_low=True)
        tau = _reals(self.tau, "tau")
        train = flag(self.train_tau, "train_tau")
        _check_cell(cell, "leak", "tau", f"shape {tau.shape}" if tau.shape else float(tau), 10)
        _check_cell(cell, "leak", "dt", dt, 1)
        _check_cell(cell, "leak", "train_tau", train, False)
        if tau.shape not in ((), (self.hidden_size,)):
            raise ShapeError(
                f"tau: expected a number, or one for each of hidden_size={self.hidden_size} units, got shape "
                f"{tau.shape}."
            )
        fits = np.isfinite(tau) & ((tau > dt) if train else (tau >= dt))
        if not fits.all():
            wanted = f"above dt={dt:g}, for train_tau" if train else f"of at least dt={dt:g}"
            raise ConfigError(f"tau: expected finite numbers {wanted}, got {tau[~fits][0]:g}.")
        return {"dt": dt, "tau": tuple(tau.tolist()) if tau.shape else float(tau), "train_tau": train}

    @classmethod
    def restored(cls, config: Mapping[str, Any]) -> Self:
        """A description from the `config` of another network, without what has no effect.

        Earlier versions saved such options, and changes of a network leave some.
        """
        return cls(**{**config, **unused(config)})

    @property
    def category_sizes(self) -> tuple[int, ...]:
        """The numbers of values of the inputs that are integers."""
        return tuple(size[0] if isinstance(size, tuple) else size for _, size in self.categories)

    @property
    def embeddings(self) -> dict[int, int]:
        """The widths of the embeddings, by the column of x."""
        return {column: size[1] for column, size in self.categories if isinstance(size, tuple)}

    @property
    def raw_tau(self) -> np.ndarray[Any, Any]:
        """The parameter t of each unit of a rate network with trained time constants, initially, (H,)."""
        excess = np.broadcast_to(self.tau, self.hidden_size) / self.dt - 1
        return np.asarray(excess + np.log(-np.expm1(-excess)))

    def time_constants(self, raw_tau: np.ndarray[Any, Any] | None) -> np.ndarray[Any, Any]:
        """tau of each unit of a rate network, (H,); `raw_tau`: the trained parameters, if it has some."""
        if raw_tau is None:
            return np.array(np.broadcast_to(self.tau, self.hidden_size))
        return np.asarray(self.dt * (1 + np.logaddexp(np.float64(0), raw_tau)))

    @property
    def follows(self) -> bool:
        """Whether the state is a potential, of which the nonlinearity is h."""
        return (self.cell, self.equation) == ("ctrnn", "potential")

    def check_forward(self, expects: str, remedy: str) -> None:
        """Raise unless the network has one direction; `expects` begins the message, `remedy` ends it."""
        if self.bidirectional:
            raise ConfigError(
                f"{expects} a network that runs forward in time, got bidirectional=True.  {remedy}"
            )

    def check_plain(self, expects: str, remedy: str) -> None:
        """Raise unless the network has no dropout, noise, penalty of rates or trained initial state."""
        if self.dropout or self.recurrent_dropout:
            raise ConfigError(
                f"{expects} a network without dropout, got dropout={self.dropout:g}, "
                f"recurrent_dropout={self.recurrent_dropout:g}.  {remedy}"
            )
        if self.recurrent_noise or self.input_noise:
            raise ConfigError(
                f"{expects} a network without noise, got recurrent_noise={self.recurrent_noise:g}, "
                f"input_noise={self.input_noise:g}.  {remedy}"
            )
        if self.rate_penalty:
            raise ConfigError(
                f"{expects} a network without a penalty of rates, got rate_penalty={self.rate_penalty:g}.  "
                f"{remedy}"
            )
        if self.initial_state == "trained":
            raise ConfigError(f'{expects} a network with initial_state="zeros", got "trained".  {remedy}')

    def core(self) -> dict[str, Any]:
        """The description in the fields of the C core (csrc/desc.def)."""
        fields = asdict(self)
        fields["categories"] = self.category_sizes
        fields["embeddings"] = tuple(self.embeddings.get(column, -1) for column, _ in self.categories)
        fields["activation"] = fields.pop("nonlinearity")
        fields["head_activation"] = fields.pop("head_nonlinearity")
        del fields["tau"], fields["dt"]
        if is_own(self.cell):
            fields["own_cell"] = CELLS[self.cell]["own_cell"]
        if CELLS[self.cell]["leak"] and not self.train_tau:
            fields["alpha"] = tuple((self.dt / self.time_constants(None)).tolist())
        for name in ("readout", "init", "spectral_radius", "forget_bias"):
            del fields[name]
        options = {option: fields.pop(option) for _, option, _ in VARIANTS.values()}
        for variant, (cell, option, value) in VARIANTS.items():
            if (fields["cell"], options[option]) == (cell, value):
                fields["cell"] = variant
        return fields


def unused(config: Mapping[str, Any]) -> dict[str, Any]:
    """The options that have no effect in a network of this `config`, with their defaults."""
    return {name: getattr(Description, name) for name, needed in NEEDED.items() if not config.get(needed)}


def _check_cell(cell: str, capability: str, option: str, value: Any, neutral: Any) -> None:
    """Raise for an option that needs a capability which the cell lacks, unless it is left `neutral`."""
    lacking = -1 if capability == "keep_gate" else 0
    if value == neutral or CELLS[cell][capability] > lacking:
        return
    having = [name for name, row in CELLS.items() if row[capability] > lacking and name not in VARIANTS]
    wanted = " or ".join(f'"{name}"' for name in having)
    shown = f"{value:g}" if isinstance(value, float) else value
    raise ConfigError(
        f'{option}: expected {neutral} for cell="{cell}", got {shown}.  It is for cell={wanted}.'
    )


def category(value: Any, name: str) -> Category:
    """The number of values of an integer, or with an embedding that and its width."""
    if not isinstance(value, (tuple, list)):
        return integer(value, name, 1, MAX_VALUES)
    if len(value) != 2:
        raise ConfigError(
            f"{name}: expected a number of values, or the pair of that and the width of an embedding, got "
            f"{value!r}.  Example: (24, 4)."
        )
    return integer(value[0], f"{name}[0]", 1, MAX_VALUES), integer(value[1], f"{name}[1]", 1, MAX_VALUES)


def _categories(value: Any, input_size: int) -> tuple[tuple[int, Category], ...]:
    """The columns of x that are integers, the last ones, each with the number of its values."""
    wanted = "a dict from columns of x to their numbers of values, or to pairs of those and a width"
    try:
        pairs = [(column, size) for column, size in (value.items() if isinstance(value, Mapping) else value)]
    except (TypeError, ValueError):
        raise ConfigError(f"categories: expected {wanted}, got {value!r}.  Example: {{0: 100}}.") from None
    if len(pairs) > MAX_CATEGORIES:
        raise ConfigError(f"categories: expected at most {MAX_CATEGORIES} columns, got {len(pairs)}.")
    checked = [
        (integer(column, "categories", 0, None), category(size, f"categories[{column}]"))
        for column, size in pairs
    ]
    checked.sort(key=operator.itemgetter(0))
    last = list(range(input_size - len(checked), input_size))
    if [column for column, _ in checked] != last:
        raise ConfigError(
            f"categories: expected {wanted}, the last columns of the {input_size} (input_size), got "
            f"{value!r}.  Move them behind the columns of numbers."
        )
    return tuple(checked)


def _widths(value: Any, name: str, max_layers: int) -> tuple[int, ...]:
    if not isinstance(value, (tuple, list)):
        raise ConfigError(f"{name}: expected a tuple of widths, got {value!r}.  One layer of 8: {name}=(8,).")
    if len(value) > max_layers:
        raise ConfigError(f"{name}: expected at most {max_layers} layers, got {len(value)}.")
    return tuple(integer(width, f"{name}[{i}]") for i, width in enumerate(value))


def _nonlinearities(description: Description, cell: str, f: tuple[int, ...]) -> tuple[str, ...]:
    """The nonlinearity of each layer of f; none for the gated cells."""
    value = description.nonlinearity
    if not CELLS[cell]["activation"]:
        if value is None or (isinstance(value, (tuple, list)) and not value):
            return ()
        raise ConfigError(
            f'nonlinearity: expected None for cell="{cell}", whose nonlinearities are fixed, got {value!r}.'
        )
    layers = len(f) + 1
    if value is None or isinstance(value, str):
        value = ("tanh" if value is None else value,) * layers
    if not isinstance(value, (tuple, list)) or len(value) != layers:
        got = f"{len(value)}: {value!r}" if isinstance(value, (tuple, list)) else repr(value)
        raise ConfigError(
            f"nonlinearity: expected a name, or {layers} of them, one for each layer of f; got {got}."
        )
    return tuple(choice(name, f"nonlinearity[{i}]", NONLINEARITIES) for i, name in enumerate(value))


def _reals(value: Any, name: str) -> np.ndarray[Any, Any]:
    """A number or several as an array of float64."""
    try:
        array = np.asarray(value)
    except ValueError:  # ragged
        array = np.array(None)
    if array.dtype.kind not in "fiu":
        raise ConfigError(f"{name}: expected a number or a sequence of numbers, got {value!r}.")
    return array.astype(np.float64)


def _dtype_name(value: Any) -> str:
    try:
        name = np.dtype(value).name
    except TypeError:
        name = ""
    if value is None or name not in ("float32", "float64"):
        raise ConfigError(f'dtype: expected "float32" or "float64", got {value!r}.')
    return name


def _init(value: Any) -> Any:
    return value if callable(value) else choice("torch" if value is None else value, "init", get_args(Init))


def _seed(value: Any) -> int:
    return int.from_bytes(os.urandom(6), "little") if value is None else integer(value, "seed", 0, 2**64 - 1)


def sizes(d: Description) -> str:
    return (
        f"input_size={d.input_size}, hidden_size={d.hidden_size}, output_size={d.output_size}"
        + (f", f={d.f}" if d.f else "")
        + (f", head={d.head}" if d.head else "")
    )
