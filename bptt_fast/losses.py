"""The losses; their list and arithmetic are in csrc/losses.def and csrc/losses.h.

Per target row, with prediction p and target y: mse, mean over the outputs of (p - y)^2; mae, mean of |p - y|;
huber, mean of e^2/2 where |e| <= delta and delta (|e| - delta/2) elsewhere, e = p - y; pinball, mean over the
quantiles q of max(q e, (q - 1) e), e = y - p; ordered_pinball, pinball of quantiles with increments as
outputs; gaussian, laplace, student_t and negative_binomial, mean of the negative log density with parameters
that are outputs; poisson, mean of exp(p) - y p; cross_entropy, -log softmax(p)[class]; binary_cross_entropy,
mean of log(1 + exp(p)) - y p.  The loss of a batch is the mean over its target rows, weighted by
sample_weight.  A loss can also be a function of the user's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from itertools import pairwise
from typing import Any, get_args

import numpy as np

from . import _core  # type: ignore[attr-defined]
from .choices import Average, FunctionTargets, LossName
from .distributions import DISTRIBUTIONS, QUANTILES, Distribution
from .errors import (
    ArgumentError,
    ConfigError,
    DivergedError,
    ShapeError,
    choice,
    integer,
    items,
    number,
    suggesting,
)
from .suggestions import suggestion

Array = np.ndarray[Any, Any]

TABLE: dict[str, dict[str, Any]] = _core.losses()

# what the outputs of a target are, in the order of their blocks; of "pinball" they are its quantiles
PARTS = {
    "gaussian": ("mu", "s"),
    "laplace": ("mu", "s"),
    "student_t": ("mu", "s", "n"),
    "negative_binomial": ("m", "a"),
}


@suggesting
class Loss:
    """A loss with its parameters, or a function as a loss.

    Parameters
    ----------
    name : str or callable
        "mse", "mae", "huber", "pinball", "ordered_pinball", "gaussian", "laplace", "student_t", "poisson",
        "negative_binomial", "cross_entropy", "binary_cross_entropy", or a function, see Notes.
    targets : {"real", "class"}, default "real"
        Of a function: whether its targets are rows of real numbers or class indices.
    class_weight : sequence of O float, or dict of int to float, optional
        Of "cross_entropy": the weight of each class, at least 0; classes that a dict lacks have weight 1.
    average : {"rows", "sequences"}, default "rows"
        Of a loss by name: whether the loss of a batch is the weighted mean over all target rows, or the mean
        over the sequences of the weighted mean over the rows of each, so that a long sequence, or one with
        many rows that count, has no more influence than another.
    **parameters
        Parameters of the loss: "huber" has delta, default 1, above 0; "pinball" and "ordered_pinball" have
        quantiles, default 0.5, one number or several increasing ones, between 0 and 1; "cross_entropy" has
        label_smoothing, default 0, below 1.

    Raises
    ------
    ConfigError
        If there is no such loss or parameter, or a value is out of range.

    Notes
    -----
    Several outputs belong to each target of "gaussian" and "laplace" (mu, s), "student_t" (mu, s, n),
    "negative_binomial" (m, a), and "pinball" with several quantiles (one each).  With D targets they are
    blocks of D outputs: the first block is mu of all targets, or their lowest quantile, and so on.  The
    quantiles of "ordered_pinball" cannot cross: after the lowest, an output p is the increment
    log(1 + exp(p)) to the next quantile.
    `output_size` is then D times the number of blocks.  The scale is sigma = log(1 + exp(s)) + 1e-6;
    nu = 2 + log(1 + exp(n)); the mean of counts is mu = log(1 + exp(m)), their variance mu + alpha mu^2,
    alpha = log(1 + exp(a)) + 1e-6; the rate of "poisson" is exp(p).  The values leave out log(2 pi) / 2 of
    "gaussian" and log(y!) of "poisson".  `mean`, `std`, `quantile` and `sample` compute with the outputs of
    a trained network.

    A class weight is a factor of the weight of a row, as in scikit-learn: the loss of a batch is the sum of
    weighted losses divided by the sum of the weights, as PyTorch's reduction="mean", so that its scale does
    not depend on the weights.  `SlidingBPTT` and learners, of one row per update, multiply its loss.
    (With label smoothing PyTorch also weights the smoothed classes.)

    With average="sequences", which needs a target for every step, sample weights of shape (n,) are weights
    of the sequences, others weights of rows.  Sequences without a row that counts are left out.  The sum of
    the weights of the rows of a sequence is 1, or its own weight; so are the weights of the mean over the
    batches of an epoch.

    A function ``loss(outputs, targets, weights)`` is called once per batch with the outputs (rows, O) of all
    target rows, in the network's dtype, the targets (rows, D) or class indices (rows,), and the weights
    (rows,); rows of weight 0 are left out.  D is the number of columns of y.  It returns the loss of the
    batch and its gradient with respect to the outputs, (rows, O).  It may change its arguments, which are
    its own until it returns.  ``bptt_fast.diagnostics.check_loss`` compares the gradient with finite
    differences.  Functions need `FullBPTT`, and cannot be saved.

    Examples
    --------
    >>> import bptt_fast as bf
    >>> net = bf.Network(1, 4, 1, seed=0)
    >>> x, y = [[[0.0], [1.0]]], [[3.0]]
    >>> net.evaluate(x, y, loss=bf.Loss("huber", delta=0.5)) < net.evaluate(x, y, loss="huber")
    True
    >>> bf.Loss("huber")
    Loss('huber', delta=1.0)
    >>> def squares(outputs, targets, weights):
    ...     error = (outputs - targets) * weights[:, None] / weights.sum()
    ...     return float(((outputs - targets) * error).sum()), 2 * error
    >>> abs(net.evaluate(x, y, loss=squares) - net.evaluate(x, y)) < 1e-6
    True
    """

    def __init__(
        self,
        name: LossName | Callable[..., Any],
        *,
        targets: FunctionTargets | None = None,
        class_weight: Sequence[float] | Mapping[int, float] | None = None,
        average: Average = "rows",
        **parameters: Any,
    ) -> None:
        self.function = None if isinstance(name, str) or not callable(name) else name
        self.parameters: dict[str, Any] = {}
        self.outputs = 1  # of the network, per target
        self.least_squares = self.curved = False  # curved: its second derivative is known and nonnegative
        self.class_weight = _class_weight(class_weight)
        self.average = choice(average, "Loss(average)", get_args(Average))
        if self.function is not None:
            given = [*parameters, *["class_weight"] * (class_weight is not None)]
            given += ["average"] * (self.average != "rows")
            if given:
                raise ConfigError(
                    f"loss: expected no parameters of a function, got {', '.join(given)}.  "
                    f"Use functools.partial."
                )
            self.name: Any = getattr(name, "__qualname__", type(name).__name__)
            self.targets = choice(targets or "real", "Loss(targets)", get_args(FunctionTargets))
            return
        row = TABLE[choice(name, "loss", tuple(TABLE))]
        if targets is not None:
            raise ConfigError(
                f'loss: expected no targets of "{name}", which a function alone has, got {targets!r}.'
            )
        for parameter in parameters:
            if parameter not in row["parameters"]:
                known = ", ".join(row["parameters"]) or "none"
                raise ArgumentError(
                    f'loss: expected parameters of "{name}" ({known}), got {parameter!r}.'
                    f"{suggestion(parameter, [*row['parameters'], 'class_weight', 'average', 'targets'])}"
                )
        self.name = str(name)
        # "real" numbers, "class" indices, "probability" in [0, 1], "count" of at least 0
        self.targets = row["targets"]
        if self.class_weight is not None and self.targets != "class":
            raise ConfigError(f'class_weight: expected a loss of classes, got "{name}".')
        for parameter, (initial, low, high) in row["parameters"].items():
            value, label = parameters.get(parameter, initial), f"Loss({name!r}, {parameter})"
            if row["outputs"] == 0:
                self.parameters[parameter] = _increasing(value, label, low, high)
            elif type(value) in (int, float) and value == initial:
                self.parameters[parameter] = float(value)
            else:
                self.parameters[parameter] = number(value, label, low, high, open_low=True, open_high=True)
        self.outputs = row["outputs"] or len(self.core()["loss_parameter"])
        self.least_squares = row["least_squares"]
        self.curved = row["curved"]

    @property
    def plain(self) -> Any:
        """The name of the loss, or a dict of name and parameters if these are not the defaults."""
        if self.function is not None:
            raise ConfigError(
                f"loss: expected a loss by name, got {self}, a function, which no file can hold."
            )
        values: dict[str, Any] = {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in self.parameters.items()
        }
        if self.class_weight is not None:
            weights = self.class_weight
            values["class_weight"] = (
                {str(k): v for k, v in weights} if isinstance(weights[0], tuple) else list(weights)
            )
        if self.average != "rows":
            values["average"] = self.average
        if self == _with_defaults(self.name):
            return self.name
        return {"name": self.name, **values}

    def core(self) -> dict[str, Any]:
        """The loss in the fields of the C core, which computes outputs alone for a function."""
        if self.function is not None:
            return {"loss": None}
        values = [v if isinstance(v, tuple) else (v,) for v in self.parameters.values()]
        return {"loss": self.name, "loss_parameter": sum(values, ())}

    def columns(self, outputs: int) -> int | None:
        """The number of target columns of a network.

        Parameters
        ----------
        outputs : int
            O, its outputs.

        Returns
        -------
        columns : int or None
            None: any number.

        Raises
        ------
        ShapeError
            If the outputs are not blocks of equally many.
        """
        if self.function is not None:
            return None
        if outputs % self.outputs:
            raise ShapeError(
                f'loss: expected an output_size that is a multiple of {self.outputs} with "{self.name}" '
                f"({self.layout}), got {outputs}."
            )
        return outputs // self.outputs

    @property
    def parts(self) -> tuple[str, ...]:
        """What the outputs of a target are: names of parameters, or quantiles; ("",) if there is one."""
        if self.outputs == 1:
            return ("",)
        return PARTS.get(self.name) or tuple(f"{q:g}" for q in self.core()["loss_parameter"])

    @property
    def layout(self) -> str:
        """What the outputs are, for a message."""
        if self.outputs == 1:
            return "one output per target"
        parts = self.parts
        shown = list(parts) if len(parts) < 6 else [*parts[:2], "...", parts[-1]]
        return f"a block with an output of each target for each of {', '.join(shown)}"

    def scales(self, columns: int, outputs: int) -> bool:
        """Whether targets can be scaled, and the outputs with them, as both are numbers in the same units.

        Parameters
        ----------
        columns, outputs : int
            The numbers of target columns and of outputs.

        Returns
        -------
        scales : bool
        """
        return self.targets == "real" and self.outputs == 1 and columns == outputs

    def weights_of_classes(self, outputs: int) -> np.ndarray[Any, Any]:
        """The weights of the classes.

        Parameters
        ----------
        outputs : int
            O, the number of classes.

        Returns
        -------
        weights : ndarray (O,)
        """
        given, weights = self.class_weight or (), np.ones(outputs)
        if given and not isinstance(given[0], tuple):
            if len(given) != outputs:
                raise ShapeError(
                    f"class_weight: expected {outputs} numbers, one per class, got {len(given)}."
                )
            return np.array(given)
        for label, weight in given:
            if not 0 <= label < outputs:
                raise ConfigError(f"class_weight: expected classes from 0 to {outputs - 1}, got {label}.")
            weights[label] = weight
        return weights

    # ---- what outputs say about targets

    @property
    def has_distribution(self) -> bool:
        """Whether the outputs are the parameters of a distribution."""
        return self.function is None and self.name in DISTRIBUTIONS

    @property
    def has_quantiles(self) -> bool:
        """Whether the outputs are quantiles."""
        return self.function is None and self.name in QUANTILES

    @suggesting
    def prediction(self, outputs: Any) -> Array:
        """Compute one number per target from outputs, in the units of the targets.

        Parameters
        ----------
        outputs : array (..., O)
            Outputs of a network that was trained with this loss.

        Returns
        -------
        prediction : ndarray (..., D)
            The mean of a distribution; of "pinball" the quantile 0.5, or that of its quantiles which is
            nearest; of other losses of real targets, and of functions, the outputs.

        Raises
        ------
        ConfigError
            If the loss is one of classes or probabilities.
        ShapeError
            If the last axis of the outputs is not a multiple of the outputs per target.

        Examples
        --------
        >>> import numpy as np, bptt_fast as bf
        >>> bf.Loss("poisson").prediction(np.log([[3.0]])).round(6)
        array([[3.]])
        """
        if self.has_distribution:
            return self.mean(outputs)
        if self.has_quantiles:
            known = self.parameters["quantiles"]
            return self.quantile(outputs, min(max(0.5, known[0]), known[-1]))
        if self.targets != "real":
            raise ConfigError(
                f"prediction: expected a loss of real targets or counts, got {self}, whose outputs are "
                f"logits.  Apply a softmax or a logistic function."
            )
        blocks, dtype = self._blocks(outputs)
        return blocks[0].astype(dtype)

    @suggesting
    def mean(self, outputs: Any) -> Array:
        """Compute the means of the distributions whose parameters are the outputs.

        Parameters
        ----------
        outputs : array (..., O)
            Outputs of a network that was trained with "gaussian", "laplace", "student_t", "poisson" or
            "negative_binomial".

        Returns
        -------
        mean : ndarray (..., D)

        Raises
        ------
        ConfigError
            If the loss has no distribution.
        ShapeError
            If the last axis of the outputs is not a multiple of the outputs per target.
        DivergedError
            If an output or a mean is NaN or infinite.
        """
        distribution, dtype = self._distribution(outputs, "mean")
        return _finite(distribution.mean, dtype, "mean")

    @suggesting
    def std(self, outputs: Any) -> Array:
        """Compute the standard deviations of the distributions whose parameters are the outputs.

        Parameters
        ----------
        outputs : array (..., O)
            As in `mean`.

        Returns
        -------
        std : ndarray (..., D)
            That of "student_t" is infinite if log(1 + exp(n)) underflows, with 2 degrees of freedom.

        Raises
        ------
        ConfigError, ShapeError, DivergedError
            As in `mean`.
        """
        distribution, dtype = self._distribution(outputs, "std")
        return np.asarray(distribution.std, dtype)

    @suggesting
    def quantile(self, outputs: Any, q: float | Sequence[float]) -> Array:
        """Compute quantiles of the targets from outputs; they do not cross.

        Parameters
        ----------
        outputs : array (..., O)
            As in `mean`; or outputs of a network that was trained with "pinball" or "ordered_pinball".
        q : float or sequence of Q float
            Probabilities between 0 and 1.  With "pinball" not outside its quantiles.

        Returns
        -------
        quantile : ndarray (..., D) or (Q, ..., D)
            Of counts the smallest one that is not exceeded with probability q.  The quantiles of "pinball"
            are sorted; between two of them it is interpolated linearly.

        Raises
        ------
        ConfigError, ShapeError, DivergedError
            As in `mean`; also if a probability is out of range.

        Examples
        --------
        >>> import bptt_fast as bf
        >>> bf.Loss("laplace").quantile([[1.0, 0.0]], [0.1, 0.5, 0.9]).round(2).ravel()
        array([-0.12,  1.  ,  2.12])
        """
        given = items(q)
        probabilities: list[Any] = [q] if given is None else given
        if not probabilities:
            raise ConfigError("q: expected at least one probability, got none.")
        distribution: Any
        if self.has_quantiles:
            known = self.parameters["quantiles"]
            probabilities = [number(one, "q", known[0], known[-1]) for one in probabilities]
            blocks, dtype = self._blocks(outputs)
            distribution = QUANTILES[self.name](known, *blocks)
        else:
            distribution, dtype = self._distribution(outputs, "quantile")
            probabilities = [number(one, "q", 0, 1, open_low=True, open_high=True) for one in probabilities]
        values = [_finite(distribution.quantile(one), dtype, "quantile") for one in probabilities]
        return values[0] if given is None else np.stack(values)

    @suggesting
    def sample(self, outputs: Any, rng: Any = None, n: int | None = None) -> Array:
        """Draw targets from the distributions whose parameters are the outputs.

        Parameters
        ----------
        outputs : array (..., O)
            As in `mean`.
        rng : numpy.random.Generator or int, optional
            The source of random numbers, or its seed; None: a new one.
        n : int, optional
            Draws of each target; None: one, without an axis.

        Returns
        -------
        sample : ndarray (..., D) or (n, ..., D)

        Raises
        ------
        ConfigError, ShapeError, DivergedError
            As in `mean`; also if `rng` or `n` is invalid.

        Examples
        --------
        >>> import bptt_fast as bf
        >>> bf.Loss("gaussian").sample([[5.0, -3.0]], rng=0, n=1000).mean().round(2)
        np.float64(5.0)
        """
        distribution, dtype = self._distribution(outputs, "sample")
        draws = () if n is None else (integer(n, "n"),)
        shape = (*draws, *_finite(distribution.mean, dtype, "sample").shape)
        source = generator(rng)
        try:
            return np.asarray(distribution.sample(source, shape), dtype)
        except ValueError as error:  # of rates above 9e18
            raise DivergedError(f"sample: expected counts that NumPy can draw, got {error}.") from None

    def _distribution(self, outputs: Any, what: str) -> tuple[Distribution, Any]:
        """The distributions of outputs, and the dtype of the latter."""
        if not self.has_distribution:
            raise ConfigError(
                f"{what}: expected a loss with a distribution ({', '.join(DISTRIBUTIONS)}), got {self}."
            )
        blocks, dtype = self._blocks(outputs)
        return DISTRIBUTIONS[self.name](*blocks), dtype

    def _blocks(self, outputs: Any) -> tuple[list[Array], Any]:
        """Outputs (..., O) as blocks (..., D) of float64, and their dtype."""
        try:
            a = np.asarray(outputs)
        except ValueError:  # ragged
            a = np.asarray(None)
        if a.dtype.kind not in "fiu" or not a.ndim:
            raise ConfigError(
                f"outputs: expected an array of numbers, got {type(outputs).__name__} that is none.  Pass "
                f"the arrays of a list one by one."
            )
        self.columns(a.shape[-1])
        if not np.isfinite(a).all():
            raise DivergedError("outputs: expected finite numbers, got NaN or infinity.")
        dtype = a.dtype if a.dtype.kind == "f" else np.dtype(np.float64)
        return np.split(a.astype(np.float64), self.outputs, axis=-1), dtype

    def _identity(self) -> tuple[Any, ...]:
        parameters = tuple(self.parameters.items())
        return self.function, self.name, self.targets, parameters, self.class_weight, self.average

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Loss) and self._identity() == other._identity()

    def __hash__(self) -> int:
        return hash(self._identity())

    def __repr__(self) -> str:
        shown = dict(self.parameters)
        if self.function is not None:
            module = getattr(self.function, "__module__", None) or "?"
            return f"Loss({module}.{self.name}, targets={self.targets!r})"
        if self.name == "cross_entropy" and not shown["label_smoothing"]:
            del shown["label_smoothing"]
        if self.class_weight is not None:
            shown["class_weight"] = self.plain["class_weight"]
        if self.average != "rows":
            shown["average"] = repr(self.average)
        return f"Loss({', '.join([repr(self.name), *(f'{k}={v}' for k, v in shown.items())])})"


def generator(rng: Any) -> np.random.Generator:
    """The source of random numbers for one, a seed or None; else raises a ConfigError."""
    try:
        return np.random.default_rng(rng)
    except (TypeError, ValueError):
        raise ConfigError(f"rng: expected a numpy.random.Generator or a seed, got {rng!r}.") from None


def _finite(a: Array, dtype: Any, what: str) -> Array:
    """`a` in this dtype; raises if a number is infinite there."""
    with np.errstate(over="ignore"):
        narrow = np.asarray(a, dtype)
    if not np.isfinite(narrow).all():
        raise DivergedError(f"{what}: expected finite numbers, got an overflow in {dtype}.")
    return narrow


def _increasing(value: Any, label: str, low: float, high: float) -> tuple[float, ...]:
    """The values of a parameter that is a list."""
    given = items(value)
    values = [value] if given is None else given
    if not 1 <= len(values) <= _core.MAX_LOSS_VALUES:
        raise ConfigError(f"{label}: expected from 1 to {_core.MAX_LOSS_VALUES} numbers, got {len(values)}.")
    checked = tuple(number(one, label, low, high, open_low=True, open_high=True) for one in values)
    if any(b <= a for a, b in pairwise(checked)):
        raise ConfigError(f"{label}: expected increasing numbers, got {checked}.")
    return checked


def _class_weight(value: Any) -> tuple[Any, ...] | None:
    """Weights of classes as a tuple, or as one of pairs."""
    if value is None:
        return None
    if isinstance(value, Mapping):
        try:
            pairs = sorted((_class_index(label), weight) for label, weight in value.items())
        except (TypeError, ValueError, OverflowError):
            raise ConfigError(f"class_weight: expected class indices as keys, got {list(value)}.") from None
        labels, weights = [label for label, _ in pairs], [weight for _, weight in pairs]
    else:
        given, labels = items(value), []
        if given is None:
            raise ConfigError(f"class_weight: expected a number for each class, or a dict, got {value!r}.")
        weights = given
    checked = tuple(number(weight, "class_weight", 0) for weight in weights)
    if not any(checked) and (not labels or not checked):
        raise ConfigError("class_weight: expected at least one weight above 0, got none.")
    return tuple(zip(labels, checked, strict=True)) if labels else checked


def _class_index(label: Any) -> int:
    """A key of `class_weight`, which JSON made text of; raises a ValueError for 0.5."""
    index = int(label)
    if not isinstance(label, str) and index != label:
        raise ValueError
    return index


def get(loss: Any) -> Loss:
    """The loss for a Loss, a name, a function or a dict from `Loss.plain`; else raises a ConfigError."""
    if isinstance(loss, Loss):
        return loss
    if isinstance(loss, Mapping) and "name" in loss and all(isinstance(key, str) for key in loss):
        return Loss(**loss)
    return _with_defaults(loss) if isinstance(loss, str) else Loss(loss)


@cache
def _with_defaults(name: Any) -> Loss:
    return Loss(name)


def named(**properties: Any) -> tuple[str, ...]:
    """Names of the losses with these properties."""
    return tuple(k for k, row in TABLE.items() if all(row[p] == v for p, v in properties.items()))
