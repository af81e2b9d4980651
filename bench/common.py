"""What the benchmarks share: pinning, interleaved timing, the machine's own peak, tables, JSON.

`start` comes before the first import of numpy, torch or jax: those size their thread pools when loaded.
"""

from __future__ import annotations

import argparse
import ctypes
import datetime
import importlib.metadata
import importlib.util
import json
import math
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from . import ROOT

RESULTS = ROOT / "bench" / "results"

PEERS_AVX2 = {
    "ATEN_CPU_CAPABILITY": "avx2",
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    "MKL_ENABLE_INSTRUCTIONS": "AVX2",
}

PEAK_SOURCE = r"""
#include <time.h>
#if defined(__AVX512F__)
enum { BYTES = 64 };
#elif defined(__AVX__)
enum { BYTES = 32 };
#else
enum { BYTES = 16 };
#endif
#if defined(__x86_64__)
#define KEEP(a) __asm__ volatile("" : "+x"(a));
#else
#define KEEP(a) __asm__ volatile("" : "+w"(a));
#endif
#define ALL(F) F(0) F(1) F(2) F(3) F(4) F(5) F(6) F(7) F(8) F(9) F(10) F(11)
#define DECLARE(i) V a##i = x;
#define FMA(i) a##i = a##i * x + y; KEEP(a##i)
/* rounds x 100000 steps of twelve independent chains of fused multiply-adds */
#define PEAK(name, real)                                                                              \
int name(long rounds) {                                                                               \
    typedef real V __attribute__((vector_size(BYTES)));                                               \
    V x = (V){0} + (real).999, y = (V){0} + (real)1e-6; ALL(DECLARE)                                  \
    for (long r = 0; r < rounds; r++) for (int i = 0; i < 100000; i++) { ALL(FMA) }                   \
    return 12 * 2 * (BYTES / sizeof(real));                                                           \
}
PEAK(peak_float32, float)
PEAK(peak_float64, double)
"""


def start(
    doc: str, add: Callable[[argparse.ArgumentParser], None] | None = None, argv: Sequence[str] | None = None
) -> argparse.Namespace:
    """Parse the command line and pin this process to its last `--threads` cores.

    BPTT_FAST_ISA=avx2 holds PyTorch, JAX and the machine's peak to AVX2, too.
    """
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer and shorter rounds")
    parser.add_argument(
        "--threads", type=int, default=1, metavar="N", help="threads, and cores to run on (default 1)"
    )
    parser.add_argument(
        "--json",
        type=Path,
        nargs="?",
        const=Path(),
        metavar="FILE",
        help="write the results as JSON too; without FILE to bench/results/<machine>/<benchmark>.json",
    )
    if add:
        add(parser)
    args = parser.parse_args(argv)
    cores = sorted(os.sched_getaffinity(0))
    if not 1 <= args.threads <= len(cores):
        parser.error(f"--threads: 1 to {len(cores)} on this machine, got {args.threads}")
    os.sched_setaffinity(0, cores[-args.threads :])
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "BPTT_FAST_NUM_THREADS"):
        os.environ[name] = str(args.threads)
    os.environ["JAX_PLATFORMS"] = "cpu"
    xla = ["--xla_cpu_multi_thread_eigen=false"] if args.threads == 1 else []
    if only_avx2():
        os.environ |= PEERS_AVX2
        xla.append("--xla_cpu_max_isa=AVX2")
    os.environ["XLA_FLAGS"] = " ".join([os.environ.get("XLA_FLAGS", ""), *xla])
    return args


def only_avx2() -> bool:
    """Whether the environment holds this package to AVX2."""
    return os.environ.get("BPTT_FAST_ISA", "").strip() == "avx2"


def missing(*modules: str) -> list[str]:
    """Those of the modules that cannot be imported here."""
    return [name for name in modules if not importlib.util.find_spec(name)]


def interleave(
    sides: Mapping[str, Callable[[], object]], *, rounds: int = 7, seconds: float = 0.1
) -> dict[str, float]:
    """Median seconds a call of each side.

    A sample repeats its side for about `seconds`; the sides take turns, in an order that rotates, so that a
    slow spell of the machine touches all of them.  With several threads a sample begins after a pause, since
    the threads of OpenMP spin for some 15 ms on processors that the next side needs.
    """
    pause = 0.05 if os.environ.get("OMP_NUM_THREADS", "1") != "1" else 0.0
    repeats = {}
    for name, call in sides.items():
        call()
        begin, count = time.perf_counter(), 0
        while count == 0 or time.perf_counter() - begin < seconds / 2:
            call()
            count += 1
        repeats[name] = max(1, round(seconds * count / (time.perf_counter() - begin)))
    names, samples = list(sides), {name: [] for name in sides}
    for r in range(rounds):
        for name in names[r % len(names) :] + names[: r % len(names)]:
            call = sides[name]
            time.sleep(pause)
            begin = time.perf_counter()
            for _ in range(repeats[name]):
                call()
            samples[name].append((time.perf_counter() - begin) / repeats[name])
    return {name: statistics.median(values) for name, values in samples.items()}


def fitting(net: Any, x: Any, y: Any, **options: Any) -> Callable[[int], Any]:
    """A fit of some epochs that begins with the weights of now, as a function of their number."""
    begin = net.params.copy()

    def fit(epochs: int) -> Any:
        net.params[:] = begin
        return net.fit(x, y, epochs=epochs, verbose=0, **options)

    return fit


def interleave_fits(
    sides: Mapping[str, Callable[[int], Mapping[str, Sequence[float]]]],
    *,
    rounds: int = 7,
    seconds: float = 0.1,
) -> dict[str, float]:
    """Median seconds of an epoch of each side, made by `fitting`.

    The sides take turns as in `interleave`.  A sample is a fit of about `seconds`; its first epoch, which
    meets fresh memory, does not count, and what comes before the epochs neither.
    """
    counts = {name: max(1, round(seconds / fit(2)["seconds"][-1])) for name, fit in sides.items()}
    names, samples = list(sides), {name: [] for name in sides}
    for r in range(rounds):
        for name in names[r % len(names) :] + names[: r % len(names)]:
            samples[name] += sides[name](1 + counts[name])["seconds"][1:]
    return {name: statistics.median(values) for name, values in samples.items()}


def geomean(values: Sequence[float]) -> float:
    return math.exp(sum(map(math.log, values)) / len(values))


def fma_peak(dtype: str = "float32", threads: int = 1) -> tuple[Callable[[], object], float]:
    """A call that only does fused multiply-adds, on all threads (gcc builds it now), and its operations."""
    with tempfile.TemporaryDirectory() as folder:
        source, library = Path(folder, "peak.c"), Path(folder, "peak.so")
        source.write_text(PEAK_SOURCE)
        flags = ["-O2", "-march=native", "-ffp-contract=fast", "-fPIC", "-shared"]
        flags += ["-mno-avx512f"] * only_avx2()
        subprocess.run([os.environ.get("CC", "gcc"), *flags, "-o", library, source], check=True)
        kernel = getattr(ctypes.CDLL(str(library)), f"peak_{dtype}")
    kernel.argtypes = [ctypes.c_long]
    rounds = 20

    def call() -> None:
        workers = [threading.Thread(target=kernel, args=(rounds,)) for _ in range(threads - 1)]
        for worker in workers:
            worker.start()
        kernel(rounds)
        for worker in workers:
            worker.join()

    return call, 1e5 * rounds * threads * kernel(0)


def machine(cpu: str, isa: str) -> str:
    """Name of the folder of results: the CPU's model and the instruction set, "intel-xeon-avx512"."""
    words = re.sub(r"\((R|TM|C)\)|\b(CPU|Processor|\d+-Core)\b|@.*", " ", cpu, flags=re.IGNORECASE)
    return "-".join(re.findall(r"[a-z0-9]+", f"{words} {isa}".lower()))


def commit() -> str | None:
    """The commit that is checked out, with a "+" where tracked files differ from it; None outside of git."""
    git = ("git", "-C", str(ROOT))
    try:
        head = subprocess.check_output([*git, "rev-parse", "--short", "HEAD"], text=True).strip()
        changed = subprocess.run([*git, "diff", "--quiet", "HEAD"], check=False).returncode == 1
    except (OSError, subprocess.CalledProcessError):
        return None
    return head + "+" * changed


def environment() -> dict[str, object]:
    """What a reader of the figures needs to know: date, commit, machine and versions."""
    from bptt_fast._core import isas

    names = ("bptt-fast", "numpy", "torch", "jax")
    versions = {}
    for name in names:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = None
    model = platform.processor()
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next(
            (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), model
        )
    return {
        "date": datetime.date.today().isoformat(),
        "commit": commit(),
        "machine": machine(model, os.environ.get("BPTT_FAST_ISA") or isas()[-1]),
        "cpu": model,
        "cores": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
        **versions,
    }


def print_environment() -> None:
    print(
        "  ".join(f"{key} {value}" for key, value in environment().items() if value is not None), flush=True
    )


def print_row(cells: Sequence[object], widths: Sequence[int]) -> None:
    """One row of a table: text to the left, numbers to the right with three significant digits."""
    out = []
    for cell, width in zip(cells, widths, strict=True):
        if isinstance(cell, float):
            cell = "-" if math.isnan(cell) else f"{cell:.3g}" if cell < 1000 else f"{cell:.0f}"
            out.append(cell.rjust(width))
        else:
            out.append(str(cell).ljust(width))
    print("  ".join(out).rstrip(), flush=True)


def finish(args: argparse.Namespace, results: dict[str, object], variant: str = "") -> None:
    """Write the results as JSON when --json was given; `variant` names a mode of the benchmark."""
    if args.json is None:
        return
    about = environment()
    path = args.json
    if path == Path():
        name = "_".join(filter(None, (Path(sys.argv[0]).stem, variant)))
        path = RESULTS / str(about["machine"]) / f"{name}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
    argv = [Path(word).name if Path(word).is_absolute() else word for word in sys.argv[1:]]  # of any machine
    text = json.dumps({"environment": about, "argv": argv, **results}, indent=1)
    path.write_text(text + "\n", encoding="utf-8")
    print(f"written: {path}")
