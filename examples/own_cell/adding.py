"""
A cell of your own on the adding problem
========================================

The subtractive LSTM (Costa et al. 2017) is not in the package.  Its header beside this file is compiled,
its gradient checked, and the cell trained like any other: of 30 steps with a random number and a mark each,
the network is to add the two numbers that are marked.
"""

from pathlib import Path

import numpy as np

import bptt_fast as bf

cell = bf.build_cell(Path(__file__).with_name("sublstm.h"))

STEPS = 30


def adding(random, n):
    """(n, STEPS, 2) numbers and marks, and (n, 1) sums; the first mark is in the first half."""
    x = np.zeros((n, STEPS, 2), np.float32)
    x[:, :, 0] = random.random((n, STEPS))
    rows, half = np.arange(n), STEPS // 2
    x[rows, random.integers(half, size=n), 1] = 1
    x[rows, half + random.integers(half, size=n), 1] = 1
    return x, (x[:, :, 0] * x[:, :, 1]).sum(axis=1, keepdims=True)


random = np.random.default_rng(0)
(x, y), (x_test, y_test) = adding(random, 4000), adding(random, 1000)
print(f"variance of the sums {y_test.var():.3f}")
for name in ("lstm", cell):
    net = bf.Network(2, 32, 1, cell=name, forget_bias=2.0, seed=0)
    net.fit(x, y, epochs=40, batch_size=50, optimizer=bf.Adam(0.005, clip_norm=1.0), verbose=0)
    print(f"{name}: mean squared error {net.evaluate(x_test, y_test):.4f}")
