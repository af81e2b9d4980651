"""Cells of the user's own: compiled from a header like those of csrc/cells, checked, and known by name.

A cell is code that runs in this process.  Only `build_cell` compiles and loads one; model files have its name
and the digest of its text, never the text.
"""

from __future__ import annotations

import os
import re
import sys
import threading
from contextlib import ExitStack
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from . import _core  # type: ignore[attr-defined]
from .choices import OwnCell
from .errors import CellError, ConfigError, suggesting
from .initialisation import CELLS
from .interface import interface
from .machine import get_include, machine
from .writing import named

Array = np.ndarray[Any, Any]

CHECKSUM = "sha256"  # the file in a cell's folder with the checksum of its library
# properties that need loops over time or options of their own
RESERVED = ("OWN_LOOP", "HIDDEN_LAYERS", "TWO_PRODUCTS", "FOLLOWS")
EPSILON, TOLERANCE, TINY = 1e-5, 1e-6, 1e-9  # of finite differences in float64
SINGLE = 1e-2  # largest error of float32, relative to the largest entry of a block
_building = threading.Lock()


@suggesting
def build_cell(path: str | os.PathLike[str]) -> OwnCell:
    """Compile a cell of your own, check its gradient, and make it known by its name.

    The file is a header like those in the folder ``cells`` of `get_include`: the macros GATES, STATES, ...
    say what the cell has, and the functions ``<name>_forward`` and ``<name>_backward`` are its mathematics on
    vectors of units; see docs/own_cell.md.  The C compiler is that of the variable CC, or else the one that
    built Python's extensions.  Compilation takes some seconds; the result is kept in the user's cache folder,
    so that the next call with the same text takes milliseconds.

    A cell is code that runs in this process, as an extension module does: build only headers that you trust.
    Files of networks contain the name of the cell and a checksum of its text; to load one, build the cell
    first.

    Parameters
    ----------
    path : str or path-like
        The header, ``<name>.h``; a name of letters, digits and underscores that no other cell has.  All that
        it needs is in it: it can't include other files of its folder.

    Returns
    -------
    name : str
        The name of the cell, for ``Network(..., cell=name)`` in this process.

    Raises
    ------
    CellError
        If a definition is missing, there is no compiler, it reports an error (the message is in the text), or
        the gradient is wrong: in float64 for each parameter and each initial state it is compared with finite
        differences, in float32 with that.
    ConfigError
        If `path` is not a path, the name is not one of C, or there is such a cell already with another text.
    OSError
        If the file cannot be read.

    Examples
    --------
    >>> import bptt_fast as bf
    >>> name = bf.build_cell("my_cell.h")  # doctest: +SKIP
    >>> net = bf.Network(2, 16, 1, cell=name)  # doctest: +SKIP
    """
    file = named(path)
    name = Path(file).stem
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name, re.ASCII) or not file.endswith(".h"):
        raise ConfigError(
            f"{file}: expected a name of C, which becomes the name of the cell, and .h, got "
            f"{os.path.basename(file)!r}.  Example: my_cell.h."
        )
    with open(file, "rb") as opened:
        content = opened.read()
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        raise CellError(f"{file}: expected text in UTF-8, got something else ({error}).") from None
    digest = sha256(_essential(text).encode()).hexdigest()
    with _building:
        if name in CELLS:
            if CELLS[name].get("digest") != digest:
                raise ConfigError(
                    f"{file}: expected a name that no cell has, got {name!r}, which is "
                    + (
                        "already built from another text.  Use another name, or a new process."
                        if "digest" in CELLS[name]
                        else "a cell of this package.  Use another name."
                    )
                )
            return OwnCell(name)
        _check_text(file, name, _essential(text))
        own = _loaded(file, name, text)
        _check_gradient(file, name, own)
        properties = own.properties | {"own_cell": own, "digest": digest}
        del properties["name"]
        CELLS[name] = properties
    return OwnCell(name)


# ---- the text


def _essential(text: str) -> str:
    """The text without comments, blank lines and other space that means nothing."""
    text = re.sub(r"/\*.*?\*/|//[^\n]*", " ", text.replace("\r\n", "\n"), flags=re.DOTALL)
    lines = (" ".join(line.split()) for line in text.split("\n"))
    return "\n".join(line for line in lines if line)


def _check_text(file: str, name: str, text: str) -> None:
    """Raise a CellError unless a text without comments defines what a cell needs, and nothing reserved."""
    functions = [f"{name}_forward", f"{name}_backward"]
    missing = [macro for macro in ("GATES", "STATES") if not _defines(text, macro)]
    missing += [function for function in functions if not re.search(rf"\b{function} ?\(", text)]
    if missing:
        raise CellError(
            f"{file}: expected definitions of GATES, STATES, {functions[0]} and {functions[1]}, got no "
            f"{', '.join(missing)}.  The name of the file is that of the cell."
        )
    for macro in RESERVED:
        if _defines(text, macro):
            raise CellError(
                f"{file}: expected a cell without {macro}, which only the cells of the package have.  Remove "
                f"the definition."
            )


def _defines(text: str, macro: str) -> bool:
    return re.search(rf"^# ?define {macro}\b", text, flags=re.MULTILINE) is not None


# ---- the compiler


def _loaded(file: str, name: str, text: str) -> Any:
    """The cell for the core, from the cache or compiled."""
    import ctypes

    csrc = Path(get_include())
    number = interface(csrc)
    if number != _core.INTERFACE:
        raise CellError(
            f"build_cell: expected in {csrc} the headers that the core was compiled from, got others.  Build "
            f"or install the package again."
        )
    isa = machine().isa or _core.isas()[-1]
    instances = [
        f"{dtype}_{isa}{lanes}"
        for dtype in ("f32", "f64")
        for lanes in ("", "_rows")
        if (csrc / "instances" / f"{dtype}_{isa}{lanes}.c").exists()
    ]
    command = _compiler()
    flags = [*(csrc / "flags").read_text(encoding="ascii").split(), "-fPIC", "-g0"]
    flags += ["-Werror=implicit-function-declaration", f"-DOWN_CELL={name}", f"-DBPTT_INTERFACE={number}u"]
    sources = [csrc / "instances" / f"{instance}.c" for instance in instances]
    made_from = [source.read_text(encoding="utf-8") for source in (csrc / "own_cell.h", *sources)]
    key = sha256(repr([command, flags, sys.platform, *made_from, _essential(text)]).encode()).hexdigest()
    library = _cached(
        f"{name}-{key[:32]}",
        f"{name}.so",
        lambda folder: _compile(file, name, text, csrc, command, flags, sources, folder),
    )
    try:
        loaded = ctypes.CDLL(str(library))
        table = ctypes.addressof(ctypes.c_char.in_dll(loaded, "bptt_own_cell_table"))
        return _core.OwnCell(table, loaded)
    except (OSError, ValueError) as error:
        raise CellError(
            f"{file}: expected a library that this process can load, got {library}: {error}.  Is "
            f"{' '.join(command)} a compiler for this Python?"
        ) from None


def _compiler() -> list[str]:
    """The command of the C compiler, with what CC says besides."""
    import shlex
    import sysconfig

    words = os.environ.get("CC", "").strip() or sysconfig.get_config_var("CC") or "gcc"
    return shlex.split(words, posix=os.name == "posix")


def _compile(
    file: str,
    name: str,
    text: str,
    csrc: Path,
    command: list[str],
    flags: list[str],
    sources: list[Path],
    folder: Path,
) -> None:
    """Compile the library <name>.so in a folder of its own, all instances at the same time."""
    import shutil

    if not shutil.which(command[0]):
        raise CellError(
            f"build_cell: expected the C compiler {command[0]!r}, which was not found.  Install gcc (10 or "
            f"later) or clang (14 or later), or name one by the variable CC."
        )
    quoted = file.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    (folder / "cells").mkdir()
    # errors are to name the lines of the user's file
    (folder / "cells" / f"{name}.h").write_text(f'#line 1 "{quoted}"\n{text}\n', encoding="utf-8")
    each = " ".join(f"X({source.stem})" for source in sources)
    (folder / "table.c").write_text(f'#define EACH_INSTANCE(X) {each}\n#include "own_cell.h"\n')
    compiler = [*command, *flags, f"-I{folder}", f"-I{csrc}"]
    objects = [f"{source.stem}.o" for source in sources]
    _run(
        file,
        folder,
        [[*compiler, "-c", str(source), "-o", out] for source, out in zip(sources, objects, strict=True)],
    )
    static = ["-static"] if sys.platform == "win32" else []
    _run(file, folder, [[*compiler, "-shared", *static, "table.c", *objects, "-o", f"{name}.so", "-lm"]])


def _run(file: str, folder: Path, commands: list[list[str]]) -> None:
    """Run compilers at the same time; raises a CellError with all that the first one that fails says."""
    import subprocess

    environment = os.environ | {"LC_ALL": "C"}
    with ExitStack() as stack:
        running = []
        for command in commands:
            process = subprocess.Popen(
                command,
                cwd=folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
            )
            stack.enter_context(process)
            stack.callback(process.kill)  # first, in case of an error or of Ctrl-C
            running.append(process)
        for process in running:
            said = process.communicate()[0].decode(errors="replace")
            if process.returncode:
                raise CellError(
                    f"{file}: expected a cell that {commands[0][0]} compiles, got its error "
                    f"{process.returncode}:\n{said}"
                )


# ---- the cache


def cache_folder() -> Path:
    """The folder of compiled cells: in the user's cache folder, or if that is read-only a temporary one."""
    import atexit
    import shutil
    import tempfile

    try:
        if sys.platform == "win32":
            above = os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local"
        elif sys.platform == "darwin":
            above = Path.home() / "Library" / "Caches"
        else:
            above = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        folder = Path(above).absolute() / "bptt_fast" / "cells"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except (OSError, RuntimeError):  # no home
        folder = Path(tempfile.mkdtemp(prefix="bptt_fast-"))
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def _cached(key: str, library: str, make: Any) -> Path:
    """The library in the folder `key` of the cache, which `make(folder)` makes if it is missing or damaged.

    A new folder is made under another name and then renamed, so that no process sees a part of it.
    """
    import shutil
    import tempfile

    cache = cache_folder()
    folder = cache / key
    if _is_whole(folder, library):
        return folder / library
    made = Path(tempfile.mkdtemp(prefix="new-", dir=cache))
    try:
        make(made)
        for left in (*made.glob("*.o"), *made.glob("*.c")):
            left.unlink()
        (made / CHECKSUM).write_text(sha256((made / library).read_bytes()).hexdigest(), encoding="ascii")
        shutil.rmtree(folder, ignore_errors=True)
        try:
            made.rename(folder)
        except OSError:
            if not _is_whole(folder, library):  # else another process was first
                raise
    finally:
        shutil.rmtree(made, ignore_errors=True)
    return folder / library


def _is_whole(folder: Path, library: str) -> bool:
    try:
        expected = (folder / CHECKSUM).read_text(encoding="ascii")
        return sha256((folder / library).read_bytes()).hexdigest() == expected
    except (OSError, UnicodeDecodeError):
        return False


# ---- the gradient


class _Trial:
    """A small network of the cell and a few sequences of several lengths, with initial states."""

    def __init__(self, own: Any, dtype: str, lanes: str, projection: int) -> None:
        random = np.random.default_rng(0)
        has, units = own.properties, 5  # less than a vector of most instruction sets, and no multiple of one
        self.desc: dict[str, Any] = {
            "own_cell": own,
            "dtype": dtype,
            "input_size": 2,
            "hidden_size": units,
            "output_size": 2,
            "num_layers": 2,
            "proj_size": projection,
        }
        if has["leak"]:
            self.desc["alpha"] = tuple(np.linspace(0.3, 0.9, units).tolist())
        lengths = np.array([4, 2, 3])
        ends = np.cumsum(lengths)
        self.plan = _core.Plan(
            self.desc,
            loss="mse",
            readout_every_step=True,
            batch=3,
            steps=4,
            threads=1,
            lanes=lanes,
        )
        size, state_size = _core.size(self.desc), _core.state_size(self.desc)
        self.params = random.uniform(-0.9, 0.9, size).astype(dtype)
        self.state = random.uniform(-0.9, 0.9, (3, state_size)).astype(dtype)
        x, y = (random.normal(size=(ends[-1], 2)).astype(dtype) for _ in range(2))
        self.data = _core.Data(x, ends - lengths, lengths, ends - lengths, y, None, None, self.state)
        self.order = np.arange(3)

    def loss(self) -> float:
        return float(self.plan.evaluate(self.params, self.data, self.order)[1])

    def gradient(self) -> dict[str, Array]:
        """By block, and by the initial states."""
        whole, of_state = np.zeros_like(self.params), np.zeros_like(self.state)
        self.plan.loss_and_grad(self.params, self.data, self.order, whole, None, of_state)
        return self.blocks(whole) | {"the initial states": of_state}

    def blocks(self, vector: Array) -> dict[str, Array]:
        return {
            name: vector[at : at + rows * max(columns, 1)].reshape((rows, columns) if columns else rows)
            for name, rows, columns, at in _core.blocks(self.desc)
        }

    def differences(self) -> dict[str, Array]:
        """The gradient by central differences."""
        result = {}
        for name, block in (self.blocks(self.params) | {"the initial states": self.state}).items():
            slopes = np.empty_like(block)
            for index in np.ndindex(block.shape):
                value = block[index]
                losses = []
                for block[index] in (value + EPSILON, value - EPSILON):
                    losses.append(self.loss())
                block[index] = value
                slopes[index] = (losses[0] - losses[1]) / (2 * EPSILON)
            result[name] = slopes
        return result


def _check_gradient(file: str, name: str, own: Any) -> None:
    """Raise a CellError unless the gradients of small networks agree with finite differences."""
    for projection in (0, 3) if own.properties["projection"] else (0,):
        exact = _Trial(own, "float64", "units", projection)
        expected = exact.gradient()
        _compare(file, name, expected, exact.differences(), TOLERANCE, "finite differences")
        for dtype, tolerance in (("float64", TOLERANCE), ("float32", SINGLE)):
            for lanes in ("units", "rows"):
                got = _Trial(own, dtype, lanes, projection).gradient()
                _compare(file, name, got, expected, tolerance, f"that in float64, in {dtype} by {lanes}")


def _compare(
    file: str, name: str, got: dict[str, Array], expected: dict[str, Array], tolerance: float, what: str
) -> None:
    for block, slopes in expected.items():
        limit = tolerance * float(np.abs(slopes).max(initial=0)) + (TINY if tolerance < SINGLE else SINGLE**2)
        wrong = ~(np.abs(got[block] - slopes) <= limit)  # NaN is wrong, too
        if wrong.any():
            index = tuple(int(i) for i in np.argwhere(wrong)[0])
            raise CellError(
                f"{file}: expected a gradient that agrees with {what}, got for {block}{list(index)} "
                f"{got[block][index]:.8g} instead of {slopes[index]:.8g}; so are {wrong.sum()} of its "
                f"{wrong.size}.  Is {name}_backward the derivative of {name}_forward?"
            )
