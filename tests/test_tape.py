"""Forwards and backwards in two calls, for programs that take derivatives of their own."""

import numpy as np
import pytest
from support import cases, covering, gradcheck
from support import reference as ref

CORE = cases.core()
SHAPES = {
    "one layer": dict(lengths=(6, 6, 6)),
    "ragged stack": dict(lengths=(4, 1, 7, 4), num_layers=2),
    "both directions": dict(lengths=(3, 6, 1), num_layers=2, bidirectional=True),
    "one sequence": dict(lengths=(7,)),
}


class Taped:
    """A problem on a tape: y, final states, and the slopes of sum(y . r) + sum(final . r')."""

    def __init__(self, layout="rows", headless=False, dtype="float64", isa=None, threads=1, area=0, **form):
        self.problem = p = cases.Problem(every=True, **form)
        self.desc = p.desc | {"dtype": dtype} | ({"output_size": 0, "head": ()} if headless else {})
        n, steps = len(p.lengths), max(p.lengths)
        self.widths = ref.state_widths(p.desc)
        self.layers = p.desc["num_layers"] * (1 + p.desc["bidirectional"])
        self.plan = CORE.Tape(
            self.desc, batch=n, steps=steps, threads=threads, isa=isa, input_gradient=True, area=area
        )
        self.length, start = np.array(p.lengths), None
        if layout == "steps":  # (T, n, I), in which the rows of shorter sequences have gaps
            offset, start = np.arange(n), np.arange(steps) * n
            self.at = [b + n * np.arange(m) for b, m in enumerate(p.lengths)]
        else:
            offset = np.cumsum([0, *p.lengths[:-1]]) + 1
            self.at = [o + np.arange(m) for o, m in zip(offset, p.lengths, strict=True)]
        self.plan.lay(offset, self.length, start)
        rows = n * steps if layout == "steps" else sum(p.lengths) + 1
        self.x = np.full((rows, p.desc["input_size"]), np.nan, dtype)
        for at, x in zip(self.at, p.x, strict=True):
            self.x[at] = x
        self.rows = np.concatenate(self.at)
        rng = np.random.default_rng(1)
        self.params = [np.array(p.params[name], dtype) for name, *_ in CORE.blocks(self.desc)]
        self.initial = [rng.uniform(-0.9, 0.9, (self.layers, n, w)).astype(dtype) for w in self.widths]
        outputs = self.desc["output_size"] or self.widths[0] * (1 + p.desc["bidirectional"])
        self.r = rng.normal(size=(rows, outputs)).astype(dtype)
        self.r_final = [rng.normal(size=h.shape).astype(dtype) for h in self.initial]

    def forward(self, keep=True, draw=0, initial=True):
        y = np.full_like(self.r, np.nan)
        final = [np.full_like(h, np.nan) for h in self.initial]
        status = self.plan.forward(
            pointer(self.x), pointers(self.params), pointers(self.initial) if initial else None, pointer(y),
            pointers(final), keep, draw,
        )  # fmt: skip
        assert status == "OK"
        return y, final

    def loss(self):
        y, final = self.forward()
        pairs = [(y[self.rows], self.r[self.rows]), *zip(final, self.r_final, strict=True)]
        return sum((a * b).sum() for a, b in pairs)

    def backward(self, skip=()):
        """{name: gradient}; those of the blocks in `skip` are not asked for."""
        grad = [np.full_like(w, np.nan) for w in self.params]
        dx, dinitial = np.full_like(self.x, np.nan), [np.full_like(h, np.nan) for h in self.initial]
        wanted = tuple(0 if i in skip else pointer(g) for i, g in enumerate(grad))
        status = self.plan.backward(
            pointer(self.r), pointers(self.r_final), wanted, pointer(dx), pointers(dinitial)
        )
        assert status == "OK"
        return self.named(grad, dx, dinitial)

    def named(self, params, x, initial):
        blocks = {name: a for (name, *_), a in zip(CORE.blocks(self.desc), params, strict=True)}
        return blocks | {"x": x} | {f"initial {i}": h for i, h in enumerate(initial)}


def pointer(array):
    return array.ctypes.data


def pointers(arrays):
    return tuple(map(pointer, arrays))


SLOPES = covering.design(dict(form=list(cases.FORMS), shape=list(SHAPES), headless=(False, True)))


@pytest.mark.parametrize("form, shape, headless", [tuple(row.values()) for row in SLOPES])
def test_slopes_are_finite_differences(form, shape, headless):
    for layout in ("rows", "steps"):
        taped = Taped(layout, headless, **cases.FORMS[form], **SHAPES[shape], hidden_size=4, output_size=2)
        arrays = taped.named(taped.params, taped.x, taped.initial)
        kept = taped.x.copy()
        taped.x[np.isnan(taped.x)] = 0  # the gaps: nobody may look there
        taped.forward()
        grads = taped.backward()
        outside = np.delete(grads["x"], taped.rows, axis=0)
        assert np.isnan(outside).all(), "rows of dx outside the batch were written"
        grads["x"][np.isnan(grads["x"])] = 0
        taped.x[...] = kept
        taped.x[np.isnan(taped.x)] = 0
        gradcheck.check(taped.loss, arrays, grads, f"{form} {shape} {layout}")


RAGGED = (4, 1, 17, 9, 2, 1, 5)


@pytest.mark.parametrize("shape", (
    dict(), dict(num_layers=2, bidirectional=True), dict(num_layers=2, dropout=0.4, recurrent_dropout=0.3)
))  # fmt: skip
@pytest.mark.parametrize("form", cases.FORMS)
def test_groups(form, shape):
    """Sequences of very different lengths: the tapes of groups lie one after the other."""
    for headless in (False, True):
        options = cases.FORMS[form] | shape | dict(lengths=RAGGED, headless=headless)
        whole = Taped(**options)
        outputs, expected = whole.forward(draw=3), whole.backward()
        for layout, threads in (("rows", 1), ("rows", 3), ("steps", 1)):
            grouped = Taped(layout, threads=threads, area=2 * sum(RAGGED), **options)
            y, final = grouped.forward(draw=3)
            np.testing.assert_allclose(y[grouped.rows], outputs[0][whole.rows], rtol=1e-12, atol=1e-14)
            for got, wanted in zip(final, outputs[1], strict=True):
                np.testing.assert_allclose(got, wanted, rtol=1e-12, atol=1e-14)
            grouped.r[grouped.rows], grouped.r_final = whole.r[whole.rows], whole.r_final
            for name, got in grouped.backward().items():
                a, b = (
                    (got, expected[name]) if name != "x" else (got[grouped.rows], expected["x"][whole.rows])
                )
                assert abs(b).max() > 0
                np.testing.assert_allclose(a, b, rtol=0, atol=1e-12 * abs(b).max(), err_msg=name)


def test_groups_fit():
    """A plan refuses groups above its area, forwards and, with other lengths, backwards."""
    taped = Taped(lengths=RAGGED, area=17 + 9)
    with pytest.raises(ValueError, match="more sequences or steps"):
        taped.forward()
    taped = Taped(lengths=RAGGED, area=2 * sum(RAGGED))
    taped.forward()
    longer = np.full(len(RAGGED), max(RAGGED))
    taped.plan.lay(np.zeros(len(longer), np.int64), longer, None)
    with pytest.raises(ValueError, match="more sequences or steps"):
        taped.backward()


@pytest.mark.parametrize("form", cases.FORMS)
def test_outputs_and_slopes_are_those_of_the_loss(form):
    """With the slope of the loss that the core knows, the gradient is the core's."""
    taped = Taped(**cases.FORMS[form], lengths=(5, 5, 5), loss="mse")
    run = taped.problem.run()
    _, expected = run.loss_and_grad()
    n, size = len(taped.length), taped.desc["output_size"]
    at = 0
    state = run.state.reshape(n, taped.layers, -1)
    for h, width in zip(taped.initial, taped.widths, strict=True):
        h[...] = state[:, :, at : at + width].transpose(1, 0, 2)
        at += width
    y, _ = taped.forward()
    targets = np.concatenate(taped.problem.y)
    taped.r[taped.rows] = 2 * (y[taped.rows] - targets) * (1 / len(targets) / size)
    for slope in taped.r_final:
        slope[...] = 0
    got = taped.backward()
    for name in run.named(run.params):
        np.testing.assert_allclose(got[name], expected[name], rtol=1e-12, atol=1e-14, err_msg=name)
    np.testing.assert_allclose(got["x"][taped.rows], expected["x"], rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("form", cases.FORMS)
@pytest.mark.parametrize("dtype", ("float32", "float64"))
def test_threads_and_prediction_give_the_same_bits(form, dtype):
    sizes = dict(hidden_size=33, input_size=17, lengths=(9,) * 24, num_layers=2)
    one, two = (Taped(dtype=dtype, threads=t, **cases.FORMS[form] | sizes) for t in (1, 3))
    (y, final), (y2, final2) = one.forward(), two.forward()
    assert np.array_equal(y, y2, equal_nan=True) and all(map(np.array_equal, final, final2))
    a, b = one.backward(), two.backward()
    assert all(np.array_equal(a[name], b[name], equal_nan=True) for name in a)
    y2, final2 = two.forward(keep=False)
    np.testing.assert_allclose(y2[one.rows], y[one.rows], rtol=1e-5)
    assert np.array_equal(y2, one.forward(keep=False)[0], equal_nan=True)


def test_masks_of_dropout_follow_the_draw():
    form = dict(cell="gru", activation=(), num_layers=2, dropout=0.5, lengths=(5, 5))
    taped = Taped(**form)
    arrays = taped.named(taped.params, taped.x, taped.initial)
    del arrays["x"]
    first, second = taped.forward(draw=1)[0], taped.forward(draw=2)[0]
    assert not np.array_equal(first, second, equal_nan=True)
    assert np.array_equal(first, taped.forward(keep=False, draw=1)[0], equal_nan=True)
    taped.forward(draw=0)
    grads = taped.backward()
    gradcheck.check(taped.loss, arrays, {name: grads[name] for name in arrays})


def test_absent_blocks_are_zeros_and_unwanted_slopes_stay_away():
    taped = Taped(cell="lstm", activation=(), lengths=(4, 4))
    names = [name for name, *_ in CORE.blocks(taped.desc)]
    bias = [i for i, name in enumerate(names) if name.startswith("bias")]
    given = tuple(0 if i in bias else pointer(w) for i, w in enumerate(taped.params))
    y, final = np.empty_like(taped.r), [np.empty_like(h) for h in taped.initial]
    taped.plan.forward(pointer(taped.x), given, None, pointer(y), pointers(final), True, 0)
    for i in bias:
        taped.params[i][...] = 0
    for h in taped.initial:
        h[...] = 0
    assert np.array_equal(taped.forward()[0][taped.rows], y[taped.rows])
    grads = taped.backward(skip=bias)
    assert all(np.isnan(grads[names[i]]).all() == (i in bias) for i in range(len(names)))


def test_one_way_back_for_each_way_forth():
    taped = Taped(cell="elman", activation=("tanh",), lengths=(4, 4))
    with pytest.raises(ValueError, match="plan was made for"):
        taped.backward()
    taped.forward()
    taped.backward()
    with pytest.raises(ValueError, match="plan was made for"):
        taped.backward()
    taped.forward(keep=False)
    with pytest.raises(ValueError, match="plan was made for"):
        taped.backward()


@pytest.mark.parametrize(
    "change",
    (dict(update_every=2, look_back=2), dict(segment=2), dict(sampling_probability=0.5)),
    ids=("truncated", "checkpointed", "closed loop"),
)
def test_other_unfoldings_are_refused(change):
    sizes = dict(input_size=2, output_size=2, hidden_size=3)
    plan = CORE.Tape(ref.DESC | sizes, batch=1, steps=4, **change)
    x = np.zeros((4, 2))
    plan.lay(np.array([0]), np.array([4]), None)
    params = [np.zeros(rows * (cols or 1)) for _, rows, cols, _ in CORE.blocks(ref.DESC | sizes)]
    with pytest.raises(ValueError, match="plan was made for"):
        plan.forward(pointer(x), pointers(params), None, pointer(x.copy()), None, True, 0)


def test_a_network_without_g_has_no_loss():
    taped = Taped(headless=True, cell="elman", activation=("tanh",), lengths=(4, 4))
    run = taped.problem.run()
    grad = np.empty(taped.plan.size)
    for name, more in {"loss_and_grad": (grad,), "evaluate": ()}.items():
        with pytest.raises(ValueError, match="plan was made for"):
            getattr(taped.plan, name)(np.zeros(taped.plan.size), run.data, run.order, *more)
    with pytest.raises(ValueError):
        CORE.Stream(taped.desc, np.zeros(taped.plan.size))


def test_what_is_not_finite_is_passed_on():
    for form in cases.FORMS:
        taped = Taped(**cases.FORMS[form], lengths=(5, 5))
        taped.x[taped.at[1][2]] = np.nan
        y, _ = taped.forward()
        assert np.isnan(y[taped.at[1][2:]]).all() and np.isfinite(y[taped.at[0]]).all(), form


def test_wrong_tables_are_refused_and_the_plan_goes_on():
    taped = Taped(cell="gru", activation=(), lengths=(4, 4))
    y = np.empty_like(taped.r)
    for params in (pointers(taped.params)[:-1], (*pointers(taped.params), 0)):
        with pytest.raises(ValueError, match="expected 6 addresses"):
            taped.plan.forward(pointer(taped.x), params, None, pointer(y), None, True, 0)
    taped.forward()
