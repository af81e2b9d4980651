"""Sequences of very different lengths: a batch goes in groups, whose sum is the batch's gradient."""

import contextlib
import threading

import numpy as np
import pytest
from support import cases

import bptt_fast as bf
from bptt_fast import estimators

LENGTHS = (4, 1, 11, 4, 2, 1)
AREAS = (11, 12, 16, 22)  # 11: nearly every sequence by itself
SHAPES = {
    "plain": dict(),
    "both directions": dict(bidirectional=True, num_layers=2),
    "weighted": dict(weighted=True, head=(3,)),
    "dropout": dict(num_layers=2, dropout=0.4, recurrent_dropout=0.3),
    "trained": dict(initial_state="trained", bidirectional=True),
}


def near(found, expected, tolerance=1e-12):
    """Equal numbers, each array within the tolerance of its largest entry."""
    (value, got), (wanted, arrays) = found, expected
    assert abs(value - wanted) <= tolerance * abs(wanted)
    for name, array in arrays.items():
        size = abs(array).max()
        assert size > 0, f"the gradient of {name} is zero"
        assert abs(got[name] - array).max() <= tolerance * size, name


@pytest.mark.parametrize("every", (False, True), ids=("last", "every"))
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("form", cases.FORMS.values(), ids=cases.FORMS)
def test_gradients(form, shape, every):
    """Of weights, inputs and states: the batch's, whatever the groups."""
    problem = cases.Problem(LENGTHS, every=every, **form, **shape)
    whole = problem.run().loss_and_grad()
    for area in AREAS:
        for threads in (1, 3):
            near(problem.run(area=area, threads=threads).loss_and_grad(), whole)


@pytest.mark.parametrize("every", (False, True), ids=("last", "every"))
@pytest.mark.parametrize("form", ("elman-tanh", "mlp-4", "gru-after", "lstm"))
def test_finite_differences(form, every):
    problem = cases.Problem(LENGTHS, every=every, weighted=True, bidirectional=True, **cases.FORMS[form])
    problem.check_core(area=12)
    problem.check_agreement(area=12)
    problem.check_agreement("float32", area=12)


def trained(problem, threads=1, **how):
    """Parameters, losses and weights of an epoch of two batches."""
    n = len(problem.lengths)
    run = problem.run("float32", threads=threads, capacity=(n // 2, max(problem.lengths)), **how)
    losses, weights, slots = np.full(2, np.nan), np.full(2, np.nan), np.zeros(2 * len(run.params), np.float32)
    hyper = dict(optimizer="adam", learning_rate=0.01, beta1=0.9, beta2=0.999, eps=1e-8, clip_norm=1.0)
    result = run.plan.epoch(run.params, slots, hyper, run.data, run.order, losses, weights)
    assert result == ("OK", 2) and hyper["step"] == 2
    return run.params, losses, weights


@pytest.mark.parametrize("sampling_probability", (0.0, 0.5))
def test_one_update_a_batch(sampling_probability):
    problem = cases.Problem(
        LENGTHS, input_size=2, every=True, weighted=True, num_layers=2, dropout=0.3, cell="lstm",
        activation=()
    )  # fmt: skip
    whole = trained(problem, sampling_probability=sampling_probability)
    for area in AREAS:
        for got, expected in zip(
            trained(problem, area=area, sampling_probability=sampling_probability), whole, strict=True
        ):
            assert np.allclose(got, expected, rtol=1e-5, atol=1e-5)


def large(**options):
    """Enough work for several threads."""
    return cases.Problem(
        (200, *[3, 4] * 16, 90, 1, 1),
        hidden_size=64,
        cell="gru",
        activation=(),
        num_layers=2,
        every=True,
        **options,
    )


@pytest.mark.parametrize("bidirectional", (False, True))
def test_threads_do_not_matter(bidirectional):
    problem = large(bidirectional=bidirectional)
    one, counts = trained(problem, area=250), set()
    for threads in (2, 3, 5, 8):
        counts.add(problem.run("float32", threads=threads, area=250).plan.threads)
        for got, expected in zip(trained(problem, threads, area=250), one, strict=True):
            assert got.tobytes() == expected.tobytes()
    assert max(counts) > 2


@pytest.mark.parametrize("every", (False, True), ids=("last", "every"))
@pytest.mark.parametrize("form", cases.FORMS.values(), ids=cases.FORMS)
def test_predictions_do_not_depend_on_groups(form, every):
    for shape in ("plain", "both directions"):
        problem = cases.Problem(LENGTHS, every=True, **form, **SHAPES[shape])
        for dtype in ("float32", "float64"):
            outputs, states = problem.run(dtype).predict(every)
            loss = problem.run(dtype)
            loss = loss.plan.evaluate(loss.params, loss.data, loss.order)
            for area in AREAS:
                run = problem.run(dtype, area=area)
                got, final = run.predict(every)
                assert final.tobytes() == states.tobytes()
                assert [y.tobytes() for y in got] == [y.tobytes() for y in outputs]
                assert run.plan.evaluate(run.params, run.data, run.order) == loss


@pytest.mark.parametrize("isa", cases.isas())
@pytest.mark.parametrize("form", cases.FORMS.values(), ids=cases.FORMS)
def test_predictions_do_not_depend_on_the_batch(form, isa):
    """To the bit, the last batch of one sequence included."""
    for shape in (dict(), dict(bidirectional=True), dict(num_layers=2, head=(9,))):
        for lengths in ((6,) * 7, (3, 300, 2, 5, 1, 270, 9)):
            problem = cases.Problem(lengths, every=True, hidden_size=19, input_size=5, **form, **shape)
            net = problem.network("float32")
            for readout in ("last", "every"):
                whole, state = net.predict(problem.x, readout=readout, return_state=True, isa=isa)
                for size in (1, 2, 3, 4, 5, 6):
                    got, final = net.predict(
                        problem.x, readout=readout, return_state=True, isa=isa, batch_size=size
                    )
                    assert final.tobytes() == state.tobytes()
                    assert [y.tobytes() for y in got] == [y.tobytes() for y in whole]


@pytest.mark.parametrize("every", (False, True), ids=("last", "every"))
def test_gauss_newton(every):
    problem = cases.Problem(LENGTHS, every=every, weighted=True, cell="lstm", activation=())
    grams = []
    for how in (dict(), *(dict(area=area) for area in AREAS)):
        run = problem.run(capacity=(4, 11), residuals=8, **how)
        grams.append(np.zeros((len(run.params) + 1,) * 2))
        assert run.plan.gauss_newton(run.params, run.data, run.order, grams[-1]) == "OK"
    for gram in grams[1:]:
        assert np.allclose(np.triu(gram), np.triu(grams[0]), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("how", (
    dict(area=10), dict(area=-1), dict(area=12, update_every=3, look_back=3), dict(area=12, segment=3),
    dict(area=12, window_stride=1)
))  # fmt: skip
def test_wrong_plans(how):
    with pytest.raises(ValueError, match="cannot plan"):
        cases.Problem(LENGTHS).run(**how)


# ---- how much memory

LONG, FEW = 3000, 3


def ragged(n=200):
    rng = np.random.default_rng(0)
    x = [rng.normal(size=(LONG if i == n // 2 else FEW, 2)) for i in range(n)]
    return x, rng.normal(size=(n, 1))


@pytest.fixture
def made(monkeypatch):
    """The plans that are made."""
    core, found = cases.core(), []
    plan = core.Plan

    def record(*arguments, **words):
        found.append(plan(*arguments, **words))
        return found[-1]

    monkeypatch.setattr(core, "Plan", record)
    return found


def two_ways(**options):
    return bf.Network(2, 32, 1, cell="lstm", bidirectional=True, seed=0, **options)


CALLS = {
    "fit": lambda net, x, y: net.fit(x, y, epochs=1, batch_size=len(x), verbose=0),
    "validation": lambda net, x, y: net.fit(
        x[:9], y[:9], validation_data=(x, y), batch_size=len(x), verbose=0
    ),
    "loss_and_grad": lambda net, x, y: net.loss_and_grad(x, y),
    "predict": lambda net, x, y: net.predict(x),
    "evaluate": lambda net, x, y: net.evaluate(x, y),
    "L-BFGS": lambda net, x, y: net.fit(x, y, optimizer=bf.LBFGS(), epochs=1, verbose=0),
    "Hessian-free": lambda net, x, y: net.fit(x, y, optimizer=bf.HessianFree(), epochs=1, verbose=0),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_memory_grows_with_the_sum_of_lengths(call, made):
    """At most three times that of the long sequence by itself, where 200 of them would take 200 times."""
    x, y = ragged()
    for part in (slice(100, 101), slice(None)):
        call(two_ways(), x[part] if part.start else x, y[part] if part.start else y)
        made.append(None)
    at = made.index(None)
    alone, all_of_them = (max(p.nbytes for p in found) for found in (made[:at], made[at + 1 : -1]))
    assert all_of_them <= 3 * alone


def test_levenberg_marquardt(made):
    x, y = ragged()
    net = bf.Network(2, 8, 1, cell="lstm", seed=0)
    net.fit(x, y, optimizer=bf.LevenbergMarquardt(), epochs=1, verbose=0)
    # 32 backward passes at once, and the batch
    assert max(p.nbytes for p in made) <= 34 * net.estimate_memory(1, LONG)


@pytest.mark.filterwarnings("ignore:.*max_iter")
def test_estimators(made):
    x, y = ragged()
    estimators.RNNRegressor(32, cell="lstm", bidirectional=True, max_iter=1, tol=0, n_iter_no_change=9).fit(
        x, y[:, 0]
    ).predict(x)
    assert max(p.nbytes for p in made) <= 3 * two_ways(dtype="float64").estimate_memory(1, LONG)


def test_estimate_memory(made):
    """To the byte, from the lengths."""
    x, y = ragged()
    lengths = [len(a) for a in x]
    for net in (two_ways(), bf.Network(2, 32, 1, cell="gru", seed=0)):
        for batch in (16, 200):
            estimate = net.estimate_memory(batch, lengths)
            net.fit(x, y, batch_size=batch, epochs=1, verbose=0)
            assert made[-1].nbytes == estimate <= net.estimate_memory(batch, LONG)
    assert estimate < net.estimate_memory(200, LONG) / 20
    assert net.estimate_memory(8, [5] * 8) == net.estimate_memory(9, [5] * 8) == net.estimate_memory(8, 5)
    for wrong in ([], [3, 0], [[3, 4]], [[3], [4, 5]], "12", None):
        with pytest.raises(bf.ConfigError):
            net.estimate_memory(8, wrong)


def test_little_is_not_cut(made, monkeypatch):
    """A batch that needs little memory goes as one, with the bits of ever."""
    rng, words = np.random.default_rng(0), []
    x = [rng.normal(size=(n, 2)) for n in [200, *[5] * 30]]
    core = cases.core()
    record = core.Plan
    monkeypatch.setattr(core, "Plan", lambda *a, **k: words.append(k) or record(*a, **k))
    net = bf.Network(2, 8, 1, seed=0)
    net.fit(x, np.zeros((31, 1)), verbose=0)
    assert "area" not in words[0]


@pytest.mark.slow
def test_packed_sequences_of_torch():
    """As PyTorch's, with memory for the sum of lengths."""
    torch = pytest.importorskip("torch")
    from bptt_fast.torch import LSTM

    x = [torch.from_numpy(a) for a in ragged()[0]]
    packed = torch.nn.utils.rnn.pack_sequence(x, enforce_sorted=False)
    theirs = torch.nn.LSTM(2, 32, bidirectional=True, dtype=torch.float64)
    ours = LSTM(2, 32, bidirectional=True, dtype=torch.float64)
    ours.load_state_dict(theirs.state_dict())
    for module in (theirs, ours):
        y, (h, c) = module(packed)
        (y.data.square().sum() + (h * c).sum()).backward()
    for wanted, got in zip(theirs.parameters(), ours.parameters(), strict=True):
        assert torch.allclose(got.grad, wanted.grad, rtol=1e-8, atol=1e-8)
    (kept,) = ours._plans._plans
    assert kept.plan.nbytes <= 4 * two_ways(dtype="float64").estimate_memory(1, LONG)


# ---- the poll


@pytest.mark.parametrize("how", (dict(), dict(segment=50), dict(area=650)))
@pytest.mark.parametrize("what", ("epoch", "evaluate", "predict"))
def test_only_the_calling_thread_polls(what, how):
    """Also where the last batch, or group, has fewer rows than there are threads."""
    problem = cases.Problem((600,) * 97, hidden_size=128, cell="lstm", activation=(), head=(256,), every=True)
    run = problem.run("float32", threads=4, capacity=(32, 600), **how)
    me, polls = threading.get_ident(), []
    core = cases.core()
    assert run.plan.threads == 4

    def poll(done):
        polls.append(threading.get_ident())
        return False

    if what == "epoch":
        slots, room = np.zeros(len(run.params), np.float32), np.zeros(4)
        hyper = dict(optimizer="sgd", learning_rate=1e-3)
        run.plan.epoch(run.params, slots, hyper, run.data, run.order, room, room.copy(), poll=poll)
    elif what == "evaluate":
        run.plan.evaluate(run.params, run.data, run.order, poll)
    else:
        y = np.zeros((len(run.values), 2), np.float32)
        data = core.Data(run.values, run.offset, np.array(problem.lengths), run.offset)
        run.plan.predict(run.params, data, run.order, y, True, poll=poll)
    assert polls and set(polls) == {me}


def test_states_carried_by_groups(monkeypatch):
    """A stateful fit in groups carries the states that it carries without them."""
    random = np.random.default_rng(0)
    x = [random.normal(size=(n, 2)) for n in (40, 3, 2, 5, 1, 3, 200, 2)]
    y = random.normal(size=(8, 1))
    other = np.where(np.arange(8) == 4, 1e200, y[:, 0])  # the second batch diverges, in its last group

    def carried(most, targets):
        monkeypatch.setattr("bptt_fast.plans.UNGROUPED", most)
        net = bf.Network(2, 5, 1, cell="lstm", dtype="float64", seed=0)
        with contextlib.suppress(bf.DivergedError):
            net.fit(x, targets, batch_size=4, stateful=True, epochs=3, verbose=0)
        return net.carried_states

    assert np.abs(carried(2**60, y)).min() > 0
    np.testing.assert_allclose(carried(0, y), carried(2**60, y), rtol=1e-12)
    stopped = carried(0, other)
    np.testing.assert_allclose(stopped, carried(2**60, other), rtol=1e-12)
    assert stopped[:4].all() and not stopped[4:].any()
