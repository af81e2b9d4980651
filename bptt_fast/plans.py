"""Plans of the C core: made with errors that name the sizes, and kept for later calls."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from operator import le
from typing import Any, NamedTuple

import numpy as np

from . import _core, losses  # type: ignore[attr-defined]
from .data import Array, Sequences
from .errors import ConfigError
from .losses import Loss

UNGROUPED = 1 << 26  # bytes of a plan that takes any batch at once, however ragged
GROUPED = {"sampling_probability", "residuals"}  # options of plans that may take a batch in groups


def make_plan(*description: Any, **options: Any) -> Any:
    """A plan of the C core; the arguments are those of `plan_bytes`."""
    return _planned(_core.Plan, *description, **options)


def plan_bytes(*description: Any, **options: Any) -> int:
    """The size of a plan's arena in bytes."""
    return int(_planned(_core.nbytes, *description, **options))


def _planned(
    make: Callable[..., Any],
    desc: Mapping[str, Any],
    loss: Loss | str,
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


def with_groups(
    lengths: Array | None,
    desc: Mapping[str, Any],
    loss: Loss | str,
    every: bool,
    batch: int,
    steps: int,
    threads: int,
    isa: str | None,
    input_gradient: bool = False,
    options: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The options of a plan for sequences of these lengths (None: of equal length).

    Where most of batch x steps would be empty, and the plan is large, `area` is added to them: a batch is
    then computed in groups of sequences of similar length, so that memory grows with the sum of lengths.
    """
    chosen = dict(options or {})
    if lengths is None or batch == 1 or not set(chosen) <= GROUPED:
        return chosen
    area = max(steps, 2 * batch * int(np.minimum(lengths, steps).sum()) // len(lengths))
    size = (loss, every, batch, steps, threads, isa, input_gradient)
    if area < batch * steps and plan_bytes(desc, *size, chosen) > UNGROUPED:
        chosen["area"] = area
    return chosen


def core_data(sequences: Sequences) -> Any:
    """The sequences as the C core reads them; nothing is copied."""
    s = sequences
    return _core.Data(s.values, s.offset, s.length, s.target_offset, s.targets, s.classes, s.weight, s.state)


class Pooled(NamedTuple):
    """A plan in a pool: what it is for, and the largest sizes that it takes."""

    key: Hashable
    size: tuple[int, ...]
    plan: Any


class PlanPool:
    """Plans kept for later calls, since making one costs more than a step of a small network.

    A plan serves one caller at a time: `acquire` removes it from the pool, `release` puts it back.  Appending
    to a list and removing from it are atomic, so callers in several threads need no lock.

    Parameters
    ----------
    size : int
        Plans that are kept; the one that was released longest ago goes first.
    nbytes : int, optional
        Plans with a larger arena are not kept.
    """

    __slots__ = ("_nbytes", "_plans", "_size")

    def __init__(self, size: int, nbytes: int | None = None) -> None:
        self._size, self._nbytes = size, nbytes
        self._plans: list[Pooled] = []

    def __len__(self) -> int:
        return len(self._plans)

    def __reduce__(self) -> tuple[Any, ...]:
        """A copy starts empty: plans hold memory of this process."""
        return PlanPool, (self._size, self._nbytes)

    def acquire(self, key: Hashable, size: tuple[int, ...], make: Callable[[], Any]) -> Pooled:
        """A plan for this key that takes these sizes, from the pool or from `make`."""
        for pooled in tuple(self._plans):
            if pooled.key == key and all(map(le, size, pooled.size)):
                try:
                    self._plans.remove(pooled)
                    return pooled
                except ValueError:  # another thread was first
                    continue
        return Pooled(key, size, make())

    def release(self, pooled: Pooled) -> None:
        """Put a plan back for the next caller."""
        if self._nbytes is None or pooled.plan.nbytes <= self._nbytes:
            self._plans.append(pooled)
            if len(self._plans) > self._size:
                del self._plans[0]
