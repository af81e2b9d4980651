"""scikit-learn's face: estimators that translate its words into those of ``Network`` (extra "sklearn").

Nothing is computed here.  X and y become sequences and targets, the parameters a network and a call of its
`fit`, its outputs predictions.
"""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np

from . import optimizers
from .columns import Columns, Scaling, continued, is_table, like, moments, names_of, order
from .data import are_overlapping, columns_without_numbers, numbers
from .description import Description
from .errors import ConfigError, ShapeError, choice, flag, integer, number
from .initialisation import CELLS
from .network import Network
from .stopping import Stopping

try:
    from scipy.special import log_softmax, softmax
    from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin, is_classifier
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.metrics import accuracy_score, r2_score
    from sklearn.model_selection import train_test_split
    from sklearn.utils import assert_all_finite, check_array, check_consistent_length, check_random_state
    from sklearn.utils import column_or_1d as column
    from sklearn.utils.multiclass import check_classification_targets
    from sklearn.utils.validation import check_is_fitted, validate_data
except ImportError as error:
    raise ImportError(
        f"bptt_fast.estimators needs scikit-learn of at least version 1.6 ({error}).  Install it: "
        f'pip install "bptt-fast[sklearn]".'
    ) from error

__all__ = ["RNNClassifier", "RNNForecaster", "RNNRegressor"]

Array = np.ndarray[Any, Any]

ACTIVATIONS = {"tanh": "tanh", "relu": "relu", "logistic": "sigmoid", "identity": "linear"}
REAL_LOSSES = {"squared_error": "mse", "absolute_error": "mae", "huber": "huber"}
DTYPES = (np.float64, np.float32)  # X of another dtype becomes the first
AUTO_BATCH = 200  # scikit-learn's
MOST_PER_STEP = 50  # series for each step of them, in an array; more look like one series

NETWORK_WORDS = """hidden_size : int, default 32
        Numbers in the state of one layer.
    cell : {"elman", "gru", "lstm"}, default "gru"
        The state function.
    num_layers : int, default 1
        Recurrent layers, each reading the one below."""

BIDIRECTIONAL_WORDS = """bidirectional : bool, default False
        Each layer also runs from the last step to the first."""

COMMON_WORDS = """head : tuple of int, default ()
        Widths of hidden layers between the state and the output.
    activation : {"tanh", "relu", "logistic", "identity"}, optional
        Of the cell "elman"; None is "tanh".  The nonlinearities of the gated cells are fixed.
    dropout, recurrent_dropout : float, default 0
        As in ``Network``: between layers, and within the recurrence.
    solver : str or optimiser, default "adam"
        A name, or an object such as ``bf.SGD(0.1, momentum=0.9)``.
    learning_rate_init : float, optional
        In place of the learning rate of `solver`.  Not used by the solvers of second order ("lbfgs",
        "levenberg_marquardt", "hessian_free"), which choose the length of their steps.
    batch_size : int, default "auto"
        Sequences between two updates; "auto" is min(200, n).  Not used by the solvers of second order, which
        take all sequences at once.
    clip_norm : float, optional
        If the norm of the gradient is larger, it is scaled to this.  Not used by the solvers of second order.
    max_iter : int, default 200
        Epochs at most.  A warning tells if they end before `n_iter_no_change` does.
    shuffle : bool, default True
        A new random order of the sequences in each epoch.  Without effect on the solvers of second order.
    random_state : int, RandomState or None
        Of the initial parameters, the order of the sequences, dropout, and what is held out.
    tol : float, default 1e-4
        A loss is better if it is lower than the best by more than this.
    n_iter_no_change : int, default 10
        Stop after this many epochs in a row without a better loss.
    early_stopping : bool, default False
        Judge by the loss of data held out, and end with the weights of the best epoch.
    validation_fraction : float, default 0.1
        The share held out: sequences drawn at random (of each class alike), of a forecaster the last steps of
        each series.
    warm_start : bool, default False
        Go on with the network of the last `fit`.
    verbose : bool or int, default False
        0: silence; 1 or True: a progress bar; 2: a line an epoch.
    n_jobs : int, optional
        Threads.  None and -1: as many as the machine and the environment allow.  Results do not depend on
        it."""

FITTED_WORDS = """network_ : Network
        What was trained; ``network_.save(path)`` writes it to a file.
    n_iter_ : int
        Epochs, those of earlier calls with `warm_start` or `partial_fit` included.
    loss_ : float
        The training loss of the last epoch; if a solver of second order found nothing to improve, that of the
        network as it is.
    loss_curve_, validation_loss_curve_ : list of float
        Of the last call; the second is empty without `early_stopping`.
    n_features_in_ : int
        Columns: steps of a 2-D X, features of every other.
    feature_names_in_ : ndarray of str
        The names of the columns, if X had some."""


class _Estimator(BaseEstimator):
    """What the estimators share: how parameters become a network and a fit, and X a set of sequences."""

    LOSSES: ClassVar[dict[str, str]] = REAL_LOSSES  # the first is the default
    bidirectional = False
    readout = "every"
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
        return Description(
            inputs,
            self.hidden_size,
            outputs,
            cell=choice(self.cell, "cell", [c for c, row in CELLS.items() if not row["hidden_layers"]]),
            num_layers=self.num_layers,
            bidirectional=self.bidirectional,
            nonlinearity=activation,
            head=self.head,
            dropout=self.dropout,
            recurrent_dropout=self.recurrent_dropout,
            readout=self.readout,
            dtype=dtype,
            seed=seed,
        )

    def _network(self, inputs: int, outputs: int, dtype: Any, going_on: bool) -> Network:
        """A new network, or the one there is if `going_on`."""
        if not (going_on and hasattr(self, "network_")):
            seed = check_random_state(self.random_state).randint(2**31 - 1)
            return Network(**vars(self._description(inputs, outputs, np.dtype(dtype).name, int(seed))))
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
                f"  Begin anew with clone(estimator)."
            )
        return self.network_

    def _solver(self) -> Any:
        """The optimiser; one of second order has neither a learning rate nor clipping."""
        solver = optimizers.get(self.solver, "solver")
        if not isinstance(solver, optimizers.FirstOrder):
            return solver
        given = {"learning_rate": self.learning_rate_init, "clip_norm": self.clip_norm}
        return replace(solver, **{name: float(value) for name, value in given.items() if value is not None})

    def _loss(self) -> str:
        if self.loss is None:
            return next(iter(self.LOSSES.values()))
        return self.LOSSES[choice(self.loss, "loss", tuple(self.LOSSES))]

    def _fitted(self, *given: Any) -> Any:
        """Learn, and after an error be as before."""
        before = vars(self).copy()
        try:
            self._check_parameters()
            self._learn(*given)
        except Exception:
            self.__dict__ = before
            raise
        return self

    def _learn(self, X: Any, y: Any, weight: Any, going_on: bool, epochs: int | None) -> None:
        raise NotImplementedError

    def _check_parameters(self) -> None:
        """Raise a ConfigError for a parameter that the network and its `fit` would not see, or not always."""
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
        """Run `epochs` more, or (None) what `max_iter` and the criteria of stopping say."""
        stopping = None
        if epochs is None:
            stopping = Stopping(
                patience=self.n_iter_no_change, min_delta=self.tol, restore_best=self.early_stopping
            )
        more = epochs or self.max_iter
        seen = self.n_iter_ if net is getattr(self, "network_", None) else 0
        solver, loss = self._solver(), self._loss()
        whole = not isinstance(solver, optimizers.FirstOrder)
        size = None if whole else min(AUTO_BATCH, len(x)) if self._auto_batch else self.batch_size
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
        except KeyboardInterrupt:
            self.network_, self.n_iter_ = net, seen
            raise
        self.network_, self.n_iter_ = net, seen + len(history["epoch"])
        self.loss_curve_, self.validation_loss_curve_ = history["loss"], history.get("val_loss", [])
        if self.loss_curve_:
            self.loss_ = self.loss_curve_[-1]
        else:  # a solver that had converged before its first iteration
            self.loss_ = net.evaluate(x, y, loss=loss, sample_weight=weight, threads=jobs)
        if stopping and history.stopped == "epochs":
            warnings.warn(
                f"{type(self).__name__}: max_iter={more} epochs ended while the loss still fell by more than "
                f"tol={self.tol:g} in n_iter_no_change={self.n_iter_no_change} epochs.  A larger max_iter or "
                f"learning_rate_init may help.",
                ConvergenceWarning,
                stacklevel=5,
            )

    def _outputs(self, X: Any) -> Any:
        check_is_fitted(self, "network_")
        return self.network_.predict(self._inputs(X, reset=False))

    # ---- X

    def _inputs(self, X: Any, reset: bool) -> Any:
        """X as (n, T, I) or a list of (T_i, I); names and number of the columns noted, or compared."""
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
    """What regressor and classifier share: they learn y from X, one target a sequence or one a step."""

    def __init__(
        self,
        hidden_size=32,
        *,
        cell="gru",
        num_layers=1,
        bidirectional=False,
        head=(),
        activation=None,
        dropout=0.0,
        recurrent_dropout=0.0,
        readout="last",
        loss=None,
        solver="adam",
        learning_rate_init=None,
        batch_size="auto",
        clip_norm=None,
        max_iter=200,
        shuffle=True,
        random_state=None,
        tol=1e-4,
        n_iter_no_change=10,
        early_stopping=False,
        validation_fraction=0.1,
        warm_start=False,
        verbose=False,
        n_jobs=None,
    ):
        self.hidden_size = hidden_size
        self.cell = cell
        self.num_layers = num_layers
        self.bidirectional = bidirectional
        self.head = head
        self.activation = activation
        self.dropout = dropout
        self.recurrent_dropout = recurrent_dropout
        self.readout = readout
        self.loss = loss
        self.solver = solver
        self.learning_rate_init = learning_rate_init
        self.batch_size = batch_size
        self.clip_norm = clip_norm
        self.max_iter = max_iter
        self.shuffle = shuffle
        self.random_state = random_state
        self.tol = tol
        self.n_iter_no_change = n_iter_no_change
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.warm_start = warm_start
        self.verbose = verbose
        self.n_jobs = n_jobs

    @property
    def _every(self) -> bool:
        return choice(self.readout, "readout", ("last", "every")) == "every"

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Any:
        """Train a network, or with `warm_start` train it further.

        Parameters
        ----------
        X : array (n, T) or (n, T, I), DataFrame, or list of arrays (T_i,) or (T_i, I)
            The sequences, see above.
        y : array or list
            Targets: one a sequence, or with readout "every" one a step.
        sample_weight : array (n,), or of the shape of y without its last axis, optional
            Weights of the sequences, or of the targets; at least 0.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            If an argument or a parameter does not fit; see the text.
        DivergedError
            If the loss is not finite any more.
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
        """Inputs and targets for the network, its number of outputs, and the weights."""
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
        """Targets, predictions and weights for a score; if there is one a step, those of all in one row."""
        found = self.predict(X)
        check_consistent_length(found, y)
        weight = _weights(weight, found, "sequence", self._every)
        if not self._every:
            return y, found, weight
        y = y if isinstance(y, np.ndarray) else [np.asarray(part) for part in y]
        _check_steps(y, found)
        if weight is not None:
            weight = np.concatenate(_spread(weight, found))
        return np.concatenate(list(y)), np.concatenate(list(found)), weight

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
    __doc__ = f"""Numbers from sequences, by a recurrent network: one target a sequence, or one a step.

    Parameters
    ----------
    {NETWORK_WORDS}
    {BIDIRECTIONAL_WORDS}
    readout : {{"last", "every"}}, default "last"
        Whether y has one target a sequence, (n,) or (n, O), or one a step, (n, T) or (n, T, O), for a list a
        list of (T_i,) or (T_i, O).
    loss : {{"squared_error", "absolute_error", "huber"}}, optional
        None is "squared_error".
    {COMMON_WORDS}

    Attributes
    ----------
    {FITTED_WORDS}

    Notes
    -----
    X is an array (n, T) of n sequences of T single numbers, an array (n, T, I), or a list of sequences of
    different length, arrays or DataFrames (T_i,) or (T_i, I).  A DataFrame (n, T) is read as the array.  The
    network has the dtype of X if that is float32, which is the faster one, else float64.

    `partial_fit` is one epoch; what the solver keeps starts anew in each call.

    Examples
    --------
    >>> import numpy as np
    >>> from bptt_fast.estimators import RNNRegressor
    >>> X = np.random.default_rng(0).normal(size=(200, 12, 3))
    >>> y = X[:, -3:, 0].sum(axis=1)
    >>> model = RNNRegressor(16, learning_rate_init=0.01, tol=0.01, random_state=0).fit(X[:150], y[:150])
    >>> model.score(X[150:], y[150:]) > 0.8
    True
    """

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags

    def _targets(self, y: Any, dtype: Any, going_on: bool) -> tuple[Any, int]:
        found: Any
        if self._every and _is_ragged(y):
            found = [_numbers(part, f"y[{i}]", dtype) for i, part in enumerate(y)]
        else:
            found = _numbers(_stacked(y, "y"), "y", dtype)
        self._plain = found[0].ndim <= self._every  # whether y, and predictions, have no axis of outputs
        return found, 1 if self._plain else found[0].shape[-1]

    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> Any:
        """One epoch with these data, in the network there is or a new one.

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
            If X or y does not fit to those of the first call.
        """
        return self._fitted(X, y, sample_weight, True, 1)

    def predict(self, X: Any) -> Any:
        """The outputs, in the shape that `fit` saw as y.

        Parameters
        ----------
        X : as in `fit`

        Returns
        -------
        y : array (n,) or (n, O); with readout "every" (n, T) or (n, T, O), or a list of (T_i,) or (T_i, O)
        """
        y = self._outputs(X)
        if not self._plain:
            return y
        return [part[:, 0] for part in y] if isinstance(y, list) else y[..., 0]

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """R^2 over all targets, those of all steps alike.

        Parameters
        ----------
        X, y, sample_weight : as in `fit`

        Returns
        -------
        score : float
        """
        y, found, weight = self._all_rows(X, y, sample_weight)
        return float(r2_score(y, found, sample_weight=weight))


class RNNClassifier(ClassifierMixin, _Supervised):
    __doc__ = f"""Classes from sequences, by a recurrent network: one a sequence, or one a step.

    Parameters
    ----------
    {NETWORK_WORDS}
    {BIDIRECTIONAL_WORDS}
    readout : {{"last", "every"}}, default "last"
        Whether y has one label a sequence, (n,), or one a step, (n, T), for a list a list of (T_i,).
    loss : {{"log_loss"}}, optional
        None is "log_loss".
    {COMMON_WORDS}

    Attributes
    ----------
    {FITTED_WORDS}
    classes_ : ndarray (C,)
        The labels.

    Notes
    -----
    X is an array (n, T) of n sequences of T single numbers, an array (n, T, I), or a list of sequences of
    different length, arrays or DataFrames (T_i,) or (T_i, I).  A DataFrame (n, T) is read as the array.  The
    network has the dtype of X if that is float32, which is the faster one, else float64.

    `partial_fit` is one epoch; what the solver keeps starts anew in each call.

    Examples
    --------
    Whether a sequence ends higher than it began; the sequences have different lengths.

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

    def _targets(self, y: Any, dtype: Any, going_on: bool) -> tuple[Any, int]:
        if not (self._every and _listed(y)):
            y = np.asarray(y) if is_table(y) else _stacked(y, "y")
        parts = [column(part) for part in y] if self._every else [column(y, warn=True)]
        labels = np.concatenate(parts)
        if labels.dtype.kind == "f":
            assert_all_finite(labels, input_name="y")
        check_classification_targets(labels)
        found = np.unique(labels)
        if not (going_on and hasattr(self, "classes_")):
            self.classes_ = found
        unknown = found[~np.isin(found, self.classes_)]
        if len(unknown):
            raise ConfigError(
                f"y: expected labels of classes_, {_some(self.classes_)}, got {_some(unknown)}.  With "
                f"warm_start and partial_fit the first call says which classes there are."
            )
        indices = np.searchsorted(self.classes_, labels)
        if not self._every:
            return indices, len(self.classes_)
        ends = np.cumsum([len(part) for part in parts])[:-1]
        split = np.split(indices, ends)
        return split if _listed(y) else np.stack(split), len(self.classes_)

    def partial_fit(self, X: Any, y: Any, classes: Any = None, sample_weight: Any = None) -> Any:
        """One epoch with these data, in the network there is or a new one.

        Parameters
        ----------
        X, y, sample_weight
            As in `fit`.
        classes : array (C,)
            All labels that will ever come.  Needed in the first call, optional in later ones.

        Returns
        -------
        self
        """
        first = not hasattr(self, "classes_")
        if first and classes is None:
            raise ConfigError("classes must be passed on the first call to partial_fit.")
        if classes is not None:
            classes = np.unique(classes)
            if not first and not np.array_equal(classes, self.classes_):
                raise ConfigError(
                    f"classes: expected those of the first call, {_some(self.classes_)}, got "
                    f"{_some(classes)}."
                )
            self.classes_ = classes
        return self._fitted(X, y, sample_weight, True, 1)

    def predict(self, X: Any) -> Any:
        """The most probable labels.

        Parameters
        ----------
        X : as in `fit`

        Returns
        -------
        y : array (n,); with readout "every" (n, T), or a list of (T_i,)
        """
        return self._each(X, lambda logits: self.classes_[logits.argmax(axis=-1)])

    def predict_proba(self, X: Any) -> Any:
        """The probability of each class, in the order of `classes_`.

        Parameters
        ----------
        X : as in `fit`

        Returns
        -------
        p : array (n, C); with readout "every" (n, T, C), or a list of (T_i, C)
        """
        return self._each(X, lambda logits: softmax(logits, axis=-1))

    def predict_log_proba(self, X: Any) -> Any:
        """The logarithms of `predict_proba`, exact also where the probabilities are tiny.

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

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """The share of right labels, those of all steps alike.

        Parameters
        ----------
        X, y, sample_weight : as in `fit`

        Returns
        -------
        score : float
        """
        y, found, weight = self._all_rows(X, y, sample_weight)
        return float(accuracy_score(y, found, sample_weight=weight))


class RNNForecaster(_Estimator):
    __doc__ = f"""The future of series, by a recurrent network for the next step that is fed its own outputs.

    Parameters
    ----------
    {NETWORK_WORDS}
    horizon : int, default 1
        Steps that `predict` looks ahead.
    window : int, default 32
        The network learns from windows of this many steps, and forecasts from the last window of a series.
        A series that is not longer than a window is taken as it is.
    stride : int, default 1
        Steps from one window to the next.  A larger one makes an epoch shorter.
    standardize : bool, default True
        Bring each feature to mean 0 and deviation 1 before; forecasts are brought back.
    loss : {{"squared_error", "absolute_error", "huber"}}, optional
        Of the prediction of the next step.  None is "squared_error".
    {COMMON_WORDS}

    Attributes
    ----------
    {FITTED_WORDS}
    mean_, scale_ : ndarray (I,)
        What `standardize` found; `network_` has it as its `scaling`, and takes series as they are.

    Notes
    -----
    X is one series or many:

    - a DataFrame (T, I) or Series (T,) of pandas or polars is one series, its rows are the steps; its
      forecast is a DataFrame or Series too.  The index of pandas goes on at its frequency, or by its constant
      step; an index without one is an error in `predict`;
    - an array (n, T, I), or a list of arrays or tables (T_i,) or (T_i, I), is n series.  One series as an
      array: ``[series]``;
    - an array (n, T) is n series of T single numbers, the rows being scikit-learn's samples.  A column (T, 1)
      is one series, and to a forecaster that was fitted to series of I > 1 features so is every (T, I).  In
      `fit`, an array that looks like one series of T steps is an error (more than 50 times as many rows as
      columns) or a warning (more rows than `window` steps, not more columns).

    The network has the dtype of X if that is float32, which is the faster one, else float64.

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

    def __init__(
        self,
        hidden_size=32,
        *,
        cell="gru",
        num_layers=1,
        horizon=1,
        window=32,
        stride=1,
        standardize=True,
        head=(),
        activation=None,
        dropout=0.0,
        recurrent_dropout=0.0,
        loss=None,
        solver="adam",
        learning_rate_init=None,
        batch_size="auto",
        clip_norm=None,
        max_iter=200,
        shuffle=True,
        random_state=None,
        tol=1e-4,
        n_iter_no_change=10,
        early_stopping=False,
        validation_fraction=0.1,
        warm_start=False,
        verbose=False,
        n_jobs=None,
    ):
        self.hidden_size = hidden_size
        self.cell = cell
        self.num_layers = num_layers
        self.horizon = horizon
        self.window = window
        self.stride = stride
        self.standardize = standardize
        self.head = head
        self.activation = activation
        self.dropout = dropout
        self.recurrent_dropout = recurrent_dropout
        self.loss = loss
        self.solver = solver
        self.learning_rate_init = learning_rate_init
        self.batch_size = batch_size
        self.clip_norm = clip_norm
        self.max_iter = max_iter
        self.shuffle = shuffle
        self.random_state = random_state
        self.tol = tol
        self.n_iter_no_change = n_iter_no_change
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.warm_start = warm_start
        self.verbose = verbose
        self.n_jobs = n_jobs

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.required = False
        return tags

    def fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> Any:
        """Train a network to predict the next step, or with `warm_start` train it further.

        Parameters
        ----------
        X : array (n, T) or (n, T, I), DataFrame or Series, or list of arrays (T_i,) or (T_i, I)
            The series, see above; each of at least two steps.
        y : None
            There are no covariates: make columns of X of what else is known, all of which are forecast.
            Labels (n,), which scikit-learn's tools may pass, are ignored with a warning.
        sample_weight : array (n,), optional
            Weights of the series, at least 0; (T,), weights of the rows, where X is one series.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            If an argument or a parameter does not fit; see the text.
        DivergedError
            If the loss is not finite any more.
        """
        return self._fitted(X, y, sample_weight, self.warm_start, None)

    def partial_fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> Any:
        """One epoch with these series, in the network there is or a new one.

        The first call finds what `standardize` asks for; what the solver keeps starts anew in each call.

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
        _check_no_targets(y)
        one = form in ("table", "array")
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
        net.lead = 1  # y is x a step later

    def predict(self, X: Any, horizon: int | None = None) -> Any:
        """The steps after the last ones of X.

        Parameters
        ----------
        X : as in `fit`
            The series as far as they are known; a single step is enough.
        horizon : int, optional
            How many steps, in place of the parameter.

        Returns
        -------
        future : array (n, horizon) or (n, horizon, I)
            In the form of X; for one series, of `horizon` rows, a DataFrame, a Series or an array.
        """
        check_is_fitted(self, "network_")
        steps = integer(self.horizon if horizon is None else horizon, "horizon")
        series, form = self._series(X, False, 1)
        future = self._forecast(series, steps)
        if form == "table":
            names = self.network_.output_names or names_of(X)
            return like(X, future[0], names, continued(X, steps, "predict"))
        return {"array": future[0], "numbers": future[:, :, 0], "rows": future}[form]

    def score(self, X: Any, y: Any = None) -> float:
        """R^2 of the last `horizon` steps of each series, forecast from those before.

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
        _check_no_targets(y)
        steps = integer(self.horizon, "horizon")
        series, _ = self._series(X, False, steps + 1)
        future = self._forecast([one[:-steps] for one in series], steps)
        return float(r2_score(np.concatenate([one[-steps:] for one in series]), np.concatenate(list(future))))

    def _series(self, X: Any, reset: bool, least: int = 2) -> tuple[list[Array], str]:
        """X as a list of (T_i, I), each of at least `least` steps, and its form.

        "table" and "array" are one series; "numbers" are many, without an axis of features, "rows" with one.
        """
        if is_table(X):
            rows = self._rows(X if hasattr(X, "columns") else X.to_frame(), reset)
            # names that are str scikit-learn has compared, and their order
            known = hasattr(self, "network_") and (self.warm_start or not reset)
            places = order(names_of(X), self.network_.input_names, "X") if known else None
            found, form = [rows if places is None else rows[:, places]], "table"
        elif _is_ragged(X):
            found = list(self._inputs(X, reset))
            form = "numbers" if any(_dimensions(part) == 1 for part in X) else "rows"
        elif _dimensions(X := _stacked(X, "X")) == 3:
            found, form = list(self._inputs(X, reset)), "rows"
        else:
            rows = self._rows(X, reset)
            if rows.shape[1] == 1 or not (reset or self.network_.input_size == 1):
                found, form = [rows], "array"
            else:
                found, form = list(rows[:, :, None]), "numbers"
                if reset:
                    self._check_reading(*rows.shape)
        shortest = min(map(len, found))
        if shortest < least:
            raise ShapeError(f"X: expected series of at least {least} steps, got one of {shortest}.")
        return found, form

    def _check_reading(self, n: int, steps: int) -> None:
        """Raise or warn if an array (n, T), which is n series, looks like one series of n steps."""
        ways = f"For one series of {n} steps pass [X] or a DataFrame, for {n} series list(np.asarray(X))."
        if n > MOST_PER_STEP * steps:
            raise ShapeError(
                f"X: expected an array (n, T) of n series of T steps, got ({n}, {steps}), which looks like "
                f"one series of {n} steps with {steps} columns.  {ways}"
            )
        if steps <= self.window < n:
            warnings.warn(
                f"X: an array ({n}, {steps}) is read as {n} series of {steps} steps each.  {ways}",
                UserWarning,
                stacklevel=6,
            )

    def _held_out(self, series: list[Array]) -> list[int]:
        """How many of the last steps of each series are for validation."""
        share = self.validation_fraction
        new = [max(1, round(share * len(one))) for one in series]
        for i, (one, held) in enumerate(zip(series, new, strict=True)):
            if len(one) - held < 2:
                raise ShapeError(
                    f"X: expected series of which at least 2 steps remain for training, with early_stopping "
                    f"and validation_fraction={share:g}, got {len(one)} steps in series {i}."
                )
        return new

    def _validation(self, series: list[Array], weights: list[Array], new: list[int]) -> tuple[Any, ...]:
        """Inputs, targets and weights of the `new` last steps of each series, with a window before them."""
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
        """Views of `window` steps and the one to predict; the last steps are always among them."""
        rows = self.window + 1
        last = max(len(series) - rows, 0)
        return [series[start : start + rows] for start in (*range(0, last, self.stride), last)]

    def _forecast(self, series: list[Array], steps: int) -> Array:
        """(n, steps, I) after the series, from their last windows."""
        net, window = self.network_, integer(self.window, "window")
        return net.forecast([one[-window:] for one in series], steps).astype(net.dtype)


# ---- the forms of X, y and sample_weight


def _dimensions(a: Any) -> int:
    """Of an array or a table; 0 of all else."""
    return len(getattr(a, "shape", ()))


def _listed(a: Any) -> bool:
    return isinstance(a, (list, tuple))


def _is_ragged(X: Any) -> bool:
    """Whether it is a list of arrays or tables, each a sequence."""
    return _listed(X) and len(X) > 0 and all(_dimensions(part) in (1, 2) for part in X)


def _stacked(a: Any, name: str) -> Any:
    """Nested lists as an array; all else as it is."""
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
                f"{name}[{i}]: expected steps of as many numbers each, got lists of different length."
            ) from None
    lengths = sorted({len(part) if np.ndim(part) else 1 for part in a})
    advice = f"Sequences of different length go in a list of arrays: [np.asarray(a) for a in {name}]."
    if _is_ragged(a):
        advice = 'For one target a step: readout="every".'
    raise ShapeError(
        f"{name}: expected parts of one shape, got some of {lengths[0]} to {lengths[-1]} entries.  {advice}"
    )


def _warn_of_shared_rows(X: Any) -> None:
    """Warn the caller of `fit` if sequences that are drawn for validation share memory with others."""
    if are_overlapping(X):
        warnings.warn(
            "early_stopping: the sequences of X are views of the same rows, so those held out share rows "
            "with the training sequences, and their loss comes out too low.  An RNNForecaster, or a Network "
            "with Sequences.windows(series, length) and a validation_split, leaves a gap between the two.",
            UserWarning,
            stacklevel=5,
        )


def _take(a: Any, indices: Array) -> Any:
    """Some of the sequences, targets or weights."""
    return [a[i] for i in indices] if _listed(a) else np.asarray(a)[indices]


def _check_steps(y: Any, x: Any) -> None:
    """Raise unless there is one target for each step of each sequence, all of one width."""
    for i, (part, sequence) in enumerate(zip(y, x, strict=True)):
        expected = (len(sequence), *y[0].shape[1:])
        if part.shape != expected:
            name = "y" if isinstance(y, np.ndarray) else f"y[{i}]"
            got, expected = (y.shape, (len(x), *expected)) if name == "y" else (part.shape, expected)
            raise ShapeError(f"{name}: expected {expected}, one target for each step, got {got}.")


def _check_no_targets(y: Any) -> None:
    """Raise for covariates, warn of labels."""
    if y is None:
        return
    try:
        found = check_array(y, ensure_2d=False, allow_nd=True, dtype=None, ensure_all_finite=False)
    except ValueError:  # lists of different length, for example
        found = np.empty((0, 0))
    real = found.dtype.kind == "f" and not np.array_equal(found, np.round(found))
    if found.ndim != 1 or real:
        raise ConfigError(
            f"y: expected None, as RNNForecaster learns the next step of X and takes no covariates, got "
            f"{type(y).__name__}.  Make them columns of X, all of which are forecast, or learn with an "
            f"RNNRegressor."
        )
    warnings.warn("y is ignored: RNNForecaster learns the next step of X.", UserWarning, stacklevel=5)


def _some(labels: Array) -> str:
    """Labels for a message."""
    return ", ".join(map(repr, labels[:10].tolist())) + (", ..." if len(labels) > 10 else "")


def _weights(weight: Any, parts: Any, each: str, every: bool = False) -> Any:
    """The weights, checked: an array of one for `each` of the parts, or if `every` one for each step of each,
    in the form of the parts.
    """
    if weight is None:
        return None
    dtype = parts[0].dtype if parts[0].dtype.kind == "f" else float
    if every and (_dimensions(weight) == 2 or (_listed(weight) and any(map(np.ndim, weight)))):
        lists = weight if _listed(weight) else np.asarray(weight)
        if len(lists) != len(parts):
            raise ShapeError(f"sample_weight: expected {len(parts)} rows of weights, got {len(lists)}.")
        found = [_numbers(w, f"sample_weight[{i}]", dtype) for i, w in enumerate(lists)]
        for i, (w, part) in enumerate(zip(found, parts, strict=True)):
            if w.shape != (len(part),):
                raise ShapeError(
                    f"sample_weight[{i}]: expected ({len(part)},), one for each step, got {w.shape}."
                )
        rows, result = found, found if isinstance(parts, list) else np.stack(found)
    else:
        result = _numbers(_stacked(weight, "sample_weight"), "sample_weight", dtype)
        if result.shape != (len(parts),):
            raise ShapeError(
                f"sample_weight: expected ({len(parts)},), one for each {each}, got {result.shape}."
            )
        rows = [result]
    least = min(w.min() for w in rows)
    if least < 0:
        raise ConfigError(f"sample_weight: expected finite numbers of at least 0, got {least:g}.")
    if not any(map(np.any, rows)):
        raise ConfigError("sample_weight: expected a weight that is not zero, got only such of zero.")
    return result


def _check_kind(a: Any, name: str) -> None:
    """Raise for what scikit-learn would read as numbers or refuse without a name: gaps that a mask hides, and
    columns of dates or text.
    """
    if isinstance(a, np.ma.MaskedArray):
        numbers(a, name)
    found = columns_without_numbers(a, objects=True)
    if found:
        raise ConfigError(f"{name}: expected real numbers, got {found}")


def _numbers(a: Any, name: str, dtype: Any) -> Array:
    """An array of finite numbers of any shape, or a ShapeError."""
    _check_kind(a, name)
    try:
        with np.errstate(over="ignore"):  # numbers too large for float32 are an error by name
            found: Array = check_array(a, ensure_2d=False, allow_nd=True, dtype=dtype, input_name=name)
            return found
    except (TypeError, ValueError) as error:
        raise ShapeError(f"{name}: {error}") from None


def _spread(weight: Any, parts: Any) -> list[Array]:
    """The weight of each step of each part, from one a part or one a step; None: 1."""
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
    """All steps but the last, and for each of them the next."""
    return [one[:-1] for one in series], [one[1:] for one in series]
