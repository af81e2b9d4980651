"""One step at a time: stream.step, and learner.observe compared with the C time of a pattern, microseconds.

stream.step: I 8, O 1, every cell, H 8, 16 and 32.  learner.observe: the sizes of bench.online, the Elman
cell and SGD; the C time of a pattern is that of net.fit with SlidingBPTT over the same series, whose weights
must come out the same to the bit.
"""

from __future__ import annotations

import sys
from typing import Any

from . import common
from .online import RATE, SIZES

CELLS = ("elman", "gru", "lstm", "mlp")
WIDTHS = (8, 16, 32)


def stepping(cell: str, hidden: int, steps: int) -> Any:
    """A function that makes `steps` steps; its outputs are those of predict."""
    import numpy as np

    import bptt_fast as bf

    net = bf.Network(8, hidden, 1, cell=cell, f=(hidden,) if cell == "mlp" else (), seed=0)
    series = np.random.default_rng(0).standard_normal((steps, 8), np.float32)
    rows, stream = list(series), net.stream()
    y = np.array([stream.step(a) for a in rows])
    if not np.allclose(y, net.predict(series, readout="every"), rtol=1e-4, atol=1e-5):
        sys.exit(f"bench.streaming: stream.step and predict differ ({cell}, H {hidden})")
    step = stream.step

    def run() -> None:
        for a in rows:
            step(a)

    return run


def learning(k: int, inputs: int, hidden: int, patterns: int) -> dict[str, Any]:
    """The same patterns observed one by one and in a fit; equal weights to the bit after the first time."""
    import numpy as np

    import bptt_fast as bf

    rng = np.random.default_rng(0)
    series = rng.standard_normal((patterns + k, inputs), np.float32)
    targets = rng.standard_normal((patterns + k, 1), np.float32)
    options = {"bptt": bf.SlidingBPTT(k), "optimizer": bf.SGD(RATE), "threads": 1, "verbose": 0}
    nets = [bf.Network(inputs, hidden, 1, seed=0) for _ in range(2)]
    learner = nets[0].learn_online(bf.SlidingBPTT(k), bf.SGD(RATE))
    observe, rows = learner.observe, list(zip(series, targets, strict=True))

    def observed() -> None:
        for a, y in rows:
            observe(a, y)

    def fitted() -> None:
        nets[1].fit(series, targets, **options)

    observed()
    fitted()
    if not np.array_equal(nets[0].params, nets[1].params):
        sys.exit(f"bench.streaming: observe and fit reach different weights at {k, inputs, hidden}")
    return {"observe": observed, "fit": fitted}


def main() -> int:
    args = common.start(__doc__)
    if args.threads != 1:
        sys.exit("bench.streaming: steps come one after another; expected one thread, leave --threads out")
    common.print_environment()
    timing = {"rounds": 3, "seconds": 0.03} if args.quick else {"rounds": 9, "seconds": 0.15}
    steps = 2000
    widths = (12, 9, 9, 9)
    common.print_row(("stream.step", *(f"H {h} us" for h in WIDTHS)), widths)
    stream = {}
    for cell in CELLS:
        times = common.interleave({str(h): stepping(cell, h, steps) for h in WIDTHS}, **timing)
        stream[cell] = {h: 1e6 * t / steps for h, t in times.items()}
        common.print_row((cell, *stream[cell].values()), widths)
    slowest = max(us for row in stream.values() for us in row.values())
    print(f"slowest {slowest:.2f} us\n")

    common.print_row(("k, I, H", "observe us", "fit us", "overhead"), widths)
    rows = []
    for k, inputs, hidden in SIZES:
        patterns = 20_000 if hidden < 64 else 2_000
        times = common.interleave(learning(k, inputs, hidden, patterns), **timing)
        us = {name: 1e6 * t / patterns for name, t in times.items()}
        row = {"k": k, "I": inputs, "H": hidden, "us": us, "overhead": us["observe"] - us["fit"]}
        rows.append(row)
        common.print_row((f"{k}, {inputs}, {hidden}", *us.values(), row["overhead"]), widths)
    print(f"overhead at most {max(r['overhead'] for r in rows):.2f} us")
    common.finish(args, {"stream": stream, "learner": rows})
    return 0


if __name__ == "__main__":
    sys.exit(main())
