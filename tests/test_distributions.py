"""Means, quantiles and draws of the distributions whose parameters are outputs, against scipy.stats."""

import numpy as np
import pytest

import bptt_fast as bf
from bptt_fast import losses
from bptt_fast.distributions import DISTRIBUTIONS

stats = pytest.importorskip("scipy.stats")
RNG = np.random.default_rng(0)
QS = (1e-6, 0.05, 0.3, 0.5, 0.77, 0.95, 1 - 1e-6)


def sp(a):
    return np.logaddexp(0, a)


def frozen(name, p):
    """The distribution by scipy of blocks p (parts, ...)."""
    if name == "gaussian":
        return stats.norm(p[0], sp(p[1]) + 1e-6)
    if name == "laplace":
        return stats.laplace(p[0], sp(p[1]) + 1e-6)
    if name == "student_t":
        return stats.t(2 + sp(p[2]), p[0], sp(p[1]) + 1e-6)
    if name == "poisson":
        return stats.poisson(np.exp(p[0]))
    mu, alpha = sp(p[0]), sp(p[1]) + 1e-6
    return stats.nbinom(1 / alpha, 1 / (1 + alpha * mu))


def outputs_of(name, *shape, scale=2.0):
    parts = losses.TABLE[name]["outputs"]
    p = scale * RNG.normal(size=(parts, *shape))
    return p, np.concatenate(p, axis=-1)


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_agreement_with_scipy(name):
    p, outputs = outputs_of(name, 4, 5, 3)
    loss, theirs = bf.Loss(name), frozen(name, p)
    np.testing.assert_allclose(loss.mean(outputs), theirs.mean(), rtol=1e-9)
    np.testing.assert_allclose(loss.std(outputs), theirs.std(), rtol=1e-9)
    quantiles = loss.quantile(outputs, QS)
    assert quantiles.shape == (len(QS), 4, 5, 3) and (np.diff(quantiles, axis=0) >= 0).all()
    for q, mine in zip(QS, quantiles, strict=True):
        np.testing.assert_allclose(mine, theirs.ppf(q), rtol=1e-8, atol=1e-8)
        assert mine.tobytes() == loss.quantile(outputs, q).tobytes()
    assert loss.prediction(outputs).tobytes() == loss.mean(outputs).tobytes()
    single = loss.mean(np.float32(outputs))
    assert single.dtype == np.float32
    np.testing.assert_allclose(single, loss.mean(outputs), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_draws(name):
    """Each target has its own distribution; the seed decides."""
    _, outputs = outputs_of(name, 2, 2, scale=0.7)
    loss, n = bf.Loss(name), 40_000
    drawn = loss.sample(outputs, rng=1, n=n)
    assert (
        drawn.shape == (n, 2, 2)
        and drawn.tobytes() == loss.sample(outputs, np.random.default_rng(1), n).tobytes()
    )
    assert loss.sample(outputs, 0).shape == (2, 2)
    for q in (0.1, 0.5, 0.9):
        at = loss.quantile(outputs, q)
        below, above = (drawn <= at).mean(axis=0), (drawn >= at).mean(axis=0)
        slack = 4 * np.sqrt(q * (1 - q) / n)
        assert (below >= q - slack).all() and (above >= 1 - q - slack).all()
    if name != "student_t":  # whose variance has a wide distribution
        np.testing.assert_allclose(
            drawn.mean(axis=0), loss.mean(outputs), atol=5 * loss.std(outputs).max() / np.sqrt(n)
        )
        np.testing.assert_allclose(drawn.std(axis=0), loss.std(outputs), rtol=0.1)


def test_counts_by_their_definition():
    """The smallest count k with P(y <= k) >= q, at wide and at narrow parameters."""
    for name, outputs in (
        ("poisson", [-800.0, -5.0, 0.0, 9.0, 30.0]),
        ("negative_binomial", [-800.0, 1.0, 3.0, 50.0, 7.0, 0.0, -50.0, 4.0, 8.0, 2.0]),
    ):
        loss, p = bf.Loss(name), np.array(outputs)
        theirs = frozen(name, p.reshape(losses.TABLE[name]["outputs"], -1))
        for q in QS[1:-1]:
            k = loss.quantile(p, q)
            assert (k >= 0).all() and (k == np.round(k)).all()
            ok = loss.mean(p) < 1e9
            assert (theirs.cdf(k)[ok] >= q - 1e-9).all() and (theirs.cdf(k - 1)[ok] < q + 1e-9).all()
            assert np.allclose(k[~ok], loss.mean(p)[~ok], rtol=1e-3)


def test_quantile_losses():
    plain = bf.Loss("pinball", quantiles=[0.1, 0.5, 0.9])
    ordered = bf.Loss("ordered_pinball", quantiles=[0.1, 0.5, 0.9])
    outputs = np.array([[3.0, 1.0, 2.0, 5.0, -1.0, 4.0]])  # blocks of two targets
    np.testing.assert_array_equal(plain.quantile(outputs, [0.1, 0.5, 0.9])[:, 0], [[-1, 1], [2, 4], [3, 5]])
    np.testing.assert_allclose(plain.quantile(outputs, 0.2)[0], [-1 + 3 / 4, 1 + 3 / 4])
    np.testing.assert_array_equal(plain.prediction(outputs)[0], [2, 4])
    expected = np.cumsum([[3, 1], sp(np.array([2, 5])), sp(np.array([-1, 4]))], axis=0)
    np.testing.assert_allclose(ordered.quantile(outputs, [0.1, 0.5, 0.9])[:, 0], expected)
    high = bf.Loss("pinball", quantiles=0.9)
    np.testing.assert_array_equal(high.prediction([[1.0, 2.0]]), [[1, 2]])
    np.testing.assert_array_equal(high.quantile([[1.0, 2.0]], 0.9), [[1, 2]])


def test_trained_quantiles_do_not_cross():
    """The increments learn the quantiles of a known distribution."""
    x, y = np.zeros((2000, 1, 1)), np.random.default_rng(0).normal(3, 2, size=(2000, 1))
    loss = bf.Loss("ordered_pinball", quantiles=[0.1, 0.5, 0.9])
    net = bf.Network(1, 1, 3, dtype="float64", seed=0)
    net.fit(x, y, loss=loss, epochs=150, batch_size=2000, optimizer=bf.Adam(0.1), verbose=0)
    found = loss.quantile(net.predict(x[:1]), [0.1, 0.5, 0.9])[:, 0, 0]
    np.testing.assert_allclose(found, np.quantile(y, [0.1, 0.5, 0.9]), atol=0.1)


def gaussian(outputs, targets, weights):  # a function with the name of a loss
    return 0.0, 0 * outputs


WRONG = {
    "mean": (lambda: bf.Loss("mse").mean([[1.0]]), bf.ConfigError, "mean: .*with a distribution"),
    "draws of quantiles": (lambda: bf.Loss("pinball").sample([[1.0]]), bf.ConfigError, "sample: .*with a"),
    "a function": (lambda: bf.Loss(gaussian).mean([[1.0, 1.0]]), bf.ConfigError, "distribution"),
    "logits": (lambda: bf.Loss("cross_entropy").prediction([[1.0]]), bf.ConfigError, "logits"),
    "blocks": (lambda: bf.Loss("gaussian").mean(np.ones((2, 3))), bf.ShapeError, "multiple of 2.*got 3"),
    "one": (lambda: bf.Loss("laplace").quantile([[0, 0]], [0.5, 1.0]), bf.ConfigError, "q: .*below 1, got 1"),
    "percent": (lambda: bf.Loss("laplace").quantile([[0, 0]], 50), bf.ConfigError, "q: .*got 50"),
    "none": (lambda: bf.Loss("laplace").quantile([[0, 0]], []), bf.ConfigError, "at least one"),
    "ragged": (lambda: bf.Loss("laplace").quantile([[0, 0]], [[0.1, 0.2], [0.3]]), bf.ConfigError, "q: "),
    "text": (lambda: bf.Loss("laplace").quantile([[0, 0]], "0.5"), bf.ConfigError, "q: .*got '0.5'"),
    "outside": (lambda: bf.Loss("pinball", quantiles=0.9).quantile([[0]], 0.95), bf.ConfigError, "most 0.9"),
    "no numbers": (lambda: bf.Loss("laplace").mean(["a"]), bf.ConfigError, "outputs: expected an array"),
    "list": (lambda: bf.Loss("laplace").mean([np.ones((2, 2)), [[0, 1]]]), bf.ConfigError, "one by one"),
    "nan": (lambda: bf.Loss("laplace").mean([[np.nan, 0]]), bf.DivergedError, "outputs: expected finite"),
    "rate": (lambda: bf.Loss("poisson").mean([[800.0]]), bf.DivergedError, "mean: .*overflow"),
    "large counts": (lambda: bf.Loss("poisson").sample([[60.0]]), bf.DivergedError, "sample: .*NumPy"),
    "rng": (lambda: bf.Loss("laplace").sample([[0, 0]], "a"), bf.ConfigError, "seed"),
    "n": (lambda: bf.Loss("laplace").sample([[0, 0]], n=0), bf.ConfigError, "n: expected an integer"),
}  # fmt: skip


@pytest.mark.parametrize("call, error, words", WRONG.values(), ids=WRONG)
def test_wrong_calls(call, error, words):
    with pytest.raises(error, match=words):
        call()
