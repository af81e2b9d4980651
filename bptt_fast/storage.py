"""Files of networks, learners and backups: safetensors with JSON metadata and a checksum, no pickle."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import numpy as np

from .columns import UNKNOWN
from .errors import ConfigError, CorruptFileError
from .initialisation import digest_of
from .interrupts import pieces
from .model import Model
from .rules import saved
from .writing import named, replace

if TYPE_CHECKING:
    from .online import Learner

Path = str | os.PathLike[str]

FORMAT = "bptt_fast 1"
LEARNER = FORMAT + " learner"  # adds a learner's values in "learner" and arrays under "learner.*"
PREFIX = "learner."
RULES = "rules."  # prefix of the arrays of rules, "rules.<block>.<field>"
BACKUP = FORMAT + " backup"  # what identifies a fit in "identity", its state in "state"
ARRAY = "array number"  # in the JSON of a state, an object with this name alone stands for a tensor


def save(model: Model | Learner, path: Path) -> None:
    """Write a network (description, names and scaling of columns, parameters, rules) or a learner to a file.

    The file is a safetensors file that any reader of that format can open.  It is written under another name
    in the same folder, flushed to the disk and then renamed, so that an interrupted save leaves an existing
    file unchanged; the next one into the folder removes what it left.  The mode of a replaced file is kept;
    pipes and devices are written to directly.

    Parameters
    ----------
    model : Network or Learner
        The network, or the learner with its network.
    path : str or path-like
        The file, replaced if it exists.

    Raises
    ------
    ConfigError
        If `path` is not a path, or ``net.extra`` not a dict of str to str.
    OSError
        If the file cannot be written; an existing file is unchanged.
    """
    import safetensors.numpy

    net = model if isinstance(model, Model) else model.network
    metadata, tensors, learner = metadata_of(net), net.state_dict(), ""
    if not isinstance(model, Model):
        values, arrays = model.snapshot()
        learner = json.dumps(values)
        tensors |= {PREFIX + name: array for name, array in arrays.items()}
        metadata |= {"format": LEARNER, "learner": learner}
    rules = ""
    if net.rules:
        values, arrays = saved(net.rules)
        metadata["rules"] = rules = json.dumps(values)
        tensors |= {RULES + name: array for name, array in arrays.items()}
    columns, own_cell = metadata.get("columns", ""), metadata.get("own_cell", "")
    words = metadata["network"] + metadata["extra"] + learner + columns + rules + own_cell
    metadata["sha256"] = digest(words, tensors)
    replace(named(path), safetensors.numpy.save(tensors, metadata))


def save_state(path: Path, identity: dict[str, str], state: dict[str, Any]) -> None:
    """Write the state of a fit, and what identifies the fit, to a file; ``persistence.load_state`` reads it.

    Raises a ConfigError if the state contains anything but numbers, texts, None, arrays of numbers, and lists
    or dicts of them, by str.
    """
    import safetensors.numpy

    tensors: dict[str, Any] = {}
    try:
        text = json.dumps(_plain(state, tensors))
    except (TypeError, ValueError, RecursionError) as error:
        raise ConfigError(
            f"state_dict: expected numbers, texts, None, arrays of numbers, and lists or dicts of them by "
            f"str, got {error}.  Convert it in the state_dict of your callback."
        ) from None
    words = json.dumps(identity)
    metadata = {"format": BACKUP, "identity": words, "state": text, "sha256": digest(words + text, tensors)}
    replace(named(path), safetensors.numpy.save(tensors, metadata))


def _plain(value: Any, tensors: dict[str, Any]) -> Any:
    """A state as values of JSON; arrays go into `tensors`."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, (list, tuple)):
        return [_plain(item, tensors) for item in value]
    if isinstance(value, dict) and all(isinstance(name, str) for name in value) and value.keys() != {ARRAY}:
        return {name: _plain(item, tensors) for name, item in value.items()}
    if isinstance(value, (np.ndarray, np.generic)) and value.dtype.kind in "fiub" and value.itemsize <= 8:
        if isinstance(value, np.generic):
            return value.item()
        tensors[str(len(tensors))] = np.asarray(value, value.dtype.newbyteorder("="), order="C")
        return {ARRAY: len(tensors) - 1}
    raise TypeError(f"{value!r} ({type(value).__name__})")


def metadata_of(net: Model) -> dict[str, str]:
    """Metadata of a network in a file."""
    check_extra(net.extra)
    config = json.dumps(net.saved_config())
    metadata = {"format": FORMAT, "network": config, "extra": json.dumps(net.extra)}
    if digest_of(net.cell):
        metadata["own_cell"] = digest_of(net.cell)
    return metadata if net.columns == UNKNOWN else metadata | {"columns": json.dumps(net.columns.plain())}


def check_extra(extra: Any) -> None:
    """Raise a ConfigError unless `extra` is a dict of str to str."""
    if not isinstance(extra, dict) or not all(isinstance(t, str) for pair in extra.items() for t in pair):
        raise ConfigError(f"extra: expected a dict of str to str, got {extra!r}.")


def json_object(text: str, what: str) -> dict[str, Any]:
    """The object in a JSON text of a file; raises a CorruptFileError if there is none."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise CorruptFileError(f"{what}: expected JSON, got something else ({error}).") from error
    if not isinstance(value, dict):
        raise CorruptFileError(f"{what}: expected a JSON object, got {type(value).__name__}.")
    return value


def digest(description: str, tensors: dict[str, Any]) -> str:
    """Checksum of the description and other text, and of names, dtypes, shapes and bytes of the tensors."""
    from hashlib import sha256

    checksum = sha256(description.encode())
    for name in sorted(tensors):
        tensor = np.ascontiguousarray(tensors[name])
        checksum.update(f"\n{name} {tensor.dtype} {tensor.shape}\n".encode())
        for piece in pieces(tensor.reshape(-1).view(np.uint8).data):
            checksum.update(piece)
    return checksum.hexdigest()
