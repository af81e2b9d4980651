"""ONNX graphs: onnxruntime computes what predict computes, and what PyTorch writes comes in as it is."""

import contextlib
import json
import tracemalloc

import numpy as np
import pytest
from support import covering

import bptt_fast as bf

onnx = pytest.importorskip("onnx")
from onnx import TensorProto, helper, numpy_helper  # noqa: E402

node = helper.make_node

FORMS = {
    "elman-tanh": dict(cell="elman"),
    "elman-relu": dict(cell="elman", nonlinearity="relu"),
    "elman-sigmoid": dict(cell="elman", nonlinearity="sigmoid"),
    "elman-linear": dict(cell="elman", nonlinearity="linear"),
    "mlp": dict(cell="mlp", f=(4, 6), nonlinearity=("tanh", "relu", "sigmoid")),
    "gru-after": dict(cell="gru"),
    "gru-before": dict(cell="gru", reset="before"),
    "lstm": dict(cell="lstm"),
    "lstm-peephole": dict(cell="lstm", peephole=True),
    "lstm-projection": dict(cell="lstm", proj_size=3),
    "lstm-both": dict(cell="lstm", peephole=True, proj_size=2),
    "mingru": dict(cell="mingru"),
    "minlstm": dict(cell="minlstm"),
    "indrnn": dict(cell="indrnn", nonlinearity="relu"),
    "ctrnn": dict(cell="ctrnn", tau=(1, 2, 4, 3, 8)),
    "ctrnn-potential": dict(cell="ctrnn", equation="potential", tau=3, nonlinearity="sigmoid"),
    "ctrnn-trained": dict(cell="ctrnn", equation="potential", tau=3, train_tau=True),
}
# ONNX has no operator for these
SCANNED = {"mlp", "lstm-projection", "lstm-both", "mingru", "minlstm", "indrnn"}
SCANNED |= {"ctrnn", "ctrnn-potential", "ctrnn-trained"}
STRUCTURES = {
    "one": dict(head=(4, 3), head_nonlinearity="sigmoid"),
    "two": dict(num_layers=2, dropout=0.2, readout="every", initial_state="trained"),
    "both-ways": dict(num_layers=2, bidirectional=True, initial_state="trained", head=(4,)),
    "both-ways-every": dict(bidirectional=True, readout="every", head=(2,), head_nonlinearity="relu"),
}
TOLERANCE = {"float32": 1e-5, "float64": 1e-12}


def network(form="gru-after", structure="one", dtype="float32"):
    """3 inputs, 5 units, 2 outputs; all parameters random, the initial states included."""
    net = bf.Network(3, 5, 2, **FORMS[form], **STRUCTURES[structure], dtype=dtype, seed=4)
    net.params[:] = np.random.default_rng(1).uniform(-0.7, 0.7, net.num_parameters)
    return net


def numbers(*shape, dtype="float32", seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def stacked(net, flat):
    """States (n, state_size) as the graph has them: {"h": (layers * directions, n, width), ...}."""
    d = net.description
    widths = [d.proj_size or d.hidden_size] + [d.hidden_size] * (d.cell == "lstm")
    cuts = np.cumsum(widths * (d.num_layers * (1 + d.bidirectional)))[:-1]
    pieces = np.split(flat, cuts, axis=1)
    return {k: np.stack(pieces[i :: len(widths)]) for i, k in enumerate("hc"[: len(widths)])}


def session(path):
    runtime = pytest.importorskip("onnxruntime")
    options = runtime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    return runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


# ---- to_onnx


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("structure", STRUCTURES)
@pytest.mark.parametrize("form", FORMS)
def test_onnxruntime_agrees(form, structure, dtype, tmp_path):
    net = network(form, structure, dtype)
    net.to_onnx(tmp_path / "model.onnx")
    run = session(tmp_path / "model.onnx").run
    for n, steps in ((1, 1), (4, 7), (3, 2)):
        x, x0 = numbers(n, steps, 3, dtype=dtype), numbers(n, net.state_size, dtype=dtype, seed=n)
        given = {f"{kind}0": state for kind, state in stacked(net, x0).items()}
        for more, options in ((given, {"x0": x0}), ({}, {})):
            y, state = net.predict(x, return_state=True, **options)
            found = run(None, {"x": x} | more)
            for ours, theirs in zip((y, *stacked(net, state).values()), found, strict=True):
                assert ours.dtype == theirs.dtype and ours.shape == theirs.shape
                np.testing.assert_allclose(theirs, ours, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("form", ("elman-tanh", "mlp"))
@pytest.mark.parametrize("outputs", (False, True))
def test_the_scaling_is_part_of_the_graph(form, dtype, outputs, tmp_path):
    net = network(form, "both-ways-every", dtype)
    net.input_names = ("a", "b", "c")
    means = ([20.1, -3, 0], [4, 0.3, 1]) + (([50.7, -3], [7, 0.1]) if outputs else ())
    net.scaling = bf.Scaling(*means)
    path = tmp_path / "model.onnx"
    net.to_onnx(path)
    x = numbers(4, 7, 3, dtype=dtype) * np.array([4, 0.3, 1], dtype) + np.array([20.1, -3, 0], dtype)
    y = session(path).run(["y"], {"x": x})[0]
    np.testing.assert_allclose(y, net.predict(x), rtol=1e-5, atol=1e-4)
    again = bf.from_onnx(path)
    assert again.columns == net.columns and np.array_equal(again.params, net.params)
    if form == "elman-tanh" and dtype == "float32":  # the graph alone is enough, to the digits that it has
        graph = onnx.load(path)
        del graph.metadata_props[:]
        onnx.save(graph, path)
        scaling = bf.from_onnx(path).scaling
        np.testing.assert_allclose(scaling.input_mean, net.scaling.input_mean, rtol=1e-6)
        assert (scaling.output_scale is None) == (not outputs)


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("form", ("elman-tanh", "gru-after", "lstm", "lstm-projection", "mlp"))
@pytest.mark.parametrize(
    "inputs, outputs",
    (
        ((1e8, 1), (-1e8, 1)),
        ((1e8, 1), None),
        ((0, 1), (1e8, 1)),
        ((0, 1e300), (0, 1e-42)),
        ((0, 1), (0, 1e-200)),
    ),
)
def test_a_scaling_keeps_its_digits(inputs, outputs, form, dtype, tmp_path):
    """x and y are float64 where float32 has too few digits for them, or cannot hold them."""
    net = bf.Network(1, 5, 1, **FORMS[form], readout="every", dtype=dtype, seed=4)
    net.scaling = bf.Scaling(*([number] for number in (*inputs, *(outputs or ()))))
    path = tmp_path / "model.onnx"
    net.to_onnx(path)
    run = session(path)
    x = np.random.default_rng(0).standard_normal((1, 400, 1)) * inputs[1] + inputs[0]
    types = [value.type for value in (run.get_inputs()[0], run.get_outputs()[0])]
    coarse = [inputs != (0, 1), outputs is not None]
    assert types == ["tensor(double)" if c or dtype == "float64" else "tensor(float)" for c in coarse]
    y = run.run(["y"], {"x": x if coarse[0] else x.astype(dtype)})[0]
    assert len(np.unique(y)) >= 390
    np.testing.assert_allclose(y, net.predict(x), rtol=0, atol=1e-6 * (outputs or (0, 1))[1])
    again = bf.from_onnx(path)
    assert again.scaling == net.scaling and np.array_equal(again.predict(x), net.predict(x))


@pytest.mark.filterwarnings("ignore")
def test_a_scaling_by_way_of_pytorch(tmp_path):
    torch = pytest.importorskip("torch")
    net = bf.Network(1, 5, 1, cell="gru", readout="every", seed=4)
    net.scaling = bf.Scaling([1e8], [1.0], [-1e8], [1.0])
    x = 1e8 + np.random.default_rng(0).standard_normal((1, 400, 1))
    torch.onnx.export(
        net.to_torch(), (torch.tensor(x),), tmp_path / "model.onnx", input_names=["x"], dynamo=False
    )
    y = session(tmp_path / "model.onnx").run(None, {"x": x})[0]
    np.testing.assert_allclose(y, net.predict(x), rtol=0, atol=1e-6)
    again = bf.from_onnx(tmp_path / "model.onnx")
    assert again.scaling == net.scaling and np.array_equal(again.predict(x), net.predict(x))


def test_one_initial_state_for_all_sequences(tmp_path):
    net = network("lstm", "both-ways")
    net.to_onnx(tmp_path / "model.onnx")
    x, x0 = numbers(4, 6, 3), numbers(1, net.state_size)
    given = {f"{kind}0": state for kind, state in stacked(net, x0).items()}
    found = session(tmp_path / "model.onnx").run(["y"], {"x": x} | given)[0]
    np.testing.assert_allclose(found, net.predict(x, x0=x0[0]), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("form", FORMS)
def test_the_graph_is_plain_onnx(form, dtype, tmp_path):
    """The checker with its inference of types and shapes; the axes of sequences and steps have names."""
    net = network(form, "two", dtype)
    net.to_onnx(tmp_path / "model.onnx")
    model = onnx.load(tmp_path / "model.onnx")
    onnx.checker.check_model(model, full_check=True)
    assert [(o.domain, o.version) for o in model.opset_import] == [("", 14)]

    def axes(values):
        return {v.name: [d.dim_param or d.dim_value for d in v.type.tensor_type.shape.dim] for v in values}

    states = {k: len(s[0, 0]) for k, s in stacked(net, np.zeros((1, net.state_size))).items()}
    assert axes(model.graph.input) == {"x": ["batch", "steps", 3]} | {
        f"{k}0": [2, "states", width] for k, width in states.items()
    }
    assert axes(model.graph.output) == {"y": ["batch", "steps", 2]} | {
        f"{k}n": [2, "batch", width] for k, width in states.items()
    }
    ops = {node.op_type for node in model.graph.node}
    assert ("Scan" in ops) == (dtype == "float64" or form in SCANNED)


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "model.onnx"
    network().to_onnx(path)
    before = path.read_bytes()
    monkeypatch.setattr("os.replace", lambda *_: (_ for _ in ()).throw(OSError("full")))
    with pytest.raises(OSError, match="full"):
        network("lstm").to_onnx(path)
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]
    with pytest.raises(bf.ConfigError, match="path"):
        network().to_onnx(3)


# ---- there and back


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("structure", STRUCTURES)
@pytest.mark.parametrize("form", FORMS)
def test_there_and_back(form, structure, dtype, tmp_path):
    net = network(form, structure, dtype)
    net.params[:3] = np.finfo(dtype).tiny / 4, -0.0, np.finfo(dtype).max
    net.extra["unit"] = "kW"
    net.to_onnx(tmp_path / "model.onnx")
    again = bf.from_onnx(tmp_path / "model.onnx")
    assert again.params.tobytes() == net.params.tobytes() and again.keys() == net.keys()
    assert again.description == net.description and again.extra == net.extra


@pytest.mark.parametrize("structure", STRUCTURES)
@pytest.mark.parametrize("form", [f for f in FORMS if f not in SCANNED])
def test_the_graph_alone_is_enough(form, structure, tmp_path):
    """Without the notes in the file: all but the seed and dropout."""
    net = network(form, structure)
    net.to_onnx(tmp_path / "model.onnx")
    model = onnx.load(tmp_path / "model.onnx")
    del model.metadata_props[:]
    again = read(model, tmp_path)
    assert again.params.tobytes() == net.params.tobytes() and again.keys() == net.keys()
    forgotten = dict(seed=0, dropout=0.0)
    left, right = again.config() | forgotten, net.config() | forgotten
    assert left == right


@pytest.mark.parametrize("dtype", ("float32", "float64"))
@pytest.mark.parametrize("g", ("leaky_relu", "softplus", "retanh"))
@pytest.mark.parametrize("f", ("leaky_relu", "softplus", "retanh"))
def test_rare_nonlinearities(f, g, dtype, tmp_path):
    """onnxruntime has kernels in float32 alone, in float64 they are several nodes; a retanh is two."""
    net = bf.Network(3, 5, 2, nonlinearity=f, head=(4,), head_nonlinearity=g, dtype=dtype, seed=1)
    net.to_onnx(tmp_path / "model.onnx")
    x, close = numbers(4, 7, 3).astype(dtype), 1e-5 if dtype == "float32" else 1e-13
    y = session(tmp_path / "model.onnx").run(None, {"x": x})[0]
    np.testing.assert_allclose(net.predict(x), y, rtol=close, atol=close)
    again = bf.from_onnx(tmp_path / "model.onnx")
    np.testing.assert_allclose(again.predict(x), y, rtol=close, atol=close)
    model = onnx.load(tmp_path / "model.onnx")
    del model.metadata_props[:]
    if f != "retanh" and dtype == "float32":  # else a Scan, which is read by the notes in the file
        assert read(model, tmp_path).config() | {"seed": 0} == net.config() | {"seed": 0}


# ---- PyTorch: what people write


def both_states(torch, out, h):
    return torch.cat([h[-2], h[-1]], dim=1)


def both_ends(torch, out, h):
    return torch.cat([out[:, -1, :5], out[:, 0, 5:]], dim=1)


# name: structure, what the head reads, the readout
MODULES = {
    "every": (dict(), lambda torch, out, h: out, "every"),
    "last": (dict(), lambda torch, out, h: out[:, -1], "last"),
    "slice": (dict(num_layers=2), lambda torch, out, h: out[:, -1:].flatten(1), "last"),
    "state": (dict(num_layers=3), lambda torch, out, h: h[-1], "last"),
    "steps-first": (dict(batch_first=False), lambda torch, out, h: out[-1], "last"),
    "no-bias": (dict(bias=False), lambda torch, out, h: out, "every"),
    "both-every": (dict(num_layers=2, bidirectional=True), lambda torch, out, h: out, "every"),
    "both-states": (dict(num_layers=2, bidirectional=True), both_states, "last"),
    "both-ends": (dict(bidirectional=True), both_ends, "last"),
}
KINDS = {"RNN": {}, "RNN-relu": dict(nonlinearity="relu"), "GRU": {}, "LSTM": {}}


def module(kind, structure, choose, head=True):
    """A recurrent layer, a choice of its outputs, and layers on top of it."""
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)

    class Module(torch.nn.Module):
        def __init__(self):
            super().__init__()
            options = dict(batch_first=True) | KINDS[kind] | structure
            self.rnn = getattr(torch.nn, kind.split("-")[0])(3, 5, **options)
            width = 5 * (1 + self.rnn.bidirectional)
            layers = (torch.nn.Linear(width, 4), torch.nn.Tanh(), torch.nn.Linear(4, 2))
            self.head = torch.nn.Sequential(*layers) if head else torch.nn.Identity()

        def forward(self, x):
            out, states = self.rnn(x)
            return self.head(choose(torch, out, states[0] if isinstance(states, tuple) else states))

    return Module().eval()


def exported(net, path, x, **options):
    """Written by torch.onnx.export, read by from_onnx."""
    import torch

    torch.onnx.export(net, (torch.from_numpy(x),), str(path), input_names=["x"], **options)
    return bf.from_onnx(path)


def agrees(ours, theirs, batch_first=True):
    """Weights to the bit, outputs closely."""
    import torch

    for name, block in theirs.rnn.state_dict().items():
        np.testing.assert_array_equal(ours[name], block.numpy())
    x = numbers(4, 9, 3)
    with torch.no_grad():
        y = theirs(torch.from_numpy(x if batch_first else x.swapaxes(0, 1).copy())).numpy()
    y = y if batch_first or y.ndim == 2 else y.swapaxes(0, 1)
    np.testing.assert_allclose(ours.predict(x), y, rtol=1e-5, atol=1e-6)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", MODULES)
def test_torch(kind, name, tmp_path):
    structure, choose, readout = MODULES[name]
    theirs, batch_first = module(kind, structure, choose), structure.get("batch_first", True)
    ours = exported(
        theirs,
        tmp_path / "model.onnx",
        numbers(2, 6, 3),
        dynamo=False,
        dynamic_axes={"x": {0: "n", 1: "t"}} if batch_first else None,
    )
    assert ours.readout == readout and ours.description.head == (4,)
    agrees(ours, theirs, batch_first)


# of one step: what is given; the readout, batch first and steps first
SINGLE = {
    "all": (lambda out, h, axis: out, "every", "every"),
    "slice": (lambda out, h, axis: out.narrow(axis, 0, 1), "every", "every"),
    "last": (lambda out, h, axis: out.select(axis, -1), "last", "last"),
    "first": (lambda out, h, axis: out.select(axis, 0), "last", "last"),
    "squeezed": (lambda out, h, axis: out.squeeze(axis), "last", "last"),
    "state": (lambda out, h, axis: h[-1], "last", "last"),
    "state-as-step": (lambda out, h, axis: h[-1].unsqueeze(axis), "every", "every"),
    "states": (lambda out, h, axis: h[-1:], "last", "every"),  # (1, N, H): a step, if steps are first
    "both-states": (lambda out, h, axis: side_by_side(h[-2:]), "last", "last"),
}


def side_by_side(states):
    import torch

    return torch.cat(list(states), dim=1)


OUTPUTS = [(n, b) for n in SINGLE for b in (False, True) if "state" not in n or b == (n == "both-states")]
ONE_STEP = covering.design(
    dict(outputs=OUTPUTS, kind=("RNN", "GRU", "LSTM"), batch_first=(False, True), free=(False, True))
)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("outputs, kind, batch_first, free", [tuple(row.values()) for row in ONE_STEP])
def test_a_graph_of_one_step(outputs, kind, batch_first, free, tmp_path):
    """The axis of steps is in our outputs where it is in the graph's; with a head the number of sequences is
    free."""
    name, both = outputs
    choose, *readouts = SINGLE[name]
    axis = 1 if batch_first else 0
    structure = dict(num_layers=2, bidirectional=both, batch_first=batch_first)
    theirs = module(kind, structure, lambda torch, out, h: choose(out, h, axis), head=free)
    x = numbers(3, 1, 3)
    given = x if batch_first else x.swapaxes(0, 1).copy()
    ours = exported(
        theirs,
        tmp_path / "model.onnx",
        given,
        dynamo=False,
        dynamic_axes={"x": {1 - axis: "n"}} if free else None,
    )
    assert ours.readout == readouts[not batch_first]
    y, found = session(tmp_path / "model.onnx").run(None, {"x": given})[0], ours.predict(x)
    if name != "states" or not batch_first:
        y = y.swapaxes(0, 1) if y.ndim == 3 and not batch_first else y
        assert found.shape == y.shape
    np.testing.assert_allclose(found.ravel(), y.ravel(), rtol=1e-5, atol=1e-6)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name, readout", (("all", "every"), ("last", "last")))
def test_one_step_of_one_sequence_without_a_batch(name, readout, tmp_path):
    theirs = module("GRU", dict(), lambda torch, out, h: SINGLE[name][0](out, h, 0))
    ours = exported(theirs, tmp_path / "model.onnx", numbers(1, 3), dynamo=False)
    y = session(tmp_path / "model.onnx").run(None, {"x": numbers(1, 3)})[0]
    assert ours.readout == readout and ours.predict(numbers(1, 3)).shape == y.shape
    np.testing.assert_allclose(ours.predict(numbers(1, 3)), y, rtol=1e-5, atol=1e-6)


@pytest.mark.filterwarnings("ignore")
def test_torch_in_float64(tmp_path):
    theirs = module("LSTM", *MODULES["both-states"][:2]).double()
    ours = exported(theirs, tmp_path / "model.onnx", numbers(2, 6, 3, dtype="float64"), dynamo=False)
    assert ours.dtype == np.float64
    for name, block in theirs.rnn.state_dict().items():
        np.testing.assert_array_equal(ours[name], block.numpy())


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", KINDS)
def test_torch_without_a_head(kind, tmp_path):
    """g is the identity, and the graph may have the final states as outputs too."""
    theirs = module(kind, *MODULES["both-every"][:2], head=False)
    ours = exported(theirs.rnn, tmp_path / "model.onnx", numbers(2, 6, 3), dynamo=False)
    assert ours.output_size == 10 and ours.readout == "every" and not ours.description.head
    agrees(ours, theirs)


@pytest.mark.filterwarnings("ignore")
def test_torch_in_its_new_exporter(tmp_path):
    pytest.importorskip("onnxscript")
    theirs = module("GRU", *MODULES["both-every"][:2])
    import torch

    free = ({0: torch.export.Dim("n"), 1: torch.export.Dim("t")},)
    ours = exported(
        theirs, tmp_path / "model.onnx", numbers(2, 6, 3), dynamo=True, dynamic_shapes=free, verbose=False
    )
    agrees(ours, theirs)


@pytest.mark.filterwarnings("ignore")
def test_the_last_step_of_both_directions_is_no_readout(tmp_path):
    """out[:, -1] of both directions: the backward one has seen a single step there."""
    theirs = module("GRU", dict(bidirectional=True), lambda torch, out, h: out[:, -1])
    with pytest.raises(bf.ConfigError, match="the last step of each direction"):
        exported(theirs, tmp_path / "model.onnx", numbers(2, 6, 3), dynamo=False)


# ---- other graphs

OPERATORS = {"RNN": 1, "GRU": 3, "LSTM": 4}


def layer(op="GRU", name="", x="x", inputs=3, ways=1, fill=numbers, without=(), **attributes):
    """A node with random weights, `without` some of its inputs: (node, constants)."""
    gates, seed = OPERATORS[op], len(name)
    shapes = {
        "W": (ways, gates * 5, inputs),
        "R": (ways, gates * 5, 5),
        "B": (ways, 2 * gates * 5),
        "lengths": None,
        "h": None,
        "c": None,
        "P": (ways, 15),
    }
    names = [x, *(name + k if k not in without else "" for k in shapes)][: 8 if op == "LSTM" else 6]
    constants = [
        numpy_helper.from_array(fill(*shape, seed=i + seed), name + k)
        for i, (k, shape) in enumerate(shapes.items())
        if shape and name + k in names
    ]
    outputs = [name + k for k in ("Y", "Y_h", "Y_c")][: 3 if op == "LSTM" else 2]
    direction = {"direction": "bidirectional"} if ways == 2 else {}
    made = node(op, names, outputs, name=f"{name}layer", hidden_size=5, **direction | attributes)
    return made, constants


def model(parts, output, x=("t", "n", 3), constants=(), inputs=(), opset=14):
    """A model of nodes and (node, constants), with the inputs x and `inputs`, names: (type, shape)."""
    nodes = [part[0] if isinstance(part, tuple) else part for part in parts]
    tensors = [t for part in parts if isinstance(part, tuple) for t in part[1]]
    tensors += [numpy_helper.from_array(np.asarray(a), name) for name, a in dict(constants).items()]
    given = {"x": (TensorProto.FLOAT, x)} | dict(inputs)
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info(name, *what) for name, what in given.items()],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, [None] * (3 if output[-1] == "h" else 2))],
        tensors,
    )
    domains = [helper.make_opsetid("", opset), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=domains, ir_version=7)


def read(m, folder):
    onnx.save(m, str(folder / "other.onnx"))
    return bf.from_onnx(folder / "other.onnx")


LAYERS = {
    "rnn": dict(op="RNN"),
    "rnn-both": dict(op="RNN", ways=2, activations=["Relu", "Relu"]),
    "rnn-line": dict(op="RNN", activations=["Affine"], activation_alpha=[1.0], activation_beta=[0.0]),
    "gru-before": dict(op="GRU", ways=2),
    "gru-after": dict(op="GRU", linear_before_reset=1, activations=["Sigmoid", "Tanh"]),
    "lstm": dict(op="LSTM", without=("P",)),
    "lstm-peephole": dict(op="LSTM", ways=2),
    "no-bias": dict(op="LSTM", without=("B",)),
}
small = lambda *shape, seed: 0.4 * numbers(*shape, seed=seed)  # noqa: E731
NONE = ("lengths", "h", "c")


@pytest.mark.parametrize("options", LAYERS.values(), ids=LAYERS)
def test_a_layer_alone(options, tmp_path):
    """Y_h with the axis of directions first, as a readout; steps first; onnxruntime's numbers."""
    options = options | dict(without=(*options.get("without", ()), *NONE), fill=small)
    ways = options.get("ways", 1)
    parts = [layer(**options), node("Transpose", ["Y_h"], ["states"], perm=[1, 0, 2])]
    parts.append(node("Flatten", ["states"], ["y"]))
    parts[0][0].output[0] = ""  # Y: not asked for
    net = read(model(parts, "y"), tmp_path)
    x = numbers(6, 4, 3)
    y = session(tmp_path / "other.onnx").run(None, {"x": x})[0]
    assert net.readout == "last" and net.output_size == 5 * ways
    np.testing.assert_allclose(net.predict(x.swapaxes(0, 1)), y, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("op", OPERATORS)
def test_layout_one(op, tmp_path):
    """Batch first inside, which onnxruntime has not: the same network as the other layout gives."""
    nets = []
    for layout in (0, 1):
        perms = ([0, 2, 1, 3], [0, 1, 2]) if layout == 0 else ([0, 1, 2, 3], [0, 1, 2])
        parts = [
            layer(op, "a", ways=2, without=NONE, layout=layout),
            node("Transpose", ["aY"], ["moved"], perm=perms[0]),
            node("Reshape", ["moved", "shape"], ["between"]),
            layer(op, "b", x="between", inputs=10, ways=2, without=NONE, layout=layout),
            node("Transpose", ["bY_h"], ["states"], perm=[1, 0, 2] if layout == 0 else [0, 1, 2]),
            node("Reshape", ["states", "row"], ["y"]),
        ]
        constants = {"shape": np.array([0, 0, 10]), "row": np.array([0, 10])}
        nets.append(read(model(parts, "y", x=("a", "b", 3), constants=constants), tmp_path))
    assert nets[0].params.tobytes() == nets[1].params.tobytes()
    assert nets[0].config() | {"seed": 0} == nets[1].config() | {"seed": 0}
    assert nets[0].description.num_layers == 2 and nets[0].readout == "last"


@pytest.mark.parametrize("ways", (1, 2))
@pytest.mark.parametrize("op", OPERATORS)
def test_lengths(op, ways, tmp_path):
    """sequence_lens: a list of sequences of different length here."""
    parts = [
        node("Cast", ["long"], ["lengths"], to=TensorProto.INT32),
        layer(op, ways=ways, without=NONE[1:], fill=small),
        node("Transpose", ["Y_h"], ["states"], perm=[1, 0, 2]),
        node("Reshape", ["states", "row"], ["y"]),
    ]
    lengths = {"long": (TensorProto.INT64, ["n"])}
    m = model(parts, "y", constants={"row": np.array([0, 5 * ways])}, inputs=lengths)
    net, x, n = read(m, tmp_path), numbers(6, 4, 3), np.array([6, 3, 1, 5])
    y = session(tmp_path / "other.onnx").run(None, {"x": x, "long": n})[0]
    np.testing.assert_allclose(
        net.predict([x[:length, i] for i, length in enumerate(n)]), y, rtol=1e-5, atol=1e-6
    )
    np.testing.assert_allclose(net.predict(x.swapaxes(0, 1), lengths=n), y, rtol=1e-5, atol=1e-6)
    # the last row of Y is not the state after the last step then
    parts[2:] = [node("Gather", ["Y", "end"], ["step"], axis=0)]
    parts.append(node("Transpose", ["step"], ["states"], perm=[1, 0, 2]))
    parts.append(node("Reshape", ["states", "row"], ["y"]))
    constants = {"row": np.array([0, 5 * ways]), "end": np.array(-1)}
    with pytest.raises(bf.ConfigError, match="another selection"):
        read(model(parts, "y", constants=constants, inputs=lengths), tmp_path)


def test_a_constant_initial_state_becomes_a_parameter(tmp_path):
    state = np.repeat(numbers(1, 1, 5), 2, axis=1)
    parts = [layer("GRU", without=("lengths",)), node("Squeeze", ["Y_h", "axis"], ["y"])]
    constants = {"axis": np.array([0]), "h": state}
    net = read(model(parts, "y", x=("t", 2, 3), constants=constants), tmp_path)
    np.testing.assert_array_equal(net["initial_h_l0"], state[0, 0])
    x = numbers(6, 2, 3)
    y = session(tmp_path / "other.onnx").run(None, {"x": x})[0]
    np.testing.assert_allclose(net.predict(x.swapaxes(0, 1)), y, rtol=1e-5, atol=1e-6)
    state[0, 1] += 1
    with pytest.raises(bf.ConfigError, match="equal for all sequences"):
        read(model(parts, "y", x=("t", 2, 3), constants=constants), tmp_path)


def on_top(*nodes, **constants):
    """A model with nodes on top of the states h (n, 5) of one layer."""
    parts = [layer("GRU", without=NONE), node("Squeeze", ["Y_h", "axis"], ["h"]), *nodes]
    constants = {"axis": np.array([0]), "w": numbers(5, 5), "b": numbers(5)} | constants
    return model(parts, nodes[-1].output[0], constants=constants)


HEADS = {
    "activation-first": ([node("Relu", ["h"], ["a"]), node("MatMul", ["a", "w"], ["y"])], (5,), "relu"),
    "activation-last": (
        [node("Gemm", ["h", "w", "b"], ["a"]), node("Sigmoid", ["a"], ["y"])],
        (5,),
        "sigmoid",
    ),
    "two-products": ([node("MatMul", ["h", "w"], ["a"]), node("Gemm", ["a", "w"], ["y"])], (5,), "linear"),
    "bias-first": ([node("MatMul", ["h", "w"], ["a"]), node("Add", ["b", "a"], ["y"])], (), None),
    "nothing": ([node("Identity", ["h"], ["y"])], (), None),
}


@pytest.mark.parametrize("nodes, widths, nonlinearity", HEADS.values(), ids=HEADS)
def test_what_stands_on_top(nodes, widths, nonlinearity, tmp_path):
    net, x = read(on_top(*nodes), tmp_path), numbers(6, 4, 3)
    y = session(tmp_path / "other.onnx").run(None, {"x": x})[0]
    assert net.description.head == widths
    assert nonlinearity is None or net.description.head_nonlinearity == nonlinearity
    np.testing.assert_allclose(net.predict(x.swapaxes(0, 1)), y, rtol=1e-4, atol=1e-5)


# ---- what is refused


def alone(*arguments, inputs=(), x=("t", "n", 3), constants=(), **options):
    options = {"without": NONE} | options
    return model([layer(*arguments, **options)], "Y_h", inputs=inputs, x=x, constants=constants)


def half(*shape, seed):
    return numbers(*shape, seed=seed).astype("float16")


def two(*nodes, **second):
    parts = [layer("GRU", "a", without=NONE), node("Squeeze", ["aY", "axis"], ["between"]), *nodes]
    parts.append(layer(**dict(name="b", x="between", inputs=5, without=NONE) | second))
    return model(parts, "bY_h", constants={"axis": np.array([1])})


def weights_as_input():
    m = alone()
    w = next(tensor for tensor in m.graph.initializer if tensor.name == "W")
    m.graph.input.append(helper.make_tensor_value_info("W", w.data_type, w.dims))
    m.graph.initializer.remove(w)
    return m


def changed_scan():
    from bptt_fast.onnx import _model

    m = _model(network("mlp"))
    step = next(n for n in m.graph.node if n.op_type == "Scan").attribute[0].g
    next(n for n in step.node if n.op_type == "Tanh").op_type = "Relu"
    return m


def foreign_scan():
    from bptt_fast.onnx import _model

    m = _model(network("mlp"))
    del m.metadata_props[:]
    return m


REFUSED = {
    "clip": (lambda: alone(clip=3.0), "layer.*GRU.*clip: expected none, got 3.0.*pre-activations"),
    "coupled": (lambda: alone("LSTM", input_forget=1), "input_forget: expected 0, got 1"),
    "backwards": (lambda: alone(direction="reverse"), "direction: expected .* got 'reverse'.*Reverse"),
    "hard": (
        lambda: alone("LSTM", activations=["HardSigmoid", "Tanh", "Tanh"]),
        "activations: expected .*Sigmoid.*HardSigmoid",
    ),
    "two-kinds": (lambda: alone("RNN", ways=2, activations=["Tanh", "Relu"]), "activations: .* same in both"),
    "no-name": (lambda: alone("RNN", activations=[""]), "activations: expected Tanh"),
    "steep": (
        lambda: alone("RNN", activations=["Affine"], activation_alpha=[2.0], activation_beta=[0.0]),
        "alpha 1 and beta 0",
    ),
    "leak": (lambda: alone("RNN", activations=["LeakyRelu"], activation_alpha=[0.2]), "alpha 0.01"),
    "leak of g": (lambda: on_top(node("LeakyRelu", ["h"], ["y"], alpha=0.2)), "alpha 0.01"),
    "no-constant": (weights_as_input, "W and R that are constants"),
    "half": (lambda: alone(fill=half), "W: expected a constant .*float32 or float64.*float16"),
    "shape": (lambda: alone(fill=lambda *s, seed: numbers(*s[:-1], s[-1] + (seed == 2))), "B: expected .*30"),
    "features": (lambda: alone(x=("t", "n", 4)), "expected to read an input"),
    "unlike": (lambda: two(op="LSTM"), "node 'blayer' .*a layer like the first"),
    "reset": (lambda: two(linear_before_reset=1), "a layer like the first"),
    "skipping": (
        lambda: two(node("Concat", ["between", "x"], ["both"], axis=2), x="both", inputs=8),
        "all outputs of the previous recurrent layer",
    ),
    "before": (
        lambda: model(
            [node("MatMul", ["x", "w"], ["a"], name="dense"), layer(x="a", without=NONE)],
            "Y_h",
            constants={"w": numbers(3, 3)},
        ),
        "node 'dense' .MatMul.: expected layers RNN, .* dynamo=False",
    ),
    "no-layer": (lambda: model([node("Identity", ["x"], ["y"])], "y"), "output 'y': .* depend on a node RNN"),
    "another-step": (
        lambda: model(
            [
                layer(without=NONE),
                node("Gather", ["Y", "four"], ["a"]),
                node("Squeeze", ["a", "axis"], ["y"]),
            ],
            "y",
            constants={"four": np.array(4), "axis": np.array([0])},
        ),
        "another selection",
    ),
    "first-step": (
        lambda: model(
            [
                layer(ways=2, without=NONE),
                node("Transpose", ["Y"], ["a"], perm=[0, 2, 1, 3]),
                node("Reshape", ["a", "shape"], ["b"]),
                node("MatMul", ["b", "w"], ["c"]),
                node("Gather", ["c", "zero"], ["y"]),
            ],
            "y",
            constants={"shape": np.array([0, 0, 10]), "w": numbers(10, 1), "zero": np.array(0)},
        ),
        "another selection",
    ),
    "part": (lambda: on_top(node("Slice", ["h", "axis", "b4", "b1"], ["y"]), b4=[4], b1=[1]), "whole rows"),
    "mixed": (
        lambda: on_top(
            node("Tanh", ["h"], ["a"]), node("MatMul", ["a", "w"], ["b1"]), node("Relu", ["b1"], ["y"])
        ),
        "one nonlinearity",
    ),
    "softmax": (lambda: on_top(node("Softmax", ["h"], ["y"])), "y.*Softmax.*logits"),
    "scaled": (lambda: on_top(node("Gemm", ["h", "w"], ["y"], alpha=2.0)), "alpha=1"),
    "residual": (
        lambda: on_top(node("Tanh", ["h"], ["a"]), node("Add", ["a", "h"], ["y"])),
        "expected layers",
    ),
    "gated": (lambda: on_top(node("Mul", ["h", "h"], ["y"])), "expected layers"),
    "two-biases": (
        lambda: on_top(node("Gemm", ["h", "w", "b"], ["a"]), node("Add", ["a", "b"], ["y"])),
        "one vector",
    ),
    "crossed": (
        lambda: on_top(
            node("MatMul", ["h", "w"], ["a"]),
            node("Tanh", ["a"], ["t"]),
            node("Slice", ["a", "axis", "b2", "b1"], ["left"]),
            node("Slice", ["t", "b2", "b5", "b1"], ["right"]),
            node("Concat", ["left", "right"], ["y"], axis=1),
            b1=[1],
            b2=[2],
            b5=[5],
        ),
        "whole rows",
    ),
    "empty": (
        lambda: on_top(node("Slice", ["h", "b2", "b2"], ["y"]), b2=[2]),
        "whole rows|another selection",
    ),
    "scalar": (
        lambda: on_top(
            node("Gather", ["h", "b0"], ["a"]),
            node("Gather", ["a", "b0"], ["c"]),
            node("Tanh", ["c"], ["y"]),
            b0=0,
        ),
        "whole rows",
    ),
    "twice": (lambda: on_top(node("Concat", ["h", "h"], ["y"], axis=1)), "whole rows"),
    "foreign": (lambda: on_top(node("FusedGemm", ["h", "w"], ["y"], domain="com.microsoft")), "FusedGemm"),
    "damaged-node": (lambda: on_top(node("Reshape", ["h", "b7"], ["y"]), b7=[7, 7]), "Reshape.*valid inputs"),
    "changed-scan": (changed_scan, "got a Scan"),
    "foreign-scan": (foreign_scan, "got a Scan"),
}


@pytest.mark.parametrize("make, text", REFUSED.values(), ids=REFUSED)
def test_refused_in_words(make, text, tmp_path):
    with pytest.raises(bf.ConfigError, match=text) as caught:
        read(make(), tmp_path)
    assert "other.onnx" in str(caught.value)


def test_encoder_and_decoder(tmp_path):
    """A layer that begins in the last state of another."""
    parts = [layer(name="a", without=NONE), layer(name="b", without=("lengths",))]
    parts[1][0].input[5] = "aY_h"
    with pytest.raises(bf.ConfigError, match="all outputs of the previous recurrent layer"):
        read(model(parts, "bY_h"), tmp_path)
    parts[1] = layer(name="b", x="between", inputs=5, without=("lengths",))
    parts[1][0].input[5] = "aY_h"
    parts.insert(1, node("Squeeze", ["aY", "axis"], ["between"]))
    with pytest.raises(bf.ConfigError, match="initial states that are an input"):
        read(model(parts, "bY_h", constants={"axis": np.array([1])}), tmp_path)


def test_damaged_files(tmp_path):
    path = tmp_path / "model.onnx"
    network().to_onnx(path)
    content = path.read_bytes()
    for damaged in (b"", b"no model", content[: len(content) // 2], content[:-1], bytes(100)):
        path.write_bytes(damaged)
        with pytest.raises(bf.CorruptFileError, match=r"model\.onnx"):
            bf.from_onnx(path)
    with pytest.raises(FileNotFoundError):
        bf.from_onnx(tmp_path / "nowhere.onnx")
    with pytest.raises(bf.ConfigError, match="path"):
        bf.from_onnx(None)


def with_notes(**notes):
    from bptt_fast.onnx import _model

    m = _model(network(notes.pop("form", "gru-after"), "two"))
    found = {entry.key: entry for entry in m.metadata_props}
    for key, value in notes.items():
        found[key].value = json.dumps(
            json.loads(found[key].value) | value if isinstance(value, dict) else value
        )
    return m


def with_columns(columns):
    m = with_notes()
    m.metadata_props.add(key="columns", value=json.dumps(columns))
    return m


DAMAGED = {
    "columns-list": lambda: with_columns(["a"]),
    "columns-number": lambda: with_columns(3),
    "names": lambda: with_columns({"outputs": ["a"]}),
    "network-list": lambda: with_notes(network=[1]),
    "layers": lambda: with_notes(form="mlp", network={"num_layers": 10**12}),
    "units": lambda: with_notes(form="mlp", network={"hidden_size": 10**6}),
    "head": lambda: with_notes(form="mlp", network={"head": [10**9]}),
    "large-input": lambda: alone(x=(2**40, 2**40, 2**40)),
    "negative-input": lambda: alone(x=(-5, 2, 3)),
    "large-batch": lambda: on_top(node("Reshape", ["h", "s"], ["y"]), s=np.array([2**33, 5])),
    "large-expand": lambda: on_top(
        node("Expand", ["b", "s"], ["c"]), node("Add", ["h", "c"], ["y"]), s=np.array([2**40, 5])
    ),
    "large-constant": lambda: on_top(
        node("ConstantOfShape", ["s"], ["c"]), node("Add", ["h", "c"], ["y"]), s=np.array([2**40])
    ),
    "large-range": lambda: on_top(
        node("Range", ["b0", "s", "b1"], ["c"]),
        node("Gather", ["h", "c"], ["y"]),
        b0=np.array(0),
        b1=np.array(1),
        s=np.array(2**40),
    ),
    "large-gather": lambda: on_top(node("Expand", ["h", "s"], ["y"]), s=np.array([2**20, 2**20, 1, 5])),
    "large-sum": lambda: on_top(
        node("Add", ["u", "v"], ["c"]),
        node("Add", ["h", "c"], ["y"]),
        u=np.zeros((2**20, 1), "float32"),
        v=np.zeros((1, 2**20), "float32"),
    ),
    "doubling": lambda: on_top(
        *(node("Concat", [f"c{i}"] * 2, [f"c{i + 1}"], axis=0) for i in range(40)),
        node("Add", ["h", "c40"], ["y"]),
        c0=numbers(1, 5),
    ),
    "doubling-outputs": lambda: on_top(
        node("Identity", ["h"], ["c0"]),
        *(node("Concat", [f"c{i}"] * 2, [f"c{i + 1}"], axis=0) for i in range(40)),
    ),
    "wide-head": lambda: on_top(
        node("Expand", ["u", "s"], ["v"]),
        node("MatMul", ["h", "v"], ["a"]),
        node("Relu", ["a"], ["c"]),
        node("Relu", ["c"], ["y"]),
        u=numbers(5, 1),
        s=np.array([5, 10**6]),
    ),
    "no-nodes-inputs": lambda: on_top(node("MatMul", ["h"], ["y"])),
    "text": lambda: on_top(node("Add", ["h", "u"], ["y"]), u=np.array(["a"] * 5, object)),
    "empty-weights": lambda: alone(fill=lambda *s, seed: numbers(*s)[..., :0], without=("B", *NONE)),
}


@pytest.mark.parametrize("shape", [(2**40, 2**33, 3), ("t", 2**33, 3), (2**62, 2, 3), (9, 2, 3)], ids=str)
def test_declared_sizes_cost_nothing(shape, tmp_path):
    """A graph of fixed sizes is read like one of free sizes, in the same memory, if no node needs them."""
    expected = read(alone(), tmp_path)
    tracemalloc.start()
    try:
        net = read(alone(x=shape, inputs={"unused": (TensorProto.FLOAT, [2**20, 2**20])}), tmp_path)
        assert tracemalloc.get_traced_memory()[1] < 10e6
    finally:
        tracemalloc.stop()
    assert net.config() == expected.config() | {"seed": net.seed}
    np.testing.assert_array_equal(net.params, expected.params)


@pytest.mark.parametrize("make", DAMAGED.values(), ids=DAMAGED)
def test_damaged_graphs(make, tmp_path):
    """Named errors, and no memory for what is only declared."""
    tracemalloc.start()
    try:
        with pytest.raises((bf.ConfigError, bf.CorruptFileError), match=r"other\.onnx"):
            read(make(), tmp_path)
        assert tracemalloc.get_traced_memory()[1] < 64e6
    finally:
        tracemalloc.stop()


@pytest.mark.slow
def test_random_damage(tmp_path):
    """Bytes, and fields of the protobuf: a network or a named error, and among so many both."""
    from bptt_fast.onnx import _model

    rng, path = np.random.default_rng(0), tmp_path / "model.onnx"
    models = [_model(network(form, "two")) for form in ("gru-after", "mlp")]
    values = {
        int: (0, -1, 7, 2**40, -(2**63)),
        float: (np.nan, 1e38),
        str: ("", "h0", "LSTM"),
        bytes: (b"", b"x"),
    }

    def parts(message):
        yield message
        for field, value in message.ListFields():
            if field.type == field.TYPE_MESSAGE:
                for part in value if field.is_repeated else [value]:
                    yield from parts(part)

    read_back = 0
    for i in range(400):
        m = onnx.ModelProto()
        m.CopyFrom(models[i % 2])
        chosen = list(parts(m))
        part = chosen[rng.integers(len(chosen))]
        fields = part.ListFields()
        field, value = fields[rng.integers(len(fields))] if fields else (None, None)
        if i % 3 == 0 and fields:
            part.ClearField(field.name)
        elif fields and not field.is_repeated and type(value) in values:
            options = values[type(value)]
            with contextlib.suppress(ValueError):  # a number out of the field's range
                setattr(part, field.name, options[rng.integers(len(options))])
        content = bytearray(m.SerializeToString())
        if i % 4 == 0:
            content[rng.integers(len(content))] = rng.integers(256)
        path.write_bytes(content)
        with contextlib.suppress(bf.ConfigError, bf.CorruptFileError):
            read_back += isinstance(bf.from_onnx(path), bf.Network)
    assert 40 < read_back < 360


def test_without_onnx(python):
    """The package works, and says what to install."""
    code = "import sys; sys.modules['onnx'] = None; import bptt_fast as bf; "
    for call in ("bf.Network(1, 2, 1).to_onnx('a')", "bf.from_onnx('a')"):
        run = python("-c", code + call)
        assert run.returncode and "ImportError: ONNX files need" in run.stderr
        assert 'pip install "bptt-fast[onnx]"' in run.stderr


# ---- ONNX's own cases


def own_cases():
    """The node tests of RNN, GRU and LSTM, their weights as constants: (name, graph, x, output)."""
    from onnx.backend.test.case.node import collect_testcases

    for case in collect_testcases(None):
        graph, (given, expected) = case.model.graph, case.data_sets[0]
        if not {"RNN", "GRU", "LSTM"} & {n.op_type for n in graph.node}:
            continue
        arrays = dict(zip((i.name for i in graph.input), map(np.asarray, given), strict=True))
        x = arrays.pop("X")
        for name, array in arrays.items():
            graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        batch_first = any(a.name == "layout" and a.i for a in graph.node[-1].attribute)
        yield case.name, case.model, x if batch_first else x.swapaxes(0, 1), np.asarray(expected[0])


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_own_cases_of_onnx(tmp_path):
    path, read_ones = tmp_path / "case.onnx", set()
    for name, graph, x, expected in own_cases():
        onnx.save(graph, path)
        if "reverse" in name:
            with pytest.raises(bf.ConfigError, match=r"direction.*reverse"):
                bf.from_onnx(path)
            continue
        net = bf.from_onnx(path)
        y = np.asarray(net.predict(x))
        axes = np.flatnonzero(np.array(expected.shape) == 2) if net.description.bidirectional else ()
        for axis in axes[:1]:  # the directions, which here are side by side
            expected = np.moveaxis(expected, axis, -2)
        if net.readout == "every" and len(expected) != len(x):
            expected = expected.swapaxes(0, 1)
        np.testing.assert_allclose(y.ravel(), expected.ravel(), rtol=1e-5, atol=1e-6, err_msg=name)
        read_ones.add(name)
    assert len(read_ones) >= 15
