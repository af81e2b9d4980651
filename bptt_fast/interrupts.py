"""Long work of NumPy and other libraries in parts, since Ctrl-C is heard only in between."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Generator, Iterator
from typing import Any, TypeVar

import numpy as np

Array = np.ndarray[Any, Any]
Result = TypeVar("Result")

PART = 1 << 22  # numbers that NumPy reads and writes in some milliseconds
WORK = 10**8  # multiply-adds that it takes some ten milliseconds for


def in_parts(shape: tuple[int, ...], width: int = 1) -> Iterator[tuple[slice, ...]]:
    """Indices of the parts of an array of this shape, in order; each of its items stands for `width` numbers.

    The first axis that is long enough is cut.
    """
    count = -(-math.prod(shape) * width // PART)
    if count <= 1:
        yield (slice(None),) * len(shape)
        return
    axis = next((i for i, n in enumerate(shape) if n >= count), int(np.argmax(shape)))
    step = -(-shape[axis] // count)
    for begin in range(0, shape[axis], step):
        yield (*(slice(None),) * axis, slice(begin, begin + step))


def fill(to: Array, source: Array) -> None:
    """Copy an array into another one of its shape, which may have another dtype."""
    if source.size <= PART:
        to[...] = source
        return
    for part in in_parts(source.shape):
        to[part] = source[part]


def pieces(content: bytes | memoryview) -> Iterator[memoryview]:
    """The bytes of a buffer, in order."""
    view = memoryview(content)
    if view.nbytes:
        view = view.cast("B")
        for (piece,) in in_parts((view.nbytes,)):
            yield view[piece]


def wait(event: threading.Event) -> None:
    """Wait for an event; with timeouts: if polars is loaded, Ctrl-C does not end a wait."""
    while not event.wait(0.1):
        pass


def in_threads(work: Callable[[], None], workers: int, halt: threading.Event) -> None:
    """Call `work` in so many threads and wait for all; the first error sets `halt`, and is raised."""
    if workers == 1:
        work()
        return
    errors: list[BaseException] = []

    def run(finished: threading.Event) -> None:
        try:
            work()
        except BaseException as error:
            errors.append(error)
            halt.set()
        finally:
            finished.set()

    ends = [threading.Event() for _ in range(workers)]
    team = [threading.Thread(target=run, args=(end,), daemon=True) for end in ends]
    try:
        for worker in team:
            worker.start()
        for end in ends:  # not join: an interrupt makes it report a running thread as ended
            wait(end)
    except BaseException as error:
        errors.append(error)
        halt.set()
    for worker, end in zip(team, ends, strict=True):
        if worker.ident is not None:
            end.wait()
            worker.join()
    if errors:
        raise errors[0]


def prefetched(items: Iterator[Result]) -> Generator[Result, None, None]:
    """The items, each made by a thread while the caller uses the one before."""
    made: list[Result] = []
    errors: list[BaseException] = []  # StopIteration at the end
    wanted, ready, ended, halt = threading.Semaphore(), *(threading.Event() for _ in range(3))

    def work() -> None:
        try:
            while wanted.acquire() and not halt.is_set():
                made.append(next(items))
                ready.set()
        except BaseException as error:
            errors.append(error)
        finally:
            ended.set()
            ready.set()

    threading.Thread(target=work, daemon=True).start()
    try:
        while True:
            wait(ready)
            ready.clear()
            if not made:
                if isinstance(errors[0], StopIteration):
                    return
                raise errors[0]
            item = made.pop()
            wanted.release()
            yield item
    finally:
        halt.set()
        wanted.release()
        wait(ended)  # it may be in the middle of an item


def answer(call: Callable[[], Result], work: float) -> Result:
    """The result of a call that cannot be cut and takes so many multiply-adds.

    If they are many it runs in a thread, in which it ends, unused, after Ctrl-C.
    """
    if work < WORK:
        return call()
    results: list[Result] = []
    errors: list[BaseException] = []
    done = threading.Event()

    def run() -> None:
        try:
            results.append(call())
        except BaseException as error:
            errors.append(error)
        finally:
            done.set()

    threading.Thread(target=run, daemon=True).start()
    wait(done)
    if errors:
        raise errors[0]
    return results[0]
