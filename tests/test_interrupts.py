"""Long work in parts: nothing is left out, and Ctrl-C is heard while a library computes."""

import signal
import threading
import time

import numpy as np
import pytest
from support.signals import interrupted

import bptt_fast as bf
from bptt_fast import _core, data, interrupts
from bptt_fast.columns import Scaling


@pytest.mark.parametrize("shape", ((), (0,), (1,), (7,), (1, 1000, 3), (5, 1, 40), (3, 2, 2, 50), (1, 1)))
@pytest.mark.parametrize("width", (1, 9))
def test_parts_are_the_whole(monkeypatch, shape, width):
    monkeypatch.setattr(interrupts, "PART", 20)
    count = np.zeros(shape, int)
    parts = list(interrupts.in_parts(shape, width))
    for part in parts:
        count[part] += 1
    assert (count == 1).all() and len(parts) >= min(max(shape, default=1), count.size * width // 40)


@pytest.mark.parametrize("content", (b"", b"abc", bytes(range(100)), np.zeros((0, 3)).data, np.eye(5).data))
def test_pieces_are_the_whole(monkeypatch, content):
    monkeypatch.setattr(interrupts, "PART", 20)
    assert b"".join(interrupts.pieces(content)) == bytes(content)


@pytest.mark.parametrize("order", ("C", "F"))
@pytest.mark.parametrize("shape", ((1, 90, 2), (9, 5, 2), (2, 45, 2)))
def test_conversions_in_parts(monkeypatch, shape, order):
    """The same numbers as at once, and a single NaN is found."""
    a = np.asarray(np.random.default_rng(0).normal(size=shape), order=order)
    scaling = Scaling([1.0, 2.0], [3.0, 4.0], [1.0, 2.0], [3.0, 4.0])
    whole = [data.cast(a, np.float32), scaling.inputs(a, np.float32), scaling.outputs(a)]
    for module in (interrupts, data):
        monkeypatch.setattr(module, "PART", 16)
    for got, expected in zip(
        [data.cast(a, np.float32), scaling.inputs(a, np.float32), scaling.outputs(a)], whole, strict=True
    ):
        assert got.dtype == expected.dtype and got.flags.c_contiguous
        np.testing.assert_array_equal(got, expected)
    monkeypatch.setattr(data, "PART", 1100)  # finite() has a path of its own for fewer numbers
    many = np.ones((3, 1000))
    assert data.finite(many)
    many[2, 999] = np.nan
    assert not data.finite(many)


def test_an_answer_of_another_thread():
    """The result or the exception of the call."""
    assert interrupts.answer(threading.get_ident, 0) == threading.get_ident()
    assert interrupts.answer(threading.get_ident, 1e9) != threading.get_ident()
    with pytest.raises(ZeroDivisionError):
        interrupts.answer(lambda: 1 / 0, 1e9)


def test_interrupt_of_an_answer():
    """Ctrl-C ends the wait for a call that does not hear it."""
    begin = time.monotonic()
    with interrupted(0.2), pytest.raises(KeyboardInterrupt):
        interrupts.answer(lambda: time.sleep(3), 1e9)
    assert time.monotonic() - begin < 2
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


class Alarm:
    """KeyboardInterrupt after so many seconds of work, though the interpreter waits for one call."""

    def __init__(self, seconds):
        self.moment = time.process_time() + seconds
        self.before = signal.signal(signal.SIGPROF, signal.default_int_handler)
        signal.setitimer(signal.ITIMER_PROF, seconds)

    def took(self):
        signal.signal(signal.SIGPROF, self.before)
        return time.process_time() - self.moment


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs timers")
def test_interrupt_of_one_observation():
    """It is as if the observation had not come: the next ones give the bits of an undisturbed learner."""
    one, two = (
        bf.Network(2, 256, 2, num_layers=2, seed=0).learn_online(bf.SlidingBPTT(4000)) for _ in range(2)
    )
    rows = np.random.default_rng(0).normal(size=(4003, 2)).astype("f")
    for row in rows[:4000]:
        one.observe(row, row)
        two.observe(row, row)
    alarm = Alarm(0.05)
    with pytest.raises(KeyboardInterrupt):
        for _ in range(100):
            one.observe(rows[4000], rows[4000])
            pytest.fail("one observation should take longer")
    assert alarm.took() < 0.3 and one.seen == 4000
    for row in rows[4000:]:
        assert one.observe(row, row) == two.observe(row, row)
    assert one.network.params.tobytes() == two.network.params.tobytes()


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs timers")
@pytest.mark.parametrize("call", ["observe", "step"])
def test_no_interrupt_is_lost_between_rows_of_another_dtype(call):
    """An exception that the core handled itself took one Ctrl-C in ten with it."""
    net = bf.Network(2, 4, 2, seed=0)
    one = net.learn_online(bf.SlidingBPTT(2)).observe if call == "observe" else net.stream().step
    row = (np.ones(2),) * (2 if call == "observe" else 1)  # float64 for a network of float32
    for delay in np.random.default_rng(0).uniform(0.001, 0.004, size=80):
        alarm = Alarm(delay)
        with pytest.raises(KeyboardInterrupt):
            end = time.process_time() + 5
            while time.process_time() < end:
                one(*row)
        alarm.took()


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs timers")
def test_interrupt_of_one_step():
    """The state is as before the step."""
    net = bf.Network(2, 512, 2, cell="lstm", seed=0)
    one, two = net.stream(20_000), net.stream(20_000)
    x = np.ones((20_000, 2), "f")
    one.step(x)
    two.step(x)
    before, alarm = one.state, Alarm(0.1)
    with pytest.raises(KeyboardInterrupt):
        one.step(x)
    assert alarm.took() < 0.3
    np.testing.assert_array_equal(one.state, before)
    np.testing.assert_array_equal(one.step(x), two.step(x))


@pytest.fixture(scope="module")
def many_parameters():
    """epoch(poll, threads): 30 updates of 8 million parameters; (status, done), parameters, state, losses."""
    desc = {"cell": "elman", "dtype": "float32", "input_size": 2000, "hidden_size": 2000, "output_size": 1}
    size, n = _core.size(desc), 30
    rows = np.arange(n)
    x, y = np.ones((n, 2000), np.float32), np.ones((n, 1), np.float32)
    sequences = _core.Data(x, rows, np.ones(n, int), rows, y, None, None, None)

    def epoch(poll, threads):
        params, state = np.full(size, 1e-3, np.float32), np.zeros(2 * size, np.float32)
        plan, losses = _core.Plan(desc, batch=1, steps=1, threads=threads), np.full(n, np.nan)
        hyper = bf.Adam(1e-3).hyper(0)
        try:
            result = plan.epoch(params, state, hyper, sequences, rows, losses, np.zeros(n), None, poll)
        except ZeroDivisionError as error:
            result = "abandoned", error.done
        return result, params, state, losses

    return epoch


@pytest.mark.parametrize("threads", (1, 2))
def test_a_run_is_stopped_before_its_parameters_are_loaded(many_parameters, threads):
    result, params, state, losses = many_parameters(lambda done: True, threads)
    assert result == ("INTERRUPTED", 0)
    assert (params == np.float32(1e-3)).all() and not state.any()
    assert np.isnan(losses).all()  # no batch was begun


def test_a_run_that_is_given_up_does_not_write_the_optimizer_state(many_parameters):
    (status, done), params, state, _ = many_parameters(lambda done: done > 0, 1)
    assert status == "INTERRUPTED" and done > 0 and state.any()
    result, given_up, unwritten, _ = many_parameters(lambda done: done > 0 and 1 / 0, 1)
    assert result[0] == "abandoned" and result[1] > 0 and not unwritten.any()
    assert (given_up != np.float32(1e-3)).any() and (params != np.float32(1e-3)).any()
