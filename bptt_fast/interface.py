"""The number that ties a cell that is compiled by itself to the core; setup.py runs this file, too."""

from __future__ import annotations

import re
from hashlib import sha256
from pathlib import Path


def headers(folder: Path, first: str = "kernels.h") -> dict[str, bytes]:
    """The files of csrc that `first` includes, by their names, itself among them; not the cells' own."""
    found: dict[str, bytes] = {}
    names = [first]
    while names:
        name = names.pop()
        if name not in found:
            found[name] = (folder / name).read_bytes()
            names += re.findall(r'#include "([\w.]+)"', found[name].decode())
    return found


def interface(folder: Path) -> int:
    """BPTT_INTERFACE of csrc/frame.h: 64 bits of a checksum of these headers."""
    checksum = sha256()
    for name, content in sorted(headers(folder).items()):
        checksum.update(b"%s %d\n%s" % (name.encode(), len(content), content))
    return int.from_bytes(checksum.digest()[:8], "little")
