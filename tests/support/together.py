"""Fits that several ranks make together: many settings, and what goes wrong; each rank runs this file.

`mpiexec -n 2 python tests/support/together.py NAME...` prints what each function NAME returns, as JSON."""

import hashlib
import json
import os
import signal
import sys
import time

import numpy as np

import bptt_fast as bf

SHARDS = 6
random = np.random.default_rng(0)
X = random.normal(size=(26, 11, 3)).astype(np.float32)
Y = random.normal(size=(26, 11, 2)).astype(np.float32)
LENGTHS = random.integers(2, 12, size=26)
WEIGHT = random.uniform(0.5, 2, size=(26, 11)) * (random.random((26, 11)) > 0.3)
CLASSES = random.integers(0, 2, size=26)
RAGGED = {"lengths": LENGTHS, "sample_weight": WEIGHT}
WINDOWS = bf.Sequences.windows(X[0].repeat(5, axis=0), 6)
TRUNCATED, CHECKPOINTED = bf.TruncatedBPTT(3, 7), bf.CheckpointedBPTT(4, 2)
DROPOUT = {"num_layers": 2, "dropout": 0.3, "recurrent_dropout": 0.2}
NOISE = {"cell": "ctrnn", "train_tau": True, "recurrent_noise": 0.1, "input_noise": 0.1, "rate_penalty": 0.1}


class Meddling(bf.Callback):
    """Changes the learning rate and the weights, and ends the fit."""

    def on_epoch_begin(self, epoch, logs):
        self.hyper["learning_rate"] *= 0.5

    def on_epoch_end(self, epoch, logs):
        self.model.params[: 1 + epoch] = 0.25
        return epoch == 1


def case(network=None, *, every=True, rules=None, **options):
    """The arguments of the network and of fit, whether there is a target for each step, and rules."""
    return {"cell": "gru"} | (network or {}), options, every, rules


CASES = {
    "full": case(),
    "last state": case(every=False),
    "wide": case({"cell": "lstm", "hidden_size": 33}),
    "double": case({"dtype": "float64"}),
    "both ways": case({"bidirectional": True}),
    "dropout": case(DROPOUT),
    "noise": case(NOISE),
    "noise, truncated": case(NOISE, bptt=TRUNCATED),
    "ragged": case(**RAGGED),
    "truncated": case(DROPOUT, bptt=TRUNCATED),
    "truncated, ragged": case(bptt=TRUNCATED, **RAGGED),
    "truncated, last state": case(bptt=TRUNCATED, every=False, lengths=LENGTHS),
    "in chunks": case({"cell": "lstm"}, bptt=bf.TruncatedBPTT(4)),
    "checkpointed": case(DROPOUT, bptt=CHECKPOINTED),
    "checkpointed, ragged": case(bptt=CHECKPOINTED, **RAGGED),
    "own outputs": case({"output_size": 3}, teacher_forcing=0.5),
    "windows": case(every=False, shuffle=False),
    "classes": case(every=False, loss=bf.Loss("cross_entropy", class_weight=[1.0, 2.5])),
    "validation": case(validation_split=0.3, patience=1, optimizer=bf.Adam(0.1), **RAGGED),
    "scaling": case(scaling="standard", validation_data=(X[:3], Y[:3])),
    "schedule": case(optimizer=bf.SGD(bf.ReduceOnPlateau(0.05, patience=1))),
    "callbacks": case(callbacks=[Meddling()]),
    "rules": case(every=False, rules={"weight_hh_l0": bf.Rule(l1=0.01, bounds=(-0.3, 0.3))}),
    "clipping": case(optimizer=bf.SGD(0.1, momentum=0.9, clip_norm=0.1, clip_value=0.02, clip_state=0.01)),
    "gradient noise": case(bptt=TRUNCATED, optimizer=bf.RMSprop(centered=True, gradient_noise=0.01)),
    "embeddings": case({"categories": {2: (5, 3)}}, bptt=TRUNCATED, every=False, lengths=LENGTHS),
    "embeddings, checkpointed": case({"categories": {2: (5, 3)}}, bptt=CHECKPOINTED),
    "few sequences": case(batch_size=6),
}
CASES |= {
    name: case(optimizer=name, every=False)
    for name in ("sgd", "adamw", "nadam", "rmsprop", "adagrad", "rprop")
}


def train(name, **ranks):
    """The network of a setting, and its history."""
    network, options, every, rules = CASES[name]
    sizes = {"input_size": 3, "hidden_size": 5, "output_size": 2, "seed": 3}
    net = bf.Network(**(sizes | network), readout="every" if every else "last")
    if rules is not None:
        net.rules = rules
    x, y = X, Y if every else Y[:, -1]
    if "categories" in network:
        x = np.dstack([X[:, :, :2], X[:, :, 2].round().clip(-2, 2) + 2])
    if name == "own outputs":
        y = X
    if name == "windows":
        x, y = WINDOWS, WINDOWS.values[:, :2]
    if name == "classes":
        y = CLASSES
    given = {"epochs": 3, "batch_size": 10, "verbose": 0, "optimizer": bf.Adam(0.01)} | options
    return net, net.fit(x, y, **given, **ranks)


def results(comm=None, names=tuple(CASES)):
    """A checksum of weights and history of every setting, the history without its times."""
    found = {}
    for name in names:
        net, history = train(name, comm=bf.Shards(SHARDS, comm))
        record = {key: rows for key, rows in history.items() if key != "seconds"}
        text = json.dumps([record, history.stopped, history.best_epoch])
        found[name] = hashlib.sha256(net.params.tobytes() + text.encode()).hexdigest()[:16]
    return found


def some_results(comm):
    """The same of settings that differ in what a rank computes between two updates."""
    return results(comm, ("full", "truncated, ragged", "truncated, last state", "checkpointed", "validation"))


def histories(comm):
    """The whole history, with its times."""
    return dict(train("validation", comm=bf.Shards(SHARDS, comm))[1])


# ---- what goes wrong


class Failing(bf.Callback):
    """Raises at the end of the second epoch."""

    def on_epoch_end(self, epoch, logs):
        if epoch == 1:
            raise OSError("no space left")


def attempt(**options):
    """What happens to a fit with these options; its network."""
    net = bf.Network(3, 5, 2, readout="every", seed=options.pop("seed", 3))
    if options.pop("other_weights", False):
        net.params[0] = 1
    if options.pop("ruled", False):
        net.rules = {"weight_hh_l0": bf.Rule(l1=0.1)}
    x, y = options.pop("x", X), options.pop("y", Y)
    before = net.params.copy()
    try:
        shards = bf.Shards(options.pop("shards", 4), options.pop("comm"))
        history = net.fit(x, y, **({"epochs": 3, "batch_size": 8, "comm": shards, "verbose": 0} | options))
        return f"{history.stopped} after {len(history['loss'])}"
    except Exception as error:
        unchanged = "unchanged" if (net.params == before).all() else "changed"
        return f"{type(error).__name__}: {error} ({unchanged})"


def failures(comm):
    """What a rank sees of fits in which the ranks differ, or one of them fails."""
    second = comm.Get_rank() == 1
    nan = X.copy()
    nan[20, 3, 1] = np.nan
    differing = {
        "epochs": {"epochs": 4 if second else 3},
        "batch_size": {"batch_size": 9 if second else 8},
        "shards": {"shards": 5 if second else 4},
        "bptt": {"bptt": TRUNCATED if second else None},
        "seed": {"seed": 4 if second else 3},
        "weights": {"other_weights": second},
        "rules": {"ruled": second},
        "x and y": {"x": X[:20], "y": Y[:20]} if second else {},
        "lengths": {"lengths": LENGTHS if second else LENGTHS[::-1]},
        "wrong on one": {"loss": "none" if second else "mse"},
        "wrong on both": {"loss": "none"},
        "missing": {"x": nan},  # the ranks share the check
        "missing on one": {"validation_data": (nan if second else X, Y)},
        "setup": {"callbacks": [Refusing()]},
        "callback": {"callbacks": [Failing()]},
        "diverged": {"optimizer": bf.SGD(1e30)},
        "time": {"epochs": 10**6, "patience": bf.Stopping(max_seconds=0.2)},
        "second order": {"optimizer": "lbfgs", "batch_size": None},
        "online": {"bptt": bf.SlidingBPTT(3)},
        "stateful": {"stateful": True},
        "own loss": {"loss": lambda y, target, weight: (0.0, y)},
        "too many ranks": {"shards": 1},
        "one more": {},
    }
    return {name: attempt(comm=comm, **options) for name, options in differing.items()}


class Refusing(bf.Callback):
    """Raises before the fit."""

    def on_setup(self, training):
        raise OSError("no such folder")


class Mark(bf.Callback):
    """Creates the file when the third epoch ends, then waits for the end."""

    def on_epoch_end(self, epoch, logs):
        if epoch == 2:
            open("third", "w").close()
            time.sleep(60)


def long_fit(comm, *callbacks):
    net = bf.Network(3, 5, 2, readout="every", seed=3)
    backup = bf.callbacks.BackupAndRestore("backup")
    net.fit(X, Y, epochs=6, comm=bf.Shards(4, comm), callbacks=[backup, *callbacks], verbose=0)
    return hashlib.sha256(net.params.tobytes()).hexdigest()[:16]


class AfterBackup(Mark):
    runs_last = True  # and after the backup, which comes before it in the list


def killed(comm):
    """Rank 1 kills itself after the third epoch."""
    if comm.Get_rank() == 1:
        import threading

        def end():
            while not os.path.exists("third"):
                time.sleep(0.01)
            os.kill(os.getpid(), signal.SIGKILL)

        threading.Thread(target=end).start()
    return long_fit(comm, AfterBackup())


def main():
    from mpi4py import MPI

    comm = MPI.COMM_WORLD
    for name in sys.argv[1:]:
        every = comm.gather(globals()[name](comm))
        if comm.Get_rank() == 0:
            print(json.dumps(every), flush=True)


if __name__ == "__main__":
    main()
