"""A rate network as neuroscience trains it, compared with the same update in PyTorch, eager and compiled.

100 units (relu), equation="potential", dt/tau = 0.2, recurrent and input noise, 4 inputs, 3 outputs at every
step, float32; a batch of 100 trials of T = 200 steps, of which a mask makes the last half count.  A training
step is the weighted mean squared error and the gradients of all weights.  "eager": PyTorch's loop over time;
"compiled": its body by torch.compile.  Without noise all sides must give the same loss and gradients.

Then a whole training: which of three noisy inputs is the largest?  2,000 trials, Adam, epochs of 20 updates,
until 90 % of 500 fresh trials are correct after an epoch; the time includes these tests, not compilation.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from . import common

TRIALS, STEPS, INPUTS, UNITS, OUTPUTS = 100, 200, 4, 100, 3
ALPHA, SIGMA, INPUT_SIGMA = 0.2, 0.15, 0.05
RATE, CRITERION, MOST_EPOCHS = 1e-3, 0.9, 50


def network(recurrent_noise: float, input_noise: float) -> Any:
    import bptt_fast as bf

    return bf.Network(
        INPUTS, UNITS, OUTPUTS, cell="ctrnn", equation="potential", nonlinearity="relu", tau=100, dt=20,
        recurrent_noise=recurrent_noise, input_noise=input_noise, readout="every", seed=0,
    )  # fmt: skip


class Transcription:
    """The same network in PyTorch, with the parameters of `net` in the order of its blocks."""

    def __init__(self, net: Any, compiled: bool) -> None:
        import torch

        self.p = {name: torch.tensor(value).requires_grad_() for name, value in net.state_dict().items()}
        self.step = torch.compile(self.one_step) if compiled else self.one_step

    def one_step(self, v: Any, drive: Any, noise: Any) -> tuple[Any, Any]:
        import torch

        recurrent = torch.relu(v) @ self.p["weight_hh_l0"].T
        v = (1 - ALPHA) * v + ALPHA * (recurrent + drive) + noise
        return v, torch.relu(v)

    def outputs(self, inputs: Any, noisy: bool) -> Any:
        import torch

        p, rows = self.p, len(inputs)
        seen = inputs + INPUT_SIGMA * torch.randn_like(inputs) if noisy else inputs
        drives = seen @ p["weight_ih_l0"].T + (p["bias_ih_l0"] + p["bias_hh_l0"])
        xi = torch.randn(STEPS, rows, UNITS) if noisy else torch.zeros(STEPS, 1, 1)
        v, rates = torch.zeros(rows, UNITS), []
        for drive, noise in zip(drives.unbind(1), math.sqrt(2 * ALPHA) * SIGMA * xi, strict=True):
            v, rate = self.step(v, drive, noise)
            rates.append(rate)
        return torch.stack(rates, 1) @ p["head.0.weight"].T + p["head.0.bias"]

    def loss(self, inputs: Any, targets: Any, weights: Any, noisy: bool) -> Any:
        error = ((self.outputs(inputs, noisy) - targets) ** 2).mean(2)
        return (weights * error).sum() / weights.sum()

    def loss_and_grads(self, *data: Any, noisy: bool) -> Any:
        import torch

        loss = self.loss(*data, noisy)
        return loss, torch.autograd.grad(loss, list(self.p.values()))


def decisions(random: Any, trials: int) -> tuple[Any, Any, Any]:
    """Inputs, targets and weights: three inputs with noise and a cue; the largest one has the target 1."""
    means = random.uniform(0, 1, (trials, OUTPUTS))
    x = random.normal(0, 0.3, (trials, STEPS, INPUTS)).astype(np.float32)
    x[..., :OUTPUTS] += means[:, None]
    x[:, STEPS // 2 :, OUTPUTS] += 1
    y = np.repeat(np.eye(OUTPUTS, dtype=np.float32)[means.argmax(axis=1)][:, None], STEPS, axis=1)
    weight = np.zeros((trials, STEPS), np.float32)
    weight[:, STEPS // 2 :] = 1
    return x, y, weight


def correct(outputs: Any, y: Any) -> float:
    last = outputs[:, STEPS // 2 :].mean(axis=1)
    return float((last.argmax(axis=1) == y[:, -1].argmax(axis=1)).mean())


def train_ours(threads: int) -> tuple[int, float]:
    """Epochs and seconds to the criterion."""
    import bptt_fast as bf

    random, net = np.random.default_rng(1), network(SIGMA, INPUT_SIGMA)
    x, y, weight = decisions(random, 20 * TRIALS)

    class Criterion(bf.callbacks.Callback):
        def on_epoch_end(self, epoch: int, logs: Any = None) -> bool:
            fresh_x, fresh_y, _ = decisions(random, 500)
            return correct(net.predict(fresh_x, threads=threads), fresh_y) >= CRITERION

    start = time.perf_counter()
    history = net.fit(
        x, y, sample_weight=weight, epochs=MOST_EPOCHS, batch_size=TRIALS, optimizer=bf.Adam(RATE),
        callbacks=Criterion(), threads=threads, verbose=0,
    )  # fmt: skip
    return len(history["epoch"]), time.perf_counter() - start


def train_theirs(compiled: bool) -> tuple[int, float]:
    """The same in PyTorch."""
    import torch

    random, model = np.random.default_rng(1), Transcription(network(SIGMA, INPUT_SIGMA), compiled)
    data = [torch.tensor(a) for a in decisions(random, 20 * TRIALS)]
    adam = torch.optim.Adam(model.p.values(), RATE)
    model.loss_and_grads(*(a[:TRIALS] for a in data), noisy=True)  # compiles, if at all
    with torch.no_grad():
        model.outputs(data[0][:500], False)
    start, epochs, score = time.perf_counter(), 0, 0.0
    while score < CRITERION and epochs < MOST_EPOCHS:
        epochs += 1
        for rows in torch.randperm(20 * TRIALS).split(TRIALS):
            adam.zero_grad()
            model.loss(*(a[rows] for a in data), True).backward()
            adam.step()
        fresh_x, fresh_y, _ = decisions(random, 500)
        with torch.no_grad():
            score = correct(model.outputs(torch.tensor(fresh_x), False).numpy(), fresh_y)
    return epochs, time.perf_counter() - start


def main() -> int:
    args = common.start(__doc__)
    import torch

    torch.set_num_threads(args.threads)
    common.print_environment()
    random = np.random.default_rng(0)
    x = random.normal(size=(TRIALS, STEPS, INPUTS)).astype(np.float32)
    y = random.normal(size=(TRIALS, STEPS, OUTPUTS)).astype(np.float32)
    weight = np.zeros((TRIALS, STEPS), np.float32)
    weight[:, STEPS // 2 :] = 1
    plain, noisy = network(0, 0), network(SIGMA, INPUT_SIGMA)
    tensors = [torch.tensor(a) for a in (x, y, weight)]

    def ours(net: Any) -> Callable[[], Any]:
        return lambda: net.loss_and_grad(x, y, sample_weight=weight, threads=args.threads)

    loss, grad = ours(plain)()
    for compiled in (False, True):
        theirs, grads = Transcription(plain, compiled).loss_and_grads(*tensors, noisy=False)
        same = np.isclose(loss, theirs.item(), rtol=1e-4)
        for a, b in zip((grad[name] for name in plain), grads, strict=True):
            same &= np.allclose(a, b.numpy(), rtol=1e-3, atol=1e-3 * abs(b.numpy()).max())
        if not same:
            sys.exit("bench.rate_networks: the sides differ")
    sides = {"bptt_fast": ours(noisy), "without noise": ours(plain)}
    for name, compiled in (("eager", False), ("compiled", True)):
        model = Transcription(noisy, compiled)
        sides[name] = lambda model=model: model.loss_and_grads(*tensors, noisy=True)
    timing = {"rounds": 3, "seconds": 0.1} if args.quick else {"rounds": 7, "seconds": 0.5}
    times = common.interleave(sides, **timing)
    print("milliseconds of a training step, with noise")
    for name, seconds in times.items():
        print(f"{name:<14} {1e3 * seconds:8.2f}   {seconds / times['bptt_fast']:5.2f}")
    trainings: dict[str, Any] = {}
    if not args.quick:
        print("seconds of a training to 90 % correct, and its epochs")
        trainings["bptt_fast"] = train_ours(args.threads)
        trainings |= {name: train_theirs(name == "compiled") for name in ("eager", "compiled")}
        for name, (epochs, seconds) in trainings.items():
            print(f"{name:<14} {seconds:8.2f}   {epochs:3d}   {seconds / trainings['bptt_fast'][1]:5.2f}")
    steps = {name: 1e3 * seconds for name, seconds in times.items()}
    common.finish(args, {"milliseconds": steps, "trainings": trainings})
    return 0


if __name__ == "__main__":
    sys.exit(main())
