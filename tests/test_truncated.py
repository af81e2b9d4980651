"""TruncatedBPTT: every error enters once, travels back at most k2 steps, and an update follows k1 steps."""

import warnings

import numpy as np
import pytest
from support import cases
from support import reference as ref
from support.cases import LARGE
from support.signals import interrupted
from support.training import hyper
from support.truncated import STEPS, Truncated, assert_weights

import bptt_fast as bf
from bptt_fast.callbacks import Progress

PAIRS = [(k1, k2) for k2 in range(1, 7) for k1 in range(1, k2 + 1)]
FORMS = {name: cases.FORMS[name] for name in ("elman-tanh", "gru-after", "lstm")} | {
    "two layers": dict(num_layers=2),
    "two layers, lstm": dict(cell="lstm", activation=(), num_layers=2, head=(4,)),
}
ONE_WAY = cases.FORMS | FORMS
RAGGED = (20, 7, 1, 13)


def outcome(net, losses):
    return net.params.tobytes(), tuple(losses)


def quiet(function, *arguments, **options):
    """Without the note that k2 is longer than every sequence."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return function(*arguments, **options)


# ---- the oracle


@pytest.mark.parametrize("k1, k2", PAIRS)
def test_oracle(k1, k2):
    Truncated(k1, k2, hidden_size=2).check_reference()


@pytest.mark.parametrize("form", ONE_WAY.values(), ids=ONE_WAY)
def test_oracle_of_every_cell(form):
    every = list(ONE_WAY.values()).index(form) % 2
    more = dict(hidden_size=1 + form.get("proj_size", 2), lengths=(6, 3), weighted=True, data_seed=1)
    Truncated(2, 4, **form, **more, every=every).check_reference()


def test_oracle_is_the_whole_gradient_when_nothing_is_cut():
    for every in (True, False):
        t = Truncated(13, 13, lengths=(13, 4, 9), every=every, weighted=True, cell="lstm", activation=())
        (value, grads), (expected_value, expected) = t.reference(), t.problem.reference()
        assert value == pytest.approx(expected_value, rel=1e-14)
        for name, grad in expected.items():
            np.testing.assert_allclose(grads[name], grad, rtol=0, atol=1e-14)


# ---- frozen weights


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
@pytest.mark.parametrize("k1, k2", PAIRS)
def test_gradient(form, k1, k2):
    Truncated(k1, k2, **form).check_core()


@pytest.mark.parametrize("every", (False, True), ids=("last", "every"))
@pytest.mark.parametrize("form", ONE_WAY.values(), ids=ONE_WAY)
def test_gradient_of_every_cell(form, every):
    """Ragged, weighted, in both precisions."""
    for k1, k2 in ((1, 4), (3, 3), (6, 14)):
        t = Truncated(k1, k2, **form, lengths=RAGGED, every=every, weighted=True)
        reference = t.reference()
        for dtype in ("float64", "float32"):
            t.check_core(dtype, reference)


@pytest.mark.parametrize("isa", cases.isas())
def test_gradient_on_every_instruction_set(isa):
    for hidden_size in (1, 7, 17):
        Truncated(2, 5, hidden_size=hidden_size, lengths=RAGGED).check_core(isa=isa)


def test_a_truncated_gradient_is_another_one():
    p = Truncated(2, 2).problem
    net = p.network()
    full = net.loss_and_grad(p.x, p.targets())[1].flat
    cut = net.loss_and_grad(p.x, p.targets(), bptt=bf.TruncatedBPTT(2, 2))[1].flat
    assert abs(full - cut).max() > 1e-3


# ---- updates


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
@pytest.mark.parametrize("k1, k2", PAIRS)
def test_fit(form, k1, k2):
    Truncated(k1, k2, **form).check_fit()


@pytest.mark.parametrize("every", (False, True), ids=("last", "every"))
@pytest.mark.parametrize("form", ONE_WAY.values(), ids=ONE_WAY)
def test_fit_of_every_cell(form, every):
    """Ragged sequences in two batches; Adam counts the updates, of which some passes make none."""
    t = Truncated(3, 5, **form, lengths=RAGGED, every=every, gain=0.5)
    t.check_fit("adam", words=dict(learning_rate=0.01), batch=3)


@pytest.mark.parametrize("words", (
    dict(learning_rate=0.05, momentum=0.5, nesterov=True, weight_decay=0.01),
    dict(learning_rate=0.05, clip_norm=0.1),
))  # fmt: skip
def test_optimizers(words):
    t = Truncated(2, 4, lengths=RAGGED)
    losses, expected, _ = t.train(ref.Optimizer(**words), 2)
    net, got = t.fit(optimizer=bf.SGD(**words), epochs=2)
    assert_weights(net, expected, t.problem.params, 1e-10)
    np.testing.assert_allclose(got, losses, rtol=1e-10)


def test_steps_without_weight():
    """A pass whose steps all have weight 0 moves the state and updates nothing, momenta included."""
    t = Truncated(3, 5, lengths=(20, 14))
    t.problem.weight = [np.ones(20), np.full(14, 0.5)]
    for w in t.problem.weight:
        w[3:9] = 0
        w[10] = 0
    t.check_core()
    t.check_fit("adam", words=dict(learning_rate=0.01))


def test_float32():
    Truncated(3, 5, lengths=RAGGED, gain=0.5).check_fit(dtype="float32", tolerance=1e-4)


# ---- special cases, to the bit


def same_fits(case, one, other, **options):
    """Two unfoldings end in the same bits, also with batches in random order, dropout and Adam."""
    ends = []
    for k in (one, other):
        t = Truncated(2, 2, **dict(lengths=(20, 17, 20, 8, 11)) | case)
        t.unfolding = lambda k=k: k
        given = dict(epochs=2, batch_size=2, shuffle=True, optimizer=bf.Adam(0.01)) | options
        net, losses = quiet(t.fit, **given)
        value, grads = quiet(
            net.loss_and_grad,
            t.problem.x,
            t.problem.targets(),
            x0=t.problem.state,
            loss=t.problem.loss,
            bptt=k,
        )
        ends.append((*outcome(net, losses), value, grads.flat.tobytes()))
    assert ends[0] == ends[1]


@pytest.mark.parametrize("every", (False, True), ids=("last", "every"))
@pytest.mark.parametrize("form", ONE_WAY.values(), ids=ONE_WAY)
def test_one_pass_is_the_full_gradient(form, every):
    for k in (20, 23):
        same_fits(dict(form, every=every), bf.TruncatedBPTT(k, k), bf.FullBPTT())


def test_one_pass_with_dropout():
    case = dict(num_layers=2, dropout=0.3, recurrent_dropout=0.2, seed=1)
    same_fits(case, bf.TruncatedBPTT(20, 20), bf.FullBPTT())


def test_k2_longer_than_everything():
    """A note, and the same as the longest backward pass there is."""
    t = Truncated(3, 50, lengths=RAGGED)
    with pytest.warns(UserWarning, match="k2"):
        net, losses = t.fit(epochs=2, optimizer=bf.SGD(0.05))
    same = outcome(*Truncated(3, 20, lengths=RAGGED).fit(epochs=2, optimizer=bf.SGD(0.05)))
    assert outcome(net, losses) == same
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Truncated(3, 20, lengths=RAGGED).fit()


def test_k2_is_k1_unless_given():
    assert bf.TruncatedBPTT(3) == bf.TruncatedBPTT(3, 3) == bf.TruncatedBPTT(k1=3, k2=3)
    assert repr(bf.TruncatedBPTT(2, 4)) == "TruncatedBPTT(k1=2, k2=4)"


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_chunks_are_full_gradients_of_pieces(form):
    """BPTT(k; k) over a series is FullBPTT of its pieces one after the other, the state handed on.

    But for a shorter piece at the end: its errors travel back k steps too."""
    t = Truncated(5, 5, **form)
    net, losses = t.fit(optimizer=bf.SGD(0.05))
    other, p, found = t.problem.network(), t.problem, []
    x0 = p.state
    for start in range(0, STEPS, 5):
        x, y = p.x[0][None, start : start + 5], p.y[0][None, start : start + 5]
        after = other.predict(x, x0=x0, return_state=True)[1]
        found += other.fit(x, y, x0=x0, optimizer=bf.SGD(0.05), verbose=0)["loss"]
        x0 = after
    np.testing.assert_array_equal(net.params, other.params)
    assert losses[0] == pytest.approx(np.mean(found), rel=1e-14)


@pytest.mark.parametrize(
    "form", (dict(), dict(cell="lstm", activation=(), num_layers=2)), ids=("elman", "lstm")
)
@pytest.mark.parametrize(
    "lengths", ((20,) * 64, tuple(1 + 7 * i % 40 for i in range(50))), ids=("equal", "ragged")
)
def test_threads(form, lengths):
    ends = []
    for threads in (1, 2, 3):
        t = Truncated(5, 8, **LARGE | form, lengths=lengths, gain=0.5)
        net, losses = t.fit(dtype="float32", threads=threads, optimizer=bf.SGD(0.01), batch_size=40)
        value, grads = net.loss_and_grad(t.problem.x, t.problem.y, bptt=t.unfolding(), threads=threads)
        ends.append((*outcome(net, losses), value, grads.flat.tobytes()))
    assert ends[0] == ends[1] == ends[2]


# ---- states that are kept


@pytest.mark.parametrize("every", (False, True), ids=("last", "every"))
@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_stateful(form, every):
    """From epoch to epoch and from fit to fit, in batches, until they are forgotten."""
    t = Truncated(3, 5, **form, every=every, lengths=RAGGED)
    t.problem.state[:] = 0
    words = dict(learning_rate=0.05)
    options = dict(optimizer=bf.SGD(**words), stateful=True, shuffle=None, batch_size=3, x0=False)
    losses, expected, _ = t.train(ref.Optimizer(**words), 5, 3, stateful=True)
    net, first = t.fit(epochs=2, **options)
    _, second = t.fit(net, epochs=3, **options)
    np.testing.assert_allclose(first + second, losses, rtol=1e-10)
    for name, w in expected.items():
        assert abs(net[name] - w).max() <= 1e-10 * abs(w).max(), name
    net.load_state_dict(t.problem.params)
    net.reset_state()
    assert t.fit(net, epochs=2, **options)[1] == first


def test_stateful_full():
    """The same with one pass a sequence."""
    ends = []
    for bptt in (bf.FullBPTT(), bf.TruncatedBPTT(20, 20)):
        t = Truncated(20, 20, lengths=RAGGED)
        t.unfolding = lambda bptt=bptt: bptt
        options = dict(x0=False, stateful=True, shuffle=None, optimizer=bf.SGD(0.05))
        net, losses = t.fit(epochs=2, **options)
        again = t.fit(net, epochs=1, **options)[1]
        ends.append((*outcome(net, losses), *again))
    assert ends[0] == ends[1]
    plain = t.fit(x0=False, epochs=3, optimizer=bf.SGD(0.05))[1]
    assert ends[0][1][0] == plain[0] and ends[0][1][1] != plain[1]


def test_fits_that_keep_no_state_are_as_before():
    t = Truncated(3, 5)
    expected = outcome(*t.fit(x0=False))
    net, _ = t.fit(x0=False, stateful=True, shuffle=None)
    net.load_state_dict(t.problem.params)
    assert outcome(*t.fit(net, x0=False)) == expected


# ---- interrupted


def test_interruption_keeps_finished_passes():
    """Stopped by poll between two passes, then continued from the states with the rest: the same bits."""
    p = cases.Problem(hidden_size=128, lengths=(60_000,), every=True, gain=0.5)
    k = 20

    def run(stop):
        r, polls = p.run("float32", capacity=(1, k)), []
        plan = cases.core().Plan(
            r.desc, loss="mse", readout_every_step=True, batch=1, steps=60_000, update_every=k, look_back=k
        )
        n = plan.updates(r.data, r.order)
        losses, weights, state = np.zeros(n), np.zeros(n), r.state.copy()

        def poll(done):
            polls.append(done)
            return stop and len(polls) == 2

        settings = hyper(dict(learning_rate=1e-3))
        status, done = plan.epoch(
            r.params, np.zeros_like(r.params), settings, r.data, r.order, losses, weights, state, poll
        )
        assert settings["step"] == done
        return r, plan, settings, losses, weights, state, status, done

    whole, *_, expected, weights, _, status, n = run(False)
    assert (status, n) == ("OK", 3000) and (weights == k).all()
    r, plan, settings, losses, _, state, status, done = run(True)
    assert status == "INTERRUPTED" and 0 < done < n
    np.testing.assert_array_equal(losses[:done], expected[:done])
    skip = done * k
    rest = cases.core().Data(
        r.values,
        r.offset + skip,
        np.array([60_000 - skip]),
        r.target_offset + skip,
        targets=r.targets,
        state=state,
    )
    end = plan.epoch(
        r.params, np.zeros_like(r.params), settings, rest, r.order, losses[done:], np.zeros(n - done), state
    )
    assert end == ("OK", n - done)
    np.testing.assert_array_equal(r.params, whole.params)
    np.testing.assert_array_equal(losses, expected)


def test_ctrl_c():
    """The weights are those of some number of whole passes, and so is the state."""
    k, steps = 50, 100_000
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(1, steps, 2)), rng.normal(size=(1, steps, 1))

    def network():
        return bf.Network(2, 64, 1, cell="lstm", seed=0, readout="every")

    options = dict(optimizer=bf.SGD(0.01), stateful=True, threads=1, verbose=0)
    net = network()
    with interrupted(0.1), pytest.raises(KeyboardInterrupt) as caught:
        net.fit(x, y, bptt=bf.TruncatedBPTT(k), epochs=10**6, **options)
    assert caught.value.history["loss"] == []
    again = network()
    for start in range(0, steps, k):
        if (again.params == net.params).all():
            break
        again.fit(x[:, start : start + k], y[:, start : start + k], **options)
    else:
        pytest.fail("no number of whole passes gives these weights")
    assert start > 0
    one = {"x": x[:, start : start + k], "y": y[:, start : start + k]}
    assert again.fit(**one, **options)["loss"] == net.fit(**one, **options)["loss"]


def test_an_error_of_the_display_keeps_finished_updates(monkeypatch):
    """Whatever ends an epoch early: the states are those after the last finished update."""
    polled = []

    class Broken(Progress):
        def within(self, done, updates):
            polled.append(done)
            if done > 1:
                raise BrokenPipeError

    monkeypatch.setattr("bptt_fast.fit.progress", lambda *_: Broken())
    x = np.random.default_rng(0).normal(size=(200, 3000, 1))
    net = bf.Network(1, 96, 1, readout="every", seed=0)
    with pytest.raises(BrokenPipeError):
        net.fit(x, x, stateful=True, batch_size=1, threads=1)
    assert 1 < polled[-1] < 200
    assert list(net.carried_states.any(axis=1)) == [i < polled[-1] for i in range(200)]


def test_max_seconds():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(1, 200_000, 2)), rng.normal(size=(1, 200_000, 1))
    net = bf.Network(2, 64, 1, cell="lstm", seed=0, readout="every")
    before = net.params.copy()
    rules = bf.Stopping(max_seconds=0.15)
    history = net.fit(x, y, bptt=bf.TruncatedBPTT(20, 40), epochs=1, patience=rules, verbose=0)
    assert history.stopped == "max_seconds" and len(history["loss"]) == 1
    assert np.isfinite(net.params).all() and (net.params != before).any()


# ---- error messages

X, Y = np.ones((4, 8, 3)), np.zeros((4, 8, 2))
CUT = dict(bptt=("TruncatedBPTT", 2, 4))
WRONG = {
    "k1 above k2": (dict(), dict(bptt=("TruncatedBPTT", 5, 4)), ("k1", "k2", "5", "4")),
    "k1 zero": (dict(), dict(bptt=("TruncatedBPTT", 0, 4)), ("k1", "0")),
    "k2 a fraction": (dict(), dict(bptt=("TruncatedBPTT", 1, 2.5)), ("k2", "2.5")),
    "both directions": (dict(bidirectional=True), CUT, ("TruncatedBPTT", "bidirectional")),
    "shuffled and stateful": (dict(), dict(stateful=True, shuffle=True), ("shuffle", "stateful")),
    "stateful: a word": (dict(), dict(stateful="yes"), ("stateful", "yes")),
    "stateful, sliding": (
        dict(readout="last"), dict(bptt=("SlidingBPTT", 2), stateful=True), ("stateful", "SlidingBPTT")),
}  # fmt: skip


@pytest.mark.parametrize("options, given, words", WRONG.values(), ids=WRONG)
def test_wrong_calls(options, given, words):
    net = bf.Network(3, 4, 2, **dict(readout="every", seed=0) | options)
    before = net.params.copy()
    with pytest.raises(bf.ConfigError) as caught:
        name, *numbers = given.get("bptt", ("FullBPTT",))
        net.fit(X, Y, verbose=0, **given | {"bptt": getattr(bf, name)(*numbers)})
    assert all(map(str(caught.value).__contains__, words)), caught.value
    np.testing.assert_array_equal(net.params, before)


@pytest.mark.parametrize("options, name, word", (
    (dict(bidirectional=True, readout="every"), "TruncatedBPTT", "bidirectional"),
    (dict(readout="every"), "SlidingBPTT", "SlidingBPTT"),
))  # fmt: skip
def test_wrong_gradients(options, name, word):
    with pytest.raises(bf.ConfigError, match=word):
        bf.Network(3, 4, 2, **options).loss_and_grad(X, Y, bptt=getattr(bf, name)(2))


@pytest.mark.parametrize("bptt", ("FullBPTT", "TruncatedBPTT"))
def test_states_of_another_number_of_sequences(bptt):
    net = bf.Network(3, 4, 2, readout="every", seed=0)
    options = dict(bptt=getattr(bf, bptt)(*(2,) * (bptt == "TruncatedBPTT")), stateful=True, verbose=0)
    net.fit(X, Y, **options)
    with pytest.raises(bf.ConfigError, match=r"(?s)4.*3.*reset_state|3.*4.*reset_state"):
        net.fit(X[:3], Y[:3], **options)
    net.reset_state()
    net.fit(X[:3], Y[:3], **options)
