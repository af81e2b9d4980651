"""Outputs as the next inputs: forecasts, and training with some of them (teacher_forcing)."""

import numpy as np
import pytest
from support import cases, gradcheck
from support import reference as ref

import bptt_fast as bf

SQUARE = dict(input_size=3, output_size=3, every=True)
FORMS = {name: cases.FORMS[name] for name in ("elman-tanh", "gru-after", "lstm", "mlp-6-7")} | {
    "two layers": dict(num_layers=2),
    "two layers, lstm": dict(cell="lstm", activation=(), num_layers=2, proj_size=3, head=(4,)),
}
ALL = cases.FORMS | FORMS
LENGTHS = (9, 9, 9)
RAGGED = (12, 1, 5)


def problem(**case):
    p = cases.Problem(**SQUARE | dict(lengths=LENGTHS) | case)
    if p.desc["activation"] == ("relu",):
        p.params["bias_ih_l0"] += 1  # every step must have a gradient
    return p


# ---- forecasts


@pytest.mark.parametrize("form", ALL.values(), ids=ALL)
def test_forecast_is_a_loop(form):
    """The first output is the one after the series' last step; each is the input of the next."""
    p = problem(**form)
    for x0 in (None, p.state):
        states = np.zeros_like(p.state) if x0 is None else x0
        runs = zip(p.x, states, strict=True)
        expected = np.array([ref.forecast(p.desc, p.params, x, s, 7) for x, s in runs])
        for dtype, tolerance in (("float64", 1e-10), ("float32", 1e-3)):
            net = p.network(dtype)
            got = net.forecast(np.array(p.x), 7, x0=x0)
            assert got.shape == (3, 7, 3) and got.dtype == dtype
            np.testing.assert_allclose(got, expected, rtol=0, atol=tolerance)
            one = net.forecast(p.x[0], 7, x0=None if x0 is None else x0[0])
            assert one.shape == (7, 3)
            np.testing.assert_allclose(one, expected[0], rtol=0, atol=tolerance)


@pytest.mark.parametrize("readout", ("last", "every"))
def test_forecast_and_predict(readout):
    """A forecast of one step is predict's last output; longer ones are predict's on the series they made."""
    p = problem(cell="gru", activation=(), num_layers=2)
    net = p.network(readout=readout)
    x = p.x[0]
    got = net.forecast(x, 20)
    np.testing.assert_allclose(net.forecast(x, 1)[0], net.predict(x, readout="last"), rtol=0, atol=1e-12)
    whole = net.predict(np.concatenate([x, got[:-1]]), readout="every")
    np.testing.assert_allclose(got, whole[len(x) - 1 :], rtol=0, atol=1e-12)
    np.testing.assert_array_equal(net.forecast(x, 5), got[:5])


def test_sequences_of_different_length():
    p = problem(lengths=RAGGED)
    got = p.network().forecast(p.x, 6, x0=p.state)
    expected = [ref.forecast(p.desc, p.params, x, s, 6) for x, s in zip(p.x, p.state, strict=True)]
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_next_input(form):
    """Any function of the output and of its number, counted from 0; sizes need not agree then."""
    p = problem(**form, output_size=2)
    seen = []

    def next_input(y, step):
        seen.append(step)
        return np.array([y[0] * y[1], 0.5 * y[1], np.sin(step)])

    expected = ref.forecast(p.desc, p.params, p.x[0], p.state[0], 8, next_input)
    seen.clear()
    got = p.network().forecast(p.x[0], 8, next_input=next_input, x0=p.state[0])
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-10)
    assert seen == list(range(7))


def test_next_input_of_several_sequences():
    p = problem()
    net, x = p.network(), np.array(p.x)
    got = net.forecast(x, 8, next_input=lambda y, step: 0.5 * y)
    expected = [
        ref.forecast(p.desc, p.params, a, 0 * s, 8, lambda y, _: 0.5 * y)
        for a, s in zip(x, p.state, strict=True)
    ]
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-10)


def test_a_forecast_changes_nothing():
    p = problem()
    net, x = p.network(), np.array(p.x)
    kept, before = x.copy(), net.params.copy()
    first = net.forecast(x, 5)
    np.testing.assert_array_equal(net.forecast(x, 5), first)
    np.testing.assert_array_equal(x, kept)
    np.testing.assert_array_equal(net.params, before)


WRONG_FORECASTS = {
    "sizes": (dict(output_size=2), dict(), bf.ConfigError, ("input_size", "output_size", "next_input")),
    "both directions": (dict(bidirectional=True), dict(), bf.ConfigError, ("bidirectional",)),
    "steps": (dict(), dict(steps=0), bf.ConfigError, ("steps", "0")),
    "features": (dict(), dict(series=np.ones((5, 2))), bf.ShapeError, ("3", "2")),
    "x0": (dict(), dict(x0=np.ones(4)), bf.ShapeError, ("x0", "4")),
    "next_input: no function": (dict(), dict(next_input=3), bf.ConfigError, ("next_input", "3")),
    "next_input: a row": (dict(), dict(next_input=lambda y, _: y[:2]), bf.ShapeError, ("next_input", "(3,)")),
}  # fmt: skip


@pytest.mark.parametrize("options, given, error, words", WRONG_FORECASTS.values(), ids=WRONG_FORECASTS)
def test_wrong_forecasts(options, given, error, words):
    net = bf.Network(**dict(input_size=3, hidden_size=5, output_size=3) | options)
    with pytest.raises(error) as caught:
        net.forecast(**dict(series=np.ones((5, 3)), steps=4) | given)
    assert all(map(str(caught.value).__contains__, words)), caught.value


# ---- teacher forcing


def closed(p, ratio, **options):
    """Loss and gradients with outputs fed back, the draws fixed by the network's seed."""
    net = p.network(**options)

    def run():
        return net.loss_and_grad(
            p.x, p.y, loss=p.loss, x0=p.state, sample_weight=p.weight, teacher_forcing=ratio, with_inputs=True
        )

    return net, run


def draws(dx):
    """Which steps did not see their input: nothing depends on it."""
    return [(d == 0).all(axis=1) for d in dx]


def loop_loss(p, own):
    """The oracle's loss for given draws."""
    total, weights = 0.0, p.weight or [np.ones(len(y)) for y in p.y]
    for x, y, w, state, fed in zip(p.x, p.y, weights, p.state, own, strict=True):
        out = ref.closed_loop(p.desc, p.params, x, state, fed)
        total += sum(wt * ref.LOSSES[p.loss](q, yt)[0] for wt, q, yt in zip(w, out, y, strict=True))
    return total / sum(w.sum() for w in weights)


@pytest.mark.parametrize("ratio", (0.5, 0.0))
@pytest.mark.parametrize("form", ALL.values(), ids=ALL)
def test_gradient(form, ratio):
    """Finite differences on every block, the inputs and the states; the loss is the loop's."""
    p = problem(**form, lengths=(7, 1, 4), hidden_size=4, weighted=True, gain=0.6)
    net, run = closed(p, ratio)
    value, grads = run()
    own = draws(grads["x"])
    assert not any(fed[0] for fed in own) and any(fed.any() for fed in own)
    assert value == pytest.approx(loop_loss(p, own), rel=1e-12)
    slopes = {k: grads[k] for k in net} | {"x0": grads["x0"]}
    slopes |= {f"x[{i}]": d for i, d in enumerate(grads["x"])}
    arrays = {k: net[k] for k in net} | {"x0": p.state} | {f"x[{i}]": x for i, x in enumerate(p.x)}
    gradcheck.check(lambda: run()[0], arrays, slopes, f"{p.line} teacher_forcing={ratio}")


@pytest.mark.parametrize("loss", ("mse", "mae", "huber"))
def test_losses(loss):
    """Those of real targets."""
    p = problem(loss=loss, weighted=True, lengths=RAGGED)
    _, run = closed(p, 0.3)
    value, grads = run()
    assert value == pytest.approx(loop_loss(p, draws(grads["x"])), rel=1e-12)


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_all_teaching_is_plain(form):
    p = problem(**form, lengths=RAGGED)
    net = p.network()
    value, grads = net.loss_and_grad(p.x, p.y, x0=p.state)
    again, same = net.loss_and_grad(p.x, p.y, x0=p.state, teacher_forcing=1.0)
    assert value == again and grads.flat.tobytes() == same.flat.tobytes()
    other = p.network()
    losses = [net.fit(p.x, p.y, epochs=2, verbose=0)["loss"]]
    losses.append(other.fit(p.x, p.y, epochs=2, verbose=0, teacher_forcing=1.0)["loss"])
    assert losses[0] == losses[1] and net.params.tobytes() == other.params.tobytes()


@pytest.mark.parametrize("form", ALL.values(), ids=ALL)
def test_no_teaching_is_a_closed_loop(form):
    """Only the first input of a sequence counts, whatever stands after it."""
    p = problem(**form, lengths=RAGGED, gain=0.6)
    _, run = closed(p, 0.0)
    value, grads = run()
    own = [np.arange(n) > 0 for n in RAGGED]
    assert value == pytest.approx(loop_loss(p, own), rel=1e-12)
    for fed, expected in zip(draws(grads["x"]), own, strict=True):
        np.testing.assert_array_equal(fed, expected)
    for x in p.x:
        x[1:] = 1e3
    assert run()[0] == value


@pytest.mark.parametrize("isa", cases.isas())
def test_every_instruction_set(isa):
    for hidden_size in (1, 7, 17):
        p = problem(hidden_size=hidden_size, lengths=RAGGED, gain=0.6)
        expected = closed(p, 0.5)[1]()[1]
        for dtype in ("float64", "float32"):
            net = p.network(dtype)
            got = net.loss_and_grad(p.x, p.y, x0=p.state, teacher_forcing=0.5, isa=isa)[1]
            for k in net:
                assert abs(got[k] - expected[k]).max() <= 10 * p.tolerance(dtype) * abs(expected[k]).max(), k


def test_how_often():
    """The share of outputs is 1 - ratio; each seed, sequence and step draws, the same in both precisions."""
    p = problem(lengths=(200,) * 20, gain=0.5)
    drawn = []
    for ratio, seed in ((0.7, 1), (0.7, 2), (0.2, 1)):
        _, run = closed(p, ratio, seed=seed)
        own = np.array(draws(run()[1]["x"]))
        assert not own[:, 0].any()
        n, q = own[:, 1:].size, 1 - ratio
        assert abs(own[:, 1:].mean() - q) < 4 * np.sqrt(q * (1 - q) / n)
        drawn.append(own[:, 1:])
    same = 0.7**2 + 0.3**2
    bound = 4 * np.sqrt(same * (1 - same) / 1900)
    assert abs((drawn[0] == drawn[1]).mean() - same) < bound
    assert abs((drawn[0][:10] == drawn[0][10:]).mean() - same) < bound
    assert abs((drawn[0][:, 1:] == drawn[0][:, :-1]).mean() - same) < bound
    single = np.array(draws(closed(p, 0.7, seed=1, dtype="float32")[1]()[1]["x"]))
    np.testing.assert_array_equal(single[:, 1:], drawn[0])


@pytest.mark.parametrize("ratio", (0.0, 0.6))
def test_threads(ratio):
    p = problem(
        hidden_size=64, input_size=24, output_size=24, lengths=(20,) * 64, cell="gru", activation=(), gain=0.5
    )
    ends = []
    for threads in (1, 2, 3):
        net = p.network("float32")
        value, grads = net.loss_and_grad(p.x, p.y, teacher_forcing=ratio, threads=threads)
        losses = net.fit(p.x, p.y, teacher_forcing=ratio, threads=threads, epochs=2, verbose=0)["loss"]
        ends.append((value, grads.flat.tobytes(), net.params.tobytes(), *losses))
    assert ends[0] == ends[1] == ends[2]


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_fit(form):
    """An update is that of the gradient above; draws differ from epoch to epoch and repeat with the seed."""
    p = problem(**form, lengths=RAGGED, gain=0.6)
    net, run = closed(p, 0.0)
    value, grads = run()
    expected = net.params - 0.05 * grads.flat
    options = dict(x0=p.state, verbose=0, shuffle=False)
    history = net.fit(p.x, p.y, teacher_forcing=0.0, optimizer=bf.SGD(0.05), **options)
    np.testing.assert_allclose(net.params, expected, rtol=0, atol=1e-14)
    assert history["loss"] == [pytest.approx(value, rel=1e-14)]

    def losses(seed):
        still = dict(optimizer=bf.SGD(1e-30), epochs=4, teacher_forcing=0.5)
        return p.network(seed=seed).fit(p.x, p.y, **still, **options)["loss"]

    assert losses(1) == losses(1) != losses(2) and len(set(losses(1))) > 1


def test_the_network_predicts_as_before():
    """teacher_forcing is of the training alone: validation sees the inputs."""
    p = problem(gain=0.5)
    net = p.network()
    x, y = np.array(p.x), np.array(p.y)
    history = net.fit(x, y, teacher_forcing=0.2, validation_data=(x, y), verbose=0)
    assert history["val_loss"][0] == pytest.approx(((net.predict(x) - y) ** 2).mean(), rel=1e-12)


X, CLASSES = np.ones((4, 8, 3)), np.ones((4, 8), int)
WRONG = {
    "readout last": (dict(readout="last"), dict(y=X[:, 0]), ("teacher_forcing", "readout")),
    "sizes": (dict(output_size=2), dict(y=X[..., :2]), ("teacher_forcing", "input_size", "output_size")),
    "both directions": (dict(bidirectional=True), dict(), ("teacher_forcing", "bidirectional")),
    "classes": (dict(), dict(y=CLASSES, loss="cross_entropy"), ("teacher_forcing", "cross_entropy")),
    "probabilities": (dict(), dict(loss="binary_cross_entropy"), ("teacher_forcing", "binary_cross_entropy")),
    "truncated": (dict(), dict(bptt=("TruncatedBPTT", 2)), ("teacher_forcing", "TruncatedBPTT")),
    "checkpointed": (dict(), dict(bptt=("CheckpointedBPTT",)), ("teacher_forcing", "CheckpointedBPTT")),
    "below zero": (dict(), dict(teacher_forcing=-0.1), ("teacher_forcing", "-0.1")),
    "above one": (dict(), dict(teacher_forcing=1.5), ("teacher_forcing", "1.5")),
    "text": (dict(), dict(teacher_forcing="half"), ("teacher_forcing", "half")),
}  # fmt: skip


@pytest.mark.parametrize("method", ("fit", "loss_and_grad"))
@pytest.mark.parametrize("options, given, words", WRONG.values(), ids=WRONG)
def test_wrong_calls(options, given, words, method):
    net = bf.Network(**dict(input_size=3, hidden_size=5, output_size=3, readout="every") | options)
    given = dict(x=X, y=X, teacher_forcing=0.5) | given
    name, *numbers = given.pop("bptt", ("FullBPTT",))
    with pytest.raises(bf.ConfigError) as caught:
        getattr(net, method)(**given, bptt=getattr(bf, name)(*numbers))
    assert all(map(str(caught.value).__contains__, words)), caught.value


def test_sliding_windows_have_no_teacher_forcing():
    with pytest.raises(bf.ConfigError, match="teacher_forcing"):
        bf.Network(3, 5, 3).fit(X, X, bptt=bf.SlidingBPTT(2), teacher_forcing=0.5, verbose=0)


# ---- distributions


def with_distribution(loss="gaussian", **options):
    net = bf.Network(2, 5, 2 * bf.Loss(loss).outputs, **dict(cell="gru", dtype="float64", seed=0) | options)
    series = np.random.default_rng(0).normal(size=(9, 2))
    return net, abs(series) if bf.Loss(loss).targets == "count" else series


@pytest.mark.parametrize("loss", ("gaussian", "student_t", "poisson", "negative_binomial", "pinball", "mae"))
def test_the_prediction_is_fed_back(loss):
    """As predict of a series with the predictions appended; outputs are returned."""
    known = bf.Loss(loss)
    net, series = with_distribution(loss)
    y = net.forecast(series, 4, loss=loss)
    assert y.shape == (4, net.output_size)
    for row in y:
        np.testing.assert_allclose(row, net.predict(series), rtol=1e-12)
        series = np.concatenate([series, [known.prediction(row)]])
    if known.has_distribution:
        several = net.forecast([series, series[:3]], 3, loss=known)
        np.testing.assert_allclose(several[1], net.forecast(series[:3], 3, loss=known), rtol=1e-12)


@pytest.mark.parametrize("loss", ("laplace", "negative_binomial"))
def test_each_path_feeds_back_its_own_draws(loss):
    known = bf.Loss(loss)
    net, series = with_distribution(loss)
    paths = net.forecast(series, 4, loss=loss, samples=3, rng=5)
    again = net.forecast(series, 4, loss=loss, samples=3, rng=5)
    assert paths.shape == (3, 4, 2) and paths.tobytes() == again.tobytes()
    rng, known_steps = np.random.default_rng(5), [series] * 3
    for step in range(4):
        drawn = known.sample(np.stack([net.predict(one) for one in known_steps]), rng)
        np.testing.assert_allclose(paths[:, step], drawn, rtol=1e-9)
        known_steps = [np.concatenate([one, [row]]) for one, row in zip(known_steps, drawn, strict=True)]
    given = []

    def next_input(y, step):
        given.append((y.shape, step))
        return y

    two = net.forecast([series, series[:4]], 3, loss=loss, samples=5, rng=1, next_input=next_input)
    assert two.shape == (2, 5, 3, 2) and given == [((10, 2), 0), ((10, 2), 1)]
    np.testing.assert_array_equal(two, net.forecast([series, series[:4]], 3, loss=loss, samples=5, rng=1))
    assert net.forecast(series, 1, loss=loss, samples=1).shape == (1, 1, 2)


def test_paths_have_the_distribution_of_an_autoregression():
    """y' = y / 2 + noise of deviation 1/4, known in closed form, from inputs that are scaled."""
    net = bf.Network(1, 1, 2, nonlinearity="linear", dtype="float64", seed=0)
    net.params = np.zeros(net.num_parameters)
    net["weight_ih_l0"], net["head.0.weight"] = [[1.0]], [[5.0], [0.0]]
    net["head.0.bias"] = [5.0, np.log(np.expm1(0.25 - 1e-6))]
    net.scaling = bf.Scaling([10.0], [10.0])  # y' = 5 (y - 10) / 10 + 5
    paths = net.forecast(np.full((3, 1), 8.0), 3, loss="gaussian", samples=20_000, rng=0)[..., 0]
    mean, variance = 8.0, 0.0
    for step in range(3):
        mean, variance = mean / 2, variance / 4 + 1 / 16
        assert abs(paths[:, step].mean() - mean) < 5 * np.sqrt(variance / 20_000)
        assert abs(paths[:, step].var() / variance - 1) < 0.05


LOSS_WRONG = {
    "samples of outputs": (dict(samples=3), bf.ConfigError, ("samples", "distribution", "loss=None")),
    "samples of mse": (dict(loss="mse", samples=3), bf.ConfigError, ("samples", "mse")),
    "classes": (dict(loss="cross_entropy"), bf.ConfigError, ("cross_entropy", "logits")),
    "rng": (dict(loss="gaussian", rng=3), bf.ConfigError, ("rng", "samples")),
    "no samples": (dict(loss="gaussian", samples=0), bf.ConfigError, ("samples", "at least 1")),
    "targets": (dict(loss="student_t"), bf.ShapeError, ("multiple of 3", "got 4")),
    "sizes": (dict(loss="mse"), bf.ConfigError, ("output_size=4", "input_size=2")),
    "explosion": (dict(loss="poisson", next_input=lambda y, step: y[:2]), bf.DivergedError, ("not finite",)),
}  # fmt: skip


@pytest.mark.parametrize("given, error, words", LOSS_WRONG.values(), ids=LOSS_WRONG)
def test_wrong_losses_of_a_forecast(given, error, words):
    net, series = with_distribution(nonlinearity="relu", cell="elman")
    if error is bf.DivergedError:
        net["head.0.weight"] = np.ones((4, 5))
        net["weight_ih_l0"] = np.ones((5, 2))
    with pytest.raises(error) as caught:
        net.forecast(series, 9, **given)
    assert all(map(str(caught.value).__contains__, words)), caught.value


def test_tables_and_names_with_a_distribution():
    pandas = pytest.importorskip("pandas")
    net, series = with_distribution()
    table = pandas.DataFrame(series, columns=["a", "b"])
    outputs = net.forecast(table, 3, loss="gaussian")
    assert list(outputs.index) == [9, 10, 11]
    np.testing.assert_array_equal(outputs.to_numpy(), net.forecast(series, 3, loss="gaussian"))
    paths = net.forecast(table, 3, loss="gaussian", samples=2, rng=0)
    np.testing.assert_array_equal(paths, net.forecast(series, 3, loss="gaussian", samples=2, rng=0))
    counts, series = with_distribution("poisson")
    counts.input_names, counts.output_names = ["a", "b"], ["b", "a"]  # matched by name
    y = counts.forecast(series, 2, loss="poisson")
    expected = counts.predict(np.concatenate([series, [np.exp(y[0])[::-1]]]))
    np.testing.assert_allclose(y[1], expected, rtol=1e-12)
