"""Diagnostics against the NumPy oracle, or differences of the public interface; pictures have labels."""

import math

import numpy as np
import pytest
from support import reference as ref

import bptt_fast as bf
from bptt_fast import diagnostics

RANDOM = np.random.default_rng(1)
T = 12
X = RANDOM.normal(size=(3, T, 2))
Y = RANDOM.normal(size=(3, 2))
FORMS = {
    "elman": {},
    "relu": {"nonlinearity": "relu"},
    "mlp": {"cell": "mlp", "f": (4,), "nonlinearity": ("sigmoid", "tanh")},
    "gru": {"cell": "gru"},
    "gru-before": {"cell": "gru", "reset": "before"},
    "lstm": {"cell": "lstm"},
    "lstm-peephole": {"cell": "lstm", "peephole": True, "proj_size": 3},
    "mingru": {"cell": "mingru"},
    "minlstm": {"cell": "minlstm"},
    "indrnn": {"cell": "indrnn"},
    "ctrnn": {"cell": "ctrnn", "tau": (1, 2, 3, 4, 5), "recurrent_noise": 0.3, "input_noise": 0.2},
    "ctrnn-potential": {
        "cell": "ctrnn",
        "equation": "potential",
        "tau": 2,
        "nonlinearity": "sigmoid",
        "train_tau": True,
    },
    "two layers": {"cell": "lstm", "num_layers": 2, "dropout": 0.5},
}


def network(gain=2.0, **words):
    net = bf.Network(**({"input_size": 2, "hidden_size": 5, "output_size": 2, "seed": 3} | words))
    net.params *= gain
    return net


def oracle(net):
    """The network in the words of the oracle."""
    d = ref.DESC | net.desc()
    return d, {name: value.astype(float) for name, value in net.state_dict().items()}


def oracle_states(net, x):
    d, p = oracle(net)
    states = [np.zeros(net.state_size)]
    for row in x:
        states.append(ref.layers_forward(d, p, row[None], states[-1], ref.no_masks(d, 1))[1])
    return np.array(states)


# ---- gradient flow


@pytest.mark.parametrize("form", FORMS)
def test_gradient_flow_is_the_oracles(form):
    net = network(**FORMS[form])
    d, p = oracle(net)
    flow = diagnostics.gradient_flow(net, X, Y)
    assert list(flow.lag) == list(range(1, T + 1)) and flow.norm.shape == (3, T)
    for i in range(3):
        states = oracle_states(net, X[i])
        for j, lag in enumerate(flow.lag):
            *_, dstate = ref.loss_and_grad(d, p, [X[i, T - lag :]], [Y[i][None]], loss="mse", every=False,
                                           states=[states[T - lag]])  # fmt: skip
            assert flow.norm[i, j] == pytest.approx(np.linalg.norm(dstate), rel=1e-9, abs=1e-300)


def test_gradient_flow_of_ragged_sequences_and_chosen_lags():
    net = network()
    parts = [X[0], X[1, :5]]
    flow = diagnostics.gradient_flow(net, parts, Y[:2], lags=[1, 5, 8])
    assert np.isnan(flow.norm[1, 2]) and np.isfinite(flow.norm[0]).all()
    alone = diagnostics.gradient_flow(net, X[1, :5], Y[1], lags=5)
    assert flow.norm[1, :2] == pytest.approx(alone.norm[0, [0, 4]])
    boxed = np.empty(2, dtype=object)
    boxed[:] = parts
    again = diagnostics.gradient_flow(net, boxed, Y[:2], lags=[1, 5, 8])
    assert np.array_equal(again.norm, flow.norm, equal_nan=True)
    padded = diagnostics.gradient_flow(net, X[:2], Y[:2], lags=[1, 5, 8], lengths=[T, 5])
    assert np.array_equal(padded.norm, flow.norm, equal_nan=True)


def test_gradient_flow_with_readout_every_is_that_of_the_last_step():
    last, every = network(), network(readout="every")
    y = np.zeros((3, T, 2))
    y[:, -1] = Y
    expected = diagnostics.gradient_flow(last, X, Y).norm
    assert np.array_equal(diagnostics.gradient_flow(every, X, y).norm, expected)
    assert diagnostics.gradient_flow(every, X[0], y[0]).norm == pytest.approx(expected[:1])


def test_gradient_flow_with_classes():
    flow = diagnostics.gradient_flow(network(), X, np.array([0, 1, 1]), loss="cross_entropy")
    assert (flow.norm > 0).all()


@pytest.mark.parametrize("factor", [0.5, 1.25])
def test_the_factor_of_a_linear_network_is_its_weight(factor):
    net = bf.Network(1, 1, 1, nonlinearity="linear", seed=0)
    net["weight_hh_l0"] = factor
    assert diagnostics.gradient_flow(net, X[:, :, :1], Y[:, 0]).factor == pytest.approx(factor)


def test_a_trained_initial_state_is_where_a_run_begins():
    net = network(cell="lstm", initial_state="trained")
    net["initial_h_l0"], net["initial_c_l0"] = 0.5, -0.5
    start = diagnostics.states(net, X[0])[0]
    assert np.array_equal(start, np.repeat([0.5, -0.5], 5))
    flows = (diagnostics.gradient_flow(net, X, Y, x0=x0).norm for x0 in (None, start))
    assert np.array_equal(*flows)


# ---- dynamics


@pytest.mark.parametrize("form", FORMS)
def test_states_are_the_oracles(form):
    net = network(**FORMS[form])
    assert diagnostics.states(net, X[0]) == pytest.approx(oracle_states(net, X[0]), rel=1e-9, abs=1e-12)


def test_states_of_several_sequences():
    net = network(cell="lstm")
    starts = np.random.default_rng(1).normal(size=(len(X), net.state_size))
    each = [diagnostics.states(net, x, x0=start) for x, start in zip(X, starts, strict=True)]
    assert diagnostics.states(net, X, x0=starts) == pytest.approx(np.stack(each), rel=1e-12, abs=1e-15)
    assert diagnostics.states(net, X[:1]).shape == (1, T + 1, net.state_size)
    first, second = diagnostics.states(net, [X[0], X[1, :4]], x0=starts[:2])
    assert first == pytest.approx(each[0], rel=1e-12, abs=1e-15)
    assert second == pytest.approx(each[1][:5], rel=1e-12, abs=1e-15)


def test_results_are_short_in_print():
    net = network()
    found = diagnostics.fixed_points(net, [0, 0])
    results = [
        found,
        diagnostics.gradient_flow(net, X, Y),
        diagnostics.dynamics(net, X[0]),
        diagnostics.conditioning(net, X),
        diagnostics.error_surface(net, X, Y, points=3),
    ]
    for result in results:
        lines = repr(result).splitlines()
        assert lines[0].startswith(f"{type(result).__name__}(") and max(map(len, lines)) < 110
    assert len(repr(found).splitlines()) == 2 + len(found)
    assert f"{found.counts[0]:6}" in repr(found) and "rank" in repr(results[3])
    none = diagnostics.fixed_points(net, [0, 0], found.points + 0.5, tolerance=1e-300)
    assert len(none) or repr(none) == f"FixedPoints(0 from {len(none.starts)} starts)"


@pytest.mark.parametrize("form", FORMS)
def test_jacobians_are_gradients(form):
    """Row i is the gradient of number i of the state, by differences of the oracle with another step."""
    net = network(**FORMS[form])
    d, p = oracle(net)
    states = oracle_states(net, X[0])
    found = diagnostics.state_jacobians(net, X[0])
    for t in range(T):
        for j in range(net.state_size):
            moved = np.zeros(net.state_size)
            moved[j] = 1e-5
            above, below = (
                ref.layers_forward(d, p, X[0, t : t + 1], states[t] + s * moved, ref.no_masks(d, 1))[1]
                for s in (1, -1)
            )
            assert found[t, :, j] == pytest.approx((above - below) / 2e-5, rel=1e-5, abs=1e-8)


def test_dynamics_of_an_elman_network():
    net = network(dtype="float64")
    h, w = diagnostics.states(net, X[0]), net["weight_hh_l0"]
    jacobians = (1 - h[1:, :, None] ** 2) * w
    found = diagnostics.dynamics(net, X[0], skip=2)
    assert diagnostics.state_jacobians(net, X[0]) == pytest.approx(jacobians, rel=1e-8, abs=1e-9)
    radius = [max(abs(np.linalg.eigvals(j))) for j in jacobians]
    assert found.spectral_radius == pytest.approx(np.array(radius), rel=1e-6)
    assert found.gain == pytest.approx(np.array([np.linalg.svd(j)[1][0] for j in jacobians]), rel=1e-6)
    assert len(found.exponents) == T and found.lyapunov == pytest.approx(found.exponents[2:].mean())


def test_lyapunov_exponents_that_are_known():
    linear = bf.Network(1, 2, 1, nonlinearity="linear", seed=0)
    linear["weight_hh_l0"] = [[0.9, 0.3], [0.0, 0.4]]
    assert diagnostics.dynamics(linear, np.zeros((300, 1))).lyapunov == pytest.approx(math.log(0.9), abs=1e-3)
    # relu and a tent: h' = 1 - 2 |h - 1/2| on [0, 1], whose exponent is log 2
    tent = bf.Network(1, 1, 1, cell="mlp", f=(2,), nonlinearity=("relu", "linear"), seed=0)
    tent["weight_ih_l0"], tent["weight_hh_l0"] = 0, [[1], [1]]
    tent["bias_ih_l0"], tent["bias_hh_l0"] = [0, -0.5], 0
    tent["f.1.weight_l0"], tent["f.1.bias_l0"] = [[1.9999, -3.9998]], 0
    found = diagnostics.dynamics(tent, np.zeros((2000, 1)), x0=[0.1234])
    assert found.lyapunov == pytest.approx(math.log(1.9999), abs=1e-6)


def test_a_dead_state_forgets_everything():
    net = network(nonlinearity="relu")
    net["bias_ih_l0"] = -100
    assert diagnostics.dynamics(net, X[0]).lyapunov == -np.inf


# ---- fixed points


def bistable(bias=0.0, units=2):
    """Units h = tanh(2 h + bias) on their own: a flip-flop for each."""
    net = bf.Network(1, units, 1, seed=0)
    net.params[:] = 0
    net["weight_hh_l0"], net["bias_ih_l0"] = 2 * np.eye(units), bias
    return net


def test_fixed_points_of_two_flip_flops():
    """h = tanh(2 h) has the solutions 0 and +-m: nine points, of which four are stable."""
    m = 0.9575040240772687
    found = diagnostics.fixed_points(bistable(), [0.0])
    assert len(found) == 9 and found.counts.sum() == len(found.starts) == 100 and found.q.max() < 1e-25
    known = np.array([(a, b) for a in (-m, 0, m) for b in (-m, 0, m)])
    order = np.lexsort(found.points.round(6).T[::-1])
    assert found.points[order] == pytest.approx(known, abs=1e-12)
    slopes = 2 * (1 - known**2)
    assert found.jacobians[order] == pytest.approx(np.array([np.diag(row) for row in slopes]), abs=1e-11)
    assert found.eigenvalues[order].real == pytest.approx(-np.sort(-slopes, axis=1), abs=1e-11)
    assert list(found.unstable[order]) == [0, 1, 0, 1, 2, 1, 0, 1, 0]
    assert list(found.stable) == list(found.unstable == 0)
    assert found.trajectories.shape == (100, 51, 2)
    ends = found.trajectories[:, -1]
    assert np.abs(ends - np.sign(ends) * m).max() < 1e-3


@pytest.mark.parametrize("form", FORMS)
def test_fixed_points_are_the_oracles(form):
    net = network(3.0, **FORMS[form])
    d, p = oracle(net)
    x = np.array([0.3, -0.2])
    found = diagnostics.fixed_points(net, x)
    assert len(found)
    for point, jacobian in zip(found.points, found.jacobians, strict=True):
        after = ref.layers_forward(d, p, x[None], point, ref.no_masks(d, 1))[1]
        assert after == pytest.approx(point, abs=1e-7)
        run = diagnostics.state_jacobians(net, x[None], x0=point)
        assert jacobian == pytest.approx(run[0], rel=1e-12, abs=1e-14)
    again = diagnostics.fixed_points(net, x, found.points + 1e-4)
    assert again.points == pytest.approx(found.points, abs=1e-6)


def test_a_slow_point_is_found_by_its_tolerance():
    """Just behind the fold at which a stable point and a saddle of h = tanh(2 h - b) meet."""
    fold = math.sqrt(0.5)
    net = bistable(2 * fold * -1 + math.atanh(fold) - 0.01, units=1)
    assert diagnostics.fixed_points(net, [0.0]).points[:, 0] == pytest.approx([-0.98706], abs=1e-5)
    slow = diagnostics.fixed_points(net, [0.0], tolerance=1e-3)
    assert len(slow) == 2
    at = np.argmax(slow.q)
    assert slow.points[at, 0] == pytest.approx(fold, abs=0.02) and 1e-6 < slow.q[at] < 1e-4


def test_a_line_of_fixed_points():
    net = bf.Network(1, 2, 1, nonlinearity="linear", seed=0)
    net.params[:] = 0
    net["weight_hh_l0"] = [[1.0, 0.0], [0.0, 0.5]]
    found = diagnostics.fixed_points(net, [0.0], distance=0.1)
    assert 10 < len(found) < 100 and np.abs(found.points[:, 1]).max() < 1e-12
    assert not found.stable.any() and not found.unstable.any()
    gaps = np.diff(np.sort(found.points[:, 0]))
    assert gaps.min() > 0.1 and found.counts.sum() == 100


def test_runs_that_diverge_and_points_that_are_far():
    net = bf.Network(1, 1, 1, nonlinearity="linear", seed=0)
    net.params[:] = 0
    net["bias_ih_l0"] = 1
    net["weight_hh_l0"] = 2.0  # the point -1
    found = diagnostics.fixed_points(net, [0.0], [[0.5], [-1e308], [3.0]])
    assert found.points == pytest.approx(np.array([[-1.0]]), abs=1e-9) and list(found.counts) == [2]
    assert np.isfinite(found.trajectories[:, -1, 0]).tolist() == [True, False, True]
    net["weight_hh_l0"] = 1 - 2.0**-20  # the point 2^20
    assert len(diagnostics.fixed_points(net, [0.0])) == 0
    found = diagnostics.fixed_points(net, [0.0], [[1e5], [-3e5]])
    assert found.points == pytest.approx(np.array([[2.0**20]]), rel=1e-6)


# ---- saturation


@pytest.mark.parametrize("form", FORMS)
def test_saturation_counts_what_the_oracle_saves(form):
    net = network(gain=6.0, **FORMS[form])
    d, p = oracle(net)
    x, names = (
        X[0],
        {
            "gru": ["r", "z"],
            "lstm": ["i", "f", "o", "c"],
            "mlp": ["f.0", "h"],
            "mingru": ["z"],
            "minlstm": ["f", "i"],
        }.get(net.cell, ["h"]),
    )
    found = diagnostics.saturation(net, X[:1], threshold=0.9)
    assert list(found) == [f"{name}_l{layer}" for layer in range(d["num_layers"]) for name in names]
    _, _, tape = ref.layers_forward(d, p, x, np.zeros(net.state_size), ref.no_masks(d, T))
    for layer in range(d["num_layers"]):
        saved = [step[3] for step in tape[f"_l{layer}"]]
        at = {
            "gru": {"r": 1, "z": 2},
            "lstm": {"i": 1, "f": 2, "o": 4, "c": 5},
            "mingru": {"z": 0},
            "minlstm": {"f": 0, "i": 1},
            "indrnn": {"h": 0},
        }.get(net.cell)
        for name in names:
            if at:
                values = np.array([step[at[name]] for step in saved])
                values = np.tanh(values) if name == "c" else values
            else:
                values = np.array([step[1][0 if name == "f.0" else -1] for step in saved])
            kind = d["activation"][0 if name == "f.0" else -1] if d["activation"] else "sigmoid"
            kind = "tanh" if name == "c" else kind
            flat = {
                "tanh": abs(values) > 0.9,
                "sigmoid": (values > 0.9) | (values < 0.1),
                "relu": values == 0,
            }[kind]
            assert found[f"{name}_l{layer}"] == pytest.approx(flat.mean(axis=0))
    assert any(share.max() > 0 for share in found.values())


def test_linear_units_never_saturate():
    assert not diagnostics.saturation(network(gain=1, nonlinearity="linear"), X)["h_l0"].any()


# ---- conditioning


def test_conditioning_is_that_of_the_gradients():
    net = network(gain=1.0, output_size=1, dtype="float64")
    x = RANDOM.normal(size=(60, 4, 2))
    rows = []
    for row in x:  # the gradient of an output is that of (output - y)^2 with output - y = 1/2
        _, grads = net.loss_and_grad(row, net.predict(row) - 0.5)
        rows.append(grads.flat)
    expected = np.linalg.svd(np.array(rows), compute_uv=False)
    found = diagnostics.conditioning(net, x)
    assert found.singular_values == pytest.approx(expected, rel=1e-6, abs=1e-9 * expected[0])
    assert found.parameters == net.num_parameters and found.condition > 1e10
    assert found.rank == net.num_parameters - net.hidden_size, "two biases do the same"
    assert diagnostics.conditioning(net, x[:3]).condition == math.inf
    with pytest.raises(bf.ConfigError, match="at most 2000 parameters"):
        diagnostics.conditioning(bf.Network(1, 64, 1, seed=0), x)


# ---- the error surface


def test_surfaces_hold_the_losses_of_the_networks():
    net, other, third = network(), network(seed=4), network(seed=5)
    before = net.params.copy()
    loss = [n.evaluate(X, Y) for n in (net, other, third)]
    found = diagnostics.error_surface(net, X, Y, points=5)
    assert found.loss[2, 2] == pytest.approx(loss[0]) and found.loss.shape == (5, 5)
    found = diagnostics.error_surface(net, X, Y, along=other, points=5)
    assert list(found.a) == [-0.5, 0, 0.5, 1, 1.5]
    assert (found.loss[2, 1], found.loss[2, 3]) == pytest.approx((loss[0], loss[1]))
    found = diagnostics.error_surface(net, X, Y, along=[other, third], points=5)
    assert (found.loss[1, 1], found.loss[1, 3], found.loss[3, 1]) == pytest.approx(tuple(loss))
    weights = ("weight_hh_l0", 1, 2), ("bias_ih_l0", 3)
    found = diagnostics.error_surface(net, X, Y, along=weights, points=3, span=1)
    moved = network()
    moved["weight_hh_l0"][1, 2] -= 1
    moved["bias_ih_l0"][3] += 1
    assert found.loss[2, 0] == pytest.approx(moved.evaluate(X, Y), rel=1e-5)
    assert found.marks["network"] == pytest.approx((net["weight_hh_l0"][1, 2], net["bias_ih_l0"][3]))
    assert np.array_equal(net.params, before)


def test_surfaces_are_seeded_and_take_options():
    net = network()
    one, same, other = (diagnostics.error_surface(net, X, Y, points=3, seed=s).loss for s in (0, 0, 1))
    assert np.array_equal(one, same) and not np.array_equal(one, other)
    mae = diagnostics.error_surface(net, X, Y, points=3, loss="mae")
    assert mae.loss[1, 1] == pytest.approx(net.evaluate(X, Y, loss="mae"))


def test_where_the_loss_is_not_finite():
    net = network(nonlinearity="linear")
    with np.errstate(all="ignore"):
        found = diagnostics.error_surface(net, X * 1e20, Y, span=1e20, points=3)
    assert found.loss[0, 0] == math.inf


# ---- error messages


@pytest.mark.parametrize(
    "call, text",
    [
        (lambda: diagnostics.gradient_flow(3, X, Y), "net: expected a Network"),
        (lambda: diagnostics.gradient_flow(network(bidirectional=True), X, Y), "bidirectional=True"),
        (lambda: diagnostics.gradient_flow(network(), X, Y, lags=T + 1), "lags: expected at most 12"),
        (lambda: diagnostics.gradient_flow(network(), X, Y, lags=[0]), "lags[0]: expected an integer"),
        (lambda: diagnostics.gradient_flow(network(), X, Y[:2]), "y: expected (3, 2)"),
        (
            lambda: diagnostics.saturation(network(), bf.Sequences.windows(X[0], 3)),
            "x: expected sequences, got windows",
        ),
        (lambda: diagnostics.dynamics(network(), X), "x: expected one series (T, I)"),
        (lambda: diagnostics.dynamics(network(), X[0], skip=T), "skip: expected at most 11"),
        (lambda: diagnostics.fixed_points(3, [0, 0]), "net: expected a Network"),
        (lambda: diagnostics.fixed_points(network(bidirectional=True), [0, 0]), "bidirectional=True"),
        (lambda: diagnostics.fixed_points(network(), X[0]), "x: expected (2,)"),
        (lambda: diagnostics.fixed_points(network(), [0, np.nan]), "x: expected finite numbers"),
        (lambda: diagnostics.fixed_points(network(), [0, 0], np.ones((3, 4))), "starts: expected (n, 5)"),
        (lambda: diagnostics.fixed_points(network(), [0, 0], np.full(5, np.inf)), "starts: expected finite"),
        (lambda: diagnostics.fixed_points(network(), [0, 0], tolerance=0), "tolerance: expected a finite"),
        (lambda: diagnostics.fixed_points(network(), [0, 0], distance=-1), "distance: expected a finite"),
        (lambda: diagnostics.fixed_points(network(), [0, 0], seed=-1), "seed: expected an integer"),
        (lambda: diagnostics.saturation(network(), X, threshold=1), "threshold: expected a finite number"),
        (lambda: diagnostics.error_surface(network(), X, Y, along="randm"), "Did you mean 'random'"),
        (lambda: diagnostics.error_surface(network(), X, Y, along=3), "along: expected"),
        (lambda: diagnostics.error_surface(3, X, Y), "net: expected a Network, got int"),
        (lambda: diagnostics.conditioning([network()], X), "net: expected a Network, got list"),
        (lambda: diagnostics.error_surface(network(), X, Y, along=network()), "the same parameters"),
        (
            lambda: diagnostics.error_surface(network(), X, Y, along=network(hidden_size=4)),
            "along[0]: expected",
        ),
        (
            lambda: diagnostics.error_surface(network(), X, Y, along=(("bias", 0), ("bias_ih_l0", 0))),
            "along[0]: expected a name (weight_ih_l0",
        ),
        (
            lambda: diagnostics.error_surface(network(), X, Y, along=(("bias_ih_l0", 0), ("bias_ih_l0", 0))),
            "along: expected two different weights, got ('bias_ih_l0', 0) twice",
        ),
        (
            lambda: diagnostics.error_surface(
                network(), X, Y, along=(("bias_ih_l0", 0.5), ("bias_ih_l0", 1))
            ),
            "along[0]: expected an index into bias_ih_l0",
        ),
        (
            lambda: diagnostics.error_surface(network(), X, Y, along=(("bias_ih_l0", 0), ("bias_ih_l0", 9))),
            "along[1]: expected an index into bias_ih_l0 of shape (5,)",
        ),
    ],
)
def test_errors(call, text):
    with pytest.raises((bf.ConfigError, bf.ShapeError)) as caught:
        call()
    assert text in str(caught.value)


# ---- pictures


@pytest.fixture
def plots(monkeypatch):
    pytest.importorskip("matplotlib")
    monkeypatch.setenv("MPLBACKEND", "Agg")
    from matplotlib import pyplot

    from bptt_fast import plots

    yield plots
    pyplot.close("all")


def check(ax, path, title=True):
    assert ax.get_xlabel() and ax.get_ylabel() and bool(ax.get_title(loc="left")) is title
    ax.figure.set_size_inches(6, 4)
    ax.figure.savefig(path)
    assert path.stat().st_size > 5000


def test_picture_of_restarts(plots, tmp_path):
    for n, options in ((8, {}), (3, {"keep": "all", "validation_split": 0.4})):
        _, table = bf.restarts(network(), X, Y, n, epochs=8, verbose=0, **options)
        ax = table.plot()
        check(ax, tmp_path / "restarts.png")
        labels = [text.get_text() for text in ax.get_legend().get_texts()]
        assert labels[0] == f"best (seed {table['seed'][0]})"
        assert labels[1].startswith("dropped (7)" if n == 8 else "trained to the end (2)")


def test_picture_of_gradient_flow(plots, tmp_path):
    flow = diagnostics.gradient_flow(network(), X, Y)
    check(plots.gradient_flow(flow), tmp_path / "flow.png", title=False)
    ax = plots.gradient_flow({"elman": flow, "lstm": diagnostics.gradient_flow(network(cell="lstm"), X, Y)})
    check(ax, tmp_path / "flows.png", title=False)
    assert [text.get_text().split(":")[0] for text in ax.get_legend().get_texts()] == ["elman", "lstm"]


@pytest.mark.parametrize("units", [1, 2])
def test_picture_of_the_phase_plane(plots, tmp_path, units):
    ax = plots.phase_plane(diagnostics.fixed_points(bistable(units=units), [0.0]))
    check(ax, tmp_path / "plane.png")
    labels = [text.get_text() for text in ax.get_legend().get_texts()]
    assert labels == ([f"stable ({2**units})", f"unstable ({3**units - 2**units})"])


@pytest.mark.slow
def test_picture_of_the_error_surface(plots, tmp_path):
    ways = ("random", network(seed=4), (("weight_hh_l0", 0, 0), ("weight_ih_l0", 0, 0)))
    for along in ways:
        ax = plots.error_surface(network(), X, Y, along=along, points=7)
        check(ax, tmp_path / "surface.png")
        assert ax.figure.axes[1].get_ylabel() == "loss"
    surface = diagnostics.error_surface(network(), X, Y, points=7)
    check(plots.error_surface(surface, log=False), tmp_path / "surface.png")


@pytest.mark.parametrize("call", (
    lambda net: diagnostics.gradient_flow(net, X, Y),
    lambda net: diagnostics.dynamics(net, X),
    lambda net: diagnostics.fixed_points(net, X[0, 0]),
    lambda net: diagnostics.conditioning(net, X),
    lambda net: diagnostics.error_surface(net, X, Y),
    bf.dale,
))  # fmt: skip
def test_no_network(call):
    with pytest.raises(bf.ConfigError, match="net: expected a Network, got list"):
        call([1.0])
