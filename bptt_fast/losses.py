"""The losses; their list and arithmetic are in csrc/losses.def and csrc/losses.h.

Per target row, with prediction p and target y: mse, mean over the outputs of (p - y)^2; mae, mean of |p - y|;
huber, mean of e^2/2 where |e| <= delta and delta (|e| - delta/2) elsewhere, e = p - y; cross_entropy,
-log softmax(p)[class]; binary_cross_entropy, mean of log(1 + exp(p)) - y p.  The loss of a batch is the mean
over its target rows, weighted by sample_weight.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

from . import _core  # type: ignore[attr-defined]
from .errors import ConfigError, choice, number

TABLE: dict[str, dict[str, Any]] = _core.losses()


class Loss:
    """A loss with its parameters.

    Parameters
    ----------
    name : {"mse", "mae", "huber", "cross_entropy", "binary_cross_entropy"}
    **parameters : float
        Parameters of the loss: "huber" has delta, default 1, above 0.

    Raises
    ------
    ConfigError
        If there is no such loss or parameter, or a value is out of range.

    Examples
    --------
    >>> import bptt_fast as bf
    >>> net = bf.Network(1, 4, 1, seed=0)
    >>> x, y = [[[0.0], [1.0]]], [[3.0]]
    >>> net.evaluate(x, y, loss=bf.Loss("huber", delta=0.5)) < net.evaluate(x, y, loss="huber")
    True
    >>> bf.Loss("huber")
    Loss('huber', delta=1.0)
    """

    def __init__(self, name: str, **parameters: float) -> None:
        row = TABLE[choice(name, "loss", tuple(TABLE))]
        for parameter in parameters:
            if parameter not in row["parameters"]:
                known = ", ".join(row["parameters"]) or "none"
                raise ConfigError(f'loss: expected parameters of "{name}" ({known}), got {parameter!r}.')
        self.name = name
        self.parameters: dict[str, float] = {}
        for parameter, (initial, low, high) in row["parameters"].items():
            value = parameters.get(parameter, initial)
            label = f"Loss({name!r}, {parameter})"
            self.parameters[parameter] = number(value, label, low, high, open_low=True, open_high=True)
        self.targets: str = row["targets"]  # "real" numbers, "class" indices or "probability" in [0, 1]
        self.least_squares: bool = row["least_squares"]
        self.curved: bool = row["curved"]  # whether its second derivative is known and nonnegative

    @property
    def plain(self) -> Any:
        """The name of the loss, or a dict of name and parameters if these are not the defaults."""
        same = self.parameters == Loss(self.name).parameters if self.parameters else True
        return self.name if same else {"name": self.name, **self.parameters}

    def core(self) -> dict[str, Any]:
        """The loss in the fields of the C core."""
        return {"loss": self.name, "loss_parameter": tuple(self.parameters.values())}

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Loss) and (self.name, self.parameters) == (other.name, other.parameters)

    def __hash__(self) -> int:
        return hash((self.name, *self.parameters.values()))

    def __repr__(self) -> str:
        return f"Loss({', '.join([repr(self.name), *(f'{k}={v}' for k, v in self.parameters.items())])})"


def get(loss: Any) -> Loss:
    """The loss for a Loss, a name or a dict from `Loss.plain`; else raises a ConfigError."""
    if isinstance(loss, Loss):
        return loss
    if isinstance(loss, Mapping) and "name" in loss and all(isinstance(key, str) for key in loss):
        return Loss(**loss)
    return _with_defaults(loss) if isinstance(loss, str) else Loss(loss)


@cache
def _with_defaults(name: str) -> Loss:
    return Loss(name)


def named(**properties: Any) -> tuple[str, ...]:
    """Names of the losses with these properties."""
    return tuple(k for k, row in TABLE.items() if all(row[p] == v for p, v in properties.items()))
