"""FullBPTT compared with CheckpointedBPTT over the length of the series: training arena, and time per step.

An LSTM, I 32, H 128, B 8, float32; the arena is what net.estimate_memory says, the time that of the later
epochs of a fit, the two in turns.  FullBPTT is left out where its arena does not fit into free memory.  Both
are checked to reach the same weights first.

Peaks of resident memory are taken in fresh processes, above what was resident when the data lay ready:
CheckpointedBPTT over a series of a million steps with an error at each (B 1, H 64), and the LSTM of above
over 20 000 steps in ours and in PyTorch; forward, backward and SGD.
"""

from __future__ import annotations

import contextlib
import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

from . import common

INPUTS, HIDDEN, BATCH = 32, 128, 8
LENGTHS = (1_000, 10_000, 20_000, 100_000)
LONGEST = (1_000_000, 1, 64)  # T, B, H
PEER = (20_000, BATCH, HIDDEN)
MB = 1e6
NAN = float("nan")


def problem(steps: int, batch: int, hidden: int, threads: int, every: bool = False) -> Any:
    """One batch and an LSTM, shared with bench.autodiff; its readout is "last" unless `every`."""
    import numpy as np

    import bptt_fast as bf

    from .autodiff import Problem

    p = Problem("lstm", steps, batch, INPUTS, hidden, "float32", threads, 1)
    if every:
        p.net = bf.Network(INPUTS, hidden, 1, cell="lstm", readout="every", seed=0)
        p.y = np.random.default_rng(1).standard_normal((1, batch, steps, 1), np.float32)
    return p


def fitting(p: Any, bptt: Any) -> Any:
    """Fits of the problem, one update an epoch."""
    import bptt_fast as bf

    from .autodiff import RATE

    options = {"batch_size": p.batch, "optimizer": bf.SGD(RATE), "threads": p.threads}
    return common.fitting(p.net, p.x[0], p.y[0], bptt=bptt, **options)


def check(p: Any, sides: dict[str, Any]) -> None:
    """Stop unless the weights after two epochs agree."""
    import numpy as np

    after = {}
    for name, fit in sides.items():
        fit(2)
        after[name] = p.net.params.copy()
    first, *others = after.values()
    if any(not np.allclose(first, other, rtol=1e-3, atol=1e-5) for other in others):
        sys.exit(f"bench.memory: {' and '.join(sides)} reach different weights at {p.steps} steps")


# ---- peaks, each in a process of its own


def resident(key: str) -> float:
    """Megabytes of this process in memory now (VmRSS) or at most (VmHWM); NaN where there is no /proc.

    Not getrusage's mark: that is handed down by the process that started this one, and may be that one's.
    """
    path = Path("/proc/self/status")
    lines = path.read_text().splitlines() if path.exists() else []
    return next((int(line.split()[1]) * 1024 / MB for line in lines if line.startswith(key)), NAN)


def child(side: str, steps: int, *sizes: Any) -> None:
    """Print the peak above the data of one training step, and its seconds; imports do not count."""
    import time

    import bptt_fast as bf

    from .autodiff import Torch

    def runner(p: Any) -> Any:
        if side == "torch":
            return Torch(p).train
        return lambda: fitting(p, bf.CheckpointedBPTT() if side == "checkpointed" else bf.FullBPTT())(1)

    runner(problem(10, *sizes))()
    train = runner(problem(steps, *sizes))
    with contextlib.suppress(OSError):  # forget the peak of making the data; else it counts, too
        Path("/proc/self/clear_refs").write_text("5")
    before, begin = resident("VmRSS"), time.perf_counter()
    train()
    seconds = time.perf_counter() - begin
    print(json.dumps({"MB": resident("VmHWM") - before, "seconds": seconds}))


def peak_of(side: str, steps: int, *sizes: Any) -> dict[str, float]:
    """What `child` finds in a fresh process, NaN where it fails."""
    call = f"from bench.memory import child; child(*{(side, steps, *sizes)!r})"
    done = subprocess.run([sys.executable, "-c", call], capture_output=True, text=True)
    if done.returncode:
        print(f"{side}, {steps} steps: {(done.stderr.strip() or 'killed').splitlines()[-1]}")
        return {"MB": NAN, "seconds": NAN}
    return json.loads(done.stdout.splitlines()[-1])


def peaks(threads: int) -> dict[str, dict[str, float]]:
    """The table of peaks."""
    wanted = [("checkpointed", LONGEST, True), ("checkpointed", PEER, False), ("full", PEER, False)]
    if not common.missing("torch"):
        wanted.append(("torch", PEER, False))
    widths = (14, 16, 12, 9)
    common.print_row(("side", "T, B, H", "peak MB", "seconds"), widths)
    found = {}
    for side, sizes, every in wanted:
        size = ", ".join(map(str, sizes))
        result = found[f"{side}, {size}"] = peak_of(side, *sizes, threads, every)
        common.print_row((side, size, result["MB"], result["seconds"]), widths)
    longest = next(iter(found.values()))["MB"]
    print(f"a million steps: {longest:.0f} MB above the data\n")
    return found


# ---- arena and time


def free_memory() -> float:
    """Bytes that can be had without swapping; infinite where the machine does not say."""
    path = Path("/proc/meminfo")
    if not path.exists():
        return math.inf
    lines = [line.split() for line in path.read_text().splitlines()]
    return next((1024.0 * int(line[1]) for line in lines if line[0] == "MemAvailable:"), math.inf)


def lengths(threads: int, quick: bool) -> list[dict[str, Any]]:
    """The table over T."""
    import bptt_fast as bf

    rounds, seconds = (1, 0.05) if quick else (5, 1.0)
    widths = (8, 10, 10, 11, 12, 12, 11)
    common.print_row(
        ("T", "full MB", "ckpt MB", "full/ckpt", "full us/step", "ckpt us/step", "ckpt/full"), widths
    )
    rows = []
    for steps in LENGTHS:
        p = problem(steps, BATCH, HIDDEN, threads)
        ways = {"full": bf.FullBPTT(), "checkpointed": bf.CheckpointedBPTT()}
        arena = {
            name: p.net.estimate_memory(BATCH, steps, bptt=bptt, threads=threads)
            for name, bptt in ways.items()
        }
        sides = {name: fitting(p, bptt) for name, bptt in ways.items() if arena[name] < 0.9 * free_memory()}
        check(p, sides)
        times = common.interleave_fits(sides, rounds=rounds, seconds=seconds)
        us = {name: 1e6 * times.get(name, NAN) / steps for name in ways}
        row = {
            "T": steps,
            "MB": {name: n / MB for name, n in arena.items()},
            "us": us,
            "arena": arena["full"] / arena["checkpointed"],
            "time": us["checkpointed"] / us["full"],
        }
        rows.append(row)
        common.print_row((str(steps), *row["MB"].values(), row["arena"], *us.values(), row["time"]), widths)
    last = rows[-1]
    print(f"T = {last['T']}, B = {BATCH}, CheckpointedBPTT compared with FullBPTT:")
    print(f"arena 1/{last['arena']:.0f}, time {last['time']:.2f}")
    return rows


def main() -> int:
    args = common.start(__doc__)
    common.print_environment()
    found = peaks(args.threads)
    common.finish(args, {"peaks": found, "rows": lengths(args.threads, args.quick)})
    return 0


if __name__ == "__main__":
    sys.exit(main())
