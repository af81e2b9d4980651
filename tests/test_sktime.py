"""The face of sktime: its own checks, and forecasts that are those of ``Forecaster`` to the bit."""

import numpy as np
import pytest

pytest.importorskip("sktime")

import pandas as pd
from sktime.utils.estimator_checks import check_estimator

import bptt_fast as bf
from bptt_fast.sktime import SktimeForecaster

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")

SMALL = {"window": 12, "hidden_size": 4, "epochs": 3}
DAYS = pd.date_range("2024-01-01", periods=70, freq="D")


def series(seed, days=DAYS):
    values = np.sin(np.arange(len(days)) / 3 + seed) + 0.1 * np.random.default_rng(seed).normal(
        size=len(days)
    )
    return pd.DataFrame({"y0": values}, index=days)


def panel(parts):
    return pd.concat(parts, names=["shop", "day"])


@pytest.mark.slow
def test_passes_all_checks_of_sktime():
    results = check_estimator(SktimeForecaster, verbose=False)
    assert len(results) > 500
    assert set(results.values()) == {"PASSED"}


def test_forecasts_are_those_of_forecaster():
    y = series(0)
    X = pd.DataFrame({"X0": np.cos(np.arange(75) / 3), "X1": ["a", "b", "c"] * 25}).set_axis(
        pd.date_range(DAYS[0], periods=75, freq="D")
    )
    face = SktimeForecaster(calendar=["weekday"], random_state=3, **SMALL)
    got = face.fit(y, X=X[:70]).predict(fh=[2, 5], X=X[70:])
    options = {name: SMALL[name] for name in ("window", "hidden_size")}
    model = bf.Forecaster(
        ["y0"], known=["X0", "X1"], categorical=["X1"], calendar=["weekday"], seed=3, **options
    )
    model.fit(y.join(X), epochs=3, verbose=0)
    expected = model.predict(y.join(X), 5, future=X[70:])
    assert got.index.tolist() == expected.index[[1, 4]].tolist()
    np.testing.assert_array_equal(got.to_numpy(), expected.iloc[[1, 4]].to_numpy())


@pytest.mark.parametrize("strategy", ["recursive", "direct"])
def test_a_panel_is_one_global_model(strategy):
    """One series ends three days earlier than the other; both are forecast at the same times."""
    parts = {"a": series(0), "b": 10 * series(1, DAYS[:67])}
    face = SktimeForecaster(strategy=strategy, loss="gaussian", random_state=0, **SMALL)
    face.fit(panel(parts), fh=[1, 2])
    got = face.predict()
    assert got.index.names == ["shop", "day"]
    model = bf.Forecaster(
        "y0", horizon=5, window=12, hidden_size=4, strategy=strategy, loss="gaussian", seed=0
    )
    model.fit(parts, epochs=3, verbose=0)
    expected = model.predict(parts, 5)
    for key, rows in (("a", slice(0, 2)), ("b", slice(3, 5))):
        np.testing.assert_array_equal(got.loc[key], expected[key][rows])
        assert got.loc[key].index.tolist() == [pd.Timestamp("2024-03-11"), pd.Timestamp("2024-03-12")]


def test_quantiles_keep_the_order_that_was_asked_for():
    face = SktimeForecaster(loss="gaussian", random_state=0, **SMALL).fit(series(0)["y0"], fh=[1, 3])
    found = face.predict_quantiles(alpha=[0.9, 0.1])
    assert found.columns.tolist() == [("y0", 0.9), ("y0", 0.1)]
    assert (found[("y0", 0.9)] > found[("y0", 0.1)]).all()
    model = face.forecaster_
    same = model.predict_quantiles({None: series(0)}, [0.1, 0.9], 3, rng=0)[None].iloc[[0, 2]]
    np.testing.assert_array_equal(found[("y0", 0.1)], same[("y0", 0.1)])


def test_an_update_moves_the_origin():
    y = series(0)
    face = SktimeForecaster(random_state=0, **SMALL).fit(y[:60])
    weights = face.forecaster_.network.params.copy()
    face.update(y[60:], update_params=False)
    np.testing.assert_array_equal(face.forecaster_.network.params, weights)
    expected = face.forecaster_.predict({None: y}, 2)[None]
    np.testing.assert_array_equal(face.predict(fh=[1, 2]), expected)


def test_tags_follow_the_parameters():
    spread = SktimeForecaster(loss=bf.Loss("pinball", quantiles=[0.1, 0.5, 0.9]))
    assert not spread.get_tag("capability:pred_int")  # recursive quantiles feed back their median
    assert spread.set_params(strategy="direct").get_tag("capability:pred_int")
    assert spread.get_tag("requires-fh-in-fit")
    assert not SktimeForecaster().get_tag("capability:missing_values")
    assert SktimeForecaster(missing="indicator").get_tag("capability:missing_values")


def test_times_between_the_steps_are_an_error():
    """sktime adds 1 per step to integers, so that an index with a step of 2 has no forecast of odd times."""
    y = series(0).set_axis(range(0, 140, 2))
    face = SktimeForecaster(random_state=0, **SMALL).fit(y)
    assert face.predict(fh=[2, 4]).index.tolist() == [140, 142]
    with pytest.raises(bf.ConfigError, match=r"fh: expected times of the forecast, 140 to 140 .* got 139"):
        face.predict(fh=[1, 2])


@pytest.mark.parametrize("name, key", [("network", "hidden_size"), ("training", "epochs")])
def test_arguments_are_given_once(name, key):
    with pytest.raises(bf.ConfigError, match=f"{name}: expected arguments .* got '{key}'"):
        SktimeForecaster(**{name: {key: 5}}).fit(series(0))
