"""Step-by-step execution: streams for prediction, learners for online training, free-running forecasts."""

from __future__ import annotations

import copy
import operator
import os
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypedDict, Unpack, overload

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from . import _core, data, losses, optimizers, storage, unfolding  # type: ignore[attr-defined]
from .choices import FirstOrderName, LossName, Numbers, TableT
from .columns import Running, Scaling, by_name, continued, is_table, like, names_of
from .data import Array
from .errors import ConfigError, DivergedError, ShapeError, choice, integer, number, suggesting
from .inference import predict
from .losses import Loss
from .machine import machine_for
from .model import Model
from .optimizers import FirstOrder
from .plans import planning
from .unfolding import SlidingBPTT


@suggesting
class Stream:
    """A network that runs one step per call; ``Network.stream`` creates it.

    Parameters
    ----------
    net : Network
        A network with one direction.
    batch : int, default 1
        Number of sequences that run in parallel.
    isa : str, optional
        As in ``Network.predict``.

    Attributes
    ----------
    network : Network
    batch : int

    Raises
    ------
    ConfigError
        If the network is bidirectional, or an argument is invalid.

    Examples
    --------
    >>> import numpy as np, bptt_fast as bf
    >>> net = bf.Network(1, 4, 1, dtype="float64", seed=0)
    >>> stream = net.stream()
    >>> outputs = [stream.step(row) for row in np.ones((5, 1))]
    >>> bool(np.allclose(outputs[-1], net.predict(np.ones((5, 1)))))
    True
    """

    __slots__ = ("_columns", "_core", "_step", "batch", "network")

    def __init__(self, net: Model, batch: int = 1, isa: str | None = None) -> None:
        net.description.check_forward("stream: expected", "Use predict on whole sequences.")
        self.network = net
        self.batch = integer(batch, "batch")
        chosen = machine_for(None, isa)[1]
        with planning(f"stream: {batch} sequences at once", "Try a smaller batch."):
            self._core = _core.Stream(net.desc(), net.params, self.batch, chosen)
        self._take_scaling()

    def _take_scaling(self) -> None:
        self._columns = self.network.columns
        self._step: Any = (
            self._core.step if self._columns.scaling is None else None
        )  # None makes `step` convert and scale

    def step(self, x: ArrayLike) -> Array:
        """Run one step of all sequences.

        Parameters
        ----------
        x : array (I,), or (batch, I); for one sequence also a dict or a Series
            The input; a contiguous array of float32 or float64 is fastest.  A dict of
            numbers by name, or a Series with names as its index, is matched with the network's `input_names`.

        Returns
        -------
        y : ndarray (O,), or (batch, O)
            The outputs of g; in float64 if outputs are scaled.

        Raises
        ------
        ShapeError, ConfigError
            If `x` has a wrong shape, a missing or an unknown name, is not finite, or not one of its category;
            the state is unchanged.
        DivergedError
            If an output is NaN or infinite; the state is unchanged.
        """
        try:
            y: Array | None = None if self._step is None else self._step(x)
            if y is not None:
                return y
            net, columns, scaling = self.network, self._columns, self._columns.scaling
            scaled = getattr(scaling, "inputs", None)
            x = by_name(x, columns.inputs, "x") if self.batch == 1 else x
            rows = _rows(x, self.batch, net.input_size, net.dtype, "x", scaled, columns.categories)
            y = self._core.step(rows)
            return y if scaling is None else scaling.outputs(y)
        except ArithmeticError as error:
            raise DivergedError(
                f"step: {error}; the state is unchanged.  Check the scale of the inputs and the parameters."
            ) from None

    @property
    def state(self) -> Array:
        """A copy of the state, (state_size,) or (batch, state_size); assigning continues from another one."""
        return self._core.state

    @state.setter
    def state(self, value: ArrayLike) -> None:
        states = data.states(value, self.batch, self.network.state_size, self.network.dtype, "state")
        if states is None:
            raise ConfigError("state: expected an array, got None.  Use reset() for the initial state.")
        self._core.state = states[0] if self.batch == 1 else states

    def reset(self) -> None:
        """Reset to the network's initial state, with its current weights and scaling."""
        self._core.reset(self.network.params)
        self._take_scaling()

    def __reduce__(self) -> tuple[Any, ...]:
        raise ConfigError(
            "Stream: expected an object that can be pickled or copied, got one that cannot.  Copy "
            "stream.network and stream.state: a new net.stream() continues from a state assigned to it."
        )

    def __repr__(self) -> str:
        return f"Stream(batch={self.batch}, {_short(self.network)})"


@suggesting
class Learner:
    """The classical online algorithm, one observation per call; ``Network.learn_online`` creates it.

    As long as the learner exists, it owns the parameters of its network.

    Parameters
    ----------
    net : Network
        A network for `SlidingBPTT`: readout "last", one direction, no dropout, initial_state "zeros".
    bptt : SlidingBPTT
        The depth of unfolding and the lead of the target.
    optimizer : SGD, Adam or another, optional
        Default SGD(0.01); schedules of the learning_rate are not supported.
    loss, isa
        As in ``Network.fit``.
    x0 : array (state_size,), optional
        The state before the first observation; default zeros.
    scaling : {"running"}, optional
        As in ``Network.learn_online``.

    Attributes
    ----------
    network : Network
        The trained network.
    bptt, optimizer, loss
        The constructor arguments.

    Raises
    ------
    ConfigError, ShapeError
        If an argument is invalid; the message names it.
    DivergedError
        If a parameter of the network is NaN or infinite.

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
        "_class_weight",
        "_columns",
        "_core",
        "_forward",
        "_hyper",
        "_isa",
        "_needs_checks",
        "_observe",
        "_optimizer_state",
        "_restored_counts",
        "_running",
        "_self_ref",
        "_status",
        "_stored",
        "_target_columns",
        "bptt",
        "loss",
        "network",
        "optimizer",
    )

    def __init__(
        self,
        net: Model,
        bptt: SlidingBPTT,
        optimizer: FirstOrder | FirstOrderName | None = None,
        loss: LossName | Loss = "mse",
        *,
        x0: ArrayLike | None = None,
        isa: str | None = None,
        scaling: str | None = None,
    ) -> None:
        state = data.states(x0, 1, net.state_size, net.dtype)
        if scaling is not None and choice(scaling, "scaling", ("running",)) and net.scaling is not None:
            raise ConfigError(
                f"scaling: expected None for a network with a scaling, which it keeps, got {scaling!r}.  "
                f"Leave it out, or begin with a network without one."
            )
        first = None if state is None else state[0]
        self._begin(net, bptt, optimizer, loss, isa, first, {}, {}, None if scaling is None else ())

    def _begin(
        self,
        net: Model,
        bptt: SlidingBPTT,
        optimizer: FirstOrder | str | None,
        loss: str | Loss,
        isa: str | None,
        state: Array | None,
        counts: Mapping[str, float],
        arrays: Mapping[str, Array],
        running: Sequence[Any] | None,
    ) -> None:
        """Check all arguments, then own the network's parameters.

        `counts`, `arrays` and `running` are of a snapshot; `running` is None without running scaling, and ()
        before the first row.
        """
        bptt = unfolding.get_sliding(bptt, "learn_online")
        bptt.check(net)
        net.check_finite("learn_online")
        self.network, self.bptt = net, bptt
        chosen_optimizer = optimizers.get("sgd" if optimizer is None else optimizer)
        if chosen_optimizer.full_batch:
            raise ConfigError(
                f"learn_online: expected an optimizer of first order, got {chosen_optimizer!r}, which needs "
                f"all sequences at once.  Use SGD() or Adam()."
            )
        self.optimizer = chosen_optimizer
        chosen_loss = losses.get(loss)
        bptt.check_loss(chosen_loss)
        self.loss = chosen_loss.plain
        targets, self._target_columns = chosen_loss.targets, chosen_loss.columns(net.output_size)
        self._class_weight = chosen_loss.class_weight and chosen_loss.weights_of_classes(net.output_size)
        scales = chosen_loss.scales(0 if targets == "class" else self._target_columns or 0, net.output_size)
        net.columns.check_targets(scales, "learn_online")
        self._running: list[Running] | None = None
        if running is not None:
            sizes = [(net.input_size, len(net.description.categories)), *[(net.output_size, 0)] * scales]
            self._running = [Running.none(*size) for size in sizes]
            if running:
                pairs = zip(running, sizes, strict=True)
                self._running = [Running.restored(values, *size) for values, size in pairs]
        self._needs_checks = targets in ("probability", "count") or net.scaling is not None
        self._needs_checks |= self._running is not None
        self._needs_checks |= self._class_weight is not None
        if self.optimizer.schedule is not None:
            raise ConfigError(
                f"learn_online: expected a number for a learning_rate, got "
                f"{self.optimizer.schedule}: an endless series has no epochs."
            )
        self._hyper = self.optimizer.hyper(net.seed)
        self._restored_counts = {name: int(counts.get(name, 0)) for name in ("seen", "updates")}
        self._hyper |= {name: value for name, value in counts.items() if name in ("product", "previous")}
        self._hyper["step"] = self._restored_counts["updates"]
        self._optimizer_state = arrays.get(
            "slots", np.zeros(_core.state_vectors(self.optimizer.name) * net.num_parameters, net.dtype)
        )
        chosen = bptt.isa(net, machine_for(None, isa)[1])
        net.obey()
        with planning(f"learn_online: {bptt}", "Try a smaller k."):
            self._core = _core.Learner(
                net.desc(),
                net.params,
                self._optimizer_state,
                self._hyper,
                bptt.k,
                bptt.lead,
                chosen_loss.core(),
                isa=chosen,
                window=arrays.get("window"),
                state=state,
                rules=None if net.constraints is None else net.constraints.core,
            )
        self._isa = chosen
        self._forward: Any = None  # the stream of `predict`
        self._observe, self._status = self._core.observe, self._core.status
        self._stored = (0, None if self._running is None else -1)  # updates, rows in the moments
        net.columns = self._columns = replace(net.columns, lead=bptt.lead)  # this ends another learner
        self._self_ref = net.learner = weakref.ref(self)

    def observe(self, x: ArrayLike, y: Any = None, weight: float = 1.0) -> float:
        """Process one row of the series, and train on the pattern that it completes.

        Parameters
        ----------
        x : array (I,), dict or Series
            The input; a contiguous array of float32 or float64 is fastest.  A dict of
            numbers by name, or a Series with names as its index, is matched with the network's `input_names`.
        y : array (O,), dict or Series, or int for "cross_entropy", optional
            The target row of the same step as `x`, as in `fit`; by name those of `output_names`.  None: no
            target; the context advances without an update.
        weight : float, default 1
            Weight of the target, at least 0; 0 acts as no target.

        Returns
        -------
        loss : float
            Loss of the pattern before its update, with scaled targets, as in `fit`.  nan without a target,
            and before the first full window, at observation k + lead.

        Raises
        ------
        ShapeError, ConfigError
            If a row has a wrong shape, a missing or an unknown name, or is not finite; the learner is
            unchanged.
        ConfigError
            If the network's weights were changed by other means since the learner was created.
        DivergedError
            If the loss, the gradient or the update is NaN or infinite; the learner has its last finite
            weights.
        """
        if self.network.learner is not self._self_ref:
            raise ConfigError(
                "observe: expected a network that only this learner trains, but its weights or its scaling "
                "were changed by fit, by an assignment or by another learner.  Create a new learner with "
                "learn_online."
            )
        loss: float | None = None
        if not self._needs_checks and isinstance(weight, float) and weight == 1.0:
            loss = self._observe(x, y, weight)
        if loss is None:
            loss = self._learn(*self._checked(x, y, weight))
        if self._status() != "OK":
            error = DivergedError(
                f"observe: the loss, the gradient or the update is not finite at observation {self.seen}; "
                f"the learner has its last finite weights.  Try a smaller learning_rate, or "
                f"clip_norm=1.0 in the optimizer."
            )
            error.batch = self.updates + 1
            raise error
        return loss

    @suggesting
    def predict(self, x: Any = None) -> Array:
        """Predict the target of a row, as `observe` would before its update; the learner does not change.

        Parameters
        ----------
        x : array (I,), dict or Series, optional
            The input of the row, as in `observe`.  With a lead of 0 it is needed.  With a lead above 0 the
            target is predicted from the rows before, so that `x` is checked but has no influence.

        Returns
        -------
        y : ndarray (O,)
            The outputs of g for the pattern that ``observe(x, y)`` would complete, in the units of the
            targets (then in float64) if they are scaled.  Its loss with `y` is what ``observe(x, y)``
            returns, to rounding.  nan where that returns nan, before the first full window.

        Raises
        ------
        ShapeError, ConfigError
            As in `observe`, or if `x` is None with a lead of 0.
        DivergedError
            If an output is NaN or infinite.

        Notes
        -----
        With running scaling `x` is scaled by the moments that include it, as in `observe`; the outputs get
        the units of the targets by the moments of the targets so far, as the one of this row is not known.

        Examples
        --------
        >>> import numpy as np, bptt_fast as bf
        >>> net = bf.Network(1, 8, 1, dtype="float64", seed=0)
        >>> learner = net.learn_online(bf.SlidingBPTT(3, lead=0), bf.SGD(0.05))
        >>> series = np.sin(np.arange(101) / 5)
        >>> for x, y in zip(series[:-2], series[1:-1]):
        ...     loss = learner.observe([x], [y])
        >>> expected = (learner.predict([series[-2]]) - series[-1]) ** 2
        >>> bool(np.isclose(learner.observe([series[-2]], [series[-1]]), expected))
        True
        """
        self._check_live("predict")
        net, k, lead = self.network, self.bptt.k, self.bptt.lead
        rows = self._core.window
        if x is not None:
            rows = np.vstack([rows, self._row(0, x, net.input_size)[0]])
        elif lead == 0:
            raise ConfigError("x: expected the input of the row, as the lead is 0, got None.")
        if self.seen < k + lead - 1:
            return np.full(net.output_size, np.nan, net.dtype)
        if self._forward is None:
            self._forward = _core.Stream(net.desc(), net.params, 1, self._isa)
        forward = self._forward
        forward.reset(net.params)
        forward.state = self.state
        try:
            for row in rows[:k]:
                y = forward.step(row)
        except ArithmeticError as error:
            raise DivergedError(
                f"predict: {error}; the learner is unchanged.  Check the scale of the inputs and the "
                f"parameters."
            ) from None
        scaling = net.scaling
        return y if scaling is None else scaling.outputs(y)

    def _learn(self, x: Array, y: Any, weight: float, running: list[Running] | None) -> float:
        """`observe` with checked arguments, and the moments with this row."""
        loss: float = self._observe(x, y, weight)
        self._running = running
        return loss

    def _row(self, which: int, a: Any, width: int) -> tuple[Array, Running | None]:
        """The checked, scaled row of inputs (`which` = 0) or targets (1), and the moments with it."""
        net, columns, running = self.network, self._columns, self._running
        name, names = (("x", columns.inputs), ("y", columns.outputs))[which]
        categories = () if which else columns.categories
        a = by_name(a, names, name)
        if running is None or len(running) <= which:
            scaled = getattr(columns.scaling, ("inputs", "targets")[which], None) if running is None else None
            return _rows(a, 1, width, net.dtype, name, scaled, categories), None
        raw = _rows(a, 1, width, np.dtype(np.float64), name, None, categories)
        moments = running[which].after(raw)
        if not data.finite(moments.squares):
            raise ConfigError(f"{name}: expected numbers whose squares float64 can hold, got {raw}.")
        return moments.scaled(raw, net.dtype), moments

    def _checked(self, x: Any, y: Any, weight: Any) -> tuple[Array, Any, float, list[Running] | None]:
        """The checked arguments of `observe` for the core, and the moments with this row."""
        net, targets = self.network, losses.get(self.loss).targets
        row, moments = self._row(0, x, net.input_size)
        running = self._running and [moments or self._running[0], *self._running[1:]]
        weight = number(weight, "weight", 0)
        if y is None:
            return row, None, weight, running
        if targets == "class":
            try:
                target: Any = operator.index(y if np.ndim(y) == 0 else np.asarray(y).item())
            except (TypeError, ValueError):
                target = -1
            if not 0 <= target < net.output_size:
                raise ConfigError(
                    f"y: expected a class index from 0 to {net.output_size - 1}, got {y!r} "
                    f"({type(y).__name__})."
                )
            factor = 1.0 if self._class_weight is None else float(self._class_weight[target])
            return row, target, weight * factor, running
        target, moments = self._row(1, y, self._target_columns or net.output_size)
        if targets == "probability" and not (target.min() >= 0 and target.max() <= 1):
            raise ConfigError(f"y: expected numbers from 0 to 1, got {target}.")
        if targets == "count" and not target.min() >= 0:
            raise ConfigError(f"y: expected counts of at least 0, got {target}.")
        if running and moments is not None and weight > 0:
            running[1] = moments
        return row, target, weight, running

    @property
    def updates(self) -> int:
        """The number of updates."""
        return self._restored_counts["updates"] + int(self._core.updates)

    @property
    def seen(self) -> int:
        """The number of observations."""
        return self._restored_counts["seen"] + int(self._core.seen)

    @property
    def state(self) -> Array:
        """A copy of the context (state_size,): the state before the oldest row of the window."""
        return self._core.state

    def store(self) -> None:
        """Copy the current weights and scaling into the network; every access through it calls this."""
        now = (self._core.updates, None if self._running is None else self._running[0].count)
        if now == self._stored or self.network.learner is not self._self_ref:
            return
        self._core.store(self.network.stored_params, self._optimizer_state)
        if self._running is not None:
            parts = [part.tolist() for moments in self._running for part in (moments.mean, moments.scale)]
            self.network.store_scaling(Scaling(*parts))
        self._stored = now

    @suggesting
    def save(self, path: str | os.PathLike[str]) -> None:
        """Write network and learner to a safetensors file; ``bptt_fast.load`` reads the learner.

        Parameters
        ----------
        path : str or path-like
            The file, replaced if it exists.

        Raises
        ------
        ConfigError
            If `path` is not a path, ``network.extra`` not a dict of str to str, or the network's weights were
            changed by other means since the learner was created.
        OSError
            If the file cannot be written; an existing file is unchanged.

        Notes
        -----
        The file includes the window, the context and the optimiser state, so that the loaded learner
        continues equal to the bit.
        """
        self._check_live("save")
        storage.save(self, path)

    def _check_live(self, what: str) -> None:
        if self.network.learner is not self._self_ref:
            raise ConfigError(
                f"{what}: expected a network that only this learner trains, but its weights were changed by "
                f"other means.  Use the network instead."
            )

    def __reduce__(self) -> tuple[Any, ...]:
        self._check_live("pickle, copy")
        return type(self).restored, (self.network, *self.snapshot())

    def __copy__(self) -> Learner:
        return copy.deepcopy(self)  # a network has one learner

    def snapshot(self) -> tuple[dict[str, Any], dict[str, Array]]:
        """The learner's state without the network, as plain values and arrays; `restored` is the inverse."""
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
            "running": None if self._running is None else [moments.plain() for moments in self._running],
            **{name: self._core.carried[name] for name in ("product", "previous")},
        }
        arrays = {"window": self._core.window, "state": self.state, "slots": self._optimizer_state}
        return values, {name: np.array(array) for name, array in arrays.items()}

    @classmethod
    def restored(cls, net: Model, values: Mapping[str, Any], arrays: Mapping[str, Array]) -> Learner:
        """A learner from the values of `snapshot` and the network of that time."""
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
        shapes = {name: array.shape for name, array in arrays.items() if array.dtype == net.dtype}
        if shapes != expected:
            raise ShapeError(f"learner: expected arrays of {net.dtype} {expected}, got {shapes}.")
        loss, running = values["loss"], values.get("running")
        chosen = optimizer(**values["numbers"])
        learner._begin(net, bptt, chosen, loss, None, arrays["state"], counts, arrays, running)
        return learner

    def __del__(self) -> None:
        if hasattr(self, "_self_ref"):  # not if __init__ raised
            self.store()

    def __repr__(self) -> str:
        how = f"{self.bptt}, {self.optimizer}, loss={self.loss!r}"
        how += "" if self._running is None else ', scaling="running"'
        return f"Learner({how}, seen={self.seen}, {_short(self.network)})"


def stream(net: Model, batch: int = 1, *, isa: str | None = None) -> Stream:
    """Create a stream, which runs the network one step per call, in a few microseconds.

    Parameters
    ----------
    batch : int, default 1
        Number of sequences that run in parallel.
    isa : str, optional
        As in `predict`.

    Returns
    -------
    stream : Stream
        A stream in the network's initial state, with a copy of its current weights.  Its rows are in the
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
    optimizer: FirstOrder | FirstOrderName | None = None,
    loss: LossName | Loss = "mse",
    *,
    x0: ArrayLike | None = None,
    isa: str | None = None,
    scaling: str | None = None,
) -> Learner:
    """Create a learner, which runs the classical online algorithm one observation per call.

    Parameters
    ----------
    bptt : SlidingBPTT
        The depth of unfolding and the lead of the target.
    optimizer : SGD or Adam, optional
        Default SGD(0.01).
    loss, isa
        As in `fit`.
    x0 : array (state_size,), optional
        The state before the first observation; default zeros.
    scaling : {"running"}, optional
        "running": scale each input, and each target that `fit` would scale, by its mean and deviation so far,
        see Notes; the network must have no `scaling`, and gets this one.  None: that of the network.

    Returns
    -------
    learner : Learner
        As long as it exists, the learner owns the parameters of this network: every access through the
        network returns its latest weights.  The learner's next update overwrites values written into
        arrays of the network; `fit`, `load_state_dict`, assignments such as ``net["head.0.bias"] = 0``,
        and another learner end the learner instead.

    Raises
    ------
    ConfigError, ShapeError
        If an argument is invalid, or the network is not one for `SlidingBPTT`; the message names it.
    DivergedError
        If a parameter of the network is NaN or infinite.

    Notes
    -----
    A series observed row by row yields the same weights as one epoch of `fit` on the series, to the bit.

    Running scaling (Welford 1962): the n-th row a of inputs first enters the mean m and the sum of squares M
    of each column, d = a - m, m <- m + d / n, M <- M + d (a - m), from m = M = 0, in float64.  Then it is
    scaled once and for all, (a - m) / s with s = sqrt(M / n), or 1 where M = 0, and cast to the network's
    dtype; rows of the window keep their values when m and s change.  Targets have moments of their own, of
    the rows with a target of weight above 0.  Categories are not scaled.  The moments are saved with the
    learner; ``net.scaling`` is (m, s) of inputs and targets, and stays so when the learner ends.

    Examples
    --------
    >>> import numpy as np, bptt_fast as bf
    >>> net = bf.Network(1, 8, 1, seed=0)
    >>> learner = net.learn_online(bf.SlidingBPTT(k=5))
    >>> losses = [learner.observe(row, row) for row in np.sin(np.arange(300, dtype="f4") / 5)[:, None]]
    >>> sum(losses[-50:]) < sum(losses[5:55])
    True
    """
    return Learner(net, bptt, optimizer, loss, x0=x0, isa=isa, scaling=scaling)


class _Options(TypedDict, total=False):
    """The arguments of `forecast` on which the type of the result does not depend."""

    next_input: Callable[[Array, int], ArrayLike] | None
    x0: ArrayLike | None
    loss: LossName | Loss | Callable[..., Any] | None
    rng: Any


@overload
def forecast(
    net: Model,
    series: Numbers | data.Sequences | list[Numbers],
    steps: int,
    *,
    samples: int | None = None,
    **options: Unpack[_Options],
) -> Array: ...
@overload
def forecast(net: Model, series: Any, steps: int, *, samples: int, **options: Unpack[_Options]) -> Array: ...
@overload
def forecast(
    net: Model, series: TableT, steps: int, *, samples: None = None, **options: Unpack[_Options]
) -> TableT: ...
@overload
def forecast(
    net: Model, series: list[TableT], steps: int, *, samples: None = None, **options: Unpack[_Options]
) -> list[TableT]: ...
@overload
def forecast(
    net: Model, series: Any, steps: int, *, samples: int | None = None, **options: Unpack[_Options]
) -> Any: ...
def forecast(
    net: Model,
    series: Any,
    steps: int,
    *,
    next_input: Callable[[Array, int], ArrayLike] | None = None,
    x0: ArrayLike | None = None,
    loss: LossName | Loss | Callable[..., Any] | None = None,
    samples: int | None = None,
    rng: Any = None,
) -> Any:
    """Forecast in a free run: after the series, outputs are fed back as inputs.

    Parameters
    ----------
    series : array (T, I) or (n, T, I), list of n arrays (T_i, I), or ``Sequences.windows(...)``
        The known steps.  Arrays (T, I) may be DataFrames, as in `predict`.
    steps : int
        Number of outputs, at least 1.
    next_input : callable, optional
        ``next_input(output, step)`` returns the input of the next step, (I,) or for several sequences
        (n, I), for an output, (O,) or (n, O), and its number, counted from 0.  By default the output is
        the next input, matched by name if `output_names` are the same as `input_names`, and by position
        if they have none in common or are unknown.
    x0 : array (state_size,) or (n, state_size), optional
        The state before the series; default: the network's `initial_state`.
    loss : str or Loss, optional
        The loss of the training: instead of the outputs, ``loss.prediction(outputs)`` is fed back and passed
        to `next_input`, as the mean of a distribution.  Each of the D targets feeds one input.
    samples : int, optional
        Number of sample paths of each series: each feeds back its own draws from the distribution of `loss`.
        `next_input` then gets (n * samples, D), the paths of the first series first.
    rng : numpy.random.Generator or int, optional
        The source of the draws, or its seed.

    Returns
    -------
    y : ndarray (steps, O) or (n, steps, O), with `samples` (samples, steps, D) or (n, samples, steps, D)
        The outputs; ``loss.quantile(y, q)`` and others compute with them.  With `samples` the draws, always
        an array.  The first output is ``predict(series, readout="last")``; the input of each further one
        comes from the previous output.  For a table, or a list of tables, tables of the same type, whose
        index continues at its frequency or by its constant step.  The frequency of an index of dates without
        one is inferred by pandas, from at least three labels.

    Raises
    ------
    ConfigError
        If there is no `next_input` and output_size (D with `loss`) is not input_size, or only some of
        `output_names` are `input_names`; if the network is bidirectional, the index of a table has no
        frequency or constant step, `samples` are wanted of a loss without a distribution, or an argument is
        invalid.
    ShapeError
        If an array has a wrong shape, including the results of `next_input`.
    DivergedError
        If an output, a prediction or a draw is NaN or infinite.

    Examples
    --------
    >>> import numpy as np, bptt_fast as bf
    >>> net = bf.Network(1, 8, 1, seed=0)
    >>> net.forecast(np.ones((20, 1)), 5).shape
    (5, 1)
    >>> with_the_hour = bf.Network(2, 8, 1, seed=0)
    >>> with_the_hour.forecast(np.ones((20, 2)), 5, next_input=lambda y, step: [y[0], step % 24]).shape
    (5, 1)
    >>> with_a_distribution = bf.Network(1, 8, 2, seed=0)
    >>> with_a_distribution.forecast(np.ones((20, 1)), 5, loss="gaussian", samples=100).shape
    (100, 5, 1)
    """
    net.description.check_forward("forecast: expected", "Use predict on whole sequences.")
    steps = integer(steps, "steps")
    known = None if loss is None else losses.get(loss)
    width, paths = _width_and_paths(net, known, samples, rng)
    _check_next_input(net, next_input, width)
    series = data.unboxed(series)
    listed = data.is_list(series)
    tables = [table for table in (series if listed else [series]) if is_table(table)]
    places = _places_fed_back(net, series, tables, width) if next_input is None else None
    ahead = [] if samples else [continued(table, steps, "forecast") for table in tables]
    first, state = predict(net, series, readout="last", x0=x0, return_state=True)
    single = first.ndim == 1
    n, one = 1 if single else len(first), single and not samples
    first, state = (np.repeat(np.atleast_2d(a), paths, axis=0) for a in (first, state))
    outputs = np.empty((steps, *first.shape), first.dtype)
    wide = net.dtype if net.scaling is None else np.dtype(np.float64)
    fed = outputs if known is None else np.empty((steps, n * paths, width), wide)
    source = losses.generator(rng)

    def store(step: int, y: Array) -> None:
        outputs[step] = y
        if known is not None:
            given = outputs[step].astype(wide)
            fed[step] = known.sample(given, source) if samples else known.prediction(given)

    store(0, first)
    stream = Stream(net, n * paths)
    stream.state = state
    if next_input is None and net.scaling is None and places is None and known is None:
        if steps > 1:
            stream._core.run(outputs[0], steps - 1, outputs[1:])
    else:
        for step in range(steps - 1):
            x = fed[step, 0] if one else fed[step]
            if next_input is not None:
                x = next_input(x.copy(), step)
                name = f"next_input(output, {step})"
                x = by_name(x, net.input_names, name) if n * paths == 1 else x
                x = _rows(x, n * paths, net.input_size, wide, name, None, net.columns.categories)
            elif not data.finite(x):
                break
            elif places is not None:
                x = x[..., places]
            try:
                store(step + 1, stream.step(x))
            except DivergedError:
                fed[step + 1] = np.nan
                break
    if not data.finite(fed):
        raise DivergedError(
            "forecast: an output is not finite: fed back, the outputs grow without bound.  Try fewer steps, "
            "or train with a lower teacher_forcing."
        )
    result = (fed if samples else outputs).swapaxes(0, 1)
    forecasts = data.cast(result.reshape(n, *(paths,) * bool(samples), *result.shape[1:]), result.dtype)
    if len(tables) == n and not samples:
        several = [
            like(table, rows, net.output_names, index)
            for table, rows, index in zip(tables, forecasts, ahead, strict=True)
        ]
        return several if listed else several[0]
    return forecasts[0] if single else forecasts


def _width_and_paths(net: Model, loss: Loss | None, samples: Any, rng: Any) -> tuple[int, int]:
    """How many numbers are fed back in a forecast, and the sample paths of each series, or 1."""
    if samples is None:
        if rng is not None:
            raise ConfigError(f"rng: expected None without samples, got {rng!r}.")
    elif loss is None or not loss.has_distribution:
        raise ConfigError(
            f"samples: expected a loss with a distribution, of which they are draws, got loss={loss}.  Pass "
            f"the loss of the training."
        )
    if loss is None:
        return net.output_size, 1
    if loss.targets not in ("real", "count"):
        raise ConfigError(
            f"forecast: expected a loss of real targets or counts, which can be fed back, got {loss}.  Pass "
            f"next_input, which gets the logits, and no loss."
        )
    width = loss.columns(net.output_size) or net.output_size
    net.columns.check_targets(loss.scales(width, net.output_size), "forecast")
    return width, 1 if samples is None else integer(samples, "samples")


def _check_next_input(net: Model, next_input: Any, width: int) -> None:
    """Raise unless the `width` numbers that are fed back are inputs, or a function makes inputs of them."""
    if next_input is None and net.input_size != width:
        outputs_of = "" if width == net.output_size else f", {width} targets"
        raise ConfigError(
            "forecast: outputs can be fed back as inputs only if output_size equals input_size, got "
            f"output_size={net.output_size}{outputs_of} and input_size={net.input_size}.  Pass next_input, a "
            f"function of (output, step) that returns the next input."
        )
    if next_input is not None and not callable(next_input):
        raise ConfigError(f"next_input: expected a function of (output, step), got {next_input!r}.")


def _places_fed_back(net: Model, series: Any, tables: list[Any], width: int) -> list[int] | None:
    """Where among the `width` numbers that are fed back each input is.

    Inputs that the network has no names for have the series'; several outputs per target have no names of
    inputs.
    """
    columns = net.columns if width == net.output_size else replace(net.columns, outputs=None)
    if columns.inputs is None and isinstance(series, data.Sequences):
        columns = replace(columns, inputs=series.columns.inputs)
    elif columns.inputs is None and tables:
        columns = replace(columns, inputs=names_of(tables[0]))
    return columns.feedback("forecast")


def _rows(
    a: Any,
    batch: int,
    width: int,
    dtype: DTypeLike,
    name: str,
    scaled: Callable[[Array, Any], Array] | None = None,
    categories: tuple[int, ...] = (),
) -> Array:
    """`a` as finite, scaled rows (batch, width), or (width,) for one sequence; the last are `categories`."""
    rows = data.numbers(a, name)
    wanted = (width,) if batch == 1 else (batch, width)
    if rows.shape not in (wanted, (batch, width)) and not (rows.shape == () and wanted == (1,)):
        hint = data.one_hot_hint(rows, width, name) if rows.size == batch else ""
        raise ShapeError(f"{name}: expected {wanted}, got {rows.shape}.{hint}")
    rows = data.cast(rows if scaled is None else scaled(rows, dtype), dtype)
    if not np.isfinite(rows).all():
        where = tuple(int(i) for i in np.argwhere(~np.isfinite(rows))[0])
        raise ConfigError(f"{name}: expected finite numbers in {dtype}, got {rows[where]} at index {where}.")
    if categories:
        wrong, message = data.not_a_category(rows.reshape(batch, width), categories, name)
        if wrong.any():
            row = int(wrong.argmax())
            raise ConfigError(message(row, f"row {row}"))
    return rows.reshape(wanted)


def _short(net: Model) -> str:
    return f"Network({net.cell}, {net.input_size} -> {net.hidden_size} -> {net.output_size})"
