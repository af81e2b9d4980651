"""Learners: predictions before an update, running scaling, and rows by name."""

import copy

import numpy as np
import pytest

import bptt_fast as bf

T, K = 40, 4


def series(seed=0, columns=2):
    return np.random.default_rng(seed).normal(size=(T, columns)) * [3.0, 500.0] + [10.0, -2e4]


def network(inputs=2, outputs=1, **options):
    return bf.Network(inputs, 5, outputs, **{"cell": "gru", "dtype": "float64", "seed": 1, **options})


def loss_of(output, target):
    return ((output - target) ** 2).mean()


# ---- predict


@pytest.mark.parametrize("lead", (0, 1, 3))
@pytest.mark.parametrize("cell", ("elman", "gru", "lstm"))
def test_a_prediction_is_what_the_next_update_learns_from(cell, lead):
    x, y = series() / 500, np.sin(np.arange(T))[:, None]
    learner = network(cell=cell).learn_online(bf.SlidingBPTT(K, lead), bf.SGD(0.05))
    twin = network(cell=cell).learn_online(bf.SlidingBPTT(K, lead), bf.SGD(0.05))
    for t in range(T):
        predicted = learner.predict(x[t])
        if lead:
            np.testing.assert_array_equal(learner.predict(), predicted)
        loss = learner.observe(x[t], y[t])
        assert loss == twin.observe(x[t], y[t]) or np.isnan(loss)  # predictions have changed nothing
        assert predicted.shape == (1,) and np.isnan(predicted).all() == np.isnan(loss) == (t < K + lead - 1)
        if t >= K + lead - 1:
            np.testing.assert_allclose(loss_of(predicted, y[t]), loss, rtol=1e-12)
    np.testing.assert_array_equal(learner.network.params, twin.network.params)


def test_a_prediction_is_predict_on_the_window():
    """With the weights of the moment, from the context."""
    x = series() / 500
    learner = network(outputs=2).learn_online(bf.SlidingBPTT(K), bf.SGD(0.05))
    for t in range(T):
        if t >= K:
            expected = learner.network.predict(x[t - K : t], x0=learner.state)
            np.testing.assert_allclose(learner.predict(), expected, rtol=0, atol=1e-14)
        learner.observe(x[t], x[t])


def test_a_prediction_in_the_units_of_a_scaled_network():
    x = series()
    net = network(outputs=2)
    net.scaling = bf.Scaling([10, -2e4], [3, 500], [10, -2e4], [3, 500])
    learner = net.learn_online(bf.SlidingBPTT(K), bf.SGD(0.05))
    for t in range(T):
        predicted = learner.predict(x[t])
        loss = learner.observe(x[t], x[t])
    np.testing.assert_allclose(loss_of(*((a - [10, -2e4]) / [3, 500] for a in (predicted, x[-1]))), loss)


def test_wrong_predictions():
    net = network()
    learner = net.learn_online(bf.SlidingBPTT(K, 0))
    with pytest.raises(bf.ConfigError, match="x: expected the input of the row, as the lead is 0"):
        learner.predict()
    with pytest.raises(bf.ShapeError, match=r"x: expected \(2,\), got \(3,\)"):
        learner.predict(np.zeros(3))
    with pytest.raises(bf.ConfigError, match="x: expected finite numbers"):
        learner.predict([np.nan, 0])
    assert learner.seen == 0
    net.params = 0
    with pytest.raises(bf.ConfigError, match="predict: expected a network that only this learner trains"):
        learner.predict([0, 0])


def test_a_prediction_that_is_not_finite():
    net = network(cell="elman", dtype="float32")
    net["head.0.weight"] = 3e38
    net["bias_ih_l0"] = 10
    learner = net.learn_online(bf.SlidingBPTT(2, 0))
    learner.observe([0, 0])
    with pytest.raises(bf.DivergedError, match=r"predict: .*the learner is unchanged"):
        learner.predict([0, 0])
    assert learner.seen == 1


# ---- running scaling


def scaled_by_hand(rows):
    """Each row by the mean and deviation of the rows up to it."""
    scaled = np.zeros_like(rows)
    for t in range(len(rows)):
        deviation = rows[: t + 1].std(axis=0)
        scaled[t] = (rows[t] - rows[: t + 1].mean(axis=0)) / np.where(deviation > 0, deviation, 1)
    return scaled


@pytest.mark.parametrize("lead", (0, 1))
def test_running_scaling_is_the_formula(lead):
    x, y = series(), series(1)[:, 1:] * 7
    learner = network().learn_online(bf.SlidingBPTT(K, lead), bf.SGD(0.05), scaling="running")
    twin = network().learn_online(bf.SlidingBPTT(K, lead), bf.SGD(0.05))
    by_hand = scaled_by_hand(x), scaled_by_hand(y)
    for t, (a, b) in enumerate(zip(*by_hand, strict=True)):
        predicted, scaled = learner.predict(x[t]), twin.predict(a)
        if t:
            scale = y[:t].std() or 1.0
            np.testing.assert_allclose(predicted, scaled * scale + y[:t].mean(), rtol=1e-9)
        loss = learner.observe(x[t], y[t])
        np.testing.assert_allclose(loss, twin.observe(a, b), rtol=1e-9)
    np.testing.assert_allclose(learner.network.params, twin.network.params, rtol=0, atol=1e-11)
    scaling = learner.network.scaling
    np.testing.assert_allclose(scaling.input_mean, x.mean(0), rtol=1e-13)
    np.testing.assert_allclose(scaling.input_scale, x.std(0), rtol=1e-12)
    np.testing.assert_allclose(scaling.output_mean, y.mean(0), rtol=1e-13)
    np.testing.assert_allclose(scaling.output_scale, y.std(0), rtol=1e-12)


def test_a_network_keeps_the_running_scaling():
    x = series()
    net = network(outputs=2)
    learner = net.learn_online(bf.SlidingBPTT(K), scaling="running")
    for row in x:
        learner.observe(row, row)
    assert 'scaling="running"' in repr(learner)
    scaling, expected = net.scaling, net.predict(x)
    del learner
    assert net.scaling == scaling and net.learner() is None
    np.testing.assert_array_equal(net.predict(x), expected)
    with pytest.raises(bf.ConfigError, match="scaling: expected None for a network with a scaling"):
        net.learn_online(bf.SlidingBPTT(K), scaling="running")
    net.input_names = ["a", "b"]
    assert net.scaling == scaling


def test_names_assigned_to_a_live_network_keep_the_latest_scaling():
    net = network(outputs=2)
    learner = net.learn_online(bf.SlidingBPTT(K), scaling="running")
    for row in series():
        learner.observe(row, row)
    net.input_names = ["a", "b"]  # this ends the learner
    np.testing.assert_allclose(net.scaling.input_mean, series().mean(0))


@pytest.mark.parametrize("how", ("save", "copy"))
def test_a_learner_resumes_with_its_moments(how, tmp_path):
    x = series()
    learner = network(outputs=2).learn_online(bf.SlidingBPTT(K), bf.Adam(0.01), scaling="running")
    for row in x[:17]:
        learner.observe(row, row)
    if how == "save":
        learner.save(tmp_path / "learner.safetensors")
        other = bf.load(tmp_path / "learner.safetensors")
    else:
        other = copy.copy(learner)
    assert other.network.scaling == learner.network.scaling
    for row in x[17:]:
        np.testing.assert_array_equal(other.predict(), learner.predict())
        assert other.observe(row, row) == learner.observe(row, row)
    np.testing.assert_array_equal(other.network.params, learner.network.params)
    assert other.network.scaling == learner.network.scaling


def test_rows_without_a_target_and_categories_and_classes():
    x = np.c_[series()[:, 0], np.arange(T) % 3]
    net = network(outputs=3, categories={1: 3})
    learner = net.learn_online(bf.SlidingBPTT(K), loss="cross_entropy", scaling="running")
    for row, label in zip(x, x[:, 1].astype(int), strict=True):
        learner.observe(row, label)
    assert net.scaling.input_mean[1] == 0 and net.scaling.input_scale[1] == 1
    assert net.scaling.output_mean is None
    np.testing.assert_allclose(net.scaling.input_scale[0], x[:, 0].std())
    net = network(inputs=1)
    learner = net.learn_online(bf.SlidingBPTT(K), scaling="running")
    for t in range(T):
        target, weight = (None, 1.0) if t % 3 == 1 else (t, float(t % 3 == 0))
        learner.observe([t], None if target is None else [target], weight)
    np.testing.assert_allclose(net.scaling.output_mean, [np.arange(0, T, 3).mean()])
    np.testing.assert_allclose(net.scaling.input_mean, [(T - 1) / 2])


def test_a_wrong_row_does_not_enter_the_moments():
    net = network(inputs=1)
    learner = net.learn_online(bf.SlidingBPTT(1), scaling="running")
    learner.observe([1.0], [1.0])
    before = net.scaling
    for x, y in (
        ([np.nan], [1.0]),
        ([2.0], [np.inf]),
        ([2.0, 3.0], [1.0]),
        ([1e200], [1.0]),
        ([2.0], [-1e200]),
    ):
        with pytest.raises((bf.ConfigError, bf.ShapeError)):
            learner.observe(x, y)
    learner.predict([7.0])
    assert net.scaling == before and learner.seen == 1
    with pytest.raises(bf.ConfigError, match="scaling: expected one of 'running', got 'standard'"):
        network().learn_online(bf.SlidingBPTT(1), scaling="standard")


@pytest.mark.parametrize(
    "wrong", ([[1, [0.0], [0.0]]], [[1, [0.0, 1.0], [-1.0, 0.0]]] * 2, [[-1, [0.0] * 2, [0.0] * 2]] * 2)
)
def test_damaged_moments_are_refused(wrong):
    learner = network(outputs=2).learn_online(bf.SlidingBPTT(K), scaling="running")
    values, arrays = learner.snapshot()
    with pytest.raises(ValueError):
        type(learner).restored(network(outputs=2), values | {"running": wrong}, arrays)


# ---- rows by name


def named():
    net = network(outputs=2)
    net.input_names, net.output_names = ["load", "price"], ["price", "load"]
    return net


def test_rows_by_name():
    x = series() / 500
    one = named().learn_online(bf.SlidingBPTT(K), bf.SGD(0.05))
    other = named().learn_online(bf.SlidingBPTT(K), bf.SGD(0.05))
    stream, array_stream = named().stream(), named().stream()
    for load, price in x:
        row = {"price": price, "load": load}
        np.testing.assert_array_equal(one.predict(row), other.predict([load, price]))
        loss = one.observe(row, dict(reversed(row.items())))
        assert loss == other.observe([load, price], [price, load]) or np.isnan(loss)
        np.testing.assert_array_equal(stream.step(row), array_stream.step([load, price]))
    np.testing.assert_array_equal(one.network.params, other.network.params)
    assert one.updates == T - K


def test_a_series_as_a_row():
    pandas = pytest.importorskip("pandas")
    table = pandas.DataFrame(series()[:, ::-1] / 500, columns=["price", "load"])
    expected = named().stream().step(table[["load", "price"]].to_numpy()[0])
    np.testing.assert_array_equal(named().stream().step(table.iloc[0]), expected)
    np.testing.assert_array_equal(named().stream().step(table[:1]), expected)
    np.testing.assert_array_equal(named().stream().step(table.iloc[0].set_axis([0, 1])[::-1]), expected)
    with pytest.raises(bf.ShapeError, match="x: expected the names load, price, got none of 'load'"):
        named().stream().step(table.iloc[0].set_axis(["a", "b"]))


WRONG = {
    "missing": ({"load": 1.0}, bf.ShapeError, "x: expected the names load, price, got none of 'price'"),
    "extra": ({"load": 1, "price": 2, "prize": 3}, bf.ShapeError, "only, got 'prize'. Did you mean 'price'"),
    "text": ({"load": 1, "price": "2"}, bf.ConfigError, r"x\['price'\]: expected a finite number, got '2'"),
    "nan": ({"load": 1, "price": np.nan}, bf.ConfigError, r"x\['price'\]: expected a finite number, got nan"),
}


@pytest.mark.parametrize("what", WRONG)
def test_wrong_rows_by_name(what):
    row, kind, message = WRONG[what]
    learner, stream = named().learn_online(bf.SlidingBPTT(K)), named().stream()
    before = stream.state
    for act in (learner.observe, learner.predict, stream.step):
        with pytest.raises(kind, match=message):
            act(row)
    with pytest.raises(kind, match=message.replace("x", "y", 1).replace("load, price", "price, load")):
        learner.observe([0, 0], row)
    assert learner.seen == 0
    np.testing.assert_array_equal(stream.state, before)


def test_a_dict_without_names():
    for act in (network().stream().step, network().learn_online(bf.SlidingBPTT(K)).observe):
        with pytest.raises(
            bf.ShapeError, match=r"x: .*the network knows no names, got a dict.  Set net.input_names"
        ):
            act({"a": 1.0, "b": 2.0})


def test_next_input_by_name():
    net = named()
    x = series()[:9] / 500
    by_name = net.forecast(x, 3, next_input=lambda y, step: {"price": y[1], "load": step})
    np.testing.assert_array_equal(by_name, net.forecast(x, 3, next_input=lambda y, step: [step, y[1]]))
