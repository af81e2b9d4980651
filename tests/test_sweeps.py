"""Sweeps and cross-validation: folds, equality with single fits, the folder of results."""

import os
import signal
import sys
import time

import numpy as np
import pandas
import pytest
from sklearn.model_selection import GroupKFold, KFold, ShuffleSplit, StratifiedKFold
from support.signals import interrupted

import bptt_fast as bf

RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(24, 7, 2)).astype(np.float32)
Y = X.sum(axis=2, keepdims=True)
FOLDS = np.arange(24) % 4
NET = bf.Network(2, 3, 1, cell="gru", readout="every", seed=0)
WEIGHT = RANDOM.uniform(0.5, 2, size=24)
LIST_X = [x[: 3 + i % 5] for i, x in enumerate(X)]
LIST_Y = [y[: 3 + i % 5] for i, y in enumerate(Y)]
FIT = {"epochs": 4, "batch_size": 8, "optimizer": bf.Adam(0.02)}
QUIET = {"verbose": 0, **FIT}


def part(values, rows):
    """Some sequences of an array or a list."""
    return [values[i] for i in rows] if isinstance(values, list) else values[rows]


def without_times(table):
    return {name: values for name, values in table.items() if name != "seconds"}


def same(a, b):
    """Whether two tables are equal to the bit, but for times; NaN equals NaN."""
    return repr(without_times(a)) == repr(without_times(b))


CASES = {
    "array": (X, Y, {}),
    "list": (LIST_X, LIST_Y, {}),
    "weights": (X, Y, {"sample_weight": WEIGHT}),
    "scaling": (X * 3 + 1, Y, {"scaling": "standard"}),
    "weights and scaling of a list": (LIST_X, LIST_Y, {"scaling": "standard", "sample_weight": WEIGHT}),
    "state": (X, Y, {"x0": np.array([0.1, -0.2, 0.3])}),
    "second order": (X, Y, {"optimizer": bf.LevenbergMarquardt(), "batch_size": None}),
    "truncated": (X, Y, {"bptt": bf.TruncatedBPTT(2, 4)}),
    "sliding": (X, Y, {"bptt": bf.SlidingBPTT(3), "optimizer": bf.SGD(0.01), "batch_size": None}),
    "own loss": (
        X,
        Y,
        {"loss": lambda y, target, weight: (((y - target) ** 2).mean(), 2 * (y - target) / y.size)},
    ),
    "patience": (X, Y, {"patience": 1, "optimizer": bf.Adam(0.5)}),
}


@pytest.mark.parametrize("case", CASES)
def test_a_fit_equals_a_single_fit(case):
    """Parameters and losses of training, validation and test, to the bit."""
    x, y, more = CASES[case]
    options = {**FIT, **more}
    net = bf.Network(**(NET.config() | {"readout": "last" if case == "sliding" else "every"}))
    table = bf.sweep(net, x, y, cv=FOLDS, inner=FOLDS, seeds=[3], keep=True, threads=2, verbose=0, **options)
    assert len(table["fold"]) == 12
    for row, kept in list(zip(table.rows(), table.networks, strict=True))[::5]:
        test, held_out = row["fold"] == FOLDS, row["inner"] == FOLDS
        train, held_out, test = map(np.flatnonzero, (~test & ~held_out, held_out, test))
        single = bf.Network(**(net.config() | {"seed": 3}))
        given = {"patience": options["epochs"]} | options
        validation = [part(x, held_out), part(y, held_out)]
        known = {name: options[name] for name in ("loss", "x0") if name in options}
        if "sample_weight" in options:
            given["sample_weight"] = options["sample_weight"][train]
            validation.append(options["sample_weight"][held_out])
            known["sample_weight"] = options["sample_weight"][test]
        history = single.fit(
            part(x, train), part(y, train), validation_data=tuple(validation), verbose=0, **given
        )
        assert np.array_equal(single.params, kept.params)
        at = history.best_epoch - 1
        assert (row["train_loss"], row["val_loss"]) == (history["loss"][at], history["val_loss"][at])
        assert row["best_epoch"] == history.best_epoch and row["epochs"] == len(history["loss"])
        assert row["test_loss"] == single.evaluate(part(x, test), part(y, test), readout="every", **known)


def test_validation_within_the_training_part():
    """A `validation_split` is that of the other folds; validation data are those of all fits."""
    train, test = np.flatnonzero(FOLDS != 1), np.flatnonzero(FOLDS == 1)
    for given in ({"validation_split": 0.25}, {"validation_data": (X[:5], Y[:5])}):
        table = bf.cross_validate(NET, X, Y, cv=FOLDS, keep=True, **given, **QUIET)
        single = bf.Network(**NET.config())
        history = single.fit(X[train], Y[train], patience=4, **given, **QUIET)
        assert np.array_equal(table.networks[1].params, single.params)
        assert table["val_loss"][1] == min(history["val_loss"])
        assert table["test_loss"][1] == single.evaluate(X[test], Y[test])


def test_values_are_shared():
    """No fit copies the values: all read the rows of the caller's array."""
    from bptt_fast import data

    shared = data.Shared(X)
    subset = data.Subset(shared, np.array([1, 5]), data.Shared(X))
    from bptt_fast.inference import training_data
    from bptt_fast.losses import get

    one = training_data(NET, subset, Y, get("mse"), True, None, None, None)
    assert np.shares_memory(one.values, X) and np.shares_memory(one.targets, Y)
    assert one.offset.tolist() == [7, 35] and len(one) == 2


def test_order_of_the_table_and_draws():
    net = bf.Network(2, 3, 1, cell="gru", readout="every", seed=4)
    table = bf.sweep(
        net,
        X,
        Y,
        cv=2,
        grid={"hidden_size": [1, 2], "learning_rate": [0.1]},
        seeds=[1, 0],
        **{**QUIET, "epochs": 1},
    )
    assert list(table)[:4] == ["fold", "seed", "hidden_size", "learning_rate"]
    assert table["fold"] == [0] * 4 + [1] * 4 and table["seed"] == [1, 0] * 4
    assert table["hidden_size"] == [1, 1, 2, 2] * 2
    first, second = (
        bf.sweep(net, X, Y, draws={"batch_size": [2, 4, 8]}, n=5, validation_split=0.25, **QUIET_OF_DRAWS)
        for _ in range(2)
    )
    assert same(first, second) and len(set(first["batch_size"])) > 1
    assert "fold" not in first and "test_loss" not in first and "val_loss" in first


QUIET_OF_DRAWS = {"verbose": 0, "epochs": 2}


def test_subjects_are_fitted_apart():
    subjects = np.where(np.arange(24) < 10, "ann", "bob")
    table = bf.sweep(NET, X, Y, subjects=subjects, cv=2, inner=3, **QUIET)
    assert table["subject"] == ["ann"] * 6 + ["bob"] * 6
    alone = bf.sweep(NET, X[:10], Y[:10], cv=2, inner=3, **QUIET)
    assert table["test_loss"][:6] == alone["test_loss"] and table["val_loss"][:6] == alone["val_loss"]


@pytest.mark.parametrize(
    "splitter", [KFold(3), KFold(3, shuffle=True, random_state=0), ShuffleSplit(2, random_state=1)]
)
def test_splitters(splitter):
    table = bf.cross_validate(NET, X, Y, cv=splitter, keep=True, **QUIET)
    for net, (train, test) in zip(table.networks, splitter.split(X), strict=True):
        single = bf.Network(**NET.config())
        single.fit(X[np.sort(train)], Y[np.sort(train)], **QUIET)
        assert np.array_equal(single.params, net.params)
        assert single.evaluate(X[np.sort(test)], Y[np.sort(test)]) in table["test_loss"]


def test_numbers_of_folds_are_those_of_kfold():
    pairs = list(KFold(5).split(X))
    assert same(bf.cross_validate(NET, X, Y, **QUIET), bf.cross_validate(NET, X, Y, cv=pairs, **QUIET))


def test_groups_stay_together():
    groups = [(i // 6, "a") for i in range(24)]  # several columns
    by_number = bf.cross_validate(NET, X, Y, cv=4, groups=groups, **QUIET)
    splitter = bf.cross_validate(NET, X, Y, cv=GroupKFold(4), groups=np.arange(24) // 6, **QUIET)
    assert sorted(by_number["test_loss"]) == sorted(splitter["test_loss"])
    with pytest.raises(bf.ConfigError, match="groups: expected each group on one side of fold 0 of cv"):
        bf.cross_validate(NET, X, Y, cv=FOLDS, groups=groups, **QUIET)
    with pytest.raises(bf.ConfigError, match="of inner in fold 0"):
        bf.sweep(NET, X, Y, cv=4, inner=KFold(2), groups=groups, **QUIET)


def test_stratified_folds():
    net = bf.Network(2, 3, 2, seed=0)
    classes = np.arange(24) % 2
    table = bf.cross_validate(net, X, classes, cv=StratifiedKFold(3), loss="cross_entropy", **QUIET)
    assert len(table["test_loss"]) == 3


BAD = {
    "too few numbers": ({"cv": FOLDS[:20]}, bf.ShapeError, r"cv: expected \(24,\)"),
    "no fold": ({"cv": np.where(FOLDS == 1, -1, FOLDS)}, bf.ConfigError, "cover all sequences"),
    "one fold": ({"cv": np.zeros(24, int)}, bf.ConfigError, "cv: expected at least two folds"),
    "real fold numbers": ({"cv": FOLDS * 1.0}, bf.ConfigError, "cv: expected a number of folds"),
    "pairs that do not cover": ({"cv": [(range(12), range(12, 20))]}, bf.ConfigError, "cover all 24"),
    "pairs that overlap": ({"cv": [(range(13), range(12, 24))]}, bf.ConfigError, "got 12 on both sides"),
    "twice": ({"cv": [([0, 0], range(1, 24))]}, bf.ConfigError, "got 0 twice for training"),
    "out of range": ({"cv": [([0], [24])]}, bf.ConfigError, "indices from 0 to 23"),
    "empty side": ({"cv": [([], [2])]}, bf.ConfigError, "cv: expected training indices"),
    "more folds than sequences": ({"cv": 25}, bf.ConfigError, "at most 24, the number of sequences"),
    "more folds than groups": ({"cv": 3, "groups": FOLDS // 2}, bf.ConfigError, "at most 2, the"),
    "a splitter that refuses": ({"cv": GroupKFold(3)}, bf.ConfigError, "cv: expected folds"),
    "bytes": ({"cv": b"five"}, bf.ConfigError, "cv: expected a number of folds"),
    "no sequences": ({"x": X[:0], "y": Y[:0], "cv": 2}, bf.ConfigError, "cv: expected at most 0"),
    "no folds": ({"cv": "five"}, bf.ConfigError, "cv: expected a number of folds"),
    "True": ({"cv": True}, bf.ConfigError, "cv: expected a number of folds"),
    "too few labels": ({"groups": [1, 2]}, bf.ShapeError, "groups: expected 24 labels"),
    "lists as labels": ({"groups": [[[1]]] * 24, "cv": 2}, bf.ConfigError, "groups: expected labels such as"),
    "missing labels": ({"groups": [np.nan] * 24, "cv": 2}, bf.ConfigError, "expected a label .* got nan"),
    "labels of pandas": ({"groups": [pandas.NA] * 24, "cv": 2}, bf.ConfigError, "labels such as .* got <NA>"),
    "no labels": ({"subjects": 3}, bf.ConfigError, "subjects: expected a label"),
    "real subjects": ({"subjects": WEIGHT}, bf.ConfigError, "subjects: expected names or integers"),
    "both validations": ({"inner": 2, "validation_data": (X, Y)}, bf.ConfigError, "expected None with inner"),
    "n without draws": ({"n": 3}, bf.ConfigError, "n: expected the number of draws"),
    "draws without n": ({"draws": {"batch_size": [1]}}, bf.ConfigError, "n: expected the number of draws"),
    "no setting": ({"grid": {"hiden_size": [1]}}, bf.ConfigError, "Did you mean 'hidden_size'"),
    "a wrong setting": ({"grid": {"hidden_size": [2, 0]}}, bf.ConfigError, "sweep, fit 1 with hidden_size=0"),
    "equal seeds": ({"seeds": [1, 1]}, bf.ConfigError, "seeds: expected at least one, and different"),
    "a number of seeds": ({"seeds": 3}, bf.ConfigError, r"seeds: expected a list .*range\(3\)"),
    "no seeds": ({"seeds": []}, bf.ConfigError, "seeds: expected at least one"),
    "callbacks": ({"callbacks": []}, bf.ConfigError, "callbacks: sweep does not accept it"),
    "lengths": ({"lengths": [3] * 24}, bf.ConfigError, "lengths: sweep does not accept it; pass a list"),
    "states": ({"x0": np.zeros((24, 3))}, bf.ConfigError, "x0: expected one state"),
    "keep": ({"keep": 1}, bf.ConfigError, "keep: expected True or False"),
    "folder": ({"folder": 3}, bf.ConfigError, "folder: expected a str"),
    "weights": ({"cv": FOLDS, "sample_weight": FOLDS == 0}, bf.ConfigError, "a weight above 0 in each part"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_bad_arguments(case, tmp_path):
    """A named error before any training, and nothing written."""
    arguments, error, text = BAD[case]
    with pytest.raises(error, match=text):
        bf.sweep(NET, **{"x": X, "y": Y, "folder": tmp_path / "results", **QUIET, **arguments})
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize(
    "x", [X[0], bf.Sequences.windows(X[0], 3), [X[0, 0]]], ids=["series", "windows", "rows"]
)
def test_several_sequences(x):
    with pytest.raises(bf.ShapeError, match="x: expected several sequences"):
        bf.sweep(NET, x, Y, **QUIET)


def test_a_diverged_fit_is_a_row():
    table = bf.cross_validate(NET, X, Y, cv=2, epochs=3, optimizer=bf.SGD(1e30), loss="mse", verbose=0)
    assert table["stopped"] == ["diverged"] * 2 and np.isnan(table["test_loss"]).all()


# ---- the folder


ARGUMENTS = {"cv": FOLDS, "inner": FOLDS, "grid": {"hidden_size": [1, 2]}, "seeds": [0, 5], **QUIET}


def test_a_cut_folder_continues(tmp_path):
    """Any part of the lines gives the same table, also with a line cut by a crash, and the networks."""
    whole = bf.sweep(NET, X, Y, folder=tmp_path / "a", keep=True, **ARGUMENTS)
    path = tmp_path / "a" / "fits.jsonl"
    lines = path.read_bytes().split(b"\n")
    assert len(lines) == 49
    path.write_bytes(b"\n".join([*lines[7:20], lines[30], lines[2][:25]]))
    os.unlink(tmp_path / "a" / "networks" / "000012.safetensors")
    again = bf.sweep(NET, X, Y, folder=tmp_path / "a", keep=True, **ARGUMENTS)
    assert same(whole, again)
    assert all(
        np.array_equal(a.params, b.params) for a, b in zip(whole.networks, again.networks, strict=True)
    )
    before = path.read_bytes()
    assert same(bf.sweep(NET, X, Y, folder=tmp_path / "a", keep=True, **ARGUMENTS), whole)
    assert path.read_bytes() == before  # no fit was repeated


OTHERS = {
    "data": ({}, X + 1),
    "epochs": ({"epochs": 5}, X),
    "folds": ({"inner": 3}, X),
    "subjects": ({"subjects": np.arange(24) // 12}, X),
    "grid": ({"grid": {"hidden_size": [1, 3]}}, X),
    "seeds": ({"seeds": [0, 6]}, X),
    "optimizer": ({"optimizer": bf.Adam(0.03)}, X),
    "keep": ({"keep": True}, X),
}


@pytest.mark.parametrize("case", OTHERS)
def test_the_folder_of_another_sweep_is_refused(case, tmp_path):
    arguments = {**ARGUMENTS, "epochs": 1}
    bf.sweep(NET, X, Y, folder=tmp_path, **arguments)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    more, x = OTHERS[case]
    with pytest.raises(bf.ConfigError, match="as in the sweep of"):
        bf.sweep(NET, x, Y, folder=tmp_path, **{**arguments, **more})
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_damaged_folders(tmp_path):
    arguments = {**ARGUMENTS, "epochs": 1}
    bf.sweep(NET, X, Y, folder=tmp_path, **arguments)
    fits, sweep = tmp_path / "fits.jsonl", tmp_path / "sweep.json"
    lines = fits.read_bytes()
    edits = [(b'"fit": 3,', b'"fit": 999,'), (b'"fit": 3,', b'"fit": 4,'), (b'"epochs": 1', b'"epochs": "1"')]
    edited = [lines.replace(*edit) for edit in edits]
    assert lines not in edited
    for damage in (b"{}\n", b"[1]\n", b"no json\n", *edited):
        fits.write_bytes(damage)
        with pytest.raises(bf.CorruptFileError, match=r"fits\.jsonl: expected the results of a fit in line"):
            bf.sweep(NET, X, Y, folder=tmp_path, **arguments)
        assert fits.read_bytes() == damage
    text = sweep.read_text()
    for damage in ("", "[]", "{}", '{"format": "bptt_fast 1 sweep"}'):
        sweep.write_text(damage)
        with pytest.raises(bf.CorruptFileError, match=r"sweep\.json"):
            bf.sweep(NET, X, Y, folder=tmp_path, **arguments)
    sweep.unlink()
    with pytest.raises(bf.ConfigError, match="folder: expected a new one"):
        bf.sweep(NET, X, Y, folder=tmp_path, **arguments)
    sweep.write_text(text)
    fits.write_bytes(lines)
    assert len(bf.sweep(NET, X, Y, folder=tmp_path, **arguments)["fold"]) == 48


SCRIPT = """
import numpy as np, bptt_fast as bf, sys
x = np.random.default_rng(0).normal(size=(24, 7, 2))
net = bf.Network(2, 3, 1, seed=0)
table = bf.sweep(net, x, x[:, 0, :1], cv=4, epochs=int(sys.argv[2]), seeds=range(5), threads=2, verbose=0,
                 folder=sys.argv[1])
print(repr({name: rows for name, rows in table.items() if name != "seconds"}))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL")
def test_a_killed_sweep_continues(tmp_path, python):
    def start(folder):
        return python("-c", SCRIPT, tmp_path / folder, "200", popen=True)

    killed, path = start("a"), tmp_path / "a" / "fits.jsonl"
    while killed.poll() is None and not (path.exists() and path.read_bytes().count(b"\n") >= 3):
        time.sleep(0.001)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    assert killed.stdout.read() == ""  # it had not ended
    table, whole = (start(folder).communicate()[0] for folder in ("a", "b"))
    assert table == whole and len(table) > 500


def test_ctrl_c_keeps_the_finished_fits(tmp_path):
    with pytest.raises(KeyboardInterrupt) as caught, interrupted(0.2):
        bf.sweep(NET, X, Y, cv=4, seeds=range(5), folder=tmp_path, **{**QUIET, "epochs": 10**5}, threads=2)
    done = len(caught.value.table["seed"])
    assert done < 20
    (note,) = caught.value.__notes__
    assert f"the {done} finished of 20 fits" in note and note.endswith("the same call continues.")


def test_the_number_of_threads_changes_nothing():
    assert same(*(bf.sweep(NET, X, Y, threads=threads, **ARGUMENTS) for threads in (1, 3)))


def test_progress(capfd):
    bf.cross_validate(NET, X, Y, cv=3, **{**QUIET, "verbose": 2})
    assert capfd.readouterr().out.count(" left\n") == 3
    bf.cross_validate(NET, X, Y, cv=3, **{**QUIET, "verbose": 1})
    assert "3/3" in capfd.readouterr().err


def test_tables():
    table = bf.cross_validate(NET, X, Y, cv=3, **QUIET)
    frame = table.to_pandas()
    assert frame.shape == (3, 8) and frame.fold.tolist() == [0, 1, 2]
    assert len(str(table).splitlines()) == 4 and table.rows()[1]["fold"] == 1


def test_processes_of_joblib(tmp_path):
    """The same table and networks as threads, the settings included."""
    joblib = pytest.importorskip("joblib")
    arguments = {**ARGUMENTS, "keep": True, "sample_weight": WEIGHT, "scaling": "standard"}
    here = bf.sweep(NET, X, Y, **arguments)
    with joblib.parallel_config(backend="loky", n_jobs=2):
        there = bf.sweep(NET, X, Y, folder=tmp_path, **arguments)
    assert same(here, there)
    assert all(np.array_equal(a.params, b.params) for a, b in zip(here.networks, there.networks, strict=True))
    assert (tmp_path / "fits.jsonl").read_bytes().count(b"\n") == 48
