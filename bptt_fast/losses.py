"""The losses by name, and what each expects as targets; the arithmetic is in C.

Per target row, with prediction p and target y: mse, mean over the outputs of (p - y)^2; mae, mean of |p - y|;
huber, mean of e^2/2 where |e| <= 1 and |e| - 1/2 elsewhere, e = p - y; cross_entropy, -log softmax(p)[class];
binary_cross_entropy, mean of log(1 + exp(p)) - y p.  The loss of a batch is the mean over its target rows,
weighted by sample_weight.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .errors import choice


@dataclass(frozen=True)
class Loss:
    """A loss: its name in C, and its targets: "real" numbers, "class" indices or "probability" in [0, 1]."""

    name: str
    targets: str = "real"


LOSSES = {
    loss.name: loss
    for loss in (
        Loss("mse"),
        Loss("mae"),
        Loss("huber"),
        Loss("cross_entropy", "class"),
        Loss("binary_cross_entropy", "probability"),
    )
}


def get(loss: Any) -> Loss:
    """The loss of that name, or a ConfigError."""
    return LOSSES[choice(loss, "loss", tuple(LOSSES))]
