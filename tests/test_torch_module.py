"""PyTorch's face, driven as its users do; skipped where PyTorch is not installed."""

import copy
import io
import itertools
import os
import pickle
import threading
import warnings

import numpy as np
import pytest

import bptt_fast as bf

torch = pytest.importorskip("torch")
from torch.nn.utils import prune  # noqa: E402
from torch.nn.utils.rnn import PackedSequence, pack_sequence  # noqa: E402

import bptt_fast.torch as fast  # noqa: E402

torch.set_num_threads(1)
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning")

KINDS = {
    "rnn": ("RNN", {}),
    "rnn-relu": ("RNN", dict(nonlinearity="relu")),
    "gru": ("GRU", {}),
    "lstm": ("LSTM", {}),
    "lstm-projection": ("LSTM", dict(proj_size=3)),
}
TOLERANCE = {torch.float64: dict(rtol=1e-9, atol=1e-11), torch.float32: dict(rtol=1e-4, atol=1e-5)}
INPUTS, STATES = 3, 5


def pair(kind, layers=1, dtype=torch.float64, **words):
    """PyTorch's module and ours with its parameters."""
    name, more = KINDS[kind]
    torch.manual_seed(0)
    theirs = getattr(torch.nn, name)(INPUTS, STATES, layers, dtype=dtype, **more | words)
    ours = getattr(fast, name)(INPUTS, STATES, layers, dtype=dtype, **more | words)
    ours.load_state_dict(theirs.state_dict())
    return theirs, ours


def states_for(module, *batch):
    """Random initial states, h and for an LSTM c."""
    count = module.num_layers * (1 + module.bidirectional)
    h = module.proj_size or module.hidden_size
    widths = (h, module.hidden_size) if module.mode == "LSTM" else (h,)
    dtype = module.weight_ih_l0.dtype
    return [torch.randn(count, *batch, width, dtype=dtype) for width in widths]


def results(module, x, states=None):
    """Outputs, final states, and the gradients of x, of the states and of the parameters."""
    module.zero_grad()
    packed = isinstance(x, PackedSequence)
    data = (x.data if packed else x).detach().clone().requires_grad_()
    given = [h.clone().requires_grad_() for h in states or ()]
    hx = None if states is None else tuple(given) if len(given) > 1 else given[0]
    y, ends = module(x._replace(data=data) if packed else data, hx)
    ends = ends if isinstance(ends, tuple) else (ends,)
    y = y.data if packed else y
    slope = torch.linspace(-1, 1, y.numel(), dtype=y.dtype).view(y.shape)
    (y.square().mul(slope).sum() + sum(h.pow(3).sum() for h in ends)).backward()
    grads = [data.grad, *(h.grad for h in given), *(p.grad for p in module.parameters())]
    return [y.detach(), *(h.detach() for h in ends), *grads]


def same(theirs, ours, *call):
    tolerance = TOLERANCE[theirs.weight_ih_l0.dtype]
    for expected, got in zip(results(theirs, *call), results(ours, *call), strict=True):
        torch.testing.assert_close(got, expected, **tolerance)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", TOLERANCE)
def test_results_and_gradients_are_pytorchs(kind, dtype):
    flags = itertools.product((1, 3), (False, True), (False, True), (False, True), (False, True))
    for layers, bidirectional, bias, batch_first, given in flags:
        words = dict(bidirectional=bidirectional, bias=bias, batch_first=batch_first)
        theirs, ours = pair(kind, layers, dtype, **words)
        x = torch.randn(4, 6, INPUTS, dtype=dtype)
        same(theirs, ours, x, states_for(theirs, 4 if batch_first else 6) if given else None)


@pytest.mark.parametrize("kind", KINDS)
def test_packed_sequences(kind):
    for enforce_sorted, bidirectional, given in itertools.product((False, True), repeat=3):
        theirs, ours = pair(kind, 2, bidirectional=bidirectional)
        lengths = (6, 6, 3, 1) if enforce_sorted else (3, 6, 1, 6)
        x = pack_sequence([torch.randn(n, INPUTS, dtype=torch.float64) for n in lengths], enforce_sorted)
        same(theirs, ours, x, states_for(theirs, 4) if given else None)
        (a, _), (b, _) = theirs(x), ours(x)
        assert type(b) is PackedSequence
        assert all(p is q or torch.equal(p, q) for p, q in zip(a[1:], b[1:], strict=True))


@pytest.mark.parametrize("kind", KINDS)
def test_a_sequence_without_a_batch(kind):
    for batch_first, given in itertools.product((False, True), repeat=2):
        theirs, ours = pair(kind, 2, bidirectional=True, batch_first=batch_first)
        x = torch.randn(7, INPUTS, dtype=torch.float64)
        same(theirs, ours, x, states_for(theirs) if given else None)


@pytest.mark.parametrize("kind", KINDS)
def test_any_layout(kind):
    theirs, ours = pair(kind, 2)
    x = torch.randn(6, 4, 2 * INPUTS, dtype=torch.float64)
    for view in (x[..., ::2], x[:, :, :INPUTS].transpose(0, 1), x[..., :INPUTS].contiguous().transpose(0, 1)):
        same(theirs, ours, view)
    swapped = states_for(theirs, STATES)
    swapped = [h.new_empty(h.shape[0], h.shape[2], h.shape[1]).transpose(1, 2).copy_(h) for h in swapped]
    same(theirs, ours, torch.randn(6, STATES, INPUTS, dtype=torch.float64), swapped)


def gradcheck_call(ours, sizes):
    """A module as a function of x, of its states and of its parameters; sizes: x is packed."""
    names, kinds = [name for name, _ in ours.named_parameters()], len(states_for(ours, 2))

    def call(x, *tensors):
        hx = tensors[:kinds] if kinds > 1 else tensors[0]
        weights = dict(zip(names, tensors[kinds:], strict=True))
        data = x if sizes is None else PackedSequence(x, sizes)
        y, ends = torch.func.functional_call(ours, weights, (data, hx))
        return y if sizes is None else y.data, *(ends if isinstance(ends, tuple) else (ends,))

    return call


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("packed", (False, True))
def test_gradcheck_of_both_orders(kind, packed):
    name, more = KINDS[kind]
    torch.manual_seed(0)
    hidden = 2 if "proj_size" not in more else 4
    ours = getattr(fast, name)(1, hidden, bidirectional=packed, dtype=torch.float64, **more)
    x = torch.randn(*((3,) if packed else (2, 2)), 1, dtype=torch.float64, requires_grad=True)
    states = [h.requires_grad_() for h in states_for(ours, 2)]
    inputs = (x, *states, *(p.detach().clone().requires_grad_() for p in ours.parameters()))
    call = gradcheck_call(ours, torch.tensor([2, 1]) if packed else None)
    assert torch.autograd.gradcheck(call, inputs)
    assert torch.autograd.gradgradcheck(call, inputs)


@pytest.mark.parametrize("kind", KINDS)
def test_only_what_is_wanted(kind):
    """Frozen parameters, outputs that nobody uses, inputs without a gradient."""
    theirs, ours = pair(kind, 2)
    x, states = torch.randn(4, 2, INPUTS, dtype=torch.float64), states_for(theirs, 2)
    hx = tuple(states) if len(states) > 1 else states[0]
    grads = []
    for module in (theirs, ours):
        module.weight_hh_l0.requires_grad_(False)
        ends = module(x, hx)[1]
        (ends[-1] if isinstance(ends, tuple) else ends).sum().backward()
        assert module.weight_hh_l0.grad is None
        grads.append([p.grad for p in module.parameters() if p.requires_grad])
    for a, b in zip(*grads, strict=True):
        torch.testing.assert_close(b, a, rtol=1e-9, atol=1e-11)
    for p in ours.parameters():
        p.requires_grad_(False)
    assert not ours(x, hx)[0].requires_grad
    data = x.clone().requires_grad_()
    ours(data, hx)[0].sum().backward()
    assert data.grad.abs().max() > 0


def forward_mode(module, x):
    with torch.autograd.forward_ad.dual_level():
        y = module(torch.autograd.forward_ad.make_dual(x, x.cos()))[0]
        return torch.autograd.forward_ad.unpack_dual(y).tangent


def many_at_once(module, x):
    x = x.clone().requires_grad_()
    y = module(x)[0].sum((0, 1))
    return torch.autograd.grad(y, x, torch.eye(len(y), dtype=y.dtype), is_grads_batched=True)[0]


def second_order(module, x):
    """Of two calls, the second from the states of the first, with the same parameters."""
    y, _ = module(x.flip(0), module(x)[1])
    parameters = tuple(module.parameters())
    grads = torch.autograd.grad(y.pow(3).sum(), parameters, create_graph=True)
    return *grads, *torch.autograd.grad(sum(g.square().sum() for g in grads), parameters)


TRANSFORMS = {
    "grad": lambda m, x: torch.func.grad(lambda w: torch.func.functional_call(m, w, (x,))[0].square().sum())(
        {name: p.detach() for name, p in m.named_parameters()}
    ),
    "jvp": lambda m, x: torch.func.jvp(lambda a: m(a)[0], (x,), (x.cos(),))[1],
    "jacrev": lambda m, x: torch.func.jacrev(lambda a: m(a)[0].sum(0))(x),
    "hessian": lambda m, x: torch.autograd.functional.hessian(lambda a: m(a)[0].pow(2).sum(), x),
    "dual numbers": forward_mode,
    "many at once": many_at_once,
    "second order": second_order,
    "conjugate": lambda m, x: m(torch.conj(torch.complex(x, x)).imag)[0],
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", TRANSFORMS)
def test_transforms_of_pytorch(kind, name):
    theirs, ours = pair(kind)
    x = torch.randn(4, 2, INPUTS, dtype=torch.float64)
    torch.testing.assert_close(TRANSFORMS[name](ours, x), TRANSFORMS[name](theirs, x))


def test_tensors_without_numbers():
    from torch._subclasses.fake_tensor import FakeTensorMode

    _, ours = pair("gru")
    with FakeTensorMode(allow_non_fake_inputs=True):
        assert ours(torch.randn(5, 2, INPUTS, dtype=torch.float64))[0].shape == (5, 2, STATES)
    meta = fast.GRU(INPUTS, STATES, device="meta")
    assert meta(torch.randn(5, 2, INPUTS, device="meta"))[0].shape == (5, 2, STATES)


def test_the_same_graph_twice_and_several_graphs_at_once():
    theirs, ours = pair("gru", 2)
    x = torch.randn(5, 3, INPUTS, dtype=torch.float64)
    grads = []
    for module in (theirs, ours):
        losses = [module(x * factor)[0].square().sum() for factor in (1, 2, 3)]
        losses[1].backward(retain_graph=True)
        losses[1].backward()
        losses[0].backward()
        losses[2].backward()
        grads.append([p.grad for p in module.parameters()])
    for a, b in zip(*grads, strict=True):
        torch.testing.assert_close(b, a, rtol=1e-9, atol=1e-11)


def test_weights_changed_before_the_way_back_are_an_error_as_in_pytorch():
    for module in pair("lstm"):
        y, _ = module(torch.randn(4, 2, INPUTS, dtype=torch.float64))
        with torch.no_grad():
            module.weight_hh_l0.add_(1)
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            y.sum().backward()


def test_dropout():
    _, ours = pair("gru", 2, dropout=0.5)
    x = torch.randn(6, 200, INPUTS, dtype=torch.float64)
    torch.manual_seed(1)
    first = ours(x)[0]
    second = ours(x)[0]
    torch.manual_seed(1)
    assert torch.equal(first, ours(x)[0]) and not torch.equal(first, second)
    with torch.no_grad():
        torch.manual_seed(1)
        assert torch.equal(first, ours(x)[0])
    with pytest.raises(RuntimeError, match=r"dropout=0\.5.*eval"):
        torch.autograd.grad(first.sum(), ours.weight_ih_l0, create_graph=True)
    ours.eval()
    theirs = pair("gru", 2)[0]
    torch.testing.assert_close(ours(x)[0], theirs(x)[0], rtol=1e-9, atol=1e-11)


def test_dropout_is_of_pytorchs_strength():
    """A linear map: the mean of what passes is what would pass without, its deviation that of the masks."""
    module = fast.RNN(8, 8, 2, nonlinearity="relu", dropout=0.25, bias=False)
    with torch.no_grad():
        for name, p in module.named_parameters():
            p.copy_(torch.zeros(8, 8) if "hh" in name else torch.eye(8))
    y = module(torch.ones(50, 200, 8))[0]
    kept = (y > 0).double().mean().item()
    assert abs(kept - 0.75) < 0.01 and torch.allclose(y[y > 0], torch.tensor(1 / 0.75))


def test_training_is_pytorchs():
    theirs, ours = pair("lstm", 2)
    x, target = torch.randn(7, 4, INPUTS, dtype=torch.float64), torch.randn(7, 4, STATES, dtype=torch.float64)
    for module in (theirs, ours):
        optimizer = torch.optim.Adam(module.parameters(), 1e-2)
        for _ in range(20):
            optimizer.zero_grad()
            torch.nn.functional.mse_loss(module(x)[0], target).backward()
            torch.nn.utils.clip_grad_norm_(module.parameters(), 0.1)
            optimizer.step()
    for a, b in zip(theirs.parameters(), ours.parameters(), strict=True):
        torch.testing.assert_close(b, a, rtol=1e-8, atol=1e-10)


class Outputs(torch.nn.Module):
    def __init__(self, recurrent):
        super().__init__()
        self.recurrent = recurrent

    def forward(self, x: torch.Tensor):
        return self.recurrent(x)[0]


def test_it_is_pytorchs_module_in_every_other_way():
    theirs, ours = pair("lstm", 2, bidirectional=True)
    x = torch.randn(4, 2, INPUTS, dtype=torch.float64)
    assert isinstance(ours, torch.nn.LSTM) and repr(ours) == repr(theirs)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    expected = ours(x)[0]
    for twin in (copy.deepcopy(ours), pickle.loads(pickle.dumps(ours))):
        assert torch.equal(twin(x)[0], expected)
    assert len(pickle.dumps(ours)) < 2 * sum(8 * p.numel() for p in ours.parameters()) + 5000
    for other in (torch.jit.trace(ours, x), torch.compile(ours, backend="eager")):
        torch.testing.assert_close(other(x)[0], expected)
    torch.testing.assert_close(torch.jit.script(Outputs(ours))(x), expected)
    half = copy.deepcopy(ours).float()
    torch.testing.assert_close(half(x.float())[0].double(), expected, rtol=1e-4, atol=1e-5)
    assert half.to(torch.bfloat16)(x.bfloat16())[0].dtype == torch.bfloat16
    with torch.autocast("cpu", torch.bfloat16):
        assert copy.deepcopy(ours).float()(x.float())[0].dtype == torch.bfloat16


# ---- tools of PyTorch that look into a module


def stored(model):
    """By way of torch.save."""
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


class Halved(torch.nn.Module):
    def forward(self, w):
        return w / 2


def parametrized(module):
    torch.nn.utils.parametrize.register_parametrization(module, "weight_hh_l0", Halved())
    return copy.deepcopy(module)


def pruned(module):
    prune.l1_unstructured(module, "weight_hh_l0", 0.5)
    return module


def normed(module):
    torch.nn.utils.parametrizations.weight_norm(module, "weight_ih_l0")
    with torch.no_grad():
        module.parametrizations.weight_ih_l0.original0.mul_(2)
    return module


def averaged(module):
    return torch.optim.swa_utils.AveragedModel(module).module


def emptied(module):
    weights = module.state_dict()
    module = copy.deepcopy(module).to("meta").to_empty(device="cpu")
    module.load_state_dict(weights)
    return module


def safely_loaded(module):
    file = io.BytesIO()
    torch.save(module.state_dict(), file)
    file.seek(0)
    twin = copy.deepcopy(module)
    twin.load_state_dict(torch.load(file, weights_only=True), strict=True)
    return twin


def shared(module):
    assert module.share_memory().weight_hh_l0.is_shared()
    return module


TOOLS = (parametrized, pruned, normed, averaged, emptied, safely_loaded, shared, stored, fast.plain)


@pytest.mark.parametrize("tool", TOOLS, ids=lambda tool: tool.__name__)
@pytest.mark.parametrize("kind", KINDS)
def test_tools_that_change_a_module(kind, tool):
    """The weights as the tool made them, in PyTorch's functions; gradients reach the parameters."""
    _, ours = pair(kind)
    x = torch.randn(4, 2, INPUTS, dtype=torch.float64)
    ours(x)  # a plan is kept
    made = tool(ours)
    theirs, _ = pair(kind)
    with torch.no_grad():
        for name, parameter in theirs.named_parameters():
            parameter.copy_(getattr(made, name))
    torch.testing.assert_close(made(x)[0], theirs(x)[0])
    made(x)[0].sum().backward()
    assert all(p.grad is not None for p in made.parameters())


def test_plain():
    _, ours = pair("lstm")
    model = torch.nn.ModuleDict({"a": ours, "b": torch.nn.Sequential(ours, torch.nn.Linear(2, 2))})
    twin = fast.plain(model)
    assert type(twin["a"]) is type(twin["b"][0]) is torch.nn.LSTM and type(model["a"]) is fast.LSTM
    assert twin["a"].weight_hh_l0 is ours.weight_hh_l0 and type(fast.plain(ours)) is torch.nn.LSTM
    assert list(twin.state_dict()) == list(model.state_dict())
    parametrized(ours)
    for wrong, text in ((model, "without parametrizations"), (3, "expected a torch.nn.Module, got a int")):
        with pytest.raises(bf.ConfigError, match=text):
            fast.plain(wrong)


@pytest.mark.parametrize("kind", ("gru", "lstm", "rnn"))
def test_dynamic_quantization(kind):
    """It goes by exact types: a warning for ours, and `plain` is the way."""
    theirs, ours = pair(kind, dtype=torch.float32)
    quantize, x = torch.ao.quantization.quantize_dynamic, torch.randn(4, 2, INPUTS)
    model = torch.nn.ModuleDict({"rnn": ours})
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        quantize(model)
        assert ["plain(model)" in str(w.message) for w in found].count(True) == (kind != "rnn")
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        made = quantize(fast.plain(model))["rnn"]
        assert not any("plain(model)" in str(w.message) for w in found)
    expected = quantize(torch.nn.ModuleDict({"rnn": theirs}))["rnn"]
    assert type(made) is type(expected) and torch.equal(made(x)[0], expected(x)[0])


@pytest.mark.parametrize("readout", ("last", "every"))
def test_a_quantized_network(readout):
    net = bf.Network(INPUTS, STATES, 2, cell="gru", readout=readout, seed=3)
    net.scaling = bf.Scaling([1e8] * INPUTS, [1.0] * INPUTS, [1e8, 0], [1.0, 1.0])
    model = torch.ao.quantization.quantize_dynamic(fast.plain(net.to_torch()))
    x = 1e8 + np.random.default_rng(0).normal(size=(4, 6, INPUTS))
    np.testing.assert_allclose(model(torch.tensor(x)).detach(), net.predict(x), rtol=0, atol=0.05)


@pytest.mark.parametrize("kind", KINDS)
def test_errors_are_pytorchs(kind):
    theirs, ours = pair(kind)
    x = torch.randn(4, 2, INPUTS, dtype=torch.float64)
    short = tuple(h[:, :1] for h in states_for(theirs, 2))
    bad = [
        (x[..., :2],),
        (x.float(),),
        (x[None],),
        (x[0, 0],),
        (x, short if len(short) > 1 else short[0]),
        (x[:, 0], states_for(theirs, 1)[0]),
        (x[:0],),
        (x.numpy(),),
    ]
    for call in bad:
        with pytest.raises(Exception) as expected:
            theirs(*call)
        with pytest.raises(expected.type) as got:
            ours(*call)
        assert str(got.value) == str(expected.value)
    same(theirs, ours, x)


@pytest.mark.parametrize("kind", KINDS)
def test_weights_of_a_wrong_shape_are_pytorchs_error(kind):
    """The core reads and writes as many numbers as the sizes of the module say."""
    x = torch.zeros(4, 2, INPUTS, dtype=torch.float64)
    for name in dict(pair(kind, 2, bidirectional=True)[0].named_parameters()):
        modules = pair(kind, 2, bidirectional=True)
        for module in modules:
            weight = getattr(module, name).detach()
            setattr(module, name, torch.nn.Parameter(weight[:-1]))
        for module in modules:
            with pytest.raises(RuntimeError):
                module(x)


def test_shapes_may_change_from_call_to_call():
    theirs, ours = pair("gru", 2)
    for steps, batch in ((4, 7), (9, 1), (1, 1), (3, 7), (20, 2), (4, 7), (5, 16)):
        same(theirs, ours, torch.randn(steps, batch, INPUTS, dtype=torch.float64))
    assert len(ours._plans) <= fast.PLANS


def test_threads_of_the_caller_and_threads_of_the_core():
    _, ours = pair("lstm", 2)
    x = torch.randn(8, 32, INPUTS, dtype=torch.float64)
    expected = [g.clone() for g in results(ours, x)]
    failures = []

    def work():
        twin = copy.deepcopy(ours)
        for _ in range(10):
            with torch.no_grad():  # the module itself is shared for reading
                if not torch.equal(ours(x)[0], expected[0]):
                    failures.append("outputs")
            if not all(map(torch.equal, results(twin, x), expected)):
                failures.append("gradients")

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    torch.set_num_threads(2)
    try:
        assert all(map(torch.equal, results(ours, x), expected))
    finally:
        torch.set_num_threads(1)


# ---- cells of one step

CELLS = {
    "rnn": ("RNNCell", {}),
    "rnn-relu": ("RNNCell", dict(nonlinearity="relu")),
    "gru": ("GRUCell", {}),
    "lstm": ("LSTMCell", {}),
}


class Loop(torch.nn.Module):
    """A cell over all steps, called like a layer."""

    def __init__(self, cell):
        super().__init__()
        self.cell = cell

    def forward(self, x, hx=None):
        y = []
        for row in x:
            hx = self.cell(row, hx)
            y.append(hx[0] if isinstance(hx, tuple) else hx)
        return torch.stack(y), hx


def loops(kind, dtype=torch.float64, **words):
    """Loops over PyTorch's cell and over ours with its parameters."""
    name, more = CELLS[kind]
    torch.manual_seed(0)
    theirs, ours = (
        getattr(place, name)(INPUTS, STATES, dtype=dtype, **more | words) for place in (torch.nn, fast)
    )
    ours.load_state_dict(theirs.state_dict())
    theirs.load_state_dict(ours.state_dict())
    return Loop(theirs), Loop(ours)


def cell_states(kind, *batch, dtype=torch.float64):
    return [torch.randn(*batch, STATES, dtype=dtype) for _ in range(1 + (kind == "lstm"))]


@pytest.mark.parametrize("kind", CELLS)
@pytest.mark.parametrize("dtype", TOLERANCE)
def test_cells_are_pytorchs(kind, dtype):
    for bias, batch, given in itertools.product((False, True), ((), (4,)), (False, True)):
        theirs, ours = loops(kind, dtype, bias=bias)
        x = torch.randn(6, *batch, 2 * INPUTS, dtype=dtype)[..., ::2]
        call = x, cell_states(kind, *batch, dtype=dtype) if given else None
        for expected, got in zip(results(theirs, *call), results(ours, *call), strict=True):
            torch.testing.assert_close(got, expected, **TOLERANCE[dtype])
        assert len(ours.cell._plans)  # the core computed
        with torch.no_grad():
            torch.testing.assert_close(ours(x)[0], theirs(x)[0], **TOLERANCE[dtype])


@pytest.mark.parametrize("kind", CELLS)
def test_cells_keep_no_tapes(kind):
    _, ours = loops(kind)
    y, _ = ours(torch.randn(50, 2, INPUTS, dtype=torch.float64))
    assert len(ours.cell._plans) == 1
    y.sum().backward()
    assert len(ours.cell._plans) == 1


@pytest.mark.parametrize("kind", CELLS)
def test_cells_pass_gradcheck_of_both_orders(kind):
    """Two steps of one cell, then one of another with the same weights."""
    name, more = CELLS[kind]
    torch.manual_seed(0)
    first, second = (Loop(getattr(fast, name)(1, 2, dtype=torch.float64, **more)) for _ in range(2))
    names = [name for name, _ in first.named_parameters()]

    def call(x, y, *tensors):
        weights, hx = dict(zip(names, tensors, strict=False)), tensors[len(names) :]
        _, hx = torch.func.functional_call(first, weights, (x, hx if kind == "lstm" else hx[0]))
        _, ends = torch.func.functional_call(second, weights, (y, hx))
        return ends

    tensors = [*first.parameters(), *(torch.randn(2, 2) for _ in range(1 + (kind == "lstm")))]
    inputs = (torch.randn(2, 2, 1), torch.randn(1, 2, 1), *tensors)
    inputs = [tensor.detach().double().requires_grad_() for tensor in inputs]
    assert torch.autograd.gradcheck(call, inputs)
    assert torch.autograd.gradgradcheck(call, inputs)


@pytest.mark.parametrize("kind", CELLS)
@pytest.mark.parametrize("name", TRANSFORMS)
def test_transforms_of_cells(kind, name):
    theirs, ours = loops(kind)
    x = torch.randn(3, 2, INPUTS, dtype=torch.float64)
    torch.testing.assert_close(TRANSFORMS[name](ours, x), TRANSFORMS[name](theirs, x))


@pytest.mark.parametrize("kind", CELLS)
def test_cells_are_pytorchs_modules_in_every_other_way(kind):
    theirs, ours = loops(kind)
    x = torch.randn(3, 2, INPUTS, dtype=torch.float64)
    expected = ours(x)[0]
    assert repr(ours) == repr(theirs) and list(ours.state_dict()) == list(theirs.state_dict())
    for tool in (copy.deepcopy, stored, averaged, emptied, safely_loaded):
        assert torch.equal(tool(ours)(x)[0], expected), tool
    plain = fast.plain(ours)
    assert type(plain.cell) is type(theirs.cell) and plain.cell.weight_hh is ours.cell.weight_hh
    torch.testing.assert_close(plain(x)[0], expected)
    for other in (torch.jit.trace(ours.cell, x[0]), torch.jit.script(ours.cell),
                  torch.compile(ours.cell, backend="eager")):  # fmt: skip
        torch.testing.assert_close(other(x[0]), theirs.cell(x[0]))
    half = copy.deepcopy(ours).to(torch.bfloat16)
    assert half(x.bfloat16())[0].dtype == torch.bfloat16
    with torch.autocast("cpu", torch.bfloat16):
        assert (
            copy.deepcopy(ours).float()(x.float())[0].dtype
            == loops(kind, torch.float32)[0](x.float())[0].dtype
        )
    with torch.no_grad():
        ours.cell.weight_hh.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        expected.sum().backward()


@pytest.mark.parametrize("name", ("RNN", "GRU", "LSTM"))
def test_states_in_a_tuple_are_pytorchs(name):
    theirs, ours = (getattr(where, name)(INPUTS, 4) for where in (torch.nn, fast))
    x, h = torch.randn(3, 2, INPUTS), torch.zeros(1, 2, 4)
    for hx in ((h,), (), [h], (h, h), (h, h, h)):
        if name == "LSTM" and len(hx) == 2:
            assert len(ours(x, hx)[1]) == 2
            continue
        with pytest.raises(Exception) as expected:
            theirs(x, hx)
        with pytest.raises(expected.type):
            ours(x, hx)


@pytest.mark.parametrize("kind", CELLS)
def test_errors_of_cells_are_pytorchs(kind):
    theirs, ours = (loop.cell for loop in loops(kind))
    x, states = torch.randn(4, INPUTS, dtype=torch.float64), cell_states(kind, 4)
    wrong = [(x[..., :2],), (x.float(),), (x[None],), (x.numpy(),), (x, ()), (x, (states[0],)),
             (x, tuple(h[:1] for h in states) if kind == "lstm" else states[0][:1])]  # fmt: skip
    for call in wrong:
        with pytest.raises(Exception) as expected:
            theirs(*call)
        with pytest.raises(expected.type) as got:
            ours(*call)
        assert str(got.value) == str(expected.value)
    assert ours(x[:0]).shape == (0, STATES) if kind != "lstm" else ours(x[:0])[0].shape == (0, STATES)


def test_other_cells_are_pytorchs():
    x = torch.ones(2, INPUTS)
    with pytest.raises(RuntimeError, match="Unknown nonlinearity: sigmoid"):
        fast.RNNCell(INPUTS, STATES, nonlinearity="sigmoid")(x)
    for place in (torch.nn, fast):
        assert place.GRUCell(INPUTS, 0)(x).shape == (2, 0)
    broken = fast.GRUCell(INPUTS, STATES)
    broken.weight_hh = torch.nn.Parameter(broken.weight_hh.detach()[:-1])
    with pytest.raises(RuntimeError):
        broken(x)


@pytest.mark.parametrize("kind", CELLS)
def test_dynamic_quantization_of_cells(kind):
    theirs, ours = loops(kind, torch.float32)
    quantize, x = torch.ao.quantization.quantize_dynamic, torch.randn(2, INPUTS)
    cells = {getattr(torch.nn, name) for name, _ in CELLS.values()}
    with pytest.warns(UserWarning, match=r"Quantize bptt_fast\.torch\.plain"):
        quantize(ours, cells)
    made, expected = quantize(fast.plain(ours), cells).cell, quantize(theirs, cells).cell
    assert type(made) is type(expected)
    torch.testing.assert_close(made(x), expected(x))


# ---- a whole model


class Encoder(torch.nn.Module):
    """Recurrent modules at several depths, one of them in two places."""

    def __init__(self, dtype=torch.float64):
        super().__init__()
        like = dict(dtype=dtype, batch_first=True)
        self.first = torch.nn.GRU(INPUTS, STATES, 2, bidirectional=True, dropout=0.5, **like)
        self.shared = torch.nn.LSTM(STATES, STATES, proj_size=3, **like)
        self.parts = torch.nn.ModuleList(
            [torch.nn.Linear(2 * STATES, STATES, dtype=dtype), torch.nn.ModuleDict({"again": self.shared})]
        )
        self.last = torch.nn.RNN(3, 2, nonlinearity="relu", bias=False, **like)
        self.cell = torch.nn.GRUCell(2, 2, dtype=dtype)

    def forward(self, x):
        x = self.parts[0](self.first(x)[0])
        a, (h, c) = self.shared(x)
        b, _ = self.parts[1]["again"](x.flip(1), (h, c))
        y, _ = self.last(a + b)
        return self.cell(y[:, -1])


def twins():
    torch.manual_seed(0)
    theirs = Encoder().eval()
    theirs.first.weight_hh_l1.requires_grad_(False)
    return theirs, copy.deepcopy(theirs)


def gradients(model, x):
    x = x.clone().requires_grad_()
    model.zero_grad()
    y = model(x)
    y.square().sum().backward()
    return [y.detach(), x.grad, *(p.grad for p in model.parameters() if p.grad is not None)]


def test_a_whole_model_is_accelerated_in_place():
    theirs, ours = twins()
    seen, before = [], dict(ours.named_parameters())
    ours.shared.register_forward_hook(lambda module, inputs, outputs: seen.append(type(module)))
    optimizers = [torch.optim.SGD(model.parameters(), 0.1) for model in (theirs, ours)]  # made before
    report = bf.torch.accelerate(ours)
    assert report.swapped == {"first": "GRU", "shared": "LSTM", "last": "RNN"} and list(report.kept) == [
        "cell"
    ]
    assert "swapped  shared: LSTM\n" in repr(report) and "kept     cell: a cell of one step" in repr(report)
    assert type(ours.first) is fast.GRU and type(ours.shared) is fast.LSTM and type(ours.last) is fast.RNN
    assert ours.parts[1]["again"] is ours.shared and not ours.shared.training
    assert repr(ours) == repr(theirs) and list(ours.state_dict()) == list(theirs.state_dict())
    after = dict(ours.named_parameters())
    assert after.keys() == before.keys() and all(after[name] is before[name] for name in before)
    assert not after["first.weight_hh_l1"].requires_grad
    x = torch.randn(4, 6, INPUTS, dtype=torch.float64)
    for _ in range(3):
        for a, b in zip(gradients(theirs, x), gradients(ours, x), strict=True):
            torch.testing.assert_close(b, a, rtol=1e-9, atol=1e-11)
        for optimizer in optimizers:
            optimizer.step()
    assert seen == [fast.LSTM] * 6 and len(ours.shared._plans) > 0  # the core computed
    there_and_back = fast.plain(ours)
    assert type(there_and_back.shared) is torch.nn.LSTM
    assert bf.torch.accelerate(there_and_back) == report
    again = bf.torch.accelerate(ours)
    assert not again.swapped and {"first", "shared", "last"} < again.kept.keys()
    assert "already" in again.kept["first"]


def test_a_module_itself_is_accelerated():
    theirs, _ = pair("lstm", 2, batch_first=True)
    module = copy.deepcopy(theirs)
    report = bf.torch.accelerate(module)
    assert report.swapped == {"": "LSTM"} and repr(report) == "swapped  (the module): LSTM"
    same(theirs, module, torch.randn(4, 6, INPUTS, dtype=torch.float64))
    assert repr(bf.torch.accelerate(torch.nn.Linear(2, 2))) == "no recurrent module"
    with pytest.raises(bf.ConfigError, match=r"accelerate: expected a torch\.nn\.Module, got a list"):
        bf.torch.accelerate([theirs])


class Derived(torch.nn.LSTM):
    pass


def replaced(module):
    module.forward = lambda x: x
    return module


def quantized(module):
    return torch.ao.quantization.quantize_dynamic(torch.nn.Sequential(module))[0]


KEPT = {
    "subclass": (lambda: Derived(2, 2), "Derived, which may compute something else"),
    "parametrized": (lambda: parametrized(torch.nn.GRU(2, 2)), "parametrized; accelerate the model before"),
    "half": (lambda: torch.nn.GRU(2, 2).half(), "torch.float16"),
    "device": (lambda: torch.nn.GRU(2, 2, device="meta"), "device meta"),
    "layers": (lambda: torch.nn.GRU(2, 2, 17), "17 layers"),
    "dropout": (lambda: torch.nn.GRU(2, 2, 2, dropout=1.0), "dropout is 1"),
    "scripted": (lambda: torch.jit.script(torch.nn.GRU(2, 2)), "torch.jit"),
    "quantized": (lambda: quantized(torch.nn.LSTM(2, 2)), "quantized"),
    "compiled": (lambda: torch.compile(torch.nn.GRU(2, 2), backend="eager"), "torch.compile"),
    "forward": (lambda: replaced(torch.nn.GRU(2, 2)), "forward has been replaced"),
    "ours": (lambda: fast.MinGRU(2, 2), "already"),
}


@pytest.mark.parametrize("name", KEPT)
def test_what_accelerate_leaves_is_named(name):
    make, text = KEPT[name]
    part = make()
    kind = type(part)
    report = bf.torch.accelerate(torch.nn.ModuleDict({"other": torch.nn.GRU(2, 2), "part": part}))
    assert report.swapped == {"other": "GRU"} and type(part) is kind
    ((found, reason),) = report.kept.items()
    assert found.startswith("part") and text in reason


def test_accelerate_leaves_the_parts_of_a_compiled_module():
    """Those outside of it are swapped, also one whose name begins alike."""
    inner = torch.nn.Sequential(torch.nn.GRU(2, 2))
    inner.compile(backend="eager")
    report = bf.torch.accelerate(torch.nn.ModuleDict({"inner": inner, "inner2": torch.nn.GRU(2, 2)}))
    assert report.swapped == {"inner2": "GRU"} and list(report.kept) == ["inner.0"]


# ---- networks to PyTorch and back

NETWORKS = {
    "elman": dict(),
    "relu": dict(nonlinearity="relu", head=(4,)),
    "gru": dict(cell="gru", num_layers=2, head=(4, 3), head_nonlinearity="sigmoid", dropout=0.2),
    "lstm": dict(cell="lstm", bidirectional=True, initial_state="trained"),
    "lstm-projection": dict(cell="lstm", proj_size=2, num_layers=2, initial_state="trained", head=(3,)),
    "linear head": dict(head=(4,), head_nonlinearity="linear", dtype="float64"),
    "softplus head": dict(head=(4,), head_nonlinearity="softplus", dtype="float64"),
    "leaky head": dict(head=(4,), head_nonlinearity="leaky_relu", dtype="float64"),
}


@pytest.mark.parametrize("readout", ("last", "every"))
@pytest.mark.parametrize("kind", NETWORKS)
def test_a_network_goes_to_pytorch_and_back(kind, readout):
    net = bf.Network(INPUTS, STATES, 2, readout=readout, seed=3, **NETWORKS[kind])
    for name in net.state_dict():
        if name.startswith("initial"):
            net[name] = np.random.default_rng(0).normal(size=net[name].shape)
    model = net.to_torch().eval()
    x = np.random.default_rng(1).normal(size=(4, 6, INPUTS)).astype(net.dtype)
    y = model(torch.tensor(x)).detach().numpy()
    np.testing.assert_allclose(y, net.predict(x), rtol=1e-4, atol=1e-6)
    ragged = [x[0], x[1, :2], x[2, :5]]
    padded = model(pack_sequence([torch.tensor(r) for r in ragged], enforce_sorted=False)).detach().numpy()
    for row, expected in zip(padded, net.predict(ragged), strict=True):
        np.testing.assert_allclose(row[: len(expected)] if readout == "every" else row, expected, rtol=1e-4,
                                   atol=1e-6)  # fmt: skip
    again = bf.from_torch(model)
    assert np.array_equal(again.params, net.params)
    assert np.array_equal(again.predict(x), net.predict(x))
    with torch.no_grad():
        model.rnn.weight_hh_l0.zero_()
    assert np.abs(again["weight_hh_l0"]).max() > 0 and np.abs(net["weight_hh_l0"]).max() > 0


@pytest.mark.parametrize("outputs", (False, True))
def test_the_scaling_of_a_network_goes_with_it(outputs):
    net = bf.Network(INPUTS, STATES, 2, cell="gru", seed=3)
    means = ([1e6, 0, -5], [10, 1, 2]) + (([50, -3], [7, 0.1]) if outputs else ())
    net.scaling = bf.Scaling(*means)
    model = net.to_torch()
    x = np.random.default_rng(1).normal(size=(4, 6, INPUTS)) * [10, 1, 2] + [1e6, 0, -5]
    expected = net.predict(x)
    np.testing.assert_allclose(model(torch.tensor(x)).detach(), expected, rtol=1e-5, atol=1e-5)
    packed = pack_sequence([torch.tensor(row) for row in x])
    np.testing.assert_allclose(model(packed).detach(), expected, rtol=1e-5, atol=1e-5)
    assert bf.from_torch(model).scaling == net.scaling


def loaded(model):
    """Into a model of another scaling."""
    rnn, head = copy.deepcopy((model.rnn, model.head))
    twin = fast.Model(rnn, head, model.readout, scaling=bf.Scaling([0], [1], [0], [1]))
    twin.load_state_dict(model.state_dict())
    return twin


WAYS = {
    "itself": lambda model, x: model,
    "deepcopy": lambda model, x: copy.deepcopy(model),
    "pickle": lambda model, x: pickle.loads(pickle.dumps(model)),
    "save": lambda model, x: stored(model),
    "state_dict": lambda model, x: loaded(model),
    "float": lambda model, x: model.float(),
    "to": lambda model, x: model.to("cpu", torch.float32),
    "half and back": lambda model, x: model.bfloat16().float(),
    "double": lambda model, x: model.double(),
    "plain": lambda model, x: fast.plain(model),
    "trace": torch.jit.trace,
    "export": lambda model, x: torch.export.export(model, (x,)).module(),
    "compile": lambda model, x: torch.compile(model, backend="eager"),
}


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ("float32", "float64"))
@pytest.mark.parametrize("way", WAYS)
def test_a_scaling_keeps_its_digits(way, dtype):
    """Data at 1e8 with deviation 1, of which float32 knows the multiples of 8."""
    net = bf.Network(1, STATES, 1, cell="gru", readout="every", dtype=dtype, seed=3)
    net.scaling = bf.Scaling([1e8], [1.0], [-1e8], [1.0])
    x = 1e8 + np.random.default_rng(0).normal(size=(1, 400, 1))
    expected = net.predict(x)
    model = WAYS[way](net.to_torch(), torch.tensor(x))
    y = model(torch.tensor(x)).detach()
    assert y.dtype == torch.float64 and len(np.unique(y)) == 400
    np.testing.assert_allclose(y, expected, rtol=0, atol=2e-3 if way == "half and back" else 1e-6)


@pytest.mark.parametrize("dtype", (torch.float16, torch.float32, torch.int64))
def test_a_scaled_model_takes_any_dtype_and_learns(dtype):
    net = bf.Network(INPUTS, STATES, 2, seed=3)
    net.scaling = bf.Scaling([4, 0, -5], [10, 1, 2], [1e8, 0], [1, 1])
    x = torch.arange(4 * 6 * INPUTS).reshape(4, 6, INPUTS).to(dtype)
    model = net.to_torch()
    y = model(x)
    np.testing.assert_allclose(y.detach(), net.predict(x.numpy().astype(float)), rtol=0, atol=1e-5)
    y.square().mean().backward()
    assert all(p.grad.isfinite().all() and p.grad.dtype == p.dtype for p in model.parameters())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("bias", (False, True))
def test_a_module_becomes_a_network(kind, bias):
    theirs, _ = pair(kind, 2, bidirectional=True, bias=bias)
    x = torch.randn(5, 4, INPUTS, dtype=torch.float64)
    y = theirs(x)[0]
    net = bf.from_torch(theirs)
    np.testing.assert_allclose(net.predict(x.transpose(0, 1).numpy()), y.detach().transpose(0, 1), rtol=1e-9)
    width = y.shape[-1]
    head = torch.nn.Sequential(torch.nn.Linear(width, 4), torch.nn.Tanh(), torch.nn.Linear(4, 2, bias=False))
    head = head.double()
    net = bf.from_torch(theirs, head)
    np.testing.assert_allclose(
        net.predict(x.transpose(0, 1).numpy()), head(y).detach().transpose(0, 1), rtol=1e-8, atol=1e-12
    )


@pytest.mark.parametrize(
    ("words", "text"),
    (
        (dict(cell="mlp", f=(4,)), 'cell="mlp"'),
        (dict(cell="mingru", input_noise=0.5), "input_noise=0.5"),
        (dict(cell="gru", reset="before"), 'reset="before"'),
        (dict(cell="lstm", peephole=True), "peephole=True"),
        (dict(recurrent_dropout=0.5), "recurrent_dropout=0.5"),
        (dict(nonlinearity="sigmoid"), '"sigmoid"'),
        (dict(head=(4,), head_nonlinearity="retanh"), '"retanh"'),
    ),
)
def test_networks_that_pytorch_has_no_module_for(words, text):
    with pytest.raises(bf.ConfigError, match=text):
        bf.Network(INPUTS, STATES, 2, **words).to_torch()


@pytest.mark.parametrize(
    ("arguments", "text"),
    (
        ((torch.nn.Linear(2, 2),), "got a Linear"),
        ((torch.nn.GRU(2, 2).half(),), "float16"),
        ((torch.nn.GRU(2, 2), torch.nn.Conv1d(2, 2, 1)), "Conv1d"),
        ((torch.nn.GRU(2, 2), torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Tanh())), "Linear, Tanh"),
        ((torch.nn.GRU(2, 2), torch.nn.Tanh()), "Tanh"),
        (
            (
                torch.nn.GRU(2, 2),
                torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.LeakyReLU(0.2), torch.nn.Linear(2, 2)),
            ),
            r"LeakyReLU\(negative_slope=0.2\)",
        ),
    ),
)
def test_modules_that_are_no_network(arguments, text):
    with pytest.raises(bf.ConfigError, match=text):
        bf.from_torch(*arguments)


def test_the_instruction_set_can_be_forced(python):
    code = (
        "import torch, bptt_fast.torch as fast; m = fast.GRU(2, 3); m(torch.ones(1, 2))[0].sum().backward(); "
        "print({pooled.plan.isa for pooled in m._plans._plans})"
    )
    found = python("-c", code, env={"BPTT_FAST_ISA": "base"})
    assert found.stdout.strip() == "{'base'}", found.stderr


SHARED_THREADS = """
import os, torch, bptt_fast.torch as fast
module, x = fast.GRU(64, 128), torch.ones(50, 32, 64)
def outputs(threads):
    torch.set_num_threads(threads)
    with torch.no_grad():
        return module(x)[0].numpy().tobytes()
one = outputs(1)
torch.set_num_threads(2)
torch.ones(1 << 20).add_(1)
before = len(os.listdir("/proc/self/task"))
assert outputs(2) == one
print(len(os.listdir("/proc/self/task")) - before, flush=True)
child = os.fork()
if not child:
    assert outputs(2) == one
    os._exit(0)
print(os.waitpid(child, 0)[1])
"""


@pytest.mark.skipif(not os.path.exists("/proc/self/task"), reason="needs /proc")
@pytest.mark.parametrize("limit", ({}, {"OMP_THREAD_LIMIT": "1"}), ids=("two", "one"))
def test_a_module_runs_on_the_threads_of_pytorch(limit, python):
    found = python("-c", SHARED_THREADS, env=limit)
    assert found.stdout.split() == ["0", "0"], found.stderr
