"""Training on files compared with the same arrays in memory: seconds of an epoch, and peaks of memory.

An Elman network, I 64, H 32, T 100, B 64, float32, where reading matters most: 256 bytes of a step are trained
on in about a microsecond.  The .npy files, of 128 MB each, are written to a temporary folder (--folder: where).
Each side runs in a fresh process, in turns: "memory" has read all files before; "files" is `bptt_fast.Files`,
whose pages may be in the memory of the system; for "disk" these are dropped before each epoch.  The peak is
that of resident memory from before the first file is read, the first epoch does not count for the time.  All
sides are checked to reach the same weights.
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

INPUTS, HIDDEN, STEPS, BATCH = 64, 32, 100, 64
PART = 5_000  # sequences in a file: 128 MB
SIDES = ("memory", "files", "disk")


def write(folder: Path, parts: int) -> None:
    """The files of inputs and targets."""
    import numpy as np

    for i in range(parts):
        draw = np.random.default_rng(i)
        x = draw.standard_normal((PART, STEPS, INPUTS), np.float32)
        np.save(folder / f"x{i:03}.npy", x)
        np.save(folder / f"y{i:03}.npy", x[:, -8:, 0].sum(axis=1, keepdims=True))
    if hasattr(os, "sync"):
        os.sync()  # only pages that are written can be dropped


def drop(paths: list[Path]) -> None:
    """Let the system forget the files, so that they are read from the disk again."""
    for path in paths:
        with open(path, "rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def child(side: str, folder: str, epochs: int, threads: int) -> None:
    """Print the seconds of each epoch but the first, the peak and a checksum of the weights."""
    import numpy as np

    import bptt_fast as bf

    xs, ys = (sorted(Path(folder).glob(f"{name}*.npy")) for name in "xy")

    class Drop(bf.Callback):
        def on_epoch_begin(self, epoch: int, logs: Any) -> None:
            if side == "disk":
                drop([*xs, *ys])

    net = bf.Network(INPUTS, HIDDEN, 1, seed=0)
    net.fit(np.ones((1, 2, INPUTS)), np.ones(1), optimizer="sgd", verbose=0)  # imports and threads
    net = bf.Network(INPUTS, HIDDEN, 1, seed=0)
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    before = resident("VmRSS")
    if side == "memory":
        x, y = (np.empty((PART * len(xs), *shape), np.float32) for shape in ((STEPS, INPUTS), (1,)))
        for a, paths in ((x, xs), (y, ys)):
            for i, path in enumerate(paths):
                a[PART * i : PART * (i + 1)] = np.load(path, mmap_mode="r")
        data: tuple[Any, ...] = (x, y)
    else:
        data = (bf.Files(xs, ys),)
    history = net.fit(
        *data,
        epochs=1 + epochs,
        batch_size=BATCH,
        shuffle=False,
        threads=threads,
        callbacks=Drop(),
        verbose=0,
    )
    result = {"seconds": history["seconds"][1:], "MB": resident("VmHWM") - before}
    print(json.dumps(result | {"weights": hashlib.sha256(net.params.tobytes()).hexdigest()}))


def measured(side: str, folder: str, epochs: int, threads: int) -> dict[str, Any]:
    """What `child` prints in a fresh process."""
    call = f"from bench.larger_than_memory import child; child(*{(side, folder, epochs, threads)!r})"
    done = subprocess.run([sys.executable, "-c", call], stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--folder", help="where to write the files (default: the system's temporary folder)")
    parser.add_argument("--parts", type=int, metavar="N", help="files of 128 MB (default 16)")


def main() -> int:
    args = common.start(__doc__, add)
    common.print_environment()
    parts = args.parts or (4 if args.quick else 16)
    found: dict[str, list[dict[str, Any]]] = {side: [] for side in SIDES}
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        write(Path(folder), parts)
        size = sum(path.stat().st_size for path in Path(folder).iterdir())
        for _ in range(1 if args.quick else 2):
            for side, results in found.items():
                results.append(measured(side, folder, 1, args.threads))
    if len({result["weights"] for results in found.values() for result in results}) > 1:
        sys.exit("bench.larger_than_memory: the sides reach different weights")
    widths = (8, 9, 9, 9, 12)
    print(f"{size / MB:.0f} MB of data, equal weights to the bit")
    common.print_row(("side", "seconds", "MB/s", "peak MB", "memory/side"), widths)
    rows = {}
    for side, results in found.items():
        seconds = statistics.median(second for result in results for second in result["seconds"])
        peak = max(result["MB"] for result in results)
        rows[side] = {"seconds": seconds, "MB/s": size / MB / seconds, "MB": peak}
        rows[side]["speed"] = rows["memory"]["seconds"] / seconds
        common.print_row((side, *rows[side].values()), widths)
    common.finish(args, {"MB": size / MB, "sides": rows})
    return 0


if __name__ == "__main__":
    sys.exit(main())
