"""Rules of every kind, in the network, in the core and in the reference; and whether weights obey them."""

import numpy as np

import bptt_fast as bf
from bptt_fast.rules import Constraints

from .training import Training


def several(net, seed=0):
    """A rule for each block, with every kind of them in some block; all numbers are float32's."""
    rng, rules = np.random.default_rng(seed), {}
    for i, name in enumerate(net):
        shape = net[name].shape
        group = (None, ("rows", 0.0625), ("columns", 0.03125))[i % 3] if len(shape) == 2 else None
        high = np.where(rng.random(shape) < 0.6, 0.125, np.inf)
        trainable, mask = rng.random((2, *shape)) < 0.8
        sign = rng.integers(-1, 2, shape if i % 2 else shape[1:] or shape)
        for array, free in ((high, np.inf), (trainable, True), (mask, True), (sign, 0)):
            array.flat[0] = free  # of each block something moves
        rules[name] = bf.Rule(
            trainable=trainable,
            mask=mask,
            sign=sign,
            bounds=(None, high) if i % 2 else (-0.75, high),
            l1=0.125 * (i % 4 == 1),
            l2=0.25 * (i % 4 == 2),
            group=group,
        )
    return rules


def oracle(net):
    """The rules of a network in the words of the reference, from their fields."""
    rules = {}
    for name, rule in net.rules.items():
        shape, weights = net[name].shape, net[name].astype(float)
        low, high = (
            np.broadcast_to(fill if bound is None else bound, shape).astype(float)
            for bound, fill in zip(rule.bounds or (None, None), (-np.inf, np.inf), strict=True)
        )
        sign = np.broadcast_to(0 if rule.sign is None else rule.sign, shape)
        low[sign > 0] = np.maximum(low[sign > 0], 0)
        high[sign < 0] = np.minimum(high[sign < 0], 0)
        mask = np.broadcast_to(True if rule.mask is None else rule.mask, shape)
        frozen = ~np.broadcast_to(rule.trainable, shape)
        low, high = (np.where(frozen, weights, np.where(mask, b, 0)) for b in (low, high))
        group = dict([rule.group]) if rule.group else {}
        rules[name] = dict(low=low, high=high, l1=rule.l1, l2=rule.l2, rows=0, columns=0) | group
    return rules


class Ruled(Training):
    """Training by C and by the reference, from the same weights, which obey the same rules."""

    def __init__(self, dtype="float64", isa=None, threads=1, make=several, **case):
        super().__init__(dtype, isa, threads, **case)
        net = self.problem.network()
        net.rules = make(net)
        self.problem.params, self.oracle.rules = net.state_dict(), oracle(net)
        self.run = self.problem.run(dtype, isa, threads)
        self.rules = Constraints(net.rules, net.blocks, dtype).core

    def plan(self, **sizes):
        plan = super().plan(rules=True, **sizes)
        plan.set_rules(*self.rules)
        return plan


def obeys(net, start, rules=None):
    """Masks, signs, bounds, and the bits of frozen weights."""
    for name, rule in (rules or net.rules).items():
        w, frozen = net[name], ~np.broadcast_to(rule.trainable, net[name].shape)
        assert w[frozen].tobytes() == start[name][frozen].tobytes(), f"{name}: frozen"
        if rule.mask is not None:
            assert not w[~rule.mask].any() and not np.signbit(w[~rule.mask]).any(), f"{name}: mask"
        assert (w * (0 if rule.sign is None else rule.sign) >= 0).all(), f"{name}: sign"
        low, high = rule.bounds or (None, None)
        inside = np.broadcast_to(True if rule.mask is None else rule.mask, w.shape)
        wide = w.astype(float)
        assert low is None or (wide >= low)[inside].all(), f"{name}: low"
        assert high is None or (wide <= high)[inside].all(), f"{name}: high"
