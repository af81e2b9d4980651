"""The rules that end a fit: what they take, what they refuse, and how they are written."""

import numpy as np
import pytest

import bptt_fast as bf

WRONG = [
    (dict(patience=0), "patience: .* at least 1, got 0"),
    (dict(patience=1.5), "patience: .*1.5"),
    (dict(min_delta=-1), "min_delta: .* at least 0, got -1"),
    (dict(restore_best="yes"), "restore_best: expected True or False"),
    (dict(target_loss=np.nan), "target_loss: .*nan"),
    (dict(max_seconds=0), "max_seconds: .* above 0, got 0"),
]


@pytest.mark.parametrize("arguments, text", WRONG)
def test_wrong_rules(arguments, text):
    with pytest.raises(bf.ConfigError, match=text):
        bf.Stopping(**arguments)


def test_numpy_scalars_become_numbers():
    rules = bf.Stopping(patience=np.int32(3), target_loss=np.float32(0.5), restore_best=np.bool_(False))
    assert rules == bf.Stopping(patience=3, target_loss=0.5, restore_best=False)
    assert repr(rules) == "Stopping(patience=3, restore_best=False, target_loss=0.5)"


def test_an_integer_is_the_patience():
    x = np.random.default_rng(0).normal(size=(24, 8, 2))
    y = x[:, -1, :1]
    nets = [bf.Network(2, 6, 1, seed=0) for _ in range(2)]
    records = [
        net.fit(x, y, epochs=40, optimizer=bf.Adam(0.3), patience=patience, verbose=0)
        for net, patience in zip(nets, (2, bf.Stopping(patience=2)), strict=True)
    ]
    assert records[0]["loss"] == records[1]["loss"] and records[0].stopped == "patience"
    np.testing.assert_array_equal(nets[0].params, nets[1].params)


def test_no_rule():
    assert repr(bf.Stopping()) == "Stopping()"
