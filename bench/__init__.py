"""Benchmarks, each a module: `python -m bench.online`.  bench/README.md lists them."""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
if not any((ROOT / "bptt_fast").glob("_core*.so")):  # no core built here: measure the installed package
    sys.path[:] = [folder for folder in sys.path if Path(folder or ".").resolve() != ROOT]
