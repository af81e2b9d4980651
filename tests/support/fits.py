"""A small job of many fits, and whether two of its results are equal to the bit."""

import numpy as np

import bptt_fast as bf

RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(24, 7, 2)).astype(np.float32)
Y = X.sum(axis=2, keepdims=True)
FOLDS = np.arange(24) % 4
SWEPT = {"cv": FOLDS, "epochs": 2, "seeds": [0, 5], "keep": True, "verbose": 0}


def network(**words):
    return bf.Network(
        **({"input_size": 2, "hidden_size": 5, "output_size": 1, "readout": "every", "seed": 3} | words)
    )


def without_times(table):
    return {name: values for name, values in table.items() if name != "seconds"}


def same_table(a, b):
    """Compare two tables, but for times, and their networks."""
    assert repr(without_times(a)) == repr(without_times(b))  # NaN equals NaN
    assert len(a.networks) == len(b.networks) == len(a["seed"])
    assert all(np.array_equal(p.params, q.params) for p, q in zip(a.networks, b.networks, strict=True))


def same_restarts(a, b):
    """Compare two results of `restarts`."""
    (best, table), (other, others) = a, b
    same_table(table, others)
    assert best is table.networks[0] and other is others.networks[0] and table.rungs == others.rungs
    for history, record in zip(table.histories, others.histories, strict=True):
        assert without_times(history) == without_times(record)
        assert (history.stopped, history.best_epoch) == (record.stopped, record.best_epoch)
