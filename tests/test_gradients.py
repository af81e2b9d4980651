"""The gradients of csrc/: finite differences on every block, x and the initial state; and the oracle's."""

import itertools

import numpy as np
import pytest
from support import cases
from support import reference as ref

GRADIENT_CASES, WIDTH_CASES = cases.gradient_cases(), cases.width_cases()
ISAS = cases.isas()


def test_every_row_has_a_reference():
    cells = cases.core().cells()
    assert set(cells) == set(ref.CELLS) == {form["cell"] for form in cases.FORMS.values()}
    states = {k: row[3] - (k in ref.FOLLOWS) for k, row in ref.CELLS.items()}
    assert {name: cell["states"] for name, cell in cells.items()} == states
    assert set(cases.core().losses()) == set(ref.LOSSES)
    assert set(cases.core().activations()) == set(ref.NONLINEARITY)


def test_the_cases_cover_every_pair():
    """Any two values of any two factors meet in a case; a case's line says all of it."""
    found = [*GRADIENT_CASES.values()]
    for one, other in itertools.combinations(cases.FACTORS, 2):
        pairs = {(case.get(one), case.get(other)) for case in found}
        wanted = set(itertools.product(cases.FACTORS[one], cases.FACTORS[other]))
        if {one, other} == {"loss", "weighted"}:
            wanted -= {pair for loss in cases.CANCELLING for pair in ((loss, False), (False, loss))}
        assert wanted <= pairs, (one, other)
    for form in cases.FORMS.values():
        mine = [case for case in found if form.items() <= case.items()]
        for name, values in cases.FACTORS.items():
            wanted = {True} if name == "weighted" else set(values)
            assert wanted <= {case.get(name) for case in mine}, (form, name)
    assert all(cases.parse(cases.line(case).split()) == case for case in found)


@pytest.mark.parametrize("deep", (False, pytest.param(True, marks=pytest.mark.slow)), ids=("flat", "deep"))
@pytest.mark.parametrize("form", cases.FORMS.values(), ids=cases.FORMS)
def test_oracle(form, deep):
    more = dict(num_layers=2, bidirectional=True, head=(4,)) if deep else dict(every=True, weighted=True)
    hidden_size = 1 + form.get("proj_size", 1)
    cases.Problem(**form, lengths=(3, 1), hidden_size=hidden_size, **more).check_reference()


@pytest.mark.parametrize("loss", cases.LOSSES)
def test_oracle_losses(loss):
    cases.Problem(loss=loss, lengths=(3, 1), every=True, output_size=3).check_reference()


@pytest.mark.parametrize("isa", ISAS)
def test_products_in_slices(isa):
    """More units, gates and rows than the caches hold at once: slices, panels and rows are left over."""
    problem = cases.Problem(cell="lstm", hidden_size=205, lengths=(2,) * 131)
    problem.check_agreement("float64", isa)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("dtype", ("float32", "float64"))
@pytest.mark.parametrize("shift", (-900.0, 900.0), ids=("closed", "open"))
def test_gates_of_minlstm_that_are_0_or_1(shift, dtype, isa):
    """f / (f + i) depends on the difference of their pre-activations, not on what is left of f and i."""
    problem = cases.Problem(cell="minlstm", activation=(), lengths=(6, 3), every=True)
    problem.params["bias_ih_l0"][: 2 * problem.desc["hidden_size"]] = shift
    value, grads = problem.reference()
    got_value, got = problem.run(dtype, isa).loss_and_grad()
    bound = 1e-10 if dtype == "float64" else 1e-4  # float32 holds 900 with four more digits
    assert abs(got_value - value) <= bound * value
    for name, grad in grads.items():
        assert abs(got[name] - grad).max() <= bound * max(abs(grad).max(), 1e-3), name


@pytest.mark.parametrize("name", ref.NONLINEARITY)
def test_nonlinearities(name):
    """In a cell, in f and in g: finite differences, and every instance in both directions of its lanes."""
    problem = cases.Problem(
        cell="mlp", f=(6,), activation=(name, name), head=(4,), head_activation=name, every=True
    )
    problem.check_reference()
    problem.check_core()
    for isa, dtype, lanes in itertools.product(ISAS, ("float64", "float32"), ("units", "rows")):
        problem.check_agreement(dtype, isa, lanes=lanes)
    cases.Problem(activation=(name,), lengths=(9,), every=True).check_agreement("float64", None)


@pytest.mark.parametrize("name", GRADIENT_CASES)
def test_finite_differences(name):
    isa = ISAS[[*GRADIENT_CASES].index(name) % len(ISAS)]
    cases.Problem(**GRADIENT_CASES[name]).check_core(isa=isa)


@pytest.mark.parametrize("case", GRADIENT_CASES.values(), ids=GRADIENT_CASES)
def test_every_instance(case):
    """float64 and float32 on every instruction set against the oracle."""
    check_every_instance(cases.Problem(**case))


@pytest.mark.parametrize("case", WIDTH_CASES.values(), ids=WIDTH_CASES)
def test_widths(case):
    """Sizes below, at and above the width of a vector, on every instance."""
    check_every_instance(cases.Problem(**case))


def check_every_instance(problem):
    expected = problem.reference()
    for isa in ISAS:
        for dtype in ("float64", "float32"):
            problem.check_agreement(dtype, isa, expected=expected)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("both", (False, True), ids=("one-way", "both-ways"))
@pytest.mark.parametrize("form", cases.FORMS.values(), ids=cases.FORMS)
def test_predictions(form, both, isa):
    """Outputs and final states; a network that reads every step can also read the last alone."""
    problem = cases.Problem(**form, num_layers=2, bidirectional=both, head=(4,), every=True)
    for every in (False, True):
        expected, final = ref.predict(problem.desc, problem.params, problem.x, problem.state, every)
        for dtype in ("float64", "float32"):
            got, state = problem.run(dtype, isa).predict(every)
            tolerance = 10 * problem.tolerance(dtype)
            np.testing.assert_allclose(np.concatenate(got), np.concatenate(expected), rtol=0, atol=tolerance)
            np.testing.assert_allclose(state, final, rtol=0, atol=tolerance)


@pytest.mark.parametrize("loss", cases.LOSSES)
@pytest.mark.parametrize("every", (False, True), ids=("last", "every"))
def test_evaluate_is_the_same_loss(loss, every):
    problem = cases.Problem(loss=loss, every=every, weighted=True, output_size=3)
    run = problem.run()
    status, value = run.plan.evaluate(run.params, run.data, run.order)
    assert status == "OK"
    assert value == pytest.approx(problem.reference()[0], rel=1e-12)


@pytest.mark.parametrize("form", cases.FORMS.values(), ids=cases.FORMS)
def test_blocks(form):
    """Names and shapes are the oracle's; the blocks fill the flat vector without a gap."""
    d = cases.Problem(**form, num_layers=2, bidirectional=True, head=(4, 3)).desc
    core, end = cases.core(), 0
    found = {}
    for block, rows, cols, offset in core.blocks(d):
        assert offset == end, block
        end += rows * (cols or 1)
        found[block] = (rows, cols) if cols else (rows,)
    assert found == ref.blocks(d)
    assert end == core.size(d)
    assert core.state_size(d) == ref.state_size(d)
