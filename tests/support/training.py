"""Training by C beside training by the reference, from the same weights."""

import numpy as np

from . import cases
from . import reference as ref

SGD = dict(optimizer="sgd", learning_rate=0.02)
OPTIMIZERS = {
    "sgd": SGD,
    "momentum": SGD | dict(momentum=0.8),
    "nesterov": SGD | dict(momentum=0.8, nesterov=True),
    "decay": SGD | dict(weight_decay=0.01),
    "clip": SGD | dict(clip_norm=0.3),
    "adam": dict(optimizer="adam", learning_rate=0.01),
    "adam-all": dict(
        optimizer="adam",
        learning_rate=0.01,
        beta1=0.8,
        beta2=0.95,
        eps=1e-6,
        weight_decay=0.01,
        clip_norm=0.3,
    ),
}


def hyper(options):
    """A plan's hyper dict with every key."""
    full = vars(ref.Optimizer(**options))
    return {k: v for k, v in full.items() if k not in ("m", "v", "rules")}


class Training:
    """A problem with a target row a step, trained by the oracle and by C from the same weights."""

    def __init__(self, dtype="float64", isa=None, threads=1, optimizer=SGD, **case):
        self.problem = cases.Problem(**dict(every=True, gain=0.5) | case)
        self.run = self.problem.run(dtype, isa, threads)
        self.hyper, self.oracle = hyper(optimizer), ref.Optimizer(**optimizer)
        core = cases.core()
        vectors = core.state_vectors(self.hyper["optimizer"])
        self.slots = np.zeros(vectors * core.size(self.problem.desc), dtype)

    def plan(self, **sizes):
        self.sizes = sizes
        p, run = self.problem, self.run
        return cases.core().Plan(run.desc, loss=p.loss, isa=run.plan.isa, threads=run.plan.threads, **sizes)

    def slide(self, k, lead):
        """-> (losses, weights) of C and of the oracle."""
        p, run = self.problem, self.run
        patterns = sum(max(0, n - k - lead + 1) for n in p.lengths)
        losses = np.full(patterns, np.nan)
        status, done = self.plan(batch=1, steps=k).slide(
            run.params, self.slots, self.hyper, run.data, run.order, k, lead, losses
        )
        assert (status, done) == ("OK", patterns)
        weights = dict(p.params)
        expected = ref.slide(
            p.desc, weights, self.oracle, zip(p.x, p.y, p.state, strict=True), k, lead, p.loss
        )
        return (losses, run.named(run.params)), (expected, weights)

    def epoch(self, batch):
        p, run = self.problem, self.run
        n = len(p.lengths)
        losses, sizes = np.full((2, -(-n // batch)), np.nan)
        plan = self.plan(batch=batch, steps=max(p.lengths), readout_every_step=True)
        order = np.random.default_rng(0).permutation(n)
        status, done = plan.epoch(run.params, self.slots, self.hyper, run.data, order, losses, sizes)
        assert (status, done) == ("OK", losses.size) and sizes.sum() == sum(p.lengths)
        weights = dict(p.params)
        batches = [
            [[a[i] for i in order[s : s + batch]] for a in (p.x, p.y, p.state)] for s in range(0, n, batch)
        ]
        expected = ref.train_epoch(p.desc, weights, self.oracle, batches, loss=p.loss, every=True)
        return (losses, run.named(run.params)), (expected, weights)


def check(got, expected, tolerance, start):
    (losses, weights), (expected_losses, expected_weights) = got, expected
    np.testing.assert_allclose(losses, expected_losses, rtol=tolerance, atol=tolerance)
    for name, w in expected_weights.items():
        assert abs(w - start[name]).max() > 1e-5, f"{name} did not move: the test proves nothing"
        assert abs(weights[name] - w).max() <= tolerance * abs(w).max(), name
