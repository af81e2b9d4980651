"""The optimisers: plain numbers, the arithmetic is in C.  Both follow PyTorch's definitions."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

from .errors import ConfigError, choice, flag, number


@dataclass(frozen=True)
class SGD:
    """Stochastic gradient descent: w <- w - learning_rate g, with g the gradient of the batch or pattern.

    Parameters
    ----------
    learning_rate : float, default 0.01
        Above 0.
    momentum : float, default 0
        In [0, 1).  b <- momentum b + g, and b takes the place of g.
    nesterov : bool, default False
        g + momentum b takes the place of g.  Needs momentum.
    weight_decay : float, default 0
        At least 0; weight_decay w is added to g.

    Raises
    ------
    ConfigError
        If a number is out of its range.

    Examples
    --------
    >>> import bptt_fast as bf
    >>> bf.SGD(0.1, momentum=0.9)
    SGD(learning_rate=0.1, momentum=0.9, nesterov=False, weight_decay=0.0)
    """

    name: ClassVar[str] = "sgd"
    learning_rate: float = 0.01
    momentum: float = field(default=0.0, kw_only=True)
    nesterov: bool = field(default=False, kw_only=True)
    weight_decay: float = field(default=0.0, kw_only=True)

    def __post_init__(self) -> None:
        number(self.learning_rate, "SGD(learning_rate)", 0, open_low=True)
        number(self.momentum, "SGD(momentum)", 0, 1, open_high=True)
        number(self.weight_decay, "SGD(weight_decay)", 0)
        if flag(self.nesterov, "SGD(nesterov)") and self.momentum == 0:
            raise ConfigError(
                "SGD(nesterov): True needs momentum above 0, got momentum=0.  Try momentum=0.9."
            )


@dataclass(frozen=True)
class Adam:
    """Adam with bias correction.

    Parameters
    ----------
    learning_rate : float, default 1e-3
        Above 0.
    beta1, beta2 : float, default 0.9 and 0.999
        Decay of the means of g and of g^2, in [0, 1).
    eps : float, default 1e-8
        Above 0, added to the root of the mean square.
    weight_decay : float, default 0
        At least 0; weight_decay w is added to g (an L2 penalty, not AdamW's decay).

    Raises
    ------
    ConfigError
        If a number is out of its range.

    Notes
    -----
    D. P. Kingma and J. Ba, "Adam: a method for stochastic optimization", 2015.

    Examples
    --------
    >>> import bptt_fast as bf
    >>> bf.Adam(3e-3)
    Adam(learning_rate=0.003, beta1=0.9, beta2=0.999, eps=1e-08, weight_decay=0.0)
    """

    name: ClassVar[str] = "adam"
    learning_rate: float = 1e-3
    beta1: float = field(default=0.9, kw_only=True)
    beta2: float = field(default=0.999, kw_only=True)
    eps: float = field(default=1e-8, kw_only=True)
    weight_decay: float = field(default=0.0, kw_only=True)

    def __post_init__(self) -> None:
        number(self.learning_rate, "Adam(learning_rate)", 0, open_low=True)
        number(self.beta1, "Adam(beta1)", 0, 1, open_high=True)
        number(self.beta2, "Adam(beta2)", 0, 1, open_high=True)
        number(self.eps, "Adam(eps)", 0, open_low=True)
        number(self.weight_decay, "Adam(weight_decay)", 0)


Optimizer = SGD | Adam


def get(optimizer: Any) -> Optimizer:
    """The optimiser itself, or the one of that name with its defaults, or a ConfigError."""
    if isinstance(optimizer, (SGD, Adam)):
        return optimizer
    if isinstance(optimizer, str):
        return {"sgd": SGD, "adam": Adam}[choice(optimizer, "optimizer", ("sgd", "adam"))]()
    raise ConfigError(f"optimizer: expected SGD(...) or Adam(...), got {optimizer!r}.")


def hyper(optimizer: Optimizer, clip_norm: float) -> dict[str, Any]:
    """The numbers the C core wants; it advances "step", the count of updates."""
    numbers = {"momentum": 0.0, "nesterov": False, "beta1": 0.0, "beta2": 0.0, "eps": 0.0} | vars(optimizer)
    return numbers | {"optimizer": optimizer.name, "clip_norm": clip_norm, "step": 0}
