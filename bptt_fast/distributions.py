"""The distributions whose parameters are the outputs of a network, in NumPy.

The parameters of each are those of its loss in csrc/losses.h; outputs p (..., D) are a block for each.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Protocol

import numpy as np

Array = np.ndarray[Any, Any]
SMALLEST = 1e-6  # scale


class Distribution(Protocol):
    """One of each target (..., D)."""

    mean: Array
    std: Array

    def quantile(self, q: float) -> Array:
        """The smallest value that a target does not exceed with probability q, 0 < q < 1."""

    def sample(self, rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
        """Draws of this shape, to which (..., D) can be broadcast."""


def softplus(a: Array) -> Array:
    """log(1 + exp(a)), without overflow."""
    return np.asarray(np.logaddexp(0, a))


class Gaussian:
    def __init__(self, mu: Array, s: Array) -> None:
        self.mean, self.std = mu, softplus(s) + SMALLEST

    def quantile(self, q: float) -> Array:
        from scipy.special import ndtri

        return self.mean + self.std * ndtri(q)

    def sample(self, rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
        return rng.normal(self.mean, self.std, shape)


class Laplace:
    def __init__(self, mu: Array, s: Array) -> None:
        self.mean, self.sigma = mu, softplus(s) + SMALLEST
        self.std = np.sqrt(2) * self.sigma

    def quantile(self, q: float) -> Array:
        return self.mean + self.sigma * (np.log(2 * q) if q < 0.5 else -np.log(2 * (1 - q)))

    def sample(self, rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
        return rng.laplace(self.mean, self.sigma, shape)


class StudentT:
    def __init__(self, mu: Array, s: Array, n: Array) -> None:
        above = softplus(n)
        self.mean, self.sigma, self.nu = mu, softplus(s) + SMALLEST, 2 + above
        with np.errstate(divide="ignore"):  # infinite with 2 degrees of freedom
            self.std = self.sigma * np.sqrt(self.nu / above)

    def quantile(self, q: float) -> Array:
        from scipy.special import stdtrit

        return self.mean + self.sigma * stdtrit(self.nu, q)

    def sample(self, rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
        return self.mean + self.sigma * rng.standard_t(self.nu, shape)


class Poisson:
    def __init__(self, p: Array) -> None:
        with np.errstate(over="ignore"):
            self.mean = np.exp(p)
        self.std = np.sqrt(self.mean)

    def quantile(self, q: float) -> Array:
        from scipy.special import gammainc

        return _of_counts(lambda k: gammainc(k + 1, self.mean), q, self.mean)

    def sample(self, rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
        return rng.poisson(self.mean, shape)


class NegativeBinomial:
    def __init__(self, m: Array, a: Array) -> None:
        self.mean, self.alpha = softplus(m), softplus(a) + SMALLEST
        self.std = np.sqrt(self.mean + self.alpha * self.mean**2)

    def quantile(self, q: float) -> Array:
        from scipy.special import betainc

        u, r = self.alpha * self.mean, 1 / self.alpha
        return _of_counts(lambda k: betainc(k + 1, r, u / (1 + u)), q, self.mean)

    def sample(self, rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
        return rng.poisson(rng.gamma(1 / self.alpha, self.alpha * self.mean, shape))


class Quantiles:
    """Values of some increasing quantiles, between which others are interpolated linearly."""

    increments: ClassVar[bool] = False

    def __init__(self, quantiles: tuple[float, ...], *blocks: Array) -> None:
        self.quantiles = quantiles
        if self.increments:
            self.values = np.cumsum([blocks[0], *map(softplus, blocks[1:])], axis=0)
        else:
            self.values = np.sort(blocks, axis=0)

    def quantile(self, q: float) -> Array:
        """The value of a quantile that is not outside the known ones."""
        at = min(int(np.searchsorted(self.quantiles, q, "right")), len(self.quantiles) - 1)
        if at == 0 or self.quantiles[at] == q:
            return np.asarray(self.values[at])
        low, high = self.quantiles[at - 1 : at + 1]
        share = (q - low) / (high - low)
        return np.asarray((1 - share) * self.values[at - 1] + share * self.values[at])


class OrderedQuantiles(Quantiles):
    increments = True


# the loss whose outputs are the parameters
DISTRIBUTIONS: dict[str, Callable[..., Distribution]] = {
    "gaussian": Gaussian,
    "laplace": Laplace,
    "student_t": StudentT,
    "poisson": Poisson,
    "negative_binomial": NegativeBinomial,
}
QUANTILES: dict[str, type[Quantiles]] = {"pinball": Quantiles, "ordered_pinball": OrderedQuantiles}


def _of_counts(exceeded: Callable[[Array], Array], q: float, mean: Array) -> Array:
    """The smallest count k that is exceeded with a probability of at most 1 - q, by bisection."""
    low, high = np.full(mean.shape, -1.0), np.ceil(mean) + 1
    while (short := exceeded(high) > 1 - q).any():
        low, high = np.where(short, high, low), np.where(short, 2 * high, high)
    while True:
        middle = np.floor(low + (high - low) / 2)
        inside = (low < middle) & (middle < high)
        if not inside.any():
            return high
        short = inside & (exceeded(np.maximum(middle, 0)) > 1 - q)
        low, high = np.where(short, middle, low), np.where(inside & ~short, middle, high)
