"""Training on files compared with the same arrays in memory: seconds of an epoch, and peaks of memory.

An Elman network, I 64, H 32, T 100, B 64, float32, where reading matters most: the 256 bytes of a step are
used in a fraction of a microsecond; and a GRU with I 16.  The .npy files, of 128 MB each, are written to a
temporary folder (--folder: where).  Each side runs in a fresh process, in turns: "memory" has read all files
before; "files" is `bptt_fast.Files`, whose pages may be in the memory of the system; for "disk" these are
dropped before each epoch.  The peak is that of resident memory above what it was before the first file was
read; the first epoch does not count for the time.  All sides are checked to reach the same weights.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from . import common
from .memory import MB, resident

NETWORKS = {"elman": 64, "gru": 16}  # inputs
HIDDEN, STEPS, BATCH = 32, 100, 64
NUMBERS = 32_000_000  # in a file: 128 MB
SIDES = ("memory", "files", "disk")


def write(folder: Path, parts: int, inputs: int) -> None:
    """The files of inputs and targets."""
    import numpy as np

    for i in range(parts):
        draw = np.random.default_rng(i)
        x = draw.standard_normal((NUMBERS // STEPS // inputs, STEPS, inputs), np.float32)
        np.save(folder / f"x{i:03}.npy", x)
        np.save(folder / f"y{i:03}.npy", x[:, -8:, 0].sum(axis=1, keepdims=True))
    if hasattr(os, "sync"):
        os.sync()  # only pages that are written can be dropped


def drop(paths: list[Path]) -> None:
    """Let the system forget the files, so that they are read from the disk again."""
    for path in paths:
        with open(path, "rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def whole(paths: list[Path]) -> Any:
    """The arrays of files in one, without a second copy in memory."""
    import numpy as np

    first = np.load(paths[0])
    array = np.empty((len(paths) * len(first), *first.shape[1:]), first.dtype)
    for i, path in enumerate(paths):
        array[i * len(first) : (i + 1) * len(first)] = np.load(path)
    return array


def child(side: str, cell: str, folder: str, threads: int) -> None:
    """Print the seconds of the second epoch, the peak and a checksum of the weights."""
    import numpy as np

    import bptt_fast as bf

    xs, ys = (sorted(Path(folder).glob(f"{name}*.npy")) for name in "xy")

    class Drop(bf.Callback):
        def on_epoch_begin(self, epoch: int, logs: Any) -> None:
            if side == "disk":
                drop([*xs, *ys])

    inputs = NETWORKS[cell]
    other, net = (bf.Network(inputs, HIDDEN, 1, cell=cell, seed=0) for _ in range(2))
    other.fit(np.ones((1, 2, inputs)), np.ones(1), verbose=0)  # imports and threads
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    before = resident("VmRSS")
    if side == "memory":
        data: tuple[Any, ...] = tuple(map(whole, (xs, ys)))
    else:
        data = (bf.Files(xs, ys),)
    history = net.fit(
        *data,
        epochs=2,
        batch_size=BATCH,
        shuffle=False,
        threads=threads,
        callbacks=Drop(),
        verbose=0,
    )
    result = {"seconds": history["seconds"][1], "MB": resident("VmHWM") - before}
    print(json.dumps(result | {"weights": hashlib.sha256(net.params.tobytes()).hexdigest()}))


def measured(*arguments: Any) -> dict[str, Any]:
    """What `child` prints in a fresh process."""
    call = f"from bench.larger_than_memory import child; child(*{arguments!r})"
    done = subprocess.run([sys.executable, "-c", call], stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--folder", help="where to write the files (default: the system's temporary folder)")
    parser.add_argument("--cells", nargs="+", choices=NETWORKS, default=NETWORKS, help="default: both")
    parser.add_argument("--parts", type=int, metavar="N", help="files of 128 MB (default 16)")


def compare(cell: str, args: argparse.Namespace) -> dict[str, Any]:
    """The table of one network."""
    found: dict[str, list[dict[str, Any]]] = {side: [] for side in SIDES}
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        write(Path(folder), args.parts or (4 if args.quick else 16), NETWORKS[cell])
        size = sum(path.stat().st_size for path in Path(folder).iterdir()) / MB
        for _ in range(1 if args.quick else 3):
            for side, results in found.items():
                results.append(measured(side, cell, folder, args.threads))
    if len({result["weights"] for results in found.values() for result in results}) > 1:
        sys.exit("bench.larger_than_memory: the sides reach different weights")
    print(f"{cell}: {size:.0f} MB of data, equal weights to the bit")
    widths = (8, 9, 9, 9, 12)
    common.print_row(("side", "seconds", "MB/s", "peak MB", "memory/side"), widths)
    rows = {}
    for side, results in found.items():
        seconds = statistics.median(result["seconds"] for result in results)
        rows[side] = {"seconds": seconds, "MB/s": size / seconds, "MB": max(r["MB"] for r in results)}
        rows[side]["speed"] = rows["memory"]["seconds"] / seconds
        common.print_row((side, *rows[side].values()), widths)
    return {"MB": size, "sides": rows}


def main() -> int:
    args = common.start(__doc__, add)
    common.print_environment()
    common.finish(args, {cell: compare(cell, args) for cell in args.cells})
    return 0


if __name__ == "__main__":
    sys.exit(main())
