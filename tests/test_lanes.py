"""Vectors of rows, in which narrow networks are computed, give the results of vectors of units.

A vector of AVX2 or AVX-512 holds 4 to 16 numbers: batches here have a row less, as many, a row more."""

import numpy as np
import pytest
from support import cases

import bptt_fast as bf

VECTORS = [
    ("avx2", "float64", 4),
    ("avx2", "float32", 8),
    ("avx512", "float64", 8),
    ("avx512", "float32", 16),
]
VECTORS = [vector for vector in VECTORS if vector[0] in cases.isas()]
RAGGED = (9, 7, 7, 6, 5, 5, 3, 2, 1, 1, 1)
UNFOLDINGS = {
    "truncated": dict(update_every=2, look_back=4),
    "checkpointed": dict(segment=3, checkpoints=2),
    "windows": dict(window_stride=1),
    "sampled": dict(sampling_probability=0.5),
}

by_vector = pytest.mark.parametrize("isa, dtype, rows", VECTORS, ids=lambda value: str(value))
by_loss = pytest.mark.parametrize("loss", cases.LOSSES)
by_form = pytest.mark.parametrize("form", cases.FORMS.values(), ids=cases.FORMS)


def rows_of(problem, dtype, isa, lanes="rows", **how):
    run = problem.run(dtype, isa, lanes=lanes, **how)
    assert run.plan.lanes == lanes
    return run


@by_vector
@by_form
def test_gradients(form, isa, dtype, rows):
    """Against the NumPy reference: full and partial vectors, ragged batches, weights, both readouts."""
    for lengths in ((4,) * rows, (3,) * (rows + 1), RAGGED[: rows + 2]):
        for every in (True, False):
            problem = cases.Problem(
                **form, lengths=lengths, every=every, weighted=True, hidden_size=3, head=(4,)
            )
            problem.check_agreement(dtype, isa, lanes="rows")


@by_vector
def test_both_directions_and_layers(isa, dtype, rows):
    structure = dict(bidirectional=True, num_layers=2, initial_state="trained")
    for form in cases.FORMS.values():
        cases.Problem(**form, **structure, lengths=RAGGED).check_agreement(dtype, isa, lanes="rows")


@by_vector
@by_loss
def test_losses(loss, isa, dtype, rows):
    for outputs in (2, 3, rows, rows + 1):
        problem = cases.Problem(loss=loss, output_size=outputs, lengths=(3,) * (rows - 1), every=True)
        problem.check_agreement(dtype, isa, lanes="rows")


@by_vector
@by_loss
def test_inputs_and_targets_are_read_in_blocks(loss, isa, dtype, rows):
    """As many reals as lanes, of steps that all rows of a vector have; then one by one.  The last block ends
    where the steps do, inside of a step or not; where a target has no weight, it may be NaN."""
    longest = 2 * rows + 3
    for columns, lengths in (
        (1, (longest,) * (rows + 1)),
        (3, (longest, longest, rows + 2) + (rows,) * rows + (2, 1)),
        (rows + 1, (4,) * (rows - 1) + (1,) * 3),
    ):
        shape = dict(input_size=columns, output_size=max(2, columns), hidden_size=2, lengths=lengths)
        problem = cases.Problem(**shape, loss=loss, every=True, weighted=True)
        for weight in problem.weight:
            weight[2::3] = 0
        expected = problem.reference()
        if problem.y[0].dtype.kind == "f":
            for y, weight in zip(problem.y, problem.weight, strict=True):
                y[weight == 0] = np.nan
        problem.check_agreement(dtype, isa, lanes="rows", expected=expected)


@by_vector
def test_dropout_draws_the_same_masks(isa, dtype, rows):
    """In training with an update, so that masks are drawn; the weights differ by the order of sums alone."""
    problem = cases.Problem(
        cell="gru",
        lengths=RAGGED,
        num_layers=2,
        dropout=0.4,
        recurrent_dropout=0.3,
        hidden_size=3,
        every=True,
    )
    by_units, by_rows = (rows_of(problem, dtype, isa, lanes).loss_and_grad() for lanes in ("units", "rows"))
    assert abs(by_rows[0] - by_units[0]) <= problem.tolerance(dtype)
    for name, grad in by_units[1].items():
        np.testing.assert_allclose(
            by_rows[1][name], grad, rtol=0, atol=problem.tolerance(dtype) * abs(grad).max()
        )


@by_vector
@pytest.mark.parametrize("unfolding", UNFOLDINGS.values(), ids=UNFOLDINGS)
def test_every_unfolding(unfolding, isa, dtype, rows):
    for form in (dict(cell="gru"), dict(cell="lstm")):
        problem = cases.Problem(
            **form, lengths=RAGGED, hidden_size=3, input_size=2, output_size=2, every=True, seed=1
        )
        ends = {}
        for lanes in ("units", "rows"):
            run = rows_of(problem, dtype, isa, lanes, **unfolding)
            grad = np.empty_like(run.params)
            status, loss = run.plan.loss_and_grad(run.params, run.data, run.order, grad)
            assert status == "OK"
            ends[lanes] = loss, grad
        atol = problem.tolerance(dtype) * abs(ends["units"][1]).max()
        np.testing.assert_allclose(ends["rows"][1], ends["units"][1], rtol=0, atol=atol)
        np.testing.assert_allclose(ends["rows"][0], ends["units"][0], rtol=problem.tolerance(dtype))


@by_vector
@by_form
def test_outputs_are_equal_to_the_bit(form, isa, dtype, rows):
    for lengths in (RAGGED, (5,) * (2 * rows + 3), (rows + 3,) * (rows + 2) + (3,)):
        problem = cases.Problem(**form, lengths=lengths, every=True)
        by_units, by_rows = (
            rows_of(problem, dtype, isa, lanes).predict(every=True) for lanes in ("units", "rows")
        )
        for expected, got in zip((*by_units[0], by_units[1]), (*by_rows[0], by_rows[1]), strict=True):
            np.testing.assert_array_equal(got, expected)


@by_vector
@by_loss
@pytest.mark.parametrize("lengths", ((20, 7, 1, 13), (20,) * 17), ids=("ragged", "equal"))
def test_a_loss_does_not_depend_on_its_segments(lengths, loss, isa, dtype, rows):
    """The compiler must not sum one copy of a loop in vectors and another one with fused operations."""
    problem = cases.Problem(
        cell="lstm", lengths=lengths, weighted=True, output_size=2, every=True, seed=2, loss=loss
    )
    losses = set()
    for lanes in ("units", "rows"):
        for unfolding in ({}, dict(segment=6), dict(segment=3, checkpoints=2)):
            run = rows_of(problem, dtype, isa, lanes, **unfolding)
            status, loss = run.plan.loss_and_grad(run.params, run.data, run.order, np.empty_like(run.params))
            assert status == "OK"
            losses.add(loss)
    assert len(losses) == 1


@by_vector
def test_any_number_of_threads_gives_equal_bits(isa, dtype, rows):
    problem = cases.Problem(
        cell="lstm", lengths=(500,) * (4 * rows + 1), hidden_size=15, input_size=6, every=True
    )
    ends = []
    for threads in (1, 2, 3, 4):
        run = rows_of(problem, dtype, isa, threads=threads)
        assert run.plan.threads == threads
        ends.append(run.loss_and_grad())
    for loss, grads in ends[1:]:
        assert loss == ends[0][0]
        for name, grad in grads.items():
            np.testing.assert_array_equal(grad, ends[0][1][name])


def test_sizes_decide():
    """Narrow networks with batches of some rows; never single rows, groups or what second order needs."""

    def lanes(hidden, batch, **more):
        desc = bf.Network(2, hidden, 1, cell="gru", seed=0).desc()
        return cases.core().Plan(desc, loss="mse", batch=batch, steps=5, isa=VECTORS[0][0], **more).lanes

    if not VECTORS:
        pytest.skip("no instance for vectors of rows on this processor")
    assert [lanes(hidden, 40) for hidden in (1, 2, 4, 64)] == ["rows", "rows", "rows", "units"]
    assert lanes(1, 1) == lanes(1, 1, lanes="rows") == "units"
    assert lanes(1, 40, area=50, lanes="rows") == "units"
    assert lanes(1, 40, residuals=8, lanes="rows") == "units"
    assert cases.core().Plan(
        bf.Network(2, 1, 1, seed=0).desc(), loss="mse", batch=40, steps=5, isa="base", lanes="rows"
    ).lanes == "units"  # fmt: skip
