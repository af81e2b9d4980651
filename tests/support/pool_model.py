"""The protocol of csrc/threads.c as a model, and a search of all its interleavings.

A thread is a generator: it yields before each access to memory that others write, so that everything
between two yields happens at once.  `("until", test)` waits, as wait_change does, until the test of the
memory is true.  A sleeper cannot miss a wake-up, because `change` writes and wakes under the lock under which
a sleeper looks once more; the model therefore has no lock.
"""

import types


class FaultError(AssertionError):
    """An interleaving in which something is wrong."""


def worker(m, rank, one_word):
    seen = 0  # pool.born
    while True:
        yield "until", lambda m, seen=seen: m.job != seen
        yield "step", None
        seen = m.job
        if not one_word:  # the job's number alone: the size of its team is read later
            yield "step", None
        size = seen[1] if one_word else m.size
        if m.quit:
            return
        if rank < size:
            yield from part(m, rank)
            yield "step", None
            m.unfinished -= 1


def part(m, rank):
    """take_part: a job's function, with one barrier."""
    yield "step", None
    m.parts[rank] += 1
    yield "step", None
    if m.size > 1:
        before = m.round
        yield "step", None
        m.arrived += 1
        if m.arrived == m.size:
            yield "step", None
            m.arrived = 0
            yield "step", None
            m.round += 1
        else:
            yield "until", lambda m: m.round != before
    yield "step", None
    if any(m.parts[r] != 1 for r in range(m.size)) or any(m.parts[r] for r in range(m.size, 3)):
        raise FaultError(f"after the barrier of a team of {m.size}: parts {m.parts}")


def caller(m, sizes):
    for number, size in enumerate(sizes, 1):
        m.parts, m.size = [0, 0, 0], size
        yield "step", None
        m.arrived, m.unfinished = 0, size - 1
        yield "step", None
        m.job = (number, size)
        yield from part(m, 0)
        yield "until", lambda m: m.unfinished == 0
        if m.parts != [1] * size + [0] * (3 - size):
            raise FaultError(f"after a job of {size}: parts {m.parts}")
    yield "step", None
    m.quit = True
    yield "step", None
    m.job = (len(sizes) + 1, 0)


def replayed(sizes, one_word, schedule):
    """Memory and threads after the steps of a schedule, the numbers of the threads that take them."""
    m = types.SimpleNamespace(job=0, size=0, unfinished=0, arrived=0, round=0, quit=False, parts=[0, 0, 0])
    threads = [caller(m, sizes), worker(m, 1, one_word), worker(m, 2, one_word)]
    waits = [next(thread) for thread in threads]
    for number in schedule:
        waits[number] = next(threads[number], None)
    return m, threads, waits


def state_of(m, threads, waits):
    """All that the future depends on: memory, and where each thread stands with which variables."""
    frames = []
    for thread, wait in zip(threads, waits, strict=True):
        stack = []
        while thread is not None and thread.gi_frame is not None:
            names = ("seen", "size", "before", "number", "rank")
            held = thread.gi_frame.f_locals
            stack.append((thread.gi_frame.f_lasti, *(held.get(name) for name in names)))
            thread = thread.gi_yieldfrom
        frames.append((tuple(stack), wait is None))
    return (*frames, m.job, m.size, m.unfinished, m.arrived, m.round, m.quit, tuple(m.parts))


def search(sizes, one_word=True):
    """The number of states of all interleavings of jobs of these sizes; raises a FaultError."""
    seen, todo = set(), [()]
    while todo:
        schedule = todo.pop()
        m, threads, waits = replayed(sizes, one_word, schedule)
        state = state_of(m, threads, waits)
        if state in seen:
            continue
        seen.add(state)
        ready = [i for i, wait in enumerate(waits) if wait and (wait[0] == "step" or wait[1](m))]
        if not ready and any(wait is not None for wait in waits):
            raise FaultError(f"deadlock after {len(schedule)} steps: {schedule}")
        todo += [(*schedule, i) for i in ready]
    return len(seen)
