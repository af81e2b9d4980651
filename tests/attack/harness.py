"""Runs the numbered cases of a target in child processes, each case under a limit of time and memory.

A case depends on its target and number alone.  The child writes the number of its present case into
memory that it shares with its parent, so that a signal has a case, too.
"""

import mmap
import os
import random
import resource
import signal
import struct
import sys
import time
import traceback


class Slow(BaseException):
    """The limit of CPU seconds; no handler for Exception takes it."""


def generator(name, number):
    rng = random.Random(f"{name} {number}")
    rng.number = number
    return rng


def size_of_process():
    with open("/proc/self/statm") as file:
        pages = file.read().split()
    return int(pages[0]) * mmap.PAGESIZE


def run_case(target, name, number, seconds, memory):
    """One case: whether it was accepted; raises what was not allowed."""

    def slow(*_):
        raise Slow(f"more than {seconds} seconds of CPU")

    signal.signal(signal.SIGPROF, slow)
    limits = resource.getrlimit(resource.RLIMIT_AS)
    if memory:
        resource.setrlimit(resource.RLIMIT_AS, (size_of_process() + memory, limits[1]))
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        return target.run(generator(name, number))
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        resource.setrlimit(resource.RLIMIT_AS, limits)


def worker(make, name, first, step, last, until, shared, seconds, memory):
    """The cases first, first + step, ... in this process; ends it."""
    code = 1
    try:
        target = make()
        for number in range(5 if memory else 0):  # what is imported or allocated once
            run_case(target, name, -number - 1, 60, 0)
        done = accepted = 0
        number = first
        while number < last and time.monotonic() < until:
            shared[0:24] = struct.pack("qqq", number, done, accepted)
            accepted += run_case(target, name, number, seconds, memory)
            done, number = done + 1, number + step
        shared[0:24] = struct.pack("qqq", -1, done, accepted)
        code = 0
    except BaseException:
        traceback.print_exc(limit=-8)
    sys.stderr.flush()
    os._exit(code)


def campaign(make, name, minutes, first=0, last=2**62, seconds=2.0, memory=64 << 20, processes=None):
    """(cases, accepted, failures): numbers are shared out among processes; a failed one is replaced."""
    processes, until = processes or os.cpu_count() or 1, time.monotonic() + 60 * minutes
    running, total, accepted, failures = {}, 0, 0, []

    def start(begin):
        shared = mmap.mmap(-1, 4096)
        shared[0:24] = struct.pack("qqq", begin, 0, 0)
        pid = os.fork()
        if pid == 0:
            worker(make, name, begin, processes, last, until, shared, seconds, memory)
        running[pid] = shared

    for rank in range(min(processes, last - first)):
        start(first + rank)
    while running:
        pid, status = os.wait()
        if pid not in running:
            continue
        shared = running.pop(pid)
        number, done, good = struct.unpack("qqq", shared[0:24])
        total, accepted = total + done, accepted + good
        if status:
            failures.append(number)
            what = f"signal {os.WTERMSIG(status)}" if os.WIFSIGNALED(status) else "see above"
            print(f"{name}: case {number} failed ({what}); again: --case {name} {number}", flush=True)
            total += 1
            if len(failures) < 20 and time.monotonic() < until and number + processes < last:
                start(number + processes)
    return total, accepted, failures
