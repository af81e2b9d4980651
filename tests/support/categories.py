"""Networks with integer inputs: cells, inputs with their one-hot vectors, and ways to train."""

from __future__ import annotations

import numpy as np
import pytest

import bptt_fast as bf

RANDOM = np.random.default_rng(0)
CELLS = {
    "elman": {},
    "mlp": {"cell": "mlp", "f": (6,)},
    "gru": {"cell": "gru"},
    "gru-before": {"cell": "gru", "reset": "before"},
    "lstm": {"cell": "lstm", "num_layers": 2},
    "both directions": {"cell": "lstm", "bidirectional": True, "hidden_size": 20},
    "skip": {"skip": True, "head": (6,)},
    "skip, both directions": {"cell": "gru", "skip": True, "bidirectional": True},
}


def start_again():
    """The first random numbers again, so that a test's do not depend on those before it."""
    RANDOM.bit_generator.state = np.random.default_rng(0).bit_generator.state


def inputs(numbers=0, sizes=(5,), n=6, steps=8):
    columns = [RANDOM.integers(0, size, size=(n, steps, 1)) for size in sizes]
    return np.concatenate([RANDOM.normal(size=(n, steps, numbers)), *columns], axis=2)


def encoded(x, numbers=0, sizes=(5,)):
    parts = [np.eye(size)[x[..., numbers + i].astype(int)] for i, size in enumerate(sizes)]
    return np.concatenate([x[..., :numbers], *parts], axis=-1)


def same(a, b, tolerance=1e-11):
    assert a == pytest.approx(b, rel=tolerance, abs=tolerance)


WAYS = {
    "full": {},
    "groups": {"sample_weight": [1, 0, 2, 1, 1, 0.5]},
    "truncated": {"bptt": bf.TruncatedBPTT(2, 4)},
    "stateful": {"bptt": bf.TruncatedBPTT(2), "stateful": True},
    "checkpointed": {"bptt": bf.CheckpointedBPTT(3)},
    "clipped": {"optimizer": bf.Adam(0.01, clip_norm=0.1)},
    "levenberg": {"optimizer": bf.LevenbergMarquardt()},
    "lbfgs": {"optimizer": bf.LBFGS()},
    "hessian free": {"optimizer": bf.HessianFree()},
    "scaled": {"scaling": "standard"},
}
