"""Export of networks as ONNX graphs, and import of ONNX graphs as networks.

ONNX stacks gates as i o f c (LSTM) and z r h (GRU), this package as i f g o and r z n.  ONNX's weights have
an axis of directions before PyTorch's shapes, and its bias is one vector, b_ih then b_hh.  Axes: N sequences,
T steps, D directions, W the width of h, L layers.

Operators: ONNX operator schemas, https://onnx.ai/onnx/operators, "RNN", "GRU", "LSTM" and "Scan".
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import count
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike

from . import storage, writing
from .columns import Columns, Scaling
from .description import Category, Description
from .errors import MALFORMED, ConfigError, CorruptFileError, ShapeError
from .initialisation import CELLS as CELLS_OF_CORE
from .model import Model
from .version import __version__

if TYPE_CHECKING:
    from .network import Network

try:
    import onnx
    from google.protobuf.message import DecodeError
    from onnx import checker, helper, numpy_helper
    from onnx.reference import ReferenceEvaluator
except ImportError as error:
    raise ImportError(
        f'ONNX files need the package onnx ({error}).  Install it: pip install "bptt-fast[onnx]".'
    ) from error

Array = np.ndarray[Any, Any]

OPSET, IR_VERSION = 14, 7  # of the same release of ONNX, 1.9
COARSE = 1e-4  # largest spacing of float32 numbers, relative to the scale; above it x and y are float64
# cell: operator, indices of its gates in this package's order, its activations (None: any of ACTIVATIONS)
OPERATORS: dict[str, tuple[str, tuple[int, ...], list[str] | None]] = {
    "elman": ("RNN", (0,), None),
    "gru": ("GRU", (1, 0, 2), ["Sigmoid", "Tanh"]),
    "lstm": ("LSTM", (0, 3, 1, 2), ["Sigmoid", "Tanh", "Tanh"]),
}
PEEPHOLES = (0, 2, 1)  # i o f in ONNX, i f o in this package
ACTIVATIONS = {
    "tanh": "Tanh",
    "relu": "Relu",
    "sigmoid": "Sigmoid",
    "leaky_relu": "LeakyRelu",
    "softplus": "Softplus",
}
LEAK = 0.01  # alpha of LeakyRelu
SINGLE = ("leaky_relu", "softplus")  # onnxruntime has no kernels for float64


# ---- writing


def write(net: Model, path: storage.Path) -> None:
    """Write a network as an ONNX file; ``Network.to_onnx`` documents it."""
    writing.replace(writing.named(path), _model(net).SerializeToString())


def _model(net: Model) -> Any:
    """The network as an onnx.ModelProto."""
    model = helper.make_model(
        _graph(net),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="bptt_fast",
        producer_version=__version__,
    )
    helper.set_model_props(model, storage.metadata_of(net))
    return model


@dataclass(frozen=True)
class Value:
    """A tensor of a graph under construction.  Operators add a node to the graph of the left operand."""

    graph: Graph
    name: str

    def __add__(self, other: Value) -> Value:
        return self.graph.node("Add", self, other)

    def __sub__(self, other: Value) -> Value:
        return self.graph.node("Sub", self, other)

    def __truediv__(self, other: Value) -> Value:
        return self.graph.node("Div", self, other)

    def __mul__(self, other: Value) -> Value:
        return self.graph.node("Mul", self, other)

    def __matmul__(self, other: Value) -> Value:
        return self.graph.node("MatMul", self, other)

    def apply(self, nonlinearity: str) -> Value:
        if nonlinearity == "linear":
            return self
        if nonlinearity == "retanh":
            return self.apply("tanh").apply("relu")
        if self.graph.double and nonlinearity in SINGLE:
            above = self.apply("relu")
            if nonlinearity == "leaky_relu":
                return above + (self - above) * Value(self.graph, "leak")
            return above - self.graph.node("Log", self.graph.node("Abs", self).apply("sigmoid"))
        return self.graph.node(ACTIVATIONS[nonlinearity], self)

    def split(self, parts: int, axis: int = -1) -> list[Value]:
        return self.graph.nodes("Split", self, outputs=parts, axis=axis)


class Graph:
    """Nodes and constants in the order of their creation; names begin with `prefix`."""

    def __init__(self, double: bool, prefix: str = "") -> None:
        self.double, self.prefix = double, prefix
        self.node_list: list[Any] = []
        self.constants: list[Any] = []

    def nodes(self, op: str, *inputs: Value | None, outputs: int = 1, **attributes: Any) -> list[Value]:
        name = f"{self.prefix}{op}_{len(self.node_list)}"
        results = [Value(self, f"{name}.{i}" if outputs > 1 else name) for i in range(outputs)]
        names = [value.name if value else "" for value in inputs]
        self.node_list.append(helper.make_node(op, names, [r.name for r in results], name=name, **attributes))
        return results

    def node(self, op: str, *inputs: Value | None, **attributes: Any) -> Value:
        return self.nodes(op, *inputs, **attributes)[0]

    def cast(self, value: Value, before: DTypeLike, after: DTypeLike) -> Value:
        if before == after:
            return value
        return self.node("Cast", value, to=helper.np_dtype_to_tensor_dtype(np.dtype(after)))

    def named(self, name: str, value: Value) -> None:
        self.node_list.append(helper.make_node("Identity", [value.name], [name], name=name))

    def constant(self, name: str, array: Any) -> Value:
        self.constants.append(numpy_helper.from_array(np.asarray(array, order="C"), name))
        return Value(self, name)


def _graph(net: Model) -> Any:
    d, g = net.description, Graph(net.dtype == np.float64)
    if d.cell not in SCANNED:
        raise ConfigError(f"to_onnx: expected a cell of {', '.join(SCANNED)}, got {d.cell!r}.")
    suffixes, weights = _direction_suffixes(d.bidirectional), net.state_dict()
    widths = {"h": d.proj_size or d.hidden_size} | (
        {"c": d.hidden_size} if CELLS_OF_CORE[d.cell]["states"] > 1 else {}
    )
    pieces = d.num_layers * len(suffixes)

    x, scaling = Value(g, "x"), _constants(g, net)
    types = {side: _outer_dtype(net, side) for side in ("input", "output")}
    one, first = g.constant("one", np.array([1])), g.constant("first", np.array([0]))
    if g.double and "leaky_relu" in (*d.nonlinearity, d.head_nonlinearity):
        g.constant("leak", np.array(LEAK))
    sequences = g.node("Gather", g.node("Shape", x), first)
    each = g.node("Concat", one, sequences, one, axis=0)  # repeats of (pieces, 1, W)
    states: list[list[Value]] = []  # for h and c: the states of each layer, (D, N, W)
    for kind, width in widths.items():
        rows = [weights.get(f"initial_{kind}{s}", np.zeros(width)) for s in _suffixes(d.num_layers, suffixes)]
        initial = g.constant(f"{kind}0", np.stack(rows)[:, None].astype(net.dtype))
        states.append(g.node("Expand", initial, each).split(d.num_layers, axis=0))

    operator = d.cell in OPERATORS and not d.proj_size and d.dtype == "float32"
    operator = operator and d.nonlinearity[:1] != ("retanh",)
    run = _operator_layer if operator else _scan_layer
    out = scaled = _encoded(g, net, x, scaling, types["input"])
    out, last = g.node("Transpose", out, perm=(1, 0, 2)), []  # (T, N, I)
    for layer, before in enumerate(zip(*states, strict=True)):
        out, *after = run(g, d, weights, layer, out, before)
        last.append(after)

    if d.readout == "last":  # (D, N, W) -> (N, D W)
        shape = g.constant("width", np.array([0, len(suffixes) * widths["h"]]))
        out = g.node("Reshape", g.node("Transpose", _rates(d, last[-1][0]), perm=(1, 0, 2)), shape)
        if d.skip:
            scaled = g.node("Gather", scaled, g.constant("last_step", np.array(-1)), axis=1)
    else:
        out = g.node("Transpose", out, perm=(1, 0, 2))
    if d.skip:
        out = g.node("Concat", out, scaled, axis=-1)
    for i in range(len(d.head) + 1):
        w, b = (g.constant(name, weights[name].T) for name in (f"head.{i}.weight", f"head.{i}.bias"))
        out = (out @ w + b).apply(d.head_nonlinearity if i < len(d.head) else "linear")
    if "output_mean" in scaling:
        out = g.cast(out, net.dtype, np.float64) * scaling["output_scale"] + scaling["output_mean"]
        out = g.cast(out, np.float64, types["output"])
    g.named("y", out)
    for kind, final in zip(widths, zip(*last, strict=True), strict=True):
        g.named(f"{kind}n", g.node("Concat", *final, axis=0))

    def tensor(name: str, *shape: str | int, dtype: DTypeLike = net.dtype) -> Any:
        return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(np.dtype(dtype)), shape)

    inputs = [tensor("x", "batch", "steps", d.input_size, dtype=types["input"])]
    inputs += [tensor(f"{kind}0", pieces, "states", width) for kind, width in widths.items()]
    steps = ["steps"] if d.readout == "every" else []
    outputs = [tensor("y", "batch", *steps, d.output_size, dtype=types["output"])]
    outputs += [tensor(f"{kind}n", pieces, "batch", width) for kind, width in widths.items()]
    return helper.make_graph(g.node_list, "bptt_fast", inputs, outputs, g.constants)


def _constants(g: Graph, net: Model) -> dict[str, Value]:
    """The network's scaling as float64 constants of a graph; for inputs, of those that are numbers."""
    scaling = {} if net.scaling is None else asdict(net.scaling)
    numbers = net.input_size - len(net.columns.categories)
    return {
        name: g.constant(name, np.array(a[:numbers] if name.startswith("input") else a))
        for name, a in scaling.items()
        if a is not None
    }


def _encoded(g: Graph, net: Model, x: Value, scaling: Mapping[str, Value], dtype: np.dtype[Any]) -> Value:
    """The inputs (N, T, I) as the first layer reads them: numbers, scaled, then vectors of integers."""
    sizes = net.columns.categories
    first, parts = net.input_size - len(sizes), []
    if first:
        out = x
        if sizes:
            out = g.node(
                "Slice", x, *(g.constant(f"numbers_{i}", np.array([a])) for i, a in enumerate((0, first, 2)))
            )
        if "input_mean" in scaling:
            out = (g.cast(out, dtype, np.float64) - scaling["input_mean"]) / scaling["input_scale"]
            out = g.cast(out, np.float64, net.dtype)
        parts.append(out)
    for column, size in enumerate(sizes, first):
        codes = g.node("Gather", x, g.constant(f"column_{column}", np.array(column)), axis=2)
        codes = g.cast(codes, dtype, np.int64)
        if column in net.description.embeddings:
            name = f"embedding.{column}.weight"
            parts.append(g.node("Gather", g.constant(name, net[name]), codes, axis=0))
            continue
        depth = g.constant(f"depth_{column}", np.array(size))
        bits = g.constant(f"bits_{column}", np.array([0, 1], np.float32))  # onnxruntime has no others
        one_hot = g.node("OneHot", codes, depth, bits, axis=-1)
        parts.append(g.cast(one_hot, np.float32, net.dtype))
    return g.node("Concat", *parts, axis=2) if len(parts) > 1 else parts[0]


def _outer_dtype(net: Model, side: str) -> np.dtype[Any]:
    """The dtype of the graph's x or y: the network's, or float64 if that rounds unscaled numbers coarsely;
    int64 of inputs that are all integers."""
    if side == "input" and len(net.columns.categories) == net.input_size:
        return np.dtype(np.int64)
    mean, scale = (getattr(net.scaling, f"{side}_{field}", None) or () for field in ("mean", "scale"))
    with np.errstate(over="ignore", divide="ignore"):  # of scales beyond the range of float32
        gaps = [np.spacing(net.dtype.type(abs(m) + s)) / s for m, s in zip(mean, scale, strict=True)]
    return net.dtype if all(gap <= COARSE for gap in gaps) else np.dtype(np.float64)


def _is_leak(alpha: Iterable[float]) -> bool:
    """Whether each alpha of LeakyRelu is that of "leaky_relu"."""
    return all(np.float32(a) == np.float32(LEAK) for a in alpha)


def _direction_suffixes(bidirectional: bool) -> tuple[str, ...]:
    return ("", "_reverse")[: 1 + bidirectional]


def _rates(d: Description, state: Value) -> Value:
    """What the layer above reads of a state h, or of a potential."""
    return state.apply(d.nonlinearity[0]) if d.follows else state


def _suffixes(layers: int, suffixes: tuple[str, ...]) -> list[str]:
    return [f"_l{layer}{direction}" for layer in range(layers) for direction in suffixes]


def _gates(stacked: Array, order: Iterable[int]) -> Array:
    """Blocks of rows of `stacked`, one per gate, in another order."""
    order = list(order)
    blocks = np.split(stacked, len(order))
    return np.concatenate([blocks[k] for k in order])


def _operator_layer(
    g: Graph, d: Description, weights: Mapping[str, Array], layer: int, x: Value, states: Sequence[Value]
) -> list[Value]:
    """A layer as a node RNN, GRU or LSTM: x (T, N, F), states (D, N, W) -> (T, N, D W), states."""
    op, order, _ = OPERATORS[d.cell]
    suffixes = _direction_suffixes(d.bidirectional)

    def stacked(name: str, order: Iterable[int]) -> Array:
        return np.stack([_gates(weights[f"{name}_l{layer}{direction}"], order) for direction in suffixes])

    biases = np.concatenate([stacked("bias_ih", order), stacked("bias_hh", order)], axis=1)
    inputs: list[Value | None] = [
        x,
        g.constant(f"W_l{layer}", stacked("weight_ih", order)),
        g.constant(f"R_l{layer}", stacked("weight_hh", order)),
        g.constant(f"B_l{layer}", biases),
        None,
        *states,
    ]
    if d.peephole:
        inputs.append(g.constant(f"P_l{layer}", stacked("weight_peephole", PEEPHOLES)))
    attributes: dict[str, Any] = {
        "hidden_size": d.hidden_size,
        "direction": "bidirectional" if d.bidirectional else "forward",
    }
    if d.cell == "gru":
        attributes["linear_before_reset"] = int(d.reset == "after")
    if d.nonlinearity:
        attributes["activations"] = [ACTIVATIONS.get(d.nonlinearity[0], "Affine")] * len(suffixes)
        if d.nonlinearity[0] == "linear":
            attributes |= {
                "activation_alpha": [1.0] * len(suffixes),
                "activation_beta": [0.0] * len(suffixes),
            }
    y, *after = g.nodes(op, *inputs, outputs=1 + len(states), **attributes)
    shape = g.constant(f"width_l{layer}", np.array([0, 0, len(suffixes) * d.hidden_size]))
    return [g.node("Reshape", g.node("Transpose", y, perm=(0, 2, 1, 3)), shape), *after]


def _scan_layer(
    g: Graph, d: Description, weights: Mapping[str, Array], layer: int, x: Value, states: Sequence[Value]
) -> list[Value]:
    """A layer as one node Scan per direction, for layers that operators or runtimes do not support."""
    number = helper.np_dtype_to_tensor_dtype(np.dtype(d.dtype))
    kinds, done = ["h", "c"][: len(states)], []
    first, suffixes = Value(g, "first"), _direction_suffixes(d.bidirectional)
    pieces = [[g.node("Squeeze", s, first) for s in state.split(len(suffixes), axis=0)] for state in states]
    for direction, *before in zip(suffixes, *pieces, strict=True):
        suffix = f"_l{layer}{direction}"
        w = {
            name.removesuffix(suffix): g.constant(name, array.T)
            for name, array in weights.items()
            if name.endswith(suffix) and not name.startswith("initial_")
        }
        if d.cell == "ctrnn":
            w |= _leak(g, d, w, suffix)
        step = Graph(g.double, "step.")
        after = SCANNED[d.cell](d, w, *(Value(step, name) for name in ("z", *kinds)))
        results = [value.name for value in (*after, step.node("Identity", _rates(d, after[0])))]
        body = helper.make_graph(
            step.node_list,
            f"step{suffix}",
            [helper.make_tensor_value_info(name, number, None) for name in (*kinds, "z")],
            [helper.make_tensor_value_info(name, number, None) for name in results],
        )
        back = [int(bool(direction))]
        done.append(
            g.nodes(
                "Scan",
                *before,
                x @ w["weight_ih"] + w["bias_ih"],
                outputs=len(results),
                body=body,
                num_scan_inputs=1,
                scan_input_directions=back,
                scan_output_directions=back,
            )
        )
    *finals, outputs = zip(*done, strict=True)
    joined = [g.node("Concat", *(g.node("Unsqueeze", s, first) for s in final), axis=0) for final in finals]
    return [g.node("Concat", *outputs, axis=2), *joined]


def _leak(g: Graph, d: Description, w: Mapping[str, Value], suffix: str) -> dict[str, Value]:
    """alpha = dt/tau of each unit of a rate network, and 1 - alpha."""
    if d.train_tau:
        one = g.constant(f"one{suffix}", np.ones(1, d.dtype))
        t = w["raw_tau"]
        small = g.node("Exp", g.node("Neg", g.node("Abs", t)))
        softplus = t.apply("relu") + g.node("Log", one + small)  # runtimes have none for float64
        alpha = one / (one + softplus)
        return {"alpha": alpha, "rest": one - alpha}
    fixed = (d.dt / d.time_constants(None)).astype(d.dtype)
    return {
        "alpha": g.constant(f"alpha{suffix}", fixed),
        "rest": g.constant(f"rest{suffix}", 1 - fixed),
    }


# One step: z = W_ih x + b_ih (N, G H), h (N, W), c (N, H) -> the new states.


def _mlp(d: Description, w: Mapping[str, Value], z: Value, h: Value) -> list[Value]:
    a = (z + (h @ w["weight_hh"] + w["bias_hh"])).apply(d.nonlinearity[0])
    for i, nonlinearity in enumerate(d.nonlinearity[1:], 1):
        a = (a @ w[f"f.{i}.weight"] + w[f"f.{i}.bias"]).apply(nonlinearity)
    return [a]


def _ctrnn(d: Description, w: Mapping[str, Value], z: Value, h: Value) -> list[Value]:
    a = z + (_rates(d, h) @ w["weight_hh"] + w["bias_hh"])
    return [h * w["rest"] + (a if d.follows else a.apply(d.nonlinearity[0])) * w["alpha"]]


def _gru(d: Description, w: Mapping[str, Value], z: Value, h: Value) -> list[Value]:
    (zr, zz, zn), (ur, uz, un), (br, bz, bn) = z.split(3), w["weight_hh"].split(3), w["bias_hh"].split(3)
    r, u = (zr + (h @ ur + br)).apply("sigmoid"), (zz + (h @ uz + bz)).apply("sigmoid")
    q = (h * r) @ un + bn if d.reset == "before" else r * (h @ un + bn)
    n = (zn + q).apply("tanh")
    return [n + u * (h - n)]


def _lstm(d: Description, w: Mapping[str, Value], z: Value, h: Value, c: Value) -> list[Value]:
    i, f, g, o = (z + (h @ w["weight_hh"] + w["bias_hh"])).split(4)
    if d.peephole:
        pi, pf, po = w["weight_peephole"].split(3)
        i, f = i + c * pi, f + c * pf
    c = f.apply("sigmoid") * c + i.apply("sigmoid") * g.apply("tanh")
    if d.peephole:
        o = o + c * po
    h = o.apply("sigmoid") * c.apply("tanh")
    return [h @ w["weight_hr"] if d.proj_size else h, c]


def _positive(v: Value) -> Value:
    """g of the minimal gated cells, v + 1/2 where v >= 0, else the sigmoid of v."""
    above = v.apply("relu")
    return above + (v - above).apply("sigmoid")


def _mingru(d: Description, w: Mapping[str, Value], z: Value, h: Value) -> list[Value]:
    zz, zn = z.split(2)
    return [h + zz.apply("sigmoid") * (_positive(zn) - h)]


def _minlstm(d: Description, w: Mapping[str, Value], z: Value, h: Value) -> list[Value]:
    zf, zi, zn = z.split(3)
    n = _positive(zn)
    # s(z) = s(|z|) exp(-below) with below = max(0, -z): f and i, times a common factor, are not both 0
    below_f, below_i = zf.apply("relu") - zf, zi.apply("relu") - zi
    f = (zf + below_f + below_f).apply("sigmoid") * (below_i - below_f).apply("sigmoid")
    i = (zi + below_i + below_i).apply("sigmoid") * (below_f - below_i).apply("sigmoid")
    return [n + f / (f + i) * (h - n)]


def _indrnn(d: Description, w: Mapping[str, Value], z: Value, h: Value) -> list[Value]:
    return [(z + h * w["weight_hh"]).apply(d.nonlinearity[0])]


SCANNED: dict[str, Any] = {
    "elman": _mlp, "mlp": _mlp, "gru": _gru, "lstm": _lstm, "ctrnn": _ctrnn,
    "mingru": _mingru, "minlstm": _minlstm, "indrnn": _indrnn,
}  # fmt: skip


# ---- reading
#
# The nodes between two layers are interpreted by their effect: every number that depends on the data gets a
# tag, an integer for its source, and nodes that only move numbers are executed on the tags of a few short
# sequences.  The input of a layer must be the tags of all outputs of the layer below, in order.

CELLS = {op: cell for cell, (op, _, _) in OPERATORS.items()}
SPACE = 1 << 40  # number of tags per source
MOVES = {
    *("Concat", "Expand", "Flatten", "Gather", "Identity", "Reshape"),
    *("Slice", "Split", "Squeeze", "Transpose", "Unsqueeze"),
}
OF_CONSTANTS = MOVES | {
    *("Add", "Cast", "Constant", "ConstantOfShape", "Div", "Equal"),
    *("Mul", "Range", "Shape", "Sub", "Where"),
}
# attribute of RNN, GRU or LSTM: allowed values, the default first, and a suggestion
ATTRIBUTES: dict[str, tuple[tuple[Any, ...], str]] = {
    "clip": ((None,), "A Network does not clip pre-activations."),
    "direction": (("forward", "bidirectional"), "Reverse the sequences and use a forward layer."),
    "input_forget": ((0,), "The input and forget gates of a Network are separate."),
    "layout": ((0, 1), ""),
    "linear_before_reset": ((0, 1), ""),
}
EXACT: tuple[int, ...] = (
    onnx.TensorProto.FLOAT,
    onnx.TensorProto.DOUBLE,
)  # a Cast between these types is allowed anywhere
INTEGERS: tuple[int, ...] = (onnx.TensorProto.INT64, onnx.TensorProto.INT32)  # of the inputs
# numbers that reading a graph may compute: some, and some more for each number in the file
LARGEST, EACH = 1 << 22, 8
FREE = "Export with free axes of sequences and steps (dynamic_axes of torch.onnx.export)."
LOGITS = "Remove it: the outputs of a Network are logits."
UNROLLED = "Is it an nn.RNN in single steps?  torch.onnx.export(..., dynamo=False) writes it as one node."


class _File(NamedTuple):
    """An ONNX file: its name, its graph, the arrays in it, and what this package noted there."""

    name: str
    model: Any
    tensors: dict[str, Array]
    config: dict[str, Any]
    extra: dict[str, str]
    columns: Columns


def read(path: storage.Path) -> Network:
    """Read a network from an ONNX file; ``bptt_fast.from_onnx`` documents it."""
    name = writing.named(path)
    try:
        model = onnx.load(name, format="protobuf")
        checker.check_model(model)
        tensors = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
        notes = {entry.key: entry.value for entry in model.metadata_props}
        known = notes.get("format") == storage.FORMAT
        config, extra, noted = (
            storage.json_object(notes.get(key, "{}") if known else "{}", key)
            for key in ("network", "extra", "columns")
        )
        storage.check_extra(extra)
        columns = Columns.restored(noted)
    except (DecodeError, checker.ValidationError, *MALFORMED) as error:
        raise CorruptFileError(
            f"{name}: expected an ONNX file, got one that is damaged or not valid ({error}).  Restore it "
            f"from a copy, or write it again."
        ) from error
    file = _File(name, model, tensors, config, extra, columns)
    if any(node.op_type == "Scan" for node in model.graph.node):
        return _scanned(file)
    try:
        return _interpreted(file)
    except ConfigError:
        raise
    except ShapeError as error:
        raise CorruptFileError(f"{name}: expected notes that fit the graph, but {error}") from error
    except MALFORMED as error:
        raise CorruptFileError(
            f"{name}: expected a valid graph, got one whose nodes do not fit each other ({error!r}).  "
            f"Write it again."
        ) from error


def _interpreted(file: _File) -> Network:
    """A network from a graph of layers, of its declared sizes or, if these are too large, of any sizes."""
    try:
        reader, description, parameters = _interpret(file, True)
    except _TooLarge:
        reader, description, parameters = _interpret(file, False)
    noted = {key: value for key, value in file.config.items() if key in Description.__dataclass_fields__}
    return Model.public.rebuilt(noted | description, parameters, file.extra, reader.columns(file.columns))


def _interpret(file: _File, declared: bool) -> tuple[_Reader, dict[str, Any], dict[str, Array]]:
    """The interpreter after it has run, the description and the parameters.

    It runs on sequences of 5 and of 9 steps, which rejects graphs that are right for one length only, such as
    "the last step is step 4"."""
    output, trained = file.model.graph.output[0], file.config.get("initial_state") == "trained"
    for size in (5, 9):
        reader = _Reader(file.name, file.model, file.tensors, size, declared)
        description, parameters = reader.network(output, trained)
    return reader, description, parameters


def _scanned(file: _File) -> Network:
    """A network from a graph with a Scan; writing it again must reproduce the graph."""
    weights = ("weight_", "bias_", "raw_tau", "f.", "head.")
    try:
        parameters = {key: array.T for key, array in file.tensors.items() if key.startswith(weights)}
        parameters |= {key: array for key, array in file.tensors.items() if key.startswith("embedding.")}
        d = Description.restored(file.config)
        if d.initial_state == "trained":
            for i, suffix in enumerate(_suffixes(d.num_layers, _direction_suffixes(d.bidirectional))):
                states = {k: file.tensors[f"{k}0"] for k in "hc" if f"{k}0" in file.tensors}
                parameters |= {f"initial_{k}{suffix}": state[i, 0] for k, state in states.items()}
        net = Model.public.rebuilt(file.config, parameters, file.extra, file.columns)
        if _graph(net) == file.model.graph:
            return net
    except (*MALFORMED, MemoryError):
        pass
    raise ConfigError(
        f"{file.name}: expected layers RNN, GRU or LSTM, got a Scan.  A Scan is read only as Network.to_onnx "
        f"of this version writes it."
    )


def _attributes(node: Any) -> dict[str, Any]:
    def text(value: Any) -> Any:
        return value.decode(errors="replace") if isinstance(value, bytes) else value

    values = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    return {name: list(map(text, v)) if isinstance(v, list) else text(v) for name, v in values.items()}


@dataclass(frozen=True, eq=False)
class Flow:
    """Numbers that depend on the data, represented by their tags."""

    tags: Array


class Lookup(NamedTuple):
    """A vector of a width for each of some integers: the tags of these, and how many values they have."""

    codes: Array
    size: int
    width: int
    table: Array | None  # (size, width); None: one-hot vectors


@dataclass
class Affine:
    """A layer of the readout g."""

    weight: Array  # (out, in)
    bias: Array | None = None
    nonlinearity: str | None = None


class _TooLarge(ConfigError):
    """The graph asks for more numbers than its weights explain."""


class _Reader:
    """Interpreter of the nodes that the first output depends on; constants and Flows are stored by name.

    `source` is the source of the outputs of the latest layer, `width` their number per row.  Row n + N t
    belongs to step t of sequence n, row n + N T to the state after its last step.  `axes` are the lengths
    of the input's axes before its features, `read` are the tags (T, N, I) of what the first layer reads.
    tag = source * SPACE + row * width + column.
    """

    def __init__(self, path: str, model: Any, tensors: dict[str, Array], size: int, declared: bool) -> None:
        """Prepare the graph; free axes get the sizes `size`, `size` + 1, ..., as do, unless `declared`, all
        but the last axes of each input that are longer than 1."""
        self.path, self.graph, self.opsets = path, model.graph, list(model.opset_import)
        self.declared = declared
        self.sources = self.source = self.width = self.T = self.N = 0
        self.axes: tuple[int, ...] = ()
        self.read = np.zeros((0, 0, 0))
        self.skip = False
        self.layers: list[dict[str, Any]] = []  # descriptions, which must be equal
        self.parameters: dict[str, Array] = {}
        self.initial: dict[str, Array] = {}
        self.head: list[Affine] = []
        self.scaling: dict[str, Array] = {}  # fields of a Scaling read so far
        self.lookups: dict[int, Lookup] = {}  # by their sources
        self.columns_read = 0  # of the inputs
        self.categories: dict[int, Category] = {}
        self.known: dict[str, Any] = dict(tensors)
        self.left = LARGEST + EACH * sum(tensor.size for tensor in tensors.values())  # numbers to compute
        self.sizes: dict[str | int, int] = defaultdict(count(size).__next__)
        self.inputs: list[Array] = []

    def _declare_inputs(self, names: set[str]) -> None:
        """Give the graph's inputs of these names their tags."""
        for value in self.graph.input:
            if value.name in names and value.name not in self.known:
                axes = value.type.tensor_type.shape.dim
                shape = [
                    self.sizes[d.dim_param or d.dim_value or f"{value.name} {axis}"]
                    if not d.dim_value or (not self.declared and d.dim_value > 1 and axis < len(axes) - 1)
                    else d.dim_value
                    for axis, d in enumerate(axes)
                ]
                self.known[value.name] = flow = self._flow(*shape)
                self.inputs.append(flow.tags)

    def network(self, output: Any, trained: bool) -> tuple[dict[str, Any], dict[str, Array]]:
        """The description and parameters of the network; `trained` includes initial states even if zero."""
        nodes = self._needed(output.name)
        self._declare_inputs({name for node in nodes for name in node.input} | {output.name})
        for node in nodes:
            self.known |= zip(node.output, self._results(node), strict=False)
        flow = self.known.get(output.name)
        if not self.layers or not isinstance(flow, Flow):
            raise self._error(output, "expected it to depend on a node RNN, GRU or LSTM, got none")
        readout = self._readout(output, self._rows(output, self._joined(flow)))
        self._begin_affine()
        between = sorted({layer.nonlinearity or "linear" for layer in self.head[:-1]})
        if len(between) > 1:
            raise self._error(output, f"expected one nonlinearity between the layers of g, got {between}")
        for i, layer in enumerate(self.head):
            bias = np.zeros(len(layer.weight)) if layer.bias is None else layer.bias
            self.parameters |= {f"head.{i}.weight": layer.weight, f"head.{i}.bias": bias}
        trained = trained or any(state.any() for state in self.initial.values())
        description = self.layers[0] | {
            "input_size": self.columns_read,
            "output_size": self.width,
            "categories": self.categories,
            "f": (),
            "proj_size": 0,
            "head": [len(layer.weight) for layer in self.head[:-1]],
            "skip": self.skip,
            "readout": readout,
            "num_layers": len(self.layers),
            "initial_state": "trained" if trained else "zeros",
        }
        if between:
            description["head_nonlinearity"] = between[0]
        del description["lengths"]
        return description, self.parameters | (self.initial if trained else {})

    def _needed(self, output: str) -> list[Any]:
        """The nodes that an output depends on, without those that compute the lengths of the sequences."""
        needed, kept = {output}, []
        for node in reversed(self.graph.node):
            if needed & set(node.output):
                kept.append(node)
                inputs = list(node.input)
                if node.op_type in CELLS:
                    del inputs[4:5]
                needed |= set(inputs) - {""}
        return kept[::-1]

    def _error(self, where: Any, text: str, hint: str = "") -> ConfigError:
        """A ConfigError about `where`, a node or an output."""
        if isinstance(where, onnx.NodeProto):
            label = f"node {where.name or where.output[0]!r} ({where.op_type})"
        else:
            label = f"output {where.name!r}"
        return ConfigError(f"{self.path}, {label}: {text}.{'  ' * bool(hint)}{hint}")

    def _flow(self, *shape: int) -> Flow:
        """A Flow of numbers from a new source."""
        if min(shape, default=0) < 0:
            raise ConfigError(f"{self.path}: expected axes of at least 1, got {shape}.  {FREE}")
        self._spend(math.prod(shape))
        self.sources += 1
        return Flow(self.sources * SPACE + np.arange(math.prod(shape)).reshape(shape))

    def _spend(self, numbers: int) -> None:
        """Count numbers to be computed; raises a ConfigError if a graph of this size should not need them."""
        self.left -= numbers
        if self.left < 0:
            raise _TooLarge(
                f"{self.path}: expected a graph whose sizes follow from its weights, got one that asks for "
                f"{numbers:,} numbers at once or many times in a row.  {FREE}"
            )

    def _results(self, node: Any) -> list[Any]:
        op = node.op_type
        values: list[Any] = [self.known.get(name) if name else None for name in node.input]
        flows = [isinstance(value, Flow) for value in values]
        only_first = flows[:1] == [True] and sum(flows) == 1
        if node.domain in ("", "ai.onnx"):
            if op in CELLS:
                return self._recurrent(node, *values)
            scaling = self._part_of_scaling(op, values) if sum(flows) == 1 else ""
            if scaling:
                return [self._scaled(node, scaling, *(values if only_first else values[::-1]))]
            to = _attributes(node)["to"] if op == "Cast" else None
            if only_first and (to in EXACT or (to in INTEGERS and not self.layers)):
                return values
            if op == "OneHot" and only_first and not self.layers:
                return [self._one_hot(node, *values)]
            if op == "Gather" and flows == [False, True] and not self.layers:
                return [self._embedded(node, *values)]
            if op == "Shape" or (op in OF_CONSTANTS and not any(flows)):
                return self._evaluated(node, values)
            if op in MOVES and (only_first or (op == "Concat" and all(flows))):
                return [self._with_input(node, Flow(tags)) for tags in self._evaluated(node, values)]
            if "output_scale" in self.scaling:
                raise self._error(
                    node, "expected only the addition of a constant after the scaling of outputs"
                )
            if op in ("MatMul", "Gemm") and only_first and self.layers:
                return [self._affine(node, *values)]
            if op == "Add" and sum(flows) == 1 and self.head:
                return [self._bias(node, *(values if only_first else values[::-1]))]
            known = op in ACTIVATIONS.values() and _is_leak([_attributes(node).get("alpha", LEAK)])
            if known and only_first and self.layers:
                return [self._activation(node, *values)]
        raise self._error(
            node,
            "expected layers RNN, GRU or LSTM on top of each other, then at most MatMul, Gemm, Add, Tanh, "
            f"Relu, Sigmoid, Softplus, and LeakyRelu with alpha {LEAK}",
            LOGITS if "Softmax" in op else "" if self.layers else UNROLLED,
        )

    def _part_of_scaling(self, op: str, values: list[Any]) -> str:
        """The field of a Scaling that an operator defines, for (x - mean) / scale and y scale + mean."""
        if not self.layers:
            fields = {"Sub": "input_mean", "Div": "input_scale"}
            late = op == "Sub" and "input_scale" in self.scaling
            return "" if late or not isinstance(values[0], Flow) else fields.get(op, "")
        fields = {"Mul": "output_scale"} | ({"Add": "output_mean"} if "output_scale" in self.scaling else {})
        return fields.get(op, "") if self.head else ""

    def _scaled(self, node: Any, field: str, x: Flow, a: Array) -> Flow:
        width = x.tags.shape[-1]
        if (
            field in self.scaling
            or a.shape[-1:] not in ((width,), (1,), ())
            or a.size != max(a.shape[-1:], default=1)
        ):
            raise self._error(node, f"expected one constant of {width} numbers, got {a.shape} or a second")
        self.scaling[field] = np.broadcast_to(a.ravel(), (width,))
        if self.layers:
            return x
        self.sources += 1  # numbers that differ unscaled are other ones
        source = x.tags.flat[0] // SPACE if x.tags.size else 0
        differ = self.scaling[field] != (field == "input_scale")
        apart = (self.sources - source) * SPACE
        self.inputs = [a + np.isin(a, x.tags[..., differ]) * apart for a in self.inputs]
        return Flow(x.tags + differ * apart)

    def columns(self, noted: Columns) -> Columns:
        """The stored names with the graph's scaling, or the stored scaling if the graph's is its rounding."""
        if not self.scaling:
            return replace(noted, scaling=None)
        widths = {
            "input": self.columns_read,
            "output": len(self.head[-1].weight) if "output_scale" in self.scaling else 0,
        }
        scaling: dict[str, Any] = {}
        for side, width in widths.items():
            if width:
                scaling |= {f"{side}_mean": np.zeros(width), f"{side}_scale": np.ones(width)}
        for name, a in self.scaling.items():  # of the numbers alone, if there are integers
            scaling[name] = np.concatenate([a, scaling[name][len(a) :].astype(a.dtype)])
        exact = {} if noted.scaling is None else asdict(noted.scaling)
        exact = {name: a for name, a in exact.items() if a is not None}
        same = exact.keys() == scaling.keys() and all(
            np.array_equal(np.array(exact[name], a.dtype), a) for name, a in scaling.items()
        )
        return noted if same else replace(noted, scaling=Scaling(**scaling))

    def _evaluated(self, node: Any, values: list[Any]) -> list[Array]:
        """The outputs of a node, computed for constants and tags."""
        inputs = {
            name: value.tags if isinstance(value, Flow) else value
            for name, value in zip(node.input, values, strict=True)
            if name
        }
        function = helper.make_function("", "node", list(inputs), list(node.output), [node], self.opsets)
        try:
            self._spend(self._size(node, [inputs[name] for name in node.input if name]))
            return list(ReferenceEvaluator(function).run(None, inputs, attributes={}))
        except ConfigError:
            raise
        except Exception as error:
            raise self._error(node, f"expected valid inputs, got {error}") from error

    def _size(self, node: Any, arrays: list[Array]) -> int:
        """An upper bound of the output size of a node."""
        op, shapes = node.op_type, [a.shape for a in arrays]
        if op == "ConstantOfShape":
            return math.prod(map(abs, arrays[0].tolist()))
        if op == "Expand":
            return math.prod(np.broadcast_shapes(shapes[0], arrays[1].tolist()))
        if op == "Range":
            start, limit, step = (float(a) for a in arrays)
            return math.ceil(abs(limit - start) / abs(step)) if step else 0
        if op == "Gather":
            axis = _attributes(node).get("axis", 0)
            return arrays[0].size // max(shapes[0][axis], 1) * arrays[1].size
        if op in MOVES or len(shapes) < 2:
            return sum(array.size for array in arrays)
        return math.prod(np.broadcast_shapes(*shapes))

    # ---- recurrent layers

    def _recurrent(self, node: Any, x: Any, w: Any, r: Any, *more: Any) -> list[Flow]:
        """w (D, G H, I), r (D, G H, H), b (D, 2 G H), h, c (D, N, H), p (D, 3 H)."""
        b, _, h, c, p = [*more, *[None] * 5][:5]
        cell = CELLS[node.op_type]
        order = OPERATORS[cell][1]
        attributes = _attributes(node)
        options = self._options(node, attributes)
        suffixes = _direction_suffixes(options["direction"] == "bidirectional")
        w, r, b, p = self._weights(node, len(suffixes), len(order), w, r, b, p)
        hidden = r.shape[2]
        self.layers.append(
            {
                "cell": cell,
                "nonlinearity": self._nonlinearity(node, attributes, cell, len(suffixes)),
                "hidden_size": hidden,
                "bidirectional": len(suffixes) == 2,
                "reset": "before" if cell == "gru" and not options["linear_before_reset"] else "after",
                "peephole": p is not None,
                "dtype": w.dtype.name,
                "lengths": len(node.input) > 4 and node.input[4] != "",
            }
        )
        if self.layers[-1] != self.layers[0]:
            raise self._error(
                node, f"expected a layer like the first, {self.layers[0]}, got {self.layers[-1]}"
            )
        batch_first = options["layout"] == 1
        self._connect(node, x.tags if isinstance(x, Flow) else np.zeros(0), batch_first, w.shape[2])

        back = np.argsort(order)
        states = {"initial_h": h} | ({"initial_c": c} if CELLS_OF_CORE[cell]["states"] > 1 else {})
        initial = {
            name: self._initial(node, s, batch_first, (len(suffixes), self.N, hidden))
            for name, s in states.items()
        }
        for i, direction in enumerate(suffixes):
            b_ih, b_hh = np.split(b[i], 2)
            blocks = {"weight_ih": w[i], "weight_hh": r[i], "bias_ih": b_ih, "bias_hh": b_hh}
            blocks = {name: _gates(block, back) for name, block in blocks.items()}
            if p is not None:
                blocks["weight_peephole"] = _gates(p[i], PEEPHOLES)
            suffix = f"_l{len(self.layers) - 1}{direction}"
            self.parameters |= {name + suffix: block for name, block in blocks.items()}
            self.initial |= {name + suffix: state[i] for name, state in initial.items()}

        self.width = len(suffixes) * hidden
        every = self._flow(self.T + 1, self.N, len(suffixes), hidden).tags
        self.source = self.sources
        y, y_h = every[:-1].transpose(0, 2, 1, 3), every[-1].swapaxes(0, 1)  # (T, D, N, H), (D, N, H)
        y_c = self._flow(*y_h.shape).tags
        if batch_first:
            y, y_h, y_c = every[:-1].swapaxes(0, 1), every[-1], y_c.swapaxes(0, 1)
        return [Flow(y), Flow(y_h), Flow(y_c)]

    def _options(self, node: Any, attributes: dict[str, Any]) -> dict[str, Any]:
        options = {}
        for name, (allowed, hint) in ATTRIBUTES.items():
            options[name] = value = attributes.get(name, allowed[0])
            if value not in allowed:
                expected = " or ".join("none" if option is None else repr(option) for option in allowed)
                raise self._error(node, f"attribute {name}: expected {expected}, got {value!r}", hint)
        return options

    def _weights(self, node: Any, suffixes: int, gates: int, w: Any, r: Any, b: Any, p: Any) -> list[Any]:
        """The checked W, R, B and P; a missing bias is zero."""
        if not all(isinstance(a, np.ndarray) and a.ndim == 3 for a in (w, r)):
            raise self._error(node, "expected weights W and R that are constants of three axes")
        rows, hidden = gates * r.shape[2], r.shape[2]
        if b is None:
            b = np.broadcast_to(w.dtype.type(0), (suffixes, 2 * rows))
        shapes = (
            (suffixes, rows, w.shape[2]),
            (suffixes, rows, hidden),
            (suffixes, 2 * rows),
            (suffixes, 3 * hidden),
        )
        for name, a, shape in zip("WRBP", (w, r, b, p), shapes, strict=True):
            if a is None:
                continue
            got = (a.shape, a.dtype) if isinstance(a, np.ndarray) else ("what is", "no constant")
            if got != (shape, w.dtype) or w.dtype not in (np.float32, np.float64):
                raise self._error(
                    node,
                    f"{name}: expected a constant {shape}, float32 or float64 for all weights, got {got[0]} "
                    f"{got[1]}",
                )
        return [w, r, b, p]

    def _nonlinearity(self, node: Any, attributes: dict[str, Any], cell: str, suffixes: int) -> str | None:
        """The nonlinearity of an Elman cell; None for other cells, whose activations are fixed."""
        fixed = OPERATORS[cell][2]
        default = (fixed or ["Tanh"]) * suffixes
        names = attributes.get("activations", default)
        lines = [list(attributes.get(f"activation_{k}", [])) for k in ("alpha", "beta")]
        if fixed:
            wanted = str(default)
            if names == default:
                return None
        else:
            wanted = (
                f"Tanh, Relu, Sigmoid, Softplus, LeakyRelu with alpha {LEAK} or Affine with alpha 1 and "
                f"beta 0, the same in both directions"
            )
            known = {op: name for name, op in ACTIVATIONS.items()}
            if not _is_leak(lines[0]):
                del known["LeakyRelu"]
            if lines == [[1.0] * suffixes, [0.0] * suffixes]:
                known["Affine"] = "linear"
            if names and names == names[:1] * suffixes and names[0] in known:
                return known[names[0]]
        raise self._error(
            node, f"attribute activations: expected {wanted}, got {names} with alpha, beta {lines}"
        )

    def _connect(self, node: Any, x: Any, batch_first: bool, inputs: int) -> None:
        """Raise unless x is an input of the graph or all outputs of the previous layer."""
        first = len(self.layers) == 1
        x = x.swapaxes(0, 1) if batch_first and x.ndim == 3 else x  # (T, N, F)
        if x.ndim == 3 and x.shape[2] == inputs and not self.head and not self.skip:
            if first:
                self.T, self.N = x.shape[:2]
                if self._connect_inputs(node, self._decoded(node, x)):
                    self.read = x
                    return
            else:
                rows = np.arange(self.T * self.N * self.width).reshape(self.T, self.N, self.width)
                if np.array_equal(x, self.source * SPACE + rows):
                    return
        what = f"an input of the graph, (batch, steps, {inputs}) or (steps, batch, {inputs})"
        raise self._error(
            node,
            f"expected to read {what if first else 'all outputs of the previous recurrent layer'}, unchanged",
        )

    def _connect_inputs(self, node: Any, x: Array) -> bool:
        """Whether x (T, N, I) is an input of the graph or, with integers, several of them side by side."""
        below = [(a.shape[:-1], a) for a in self.inputs if a.ndim == 3]
        below += [(axes, a.swapaxes(0, 1)) for axes, a in below]
        below += [(a.shape[:-1], a[:, None]) for a in self.inputs if a.ndim == 2]
        if self.categories:  # integers (N, T) or (T, N), without an axis of columns
            below += [(a.shape, b[..., None]) for a in self.inputs if a.ndim == 2 for b in (a, a.T)]
        self.columns_read, at = x.shape[2], 0
        while at < x.shape[2]:
            fit = [(axes, b) for axes, b in below if np.array_equal(x[..., at : at + b.shape[2]], b)]
            if not fit or (at and not self.categories):
                return False
            self.axes = self.axes if at else fit[0][0]
            at += fit[0][1].shape[2]
        return True

    def _one_hot(self, node: Any, codes: Flow, depth: Array, values: Array) -> Flow:
        axes, size = codes.tags.ndim, int(np.ravel(depth)[0])
        if np.ravel(values).tolist() != [0, 1] or _attributes(node).get("axis", -1) not in (-1, axes):
            raise self._error(node, "expected the values 0 and 1, along a new last axis")
        return self._looked_up(Lookup(codes.tags, size, size, None))

    def _embedded(self, node: Any, table: Any, codes: Flow) -> Flow:
        if np.ndim(table) != 2 or _attributes(node).get("axis", 0) != 0:
            raise self._error(node, "expected rows of a constant matrix, by integers of the input")
        size, width = table.shape
        return self._looked_up(Lookup(codes.tags, size, width, table))

    def _looked_up(self, lookup: Lookup) -> Flow:
        flow = self._flow(*lookup.codes.shape, lookup.width)
        self.lookups[self.sources] = lookup
        return flow

    def _decoded(self, node: Any, x: Array) -> Array:
        """x (T, N, F) with the integers in place of what was looked up for them."""
        columns: list[Array] = []
        at, self.categories = 0, {}
        while at < x.shape[2]:
            source = int(x[0, 0, at] // SPACE)
            lookup = self.lookups.get(source)
            width = 1 if lookup is None else lookup.width
            part = x[..., at : at + width]
            if lookup is not None:
                rows, place = np.divmod(part - source * SPACE, width)
                whole = part.shape[2] == width and (place == np.arange(width)).all()
                if not whole or (rows != rows[..., :1]).any() or rows.max() >= lookup.codes.size:
                    raise self._error(node, "expected to read whole vectors of a OneHot or Gather")
                part = lookup.codes.ravel()[rows[..., :1]]
                column, table = len(columns), lookup.table
                self.categories[column] = lookup.size if table is None else (lookup.size, lookup.width)
                if table is not None:
                    self.parameters[f"embedding.{column}.weight"] = table
            elif self.categories:
                raise self._error(node, "expected inputs that are numbers before those that are integers")
            columns.append(part)
            at += width
        return np.concatenate(columns, axis=2)

    def _initial(self, node: Any, state: Any, batch_first: bool, shape: tuple[int, ...]) -> Array:
        """The default initial state, the same for all sequences: (D, H)."""
        if state is None or (isinstance(state, Flow) and (state.tags // SPACE <= len(self.inputs)).all()):
            return np.zeros((shape[0], shape[2]))
        if isinstance(state, np.ndarray) and state.ndim == 3:
            state = state.swapaxes(0, 1) if batch_first else state
            if state.shape == shape and (state == state[:, :1]).all():
                return np.asarray(state[:, 0])
        raise self._error(
            node,
            "expected initial states that are an input of the graph, or constant and equal for all sequences",
        )

    # ---- g

    def _with_input(self, node: Any, x: Flow) -> Flow:
        """A flow of outputs of the last layer joined with the inputs of the same steps as the start of g."""
        width, inputs = self.width, self.read.shape[2]
        if not self.layers or self.head or self.skip or x.tags.shape[-1:] != (width + inputs,):
            return x
        try:
            rows = self._rows(node, self._joined(Flow(x.tags[..., :width])))
        except ConfigError:
            return x
        by_row = np.concatenate([self.read, self.read[-1:]]).reshape(-1, inputs)
        if not np.array_equal(x.tags[..., width:], by_row[rows]):
            return x
        self.skip, self.width = True, width + inputs
        return self._next(rows)

    def _affine(self, node: Any, x: Flow, w: Any, b: Any = None) -> Flow:
        attributes = _attributes(node)
        scaled = attributes.get("alpha", 1) != 1 or attributes.get("beta", 1) != 1
        if scaled or attributes.get("transA", 0):
            raise self._error(node, f"expected alpha=1, beta=1 and transA=0, got {attributes}")
        rows = self._rows(node, x)
        weight = w if attributes.get("transB", 0) else np.transpose(w)
        if weight.ndim != 2 or weight.shape[1] != self.width:
            raise self._error(node, f"expected a matrix for {self.width} numbers, got {weight.shape}")
        self.head.append(Affine(weight))
        self.width = len(weight)
        out = self._next(rows)
        return out if b is None else self._bias(node, out, b)

    def _bias(self, node: Any, x: Flow, b: Array) -> Flow:
        rows, layer = self._rows(node, x), self.head[-1]
        new = layer.bias is None and layer.nonlinearity is None
        if not new or b.size != self.width or b.shape[-1:] not in ((self.width,), ()):
            raise self._error(
                node,
                f"expected one vector ({self.width},) to be added to a product, got {b.shape} or a second",
            )
        layer.bias = b.reshape(self.width)
        return self._next(rows)

    def _activation(self, node: Any, x: Flow) -> Flow:
        rows = self._rows(node, x)
        if node.op_type == "Relu" and self.head and self.head[-1].nonlinearity == "tanh":
            self.head[-1].nonlinearity = "retanh"
            return self._next(rows)
        self._begin_affine()
        self.head[-1].nonlinearity = next(k for k, op in ACTIVATIONS.items() if op == node.op_type)
        return self._next(rows)

    def _begin_affine(self) -> None:
        """Add the identity to g, unless its last layer still has no nonlinearity."""
        if not self.head or self.head[-1].nonlinearity:
            self._spend(self.width**2)
            self.head.append(Affine(np.eye(self.width)))

    def _next(self, rows: Array) -> Flow:
        """The outputs of a new layer of g, in the rows of its inputs."""
        tags = self._flow((self.T + 1) * self.N, self.width).tags
        self.source = self.sources
        return Flow(tags[rows])

    def _joined(self, x: Flow) -> Flow:
        """A final bidirectional layer with its axis of directions merged into the last axis."""
        for axis in np.flatnonzero(np.array(x.tags.shape[:-1]) == 2):
            tags = np.moveaxis(x.tags, axis, -2)
            tags = tags.reshape(*tags.shape[:-2], -1)
            if tags.shape[-1] == self.width and (np.diff(tags) == 1).all():
                return Flow(tags)
        return x

    def _rows(self, where: Any, x: Flow) -> Array:
        """Indices of the rows that x consists of, or of the final states that these equal."""
        tags, steps = x.tags - self.source * SPACE, np.arange(self.T + 1)
        for counted, some in ((tags, steps), (self._as_last(tags), steps[-1:])):
            rows, place = np.divmod(counted, self.width)
            whole = counted.shape[-1:] == (self.width,) and (place == np.arange(self.width)).all()
            if whole and (rows == rows[..., :1]).all() and np.isin(rows // self.N, some).all():
                return np.asarray(rows[..., 0])
        raise self._error(where, f"expected whole rows ({self.width},) of the outputs of the previous layer")

    def _as_last(self, tags: Array) -> Array:
        """Tags in which outputs of a direction's last step are replaced by those of its equal final state."""
        layer = self.layers[0]
        if layer["lengths"] or (layer["bidirectional"] and (self.head or self.skip)):
            return tags
        step, place = np.divmod(tags, self.N * self.width)
        forward = place % self.width < self.width // (1 + layer["bidirectional"])
        last = np.where(forward, self.T - 1, 0)
        return np.where(step == last, self.T * self.N * self.width + place, tags)

    def _readout(self, output: Any, rows: Array) -> str:
        row, layer, one = np.arange((self.T + 1) * self.N).reshape(-1, self.N), self.layers[0], self.T == 1
        of_steps = any(np.array_equal(rows.ravel(), order.ravel()) for order in (row[:-1], row[:-1].T))
        if of_steps and not (one and rows.ndim < len(self.axes)):
            return "every"
        if one or not (layer["bidirectional"] or layer["lengths"]):
            rows = np.where(rows // self.N == self.T - 1, rows + self.N, rows)
        if np.array_equal(rows.ravel(), row[-1]):  # for a single step the axes decide
            return "every" if one and rows.shape == self.axes else "last"
        raise self._error(
            output,
            "expected the outputs of every step, or of the last step of each direction, got "
            "another selection",
        )
