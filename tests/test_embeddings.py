"""Embeddings of integer inputs.

A network with the embedding E (n, width), which the columns W of the input weights (with `skip` also of g's)
read, equals the one with one-hot inputs and the columns W E': outputs, and by the chain rule gradients,
follow from those.  Where E or W is an identity that stays as it is, training is that of one-hot inputs, too.
"""

import numpy as np
import pytest
from support import gradcheck
from support.categories import CELLS, RANDOM, WAYS, encoded, inputs, same, start_again

import bptt_fast as bf
from bptt_fast import _core

# the numbers before them, and for each integer its values, or these and the width of its embedding
FORMS = {
    "one": (0, ((5, 3),)),
    "beside numbers": (2, ((7, 2), 3)),
    "after one-hot": (1, (4, (3, 5), (6, 1))),
    "many": (0, ((40, 19),)),
}


@pytest.fixture(autouse=True)
def _random_numbers():
    start_again()


def sizes_of(sizes):
    return tuple(size if isinstance(size, int) else size[0] for size in sizes)


def network(numbers=0, sizes=((5, 3),), **options):
    options = {
        "hidden_size": 9,
        "output_size": 3,
        "dtype": "float64",
        "seed": 1,
        "readout": "every",
    } | options
    return bf.Network(input_size=numbers + len(sizes), categories=dict(enumerate(sizes, numbers)), **options)


def readers(net):
    """What reads the inputs: {name: columns of the weights before theirs}."""
    columns = net["weight_ih_l0"].shape[1]
    names = [name for name in net.state_dict() if name.startswith("weight_ih_l0")]
    names += ["head.0.weight"] * net.description.skip
    return {name: net[name].shape[1] - columns for name in names}


def parts_of(net, before=0):
    """The columns of weights that read the inputs: the slice of each input with E, or None."""
    d = net.description
    first, at = d.input_size - len(d.categories), before
    for column in range(d.input_size):
        size = 1 if column < first else d.category_sizes[column - first]
        width = d.embeddings.get(column, size)
        table = net[f"embedding.{column}.weight"] if column in d.embeddings else None
        yield slice(at, at + width), table
        at += width


def one_hot_twin(net):
    """The network with one-hot inputs that computes the same."""
    d = net.description
    config = net.config() | {
        "categories": (),
        "input_size": d.input_size - len(d.categories) + sum(d.category_sizes),
    }
    twin = bf.Network(**config)
    weights = {name: w for name, w in net.state_dict().items() if not name.startswith("embedding.")}
    for name, before in readers(net).items():
        w = weights[name]
        columns = [w[:, at] if e is None else w[:, at] @ e.T for at, e in parts_of(net, before)]
        weights[name] = np.concatenate([w[:, :before], *columns], axis=1)
    twin.load_state_dict(weights)
    return twin


def chained(net, grads):
    """The gradients of the network from those of its twin with one-hot inputs."""
    wanted = {name: np.array(g) for name, g in grads.items()}
    embeddings = [name for name in net.state_dict() if name.startswith("embedding.")]
    wanted |= {name: np.zeros(net[name].shape) for name in embeddings}
    for name, before in readers(net).items():
        columns, at, seen = [grads[name][:, :before]], before, iter(embeddings)
        for part, e in parts_of(net, before):
            width = part.stop - part.start if e is None else len(e)
            g = grads[name][:, at : at + width]
            at += width
            columns.append(g if e is None else g @ e)
            if e is not None:
                wanted[next(seen)] += g.T @ net[name][:, part]
        wanted[name] = np.concatenate(columns, axis=1)
    return wanted


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("cell", CELLS)
def test_outputs_and_gradients(cell, form):
    numbers, sizes = FORMS[form]
    net = network(numbers, sizes, **CELLS[cell])
    twin = one_hot_twin(net)
    for n, steps in ((1, 9), (5, 7), (40, 3)):
        x = inputs(numbers, sizes_of(sizes), n=n, steps=steps)
        one_hot = encoded(x, numbers, sizes_of(sizes))
        y = RANDOM.integers(0, 3, size=(n, steps))
        same(net.predict(x), twin.predict(one_hot))
        loss, grads = net.loss_and_grad(x, y, loss="cross_entropy", with_inputs=True)
        wanted, twin_grads = twin.loss_and_grad(one_hot, y, loss="cross_entropy", with_inputs=True)
        same(loss, wanted)
        for name, g in chained(net, {name: twin_grads[name] for name in twin.state_dict()}).items():
            same(grads[name], g)
        same(grads["x"][..., :numbers], twin_grads["x"][..., :numbers])
        assert not grads["x"][..., numbers:].any()


UNFOLDINGS = {
    "truncated": {"bptt": bf.TruncatedBPTT(2, 4)},
    "checkpointed": {"bptt": bf.CheckpointedBPTT(3)},
    "ragged": {"lengths": [8, 1, 5, 8, 2, 3]},
    "weights": {"sample_weight": [1, 0, 2, 1, 1, 0.5]},
}


@pytest.mark.parametrize("way", UNFOLDINGS)
def test_gradients_of_every_unfolding(way):
    numbers, sizes = FORMS["after one-hot"]
    for options in (
        {"cell": "lstm"},
        {"num_layers": 2, "initial_state": "trained"},
        {"skip": True, "head": (4,)},
        {"skip": True, "readout": "last"},
    ):
        net = network(numbers, sizes, **options)
        twin = one_hot_twin(net)
        x, y = inputs(numbers, sizes_of(sizes)), RANDOM.normal(size=(6, 8, 3))
        if net.readout == "last":
            y = y[:, 0]
        loss, grads = net.loss_and_grad(x, y, **UNFOLDINGS[way])
        wanted, twin_grads = twin.loss_and_grad(encoded(x, numbers, sizes_of(sizes)), y, **UNFOLDINGS[way])
        same(loss, wanted)
        for name, g in chained(net, {name: twin_grads[name] for name in twin.state_dict()}).items():
            same(grads[name], g)


@pytest.mark.parametrize("cell", ("gru", "both directions", "skip"))
def test_finite_differences(cell):
    numbers, sizes = FORMS["beside numbers"]
    net = network(numbers, sizes, **CELLS[cell] | {"hidden_size": 3, "output_size": 1})
    x, y = inputs(numbers, sizes_of(sizes), n=3, steps=4), RANDOM.normal(size=(3, 4, 1))
    _, grads = net.loss_and_grad(x, y)
    blocks = {name: net[name] for name in net}
    gradcheck.check(lambda: net.evaluate(x, y), blocks, {name: grads[name] for name in blocks})


@pytest.mark.parametrize("readout", ("last", "every"))
@pytest.mark.parametrize("cell", ("gru", "both directions", "skip", "skip, both directions"))
def test_jacobian(cell, readout):
    """The rows of second order are derivatives of the outputs."""
    net = network(1, ((5, 3), 4), **CELLS[cell] | {"hidden_size": 3, "output_size": 2, "readout": readout})
    x = inputs(1, (5, 4), n=3, steps=4)
    starts, lengths, order = np.arange(3) * 4, np.full(3, 4), np.arange(3)
    targets = np.arange(3) * (4 if readout == "every" else 1)
    y = net.predict(x).reshape(-1, 2)
    data = _core.Data(x.reshape(-1, 3), starts, lengths, targets, np.zeros_like(y))
    size = net.num_parameters + 1
    gram, rows = np.empty((size, size)), np.empty((*y.shape, size))
    plan = _core.Plan(net.desc(), readout_every_step=readout == "every", batch=3, steps=4, residuals=5)
    assert plan.gauss_newton(net.params, data, order, gram, rows) == "OK"
    same(rows[..., -1], y)
    for i in range(net.num_parameters):
        kept = net.params[i]
        net.params[i] = kept + 1e-5
        above = net.predict(x)
        net.params[i] = kept - 1e-5
        slope = (above - net.predict(x)).reshape(y.shape) / 2e-5
        net.params[i] = kept
        same(rows[..., i], slope, 1e-8)


def frozen(which, **options):
    """A network of which E, or what reads it, is an identity, and the one-hot network that it equals."""
    gates = {"lstm": 4, "gru": 3}.get(options.get("cell"), 1)
    width = 5 if which == "embedding" else 9 * gates
    net = network(2, (3, (5, width)), **options)
    if which == "embedding":
        net["embedding.3.weight"] = np.eye(5)
        net.rules["embedding.3.weight"] = bf.Rule(trainable=False)
    else:
        trainable = np.ones(net["weight_ih_l0"].shape, bool)
        net["weight_ih_l0"][:, 5:], trainable[:, 5:] = np.eye(width), False
        net.rules["weight_ih_l0"] = bf.Rule(trainable=trainable)
    twin = one_hot_twin(net)

    def check(tolerance):
        wanted = one_hot_twin(net)
        same(wanted.params, twin.params, tolerance)
        moved = net["weight_ih_l0"][:, 5:] if which == "embedding" else net["embedding.3.weight"]
        kept = net["embedding.3.weight"] if which == "embedding" else net["weight_ih_l0"][:, 5:]
        assert np.array_equal(kept, np.eye(len(kept))) and np.ptp(moved) > 0

    return net, twin, check


@pytest.mark.parametrize("which", ("embedding", "weights"))
@pytest.mark.parametrize("way", WAYS)
def test_training_is_that_of_one_hot_inputs(way, which):
    for options in ({"cell": "lstm"}, {}, *[{"skip": True}] * (which == "embedding")):
        net, twin, check = frozen(which, **options)
        x, y = inputs(2, (3, 5)), RANDOM.normal(size=(6, 8, 3))
        fits = {"epochs": 3, "batch_size": 3, "shuffle": False, "verbose": 0} | WAYS[way]
        if isinstance(fits.get("optimizer"), (bf.LevenbergMarquardt, bf.LBFGS, bf.HessianFree)):
            del fits["batch_size"]
        if way == "stateful":
            del fits["shuffle"]
        history = net.fit(x, y, **fits)
        if way == "hessian free":
            # test_second_order has its products, of which conjugate gradients amplify the last digits
            assert history["loss"][-1] < 0.9 * history["loss"][0]
            continue
        if way == "scaled":
            s = net.scaling
            fits["scaling"] = bf.Scaling(
                s.input_mean[:2] + (0,) * 8, s.input_scale[:2] + (1,) * 8, s.output_mean, s.output_scale
            )
        twin.fit(encoded(x, 2, (3, 5)), y, **fits)
        check(1e-6)


@pytest.mark.parametrize("which", ("embedding", "weights"))
@pytest.mark.parametrize("options", [{}, {"cell": "lstm"}, {"num_layers": 2}, {"head": (4,)}, {"skip": True}])
def test_the_online_algorithm(options, which):
    if which == "weights" and "skip" in options:
        pytest.skip("those of g would have to be an identity, too")
    net, twin, check = frozen(which, readout="last", **options)
    again, _, _ = frozen(which, readout="last", **options)
    x, y = inputs(2, (3, 5), n=1, steps=30)[0], RANDOM.normal(size=(30, 3))
    learner = net.learn_online(bf.SlidingBPTT(4), bf.SGD(0.1))
    for row, target in zip(x, y, strict=True):
        learner.observe(row, target)
    fits = {"bptt": bf.SlidingBPTT(4), "optimizer": bf.SGD(0.1), "shuffle": False, "verbose": 0}
    again.fit(x, y, **fits)
    assert again.params.tobytes() == net.params.tobytes()
    twin.fit(encoded(x, 2, (3, 5)), y, **fits)
    check(1e-9)
    _, table = bf.restarts(
        network(2, (3, (5, 2)), readout="last", **options),
        x,
        y,
        3,
        epochs=1,
        bptt=bf.SlidingBPTT(4),
        verbose=0,
    )
    assert np.isfinite(table["loss"]).all() and len(set(table["loss"])) == 3


@pytest.mark.parametrize("skip", (False, True))
def test_windows_streams_and_generated_text(skip):
    net = network(cell="gru", output_size=5, skip=skip)
    twin = one_hot_twin(net)
    series, y = inputs(n=1, steps=60)[0], RANDOM.normal(size=(60, 5))
    windows = bf.Sequences.windows(series, 6)
    _, grads = net.loss_and_grad(windows, y)
    _, twin_grads = twin.loss_and_grad(bf.Sequences.windows(encoded(series), 6), y)
    for name, g in chained(net, {name: twin_grads[name] for name in twin.state_dict()}).items():
        same(grads[name], g)
    net.fit(windows, y, epochs=2, shuffle=False, verbose=0)  # windows that share their projections
    for batch in (1, 3):
        stream = net.stream(batch)
        rows = np.tile(series[:5, None], (1, batch, 1)) if batch > 1 else series[:5]
        outputs = [stream.step(row) for row in rows]
        same(np.reshape(outputs[-1], (batch, 5))[-1], net.predict(series[:5])[-1])
    ends = net.forecast(series, 4, next_input=lambda y, step: [np.argmax(y)])
    same(ends[1], net.predict(np.vstack([series, [[np.argmax(ends[0])]]]), readout="last"))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("way", ("full", "truncated", "checkpointed"))
def test_bits_do_not_depend_on_threads(way, dtype):
    sizes = ((300, 20), (5, 3))
    x, y = inputs(sizes=sizes_of(sizes), n=64, steps=40), RANDOM.integers(0, 3, size=(64, 40))
    options = {"hidden_size": 40, "cell": "lstm", "bidirectional": way == "full", "skip": True}
    fits = {"loss": "cross_entropy", "epochs": 1, "batch_size": 32, "verbose": 0} | WAYS[way]
    found = set()
    for threads in (1, 2, 3, 4):
        net = network(0, sizes, dtype=dtype, **options)
        assert _core.Plan(net.desc(), batch=32, steps=40, threads=threads).threads == threads
        before = net["embedding.0.weight"].copy()
        net.fit(x, y, threads=threads, **fits)
        found.add(net.params.tobytes() + net.predict(x, threads=threads).tobytes())
    assert len(found) == 1 and (net["embedding.0.weight"] != before).all()


# ---- many values


def test_tables_have_the_rows_of_a_batch():
    """However many values there are; those that are not in it have no gradient."""

    def bytes_of_tables(values, **sizes):
        plan = _core.Plan(network(0, ((values, 3),)).desc(), **sizes)
        return sum(size for name, _, size in plan.views() if name.startswith(("table", "used")))

    few, many = (bytes_of_tables(values, batch=32, steps=16) for values in (512, 100_000))
    assert few == many
    net = network(0, ((100_000, 3),))
    x, y = inputs(sizes=(100_000,)), RANDOM.normal(size=(6, 8, 3))
    grad = net.loss_and_grad(x, y)[1]["embedding.0.weight"]
    assert np.array_equal(np.flatnonzero(grad.any(axis=1)), np.unique(x))


@pytest.mark.parametrize("readout", ("last", "every"))
@pytest.mark.parametrize("skip", (False, True))
def test_more_values_than_a_table_has_rows(readout, skip):
    """In streams, and in predictions of long series in blocks of steps."""
    net = network(1, (3, (700, 2)), skip=skip, readout=readout, output_size=2)
    twin, sizes = one_hot_twin(net), (3, 700)
    x, y = inputs(1, sizes, n=1, steps=1500)[0], RANDOM.normal(size=(1500 if readout == "every" else 1, 2))
    wanted = twin.predict(encoded(x, 1, sizes))
    same(net.predict(x), wanted)
    same(net.predict([x, x[:400]], threads=2)[0], wanted)
    same(net.evaluate(x, y), twin.evaluate(encoded(x, 1, sizes), y))
    stream = net.stream()
    same([stream.step(row) for row in x][-1], np.atleast_2d(wanted)[-1])


@pytest.mark.parametrize("threads", (1, 3))
def test_a_stop_leaves_nothing_behind(threads):
    net = network(0, ((200_000, 16),), dtype="float32", hidden_size=16)
    x, y = (
        inputs(sizes=(200_000,), n=40, steps=4000).astype("f"),
        RANDOM.normal(size=(160_000, 3)).astype("f"),
    )
    starts, lengths, order = np.arange(40) * 4000, np.full(40, 4000), np.arange(40)
    data = _core.Data(x.reshape(-1, 1), starts, lengths, starts, targets=y)
    plan = _core.Plan(net.desc(), batch=40, steps=4000, readout_every_step=True, threads=threads)
    grads = np.zeros((2, net.num_parameters), "f")
    for i, grad in enumerate(grads):
        assert plan.loss_and_grad(net.params, data, order, grad)[0] == "OK"
        if i == 0:
            other = grad.copy()
            stopped = plan.loss_and_grad(net.params, data, order, other, poll=lambda done: True)
            assert stopped[0] == "INTERRUPTED"
    assert grads[0].tobytes() == grads[1].tobytes() and grads[0].any()


def test_names_files_copies_initial_values_and_rules(tmp_path):
    net = network(2, ((70, 20), 3))
    assert net.keys()[0] == "embedding.2.weight" and net["embedding.2.weight"].shape == (70, 20)
    assert net["weight_ih_l0"].shape == (9, 2 + 20 + 3)
    assert abs(net["embedding.2.weight"].std() - 1) < 0.1 and abs(net["embedding.2.weight"].mean()) < 0.1
    net.save(tmp_path / "net.safetensors")
    again = bf.load(tmp_path / "net.safetensors")
    x = inputs(2, (70, 3))
    assert again.config() == net.config() and again.description.categories == ((2, (70, 20)), (3, 3))
    assert again.predict(x).tobytes() == net.predict(x).tobytes()
    assert "categories={2: (70, 20), 3: 3}" in repr(net)
    assert bf.Network(**net.config()).params.tobytes() == net.params.tobytes()
    drawn = network(0, ((4, 2),), init=lambda name, shape, random: np.full(shape, len(name)))
    assert (drawn["embedding.0.weight"] == len("embedding.0.weight")).all()
    mask = np.ones((70, 20), bool)
    mask[0] = False
    net.rules["embedding.2.weight"] = bf.Rule(mask=mask, bounds=(-1, 1))
    net.fit(x, RANDOM.normal(size=(6, 8, 3)), epochs=2, optimizer=bf.Adam(0.1), verbose=0)
    assert not net["embedding.2.weight"][0].any() and abs(net["embedding.2.weight"]).max() == 1
    with pytest.raises(bf.ConfigError, match="expected no group for an embedding"):
        net.rules["embedding.2.weight"] = bf.Rule(group=("rows", 0.1))
    shares = [
        bf.diagnostics.saturation(net, x),
        bf.diagnostics.saturation(one_hot_twin(net), encoded(x, 2, (70, 3))),
    ]
    same(shares[0]["h_l0"], shares[1]["h_l0"])


@pytest.mark.parametrize(
    "size, text",
    [
        ((5,), "expected a number of values, or the pair"),
        ((5, 2, 1), "expected a number of values, or the pair"),
        ((0, 2), "categories[2][0]: expected an integer of at least 1"),
        ((5, 0), "categories[2][1]: expected an integer of at least 1"),
        ((5, 1.5), "categories[2][1]: expected an integer"),
        ((5, 2**25), "categories[2][1]: expected at most"),
        ("5", "categories[2]: expected an integer"),
    ],
)
def test_descriptions_that_are_refused(size, text):
    with pytest.raises(bf.ConfigError) as caught:
        bf.Network(3, 4, 2, categories={2: size})
    assert text in str(caught.value)


# ---- other faces


@pytest.mark.parametrize("skip", (False, True))
@pytest.mark.parametrize("form", ("one", "after one-hot"))
def test_pytorch(form, skip):
    torch = pytest.importorskip("torch")
    numbers, sizes = FORMS[form]
    net = network(numbers, sizes, cell="lstm", bidirectional=True, skip=skip)
    model, x = net.to_torch(), inputs(numbers, sizes_of(sizes))
    y = model(torch.tensor(x))
    same(y.detach().numpy(), net.predict(x))
    y.square().mean().backward()
    _, grads = net.loss_and_grad(x, np.zeros((*x.shape[:2], 3)))
    for name, parameter in model.embedding.named_parameters():
        same(parameter.grad.numpy(), grads[f"embedding.{name}"])
    again = bf.from_torch(model)
    assert again.params.tobytes() == net.params.tobytes()
    assert again.description.categories == net.description.categories


def test_parts_of_a_pytorch_model():
    torch = pytest.importorskip("torch")
    table, rnn, head = torch.nn.Embedding(9, 4), torch.nn.GRU(6, 5, batch_first=True), torch.nn.Linear(5, 2)
    x = inputs(2, (9,))
    net = bf.from_torch(rnn, head, embedding=table)
    given = torch.cat(
        [torch.tensor(x[..., :2], dtype=torch.float32), table(torch.tensor(x[..., 2]).long())], 2
    )
    same(net.predict(x), head(rnn(given)[0]).detach().numpy(), 1e-5)
    wide = torch.nn.Linear(11, 2)
    net = bf.from_torch(rnn, wide, embedding=table, skip=True)
    same(net.predict(x), wide(torch.cat([rnn(given)[0], given], 2)).detach().numpy(), 1e-5)
    for wrong, text in (
        (torch.nn.Linear(2, 2), "got Linear"),
        (3, "got int"),
        (torch.nn.Embedding(9, 4, max_norm=1), "max_norm=1"),
        ([table, table], "at most 6 columns"),
    ):
        with pytest.raises(bf.ConfigError, match=text):
            bf.from_torch(rnn, head, embedding=wrong)
    with pytest.raises(bf.ConfigError, match="which has its own"):
        bf.from_torch(net.to_torch(), embedding=table)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("skip", (False, True))
@pytest.mark.parametrize("dtype", ("float32", "float64"))
@pytest.mark.parametrize("form", ("one", "after one-hot"))
def test_onnx(form, dtype, skip, tmp_path):
    onnx, runtime = pytest.importorskip("onnx"), pytest.importorskip("onnxruntime")
    (numbers, sizes), path = FORMS[form], tmp_path / "model.onnx"
    net = network(numbers, sizes, cell="gru", dtype=dtype, skip=skip)
    net.to_onnx(path)
    x = inputs(numbers, sizes_of(sizes)).astype(dtype if numbers else np.int64)
    session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    same(session.run(["y"], {"x": x})[0], net.predict(x), 1e-5)
    again = bf.from_onnx(path)
    assert again.params.tobytes() == net.params.tobytes()
    assert again.config() | {"seed": 1} == net.config()
    if dtype == "float32":  # operators, which can be read without the file's notes
        graph = onnx.load(path)
        del graph.metadata_props[:]
        onnx.save(graph, path)
        again = bf.from_onnx(path)
        assert again.description.categories == net.description.categories and again.description.skip == skip
        same(again.predict(x), net.predict(x), 1e-5)


class Text:
    """A model of text in PyTorch: tokens (N, T) or (T, N)."""

    def __new__(cls, torch, batch_first):
        class Module(torch.nn.Module):
            def __init__(self):
                super().__init__()
                self.embedding = torch.nn.Embedding(9, 4)
                self.rnn = torch.nn.LSTM(4, 5, batch_first=batch_first)
                self.head = torch.nn.Linear(5, 9)

            def forward(self, tokens):
                return self.head(self.rnn(self.embedding(tokens))[0])

        return Module()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("batch_first", (True, False))
def test_a_model_of_text_by_way_of_onnx(batch_first, tmp_path):
    torch, path = pytest.importorskip("torch"), tmp_path / "model.onnx"
    pytest.importorskip("onnx")
    model, tokens = Text(torch, batch_first), torch.tensor(RANDOM.integers(0, 9, size=(4, 6)))
    axes = {"tokens": {0: "a", 1: "b"}}
    torch.onnx.export(model, (tokens,), path, input_names=["tokens"], dynamic_axes=axes, dynamo=False)
    net = bf.from_onnx(path)
    assert net.description.categories == ((0, (9, 4)),) and net.readout == "every"
    y, x = model(tokens).detach().numpy(), tokens.numpy()[..., None]
    same(net.predict(x if batch_first else x.swapaxes(0, 1)), y if batch_first else y.swapaxes(0, 1), 1e-5)


def test_estimators_and_the_command_line(tmp_path):
    estimators = pytest.importorskip("bptt_fast.estimators")
    from bptt_fast.cli import main

    x = inputs(1, (7,), n=30, steps=5)[..., ::-1]
    model = estimators.RNNRegressor(4, categories={0: (7, 2)}, max_iter=1, random_state=0)
    with pytest.warns(Warning, match="max_iter"):
        model.fit(x, x[:, -1, 0])
    assert model.network_["embedding.1.weight"].shape == (7, 2)
    x = x.copy()
    x[0, 0, 0] = 7
    with pytest.raises(bf.ConfigError, match="from 0 to 6 in column 0, got 7"):
        model.predict(x)
    path, out = tmp_path / "a.csv", str(tmp_path / "a.safetensors")
    path.write_text("\n".join(["day,y", *(f"{i % 7},{i % 3}" for i in range(60))]))
    given = ["--inputs", "day", "--targets", "y", "--epochs", "2", "--quiet", "--categories", "day=7:3"]
    assert main(["train", str(path), "--out", out, *given]) == 0
    assert bf.load(out).description.categories == ((0, (7, 3)),)
