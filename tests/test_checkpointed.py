"""CheckpointedBPTT: the whole gradient from few stored states; its memory, estimated beforehand."""

from math import comb

import numpy as np
import pytest
from support import cases
from support import reference as ref
from support.cases import LARGE

import bptt_fast as bf

LENGTHS = (20, 7, 1, 13)
# of 20 steps: those that divide them and those that do not, one step, all steps, more than there are
SEGMENTS = (None, 1, 4, 7, 19, 20, 23)
SLOTS = (None, 1, 2, 3, 50)
DROPOUT = dict(num_layers=2, dropout=0.3, recurrent_dropout=0.2)
FORMS = cases.FORMS | {"two layers": dict(cell="lstm", activation=(), num_layers=2, head=(4,))}


def gradients(problem, bptt, dtype="float64", **options):
    p = problem
    value, grads = p.network(dtype).loss_and_grad(
        p.x,
        p.targets(),
        loss=p.loss,
        sample_weight=p.weights(),
        x0=p.state,
        with_inputs=True,
        bptt=bptt,
        **options,
    )
    return value, {k: np.concatenate(g) if k == "x" else g for k, g in grads.items()}


def check(problem, *bptts, tolerance=1e-12, **options):
    """The loss of FullBPTT to the bit, its gradients but for the order of the sum over the segments."""
    value, expected = gradients(problem, bf.FullBPTT(), **options)
    for bptt in bptts:
        got_value, got = gradients(problem, bptt, **options)
        assert got_value == value, bptt
        for name, grad in expected.items():
            assert abs(grad).max() > 1e-7, name
            assert abs(got[name] - grad).max() <= tolerance * abs(grad).max(), f"{name}: {bptt}"


@pytest.mark.parametrize("dropout", (dict(), DROPOUT), ids=("plain", "dropout"))
@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_gradient_of_every_cell(form, dropout):
    """Ragged and weighted, both readouts; the masks of the steps that are run again are the same ones."""
    for every in (True, False):
        problem = cases.Problem(**form | dropout, lengths=LENGTHS, every=every, weighted=True, seed=2)
        check(problem, bf.CheckpointedBPTT(), bf.CheckpointedBPTT(6), bf.CheckpointedBPTT(3, slots=2))
        check(problem, bf.CheckpointedBPTT(6), dtype="float32", tolerance=1e-5)


@pytest.mark.parametrize("slots", SLOTS)
@pytest.mark.parametrize("segment", SEGMENTS)
def test_segments_and_slots(segment, slots):
    for form in (dict(num_layers=2, recurrent_dropout=0.3), dict(cell="lstm", activation=())):
        check(cases.Problem(**form, lengths=LENGTHS, every=True), bf.CheckpointedBPTT(segment, slots))


def test_one_segment_is_the_full_gradient():
    """Nothing is run again then: to the bit."""
    problem = cases.Problem(lengths=LENGTHS, every=True, **DROPOUT)
    _, expected = gradients(problem, bf.FullBPTT())
    for bptt in (bf.CheckpointedBPTT(20), bf.CheckpointedBPTT(23), bf.CheckpointedBPTT(20, slots=1)):
        for name, grad in gradients(problem, bptt)[1].items():
            np.testing.assert_array_equal(grad, expected[name])


def test_the_gradient_is_the_oracles():
    problem = cases.Problem(lengths=LENGTHS, every=True, cell="gru", activation=())
    value, expected = problem.reference()
    got_value, got = gradients(problem, bf.CheckpointedBPTT(6, slots=2))
    assert got_value == pytest.approx(value, rel=1e-12)
    for name, grad in expected.items():
        got_grad = got["x0" if name == "state" else name]
        assert abs(got_grad - grad).max() <= 1e-10 * abs(grad).max(), name


@pytest.mark.parametrize("every", (False, True), ids=("last", "every"))
@pytest.mark.parametrize("loss", cases.LOSSES)
def test_losses(loss, every):
    problem = cases.Problem(loss=loss, every=every, lengths=LENGTHS, weighted=True, output_size=3)
    check(problem, bf.CheckpointedBPTT(4))


@pytest.mark.parametrize("isa", cases.isas())
def test_every_instruction_set(isa):
    for hidden_size in (1, 7, 17):
        problem = cases.Problem(hidden_size=hidden_size, lengths=LENGTHS, every=True, weighted=True)
        check(problem, bf.CheckpointedBPTT(6), isa=isa)


@pytest.mark.parametrize("optimizer", (bf.SGD(0.05, momentum=0.5), bf.Adam(0.01)), ids=("sgd", "adam"))
@pytest.mark.parametrize("every", (False, True), ids=("last", "every"))
def test_fit(every, optimizer):
    """Batches in random order, new dropout masks in each: the loss before the first update to the bit."""
    problem = cases.Problem(**DROPOUT, cell="lstm", activation=(), lengths=LENGTHS * 2, every=every, gain=0.5)
    ends = []
    for bptt in (bf.FullBPTT(), bf.CheckpointedBPTT(), bf.CheckpointedBPTT(3, slots=2)):
        net, first = problem.network(), problem.network()
        options = dict(x0=problem.state, optimizer=optimizer, bptt=bptt, verbose=0)
        history = net.fit(problem.x, problem.targets(), epochs=3, batch_size=3, **options)
        loss = first.fit(problem.x, problem.targets(), batch_size=8, **options)["loss"]
        ends.append((net.params, history["loss"], loss))
    for params, losses, loss in ends[1:]:
        np.testing.assert_allclose(params, ends[0][0], rtol=0, atol=1e-9)
        np.testing.assert_allclose(losses, ends[0][1], rtol=1e-9)
        assert loss == ends[0][2]


@pytest.mark.parametrize("form", (dict(), dict(cell="lstm", activation=(), **DROPOUT)), ids=("elman", "lstm"))
@pytest.mark.parametrize(
    "lengths", ((20,) * 64, tuple(1 + 7 * i % 40 for i in range(50))), ids=("equal", "ragged")
)
def test_threads(form, lengths):
    problem = cases.Problem(**LARGE | form, lengths=lengths, every=True, gain=0.5)
    for bptt in (bf.CheckpointedBPTT(6), bf.CheckpointedBPTT(4, slots=2)):
        ends = []
        for threads in (1, 2, 3):
            value, grads = gradients(problem, bptt, "float32", threads=threads)
            net = problem.network("float32")
            net.fit(problem.x, problem.y, bptt=bptt, threads=threads, verbose=0)
            ends.append((value, net.params.tobytes(), *(g.tobytes() for g in grads.values())))
        assert ends[0] == ends[1] == ends[2]


# ---- how often a step is run


def test_oracle_of_the_advances():
    """The recurrence, the published counts and Griewank's closed form."""
    assert (ref.advances(100, 5), ref.advances(100, 10)) == (416, 322)
    for steps in range(2, 60):
        for slots in range(1, 12):
            r = next(r for r in range(steps) if steps <= comb(slots + r, slots))
            assert ref.advances(steps, slots) == steps + r * steps - comb(slots + r, slots + 1)


@pytest.mark.parametrize("slots", (1, 2, 3, 5, 10, 100))
def test_forward_steps(slots):
    """The fewest there are.  Nothing lies behind the last segment, so that it runs once, however short."""
    for steps in (1, 2, 3, 7, 20, 64, 100):
        assert bf.CheckpointedBPTT(1, slots=slots).forward_steps(steps) == ref.advances(steps, slots)
    for segment in (3, 7, 10, 200):
        for steps in (1, 20, 64, 100):
            n = -(-steps // segment)
            expected = (ref.advances(n, slots) - 1) * segment + steps - (n - 1) * segment
            assert bf.CheckpointedBPTT(segment, slots=slots).forward_steps(steps) == expected


def test_forward_steps_of_segments():
    """All but the last segment run twice."""
    assert bf.CheckpointedBPTT(10).forward_steps(100) == 190
    assert bf.CheckpointedBPTT(10).forward_steps(95) == 185
    assert bf.CheckpointedBPTT(100).forward_steps(100) == 100
    assert bf.CheckpointedBPTT(1, slots=5).forward_steps(100) == 416
    assert bf.CheckpointedBPTT(1, slots=10).forward_steps(100) == 322
    assert 1.9 * 10**6 < bf.CheckpointedBPTT().forward_steps(10**6) < 2 * 10**6


# ---- memory

UNFOLDINGS = {
    "full": lambda: bf.FullBPTT(),
    "sliding": lambda: bf.SlidingBPTT(5),
    "truncated": lambda: bf.TruncatedBPTT(4, 9),
    "checkpointed": lambda: bf.CheckpointedBPTT(),
    "segments of 7": lambda: bf.CheckpointedBPTT(7),
    "slots": lambda: bf.CheckpointedBPTT(7, slots=3),
}


@pytest.mark.parametrize("every", (False, True), ids=("last", "every"))
@pytest.mark.parametrize("options", (
    dict(), dict(cell="lstm", activation=(), num_layers=2, dropout=0.1, head=(7,)),
    dict(cell="gru", activation=()),
), ids=("elman", "lstm", "gru"))  # fmt: skip
@pytest.mark.parametrize("unfolding", UNFOLDINGS.values(), ids=UNFOLDINGS)
def test_estimate_memory(unfolding, options, every, monkeypatch):
    """What a fit then takes, to the byte; nothing is allocated for the answer."""
    bptt = unfolding()
    if isinstance(bptt, bf.SlidingBPTT) and (every or "dropout" in options):
        return
    core, made = cases.core(), []
    plan = core.Plan

    def record(*arguments, **words):
        made.append(plan(*arguments, **words))
        return made[-1]

    monkeypatch.setattr(core, "Plan", record)
    sizes = LARGE | options
    problem = cases.Problem(**sizes, lengths=(50,) * 16, every=every or isinstance(bptt, bf.SlidingBPTT))
    for dtype in ("float32", "float64"):
        for threads in (1, 2):
            net = problem.network(dtype, readout="every" if every else "last")
            estimate = net.estimate_memory(16, 50, bptt=bptt, threads=threads)
            assert not made, "a plan was made for the answer"
            assert type(estimate) is int
            net.fit(problem.x, problem.targets(), batch_size=16, bptt=bptt, threads=threads, verbose=0)
            assert [p.nbytes for p in made] == [estimate]
            made.clear()


def test_estimate_memory_asks_the_readout():
    net = bf.Network(3, 8, 2, readout="last", head=(64,))
    other = bf.Network(3, 8, 2, readout="every", head=(64,))
    assert net.estimate_memory(8, 200, readout="every") == other.estimate_memory(8, 200)
    assert net.estimate_memory(8, 200) < other.estimate_memory(8, 200)
    assert net.estimate_memory(8, 200) == net.estimate_memory(8, 200, bptt=bf.FullBPTT())


def test_reach():
    """What the unfolding is for; asked, not allocated."""
    net = bf.Network(32, 128, 1, cell="lstm")
    full, checkpointed = (net.estimate_memory(8, 100_000, bptt=b) for b in (None, bf.CheckpointedBPTT()))
    assert checkpointed <= full / 50
    assert net.estimate_memory(8, 100_000, bptt=bf.CheckpointedBPTT(100, slots=5)) < checkpointed
    small = bf.Network(64, 64, 1, cell="lstm", readout="every")
    assert small.estimate_memory(1, 10**6, bptt=bf.CheckpointedBPTT()) < 100e6
    assert small.estimate_memory(1, 10**6, bptt=bf.TruncatedBPTT(50, 100)) < 10e6


# ---- error messages

X, Y = np.ones((4, 8, 3)), np.zeros((4, 8, 2))
WRONG = {
    "segment zero": ((0,), dict(), ("segment", "0")),
    "segment: a fraction": ((2.5,), dict(), ("segment", "2.5")),
    "slots zero": ((3, 0), dict(), ("slots", "0")),
    "both directions": ((3,), dict(bidirectional=True), ("CheckpointedBPTT", "bidirectional")),
}


@pytest.mark.parametrize("numbers, options, words", WRONG.values(), ids=WRONG)
@pytest.mark.parametrize("method", ("fit", "loss_and_grad"))
def test_wrong_calls(method, numbers, options, words):
    net = bf.Network(3, 4, 2, readout="every", **options)
    with pytest.raises(bf.ConfigError) as caught:
        getattr(net, method)(X, Y, bptt=bf.CheckpointedBPTT(*numbers))
    assert all(map(str(caught.value).__contains__, words)), caught.value


@pytest.mark.parametrize("batch, steps, bptt", ((0, 5, None), (4, 0, None), (4, 2.5, None), (4, 5, 3)))
def test_wrong_estimates(batch, steps, bptt):
    with pytest.raises(bf.ConfigError):
        bf.Network(3, 4, 2).estimate_memory(batch, steps, bptt=bptt)


def test_equal_and_shown():
    assert bf.CheckpointedBPTT() == bf.CheckpointedBPTT(None, None) != bf.CheckpointedBPTT(5)
    assert repr(bf.CheckpointedBPTT(5)) == "CheckpointedBPTT(segment=5, slots=None)"
