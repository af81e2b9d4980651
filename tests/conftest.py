"""Where the package under test comes from, child processes that use it, ids, and processes for the suite."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

pytest.register_assert_rewrite("support")

ROOT = Path(__file__).resolve().parents[1]
if not any(
    (ROOT / "bptt_fast").glob("_core*.so")
):  # the checkout has no built core: test the installed package
    sys.path[:] = [folder for folder in sys.path if Path(folder or ".").resolve() != ROOT]

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs begin with it ignored


def short(value):
    """The part of an id for a value: short, and the same in every run.  None: pytest's own is both."""
    if isinstance(value, (bool, int, float, complex, type(None))):
        return str(value)
    if isinstance(value, dict):
        return ",".join(f"{name}={short(item)}" for name, item in value.items())
    if isinstance(value, (tuple, list)) and len(value) <= 5:
        return ",".join(map(short, value))
    if not isinstance(value, str):
        value = getattr(value, "__name__", None) or type(value).__name__
    return re.sub(r"[^\w .,:=+/-]+", "", value, flags=re.ASCII)


def pytest_make_parametrize_id(config, val):
    """Of a value without an id of its own; its type for what is not plain (`ids=` says more)."""
    return short(val)[:30].rstrip(" .,:=") or None


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config):
    """The whole suite: a process for each core, where pytest-xdist is installed and `-n` is not given."""
    option = config.option
    whole = config.args_source is config.ArgsSource.TESTPATHS and not (option.usepdb or option.collectonly)
    if whole and getattr(option, "numprocesses", 0) is None and "PYTEST_XDIST_WORKER" not in os.environ:
        from bptt_fast.machine import machine

        if machine().threads > 1:
            option.numprocesses = min(machine().threads, 8)
            option.dist = "worksteal"


@pytest.fixture
def python(tmp_path):
    """python(*arguments, **options): a finished child Python, in an empty folder, with the same package.

    launcher: the command that starts it, such as mpiexec."""
    import bptt_fast

    folders = [str(Path(bptt_fast.__file__).parents[1]), str(Path(__file__).parent)]

    def call(*arguments, popen=False, env=None, launcher=(), **options):
        command = [*map(str, launcher), sys.executable, *map(str, arguments)]
        options = {
            "cwd": tmp_path,
            "stdout": subprocess.PIPE,
            "stderr": subprocess.PIPE,
            "text": True,
        } | options
        options["env"] = (
            os.environ | {"PYTHONPATH": os.pathsep.join(folders), "MPLBACKEND": "Agg"} | (env or {})
        )
        return (
            subprocess.Popen(command, **options) if popen else subprocess.run(command, timeout=300, **options)
        )

    return call
