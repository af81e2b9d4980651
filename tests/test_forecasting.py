"""Forecaster, backtest and metrics: exact against code written by hand, and no look into the future."""

import copy
import pickle
import warnings

import numpy as np
import pytest

import bptt_fast as bf
from bptt_fast import metrics

pandas = pytest.importorskip("pandas")

QUIET = {"verbose": 0, "optimizer": "adam"}


def table(rows=90, start="2024-01-01", freq="D", level=10.0, seed=0):
    """A daily series with a covariate, a past covariate and a category."""
    random = np.random.default_rng(seed)
    index = pandas.date_range(start, periods=rows, freq=freq)
    price = random.normal(size=rows)
    load = level * (1 + 0.3 * np.sin(np.arange(rows) / 3)) + price + 0.1 * random.normal(size=rows)
    kind = np.where(index.day_of_week >= 5, "rest", "work")
    return pandas.DataFrame(
        {"load": load, "price": price, "wind": random.normal(size=rows), "kind": kind}, index
    )


def fitted(data=None, *, epochs=2, validation=0.0, **options):
    options = {"hidden_size": 5, "window": 12, "stride": 5, "seed": 0, "dtype": "float64"} | options
    model = bf.Forecaster("load", **options)
    model.fit(table()[["load"]] if data is None else data, epochs=epochs, validation=validation, **QUIET)
    return model


# ---- metrics


def test_metrics_are_their_formulas():
    random = np.random.default_rng(0)
    y, f, low = random.normal(size=(3, 50, 2))
    y[3, 1] = np.nan
    m = np.isfinite(y)
    e = (y - f)[m]
    assert metrics.mae(y, f) == pytest.approx(np.abs(e).mean())
    assert metrics.rmse(y, f) == pytest.approx(np.sqrt((e**2).mean()))
    assert metrics.smape(y, f) == pytest.approx(100 * (np.abs(e) / ((np.abs(y) + np.abs(f)) / 2)[m]).mean())
    assert metrics.pinball(y, f, 0.2) == pytest.approx(np.where(e > 0, 0.2 * e, -0.8 * e).mean())
    assert metrics.coverage(y, low, low + 1) == pytest.approx(((low <= y) & (y <= low + 1))[m].mean())
    history = random.normal(size=40)
    naive = np.abs(history[7:] - history[:-7]).mean()
    assert metrics.mase(y, f, history, season=7) == pytest.approx(np.abs(e).mean() / naive)


def test_metrics_of_nothing_and_of_wrong_shapes():
    assert np.isnan(metrics.mae([np.nan], [1.0]))
    assert metrics.smape([0.0], [0.0]) == 0
    assert metrics.mase([1.0], [2.0], [3.0, 3.0]) == np.inf
    with pytest.raises(bf.ShapeError, match=r"forecast: expected the shape of actual, \(2,\), got \(3,\)"):
        metrics.mae([1, 2], [1, 2, 3])
    with pytest.raises(bf.ConfigError, match="upper: expected finite numbers"):
        metrics.coverage([1.0], [0.0], [np.nan])
    with pytest.raises(bf.ConfigError, match="quantile: expected a finite number above 0 and below 1, got 1"):
        metrics.pinball([1.0], [1.0], 1.0)
    for wrong in (1j, "", ["a"], {}):
        with pytest.raises((bf.ConfigError, bf.ShapeError), match=r"^actual: expected"):
            metrics.mae(wrong, [1.0])
        with pytest.raises((bf.ConfigError, bf.ShapeError), match=r"^forecast: expected"):
            metrics.mae([1.0], wrong)


def test_metrics_leave_out_what_is_missing_in_every_form():
    f, gap = [1.0, 5.0, 3.0], [1.0, None, 5.0]
    masked = np.ma.masked_array([1.0, 100.0, 5.0], [False, True, False])
    for actual in (gap, np.array(gap), np.array(gap, float), masked, pandas.array([1, None, 5], "Int64")):
        assert metrics.mae(actual, f) == 1.0
    with pytest.raises(bf.ConfigError, match="forecast: expected finite numbers where actual is known"):
        metrics.mae(f, masked)


def test_columns_by_an_index():
    """The columns of a table, as pandas names them."""
    table = pandas.DataFrame(np.random.default_rng(0).normal(size=(20, 3)), columns=list("abc"))
    model = bf.Forecaster("a", past=table.columns[1:], hidden_size=3, window=4, seed=0)
    model.fit(table, epochs=1, verbose=0)
    assert model.roles.past == ("b", "c")


# ---- forecasts by hand


def standard(a):
    return (a - a.mean()) / a.std()


def test_a_recursive_forecast_is_the_loop_by_hand():
    data = table()
    model = fitted(data[["load", "price"]], known=["price"], calendar=["weekday"], horizon=6)
    net, window, end = model.network, 12, 80
    ahead = model.predict(data[["load", "price"]][:end], future=data[["price"]])
    load, price = data["load"].to_numpy(), data["price"].to_numpy()
    mean, scale = load.mean(), load.std()
    angle = 2 * np.pi * data.index.day_of_week.to_numpy() / 7
    known = np.column_stack([standard(price), np.sin(angle), np.cos(angle)])
    lags = list((load[:end] - mean) / scale)
    for step in range(6):
        rows = range(end - window + 1, end + step + 1)
        x = np.array([[lags[t - 1], *known[t]] for t in rows])
        lags.append(net.predict(x, readout="last")[0])
    expected = np.array(lags[end:]) * scale + mean
    assert ahead["load"].to_numpy() == pytest.approx(expected, rel=1e-9)
    assert ahead.index.equals(data.index[end : end + 6]) and ahead.index.freqstr == "D"


def test_a_direct_forecast_is_one_pass_with_unknown_targets():
    data = table()
    model = fitted(data[["load", "wind"]], past=["wind"], horizon=4, strategy="direct")
    load, wind = standard(data["load"].to_numpy()), standard(data["wind"].to_numpy())
    mean, scale, end = data["load"].mean(), data["load"].std(ddof=0), 70
    x = np.zeros((15, 4))
    rows = range(end - 11, end + 4)
    for i, t in enumerate(rows):
        if t - 1 < end:
            x[i] = [load[t - 1], wind[t - 1], 1, 1]
    expected = model.network.predict(x)[-4:, 0] * scale + mean
    got = model.predict(data[["load", "wind"]][:end])["load"].to_numpy()
    assert got == pytest.approx(expected, rel=1e-9)
    assert model.predict(data[["load", "wind"]][:end], 2)["load"].to_numpy() == pytest.approx(expected[:2])


@pytest.mark.parametrize("strategy", ["recursive", "direct"])
def test_training_windows_are_those_copied_by_hand(strategy):
    """Windows are offsets into rows of all series, of which one is shorter than a window."""
    long, short = table(40)[["load"]], table(9, level=3.0, seed=1)[["load"]]
    horizon = 3 if strategy == "direct" else 1
    model = bf.Forecaster(
        "load",
        window=12,
        stride=5,
        horizon=horizon,
        strategy=strategy,
        hidden_size=4,
        seed=3,
        dtype="float64",
    )
    model.fit([long, short], epochs=3, validation=0, shuffle=False, **QUIET)
    x, y, weight = [], [], []
    for part in (long, short):
        load = standard(part["load"].to_numpy())
        if strategy == "recursive":
            n = len(load) - 1
            starts = [0] if n < 12 else [*range(0, n - 12, 5), n - 12]
            for start in starts:
                rows = range(start + 1, min(start + 13, n + 1))
                x.append(np.array([[load[t - 1]] for t in rows]))
                y.append(load[list(rows)])
                weight.append(np.ones(len(rows)))
        else:
            last = len(load) - horizon
            first = min(12, last)
            for origin in [*range(first, last, 5), last]:
                rows = range(max(1, origin - 11), origin + horizon)
                x.append(np.array([[load[t - 1], 1.0] if t - 1 < origin else [0, 0] for t in rows]))
                y.append(load[list(rows)])
                weight.append((np.array(rows) >= origin).astype(float))
    net = bf.Network(x[0].shape[1], 4, 1, cell="gru", readout="every", seed=3, dtype="float64")
    net.fit(x, y, sample_weight=weight, epochs=3, shuffle=False, patience=5, **QUIET)
    assert model.network.params == pytest.approx(net.params, rel=1e-9, abs=1e-12)


def test_held_out_rows_are_the_last_and_change_no_scaling():
    data = table()[["load"]]
    model = bf.Forecaster("load", hidden_size=4, window=8, stride=8, seed=0, dtype="float64")
    record = model.fit(data, epochs=1, validation=0.2, **QUIET)
    load = data["load"].to_numpy()
    end = 90 - 18
    scaled = (load - load[:end].mean()) / load[:end].std()
    x = scaled[end - 9 : -1, None]
    weight = np.r_[np.zeros(8), np.ones(18)]
    expected = model.network.evaluate(x, scaled[end - 8 :, None], sample_weight=weight[None])
    assert record["val_loss"][-1] == pytest.approx(expected)
    other = data.copy()
    other.iloc[end:] = 1000.0
    again = bf.Forecaster("load", hidden_size=4, window=8, stride=8, seed=0, dtype="float64")
    again.fit(other, epochs=1, validation=0.2, **QUIET)
    assert np.array_equal(model.network.params, again.network.params)


# ---- no look into the future


@pytest.mark.parametrize("scaling", ["global", "series"])
@pytest.mark.parametrize(
    ("strategy", "past", "loss"),
    [("recursive", [], "mse"), ("direct", ["wind"], "gaussian"), ("recursive", [], "student_t")],
)
def test_what_follows_an_origin_changes_no_forecast(strategy, past, loss, scaling):
    data = table()
    columns = ["load", "price", "kind", *past]
    options = {"known": ["price", "kind"], "categorical": ["kind"], "past": past, "missing": "indicator"}
    model = fitted(data[columns][:50], horizon=5, strategy=strategy, loss=loss, scaling=scaling, **options)
    changed = data[columns].copy()
    changed.loc[changed.index[65] :, ["load", *past]] *= -3
    quantiles = () if loss == "mse" else (0.1, 0.9)
    a, b = (
        bf.backtest(model, one, start=50, step=3, quantiles=quantiles, rng=0, paths=20).forecasts
        for one in (data[columns], changed)
    )
    before = a["origin"] < data.index[65]
    assert 0 < before.sum() < len(a)
    said = ["forecast", *quantiles]
    assert a[before][said].equals(b[before][said])
    assert not a[~before][said].equals(b[~before][said])


@pytest.mark.parametrize("window", [None, 30])
def test_a_refit_sees_only_earlier_rows_of_all_series(window):
    parts = [table(60)[["load"]], table(40, "2024-01-21", level=3, seed=1)[["load"]]]
    model = bf.Forecaster("load", hidden_size=3, horizon=4, window=8, stride=4, seed=0)
    options = {"start": 40, "refit": True, "window": window, "epochs": 1, "verbose": 0}
    a = bf.backtest(model, parts, **options).forecasts
    changed = [part.copy() for part in parts]
    when = parts[0].index[48]
    for part in changed:
        part.loc[when:] += 50
    b = bf.backtest(model, changed, **options).forecasts
    before = a["time"] < when
    before &= a["origin"] < when
    assert set(a["series"]) == {0, 1} and 0 < before.sum() < len(a)
    assert a[before]["forecast"].equals(b[before]["forecast"])
    assert not a[~before]["forecast"].equals(b[~before]["forecast"])


# ---- forms of the data


def test_list_dict_long_table_and_column_are_the_same_series():
    a, b = table(50)[["load"]], table(30, "2024-02-01", level=90, seed=1)[["load"]]
    long = pandas.concat([a.assign(site="a"), b.assign(site="b")]).rename_axis("day").reset_index()
    shuffled = long.sort_values(["day", "site"])
    forecasts = []
    for data, options in (
        ([a, b], {}),
        ({"a": a, "b": b}, {}),
        (long, {"key": "site", "time": "day"}),
        (shuffled, {"key": "site", "time": "day"}),
        ([a["load"], b["load"]], {}),
    ):
        model = fitted(data, horizon=3, **options)
        forecasts.append(model.predict(data))
    by_list, by_dict, by_long, by_shuffled, by_column = forecasts
    assert isinstance(by_list, list) and list(by_dict) == ["a", "b"]
    assert (
        list(by_long.columns) == ["site", "day", "load"] and by_long["site"].tolist() == ["a"] * 3 + ["b"] * 3
    )
    assert by_long.equals(by_shuffled)
    for i, key in enumerate("ab"):
        assert by_list[i].equals(by_dict[key]) and by_list[i].equals(by_column[i])
        assert by_long[by_long["site"] == key]["load"].tolist() == by_list[i]["load"].tolist()
    assert by_list[1].index[0] == b.index[-1] + pandas.Timedelta("1D")


def test_a_series_gives_a_series_with_its_name_and_index():
    one = table(50)["load"]
    future = fitted(one, horizon=3).predict(one)
    assert isinstance(future, pandas.Series) and future.name == "load" and len(future) == 3
    numbered = one.reset_index(drop=True)
    assert fitted(numbered, horizon=3).predict(numbered).index.tolist() == [50, 51, 52]
    months = pandas.Series(one.to_numpy(), pandas.period_range("2020-01", periods=50, freq="M"), name="load")
    model = fitted(months, horizon=2, calendar=["month", "quarter"])
    assert model.predict(months).index.astype(str).tolist() == ["2024-03", "2024-04"]
    assert model.frequency == "M"


def test_a_global_model_scales_each_series_by_its_history():
    a = table(50)[["load"]]
    model = fitted([a, 1000 * a + 7], horizon=3)
    one, other = model.predict([a, 1000 * a + 7])
    assert other["load"].to_numpy() == pytest.approx(1000 * one["load"].to_numpy() + 7, rel=1e-9)


def test_several_targets():
    data = table()[["load", "price"]]
    model = bf.Forecaster(["load", "price"], horizon=3, hidden_size=4, window=8, loss="gaussian", seed=0)
    model.fit(data, epochs=1, verbose=0)
    assert model.predict(data).columns.tolist() == ["load", "price"]
    spread = model.predict_quantiles(data, [0.2, 0.8], rng=0)
    assert (
        spread["price"].columns.tolist() == [0.2, 0.8] and (spread["load"][0.2] < spread["load"][0.8]).all()
    )
    assert model.sample_paths(data, 7, rng=0).shape == (7, 3, 2)
    unnamed = bf.Forecaster(hidden_size=4, window=8, seed=0)
    unnamed.fit(data, epochs=1, verbose=0)
    assert unnamed.roles.target == ("load", "price")


# ---- inputs


def test_calendar_features():
    from bptt_fast.series import Roles, calendar

    index = pandas.date_range("2024-12-24 22:00", periods=5, freq="h")
    roles = Roles(calendar=["hour", "weekend", "holiday", "week"], holidays=["2024-12-25"])
    found = calendar(index, roles, "data")
    angle = 2 * np.pi * np.array([22, 23, 0, 1, 2]) / 24
    assert found[:, 0] == pytest.approx(np.sin(angle)) and found[:, 1] == pytest.approx(np.cos(angle))
    assert found[:, 2].tolist() == [0] * 5 and found[:, 3].tolist() == [0, 0, 1, 1, 1]
    assert found[:, 5] == pytest.approx(np.cos(2 * np.pi * 51 / 53))
    here = calendar(index.tz_localize("Europe/Berlin"), roles, "data")
    assert np.array_equal(here, found)
    periods = pandas.period_range("2024-12-24 22:00", periods=5, freq="h")
    assert np.array_equal(calendar(periods, roles, "data"), found)


def test_missing_values_are_zero_with_an_indicator_and_no_weight():
    data = table()[["load", "price"]]
    data.iloc[[10, 11, 40], 0] = np.nan
    data.iloc[[20], 1] = np.nan
    model = fitted(data, known=["price"], missing="indicator", horizon=3)
    assert model.network.input_size == 4
    filled = data.fillna(12345.0)
    from bptt_fast.series import read

    series = read(data, model.roles, True)[0][0]
    scales = model._fitted.scales_of(series, 90)
    assert scales[0][0] == pytest.approx(data["load"].mean())
    x, y, weight = model._fitted.rows(series, 1, 90, 90, 90, False)
    assert weight.tolist() == [float(t not in (10, 11, 40)) for t in range(1, 90)]
    assert x[10].tolist()[::2] == [0, 0] and x[19].tolist()[1::2] == [0, 0] and y[9] == 0
    assert np.isfinite(x).all() and filled.notna().all().all()
    future = data[["price"]][-1:].set_axis(pandas.date_range("2024-03-31", periods=1, freq="D"))
    assert np.isfinite(model.predict(data, 1, future=future)["load"].iloc[0])


def test_static_and_categorical_columns():
    parts = [
        table(50).assign(area=2.0, site="north")[["load", "area", "site", "kind"]],
        table(40, seed=1).assign(area=4.0, site="south")[["load", "area", "site", "kind"]],
    ]
    roles = {"static": ["area", "site"], "known": ["kind"], "categorical": ["kind", "site"], "horizon": 2}
    model = fitted(parts, **roles)
    assert model.categories == {"kind": ["rest", "work"], "site": ["north", "south"]}
    assert model.network.input_size == 4 and dict(model.network.description.categories) == {2: 2, 3: 2}
    future = [
        pandas.DataFrame({"kind": "rest"}, pandas.date_range(p.index[-1], periods=3, freq="D")) for p in parts
    ]
    one = model.predict(parts, future=future)
    moved = model.predict([parts[0].assign(site="south"), parts[1]], future=future)
    assert not one[0].equals(moved[0]) and one[1].equals(moved[1])
    with pytest.raises(
        bf.ConfigError, match=r"column 'site': expected one of the 2 categories in fit .*got 'west'"
    ):
        model.predict([parts[0].assign(site="west"), parts[1]], future=future)
    for wrong, text in (
        (range(50), "one value in all rows, .* got 0.0 and 1.0"),
        (np.nan, "finite.*got nan"),
    ):
        with pytest.raises(bf.ConfigError, match=f"column 'area': expected .*{text}"):
            model.predict([parts[0].assign(area=wrong), parts[1]], future=future)


# ---- distributions


def test_quantiles_of_one_step_are_those_of_the_density():
    data = table()[["load"]]
    model = fitted(data, loss="gaussian")
    load = data["load"].to_numpy()
    output = model.network.predict(standard(load)[-12:, None], readout="last")
    low, mid, high = model.loss.quantile(output, [0.1, 0.5, 0.9])[:, 0] * load.std() + load.mean()
    got = model.predict_quantiles(data).iloc[0].tolist()
    assert got == pytest.approx([low, mid, high]) and model.predict(data)["load"].iloc[0] == pytest.approx(
        mid
    )
    interval = model.predict_interval(data, 0.8)
    assert interval.iloc[0].tolist() == pytest.approx(got)


def test_quantiles_of_several_steps_are_those_of_the_paths():
    data = table()[["load"]]
    model = fitted(data, loss="student_t", horizon=4)
    paths = model.sample_paths(data, 50, rng=3)
    assert paths.shape == (50, 4, 1) and len(np.unique(paths)) == 200
    got = model.predict_quantiles(data, [0.25, 0.5], paths=50, rng=3)["load"]
    expected = np.quantile(paths[..., 0], [0.25, 0.5], axis=0)
    assert np.allclose(got.T, expected)
    several = model.sample_paths([data, data], 6, rng=0)
    assert [part.shape for part in several] == [(6, 4, 1)] * 2 and not np.array_equal(*several)


def test_a_path_feeds_its_draws_back():
    """A path without noise is the forecast; that of a wide density is not."""
    data = table()[["load"]]
    model = fitted(data, loss="gaussian", horizon=5)
    model.network["head.0.bias"] = [0.3, -60.0]
    model.network["head.0.weight"][1] = 0
    calm = model.sample_paths(data, 3, rng=0)
    assert np.ptp(calm, axis=0).max() < 1e-3
    assert calm[0] == pytest.approx(model.predict(data).to_numpy(), abs=1e-3)


def test_counts():
    random = np.random.default_rng(0)
    counts = pandas.Series(random.poisson(4 + 3 * np.sin(np.arange(120) / 4)), name="load")
    for loss in ("poisson", "negative_binomial"):
        model = fitted(counts, loss=loss, horizon=3, epochs=150)
        assert 1 < model.predict(counts).mean() < 9
        paths = model.sample_paths(counts, 20, rng=0)
        assert np.array_equal(paths, np.round(paths)) and paths.min() >= 0


def test_direct_quantiles_are_outputs():
    data = table()[["load"]]
    model = fitted(data, loss=bf.Loss("pinball", quantiles=[0.1, 0.5, 0.9]), horizon=4, strategy="direct")
    got = model.predict_quantiles(data)["load"]
    assert (got.diff(axis=1).iloc[:, 1:] >= 0).all().all()
    assert got[0.5].to_numpy() == pytest.approx(model.predict(data)["load"].to_numpy())


@pytest.mark.parametrize("scaling", ["global", "series"])
def test_conformal_intervals_are_order_statistics(scaling):
    data = table(120)[["load"]]
    model = fitted(data[:60], horizon=2, scaling=scaling)
    assert model.calibrate(data, start=60) == 59
    result = bf.backtest(model, data, start=60, step=1).forecasts
    known = [data["load"].iloc[:row] for row in range(60, 119)]
    scale = np.array([one.std(ddof=0) if scaling == "series" else 1.0 for one in known])
    last = data["load"].std(ddof=0) if scaling == "series" else 1.0
    got = model.predict_interval(data, 0.8)["load"]
    points = model.predict(data)["load"]
    for step in (1, 2):
        rows = result[result["step"] == step]
        scores = np.sort(np.abs(rows["actual"] - rows["forecast"]).to_numpy() / scale)
        width = scores[int(np.ceil(60 * 0.8)) - 1] * last
        center = points.iloc[step - 1]
        assert got.iloc[step - 1].tolist() == pytest.approx([center - width, center, center + width])
    with pytest.raises(bf.ConfigError, match=r"expected at least 99 forecasts in calibrate .* got 59"):
        model.predict_interval(data, 0.99)
    with pytest.raises(bf.ConfigError, match="horizon: expected at most the 2 steps of calibrate, got 3"):
        model.predict_interval(data, 0.8, 3)


# ---- backtests


def test_a_backtest_is_the_forecasts_one_by_one():
    data = table()
    columns = ["load", "price"]
    model = fitted(data[columns][:50], known=["price"], horizon=4)
    result = bf.backtest(model, data[columns], start=data.index[50], step=3, season=7)
    assert result.forecasts["step"].tolist() == [1, 2, 3, 4] * 13
    for i, (origin, part) in enumerate(result.forecasts.groupby("origin")):
        row = 50 + 3 * i
        assert origin == data.index[row - 1]
        expected = model.predict(data[columns][:row], future=data[columns])
        assert part["forecast"].to_numpy() == pytest.approx(expected["load"].to_numpy(), rel=1e-12)
        assert part["actual"].tolist() == data["load"].iloc[row : row + 4].tolist()
        history = data["load"].iloc[:row].to_numpy()
        assert part["naive_error"].unique() == pytest.approx([metrics.naive_error(history, 7)])
    errors = result.table().loc["load"]
    y, f = result.forecasts["actual"], result.forecasts["forecast"]
    assert errors["mae"] == metrics.mae(y, f) and errors["rmse"] == metrics.rmse(y, f)
    assert errors["mase"] == pytest.approx((np.abs(y - f) / result.forecasts["naive_error"]).mean())
    assert result.table("step").index.tolist() == [1, 2, 3, 4]
    assert result.table(["target", "step"]).loc[("load", 2), "n"] == 13
    assert repr(result).startswith("Backtest(1 series, 13 origins)")


def test_pinball_and_coverage_of_a_backtest():
    data = table()[["load"]]
    model = fitted(data[:50], loss="gaussian", horizon=2)
    result = bf.backtest(model, data, start=50, quantiles=[0.1, 0.5, 0.9], rng=0)
    rows, errors = result.forecasts, result.table().iloc[0]
    each = [metrics.pinball(rows["actual"], rows[q], q) for q in (0.1, 0.5, 0.9)]
    assert errors["pinball"] == pytest.approx(np.mean(each))
    assert errors["coverage"] == metrics.coverage(rows["actual"], rows[0.1], rows[0.9])


@pytest.mark.parametrize(("refit", "fits"), [(True, 5), (2, 3), (9, 1)])
def test_refits_and_sliding_windows(refit, fits, monkeypatch):
    seen = []
    original = bf.Forecaster.fit_series

    def record(self, series, roles, **options):
        seen.append([(len(one), one.index[-1]) for one in series])
        return original(self, series, roles, **options)

    monkeypatch.setattr(bf.Forecaster, "fit_series", record)
    data = table(60)[["load"]]
    model = bf.Forecaster("load", hidden_size=3, horizon=4, window=8, stride=8, seed=0)
    bf.backtest(model, data, start=40, refit=refit, window=25, epochs=1, verbose=0)
    assert len(seen) == fits and all(
        rows == [(25, data.index[39 + 4 * int(refit) * i])] for i, rows in enumerate(seen)
    )
    assert model._fitted is None


def test_a_sliding_window_forgets():
    data = table()[["load"]]
    model = fitted(data[:50], horizon=2, scaling="series")
    other = data.copy()
    other.iloc[:20] = 0.0
    a, b = (bf.backtest(model, one, start=60, window=30).forecasts["forecast"] for one in (data, other))
    assert a.equals(b)
    c = bf.backtest(model, other, start=60).forecasts["forecast"]
    assert not a.equals(c)


# ---- errors


def messages():
    data = table()
    one = data[["load"]]
    two = data[["load", "price"]]
    late = pandas.DataFrame({"price": [0.0]}, index=[data.index[-1] + pandas.Timedelta("3D")])

    def fit(frame, **options):
        return lambda: fitted(frame, **options)

    def known():
        return fitted(two, known=["price"], horizon=2)

    gap = one.drop(one.index[7])
    yield (
        "unknown column",
        "column 'price': expected one of load, got no such column",
        fit(one, known=["price"]),
    )
    yield "no role", r"column 'price': expected a role .* drop\(columns=\['price'\]\)", fit(two)
    yield "two roles", "known: expected columns with one role each, got 'load'", fit(two, known=["load"])
    yield (
        "text",
        "expected real numbers, got column 'kind'.*Name it in categorical",
        fit(data[["load", "kind"]], known=["kind"]),
    )
    yield (
        "missing",
        r"column 'load': expected finite numbers, got nan at 2024-01-06",
        fit(one.where(one.index.to_series() != one.index[5], axis=0)),
    )
    yield "infinite", "got inf at", fit(one.replace(one.iloc[3, 0], np.inf), missing="indicator")
    yield (
        "gap",
        "expected a constant frequency, got a step from 2024-01-07 .* to 2024-01-09.*reset_index",
        fit(gap),
    )
    for kind, index in {
        "integers": pandas.Index([0, 2, 4, 7, 9, 11]),
        "periods": pandas.PeriodIndex([pandas.Period(ordinal=i, freq="2D") for i in (0, 2, 4, 7, 9, 11)]),
    }.items():
        message = f"expected a constant frequency, got a step from {index[2]} to {index[3]}"
        yield f"gap of less than two steps, {kind}", message, fit(one.iloc[:6].set_axis(index))
    yield (
        "twice",
        "expected increasing times, got 2024-01-01 .* twice.  Several series",
        fit(pandas.concat([one, one])),
    )
    yield "order", "out of order", fit(one[::-1])
    yield (
        "no dates",
        "expected an index of dates, periods or integers",
        fit(one.set_axis(one.index.astype(str))),
    )
    yield (
        "frequency",
        r"data\[1\]: expected the frequency 'D' .* got 'h'",
        fit([one, table(freq="h")[["load"]]]),
    )
    yield (
        "other frequency",
        "history: expected the frequency 'D' .* got 'h'",
        lambda: fitted(one).predict(table(freq="h")[["load"]]),
    )
    yield (
        "calendar of numbers",
        "calendar: expected an index of dates",
        fit(one.reset_index(drop=True), calendar=["hour"]),
    )
    yield "calendar", "Did you mean 'weekday'", lambda: bf.Forecaster(calendar=["weekdays"])
    yield "holidays", "holidays: expected dates together with", lambda: bf.Forecaster(calendar=["holiday"])
    yield (
        "no future",
        "future: expected a table with the known covariates price",
        lambda: known().predict(two),
    )
    yield (
        "short future",
        "future: expected rows from .* got none for 2024-03-31",
        lambda: known().predict(two, future=late),
    )
    yield (
        "a future column without a role",
        "future: column 'prize': expected a role",
        lambda: known().predict(two, future=late.assign(prize=0)),
    )
    yield "needless future", "future: expected None", lambda: fitted(one).predict(one, future=two)
    yield "past", "past: expected horizon=1", lambda: bf.Forecaster(past=["wind"], horizon=2)
    yield (
        "too far",
        "horizon: expected at most 2",
        lambda: fitted(one, horizon=2, strategy="direct").predict(one, 3),
    )
    yield "too short", "data: expected at least 4 rows, got 3", fit(one[:3], horizon=3, strategy="direct")
    yield "not fitted", "predict: expected a fitted forecaster", lambda: bf.Forecaster().predict(one)
    yield (
        "no quantiles",
        "quantiles: expected a loss with a distribution",
        lambda: fitted(one).predict_quantiles(one),
    )
    yield (
        "levels",
        "quantiles: expected increasing numbers",
        lambda: fitted(one).predict_quantiles(one, [0.5, 0.1]),
    )
    yield (
        "no paths",
        "sample_paths: expected a loss with a distribution",
        lambda: fitted(one).sample_paths(one),
    )
    yield (
        "classes",
        "loss: expected one of real numbers or counts",
        lambda: bf.Forecaster(loss="cross_entropy"),
    )
    yield "own sizes", "options of Network that .* got 'input_size'", lambda: bf.Forecaster(input_size=3)
    yield (
        "own data",
        "fit: expected options of Network.fit",
        lambda: bf.Forecaster().fit(one, scaling="standard"),
    )
    yield (
        "own validation",
        "got 'validation_split'.  Use validation=0.1",
        lambda: bf.Forecaster().fit(one, validation_split=0.1),
    )
    texts = one.assign(day=one.index.strftime("%Y-%m-%d"))
    yield "dates as text", "expected times 'day' of dates.*to_datetime", fit(texts, time="day")
    yield (
        "array",
        "expected a DataFrame or Series of pandas.* got ndarray",
        lambda: bf.Forecaster().fit(one.to_numpy()),
    )
    yield "key", "expected one DataFrame with the key column 'site'", fit([one], key="site")
    yield "missing key", "expected a key in each row", fit(two.assign(price=None), key="price")
    yield (
        "trained on",
        "backtest: expected forecasts from times after the rows of fit",
        lambda: bf.backtest(fitted(one), one),
    )
    yield (
        "calibrated on",
        "calibrate: expected forecasts from times after",
        lambda: fitted(one).calibrate(one),
    )
    yield (
        "options",
        "expected options of fit with refit only, got 'epochs'",
        lambda: bf.backtest(fitted(one[:50]), one, start=60, epochs=3),
    )
    yield (
        "start",
        "start: expected a time with at least horizon=1",
        lambda: bf.backtest(fitted(one[:50]), one, start=90),
    )
    yield (
        "no time",
        "start: expected a time such as",
        lambda: bf.backtest(fitted(one[:50]), one, start="soon"),
    )
    yield (
        "group",
        "by: expected one of 'series'",
        lambda: bf.backtest(fitted(one[:50]), one, start=80).table("month"),
    )
    yield "hidden", "hidden_size: expected", lambda: bf.Forecaster(hidden_size=0)
    for role in ("past", "known", "static", "categorical", "calendar"):
        yield (
            f"no {role}",
            f"{role}: expected a list, got None",
            lambda role=role: bf.Forecaster(**{role: None}),
        )
    yield "no axis", "past: expected a list", lambda: bf.Forecaster(past=np.array("a"))
    yield "lists", "target: expected the name of a column, got ", lambda: bf.Forecaster([["a"]])
    yield "forecaster", "forecaster: expected a Forecaster, got int", lambda: bf.backtest(3, one)
    yield "key", r"key: expected the name of a column, got \[\]", lambda: bf.Forecaster(key=[])
    yield "history", "history: expected a DataFrame", lambda: fitted(one).predict(np.array(2))
    yield "quantiles", "quantiles: expected a list", lambda: fitted(one).predict_quantiles(one, np.array(0.5))
    yield (
        "levels",
        "quantiles: expected a list",
        lambda: bf.backtest(fitted(one[:50]), one, start=60, quantiles=None),
    )


@pytest.mark.parametrize(
    ("text", "call"), [pytest.param(text, call, id=name) for name, text, call in messages()]
)
def test_named_errors(text, call):
    with pytest.raises((bf.ConfigError, bf.ShapeError), match=text):
        call()


def test_a_trend_is_a_warning():
    rising = table()[["load"]] + np.arange(90)[:, None]
    for data, where in ((rising, "above"), (-rising, "below")):
        with pytest.warns(
            UserWarning, match=f"'load', which are held out, lie {where} all rows.*diff"
        ) as caught:
            fitted(data, validation=0.2)
        assert caught[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fitted(rising, validation=0.2, scaling="series")
        fitted(rising.diff().dropna(), validation=0.2)
        fitted(rising)  # nothing is held out


def test_polars_is_named():
    polars = pytest.importorskip("polars")
    with pytest.raises(bf.ConfigError, match=r"expected a DataFrame or Series of pandas.*to_pandas\(\)"):
        bf.Forecaster().fit(polars.DataFrame({"load": [1.0, 2.0]}))


def test_a_failed_fit_leaves_the_forecaster_unchanged():
    one = table()[["load"]]
    model = fitted(one)
    before = model.predict(one)
    for wrong in (one.mask(one > 0), one[:1], "data"):
        with pytest.raises((bf.ConfigError, bf.ShapeError)):
            model.fit(wrong)
    with pytest.raises(bf.DivergedError):
        model.fit(one, optimizer=bf.SGD(1e30), verbose=0)
    assert model.predict(one).equals(before)


def test_an_interrupted_fit_keeps_its_weights():
    one = table()[["load"]]

    class Interrupt(bf.Callback):
        def on_epoch_end(self, epoch, logs=None):
            if epoch == 1:
                raise KeyboardInterrupt

    model = bf.Forecaster("load", hidden_size=3, window=8, seed=0)
    with pytest.raises(KeyboardInterrupt):
        model.fit(one, callbacks=Interrupt(), verbose=0)
    assert np.isfinite(model.predict(one)["load"].iloc[0])


def test_a_single_category_and_a_single_row():
    one = table()[["load", "kind"]].assign(kind="all")
    model = fitted(one, static=["kind"], categorical=["kind"], calendar=["month"], horizon=2)
    assert len(model.predict(one[:1])) == 2


def test_copies_and_pickles_forecast_the_same():
    one = table(120)[["load"]]
    model = fitted(one[:60], loss="gaussian", calendar=["weekday"])
    model.calibrate(one, start=60)
    for other in (pickle.loads(pickle.dumps(model)), copy.deepcopy(model)):
        assert other.predict_interval(one, 0.8).equals(model.predict_interval(one, 0.8))
    assert repr(model).startswith("Forecaster(target='load'")
    assert repr(model.unfitted()) == repr(model)


# ---- plots


def test_plots_have_labels_and_nothing_is_cut():
    pytest.importorskip("matplotlib")
    from bptt_fast import plots

    data = table(80)[["load"]].rename_axis("day")
    model = fitted(data[:50], loss="gaussian", horizon=5)
    spread = model.predict_quantiles(data[:60], [0.05, 0.25, 0.5, 0.75, 0.95], rng=0)["load"]
    ax = plots.forecast(data[:60], model.predict(data[:60]), quantiles=spread, actual=data[60:65], last=30)
    assert ax.get_xlabel() == "day" and ax.get_ylabel() == "load"
    labels = [text.get_text() for text in ax.get_legend().get_texts()]
    assert labels == ["history", "actual", "90% interval", "50% interval", "forecast"]
    assert len(ax.lines[0].get_xdata()) == 30
    ax.figure.set_size_inches(6, 4)
    ax.figure.canvas.draw()
    box = ax.get_legend().get_window_extent()
    assert box.x0 >= 0 and box.y1 <= ax.figure.bbox.height
    result = bf.backtest(model, data, start=50, quantiles=[0.1, 0.9], rng=0)
    drawn = result.plot()
    assert drawn.get_ylabel() == "load" and drawn.get_xlabel() == "time"
    assert [text.get_text() for text in drawn.get_legend().get_texts()] == [
        "actual",
        "80% interval",
        "forecast",
    ]
    with pytest.raises(bf.ConfigError, match="target: expected one of"):
        result.plot(target="price")
    with pytest.raises(bf.ShapeError, match="history: expected one column, got 4"):
        plots.forecast(table(), data[:5])
    import matplotlib.pyplot

    matplotlib.pyplot.close("all")
