"""Stopping criteria of training, and restoring of the best weights."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from .errors import ConfigError, flag, integer, number, suggesting
from .interrupts import fill
from .resuming import Resumable

Array = np.ndarray[Any, Any]


@suggesting
@dataclass(frozen=True, kw_only=True, repr=False)
class Stopping:
    """Stopping criteria of a fit, for the argument `patience` of ``Network.fit``.

    All criteria watch the validation loss if there is any, else the training loss.

    Parameters
    ----------
    patience : int, optional
        Stop after this many consecutive epochs without improvement.
    min_delta : float, default 0
        With `patience`: the smallest decrease of the loss that counts as an improvement.
    restore_best : bool, default True
        With `patience`: whether to restore the weights of the best epoch.
    target_loss : float, optional
        Stop after an epoch with a loss of at most this.
    max_seconds : float, optional
        Stop after this time, even within an epoch.

    Raises
    ------
    ConfigError
        If a value is out of range.

    Examples
    --------
    >>> import numpy as np, bptt_fast as bf
    >>> x = np.sin(np.arange(200) / 5).reshape(20, 10, 1)
    >>> net = bf.Network(1, 8, 1, seed=0)
    >>> stopping = bf.Stopping(target_loss=0.1, max_seconds=60)
    >>> history = net.fit(x, x[:, 0], epochs=1000, patience=stopping, verbose=0)
    >>> history.stopped
    'target_loss'
    """

    patience: int | None = None
    min_delta: float = 0.0
    restore_best: bool = True
    target_loss: float | None = None
    max_seconds: float | None = None

    def __post_init__(self) -> None:
        checked = {
            "patience": None if self.patience is None else integer(self.patience, "patience", 1, None),
            "min_delta": number(self.min_delta, "min_delta", 0),
            "restore_best": flag(self.restore_best, "restore_best"),
            "target_loss": None if self.target_loss is None else number(self.target_loss, "target_loss"),
            "max_seconds": None
            if self.max_seconds is None
            else number(self.max_seconds, "max_seconds", 0, open_low=True),
        }
        if checked["min_delta"] and checked["patience"] is None:
            raise ConfigError(
                f"min_delta: expected a patience with it, got patience=None and "
                f"min_delta={checked['min_delta']:g}.  Example: Stopping(patience=5, min_delta=0.001)."
            )
        for name, value in checked.items():
            object.__setattr__(self, name, value)

    def __repr__(self) -> str:
        shown = [
            f"{field.name}={getattr(self, field.name)!r}"
            for field in fields(self)
            if getattr(self, field.name) != field.default
        ]
        return f"Stopping({', '.join(shown)})"


NO_CRITERION = Stopping()


def get(patience: Any) -> Stopping:
    """The criteria for a Stopping, a number of epochs, or None (no criterion)."""
    if patience is None:
        return NO_CRITERION
    if isinstance(patience, Stopping):
        return patience
    try:
        return Stopping(patience=patience)
    except ConfigError:
        raise ConfigError(
            f"patience: expected a number of epochs of at least 1, Stopping(...) or None, got {patience!r}."
        ) from None


class Watch(Resumable):
    """The state of the criteria in one fit, with the best weights so far."""

    kept = ("best", "waited", "best_epoch", "weights")

    def __init__(self, rules: Stopping) -> None:
        self.rules, self.begin = rules, time.perf_counter()
        self.best, self.waited = math.inf, 0
        self.best_epoch: int | None = None
        self.weights: Array | None = None

    @property
    def expired(self) -> bool:
        """Whether `max_seconds` have passed."""
        limit = self.rules.max_seconds
        return limit is not None and self.seconds >= limit

    @property
    def seconds(self) -> float:
        """The duration of the fit so far, without the time between a backup and its restoration."""
        return time.perf_counter() - self.begin

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {"seconds": self.seconds}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict(state)
        self.begin = time.perf_counter() - state["seconds"]

    def after(self, epoch: int, loss: float, params: Array) -> str:
        """The reason to stop after this epoch; "" if there is none."""
        rules = self.rules
        if loss < self.best - rules.min_delta:
            self.best, self.waited = loss, 0
            if rules.restore_best and rules.patience is not None:
                weights = np.empty_like(params)
                fill(weights, params)
                self.best_epoch, self.weights = epoch, weights
        else:
            self.waited += 1
        if rules.target_loss is not None and loss <= rules.target_loss:
            return "target_loss"
        return "patience" if rules.patience is not None and self.waited >= rules.patience else ""

    def restore(self, params: Array) -> int | None:
        """Restore the best weights, if stored; the epoch of these weights."""
        if self.weights is not None:
            params[:] = self.weights
        return self.best_epoch
