"""Plans of the C core: creation with errors that name the sizes, and a pool for reuse."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import contextmanager
from operator import le
from typing import Any, NamedTuple

import numpy as np

from . import _core, losses  # type: ignore[attr-defined]
from .data import Array, Sequences
from .errors import ConfigError
from .losses import Loss

UNGROUPED = 1 << 26  # bytes of the largest plan that never groups a batch
GROUPED = {"sampling_probability", "residuals", "rules"}  # options of plans that can group a batch


class PlanSize(NamedTuple):
    """The loss, the sizes and the machine of a plan."""

    loss: Loss | str
    every: bool  # whether g reads every step
    batch: int
    steps: int
    threads: int
    isa: str | None
    input_gradient: bool = False


def make_plan(desc: Mapping[str, Any], size: PlanSize, options: Mapping[str, Any] | None = None) -> Any:
    """A plan of the C core; `options` are further fields of csrc/desc.def."""
    return _planned(_core.Plan, desc, size, options)


def plan_bytes(desc: Mapping[str, Any], size: PlanSize, options: Mapping[str, Any] | None = None) -> int:
    """The size in bytes of the arena of ``make_plan(desc, size, options)``."""
    return int(_planned(_core.nbytes, desc, size, options))


def _planned(
    make: Callable[..., Any], desc: Mapping[str, Any], size: PlanSize, options: Mapping[str, Any] | None
) -> Any:
    fields = size._asdict()
    fields |= {**losses.get(size.loss).core(), "readout_every_step": fields.pop("every"), **(options or {})}
    advice = "Try a smaller batch_size, shorter sequences, or in training bptt=CheckpointedBPTT()."
    with planning(f"{size.batch} sequences of {size.steps} steps at once", advice):
        return make(desc, **fields)


@contextmanager
def planning(what: str, advice: str) -> Iterator[None]:
    """Translate errors of the core about a plan for `what`; `advice` is the suggestion if memory is short."""
    try:
        yield
    except MemoryError as error:
        raise MemoryError(f"{what} cannot be allocated ({error}).  {advice}") from None
    except (ValueError, OverflowError) as error:
        raise ConfigError(f"{what} cannot be planned: {error}.") from None


def with_groups(
    lengths: Array | None, desc: Mapping[str, Any], size: PlanSize, options: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """The options of a plan for sequences of these lengths (None: of equal length).

    If most of batch x steps is padding, and the plan is large, `area` is added: a batch is then computed in
    groups of sequences of similar length, so that memory grows with the sum of lengths.
    """
    chosen = dict(options or {})
    if losses.get(size.loss).function is not None:  # it is called with whole batches
        return chosen
    if lengths is None or size.batch == 1 or not set(chosen) <= GROUPED:
        return chosen
    total = int(np.minimum(lengths, size.steps).sum())
    area = max(size.steps, 2 * size.batch * total // len(lengths))
    if area < size.batch * size.steps and plan_bytes(desc, size, chosen) > UNGROUPED:
        chosen["area"] = area
    return chosen


def core_data(sequences: Sequences) -> Any:
    """The sequences as Data of the C core, without copying."""
    s = sequences
    rows = s.values, s.offset, s.length, s.target_offset
    return _core.Data(*rows, s.targets, s.classes, s.weight, s.state, s.number)


class Pooled(NamedTuple):
    """A plan in a pool with its key and its largest sizes."""

    key: Hashable
    size: tuple[int, ...]
    plan: Any


class PlanPool:
    """A pool of plans, since creating a plan takes longer than a step of a small network.

    A plan serves one caller at a time: `acquire` removes it from the pool, `release` puts it back.  Appending
    to a list and removing from it are atomic, so callers in several threads need no lock.

    Parameters
    ----------
    size : int
        Maximum number of plans; the least recently released one is dropped first.
    nbytes : int, optional
        Size of the largest arena that is kept.
    """

    __slots__ = ("_nbytes", "_plans", "_size")

    def __init__(self, size: int, nbytes: int | None = None) -> None:
        self._size, self._nbytes = size, nbytes
        self._plans: list[Pooled] = []

    def __len__(self) -> int:
        return len(self._plans)

    def __reduce__(self) -> tuple[Any, ...]:
        """Copy and pickle as an empty pool, since plans hold memory of this process."""
        return PlanPool, (self._size, self._nbytes)

    def acquire(self, key: Hashable, size: tuple[int, ...], make: Callable[[], Any]) -> Pooled:
        """A plan for this key and at least these sizes, from the pool or from `make`."""
        for pooled in tuple(self._plans):
            if pooled.key == key and all(map(le, size, pooled.size)):
                try:
                    self._plans.remove(pooled)
                    return pooled
                except ValueError:  # another thread was first
                    continue
        return Pooled(key, size, make())

    def release(self, pooled: Pooled) -> None:
        """Return a plan to the pool."""
        if self._nbytes is None or pooled.plan.nbytes <= self._nbytes:
            self._plans.append(pooled)
            del self._plans[: -self._size]  # in one step: another thread may empty the list at any time
