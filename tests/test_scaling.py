"""Scaling: what a network does with raw data is what another does with data standardised by hand."""

import copy
import json
import math
import pickle
import warnings
from fractions import Fraction

import numpy as np
import pytest
from support import cases
from support import reference as ref

import bptt_fast as bf

RNG = np.random.default_rng(5)
T = np.arange(120)
SERIES = np.column_stack((1e4 + 50 * np.sin(T / 4), -3 + 0.2 * np.cos(T / 7))) + RNG.normal(size=(120, 2)) * (
    5,
    0.05,
)
TARGETS = np.column_stack((300 + 7 * np.sin(T / 4 + 0.5), 1e-3 * np.cos(T / 7))) + RNG.normal(
    size=(120, 2)
) * (1, 1e-4)
X, Y = SERIES.reshape(12, 10, 2), TARGETS.reshape(12, 10, 2)
LENGTHS = np.array([10, 3, 7, 1, 10, 5, 2, 9, 4, 6, 8, 10])
PARTS = np.split(SERIES, [30, 45, 85]), np.split(TARGETS, [30, 45, 85])
PADDED = np.where(np.arange(10)[:, None] < LENGTHS[:, None, None], X, np.nan)
COUNTED = ~np.isnan(PADDED[..., 0])
WEIGHT = (RNG.random((12, 10)) < 0.6) * RNG.random((12, 10))
HOLES = np.where(WEIGHT[..., None] > 0, Y, np.nan)
STARTS = np.arange(38) * 3  # of windows of 8 rows, a target in the row after


class Case:
    """Data, options of the network and of fit, and the rows of inputs and targets that training sees."""

    def __init__(self, x, y, inputs, targets, net=None, **options):
        self.x, self.y, self.options = x, y, dict(epochs=3, verbose=0) | options
        self.net = dict(cell="gru", dtype="float64", seed=3) | (net or {})
        self.inputs, self.targets = inputs.reshape(-1, 2), targets.reshape(-1, 2)
        self.scaling = bf.Scaling(
            self.inputs.mean(axis=0),
            self.inputs.std(axis=0),
            self.targets.mean(axis=0),
            self.targets.std(axis=0),
        )

    def network(self):
        return bf.Network(2, 5, 2, **self.net)


EVERY = dict(readout="every")
CASES = {
    "batches": Case(X, Y[:, -1], X[:9], Y[:9, -1], validation_split=0.25, batch_size=4),
    "truncated": Case(X, Y, X, Y, EVERY, bptt=bf.TruncatedBPTT(3, 5), validation_data=(X[:4] + 1, Y[:4] + 1)),
    "lengths": Case(PADDED, Y, X[COUNTED], Y[COUNTED], EVERY, lengths=LENGTHS),
    "list": Case(*PARTS, SERIES[:85], TARGETS[:85], EVERY, validation_split=0.25),
    "weights": Case(X, HOLES, X, Y[WEIGHT > 0], EVERY, sample_weight=WEIGHT),
    "sliding": Case(SERIES, TARGETS, SERIES[:96], TARGETS[:96], bptt=bf.SlidingBPTT(4), validation_split=0.2),
    "sliding, list": Case(*PARTS, SERIES[:85], TARGETS[:85], bptt=bf.SlidingBPTT(4), validation_split=0.25),
    "windows": Case(
        bf.Sequences.windows(SERIES, 8, 3), TARGETS, SERIES[: 29 * 3 + 8], TARGETS[STARTS[:30] + 8],
        validation_split=0.2, shuffle=False,
    ),
    "both directions": Case(X, Y, X, Y, EVERY | dict(bidirectional=True), optimizer=bf.Adam(clip_norm=0.1)),
    "second order": Case(X, Y[:, -1], X[:9], Y[:9, -1], validation_split=0.25, optimizer=bf.LBFGS()),
    "teacher forcing": Case(X[:, :-1], X[:, 1:], X[:, :-1], X[:, :-1], EVERY, teacher_forcing=0.5),
}  # fmt: skip


def by_hand(a, mean, scale):
    """Sequences, targets, or what contains some, standardised."""
    if isinstance(a, bf.Sequences):
        return bf.Sequences.windows((a.values - mean) / scale, a.steps, a.stride, a.horizon)
    if isinstance(a, list):
        return [by_hand(part, mean, scale) for part in a]
    return (a - np.array(mean)) / np.array(scale)


def both(case):
    """A network fitted on raw data and one on data standardised by hand, with their data and records."""
    s = case.scaling
    raw, plain = case.network(), case.network()
    options = dict(case.options)
    if "validation_data" in options:
        vx, vy = options["validation_data"]
        options["validation_data"] = (
            by_hand(vx, s.input_mean, s.input_scale), by_hand(vy, s.output_mean, s.output_scale),
        )  # fmt: skip
    x, y = by_hand(case.x, s.input_mean, s.input_scale), by_hand(case.y, s.output_mean, s.output_scale)
    histories = [raw.fit(case.x, case.y, scaling="standard", **case.options), plain.fit(x, y, **options)]
    return raw, plain, x, y, histories


def scaled_up(a, scaling):
    if isinstance(a, list):
        return [scaled_up(part, scaling) for part in a]
    return a * np.array(scaling.output_scale) + np.array(scaling.output_mean)


def same(a, b, tolerance=1e-8):
    if isinstance(a, list):
        assert len(a) == len(b)
        for one, other in zip(a, b, strict=True):
            same(one, other, tolerance)
    else:
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_raw_is_by_hand(case):
    """Weights, records, predictions, losses and gradients."""
    raw, plain, x, y, histories = both(case)
    for name in ("input_mean", "input_scale", "output_mean", "output_scale"):
        same(np.array(getattr(raw.scaling, name)), np.array(getattr(case.scaling, name)), 1e-12)
    same(raw.params, plain.params)
    for column in histories[1]:
        if column != "seconds":
            same(histories[0][column], histories[1][column])
    more = {name: case.options[name] for name in ("lengths",) if name in case.options}
    for readout in ("last", "every"):
        outputs = scaled_up(plain.predict(x, readout=readout, **more), raw.scaling)
        if more and readout == "every":
            outputs[~COUNTED] = 0  # padding
        same(raw.predict(case.x, readout=readout, **more), outputs)
    if isinstance(case.options.get("bptt"), bf.SlidingBPTT):
        return
    more |= {name: case.options[name] for name in ("sample_weight",) if name in case.options}
    same(raw.evaluate(case.x, case.y, **more), plain.evaluate(x, y, **more))
    same(raw.evaluate(case.x, case.y, loss="mae", **more), plain.evaluate(x, y, loss="mae", **more))
    (loss, grads), (expected, others) = (
        net.loss_and_grad(a, b, **more) for net, a, b in ((raw, case.x, case.y), (plain, x, y))
    )
    same(loss, expected)
    same(grads.flat, others.flat)


@pytest.mark.parametrize("case", ("batches", "sliding", "list"))
def test_float32(case):
    case = copy.copy(CASES[case])
    case.net = case.net | {"dtype": "float32"}
    raw, plain, x, _, _ = both(case)
    same(raw.params, plain.params, 1e-5)
    got = raw.predict(case.x)
    expected = scaled_up(plain.predict(x), raw.scaling)
    same(by_hand(got, *raw_outputs(raw)), by_hand(expected, *raw_outputs(raw)), 1e-4)
    assert all(part.dtype == "float64" for part in (got if isinstance(got, list) else [got]))


def raw_outputs(net):
    return net.scaling.output_mean, net.scaling.output_scale


def test_a_large_mean_costs_no_precision():
    """In float32 raw numbers of 1e8 have no digits left for a deviation of 1."""
    small = np.sin(T / 4)[:, None]
    found = []
    for offset in (0.0, 1e8):
        net = bf.Network(1, 8, 1, seed=0)
        data = small + offset
        net.fit(data, data, bptt=bf.SlidingBPTT(5), epochs=30, scaling="standard", verbose=0)
        found.append(net.predict(data, readout="every") - offset)
    same(found[0], found[1], 1e-4)
    assert abs(found[1][20:-1] - small[21:]).max() < 0.3


def test_the_derivative_by_x_is_by_raw_x():
    """By finite differences, in the columns' own units."""
    net = bf.Network(2, 4, 2, readout="every", dtype="float64", seed=1)
    net.scaling = CASES["batches"].scaling
    x, y = X[:3], Y[:3]
    _, grads = net.loss_and_grad(x, y, with_inputs=True)
    for place in ((0, 0, 0), (1, 5, 1), (2, 9, 0)):
        step = 1e-5 * np.array(net.scaling.input_scale)[place[-1]]
        moved = [x.copy(), x.copy()]
        moved[0][place] += step
        moved[1][place] -= step
        high, low = (net.evaluate(a, y) for a in moved)
        assert grads["x"][place] == pytest.approx((high - low) / (2 * step), rel=1e-5)


@pytest.mark.parametrize("closed", (True, False))
def test_forecasts(closed):
    """Outputs are fed back in the units of the data: a loop of the oracle, which knows scaled numbers."""
    p = cases.Problem(cell="gru", activation=(), input_size=2, output_size=2, lengths=(9, 9, 9), every=True)
    mean, scale = np.array([100.0, -3.0]), np.array([20.0, 0.5])
    out_mean, out_scale = (mean, scale) if closed else (mean + 5, scale * 1.3)
    raw = [x * scale + mean for x in p.x]
    for dtype, tolerance in (("float64", 1e-9), ("float32", 1e-4)):
        net = p.network(dtype)
        net.scaling = bf.Scaling(mean, scale, out_mean, out_scale)

        def feedback(y, step):
            return (y * out_scale + out_mean - mean) / scale

        expected = np.array([
            ref.forecast(p.desc, p.params, x, s, 7, feedback) for x, s in zip(p.x, p.state, strict=True)
        ])  # fmt: skip
        got = net.forecast(np.array(raw), 7, x0=p.state)
        np.testing.assert_allclose((got - out_mean) / out_scale, expected, rtol=0, atol=tolerance)
        one = net.forecast(raw[0], 7, x0=p.state[0], next_input=lambda y, step: y)
        np.testing.assert_allclose(one, got[0], rtol=1e-6)


def test_inputs_alone_are_scaled():
    """What is large stays exact in float64 on its way in, also where it comes from next_input."""
    rows = 1e8 + np.sin(T)[:, None]
    net = bf.Network(1, 4, 1, seed=0)
    plain = copy.copy(net)
    net.scaling = bf.Scaling([1e8], [1.0])
    got = net.forecast(rows[:60], 20, next_input=lambda y, step: rows[60 + step])
    expected = plain.forecast(rows[:60] - 1e8, 20, next_input=lambda y, step: rows[60 + step] - 1e8)
    assert got.dtype == "float32"
    same(got, expected, 1e-6)


def test_forecasts_that_run_away():
    net = bf.Network(1, 1, 1, nonlinearity="linear", seed=0)
    net.params[:] = 9
    net.scaling = bf.Scaling([5.0], [2.0], [5.0], [3.0])
    with pytest.raises(bf.DivergedError, match="forecast"):
        net.forecast(np.ones((5, 1)), 200)


@pytest.mark.parametrize("batch", (1, 3))
def test_streams(batch):
    net = CASES["truncated"].network()
    net.scaling = CASES["truncated"].scaling
    stream = net.stream(batch)
    x = X[:batch]
    got = np.stack([stream.step(x[:, t] if batch > 1 else x[0, t]) for t in range(10)], axis=-2)
    same(got, net.predict(x if batch > 1 else x[0]), 1e-12)
    state = stream.state
    wrong = np.ones(3), np.full((batch, 2), np.nan), "a"
    for bad in wrong:
        with pytest.raises((bf.ShapeError, bf.ConfigError), match="x: "):
            stream.step(bad)
    assert np.array_equal(stream.state, state)
    net.scaling = None
    stream.reset()
    first = stream.step(np.zeros((batch, 2)) if batch > 1 else np.zeros(2))
    same(first, net.predict(np.zeros((batch, 1, 2)))[:, 0].reshape(first.shape), 1e-12)


@pytest.mark.parametrize("dtype", ("float32", "float64"))
def test_observations_are_fit(dtype, tmp_path):
    """To the bit, also by way of a file in the middle."""
    nets = [bf.Network(2, 5, 2, dtype=dtype, seed=3) for _ in range(2)]
    for net in nets:
        net.scaling = CASES["sliding"].scaling
    nets[0].fit(SERIES, TARGETS, bptt=bf.SlidingBPTT(4), verbose=0)
    learner = nets[1].learn_online(bf.SlidingBPTT(4))
    for row, target in zip(SERIES[:50], TARGETS[:50], strict=True):
        learner.observe(row, target)
    learner.save(tmp_path / "m")
    again = bf.load(tmp_path / "m")
    losses = [again.observe(row, target) for row, target in zip(SERIES[50:], TARGETS[50:], strict=True)]
    assert again.network.params.tobytes() == nets[0].params.tobytes() and np.isfinite(losses).all()
    with pytest.raises(bf.ShapeError, match="y: "):
        again.observe(SERIES[0], TARGETS[0][:1])
    again.network.scaling = None
    with pytest.raises(bf.ConfigError, match="scaling"):
        again.observe(SERIES[0], TARGETS[0])


def test_restarts():
    """Each copy measures the same, and equals a fit of its own; a scaling that is there goes to copies."""
    options = dict(bptt=bf.SlidingBPTT(4), verbose=0, validation_split=0.2)
    net = bf.Network(2, 5, 2, seed=3)
    best, table = bf.restarts(net, SERIES, TARGETS, 3, epochs=2, scaling="standard", keep="all", **options)
    alone = bf.Network(2, 5, 2, seed=best.seed)
    history = alone.fit(SERIES, TARGETS, epochs=2, scaling="standard", **options)
    assert best.params.tobytes() == alone.params.tobytes() and best.scaling == alone.scaling
    assert table["val_loss"][0] == history["val_loss"][-1] and net.scaling is None
    net.scaling = best.scaling
    with pytest.raises(bf.ConfigError, match="'scaling' cannot be varied"):
        bf.restarts(net, SERIES, TARGETS, 3, epochs=2, grid={"scaling": [None, "standard"]}, **options)
    again, _ = bf.restarts(net, SERIES, TARGETS, 3, epochs=2, keep="all", **options)
    assert again.params.tobytes() == best.params.tobytes() and again.scaling == best.scaling


def test_diagnostics():
    """Of raw data with scaling, as of data standardised by hand without."""
    raw, plain, x, y, _ = both(CASES["batches"])
    for readout in ("last", "every"):
        nets = [bf.Network(2, 5, 2, **CASES["batches"].net | dict(readout=readout)) for _ in range(2)]
        nets[0].scaling = raw.scaling
        given = (X, Y if readout == "every" else Y[:, -1])
        by = by_hand(given[0], raw.scaling.input_mean, raw.scaling.input_scale)
        targets = by_hand(given[1], *raw_outputs(raw))
        flows = [
            bf.diagnostics.gradient_flow(net, *data)
            for net, data in zip(nets, (given, (by, targets)), strict=True)
        ]
        same(flows[0].norm, flows[1].norm)
    same(bf.diagnostics.states(raw, X[0]), bf.diagnostics.states(plain, x[0]))
    same(bf.diagnostics.dynamics(raw, X[0]).gain, bf.diagnostics.dynamics(plain, x[0]).gain)
    points = [bf.diagnostics.fixed_points(net, a[0, 0]) for net, a in ((raw, X), (plain, x))]
    same(points[0].points, points[1].points)
    shares = [bf.diagnostics.saturation(net, a, threshold=0.6) for net, a in ((raw, X), (plain, x))]
    assert any(share.any() for share in shares[1].values())
    for name, share in shares[1].items():
        same(shares[0][name], share)
    values = [bf.diagnostics.conditioning(net, a).singular_values for net, a in ((raw, X), (plain, x))]
    same(values[0], values[1], 1e-6)
    surfaces = [
        bf.diagnostics.error_surface(net, a, b, points=3) for net, a, b in ((raw, X, Y[:, -1]), (plain, x, y))
    ]
    same(surfaces[0].loss, surfaces[1].loss)


def test_copies_and_files(tmp_path):
    """Pickled, copied, saved: the same to the bit.  A file does not speak of what there is not."""
    net = CASES["batches"].network()
    net.save(tmp_path / "plain")
    assert bf.load(tmp_path / "plain").scaling is None
    assert "columns" not in metadata(tmp_path / "plain")
    net.scaling, net.output_names = CASES["batches"].scaling, ["a", "b"]
    net.save(tmp_path / "m")
    for again in (
        copy.copy(net),
        copy.deepcopy(net),
        pickle.loads(pickle.dumps(net)),
        bf.load(tmp_path / "m"),
    ):
        assert again.scaling == net.scaling and again.output_names == ("a", "b") and again.input_names is None
        assert again.predict(X).tobytes() == net.predict(X).tobytes()
    content = (tmp_path / "m").read_bytes()
    assert content.count(b"output_scale") == 1
    (tmp_path / "m").write_bytes(content.replace(b"input_mean", b"input_wean"))
    with pytest.raises(bf.CorruptFileError, match="checksum"):
        bf.load(tmp_path / "m")


def metadata(path):
    content = path.read_bytes()
    return json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])["__metadata__"]


@pytest.mark.parametrize("unit", (2.0**-1000, 2.0**-700, 1e-200, 1e-30, 1e30, 1e200, 2.0**1000))
@pytest.mark.parametrize("dtype", ("float32", "float64"))
def test_any_unit_of_measurement(unit, dtype):
    """The unit of the data changes nothing but the unit of the outputs."""
    ends = []
    for one in (1.0, unit):
        net = bf.Network(2, 5, 2, dtype=dtype, seed=3, readout="every")
        history = net.fit(SERIES * one, TARGETS * one, epochs=3, scaling="standard", verbose=0)
        outputs = net.predict(SERIES * one) / one
        ends.append([*history["loss"], *np.array(net.scaling.input_scale) / one, *outputs.ravel()])
    np.testing.assert_allclose(*ends, rtol=1e-9 if dtype == "float64" else 1e-4)


@pytest.mark.parametrize("value", (1e-200, 1e200, 1e308))
def test_constants_of_any_size(value):
    net = bf.Network(1, 4, 1, seed=0, readout="every")
    x = np.full((21, 1), value)
    net.fit(x, x, scaling="standard", epochs=2, verbose=0)
    np.testing.assert_allclose(net.predict(x), x, rtol=1e-12, atol=10)


@pytest.mark.parametrize(
    "centre, width, dtype",
    (
        (1e7, 10, "float32"),
        (1e12, 1, "float64"),
        (10**15, 1000, "int64"),
        (0, 30000, "float16"),
        (100, 50, "uint8"),
        (0, 1e-200, "float64"),
        (0, 1e200, "float64"),
        (-1e200, 1e190, "float64"),
        (0, 1.7e308, "float64"),
    ),
)
def test_statistics_are_exact(centre, width, dtype, monkeypatch):
    """Means and deviations of numbers of any size and type, against rational arithmetic; also in blocks."""
    monkeypatch.setattr(bf.columns, "BLOCK", 64)
    rows = (centre + width * np.random.default_rng(0).uniform(-1, 1, size=(200, 1))).astype(dtype)
    exact = [Fraction(value) for value in rows[:, 0].tolist()]
    mean = sum(exact) / 200
    deviation = math.sqrt(sum((value - mean) ** 2 for value in exact) / 200 / Fraction(width) ** 2) * width
    scaling = bf.Scaling.standard(rows, rows[::-1])
    assert scaling.input_scale == pytest.approx([deviation], rel=1e-12, abs=0)
    assert scaling.output_scale == pytest.approx([deviation], rel=1e-12, abs=0)
    assert abs(Fraction(scaling.input_mean[0]) - mean) <= 1e-14 * max(abs(value) for value in exact)


@pytest.mark.parametrize("size", (1e-200, 1e200))
def test_numbers_of_any_size_are_learned(size):
    """What a network learns does not depend on the unit."""
    found = []
    for unit in (1.0, size):
        net = bf.Network(2, 4, 2, seed=0)
        history = net.fit(unit * X, unit * Y[:, -1], scaling="standard", epochs=3, verbose=0)
        found.append((history["loss"], net.predict(unit * X) / unit))
    for one, other in zip(*found, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-3)


@pytest.mark.parametrize("value", (0.0, 0.1, 1e8 / 3))
def test_constant_columns_are_only_shifted(value):
    x = np.column_stack((SERIES, np.full(120, value)))
    net = bf.Network(3, 4, 1, dtype="float64", seed=0)
    net.fit(x, np.full(120, value), bptt=bf.SlidingBPTT(4), scaling="standard", verbose=0)
    assert net.scaling.input_scale[2] == 1 == net.scaling.output_scale[0]
    assert net.scaling.input_mean[2] == pytest.approx(value, rel=1e-12)


def test_which_fit_measures():
    net = bf.Network(2, 4, 2, seed=0)
    net.fit(X, Y[:, 0], verbose=0)
    assert net.scaling is None
    net.fit(X, Y[:, 0], scaling="standard", verbose=0)
    kept = net.scaling
    net.fit(X + 1, Y[:, 0], verbose=0)
    assert net.scaling == kept
    net.fit(X + 1, Y[:, 0], scaling="standard", verbose=0)
    assert net.scaling.input_mean == pytest.approx(np.array(kept.input_mean) + 1)
    own = bf.Scaling([1.0, 2.0], [3.0, 4.0])
    net.fit(X, Y[:, 0], scaling=own, verbose=0)
    assert net.scaling == own and net.predict(X).dtype == "float32"


@pytest.mark.parametrize("loss, outputs", (("cross_entropy", 3), ("binary_cross_entropy", 2)))
def test_classes_are_not_scaled(loss, outputs):
    y = np.arange(12) % 3 if outputs == 3 else (Y[:, 0] > Y.mean(axis=(0, 1))).astype(float)
    nets = [bf.Network(2, 5, outputs, dtype="float64", seed=3) for _ in range(2)]
    nets[0].fit(X, y, loss=loss, scaling="standard", verbose=0)
    scaling = nets[0].scaling
    assert scaling.output_mean is None is scaling.output_scale
    nets[1].fit(by_hand(X, scaling.input_mean, scaling.input_scale), y, loss=loss, verbose=0)
    same(nets[0].params, nets[1].params)
    nets[0].scaling = bf.Scaling([0.0] * 2, [1.0] * 2, [0.0] * outputs, [2.0] * outputs)
    for call in (nets[0].fit, nets[0].evaluate, nets[0].loss_and_grad):
        with pytest.raises(bf.ConfigError, match="y: expected a network without scaling of outputs"):
            call(X, y, loss=loss)
    with pytest.raises(bf.ConfigError, match="learn_online: expected a network without scaling of outputs"):
        nets[0].learn_online(bf.SlidingBPTT(3), loss=loss)


WRONG = {
    "a word": (dict(scaling="standart"), "Did you mean 'standard'"),
    "a number": (dict(scaling=1.0), "scaling: expected one of 'standard'"),
    "inputs": (dict(scaling=bf.Scaling([0.0], [1.0])), r"scaling.input_mean: expected 2 .*input_size=2"),
    "outputs": (dict(scaling=bf.Scaling([0.0] * 2, [1.0] * 2, [0.0], [1.0])), "scaling.output_mean: .* 2"),
    "later": (dict(scaling="standard", validation_data=(X, Y[:, 0, :1])), "validation_data"),
    "a gap": (dict(scaling="standard", x=np.where(X > 1e4, np.nan, X)), "x: expected finite"),
    "nothing left": (dict(scaling="standard", validation_split=0.99), "validation_split"),
}  # fmt: skip


@pytest.mark.parametrize("given, words", WRONG.values(), ids=WRONG)
def test_wrong_calls_change_nothing(given, words):
    net = bf.Network(2, 4, 2, seed=0)
    net.scaling = kept = CASES["batches"].scaling
    before = net.params.copy()
    with pytest.raises((bf.ConfigError, bf.ShapeError), match=words):
        net.fit(**dict(x=X, y=Y[:, 0], verbose=0) | given)
    assert net.scaling == kept and np.array_equal(net.params, before)


@pytest.mark.parametrize("given, words", (
    (([0.0], [0.0]), r"input_scale\[0\]: expected a finite number above 0, got 0"),
    (([np.nan], [1.0]), r"input_mean\[0\]"),
    (([0.0], [1.0, 2.0]), "input_scale: expected 1 numbers"),
    ((0.0, 1.0), "input_mean: expected a list"),
    (([0.0], [1.0], [0.0]), "output_scale: expected a list"),
))  # fmt: skip
def test_wrong_scalings(given, words):
    with pytest.raises((bf.ConfigError, bf.ShapeError), match=words):
        bf.Scaling(*given)
    with pytest.raises(bf.ConfigError, match="scaling: expected a Scaling"):
        bf.Network(1, 2, 1).scaling = given


def test_outputs_that_cannot_be_fed_back():
    """Within training they go back as they are, scaled."""
    net = bf.Network(2, 4, 2, readout="every", seed=0)
    net.fit(X, X, scaling="standard", teacher_forcing=0.5, verbose=0)
    assert net.scaling.closed
    net.scaling = CASES["batches"].scaling
    for call in (net.fit, net.loss_and_grad):
        with pytest.raises(bf.ConfigError, match="teacher_forcing: below 1 scaled outputs"):
            call(X, X, teacher_forcing=0.5)


# ---- a hint


def hinted(x, y, loss="mse", scaling=None, outputs=1, **options):
    """The warnings of a fit."""
    net = bf.Network(1, 3, outputs, readout="last" if "bptt" in options else "every", seed=0)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        net.fit(x, y, epochs=3, loss=loss, scaling=scaling, verbose=0, **options)
    return [warning for warning in caught if "not scaled" in str(warning.message)]


def test_a_hint_for_targets_that_are_not_scaled():
    x = np.sin(np.arange(60.0))[:, None]
    for loss in ("mse", "huber"):
        (found,) = hinted(x, 5000 + 70 * x, loss)
        assert found.category is UserWarning and found.filename == __file__
        assert "column 0 have mean 5e+03 and deviation 49." in str(found.message), found
    for loss, outputs in {"gaussian": 2, "laplace": 2, bf.Loss("pinball", quantiles=[0.1, 0.9]): 2}.items():
        for scaling in (None, "standard"):  # which scales the inputs
            (found,) = hinted(x, 50_000 + 70 * x, loss, scaling, outputs)
            assert "scaling=" not in str(found.message) and "(y - mean) / deviation" in str(found.message)
        assert not hinted(x, x, loss, None, outputs)
    assert hinted(x, 50 + x, bptt=bf.SlidingBPTT(3), optimizer=bf.SGD(1e-9))
    assert hinted(x, np.full((60, 1), 40.0), optimizer=bf.SGD(1e-9))  # 1600


def test_no_hint_without_a_reason():
    x = np.sin(np.arange(60.0))[:, None]
    assert not hinted(x, 5000 + 70 * x, scaling="standard")
    assert not hinted(x, 5000 + 70 * x, scaling=bf.Scaling([0], [1]))
    assert not hinted(x, np.full((60, 1), 30.0), optimizer=bf.SGD(1e-9))  # 900
    assert not hinted(x, np.abs(1e4 * x).round(), "poisson", optimizer=bf.SGD(1e-9))
    assert not hinted(x, 30 * x, optimizer=bf.SGD(3.0))  # the learning rate makes the loss that large
    weight = np.r_[np.ones(59), 0]
    assert not hinted(x, np.r_[x[:59], [[1e9]]], sample_weight=weight)
    assert not hinted(
        x, np.where(np.arange(60) < 50, 1, 1e9)[:, None], validation_split=0.2, bptt=bf.SlidingBPTT(3)
    )
