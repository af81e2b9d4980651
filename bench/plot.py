"""Draw docs/speedup.svg: PyTorch's time over ours against the width, for each module and batch size.

    python -m bench.plot

The figures are those of bench.torch_module in bench/results/.
"""

from __future__ import annotations

import hashlib
import sys

from .common import RESULTS, ROOT
from .tables import XEON, result

SOURCE = RESULTS / XEON / "torch_module.json"
PICTURE = ROOT / "docs" / "speedup.svg"
STYLES = (("#0072b2", "o", "-"), ("#d55e00", "s", "--"), ("#009e73", "^", "-."), ("#000000", "D", ":"))


def digest() -> str:
    """Of the results that the picture shows; the picture holds it, too."""
    return hashlib.sha256(SOURCE.read_bytes()).hexdigest()[:16]


def main() -> int:
    import matplotlib
    from matplotlib.figure import Figure
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    matplotlib.rcParams.update({"svg.hashsalt": "bptt_fast", "font.size": 10})
    rows = result(XEON, "torch_module")["rows"]
    kinds, batches = (list(dict.fromkeys(row[key] for row in rows)) for key in ("kind", "B"))
    widths = sorted({row["H"] for row in rows})
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    figure.patch.set_facecolor("white")
    plain = FuncFormatter(lambda value, _: f"{value:g}")
    for ax, kind in zip(figure.subplots(1, len(kinds), sharey=True), kinds, strict=True):
        for batch, (colour, marker, line) in zip(batches, STYLES, strict=True):
            speedups = {
                row["H"]: row["train"]["x"] for row in rows if (row["kind"], row["B"]) == (kind, batch)
            }
            ax.plot(
                widths,
                [speedups[width] for width in widths],
                line,
                color=colour,
                marker=marker,
                markersize=5,
                label=f"B = {batch}",
            )
        ax.axhline(1, color="0.6", linewidth=0.8)
        ax.set_xscale("log", base=2)
        ax.set_yscale("log")
        ax.xaxis.set_major_locator(FixedLocator(widths))
        ax.yaxis.set_major_locator(FixedLocator([1, 2, 5, 10, 20, 50]))
        ax.yaxis.set_minor_locator(NullLocator())
        ax.xaxis.set_major_formatter(plain)
        ax.yaxis.set_major_formatter(plain)
        ax.set_ylim(0.85, 60)
        ax.grid(color="0.92", linewidth=0.8)
        ax.set_title(kind)
        ax.set_xlabel("H, units")
    figure.axes[0].set_ylabel("PyTorch's time / bptt_fast's time")
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right center", frameon=False, title="sequences\nper batch")
    figure.savefig(PICTURE, metadata={"Date": None, "Description": f"torch_module.json {digest()}"})
    print(f"written: {PICTURE}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
