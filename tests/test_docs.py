"""What the documents show works: every block of the README and of docs/, every example in a docstring; the
reference names everything public, and says what goes in and comes out.

Blocks of Python and lines of shell run in the order of the page, in one folder.  Of the shell, what begins
with `bptt-fast` runs; the rest installs packages, builds these pages or measures for minutes.
"""

import ast
import doctest
import importlib
import importlib.util
import inspect
import os
import pkgutil
import re
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from support.cases import ROOT

import bptt_fast
from bptt_fast import own_cell

PAGES = [
    *sorted(ROOT.glob("*.md")),
    ROOT / "bench" / "README.md",
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted((ROOT / "docs" / "decisions").glob("*.md")),
]
TEXTS = {str(page.relative_to(ROOT)): page.read_text() for page in PAGES if page.exists()}
README = TEXTS.get("README.md", "")
NEEDS = {"bptt_fast.estimators": "sklearn", "bptt_fast.onnx": "onnx"}  # extras
NEEDS |= {"bptt_fast.torch": "torch", "bptt_fast.torch_cells": "torch", "bptt_fast.sktime": "sktime"}
COMPILER = shutil.which(own_cell._compiler()[0])
MODULES = [m.name for m in pkgutil.iter_modules(bptt_fast.__path__) if m.name not in ("_core", "__main__")]
BLOCK = re.compile(r"^```([^\n]*)\n(.*?)^```$|(?<=\n\n)((?: {4}[^\n]*\n)+)", flags=re.S | re.M)


def blocks(text):
    """The pairs (language, source) of a page, in order: fenced blocks, and indented ones, which are shell."""
    return [(m[1].split(" ")[0], m[2]) if m[3] is None else ("sh", m[3]) for m in BLOCK.finditer(text)]


BLOCKS = {page: blocks(text) for page, text in TEXTS.items()}
WITH_CODE = [page for page, found in BLOCKS.items() if {"python", "sh"} & {language for language, _ in found}]


def there(package):
    return importlib.util.find_spec(package) is not None


def imported(tree):
    """The packages that a block imports, with those that ours need."""
    modules = [node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    modules += [a.name for node in ast.walk(tree) if isinstance(node, ast.Import) for a in node.names]
    return {NEEDS.get(module, module.split(".")[0]) for module in modules}


def run_python(source, name, namespace, skipped):
    """Whether the block was skipped: a package is missing, or a name from a block that was skipped."""
    tree = ast.parse(source, name)
    if not all(map(there, imported(tree))) or ("build_cell" in source and not COMPILER):
        return True
    try:
        exec(compile(tree, name, "exec"), namespace)
    except NameError:
        if not skipped:
            raise
    return skipped


def run_shell(source, name):
    """In a shell that finds a `bptt-fast` of the package under test."""
    script = "\n".join(
        command
        for line in source.replace("\\\n", " ").splitlines()
        if (command := line.strip().removeprefix("$ ")).startswith("bptt-fast ")
    )
    done = subprocess.run(["bash", "-ec", script], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, f"{name}: {script}\n{done.stderr}"


@pytest.fixture
def reader(tmp_path, monkeypatch):
    """A folder with the files that the pages speak of, and the command on the path."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "Agg")
    monkeypatch.setattr(own_cell, "cache_folder", lambda: tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(Path(bptt_fast.__file__).parents[1]))
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    command = tmp_path / "bin" / "bptt-fast"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m bptt_fast "$@"\n')
    command.chmod(0o755)
    hours = np.arange(264)
    table = np.column_stack([10 + 8 * np.sin(hours / 4), 500 + 90 * np.sin(hours / 4 - 1)]).round(2)
    rows = [f"2024-03-{1 + t // 24:02} {t % 24:02}:00,{a:g},{b:g}" for t, (a, b) in enumerate(table)]
    for name, known in (("measured.csv", rows[:240]), ("weather.csv", rows[240:])):
        Path(name).write_text("\n".join(["time,temperature,load", *known]))


def test_the_first_screen_has_the_two_commands():
    first = "\n".join(README.splitlines()[:40])
    assert "python3 -m venv .venv && .venv/bin/pip install . && .venv/bin/bptt-fast demo" in first
    assert 'python3 -m venv .venv && .venv/bin/pip install ".[test]" && .venv/bin/python -m pytest' in first


def test_blocks_are_found():
    text = "a\n\n    bptt-fast x\n    pip y\n\nb\n\n```python\nc\n```\n\n```sh\nd\n```\n"
    assert blocks(text) == [("sh", "    bptt-fast x\n    pip y\n"), ("python", "c\n"), ("sh", "d\n")]
    for page in ("README.md", "docs/unfolding.md", "docs/quickstart.md", "docs/cells.md", "docs/terminal.md"):
        assert page in WITH_CODE


@pytest.mark.slow
@pytest.mark.parametrize("page", WITH_CODE)
def test_blocks(page, reader):
    """One after the other, in one namespace a page, as a reader would."""
    namespace, skipped = {"__name__": "page"}, False
    for n, (language, source) in enumerate(BLOCKS[page], 1):
        name = f"{page}, block {n}"
        if language == "python":
            skipped = run_python(source, name, namespace, skipped)
        elif language == "sh":
            run_shell(source, name)
        elif language == "toml" or (language == "c" and re.match(r"/\* \w+\.h:", source)):
            Path(source.split()[1].rstrip(":")).write_text(source)  # a file, named by its first line
        else:
            assert language in ("{toctree}", "{eval-rst}", "{include}", "c", "cython", "text"), name


@pytest.mark.parametrize("page", TEXTS)
def test_links_lead_somewhere(page):
    text = re.sub(r"^```.*?^```$", "", TEXTS[page], flags=re.S | re.M)
    links = re.findall(r"\]\(([^)#\s]+)", text)
    lost = [a for a in links if "://" not in a and not (ROOT / page).parent.joinpath(a).exists()]
    pages = [f"docs/{a}.md" for a in re.findall(r"\{doc\}`(?:[^`<]*<)?([^`>]+)>?`", text)]
    pages = [a for a in pages if a not in TEXTS and a != "docs/examples/index.md"]
    examples = {f"docs/examples/{example.stem}.md" for example in (ROOT / "examples").glob("*.py")}
    assert not lost + [a for a in pages if a not in examples]


def slugs(text):
    """The anchors of a page's headings, as GitHub and Sphinx make them."""
    headings = re.findall(r"^#+ (.*)$", re.sub(r"^```.*?^```$", "", text, flags=re.S | re.M), flags=re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", TEXTS)
def test_anchors_are_headings(page):
    for path, anchor in re.findall(r"\]\(([^)#\s]*)#([^)\s]+)\)", TEXTS[page]):
        if "://" not in path:
            target = (ROOT / page).parent.joinpath(path) if path else ROOT / page
            assert anchor in slugs(target.read_text(encoding="utf-8")), f"{page}: {path}#{anchor}"


@pytest.mark.parametrize("module", MODULES)
def test_docstrings(module, tmp_path, monkeypatch):
    package = NEEDS.get(f"bptt_fast.{module}")
    if package and not there(package):
        pytest.skip(f"needs {package}")
    monkeypatch.chdir(tmp_path)
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    for example in doctest.DocTestFinder().find(importlib.import_module(f"bptt_fast.{module}")):
        tree = ast.parse("".join(line.source for line in example.examples))
        if all(map(there, imported(tree))):
            runner.run(example)
    assert runner.summarize(verbose=False).failed == 0


def test_public_things_are_documented_with_an_example():
    for name in bptt_fast.__all__:
        thing = getattr(bptt_fast, name)
        if callable(thing) and not (isinstance(thing, type) and issubclass(thing, Exception)):
            assert thing.__doc__ and ">>> " in thing.__doc__, name


# ---- the built pages

LOADED = re.compile(
    r"""<(?:script|link|img|iframe|video|object)\b[^>]*\b(?:src|href|data)=["']?(?:https?:)?//"""
)


def test_what_pages_load_is_found():
    assert LOADED.search('<script async="async" src="https://cdn.example/mathjax.js">')
    assert LOADED.search('<link rel="stylesheet" href="//cdn.example/a.css" />')
    assert not LOADED.search('<a href="https://example.com">x</a><script src="_static/a.js">')


@pytest.mark.slow
def test_pages_load_nothing_from_a_network_and_throw_nothing(tmp_path, python):
    """Built with the settings of the documentation: a page with formulas, one with code, and the gallery."""
    for package in ("sphinx", "furo", "myst_parser", "sphinx_copybutton", "sphinx_design", "latex2mathml"):
        pytest.importorskip(package)
    pytest.importorskip("sphinx_gallery")
    source, pages = tmp_path / "source", tmp_path / "pages"
    source.mkdir()
    for name in ("cells.md", "unfolding.md"):
        text = TEXTS[f"docs/{name}"]
        (source / name).write_text(re.sub(r"\{doc\}`|!?\[[^]]*\]\([^)]*\)", "`", text))
    (source / "index.md").write_text("# Pages\n\n```{toctree}\ncells\nunfolding\nexamples/index\n```\n")
    done = python("-m", "sphinx", "-q", "-c", ROOT / "docs", "-D", "plot_gallery=0", source, pages)
    assert done.returncode == 0, done.stderr
    found = {str(page.relative_to(pages)): page.read_text() for page in pages.rglob("*.html")}
    assert found["cells.html"].count("<math") > 100 and "examples/sine.html" in found
    assert not {page: LOADED.findall(text) for page, text in found.items() if LOADED.search(text)}
    if chromium := shutil.which("chromium"):
        for page in ("cells.html", "examples/sine.html"):
            options = ["--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--dump-dom"]
            command = [chromium, *options, "--virtual-time-budget=3000", f"file://{pages / page}"]
            done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
            assert "copybtn" in done.stdout and "CONSOLE" not in done.stderr


# ---- the reference


def reference():
    """The full names that docs/api.md lists."""
    found, module = [], ""
    for line in TEXTS["docs/api.md"].splitlines():
        if line.startswith(".. currentmodule:: "):
            module = line.split()[-1]
        elif re.fullmatch(r"   \w[\w.]*", line):
            found.append(f"{module}.{line.strip()}")
    return found


def public(module):
    """The names that a module says are public, or else defines without an underscore."""
    defined = (n for n, thing in vars(module).items() if getattr(thing, "__module__", "") == module.__name__)
    names = getattr(module, "__all__", None) or [n for n in defined if n[0] != "_"]
    return {f"{module.__name__}.{name}" for name in names}


def test_the_reference_names_everything_public():
    modules = {name for name in bptt_fast.__all__ if inspect.ismodule(getattr(bptt_fast, name))}
    wanted = public(bptt_fast) - {f"bptt_fast.{name}" for name in ("__version__", *modules)}
    for module in ("diagnostics", "metrics", "plots", "estimators", "torch"):
        if there(NEEDS.get(f"bptt_fast.{module}", "bptt_fast")):
            wanted |= public(importlib.import_module(f"bptt_fast.{module}"))
    assert wanted - {"bptt_fast.torch.from_torch"} <= set(reference())  # that is bptt_fast.from_torch


MADE_BY_US = {
    "Acceleration",
    "Backtest",
    "History",
    "Restarts",
    "Sweep",
    "Sequences",
    "FixedPoints",
    "GradientFlow",
    "Dynamics",
    "Conditioning",
    "Surface",
}
INTERNAL = runpy.run_path(str(ROOT / "docs" / "conf.py"))["INTERNAL"]


def documented(name):
    """A name of the reference, and its public methods."""
    path = name.split(".")
    module = importlib.import_module(".".join(path[:2]) if len(path) > 2 else path[0])
    thing = getattr(module, path[-1])
    yield name
    if inspect.isclass(thing):
        for method, function in vars(thing).items():
            hook = method.startswith("on_") and path[-1] != "Callback"  # documented by the base
            if inspect.isfunction(function) and not (method[0] == "_" or method in INTERNAL or hook):
                yield f"{name}.{method}"


@pytest.mark.parametrize("name", reference())
def test_docstrings_say_what_goes_in_and_comes_out(name):
    """numpydoc: a docstring for each, every argument, once, and result in it, and no other argument."""
    validate = pytest.importorskip("numpydoc.validate").validate
    NumpyDocString = pytest.importorskip("numpydoc.docscrape").NumpyDocString
    module = name.rpartition(".")[0]
    if not there(package := NEEDS.get(module, "bptt_fast")):
        pytest.skip(f"needs {package}")
    importlib.import_module(module)
    wrong = []
    for one in documented(name):
        made = name.split(".")[-1] in MADE_BY_US and one == name
        codes = ("GL08", "PR02", "RT01") if made else ("GL08", "PR01", "PR02", "RT01")
        found = [text for code, text in validate(one)["errors"] if code in codes]
        if one.startswith("bptt_fast.Network."):  # `net` is what `self` is in a function bound to the class
            found = [text for text in found if text != "Parameters {'net'} not documented"]
        wrong += [f"{one}: {text}" for text in found]
        text = validate(one)["docstring"]
        if re.search(r"(?<![\w|])\|(?=[^\s|])", re.sub(r"``[^`]*``|>>>.*", "", text)):
            wrong.append(f"{one}: expected ``|x|`` in literal marks, as Sphinx takes bars for a substitution")
        rows = NumpyDocString(text)["Parameters"]
        names = [argument for row in rows for argument in row.name.split(", ")]
        wrong += [f"{one}: {argument} twice" for argument in names if names.count(argument) > 1]
    assert not wrong
