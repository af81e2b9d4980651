"""NARX: past outputs as inputs, teacher-forced and in the closed loop, against a transcription in NumPy."""

import numpy as np
import pytest

import bptt_fast as bf

LAGS, START, STEPS = 2, 6, 25


def narx(net, u, y, n, known):
    """Outputs y[t+1] from x[t] = [u[t], y[t], .., y[t-LAGS+1]]; from row `known` on with its own outputs.

    An Elman network with one linear g, of [h, x] with skip, in the units of the data."""
    w, s = {name: net[name] for name in net}, net.scaling
    own, outputs = list(y), []
    h = np.zeros(net.hidden_size)
    for t in range(LAGS - 1, LAGS - 1 + n):
        x = np.array([u[t], *(own[t - lag] for lag in range(LAGS))])
        x = x if s is None else (x - s.input_mean) / s.input_scale
        h = np.tanh(w["weight_ih_l0"] @ x + w["bias_ih_l0"] + w["weight_hh_l0"] @ h + w["bias_hh_l0"])
        read = np.concatenate([h, x]) if net.description.skip else h
        out = w["head.0.weight"] @ read + w["head.0.bias"]
        outputs.append((out if s is None else out * s.output_scale + s.output_mean)[0])
        if len(outputs) >= known:
            own[t + 1] = outputs[-1]
    return np.array(outputs)


def rows_of(u, y):
    return np.column_stack([u[LAGS - 1 :], *(y[LAGS - 1 - lag : len(y) - 1 - lag] for lag in range(LAGS))])


@pytest.mark.parametrize("dtype, tolerance", (("float64", 1e-12), ("float32", 1e-4)))
@pytest.mark.parametrize("scaled", (False, True))
@pytest.mark.parametrize("skip", (False, True))
def test_both_modes(skip, scaled, dtype, tolerance):
    random = np.random.default_rng(0)
    several = [(random.normal(size=40), random.normal(size=41)) for _ in range(3)]
    net = bf.Network(1 + LAGS, 7, 1, skip=skip, readout="every", dtype=dtype, seed=1)
    if scaled:
        net.scaling = bf.Scaling([0.5, 1, 1], [2, 3, 3], [1], [3])
    x = np.stack([rows_of(u, y) for u, y in several])
    whole = [narx(net, u, y, x.shape[1], x.shape[1]) for u, y in several]
    np.testing.assert_allclose(net.predict(x)[..., 0], whole, rtol=0, atol=tolerance)

    ends = [list(y[START - 1 : START + LAGS - 1][::-1]) for _, y in several]

    def next_input(output, step):
        for past, value in zip(ends, output, strict=True):
            past.insert(0, value[0])
        rows = zip((u for u, _ in several), ends, strict=True)
        return [[u[LAGS - 1 + START + step], *past[:LAGS]] for u, past in rows]

    closed = net.forecast(x[:, :START], STEPS, next_input=next_input)[..., 0]
    expected = [narx(net, u, y, START + STEPS - 1, START)[START - 1 :] for u, y in several]
    np.testing.assert_allclose(closed, expected, rtol=0, atol=10 * tolerance)

    u, y = several[1]
    stream, past, outputs = net.stream(), list(y[LAGS - 1 :: -1]), []
    for t in range(START + STEPS - 1):
        outputs.append(stream.step([u[LAGS - 1 + t], *past[:LAGS]])[0])
        past.insert(0, y[LAGS + t] if t + 1 < START else outputs[-1])
    np.testing.assert_allclose(outputs[START - 1 :], closed[1], rtol=0, atol=tolerance)


def test_a_network_learns_to_simulate():
    """Training is teacher-forced; the model then follows a system of second order in the closed loop."""
    u = np.random.default_rng(0).normal(size=400)
    y = np.zeros(401)
    for t in range(1, 400):
        y[t + 1] = 1.2 * y[t] - 0.5 * y[t - 1] + u[t]
    x, targets = rows_of(u, y), y[LAGS:, None]
    net = bf.Network(3, 4, 1, skip=True, readout="every", dtype="float64", seed=0)
    net.fit(x[None, :300], targets[None, :300], optimizer=bf.LevenbergMarquardt(), epochs=20, verbose=0)
    closed = narx(net, u[300:], y[300:], 90, START)
    assert np.std(closed - y[300 + LAGS : 300 + LAGS + 90]) < 1e-3 * np.std(y)
