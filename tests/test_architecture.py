"""Who may know whom, and what C may not do: the rules of the design, read from the sources."""

import ast
import re
import sys
from pathlib import Path

import pytest
from support.cases import ROOT

PACKAGE, C = ROOT / "bptt_fast", ROOT / "csrc"
PYTHON = sorted(path.stem for path in PACKAGE.glob("*.py"))
OUTSIDE = {"sklearn", "pandas", "matplotlib", "torch", "scipy", "jax", "safetensors", "tqdm", "tensorboardX"}
OUTSIDE |= {"onnx", "onnxruntime", "polars", "pyarrow", "joblib", "optuna", "ray", "sktime", "mpi4py"}
# a face of another library, which nothing else imports: what comes with it
FACES = {"estimators": {"sklearn", "scipy"}, "onnx": {"onnx"}, "torch": {"torch"}, "torch_cells": {"torch"}}
FACES |= {"sktime": {"sktime", "pandas"}}
# from the bottom to the top: a module knows modules on floors below its own, imports inside functions counted
FLOORS = (
    {"suggestions"},
    {"choices", "errors", "interface", "interrupts", "notebook", "version"},
    {"distributions", "resuming"},
    {"columns", "initialisation", "losses", "machine", "schedules", "stopping"}
    | {"ranks", "times", "writing"},
    {"backends", "data", "description", "files", "own_cell"},
    {"metrics", "plans", "rules", "series", "torch_cells"},
    {"folds", "own_loss", "sources"},
    {"model", "runners"},
    {"second_order", "storage", "unfolding"},
    {"inference", "optimizers"},
    {"diagnostics", "online", "onnx", "torch"},
    {"convert", "persistence", "plots"},
    {"callbacks"},
    {"fit"},
    {"settings"},
    {"network", "restarting", "sweeps"},
    {"estimators", "forecasting"},
    {"backtesting", "sktime"},
    {"__init__"},
    {"demo", "tabular"},
    {"cli"},
    {"__main__"},
)
FLOOR = {module: number for number, floor in enumerate(FLOORS) for module in floor}


class Imports(ast.NodeVisitor):
    """(module, whether inside a function) of every import that runs."""

    def __init__(self, source):
        self.found, self.depth = [], 0
        self.visit(ast.parse(source))

    def visit_FunctionDef(self, node):
        self.depth += 1
        self.generic_visit(node)
        self.depth -= 1

    def visit_If(self, node):
        for child in node.orelse if "TYPE_CHECKING" in ast.unparse(node.test) else [*node.body, *node.orelse]:
            self.visit(child)

    def visit_Import(self, node):
        self.found += [(alias.name, self.depth > 0) for alias in node.names]

    def visit_ImportFrom(self, node):
        if node.level and node.module is None:
            known = {
                alias.name if (PACKAGE / f"{alias.name}.py").exists() or alias.name == "_core" else "__init__"
                for alias in node.names
            }
            self.found += [(f".{name}", self.depth > 0) for name in known]
        else:
            self.found.append(("." * node.level + (node.module or ""), self.depth > 0))


def imports(module):
    """(name, inside a function): names of the package without their dot, the others with a leading '/'."""
    for name, inside in Imports((PACKAGE / f"{module}.py").read_text()).found:
        own = name.startswith(".") or name.split(".")[0] == "bptt_fast"
        name = name.removeprefix("bptt_fast").lstrip(".").split(".")[0] or "__init__"
        yield (name if own else f"/{name}"), inside


def test_the_floors_have_every_module():
    assert set(PYTHON) == set(FLOOR)


@pytest.mark.parametrize("module", PYTHON)
def test_a_module_knows_the_floors_below(module):
    for name, inside in imports(module):
        if name.startswith("/"):
            assert inside or name[1:] not in OUTSIDE - FACES.get(module, set()), (
                f"{module} imports {name[1:]} when it is imported"
            )
        elif name != "_core":
            assert FLOOR[name] < FLOOR[module], f"{module} may not know {name}, which is not below it"


def test_the_package_file_only_lists_names():
    tree = ast.parse((PACKAGE / "__init__.py").read_text())
    (late,) = (node for node in tree.body if isinstance(node, ast.If))
    assert ast.unparse(late.test) == "TYPE_CHECKING"
    assert {type(node) for node in tree.body} <= {ast.Expr, ast.ImportFrom, ast.Assign, ast.If}
    assert [type(node) for node in late.orelse] == [ast.Assign, ast.FunctionDef, ast.FunctionDef]
    import bptt_fast

    assert all(hasattr(bptt_fast, name) for name in bptt_fast.__all__)
    # what type checkers read is what comes when it is used
    seen = {alias.name: node.module or alias.name for node in late.body for alias in node.names}
    assert seen == bptt_fast._MODULE_OF
    # else the import system would put the module in place of the function
    assert not [name for name, home in seen.items() if name != home and name in PYTHON]
    assert all(FLOOR[home] < FLOOR["__init__"] for home in seen.values())


def test_dir_shows_what_is_public(python):
    """Where PyTorch is missing its module is not shown, and says why."""
    code = """
import sys
if "torch" in sys.argv:
    sys.modules.update(dict.fromkeys(("torch", "sklearn", "sktime")))
import bptt_fast as bf
print(*dir(bf))
for name in sys.argv[1:]:
    try:
        getattr(bf, name)
    except (AttributeError, ImportError) as error:
        print(type(error).__name__, error)
"""
    import bptt_fast

    shown, misspelt = python("-c", code, "Netwrok").stdout.splitlines()
    assert {*bptt_fast.__all__} <= {*shown.split()} <= {*bptt_fast.__all__, *FACES}
    assert not [name for name in shown.split() if name.startswith("_") and name != "__version__"]
    assert misspelt == "AttributeError module 'bptt_fast' has no attribute 'Netwrok'"
    shown, torch, estimators = python("-c", code, "torch", "estimators").stdout.splitlines()
    assert sorted(shown.split()) == sorted(bptt_fast.__all__)
    assert torch.startswith("ImportError bptt_fast.torch needs PyTorch") and "bptt-fast[torch]" in torch
    assert estimators.startswith("ImportError bptt_fast.estimators needs scikit-learn")


@pytest.mark.parametrize("name", ["Restarts", "cross_validate", "diagnostics", "plots"])
def test_a_name_comes_when_it_is_used(python, name):
    """Whichever comes first, a function is never replaced by a module."""
    code = f"""
import bptt_fast as bf
bf.{name}
import bptt_fast.restarting, bptt_fast.sweeps
from bptt_fast import *
print(bf.{name} is {name}, callable(bf.restarts), callable(bf.sweep), callable(bf.backtest), callable(load))
"""
    assert python("-c", code).stdout.split() == ["True"] * 5


def test_the_core_knows_no_python_module_of_the_package():
    source = (PACKAGE / "_core.pyx").read_text()
    found = re.findall(r"^\s*(?:from|import|cimport)\s+([\w.]+)", source, flags=re.M)
    assert found and not [name for name in found if name.startswith((".", "bptt_fast"))]
    headers = set(re.findall(r'cdef extern from "([^"]+)"', source + read(*PACKAGE.glob("*.pxd"))))
    assert headers and {name for name in headers if "/" in name or name.startswith("bptt")} <= {
        "bptt.h",
        "csrc/bptt.h",
        "../csrc/bptt.h",
    }


def read(*paths):
    return "\n".join(path.read_text() for path in paths)


def code(path):
    """A C file without comments and without the text of strings."""
    text = re.sub(r"/\*.*?\*/|//[^\n]*", " ", path.read_text(), flags=re.S)
    return re.sub(r'"(?:[^"\\]|\\.)*"', lambda m: m.group() if m.group().endswith('.h"') else '""', text)


SOURCES = sorted([*C.rglob("*.c"), *C.rglob("*.h")])
MEMORY = {"malloc", "calloc", "realloc", "free", "aligned_alloc", "posix_memalign", "alloca"}
OUTSIDE_WORLD = (
    "printf fprintf puts putchar perror fopen exit _exit abort assert getenv setenv time rand srand"
)
FORBIDDEN = rf"\b({'|'.join([*MEMORY, *OUTSIDE_WORLD.split()])})\s*\("


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(C)))
def test_c_only_computes(path):
    """No allocation, output, exit or environment, and no state between runs (the pool of threads aside)."""
    text = code(path)
    found = set(re.findall(FORBIDDEN, text))
    pool = path.name in ("threads.c", "wait.h")
    assert found <= (MEMORY if pool else set()), found
    if not pool:
        state = re.findall(
            r"^\s*(?:static|_Thread_local|__thread)\s+(?!const\b|inline\b|.*\bconst\b)[^(){}]*[;=]",
            text,
            flags=re.M,
        )
        assert not state, state


# Nothing outside the kernels computes with vectors or has nonlinearities.
KERNELS_ONLY = r"\bV\b|_mm\d*_|immintrin|\bexpf?\s*\("
NO_CALLER = r"bptt_|pthread|malloc"
# file: (what it may include of csrc, words it may not contain)
C_RULES = {
    "elementwise.h": ("", NO_CALLER),
    "scan.h": ("real.h frame.h gemm.h elementwise.h", NO_CALLER),
    "mlp.h": ("real.h frame.h gemm.h", NO_CALLER),
    "gemm.h": ("real.h frame.h", NO_CALLER),
    "pattern.h": ("", NO_CALLER),
    "copies.h": ("", NO_CALLER),
    "curvature.h": ("real.h frame.h gemm.h", NO_CALLER),
    # the description and the plan
    "lists.c": ("plan.h status.def desc.def losses.def optimizers.def activations.def", KERNELS_ONLY),
    "instances.c": ("plan.h", r"\bV\b|_mm\d*_|immintrin"),
    "blocks.c": ("plan.h", KERNELS_ONLY),
    "description.c": ("plan.h", KERNELS_ONLY),
    "plan.c": ("plan.h integers.h", KERNELS_ONLY),
    # what all runs share
    "batches.c": ("run.h", KERNELS_ONLY),
    "shuffle.c": ("bptt.h", r"\breal\b|plan|run\b|" + KERNELS_ONLY),
    "states.c": ("run.h", KERNELS_ONLY),
    "embeddings.c": ("run.h", KERNELS_ONLY),
    "layers.c": ("run.h", KERNELS_ONLY),
    "head.c": ("run.h", KERNELS_ONLY),
    "update.c": ("update.h integers.h optimizers.def", KERNELS_ONLY),
    # unfoldings
    "shards.c": ("training.h", KERNELS_ONLY),
    "truncated.c": ("training.h", KERNELS_ONLY),
    "checkpoint.c": ("training.h", KERNELS_ONLY),
    "closed_loop.c": ("training.h", KERNELS_ONLY),
    # verbs
    "epoch.c": ("training.h", KERNELS_ONLY),
    "inference.c": ("run.h update.h", KERNELS_ONLY),
    "autodiff.c": ("run.h update.h", KERNELS_ONLY),
    "online.c": ("run.h update.h", KERNELS_ONLY),
    "copies.c": ("run.h update.h", KERNELS_ONLY),
    "stream.c": ("run.h update.h", KERNELS_ONLY),
    "curvature.c": ("run.h update.h", KERNELS_ONLY),
    # what they include
    "threads.c": ("threads.h system.h wait.h", r"\bV\b|bptt_|immintrin"),
    "plan.h": ("bptt.h frame.h threads.h optimizers.def", KERNELS_ONLY),
    "run.h": ("integers.h plan.h threads.h", KERNELS_ONLY),
    "update.h": ("run.h", KERNELS_ONLY),
    "training.h": ("run.h update.h", KERNELS_ONLY),
}


def test_every_c_file_has_a_rule():
    assert {path.name for path in C.glob("*.c")} <= set(C_RULES)


@pytest.mark.parametrize("name", [n for n in C_RULES if (C / n).exists()])
def test_c_files_know_what_they_may(name):
    included, words = C_RULES[name]
    text = code(C / name)
    found = re.findall(r'#\s*include\s+"([^"]+)"', (C / name).read_text())
    assert set(found) <= set(included.split())
    assert not re.findall(words, text)


CELLS = sorted((C / "cells").glob("*.h"))


@pytest.mark.parametrize("path", CELLS, ids=lambda path: path.stem)
def test_a_cell_is_its_mathematics(path):
    """No threads, libm, dtype or instruction set in the file; no time, batch, memory in the two functions."""
    text = code(path)
    words = r"pthread|\bf(32|64)\b|avx|sse\d|_mm|\b(tanh|exp)f?\s*\(|\b(double|float)\b"
    assert not re.findall(words, text)
    pure = re.findall(rf"INLINE void {path.stem}_(?:forward|backward)\(.*?\n}}", text, flags=re.S)
    assert len(pure) == 2 or f"{path.stem}_scan_forward" in text
    assert not re.findall(r"\bfor\b|\bwhile\b|->|\b[TBtb]\b|\breal\b", "".join(pure))


@pytest.mark.parametrize("path", sorted(C.rglob("*.[ch]")), ids=lambda path: path.name)
def test_comments_in_c_name_files_that_there_are(path):
    comments = " ".join(re.findall(r"/\*.*?\*/", path.read_text(), re.S))
    named = set(re.findall(r"\b\w+\.(?:c|h|def)\b", comments))
    assert named <= {file.name for file in C.rglob("*.*")}


def test_flags():
    """Nothing that changes floating-point semantics for the process or ties the build to this machine."""
    flags = read(ROOT / "setup.py", ROOT / "pyproject.toml")
    assert not re.findall(r"-ffast-math|-Ofast|-march=native|-funsafe|-mdaz|openmp", flags)
    assert len((ROOT / "setup.py").read_text().splitlines()) < 120


def test_import_is_light(python):
    """Neither other packages nor what a network does not need, also after training."""
    code = """
import sys, bptt_fast as bf
print(*sys.modules)
x = [[[0.5]], [[1.0]]]
net = bf.Network(1, 2, 1)
net.fit(x, [[0.0], [1.0]], verbose=0)
net.predict(x)
print(*sys.modules)
"""
    import bptt_fast

    for line in python("-c", code).stdout.splitlines():
        modules = {name for name in line.split() if "." not in name or name.startswith("bptt_fast.")}
        assert {"bptt_fast", "bptt_fast.fit", "numpy"} <= modules
        unwanted = {*OUTSIDE, "zipfile", *(f"bptt_fast.{home}" for home in bptt_fast._MODULE_OF.values())}
        assert not modules & unwanted


def test_no_threads_before_the_first_run(python):
    if not sys.platform.startswith("linux"):
        pytest.skip("reads /proc")
    count = "print(len(os.listdir('/proc/self/task')))"
    before, after = python("-c", f"import os, numpy; {count}; import bptt_fast; {count}").stdout.split()
    assert before == after


def test_every_status_has_its_words():
    from support import cases

    names = re.findall(r"^STATUS\((\w+),", (C / "status.def").read_text(), flags=re.M)
    texts = {cases.core().message(name) for name in names}
    assert len(texts) == len(names) >= 8


def test_the_names_in_types_are_those_that_run():
    """Type checkers cannot read the lists of the core and the tables of classes."""
    from typing import get_args

    from support import cases

    from bptt_fast import choices, optimizers

    second = set(optimizers.NAMES) - set(optimizers.OPTIMIZERS)
    assert set(get_args(choices.CoreCell)) == set(cases.core().cells())
    assert get_args(choices.Nonlinearity) == cases.core().activations()
    assert get_args(choices.LossName) == tuple(cases.core().losses())
    assert get_args(choices.FirstOrderName) == tuple(optimizers.OPTIMIZERS)
    first, others = get_args(choices.OptimizerName)
    assert first == choices.FirstOrderName and set(get_args(others)) == second


# ---- the tests


TESTS = sorted(Path(__file__).parent.glob("test_*.py"))


@pytest.mark.parametrize("path", TESTS, ids=lambda path: path.stem)
def test_a_test_file_imports_no_other(path):
    """What test files share lies in tests/support."""
    found = {name.split(".")[0] for name, _ in Imports(path.read_text()).found}
    assert not found & {"tests", *(other.stem for other in TESTS)}


def test_the_support_imports_no_test_file():
    for path in (Path(__file__).parent / "support").glob("*.py"):
        assert not re.search(r"^\s*(?:from|import) .*\btest_", path.read_text(), flags=re.M), path.name


def test_ids_are_short_and_stable(request):
    """No object's address, no numbers of an array, nothing that a terminal would wrap."""
    ids = [item.nodeid.partition("[")[2] for item in request.session.items]
    assert not [one for one in ids if len(one) > 75 or re.search(r"0x[0-9a-f]|\\\\|array\(|<", one)]
