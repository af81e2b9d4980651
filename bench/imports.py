"""What it costs to import bptt_fast and to call it.

Import time beyond numpy, modules that come along, the size of the wheel, and the overhead of a call that has
almost nothing to compute.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from . import ROOT, common

UNWANTED = ("scipy", "sklearn", "pandas", "matplotlib", "torch")
CHILD = """
import json, sys, time
import numpy
begin = time.perf_counter()
import bptt_fast
seconds = time.perf_counter() - begin
print(json.dumps([seconds, sorted({name.partition(".")[0] for name in sys.modules})]))
"""


def import_time(rounds: int) -> tuple[dict[str, float], list[str]]:
    """Medians of fresh interpreters in turns: processes with and without bptt_fast, and the import alone."""
    import os

    folder = str(Path(__import__("bptt_fast").__file__).parents[1])
    environ = os.environ | {"PYTHONPATH": folder}
    environ.pop("PYTHONDONTWRITEBYTECODE", None)  # an installed package has bytecode
    samples: list[float] = []
    found: list[str] = []

    def child(code):
        return subprocess.run(
            [sys.executable, "-c", code], env=environ, check=True, capture_output=True, text=True
        ).stdout

    def ours():
        seconds, modules = json.loads(child(CHILD))
        samples.append(seconds)
        found[:] = [name for name in UNWANTED if name in modules]

    times = common.interleave(
        {"numpy": lambda: child("import numpy"), "both": ours}, rounds=rounds, seconds=0
    )
    return {
        "numpy alone, process": times["numpy"],
        "numpy and bptt_fast, process": times["both"],
        "bptt_fast beyond numpy": statistics.median(samples),
    }, found


def wheel_size() -> int:
    """Bytes of the wheel, built now."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(
            [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", folder, ROOT],
            check=True,
        )
        (wheel,) = Path(folder).glob("*.whl")
        print(wheel.name)
        return wheel.stat().st_size


def call_overhead(seconds: float, rounds: int) -> dict[str, float]:
    """Seconds of a predict of one step of one sequence, and of the smallest fits."""
    import numpy as np

    import bptt_fast as bf

    net = bf.Network(1, 8, 1, seed=0)
    x, y = np.zeros((1, 1, 1), np.float32), np.zeros((1, 1), np.float32)
    return common.interleave(
        {
            "predict, x of (1, 1, 1)": lambda: net.predict(x),
            "loss_and_grad, x of (1, 1, 1)": lambda: net.loss_and_grad(x, y),
            "fit, x of (1, 1, 1)": lambda: net.fit(x, y, verbose=0),
        },
        rounds=rounds,
        seconds=seconds,
    )


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--no-wheel", action="store_true", help="do not build the wheel (a minute or two)")


def main() -> int:
    args = common.start(__doc__, options)
    common.print_environment()
    times, found = import_time(5 if args.quick else 21)
    for name, seconds in times.items():
        print(f"{name:<32}{1e3 * seconds:>9.1f} ms")
    print(f"{'imported without need':<32}{', '.join(found) or 'none'} (of {', '.join(UNWANTED)})")
    calls = call_overhead(0.05 if args.quick else 0.2, 3 if args.quick else 9)
    for name, seconds in calls.items():
        print(f"{name:<32}{1e6 * seconds:>9.1f} us")
    results: dict[str, object] = {"import": times, "unwanted": found, "call": calls}
    if not (args.quick or args.no_wheel):
        results["wheel"] = size = wheel_size()
        print(f"{'wheel':<32}{size / 2**20:>9.2f} MiB")
    common.finish(args, results)
    return 0


if __name__ == "__main__":
    sys.exit(main())
