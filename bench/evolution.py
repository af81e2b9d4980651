"""Backpropagation through time against evolution: time and evaluations to reach a loss; float64, one core.

Tasks: temporal XOR (each output is the XOR of the last two inputs), the yearly sunspot numbers up to 1920 one
year ahead, and the Mackey-Glass series six time units ahead.  The loss is that of all training data; the
targets are: every bit right, better than a linear model of 12 years, a tenth of the standard deviation.

Gradients: Adam, SGD with momentum, L-BFGS (scipy), Levenberg-Marquardt where this build has it.  A try that
does not arrive within its updates restarts from another seed, and its time counts.  Evolution: CMA-ES
(cma, with all covariances and with variances alone, restarted when it stops), differential evolution (scipy),
and a simple evolution strategy (mirrored Gaussian noise, ranks, Adam).  Their fitness is our own forward pass
through a plan prepared once: no checks, no copies, no gradient.  "fitness s" is the time spent there alone.
All methods were tuned, on other seeds: learning rates, momenta, populations, widths.

An evaluation is one forward pass over the data; a gradient, forward and back, counts as one too, and takes
about three times as long.
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import sys
import time
import warnings
from pathlib import Path

from . import common

# task: hidden units, loss to reach, rate of Adam, rate and momentum of SGD, rate of ES, updates of one try
SETTINGS = {
    "temporal XOR": (8, 0.05, 0.05, (0.2, 0.9), 0.03, 1000),
    "sunspots": (8, 0.0125, 0.1, (0.2, 0.95), 0.03, 3000),
    "Mackey-Glass": (12, 0.01, 0.05, (0.1, 0.95), 0.01, 3000),
}
TILE = 5  # updates in one call of the core
OURS = ("Adam", "SGD", "L-BFGS", "LM")
EVOLUTION = ("CMA-ES", "sep-CMA-ES", "DE", "ES")
COLOURS = dict(zip((*OURS, *EVOLUTION), ("C0", "C9", "C2", "C4", "C3", "C6", "C1", "C5"), strict=True))


# ---- tasks: x (n, T, I), y (n, T, 1), weights or None


def temporal_xor():
    import numpy as np

    x = np.random.default_rng(0).choice([-1.0, 1.0], size=(32, 20, 1))
    y, weight = np.zeros_like(x), np.ones((32, 20))
    y[:, 1:] = -x[:, 1:] * x[:, :-1]
    weight[:, 0] = 0
    return x, y, weight


def sunspots():
    from bptt_fast import demo

    years, numbers = demo.sunspots()
    series = numbers[years <= demo.LAST_TRAINING_YEAR] / demo.SCALE
    return demo.delayed(series, 2)[None, :-1], series[None, 2:, None], None


def mackey_glass(steps=400, delay=17.0, every=3.0, ahead=2, dt=0.1):
    """dv/dt = 0.2 v(t - delay) / (1 + v(t - delay)^10) - 0.1 v by Euler's method; rows every 3 time units."""
    import numpy as np

    lag, row, skip = round(delay / dt), round(every / dt), 200
    v = np.full(lag + (skip + steps + ahead + 1) * row, 1.2)
    for i in range(lag, len(v) - 1):
        v[i + 1] = v[i] + dt * (0.2 * v[i - lag] / (1 + v[i - lag] ** 10) - 0.1 * v[i])
    series = v[lag::row][skip : skip + steps + ahead]
    series = (series - series.mean()) / series.std()
    return series[None, :steps, None], series[None, ahead:, None], None


TASKS = {"temporal XOR": temporal_xor, "sunspots": sunspots, "Mackey-Glass": mackey_glass}


class Reached(Exception):
    """The target, or the end of the time."""


class Run:
    """One run of one method: the clock, the best loss so far, and how often it was asked for."""

    def __init__(self, task, seed, budget):
        from bptt_fast import data, losses, network, training

        self.x, self.y, self.weight = TASKS[task]()
        self.task, self.seed = task, seed
        self.hidden, self.target, self.adam, self.sgd, self.es, self.patience = SETTINGS[task]
        net = self.network(0)
        sequences = training._sequences(net, self.x, self.y, losses.get("mse"), True, self.weight, None, None)
        n, steps = self.x.shape[:2]
        self.plan = network.make_plan(net._desc, "mse", True, n, steps, 1, None, False)
        self.data, self.order = network.core_data(sequences), data.counting(n)
        self.net, self.evaluations, self.fitness_seconds = net, 0, 0.0
        self.curve = []  # (seconds, evaluations, best loss)
        self.best, self.budget, self.begin = float("inf"), budget, time.perf_counter()

    def network(self, attempt):
        import bptt_fast as bf

        return bf.Network(
            self.x.shape[2],
            self.hidden,
            1,
            readout="every",
            dtype="float64",
            seed=1000 * (self.seed + 1) + attempt,
        )

    @property
    def left(self):
        return self.budget - (time.perf_counter() - self.begin)

    def note(self, loss, evaluations=1):
        self.evaluations += evaluations
        if loss < self.best:
            self.best = loss
            self.curve.append((time.perf_counter() - self.begin, self.evaluations, loss))
            if loss <= self.target:
                raise Reached
        elif self.evaluations % 64 == 0 and self.left < 0:
            raise Reached

    def fitness(self, params):
        """The loss with these parameters: one call of the core."""
        if not params.flags.c_contiguous:
            params = params.copy()
        begin = time.perf_counter()
        _, loss = self.plan.evaluate(params, self.data, self.order)
        self.fitness_seconds += time.perf_counter() - begin
        self.note(loss)
        return loss

    def __call__(self, method):
        with contextlib.suppress(Reached):
            METHODS[method](self)
        reached = self.best <= self.target
        seconds = self.curve[-1][0] if reached else float("inf")
        return {
            "task": self.task,
            "method": method,
            "seed": self.seed,
            "reached": reached,
            "seconds": seconds,
            "evaluations": self.evaluations if reached else float("inf"),
            "fitness_seconds": self.fitness_seconds if reached else float("inf"),
            "loss": self.best,
            "curve": self.curve,
        }


# ---- gradients


def first_order(optimizer, tile=TILE):
    """Full-batch training by fit, `tile` updates an epoch; what it reports is the mean over them."""

    def train(run):
        import numpy as np

        n = len(run.x)
        x, y = np.tile(run.x, (tile, 1, 1)), np.tile(run.y, (tile, 1, 1))
        weight = None if run.weight is None else np.tile(run.weight, (tile, 1))
        for attempt in range(1000):
            net = run.network(attempt)
            start = time.perf_counter() - run.begin
            history = net.fit(
                x, y, sample_weight=weight, epochs=-(-run.patience // tile), batch_size=n, shuffle=False,
                optimizer=optimizer(run), clip_norm=1.0 if tile > 1 else None, target_loss=run.target,
                max_seconds=max(run.left, 1e-3), threads=1, verbose=0,
            )  # fmt: skip
            end = time.perf_counter() - run.begin
            spent = np.cumsum(history["seconds"])
            for seconds, loss in zip(end - start - spent[-1] + spent, history["loss"], strict=True):
                run.evaluations += tile
                if loss < run.best:
                    run.best = loss
                    run.curve.append((start + seconds, run.evaluations, loss))
            if run.best <= run.target or run.left < 0:
                raise Reached

    return train


def adam(run):
    import bptt_fast as bf

    return bf.Adam(run.adam)


def sgd(run):
    import bptt_fast as bf

    rate, momentum = run.sgd
    return bf.SGD(rate, momentum=momentum, nesterov=True)


def levenberg_marquardt(run):
    import bptt_fast as bf

    return bf.LevenbergMarquardt()


def lbfgs(run):
    import numpy as np
    from scipy.optimize import minimize

    net = run.net
    grad = np.zeros(net.num_parameters)

    def loss_and_grad(params):
        _, loss = run.plan.loss_and_grad(np.ascontiguousarray(params), run.data, run.order, grad)
        run.note(loss)
        return loss, grad.copy()

    for attempt in range(1000):
        start = run.network(attempt).params.copy()
        minimize(
            loss_and_grad, start, jac=True, method="L-BFGS-B", options={"maxiter": run.patience, "maxcor": 20}
        )
        if run.left < 0:
            raise Reached


# ---- evolution


def cma_es(diagonal):
    """With all covariances, or the variances alone, which costs less and learns faster."""

    def search(run):
        import cma

        for attempt in range(1000):
            words = {
                "seed": 1 + 1000 * run.seed + attempt,
                "verbose": -9,
                "verb_log": 0,
                "CMA_diagonal": diagonal,
            }
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                strategy = cma.CMAEvolutionStrategy(run.network(attempt).params.copy(), 0.05, words)
                while not strategy.stop():
                    asked = strategy.ask()
                    strategy.tell(asked, [run.fitness(params) for params in asked])
                    if run.left < 0:
                        raise Reached

    return search


def differential_evolution(run, population=30):
    import numpy as np
    from scipy.optimize import differential_evolution

    size = run.net.num_parameters
    random = np.random.default_rng(run.seed)
    first = run.net.params + random.normal(0, 0.2, size=(population, size))
    differential_evolution(
        run.fitness, [(-5, 5)] * size, init=first.clip(-5, 5), maxiter=10**9, tol=0, atol=0, polish=False,
        mutation=(0.3, 0.7), recombination=0.95, rng=random,
    )  # fmt: skip


def evolution_strategy(run, pairs=16, sigma=0.01):
    """Mirrored Gaussian noise, ranks for fitness, the estimated gradient through Adam."""
    import numpy as np

    random = np.random.default_rng(run.seed)
    center = run.net.params.copy()
    first, second, step = np.zeros_like(center), np.zeros_like(center), 0
    ranks = np.empty(2 * pairs)
    while True:
        noise = random.normal(size=(pairs, len(center)))
        losses = np.array([run.fitness(center + s * sigma * z) for s in (1, -1) for z in noise])
        ranks[losses.argsort()] = np.linspace(-0.5, 0.5, 2 * pairs)
        gradient = (ranks[:pairs] - ranks[pairs:]) @ noise
        step += 1
        first = 0.9 * first + 0.1 * gradient
        second = 0.999 * second + 0.001 * gradient**2
        center -= run.es * (first / (1 - 0.9**step)) / (np.sqrt(second / (1 - 0.999**step)) + 1e-8)
        if run.left < 0:
            raise Reached


METHODS = {
    "Adam": first_order(adam),
    "SGD": first_order(sgd),
    "L-BFGS": lbfgs,
    "LM": first_order(levenberg_marquardt, tile=1),
    "CMA-ES": cma_es(False),
    "sep-CMA-ES": cma_es(True),
    "DE": differential_evolution,
    "ES": evolution_strategy,
}


# ---- the report


def median(rows, key):
    return statistics.median(row[key] for row in rows)


def draw(results, budget, path):
    """Median of the best loss over time, a picture a task."""
    import numpy as np
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 7.5), layout="constrained")
    times = np.geomspace(1e-4, budget, 200)
    for ax, task in zip(figure.subplots(len(SETTINGS), sharex=True), SETTINGS, strict=True):
        for method in METHODS:
            rows = [row for row in results if (row["task"], row["method"]) == (task, method)]
            curves = [at_times(row["curve"], times) for row in rows if row["curve"]]
            if curves:
                middle = np.median(curves, axis=0)
                style = "-" if method in OURS else "--"
                ax.plot(times, middle, style, color=COLOURS[method], label=method, linewidth=1.5)
        target = SETTINGS[task][1]
        ax.axhline(target, color="0.5", linewidth=0.8, linestyle=":")
        ax.set_xscale("log")
        ax.set_yscale("log")
        ax.set_ylim(bottom=target / 1.5)
        ax.set_ylabel("best loss so far (mse)")
        ax.set_title(f"{task}, target {target:g}", loc="left", size="medium")
    figure.axes[0].legend(frameon=False, fontsize="small", ncols=2, loc="lower left")
    figure.axes[-1].set_xlabel("time (s)")
    figure.savefig(path, dpi=110)
    print(f"picture: {path}")


def at_times(curve, times):
    """The best loss at each time; before the first, that one."""
    import numpy as np

    seconds, _, losses = map(np.array, zip(*curve, strict=True))
    found = np.searchsorted(seconds, times, side="right") - 1
    return losses[found.clip(0)]


def report(results, budget, methods):
    widths = (13, 10, 9, 10, 12, 11, 10, 14)
    head = (
        "task",
        "method",
        "reached",
        "median s",
        "evaluations",
        "fitness s",
        "final loss",
        "times fastest",
    )
    common.print_row(head, widths)
    ratios = []
    for task in SETTINGS:
        rows = {m: [r for r in results if (r["task"], r["method"]) == (task, m)] for m in methods}
        ours = {m: median(rows[m], "seconds") for m in methods if m in OURS}
        fastest = min(ours, key=ours.get)
        for method in methods:
            found = rows[method]
            seconds = median(found, "seconds")
            failed = seconds == float("inf")
            shown = (
                task, method, f"{sum(r['reached'] for r in found)}/{len(found)}",
                f"> {budget:g}" if failed else seconds,
                "-" if failed else float(median(found, "evaluations")),
                "-" if failed or method in OURS else median(found, "fitness_seconds"),
                median(found, "loss"), f"{'> ' if failed else ''}{min(seconds, budget) / ours[fastest]:.3g}",
            )  # fmt: skip
            common.print_row(shown, widths)
        evolution = {m: median(rows[m], "seconds") for m in methods if m in EVOLUTION}
        best = min(evolution, key=evolution.get)
        ratio = min(evolution[best], budget) / ours[fastest]
        open_end = evolution[best] == float("inf")
        fitness = min(median(rows[m], "fitness_seconds") for m in evolution) / ours[fastest]
        wins = evolution[best] < ours[fastest]
        words = (
            "EVOLUTION WINS"
            if wins
            else f"{fastest} takes {'more than ' * open_end}{ratio:.3g} times less time"
        )
        more = "" if open_end else f"; {fitness:.3g} times, were evolution's own arithmetic free"
        nearest = "no strategy arrived in the median" if open_end else f"the best strategy is {best}"
        print(f"{task}: {words} ({nearest}{more})\n")
        slower = [m for m in ours if evolution[best] < ours[m] < float("inf")]
        if slower:
            print(f"{task}: {best} is faster than {', '.join(slower)}\n")
        ratios.append({"task": task, "ours": fastest, "evolution": best, "ratio": ratio, "open": open_end})
    return ratios


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=None, help="limit of a run (default 60, --quick 5)")
    parser.add_argument("--plot", type=Path, default=Path("evolution.png"), help="the picture of the curves")


def main() -> int:
    args = common.start(__doc__, options)
    absent = common.missing("scipy", "cma")
    if absent:
        print(f'missing: {", ".join(absent)}.  Try: pip install ".[bench]"')
        return 2
    import bptt_fast as bf

    common.print_environment()
    seeds = 3 if args.quick else args.seeds
    budget = args.seconds or (5.0 if args.quick else 60.0)
    methods = [m for m in METHODS if m != "LM" or hasattr(bf, "LevenbergMarquardt")]
    for task in SETTINGS:
        run = Run(task, 0, budget)
        begin = time.perf_counter()
        for _ in range(200):
            run.plan.evaluate(run.net.params, run.data, run.order)
        each = (time.perf_counter() - begin) / 200
        print(f"{task}: {run.net.num_parameters} parameters, {1e6 * each:.1f} microseconds an evaluation")
    for method in methods:  # what is loaded or made at the first call is not measured
        Run("sunspots", 99, 0.01)(method)
    results = []
    for task in SETTINGS:
        for seed in range(seeds):
            for method in methods:
                results.append(Run(task, seed, budget)(method))
                row = results[-1]
                print(
                    f"{task}, {method}, seed {seed}: {row['loss']:.4g} {row['seconds']:.3g} s",
                    file=sys.stderr,
                )
    ratios = report(results, budget, methods)
    if not common.missing("matplotlib"):
        draw(results, budget, args.plot)
    common.finish(args, {"rows": results, "ratios": ratios, "seeds": seeds, "budget": budget})
    return 0


if __name__ == "__main__":
    sys.exit(main())
