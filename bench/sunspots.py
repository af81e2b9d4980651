"""How the demo's settings were chosen: on the years up to 1920 alone.

Rolling origin: every setting is trained up to 1820, 1840, 1860, 1880 and 1900 and predicts the twenty years
that follow each time; so each year from 1821 to 1920 is predicted once by networks that did not know it.
What counts is the average relative variance over that century, the median over the seeds, at the best number
of epochs.  The years from 1921 on are not looked at; the variance is that of the years up to 1920.
"""

from __future__ import annotations

import argparse
import itertools
import sys

from . import common

FOLDS = (1820, 1840, 1860, 1880, 1900)
AHEAD = 20
CHOICES = {
    "delays": (1, 2, 3, 4),
    "k": (3, 5, 8),
    "learning_rate": (0.005, 0.01),
    "weight_decay": (1e-4, 1e-3, 3e-3),
}
STRIDE, STRIDES = 50, 40  # epochs between two looks, and how many looks


def judge(years, numbers, seeds, learning_rate, weight_decay, **setting):
    """The median error over the seeds after every STRIDE epochs, (STRIDES,)."""
    import numpy as np

    import bptt_fast as bf
    from bptt_fast import demo

    optimizer = bf.SGD(learning_rate, weight_decay=weight_decay)
    errors = np.zeros((seeds, STRIDES))
    for seed, last in itertools.product(range(seeds), FOLDS):
        net = None
        for look in range(STRIDES):
            try:
                net, _ = demo.train(
                    years, numbers, seed, last=last, epochs=STRIDE, optimizer=optimizer, net=net, **setting
                )
            except bf.DivergedError:
                errors[seed, look:] = np.inf
                break
            predicted = demo.predict(net, numbers)
            errors[seed, look] += demo.relative_variance(years, numbers, predicted, last + 1, last + AHEAD)
    return np.median(errors, axis=0) / len(FOLDS)


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seeds", type=int, default=5)


def main() -> int:
    args = common.start(__doc__, options)
    from bptt_fast import demo

    years, numbers = demo.sunspots()
    kept = years <= demo.LAST_TRAINING_YEAR
    years, numbers = years[kept], numbers[kept]
    rows = []
    for values in itertools.product(*CHOICES.values()):
        setting = dict(zip(CHOICES, values, strict=True))
        errors = judge(years, numbers, 2 if args.quick else args.seeds, **setting)
        best = int(errors.argmin())
        rows.append({**setting, "epochs": STRIDE * (best + 1), "error": float(errors[best])})
        print(len(rows), rows[-1], file=sys.stderr, flush=True)
    models = {"persistence": lambda last: demo.persistence(numbers)}
    models |= {f"AR({p})": lambda last, p=p: demo.autoregression(years, numbers, p, last) for p in (2, 12)}
    for name, model in models.items():
        errors = [
            demo.relative_variance(years, numbers, model(last), last + 1, last + AHEAD) for last in FOLDS
        ]
        print(f"{name}: {sum(errors) / len(errors):.3f}")
    rows.sort(key=lambda row: row["error"])
    widths = (7, 3, 14, 13, 7, 7)
    common.print_row(tuple(rows[0]), widths)
    for row in rows[:20]:
        common.print_row(tuple(row.values()), widths)
    common.finish(args, {"rows": rows})
    return 0


if __name__ == "__main__":
    sys.exit(main())
