"""The cells of this package that PyTorch lacks, in PyTorch's operations: a loop over time for autograd.

`bptt_fast.torch` has the same modules with the kernels of the core, which fall back to these for second
derivatives, under torch.compile and on other devices.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.rnn import PackedSequence

from .choices import CoreCell, Equation, Noise, Nonlinearity
from .description import Description
from .errors import flag

PHI: dict[str, Callable[[Tensor], Tensor]] = {
    "tanh": torch.tanh,
    "relu": torch.relu,
    "sigmoid": torch.sigmoid,
    "leaky_relu": functional.leaky_relu,
    "softplus": functional.softplus,
    "retanh": lambda a: torch.relu(torch.tanh(a)),
    "linear": lambda a: a,
}


class Layers(nn.Module):
    """Stacked recurrent layers with the arguments, parameters, call and results of ``torch.nn.RNN``.

    Subclasses have the shapes of their `blocks` and one `step`.
    """

    cell: ClassVar[CoreCell]
    blocks: ClassVar[dict[str, Callable[[int, int], tuple[int, ...]]]]  # by the widths of input and state
    bias, proj_size = True, 0
    nonlinearity: Any = ""

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        *,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        self._build(locals())

    def _build(self, arguments: dict[str, Any]) -> None:
        """Check the arguments of a constructor, and create the parameters."""
        given = {name: value for name, value in arguments.items() if name not in ("self", "__class__")}
        device, dtype = given.pop("device"), given.pop("dtype")
        batch_first = flag(given.pop("batch_first"), "batch_first")
        super().__init__()
        self.description = d = Description(output_size=1, cell=self.cell, **given)
        self.input_size, self.hidden_size, self.num_layers = d.input_size, d.hidden_size, d.num_layers
        self.bidirectional, self.dropout, self.batch_first = d.bidirectional, d.dropout, batch_first
        self.mode = self.cell.upper()
        if d.nonlinearity:
            self.nonlinearity = d.nonlinearity[0]
        for name, shape in self.shapes().items():
            self.register_parameter(name, nn.Parameter(torch.empty(shape, device=device, dtype=dtype)))
        self.reset_parameters()

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shapes of the parameters by name."""
        directions = ("", "_reverse")[: 1 + self.bidirectional]
        widths = [self.input_size] + [self.hidden_size * len(directions)] * (self.num_layers - 1)
        return {
            f"{kind}_l{layer}{direction}": shape(width, self.hidden_size)
            for layer, width in enumerate(widths)
            for direction in directions
            for kind, shape in self.blocks.items()
        }

    def reset_parameters(self) -> None:
        """Draw initial parameters from +-1/sqrt(H), recurrent weights of "indrnn" from [0, 1)."""
        bound = 1 / math.sqrt(self.hidden_size)
        for name, parameter in self.named_parameters():
            low, high = (
                (0.0, 1.0) if name.startswith("weight_hh") and parameter.dim() == 1 else (-bound, bound)
            )
            nn.init.uniform_(parameter, low, high)

    @property
    def all_weights(self) -> list[list[Tensor]]:
        """The parameters of each layer and direction."""
        weights = list(self.parameters())
        each = len(self.blocks)
        return [weights[at : at + each] for at in range(0, len(weights), each)]

    def extra_repr(self) -> str:
        default = Description(1, 1, 1, cell=self.cell, num_layers=2, seed=0)
        names = (
            "nonlinearity",
            "equation",
            "tau",
            "dt",
            "recurrent_noise",
            "noise",
            "bidirectional",
            "dropout",
        )
        given = [(name, getattr(self.description, name)) for name in names]
        shown = [f"{name}={value}" for name, value in given if value != getattr(default, name)]
        return ", ".join([f"{self.input_size}, {self.hidden_size}, num_layers={self.num_layers}", *shown])

    def rates(self, h: Tensor) -> Tensor:
        """The output for a state."""
        return h

    def step(self, z: Tensor, h: Tensor, *weights: Tensor) -> Tensor:
        """The next state (B, H) for z = W_ih x + b_ih (B, G H); `weights` are the other blocks."""
        raise NotImplementedError

    def forward(self, input: Any, hx: Tensor | None = None) -> Any:
        """Compute outputs and final states.

        Parameters
        ----------
        input : Tensor (T, B, I), (B, T, I) with batch_first, (T, I), or PackedSequence
        hx : Tensor (layers * directions, B, H), optional
            Initial states; default zeros.

        Returns
        -------
        y : Tensor or PackedSequence
            Outputs after every step.
        h : Tensor (layers * directions, B, H)
            The states after the last step.
        """
        packed = isinstance(input, PackedSequence)
        x = input.data if packed else input
        if x.dim() not in ((2,) if packed else (2, 3)) or x.shape[-1] != self.input_size or not x.numel():
            raise RuntimeError(
                f"{type(self).__name__}: expected an input of 2 or 3 axes, the last of size "
                f"{self.input_size}, with at least one step, got {tuple(x.shape)}."
            )
        unbatched = not packed and x.dim() == 2
        if packed:
            sizes = input.batch_sizes.tolist()
        else:
            x = x.unsqueeze(1) if unbatched else x.transpose(0, 1) if self.batch_first else x
            steps, batch, _ = x.shape
            sizes, x = [batch] * steps, x.reshape(steps * batch, -1)
        count = self.num_layers * (1 + self.bidirectional)
        if hx is None:
            h = x.new_zeros(count, sizes[0], self.hidden_size)
        else:
            expected = (count, *(() if unbatched else (sizes[0],)), self.hidden_size)
            got = tuple(hx.shape) if isinstance(hx, Tensor) else type(hx).__name__
            if got != expected:
                raise RuntimeError(f"{type(self).__name__}: expected hx {expected}, got {got}.")
            h = hx.unsqueeze(1) if unbatched else hx
            if packed and input.sorted_indices is not None:
                h = h.index_select(1, input.sorted_indices)
        y, h = self.unfold(x, sizes, h, [weight for layer in self.all_weights for weight in layer])
        if packed:
            if input.unsorted_indices is not None:
                h = h.index_select(1, input.unsorted_indices)
            return PackedSequence(y, input.batch_sizes, input.sorted_indices, input.unsorted_indices), h
        y = y.view(steps, batch, -1)
        if unbatched:
            return y.squeeze(1), h.squeeze(1)
        return y.transpose(0, 1) if self.batch_first else y, h

    def unfold(
        self, x: Tensor, sizes: Sequence[int], states: Tensor, weights: Sequence[Tensor]
    ) -> tuple[Tensor, Tensor]:
        """Outputs (rows, D H) and final states of rows (rows, I), of which step t has sizes[t]."""
        each = len(self.blocks)
        ends: list[Tensor] = []
        for layer in range(self.num_layers):
            outputs = []
            for direction in range(1 + self.bidirectional):
                k = len(ends)
                y, h = self._direction(x, sizes, states[k], weights[k * each : (k + 1) * each], direction)
                outputs.append(y)
                ends.append(h)
            x = torch.cat(outputs, -1)
            if layer < self.num_layers - 1:
                x = functional.dropout(x, self.dropout, self.training)
        return x, torch.stack(ends)

    def _direction(
        self, x: Tensor, sizes: Sequence[int], h: Tensor, weights: Sequence[Tensor], backwards: int
    ) -> tuple[Tensor, Tensor]:
        named = dict(zip(self.blocks, weights, strict=True))
        z = functional.linear(x, named.pop("weight_ih"), named.pop("bias_ih")).split(list(sizes))
        outputs = []
        for t in reversed(range(len(z))) if backwards else range(len(z)):
            n = len(z[t])
            after = self.step(z[t], h[:n], *named.values())
            h = after if n == len(h) else torch.cat([after, h[n:]])
            outputs.append(self.rates(after))
        return torch.cat(outputs[::-1] if backwards else outputs), h


def _positive(v: Tensor) -> Tensor:
    """v + 1/2 where v >= 0, else the sigmoid of v."""
    return torch.where(v >= 0, v + 0.5, torch.sigmoid(v))


class MinGRU(Layers):
    cell = "mingru"
    blocks: ClassVar[Any] = {"weight_ih": lambda i, h: (2 * h, i), "bias_ih": lambda i, h: (2 * h,)}

    def step(self, z: Tensor, h: Tensor, *weights: Tensor) -> Tensor:
        gate, candidate = z.chunk(2, -1)
        return h + torch.sigmoid(gate) * (_positive(candidate) - h)


class MinLSTM(Layers):
    cell = "minlstm"
    blocks: ClassVar[Any] = {"weight_ih": lambda i, h: (3 * h, i), "bias_ih": lambda i, h: (3 * h,)}

    def step(self, z: Tensor, h: Tensor, *weights: Tensor) -> Tensor:
        f, i, candidate = z.chunk(3, -1)
        keep = torch.sigmoid(functional.logsigmoid(f) - functional.logsigmoid(i))  # f / (f + i)
        n = _positive(candidate)
        return n + keep * (h - n)


class IndRNN(Layers):
    cell = "indrnn"
    blocks: ClassVar[Any] = {
        "weight_ih": lambda i, h: (h, i),
        "weight_hh": lambda i, h: (h,),
        "bias_ih": lambda i, h: (h,),
    }

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        *,
        nonlinearity: Nonlinearity = "tanh",
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        self._build(locals())

    def step(self, z: Tensor, h: Tensor, *weights: Tensor) -> Tensor:
        return PHI[self.nonlinearity](z + h * weights[0])


class CTRNN(Layers):
    cell = "ctrnn"
    blocks: ClassVar[Any] = {
        "weight_ih": lambda i, h: (h, i),
        "weight_hh": lambda i, h: (h, h),
        "bias_ih": lambda i, h: (h,),
        "bias_hh": lambda i, h: (h,),
    }

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        *,
        nonlinearity: Nonlinearity = "tanh",
        equation: Equation = "rate",
        tau: Any = 10.0,
        dt: float = 1.0,
        recurrent_noise: float = 0.0,
        noise: Noise = "sde",
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        self._build(locals())

    def rates(self, h: Tensor) -> Tensor:
        return PHI[self.nonlinearity](h) if self.description.follows else h

    def step(self, z: Tensor, h: Tensor, *weights: Tensor) -> Tensor:
        d = self.description
        alpha = torch.as_tensor(d.dt / d.time_constants(None), dtype=h.dtype, device=h.device)
        a = z + functional.linear(self.rates(h), *weights)
        after = h + alpha * ((a if d.follows else PHI[self.nonlinearity](a)) - h)
        if self.training and d.recurrent_noise:
            factor = {"sde": torch.sqrt(2 * alpha), "step": torch.ones_like(alpha), "scaled": alpha}[d.noise]
            after = after + d.recurrent_noise * factor * torch.randn_like(after)
        return after
