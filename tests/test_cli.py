"""The command line, from the outside: what it prints, what it writes, how it ends."""
# ruff: noqa: E501

import csv
import importlib.util
import os
import re
import signal
import socket
import stat
import time
from importlib import resources

import numpy as np
import pytest
from support.signals import interrupt, work_of_children

import bptt_fast as bf

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
    assert cli(*words, *backup, "--out", "parts").returncode == 0
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
