"""Networks and learners in files: safetensors with a description as JSON and a checksum.  Never pickle."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import numpy as np

from .columns import UNKNOWN, Columns
from .errors import ConfigError, CorruptFileError, integer
from .network import Network
from .writing import named, replace

if TYPE_CHECKING:
    from .online import Learner

    Path = str | os.PathLike[str]

FORMAT = "bptt_fast 1"
LEARNER = FORMAT + " learner"  # the same, with a learner's values in "learner" and arrays under "learner.*"
PREFIX = "learner."


def save(model: Network | Learner, path: Path) -> None:
    """Write a network to a file: description, names and scaling of columns, parameters; or a learner.

    The file is a safetensors file that any reader of that format can open.  It is written under another name
    in the same folder, flushed to the disk and then renamed, so that an interrupted save leaves what was
    there before.  A file that is replaced hands down its mode; a pipe or a device is written to.

    Parameters
    ----------
    model : Network or Learner
        What to save; of a learner its network too.
    path : str or path-like
        The file, replaced if it exists.

    Raises
    ------
    ConfigError
        If `path` is not a path, or ``net.extra`` not a dict of str to str.
    OSError
        If the file cannot be written; the old one is still there.
    """
    import safetensors.numpy

    net = model if isinstance(model, Network) else model.network
    metadata, tensors, learner = described(net), net.state_dict(), ""
    if not isinstance(model, Network):
        values, arrays = model.snapshot()
        learner = json.dumps(values)
        tensors |= {PREFIX + name: array for name, array in arrays.items()}
        metadata |= {"format": LEARNER, "learner": learner}
    columns = metadata.get("columns", "")
    metadata["sha256"] = _checksum(metadata["network"] + metadata["extra"] + learner + columns, tensors)
    replace(named(path), safetensors.numpy.save(tensors, metadata))


def load(path: Path) -> Any:
    """Read a network that ``Network.save`` wrote, or a learner that ``Learner.save`` wrote.

    Parameters
    ----------
    path : str or path-like
        The file.

    Returns
    -------
    model : Network or Learner
        With the description and the parameters of the network that was saved, equal to the bit.  A learner
        goes on where the one that was saved stood; its attribute ``network`` is the network.

    Raises
    ------
    CorruptFileError
        If the file is truncated, damaged (a checksum finds a single wrong bit), or not written by this
        package.
    ConfigError
        If `path` is not a path.
    OSError
        If there is no such file or it may not be read.

    Examples
    --------
    >>> import os, tempfile, bptt_fast as bf
    >>> net = bf.Network(1, 4, 1, seed=0)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     net.save(os.path.join(folder, "model.safetensors"))
    ...     again = bf.load(os.path.join(folder, "model.safetensors"))
    >>> bool((again.params == net.params).all())
    True
    """
    import safetensors
    import safetensors.numpy

    name = named(path)
    with open(name, "rb") as file:
        content = file.read()
    try:
        tensors = safetensors.numpy.load(content)
        header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
        metadata = header.get("__metadata__", {})
        kind, description, extra, learner, columns, checksum = (
            str(metadata.get(key, ""))
            for key in ("format", "network", "extra", "learner", "columns", "sha256")
        )
    except (safetensors.SafetensorError, ValueError, KeyError, TypeError, OverflowError) as error:
        raise CorruptFileError(
            f"{name}: expected a model file, got one that is truncated or damaged ({error}).  "
            f"Restore it from a copy."
        ) from error
    if kind not in (FORMAT, LEARNER):
        raise CorruptFileError(
            f"{name}: expected a model file of the format {FORMAT!r}, got {kind or 'none'!r}.  Was it "
            f"written by the save of this or an older version of bptt_fast?"
        )
    if checksum != _checksum(description + extra + learner + columns, tensors):
        raise CorruptFileError(
            f"{name}: expected the checksum {checksum[:16]}..., got another: the file is damaged.  Restore "
            f"it from a copy."
        )
    parts = {key: tensors.pop(key) for key in list(tensors) if key.startswith(PREFIX)}
    try:
        notes = json.loads(extra)
        net = Network.rebuilt(json.loads(description), tensors, notes, restored_columns(columns, notes))
        if kind == FORMAT:
            return net
        from .online import Learner

        arrays = {key.removeprefix(PREFIX): array for key, array in parts.items()}
        return Learner.restored(net, json.loads(learner), arrays)
    except (ConfigError, ValueError, TypeError, KeyError) as error:
        raise CorruptFileError(f"{name}: expected a model that this version knows, but {error}") from error


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


def described(net: Network) -> dict[str, str]:
    """What a file says of a network beside its parameters."""
    if not isinstance(net.extra, dict) or not all(
        isinstance(t, str) for pair in net.extra.items() for t in pair
    ):
        raise ConfigError(f"extra: expected a dict of str to str, got {net.extra!r}.")
    config = json.dumps(net.saved_config())
    found = {"format": FORMAT, "network": config, "extra": json.dumps(net.extra)}
    return found if net.columns == UNKNOWN else found | {"columns": json.dumps(net.columns.plain())}


def restored_columns(text: str, extra: Mapping[str, str]) -> Columns:
    """The columns that `described` wrote as `text`, beside the notes `extra`."""
    values = dict(json.loads(text or "{}"))
    if "lead" not in values:  # the command line kept it in a note before the format had a place for it
        with suppress(KeyError, TypeError, ValueError):
            values["lead"] = integer(json.loads(extra["train"])["lead"], "lead", 0)
    return Columns.restored(values)


def _checksum(description: str, tensors: dict[str, Any]) -> str:
    """Of the description and all other text, and of the names, types, shapes and bytes of the tensors."""
    found = sha256(description.encode())
    for name in sorted(tensors):
        tensor = np.ascontiguousarray(tensors[name])
        found.update(f"\n{name} {tensor.dtype} {tensor.shape}\n".encode())
        found.update(tensor.tobytes())
    return found.hexdigest()
