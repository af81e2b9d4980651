"""Initial parameters: what each rule promises, by name and by function, and that a seed repeats them."""

import copy
import math
import pickle

import numpy as np
import pytest

import bptt_fast as bf

GATES = {"elman": 1, "mlp": 1, "gru": 3, "lstm": 4}
CELLS = [
    dict(cell="elman", num_layers=2, bidirectional=True, head=(5,)),
    dict(cell="mlp", f=(9,), head=(5,)),
    dict(cell="gru", num_layers=2),
    dict(cell="gru", reset="before"),
    dict(cell="lstm", num_layers=2),
    dict(cell="lstm", peephole=True, proj_size=4),
]
WIDTH = 7


def network(**options):
    return bf.Network(
        **(dict(input_size=3, hidden_size=WIDTH, output_size=2, seed=1, dtype="float64") | options)
    )


def gates(net, name):
    return np.split(net[name], GATES[net.cell])


def named(net, *begin):
    found = [name for name in net if name.startswith(begin)]
    assert found
    return found


def recurrent(net):
    """Every gate of every recurrent matrix."""
    return [gate for name in named(net, "weight_hh") for gate in gates(net, name)]


def bound(shape):
    return math.sqrt(6 / sum(shape))


# ---- by name


@pytest.mark.parametrize("options", CELLS)
def test_the_default_is_that_of_pytorch(options):
    """Uniform in +-1/sqrt(H), inside f and in g in +-1/sqrt(fan in); the same numbers as ever."""
    net = network(**options)
    np.testing.assert_array_equal(net.params, network(**options, init="torch").params)
    random = np.random.default_rng(1)
    for name in net:
        inner = name.startswith(("f.", "head."))
        size = net[name.replace(".bias", ".weight")].shape[1] if inner else WIDTH
        np.testing.assert_array_equal(
            net[name], random.uniform(-1 / math.sqrt(size), 1 / math.sqrt(size), net[name].shape)
        )


@pytest.mark.parametrize("options", CELLS)
def test_orthogonal(options):
    net = network(**options, init="orthogonal")
    projections = [net[name] for name in net if name.startswith("weight_hr")]
    for gate in recurrent(net) + projections:
        small = gate if gate.shape[0] <= gate.shape[1] else gate.T
        np.testing.assert_allclose(small @ small.T, np.eye(len(small)), atol=1e-12)
    for name in net:
        if "bias" in name:
            assert not net[name].any()
        elif name.startswith(("weight_ih", "head", "f.")):
            parts = gates(net, name) if name.startswith("weight_ih") else [net[name]]
            for part in parts:
                limit = bound(part.shape)
                assert 0.5 * limit < abs(part).max() <= limit, name


def test_orthogonal_matrices_are_drawn_uniformly():
    """With the signs of R: the means of the matrices and of their traces are zero, both determinants come."""
    from bptt_fast.initialisation import orthogonal

    random = np.random.default_rng(0)
    drawn = np.array([orthogonal(3, 3, random) for _ in range(4000)])
    assert abs(drawn.mean(axis=0)).max() < 0.05
    assert abs(np.trace(drawn, axis1=1, axis2=2).mean()) < 0.07
    assert 0.45 < (np.linalg.det(drawn) > 0).mean() < 0.55
    assert orthogonal(5, 2, random).shape == (5, 2) and orthogonal(2, 5, random).shape == (2, 5)


@pytest.mark.parametrize("options", CELLS)
def test_glorot(options):
    net = network(**options, init="glorot")
    for name in net:
        if "bias" in name:
            assert not net[name].any()
        elif "peephole" not in name:
            gated = name.startswith(("weight_ih", "weight_hh"))
            for part in gates(net, name) if gated else [net[name]]:
                limit = bound(part.shape)
                assert 0.5 * limit < abs(part).max() <= limit, name


@pytest.mark.parametrize("options", CELLS)
def test_identity(options):
    net = network(**options, init="identity")
    for gate in recurrent(net):
        np.testing.assert_array_equal(gate, np.eye(*gate.shape))
    for name in named(net, "weight_ih"):
        assert 3e-4 < net[name].std() < 3e-3
    assert not any(net[name].any() for name in net if "bias" in name)


def test_an_irnn_remembers():
    """With relu and the identity a state stays as it is when nothing comes in."""
    net = network(init="identity", nonlinearity="relu")
    state = np.arange(1.0, WIDTH + 1)[None]
    _, end = net.predict(np.zeros((1, 100, 3)), x0=state, return_state=True)
    np.testing.assert_array_equal(end, state)


def test_peepholes_start_as_ever():
    for init in ("torch", "orthogonal", "glorot", "identity"):
        net = network(cell="lstm", peephole=True, init=init)
        assert 0.5 < abs(net["weight_peephole_l0"]).max() * math.sqrt(WIDTH) <= 1


# ---- radius and forget bias


@pytest.mark.parametrize("init", ("torch", "orthogonal", "glorot", "identity"))
@pytest.mark.parametrize("radius", (0.5, 1.0, 1.5))
@pytest.mark.parametrize("options", [c for c in CELLS if not c.get("f") and not c.get("proj_size")])
def test_spectral_radius(options, radius, init):
    net, plain = network(**options, init=init, spectral_radius=radius), network(**options, init=init)
    for gate, before in zip(recurrent(net), recurrent(plain), strict=True):
        assert abs(np.linalg.eigvals(gate)).max() == pytest.approx(radius, rel=1e-10)
        np.testing.assert_allclose(gate / gate[0, 0], before / before[0, 0], rtol=1e-9)
    for name in named(net, "weight_ih", "bias", "head"):
        np.testing.assert_array_equal(net[name], plain[name])


@pytest.mark.parametrize("init", ("torch", "orthogonal"))
@pytest.mark.parametrize("cell, gate", (("lstm", 1), ("gru", 1)))
def test_forget_bias(cell, gate, init):
    """Of the sum of both biases; the other gates are as they were."""
    net = network(cell=cell, num_layers=2, init=init, forget_bias=1.5)
    plain = network(cell=cell, num_layers=2, init=init)
    for layer in range(2):
        both = [gates(net, f"bias_{side}_l{layer}") for side in ("ih", "hh")]
        before = [gates(plain, f"bias_{side}_l{layer}") for side in ("ih", "hh")]
        np.testing.assert_array_equal(both[0][gate] + both[1][gate], 1.5)
        for other in set(range(GATES[cell])) - {gate}:
            for side in (0, 1):
                np.testing.assert_array_equal(both[side][other], before[side][other])
    for name in named(net, "weight", "head"):
        np.testing.assert_array_equal(net[name], plain[name])


@pytest.mark.parametrize("cell", ("lstm", "gru"))
def test_a_large_forget_bias_keeps_the_past(cell):
    state = np.full((1, network(cell=cell).state_size), 0.5)
    kept = []
    for bias in (-20.0, 20.0):
        net = network(cell=cell, forget_bias=bias)
        _, end = net.predict(np.zeros((1, 1, 3)), x0=state, return_state=True)
        kept.append(abs(end - state)[0, -WIDTH:].max())
    assert kept[1] < kept[0]
    assert cell == "lstm" or kept[1] < 1e-6


# ---- by function, and seeds


def test_a_function():
    seen = []

    def init(name, shape, random):
        seen.append((name, shape))
        return random.normal(0, 0.1, shape) if "weight" in name else np.zeros(shape)

    net = network(cell="gru", init=init, forget_bias=2.0)
    assert seen == [(name, net[name].shape) for name in net]
    random = np.random.default_rng(1)
    np.testing.assert_array_equal(net["weight_ih_l0"], random.normal(0, 0.1, net["weight_ih_l0"].shape))
    np.testing.assert_array_equal(gates(net, "bias_ih_l0")[1], 2.0)


@pytest.mark.parametrize(
    "init", ("torch", "orthogonal", "glorot", "identity", lambda name, shape, r: r.random(shape))
)
def test_seeds(init):
    one, same, other = (network(init=init, seed=seed, cell="lstm") for seed in (1, 1, 2))
    assert one.params.tobytes() == same.params.tobytes() != other.params.tobytes()
    again = bf.Network(**one.config())
    assert again.params.tobytes() == one.params.tobytes()
    single = network(init=init, seed=1, cell="lstm", dtype="float32")
    np.testing.assert_array_equal(single.params, one.params.astype(np.float32))


def constant(name, shape, random):
    return np.full(shape, 0.25)


@pytest.mark.parametrize("init", ("orthogonal", constant))
def test_saved_copied_and_sent(tmp_path, init):
    net = network(init=init, spectral_radius=0.9, cell="gru", forget_bias=1.0)
    for again in (copy.copy(net), copy.deepcopy(net)):
        assert again.params.tobytes() == net.params.tobytes() and again.config() == net.config()
    net.save(tmp_path / "m.safetensors")
    for again in (bf.load(tmp_path / "m.safetensors"), pickle.loads(pickle.dumps(net))):
        assert again.params.tobytes() == net.params.tobytes()
        assert again.description.init == ("orthogonal" if init == "orthogonal" else "torch")
        assert again.description.spectral_radius == 0.9


def test_a_lambda_is_not_pickled():
    net = network(init=lambda name, shape, random: np.full(shape, 0.25))
    again = pickle.loads(pickle.dumps(net))
    assert again.params.tobytes() == net.params.tobytes() and again.description.init == "torch"
    again = copy.deepcopy([net, net])
    assert again[0] is again[1] is not net and again[0].description.init is net.description.init


# ---- cells without a recurrent product


@pytest.mark.parametrize("cell, gates", (("mingru", 2), ("minlstm", 3), ("indrnn", 1)))
@pytest.mark.parametrize("init", ("torch", "orthogonal", "glorot", "identity"))
def test_cells_without_a_recurrent_product(cell, gates, init):
    """No recurrent matrix, one bias; u of "indrnn" in [0, 1) by every rule."""
    net = network(cell=cell, init=init, num_layers=2, hidden_size=200)
    assert net["weight_ih_l1"].shape == (gates * 200, 200)
    names = [name.removesuffix("_l0") for name in net if name.endswith("_l0")]
    assert names == ["weight_ih", *["weight_hh"][: cell == "indrnn"], "bias_ih"]
    for name in net:
        if name.startswith("weight_hh"):
            u = net[name]
            assert u.shape == (200,) and 0 <= u.min() < 0.1 and 0.9 < u.max() < 1


def test_the_forget_bias_of_a_minlstm():
    net = network(cell="minlstm", forget_bias=2.0)
    assert (net["bias_ih_l0"][:WIDTH] == 2).all() and (net["bias_ih_l0"][WIDTH:] != 2).all()


# ---- errors


WRONG = [
    (dict(init="orthogonl"), bf.ConfigError, "^init: expected one of 'torch'.*Did you mean 'orthogonal'"),
    (dict(init=3), bf.ConfigError, "^init: expected one of"),
    (dict(init=""), bf.ConfigError, "^init: expected one of"),
    (dict(init=lambda n, s, r: np.ones(4)), bf.ShapeError, r"^init\('weight_ih_l0'\): expected \(7, 3\)"),
    (dict(init=lambda n, s, r: np.inf), bf.ConfigError, r"^init\('weight_ih_l0'\): expected finite"),
    (dict(init=lambda n, s, r: None), bf.ConfigError, r"^init\('weight_ih_l0'\)"),
    (dict(spectral_radius=0), bf.ConfigError, "^spectral_radius: .* above 0"),
    (dict(spectral_radius=1, cell="mlp", f=(9,)), bf.ConfigError, r"square recurrent weights.*f=\(9,\)"),
    (dict(spectral_radius=1, cell="lstm", proj_size=3), bf.ConfigError, "square recurrent.*proj_size=3"),
    (dict(spectral_radius=1, init=lambda n, s, r: np.zeros(s)), bf.ConfigError, "radius 0.*another init"),
    (dict(forget_bias=1.0), bf.ConfigError, 'expected None .* got 1.  It is for cell="gru" or "lstm" or '),
    (dict(forget_bias=1.0, cell="mingru"), bf.ConfigError, '^forget_bias: expected None for cell="mingru"'),
    (dict(spectral_radius=1, cell="indrnn"), bf.ConfigError, '^spectral_radius: .*"indrnn".*no recurrent'),
    (dict(recurrent_dropout=0.2, cell="minlstm"), bf.ConfigError, '^recurrent_dropout: .*"minlstm"'),
    (dict(proj_size=2, cell="mingru"), bf.ConfigError, '^proj_size: expected 0 for cell="mingru", got 2'),
    (dict(nonlinearity="relu", cell="minlstm"), bf.ConfigError, '^nonlinearity: .*"minlstm"'),
    (dict(forget_bias=np.inf, cell="lstm"), bf.ConfigError, "^forget_bias: expected a finite number"),
]  # fmt: skip


@pytest.mark.parametrize("options, error, words", WRONG)
def test_wrong_arguments(options, error, words):
    with pytest.raises(error, match=words):
        network(**options)


def test_square_layers_of_an_mlp_have_a_radius():
    net = network(cell="mlp", f=(WIDTH,), spectral_radius=0.7)
    assert abs(np.linalg.eigvals(net["weight_hh_l0"])).max() == pytest.approx(0.7)
