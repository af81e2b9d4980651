"""Quality on real data: speakers, characters, a laser.

speakers: JapaneseVowels (M. Kudo, J. Toyama and M. Shimbo, "Multidimensional curve classification using
passing-through regions", Pattern Recognition Letters 20, 1999): twelve cepstrum coefficients of two vowels,
7 to 29 steps, nine speakers, 270 utterances to learn from and 370 for the test.  The package aeon holds them.

characters: the next character of Python's own help texts, `pydoc_data.topics`; nine tenths are learnt, the
last tenth is the test.  The same network in PyTorch takes turns with ours, epoch by epoch: the same initial
weights, batches, rates and clipping, states carried on.  It is torch.nn.GRU or torch.nn.LSTM, time first, its
one-hot inputs looked up as rows of the identity, with fused Adam.

laser: the Santa Fe laser (data set A of A. S. Weigend and N. A. Gershenfeld, "Time series prediction", 1994),
one step ahead, compared with an echo state network of reservoirpy, whose package holds the 10 093 numbers.
2000 are learnt, all later ones are the test; the mean squared error is divided by the variance of the test.

--tune shows how the settings were chosen: by cross-validation over contiguous blocks of what is learnt.
"""

from __future__ import annotations

import argparse
import importlib.util
import itertools
import math
import statistics
import sys
import time
from pathlib import Path

from . import common
from .second_order import windows

SEEDS = range(5)


def bundled(package, path):
    """A file of an installed package, which is not imported; None where it is not installed."""
    spec = importlib.util.find_spec(package)
    return spec and Path(next(iter(spec.submodule_search_locations)), path)


# ---- speakers

SPEAKER = {"cell": "lstm", "hidden_size": 64, "readout": "last", "recurrent_dropout": 0.7}
SPEAKER_CHOICES = {
    "cell": ("gru", "lstm"),
    "hidden_size": (32, 64),
    "readout": ("last", "every"),
    "recurrent_dropout": (0.0, 0.25, 0.5, 0.7),
}


def utterances(text):
    """A .ts file: a list of (T_i, I), and the classes from 0, (n,)."""
    import numpy as np

    x, y = [], []
    for line in text.partition("@data\n")[2].splitlines():
        *channels, label = line.split(":")
        x.append(np.array([channel.split(",") for channel in channels], np.float32).T)
        y.append(int(label) - 1)
    return x, np.array(y)


def standardised(known, other):
    """Both lists of (T_i, I), with the mean 0 and the deviation 1 of the first."""
    import numpy as np

    rows = np.concatenate(known)
    mean, deviation = rows.mean(axis=0), rows.std(axis=0)
    return [(x - mean) / deviation for x in known], [(x - mean) / deviation for x in other]


def recognise(x, y, other, seed, setting):
    """Train on x, y; (log-probabilities of the classes of `other` (n, C), seconds)."""
    import numpy as np
    import scipy.special

    import bptt_fast as bf

    x, other = standardised(x, other)
    net = bf.Network(x[0].shape[1], output_size=int(y.max()) + 1, bidirectional=True, seed=seed, **setting)
    every = net.readout == "every"
    optimizer = bf.AdamW(bf.Cosine(0.01, warmup=2))
    begin = time.perf_counter()
    net.fit(
        x,
        [np.full(len(a), c) for a, c in zip(x, y, strict=True)] if every else y,
        epochs=60,
        batch_size=16,
        optimizer=optimizer,
        loss="cross_entropy",
        clip_norm=1.0,
        verbose=0,
    )
    seconds = time.perf_counter() - begin
    logits = net.predict(other)
    if every:  # all steps vote
        logits = np.array([z.mean(axis=0) for z in logits])
    return scipy.special.log_softmax(logits, axis=1), seconds


def blocks(y, folds=5):
    """The block of each utterance: each class is cut into `folds` runs of neighbours, (n,)."""
    import numpy as np

    block = np.empty(len(y), int)
    for c in np.unique(y):
        (places,) = np.nonzero(y == c)
        block[places] = np.arange(len(places)) * folds // len(places)
    return block


def tune_speakers(x, y, seeds):
    """Settings by their cross-validated accuracy, the best first."""
    import numpy as np

    block, rows = blocks(y), []
    for values in itertools.product(*SPEAKER_CHOICES.values()):
        setting = dict(zip(SPEAKER_CHOICES, values, strict=True))
        losses, right = [], []
        for seed, fold in itertools.product(seeds, np.unique(block)):
            inside, outside = np.flatnonzero(block != fold), np.flatnonzero(block == fold)
            logp, _ = recognise([x[i] for i in inside], y[inside], [x[i] for i in outside], seed, setting)
            losses.append(-logp[np.arange(len(outside)), y[outside]].mean())
            right.append((logp.argmax(axis=1) == y[outside]).mean())
        rows.append({**setting, "log loss": float(np.mean(losses)), "accuracy": float(np.mean(right))})
        print(len(rows), rows[-1], file=sys.stderr, flush=True)
    return sorted(rows, key=lambda row: -row["accuracy"])


def speakers(args):
    folder = bundled("aeon", "datasets/data/JapaneseVowels")
    if folder is None:
        print("\nspeakers: aeon, whose package holds the data, is not installed")
        return None
    x, y = utterances((folder / "JapaneseVowels_TRAIN.ts").read_text())
    if args.tune:
        rows = tune_speakers(x, y, SEEDS[:1] if args.quick else SEEDS[:3])
        return show("\nspeakers, cross-validated", rows)
    other, wanted = utterances((folder / "JapaneseVowels_TEST.ts").read_text())
    rows = []
    for seed in SEEDS:
        logp, seconds = recognise(x, y, other, seed, SPEAKER)
        right = logp.argmax(axis=1) == wanted
        rows.append({"seed": seed, "accuracy": float(right.mean()), "seconds": seconds})
    show(f"\nspeakers: {len(x)} utterances learnt, accuracy on {len(other)} others", rows)
    median = {name: statistics.median(row[name] for row in rows) for name in ("accuracy", "seconds")}
    print(f"median {median['accuracy']:.4f} in {median['seconds']:.2f} s of training")
    return {"rows": rows, "median": median}


# ---- characters

STREAMS, STEPS = 8, 50  # streams that go in step, steps of a pass
RATE, CLIP = 3e-3, 1.0
SIZES = (("gru", 128), ("gru", 256), ("lstm", 128), ("lstm", 256))


def help_text():
    """Python's help on its own topics, one after the other."""
    from pydoc_data.topics import topics

    return "\n".join(topics[name] for name in sorted(topics))


def encode(text):
    """The place of each character in the sorted alphabet of the text, (T,), and its size."""
    import numpy as np

    alphabet, codes = np.unique(np.array(list(text)), return_inverse=True)
    return codes, len(alphabet)


def streams(codes, count, steps):
    """x and y (count, T): neighbouring parts of the text and their next characters, T in whole passes."""
    length = (len(codes) - 1) // count // steps * steps
    if not length:
        raise ValueError(f"codes: expected more than {count} * {steps} characters, got {len(codes)}.")
    return tuple(codes[i : i + count * length].reshape(count, length) for i in (0, 1))


def torch_side(net, x, y, rates):
    """net in PyTorch, and a function that trains an epoch of TruncatedBPTT(STEPS) with the next rates."""
    import torch
    from torch.nn.functional import cross_entropy

    rnn = {"gru": torch.nn.GRU, "lstm": torch.nn.LSTM}[net.cell](net.input_size, net.hidden_size)
    head = torch.nn.Linear(net.hidden_size, net.output_size)
    weights = {name: torch.from_numpy(value) for name, value in net.state_dict().items()}
    head.load_state_dict({name: weights.pop(f"head.0.{name}") for name in ("weight", "bias")})
    rnn.load_state_dict(weights)
    parameters = [*rnn.parameters(), *head.parameters()]
    optimizer = torch.optim.Adam(parameters, fused=True)
    x, y, rows = torch.from_numpy(x.T.copy()), torch.from_numpy(y.T.copy()), torch.eye(net.input_size)
    rates = iter(rates)

    def epoch():
        state = None
        for t in range(0, len(x), STEPS):
            h, state = rnn(rows[x[t : t + STEPS]], state)
            loss = cross_entropy(head(h).flatten(0, 1), y[t : t + STEPS].flatten())
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(parameters, CLIP)
            optimizer.param_groups[0]["lr"] = float(next(rates))
            optimizer.step()
            state = tuple(s.detach() for s in state) if net.cell == "lstm" else state.detach()

    def bits(codes):
        codes = torch.from_numpy(codes)
        with torch.no_grad():
            h, _ = rnn(rows[codes[:-1]])
            return float(cross_entropy(head(h), codes[1:])) / math.log(2)

    return epoch, bits


def learn_text(cell, hidden, epochs, peer):
    """Train on the help texts, PyTorch in turns: a row of bits a character and characters a second."""
    import numpy as np

    import bptt_fast as bf

    codes, size = encode(help_text())
    cut = len(codes) * 9 // 10
    x, y = streams(codes[:cut], STREAMS, STEPS)
    one_hot = np.eye(size, dtype=np.float32)
    net = bf.Network(size, hidden, size, cell=cell, readout="every", seed=0)
    rate, turns, seconds = bf.Cosine(RATE), [], []
    if peer:
        torch_epoch, torch_bits = torch_side(net, x, y, rate.rates(epochs, x.shape[1] // STEPS))

        def turn(epoch, logs):
            begin = time.perf_counter()
            torch_epoch()
            seconds.append(time.perf_counter() - begin)

        turns = [bf.callbacks.LambdaCallback(on_epoch_end=turn)]
    history = net.fit(
        one_hot[x],
        y,
        epochs=epochs,
        batch_size=STREAMS,
        shuffle=False,
        optimizer=bf.Adam(rate),
        loss="cross_entropy",
        bptt=bf.TruncatedBPTT(STEPS),
        clip_norm=CLIP,
        callbacks=turns,
        verbose=0,
    )
    loss = net.evaluate(one_hot[codes[cut:-1]], codes[cut + 1 :], loss="cross_entropy")
    row = {
        "cell": cell,
        "H": hidden,
        "updates": epochs * x.shape[1] // STEPS,
        "bits": loss / math.log(2),
        "characters/s": x.size / statistics.median(history["seconds"]),
    }
    if peer:
        pairs = zip(seconds, history["seconds"], strict=True)
        row |= {
            "PyTorch bits": torch_bits(codes[cut:]),
            "PyTorch characters/s": x.size / statistics.median(seconds),
            "ratio": statistics.median(theirs / ours for theirs, ours in pairs),
        }
    return row


def speed_ratio(cell, hidden, count, passes=20):
    """How many times as fast as PyTorch with so many streams."""
    import numpy as np

    import bptt_fast as bf

    codes, size = encode(help_text())
    x, y = streams(codes[: count * passes * STEPS + 1], count, STEPS)
    inputs = np.eye(size, dtype=np.float32)[x]
    net = bf.Network(size, hidden, size, cell=cell, readout="every", seed=0)
    torch_epoch, _ = torch_side(net, x, y, itertools.repeat(RATE))
    options = {"batch_size": count, "shuffle": False, "optimizer": bf.Adam(RATE), "loss": "cross_entropy"}
    options |= {"bptt": bf.TruncatedBPTT(STEPS), "clip_norm": CLIP, "verbose": 0}
    sides = {"ours": lambda: net.fit(inputs, y, **options), "PyTorch": torch_epoch}
    times = common.interleave(sides, rounds=3, seconds=0)
    return times["PyTorch"] / times["ours"]


def characters(args):
    if args.tune:
        print("\ncharacters: nothing was tuned")
        return None
    peer = not common.missing("torch")
    if peer:
        import torch

        torch.set_num_threads(args.threads)
    else:
        print("\ncharacters: PyTorch is not installed")
    sizes, epochs = (SIZES[:1], 1) if args.quick else (SIZES, 2)
    rows = [learn_text(*size, epochs, peer) for size in sizes]
    show(f"\ncharacters: {STREAMS} streams, passes of {STEPS} steps; bits a character of the test", rows)
    results = {"learnt": rows}
    if peer:
        apart = max(abs(row["bits"] - row["PyTorch bits"]) for row in rows)
        print(f"at most {apart:.4f} bits apart")
        counts = (1, STREAMS, 32)
        results["speeds"] = [
            {"cell": cell, "H": hidden, **{f"{n} streams": speed_ratio(cell, hidden, n) for n in counts}}
            for cell, hidden in sizes
        ]
        show("\ntimes PyTorch's characters a second, by the number of streams", results["speeds"])
    return results


# ---- laser

KNOWN, BLOCKS, WARMUP = 2000, 4, 100  # numbers that are learnt, blocks of the cross-validation, steps
NET = {"cell": "lstm", "hidden_size": 10, "steps": 20}  # what did best with LevenbergMarquardt
NET_CHOICES = {"cell": ("elman", "gru", "lstm"), "hidden_size": (6, 10), "steps": (10, 20, 40)}
EPOCHS = {"LevenbergMarquardt": 23, "LBFGS": 599, "Adam": 282}
MOST_EPOCHS = {"LevenbergMarquardt": 50, "LBFGS": 600, "Adam": 400}
ECHO = {"units": 1000, "sr": 0.7, "lr": 1.0, "input_scaling": 0.3, "bias": 0.5, "ridge": 1e-4}
ECHO_CHOICES = {
    "units": (300, 1000),
    "sr": (0.5, 0.7, 0.9, 1.1),
    "lr": (0.7, 1.0),
    "input_scaling": (0.1, 0.2, 0.3, 1.0),
    "bias": (0.3, 0.5, 1.0),
}
RIDGES = tuple(10.0**e for e in range(-9, 1))


def normalised(predicted, wanted):
    """The mean squared error over the variance of what was wanted."""
    return float(((predicted - wanted) ** 2).mean() / wanted.var())


def method(name):
    """The optimiser; its schedule does not depend on where the fit ends."""
    import bptt_fast as bf

    return bf.Adam(bf.Cosine(0.01, epochs=MOST_EPOCHS[name])) if name == "Adam" else getattr(bf, name)()


def learn_laser(x, y, seed, name, epochs, cell, hidden_size, steps, **more):
    """A network that tells the next number from `steps` before, its history, and the seconds of the fit."""
    import bptt_fast as bf

    net = bf.Network(1, hidden_size, 1, cell=cell, dtype="float64", seed=seed)
    begin = time.process_time()
    history = net.fit(x, y, epochs=epochs, optimizer=method(name), verbose=0, **more)
    return net, history, time.process_time() - begin


def tune_laser(z, name, nets, seeds):
    """The epochs of each net with the least cross-validated error, median of the seeds; the best first."""
    import numpy as np

    rows, most = [], MOST_EPOCHS[name]
    for net in nets:
        x, y = windows(z, net["steps"], 1)
        block = (np.arange(len(y)) + net["steps"]) * BLOCKS // len(z)
        errors = np.zeros((len(seeds), most))
        for (i, seed), fold in itertools.product(enumerate(seeds), range(BLOCKS)):
            inside, outside = block != fold, block == fold
            kept = {"validation_data": (x[outside], y[outside])}
            _, history, _ = learn_laser(x[inside], y[inside], seed, name, epochs=most, **net, **kept)
            curve = np.array(history["val_loss"])  # shorter where training has converged
            errors[i] += np.pad(curve, (0, most - len(curve)), mode="edge") / BLOCKS
        error = np.median(errors, axis=0)
        best = int(error.argmin())
        rows.append({**net, "epochs": best + 1, "error": float(error[best])})
        print(len(rows), rows[-1], file=sys.stderr, flush=True)
    return sorted(rows, key=lambda row: row["error"])


def reservoir(seed, units, sr, lr, input_scaling, bias):
    """A reservoir whose units all see the input and have a bias, uniform in +-bias."""
    from reservoirpy.mat_gen import uniform
    from reservoirpy.nodes import Reservoir

    return Reservoir(
        units,
        sr=sr,
        lr=lr,
        input_scaling=input_scaling,
        input_connectivity=1.0,
        bias=uniform(low=-bias, high=bias),
        seed=seed,
    )


def tune_echo(z, seeds):
    """Settings of the echo state network by their cross-validated error, the best first.

    For all ridges at once: with S'S = U w U' the weights are U (U'S'y / (w + ridge)).
    """
    import numpy as np

    t, y, rows = np.arange(1, len(z)), z[1:, None], []
    block = np.where(t < WARMUP, -1, t * BLOCKS // len(z))
    for values in itertools.product(*ECHO_CHOICES.values()):
        setting, errors = dict(zip(ECHO_CHOICES, values, strict=True)), np.zeros((len(seeds), len(RIDGES)))
        for i, seed in enumerate(seeds):
            states = np.column_stack([reservoir(seed, **setting).run(z[:-1, None]), np.ones(len(y))])
            for fold in range(BLOCKS):
                inside, outside = (block != fold) & (block >= 0), block == fold
                w, u = np.linalg.eigh(states[inside].T @ states[inside])
                projected = u.T @ (states[inside].T @ y[inside])
                weights = u @ (projected / (w.clip(0)[:, None] + RIDGES))
                errors[i] += ((states[outside] @ weights - y[outside]) ** 2).mean(axis=0) / BLOCKS
        error = np.median(errors, axis=0)
        rows.append({**setting, "ridge": RIDGES[int(error.argmin())], "error": float(error.min())})
        print(len(rows), rows[-1], file=sys.stderr, flush=True)
    return sorted(rows, key=lambda row: row["error"])


def echo(z, seed, ridge, **setting):
    """An echo state network: predictions of z from number KNOWN on, and the seconds it was fitted in."""
    from reservoirpy import ESN
    from reservoirpy.nodes import Ridge

    model = ESN(reservoir=reservoir(seed, **setting), readout=Ridge(ridge=ridge))
    begin = time.process_time()
    model.fit(z[: KNOWN - 1, None], z[1:KNOWN, None], warmup=WARMUP)
    seconds = time.process_time() - begin
    return model.run(z[:-1, None])[KNOWN - 1 :], seconds


def laser(args):
    import numpy as np

    file = bundled("reservoirpy", "datasets/santafe_laser.npy")
    if file is None:
        print("\nlaser: reservoirpy, whose package holds the data, is not installed")
        return None
    z = np.load(file)[:, 0].astype(float)
    z = (z - z[:KNOWN].mean()) / z[:KNOWN].std()
    if args.tune:
        seeds = SEEDS[:1] if args.quick else SEEDS[:2]
        tables = {"reservoirpy": tune_echo(z[:KNOWN], seeds)}
        nets = [dict(zip(NET_CHOICES, v, strict=True)) for v in itertools.product(*NET_CHOICES.values())]
        tables |= {
            name: tune_laser(z[:KNOWN], name, nets if name == "LevenbergMarquardt" else [NET], seeds)
            for name in EPOCHS
        }
        for name, rows in tables.items():
            show(f"\nlaser, cross-validated: {name}", rows[:10])
        return tables
    rows = []
    for name in (*EPOCHS, "reservoirpy"):
        errors, times = [], []
        for seed in SEEDS:
            if name == "reservoirpy":
                predicted, seconds = echo(z, seed, **ECHO)
            else:
                data = windows(z[:KNOWN], NET["steps"], 1)
                net, _, seconds = learn_laser(*data, seed, name, epochs=EPOCHS[name], **NET)
                predicted = net.predict(windows(z[KNOWN - NET["steps"] :], NET["steps"], 1)[0])
            errors.append(normalised(predicted, z[KNOWN:, None]))
            times.append(seconds)
        rows.append(
            {
                "method": name,
                "error": statistics.median(errors),
                "lowest": min(errors),
                "highest": max(errors),
                "seconds": statistics.median(times),
            }
        )
    show(f"\nlaser: {KNOWN} numbers learnt; squared error over the variance on {len(z) - KNOWN} others", rows)
    return {"rows": rows}


# ----

PARTS = {"speakers": speakers, "characters": characters, "laser": laser}


def show(title, rows):
    """A table whose columns are the keys of the rows; the rows."""
    print(title)
    widths = [max(len(name), 18 if isinstance(value, str) else 9) for name, value in rows[0].items()]
    common.print_row(list(rows[0]), widths)
    for row in rows:
        common.print_row(list(row.values()), widths)
    return rows


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--only", choices=PARTS, help="one of the three")
    parser.add_argument("--tune", action="store_true", help="choose the settings again (half an hour)")


def main() -> int:
    args = common.start(__doc__, options)
    common.print_environment()
    results = {name: part(args) for name, part in PARTS.items() if args.only in (None, name)}
    common.finish(args, results)
    return 0


if __name__ == "__main__":
    sys.exit(main())
