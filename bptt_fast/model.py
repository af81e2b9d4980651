"""The model: a description, and parameters in one flat vector with named views.

The modules that import this one implement all operations on a model, from training to export; `Network` binds
them as methods.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, fields, replace
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike

from . import _core, data, notebook  # type: ignore[attr-defined]
from .choices import Cell, DType, Equation, Init, InitialState, Noise, Nonlinearity, Readout, Reset
from .columns import UNKNOWN, Columns, Names, Scaling
from .description import Category, Description, sizes
from .errors import ConfigError, DivergedError, ShapeError, flag, suggesting
from .initialisation import CELLS, check_digest, digest_of, initialise
from .machine import memory
from .plans import PlanPool
from .rules import Constraints, Rule, Rules

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Sequence
    from weakref import ReferenceType

    from .network import Network
    from .online import Learner

Array = np.ndarray[Any, Any]

SMALL_PLAN = 1 << 20  # bytes of the largest arena that is kept between calls


class Model:
    """A network without its verbs; `Network` documents arguments, attributes and errors.

    Attributes
    ----------
    plans : PlanPool
        Small plans of the last calls.
    blocks : list of tuple
        Name, rows, columns (0: a vector) and offset of each block of `params`.
    carried_states : ndarray (n, state_size) or None
        The final states of the sequences of the last stateful fit.
    constraints : Constraints or None
        The rules as flat vectors; None: no rules.
    """

    public: ClassVar[type[Network]]
    """The class of networks created by `load` and conversions; the module `network` sets it."""

    __slots__ = (
        "__weakref__",
        "_columns",
        "_desc",
        "_dtype",
        "_params",
        "_views",
        "blocks",
        "carried_states",
        "constraints",
        "description",
        "extra",
        "learner",
        "plans",
        "state_size",
    )

    description: Description
    extra: dict[str, str]
    state_size: int

    @suggesting
    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        output_size: int,
        *,
        categories: Mapping[int, Category] | Sequence[tuple[int, Category]] = (),
        cell: Cell = "elman",
        nonlinearity: Nonlinearity | Sequence[Nonlinearity] | None = None,
        f: Sequence[int] = (),
        head: Sequence[int] = (),
        head_nonlinearity: Nonlinearity = "tanh",
        skip: bool = False,
        readout: Readout = "last",
        num_layers: int = 1,
        bidirectional: bool = False,
        reset: Reset = "after",
        peephole: bool = False,
        equation: Equation = "rate",
        tau: float | ArrayLike = 10.0,
        dt: float = 1.0,
        train_tau: bool = False,
        recurrent_noise: float = 0.0,
        noise: Noise = "sde",
        input_noise: float = 0.0,
        rate_penalty: float = 0.0,
        rate_target: float = 0.0,
        proj_size: int = 0,
        dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        initial_state: InitialState = "zeros",
        dtype: DType = "float32",
        seed: int | None = None,
        init: Init | Callable[..., ArrayLike] | None = None,
        spectral_radius: float | None = None,
        forget_bias: float | None = None,
    ) -> None:
        arguments = dict(locals())  # a copy: a debugger may add to locals() at any line
        del arguments["self"]
        self._describe(Description(**arguments))
        self._allocate()
        initialise(self._views, self.description, self._checked)

    def _describe(self, description: Description) -> None:
        self.description = description
        self.extra = {}
        self._columns = Columns(categories=description.category_sizes)
        self.constraints: Constraints | None = None
        self._desc = description.core()
        self._dtype = np.dtype(description.dtype)
        try:
            self.blocks = _core.blocks(self._desc)
            size, self.state_size = _core.size(self._desc), _core.state_size(self._desc)
        except (ValueError, OverflowError) as error:
            raise ConfigError(
                f'Network: expected a network that the C core can build, got cell="{description.cell}", '
                f"{sizes(description)}: {error}."
            ) from None
        if size * self._dtype.itemsize > memory():
            raise ConfigError(
                f"Network: expected parameters that fit into memory ({memory():,} bytes), got "
                f"{sizes(description)} with {size:,} parameters."
            )
        self.plans = PlanPool(2, SMALL_PLAN)  # for training and for another verb
        self.carried_states: Array | None = None  # final states of a stateful fit
        self.learner: ReferenceType[Learner] | None = None  # the learner whose weights `params` mirrors

    def _allocate(self) -> None:
        """Parameters of zeros."""
        self._params = np.zeros(_core.size(self._desc), self._dtype)
        self._views = named_views(self._params, self.blocks)

    @classmethod
    def rebuilt(
        cls,
        config: Mapping[str, Any],
        parameters: Mapping[str, ArrayLike],
        extra: Mapping[str, str],
        columns: Columns = UNKNOWN,
        rules: Mapping[str, Rule] | None = None,
        own_cell: str = "",
    ) -> Self:
        """A network from `config`, `state_dict`, `columns` and `rules` of another one, equal to the bit.

        `own_cell` is the digest of its cell, if that is the user's own.
        """
        check_digest(config.get("cell"), own_cell)
        net = cls.__new__(cls)
        net._describe(Description.restored(config))
        shapes = {name: (rows, cols) if cols else (rows,) for name, rows, cols, _ in net.blocks}
        if set(parameters) != set(shapes):
            raise ConfigError(f"parameters: expected {', '.join(shapes)}, got {', '.join(parameters)}.")
        checked = {
            name: net._checked(parameters[name], shape, name, finite=False) for name, shape in shapes.items()
        }
        net._allocate()
        net.rules = rules or {}
        for name, view in net._views.items():
            view[...] = checked[name]
        net.extra = dict(extra)
        net.columns = columns
        return net

    def __reduce__(self) -> tuple[Any, ...]:
        parts = (self.saved_config(), self.state_dict(), self.extra, self.columns, dict(self.rules))
        return type(self).rebuilt, (*parts, digest_of(self.cell))

    def __copy__(self) -> Self:
        parts = (self.config(), self.state_dict(), self.extra, self.columns, dict(self.rules))
        return self.rebuilt(*parts, digest_of(self.cell))

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self.__copy__()

    def config(self) -> dict[str, Any]:
        """The constructor arguments of this network.

        Returns
        -------
        config : dict of str
            Plain values: numbers, strings, tuples; ``Network(**config)`` is a new network of the same
            description.
        """
        return asdict(self.description)

    def saved_config(self) -> dict[str, Any]:
        """`config` without a callable `init`, which is neither saved nor pickled.

        Returns
        -------
        config : dict of str
        """
        return {name: None if callable(value) else value for name, value in self.config().items()}

    def desc(self) -> dict[str, Any]:
        """A copy of the description in the fields of the C core."""
        return dict(self._desc)

    @property
    def input_size(self) -> int:
        """I, the size of the input of one step."""
        return self.description.input_size

    @property
    def hidden_size(self) -> int:
        """H, the size of the state h of one layer."""
        return self.description.hidden_size

    @property
    def output_size(self) -> int:
        """O, the size of one output."""
        return self.description.output_size

    @property
    def cell(self) -> str:
        """The name of the cell."""
        return self.description.cell

    @property
    def tau(self) -> Array | None:
        """The time constants of a rate network, (layers x directions, H); None for other cells.

        With `train_tau` those of the present parameters, else those it was made with.
        """
        if not CELLS[self.cell]["leak"]:
            return None
        return np.stack([self.description.time_constants(self._views.get(name)) for name in self._taus()])

    def _taus(self) -> list[str]:
        """The names that the time constants of each layer and direction have where they are trained."""
        self._sync_from_learner()
        return [name.replace("weight_ih", "raw_tau") for name in self._views if name.startswith("weight_ih")]

    @property
    def readout(self) -> str:
        """The steps that g reads: "last" or "every"."""
        return self.description.readout

    @property
    def dtype(self) -> np.dtype[Any]:
        """The NumPy dtype of parameters and results."""
        return self._dtype

    @property
    def seed(self) -> int:
        """The seed, chosen by the caller or at random."""
        return int(self.description.seed)

    # ---- columns of the data

    @property
    def columns(self) -> Columns:
        """`input_names`, `output_names`, `scaling` and `lead` as one object."""
        self._sync_from_learner()
        return self._columns

    @columns.setter
    def columns(self, value: Columns) -> None:
        if not isinstance(value, Columns):
            raise ConfigError(f"columns: expected the columns of a network, got {value!r}.  Use input_names.")
        if value != self._columns:  # the end of every fit sets them; most often to what they are
            value = replace(value, categories=self._columns.categories)
            value.check(self.input_size, self.output_size)
        self.detach_learner()
        self._columns = value

    @property
    def scaling(self) -> Scaling | None:
        """The scaling of inputs, targets and outputs; None: no scaling."""
        return self.columns.scaling

    @scaling.setter
    def scaling(self, value: Scaling | None) -> None:
        self.columns = replace(self.columns, scaling=value)

    @property
    def input_names(self) -> Names | None:
        """Names of the I inputs, or None."""
        return self._columns.inputs

    @input_names.setter
    def input_names(self, names: Sequence[Hashable] | None) -> None:
        self.columns = replace(self.columns, inputs=names)

    @property
    def output_names(self) -> Names | None:
        """Names of the O outputs, or None."""
        return self._columns.outputs

    @output_names.setter
    def output_names(self, names: Sequence[Hashable] | None) -> None:
        self.columns = replace(self.columns, outputs=names)

    @property
    def lead(self) -> int:
        """The number of rows from the last row of the inputs to the row of the output."""
        return self._columns.lead

    @lead.setter
    def lead(self, rows: int) -> None:
        self.columns = replace(self.columns, lead=rows)

    # ---- rules on parameters

    @property
    def rules(self) -> Rules:
        """The rules that training obeys, by the name of the block; they can be assigned."""
        return Rules(self)

    @rules.setter
    def rules(self, rules: Mapping[str, Rule]) -> None:
        if not isinstance(rules, Mapping):
            raise ConfigError(f"rules: expected a dict of Rule, got {rules!r}.  Use {{}} for no rules.")
        constraints = Constraints(rules, self.blocks, self._dtype) if rules else None
        self.detach_learner()
        if constraints is not None:
            constraints.enter(self._params)
        self.constraints = constraints

    def obey(self) -> None:
        """Project the parameters on the rules; called after they changed by other means than training."""
        if self.constraints is not None:
            self.constraints.project(self._params)

    def update_options(self) -> dict[str, Any]:
        """The options of a plan whose updates obey the rules."""
        return {} if self.constraints is None else {"rules": True}

    # ---- parameters

    @property
    def params(self) -> Array:
        """All parameters (P,), in the order of `keys`; writable, and the base of the named views."""
        self._sync_from_learner()
        return self._params

    @params.setter
    def params(self, value: ArrayLike) -> None:
        checked = self._checked(value, self._params.shape, "params")
        self.detach_learner()
        self._params[:] = checked
        self.obey()

    def _sync_from_learner(self) -> None:
        """Copy weights and running scaling of the live learner, if any; called before they are read."""
        learner = None if self.learner is None else self.learner()
        if learner is not None:
            learner.store()

    @property
    def stored_params(self) -> Array:
        """The parameters as last stored; a live learner may have newer ones."""
        return self._params

    def store_scaling(self, scaling: Scaling) -> None:
        """Set the scaling of a live learner, which stays alive."""
        self._columns = replace(self._columns, scaling=scaling)

    def check_finite(self, what: str) -> None:
        """Raise a DivergedError if a parameter is NaN or infinite, before training changes the network."""
        if not data.finite(self.params):
            name = next(name for name, view in self._views.items() if not np.isfinite(view).all())
            view = self._views[name]
            raise DivergedError(
                f"{what}: expected finite parameters, got {view[~np.isfinite(view)][0]} in {name}; the "
                f"network is unchanged.  Assign finite numbers."
            )

    def detach_learner(self) -> None:
        """End the live learner, if any; called before the parameters change by other means."""
        self._sync_from_learner()
        self.learner = None

    @property
    def num_parameters(self) -> int:
        """The number of parameters, P."""
        return self._params.size

    def keys(self) -> list[str]:
        """The names of the parameters.

        Returns
        -------
        names : list of str
            The names in the order of `params`.
        """
        return list(self._views)

    def __iter__(self) -> Iterator[str]:
        return iter(self._views)

    def __contains__(self, name: object) -> bool:
        return name in self._views

    def __getitem__(self, name: str) -> Array:
        try:
            view = self._views[name]
        except (KeyError, TypeError):
            raise KeyError(f"{name!r}: expected one of {', '.join(self._views)}.") from None
        self._sync_from_learner()
        return view

    def __setitem__(self, name: str, value: ArrayLike) -> None:
        view = self[name]
        checked = self._checked(value, view.shape, name)
        self.detach_learner()
        view[...] = checked
        self.obey()

    def state_dict(self) -> dict[str, Array]:
        """Copies of all parameters, for `load_state_dict`.

        Returns
        -------
        parameters : dict of str to ndarray
            Parameters with PyTorch's names, shapes and order of the gates.

        Examples
        --------
        >>> import bptt_fast as bf
        >>> net = bf.Network(3, 8, 2, cell="gru", seed=0)
        >>> net.state_dict()["weight_ih_l0"].shape
        (24, 3)
        """
        self._sync_from_learner()
        return {name: view.copy() for name, view in self._views.items()}

    @suggesting
    def load_state_dict(self, parameters: Mapping[str, ArrayLike], strict: bool = True) -> None:
        """Copy parameters into the network, after checking all of them; they are projected on the `rules`.

        Parameters
        ----------
        parameters : mapping of str to array
            NumPy arrays or PyTorch tensors by name, with the shapes of `state_dict`.
        strict : bool, default True
            Whether the names must be exactly those of the network.

        Raises
        ------
        ConfigError
            If a name is missing or unknown (if `strict`), or a value is not finite.
        ShapeError
            If an array has another shape.
        """
        if not isinstance(parameters, Mapping):
            raise ConfigError(f"load_state_dict: expected a dict of arrays, got {type(parameters).__name__}.")
        missing = [name for name in self._views if name not in parameters]
        unknown = [str(name) for name in parameters if name not in self._views]
        if flag(strict, "strict") and (missing or unknown):
            raise ConfigError(
                f"load_state_dict: expected {', '.join(self._views)}; "
                f"missing {', '.join(missing) or 'none'}, "
                f"unknown {', '.join(unknown) or 'none'}.  strict=False loads only matching names."
            )
        checked = {
            name: self._checked(parameters[name], view.shape, name)
            for name, view in self._views.items()
            if name in parameters
        }
        self.detach_learner()
        for name, value in checked.items():
            self._views[name][...] = value
        self.obey()

    def _checked(self, value: ArrayLike, shape: tuple[int, ...], name: str, finite: bool = True) -> Array:
        a = data.cast(data.numbers(value, name), self._dtype)
        if np.ndim(value) == 0:
            a = np.broadcast_to(a.reshape(()), shape)
        if a.shape != shape:
            raise ShapeError(f"{name}: expected {shape}, got {a.shape}.")
        if finite and not np.isfinite(a).all():
            raise ConfigError(
                f"{name}: expected finite numbers in {self._dtype}, got {a[~np.isfinite(a)][0]}."
            )
        return a

    def __repr__(self) -> str:
        d = self.description
        parts = [d.cell, f"{d.input_size} -> {d.hidden_size} -> {d.output_size}"]
        parts += [f"categories={dict(d.categories)}"] * bool(d.categories)
        parts += [f"num_layers={d.num_layers}"] * (d.num_layers > 1) + ["bidirectional"] * d.bidirectional
        parts += ["skip"] * d.skip + [f'readout="{d.readout}"', d.dtype]
        rows = [
            (name, " x ".join(map(str, view.shape)), f"{view.size:,}") for name, view in self._views.items()
        ]
        rows.append(("parameters", "", f"{self.num_parameters:,}"))
        left, middle, right = (max(map(len, column)) for column in zip(*rows, strict=True))
        table = [
            f"  {name:<{left}}  {shape:<{middle}}  {size:>{right}}"
            + (f"  {self.rules[name]}" if name in self.rules else "")
            for name, shape, size in rows
        ]
        return "\n".join([f"Network({', '.join(parts)})", *table])

    def _repr_html_(self) -> str:
        d = self.description
        given: list[tuple[str, Any, Any]] = [
            (one.name, getattr(d, one.name), one.default) for one in fields(d)
        ]
        rows = [
            (name, str(value))
            for name, value, default in given
            if value not in ((), None) and not np.array_equal(value, default)
        ]
        blocks = [
            (name, " x ".join(map(str, view.shape)), view.size, str(self.rules.get(name, "")))
            for name, view in self._views.items()
        ]
        return notebook.titled(
            f"Network: {d.cell}, {self.num_parameters:,} parameters",
            notebook.table(rows),
            notebook.folded("Parameters", notebook.table(blocks, ("block", "shape", "size", "rule"))),
        )

    def encoded(self, x: Array) -> Array:
        """Valid inputs (..., I) as the first layer reads them: with a vector in place of each integer."""
        first = self.input_size - len(self.columns.categories)
        parts = [x[..., :first]]
        for column, size in enumerate(self.columns.categories, first):
            codes = x[..., column].astype(np.int64)
            if column in self.description.embeddings:
                parts.append(self[f"embedding.{column}.weight"][codes])
            else:
                parts.append(codes[..., None] == np.arange(size))
        return np.concatenate(parts, axis=-1)

    def steps_without_gradient(self, steps: int) -> int:
        """Steps per block without gradients; long sequences are split unless the network is bidirectional."""
        return steps if self.description.bidirectional else min(steps, 256)

    def reset_state(self) -> None:
        """Discard the states kept by ``fit(..., stateful=True)``; the next such fit starts from `x0`.

        Examples
        --------
        >>> import numpy as np, bptt_fast as bf
        >>> net = bf.Network(1, 4, 1, readout="every", seed=0)
        >>> x = np.ones((2, 10, 1))
        >>> history = net.fit(x, x, bptt=bf.TruncatedBPTT(5), stateful=True, verbose=0)
        >>> net.reset_state()
        """
        self.carried_states = None


def check_network(net: Any) -> None:
    """Raise a ConfigError for an argument `net` that is no network."""
    if not isinstance(net, Model):
        raise ConfigError(f"net: expected a Network, got {type(net).__name__}.")


def named_views(flat: Array, blocks: list[tuple[str, int, int, int]]) -> dict[str, Array]:
    """Named views into a flat vector."""
    return {
        name: flat[offset : offset + rows * (cols or 1)].reshape((rows, cols) if cols else (rows,))
        for name, rows, cols, offset in blocks
    }
