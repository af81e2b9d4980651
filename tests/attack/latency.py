"""Calls of awkward shapes, and how long after Ctrl-C each ends, in CPU time of the whole process.

python -m tests.attack.latency [--moments 40] [names ...] prints the median, the 99th percentile and the
largest time of each call, in milliseconds.
"""

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time

import numpy as np

import bptt_fast as bf

LONGEST = 1.0  # seconds of a call, of which the moments are taken
# waits until a process has had so many seconds of CPU, and sends it Ctrl-C
SENDER = """
import os, sys, time
for line in sys.stdin:
    pid, moment = line.split()
    clock, moment = ~int(pid) << 3 | 2, float(moment)
    while time.clock_gettime(clock) < moment:
        time.sleep(0.0005)
    print(time.clock_gettime(clock), flush=True)
    os.kill(int(pid), 2)
"""


class Interrupter:
    """Ctrl-C for this process at chosen moments of its CPU time."""

    def __init__(self):
        self.sender = subprocess.Popen(
            [sys.executable, "-S", "-c", SENDER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.armed = self.pressed = False

    def _press(self, *_):
        self.pressed = True
        if self.armed:
            raise KeyboardInterrupt

    def run(self, call, delay):
        """Seconds of CPU from Ctrl-C, `delay` after the begin, to KeyboardInterrupt; None: over before."""
        signal.signal(signal.SIGINT, self._press)
        self.sender.stdin.write(f"{os.getpid()} {time.process_time() + delay}\n")
        self.sender.stdin.flush()
        heard, self.pressed = None, False
        try:
            self.armed = True
            call()
            self.armed = False
        except KeyboardInterrupt:
            heard = time.process_time()
        self.armed = False
        while not self.pressed:  # works on, as the sender waits for that
            pass
        sent = float(self.sender.stdout.readline())
        while threading.active_count() > 1:  # what cannot be interrupted ends in a thread
            time.sleep(0.01)
        return None if heard is None else heard - sent


def ones(*shape):
    return np.ones(shape, np.float32)


def normal(*shape):
    return np.random.default_rng(0).normal(size=shape)


def fit(net, x, y, **options):
    return lambda: net.fit(x, y, **(dict(epochs=10**6, verbose=0) | options))


def every(size=64, width=4, **options):
    return bf.Network(width, size, width, **(dict(readout="every", seed=0) | options))


def one_sequence(**options):
    x = ones(1, 100_000, 4)
    return fit(every(cell="gru"), x, x, **options)


def one_unit(steps=10**6, **options):
    x = ones(1, steps, 1)
    return fit(every(1, 1), x, x, **options)


def sliding(size, x, k):
    width = x.shape[1]
    return fit(bf.Network(width, size, width, seed=0), x, x, bptt=bf.SlidingBPTT(k))


def projection():
    x = ones(64, 300, 4)
    return fit(every(1024, cell="lstm", proj_size=32), x, x, batch_size=64)


def tiny_sequences(batch_size):
    x = ones(200_000, 1, 1)
    return fit(bf.Network(1, 1, 1, seed=0), x, x[:, 0], batch_size=batch_size)


def short_list():
    rng = random.Random(0)
    x = [ones(rng.choice((1, 2, 3)), 2) for _ in range(300_000)]
    net, y = bf.Network(2, 4, 2, seed=0), ones(len(x), 2)
    return lambda: net.loss_and_grad(x, y)


def classes(batch):
    net = bf.Network(4, 128, 20_000, seed=0)
    x, y = ones(batch, 3, 4), np.zeros(batch, int)
    return fit(net, x, y, loss="cross_entropy", batch_size=batch)


def embedding(gradient=True):
    net = bf.Network(1, 32, 1, categories={0: (500_000, 64)}, seed=0)
    x = np.random.default_rng(0).integers(500_000, size=(64, 500, 1)).astype(np.float32)
    return fit(net, x, ones(64, 1)) if gradient else lambda: net.predict(x)


def wide_inputs():
    x = ones(256, 30, 5000)
    return fit(bf.Network(5000, 256, 1, cell="lstm", seed=0), x, ones(256, 1), batch_size=256)


def many_parameters(n=4, **options):
    x = ones(n, 2, 2000)
    return fit(bf.Network(2000, 2000, 10, cell="lstm", seed=0), x, ones(n, 10), batch_size=4, **options)


def many_parameters_once(gradient):
    x, net = ones(4, 2, 2000), bf.Network(2000, 2000, 10, cell="lstm", seed=0)
    return lambda: net.loss_and_grad(x, ones(4, 10)) if gradient else net.predict(x)


def large_batch():
    x = ones(4096, 10, 4)
    return fit(bf.Network(4, 512, 4, cell="lstm", seed=0), x, x[:, 0], batch_size=4096)


def wide_f():
    x = ones(1, 2000, 4)
    return fit(every(8, cell="mlp", f=(2048, 2048)), x, x)


def wide_g(evaluate):
    net, x = every(8, head=(2048, 2048)), ones(8, 2000, 4)
    return lambda: net.evaluate(x, x) if evaluate else net.predict(x)


def windows():
    x = ones(1600, 1000)
    net = bf.Network(1000, 256, 1, cell="lstm", seed=0)
    return fit(net, bf.Sequences.windows(x, 600), x[:, :1], batch_size=1000, shuffle=False)


def marquardt(size, x, cell="elman", **options):
    net = bf.Network(x.shape[2], size, 1, cell=cell, **(dict(seed=0) | options))
    y = normal(len(x), *([x.shape[1]] if net.readout == "every" else []), 1)
    return fit(net, x, y, optimizer="levenberg_marquardt")


def second_order(optimizer, **options):
    x = normal(16, 50, 64)
    net = bf.Network(64, 600, 8, seed=0)
    y = np.zeros(16, int) if options.get("loss") == "cross_entropy" else normal(16, 8)
    return fit(net, x, y, optimizer=optimizer, **options)


def many_outputs():
    x = normal(8, 20_000, 2)
    net = bf.Network(2, 8, 20, readout="every", seed=0)
    return fit(net, x, np.zeros((8, 20_000), int), loss="cross_entropy", optimizer="hessian_free")


def last_batch(evaluate):
    net, x = every(48, cell="gru"), [*[ones(5, 4)] * 256, ones(400_000, 4)]
    return lambda: net.evaluate(x, x) if evaluate else net.predict(x)


def forecast(size, width, steps, n=1):
    net, x = every(size, width), ones(n, 5, width)
    return lambda: net.forecast(x, steps)


def conversion(**options):
    """Numbers of another dtype and order, scaled."""
    net, x = bf.Network(8, 2, 1, seed=0), np.asfortranarray(np.ones((1, 5_000_000, 8)))
    net.scaling = bf.Scaling([0.5] * 8, [2.0] * 8)
    return lambda: net.predict(x)


def standard():
    x = normal(20, 20_000, 100)
    return lambda: bf.Network(100, 2, 1, seed=0).fit(x, x[:, 0, :1], scaling="standard", epochs=1, verbose=0)


def backup():
    x, folder = ones(50, 100_000, 8), tempfile.mkdtemp(prefix="attack")
    hook = bf.callbacks.BackupAndRestore(folder)
    return lambda: bf.Network(8, 2, 8, seed=0).fit(x, x[:, 0], epochs=1, callbacks=[hook], verbose=0)


def restarts(**options):
    net, x = bf.Network(4, 24, 4, cell="gru", seed=0), normal(200, 30, 4)
    return lambda: bf.restarts(net, x, x[:, 0], 8, epochs=10**6, verbose=0, **options)


def learner(k):
    net = bf.Network(4, 128, 4, num_layers=2, seed=0)
    learner, row = net.learn_online(bf.SlidingBPTT(k)), ones(4)
    for _ in range(k):
        learner.observe(row, row)

    def call():
        while True:
            learner.observe(row, row)

    return call


def stream(batch, size):
    net = bf.Network(4, size, 4, cell="gru", seed=0)
    stream, x = net.stream(batch), ones(batch, 4)

    def call():
        while True:
            stream.step(x)

    return call


def large_files():
    folder, net = tempfile.mkdtemp(prefix="attack"), bf.Network(2000, 4000, 10, seed=0)

    def call():
        for _ in range(10):
            net.save(os.path.join(folder, "model"))
            bf.load(os.path.join(folder, "model"))

    return call


def diagnostic(name, size, shape, *targets):
    net, x = bf.Network(2, size, 1, seed=0), normal(*shape, 2)
    return lambda: getattr(bf.diagnostics, name)(net, x, *targets)


def classifier():
    from bptt_fast.estimators import RNNClassifier

    x = [normal(5 + i % 7, 2) for i in range(20_000)]
    y = ["ab"[i % 2] for i in range(len(x))]
    return lambda: RNNClassifier(hidden_size=4, max_iter=10**4).fit(x, y)


def forecaster():
    from bptt_fast.estimators import RNNForecaster

    return lambda: RNNForecaster(hidden_size=4, horizon=3, max_iter=10**4).fit([normal(30_000, 2)])


CALLS = {
    "one sequence": one_sequence,
    "checkpointed": lambda: one_sequence(bptt=bf.CheckpointedBPTT()),
    "truncated": lambda: one_sequence(bptt=bf.TruncatedBPTT(500, 20_000)),
    "closed loop": lambda: one_sequence(teacher_forcing=0.5),
    "sliding": lambda: sliding(64, ones(9000, 4), 8000),
    "one unit": one_unit,
    "one unit, closed loop": lambda: one_unit(teacher_forcing=0.5),
    "one unit, truncated": lambda: one_unit(bptt=bf.TruncatedBPTT(1, 2)),
    "one unit, sliding": lambda: sliding(1, ones(10**6, 1), 1),
    "tiny sequences": lambda: tiny_sequences(1),
    "tiny sequences, one batch": lambda: tiny_sequences(10**6),
    "short list": short_list,
    "20,000 classes": lambda: classes(64),
    "20,000 classes, large batch": lambda: classes(4096),
    "500,000 embeddings": embedding,
    "predict, 500,000 embeddings": lambda: embedding(False),
    "wide inputs": wide_inputs,
    "many parameters": many_parameters,
    "many parameters, batches": lambda: many_parameters(32, patience=10**6),
    "predict, many parameters": lambda: many_parameters_once(False),
    "gradient, many parameters": lambda: many_parameters_once(True),
    "large batch": large_batch,
    "wide f": wide_f,
    "predict, wide g": lambda: wide_g(False),
    "evaluate, wide g": lambda: wide_g(True),
    "windows": windows,
    "projection": projection,
    "Levenberg-Marquardt, few data": lambda: marquardt(64, normal(4500, 4, 2)),
    "Levenberg-Marquardt, much data": lambda: marquardt(60, normal(10_000, 3, 2)),
    "Levenberg-Marquardt, long": lambda: marquardt(8, normal(16, 60_000, 2), "lstm"),
    "Levenberg-Marquardt, every step": lambda: marquardt(8, normal(1, 60_000, 2), readout="every"),
    "L-BFGS": lambda: second_order(bf.LBFGS(memory=100)),
    "Hessian-free": lambda: second_order(bf.HessianFree(structural_damping=0.1)),
    "Hessian-free, many outputs": many_outputs,
    "predict, last batch": lambda: last_batch(False),
    "evaluate, last batch": lambda: last_batch(True),
    "forecast": lambda: forecast(256, 4, 200_000),
    "forecast, one unit": lambda: forecast(1, 1, 5_000_000),
    "forecast, many": lambda: forecast(128, 4, 10**4, 5000),
    "conversion": conversion,
    "standard scaling": standard,
    "backup": backup,
    "restarts": restarts,
    "restarts, one thread": lambda: restarts(threads=1),
    "learner": lambda: learner(10),
    "learner, long window": lambda: learner(20_000),
    "stream": lambda: stream(1, 64),
    "stream, large batch": lambda: stream(20_000, 256),
    "save and load": large_files,
    "orthogonal": lambda: lambda: bf.Network(4, 1000, 4, init="orthogonal", seed=0),
    "spectral radius": lambda: lambda: bf.Network(4, 600, 4, spectral_radius=0.9, seed=0),
    "gradient flow": lambda: diagnostic("gradient_flow", 64, (200, 300), normal(200, 1)),
    "dynamics": lambda: diagnostic("dynamics", 150, (200,)),
    "saturation": lambda: diagnostic("saturation", 100, (2000, 200)),
    "conditioning": lambda: diagnostic("conditioning", 38, (3000, 5)),
    "error surface": lambda: diagnostic("error_surface", 16, (500, 50), normal(500, 1)),
    "classifier": classifier,
    "forecaster": forecaster,
}  # fmt: skip


def duration(interrupter, call):
    """Seconds of CPU of a call, at most LONGEST."""
    begin = time.process_time()
    interrupter.run(call, LONGEST)
    return min(time.process_time() - begin, LONGEST)


def measured(name, moments, interrupter):
    """The times of one call that was interrupted at so many random moments, sorted."""
    call, rng = CALLS[name](), random.Random(name)
    interrupter.run(call, 0.3)  # imports
    length, late = duration(interrupter, call), []
    while len(late) < moments:
        took = interrupter.run(call, length * rng.random())
        if took is not None:
            late.append(1000 * took)
    return sorted(late)


def main():
    parser = argparse.ArgumentParser(prog="python -m tests.attack.latency")
    parser.add_argument("names", nargs="*", help=f"calls, default all: {', '.join(CALLS)}")
    parser.add_argument("--moments", type=int, default=40, help="of each call")
    args = parser.parse_args()
    interrupter = Interrupter()
    print(f"{'call':34} moments    p50    p99    max  ms of CPU")
    for name in args.names or CALLS:
        late = measured(name, args.moments, interrupter)
        p50, p99 = np.percentile(late, (50, 99))
        print(f"{name:34} {len(late):7} {p50:6.1f} {p99:6.1f} {late[-1]:6.1f}", flush=True)


if __name__ == "__main__":
    main()
