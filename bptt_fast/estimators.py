"""scikit-learn estimators on top of ``Network`` (extra "sklearn").

This module only translates: X and y into sequences and targets, the parameters into a network and a call of
its `fit`, and outputs into predictions.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Literal, Self, get_args, overload

import numpy as np
from numpy.typing import ArrayLike

from . import optimizers
from .choices import (
    Activation,
    Cell,
    Equation,
    Noise,
    Numbers,
    OptimizerName,
    Readout,
    Table,
    TableT,
)
from .columns import Columns, Scaling, continued, is_table, like, moments, names_of, order
from .data import LABELS, are_overlapping, columns_without_numbers, numbers, out_of_category
from .description import NONLINEARITIES, Category, Description, category
from .distributions import DISTRIBUTIONS
from .errors import ConfigError, ShapeError, choice, flag, integer, number, suggesting
from .initialisation import CELLS
from .losses import Loss
from .losses import get as get_loss
from .network import Network
from .optimizers import Optimizer
from .rules import Rule
from .stopping import Stopping

try:
    from scipy.special import log_softmax, softmax
    from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin, is_classifier
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.metrics import accuracy_score, r2_score
    from sklearn.model_selection import train_test_split
    from sklearn.utils import assert_all_finite, check_array, check_consistent_length, check_random_state
    from sklearn.utils import column_or_1d as column
    from sklearn.utils.class_weight import compute_class_weight
    from sklearn.utils.multiclass import check_classification_targets
    from sklearn.utils.validation import check_is_fitted, validate_data
except ImportError as error:
    raise ImportError(
        f"bptt_fast.estimators needs scikit-learn of at least version 1.6 ({error}).  Install it: "
        f'pip install "bptt-fast[sklearn]".'
    ) from error

__all__ = ["RNNClassifier", "RNNForecaster", "RNNRegressor"]

Array = np.ndarray[Any, Any]

ACTIVATIONS = {"logistic": "sigmoid", "identity": "linear", **{name: name for name in NONLINEARITIES}}
REAL_LOSSES = {"squared_error": "mse", "absolute_error": "mae", "huber": "huber"}
DTYPES = (np.float64, np.float32)  # X of another dtype is converted to the first
AUTO_BATCH = 200  # scikit-learn's
TIMES = ("DatetimeIndex", "PeriodIndex")  # of pandas

NETWORK_WORDS = """hidden_size : int, default 32
        State size of each layer.
    cell : {"elman", "gru", "lstm", "mingru", "minlstm", "indrnn", "ctrnn"}, default "gru"
        The state function; also "gru_reset_before", "lstm_peephole" and "ctrnn_potential", whose options
        ``Network`` has.
    num_layers : int, default 1
        Recurrent layers, stacked."""

BIDIRECTIONAL_WORDS = """bidirectional : bool, default False
        Each layer also runs from the last step to the first."""

CATEGORIES_WORDS = """categories : dict of int or str to int or (int, int), optional
        The columns of X that are integers, by index or by name, each with the number of its values and
        perhaps the width of its embedding, as ``Network(..., categories=...)``: ``{"weekday": 7, "shop": (80,
        4)}``.  The network has them last."""

COMMON_WORDS = """head : tuple of int, default ()
        Widths of the hidden layers of the readout.
    skip : bool, default False
        Whether the readout also reads the inputs of the step, as in ``Network``.
    activation : {"tanh", "relu", "logistic", "identity", "leaky_relu", "softplus", "retanh"}, optional
        Nonlinearity of the cells "elman", "indrnn" and "ctrnn"; None is "tanh".  Those of the gated cells are
        fixed.
    equation, tau, dt, recurrent_noise, noise
        Of the cell "ctrnn", as in ``Network``: the equation, the time constants, the step of time, and the
        noise in training.
    input_noise : float, default 0
        Deviation of Gaussian noise that is added to the inputs in training.
    dropout, recurrent_dropout : float, default 0
        Dropout between layers and in the recurrence, as in ``Network``.
    rules : dict of str to Rule, optional
        Rules on the parameters, as ``Network.rules``: ``{"weight_hh_l0": bf.Rule(l1=1e-3)}``.
    solver : str or optimiser, default "adam"
        A name, or an object such as ``bf.SGD(0.1, momentum=0.9)``.
    learning_rate_init : float, optional
        Overrides the learning rate of `solver`.  The solvers of second order ("lbfgs",
        "levenberg_marquardt", "hessian_free") ignore it and choose the length of their steps.
    batch_size : int, default "auto"
        Sequences per update; "auto" is min(200, n).  The solvers of second order ignore it and use all
        sequences at once.
    clip_norm : float, optional
        Upper bound of the gradient's norm; larger gradients are scaled down.  The solvers of second order
        ignore it.
    max_iter : int, default 200
        Maximum number of epochs; training that reaches it without `n_iter_no_change` warns.
    shuffle : bool, default True
        Whether to shuffle the sequences in each epoch.  No effect on the solvers of second order.
    random_state : int, RandomState or None
        Seed for initialisation, shuffling, dropout and the validation split.
    tol : float, default 1e-4
        Smallest decrease of the loss that counts as an improvement.
    n_iter_no_change : int, default 10
        Stop after this many consecutive epochs without improvement.
    early_stopping : bool, default False
        Use the loss of held-out data for stopping, and restore the weights of the best epoch.
    validation_fraction : float, default 0.1
        With `early_stopping`: the held-out share, random sequences (stratified by class), for a forecaster
        the last steps of each series.
    warm_start : bool, default False
        Continue with the network of the last `fit`.
    verbose : bool or int, default False
        0: silence; 1 or True: a progress bar; 2: one line per epoch.
    n_jobs : int, optional
        Number of threads; None and -1: as many as the machine and the environment allow.  Results do not
        depend on it."""

FITTED_WORDS = """network_ : Network
        The trained network; ``network_.save(path)`` writes it to a file.
    n_iter_ : int
        Number of epochs, including earlier calls with `warm_start` or `partial_fit`.
    loss_ : float
        The training loss of the last epoch, or of the unchanged network if a solver of second order had
        converged.
    loss_curve_, validation_loss_curve_ : list of float
        Losses per epoch of the last call; the second list is empty without `early_stopping`.
    n_features_in_ : int
        Number of columns: steps of a 2-D X, else features.
    feature_names_in_ : ndarray of str
        Column names of X, if it has any."""

NOTES_WORDS = """X is an array (n, T) of n sequences of T single numbers, an array (n, T, I), or a list of
    sequences of different length, arrays or DataFrames (T_i,) or (T_i, I).  A DataFrame (n, T) is read as the
    array.  The network is float32 if X is, which is faster, else float64.

    `partial_fit` runs one epoch; each call resets the state of the solver."""


class _Estimator(BaseEstimator):
    """Base of the estimators: converts parameters into a network and a fit, and X into sequences."""

    LOSSES: ClassVar[dict[str, str]] = REAL_LOSSES  # the first is the default
    bidirectional = False
    readout: Readout = "every"
    network_: Network
    n_iter_: int

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = tags.input_tags.three_d_array = True
        return tags

    # ---- the network

    def _description(self, inputs: int, outputs: int, dtype: str, seed: int) -> Description:
        activation = self.activation
        if activation is not None:
            activation = ACTIVATIONS[choice(activation, "activation", tuple(ACTIVATIONS))]
        cells: list[Any] = [cell for cell, row in CELLS.items() if not row["hidden_layers"]]
        return Description(
            inputs,
            self.hidden_size,
            outputs,
            categories=self._sizes(inputs),
            cell=choice(self.cell, "cell", cells),
            num_layers=self.num_layers,
            bidirectional=self.bidirectional,
            nonlinearity=activation,
            head=self.head,
            skip=self.skip,
            equation=self.equation,
            tau=self.tau,
            dt=self.dt,
            recurrent_noise=self.recurrent_noise,
            noise=self.noise,
            input_noise=self.input_noise,
            dropout=self.dropout,
            recurrent_dropout=self.recurrent_dropout,
            readout=self.readout,
            dtype=dtype,
            seed=seed,
        )

    def _sizes(self, inputs: int) -> dict[int, Category]:
        """The numbers of values of the inputs that are integers, the last ones."""
        return {}

    def _network(self, inputs: int, outputs: int, dtype: Any, going_on: bool) -> Network:
        """A new network, or the existing one if `going_on`, with the rules."""
        if going_on and hasattr(self, "network_"):
            net = self._existing(inputs, outputs)
        else:
            seed = check_random_state(self.random_state).randint(2**31 - 1)
            net = Network(**vars(self._description(inputs, outputs, np.dtype(dtype).name, int(seed))))
        net.rules = {} if self.rules is None else self.rules
        return net

    def _existing(self, inputs: int, outputs: int) -> Network:
        """The network of the earlier fit, which the parameters still describe."""
        there = self.network_.description
        wanted = self._description(inputs, outputs, there.dtype, there.seed)
        if wanted != there:
            changed = [
                f"{name} {value!r} (was {getattr(there, name)!r})"
                for name, value in vars(wanted).items()
                if value != getattr(there, name)
            ]
            raise ConfigError(
                f"warm_start, partial_fit: expected the network of the earlier fit, got {', '.join(changed)}."
                f"  Use clone(estimator) for a new network."
            )
        return self.network_

    def _solver(self) -> Any:
        """The optimiser; those of second order have neither a learning rate nor clipping."""
        solver: Any = optimizers.get(self.solver, "solver")
        if solver.full_batch:
            return solver
        overrides = {"learning_rate": self.learning_rate_init, "clip_norm": self.clip_norm}
        return replace(
            solver, **{name: float(value) for name, value in overrides.items() if value is not None}
        )

    def _loss(self) -> Loss:
        if callable(self.loss) or isinstance(self.loss, Loss):
            return self._own_loss()
        names = tuple(self.LOSSES)
        return get_loss(self.LOSSES[names[0] if self.loss is None else choice(self.loss, "loss", names)])

    def _own_loss(self) -> Loss:
        """A Loss or a function whose outputs are predictions: one for each target, in its units."""
        loss = get_loss(self.loss)
        if loss.targets != "real" or loss.outputs > 1:
            raise ConfigError(
                f"loss: expected one whose outputs are predictions of real numbers, got "
                f"{loss}.  Use a Network."
            )
        return loss

    def _fitted(self, *arguments: Any, **known: Any) -> Self:
        """Fit with checked parameters and `known` attributes; an error leaves the estimator unchanged."""
        before, net = vars(self).copy(), getattr(self, "network_", None)
        weights = None if net is None else (dict(net.rules), net.params.copy())
        try:
            self.__dict__.update(known)
            self._check_parameters()
            if self.early_stopping and arguments[-1] is not None:
                raise ConfigError(
                    "early_stopping: expected False in partial_fit, which trains for one epoch, got True.  "
                    "Use fit with warm_start=True."
                )
            self._learn(*arguments)
        except Exception:
            self.__dict__ = before
            if net is not None and weights is not None:
                net.rules, net.params[:] = weights
            raise
        return self

    def _learn(self, X: Any, y: Any, weight: Any, going_on: bool, epochs: int | None) -> None:
        raise NotImplementedError

    def _check_parameters(self) -> None:
        """Raise a ConfigError for an invalid parameter that the network and its `fit` do not always check."""
        if self.learning_rate_init is not None:
            number(self.learning_rate_init, "learning_rate_init", 0, open_low=True)
        if not self._auto_batch:
            integer(self.batch_size, "batch_size", 1, None)
        if self.clip_norm is not None:
            number(self.clip_norm, "clip_norm", 0, open_low=True)
        if self.n_jobs not in (None, -1):
            integer(self.n_jobs, "n_jobs")
        integer(self.max_iter, "max_iter", 1, None)
        integer(self.n_iter_no_change, "n_iter_no_change", 1, None)
        number(self.tol, "tol", 0)
        number(self.validation_fraction, "validation_fraction", 0, 1, open_low=True, open_high=True)
        for name in ("shuffle", "early_stopping", "warm_start"):
            flag(getattr(self, name), name)

    @property
    def _auto_batch(self) -> bool:
        return isinstance(self.batch_size, str) and self.batch_size == "auto"

    def _train(self, net: Network, x: Any, y: Any, weight: Any, validation: Any, epochs: int | None) -> None:
        """Train for `epochs`, or, if None, by `max_iter` and the stopping parameters."""
        stopping = None
        if epochs is None:
            stopping = Stopping(
                patience=self.n_iter_no_change, min_delta=self.tol, restore_best=self.early_stopping
            )
        more = epochs or self.max_iter
        seen = self.n_iter_ if net is getattr(self, "network_", None) else 0
        solver, loss = self._solver(), self._loss()
        size = None if solver.full_batch else min(AUTO_BATCH, len(x)) if self._auto_batch else self.batch_size
        jobs = None if self.n_jobs == -1 else self.n_jobs
        try:
            history = net.fit(
                x,
                y,
                epochs=seen + more,
                initial_epoch=seen,
                batch_size=size,
                optimizer=solver,
                loss=loss,
                sample_weight=weight,
                validation_data=validation,
                shuffle=self.shuffle,
                verbose=self.verbose,
                patience=stopping,
                threads=jobs,
            )
        except KeyboardInterrupt as error:
            finished = getattr(error, "history", {}).get("epoch", ())
            self.network_, self.n_iter_ = net, seen + len(finished)
            raise
        self.network_, self.n_iter_ = net, seen + len(history["epoch"])
        self.loss_curve_, self.validation_loss_curve_ = history["loss"], history.get("val_loss", [])
        if self.loss_curve_:
            self.loss_ = self.loss_curve_[-1]
        else:  # the solver had converged before its first iteration
            self.loss_ = net.evaluate(x, y, loss=loss, sample_weight=weight, threads=jobs)
        if stopping and history.stopped == "epochs":
            warnings.warn(
                f"{type(self).__name__}: max_iter={more} epochs ended while the loss still fell by more than "
                f"tol={self.tol:g} in n_iter_no_change={self.n_iter_no_change} epochs.  A larger max_iter or "
                f"learning_rate_init may help.",
                ConvergenceWarning,
                stacklevel=6,
            )

    def _outputs(self, X: Any) -> Any:
        check_is_fitted(self, "network_")
        return self.network_.predict(self._inputs(X, reset=False))

    # ---- X

    def _inputs(self, X: Any, reset: bool) -> Any:
        """X as (n, T, I) or a list of (T_i, I); stores (`reset`) or compares its columns."""
        if _is_ragged(X):
            for i, part in enumerate(X):
                _check_kind(part, f"X[{i}]")
            parts = [part if _dimensions(part) == 2 else np.asarray(part)[:, None] for part in X]
            if any(map(is_table, parts)) or len({part.shape[1] for part in parts}) > 1:
                return [self._rows(part, reset and i == 0, f"X[{i}]") for i, part in enumerate(parts)]
            ends = np.cumsum([len(part) for part in parts])[:-1]
            return np.split(self._rows(np.concatenate(parts), reset), ends)
        X = _stacked(X, "X")
        if _dimensions(X) == 3:
            _check_kind(X, "X")
            X = np.asarray(X)
            return self._rows(X.reshape(len(X) * X.shape[1], X.shape[2]), reset).reshape(X.shape)
        return self._rows(X, reset)[:, :, None]

    def _rows(self, X: Any, reset: bool, name: str = "X") -> Array:
        _check_kind(X, name)
        try:
            return validate_data(self, X, reset=reset, dtype=DTYPES, order="C")
        except ValueError as error:
            if name == "X":
                raise
            raise ShapeError(f"{name}: {error}") from None


class _Supervised(_Estimator):
    """Base of regressor and classifier: learns y from X, one target per sequence or per step."""

    @suggesting
    def __init__(
        self,
        hidden_size: int = 32,
        *,
        cell: Cell = "gru",
        num_layers: int = 1,
        bidirectional: bool = False,
        categories: dict[Any, Category] | None = None,
        head: Sequence[int] = (),
        skip: bool = False,
        activation: Activation | None = None,
        equation: Equation = "rate",
        tau: ArrayLike = 10.0,
        dt: float = 1.0,
        recurrent_noise: float = 0.0,
        noise: Noise = "sde",
        input_noise: float = 0.0,
        dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        rules: Mapping[str, Rule] | None = None,
        readout: Readout = "last",
        loss: str | Loss | Callable[..., Any] | None = None,
        solver: Optimizer | OptimizerName = "adam",
        learning_rate_init: float | None = None,
        batch_size: int | Literal["auto"] = "auto",
        clip_norm: float | None = None,
        max_iter: int = 200,
        shuffle: bool = True,
        random_state: Any = None,
        tol: float = 1e-4,
        n_iter_no_change: int = 10,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        warm_start: bool = False,
        verbose: int = False,
        n_jobs: int | None = None,
    ) -> None:
        _set_parameters(self, locals())

    def _names(self, inputs: int) -> list[str]:
        """The names of the columns, if X has any; those of a DataFrame (n, T) are of steps."""
        names = list(getattr(self, "feature_names_in_", ()))
        return names if len(names) == inputs else []

    def _places(self, inputs: int) -> dict[int, Category]:
        """The columns of X that are integers, in their order, with their numbers of values."""
        given = {} if self.categories is None else self.categories
        if not isinstance(given, dict):
            raise ConfigError(
                f"categories: expected a dict from columns of X to their numbers of values, got {given!r}."
            )
        known = self._names(inputs)
        places: dict[int, Category] = {}
        for column, size in given.items():
            if isinstance(column, str):
                column = known.index(choice(column, "categories", known)) if known else inputs
            column = integer(column, "categories", 0, None)
            if column >= inputs or column in places:
                raise ConfigError(
                    f"categories: expected columns of X, each once, by index below {inputs} or by a name of "
                    f"a DataFrame, got {given!r}."
                )
            places[column] = category(size, f"categories[{column}]")
        return dict(sorted(places.items()))

    def _sizes(self, inputs: int) -> dict[int, Category]:
        sizes = self._places(inputs).values()
        return dict(enumerate(sizes, inputs - len(sizes)))

    def _inputs(self, X: Any, reset: bool) -> Any:
        """The same with the columns of integers, which are checked, behind the others."""
        if is_table(X) and type(getattr(X, "index", None)).__name__ in TIMES:
            rows, columns = X.shape
            raise ShapeError(
                f"X: expected {rows} sequences in rows, got a table {X.shape} with an index of times, which "
                f"looks like one series of {rows} steps with {columns} columns.  For one series pass [X], "
                f'[y] with readout="every", for {rows} sequences of {columns} steps X.to_numpy().'
            )
        x = super()._inputs(X, reset)
        places = self._places(x[0].shape[1])
        if not places:
            return x
        columns = list(places)
        sizes = [size[0] if isinstance(size, tuple) else size for size in places.values()]
        order = [i for i in range(x[0].shape[1]) if i not in places] + columns
        names = dict(enumerate(self._names(x[0].shape[1])))
        for i, part in enumerate(x):
            codes = part[:, columns]
            wrong = np.argwhere(out_of_category(codes, sizes))
            if len(wrong):
                step, at = wrong[0]
                column = columns[at]
                raise ConfigError(
                    f"X: expected integers from 0 to {sizes[at] - 1} in column "
                    f"{names.get(column, column)!r}, got {codes[step, at]:g} at sequence {i}, step {step}."
                )
        return [part[:, order] for part in x] if isinstance(x, list) else x[..., order]

    @property
    def _every(self) -> bool:
        return choice(self.readout, "readout", get_args(Readout)) == "every"

    @suggesting
    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Train a network, or continue training with `warm_start`.

        Parameters
        ----------
        X : array (n, T) or (n, T, I), DataFrame, or list of arrays (T_i,) or (T_i, I)
            The sequences; see the notes of the class.
        y : array or list
            Targets, one per sequence, or one per step with readout "every".
        sample_weight : array (n,), or of the shape of y without its last axis, optional
            Weights of the sequences or of the targets, at least 0.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            If an argument or a parameter is invalid; the message names it.
        DivergedError
            If the loss is NaN or infinite.
        """
        return self._fitted(X, y, sample_weight, self.warm_start, None)

    def _learn(self, X: Any, y: Any, weight: Any, going_on: bool, epochs: int | None) -> None:
        x, y, outputs, weight = self._data(X, y, weight, going_on)
        net = self._network(x[0].shape[1], outputs, x[0].dtype, going_on)
        validation = None
        if epochs is None and self.early_stopping:
            _warn_of_shared_rows(X)
            x, y, weight, validation = self._split(x, y, weight, net.seed)
        self._train(net, x, y, weight, validation, epochs)

    def _data(self, X: Any, y: Any, weight: Any, going_on: bool) -> tuple[Any, Any, int, Any]:
        """The network's inputs and targets, its number of outputs, and the weights."""
        if y is None:
            raise ConfigError(
                f"This {type(self).__name__} estimator requires y to be passed, but the target y is None."
            )
        x = self._inputs(X, not (going_on and hasattr(self, "network_")))
        check_consistent_length(x, y)
        y, outputs = self._targets(y, x[0].dtype, going_on)
        if self._every:
            y = list(y) if isinstance(x, list) else y
            _check_steps(y, x)
        return x, y, outputs, _weights(weight, x, "sequence", self._every)

    def _targets(self, y: Any, dtype: Any, going_on: bool) -> tuple[Any, int]:
        raise NotImplementedError

    def _all_rows(self, X: Any, y: Any, weight: Any) -> tuple[Any, Any, Any]:
        """Targets, predictions and weights for a score; targets per step are concatenated."""
        predicted = self.predict(X)
        check_consistent_length(predicted, y)
        weight = _weights(weight, predicted, "sequence", self._every)
        if not self._every:
            return y, predicted, weight
        y = y if isinstance(y, np.ndarray) else [np.asarray(part) for part in y]
        _check_steps(y, predicted)
        if weight is not None:
            weight = np.concatenate(_spread(weight, predicted))
        return np.concatenate(list(y)), np.concatenate(list(predicted)), weight

    def _split(self, x: Any, y: Any, weight: Any, seed: int) -> tuple[Any, Any, Any, Any]:
        labels = y if is_classifier(self) and not self._every else None
        share = self.validation_fraction
        parts = train_test_split(np.arange(len(x)), test_size=share, random_state=seed, stratify=labels)
        (x, held_x), (y, held_y) = ([_take(a, part) for part in parts] for a in (x, y))
        if weight is None:
            return x, y, None, (held_x, held_y)
        weight, held_weight = (_take(weight, part) for part in parts)
        _check_both_sides(weight, held_weight)
        return x, y, weight, (held_x, held_y, held_weight)


class RNNRegressor(RegressorMixin, _Supervised):
    __doc__ = f"""Sequence regression by a recurrent network, with one target per sequence or per step.

    Parameters
    ----------
    {NETWORK_WORDS}
    {BIDIRECTIONAL_WORDS}
    {CATEGORIES_WORDS}
    readout : {{"last", "every"}}, default "last"
        Whether y has one target per sequence, (n,) or (n, O), or per step, (n, T) or (n, T, O), for a list of
        sequences a list of (T_i,) or (T_i, O).
    loss : {{"squared_error", "absolute_error", "huber", "gaussian", "laplace", "student_t", "poisson", \
"negative_binomial"}}, Loss or callable, optional
        None is "squared_error".  With a distribution `predict` returns means, and `predict_quantiles` and
        `sample_y` are available; with ``bf.Loss("ordered_pinball", quantiles=[0.1, 0.5, 0.9])`` quantiles
        are learned.  A function ``loss(outputs, targets, weights)`` returns the loss of a batch and its
        gradient.
    {COMMON_WORDS}

    Attributes
    ----------
    {FITTED_WORDS}

    Notes
    -----
    {NOTES_WORDS}

    Examples
    --------
    >>> import numpy as np
    >>> from bptt_fast.estimators import RNNRegressor
    >>> X = np.random.default_rng(0).normal(size=(200, 12, 3))
    >>> y = X[:, -3:, 0].sum(axis=1)
    >>> model = RNNRegressor(16, learning_rate_init=0.01, tol=0.01, random_state=0).fit(X[:150], y[:150])
    >>> model.score(X[150:], y[150:]) > 0.8
    True
    >>> model.set_params(loss="gaussian").fit(X, y).predict_quantiles(X[:5], [0.1, 0.9]).shape
    (5, 2)
    """

    LOSSES: ClassVar[dict[str, str]] = REAL_LOSSES | {name: name for name in DISTRIBUTIONS}

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags

    def _targets(self, y: Any, dtype: Any, going_on: bool) -> tuple[Any, int]:
        targets: Any
        if self._every and _is_ragged(y):
            targets = [_numbers(part, f"y[{i}]", dtype) for i, part in enumerate(y)]
        else:
            targets = _numbers(_stacked(y, "y"), "y", dtype)
        self._plain = targets[0].ndim <= self._every  # whether y and predictions have no axis of targets
        self._trained_loss = self._loss()
        return targets, self._trained_loss.outputs * (1 if self._plain else targets[0].shape[-1])

    def _own_loss(self) -> Loss:
        """A Loss or a function of real targets, or one of counts."""
        loss = get_loss(self.loss)
        if loss.targets not in ("real", "count"):
            raise ConfigError(f"loss: expected one of real targets or counts, got {loss}.  Use a Network.")
        return loss

    @suggesting
    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Train the existing network, or a new one, for one epoch.

        Parameters
        ----------
        X, y, sample_weight
            As in `fit`.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            If X or y does not match those of the first call.
        """
        return self._fitted(X, y, sample_weight, True, 1)

    @overload
    def predict(self, X: Numbers | Table, return_std: Literal[False] = False) -> Array: ...
    @overload
    def predict(self, X: Numbers | Table, return_std: Literal[True]) -> tuple[Array, Array]: ...
    @overload
    def predict(self, X: Any, return_std: Literal[True]) -> tuple[Any, Any]: ...
    @overload
    def predict(self, X: Any, return_std: bool = False) -> Any: ...
    @suggesting
    def predict(self, X: Any, return_std: bool = False) -> Any:
        """Predict targets, in the shape of y in `fit`.

        Parameters
        ----------
        X : as in `fit`
        return_std : bool, default False
            Also return standard deviations; the loss must be a distribution.

        Returns
        -------
        y : array (n,) or (n, O); with readout "every" (n, T) or (n, T, O), or a list of (T_i,) or (T_i, O)
            The mean of a distribution; of several learned quantiles that of 0.5, or the nearest.
        std : as y
            Only with `return_std`.

        Raises
        ------
        ValueError
            If X is invalid, or a deviation is wanted of a loss without a distribution.
        """
        outputs = self._outputs(X)
        y = self._targets_from(outputs, self._trained_loss.prediction)
        if not flag(return_std, "return_std"):
            return y
        return y, self._targets_from(outputs, self._trained_loss.std)

    @overload
    def predict_quantiles(self, X: Numbers | Table, quantiles: Any = (0.1, 0.5, 0.9)) -> Array: ...
    @overload
    def predict_quantiles(self, X: Any, quantiles: Any = (0.1, 0.5, 0.9)) -> Any: ...
    def predict_quantiles(self, X: Any, quantiles: Any = (0.1, 0.5, 0.9)) -> Any:
        """Predict quantiles of the targets; the loss must be a distribution or one of quantiles.

        Parameters
        ----------
        X : as in `fit`
        quantiles : sequence of Q float, default (0.1, 0.5, 0.9)
            Probabilities between 0 and 1; if quantiles were learned, not outside those.

        Returns
        -------
        y : array (n, Q) or (n, O, Q); with readout "every" (n, T, Q) or (n, T, O, Q), or a list
            Quantiles that do not cross.

        Raises
        ------
        ValueError
            If X or a probability is invalid, or the loss has no quantiles.
        """
        try:
            levels = list(quantiles)
        except TypeError:
            raise ConfigError(f"quantiles: expected a list of probabilities, got {quantiles!r}.") from None
        return self._targets_from(
            self._outputs(X), lambda outputs: self._trained_loss.quantile(outputs, levels), True
        )

    @overload
    def sample_y(self, X: Numbers | Table, n_samples: int = 1, random_state: Any = 0) -> Array: ...
    @overload
    def sample_y(self, X: Any, n_samples: int = 1, random_state: Any = 0) -> Any: ...
    def sample_y(self, X: Any, n_samples: int = 1, random_state: Any = 0) -> Any:
        """Draw targets; the loss must be a distribution.

        Parameters
        ----------
        X : as in `fit`
        n_samples : int, default 1
            Draws of each target.
        random_state : int, RandomState or None, default 0
            Seed of the draws.

        Returns
        -------
        y : array (n, S) or (n, O, S); with readout "every" (n, T, S) or (n, T, O, S), or a list
            The draws, S = `n_samples`.

        Raises
        ------
        ValueError
            If X or `n_samples` is invalid, or the loss has no distribution.
        """
        rng = np.random.default_rng(check_random_state(random_state).randint(2**31 - 1))
        return self._targets_from(
            self._outputs(X), lambda outputs: self._trained_loss.sample(outputs, rng, n_samples), True
        )

    def _targets_from(self, outputs: Any, function: Any, several: bool = False) -> Any:
        """Results in the shape of y from outputs; `several` first ones of `function` become the last axis."""
        if isinstance(outputs, list):
            return [self._targets_from(part, function, several) for part in outputs]
        y = function(outputs)
        if several:
            y = np.moveaxis(y, 0, -1)
            return y[..., 0, :] if self._plain else y
        return y[..., 0] if self._plain else y

    @suggesting
    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """R^2 over all targets; all steps have equal weight.

        Parameters
        ----------
        X, y, sample_weight : as in `fit`

        Returns
        -------
        score : float
        """
        y, predicted, weight = self._all_rows(X, y, sample_weight)
        return float(r2_score(y, predicted, sample_weight=weight))


class RNNClassifier(ClassifierMixin, _Supervised):
    __doc__ = f"""Sequence classification by a recurrent network, with one label per sequence or per step.

    Parameters
    ----------
    {NETWORK_WORDS}
    {BIDIRECTIONAL_WORDS}
    {CATEGORIES_WORDS}
    readout : {{"last", "every"}}, default "last"
        Whether y has one label per sequence, (n,), or per step, (n, T), for a list of sequences a list of
        (T_i,).
    loss : {{"log_loss"}}, Loss or callable, optional
        None is "log_loss".  A function ``loss(logits, classes, weights)`` returns the loss of a batch and its
        gradient, see `bptt_fast.Loss`.
    class_weight : dict or "balanced", optional
        Weights of the labels, factors of `sample_weight`; "balanced": n / (number of classes x count of the
        label in y), as in scikit-learn.
    {COMMON_WORDS}

    Attributes
    ----------
    {FITTED_WORDS}
    classes_ : ndarray (C,)
        The labels.

    Notes
    -----
    {NOTES_WORDS}

    Examples
    --------
    Classify whether a sequence ends higher than it begins; the sequences have different lengths.

    >>> import numpy as np
    >>> from bptt_fast.estimators import RNNClassifier
    >>> random = np.random.default_rng(0)
    >>> X = [random.normal(size=n).cumsum() for n in random.integers(5, 15, size=200)]
    >>> y = ["up" if x[-1] > x[0] else "down" for x in X]
    >>> model = RNNClassifier(16, learning_rate_init=0.01, tol=0.01, random_state=0).fit(X[:150], y[:150])
    >>> model.classes_.tolist(), model.score(X[150:], y[150:]) > 0.8
    (['down', 'up'], True)
    """

    LOSSES: ClassVar[dict[str, str]] = {"log_loss": "cross_entropy"}

    @suggesting
    def __init__(
        self,
        hidden_size: int = 32,
        *,
        cell: Cell = "gru",
        num_layers: int = 1,
        bidirectional: bool = False,
        categories: dict[Any, Category] | None = None,
        head: Sequence[int] = (),
        skip: bool = False,
        activation: Activation | None = None,
        equation: Equation = "rate",
        tau: ArrayLike = 10.0,
        dt: float = 1.0,
        recurrent_noise: float = 0.0,
        noise: Noise = "sde",
        input_noise: float = 0.0,
        dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        rules: Mapping[str, Rule] | None = None,
        readout: Readout = "last",
        loss: str | Loss | Callable[..., Any] | None = None,
        class_weight: Mapping[Any, float] | Literal["balanced"] | None = None,
        solver: Optimizer | OptimizerName = "adam",
        learning_rate_init: float | None = None,
        batch_size: int | Literal["auto"] = "auto",
        clip_norm: float | None = None,
        max_iter: int = 200,
        shuffle: bool = True,
        random_state: Any = None,
        tol: float = 1e-4,
        n_iter_no_change: int = 10,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        warm_start: bool = False,
        verbose: int = False,
        n_jobs: int | None = None,
    ) -> None:
        _set_parameters(self, locals())

    def _own_loss(self) -> Loss:
        """A Loss of classes, or a function of outputs, which are logits, and class indices."""
        loss = self.loss if isinstance(self.loss, Loss) else Loss(self.loss, targets="class")
        if loss.targets != "class" or loss.class_weight is not None:
            raise ConfigError(
                f"loss: expected a loss of classes without class_weight, which is a parameter here, got "
                f"{loss}."
            )
        return loss

    def _loss(self) -> Loss:
        loss = super()._loss()
        if self.class_weight is None:
            return loss
        if loss.function is not None:
            raise ConfigError("class_weight: expected None with a function as loss, got one.")
        return Loss(loss.name, class_weight=self._class_weight, average=loss.average, **loss.parameters)

    def _targets(self, y: Any, dtype: Any, going_on: bool) -> tuple[Any, int]:
        if not (self._every and _listed(y)):
            y = np.asarray(y) if is_table(y) else _stacked(y, "y")
        parts = [column(part) for part in y] if self._every else [column(y, warn=True)]
        labels = np.concatenate(parts)
        if labels.dtype.kind == "f":
            assert_all_finite(labels, input_name="y")
        check_classification_targets(labels)
        classes = np.unique(labels)
        if not (going_on and hasattr(self, "classes_")):
            self.classes_ = classes
        unknown = classes[~np.isin(classes, self.classes_)]
        if len(unknown):
            raise ConfigError(
                f"y: expected labels of classes_, {_text(self.classes_)}, got {_text(unknown)}.  With "
                f"warm_start and partial_fit the first call sets the classes."
            )
        indices = np.searchsorted(self.classes_, labels)
        if self.class_weight is not None:
            weight = compute_class_weight(self.class_weight, classes=self.classes_, y=labels)
            self._class_weight = weight.tolist()
        if not self._every:
            return indices, len(self.classes_)
        ends = np.cumsum([len(part) for part in parts])[:-1]
        split = np.split(indices, ends)
        return split if _listed(y) else np.stack(split), len(self.classes_)

    @suggesting
    def partial_fit(self, X: Any, y: Any, classes: Any = None, sample_weight: Any = None) -> Self:
        """Train the existing network, or a new one, for one epoch.

        Parameters
        ----------
        X, y, sample_weight
            As in `fit`.
        classes : array (C,)
            All labels of this and later calls.  Required in the first call, optional in later ones.

        Returns
        -------
        self
        """
        first = not hasattr(self, "classes_")
        if first and classes is None:
            raise ConfigError("classes must be passed on the first call to partial_fit.")
        known: dict[str, Any] = {} if classes is None else {"classes_": np.unique(classes)}
        if known and not first and not np.array_equal(known["classes_"], self.classes_):
            raise ConfigError(
                f"classes: expected those of the first call, {_text(self.classes_)}, got "
                f"{_text(known['classes_'])}."
            )
        if isinstance(self.class_weight, str):
            raise ConfigError(
                f"class_weight: expected a dict or None in partial_fit, which sees only a part of the "
                f"data, got {self.class_weight!r}.  Use compute_class_weight of scikit-learn on all labels."
            )
        return self._fitted(X, y, sample_weight, True, 1, **known)

    @overload
    def predict(self, X: Numbers | Table) -> Array: ...
    @overload
    def predict(self, X: Any) -> Any: ...
    @suggesting
    def predict(self, X: Any) -> Any:
        """Predict the most probable labels.

        Parameters
        ----------
        X : as in `fit`

        Returns
        -------
        y : array (n,); with readout "every" (n, T), or a list of (T_i,)
        """
        return self._each(X, lambda logits: self.classes_[logits.argmax(axis=-1)])

    @overload
    def predict_proba(self, X: Numbers | Table) -> Array: ...
    @overload
    def predict_proba(self, X: Any) -> Any: ...
    def predict_proba(self, X: Any) -> Any:
        """Predict the probability of each class, in the order of `classes_`.

        Parameters
        ----------
        X : as in `fit`

        Returns
        -------
        p : array (n, C); with readout "every" (n, T, C), or a list of (T_i, C)
        """
        return self._each(X, lambda logits: softmax(logits, axis=-1))

    @overload
    def predict_log_proba(self, X: Numbers | Table) -> Array: ...
    @overload
    def predict_log_proba(self, X: Any) -> Any: ...
    def predict_log_proba(self, X: Any) -> Any:
        """Predict log-probabilities, without underflow of tiny probabilities.

        Parameters
        ----------
        X : as in `fit`

        Returns
        -------
        p : array (n, C); with readout "every" (n, T, C), or a list of (T_i, C)
        """
        return self._each(X, lambda logits: log_softmax(logits, axis=-1))

    def _each(self, X: Any, function: Any) -> Any:
        logits = self._outputs(X)
        return [function(part) for part in logits] if isinstance(logits, list) else function(logits)

    @suggesting
    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Accuracy over all labels; all steps have equal weight.

        Parameters
        ----------
        X, y, sample_weight : as in `fit`

        Returns
        -------
        score : float
        """
        y, predicted, weight = self._all_rows(X, y, sample_weight)
        return float(accuracy_score(y, predicted, sample_weight=weight))


class RNNForecaster(_Estimator):
    __doc__ = f"""Time series forecasting by a recurrent one-step predictor that is fed its own outputs.

    Parameters
    ----------
    {NETWORK_WORDS}
    horizon : int, default 1
        Number of steps that `predict` forecasts.
    window : int, default 32
        Length of the windows for training, and of the last window of a series for forecasts.  A shorter
        series is one window.
    stride : int, default 1
        Steps from one window to the next.  Larger values make epochs shorter.
    standardize : bool, default True
        Scale each feature to mean 0 and standard deviation 1; forecasts are scaled back.
    loss : {{"squared_error", "absolute_error", "huber"}}, optional
        Loss of the one-step prediction.  None is "squared_error".
    {COMMON_WORDS}

    Attributes
    ----------
    {FITTED_WORDS}
    mean_, scale_ : ndarray (I,)
        Means and deviations of `standardize`; `network_` has them as its `scaling`, so its inputs are not
        scaled by the caller.

    Notes
    -----
    X is one series or many:

    - an array or DataFrame (T, I), or a Series (T,) of pandas or polars, is one series with its rows as
      steps; its forecast has the same form.  A pandas index is continued at its frequency or by its constant
      step; an index without one is an error in `predict`.  In `fit`, at least as many columns as rows are
      an error: they look like series in rows;
    - an array (n, T, I), or a list of arrays or tables (T_i,) or (T_i, I), is n series: n series of T single
      numbers in the rows of an array are ``list(X)``.

    The rows of an array are steps, not samples, so the tag ``two_d_array`` of scikit-learn is False.

    The network is float32 if X is, which is faster, else float64.

    Examples
    --------
    >>> import numpy as np
    >>> from bptt_fast.estimators import RNNForecaster
    >>> series = 5 + np.sin(np.arange(220) / 4)
    >>> model = RNNForecaster(16, horizon=20, learning_rate_init=0.01, tol=0.001, random_state=0)
    >>> future = model.fit([series[:200]]).predict([series[:200]])
    >>> future.shape, float(abs(future[0] - series[200:]).max()) < 0.2
    ((1, 20), True)
    """

    @suggesting
    def __init__(
        self,
        hidden_size: int = 32,
        *,
        cell: Cell = "gru",
        num_layers: int = 1,
        horizon: int = 1,
        window: int = 32,
        stride: int = 1,
        standardize: bool = True,
        head: Sequence[int] = (),
        skip: bool = False,
        activation: Activation | None = None,
        equation: Equation = "rate",
        tau: ArrayLike = 10.0,
        dt: float = 1.0,
        recurrent_noise: float = 0.0,
        noise: Noise = "sde",
        input_noise: float = 0.0,
        dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        rules: Mapping[str, Rule] | None = None,
        loss: str | Loss | Callable[..., Any] | None = None,
        solver: Optimizer | OptimizerName = "adam",
        learning_rate_init: float | None = None,
        batch_size: int | Literal["auto"] = "auto",
        clip_norm: float | None = None,
        max_iter: int = 200,
        shuffle: bool = True,
        random_state: Any = None,
        tol: float = 1e-4,
        n_iter_no_change: int = 10,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        warm_start: bool = False,
        verbose: int = False,
        n_jobs: int | None = None,
    ) -> None:
        _set_parameters(self, locals())

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.required = False
        tags.input_tags.two_d_array = False  # of samples
        return tags

    @suggesting
    def fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> Self:
        """Train a network to predict the next step, or continue training with `warm_start`.

        Parameters
        ----------
        X : array (T, I) or (n, T, I), DataFrame or Series, or list of arrays (T_i,) or (T_i, I)
            The series, each of at least two steps; see the notes of the class.
        y : None
            Covariates are not supported: add them as columns of X, all of which are forecast, or use a
            ``bptt_fast.Forecaster``.  Labels (n,) of n series in a list or an array (n, T, I), which
            scikit-learn's tools may pass, are ignored with a warning.
        sample_weight : array (n,), optional
            Weights of the series, at least 0; for one series weights of its rows, (T,).

        Returns
        -------
        self

        Raises
        ------
        ValueError
            If an argument or a parameter is invalid; the message names it.
        DivergedError
            If the loss is NaN or infinite.
        """
        return self._fitted(X, y, sample_weight, self.warm_start, None)

    @suggesting
    def partial_fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> Self:
        """Train the existing network, or a new one, for one epoch.

        The first call computes the scaling of `standardize`; each call resets the state of the solver.

        Parameters
        ----------
        X, y, sample_weight
            As in `fit`.

        Returns
        -------
        self
        """
        return self._fitted(X, y, sample_weight, True, 1)

    def _check_parameters(self) -> None:
        super()._check_parameters()
        for name in ("horizon", "window", "stride"):
            integer(getattr(self, name), name)
        flag(self.standardize, "standardize")

    def _learn(self, X: Any, y: Any, weight: Any, going_on: bool, epochs: int | None) -> None:
        series, form = self._series(X, not (going_on and hasattr(self, "network_")))
        one = form in ("table", "array")
        _check_no_targets(y, 0 if one else len(series))
        weight = _weights(weight, series[0] if one else series, "row" if one else "series")
        weights = _spread(weight if weight is None or not one else [weight], series)
        net = self._network(series[0].shape[1], series[0].shape[1], series[0].dtype, going_on)
        known, counted, new = series, weights, None
        if epochs is None and self.early_stopping:
            new = self._held_out(series)
            known, counted = ([a[:-n] for a, n in zip(part, new, strict=True)] for part in (series, weights))
        x, y = _steps_ahead([part for one in known for part in self._windows(one)])
        _, each = _steps_ahead([part for one in counted for part in self._windows(one)])
        held = None
        if new is not None:
            held = self._validation(series, weights, new)
            _check_both_sides(each, held[2])
        if net is not getattr(self, "network_", None):
            self._measure(np.concatenate(known), np.concatenate(counted))
            names = names_of(X) if form == "table" else None
            scaling = Scaling(*[self.mean_, self.scale_] * 2) if self.standardize else None
            net.columns = Columns(names, names, scaling)
        self._train(net, x, y, None if weight is None else each, held, epochs)
        net.lead = 1  # targets are the inputs one step later

    @overload
    def predict(self, X: TableT, horizon: int | None = None) -> TableT: ...
    @overload
    def predict(self, X: Any, horizon: int | None = None) -> Array: ...
    @suggesting
    def predict(self, X: Any, horizon: int | None = None) -> Any:
        """Forecast the steps after the end of each series.

        Parameters
        ----------
        X : as in `fit`
            The known steps of each series, at least one.
        horizon : int, optional
            Number of steps; default: the parameter `horizon`.

        Returns
        -------
        future : array (n, horizon) or (n, horizon, I)
            Forecasts in the form of X; for one series a DataFrame, Series or array of `horizon` rows.
        """
        check_is_fitted(self, "network_")
        steps = integer(self.horizon if horizon is None else horizon, "horizon")
        series, form = self._series(X, False, 1)
        future = self._forecast(series, steps)
        if form == "table":
            names = self.network_.output_names or names_of(X)
            return like(X, future[0], names, continued(X, steps, "predict"))
        return {"array": future[0], "numbers": future[:, :, 0], "rows": future}[form]

    @suggesting
    def score(self, X: Any, y: Any = None) -> float:
        """R^2 of the last `horizon` steps of each series, forecast from the preceding steps.

        Parameters
        ----------
        X : as in `fit`
            Series longer than `horizon`.
        y : None
            As in `fit`.

        Returns
        -------
        score : float
        """
        check_is_fitted(self, "network_")
        steps = integer(self.horizon, "horizon")
        series, form = self._series(X, False, steps + 1)
        _check_no_targets(y, 0 if form in ("table", "array") else len(series))
        future = self._forecast([one[:-steps] for one in series], steps)
        return float(r2_score(np.concatenate([one[-steps:] for one in series]), np.concatenate(list(future))))

    def _series(self, X: Any, reset: bool, min_steps: int = 2) -> tuple[list[Array], str]:
        """X as a list of (T_i, I), each of at least `min_steps` steps, and its form.

        "table" and "array" are one series; "numbers" are many without an axis of features, "rows" with one.
        """
        if is_table(X):
            rows = self._rows(X if hasattr(X, "columns") else X.to_frame(), reset)
            # scikit-learn has compared names that are str, and their order
            known = hasattr(self, "network_") and (self.warm_start or not reset)
            places = order(names_of(X), self.network_.input_names, "X") if known else None
            series, form = [rows if places is None else rows[:, places]], "table"
            self._check_reading(X, rows.shape, reset)
        elif _is_ragged(X):
            series = list(self._inputs(X, reset))
            form = "numbers" if any(_dimensions(part) == 1 for part in X) else "rows"
        elif _dimensions(X := _stacked(X, "X")) == 3:
            series, form = list(self._inputs(X, reset)), "rows"
        else:
            self._check_reading(X, np.shape(X), reset)
            series, form = [self._rows(X, reset)], "array"
        shortest = min(map(len, series))
        if shortest < min_steps:
            raise ShapeError(f"X: expected series of at least {min_steps} steps, got one of {shortest}.")
        return series, form

    def _check_reading(self, X: Any, shape: tuple[int, ...], reset: bool) -> None:
        """Raise for one series (T, I) that looks like series in rows: T <= I, or I = 1 in `fit`."""
        if len(shape) == 1:
            raise ShapeError(f"X: expected one series (T, I), or many, got {shape}.  A column: X[:, None].")
        if len(shape) != 2 or not shape[0]:
            return
        if shape[1] >= max(shape[0], 2) if reset else shape[1] > self.network_.input_size == 1:
            rows, columns = shape
            many = "list(X.to_numpy())" if is_table(X) else "list(X)"
            raise ShapeError(
                f"X: expected one series (T, I) of T steps with I columns, got {shape}, which looks like "
                f"{rows} series of {columns} steps.  For one series of {rows} steps pass [X], for {rows} "
                f"series {many}."
            )

    def _held_out(self, series: list[Array]) -> list[int]:
        """The number of validation steps at the end of each series."""
        share = self.validation_fraction
        new = [max(1, round(share * len(one))) for one in series]
        for i, (one, held) in enumerate(zip(series, new, strict=True)):
            if len(one) - held < 2:
                raise ShapeError(
                    f"X: expected series with at least 2 steps left for training, with early_stopping "
                    f"and validation_fraction={share:g}, got {len(one)} steps in series {i}."
                )
        return new

    def _validation(self, series: list[Array], weights: list[Array], new: list[int]) -> tuple[Any, ...]:
        """Inputs, targets and weights of the last `new` steps of each series, after a window of weight 0."""
        starts = [max(len(one) - n - self.window, 0) for one, n in zip(series, new, strict=True)]
        x, y = _steps_ahead([a[start:] for a, start in zip(series, starts, strict=True)])
        _, each = _steps_ahead([w[start:].copy() for w, start in zip(weights, starts, strict=True)])
        for w, n in zip(each, new, strict=True):
            w[:-n] = 0
        return x, y, each

    def _measure(self, rows: Array, weights: Array) -> None:
        self.mean_, self.scale_ = np.zeros(rows.shape[1]), np.ones(rows.shape[1])
        if self.standardize:
            self.mean_, self.scale_ = moments(rows, weights)

    def _windows(self, series: Array) -> list[Array]:
        """Views of `window` steps and the step to predict; the last view ends with the series."""
        rows = self.window + 1
        last = max(len(series) - rows, 0)
        return [series[start : start + rows] for start in (*range(0, last, self.stride), last)]

    def _forecast(self, series: list[Array], steps: int) -> Array:
        """Forecasts (n, steps, I) from the last window of each series."""
        net, window = self.network_, integer(self.window, "window")
        return net.forecast([one[-window:] for one in series], steps).astype(net.dtype)


def _set_parameters(estimator: BaseEstimator, arguments: dict[str, Any]) -> None:
    """Store the constructor's arguments as attributes, unchanged, as scikit-learn requires."""
    vars(estimator).update((name, value) for name, value in arguments.items() if name != "self")


# ---- the forms of X, y and sample_weight


def _dimensions(a: Any) -> int:
    """Number of axes of an array or a table; 0 for other values."""
    return len(getattr(a, "shape", ()))


def _listed(a: Any) -> bool:
    return isinstance(a, (list, tuple))


def _is_ragged(X: Any) -> bool:
    """Whether X is a list of arrays or tables, one per sequence."""
    return _listed(X) and len(X) > 0 and all(_dimensions(part) in (1, 2) for part in X)


def _stacked(a: Any, name: str) -> Any:
    """Nested lists as an array; other values unchanged."""
    if _dimensions(a) == 1 and a.dtype == object and any(map(_dimensions, a)):
        raise ShapeError(f"{name}: expected numbers, got an array of arrays.  Pass a list: list({name}).")
    if not _listed(a):
        return a
    try:
        return np.asarray(a)
    except ValueError:
        pass
    for i, part in enumerate(a):
        try:
            np.asarray(part)
        except ValueError:
            raise ShapeError(
                f"{name}[{i}]: expected steps with equally many numbers, got lists of different length."
            ) from None
    lengths = sorted({len(part) if np.ndim(part) else 1 for part in a})
    advice = f"Sequences of different length go in a list of arrays: [np.asarray(a) for a in {name}]."
    if _is_ragged(a):
        advice = 'For one target per step: readout="every".'
    raise ShapeError(
        f"{name}: expected parts of one shape, got parts of {lengths[0]} to {lengths[-1]} entries.  {advice}"
    )


def _warn_of_shared_rows(X: Any) -> None:
    """Warn the caller of `fit` if sequences that are drawn for validation share memory with others."""
    if are_overlapping(X):
        warnings.warn(
            "early_stopping: the sequences of X are views of the same rows, so those held out share rows "
            "with the training sequences, and their loss comes out too low.  An RNNForecaster, or a Network "
            "with Sequences.windows(series, length) and a validation_split, leaves a gap between the two.",
            UserWarning,
            stacklevel=6,
        )


def _take(a: Any, indices: Array) -> Any:
    """The sequences, targets or weights at the `indices`."""
    return [a[i] for i in indices] if _listed(a) else np.asarray(a)[indices]


def _check_steps(y: Any, x: Any) -> None:
    """Raise unless each step of each sequence has one target, all of one width."""
    for i, (part, sequence) in enumerate(zip(y, x, strict=True)):
        expected = (len(sequence), *y[0].shape[1:])
        if part.shape != expected:
            name = "y" if isinstance(y, np.ndarray) else f"y[{i}]"
            got, expected = (y.shape, (len(x), *expected)) if name == "y" else (part.shape, expected)
            one = name == "y" and got == (len(x),) != expected
            hint = f"  For one series of {len(x)} steps pass [X], [y]." if one else ""
            raise ShapeError(f"{name}: expected {expected}, one target for each step, got {got}.{hint}")


def _check_no_targets(y: Any, series: int) -> None:
    """Raise for covariates, warn about labels; 0 `series` are one whose rows would be those of y."""
    if y is None:
        return
    try:
        targets = check_array(y, ensure_2d=False, allow_nd=True, dtype=None, ensure_all_finite=False)
    except ValueError:  # lists of different length, for example
        targets = np.empty((0, 0))
    real = targets.dtype.kind == "f" and not np.array_equal(targets, np.round(targets))
    if targets.shape != (series,) or real:
        raise ConfigError(
            f"y: expected None, as RNNForecaster learns the next step of X and takes no covariates, got "
            f"{type(y).__name__}.  Add them as columns of X, all of which are forecast, or use a Forecaster, "
            f"which has covariates, or an RNNRegressor."
        )
    warnings.warn("y is ignored: RNNForecaster learns the next step of X.", UserWarning, stacklevel=6)


def _text(labels: Array) -> str:
    """Labels as text for a message."""
    return ", ".join(map(repr, labels[:10].tolist())) + (", ..." if len(labels) > 10 else "")


def _weights(weight: Any, parts: Any, each: str, every: bool = False) -> Any:
    """The checked weights, one for `each` of the parts, or if `every` one per step in their form."""
    if weight is None:
        return None
    dtype = parts[0].dtype if parts[0].dtype.kind == "f" else float
    if every and (_dimensions(weight) == 2 or (_listed(weight) and any(map(np.ndim, weight)))):
        lists = weight if _listed(weight) else np.asarray(weight)
        if len(lists) != len(parts):
            raise ShapeError(f"sample_weight: expected {len(parts)} rows of weights, got {len(lists)}.")
        per_step = [_numbers(w, f"sample_weight[{i}]", dtype) for i, w in enumerate(lists)]
        for i, (w, part) in enumerate(zip(per_step, parts, strict=True)):
            if w.shape != (len(part),):
                raise ShapeError(
                    f"sample_weight[{i}]: expected ({len(part)},), one for each step, got {w.shape}."
                )
        rows, result = per_step, per_step if isinstance(parts, list) else np.stack(per_step)
    else:
        result = _numbers(_stacked(weight, "sample_weight"), "sample_weight", dtype)
        if result.shape != (len(parts),):
            raise ShapeError(
                f"sample_weight: expected ({len(parts)},), one for each {each}, got {result.shape}."
            )
        rows = [result]
    lowest = min(w.min() for w in rows)
    if lowest < 0:
        raise ConfigError(f"sample_weight: expected finite numbers of at least 0, got {lowest:g}.")
    if not any(map(np.any, rows)):
        raise ConfigError("sample_weight: expected at least one weight above 0, got only zeros.")
    return result


def _check_kind(a: Any, name: str) -> None:
    """Raise for masked arrays and columns of dates or text, which scikit-learn would convert in silence."""
    if isinstance(a, np.ma.MaskedArray):
        numbers(a, name)
    if isinstance(a, np.ndarray) and a.dtype.kind in "OUS":
        values = a.ravel().tolist()
        words = (value for value in values if isinstance(value, str | bytes) and not _is_numeric(value))
        for word in words:
            numbered = (
                "Number classes from 0 on, as sklearn.preprocessing.OrdinalEncoder does, and name their "
                "columns in `categories`."
            )
            remedy = LABELS if name == "y" else numbered
            raise ConfigError(f"{name}: expected real numbers, got the text {word!r}.  {remedy}")
    found = columns_without_numbers(a, objects=True, of_text=LABELS if name == "y" else "")
    if found:
        raise ConfigError(f"{name}: expected real numbers, got {found}")


def _is_numeric(text: str | bytes) -> bool:
    """Whether a text is a number."""
    try:
        float(text)
    except ValueError:
        return False
    return True


def _numbers(a: Any, name: str, dtype: Any) -> Array:
    """An array of finite numbers of any shape; else raises a ShapeError."""
    _check_kind(a, name)
    try:
        with np.errstate(over="ignore"):  # overflow to float32 is reported as an infinity
            array: Array = check_array(a, ensure_2d=False, allow_nd=True, dtype=dtype, input_name=name)
            return array
    except (TypeError, ValueError) as error:
        text = name.startswith("y") and np.asarray(a).dtype.kind in "OUS"
        hint = ".  Labels of classes: RNNClassifier." if text else ""
        raise ShapeError(f"{name}: {error}{hint}") from None


def _spread(weight: Any, parts: Any) -> list[Array]:
    """Weights of each step of each part, from weights per part or per step; None: 1."""
    weight = np.ones(len(parts)) if weight is None else weight
    return [np.full(len(part), w) for part, w in zip(parts, weight, strict=True)]


def _check_both_sides(weight: Any, held: Any) -> None:
    for part, what in ((weight, "training"), (held, "validation")):
        if not any(map(np.any, part)):
            raise ConfigError(
                f"sample_weight: expected a weight above 0 on each side of validation_fraction, got only "
                f"zeros for {what}.  Use another validation_fraction, or early_stopping=False."
            )


def _steps_ahead(series: list[Array]) -> tuple[list[Array], list[Array]]:
    """Inputs and targets of one-step prediction: all steps but the last, and all but the first."""
    return [one[:-1] for one in series], [one[1:] for one in series]
