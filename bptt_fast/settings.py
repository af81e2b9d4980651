"""Settings of copies of a network: grids and draws of hyperparameters, and the copy with its arguments."""

from __future__ import annotations

import dataclasses
import inspect
import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from . import data, optimizers, unfolding
from .description import Description, unused
from .errors import ConfigError, ShapeError, check_arguments, choice, integer, parameters_of, plain
from .fit import fit
from .machine import CallersIsa

if TYPE_CHECKING:
    from .callbacks import History
    from .network import Network

Setting = dict[str, Any]
Begin = Callable[[Any, dict[str, Any]], Any]  # called with a copy and its arguments of fit

OF_ALL = ("x0", "sample_weight", "lengths", "validation_data", "scaling")  # equal for all copies
OWN = ("epochs", "threads", "verbose")  # arguments of the function that makes the copies


class Varying:
    """The checks and messages of a function that trains copies of a network with settings of their own.

    Parameters
    ----------
    caller : str
        The name of the function.
    records : str
        Where to read what a callback would watch.
    """

    def __init__(self, caller: str, records: str) -> None:
        self.caller = caller
        # arguments of fit that cannot differ between copies, and why
        self.common: dict[str, str] = {name: f"it is an argument of {caller} itself" for name in OWN}
        self.common |= {
            "callbacks": f"a callback watches one fit; {records}",
            "comm": "every copy is trained by one thread; train one network with fit",
            "initial_epoch": "every copy begins with its first epoch",
        }
        self.common |= {name: f"pass it to {caller}, it is the same for all copies" for name in OF_ALL}
        self.common["scaling"] = f"the losses of different scalings cannot be compared; pass it to {caller}"
        self.common["seed"] = "pass seeds=[...]"

    def check_options(
        self, options: Mapping[str, Any], refused: Mapping[str, str], caller: Callable[..., Any]
    ) -> None:
        """Raise for arguments of fit that the function, `caller`, does not accept for all copies."""
        for name in options:
            if name in refused:
                raise ConfigError(f"{name}: {self.caller} does not accept it; {refused[name]}.")
        of_fit = [name for name in fit_parameters() if name not in self.common or name in OF_ALL]
        known = dict.fromkeys([*parameters_of(caller)[:-1], *of_fit])
        check_arguments(self.caller, options, [name for name in known if name not in refused])

    def check_varied(
        self, grid: Any, draws: Any, options: Mapping[str, Any]
    ) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
        """The checked grid and draws, one of which is empty."""
        if grid is not None and draws is not None:
            raise ConfigError(
                "draws: expected None with grid, got both.  Values of a list in draws are drawn at random."
            )
        for name, varied in (("grid", grid), ("draws", draws)):
            if varied is None:
                continue
            if not isinstance(varied, Mapping):
                raise ConfigError(
                    f"{name}: expected a dict of names and values, got {type(varied).__name__}."
                )
            self._check_names(varied, name, options)
        return {} if grid is None else grid, {} if draws is None else draws

    def _check_names(self, varied: Mapping[str, Any], name: str, options: Mapping[str, Any]) -> None:
        """Raise for settings that no network, fit or optimiser has, or that cannot differ."""
        network = [field.name for field in dataclasses.fields(Description) if field.name != "seed"]
        of_fit = [key for key in fit_parameters() if key not in self.common]
        chosen = _optimizer({"optimizer": options.get("optimizer"), "bptt": options.get("bptt")})
        of_optimizer = {field.name for field in dataclasses.fields(chosen)}
        if "optimizer" in varied:
            of_optimizer |= {"learning_rate"}
        for key in varied:
            if key in self.common:
                raise ConfigError(f"{name}: {key!r} cannot be varied; {self.common[key]}.")
            choice(key, f"{name}, name", [*network, *of_fit, *sorted(of_optimizer)])

    def train(
        self, net: Network, seed: int, setting: Setting, what: str, options: Mapping[str, Any], begin: Begin
    ) -> Any:
        """The result of `begin` for a copy of the network, with arguments of fit that have the setting.

        Errors name `what` and the setting.
        """
        try:
            return begin(*copied(net, seed, setting, options))
        except (ConfigError, ShapeError) as error:
            if not setting:
                raise
            values = ", ".join(f"{name}={value!r}" for name, value in setting.items())
            raise type(error)(f"{self.caller}, {what} with {values}: {error}") from None


@dataclasses.dataclass
class Common:
    """What many fits have in common, so that they can run in any process."""

    net: Network
    x: data.Shared
    y: Any
    options: dict[str, Any]

    def elsewhere(self) -> Self:
        """The same for the workers of a backend, which compute the same bits."""
        return dataclasses.replace(self, options=self.options | {"isa": CallersIsa(self.options["isa"])})

    def __getstate__(self) -> dict[str, Any]:
        return vars(self) | {"init": self.net.description.init}  # of a function, a pickled network has none

    def __setstate__(self, state: dict[str, Any]) -> None:
        init = state.pop("init")
        vars(self).update(state)
        self.net.description = dataclasses.replace(self.net.description, init=init)


def copied(
    net: Network, seed: int, setting: Setting, options: Mapping[str, Any]
) -> tuple[Network, dict[str, Any]]:
    """A copy of the network with this seed and setting, and all arguments of fit, for one thread."""
    config = {field.name: getattr(net.description, field.name) for field in dataclasses.fields(Description)}
    own = {name: value for name, value in setting.items() if name in config}
    if "cell" in own or "f" in own:  # nonlinearities depend on the cell
        own = {"nonlinearity": None} | own
    own = unused(config | own) | own  # of the network; those of the setting are refused
    copy = type(net)(**(config | own | {"seed": seed}))
    copy.extra, copy.columns, copy.rules = dict(net.extra), net.columns, net.rules
    defaults = {
        name: parameter.default
        for name, parameter in fit_parameters().items()
        if parameter.default is not inspect.Parameter.empty
    }
    arguments = {**defaults, **options, "threads": 1, "verbose": 0}
    arguments |= {name: value for name, value in setting.items() if name in defaults}
    of_optimizer = {k: v for k, v in setting.items() if k not in config and k not in defaults}
    if of_optimizer:
        _check_fields(_optimizer(arguments), of_optimizer)
        arguments["optimizer"] = dataclasses.replace(_optimizer(arguments), **of_optimizer)
    return copy, arguments


def combinations(grid: Mapping[str, Sequence[Any]]) -> list[Setting]:
    """All combinations of the values of a grid."""
    for key, values in grid.items():
        if not isinstance(values, (list, tuple, np.ndarray)) or len(values) == 0:
            raise ConfigError(f"grid[{key!r}]: expected a list of at least one value, got {values!r}.")
    return [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]


def drawn(draws: Mapping[str, Any], seed: int, n: int) -> list[Setting]:
    """n settings, drawn by the seed."""
    random = np.random.default_rng([seed, 0x64726177])  # "draw"
    sources = {key: _source(value, f"draws[{key!r}]") for key, value in draws.items()}
    return [{key: draw(random) for key, draw in sources.items()} for _ in range(n)]


def check_seeds(seeds: Any, wanted: str = "integers") -> list[int]:
    """The checked seeds."""
    try:
        return [integer(seed, f"seeds[{i}]", 0, 2**64 - 1) for i, seed in enumerate(seeds)]
    except TypeError:
        hint = f"  For {seeds} of them: range({seeds})." if type(seeds) is int else ""
        raise ConfigError(f"seeds: expected a list of {wanted}, got {seeds!r}.{hint}") from None


def shared_validation(options: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments with validation data that are converted once."""
    validation = options.get("validation_data")
    if isinstance(validation, (tuple, list)) and len(validation) in (2, 3):
        return {**options, "validation_data": (data.Shared(validation[0]), *validation[1:])}
    return dict(options)


def fit_parameters() -> dict[str, inspect.Parameter]:
    """The arguments of fit after the data."""
    names = dict(inspect.signature(fit).parameters)
    return {name: names[name] for name in names if name not in ("net", "x", "y")}


def _check_fields(optimizer: optimizers.Optimizer, names: Mapping[str, Any]) -> None:
    """Raise for fields that the optimiser does not have, such as the learning rate of second order."""
    for name in names:
        if name not in {field.name for field in dataclasses.fields(optimizer)}:
            raise ConfigError(
                f"{name}: {type(optimizer).__name__} has none.  Leave it out, or use SGD() or Adam()."
            )


def _optimizer(arguments: Mapping[str, Any]) -> optimizers.Optimizer:
    """The optimiser that `fit` uses for these arguments."""
    chosen = arguments["optimizer"]
    if chosen is None:
        chosen = unfolding.get(arguments["bptt"]).default_optimizer
    return optimizers.get(chosen)


def _source(value: Any, name: str) -> Callable[[np.random.Generator], Any]:
    """A function that draws one value."""
    if hasattr(value, "rvs"):
        return lambda random: plain(value.rvs(random_state=random))
    if callable(value):
        return lambda random: plain(value(random))
    if not isinstance(value, (list, tuple, np.ndarray)) or len(value) == 0:
        raise ConfigError(
            f"{name}: expected a list of values, a distribution with a method rvs, or a function of a "
            f"numpy.random.Generator, got {value!r}."
        )
    return lambda random: plain(value[random.integers(len(value))])


def named_functions(setting: Setting) -> Setting:
    """The setting with the names of functions in place of their addresses."""
    return {key: getattr(value, "__qualname__", value) for key, value in setting.items()}


def losses_of_weights(history: History) -> dict[str, float]:
    """Training and validation loss of the epoch whose weights the network has."""
    columns = [name for name in ("loss", "val_loss") if name in history]
    if not history["epoch"]:
        return dict.fromkeys(columns, math.nan)
    at = -1 if history.best_epoch is None else history["epoch"].index(history.best_epoch)
    return {name: history[name][at] for name in columns}
