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
from .columns import Columns, Scaling, continued, like, names_of
from .errors import ConfigError, ShapeError, choice, flag, integer, number
from .network import CELLS, Description, Network

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
        In place of the learning rate of `solver`.
    batch_size : int, default "auto"
        Sequences between two updates; "auto" is min(200, n).
    clip_norm : float, optional
        If the norm of the gradient is larger, it is scaled to this.
    max_iter : int, default 200
        Epochs at most.  A warning tells if they end before `n_iter_no_change` does.
    shuffle : bool, default True
        A new random order of the sequences in each epoch.
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
        The training loss of the last epoch.
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
        solver = self.solver
        if isinstance(solver, str) or self.learning_rate_init is None:
            solver = optimizers.get(solver)
        if self.learning_rate_init is None:
            return solver
        rate = number(self.learning_rate_init, "learning_rate_init", 0, open_low=True)
        chosen = optimizers.get(solver)
        if isinstance(chosen, optimizers.SecondOrder):
            raise ConfigError(
                f"learning_rate_init: expected None with {type(chosen).__name__}, which has no "
                f"learning rate, got {rate:g}."
            )
        return replace(chosen, learning_rate=rate)

    def _loss(self) -> str:
        if self.loss is None:
            return next(iter(self.LOSSES.values()))
        return self.LOSSES[choice(self.loss, "loss", tuple(self.LOSSES))]

    def _stopping(self) -> dict[str, Any]:
        return {
            "patience": integer(self.n_iter_no_change, "n_iter_no_change", 1, None),
            "min_delta": number(self.tol, "tol", 0),
            "restore_best": flag(self.early_stopping, "early_stopping"),
        }

    def _train(self, net: Network, x: Any, y: Any, weight: Any, validation: Any, epochs: int | None) -> None:
        """Run `epochs` more, or (None) what `max_iter` and the criteria of stopping say."""
        if epochs is None:
            stopping, more = self._stopping(), integer(self.max_iter, "max_iter", 1, None)
        else:
            stopping, more = {}, epochs
        seen = self.n_iter_ if net is getattr(self, "network_", None) else 0
        auto = isinstance(self.batch_size, str) and self.batch_size == "auto"
        solver = self._solver()
        whole = auto and isinstance(solver, optimizers.SecondOrder)
        size = None if whole else min(AUTO_BATCH, len(x)) if auto else self.batch_size
        jobs = None if self.n_jobs in (None, -1) else integer(self.n_jobs, "n_jobs")
        try:
            history = net.fit(
                x,
                y,
                epochs=seen + more,
                initial_epoch=seen,
                batch_size=size,
                optimizer=solver,
                loss=self._loss(),
                sample_weight=weight,
                validation_data=validation,
                shuffle=self.shuffle,
                clip_norm=self.clip_norm,
                verbose=self.verbose if isinstance(self.verbose, str) else int(self.verbose),
                threads=jobs,
                **stopping,
            )
        except KeyboardInterrupt:
            self.network_, self.n_iter_ = net, seen
            raise
        self.network_, self.n_iter_ = net, history["epoch"][-1]
        self.loss_curve_, self.validation_loss_curve_ = history["loss"], history.get("val_loss", [])
        self.loss_ = self.loss_curve_[-1]
        if stopping and history.stopped == "epochs":
            warnings.warn(
                f"{type(self).__name__}: max_iter={more} epochs ended while the loss still fell by more than "
                f"tol={self.tol:g} in n_iter_no_change={self.n_iter_no_change} epochs.  A larger max_iter or "
                f"learning_rate_init may help.",
                ConvergenceWarning,
                stacklevel=4,
            )

    def _outputs(self, X: Any) -> Any:
        check_is_fitted(self, "network_")
        return self.network_.predict(self._inputs(X, reset=False))

    # ---- X

    def _inputs(self, X: Any, reset: bool) -> Any:
        """X as (n, T, I) or a list of (T_i, I); names and number of the columns noted, or compared."""
        if _is_ragged(X):
            parts = [part if part.ndim == 2 else np.asarray(part)[:, None] for part in X]
            if any(map(_is_table, parts)) or len({part.shape[1] for part in parts}) > 1:
                return [self._rows(part, reset and i == 0, f"X[{i}]") for i, part in enumerate(parts)]
            ends = np.cumsum([len(part) for part in parts])[:-1]
            return np.split(self._rows(np.concatenate(parts), reset), ends)
        if _is_3d(X):
            X = np.asarray(X)
            return self._rows(X.reshape(len(X) * X.shape[1], X.shape[2]), reset).reshape(X.shape)
        return self._rows(X, reset)[:, :, None]

    def _rows(self, X: Any, reset: bool, name: str = "X") -> Array:
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
        return self._learn(X, y, sample_weight, True, flag(self.warm_start, "warm_start"), None)

    def _learn(self, X: Any, y: Any, weight: Any, reset: bool, going_on: bool, epochs: int | None) -> Any:
        x, y, outputs = self._data(X, y, weight, reset, going_on)
        net = self._network(x[0].shape[1], outputs, x[0].dtype, going_on)
        validation = None
        if epochs is None and flag(self.early_stopping, "early_stopping"):
            x, y, weight, validation = self._split(x, y, weight, net.seed)
        self._train(net, x, y, weight, validation, epochs)
        return self

    def _data(self, X: Any, y: Any, weight: Any, reset: bool, going_on: bool) -> tuple[Any, Any, int]:
        """Inputs and targets for the network, and its number of outputs."""
        if y is None:
            raise ConfigError(
                f"This {type(self).__name__} estimator requires y to be passed, but the target y is None."
            )
        _check_weight(weight)
        x = self._inputs(X, reset)
        check_consistent_length(x, y)
        return x, *self._targets(y, going_on)

    def _targets(self, y: Any, going_on: bool) -> tuple[Any, int]:
        raise NotImplementedError

    def _split(self, x: Any, y: Any, weight: Any, seed: int) -> tuple[Any, Any, Any, Any]:
        share = number(self.validation_fraction, "validation_fraction", 0, 1, open_low=True, open_high=True)
        labels = y if is_classifier(self) and not self._every else None
        parts = train_test_split(np.arange(len(x)), test_size=share, random_state=seed, stratify=labels)
        (x, held_x), (y, held_y) = ([_take(a, part) for part in parts] for a in (x, y))
        if weight is None:
            return x, y, None, (held_x, held_y)
        weight, held_weight = (_take(weight, part) for part in parts)
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

    def _targets(self, y: Any, going_on: bool) -> tuple[Any, int]:
        options = {"ensure_2d": False, "allow_nd": True, "dtype": DTYPES, "estimator": self}
        if self._every and _is_ragged(y):
            found = [check_array(part, input_name=f"y[{i}]", **options) for i, part in enumerate(y)]
        else:
            found = check_array(y, input_name="y", **options)
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
        return self._learn(X, y, sample_weight, not hasattr(self, "network_"), True, 1)

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
        y, found, weight = _all_rows(y, self.predict(X), sample_weight, self._every)
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

    def _targets(self, y: Any, going_on: bool) -> tuple[Any, int]:
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
        return split if isinstance(y, (list, tuple)) else np.stack(split), len(self.classes_)

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
        return self._learn(X, y, sample_weight, not hasattr(self, "network_"), True, 1)

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
        y, found, weight = _all_rows(y, self.predict(X), sample_weight, self._every)
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
    X is an array (n, T) of n series of T single numbers, an array (n, T, I), or a list of series of different
    length, arrays or DataFrames (T_i,) or (T_i, I).  A single pandas DataFrame (T, I) or Series (T,) is one
    series, its rows are the steps; its forecast is a DataFrame or Series too.  Its index goes on at its
    frequency, or by its constant step; an index without one is an error in `predict`.

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
        y : ignored
        sample_weight : array (n,), optional
            Weights of the series, at least 0; (T,), weights of the rows, for a single DataFrame or Series.

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
        return self._learn(X, sample_weight, True, flag(self.warm_start, "warm_start"), None)

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
        return self._learn(X, sample_weight, not hasattr(self, "network_"), True, 1)

    def _learn(self, X: Any, weight: Any, reset: bool, going_on: bool, epochs: int | None) -> Any:
        series = self._series(X, reset)
        weights = _step_weights(weight, series, _is_table(X))
        net = self._network(series[0].shape[1], series[0].shape[1], series[0].dtype, going_on)
        known, counted, new = series, weights, None
        if epochs is None and flag(self.early_stopping, "early_stopping"):
            new = self._held_out(series)
            known, counted = ([a[:-n] for a, n in zip(part, new, strict=True)] for part in (series, weights))
            _check_weight(counted)
        if net is not getattr(self, "network_", None):
            self._measure(np.concatenate(known), np.concatenate(counted))
            names = names_of(X) if _is_table(X) else None
            standard = flag(self.standardize, "standardize")
            net.columns = Columns(names, names, Scaling(*[self.mean_, self.scale_] * 2) if standard else None)
        x, y = _steps_ahead([part for one in known for part in self._windows(one)])
        _, each = _steps_ahead([part for one in counted for part in self._windows(one)])
        held = None if new is None else self._validation(series, weights, new)
        self._train(net, x, y, None if weight is None else each, held, epochs)
        return self

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
            In the form of X; for a single DataFrame or Series a DataFrame or Series of `horizon` rows.
        """
        check_is_fitted(self, "network_")
        steps = integer(self.horizon if horizon is None else horizon, "horizon")
        future = self._forecast(self._series(X, False, 1), steps)
        if _is_table(X):
            names = list(X.columns) if X.ndim == 2 else [X.name]
            return like(X, future[0], names, continued(X, steps, "predict"))
        flat = any(np.ndim(part) == 1 for part in X) if _is_ragged(X) else not _is_3d(X)
        return future[:, :, 0] if flat else future

    def score(self, X: Any, y: Any = None) -> float:
        """R^2 of the last `horizon` steps of each series, forecast from those before.

        Parameters
        ----------
        X : as in `fit`
            Series longer than `horizon`.
        y : ignored

        Returns
        -------
        score : float
        """
        check_is_fitted(self, "network_")
        steps = integer(self.horizon, "horizon")
        series = self._series(X, False, steps + 1)
        future = self._forecast([one[:-steps] for one in series], steps)
        return float(r2_score(np.concatenate([one[-steps:] for one in series]), np.concatenate(list(future))))

    def _series(self, X: Any, reset: bool, least: int = 2) -> list[Array]:
        """X as a list of (T_i, I), each of at least `least` steps."""
        if _is_table(X):
            found = [self._rows(X if X.ndim == 2 else X.to_frame(), reset)]
        else:
            found = list(self._inputs(X, reset))
        shortest = min(map(len, found))
        if shortest < least:
            columns = f" (n_features = {shortest})" if getattr(X, "ndim", 0) == 2 else ""
            raise ShapeError(f"X: expected series of at least {least} steps, got one of {shortest}{columns}.")
        return found

    def _held_out(self, series: list[Array]) -> list[int]:
        """How many of the last steps of each series are for validation."""
        share = number(self.validation_fraction, "validation_fraction", 0, 1, open_low=True, open_high=True)
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
        if flag(self.standardize, "standardize"):
            self.mean_ = np.average(rows, axis=0, weights=weights)
            deviation = np.sqrt(np.average((rows - self.mean_) ** 2, axis=0, weights=weights))
            constant = deviation <= 10 * np.finfo(rows.dtype).eps * np.abs(self.mean_)
            self.scale_ = np.where(constant, 1.0, deviation)

    def _windows(self, series: Array) -> list[Array]:
        """Views of `window` steps and the one to predict; the last steps are always among them."""
        rows, stride = integer(self.window, "window") + 1, integer(self.stride, "stride")
        last = max(len(series) - rows, 0)
        return [series[start : start + rows] for start in (*range(0, last, stride), last)]

    def _forecast(self, series: list[Array], steps: int) -> Array:
        """(n, steps, I) after the series, from their last windows."""
        net, window = self.network_, integer(self.window, "window")
        return net.forecast([one[-window:] for one in series], steps).astype(net.dtype)


# ---- the forms of X and y


def _is_ragged(X: Any) -> bool:
    """Whether it is a list of arrays or tables, each a sequence."""
    return isinstance(X, (list, tuple)) and len(X) > 0 and all(getattr(p, "ndim", 0) in (1, 2) for p in X)


def _is_table(X: Any) -> bool:
    """Whether it is a pandas DataFrame or Series."""
    return hasattr(X, "iloc") and hasattr(X, "index")


def _is_3d(X: Any) -> bool:
    """Whether it is an array (n, T, I), or nested lists like one."""
    if not isinstance(X, (list, tuple)):
        return getattr(X, "ndim", 0) == 3
    try:
        return np.ndim(X) == 3
    except ValueError:  # lists of different lengths
        return False


def _check_weight(weight: Any) -> None:
    """That something has a weight; the network checks the rest."""
    parts = weight if isinstance(weight, (list, tuple)) else [np.asarray(weight)]
    if weight is not None and not any(np.any(part) for part in parts):
        raise ConfigError("sample_weight: expected a weight that is not zero, got only such of zero.")


def _take(a: Any, indices: Array) -> Any:
    """Some of the sequences, targets or weights."""
    return [a[i] for i in indices] if isinstance(a, (list, tuple)) else np.asarray(a)[indices]


def _all_rows(y: Any, found: Any, weight: Any, every: bool) -> tuple[Any, Any, Any]:
    """Targets, predictions and weights for a score; if there is one a step, those of all in one row."""
    if not every:
        return y, found, weight
    lengths = [len(part) for part in found]
    if weight is not None:
        weight = np.repeat(weight, lengths) if np.ndim(weight[0]) == 0 else np.concatenate(list(weight))
    return np.concatenate(list(y)), np.concatenate(list(found)), weight


def _some(labels: Array) -> str:
    """Labels for a message."""
    return ", ".join(map(repr, labels[:10].tolist())) + (", ..." if len(labels) > 10 else "")


def _step_weights(weight: Any, series: list[Array], table: bool) -> list[Array]:
    """The weight of each step of each series, from one a series, or for a table one a row."""
    if weight is None:
        return [np.ones(len(one)) for one in series]
    _check_weight(weight)
    found = check_array(weight, ensure_2d=False, dtype=float, input_name="sample_weight")
    n, meaning = (len(series[0]), "row") if table else (len(series), "series")
    if found.shape != (n,) or (found < 0).any():
        raise ConfigError(
            f"sample_weight: expected ({n},) numbers of at least 0, one for each {meaning}, got "
            f"{found.shape if found.shape != (n,) else found.min()}."
        )
    return [found] if table else [np.full(len(one), w) for one, w in zip(series, found, strict=True)]


def _steps_ahead(series: list[Array]) -> tuple[list[Array], list[Array]]:
    """All steps but the last, and for each of them the next."""
    return [one[:-1] for one in series], [one[1:] for one in series]
