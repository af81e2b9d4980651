"""fit: what it learns, when it stops, what it keeps when it is interrupted or diverges."""

import dataclasses
import io
import math
import signal
import sys
import time

import numpy as np
import pytest
from support import cases
from support import reference as ref
from support.signals import interrupt, interrupted

import bptt_fast as bf

RNG = np.random.default_rng(0)
X, Y = RNG.standard_normal((40, 8, 2)), RNG.standard_normal((40, 1))
SERIES = np.sin(np.arange(120) / 3)[:, None]


def network(**options):
    return bf.Network(**(dict(input_size=2, hidden_size=6, output_size=1, seed=0) | options))


def fit(net, x=X, y=Y, **options):
    return net.fit(x, y, **(dict(epochs=5, verbose=0) | options))


def oracle(net):
    """The description and the weights of a network, for the oracle."""
    return net._desc, {k: np.array(net[k], float) for k in net}


# ---- what it computes


@pytest.mark.parametrize("head", ((), (4, 3)), ids=("g1", "g3"))
@pytest.mark.parametrize("k, lead", ((1, 1), (5, 0), (10, 2)))
def test_sliding_is_the_oracle(k, lead, head):
    """Two epochs over two series from a given x0, momentum kept from epoch to epoch."""
    net = network(dtype="float64", head=head)
    problem = cases.Problem(**net._desc, lengths=(50, 50), every=True)
    d, weights = oracle(net)
    optimizer = ref.Optimizer(learning_rate=0.05, momentum=0.5, clip_norm=1.0)
    sequences = list(zip(problem.x, problem.y, problem.state, strict=True))
    expected = [np.mean(ref.slide(d, weights, optimizer, sequences, k, lead, "mse")) for _ in range(2)]
    options = dict(bptt=bf.SlidingBPTT(k, lead), optimizer=bf.SGD(0.05, momentum=0.5, clip_norm=1.0))
    history = fit(net, problem.x, problem.y, epochs=2, x0=problem.state, **options)
    np.testing.assert_allclose(history["loss"], expected, rtol=1e-11)
    for name, w in weights.items():
        np.testing.assert_allclose(net[name], w, rtol=0, atol=1e-10 * abs(w).max(), err_msg=name)


OPTIMIZERS = {
    "sgd": dict(learning_rate=0.05, momentum=0.5, nesterov=True, weight_decay=0.01),
    "adam": dict(learning_rate=0.01, beta1=0.8, beta2=0.9, eps=1e-5, weight_decay=0.01),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_minibatches_are_the_oracle(name):
    """The loss of an epoch is the mean over the batches, weighted by their target rows."""
    net = network(dtype="float64", cell="gru", readout="every")
    problem = cases.Problem(**net._desc, lengths=(*cases.RAGGED, 3), every=True)
    d, weights = oracle(net)
    optimizer = {"sgd": bf.SGD, "adam": bf.Adam}[name](**OPTIMIZERS[name])
    chosen = ref.Optimizer(name, **OPTIMIZERS[name])
    batches = [[a[s : s + 2] for a in (problem.x, problem.y, problem.state)] for s in (0, 2, 4)]
    rows = [sum(map(len, y)) for _, y, _ in batches]
    expected = [
        np.average(ref.train_epoch(d, weights, chosen, batches, loss="mse", every=True), weights=rows)
        for _ in range(3)
    ]
    history = fit(
        net,
        problem.x,
        problem.y,
        x0=problem.state,
        epochs=3,
        batch_size=2,
        shuffle=False,
        optimizer=optimizer,
    )
    np.testing.assert_allclose(history["loss"], expected, rtol=1e-11)
    for name, w in weights.items():
        np.testing.assert_allclose(net[name], w, rtol=0, atol=1e-10 * abs(w).max(), err_msg=name)


def test_defaults_of_the_optimizer():
    for bptt, y, optimizer in ((None, Y, bf.Adam(1e-3)), (bf.SlidingBPTT(3), X[..., :1], bf.SGD(0.01))):
        one, other = network(), network()
        fit(one, y=y, bptt=bptt)
        fit(other, y=y, bptt=bptt, optimizer=optimizer)
        np.testing.assert_array_equal(one.params, other.params)
        assert (one.params != network().params).any()


def test_data_are_not_modified():
    x, y, w, x0 = (
        X.astype(np.float32),
        Y.astype(np.float32),
        np.ones(40, np.float32),
        np.ones((40, 6), np.float32),
    )
    kept = [a.copy() for a in (x, y, w, x0)]
    fit(network(), x, y, sample_weight=w, x0=x0)
    for a, before in zip((x, y, w, x0), kept, strict=True):
        np.testing.assert_array_equal(a, before)


# ---- repeatable


@pytest.mark.parametrize("options", (
    {}, dict(optimizer=bf.SGD(0.1, momentum=0.9)), dict(batch_size=7, validation_split=0.2),
    dict(bptt=bf.SlidingBPTT(3), y=X[..., :1]),
))  # fmt: skip
def test_seeds(options):
    """The same seed gives the same bits, another one other weights; global generators do not matter."""
    ends = []
    for seed in (5, 5, 6):
        np.random.seed(len(ends))
        net = network(seed=seed)
        history = fit(net, **options)
        ends.append((net.params.tobytes(), tuple(history["loss"])))
    assert ends[0] == ends[1] != ends[2]


@pytest.mark.parametrize("options", (
    dict(), dict(bptt=bf.SlidingBPTT(3), y=X[..., :1]), dict(optimizer=bf.SGD(0.1, clip_state=0.01)),
))  # fmt: skip
def test_a_plan_serves_several_fits(options, monkeypatch):
    """Whatever was called in between, the second fit is that of a new network; the plan is made once."""
    made = []
    make = bf.runners.make_plan
    monkeypatch.setattr(bf.runners, "make_plan", lambda *a: made.append(a) or make(*a))
    one, other = network(), network()
    fit(one, **options)
    one.predict(X)
    with pytest.raises(bf.DivergedError):
        fit(one, **options | dict(optimizer=bf.SGD(1e38)))
    one.params[:] = other.params
    fit(one, **options)
    assert len(made) == 1
    fit(other, **options)
    assert one.params.tobytes() == other.params.tobytes() and len(made) == 2
    fit(one, **options | dict(loss="mae"))
    assert len(made) == 3


def test_fit_in_two_parts():
    """Plain SGD without shuffling: 2 epochs and 3 more are 5; initial_epoch counts as in Keras."""
    options = dict(optimizer=bf.SGD(0.05), shuffle=False)
    whole, parts = network(), network()
    fit(whole, epochs=5, **options)
    first = fit(parts, epochs=2, **options)
    second = fit(parts, epochs=5, initial_epoch=2, **options)
    np.testing.assert_array_equal(whole.params, parts.params)
    assert first["epoch"] + second["epoch"] == [1, 2, 3, 4, 5]


def test_shuffling_continues():
    """With initial_epoch the order is that of the epochs left, not the first ones again."""
    options = dict(optimizer=bf.SGD(0.05), batch_size=4)
    whole, parts = network(), network()
    fit(whole, epochs=4, **options)
    fit(parts, epochs=2, **options)
    fit(parts, epochs=4, initial_epoch=2, **options)
    np.testing.assert_array_equal(whole.params, parts.params)
    unshuffled = network()
    fit(unshuffled, epochs=4, shuffle=False, **options)
    assert (unshuffled.params != whole.params).any()


# ---- validation and stopping


def test_history(tmp_path):
    history = fit(network(), validation_split=0.25)
    assert list(history) == ["epoch", "loss", "val_loss", "seconds"]
    assert all(len(column) == 5 for column in history.values())
    assert history["epoch"] == [1, 2, 3, 4, 5] and history.stopped == "epochs"
    history.to_csv(tmp_path / "history.csv")
    lines = (tmp_path / "history.csv").read_text().splitlines()
    assert lines[0] == "epoch,loss,val_loss,seconds" and len(lines) == 6
    assert float(lines[2].split(",")[1]) == history["loss"][1]


def test_validation():
    """The last part of the sequences is kept out of training; the loss is evaluate's after the epoch."""
    split, given = network(), network()
    history = fit(split, validation_split=0.25)
    same = fit(given, X[:30], Y[:30], validation_data=(X[30:], Y[30:]))
    np.testing.assert_array_equal(split.params, given.params)
    assert history["val_loss"] == same["val_loss"]
    assert history["val_loss"][-1] == pytest.approx(split.evaluate(X[30:], Y[30:]), rel=1e-6)
    changed = X.copy()
    changed[30:] += 1
    other = network()
    assert fit(other, changed, validation_split=0.25)["val_loss"] != history["val_loss"]
    np.testing.assert_array_equal(split.params, other.params)


@pytest.mark.parametrize("k, lead", ((4, 1), (3, 0), (2, 2)))
def test_validation_of_a_sliding_window(k, lead):
    """One series: its last steps, predicted by a plain run over all of it; they are not learnt from."""
    net, options = (
        network(dtype="float64"),
        dict(bptt=bf.SlidingBPTT(k, lead), validation_split=0.25, epochs=1),
    )
    x, y = np.tile(SERIES, (1, 2)), np.roll(SERIES, 5)
    history = fit(net, x, y, **options)
    outputs = net.predict(x, readout="every")
    targets = np.arange(90, 120)
    assert history["val_loss"][0] == pytest.approx(
        ((outputs[targets - lead] - y[targets]) ** 2).mean(), rel=1e-12
    )
    other, changed = network(dtype="float64"), y.copy()
    changed[90:] += 1
    fit(other, x, changed, **options)
    np.testing.assert_array_equal(net.params, other.params)


def test_target_loss():
    losses = fit(network(), epochs=30, optimizer=bf.Adam(0.01))["loss"]
    target = losses[10]
    history = fit(network(), epochs=30, optimizer=bf.Adam(0.01), patience=bf.Stopping(target_loss=target))
    first = next(i for i, loss in enumerate(losses) if loss <= target)
    assert history["loss"] == losses[: first + 1] and history.stopped == "target_loss"


class Recorder(bf.Callback):
    def __init__(self, stop_at=None):
        self.weights, self.logs, self.events, self.stop_at = [], [], [], stop_at

    def on_train_begin(self, logs):
        self.events.append("begin")

    def on_epoch_begin(self, epoch, logs):
        self.events.append(epoch)

    def on_epoch_end(self, epoch, logs):
        self.weights.append(self.model.params.copy())
        self.logs.append(dict(logs))
        return epoch == self.stop_at

    def on_train_end(self, logs):
        self.events.append("end")


def overfitting(**options):
    """A fit whose validation loss gets worse after a while, with all weights recorded."""
    net, recorder = network(hidden_size=30), Recorder()
    y = X[:, -2:].sum(axis=(1, 2))[:, None] + Y
    history = fit(
        net, y=y, epochs=60, optimizer=bf.Adam(0.02), validation_split=0.5, callbacks=[recorder], **options
    )
    return net, history, recorder


def test_patience_and_best_weights():
    _, whole, _ = overfitting()
    best = int(np.argmin(whole["val_loss"]))
    assert 0 < best < 50, "validation does not get worse: the test proves nothing"
    for restore in (True, False):
        net, history, recorder = overfitting(patience=bf.Stopping(patience=4, restore_best=restore))
        losses = history["val_loss"]
        low = int(np.argmin(losses))
        assert len(losses) == low + 5 and history.stopped == "patience"
        np.testing.assert_array_equal(net.params, recorder.weights[low if restore else -1])
        assert history.best_epoch == (low + 1 if restore else None)


def test_best_weights_without_stopping():
    net, history, recorder = overfitting(patience=100)
    low = int(np.argmin(history["val_loss"]))
    assert history.stopped == "epochs" and 0 < low < 59
    np.testing.assert_array_equal(net.params, recorder.weights[low])


def test_min_delta():
    """Progress smaller than min_delta is no progress."""
    history = fit(network(), epochs=50, patience=bf.Stopping(patience=3, min_delta=10.0))
    assert len(history["loss"]) == 4 and history.stopped == "patience"


@pytest.mark.parametrize(
    "bptt, y", ((bf.FullBPTT(), Y), (bf.SlidingBPTT(5), X[..., :1])), ids=("full", "sliding")
)
def test_max_seconds(bptt, y):
    """Also within an epoch."""
    x, y = np.repeat(X, 200, axis=0), np.repeat(y, 200, axis=0)
    net = network(hidden_size=100)
    before, start, work = net.params.copy(), time.perf_counter(), time.process_time()
    history = fit(net, x, y, epochs=10**6, bptt=bptt, threads=1, patience=bf.Stopping(max_seconds=0.3))
    assert time.perf_counter() - start > 0.25
    assert time.process_time() - work < 0.8
    assert history.stopped == "max_seconds" and np.isfinite(net.params).all()
    assert (net.params != before).any()


def test_criteria_combine():
    rules = bf.Stopping(target_loss=1e-9, patience=3, min_delta=10.0, max_seconds=60)
    assert fit(network(), epochs=20, patience=rules).stopped == "patience"
    assert fit(network(), epochs=2, patience=rules).stopped == "epochs"
    reached = dataclasses.replace(rules, target_loss=1e9)
    assert fit(network(), epochs=20, patience=reached).stopped == "target_loss"


def test_callbacks():
    recorder, net = Recorder(stop_at=2), network()
    history = fit(net, epochs=9, callbacks=[recorder], validation_split=0.1)
    assert recorder.model is net
    assert recorder.events == ["begin", 0, 1, 2, "end"] and history.stopped == "callback"
    assert [logs["loss"] for logs in recorder.logs] == history["loss"]
    assert recorder.logs[-1].keys() == {"loss", "val_loss", "seconds"}


def test_a_callback_may_use_the_network():
    class Curious(Recorder):
        def on_epoch_end(self, epoch, logs):
            self.logs.append(self.model.evaluate(X, Y))
            self.model.predict(X[:3])

    curious, one, other = Curious(), network(), network()
    fit(one, callbacks=[curious])
    fit(other)
    np.testing.assert_array_equal(one.params, other.params)
    assert curious.logs[-1] == one.evaluate(X, Y)


def test_an_error_in_a_callback_reaches_the_caller():
    class Broken(bf.Callback):
        def on_epoch_end(self, epoch, logs):
            raise RuntimeError("mine")

    net = network()
    with pytest.raises(RuntimeError, match="mine"):
        fit(net, callbacks=[Broken()])
    one = network()
    fit(one, epochs=1)
    np.testing.assert_array_equal(net.params, one.params)


# ---- what it shows


@pytest.mark.parametrize("verbose, out, err", ((0, 0, 0), (2, 5, 0), (1, 0, 1)))
def test_verbose(verbose, out, err, capsys):
    fit(network(), verbose=verbose)
    shown = capsys.readouterr()
    assert len(shown.out.splitlines()) == out
    assert bool(shown.err) == err
    assert verbose != 2 or all(
        "loss" in line and f"{n}/5" in line for n, line in enumerate(shown.out.splitlines(), 1)
    )


def test_automatic_verbosity(capsys, monkeypatch):
    """A line an epoch where there is no terminal, a bar where there is one."""
    fit(network(), verbose="auto")
    assert len(capsys.readouterr().out.splitlines()) == 5

    class Terminal(io.StringIO):
        def isatty(self):
            return True

    monkeypatch.setattr(sys, "stderr", Terminal())
    fit(network(), verbose="auto")
    assert capsys.readouterr().out == "" and "5/5" in sys.stderr.getvalue()


# ---- divergence


@pytest.mark.parametrize(
    "bptt, y", ((bf.FullBPTT(), Y), (bf.SlidingBPTT(3), X[..., :1])), ids=("full", "sliding")
)
def test_divergence(bptt, y):
    """Named by epoch and batch; the last finite weights stay in the network."""
    net = network(nonlinearity="linear")
    with pytest.raises(bf.DivergedError) as caught:
        fit(net, y=y, epochs=50, batch_size=4, optimizer=bf.SGD(20.0), bptt=bptt)
    error = caught.value
    assert error.epoch >= 1 and error.batch >= 1
    assert (
        f"epoch {error.epoch}" in str(error)
        and str(error.batch) in str(error)
        and "learning_rate" in str(error)
    )
    assert np.isfinite(net.params).all() and (net.params != network(nonlinearity="linear").params).any()
    assert len(error.history["loss"]) == error.epoch - 1


def test_divergence_of_the_validation_loss():
    net = network(nonlinearity="linear", dtype="float64")
    huge = np.full((2, 8, 2), 1e300)
    with pytest.raises(bf.DivergedError, match=r"validation"):
        fit(net, validation_data=(huge, np.zeros((2, 1))))
    assert np.isfinite(net.params).all()


# ---- Ctrl-C


SLOW = {
    "full": dict(x=np.ones((400, 400, 2)), y=np.ones((400, 1)), batch_size=400),
    "small batches": dict(x=np.ones((4000, 20, 2)), y=np.ones((4000, 1)), batch_size=1),
    "sliding": dict(x=np.tile(SERIES, (500, 2)), y=np.tile(SERIES, (500, 1)), bptt=bf.SlidingBPTT(20)),
}


def long_fit(cell="gru", size=256, data=(32, 3000, 4), **options):
    readout = "last" if isinstance(options.get("bptt"), bf.SlidingBPTT) else "every"
    net = bf.Network(data[-1], size, data[-1], cell=cell, readout=readout, seed=0)
    return lambda: net.fit(np.ones(data), np.ones(data), epochs=10**6, verbose=0, **options)


def long_forecast():
    net = bf.Network(4, 256, 4, cell="lstm", num_layers=2, readout="every", seed=0)
    return lambda: net.forecast(np.ones((10, 4)), 600_000)


def long_outputs(evaluate):
    net = bf.Network(4, 8, 4, bidirectional=True, head=(1024, 1024), readout="every", seed=0)
    x = np.ones((16, 6000, 4))
    return lambda: net.evaluate(x, x) if evaluate else net.predict(x)


def long_epochs(net, x, y, **options):
    return lambda: net.fit(x, y, epochs=10**6, verbose=0, **options)


def wide_f():
    net = bf.Network(4, 8, 4, cell="mlp", f=(8, 2048, 2048), readout="every", seed=0)
    return long_epochs(net, np.ones((1, 6000, 4)), np.ones((1, 6000, 4)))


def many_classes():
    net, x = bf.Network(4, 128, 20_000, seed=0), np.ones((4096, 2, 4))
    return long_epochs(net, x, np.zeros(4096, int), loss="cross_entropy", batch_size=4096)


def windows_of_one_series():
    net, x = bf.Network(12_000, 256, 1, cell="lstm", seed=0), np.ones((1600, 12_000))
    return long_epochs(net, bf.Sequences.windows(x, 20), x[:, :1], batch_size=1580, shuffle=False)


LONG_CALLS = {
    "large batch": lambda: long_fit("lstm", 1024, (6000, 2, 4), batch_size=6000),
    "wide f": wide_f,
    "many classes": many_classes,
    "windows": windows_of_one_series,
    "forecast": long_forecast,
    "predict": lambda: long_outputs(False),
    "evaluate": lambda: long_outputs(True),
    "closed loop": lambda: long_fit(teacher_forcing=0.5),
    "checkpointed": lambda: long_fit(bptt=bf.CheckpointedBPTT()),
    "truncated": lambda: long_fit(bptt=bf.TruncatedBPTT(500, 1500)),
    "one pattern": lambda: long_fit(data=(9000, 4), bptt=bf.SlidingBPTT(8000)),
    "Levenberg-Marquardt": lambda: long_fit("lstm", 16, (8, 20000, 1), optimizer=bf.LevenbergMarquardt()),
}


@pytest.mark.slow
@pytest.mark.parametrize("made", LONG_CALLS.values(), ids=LONG_CALLS)
def test_interrupt_of_one_long_call(made):
    """Every way through the core hears Ctrl-C, wherever it is.  On a busy machine in one of three tries."""
    took = math.inf
    for _ in range(3):
        call = made()
        with interrupted(0.6) as sent, pytest.raises(KeyboardInterrupt):
            call()
        took = min(took, time.process_time() - sent[0])
        if took < 0.2:
            break
    assert took < 0.2, f"{took:.3f} s"


@pytest.mark.parametrize("options", SLOW.values(), ids=SLOW)
@pytest.mark.parametrize("cell", ("elman", "lstm"))
def test_interrupt(cell, options):
    """A fit ends within 0.2 s with the weights of the last finished batch, and training can go on."""
    net = network(cell=cell, hidden_size=128)
    with interrupted(0.4) as sent, pytest.raises(KeyboardInterrupt) as caught:
        fit(net, epochs=10**6, threads=1, **options)
    took = time.process_time() - sent[0]
    assert took < 0.2, f"{took:.3f} s"
    assert np.isfinite(net.params).all() and caught.value.history is not None
    (note,) = caught.value.__notes__
    epochs = len(caught.value.history["epoch"])
    assert "has the weights of the last finished update" in note and f"the {epochs} finished epochs" in note
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    before = net.params.copy()
    fit(net, epochs=1)
    assert (net.params != before).any()


@pytest.mark.parametrize(
    "method, steps", (("predict", 500_000), ("evaluate", 300_000), ("loss_and_grad", 100_000))
)
def test_interrupt_of_other_methods(method, steps):
    net = network(hidden_size=64, cell="lstm", readout="every")
    before, arrays = (
        net.params.copy(),
        [np.ones((steps, 2)), np.ones((steps, 1))][: 2 - (method == "predict")],
    )
    with interrupted(0.1) as sent, pytest.raises(KeyboardInterrupt):
        getattr(net, method)(*arrays, threads=1)
    assert time.process_time() - sent[0] < 0.2
    np.testing.assert_array_equal(net.params, before)


def test_interrupted_work_is_that_of_whole_batches():
    """The weights are those of some number of whole batches, without a trace of the one that was cut."""
    x, y = np.repeat(X, 5, axis=0), np.repeat(Y, 5, axis=0)
    options = dict(batch_size=1, optimizer=bf.SGD(0.01), shuffle=False, threads=1)
    net = network(hidden_size=64)
    with interrupted(0.1), pytest.raises(KeyboardInterrupt) as caught:
        fit(net, x, y, epochs=10**6, **options)
    again, epochs = network(hidden_size=64), len(caught.value.history["loss"])
    if epochs:
        fit(again, x, y, epochs=epochs, **options)
    for i in range(len(x) + 1):
        if (again.params == net.params).all():
            return
        fit(again, x[i : i + 1], y[i : i + 1], epochs=1, **options)
    pytest.fail("no number of whole batches gives these weights")


def test_interrupt_of_a_child(python):
    """From the outside: the exception ends the script as any Ctrl-C does."""
    code = (
        "import numpy as np, bptt_fast as bf\n"
        "net = bf.Network(2, 64, 1)\n"
        "print('ready', flush=True)\n"
        "net.fit(np.ones((1000, 100, 2)), np.ones((1000, 1)), epochs=10**6, verbose=0)"
    )
    child = python("-c", code, popen=True)
    assert child.stdout.readline() == "ready\n"
    err, took = interrupt(child, after=0.3)
    *_, name, last = err.splitlines()
    assert child.returncode == -signal.SIGINT and name == "KeyboardInterrupt"
    assert last.startswith("fit: the network has the weights of the last finished update")
    assert took < 1.0


@pytest.mark.parametrize("dtype", ("float32", "float64"))
@pytest.mark.parametrize("bptt", (bf.FullBPTT(), bf.SlidingBPTT(3)), ids=("full", "sliding"))
@pytest.mark.parametrize(
    "optimizer",
    (
        bf.SGD(1e38),
        bf.SGD(1e300),
        bf.SGD(1e30, momentum=0.9),
        bf.SGD(1e3, weight_decay=1e3),
        bf.Adam(1e38),
        bf.Adam(1e300),
    ),
)
def test_an_update_that_overflows_is_not_written(optimizer, bptt, dtype):
    """Finite losses and gradients, but a step too large: no later loss need betray it."""
    x = np.random.default_rng(0).normal(size=(64, 10, 3))
    y = x.sum(2)[:, :, None] if isinstance(bptt, bf.SlidingBPTT) else x.sum((1, 2))[:, None]
    for loss in ("mse", "mae"):
        net = bf.Network(3, 8, 1, seed=0, dtype=dtype)
        diverged = False
        try:
            net.fit(x, y, epochs=12, batch_size=64, loss=loss, optimizer=optimizer, bptt=bptt, verbose=0)
        except bf.DivergedError:
            diverged = True
        assert np.isfinite(net.params).all()
        assert diverged or (dtype == "float64" and optimizer.learning_rate < 1e290)


@pytest.mark.parametrize("wrong", (np.inf, -np.inf, np.nan), ids=str)
@pytest.mark.parametrize("name", bf.optimizers.OPTIMIZERS)
def test_parameters_that_are_not_finite(name, wrong):
    """Refused by every optimiser, whether or not the outputs are finite: the network is unchanged."""
    x = np.random.default_rng(0).normal(size=(8, 6, 2))
    for place in (0, 10, -1):
        net = bf.Network(2, 3, 2, seed=0)
        net.params[place] = wrong
        before = net.params.copy()
        with pytest.raises(bf.DivergedError, match="fit: expected finite parameters"):
            net.fit(x, x.mean(1), optimizer=name, epochs=3, verbose=0)
        np.testing.assert_array_equal(net.params, before)
        assert net.scaling is None and net.lead == 0


@pytest.mark.parametrize("name", bf.optimizers.OPTIMIZERS)
def test_parameters_that_a_callback_spoils(name):
    """After an epoch: the next one does not begin."""
    x = np.random.default_rng(0).normal(size=(8, 6, 2))
    net = bf.Network(2, 3, 2, seed=0)

    def spoil(epoch, logs):
        net.params[0] = np.inf

    spoiler = bf.callbacks.LambdaCallback(on_epoch_end=spoil)
    with pytest.raises(bf.DivergedError, match="expected finite parameters") as caught:
        net.fit(x, x.mean(1), optimizer=name, epochs=3, callbacks=spoiler, verbose=0)
    assert caught.value.history["epoch"] == [1]
