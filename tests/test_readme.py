"""What the documents show works: every Python block of the README, every example in a docstring."""

import doctest
import importlib
import importlib.util
import pkgutil
import re

import pytest
from cases import ROOT

import bptt_fast

README = (ROOT / "README.md").read_text() if (ROOT / "README.md").exists() else ""
BLOCKS = re.findall(r"```python\n(.*?)```", README, flags=re.S)
NEEDS = {"estimators": "sklearn"}  # modules that need an extra
MODULES = [m.name for m in pkgutil.iter_modules(bptt_fast.__path__) if m.name not in ("_core", "__main__")]


def there(package):
    return importlib.util.find_spec(package) is not None


def test_the_first_screen_has_the_two_commands():
    first = "\n".join(README.splitlines()[:40])
    assert "python3 -m venv .venv && .venv/bin/pip install . && .venv/bin/bptt-fast demo" in first
    assert 'python3 -m venv .venv && .venv/bin/pip install ".[test]" && .venv/bin/python -m pytest' in first


def test_there_are_blocks():
    assert len(BLOCKS) >= 1


def test_blocks_of_the_readme(tmp_path, monkeypatch, capsys):
    """In one namespace, one after the other, as a reader would."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "Agg")
    namespace = {"__name__": "readme"}
    for n, block in enumerate(BLOCKS, 1):
        if any(f"bptt_fast.{module}" in block and not there(NEEDS[module]) for module in NEEDS):
            continue
        exec(compile(block, f"README.md, block {n}", "exec"), namespace)
    assert "bf" in namespace


@pytest.mark.parametrize("module", MODULES)
def test_docstrings(module, tmp_path, monkeypatch):
    if module in NEEDS and not there(NEEDS[module]):
        pytest.skip(f"needs {NEEDS[module]}")
    monkeypatch.chdir(tmp_path)
    failed, _ = doctest.testmod(importlib.import_module(f"bptt_fast.{module}"), optionflags=doctest.ELLIPSIS)
    assert failed == 0


def test_public_things_are_documented_with_an_example():
    for name in bptt_fast.__all__:
        thing = getattr(bptt_fast, name)
        if callable(thing) and not (isinstance(thing, type) and issubclass(thing, Exception)):
            assert thing.__doc__ and ">>> " in thing.__doc__, name
