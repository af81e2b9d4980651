"""The estimators as users of scikit-learn drive them."""

import copy
import pickle
import warnings

import numpy as np
import pytest

pytest.importorskip("sklearn", "1.6")

from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.model_selection import GridSearchCV, KFold, TimeSeriesSplit, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import get_tags
from sklearn.utils.estimator_checks import check_estimator

import bptt_fast as bf
from bptt_fast.estimators import RNNClassifier, RNNForecaster, RNNRegressor

pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.filterwarnings("ignore:X. an array"),
]

RNG = np.random.default_rng(0)
X = RNG.normal(size=(120, 10, 2))
Y = X[:, -3:, 0].sum(axis=1)
LABELS = np.where(Y > 0, "up", "down")
LENGTHS = RNG.integers(4, 11, size=120)
RAGGED = [x[-n:] for x, n in zip(X, LENGTHS, strict=True)]
SERIES = np.sin(np.arange(200) / 4)
ALL = (RNNRegressor, RNNClassifier, RNNForecaster)
SUPERVISED = ((RNNRegressor, Y), (RNNClassifier, LABELS))


def made(kind, **options):
    return kind(**(dict(hidden_size=8, learning_rate_init=0.02, max_iter=60, random_state=0) | options))


def targets(kind, labels=LABELS):
    return {RNNRegressor: Y, RNNClassifier: labels, RNNForecaster: None}[kind]


class ForecasterOfRows(RNNForecaster):
    """A forecaster of series in the rows of an array, which are the samples of scikit-learn's checks."""

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = True
        return tags

    def _series(self, X, reset, min_steps=2):
        if len(getattr(X, "shape", (0, 0))) > 2:
            return super()._series(X, reset, min_steps)
        rows = self._rows(X, reset)
        if rows.shape[1] < min_steps:
            raise bf.ShapeError(f"X: expected {min_steps} steps, got {rows.shape[1]} feature(s)")
        return list(rows[:, :, None]), "numbers"


@pytest.mark.slow
@pytest.mark.parametrize("kind", (RNNRegressor, RNNClassifier, ForecasterOfRows))
def test_common_checks(kind):
    """Nothing fails and nothing is declared to fail."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        results = check_estimator(kind(), on_fail=None, on_skip=None)
    failed = {r["check_name"]: r["exception"] for r in results if r["status"] not in ("passed", "skipped")}
    assert not failed and len(results) >= 40
    assert {r["check_name"] for r in results if r["status"] == "skipped"} <= {"check_array_api_input"}
    tags = get_tags(kind()).input_tags
    assert tags.two_d_array and tags.three_d_array


# ---- the forms of X and y


@pytest.mark.parametrize("x, n, columns", ((X, 120, 2), (RAGGED, 120, 2), (X[..., 0], 120, 10)))
@pytest.mark.parametrize("kind, y", SUPERVISED)
def test_one_target_a_sequence(kind, y, x, n, columns):
    model = made(kind).fit(x[:80], y[:80])
    assert model.n_features_in_ == columns
    assert model.score(x[80:], y[80:]) > 0.75
    found = model.predict(x)
    assert found.shape == (n,) and found.dtype == (np.float64 if kind is RNNRegressor else y.dtype)


@pytest.mark.parametrize("kind", ALL)
def test_other_forms_are_the_same(kind):
    """Nested lists, lists of equal length, lists of 1-D arrays and of tables."""
    pandas = pytest.importorskip("pandas")
    y, x = targets(kind), X[..., 0]
    rows = () if kind is RNNForecaster else (x, x.tolist(), pandas.DataFrame(x))
    for given in (
        (X, X.tolist(), list(X), [pandas.DataFrame(part, columns=["a", "b"]) for part in X]),
        (list(x), list(x[:, :, None]), [pandas.Series(part) for part in x], x[:, :, None], *rows),
    ):
        found = [np.ravel(made(kind, max_iter=3).fit(form, y).predict(form)) for form in given]
        for other in found[1:]:
            np.testing.assert_array_equal(other, found[0])


def test_several_outputs():
    y = np.stack((Y, -Y), axis=1)
    for targets in (y, y[:, :1]):
        model = made(RNNRegressor).fit(X, targets)
        assert model.predict(X).shape == targets.shape and model.score(X, targets) > 0.8


@pytest.mark.parametrize("form", ("array", "list"))
@pytest.mark.parametrize("kind", (RNNRegressor, RNNClassifier))
def test_one_target_a_step(kind, form):
    y = X[..., 0].cumsum(axis=1)
    y = y if kind is RNNRegressor else np.where(y > 0, "up", "down")
    x = X
    if form == "list":
        x, y = ([part[:n] for part, n in zip(a, LENGTHS, strict=True)] for a in (X, y))
    model = made(kind, readout="every", early_stopping=True).fit(x, y)
    found = model.predict(x)
    assert [len(part) for part in found] == [len(part) for part in y]
    assert model.score(x, y) > 0.8
    weight = np.ones(120)
    weight[0] = 0
    by_step = [np.full(len(part), w) for part, w in zip(y, weight, strict=True)]
    by_step = by_step if form == "list" else np.stack(by_step)
    assert model.score(x, y, weight) == pytest.approx(model.score(x, y, by_step))
    one, other = (made(kind, readout="every", max_iter=3).fit(x, y, w) for w in (weight, by_step))
    np.testing.assert_array_equal(one.network_.params, other.network_.params)
    if kind is RNNClassifier:
        p = model.predict_proba(x)
        assert type(p) is type(found) and p[0].shape == (len(y[0]), 2)
        for part, log in zip(p, model.predict_log_proba(x), strict=True):
            np.testing.assert_allclose(part.sum(axis=-1), 1)
            np.testing.assert_allclose(np.log(part), log, rtol=1e-9)
    else:
        wide = made(kind, readout="every", max_iter=3).fit(
            x, [np.stack((a, a), 1) for a in y] if form == "list" else np.stack((y, y), 2)
        )
        assert wide.predict(x)[0].shape == (len(y[0]), 2)


def test_it_is_the_network_that_the_words_describe():
    """A translation: the same weights as those of the network and the fit that it stands for."""
    model = made(
        RNNRegressor, cell="elman", activation="logistic", head=(5,), num_layers=2, bidirectional=True,
        loss="huber", solver=bf.SGD(0.5, momentum=0.9), clip_norm=1.0, batch_size=16, max_iter=4,
    ).fit(X, Y)  # fmt: skip
    net = bf.Network(
        2, 8, 1, cell="elman", nonlinearity="sigmoid", head=(5,), num_layers=2, bidirectional=True,
        dtype="float64", seed=model.network_.seed,
    )  # fmt: skip
    solver = bf.SGD(0.02, momentum=0.9, clip_norm=1.0)
    net.fit(X, Y, loss="huber", optimizer=solver, batch_size=16, epochs=4, verbose=0)
    np.testing.assert_array_equal(model.network_.params, net.params)
    np.testing.assert_array_equal(model.predict(X), net.predict(X)[:, 0])


def test_dtype_is_that_of_x():
    for dtype, expected in (("float32", "float32"), ("float64", "float64"), ("int64", "float64")):
        model = made(RNNRegressor, max_iter=2).fit(X.astype(dtype), Y)
        assert model.network_.dtype == expected and model.predict(X.astype(dtype)).dtype == expected


# ---- training


@pytest.mark.parametrize("kind", ALL)
def test_warm_start(kind):
    """A second fit continues where the first stopped; without it each starts from the initial weights."""
    model = made(kind, max_iter=5, n_iter_no_change=99, warm_start=True)
    first = model.fit(X, targets(kind)).loss_
    net = model.network_
    assert model.n_iter_ == 5
    assert model.fit(X, targets(kind)).loss_ < first
    assert model.n_iter_ == 10 and model.network_ is net and len(model.loss_curve_) == 5
    model.set_params(warm_start=False).fit(X, targets(kind))
    assert model.n_iter_ == 5 and model.network_ is not net and model.loss_ == first
    model.set_params(warm_start=True, hidden_size=9)
    with pytest.raises(ValueError, match=r"hidden_size 9 \(was 8\)"):
        model.fit(X, targets(kind))


@pytest.mark.parametrize("kind", ALL)
@pytest.mark.parametrize("wrong", ({"solver": "none"}, {"batch_size": 0}, {"loss": 3}), ids=str)
def test_an_error_leaves_the_network_as_it_is(kind, wrong):
    """Rules, which the network gets before its fit finds the error, and the weights that they change."""
    model = made(kind, max_iter=1, n_iter_no_change=1, tol=100, warm_start=True, rules={})
    model.fit(X, targets(kind))
    net, before = model.network_, model.network_.params.copy()
    rule = bf.Rule(bounds=(0.1, 0.2))
    with pytest.raises(ValueError):
        model.set_params(rules={"weight_hh_l0": rule}, **wrong).fit(X, targets(kind))
    assert model.network_ is net and not net.rules and np.array_equal(net.params, before)


@pytest.mark.parametrize("kind", ALL)
def test_partial_fit(kind):
    model, y = made(kind), targets(kind)
    options = {"classes": ["down", "up"]} if kind is RNNClassifier else {}
    losses = [model.partial_fit(X, y, **options).loss_]
    losses += [model.partial_fit(X, y).loss_ for _ in range(30)]
    assert losses[-1] < losses[0] and model.n_iter_ == 31


def test_interrupted():
    """The network is that of the finished epochs, and they count."""
    calls = []

    def loss(outputs, y, weight):
        calls.append(1)
        if len(calls) > 3:
            raise KeyboardInterrupt
        return float(weight @ (outputs[:, 0] - y[:, 0]) ** 2), 2 * weight[:, None] * (outputs - y)

    model = made(RNNRegressor, loss=loss, batch_size=120)
    with pytest.raises(KeyboardInterrupt):
        model.fit(X, Y)
    assert model.n_iter_ == 3 and np.isfinite(model.predict(X)).all()


def test_classes_of_partial_fit():
    with pytest.raises(ValueError, match="first call"):
        made(RNNClassifier).partial_fit(X, LABELS)
    wrong = made(RNNClassifier, class_weight="balanced"), made(RNNClassifier)
    for model, labels in zip(wrong, (LABELS, np.full(120, "sideways")), strict=True):
        with pytest.raises(ValueError, match=r"class_weight|sideways"):
            model.partial_fit(X, labels, classes=["up", "down"])
        assert not hasattr(model, "classes_")  # a failed call is not the first one
    model = made(RNNClassifier).partial_fit(X, LABELS, classes=["up", "down", "level"])
    assert model.classes_.tolist() == ["down", "level", "up"] and model.predict_proba(X).shape == (120, 3)
    with pytest.raises(ValueError, match="classes: expected those of the first call, 'down', 'level', 'up'"):
        model.partial_fit(X, LABELS, classes=["up", "down"])
    with pytest.raises(ValueError, match="got 'sideways'"):
        model.partial_fit(X, np.full(120, "sideways"))


@pytest.mark.parametrize("kind, y", SUPERVISED)
def test_sample_weight(kind, y):
    """A weight of two is the same as having the sequence twice, one of zero as not having it."""
    weight = np.arange(60) % 3
    options = dict(max_iter=20, n_iter_no_change=99)
    one = made(kind, **options).fit(X[:60], y[:60], sample_weight=weight)
    other = made(kind, **options).fit(np.repeat(X[:60], weight, axis=0), np.repeat(y[:60], weight))
    np.testing.assert_allclose(one.network_.params, other.network_.params, rtol=1e-6, atol=1e-9)
    assert one.score(X, y, np.r_[1, np.zeros(119)]) in (0, 1) or kind is RNNRegressor


@pytest.mark.parametrize("kind", ALL)
@pytest.mark.parametrize("x", (X, RAGGED), ids=("array", "list"))
def test_early_stopping(kind, x):
    """The weights are those of the best epoch, judged by what was held out."""
    options = dict(validation_fraction=0.25, n_iter_no_change=3, learning_rate_init=0.1)
    model = made(kind, early_stopping=True, **options)
    weight = {} if kind is RNNForecaster else {"sample_weight": np.ones(120)}
    model.fit(x, targets(kind), **weight)
    curve = model.validation_loss_curve_
    assert len(curve) == len(model.loss_curve_) == model.n_iter_ <= 60
    if model.n_iter_ < 60:
        assert min(curve) < min(curve[-3:])
    assert made(kind, max_iter=2).fit(x, targets(kind)).validation_loss_curve_ == []


def test_weights_of_series():
    """As many times the series, also for what `standardize` finds; none is as if it were not there."""
    weight = np.arange(30) % 3
    options = dict(max_iter=20, n_iter_no_change=99, window=5)
    one = made(RNNForecaster, **options).fit(X[:30], sample_weight=weight)
    other = made(RNNForecaster, **options).fit(np.repeat(X[:30], weight, axis=0))
    np.testing.assert_allclose((one.mean_, one.scale_), (other.mean_, other.scale_))
    np.testing.assert_allclose(one.network_.params, other.network_.params, rtol=1e-6, atol=1e-9)
    held = made(RNNForecaster, max_iter=2, early_stopping=True)
    assert (
        held.fit(X, sample_weight=np.ones(120)).validation_loss_curve_ == held.fit(X).validation_loss_curve_
    )
    only = np.where(np.arange(120) < 60, 1.0, 0.0)
    np.testing.assert_allclose(
        held.fit(X, sample_weight=only).validation_loss_curve_, held.fit(X[:60]).validation_loss_curve_
    )
    pandas = pytest.importorskip("pandas")
    changed = np.r_[SERIES[:150], np.full(50, 99.0)]
    rows = np.r_[np.ones(150), np.zeros(50)]
    one, other = (
        made(RNNForecaster, max_iter=3, batch_size=9999).fit(pandas.Series(a), sample_weight=rows)
        for a in (SERIES, changed)
    )
    assert one.mean_ == pytest.approx(SERIES[:150].mean()) and one.loss_ == pytest.approx(other.loss_)
    for wrong in (np.ones(3), -np.ones(120), np.zeros(120), np.full(120, np.nan), np.ones((120, 1))):
        with pytest.raises(ValueError, match="sample_weight"):
            held.fit(X, sample_weight=wrong)


def test_a_constant_series():
    """Rounding is not a deviation."""
    model = made(RNNForecaster, max_iter=2, horizon=2).fit(list(np.full((3, 33), 0.1)))
    assert model.scale_ == 1 and abs(model.predict(np.full((33, 1), 0.1)) - 0.1).max() < 1


@pytest.mark.parametrize("early", (False, True))
@pytest.mark.parametrize("kind", ALL)
def test_weights_are_checked_before_they_are_split(kind, early):
    """Every fault names sample_weight, and leaves the estimator as it was."""
    model, y = made(kind, max_iter=2, early_stopping=early), targets(kind)
    ones = np.ones(120)
    for wrong in (
        ones[:119], np.ones(150), np.ones((120, 1)), np.ones((120, 2)), np.ones((120, 10, 1)), 1.0,
        -ones, np.r_[ones[1:], np.nan], np.r_[ones[1:], np.inf], 0 * ones, [1.0, [2.0, 3.0]], ["a"] * 120,
    ):  # fmt: skip
        with pytest.raises(ValueError, match="sample_weight"):
            model.fit(X, y, sample_weight=wrong)
        assert not hasattr(model, "n_features_in_") and not hasattr(model, "classes_")
    for good in (ones, ones.tolist(), ones.astype(int)):
        model.fit(X, y, sample_weight=good)
    before = vars(model).copy()
    with pytest.raises(ValueError, match="sample_weight"):
        model.fit(X[..., :1], None if y is None else y[::-1], sample_weight=-ones)
    assert vars(model) == before
    if kind is not RNNForecaster:
        options = {"classes": ["up", "down"]} if kind is RNNClassifier else {}
        with pytest.raises(ValueError, match="sample_weight"):
            made(kind).partial_fit(X, y, sample_weight=ones[:5], **options)
        with pytest.raises(ValueError, match="sample_weight"):
            model.score(X, y, sample_weight=ones[:5])


@pytest.mark.parametrize("kind, y", SUPERVISED)
def test_all_weights_on_one_side(kind, y):
    """One sequence with a weight is either for training or held out."""
    weight = np.r_[1.0, np.zeros(119)]
    with pytest.raises(bf.ConfigError, match="sample_weight: expected a weight above 0 on each side"):
        made(kind, early_stopping=True).fit(X, y, sample_weight=weight)


def test_weights_of_the_last_steps_only():
    pandas = pytest.importorskip("pandas")
    with pytest.raises(bf.ConfigError, match=r"sample_weight: expected a weight above 0 .* for training"):
        made(RNNForecaster, early_stopping=True).fit(
            pandas.Series(SERIES), sample_weight=np.r_[np.zeros(190), np.ones(10)]
        )


@pytest.mark.slow
@pytest.mark.parametrize("early", (False, True))
def test_targets_and_weights_of_steps_are_checked_before_they_are_split(early):
    """Wherever the fault is, held out or not, it has the place that the user knows."""
    model = made(RNNRegressor, readout="every", early_stopping=early, max_iter=2)
    y = [x[:, 0] for x in RAGGED]
    for i in range(0, 120, 7):
        wrong = [part[: len(part) - (j == i)] for j, part in enumerate(y)]
        with pytest.raises(bf.ShapeError, match=rf"^y\[{i}\]: expected \({len(y[i])},\)"):
            model.fit(RAGGED, wrong)
        huge = [np.full(len(part), 1e300 if j == i else 1.0) for j, part in enumerate(y)]
        with pytest.raises(ValueError, match=rf"y\[{i}\] contains infinity or a value too large"):
            model.fit([x.astype(np.float32) for x in RAGGED], huge)
        with pytest.raises(bf.ShapeError, match=rf"^sample_weight\[{i}\]: expected \({len(y[i])},\)"):
            model.fit(RAGGED, y, sample_weight=wrong)
    one, other = (model.fit(list(X), form).network_.params for form in (X[..., 0], list(X[..., 0])))
    np.testing.assert_array_equal(one, other)
    with pytest.raises(bf.ShapeError, match=r"y\[3\]: expected"):
        model.fit(RAGGED, y).score(RAGGED, [*y[:3], y[3][1:], *y[4:]])


def test_held_out_classes_are_balanced(monkeypatch):
    seen = {}
    real = bf.Network.fit
    monkeypatch.setattr(
        bf.Network, "fit", lambda net, x, y, **options: seen.update(options) or real(net, x, y, **options)
    )
    rare = np.where(np.arange(120) < 12, "rare", "common")  # sorted: the last tenth would have none
    made(RNNClassifier, early_stopping=True, max_iter=2).fit(X, rare)
    held = seen["validation_data"][1]
    assert len(held) == 12 and held.sum() in (1, 2, 10, 11)


def test_warning_without_convergence():
    with pytest.warns(ConvergenceWarning, match="max_iter=2"):
        made(RNNRegressor, max_iter=2).fit(X, Y)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = made(RNNRegressor, tol=1e3, n_iter_no_change=2).fit(X, Y)
        made(RNNRegressor).partial_fit(X, Y)
    assert model.n_iter_ <= 3


@pytest.mark.parametrize("kind", ALL)
def test_repeatable(kind):
    one, other, third = (
        made(kind, max_iter=3, random_state=seed, n_jobs=jobs).fit(X, targets(kind))
        for seed, jobs in ((1, 1), (1, 2), (2, -1))
    )
    np.testing.assert_array_equal(one.network_.params, other.network_.params)
    assert (one.network_.params != third.network_.params).any()


# ---- solvers of second order


SECOND_ORDER = (bf.LBFGS(), bf.LevenbergMarquardt(), bf.HessianFree(), "lbfgs")


@pytest.mark.parametrize("solver", SECOND_ORDER)
@pytest.mark.parametrize("kind", (RNNRegressor, RNNForecaster))
def test_a_solver_that_has_converged(kind, solver):
    """Nothing left to improve is no epoch: the network, the count and the loss stay."""
    options = dict(hidden_size=2, cell="elman", learning_rate_init=None, warm_start=True, tol=0)
    model = made(kind, solver=solver, max_iter=2000, n_iter_no_change=2000, **options)
    x, y = np.zeros((6, 5, 1)), np.zeros(6)  # an exact solution exists
    args = (x,) if kind is RNNForecaster else (x, y)
    for _ in range(3):
        model.fit(*args)
    params, epochs = model.network_.params.copy(), model.n_iter_
    assert model.loss_curve_ == [] and 0 <= model.loss_ < 1e-6
    model.fit(*args)
    model.partial_fit(*args)
    np.testing.assert_array_equal(model.network_.params, params)
    assert model.n_iter_ == epochs and model.loss_curve_ == [] and model.predict(x).size == 6


def test_converged_at_once():
    """At the first fit, too: the loss is that of the network there is."""
    model = made(RNNRegressor, solver=bf.LBFGS(gradient_tolerance=1e9), cell="elman").fit(X, Y)
    assert model.n_iter_ == 0 and model.loss_ == pytest.approx(((model.predict(X) - Y) ** 2).mean())
    pickle.loads(pickle.dumps(model)).predict(X)


@pytest.mark.parametrize("solver", SECOND_ORDER)
def test_parameters_that_a_solver_does_not_use(solver):
    """As scikit-learn's MLP: a grid goes over solvers.  A value that no solver can use stays an error."""
    options = dict(cell="elman", hidden_size=3, max_iter=3, solver=solver)
    plain = made(RNNRegressor, learning_rate_init=None, **options).fit(X, Y)
    given = dict(learning_rate_init=0.3, batch_size=16, clip_norm=1e-6, shuffle=False)
    np.testing.assert_array_equal(
        made(RNNRegressor, **options, **given).fit(X, Y).network_.params, plain.network_.params
    )
    for name in ("learning_rate_init", "batch_size", "clip_norm"):
        with pytest.raises(bf.ConfigError, match=f"{name}: expected"):
            made(RNNRegressor, **options | {name: -1}).fit(X, Y)


@pytest.mark.parametrize("kind", ALL)
def test_a_grid_over_solvers(kind):
    solvers = ["adam", bf.SGD(0.1, momentum=0.9), bf.SGD(bf.schedules.Cosine(0.1)), "lbfgs", "hessian_free"]
    grid = {"solver": solvers, "learning_rate_init": [None, 0.01], "batch_size": ["auto", 16]}
    model = (
        made(kind, max_iter=2, hidden_size=2, cell="elman", window=5)
        if kind is RNNForecaster
        else made(kind, max_iter=2, hidden_size=2, cell="elman")
    )
    search = GridSearchCV(model, grid, cv=KFold(2), error_score="raise").fit(
        X[:40], *(() if kind is RNNForecaster else (targets(kind)[:40],))
    )
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    assert len(search.cv_results_["params"]) == 20


# ---- among scikit-learn's tools


@pytest.mark.slow
@pytest.mark.parametrize("kind", ALL)
def test_clone_and_pickle(kind):
    """A pickle has the weights and at most 10 kB more, also after the default number of epochs."""
    model = made(kind, hidden_size=40, max_iter=200, n_iter_no_change=999, early_stopping=True)
    model.fit(X[:30], None if kind is RNNForecaster else targets(kind)[:30])
    text = pickle.dumps(model)
    assert len(text) <= model.network_.params.nbytes + 10_000
    np.testing.assert_array_equal(pickle.loads(text).predict(X), model.predict(X))
    fresh = clone(model)
    assert fresh.get_params() == model.get_params() and not hasattr(fresh, "network_")


@pytest.mark.parametrize("x", (X, RAGGED), ids=("array", "list"))
@pytest.mark.parametrize("kind, y", SUPERVISED)
def test_grid_search(kind, y, x):
    grid = {"hidden_size": [2, 6], "solver": ["adam", bf.SGD(0.1, momentum=0.5)]}
    search = GridSearchCV(made(kind, max_iter=15), grid, cv=KFold(2)).fit(x, y)
    assert len(search.cv_results_["params"]) == 4 and search.best_score_ > 0
    assert search.predict(x).shape == (120,)


def test_pipeline():
    x = 1000 + 50 * X[..., 0]
    y = (x[:, -1] > 1000).astype(int)
    pipe = make_pipeline(StandardScaler(), made(RNNClassifier))
    assert cross_val_score(pipe, x, y, cv=3).min() > 0.8
    pipe.fit(x, y, rnnclassifier__sample_weight=np.ones(120))
    assert pipe.predict_proba(x).shape == (120, 2)
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(x, columns=[f"t{i}" for i in range(10)])
    model = made(RNNClassifier, max_iter=3).fit(frame, y)
    assert model.feature_names_in_.tolist() == list(frame.columns)
    with pytest.raises(ValueError, match="feature names"):
        model.predict(frame[frame.columns[::-1]])


# ---- forecasts


def test_a_forecast_goes_on_with_the_series():
    model = made(RNNForecaster, hidden_size=16, horizon=12, max_iter=100).fit([SERIES[:180]])
    future = model.predict([SERIES[:180]])
    assert future.shape == (1, 12) and abs(future[0] - SERIES[180:192]).max() < 0.2
    np.testing.assert_allclose(model.predict([SERIES[:180]], horizon=3)[0], future[0, :3], rtol=1e-12)
    assert model.score([SERIES]) > 0.9


def test_a_forecast_is_the_network_fed_by_itself():
    x = X[:4]
    model = made(RNNForecaster, horizon=3, window=6, max_iter=3).fit(x)
    net = copy.copy(model.network_)
    net.scaling = None
    known = ((x - model.mean_) / model.scale_)[:, -6:]
    for step in range(3):
        y = net.predict(known, readout="last")
        np.testing.assert_allclose(model.predict(x)[:, step], y * model.scale_ + model.mean_, rtol=1e-9)
        known = np.concatenate((known, y[:, None]), axis=1)


def test_forecasts_have_the_form_of_the_series():
    for x, shape in (
        (X, (120, 4, 2)), (RAGGED, (120, 4, 2)), (list(X[..., 0]), (120, 4)), ([SERIES, SERIES[:50]], (2, 4)),
        (X[..., 0], (4, 10)), (X[..., 0].tolist(), (4, 10)), (X.tolist(), (120, 4, 2)),
    ):  # fmt: skip
        assert made(RNNForecaster, horizon=4, max_iter=1).fit(x).predict(x).shape == shape


def test_forecasts_of_tables():
    """One DataFrame or Series is one series, and its index is continued."""
    pandas = pytest.importorskip("pandas")
    values = np.stack((SERIES, 50 + SERIES), axis=1)
    model = made(RNNForecaster, horizon=3, max_iter=2)
    days = pandas.date_range("2020-01-01", periods=200, freq="D")  # a list of them has no frequency
    for index, ahead in (
        (pandas.date_range("2020-01-31", periods=200, freq="ME"), ["2036-09-30", "2036-10-31", "2036-11-30"]),
        (pandas.DatetimeIndex(list(days)), ["2020-07-19", "2020-07-20", "2020-07-21"]),
        (pandas.period_range("1900", periods=200, freq="Y"), ["2100", "2101", "2102"]),
        (pandas.RangeIndex(1700, 1900), [1900, 1901, 1902]),
        (pandas.Index(range(10, 410, 2)), [410, 412, 414]),
    ):
        frame = pandas.DataFrame(values, columns=["a", "b"], index=index)
        future = model.fit(frame).predict(frame)
        assert list(future.columns) == ["a", "b"] and future.shape == (3, 2)
        assert [str(label).removesuffix(" 00:00:00") for label in future.index] == [str(a) for a in ahead]
        one = model.fit(frame["b"]).predict(frame["b"])
        assert one.name == "b" and one.shape == (3,) and 40 < one.min() < one.max() < 60
        np.testing.assert_array_equal(one.index, future.index)
    with pytest.raises(ValueError, match="feature names"):
        model.predict(frame["a"])
    for index in ([f"r{i}" for i in range(200)], days[:100].union(days[150:160])):
        with pytest.raises(bf.ConfigError, match="expected an index with a frequency"):
            model.predict(frame["b"][: len(index)].set_axis(pandas.Index(index)))


def test_forecasts_of_polars_tables():
    """One series, as a table of pandas is."""
    pandas, polars = pytest.importorskip("pandas"), pytest.importorskip("polars")
    values = np.stack((SERIES, 50 + SERIES), axis=1)[:40]
    frame, other = (
        kind(dict(zip("ab", values.T, strict=True))) for kind in (polars.DataFrame, pandas.DataFrame)
    )
    model = made(RNNForecaster, horizon=3, max_iter=2)
    expected = model.fit(other).predict(other)
    future = model.fit(frame).predict(frame)
    assert isinstance(future, polars.DataFrame) and future.columns == ["a", "b"]
    np.testing.assert_array_equal(future.to_numpy(), expected.to_numpy())
    assert model.network_.columns.inputs == ("a", "b") and model.score(frame) == model.score(other)
    one = model.fit(frame["b"]).predict(frame["b"])
    assert isinstance(one, polars.Series) and one.name == "b" and len(one) == 3
    for many, shape in (([frame, frame[:30]], (2, 3, 2)), ([frame["a"], frame["b"]], (2, 3))):
        assert model.fit(many).predict(many).shape == shape


def test_a_matrix_is_one_series_as_the_table_is():
    pandas = pytest.importorskip("pandas")
    values = RNG.normal(size=(90, 3))
    model = made(RNNForecaster, horizon=3, max_iter=1)
    frame = pandas.DataFrame(values, columns=["a", "b", "c"])
    expected = model.fit(frame).predict(frame)
    params, score = model.network_.params.copy(), model.score(frame)
    for given in (values, values.tolist(), [values], values[None]):
        future = model.fit(given).predict(given)
        np.testing.assert_array_equal(model.network_.params, params)
        np.testing.assert_array_equal(np.reshape(future, (3, 3)), expected)
        assert model.score(given) == score
    np.testing.assert_array_equal(model.fit(frame).predict(values), expected)
    column = values[:, :1]
    np.testing.assert_array_equal(model.fit(column).predict(column), model.predict(column[None])[0])
    assert model.fit(column, sample_weight=np.ones(90)).predict(column).shape == (3, 1)


def test_a_matrix_that_looks_like_series_in_rows():
    pandas = pytest.importorskip("pandas")
    rows, model = RNG.normal(size=(5, 40)), made(RNNForecaster, max_iter=1)
    both = r"looks like 5 series of 40 steps.  For one series of 5 steps pass \[X\], for 5 series list\(X"
    for given in (rows, rows.tolist(), pandas.DataFrame(rows)):
        with pytest.raises(bf.ShapeError, match=both):
            model.fit(given)
    with pytest.raises(bf.ShapeError, match=r"looks like 5 series of 5 steps"):
        model.fit(rows[:, :5])
    assert model.fit([rows]).predict([rows]).shape == (1, 1, 40)  # the advice
    assert model.predict(rows).shape == (1, 40)  # it is known now
    assert model.fit(list(rows)).predict(list(rows)).shape == (5, 1)
    with pytest.raises(ValueError, match=r"5 series of 40 steps"):
        model.predict(rows)
    with pytest.raises(bf.ShapeError, match=r"X: expected one series .*got \(40,\).  A column: X\[:, None\]"):
        model.fit(rows[0])


def test_a_table_with_times_is_not_read_as_samples():
    pandas = pytest.importorskip("pandas")
    times = pandas.date_range("2024-01-01", periods=40, freq="h")
    frame = pandas.DataFrame(RNG.normal(size=(40, 3)), index=times)
    both = r"one series of 40 steps with 3 columns.  For one series pass \[X\], \[y\] .* X.to_numpy\(\)"
    for index in (times, times.to_period()):
        for model, y in (
            (made(RNNRegressor, max_iter=1), np.arange(40.0)),
            (made(RNNClassifier), times.hour),
        ):
            with pytest.raises(bf.ShapeError, match=both):
                model.fit(frame.set_axis(index), y)
    model = made(RNNRegressor, max_iter=1).fit(frame.to_numpy(), np.arange(40.0))
    with pytest.raises(bf.ShapeError, match=both):
        model.predict(frame)
    model = made(RNNRegressor, max_iter=1, readout="every").fit([frame], [np.arange(40.0)])
    assert model.predict([frame])[0].shape == (40,)
    with pytest.raises(bf.ShapeError, match=r"For one series of 40 steps pass \[X\], \[y\]"):
        model.fit(frame.to_numpy(), np.arange(40.0))


def test_labels_of_a_regressor():
    with pytest.raises(bf.ConfigError, match=r"y: expected real numbers, .*'down'.* RNNClassifier"):
        made(RNNRegressor).fit(X, LABELS)


def test_no_covariates():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"load": SERIES, "temperature": 1.5 * SERIES})
    model, counts = made(RNNForecaster, max_iter=1), np.arange(200)
    for given in (
        frame[["temperature"]], frame["temperature"], frame.to_numpy(), [SERIES, SERIES[:9]], counts,
        pandas.Series(counts), [0],
    ):  # fmt: skip
        for call in (model.fit, model.partial_fit, model.fit(frame[["load"]]).score):
            for x in (frame[["load"]], frame[["load"]].to_numpy(), [SERIES, SERIES]):
                with pytest.raises(bf.ConfigError, match=r"y: expected None.* no covariates"):
                    call(x, given)
    with pytest.warns(UserWarning, match="y is ignored"):
        model.fit([SERIES, SERIES], ["a", "b"])


@pytest.mark.parametrize("dtype", ("float16", "float32", "float64", "int32", "uint64"))
def test_scales_are_computed_in_float64(dtype):
    random = np.random.default_rng(1)
    series = (1000 if dtype == "float16" else 1e7) + 10 * random.uniform(-1, 1, size=(300, 1))
    series = series.astype(dtype)
    exact = series.astype(np.float64)
    for given in (series[None], [series, series[:40]], series):
        model = made(RNNForecaster, max_iter=1).fit(given)
        rows = np.concatenate([exact, exact[:40]]) if isinstance(given, list) else exact
        np.testing.assert_allclose((model.mean_[0], model.scale_[0]), (rows.mean(), rows.std()), rtol=1e-9)
        assert model.network_.scaling.input_scale == tuple(model.scale_)


def test_cross_validation_over_time():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"a": SERIES}, index=pandas.period_range("2000-01", periods=200, freq="M"))
    search = GridSearchCV(made(RNNForecaster, horizon=5), {"window": [4, 16]}, cv=TimeSeriesSplit(3))
    assert search.fit(frame).best_score_ > 0.5
    assert str(search.predict(frame).index[-1]) == "2017-01"


def test_early_stopping_of_one_series():
    """The last steps are held out; neither the scale nor a window for training sees them."""
    series = np.r_[SERIES, np.full(50, 9.0)]
    model = made(RNNForecaster, early_stopping=True, validation_fraction=0.2, max_iter=3).fit([series])
    assert model.mean_ == pytest.approx(SERIES.mean()) and model.validation_loss_curve_[0] > 1


# ---- error messages


@pytest.mark.parametrize("options, words", (
    (dict(hidden_size=0), "hidden_size: expected an integer of at least 1, got 0"),
    (dict(cell="gruu"), "Did you mean 'gru'"),
    (dict(activation="sigmoidal"), "activation: expected one of 'logistic', 'identity', 'tanh'"),
    (dict(solver="adm"), "solver: expected one of"),
    (dict(solver="adm"), "Did you mean 'adam'"),
    (dict(learning_rate_init=-1.0), "learning_rate_init: expected a finite number above 0, got -1"),
    (dict(loss="mse"), "loss: expected one of 'squared_error'"),
    (dict(max_iter=0), "max_iter: expected an integer of at least 1, got 0"),
    (dict(tol=-1), "tol: expected a finite number of at least 0"),
    (dict(n_iter_no_change=0.5), "n_iter_no_change: expected an integer"),
    (dict(early_stopping="yes"), "early_stopping: expected True or False"),
    (dict(early_stopping=True, validation_fraction=1.5), "validation_fraction: expected"),
    (dict(warm_start=1), "warm_start: expected True or False"),
    (dict(n_jobs=-3), "n_jobs: expected an integer of at least 1"),
    (dict(batch_size="all"), "batch_size: expected an integer"),
    (dict(validation_fraction=0.0), "validation_fraction: expected a finite number above 0"),
    (dict(clip_norm=0), "clip_norm: expected a finite number above 0"),
    (dict(shuffle=2), "shuffle: expected True or False"),
    (dict(verbose=2.5), "verbose: expected"),
    (dict(verbose=None), "verbose: expected"),
    (dict(dropout=1.0), "dropout: expected"),
    (dict(head=(0,)), "head"),
))  # fmt: skip
@pytest.mark.parametrize("kind", (RNNRegressor, RNNForecaster))
def test_parameters_are_checked_in_fit(kind, options, words):
    model = made(kind).set_params(**options)
    with pytest.raises(bf.ConfigError) as caught:
        model.fit(X, targets(kind))
    assert words in str(caught.value)
    assert not hasattr(model, "network_")


def test_data_are_checked():
    model = made(RNNRegressor, max_iter=2).fit(X, Y)
    for call, words in (
        (lambda: model.predict(X[..., :1]), "X has 1 features, but RNNRegressor is expecting 2 features"),
        (lambda: model.fit(X, Y[:5]), "inconsistent numbers of samples"),
        (lambda: model.fit([*RAGGED[:3], np.ones((4, 3))], Y[:4]), r"X\[3\]: X has 3 features"),
        (lambda: model.fit([*RAGGED[:3], np.full((4, 2), np.nan)], Y[:4]), "Input X contains NaN"),
        (lambda: model.fit([*RAGGED[:3], np.ones((0, 2))], Y[:4]), "got a sequence of length 0"),
        (lambda: model.fit(X, Y, sample_weight=Y), "sample_weight: expected finite numbers of at least 0"),
        (lambda: made(RNNRegressor, readout="every").fit(X, Y), "y: expected"),
        (lambda: made(RNNRegressor, readout="first").fit(X, Y), "readout: expected one of 'last', 'every'"),
        (lambda: made(RNNForecaster).fit([[1.0]]), "at least 2 steps"),
        (lambda: made(RNNForecaster, horizon=0).fit(X), "horizon: expected an integer"),
        (lambda: made(RNNForecaster, horizon=-1).partial_fit(X), "horizon: expected an integer"),
        (lambda: made(RNNForecaster, max_iter=1).fit(X).set_params(horizon=0).score(X), "horizon: expected"),
        (lambda: made(RNNForecaster, window=0).fit(X), "window: expected an integer"),
        (lambda: made(RNNForecaster, stride=1.5).fit(X), "stride: expected an integer"),
        (lambda: made(RNNForecaster, standardize=1).fit(X), "standardize: expected True or False"),
        (lambda: made(RNNRegressor).fit([[1.0, 2.0], [3.0]], [0, 1]), r"X: .* 1 to 2 entries.*np.asarray"),
        (lambda: made(RNNRegressor).fit([np.ones(3), [3.0]], [0, 1]), r"X: .* 1 to 3 entries"),
        (lambda: made(RNNForecaster).fit([[1.0, 2.0], [3.0]]), r"X: .* 1 to 2 entries"),
        (
            lambda: made(RNNRegressor).fit([[[1.0], [2.0, 3.0]]], [0]),
            r"X\[0\]: expected steps with equally many",
        ),
        (
            lambda: made(RNNRegressor).fit(np.array([*RAGGED, None], object)[:-1], Y),
            r"Pass a list: list\(X\)",
        ),
        (lambda: made(RNNRegressor).fit(RAGGED, [x[:, 0] for x in RAGGED]), 'y: .* readout="every"'),
        (
            lambda: made(RNNClassifier, readout="every").fit(
                RAGGED, np.array([*(x[:, 0] > 0 for x in RAGGED), None], object)[:-1]
            ),
            r"y: .* list\(y\)",
        ),
        (lambda: made(RNNClassifier).fit(RAGGED, [x[:, 0] > 0 for x in RAGGED]), 'y: .* readout="every"'),
    ):
        with pytest.raises(ValueError, match=words):
            call()
    with pytest.raises(NotFittedError):
        made(RNNForecaster).predict(X)


def test_divergence_reaches_the_caller():
    model = made(RNNRegressor, cell="elman", activation="identity", solver="sgd", learning_rate_init=1e9)
    with pytest.raises(bf.DivergedError, match="learning_rate"):
        model.fit(X, Y)
    model.set_params(learning_rate_init=1e-3, warm_start=True).fit(X, Y)
    before = model.network_.params.copy()
    with pytest.raises(bf.DivergedError, match="learning_rate"):
        model.set_params(learning_rate_init=1e9).fit(X, Y)
    np.testing.assert_array_equal(model.network_.params, before)


def test_without_scikit_learn_the_error_says_what_to_install(python):
    code = "import sys; sys.modules['sklearn'] = None; import bptt_fast; import bptt_fast.estimators"
    done = python("-c", code)
    assert done.returncode == 1 and 'pip install "bptt-fast[sklearn]"' in done.stderr


DATES = np.datetime64("2024-01-01") + np.arange(30)
NO_NUMBERS = {
    "text": ("pandas", "DataFrame", ["1"] * 29 + ["x"]),
    "dates": ("pandas", "DataFrame", DATES),
    "polars, dates": ("polars", "DataFrame", DATES),
    "Arrow, dates": ("pyarrow", "table", DATES),
}


@pytest.mark.parametrize("library, make, entries", NO_NUMBERS.values(), ids=NO_NUMBERS)
@pytest.mark.parametrize("kind", (RNNRegressor, RNNForecaster))
def test_columns_without_numbers_are_named(kind, library, make, entries):
    """Dates are not numbers, though some libraries make some of them."""
    given = getattr(pytest.importorskip(library), make)({"a": np.arange(30.0), "b": entries})
    right = np.arange(60.0).reshape(30, 2)
    targets = () if kind is RNNForecaster else (right[:, 0],)
    model = kind(2, max_iter=1)
    with pytest.raises(bf.ConfigError, match=r"^X: expected real numbers, got column 'b'"):
        model.fit(given, *targets)
    with pytest.raises(bf.ConfigError, match=r"^X\[1\]: expected real numbers, got column 'b'"):
        model.fit([right, given], *(t[:2] for t in targets))
    if targets:
        with pytest.raises(bf.ConfigError, match=r"^y: expected real numbers, got column 'b'"):
            model.fit(right, given)


def test_columns_of_objects_that_are_numbers():
    pandas = pytest.importorskip("pandas")
    table = pandas.DataFrame(np.arange(60.0).reshape(30, 2)).astype(object)
    assert made(RNNRegressor, max_iter=1).fit(table, np.arange(30.0)).n_features_in_ == 2


@pytest.mark.parametrize("shape", ((20, 6), (20, 6, 1)))
def test_masked_arrays(shape):
    """What the mask hides is not learnt from in silence."""
    X = np.ma.masked_less(np.random.default_rng(0).normal(size=shape), 0)
    y = np.ones(20)
    for x, target, weight, name in (
        (X, y, None, "X"), (list(X), y, None, r"X\[0\]"),
        (X.data, np.ma.masked_less(y, 0), None, "y"), (X.data, y, np.ma.masked_less(y, 0), "sample_weight"),
    ):  # fmt: skip
        with pytest.raises(bf.ConfigError, match=f"^{name}: expected plain numbers, got a masked array"):
            RNNRegressor(2, max_iter=1).fit(x, target, weight)


def test_overlapping_views_are_reported_before_some_are_held_out():
    series = np.random.default_rng(0).normal(size=60)
    views = np.lib.stride_tricks.sliding_window_view(series, 10)[:-1]
    for X in (views, views[:, :, None], list(views)):
        for early, expected in ((True, 1), (False, 0)):
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                RNNRegressor(2, max_iter=1, early_stopping=early).fit(X, series[10:])
            found = [w for w in caught if "views of the same rows" in str(w.message)]
            assert len(found) == expected and all(w.filename == __file__ for w in found)
