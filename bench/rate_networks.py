"""A rate network as neuroscience trains it, compared with the same update in PyTorch, eager and compiled.

100 units (relu), equation="potential", dt/tau = 0.2, recurrent and input noise, 4 inputs, 3 outputs at every
step, float32; a batch of 100 trials of T = 200 steps, of which a mask makes the last half count.  A training
step is the weighted mean squared error and the gradients of all weights.  "eager": PyTorch's loop over time;
"compiled": its body by torch.compile.  Without noise all sides must give the same loss and gradients.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from . import common

TRIALS, STEPS, INPUTS, UNITS, OUTPUTS = 100, 200, 4, 100, 3
ALPHA, SIGMA, INPUT_SIGMA = 0.2, 0.15, 0.05


def network(recurrent_noise: float, input_noise: float) -> Any:
    import bptt_fast as bf

    return bf.Network(
        INPUTS, UNITS, OUTPUTS, cell="ctrnn", equation="potential", nonlinearity="relu", tau=100, dt=20,
        recurrent_noise=recurrent_noise, input_noise=input_noise, readout="every", seed=0,
    )  # fmt: skip


def transcription(net: Any, x: Any, y: Any, weight: Any, noisy: bool, compiled: bool) -> Callable[[], Any]:
    """PyTorch's step, which returns the loss and the gradients in the order of net's blocks."""
    import torch

    p = {name: torch.tensor(value).requires_grad_() for name, value in net.state_dict().items()}
    inputs, targets, weights = (torch.tensor(a) for a in (x, y, weight))
    amplitude = math.sqrt(2 * ALPHA) * SIGMA

    def step(v: Any, drive: Any, noise: Any) -> tuple[Any, Any]:
        v = (1 - ALPHA) * v + ALPHA * (torch.relu(v) @ p["weight_hh_l0"].T + drive) + noise
        return v, torch.relu(v)

    if compiled:
        step = torch.compile(step)

    def train() -> Any:
        seen = inputs + INPUT_SIGMA * torch.randn_like(inputs) if noisy else inputs
        drives = seen @ p["weight_ih_l0"].T + (p["bias_ih_l0"] + p["bias_hh_l0"])
        noise = amplitude * torch.randn(STEPS, TRIALS, UNITS) if noisy else torch.zeros(STEPS, 1, 1)
        v, rates = torch.zeros(TRIALS, UNITS), []
        for drive, xi in zip(drives.unbind(1), noise.unbind(0), strict=True):
            v, rate = step(v, drive, xi)
            rates.append(rate)
        out = torch.stack(rates, 1) @ p["head.0.weight"].T + p["head.0.bias"]
        loss = (weights * ((out - targets) ** 2).mean(2)).sum() / weights.sum()
        return loss, torch.autograd.grad(loss, list(p.values()))

    return train


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

    def ours(net: Any) -> Callable[[], Any]:
        return lambda: net.loss_and_grad(x, y, sample_weight=weight, threads=args.threads)

    loss, grad = ours(plain)()
    for compiled in (False, True):
        theirs, grads = transcription(plain, x, y, weight, False, compiled)()
        same = np.isclose(loss, theirs.item(), rtol=1e-4)
        for a, b in zip((grad[name] for name in plain), grads, strict=True):
            same &= np.allclose(a, b.numpy(), rtol=1e-3, atol=1e-3 * abs(b.numpy()).max())
        if not same:
            sys.exit("bench.rate_networks: the sides differ")
    sides = {"bptt_fast": ours(noisy), "without noise": ours(plain)}
    for name, compiled in (("eager", False), ("compiled", True)):
        sides[name] = transcription(noisy, x, y, weight, True, compiled)
    timing = {"rounds": 3, "seconds": 0.1} if args.quick else {"rounds": 7, "seconds": 0.5}
    times = common.interleave(sides, **timing)
    print("milliseconds of a training step, with noise")
    for name, seconds in times.items():
        print(f"{name:<14} {1e3 * seconds:8.2f}   {seconds / times['bptt_fast']:5.2f}")
    common.finish(args, {"milliseconds": {name: 1e3 * seconds for name, seconds in times.items()}})
    return 0


if __name__ == "__main__":
    sys.exit(main())
