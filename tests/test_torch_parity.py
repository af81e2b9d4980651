"""The same weights in PyTorch give the same outputs, gradients and training; skipped where PyTorch is not installed."""
# ruff: noqa: E501

import dataclasses

import numpy as np
import pytest

import bptt_fast as bf

torch = pytest.importorskip("torch")
torch.set_num_threads(1)
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")

# name: torch's class, its keywords, ours
RECURRENT = {
    "rnn-tanh": (torch.nn.RNN, dict(nonlinearity="tanh"), dict(cell="elman")),
    "rnn-relu": (torch.nn.RNN, dict(nonlinearity="relu"), dict(cell="elman", nonlinearity="relu")),
    "gru": (torch.nn.GRU, {}, dict(cell="gru")),
    "lstm": (torch.nn.LSTM, {}, dict(cell="lstm")),
    "lstm-projection": (torch.nn.LSTM, dict(proj_size=3), dict(cell="lstm", proj_size=3)),
}
TOLERANCE = {"float64": 1e-10, "float32": 1e-5}
INPUTS, STATES, OUTPUTS = 3, 6, 2


class Pair:
    """The same network in both, with the weights that PyTorch drew."""

    def __init__(self, kind, dtype="float64", readout="every", **structure):
        make, options, ours = RECURRENT[kind]
        torch.manual_seed(0)
        self.dtype, self.readout = getattr(torch, dtype), readout
        self.rnn = make(INPUTS, STATES, batch_first=True, dtype=self.dtype, **options, **structure)
        self.ways = 1 + structure.get("bidirectional", False)
        self.head = torch.nn.Linear(self.ways * options.get("proj_size", STATES), OUTPUTS, dtype=self.dtype)
        self.net = bf.Network(INPUTS, STATES, OUTPUTS, dtype=dtype, readout=readout, **ours, **structure)
        self.net.load_state_dict(
            self.rnn.state_dict() | {f"head.0.{k}": v for k, v in self.head.state_dict().items()}
        )
        self.pieces = structure.get("num_layers", 1) * self.ways

    def parameters(self):
        return dict(self.rnn.named_parameters()) | {f"head.0.{k}": v for k, v in self.head.named_parameters()}

    def states(self, flat):
        """Our states (n, state_size) as torch's (layers * ways, n, width), one or two of them."""
        kinds = 2 if isinstance(self.rnn, torch.nn.LSTM) else 1
        widths = [self.rnn.proj_size or STATES, STATES][:kinds]
        pieces = flat.split(widths * self.pieces, dim=1)
        parts = [torch.stack(pieces[k::kinds]) for k in range(kinds)]
        return tuple(parts) if kinds == 2 else parts[0]

    def forward(self, x, flat, lengths=None):
        """Outputs of every step, or of the last one of each direction; x is padded if there are lengths."""
        packed = x
        if lengths is not None:
            packed = torch.nn.utils.rnn.pack_padded_sequence(
                x, lengths, batch_first=True, enforce_sorted=False
            )
        out, final = self.rnn(packed, self.states(flat))
        if lengths is not None:
            out, _ = torch.nn.utils.rnn.pad_packed_sequence(out, batch_first=True)
        last = (final[0] if isinstance(final, tuple) else final)[-self.ways :]
        return self.head(out if self.readout == "every" else torch.cat(list(last), dim=1))

    def close(self, ours, theirs, name=""):
        theirs = theirs.detach().numpy()
        tolerance = TOLERANCE[str(self.net.dtype)] * max(1.0, abs(theirs).max())
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=tolerance, err_msg=name)


def numbers(*shape):
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(np.float32)


STRUCTURES = [dict(num_layers=n, bidirectional=both) for n in (1, 2, 3) for both in (False, True)]


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("readout", ("last", "every"))
@pytest.mark.parametrize(
    "structure", STRUCTURES, ids=lambda s: f"{s['num_layers']}{'both' if s['bidirectional'] else 'one'}"
)
@pytest.mark.parametrize("kind", RECURRENT)
def test_outputs_and_gradients(kind, structure, readout, dtype):
    pair = Pair(kind, dtype, readout, **structure)
    x, state = numbers(4, 9, INPUTS), 0.5 * numbers(4, pair.net.state_size)
    y = numbers(4, 9, OUTPUTS) if readout == "every" else numbers(4, OUTPUTS)
    tx, ts = (torch.tensor(a, dtype=pair.dtype, requires_grad=True) for a in (x, state))
    outputs = pair.forward(tx, ts)
    loss = torch.nn.functional.mse_loss(outputs, torch.tensor(y, dtype=pair.dtype))
    loss.backward()
    pair.close(pair.net.predict(x, x0=state), outputs)
    value, grads = pair.net.loss_and_grad(x, y, x0=state, with_inputs=True)
    assert value == pytest.approx(loss.item(), rel=TOLERANCE[dtype])
    for name, parameter in pair.parameters().items():
        pair.close(grads[name], parameter.grad, name)
    pair.close(grads["x"], tx.grad, "x")
    pair.close(grads["x0"], ts.grad, "x0")


@pytest.mark.parametrize("both", (False, True), ids=("one-way", "both-ways"))
@pytest.mark.parametrize("readout", ("last", "every"))
@pytest.mark.parametrize("kind", RECURRENT)
def test_ragged(kind, readout, both):
    """Sequences of different length against PyTorch's packed ones."""
    pair = Pair(kind, readout=readout, num_layers=2, bidirectional=both)
    lengths = [5, 1, 9, 9, 3]
    x, state = numbers(5, 9, INPUTS), 0.5 * numbers(5, pair.net.state_size)
    y = numbers(5, 9, OUTPUTS) if readout == "every" else numbers(5, OUTPUTS)
    tx, ts = (torch.tensor(a, dtype=pair.dtype, requires_grad=True) for a in (x, state))
    outputs = pair.forward(tx, ts, lengths)
    errors = (outputs - torch.tensor(y, dtype=pair.dtype)) ** 2
    active = torch.tensor([[t < n for t in range(9)] for n in lengths])
    loss = errors[active].mean() if readout == "every" else errors.mean()
    loss.backward()
    parts = [x[i, :n] for i, n in enumerate(lengths)]
    targets = [y[i, :n] for i, n in enumerate(lengths)] if readout == "every" else y
    value, grads = pair.net.loss_and_grad(parts, targets, x0=state, with_inputs=True)
    assert value == pytest.approx(loss.item(), rel=1e-12)
    for name, parameter in pair.parameters().items():
        pair.close(grads[name], parameter.grad, name)
    for i, n in enumerate(lengths):
        pair.close(grads["x"][i], tx.grad[i, :n], f"x[{i}]")
    pair.close(grads["x0"], ts.grad, "x0")


LOSSES = {
    "mse": torch.nn.functional.mse_loss,
    "mae": torch.nn.functional.l1_loss,
    "huber": torch.nn.functional.huber_loss,
    "cross_entropy": torch.nn.functional.cross_entropy,
    "binary_cross_entropy": torch.nn.functional.binary_cross_entropy_with_logits,
}


@pytest.mark.parametrize("loss", LOSSES)
def test_losses(loss):
    pair = Pair("rnn-tanh", readout="last")
    x, y = (
        numbers(4, 9, INPUTS),
        {"cross_entropy": np.array([0, 1, 1, 0]), "binary_cross_entropy": np.eye(2)[[0, 1, 1, 0]]}.get(
            loss, 3 * numbers(4, OUTPUTS)
        ),
    )
    state = torch.zeros(4, pair.net.state_size, dtype=pair.dtype)
    target = torch.tensor(y, dtype=torch.long if loss == "cross_entropy" else pair.dtype)
    theirs = LOSSES[loss](pair.forward(torch.tensor(x, dtype=pair.dtype), state), target)
    theirs.backward()
    value, grads = pair.net.loss_and_grad(x, y, loss=loss)
    assert value == pytest.approx(theirs.item(), rel=1e-12)
    for name, parameter in pair.parameters().items():
        pair.close(grads[name], parameter.grad, name)


OPTIMIZERS = {
    "sgd": (lambda p: torch.optim.SGD(p, lr=0.1), bf.SGD(0.1)),
    "nesterov": (lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.8, nesterov=True, weight_decay=1e-3), bf.SGD(0.05, momentum=0.8, nesterov=True, weight_decay=1e-3)),
    "adam": (lambda p: torch.optim.Adam(p, lr=0.01, weight_decay=1e-3), bf.Adam(0.01, weight_decay=1e-3)),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("dtype, tolerance", (("float32", 1e-4), ("float64", 1e-9)))
@pytest.mark.parametrize("kind", RECURRENT)
def test_training(kind, dtype, tolerance, optimizer):
    """100 steps from equal weights: the same losses; gradients clipped in both."""
    pair = Pair(kind, dtype, readout="last", num_layers=2)
    x, y = numbers(8, 12, INPUTS), 1 + 0.3 * numbers(8, OUTPUTS)
    tx, ty = (torch.tensor(a, dtype=pair.dtype) for a in (x, y))
    parameters = list(pair.parameters().values())
    theirs, chosen, state = (
        [],
        OPTIMIZERS[optimizer][0](parameters),
        torch.zeros(8, pair.net.state_size, dtype=pair.dtype),
    )
    for _ in range(100):
        chosen.zero_grad()
        loss = torch.nn.functional.mse_loss(pair.forward(tx, state), ty)
        loss.backward()
        norm = torch.sqrt(sum((p.grad**2).sum() for p in parameters))  # clip_grad_norm_ adds 1e-6 to it
        for p in parameters:
            p.grad *= torch.clamp(0.2 / norm, max=1)
        chosen.step()
        theirs.append(loss.item())
    options = dict(epochs=100, batch_size=8, shuffle=False, verbose=0)
    clipped = dataclasses.replace(OPTIMIZERS[optimizer][1], clip_norm=0.2)
    ours = pair.net.fit(x, y, optimizer=clipped, **options)["loss"]
    assert theirs[-1] < 0.7 * theirs[0], "nothing was learnt: the test proves little"
    np.testing.assert_allclose(ours, theirs, rtol=tolerance)


def test_tensors_are_accepted():
    net = bf.Network(INPUTS, STATES, OUTPUTS, seed=0)
    x = torch.tensor(numbers(4, 9, INPUTS))
    np.testing.assert_array_equal(net.predict(x), net.predict(x.numpy()))
