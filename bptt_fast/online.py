"""One step at a time: streams that predict, learners that train as data arrive, free-running forecasts."""

from __future__ import annotations

import copy
import operator
import os
import weakref
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from . import _core, data, losses, optimizers, storage  # type: ignore[attr-defined]
from .columns import continued, is_table, like, names_of
from .data import Array
from .errors import ConfigError, DivergedError, ShapeError, integer, number
from .inference import predict
from .losses import Loss
from .machine import machine_for
from .model import Model
from .optimizers import FirstOrder
from .schedules import Schedule
from .unfolding import SlidingBPTT


class Stream:
    """A network that runs one step at a time; ``Network.stream`` makes it.

    Parameters
    ----------
    net : Network
        One that runs forward in time.
    batch : int, default 1
        Sequences that go in step.
    isa : str, optional
        As in ``Network.predict``.

    Attributes
    ----------
    network : Network
    batch : int

    Raises
    ------
    ConfigError
        If the network is bidirectional, or an argument does not fit.

    Examples
    --------
    >>> import numpy as np, bptt_fast as bf
    >>> net = bf.Network(1, 4, 1, dtype="float64", seed=0)
    >>> stream = net.stream()
    >>> outputs = [stream.step(row) for row in np.ones((5, 1))]
    >>> bool(np.allclose(outputs[-1], net.predict(np.ones((5, 1)))))
    True
    """

    __slots__ = ("_core", "_scaling", "_step", "batch", "network")

    def __init__(self, net: Model, batch: int = 1, isa: str | None = None) -> None:
        _check_forward(net, "stream")
        self.network = net
        self.batch = integer(batch, "batch")
        chosen = machine_for(None, isa)[1]
        try:
            self._core = _core.Stream(net.desc(), net.params, self.batch, chosen)
        except MemoryError as error:
            raise MemoryError(
                f"stream: {batch} sequences at once do not fit into memory ({error}).  Try a smaller batch."
            ) from None
        except (ValueError, OverflowError) as error:
            raise ConfigError(f"stream: {batch} sequences at once cannot be planned: {error}.") from None
        self._take_scaling()

    def _take_scaling(self) -> None:
        self._scaling = self.network.scaling
        self._step: Any = self._core.step if self._scaling is None else None  # which `step` cannot call

    def step(self, x: ArrayLike) -> Array:
        """One step of all sequences.

        Parameters
        ----------
        x : array (I,), or (batch, I)
            The input; fastest as a contiguous array of the network's dtype, else it is converted first.

        Returns
        -------
        y : ndarray (O,), or (batch, O)
            What g reads from the new state; in float64 if outputs are scaled.

        Raises
        ------
        ShapeError, ConfigError
            If `x` does not fit or is not finite.  The state is as before.
        """
        try:
            return self._step(x)
        except (TypeError, ValueError, BufferError):
            net, scaling = self.network, self._scaling
            scaled = getattr(scaling, "inputs", None)
            y = self._core.step(_rows(x, self.batch, net.input_size, net.dtype, "x", scaled))
            return y if scaling is None else scaling.outputs(y)

    @property
    def state(self) -> Array:
        """The state (state_size,), or (batch, state_size), a copy; assign to it to go on from another one."""
        return self._core.state

    @state.setter
    def state(self, value: ArrayLike) -> None:
        states = data.states(value, self.batch, self.network.state_size, self.network.dtype, "state")
        if states is None:
            raise ConfigError("state: expected an array, got None.  Use reset() for the initial state.")
        self._core.state = states[0] if self.batch == 1 else states

    def reset(self) -> None:
        """Back to the network's initial state, with the weights and the scaling it has now."""
        self._core.reset(self.network.params)
        self._take_scaling()

    def __reduce__(self) -> Any:
        raise ConfigError(
            "Stream: expected an object that can be pickled or copied, got one that cannot.  Take "
            "stream.network and stream.state: a new net.stream() goes on from a state that is assigned to it."
        )

    def __repr__(self) -> str:
        return f"Stream(batch={self.batch}, {_short(self.network)})"


class Learner:
    """The classical online algorithm as data arrive; ``Network.learn_online`` makes it.

    As long as it lives, the parameters of its network are the learner's.

    Parameters
    ----------
    net : Network
        One for `SlidingBPTT`: readout "last", one direction, no dropout, initial_state "zeros".
    bptt : SlidingBPTT
        The depth of unfolding, and where the target of a window stands.
    optimizer : SGD, Adam or another, optional
        Default SGD(0.01); with a number for a learning_rate.
    loss, isa
        As in ``Network.fit``.
    x0 : array (state_size,), optional
        The state before the first observation; default zeros.

    Attributes
    ----------
    network : Network
        Whose parameters are learnt.
    bptt, optimizer, loss
        What it was made with.

    Raises
    ------
    ConfigError, ShapeError
        If an argument does not fit; see the text.

    Examples
    --------
    >>> import numpy as np, bptt_fast as bf
    >>> net = bf.Network(1, 8, 1, seed=0)
    >>> learner = net.learn_online(bf.SlidingBPTT(3), bf.SGD(0.05))
    >>> for row in np.sin(np.arange(100, dtype=np.float32) / 5)[:, None]:
    ...     loss = learner.observe(row, row)
    >>> learner.seen, learner.updates
    (100, 97)
    """

    __slots__ = (
        "__weakref__",
        "_core",
        "_hyper",
        "_needs_checks",
        "_observe",
        "_restored_counts",
        "_scaling",
        "_self_ref",
        "_slots",
        "_status",
        "_stored",
        "bptt",
        "loss",
        "network",
        "optimizer",
    )

    def __init__(
        self,
        net: Model,
        bptt: Any,
        optimizer: Any = None,
        loss: Any = "mse",
        *,
        x0: ArrayLike | None = None,
        isa: str | None = None,
    ) -> None:
        state = data.states(x0, 1, net.state_size, net.dtype)
        self._begin(net, bptt, optimizer, loss, isa, None if state is None else state[0], {}, {})

    def _begin(
        self,
        net: Model,
        bptt: Any,
        optimizer: Any,
        loss: Any,
        isa: str | None,
        state: Array | None,
        counts: Mapping[str, float],
        arrays: Mapping[str, Array],
    ) -> None:
        """Check everything, then take the network over; `counts` and `arrays` are those of a snapshot."""
        if not isinstance(bptt, SlidingBPTT):
            raise ConfigError(f"learn_online: expected SlidingBPTT(k), got {bptt!r}.")
        bptt.check(net)
        self.network, self.bptt = net, bptt
        chosen_optimizer = optimizers.get("sgd" if optimizer is None else optimizer)
        if not isinstance(chosen_optimizer, optimizers.FirstOrder):
            raise ConfigError(
                f"learn_online: expected an optimizer of first order, got {chosen_optimizer!r}, which needs "
                f"all sequences at once.  Use SGD() or Adam()."
            )
        self.optimizer = chosen_optimizer
        chosen_loss = losses.get(loss)
        self.loss = chosen_loss.plain
        kind = chosen_loss.targets
        self._scaling = net.scaling
        net.columns.check_targets(kind, "learn_online")
        self._needs_checks = kind == "probability" or net.scaling is not None
        if isinstance(self.optimizer.learning_rate, Schedule):
            raise ConfigError(
                f"learn_online: expected a number for a learning_rate, got "
                f"{self.optimizer.learning_rate}: an endless series has no epochs."
            )
        self._hyper = self.optimizer.hyper(net.seed)
        self._restored_counts = {name: int(counts.get(name, 0)) for name in ("seen", "updates")}
        self._hyper |= {name: value for name, value in counts.items() if name in ("product", "previous")}
        self._hyper["step"] = self._restored_counts["updates"]
        self._slots = arrays.get(
            "slots", np.zeros(_core.state_vectors(self.optimizer.name) * net.num_parameters, net.dtype)
        )
        chosen = machine_for(None, isa)[1]
        try:
            self._core = _core.Learner(
                net.desc(),
                net.params,
                self._slots,
                self._hyper,
                bptt.k,
                bptt.lead,
                chosen_loss.core(),
                isa=chosen,
                window=arrays.get("window"),
                state=state,
            )
        except MemoryError as error:
            raise MemoryError(
                f"learn_online: a window of {bptt.k} steps does not fit into memory ({error}).  Try a "
                f"smaller k."
            ) from None
        except (ValueError, OverflowError) as error:
            raise ConfigError(f"learn_online: {bptt} cannot be planned: {error}.") from None
        self._observe, self._status, self._stored = self._core.observe, self._core.status, 0
        net.columns = replace(net.columns, lead=bptt.lead)  # which ends another learner
        self._self_ref = net.learner = weakref.ref(self)

    def observe(self, x: ArrayLike, y: Any = None, weight: float = 1.0) -> float:
        """Take one row of the series, and with it perform one pattern of the algorithm.

        Parameters
        ----------
        x : array (I,)
            The input; fastest as a contiguous array of the network's dtype, else it is converted first.
        y : array (O,), or int for "cross_entropy", optional
            The row of the targets that belongs to the same time as `x`, as in `fit`.  None: there is none;
            the context moves on and nothing is learnt.
        weight : float, default 1
            Of the target, at least 0; the same as no target if 0.

        Returns
        -------
        loss : float
            Of the pattern, before its update; of scaled targets, as in `fit`.  nan without a target, and as
            long as the window fills: the first pattern comes with observation k + lead.

        Raises
        ------
        ShapeError, ConfigError
            If a row does not fit or is not finite.  The learner is as before.
        ConfigError
            If the network's weights were changed by other means since the learner was made.
        DivergedError
            If the loss, the gradient or the update is not finite.  The learner has its last finite weights.
        """
        if self.network.learner is not self._self_ref:
            raise ConfigError(
                "observe: expected a network that only this learner trains, but its weights or its scaling "
                "were changed by fit, by an assignment or by another learner.  Make a new learner with "
                "learn_online."
            )
        loss: float
        if self._needs_checks or weight != 1.0:
            loss = self._observe(*self._checked(x, y, weight))
        else:
            try:
                loss = self._observe(x, y, weight)
            except (TypeError, ValueError, BufferError):
                loss = self._observe(*self._checked(x, y, weight))
        if self._status() != "OK":
            error = DivergedError(
                f"observe: the loss, the gradient or the update is not finite at observation {self.seen}; "
                f"the learner has its last finite weights.  Try a smaller learning_rate, or "
                f"clip_norm=1.0 in the optimizer."
            )
            error.batch = self.updates + 1
            raise error
        return loss

    def _checked(self, x: Any, y: Any, weight: Any) -> tuple[Array, Any, float]:
        """The arguments of `observe` as the core wants them, or an error in words."""
        net, kind, scaling = self.network, losses.get(self.loss).targets, self._scaling
        row = _rows(x, 1, net.input_size, net.dtype, "x", getattr(scaling, "inputs", None))
        weight = number(weight, "weight", 0)
        if y is None:
            return row, None, weight
        if kind == "class":
            try:
                target: Any = operator.index(y if np.ndim(y) == 0 else np.asarray(y).item())
            except (TypeError, ValueError):
                target = -1
            if not 0 <= target < net.output_size:
                raise ConfigError(
                    f"y: expected a class index from 0 to {net.output_size - 1}, got {y!r} "
                    f"({type(y).__name__})."
                )
            return row, target, weight
        target = _rows(y, 1, net.output_size, net.dtype, "y", getattr(scaling, "targets", None))
        if kind == "probability" and not (target.min() >= 0 and target.max() <= 1):
            raise ConfigError(f"y: expected numbers from 0 to 1, got {target}.")
        return row, target, weight

    @property
    def updates(self) -> int:
        """How many updates were made."""
        return self._restored_counts["updates"] + int(self._core.updates)

    @property
    def seen(self) -> int:
        """How many observations were taken."""
        return self._restored_counts["seen"] + int(self._core.seen)

    @property
    def state(self) -> Array:
        """The context (state_size,): the state before the oldest row of the window, a copy."""
        return self._core.state

    def store(self) -> None:
        """Bring the parameters of the network up to date; every access through the network does it."""
        if self.network.learner is self._self_ref and self._core.updates != self._stored:
            self._core.store(self.network.stored_params, self._slots)
            self._stored = self._core.updates

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write network and learner to a safetensors file; ``bptt_fast.load`` gives the learner back.

        Parameters
        ----------
        path : str or path-like
            The file, replaced if it exists.

        Raises
        ------
        ConfigError
            If `path` is not a path, ``network.extra`` not a dict of str to str, or the network's weights were
            changed by other means since the learner was made.
        OSError
            If the file cannot be written; the old one is still there.

        Notes
        -----
        The window, the context, the optimiser's momenta and counts are saved too: what the learner that is
        loaded learns from then on is equal to the bit.
        """
        self._check_live("save")
        storage.save(self, path)

    def _check_live(self, what: str) -> None:
        if self.network.learner is not self._self_ref:
            raise ConfigError(
                f"{what}: expected a network that only this learner trains, but its weights were changed by "
                f"other means.  Take the network instead."
            )

    def __reduce__(self) -> tuple[Any, ...]:
        self._check_live("pickle, copy")
        return type(self).restored, (self.network, *self.snapshot())

    def __copy__(self) -> Learner:
        return copy.deepcopy(self)  # a network has one learner

    def snapshot(self) -> tuple[dict[str, Any], dict[str, Array]]:
        """All that is not the network: plain values, and arrays by name; `restored` takes them."""
        self.store()
        values = {
            "k": self.bptt.k,
            "lead": self.bptt.lead,
            "optimizer": self.optimizer.name,
            "numbers": {
                name: value if value is None or isinstance(value, bool) else float(value)
                for name, value in vars(self.optimizer).items()
            },
            "loss": self.loss,
            "seen": self.seen,
            "updates": self.updates,
            **{name: self._core.carried[name] for name in ("product", "previous")},
        }
        arrays = {"window": self._core.window, "state": self.state, "slots": self._slots}
        return values, {name: np.array(array) for name, array in arrays.items()}

    @classmethod
    def restored(cls, net: Model, values: Mapping[str, Any], arrays: Mapping[str, Array]) -> Learner:
        """A learner from what `snapshot` gave, and the network as it was then."""
        optimizer = optimizers.OPTIMIZERS[values["optimizer"]]
        counts: dict[str, Any] = {name: integer(values[name], name, 0, None) for name in ("seen", "updates")}
        counts |= {name: number(values[name], name) for name in ("product", "previous")}
        learner = cls.__new__(cls)
        bptt = SlidingBPTT(values["k"], values["lead"])
        expected = {
            "window": (min(counts["seen"], bptt.k + bptt.lead - 1), net.input_size),
            "state": (net.state_size,),
            "slots": (_core.state_vectors(values["optimizer"]) * net.num_parameters,),
        }
        found = {name: array.shape for name, array in arrays.items() if array.dtype == net.dtype}
        if found != expected:
            raise ShapeError(f"learner: expected arrays of {net.dtype} {expected}, got {found}.")
        learner._begin(
            net,
            bptt,
            optimizer(**values["numbers"]),
            values["loss"],
            None,
            arrays["state"],
            counts,
            arrays,
        )
        return learner

    def __del__(self) -> None:
        if hasattr(self, "_self_ref"):  # not if __init__ raised
            self.store()

    def __repr__(self) -> str:
        how = f"{self.bptt}, {self.optimizer}, loss={self.loss!r}"
        return f"Learner({how}, seen={self.seen}, {_short(self.network)})"


def stream(net: Model, batch: int = 1, *, isa: str | None = None) -> Stream:
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
    return Stream(net, batch, isa)


def learn_online(
    net: Model,
    bptt: SlidingBPTT,
    optimizer: FirstOrder | str | None = None,
    loss: str | Loss = "mse",
    *,
    x0: ArrayLike | None = None,
    isa: str | None = None,
) -> Learner:
    """A learner: the classical online algorithm as the data arrive, one observation at a time.

    Parameters
    ----------
    bptt : SlidingBPTT
        The depth of unfolding, and where the target of a window stands.
    optimizer : SGD or Adam, optional
        Default SGD(0.01).
    loss, isa
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
    return Learner(net, bptt, optimizer, loss, x0=x0, isa=isa)


def forecast(
    net: Model,
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
    _check_forward(net, "forecast")
    steps = integer(steps, "steps")
    if next_input is None and net.input_size != net.output_size:
        raise ConfigError(
            "forecast: outputs can be fed back as inputs only if output_size equals input_size, got "
            f"output_size={net.output_size} and input_size={net.input_size}.  Pass next_input, a function of "
            "(output, step) that gives the next input."
        )
    if next_input is not None and not callable(next_input):
        raise ConfigError(f"next_input: expected a function of (output, step), got {next_input!r}.")
    series = data.unboxed(series)
    listed = data.is_list(series)
    tables = [table for table in (series if listed else [series]) if is_table(table)]
    places = _feedback(net, series, tables) if next_input is None else None
    ahead = [continued(table, steps, "forecast") for table in tables]
    first, state = predict(net, series, readout="last", x0=x0, return_state=True)
    one = first.ndim == 1
    n = 1 if one else len(first)
    outputs = np.full((steps, n, net.output_size), np.nan, first.dtype)
    outputs[0] = first
    stream = Stream(net, n)
    stream.state = state
    wide = net.dtype if net.scaling is None else np.dtype(np.float64)
    if next_input is None and net.scaling is None and places is None:
        if steps > 1:
            stream._core.run(outputs[0], steps - 1, outputs[1:])
    else:
        for step in range(steps - 1):
            x = outputs[step, 0] if one else outputs[step]
            if next_input is not None:
                x = next_input(x.copy(), step)
                x = _rows(x, n, net.input_size, wide, f"next_input(output, {step})")
            elif not data.finite(x):
                break
            elif places is not None:
                x = x[..., places]
            outputs[step + 1] = stream.step(x)
    if not data.finite(outputs):
        raise DivergedError(
            "forecast: an output is not finite: fed back, the outputs grow without bound.  Try fewer steps, "
            "or train with a lower teacher_forcing."
        )
    found = np.ascontiguousarray(outputs.swapaxes(0, 1))
    if len(tables) == n:
        several = [
            like(table, rows, net.output_names, index)
            for table, rows, index in zip(tables, found, ahead, strict=True)
        ]
        return several if listed else several[0]
    return found[0] if one else found


def _feedback(net: Model, series: Any, tables: list[Any]) -> list[int] | None:
    """Where among the outputs each input is; inputs that the network has no names for have the series'."""
    columns = net.columns
    if columns.inputs is None and isinstance(series, data.Sequences):
        columns = replace(columns, inputs=series.columns.inputs)
    elif columns.inputs is None and tables:
        columns = replace(columns, inputs=names_of(tables[0]))
    return columns.feedback("forecast")


def _rows(
    a: Any,
    batch: int,
    width: int,
    dtype: Any,
    name: str,
    scaled: Callable[[Array, Any], Array] | None = None,
) -> Array:
    """`a` as finite rows (batch, width), or for one sequence as (width,), scaled."""
    rows = data.numbers(a, name)
    wanted = (width,) if batch == 1 else (batch, width)
    if rows.shape not in (wanted, (batch, width)) and not (rows.shape == () and wanted == (1,)):
        raise ShapeError(f"{name}: expected {wanted}, got {rows.shape}.")
    rows = data.cast(rows if scaled is None else scaled(rows, dtype), dtype)
    if not np.isfinite(rows).all():
        where = tuple(int(i) for i in np.argwhere(~np.isfinite(rows))[0])
        raise ConfigError(f"{name}: expected finite numbers in {dtype}, got {rows[where]} at index {where}.")
    return rows.reshape(wanted)


def _check_forward(net: Model, what: str) -> None:
    if net.description.bidirectional:
        raise ConfigError(
            f"{what}: expected a network that runs forward in time, got bidirectional=True.  Use predict on "
            f"whole sequences."
        )


def _short(net: Model) -> str:
    return f"Network({net.cell}, {net.input_size} -> {net.hidden_size} -> {net.output_size})"
