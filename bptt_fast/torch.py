"""PyTorch's face: its recurrent modules with this package's kernels inside (extra "torch").

    from bptt_fast.torch import GRU, LSTM, RNN      # in place of: from torch.nn import GRU, LSTM, RNN

One `torch.autograd.Function` calls the core forwards and backwards.  The core reads inputs where they lie, time-major,
batch-major or packed, and writes outputs and gradients into tensors of PyTorch's.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from . import _core  # type: ignore[attr-defined]
from .errors import ConfigError, choice
from .network import READOUTS, Network

try:
    import torch
    from torch import Tensor, nn
    from torch.nn.utils.rnn import PackedSequence
except ImportError as error:
    raise ImportError(
        f'bptt_fast.torch needs PyTorch ({error}).  Install it: pip install "bptt-fast[torch]".'
    ) from error

__all__ = ["GRU", "LSTM", "RNN", "Model", "from_torch"]

Array = np.ndarray[Any, Any]

DTYPES = {torch.float32: "float32", torch.float64: "float64"}
PLANS = 4  # that a module keeps for its next calls
MAX_LAYERS = 16


class Rows(NamedTuple):
    """Where a batch lies in the rows of a tensor: step t of sequence b, which has length[b] of them, is row
    offset[b] + start[t], or offset[b] + t if `start` is None."""

    offset: Array
    length: Array
    start: Array | None


@lru_cache(64)
def _rows(batch: int, steps: int, time_major: bool) -> Rows:
    order = np.arange(batch)
    offset, start = (order, np.arange(steps) * batch) if time_major else (order * steps, None)
    return Rows(offset, np.full(batch, steps), start)


def _packed_rows(sizes: Array) -> Rows:
    """Of a PackedSequence: step t is one of sizes[t] sequences, the longest first."""
    order = np.arange(sizes[0])
    start = np.concatenate(([0], sizes[:-1].cumsum()))
    return Rows(order, np.searchsorted(-sizes, -order), start)  # as many steps as have more than b sequences


class Run:
    """One call of a module: where its rows lie, which masks of dropout it draws, its tape."""

    __slots__ = ("batch", "draw", "dropout", "key", "module", "rows", "steps", "tape", "widths")

    def __init__(self, module: Any, rows: Rows, batch: int, steps: int) -> None:
        self.module, self.rows, self.batch, self.steps = module, rows, batch, steps
        self.dropout = module.dropout if module.training and module.num_layers > 1 else 0.0
        self.draw = int(torch.randint(1 << 62, ())) if self.dropout else 0
        self.tape: Any = None

    def borrow(self, x: Tensor, input_gradient: bool) -> Any:
        """A plan of the module's that is large enough, or a new one."""
        module, threads = self.module, torch.get_num_threads()
        self.key = (x.dtype, self.dropout, input_gradient, threads)
        for kept in tuple(module._plans):
            key, batch, steps, plan = kept
            if key == self.key and self.batch <= batch and self.steps <= steps:
                try:
                    module._plans.remove(kept)
                    break
                except ValueError:  # another thread was first
                    continue
        else:
            plan = _core.Tape(
                _describe(module, x.dtype, self.dropout),
                batch=self.batch,
                steps=self.steps,
                threads=threads,
                input_gradient=input_gradient,
            )
            kept = (self.key, self.batch, self.steps, plan)
        plan.lay(*self.rows)
        return kept

    def give_back(self, kept: Any) -> None:
        plans = self.module._plans
        plans.append(kept)
        if len(plans) > PLANS:
            del plans[0]

    def forward(self, x: Tensor, states: Any, weights: Any, keep: bool, input_gradient: bool) -> Any:
        """Outputs (rows, O) and final states; keep: what the way back needs stays in the tape."""
        module = self.module
        y = x.new_empty((*x.shape[:-1], _output_size(module)))
        count = module.num_layers * (1 + module.bidirectional)
        final = tuple(x.new_empty((count, self.batch, width)) for width in _widths(module))
        kept = self.borrow(x, input_gradient)
        kept[3].forward(
            x.data_ptr(),
            self.blocks(weights),
            tuple(h.data_ptr() for h in states) if states else None,
            y.data_ptr(),
            tuple(h.data_ptr() for h in final),
            keep,
            self.draw,
        )
        if keep:
            self.tape = kept
        else:
            self.give_back(kept)
        return y, *final

    def backward(self, x: Tensor, states: Any, weights: Any, slopes: Any, wanted: Any) -> Any:
        """Gradients of x, states and weights, None where not wanted."""
        dy, *dfinal = (None if slope is None else slope.contiguous() for slope in slopes)
        if dy is None:
            dy = x.new_zeros((*x.shape[:-1], _output_size(self.module)))
        if self.tape is None:  # a second time through the same graph
            self.forward(x, states, weights, True, wanted[0])
        kept, self.tape = self.tape, None
        dx = torch.empty_like(x) if wanted[0] else None
        dstates = [torch.empty_like(h) for h in states] if any(wanted[1 : 1 + len(states)]) else [None] * len(states)
        grad = [
            torch.empty_like(w) if want else None
            for w, want in zip(weights, wanted[1 + len(states) :], strict=True)
        ]
        kept[3].backward(
            dy.data_ptr(),
            tuple(0 if h is None else h.data_ptr() for h in dfinal),
            self.blocks(grad),
            0 if dx is None else dx.data_ptr(),
            tuple(h.data_ptr() for h in dstates) if states and dstates[0] is not None else None,
        )
        self.give_back(kept)
        return dx, *dstates, *grad

    def blocks(self, tensors: Any) -> tuple[int, ...]:
        """Addresses in the core's order, which is PyTorch's; 0 for biases that the module does not have."""
        found = [0 if tensor is None else tensor.data_ptr() for tensor in tensors]
        if not self.module.bias:
            each = 3 if self.module.proj_size else 2
            for at in range(len(found) - each + 2, 0, -each):
                found[at:at] = (0, 0)
        return tuple(found)


class Unfold(torch.autograd.Function):
    """x (rows, I), states, weights -> y (rows, O), final states."""

    @staticmethod
    def forward(ctx: Any, run: Run, kinds: int, x: Tensor, *tensors: Tensor) -> Any:
        ctx.set_materialize_grads(False)
        ctx.run, ctx.kinds = run, kinds
        ctx.save_for_backward(x, *tensors)
        return run.forward(x, tensors[:kinds], tensors[kinds:], True, ctx.needs_input_grad[2])

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor | None) -> Any:
        x, *tensors = ctx.saved_tensors
        states, weights, wanted = tensors[: ctx.kinds], tensors[ctx.kinds :], ctx.needs_input_grad[2:]
        way = _differentiable if torch.is_grad_enabled() else Run.backward
        return None, None, *way(ctx.run, x, states, weights, slopes, wanted)


def _differentiable(run: Run, x: Tensor, states: Any, weights: Any, slopes: Any, wanted: Any) -> list[Tensor | None]:
    """The gradients as a graph of their own, for derivatives of the second order: by PyTorch's kernels."""
    module, name = run.module, type(run.module).__name__
    if run.dropout:
        raise RuntimeError(
            f"{name}: no second derivative with dropout={run.dropout:g} in training, since PyTorch cannot draw "
            f"its mask again.  Call eval(), or use torch.nn.{name}."
        )
    if not states:
        count = module.num_layers * (1 + module.bidirectional)
        hx = tuple(x.new_zeros((count, run.batch, width)) for width in _widths(module))
    else:
        hx = tuple(states)
    packed = x.dim() == 2
    sizes = [torch.from_numpy(np.searchsorted(-run.rows.length, -np.arange(run.steps)))] if packed else []
    function, numbers = getattr(torch, module.mode.lower()), (module.bias, module.num_layers, 0.0, False)
    outputs = function(
        x,
        *sizes,
        hx if len(hx) > 1 else hx[0],
        list(weights),
        *numbers,
        module.bidirectional,
        *([] if packed else [run.rows.start is None]),
    )
    outputs, slopes = zip(*((y, s) for y, s in zip(outputs, slopes, strict=True) if s is not None), strict=True)
    inputs = [tensor for tensor, want in zip((x, *states, *weights), wanted, strict=True) if want]
    found = iter(torch.autograd.grad(outputs, inputs, slopes, create_graph=True, allow_unused=True))
    return [next(found) if want else None for want in wanted]


def _describe(module: Any, dtype: torch.dtype, dropout: float) -> dict[str, Any]:
    """A module in the words of the core; output_size 0: the outputs are the states."""
    words = ("input_size", "hidden_size", "num_layers", "bidirectional", "proj_size")
    return {word: getattr(module, word) for word in words} | {
        "cell": module.cell,
        "dtype": DTYPES[dtype],
        "activation": (module.nonlinearity,) if module.cell == "elman" else (),
        "output_size": 0,
        "dropout": dropout,
    }


def _widths(module: Any) -> tuple[int, ...]:
    """Of h, and in an LSTM of c."""
    h = module.proj_size or module.hidden_size
    return (h, module.hidden_size) if module.cell == "lstm" else (h,)


def _output_size(module: Any) -> int:
    return (module.proj_size or module.hidden_size) * (1 + module.bidirectional)


def _as_it_lies(x: Tensor) -> tuple[Tensor, bool]:
    """(T, B, I) as it is, or as the (B, T, I) that it is in memory; and whether it is the first.  A copy if neither."""
    if x.is_contiguous():
        return x, True
    turned = x.transpose(0, 1)
    return (turned, False) if turned.is_contiguous() else (x.contiguous(), True)


class _Fast:
    """What the three modules share: `forward`.  It hands to PyTorch's whatever the core has no kernels for, and
    all that does not fit, for PyTorch's own error."""

    cell: str

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._plans: list[Any] = []

    def __getstate__(self) -> dict[str, Any]:
        return super().__getstate__() | {"_plans": []}  # type: ignore[operator]

    def __prepare_scriptable__(self) -> nn.Module:
        """For torch.jit.script: PyTorch's module with the same parameters."""
        plain = next(base for base in type(self).__mro__ if base.__module__ == nn.RNN.__module__)
        module = plain.__new__(plain)
        module.__dict__.update((name, value) for name, value in self.__dict__.items() if name != "_plans")
        return module

    def forward(self: Any, input: Any, hx: Any = None) -> Any:
        self._update_flat_weights()
        weights, packed = self._flat_weights, isinstance(input, PackedSequence)
        x = input.data if packed else input
        states = () if hx is None else hx if isinstance(hx, tuple) else (hx,)
        if not self._fits(x, states, weights, input.batch_sizes if packed else None):
            return super().forward(input, hx)
        lone = not packed and x.dim() == 2
        if packed:
            if input.sorted_indices is not None:
                states = tuple(h.index_select(1, input.sorted_indices) for h in states)
            sizes = input.batch_sizes.numpy()
            x, rows, batch, steps = x.contiguous(), _packed_rows(sizes), int(sizes[0]), len(sizes)
        else:
            if lone:
                x, states = x.unsqueeze(1), tuple(h.unsqueeze(1) for h in states)
            elif self.batch_first:
                x = x.transpose(0, 1)
            steps, batch, _ = x.shape
            x, time_major = _as_it_lies(x)
            rows = _rows(batch, steps, time_major)
        run, states = Run(self, rows, batch, steps), tuple(h.contiguous() for h in states)
        weights = [w.contiguous() for w in weights]
        if torch.is_grad_enabled() and any(t.requires_grad for t in (x, *states, *weights)):
            y, *ends = Unfold.apply(run, len(states), x, *states, *weights)
        else:
            y, *ends = run.forward(x, states, weights, False, False)
        if packed:
            if input.unsorted_indices is not None:
                ends = [h.index_select(1, input.unsorted_indices) for h in ends]
            y = PackedSequence(y, input.batch_sizes, input.sorted_indices, input.unsorted_indices)
        elif lone:
            y, ends = y.reshape(steps, -1), [h.squeeze(1) for h in ends]
        elif time_major == self.batch_first:
            y = y.transpose(0, 1)
        return y, tuple(ends) if len(ends) > 1 else ends[0]

    def _fits(self: Any, x: Any, states: Any, weights: list[Any], sizes: Tensor | None) -> bool:
        if torch.compiler.is_compiling() or torch.jit.is_tracing() or torch.is_autocast_enabled("cpu"):
            return False
        dtype = x.dtype if isinstance(x, Tensor) else None
        for tensor in (x, *states, *weights):
            if not isinstance(tensor, Tensor) or not tensor.is_cpu or tensor.dtype != dtype:
                return False
        if dtype not in DTYPES or x.dim() not in ((2, 3) if sizes is None else (2,)) or not x.numel():
            return False
        if x.shape[-1] != self.input_size or self.num_layers > MAX_LAYERS or self.dropout == 1:
            return False
        if not states:
            return True
        if sizes is not None:
            batch: tuple[int, ...] = (int(sizes[0]),)
        else:
            batch = (x.shape[0 if self.batch_first else 1],) if x.dim() == 3 else ()
        count = self.num_layers * (1 + self.bidirectional)
        return [h.shape for h in states] == [(count, *batch, width) for width in _widths(self)]


class RNN(_Fast, nn.RNN):
    """torch.nn.RNN with this package's kernels; see `torch.nn.RNN`."""

    cell = "elman"


class GRU(_Fast, nn.GRU):
    """torch.nn.GRU with this package's kernels; see `torch.nn.GRU`."""

    cell = "gru"


class LSTM(_Fast, nn.LSTM):
    """torch.nn.LSTM with this package's kernels; see `torch.nn.LSTM`."""

    cell = "lstm"
