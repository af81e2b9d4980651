"""What restarts cost: 32 copies of a network compared with one training, ours and PyTorch's.

H = 16, T = 50, B = 16.

`all`: every copy is trained to the end.  `halving`: the worse half is dropped at 1/32, 1/16, ... 1/2 of the
epochs.  `cost` is the time of all copies over 32 / threads times that of one training.
"""

from __future__ import annotations

import argparse
import sys

from . import common

N, H, T, B, SEQUENCES = 32, 16, 50, 16, 256
CELLS = ("elman", "gru", "lstm")


def torch_training(cell, x, y, epochs):
    """One training in PyTorch, as its users write it: the same network, data, batches and optimiser."""
    import torch

    kind = {"elman": torch.nn.RNN, "gru": torch.nn.GRU, "lstm": torch.nn.LSTM}[cell]
    x, y = torch.from_numpy(x), torch.from_numpy(y)

    def call():
        torch.manual_seed(0)
        rnn, head = kind(1, H, batch_first=True), torch.nn.Linear(H, 1)
        optimizer = torch.optim.Adam([*rnn.parameters(), *head.parameters()], lr=1e-3, foreach=True)
        for _ in range(epochs):
            for rows in torch.randperm(len(x)).split(B):
                optimizer.zero_grad()
                out, _ = rnn(x[rows])
                torch.nn.functional.mse_loss(head(out[:, -1]), y[rows]).backward()
                optimizer.step()

    return call


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--epochs", type=int, default=64, help="of one training (default 64)")


def main() -> int:
    args = common.start(__doc__, options)
    import numpy as np

    import bptt_fast as bf

    with_torch = not common.missing("torch")
    if with_torch:
        import torch

        torch.set_num_threads(args.threads)
    common.print_environment()
    random = np.random.default_rng(0)
    x = random.normal(size=(SEQUENCES, T, 1)).astype(np.float32)
    y = x[:, -5:].mean(axis=1)
    epochs = 32 if args.quick else args.epochs
    widths = (8, 10, 12, 14, 12, 18, 18)
    common.print_row(
        (
            "cell",
            "one s",
            "32, all s",
            "32, halving s",
            "PyTorch s",
            "32 all / (32/thr.)",
            "PyTorch / 32 all",
        ),
        widths,
    )
    rows = []
    for cell in CELLS:
        net = bf.Network(1, H, 1, cell=cell, seed=0)
        words = {"epochs": epochs, "batch_size": B, "verbose": 0}

        def one(cell=cell, words=words):
            bf.Network(1, H, 1, cell=cell, seed=0).fit(x, y, threads=1, **words)

        def copies(keep, net=net, words=words):
            return lambda: bf.restarts(net, x, y, N, keep=keep, threads=args.threads, **words)

        sides = {"one": one, "all": copies("all"), "halving": copies("halving")}
        if with_torch:
            sides["torch"] = torch_training(cell, x, y, epochs)
        seconds = common.interleave(sides, rounds=3 if args.quick else 7, seconds=0.05)
        peer = seconds.get("torch", float("nan"))
        row = {
            "cell": cell,
            **seconds,
            "cost": seconds["all"] / seconds["one"] / (N / args.threads),
            "torch_over_all": peer / seconds["all"],
            "torch_over_halving": peer / seconds["halving"],
        }
        rows.append(row)
        shown = (
            cell,
            seconds["one"],
            seconds["all"],
            seconds["halving"],
            peer,
            row["cost"],
            row["torch_over_all"],
        )
        common.print_row(shown, widths)
    worst = max(row["cost"] for row in rows)
    print(f"{N} restarts cost at most {worst:.2f} x {N}/{args.threads} trainings")
    if with_torch:
        for keep in ("all", "halving"):
            ratios = ", ".join(f"{row['cell']} {row[f'torch_over_{keep}']:.2g}" for row in rows)
            print(f"one training in PyTorch over {N} restarts ({keep}): {ratios}")
    common.finish(args, {"rows": rows, "epochs": epochs})
    return 0


if __name__ == "__main__":
    sys.exit(main())
