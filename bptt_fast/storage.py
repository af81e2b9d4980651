"""Networks and learners in files: safetensors with a description as JSON and a checksum.  Never pickle."""

from __future__ import annotations

import json
import os
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import numpy as np

from .columns import UNKNOWN
from .errors import ConfigError
from .model import Model
from .writing import named, replace

if TYPE_CHECKING:
    from .online import Learner

Path = str | os.PathLike[str]

FORMAT = "bptt_fast 1"
LEARNER = FORMAT + " learner"  # the same, with a learner's values in "learner" and arrays under "learner.*"
PREFIX = "learner."


def save(model: Model | Learner, path: Path) -> None:
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

    net = model if isinstance(model, Model) else model.network
    metadata, tensors, learner = described(net), net.state_dict(), ""
    if not isinstance(model, Model):
        values, arrays = model.snapshot()
        learner = json.dumps(values)
        tensors |= {PREFIX + name: array for name, array in arrays.items()}
        metadata |= {"format": LEARNER, "learner": learner}
    columns = metadata.get("columns", "")
    metadata["sha256"] = digest(metadata["network"] + metadata["extra"] + learner + columns, tensors)
    replace(named(path), safetensors.numpy.save(tensors, metadata))


def described(net: Model) -> dict[str, str]:
    """What a file says of a network beside its parameters."""
    if not isinstance(net.extra, dict) or not all(
        isinstance(t, str) for pair in net.extra.items() for t in pair
    ):
        raise ConfigError(f"extra: expected a dict of str to str, got {net.extra!r}.")
    config = json.dumps(net.saved_config())
    found = {"format": FORMAT, "network": config, "extra": json.dumps(net.extra)}
    return found if net.columns == UNKNOWN else found | {"columns": json.dumps(net.columns.plain())}


def digest(description: str, tensors: dict[str, Any]) -> str:
    """Of the description and all other text, and of the names, types, shapes and bytes of the tensors."""
    found = sha256(description.encode())
    for name in sorted(tensors):
        tensor = np.ascontiguousarray(tensors[name])
        found.update(f"\n{name} {tensor.dtype} {tensor.shape}\n".encode())
        found.update(tensor.tobytes())
    return found.hexdigest()
