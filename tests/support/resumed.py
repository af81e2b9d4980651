"""Fits that are stopped and go on: many settings, and a script that kills them at random times.

`python tests/support/resumed.py 200` kills a fit 200 times, in turn in all settings, and counts the settings
whose results differ from those of a run that was never killed; `run NAME FOLDER` is one of its processes.
"""

import hashlib
import json
import sys
from pathlib import Path

import numpy as np

import bptt_fast as bf

EPOCHS = 12
random = np.random.default_rng(0)
X = random.normal(size=(20, 9, 2))
Y = X.cumsum(axis=1)[:, :, :1] / 5
RAGGED = [X[i, : 3 + i % 7] for i in range(20)]
RAGGED_Y = [Y[i, : 3 + i % 7] for i in range(20)]
WEIGHT = random.uniform(0.5, 2, 20)
CLASSES = (X[:, :, 0].sum(1) > 0).astype(int)
SERIES = np.sin(np.arange(60) / 5)[:, None] * [1.0, 0.5]

LAST, EVERY = (X, Y[:, -1]), (X, Y)


def setting(data, network=None, **options):
    """The data, the arguments of the network and those of fit."""
    return data, {"cell": "elman"} | (network or {}), options


def hooks(folder):
    """Callbacks with a state and files."""
    c = bf.callbacks
    return [
        c.EarlyStopping(patience=4, restore_best_weights=True, min_delta=0.02),
        c.ReduceLROnPlateau(factor=0.9, patience=2, min_delta=0.02, cooldown=1),
        c.ModelCheckpoint(folder / "best.safetensors", save_best_only=True),
        c.ModelCheckpoint(folder / "net-{epoch:02d}.safetensors", keep_last=2),
        c.CSVLogger(folder / "log.csv"),
        c.JSONLogger(folder / "log.jsonl"),
    ]


DEEP = dict(cell="lstm", num_layers=2, dropout=0.3, recurrent_dropout=0.2, dtype="float64")
PLATEAU = bf.ReduceOnPlateau(0.1, factor=0.5, patience=1, threshold=0.2, cooldown=1)
SETTINGS = {
    "SGD": setting(LAST, batch_size=7, optimizer=bf.SGD(0.05)),
    "momentum": setting(LAST, batch_size=7, optimizer=bf.SGD(0.05, momentum=0.9, nesterov=True)),
    "Adam": setting(LAST, dict(cell="gru"), batch_size=7, optimizer=bf.Adam(0.01, clip_norm=0.5)),
    "NAdam": setting(LAST, dict(dtype="float64"), batch_size=7, optimizer=bf.NAdam(0.01)),
    "RMSprop": setting(LAST, batch_size=7, optimizer=bf.RMSprop(0.01, momentum=0.5, centered=True)),
    "Adagrad": setting(LAST, batch_size=7, optimizer=bf.Adagrad(0.05, rate_decay=0.1)),
    "Rprop": setting(LAST, batch_size=20, optimizer=bf.Rprop()),
    "dropout and noise": setting(
        EVERY, DEEP | dict(readout="every"), batch_size=7, optimizer=bf.Adam(0.01, gradient_noise=0.1)
    ),
    "a schedule": setting(LAST, batch_size=7, optimizer=bf.SGD(bf.OneCycle(0.1), momentum=0.5)),
    "a plateau": setting(LAST, batch_size=7, optimizer=bf.SGD(PLATEAU), validation_split=0.2),
    "early stopping": setting(
        LAST,
        batch_size=7,
        optimizer=bf.SGD(0.3),
        validation_split=0.2,
        patience=bf.Stopping(patience=3, min_delta=0.02, max_seconds=1e6),
    ),
    "callbacks": setting(LAST, batch_size=7, optimizer=bf.SGD(0.3), validation_split=0.2, callbacks=hooks),
    "later epochs": setting(LAST, batch_size=7, optimizer=bf.Adam(bf.Cosine(0.05)), initial_epoch=2),
    "stateful": setting(
        EVERY, dict(readout="every"), bptt=bf.TruncatedBPTT(3, 5), stateful=True, batch_size=7
    ),
    "stateful, trained": setting(
        EVERY, dict(readout="every", initial_state="trained", cell="lstm"), stateful=True, batch_size=7
    ),
    "checkpointed": setting(
        (RAGGED, RAGGED_Y), dict(readout="every", cell="gru"), bptt=bf.CheckpointedBPTT(3), batch_size=7
    ),
    "online": setting((SERIES, SERIES[:, :1]), bptt=bf.SlidingBPTT(4), optimizer=bf.SGD(0.02, momentum=0.5)),
    "weights and scaling": setting(
        LAST, batch_size=7, sample_weight=WEIGHT, scaling="standard", loss="huber"
    ),
    "both directions": setting(
        EVERY, dict(bidirectional=True, readout="every", initial_state="trained"), batch_size=7
    ),
    "classes": setting((X, CLASSES), dict(head=(3,), output_size=2), loss="cross_entropy", batch_size=7),
    "teacher forcing": setting(
        (X, X), dict(readout="every", output_size=2), teacher_forcing=0.5, batch_size=7
    ),
    "LBFGS": setting(EVERY, dict(readout="every"), optimizer=bf.LBFGS(4)),
    "LevenbergMarquardt": setting(EVERY, dict(readout="every"), optimizer=bf.LevenbergMarquardt()),
    "few residuals": setting((X[:3], Y[:3, -1]), optimizer=bf.LevenbergMarquardt(), validation_split=0.4),
    "HessianFree": setting(EVERY, dict(readout="every"), optimizer=bf.HessianFree(1.0)),
    "structural damping": setting(LAST, optimizer=bf.HessianFree(structural_damping=0.1, max_products=30)),
}
RESTARTS = {
    "restarts": dict(optimizer=bf.Adam(0.05), batch_size=7, rungs=[2, 7]),
    "restarts of LBFGS": dict(optimizer=bf.LBFGS(), keep="all"),
    "a grid": dict(
        grid={"hidden_size": [2, 3], "optimizer": [bf.SGD(0.1, momentum=0.9), bf.SGD(1e9)]},
        patience=2,
        validation_split=0.2,
        batch_size=7,
    ),
}
NAMES = (*SETTINGS, *RESTARTS, "a learner")


def network(**options):
    return bf.Network(**dict(input_size=2, hidden_size=4, output_size=1, seed=5, nonlinearity=None) | options)


def run(name, folder, backup=None, *callbacks, until=None):
    """All results of a setting that are not times, as bytes by name; `backup` is a BackupAndRestore.

    `until`: called with the number of observations of a learner.
    """
    if name == "a learner":
        return learn(folder, backup, until)
    if name in RESTARTS:
        options = RESTARTS[name] | dict(n=4, epochs=EPOCHS, threads=2, verbose=0, backup=backup)
        _, table = bf.restarts(network(dtype="float64"), *LAST, **options)
        columns = {key: value for key, value in table.items() if key != "seconds"}
        found = {"table": json.dumps([columns, table.rungs], default=repr).encode()}
        found |= {f"net {i}": net.params.tobytes() for i, net in enumerate(table.networks)}
        return found | {f"history {i}": record(history) for i, history in enumerate(table.histories)}
    (x, y), described, options = SETTINGS[name]
    net, own = network(**described), options.get("callbacks", lambda folder: [])(folder)
    options = options | dict(
        epochs=EPOCHS, verbose=0, callbacks=[*([backup] * bool(backup)), *own, *callbacks]
    )
    history = net.fit(x, y, **options)
    found = {"params": net.params.tobytes(), "history": record(history)}
    found["states"] = b"" if net.carried_states is None else net.carried_states.tobytes()
    net.fit(x, y, **options | dict(epochs=EPOCHS + 1, initial_epoch=EPOCHS, callbacks=[], verbose=0))
    found["one more epoch"] = net.params.tobytes()
    for i, hook in enumerate(own):
        state = [getattr(hook, name, None) for name in ("best", "wait", "best_epoch", "paths")]
        found[f"callback {i}"] = json.dumps(state).replace(str(folder), "").encode()
    for file in folder.glob("*.safetensors"):
        found[file.name] = bf.load(file).params.tobytes()
    for file in folder.glob("log.*"):
        found[file.name] = without_times(file)
    return found


def record(history):
    kept = {name: rows for name, rows in history.items() if name != "seconds"}
    return json.dumps([kept, history.stopped, history.best_epoch, history.left_out]).encode()


def without_times(file):
    if file.suffix == ".csv":
        lines = [line.split(",") for line in file.read_text().splitlines()]
        time = lines[0].index("seconds")
        return repr([line[:time] + line[time + 1 :] for line in lines]).encode()
    return repr([json.loads(line) | {"seconds": 0} for line in file.read_text().splitlines()]).encode()


def learn(folder, backup, until):
    """A learner that is saved every few observations; `backup` None: never."""
    path = folder / "learner.safetensors"
    if backup is not None and path.exists():
        learner = bf.load(path)
    else:
        net = network(dtype="float64")
        learner = net.learn_online(bf.SlidingBPTT(3), bf.Adam(0.01, gradient_noise=0.1))
    rows = np.tile(SERIES, (3, 1))
    while learner.seen < len(rows):
        learner.observe(rows[learner.seen], rows[learner.seen, :1])
        if backup is not None and learner.seen % 7 == 0:
            learner.save(path)
        if until is not None:
            until(learner.seen)
    return {"params": learner.network.params.tobytes(), "state": learner.state.tobytes()}


def digest(found):
    """The results as one text."""
    return json.dumps({name: hashlib.sha256(value).hexdigest() for name, value in sorted(found.items())})


class Slow(bf.Callback):
    """Epochs that last long enough to be killed."""

    def on_epoch_begin(self, epoch, logs):
        import time

        time.sleep(0.01)


def main(argv):
    if argv[0] == "run":
        name, folder = argv[1], Path(argv[2])
        import time

        print("begun", flush=True)
        backup = bf.callbacks.BackupAndRestore(folder / "backup", every=1 + NAMES.index(name) % 2)
        found = run(name, folder, backup, Slow(), until=lambda seen: time.sleep(0.002))
        print(digest(found), flush=True)
        return 0
    return kill(int(argv[0]))


def killed(name, folder, delays):
    """The digest of a setting whose processes are killed after such delays, and the number of kills."""
    import subprocess

    kills = 0
    command = [sys.executable, __file__, "run", name, str(folder)]
    for delay in delays:
        child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert child.stdout.readline() == "begun\n"
        try:
            text, _ = child.communicate(timeout=delay)
        except subprocess.TimeoutExpired:
            child.kill()
            text, _ = child.communicate()
        if child.returncode == 0:
            return text.strip(), kills
        kills += 1
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return done.stdout.splitlines()[-1], kills


def kill(wanted):
    """Kill fits until there were so many kills; the number of wrong settings."""
    import itertools
    import tempfile

    kills = wrong = fits = 0
    moments = np.random.default_rng()
    expected = {}
    for name in itertools.cycle(NAMES):
        with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as other:
            if name not in expected:
                expected[name] = digest(run(name, Path(other)))
            found, times = killed(name, Path(folder), moments.uniform(0, 0.25, 6))
            left = [file.name for file in Path(folder).rglob(".bptt_fast.*")]
        kills, fits, wrong = kills + times, fits + 1, wrong + (found != expected[name])
        print(
            f"{name}: {times} kills, {'equal' if found == expected[name] else 'WRONG'}, left {left}",
            flush=True,
        )
        if kills >= wanted:
            break
    print(f"{fits} fits, {kills} kills, {wrong} of the fits differ")
    return wrong


if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).parents[1])
    raise SystemExit(main(sys.argv[1:]))
