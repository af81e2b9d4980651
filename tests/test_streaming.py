"""Streams and learners: a step at a time is what a run over the whole series is."""

import gc
import json

import numpy as np
import pytest
from support import cases
from support import reference as ref

import bptt_fast as bf

FORMS = cases.FORMS | {
    "two layers": dict(num_layers=2),
    "three layers, head": dict(cell="lstm", activation=(), num_layers=3, head=(4, 3), proj_size=2),
    "two layers, gru": dict(cell="gru", activation=(), num_layers=2),
}
STEPS = 12


def rows(problem, dtype="float64"):
    return np.array(problem.x, dtype)


def contents(path):
    """The header of a safetensors file as a dict (its order is not fixed), and the numbers' bytes."""
    content = path.read_bytes()
    end = 8 + int.from_bytes(content[:8], "little")
    return json.loads(content[8:end]), content[end:]


# ---- streams


@pytest.mark.parametrize("batch", (1, 3))
@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_steps_are_predict(form, batch):
    for dtype, tolerance in (("float64", 1e-12), ("float32", 1e-5)):
        p = cases.Problem(**form, lengths=(STEPS,) * batch, every=True)
        net, x = p.network(dtype), rows(p, dtype)
        expected, final = net.predict(x, return_state=True)
        s = net.stream(batch=batch)
        if batch == 1:
            got = np.array([[s.step(a) for a in x[0]]])
            assert got.shape == (1, STEPS, 2) and s.state.shape == (net.state_size,)
        else:
            got = np.array([s.step(np.ascontiguousarray(a)) for a in x.swapaxes(0, 1)]).swapaxes(0, 1)
            assert s.state.shape == (batch, net.state_size)
        assert got.dtype == s.state.dtype == dtype
        np.testing.assert_allclose(got, expected, rtol=0, atol=tolerance)
        np.testing.assert_allclose(s.state.reshape(batch, -1), final, rtol=0, atol=tolerance)


@pytest.mark.parametrize("batch", (1, 3))
@pytest.mark.parametrize("form", ("elman-tanh", "gru-before", "lstm-both"))
def test_state(form, batch):
    """Read, set and forgotten: the same outputs follow, to the bit."""
    p = cases.Problem(**cases.FORMS[form], num_layers=2, lengths=(STEPS,) * batch, every=True)
    net, x = p.network(), rows(p)
    s = net.stream(batch=batch)
    steps = [np.ascontiguousarray(a) if batch > 1 else a[0] for a in x.swapaxes(0, 1)]
    assert not s.state.any()
    outputs, states = [], []
    for a in steps:
        states.append(s.state.copy())
        outputs.append(s.step(a).copy())
    s.state = states[5]
    np.testing.assert_array_equal(s.state, states[5])
    for a, y in zip(steps[5:], outputs[5:], strict=True):
        np.testing.assert_array_equal(s.step(a), y)
    s.reset()
    assert not s.state.any()
    np.testing.assert_array_equal([s.step(a) for a in steps], outputs)
    s.state = p.state if batch > 1 else p.state[0]
    expected = net.predict(x, x0=p.state)
    got = np.array([s.step(a) for a in steps]).reshape(STEPS, batch, -1).swapaxes(0, 1)
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-12)


def test_outputs_and_states_are_the_callers():
    """What a step gave stays as it was; writing into it, or into the input, does not change the stream."""
    p = cases.Problem(lengths=(STEPS,), every=True, cell="lstm", activation=())
    one, other, x = p.network().stream(), p.network().stream(), rows(p)[0]
    for a in x:
        before = a.copy()
        y = one.step(a)
        np.testing.assert_array_equal(a, before)
        np.testing.assert_array_equal(y, other.step(a))
        y[:] = np.nan
        state = np.array(other.state)
        other.state = state
        state[:] = np.nan
    assert np.isfinite(other.state).all()


def test_streams_are_independent():
    """Of each other, and of weights that change under them."""
    p = cases.Problem(lengths=(STEPS,), every=True)
    net, x = p.network(), rows(p)[0]
    expected = net.predict(x)
    first, second = net.stream(), net.stream()
    got = np.array([(first.step(a), second.step(a)) for a in x])
    np.testing.assert_array_equal(got[:, 0], got[:, 1])
    third = net.stream()
    net.params[:] = 0
    np.testing.assert_allclose([third.step(a) for a in x], expected, rtol=0, atol=1e-12)
    assert not net.stream().step(x[0]).any()
    third.reset()
    assert not third.step(x[0]).any()


def test_a_trained_state_is_where_a_stream_begins():
    p = cases.Problem(lengths=(STEPS,) * 3, every=True, initial_state="trained", cell="lstm", activation=())
    net, x = p.network(), rows(p)
    s = net.stream()
    initial = ref.initial_state(p.desc, p.params)
    for _ in range(2):
        np.testing.assert_array_equal(s.state, initial)
        np.testing.assert_allclose([s.step(a) for a in x[0]], net.predict(x)[0], rtol=0, atol=1e-12)
        s.reset()


@pytest.mark.parametrize("batch", (1, 3))
def test_wrong_steps(batch):
    p = cases.Problem(lengths=(STEPS,) * batch, every=True)
    s = p.network().stream(batch=batch)
    good = rows(p)[:, 0] if batch > 1 else rows(p)[0, 0]
    before = s.state.copy()
    for wrong in (good[..., :2].copy(), np.tile(good, 2), "text", None):
        with pytest.raises((ValueError, TypeError)):
            s.step(wrong)
    for wrong in (before[..., :2].copy(), np.tile(before, 2), "text"):
        with pytest.raises((ValueError, TypeError)):
            s.state = wrong
    np.testing.assert_array_equal(s.state, before)


@pytest.mark.parametrize("wrong", (np.nan, np.inf), ids=str)
@pytest.mark.parametrize("dtype", ("float32", "float64"))
@pytest.mark.parametrize("batch", (1, 3))
@pytest.mark.parametrize("scaled", (False, True))
def test_a_step_that_is_not_finite(batch, dtype, wrong, scaled):
    """As of predict, and the state is that before the step: with finite weights the stream continues."""
    net, x = bf.Network(2, 4, 2, cell="lstm", dtype=dtype, seed=0), np.ones((batch, 2), dtype)
    if scaled:
        net.scaling = bf.Scaling([0.0, 0.0], [1.0, 2.0], [0.0, 0.0], [3.0, 4.0])
    x = x if batch > 1 else x[0]
    good = net.stream(batch=batch)
    expected = [good.step(x), good.step(x)]
    net["head.0.bias"][1] = wrong
    stream = net.stream(batch=batch)
    stream.state = good.state
    before = stream.state
    with pytest.raises(bf.DivergedError, match="state is unchanged"):
        stream.step(x)
    np.testing.assert_array_equal(stream.state, before)
    assert all(np.isfinite(y).all() for y in expected)
    with pytest.raises(bf.DivergedError):
        net.forecast(np.ones((3, 2)), 3, next_input=lambda y, step: [0.0, 0.0])


@pytest.mark.parametrize("batch", (1, 3))
@pytest.mark.parametrize("dtype, other", (("float32", "float64"), ("float64", "float32")))
def test_rows_of_the_other_dtype(dtype, other, batch):
    """Converted as NumPy does, whether contiguous or not."""
    net = bf.Network(2, 4, 2, cell="gru", dtype=dtype, seed=0)
    x = np.random.default_rng(0).normal(size=(5, batch, 2)).astype(other)
    streams = [net.stream(batch) for _ in range(3)]
    for step in x if batch > 1 else x[:, 0]:
        expected = streams[0].step(step.astype(dtype))
        assert np.array_equal(streams[1].step(step), expected)
        assert np.array_equal(
            streams[2].step(np.asfortranarray(np.repeat(step, 2, axis=-1))[..., ::2]), expected
        )
    if batch == 1:
        learners = [
            bf.Network(2, 4, 2, dtype=dtype, seed=0).learn_online(bf.SlidingBPTT(2)) for _ in range(2)
        ]
        for (row,) in x:
            losses = [
                learner.observe(row.astype(kind), row.astype(kind))
                for learner, kind in zip(learners, (dtype, other), strict=True)
            ]
            assert np.array_equal(*losses, equal_nan=True)


@pytest.mark.parametrize("dtype", ("float32", "float64"))
@pytest.mark.parametrize("shape", ((2, 3), (6,), (1, 3, 2), (3, 2, 1)))
def test_rows_of_another_shape_and_as_many_numbers(shape, dtype):
    stream = bf.Network(2, 4, 1, seed=0).stream(3)
    with pytest.raises(bf.ShapeError, match=r"x: expected \(3, 2\), got"):
        stream.step(np.zeros(shape, dtype))
    learner = bf.Network(6, 4, 1, seed=0).learn_online(bf.SlidingBPTT(2))
    if shape != (6,):
        with pytest.raises(bf.ShapeError, match=r"x: expected \(6,\), got"):
            learner.observe(np.zeros(shape, dtype), np.zeros(1, dtype))
    assert learner.seen == 0 and not stream.state.any()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_rows_in_a_form_of_their_own(dtype):
    """Values under a mask are refused in any dtype; rows that are not aligned are taken."""
    net = bf.Network(2, 4, 2, dtype=dtype, seed=0)
    rows = np.random.default_rng(0).normal(size=(5, 2)).astype(dtype)
    stream, learner = net.stream(), net.learn_online(bf.SlidingBPTT(2))
    masked = np.ma.masked_array(rows[0], [False, True])
    for call in (
        stream.step,
        lambda row: learner.observe(row, rows[0]),
        lambda row: learner.observe(rows[0], row),
    ):
        with pytest.raises(bf.ConfigError, match="masked"):
            call(masked)
    assert learner.seen == 0
    odd = np.frombuffer(b"x" + rows.tobytes(), dtype, offset=1).reshape(rows.shape)
    again = bf.Network(2, 4, 2, dtype=dtype, seed=0)
    steps, other = again.stream(), again.learn_online(bf.SlidingBPTT(2))
    for row, copy in zip(odd, rows, strict=True):
        assert (stream.step(row) == steps.step(copy)).all()
        assert np.array_equal(learner.observe(row, row), other.observe(copy, copy), equal_nan=True)


def test_wrong_streams():
    with pytest.raises(bf.ConfigError, match="bidirectional"):
        bf.Network(3, 4, 2, bidirectional=True).stream()
    for batch in (0, 1.5):
        with pytest.raises(bf.ConfigError, match="batch"):
            bf.Network(3, 4, 2).stream(batch=batch)


# ---- learners

OPTIMIZERS = {
    "sgd": bf.SGD(0.02),
    "nesterov": bf.SGD(0.02, momentum=0.8, nesterov=True, weight_decay=0.01),
    "adam": bf.Adam(0.01),
    "nadam": bf.NAdam(0.01),
    "rprop": bf.Rprop(0.01),
}
PATTERNS = ((1, 1), (4, 1), (3, 0), (2, 2))


def series(form, loss="mse"):
    """A problem of one series, and its network that reads the last state."""
    p = cases.Problem(**form, lengths=(60,), every=True, gain=0.5, loss=loss, output_size=3)
    return p, lambda dtype="float64": p.network(dtype, readout="last")


def bits(net):
    return net.params.tobytes()


def both(form, k, lead, optimizer, dtype="float64", loss="mse", x0=None):
    """(weights, losses) of fit and of a learner that sees one row after the other."""
    p, network = series(form, loss)
    net, other = network(dtype), network(dtype)
    x, y = p.x[0].astype(dtype), p.y[0] if loss == "cross_entropy" else p.y[0].astype(dtype)
    options = dict(optimizer=optimizer, loss=loss, x0=x0)
    mean = net.fit(x, y, bptt=bf.SlidingBPTT(k, lead), verbose=0, **options)["loss"]
    learner = other.learn_online(bf.SlidingBPTT(k, lead), **options)
    losses = [learner.observe(a, b) for a, b in zip(x, y, strict=True)]
    first = k + lead - 1
    assert np.isnan(losses[:first]).all() and np.isfinite(losses[first:]).all()
    assert np.mean(losses[first:]) == pytest.approx(mean[0], rel=1e-14)
    assert bits(net) != bits(network(dtype))
    return net, other


@pytest.mark.parametrize("k, lead", PATTERNS)
@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_observations_are_fit(form, k, lead):
    """To the bit, and seen through every door of the network."""
    for dtype in ("float64", "float32"):
        net, other = both(form, k, lead, bf.SGD(0.02), dtype)
        assert bits(other) == bits(net)
        x = np.ones((5, 3), dtype)
        np.testing.assert_array_equal(other.predict(x), net.predict(x))
        for name in net:
            np.testing.assert_array_equal(other[name], net[name])


@pytest.mark.parametrize("optimizer", OPTIMIZERS.values(), ids=OPTIMIZERS)
@pytest.mark.parametrize("loss", cases.LOSSES)
def test_losses_and_optimizers(loss, optimizer):
    for form in (dict(), dict(cell="gru", activation=())):
        net, other = both(form, 3, 1, optimizer, loss=loss)
        assert bits(other) == bits(net)


def test_from_a_state():
    net, other = both(dict(cell="lstm", activation=()), 3, 1, bf.SGD(0.02), x0=np.linspace(-0.5, 0.5, 10))
    assert bits(other) == bits(net) != bits(both(dict(cell="lstm", activation=()), 3, 1, bf.SGD(0.02))[0])


def test_defaults_are_fits():
    """SGD(0.01) and mse."""
    p, network = series(dict())
    net, other = network(), network()
    net.fit(p.x[0], p.y[0], bptt=bf.SlidingBPTT(3), verbose=0)
    learner = other.learn_online(bf.SlidingBPTT(3))
    for a, b in zip(p.x[0], p.y[0], strict=True):
        learner.observe(a, b)
    assert bits(other) == bits(net)


def test_every_access_sees_the_weights_of_the_moment(tmp_path):
    p, network = series(dict(cell="gru", activation=()))
    steps = list(zip(p.x[0], p.y[0], strict=True))
    doors = {
        "params": lambda net: net.params.copy(),
        "name": lambda net: net["weight_hh_l0"].copy(),
        "state_dict": lambda net: net.state_dict()["weight_hh_l0"],
        "predict": lambda net: net.predict(p.x[0]),
        "evaluate": lambda net: net.evaluate(p.x[0], p.y[0], readout="every"),
        "loss_and_grad": lambda net: net.loss_and_grad(p.x[0], p.y[0][0])[1].flat,
        "stream": lambda net: net.stream().step(p.x[0][0]),
        "save": lambda net: (net.save(tmp_path / "a"), bf.load(tmp_path / "a").params)[1],
    }
    for name, door in doors.items():
        other = network()
        learner = other.learn_online(bf.SlidingBPTT(3))
        for n in (20, 40):
            for a, b in steps[n - 20 : n]:
                learner.observe(a, b)
            fresh = network()
            fresh.fit(p.x[0][:n], p.y[0][:n], bptt=bf.SlidingBPTT(3), verbose=0)
            np.testing.assert_array_equal(door(other), door(fresh), err_msg=f"{name} after {n}")


def test_weights_outlive_the_learner():
    p, network = series(dict())
    net, other = network(), network()
    net.fit(p.x[0], p.y[0], bptt=bf.SlidingBPTT(3), verbose=0)

    def learn():
        learner = other.learn_online(bf.SlidingBPTT(3))
        for a, b in zip(p.x[0], p.y[0], strict=True):
            learner.observe(a, b)

    learn()
    gc.collect()
    assert bits(other) == bits(net)


@pytest.mark.parametrize("nothing", (dict(y=None), dict(weight=0.0)), ids=("None", "weight"))
def test_rows_without_a_target(nothing):
    """They fill the window and move the context, with no update: the algorithm with that line left out."""
    k, missing = 3, {0, 1, 9, 10, 25}
    p, network = series(dict(cell="lstm", activation=()))
    d, weights, optimizer = p.desc, dict(p.params), ref.Optimizer(learning_rate=0.02, momentum=0.5)
    x, expected = ref.split_state(d, np.zeros(ref.state_size(d))), []
    for t in range(len(p.x[0]) - k):
        one = [(p.x[0][t : t + k + 1], p.y[0][t : t + k + 1], ref.join_state(d, x))]
        if t + k not in missing:
            expected += ref.slide(d, weights, optimizer, one, k, 1, "mse")
        x, _ = ref.f_forward(d, weights, x, p.x[0][t])
    net = network()
    learner = net.learn_online(bf.SlidingBPTT(k), bf.SGD(0.02, momentum=0.5))
    losses = []
    for n, (a, y) in enumerate(zip(p.x[0], p.y[0], strict=True)):
        before = bits(net) if n in missing else None
        losses.append(learner.observe(a, **dict(y=y) | nothing) if n in missing else learner.observe(a, y))
        assert before is None or (np.isnan(losses[-1]) and bits(net) == before)
    np.testing.assert_allclose([v for v in losses if np.isfinite(v)], expected, rtol=1e-10)
    for name, w in weights.items():
        assert abs(net[name] - w).max() <= 1e-10 * abs(w).max(), name


# ---- saved and loaded


@pytest.mark.parametrize("optimizer", OPTIMIZERS.values(), ids=OPTIMIZERS)
@pytest.mark.parametrize("form", ("elman-tanh", "mlp-6-7", "gru-before", "lstm-both"))
def test_save_and_load(form, optimizer, tmp_path):
    """In the middle, also while the window still fills: what follows is the same to the bit."""
    p, network = series(cases.FORMS[form])
    steps = list(zip(p.x[0], p.y[0], strict=True))
    for dtype in ("float64", "float32"):
        typed = [(a.astype(dtype), b.astype(dtype)) for a, b in steps]
        for middle in (0, 2, 30):
            learner = network(dtype).learn_online(bf.SlidingBPTT(4), optimizer, x0=p.state[0])
            for a, b in typed[:middle]:
                learner.observe(a, b)
            learner.save(tmp_path / "learner")
            again = bf.load(tmp_path / "learner")
            assert type(again) is type(learner)
            ends = [[one.observe(a, b) for a, b in typed[middle:]] for one in (learner, again)]
            np.testing.assert_array_equal(*ends)
            for one in (learner, again):
                one.save(tmp_path / str(one is again))
            assert bits(again.network) == bits(learner.network) != bits(network(dtype))
            assert contents(tmp_path / "True") == contents(tmp_path / "False")


def test_damaged_learners_are_refused(tmp_path):
    p, network = series(dict())
    learner = network().learn_online(bf.SlidingBPTT(4))
    for a, b in zip(p.x[0][:20], p.y[0][:20], strict=True):
        learner.observe(a, b)
    path = tmp_path / "learner"
    learner.save(path)
    whole = path.read_bytes()
    for cut in (0, 7, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:cut])
        with pytest.raises(bf.CorruptFileError):
            bf.load(path)


# ---- error messages


def test_divergence():
    p, network = series(dict(activation=("linear",)))
    net = network()
    learner = net.learn_online(bf.SlidingBPTT(3), bf.SGD(1e3))
    with pytest.raises(bf.DivergedError, match="finite"):
        for _ in range(1000):
            for a, b in zip(p.x[0], p.y[0], strict=True):
                learner.observe(a, b)
    assert np.isfinite(net.params).all()


def test_weights_that_are_not_finite():
    """Training begins with finite parameters, wherever it begins."""
    net = bf.Network(2, 4, 2, seed=0)
    net["bias_hh_l0"][2] = np.inf
    with pytest.raises(bf.DivergedError, match="inf in bias_hh_l0"):
        net.learn_online(bf.SlidingBPTT(3))
    assert net.learner is None and net.lead == 0


NETWORKS = {
    "both directions": (dict(bidirectional=True), ("bidirectional",)),
    "readout every": (dict(readout="every"), ("readout",)),
    "dropout": (dict(recurrent_dropout=0.1), ("dropout",)),
    "trained": (dict(initial_state="trained"), ("initial_state",)),
}


@pytest.mark.parametrize("options, words", NETWORKS.values(), ids=NETWORKS)
def test_networks_that_cannot_learn_online(options, words):
    with pytest.raises(bf.ConfigError) as caught:
        bf.Network(3, 4, 2, **options).learn_online(bf.SlidingBPTT(2))
    assert all(map(str(caught.value).__contains__, words)), caught.value


@pytest.mark.parametrize("arguments, options, words", (
    (("FullBPTT",), dict(), ("SlidingBPTT",)),
    (("SlidingBPTT", 2), dict(optimizer="sdg"), ("optimizer", "sdg")),
    (("SlidingBPTT", 2), dict(loss="mean"), ("loss", "mean")),
))  # fmt: skip
def test_wrong_learners(arguments, options, words):
    name, *numbers = arguments
    with pytest.raises(bf.ConfigError) as caught:
        bf.Network(3, 4, 2).learn_online(getattr(bf, name)(*numbers), **options)
    assert all(map(str(caught.value).__contains__, words)), caught.value


def test_wrong_x0():
    with pytest.raises(bf.ShapeError, match="x0"):
        bf.Network(3, 4, 2).learn_online(bf.SlidingBPTT(2), x0=np.ones(5))


def test_wrong_observations():
    p, network = series(dict())
    net = network()
    learner = net.learn_online(bf.SlidingBPTT(2))
    a, y = p.x[0][0], p.y[0][0]
    for wrong in ((a[:2], y), (a, y[:2]), (np.tile(a, 2), y), (a, 1), ("text", y)):
        with pytest.raises((ValueError, TypeError)):
            learner.observe(*wrong)
    other = network()
    second = other.learn_online(bf.SlidingBPTT(2))
    for one in (learner, second):
        for b, z in zip(p.x[0], p.y[0], strict=True):
            one.observe(b, z)
    assert bits(net) == bits(other), "a refused observation left something behind"


def test_vectors_fit_single_rows():
    """Without a choice, AVX2 serves networks that would fill at most half a vector of AVX-512."""
    if cases.isas()[-1] != "avx512":
        pytest.skip("needs AVX-512")
    bptt, x = bf.SlidingBPTT(3), np.random.default_rng(0).normal(size=(40, 1)).astype(np.float32)
    for sizes, isa in (
        (dict(hidden_size=8), "avx2"),
        (dict(hidden_size=9), None),
        (dict(hidden_size=8, output_size=9), None),
        (dict(hidden_size=8, head=(9,)), None),
        (dict(hidden_size=8, cell="mlp", f=(9,)), None),
        (dict(hidden_size=4, dtype="float64"), "avx2"),
        (dict(hidden_size=5, dtype="float64"), None),
    ):
        net = bf.Network(**dict(input_size=1, output_size=1, seed=0) | sizes)
        assert bptt.isa(net, None) == isa
        assert bptt.isa(net, "avx512") == "avx512"
    clipped = dict(bptt=bptt, optimizer=bf.SGD(0.1, clip_norm=0.01))
    nets = [bf.Network(1, 8, 1, seed=0) for _ in range(3)]
    nets[0].fit(x, x, **clipped, verbose=0)
    nets[1].fit(x, x, **clipped, verbose=0, isa="avx2")
    learner = nets[2].learn_online(**clipped)
    for row, target in zip(x, x, strict=True):
        learner.observe(row, target)
    assert len({net.params.tobytes() for net in nets}) == 1
