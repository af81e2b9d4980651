"""How often training arrives, and how many restarts it takes: tasks that are known for their local optima.

Tasks: temporal XOR (of the first two of twelve bits), the embedded Reber grammar (the symbol that was second
is second to last), the adding problem (T = 50, 100, 200), copy memory (five symbols after a delay of ten).

A: our recipe, Adam, gradients clipped to norm 1, and where this build has them orthogonal recurrent weights
and a forget bias.  B: PyTorch's initial parameters and plain Adam with the same learning rate.  Both run
here, n copies side by side by bptt_fast.restarts; the success of k restarts is the chance that one of k
copies drawn from the n arrives.  B is also run in PyTorch itself, as often as its time allows.
"""

from __future__ import annotations

import argparse
import inspect
import math
import sys
import time
from dataclasses import dataclass
from typing import Any

from . import common

AT = (1, 2, 4, 8, 16, 32)


@dataclass
class Task:
    """Data, network, and when it is solved: a validation loss of at most `target`, or what `solved` says."""

    name: str
    x: Any
    y: Any
    validation: tuple
    cell: str
    hidden: int
    outputs: int
    loss: str
    readout: str
    epochs: int
    rate: float
    target: float | None = None
    solved: Any = None


def temporal_xor(n=256, steps=12):
    import numpy as np

    random = np.random.default_rng(1)
    x = random.choice([-1.0, 1.0], size=(2 * n, steps, 1))
    y = (x[:, 0] != x[:, 1]).astype(float)
    return Task("temporal XOR", x[:n], y[:n], (x[n:], y[n:]), "elman", 4, 1, "mse", "last", 150, 0.01, 0.02)


REBER = {  # state: (symbol, next state) twice
    0: (("T", 1), ("P", 2)), 1: (("S", 1), ("X", 3)), 2: (("T", 2), ("V", 4)), 3: (("X", 2), ("S", 5)),
    4: (("P", 3), ("V", 5)),
}  # fmt: skip


def reber(random):
    """One string of the embedded Reber grammar."""
    outer, state, text = "TP"[random.integers(2)], 0, ""
    while state != 5:
        symbol, state = REBER[state][random.integers(2)]
        text += symbol
    return f"B{outer}B{text}E{outer}E"


def reber_grammar(n=256):
    import numpy as np

    random, eye, symbols = np.random.default_rng(2), np.eye(7), "BTPSXVE"
    rows = [[symbols.index(s) for s in reber(random)] for _ in range(2 * n)]
    x, y = [eye[row[:-1]] for row in rows], [np.array(row[1:]) for row in rows]

    def solved(net):
        found = net.predict(x[n:])
        return all(out[-2].argmax() == classes[-2] for out, classes in zip(found, y[n:], strict=True))

    valid = (x[n:], y[n:])
    return Task("Reber grammar", x[:n], y[:n], valid, "lstm", 8, 7, "cross_entropy", "every", 150, 0.01,
                solved=solved)  # fmt: skip


def adding(steps, n=1000):
    import numpy as np

    random = np.random.default_rng(3)
    x = np.zeros((n + 200, steps, 2))
    x[:, :, 0] = random.uniform(size=(n + 200, steps))
    rows = np.arange(n + 200)
    for half in (random.integers(0, steps // 2, n + 200), random.integers(steps // 2, steps, n + 200)):
        x[rows, half, 1] = 1
    y = (x[:, :, 0] * x[:, :, 1]).sum(axis=1, keepdims=True)
    valid = (x[n:], y[n:])
    return Task(f"adding, T={steps}", x[:n], y[:n], valid, "lstm", 16, 1, "mse", "last", 60, 0.01, 0.01)


def copy_memory(n=1000, symbols=4, length=5, delay=10):
    import numpy as np

    random, width, steps = np.random.default_rng(4), symbols + 2, 2 * length + delay
    copied = random.integers(0, symbols, size=(n + 200, length))
    read = np.full((n + 200, steps), symbols)  # blank
    read[:, :length] = copied
    read[:, -length - 1] = symbols + 1  # now
    wanted = np.full((n + 200, steps), symbols)
    wanted[:, -length:] = copied
    x = np.eye(width)[read]
    valid = (x[n:], wanted[n:])
    # a quarter of the loss of guessing
    target = 0.25 * length * math.log(symbols) / steps
    return Task("copy memory", x[:n], wanted[:n], valid, "gru", 32, symbols + 1, "cross_entropy", "every", 60,
                0.01, target)  # fmt: skip


TASKS = {
    "xor": temporal_xor,
    "reber": reber_grammar,
    "adding50": lambda: adding(50),
    "adding100": lambda: adding(100),
    "adding200": lambda: adding(200),
    "copy": copy_memory,
}


def ours(task, n, recipe, threads):
    """Which of n copies arrive, and the seconds they took."""
    import bptt_fast as bf

    words: dict[str, Any] = {"cell": task.cell, "readout": task.readout, "seed": 0}
    options: dict[str, Any] = {"optimizer": bf.Adam(task.rate)}
    if recipe == "A":
        options["clip_norm"] = 1.0
        known = inspect.signature(bf.Network).parameters
        words |= {"init": "orthogonal"} if "init" in known else {}
        words |= {"forget_bias": 1.0} if "forget_bias" in known and task.cell in ("gru", "lstm") else {}
    net = bf.Network(task.x[0].shape[1], task.hidden, task.outputs, **words)
    _, table = bf.restarts(
        net, task.x, task.y, n, epochs=task.epochs, keep="all", loss=task.loss, target_loss=task.target,
        validation_data=task.validation, threads=threads, verbose=0, **options,
    )  # fmt: skip
    if task.solved:
        return [task.solved(copy) for copy in table.networks], sum(table["seconds"])
    return [stopped == "target_loss" for stopped in table["stopped"]], sum(table["seconds"])


def in_torch(task, limit):
    """B in PyTorch: how many arrived, how many were tried, seconds a training (a guess if cut short)."""
    import numpy as np
    import torch
    from torch.nn.utils.rnn import pad_sequence

    kind = {"elman": torch.nn.RNN, "gru": torch.nn.GRU, "lstm": torch.nn.LSTM}[task.cell]
    every, classes = task.readout == "every", task.loss == "cross_entropy"
    loss_of = torch.nn.functional.cross_entropy if classes else torch.nn.functional.mse_loss

    def tensors(x, y):
        """Inputs and targets, padded where the sequences are a list."""
        y = [torch.tensor(np.asarray(row), dtype=torch.long if classes else torch.float32) for row in y]
        x = [torch.tensor(np.asarray(row), dtype=torch.float32) for row in x]
        if not isinstance(task.x, list):
            return torch.stack(x), torch.stack(y)
        return pad_sequence(x, batch_first=True), pad_sequence(y, batch_first=True, padding_value=-100)

    x, y = tensors(task.x, task.y)
    if not every and y.ndim == 1:
        y = y[:, None]
    valid_x, valid_y = tensors(*task.validation)
    valid_y = valid_y[:, None] if not every and valid_y.ndim == 1 else valid_y

    def network(seed):
        torch.manual_seed(seed)
        rnn = kind(x.shape[2], task.hidden, batch_first=True)
        head = torch.nn.Linear(task.hidden, task.outputs)
        optimizer = torch.optim.Adam([*rnn.parameters(), *head.parameters()], lr=task.rate)

        def outputs(rows):
            h, _ = rnn(rows)
            return head(h if every else h[:, -1])

        return outputs, optimizer

    def loss(p, wanted):
        return loss_of(p.flatten(0, 1), wanted.flatten()) if every else loss_of(p, wanted)

    def has_arrived(outputs):
        with torch.no_grad():
            p = outputs(valid_x)
        if task.target:
            return float(loss(p, valid_y)) <= task.target
        return all(
            row[len(wanted) - 2].argmax() == wanted[-2]
            for row, wanted in zip(p.numpy(), task.validation[1], strict=True)
        )

    network(0)  # the first optimiser loads half of PyTorch
    begin, arrived, tried, seconds = time.perf_counter(), 0, 0, math.nan
    while time.perf_counter() - begin < limit:
        outputs, optimizer = network(tried)
        start, done, epoch = time.perf_counter(), False, 0
        while epoch < task.epochs and not done and time.perf_counter() - begin < limit:
            for rows in torch.randperm(len(x)).split(32):
                optimizer.zero_grad()
                loss(outputs(x[rows]), y[rows]).backward()
                optimizer.step()
            epoch += 1
            done = bool(task.target) and has_arrived(outputs)
        spent = time.perf_counter() - start
        if not done and epoch < task.epochs:
            seconds = spent * task.epochs / max(1, epoch) if not tried else seconds
            break
        arrived, tried = arrived + (done or has_arrived(outputs)), tried + 1
        seconds = (time.perf_counter() - begin) / tried
    return arrived, tried, seconds


def success(arrived, k):
    """The chance that one of k copies, drawn from these, arrives."""
    n, failed = len(arrived), len(arrived) - sum(arrived)
    return 1 - math.comb(failed, k) / math.comb(n, k)


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--tasks", nargs="+", choices=list(TASKS), default=list(TASKS))
    parser.add_argument("--copies", type=int, default=None, help="default 32; --quick 8")
    parser.add_argument("--torch-seconds", type=float, default=None, help="a task (default 120; --quick 5)")


def main() -> int:
    args = common.start(__doc__, options)
    n = args.copies or (8 if args.quick else 32)
    limit = args.torch_seconds if args.torch_seconds is not None else 5 if args.quick else 120
    with_torch = not common.missing("torch") and limit > 0
    if with_torch:
        import torch

        torch.set_num_threads(args.threads)
    common.print_environment()
    shown = [k for k in AT if k <= n]
    widths = (15, 10, *[6] * len(shown), 12, 12)
    common.print_row(("task", "recipe", *[f"k={k}" for k in shown], "s a training", "s a success"), widths)
    rows = []
    for name in args.tasks:
        if args.quick and name == "adding200" and args.tasks == list(TASKS):
            continue  # more than all the others together
        task = TASKS[name]()
        for recipe in "AB":
            arrived, seconds = ours(task, n, recipe, args.threads)
            each = seconds / n
            a_success = seconds / sum(arrived) if any(arrived) else math.inf
            chances = [success(arrived, k) for k in shown]
            cells = (
                task.name,
                f"{recipe}, {sum(arrived)}/{n}",
                *[f"{c:.2f}" for c in chances],
                each,
                a_success,
            )
            common.print_row(cells, widths)
            rows.append({"task": task.name, "recipe": recipe, "arrived": arrived, "seconds": each})
        if with_torch:
            solved, tried, each = in_torch(task, limit)
            blank = [f"{solved / tried:.2f}" if tried else "-"] + ["-"] * (len(shown) - 1)
            common.print_row((task.name, f"PyTorch, {solved}/{tried}", *blank, each, math.nan), widths)
            rows.append({"task": task.name, "recipe": "torch", "arrived": [solved, tried], "seconds": each})
    common.finish(args, {"rows": rows})
    return 0


if __name__ == "__main__":
    sys.exit(main())
