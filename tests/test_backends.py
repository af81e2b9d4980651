"""Backends of joblib: processes give the bits of threads, in any environment; no backend, no joblib."""

import os
import sys

import numpy as np
import pytest
from support.fits import SWEPT, X, Y, network, same_restarts, same_table

import bptt_fast as bf
from bptt_fast import _core, backends
from bptt_fast.machine import CallersIsa, machine_for

joblib = pytest.importorskip("joblib")


@pytest.fixture
def loky():
    with joblib.parallel_config(backend="loky", n_jobs=2):
        yield


def run(net=None, n=7, epochs=6, **options):
    return bf.restarts(net or network(), X, Y, n, epochs=epochs, **({"verbose": 0} | options))


def thirds(name, shape, random):
    return random.normal(size=shape) / 3


JOBS = {
    "halving": ({}, {}),
    "all": ({"init": thirds}, {"keep": "all", "threads": 2}),
    "patience": ({"cell": "gru"}, {"optimizer": bf.Adam(0.3), "patience": 2, "validation_split": 0.25}),
    "states": ({}, {"bptt": bf.TruncatedBPTT(3), "stateful": True, "batch_size": 4}),
    "schedule": ({}, {"optimizer": bf.AdamW(bf.Cosine(0.02), gradient_noise=0.01), "rungs": [1, 2, 5]}),
    "second order": ({}, {"optimizer": bf.LBFGS()}),
    "target": ({}, {"optimizer": bf.Adam(0.02), "patience": bf.Stopping(target_loss=0.7)}),
    "settings, diverging": (
        {"nonlinearity": "relu"},
        {"draws": {"learning_rate": [1e-3, 1e30]}, "optimizer": "sgd"},
    ),
    "online": ({"readout": "last"}, {"bptt": bf.SlidingBPTT(3)}),
    "own loss": (
        {},
        {"loss": lambda y, target, weight: (((y - target) ** 2).mean(), 2 * (y - target) / y.size)},
    ),
}


@pytest.mark.parametrize("job", JOBS)
def test_restarts_in_processes(job, loky):
    """The same networks, histories and order as those of threads, with a round of calls for each rung."""
    words, options = JOBS[job]
    there = run(network(**words), **options)
    with joblib.parallel_config(backend="threading"):
        same_restarts(run(network(**words), **options), there)


def test_a_function_that_initialises_reaches_the_workers(loky):
    there = bf.sweep(network(init=thirds), X, Y, **SWEPT)
    with joblib.parallel_config(backend="threading"):
        same_table(bf.sweep(network(init=thirds), X, Y, **SWEPT), there)


def test_large_data_that_processes_share(loky):
    """joblib shares arrays of a megabyte, which nobody can write then."""
    x = np.random.default_rng(0).normal(size=(2000, 70, 2)).astype(np.float32)
    options = {"epochs": 2, "verbose": 0}
    there = bf.restarts(network(), x, x[:, :, :1], 3, **options)
    with joblib.parallel_config(backend="threading"):
        same_restarts(bf.restarts(network(), x, x[:, :, :1], 3, **options), there)


def test_restarts_in_processes_continue_from_a_backup(tmp_path, loky, monkeypatch):
    from bptt_fast.callbacks import BackupAndRestore

    whole, saved = run(), BackupAndRestore.save

    def crash(self, epoch, state):
        saved(self, epoch, state)
        if epoch == 4:
            raise RuntimeError("out of power")

    monkeypatch.setattr(BackupAndRestore, "save", crash)
    with pytest.raises(RuntimeError, match="out of power"):
        run(backup=BackupAndRestore(tmp_path))
    monkeypatch.setattr(BackupAndRestore, "save", saved)
    same_restarts(whole, run(backup=BackupAndRestore(tmp_path)))


def test_max_seconds_in_processes(loky):
    _, table = run(n=3, epochs=10**9, keep="all", patience=bf.Stopping(max_seconds=0.5))
    assert set(table["stopped"]) == {"max_seconds"}


# ---- instruction sets


@pytest.fixture
def workers_of_base(monkeypatch):
    """Processes whose environment asks for the basic instructions, as those of another machine may."""
    from joblib.externals.loky import get_reusable_executor

    machine_for(None, None)  # this process has read its environment
    monkeypatch.setenv("BPTT_FAST_ISA", "base")
    get_reusable_executor().shutdown()
    with joblib.parallel_config(backend="loky", n_jobs=2):
        yield
    get_reusable_executor().shutdown()


@pytest.mark.skipif(len(_core.isas()) == 1, reason="one instruction set")
def test_the_instruction_set_is_that_of_the_caller(workers_of_base):
    """Chosen by an argument, and by default; that of the worker would give other bits."""
    base = run(isa="base")[0]
    for isa in (None, *_core.isas()):
        options = {"isa": isa} if isa else {}
        swept, raced = bf.sweep(network(), X, Y, **SWEPT, **options), run(**options)
        with joblib.parallel_config(backend="threading"):
            same_restarts(run(**options), raced)
            same_table(bf.sweep(network(), X, Y, **SWEPT, **options), swept)
        assert (isa == "base") == np.array_equal(raced[0].params, base.params)


def test_instruction_sets_of_other_machines(monkeypatch):
    """The best one of the caller's machine, also where there is a better one; an error without it."""
    monkeypatch.setattr(_core, "isas", lambda: ["base", "avx2", "avx512"])
    assert [CallersIsa(None, best).here() for best in _core.isas()] == ["base", "avx2", None]
    assert machine_for(1, CallersIsa("avx2", "avx512")) == (1, "avx2")
    monkeypatch.setattr(_core, "isas", lambda: ["base", "avx2"])
    assert CallersIsa(None, "avx2").here() is None
    with pytest.raises(bf.ConfigError, match=r"isa: expected avx512 .* BPTT_FAST_ISA=avx2"):
        CallersIsa(None, "avx512").here()


def test_the_version_is_that_of_the_caller():
    with pytest.raises(bf.ConfigError, match=r"expected version 0\.0\.1 in all processes"):
        backends._call("0.0.1", len, [])


# ---- the backend


def test_the_backend_is_that_of_the_caller():
    """Only where the caller has chosen one: the default of joblib would be processes."""
    assert backends.chosen() is None
    for backend in ("threading", "sequential"):
        with joblib.parallel_config(backend=backend):
            assert backends.chosen() is None
    with joblib.parallel_config(backend="loky"):
        assert backends.chosen().n == joblib.effective_n_jobs()  # not 1, the default of joblib
    with joblib.parallel_config(backend="loky", n_jobs=2):
        assert backends.chosen().n == 2


def test_a_killed_process_and_the_folder(tmp_path, loky):
    """joblib reports the process; the same call continues."""
    marker, here = tmp_path / "killed", os.getpid()

    def loss(y, target, weight):
        if os.getpid() != here and not marker.exists():
            marker.touch()
            os._exit(9)
        return ((y - target) ** 2).mean(), 2 * (y - target) / y.size

    options = {**SWEPT, "loss": loss, "folder": tmp_path / "results"}
    with pytest.raises(joblib.externals.loky.process_executor.TerminatedWorkerError):
        bf.sweep(network(), X, Y, **options)
    there = bf.sweep(network(), X, Y, **options)
    with joblib.parallel_config(backend="threading"):
        same_table(bf.sweep(network(), X, Y, **{**options, "folder": None}), there)


def test_joblib_is_not_imported(python):
    script = """
import sys, numpy as np, bptt_fast as bf
x = np.ones((6, 4, 1))
net = bf.Network(1, 2, 1, seed=0)
bf.sweep(net, x, x[:, 0], cv=2, epochs=1, verbose=0)
bf.restarts(net, x, x[:, 0], 2, epochs=2, verbose=0)
print([name for name in ("joblib", "ray", "distributed", "optuna") if name in sys.modules])
"""
    assert python("-c", script).stdout == "[]\n"


@pytest.mark.parametrize("package, make", [
    ("optuna", lambda: bf.callbacks.OptunaPruning(None)),
    ("ray", lambda: bf.callbacks.RayTuneReport()),
])  # fmt: skip
def test_packages_that_are_not_installed(package, make, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ImportError, match=rf"needs the package {package} .*bptt-fast\[{package}\]"):
        make()
