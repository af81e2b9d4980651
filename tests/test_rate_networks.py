"""Continuous-time rate networks: equations, time constants, noise.  Tests of all cells have them, too."""

import pickle

import numpy as np
import pytest
from support import cases
from support import reference as ref

import bptt_fast as bf

EQUATIONS = {"rate": "ctrnn", "potential": "ctrnn_potential"}
by_cell = pytest.mark.parametrize("cell", EQUATIONS.values(), ids=EQUATIONS)
RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(5, 9, 3))
Y = RANDOM.normal(size=(5, 9, 2))


def network(**options):
    given = dict(cell="ctrnn", tau=4, readout="every", dtype="float64", seed=2)
    return bf.Network(3, 6, 2, **given | options)


# ---- equations


def test_without_a_leak_it_is_the_elman_cell():
    """tau = dt, to the bit."""
    elman = bf.Network(3, 6, 2, readout="every", seed=1)
    net = network(tau=0.5, dt=0.5, dtype="float32")
    net.params[:] = elman.params
    assert (net.predict(X) == elman.predict(X)).all()
    assert (net.loss_and_grad(X, Y)[1].flat == elman.loss_and_grad(X, Y)[1].flat).all()


@pytest.mark.parametrize("tau", (20.0, (10.0, 20.0, 25.0, 50.0, 100.0, 1000.0)), ids=("one", "each"))
@pytest.mark.parametrize("equation", EQUATIONS)
def test_the_equations(equation, tau):
    """As the field writes them, with softplus, for which the rate of the potential 0 is not 0."""
    net = network(equation=equation, tau=tau, dt=5, nonlinearity="softplus")
    w, alpha = {name: view for name, view in net.state_dict().items()}, 5 / np.asarray(tau)
    phi = ref.NONLINEARITY["softplus"][0]
    for x, found in zip(X, net.predict(X), strict=True):
        state = np.zeros(6)
        for xt, yt in zip(x, found, strict=True):
            drive = w["weight_ih_l0"] @ xt + w["bias_ih_l0"] + w["bias_hh_l0"]
            if equation == "rate":
                state = (1 - alpha) * state + alpha * phi(drive + w["weight_hh_l0"] @ state)
                rate = state
            else:
                state = (1 - alpha) * state + alpha * (drive + w["weight_hh_l0"] @ phi(state))
                rate = phi(state)
            np.testing.assert_allclose(yt, w["head.0.weight"] @ rate + w["head.0.bias"], rtol=1e-12)


@by_cell
def test_the_state_is_one_vector(cell):
    """The potential, from which the rate follows: runs in parts, streams and learners continue from it."""
    net = network(cell=cell, nonlinearity="softplus", num_layers=2)
    assert net.state_size == 12
    whole, end = net.predict(X, return_state=True)
    first, middle = net.predict(X[:, :4], return_state=True)
    second, last = net.predict(X[:, 4:], x0=middle, return_state=True)
    np.testing.assert_allclose(np.concatenate([first, second], axis=1), whole, rtol=1e-13)
    np.testing.assert_allclose(last, end, rtol=1e-13)
    stream = net.stream()
    np.testing.assert_allclose([stream.step(x) for x in X[0]], whole[0], rtol=1e-13)
    np.testing.assert_allclose(stream.state, end[0], rtol=1e-13)
    nets = [network(cell=cell, nonlinearity="softplus", readout="last", tau=3) for _ in range(2)]
    learners = [net.learn_online(bf.SlidingBPTT(3)) for net in nets]
    for n, (a, b) in enumerate(zip(np.tile(X[0], (3, 1)), np.tile(Y[0], (3, 1)), strict=True)):
        if n == 11:
            learners[1] = pickle.loads(pickle.dumps(learners[1]))
        losses = [learner.observe(a, b) for learner in learners]
        np.testing.assert_array_equal(losses[0], losses[1])


@pytest.mark.parametrize("equation", EQUATIONS)
def test_files(equation, tmp_path):
    net = network(equation=equation, tau=np.arange(1, 7), recurrent_noise=0.1, noise="step", input_noise=0.2)
    net.save(tmp_path / "model.safetensors")
    again = bf.load(tmp_path / "model.safetensors")
    assert again.description == net.description and (again.predict(X) == net.predict(X)).all()
    assert again.description.tau == (1, 2, 3, 4, 5, 6)


def test_dale_and_masks():
    net = network(equation="potential", nonlinearity="retanh", recurrent_noise=0.1)
    signs = bf.dale(net, excitatory=0.5)
    mask = np.ones((6, 6), bool) ^ np.eye(6, dtype=bool)
    net.rules["weight_hh_l0"] = bf.Rule(sign=signs, mask=mask)
    before = net["weight_hh_l0"].copy()
    net.fit(X, Y, epochs=5, verbose=0)
    after = net["weight_hh_l0"]
    assert (after[mask] != before[mask]).any() and not after[~mask].any() and (after * signs >= 0).all()


# ---- noise

PLACE = 2 * (2 * 16 + 1)  # of the recurrent noise of the first layer among the draws; of the next ones, + 2
INPUT_PLACE = 2 * 2 * 16 + 1


def hash32(x):
    for factor in (0x21F0AAAD, 0xD35A2D97):
        x = (x ^ (x >> (16 if factor == 0x21F0AAAD else 15))) * factor % 2**32
    return x ^ (x >> 15)


def hash64(x):
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        x = (x ^ (x >> shift)) * factor % 2**64
    return x ^ (x >> 31)


def normal(seed, draw, place, sequence, step, column):
    """The number that the core draws for a unit at a step of a sequence, by the method of Box and Muller.

    Of each 32 columns the first 16 and the last 16 are pairs: r sin x, and r cos x with a random sign.
    """
    key = (seed * 0x9E3779B97F4A7C15 + draw * 0xD1342543DE82EF95 + place) % 2**64
    key = hash64((hash64(key ^ hash64((sequence + 0x9E3779B97F4A7C15) % 2**64)) + step) % 2**64)
    high, low = key >> 32, hash32(((column & ~16) * 0x9E3779B1 + key) % 2**32)
    first, second = hash32(low ^ high), hash32(low ^ (high * 0x85EBCA6B + 0xC2B2AE35) % 2**32)
    radius = np.sqrt(-2 * np.log(((first >> 1) + 0.5) / 2**31))
    x = np.pi * (second - 2**32 * (second >> 31)) / 2**32
    return radius * ((1 - 2 * (first & 1)) * np.cos(x) if column & 16 else np.sin(x))


def rates(problem, **how):
    """h of each step of each sequence in training, (T, H) each: a weight of g has it as its gradient."""
    p, found = problem, [np.zeros((steps, problem.desc["hidden_size"])) for steps in problem.lengths]
    for i, steps in enumerate(p.lengths):
        for t in range(steps):
            for w in p.weight:
                w[:] = 0
            p.weight[i][t] = 1
            found[i][t] = -p.run(**how).loss_and_grad()[1]["head.0.weight"][0]
    return found


INSTANCES = [dict(isa=isa, lanes=lanes) for isa in cases.isas() for lanes in ("units", "rows")]


def probe(**options):
    """A network without weights, whose outputs are far below their targets."""
    given = dict(activation=("linear",), lengths=(4, 2, 3), every=True, weighted=True, loss="mae", seed=3)
    p = cases.Problem(**given | dict(output_size=1, input_size=5) | options)
    p.params = {k: w * 0 for k, w in p.params.items()}
    p.x, p.y, p.state = [0 * x for x in p.x], [y + 1e6 for y in p.y], 0 * p.state
    return p


@pytest.mark.parametrize("noise", ("sde", "step", "scaled"))
@by_cell
def test_recurrent_noise(cell, noise):
    """Of each convention: the number of the unit, step and sequence, times its amplitude."""
    p = probe(cell=cell, noise=noise, recurrent_noise=0.3, hidden_size=40)
    alpha = np.array(p.desc["alpha"])
    amplitude = {"sde": np.sqrt(2 * alpha) * 0.3, "step": 0.3, "scaled": 0.3 * alpha}[noise]
    for how in INSTANCES:
        for i, h in enumerate(rates(p, **how)):
            before = np.concatenate([np.zeros((1, h.shape[1])), h[:-1]])
            xi = np.array([[normal(3, 0, PLACE, i, t, j) for j in range(h.shape[1])] for t in range(len(h))])
            np.testing.assert_allclose(h - (1 - alpha) * before, amplitude * xi, rtol=1e-8, atol=1e-12)


def test_input_noise():
    p = probe(cell="elman", input_noise=0.3, hidden_size=5)
    p.params["weight_ih_l0"] = np.eye(5)
    for how in INSTANCES:
        for i, h in enumerate(rates(p, **how)):
            xi = [[normal(3, 0, INPUT_PLACE, i, t, j) for j in range(5)] for t in range(len(h))]
            np.testing.assert_allclose(h, 0.3 * np.array(xi), rtol=1e-8, atol=1e-12)


def test_the_normal_distribution():
    rows = [(u, i, t) for u in (0, 1) for i in range(10) for t in range(30)]
    xi = np.array([[normal(1, u, PLACE, i, t, j) for j in range(32)] for u, i, t in rows])
    assert abs(xi.mean()) < 0.03 and abs(xi.var() - 1) < 0.05 and abs((xi**4).mean() - 3) < 0.3
    assert len(set(xi.ravel())) == xi.size
    first, second = xi[:, :16].ravel(), xi[:, 16:].ravel()  # the numbers of a pair are independent
    neighbours = xi.ravel()[1:], xi.ravel()[:-1]
    for a, b in (neighbours, (first, second), (first**2, second**2), (first, second**2), (first**2, second)):
        assert abs(np.corrcoef(a, b)[0, 1]) < 0.04


NOISY = dict(recurrent_noise=0.4, input_noise=0.3, every=True, seed=3)


@pytest.mark.parametrize("more", (dict(num_layers=2), dict(bidirectional=True), dict(lengths=(7, 1, 3))))
@by_cell
def test_gradients_with_noise(cell, more):
    """Finite differences, with the noise of one seed held."""
    cases.Problem(cell=cell, activation=("softplus",), **NOISY, **more).check_core()


@by_cell
def test_what_noise_depends_on(cell):
    """Neither on threads nor on checkpoints nor on the batch; on the seed."""
    p = cases.Problem(cell=cell, activation=("tanh",), **NOISY | dict(lengths=(40,) * 40, hidden_size=40))
    net, targets = p.network(), p.targets()
    results = [net.loss_and_grad(p.x, targets, threads=n)[1].flat for n in (1, 2)]
    assert (results[0] == results[1]).all()
    in_segments = net.loss_and_grad(p.x, targets, bptt=bf.CheckpointedBPTT(7))[1].flat
    np.testing.assert_allclose(in_segments, results[0], rtol=1e-9, atol=1e-12)
    assert not np.allclose(p.network(seed=4).loss_and_grad(p.x, targets)[1].flat, results[0])


@by_cell
def test_noise_is_only_in_training(cell):
    net, noisy = network(cell=cell), network(cell=cell, recurrent_noise=0.5, input_noise=0.5)
    assert (net.predict(X) == noisy.predict(X)).all() and net.evaluate(X, Y) == noisy.evaluate(X, Y)
    assert net.loss_and_grad(X, Y)[0] != noisy.loss_and_grad(X, Y)[0]
    losses = noisy.fit(X, Y, epochs=2, optimizer=bf.SGD(1e-12), verbose=0)["loss"]
    assert losses[0] != losses[1]  # each update has its own


@pytest.mark.parametrize("bptt", (bf.TruncatedBPTT(3, 6), bf.CheckpointedBPTT(4)))
@by_cell
def test_noise_in_every_unfolding(cell, bptt):
    """It trains."""
    net = network(cell=cell, recurrent_noise=0.1, input_noise=0.1)
    before = net.evaluate(X, Y)
    net.fit(X, Y, epochs=30, bptt=bptt, optimizer=bf.Adam(0.01), verbose=0)
    assert net.evaluate(X, Y) < before


# ---- trained time constants


@pytest.mark.parametrize("noise", ("sde", "step", "scaled"))
@by_cell
def test_gradient_of_time_constants_with_noise(cell, noise):
    """The amplitude of the noise depends on tau, too."""
    p = cases.Problem(cell=cell, activation=("tanh",), train_tau=True, noise=noise, num_layers=2, **NOISY)
    for lanes in ("units", "rows"):
        p.check_core(lanes=lanes)


@by_cell
def test_trained_time_constants(cell):
    """They begin at tau; so does everything that the network computes, as without training."""
    tau = (2.5, 4, 6, 8, 12, 40)
    fixed, net = network(cell=cell, tau=tau, dt=2), network(cell=cell, tau=tau, dt=2, train_tau=True)
    np.testing.assert_allclose(net.tau, [tau], rtol=1e-12)
    np.testing.assert_array_equal(fixed.tau, [tau])
    assert network(cell="gru", tau=10.0).tau is None
    np.testing.assert_allclose(net.predict(X), fixed.predict(X), rtol=1e-12)
    np.testing.assert_allclose([net.stream().step(X[0, 0])], fixed.predict(X[:1, :1])[0], rtol=1e-12)
    net["raw_tau_l0"] = -800.0
    assert (net.tau == 2).all()  # the limit is dt
    stacked = network(cell=cell, num_layers=2, bidirectional=True, train_tau=True)
    stacked.fit(X, Y, epochs=2, optimizer=bf.Adam(0.1), verbose=0)
    assert stacked.tau.shape == (4, 6) and len(np.unique(stacked.tau)) == 24 and (stacked.tau > 1).all()


def slow_task(tau, steps=300):
    """Targets of units that follow the inputs with these time constants."""
    x = np.random.default_rng(0).normal(size=(20, steps, 1))
    y = np.zeros((20, steps, 2))
    for t in range(1, steps):
        y[:, t] = (1 - 1 / tau) * y[:, t - 1] + x[:, t] / tau
    return x, y


def test_time_constants_are_found():
    """A linear network recovers those of its teacher."""
    tau = np.array([3.0, 25.0])
    x, y = slow_task(tau)
    net = bf.Network(
        1, 2, 2, cell="ctrnn", nonlinearity="linear", tau=8, train_tau=True, readout="every", seed=0
    )
    fixed = {"weight_ih_l0": [[1], [1]], "weight_hh_l0": 0.0, "bias_ih_l0": 0.0, "bias_hh_l0": 0.0}
    fixed |= {"head.0.weight": np.eye(2), "head.0.bias": 0.0}
    for name, value in fixed.items():
        net[name] = value
        net.rules[name] = bf.Rule(trainable=False)
    net.fit(x, y, epochs=150, optimizer=bf.Adam(0.5), batch_size=20, verbose=0)
    np.testing.assert_allclose(net.tau, [tau], rtol=0.05)


def test_random_initial_weights_leave_time_constants():
    net = network(tau=7, train_tau=True, init=lambda name, shape, random: random.normal(size=shape))
    np.testing.assert_allclose(net.tau, 7)


def test_files_with_trained_time_constants(tmp_path):
    net = network(tau=7, train_tau=True)
    net.fit(X, Y, epochs=2, verbose=0)
    net.save(tmp_path / "model.safetensors")
    again = bf.load(tmp_path / "model.safetensors")
    assert (again.tau == net.tau).all() and (again.predict(X) == net.predict(X)).all()


# ---- the penalty of rates

PENALTY = dict(rate_penalty=0.7, rate_target=0.3)
PENALISED = {
    "every": dict(every=True, weighted=True, lengths=(7, 1, 3)),
    "last": dict(lengths=(7, 1, 3, 3)),
    "layers": dict(num_layers=2, bidirectional=True, lengths=(3, 2)),
    "one": dict(lengths=(6,), num_layers=2),
}


def mean_penalty(p):
    """Of the oracle's states."""
    total, count = 0.0, 0
    for i, x in enumerate(p.x):
        state = ref.initial_state(p.desc, p.params) if p.state is None else p.state[i]
        *_, tape = ref.layers_forward(p.desc, p.params, x, state, ref.no_masks(p.desc, len(x)))
        for steps in tape.values():
            h = np.array([new[0] for _, _, new, _ in steps])
            total, count = total + ((h - 0.3) ** 2).sum(), count + h.size
    return 0.7 * total / count


@pytest.mark.parametrize("more", PENALISED.values(), ids=PENALISED)
@pytest.mark.parametrize(
    "form", ("ctrnn-potential", "ctrnn", "gru-before", "mlp-4", "lstm-projection", "indrnn")
)
def test_the_penalty_and_its_gradient(form, more):
    """The loss is that without it and the penalty; finite differences; both number types."""
    p = cases.Problem(**cases.FORMS[form] | PENALTY, **more)
    plain = cases.Problem(**cases.FORMS[form], **more)
    for isa in cases.isas():
        for lanes in ("units", "rows"):
            value = p.run(isa=isa, lanes=lanes).loss_and_grad()[0]
            np.testing.assert_allclose(value, plain.reference()[0] + mean_penalty(p), rtol=1e-9)
            rounded = p.run("float32", isa=isa, lanes=lanes).loss_and_grad()[0]
            np.testing.assert_allclose(rounded, value, rtol=1e-5)
        p.check_core(isa=isa, lanes=("units", "rows")[isa == "avx2"])


@by_cell
def test_what_the_penalty_depends_on(cell):
    """Neither on threads nor on segments; passes of truncated BPTT each have the mean of their steps."""
    given = PENALTY | dict(every=True, lengths=(40, 40, 30, 7) * 10, hidden_size=40, num_layers=2)
    p = cases.Problem(cell=cell, activation=("tanh",), **given)
    net, targets = p.network(), p.targets()
    results = [net.loss_and_grad(p.x, targets, threads=n) for n in (1, 2)]
    assert results[0][0] == results[1][0] and (results[0][1].flat == results[1][1].flat).all()
    for bptt in (bf.CheckpointedBPTT(7), bf.TruncatedBPTT(6, 40)):
        loss, grads = net.loss_and_grad(p.x, targets, bptt=bptt)
        np.testing.assert_allclose(loss, results[0][0], rtol=1e-12)
        if not isinstance(bptt, bf.TruncatedBPTT):
            np.testing.assert_allclose(grads.flat, results[0][1].flat, rtol=1e-9, atol=1e-12)
    own = net.loss_and_grad(p.x, targets, loss=squares)
    np.testing.assert_allclose(own[0], results[0][0], rtol=1e-12)
    np.testing.assert_allclose(own[1].flat, results[0][1].flat, rtol=1e-9, atol=1e-12)


def squares(outputs, targets, weights):
    error = outputs - targets
    return float((error**2).mean()), 2 * error / error.size


@pytest.mark.parametrize("readout", ("every", "last"))
def test_the_penalty_in_training(readout):
    """It moves the rates to the target, in training alone."""
    y = Y if readout == "every" else Y[:, -1]
    net = network(nonlinearity="softplus", readout=readout, rate_penalty=100.0, rate_target=0.5)
    plain = network(nonlinearity="softplus", readout=readout)
    assert net.evaluate(X, y) == plain.evaluate(X, y)
    assert net.loss_and_grad(X, y)[0] > plain.loss_and_grad(X, y)[0]
    first = net.fit(X, y, epochs=1, optimizer=bf.SGD(1e-12), batch_size=5, verbose=0)["loss"][0]
    np.testing.assert_allclose(first, net.loss_and_grad(X, y)[0], rtol=1e-9)
    for bptt in (bf.FullBPTT(), bf.CheckpointedBPTT(4), bf.TruncatedBPTT(3, 6)):
        net = network(nonlinearity="softplus", readout=readout, rate_penalty=100.0, rate_target=0.5)
        history = net.fit(X, y, epochs=100, bptt=bptt, optimizer=bf.Adam(0.03), verbose=0)
        assert history["loss"][-1] < 0.3 * history["loss"][0]


# ---- bad input


@pytest.mark.parametrize(
    "options, words",
    (
        (dict(tau=0.5), ("tau", "dt=1", "0.5")),
        (dict(tau=np.inf), ("tau", "inf")),
        (dict(tau=np.nan), ("tau", "nan")),
        (dict(tau="slow"), ("tau", "'slow'")),
        (dict(tau=True), ("tau", "True")),
        (dict(tau=[[1], [1, 2]]), ("tau",)),
        (dict(tau=[1, 2]), ("tau", "hidden_size=6", "(2,)")),
        (dict(dt=0), ("dt", "above 0")),
        (dict(equation="euler"), ("equation", "'rate'", "'potential'")),
        (dict(noise="ito"), ("noise", "'sde'", "'step'", "'scaled'")),
        (dict(recurrent_noise=-1), ("recurrent_noise", "at least 0")),
        (dict(input_noise=np.nan), ("input_noise", "nan")),
        (dict(cell="gru", recurrent_noise=0.1), ("recurrent_noise", "ctrnn", "gru")),
        (dict(categories={2: 5}, input_noise=0.1), ("input_noise", "categories")),
        (dict(cell="gru", tau=3), ("tau", "ctrnn", "gru")),
        (dict(cell="elman", equation="potential", tau=10), ("equation", "ctrnn", "elman")),
        (dict(proj_size=2), ("proj_size", "ctrnn")),
        (dict(tau=1.0, train_tau=True), ("tau", "above dt=1", "train_tau")),
        (dict(train_tau=1), ("train_tau", "1")),
        (dict(cell="gru", train_tau=True), ("train_tau", "ctrnn", "gru")),
        (dict(rate_penalty=-1), ("rate_penalty", "at least 0")),
        (dict(rate_penalty=np.nan), ("rate_penalty", "nan")),
        (dict(rate_penalty=1, rate_target=np.inf), ("rate_target", "inf")),
        (dict(rate_target=0.1), ("rate_target", "rate_penalty=0")),
    ),
)
def test_bad_arguments(options, words):
    with pytest.raises((bf.ConfigError, bf.ShapeError)) as error:
        network(**dict(tau=10) | options)
    assert all(word in str(error.value) for word in words), error.value


@pytest.mark.parametrize(
    ("options", "words"),
    (
        (dict(recurrent_noise=0.1), "without noise"),
        (dict(input_noise=0.1), "without noise"),
        (dict(rate_penalty=0.1), "without a penalty"),
    ),
    ids=("recurrent", "input", "penalty"),
)
def test_where_noise_and_penalties_are_refused(options, words):
    net = network(readout="last", **options)
    for more in (dict(bptt=bf.SlidingBPTT(3)), dict(optimizer=bf.LevenbergMarquardt())):
        with pytest.raises(bf.ConfigError, match=words):
            net.fit(X, Y[:, -1] if "optimizer" in more else Y, verbose=0, **more)


@pytest.mark.parametrize(
    "fields",
    (
        dict(alpha=(0.0,) * 4),
        dict(alpha=(1.5,) * 4),
        dict(alpha=(0.5,) * 3),
        dict(noise="ito"),
        dict(recurrent_noise=-1.0),
        dict(cell="gru", alpha=(0.5,) * 4, activation=()),
        dict(cell="gru", train_tau=True, activation=()),
        dict(train_tau=True, alpha=(0.5,) * 4),
        dict(rate_penalty=-1.0),
        dict(rate_penalty=1.0, rate_target=np.inf),
    ),
)
def test_the_core_refuses(fields):
    desc = ref.DESC | dict(cell="ctrnn", hidden_size=4) | fields
    with pytest.raises(ValueError, match=r"alpha|noise|train_tau|rate_"):
        cases.core().blocks(desc)
