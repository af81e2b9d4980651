"""Kills while a file is written, full disks, interrupts, forks beside threads, and cycles of every object."""

import contextlib
import copy
import gc
import os
import pickle
import resource
import signal
import tempfile
import threading
import tracemalloc
import warnings
from functools import partial
from importlib.util import find_spec

import numpy as np

import bptt_fast as bf

from .latency import Interrupter

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


class Interrupts:
    """Ctrl-C at a random moment of a call: heard in less than `seconds` of work, and harmless."""

    seconds = 0.3

    def __init__(self):
        import scipy.linalg  # an import that is interrupted ends as an ImportError
        import scipy.optimize  # noqa: F401

        long = RNG.normal(size=(20000, 3))
        self.interrupter = Interrupter()
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
        late = self.interrupter.run(lambda: self.calls[name](net), 0.01 + 0.3 * rng.random())
        assert late is None or late < self.seconds, f"{name}: Ctrl-C was heard after {late:.2f} s of work"
        assert np.isfinite(net.params).all()
        net.predict(X)
        return late is not None


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


class Threads:
    """A fit of a random form, and what its network computes, with 1, 2, 3, 4 and 8 threads: equal bits."""

    def run(self, rng):
        form = self.form(rng)
        try:
            expected = self.results(1, *form)
        except (bf.ConfigError, bf.ShapeError):  # the options exclude each other
            return False
        for threads in (2, 3, 4, 8):
            assert self.results(threads, *form) == expected, f"{threads} threads have other bits: {form}"
        return True

    def form(self, rng):
        """Options of a network and of its fit, and lengths of sequences; most things as by default."""

        def some(usual, *others):
            return rng.choice((usual, usual, *others))

        cell = rng.choice((dict(), dict(cell="gru"), dict(cell="gru", reset="before"), dict(cell="lstm")))
        lstms = dict(cell="lstm", peephole=True), dict(cell="lstm", proj_size=7)
        net = some(cell, *lstms, dict(cell="mlp", f=(20,)))
        net |= dict(readout=rng.choice(("last", "every")), dtype=rng.choice(("float32", "float64")))
        net |= dict(hidden_size=rng.choice((17, 32, 64)), num_layers=some(1, 2), head=some((), (20,)))
        fit = dict(batch_size=some(None, 16, 100), optimizer=some("adam", "sgd", "rmsprop", "rprop"))
        kind = rng.randrange(5)
        if kind == 0:
            net |= dict(bidirectional=True, initial_state="trained", dropout=0.2 * (net["num_layers"] - 1))
        elif kind == 1:
            net |= dict(recurrent_dropout=0.2)
            fit |= dict(bptt=rng.choice((bf.TruncatedBPTT(3), bf.TruncatedBPTT(3, 7)))) | dict(stateful=True)
        elif kind == 2:
            fit |= dict(bptt=rng.choice((bf.CheckpointedBPTT(), bf.CheckpointedBPTT(5, 2))))
        elif kind == 3:
            fit |= dict(teacher_forcing=0.7) if net["readout"] == "every" else dict(stateful=True)
        else:
            optimizers = "lbfgs", "hessian_free", "levenberg_marquardt"
            fit |= dict(optimizer=rng.choice(optimizers), batch_size=None)
        steps, n = rng.choice((5, 30)), rng.choice((40, 100))
        lengths = [rng.randint(1, steps) for _ in range(n)] if rng.random() < 0.3 else [steps] * n
        return net, fit, lengths

    def results(self, threads, options, fit, lengths):
        net = bf.Network(3, output_size=3, seed=0, **options)
        random = np.random.default_rng(len(lengths))
        x = [random.normal(size=(length, 3)) for length in lengths]
        y = x if net.readout == "every" else np.stack([part[0] for part in x])
        history = net.fit(x, y, epochs=2, verbose=0, threads=threads, **fit)
        outputs, state = net.predict(x, return_state=True, threads=threads)
        loss, grads = net.loss_and_grad(x, y, threads=threads)
        bits = [np.concatenate(list(outputs)), state, grads.flat, net.params]
        return history["loss"], loss, net.evaluate(x, y, threads=threads), [a.tobytes() for a in bits]


def resident():
    """Bytes of this process that are in memory."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


class Cycles(InFolder):
    """Every object made and dropped again and again: neither Python's memory nor the process grows."""

    cycles = 200  # before the measurement at most, and in it

    def __init__(self):
        super().__init__()
        from bptt_fast import estimators

        warnings.simplefilter("ignore", estimators.ConvergenceWarning)  # of one epoch each
        net = bf.Network(3, 4, 3, cell="gru", seed=0)
        x, y, small = X[:4], Y[:4], os.path.join(self.folder.name, "small")
        net.save(small)
        net.to_onnx(small + ".onnx")
        fit = partial(net.fit, x, y, epochs=1, verbose=0)
        backup = bf.callbacks.BackupAndRestore(self.folder.name)
        logger = partial(bf.callbacks.CSVLogger, os.path.join(self.folder.name, "log"))

        learner = os.path.join(self.folder.name, "learner")
        net.learn_online(bf.SlidingBPTT(2)).save(learner)

        def refused(call):
            with contextlib.suppress(ValueError):
                call()

        self.objects = {
            "Network": lambda: bf.Network(3, 4, 2, seed=0),
            "Plan": lambda: bf._core.Plan(net.desc(), loss="mse", batch=4, steps=5, threads=1),
            "Sequences": lambda: bf.Sequences.windows(x[0], 3),
            "copies": lambda: pickle.loads(pickle.dumps(copy.deepcopy(net))),
            "fit": fit,
            "History": lambda: repr(fit(validation_data=(x, y))),
            "callbacks": lambda: fit(callbacks=[logger(), bf.callbacks.EarlyStopping(monitor="loss")]),
            "backup": lambda: fit(callbacks=[backup]),
            "restarts": lambda: bf.restarts(net, x, y, 2, epochs=2, verbose=0),
            "diagnostics": lambda: bf.diagnostics.dynamics(net, x[0]),
            "onnx": lambda: bf.from_onnx(small + ".onnx").to_onnx(small + ".onnx"),
            "classifier": lambda: estimators.RNNClassifier(2, max_iter=1).fit(x, [0, 1, 0, 1]).predict(x),
            "forecaster": lambda: estimators.RNNForecaster(2, max_iter=1).fit(x[0]).predict(x[0]),
            "fit sliding": lambda: net.fit(x[0], x[0], bptt=bf.SlidingBPTT(3), epochs=1, verbose=0),
            "fit truncated": lambda: bf.Network(3, 4, 3, readout="every", seed=0).fit(
                x, x, bptt=bf.TruncatedBPTT(3, 5), epochs=1, stateful=True, verbose=0
            ),
            "fit second order": lambda: fit(optimizer="lbfgs"),
            "predict": lambda: net.predict(x, return_state=True),
            "evaluate": lambda: net.evaluate(x, y),
            "loss_and_grad": lambda: net.loss_and_grad(x, y, with_inputs=True),
            "stream": lambda: net.stream(batch=2).step(x[:2, 0]),
            "learner": lambda: net.learn_online(bf.SlidingBPTT(2)).observe(x[0, 0], x[0, 0]),
            "forecast": lambda: net.forecast(x, 3),
            "windows": lambda: net.predict(bf.Sequences.windows(x[0], 4)),
            "load": lambda: bf.load(small).save(small),
            "load learner": lambda: bf.load(learner).save(learner),
            "refused fit": lambda: refused(lambda: net.fit(x, y[:2], verbose=0)),
            "refused load": lambda: refused(lambda: bf.load(__file__)),
            "refused network": lambda: refused(lambda: bf.Network(0, 1, 1)),
        }
        if find_spec("torch"):
            self.objects["torch"] = self._torch(x)

    def _torch(self, x):
        import torch

        from bptt_fast.torch import GRU

        x = torch.tensor(x)

        def call():
            module = GRU(3, 4, batch_first=True, dtype=x.dtype)
            module(x)[0].sum().backward()

        return call

    def run(self, rng):
        name = sorted(self.objects)[rng.number % len(self.objects)]
        call, cycles = self.objects[name], self.cycles
        tracemalloc.start()
        try:
            for _ in range(min(cycles, 500)):  # fills the caches of NumPy, which end at some kilobytes
                call()
            gc.collect()
            before = tracemalloc.get_traced_memory()[0], resident()
            for _ in range(cycles):
                call()
            gc.collect()
            grown, process = tracemalloc.get_traced_memory()[0] - before[0], resident() - before[1]
        finally:
            tracemalloc.stop()
        # 56 bytes are the smallest object; the rest is for caches that still grow
        assert grown < 56 * cycles + (20 << 10), f"{name}: {grown} bytes more after {cycles} cycles"
        assert process < 1024 * cycles + (4 << 20), f"{name}: a process of {process} bytes more"
        return True


TARGETS = {"kills": Kills, "full disk": FullDisk, "interrupts": Interrupts, "forks": Forks} | {
    "threads": Threads, "cycles": Cycles
}  # fmt: skip
