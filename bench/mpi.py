"""What data-parallel training costs: ranks of one thread each, compared with as many threads of one process.

    python -m bench.mpi --threads 2

T, B, I, H = 100, 64, 128, 256, readout "every", Adam, float32, four batches an epoch; a batch has one shard
for each rank.  `threads`: the median seconds of an epoch of one process; `ranks`: of `mpiexec -n N`, which is
found on the PATH; `speed`: the first over the second.  Both take turns.  Then the median seconds of an
exchange of P parameters, which is what every update adds.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import time

from . import ROOT, common

T, B, I, H, BATCHES = 100, 64, 128, 256, 4  # noqa: E741
CELLS = ("elman", "gru", "lstm")


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--shards", type=int, help="of a batch (default: one for each rank)")


def fit(cell: str, shards: int | None, epochs: int, threads: int) -> None:
    """Print the seconds of each epoch but the first two, on rank 0 alone."""
    import numpy as np

    import bptt_fast as bf

    comm = None
    if shards is not None:
        from mpi4py import MPI

        comm = MPI.COMM_WORLD
    random = np.random.default_rng(0)
    x = random.normal(size=(BATCHES * B, T, I)).astype(np.float32)
    y = random.normal(size=(BATCHES * B, T, 1)).astype(np.float32)
    net = bf.Network(I, H, 1, cell=cell, readout="every", seed=0)
    how = {"threads": threads} if comm is None else {"comm": bf.Shards(shards, comm), "threads": 1}
    history = net.fit(x, y, epochs=epochs, batch_size=B, verbose=0, **how)
    if comm is None or comm.Get_rank() == 0:
        print(json.dumps(history["seconds"][2:]))


def exchange(parameters: int, rounds: int) -> None:
    """Print the seconds of each exchange of so many parameters, on rank 0 alone."""
    from mpi4py import MPI

    from bptt_fast.ranks import Ranks, Shards, Sums

    comm = MPI.COMM_WORLD
    ranks = Ranks(Shards(comm.Get_size(), comm))
    ranks.divide(comm.Get_size())
    ranks.agree({})
    sums = Sums(ranks, parameters, "float32")
    sums.rows[:] = 1
    times = []
    for _ in range(rounds):
        comm.Barrier()
        begin = time.perf_counter()
        sums.add(ranks.part[0], 1.0)
        sums.exchange()
        times.append(time.perf_counter() - begin)
    if comm.Get_rank() == 0:
        print(json.dumps(times))


def seconds(mpiexec: list[str], function: str, *arguments: object) -> list[float]:
    """What rank 0 of one launch prints."""
    call = f"from bench.mpi import {function}; {function}(*{arguments!r})"
    run = subprocess.run([*mpiexec, sys.executable, "-c", call], cwd=ROOT, capture_output=True, text=True)
    if run.returncode:
        sys.exit(run.stderr)
    return json.loads(run.stdout)


def main() -> int:
    args = common.start(__doc__, options)
    mpiexec = shutil.which("mpiexec")
    if mpiexec is None or common.missing("mpi4py"):
        sys.exit("bench.mpi: needs mpiexec and mpi4py: pip install mpi4py mpich")
    n, epochs = args.threads, 5 if args.quick else 8
    sides = {
        "threads": ([], None),
        "ranks": ([mpiexec, "-n", str(n)], args.shards or n),
    }
    common.print_environment()
    rows = []
    for cell in CELLS:
        samples: dict[str, list[float]] = {side: [] for side in sides}
        for _ in range(2 if args.quick else 4):
            for side, (launcher, shards) in sides.items():
                samples[side] += seconds(launcher, "fit", cell, shards, epochs, n)
        medians = {side: statistics.median(values) for side, values in samples.items()}
        rows.append({"cell": cell, **medians, "speed": medians["threads"] / medians["ranks"]})
        print(
            "  ".join(f"{name} {value:.3g}" if name != "cell" else value for name, value in rows[-1].items())
        )
    print(f"speed of {n} ranks over {n} threads: {common.geomean([row['speed'] for row in rows]):.3g}")
    exchanges = {}
    for parameters in (1000, 100_000, 1_000_000):
        times = seconds(sides["ranks"][0], "exchange", parameters, 100 if args.quick else 300)
        exchanges[parameters] = statistics.median(times)
        print(f"exchange of {parameters} parameters: {1e6 * exchanges[parameters]:.0f} us")
    common.finish(args, {"benchmark": "mpi", "ranks": n, "results": rows, "exchanges": exchanges})
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
