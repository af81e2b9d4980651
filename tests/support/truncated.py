"""BPTT(k2; k1) in the reference and in the network."""

import numpy as np
import pytest

import bptt_fast as bf

from . import cases, gradcheck
from . import reference as ref

STEPS = 20


class Truncated:
    """A problem and what BPTT(k2; k1) makes of it: in the oracle, as a plain loss, and in the network."""

    def __init__(self, k1, k2, **case):
        self.k1, self.k2 = k1, k2
        self.problem = p = cases.Problem(**dict(lengths=(STEPS,), every=True, hidden_size=4) | case)
        self.line = f"{p.line} k1={k1} k2={k2}"
        self.options = dict(k1=k1, k2=k2, loss=p.loss, every=p.every)
        self.unfolding = lambda: bf.TruncatedBPTT(k1, k2)

    def edges(self):
        """The states at the steps where errors end, {step: a state each sequence}; None: x0."""
        p, found = self.problem, {0: None}
        for edge, _, _ in ref.passes(max(p.lengths), self.k1, self.k2):
            if edge:
                runs = zip([x[:edge] for x in p.x], p.state, strict=True)
                found[edge] = [
                    ref.layers_forward(p.desc, p.params, x, s, ref.no_masks(p.desc, len(x)))[1]
                    for x, s in runs
                ]
        return found

    def loss(self, edges):
        """The loss of which the truncated gradient is the slope: `edges` are constants."""
        p, total = self.problem, 0.0
        weights = p.weight or [np.ones(len(y)) for y in p.y]
        for edge, start, end in ref.passes(max(p.lengths), self.k1, self.k2):
            for i, (x, y, w) in enumerate(zip(p.x, p.y, weights, strict=True)):
                stop = min(end, len(x))
                new = range(start, stop) if p.every else [len(x) - 1] * (start < len(x) <= end)
                if not new:
                    continue
                state = p.state[i] if edges[edge] is None else edges[edge][i]
                out, _, _ = ref.layers_forward(
                    p.desc, p.params, x[edge:stop], state, ref.no_masks(p.desc, stop - edge)
                )
                for t in new:
                    row, read = t if p.every else 0, ref.joined(p.desc, out[t - edge][None], x[t][None])
                    q = ref.head_forward(p.desc, p.params, read)[0][0]
                    total += w[row] * ref.LOSSES[p.loss](q, y[row])[0]
        return total / sum(w.sum() for w in weights)

    def reference(self, module=ref):
        p = self.problem
        value, grads, dxs, dstate = module.truncated_loss_and_grad(
            p.desc, p.params, p.x, p.y, states=p.state, weights=p.weight, **self.options
        )
        return value, grads | {"x": np.concatenate(dxs), "state": dstate}

    def check_reference(self, module=ref):
        """The oracle's gradient against finite differences of the truncated loss."""
        p = self.problem
        flat = np.concatenate(p.x)
        p.x = np.split(flat, np.cumsum(p.lengths)[:-1])
        arrays = p.params | {"x": flat, "state": p.state}
        edges, (value, grads) = self.edges(), self.reference(module)
        if module is ref:
            assert value == pytest.approx(self.loss(edges), rel=1e-12)
        gradcheck.check(lambda: self.loss(edges), arrays, grads, self.line)

    def check_core(self, dtype="float64", reference=None, **options):
        """The network's gradient against the oracle's."""
        p, (value, expected) = self.problem, reference or self.reference()
        given = dict(loss=p.loss, x0=p.state, sample_weight=p.weights(), bptt=self.unfolding())
        got_value, got = p.network(dtype).loss_and_grad(p.x, p.targets(), **given | options)
        tolerance = p.tolerance(dtype)
        assert got_value == pytest.approx(value, rel=tolerance), self.line
        for name in p.params:
            grad = expected[name]
            assert abs(grad).max() > gradcheck.VANISHING, f"{name} is zero: {self.line}"
            assert abs(got[name] - grad).max() <= tolerance * abs(grad).max(), f"{name}: {self.line}"

    def train(self, optimizer, epochs=1, batch=None, module=ref, stateful=False):
        """The transcription: the loss of every epoch, the weights, the states of every sequence."""
        p, n, losses = self.problem, len(self.problem.lengths), []
        batch, weights = batch or n, dict(p.params)
        states = p.state.copy()
        for _ in range(epochs):
            states = states if stateful else p.state.copy()
            parts = [slice(i, i + batch) for i in range(0, n, batch)]
            batches = [(p.x[b], p.y[b], states[b], p.weight and p.weight[b]) for b in parts]
            losses.append(module.truncated_epoch(p.desc, weights, optimizer, batches, **self.options))
        return losses, weights, states

    def fit(self, net=None, dtype="float64", x0=True, **options):
        p, net = self.problem, net or self.problem.network(dtype)
        given = dict(x0=p.state if x0 else None, loss=p.loss, sample_weight=p.weights(), verbose=0)
        given |= dict(bptt=self.unfolding(), batch_size=len(p.x), shuffle=False)
        return net, net.fit(p.x, p.targets(), **given | options)["loss"]

    def check_fit(self, name="sgd", tolerance=1e-10, epochs=2, batch=None, words=None, **options):
        """Weights and the loss of every epoch against the transcription."""
        words = words or dict(learning_rate=0.05)
        optimizer = {"sgd": bf.SGD, "adam": bf.Adam}[name](**words)
        oracle = ref.Optimizer(name, **words)
        expected_losses, expected, _ = self.train(oracle, epochs, batch)
        net, losses = self.fit(
            optimizer=optimizer, epochs=epochs, batch_size=batch or len(self.problem.x), **options
        )
        assert_weights(net, expected, self.problem.params, tolerance, self.line)
        np.testing.assert_allclose(losses, expected_losses, rtol=tolerance, err_msg=self.line)


def assert_weights(net, expected, start, tolerance, line=""):
    for name, w in expected.items():
        assert abs(w - start[name]).max() > 1e-5, f"{name} did not move, which proves nothing: {line}"
        assert abs(net[name] - w).max() <= tolerance * abs(w).max(), f"{name}: {line}"
