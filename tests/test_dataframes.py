"""Tables, of pandas and polars: columns by name, the same kind out as in, the index carried on."""

import numpy as np
import pytest

import bptt_fast as bf

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


@pytest.mark.parametrize("index", (
    HOURS.delete(30), HOURS[[0, 5]], pandas.Index(["a", "b", "c"]), pandas.Index([1, 2, 4]),
), ids=("a gap", "two", "words", "uneven"))  # fmt: skip
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


def test_wrong_targets():
    net = fitted()
    with pytest.raises(bf.ShapeError, match="y: column 'temp'"):
        net.evaluate(FRAME, FRAME[["load"]].assign(wind=1.0), readout="every")
    with pytest.raises(bf.ConfigError, match=r"y: expected finite .*\('load'\)"):
        net.evaluate(FRAME, FRAME.mask(FRAME < -0.9), readout="every")
    crossed = fitted(FRAME, SWAPPED)
    assert crossed.output_names == ("temp", "load")
    with pytest.raises(bf.ConfigError, match=r"forecast: outputs are fed back .* got inputs load, temp"):
        crossed.forecast(FRAME, 3)
    assert crossed.forecast(FRAME, 3, next_input=lambda y, step: y[::-1]).shape == (3, 2)


def test_names():
    """Given by hand, checked; columns that are not named by words have none; arrays are not checked."""
    net = bf.Network(2, 5, 2, seed=0)
    net.input_names = ["a", "b"]
    assert net.input_names == ("a", "b")
    for wrong in (["a"], ["a", "a"], "ab", [1, 2]):
        with pytest.raises((bf.ConfigError, bf.ShapeError), match="input_names: expected"):
            net.input_names = wrong
    with pytest.raises(bf.ShapeError, match="column 'a'"):
        net.predict(FRAME)
    net.input_names = None
    numbered = pandas.DataFrame(VALUES)
    net.fit(numbered, numbered, bptt=bf.SlidingBPTT(4), verbose=0)
    assert net.input_names is net.output_names is None
    assert net.predict(FRAME).shape == net.predict(numbered).shape == (2,)
    assert net.predict(numbered, readout="every").shape == (60, 2)


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
