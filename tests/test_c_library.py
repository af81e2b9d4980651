"""The C library by itself, in C and C++, and from another Cython package: compiled and run for real."""

import importlib
import os
import re
import shutil
import subprocess
import tomllib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from support.cases import ROOT

import bptt_fast as bf
from bptt_fast import demo

CSRC = Path(bf.get_include())
PACKAGE = Path(bf.__file__).parent
GCC, GXX = shutil.which("gcc"), shutil.which("g++")
STRICT = ("-Wall", "-Wextra", "-Wpedantic", "-Werror", "-I", CSRC)
LINK = ("libbptt.a", "-lm", "-pthread")
needs_gcc = pytest.mark.skipif(not GCC, reason="needs gcc")
needs_gxx = pytest.mark.skipif(not GXX, reason="needs g++")


def run(*command, cwd, fails=False):
    done = subprocess.run([*map(str, command)], cwd=cwd, capture_output=True, text=True, timeout=120)
    assert bool(done.returncode) == fails, done.stdout + done.stderr
    return done.stderr if fails else done.stdout


def compile_library(folder):
    """libbptt.a, as docs/c.md compiles it, but file beside file and less optimised."""
    sources = [*CSRC.glob("*.c"), *CSRC.glob("instances/*.c")]
    compiler = (GCC, "-c", f"@{CSRC / 'flags'}", "-O1")
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda source: run(*compiler, source, cwd=folder), sources))
    run("ar", "rcs", "libbptt.a", *(source.with_suffix(".o").name for source in sources), cwd=folder)


@pytest.fixture(scope="session")
def library(tmp_path_factory):
    """A folder with libbptt.a.  The processes of pytest-xdist share one: the others wait for the first."""
    fcntl = pytest.importorskip("fcntl")
    own = tmp_path_factory.getbasetemp()
    folder = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "library"
    folder.mkdir(exist_ok=True)
    with open(folder / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "libbptt.a").exists():
            compile_library(folder)
    return folder


def files(folder):
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_everything_is_installed():
    """What pyproject.toml lists is all of csrc, and it is where get_include says."""
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]
    found = {path for pattern in listed["bptt_fast.csrc"] for path in (ROOT / "csrc").glob(pattern)}
    assert {str(path.relative_to(ROOT / "csrc")) for path in found} == files(ROOT / "csrc")
    assert files(CSRC) == files(ROOT / "csrc")
    assert "_core.pxd" in listed["bptt_fast"] and (PACKAGE / "_core.pxd").exists()


@needs_gcc
def test_header_alone_in_c(tmp_path):
    (tmp_path / "alone.c").write_text('#include "bptt.h"\n')
    run(GCC, "-std=c11", *STRICT, "-fsyntax-only", "alone.c", cwd=tmp_path)


@pytest.mark.slow
@needs_gcc
@needs_gxx
def test_header_and_library_in_cpp(library):
    text = '#include "bptt.h"\n#include <cstdio>\nint main() { std::puts(bptt_message(BPTT_DIVERGED)); }\n'
    (library / "message.cpp").write_text(text)
    run(GXX, "-std=c++11", *STRICT, "message.cpp", *LINK, "-o", "message", cwd=library)
    assert run("./message", cwd=library) == "the loss, the gradient, the update or an output is not finite\n"


BY_NAME = r"""
#include "bptt.h"
#include <stdio.h>

static const bptt_field *named(const char *name) { return bptt_find_field(bptt_desc_fields, name); }

int main(void) {
    bptt_desc desc = { 0 };
    char why[256], cut[8];
    bptt_cell cell;
    bptt_loss loss;
    printf("%d %s\n", bptt_why(&desc, why, sizeof why), why);
    bptt_set_pointer(&desc, named("cell"), 0, "gru_reset_before");
    bptt_set_pointer(&desc, named("loss"), 0, "huber");
    bptt_set_real(&desc, named("loss_parameter"), 0, 0.5);
    for (int i = 0; i < 2; i++) bptt_set_integer(&desc, named("head"), i, 4 + i);
    bptt_set_integer(&desc, named("input_size"), 0, 3);
    bptt_set_integer(&desc, named("hidden_size"), 0, 7);
    bptt_set_integer(&desc, named("output_size"), 0, 2);
    bptt_set_integer(&desc, named("bidirectional"), 0, 1);
    printf("%d%s ", bptt_why(&desc, why, sizeof why), why);
    printf("%d %d\n", desc.bidirectional, (int)desc.head[1]);
    printf("%d %d\n", (int)bptt_size(&desc), named("peephole") == NULL);
    bptt_set_integer(&desc, named("proj_size"), 0, 2);
    printf("%d %s\n", bptt_why(&desc, why, sizeof why), why);
    printf("%d %s\n", bptt_why(&desc, cut, sizeof cut), cut);
    printf("%d\n", bptt_why(&desc, NULL, 0));
    printf("%d %d ", bptt_describe_cell(-1, &cell), bptt_describe_loss(-1, &loss));
    printf("%d\n", !bptt_optimizer(-1) && !bptt_activation(-1));
    for (int i = 0; bptt_describe_cell(i, &cell); i++)
        printf("%s:%d:%d ", cell.name, cell.gates, cell.states);
    for (int i = 0; bptt_describe_loss(i, &loss); i++)
        printf("%s:%d ", loss.name, loss.parameter[0].name != NULL);
    for (int i = 0; bptt_optimizer(i); i++)
        printf("%s:%d ", bptt_optimizer(i), bptt_state_vectors(bptt_optimizer(i)));
    printf("%s %d\n", bptt_status_name(BPTT_DIVERGED), bptt_status_name(BPTT_STATUSES) == NULL);
}
"""


@pytest.mark.slow
@needs_gcc
def test_fields_by_name(library):
    (library / "by_name.c").write_text(BY_NAME)
    run(GCC, "-std=c11", *STRICT, "by_name.c", *LINK, "-o", "by_name", cwd=library)
    lines = run("./by_name", cwd=library).splitlines()
    net = bf.Network(3, 7, 2, cell="gru_reset_before", head=(4, 5), bidirectional=True)
    refused = "proj_size: expected 0 with cell gru_reset_before"
    assert lines[:7] == [
        "1 input_size: expected 1 to 1099511627776, got 0",
        "0 1 5",
        f"{net.num_parameters} 1",
        f"1 {refused}",
        f"1 {refused[:7]}",
        "1",
        "0 0 1",
    ]
    core = importlib.import_module("bptt_fast._core")
    rows = [f"{name}:{cell['gates']}:{cell['states']}" for name, cell in core.cells().items()]
    rows += [f"{name}:{len(row['parameters'])}" for name, row in core.losses().items()]
    rows += [f"{name}:{vectors}" for name, vectors in core.optimizers().items()]
    assert lines[7] == " ".join([*rows, "DIVERGED", "1"])


@pytest.mark.slow
@needs_gcc
def test_gradients_in_c(library):
    """The check that compilers and systems without Python run, here with every cell and instruction set."""
    run(GCC, "-std=c11", "-O1", *STRICT, ROOT / "tests/c/gradients.c", *LINK, "-o", "gradients", cwd=library)
    lines = run("./gradients", cwd=library).splitlines()
    core = importlib.import_module("bptt_fast._core")
    checked = {tuple(line.split()[1:4]) for line in lines[:-1]}
    kinds = ("one-row", "ragged", "wide", "skip", "threads")
    assert checked == {(isa, cell, kind) for isa in core.isas() for cell in core.cells() for kind in kinds}
    assert lines[-1] == f"{len(checked)} passed, 0 failed"


def uniform(seed, n):
    """n numbers from splitmix64, as examples/c/sunspots.c draws them."""
    numbers, ones = np.empty(n), 2**64 - 1
    for i in range(n):
        z = seed = (seed + 0x9E3779B97F4A7C15) & ones
        z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 & ones
        z = (z ^ z >> 27) * 0x94D049BB133111EB & ones
        numbers[i] = (z ^ z >> 31) >> 11
    return numbers * 2.0**-53


@pytest.mark.slow
@needs_gcc
def test_sunspots(library):
    """The same training in Python gives the same weights and errors; only the optimisation levels differ."""
    run(GCC, "-std=c11", "-O2", *STRICT, ROOT / "examples/c/sunspots.c", *LINK, "-o", "sunspots", cwd=library)
    text = run("./sunspots", PACKAGE / "datasets/sunspots.csv", "weights", cwd=library)
    printed = np.array(re.findall(r"seed \d +([\d.]+) +([\d.]+)", text), float)
    weights = np.fromfile(library / "weights", np.float32).reshape(len(demo.SEEDS), -1)
    years, numbers = demo.sunspots()
    for seed in demo.SEEDS:
        net = bf.Network(demo.DELAYS, demo.HIDDEN, 1)
        net.params[:] = (2 * uniform(seed, net.num_parameters) - 1) / np.sqrt(demo.HIDDEN)
        demo.train(years, numbers, seed, net=net)
        np.testing.assert_allclose(weights[seed], net.params, rtol=0, atol=1e-4)
        predicted = demo.predict(net, numbers)
        errors = [demo.relative_variance(years, numbers, predicted, *span) for span in demo.TESTS]
        np.testing.assert_allclose(printed[seed], errors, rtol=0, atol=2e-3)
    median = np.array(re.search(r"median +([\d.]+) +([\d.]+)", text).groups(), float)
    np.testing.assert_array_equal(median, np.median(printed, axis=0))
    persistence = np.array(re.search(r"persistence +([\d.]+) +([\d.]+)", text).groups(), float)
    expected = [demo.relative_variance(years, numbers, demo.persistence(numbers), *s) for s in demo.TESTS]
    np.testing.assert_allclose(persistence, expected, rtol=0, atol=6e-4)
    assert (median < persistence).all()

    (library / "gap.csv").write_text("# a comment\n1700,5\n1702,7\n")
    assert "cannot be read" in run("./sunspots", "nowhere.csv", cwd=library, fails=True)
    assert "each year once" in run("./sunspots", "gap.csv", cwd=library, fails=True)
    assert "usage" in run("./sunspots", cwd=library, fails=True)


@pytest.mark.slow
@needs_gcc
def test_program_of_the_page(library):
    """docs/c.md: it compiles, and Python prints its losses."""
    program, _ = re.findall(r"```c\n(.*?)```", (ROOT / "docs/c.md").read_text(), flags=re.S)
    (library / "program.c").write_text(program)
    run(GCC, "-std=c11", *STRICT, "program.c", *LINK, "-o", "program", cwd=library)
    printed = re.fullmatch(r"loss before (\S+), after (\S+)\n", run("./program", cwd=library)).groups()
    i, t = np.ogrid[:64, :12]
    x = ((37 * i + 11 * t + i * t) % 64 / 32 - 1).astype(np.float32)
    y = np.zeros(64, np.float32)
    for column in x.T:
        y += column / 12
    net = bf.Network(1, 16, 1, cell="gru")
    net.params[:] = np.arange(net.num_parameters) * 7919 % 1024 / 2048 - 0.25
    losses = [net.evaluate(x[..., None], y[:, None])]
    net.fit(
        x[..., None], y[:, None], epochs=100, optimizer=bf.Adam(0.01), batch_size=16, shuffle=False, verbose=0
    )
    losses.append(net.evaluate(x[..., None], y[:, None]))
    assert losses[1] < 0.01 * losses[0]
    np.testing.assert_allclose(np.array(printed, float), losses, rtol=1e-2)


@pytest.mark.slow
@needs_gcc
def test_a_network_of_python_in_c(library):
    """docs/c.md: the program reads the parameters and steps as the stream."""
    _, program = re.findall(r"```c\n(.*?)```", (ROOT / "docs/c.md").read_text(), flags=re.S)
    (library / "steps.c").write_text(program)
    run(GCC, "-std=c11", *STRICT, "steps.c", *LINK, "-o", "steps", cwd=library)
    net, rows = bf.Network(3, 16, 1, cell="gru", seed=0), np.random.default_rng(0).normal(size=(9, 3))
    net.params.tofile(library / "params.bin")
    lines = "".join(f"{a:.9g} {b:.9g} {c:.9g}\n" for a, b, c in rows)
    done = subprocess.run(["./steps"], input=lines, capture_output=True, text=True, cwd=library, check=True)
    stream = net.stream()
    expected = [stream.step(row)[0] for row in rows]
    np.testing.assert_allclose(np.array(done.stdout.split(), float), expected, rtol=1e-4, atol=1e-6)
    (library / "params.bin").write_bytes(net.params.tobytes()[4:])
    assert "params.bin: expected" in run("./steps", cwd=library, fails=True)


@pytest.fixture
def built(tmp_path, python, monkeypatch):
    """built(name, source) imports an extension that examples/cython/setup.py, or one like it, compiles."""
    if not GCC:
        pytest.skip("needs gcc")
    pytest.importorskip("Cython")
    pytest.importorskip("setuptools")

    def build(name, source):
        setup = (ROOT / "examples/cython/setup.py").read_text()
        (tmp_path / "setup.py").write_text(setup.replace("watch", name))
        (tmp_path / f"{name}.pyx").write_text(source)
        done = python("setup.py", "build_ext", "--inplace", env={"CFLAGS": "-O0"})
        assert done.returncode == 0, done.stdout + done.stderr
        monkeypatch.syspath_prepend(tmp_path)
        return importlib.import_module(name)

    return build


@pytest.mark.slow
def test_cython_example(built):
    watch = built("watch", (ROOT / "examples/cython/watch.pyx").read_text())
    random = np.random.default_rng(0)
    net = bf.Network(3, 7, 3, cell="gru", readout="every", initial_state="trained", seed=1)
    net.params[:] = random.normal(size=net.num_parameters)
    series = random.normal(size=(20, 1000, 3)).astype(np.float32)
    by_series = np.ascontiguousarray(series.swapaxes(0, 1))
    expected = np.mean((net.predict(by_series)[:, :-1] - by_series[:, 1:]) ** 2, axis=(1, 2), dtype=float)
    np.testing.assert_allclose(watch.surprise(net, series), expected, rtol=1e-5)

    classifier = bf.Network(2, 5, 4, cell="lstm", bidirectional=True, seed=2)
    x = (4 * random.normal(size=(1001, 9, 2))).astype(np.float32)
    expected = np.bincount(classifier.predict(x).argmax(1), minlength=4)
    assert (expected > 0).sum() > 1
    np.testing.assert_array_equal(watch.census(classifier, x, 64), expected)
    np.testing.assert_array_equal(watch.census(classifier, x, 5000), expected)
    for net in (classifier, bf.Network(3, 7, 3, dtype="float64")):
        with pytest.raises(ValueError, match="expected a float32 network"):
            watch.surprise(net, series)
    with pytest.raises(ValueError, match="expected a float32 network"):
        watch.census(classifier, x[:0])


CALL = """
from libc.stdint cimport int64_t
from bptt_fast._core cimport Data, Plan, predict

def call(Plan plan, Data data, size_t params, size_t y, bint every):
    cdef int64_t order = 0
    with nogil:
        predict(plan, <void *>params, &data.c, &order, 1, every, <void *>y, NULL)
"""


@pytest.mark.slow
def test_a_failure_without_the_gil_is_an_exception(built):
    from bptt_fast import _core

    call = built("calling", CALL).call
    net = bf.Network(1, 3, 1, dtype="float64", seed=0)
    x, y, zero = np.ones((4, 1)), np.full(4, np.nan), np.zeros(1, np.int64)
    plan = _core.Plan(net.description.core(), steps=4)
    data = _core.Data(x, zero, zero + 4, zero)
    with pytest.raises(ValueError, match="more sequences or steps than the plan was made for"):
        call(plan, data, net.params.ctypes.data, y.ctypes.data, True)
    assert np.isnan(y).all()
    call(plan, data, net.params.ctypes.data, y.ctypes.data, False)
    np.testing.assert_array_equal(y[:1], net.predict(x))
