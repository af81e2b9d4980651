"""initial_state="trained": parameters with a gradient, where a sequence has no state of its own."""

import pickle
from typing import get_args

import numpy as np
import pytest
from support import cases
from support import reference as ref

import bptt_fast as bf
from bptt_fast import choices

TRAINED = dict(initial_state="trained")
STRUCTURES = {
    "one layer": dict(),
    "two layers": dict(num_layers=2),
    "both ways": dict(bidirectional=True),
    "both ways, two layers": dict(num_layers=2, bidirectional=True, head=(4,)),
}
LENGTHS = (4, 1, 3)


def problem(**case):
    return cases.Problem(**TRAINED | dict(lengths=LENGTHS, hidden_size=4) | case)


def blocks(net):
    return [k for k in net if k.startswith("initial_")]


@pytest.mark.parametrize("structure", STRUCTURES.values(), ids=STRUCTURES)
@pytest.mark.parametrize("form", cases.FORMS.values(), ids=cases.FORMS)
def test_gradient(form, structure):
    """Finite differences of every block; the oracle, on every instruction set, in both precisions."""
    for every in (True, False):
        p = problem(**form, **structure, every=every)
        p.check_core()
        expected = p.reference()
        for isa in cases.isas():
            for dtype in ("float64", "float32"):
                p.check_agreement(dtype, isa, expected=expected)


@pytest.mark.parametrize("form", cases.FORMS.values(), ids=cases.FORMS)
def test_oracle(form):
    hidden_size = 1 + form.get("proj_size", 1)
    problem(**form, hidden_size=hidden_size, bidirectional=True, lengths=(3, 1), every=True).check_reference()


@pytest.mark.parametrize("structure", STRUCTURES.values(), ids=STRUCTURES)
@pytest.mark.parametrize("form", cases.FORMS.values(), ids=cases.FORMS)
def test_blocks(form, structure):
    """A vector per layer, direction and state; together, in their order, the state before step 0."""
    p = problem(**form, **structure)
    net = p.network()
    assert {k: net[k].shape for k in net} == ref.blocks(p.desc)
    assert len(blocks(net)) == len(ref.suffixes(p.desc)) * len(ref.state_widths(p.desc))
    assert sum(net[k].size for k in blocks(net)) == net.state_size
    assert not any("initial_" in k for k in bf.Network(3, 4, 2))
    given = problem(**form, **structure, initial_state="zeros").network()
    given.load_state_dict({k: net[k] for k in given})
    x0 = ref.initial_state(p.desc, p.params)
    np.testing.assert_array_equal(net.predict(p.x), given.predict(p.x, x0=x0))
    np.testing.assert_array_equal(net.predict(p.x), net.predict(p.x, x0=x0))


@pytest.mark.parametrize("form", ("elman-tanh", "gru-before", "lstm-both"))
def test_predict_is_the_oracle(form):
    p = problem(**cases.FORMS[form], num_layers=2, every=True, lengths=(5, 2, 400))
    expected, final = ref.predict(p.desc, p.params, p.x, None, True)
    got, state = p.network().predict(p.x, return_state=True)
    for a, b in zip(got, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-10)
    np.testing.assert_allclose(state, final, rtol=0, atol=1e-10)


@pytest.mark.parametrize("init", get_args(choices.Init))
def test_a_trained_state_is_zero_until_it_learns(init):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(20, 6, 3)), rng.normal(size=(20, 2))
    net, plain = (bf.Network(3, 4, 2, seed=0, init=init, initial_state=word) for word in ("trained", "zeros"))
    assert all((net[k] == plain[k]).all() for k in plain)
    assert blocks(net) and not any(net[k].any() for k in blocks(net))
    np.testing.assert_array_equal(net.predict(x), plain.predict(x))
    net.fit(x, y, verbose=0)
    assert all((net[k] != 0).all() for k in blocks(net))


@pytest.mark.parametrize("name", ("sgd", "adam"))
@pytest.mark.parametrize("form", ("elman-tanh", "mlp-6-7", "gru-after", "lstm-both"))
def test_training_is_the_oracle(form, name):
    p = problem(**cases.FORMS[form], num_layers=2, every=True, lengths=(4, 1, 3, 6, 2), gain=0.5)
    words = dict(learning_rate=0.02, weight_decay=0.01)
    weights, oracle = dict(p.params), ref.Optimizer(name, **words)
    batches = [(p.x[i : i + 2], p.y[i : i + 2], None) for i in (0, 2, 4)]
    losses = [ref.train_epoch(p.desc, weights, oracle, batches, loss="mse", every=True) for _ in range(3)]
    net = p.network()
    optimizer = {"sgd": bf.SGD, "adam": bf.Adam}[name](**words)
    history = net.fit(p.x, p.y, epochs=3, batch_size=2, optimizer=optimizer, shuffle=False, verbose=0)
    assert history["loss"][0] == pytest.approx(np.average(losses[0], weights=(5, 9, 2)), rel=1e-11)
    for k, w in weights.items():
        assert abs(w - p.params[k]).max() > 1e-5, k
        assert abs(net[k] - w).max() <= 1e-10 * abs(w).max(), k


def test_x0_wins():
    """Then the trained state has no part in the result, and its gradient is zero."""
    p = problem(every=True, cell="lstm", activation=(), num_layers=2)
    net, plain = p.network(), problem(every=True, cell="lstm", activation=(), num_layers=2).network()
    for k in blocks(plain):
        plain[k] = 0.7
    x0 = np.random.default_rng(0).uniform(-0.9, 0.9, (3, net.state_size))
    value, grads = net.loss_and_grad(p.x, p.y, x0=x0, with_inputs=True)
    other, expected = plain.loss_and_grad(p.x, p.y, x0=x0, with_inputs=True)
    assert value == other
    for k in blocks(net):
        assert not grads[k].any()
    for k in set(grads) - {"x"}:
        np.testing.assert_array_equal(grads[k], expected[k])
    assert abs(grads["x0"]).min() > 0
    net.fit(p.x, p.y, x0=x0, verbose=0, optimizer=bf.SGD(0.1))
    for k in blocks(net):
        np.testing.assert_array_equal(net[k], p.params[k])


@pytest.mark.parametrize(
    "lengths", ((20,) * 64, tuple(1 + 7 * i % 40 for i in range(50))), ids=("equal", "ragged")
)
def test_threads(lengths):
    p = problem(
        hidden_size=64, input_size=24, every=True, lengths=lengths, cell="lstm", activation=(), num_layers=2
    )
    ends = []
    for threads in (1, 2, 3):
        net = p.network("float32")
        value, grads = net.loss_and_grad(p.x, p.y, threads=threads)
        losses = net.fit(p.x, p.y, threads=threads, verbose=0, batch_size=40)["loss"]
        ends.append((value, grads.flat.tobytes(), net.params.tobytes(), losses))
    assert ends[0] == ends[1] == ends[2]


@pytest.mark.parametrize("k1, k2", ((2, 5), (3, 3)))
def test_truncated(k1, k2):
    """Only passes that reach step 0 have a gradient for it."""
    p = problem(every=True, lengths=(11, 1, 6), cell="lstm", activation=(), num_layers=2)
    value, expected, _, _ = ref.truncated_loss_and_grad(
        p.desc, p.params, p.x, p.y, states=None, k1=k1, k2=k2, loss="mse", every=True
    )
    got_value, got = p.network().loss_and_grad(p.x, p.y, bptt=bf.TruncatedBPTT(k1, k2))
    assert got_value == pytest.approx(value, rel=1e-12)
    for k, grad in expected.items():
        assert abs(grad).max() > 0
        assert abs(got[k] - grad).max() <= 1e-10 * abs(grad).max(), k


def test_checkpointed():
    p = problem(every=True, lengths=(11, 1, 6), cell="gru", activation=())
    value, expected = p.network().loss_and_grad(p.x, p.y)
    got_value, got = p.network().loss_and_grad(p.x, p.y, bptt=bf.CheckpointedBPTT(4))
    assert got_value == value
    for k, grad in expected.items():
        assert abs(got[k] - grad).max() <= 1e-12 * abs(grad).max(), k


def test_saved_and_pickled(tmp_path):
    net = problem(every=True, num_layers=2).network("float32")
    net.save(tmp_path / "a")
    for again in (bf.load(tmp_path / "a"), pickle.loads(pickle.dumps(net))):
        assert again.description == net.description and again.keys() == net.keys()
        np.testing.assert_array_equal(again.params, net.params)


def test_wrong_calls():
    with pytest.raises(bf.ConfigError, match=r"initial_state.*zeros.*trained.*learned"):
        bf.Network(3, 4, 2, initial_state="learned")
    net = bf.Network(3, 4, 2, **TRAINED)
    with pytest.raises(bf.ConfigError, match=r"(?s)SlidingBPTT.*initial_state|initial_state.*SlidingBPTT"):
        net.fit(np.ones((20, 3)), np.ones((20, 2)), bptt=bf.SlidingBPTT(2), verbose=0)
