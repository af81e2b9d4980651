"""Tables in README.md and bench/README.md, written from what the benchmarks measured.

A benchmark's --json file in bench/results/ has the name of the benchmark.  A table stands between the marks
<!-- table:NAME --> and <!-- /table:NAME -->; this writes all of them anew.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from .common import geomean

ROOT = Path(__file__).resolve().parents[1]
PAGES = (ROOT / "README.md", ROOT / "bench" / "README.md")
RESULTS = ROOT / "bench" / "results"


def three(value: float) -> str:
    """Three significant digits."""
    return f"{value:.3g}" if value < 1000 else f"{value:.0f}"


def ratio(value: float) -> str:
    return f"{value:.2f}" if value < 10 else f"{value:.0f}"


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    head = list(head)
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def online(found: dict[str, Any]) -> str:
    rows, means = [], []
    for row in found["rows"]:
        us = row["us"]
        fastest = min(time for side, time in us.items() if side not in ("ours", "torch"))
        ratios = [us["scan"] / us["ours"], fastest / us["ours"], us["torch"] / us["ours"]]
        means.append(ratios)
        times = (us["ours"], us["scan"], fastest, us["torch"])
        rows.append([f"{row['k']}, {row['I']}, {row['H']}", *map(three, times), *map(ratio, ratios)])
    rows.append(
        ["geometric mean", "", "", "", "", *(ratio(geomean(column)) for column in zip(*means, strict=True))]
    )
    titles = ("bptt_fast", "JAX, lax.scan", "JAX, fastest of three", "PyTorch")
    return table(("k, I, H", *titles, "times lax.scan", "times fastest JAX", "times PyTorch"), rows)


def torch_module(found: dict[str, Any]) -> str:
    """PyTorch's time over ours: a row for each width, a column for each batch, training / inference."""
    batches = sorted({row["B"] for row in found["rows"]})
    cells: dict[tuple[str, int], list[str]] = {}
    for row in found["rows"]:
        both = f"{ratio(row['train']['x'])} / {ratio(row['infer']['x'])}"
        cells.setdefault((row["kind"], row["H"]), []).append(both)
    rows = [[kind, str(width), *line] for (kind, width), line in cells.items()]
    for kind in (*dict.fromkeys(row["kind"] for row in found["rows"]), "all"):
        chosen = [row for row in found["rows"] if kind in (row["kind"], "all")]
        means = (geomean([row[way]["x"] for row in chosen]) for way in ("train", "infer"))
        rows.append(
            [f"{kind}, geometric mean", "", " / ".join(map(ratio, means)), *[""] * (len(batches) - 1)]
        )
    return table(("module", "H", *(f"B = {batch}" for batch in batches)), rows)


def quality_characters(found: dict[str, Any]) -> str:
    speeds = {(row["cell"], row["H"]): row for row in found["characters"]["speeds"]}
    rows = []
    for row in found["characters"]["learnt"]:
        by_streams = [value for name, value in speeds[row["cell"], row["H"]].items() if "streams" in name]
        numbers = (row["bits"], row["PyTorch bits"])
        rows.append(
            [
                f"{row['cell']} {row['H']}",
                *(f"{bits:.3f}" for bits in numbers),
                *(three(row[side]) for side in ("characters/s", "PyTorch characters/s")),
                ratio(row["ratio"]),
                " / ".join(map(ratio, by_streams)),
            ]
        )
    titles = (
        "bits, ours",
        "bits, PyTorch",
        "characters/s, ours",
        "PyTorch",
        "ratio",
        "ratio, 1 / 8 / 32 streams",
    )
    return table(("cell, H", *titles), rows)


def quality_laser(found: dict[str, Any]) -> str:
    rows = [
        [
            row["method"],
            f"{row['error']:.5f}",
            f"{row['lowest']:.5f} to {row['highest']:.5f}",
            three(row["seconds"]),
        ]
        for row in found["laser"]["rows"]
    ]
    return table(("method", "median error", "of five seeds", "seconds of training"), rows)


TABLES: dict[str, tuple[str, Callable[[dict[str, Any]], str]]] = {  # name of the table: result, what makes it
    "online": ("online", online),
    "torch_module": ("torch_module", torch_module),
    "quality_characters": ("quality", quality_characters),
    "quality_laser": ("quality", quality_laser),
}


def filled(page: str) -> str:
    """A page with its tables as the results have them."""

    def new(match: re.Match[str]) -> str:
        result, make = TABLES[match[1]]
        found = json.loads((RESULTS / f"{result}.json").read_text(encoding="utf-8"))
        return f"<!-- table:{match[1]} -->\n{make(found)}<!-- /table:{match[1]} -->"

    return re.sub(r"<!-- table:(\w+) -->\n.*?<!-- /table:\1 -->", new, page, flags=re.S)


def main() -> int:
    for path in PAGES:
        path.write_text(filled(path.read_text(encoding="utf-8")), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
