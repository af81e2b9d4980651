"""Every benchmark, one after the other, and what each printed and took.

    python -m bench.all --quick --json
    BPTT_FAST_ISA=avx2 python -m bench.all --json

Options are passed on.  With --json each benchmark writes its file of this machine and instruction set to
bench/results, from which `python -m bench.tables` makes the tables.  A benchmark that fails does not stop the
others.
"""

from __future__ import annotations

import subprocess
import sys
import time

from . import ROOT

RUNS = (
    ["online"],
    ["autodiff"],
    ["autodiff", "--ragged"],
    ["autodiff", "--scaling"],
    ["torch_module"],
    ["rate_networks"],
    ["second_order"],
    ["restarts"],
    ["tiny_networks"],
    ["streaming"],
    ["windows"],
    ["memory"],
    ["larger_than_memory"],
    ["imports"],
    ["evolution"],
    ["local_optima"],
    ["sunspots"],
    ["quality"],
)


def main() -> int:
    if {"-h", "--help"} & set(sys.argv):
        print(__doc__)
        return 0
    failed = []
    for name, *options in RUNS:
        title, begin = " ".join([f"bench.{name}", *options]), time.perf_counter()
        print(f"== {title}", flush=True)
        command = [sys.executable, "-m", f"bench.{name}", *options, *sys.argv[1:]]
        if subprocess.run(command, cwd=ROOT, check=False).returncode:
            failed.append(title)
        print(f"== {time.perf_counter() - begin:.0f} s\n", flush=True)
    for title in failed:
        print(f"failed: {title}")
    return bool(failed)


if __name__ == "__main__":
    raise SystemExit(main())
