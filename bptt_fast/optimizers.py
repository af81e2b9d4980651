"""The optimisers: plain numbers.  First order follows PyTorch's definitions, its arithmetic is in C."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

from .errors import ConfigError, choice, flag, integer, number


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


@dataclass(frozen=True)
class LBFGS:
    """Limited-memory BFGS on the loss of all sequences, by ``scipy.optimize.minimize``.

    An iteration goes along -B g, with g the gradient and B the inverse of the curvature that the last
    `memory` steps s and changes of the gradient y imply:
    B <- (I - s y'/y's) B (I - y s'/y's) + s s'/y's.  A line search that satisfies the Wolfe conditions gives
    the length of the step.

    Parameters
    ----------
    memory : int, default 10
        Pairs s, y that are kept.
    max_evaluations : int, default 20
        Of loss and gradient in one line search.
    gradient_tolerance : float, default 1e-10
        Above 0.  Training has converged where no entry of g is larger.

    Raises
    ------
    ConfigError
        If a number is out of its range.  In `Network.fit`: with a `batch_size` below the number of sequences,
        since differences of gradients need the same loss each time; with another unfolding than `FullBPTT`,
        with dropout, or with `clip_norm`.

    Notes
    -----
    An epoch of `Network.fit` is an iteration; the arithmetic is in float64 for any dtype of the network.
    ``history.stopped`` is "converged" if no step lowers the loss any more.  The memory lasts for one fit;
    what a callback writes into the parameters is overwritten.

    D. C. Liu and J. Nocedal, "On the limited memory BFGS method for large scale optimization", Mathematical
    Programming 45 (1989).

    Examples
    --------
    >>> import numpy as np, bptt_fast as bf
    >>> x = np.sin(np.arange(200) / 5).reshape(20, 10, 1)
    >>> net = bf.Network(1, 4, 1, seed=0)
    >>> history = net.fit(x[:, :-1], x[:, -1], optimizer=bf.LBFGS(), epochs=30, verbose=0)
    >>> history["loss"][-1] < 0.1 * history["loss"][0]
    True
    """

    memory: int = 10
    max_evaluations: int = field(default=20, kw_only=True)
    gradient_tolerance: float = field(default=1e-10, kw_only=True)

    def __post_init__(self) -> None:
        integer(self.memory, "LBFGS(memory)", 1, 1000)
        integer(self.max_evaluations, "LBFGS(max_evaluations)", 2)
        number(self.gradient_tolerance, "LBFGS(gradient_tolerance)", 0, open_low=True)


@dataclass(frozen=True)
class LevenbergMarquardt:
    """Levenberg-Marquardt: least squares for small networks, with the exact Jacobian through time.

    With a residual r = sqrt(weight) (y - target) for each output of each target row and J = dr/dw, an
    iteration solves (J'J + damping I) d = J'r by Cholesky.  If w - d lowers the loss, the step is made and
    damping <- damping / decrease; if not, damping <- damping * increase, and the same J is tried again.

    Parameters
    ----------
    damping : float, default 3
        Above 0: what to begin with.  Large values make short steps down the gradient, small ones
        Gauss-Newton steps.
    increase, decrease : float, default 3 and 5
        Above 1.  Marquardt's are 10 and 10; finer steps took half as many iterations where it was measured.
    max_damping : float, default 1e10
        Where no step below this damping lowers the loss, training has converged.

    Raises
    ------
    ConfigError
        If a number is out of its range.  In `Network.fit`: with a loss other than "mse", which is no sum of
        squares, with more than 5000 parameters, and where `LBFGS` does.

    Notes
    -----
    An epoch of `Network.fit` is an iteration over all sequences, however many dampings it tries; the
    arithmetic is in float64 for any dtype of the network.  J'J and J'r are summed a few rows of J at a time;
    only where there are fewer residuals than parameters J is kept, and d = J'(J J' + damping I)^-1 r.  An
    iteration takes P^2 numbers of memory and, with N residuals T steps deep, of the order of N T P + N P^2 +
    P^3 operations (where sequences are long and read at every step less: then "elman", "gru" and "lstm" of
    one layer run tangents forwards): made for some hundred parameters.  ``history.stopped`` is "converged" if
    no step lowers the loss any more.

    K. Levenberg, "A method for the solution of certain non-linear problems in least squares", Quarterly of
    Applied Mathematics 2 (1944); D. W. Marquardt, "An algorithm for least-squares estimation of nonlinear
    parameters", Journal of the Society for Industrial and Applied Mathematics 11 (1963).

    Examples
    --------
    >>> import numpy as np, bptt_fast as bf
    >>> x = np.sin(np.arange(200) / 5).reshape(20, 10, 1)
    >>> net = bf.Network(1, 4, 1, seed=0)
    >>> history = net.fit(x[:, :-1], x[:, -1], optimizer=bf.LevenbergMarquardt(), epochs=20, verbose=0)
    >>> history["loss"][-1] < 1e-4
    True
    """

    damping: float = 3.0
    increase: float = field(default=3.0, kw_only=True)
    decrease: float = field(default=5.0, kw_only=True)
    max_damping: float = field(default=1e10, kw_only=True)

    def __post_init__(self) -> None:
        number(self.damping, "LevenbergMarquardt(damping)", 0, open_low=True)
        number(self.increase, "LevenbergMarquardt(increase)", 1, open_low=True)
        number(self.decrease, "LevenbergMarquardt(decrease)", 1, open_low=True)
        number(self.max_damping, "LevenbergMarquardt(max_damping)", 0, open_low=True)
        if self.max_damping < self.damping:
            raise ConfigError(
                f"LevenbergMarquardt(max_damping): expected at least damping={self.damping:g}, got "
                f"{self.max_damping:g}."
            )


@dataclass(frozen=True)
class HessianFree:
    """Hessian-free optimisation: Gauss-Newton steps by conjugate gradients, for networks of any size.

    An iteration looks for the minimum of q(d) = g'd + d'(G + damping I + damping structural_damping S) d / 2
    by conjugate gradients, with g the gradient, G = J' H J the Gauss-Newton matrix (J: outputs by parameters,
    H: loss by outputs) and S = J_h' J_h that of the states of the top layer, all of them means over their
    rows.  Neither is formed: a product costs two runs forward, for the outputs along d, and one gradient.
    The step is the one of the iterates with the least loss.  With rho = (loss(w + d) - loss(w)) / q(d),
    damping grows by 3/2 where rho < 1/4 and shrinks by 2/3 where rho > 3/4.

    Parameters
    ----------
    damping : float, default 0.01
        Above 0: what to begin with.
    structural_damping : float, default 0
        At least 0; keeps the states from changing much at once.
    max_products : int, default 100
        Iterations of the conjugate gradients in one iteration.
    tolerance : float, default 5e-4
        Above 0: they end where q gains less than this share in an iteration, averaged over the last ten.
    warm_start : float, default 0.95
        In [0, 1].  They begin with this share of the last step.
    max_damping : float, default 1e10
        Where no step below this damping lowers the loss, training has converged.

    Raises
    ------
    ConfigError
        If a number is out of its range.  In `Network.fit`: with "mae" and "huber", which have no curvature in
        part of their range, and where `LBFGS` does.

    Notes
    -----
    An epoch of `Network.fit` is an iteration over all sequences; the arithmetic is in float64 for any dtype
    of the network, which the differences along d need.  ``history.stopped`` is "converged" if no step lowers
    the loss any more.

    J. Martens and I. Sutskever, "Learning recurrent neural networks with Hessian-free optimization", ICML
    2011.

    Examples
    --------
    >>> import numpy as np, bptt_fast as bf
    >>> x = np.sin(np.arange(200) / 5).reshape(20, 10, 1)
    >>> net = bf.Network(1, 4, 1, seed=0)
    >>> history = net.fit(x[:, :-1], x[:, -1], optimizer=bf.HessianFree(), epochs=20, verbose=0)
    >>> history["loss"][-1] < 0.01 * history["loss"][0]
    True
    """

    damping: float = 0.01
    structural_damping: float = field(default=0.0, kw_only=True)
    max_products: int = field(default=100, kw_only=True)
    tolerance: float = field(default=5e-4, kw_only=True)
    warm_start: float = field(default=0.95, kw_only=True)
    max_damping: float = field(default=1e10, kw_only=True)

    def __post_init__(self) -> None:
        number(self.damping, "HessianFree(damping)", 0, open_low=True)
        number(self.structural_damping, "HessianFree(structural_damping)", 0)
        integer(self.max_products, "HessianFree(max_products)")
        number(self.tolerance, "HessianFree(tolerance)", 0, open_low=True)
        number(self.warm_start, "HessianFree(warm_start)", 0, 1)
        number(self.max_damping, "HessianFree(max_damping)", 0, open_low=True)
        if self.max_damping < self.damping:
            raise ConfigError(
                f"HessianFree(max_damping): expected at least damping={self.damping:g}, got "
                f"{self.max_damping:g}."
            )


FirstOrder = SGD | Adam
SecondOrder = LBFGS | LevenbergMarquardt | HessianFree
Optimizer = FirstOrder | SecondOrder
NAMES: dict[str, type[Optimizer]] = {
    "sgd": SGD,
    "adam": Adam,
    "lbfgs": LBFGS,
    "levenberg_marquardt": LevenbergMarquardt,
    "hessian_free": HessianFree,
}


def get(optimizer: Any) -> Optimizer:
    """The optimiser itself, or the one of that name with its defaults, or a ConfigError."""
    if isinstance(optimizer, Optimizer):
        return optimizer
    if isinstance(optimizer, str):
        return NAMES[choice(optimizer, "optimizer", tuple(NAMES))]()
    expected = ", ".join(f"{kind.__name__}(...)" for kind in NAMES.values())
    raise ConfigError(f"optimizer: expected one of {expected}, got {optimizer!r}.")


def hyper(optimizer: FirstOrder, clip_norm: float) -> dict[str, Any]:
    """The numbers the C core wants; it advances "step", the count of updates."""
    numbers = {"momentum": 0.0, "nesterov": False, "beta1": 0.0, "beta2": 0.0, "eps": 0.0} | vars(optimizer)
    return numbers | {"optimizer": optimizer.name, "clip_norm": clip_norm, "step": 0}
