"""python -m tests.attack [--minutes 2] [names ...]: attacks on the package, from the root of the checkout.

Each attack is a row of numbered cases; a case depends on its number alone.  `--case NAME NUMBER` runs one
again.  The exit code is 1 if a case fails.
"""

import argparse
import faulthandler
import os
import sys
import time
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
if not any((ROOT / "bptt_fast").glob("_core*.so")):  # the checkout has no core: attack the installed package
    sys.path[:] = [folder for folder in sys.path if Path(folder or ".").resolve() != ROOT]
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from . import api, core, files, harness, processes  # noqa: E402

FILES = {
    name: (target, files.SECONDS, files.MEMORY if target.limited else 0)
    for name, target in files.TARGETS.items()
}
PROCESSES = {
    name: (target, 3600 if name == "cycles" else 120, 0) for name, target in processes.TARGETS.items()
}
PYTHON = FILES | {"calls": (api.Calls, 20, 0)} | PROCESSES
# the share of the time of each attack; the sanitizers compile the core first
SHARES = {"models": 2, "graphs": 2, "tables": 1, "parquet": 1, "settings": 1, "calls": 2, "kills": 1} | {
    "full disk": 1, "interrupts": 2, "forks": 1, "threads": 1, "cycles": 2, "address": 5, "thread": 4
}  # fmt: skip
NEEDS = {"graphs": "onnx", "parquet": "pyarrow"}


def main():
    parser = argparse.ArgumentParser(prog="python -m tests.attack", description=__doc__.partition("\n\n")[2])
    parser.add_argument("names", nargs="*", choices=[*SHARES, []], help="attacks, default all")
    parser.add_argument("--minutes", type=float, default=2, help="of all attacks together (default 2)")
    parser.add_argument("--first", type=int, default=0, help="the number of the first case of each")
    parser.add_argument("--count", type=int, default=2**40, help="of cases of each at most")
    parser.add_argument("--processes", type=int, help="at once, default one for each processor")
    parser.add_argument("--cycles", type=int, default=200, help="of an object in a case of that attack")
    parser.add_argument("--case", nargs=2, metavar=("NAME", "NUMBER"), help="one case again, in this process")
    parser.add_argument("--all-instances", action="store_true", help="AVX2 and AVX-512 under sanitizers, too")
    args = parser.parse_args()
    faulthandler.enable()
    processes.Cycles.cycles, last = args.cycles, args.first + args.count
    if args.case:
        name, number = args.case[0], int(args.case[1])
        if name in core.SANITIZERS:
            return bool(core.campaign(name, 60, number, number + 1, args.all_instances)[1])
        make, seconds, memory = PYTHON[name]
        harness.run_case(make(), name, number, seconds, memory)
        return 0
    names = args.names or list(SHARES)
    begin, failed = time.monotonic(), 0
    left = sum(SHARES[name] for name in names)
    for name in names:
        minutes = args.minutes - (time.monotonic() - begin) / 60
        part, start = max(0.02, minutes * SHARES[name] / left), time.monotonic()
        left -= SHARES[name]
        if name in NEEDS and find_spec(NEEDS[name]) is None:
            print(f"{name:12} left out: needs {NEEDS[name]}", flush=True)
            continue
        if name in core.SANITIZERS:
            try:
                core.build(name, args.all_instances)
            except core.MissingError as error:
                print(f"{name:12} left out: {error}", flush=True)
                continue
            part = max(0.05, part - (time.monotonic() - start) / 60)
            cases, failures = core.campaign(name, part, args.first, last, args.all_instances, args.processes)
            found = f"{cases} plans"
        else:
            make, seconds, memory = PYTHON[name]
            cases, good, failures = harness.campaign(
                make, name, part, args.first, last, seconds, memory, args.processes
            )
            found = f"{cases} cases, {good} accepted"
        failed += len(failures)
        print(f"{name:12} {found}, {len(failures)} failed, {time.monotonic() - start:.0f} s", flush=True)
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
