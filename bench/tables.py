"""Write every table of results in README.md, bench/README.md and docs/ from the JSON files in bench/results/.

    python -m bench.tables

A table stands between the marks <!-- table:NAME --> and <!-- /table:NAME -->; TABLES says which file of which
machine it is made from.  Figures of which only a summary was kept (summaries.json), and experiments that no
benchmark repeats (experiments.json), are stored as tables: titles and rows.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from typing import Any

from .common import RESULTS, ROOT, geomean

PAGES = (
    ROOT / "README.md",
    ROOT / "bench" / "README.md",
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted((ROOT / "docs" / "decisions").glob("*.md")),
)
XEON, AVX2 = "intel-xeon-avx512", "intel-xeon-avx2"  # the same machine
ZEN5, ANY = "amd-epyc-family-26-avx512", "not-recorded"


@cache
def result(machine: str, name: str) -> dict[str, Any]:
    return json.loads((RESULTS / machine / f"{name}.json").read_text(encoding="utf-8"))


# ---- text


def three(value: float) -> str:
    """Three significant digits."""
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"


def ratio(value: float) -> str:
    return f"{value:.2f}" if value < 10 else f"{value:.0f}"


def percent(value: float) -> str:
    return f"{100 * value:.0f} %"


def shown(value: Any) -> str:
    """A stored cell: text as it is, a number with three digits, several numbers separated by slashes."""
    if isinstance(value, list):
        numbers = " / ".join(shown(v) for v in value if not isinstance(v, str))
        return " ".join([numbers, *(v for v in value if isinstance(v, str))])
    return value if isinstance(value, str) else three(value)


def size(values: Iterable[int]) -> str:
    return ", ".join(map(str, values))


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    head = list(head)
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def stored(found: dict[str, Any]) -> str:
    """A table that is stored as one."""
    return table(found["titles"], (map(shown, row) for row in found["rows"]))


# ---- one function per benchmark


def online_ratios(row: dict[str, Any]) -> tuple[float, float, float, float]:
    """The fastest JAX, and the times of lax.scan, of the fastest JAX and of PyTorch over ours."""
    us = row["us"]
    fastest = min(time for side, time in us.items() if side not in ("ours", "torch"))
    return fastest, us["scan"] / us["ours"], fastest / us["ours"], us["torch"] / us["ours"]


def online(found: dict[str, Any]) -> str:
    """With a second JAX, if one was measured (bench.online --jax-python)."""
    rows, means, older = [], [], found.get("other jax")
    for row in found["rows"]:
        us = row["us"]
        fastest, *ratios = online_ratios(row)
        times = [us["ours"], us["scan"], fastest, us["torch"]]
        if older:
            times.insert(3, min(row["other us"].values()))
            ratios.insert(2, row["other"])
        means.append(ratios)
        rows.append([f"{row['k']}, {row['I']}, {row['H']}", *map(three, times), *map(ratio, ratios)])
    columns = zip(*means, strict=True)
    rows.append(["geometric mean", *[""] * len(times), *(ratio(geomean(column)) for column in columns)])
    titles = ["bptt_fast", "JAX, lax.scan", "JAX, fastest of three", "PyTorch"]
    compared = ["times lax.scan", "times fastest JAX", "times PyTorch"]
    if older:
        titles.insert(3, f"JAX {older}, fastest")
        compared.insert(2, f"times JAX {older}")
    return table(("k, I, H", *titles, *compared), rows)


def jax_best(ms: dict[str, float]) -> float:
    return min(time for name, time in ms.items() if name.startswith("jax"))


def autodiff(found: dict[str, Any]) -> str:
    rows = []
    for row in found["rows"]:
        ms = row["ms"]
        times = (ms["ours"], ms["torch"], ms["jax plain"], jax_best(ms))
        faster, share = ratio(row["faster peer"]), percent(row["of peak"])
        rows.append([row["cell"], size(row["size"]), *map(three, times), faster, share])
    titles = (
        "bptt_fast ms",
        "PyTorch ms",
        "JAX plain ms",
        "JAX best ms",
        "faster peer / ours",
        "of peak",
    )
    return table(("cell", "T, B, I, H", *titles), rows)


def autodiff_means(found: dict[str, Any]) -> dict[str, tuple[float, float]]:
    """Geometric mean and lowest of the ratios over the grid, by peer."""
    times = [row["ms"] for row in found["rows"]]
    ratios = {
        "the faster peer of each row": [row["faster peer"] for row in found["rows"]],
        "PyTorch": [ms["torch"] / ms["ours"] for ms in times],
        "JAX, plain lax.scan": [ms["jax plain"] / ms["ours"] for ms in times],
        "JAX, best of three ways": [jax_best(ms) / ms["ours"] for ms in times],
    }
    older = "JAX 0.4.31"
    if older in found["rows"][0]:
        ratios[f"{older}, best of three ways (a run of its own)"] = [row[older] for row in found["rows"]]
    return {peer: (geomean(values), min(values)) for peer, values in ratios.items()}


def autodiff_summary(found: dict[str, Any]) -> str:
    rows = ([peer, ratio(mean), ratio(low)] for peer, (mean, low) in autodiff_means(found).items())
    return table(("time of the peer over ours", "geometric mean", "lowest"), rows)


def autodiff_ragged(found: dict[str, Any]) -> str:
    rows = [
        [row["cell"], three(row["ms"]["ours"]), ratio(row["over share"])]
        + [three(row[f"torch {way}"]) for way in ("padded", "packed")]
        for row in found["rows"]
    ]
    share = "time / (share of steps * padded time)"
    return table(("cell", "bptt_fast ms", share, "PyTorch padded / ours", "PyTorch packed / ours"), rows)


def autodiff_scaling(axis: str) -> Callable[[dict[str, Any]], str]:
    def rows(found: dict[str, Any]) -> str:
        lines = {name.split()[0]: line for name, line in found.items() if name.endswith(f"over {axis}")}
        values = next(iter(lines.values()))["values"]
        body = [[cell, *map(three, line["ms"]), ratio(line["slope"])] for cell, line in lines.items()]
        return table(("cell", *(f"{axis} = {value}, ms" for value in values), "slope"), body)

    return rows


def memory(found: dict[str, Any]) -> str:
    rows = []
    for row in found["rows"]:
        numbers = (*row["MB"].values(), row["arena"], *row["us"].values())
        rows.append([str(row["T"]), *map(three, numbers), ratio(row["time"])])
    titles = ("full MB", "checkpointed MB", "full / checkpointed", "full us/step", "checkpointed us/step")
    return table(("T", *titles, "time, checkpointed / full"), rows)


def memory_peaks(found: dict[str, Any]) -> str:
    rows = []
    for name, peak in found["peaks"].items():
        side, sizes = name.split(", ", 1)
        rows.append([{"torch": "PyTorch"}.get(side, side), sizes, three(peak["MB"])])
    return table(("unfolding", "T, B, H", "peak above the data, MB"), rows)


def stream_step(found: dict[str, Any]) -> str:
    rows = [
        [cell, hidden, three(us)] for cell, line in found["stream"].items() for hidden, us in line.items()
    ]
    return table(("cell", "H", "stream.step, us"), rows)


def streaming(found: dict[str, Any]) -> str:
    rows = []
    for row in found["learner"]:
        numbers = (*row["us"].values(), row["overhead"])
        rows.append([f"{row['k']}, {row['I']}, {row['H']}", *map(three, numbers)])
    return table(("k, I, H", "observe us", "fit us", "overhead us"), rows)


def second_order(found: dict[str, Any]) -> str:
    methods = {"LevenbergMarquardt": "Levenberg-Marquardt", "LBFGS": "L-BFGS", "HessianFree": "Hessian-free"}
    rows = []
    for row in found["adam"]:
        line = [f"{row['task']}, {row['parameters']}", f"{row['loss']:.1e}", three(row["Adam s"])]
        for kind in methods:
            line += [f"{three(row[f'{kind} s'])} ({row[f'{kind} iterations']:.0f})", three(row[f"{kind} x"])]
        rows.append(line)
    titles = (title for name in methods.values() for title in (f"{name} s (iterations)", "Adam / it"))
    return table(("task, parameters", "Adam's loss", "Adam s", *titles), rows)


def pyrenn(found: dict[str, Any]) -> str:
    rows = [
        [row["hidden, steps"], row["weights"]]
        + [f"{three(1e3 * row[side])} ms" for side in ("pyrenn", "bptt_fast")]
        + [three(row["ratio"])]
        for row in found["pyrenn"]
    ]
    return table(("hidden units, steps", "weights, pyrenn and here", "pyrenn", "bptt_fast", "ratio"), rows)


def restarts(found: dict[str, Any]) -> str:
    keys = {
        "one": "one training s",
        "all": "32, all to the end s",
        "halving": "32, halving s",
        "torch": "one in PyTorch s",
        "cost": "32 all / (16 * one)",
        "torch_over_all": "PyTorch / 32 all",
        "torch_over_halving": "PyTorch / 32 halving",
    }
    rows = ([row["cell"], *(three(row[key]) for key in keys)] for row in found["rows"])
    return table(("cell", *keys.values()), rows)


def tiny_networks(found: dict[str, Any]) -> str:
    keys = {
        "epochs": "epochs of a fit",
        "fits_per_second": "fits per second",
        "core_hours": "core-hours of a million",
    }
    rows = [
        [row["model"], f"{row['nats']:.4f} ± {row['error']:.4f}"]
        + ["-" if row[key] is None else three(row[key]) for key in keys]
        for row in found["rows"]
    ]
    return table(("model", "nats per trial, ± of the folds", *keys.values()), rows)


def tiny_networks_torch(found: dict[str, Any]) -> str:
    sides = found["gru 2"]
    rows = [
        [name, three(side["fits_per_second"]), three(side["epochs"]), f"{side['val_loss']:.4f}"]
        for name, side in sides.items()
    ]
    times = sides["bptt_fast"]["fits_per_second"] / sides["PyTorch"]["fits_per_second"]
    rows.append(["times", three(times), "", ""])
    return table(("GRU of two units", "fits per second", "epochs", "validation, nats"), rows)


def forecasting(found: dict[str, Any]) -> str:
    """MAE and seconds of each seed's chosen training, and their medians; the naive forecast last."""
    rows = []
    for name, runs in found["runs"].items():
        medians = found["medians"][name]
        mae, seconds = (" / ".join(three(one[what]) for one in runs) for what in ("mae", "seconds"))
        epochs = " / ".join(str(one["epochs"]) for one in runs)
        rows.append([name, mae, f"{medians['mae']:.4f}", epochs, seconds, three(medians["seconds"])])
    rows.append(["the same hours a week before", "", f"{found['week before']:.4f}", "", "", ""])
    return table(("side", "MAE by seed", "median", "epochs by seed", "training s by seed", "median"), rows)


def larger_than_memory(found: dict[str, Any]) -> str:
    keys = {"seconds": "seconds", "MB/s": "MB/s", "speed": "memory/side", "MB": "peak MB"}
    rows = [
        [cell, side, *(ratio(row[key]) if key == "speed" else three(row[key]) for key in keys)]
        for cell in ("elman", "gru")
        for side, row in found[cell]["sides"].items()
    ]
    return table(("cell", "side", *keys.values()), rows)


def torch_module(found: dict[str, Any]) -> str:
    """PyTorch's time over ours: a row for each width, a column for each batch, training / inference."""
    batches = sorted({row["B"] for row in found["rows"]})
    cells: dict[tuple[str, int], list[str]] = {}
    for row in found["rows"]:
        both = f"{ratio(row['train']['x'])} / {ratio(row['infer']['x'])}"
        cells.setdefault((row["kind"], row["H"]), []).append(both)
    rows = [[kind, str(width), *line] for (kind, width), line in cells.items()]
    for kind in (*dict.fromkeys(row["kind"] for row in found["rows"]), "all"):
        means = (torch_module_mean(found, way, kind)[0] for way in ("train", "infer"))
        blank = [""] * (len(batches) - 1)
        rows.append([f"{kind}, geometric mean", "", " / ".join(map(ratio, means)), *blank])
    return table(("module", "H", *(f"B = {batch}" for batch in batches)), rows)


def torch_module_mean(found: dict[str, Any], way: str, kind: str = "all") -> tuple[float, float]:
    """Geometric mean and lowest of PyTorch's time over ours."""
    ratios = [row[way]["x"] for row in found["rows"] if kind in (row["kind"], "all")]
    return geomean(ratios), min(ratios)


def quality_characters(found: dict[str, Any]) -> str:
    speeds = {(row["cell"], row["H"]): row for row in found["characters"]["speeds"]}
    rows = []
    for row in found["characters"]["learnt"]:
        by_streams = [value for name, value in speeds[row["cell"], row["H"]].items() if "streams" in name]
        bits = (f"{row[side]:.3f}" for side in ("bits", "PyTorch bits"))
        speed = (three(row[side]) for side in ("characters/s", "PyTorch characters/s"))
        streams = " / ".join(map(ratio, by_streams))
        rows.append([f"{row['cell']} {row['H']}", *bits, *speed, ratio(row["ratio"]), streams])
    titles = ("bits, ours", "bits, PyTorch", "characters/s, ours", "PyTorch", "ratio")
    return table(("cell, H", *titles, "ratio, 1 / 8 / 32 streams"), rows)


def quality_laser(found: dict[str, Any]) -> str:
    rows = []
    for row in found["laser"]["rows"]:
        spread = f"{row['lowest']:.5f} to {row['highest']:.5f}"
        rows.append([row["method"], f"{row['error']:.5f}", spread, three(row["seconds"])])
    return table(("method", "median error", "of five seeds", "seconds of training"), rows)


def imports(found: dict[str, Any]) -> str:
    rows = [["import bptt_fast, beyond numpy", f"{1e3 * found['import']['bptt_fast beyond numpy']:.0f} ms"]]
    rows += [[name, f"{1e6 * seconds:.0f} us"] for name, seconds in found["call"].items()]
    rows.append(["wheel", f"{found['wheel'] / 2**20:.2f} MiB"])
    return table(("what", "cost"), rows)


def sunspots(found: dict[str, Any]) -> str:
    keys = ("delays", "k", "learning_rate", "weight_decay", "epochs", "error")
    rows = ([f"{row[key]:g}" for key in keys] for row in found["rows"][:5])
    return table(("delays", "k", "learning rate", "weight decay", "epochs", "error"), rows)


def summary(found: dict[str, Any]) -> str:
    """The questions of bench/README.md, with answers from the results of one machine."""
    page = "../docs/benchmarks.md#"
    rows = found["rows"]
    scan, fastest, torch = (geomean([online_ratios(row)[i] for row in rows]) for i in (1, 2, 3))
    grid = autodiff_means(result(XEON, "autodiff"))
    peer, low = grid["the faster peer of each row"]
    long = result(XEON, "memory")["rows"][-1]
    module, module_low = torch_module_mean(result(XEON, "torch_module"), "train")
    infer, _ = torch_module_mean(result(XEON, "torch_module"), "infer")
    overhead = [row["overhead"] for row in result(XEON, "streaming")["learner"]]
    steps = [us for line in result(XEON, "streaming")["stream"].values() for us in line.values()]
    second = [row["LevenbergMarquardt x"] for row in result(XEON, "second_order")["adam"]]
    copies = result(XEON, "restarts")["rows"]
    least, most = (f([row["torch_over_halving"] for row in copies]) for f in (min, max))
    evolution = [row[-1] for row in result(XEON, "summaries")["tables"]["evolution_seconds"]["rows"]]
    quality = result(XEON, "quality")
    text = [row["ratio"] for row in quality["characters"]["learnt"]]
    apart = max(abs(row["bits"] - row["PyTorch bits"]) for row in quality["characters"]["learnt"])
    cost = result(XEON, "imports")
    answers = [
        (
            "How fast is the online algorithm?",
            f"{ratio(scan)} times as fast as JAX's lax.scan, {ratio(fastest)} times the fastest JAX, "
            f"{ratio(torch)} times PyTorch",
            "the-online-algorithm",
        ),
        (
            "How fast is a training step on whole sequences?",
            f"{ratio(peer)} times the faster of PyTorch and JAX, lowest {ratio(low)}; "
            f"{ratio(grid['PyTorch'][0])} times PyTorch",
            "whole-sequences",
        ),
        (
            "What does checkpointing cost?",
            f"{ratio(long['time'])} times the time for 1/{three(long['arena'])} of the memory "
            f"at {long['T']} steps",
            "long-series",
        ),
        (
            "What does one step of a stream cost?",
            f"{ratio(min(steps))} to {ratio(max(steps))} us; observing a pattern costs at most "
            f"{ratio(max(overhead))} us more than in fit",
            "streams-and-learners",
        ),
        (
            "Is second order worth it?",
            f"Levenberg-Marquardt needs {three(min(second))} to {three(max(second))} times less time than "
            "Adam",
            "second-order",
        ),
        (
            "What do 32 restarts cost?",
            f"with halving, one training in PyTorch takes {three(least)} to {three(most)} times as long",
            "restarts",
        ),
        (
            "Is evolution an alternative?",
            f"the best strategy takes {three(min(evolution))} to {three(max(evolution))} times as long as "
            "the best of ours",
            "evolution",
        ),
        (
            "What does changing one import in a PyTorch model gain?",
            f"{ratio(module)} times in training (lowest {ratio(module_low)}), {ratio(infer)} in inference",
            "pytorchs-modules",
        ),
        (
            "Are the results as good?",
            f"at most {apart:.3f} bits per character from PyTorch at {ratio(min(text))} to "
            f"{ratio(max(text))} times the speed; "
            f"accuracy {quality['speakers']['median']['accuracy']:.3f} on JapaneseVowels",
            "quality-on-real-data",
        ),
        (
            "What does an import and a call cost?",
            f"{1e3 * cost['import']['bptt_fast beyond numpy']:.0f} ms; predict of one step "
            f"{1e6 * cost['call']['predict, x of (1, 1, 1)']:.0f} us",
            "import-wheel-call",
        ),
    ]
    rows = [[question, answer, f"[table]({page}{anchor})"] for question, answer, anchor in answers]
    return table(("question", "answer (geometric means where not said otherwise)", ""), rows)


Make = Callable[[dict[str, Any]], str]
TABLES: dict[str, tuple[str, str, Make]] = {  # name of the table: machine, result, what makes it
    "summary": (XEON, "online", summary),
    "online": (XEON, "online", online),
    "online_avx2": (AVX2, "online", online),
    "online_zen5": (ZEN5, "online", online),
    "autodiff": (XEON, "autodiff", autodiff),
    "autodiff_summary": (XEON, "autodiff", autodiff_summary),
    "autodiff_avx2": (AVX2, "autodiff", autodiff),
    "autodiff_summary_avx2": (AVX2, "autodiff", autodiff_summary),
    "autodiff_zen5": (ZEN5, "autodiff", autodiff),
    "autodiff_summary_zen5": (ZEN5, "autodiff", autodiff_summary),
    "autodiff_ragged": (XEON, "autodiff_ragged", autodiff_ragged),
    "autodiff_ragged_zen5": (ZEN5, "autodiff_ragged", autodiff_ragged),
    "autodiff_scaling_T": (XEON, "autodiff_scaling", autodiff_scaling("T")),
    "autodiff_scaling_B": (XEON, "autodiff_scaling", autodiff_scaling("B")),
    "memory": (XEON, "memory", memory),
    "memory_peaks": (XEON, "memory", memory_peaks),
    "larger_than_memory": (XEON, "larger_than_memory", larger_than_memory),
    "stream_step": (XEON, "streaming", stream_step),
    "streaming": (XEON, "streaming", streaming),
    "second_order": (XEON, "second_order", second_order),
    "pyrenn": (XEON, "second_order", pyrenn),
    "restarts": (XEON, "restarts", restarts),
    "tiny_networks": (XEON, "tiny_networks", tiny_networks),
    "tiny_networks_torch": (XEON, "tiny_networks", tiny_networks_torch),
    "forecasting": (XEON, "forecasting", forecasting),
    "torch_module": (XEON, "torch_module", torch_module),
    "quality_characters": (XEON, "quality", quality_characters),
    "quality_laser": (XEON, "quality", quality_laser),
    "imports": (XEON, "imports", imports),
    "sunspots": (ANY, "sunspots", sunspots),
}


def stored_table(name: str) -> Make:
    return lambda found: stored(found["tables"][name])


for _path in sorted([*RESULTS.glob("*/summaries.json"), *RESULTS.glob("*/experiments.json")]):
    for _name in result(_path.parent.name, _path.stem)["tables"]:
        TABLES[_name] = (_path.parent.name, _path.stem, stored_table(_name))


MARKED = re.compile(r"<!-- table:(\w+) -->\n.*?<!-- /table:\1 -->", flags=re.S)


def filled(page: str) -> str:
    """A page with its tables as the results have them."""

    def written(match: re.Match[str]) -> str:
        machine, name, make = TABLES[match[1]]
        return f"<!-- table:{match[1]} -->\n{make(result(machine, name))}<!-- /table:{match[1]} -->"

    return MARKED.sub(written, page)


def by_hand(page: str) -> Sequence[str]:
    """Lines of tables with figures that stand outside of the marks."""
    rest = re.sub(r"^```.*?^```$", "", MARKED.sub("", page), flags=re.S | re.M)
    return [line for line in rest.splitlines() if re.match(r"\s*\|.*\|\s*[-+~<>]*\d[\d.]*\s*\|", line)]


def main() -> int:
    for path in PAGES:
        path.write_text(filled(path.read_text(encoding="utf-8")), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
