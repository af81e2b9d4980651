"""Second order: J, J'J and J'r of csrc/ against finite differences and the oracle."""

import cases
import numpy as np
import pytest
import reference as ref

ISAS = cases.isas()
MORE = {
    "last": dict(),
    "every": dict(every=True, weighted=True),
    "stack": dict(num_layers=2, every=True, head=(4, 3)),
    "both-ways-last": dict(bidirectional=True, weighted=True, head=(3,)),
    "both-ways-every": dict(bidirectional=True, every=True, num_layers=2, lengths=(3, 1, 5)),
}


def oracle(problem):
    """{target row: rows [J r]} of every residual with a weight, one backward pass of the oracle each."""
    d, run = problem.desc, problem.run()
    found = {}
    for i, (x, y, state) in enumerate(zip(problem.x, problem.y, problem.state, strict=True)):
        masks = ref.no_masks(d, len(x))
        out, _, tape = ref.layers_forward(d, problem.params, x, state, masks)
        q, head_tape = ref.head_forward(d, problem.params, out if problem.every else ref.last(d, out))
        for t, o in np.ndindex(*q.shape):
            weight = problem.weight[i][t] if problem.weight else 1.0
            seed = np.zeros(q.shape)
            seed[t, o] = np.sqrt(weight)
            grads = {k: np.zeros(shape) for k, shape in ref.blocks(d).items()}
            drows = ref.head_backward(d, problem.params, head_tape, seed, grads)
            dout = drows if problem.every else ref.last_backward(d, out, drows)
            ref.layers_backward(d, problem.params, tape, dout, masks, grads)
            if weight:
                row = np.append(run.flat(grads), seed[t, o] * (q[t, o] - y[t, o]))
                found[run.target_offset[i] + t, o] = row
    return found


def gauss_newton(problem, dtype="float64", isa=None, batch=None, residuals=5):
    """[J r]'[J r] and {target row: rows [J r]} of the core."""
    run = problem.run(dtype)
    size = run.params.size + 1
    plan = run.core.Plan(
        run.desc, every=problem.every, batch=batch or len(problem.lengths), steps=max(problem.lengths),
        isa=isa, residuals=residuals,
    )  # fmt: skip
    gram = np.full((size, size), np.nan, dtype)
    rows = np.full((*run.targets.shape, size), np.nan, dtype)
    assert plan.gauss_newton(run.params, run.data, run.order, gram, rows) == "OK"
    assert np.isfinite(gram[np.triu_indices(size)]).all()
    return np.triu(gram) + np.triu(gram, 1).T, rows


def check(problem, dtype="float64", isa=None, **options):
    expected = oracle(problem)
    gram, rows = gauss_newton(problem, dtype, isa, **options)
    tolerance = 10 * problem.tolerance(dtype)
    for at, row in expected.items():
        assert abs(rows[at] - row).max() <= tolerance * abs(row).max(), (at, problem.line)
        rows[at] = np.nan
    assert np.isnan(rows).all(), "rows without a residual were written"
    whole = np.array(list(expected.values()))
    product = whole.T @ whole
    assert abs(gram - product).max() <= tolerance * abs(product).max(), problem.line


@pytest.mark.parametrize("more", MORE.values(), ids=MORE)
@pytest.mark.parametrize("form", cases.FORMS.values(), ids=cases.FORMS)
def test_products_against_numpy(form, more):
    """Every cell, ragged lengths, weights, both readouts, layers and directions, on every instance."""
    problem = cases.Problem(**({"hidden_size": 4} | form | more))
    for isa in ISAS:
        for dtype in ("float64", "float32"):
            check(problem, dtype, isa)
