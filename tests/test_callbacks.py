"""The callbacks that come with the package, and the progress bar."""

import csv
import io
import json
import os
import re
import sys
import threading
import time

import numpy as np
import pytest

import bptt_fast as bf
from bptt_fast import callbacks as cb

RNG = np.random.default_rng(0)
X, Y = RNG.standard_normal((40, 8, 2)), RNG.standard_normal((40, 1))


def network(**options):
    return bf.Network(**(dict(input_size=2, hidden_size=6, output_size=1, seed=0) | options))


def fit(callbacks, net=None, **options):
    return (net or network()).fit(X, Y, **(dict(epochs=5, verbose=0, callbacks=callbacks) | options))


class Fake(bf.Callback):
    """Tells another callback losses of its own choice."""

    def __init__(self, inner, losses, name="loss"):
        self.inner, self.losses, self.name = inner, losses, name

    def on_train_begin(self, logs):
        self.inner.model, self.inner.hyper = self.model, self.hyper
        self.inner.on_train_begin(logs)

    def on_epoch_begin(self, epoch, logs):
        self.inner.on_epoch_begin(epoch, logs)

    def on_epoch_end(self, epoch, logs):
        return self.inner.on_epoch_end(epoch, {"loss": 0.0, self.name: self.losses[epoch], "seconds": 1.0})

    def on_train_end(self, logs):
        self.inner.on_train_end(logs)


# ---- functions


def test_functions():
    seen = []
    hook = cb.LambdaCallback(
        on_train_begin=lambda logs: seen.append("begin"),
        on_epoch_begin=lambda epoch, logs: seen.append(epoch),
        on_epoch_end=lambda epoch, logs: seen.append(logs["loss"]),
        on_train_end=lambda logs: seen.append("end"),
    )
    history = fit(hook, epochs=2)
    assert seen == ["begin", 0, history["loss"][0], 1, history["loss"][1], "end"]


@pytest.mark.parametrize("result, epochs", ((True, 1), (False, 5), (None, 5), (12, 5), ("x", 5)))
def test_only_true_stops(result, epochs):
    """What a function returns by accident, such as the characters that a file has written, does not."""
    assert len(fit(cb.LambdaCallback(on_epoch_end=lambda epoch, logs: result))["loss"]) == epochs
    assert len(fit(cb.LambdaCallback())["loss"]) == 5


# ---- early stopping


@pytest.mark.parametrize("options, losses, best, stopped", (
    (dict(patience=2), [5, 4, 4, 3, 3, 3, 1], 3, 5),
    (dict(patience=0), [5, 4, 4, 3], 1, 2),
    (dict(patience=1), [5, 4, 4, 3], 1, 2),
    (dict(patience=2, min_delta=1.5), [5, 4, 3, 2.9, 2.8, 1], 2, 4),
    (dict(patience=2, mode="max"), [1, 2, 1, 1, 9], 1, 3),
    (dict(patience=2, baseline=3), [5, 4, 2], None, 1),
    (dict(patience=2, start_from_epoch=3), [1, 2, 3, 9, 8, 8, 8, 8], 4, 6),
    (dict(patience=2, monitor="other"), [5, 4, 4, 4], 1, 3),
    (dict(patience=2), [5, 4, 3, 2], 3, None),
))  # fmt: skip
def test_early_stopping(options, losses, best, stopped):
    stop, weights, net = cb.EarlyStopping(restore_best_weights=True, **options), [], network()
    keep = cb.LambdaCallback(on_epoch_end=lambda epoch, logs: weights.append(net.params.copy()))
    fake = Fake(stop, losses, stop.monitor or "loss")
    history = fit([keep, fake], net, epochs=len(losses))
    assert (stop.best_epoch, stop.stopped_epoch) == (best, stopped)
    assert history.stopped == ("epochs" if stopped is None else "callback")
    np.testing.assert_array_equal(net.params, weights[-1 if best is None else best])


def test_it_watches_the_validation_loss_if_there_is_any():
    stop = cb.EarlyStopping(patience=99)
    assert min(fit(stop)["loss"]) == stop.best
    assert min(fit(stop, validation_split=0.2)["val_loss"]) == stop.best
    stop = cb.EarlyStopping("loss", patience=99)
    assert min(fit(stop, validation_split=0.2)["loss"]) == stop.best
    with pytest.raises(bf.ConfigError, match=r"EarlyStopping\(monitor\): expected one of 'loss', 'seconds'"):
        fit(cb.EarlyStopping("val_loss"))


def test_a_callback_can_be_used_again():
    stop = cb.EarlyStopping(patience=1, restore_best_weights=True)
    for _ in range(2):
        fit(Fake(stop, [5, 4, 4]), epochs=3)
        assert (stop.best, stop.best_epoch, stop.stopped_epoch) == (4, 1, 2)


# ---- checkpoints


def names(folder):
    return sorted(os.listdir(folder))


def test_checkpoints(tmp_path):
    net = network()
    save = cb.ModelCheckpoint(tmp_path / "net-{epoch:02d}-{val_loss:.3f}.safetensors")
    history = fit(save, net, validation_split=0.2)
    expected = [f"net-{n:02d}-{v:.3f}.safetensors" for n, v in enumerate(history["val_loss"], 1)]
    assert names(tmp_path) == expected == [os.path.basename(path) for path in save.paths]
    np.testing.assert_array_equal(bf.load(save.paths[-1]).params, net.params)


def test_the_best_of_several_fits(tmp_path):
    """A loop of fits of one epoch is as one fit; the same with files of their own, of which two are kept."""
    losses = [3, 1, 2, 0.5, 4]
    save, net = cb.ModelCheckpoint(tmp_path / "best", save_best_only=True), network()
    last = cb.ModelCheckpoint(tmp_path / "net-{epoch}", keep_last=2)
    weights = []
    for epoch in range(5):
        hooks = [Fake(save, losses), Fake(last, losses)]
        fit(hooks, net, epochs=epoch + 1, initial_epoch=epoch)
        weights.append(net.params.copy())
    assert (save.best, save.best_path) == (0.5, str(tmp_path / "best"))
    np.testing.assert_array_equal(bf.load(tmp_path / "best").params, weights[3])
    assert names(tmp_path) == ["best", "net-4", "net-5"] == ["best", *map(os.path.basename, last.paths)]
    assert last.best_path == str(tmp_path / "net-4")
    fit(Fake(save, [0.7]), network(hidden_size=7), epochs=1)  # another network is compared with the same best
    np.testing.assert_array_equal(bf.load(tmp_path / "best").params, weights[3])


def test_the_best_of_what_is_watched(tmp_path):
    """A loss is not compared with a validation loss of an earlier fit, but with the threshold."""
    save = cb.ModelCheckpoint(tmp_path / "best", save_best_only=True, initial_value_threshold=9)
    assert save.best == 9
    fit(Fake(save, [5], "val_loss"), epochs=1)
    assert save.best == 5
    fit(Fake(save, [10]), epochs=1)
    assert save.best == 9
    fit(Fake(save, [8]), epochs=1)
    fit(Fake(save, [8.5]), epochs=1)
    assert save.best == 8
    fit(save, epochs=1)
    assert save.best < 8


def test_each_fit_resets_the_others():
    stop = cb.EarlyStopping(patience=2, baseline=4.5)
    slower = cb.ReduceLROnPlateau(patience=1, factor=0.5, min_delta=0)
    for losses, best, rate in (([4, 3], 3, 1e-3), ([5, 4], 4, 1e-3), ([4, 4], 4, 5e-4)):
        fit([Fake(stop, losses), Fake(slower, losses)], epochs=2)
        assert (stop.best, slower.best, stop.stopped_epoch) == (best, best, None)
        assert slower.hyper["learning_rate"] == rate


def test_only_the_best(tmp_path):
    path = tmp_path / "best.safetensors"
    save, weights, net = cb.ModelCheckpoint(path, save_best_only=True), [], network()
    keep = cb.LambdaCallback(on_epoch_end=lambda epoch, logs: weights.append(net.params.copy()))
    fit([keep, Fake(save, [3, 1, 2, 4, 5])], net)
    assert (save.best, save.best_path, save.paths) == (1, str(path), [str(path)])
    np.testing.assert_array_equal(bf.load(path).params, weights[1])
    path.unlink()
    fit(Fake(cb.ModelCheckpoint(path, save_best_only=True, initial_value_threshold=0.5), [3, 1, 2, 4, 5]))
    assert names(tmp_path) == []


@pytest.mark.parametrize("options, losses, kept", (
    (dict(keep_last=2), [3, 1, 2, 4, 5], [2, 4, 5]),
    (dict(keep_last=2), [5, 4, 3, 2, 1], [4, 5]),
    (dict(keep_last=1), [1, 2, 3, 4, 5], [1, 5]),
    (dict(keep_last=1, mode="max"), [1, 2, 3, 4, 3], [4, 5]),
    (dict(keep_last=2, save_best_only=True), [5, 4, 6, 3, 9], [2, 4]),
    (dict(keep_last=9), [5, 4, 6, 3, 9], [1, 2, 3, 4, 5]),
))  # fmt: skip
def test_keep_the_last_and_the_best(options, losses, kept, tmp_path):
    save = cb.ModelCheckpoint(tmp_path / "{epoch}", **options)
    (tmp_path / "mine").touch()
    fit(Fake(save, losses))
    assert names(tmp_path) == [*map(str, kept), "mine"]
    assert save.paths == [str(tmp_path / str(n)) for n in kept]


def test_a_checkpoint_that_fails_leaves_the_old_ones(tmp_path, monkeypatch):
    path = tmp_path / "net"
    fit(cb.ModelCheckpoint(path), epochs=1)
    before = path.read_bytes()

    def full(*arguments):
        raise OSError("no space left")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="no space"):
        fit(cb.ModelCheckpoint(path))
    assert names(tmp_path) == ["net"] and path.read_bytes() == before


# ---- the learning rate


@pytest.mark.parametrize("options, losses, rates", (
    (dict(factor=0.5, patience=1), [5, 4, 4, 4, 3, 3], [1, 1, 0.5, 0.25, 0.25, 0.125]),
    (dict(factor=0.5, patience=2), [5, 5, 5, 5, 5, 5], [1, 1, 0.5, 0.5, 0.25, 0.25]),
    (dict(factor=0.5, patience=1, cooldown=1), [5, 5, 5, 5, 5, 5], [1, 0.5, 0.5, 0.25, 0.25, 0.125]),
    (dict(factor=0.1, patience=1, min_lr=0.05), [5, 5, 5, 5], [1, 0.1, 0.05, 0.05]),
    (dict(factor=0.1, patience=1, min_lr=7), [5, 5], [1, 1]),
    (dict(factor=0.5, patience=1, min_delta=2), [5, 4, 3.5], [1, 0.5, 0.25]),
    (dict(factor=0.5, patience=1, mode="max"), [5, 6, 6], [1, 1, 0.5]),
))  # fmt: skip
def test_reduce_on_plateau(options, losses, rates):
    slower, found = cb.ReduceLROnPlateau(**options), []
    note = cb.LambdaCallback(on_epoch_end=lambda epoch, logs: found.append(slower.hyper["learning_rate"]))
    fit([Fake(slower, losses), note], epochs=len(losses), optimizer=bf.SGD(1.0, clip_norm=1e-3))
    np.testing.assert_allclose(found, rates)


@pytest.mark.parametrize("bptt", (bf.FullBPTT(), bf.SlidingBPTT(3)), ids=("full", "sliding"))
def test_the_next_epoch_has_the_new_rate(bptt):
    y = X[..., :1] if isinstance(bptt, bf.SlidingBPTT) else Y
    one, other = network(), network()
    slower = Fake(cb.ReduceLROnPlateau(factor=0.5, patience=1), [1, 1, 2])
    one.fit(X, y, epochs=3, optimizer=bf.SGD(0.1), bptt=bptt, callbacks=slower, verbose=0)
    other.fit(X, y, epochs=2, optimizer=bf.SGD(0.1), bptt=bptt, verbose=0)
    other.fit(X, y, epochs=3, initial_epoch=2, optimizer=bf.SGD(0.05), bptt=bptt, verbose=0)
    np.testing.assert_array_equal(one.params, other.params)


def test_the_optimiser_of_the_user_is_not_changed():
    optimizer = bf.SGD(0.1)
    fit(Fake(cb.ReduceLROnPlateau(patience=1), [1, 1, 1, 1, 1]), optimizer=optimizer)
    assert optimizer == bf.SGD(0.1)


# ---- logs


def rows(path, separator=","):
    with open(path, newline="") as file:
        return list(csv.reader(file, delimiter=separator))


@pytest.mark.parametrize("separator", (",", ";", "\t"))
def test_csv(separator, tmp_path):
    path = tmp_path / "log.csv"
    log = cb.CSVLogger(path, separator)
    for _ in range(2):
        history = fit(log, validation_split=0.2)
        head, *found = rows(path, separator)
        assert head == ["epoch", "loss", "val_loss", "seconds", "learning_rate"]
        assert [int(row[0]) for row in found] == [1, 2, 3, 4, 5]
        assert [float(row[2]) for row in found] == history["val_loss"]


@pytest.mark.parametrize("kind", (cb.CSVLogger, cb.JSONLogger))
def test_append(kind, tmp_path):
    path, net = tmp_path / "log", network()
    fit(kind(path, append=True), net, epochs=2)
    fit(kind(path, append=True), net, epochs=3, initial_epoch=2)
    lines = path.read_text().splitlines()
    epochs = [json.loads(line)["epoch"] if line[0] == "{" else line.split(",")[0] for line in lines]
    assert list(map(str, epochs)) == (["epoch"] if kind is cb.CSVLogger else []) + ["1", "2", "3"]
    if kind is cb.CSVLogger:
        with pytest.raises(bf.ConfigError, match=r"expected a file with the columns epoch, loss, val_loss"):
            fit(kind(path, append=True), net, validation_split=0.2)
        assert path.read_text().splitlines() == lines
    fit(kind(path), net, epochs=1)
    assert len(path.read_text().splitlines()) == len(lines) - 2


def test_append_to_a_table_of_another_program(tmp_path):
    """With the mark at its beginning that some write, or in another encoding."""
    path = tmp_path / "log"
    path.write_bytes("\ufeffepoch,loss,seconds,learning_rate\r\n".encode())
    fit(cb.CSVLogger(path, append=True), epochs=2)
    assert len(path.read_text().splitlines()) == 3
    path.write_bytes("\u00e9poque\n".encode("latin-1"))
    with pytest.raises(bf.ConfigError, match=r"expected a file with the columns .* with \\xe9poque"):
        fit(cb.CSVLogger(path, append=True))


@pytest.mark.parametrize("kind", (cb.CSVLogger, cb.JSONLogger))
def test_append_to_a_part_of_a_row(kind, tmp_path):
    """What a crash or a full disk has left of a row stays alone in its line."""
    path, net = tmp_path / "log", network()
    fit(kind(path), net, epochs=3)
    whole = path.read_bytes()
    path.write_bytes(whole[:-5])
    fit(kind(path, append=True), net, epochs=5, initial_epoch=3)
    lines = path.read_bytes().splitlines()
    old = whole.splitlines()
    assert lines[: len(old)] == [*old[:-1], whole[:-5].splitlines()[-1]] and len(lines) == len(old) + 2
    epochs = [
        json.loads(line)["epoch"] if kind is cb.JSONLogger else int(line.split(b",")[0])
        for line in lines[-2:]
    ]
    assert epochs == [4, 5]


def test_append_to_another_file(tmp_path):
    (tmp_path / "log").write_bytes(b"\xff\xfe\0")
    with pytest.raises(bf.ConfigError, match="expected a file with the columns epoch, loss, seconds"):
        fit(cb.CSVLogger(tmp_path / "log", append=True))
    assert (tmp_path / "log").read_bytes() == b"\xff\xfe\0"


def test_json(tmp_path):
    path = tmp_path / "log.jsonl"
    history = fit(cb.JSONLogger(path), validation_split=0.2)
    found = [json.loads(line) for line in path.read_text().splitlines()]
    assert [row.pop("learning_rate") for row in found] == [1e-3] * 5
    assert found == [dict(zip(history, row, strict=True)) for row in zip(*history.values(), strict=True)]
    fit(cb.JSONLogger(path), epochs=1, optimizer="lbfgs")
    assert json.loads(path.read_text(), parse_constant=pytest.fail)["learning_rate"] is None


@pytest.mark.parametrize("first", (True, False))
def test_logs_tell_the_rate_of_their_epoch(first, tmp_path):
    """Whatever the order of the callbacks."""
    log, slower = cb.JSONLogger(tmp_path / "log"), Fake(cb.ReduceLROnPlateau(factor=0.5, patience=1), [1] * 5)
    fit([log, slower] if first else [slower, log], optimizer=bf.SGD(0.1))
    found = [json.loads(line)["learning_rate"] for line in (tmp_path / "log").read_text().splitlines()]
    np.testing.assert_allclose(found, [0.1, 0.1, 0.05, 0.025, 0.0125])


def test_what_is_logged_survives_a_crash(tmp_path):
    def crash(epoch, logs):
        if epoch == 2:
            raise RuntimeError

    logs = [cb.CSVLogger(tmp_path / "csv"), cb.JSONLogger(tmp_path / "json")]
    with pytest.raises(RuntimeError):
        fit([*logs, cb.LambdaCallback(on_epoch_end=crash)])
    assert len((tmp_path / "csv").read_text().splitlines()) == 4
    assert len((tmp_path / "json").read_text().splitlines()) == 3


def test_tensorboard(tmp_path):
    pytest.importorskip("tensorboardX")
    from tensorboardX.proto.event_pb2 import Event

    net = network()
    history = fit(cb.TensorBoard(tmp_path, histogram_freq=2), net, validation_split=0.2)
    found = {part: events(tmp_path / part, Event) for part in ("train", "validation")}
    np.testing.assert_allclose(found["train"]["epoch_loss"], history["loss"], rtol=1e-6)
    np.testing.assert_allclose(found["validation"]["epoch_loss"], history["val_loss"], rtol=1e-6)
    np.testing.assert_allclose(found["train"]["epoch_learning_rate"], [1e-3] * 5, rtol=1e-6)
    assert {name: len(found["train"][name]) for name in net} == dict.fromkeys(net, 2)
    assert set(found["validation"]) == {"epoch_loss"}


def events(folder, kind):
    """Values by tag, of all files in a folder: length, checksum, event and checksum in turns."""
    values = {}
    for path in sorted(folder.iterdir()):
        data = path.read_bytes()
        while data:
            size = int.from_bytes(data[:8], "little")
            for value in kind.FromString(data[12 : 12 + size]).summary.value:
                values.setdefault(value.tag, []).append(value.simple_value)
            data = data[16 + size :]
    return values


def test_without_tensorboardx_the_error_says_what_to_install(python):
    code = (
        "import sys; sys.modules['tensorboardX'] = None\n"
        "import numpy as np, bptt_fast as bf\n"
        "bf.Network(1, 2, 1).fit(np.ones((2, 3, 1)), np.ones(2), callbacks=bf.callbacks.TensorBoard())"
    )
    done = python("-c", code)
    assert done.returncode == 1 and 'pip install "bptt-fast[tensorboard]"' in done.stderr


# ---- error messages


@pytest.mark.parametrize("make, words", (
    (lambda: cb.EarlyStopping(patience=-1), "EarlyStopping(patience): expected an integer of at least 0"),
    (lambda: cb.EarlyStopping(mode="lowest"), "EarlyStopping(mode): expected one of 'auto', 'min', 'max'"),
    (lambda: cb.EarlyStopping(min_delta=-1), "EarlyStopping(min_delta): expected"),
    (lambda: cb.EarlyStopping(restore_best_weights=1), "EarlyStopping(restore_best_weights): expected True"),
    (lambda: cb.ReduceLROnPlateau(factor=1), "ReduceLROnPlateau(factor): expected"),
    (lambda: cb.ReduceLROnPlateau(min_lr=-1), "ReduceLROnPlateau(min_lr): expected"),
    (lambda: cb.ModelCheckpoint(3), "ModelCheckpoint(filepath): expected a str or path-like, got 3"),
    (lambda: cb.ModelCheckpoint("x", keep_last=2), "ModelCheckpoint(filepath): expected {epoch} in it"),
    (lambda: cb.ModelCheckpoint("{epoch}", keep_last=0), "ModelCheckpoint(keep_last): expected"),
    (lambda: fit(cb.ModelCheckpoint("{accuracy}")), "expected only names among epoch, loss, seconds"),
    (lambda: fit(cb.ModelCheckpoint("{epoch.real.x}")), "expected only names among epoch, loss, seconds"),
    (lambda: fit(cb.ModelCheckpoint("{epoch[0]}")), "expected only names among epoch, loss, seconds"),
    (lambda: cb.CSVLogger("x", "::"), "CSVLogger(separator): expected one character, got '::'"),
    (lambda: cb.JSONLogger(None), "JSONLogger(filename): expected a str or path-like, got None"),
    (lambda: cb.TensorBoard(histogram_freq=-1), "TensorBoard(histogram_freq): expected"),
    (lambda: cb.LambdaCallback(on_train_end=3), "LambdaCallback(on_train_end): expected a function, got 3"),
))  # fmt: skip
def test_errors(make, words):
    with pytest.raises(bf.ConfigError, match=re.escape(words)):
        make()


# ---- the progress bar


class Terminal(io.StringIO):
    def isatty(self):
        return True


def shown(monkeypatch, **options):
    monkeypatch.setattr(sys, "stderr", Terminal())
    fit((), verbose=1, **options)
    return sys.stderr.getvalue().split("\r")


@pytest.mark.parametrize("options, total", (
    ({}, "1.60k/1.60k"), (dict(validation_split=0.5), "800/800"), (dict(initial_epoch=3), "640/640"),
))  # fmt: skip
def test_the_bar_counts_steps(options, total, monkeypatch):
    """Of 40 sequences of 8 steps in 5 epochs; it ends full, with the loss, the speed and the time."""
    last = shown(monkeypatch, **options)[-1]
    assert "epoch 5/5: 100%" in last and total in last and "steps/s" in last and "loss=" in last
    assert ("val_loss=" in last) == ("validation_split" in options)
    assert re.search(r"\[\d\d:\d\d<\d\d:\d\d", last)


def test_the_bar_moves_within_an_epoch(monkeypatch):
    monkeypatch.setattr(sys, "stderr", Terminal())
    bar = cb.progress(1, 2, 4, 1000)
    seen = []
    for done in (1, 4, 8):
        bar.within(done, 8)
        seen.append(bar.bar.n)
    bar.end(3, {"loss": 1.0, "seconds": 1.0})
    bar.within(4, 8)
    seen.append(bar.bar.n)
    bar.close()
    assert seen == [125, 500, 1000, 1500] and bar.bar.total == 2000


def test_a_fit_tells_the_bar_how_far_it_is(monkeypatch):
    seen = []
    monkeypatch.setattr(cb._Bar, "within", lambda bar, done, updates: seen.append((done, updates)))
    x, y = np.ones((4000, 40, 2)), np.ones((4000, 1))
    network(hidden_size=100).fit(x, y, epochs=1, batch_size=8, verbose=1, threads=1)
    assert len(seen) > 1 and all(0 <= done <= updates == 500 for done, updates in seen)


def test_the_bar_of_a_fit_that_stops_early(monkeypatch):
    last = shown(monkeypatch, epochs=10, patience=bf.Stopping(target_loss=1e9))[-1]
    assert "epoch 1/10:  10%" in last


def test_a_notebook_has_a_bar(monkeypatch):
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    assert cb.check_verbose("auto") == 2
    monkeypatch.setattr(cb.notebook, "is_active", lambda: True)
    assert cb.check_verbose("auto") == 1


def test_optuna_prunes_bad_trials():
    """Epochs are reported as they are in the history; a trial that is worse than the median is pruned."""
    optuna = pytest.importorskip("optuna")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    x = np.sin(np.arange(200) / 5).reshape(20, 10, 1)
    histories = []

    def objective(trial):
        net = bf.Network(1, 4, 1, seed=0)
        optimizer = bf.SGD(1e-9 if trial.number == 2 else 0.1)
        pruning = bf.callbacks.OptunaPruning(trial)
        history = net.fit(x, x[:, 0], epochs=5, optimizer=optimizer, callbacks=pruning, verbose=0)
        histories.append(history)
        return history["loss"][-1]

    study = optuna.create_study(pruner=optuna.pruners.MedianPruner(n_startup_trials=2))
    study.optimize(objective, n_trials=3)
    assert [trial.state.name for trial in study.trials] == ["COMPLETE", "COMPLETE", "PRUNED"]
    assert list(study.trials[0].intermediate_values.values()) == histories[0]["loss"]
    with pytest.raises(bf.ConfigError, match=r"OptunaPruning\(trial\): expected a trial"):
        bf.callbacks.OptunaPruning(study)


def test_trials_of_optuna_run_at_the_same_time():
    optuna = pytest.importorskip("optuna")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    both = threading.Barrier(2, timeout=60)  # passed only while two fits are inside an epoch's end

    def objective(trial):
        meet = bf.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: both.wait() and None)
        net, x = bf.Network(1, 4, 1, seed=trial.number), np.ones((8, 5, 1))
        history = net.fit(x, x[:, 0], epochs=3, callbacks=meet, threads=1, verbose=0)
        return history["loss"][-1]

    study = optuna.create_study()
    study.optimize(objective, n_trials=4, n_jobs=2)
    assert [trial.state.name for trial in study.trials] == ["COMPLETE"] * 4


def test_python_runs_while_the_core_trains():
    """So that trials in threads run side by side: another thread works in an epoch, not only at its polls."""
    before, ended, worked, used = sys.getswitchinterval(), threading.Event(), [0.0], []

    def work():
        while not ended.is_set():
            worked[0] = time.thread_time()

    def note(*_):
        used.append((time.thread_time(), worked[0]))

    net, x = bf.Network(8, 128, 1, cell="gru", seed=0), np.ones((400, 100, 8))
    hooks = bf.callbacks.LambdaCallback(on_epoch_begin=note, on_epoch_end=note)
    thread = threading.Thread(target=work)
    try:
        sys.setswitchinterval(1e-5)  # a poll of the core hands over the lock of Python for this long
        thread.start()
        net.fit(x, x[:, 0, :1], batch_size=400, callbacks=hooks, threads=1, verbose=0)
    finally:
        ended.set()
        thread.join()
        sys.setswitchinterval(before)
    (trained, other), (end, after) = used
    assert end - trained > 0.1 and after - other > 0.2 * (end - trained)


@pytest.mark.parametrize("name, value", (
    ("beta1", -1.0), ("beta1", 1.0), ("learning_rate", -1.0), ("learning_rate", np.nan),
    ("learning_rate", "x"), ("clip_norm", np.nan), ("clip_norm", -1.0), ("eps", 0.0),
    ("noise", -1.0), ("clip_norm", None),
))  # fmt: skip
def test_wrong_hyperparameters(name, value):
    """An optimiser would refuse them; with a beta1 of -1 or 1 the weights became NaN."""
    net = network()

    class Sets(bf.Callback):
        def on_epoch_begin(self, epoch, logs):
            if epoch == 1:
                self.before, self.hyper[name] = self.model.params.tobytes(), value

    sets = Sets()
    with pytest.raises(bf.ConfigError, match=re.escape(f"hyper[{name!r}]: expected a finite number")):
        fit(sets, net)
    assert net.params.tobytes() == sets.before


@pytest.mark.parametrize("kind", (bf.SGD, bf.Adam, bf.AdamW, bf.NAdam, bf.RMSprop, bf.Adagrad))
def test_right_hyperparameters(kind):
    """A learning rate of 0 stops the training, clipping is turned on and off."""
    net, found = network(), []

    class Sets(bf.Callback):
        def on_epoch_begin(self, epoch, logs):
            self.hyper["learning_rate"] = np.float64(0.01) if epoch < 3 else 0
            self.hyper["clip_norm"] = 0.5 * (epoch % 2)
            found.append(self.model.params.tobytes())

    fit(Sets(), net, optimizer=kind())
    assert len(set(found)) == 4 and found[3:] == [net.params.tobytes()] * 2
