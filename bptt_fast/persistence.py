"""Reading of the files that `storage` writes."""

from __future__ import annotations

import json
from typing import Any

from .columns import Columns
from .errors import MALFORMED, CellError, CorruptFileError, suggesting
from .model import Model
from .online import Learner
from .rules import restored
from .storage import (
    ARRAY,
    BACKUP,
    FORMAT,
    LEARNER,
    PREFIX,
    RULES,
    Path,
    check_extra,
    digest,
    json_object,
)
from .writing import named


@suggesting
def load(path: Path) -> Any:
    """Read a network that ``Network.save`` wrote, or a learner that ``Learner.save`` wrote.

    Parameters
    ----------
    path : str or path-like
        The file.

    Returns
    -------
    model : Network or Learner
        The saved network, with its parameters equal to the bit, or the saved learner in its saved state; the
        attribute ``network`` of a learner is its network.

    Raises
    ------
    CorruptFileError
        If the file is truncated, damaged (a checksum detects a single wrong bit), or not written by this
        package.
    CellError
        If its cell is one of the user's own, which `build_cell` has not built or has built from another text.
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
    name = named(path)
    metadata, tensors = _read(name)
    kind, description, extra, learner, columns, rules, own_cell, checksum = (
        metadata.get(key, "")
        for key in ("format", "network", "extra", "learner", "columns", "rules", "own_cell", "sha256")
    )
    if kind not in (FORMAT, LEARNER):
        raise CorruptFileError(
            f"{name}: expected a model file of the format {FORMAT!r}, got {kind or 'none'!r}.  Was it "
            f"written by the save of this or an older version of bptt_fast?"
        )
    _check(name, checksum, description + extra + learner + columns + rules + own_cell, tensors)
    parts = _taken(tensors, PREFIX)
    of_rules = _taken(tensors, RULES)
    try:
        notes = json_object(extra, "extra")
        check_extra(notes)
        known = Columns.restored(json_object(columns or "{}", "columns"))
        held = restored(json_object(rules or "{}", "rules"), of_rules)
        config = json_object(description, "network")
        net = Model.public.rebuilt(config, tensors, notes, known, held, own_cell)
        if kind == FORMAT:
            return net
        return Learner.restored(net, json_object(learner, "learner"), parts)
    except CellError as error:
        raise CellError(f"{name}: {error}") from None
    except MALFORMED as error:
        raise CorruptFileError(f"{name}: expected a model that this version knows, but {error}") from error


def load_state(path: str) -> tuple[dict[str, str], dict[str, Any]]:
    """What identifies a fit, and its state, from a file of `storage.save_state`.

    Raises a CorruptFileError as `load` does.
    """
    metadata, tensors = _read(path)
    kind, identity, state, checksum = (
        metadata.get(key, "") for key in ("format", "identity", "state", "sha256")
    )
    if kind != BACKUP:
        raise CorruptFileError(
            f"{path}: expected a backup of the format {BACKUP!r}, got {kind or 'none'!r}.  Delete it to "
            f"start again."
        )
    _check(path, checksum, identity + state, tensors)

    def placed(value: dict[str, Any]) -> Any:
        return tensors[str(value[ARRAY])].copy() if value.keys() == {ARRAY} else value

    try:
        return dict(json.loads(identity)), dict(json.loads(state, object_hook=placed))
    except MALFORMED as error:
        raise CorruptFileError(f"{path}: expected a backup that this version knows, but {error}") from error


def _read(name: str) -> tuple[dict[str, str], dict[str, Any]]:
    """The metadata and the tensors of a file."""
    import safetensors
    import safetensors.numpy

    with open(name, "rb") as file:
        content = file.read()
    try:
        tensors = safetensors.numpy.load(content)
        header = json_object(content[8 : 8 + int.from_bytes(content[:8], "little")].decode(), "header")
        metadata = {str(key): str(value) for key, value in (header.get("__metadata__") or {}).items()}
    except (safetensors.SafetensorError, *MALFORMED) as error:
        raise CorruptFileError(
            f"{name}: expected a model file, got one that is truncated or damaged ({error}).  "
            f"Restore it from a copy."
        ) from error
    return metadata, tensors


def _taken(tensors: dict[str, Any], prefix: str) -> dict[str, Any]:
    """The tensors whose name begins with a prefix, removed from `tensors`, by the rest of their name."""
    return {key.removeprefix(prefix): tensors.pop(key) for key in list(tensors) if key.startswith(prefix)}


def _check(name: str, checksum: str, description: str, tensors: dict[str, Any]) -> None:
    """Raise unless the checksum is that of the description and the tensors."""
    if checksum != digest(description, tensors):
        raise CorruptFileError(
            f"{name}: expected the checksum {checksum[:16]}..., got another: the file is damaged.  Restore "
            f"it from a copy."
        )
