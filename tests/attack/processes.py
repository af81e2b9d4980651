"""Kills while a file is written, full disks, interrupts, forks beside threads, and cycles of every object."""

import contextlib
import gc
import mmap
import os
import resource
import signal
import struct
import tempfile
import threading
import time
import tracemalloc

import numpy as np

import bptt_fast as bf

RNG = np.random.default_rng(0)
X = RNG.normal(size=(40, 12, 3))
Y = X.mean(1)


class Parent:
    """Starts children."""

    def in_child(self, call):
        """The process number of a child that calls it and ends with 0, or with 1 after an exception."""
        pid = os.fork()
        if pid == 0:
            code = 1
            signal.setitimer(signal.ITIMER_PROF, 0)
            with contextlib.suppress(BaseException):
                call()
                code = 0
            os._exit(code)
        return pid


class InFolder(Parent):
    """A network `old` in a file of its own folder, and another one, `new`."""

    def __init__(self):
        self.folder = tempfile.TemporaryDirectory(prefix="attack")
        self.path = os.path.join(self.folder.name, "model")
        self.old, self.new = (bf.Network(3, 150, 2, seed=seed) for seed in (1, 2))
        self.old.save(self.path)

    def one_of_both(self):
        bits = bf.load(self.path).params.tobytes()
        assert bits in (self.old.params.tobytes(), self.new.params.tobytes()), "neither of the two models"
        return bits


class Kills(InFolder):
    """kill -9 at a random moment of a save."""

    def run(self, rng):
        def saves():
            while True:
                self.new.save(self.path)
                self.old.save(self.path)

        pid = self.in_child(saves)
        threading.Event().wait(rng.random() * 0.02)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        self.one_of_both()
        for name in os.listdir(self.folder.name):  # what killed saves leave behind
            if name.startswith(".bptt_fast."):
                os.unlink(os.path.join(self.folder.name, name))
        return True


class FullDisk(InFolder):
    """A limit on the size of files, so that a write ends early: OSError, and the old file."""

    def run(self, rng):
        before = self.one_of_both()
        size = os.path.getsize(self.path)

        def save():
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (rng.randrange(size), resource.RLIM_INFINITY))
            with contextlib.suppress(OSError):
                self.new.save(self.path)
                raise AssertionError("a file of this size fits")

        status = os.waitpid(self.in_child(save), 0)[1]
        assert status == 0, "another error than OSError"
        assert self.one_of_both() == before, "the old file is lost"
        assert os.listdir(self.folder.name) == ["model"], "a part of a file is left"
        return True


class Interrupts(Parent):
    """Ctrl-C at a random moment of a call: heard in less than `seconds` of work, and harmless."""

    seconds = 0.3

    def __init__(self):
        import scipy.linalg  # an import that is interrupted ends as an ImportError
        import scipy.optimize  # noqa: F401

        long = RNG.normal(size=(20000, 3))
        self.calls = {
            "fit": lambda net: net.fit(X, Y[:, :3], epochs=1000, verbose=0),
            "second order": lambda net: net.fit(X, Y[:, :3], optimizer="lbfgs", epochs=1000, verbose=0),
            "marquardt": lambda net: net.fit(X, Y, optimizer="levenberg_marquardt", epochs=100, verbose=0),
            "hessian free": lambda net: net.fit(X, Y, optimizer="hessian_free", epochs=1000, verbose=0),
            "sliding": lambda net: net.fit(long, long, bptt=bf.SlidingBPTT(4), epochs=100, verbose=0),
            "predict": lambda net: net.predict([long[:100], long] * 20, threads=2),
            "forecast": lambda net: net.forecast(long, 10**6),
            "evaluate": lambda net: net.evaluate([long[:50]] * 2000, np.zeros((2000, 3)), threads=2),
            "restarts": lambda net: bf.restarts(net, X, Y, 4, epochs=1000, verbose=0),
        }

    def run(self, rng):
        name = rng.choice(sorted(self.calls))
        net = bf.Network(3, 20, 3, cell="gru", seed=0)
        me, delay, sent, armed = os.getpid(), 0.01 + 0.3 * rng.random(), mmap.mmap(-1, 4096), [False]

        def press(*_):
            if armed[0]:
                raise KeyboardInterrupt

        def send():
            time.sleep(delay)
            sent[:8] = struct.pack("d", _work_of(me))
            os.kill(me, signal.SIGINT)

        signal.signal(signal.SIGINT, press)
        pid, heard = self.in_child(send), False
        try:
            armed[0] = True
            self.calls[name](net)
        except KeyboardInterrupt:
            heard = True
        armed[0] = False
        late = _work_of(me) - struct.unpack("d", sent[:8])[0]
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        assert not heard or late < self.seconds, f"{name}: Ctrl-C was heard after {late:.2f} s of work"
        assert np.isfinite(net.params).all()
        net.predict(X)
        return heard


def _work_of(pid):
    """Seconds of CPU of a process, with all of its threads."""
    with open(f"/proc/{pid}/stat") as file:
        fields = file.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Forks(InFolder):
    """Fits in threads, and forks in between, whose children fit, too: equal bits everywhere."""

    def __init__(self):
        super().__init__()
        self.expected = self.fitted()

    def fitted(self, threads=2):
        net = bf.Network(3, 24, 3, cell="gru", seed=0)
        net.fit(X, Y, epochs=2, threads=threads, verbose=0)
        return net.params.tobytes()

    def run(self, rng):
        found, counts = [], [rng.choice((1, 2, 3, 4)) for _ in range(3)]
        threads = [threading.Thread(target=lambda n=n: found.append(self.fitted(n))) for n in counts]
        for thread in threads:
            thread.start()

        def child():
            assert self.fitted(rng.choice((1, 2, 4))) == self.expected

        children = [self.in_child(child) for _ in range(2)]
        for thread in threads:
            thread.join()
        assert all(os.waitpid(pid, 0)[1] == 0 for pid in children), "a child has other bits or died"
        assert found == [self.expected] * 3, "a thread has other bits"
        return True


class Cycles(InFolder):
    """Every object made and dropped again and again: what Python and NumPy hold does not grow."""

    cycles = 200

    def __init__(self):
        super().__init__()
        net = bf.Network(3, 4, 3, cell="gru", seed=0)
        x, y, small = X[:4], Y[:4], os.path.join(self.folder.name, "small")
        net.save(small)

        def refused(call):
            with contextlib.suppress(ValueError):
                call()

        self.objects = {
            "Network": lambda: bf.Network(3, 4, 2, seed=0),
            "fit": lambda: net.fit(x, y, epochs=1, verbose=0),
            "fit sliding": lambda: net.fit(x[0], x[0], bptt=bf.SlidingBPTT(3), epochs=1, verbose=0),
            "fit truncated": lambda: bf.Network(3, 4, 3, readout="every", seed=0).fit(
                x, x, bptt=bf.TruncatedBPTT(3, 5), epochs=1, stateful=True, verbose=0
            ),
            "fit second order": lambda: net.fit(x, y, optimizer="lbfgs", epochs=1, verbose=0),
            "predict": lambda: net.predict(x, return_state=True),
            "evaluate": lambda: net.evaluate(x, y),
            "loss_and_grad": lambda: net.loss_and_grad(x, y, with_inputs=True),
            "stream": lambda: net.stream(batch=2).step(x[:2, 0]),
            "learner": lambda: net.learn_online(bf.SlidingBPTT(2)).observe(x[0, 0], x[0, 0]),
            "forecast": lambda: net.forecast(x, 3),
            "windows": lambda: net.predict(bf.Sequences.windows(x[0], 4)),
            "load": lambda: bf.load(small).save(small),
            "refused fit": lambda: refused(lambda: net.fit(x, y[:2], verbose=0)),
            "refused load": lambda: refused(lambda: bf.load(__file__)),
            "refused network": lambda: refused(lambda: bf.Network(0, 1, 1)),
        }

    def run(self, rng):
        name = rng.choice(sorted(self.objects))
        call = self.objects[name]
        tracemalloc.start()
        try:
            for _ in range(self.cycles):  # fills the caches of NumPy, which end at some kilobytes
                call()
            gc.collect()
            before = tracemalloc.get_traced_memory()[0]
            for _ in range(self.cycles):
                call()
            gc.collect()
            grown = tracemalloc.get_traced_memory()[0] - before
        finally:
            tracemalloc.stop()
        assert grown < 56 * self.cycles, f"{name}: {grown} bytes more after {self.cycles} cycles"
        return True


TARGETS = {"kills": Kills, "full disk": FullDisk, "interrupts": Interrupts, "forks": Forks, "cycles": Cycles}
