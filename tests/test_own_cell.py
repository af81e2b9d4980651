"""A cell that its user wrote: compiled, checked, refused if it is wrong, and used as any other cell."""

import ctypes
import os
import pickle
import re
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

import bptt_fast as bf
from bptt_fast import _core, own_cell
from bptt_fast.initialisation import CELLS
from bptt_fast.machine import Machine

# no recurrent product, which takes the compiler longest; a peephole and two gates
DECAY = r"""/* z = s(zx_z),  n = tanh(zx_n + u * h_prev),  h = n + z * (h_prev - n) */
#define GATES 2
#define STATES 1
#define GATE_VALUES 2
#define PASSES_STATE 1
#define PEEPHOLES 1
#define PEEPHOLE_TERMS { 1, 0, 0 }
#define RECURRENT 0
#define KEEP_GATE 0

INLINE void decay_forward(int act, const V *peep, const V *zx, const V *zr, const V *s_prev, V *s, V *saved) {
    (void)act, (void)zr;
    V z = v_sigmoid(zx[0]), n = v_tanh(zx[1] + peep[0] * s_prev[0]);
    s[0] = n + z * (s_prev[0] - n);
    saved[0] = z, saved[1] = n;
}

INLINE void decay_backward(int act, const V *peep, const V *saved, const V *s_prev, const V *s, V *ds, V *dzx,
                           V *dzr) {
    (void)act, (void)s, (void)dzr;
    V z = saved[0], n = saved[1];
    dzx[0] = ds[0] * (s_prev[0] - n) * z * (1 - z);
    dzx[1] = ds[0] * (1 - z) * (1 - n * n);
    ds[0] = ds[0] * z + peep[0] * dzx[1];
}
"""

needs_compiler = pytest.mark.skipif(not shutil.which(own_cell._compiler()[0]), reason="needs a C compiler")


@pytest.fixture
def header(tmp_path):
    """header(name, text): the path of a header."""

    def write(name, text=DECAY):
        path = tmp_path / f"{name}.h"
        path.write_text(text.replace("decay", name))
        return path

    return write


@pytest.fixture(scope="module", autouse=True)
def cells_of_the_package():
    """What is built here is forgotten, and cached elsewhere than in the user's folder."""
    before = dict(CELLS)
    yield before
    CELLS.clear()
    CELLS.update(before)


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def cached_here(cache, monkeypatch):
    monkeypatch.setattr(own_cell, "cache_folder", lambda: cache)


@pytest.fixture
def decay(header):
    return bf.build_cell(header("decay"))


def refused(path, error, *words):
    """Building raises `error` with these words, and changes nothing."""
    before = dict(CELLS)
    with pytest.raises(error) as raised:
        bf.build_cell(path)
    assert before == CELLS
    for word in words:
        assert word in str(raised.value), (word, str(raised.value))
    return str(raised.value)


# ---- headers that are refused before they are compiled


def test_a_file_that_is_no_header(tmp_path, header):
    refused(None, bf.ConfigError, "path: expected a str or path-like")
    refused(tmp_path / "my_cell.h", FileNotFoundError)
    refused(tmp_path, bf.ConfigError, "expected a name of C")
    refused(header("my-cell"), bf.ConfigError, "expected a name of C", "'my-cell.h'")
    refused(header("2nd"), bf.ConfigError, "expected a name of C")
    text = tmp_path / "my_cell.txt"
    text.write_text(DECAY)
    refused(text, bf.ConfigError, "Example: my_cell.h")
    (tmp_path / "latin.h").write_bytes(b"/* \xe9 */")
    refused(tmp_path / "latin.h", bf.CellError, "expected text in UTF-8")


@pytest.mark.parametrize("name", ["gru", "lstm_peephole", "mlp"])
def test_a_name_of_the_package(header, name):
    refused(header(name), bf.ConfigError, f"got {name!r}, which is a cell of this package")


@pytest.mark.parametrize(
    "definition, lack",
    [
        ("#define GATES 2", "GATES"),
        ("#define STATES 1", "STATES"),
        ("decay_forward", "lacking_forward"),
        ("decay_backward", "lacking_backward"),
    ],
)
def test_a_definition_that_is_missing(header, definition, lack):
    text = DECAY.replace(definition, f"/* {definition} */")
    refused(header("lacking", text), bf.CellError, f"got no {lack}.")


@pytest.mark.parametrize("macro", own_cell.RESERVED)
def test_what_only_cells_of_the_package_have(header, macro):
    refused(header("odd", f"#  define {macro} 1\n{DECAY}"), bf.CellError, f"expected a cell without {macro}")


def test_no_compiler(header, monkeypatch):
    monkeypatch.setenv("CC", "no-such-compiler -pthread")
    refused(header("alone"), bf.CellError, "expected the C compiler 'no-such-compiler'", "Install gcc")


def test_other_headers_than_those_of_the_core(header, monkeypatch):
    monkeypatch.setattr(own_cell, "interface", lambda folder: 1)
    refused(header("other"), bf.CellError, "the headers that the core was compiled from")
    number = (ctypes.c_uint64 * 2)(_core.INTERFACE ^ 1)
    with pytest.raises(ValueError, match="headers of this library"):
        _core.OwnCell(ctypes.addressof(number), number)
    with pytest.raises(TypeError):
        _core.size({"own_cell": 1, "input_size": 1, "hidden_size": 1, "output_size": 1, "dtype": "float64"})


def test_the_number_of_the_headers(tmp_path):
    """It is that of the build, and another one if any file differs that a cell is compiled from."""
    csrc = Path(bf.get_include())
    assert own_cell.interface(csrc) == _core.INTERFACE
    files = set(own_cell.interface.__globals__["headers"](csrc))
    assert {"frame.h", "scan.h", "elementwise.h", "real.h", "cell.h", "desc.def"} <= files
    assert "plan.h" not in files
    for name in ("scan.h", "desc.def", "plan.h"):
        other = tmp_path / name
        shutil.copytree(csrc, other)
        with (other / name).open("a") as file:
            file.write("\n")
        assert (own_cell.interface(other) == _core.INTERFACE) == (name not in files)


# ---- what the compiler and the gradient say


def only_base(monkeypatch):
    """One instance for each dtype: quicker."""
    monkeypatch.setattr(own_cell, "machine", lambda: Machine(1, {}, "base"))


@needs_compiler
def test_an_error_of_the_compiler(header, monkeypatch):
    """Its whole text, with the line of the user's file, whatever its folder is called."""
    only_base(monkeypatch)
    text = DECAY.replace("(1 - n * n);", "(1 - n * nn);")
    line = 1 + text[: text.index("nn)")].count("\n")
    folder = header("unused").parent / 'a "b" \\ c'
    if os.name == "posix":
        folder.mkdir()
        path = folder / "wrong.h"
        path.write_text(text.replace("decay", "wrong"))
    else:
        path = header("wrong", text)
    said = refused(
        path, bf.CellError, "expected a cell that", "'nn' undeclared", "ds[0] * (1 - z) * (1 - n * nn);"
    )
    assert re.search(rf"wrong\.h:{line}:\d+: error", said), said
    text = DECAY.replace("#define GATES 2", "#define GATES 5")
    refused(header("wide", text), bf.CellError, "expected GATES from 1 to 4")


@needs_compiler
def test_a_wrong_gradient(header, monkeypatch):
    """It names what is wrong; the corrected text is then built under the same name."""
    only_base(monkeypatch)
    wrong = DECAY.replace("ds[0] = ds[0] * z + peep[0] * dzx[1];", "ds[0] = ds[0] * z;")
    message = refused(
        header("slip", wrong), bf.CellError, "that agrees with finite differences", "instead of"
    )
    assert "slip_backward the derivative of slip_forward" in message
    with pytest.raises(bf.ConfigError, match="Call build_cell first"):
        bf.Network(1, 4, 1, cell="slip")
    assert bf.build_cell(header("slip")) == "slip"
    with pytest.raises(bf.ConfigError, match="own_cell: expected one compiled for f"):
        isa = _core.isas()[-1]
        if isa == "base":
            pytest.skip("one instruction set")
        bf.Network(1, 4, 1, cell="slip", seed=0).predict(np.zeros((1, 2, 1)), isa=isa)


# ---- the cache


@needs_compiler
def test_a_second_call_compiles_nothing(header, decay, cache, monkeypatch):
    """Nor does a change of comments and space; another text needs another name."""
    path = header("decay")
    assert bf.build_cell(path) == decay

    def compiled(*arguments):
        raise AssertionError("compiled again")

    monkeypatch.setattr(own_cell, "_compile", compiled)
    path.write_text("/* another */\n" + DECAY.replace("#define GATES 2", "#define   GATES 2  // z's"))
    assert bf.build_cell(path) == decay
    known = CELLS.pop(decay)  # as in a new process
    assert bf.build_cell(path) == decay and CELLS[decay]["digest"] == known["digest"]
    path.write_text(DECAY.replace("(1 - z)", "(1 + z)"))
    refused(path, bf.ConfigError, "got 'decay', which is already built from another text")


@needs_compiler
def test_a_damaged_library_is_compiled_again(header, decay, cache, monkeypatch):
    folder = next(cache.glob("decay-*"))
    copy = cache.parent / "copy"
    shutil.copytree(folder, copy)
    calls = []

    def compiled(file, name, text, csrc, command, flags, sources, into):
        calls.append(into)
        shutil.copy(copy / "decay.so", into)

    monkeypatch.setattr(own_cell, "_compile", compiled)
    library = folder / "decay.so"
    content = library.read_bytes()
    for damage in (content[: len(content) // 2], None):
        known = CELLS.pop(decay)
        library.unlink()
        if damage is not None:
            library.write_bytes(damage)
        assert bf.build_cell(header("decay")) == decay
        CELLS[decay] = known
        assert library.read_bytes() == content
    assert len(calls) == 2
    assert not list(cache.glob("new-*"))


@needs_compiler
def test_threads_build_once(header, decay, monkeypatch):
    CELLS.pop(decay)
    calls = []
    loaded = own_cell._loaded
    monkeypatch.setattr(own_cell, "_loaded", lambda *a: calls.append(a) or loaded(*a))
    path = header("decay")
    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(bf.build_cell, [path] * 8)) == {decay}
    assert len(calls) == 1


def test_a_folder_that_cannot_be_written(tmp_path, monkeypatch):
    monkeypatch.undo()
    file = tmp_path / "file"
    file.write_text("")
    for variable in ("XDG_CACHE_HOME", "LOCALAPPDATA", "HOME"):
        monkeypatch.setenv(variable, str(file))
    folder = own_cell.cache_folder()
    assert folder.is_dir() and file not in folder.parents


# ---- as any other cell


def sequences(n=5, steps=12, dtype=np.float64):
    random = np.random.default_rng(0)
    x = random.normal(size=(n, steps, 2)).astype(dtype)
    return x, np.sin(np.cumsum(x, axis=1))[:, :, :1]


def sigmoid(a):
    return 1 / (1 + np.exp(-a))


@needs_compiler
@pytest.mark.parametrize("dtype, limit", [("float64", 1e-13), ("float32", 1e-5)])
@pytest.mark.parametrize("units", [3, 17, 40])
def test_it_computes_what_it_says(decay, dtype, limit, units):
    """Against NumPy, with lanes along rows (few units) and along units; the gradient by differences."""
    x, y = sequences(dtype=dtype)
    net = bf.Network(2, units, 1, cell=decay, readout="every", dtype=dtype, seed=0)
    w = {name: value.astype(np.float64) for name, value in net.state_dict().items()}
    h, outputs = np.zeros((len(x), units)), []
    for t in range(x.shape[1]):
        z, n = np.split(x[:, t] @ w["weight_ih_l0"].T + w["bias_ih_l0"], 2, axis=1)
        z, n = sigmoid(z), np.tanh(n + w["weight_hh_l0"] * h)
        h = n + z * (h - n)
        outputs.append(h @ w["head.0.weight"].T + w["head.0.bias"])
    assert np.abs(net.predict(x) - np.stack(outputs, axis=1)).max() < limit
    if dtype == "float64":
        grad, step = net.loss_and_grad(x, y)[1].flat, np.random.default_rng(1).normal(size=net.params.size)
        losses = []
        params = net.params.copy()
        for sign in (1, -1):
            net.params = params + sign * 1e-6 * step
            losses.append(net.evaluate(x, y))
        assert abs((losses[0] - losses[1]) / 2e-6 - grad @ step) < 1e-8


@needs_compiler
def test_every_unfolding(decay, cache):
    x, y = sequences()
    make = {"cell": decay, "readout": "every", "dtype": "float64", "seed": 0, "num_layers": 2}
    exact = bf.Network(2, 6, 1, **make).loss_and_grad(x, y)[1].flat
    for bptt in (bf.CheckpointedBPTT(4), bf.TruncatedBPTT(12)):
        got = bf.Network(2, 6, 1, **make).loss_and_grad(x, y, bptt=bptt)[1].flat
        assert np.abs(got - exact).max() < 1e-14
    for bptt in (bf.FullBPTT(), bf.CheckpointedBPTT(4), bf.TruncatedBPTT(4, 8), bf.FullBPTT()):
        net = bf.Network(2, 6, 1, bidirectional=bptt == bf.FullBPTT(), **make)
        loss = net.evaluate(x, y)
        net.fit(x, y, epochs=20, bptt=bptt, optimizer=bf.Adam(0.02), verbose=0)
        assert net.evaluate(x, y) < 0.7 * loss
    net = bf.Network(2, 6, 1, **make)
    together, stream = net.predict(x[:1]), net.stream()
    assert np.abs(np.array([stream.step(row) for row in x[0]]) - together[0]).max() < 1e-14


@needs_compiler
def test_the_online_algorithm_and_restarts(decay):
    """Each restart equals the fit with its seed to the bit; a learner's window equals that of fit."""
    x, y = sequences(1, 60)
    net = bf.Network(2, 4, 1, cell=decay, seed=0)
    single = bf.Network(2, 4, 1, cell=decay, seed=0)
    how = {"epochs": 3, "optimizer": bf.SGD(0.05), "bptt": bf.SlidingBPTT(5), "verbose": 0}
    history = single.fit(x[0], y[0], **how)
    assert history["loss"][-1] < history["loss"][0]
    best, table = bf.restarts(net, x[0], y[0], n=3, **how)
    again = bf.Network(2, 4, 1, cell=decay, seed=best.seed)
    again.fit(x[0], y[0], **how)
    assert (again.params == best.params).all() and len(table["seed"]) == 3
    learner = bf.Network(2, 4, 1, cell=decay, seed=0).learn_online(bf.SlidingBPTT(5), optimizer=bf.SGD(0.05))
    for row, target in zip(x[0], y[0], strict=True):
        learner.observe(row, target)
    assert np.isfinite(learner.network.params).all()


@needs_compiler
def test_options_and_other_tools(decay, tmp_path):
    net = bf.Network(2, 4, 1, cell=decay, forget_bias=1.0, seed=0)
    assert (net["bias_ih_l0"][:4] == 1).all()
    with pytest.raises(bf.ConfigError, match="recurrent_dropout"):
        bf.Network(2, 4, 1, cell=decay, recurrent_dropout=0.5)
    with pytest.raises(bf.ConfigError, match="nonlinearity: expected None"):
        bf.Network(2, 4, 1, cell=decay, nonlinearity="relu")
    x, y = sequences()
    net.fit(x, y[:, -1], epochs=2, optimizer=bf.LevenbergMarquardt(), verbose=0)
    assert bf.diagnostics.saturation(net, x) == {}
    if pytest.importorskip("onnx"):
        with pytest.raises(bf.ConfigError, match="got 'decay'"):
            net.to_onnx(tmp_path / "net.onnx")


# ---- files


@needs_compiler
def test_files_and_pickles_need_the_cell(decay, header, tmp_path):
    x, _ = sequences()
    net = bf.Network(2, 4, 1, cell=decay, dtype="float64", seed=0)
    file = tmp_path / "net.safetensors"
    net.save(file)
    learner = net.learn_online(bf.SlidingBPTT(3))
    learner.save(tmp_path / "learner.safetensors")
    dumped = pickle.dumps(net)
    for again in (bf.load(file), pickle.loads(dumped)):
        assert (again.predict(x) == net.predict(x)).all()
    known = CELLS.pop(decay)
    try:
        for path in (file, tmp_path / "learner.safetensors"):
            with pytest.raises(bf.CellError, match=rf'{path.name}.*build_cell\("decay\.h"\)'):
                bf.load(path)
        with pytest.raises(bf.CellError, match="build_cell"):
            pickle.loads(dumped)
        CELLS[decay] = known | {"digest": "0" * 64}
        with pytest.raises(bf.CellError, match="its text has changed since"):
            bf.load(file)
        with pytest.raises(bf.CellError, match="its text has changed since"):
            pickle.loads(dumped)
    finally:
        CELLS[decay] = known
    digest = known["digest"].encode()
    file.write_bytes(file.read_bytes().replace(digest, digest[::-1]))
    with pytest.raises(bf.CorruptFileError, match="checksum"):
        bf.load(file)


@needs_compiler
def test_a_backup_is_of_this_text(decay, tmp_path, monkeypatch):
    x, y = sequences()
    fit = dict(epochs=2, verbose=0, callbacks=[bf.callbacks.BackupAndRestore(tmp_path / "backup", every=1)])
    net = bf.Network(2, 4, 1, cell=decay, readout="every", seed=0)

    class Stop(bf.Callback):
        def on_epoch_begin(self, epoch, logs):
            if epoch == 1:
                raise RuntimeError("out of power")

    with pytest.raises(RuntimeError):
        net.fit(x, y, **fit | {"callbacks": [*fit["callbacks"], Stop()]})
    monkeypatch.setitem(CELLS, decay, CELLS[decay] | {"digest": "0" * 64})
    with pytest.raises(bf.ConfigError, match="own cell"):
        bf.Network(2, 4, 1, cell=decay, readout="every", seed=0).fit(x, y, **fit)


# ---- recurrent cells, which take the compiler longer


@needs_compiler
@pytest.mark.slow
@pytest.mark.parametrize("cell", ["gru", "lstm_peephole", "indrnn", "ctrnn"])
def test_a_copy_of_a_cell_of_the_package(cell, header):
    """Under another name it has the same outputs and gradients, except for another compiler's roundings."""
    text = (Path(bf.get_include()) / "cells" / f"{cell}.h").read_text()
    name = bf.build_cell(header(f"my_{cell}", text.replace(f"{cell}_", f"my_{cell}_")))
    assert CELLS[name].keys() - CELLS[cell].keys() == {"own_cell", "digest"}
    assert {key: CELLS[name][key] for key in CELLS[cell]} == CELLS[cell]
    x, y = sequences()
    kinds = [{"num_layers": 2}, {"bidirectional": True}]
    kinds += [{"proj_size": 5}] if CELLS[cell]["projection"] else []
    for units in (7, 40):
        for kind in kinds:
            nets = [
                bf.Network(2, units, 1, cell=one, readout="every", dtype="float64", seed=0, **kind)
                for one in (cell, name)
                if cell != "lstm_peephole" or one == name
            ]
            if cell == "lstm_peephole":
                nets.insert(
                    0,
                    bf.Network(
                        2,
                        units,
                        1,
                        cell="lstm",
                        peephole=True,
                        readout="every",
                        dtype="float64",
                        seed=0,
                        **kind,
                    ),
                )
            (loss, grad, *_), (other_loss, other, *_) = (net.loss_and_grad(x, y) for net in nets)
            assert abs(loss - other_loss) < 1e-13
            assert np.abs(grad.flat - other.flat).max() < 1e-13
