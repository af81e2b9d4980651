"""Training on overlapping windows of one series: Sequences.windows compared with windows written out.

I = H = 64, windows of k = 32 steps, stride 1, one output, float32; the time of an epoch, the sides in turns,
in the order of the series and shuffled.  Both ways are checked to reach the same weights first.

Memory is counted, not measured: series and arena on one side, n x k rows and arena on the other, for a
series of 100 000 rows.
"""

from __future__ import annotations

import sys
from typing import Any

from . import common
from .autodiff import CELLS, RATE

SIZE, K = 64, 32  # I and H; steps of a window
BATCHES = (32, 64, 128)
COUNTED = 100_000  # rows of the series that memory is counted for


def written_out(series: Any) -> Any:
    """Windows (n, K, I) whose next row exists, one after the other."""
    import numpy as np

    windows = np.lib.stride_tricks.sliding_window_view(series[:-1], K, axis=0)
    return np.ascontiguousarray(windows.swapaxes(1, 2))


def memory(net: Any, batch: int, threads: int) -> tuple[float, float]:
    """Bytes of training on windows and of training on the same windows written out."""
    from bptt_fast import _core

    sizes = {"loss": "mse", "batch": batch, "steps": K, "threads": threads, "isa": None}
    row = SIZE * net.params.itemsize
    shared = _core.nbytes(net.desc(), **sizes, input_gradient=False, window_stride=1)
    alone = _core.nbytes(net.desc(), **sizes, input_gradient=False)
    return COUNTED * row + shared, (COUNTED - K) * K * row + alone


def measure(cell: str, batch: int, rows: int, threads: int, **timing: Any) -> dict[str, Any]:
    """One line of the table."""
    import numpy as np

    import bptt_fast as bf

    rng = np.random.default_rng(0)
    series = rng.standard_normal((rows, SIZE), np.float32)
    y = rng.standard_normal((rows, 1), np.float32)
    net = bf.Network(SIZE, SIZE, 1, cell=cell, seed=0)
    options = {"batch_size": batch, "optimizer": bf.SGD(RATE), "threads": threads}
    ways = {
        "windows": (bf.Sequences.windows(series, K), y),
        "written out": (written_out(series), y[K:]),
    }
    sides = {
        f"{name}, {order}": common.fitting(net, *data, shuffle=order == "shuffled", **options)
        for order in ("in order", "shuffled")
        for name, data in ways.items()
    }
    after = []
    for fit in sides.values():
        fit(1)
        after.append(net.params.copy())
    for ours, theirs in (after[:2], after[2:]):
        if not np.allclose(ours, theirs, rtol=1e-3, atol=1e-4):
            sys.exit(f"bench.windows: the two ways reach different weights ({cell}, batch {batch})")
    ms = {name: 1e3 * t for name, t in common.interleave_fits(sides, **timing).items()}
    shared, alone = memory(net, batch, threads)
    return {
        "cell": cell,
        "batch": batch,
        "ms": ms,
        "in order": ms["written out, in order"] / ms["windows, in order"],
        "shuffled": ms["written out, shuffled"] / ms["windows, shuffled"],
        "MB": {"windows": shared / 1e6, "written out": alone / 1e6},
        "memory": shared / alone,
    }


def main() -> int:
    args = common.start(__doc__)
    common.print_environment()
    rows, timing = 16 * 1024, {"rounds": 5, "seconds": 1.0}
    if args.quick:
        rows, timing = 4 * 1024, {"rounds": 3, "seconds": 0.05}
    print(f"milliseconds an epoch of {rows - K} windows; x: the time written out over that of windows")
    widths = (6, 5, 9, 9, 9, 9, 9, 9, 8, 10, 8)
    titles = ("order ms", "out ms", "x", "shuff ms", "out ms", "x", "MB", "out MB", "fraction")
    common.print_row(("cell", "B", *titles), widths)
    table = []
    for cell in CELLS:
        for batch in BATCHES:
            row = measure(cell, batch, rows, args.threads, **timing)
            table.append(row)
            ms = list(row["ms"].values())
            numbers = (*ms[:2], row["in order"], *ms[2:], row["shuffled"], *row["MB"].values(), row["memory"])
            common.print_row((cell, str(batch), *numbers), widths)
    least, most = min(row["in order"] for row in table), max(row["memory"] for row in table)
    mean = common.geomean([row["in order"] for row in table])
    print(f"in order: {mean:.2f} times as fast in the geometric mean, lowest {least:.2f}")
    print(f"memory: at most {most:.3f} of that of windows written out")
    common.finish(args, {"rows": table})
    return 0


if __name__ == "__main__":
    sys.exit(main())
