"""Tables, of pandas, polars and Arrow: columns by name, the same kind out as in, the index carried on."""

import datetime
import io
from functools import partial

import numpy as np
import pytest

import bptt_fast as bf
from bptt_fast import cli
from bptt_fast.columns import continued

pandas = pytest.importorskip("pandas")

T = np.arange(60.0)
VALUES = np.column_stack((np.sin(T / 4), 3 + np.cos(T / 5)))
CET = "Europe/Berlin"
HOURS = pandas.date_range("2024-03-30 20:00", periods=60, freq="h", tz=CET, name="when")
NAMES = ["load", "temp"]
FRAME = pandas.DataFrame(VALUES, columns=NAMES, index=HOURS)
SWAPPED = FRAME[["temp", "load"]]


def fitted(x=FRAME, y=FRAME, **options):
    net = bf.Network(2, 5, 2, dtype="float64", seed=0)
    net.fit(x, y, **dict(bptt=bf.SlidingBPTT(4), epochs=2, verbose=0) | options)
    return net


def polars(frame):
    return pytest.importorskip("polars").DataFrame({name: frame[name].to_numpy() for name in frame.columns})


def test_arrow_tables():
    """By name too; what comes out is an Arrow table."""
    arrow = pytest.importorskip("pyarrow")
    table = arrow.table({name: FRAME[name].to_numpy() for name in NAMES})
    net, plain = fitted(table, table), fitted(VALUES, VALUES)
    for one in (table, table.select(["temp", "load"]), table.to_batches()[0].select([1, 0]), SWAPPED):
        np.testing.assert_array_equal(net.predict(one), plain.predict(VALUES))
        got = net.predict(one, readout="every")
        assert type(got) is type(one)
        loss = net.evaluate(one, table.select(["temp", "load"]), readout="every")
        assert loss == plain.evaluate(VALUES, VALUES, readout="every")
    ahead = net.forecast(table, 3)
    assert ahead.column_names == NAMES
    np.testing.assert_array_equal(np.asarray(ahead), plain.forecast(VALUES, 3))
    with pytest.raises(bf.ShapeError, match="x: column 'temp'"):
        net.predict(table.rename_columns(["load", "wind"]))


@pytest.mark.parametrize("kind", (pandas.DataFrame, polars))
def test_columns_are_taken_by_name(kind, tmp_path):
    """In any order, in fit, predict, evaluate and forecast; also by way of a file."""
    plain, expected = fitted(VALUES, VALUES), fitted(VALUES, VALUES).predict(VALUES, readout="every")
    assert plain.input_names is plain.output_names is None
    net = fitted(kind(FRAME), kind(FRAME))
    assert np.array_equal(net.params, plain.params) and net.input_names == net.output_names == (
        "load",
        "temp",
    )
    net.save(tmp_path / "m")
    for one in (net, bf.load(tmp_path / "m")):
        for frame in (FRAME, SWAPPED):
            got = one.predict(kind(frame), readout="every")
            assert type(got) is type(kind(frame)) and list(got.columns) == NAMES
            np.testing.assert_array_equal(got.to_numpy(), expected)
            np.testing.assert_array_equal(one.predict(kind(frame)), plain.predict(VALUES))
            loss = one.evaluate(kind(frame), kind(SWAPPED), readout="every")
            assert loss == plain.evaluate(VALUES, VALUES, readout="every")
            ahead = one.forecast(kind(frame), 3)
            assert type(ahead) is type(kind(frame)) and list(ahead.columns) == NAMES
            np.testing.assert_array_equal(ahead.to_numpy(), plain.forecast(VALUES, 3))
    again = fitted(kind(FRAME), kind(FRAME))
    again.fit(kind(SWAPPED), kind(SWAPPED), bptt=bf.SlidingBPTT(4), verbose=0)
    net.fit(VALUES, VALUES, bptt=bf.SlidingBPTT(4), verbose=0)
    assert np.array_equal(again.params, net.params)


@pytest.mark.parametrize("kind", (pandas.DataFrame, polars))
def test_other_forms(kind):
    """Lists and windows of tables, validation data, gradients by inputs."""
    net, plain = fitted(kind(FRAME), kind(FRAME)), fitted(VALUES, VALUES)
    for readout in ("last", "every"):
        got = net.predict([kind(FRAME[:20]), kind(SWAPPED[20:])], readout=readout)
        expected = plain.predict([VALUES[:20], VALUES[20:]], readout=readout)
        for a, b in zip(got, expected, strict=True):
            np.testing.assert_array_equal(a, b)
    assert type(got[0]) is type(kind(FRAME)) and list(got[1].columns) == NAMES
    windows = bf.Sequences.windows(kind(SWAPPED), 8)
    expected = plain.predict(bf.Sequences.windows(VALUES, 8))
    np.testing.assert_array_equal(net.predict(windows), expected)
    first, second = net.forecast([kind(FRAME[:20]), kind(SWAPPED[20:])], 3)
    np.testing.assert_allclose(second, plain.forecast(VALUES[20:], 3), rtol=1e-12)
    assert type(first) is type(kind(FRAME))
    records = [
        bf.Network(2, 5, 2, seed=0).fit(x, y, bptt=bf.SlidingBPTT(4), validation_data=more, verbose=0)
        for x, y, more in (
            (kind(FRAME), kind(FRAME), (kind(SWAPPED), kind(SWAPPED))), (VALUES, VALUES, (VALUES, VALUES)),
        )
    ]  # fmt: skip
    assert records[0]["val_loss"] == records[1]["val_loss"]
    _, grads = bf.Network(2, 5, 1, seed=0).loss_and_grad(kind(SWAPPED), [0.5], with_inputs=True)
    assert list(grads["x"].columns) == ["temp", "load"]


def test_the_index_comes_back():
    net = fitted()
    got = net.predict(SWAPPED, readout="every")
    assert got.index.equals(HOURS) and got.index.name == "when"
    parts = net.predict([FRAME[:7], FRAME[7:]], readout="every")
    assert parts[1].index.equals(HOURS[7:])
    got, state = net.predict(FRAME, readout="every", return_state=True)
    assert got.shape == (60, 2) and state.shape == (5,)
    numbered = net.predict(FRAME.reset_index(drop=True), readout="every")
    assert list(numbered.index) == list(range(60))


def test_series():
    """One in, one out, if there is one output; else a frame."""
    one = FRAME["load"]
    net = bf.Network(1, 5, 1, dtype="float64", seed=0)
    net.fit(one, one, bptt=bf.SlidingBPTT(4), verbose=0)
    assert net.input_names == net.output_names == ("load",)
    plain = bf.Network(1, 5, 1, dtype="float64", seed=0)
    plain.fit(VALUES[:, :1], VALUES[:, 0], bptt=bf.SlidingBPTT(4), verbose=0)
    got = net.predict(one, readout="every")
    assert type(got) is pandas.Series and got.name == "load" and got.index.equals(HOURS)
    np.testing.assert_array_equal(got, plain.predict(VALUES[:, :1], readout="every")[:, 0])
    ahead = net.forecast(one, 2)
    assert type(ahead) is pandas.Series and str(ahead.index[0]) == "2024-04-02 09:00:00+02:00"
    with pytest.raises(bf.ShapeError, match="column 'load': expected one of temp"):
        net.predict(FRAME["temp"])
    two = bf.Network(1, 5, 2, seed=0).predict(one, readout="every")
    assert type(two) is pandas.DataFrame and two.shape == (60, 2)
    polars = pytest.importorskip("polars")
    column = polars.Series("load", VALUES[:, 0])
    got = net.forecast(column, 2)
    assert type(got) is polars.Series and got.name == "load"
    np.testing.assert_array_equal(got.to_numpy(), ahead)


def test_a_series_has_a_name():
    """It is checked as a column's, for inputs and targets; without one it is taken as an array is."""
    load, unnamed = FRAME["load"], FRAME["load"].rename(None)
    net = bf.Network(1, 5, 1, dtype="float64", seed=0)
    online = dict(bptt=bf.SlidingBPTT(4), verbose=0)
    net.fit(unnamed, unnamed, **online)
    assert net.input_names is net.output_names is None
    assert net.predict(unnamed, readout="every").name is None
    net.fit(load, load, **online)
    assert net.input_names == net.output_names == ("load",)
    loss = net.evaluate(load, load, readout="every")
    assert (
        net.evaluate(unnamed, unnamed, readout="every")
        == loss
        == net.evaluate(bf.Sequences.windows(unnamed, 60, horizon=0), unnamed, readout="every")
    )
    before = net.params.copy()
    for wrong in (load.rename("temp"), load.rename(0), FRAME[["temp"]]):
        for call in (
            lambda y: net.evaluate(load, y, readout="every"),
            lambda y: net.fit(load, y, **online),
            lambda y: net.fit(load, load, validation_data=(load, y), **online),
        ):
            with pytest.raises(bf.ShapeError, match="column 'load': expected one of"):
                call(wrong)
    assert np.array_equal(net.params, before) and net.output_names == ("load",)
    polars = pytest.importorskip("polars")
    assert net.evaluate(load, polars.Series(VALUES[:, 0]), readout="every") == loss
    with pytest.raises(bf.ShapeError, match="y: column 'load'"):
        net.evaluate(load, polars.Series("temp", VALUES[:, 0]), readout="every")


DAYS = pandas.date_range("2024-01-01", periods=2)
LABELS = {
    "int": ([3, 1], (3, 1)),
    "default": (None, (0, 1)),
    "tuple": ([("a", 1), ("b", 2)], (("a", 1), ("b", 2))),
    "nested": ([("a", (1, DAYS[0])), 2.5], (("a", (1, "2024-01-01 00:00:00")), 2.5)),
    "bool and str": ([True, "x"], (True, "x")),
    "date": ([datetime.date(2024, 1, 1), datetime.date(2024, 1, 2)], ("2024-01-01", "2024-01-02")),
    "timestamp": (DAYS, ("2024-01-01 00:00:00", "2024-01-02 00:00:00")),
    "period": (pandas.period_range("2020-01", periods=2, freq="M"), ("2020-01", "2020-02")),
    "category": (pandas.CategoricalIndex(["u", "v"]), ("u", "v")),
    "gap": (pandas.Index([None, 1], dtype=object), ("None", 1)),
}


@pytest.mark.parametrize("labels, names", LABELS.values(), ids=LABELS)
def test_every_label_is_a_name(labels, names, tmp_path):
    """Order is checked, labels come back, also by way of files."""
    frame = pandas.DataFrame(VALUES, columns=labels)
    swapped = frame.iloc[:, [1, 0]]
    net = fitted(frame, frame)
    assert net.input_names == net.output_names == names
    assert [type(name) for name in net.input_names] == [type(name) for name in names]
    net.save(tmp_path / "m")
    again = bf.load(tmp_path / "m")
    assert again.columns == net.columns
    expected = fitted(VALUES, VALUES)
    for one in (net, again):
        for x in (frame, swapped):
            got = one.predict(x, readout="every")
            assert got.columns.equals(frame.columns)
            np.testing.assert_array_equal(got, expected.predict(VALUES, readout="every"))
            np.testing.assert_array_equal(one.forecast(x, 3), expected.forecast(VALUES, 3))
        with pytest.raises(bf.ShapeError, match=r"x: column .* expected one of load, temp"):
            one.predict(FRAME)
        with pytest.raises(bf.ShapeError, match="y: column"):
            one.evaluate(frame, frame.iloc[:, [0]].assign(other=1.0), readout="every")
    twice = pandas.DataFrame(VALUES, columns=[0, 0])
    with pytest.raises(bf.ConfigError, match="expected different names, got 0 more than once"):
        fitted(twice, twice)


def test_labels_of_a_forecaster():
    """scikit-learn compares names that are str only."""
    pytest.importorskip("sklearn")
    from bptt_fast.estimators import RNNForecaster

    frame = pandas.DataFrame(VALUES, columns=[("a", 1), ("b", 2)])
    model = RNNForecaster(5, horizon=3, window=20, max_iter=2, tol=1e9, n_iter_no_change=1, random_state=0)
    expected = model.fit(frame).predict(frame)
    assert expected.columns.equals(frame.columns)
    pandas.testing.assert_frame_equal(model.predict(frame.iloc[:, [1, 0]]), expected)
    with pytest.raises(ValueError, match="column"):
        model.predict(pandas.DataFrame(VALUES, columns=[("a", 1), ("c", 2)]))


OFFSETS = pandas.tseries.offsets
RULES = [
    OFFSETS.Day(), OFFSETS.Day(2), OFFSETS.Hour(), OFFSETS.Hour(24), OFFSETS.Minute(-90), OFFSETS.BDay(),
    OFFSETS.Week(), OFFSETS.Week(weekday=2), OFFSETS.MonthEnd(), OFFSETS.MonthBegin(), OFFSETS.BMonthEnd(),
    OFFSETS.QuarterEnd(startingMonth=12), OFFSETS.YearBegin(), OFFSETS.SemiMonthBegin(),
    OFFSETS.BusinessHour(), OFFSETS.DateOffset(months=1), OFFSETS.Day(-1),
    OFFSETS.CustomBusinessDay(weekmask="Mon Wed Fri"),
]  # fmt: skip
ZONES = (None, "UTC", CET, "America/New_York", "Australia/Lord_Howe")
REGULAR = {
    f"{type(rule).__name__} {n} {zone}": pandas.date_range("2024-03-20 13:37", periods=40, freq=rule, tz=zone)
    for n, rule in enumerate(RULES) for zone in ZONES
} | {
    "range": pandas.RangeIndex(5, 205, 5),
    "range down": pandas.RangeIndex(205, 5, -5),
    "int": pandas.Index(np.arange(0, 280, 7)),
    "int down": pandas.Index(np.arange(280, 0, -7)),
    "int, with gaps allowed": pandas.Index(pandas.array(range(40), dtype="Int64")),
    "large": pandas.Index(np.arange(40, dtype=np.uint64) + np.uint64(2**63)),
    "float": pandas.Index(np.arange(40) * 0.1),
    "float down": pandas.Index(7.5 - np.arange(40) * 0.25),
    "lapses": pandas.timedelta_range("1h", periods=40, freq=OFFSETS.Minute(90)),
    "months": pandas.period_range("2020-01", periods=40, freq="M"),
    "quarters": pandas.period_range("2020-01", periods=40, freq="3M"),
    "days down": pandas.period_range("2020-01-01", periods=40, freq="D")[::-1],
    "every third month": pandas.period_range("2020-01", periods=120, freq="M")[::3],
}  # fmt: skip


@pytest.mark.parametrize("index", REGULAR.values(), ids=REGULAR)
def test_a_cut_index_goes_on_as_it_did(index):
    """What follows the first n labels are the others, whether pandas knows the frequency or not."""
    bare = index.rename("when")
    rule = getattr(bare, "freq", None)
    cuts = [bare[:3], bare[:25], bare[:39]]
    if hasattr(bare, "tz") or index.dtype.kind == "m":
        bare.freq = None
        if type(rule).__name__ in ("SemiMonthBegin", "DateOffset", "CustomBusinessDay"):
            with pytest.raises(bf.ConfigError, match="expected an index with a frequency"):
                continued(pandas.Series(0.0, index=bare[:30]), 10, "forecast")
        else:
            cuts.append(bare[:30])
    for cut in cuts:
        got = continued(pandas.Series(0.0, index=cut), 40 - len(cut), "forecast")
        assert got.equals(index[len(cut) :]) and got.dtype == index.dtype and got.name == "when"


def test_days_of_another_zone():
    """They are 24 hours apart, not as the calendar counts."""
    days = pandas.date_range("2024-03-10", periods=40, tz="UTC").tz_convert(CET)
    assert continued(pandas.Series(0.0, index=days[:30]), 10, "forecast").equals(days[30:])


@pytest.mark.parametrize("labels", (
    np.linspace(0, 7, 61), np.cumsum(np.full(61, 0.1)), 1.7e9 + np.arange(61) * 0.01,
    np.linspace(0, 1, 61).astype(np.float32),
), ids=("linspace", "sums", "seconds", "float32"))  # fmt: skip
def test_floats_go_on_up_to_rounding(labels):
    got = continued(pandas.Series(0.0, index=pandas.Index(labels[:40])), 21, "forecast")
    assert got.dtype == labels.dtype
    np.testing.assert_allclose(got, labels[40:], rtol=8 * np.finfo(labels.dtype).eps)


@pytest.mark.parametrize("decimals, first", ((1, 0), (1, 2000), (3, 5), (6, -1)))
def test_floats_that_were_read_from_text(decimals, first):
    """0.3 is not 3 * 0.1; the continuation is what would have been read."""
    labels = np.array([float(f"{first + i / 10**decimals:.{decimals}f}") for i in range(60)])
    got = continued(pandas.Series(0.0, index=pandas.Index(labels[:40])), 20, "forecast")
    assert list(got) == list(labels[40:])


def test_labels_beyond_their_type():
    index = pandas.Index(np.array([250, 252, 254], np.uint8))
    assert list(continued(pandas.Series(0.0, index=index), 2, "forecast")) == [256, 258]


INDICES = {
    "months": (pandas.date_range("2020-01-31", periods=60, freq="ME"), ["2025-01-31", "2025-02-28"]),
    "working days": (pandas.bdate_range("2024-01-01", periods=60), ["2024-03-25", "2024-03-26"]),
    "inferred": (pandas.DatetimeIndex(list(HOURS)), [f"2024-04-02 {h}:00:00+02:00" for h in ("09", "10")]),
    "periods": (pandas.period_range("1900", periods=60, freq="Y"), ["1960", "1961"]),
    "lapses": (pandas.timedelta_range("1h", periods=60, freq="h"), ["2 days 13:00:00", "2 days 14:00:00"]),
    "numbers": (pandas.RangeIndex(5, 65), ["65", "66"]),
    "even numbers": (pandas.Index(range(0, 120, 2)), ["120", "122"]),
}  # fmt: skip


@pytest.mark.parametrize("index, ahead", INDICES.values(), ids=INDICES)
@pytest.mark.filterwarnings("error")
def test_the_index_goes_on(index, ahead):
    net = fitted()
    index = index.rename("when")
    got = net.forecast(FRAME.set_axis(index), 2)
    assert [str(label).removesuffix(" 00:00:00") for label in got.index] == ahead
    assert got.index.name == "when" and got.index.dtype == index.dtype
    longer = net.forecast(FRAME.set_axis(index), 9)
    assert len(longer) == 9 and longer.index.is_monotonic_increasing


IRREGULAR = {
    "a gap": HOURS.delete(30),
    "two": HOURS[[0, 5]],
    "words": pandas.Index(["a", "b", "c"]),
    "uneven": pandas.Index([1, 2, 4]),
    "the same": pandas.Index([5, 5, 5]),
    "the same date": pandas.DatetimeIndex([HOURS[0]] * 4),
    "one": pandas.Index([3]),
    "periods, a gap": pandas.period_range("2020-01", periods=9, freq="M").delete(4),
    "two periods": pandas.PeriodIndex(["2020-01", "2020-05"], freq="M"),
    "no period": pandas.PeriodIndex(["2020-01", "NaT", "2020-03"], freq="M"),
    "no date": pandas.DatetimeIndex(["2024-01-01", None, "2024-01-03"]),
    "no lapse": pandas.TimedeltaIndex(["1h", None, "3h"]),
    "lapses too long": pandas.TimedeltaIndex([2**62, 2**62 + 2**60]),
    "uneven floats": pandas.Index([0.5, 1.0, 2.0]),
    "no float": pandas.Index([1.0, np.nan, 3.0]),
    "rounded floats": pandas.Index([1e16, 1e16 + 2, 1e16 + 8]),
    "equal modulo 256": pandas.Index(np.array([0, 128, 0], np.uint8)),
    "bool": pandas.Index([True, False]),
    "categories": pandas.CategoricalIndex([1, 2, 3]),
    "levels": pandas.MultiIndex.from_product([[1, 2], [3, 4]]),
    "intervals": pandas.IntervalIndex.from_breaks([1, 2, 3]),
    "objects": pandas.Index([1, 2, 3], dtype=object),
    "a time that the clock skips": pandas.date_range("2024-03-20 02:30", periods=11, tz=CET),
}


@pytest.mark.parametrize("index", IRREGULAR.values(), ids=IRREGULAR)
def test_an_index_that_cannot_go_on(index):
    net = fitted()
    with pytest.raises(bf.ConfigError, match="forecast: expected an index with a frequency"):
        net.forecast(FRAME[: len(index)].set_axis(index), 3)
    assert net.forecast(FRAME[: len(index)].set_axis(index).to_numpy(), 3).shape == (3, 2)


WRONG = {
    "missing": (FRAME[["load"]], "x: column 'temp': expected one of load, got no such column"),
    "extra": (FRAME.assign(wind=1.0), r"x: column 'wind': expected load, temp only.*x\[\['load', 'temp'\]\]"),
    "renamed": (FRAME.rename(columns={"load": "Load"}), "x: column 'load': expected one of Load, temp"),
    "twice": (FRAME[["load", "temp", "load"]], "x: column 'load': .* got 2 columns of that name"),
    "in a list": ([FRAME, FRAME[["load"]]], r"x\[1\]: column 'temp'"),
    "windows": (bf.Sequences.windows(FRAME[["temp"]], 5), "x: column 'load'"),
    "a gap": (FRAME.mask(FRAME > 3.99), r"x: expected finite numbers .* column 1 \('temp'\)"),
}  # fmt: skip


@pytest.mark.parametrize("x, words", WRONG.values(), ids=WRONG)
def test_wrong_columns(x, words):
    net = fitted()
    before = net.params.copy()
    for call in (net.predict, lambda x: net.fit(x, FRAME, verbose=0)):
        with pytest.raises((bf.ShapeError, bf.ConfigError), match=words):
            call(x)
    assert np.array_equal(net.params, before) and net.input_names == ("load", "temp")


def test_dates_are_no_numbers():
    polars = pytest.importorskip("polars")
    frame = polars.DataFrame({"load": VALUES[:, 0], "temp": HOURS.tz_localize(None).to_numpy()})
    for wrong in (frame, frame["temp"], FRAME.assign(temp=HOURS), frame.to_arrow()):
        with pytest.raises((bf.ConfigError, bf.ShapeError), match="x: expected"):
            bf.Network(len(wrong.shape), 5, 1, seed=0).predict(wrong)


def test_wrong_targets():
    net = fitted()
    with pytest.raises(bf.ShapeError, match="y: column 'temp'"):
        net.evaluate(FRAME, FRAME[["load"]].assign(wind=1.0), readout="every")
    with pytest.raises(bf.ConfigError, match=r"y: expected finite .*\('load'\)"):
        net.evaluate(FRAME, FRAME.mask(FRAME < -0.9), readout="every")


def test_outputs_go_where_their_names_are():
    """In a forecast; the same as with next_input, whatever the scaling; by place if no name agrees."""
    own = bf.Scaling([0.5, 3.0], [0.7, 0.6], [2.5, 0.1], [0.5, 0.8])
    for scaling in (None, "standard", bf.Scaling([0.5, 3.0], [0.7, 0.6]), own):
        net = fitted(FRAME, SWAPPED, scaling=scaling)
        assert net.output_names == ("temp", "load")
        expected = net.forecast(FRAME, 9, next_input=lambda y, step: y[::-1])
        pandas.testing.assert_frame_equal(net.forecast(FRAME, 9), expected)
        several = net.forecast(np.stack([VALUES, VALUES[::-1]]), 9)
        np.testing.assert_allclose(several[0], expected, rtol=1e-12)
        net.output_names = None
        assert abs(net.forecast(FRAME, 9) - expected.to_numpy()).to_numpy().max() > 1e-3
    lagged = fitted(FRAME.add_suffix("_lag"), FRAME)
    np.testing.assert_array_equal(lagged.forecast(FRAME.add_suffix("_lag"), 5), fitted().forecast(FRAME, 5))


@pytest.mark.parametrize("outputs", (["temp", "wind"], ["load", "wind"], ["wind", "load"], ["temp", "load"]))
def test_outputs_that_no_input_has(outputs):
    """They would go into another input in silence; in training any other order would, too."""
    y = FRAME.set_axis(outputs, axis=1)
    net = fitted(FRAME, y)
    if "wind" in outputs:
        words = "forecast: expected an output of each .* outputs " + ", ".join(outputs)
        with pytest.raises(bf.ConfigError, match=words):
            net.forecast(FRAME, 3)
    assert net.forecast(FRAME, 3, next_input=lambda y, step: y[::-1]).shape == (3, 2)
    net = bf.Network(2, 5, 2, readout="every", seed=0)
    before = net.params.copy()
    for call in (partial(net.fit, verbose=0), net.loss_and_grad):
        with pytest.raises(bf.ConfigError, match="teacher_forcing: .* outputs " + ", ".join(outputs)):
            call(FRAME, y, teacher_forcing=0.5)
    assert np.array_equal(net.params, before) and net.output_names is None
    net.fit(VALUES, y.to_numpy(), teacher_forcing=0.5, verbose=0)
    net.fit(FRAME, y, verbose=0)


def test_names():
    """Given by hand, checked; arrays are not."""
    net = bf.Network(2, 5, 2, seed=0)
    net.input_names = ["a", "b"]
    assert net.input_names == ("a", "b")
    for wrong in (["a"], ["a", "a"], "ab", [[1], [2]], [1, 1.0], 5):
        with pytest.raises((bf.ConfigError, bf.ShapeError), match="input_names: expected"):
            net.input_names = wrong
    with pytest.raises(bf.ShapeError, match="column 'a'"):
        net.predict(FRAME)
    assert net.predict(VALUES).shape == (2,)
    net.input_names = FRAME.columns
    assert net.input_names == ("load", "temp") and net.predict(FRAME).shape == (2,)


def test_classes_have_no_names():
    """The column of class indices is not one of the outputs."""
    net = bf.Network(2, 5, 3, readout="every", seed=0)
    net.fit(FRAME, pandas.Series(np.arange(60) % 3, name="kind"), loss="cross_entropy", verbose=0)
    assert net.input_names == ("load", "temp") and net.output_names is None


def test_scaling_of_tables():
    """Measured column by column, whatever their order."""
    net, other = fitted(scaling="standard"), fitted(VALUES, VALUES, scaling="standard")
    assert net.scaling == other.scaling
    np.testing.assert_array_equal(
        net.predict(SWAPPED, readout="every"), other.predict(VALUES, readout="every")
    )


def test_a_forecaster_in_a_file(tmp_path):
    """The network of a scikit-learn forecaster knows names and scaling by itself."""
    pytest.importorskip("sklearn")
    from bptt_fast.estimators import RNNForecaster

    model = RNNForecaster(5, horizon=3, window=60, max_iter=2, tol=1e9, n_iter_no_change=1, random_state=0)
    expected = model.fit(FRAME).predict(FRAME)
    model.network_.save(tmp_path / "m")
    got = bf.load(tmp_path / "m").forecast(SWAPPED, 3)
    pandas.testing.assert_frame_equal(got, expected)


def test_the_command_line_reads_every_name(tmp_path, capsys):
    """As text: in a CSV file all names are."""
    frame = pandas.DataFrame(VALUES, columns=[3, 1])
    net = fitted(frame, frame)
    net.save(tmp_path / "m")
    frame.to_csv(tmp_path / "s.csv", index=False)
    assert cli.main(["predict", str(tmp_path / "m"), str(tmp_path / "s.csv")]) == 0
    found = pandas.read_csv(io.StringIO(capsys.readouterr().out))
    assert list(found.columns) == ["row", "3", "1"]
    np.testing.assert_allclose(found[["3", "1"]], net.predict(VALUES, readout="every"), rtol=1e-6)
    assert cli.main(["info", str(tmp_path / "m")]) == 0
    assert "inputs 3, 1; targets 3, 1" in capsys.readouterr().out


@pytest.mark.parametrize("kind", ("frame", "list", "windows"))
def test_names_of_the_series_count_where_the_network_has_none(kind):
    """A network trained on an array knows only its outputs: they go where the series has their names."""
    net = bf.Network(2, 5, 2, readout="every", dtype="float64", seed=0)
    frame = pandas.DataFrame(np.random.default_rng(0).normal(size=(20, 2)), columns=["load", "temp"])
    series = {"frame": frame, "list": [frame], "windows": bf.Sequences.windows(frame, 20)}[kind]
    net.output_names = ["temp", "wind"]
    with pytest.raises(bf.ConfigError, match="got none for 'load'"):
        net.forecast(series, 3)
    net.output_names = ["temp", "load"]
    got = np.asarray(net.forecast(series, 2)).reshape(2, 2)
    fed = np.concatenate([frame, got[:1, ::-1]])
    np.testing.assert_allclose(got[1], net.predict(fed)[-1], rtol=1e-12)


REMEDIES = {
    "text": (["a", "b"] * 4, "column 'new' of dtype .* such as 'a'.  .*pandas.Categorical.*categories="),
    "numbers as text": (
        ["1.5"] * 8,
        r"'new'.*It holds numbers: convert it, astype\(\{'new': float\}\)",
    ),
    "numbers as objects": (np.array([1] * 8, object), "It holds numbers"),
    "dates": (
        pandas.date_range("2024-01-01", periods=8),
        "'new' of dtype datetime64.*make dates the index",
    ),
    "durations": (pandas.to_timedelta(range(8), "h"), "column 'new' of dtype timedelta64"),
}


def test_a_column_of_a_type_that_numpy_lacks():
    polars = pytest.importorskip("polars")
    table = polars.DataFrame({"old": [1.0, 2.0], "new": polars.Series([1, 2], dtype=polars.Int128)})
    with pytest.raises(
        bf.ConfigError, match=r"x: .*column 'new' of dtype Int128 .* It holds numbers: convert it"
    ):
        bf.Network(2, 3, 1, seed=0).predict(table)


@pytest.mark.parametrize("what", REMEDIES)
def test_a_column_without_numbers_is_named_with_a_remedy(what):
    values, message = REMEDIES[what]
    table = pandas.DataFrame({"old": np.arange(8.0), "new": values})
    net = bf.Network(2, 3, 1, readout="every", seed=0)
    for act in (
        lambda: net.predict(table),
        lambda: net.fit(table, np.zeros(8), verbose=0),
        lambda: bf.Sequences.windows(table, 3),
    ):
        with pytest.raises(bf.ConfigError, match=message):
            act()
