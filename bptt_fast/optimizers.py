"""The optimisers of first order, and the table of all; formulas and defaults are PyTorch's.

In the formulas w is a weight, g the gradient of the batch or pattern (after clipping and noise), t counts
updates from 1, and r is the learning rate.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, ClassVar

from .errors import (
    ABOVE_ONE,
    BELOW_ONE,
    BOOLEAN,
    NONNEGATIVE,
    POSITIVE,
    REDUCTION,
    ConfigError,
    argument,
    check_fields,
    choice,
    number,
    suggesting,
)
from .schedules import Rates, Schedule
from .second_order import LBFGS, HessianFree, LevenbergMarquardt, SecondOrder

if TYPE_CHECKING:
    from .losses import Loss
    from .model import Model
    from .runners import Job, Runner
    from .unfolding import Unfolding


@dataclass(frozen=True, kw_only=True, repr=False)
class FirstOrder:
    """Base class of the optimisers of first order: clipping and noise of the gradient before a step.

    Parameters
    ----------
    learning_rate : float or schedule
        r, above 0, or a schedule such as ``Cosine(0.01)``.
    clip_norm : float, optional
        Upper bound, above 0, of the gradient's norm over all parameters; larger gradients are scaled down.
    clip_value : float, optional
        Bound, above 0; each element of the gradient is then clipped to +-clip_value.
    clip_state : float, optional
        Bound, above 0; the backward pass clips dLoss/dh of each state to +-clip_state at each step.
    gradient_noise : float, default 0
        eta, at least 0: Gaussian noise of variance eta / (1 + t)^0.55 is added to the clipped gradient of
        update t, counted from 0.  It depends only on the network's seed, t and the parameter.

    Raises
    ------
    ConfigError
        If a value is out of range.

    Notes
    -----
    clip_norm, clip_state: R. Pascanu, T. Mikolov and Y. Bengio, "On the difficulty of training recurrent
    neural networks", 2013; A. Graves, "Generating sequences with recurrent neural networks", 2013.
    gradient_noise: A. Neelakantan et al., "Adding gradient noise improves learning for very deep networks",
    2015, with eta from 0.01 to 1.

    Examples
    --------
    >>> import bptt_fast as bf
    >>> bf.Adam(3e-3, clip_norm=1.0)
    Adam(learning_rate=0.003, clip_norm=1.0)
    """

    name: ClassVar[str]
    full_batch: ClassVar[bool] = False
    core_names: ClassVar[dict[str, str]] = {}  # fields with another name in the core
    learning_rate: float | Schedule = 0.01
    clip_norm: float | None = field(default=None, metadata=POSITIVE)
    clip_value: float | None = field(default=None, metadata=POSITIVE)
    clip_state: float | None = field(default=None, metadata=POSITIVE)
    gradient_noise: float = field(default=0.0, metadata=NONNEGATIVE)

    def __post_init__(self) -> None:
        check_fields(self)
        self._check_rate()

    def _check_rate(self) -> None:
        if self.schedule is None:
            number(self.learning_rate, argument(self, "learning_rate"), 0, open_low=True)

    def __repr__(self) -> str:
        shown = [
            f"{f.name}={getattr(self, f.name)!r}"
            for f in sorted(fields(self), key=lambda f: bool(f.kw_only))
            if f.name == "learning_rate" or getattr(self, f.name) != f.default
        ]
        return f"{type(self).__name__}({', '.join(shown)})"

    def hyper(self, noise_seed: int = 0) -> dict[str, Any]:
        """Hyperparameters in the fields of the core, and the counters that the core advances."""
        hyper = dict(vars(self))
        for name, core_name in self.core_names.items():
            hyper[core_name] = hyper.pop(name)
        for name in ("clip_norm", "clip_value", "clip_state"):
            hyper[name] = hyper[name] or 0.0
        hyper["noise"] = hyper.pop("gradient_noise")
        hyper["no_bias_decay"] = not hyper.pop("decay_biases", True)
        if self.schedule is not None:
            hyper["learning_rate"] = self.schedule.learning_rate
        hyper["optimizer"], hyper["step"], hyper["noise_seed"] = self.name, 0, noise_seed
        return hyper

    def check_hyper(self, hyper: Mapping[str, Any]) -> None:
        """Raise a ConfigError for a hyperparameter that a callback has set to a value without sense."""
        for name in ("learning_rate", "noise"):  # a rate of 0 stops the training
            number(hyper[name], f"hyper[{name!r}]", 0)
        for one in fields(self):
            name = self.core_names.get(one.name, one.name)
            off = name.startswith("clip_") and hyper[name] == 0
            if "check" in one.metadata and name in hyper and not off:
                one.metadata["check"](hyper[name], f"hyper[{name!r}]")

    def rates(self, epochs: int, updates: int) -> Rates | None:
        """The learning rates of the updates if they follow a schedule, else None."""
        return None if self.schedule is None else Rates(self.schedule, epochs, updates)

    @property
    def schedule(self) -> Schedule | None:
        """The schedule of the learning rate, if there is one."""
        return self.learning_rate if isinstance(self.learning_rate, Schedule) else None

    def check(self, net: Model, loss: Loss, unfold: Unfolding, stateful: Any, teacher_forcing: Any) -> None:
        """Raise unless the optimiser can train the network; first order always can."""

    def runner(self, job: Job) -> Runner:
        """The runner of the epochs of a fit."""
        return job.unfold.runner(job)


@suggesting
@dataclass(frozen=True, repr=False)
class SGD(FirstOrder):
    """Stochastic gradient descent: w <- w - r g.

    Parameters
    ----------
    learning_rate : float or schedule, default 0.01
        r, above 0, or a schedule such as ``Cosine(0.01)``.
    momentum : float, default 0
        In [0, 1).  b <- momentum b + g replaces g.
    nesterov : bool, default False
        Whether g + momentum b replaces g.  Needs momentum.
    weight_decay : float, default 0
        At least 0; weight_decay w is added to g.
    decay_biases : bool, default True
        Whether `weight_decay` applies to biases too.
    clip_norm, clip_value, clip_state, gradient_noise : float, optional
        See `FirstOrder`.

    Raises
    ------
    ConfigError
        If a value is out of range.

    Examples
    --------
    >>> import bptt_fast as bf
    >>> bf.SGD(0.1, momentum=0.9)
    SGD(learning_rate=0.1, momentum=0.9)
    """

    name: ClassVar[str] = "sgd"
    learning_rate: float | Schedule = 0.01
    momentum: float = field(default=0.0, kw_only=True, metadata=BELOW_ONE)
    nesterov: bool = field(default=False, kw_only=True, metadata=BOOLEAN)
    weight_decay: float = field(default=0.0, kw_only=True, metadata=NONNEGATIVE)
    decay_biases: bool = field(default=True, kw_only=True, metadata=BOOLEAN)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.nesterov and self.momentum == 0:
            raise ConfigError(
                "SGD(nesterov): True needs momentum above 0, got momentum=0.  Try momentum=0.9."
            )


@suggesting
@dataclass(frozen=True, repr=False)
class Adam(FirstOrder):
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
        Whether `weight_decay` applies to biases too.
    clip_norm, clip_value, clip_state, gradient_noise : float, optional
        See `FirstOrder`.

    Raises
    ------
    ConfigError
        If a value is out of range.

    Notes
    -----
    Diederik P. Kingma and J. Ba, "Adam: a method for stochastic optimization", 2015.

    Examples
    --------
    >>> import bptt_fast as bf
    >>> bf.Adam(3e-3)
    Adam(learning_rate=0.003)
    """

    name: ClassVar[str] = "adam"
    learning_rate: float | Schedule = 1e-3
    beta1: float = field(default=0.9, kw_only=True, metadata=BELOW_ONE)
    beta2: float = field(default=0.999, kw_only=True, metadata=BELOW_ONE)
    eps: float = field(default=1e-8, kw_only=True, metadata=POSITIVE)
    weight_decay: float = field(default=0.0, kw_only=True, metadata=NONNEGATIVE)
    decay_biases: bool = field(default=True, kw_only=True, metadata=BOOLEAN)


@suggesting
@dataclass(frozen=True, repr=False)
class AdamW(Adam):
    """Adam with decoupled weight decay: w <- w - r weight_decay w, and then Adam's step without a penalty.

    Parameters
    ----------
    learning_rate : float or schedule, default 1e-3
        r, above 0, or a schedule such as ``Cosine(0.01)``.
    beta1, beta2, eps : float, default 0.9, 0.999 and 1e-8
        As in `Adam`.
    weight_decay : float, default 0.01
        At least 0; decay of the weight itself.
    decay_biases : bool, default True
        Whether `weight_decay` applies to biases too.
    clip_norm, clip_value, clip_state, gradient_noise : float, optional
        See `FirstOrder`.

    Raises
    ------
    ConfigError
        If a value is out of range.

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
    weight_decay: float = field(default=0.01, kw_only=True, metadata=NONNEGATIVE)


@suggesting
@dataclass(frozen=True, repr=False)
class NAdam(FirstOrder):
    """Adam with Nesterov momentum and a warm-up of the momentum.

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
        Whether `weight_decay` applies to biases too.
    clip_norm, clip_value, clip_state, gradient_noise : float, optional
        See `FirstOrder`.

    Raises
    ------
    ConfigError
        If a value is out of range.

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
    beta1: float = field(default=0.9, kw_only=True, metadata=BELOW_ONE)
    beta2: float = field(default=0.999, kw_only=True, metadata=BELOW_ONE)
    eps: float = field(default=1e-8, kw_only=True, metadata=POSITIVE)
    momentum_decay: float = field(default=4e-3, kw_only=True, metadata=NONNEGATIVE)
    weight_decay: float = field(default=0.0, kw_only=True, metadata=NONNEGATIVE)
    decay_biases: bool = field(default=True, kw_only=True, metadata=BOOLEAN)


@suggesting
@dataclass(frozen=True, repr=False)
class RMSprop(FirstOrder):
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
        Whether v minus the square of the moving average of g (with the same alpha) replaces v.
    weight_decay : float, default 0
        At least 0; weight_decay w is added to g.
    decay_biases : bool, default True
        Whether `weight_decay` applies to biases too.
    clip_norm, clip_value, clip_state, gradient_noise : float, optional
        See `FirstOrder`.

    Raises
    ------
    ConfigError
        If a value is out of range.

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
    core_names: ClassVar[dict[str, str]] = {"alpha": "beta2"}
    learning_rate: float | Schedule = 0.01
    alpha: float = field(default=0.99, kw_only=True, metadata=BELOW_ONE)
    eps: float = field(default=1e-8, kw_only=True, metadata=POSITIVE)
    momentum: float = field(default=0.0, kw_only=True, metadata=BELOW_ONE)
    centered: bool = field(default=False, kw_only=True, metadata=BOOLEAN)
    weight_decay: float = field(default=0.0, kw_only=True, metadata=NONNEGATIVE)
    decay_biases: bool = field(default=True, kw_only=True, metadata=BOOLEAN)


@suggesting
@dataclass(frozen=True, repr=False)
class Adagrad(FirstOrder):
    """The gradient over the root of the sum of all its squares: w <- w - r g / (sqrt(v) + eps), v <- v + g^2.

    v starts at `initial_accumulator`, and r / (1 + (t - 1) rate_decay) replaces r.

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
        Whether `weight_decay` applies to biases too.
    clip_norm, clip_value, clip_state, gradient_noise : float, optional
        See `FirstOrder`.

    Raises
    ------
    ConfigError
        If a value is out of range.

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
    rate_decay: float = field(default=0.0, kw_only=True, metadata=NONNEGATIVE)
    initial_accumulator: float = field(default=0.0, kw_only=True, metadata=NONNEGATIVE)
    eps: float = field(default=1e-10, kw_only=True, metadata=POSITIVE)
    weight_decay: float = field(default=0.0, kw_only=True, metadata=NONNEGATIVE)
    decay_biases: bool = field(default=True, kw_only=True, metadata=BOOLEAN)


@suggesting
@dataclass(frozen=True, repr=False)
class Rprop(FirstOrder):
    """iRprop+: steps by the sign of the gradient, with an individual step size d per weight.

    If g keeps its sign, d grows by eta_plus, and w <- w - sign(g) d.  If the sign changes, d shrinks by
    eta_minus, g counts as zero in the next comparison, and the last step of this weight is reverted if the
    loss has increased.  If g or the previous g is zero, w <- w - sign(g) d.

    Rprop needs the gradient of all data: use ``batch_size=len(x)``.

    Parameters
    ----------
    learning_rate : float, default 0.01
        The initial step size of all weights, from step_min to step_max.
    eta_minus, eta_plus : float, default 0.5 and 1.2
        In (0, 1), and above 1.
    step_min, step_max : float, default 1e-6 and 50
        Bounds of d, above 0.
    backtrack : bool, default True
        Whether steps can be reverted; False as in ``torch.optim.Rprop``.
    clip_norm, clip_value, clip_state, gradient_noise : float, optional
        See `FirstOrder`.

    Raises
    ------
    ConfigError
        If a value is out of range, or the learning rate is a schedule: step sizes adapt by themselves.

    Notes
    -----
    M. Riedmiller and H. Braun, "A direct adaptive method for faster backpropagation learning: the RPROP
    algorithm", 1993; C. Igel and M. Huesken, "Empirical evaluation of the improved Rprop learning
    algorithms", Neurocomputing 50 (2003).

    Examples
    --------
    >>> import bptt_fast as bf
    >>> bf.Rprop()
    Rprop(learning_rate=0.01)
    """

    name: ClassVar[str] = "rprop"
    learning_rate: float = 0.01
    eta_minus: float = field(default=0.5, kw_only=True, metadata=REDUCTION)
    eta_plus: float = field(default=1.2, kw_only=True, metadata=ABOVE_ONE)
    step_min: float = field(default=1e-6, kw_only=True, metadata=POSITIVE)
    step_max: float = field(default=50.0, kw_only=True)
    backtrack: bool = field(default=True, kw_only=True, metadata=BOOLEAN)

    def _check_rate(self) -> None:
        number(self.step_max, "Rprop(step_max)", self.step_min)
        if self.schedule is not None:
            raise ConfigError(
                f"Rprop(learning_rate): expected a number, got {self.learning_rate!r}.  It is the initial "
                "step size, which adapts by itself."
            )
        number(self.learning_rate, "Rprop(learning_rate)", self.step_min, self.step_max)


Optimizer = FirstOrder | SecondOrder
OPTIMIZERS: dict[str, type[FirstOrder]] = {
    kind.name: kind for kind in (SGD, Adam, AdamW, NAdam, RMSprop, Adagrad, Rprop)
}
NAMES: dict[str, type[Optimizer]] = {
    **OPTIMIZERS,
    **{kind.name: kind for kind in (LBFGS, LevenbergMarquardt, HessianFree)},
}


def get(optimizer: Any, name: str = "optimizer") -> Optimizer:
    """The optimiser for an optimiser or a name; else raises a ConfigError about the argument `name`."""
    if isinstance(optimizer, Optimizer):
        return optimizer
    if isinstance(optimizer, str):
        return NAMES[choice(optimizer, name, tuple(NAMES))]()
    names = ", ".join(f"{cls.__name__}(...)" for cls in NAMES.values())
    raise ConfigError(f"{name}: expected one of {names}, or a name, got {optimizer!r}.")
