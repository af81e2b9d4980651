"""The optimisers: plain numbers; first order's arithmetic is in C, and has PyTorch's formulas and defaults.

In the formulas w is a weight, g the gradient of the batch or pattern (clipped, if it is clipped), t counts
updates from 1, and r is the learning rate.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar, get_args

from .errors import ConfigError, choice, flag, integer, number, plain_fields
from .schedules import Schedule


def _check_rate(optimizer: Any) -> None:
    if not isinstance(optimizer.learning_rate, Schedule):
        number(optimizer.learning_rate, _name(optimizer, "learning_rate"), 0, open_low=True)


def _check_decay(optimizer: Any) -> None:
    number(optimizer.weight_decay, _name(optimizer, "weight_decay"), 0)
    flag(optimizer.decay_biases, _name(optimizer, "decay_biases"))


def _check_shares(optimizer: Any, *names: str) -> None:
    """Numbers in [0, 1)."""
    for name in names:
        number(getattr(optimizer, name), _name(optimizer, name), 0, 1, open_high=True)


def _check_eps(optimizer: Any) -> None:
    number(optimizer.eps, _name(optimizer, "eps"), 0, open_low=True)


def _name(optimizer: Any, argument: str) -> str:
    return f"{type(optimizer).__name__}({argument})"


@dataclass(frozen=True)
class SGD:
    """Stochastic gradient descent: w <- w - r g.

    Parameters
    ----------
    learning_rate : float or schedule, default 0.01
        r, above 0, or a schedule such as ``Cosine(0.01)``.
    momentum : float, default 0
        In [0, 1).  b <- momentum b + g, and b takes the place of g.
    nesterov : bool, default False
        g + momentum b takes the place of g.  Needs momentum.
    weight_decay : float, default 0
        At least 0; weight_decay w is added to g.
    decay_biases : bool, default True
        Whether that goes for the biases too.

    Raises
    ------
    ConfigError
        If a number is out of its range.

    Examples
    --------
    >>> import bptt_fast as bf
    >>> bf.SGD(0.1, momentum=0.9)
    SGD(learning_rate=0.1, momentum=0.9, nesterov=False, weight_decay=0.0, decay_biases=True)
    """

    name: ClassVar[str] = "sgd"
    learning_rate: float | Schedule = 0.01
    momentum: float = field(default=0.0, kw_only=True)
    nesterov: bool = field(default=False, kw_only=True)
    weight_decay: float = field(default=0.0, kw_only=True)
    decay_biases: bool = field(default=True, kw_only=True)

    def __post_init__(self) -> None:
        plain_fields(self)
        _check_rate(self)
        _check_shares(self, "momentum")
        _check_decay(self)
        if flag(self.nesterov, "SGD(nesterov)") and self.momentum == 0:
            raise ConfigError(
                "SGD(nesterov): True needs momentum above 0, got momentum=0.  Try momentum=0.9."
            )


@dataclass(frozen=True)
class Adam:
    """Adam with bias correction: w <- w - r (m / (1 - beta1^t)) / (sqrt(v / (1 - beta2^t)) + eps).

    m <- beta1 m + (1 - beta1) g and v <- beta2 v + (1 - beta2) g^2, both from zero.

    Parameters
    ----------
    learning_rate : float or schedule, default 1e-3
        r, above 0, or a schedule such as ``Cosine(0.01)``.
    beta1, beta2 : float, default 0.9 and 0.999
        In [0, 1).
    eps : float, default 1e-8
        Above 0.
    weight_decay : float, default 0
        At least 0; weight_decay w is added to g (an L2 penalty, not AdamW's decay).
    decay_biases : bool, default True
        Whether that goes for the biases too.

    Raises
    ------
    ConfigError
        If a number is out of its range.

    Notes
    -----
    Diederik P. Kingma and J. Ba, "Adam: a method for stochastic optimization", 2015.

    Examples
    --------
    >>> import bptt_fast as bf
    >>> bf.Adam(3e-3)
    Adam(learning_rate=0.003, beta1=0.9, beta2=0.999, eps=1e-08, weight_decay=0.0, decay_biases=True)
    """

    name: ClassVar[str] = "adam"
    learning_rate: float | Schedule = 1e-3
    beta1: float = field(default=0.9, kw_only=True)
    beta2: float = field(default=0.999, kw_only=True)
    eps: float = field(default=1e-8, kw_only=True)
    weight_decay: float = field(default=0.0, kw_only=True)
    decay_biases: bool = field(default=True, kw_only=True)

    def __post_init__(self) -> None:
        plain_fields(self)
        _check_rate(self)
        _check_shares(self, "beta1", "beta2")
        _check_eps(self)
        _check_decay(self)


@dataclass(frozen=True)
class AdamW(Adam):
    """Adam with decoupled weight decay: w <- w - r weight_decay w, and then Adam's step without a penalty.

    Parameters
    ----------
    learning_rate : float or schedule, default 1e-3
        r, above 0, or a schedule such as ``Cosine(0.01)``.
    beta1, beta2, eps : float, default 0.9, 0.999 and 1e-8
        As in `Adam`.
    weight_decay : float, default 0.01
        At least 0; of the weight itself, as said above.
    decay_biases : bool, default True
        Whether that goes for the biases too.

    Raises
    ------
    ConfigError
        If a number is out of its range.

    Notes
    -----
    Ilya Loshchilov and F. Hutter, "Decoupled weight decay regularization", 2019.

    Examples
    --------
    >>> import bptt_fast as bf
    >>> bf.AdamW(3e-3, decay_biases=False).weight_decay
    0.01
    """

    name: ClassVar[str] = "adamw"
    weight_decay: float = field(default=0.01, kw_only=True)


@dataclass(frozen=True)
class NAdam:
    """Adam with Nesterov's momentum, which is warmed up.

    m and v as in `Adam`; with mu_t = beta1 (1 - 0.96^(t momentum_decay) / 2) and P_t = mu_1 ... mu_t:
    w <- w - r ((1 - mu_t) / (1 - P_t) g + mu_(t+1) / (1 - P_(t+1)) m) / (sqrt(v / (1 - beta2^t)) + eps).

    Parameters
    ----------
    learning_rate : float or schedule, default 2e-3
        r, above 0, or a schedule such as ``Cosine(0.01)``.
    beta1, beta2, eps : float, default 0.9, 0.999 and 1e-8
        As in `Adam`.
    momentum_decay : float, default 4e-3
        At least 0.
    weight_decay : float, default 0
        At least 0; weight_decay w is added to g.
    decay_biases : bool, default True
        Whether that goes for the biases too.

    Raises
    ------
    ConfigError
        If a number is out of its range.

    Notes
    -----
    Timothy Dozat, "Incorporating Nesterov momentum into Adam", 2016.

    Examples
    --------
    >>> import bptt_fast as bf
    >>> bf.NAdam().momentum_decay
    0.004
    """

    name: ClassVar[str] = "nadam"
    learning_rate: float | Schedule = 2e-3
    beta1: float = field(default=0.9, kw_only=True)
    beta2: float = field(default=0.999, kw_only=True)
    eps: float = field(default=1e-8, kw_only=True)
    momentum_decay: float = field(default=4e-3, kw_only=True)
    weight_decay: float = field(default=0.0, kw_only=True)
    decay_biases: bool = field(default=True, kw_only=True)

    def __post_init__(self) -> None:
        plain_fields(self)
        _check_rate(self)
        _check_shares(self, "beta1", "beta2")
        _check_eps(self)
        number(self.momentum_decay, "NAdam(momentum_decay)", 0)
        _check_decay(self)


@dataclass(frozen=True)
class RMSprop:
    """The gradient over its root mean square: w <- w - r g / (sqrt(v) + eps), v <- alpha v + (1 - alpha) g^2.

    Parameters
    ----------
    learning_rate : float or schedule, default 0.01
        r, above 0, or a schedule such as ``Cosine(0.01)``.
    alpha : float, default 0.99
        In [0, 1).
    eps : float, default 1e-8
        Above 0.
    momentum : float, default 0
        In [0, 1).  b <- momentum b + g / (sqrt(v) + eps), and w <- w - r b.
    centered : bool, default False
        v less the square of the mean of g (with the same alpha) takes the place of v.
    weight_decay : float, default 0
        At least 0; weight_decay w is added to g.
    decay_biases : bool, default True
        Whether that goes for the biases too.

    Raises
    ------
    ConfigError
        If a number is out of its range.

    Notes
    -----
    T. Tieleman and G. Hinton, lecture 6.5 of "Neural networks for machine learning", 2012; centered: A.
    Graves, "Generating sequences with recurrent neural networks", 2013.

    Examples
    --------
    >>> import bptt_fast as bf
    >>> bf.RMSprop(1e-3, momentum=0.9).alpha
    0.99
    """

    name: ClassVar[str] = "rmsprop"
    learning_rate: float | Schedule = 0.01
    alpha: float = field(default=0.99, kw_only=True)
    eps: float = field(default=1e-8, kw_only=True)
    momentum: float = field(default=0.0, kw_only=True)
    centered: bool = field(default=False, kw_only=True)
    weight_decay: float = field(default=0.0, kw_only=True)
    decay_biases: bool = field(default=True, kw_only=True)

    def __post_init__(self) -> None:
        plain_fields(self)
        _check_rate(self)
        _check_shares(self, "alpha", "momentum")
        _check_eps(self)
        flag(self.centered, "RMSprop(centered)")
        _check_decay(self)


@dataclass(frozen=True)
class Adagrad:
    """The gradient over the root of the sum of all its squares: w <- w - r g / (sqrt(v) + eps), v <- v + g^2.

    v begins at `initial_accumulator`, and r / (1 + (t - 1) rate_decay) takes the place of r.

    Parameters
    ----------
    learning_rate : float or schedule, default 0.01
        r, above 0, or a schedule such as ``Cosine(0.01)``.
    rate_decay, initial_accumulator : float, default 0
        At least 0.
    eps : float, default 1e-10
        Above 0.
    weight_decay : float, default 0
        At least 0; weight_decay w is added to g.
    decay_biases : bool, default True
        Whether that goes for the biases too.

    Raises
    ------
    ConfigError
        If a number is out of its range.

    Notes
    -----
    J. Duchi, E. Hazan and Y. Singer, "Adaptive subgradient methods for online learning and stochastic
    optimization", 2011.

    Examples
    --------
    >>> import bptt_fast as bf
    >>> bf.Adagrad(0.1).eps
    1e-10
    """

    name: ClassVar[str] = "adagrad"
    learning_rate: float | Schedule = 0.01
    rate_decay: float = field(default=0.0, kw_only=True)
    initial_accumulator: float = field(default=0.0, kw_only=True)
    eps: float = field(default=1e-10, kw_only=True)
    weight_decay: float = field(default=0.0, kw_only=True)
    decay_biases: bool = field(default=True, kw_only=True)

    def __post_init__(self) -> None:
        plain_fields(self)
        _check_rate(self)
        number(self.rate_decay, "Adagrad(rate_decay)", 0)
        number(self.initial_accumulator, "Adagrad(initial_accumulator)", 0)
        _check_eps(self)
        _check_decay(self)


@dataclass(frozen=True)
class Rprop:
    """iRprop+: only the sign of the gradient counts, and each weight has a step d of its own.

    Where g has the sign it had before, d grows by eta_plus, and w <- w - sign(g) d.  Where the sign has
    turned, d shrinks by eta_minus, g counts as zero in the next comparison, and the last step of this weight
    is taken back if the loss has become worse.  Where g or the last one is zero, w <- w - sign(g) d.

    Meant for the gradient of all data: give ``batch_size=len(x)``.

    Parameters
    ----------
    learning_rate : float, default 0.01
        The first step of all weights, from step_min to step_max.
    eta_minus, eta_plus : float, default 0.5 and 1.2
        In (0, 1), and above 1.
    step_min, step_max : float, default 1e-6 and 50
        The limits of d, above 0.
    backtrack : bool, default True
        False: no step is ever taken back, as in ``torch.optim.Rprop``.

    Raises
    ------
    ConfigError
        If a number is out of its range, or the learning rate is a schedule: the steps adapt by themselves.

    Notes
    -----
    M. Riedmiller and H. Braun, "A direct adaptive method for faster backpropagation learning: the RPROP
    algorithm", 1993; C. Igel and M. Huesken, "Empirical evaluation of the improved Rprop learning
    algorithms", Neurocomputing 50 (2003).

    Examples
    --------
    >>> import bptt_fast as bf
    >>> bf.Rprop()
    Rprop(learning_rate=0.01, eta_minus=0.5, eta_plus=1.2, step_min=1e-06, step_max=50.0, backtrack=True)
    """

    name: ClassVar[str] = "rprop"
    learning_rate: float = 0.01
    eta_minus: float = field(default=0.5, kw_only=True)
    eta_plus: float = field(default=1.2, kw_only=True)
    step_min: float = field(default=1e-6, kw_only=True)
    step_max: float = field(default=50.0, kw_only=True)
    backtrack: bool = field(default=True, kw_only=True)

    def __post_init__(self) -> None:
        plain_fields(self)
        number(self.eta_minus, "Rprop(eta_minus)", 0, 1, open_low=True, open_high=True)
        number(self.eta_plus, "Rprop(eta_plus)", 1, open_low=True)
        number(self.step_min, "Rprop(step_min)", 0, open_low=True)
        number(self.step_max, "Rprop(step_max)", self.step_min)
        flag(self.backtrack, "Rprop(backtrack)")
        if isinstance(self.learning_rate, Schedule):
            raise ConfigError(
                f"Rprop(learning_rate): expected a number, got {self.learning_rate!r}.  Its steps adapt by "
                "themselves; it is the first one."
            )
        number(self.learning_rate, "Rprop(learning_rate)", self.step_min, self.step_max)


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
        plain_fields(self)
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
        plain_fields(self)
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
        plain_fields(self)
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


FirstOrder = SGD | Adam | AdamW | NAdam | RMSprop | Adagrad | Rprop
SecondOrder = LBFGS | LevenbergMarquardt | HessianFree
Optimizer = FirstOrder | SecondOrder
OPTIMIZERS: dict[str, type[FirstOrder]] = {kind.name: kind for kind in get_args(FirstOrder)}
NAMES: dict[str, type[Optimizer]] = {
    **OPTIMIZERS,
    "lbfgs": LBFGS,
    "levenberg_marquardt": LevenbergMarquardt,
    "hessian_free": HessianFree,
}


def get(optimizer: Any, name: str = "optimizer") -> Optimizer:
    """The optimiser itself, or the one of that name with its defaults, or a ConfigError that names `name`."""
    if isinstance(optimizer, Optimizer):
        return optimizer
    if isinstance(optimizer, str):
        return NAMES[choice(optimizer, name, tuple(NAMES))]()
    names = ", ".join(f"{kind.__name__}(...)" for kind in NAMES.values())
    raise ConfigError(f"{name}: expected one of {names}, or a name, got {optimizer!r}.")


def hyper(optimizer: FirstOrder, **clipping: Any) -> dict[str, Any]:
    """The numbers the C core wants; it advances "step", the count of updates, and what else it keeps."""
    numbers = {"optimizer": optimizer.name, "step": 0} | vars(optimizer) | clipping
    numbers["no_bias_decay"] = not numbers.pop("decay_biases", True)
    if isinstance(optimizer, RMSprop):
        numbers["beta2"] = numbers.pop("alpha")
    if isinstance(optimizer.learning_rate, Schedule):
        numbers["learning_rate"] = optimizer.learning_rate.learning_rate
    return numbers
