"""Ctrl-C at a chosen moment."""

import contextlib
import os
import signal
import threading
import time


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
