"""Conversions to and from ONNX and PyTorch, which are imported on first use."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .choices import Readout
from .errors import suggesting
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
        If the file cannot be written; an existing file is unchanged.

    Notes
    -----
    Inputs: "x" (batch, steps, I), and the initial states "h0", for an LSTM also "c0", (layers * directions,
    batch, width) in PyTorch's order.  The initial states are optional; their defaults are the network's,
    zeros or trained, and (layers * directions, 1, width) applies to all sequences.  Outputs: "y" (batch, O)
    or (batch, steps, O) by the network's readout, and the final states "hn", "cn", of the shape of "h0".  The
    numbers of sequences and steps are free.

    `scaling` is part of the graph, computed in float64.  All inputs and outputs have the network's dtype,
    except that "x" of a float32 network is float64 if float32 has too few digits for the unscaled inputs (if
    the spacing of float32 numbers at mean + scale is above 1e-4 of the scale, as at 1e8 with deviation 1),
    and "y" likewise; ``session.get_inputs()[0].type`` is the dtype.

    The layers are nodes RNN, GRU or LSTM of operator set 14.  The cell "mlp",
    projections and float64, which these operators or their kernels in onnxruntime lack, become a node Scan.
    Dropout is not in the graph.  onnxruntime prints a harmless warning about optional inputs.

    Integers (`categories`) are columns of "x", rounded towards zero; if all inputs are integers, "x" is
    int64.  The graph, unlike `predict`, accepts integers out of their range, as vectors of zeros; those of
    embeddings are errors of the runtime.

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


@suggesting
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
        I).  A network written by `Network.to_onnx` is read equal to the bit.

    Raises
    ------
    ConfigError
        If the graph has a node that a Network cannot represent (the message names it), or asks for sizes that
        its weights do not explain, or `path` is not a path.
    CorruptFileError
        If the file is truncated, damaged or not an ONNX file.
    ImportError
        If onnx is not installed.
    OSError
        If there is no such file or it may not be read.

    Notes
    -----
    The graph may have nodes RNN, GRU or LSTM, all of the same kind and stacked, then MatMul, Gemm, Add, Tanh,
    Relu and Sigmoid; between them nodes that only move numbers, such as Transpose or Gather.

    - A Concat of the outputs of the last layer and of the inputs of the same steps becomes ``skip=True``.
    - Inputs that are integers, read by OneHot or by Gather of a constant's rows, become `categories`, the
      constant an embedding; a column of integers may be an input of its own, (batch, steps) or (steps,
      batch).  They follow those that are numbers.
    - Without a product after the recurrent layers g is the identity: the outputs are the states h, of both
      directions concatenated.
    - Sub and Div of the inputs, Mul and Add after the last product, by constants, become the `scaling`; Casts
      between float32 and float64 are allowed anywhere.
    - The readout is "every" if the first output has the outputs of all steps.  If it has those of the last
      step, the readout is "last", (n, O), without the graph's axes of length one.  A graph with
      a fixed length of one step has the readout "every" if its output has the axis of steps, else "last".
    - Initial states that are inputs of the graph are `x0` of `Network.predict`, zeros by
      default; nonzero constants become ``initial_state="trained"``.
    - Lengths of the sequences (`sequence_lens`) have no input of their own here: pass a list of
      sequences or `lengths` to `predict`.

    ONNX operator schemas, https://onnx.ai/onnx/operators.

    Examples
    --------
    >>> import bptt_fast as bf
    >>> net = bf.from_onnx("model.onnx")  # doctest: +SKIP
    """
    from . import onnx

    return onnx.read(path)


def to_torch(net: Model) -> TorchModel:
    """Convert the network to a PyTorch module with a copy of its parameters (extra "torch").

    Returns
    -------
    model : bptt_fast.torch.Model
        A ``torch.nn.Module`` with the submodules `rnn`, a ``bptt_fast.torch.RNN``, `GRU`, `LSTM`, `MinGRU`,
        `MinLSTM`, `IndRNN` or `CTRNN`, and `head`.  Called with x (n, T, I) it returns the outputs of
        `predict`.  Its `scaling` is computed in float64 and accepts x of any dtype; scaled outputs are
        float64.  Integers (`categories`) become one-hot vectors before `rnn`, or rows of `embedding`.

    Raises
    ------
    ConfigError
        If there is no such module: "mlp", reset "before", peepholes, trained time constants, recurrent
        dropout, input noise, a penalty of rates, and the nonlinearities of "elman" other than "tanh" and
        "relu".
    ImportError
        If PyTorch is not installed.

    Examples
    --------
    >>> import torch, bptt_fast as bf
    >>> bf.Network(3, 8, 2, cell="gru", seed=0).to_torch()(torch.zeros(4, 10, 3)).shape
    torch.Size([4, 2])
    """
    from . import torch

    return torch.to_torch(net)


@suggesting
def from_torch(
    module: Any, head: Any = None, *, embedding: Any = None, readout: Readout = "every", skip: bool = False
) -> Network:
    """Convert a recurrent PyTorch module to a network with a copy of its parameters (extra "torch").

    Parameters
    ----------
    module : torch.nn.RNN, torch.nn.GRU, torch.nn.LSTM, or a module of bptt_fast.torch
        The state function f.  For a larger module pass its parts: ``from_torch(model.rnn, model.fc)``.
    head : torch.nn.Linear or torch.nn.Sequential, optional
        The readout g: linear layers with one kind of nonlinearity between them.  None: the outputs are the
        states.
    embedding : torch.nn.Embedding, or sequence of them, optional
        What the last columns of x, which are integers, are looked up in: the module reads the other columns,
        then a row of each embedding.  The row of `padding_idx` is copied and, unlike in PyTorch, trained.
    readout : {"last", "every"}, default "every"
        The state that g reads.  "last" is the state after the last step, for a reversed direction that after
        the first: PyTorch's ``h_n[-1]``, not ``output[:, -1]``.  A Model has a readout of its own.
    skip : bool, default False
        Whether g reads the state and the input of the same step, concatenated: ``torch.cat((h, x), -1)``,
        with the rows of each `embedding`.  A Model knows it.

    Returns
    -------
    net : Network
        A network of the module's dtype that shares no memory with the module.

    Raises
    ------
    ConfigError
        If the module, the head or an embedding is of another type, or not float32 or float64.
    ImportError
        If PyTorch is not installed.

    Examples
    --------
    >>> import torch, bptt_fast as bf
    >>> net = bf.from_torch(torch.nn.GRU(3, 8), torch.nn.Linear(8, 2), readout="last")
    >>> net.cell, net.output_size
    ('gru', 2)
    """
    from . import torch

    return torch.from_torch(module, head, embedding=embedding, readout=readout, skip=skip)
