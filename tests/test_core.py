"""The C core by itself, without the Python layer: memory, padding, the processor's mode, errors."""

import contextlib
import itertools
import platform
import types

import numpy as np
import pytest
from support import cases, covering
from support.mode import Mode
from support.training import OPTIMIZERS, SGD, Training, hyper

CORE = cases.core()
ADAM = OPTIMIZERS["adam"]
ISAS = cases.isas()
BATCHED = dict(every=True, head=(5,), lengths=(6, 6, 6), hidden_size=5, input_size=5, output_size=5)
BYTES = {"float32": 4, "float64": 8}
VECTOR = {"base": 16, "neon": 16, "avx2": 32, "avx512": 64}  # bytes
NOT_REALS = ("plan", "norms", "row_loss", "row", "batch_sizes")


def views(plan):
    return {name: plan.arena[offset : offset + size] for name, offset, size in plan.views()}


CONSTANTS = ("alpha", "amplitude", "alpha_slope", "noise_slope", "input_amplitude")


def fill(plan, byte):
    for name, view in views(plan).items():
        if name not in ("plan", *CONSTANTS):  # these are made with the plan
            view[:] = byte


def results(run):
    value, grads = run.loss_and_grad()
    outputs, state = run.predict(every=run.problem.every)
    return [np.float64(value), *grads.values(), *outputs, state]


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("form", cases.FORMS.values(), ids=cases.FORMS)
def test_what_the_arena_held_does_not_matter(form, isa):
    """Full of 0xFF (NaN) or of zeros before, the results are equal to the bit."""
    for more in (dict(bidirectional=True, num_layers=2), dict(lengths=cases.RAGGED), dict(every=False)):
        for dtype in BYTES:
            ends = []
            for byte in (0, 0xFF):
                run = cases.Problem(**BATCHED | form | more).run(dtype, isa)
                fill(run.plan, byte)
                ends.append(results(run))
            for zeros, ones in zip(*ends, strict=True):
                np.testing.assert_array_equal(zeros, ones)


PADDED = [(i, d, w) for i in ISAS for d in BYTES for w in (1, 3, 5) if w < VECTOR[i] // BYTES[d]]


@pytest.mark.parametrize("isa, dtype, width", PADDED)
@pytest.mark.parametrize("form", cases.FORMS)
def test_padding_stays_zero(form, isa, dtype, width):
    """All widths smaller than a vector, so that every vector in the arena has the same lanes of padding.

    They are zero in everything that is summed: weights, gradients, inputs.  Where values of a
    nonlinearity are kept there may be its value at zero, in the states of minimal gated cells a mean of that
    and zero."""
    sizes = dict(input_size=width, hidden_size=width, output_size=width, head=(width,), num_layers=2)
    given = cases.FORMS[form] | sizes
    given |= {"f": (width,) * len(given["f"])} if "f" in given else {}
    given |= {"proj_size": width} if "proj_size" in given else {}
    run = cases.Problem(**given, lengths=(4, 4, 2), every=True).run(dtype, isa, lanes="units")
    gates = ("saved", "a[") if run.desc["cell"] == "gru_reset_before" else ("saved",)
    softplus = "softplus" in run.desc["activation"]
    not_zero = ("saved", "a[", "s[", "last") if softplus or "sigmoid" in run.desc["activation"] else gates
    minimal = run.desc["cell"] in ("mingru", "minlstm")
    fill(run.plan, 0)
    results(run)
    slots = np.zeros(2 * run.params.size, dtype)
    run.plan.epoch(run.params, slots, hyper(ADAM), run.data, run.order, np.empty(1), np.empty(1))
    seen = 0
    for view, data in views(run.plan).items():
        if view not in NOT_REALS and data.size:
            vectors = data.view(dtype).reshape(-1, VECTOR[isa] // BYTES[dtype])
            padding = vectors[:, width:]
            if view.startswith(not_zero):
                padding = padding[~np.isclose(padding, np.log(2)) if softplus else padding != 0.5]
            if minimal and view.startswith(("s[", "last")):
                padding = padding[(padding < 0) | (padding > 0.5)]
            assert not padding.any(), view
            seen += vectors[:, :width].any()
    assert seen > 8, "nothing but zeros: the test proves nothing"


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("form", cases.FORMS.values(), ids=cases.FORMS)
def test_pieces_keep_to_themselves(form, isa):
    """Pieces lie at multiples of 64 bytes, do not overlap, and what is not in one is not written.

    A batch smaller than the capacity uses the front of it: canaries stand between the pieces and behind."""
    for dtype, lanes in itertools.product(BYTES, ("units", "rows")):
        problem = cases.Problem(**BATCHED | form)
        run, large = (problem.run(dtype, isa, lanes=lanes, capacity=size) for size in (None, (7, 11)))
        small, big = ({name: (at, size) for name, at, size in r.plan.views()} for r in (run, large))
        end = 0
        for offset, size in big.values():
            assert offset % 64 == 0 and offset >= end
            end = offset + size
        assert end <= large.plan.nbytes == large.plan.arena.size
        assert large.plan.arena.ctypes.data % 64 == 0
        used = big["x"][0] + run.plan.nbytes - small["x"][0]
        free = np.ones(large.plan.nbytes, bool)
        for offset, size in list(big.values())[: list(big).index("x")]:
            free[offset : offset + size] = False
        free[big["x"][0] : used] = False
        assert free.sum() > 1000
        large.plan.arena[free] = 0xA5
        for expected, got in zip(results(run), results(large), strict=True):
            np.testing.assert_array_equal(got, expected)
        assert (large.plan.arena[free] == 0xA5).all()


class Fenced:
    """Arrays with a margin of canaries on both sides."""

    margin = 1024

    def __init__(self):
        self.whole = []

    def __call__(self, a):
        whole = np.full(a.size + 2 * self.margin, 77, a.dtype)
        self.whole.append(whole)
        inner = whole[self.margin : -self.margin].reshape(a.shape)
        inner[...] = a
        return inner

    def empty(self, size, dtype):
        return self(np.zeros(size, dtype))

    def intact(self):
        return all((w[: self.margin] == 77).all() and (w[-self.margin :] == 77).all() for w in self.whole)


@pytest.fixture
def fenced(monkeypatch):
    """Makes fenced arrays; the arenas of new plans are fenced too."""
    fences = Fenced()
    monkeypatch.setattr(CORE, "numpy", types.SimpleNamespace(empty=fences.empty, uint8=np.uint8))
    return fences


def calls(run, fenced, batch, dtype):
    """Every call of a plan on all sequences of a run, in batches of up to so many."""
    p, n, steps = run.problem, len(run.problem.lengths), max(run.problem.lengths)
    options = dict(loss=p.loss, isa=run.plan.isa, batch=batch, steps=steps, input_gradient=True)
    y, state = fenced(np.zeros((len(run.values), run.desc["output_size"]), dtype)), fenced(run.state)
    slots = fenced(np.zeros(2 * run.params.size, dtype))
    losses, weights = (fenced(np.zeros(n * steps)) for _ in range(2))
    for every in (False, True) if p.every else (False,):
        plan = CORE.Plan(run.desc, readout_every_step=p.every, **options)
        assert plan.predict(run.params, run.data, run.order, y, every, state) == "OK"
        assert plan.evaluate(run.params, run.data, run.order)[0] == "OK"
        grad, dx, dstate = (fenced(a) for a in (run.params, run.values, run.state))
        for first in range(n):
            order = run.order[first : first + batch].copy()
            assert plan.loss_and_grad(run.params, run.data, order, grad, dx, dstate)[0] == "OK"
        done = plan.epoch(run.params, slots, hyper(ADAM), run.data, run.order, losses, weights)
        assert done == ("OK", -(-n // batch))
    if p.every and not run.desc["bidirectional"]:
        for k in (1, 2, steps):
            plan = CORE.Plan(run.desc, readout_every_step=False, **options | dict(batch=1, steps=k))
            assert plan.slide(run.params, slots, hyper(ADAM), run.data, run.order, k, 1, losses)[0] == "OK"


STRUCTURES = {
    "one": dict(every=True),
    "both-ways": dict(num_layers=2, bidirectional=True),
    "stack": dict(every=True, num_layers=2, dropout=0.2, recurrent_dropout=0.2),
}


FENCED = covering.design(
    dict(form=list(cases.FORMS), structure=list(STRUCTURES), dtype=list(BYTES), isa=list(ISAS)), 3
)


@pytest.mark.parametrize("form, structure, dtype, isa", [tuple(row.values()) for row in FENCED])
def test_nothing_is_overrun(form, structure, dtype, isa, fenced):
    """Arena and outputs, with batches of every size up to the capacity, of one length or of several."""
    for lengths in ((6, 6, 6, 6, 6, 6, 6), (6, 1, 5, 2, 4, 6, 3)):
        case = cases.FORMS[form] | STRUCTURES[structure]
        run = cases.Problem(**case, head=(3,), lengths=lengths).run(dtype, isa)
        for batch in (1, 2, 3, 5):
            calls(run, fenced, batch, dtype)
        assert fenced.intact()


UNFOLDINGS = {
    "truncated": dict(update_every=2, look_back=3),
    "segments": dict(segment=4),
    "checkpoints": dict(segment=1, checkpoints=2),
    "own inputs": dict(sampling_probability=0.5),
    "windows": dict(window_stride=2),
}


@pytest.mark.parametrize("unfolding", UNFOLDINGS.values(), ids=UNFOLDINGS)
@pytest.mark.parametrize("dtype", BYTES)
@pytest.mark.parametrize("form", cases.FORMS.values(), ids=cases.FORMS)
def test_unfoldings_keep_to_themselves(form, dtype, unfolding, fenced):
    """Nothing is overrun, what the arena held does not matter, and bytes are what nbytes says."""
    lengths = (6,) * 7 if "window_stride" in unfolding else (6, 1, 5, 2, 4, 6, 3)
    sizes = dict(input_size=3, output_size=3, num_layers=2, head=(4,), initial_state="trained")
    run = cases.Problem(**form, **sizes, lengths=lengths, every=True).run(dtype)
    data = run.data
    if "window_stride" in unfolding:
        values, targets = np.ones((18, 3), dtype), np.zeros((18, 3), dtype)
        data = CORE.Data(values, 2 * run.order, np.full(7, 6), 2 * run.order, targets=targets)
    options = dict(
        loss="mse", readout_every_step=True, batch=3, steps=6, threads=1, isa=run.plan.isa, **unfolding
    )
    ends = []
    for byte in (0, 0xFF):
        plan = CORE.Plan(run.desc, **options)
        assert plan.nbytes == CORE.nbytes(run.desc, **options)
        fill(plan, byte)
        n = plan.updates(data, run.order)
        params, grad, slots, state, losses, weights = (
            fenced(a) for a in (
                run.params, run.params, np.zeros(2 * run.params.size, dtype),
                np.zeros((7, plan.state_size), dtype), np.zeros(n), np.zeros(n),
            )
        )  # fmt: skip
        value = plan.loss_and_grad(params, data, run.order[:3].copy(), grad)
        ended = plan.epoch(params, slots, hyper(ADAM), data, run.order, losses, weights, state)
        assert value[0] == "OK" and ended == ("OK", n) and weights.sum() == sum(lengths)
        ends.append((value, *(a.tobytes() for a in (params, grad, slots, state, losses))))
    assert ends[0] == ends[1] and fenced.intact()


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("dtype", BYTES)
@pytest.mark.parametrize("form", cases.FORMS.values(), ids=cases.FORMS)
def test_the_callers_arrays(form, dtype, isa):
    """Inputs are not written."""
    run = cases.Problem(**BATCHED | form).run(dtype, isa)
    inputs = [run.values, run.targets, run.offset, run.target_offset, run.state, run.params, run.order]
    before = [a.copy() for a in inputs]
    results(run)
    run.plan.evaluate(run.params, run.data, run.order)
    for a, kept in zip(inputs, before, strict=True):
        np.testing.assert_array_equal(a, kept)
    slots, losses = np.zeros(2 * run.params.size, dtype), np.zeros(12)
    run.plan.epoch(run.params, slots, hyper(ADAM), run.data, run.order, losses, np.zeros(12))
    slide = CORE.Plan(run.desc, loss="mse", batch=1, steps=2, isa=isa)
    slide.slide(run.params, slots, hyper(ADAM), run.data, run.order, 2, 1, losses)
    for a, kept in zip(inputs, before, strict=True):
        assert a is run.params or (a == kept)[~np.isnan(kept.astype(float))].all()
    assert (run.params != before[5]).any()


@pytest.mark.parametrize("lanes", ("units", "rows"))
@pytest.mark.parametrize("isa", ISAS)
def test_a_plan_runs_again_and_smaller(isa, lanes):
    """Results depend neither on the capacity, but for its choice of the lanes, nor on what ran before."""
    small = cases.Problem(lengths=(3, 2), every=True)
    run = small.run(isa=isa, lanes=lanes, capacity=(4, 9))
    first, large = results(run), cases.Problem(lengths=(9, 4, 5, 9), every=True, data_seed=1).run(isa=isa)
    grad = np.empty_like(large.params)
    assert run.plan.loss_and_grad(large.params, large.data, large.order, grad)[0] == "OK"
    for again, before, exact in zip(
        results(run), first, results(small.run(isa=isa, lanes=lanes)), strict=True
    ):
        np.testing.assert_array_equal(again, before)
        np.testing.assert_array_equal(again, exact)


def test_a_series_longer_than_the_plan_is_predicted_in_blocks():
    problem = cases.Problem(cell="lstm", activation=(), num_layers=2, lengths=(50, 1, 33), every=True)
    whole, blocks = problem.run(), problem.run(capacity=(2, 7))
    for every in (True, False):
        (expected, final), (got, state) = whole.predict(every), blocks.predict(every)
        np.testing.assert_allclose(np.concatenate(got), np.concatenate(expected), rtol=1e-12)
        np.testing.assert_allclose(state, final, rtol=1e-12)


# ---- the processor's mode


x86 = pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="MXCSR is x86's")


class Stop(Exception):
    pass


def raising(done):
    raise Stop


def plan_calls():
    """Every call of a plan, each on a run of its own: ends well, stops, diverges, raises, is refused."""

    def loss_and_grad(problem=None, **options):
        run = (problem or cases.Problem(**BATCHED)).run("float32")
        run.plan.loss_and_grad(run.params, run.data, run.order, np.empty_like(run.params), **options)

    def train(change=1.0, poll=None, sliding=False, **sizes):
        training = Training("float32", **BATCHED | dict(lengths=(6,) * 40))
        training.run.params *= np.float32(change)
        run, tail = training.run, [2, 1, np.empty(160)] if sliding else [np.empty(160), np.empty(160)]
        plan = training.plan(**dict(batch=1, steps=6, readout_every_step=not sliding) | sizes)
        call = plan.slide if sliding else plan.epoch
        call(run.params, training.slots, training.hyper, run.data, run.order, *tail, poll=poll)

    return {
        "predict": lambda: cases.Problem(**BATCHED).run("float32").predict(True),
        "evaluate": lambda: (r := cases.Problem(**BATCHED).run("float32")).plan.evaluate(
            r.params, r.data, r.order
        ),
        "loss_and_grad": loss_and_grad,
        "epoch": train,
        "slide": lambda: train(sliding=True),
        "epoch diverges": lambda: train(change=np.nan),
        "slide diverges": lambda: train(change=np.nan, sliding=True),
        "epoch stops": lambda: train(poll=lambda done: True),
        "epoch raises": lambda: train(poll=raising),
        "slide raises": lambda: train(poll=raising, sliding=True),
        "epoch is refused": lambda: train(steps=2),
        "apply": lambda: CORE.apply("tanh", np.ones(5, np.float32), None),
        "isas": CORE.isas,
    }


@x86
@pytest.mark.parametrize("name", plan_calls())
@pytest.mark.parametrize("mode", (0x1F80, 0x7F80, 0x9FC0), ids=("default", "towards-zero", "flushing"))
def test_calls_keep_the_mode(mode, name):
    """The caller's own mode, whatever it is."""
    control, call = Mode(), plan_calls()[name]
    before = control.get()
    try:
        control.set(mode)
        with contextlib.suppress(Stop, ValueError):
            call()
        after = control.get()
    finally:
        control.set(before)
    assert after == mode & 0xFFC0


IN_A_MODE = """
import sys
import numpy as np
from support import cases
from support.mode import Mode
from bptt_fast import _core

control, mode, threads = Mode(), *map(int, sys.argv[1:])
before, found = control.get(), []
p = cases.Problem(lengths=(25, 27, 26) * 40, hidden_size=32, every=True)
run = p.run("float32", threads=threads)
assert run.plan.threads == threads
for chosen in (mode, before):
    params, grad, slots = run.params.copy(), np.empty_like(run.params), np.zeros(2 * run.params.size, "f")
    loss, weights, x = np.zeros(1), np.zeros(1), np.full(run.desc["input_size"], 0.3, "f")
    hyper = dict(optimizer="adam", learning_rate=0.1, beta1=0.9, beta2=0.99, eps=1e-8)
    stream, y, dy = _core.Stream(run.desc, params), np.full((1, 3), 0.1), np.full((1, 3), 0.7)
    control.set(chosen)
    values = [run.plan.evaluate(run.params, run.data, run.order)]
    values.append(run.plan.loss_and_grad(params, run.data, run.order, grad))
    run.plan.epoch(params, slots, hyper, run.data, run.order, loss, weights)
    arrays = grad, params, loss, stream.step(x), _core.curvature("cross_entropy", (), y, dy)
    control.set(before)
    found.append((values, *(a.tobytes() for a in arrays)))
assert found[0] == found[1]
"""


@x86
@pytest.mark.parametrize("mode", (0x3F80, 0x5F80, 0x7F80), ids=("down", "up", "towards-zero"))
@pytest.mark.parametrize("threads", (1, 3))
def test_results_do_not_depend_on_the_mode(mode, threads, python):
    """Neither on the caller's rounding nor on that which the pool's threads have inherited."""
    found = python("-c", IN_A_MODE, mode, threads)
    assert found.returncode == 0, found.stderr


@x86
def test_import_and_fit_keep_the_mode(python):
    code = (
        "import numpy as np; from support.mode import Mode\n"
        "control = Mode(); before = control.get(); import bptt_fast\n"
        "assert control.get() == before, 'import'\n"
        "net = bptt_fast.Network(2, 3, 1); x, y = np.ones((40, 5, 2)), np.ones((40, 1))\n"
        "net.fit(x, y, verbose=0); net.fit(x[0], x[0, :, :1], bptt=bptt_fast.SlidingBPTT(2), verbose=0)\n"
        "net.predict(x); net.evaluate(x, y); net.loss_and_grad(x, y); bptt_fast.show_config()\n"
        "assert control.get() == before, 'calls'"
    )
    found = python("-c", code)
    assert found.returncode == 0, found.stderr


def test_denormals_survive_a_run():
    cases.Problem(**BATCHED).run("float32").loss_and_grad()
    assert 5e-324 * 1.0 > 0
    assert np.float32(1e-45) * np.float32(1) > 0


@pytest.mark.parametrize("threads", (1, 3))
@pytest.mark.parametrize("dtype", BYTES)
def test_denormals_inside_a_run_are_flushed(dtype, threads):
    """A state that halves at every step becomes zero, not denormal, on every thread."""
    problem = cases.Problem(activation=("linear",), hidden_size=64, lengths=(40,) * 40)
    problem.params = {k: 0 * w for k, w in problem.params.items()} | {"weight_hh_l0": 0.5 * np.eye(64)}
    problem.state[:] = np.finfo(dtype).tiny * 2.0**30
    run = problem.run(dtype, threads=threads)
    assert run.plan.threads == threads
    _, state = run.predict(every=False)
    assert (state == 0).all()
    problem.state *= 2.0**15
    _, state = problem.run(dtype, threads=threads).predict(every=False)
    assert (state > 0).all()


# ---- errors


# what is wrong: the field that the refusal names, what it says of it, the description
BAD_DESCRIPTIONS = {
    "cell": ("cell", "'gru', 'lstm'.* got 'elmo'", dict(cell="elmo")),
    "activation": ("activation", "'relu'.* got 'gelu'", dict(activation=("gelu",))),
    "head activation": ("head_activation", "got 'gelu'", dict(head_activation="gelu")),
    "initial state": ("initial_state", "'zeros', 'trained', got 'ones'", dict(initial_state="ones")),
    "input size": ("input_size", "expected 1 to .* got 0", dict(input_size=0)),
    "hidden size": ("hidden_size", "expected 1 to .* got -1", dict(hidden_size=-1)),
    "output size": ("output_size", "expected 0 to .* got -1", dict(output_size=-1)),
    "head without outputs": ("output_size", "at least 1", dict(output_size=0, head=(3,))),
    "hidden size of 2^62": ("hidden_size", "expected 1 to", dict(hidden_size=2**62)),
    "layers": ("num_layers", "expected 0 to 16, got 17", dict(num_layers=17)),
    "negative layers": ("num_layers", "got -1", dict(num_layers=-1)),
    "width of f": ("f", "above 0", dict(cell="mlp", f=(0,), activation=("tanh", "tanh"))),
    "depth of f": ("f", "at most 16", dict(cell="mlp", f=(2,) * 17, activation=("tanh",))),
    "full f": ("f", "at most 15 widths", dict(cell="mlp", f=(2,) * 16, activation=("tanh",))),
    "width of g": ("head", "got -2", dict(head=(-2,))),
    "depth of g": ("head", "at most 16", dict(head=(2,) * 17)),
    "f of an elman cell": ("f", "cell elman", dict(f=(3,), activation=("tanh", "tanh"))),
    "projection of an elman cell": ("proj_size", "cell elman", dict(proj_size=2)),
    "projection too wide": ("proj_size", "6 and 5", dict(cell="lstm", activation=(), proj_size=6)),
    "dropout of one": ("dropout", "less than 1, got 1", dict(num_layers=2, dropout=1.0)),
    "negative dropout": ("dropout", "expected 0 to 1, got -0.1", dict(num_layers=2, dropout=-0.1)),
    "dropout NaN": ("dropout", "got nan", dict(num_layers=2, dropout=np.nan)),
    "dtype": ("dtype", "'float32', 'float64', got 'float16'", dict(dtype="float16")),
}


@pytest.mark.parametrize("field, rule, wrong", BAD_DESCRIPTIONS.values(), ids=BAD_DESCRIPTIONS)
def test_bad_descriptions(field, rule, wrong):
    d = cases.Problem().desc | wrong
    for make in (CORE.Plan, CORE.nbytes, CORE.size, CORE.blocks):
        with pytest.raises(ValueError, match=rf"^(cannot plan: )?{field}: .*{rule}"):
            make(d)


BAD_PLANS = (
    ("loss", dict(loss="l2")),
    ("isa", dict(isa="sse9")),
    ("batch", dict(batch=2**61)),
    ("steps", dict(steps=2**45)),
    ("batch", dict(batch=-1)),
    ("look_back", dict(update_every=3, look_back=2)),
    ("segment", dict(checkpoints=2)),
    ("readout_every_step", dict(sampling_probability=0.5)),
    ("output_size", dict(sampling_probability=0.5, readout_every_step=True)),
    ("window_stride", dict(window_stride=1, segment=2)),
    ("sampling_probability", dict(sampling_probability=1.5)),
    ("delta", dict(loss="huber", loss_parameter=(np.inf,))),
    ("loss_parameter", dict(loss="huber", loss_parameter=(-1.0,))),
    ("loss_parameter", dict(loss="mae", loss_parameter=(1.0,))),
    ("loss_parameter", dict(loss="huber", loss_parameter=(1.0, 2.0))),
    ("overflow the address space", dict(batch=2**30, steps=2**40)),
)


@pytest.mark.parametrize("words, wrong", BAD_PLANS)
def test_bad_plans(words, wrong):
    with pytest.raises(ValueError, match=f"cannot plan: .*{words}"):
        CORE.Plan(cases.Problem().desc, **wrong)


def test_unknown_fields():
    desc = cases.Problem().desc
    with pytest.raises(TypeError, match="unknown field 'slots'; there are cell, own_cell, dtype"):
        CORE.Plan(desc, slots=2)
    run = cases.Problem().run()
    with pytest.raises(TypeError, match=r"unknown hyperparameters \['decay_biases'\]; there are optimizer"):
        run.plan.epoch(
            run.params,
            None,
            dict(optimizer="sgd", decay_biases=True),
            run.data,
            run.order,
            np.empty(9),
            np.empty(9),
        )


def test_unknown_names():
    assert CORE.state_vectors("sgd") >= 0 and CORE.state_vectors("adam") == 2
    with pytest.raises(ValueError):
        CORE.state_vectors("newton")
    for status in ("OK", "DIVERGED", "CAPACITY"):
        assert " " in CORE.message(status) or status == "OK"


@pytest.mark.parametrize("capacity", ((2, 6), (3, 5)), ids=("sequences", "steps"))
def test_capacity(capacity):
    """A batch that is larger than the plan is refused before anything is written."""
    run = cases.Problem(**BATCHED).run(capacity=capacity)
    grad = np.full_like(run.params, 7)
    with pytest.raises(ValueError, match="than the plan was made for"):
        run.plan.loss_and_grad(run.params, run.data, run.order, grad)
    assert (grad == 7).all()


def test_capacity_of_training():
    training = Training(**BATCHED)
    run, before = training.run, training.run.params.copy()
    arguments = (run.params, training.slots, training.hyper, run.data, run.order)
    with pytest.raises(ValueError):
        training.plan(batch=1, steps=5, readout_every_step=True).epoch(*arguments, np.empty(3), np.empty(3))
    with pytest.raises(ValueError):
        training.plan(batch=1, steps=2).slide(*arguments, 3, 1, np.empty(12))
    np.testing.assert_array_equal(run.params, before)


@pytest.mark.parametrize("n", (0, 1, 2, 3, 21, 5000))
def test_an_order_is_that_of_numpy(n):
    """For seeds and epochs of one word and of two, and as a fit draws it."""
    for seed, epoch in itertools.product((0, 1, 2**32 - 1, 2**32, 2**64 - 1), (0, 1, 2**33 + 5, 2**63)):
        expected = np.random.default_rng([seed, epoch]).permutation(n)
        np.testing.assert_array_equal(CORE.shuffled(seed, epoch, n), expected)


def test_an_order_has_limits():
    for n in (-1, 2**32 + 1):
        with pytest.raises(ValueError, match="expected 0 to 2\\^32 sequences"):
            CORE.shuffled(0, 0, n)


def test_wrong_buffers():
    """Arrays of another type or size are refused, not read."""
    run = cases.Problem(**BATCHED).run()
    good = dict(
        params=run.params,
        grad=np.empty_like(run.params),
        dx=np.empty_like(run.values),
        dstate=np.empty_like(run.state),
    )
    wrong = [
        dict(params=run.params.astype(np.float32)),
        dict(params=run.params[:-1]),
        dict(params=np.repeat(run.params, 2)[::2]),
        dict(grad=good["grad"][:-1]),
        dict(dstate=good["dstate"][:, :-1]),
    ]
    for change in wrong:
        a = good | change
        with pytest.raises((ValueError, TypeError)):
            run.plan.loss_and_grad(a["params"], run.data, run.order, a["grad"], a["dx"], a["dstate"])
    with pytest.raises(TypeError):
        run.plan.loss_and_grad(run.params, run.data, np.array([0.0, 1.0]), good["grad"])


def exploding(sliding, patterns):
    """Far too large a learning rate, on the first so many batches or patterns -> status, done, weights."""
    problem = dict(activation=("linear",), lengths=(100,) if sliding else (6,) * 100, every=True)
    training = Training("float32", optimizer=dict(optimizer="sgd", learning_rate=50.0), **problem)
    run, losses = training.run, np.full(patterns, np.nan)
    order, lengths = (run.order, [patterns + 2]) if sliding else (run.order[:patterns], [6] * 100)
    data = CORE.Data(
        run.values, run.offset, np.array(lengths), run.target_offset, targets=run.targets, state=run.state
    )
    plan = training.plan(batch=1, steps=6, readout_every_step=not sliding)
    given = run.params, training.slots, training.hyper, data, order
    status, done = (
        plan.slide(*given, 2, 1, losses) if sliding else plan.epoch(*given, losses, np.empty(patterns))
    )
    assert training.hyper["step"] == done and np.isfinite(losses[:done]).all()
    return status, done, run.params


@pytest.mark.parametrize("sliding", (False, True), ids=("epoch", "slide"))
def test_divergence_keeps_the_last_finite_weights(sliding):
    """The weights are those of the last finished batch or pattern, `done` says how many are."""
    status, done, weights = exploding(sliding, 90)
    assert status == "DIVERGED" and 0 < done < 90
    assert np.isfinite(weights).all()
    status, again, expected = exploding(sliding, done)
    assert (status, again) == ("OK", done)
    np.testing.assert_array_equal(weights, expected)


@pytest.mark.parametrize("sliding", (False, True), ids=("epoch", "slide"))
def test_interruption_keeps_finished_work(sliding):
    """Stopped by poll, then continued with the rest: the same bits as without a stop."""
    options = dict(
        optimizer=SGD | dict(learning_rate=1e-3), hidden_size=128, lengths=(4000,) * (5 if sliding else 60)
    )

    def run(stop):
        training = Training("float32", **options)
        r, polls = training.run, []

        def poll(done):
            polls.append(done)
            return stop and done > 0

        losses = np.zeros(60 * 4000)
        if sliding:
            plan, tail = training.plan(batch=1, steps=10), (10, 1)
            status, done = plan.slide(
                r.params, training.slots, training.hyper, r.data, r.order, *tail, losses, poll=poll
            )
        else:
            plan = training.plan(batch=1, steps=4000, readout_every_step=True)
            status, done = plan.epoch(
                r.params, training.slots, training.hyper, r.data, r.order, losses, np.zeros(60), poll=poll
            )
        return training, status, done, losses, polls

    whole, status, count, expected, _ = run(False)
    assert (status, count) == ("OK", 5 * 3990 if sliding else 60)
    stopped, status, done, losses, polls = run(True)
    assert status == "INTERRUPTED" and 0 < polls[-1] <= done < count
    np.testing.assert_array_equal(losses[:done], expected[:done])
    assert np.isfinite(stopped.run.params).all() and stopped.hyper["step"] == done
    if not sliding:
        rest = stopped.plan(batch=1, steps=4000, readout_every_step=True).epoch(
            stopped.run.params,
            stopped.slots,
            stopped.hyper,
            stopped.run.data,
            stopped.run.order[done:],
            losses[done:],
            np.zeros(count - done),
        )
        assert rest == ("OK", count - done)
        np.testing.assert_array_equal(stopped.run.params, whole.run.params)


@pytest.mark.parametrize("how", (dict(), dict(segment=2), dict(area=7)))
def test_no_target_weighs_anything(how):
    """Loss and all gradients are zero."""
    problem = cases.Problem((4, 1, 7), every=True, weighted=True, cell="lstm", activation=())
    for weight in problem.weight:
        weight[...] = 0
    value, grads = problem.run(**how).loss_and_grad()
    assert value == 0 and not any(grad.any() for grad in grads.values())
