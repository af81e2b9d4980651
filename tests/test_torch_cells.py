"""Cells that PyTorch lacks as its modules: kernels of the core, and PyTorch's operations as their oracle."""

import copy
import pickle

import numpy as np
import pytest

import bptt_fast as bf

torch = pytest.importorskip("torch")
from torch.nn.utils.rnn import PackedSequence, pack_sequence  # noqa: E402

import bptt_fast.torch as fast  # noqa: E402

torch.set_num_threads(1)

KINDS = {
    "mingru": ("MinGRU", {}),
    "minlstm": ("MinLSTM", {}),
    "indrnn": ("IndRNN", dict(nonlinearity="relu")),
    "rate": ("CTRNN", dict(nonlinearity="retanh", tau=20.0, dt=4.0)),
    "potential": ("CTRNN", dict(nonlinearity="softplus", equation="potential", tau=[9, 8, 40, 16, 8], dt=8)),
}
TOLERANCE = {torch.float64: dict(rtol=1e-9, atol=1e-11), torch.float32: dict(rtol=1e-4, atol=1e-5)}
by_kind = pytest.mark.parametrize("kind", KINDS)


def module_of(kind, layers=1, **words):
    name, more = KINDS[kind]
    torch.manual_seed(0)
    return getattr(fast, name)(3, 5, layers, **dict(dtype=torch.float64) | more | words)


def results(module, x, hx=None):
    """Outputs, final states, and all gradients."""
    module.zero_grad()
    packed = isinstance(x, PackedSequence)
    data = (x.data if packed else x).detach().clone().requires_grad_()
    hx = None if hx is None else hx.clone().requires_grad_()
    y, h = module(x._replace(data=data) if packed else data, hx)
    y = y.data if packed else y
    slope = torch.linspace(-1, 1, y.numel(), dtype=y.dtype).view(y.shape)
    (y.square().mul(slope).sum() + h.pow(3).sum()).backward()
    grads = [data.grad, *([] if hx is None else [hx.grad]), *(p.grad for p in module.parameters())]
    return [y.detach(), h.detach(), *(g.clone() for g in grads)]


def same(module, *call):
    oracle = fast.plain(module)
    assert type(oracle).__module__ == "bptt_fast.torch_cells"
    for expected, got in zip(results(oracle, *call), results(module, *call), strict=True):
        torch.testing.assert_close(got, expected, **TOLERANCE[got.dtype])


@by_kind
@pytest.mark.parametrize("dtype", TOLERANCE)
def test_the_kernels_are_the_operations(kind, dtype):
    flags = ((1, False, True, True), (1, True, False, False), (3, False, False, True), (3, True, True, False))
    for layers, bidirectional, batch_first, given in flags:
        module = module_of(kind, layers, bidirectional=bidirectional, batch_first=batch_first, dtype=dtype)
        hx = torch.randn(layers * (1 + bidirectional), 4 if batch_first else 6, 5, dtype=dtype)
        same(module, torch.randn(4, 6, 3, dtype=dtype), hx if given else None)
    same(module, torch.randn(7, 3, dtype=dtype))


@by_kind
def test_packed_sequences(kind):
    for enforce_sorted, given in ((False, True), (True, False)):
        module = module_of(kind, 2, bidirectional=True)
        lengths = (6, 6, 3, 1) if enforce_sorted else (3, 6, 1, 6)
        parts = [torch.randn(n, 3, dtype=torch.float64) for n in lengths]
        hx = torch.randn(4, 4, 5, dtype=torch.float64)
        same(module, pack_sequence(parts, enforce_sorted), hx if given else None)
        y, h = module(pack_sequence(parts, enforce_sorted), hx)
        for i, part in enumerate(parts):
            alone, end = module(part, hx[:, i])
            torch.testing.assert_close(torch.nn.utils.rnn.unpack_sequence(y)[i], alone)
            torch.testing.assert_close(h[:, i], end)


@by_kind
def test_second_derivatives_and_copies(kind):
    module = module_of(kind, 2, bidirectional=True)
    if kind in ("minlstm", "potential"):  # without corners
        x = torch.randn(2, 1, 3, dtype=torch.float64, requires_grad=True)
        assert torch.autograd.gradgradcheck(lambda x: module(x)[0], (x,))
    x = torch.randn(4, 2, 3, dtype=torch.float64)
    expected = module(x)[0]
    for other in (copy.deepcopy(module), pickle.loads(pickle.dumps(module)), fast.plain(module)):
        torch.testing.assert_close(other(x)[0], expected)
    assert type(module).__name__ in repr(module) and "num_layers=2" in repr(module)


@by_kind
@pytest.mark.parametrize("readout", ("last", "every"))
def test_networks_there_and_back(kind, readout):
    name, more = KINDS[kind]
    for layers, initial in ((1, "zeros"), (2, "trained")):
        net = bf.Network(
            3, 5, 2, cell=name.lower(), num_layers=layers, bidirectional=layers == 2, readout=readout,
            head=(4,), initial_state=initial, dtype="float64", seed=1, **more,
        )  # fmt: skip
        net.params = net.params + 0.1
        net.scaling = bf.Scaling([1.0, 2, 3], [2.0, 1, 1], [5.0, 1.0], [2.0, 3.0])
        x = np.random.default_rng(0).normal(size=(4, 6, 3))
        model = net.to_torch()
        assert type(model.rnn) is getattr(fast, name)
        np.testing.assert_allclose(model(torch.tensor(x)).detach(), net.predict(x), rtol=1e-10)
        again = bf.from_torch(model)
        assert again.params.tobytes() == net.params.tobytes() and again.scaling == net.scaling
        changed = {key: value for key, value in net.config().items() if again.config()[key] != value}
        assert set(changed) <= {"seed"}
        grads = net.loss_and_grad(x, 0 * net.predict(x) - 1.0)[1]
        loss = ((model(torch.tensor(x)) + 1) / torch.tensor([2.0, 3.0])).square().mean()
        loss.backward()
        np.testing.assert_allclose(model.rnn.weight_ih_l0.grad, grads["weight_ih_l0"], rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("noise", ("sde", "step", "scaled"))
@pytest.mark.parametrize("equation", ("rate", "potential"))
def test_noise_is_of_training(equation, noise):
    """Its deviation after one step, of the kernels and of the operations."""
    tau, dt, sigma = 20.0, 5.0, 0.3
    rnn = fast.CTRNN(
        2, 400, nonlinearity="linear", equation=equation, tau=tau, dt=dt, recurrent_noise=sigma, noise=noise,
        dtype=torch.float64,
    )  # fmt: skip
    x, alpha = torch.zeros(1, 20, 2, dtype=torch.float64), dt / tau
    quiet = rnn.eval()(x)[0]
    assert torch.equal(quiet, rnn(x)[0])
    deviation = sigma * {"sde": np.sqrt(2 * alpha), "step": 1.0, "scaled": alpha}[noise]
    for module in (rnn.train(), fast.plain(rnn)):
        drawn = module(x)[0] - quiet
        assert abs(drawn.std().item() / deviation - 1) < 0.05
    torch.manual_seed(3)
    first = rnn(x)[0]
    torch.manual_seed(3)
    again = rnn(x.requires_grad_())[0]
    assert torch.equal(first, again)
    with pytest.raises(RuntimeError, match="recurrent_noise"):
        torch.autograd.grad(again.sum(), x, create_graph=True)


def test_dropout():
    module = module_of("mingru", 2, dropout=0.5)
    x = torch.ones(3, 2, 3, dtype=torch.float64)
    torch.manual_seed(1)
    one = module(x)[0]
    assert not torch.equal(one, module(x)[0])
    torch.manual_seed(1)
    assert torch.equal(one, module(x)[0])
    assert torch.equal(module.eval()(x)[0], module(x)[0])


def test_a_module_of_an_earlier_version_with_an_option_without_effect():
    net = bf.Network(3, 4, 2, cell="ctrnn", seed=0)
    module = net.to_torch()
    object.__setattr__(module.rnn.description, "noise", "step")
    found = bf.from_torch(module)
    assert found.description.noise == "sde"
    x = np.ones((2, 5, 3), np.float32)
    np.testing.assert_array_equal(found.predict(x), net.predict(x))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_compile():
    module = module_of("minlstm")
    x = torch.randn(4, 2, 3, dtype=torch.float64)
    torch.testing.assert_close(torch.compile(module, backend="eager")(x)[0], module(x)[0])


@pytest.mark.parametrize("call, error, words", (
    (lambda: fast.CTRNN(2, 3, tau=0.5), bf.ConfigError, "tau: expected"),
    (lambda: fast.IndRNN(2, 3, nonlinearity="sin"), bf.ConfigError, "nonlinearity"),
    (lambda: fast.MinGRU(2, 3, dropout=0.5), bf.ConfigError, "dropout"),
    (lambda: fast.MinGRU(2, 3)(torch.zeros(4, 2, 3)), RuntimeError, "last of size 2"),
    (lambda: fast.MinGRU(2, 3)(torch.zeros(0, 2, 2)), RuntimeError, "at least one step"),
    (lambda: fast.MinGRU(2, 3)(torch.zeros(4, 1, 2), torch.zeros(1, 2, 3)), RuntimeError, "expected hx"),
    (lambda: fast.MinGRU(2, 3)(torch.zeros(4, 1, 2), (1, 2)), RuntimeError, "expected hx.*tuple"),
    (lambda: bf.Network(2, 3, 1, cell="mlp", f=(3,)).to_torch(), bf.ConfigError, 'cell="mlp"'),
    (lambda: bf.Network(2, 3, 1, cell="mingru", input_noise=0.1).to_torch(), bf.ConfigError, "input_noise"),
))  # fmt: skip
def test_wrong_calls(call, error, words):
    with pytest.raises(error, match=words):
        call()
