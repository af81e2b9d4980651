"""Tiny networks of behaviour: nats per trial on held-out data, and fits per second, ours and PyTorch's.

The job of L. Ji-An, M. K. Benna and M. G. Mattar, "Discovering cognitive strategies with tiny recurrent
neural networks", Nature 644, 993 (2025), at the size of a laptop: predict the choice of each trial of a
two-armed reversal task from choice and reward of the trial before, by GRUs and Elman networks of 1 to 4
units.  L1 of 1e-5 on the recurrent weights, Adam(5e-3), whole batches, up to 2000 epochs with a patience of
200; 5 outer x 4 inner folds of blocks, 3 seeds.  Of each outer fold the fit with the best validation loss is
tested.

Without --data, Q-learning agents are simulated on that task.  --data FILE: columns session, block,
block_type, trial, chosen_image, chosen_location, reward; "where" blocks, trials 10 to 69 of each.

The classical model is Q-learning with two parameters, fitted to the same blocks, training and validation.
PyTorch trains the same folds of the GRU of two units, one core each, as its users write it.
"""

from __future__ import annotations

import argparse
import csv
import statistics
import sys
import time
from collections import defaultdict
from pathlib import Path

from . import common

TRIALS, FIRST, STEPS = 80, 10, 60
SIZES, CELLS = (1, 2, 3, 4), ("gru", "elman")
RATE, L1, PATIENCE = 5e-3, 1e-5, 200
WEIGHT = "weight_hh_l0"


def simulated(blocks=36, seed=0):
    """Choices and rewards (blocks, STEPS) of Q-learning agents, whose better arm changes once per block."""
    import numpy as np

    random = np.random.default_rng(seed)
    better, reversal = random.integers(0, 2, blocks), random.integers(30, 51, blocks)
    rate, slope = random.uniform(0.3, 0.7, blocks), random.uniform(3, 6, blocks)
    q, rows = np.zeros((blocks, 2)), np.arange(blocks)
    choices, rewards = np.zeros((2, blocks, TRIALS), int)
    for t in range(TRIALS):
        choice = (random.random(blocks) < 1 / (1 + np.exp(-slope * (q[:, 1] - q[:, 0])))).astype(int)
        good = choice == np.where(t < reversal, better, 1 - better)
        reward = (random.random(blocks) < np.where(good, 0.7, 0.3)).astype(int)
        q[rows, choice] += rate * (reward - q[rows, choice])
        choices[:, t], rewards[:, t] = choice, reward
    part = slice(FIRST, FIRST + STEPS)
    return choices[:, part], rewards[:, part]


def recorded(path):
    """Choices and rewards (blocks, STEPS) of a file."""
    import numpy as np

    blocks = defaultdict(list)
    with path.open(newline="") as file:
        for row in csv.DictReader(file):
            if row["block_type"] == "where" and FIRST <= int(row["trial"]) < FIRST + STEPS:
                trial = int(row["trial"]), int(row["chosen_location"]), int(row["reward"])
                blocks[row["session"], int(row["block"])].append(trial)
    whole = [sorted(trials) for trials in blocks.values() if len(trials) == STEPS]
    table = np.array(whole)
    return table[:, :, 1], table[:, :, 2]


def inputs(choices, rewards):
    """Choice and reward of the trial before, (blocks, STEPS, 2), zeros before the first."""
    import numpy as np

    x = np.zeros((*choices.shape, 2), np.float32)
    x[:, 1:] = np.stack([choices, rewards], axis=2)[:, :-1]
    return x


def q_learning(choices, rewards, rate, slope):
    """Nats per trial of Q-learning with two parameters."""
    import numpy as np

    q, rows, nats = np.zeros((len(choices), 2)), np.arange(len(choices)), 0.0
    for choice, reward in zip(choices.T, rewards.T, strict=True):
        other = slope * (q[rows, 1 - choice] - q[rows, choice])
        nats += np.logaddexp(0, other).sum()
        q[rows, choice] += rate * (reward - q[rows, choice])
    return nats / choices.size


def fitted_q_learning(choices, rewards, folds):
    """Nats per trial of each held-out fold, by the parameters that fit the others best."""
    import numpy as np
    from scipy.optimize import minimize

    nats = []
    for fold in np.unique(folds):
        rest, test = folds != fold, folds == fold

        def loss(at, rest=rest):
            return q_learning(choices[rest], rewards[rest], 1 / (1 + np.exp(-at[0])), np.exp(at[1]))

        fits = [minimize(loss, start, method="Nelder-Mead") for start in ((0, 1), (-2, 0), (2, 2))]
        at = min(fits, key=lambda fit: fit.fun).x
        nats.append(q_learning(choices[test], rewards[test], 1 / (1 + np.exp(-at[0])), np.exp(at[1])))
    return nats


def network(cell, size, seed):
    import bptt_fast as bf

    net = bf.Network(2, size, 2, cell=cell, readout="every", seed=seed)
    net.rules = {WEIGHT: bf.Rule(l1=L1)}
    return net


def swept(x, y, folds, epochs, seeds, grid):
    """The table of our fits, one at a time."""
    import bptt_fast as bf

    return bf.sweep(
        network("gru", 2, 0),
        x,
        y,
        cv=folds,
        inner=folds,
        grid=grid,
        seeds=seeds,
        epochs=epochs,
        batch_size=len(x),
        patience=PATIENCE,
        optimizer=bf.Adam(RATE),
        loss="cross_entropy",
        threads=1,
        verbose=0,
    )


def torch_fit(net, train, validation, epochs):
    """(best validation loss, epochs) of one fit in PyTorch from the weights of `net`, a GRU."""
    import torch

    rnn, head = torch.nn.GRU(2, net.hidden_size, batch_first=True), torch.nn.Linear(net.hidden_size, 2)
    with torch.no_grad():
        for name, weight in rnn.named_parameters():
            weight.copy_(torch.from_numpy(net[name]))
        head.weight.copy_(torch.from_numpy(net["head.0.weight"]))
        head.bias.copy_(torch.from_numpy(net["head.0.bias"]))
    modules = torch.nn.ModuleList([rnn, head])
    optimizer = torch.optim.Adam(modules.parameters(), lr=RATE)
    best, kept, waited, needed = float("inf"), None, 0, 0

    def loss(x, y):
        return torch.nn.functional.cross_entropy(head(rnn(x)[0]).flatten(0, 1), y.flatten())

    for _ in range(epochs):
        optimizer.zero_grad()
        (loss(*train) + L1 * rnn.weight_hh_l0.abs().sum()).backward()
        optimizer.step()
        with torch.no_grad():
            value = loss(*validation).item()
        waited, needed = waited + 1, needed + 1
        if value < best:
            best, waited = value, 0
            kept = {name: weight.clone() for name, weight in modules.state_dict().items()}
        if waited >= PATIENCE:
            break
    modules.load_state_dict(kept)
    return best, needed


def torch_fits(x, y, folds, epochs, count):
    """Seconds and epochs of each of `count` fits, and their best validation losses."""
    import numpy as np
    import torch

    torch.set_num_threads(1)
    x, y = torch.from_numpy(x), torch.from_numpy(y.astype(np.int64))
    pairs = [(test, inner) for test in np.unique(folds) for inner in np.unique(folds) if inner != test]
    found = []
    for test, inner in pairs[:count]:
        train, held_out = (folds != test) & (folds != inner), folds == inner
        parts = [(x[rows], y[rows]) for rows in (train, held_out)]
        begin = time.perf_counter()
        best, needed = torch_fit(network("gru", 2, 0), *parts, epochs)
        found.append((time.perf_counter() - begin, needed, best))
    return found


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", type=Path, metavar="FILE", help="recorded behaviour; else it is simulated")
    parser.add_argument("--fits", type=int, default=20, help="fits in PyTorch (default 20)")


def best_of_folds(rows):
    """Nats per trial of each outer fold, by the fit with the best validation loss."""
    folds = defaultdict(list)
    for row in rows:
        folds[row["fold"]].append((row["val_loss"], row["test_loss"]))
    return [min(pairs)[1] for _, pairs in sorted(folds.items())]


def main() -> int:
    args = common.start(__doc__, options)
    import numpy as np

    common.print_environment()
    choices, rewards = simulated() if args.data is None else recorded(args.data)
    x, folds = inputs(choices, rewards), np.arange(len(choices)) % 5
    epochs, seeds = (200, [0]) if args.quick else (2000, [0, 1, 2])
    print(f"{len(x)} blocks of {STEPS} trials, {'simulated' if args.data is None else 'recorded'}")

    classical = fitted_q_learning(choices, rewards, folds)
    widths = (12, 10, 10, 10, 12, 18)
    head = ("model", "nats", "+- folds", "epochs", "fits/s", "core-hours of 1e6")
    common.print_row(head, widths)

    def show(name, nats, needed=None, rate=None):
        error, hours = statistics.stdev(nats) / len(nats) ** 0.5, rate and 1e6 / rate / 3600
        shown = (float("nan") if value is None else value for value in (needed, rate, hours))
        common.print_row((name, f"{statistics.mean(nats):.4f}", error, *shown), widths)
        found = {"model": name, "nats": statistics.mean(nats), "error": error, "epochs": needed}
        return found | {"fits_per_second": rate, "core_hours": hours}

    results = [show("Q-learning", classical)]
    for cell in CELLS:
        for size in SIZES[:2] if args.quick else SIZES:
            begin = time.perf_counter()
            table = swept(x, choices, folds, epochs, seeds, {"cell": [cell], "hidden_size": [size]})
            rate = len(table["seed"]) / (time.perf_counter() - begin)
            needed = statistics.mean(table["epochs"])
            results.append(show(f"{cell} {size}", best_of_folds(table.rows()), needed, rate))
    sides = {}
    if not common.missing("torch"):
        count = min(2 if args.quick else args.fits, 20)
        theirs = torch_fits(x, choices, folds, epochs, count)
        begin = time.perf_counter()
        table = swept(x, choices, folds, epochs, [0], {"cell": ["gru"], "hidden_size": [2]})
        ours = (time.perf_counter() - begin) / len(table["seed"])
        seconds, needed, best = (statistics.mean(column) for column in zip(*theirs, strict=True))
        known = [statistics.mean(table[name][:count]) for name in ("epochs", "val_loss")]
        for side, each, *rest in (("PyTorch", seconds, needed, best), ("bptt_fast", ours, *known)):
            names = ("epochs", "val_loss")
            sides[side] = {"fits_per_second": 1 / each, **dict(zip(names, rest, strict=True))}
            print(f"gru 2, {side}: {1 / each:.3g} fits/s, {rest[0]:.0f} epochs, validation {rest[1]:.4f}")
        print(f"{seconds / ours:.0f} times the fits per second of {count} fits in PyTorch")
    common.finish(args, {"rows": results, "gru 2": sides}, "" if args.data is None else "recorded")
    return 0


if __name__ == "__main__":
    sys.exit(main())
