"""Dropout: what is dropped, how often, and that the gradient is exact for the masks that were drawn."""

import numpy as np
import pytest
from support import cases
from support import reference as ref

STRUCTURES = (
    dict(num_layers=2, dropout=0.3),
    dict(num_layers=3, dropout=0.5, recurrent_dropout=0.25),
    dict(recurrent_dropout=0.4),
    dict(num_layers=2, bidirectional=True, dropout=0.25, recurrent_dropout=0.4),
)


def probe(problem):
    """A linear network of the same masks, all weights one: a gradient is zero where something was dropped."""
    d = problem.desc
    copied = {k: d[k] for k in ("num_layers", "bidirectional", "dropout", "recurrent_dropout", "seed")}
    sizes = dict(
        cell="elman", activation=("linear",), hidden_size=ref.width(d), lengths=problem.lengths, loss="mae"
    )
    found = cases.Problem(**copied | sizes, every=True, weighted=True)
    found.params = {
        k: np.full(w.shape, float(".bias" not in k and "bias_" not in k)) for k, w in found.params.items()
    }
    found.y = [y + 1e6 for y in found.y]  # every slope of the loss has one sign
    return found


def masks(problem):
    """The masks of every sequence, as reference.no_masks() lays them out, read off a probe."""
    p, d = probe(problem), problem.desc
    out = [ref.no_masks(d, steps) for steps in problem.lengths]
    for w in p.weight:
        w[:] = 1
    _, grads = p.run().loss_and_grad()
    for i, state in enumerate(grads["state"]):
        for suffix, (h,) in ref.split_state(p.desc, state).items():
            out[i]["recurrent"][suffix] = (h != 0) / (1 - d["recurrent_dropout"])
    p.params |= {k: w * 0 for k, w in p.params.items() if "weight_hh" in k}
    for i, steps in enumerate(problem.lengths):
        for t in range(steps):
            for w in p.weight:
                w[:] = 0
            p.weight[i][t] = 1
            _, grads = p.run().loss_and_grad()
            for layer in range(1, d["num_layers"]):
                below = np.concatenate([grads[f"bias_ih_l{layer - 1}{way}"] for way in ref.directions(d)])
                out[i]["between"][layer][t] = (below != 0) / (1 - d["dropout"])
    return out


@pytest.mark.parametrize("structure", STRUCTURES)
@pytest.mark.parametrize("form", cases.FORMS.values(), ids=cases.FORMS)
def test_gradients(form, structure):
    """Finite differences for the masks of one seed, and the oracle with these, on every instruction set."""
    problem = cases.Problem(**form, **structure, lengths=(4, 2, 3), every=True, hidden_size=6, seed=3)
    problem.check_core()
    drawn = masks(problem)
    assert any((m["between"][layer] == 0).any() for m in drawn for layer in m["between"]) == (
        "dropout" in structure
    )
    expected = problem.reference(masks=drawn)
    for isa in cases.isas():
        for dtype in ("float64", "float32"):
            problem.check_agreement(dtype, isa, expected=expected)


def test_how_often():
    """The share of zeros is the probability; layers, steps, rows and seeds draw for themselves."""
    options = dict(num_layers=3, dropout=0.3, recurrent_dropout=0.2, hidden_size=40, lengths=(12,) * 6)
    drawn = [masks(cases.Problem(**options, seed=seed)) for seed in (1, 2)]
    between = np.array([[[m["between"][layer] for layer in (1, 2)] for m in one] for one in drawn]) > 0
    recurrent = np.array([[list(m["recurrent"].values()) for m in one] for one in drawn]) > 0
    for kept, p in ((between, 0.3), (recurrent, 0.2)):
        assert abs(1 - kept.mean() - p) < 4 * np.sqrt(p * (1 - p) / kept.size)
        for axis in range(kept.ndim - 1):
            first, second = np.take(kept, 0, axis), np.take(kept, 1, axis)
            same = p * p + (1 - p) ** 2
            assert abs((first == second).mean() - same) < 4 * np.sqrt(same * (1 - same) / first.size)


def test_predictions_have_none():
    options = dict(num_layers=2, lengths=(5, 5), every=True)
    with_dropout, without = (
        cases.Problem(**options, dropout=0.5, recurrent_dropout=0.5),
        cases.Problem(**options),
    )
    np.testing.assert_array_equal(with_dropout.run().predict(True)[0], without.run().predict(True)[0])
    values = [
        run.plan.evaluate(run.params, run.data, run.order)[1] for run in (with_dropout.run(), without.run())
    ]
    assert values[0] == values[1] != with_dropout.run().loss_and_grad()[0]


def test_a_fit_draws_anew_and_repeats():
    """Other masks in every batch, the same in every run of one seed, for any number of threads."""
    import bptt_fast as bf

    x, y = np.ones((64, 20, 4)), np.ones((64, 1))

    def losses(threads=1, **options):
        net = bf.Network(4, 32, 1, num_layers=2, seed=1, **options)
        history = net.fit(x, y, epochs=4, batch_size=64, optimizer=bf.SGD(1e-30), threads=threads, verbose=0)
        return history["loss"]

    drawn = losses(dropout=0.5, recurrent_dropout=0.3)
    assert len(set(drawn)) == 4 and len(set(losses())) == 1
    assert (
        losses(dropout=0.5, recurrent_dropout=0.3) == losses(3, dropout=0.5, recurrent_dropout=0.3) == drawn
    )
