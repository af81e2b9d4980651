"""The command line, from the outside: what it prints, what it writes, how it ends."""
# ruff: noqa: E501

import csv
import importlib.util
import io
import json
import os
import re
import signal
import socket
import stat
import time
from importlib import resources
from pathlib import Path

import numpy as np
import pytest
from support.signals import interrupt, work_of_children

import bptt_fast as bf
from bptt_fast import metrics
from bptt_fast.cli import main

TRAIN = ("--inputs", "a,b", "--targets", "y", "--unfold", "3", "--hidden", "6", "--seed", "0")


@pytest.fixture
def cli(python):
    return lambda *arguments, **options: python("-m", "bptt_fast", *arguments, **options)


@pytest.fixture
def table(tmp_path):
    """A file of 60 rows with the columns t, a, b, y."""
    t = np.arange(60)
    rows = np.column_stack([t, np.sin(t / 3), np.cos(t / 5), np.sin((t + 1) / 3)])
    path = tmp_path / "series.csv"
    with open(path, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["t", "a", "b", "y"])
        writer.writerows(rows.tolist())
    return path


def one_line(found, code, *fragments):
    """An end with `code`, and one clear line on standard error without a traceback."""
    assert found.returncode == code, found.stdout + found.stderr
    assert "Traceback" not in found.stderr
    last = found.stderr.strip().splitlines()[-1]
    for fragment in fragments:
        assert fragment in last, f"{fragment!r} missing in: {found.stderr}"
    return found.stderr.strip().splitlines()


def test_train_predict_info(cli, table, tmp_path):
    model = tmp_path / "m.safetensors"
    found = cli("train", table, *TRAIN, "--epochs", "20", "--cell", "elman", "--out", model)
    assert found.returncode == 0, found.stderr
    assert "loss" in found.stdout
    net = bf.load(model)
    assert (net.input_size, net.hidden_size, net.output_size, net.cell) == (2, 6, 1, "elman")
    again = tmp_path / "again.safetensors"
    assert cli("train", table, *TRAIN, "--epochs", "20", "--out", again).returncode == 0
    assert bf.load(again).params.tobytes() == net.params.tobytes()
    found = cli("predict", model, table)
    assert found.returncode == 0, found.stderr
    rows = list(csv.reader(found.stdout.splitlines()))
    numbers = [float(row[-1]) for row in rows[1:]]
    assert len(numbers) == 60 and np.isfinite(numbers).all()
    found = cli("info")
    assert found.returncode == 0 and bf.__version__ in found.stdout and "threads" in found.stdout


@pytest.mark.slow
@pytest.mark.parametrize("cell", ("gru", "lstm", "mlp"))
def test_other_cells(cell, cli, table, tmp_path):
    more = ("--f", "4") if cell == "mlp" else ()
    found = cli("train", table, *TRAIN, "--epochs", "2", "--cell", cell, *more, "--out", tmp_path / "m")
    assert found.returncode == 0, found.stderr
    assert bf.load(tmp_path / "m").cell == cell


def test_it_learns(cli, table, tmp_path):
    found = cli("train", table, *TRAIN, "--epochs", "300", "--out", tmp_path / "m")
    assert found.returncode == 0, found.stderr
    losses = [float(n) for n in re.findall(r"loss[ =:]+([0-9.e+-]+)", found.stdout + found.stderr)]
    assert losses[-1] < 0.5 * losses[0]


def test_an_unknown_option_is_answered_by_the_one_that_is_meant(capsys):
    for given, meant in (
        ("--lr", "--learning-rate"),
        ("--max-epochs=3", "--epochs"),
        ("--seeds", "--seed"),
    ):
        with pytest.raises(SystemExit) as caught:
            main(["train", "f.csv", *TRAIN, given, "1"])
        assert caught.value.code == 2
        shown = capsys.readouterr().err
        assert "bptt-fast train FILE" in shown and f"unrecognized arguments: {given}" in shown
        assert shown.endswith(f"Did you mean {meant}?\n")
    with pytest.raises(SystemExit):
        main(["info", "--zzz"])
    assert capsys.readouterr().err.endswith("unrecognized arguments: --zzz\n")


@pytest.mark.slow
@pytest.mark.parametrize("arguments", (
    (), ("trane",), ("train",), ("predict", "m"), ("train", "f.csv", "--targets", "y"), ("train", "f.csv", *TRAIN, "--cell", "elmo"),
    ("train", "f.csv", *TRAIN, "--epochs", "many"), ("info", "--colour"),
))  # fmt: skip
def test_usage(arguments, cli):
    found = cli(*arguments)
    assert found.returncode == 2 and "usage" in found.stderr.lower() and "Traceback" not in found.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments",
    (("--help",), ("train", "--help"), ("predict", "--help"), ("demo", "--help"), ("--version",)),
)
def test_help(arguments, cli):
    found = cli(*arguments)
    assert found.returncode == 0 and found.stdout
    assert "--help" in found.stdout or bf.__version__ in found.stdout


def changed(table, old, new):
    text = table.read_text()
    assert old in text
    table.write_text(text.replace(old, new, 1))


def test_a_missing_file(cli, tmp_path):
    one_line(cli("train", "missing.csv", *TRAIN), 1, "missing.csv")
    one_line(cli("predict", "missing.safetensors", "missing.csv"), 1, "missing.safetensors")


def test_a_missing_column(cli, table):
    changed(table, "t,a,b,y", "t,a,c,y")
    one_line(cli("train", table, *TRAIN), 1, str(table), "'b'", "t", "a", "c", "y")


def test_a_cell_that_is_no_number(cli, table):
    """Named by file, line and column."""
    lines = table.read_text().splitlines()
    for wrong in ("n/a", "", "1,5"):
        row = lines[10].split(",")
        row[2] = f'"{wrong}"'
        table.write_text("\n".join([*lines[:10], ",".join(row), *lines[11:]]))
        one_line(cli("train", table, *TRAIN), 1, str(table), "line 11", "b", wrong)


@pytest.mark.slow
@pytest.mark.parametrize("content, fragment", (
    ("", "empty"), ("t,a,b,y\n", ""), ("t,a,b,y\n1,2,3\n", "line 2"), ("t,a,b,y\n1,2,3,4\n", ""), ("t,a,a,b,y\n" + "1,2,3,4,5\n" * 20, "a"),
), ids=("nothing", "no rows", "a short row", "too few rows", "a column twice"))  # fmt: skip
def test_wrong_tables(content, fragment, cli, table):
    table.write_text(content)
    one_line(cli("train", table, *TRAIN), 1, str(table), fragment)


def test_a_nan_in_the_table(cli, table):
    lines = table.read_text().splitlines()
    row = lines[10].split(",")
    row[1] = "nan"
    table.write_text("\n".join([*lines[:10], ",".join(row), *lines[11:]]))
    one_line(cli("train", table, *TRAIN), 1, "line 11", "nan")


@pytest.mark.slow
def test_damaged_models(cli, table, tmp_path):
    model = tmp_path / "m.safetensors"
    assert cli("train", table, *TRAIN, "--epochs", "1", "--out", model).returncode == 0
    content = bytearray(model.read_bytes())
    content[-5] ^= 1
    for damaged in (content, content[:50], b""):
        model.write_bytes(damaged)
        one_line(cli("predict", model, table), 1, str(model))


def test_a_model_of_other_columns(cli, table, tmp_path):
    """The model knows the names of its columns."""
    model = tmp_path / "m.safetensors"
    assert cli("train", table, *TRAIN, "--epochs", "1", "--out", model).returncode == 0
    changed(table, "t,a,b,y", "t,a,c,y")
    one_line(cli("predict", model, table), 1, str(table), "'b'")


def test_a_folder_that_is_not_there(cli, table, tmp_path):
    """Said before the training, not after."""
    one_line(cli("train", table, *TRAIN, "--epochs", "100000000", "--out", tmp_path / "no" / "m"), 1, "no")


READ = {
    "the table": "series.csv", "a link to it": "link.csv", "the same by another name": "hard.csv",
    "another way to it": "../{}/series.csv", "the arguments": "run.toml",
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("out", READ.values(), ids=READ)
def test_what_is_read_is_not_written(out, cli, table, tmp_path):
    """Said before the training; nothing is lost."""
    (tmp_path / "link.csv").symlink_to("series.csv")
    (tmp_path / "hard.csv").hardlink_to(table)
    (tmp_path / "run.toml").write_text("quiet = true\n")
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    out = out.format(tmp_path.name)
    for file in ("series.csv", "link.csv") if out != "run.toml" else ("series.csv",):
        arguments = "train", file, *TRAIN, "--epochs", "100000000", "--config", "run.toml", "--out", out
        one_line(cli(*arguments), 1, "--out: expected another file than those that are read", out)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.slow
def test_predictions_do_not_replace_what_they_are_made_from(cli, table, tmp_path):
    assert cli("train", table, *TRAIN, "--epochs", "1", "--out", tmp_path / "m").returncode == 0
    (tmp_path / "run.toml").write_text("")
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    for out in ("m", table, "run.toml"):
        found = cli("predict", "m", table, "--config", "run.toml", "--out", out)
        one_line(found, 1, "--out: expected another file")
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.slow
def test_out_is_no_file(cli, table, tmp_path):
    """Devices and pipes are written to, and remain; other things are an error before the training."""
    (tmp_path / "null").symlink_to("/dev/null")
    for out in ("/dev/null", "null"):
        found = cli("train", table, *TRAIN, "--epochs", "1", "--quiet", "--out", out)
        assert (found.returncode, found.stdout, found.stderr) == (0, "", "")
        assert stat.S_ISCHR(os.stat("/dev/null").st_mode) and (tmp_path / "null").is_symlink()
    assert cli("train", table, *TRAIN, "--epochs", "1", "--out", tmp_path / "m").returncode == 0
    printed = cli("predict", "m", table).stdout
    assert cli("predict", "m", table, "--out", "/dev/stdout").stdout == printed
    assert cli("predict", "m", table, "--out", "/dev/null").stdout == ""
    with socket.socket(socket.AF_UNIX) as end:
        end.bind(str(tmp_path / "socket"))
        for out in ("socket", ".", "", "new/"):
            found = cli("train", table, *TRAIN, "--epochs", "100000000", "--out", out)
            one_line(found, 1, "--out: expected a file")


ASCII = {
    "PYTHONIOENCODING": {"PYTHONIOENCODING": "ascii"},
    "strict": {"PYTHONIOENCODING": "ascii:strict"},
    "locale": {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
}


@pytest.mark.slow
@pytest.mark.parametrize("env", ASCII.values(), ids=ASCII)
def test_other_letters_on_an_ascii_terminal(env, cli, table, tmp_path):
    """Tables are in UTF-8, as in files; all else shows code points."""
    table.write_text(table.read_text().replace("t,a,b,y", "t,température,b,負荷"), encoding="utf-8")
    named = "--inputs", "température,b", "--targets", "負荷", "--epochs", "2", "--out", "modèle"
    for more in ((), ("--json",), ("--quiet",)):
        found = cli("train", table, *named, *more, env=env, encoding="utf-8")
        assert found.returncode == 0 and "Traceback" not in found.stderr, found.stderr
    assert bf.load(tmp_path / "modèle").input_names == ("température", "b")
    found = cli("predict", "modèle", table, env=env, encoding="utf-8")
    assert found.returncode == 0 and found.stderr == ""
    assert found.stdout.splitlines()[0] == "row,負荷" and len(found.stdout.splitlines()) == 61
    for more in (("--out", "p"), ("--json",)):
        assert cli("predict", "modèle", table, *more, env=env, encoding="utf-8").returncode == 0
    assert (tmp_path / "p").read_text(encoding="utf-8") == found.stdout
    found = cli("info", "modèle", env=env, encoding="utf-8")
    assert (
        found.returncode == 0
        and "inputs temp\\xe9rature, b; targets \\u8ca0\\u8377, 1 row(s) ahead" in found.stdout
    )
    assert cli("info", "modèle", "--json", env=env).returncode == 0
    one_line(cli("predict", "modèle", "none", env=env), 1, "none: No such file")
    table.write_text("é\n1\n", encoding="utf-8")
    one_line(cli("predict", "modèle", table, env=env), 1, "temp\\xe9rature")


def test_divergence(cli, table):
    one_line(cli("train", table, *TRAIN, "--learning-rate", "1e30"), 1, "epoch")


@pytest.mark.slow
@pytest.mark.parametrize("out", (True, False), ids=("with-out", "without-out"))
def test_interrupt(out, cli, table, tmp_path):
    """130, and the model so far is saved when --out was given."""
    model = tmp_path / "m.safetensors"
    more = ("--epochs", "100000000", "--quiet", *(("--out", model) if out else ()))
    child = cli("train", table, *TRAIN, *more, popen=True)
    err, took = interrupt(child, after=1.0)
    assert child.returncode == 130 and "Traceback" not in err
    assert took < 1.5
    assert model.exists() == out
    assert not out or bf.load(model).hidden_size == 6


def test_a_closed_pipe_is_no_traceback(cli, table, tmp_path):
    model = tmp_path / "m.safetensors"
    assert cli("train", table, *TRAIN, "--epochs", "1", "--out", model).returncode == 0
    child = cli("predict", model, table, popen=True)
    child.stdout.close()
    with child.stderr as errors:
        assert "Traceback" not in errors.read()
    child.wait(20)


def baselines(first, last):
    """Average relative variance of persistence and of AR(12) by least squares on 1700-1920, from the numbers themselves."""
    with resources.files("bptt_fast").joinpath("datasets/sunspots.csv").open() as file:
        rows = [row.split(",") for row in file if row[0].isdigit()]
    year, spots = np.array([int(row[0]) for row in rows]), np.array([float(row[1]) for row in rows])
    variance = spots[year <= 1979].var()
    past = np.column_stack(
        [np.ones(len(spots) - 12), *(spots[12 - i : len(spots) - i] for i in range(1, 13))]
    )
    train, test = year[12:] <= 1920, (year[12:] >= first) & (year[12:] <= last)
    weights = np.linalg.lstsq(past[train], spots[12:][train], rcond=None)[0]
    return [np.mean((spots[12:] - guess)[test] ** 2) / variance for guess in (past[:, 1], past @ weights)]


@pytest.mark.slow
def test_demo(cli, tmp_path):
    """The table is right, the network beats both baselines on 1921-1955, the model can be read, the picture is one."""
    before = work_of_children()
    found = cli("demo")
    assert found.returncode == 0, found.stderr
    assert work_of_children() - before < 20
    table = {
        m[1].strip(): [float(m[2]), float(m[3])]
        for m in re.finditer(r"^ +(\S.*?) +([\d.]+) +([\d.]+)$", found.stdout, re.M)
    }
    for column, period in enumerate(((1921, 1955), (1956, 1979))):
        persistence, ar = baselines(*period)
        assert table["persistence"][column] == pytest.approx(persistence, abs=6e-4)
        assert table["AR(12), least squares"][column] == pytest.approx(ar, abs=6e-4)
    seeds = [row[0] for name, row in table.items() if "seed" in name]
    assert len(seeds) == 5 and table["network, median"][0] == np.median(seeds)
    assert np.median(seeds) < min(baselines(1921, 1955))
    assert "patterns per second" in found.stdout and "the same to the bit" in found.stdout
    (model,) = tmp_path.glob("*.safetensors")
    assert bf.load(model).cell == "elman"
    if importlib.util.find_spec("matplotlib"):
        (picture,) = tmp_path.glob("*.png")
        assert picture.read_bytes().startswith(b"\x89PNG") and picture.stat().st_size > 5000


@pytest.mark.slow
def test_a_killed_training_goes_on(cli, python, table, tmp_path):
    words = ["train", table, *TRAIN, "--epochs", "300", "--quiet"]
    backup = ["--backup", tmp_path / "backup"]
    assert cli(*words, "--out", "whole").returncode == 0
    child = python("-m", "bptt_fast", *words, *backup, "--out", "parts", popen=True)
    while child.poll() is None and not (tmp_path / "backup" / "backup.safetensors").exists():
        time.sleep(0.001)
    child.kill()
    child.communicate()
    assert child.returncode == -signal.SIGKILL and not (tmp_path / "parts").exists()
    one_line(cli(*words, *backup, "--hidden", "5"), 1, "hidden_size: expected 6 as in the backup", "got 5")
    words.remove("--quiet")
    said = cli(*words, *backup, "--out", "parts").stdout
    before = int(re.search(r"Trained 300 of 300 epochs, (\d+) of them before this run, in", said)[1])
    assert 0 < before < 300 and f"; {(300 - before) * 57} patterns, " in said
    assert (bf.load(tmp_path / "parts").params == bf.load(tmp_path / "whole").params).all()
    assert not (tmp_path / "backup").exists()
    one_line(cli("train", table, *TRAIN[:-2], *backup), 2, "--backup: expected --seed as well")


SETTINGS = {
    "lists": "a = " + "[" * 3000,
    "digits": "epochs = " + "1" * 5000,
    "output": 'out = "a\\u0000b"',
    "data": 'data = "a\\u0000b"',
}


@pytest.mark.slow
@pytest.mark.parametrize("text", SETTINGS.values(), ids=SETTINGS)
def test_settings_that_no_file_should_have(text, cli, tmp_path):
    """Lists in lists, numbers without end, names with null characters: an error message."""
    (tmp_path / "run.toml").write_text(text + "\n")
    (tmp_path / "data.csv").write_text("a\n" + "1\n2\n" * 20)
    data = () if text.startswith("data") else ("data.csv",)
    how = ("--inputs", "a", "--targets", "a", *(() if text.startswith("epochs") else ("--epochs", "1")))
    found = cli("train", *data, *how, "--config", "run.toml")
    assert found.returncode in (1, 2) and "Traceback" not in found.stderr and "bptt-fast" in found.stderr


# ---- in this process


@pytest.fixture
def call(tmp_path, monkeypatch, capsys):
    """call(*arguments): what `main` prints, in a folder with load.csv; `fails` is the code that is expected."""
    monkeypatch.chdir(tmp_path)
    write_loads("load.csv")

    def call(*arguments, fails=0):
        try:
            code = main([str(argument) for argument in arguments])
        except SystemExit as end:
            code = end.code
        out, err = capsys.readouterr()
        assert code == fails, err
        assert fails == 0 or "Traceback" not in err
        return err if fails else out

    call.stderr = lambda: capsys.readouterr().err
    return call


HOURS = 24 * 10
T = np.arange(HOURS)
LOADS = {
    "load": 500 + 90 * np.sin(2 * np.pi * T / 24) + 0.3 * T,
    "temp": 12.25 + 5 * np.cos(2 * np.pi * T / 24 + 0.3),
}
NAMES = ("--inputs", "load,temp", "--targets", "load")


def write_loads(path, sep=",", decimal=".", hour="2024-02-{:02}T{:02}:00", n=HOURS):
    with open(path, "w") as file:
        file.write(sep.join(["hour", *LOADS]) + "\n")
        for t in range(n):
            numbers = [f"{column[t]:.2f}".replace(".", decimal) for column in LOADS.values()]
            file.write(sep.join([hour.format(20 + t // 24, t % 24), *numbers]) + "\n")


def columns(text, sep=","):
    names, *rows = csv.reader(io.StringIO(text), delimiter=sep)
    return dict(zip(names, zip(*rows, strict=True), strict=True))


def numbers(text):
    return {name: np.array(cells, float) for name, cells in columns(text).items() if name != "hour"}


def trained(call, *words, out="m"):
    call(
        "train",
        "load.csv",
        *NAMES,
        "--hidden",
        "4",
        "--seed",
        "1",
        "--epochs",
        "3",
        "--quiet",
        "--out",
        out,
        *words,
    )
    return bf.load(out)


STOPPINGS = {
    "the best weights, early": ((), bf.Stopping(patience=20)),
    "early": (("--no-best",), bf.Stopping(patience=20, restore_best=False)),
    "soon": (("--patience", "4"), bf.Stopping(patience=4)),
    "the best weights of all epochs": (("--patience", "0"), bf.Stopping(patience=60)),
    "neither": (("--patience", "0", "--no-best"), None),
}


@pytest.mark.parametrize("words, patience", STOPPINGS.values(), ids=STOPPINGS)
def test_validation_keeps_the_best_weights(words, patience, call):
    how = (
        *NAMES,
        "--hidden",
        "4",
        "--seed",
        "1",
        "--validation-split",
        "0.4",
        "--epochs",
        "60",
        "--learning-rate",
        "0.2",
    )
    found = json.loads(call("train", "load.csv", *how, *words, "--json", "--out", "m"))
    values = np.column_stack([np.round(column, 2) for column in LOADS.values()])
    net = bf.Network(2, 4, 1, readout="last", seed=1)
    history = net.fit(
        values, values[:, :1], bptt=bf.SlidingBPTT(10), epochs=60, optimizer=bf.SGD(0.2), scaling="standard",
        validation_split=0.4, patience=patience, verbose=0,
    )  # fmt: skip
    assert found["history"]["val_loss"] == history["val_loss"] and found["best_epoch"] == history.best_epoch
    np.testing.assert_array_equal(bf.load("m").params, net.params)
    best = 1 + int(np.argmin(history["val_loss"]))
    assert 1 < best < len(history["epoch"]), "the last epoch is the best: the test proves nothing"
    said = call("train", "load.csv", *how, *words)
    kept = (
        f"of epoch {best}, which has the lowest validation loss"
        if history.best_epoch
        else "of the last epoch"
    )
    assert f"The weights are those {kept}" in said
    reason = (
        f"no lower validation loss for {patience.patience} epochs"
        if history.stopped == "patience"
        else "all of them"
    )
    assert f"Trained {len(history['epoch'])} of 60 epochs" in said and reason in said


def test_errors_are_in_the_units_of_the_data(call):
    words = (
        "--inputs",
        "load,temp",
        "--targets",
        "temp,load",
        "--lead",
        "2",
        "--loss",
        "gaussian",
        "--clip-norm",
        "1",
    )
    how = (
        *words,
        "--hidden",
        "4",
        "--seed",
        "1",
        "--epochs",
        "3",
        "--validation-split",
        "0.25",
        "--out",
        "m",
    )
    found = json.loads(call("train", "load.csv", *how, "--json"))["metrics"]
    predicted = numbers(call("predict", "m", "load.csv"))
    evaluated = json.loads(call("evaluate", "m", "load.csv", "--json"))
    assert evaluated["predictions"] == HOURS - 2
    printed = call("train", "load.csv", *how).split("rows 181 to 240:\n")[1].splitlines()
    assert printed[0].split() == [
        "target",
        "MAE",
        "RMSE",
        "R2",
    ] and f"{HOURS * 3 // 4 + 1} to {HOURS}" in call("train", "load.csv", *how)
    for line, name in zip(printed[1:], ("temp", "load"), strict=False):
        actual = np.round(LOADS[name], 2)
        for begin, errors in ((HOURS * 3 // 4, found[name]), (2, evaluated["metrics"][name])):
            pair = actual[begin:], predicted[name][begin - 2 : HOURS - 2]
            expected = [f(*pair) for f in (metrics.mae, metrics.rmse, metrics.r2)]
            np.testing.assert_allclose(list(errors.values()), expected, rtol=1e-9)
        assert line.split() == [name, *(f"{value:.6g}" for value in found[name].values())]
    assert errors["mae"] > 1


@pytest.mark.parametrize("loss", ("mse", "gaussian"))
@pytest.mark.parametrize("lead", (1, 3))
def test_forecasts_are_predictions_that_are_fed_back(lead, loss, call):
    """Each is what `predict` says of a file that has the earlier forecasts as its last rows."""
    trained(call, "--lead", lead, "--loss", loss, "--clip-norm", "1", "--time", "hour")
    lines = Path("load.csv").read_text().splitlines()
    known, n = lines[: HOURS - 20], 7
    Path("known.csv").write_text("\n".join(known))
    Path("future.csv").write_text("\n".join([lines[0], *lines[HOURS - 20 :]]))
    text = call("forecast", "m", "known.csv", "--steps", n, "--future", "future.csv")
    got = numbers(text)["load"]
    assert columns(text)["hour"] == tuple(line.split(",")[0] for line in lines[HOURS - 20 :][:n])
    for step in range(n):
        Path("longer.csv").write_text("\n".join(known))
        last = columns(call("predict", "m", "longer.csv"))["load"][step - lead if step < lead else -1]
        assert got[step] == pytest.approx(float(last), rel=1e-6)
        if step >= lead - 1:
            hour, _, temp = lines[HOURS - 20 + step - lead + 1].split(",")
            known.append(f"{hour},{float(got[step - lead + 1])!r},{temp}")
    assert np.ptp(got) > 1
    first = call("forecast", "m", "load.csv", "--steps", lead, "--no-time")
    assert columns(first)["row"] == tuple(str(HOURS + 1 + i) for i in range(lead))
    message = call("forecast", "m", "load.csv", "--steps", lead + 1, fails=1)
    assert "--future: expected 1 rows of temp" in message


def test_quantiles_of_forecasts(call):
    call("train", "load.csv", "--inputs", "load", "--targets", "load", "--loss", "gaussian", "--clip-norm", "1", "--epochs", "3",
         "--seed", "1", "--quiet", "--out", "m")  # fmt: skip
    words = ("forecast", "m", "load.csv", "--steps", "6", "--quantiles", "0.1,0.9")
    text = call(*words)
    assert call(*words) == text != call(*words, "--seed", "1")
    got = numbers(text)
    assert (got["load 0.1"] < got["load"]).all() and (got["load"] < got["load 0.9"]).all()
    assert (got["load"] == numbers(call(*words[:5]))["load"]).all()
    # of the first row without a path in between: those of the outputs
    first = numbers(call("predict", "m", "load.csv", "--quantiles", "0.1,0.9"))
    spread = first["load 0.9"][-1] - first["load 0.1"][-1]
    assert abs(got["load 0.9"][0] - first["load 0.9"][-1]) < 0.15 * spread
    direct = numbers(call(*words[:4], "1", *words[5:]))
    np.testing.assert_array_equal(direct["load 0.9"], first["load 0.9"][-1:])


def test_times_are_in_the_outputs(call):
    net = trained(call, "--time", "hour", "--lead", "2")
    assert net.input_names == ("load", "temp")
    assert json.loads(call("info", "m", "--json"))["model"]["time"] == "hour"
    predicted = columns(call("predict", "m", "load.csv"))
    assert predicted["hour"][0] == "2024-02-20T02:00" and predicted["hour"][-2:] == (
        "2024-03-01T00:00",
        "2024-03-01T01:00",
    )
    assert list(columns(call("predict", "m", "load.csv", "--no-time"))) == ["row", "load"]
    write_loads("load.csv", hour="{:02}.02.2024 {:02}:30")
    document = json.loads(call("predict", "m", "load.csv", "--json"))
    assert document["times"][-1] == "01.03.2024 01:30"
    text = Path("load.csv").read_text()
    for old, new, code, message in (
        ("hour", "when", 1, "column 'hour': expected one of when, load, temp, got no such column"),
        (
            "20.02.2024 01:30",
            "20.02.2024 00:30",
            1,
            "line 3, column 'hour': expected a later time than in the row before",
        ),
        (
            "20.02.2024 01:30",
            "soon",
            1,
            "line 3, column 'hour': expected a time as '20.02.2024 00:30', got 'soon'",
        ),
        ("20.02.2024 01:30", "", 1, "line 3, column 'hour': expected a time"),
    ):
        Path("load.csv").write_text(text.replace(old, new, 1))
        assert message in call("predict", "m", "load.csv", fails=code)
    Path("load.csv").write_text(text)
    assert "--time: expected a column that is no input" in call(
        "train", "load.csv", *NAMES, "--time", "temp", fails=2
    )
    assert "Pass --time 'hour'" in call(
        "train", "load.csv", "--inputs", "hour,load", "--targets", "load", fails=1
    )


def test_a_future_has_the_dates_of_its_past(call):
    """Its dates alone might be 1 March and 3 January; a file of options may have a byte order mark."""
    trained(call, "--time", "hour")
    write_loads("load.csv", hour="02/{:02}/2024 {:02}:30")
    Path("run.toml").write_bytes(b"\xef\xbb\xbfsteps = 25\nfuture = 'future.csv'\n")
    for n in (24, 1):
        lines = [f"03/01/2024 {t:02}:30,{LOADS['temp'][t]}" for t in range(n)]
        Path("future.csv").write_text("\n".join(["hour,temp", *lines]))
        found = call("forecast", "m", "load.csv", "--config", "run.toml", "--steps", n + 1)
        assert len(columns(found)["hour"]) == n + 1
    assert columns(found)["hour"] == ("03/01/2024 00:30", "03/01/2024 01:30")


def test_a_time_named_row_and_columns_of_one_name(call):
    text = Path("load.csv").read_text()
    Path("load.csv").write_text(text.replace("hour", "row", 1).replace("temp", "load std", 1))
    words = (
        "train",
        "load.csv",
        "--inputs",
        "load",
        "--loss",
        "gaussian",
        "--clip-norm",
        "1",
        "--epochs",
        "1",
    )
    call(*words, "--quiet", "--targets", "load,load std", "--time", "row", "--out", "m")
    document = json.loads(call("predict", "m", "load.csv", "--json"))
    assert document["times"][0] == "2024-02-20T01:00" and list(document["predictions"]) == [
        "load",
        "load std",
    ]
    assert "got two columns 'load std'" in call("predict", "m", "load.csv", "--std", fails=1)
    fine = call("predict", "m", "load.csv", "--quantiles", "0.9999998,0.9999999")
    assert len(columns(fine)) == 7


def test_quantiles_that_need_paths_need_a_distribution(call):
    words = ("train", "load.csv", "--inputs", "load", "--targets", "load", "--loss", "mae", "--epochs", "1")
    loss = '{"name": "pinball", "quantiles": [0.1, 0.5]}'
    call(*words[:-3], loss, *words[-2:], "--quiet", "--out", "m")
    ahead = ("forecast", "m", "load.csv", "--quantiles", "0.1", "--steps")
    assert list(columns(call(*ahead, "1"))) == ["row", "load", "load 0.1"]
    assert "--quantiles: expected a model with a distribution as --loss" in call(*ahead, "2", fails=1)


def test_gaps_in_time_are_reported(call, capsys):
    trained(call, "--time", "hour")
    lines = Path("load.csv").read_text().splitlines()
    Path("gap.csv").write_text("\n".join([*lines[:30], *lines[40:]]))
    assert main(["predict", "m", "gap.csv", "--out", "p.csv"]) == 0
    assert "gap.csv, column 'hour': 1 time(s) at an unusual distance" in capsys.readouterr().err


def test_a_german_file_is_the_english_one(call, capsys):
    english = trained(call, "--time", "hour")
    expected = numbers(call("predict", "m", "load.csv"))["load"]
    write_loads("load.csv", ";", ",")
    assert main(["predict", "m", "load.csv"]) == 0
    out, err = capsys.readouterr()
    assert err == "bptt-fast: load.csv: found cells separated by semicolons, and decimal commas\n"
    got = columns(out, ";")
    assert [float(cell.replace(",", ".")) for cell in got["load"]] == expected.tolist()
    np.testing.assert_array_equal(trained(call, "--time", "hour").params, english.params)
    capsys.readouterr()
    for words in (("--sep", ";", "--decimal", ","), ("--sep", ";")):
        assert main(["evaluate", "m", "load.csv", *words]) == 0
        assert (capsys.readouterr().err == "") == (len(words) == 4)
    assert "which character separates" in call("evaluate", "m", "load.csv", "--sep", ",", fails=1).lower()
    assert "Pass --decimal ','" in call("evaluate", "m", "load.csv", "--decimal", ".", fails=1)
    for sep in ("", "ab", "1", '"', "."):
        assert "--sep: expected one character" in call("evaluate", "m", "load.csv", f"--sep={sep}", fails=2)
    write_loads("load.csv", "\t")
    assert (
        numbers(call("predict", "m", "load.csv", "--sep", "tab").replace("\t", ","))["load"].tolist()
        == expected.tolist()
    )


@pytest.mark.slow
def test_standard_streams(python, tmp_path):
    """Data are alone on standard output; a pipe of two commands is one with a file in between."""
    write_loads(tmp_path / "load.csv")
    words = ("-m", "bptt_fast", "train", "-", *NAMES, "--seed", "1", "--epochs", "2")
    with open(tmp_path / "load.csv") as file:
        child = python(*words, "--log", "-", "--out", "m", stdin=file)
    assert child.returncode == 0 and list(columns(child.stdout)) == ["epoch", "loss", "seconds"], child.stderr
    assert "Trained 2 of 2 epochs" in child.stderr
    with open(tmp_path / "load.csv") as file:
        child = python(*words, "--out", "-", stdin=file, text=False)
    (tmp_path / "again").write_bytes(child.stdout)
    assert (bf.load(tmp_path / "again").params == bf.load(tmp_path / "m").params).all()
    assert b"Saved as" in child.stderr
    with open(tmp_path / "m") as file:
        child = python(
            "-m", "bptt_fast", "forecast", "-", "load.csv", "--steps", "1", "--out", "-", stdin=file
        )
    assert child.returncode == 0 and len(child.stdout.splitlines()) == 2 and child.stderr == ""


@pytest.mark.slow
def test_pictures(call):
    pytest.importorskip("matplotlib")
    call("train", "load.csv", "--inputs", "load,temp", "--targets", "load,temp", "--seed", "1", "--epochs", "2", "--quiet",
         "--validation-split", "0.2", "--out", "m", "--time", "hour", "--log", "log.csv")  # fmt: skip
    call("plot", "m", "load.csv", "--steps", "24", "--last", "50", "--out", "p.svg")
    svg = Path("p.svg").read_text()
    assert all(
        f"<!-- {text} -->" in svg for text in ("load", "temp", "hour", "forecast", "actual", "predicted")
    )
    call("plot", "m", "load.csv", "--no-time", "--out", "p.png")
    assert Path("p.png").read_bytes().startswith(b"\x89PNG")
    document = call(
        "train", "load.csv", *NAMES, "--seed", "1", "--epochs", "2", "--validation-split", "0.2", "--json"
    )
    Path("run.json").write_text(document)
    for history in ("log.csv", "run.json"):
        call("plot", "--history", history, "--out", "h.svg")
        svg = Path("h.svg").read_text()
        assert all(f"<!-- {text} -->" in svg for text in ("epoch", "loss", "training", "validation"))
    for history in ("load.csv", "m", "/dev/null"):
        assert f"{history}: expected the output of" in call(
            "plot", "--history", history, "--out", "h.svg", fails=1
        )


WRONG = {
    "no steps": (("forecast", "m", "load.csv"), 2, "required: --steps"),
    "no steps of the future": (("plot", "m", "load.csv", "--future", "load.csv", "--out", "p.png"), 2, "required: --steps"),
    "a future without the column": (("forecast", "m", "load.csv", "--steps", "3", "--future", "short.csv"), 1, "column 'temp'"),
    "a past as the future": (
        ("forecast", "m", "load.csv", "--steps", "3", "--future", "load.csv"), 1, "the next at 2024-03-01T00:00, got 2024-02-20T00:00"
    ),
    "quantiles of no distribution": (
        ("forecast", "m", "load.csv", "--steps", "1", "--quantiles", "0.5"), 1, "expected a loss with a distribution"
    ),
    "a column twice": (
        ("train", "load.csv", "--inputs", "load,load", "--targets", "load"),
        2,
        "--inputs: expected different names, got 'load' twice",
    ),
    "no row": (("forecast", "m", "none.csv", "--steps", "1"), 1, "none.csv: expected at least one row"),
    "too few rows": (("evaluate", "m", "one.csv"), 1, "one.csv: expected at least 2 rows of numbers, got 1"),
    "one time": (
        ("forecast", "m", "one.csv", "--steps", "1"), 1, "at least two times to continue them, got one. --no-time"
    ),
    "a target as the time": (("predict", "m", "load.csv", "--time", "load"), 1, "--time: expected a column that is no input"),
    "another picture": (("plot", "m", "load.csv", "--out", "p.jpg"), 2, "expected a file named *.png or *.svg"),
    "no picture": (("plot", "m", "load.csv"), 2, "required: --out"),
    "a history and a model": (("plot", "m", "--history", "m", "--out", "p.png"), 2, "--history: not allowed with MODEL"),
    "what is read": (("plot", "m", "load.csv", "--out", "load.csv"), 1, "--out: expected another file"),
    "itself": (("forecast", "m", "load.csv", "--steps", "1", "--out", "m"), 1, "--out: expected another file"),
    "two inputs": (("evaluate", "-", "-"), 2, "/dev/stdin: expected one of model, file"),
    "two outputs": (("predict", "m", "load.csv", "--out", "-", "--json"), 2, "/dev/stdout: expected one of out, json"),
    "one file for two": (("train", "load.csv", *NAMES, "--out", "x", "--log", "x"), 2, "--log: expected another file"),
    "no folder of the log": (("train", "load.csv", *NAMES, "--log", "no/x"), 1, "--log: expected a file in a folder"),
    "time constants of other units": (
        ("train", "load.csv", *NAMES, "--cell", "ctrnn", "--tau", "20,30"), 2, "tau: expected a number, or one for each of"
    ),
    "a mask of another shape": (
        ("train", "load.csv", *NAMES, "--rules", '{"head.0.bias": {"mask": [true, true, true]}}'), 2, "mask: expected (1,)"
    ),
    "a time without a name": (("train", "load.csv", *NAMES, "--time", " "), 2, "--time: expected the name of a column"),
}  # fmt: skip


@pytest.mark.parametrize("words, code, message", WRONG.values(), ids=WRONG)
def test_wrong_words(words, code, message, call, tmp_path):
    """Named errors, and every file stays as it is."""
    lines = Path("load.csv").read_text().splitlines()
    for name, some in (("none.csv", lines[:1]), ("one.csv", lines[:2]), ("short.csv", ["hour,load", "1,2"])):
        Path(name).write_text("\n".join(some))
    trained(call, "--epochs", "1", "--time", "hour")
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    assert message in call(*words, fails=code)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_what_needs_no_future_refuses_one(call):
    call(
        "train", "load.csv", "--inputs", "load", "--targets", "load", "--epochs", "1", "--quiet", "--out", "m"
    )
    words = ("forecast", "m", "load.csv", "--steps", "3")
    assert "--future: expected none" in call(*words, "--future", "load.csv", fails=1)
    call("train", "load.csv", *NAMES, "--lead", "0", "--epochs", "1", "--quiet", "--out", "m")
    assert "Train with --lead 1" in call(*words, "--future", "load.csv", fails=1)


@pytest.mark.parametrize("how", ((), ("--truncate", "6")), ids=("sliding", "truncated"))
def test_classes(how, call):
    """The network is one that Python trains on class indices; predictions have the probabilities."""
    classes = np.digitize(LOADS["temp"], (10, 14))
    lines = Path("load.csv").read_text().splitlines()
    rows = [f"{line},{value}" for line, value in zip(lines[1:], classes, strict=True)]
    Path("load.csv").write_text("\n".join([f"{lines[0]},warmth", *rows]))
    words = (
        "train",
        "load.csv",
        "--inputs",
        "load,temp",
        "--targets",
        "warmth",
        "--loss",
        "cross_entropy",
        *how,
    )
    words += ("--classes", "3", "--seed", "1", "--epochs", "9", "--learning-rate", "0.02", "--out", "m")
    said = call(*words, "--validation-split", "0.25")
    accuracy = float(
        said.split("Accuracy of 60 predictions of the validation rows 181 to 240:")[1].split()[3]
    )
    document = json.loads(call("evaluate", "m", "load.csv", "--json"))["metrics"]
    found = numbers(call("predict", "m", "load.csv"))
    assert list(found) == ["row", "warmth", "warmth 0", "warmth 1", "warmth 2"]
    guess = found["warmth"][:-1]
    assert document == {"warmth": {"accuracy": np.mean(guess == classes[1:])}}
    assert accuracy == pytest.approx(np.mean(guess[179:] == classes[180:]), abs=1e-5) and accuracy > 0.8
    outputs = bf.load("m").predict(np.round(np.column_stack(list(LOADS.values())), 2), readout="every")
    shares = np.exp(outputs) / np.exp(outputs).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(np.column_stack([found[f"warmth {k}"] for k in range(3)]), shares, rtol=1e-5)
    assert (found["warmth"] == shares.argmax(axis=1)).all()
    first = numbers(call("forecast", "m", "load.csv", "--steps", "1"))
    assert first["warmth"] == found["warmth"][-1:]
    Path("load.csv").write_text(Path("load.csv").read_text().replace(",2\n", ",3\n", 1))
    assert "column 'warmth': expected a class from 0 to 2, got 3" in call(*words, fails=1)


def test_warnings_are_lines_on_standard_error(tmp_path, capsys):
    rows = [f"{i},{1000 + i}" for i in range(60)]
    (tmp_path / "far.csv").write_text("a,b\n" + "\n".join(rows))
    words = [
        "train",
        str(tmp_path / "far.csv"),
        "--inputs",
        "a",
        "--targets",
        "b",
        "--epochs",
        "1",
        "--no-scaling",
    ]
    assert main(words) == 0
    lines = [line for line in capsys.readouterr().err.splitlines() if "not scaled" in line]
    assert len(lines) == 1 and lines[0].startswith(
        "bptt-fast: fit: the loss of the first epoch is above 1000"
    )
    assert main([*words, "--quiet"]) == 0
    assert capsys.readouterr() == ("", "")
