"""A fit that was stopped continues from its backup: equal to the bit, or refused by name."""

import contextlib
import os
import signal

import numpy as np
import pytest
from support import resumed

import bptt_fast as bf
from bptt_fast import stopping

BackupAndRestore = bf.callbacks.BackupAndRestore


class Stop(Exception):
    """Ends a fit at a chosen point."""


class Stops(BackupAndRestore):
    """A backup that stops the fit before or after it was made, at a given epoch or the next chance."""

    def __init__(self, folder, epoch, before, **options):
        super().__init__(folder, **options)
        self.epoch, self.before = epoch, before

    def save(self, epoch, state):
        if self.before and epoch >= self.epoch:
            raise Stop
        super().save(epoch, state)
        if epoch >= self.epoch:
            raise Stop


def stopped(name, folder, backup, **options):
    """Whether the run was stopped, and its results."""
    try:
        return False, resumed.run(name, folder, backup, **options)
    except Stop:
        return True, None


def equal(found, expected):
    assert found.keys() == expected.keys() and len(found) >= 2
    assert [name for name in found if found[name] != expected[name]] == []


@pytest.mark.parametrize("every", (1, 3))
@pytest.mark.parametrize("name", [*resumed.SETTINGS, *resumed.RESTARTS])
def test_a_stopped_fit_is_an_uninterrupted_one(name, every, tmp_path):
    """Stopped several times, before and after a backup."""
    for folder in ("whole", "parts"):
        (tmp_path / folder).mkdir()
    expected, stops = resumed.run(name, tmp_path / "whole"), 0
    folder = tmp_path / "parts"
    for epoch, before in ((1, True), (3, False), (4, True), (5, True), (6, False), (8, True), (11, True)):
        now, found = stopped(name, folder, Stops(folder / "backup", epoch, before, every=every))
        if found is not None:  # it had ended before
            break
        stops += now
    else:
        found = resumed.run(name, folder, BackupAndRestore(folder / "backup", every=every))
    equal(found, expected)
    assert stops >= 2 and not (folder / "backup").exists()


@pytest.mark.parametrize("name", ("Adam", "LBFGS", "callbacks", "restarts"))
def test_backups_change_nothing(name, tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    expected = resumed.run(name, tmp_path / "a")
    equal(resumed.run(name, tmp_path / "b", BackupAndRestore(tmp_path / "backup")), expected)


def test_a_stopped_learner(tmp_path):
    expected = resumed.run("a learner", tmp_path)
    for at in (5, 40, 41, 150):

        def stop(seen, at=at):
            if seen == at:
                raise Stop

        assert stopped("a learner", tmp_path, True, until=stop)[0]
    equal(resumed.run("a learner", tmp_path, True), expected)


@pytest.mark.slow
@pytest.mark.parametrize("name", ("dropout and noise", "callbacks", "HessianFree", "restarts", "a learner"))
def test_a_killed_fit(name, tmp_path):
    """kill -9 at random times; `python tests/support/resumed.py 200` does it in all settings."""
    (tmp_path / "whole").mkdir()
    (tmp_path / "parts").mkdir()
    expected = resumed.digest(resumed.run(name, tmp_path / "whole"))
    found, _ = resumed.killed(name, tmp_path / "parts", np.random.default_rng().uniform(0, 0.25, 4))
    assert found == expected


# ---- what is refused

x, y = np.random.default_rng(1).normal(size=(2, 12, 6, 1))


def network(**options):
    return bf.Network(
        **dict(input_size=1, hidden_size=3, output_size=1, seed=0, readout="every", recurrent_dropout=0.1)
        | options
    )


def fit(net, folder, *others, x=x, y=y, **options):
    hooks = [BackupAndRestore(folder), *others]
    return net.fit(
        x, y, **dict(epochs=6, optimizer=bf.Adam(0.01), batch_size=5, callbacks=hooks, verbose=0) | options
    )


class StopsAt(bf.Callback):
    """Raises at the begin of an epoch, before anything of it has happened."""

    def __init__(self, epoch=3):
        self.at = epoch

    def on_epoch_begin(self, epoch, logs):
        if epoch == self.at:
            raise Stop


@pytest.fixture
def stopped_fit(tmp_path):
    """The folder of a backup after three epochs."""
    with pytest.raises(Stop):
        fit(network(), tmp_path / "backup", StopsAt())
    return tmp_path / "backup"


def changed(a):
    a = a.copy()
    a[3, 2] += 1e-6
    return a


OTHER = {
    "hidden_size": dict(net=dict(hidden_size=4)),
    "cell": dict(net=dict(cell="gru", nonlinearity=None)),
    "seed": dict(net=dict(seed=1)),
    "recurrent_dropout": dict(net=dict(recurrent_dropout=0.2)),
    "dtype": dict(net=dict(dtype="float64")),
    "x and y": dict(x=changed(x)),
    "x and y, targets": dict(y=changed(y)),
    "x and y, shape": dict(x=x[:-1], y=y[:-1]),
    "x and y, weights": dict(sample_weight=np.linspace(1, 2, 12)),
    "x and y, x0": dict(x0=np.ones(3)),
    "x and y, lengths": dict(lengths=np.arange(12) // 3 + 2),
    "validation_split": dict(validation_split=0.25),
    "validation_data": dict(validation_data=(x, y)),
    "batch_size": dict(batch_size=4),
    "optimizer": dict(optimizer=bf.Adam(0.02)),
    "optimizer, kind": dict(optimizer=bf.SGD(0.01)),
    "loss": dict(loss="mae"),
    "bptt": dict(bptt=bf.TruncatedBPTT(3)),
    "epochs": dict(epochs=7),
    "initial_epoch": dict(initial_epoch=1),
    "shuffle": dict(shuffle=False),
    "stateful": dict(stateful=True),
    "teacher_forcing": dict(teacher_forcing=0.5),
    "patience": dict(patience=2),
    "columns": dict(scaling=bf.Scaling([0.5], [2.0])),
    "isa": dict(isa="base"),
}


@pytest.mark.parametrize("name", OTHER)
def test_other_arguments_are_refused_by_name(name, stopped_fit):
    options = dict(OTHER[name])
    net = network(**options.pop("net", {}))
    before, columns, backup = (
        net.params.copy(),
        net.columns,
        (stopped_fit / "backup.safetensors").read_bytes(),
    )
    if name == "isa" and "avx2" not in bf.machine.configuration()["supported"]:
        pytest.skip("has one instruction set only")
    with pytest.raises(
        bf.ConfigError, match=rf"^{name.partition(',')[0]}: expected .* as in the backup .*, got"
    ):
        fit(net, stopped_fit, **options)
    assert (net.params == before).all() and net.columns == columns
    assert (stopped_fit / "backup.safetensors").read_bytes() == backup


def test_what_changes_no_result_may_differ(stopped_fit):
    whole, net = network(), network()
    expected = whole.fit(x, y, epochs=6, optimizer=bf.Adam(0.01), batch_size=5, verbose=0)
    net.params[:] = 0.5  # the backup has others
    history = fit(net, stopped_fit, StopsAt(99), threads=2, verbose=0)
    assert (net.params == whole.params).all() and history["loss"] == expected["loss"]


def test_padding_and_targets_without_weight_may_differ(tmp_path):
    lengths, weight = np.arange(12) // 3 + 2, np.ones((12, 6))
    weight[0, 0] = 0
    for value in (7.0, np.nan):
        padded, targets = x.copy(), y.copy()
        for i, length in enumerate(lengths):
            padded[i, length:] = targets[i, length:] = value
        targets[0, 0] = value
        options = dict(x=padded, y=targets, lengths=lengths, sample_weight=weight)
        hooks = [StopsAt()] * (value == 7)
        try:
            history = fit(network(), tmp_path, *hooks, **options)
        except Stop:
            assert (tmp_path / "backup.safetensors").exists()
    assert len(history["loss"]) == 6


@pytest.mark.parametrize(
    "options, name",
    (
        (dict(n=3), "n"),
        (dict(rungs=[3]), "rungs"),
        (dict(seeds=[9, 8, 7, 6]), "seed"),
        (dict(grid={"learning_rate": [0.1, 0.2]}), "optimizer"),
        (dict(draws={"learning_rate": [0.01]}), "settings"),
        (dict(batch_size=3), "batch_size"),
        (dict(x=changed(x)), "x and y"),
    ),
)
def test_other_restarts_are_refused(options, name, tmp_path):
    def run(backup, x=x, **options):
        given = dict(n=4, epochs=6, optimizer=bf.Adam(0.01), verbose=0) | options
        return bf.restarts(network(), x, y, backup=backup, **given)

    with pytest.raises(Stop):
        run(Stops(tmp_path, 2, before=False))
    with pytest.raises(bf.ConfigError, match=rf"^{name}: expected .* as in the backup"):
        run(BackupAndRestore(tmp_path), **options)
    with pytest.raises(bf.ConfigError, match=r"^backup: expected callbacks.BackupAndRestore\(...\) or None"):
        run(str(tmp_path))
    assert len(run(BackupAndRestore(tmp_path))[1]["loss"]) == 4


def test_wrong_arguments(tmp_path):
    for wrong in (
        lambda: BackupAndRestore(5),
        lambda: BackupAndRestore(tmp_path, every=0),
        lambda: BackupAndRestore(tmp_path, seconds=-1),
        lambda: BackupAndRestore(tmp_path, delete_checkpoint="no"),
    ):
        with pytest.raises(bf.ConfigError, match=r"BackupAndRestore\(\w+\): expected"):
            wrong()
    (tmp_path / "file").write_text("mine")
    net = network()
    with pytest.raises(OSError):
        fit(net, tmp_path / "file")
    assert (net.params == network().params).all() and (tmp_path / "file").read_text() == "mine"


# ---- callbacks


class Counts(bf.Callback):
    kept = ("losses", "best", "growing", "nested")

    def on_train_begin(self, logs):
        self.losses, self.best = [], None
        self.growing, self.nested = np.zeros(0), {"sum": [np.zeros(2)]}

    def on_epoch_end(self, epoch, logs):
        self.losses.append(logs["loss"])
        self.growing = np.append(self.growing, epoch)
        self.nested["sum"][0] += self.growing[-2:].sum()
        if self.best is None or logs["loss"] <= min(self.losses):
            self.best = self.model.params.copy()


class Pair(bf.Callback):
    """With the pair of methods in place of `kept`."""

    def on_train_begin(self, logs):
        self.random = np.random.default_rng(0)

    def on_epoch_end(self, epoch, logs):
        self.model.params[0] += self.random.normal()

    def state_dict(self):
        return self.random.bit_generator.state

    def load_state_dict(self, state):
        self.random.bit_generator.state = state


def test_callbacks_of_ones_own(tmp_path):
    runs = []
    for stops in ((), (2, 4)):
        for at in (*stops, 99):
            net, counts = network(), Counts()
            try:
                fit(net, tmp_path, counts, Pair(), StopsAt(at))
            except Stop:
                continue
        arrays = (net.params, counts.best, counts.growing, *counts.nested["sum"])
        runs.append(([array.tobytes() for array in arrays], counts.losses))
    assert runs[0] == runs[1] and len(runs[0][1]) == 6


def test_callbacks_with_a_state_are_compared(tmp_path):
    with pytest.raises(Stop):
        fit(network(), tmp_path, Counts(), bf.callbacks.EarlyStopping(patience=3), StopsAt())
    for others in ([], [Counts()], [bf.callbacks.EarlyStopping(patience=3), Counts()]):
        with pytest.raises(bf.ConfigError, match=r"^callbacks: expected Counts, EarlyStopping\(.*patience=3"):
            fit(network(), tmp_path, *others)
    with pytest.raises(bf.ConfigError, match=r"got Counts, EarlyStopping\(.*patience=4"):
        fit(network(), tmp_path, Counts(), bf.callbacks.EarlyStopping(patience=4))
    assert len(fit(network(), tmp_path, Counts(), bf.callbacks.EarlyStopping(patience=3))["loss"]) == 6


@pytest.mark.parametrize(
    "value",
    (
        {1, 2},
        np.array(["text"]),
        object(),
        1j,
        {1: 2},
        np.zeros(2, "g"),
        np.longdouble(1),
        {"array number": 0},
    ),
    ids=("set", "texts", "object", "complex", "keys", "long", "long scalar", "reserved"),
)
def test_a_state_that_is_no_data_is_refused(value, tmp_path):
    class Wrong(bf.Callback):
        def state_dict(self):
            return {"value": value}

    with pytest.raises(bf.ConfigError, match=r"^state_dict: expected numbers, texts.*got .*Convert it"):
        fit(network(), tmp_path, Wrong())


def test_values_keep_their_bits(tmp_path):
    values = {
        "floats": [0.1, -0.0, float("inf"), float("nan"), 5e-324],
        "integers": [2**64 - 1, -(2**70)],
        "texts": ["é", "", "\ud83d"],
        "none": None,
        "nested": [{"a": [True, {}]}, []],
        "arrays": [np.array(1.5), np.zeros((0, 3)), np.arange(6, dtype=">i2").reshape(2, 3).T],
        "scalar": np.float32(0.1),
    }
    bf.storage.save_state(tmp_path / "a", {"é": "1"}, values)
    identity, found = bf.persistence.load_state(str(tmp_path / "a"))
    assert identity == {"é": "1"} and found["scalar"] == np.float32(0.1)
    for expected, array in zip(values["arrays"], found["arrays"], strict=True):
        assert array.shape == expected.shape and (array == expected).all() and array.flags.writeable
    for name in ("floats", "integers", "texts", "none", "nested"):
        assert repr(found[name]) == repr(values[name])


def test_a_log_that_is_too_short_is_refused(tmp_path):
    log = bf.callbacks.CSVLogger(tmp_path / "log.csv")
    with pytest.raises(Stop):
        fit(network(), tmp_path / "backup", log, StopsAt())
    text = (tmp_path / "log.csv").read_text()
    (tmp_path / "log.csv").write_text(text[:30])
    net = network()
    with pytest.raises(bf.ConfigError, match=r"^CSVLogger\(filename\): expected .* bytes .* got 30"):
        fit(net, tmp_path / "backup", log)
    assert (net.params == network().params).all() and (tmp_path / "log.csv").read_text() == text[:30]
    (tmp_path / "log.csv").write_text(text + "4,half a ro")  # a row that was not finished
    fit(net, tmp_path / "backup", log)
    lines = (tmp_path / "log.csv").read_text().splitlines()
    assert [line.split(",")[0] for line in lines] == ["epoch", "1", "2", "3", "4", "5", "6"]


def test_a_log_goes_on_after_older_rows(tmp_path):
    """append=True: rows of earlier fits stay too."""
    log = bf.callbacks.CSVLogger(tmp_path / "log.csv", append=True)
    network().fit(x, y, epochs=2, callbacks=log, verbose=0)
    with pytest.raises(Stop):
        fit(network(), tmp_path / "backup", log, StopsAt())
    fit(network(), tmp_path / "backup", log)
    lines = (tmp_path / "log.csv").read_text().splitlines()
    assert [line.split(",")[0] for line in lines] == ["epoch", "1", "2", "1", "2", "3", "4", "5", "6"]


def test_tensorboard_hides_what_comes_again(tmp_path):
    """The event files of the second run begin with the step from which older events do not count."""
    pytest.importorskip("tensorboardX")
    from tensorboardX.proto.event_pb2 import Event, SessionLog

    for at in (3, 99):
        hooks = [
            BackupAndRestore(tmp_path / "backup", every=2),
            bf.callbacks.TensorBoard(tmp_path / "logs"),
            StopsAt(at),
        ]
        with contextlib.suppress(Stop):
            network().fit(x, y, epochs=5, callbacks=hooks, verbose=0)
    purged, steps = [], set()
    for path in (tmp_path / "logs" / "train").iterdir():
        data = path.read_bytes()
        while data:
            size = int.from_bytes(data[:8], "little")
            event = Event.FromString(data[12 : 12 + size])
            purged += [event.step] * (event.session_log.status == SessionLog.START)
            steps |= {event.step for value in event.summary.value if value.tag == "epoch_loss"}
            data = data[16 + size :]
    assert purged == [3] and steps == {1, 2, 3, 4, 5}


# ---- files


def test_the_same_network_again(tmp_path):
    """In one process, after Ctrl-C, also where states go on from fit to fit."""
    options = dict(stateful=True, bptt=bf.TruncatedBPTT(3))
    whole, net = network(), network()
    whole.fit(x, y, epochs=6, optimizer=bf.Adam(0.01), batch_size=5, verbose=0, **options)

    class Interrupts(bf.Callback):
        def on_epoch_begin(self, epoch, logs):
            if epoch == 4:
                os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        fit(net, tmp_path, Interrupts(), **options)
    fit(net, tmp_path, **options)
    assert (net.params == whole.params).all() and (net.carried_states == whole.carried_states).all()


def test_the_backup_goes_with_the_end_of_the_fit(tmp_path):
    fit(network(), tmp_path / "alone")
    assert not (tmp_path / "alone").exists()
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared" / "mine").write_text("text")
    fit(network(), tmp_path / "shared")
    assert os.listdir(tmp_path / "shared") == ["mine"]


@pytest.mark.parametrize(
    "patience", (None, 1, bf.Stopping(target_loss=1e9)), ids=("all", "patience", "target")
)
def test_a_kept_backup_makes_the_same_fit_take_no_epoch(patience, tmp_path):
    class Counter(bf.Callback):
        epochs = 0

        def on_epoch_begin(self, epoch, logs):
            self.epochs += 1

        def on_train_end(self, logs):
            self.logs = logs

    results = []
    for _ in range(2):
        net, counter = network(), Counter()
        hooks = [BackupAndRestore(tmp_path, delete_checkpoint=False), counter]
        history = fit(net, tmp_path, callbacks=hooks, patience=patience, optimizer=bf.SGD(0.5))
        results.append(
            (net.params.tobytes(), dict(history), history.stopped, history.best_epoch, counter.logs)
        )
    assert results[0] == results[1] and counter.epochs == 0


def test_a_callback_that_stopped_the_fit_stops_it_again(tmp_path):
    stopped = []
    for _ in range(2):
        stop = bf.callbacks.EarlyStopping(patience=2, min_delta=9.0, restore_best_weights=True)
        backup = BackupAndRestore(tmp_path, delete_checkpoint=False)
        history = fit(network(), tmp_path, callbacks=[backup, stop])
        stopped.append((history.stopped, history["loss"], stop.best_epoch, stop.stopped_epoch))
    assert stopped[0] == stopped[1] and stopped[0][0] == "callback" and stopped[0][2:] == (0, 2)


def test_when_backups_are_made(tmp_path):
    def epochs(**options):
        made, real = [], bf.callbacks.save_state
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(
                bf.callbacks,
                "save_state",
                lambda path, given, state: (made.append(state["epoch"]), real(path, given, state)),
            )
            fit(network(), tmp_path, callbacks=BackupAndRestore(tmp_path, **options))
        return made

    assert epochs() == [1, 2, 3, 4, 5, 6] and epochs(every=4) == [4] and epochs(seconds=1e6) == []


def test_the_time_before_the_stop_counts(tmp_path, monkeypatch):
    now = 0.0
    monkeypatch.setattr(stopping.time, "perf_counter", lambda: now)

    class Takes(bf.Callback):
        """20 seconds for an epoch, on a clock of ours."""

        def on_epoch_begin(self, epoch, logs):
            nonlocal now
            now += 20

    options = dict(patience=bf.Stopping(max_seconds=50), epochs=50)
    with pytest.raises(Stop):
        fit(network(), tmp_path, Takes(), StopsAt(2), **options)
    history = fit(network(), tmp_path, Takes(), **options)
    assert history.stopped == "max_seconds" and len(history["loss"]) == 3


def test_damage_is_found(stopped_fit):
    path = stopped_fit / "backup.safetensors"
    whole = path.read_bytes()
    random = np.random.default_rng(0)
    net = network()
    for at in random.integers(len(whole), size=40):
        broken = bytearray(whole)
        broken[at] ^= 1 << random.integers(8)
        path.write_bytes(broken)
        with pytest.raises(bf.CorruptFileError):
            fit(net, stopped_fit)
    for size in (0, 7, 100, len(whole) - 1):
        path.write_bytes(whole[:size])
        with pytest.raises(bf.CorruptFileError):
            fit(net, stopped_fit)
    net.save(path)
    with pytest.raises(bf.CorruptFileError, match="expected a backup of the format"):
        fit(net, stopped_fit)
    assert (net.params == network().params).all()
    path.write_bytes(whole)
    with pytest.raises(bf.CorruptFileError, match="expected a model file"):
        bf.load(path)
    assert len(fit(net, stopped_fit)["loss"]) == 6


@pytest.mark.parametrize(
    "change",
    (
        lambda state: state.pop("epoch"),
        lambda state: state.update(params=np.zeros(3, np.float32)),
        lambda state: state.update(params=[1, 2]),
        lambda state: state["runner"].update(optimizer_state=np.zeros(1)),
        lambda state: state.update(history=None),
        lambda state: state.update(callbacks=[{}]),
    ),
)
def test_a_state_of_another_form_is_named(change, stopped_fit):
    path = stopped_fit / "backup.safetensors"
    identity, state = bf.persistence.load_state(str(path))
    change(state)
    bf.storage.save_state(path, identity, state)
    net = network()
    with pytest.raises(bf.CorruptFileError, match="expected a backup that this version and these callbacks"):
        fit(net, stopped_fit)
    assert (net.params == network().params).all()


KILLED = """
import os, signal, sys
import numpy as np
import bptt_fast as bf
real, calls = getattr(os, sys.argv[2]), []

def kill(*arguments):
    calls.append(arguments)
    if len(calls) == int(sys.argv[3]):
        os.kill(os.getpid(), signal.SIGKILL)
    return real(*arguments)

setattr(os, sys.argv[2], kill)
x = np.linspace(0, 1, 40).reshape(4, 10, 1)
net = bf.Network(1, 3, 1, seed=0)
net.fit(x, x[:, 0], epochs=5, callbacks=bf.callbacks.BackupAndRestore(sys.argv[1]), verbose=0)
print(net.params.tobytes().hex())
"""


@pytest.mark.slow
@pytest.mark.parametrize("moment", ("fsync", "replace"))
def test_a_killed_backup_leaves_the_one_before(moment, tmp_path, python):
    whole = python("-c", KILLED, tmp_path / "whole", "fsync", -1).stdout
    folder = tmp_path / "parts"
    for calls in (2, 1, 1):
        found = python("-c", KILLED, folder, moment, calls)
        assert found.returncode == -signal.SIGKILL, found.stderr
        assert bf.persistence.load_state(str(folder / "backup.safetensors"))[1]["epoch"] >= 1
        assert len(os.listdir(folder)) <= 2  # the temporary files of earlier kills are gone
    found = python("-c", KILLED, folder, moment, -1)
    assert found.stdout == whole and not folder.exists(), found.stderr
