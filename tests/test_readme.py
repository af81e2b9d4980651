"""What the documents show works: every Python block of the README, every example in a docstring."""

import doctest
import importlib
import importlib.util
import pkgutil
import re

import pytest
from cases import ROOT

import bptt_fast

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
TEXTS = {str(page.relative_to(ROOT)): page.read_text() for page in PAGES if page.exists()}
README = TEXTS.get("README.md", "")
BLOCKS = {name: re.findall(r"```python\n(.*?)```", text, flags=re.S) for name, text in TEXTS.items()}
NEEDS = {"estimators": "sklearn", "onnx": "onnx"}  # modules that need an extra
MODULES = [m.name for m in pkgutil.iter_modules(bptt_fast.__path__) if m.name not in ("_core", "__main__")]


def there(package):
    return importlib.util.find_spec(package) is not None


def test_the_first_screen_has_the_two_commands():
    first = "\n".join(README.splitlines()[:40])
    assert "python3 -m venv .venv && .venv/bin/pip install . && .venv/bin/bptt-fast demo" in first
    assert 'python3 -m venv .venv && .venv/bin/pip install ".[test]" && .venv/bin/python -m pytest' in first


def test_there_are_blocks():
    assert BLOCKS["README.md"] and BLOCKS["docs/unfolding.md"]


@pytest.mark.parametrize("page", [page for page, blocks in BLOCKS.items() if blocks])
def test_blocks(page, tmp_path, monkeypatch, capsys):
    """In one namespace a page, one after the other, as a reader would."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "Agg")
    namespace = {"__name__": "page"}
    for n, block in enumerate(BLOCKS[page], 1):
        if any(f"bptt_fast.{module}" in block and not there(NEEDS[module]) for module in NEEDS):
            continue
        exec(compile(block, f"{page}, block {n}", "exec"), namespace)
    assert "bf" in namespace


@pytest.mark.parametrize("page", TEXTS)
def test_links_lead_somewhere(page):
    links = re.findall(r"\]\(([^)#\s]+)", TEXTS[page])
    lost = [a for a in links if "://" not in a and not (ROOT / page).parent.joinpath(a).exists()]
    assert not lost


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
