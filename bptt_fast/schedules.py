"""Learning-rate schedules, which replace a constant learning rate of an optimiser.

Times are in epochs, including fractions, so that they do not depend on the batch size; rates are evaluated at
every update.  In the formulas k counts updates from 0, u is the number of updates in an
epoch, e = k / u is the time, and r is `learning_rate`, which no rate exceeds.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .errors import (
    AT_LEAST_ONE,
    BELOW_ONE,
    FACTOR,
    NATURAL,
    NONNEGATIVE,
    POSITIVE,
    PROPORTION,
    REDUCTION,
    ConfigError,
    argument,
    check_fields,
    integer,
    number,
    suggesting,
)
from .resuming import Resumable

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Schedule:
    """Abstract base class of the schedules, for ``isinstance``.

    Parameters
    ----------
    learning_rate : float
        The largest learning rate.

    Raises
    ------
    ConfigError
        If the class is Schedule itself, or a value is out of range.

    Examples
    --------
    >>> import bptt_fast as bf
    >>> isinstance(bf.Step(0.1, every=2), bf.Schedule)
    True
    """

    learning_rate: float = field(metadata=POSITIVE)

    def __post_init__(self) -> None:
        if type(self) is Schedule:
            raise ConfigError(
                "Schedule: expected one of Constant, Step, Exponential, Cosine, OneCycle, ReduceOnPlateau."
            )
        check_fields(self)

    def rates(self, epochs: int, updates: int, first: int = 0) -> Array:
        """Learning rates of all updates of a fit, for inspection and plots.

        Parameters
        ----------
        epochs : int
            The final epoch of the fit.
        updates : int
            Updates per epoch.
        first : int, default 0
            The first epoch of the fit.

        Returns
        -------
        rates : ndarray ((epochs - first) * updates,)

        Examples
        --------
        >>> import bptt_fast as bf
        >>> bf.Step(0.1, every=2).rates(epochs=4, updates=1).round(3).tolist()
        [0.1, 0.1, 0.01, 0.01]
        """
        epochs, updates = integer(epochs, "epochs"), integer(updates, "updates")
        first = integer(first, "first", 0, epochs)
        return self._at(np.arange(first * updates, epochs * updates, dtype=np.float64), updates, epochs)

    def _at(self, k: Array, updates: int, epochs: int) -> Array:
        """The rates of the updates `k`."""
        return np.full(k.shape, float(self.learning_rate))


@suggesting
@dataclass(frozen=True)
class Constant(Schedule):
    """Constant rate, equivalent to a plain number.

    Parameters
    ----------
    learning_rate : float
        Above 0.

    Raises
    ------
    ConfigError
        If the rate is out of range.

    Examples
    --------
    >>> import bptt_fast as bf
    >>> bf.SGD(bf.Constant(0.1)).learning_rate
    Constant(learning_rate=0.1)
    """


@suggesting
@dataclass(frozen=True)
class Step(Schedule):
    """Decay in steps, r factor^floor(e / every), as in ``torch.optim.lr_scheduler.StepLR``.

    Parameters
    ----------
    learning_rate : float
        r, the initial rate, above 0.
    every : float
        Epochs between two steps, above 0.
    factor : float, default 0.1
        In (0, 1].

    Raises
    ------
    ConfigError
        If a value is out of range.

    Examples
    --------
    >>> import bptt_fast as bf
    >>> bf.SGD(bf.Step(0.1, every=10)).learning_rate
    Step(learning_rate=0.1, every=10, factor=0.1)
    """

    every: float = field(metadata=POSITIVE)
    factor: float = field(default=0.1, kw_only=True, metadata=FACTOR)

    def _at(self, k: Array, updates: int, epochs: int) -> Array:
        return self.learning_rate * self.factor ** np.floor(k / updates / self.every + 1e-9)


@suggesting
@dataclass(frozen=True)
class Exponential(Schedule):
    """Exponential decay, r factor^e; at whole epochs as ``torch.optim.lr_scheduler.ExponentialLR``.

    Parameters
    ----------
    learning_rate : float
        r, the initial rate, above 0.
    factor : float
        Factor of the rate per epoch, in (0, 1].

    Raises
    ------
    ConfigError
        If a value is out of range.

    Examples
    --------
    >>> import bptt_fast as bf
    >>> bf.Exponential(0.1, 0.5).rates(epochs=3, updates=1).tolist()
    [0.1, 0.05, 0.025]
    """

    factor: float = field(metadata=FACTOR)

    def _at(self, k: Array, updates: int, epochs: int) -> Array:
        return self.learning_rate * self.factor ** (k / updates)


@suggesting
@dataclass(frozen=True)
class Cosine(Schedule):
    """Cosine decay from r to `final` after a linear warm-up.

    With w = round(warmup u) and n = epochs u updates: r (k + 1) / (w + 1) for k < w, and then
    final + (r - final) (1 + cos(pi (k - w) / (n - w))) / 2; `final` from update n on.

    Parameters
    ----------
    learning_rate : float
        r, above 0.
    warmup : float, default 0
        Length of the warm-up in epochs.
    final : float, default 0
        The final rate, from 0 to r.
    epochs : float, optional
        End of the decay, more than `warmup`; default: the `epochs` of the fit.

    Raises
    ------
    ConfigError
        If a value is out of range.

    Notes
    -----
    I. Loshchilov and F. Hutter, "SGDR: stochastic gradient descent with warm restarts", 2017.  Without the
    warm-up it is ``torch.optim.lr_scheduler.CosineAnnealingLR``.

    Examples
    --------
    >>> import bptt_fast as bf
    >>> bf.Cosine(0.1).rates(epochs=4, updates=1).round(3).tolist()
    [0.1, 0.085, 0.05, 0.015]
    """

    warmup: float = field(default=0.0, kw_only=True, metadata=NONNEGATIVE)
    final: float = field(default=0.0, kw_only=True)
    epochs: float | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        number(self.final, argument(self, "final"), 0, self.learning_rate)
        if self.epochs is not None:
            number(self.epochs, argument(self, "epochs"), self.warmup, open_low=True)

    def _at(self, k: Array, updates: int, epochs: int) -> Array:
        w, n = round(self.warmup * updates), round((self.epochs or epochs) * updates)
        part = np.clip((k - w) / max(n - w, 1), 0, 1)
        fall = self.final + (self.learning_rate - self.final) * (1 + np.cos(math.pi * part)) / 2
        return np.where(k < w, self.learning_rate * (k + 1) / (w + 1), fall)


@suggesting
@dataclass(frozen=True)
class OneCycle(Schedule):
    """Cosine rise and longer decay: from r / div_factor to r to r / (div_factor final_div_factor).

    The rise ends at update pct_start n - 1, the fall at update n - 1, with n = epochs u updates.

    Parameters
    ----------
    learning_rate : float
        r, the largest rate, above 0.
    pct_start : float, default 0.3
        Share of the updates in the rise, in [0, 1].
    div_factor : float, default 25
        At least 1.
    final_div_factor : float, default 1e4
        At least 1.
    epochs : float, optional
        End of the decay, above 0; default: the `epochs` of the fit.

    Raises
    ------
    ConfigError
        If a value is out of range.

    Notes
    -----
    L. N. Smith and N. Topin, "Super-convergence: very fast training of neural networks using large learning
    rates", 2017.  The rates are those of ``torch.optim.lr_scheduler.OneCycleLR`` with
    ``cycle_momentum=False``.

    Examples
    --------
    >>> import bptt_fast as bf
    >>> bf.OneCycle(0.1).rates(epochs=10, updates=1).round(3).tolist()
    [0.004, 0.052, 0.1, 0.095, 0.081, 0.061, 0.039, 0.019, 0.005, 0.0]
    """

    pct_start: float = field(default=0.3, kw_only=True, metadata=PROPORTION)
    div_factor: float = field(default=25.0, kw_only=True, metadata=AT_LEAST_ONE)
    final_div_factor: float = field(default=1e4, kw_only=True, metadata=AT_LEAST_ONE)
    epochs: float | None = field(default=None, kw_only=True, metadata=POSITIVE)

    def _at(self, k: Array, updates: int, epochs: int) -> Array:
        end = max(round((self.epochs or epochs) * updates) - 1.0, 0.0)
        top = self.pct_start * (end + 1) - 1
        low = self.learning_rate / self.div_factor

        def between(begin: float, begin_k: float, finish: float, finish_k: float) -> Array:
            part = np.clip((k - begin_k) / (finish_k - begin_k) if finish_k > begin_k else k * 0 + 1, 0, 1)
            return finish + (begin - finish) / 2 * (1 + np.cos(math.pi * part))

        rise = between(low, 0.0, self.learning_rate, top)
        fall = between(self.learning_rate, max(top, 0.0), low / self.final_div_factor, end)
        return np.where(k <= top, rise, fall)


@suggesting
@dataclass(frozen=True)
class ReduceOnPlateau(Schedule):
    """Reduction of the rate by `factor` after epochs without improvement of the loss.

    An improvement is a loss below (1 - threshold) times the best one.  The schedule watches the validation
    loss if there is any, else the training loss.

    Parameters
    ----------
    learning_rate : float
        The initial rate, above 0.
    factor : float, default 0.1
        In (0, 1).
    patience : int, default 10
        Number of consecutive epochs without improvement that do not reduce the rate; the next one does.
    threshold : float, default 1e-4
        In [0, 1).
    cooldown : int, default 0
        Epochs after a reduction that do not count towards `patience`.
    final : float, default 0
        Lower bound of the rate.

    Raises
    ------
    ConfigError
        If a value is out of range.

    Notes
    -----
    The same as ``torch.optim.lr_scheduler.ReduceLROnPlateau`` with its defaults.

    Examples
    --------
    >>> import numpy as np, bptt_fast as bf
    >>> net = bf.Network(1, 4, 1, seed=0)
    >>> slow = bf.SGD(bf.ReduceOnPlateau(0.1, patience=1, threshold=0.9))
    >>> x, y = np.ones((2, 5, 1)), np.array([[0.0], [1.0]])  # the same input, two targets
    >>> history = net.fit(x, y, epochs=4, optimizer=slow, verbose=0)
    >>> [round(rate, 3) for rate in history["learning_rate"]]
    [0.1, 0.1, 0.1, 0.01]
    """

    factor: float = field(default=0.1, kw_only=True, metadata=REDUCTION)
    patience: int = field(default=10, kw_only=True, metadata=NATURAL)
    threshold: float = field(default=1e-4, kw_only=True, metadata=BELOW_ONE)
    cooldown: int = field(default=0, kw_only=True, metadata=NATURAL)
    final: float = field(default=0.0, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        number(self.final, argument(self, "final"), 0, self.learning_rate)


class Rates(Resumable):
    """The state of a schedule in one fit: computes the rates of an epoch, reacts to losses."""

    kept = ("share", "best", "waited", "cooling")

    def __init__(self, schedule: Schedule, epochs: int, updates: int) -> None:
        self.schedule, self.epochs, self.updates = schedule, epochs, updates
        self.share, self.best, self.waited, self.cooling = 1.0, math.inf, 0, 0

    def of(self, epoch: int) -> Array:
        """The rates of the updates of an epoch, counted from 0."""
        k = np.arange(self.updates, dtype=np.float64) + epoch * self.updates
        return self.share * self.schedule._at(k, self.updates, self.epochs)

    def after(self, loss: float) -> None:
        """Update the state with the loss of an epoch."""
        s = self.schedule
        if not isinstance(s, ReduceOnPlateau):
            return
        if loss < self.best * (1 - s.threshold):
            self.best, self.waited = loss, 0
        else:
            self.waited += 1
        if self.cooling:
            self.cooling, self.waited = self.cooling - 1, 0
        if self.waited > s.patience:
            self.share = max(self.share * s.factor, s.final / s.learning_rate)
            self.cooling, self.waited = s.cooldown, 0
