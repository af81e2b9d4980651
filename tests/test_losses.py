"""Losses with parameters, from the user's argument to the C core, and what the table of losses says."""

import itertools
from functools import partial

import numpy as np
import pytest
from support import cases, gradcheck
from support import reference as ref

import bptt_fast as bf
from bptt_fast import losses

TABLE = cases.core().losses()
X = np.random.default_rng(0).normal(size=(6, 5, 2))
Y = 3 * np.random.default_rng(1).normal(size=(6, 3))


def network(**options):
    return bf.Network(2, 4, 3, **dict(cell="gru", dtype="float64", seed=0) | options)


@pytest.mark.parametrize("delta", (0.25, 1.0, 2.0))
def test_huber_agrees_with_the_reference(delta, monkeypatch):
    monkeypatch.setitem(ref.LOSSES, "huber", partial(ref.huber, delta=delta))
    problem = cases.Problem(loss="huber", every=True, weighted=True, output_size=3)
    problem.check_reference()
    value, grads = problem.reference()
    for isa, dtype in itertools.product(cases.isas(), ("float64", "float32")):
        run = problem.run(dtype, isa)
        run.plan = run.core.Plan(
            run.desc, loss="huber", loss_parameter=(delta,), readout_every_step=True, batch=4, steps=7,
            isa=isa, input_gradient=True,
        )  # fmt: skip
        got, got_grads = run.loss_and_grad()
        assert abs(got - value) <= problem.tolerance(dtype) * abs(value)
        for name, grad in grads.items():
            error = abs(got_grads[name] - grad).max()
            assert error <= problem.tolerance(dtype) * abs(grad).max(), (name, isa, dtype)


def test_the_default_is_the_name():
    assert bf.Loss("huber") == bf.Loss("huber", delta=1) != bf.Loss("huber", delta=2)
    assert repr(bf.Loss("huber", delta=0.5)) == "Loss('huber', delta=0.5)"
    assert repr(bf.Loss("mse")) == "Loss('mse')"
    a, b = network(), network()
    a.fit(X, Y, epochs=3, loss="huber", verbose=0)
    b.fit(X, Y, epochs=3, loss=bf.Loss("huber", delta=1.0), verbose=0)
    assert a.params.tobytes() == b.params.tobytes()
    for loss in TABLE:
        assert losses.get(losses.get(loss).plain) == losses.get(loss)
    assert losses.get(bf.Loss("huber", delta=3.0).plain) == bf.Loss("huber", delta=3.0)


def test_a_parameter_reaches_every_verb():
    loss = bf.Loss("huber", delta=0.5)
    net = network()
    rows = [ref.huber(p, y, 0.5)[0] for p, y in zip(net.predict(X), Y, strict=True)]
    assert net.evaluate(X, Y, loss=loss) == pytest.approx(np.mean(rows), rel=1e-12)
    assert net.loss_and_grad(X, Y, loss=loss)[0] == pytest.approx(np.mean(rows), rel=1e-12)
    assert net.evaluate(X, Y, loss="huber") > 1.2 * np.mean(rows)
    history = net.fit(X, Y, epochs=1, batch_size=6, loss=loss, validation_data=(X, Y), verbose=0)
    assert history["loss"][0] == pytest.approx(np.mean(rows), rel=1e-12)
    assert history["val_loss"][0] == pytest.approx(net.evaluate(X, Y, loss=loss), rel=1e-12)
    net.fit(X, Y, epochs=2, loss=loss, optimizer=bf.LBFGS(), verbose=0)
    assert net.estimate_memory(4, 5, loss=loss) == net.estimate_memory(4, 5, loss="huber")


def test_online_and_saved(tmp_path):
    """A learner with a parameter, saved and loaded, continues to the bit."""
    loss, x, y = bf.Loss("huber", delta=0.5), np.float64(X.reshape(-1, 2)), np.float64(np.tile(Y, (5, 1)))
    nets = [network(), network()]
    learners = [net.learn_online(bptt=bf.SlidingBPTT(3), optimizer=bf.SGD(0.1), loss=loss) for net in nets]
    plain = network().learn_online(bptt=bf.SlidingBPTT(3), optimizer=bf.SGD(0.1), loss="huber")
    for row, target in zip(x[:15], y, strict=False):
        seen = {learner.observe(row, target) for learner in learners}
        other = plain.observe(row, target)
    assert len(seen) == 1 and other not in seen
    learners[0].save(tmp_path / "learner.safetensors")
    again = bf.load(tmp_path / "learner.safetensors")
    assert again.loss == learners[1].loss == {"name": "huber", "delta": 0.5}
    assert plain.loss == "huber"
    rest = list(zip(x[15:], y[15:], strict=True))
    assert [again.observe(*one) for one in rest] == [learners[1].observe(*one) for one in rest]


WRONG = {
    "name": (lambda: bf.Loss("hubert"), "loss: expected one of 'mse'.*Did you mean 'huber'"),
    "parameter": (lambda: bf.Loss("huber", beta=2.0), r'parameters of "huber" \(delta\), got .beta'),
    "no parameters": (lambda: bf.Loss("mse", delta=2.0), r'loss: expected parameters of "mse" \(none\)'),
    "zero": (lambda: bf.Loss("huber", delta=0.0), "delta.*above 0, got 0"),
    "negative": (lambda: bf.Loss("huber", delta=-1.0), "delta.*above 0"),
    "infinite": (lambda: bf.Loss("huber", delta=np.inf), "delta.*finite"),
    "not a number": (lambda: bf.Loss("huber", delta="1"), "delta.*got '1'"),
    "no loss": (lambda: network().fit(X, Y, loss=3), "loss: expected one of"),
    "dict": (lambda: network().fit(X, Y, loss={"name": "huber", "gamma": 1.0}), "gamma"),
}


@pytest.mark.parametrize("call, words", WRONG.values(), ids=WRONG)
def test_wrong_losses(call, words):
    with pytest.raises(bf.ConfigError, match=words):
        call()


@pytest.mark.parametrize("name", [name for name, row in TABLE.items() if row["curved"]])
def test_curvature(name):
    """H dy by differences of the loss' own derivative, as a multiple of that of mse."""
    rng = np.random.default_rng(0)
    y, dy, step = rng.normal(size=(4, 5)), rng.normal(size=(4, 5)), 1e-6
    target = 2 if TABLE[name]["targets"] == "class" else rng.uniform(size=5)
    got = cases.core().curvature(name, tuple(losses.get(name).parameters.values()), y, dy)
    for row in range(4):
        above, below = (ref.LOSSES[name](y[row] + sign * step * dy[row], target)[1] for sign in (1, -1))
        np.testing.assert_allclose(got[row], (above - below) / (2 * step) * 5 / 2, atol=1e-8)


# ---- several outputs per target


def sp(a):
    return np.logaddexp(0, a)


def of_scipy(name, p, y):
    """-log of the density, by scipy, of one target with its outputs."""
    stats = pytest.importorskip("scipy.stats")
    if name == "gaussian":
        return -stats.norm.logpdf(y, p[0], sp(p[1]) + 1e-6) - np.log(2 * np.pi) / 2
    if name == "laplace":
        return -stats.laplace.logpdf(y, p[0], sp(p[1]) + 1e-6)
    if name == "student_t":
        return -stats.t.logpdf(y, 2 + sp(p[2]), p[0], sp(p[1]) + 1e-6)
    mu, alpha = sp(p[0]), sp(p[1]) + 1e-6
    return -stats.nbinom.logpmf(y, 1 / alpha, 1 / (1 + alpha * mu))


def loss_of(loss, p, y, dtype="float64"):
    """The loss and its gradient by the outputs p (O,) that a network has for any input: its last bias."""
    net = bf.Network(1, 2, len(p), dtype=dtype, seed=0)
    net["head.0.weight"], net["head.0.bias"] = np.zeros((len(p), 2)), np.array(p, dtype)
    value, grads = net.loss_and_grad(np.ones((1, 3, 1)), np.array([y], float), loss=loss)
    return value, grads["head.0.bias"].astype(float)


@pytest.mark.parametrize("name", ("gaussian", "laplace", "student_t", "negative_binomial"))
def test_values_are_those_of_scipy(name):
    rng, parts = np.random.default_rng(0), TABLE[name]["outputs"]
    for dtype, tolerance in (("float64", 1e-11), ("float32", 1e-5)):
        p, y = rng.normal(size=(parts, 3)) * 3, rng.poisson(3.0, 3)
        p = p.astype(dtype).astype(float)
        expected = np.mean([of_scipy(name, p[:, c], y[c]) for c in range(3)])
        assert loss_of(name, p.ravel(), y, dtype)[0] == pytest.approx(expected, rel=tolerance)


# the outputs of one target, and the target
TAILS = {
    "gaussian": [((1e6, -50), 0), ((1e6, 50), 0), ((0, -800), 1), ((0, 800), 1)],
    "laplace": [((1e6, -50), 0), ((1e6, 50), 0), ((0, -800), 1)],
    "student_t": [((1e6, -50, 0), 0), ((1e6, 50, -50), 0), ((0, 0, 1e6), 2), ((0, 0, 50), 1), ((0, 0, -800), 9)],  # noqa: E501
    "negative_binomial": [
        ((-50, -50), 0), ((-800, 0), 3), ((2, -50), 0), ((2, -50), 7), ((2, -13), 1000), ((50, 50), 0),
        ((50, 50), 100), ((1e6, -50), 1e6), ((0, 50), 1000), ((1, -3), 2),
    ],
}  # fmt: skip


@pytest.mark.parametrize("name", TAILS)
def test_wide_tails(name):
    """Exact where scipy is, and the slopes are finite, and those of the reference."""
    for p, y in TAILS[name]:
        value, slope = loss_of(name, p, [y])
        assert np.isfinite(value) and np.isfinite(slope).all(), (p, y)
        if np.isfinite(expected := of_scipy(name, p, y)):  # its probabilities underflow
            assert value == pytest.approx(expected, rel=1e-9, abs=1e-8), (p, y)
        if max(p) <= 50 and min(p) > -20:
            np.testing.assert_allclose(
                slope, ref.LOSSES[name](np.array(p, float), np.array([y]))[1], rtol=1e-4
            )


def test_small_alpha_is_poisson():
    """With alpha = 1e-6 the slopes are those of the limit, where differences of gammas cancel."""
    mu = 7.0
    m = np.log(np.expm1(mu))
    for a, y in ((-50.0, 0.0), (-50.0, 4.0), (-12.0, 30.0)):
        alpha = sp(a) + 1e-6
        slope = loss_of("negative_binomial", (m, a), [y])[1]
        by_alpha = (mu**2 - y * (y - 1)) / 2 + mu * (y - mu)  # its limit
        assert slope[1] == pytest.approx(by_alpha / (1 + np.exp(-a)), rel=300 * alpha)
        assert slope[0] == pytest.approx((1 - y / mu) / (1 + np.exp(-m)), rel=100 * alpha)


@pytest.mark.parametrize("quantiles", ((0.3,), (0.1, 0.5, 0.9), tuple(np.linspace(0.01, 0.99, 99))))
def test_quantiles(quantiles):
    rng = np.random.default_rng(0)
    p, y = rng.normal(size=2 * len(quantiles)), rng.normal(size=2)
    value, slope = loss_of(bf.Loss("pinball", quantiles=list(quantiles)), p, y)
    expected = ref.pinball(p, y, quantiles)
    assert value == pytest.approx(expected[0], rel=1e-12)
    np.testing.assert_allclose(slope, expected[1], rtol=1e-12)


def test_the_mean_over_sequences():
    """The mean of the means over the rows of each sequence, in training and evaluation, in all forms."""
    random = np.random.default_rng(0)
    net = bf.Network(2, 5, 3, readout="every", dtype="float64", seed=0)
    lengths = (7, 1, 4, 5)
    x, y = ([random.normal(size=(n, width)) for n in lengths] for width in (2, 3))
    mask = [random.uniform(size=n) * (random.uniform(size=n) < 0.7) for n in lengths]
    mask[2][:] = 0  # left out
    each = np.array([net.evaluate([a], [b]) for a, b in zip(x, y, strict=True)])
    masked = [net.evaluate([x[i]], [y[i]], sample_weight=[mask[i]]) for i in (0, 1, 3) if mask[i].any()]
    loss, of_sequences = bf.Loss("mse", average="sequences"), np.array([1.0, 0, 2, 3])
    assert net.evaluate(x, y, loss=loss) == pytest.approx(each.mean())
    assert net.evaluate(x, y, loss=loss, sample_weight=mask) == pytest.approx(np.mean(masked))
    weighted = net.evaluate(x, y, loss=loss, sample_weight=of_sequences)
    assert weighted == pytest.approx((each * of_sequences).sum() / of_sequences.sum())
    assert net.evaluate(x, y) != pytest.approx(each.mean())
    value, grads = net.loss_and_grad(x, y, loss=loss)
    assert value == pytest.approx(each.mean())
    parts = [net.loss_and_grad([a], [b])[1].flat for a, b in zip(x, y, strict=True)]
    np.testing.assert_allclose(grads.flat, np.mean(parts, axis=0), rtol=1e-10)
    padded = [np.stack([np.resize(a, (7, a.shape[1])) for a in array]) for array in (x, y)]
    assert net.evaluate(*padded, loss=loss, lengths=lengths) == pytest.approx(each.mean())
    history = net.fit(x, y, loss=loss, epochs=1, batch_size=2, optimizer=bf.SGD(1e-12), verbose=0)
    assert history["loss"][0] == pytest.approx(each.mean())
    windows = bf.Sequences.windows(random.normal(size=(20, 2)), 6, horizon=0)
    targets = random.normal(size=(20, 3))
    assert net.evaluate(windows, targets, loss=loss) == net.evaluate(windows, targets)
    assert bf.Loss(**loss.plain) == loss != bf.Loss("mse") and "average='sequences'" in repr(loss)


def test_tables_of_weights():
    """Of rows, as arrays: not weights of sequences, though they have an entry for each."""
    pandas, random = pytest.importorskip("pandas"), np.random.default_rng(0)
    net, loss = bf.Network(2, 5, 3, readout="every", seed=0), bf.Loss("mse", average="sequences")
    x, y, weights = (random.uniform(0.1, 1, size=shape) for shape in ((4, 7, 2), (4, 7, 3), (4, 7)))
    expected = net.evaluate(x, y, loss=loss, sample_weight=weights)
    assert net.evaluate(x, y, loss=loss, sample_weight=pandas.DataFrame(weights)) == expected
    assert net.evaluate(x, y, loss=loss, sample_weight=weights[:, 0]) != expected


def refused_averages():
    every, last = (bf.Network(2, 5, 3, readout=readout, seed=0) for readout in ("every", "last"))
    x, y, loss = np.zeros((4, 6, 2)), np.zeros((4, 6, 3)), bf.Loss("mse", average="sequences")
    windows = bf.Sequences.windows(x[0], 3, horizon=0)
    return {
        "one target": (lambda: last.fit(x, y[:, 0], loss=loss), "target for every step"),
        "sliding": (lambda: last.fit(x, y, loss=loss, bptt=bf.SlidingBPTT(2)), "SlidingBPTT"),
        "learner": (lambda: last.learn_online(bf.SlidingBPTT(2), loss=loss), "SlidingBPTT"),
        "windows": (lambda: every.fit(windows, y[0], loss=loss, sample_weight=np.ones(6)), "windows"),
        "name": (lambda: bf.Loss("mse", average="trials"), "'rows', 'sequences'"),
        "function": (lambda: bf.Loss(max, average="sequences"), "average"),
    }


@pytest.mark.parametrize("case", refused_averages().values(), ids=refused_averages())
def test_refused_averages(case):
    call, words = case
    with pytest.raises(bf.ConfigError, match=words):
        call()


def test_label_smoothing_and_class_weights():
    x, y = X, np.array([0, 1, 2, 2, 1, 0])
    net, weight = network(), np.array([1.0, 0.5, 2.0, 0.0, 1.0, 3.0])
    classes = np.array([2.0, 0.5, 1.0])
    loss = bf.Loss("cross_entropy", label_smoothing=0.1, class_weight=classes)
    rows = np.array(
        [ref.smoothed_cross_entropy(p, k, 0.1)[0] for p, k in zip(net.predict(x), y, strict=True)]
    )
    w = weight * classes[y]
    expected = (w * rows).sum() / w.sum()
    assert net.evaluate(x, y, loss=loss, sample_weight=weight) == pytest.approx(expected, rel=1e-12)
    value, grads = net.loss_and_grad(x, y, loss=loss, sample_weight=weight)
    assert value == pytest.approx(expected, rel=1e-12)
    options = {"loss": loss, "sample_weight": weight}
    gradcheck.check(lambda: net.evaluate(x, y, **options), {"params": net.params}, {"params": grads.flat})
    by_dict = bf.Loss("cross_entropy", label_smoothing=0.1, class_weight={0: 2, 1: 0.5})
    assert net.evaluate(x, y, loss=by_dict, sample_weight=weight) == pytest.approx(expected, rel=1e-12)
    for known in (loss, by_dict, bf.Loss("pinball", quantiles=[0.1, 0.9])):
        assert losses.get(known.plain) == known


def test_the_online_algorithm_weighs_classes_and_takes_densities():
    """A learner does what a fit does, to the bit."""
    rng = np.random.default_rng(0)
    x, counts, classes = rng.normal(size=(30, 2)), rng.poisson(3.0, (30, 2)) * 1.0, rng.integers(3, size=30)
    weighted = bf.Loss("cross_entropy", class_weight=[1.0, 2.0, 0.0])
    for loss, y, outputs in (
        (weighted, classes, 3),
        ("negative_binomial", counts, 4),
        ("student_t", counts, 6),
    ):
        a, b = (bf.Network(2, 5, outputs, dtype="float64", seed=0) for _ in range(2))
        how = dict(bptt=bf.SlidingBPTT(3), optimizer=bf.SGD(0.01), loss=loss)
        history = a.fit(x, y, epochs=1, verbose=0, **how)
        learner = b.learn_online(**how)
        seen = np.array([learner.observe(row, target) for row, target in zip(x, y, strict=True)])[3:]
        assert a.params.tobytes() == b.params.tobytes()
        scale = np.array([1.0, 2.0, 0.0])[y[3:]].mean() if loss is weighted else 1.0
        assert history["loss"][0] == pytest.approx(np.nansum(seen) / len(seen) / scale, rel=1e-12)


# ---- functions


def squares(outputs, targets, weights):
    n = weights.sum() * outputs.shape[1]
    error = (outputs - targets) * weights[:, None]
    return (error * (outputs - targets)).sum() / n, 2 * error / n


@pytest.mark.parametrize("dtype", ("float64", "float32"))
@pytest.mark.parametrize("readout", ("last", "every"))
def test_a_function_equals_mse(readout, dtype):
    rng = np.random.default_rng(0)
    x = [rng.normal(size=(n, 2)) for n in (5, 9, 1, 4, 3, 8, 2)]
    y, w = [rng.normal(size=(len(a), 3)) for a in x], [rng.integers(0, 3, len(a)) * 1.0 for a in x]
    y[1][w[1] == 0] = np.nan  # no targets
    if readout == "last":
        y, w = rng.normal(size=(7, 3)), np.array([1, 0, 2, 1, 0.5, 3, 1])
    a, b = (network(readout=readout, dtype=dtype, num_layers=2, bidirectional=True) for _ in range(2))
    close = dict(rtol=1e-12 if dtype == "float64" else 3e-5, atol=1e-12 if dtype == "float64" else 3e-6)
    given = dict(sample_weight=w)
    np.testing.assert_allclose(a.evaluate(x, y, loss=squares, **given), b.evaluate(x, y, **given), **close)
    one, two = (net.loss_and_grad(x, y, loss=f, **given) for net, f in ((a, squares), (b, "mse")))
    np.testing.assert_allclose(one[0], two[0], **close)
    np.testing.assert_allclose(one[1].flat, two[1].flat, **close)
    given |= dict(epochs=3, batch_size=3, validation_data=(x, y, w), verbose=0)
    one, two = a.fit(x, y, loss=squares, threads=2, **given), b.fit(x, y, **given)
    for column in ("loss", "val_loss"):
        np.testing.assert_allclose(one[column], two[column], **close)
    np.testing.assert_allclose(a.params, b.params, **close)


def test_functions_elsewhere():
    x, y = X, Y
    best, _ = bf.restarts(network(), x, y, n=2, epochs=2, loss=squares, verbose=0)
    assert best.evaluate(x, y, loss=squares) == pytest.approx(best.evaluate(x, y))
    nets = [network(), network()]
    for net, loss in zip(nets, (squares, "mse"), strict=True):
        net.fit(x, y, epochs=3, loss=loss, optimizer=bf.LBFGS(), verbose=0)
    np.testing.assert_allclose(*[net.params for net in nets], rtol=1e-9, atol=1e-12)
    assert bf.diagnostics.check_loss(squares, Y, 0 * Y) < 1e-8
    with pytest.raises(bf.ConfigError, match="finite differences"):
        bf.diagnostics.check_loss(lambda p, y, w: (squares(p, y, w)[0], 1.1 * squares(p, y, w)[1]), Y, 0 * Y)


def failing(at, result):
    """squares, but from call `at` on another result."""
    calls = []

    def function(outputs, targets, weights):
        calls.append(1)
        if len(calls) < at:
            return squares(outputs, targets, weights)
        return result(*squares(outputs, targets, weights))

    return function


def raises(value, gradient):
    raise RuntimeError("no")


@pytest.mark.parametrize(
    "result, error, words",
    (
        (lambda v, g: (np.nan, g), bf.DivergedError, "epoch 1, batch 2"),
        (lambda v, g: (v, g * np.inf), bf.DivergedError, "epoch 1, batch 2"),
        (lambda v, g: (v, g[:, :1]), bf.ShapeError, r"loss: expected a gradient \(2, 3\)"),
        (lambda v, g: v, bf.ConfigError, r"loss: expected \(value, gradient\).*outputs, \(2, 3\)"),
        (lambda v, g: (g, g), bf.ShapeError, "loss: expected one number"),
        (lambda v, g: ("a", g), bf.ConfigError, "value of .*real numbers"),
        (raises, bf.ConfigError, "raised RuntimeError: no"),
    ),
)
def test_functions_that_fail(result, error, words):
    """The weights are those after the last good update."""
    good, bad = network(), network()
    good.fit(X[:2], Y[:2], epochs=1, batch_size=2, loss=squares, shuffle=False, verbose=0)
    with pytest.raises(error, match=words):
        bad.fit(X, Y, epochs=2, batch_size=2, loss=failing(2, result), shuffle=False, verbose=0)
    assert good.params.tobytes() == bad.params.tobytes()
    bad.fit(X, Y, loss=squares, verbose=0)


def test_a_function_of_other_arguments():
    with pytest.raises(bf.ConfigError, match=r"It is called with \(outputs, targets, weights\)"):
        network().evaluate(X, Y, loss=lambda outputs, targets: (0.0, outputs))


SCALING = bf.Scaling([0, 0], [1, 1], [0] * 6, [1] * 6)
SEVERAL_WRONG = {
    "outputs": (lambda: network().fit(X, Y[:, :1], loss="gaussian"), "multiple of 2 .*mu, s.*got 3"),
    "targets": (lambda: bf.Network(2, 3, 4).fit(X, Y, loss="gaussian"), r"expected \(6, 2\).*mu, s"),
    "negative": (lambda: network().fit(X, -abs(Y), loss="poisson"), 'counts of at least 0 for "poisson"'),
    "order": (lambda: bf.Loss("pinball", quantiles=[0.5, 0.1]), "increasing"),
    "range": (lambda: bf.Loss("pinball", quantiles=1.0), "below 1"),
    "smoothing": (lambda: bf.Loss("cross_entropy", label_smoothing=1.0), "below 1"),
    "no axis": (lambda: bf.Loss("pinball", quantiles=np.array(2.0)), "quantiles.*below 1, got 2"),
    "two axes": (lambda: bf.Loss("pinball", quantiles=np.full((1, 2), 0.5)), "quantiles.*got array"),
    "classes": (lambda: bf.Loss("mse", class_weight=[1.0]), "loss of classes"),
    "half a class": (lambda: bf.Loss("cross_entropy", class_weight={0.5: 2}), "class indices as keys"),
    "no class": (lambda: bf.Loss("cross_entropy", class_weight={np.inf: 2}), "class indices as keys"),
    "one weight": (lambda: bf.Loss("cross_entropy", class_weight=np.array(1.0)), "class_weight: .*each"),
    "count": (
        lambda: network().fit(X, [0] * 6, loss=bf.Loss("cross_entropy", class_weight=[1.0])),
        "expected 3 numbers"
    ),
    "Gauss-Newton": (
        lambda: network().fit(X, Y, loss=squares, optimizer=bf.LevenbergMarquardt()), "expects .*mse"
    ),
    "truncated": (lambda: network().fit(X, Y, loss=squares, bptt=bf.TruncatedBPTT(2)), r"FullBPTT\(\)"),
    "learner": (lambda: network().learn_online(bf.SlidingBPTT(2), loss=squares), r"FullBPTT\(\)"),
    "file": (lambda: bf.Loss(squares).plain, "no file can hold"),
    "scaled": (
        lambda: bf.Network(2, 3, 6).fit(X, Y, loss="laplace", scaling=SCALING),
        "without scaling of outputs",
    ),
}  # fmt: skip


@pytest.mark.parametrize("call, words", SEVERAL_WRONG.values(), ids=SEVERAL_WRONG)
def test_wrong_losses_of_several_outputs(call, words):
    with pytest.raises((bf.ConfigError, bf.ShapeError), match=words):
        call()


def test_estimators():
    estimators = pytest.importorskip("bptt_fast.estimators")
    rng = np.random.default_rng(0)
    x, label = rng.normal(size=(60, 4)), np.repeat(["a", "b"], (50, 10))
    how = dict(hidden_size=3, max_iter=2, random_state=0, tol=0.0, n_iter_no_change=2)
    plain, balanced, same = (
        estimators.RNNClassifier(class_weight=w, **how).fit(x, label).network_.params
        for w in (None, "balanced", {"a": 0.6, "b": 3.0})
    )
    assert balanced.tobytes() == same.tobytes() != plain.tobytes()
    with pytest.raises(ValueError, match="class_weight"):
        estimators.RNNClassifier(class_weight="balanced").partial_fit(x, label, ["a", "b"])
    a, b = (estimators.RNNRegressor(loss=f, **how).fit(x, x[:, 0]) for f in (squares, None))
    np.testing.assert_allclose(a.network_.params, b.network_.params, rtol=1e-6, atol=1e-9)
