"""The command line and its files: CSV and Parquet, a TOML file of arguments, JSON, scaling."""

import csv
import io
import json
from pathlib import Path

import numpy as np
import pytest

import bptt_fast as bf
from bptt_fast.cli import main
from bptt_fast.files import InputError, read_table
from bptt_fast.times import Times

T = np.arange(80)
COLUMNS = {"t": T, "a": 1e6 + np.sin(T / 3), "b": np.cos(T / 5), "y": 300 + 20 * np.sin((T + 1) / 3)}
TABLE = np.column_stack(list(COLUMNS.values()))
NAMED = ("--inputs", "a,b", "--targets", "y")
TRAIN = (*NAMED, "--unfold", "3", "--hidden", "6", "--seed", "0", "--epochs", "3")
X, Y = TABLE[:, 1:3], TABLE[:, 3:]


def write_csv(path, columns=COLUMNS):
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(zip(*(np.asarray(column).tolist() for column in columns.values()), strict=True))


def write_parquet(path, columns=COLUMNS):
    pyarrow = pytest.importorskip("pyarrow")
    pytest.importorskip("pyarrow.parquet").write_table(pyarrow.table(columns), path)


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """Everything happens in an empty folder with a table."""
    monkeypatch.chdir(tmp_path)
    write_csv("s.csv")
    return tmp_path


def run(capsys, *arguments):
    """(exit code, standard output, standard error) of a call."""
    try:
        code = main([str(argument) for argument in arguments])
    except SystemExit as end:
        code = end.code
    return code, *capsys.readouterr()


def failed(found, code, *fragments):
    assert found[0] == code and "Traceback" not in found[2], found
    for fragment in fragments:
        assert fragment in found[2].splitlines()[-1], f"{fragment!r} missing in: {found[2]}"


def rows(text):
    return [line.split(",") for line in text.splitlines()]


# ---- scaling, names


@pytest.mark.parametrize(
    "how", (("--unfold", "3"), ("--truncate", "4,8"), ("--checkpoint",)), ids=lambda how: how[0]
)
def test_it_is_fit_with_scaling(how, capsys):
    """The network in the file is one that Python trains on the raw columns; validation data do not count."""
    more = ("--epochs", "3", "--hidden", "6", "--seed", "0", "--validation-split", "0.25", "--quiet")
    assert run(capsys, "train", "s.csv", *NAMED, *how, *more, "--out", "m") == (0, "", "")
    net = bf.Network(2, 6, 1, readout="last" if how[0] == "--unfold" else "every", seed=0)
    if how[0] == "--unfold":
        net.fit(X, Y, bptt=bf.SlidingBPTT(3), epochs=3, validation_split=0.25, scaling="standard", verbose=0)
        seen = X[:60], Y[:60]
    else:
        bptt = bf.TruncatedBPTT(4, 8) if how[0] == "--truncate" else bf.CheckpointedBPTT()
        net.fit(X[:59], Y[1:60], bptt=bptt, epochs=3, scaling="standard", verbose=0)
        seen = X[:59], Y[1:60]
    made = bf.load("m")
    np.testing.assert_array_equal(made.params, net.params)
    assert made.scaling == net.scaling and made.input_names == ("a", "b") and made.output_names == ("y",)
    for found, part in zip((net.scaling.input_mean, net.scaling.output_mean), seen, strict=True):
        np.testing.assert_allclose(found, part.mean(axis=0), rtol=1e-12)
    code, out, _ = run(capsys, "predict", "m", "s.csv")
    table = rows(out)
    assert code == 0 and table[0] == ["row", "y"] and [row[0] for row in table[1:]] == [str(i + 2) for i in T]
    got = np.array([float(row[1]) for row in table[1:]])
    np.testing.assert_array_equal(got, made.predict(X, readout="every")[:, 0])
    assert abs(got - 300).max() < 60


def test_without_scaling(capsys):
    assert (
        run(capsys, "train", "s.csv", *TRAIN, "--no-scaling", "--learning-rate", "1e-9", "--out", "m")[0] == 0
    )
    assert bf.load("m").scaling is None


def test_a_model_from_python(capsys):
    """One that knows the names of its columns is enough; rows are numbered as they are."""
    net = bf.Network(2, 4, 1, seed=0)
    net.save("m")
    failed(run(capsys, "predict", "m", "s.csv"), 1, "m: expected a model", "column names")
    net.input_names, net.output_names = ("b", "a"), ("row",)
    net.save("m")
    code, out, _ = run(capsys, "predict", "m", "s.csv")
    table = rows(out)
    assert (
        code == 0 and table[0] == ["row", "row"] and [row[0] for row in table[1:]] == [str(i + 1) for i in T]
    )
    expected = net.predict(X[:, ::-1], readout="every")[:, 0]
    np.testing.assert_array_equal([float(row[1]) for row in table[1:]], expected)
    code, out, _ = run(capsys, "info", "m")
    assert code == 0 and "inputs b, a; targets row, 0 row(s) ahead\n" in out
    failed(run(capsys, "train", "s.csv", "--inputs", "a,a", "--targets", "y"), 2, "got 'a' twice")


@pytest.mark.parametrize("lead", (0, 1, 3))
def test_rows_of_a_model_from_python_are_ahead(lead, capsys):
    """As far as it was trained to look; a learner's too."""
    pandas = pytest.importorskip("pandas")
    x, y = pandas.DataFrame({"a": COLUMNS["a"], "b": COLUMNS["b"]}), pandas.DataFrame({"y": COLUMNS["y"]})
    net = bf.Network(2, 4, 1, seed=0)
    net.fit(x, y, bptt=bf.SlidingBPTT(5, lead), scaling="standard", verbose=0)
    net.save("m")
    net.learn_online(bf.SlidingBPTT(5, lead)).save("learner")
    for model in ("m", "learner"):
        code, out, _ = run(capsys, "predict", model, "s.csv")
        assert code == 0 and [row[0] for row in rows(out)[1:]] == [str(i + 1 + lead) for i in T]
        assert f"targets y, {lead} row(s) ahead, scaled\n" in run(capsys, "info", model)[1]
        assert json.loads(run(capsys, "info", model, "--json")[1])["model"]["lead"] == lead
    net.extra["train"] = "a note of my own"
    net.save("m")
    assert f"{lead} row(s) ahead" in run(capsys, "info", "m")[1]
    assert json.loads(run(capsys, "info", "m", "--json")[1])["model"]["lead"] == lead


@pytest.mark.parametrize(
    "how", (("--unfold", "3"), ("--truncate", "4"), ("--checkpoint",)), ids=lambda how: how[0]
)
@pytest.mark.parametrize("lead", (0, 2))
def test_the_lead_is_in_the_file(how, lead, capsys):
    given = (*NAMED, *how, "--lead", lead, "--epochs", "1", "--quiet", "--out", "m")
    assert run(capsys, "train", "s.csv", *given) == (0, "", "")
    assert bf.load("m").lead == lead
    assert json.loads(run(capsys, "predict", "m", "s.csv", "--json")[1])["first_row"] == lead + 1


# ---- what a CSV can get wrong, and what it may do


def read(content, *columns):
    with open("w.csv", "wb") as file:
        file.write(content if isinstance(content, bytes) else content.encode())
    return read_table("w.csv", columns).values.tolist()


RIGHT_CSVS = {
    "plain": ("day,load\n1,100.5\n2,101\n", [100.5, 101]),
    "no end of line": ("day,load\n1,100\n2,101", [100, 101]),
    "CRLF": ("day,load\r\n1,100\r\n2,101\r\n", [100, 101]),
    "CR": ("day,load\r1,100\r2,101\r", [100, 101]),
    "CRCRLF": ("day,load\r\r\n1,100\r\r\n2,101\r\r\n", [100, 101]),
    "a byte order mark": ("\ufeffload,day\n100,1\n", [100]),
    "a mark before a quote": ('\ufeff"load",day\n100,1\n', [100]),
    "quotes": ('"day","load"\n"1","100"\n', [100]),
    "spaces": (' day , load \n 1,\t100 \n 2, "101"\n', [100, 101]),
    "empty lines": ("\n\nday,load\n\n1,100\n  \n2,101\n\n\n", [100, 101]),
    "empty rows at the end": ("day,load\n1,100\n,\n , \n", [100]),
    "a column of its own": ("load\n100\n101\n\n\n", [100, 101]),
    "a separator at each end": ("day,load,\n1,100,\n2,101,\n", [100, 101]),
    "an index without a name": (",load\n0,100\n1,101\n", [100, 101]),
    "other columns hold anything": ("load,note\n1,\n2,nan\n3,1_0\n4,5\" pipe\n", [1, 2, 3, 4]),
    "commas in cells": ('load,note\n100,"a, b"\n101,"say ""hi"", you"\n', [100, 101]),
    "line ends in cells": ('a,note,load\n1,"two\nlines",100\n2,"three\r\n\r\nlines",101\n', [100, 101]),
    "line ends in the last cell": ('a,load,note\n1,100,"two\nlines"\n2,101,""\n', [100, 101]),
    "numbers": ("load\n+1\n-1.5e-3\n.5\n5.\n1E+2\n0012\n", [1, -1.5e-3, 0.5, 5, 100, 12]),
    "a comment": ("# measured, in kW\n#\n\n# load\nday,load\n1,100\n", [100]),
    "a quote in a comment": ('# the "load\n#, "x\nday,load\n1,100\n', [100]),
    "a header that begins with #": ("#day,load\n1,100\n2,101\n", [100, 101]),
    "the same after a comment": ("# from NumPy\n# load, day\n100,1\n", [100]),
    "the same without rows": ("#day,load\n", []),
    "a quoted #": ('"#day",load\n1,100\n', [100]),
    "a column named #": ("#,load\n1,100\n", [100]),
    "twice, but not asked for": ("day,day,load\n1,1,100\n", [100]),
    "other letters": ("température,load,負荷\n1,100,x\n", [100]),
    "semicolons": ("day;load\n1;100\n2;-1.5e2\n", [100, -150]),
    "semicolons and decimal commas": ("day;load\n1;100\n2;-1,5e2\n3;0,125\n", [100, -150, 0.125]),
    "decimal commas late": ("day;load\n" + "1;7\n" * 5000 + "1;0,5\n", [7.0] * 5000 + [0.5]),
    "decimal commas of four digits": ("day;load\n1;1,100\n2;1,1\n", [1.1, 1.1]),
    "tabs and decimal commas": ("day\tload\n1\t100,5\n", [100.5]),
    "tabs and commas in a name": ("a,b\tload\n1\t100\n", [100]),
    "semicolons after a comment": ("# from; load\n#day;load\n1;100,5\n", [100.5]),
    "a semicolon in a quoted cell": ('note;load\n"a;b";100,5\n', [100.5]),
}  # fmt: skip


@pytest.mark.parametrize("content, load", RIGHT_CSVS.values(), ids=RIGHT_CSVS)
def test_right_csvs(content, load):
    assert read(content, "load") == [[number] for number in load]


WRONG_CSVS = {
    "a decimal comma": ("day,load\n0,99\n1,100,5\n", 3, "expected 2 cells as in the header, got 3"),
    "a decimal comma alone": ("load\n99\n100,5\n", 3, "got 2"),
    "a quoted decimal comma": ('day,load\n1,"100,5"\n', 2, "'load': expected a finite number, got '100,5'"),
    "thousands with commas": ('day,load\n1,"1,100"\n', 2, "got '1,100'"),
    "thousands with spaces": ("day,load\n1,1 100\n", 2, "got '1 100'"),
    "thousands with narrow spaces": ("day,load\n1,1\u202f100\n", 2, "got '1\\u202f100'"),
    "thousands with points": ("day,load\n1,1.100.000\n", 2, "got '1.100.000'"),
    "thousands with apostrophes": ("day,load\n1,1'100\n", 2, "1'100"),
    "thousands with underscores": ("day,load\n1,1_000\n", 2, "got '1_000'"),
    "other digits": ("day,load\n1,\u0661\u0662\n", 2, "got"),
    "another minus": ("day,load\n1,\u22125\n", 2, "got '\u22125'"),
    "a percentage": ("day,load\n1,5%\n", 2, "got '5%'"),
    "hexadecimal": ("day,load\n1,0x10\n", 2, "got '0x10'"),
    "a gap": ("day,load\n1,\n2,101\n", 2, "got ''"),
    "nan": ("day,load\n1,nan\n", 2, "got 'nan'"),
    "inf": ("day,load\n1,-inf\n", 2, "got '-inf'"),
    "infinity": ("day,load\n1,Infinity\n", 2, "got 'Infinity'"),
    "too large": ("day,load\n1,1e999\n", 2, "got '1e999'"),
    "NA": ("day,load\n1,NA\n", 2, "got 'NA'"),
    "a short row": ("day,load\n1,100\n2\n", 3, "expected 2 cells as in the header, got 1"),
    "a separator at the ends of rows": ("day,load\n1,100,\n", 2, "got 3"),
    "a separator at the end of the header": ("day,load,\n1,100\n", 2, "expected 3 cells"),
    "empty cells between rows": ("day,load\n1,100\n,\n\n3,102\n", 3, "expected numbers, got empty cells"),
    "an empty line of one column": ("load\n100\n\n102\n", 3, "expected numbers, got empty cells"),
    "a comment among the rows": ("day,load\n1,100\n# a break\n2,101\n", 3, "got 1"),
    "a second header": ("day,load\n1,100\nday,load\n", 3, "got 'load'"),
    "an unclosed quote": ('note,load\na,100\n"b,101\nc,102\nd,103\n', 3, "each quote closed"),
    "an unclosed quote in the header": ('"note,load\na,100\nb,101\n', 1, "each quote closed"),
    "an unclosed quote in a number": ('note,load\na,"100\nb,101\n', 2, "each quote closed"),
    "two unclosed quotes": ('note,load\n"a,100\nb,101\n"c,102\n', 2, "each quote closed"),
    "two quotes with rows between": (
        'a,note,load\n0,x,99\n1,"x,100\n2,y,101\n3,z",102\n', 3, "extends to line 5"
    ),
    "two quotes in two rows": ('a,note,load\n1,"x,100\n2,y",101\n', 2, "extends to line 3"),
    "text after a quote": ('note,load\n"a"b,100\n', 2, "each quote closed"),
    "a quoted line end in a number": ('note,load\na,"1\n"\n', 2, "got '1\\n'"),
    "a long unclosed quote": ("note,load\n1,2\n\"" + "x,1\n" * 50000, 3, "each quote closed"),
    "NUL": ("note,load\nx,1\na\0,100\n", 3, "expected text in UTF-8, got the byte 0x00"),
    "Latin-1": ("note,load\nx,1\nb,2\n\xe9,100\n".encode("latin-1"), 4, "got the byte 0xe9"),
    "UTF-16": ("day,load\n1,100\n".encode("utf-16"), 1, "expected text in UTF-8"),
    "half a surrogate": (b"note,load\n\xed\xa0\x80,100\n", 2, "expected text in UTF-8"),
    "after many rows": ("day,load\n" + "1,100\n" * 9000 + "1,1_0\n", 9002, "got '1_0'"),
    "after a cell of lines": ('note,load\n"a\nb",1\nx,y\n', 4, "got 'y'"),
    "after comments": ("# a\n\n# b\nday,load\n1,x\n", 5, "got 'x'"),
    "after a header that begins with #": ("# a\n#day,load\n1,100\n2,x\n", 4, "got 'x'"),
    "nothing": ("", None, "expected a header line and rows of numbers, got an empty file"),
    "a mark only": ("\ufeff", None, "got an empty file"),
    "empty lines only": ("\n  \n,,\n", None, "got an empty file"),
    "comments only": ("# a\n# b\n", None, "got an empty file"),
    "twice": ("load,day, load\n1,2,3\n", None, "'load': expected one of load, day, load, got 2 columns"),
    "bars": ("day|load\n1|100\n", None, "got no such column.  Which character separates the cells?"),
    "thousands or a decimal comma": ("day;load\n1;1,100\n", None, "got '1,100', which may be thousands"),
    "thousands or a decimal point": ("day;load\n1;1.100\n2;7\n", None, "--decimal '.' if it is the decimal"),
    "thousands and a decimal comma": ("day;load\n1;1.100,5\n", None, "expected one decimal mark"),
    "two decimal marks": ("day;load\n1;100,5\n2;100.5\n", None, "got '100.5' and '100,5'"),
    "a decimal point after commas": ("day;load\n" + "1;0,5\n" * 9000 + "1;1.5\n", 9002, "got '1.5'"),
    "separators of two kinds": ("day,load,x;load;y\n1,2,3\n", None, "commas and semicolons.  Pass --sep"),
    "a short row after a semicolon": ("day;load\n1;100,5\n2\n", 3, "expected 2 cells"),
    "no header": ("1,100\n2,101\n", None, "Is the header line missing?"),
    "a comment and no header": ("# measured\n1,100\n", None, "Is the header line missing?"),
}  # fmt: skip


@pytest.mark.parametrize("content, line, words", WRONG_CSVS.values(), ids=WRONG_CSVS)
def test_wrong_csvs(content, line, words):
    """The error names the file, the line where the row begins, and what is wrong."""
    with pytest.raises(InputError) as caught:
        read(content, "load")
    where = "w.csv: " if line is None else f"w.csv, line {line}: "
    assert str(caught.value).replace(", column", ":", 1).startswith(where), caught.value
    assert words in str(caught.value)


@pytest.mark.parametrize("name, load", (("day", 1), ("#day", 1), ("load", 100)))
def test_names_in_a_header_that_begins_with_a_sharp(name, load):
    assert read("#day,load\n1,100\n", name) == [[load]]


@pytest.mark.parametrize("mark", ("#", "# ", "## "))
def test_names_with_commas_in_a_header_that_begins_with_a_sharp(mark):
    assert read(f'{mark}"day, h",load\n1,100\n', "day, h") == [[1]]


AWKWARD = {
    "a comma": ("load, kW", '"load, kW"'),
    "quotes": ('the "load", kW', '"the ""load"", kW"'),
    "a quote": ('5" pipe', '5" pipe'),
    "spaces": (" load", "load"),
    "a sharp": ("#load", "#load"),
    "a hyphen": ("-load", "-load"),
    "a line end": ("load\nkW", '"load\nkW"'),
    "other letters": ("負荷 é", "負荷 é"),
}


@pytest.mark.parametrize("kind", ("csv", "parquet"))
@pytest.mark.parametrize("name, typed", AWKWARD.values(), ids=AWKWARD)
def test_awkward_names_can_be_selected(name, typed, kind, capsys):
    """As they are quoted in a CSV; in a file of arguments in a list, as they are."""
    {"csv": write_csv, "parquet": write_parquet}[kind](f"n.{kind}", {"t, s": T, name: COLUMNS["a"], "y": T})
    given = ("--unfold", "3", "--epochs", "1", "--quiet")
    typing = f"--inputs=y,{typed}", f"--targets={typed}"
    assert run(capsys, "train", f"n.{kind}", *typing, *given, "--out", "m") == (0, "", "")
    assert bf.load("m").input_names == ("y", name.strip())
    code, out, _ = run(capsys, "predict", "m", f"n.{kind}")
    assert code == 0 and next(csv.reader(io.StringIO(out))) == ["row", name.strip()]
    listed = f"inputs = [{json.dumps(name)}]\ntargets = [{json.dumps('t, s')}]\n"
    with open("run.toml", "w", encoding="utf-8") as file:
        file.write(listed)
    assert run(capsys, "train", f"n.{kind}", "--config", "run.toml", *given, "--out", "m") == (0, "", "")
    assert (bf.load("m").input_names, bf.load("m").output_names) == ((name.strip(),), ("t, s",))


@pytest.mark.parametrize("typed", ('"a', "", "a,,b", ",", '"a"b', '""'))
def test_names_that_are_none(typed, capsys):
    failed(run(capsys, "train", "s.csv", f"--inputs={typed}", "--targets", "y"), 2, "expected column names")


# ---- times

CONTINUED = {
    "days": (("2024-02-27", "2024-02-28"), ["2024-02-29", "2024-03-01"]),
    "hours with an offset": (("2024-01-01T00:00:00+02:00", "2024-01-01T12:00:00+02:00"),
                             ["2024-01-02T00:00:00+02:00", "2024-01-02T12:00:00+02:00"]),
    "UTC": (("2024-01-01 00:00Z", "2024-01-01 12:00Z"), ["2024-01-02 00:00Z", "2024-01-02 12:00Z"]),
    "months": (("2024-01", "2024-02"), ["2024-03", "2024-04"]),
    "ends of months": (("2023-12-31", "2024-01-31", "2024-02-29"), ["2024-03-31", "2024-04-30"]),
    "quarters": (("2024-01-01", "2024-04-01", "2024-07-01"), ["2024-10-01", "2025-01-01"]),
    "days without separators": (("20240228", "20240229"), ["20240301", "20240302"]),
    "German": (("29.02.2024 22:00", "29.02.2024 23:00"), ["01.03.2024 00:00", "01.03.2024 01:00"]),
    "American": (("12/30/2024", "12/31/2024"), ["01/01/2025", "01/02/2025"]),
    "British": (("30/12/2024", "31/12/2024"), ["01/01/2025", "02/01/2025"]),
    "years": (("1999", "2000"), [2001, 2002]),
    "tenths": (("0.1", "0.2", "0.3"), [0.4, 0.5]),
    "exponents": (("1e-3", "1.5e-3", "2e-3"), [0.0025, 0.003]),
    "a gap": (("1", "2", "5", "6"), [7, 8]),
}  # fmt: skip


@pytest.mark.parametrize("cells, ahead", CONTINUED.values(), ids=CONTINUED)
def test_times_are_continued(cells, ahead):
    times = Times(cells)
    assert times.ahead(2).written == ahead and times.gaps == ("5" in cells)
    whole = Times([*cells, *map(str, ahead)])
    assert times.ahead(2).values == whole.values[-2:]


def test_a_format_is_that_of_the_times_before():
    """Where it fits; the reading alone would be another one, or none."""
    before = Times(("01/30/2024", "01/31/2024"))
    days = ("02/01/2024", "02/02/2024", "02/03/2024")
    for n in (1, 3):
        assert Times(days[:n], before).values == before.ahead(n).values
    with pytest.raises(bf.ConfigError, match="a date that is clear"):
        Times(days)
    assert Times(("2024-02-01",), before).values == before.ahead(1).values


WRONG_TIMES = {
    "words": (("soon",), 0, "expected a time, such as"),
    "two formats": (("2024-01-01", "02.01.2024"), 1, "expected a time as '2024-01-01'"),
    "with and without an offset": (("2024-01-01 00:00", "2024-01-01 01:00Z"), 1, "expected a time as"),
    "day first, then month first": (
        ("01/02/2024", "13/02/2024", "02/14/2024", "x"),
        2,
        "expected a time as '13/02/2024', got '02/14/2024'",
    ),
    "twice": (("1", "2", "2"), 2, "expected a later time than in the row before, '2', got '2'"),
    "backwards": (("2024-01-02", "2024-01-01"), 1, "Sort the rows"),
    "day or month": (("01/02/2024", "02/03/2024"), 1, "2024-03-02 or 2024-02-03"),
    "nan": (("nan",), 0, "expected a time"),
}


@pytest.mark.parametrize("cells, row, message", WRONG_TIMES.values(), ids=WRONG_TIMES)
def test_wrong_times(cells, row, message):
    with pytest.raises(bf.ConfigError) as caught:
        Times(cells)
    assert message in str(caught.value) and caught.value.row == row


def test_times_in_files(tmp_path):
    """Numbers have the decimal mark of the file; Parquet files have dates of their own."""
    Path("w.csv").write_text("t;load\n0,5;1,5\n1;2,5\n")
    assert read_table("w.csv", ["load"], "t").times.ahead(1).written == [1.5]
    write_parquet(
        "w.parquet", {"t": np.array(["2024-01-01T00", "2024-01-01T01"], "M8[us]"), "load": [1.0, 2.0]}
    )
    assert read_table("w.parquet", ["load"], "t").times.ahead(1).written == ["2024-01-01 02:00:00"]


# ---- Parquet


@pytest.mark.slow
def test_parquet_is_csv(python):
    """The same model, the same predictions; columns of integers and of single precision too."""
    parquet = pytest.importorskip("pyarrow.parquet")
    write_parquet("s.parquet")
    for kind in ("csv", "parquet"):
        found = python("-m", "bptt_fast", "train", f"s.{kind}", *TRAIN, "--out", f"{kind}.model")
        assert found.returncode == 0, found.stderr
        found = python("-m", "bptt_fast", "predict", f"{kind}.model", f"s.{kind}", "--out", f"p.{kind}")
        assert (found.returncode, found.stdout, found.stderr) == (0, "", "")
    assert bf.load("csv.model").params.tobytes() == bf.load("parquet.model").params.tobytes()
    table = parquet.read_table("p.parquet")
    assert table.column_names == ["row", "y"] and table["row"].to_pylist() == list(range(2, 82))
    assert [float(row[1]) for row in rows(Path("p.csv").read_text())[1:]] == table["y"].to_pylist()
    write_parquet("other.parquet", COLUMNS | {"a": T, "b": T.astype(np.float32)})
    found = python("-m", "bptt_fast", "predict", "csv.model", "other.parquet")
    given = np.column_stack((T, T))
    expected = bf.load("csv.model").predict(given, readout="every")[:, 0]
    np.testing.assert_array_equal([float(row[1]) for row in rows(found.stdout)[1:]], expected)


WRONG_TABLES = {
    "missing": ({"a": T, "c": T}, "column 'b': expected one of a, c"),
    "words": ({"a": T, "b": [str(i) for i in T]}, "column 'b': expected numbers, got string"),
    "a gap": ({"a": T, "b": [None if i == 6 else 0.5 for i in T]}, "row 7, column 'b': expected a finite"),
    "a gap of integers": ({"a": [None if i == 6 else 5 for i in T], "b": T}, "row 7, column 'a'"),
    "infinite": ({"a": T, "b": np.where(T == 3, np.inf, 1)}, "row 4, column 'b'"),
    "no rows": ({"a": T[:0], "b": T[:0]}, "expected at least one row"),
}  # fmt: skip


@pytest.mark.parametrize("columns, words", WRONG_TABLES.values(), ids=WRONG_TABLES)
def test_wrong_parquet(columns, words, capsys):
    write_parquet("w.parquet", columns)
    net = bf.Network(2, 4, 1, seed=0)
    net.input_names, net.output_names = ("a", "b"), ("y",)
    net.save("m")
    failed(run(capsys, "predict", "m", "w.parquet"), 1, "w.parquet", words)


def test_damaged_parquet():
    """Whatever pyarrow raises for any wrong byte, it is an InputError; a system's error stays what it is."""
    write_parquet("w.parquet", {"a": T[:3], "b": T[:3]})
    content, words = Path("w.parquet").read_bytes(), set()
    for at in range(len(content)):
        Path("d.parquet").write_bytes(content[:at] + bytes([content[at] ^ 0xFF]) + content[at + 1 :])
        try:
            read_table("d.parquet", ["a"])
        except InputError as error:
            words |= {word for word in ("thrift", "utf-8") if word in str(error)}
    assert words == {"thrift", "utf-8"}
    with pytest.raises(IsADirectoryError):
        Path("folder.parquet").mkdir()
        read_table("folder.parquet", ["a"])


def test_files_that_are_no_parquet(capsys, monkeypatch):
    pytest.importorskip("pyarrow")
    failed(run(capsys, "train", "none.parquet", *TRAIN), 1, "none.parquet: No such file")
    with open("w.parquet", "w") as file:
        file.write("a,b,y\n1,2,3\n")
    failed(run(capsys, "train", "w.parquet", *TRAIN), 1, "w.parquet: expected a Parquet file")
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    failed(run(capsys, "train", "w.parquet", *TRAIN), 1, 'pip install "bptt-fast[arrow]"')
    assert run(capsys, "train", "s.csv", *TRAIN, "--out", "m")[0] == 0
    failed(run(capsys, "predict", "m", "s.csv", "--out", "p.parquet"), 1, 'pip install "bptt-fast[arrow]"')


# ---- a file of arguments


def config(text):
    with open("run.toml", "w") as file:
        file.write(text)
    return "--config", "run.toml"


FULL = """
file = "s.csv"            # all of TRAIN
inputs = ["a", "b"]
targets = "y"
unfold = 3
hidden = 6
seed = 0
epochs = 3
learning-rate = 2e-2
quiet = true
scaling = false
"""


def test_a_run_from_a_file(python, capsys):
    """It is the run that is typed."""
    found = python("-m", "bptt_fast", "train", *config(FULL), "--out", "m")
    assert (found.returncode, found.stdout, found.stderr) == (0, "", "")
    typed = ("--learning-rate", "0.02", "--no-scaling")
    assert run(capsys, "train", "s.csv", *TRAIN, *typed, "--out", "typed")[0] == 0
    assert bf.load("m").params.tobytes() == bf.load("typed").params.tobytes() and bf.load("m").scaling is None
    code, out, _ = run(capsys, "predict", *config('file = "s.csv"\nmodel = "m"\njson = true'))
    assert code == 0 and json.loads(out)["rows"] == 80


@pytest.mark.parametrize("typed, attribute, value", (
    (("--hidden", "4"), "hidden_size", 4),
    (("--targets", "a"), "output_names", ("a",)),
    (("--truncate", "5"), "readout", "every"),
    (("--checkpoint",), "readout", "every"),
    (("--epochs=1", "--scaling"), "readout", "last"),
), ids=lambda value: value[0] if isinstance(value, tuple) else "")  # fmt: skip
def test_what_is_typed_wins(typed, attribute, value, capsys):
    assert run(capsys, "train", *config(FULL), *typed, "--out", "m") == (0, "", "")
    net = bf.load("m")
    assert getattr(net, attribute) == value
    assert (net.scaling is not None) == ("--scaling" in typed)


@pytest.mark.parametrize("text, readout", (
    ("truncate = [5, 10]", "every"), ("truncate = 5", "every"), ("checkpoint = true", "every"),
    ("checkpoint = 7", "every"), ("checkpoint = false", "last"), ('head = [4]\ncell = "gru"', "last"),
))  # fmt: skip
def test_values_in_a_file(text, readout, capsys):
    text = FULL.replace("unfold = 3\n", "") + text
    assert run(capsys, "train", *config(text), "--out", "m") == (0, "", "")
    assert bf.load("m").readout == readout
    assert run(capsys, "train", *config(text), "--unfold", "3", "--out", "m") == (0, "", "")
    assert bf.load("m").readout == "last"


WRONG_CONFIGS = {
    "unknown": ("learning_rate = 0.1", "run.toml: key: expected one of", "Did you mean 'learning-rate'"),
    "of predict": ('model = "m"', "run.toml: key: expected one of 'file'"),
    "itself": ('config = "other.toml"', "run.toml: key"),
    "a word": ('epochs = "many"', "argument --epochs: expected an integer of at least 1, got 'many'"),
    "a fraction": ("epochs = 2.5", "run.toml: argument --epochs"),
    "a choice": ('cell = "gruu"', "run.toml: argument --cell"),
    "a switch": ("epochs = true", "run.toml: epochs: expected a value or a list, got True"),
    "no switch": ("quiet = 1", "run.toml: quiet: expected true or false, got 1"),
    "a section": ("[epochs]\nn = 3", "run.toml: epochs: expected a value"),
    "a file": ("file = 3", "run.toml: file: expected the name of a file, got 3"),
    "two ways": ("unfold = 3\ntruncate = 5", "run.toml: argument", "not allowed with"),
}  # fmt: skip


@pytest.mark.parametrize("text, words", [(a, b) for a, *b in WRONG_CONFIGS.values()], ids=WRONG_CONFIGS)
def test_wrong_configs(text, words, capsys):
    """Wrong usage, whatever is typed beside it."""
    failed(run(capsys, "train", "s.csv", *NAMED, *config(text)), 2, *words)


def test_config_files_that_are_none(capsys):
    failed(run(capsys, "train", "--config", "none.toml"), 1, "none.toml: No such file")
    failed(run(capsys, "train", *config("epochs = ")), 1, "run.toml: expected a TOML file")
    failed(run(capsys, "train", *config("epochs = 3")), 2, "required: FILE, --inputs, --targets")
    failed(run(capsys, "predict", "m"), 2, "required: FILE")


# ---- JSON


def test_json(python):
    """One document and nothing else, for each command."""
    found = python(
        "-m", "bptt_fast", "train", "s.csv", *TRAIN, "--validation-split", "0.2", "--out", "m", "--json"
    )
    assert found.returncode == 0 and found.stderr == ""
    train = json.loads(found.stdout)
    net = bf.load("m")
    assert (
        train["command"] == "train"
        and train["file"] == "s.csv"
        and train["out"] == "m"
        and train["rows"] == 80
    )
    assert train["history"]["epoch"] == [1, 2, 3] and train["stopped"] == "epochs"
    assert (
        train["loss"] == train["history"]["loss"][-1]
        and train["val_loss"] == train["history"]["val_loss"][-1]
    )
    assert train["patterns"] == 3 * (64 - 3) and train["seconds"] > 0
    model = train["model"]
    assert model["network"]["hidden_size"] == 6 and model["parameters"] == net.num_parameters
    assert model["inputs"] == ["a", "b"] and model["outputs"] == ["y"] and model["lead"] == 1
    assert bf.Scaling(**model["scaling"]) == net.scaling
    found = python("-m", "bptt_fast", "info", "m", "--json")
    info = json.loads(found.stdout)
    assert info["model"] == model | {"path": "m"} and info["machine"]["bptt_fast"] == bf.__version__
    assert info["machine"]["isa"] in info["machine"]["supported"] and info["machine"]["threads"] >= 1


def test_json_of_predictions(capsys):
    assert run(capsys, "train", "s.csv", *TRAIN, "--quiet", "--out", "m")[0] == 0
    code, out, err = run(capsys, "predict", "m", "s.csv", "--json")
    found = json.loads(out)
    assert (
        code == 0 and err == "" and found["first_row"] == 2 and found["rows"] == 80 and found["out"] is None
    )
    expected = bf.load("m").predict(X, readout="every")[:, 0].tolist()
    assert found["predictions"] == {"y": expected}
    code, out, _ = run(capsys, "predict", "m", "s.csv", "--json", "--out", "p.csv")
    found = json.loads(out)
    assert code == 0 and found["predictions"] is None and found["out"] == "p.csv"
    assert [float(row[1]) for row in rows(Path("p.csv").read_text())[1:]] == expected
    code, out, _ = run(capsys, "info", "--json")
    assert code == 0 and json.loads(out)["model"] is None
    failed(run(capsys, "predict", "none", "s.csv", "--json"), 1, "none: No such file")
