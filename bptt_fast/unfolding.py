"""How time is unfolded in training: plain numbers, the arithmetic is in C."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .errors import ConfigError, integer


@dataclass(frozen=True)
class FullBPTT:
    """Minibatches of whole sequences: f is unfolded over all steps, the gradient is exact.

    Examples
    --------
    >>> import bptt_fast as bf
    >>> bf.FullBPTT()
    FullBPTT()
    """


@dataclass(frozen=True)
class SlidingBPTT:
    """The classical online algorithm: a window of `k` steps slides over the series, an update a pattern.

    For each pattern t, f is unfolded `k` times from the context x (the state), one g reads the last state,
    the weight changes of the k instances are summed, the weights are updated, and then the context advances
    one step with the new weights: x <- f(x, a[t]).  No gradient flows into the context.  The loss of a
    pattern is a mean over the O outputs, so with "mse" a learning rate here is O/2 times that of a text that
    propagates the bare error.

    Parameters
    ----------
    k : int
        Depth of unfolding in steps, at least 1.  k = 1 is Elman's original training.
    lead : int, default 1
        The window that starts at step t has the target y[t + k - 1 + lead].  1: the target belongs to the
        step after the window's last; 0: to the last step itself.

    Raises
    ------
    ConfigError
        If `k` is not an integer of at least 1 or `lead` not one of at least 0.

    Notes
    -----
    Described in "Backpropagation through time", Wikipedia; after P. J. Werbos, "Backpropagation through time:
    what it does and how to do it", Proceedings of the IEEE 78 (1990).

    Examples
    --------
    >>> import bptt_fast as bf
    >>> bf.SlidingBPTT(3)
    SlidingBPTT(k=3, lead=1)
    """

    k: int
    lead: int = 1

    def __post_init__(self) -> None:
        object.__setattr__(self, "k", integer(self.k, "SlidingBPTT(k)"))
        object.__setattr__(self, "lead", integer(self.lead, "SlidingBPTT(lead)", 0))


Unfolding = FullBPTT | SlidingBPTT


def get(bptt: Any) -> Unfolding:
    """The unfolding a user asked for; None is FullBPTT()."""
    if bptt is None:
        return FullBPTT()
    if isinstance(bptt, (FullBPTT, SlidingBPTT)):
        return bptt
    raise ConfigError(f"bptt: expected FullBPTT() or SlidingBPTT(k), got {bptt!r}.")
