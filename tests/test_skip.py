"""skip=True: g reads h and the input of the same step, in every unfolding, verb and face."""

import json
import pickle

import numpy as np
import pytest
from support import cases, gradcheck
from support import reference as ref
from support.training import Training, check
from support.truncated import Truncated

import bptt_fast as bf
from bptt_fast import cli

CELLS = ("elman-tanh", "gru-after", "lstm-projection", "mingru", "ctrnn-potential")
GRADIENTS = {
    "last": dict(weighted=True),
    "every": dict(every=True, weighted=True, num_layers=2),
    "both ways": dict(bidirectional=True, head=(4,), input_size=9),
    "both ways, every": dict(bidirectional=True, every=True, head=(8, 5), input_size=1),
    "one sequence": dict(lengths=(6,), every=True, head=(4,), output_size=9),
    "trained": dict(initial_state="trained", head=(7,)),
}
# of a vector: below, at and above its width
WIDTHS = [(n, cases.WIDTHS[(5 * i + 3) % len(cases.WIDTHS)]) for i, n in enumerate(cases.WIDTHS)]
RAGGED = (7, 1, 12, 4)


def problem(**case):
    return cases.Problem(**dict(skip=True) | case)


def gradients(p, **options):
    """Loss and gradients of the network, the inputs' and the states' included."""
    given = dict(loss=p.loss, sample_weight=p.weights(), x0=p.state, with_inputs=True)
    return p.network().loss_and_grad(p.x, p.targets(), **given | options)


def arrays(p, grads):
    """What a gradient is taken by."""
    return np.concatenate([grads.flat, np.concatenate(grads["x"]).ravel(), grads["x0"].ravel()])


# ---- gradients


@pytest.mark.parametrize("name", GRADIENTS)
@pytest.mark.parametrize("form", CELLS)
def test_gradients(form, name):
    """Finite differences on every block, the inputs and the states; every instance is the oracle."""
    p = problem(**cases.FORMS[form] | GRADIENTS[name])
    p.check_core()
    expected = p.reference()
    for isa in cases.isas():
        for dtype in ("float64", "float32"):
            p.check_agreement(dtype, isa, expected=expected)
            if len(p.lengths) > 1:
                p.check_agreement(dtype, isa, expected=expected, lanes="rows")


@pytest.mark.parametrize("every", (False, True), ids=("last", "every"))
@pytest.mark.parametrize("hidden_size, input_size", WIDTHS)
def test_widths(hidden_size, input_size, every):
    p = problem(hidden_size=hidden_size, input_size=input_size, every=every, bidirectional=hidden_size % 2)
    expected = p.reference()
    for isa in cases.isas():
        p.check_agreement("float64", isa, expected=expected)
        p.check_agreement("float64", isa, expected=expected, lanes="rows")


def test_oracle():
    for case in GRADIENTS.values():
        small = dict(lengths=(3, 1), hidden_size=2, input_size=2, head=case.get("head", ())[:1])
        problem(**case | small).check_reference()


def test_predictions():
    for case in GRADIENTS.values():
        p = problem(**case | dict(every=True))
        for every in (False, True):
            expected, final = ref.predict(p.desc, p.params, p.x, p.state, every)
            got, state = p.run().predict(every)
            np.testing.assert_allclose(np.concatenate(got), np.concatenate(expected), atol=1e-10)
            np.testing.assert_allclose(state, final, atol=1e-10)


# ---- unfoldings


@pytest.mark.parametrize("every", (False, True), ids=("last", "every"))
@pytest.mark.parametrize("k1, k2", ((4, 4), (3, 8)))
def test_truncated(k1, k2, every):
    case = dict(skip=True, every=every, lengths=(11, 3, 7), head=(4,), hidden_size=3)
    truncated = Truncated(k1, k2, **case)
    truncated.check_reference()
    truncated.check_core()
    Truncated(k1, k2, **cases.FORMS["lstm"], **case).check_core()


@pytest.mark.parametrize("every", (False, True), ids=("last", "every"))
def test_checkpointed_and_grouped(every):
    """The gradient of all steps at once, also of a batch that is divided into groups by length."""
    p = problem(every=every, lengths=(*RAGGED, 40), head=(4,), num_layers=2, weighted=True)
    value, expected = gradients(p)
    for bptt in (bf.CheckpointedBPTT(5), bf.CheckpointedBPTT(3, slots=2)):
        got_value, got = gradients(p, bptt=bptt)
        assert got_value == value
        np.testing.assert_allclose(arrays(p, got), arrays(p, expected), rtol=0, atol=1e-13)
    got = p.run(area=80).loss_and_grad()[1]
    for name, grad in p.run().loss_and_grad()[1].items():
        np.testing.assert_allclose(got[name], grad, rtol=0, atol=1e-13, err_msg=name)


@pytest.mark.parametrize("lead", (0, 2))
@pytest.mark.parametrize("form", ("elman-tanh", "mlp-4", "gru-after", "lstm"))
def test_sliding(form, lead):
    for head, k in (((), 1), ((6,), 4)):
        training = Training(**cases.FORMS[form], skip=True, head=head, lengths=(40, 12), input_size=9)
        check(*training.slide(k, lead), 1e-10, training.problem.params)


@pytest.mark.parametrize("dtype", ("float32", "float64"))
def test_learner_restarts_and_copies(dtype):
    """A learner makes fit's updates; restarts those of their single runs, also where others share vectors."""
    random = np.random.default_rng(0)
    x, y = random.normal(size=(60, 3)), random.normal(size=(60, 2))
    fits = dict(bptt=bf.SlidingBPTT(4), optimizer=bf.SGD(0.1), verbose=0)
    nets = [bf.Network(3, 8, 2, skip=True, dtype=dtype, seed=seed) for seed in (0, 0)]
    nets[0].fit(x, y, **fits, epochs=1)
    learner = nets[1].learn_online(bf.SlidingBPTT(4), bf.SGD(0.1))
    for row, target in zip(x, y, strict=True):
        learner.observe(row, target)
    assert nets[0].params.tobytes() == nets[1].params.tobytes()
    best, table = bf.restarts(bf.Network(3, 8, 2, skip=True, dtype=dtype, seed=0), x, y, 3, epochs=2, **fits)
    again = bf.Network(**best.config())
    history = again.fit(x, y, **fits, epochs=2)
    assert again.params.tobytes() == best.params.tobytes()
    assert history["loss"][-1] == pytest.approx(min(table["loss"]))


def test_closed_loop():
    """Outputs as inputs, which g reads, too: finite differences; the forecast is the oracle's loop."""
    p = problem(
        input_size=3, output_size=3, every=True, lengths=(7, 1, 4), weighted=True, gain=0.6, head=(4,)
    )
    net = p.network()

    def loss():
        given = dict(loss=p.loss, x0=p.state, sample_weight=p.weight)
        return net.loss_and_grad(p.x, p.y, **given, teacher_forcing=0.5, with_inputs=True)

    grads = loss()[1]
    slopes = {k: grads[k] for k in net} | {"x0": grads["x0"]}
    slopes |= {f"x[{i}]": d for i, d in enumerate(grads["x"])}
    known = {k: net[k] for k in net} | {"x0": p.state} | {f"x[{i}]": x for i, x in enumerate(p.x)}
    gradcheck.check(lambda: loss()[0], known, slopes, p.line)
    expected = [ref.forecast(p.desc, p.params, x, s, 6) for x, s in zip(p.x, p.state, strict=True)]
    np.testing.assert_allclose(net.forecast(p.x, 6, x0=p.state), expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize("batch", (1, 3, 40))
def test_streams_and_windows(batch):
    net = bf.Network(3, 6, 2, cell="lstm", skip=True, readout="every", dtype="float64", seed=1)
    random = np.random.default_rng(0)
    x = random.normal(size=(batch, 9, 3))
    stream = net.stream(batch)
    outputs = np.stack([np.reshape(stream.step(row), (batch, 2)) for row in x.swapaxes(0, 1)], axis=1)
    np.testing.assert_allclose(outputs, net.predict(x), rtol=0, atol=1e-13)
    series, targets = random.normal(size=(50, 3)), random.normal(size=(50, 2))
    windows = bf.Sequences.windows(series, 6)
    arrays = np.stack([series[i : i + 6] for i in range(44)])
    one, other = (bf.Network(3, 6, 2, skip=True, dtype="float64", seed=1) for _ in range(2))
    fits = dict(epochs=2, batch_size=batch, shuffle=False, verbose=0)
    one.fit(windows, targets, **fits)
    other.fit(arrays, targets[6:], **fits)
    np.testing.assert_allclose(one.params, other.params, rtol=0, atol=1e-12)


def test_noise_is_read_by_both():
    """g reads what f reads, with the noise of the inputs."""
    d = dict(input_size=3, hidden_size=5, output_size=2, skip=True, input_noise=0.5, dtype="float64", seed=3)
    net, x = bf.Network(**d), np.zeros((4, 6, 3))
    net.params[:] = 0
    net["head.0.weight"][:, 5:] = 1
    loss, grads = net.loss_and_grad(x, np.zeros((4, 2)))
    assert loss > 0.1 and abs(grads["head.0.weight"][:, 5:]).max() > 0.1
    assert not net.predict(x).any()


@pytest.mark.parametrize("numbers", (0, 2, 20))
@pytest.mark.parametrize("options", ({}, {"head": (6,)}, {"bidirectional": True, "head": (4, 3)}))
def test_categories(options, numbers):
    """As the network with one-hot vectors in their place, also where its first layer has a nonlinearity."""
    sizes, random = (7, 3), np.random.default_rng(0)
    places = {numbers + i: n for i, n in enumerate(sizes)}
    for readout, way in (("every", {}), ("last", {}), ("every", {"bptt": bf.CheckpointedBPTT(3)})):
        if way and "bidirectional" in options:
            continue
        d = dict(hidden_size=9, output_size=3, skip=True, dtype="float64", seed=1, readout=readout, **options)
        net = bf.Network(numbers + 2, categories=places, **d)
        one_hot = bf.Network(numbers + 10, **d)
        one_hot.load_state_dict(net.state_dict())
        for n, steps in ((1, 9), (6, 7)):
            columns = [random.integers(0, size, size=(n, steps, 1)) for size in sizes]
            x = np.concatenate([random.normal(size=(n, steps, numbers)), *columns], axis=2)
            wide = net.encoded(x)
            y = random.normal(size=(n, steps, 3) if readout == "every" else (n, 3))
            np.testing.assert_allclose(net.predict(x), one_hot.predict(wide), rtol=0, atol=1e-12)
            value, grads = net.loss_and_grad(x, y, with_inputs=True, **way)
            wanted, wanted_grads = one_hot.loss_and_grad(wide, y, with_inputs=True, **way)
            assert value == pytest.approx(wanted, rel=1e-12)
            np.testing.assert_allclose(grads.flat, wanted_grads.flat, rtol=0, atol=1e-12)
            dx = grads["x"]
            np.testing.assert_allclose(dx[..., :numbers], wanted_grads["x"][..., :numbers], atol=1e-12)
            assert not dx[..., numbers:].any()


def test_categories_online():
    random = np.random.default_rng(0)
    x = np.column_stack([random.normal(size=(30, 2)), random.integers(0, 4, size=30)])
    y = random.normal(size=(30, 2))
    for head in ((), (5,)):
        d = dict(hidden_size=6, output_size=2, skip=True, head=head, dtype="float64", seed=1)
        net, one_hot = bf.Network(3, categories={2: 4}, **d), bf.Network(6, **d)
        one_hot.load_state_dict(net.state_dict())
        fits = dict(bptt=bf.SlidingBPTT(4), optimizer=bf.SGD(0.1), shuffle=False, verbose=0)
        wide = net.encoded(x)
        net.fit(x, y, **fits)
        one_hot.fit(wide, y, **fits)
        np.testing.assert_allclose(net.params, one_hot.params, rtol=0, atol=1e-11)


@pytest.mark.parametrize("bptt", (bf.FullBPTT(), bf.TruncatedBPTT(5, 10), bf.CheckpointedBPTT(7)))
@pytest.mark.parametrize("lengths", ((40,) * 48, tuple(range(1, 49)), (900,)), ids=("equal", "ragged", "one"))
def test_threads(bptt, lengths):
    """Equal bits."""
    p = problem(**cases.LARGE, lengths=lengths, every=True)
    ends = set()
    for threads in (1, 2, 3):
        net = p.network("float32")
        net.fit(p.x, p.y, epochs=1, batch_size=len(lengths), verbose=0, threads=threads, bptt=bptt)
        ends.add(net.params.tobytes())
    assert len(ends) == 1


OPTIMIZERS = {
    "levenberg": bf.LevenbergMarquardt(),
    "lbfgs": bf.LBFGS(),
    "hessian free": bf.HessianFree(),
    "structural damping": bf.HessianFree(structural_damping=0.3),
}


@pytest.mark.parametrize("optimizer", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_second_order(optimizer):
    """A target that the input of the step explains, which h does not have."""
    x = np.random.default_rng(0).normal(size=(8, 6, 3))
    y = x[..., :1] - 2 * x[..., 1:2]
    net = bf.Network(3, 4, 1, skip=True, readout="every", dtype="float64", seed=0)
    before = net.evaluate(x, y)
    net.fit(x, y, optimizer=optimizer, epochs=15, verbose=0)
    assert net.evaluate(x, y) < 1e-4 * before


def test_rules():
    """Masks and the group lasso see the columns of x as any others."""
    x = np.random.default_rng(0).normal(size=(8, 6, 5))
    y = x[:, -1, :1]
    net = bf.Network(5, 4, 1, skip=True, dtype="float64", seed=0)
    mask = np.ones((1, 9), bool)
    mask[0, 6] = False
    net.rules = {"head.0.weight": bf.Rule(mask=mask, l1=0.05)}
    net.fit(x, y, optimizer=bf.SGD(0.1), epochs=200, verbose=0)
    weight = net["head.0.weight"][0]
    assert weight[6] == 0 and weight[4] > 0.3 and abs(weight[[5, 7, 8]]).max() < 0.01
    net.rules = {"head.0.weight": bf.Rule(group=("columns", 0.05))}
    net.fit(x, y, optimizer=bf.SGD(0.1), epochs=200, verbose=0)
    assert (net["head.0.weight"][0] == 0).any() and net["head.0.weight"][0, 4] > 0.3


# ---- faces


def test_files_copies_and_texts(tmp_path):
    net = bf.Network(3, 5, 2, cell="gru", head=(4,), skip=True, seed=0)
    assert net["head.0.weight"].shape == (4, 8)
    assert "skip" in repr(net) and net.config()["skip"] is True
    assert "skip" not in repr(bf.Network(3, 5, 2))
    x = np.random.default_rng(0).normal(size=(2, 6, 3)).astype("float32")
    net.save(tmp_path / "net.safetensors")
    for again in (bf.load(tmp_path / "net.safetensors"), pickle.loads(pickle.dumps(net))):
        assert again.config() == net.config() and again.predict(x).tobytes() == net.predict(x).tobytes()
    for wrong in (2, "yes", None):
        with pytest.raises(bf.ConfigError, match="skip: expected True or False"):
            bf.Network(3, 5, 2, skip=wrong)
    states = bf.diagnostics.states(net, x[0])
    without = bf.Network(3, 5, 2, cell="gru", head=(4,), seed=0)
    without.load_state_dict({k: v[:, :5] if k == "head.0.weight" else v for k, v in net.state_dict().items()})
    np.testing.assert_array_equal(states, bf.diagnostics.states(without, x[0]))
    points = [bf.diagnostics.fixed_points(n, x[0, 0]).points for n in (net, without)]
    np.testing.assert_array_equal(*points)


ONNX = {
    "last": dict(cell="gru"),
    "every": dict(cell="lstm", num_layers=2, readout="every", initial_state="trained"),
    "both ways": dict(bidirectional=True, head=(4,)),
    "both ways, every": dict(bidirectional=True, readout="every", head=(4, 6), head_nonlinearity="relu"),
    "scan": dict(cell="lstm", proj_size=3, peephole=True),
}


@pytest.mark.parametrize("scaled", (False, True))
@pytest.mark.parametrize("form", ONNX)
def test_onnx(form, scaled, tmp_path):
    """onnxruntime computes predict's outputs; the file, also without its notes, becomes the same network."""
    onnx, runtime = pytest.importorskip("onnx"), pytest.importorskip("onnxruntime")
    net = bf.Network(3, 5, 2, skip=True, seed=4, **ONNX[form])
    net.params[:] = np.random.default_rng(1).uniform(-0.7, 0.7, net.num_parameters)
    if scaled:
        net.scaling = bf.Scaling([1, -2, 0.5], [2, 0.5, 1], [3, 4], [1, 5])
    path = tmp_path / "model.onnx"
    net.to_onnx(path)
    options = runtime.SessionOptions()
    options.log_severity_level = 3
    session = runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    for n, steps in ((1, 1), (4, 7)):
        x = np.random.default_rng(n).normal(size=(n, steps, 3)).astype("float32")
        np.testing.assert_allclose(session.run(["y"], {"x": x})[0], net.predict(x), rtol=1e-5, atol=1e-5)
    again = bf.from_onnx(path)
    assert again.config() == net.config() and again.params.tobytes() == net.params.tobytes()
    if form == "scan":
        return
    graph = onnx.load(path)
    del graph.metadata_props[:]
    onnx.save(graph, path)
    again = bf.from_onnx(path)
    assert again.description.skip
    np.testing.assert_allclose(again.predict(x), net.predict(x), rtol=1e-5, atol=1e-5)


def test_onnx_that_joins_something_else(tmp_path):
    """Unscaled inputs, those of another step, or an input between two layers are no skip."""
    onnx = pytest.importorskip("onnx")
    net = bf.Network(3, 5, 2, skip=True, readout="every", seed=4)
    net.scaling = bf.Scaling([1, -2, 0.5], [2, 0.5, 1])
    path = tmp_path / "model.onnx"
    net.to_onnx(path)
    graph = onnx.load(path)
    for node in graph.graph.node:
        if node.op_type == "Concat" and len(node.input) == 2:
            node.input[1] = "x"
    onnx.save(graph, path)
    with pytest.raises(bf.ConfigError, match="expected"):
        bf.from_onnx(path)
    torch = pytest.importorskip("torch")

    class Delayed(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn, self.fc = torch.nn.GRU(3, 5, batch_first=True), torch.nn.Linear(8, 2)

        def forward(self, x):
            return self.fc(torch.cat([self.rnn(x)[0], x.flip(1)], -1))

    given = dict(dynamo=False, dynamic_axes={"x": {0: "n", 1: "t"}}, input_names=["x"])
    with pytest.warns():
        torch.onnx.export(Delayed().eval(), torch.zeros(2, 4, 3), path, **given)
    with pytest.raises(bf.ConfigError, match="expected"):
        bf.from_onnx(path)


@pytest.mark.parametrize("readout", ("last", "every"))
def test_torch(readout, tmp_path):
    torch = pytest.importorskip("torch")
    random = np.random.default_rng(0)
    for options in (dict(cell="gru"), dict(cell="lstm", bidirectional=True, head=(4,), proj_size=2)):
        net = bf.Network(3, 5, 2, skip=True, readout=readout, seed=0, dtype="float64", **options)
        net.scaling = bf.Scaling([1, -2, 0.5], [2, 0.5, 1])
        module = net.to_torch()
        x = random.normal(size=(4, 6, 3))
        np.testing.assert_allclose(module(torch.tensor(x)).detach(), net.predict(x), rtol=0, atol=1e-12)
        ragged = [x[i, : 2 + i] for i in (2, 0, 3)]
        packed = torch.nn.utils.rnn.pack_sequence([torch.tensor(a) for a in ragged], enforce_sorted=False)
        for ours, theirs in zip(net.predict(ragged), module(packed).detach(), strict=True):
            np.testing.assert_allclose(theirs[: len(ours)], ours, rtol=0, atol=1e-12)
        again = bf.from_torch(module)
        assert again.config() == net.config() and again.params.tobytes() == net.params.tobytes()
    rnn, fc = torch.nn.GRU(3, 5, batch_first=True), torch.nn.Linear(8, 2)
    net = bf.from_torch(rnn, fc, skip=True)
    x = torch.tensor(x, dtype=torch.float32)
    wanted = fc(torch.cat((rnn(x)[0], x), -1)).detach()
    np.testing.assert_allclose(net.predict(x.numpy()), wanted, atol=1e-5)
    assert bf.from_torch(rnn, skip=True).predict(x.numpy()).shape == (4, 6, 8)
    with pytest.raises(bf.ShapeError, match=r"head\.0\.weight"):
        bf.from_torch(rnn, fc)


def test_estimators():
    pytest.importorskip("sklearn")
    from bptt_fast.estimators import RNNClassifier, RNNForecaster, RNNRegressor

    random = np.random.default_rng(0)
    x = random.normal(size=(20, 6, 2))
    fits = dict(hidden_size=4, skip=True, max_iter=2, random_state=0, tol=0, n_iter_no_change=9)
    with pytest.warns(match="max_iter"):
        estimators = [
            RNNRegressor(**fits).fit(x, x[:, -1, 0]),
            RNNClassifier(**fits).fit(x, x[:, -1, 0] > 0),
            RNNForecaster(**fits).fit(random.normal(size=(60, 1))),
        ]
    assert all(e.network_.description.skip for e in estimators)


def test_command_line(tmp_path, capsys):
    rows = np.random.default_rng(0).normal(size=(60, 2))
    table = tmp_path / "rows.csv"
    table.write_text("a,b\n" + "\n".join(f"{a},{b}" for a, b in rows) + "\n")
    model = tmp_path / "net.safetensors"
    base = ["train", str(table), "--inputs", "a,b", "--targets", "b", "--epochs", "1", "--quiet", "--seed=1"]
    (tmp_path / "with.toml").write_text("skip = true\nhidden = 4\n")
    for words, skip in (
        (["--skip"], True),
        ([], False),
        (["--config", str(tmp_path / "with.toml")], True),
        (["--config", str(tmp_path / "with.toml"), "--no-skip"], False),
    ):
        assert cli.main([*base, "--out", str(model), *words]) == 0
        assert bf.load(model).description.skip is skip
    capsys.readouterr()
    assert cli.main(["info", str(model), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["model"]["network"]["skip"] is False
