"""PyTorch recurrent modules that use this package's kernels (extra "torch").

    from bptt_fast.torch import GRU, LSTM, RNN      # in place of: from torch.nn import GRU, LSTM, RNN

`MinGRU`, `MinLSTM`, `IndRNN` and `CTRNN` are modules of the same kind for cells that PyTorch lacks,
`RNNCell`, `GRUCell` and `LSTMCell` those for one step.  One `torch.autograd.Function` calls the core's
forward and backward passes.  The core reads inputs in place, time-major, batch-major or packed, and writes
outputs and gradients into PyTorch tensors.
"""

from __future__ import annotations

import copy
import ctypes
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import fields
from functools import lru_cache, partial
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, get_args

import numpy as np

from . import _core, model  # type: ignore[attr-defined]
from .choices import DType, Readout
from .columns import Scaling
from .description import MAX_LAYERS, Category, Description
from .errors import ConfigError, choice, flag, suggesting
from .initialisation import CELLS
from .machine import machine
from .plans import PlanPool, PlanSize, Pooled, with_groups

try:
    import torch
    from torch import Tensor, nn
    from torch.autograd import forward_ad
    from torch.nn.utils.parametrize import is_parametrized
    from torch.nn.utils.rnn import PackedSequence, pad_packed_sequence

    from . import torch_cells
except ImportError as error:
    raise ImportError(
        f'bptt_fast.torch needs PyTorch ({error}).  Install it: pip install "bptt-fast[torch]".'
    ) from error

__all__ = [
    "CTRNN",
    "GRU",
    "LSTM",
    "RNN",
    "Acceleration",
    "GRUCell",
    "IndRNN",
    "LSTMCell",
    "MinGRU",
    "MinLSTM",
    "Model",
    "RNNCell",
    "accelerate",
    "from_torch",
    "plain",
]

Array = np.ndarray[Any, Any]

PLAIN = (Tensor, nn.Parameter)  # subclasses may not store their values in memory
RATE_OPTIONS = ("equation", "tau", "dt", "recurrent_noise", "noise")
DTYPES: dict[Any, DType] = {torch.float32: "float32", torch.float64: "float64"}
PLANS = 4  # number of plans in a module's pool
ONEDNN = 4096  # rows * units from which PyTorch's oneDNN kernels predict with an LSTM as fast or faster


def _share_threads() -> None:
    """Run the core on the threads of PyTorch's own OpenMP, where this is GNU's.

    Those spin for some 15 ms after an operation of PyTorch; threads of the core would have to share their
    processors with them.
    """
    for path in (Path(torch.__file__).parent / "lib").glob("libgomp*.so*"):
        library = ctypes.CDLL(str(path))  # PyTorch has loaded it
        functions = (library.GOMP_parallel, library.omp_get_num_threads)
        _core.use_threads(*(ctypes.cast(function, ctypes.c_void_p).value for function in functions))


_share_threads()


class Rows(NamedTuple):
    """The rows of a batch in a tensor.

    Step t < length[b] of sequence b is row offset[b] + start[t], or offset[b] + t if `start` is None.
    """

    offset: Array
    length: Array
    start: Array | None


@lru_cache(64)
def _rows(batch: int, steps: int, time_major: bool) -> Rows:
    order = np.arange(batch)
    offset, start = (order, np.arange(steps) * batch) if time_major else (order * steps, None)
    return Rows(offset, np.full(batch, steps), start)


def _packed_rows(sizes: Array) -> Rows:
    """Rows of a PackedSequence: step t has sizes[t] sequences, the longest first."""
    order = np.arange(sizes[0])
    start = np.concatenate(([0], sizes[:-1].cumsum()))
    return Rows(
        order, np.searchsorted(-sizes, -order), start
    )  # sequence b has as many steps as have more than b sequences


class Run:
    """One call of a module: the rows of its batch, its dropout masks and noise, its tape."""

    __slots__ = ("batch", "draw", "dropout", "module", "noise", "rows", "steps", "tape")

    def __init__(self, module: Any, rows: Rows, batch: int, steps: int) -> None:
        self.module, self.rows, self.batch, self.steps = module, rows, batch, steps
        self.dropout = module.dropout if module.training and module.num_layers > 1 else 0.0
        self.noise = module._noise() if module.training else 0.0
        self.draw = int(torch.randint(1 << 62, ())) if self.dropout or self.noise else 0
        self.tape: Any = None  # Pooled, held from forward to backward

    def __call__(self, x: Tensor, states: Any, weights: Any, needs_grad: bool) -> Any:
        """Outputs and final states; with `needs_grad` as part of PyTorch's graph."""
        states, weights = tuple(h.contiguous() for h in states), [w.contiguous() for w in weights]
        if needs_grad:
            return Unfold.apply(self, len(states), x, *states, *weights)
        return self.forward(x, states, weights, False, False)

    def acquire(self, x: Tensor, input_gradient: bool) -> Pooled:
        """A large enough plan from the module's pool, or a new one."""
        threads, isa, size = torch.get_num_threads(), machine().isa, (self.batch, self.steps)
        describe = partial(_describe, self.module, x.dtype, self.dropout, self.noise)
        options: dict[str, Any] = {}
        if self.rows.length[-1] < self.steps:  # the shortest is the last
            plan_size = PlanSize("mse", True, *size, threads, isa, input_gradient)
            options = with_groups(self.rows.length, describe(), plan_size)
        pooled = self.module._plans.acquire(
            (x.dtype, self.dropout, self.noise, input_gradient, threads, bool(options)),
            (*size, options.get("area", 0)),
            lambda: _core.Tape(
                describe(),
                batch=self.batch,
                steps=self.steps,
                threads=threads,
                isa=isa,
                input_gradient=input_gradient,
                **options,
            ),
        )
        pooled.plan.lay(*self.rows)
        return pooled

    def forward(self, x: Tensor, states: Any, weights: Any, keep: bool, input_gradient: bool) -> Any:
        """Outputs (rows, O) and final states; `keep` retains the tape for the backward pass."""
        y = x.new_empty((*x.shape[:-1], _output_size(self.module)))
        final = tuple(x.new_empty(shape) for shape in self.state_shapes())
        pooled = self.acquire(x, input_gradient)
        pooled.plan.forward(
            x.data_ptr(),
            self.blocks(weights),
            _addresses(states) if states else None,
            y.data_ptr(),
            _addresses(final),
            keep,
            self.draw,
        )
        if keep:
            self.tape = pooled
        else:
            self.module._plans.release(pooled)
        return y, *final

    def backward(self, x: Tensor, states: Any, weights: Any, output_grads: Any, wanted: Any) -> Any:
        """Gradients of x, states and weights; None for those not `wanted`."""
        dy, *dfinal = (
            None if grad_output is None else grad_output.contiguous() for grad_output in output_grads
        )
        if dy is None:
            dy = x.new_zeros((*x.shape[:-1], _output_size(self.module)))
        if self.tape is None:  # of a cell, or backward runs through the same graph again
            self.forward(x, states, weights, True, wanted[0])
        pooled, self.tape = self.tape, None
        dx = torch.empty_like(x) if wanted[0] else None
        wants_states = any(wanted[1 : 1 + len(states)])
        dstates = [torch.empty_like(h) if wants_states else None for h in states]
        grad = [
            torch.empty_like(w) if want else None
            for w, want in zip(weights, wanted[1 + len(states) :], strict=True)
        ]
        pooled.plan.backward(
            dy.data_ptr(),
            _addresses(dfinal),
            self.blocks(grad),
            _address(dx),
            _addresses(dstates) if wants_states else None,
        )
        self.module._plans.release(pooled)
        return dx, *dstates, *grad

    def state_shapes(self) -> list[tuple[int, int, int]]:
        """Shapes of h and, for an LSTM, of c."""
        count = self.module.num_layers * (1 + self.module.bidirectional)
        return [(count, self.batch, width) for width in _widths(self.module)]

    def blocks(self, tensors: Any) -> tuple[int, ...]:
        """Addresses in the core's order, which is PyTorch's; 0 for missing biases."""
        addresses = _addresses(tensors)
        if self.module.bias:
            return addresses
        each = 3 if self.module.proj_size else 2
        layers = (addresses[at : at + each] for at in range(0, len(addresses), each))
        return tuple(address for a in layers for address in (*a[:2], 0, 0, *a[2:]))


def _address(tensor: Tensor | None) -> int:
    return 0 if tensor is None else tensor.data_ptr()


def _addresses(tensors: Any) -> tuple[int, ...]:
    return tuple(map(_address, tensors))


class Unfold(torch.autograd.Function):
    """The core as a function: x (rows, I), states, weights -> y (rows, O), final states."""

    @staticmethod
    def forward(ctx: Any, run: Run, kinds: int, x: Tensor, *tensors: Tensor) -> Any:
        ctx.set_materialize_grads(False)
        ctx.run, ctx.kinds = run, kinds
        ctx.save_for_backward(x, *tensors)
        keep, input_gradient = run.module.keeps_tape, ctx.needs_input_grad[2]
        return run.forward(x, tensors[:kinds], tensors[kinds:], keep, input_gradient)

    @staticmethod
    def backward(ctx: Any, *output_grads: Tensor | None) -> Any:
        x, *tensors = ctx.saved_tensors
        states, weights, wanted = tensors[: ctx.kinds], tensors[ctx.kinds :], ctx.needs_input_grad[2:]
        use_core = not torch.is_grad_enabled() and all(map(_in_memory, output_grads))
        backward = Run.backward if use_core else _differentiable
        return None, None, *backward(ctx.run, x, states, weights, output_grads, wanted)


def _differentiable(
    run: Run, x: Tensor, states: Any, weights: Any, output_grads: Any, wanted: Any
) -> list[Tensor | None]:
    """Gradients by PyTorch's kernels: for second derivatives, as a graph of their own, or for gradients of
    outputs that are not in memory."""
    module, name, second = run.module, type(run.module).__name__, torch.is_grad_enabled()
    if run.draw:
        random = f"dropout={run.dropout:g}" if run.dropout else f"recurrent_noise={run.noise:g}"
        raise RuntimeError(
            f"{name}: no second derivative with {random} in training, since PyTorch cannot "
            f"reproduce its draws.  Call eval(), or use plain(module)."
        )
    with torch.enable_grad():
        # the derivatives for this call only: views end them where other calls made x or the states
        inputs = [tensor.view_as(tensor) for tensor in (x, *states, *weights)]
        x, states, weights = inputs[0], inputs[1 : 1 + len(states)], inputs[1 + len(states) :]
        hx = tuple(states) or tuple(x.new_zeros(shape) for shape in run.state_shapes())
        hx = hx if len(hx) > 1 else hx[0]
        if x.dim() == 2:
            sizes = torch.from_numpy(np.searchsorted(-run.rows.length, -np.arange(run.steps)))
            outputs = module._by_pytorch(x, sizes, hx, weights, False)
        else:
            outputs = module._by_pytorch(x, None, hx, weights, run.rows.start is None)
    chosen = [
        (y, grad_output)
        for y, grad_output in zip(outputs, output_grads, strict=True)
        if grad_output is not None
    ]
    gradients = iter(
        torch.autograd.grad(
            [y for y, _ in chosen],
            [tensor for tensor, want in zip(inputs, wanted, strict=True) if want],
            [grad_output for _, grad_output in chosen],
            create_graph=second,
            allow_unused=True,
        )
    )
    return [next(gradients) if want else None for want in wanted]


def _describe(module: Any, dtype: torch.dtype, dropout: float, noise: float) -> dict[str, Any]:
    """A module's description in the fields of the C core; output_size 0 makes the states the outputs."""
    names = ("input_size", "hidden_size", "num_layers", "bidirectional", "proj_size")
    own = module.description.core() if isinstance(module, torch_cells.Layers) else {}
    return {name: own[name] for name in ("alpha", "noise") if name in own} | {
        **{name: getattr(module, name) for name in names},
        "cell": own.get("cell", module.cell),
        "dtype": DTYPES[dtype],
        "activation": (module.nonlinearity,) if CELLS[module.cell]["activation"] else (),
        "output_size": 0,
        "dropout": dropout,
        "recurrent_noise": noise,
    }


def _needs_grad(*tensors: Tensor) -> bool:
    return torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors)


def _in_memory(tensor: Tensor | None) -> bool:
    """Whether a tensor has its values in memory, unlike the wrappers of torch.func's transforms."""
    try:
        _address(tensor)
        return True
    except RuntimeError:
        return False


def _widths(module: Any) -> tuple[int, ...]:
    h = module.proj_size or module.hidden_size
    return (h, module.hidden_size)[: CELLS[module.cell]["states"]]


@lru_cache(64)
def _weight_shapes(
    cell: str, inputs: int, hidden: int, proj: int, layers: int, directions: int, bias: bool
) -> list[tuple[int, ...]]:
    """Shapes of all weights, in the order of ``all_weights``."""
    rows, h = CELLS[cell]["gates"] * hidden, proj or hidden
    rest = [(rows, h)] + [(rows,), (rows,)] * bias + [(h, hidden)] * (proj > 0)
    sizes = [inputs] + [h * directions] * (layers - 1)
    return [shape for size in sizes for shape in [(rows, size), *rest] * directions]


def _output_size(module: Any) -> int:
    return (module.proj_size or module.hidden_size) * (1 + module.bidirectional)


def _contiguous_layout(x: Tensor) -> tuple[Tensor, bool]:
    """x in its contiguous layout, (T, B, I) or (B, T, I), or a copy; and whether it is (T, B, I)."""
    if x.is_contiguous():
        return x, True
    transposed = x.transpose(0, 1)
    return (transposed, False) if transposed.is_contiguous() else (x.contiguous(), True)


class _CoreModule:
    """Base of the modules.

    Calls that the core does not support, and invalid ones, for PyTorch's error, are left to PyTorch's
    forward.
    """

    cell: ClassVar[Any]
    keeps_tape = True  # from forward to backward; else backward computes forward again

    @property
    def _plans(self) -> PlanPool:
        """The plans of this module's last calls."""
        if "_pool" not in self.__dict__:
            self.__dict__.setdefault("_pool", PlanPool(PLANS))  # in one step: another thread may be first
        pool: PlanPool = self.__dict__["_pool"]
        return pool

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "qconfig" and not isinstance(self, nn.RNN):  # torch.nn.RNN has no quantized form
            warnings.warn(
                f"{type(self).__name__}: torch.ao.quantization recognises exact types, and leaves this "
                f"module in floating point.  Quantize bptt_fast.torch.plain(model) instead.",
                stacklevel=2,
            )
        super().__setattr__(name, value)

    def __prepare_scriptable__(self) -> nn.Module:
        """PyTorch's module with the same parameters, for torch.jit.script and `plain`."""
        plain = _plain(type(self))
        module = plain.__new__(plain)
        module.__dict__.update((name, value) for name, value in self.__dict__.items() if name != "_pool")
        return module

    def _shapes(self: Any) -> list[tuple[int, ...]]:
        """Shapes of the weights."""
        sized, directions = (self.input_size, self.hidden_size, self.proj_size), 1 + self.bidirectional
        return _weight_shapes(self.cell, *sized, self.num_layers, directions, self.bias)

    def _noise(self) -> float:
        """The deviation of the noise in training."""
        return 0.0

    def _by_pytorch(
        self: Any, x: Tensor, sizes: Any, hx: Any, weights: list[Tensor], batch_first: bool
    ) -> Any:
        """Outputs and final states by PyTorch's kernels; `sizes` are the batch sizes of packed rows."""
        function = getattr(torch, self.mode.lower())
        numbers = (weights, self.bias, self.num_layers, 0.0, False, self.bidirectional)
        if sizes is None:
            return function(x, hx, *numbers, batch_first)
        return function(x, sizes, hx, *numbers)

    def _supported(self: Any, x: Any, states: Any, weights: list[Any], sizes: Tensor | None = None) -> bool:
        """Whether the core computes this call; `sizes` are the batch sizes of packed rows."""
        if torch.compiler.is_compiling() or torch.jit.is_tracing() or torch.is_autocast_enabled("cpu"):
            return False
        dtype = x.dtype if isinstance(x, Tensor) else None
        for tensor in (x, *states, *weights):
            if type(tensor) not in PLAIN or not tensor.is_cpu or tensor.dtype != dtype:
                return False
            if tensor.is_neg() or not _in_memory(tensor):
                return False
        if forward_ad._current_level >= 0:  # forward-mode derivatives
            return False
        if dtype not in DTYPES or not x.numel() or x.dim() not in self._axes(sizes):
            return False
        if x.shape[-1] != self.input_size or self.num_layers > MAX_LAYERS or self.dropout == 1:
            return False
        if [w.shape for w in weights] != self._shapes():
            return False
        return not states or [h.shape for h in states] == self._states(x, sizes)


class _CoreLayers(_CoreModule):
    """Base of the modules that are called with all steps."""

    def forward(self: Any, input: Any, hx: Any = None) -> Any:
        packed = isinstance(input, PackedSequence)
        x = input.data if packed else input
        states = () if hx is None else hx if len(_widths(self)) > 1 and isinstance(hx, tuple) else (hx,)
        weights = [weight for layer in self.all_weights for weight in layer]
        sizes = input.batch_sizes if packed else None
        if (hx is not None and not states) or not self._supported(x, states, weights, sizes):
            return super().forward(input, hx)  # type: ignore[misc]
        unbatched = not packed and x.dim() == 2
        if packed:
            if input.sorted_indices is not None:
                states = tuple(h.index_select(1, input.sorted_indices) for h in states)
            sizes = input.batch_sizes.numpy()
            x, rows, batch, steps = x.contiguous(), _packed_rows(sizes), int(sizes[0]), len(sizes)
        else:
            if unbatched:
                x, states = x.unsqueeze(1), tuple(h.unsqueeze(1) for h in states)
            elif self.batch_first:
                x = x.transpose(0, 1)
            steps, batch, _ = x.shape
            x, time_major = _contiguous_layout(x)
            rows = _rows(batch, steps, time_major)
        needs_grad = _needs_grad(x, *states, *weights)
        large = self.mode == "LSTM" and x.dtype == torch.float32 and batch * self.hidden_size >= ONEDNN
        if large and not packed and not needs_grad and torch.backends.mkldnn.is_available():
            return super().forward(input, hx)  # type: ignore[misc]
        y, *ends = Run(self, rows, batch, steps)(x, states, weights, needs_grad)
        if packed:
            if input.unsorted_indices is not None:
                ends = [h.index_select(1, input.unsorted_indices) for h in ends]
            y = PackedSequence(y, input.batch_sizes, input.sorted_indices, input.unsorted_indices)
        elif unbatched:
            y, ends = y.reshape(steps, -1), [h.squeeze(1) for h in ends]
        elif time_major == self.batch_first:
            y = y.transpose(0, 1)
        return y, tuple(ends) if len(ends) > 1 else ends[0]

    def _axes(self, sizes: Tensor | None) -> tuple[int, ...]:
        """How many axes an input may have."""
        return (2, 3) if sizes is None else (2,)

    def _states(self: Any, x: Tensor, sizes: Tensor | None) -> list[tuple[int, ...]]:
        """Shapes of the initial states for an input."""
        if sizes is not None:
            batch: tuple[int, ...] = (int(sizes[0]),)
        else:
            batch = (x.shape[0 if self.batch_first else 1],) if x.dim() == 3 else ()
        count = self.num_layers * (1 + self.bidirectional)
        return [(count, *batch, width) for width in _widths(self)]


class _CoreCell(_CoreModule):
    """Base of the modules that are called for one step: one layer.

    A loop calls one some hundred times before the backward pass, so the calls keep no tapes.
    """

    num_layers, bidirectional, proj_size, dropout = 1, False, 0, 0.0
    keeps_tape = False

    @property
    def mode(self: Any) -> str:
        """The name of PyTorch's function for many steps."""
        return f"RNN_{self.nonlinearity}" if self.cell == "elman" else self.cell

    @property
    def all_weights(self: Any) -> list[list[Tensor]]:
        """The parameters, as those of the only layer."""
        weights = [self.weight_ih, self.weight_hh]
        return [[*weights, self.bias_ih, self.bias_hh] if self.bias else weights]

    def forward(self: Any, input: Any, hx: Any = None) -> Any:
        states = () if hx is None else hx if self.cell == "lstm" and isinstance(hx, tuple) else (hx,)
        (weights,) = self.all_weights
        if (hx is not None and not states) or not self._supported(input, states, weights):
            return super().forward(input, hx)  # type: ignore[misc]
        x = input.contiguous().view(1, -1, self.input_size)
        states = tuple(h.reshape(1, -1, self.hidden_size) for h in states)
        run = Run(self, _rows(x.shape[1], 1, True), x.shape[1], 1)
        h, _, *c = run(x, states, weights, _needs_grad(x, *states, *weights))
        h, *c = (a.view(*input.shape[:-1], self.hidden_size) for a in (h, *c))
        return (h, *c) if c else h

    def _supported(self: Any, x: Any, states: Any, weights: list[Any], sizes: Any = None) -> bool:
        known = self.cell != "elman" or self.nonlinearity in ("tanh", "relu")
        return known and self.hidden_size > 0 and super()._supported(x, states, weights, sizes)

    def _axes(self, sizes: Tensor | None) -> tuple[int, ...]:
        return 1, 2

    def _states(self: Any, x: Tensor, sizes: Tensor | None) -> list[tuple[int, ...]]:
        return [(*x.shape[:-1], width) for width in _widths(self)]


def _plain(kind: type) -> Any:
    """The class without kernels of this package beneath one of the modules."""
    known = (nn.RNN.__module__, torch_cells.Layers.__module__)
    return next(base for base in kind.__mro__ if base.__module__ in known)


class RNN(_CoreLayers, nn.RNN):
    """``torch.nn.RNN`` with this package's kernels: the same constructor, parameters, call and results.

    The kernels support float32 and float64 on the CPU, with ``torch.get_num_threads()`` threads.  PyTorch's
    own code handles other cases (another device or dtype, autocast, tracing, torch.compile), and prediction
    with large LSTMs, for which oneDNN is as fast.  A call that needs gradients keeps its tape until the
    backward pass, or until its outputs are deleted; the module keeps the memory of its last few calls for
    reuse.  Second derivatives are PyTorch's.  Dropout masks depend on ``torch.manual_seed``, but differ from
    those of ``torch.nn.RNN``.

    Parameters
    ----------
    *args, **kwargs
        See ``torch.nn.RNN``.

    Raises
    ------
    MemoryError
        If the tape does not fit into memory.
    RuntimeError
        For second derivatives with dropout in training.

    Examples
    --------
    >>> import torch
    >>> from bptt_fast.torch import RNN
    >>> rnn = RNN(3, 8, batch_first=True)
    >>> y, h = rnn(torch.zeros(2, 5, 3))
    >>> y.shape, h.shape
    (torch.Size([2, 5, 8]), torch.Size([1, 2, 8]))
    """

    cell = "elman"


class GRU(_CoreLayers, nn.GRU):
    """``torch.nn.GRU`` with this package's kernels; see `RNN`.

    Parameters
    ----------
    *args, **kwargs
        See ``torch.nn.GRU``.

    Examples
    --------
    >>> import torch
    >>> from bptt_fast.torch import GRU
    >>> y, h = GRU(3, 8, bidirectional=True)(torch.zeros(5, 2, 3))
    >>> y.shape, h.shape
    (torch.Size([5, 2, 16]), torch.Size([2, 2, 8]))
    """

    cell = "gru"


class LSTM(_CoreLayers, nn.LSTM):
    """``torch.nn.LSTM`` with this package's kernels; see `RNN`.

    Parameters
    ----------
    *args, **kwargs
        See ``torch.nn.LSTM``.

    Examples
    --------
    >>> import torch
    >>> from bptt_fast.torch import LSTM
    >>> y, (h, c) = LSTM(3, 8, proj_size=4)(torch.zeros(5, 2, 3))
    >>> y.shape, h.shape, c.shape
    (torch.Size([5, 2, 4]), torch.Size([1, 2, 4]), torch.Size([1, 2, 8]))
    """

    cell = "lstm"


@suggesting
class RNNCell(_CoreCell, nn.RNNCell):
    """``torch.nn.RNNCell`` with this package's kernels: the same constructor, parameters, call and results.

    One step of `RNN`, for code with a loop over time of its own.  Most of the time is that of the call, and
    ``torch.nn.RNNCell`` takes less of it; `RNN`, called with all steps, is faster than both.  What is left to
    PyTorch is as for `RNN`.  The backward pass computes the step again, so that calls keep only their inputs.

    Parameters
    ----------
    input_size, hidden_size, bias, nonlinearity, device, dtype
        As in ``torch.nn.RNNCell``.

    Examples
    --------
    >>> import torch
    >>> from bptt_fast.torch import RNNCell
    >>> cell, h = RNNCell(3, 8), torch.zeros(2, 8)
    >>> for x in torch.zeros(5, 2, 3):
    ...     h = cell(x, h)
    >>> h.shape
    torch.Size([2, 8])
    """

    cell = "elman"


@suggesting
class GRUCell(_CoreCell, nn.GRUCell):
    """``torch.nn.GRUCell`` with this package's kernels; see `RNNCell`.

    Parameters
    ----------
    input_size, hidden_size, bias, device, dtype
        As in ``torch.nn.GRUCell``.

    Examples
    --------
    >>> import torch
    >>> from bptt_fast.torch import GRUCell
    >>> GRUCell(3, 8)(torch.zeros(2, 3)).shape
    torch.Size([2, 8])
    """

    cell = "gru"


@suggesting
class LSTMCell(_CoreCell, nn.LSTMCell):
    """``torch.nn.LSTMCell`` with this package's kernels; see `RNNCell`.

    Parameters
    ----------
    input_size, hidden_size, bias, device, dtype
        As in ``torch.nn.LSTMCell``.

    Examples
    --------
    >>> import torch
    >>> from bptt_fast.torch import LSTMCell
    >>> h, c = LSTMCell(3, 8)(torch.zeros(2, 3))
    >>> h.shape, c.shape
    (torch.Size([2, 8]), torch.Size([2, 8]))
    """

    cell = "lstm"


class _OwnModule(_CoreLayers):
    """Base of the modules of cells that PyTorch lacks."""

    def _shapes(self: Any) -> list[tuple[int, ...]]:
        return list(self.shapes().values())

    def _noise(self: Any) -> float:
        return float(self.description.recurrent_noise)

    def _by_pytorch(
        self: Any, x: Tensor, sizes: Any, hx: Any, weights: list[Tensor], batch_first: bool
    ) -> Any:
        if sizes is not None:
            return self.unfold(x, sizes.tolist(), hx, weights)
        x = x.transpose(0, 1) if batch_first else x
        steps, batch, _ = x.shape
        y, h = self.unfold(x.reshape(steps * batch, -1), [batch] * steps, hx, weights)
        y = y.view(steps, batch, -1)
        return (y.transpose(0, 1) if batch_first else y), h


@suggesting
class MinGRU(_OwnModule, torch_cells.MinGRU):
    """The cell "mingru" as a module with this package's kernels, called like `RNN`.

    Parameters
    ----------
    input_size, hidden_size, num_layers
        As in ``torch.nn.RNN``; there is always a bias.
    batch_first, dropout, bidirectional, device, dtype
        As in ``torch.nn.RNN``.

    Examples
    --------
    >>> import torch
    >>> from bptt_fast.torch import MinGRU
    >>> y, h = MinGRU(3, 8, batch_first=True)(torch.zeros(2, 5, 3))
    >>> y.shape, h.shape
    (torch.Size([2, 5, 8]), torch.Size([1, 2, 8]))
    """


@suggesting
class MinLSTM(_OwnModule, torch_cells.MinLSTM):
    """The cell "minlstm" as a module with this package's kernels, called like `RNN`.

    Parameters
    ----------
    input_size, hidden_size, num_layers, batch_first, dropout, bidirectional, device, dtype
        As in `MinGRU`.
    """


@suggesting
class IndRNN(_OwnModule, torch_cells.IndRNN):
    """The cell "indrnn" as a module with this package's kernels, called like `RNN`.

    Parameters
    ----------
    input_size, hidden_size, num_layers, batch_first, dropout, bidirectional, device, dtype
        As in `MinGRU`.
    nonlinearity : str, default "tanh"
        A nonlinearity of ``Network``.
    """


@suggesting
class CTRNN(_OwnModule, torch_cells.CTRNN):
    """The cell "ctrnn", a continuous-time rate network, as a module with this package's kernels.

    Called like `RNN`.  The final states of equation "potential" are potentials, the outputs rates.  The noise
    in training depends on ``torch.manual_seed``.

    Parameters
    ----------
    input_size, hidden_size, num_layers, batch_first, dropout, bidirectional, device, dtype
        As in `MinGRU`.
    nonlinearity, equation, tau, dt, recurrent_noise, noise
        As in ``Network``.

    Examples
    --------
    >>> import torch
    >>> from bptt_fast.torch import CTRNN
    >>> rnn = CTRNN(3, 8, nonlinearity="relu", tau=100, dt=10, recurrent_noise=0.05)
    >>> rnn(torch.zeros(5, 2, 3))[0].shape
    torch.Size([5, 2, 8])
    """


@suggesting
def plain(module: nn.Module) -> nn.Module:
    """Replace this package's RNN, GRU, LSTM and their cells of one step in a module by PyTorch's own.

    The other cells become modules in PyTorch's operations, without kernels of this package.  Tools that
    recognise modules by their exact type, such as ``torch.ao.quantization``, need it.

    Parameters
    ----------
    module : nn.Module
        The module, which is not changed.

    Returns
    -------
    module : nn.Module
        A copy that shares its parameters and buffers.

    Raises
    ------
    ConfigError
        If one of the modules to be replaced is parametrized.

    Examples
    --------
    >>> import torch
    >>> from bptt_fast.torch import GRU, plain
    >>> model = torch.nn.ModuleDict({"rnn": GRU(3, 8), "fc": torch.nn.Linear(8, 2)})
    >>> type(plain(model)["rnn"]) is torch.nn.GRU
    True
    """
    if not isinstance(module, nn.Module):
        raise ConfigError(f"plain: expected a torch.nn.Module, got a {type(module).__name__}.")
    if any(isinstance(part, _CoreModule) and is_parametrized(part) for part in module.modules()):
        raise ConfigError(
            "plain: expected modules without parametrizations, got one with.  Call "
            "torch.nn.utils.parametrize.remove_parametrizations first."
        )
    shared = {id(tensor): tensor for tensor in (*module.parameters(), *module.buffers())}
    twin = copy.deepcopy(module, shared)
    for part in twin.modules():
        if isinstance(part, _CoreModule):
            part.__dict__.pop("_pool", None)
            part.__class__ = _plain(type(part))
    return twin


class Acceleration(NamedTuple):
    """What `accelerate` did, by the names of the modules.

    Attributes
    ----------
    swapped : dict of str to str
        The class of each module that runs this package's kernels now.
    kept : dict of str to str
        Why each of the other recurrent modules does not.
    """

    swapped: dict[str, str]
    kept: dict[str, str]

    def __repr__(self) -> str:
        rows = [f"swapped  {name or '(the module)'}: {kind}" for name, kind in self.swapped.items()]
        rows += [f"kept     {name or '(the module)'}: {reason}" for name, reason in self.kept.items()]
        return "\n".join(rows or ["no recurrent module"])


@suggesting
def accelerate(module: nn.Module) -> Acceleration:
    """Replace all ``torch.nn.RNN``, ``GRU`` and ``LSTM`` of a module by `RNN`, `GRU` and `LSTM`, in place.

    Each one stays the same object of another class: parameters, buffers, hooks and the training flag stay,
    and so do optimisers that have its parameters and places that share it.  `plain` undoes it.

    Parameters
    ----------
    module : nn.Module
        A recurrent module, or a model that contains some at any depth.

    Returns
    -------
    report : Acceleration
        Which modules were swapped, and why the other recurrent ones were not: cells of one step, for which
        PyTorch's calls take less time; subclasses, parametrized and compiled modules, which may compute
        something else; other devices and dtypes.

    Raises
    ------
    ConfigError
        If `module` is not a module.

    Examples
    --------
    >>> import torch, bptt_fast as bf
    >>> model = torch.nn.ModuleDict({"encoder": torch.nn.LSTM(3, 8), "cell": torch.nn.GRUCell(8, 8)})
    >>> bf.torch.accelerate(model)
    swapped  encoder: LSTM
    kept     cell: a cell of one step, which PyTorch computes in less time
    """
    if not isinstance(module, nn.Module):
        raise ConfigError(f"accelerate: expected a torch.nn.Module, got a {type(module).__name__}.")
    report = Acceleration({}, {})
    compiled: list[str] = []  # beginnings of the names of their parts
    for name, part in module.named_modules():
        if hasattr(part, "_orig_mod") or part._compiled_call_impl is not None:
            compiled.append(f"{name}." if name else "")
        kind = getattr(part, "original_name", type(part).__name__)  # that of a scripted module
        if not isinstance(part, (nn.RNNBase, nn.RNNCellBase, torch_cells.Layers)) and kind not in RECURRENT:
            continue
        if f"{name}.".startswith(tuple(compiled)):
            reason = "compiled by torch.compile, which generates its own code"
        else:
            reason = _obstacle(part)
        if reason:
            report.kept[name] = reason
        else:
            part.__class__ = KERNELS[type(part)]
            report.swapped[name] = kind
    return report


def _obstacle(part: Any) -> str:
    """Why a recurrent module does not get the kernels; "" if it does."""
    kind = type(part).__name__
    if isinstance(part, _CoreModule):
        return "has the kernels of bptt_fast already"
    if type(part) in (nn.RNNCell, nn.GRUCell, nn.LSTMCell):
        return "a cell of one step, which PyTorch computes in less time"
    if isinstance(part, torch.jit.ScriptModule):
        return "compiled by torch.jit; accelerate the model before"
    if is_parametrized(part):
        return "parametrized; accelerate the model before"
    if type(part) not in KERNELS:
        return f"a {type(part).__module__}.{kind}, which may compute something else than torch.nn's"
    if "forward" in part.__dict__:
        return "its method forward has been replaced"
    for weight in (weight for layer in part.all_weights for weight in layer):
        if type(weight) not in PLAIN:
            return f"its parameters are of the class {type(weight).__name__}"
        if not weight.is_cpu:
            return f"its parameters are on the device {weight.device}; the kernels are for the CPU"
        if weight.dtype not in DTYPES:
            return f"its parameters are of {weight.dtype}; the kernels are for float32 and float64"
    if part.num_layers > MAX_LAYERS:
        return f"it has {part.num_layers} layers; the kernels are for at most {MAX_LAYERS}"
    return "its dropout is 1" if part.dropout == 1 and part.num_layers > 1 else ""


MODULES: dict[str, Any] = {
    "elman": RNN,
    "gru": GRU,
    "lstm": LSTM,
    **{cls.cell: cls for cls in (MinGRU, MinLSTM, IndRNN, CTRNN)},
}
KERNELS = {_plain(kind): kind for kind in MODULES.values()}
RECURRENT = {kind + end for kind in ("RNN", "GRU", "LSTM") for end in ("", "Cell")}
LAYERS = {
    "tanh": nn.Tanh,
    "relu": nn.ReLU,
    "sigmoid": nn.Sigmoid,
    "leaky_relu": nn.LeakyReLU,
    "softplus": nn.Softplus,
}


class Model(nn.Module):
    """A network as a PyTorch module: `rnn`, one of the modules above, then `head`, linear layers.

    The inputs that are integers become one-hot vectors before `rnn`, or rows of the modules ``nn.Embedding``
    in `embedding`, by the column of x.

    ``Network.to_torch`` creates it, `from_torch` converts it back.

    Parameters
    ----------
    rnn : RNN, GRU, LSTM, MinGRU, MinLSTM, IndRNN or CTRNN
        The recurrent module, with batch_first=True.
    head : nn.Sequential
        Linear layers with nonlinearities between them.
    readout : {"last", "every"}
        The state that `head` reads: that after the last step (for a reversed direction after the first), or
        after every step.
    initial : tuple of Tensor, optional
        Trained states before the first step, h and for an LSTM c, each (layers * directions, width).
    scaling : Scaling, optional
        Scaling of inputs and outputs, see ``Network.fit``; its means and scales are buffers, which stay
        float64, as does the scaling's arithmetic, when ``half``, ``float`` or ``to`` convert the parameters.
    skip : bool, default False
        Whether `head` reads the state and the input of the same step, concatenated.
    categories : sequence of int or (int, int), optional
        Numbers of values of the last inputs, which are integers; with an embedding also its width.

    Examples
    --------
    >>> import torch, bptt_fast as bf
    >>> model = bf.Network(3, 8, 2, cell="gru", seed=0).to_torch()
    >>> model(torch.zeros(4, 10, 3)).shape
    torch.Size([4, 2])
    """

    def __init__(
        self,
        rnn: Any,
        head: nn.Sequential,
        readout: Readout,
        initial: tuple[Tensor, ...] | None = None,
        scaling: Scaling | None = None,
        skip: bool = False,
        categories: Sequence[Category] = (),
    ) -> None:
        super().__init__()
        self.rnn, self.head, self.readout = rnn, head, choice(readout, "readout", get_args(Readout))
        self.skip, self.categories = flag(skip, "skip"), tuple(categories)
        first = rnn.input_size - sum(map(_encoded_width, self.categories))
        self.embedding = nn.ModuleDict(
            {
                str(column): nn.Embedding(*size, dtype=rnn.all_weights[0][0].dtype)
                for column, size in enumerate(self.categories, first)
                if isinstance(size, tuple)
            }
        )
        self.initial = None if initial is None else nn.ParameterList(initial)
        for field in fields(Scaling):
            numbers = getattr(scaling, field.name, None)
            buffer = None if numbers is None else torch.tensor(numbers, dtype=torch.float64)
            self.register_buffer(field.name, buffer)

    def _apply(self, fn: Any, recurse: bool = True) -> Model:
        exact = {field.name: getattr(self, field.name) for field in fields(Scaling)}
        super()._apply(fn, recurse)
        for name, numbers in exact.items():
            if numbers is not None and getattr(self, name).dtype != numbers.dtype:
                setattr(self, name, numbers.to(getattr(self, name).device))
        return self

    def forward(self, x: Any, hx: Any = None) -> Tensor:
        """Compute the outputs of a batch.

        Parameters
        ----------
        x : Tensor (B, T, I) or PackedSequence
            Inputs of the parameters' dtype; with a scaling or categories of any dtype, float64 for values
            that need more digits than float32 has.
        hx : Tensor, or tuple of two, optional
            The initial state, as for `rnn`; default: zeros, or the trained one.

        Returns
        -------
        y : Tensor (B, O), or with the readout "every" (B, T, O)
            Outputs, padded for a PackedSequence with the readout "every".  The dtype is the parameters', or
            float64 if outputs are scaled, as in ``Network.predict``.

        Raises
        ------
        ConfigError
            If an input is none of the values of its category; not in a graph that is traced or compiled.
        """
        if self.input_mean is not None or self.categories:
            x = x._replace(data=self._encoded(x.data)) if isinstance(x, PackedSequence) else self._encoded(x)
        if hx is None and self.initial is not None:
            batch = int(x.batch_sizes[0]) if isinstance(x, PackedSequence) else len(x)
            states = tuple(h.unsqueeze(1).expand(-1, batch, -1) for h in self.initial)
            hx = states if len(states) > 1 else states[0]
        y, ends = self.rnn(x, hx)
        if self.readout == "last":
            h = ends[0] if isinstance(ends, tuple) else ends
            h = self.rnn.rates(h) if isinstance(self.rnn, torch_cells.Layers) else h
            y = torch.cat(tuple(h[-1 - self.rnn.bidirectional :]), 1)
        elif isinstance(y, PackedSequence):
            y = pad_packed_sequence(y, batch_first=True)[0]
        if self.skip:
            y = torch.cat((y, self._read(x)), -1)
        y = self.head(y)
        return y if self.output_mean is None else y.double() * self.output_scale + self.output_mean

    def _read(self, x: Any) -> Tensor:
        """The inputs that `head` reads: of every step, or of the last one."""
        if not isinstance(x, PackedSequence):
            return x if self.readout == "every" else x[:, -1]
        x, lengths = pad_packed_sequence(x, batch_first=True)
        return x if self.readout == "every" else x[torch.arange(len(x)), lengths - 1]

    def _encoded(self, x: Tensor) -> Tensor:
        """The inputs (..., I) as `rnn` reads them: numbers, scaled, then a vector for each integer."""
        weight = getattr(self.rnn, "weight_ih_l0", None)  # a quantized module has none, and expects float32
        dtype = torch.float32 if weight is None else weight.dtype
        first = x.shape[-1] - len(self.categories)
        codes = x[..., first:]
        if self.input_mean is not None:
            x = (x.double() - self.input_mean) / self.input_scale
        if not (torch.jit.is_tracing() or torch.compiler.is_compiling()):
            self._check(codes)
        parts = [x[..., :first].to(dtype)]
        for i, size in enumerate(self.categories):
            values = codes[..., i].long()
            if isinstance(size, tuple):
                parts.append(self.embedding[str(first + i)](values).to(dtype))
            else:
                parts.append(nn.functional.one_hot(values, size).to(dtype))
        return torch.cat(parts, -1)

    def _check(self, codes: Tensor) -> None:
        for i, category in enumerate(self.categories):
            size = category[0] if isinstance(category, tuple) else category
            values = codes[..., i]
            wrong = values[~((values >= 0) & (values < size) & (values == values.floor()))]
            if len(wrong):
                raise ConfigError(
                    f"x: expected integers from 0 to {size - 1} in column {i - len(self.categories)}, got "
                    f"{wrong[0].item():g}."
                )


def _encoded_width(size: Category) -> int:
    """The width of the vector of an integer."""
    return size[1] if isinstance(size, tuple) else size


def to_torch(net: model.Model) -> Model:
    """Convert a network to a module; ``Network.to_torch`` documents it."""
    d = net.description
    unknown = {
        f'cell="{d.cell}"': d.cell not in MODULES,
        'reset="before"': d.reset == "before",
        "peephole=True": d.peephole,
        "train_tau=True": d.train_tau,
        f"recurrent_dropout={d.recurrent_dropout:g}": d.recurrent_dropout,
        f"input_noise={d.input_noise:g}": d.input_noise,
        f"rate_penalty={d.rate_penalty:g}": d.rate_penalty,
    }
    if any(unknown.values()):
        raise ConfigError(
            f"to_torch: expected a network that a module of bptt_fast.torch can represent, got "
            f"{', '.join(text for text, holds in unknown.items() if holds)}.  Use Network.to_onnx."
        )
    own = issubclass(MODULES[d.cell], torch_cells.Layers)
    if d.nonlinearity and not own and d.nonlinearity[0] not in ("tanh", "relu"):
        raise ConfigError(
            f'to_torch: expected nonlinearity "tanh" or "relu", which torch.nn.RNN has, got '
            f'"{d.nonlinearity[0]}".  Use Network.to_onnx.'
        )
    if d.head and d.head_nonlinearity not in (*LAYERS, "linear"):
        raise ConfigError(
            f"to_torch: expected a head_nonlinearity that PyTorch has ({', '.join(LAYERS)}), got "
            f'"{d.head_nonlinearity}".  Use Network.to_onnx.'
        )
    options: dict[str, Any] = {"batch_first": True, "bidirectional": d.bidirectional, "dropout": d.dropout}
    options["dtype"] = next(dtype for dtype, name in DTYPES.items() if name == d.dtype)
    if d.nonlinearity:
        options["nonlinearity"] = d.nonlinearity[0]
    if d.proj_size:
        options["proj_size"] = d.proj_size
    if CELLS[d.cell]["leak"]:
        options |= {name: getattr(d, name) for name in RATE_OPTIONS}
    rnn: Any = MODULES[d.cell](net["weight_ih_l0"].shape[1], d.hidden_size, d.num_layers, **options)
    inner = [] if d.head_nonlinearity not in LAYERS else [LAYERS[d.head_nonlinearity]]
    sizes = (_output_size(rnn) + d.skip * rnn.input_size, *d.head, d.output_size)
    layers: list[nn.Module] = []
    for size, width in pairwise(sizes):
        layers += [*(make() for make in inner if layers), nn.Linear(size, width, dtype=options["dtype"])]
    initial = None
    if d.initial_state == "trained":
        initial = tuple(
            torch.stack([torch.tensor(net[name]) for name in net.state_dict() if name.startswith(kind)])
            for kind in ("initial_h", "initial_c")[: len(_widths(rnn))]
        )
    categories = [size for _, size in d.categories]
    model = Model(rnn, nn.Sequential(*layers), d.readout, initial, net.scaling, d.skip, categories)
    with torch.no_grad():
        for name, tensor in model.embedding.named_parameters():
            tensor.copy_(torch.tensor(net[f"embedding.{name}"]))
        for name, tensor in rnn.named_parameters():
            tensor.copy_(torch.tensor(net[name]))
        for i, layer in enumerate(part for part in model.head if isinstance(part, nn.Linear)):
            layer.weight.copy_(torch.tensor(net[f"head.{i}.weight"]))
            layer.bias.copy_(torch.tensor(net[f"head.{i}.bias"]))
    return model


def from_torch(
    module: nn.Module,
    head: nn.Module | None = None,
    *,
    embedding: Any = None,
    readout: Readout = "every",
    skip: bool = False,
) -> Any:
    """Convert a module to a network; ``bptt_fast.from_torch`` documents it."""
    initial = scaling = None
    several = isinstance(embedding, Iterable) and not isinstance(embedding, nn.Module)
    tables = list(embedding) if several else [] if embedding is None else [embedding]
    categories: tuple[Category, ...] = tuple(map(_category, tables))
    if isinstance(module, Model):
        if tables:
            raise ConfigError(
                "from_torch: expected no embedding for a Model, which has its own, got one.  Leave it out."
            )
        categories, tables = module.categories, list(module.embedding.values())
        buffers = {field.name: getattr(module, field.name) for field in fields(Scaling)}
        if module.input_mean is not None:
            scaling = Scaling(**{name: a if a is None else a.tolist() for name, a in buffers.items()})
        if head is not None:
            raise ConfigError(
                "from_torch: expected no head for a Model, which has its own, got one.  Leave it out."
            )
        readout, skip = module.readout, module.skip
        module, head, initial = module.rnn, module.head, module.initial
    own = isinstance(module, torch_cells.Layers)
    if not isinstance(module, (nn.RNN, nn.GRU, nn.LSTM, torch_cells.Layers)):
        raise ConfigError(
            f"from_torch: expected a torch.nn.RNN, GRU or LSTM, or a module of bptt_fast.torch, got a "
            f"{type(module).__name__}.  "
            f"For a larger module pass its parts: from_torch(model.rnn, model.head)."
        )
    first = module.all_weights[0][0]
    if first.dtype not in DTYPES:
        raise ConfigError(
            f"from_torch: expected parameters of float32 or float64, got {first.dtype}.  Try module.float()."
        )
    width = (module.proj_size or module.hidden_size) * (1 + module.bidirectional)
    width += flag(skip, "skip") * module.input_size
    linear, nonlinearity = _head_layers(head)
    sizes = [layer.out_features for layer in linear] or [width]
    cell: Any = module.cell if own else module.mode.lower() if module.mode in ("GRU", "LSTM") else "elman"
    rates: dict[str, Any] = {}
    if cell == "ctrnn":
        description = Description.restored(vars(module.description))
        rates = {name: getattr(description, name) for name in RATE_OPTIONS}
    numbers = module.input_size - sum(map(_encoded_width, categories))
    if numbers < 0:
        raise ConfigError(
            f"from_torch: expected embeddings of at most {module.input_size} columns together (input_size), "
            f"got {module.input_size - numbers}."
        )
    net = model.Model.public(
        numbers + len(categories),
        module.hidden_size,
        sizes[-1],
        categories=dict(enumerate(categories, numbers)),
        cell=cell,
        nonlinearity=module.nonlinearity if CELLS[cell]["activation"] else None,
        head=tuple(sizes[:-1]),
        head_nonlinearity=nonlinearity,
        skip=skip,
        readout=readout,
        num_layers=module.num_layers,
        bidirectional=module.bidirectional,
        proj_size=module.proj_size,
        dropout=module.dropout if module.num_layers > 1 else 0.0,
        initial_state="zeros" if initial is None else "trained",
        dtype=DTYPES[first.dtype],
        seed=0,
        **rates,
    )
    net.load_state_dict(_parameters(net, module, tables, linear, initial))
    net.scaling = scaling
    return net


def _parameters(
    net: model.Model, module: Any, tables: Sequence[Any], linear: Sequence[Any], initial: Any
) -> dict[str, Any]:
    """The parameters of the modules by name; without linear layers g is the identity."""
    parameters = {name: tensor.numpy(force=True) for name, tensor in module.named_parameters()}
    for column, table in zip(net.description.embeddings, tables, strict=True):
        parameters[f"embedding.{column}.weight"] = table.weight.numpy(force=True)
    if not module.bias:
        parameters |= {name: 0 * net[name] for name in net.state_dict() if name.startswith("bias_")}
    for i, layer in enumerate(linear):
        bias = np.zeros(layer.out_features) if layer.bias is None else layer.bias.numpy(force=True)
        parameters |= {f"head.{i}.weight": layer.weight.numpy(force=True), f"head.{i}.bias": bias}
    if not linear:
        parameters |= {"head.0.weight": np.eye(net.output_size), "head.0.bias": np.zeros(net.output_size)}
    for kind, tensor in zip(("initial_h", "initial_c"), initial or (), strict=False):
        names = (name for name in net.state_dict() if name.startswith(kind))
        parameters |= dict(zip(names, tensor.numpy(force=True), strict=True))
    return parameters


def _category(table: Any) -> tuple[int, int]:
    """The number of values and the width of an embedding."""
    if not isinstance(table, nn.Embedding) or table.max_norm is not None:
        got = type(table).__name__ if not isinstance(table, nn.Embedding) else f"max_norm={table.max_norm:g}"
        raise ConfigError(f"from_torch: expected embeddings torch.nn.Embedding without max_norm, got {got}.")
    return table.num_embeddings, table.embedding_dim


def _nonlinearity(part: nn.Module) -> Any:
    """The name of a module of PyTorch in this package, or ""."""
    for name, kind in LAYERS.items():
        default = kind()
        numbers = [n for n in ("negative_slope", "beta", "threshold") if hasattr(default, n)]
        if type(part) is kind and all(getattr(part, n) == getattr(default, n) for n in numbers):
            return name
    return ""


def _head_layers(head: nn.Module | None) -> tuple[list[nn.Linear], Any]:
    """The linear layers of a readout, and the nonlinearity between them."""
    parts = [] if head is None else list(head) if isinstance(head, nn.Sequential) else [head]
    parts = [part for part in parts if not isinstance(part, (nn.Dropout, nn.Identity))]
    kinds = {_nonlinearity(part) for part in parts if not isinstance(part, nn.Linear)}
    linear = [part for part in parts if isinstance(part, nn.Linear)]
    between = [isinstance(part, nn.Linear) for part in parts[::2]]
    if "" in kinds or len(kinds) > 1 or (kinds and (not all(between) or len(parts) != 2 * len(linear) - 1)):
        got = ", ".join("Linear" if isinstance(part, nn.Linear) else str(part) for part in parts)
        raise ConfigError(
            f"from_torch: expected a head of linear layers with one kind of nonlinearity "
            f"({', '.join(LAYERS)}, with PyTorch's defaults) between them, got {got}.  Keep "
            f"further layers in PyTorch."
        )
    return linear, kinds.pop() if kinds else "linear" if len(linear) > 1 else "tanh"  # the default, unused
