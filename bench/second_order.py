"""Second-order optimisers compared with Adam, and with pyrenn.

Regression with at most 200 parameters, in float64: a nonlinear plant after Narendra and Parthasarathy from
fifteen random inputs, a NARMA system from twenty, the Henon map from eight of its values, about 300 sequences
each; the next yearly number of sunspots from twelve, a Mackey-Glass series six steps ahead from twenty; and
sunspots and plant as one series with a target at every step, where a Jacobian costs T^2 and a gradient T.

Adam gets 1000 epochs with the rate and the batch size, of a grid, that end lowest in the median of the seeds;
its best loss then is the target for the others, from the same initial weights.  Times are the processor's, of
one thread, for all of `fit`; ratios are medians over the seeds, and a seed that never reaches its target
counts as infinite time.

pyrenn gets its own kind of task: one series, one hidden layer with recurrent connections of one step, its
RTRL Jacobian; compared with an iteration of ours at the same hidden width.  It needs only NumPy and may lie
in a folder of its own on PYTHONPATH.
"""

from __future__ import annotations

import argparse
import math
import statistics
import sys
import time

from . import common

RATES = (1e-3, 3e-3, 1e-2, 3e-2, 1e-1)


def yearly():
    """The sunspot numbers of 1700 to 1920, in hundreds."""
    from bptt_fast import demo

    years, numbers = demo.sunspots()
    return numbers[years <= 1920] / 100


def response(u):
    """The plant y' = y / (1 + y^2) + u^3 from rest, y (n, T) after each of the inputs u (n, T)."""
    import numpy as np

    y = np.zeros((len(u), u.shape[1] + 1))
    for t in range(u.shape[1]):
        y[:, t + 1] = y[:, t] / (1 + y[:, t] ** 2) + u[:, t] ** 3
    return y[:, 1:]


def windows(series, steps, ahead, stride=1):
    """x (n, steps, 1) and y (n, 1), the value `ahead` steps after the last of each window."""
    import numpy as np

    starts = np.arange(0, len(series) - steps - ahead + 1, stride)
    return series[starts[:, None] + np.arange(steps)][..., None], series[starts + steps + ahead - 1, None]


def sunspots():
    """x, y, hidden units, readout: the next year from twelve."""
    return *windows(yearly(), 12, 1), 10, "last"


def plant():
    """x, y, hidden units, readout: the plant's last output from fifteen random inputs."""
    import numpy as np

    u = np.random.default_rng(0).uniform(-1, 1, (300, 15))
    return u[..., None], response(u)[:, -1:], 8, "last"


def narma():
    """x, y, hidden units, readout: a NARMA system of order 5 from twenty inputs, shifted and scaled."""
    import numpy as np

    u, y = np.random.default_rng(0).uniform(0, 0.5, (300, 20)), np.zeros((300, 21))
    for t in range(20):
        before = max(0, t - 4)
        y[:, t + 1] = 0.3 * y[:, t] + 0.05 * y[:, t] * y[:, before : t + 1].sum(axis=1) + 0.1
        y[:, t + 1] += 1.5 * u[:, before] * u[:, t]
    return 4 * (u[..., None] - 0.25), 4 * (y[:, -1:] - 0.3), 8, "last"


def henon():
    """x, y, hidden units, readout: the next value of the Henon map from eight."""
    import numpy as np

    s = np.full(400, 0.1)
    for t in range(1, 399):
        s[t + 1] = 1 - 1.4 * s[t] ** 2 + 0.3 * s[t - 1]
    return *windows(s[50:], 8, 1), 8, "last"


def mackey_glass():
    """x, y, hidden units, readout: a Mackey-Glass series of delay 17, six steps ahead from twenty."""
    import numpy as np

    s = np.full(1120, 1.2)
    for t in range(17, len(s) - 1):
        s[t + 1] = s[t] + 0.2 * s[t - 17] / (1 + s[t - 17] ** 10) - 0.1 * s[t]
    return *windows(s[200:] - 0.9, 20, 6, 3), 10, "last"


def sunspots_series():
    """The next year after each, one series."""
    s = yearly()[:, None]
    return s[:-1], s[1:], 12, "every"


def plant_series():
    """The plant's output after each of 200 inputs, one series."""
    import numpy as np

    u = np.repeat(np.random.default_rng(0).uniform(-1, 1, (1, 100)), 2, axis=1)
    return u.T, response(u).T, 8, "every"


TASKS = {
    "plant": plant,
    "NARMA": narma,
    "Henon map": henon,
    "sunspots": sunspots,
    "Mackey-Glass": mackey_glass,
    "sunspots, one series": sunspots_series,
    "plant, one series": plant_series,
}


def train(task, seed, optimizer, epochs, target=None, batch_size=None):
    """(least loss, seconds until then or, with a target, until there; inf: never, epochs, parameters)."""
    import bptt_fast as bf

    x, y, hidden, readout = task
    net = bf.Network(1, hidden, 1, readout=readout, dtype="float64", seed=seed)
    begin = time.process_time()
    history = net.fit(
        x, y, optimizer=optimizer, epochs=epochs, batch_size=batch_size, target_loss=target, verbose=0
    )
    seconds = time.process_time() - begin
    if target is not None and history.stopped != "target_loss":
        seconds = math.inf
    return min(history["loss"]), seconds, len(history["loss"]), net.num_parameters


def against_adam(seeds, epochs):
    """Rows of the first table."""
    import bptt_fast as bf

    rows = []
    for name, make in TASKS.items():
        task = make()
        sizes = (16, 32, 64, len(task[0])) if task[3] == "last" else (1,)
        tries = {
            (rate, size): [train(task, seed, bf.Adam(rate), epochs, batch_size=size) for seed in seeds]
            for rate in RATES
            for size in sizes
        }
        best = min(tries, key=lambda key: statistics.median(loss for loss, *_ in tries[key]))
        adam = tries[best]
        row = {
            "task": name,
            "parameters": adam[0][3],
            "Adam": f"rate {best[0]:g}, batch {best[1]}",
            "loss": statistics.median(loss for loss, *_ in adam),
            "Adam s": statistics.median(seconds for _, seconds, *_ in adam),
        }
        for method, most in ((bf.LevenbergMarquardt(), 300), (bf.LBFGS(), 2000), (bf.HessianFree(), 300)):
            runs = [
                train(task, seed, method, most, target=loss)
                for seed, (loss, *_) in zip(seeds, adam, strict=True)
            ]
            kind = type(method).__name__
            row[f"{kind} s"] = statistics.median(seconds for _, seconds, *_ in runs)
            row[f"{kind} iterations"] = statistics.median(count for *_, count, _ in runs)
            row[f"{kind} x"] = statistics.median(
                mine[1] / seconds for mine, (_, seconds, *_) in zip(adam, runs, strict=True)
            )
        rows.append(row)
        widths = (21, 5, 21, 10, 9)
        common.print_row([row[k] for k in list(row)[:5]], widths)
        for kind in ("LevenbergMarquardt", "LBFGS", "HessianFree"):
            cells = [float(row[f"{kind} {what}"]) for what in ("s", "iterations", "x")]
            common.print_row(["", kind, *cells], (21, 20, 9, 9, 9))
    return rows


def against_pyrenn(iterations, rounds=5):
    """Rows of the second table: seconds an iteration, the median of runs that take turns."""
    import contextlib
    import io

    import numpy as np
    import pyrenn

    import bptt_fast as bf

    x, y, *_ = plant_series()
    rows = []
    for hidden, steps in ((4, 100), (8, 200)):
        samples, peers = [], []
        for seed in range(4 * rounds):
            if seed % 4 == 0:
                np.random.seed(seed)
                theirs = pyrenn.CreateNN([1, hidden, 1], dIn=[0], dIntern=[1], dOut=[])
                begin = time.process_time()
                with contextlib.redirect_stdout(io.StringIO()):
                    pyrenn.train_LM(x[:steps].T, y[:steps].T, theirs, k_max=iterations, E_stop=1e-12)
                # its first Jacobian comes on top
                peers.append((time.process_time() - begin) / (iterations + 1))
            net = bf.Network(1, hidden, 1, readout="every", dtype="float64", seed=seed)
            begin = time.process_time()
            net.fit(x[:steps], y[:steps], optimizer=bf.LevenbergMarquardt(), epochs=iterations, verbose=0)
            samples.append((time.process_time() - begin) / iterations)
        ours, seconds = statistics.median(samples), statistics.median(peers)
        rows.append(
            {
                "hidden, steps": f"{hidden}, {steps}",
                "weights": f"{len(theirs['w'])} and {net.num_parameters}",
                "pyrenn": seconds,
                "bptt_fast": ours,
                "ratio": seconds / ours,
            }
        )
        common.print_row(list(rows[-1].values()), (14, 12, 9, 9, 9))
    return rows


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seeds", type=int, default=5)


def main() -> int:
    args = common.start(__doc__, options)
    import scipy.linalg
    import scipy.optimize  # noqa: F401  their import is no part of a fit

    common.print_environment()
    seeds, epochs = range(2 if args.quick else args.seeds), 200 if args.quick else 1000
    print(
        f"\nAdam, {epochs} epochs: task, parameters, setting, loss, seconds; then seconds and iterations to"
    )
    print("its loss, and how many times faster (medians of the seeds)")
    results = {"adam": against_adam(seeds, epochs)}
    if common.missing("pyrenn"):
        print("\npyrenn is not installed")
    else:
        print("\nhidden units and steps, weights of pyrenn and of ours, seconds an iteration of each, ratio")
        results["pyrenn"] = against_pyrenn(2 if args.quick else 20)
    common.finish(args, results)
    return 0


if __name__ == "__main__":
    sys.exit(main())
