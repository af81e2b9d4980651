"""Losses that are functions of the user's: calls with the rows of a batch, and checks of what they return."""

from __future__ import annotations

from typing import Any

import numpy as np

from . import data
from .data import Array, Sequences
from .errors import ConfigError, ShapeError
from .losses import Loss
from .plans import core_data


class BatchLoss:
    """The loss of the batches of a run, as the C core calls it.

    Parameters
    ----------
    loss : Loss
        One with a function.
    sequences : Sequences
    every : bool
        Whether there is a target for every step.
    outputs : int
        O.
    n, batch : int
        A batch has at most `batch` of the first `n` sequences.

    Attributes
    ----------
    order : ndarray of int64
        The sequences of the run, set before it.
    """

    def __init__(
        self, loss: Loss, sequences: Sequences, every: bool, outputs: int, n: int, batch: int
    ) -> None:
        self.loss, self.sequences, self.every = loss, sequences, every
        rows = int(np.sort(sequences.length[:n])[-batch:].sum()) if every else batch
        self.outputs = np.empty((rows, outputs), sequences.values.dtype)
        self.order = data.counting(n)
        self.core = (self, self.outputs, np.zeros(len(sequences), np.int64))

    def __call__(self, begin: int, n: int) -> float:
        """The loss of the batch ``order[begin : begin + n]``; its outputs become the gradient."""
        rows = target_rows(self.sequences, self.order[begin : begin + n], self.every)
        outputs = self.outputs[: len(rows)]
        value, outputs[...] = value_and_gradient(self.loss, self.sequences, rows, outputs)
        return value


def evaluate(loss: Loss, plan: Any, params: Array, sequences: Sequences, order: Array, every: bool) -> float:
    """The loss of the sequences `order`, all at once."""
    rows = target_rows(sequences, order, every)
    outputs = np.empty((len(rows), plan.desc["output_size"]), sequences.values.dtype)
    length = sequences.length[order] if every else np.ones_like(order)
    place = np.zeros_like(sequences.offset)
    place[order] = np.cumsum(length) - length
    plan.predict(params, core_data(data.replaced(sequences, target_offset=place)), order, outputs, every)
    return value_and_gradient(loss, sequences, rows, outputs)[0]


def target_rows(sequences: Sequences, order: Array, every: bool) -> Array:
    """The target rows of the sequences `order`, one after the other."""
    start = sequences.target_offset[order]
    if not every:
        return start
    return data.spans(start, sequences.length[order])


def value_and_gradient(loss: Loss, sequences: Sequences, rows: Array, outputs: Array) -> tuple[float, Array]:
    """The loss of target rows with these outputs, and its gradient with respect to the outputs.

    Raises
    ------
    ConfigError, ShapeError
        If the function raises, or does not return a number and an array in the shape of its outputs.
    """
    s, counted = sequences, None
    weight = np.ones(len(rows), outputs.dtype) if s.weight is None else s.weight[rows]
    given = outputs
    if s.weight is not None and not weight.all():
        counted = weight > 0
        rows, weight, given = rows[counted], weight[counted], given[counted]
    targets = s.targets if s.classes is None else s.classes
    value, gradient = call(loss, given, None if targets is None else targets.take(rows, axis=0), weight)
    if counted is None:
        return value, gradient
    whole = np.zeros_like(outputs)
    whole[counted] = gradient
    return value, whole


def call(loss: Loss, outputs: Array, targets: Any, weights: Array) -> tuple[float, Array]:
    """The checked result of a function, with the gradient in the dtype of the outputs."""
    assert loss.function is not None
    shape, dtype, name = outputs.shape, outputs.dtype, loss.name
    try:
        result = loss.function(outputs, targets, weights)
    except Exception as error:
        hint = ".  It is called with (outputs, targets, weights)." if isinstance(error, TypeError) else ""
        raise ConfigError(f"loss: {name} raised {type(error).__name__}: {error}{hint}") from error
    if not isinstance(result, (tuple, list)) or len(result) != 2:
        what = f"{len(result)} items" if isinstance(result, (tuple, list)) else type(result).__name__
        raise ConfigError(
            f"loss: expected (value, gradient) from {name}, got {what}.  The gradient is with "
            f"respect to the outputs, {shape}."
        )
    value = data.numbers(result[0], f"loss: value of {name}")
    gradient = data.numbers(result[1], f"loss: gradient of {name}")
    if value.size != 1:
        raise ShapeError(f"loss: expected one number as value of {name}, got an array {value.shape}.")
    if gradient.shape != shape:
        raise ShapeError(
            f"loss: expected a gradient {shape} from {name}, the shape of the outputs, got {gradient.shape}."
        )
    with np.errstate(over="ignore", invalid="ignore"):
        return float(value.item()), gradient.astype(dtype, copy=False)
