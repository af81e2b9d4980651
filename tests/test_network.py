"""The Network object: parameters, views, initial values, predict, loss_and_grad."""

import copy
import pickle
import sys

import numpy as np
import pytest
from support import cases
from support import reference as ref

import bptt_fast as bf

SIZES = dict(input_size=3, hidden_size=5, output_size=2)
MORE = (dict(num_layers=2), dict(head=(4,)), dict(bidirectional=True))
FORMS = {  # keywords of Network for every form of a cell, each with something more
    name: {"nonlinearity" if k == "activation" else k: v for k, v in form.items()} | MORE[i % 3]
    for i, (name, form) in enumerate(cases.FORMS.items())
}
MLP = dict(cell="mlp", f=(6, 7), nonlinearity=("sigmoid", "relu", "tanh"), head=(4,))


def oracle_run(net, problem, every):
    weights = {k: np.asarray(net[k], float) for k in net}
    return ref.predict(net._desc, weights, problem.x, problem.state, every)


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_parameters(form):
    """Views share memory with params, under the oracle's names and shapes, and together are params."""
    net = bf.Network(**SIZES, **form, seed=0)
    shapes = ref.blocks(net._desc)
    assert {k: net[k].shape for k in net} == shapes
    assert net.num_parameters == net.params.size == sum(int(np.prod(s)) for s in shapes.values())
    np.testing.assert_array_equal(np.concatenate([net[k].ravel() for k in net]), net.params)
    net.params[:] = np.arange(net.params.size)
    assert all(np.shares_memory(net[k], net.params) for k in net)
    net["weight_ih_l0"][0, 0] = -7
    assert -7 in net.params


def test_assignment_is_checked():
    net = bf.Network(**SIZES, seed=0)
    net["bias_hh_l0"] = [1, 2, 3, 4, 5]
    np.testing.assert_array_equal(net["bias_hh_l0"], [1, 2, 3, 4, 5])
    before = net.params.copy()
    with pytest.raises(bf.ShapeError, match=r"bias_hh_l0.*\(5,\).*\(4,\)"):
        net["bias_hh_l0"] = np.ones(4)
    with pytest.raises(KeyError, match=r"weight_xx.*weight_ih_l0|weight_ih_l0.*weight_xx"):
        net["weight_xx"] = np.ones(4)
    with pytest.raises(KeyError, match="weight_xx"):
        net["weight_xx"]
    np.testing.assert_array_equal(net.params, before)


def test_state_dict():
    net, other = (bf.Network(**SIZES, **MLP, seed=s) for s in (0, 1))
    state = net.state_dict()
    assert not any(np.shares_memory(a, net.params) for a in state.values())
    other.load_state_dict(state)
    np.testing.assert_array_equal(other.params, net.params)


def test_wrong_state_dict_changes_nothing():
    net, other = (bf.Network(**SIZES, seed=s) for s in (0, 1))
    before, state = net.params.copy(), other.state_dict()
    missing = {k: v for k, v in state.items() if k != "head.0.bias"}
    for wrong, text in (
        (missing, "head.0.bias"),
        (state | {"extra": np.ones(3)}, "extra"),
        (state | {"head.0.bias": np.ones(3)}, r"head.0.bias.*\(2,\).*\(3,\)"),
        (state | {"head.0.bias": ["a", "b"]}, "head.0.bias"),
    ):
        with pytest.raises((bf.ShapeError, bf.ConfigError, KeyError), match=text):
            net.load_state_dict(wrong)
        np.testing.assert_array_equal(net.params, before)
    net.load_state_dict(missing | {"extra": np.ones(3)}, strict=False)
    np.testing.assert_array_equal(net["weight_ih_l0"], other["weight_ih_l0"])
    np.testing.assert_array_equal(net["head.0.bias"], before[-2:])


def test_initial_values():
    """Uniform in 1/sqrt(H) for the cells, 1/sqrt(fan-in) for the inner layers and g; seeded."""
    net = bf.Network(4, 64, 32, cell="mlp", f=(50,), head=(40,), seed=3)
    fan_in = {"f.1": 50, "head.0": 64, "head.1": 40}
    for name in net:
        bound = 1 / np.sqrt(next((n for k, n in fan_in.items() if name.startswith(k)), 64))
        values = net[name]
        assert abs(values).max() <= bound, name
        assert abs(values).max() > 0.85 * bound and abs(values.mean()) < 4 * bound / np.sqrt(
            3 * values.size
        ), name
        assert len(np.unique(values)) > 0.99 * values.size, name
    same, other, unseeded = (
        bf.Network(4, 64, 32, cell="mlp", f=(50,), head=(40,), seed=s) for s in (3, 4, None)
    )
    np.testing.assert_array_equal(net.params, same.params)
    assert (net.params != other.params).all() or (net.params == other.params).mean() < 0.01
    assert (net.params == unseeded.params).mean() < 0.01


def test_repr():
    """It shows the cell, the sizes, every block with its shape, and how many parameters there are."""
    net = bf.Network(**SIZES, **MLP, seed=0)
    text = repr(net)
    for name in net:
        assert name in text
        assert " x ".join(map(str, net[name].shape)) in text
    for word in ("mlp", "float32", f"{net.num_parameters:,}", "3 -> 5 -> 2"):
        assert word in text, word


@pytest.mark.parametrize("readout", ("last", "every"))
@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_predict_is_the_oracle(form, readout):
    """Either readout of either network, the final state, several batches."""
    net = bf.Network(**SIZES, **form, dtype="float64", readout=readout, seed=0)
    problem = cases.Problem(**net._desc, lengths=(6,) * 5)
    x = np.array(problem.x)
    for wanted in ("last", "every"):
        expected, final = oracle_run(net, problem, wanted == "every")
        got, state = net.predict(x, readout=wanted, x0=problem.state, batch_size=2, return_state=True)
        np.testing.assert_allclose(got, np.array(expected).reshape(got.shape), rtol=0, atol=1e-12)
        np.testing.assert_allclose(state, final, rtol=0, atol=1e-12)
    np.testing.assert_array_equal(net.predict(x), net.predict(x, readout=readout))
    np.testing.assert_array_equal(net.predict(x), net.predict(x, x0=np.zeros_like(problem.state)))


def test_predict_carries_a_state_over_cuts():
    net = bf.Network(**SIZES, dtype="float64", cell="lstm", readout="every", seed=0)
    x = np.random.default_rng(0).standard_normal((50, 3))
    whole = net.predict(x)
    first, state = net.predict(x[:20], return_state=True)
    second = net.predict(x[20:], x0=state)
    np.testing.assert_allclose(np.concatenate([first, second]), whole, rtol=1e-12)


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_predict_a_long_series(form):
    """As long as it is, whatever blocks it is cut into inside."""
    net = bf.Network(**SIZES, **form, dtype="float64", seed=0)
    problem = cases.Problem(**net._desc, lengths=(3000,))
    expected, _ = oracle_run(net, problem, True)
    np.testing.assert_allclose(
        net.predict(problem.x[0], readout="every", x0=problem.state), expected[0], atol=1e-11
    )


@pytest.mark.parametrize("readout", ("last", "every"))
@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_loss_and_grad_is_the_oracle(form, readout):
    net = bf.Network(**SIZES, **form, dtype="float64", readout=readout, seed=0)
    problem = cases.Problem(
        **net._desc, lengths=(6, 6, 6), loss="huber", every=readout == "every", weighted=True
    )
    problem.params = {k: np.array(net[k]) for k in net}
    x, y = np.array(problem.x), np.array(problem.y)
    weight = np.array(problem.weight)
    loss, grads = net.loss_and_grad(
        x, y if readout == "every" else y[:, 0], loss="huber", x0=problem.state, with_inputs=True,
        sample_weight=weight if readout == "every" else weight[:, 0],
    )  # fmt: skip
    value, expected = problem.reference()
    assert loss == pytest.approx(value, rel=1e-12)
    assert grads["x"].shape == x.shape and grads["x0"].shape == problem.state.shape
    expected |= {"x": expected["x"].reshape(x.shape), "x0": expected.pop("state")}
    assert set(grads.keys()) == set(expected)
    for name, grad in expected.items():
        np.testing.assert_allclose(grads[name], grad, rtol=0, atol=1e-11 * abs(grad).max(), err_msg=name)
    assert all(np.shares_memory(grads[name], grads.flat) for name in net)
    assert grads.flat.shape == net.params.shape


def test_gradient_of_lists():
    net = bf.Network(**SIZES, readout="every", dtype="float64", seed=0)
    problem = cases.Problem(**net._desc, lengths=cases.RAGGED, every=True)
    problem.params = {k: np.array(net[k]) for k in net}
    _, grads = net.loss_and_grad(problem.x, problem.y, x0=problem.state, with_inputs=True)
    _, expected = problem.reference()
    assert [a.shape for a in grads["x"]] == [a.shape for a in problem.x]
    np.testing.assert_allclose(np.concatenate(grads["x"]), expected["x"], rtol=0, atol=1e-13)


def test_a_batch_without_targets_changes_nothing():
    """A minibatch whose weights are all 0 has no loss and no gradient; it is no division by zero either."""
    rng = np.random.default_rng(0)
    x, y, w = rng.standard_normal((8, 5, 3)), rng.standard_normal((8, 2)), [0, 0, 1, 1, 1, 1, 1, 1]
    nets = [bf.Network(**SIZES, dtype="float64", seed=0) for _ in range(2)]
    options = dict(optimizer=bf.SGD(0.1), batch_size=2, shuffle=False, verbose=0)
    nets[0].fit(x, y, sample_weight=w, **options)
    nets[1].fit(x[2:], y[2:], **options)
    np.testing.assert_array_equal(nets[0].params, nets[1].params)
    assert nets[0].evaluate(x, y, sample_weight=w, batch_size=1) == pytest.approx(
        nets[0].evaluate(x[2:], y[2:]), rel=1e-13
    )


@pytest.mark.parametrize(
    "copied",
    (copy.copy, copy.deepcopy, lambda net: pickle.loads(pickle.dumps(net))),
    ids=("copy", "deep", "pickle"),
)
def test_copies(copied):
    """Equal to the bit and independent."""
    net = bf.Network(**SIZES, **MLP, seed=0)
    other = copied(net)
    np.testing.assert_array_equal(other.params, net.params)
    assert repr(other) == repr(net)
    other.params[:] = 0
    other["head.0.bias"][:] = 1
    assert (net.params != 0).all() and other.params.sum() == net["head.0.bias"].size


def test_evaluate():
    net = bf.Network(**SIZES, dtype="float64", seed=0)
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((7, 5, 3)), rng.standard_normal((7, 2))
    expected = ((net.predict(x) - y) ** 2).mean()
    assert net.evaluate(x, y) == pytest.approx(expected, rel=1e-12)
    assert net.evaluate(x, y) == pytest.approx(net.loss_and_grad(x, y)[0], rel=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("isa", cases.isas())
def test_an_instance_can_be_forced(isa, python):
    net = bf.Network(**SIZES, seed=0)
    x = np.ones((2, 3, 3))
    np.testing.assert_allclose(net.predict(x, isa=isa), net.predict(x), rtol=1e-5)
    found = python("-c", "import bptt_fast as bf; bf.show_config()", env={"BPTT_FAST_ISA": isa})
    assert found.returncode == 0, found.stderr
    assert isa in found.stdout


def test_a_wrong_environment_is_an_error_in_words(python):
    code = "import bptt_fast as bf; bf.Network(1, 2, 1).predict([[[1.0]]])"
    for name, value in (("BPTT_FAST_ISA", "sse9"), ("BPTT_FAST_NUM_THREADS", "many")):
        found = python("-c", code, env={name: value})
        assert found.returncode == 1
        last = found.stderr.strip().splitlines()[-1]
        assert name in last and value in last, last


def test_show_config(capsys):
    bf.show_config()
    text = capsys.readouterr().out
    for word in (bf.__version__, np.__version__, "threads", *cases.isas()):
        assert word in text, word


def test_under_a_debugger():
    """A trace function, which on Python 3.12 adds the variables of a comprehension to locals()."""

    def trained():
        net = bf.Network(1, 2, 1, seed=0)
        net.fit(np.ones((1, 3, 1)), np.ones((1, 1)), verbose=0)
        return net.params

    def trace(frame, event, argument):
        return trace

    expected, before = trained(), sys.gettrace()
    sys.settrace(trace)
    try:
        found = trained()
    finally:
        sys.settrace(before)
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("readout", ("last", "every"))
def test_predictions_in_chunks(readout):
    """Activations of more than 4 MB are computed in chunks of steps, to the bit as those of a few rows."""
    net = bf.Network(3, 48, 2, cell="lstm", num_layers=2, readout="every", seed=0)
    x = np.random.default_rng(0).normal(size=(40, 150, 3)).astype(np.float32)
    lengths = np.arange(150, 110, -1)
    whole, end = net.predict(x, lengths=lengths, readout=readout, return_state=True)
    parts, ends = net.predict(x, lengths=lengths, readout=readout, return_state=True, batch_size=2)
    assert (whole == parts).all() and (end == ends).all()
