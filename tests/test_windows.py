"""Windows over one series: equal to the same windows written out, and nothing is written out."""

import tracemalloc
import warnings

import numpy as np
import pytest
from support import cases

import bptt_fast as bf

STEPS, LENGTH = 61, 7
RNG = np.random.default_rng(0)
SERIES, TARGETS = RNG.uniform(-1.5, 1.5, (STEPS, 3)), RNG.uniform(-2, 2, (STEPS, 2))
FORMS = cases.FORMS | {
    "two layers": dict(cell="lstm", activation=(), num_layers=2, head=(4,)),
    "both ways": dict(cell="gru", activation=(), bidirectional=True),
    "dropout": dict(num_layers=2, dropout=0.3, recurrent_dropout=0.2),
}


def network(every=False, dtype="float64", **form):
    return cases.Problem(lengths=(1,), every=every, gain=0.5, **form).network(dtype)


def offsets(steps, length, stride, horizon):
    """Of the windows whose targets exist; horizon None: of all."""
    last = steps - length - (horizon or 0)
    return np.arange(0, max(last, -1) + 1, stride)


def written_out(every, stride, horizon, x=SERIES, y=TARGETS, length=LENGTH):
    """The windows and their targets, by the definition."""
    at = offsets(len(x), length, stride, horizon)
    windows = np.array([x[o : o + length] for o in at])
    if every:
        return windows, np.array([y[o + horizon : o + horizon + length] for o in at])
    return windows, y[at + length - 1 + horizon]


def windows(stride, horizon, x=SERIES, length=LENGTH):
    return bf.Sequences.windows(x, length, stride=stride, horizon=horizon)


def same(got, expected, tolerance):
    for a, b in zip(got, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * np.abs(b).max())


def fits(every, stride, horizon, form, dtype, tolerance, threads=1, **options):
    """Loss and gradient, and what two epochs make of the weights."""
    ends = []
    given = dict(epochs=2, batch_size=5, optimizer=bf.SGD(0.02, momentum=0.5), verbose=0, threads=threads)
    for x, y in ((windows(stride, horizon), TARGETS), written_out(every, stride, horizon)):
        net = network(every, dtype, **form)
        history = net.fit(x, y, **given | options)
        ends.append((np.array(history["loss"]), *(net[k] for k in net)))
    same(*ends, tolerance)


@pytest.mark.parametrize("every", (False, True), ids=("last", "every"))
@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_fit_of_every_cell(form, every):
    for shuffle in (False, True):
        fits(every, 1, 1, form, "float64", 1e-12, shuffle=shuffle)
    fits(every, 2, 0, form, "float32", 1e-4)


@pytest.mark.parametrize("every", (False, True), ids=("last", "every"))
@pytest.mark.parametrize("horizon", (0, 1, 3))
@pytest.mark.parametrize("stride", (1, 2, 3, 7, 10))
def test_fit(stride, horizon, every):
    for shuffle in (False, True):
        fits(every, stride, horizon, dict(cell="lstm", activation=()), "float64", 1e-12, shuffle=shuffle)
        fits(every, stride, horizon, dict(), "float32", 1e-4, shuffle=shuffle)


def parts_of_split(stride, horizon, split, every):
    """Windows written out, those before and those after row `begin` of the series, by the definition."""
    begin = int(np.floor(STEPS * (1 - split) + 1e-9))
    at, (x, y) = offsets(STEPS, LENGTH, stride, horizon), written_out(every, stride, horizon)
    before, after = at + LENGTH - 1 + horizon < begin, at >= begin
    return (x[before], y[before]), (x[after], y[after]), int((~before & ~after).sum())


@pytest.mark.parametrize("every", (False, True), ids=("last", "every"))
@pytest.mark.parametrize("horizon", (0, 1, 3))
@pytest.mark.parametrize("stride", (1, 2, 7, 10))
def test_validation_shares_no_row(stride, horizon, every):
    """Equal to the two parts given by hand; the rest is counted."""
    given = dict(epochs=2, batch_size=5, optimizer=bf.Adam(0.02), scaling="standard", verbose=0)
    for split, bptt in ((0.25, None), (0.4, bf.TruncatedBPTT(3)), (0.4, bf.CheckpointedBPTT())):
        training, validation, between = parts_of_split(stride, horizon, split, every)
        net, by_hand = network(every), network(every)
        by_hand.scaling = net.scaling = None
        got = net.fit(windows(stride, horizon), TARGETS, validation_split=split, bptt=bptt, **given)
        given_scaling = given | {"scaling": net.scaling}
        expected = by_hand.fit(*training, validation_data=validation, bptt=bptt, **given_scaling)
        np.testing.assert_allclose(got["loss"], expected["loss"], rtol=1e-12)
        np.testing.assert_allclose(got["val_loss"], expected["val_loss"], rtol=1e-12)
        assert got.left_out == between and expected.left_out == 0
        seen = offsets(STEPS, LENGTH, stride, horizon)[: len(training[0])]
        rows = np.unique(seen[:, None] + np.arange(LENGTH))
        np.testing.assert_allclose(net.scaling.input_mean, SERIES[rows].mean(axis=0), rtol=1e-12)


def test_validation_of_noise():
    """Held-out windows have the loss of rows never seen, far above the training loss."""
    noise = np.random.default_rng(0).normal(size=(400, 1))
    net = bf.Network(1, 24, 1, cell="gru", readout="every", seed=0)
    history = net.fit(
        bf.Sequences.windows(noise[:300], 30), noise[:300], epochs=40, optimizer=bf.Adam(0.02),
        validation_split=0.3, verbose=0,
    )  # fmt: skip
    unseen = net.evaluate(bf.Sequences.windows(noise[300:], 30), noise[300:])
    assert history["loss"][-1] < 0.3
    assert abs(history["val_loss"][-1] / unseen - 1) < 0.5


def test_validation_weights_and_state():
    """Weights are those of each part's windows; a stateful fit keeps the states of training windows."""
    x, y = windows(4, 1), TARGETS
    kept = len(parts_of_split(4, 1, 0.4, False)[0][0])
    weight = np.ones(STEPS)
    weight[37:] = 0
    for gap in (weight, 1 - weight):
        with pytest.raises(bf.ConfigError, match="each side of validation_split"):
            network().fit(x, y, sample_weight=gap, validation_split=0.4, verbose=0)
    net = network()
    net.fit(x, y, stateful=True, validation_split=0.4, verbose=0)
    assert len(net.carried_states) == kept
    net.fit(x, y, stateful=True, validation_split=0.4, verbose=0)


@pytest.mark.parametrize("split", (0.01, 0.1, 0.89, 0.99))
def test_nothing_remains(split):
    net = network()
    before = net.params.copy()
    with pytest.raises(bf.ConfigError, match=r"validation_split.*on each side"):
        net.fit(windows(1, 1), TARGETS, validation_split=split, verbose=0)
    with pytest.raises(bf.ConfigError, match=r"validation_split.*on each side"):
        net.fit(windows(1, 1), TARGETS, validation_split=split, scaling="standard", verbose=0)
    np.testing.assert_array_equal(net.params, before)


def test_views_that_overlap_are_reported():
    view = np.lib.stride_tricks.sliding_window_view(SERIES, LENGTH, axis=0).swapaxes(1, 2)
    net, y = network(), TARGETS[LENGTH - 1 :]
    for x in (view, [SERIES[o : o + LENGTH] for o in range(len(view))]):
        with pytest.warns(UserWarning, match=r"validation_split.*Sequences.windows") as caught:
            net.fit(x, y, validation_split=0.2, verbose=0)
        assert [one.filename for one in caught] == [__file__]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        net.fit(view, y, verbose=0)
        for x in (view[::LENGTH], np.asfortranarray(view), view.copy(), list(view.copy())):
            net.fit(x, y[: len(x)], validation_split=0.2, verbose=0)


@pytest.mark.parametrize("optimizer", (bf.Adam(0.01), bf.SGD(0.02)), ids=("adam", "sgd"))
def test_optimizers_and_initial_states(optimizer):
    fits(False, 2, 1, dict(), "float64", 1e-10, optimizer=optimizer, x0=np.full(5, 0.3))


@pytest.mark.parametrize("every", (False, True), ids=("last", "every"))
def test_defaults(every):
    """Stride 1 and horizon 1."""
    one, other = network(every), network(every)
    one.fit(bf.Sequences.windows(SERIES, LENGTH), TARGETS, verbose=0)
    other.fit(windows(1, 1), TARGETS, verbose=0)
    np.testing.assert_array_equal(one.params, other.params)


@pytest.mark.parametrize("every", (False, True), ids=("last", "every"))
@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_loss_and_gradient(form, every):
    for horizon in (0, 1, 3):
        ends = []
        for x, y in ((windows(2, horizon), TARGETS), written_out(every, 2, horizon)):
            net = network(every, **form)
            value, grads = net.loss_and_grad(x, y)
            ends.append(([value], *grads.values(), [net.evaluate(x, y)]))
        same(*ends, 1e-12)


@pytest.mark.parametrize("readout", ("last", "every"))
@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_predict(form, readout):
    """All windows whose inputs exist, whatever the horizon."""
    for dtype, tolerance in (("float64", 1e-12), ("float32", 1e-5)):
        net = network(dtype=dtype, **form)
        for stride in (1, 3):
            x = written_out(False, stride, 0)[0]
            expected = net.predict(x, readout=readout, return_state=True)
            for horizon in (0, 3):
                got = net.predict(windows(stride, horizon), readout=readout, return_state=True)
                assert got[0].shape == expected[0].shape
                same(got, expected, tolerance)


@pytest.mark.parametrize("every", (False, True), ids=("last", "every"))
def test_weights_of_rows(every):
    """One a row of the series, as the targets; what has none, or belongs to no window, may be anything."""
    weight = RNG.uniform(0.1, 2, STEPS)
    weight[::7] = 0
    targets = TARGETS.copy()
    targets[::7] = np.nan
    targets[:3] = np.nan
    at = written_out(every, 2, 3, y=weight)[1]
    ends = []
    for x, y, w in (
        (windows(2, 3), targets, weight),
        (*written_out(every, 2, 3, y=np.nan_to_num(targets)), at),
    ):
        net = network(every)
        ends.append((net.fit(x, y, sample_weight=w, epochs=2, verbose=0)["loss"], *(net[k] for k in net)))
    same(*ends, 1e-12)


def test_classes():
    """One class a row of the series."""
    classes = RNG.integers(2, size=STEPS)
    ends = []
    for x, y in ((windows(1, 1), classes), written_out(False, 1, 1, y=classes)):
        net = network()
        ends.append((net.fit(x, y, loss="cross_entropy", verbose=0)["loss"], *(net[k] for k in net)))
    same(*ends, 1e-12)


@pytest.mark.parametrize("every", (False, True), ids=("last", "every"))
@pytest.mark.parametrize("stride", (1, 3))
def test_threads(stride, every):
    """Equal bits, on a plan that is large enough for several."""
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(400, 24)), rng.normal(size=(400, 2))
    ends = []
    for threads in (1, 2, 3):
        net = network(every, "float32", input_size=24, hidden_size=64, cell="gru", activation=())
        found = windows(stride, 1, x, 32)
        losses = net.fit(found, y, epochs=2, batch_size=64, shuffle=stride == 3, threads=threads, verbose=0)[
            "loss"
        ]
        ends.append((net.params.tobytes(), *losses, net.predict(found, threads=threads).tobytes()))
    assert ends[0] == ends[1] == ends[2]


@pytest.mark.parametrize("isa", cases.isas())
def test_every_instruction_set(isa):
    for hidden_size in (1, 7, 17):
        fits(True, 1, 1, dict(hidden_size=hidden_size), "float64", 1e-12, isa=isa, shuffle=False)


def test_one_window():
    """As long as the series, if the targets do not lie behind it."""
    ends = []
    for x, y in ((windows(1, 0, length=STEPS), TARGETS), (SERIES[None], TARGETS[-1:])):
        net = network()
        ends.append((net.fit(x, y, verbose=0)["loss"], *(net[k] for k in net)))
    same(*ends, 1e-12)


# ---- nothing is copied


@pytest.mark.parametrize("dtype", ("float32", "float64"))
def test_the_series_is_not_copied(dtype):
    series = SERIES.astype(dtype)
    before = series.copy()
    found = windows(1, 1, series)
    assert isinstance(found, bf.Sequences) and np.shares_memory(found.values, series)
    network(dtype=dtype).fit(found, TARGETS, verbose=0)
    assert np.shares_memory(found.values, series)
    np.testing.assert_array_equal(series, before)


@pytest.mark.parametrize("every", (False, True), ids=("last", "every"))
def test_memory(every):
    """The series and a batch in the arena: far from n windows of k steps."""
    n, length = 20_000, 100
    x, y = np.ones((n, 8), np.float32), np.zeros((n, 2), np.float32)
    net = network(every, "float32", input_size=8, hidden_size=4)
    found = windows(1, 1, x, length)
    options = dict(batch_size=8, threads=1, shuffle=False, patience=bf.Stopping(max_seconds=0.1), verbose=0)
    tracemalloc.start()
    try:
        net.fit(found, y, **options)
        net.predict(windows(50, 1, x, length), batch_size=8, threads=1)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 4 * x.nbytes < n * length * 8 * 4 / 20, peak


def test_windows_may_be_used_again():
    """By other networks, of another dtype, and with other targets."""
    found, expected = windows(2, 1), written_out(False, 2, 1)
    for dtype in ("float64", "float32", "float64"):
        for sign in (1, -1):
            one, other = network(dtype=dtype), network(dtype=dtype)
            one.fit(found, sign * TARGETS, verbose=0)
            other.fit(expected[0], sign * expected[1], verbose=0)
            same([one.params], [other.params], 1e-12 if dtype == "float64" else 1e-4)


# ---- error messages

NAN = SERIES.copy()
NAN[17, 2] = np.nan
WRONG_WINDOWS = {
    "longer than the series": ((SERIES, STEPS + 1), dict(), bf.ShapeError, ("61", "62")),
    "length zero": ((SERIES, 0), dict(), bf.ConfigError, ("length", "0")),
    "stride zero": ((SERIES, 5), dict(stride=0), bf.ConfigError, ("stride", "0")),
    "stride: a fraction": ((SERIES, 5), dict(stride=1.5), bf.ConfigError, ("stride", "1.5")),
    "horizon below zero": ((SERIES, 5), dict(horizon=-1), bf.ConfigError, ("horizon", "-1")),
    "many series": ((SERIES[None], 5), dict(), bf.ShapeError, ("(1, 61, 3)",)),
    "text": ((SERIES.astype(str), 5), dict(), bf.ConfigError, ("<U",)),
}
WRONG_CALLS = {
    "features": ((SERIES[:, :2], 5), dict(), dict(), bf.ShapeError, ("3", "2", "input_size")),
    "NaN": ((NAN, 5), dict(), dict(), bf.ConfigError, ("nan", "17", "2")),
    "a row a window": ((SERIES, 5), dict(y=TARGETS[:56]), dict(), bf.ShapeError, ("y", "(61, 2)", "(56, 2)")),
    "no window has a target": ((SERIES, STEPS), dict(), dict(horizon=1), ValueError, ("horizon",)),
    "lengths": ((SERIES, 5), dict(lengths=np.full(56, 5)), dict(), bf.ConfigError, ("lengths",)),
}  # fmt: skip


@pytest.mark.parametrize("arguments, options, error, words", WRONG_WINDOWS.values(), ids=WRONG_WINDOWS)
def test_wrong_windows(arguments, options, error, words):
    with pytest.raises(error) as caught:
        bf.Sequences.windows(*arguments, **options)
    assert all(map(str(caught.value).__contains__, words)), caught.value


@pytest.mark.parametrize("arguments, given, options, error, words", WRONG_CALLS.values(), ids=WRONG_CALLS)
def test_wrong_calls(arguments, given, options, error, words):
    net = network()
    before = net.params.copy()
    with pytest.raises(error) as caught:
        net.fit(bf.Sequences.windows(*arguments, **options), **dict(y=TARGETS, verbose=0) | given)
    assert all(map(str(caught.value).__contains__, words)), caught.value
    np.testing.assert_array_equal(net.params, before)
