"""Losses with parameters, from the user's argument to the C core, and what the table of losses says."""

import itertools
from functools import partial

import numpy as np
import pytest
from support import cases
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
