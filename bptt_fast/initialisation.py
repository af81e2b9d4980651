"""Initial parameters of a network, by a named rule or by a function of the user.

`Network` documents the rules.  All blocks, in the order of the parameters, draw from one random generator.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from . import _core  # type: ignore[attr-defined]
from .errors import CellError, ConfigError
from .interrupts import answer, in_parts

if TYPE_CHECKING:
    from .description import Description

Array = np.ndarray[Any, Any]

# properties of the cells of csrc/cells.def; own_cell.py adds those of the user's cells, with "own_cell", what
# the core needs of them, and "digest", the checksum of their text
CELLS: dict[str, dict[str, Any]] = _core.cells()
SMALL = 1e-3  # deviation of the input weights for the rule "identity"


def is_own(cell: str) -> bool:
    """Whether the cell is one of the user's, which `build_cell` compiled."""
    return "own_cell" in CELLS[cell]


def digest_of(cell: str) -> str:
    """The digest of the text of a cell; empty for those of the package."""
    return str(CELLS[cell].get("digest", ""))


def check_digest(cell: Any, digest: str) -> None:
    """Raise a CellError unless a digest is empty or that of the cell of this name."""
    if digest and cell not in CELLS:
        raise CellError(
            f"expected a cell {cell!r}, which is not one of this package, got none.  Build the user's own "
            f'first: bptt_fast.build_cell("{cell}.h").'
        )
    if digest and digest_of(cell) != digest:
        raise CellError(
            f"expected the cell {cell!r} with the digest {digest[:16]}..., got one with "
            f"{digest_of(cell)[:16] or 'none'}...: its text has changed since.  Build the text of then, in a "
            f"new process."
        )


def initialise(
    views: Mapping[str, Array], d: Description, checked: Callable[[Any, tuple[int, ...], str], Array]
) -> None:
    """Write initial values into the views of the parameters; `checked` validates the user's values."""
    random = np.random.default_rng(d.seed)
    for name, view in views.items():
        if name.startswith("raw_tau"):
            view[...] = d.raw_tau
        elif callable(d.init):
            view[...] = checked(d.init(name, view.shape, random), view.shape, f"init({name!r})")
        elif name.startswith("initial_"):
            view[...] = 0
        elif name.startswith("embedding."):
            view[...] = _drawn(lambda n: random.normal(size=n), view.shape)
        elif name.startswith("weight_hh") and view.ndim == 1:
            view[...] = _drawn(lambda n: random.uniform(0, 1, n), view.shape)
        elif d.init == "torch" or name.startswith("weight_peephole"):
            view[...] = _torch(name, views, d, random)
        elif "bias" in name:
            view[...] = 0
        else:
            gated = CELLS[d.cell]["gates"] if name.startswith(("weight_ih", "weight_hh")) else 1
            for gate in np.split(view, gated):
                gate[...] = _weight(name, gate.shape, d.init, random)
    if d.spectral_radius is not None:
        for name, view in views.items():
            if name.startswith("weight_hh"):
                for gate in np.split(view, CELLS[d.cell]["gates"]):
                    gate *= d.spectral_radius / _radius(name, gate)
    if d.forget_bias is not None:
        for name, view in views.items():
            if name.startswith(("bias_ih", "bias_hh")):
                gate = np.split(view, CELLS[d.cell]["gates"])[CELLS[d.cell]["keep_gate"]]
                gate[...] = d.forget_bias if name.startswith("bias_ih") else 0


def _torch(name: str, views: Mapping[str, Array], d: Description, random: np.random.Generator) -> Array:
    """Uniform in +-1/sqrt(H) for f, +-1/sqrt(fan in) for its inner layers and g; biases as their weights."""
    view, inner = views[name], name.startswith(("f.", "head."))
    weight = views[name.replace(".bias", ".weight")] if inner else view
    bound = 1 / math.sqrt(weight.shape[1] if inner else d.hidden_size)
    return _drawn(lambda n: random.uniform(-bound, bound, n), view.shape)


def _weight(name: str, shape: tuple[int, ...], rule: str, random: np.random.Generator) -> Array:
    """One gate of a weight matrix, by the rules with zero biases."""
    rows, columns = shape
    recurrent = name.startswith(("weight_hh", "weight_hr"))
    if rule == "orthogonal" and recurrent:
        return orthogonal(rows, columns, random)
    if rule == "identity" and recurrent:
        return np.eye(rows, columns)
    if rule == "identity" and name.startswith("weight_ih"):
        return _drawn(lambda n: random.normal(0, SMALL, n), shape)
    bound = math.sqrt(6 / (rows + columns))
    return _drawn(lambda n: random.uniform(-bound, bound, n), shape)


def _drawn(draw: Callable[[int], Array], shape: tuple[int, ...]) -> Array:
    """Random numbers in this shape; `draw` gives so many."""
    numbers = np.empty(math.prod(shape))
    for (part,) in in_parts(numbers.shape):
        numbers[part] = draw(len(numbers[part]))
    return numbers.reshape(shape)


def orthogonal(rows: int, columns: int, random: np.random.Generator) -> Array:
    """A random matrix with orthonormal rows or columns: Q of a Gaussian matrix, with the signs of diag(R)."""
    gaussian = _drawn(lambda n: random.normal(size=n), (max(rows, columns), min(rows, columns)))
    q, r = answer(lambda: np.linalg.qr(gaussian), gaussian.size * gaussian.shape[1])
    q *= np.where(np.diag(r) < 0, -1.0, 1.0)
    return q if rows >= columns else q.T


def _radius(name: str, matrix: Array) -> float:
    """The spectral radius of a matrix; raises a ConfigError if it is zero."""
    values = answer(lambda: np.linalg.eigvals(matrix.astype(np.float64)), 10 * len(matrix) ** 3)
    radius = float(abs(values).max())
    if radius < 1e-12:
        raise ConfigError(
            f"spectral_radius: expected initial recurrent weights that can be scaled, got {name} with the "
            f"radius {radius:g}.  Use another init."
        )
    return radius
