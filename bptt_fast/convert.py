"""To other libraries and back.  ONNX and PyTorch are imported when they are asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .model import Model
from .storage import Path

if TYPE_CHECKING:
    from .network import Network
    from .torch import Model as TorchModel


def to_onnx(net: Model, path: Path) -> None:
    """Write the network as an ONNX graph, for onnxruntime and others; ``bptt_fast.from_onnx`` reads it.

    Parameters
    ----------
    path : str or path-like
        The file, replaced if it exists.

    Raises
    ------
    ConfigError
        If `path` is not a path, or `extra` not a dict of str to str.
    ImportError
        If onnx is not installed.
    OSError
        If the file cannot be written; the old one is still there.

    Notes
    -----
    Inputs: "x" (batch, steps, I); "h0", for an LSTM also "c0" (layers * directions, batch, width), the
    initial states in PyTorch's order.  These may be left out: then they are the network's, zeros or
    trained, and (layers * directions, 1, width) stands for all sequences.  Outputs: "y" (batch, O) or
    (batch, steps, O) by the network's readout, and the final states "hn", "cn", of the form of "h0".
    Number of sequences and of steps are free.

    `scaling` is part of the graph, computed in float64.  All inputs and outputs have the network's dtype,
    but "x" of a float32 network is float64 if float32 has too few digits for the unscaled inputs (if its
    numbers of the size of mean + scale lie further apart than 1e-4 of the scale, as at 1e8 with deviation
    1), and "y" likewise; ``session.get_inputs()[0].type`` tells.

    The layers are nodes RNN, GRU or LSTM of operator set 14.  What these or their kernels in onnxruntime
    lack, the cell "mlp", projections and float64, is a node Scan.  Dropout is not in the graph.
    onnxruntime warns when it loads a graph with inputs that may be left out; it means no harm.

    Examples
    --------
    >>> import numpy as np, bptt_fast as bf
    >>> net = bf.Network(3, 8, 2, cell="gru", seed=0)
    >>> net.to_onnx("model.onnx")  # doctest: +SKIP
    >>> import onnxruntime  # doctest: +SKIP
    >>> session = onnxruntime.InferenceSession("model.onnx")  # doctest: +SKIP
    >>> session.run(["y"], {"x": np.ones((4, 10, 3), "float32")})[0].shape  # doctest: +SKIP
    (4, 2)
    """
    from . import onnx

    onnx.write(net, path)


def from_onnx(path: Path) -> Network:
    """Read a network from an ONNX file, of ``Network.to_onnx``, PyTorch or another writer.

    Parameters
    ----------
    path : str or path-like
        The file.

    Returns
    -------
    net : Network
        Its output is the first output of the graph, its input the graph's (batch, steps, I) or (steps, batch,
        I).  What `Network.to_onnx` wrote comes back equal to the bit.

    Raises
    ------
    ConfigError
        If the graph has anything that a Network has not; the text names the node.  Or if `path` is not a
        path.
    CorruptFileError
        If the file is truncated, damaged or not an ONNX file.
    ImportError
        If onnx is not installed.
    OSError
        If there is no such file or it may not be read.

    Notes
    -----
    The graph: nodes RNN, GRU or LSTM, all alike and each reading the one before, then MatMul, Gemm, Add,
    Tanh, Relu and Sigmoid; between them nodes that only move numbers, such as Transpose or Gather.

    - Without a product after the recurrent layers g is the identity: the outputs are the states h, those of
      both directions side by side.
    - Sub and Div of the inputs, Mul and Add after the last product, by constants, become the `scaling`; Casts
      between float32 and float64 may stand anywhere.
    - The readout is "every" if the first output has the outputs of all steps.  If it has those of the last
      step, the readout is "last", (n, O), without axes of length one that the graph keeps.  A graph that is
      fixed at one step has the readout "every" if its output has the axis of steps, else "last".
    - Initial states that are inputs of the graph are `x0` of `Network.predict`, and zeros where it is not
      given; constants that are not zero become ``initial_state="trained"``.
    - Lengths of the sequences (`sequence_lens`) need no input of their own here: hand `predict` a list of
      sequences, or `lengths`.

    ONNX operator schemas, https://onnx.ai/onnx/operators.

    Examples
    --------
    >>> import bptt_fast as bf
    >>> net = bf.from_onnx("model.onnx")  # doctest: +SKIP
    """
    from . import onnx

    return onnx.read(path)


def to_torch(net: Model) -> TorchModel:
    """The network as a module of PyTorch's, with a copy of its parameters (extra "torch").

    Returns
    -------
    model : bptt_fast.torch.Model
        A ``torch.nn.Module`` with the parts `rnn`, one of ``bptt_fast.torch.RNN``, `GRU` and `LSTM`, and
        `head`; called with x (n, T, I) it gives what `predict` gives.  Its `scaling` is computed in
        float64 and takes x of any dtype; scaled outputs are float64.

    Raises
    ------
    ConfigError
        If PyTorch has no such cell: "mlp", reset "before", peepholes, recurrent dropout, and the
        nonlinearities "sigmoid" and "linear" of "elman".
    ImportError
        Without PyTorch.

    Examples
    --------
    >>> import torch, bptt_fast as bf
    >>> bf.Network(3, 8, 2, cell="gru", seed=0).to_torch()(torch.zeros(4, 10, 3)).shape
    torch.Size([4, 2])
    """
    from . import torch

    return torch.to_torch(net)


def from_torch(module: Any, head: Any = None, *, readout: str = "every") -> Network:
    """A network with a copy of the parameters of a recurrent module of PyTorch's (extra "torch").

    Parameters
    ----------
    module : torch.nn.RNN, torch.nn.GRU, torch.nn.LSTM, or bptt_fast.torch.Model
        f.  Of a larger module pass its parts: ``from_torch(model.rnn, model.fc)``.
    head : torch.nn.Linear or torch.nn.Sequential, optional
        g: linear layers with nonlinearities of one kind between them.  Without it the outputs are the states.
    readout : {"last", "every"}, default "every"
        What g reads.  "last" is the state after the last step, in a reversed direction that after the first:
        in PyTorch's words ``h_n[-1]``, not ``output[:, -1]``.  A Model has its own.

    Returns
    -------
    net : Network
        Of the module's dtype.  Whatever is done to it leaves the module as it is.

    Raises
    ------
    ConfigError
        If the module or the head is none of these, or not of float32 or float64.
    ImportError
        Without PyTorch.

    Examples
    --------
    >>> import torch, bptt_fast as bf
    >>> net = bf.from_torch(torch.nn.GRU(3, 8), torch.nn.Linear(8, 2), readout="last")
    >>> net.cell, net.output_size
    ('gru', 2)
    """
    from . import torch

    return torch.from_torch(module, head, readout=readout)
