"""Equal bits for any number of threads; threads beside threads; fork."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from support import cases, covering
from support.cases import LARGE
from support.training import OPTIMIZERS, Training

import bptt_fast as bf
from bptt_fast.plans import PlanPool, Pooled

THREADS = (1, 2, 3, 4, 8)
SHAPES = {
    "B64": (20,) * 64,
    "B7": (60,) * 7,
    "B13": (60,) * 13,
    "B1": (400,),
    "ragged": tuple(1 + 7 * i % 40 for i in range(50)),
}
FORMS = cases.FORMS | {
    "mlp": dict(cell="mlp", f=(40, 24), activation=("tanh", "relu", "tanh")),
    "stack": dict(num_layers=2, bidirectional=True),
    "dropout": dict(num_layers=2, dropout=0.3, recurrent_dropout=0.2),
    "stack-lstm": dict(cell="lstm", activation=(), num_layers=2, bidirectional=True),
}


def bits(arrays):
    return [np.ascontiguousarray(a).tobytes() for a in arrays]


BITS = covering.design(dict(form=list(FORMS), shape=list(SHAPES), dtype=("float32", "float64")))


@pytest.mark.parametrize("form, shape, dtype", [tuple(row.values()) for row in BITS])
def test_equal_bits(form, shape, dtype):
    lengths = SHAPES[shape]
    problem = cases.Problem(**(LARGE | FORMS[form]), lengths=lengths, every=True)
    results, used = [], []
    for threads in THREADS:
        run = problem.run(dtype, threads=threads)
        used.append(run.plan.threads)
        value, grads = run.loss_and_grad()
        outputs, state = run.predict(every=True)
        results.append(bits([np.float64(value), *grads.values(), *outputs, state]))
    assert used[0] == 1 and all(a <= b for a, b in zip(used, THREADS, strict=True)), used
    assert len(lengths) < 8 or max(used) > 1, f"the plan used {used} threads: the test proves nothing"
    assert all(result == results[0] for result in results)


@pytest.mark.parametrize("hidden", (24, 33, 40, 61))
@pytest.mark.parametrize("isa", cases.isas())
def test_equal_bits_where_tiles_are_cut(isa, hidden):
    """Each thread's columns of a weight gradient begin where a tile begins, whatever the tiles' height."""
    for outputs in (2, 9, 17):
        problem = cases.Problem(
            cell="gru", hidden_size=hidden, output_size=outputs, lengths=(100,) * 48, every=True
        )
        for dtype in ("float32", "float64"):
            first, *others = (
                problem.run(dtype, isa, threads=threads).loss_and_grad() for threads in THREADS[:3]
            )
            for loss, grads in others:
                assert loss == first[0] and bits(grads.values()) == bits(first[1].values())


@pytest.mark.parametrize("optimizer", ("nesterov", "adam-all"))
def test_equal_bits_of_an_epoch(optimizer):
    ends = []
    for threads in THREADS:
        training = Training(
            "float32", threads=threads, optimizer=OPTIMIZERS[optimizer], lengths=SHAPES["ragged"], **LARGE
        )
        losses, run = np.empty(4), training.run
        status, done = training.plan(batch=16, steps=40, readout_every_step=True).epoch(
            run.params, training.slots, training.hyper, run.data, run.order, losses, np.empty(4)
        )
        assert (status, done) == ("OK", 4)
        ends.append(bits([run.params, training.slots, losses]))
    assert all(end == ends[0] for end in ends)


@pytest.mark.parametrize("lengths", ((9,) * 4, (12, 3, 9, 9, 12)))
def test_few_rows_of_many_weights_run_on_two_threads(lengths):
    problem = cases.Problem(cell="lstm", activation=(), hidden_size=190, lengths=lengths, every=True)
    one, two = (problem.run("float32", threads=threads) for threads in (1, 8))
    assert (one.plan.threads, two.plan.threads) == (1, 2)
    for run in (one, two):
        run.results = bits([*run.loss_and_grad()[1].values(), *run.predict(every=True)[0]])
    assert one.results == two.results


FEW_ROWS = {
    "elman": dict(cell="elman", hidden_size=260),
    "gru": dict(cell="gru"),
    "gru_reset_before": dict(cell="gru_reset_before"),
    "lstm": dict(cell="lstm"),
    "lstm_peephole": dict(cell="lstm_peephole"),
    "projection": dict(cell="lstm", proj_size=40),
    "stack": dict(cell="gru", num_layers=2, bidirectional=True),
    "dropout": dict(cell="lstm", num_layers=2, dropout=0.3),
    "recurrent dropout": dict(cell="gru", recurrent_dropout=0.2),
    "truncated": dict(cell="gru", bptt=bf.TruncatedBPTT(5, 12)),
    "checkpointed": dict(cell="lstm", bptt=bf.CheckpointedBPTT()),
}


@pytest.mark.parametrize("form", FEW_ROWS)
def test_few_rows_share_units(form):
    """Where the threads share the units of a step, too, bits do not depend on them."""
    options = dict(hidden_size=170) | FEW_ROWS[form]
    bptt = options.pop("bptt", None)
    rng = np.random.default_rng(0)
    lengths = (23, 40, 31, 40, 12, 40, 7)
    x = [rng.standard_normal((n, 5)).astype("f") for n in lengths]
    y = [rng.standard_normal((n, 2)).astype("f") for n in lengths]
    ends = []
    for threads in (1, 2):
        net = bf.Network(5, output_size=2, readout="every", seed=0, **options)
        fitted = net.fit(x, y, epochs=2, batch_size=4, bptt=bptt, threads=threads, verbose=0)
        outputs = net.predict(x, batch_size=4, threads=threads)
        ends.append(bits([net.params, fitted["loss"], *outputs]))
    assert ends[0] == ends[1]


def test_stop_while_units_are_shared():
    """All threads agree on the step before which they stop."""
    lengths = (3000,) * 4
    training = Training("float32", threads=2, cell="lstm", activation=(), hidden_size=190, lengths=lengths)
    plan, run = training.plan(batch=4, steps=3000, readout_every_step=True), training.run
    assert plan.threads == 2
    status, polls = None, 0
    while status != "OK":
        left = iter(range(polls))
        status, done = plan.epoch(
            run.params,
            training.slots,
            training.hyper,
            run.data,
            run.order,
            np.empty(1),
            np.empty(1),
            poll=lambda done, left=left: next(left, None) is None,
        )
        assert (status, done) in (("INTERRUPTED", 0), ("OK", 1))
        polls += 1
    assert polls > 1


def test_small_work_runs_on_one_thread():
    assert cases.Problem().run(threads=8).plan.threads == 1


def network_and_data():
    rng = np.random.default_rng(0)
    net = bf.Network(16, 64, 3, seed=1)
    return net, rng.standard_normal((64, 20, 16)), rng.standard_normal((64, 3))


def fit(net, x, y, epochs=3):
    net.fit(x, y, epochs=epochs, batch_size=64, threads=2, verbose=0)
    return net.params.tobytes()


def test_two_fits_from_two_threads():
    alone = fit(*network_and_data(), epochs=20)
    ends = [None, None]

    def work(i):
        ends[i] = fit(*network_and_data(), epochs=20)

    workers = [threading.Thread(target=work, args=(i,)) for i in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert ends == [alone, alone]


def test_a_pool_that_another_thread_empties():
    """Between the release of a plan and the removal of the oldest, other threads may take them all."""

    class Emptied(list):
        def __len__(self):
            size = super().__len__()
            self.clear()
            return size

    pool = PlanPool(1)
    pool._plans = Emptied([Pooled("old", (), None)])
    pool.release(Pooled("new", (), None))
    assert len(pool) <= 1


def test_one_network_predicts_for_many_threads():
    net, x, _ = network_and_data()
    alone, ends = net.predict(x).tobytes(), []

    def work():
        ends.extend(net.predict(x).tobytes() for _ in range(50))

    workers = [threading.Thread(target=work) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert len(ends) == 200 and set(ends) == {alone}


def child_fits(parent_works):
    """Fork, fit in the child (and at the same time in the parent): its exit code, None if it hangs."""
    expected = fit(*network_and_data())
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            code = 0 if fit(*network_and_data()) == expected else 2
        finally:
            os._exit(code)
    if parent_works:
        assert fit(*network_and_data()) == expected
    end = time.monotonic() + 30
    while time.monotonic() < end:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return None


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.parametrize("parent_works", (False, True))
def test_fit_after_fork(parent_works):
    assert [child_fits(parent_works) for _ in range(3)] == [0, 0, 0]


def test_threads_in_the_environment(python):
    code = (
        "import numpy as np, bptt_fast as bf\n"
        "net = bf.Network(16, 64, 3, seed=1)\n"
        "net.fit(np.ones((64, 20, 16)), np.ones((64, 3)), verbose=0)\n"
        "print(len(__import__('os').listdir('/proc/self/task')))"
    )
    counts = {
        n: python("-c", code, env={"BPTT_FAST_NUM_THREADS": n, "OPENBLAS_NUM_THREADS": "1"}) for n in "12"
    }
    assert counts["1"].stdout.split() == ["1"], counts["1"].stderr
    assert int(counts["2"].stdout) <= 2, counts["2"].stderr


def test_batches_of_falling_length(tmp_path):
    """A thread that is still in one batch must not see the layout of the next, shorter one."""
    code = """
import numpy as np, bptt_fast as bf
rng = np.random.default_rng(0)
x = [rng.normal(size=(length, 24)) for length in range(400, 0, -2)]
net = bf.Network(24, 64, 2, seed=0)
one = net.predict(x, batch_size=16, threads=1)
for _ in range(20):
    assert np.array_equal(net.predict(x, batch_size=16, threads=2), one)
    net.evaluate(x, one, batch_size=16, threads=2)
"""
    environment = os.environ | {"PYTHONPATH": str(Path(bf.__file__).parents[1])}
    found = subprocess.run(
        [sys.executable, "-c", code], timeout=60, cwd=tmp_path, env=environment, check=False
    )
    assert found.returncode == 0
