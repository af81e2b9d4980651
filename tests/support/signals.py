"""Ctrl-C at a chosen moment, in seconds of work where they can be counted: other processes do not matter."""

import contextlib
import os
import resource
import signal
import threading
import time
from pathlib import Path


@contextlib.contextmanager
def interrupted(delay):
    """Ctrl-C after so many seconds; gives a list for the moment, in seconds of work that this process did."""
    sent = []

    def press():
        sent.append(time.process_time())
        os.kill(os.getpid(), signal.SIGINT)

    timer = threading.Timer(delay, press)
    timer.start()
    try:
        yield sent
    finally:
        timer.cancel()
        timer.join()


def work_of(child):
    """Seconds of work that a running child did; where there is no /proc, seconds that went by."""
    try:
        fields = Path(f"/proc/{child.pid}/stat").read_text().rpartition(")")[2].split()
    except FileNotFoundError:
        return time.monotonic()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def work_of_children():
    """Seconds of work of all child processes that have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def interrupt(child, after):
    """Ctrl-C after so many seconds of work; what the child wrote to standard error, its work after that."""
    ended, start = work_of_children(), work_of(child)
    while work_of(child) < start + after:
        assert child.poll() is None, child.communicate()
        time.sleep(0.02)
    sent = work_of(child)
    child.send_signal(signal.SIGINT)
    _, err = child.communicate(timeout=60)
    return err, work_of_children() - ended - sent
