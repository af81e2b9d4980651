"""Predictions, losses, gradients for external optimisers, and memory estimates."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Literal, TypedDict, Unpack, get_args, overload

import numpy as np
from numpy.typing import ArrayLike

from . import data, losses, own_loss, unfolding
from .choices import LossName, Numbers, OneSeries, Readout
from .columns import Columns, listed
from .data import Array, Sequences
from .errors import ConfigError, DivergedError, choice, flag, integer, number
from .losses import Loss
from .machine import machine_for
from .model import Model, named_views
from .plans import PlanSize, core_data, make_plan, plan_bytes, with_groups
from .unfolding import Unfolding


class _Options(TypedDict, total=False):
    """The arguments of `predict` on which the type of the result does not depend."""

    x0: ArrayLike | None
    lengths: ArrayLike | None
    batch_size: int
    threads: int | None
    isa: str | None


@overload
def predict(
    net: Model,
    x: Numbers | Sequences,
    *,
    readout: Readout | None = None,
    return_state: Literal[False] = False,
    **options: Unpack[_Options],
) -> Array: ...
@overload
def predict(
    net: Model,
    x: Numbers | Sequences,
    *,
    readout: Readout | None = None,
    return_state: Literal[True],
    **options: Unpack[_Options],
) -> tuple[Array, Array]: ...
@overload
def predict(
    net: Model,
    x: Any,
    *,
    readout: Literal["last"],
    return_state: Literal[False] = False,
    **options: Unpack[_Options],
) -> Array: ...
@overload
def predict(
    net: Model,
    x: Any,
    *,
    readout: Literal["last"],
    return_state: Literal[True],
    **options: Unpack[_Options],
) -> tuple[Array, Array]: ...
@overload
def predict(
    net: Model,
    x: OneSeries,
    *,
    readout: Literal["every"],
    return_state: Literal[False] = False,
    **options: Unpack[_Options],
) -> OneSeries: ...
@overload
def predict(
    net: Model,
    x: list[OneSeries],
    *,
    readout: Literal["every"],
    return_state: Literal[False] = False,
    **options: Unpack[_Options],
) -> list[OneSeries]: ...
@overload
def predict(
    net: Model,
    x: Any,
    *,
    readout: Readout | None = None,
    return_state: Literal[True],
    **options: Unpack[_Options],
) -> tuple[Any, Array]: ...
@overload
def predict(
    net: Model,
    x: Any,
    *,
    readout: Readout | None = None,
    return_state: bool = False,
    **options: Unpack[_Options],
) -> Any: ...
def predict(
    net: Model,
    x: Any,
    *,
    readout: Readout | None = None,
    x0: ArrayLike | None = None,
    lengths: ArrayLike | None = None,
    batch_size: int = 256,
    return_state: bool = False,
    threads: int | None = None,
    isa: str | None = None,
) -> Any:
    """Compute the outputs of the network.

    Parameters
    ----------
    x : array (n, T, I) or (T, I), list of n arrays (T_i, I), or ``Sequences.windows(...)``
        Sequences, one series, sequences of different length, or windows of a series.  Arrays (T, I) may
        be DataFrames, and Series if I is 1; their columns are matched by name, in any order, if the network
        has `input_names`.
    readout : {"last", "every"}, optional
        Whether to return outputs of the last step or of every step; default: the network's readout.
    x0 : array (n, state_size) or (state_size,), optional
        Initial states; default: the network's `initial_state`.
    lengths : array of int (n,), optional
        Valid steps of each sequence of an array (n, T, I); values after them are never read.
    batch_size : int, default 256
        Sequences per batch; affects speed and memory, but not the results, to the bit.
    return_state : bool, default False
        Also return the final states, in the form of `x0`, to continue from them.
    threads : int, optional
        Maximum number of threads; default: as many as the machine and the environment allow, see
        `show_config`.
    isa : str, optional
        The instruction set, one of those that `show_config` lists; default: the environment variable
        BPTT_FAST_ISA, or the best one.

    Returns
    -------
    y : array or list
        The outputs of g, without a softmax or logistic function.  "last": (n, O), for one series (O,).
        "every": (n, T, O), with zeros after a sequence's length; (T, O) for one series; for a list a list
        of (T_i, O); for windows (n, length, O).  For tables, (T, O) are tables of the same type, with the
        same index and the network's `output_names`.  The dtype is the network's, or float64 if outputs
        are scaled, see `scaling`.
    state : array (n, state_size) or (state_size,)
        Only with `return_state`.

    Raises
    ------
    ShapeError, ConfigError
        If an argument is invalid; the message names it.
    DivergedError
        If an output is NaN or infinite.

    Examples
    --------
    >>> import numpy as np, bptt_fast as bf
    >>> net = bf.Network(1, 4, 2, seed=0)
    >>> net.predict(np.ones((3, 5, 1)), readout="every").shape
    (3, 5, 2)
    """
    every = _every(net, readout)
    sequences = data.sequences(x, net.input_size, net.dtype, lengths, columns=net.columns)
    n = len(sequences)
    rows = sequences.place_outputs(every)
    if x0 is not None:
        sequences.state = data.states(x0, n, net.state_size, net.dtype)
    batch = min(integer(batch_size, "batch_size", 1, None), n)
    steps = net.steps_without_gradient(sequences.steps)
    plan = _acquire(net, sequences, losses.get("mse"), every, batch, steps, threads, isa)
    y = (np.zeros if lengths is not None else np.empty)((rows, net.output_size), net.dtype)
    state = np.empty((n, net.state_size), net.dtype) if flag(return_state, "return_state") else None
    status = plan.plan.predict(net.params, core_data(sequences), data.counting(n), y, every, state)
    net.plans.release(plan)
    if status != "OK" or not data.finite(y):
        raise DivergedError(
            "predict: an output is NaN or infinite.  Check the scale of the inputs and the parameters."
        )
    scaling = net.scaling
    if scaling is not None and scaling.output_mean is not None:
        y = scaling.outputs(y)
        if every and lengths is not None:
            y[~data.covered(rows, sequences.target_offset, sequences.length)] = 0
    outputs = sequences.arrange(y, every, net.output_names)
    if state is None:
        return outputs
    return outputs, state[0] if sequences.form == "series" else state


def evaluate(
    net: Model,
    x: Any,
    y: Any,
    *,
    loss: LossName | Loss | Callable[..., Any] = "mse",
    readout: Readout | None = None,
    sample_weight: Any = None,
    x0: ArrayLike | None = None,
    lengths: ArrayLike | None = None,
    batch_size: int = 256,
    threads: int | None = None,
    isa: str | None = None,
) -> float:
    """Compute the weighted mean loss over all target rows, without dropout; with scaled targets, as in `fit`.

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
        If an argument is invalid; the message names it.
    DivergedError
        If the loss is NaN or infinite.

    Examples
    --------
    >>> import numpy as np, bptt_fast as bf
    >>> net = bf.Network(1, 4, 1, seed=0)
    >>> x = np.ones((3, 5, 1))
    >>> net.evaluate(x, net.predict(x))
    0.0
    """
    every = _every(net, readout)
    known_loss = losses.get(loss)
    sequences = training_data(net, x, y, known_loss, every, sample_weight, x0, lengths)
    batch = min(integer(batch_size, "batch_size", 1, None), len(sequences))
    steps = net.steps_without_gradient(sequences.steps)
    plan = _acquire(net, sequences, known_loss, every, batch, steps, threads, isa)
    order = data.counting(len(sequences))
    if known_loss.function is not None:
        value = own_loss.evaluate(known_loss, plan.plan, net.params, sequences, order, every)
    else:
        value = plan.plan.evaluate(net.params, core_data(sequences), order)[1]
    net.plans.release(plan)
    if not math.isfinite(value):
        raise DivergedError(
            "evaluate: the loss is NaN or infinite.  Check the scale of the data and the parameters."
        )
    return float(value)


class Gradients(dict[str, Array]):
    """Gradients by the names of the parameters, views into one vector.

    Attributes
    ----------
    flat : ndarray (P,)
        The gradient in the order of ``Network.params``.
    """

    flat: Array

    def __init__(self, net: Model) -> None:
        self.flat = np.zeros_like(net.params)
        super().__init__(named_views(self.flat, net.blocks))


def loss_and_grad(
    net: Model,
    x: Any,
    y: Any,
    *,
    loss: LossName | Loss | Callable[..., Any] = "mse",
    bptt: Unfolding | None = None,
    teacher_forcing: float = 1.0,
    sample_weight: Any = None,
    x0: ArrayLike | None = None,
    lengths: ArrayLike | None = None,
    with_inputs: bool = False,
    threads: int | None = None,
    isa: str | None = None,
) -> tuple[float, Gradients]:
    """Compute the loss of one batch and its gradient, for external optimisers; the network does not change.

    Parameters
    ----------
    x, y, loss, teacher_forcing, sample_weight, x0, lengths
        As in `fit`; all sequences are one batch.
    bptt : FullBPTT, TruncatedBPTT or CheckpointedBPTT, default FullBPTT()
        The gradient is exact, except with `TruncatedBPTT`: then it is the sum over all passes, with constant
        weights, for the loss of the whole batch.
    with_inputs : bool, default False
        Also return gradients with respect to x and the initial states; not for windows or `TruncatedBPTT`.
    threads, isa
        As in `predict`.

    Returns
    -------
    loss : float
    grads : Gradients
        A dict of arrays by parameter name, views into ``grads.flat`` (P,).  `with_inputs` adds "x", in the
        form of x, and "x0", (n, state_size) or for one series (state_size,).  With `scaling` the loss is
        that of scaled targets; "x" is its derivative with respect to the unscaled x.

    Raises
    ------
    ShapeError, ConfigError
        If an argument is invalid; the message names it.
    DivergedError
        If the loss or the gradient is NaN or infinite.

    Warns
    -----
    UserWarning
        If the k2 of `TruncatedBPTT` exceeds the length of every sequence, so that nothing is truncated.

    Notes
    -----
    Dropout masks are drawn by the network's seed and the same in every call, so that the loss is a function
    of the parameters alone.

    Examples
    --------
    >>> import numpy as np, bptt_fast as bf
    >>> net = bf.Network(1, 4, 1, seed=0)
    >>> loss, grads = net.loss_and_grad(np.ones((3, 5, 1)), np.zeros((3, 1)))
    >>> net.params -= 0.1 * grads.flat
    >>> grads["weight_hh_l0"].shape
    (4, 4)
    """
    every, unfold, known_loss = net.readout == "every", unfolding.get(bptt), losses.get(loss)
    unfold.check_gradient()
    unfold.check_loss(known_loss)
    sequences = training_data(net, x, y, known_loss, every, sample_weight, x0, lengths)
    if flag(with_inputs, "with_inputs") and (sequences.form == "windows" or not unfold.input_gradient):
        what = "windows" if sequences.form == "windows" else repr(unfold)
        raise ConfigError(
            f"with_inputs: expected False for {what}, got True.  Use whole sequences and FullBPTT()."
        )
    n, steps = len(sequences), int(sequences.length.max())
    probability = sampling_probability(net, unfold, known_loss, teacher_forcing)
    check_feedback(probability, sequences.columns)
    unfold.check(net)
    options = unfold.plan_options(sequences, n, probability, True)
    unfold.warn(steps, 4)
    plan = _acquire(net, sequences, known_loss, every, n, steps, threads, isa, with_inputs, options)
    grads = Gradients(net)
    dx = np.zeros_like(sequences.values) if with_inputs else None
    dstate = np.zeros((n, net.state_size), net.dtype) if with_inputs else None
    own = None
    if known_loss.function is not None:
        own = own_loss.BatchLoss(known_loss, sequences, every, net.output_size, n, n).core
    status, value = plan.plan.loss_and_grad(
        net.params, core_data(sequences), data.counting(n), grads.flat, dx, dstate, own_loss=own
    )
    net.plans.release(plan)
    if status != "OK":
        raise DivergedError(
            "loss_and_grad: the loss or the gradient is NaN or infinite.  Check the scale of the data and "
            "the parameters."
        )
    if dx is not None and dstate is not None:
        if net.scaling is not None:
            dx /= np.array(net.scaling.input_scale)
        grads["x"] = sequences.arrange(dx, True, sequences.columns.inputs)
        grads["x0"] = dstate[0] if sequences.form == "series" else dstate
    return value, grads


def estimate_memory(
    net: Model,
    batch: int,
    steps: int | ArrayLike,
    *,
    bptt: Unfolding | None = None,
    loss: LossName | Loss | Callable[..., Any] = "mse",
    readout: Readout | None = None,
    threads: int | None = None,
    isa: str | None = None,
) -> int:
    """Estimate the working memory of training, without the data and the parameters; nothing is allocated.

    Parameters
    ----------
    batch : int
        Sequences per batch: the `batch_size` of `fit`, or the number of sequences if smaller.
    steps : int or array of int (n,)
        Length of the sequences: one number for all, or the length of each.
    bptt, loss
        As in `fit`.  `SlidingBPTT` works on one window, regardless of `batch` and `steps`.
    readout : {"last", "every"}, optional
        Whether targets belong to the last step or to every step; default: the network's readout.
    threads, isa
        As in `predict`.

    Returns
    -------
    bytes : int
        The exact size of the arena of ``fit(..., bptt=bptt)`` on this machine, for sequences that are no
        windows, with teacher_forcing=1, stateful=False and no `comm`.

    Raises
    ------
    ConfigError
        If an argument is invalid, or the arena is too large for any machine.

    Examples
    --------
    >>> import bptt_fast as bf
    >>> net = bf.Network(8, 32, 1, cell="lstm", seed=0)
    >>> net.estimate_memory(1, 2000) > net.estimate_memory(1, 1000)
    True
    """
    every, unfold = _every(net, readout), unfolding.get(bptt)
    unfold.check(net)
    batch = integer(batch, "batch")
    try:
        lengths = np.array([integer(length, "steps") for length in steps])  # type: ignore[union-attr]
        batch = min(batch, len(lengths))
    except TypeError:  # one number for all
        lengths = np.array([integer(steps, "steps")])
    if not len(lengths):
        raise ConfigError("steps: expected at least one length, got none.")
    batch, longest, every = unfold.plan_size(batch, int(lengths.max()), every)
    size = PlanSize(losses.get(loss), every, batch, longest, *machine_for(threads, isa))
    options = unfold.core(longest) | net.update_options()
    return plan_bytes(net.desc(), size, with_groups(lengths, net.desc(), size, options))


def _every(net: Model, readout: Readout | None) -> bool:
    """Whether g reads the state after every step."""
    return (net.readout if readout is None else choice(readout, "readout", get_args(Readout))) == "every"


def _acquire(
    net: Model,
    sequences: Sequences,
    loss: str | Loss,
    every: bool,
    batch: int,
    steps: int,
    threads: int | None,
    isa: str | None,
    input_gradient: bool = False,
    options: dict[str, Any] | None = None,
) -> Any:
    """A plan from the network's pool for these sizes and sequences of these lengths."""
    size = PlanSize(loss, every, batch, steps, *machine_for(threads, isa), input_gradient)
    if sequences.ragged:
        options = with_groups(sequences.length, net.desc(), size, options)
    key = (*size, tuple(sorted(options.items())) if options else ())
    return net.plans.acquire(key, (), lambda: make_plan(net.desc(), size, options))


# ---- data with targets


def training_data(
    net: Model,
    x: Any,
    y: Any,
    loss: Loss,
    every: bool,
    sample_weight: Any,
    x0: Any,
    lengths: Any,
    names: Sequence[str] = ("x", "y", "sample_weight"),
    columns: Columns | None = None,
    dtype: Any = None,
    is_part: bool = False,
    share: data.Share = data.WHOLE,
) -> Sequences:
    """Scaled inputs, targets and states; `columns` and `dtype` override the network's.

    `share` is the part of the rows that is checked to be finite.
    """
    columns, dtype = columns or net.columns, dtype or net.dtype
    if isinstance(x, data.Subset):
        shared = x.whole if columns.scaling is None else x.scaled
        arguments = (y, loss, every, sample_weight, x0, lengths)
        return x.of(training_data(net, shared, *arguments, columns=columns, dtype=dtype), every)
    if isinstance(x, data.Shared):
        state_size = 0 if x0 is None else net.state_size
        targets = (loss.targets, loss.outputs, loss.class_weight, loss.function is None, loss.average)
        key = (net.input_size, net.output_size, dtype, state_size, targets, every, *names, columns)
        given = (y, loss, every, sample_weight, x0, lengths, names, columns, dtype)
        return x.made_once(key, lambda: training_data(net, x.x, *given))
    sequences = data.sequences(x, net.input_size, dtype, lengths, names[0], columns, share)
    data.set_targets(
        sequences, y, net.output_size, loss, every, sample_weight, names[1], names[2], is_part, share
    )
    sequences.state = data.states(x0, len(sequences), net.state_size, dtype)
    return sequences


def sampling_probability(net: Model, unfold: Unfolding, loss: Loss, teacher_forcing: Any) -> float:
    """The probability that the input of a step is the network's previous output (scheduled sampling)."""
    ratio = number(teacher_forcing, "teacher_forcing", 0, 1)
    if ratio == 1:
        return 0.0
    d = net.description
    wrong = {
        f'readout="{net.readout}"': net.readout != "every",
        f"input_size={d.input_size} and output_size={d.output_size}": d.input_size != d.output_size,
        "bidirectional=True": d.bidirectional,
        f'loss="{loss.name}"': loss.targets != "real" or loss.outputs > 1 or loss.function is not None,
        f"bptt={unfold}": not unfold.plain,
    }
    if any(wrong.values()):
        got = ", ".join(text for text, holds in wrong.items() if holds)
        raise ConfigError(
            f'teacher_forcing: below 1 outputs are fed back, which needs readout="every", output_size equal '
            f"to input_size, one direction, targets that are real numbers, and FullBPTT(); got {ratio:g} "
            f"with {got}.  Use teacher_forcing=1."
        )
    return 1 - ratio


def check_feedback(probability: float, columns: Columns) -> None:
    """Raise unless outputs that are fed back can be used as inputs unchanged."""
    if not probability:
        return
    if columns.feedback("teacher_forcing") is not None:
        raise ConfigError(
            f"teacher_forcing: below 1 output j is fed back as input j, which needs names in one order, got "
            f"inputs {listed(columns.inputs)}, outputs {listed(columns.outputs)}.  Pass x and y in one order "
            f"of columns to a new network, or use teacher_forcing=1."
        )
    if columns.scaling is not None and not columns.scaling.closed:
        raise ConfigError(
            "teacher_forcing: below 1 scaled outputs are fed back unchanged, which needs equal scalings of "
            'inputs and outputs, got different ones.  Use fit(scaling="standard") with this '
            "teacher_forcing, or teacher_forcing=1."
        )
