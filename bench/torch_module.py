"""PyTorch's modules with one import changed: bptt_fast.torch.RNN, GRU and LSTM compared with torch.nn's.

Sequences of T = 50 steps, I = H, float32.  "train": forward and, from a given gradient of the outputs,
backward pass, gradients set to None before (as zero_grad does); "infer": outputs under no_grad.  Both
modules have the same parameters, and their outputs and gradients are compared before anything is timed.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from . import common

STEPS = 50
KINDS, WIDTHS, BATCHES = ("RNN", "GRU", "LSTM"), (16, 32, 64, 128, 256), (1, 4, 16, 64)


def calls(module: Any, x: Any, dy: Any) -> dict[str, Callable[[], Any]]:
    import torch

    parameters = list(module.parameters())

    def train() -> list[Any]:
        for p in (x, *parameters):
            p.grad = None
        y, _ = module(x)
        y.backward(dy)
        return [y, *(p.grad for p in (x, *parameters))]

    def infer() -> Any:
        with torch.no_grad():
            return module(x)

    return {"train": train, "infer": infer}


def measure(kind: str, hidden: int, batch: int, wanted: bool, **timing: Any) -> dict[str, Any]:
    """One line of the table; wanted: the gradient of the inputs too, as below another module."""
    import torch

    import bptt_fast.torch as fast

    torch.manual_seed(0)
    theirs = getattr(torch.nn, kind)(hidden, hidden)
    ours = getattr(fast, kind)(hidden, hidden)
    ours.load_state_dict(theirs.state_dict())
    x, dy = torch.randn(STEPS, batch, hidden, requires_grad=wanted), torch.randn(STEPS, batch, hidden)
    sides = {"bptt_fast": calls(ours, x, dy), "PyTorch": calls(theirs, x, dy)}
    for a, b in zip(sides["bptt_fast"]["train"](), sides["PyTorch"]["train"](), strict=True):
        if a is not None and not torch.allclose(a, b, rtol=1e-3, atol=1e-3 * b.detach().abs().max().item()):
            sys.exit(f"bench.torch_module: the two sides differ ({kind}, H {hidden}, batch {batch})")
    row: dict[str, Any] = {"kind": kind, "H": hidden, "B": batch, "input_gradient": wanted}
    for name in ("train", "infer"):
        times = common.interleave({side: each[name] for side, each in sides.items()}, **timing)
        row[name] = {side: 1e3 * t for side, t in times.items()}
        row[name]["x"] = times["PyTorch"] / times["bptt_fast"]
    return row


def main() -> int:
    args = common.start(
        __doc__,
        lambda parser: parser.add_argument(
            "--inputs", action="store_true", help="the gradient of the inputs too, as in a stack of modules"
        ),
    )
    import torch

    torch.set_num_threads(args.threads)
    common.print_environment()
    timing = {"rounds": 3, "seconds": 0.02} if args.quick else {"rounds": 7, "seconds": 0.05}
    print("milliseconds; x: PyTorch's time over ours")
    widths = (4, 4, 4, 9, 9, 6, 9, 9, 6)
    common.print_row(("", "H", "B", "train", "PyTorch", "x", "infer", "PyTorch", "x"), widths)
    rows = []
    for kind in KINDS:
        for hidden in WIDTHS:
            for batch in BATCHES:
                row = measure(kind, hidden, batch, args.inputs, **timing)
                rows.append(row)
                numbers = (*row["train"].values(), *row["infer"].values())
                common.print_row((kind, str(hidden), str(batch), *numbers), widths)
    for name in ("train", "infer"):
        for kind in (*KINDS, "all"):
            ratios = [row[name]["x"] for row in rows if kind in (row["kind"], "all")]
            mean = common.geomean(ratios)
            print(f"{name}, {kind}: {mean:.2f} times as fast in the geometric mean, lowest {min(ratios):.2f}")
    common.finish(args, {"rows": rows}, "inputs" if args.inputs else "")
    return 0


if __name__ == "__main__":
    sys.exit(main())
