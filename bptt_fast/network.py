"""The network: its description, its parameters in one flat vector with named views, and what it can do."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from . import _core, data, losses  # type: ignore[attr-defined]
from .columns import UNKNOWN, Columns, Names, Scaling
from .errors import ConfigError, DivergedError, ShapeError, choice, flag, integer, number, plain_fields
from .initialisation import CELLS, RULES, initialise

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Sequence
    from weakref import ReferenceType

    from .callbacks import Callback, History
    from .online import Learner, Stream
    from .optimizers import Optimizer
    from .torch import Model as TorchModel
    from .unfolding import SlidingBPTT, Unfolding

Array = np.ndarray[Any, Any]

# cells of the core that are a cell and an option here
VARIANTS = {"gru_reset_before": ("gru", "reset", "before"), "lstm_peephole": ("lstm", "peephole", True)}
NONLINEARITIES = ("tanh", "relu", "sigmoid", "linear")
READOUTS = ("last", "every")
MAX_F, MAX_HEAD, MAX_LAYERS, MAX_THREADS = 14, 15, 16, 1024
SMALL_PLAN = 1 << 20  # bytes


@dataclass(frozen=True)
class Description:
    """What a network is, without its parameters; `Network` says what the fields mean.  Checked when made."""

    input_size: int
    hidden_size: int
    output_size: int
    cell: str = "elman"
    nonlinearity: Any = None
    f: Any = ()
    head: Any = ()
    head_nonlinearity: str = "tanh"
    readout: str = "last"
    num_layers: int = 1
    bidirectional: bool = False
    reset: str = "after"
    peephole: bool = False
    proj_size: int = 0
    dropout: float = 0.0
    recurrent_dropout: float = 0.0
    initial_state: str = "zeros"
    dtype: Any = "float32"
    seed: Any = None
    init: Any = None
    spectral_radius: float | None = None
    forget_bias: float | None = None

    def __post_init__(self) -> None:
        plain_fields(self)
        checked: dict[str, Any] = {
            name: integer(getattr(self, name), name) for name in ("input_size", "hidden_size", "output_size")
        }
        checked["num_layers"] = integer(self.num_layers, "num_layers", 1, MAX_LAYERS)
        cell = choice(self.cell, "cell", tuple(CELLS))
        if cell in VARIANTS:
            cell, option, value = VARIANTS[cell]
            object.__setattr__(self, option, value)
        f = _widths(self.f, "f", MAX_F)
        if f and not CELLS[cell]["hidden_layers"]:
            raise ConfigError(
                f'f: expected () for cell="{cell}", got {f}.  Hidden layers inside f need '
                f"{_cells_with('hidden_layers')}."
            )
        checked |= {
            "f": f,
            "head": _widths(self.head, "head", MAX_HEAD),
            "nonlinearity": _nonlinearities(self, cell, f),
        }
        checked |= {
            "cell": cell,
            "head_nonlinearity": choice(self.head_nonlinearity, "head_nonlinearity", NONLINEARITIES),
            "readout": choice(self.readout, "readout", READOUTS),
            "initial_state": choice(self.initial_state, "initial_state", ("zeros", "trained")),
            "bidirectional": flag(self.bidirectional, "bidirectional"),
            "reset": choice(self.reset, "reset", ("after", "before")),
            "peephole": flag(self.peephole, "peephole"),
        }
        for base, option, value in VARIANTS.values():
            if checked[option] == value and cell != base:
                shown = f'"{value}"' if isinstance(value, str) else value
                raise ConfigError(f'{option}: {shown} is for cell="{base}", got cell="{cell}".')
        proj_size = integer(self.proj_size, "proj_size", 0)
        if proj_size and not CELLS[cell]["projection"]:
            raise ConfigError(
                f'proj_size: {proj_size} is for {_cells_with("projection")}, got cell="{cell}".'
            )
        if proj_size >= checked["hidden_size"]:
            raise ConfigError(
                f"proj_size: expected less than hidden_size={checked['hidden_size']}, got {proj_size}."
            )
        dropout = number(self.dropout, "dropout", 0, 1, open_high=True)
        if dropout and checked["num_layers"] == 1:
            raise ConfigError(
                f"dropout: {dropout:g} acts between layers, and num_layers=1 has no between.  Did you mean "
                f"recurrent_dropout?"
            )
        checked |= {
            "proj_size": proj_size,
            "dropout": dropout,
            "dtype": _dtype_name(self.dtype),
            "recurrent_dropout": number(self.recurrent_dropout, "recurrent_dropout", 0, 1, open_high=True),
            "seed": _seed(self.seed),
            "init": _init(self.init),
            **self._initial(cell, f),
        }
        for name, value in checked.items():
            object.__setattr__(self, name, value)

    def _initial(self, cell: str, f: tuple[int, ...]) -> dict[str, float | None]:
        """What changes the initial parameters after `init`, checked."""
        radius, bias = self.spectral_radius, self.forget_bias
        if radius is not None:
            radius = number(radius, "spectral_radius", 0, open_low=True)
            if self.proj_size or (f and f[0] != self.hidden_size):
                shape = f"proj_size={self.proj_size}" if self.proj_size else f"f={f}"
                raise ConfigError(
                    f"spectral_radius: expected square recurrent weights, got hidden_size={self.hidden_size} "
                    f"with {shape}."
                )
        if bias is not None:
            bias = number(bias, "forget_bias")
            if CELLS[cell]["keep_gate"] < 0:
                raise ConfigError(f'forget_bias: is for {_cells_with("keep_gate")}, got cell="{cell}".')
        return {"spectral_radius": radius, "forget_bias": bias}

    def core(self) -> dict[str, Any]:
        """The description in the words of the C core."""
        words = asdict(self)
        words["activation"] = words.pop("nonlinearity")
        words["head_activation"] = words.pop("head_nonlinearity")
        for name in ("readout", "init", "spectral_radius", "forget_bias"):
            del words[name]
        options = {option: words.pop(option) for _, option, _ in VARIANTS.values()}
        for variant, (cell, option, value) in VARIANTS.items():
            if (words["cell"], options[option]) == (cell, value):
                words["cell"] = variant
        return words


class Network:
    """A recurrent network: a state function f, h[t] = f(h[t-1], x[t]), and a readout g, y = g(h).

    Parameters
    ----------
    input_size, hidden_size, output_size : int
        I, H and O: numbers in one step of the input, in the state h, and in one output.
    cell : {"elman", "gru", "lstm", "mlp"}, default "elman"
        The state function f.  "elman": h' = phi(W_ih x + b_ih + W_hh h + b_hh).  "mlp": the same with further
        layers after it.
    nonlinearity : {"tanh", "relu", "sigmoid", "linear"} or tuple of them, default "tanh"
        phi of "elman" and "mlp"; for "mlp" also a tuple of len(f) + 1, one for each layer of f, the last
        included.
    f : tuple of int, default ()
        Widths of the layers of an "mlp" cell before the one that gives the state.
    head : tuple of int, default ()
        Widths of the hidden layers of g; none: g is one linear map.
    head_nonlinearity : str, default "tanh"
        Of the hidden layers of g.  The last layer is linear: with a cross-entropy for a loss, g gives logits.
    readout : {"last", "every"}, default "last"
        Whether g reads the state after the last step of a sequence, or after every step.
    num_layers : int, default 1
        Recurrent layers, each reading the one below.
    bidirectional : bool, default False
        Each layer also runs from the last step to the first; the outputs of both directions are concatenated.
    reset : {"after", "before"}, default "after"
        "gru": whether the reset gate acts after the recurrent product (PyTorch, cuDNN) or before (Cho 2014).
    peephole : bool, default False
        "lstm": the gates also see the cell state.
    proj_size : int, default 0
        "lstm": if above 0, h is a projection of this width, less than H.
    dropout : float, default 0
        Probability of a zero in what passes from layer to layer, in training.
    recurrent_dropout : float, default 0
        Probability of a zero in h where it enters the recurrent product, in training; one mask a sequence.
    initial_state : {"zeros", "trained"}, default "zeros"
        The state before the first step where no `x0` is given.  "trained": parameters of their own, one
        vector a layer and direction ("initial_h_l0", for an LSTM also "initial_c_l0", ...), zero at first;
        where `x0` is given it wins, and their gradient is 0.
    dtype : {"float32", "float64"}, default "float32"
        Of the parameters, of the arithmetic and of all results.
    seed : int, optional
        Of the initial parameters, of the order of the sequences in `fit`, of dropout and of gradient noise.
        None draws one.
    init : {"torch", "orthogonal", "glorot", "identity"} or callable, default "torch"
        The initial parameters, see Notes.  A function is called as ``init(name, shape, random)`` for each
        block of parameters, `random` being a ``numpy.random.Generator``, and gives an array of that shape.
        It is neither saved nor pickled with the network.
    spectral_radius : float, optional
        Above 0.  The recurrent weights, each gate's by themselves, are scaled so that the largest modulus of
        their eigenvalues is this.
    forget_bias : float, optional
        Bias (the sum of its two) of the gate that keeps the past: f of "lstm", z of "gru".

    Attributes
    ----------
    params : ndarray (P,)
        All parameters.  Write into it as you like: ``net.params[:] = ...``.
    num_parameters : int
        The number of parameters, P.
    state_size : int
        Numbers in the state of one sequence: layers, directions in a layer, and h before c in a direction.
    description : Description
        The arguments, checked.
    scaling : Scaling or None
        How inputs and targets are scaled on the way in, and outputs brought back; see `fit`.  Whatever takes
        or gives data does so in the units of the data; losses and their gradients are those of the scaled
        numbers.  It can be assigned.
    input_names, output_names : tuple or None
        Names of the columns, from the tables that `fit` saw first: str, numbers and tuples of them as they
        are, any other label, such as a date, as its str.  Tables are then brought into their order; a column
        that is missing, or one more, is an error, and so is a Series of another name (one without a name is
        taken as an array is).  They can be assigned.
    lead : int
        How many rows after the last row of its inputs an output belongs to, as `fit` and `learn_online`
        learnt it: the lead of ``SlidingBPTT``, the horizon of windows, else 0.  It can be assigned.
    extra : dict of str to str
        Notes of your own, empty at first; they are saved and loaded with the network.

    Raises
    ------
    ConfigError
        If an argument is not among the values above, or the network does not fit into memory.
    ShapeError
        If `init` gives an array of another shape.

    Notes
    -----
    Names, shapes and gate order of the parameters are PyTorch's; ``net["weight_hh_l0"]`` is a view into
    `params`.  What they are at first, by `init`:

    - "torch": all of f uniform in +-1/sqrt(H) as in ``torch.nn.RNN``; inner layers of f and those of g in
      +-1/sqrt(fan in).
    - "glorot": weights, each gate's by themselves, uniform in +-sqrt(6 / (fan in + fan out)); biases zero.
    - "orthogonal": the same, but recurrent weights and projections orthogonal, each gate's by themselves.
    - "identity": the same, but these the identity, and the input weights normal with a deviation of 0.001;
      with nonlinearity "relu" this is the IRNN.

    Peepholes start as for "torch".  Where something has to be remembered over many steps, "orthogonal" learns
    it more often; on short series it is no better, and its worst seeds are worse (docs/decisions, 0009).

    J. L. Elman, "Finding structure in time", Cognitive Science 14 (1990).  X. Glorot and Y. Bengio,
    "Understanding the difficulty of training deep feedforward neural networks", 2010.  A. M. Saxe, J. L.
    McClelland and S. Ganguli, "Exact solutions to the nonlinear dynamics of learning in deep linear neural
    networks", 2014.  Q. V. Le, N. Jaitly and G. E. Hinton, "A simple way to initialize recurrent networks of
    rectified linear units", 2015.  R. Jozefowicz, W. Zaremba and I. Sutskever, "An empirical exploration of
    recurrent network architectures", 2015 (the forget bias).

    Examples
    --------
    >>> import numpy as np, bptt_fast as bf
    >>> net = bf.Network(input_size=1, hidden_size=8, output_size=1, seed=0)
    >>> x = np.sin(np.arange(200) / 5).reshape(20, 10, 1)
    >>> history = net.fit(x, x[:, 0], epochs=2, verbose=0)
    >>> net.predict(x).shape
    (20, 1)
    """

    __slots__ = (
        "__weakref__",
        "_blocks",
        "_columns",
        "_desc",
        "_dtype",
        "_learner",
        "_params",
        "_spare",
        "_states",
        "_views",
        "description",
        "extra",
        "state_size",
    )

    description: Description
    extra: dict[str, str]
    state_size: int

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        output_size: int,
        *,
        cell: str = "elman",
        nonlinearity: str | Sequence[str] | None = None,
        f: Sequence[int] = (),
        head: Sequence[int] = (),
        head_nonlinearity: str = "tanh",
        readout: str = "last",
        num_layers: int = 1,
        bidirectional: bool = False,
        reset: str = "after",
        peephole: bool = False,
        proj_size: int = 0,
        dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        initial_state: str = "zeros",
        dtype: DTypeLike = "float32",
        seed: int | None = None,
        init: str | Callable[..., ArrayLike] | None = None,
        spectral_radius: float | None = None,
        forget_bias: float | None = None,
    ) -> None:
        self._describe(
            Description(
                input_size,
                hidden_size,
                output_size,
                cell=cell,
                nonlinearity=nonlinearity,
                f=f,
                head=head,
                head_nonlinearity=head_nonlinearity,
                readout=readout,
                num_layers=num_layers,
                bidirectional=bidirectional,
                reset=reset,
                peephole=peephole,
                proj_size=proj_size,
                dropout=dropout,
                recurrent_dropout=recurrent_dropout,
                initial_state=initial_state,
                dtype=dtype,
                seed=seed,
                init=init,
                spectral_radius=spectral_radius,
                forget_bias=forget_bias,
            )
        )
        initialise(self._views, self.description, self._checked)

    def _describe(self, description: Description) -> None:
        self.description = description
        self.extra = {}
        self._columns = UNKNOWN
        self._desc = description.core()
        self._dtype = np.dtype(description.dtype)
        try:
            self._blocks = _core.blocks(self._desc)
            size, self.state_size = _core.size(self._desc), _core.state_size(self._desc)
        except (ValueError, OverflowError) as error:
            raise ConfigError(
                f'Network: expected a network that the C core can build, got cell="{description.cell}", '
                f"{_sizes(description)}: {error}."
            ) from None
        if size * self._dtype.itemsize > _memory():
            raise ConfigError(
                f"Network: expected parameters that fit into memory ({_memory():,} bytes), got "
                f"{_sizes(description)} with {size:,} parameters."
            )
        self._params = np.zeros(size, self._dtype)
        self._views = _named(self._params, self._blocks)
        self._spare: list[tuple[tuple[Any, ...], Any]] = []
        self._states: Array | None = None  # of a stateful fit
        self._learner: ReferenceType[Learner] | None = None  # whose weights `params` follows

    @classmethod
    def rebuilt(
        cls,
        config: Mapping[str, Any],
        parameters: Mapping[str, ArrayLike],
        extra: Mapping[str, str],
        columns: Columns = UNKNOWN,
    ) -> Network:
        """A network from what `config`, `state_dict` and `columns` gave, equal to the bit."""
        net = cls.__new__(cls)
        net._describe(Description(**config))
        if set(parameters) != set(net._views):
            raise ConfigError(f"parameters: expected {', '.join(net._views)}, got {', '.join(parameters)}.")
        for name, view in net._views.items():
            view[...] = net._checked(parameters[name], view, name, finite=False)
        net.extra = dict(extra)
        net.columns = columns
        return net

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self).rebuilt, (self.saved_config(), self.state_dict(), self.extra, self.columns)

    def __copy__(self) -> Network:
        return self.rebuilt(self.config(), self.state_dict(), self.extra, self.columns)

    def __deepcopy__(self, memo: dict[int, Any]) -> Network:
        return self.__copy__()

    def config(self) -> dict[str, Any]:
        """The arguments that make such a network.

        Returns
        -------
        config : dict of str
            Plain values: numbers, strings, tuples; ``Network(**config)`` is a new network of the same kind.
        """
        return asdict(self.description)

    def saved_config(self) -> dict[str, Any]:
        """`config` without a function for `init`, which is neither saved nor pickled.

        Returns
        -------
        config : dict of str
        """
        return {name: None if callable(value) else value for name, value in self.config().items()}

    def desc(self) -> dict[str, Any]:
        """The description in the words of the C core."""
        return dict(self._desc)

    @property
    def input_size(self) -> int:
        """I, numbers in one step of the input."""
        return self.description.input_size

    @property
    def hidden_size(self) -> int:
        """H, numbers in the state h of one layer."""
        return self.description.hidden_size

    @property
    def output_size(self) -> int:
        """O, numbers in one output."""
        return self.description.output_size

    @property
    def cell(self) -> str:
        """The cell, by name."""
        return self.description.cell

    @property
    def readout(self) -> str:
        """What g reads: "last" or "every"."""
        return self.description.readout

    @property
    def dtype(self) -> np.dtype[Any]:
        """The NumPy dtype of parameters and results."""
        return self._dtype

    @property
    def seed(self) -> int:
        """The seed, given or drawn."""
        return int(self.description.seed)

    # ---- what it knows of its data

    @property
    def columns(self) -> Columns:
        """`input_names`, `output_names`, `scaling` and `lead` together."""
        return self._columns

    @columns.setter
    def columns(self, value: Columns) -> None:
        value.check(self.input_size, self.output_size)
        self._part()
        self._columns = value

    @property
    def scaling(self) -> Scaling | None:
        """How inputs and targets are scaled on the way in, and outputs brought back; None: they are not."""
        return self._columns.scaling

    @scaling.setter
    def scaling(self, value: Scaling | None) -> None:
        self.columns = replace(self._columns, scaling=value)

    @property
    def input_names(self) -> Names | None:
        """Names of the I inputs, or None."""
        return self._columns.inputs

    @input_names.setter
    def input_names(self, names: Sequence[Hashable] | None) -> None:
        self.columns = replace(self._columns, inputs=names)

    @property
    def output_names(self) -> Names | None:
        """Names of the O outputs, or None."""
        return self._columns.outputs

    @output_names.setter
    def output_names(self, names: Sequence[Hashable] | None) -> None:
        self.columns = replace(self._columns, outputs=names)

    @property
    def lead(self) -> int:
        """How many rows after the last row of its inputs an output belongs to."""
        return self._columns.lead

    @lead.setter
    def lead(self, rows: int) -> None:
        self.columns = replace(self._columns, lead=rows)

    # ---- parameters

    @property
    def params(self) -> Array:
        """All parameters (P,), in the order of `keys`; writable, and what the views look into."""
        self._follow()
        return self._params

    @params.setter
    def params(self, value: ArrayLike) -> None:
        checked = self._checked(value, self._params, "params")
        self._part()
        self._params[:] = checked

    def _follow(self) -> None:
        """Before the weights are read: take those of the live learner, if there is one."""
        learner = None if self._learner is None else self._learner()
        if learner is not None:
            learner.store()

    def _part(self) -> None:
        """Before the weights change by other means than the live learner: end it."""
        self._follow()
        self._learner = None

    @property
    def num_parameters(self) -> int:
        """The number of parameters, P."""
        return self._params.size

    def keys(self) -> list[str]:
        """The names of the parameters.

        Returns
        -------
        names : list of str
            In the order in which they lie in `params`.
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
        self._follow()
        return view

    def __setitem__(self, name: str, value: ArrayLike) -> None:
        view = self[name]
        checked = self._checked(value, view, name)
        self._part()
        view[...] = checked

    def state_dict(self) -> dict[str, Array]:
        """Copies of all parameters, as `load_state_dict` takes them.

        Returns
        -------
        parameters : dict of str to ndarray
            In PyTorch's names, shapes and order of the gates.

        Examples
        --------
        >>> import bptt_fast as bf
        >>> net = bf.Network(3, 8, 2, cell="gru", seed=0)
        >>> net.state_dict()["weight_ih_l0"].shape
        (24, 3)
        """
        self._follow()
        return {name: view.copy() for name, view in self._views.items()}

    def load_state_dict(self, parameters: Mapping[str, ArrayLike], strict: bool = True) -> None:
        """Copy parameters into the network; all are checked before the first is written.

        Parameters
        ----------
        parameters : mapping of str to array
            By name, of the shapes that `state_dict` shows; NumPy arrays or PyTorch tensors.
        strict : bool, default True
            Every name of the network must be there, and no other.

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
                f"unknown {', '.join(unknown) or 'none'}.  strict=False takes those that fit."
            )
        checked = {
            name: self._checked(parameters[name], view, name)
            for name, view in self._views.items()
            if name in parameters
        }
        self._part()
        for name, value in checked.items():
            self._views[name][...] = value

    def _checked(self, value: ArrayLike, like: Array, name: str, finite: bool = True) -> Array:
        a = data.cast(data.numbers(value, name), self._dtype)
        if np.ndim(value) == 0:
            a = np.broadcast_to(a.reshape(()), like.shape)
        if a.shape != like.shape:
            raise ShapeError(f"{name}: expected {like.shape}, got {a.shape}.")
        if finite and not np.isfinite(a).all():
            raise ConfigError(
                f"{name}: expected finite numbers in {self._dtype}, got {a[~np.isfinite(a)][0]}."
            )
        return a

    def __repr__(self) -> str:
        d = self.description
        parts = [d.cell, f"{d.input_size} -> {d.hidden_size} -> {d.output_size}"]
        parts += [f"num_layers={d.num_layers}"] * (d.num_layers > 1) + ["bidirectional"] * d.bidirectional
        parts += [f'readout="{d.readout}"', d.dtype]
        rows = [
            (name, " x ".join(map(str, view.shape)), f"{view.size:,}") for name, view in self._views.items()
        ]
        rows.append(("parameters", "", f"{self.num_parameters:,}"))
        left, middle, right = (max(map(len, column)) for column in zip(*rows, strict=True))
        table = [f"  {name:<{left}}  {shape:<{middle}}  {size:>{right}}" for name, shape, size in rows]
        return "\n".join([f"Network({', '.join(parts)})", *table])

    # ---- what it can do

    def _forward_steps(self, steps: int) -> int:
        """Steps at once without gradients: long sequences go in blocks, if no layer runs backwards."""
        return steps if self.description.bidirectional else min(steps, 256)

    def predict(
        self,
        x: Any,
        *,
        readout: str | None = None,
        x0: ArrayLike | None = None,
        lengths: ArrayLike | None = None,
        batch_size: int = 256,
        return_state: bool = False,
        threads: int | None = None,
        isa: str | None = None,
    ) -> Any:
        """The outputs of the network.

        Parameters
        ----------
        x : array (n, T, I) or (T, I), list of n arrays (T_i, I), or ``Sequences.windows(...)``
            Sequences, one series, sequences of different length, or windows of a series.  Arrays (T, I) may
            be DataFrames, and Series if I is 1: their columns are taken by name, in any order, if the network
            has `input_names`.
        readout : {"last", "every"}, optional
            Outputs after the last step, or after every step; default: the network's.
        x0 : array (n, state_size) or (state_size,), optional
            Initial states; default: the network's `initial_state`.
        lengths : array of int (n,), optional
            The steps that count in each sequence of an array (n, T, I); what stands after them is never read.
        batch_size : int, default 256
            Sequences at once; changes speed and memory, not the results.
        return_state : bool, default False
            Also return the final states, in the form `x0` takes, to go on from there.
        threads : int, optional
            At most this many; default: what the machine and the environment allow, see `show_config`.
        isa : str, optional
            The instruction set, one of those `show_config` lists; default: the environment's BPTT_FAST_ISA,
            or the best.

        Returns
        -------
        y : array or list
            What g gives, without a softmax or logistic function.  "last": (n, O), for one series (O,).
            "every": (n, T, O), with zeros after a sequence's length; (T, O) for one series; for a list a list
            of (T_i, O); for windows (n, length, O).  If x was tables, then (T, O) are tables of the same
            kind, with its index and the network's `output_names`.  Of the network's dtype; float64 if
            outputs are scaled, see `scaling`.
        state : array (n, state_size) or (state_size,)
            Only with `return_state`.

        Raises
        ------
        ShapeError, ConfigError
            If an argument does not fit; see the text.
        DivergedError
            If an output is not finite.

        Examples
        --------
        >>> import numpy as np, bptt_fast as bf
        >>> net = bf.Network(1, 4, 2, seed=0)
        >>> net.predict(np.ones((3, 5, 1)), readout="every").shape
        (3, 5, 2)
        """
        d = self.description
        every = (d.readout if readout is None else choice(readout, "readout", READOUTS)) == "every"
        sequences = data.sequences(x, d.input_size, self._dtype, lengths, columns=self._columns)
        n = len(sequences)
        order = data.counting(n)
        rows = sequences.place_outputs(every)
        if x0 is not None:
            sequences.state = data.states(x0, n, self.state_size, self._dtype)
        batch = min(integer(batch_size, "batch_size", 1, None), n)
        steps = self._forward_steps(sequences.steps)
        key = ("mse", every, batch, steps, *machine_for(threads, isa), False)
        plan = self._borrow(key)
        y = (np.zeros if lengths is not None else np.empty)((rows, d.output_size), self._dtype)
        state = np.empty((n, self.state_size), self._dtype) if flag(return_state, "return_state") else None
        status = plan.predict(self.params, core_data(sequences), order, y, every, state)
        self._give_back(key, plan)
        if status != "OK" or not data.finite(y):
            raise DivergedError(
                "predict: an output is not finite.  Are the parameters, and the inputs of reasonable size?"
            )
        scaling = self._columns.scaling
        if scaling is not None and scaling.output_mean is not None:
            y = scaling.outputs(y)
            if every and lengths is not None:
                y[~data.covered(rows, sequences.target_offset, sequences.length)] = 0
        result = sequences.arrange(y, every, self._columns.outputs)
        if state is None:
            return result
        return result, state[0] if sequences.form == "series" else state

    def fit(
        self,
        x: Any,
        y: Any,
        *,
        epochs: int = 1,
        batch_size: int | None = None,
        optimizer: Optimizer | str | None = None,
        loss: str | losses.Loss = "mse",
        bptt: Unfolding | None = None,
        sample_weight: Any = None,
        x0: ArrayLike | None = None,
        lengths: ArrayLike | None = None,
        validation_split: float = 0.0,
        validation_data: Any = None,
        callbacks: Callback | Sequence[Callback] = (),
        verbose: int | str = "auto",
        initial_epoch: int = 0,
        shuffle: bool | None = None,
        stateful: bool = False,
        teacher_forcing: float = 1.0,
        clip_norm: float | None = None,
        clip_value: float | None = None,
        clip_state: float | None = None,
        gradient_noise: float = 0.0,
        target_loss: float | None = None,
        patience: int | None = None,
        min_delta: float = 0.0,
        restore_best: bool = True,
        max_seconds: float | None = None,
        scaling: Scaling | str | None = None,
        threads: int | None = None,
        isa: str | None = None,
    ) -> History:
        """Train the network.

        Parameters
        ----------
        x : array (n, T, I) or (T, I), list of n arrays (T_i, I), or ``Sequences.windows(...)``
            Sequences, one series, sequences of different length, or windows of a series; real numbers, any
            dtype.  Never modified.  Arrays (T, I) may be DataFrames, as in `predict`; the network keeps the
            names of their columns, `input_names`, and those of targets, `output_names`.  Rows of x and y
            belong together by their place, not by their index.
        y : array or list
            Targets.  readout "last": (n, O); "every": (n, T, O), for one series (T, O), for a list a list of
            (T_i, O). With `SlidingBPTT` one row a step, as for "every"; for windows one for each row of their
            series.  Class indices for "cross_entropy": integers, without the last axis.  If O is 1 the last
            axis may be left out.
        epochs : int, default 1
            Passes over the data; counted from `initial_epoch`, as in Keras.
        batch_size : int, optional
            Sequences at once; default 32, and all of them for the optimisers of second order.  `FullBPTT` and
            `CheckpointedBPTT` update after each batch, `TruncatedBPTT` every k1 steps of a batch,
            `SlidingBPTT` after every pattern of one sequence after the other.
        optimizer : SGD, Adam, AdamW, NAdam, RMSprop, Adagrad or Rprop, or a name, optional
            Or of second order: LBFGS, LevenbergMarquardt or HessianFree.  Default Adam(1e-3); SGD(0.01) for
            `SlidingBPTT`.  What it keeps starts anew in each fit.
        loss : {"mse", "mae", "huber", "cross_entropy", "binary_cross_entropy"} or `Loss`, default "mse"
            Mean over the outputs of a target row, weighted mean over the rows of a batch.  Both cross-
            entropies take logits; the targets of "binary_cross_entropy" are numbers from 0 to 1.
        bptt : FullBPTT, SlidingBPTT, TruncatedBPTT or CheckpointedBPTT, default FullBPTT()
            How time is unfolded.
        sample_weight : array (n,), or of the shape of y without its last axis, optional
            Weights of the sequences, or of the target rows.  A row of weight 0 has no target: anything may
            stand there.
        x0 : array (n, state_size) or (state_size,), optional
            Initial states; default: the network's `initial_state`.  (state_size,) is also used for
            `validation_data`.
        lengths : array of int (n,), optional
            The steps that count in each sequence of an array (n, T, I); what stands after them is never read.
        validation_split : float, default 0
            The last part of the sequences, in [0, 1), kept for validation.  Of windows: the last part of the
            rows of their series.  Windows with inputs or targets on both sides are left out, see
            ``history.left_out``, so that no row is in both parts.  Windows that were written out as an array
            are sequences like any others, and must not share rows across the split.  With `SlidingBPTT` and
            one series: its last steps, with a context that has run through the steps before.
        validation_data : tuple (x, y) or (x, y, sample_weight), optional
            Data for validation instead.
        callbacks : list of Callback, optional
            Hooks around the epochs; ready ones are in ``bptt_fast.callbacks``.
        verbose : {"auto", 0, 1, 2}, default "auto"
            0: silence; 1: a progress bar, with the speed in steps of sequences; 2: a line an epoch; "auto": 1
            on a terminal and in a notebook, else 2.
        initial_epoch : int, default 0
            The epoch to begin with.  The order of the sequences depends on the seed and on the number of the
            epoch only.
        shuffle : bool, optional
            A new random order of the sequences in each epoch; default True unless `stateful`.  `SlidingBPTT`
            always takes them in the order given.
        stateful : bool, default False
            With `FullBPTT` and `TruncatedBPTT`: a sequence begins in the state in which it ended in the epoch
            before, or in the fit before if that was stateful too; sequence i of this fit goes on from
            sequence i of that one.  The first fit begins with `x0`, as does every fit that is given one.
            `reset_state` forgets the states.  Validation always begins with `x0`.
        teacher_forcing : float, default 1
            In [0, 1]: the probability with which the input of a step, from the second of a sequence on, is
            x's, and not the network's own output of the step before.  Each step draws for itself, by the seed
            and the count of updates.  The gradient is exact, through the outputs that are fed back too.
            Below 1 it needs `FullBPTT`, readout "every", output_size equal to input_size, one direction, and
            targets that are real numbers.  Output j goes to input j: names of inputs and outputs, if known,
            must be the same ones in one order, or have none in common.
        clip_norm : float, optional
            If the norm of the gradient over all parameters is larger, it is scaled to this.
        clip_value : float, optional
            Every number of the gradient is then clipped to +-clip_value.
        clip_state : float, optional
            On the way back through time dLoss/dh of each state is clipped to +-clip_state at each step.
        gradient_noise : float, default 0
            eta: to the (clipped) gradient of update t, counted from 0, numbers from a normal distribution of
            the variance eta / (1 + t)^0.55 are added.  They depend on the seed, t and the parameter only.
        target_loss : float, optional
            Stop after an epoch with a loss of at most this: the validation loss if there is any, else the
            training loss.
        patience : int, optional
            Stop after this many epochs in a row without a better loss (the same one).
        min_delta : float, default 0
            Better means: lower than the best by more than this.
        restore_best : bool, default True
            With `patience`, end with the weights of the best epoch.
        max_seconds : float, optional
            Stop after this time, also within an epoch.
        scaling : "standard" or Scaling, optional
            "standard": bring each input, and each target that is a real number, to mean 0 and deviation 1, as
            measured on the training part: not on validation data, padding, or targets of weight 0.  A
            constant column is only shifted.  With `teacher_forcing` below 1 targets are scaled as the inputs
            are.  None: the network keeps the `scaling` it has, none at first.  Losses, and `target_loss`, are
            those of scaled targets; targets of both cross-entropies are never scaled.
        threads, isa : optional
            As in `predict`.  The results do not depend on `threads`.

        Returns
        -------
        history : History
            A dict of lists, one entry an epoch; ``history.stopped`` says why training ended.

        Raises
        ------
        ShapeError, ConfigError
            If an argument does not fit.  The network is as before.
        DivergedError
            If a loss or gradient is not finite.  The network has its last finite weights.
        KeyboardInterrupt
            After Ctrl-C, with the weights of the last finished update in the network, and the finished epochs
            in the attribute `history` of the exception.

        Warns
        -----
        UserWarning
            If the k2 of `TruncatedBPTT` is longer than every sequence, so that nothing is truncated; or if
            `validation_split` splits an array whose sequences are overlapping views, as those of
            ``numpy.lib.stride_tricks.sliding_window_view`` are.

        Notes
        -----
        Equal seeds and arguments give equal results to the bit, for any number of threads, on the same
        instruction set.

        The loss of an epoch is the mean of the losses of its updates, each weighted by the sum of the weights
        of its target rows.
        clip_norm, clip_state: R. Pascanu, T. Mikolov and Y. Bengio, "On the difficulty of training recurrent
        neural networks", 2013; A. Graves, "Generating sequences with recurrent neural networks", 2013.
        gradient_noise: A. Neelakantan et al., "Adding gradient noise improves learning for very deep
        networks", 2015, with eta from 0.01 to 1.

        Examples
        --------
        >>> import numpy as np, bptt_fast as bf
        >>> series = np.sin(np.arange(300) / 5)[:, None]
        >>> net = bf.Network(1, 8, 1, seed=0)
        >>> history = net.fit(series, series, bptt=bf.SlidingBPTT(5), epochs=5, verbose=0)
        >>> history["loss"][-1] < history["loss"][0]
        True
        """
        from . import training

        return training.fit(
            self,
            x,
            y,
            epochs=epochs,
            batch_size=batch_size,
            optimizer=optimizer,
            loss=loss,
            bptt=bptt,
            sample_weight=sample_weight,
            x0=x0,
            lengths=lengths,
            validation_split=validation_split,
            validation_data=validation_data,
            callbacks=callbacks,
            verbose=verbose,
            initial_epoch=initial_epoch,
            shuffle=shuffle,
            stateful=stateful,
            teacher_forcing=teacher_forcing,
            clip_norm=clip_norm,
            clip_value=clip_value,
            clip_state=clip_state,
            gradient_noise=gradient_noise,
            target_loss=target_loss,
            patience=patience,
            min_delta=min_delta,
            restore_best=restore_best,
            max_seconds=max_seconds,
            scaling=scaling,
            threads=threads,
            isa=isa,
        )

    def evaluate(
        self,
        x: Any,
        y: Any,
        *,
        loss: str | losses.Loss = "mse",
        readout: str | None = None,
        sample_weight: Any = None,
        x0: ArrayLike | None = None,
        lengths: ArrayLike | None = None,
        batch_size: int = 256,
        threads: int | None = None,
        isa: str | None = None,
    ) -> float:
        """The weighted mean loss over all target rows, without dropout; of scaled targets, as in `fit`.

        Parameters
        ----------
        x, y, loss, sample_weight, x0, lengths
            As in `fit`.
        readout, batch_size, threads, isa
            As in `predict`; with readout "every", y has a row for each step.

        Returns
        -------
        loss : float

        Raises
        ------
        ShapeError, ConfigError
            If an argument does not fit; see the text.
        DivergedError
            If the loss is not finite.

        Examples
        --------
        >>> import numpy as np, bptt_fast as bf
        >>> net = bf.Network(1, 4, 1, seed=0)
        >>> x = np.ones((3, 5, 1))
        >>> net.evaluate(x, net.predict(x))
        0.0
        """
        from . import training

        return training.evaluate(
            self,
            x,
            y,
            loss=loss,
            readout=readout,
            sample_weight=sample_weight,
            x0=x0,
            lengths=lengths,
            batch_size=batch_size,
            threads=threads,
            isa=isa,
        )

    def loss_and_grad(
        self,
        x: Any,
        y: Any,
        *,
        loss: str | losses.Loss = "mse",
        bptt: Unfolding | None = None,
        teacher_forcing: float = 1.0,
        sample_weight: Any = None,
        x0: ArrayLike | None = None,
        lengths: ArrayLike | None = None,
        with_inputs: bool = False,
        threads: int | None = None,
        isa: str | None = None,
    ) -> tuple[float, Gradients]:
        """The loss of one batch and its gradient, for own optimisers; the network does not change.

        Parameters
        ----------
        x, y, loss, teacher_forcing, sample_weight, x0, lengths
            As in `fit`; all sequences are one batch.
        bptt : FullBPTT, TruncatedBPTT or CheckpointedBPTT, default FullBPTT()
            The gradient is exact, but for `TruncatedBPTT`: then it is the sum over all passes, with the
            weights as they are, of errors that are those of the loss of the whole batch.
        with_inputs : bool, default False
            Also the gradients with respect to x and the initial states; not for windows or `TruncatedBPTT`.
        threads, isa
            As in `predict`.

        Returns
        -------
        loss : float
        grads : Gradients
            A dict of arrays under the names of the parameters, views into ``grads.flat`` (P,).  `with_inputs`
            adds "x", in the form of x, and "x0", (n, state_size) or for one series (state_size,).  With
            `scaling` the loss is that of scaled targets; "x" is its derivative by x as it was given.

        Raises
        ------
        ShapeError, ConfigError
            If an argument does not fit; see the text.
        DivergedError
            If the loss or the gradient is not finite.

        Warns
        -----
        UserWarning
            If the k2 of `TruncatedBPTT` is longer than every sequence, so that nothing is truncated.

        Notes
        -----
        With dropout the masks are always the same ones, drawn by the network's seed, so that the loss is a
        function of the parameters alone.

        Examples
        --------
        >>> import numpy as np, bptt_fast as bf
        >>> net = bf.Network(1, 4, 1, seed=0)
        >>> loss, grads = net.loss_and_grad(np.ones((3, 5, 1)), np.zeros((3, 1)))
        >>> net.params -= 0.1 * grads.flat
        >>> grads["weight_hh_l0"].shape
        (4, 4)
        """
        from . import training

        return training.loss_and_grad(
            self,
            x,
            y,
            loss=loss,
            bptt=bptt,
            teacher_forcing=teacher_forcing,
            sample_weight=sample_weight,
            x0=x0,
            lengths=lengths,
            with_inputs=with_inputs,
            threads=threads,
            isa=isa,
        )

    def estimate_memory(
        self,
        batch: int,
        steps: int,
        *,
        bptt: Unfolding | None = None,
        loss: str | losses.Loss = "mse",
        readout: str | None = None,
        threads: int | None = None,
        isa: str | None = None,
    ) -> int:
        """The memory that training works in, beside the data and the parameters; nothing is allocated.

        Parameters
        ----------
        batch : int
            Sequences at once: the `batch_size` of `fit`, or the number of sequences if they are fewer.
        steps : int
            Steps of the longest sequence.
        bptt, loss
            As in `fit`.  `SlidingBPTT` works on one window, whatever `batch` and `steps`.
        readout : {"last", "every"}, optional
            Whether targets come with the last step of a sequence, or with every step; default: the network's.
        threads, isa
            As in `predict`.

        Returns
        -------
        bytes : int
            The size of the arena of ``fit(..., bptt=bptt)`` to the byte, on this machine, for sequences that
            are no windows and with teacher_forcing=1.

        Raises
        ------
        ConfigError
            If an argument does not fit, or the arena is too large for any machine.

        Examples
        --------
        >>> import bptt_fast as bf
        >>> net = bf.Network(8, 32, 1, cell="lstm", seed=0)
        >>> net.estimate_memory(1, 2000) > net.estimate_memory(1, 1000)
        True
        """
        from . import training

        return training.estimate_memory(
            self, batch, steps, bptt=bptt, loss=loss, readout=readout, threads=threads, isa=isa
        )

    def reset_state(self) -> None:
        """Forget the states that ``fit(..., stateful=True)`` has kept; the next such fit begins with `x0`.

        Examples
        --------
        >>> import numpy as np, bptt_fast as bf
        >>> net = bf.Network(1, 4, 1, readout="every", seed=0)
        >>> x = np.ones((2, 10, 1))
        >>> history = net.fit(x, x, bptt=bf.TruncatedBPTT(5), stateful=True, verbose=0)
        >>> net.reset_state()
        """
        self._states = None

    # ---- one step after the other

    def stream(self, batch: int = 1, *, isa: str | None = None) -> Stream:
        """A stream: the network one step at a time, in a few microseconds.

        Parameters
        ----------
        batch : int, default 1
            Sequences that go in step.
        isa : str, optional
            As in `predict`.

        Returns
        -------
        stream : Stream
            In the network's initial state, with a copy of its weights of the moment.  Its rows are in the
            units of the data, if the network has a `scaling`, and in the order of `input_names`.

        Raises
        ------
        ConfigError
            If the network is bidirectional, or `batch` is not an integer of at least 1.

        Examples
        --------
        >>> import numpy as np, bptt_fast as bf
        >>> net = bf.Network(3, 16, 2, cell="gru", seed=0)
        >>> stream = net.stream()
        >>> stream.step(np.ones(3, np.float32)).shape
        (2,)
        """
        from . import online

        return online.Stream(self, batch, isa)

    def learn_online(
        self,
        bptt: SlidingBPTT,
        optimizer: Optimizer | str | None = None,
        loss: str | losses.Loss = "mse",
        *,
        x0: ArrayLike | None = None,
        clip_norm: float | None = None,
        isa: str | None = None,
    ) -> Learner:
        """A learner: the classical online algorithm as the data arrive, one observation at a time.

        Parameters
        ----------
        bptt : SlidingBPTT
            The depth of unfolding, and where the target of a window stands.
        optimizer : SGD or Adam, optional
            Default SGD(0.01).
        loss, clip_norm, isa
            As in `fit`.
        x0 : array (state_size,), optional
            The state before the first observation; default zeros.

        Returns
        -------
        learner : Learner
            As long as it lives, the parameters of this network are the learner's: every access through the
            network sees its latest weights.  What is written into arrays of the network meanwhile is lost
            with the learner's next update; `fit`, `load_state_dict`, assignments such as
            ``net["head.0.bias"] = 0``, and another learner end the learner instead.

        Raises
        ------
        ConfigError, ShapeError
            If an argument does not fit, or the network is not one for `SlidingBPTT`; see the text.

        Notes
        -----
        A series observed row by row gives the same weights as one epoch of `fit` on the series, to the bit.

        Examples
        --------
        >>> import numpy as np, bptt_fast as bf
        >>> net = bf.Network(1, 8, 1, seed=0)
        >>> learner = net.learn_online(bf.SlidingBPTT(k=5))
        >>> losses = [learner.observe(row, row) for row in np.sin(np.arange(300, dtype="f4") / 5)[:, None]]
        >>> sum(losses[-50:]) < sum(losses[5:55])
        True
        """
        from . import online

        return online.Learner(self, bptt, optimizer, loss, x0=x0, clip_norm=clip_norm, isa=isa)

    def forecast(
        self,
        series: Any,
        steps: int,
        *,
        next_input: Callable[[Array, int], ArrayLike] | None = None,
        x0: ArrayLike | None = None,
    ) -> Any:
        """Run freely: over the series, and then on by itself, the outputs fed back as inputs.

        Parameters
        ----------
        series : array (T, I) or (n, T, I), list of n arrays (T_i, I), or ``Sequences.windows(...)``
            What is known.  Arrays (T, I) may be DataFrames, as in `predict`.
        steps : int
            How many outputs, at least 1.
        next_input : callable, optional
            ``next_input(output, step)`` makes the input of the next step, (I,) or for several sequences
            (n, I), from an output, (O,) or (n, O), and its number, counted from 0.  Without it the output
            itself is the next input: each number goes where its name stands among `input_names`, if the
            `output_names` are the same ones, and to its own place if they have none in common or are unknown.
        x0 : array (state_size,) or (n, state_size), optional
            The state before the series; default: the network's `initial_state`.

        Returns
        -------
        y : ndarray (steps, O) or (n, steps, O)
            The first output is the one after the last step of the series, ``predict(series,
            readout="last")``, each further one that of a step whose input was made from the output before it.
            For a table, or a list of them, tables of the same kind, whose index goes on at its frequency or
            by its constant step.  A frequency that an index of dates does not have is inferred by pandas,
            from at least three labels.

        Raises
        ------
        ConfigError
            If there is no `next_input` and output_size is not input_size, or only some of `output_names` are
            `input_names`; if the network is bidirectional, the index of a table has no frequency or constant
            step, or an argument does not fit.
        ShapeError
            If an array does not fit, what `next_input` gives included.
        DivergedError
            If an output is not finite.

        Examples
        --------
        >>> import numpy as np, bptt_fast as bf
        >>> net = bf.Network(1, 8, 1, seed=0)
        >>> net.forecast(np.ones((20, 1)), 5).shape
        (5, 1)
        >>> with_the_hour = bf.Network(2, 8, 1, seed=0)
        >>> with_the_hour.forecast(np.ones((20, 2)), 5, next_input=lambda y, step: [y[0], step % 24]).shape
        (5, 1)
        """
        from . import online

        return online.forecast(self, series, steps, next_input=next_input, x0=x0)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the network, `extra` included, to a safetensors file; ``bptt_fast.load`` reads it.

        Parameters
        ----------
        path : str or path-like
            The file, replaced if it exists.

        Raises
        ------
        ConfigError
            If `path` is not a path, or `extra` not a dict of str to str.
        OSError
            If the file cannot be written; the old one is still there.
        """
        from . import persistence

        persistence.save(self, path)

    def to_onnx(self, path: str | os.PathLike[str]) -> None:
        """Write the network as an ONNX graph, for onnxruntime and others; ``bptt_fast.from_onnx`` reads it.

        Parameters
        ----------
        path : str or path-like
            The file, replaced if it exists.

        Raises
        ------
        ConfigError
            If `path` is not a path, or `extra` not a dict of str to str.
        ImportError
            If onnx is not installed.
        OSError
            If the file cannot be written; the old one is still there.

        Notes
        -----
        Inputs: "x" (batch, steps, I); "h0", for an LSTM also "c0" (layers * directions, batch, width), the
        initial states in PyTorch's order.  These may be left out: then they are the network's, zeros or
        trained, and (layers * directions, 1, width) stands for all sequences.  Outputs: "y" (batch, O) or
        (batch, steps, O) by the network's readout, and the final states "hn", "cn", of the form of "h0".
        Number of sequences and of steps are free.

        `scaling` is part of the graph, computed in float64.  All inputs and outputs have the network's dtype,
        but "x" of a float32 network is float64 if float32 has too few digits for the unscaled inputs (if its
        numbers of the size of mean + scale lie further apart than 1e-4 of the scale, as at 1e8 with deviation
        1), and "y" likewise; ``session.get_inputs()[0].type`` tells.

        The layers are nodes RNN, GRU or LSTM of operator set 14.  What these or their kernels in onnxruntime
        lack, the cell "mlp", projections and float64, is a node Scan.  Dropout is not in the graph.
        onnxruntime warns when it loads a graph with inputs that may be left out; it means no harm.

        Examples
        --------
        >>> import numpy as np, bptt_fast as bf
        >>> net = bf.Network(3, 8, 2, cell="gru", seed=0)
        >>> net.to_onnx("model.onnx")  # doctest: +SKIP
        >>> import onnxruntime  # doctest: +SKIP
        >>> session = onnxruntime.InferenceSession("model.onnx")  # doctest: +SKIP
        >>> session.run(["y"], {"x": np.ones((4, 10, 3), "float32")})[0].shape  # doctest: +SKIP
        (4, 2)
        """
        from . import onnx

        onnx.write(self, path)

    def to_torch(self) -> TorchModel:
        """The network as a module of PyTorch's, with a copy of its parameters (extra "torch").

        Returns
        -------
        model : bptt_fast.torch.Model
            A ``torch.nn.Module`` with the parts `rnn`, one of ``bptt_fast.torch.RNN``, `GRU` and `LSTM`, and
            `head`; called with x (n, T, I) it gives what `predict` gives.  Its `scaling` is computed in
            float64 and takes x of any dtype; scaled outputs are float64.

        Raises
        ------
        ConfigError
            If PyTorch has no such cell: "mlp", reset "before", peepholes, recurrent dropout, and the
            nonlinearities "sigmoid" and "linear" of "elman".
        ImportError
            Without PyTorch.

        Examples
        --------
        >>> import torch, bptt_fast as bf
        >>> bf.Network(3, 8, 2, cell="gru", seed=0).to_torch()(torch.zeros(4, 10, 3)).shape
        torch.Size([4, 2])
        """
        from . import torch

        return torch.to_torch(self)

    # ---- plans: the last small one is kept, since making one costs more than a step of a small network.  A
    # list and its pop make sure that a plan serves one caller at a time.

    def _borrow(self, key: tuple[Any, ...]) -> Any:
        try:
            kept, plan = self._spare.pop()
            if kept == key:
                return plan
        except IndexError:
            pass
        return make_plan(self._desc, *key)

    def _give_back(self, key: tuple[Any, ...], plan: Any) -> None:
        if not self._spare and plan.nbytes <= SMALL_PLAN:
            self._spare.append((key, plan))


def from_torch(module: Any, head: Any = None, *, readout: str = "every") -> Network:
    """A network with a copy of the parameters of a recurrent module of PyTorch's (extra "torch").

    Parameters
    ----------
    module : torch.nn.RNN, torch.nn.GRU, torch.nn.LSTM, or bptt_fast.torch.Model
        f.  Of a larger module pass its parts: ``from_torch(model.rnn, model.fc)``.
    head : torch.nn.Linear or torch.nn.Sequential, optional
        g: linear layers with nonlinearities of one kind between them.  Without it the outputs are the states.
    readout : {"last", "every"}, default "every"
        What g reads.  "last" is the state after the last step, in a reversed direction that after the first:
        in PyTorch's words ``h_n[-1]``, not ``output[:, -1]``.  A Model has its own.

    Returns
    -------
    net : Network
        Of the module's dtype.  Whatever is done to it leaves the module as it is.

    Raises
    ------
    ConfigError
        If the module or the head is none of these, or not of float32 or float64.
    ImportError
        Without PyTorch.

    Examples
    --------
    >>> import torch, bptt_fast as bf
    >>> net = bf.from_torch(torch.nn.GRU(3, 8), torch.nn.Linear(8, 2), readout="last")
    >>> net.cell, net.output_size
    ('gru', 2)
    """
    from . import torch

    return torch.from_torch(module, head, readout=readout)


class Gradients(dict[str, Array]):
    """Gradients by the names of the parameters, views into one vector.

    Attributes
    ----------
    flat : ndarray (P,)
        The gradient in the order of ``Network.params``.
    """

    flat: Array

    def __init__(self, net: Network) -> None:
        self.flat = np.zeros_like(net.params)
        super().__init__(_named(self.flat, net._blocks))


def make_plan(*description: Any, **more: Any) -> Any:
    """A plan of the C core, with its errors in words; the arguments are those of `plan_bytes`."""
    return _planned(_core.Plan, *description, **more)


def plan_bytes(*description: Any, **more: Any) -> int:
    """The size of a plan's arena."""
    return int(_planned(_core.nbytes, *description, **more))


def _planned(
    make: Any,
    desc: dict[str, Any],
    loss: Any,
    every: bool,
    batch: int,
    steps: int,
    threads: int,
    isa: str | None,
    input_gradient: bool = False,
    unfold: Mapping[str, Any] | None = None,
) -> Any:
    try:
        return make(
            desc,
            **losses.get(loss).core(),
            readout_every_step=every,
            batch=batch,
            steps=steps,
            threads=threads,
            isa=isa,
            input_gradient=input_gradient,
            **(unfold or {}),
        )
    except MemoryError as error:
        raise MemoryError(
            f"{batch} sequences of {steps} steps at once do not fit into memory ({error}).  Try a smaller "
            f"batch_size, shorter sequences, or in training bptt=CheckpointedBPTT()."
        ) from None
    except (ValueError, OverflowError) as error:
        raise ConfigError(f"{batch} sequences of {steps} steps at once cannot be planned: {error}.") from None


def core_data(sequences: data.Sequences) -> Any:
    """Sequences in the hands of the C core."""
    s = sequences
    return _core.Data(s.values, s.offset, s.length, s.target_offset, s.targets, s.classes, s.weight, s.state)


def machine_for(threads: int | None, isa: str | None) -> tuple[int, str | None]:
    """The number of threads and the instruction set of a call: what it asks for, or what the machine says."""
    return (
        machine().threads if threads is None else integer(threads, "threads", 1, MAX_THREADS),
        machine().isa if isa is None else choice(isa, "isa", _core.isas()),
    )


@dataclass(frozen=True)
class Machine:
    """What the machine and the environment say, read once: threads, the limits by name, a forced isa."""

    threads: int
    limits: dict[str, int]
    isa: str | None


@cache
def machine() -> Machine:
    """Threads: the smallest of the processors this process may use, the cgroup quota, and two variables."""
    affinity = getattr(os, "sched_getaffinity", None)
    limits = {"processors": len(affinity(0)) if affinity else os.cpu_count() or 1}
    quota = _cgroup_quota()
    if quota is not None:
        limits["cgroup quota"] = max(1, int(quota))
    for variable in ("BPTT_FAST_NUM_THREADS", "OMP_NUM_THREADS"):
        text = os.environ.get(variable, "").strip()
        if variable == "OMP_NUM_THREADS":
            text = text.split(",")[0].strip()
        if text:
            try:
                limits[variable] = integer(int(text), variable, 1, None)
            except ValueError:
                raise ConfigError(
                    f"Environment variable {variable}: expected a number of threads of at least 1, "
                    f"got {text!r}.  Unset it or correct it."
                ) from None
    isa = os.environ.get("BPTT_FAST_ISA", "").strip() or None
    if isa is not None:
        choice(isa, "Environment variable BPTT_FAST_ISA", _core.isas())
    return Machine(min(*limits.values(), MAX_THREADS), limits, isa)


def _cgroup_quota() -> float | None:
    """Processors that the control groups of this process and those above allow; None without a limit."""
    found = []
    for path in _cgroup_folders():
        try:
            if os.path.exists(f"{path}/cpu.max"):
                quota, period = _words(f"{path}/cpu.max")
            else:
                (quota,), (period,) = _words(f"{path}/cpu.cfs_quota_us"), _words(f"{path}/cpu.cfs_period_us")
            if quota not in ("max", "-1"):
                found.append(int(quota) / int(period))
        except (OSError, ValueError, ZeroDivisionError):
            continue
    return min(found, default=None)


def _cgroup_folders() -> Iterator[str]:
    try:
        with open("/proc/self/cgroup", encoding="utf-8") as file:
            groups = [line.rstrip("\n").split(":", 2) for line in file]
    except OSError:
        return
    for group in groups:
        if len(group) == 3 and (group[1] == "" or "cpu" in group[1].split(",")):
            root = "/sys/fs/cgroup" + ("/cpu" if group[1] else "")
            parts = [part for part in group[2].split("/") if part]
            for depth in range(len(parts) + 1):
                yield "/".join([root, *parts[:depth]])


def _words(path: str) -> list[str]:
    with open(path, encoding="utf-8") as file:
        return file.read().split()


def show_config() -> None:
    """Print versions, the instruction sets of this machine, the one chosen, the number of threads and why.

    Raises
    ------
    ConfigError
        If BPTT_FAST_NUM_THREADS, OMP_NUM_THREADS or BPTT_FAST_ISA has a value that cannot be used.

    Examples
    --------
    >>> import bptt_fast as bf
    >>> bf.show_config()  # doctest: +SKIP
    bptt_fast   0.1.0
    """
    found = configuration()
    chosen = f"{found['isa']} ({'BPTT_FAST_ISA' if machine().isa else 'the best here'})"
    limits = ", ".join(f"{name} {limit}" for name, limit in found["limits"].items())
    rows = {
        "bptt_fast": found["bptt_fast"],
        "instances": f"{chosen}; supported: {', '.join(found['supported'])}",
        "threads": f"{found['threads']} (the smallest of: {limits})",
        "numpy": found["numpy"],
        "python": f"{found['python']} ({found['executable']})",
        "platform": found["platform"],
    }
    print("\n".join(f"{name:<10}  {text}" for name, text in rows.items()))


def configuration() -> dict[str, Any]:
    """What `show_config` prints, as plain values."""
    import platform

    from . import __version__

    supported = _core.isas()
    return {
        "bptt_fast": __version__,
        "isa": machine().isa or supported[-1],
        "supported": list(supported),
        "threads": machine().threads,
        "limits": machine().limits,
        "numpy": np.__version__,
        "python": platform.python_version(),
        "executable": sys.executable,
        "platform": platform.platform(),
    }


def get_include() -> str:
    """The folder of the C library: its header bptt.h and all its sources.

    Returns
    -------
    folder : str
        For the compiler's ``-I``, and for ``include_dirs`` of an extension that cimports ``bptt_fast._core``.
        ``gcc -c @FOLDER/flags FOLDER/*.c FOLDER/instances/*.c`` compiles the library; docs/c.md tells more.

    Examples
    --------
    >>> import os, bptt_fast as bf
    >>> os.path.exists(os.path.join(bf.get_include(), "bptt.h"))
    True
    """
    package = os.path.dirname(os.path.abspath(__file__))
    installed = os.path.join(package, "csrc")
    return installed if os.path.isdir(installed) else os.path.join(os.path.dirname(package), "csrc")


# ---- the description


def _cells_with(capability: str) -> str:
    """The cells that have it, as arguments: cell="gru" or "lstm"."""
    wanted = [f'"{name}"' for name, row in CELLS.items() if row[capability] > 0 and name not in VARIANTS]
    return f"cell={' or '.join(wanted)}"


def _widths(value: Any, name: str, most: int) -> tuple[int, ...]:
    if not isinstance(value, (tuple, list)):
        raise ConfigError(f"{name}: expected a tuple of widths, got {value!r}.  One layer of 8: {name}=(8,).")
    if len(value) > most:
        raise ConfigError(f"{name}: expected at most {most} layers, got {len(value)}.")
    return tuple(integer(width, f"{name}[{i}]") for i, width in enumerate(value))


def _nonlinearities(description: Description, cell: str, f: tuple[int, ...]) -> tuple[str, ...]:
    """One for each layer of f; none for the gated cells."""
    value = description.nonlinearity
    if not CELLS[cell]["activation"]:
        if value is None or value in ((), []):
            return ()
        raise ConfigError(
            f'nonlinearity: expected None for cell="{cell}", whose nonlinearities are fixed, got {value!r}.'
        )
    layers = len(f) + 1
    if value is None or isinstance(value, str):
        value = ("tanh" if value is None else value,) * layers
    if not isinstance(value, (tuple, list)) or len(value) != layers:
        got = f"{len(value)}: {value!r}" if isinstance(value, (tuple, list)) else repr(value)
        raise ConfigError(
            f"nonlinearity: expected a name, or {layers} of them, one for each layer of f; got {got}."
        )
    return tuple(choice(name, f"nonlinearity[{i}]", NONLINEARITIES) for i, name in enumerate(value))


def _dtype_name(value: Any) -> str:
    try:
        name = np.dtype(value).name
    except TypeError:
        name = ""
    if value is None or name not in ("float32", "float64"):
        raise ConfigError(f'dtype: expected "float32" or "float64", got {value!r}.')
    return name


def _init(value: Any) -> Any:
    return value if callable(value) else RULES[0] if value is None else choice(value, "init", RULES)


def _seed(value: Any) -> int:
    return int.from_bytes(os.urandom(6), "little") if value is None else integer(value, "seed", 0, 2**64 - 1)


def _sizes(d: Description) -> str:
    return (
        f"input_size={d.input_size}, hidden_size={d.hidden_size}, output_size={d.output_size}"
        + (f", f={d.f}" if d.f else "")
        + (f", head={d.head}" if d.head else "")
    )


@cache
def _memory() -> int:
    """Bytes of memory of this machine, or 1 TiB where it does not say."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return 1 << 40


# ---- parameters


def _named(flat: Array, blocks: list[tuple[str, int, int, int]]) -> dict[str, Array]:
    """Views into a flat vector, by name."""
    return {
        name: flat[offset : offset + rows * (cols or 1)].reshape((rows, cols) if cols else (rows,))
        for name, rows, cols, offset in blocks
    }
