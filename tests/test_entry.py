"""What comes in: numbers of every type, arrays in every kind of memory, and what is no number at all."""

import copy
import json
import pickle
from dataclasses import replace
from datetime import date
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pandas as pd
import polars as pl
import pytest
from scipy import sparse

import bptt_fast as bf

RNG = np.random.default_rng(0)

# ---- numbers


INTEGERS = {
    "int8": np.int8, "uint16": np.uint16, "int64": np.int64, "uint64": np.uint64, "0-d": np.array,
    "big-endian 0-d": lambda n: np.array(n, ">i4"), "object 0-d": lambda n: np.array(n, object),
}  # fmt: skip
REALS = {
    "float16": np.float16, "float32": np.float32, "float64": np.float64, "longdouble": np.longdouble,
    "0-d": np.array, "big-endian 0-d": lambda a: np.array(a, ">f4"), "Fraction": Fraction, "Decimal": Decimal,
}  # fmt: skip
FLAGS = {"bool_": np.bool_, "0-d": np.array}
TEXTS = {"str_": np.str_, "0-d": np.array}
# numbers that float16 has too
GIVEN = dict(
    input_size=3, hidden_size=5, output_size=3, cell="lstm", head=(4, 6), head_nonlinearity="relu",
    readout="every", num_layers=2, bidirectional=False, reset="after", peephole=True, proj_size=2,
    dropout=0.25, recurrent_dropout=0.125, initial_state="zeros", dtype="float64", seed=7, init="glorot",
    forget_bias=1.5,
)  # fmt: skip
RADIUS = dict(input_size=2, hidden_size=4, output_size=1, cell="mlp", f=(4, 4), spectral_radius=0.75, seed=3)


def kinds(value):
    """The values that mean the same."""
    if isinstance(value, bool):
        return [kind(value) for kind in FLAGS.values()]
    if isinstance(value, int):
        return [kind(value) for kind in INTEGERS.values()]
    if isinstance(value, float):
        with np.errstate(over="ignore"):
            return [kind(value) for kind in REALS.values()]
    if isinstance(value, str):
        return [kind(value) for kind in TEXTS.values()]
    if isinstance(value, tuple):
        return [tuple(of_each) for of_each in zip(*map(kinds, value), strict=True)]
    return []


def types(value):
    """Of a number, or of all numbers in a tuple or dict."""
    if isinstance(value, (tuple, list)):
        return [types(one) for one in value]
    if isinstance(value, dict):
        return {key: types(one) for key, one in value.items()}
    return type(value)


@pytest.mark.parametrize("config", (GIVEN, RADIUS), ids=("lstm", "mlp"))
def test_every_argument_of_a_network(config, tmp_path):
    plain = bf.Network(**config)
    for name, value in config.items():
        for other in kinds(value):
            net = bf.Network(**config | {name: other})
            assert net.config() == plain.config() and types(net.config()) == types(plain.config()), name
            assert net.params.tobytes() == plain.params.tobytes(), name
            assert json.loads(json.dumps(net.config()))["cell"] == config["cell"]
    every = {name: (kinds(value) or [value])[1] for name, value in config.items()}
    net = bf.Network(**every)
    net.save(tmp_path / "net")
    net.to_onnx(tmp_path / "graph")
    assert net.desc() == plain.desc()
    for again in (
        bf.load(tmp_path / "net"),
        bf.from_onnx(tmp_path / "graph"),
        pickle.loads(pickle.dumps(net)),
    ):
        assert again.params.tobytes() == plain.params.tobytes()
    if config is GIVEN:
        assert bf.load(tmp_path / "net").description == plain.description


@pytest.mark.parametrize("value", (True, np.bool_(True), np.array(True), np.ones(1), [1.0], "1", b"1", 1j,
    np.datetime64(1, "s"), np.timedelta64(1, "s"), Decimal("nan"), Fraction(10**400), None, object()),
    ids=lambda value: type(value).__name__)  # fmt: skip
def test_no_number(value):
    with pytest.raises(bf.ConfigError, match=r"^SGD\(learning_rate\): expected a finite number above 0, got"):
        bf.SGD(value)
    if value is not None:
        with pytest.raises(bf.ConfigError, match=r"^forget_bias: expected a finite number, got"):
            bf.Network(1, 2, 1, cell="gru", forget_bias=value)
        with pytest.raises(bf.ConfigError, match=r"^hidden_size: expected an integer"):
            bf.Network(1, value, 1)


FROZEN = [
    bf.SGD(0.25, momentum=0.5, nesterov=True, weight_decay=0.125, decay_biases=False),
    bf.Adam(0.25, beta1=0.5, beta2=0.75), bf.AdamW(), bf.NAdam(), bf.RMSprop(centered=True),
    bf.Adagrad(), bf.Rprop(), bf.LBFGS(), bf.LevenbergMarquardt(), bf.HessianFree(),
    bf.SlidingBPTT(3, 2), bf.TruncatedBPTT(3, 5), bf.CheckpointedBPTT(4, 2),
    bf.schedules.Constant(0.5), bf.schedules.Step(0.5, every=2.5),
    bf.schedules.Exponential(0.5, 0.5), bf.schedules.Cosine(0.5, warmup=1.5, final=0.25, epochs=4),
    bf.schedules.OneCycle(0.5, epochs=4), bf.schedules.ReduceOnPlateau(0.5, patience=2),
]  # fmt: skip


@pytest.mark.parametrize("frozen", FROZEN, ids=lambda frozen: type(frozen).__name__)
def test_every_argument_of_optimizers_schedules_and_unfoldings(frozen):
    for name, value in vars(frozen).items():
        for other in kinds(value):
            if isinstance(value, float) and float(other) in (0, np.inf) and float(other) != value:
                continue  # too small or too large for a float16
            same = type(value)(other) if isinstance(value, (int, float)) else value
            expected, got = (replace(frozen, **{name: one}) for one in (same, other))
            assert got == expected and types(vars(got)) == types(vars(frozen)), name


@pytest.mark.parametrize("optimizer", (bf.SGD, bf.RMSprop, bf.Adagrad), ids=lambda kind: kind.__name__)
def test_a_learner_with_numbers_of_numpy(optimizer, tmp_path):
    """Saved, loaded and pickled, it continues as the plain one does."""
    flags = {"SGD": "nesterov", "RMSprop": "centered", "Adagrad": "decay_biases"}
    flag, moment = flags[optimizer.__name__], {} if optimizer is bf.Adagrad else {"momentum": np.float16(0.5)}
    learners = []
    for real, boolean, whole in ((float, bool, int), (np.float32, np.bool_, np.int64)):
        net = bf.Network(1, whole(4), 1, seed=whole(0), forget_bias=real(1), cell="gru")
        chosen = optimizer(real(0.03125), **{flag: boolean(True)}, **moment, clip_norm=real(0.5))
        learner = net.learn_online(bf.SlidingBPTT(whole(2), whole(1)), chosen)
        learners.append(learner)
    plain, other = learners
    rows = RNG.normal(size=(20, 1))
    np.testing.assert_array_equal(*[[one.observe(row, row) for row in rows] for one in learners])
    other.save(tmp_path / "learner")
    for again in (bf.load(tmp_path / "learner"), pickle.loads(pickle.dumps(other))):
        assert again.optimizer == plain.optimizer and again.bptt == plain.bptt


def test_what_the_loggers_write(tmp_path):
    """A rate of NumPy's type, given or written by a callback."""

    def halve(epoch, logs):
        log.hyper["learning_rate"] = np.float32(0.25)

    log = bf.callbacks.JSONLogger(tmp_path / "log")
    net = bf.Network(1, 4, 1, seed=0)
    hooks = [log, bf.callbacks.LambdaCallback(on_epoch_end=halve)]
    net.fit(
        np.ones((4, 3, 1)),
        np.ones(4),
        epochs=2,
        optimizer=bf.SGD(np.float32(0.5)),
        callbacks=hooks,
        verbose=0,
    )
    rows = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    assert [row["learning_rate"] for row in rows] == [0.5, 0.25]


# ---- memory


def behind(a, header=12):
    """In a buffer that begins with a header: as in a file that is mapped into memory."""
    return np.frombuffer(b"-" * header + a.tobytes(), a.dtype, offset=header).reshape(a.shape)


def swapped(a):
    return a.astype(a.dtype.newbyteorder())


def frozen(a):
    a = a.copy()
    a.setflags(write=False)
    return a


def in_a_structure(a):
    held = np.zeros(a.shape, [("flag", "i1"), ("value", a.dtype)])
    held["value"] = a
    return held["value"]


def mapped(a):
    import tempfile

    with tempfile.NamedTemporaryFile() as file:
        file.write(b"-" * 13 + a.tobytes())
        file.flush()
        return np.memmap(file.name, a.dtype, "r", 13, a.shape)


MEMORY = {
    "unaligned by 12": behind,
    "unaligned by 1": lambda a: behind(a, 1),
    "mapped": mapped,
    "swapped": swapped,
    "swapped, unaligned": lambda a: behind(swapped(a), 3),
    "read-only": frozen,
    "reversed": lambda a: a[::-1].copy()[::-1],
    "Fortran": lambda a: np.asfortranarray(a),
    "in a structure": in_a_structure,
    "with a stride": lambda a: np.repeat(a, 2, axis=-1)[..., ::2],
    "memoryview": lambda a: memoryview(a),
}


def everything(dtype, change):
    """Results of all that takes arrays, each of which `change` may have moved."""
    random = np.random.default_rng(1)

    def given(*shape, low=None):
        a = random.normal(size=shape) if low is None else random.integers(low, low + 3, shape)
        return change(a.astype(dtype) if low is None else a.astype(np.int64))

    def net(outputs=2, readout="last"):
        return bf.Network(3, 5, outputs, cell="gru", readout=readout, seed=0, dtype=dtype)

    one = net()
    found = [one.predict(given(4, 6, 3), x0=given(4, 5), lengths=given(4, low=3))]
    found.append(one.predict(given(6, 3), x0=given(5)))
    found.extend(net(readout="every").predict([given(5, 3), given(4, 3)]))
    weight = change(np.abs(np.random.default_rng(2).normal(size=4)).astype(dtype))
    data = dict(validation_data=(given(4, 6, 3), given(4, 2), weight), x0=given(5), scaling="standard")
    history = one.fit(given(4, 6, 3), given(4, 2), sample_weight=weight, epochs=2, verbose=0, **data)
    found += [history["loss"], history["val_loss"], one.params.copy()]
    three = net(3)
    found.append(three.evaluate(given(4, 6, 3), given(4, low=0), loss="cross_entropy"))
    for bptt in (bf.SlidingBPTT(3), bf.FullBPTT()):
        x, y = given(30, 3), given(30, 2)
        windows = x if isinstance(bptt, bf.SlidingBPTT) else bf.Sequences.windows(x, 5)
        found.append(one.fit(windows, y, bptt=bptt, verbose=0)["loss"])
    found.append(one.predict(bf.Sequences.windows(given(9, 3), 4)))
    loss, grads = one.loss_and_grad(given(4, 6, 3), given(4, 2), with_inputs=True)
    found += [loss, grads["x"], grads["x0"]]
    closed = net(3)
    found.append(closed.forecast(given(8, 3), 4, x0=given(5)))
    found.append(closed.forecast(given(8, 3), 4, next_input=lambda y, step: change(np.asarray(y))))
    one.params = given(one.num_parameters)
    one["head.0.bias"] = given(2)
    one.load_state_dict({"weight_hh_l0": given(15, 5)}, strict=False)
    found.append(one.params.copy())
    one.scaling = None
    stream = one.stream()
    stream.state = given(5)
    found += [stream.step(given(3)), stream.state]
    several = one.stream(2)
    found.append(several.step(given(2, 3)))
    learner = one.learn_online(bf.SlidingBPTT(2), x0=given(5))
    found.append([learner.observe(given(3), given(2)) for _ in range(5)])
    classes = three.learn_online(bf.SlidingBPTT(2), loss="cross_entropy")
    found.append([classes.observe(given(3), given(1, low=0)) for _ in range(5)])
    for method in (bf.LBFGS(), bf.LevenbergMarquardt(damping=0.5)):
        found.append(net().fit(given(4, 6, 3), given(4, 2), optimizer=method, verbose=0)["loss"])
    best, _ = bf.restarts(net(), given(4, 6, 3), given(4, 2), n=2, epochs=2, verbose=0)
    found.append(best.params.copy())
    return found


@pytest.mark.parametrize("dtype", ("float32", "float64"))
@pytest.mark.parametrize("change", MEMORY.values(), ids=MEMORY)
def test_arrays_in_any_memory(change, dtype):
    for got, expected in zip(everything(dtype, change), everything(dtype, np.array), strict=True):
        np.testing.assert_array_equal(got, expected)


# ---- no numbers


LABELLED = {
    "load": [1.0, 2.0, 3.0],
    "city": ["Berlin", "Rome", "Oslo"],
    "day": pd.date_range("2020", periods=3),
}


@pytest.mark.parametrize("table", (pd.DataFrame, lambda d: pl.DataFrame(d)), ids=("pandas", "polars"))
def test_columns_that_are_no_numbers_are_named(table):
    net = bf.Network(3, 4, 3, readout="every", seed=0)
    x, frame = np.ones((3, 3)), table(LABELLED)
    pattern = r"^{}: expected real numbers, got columns 'city', 'day' of dtype .*'Berlin'.*Leave them out"
    for call, name in (
        (lambda: net.predict(frame), "x"),
        (lambda: net.predict([x, frame]), None),
        (lambda: net.fit(x, frame, verbose=0), "y"),
        (lambda: net.fit(x[None], x[None], validation_data=(frame, x), verbose=0), r"validation_data\[0\]"),
        (lambda: bf.Sequences.windows(frame, 2), "series"),
    ):
        if name is not None:
            with pytest.raises(bf.ConfigError, match=pattern.format(name)):
                call()
    with pytest.raises(bf.ConfigError, match=pattern.format(r"x\[1\]")):
        net.predict([table({name: LABELLED["load"] for name in LABELLED}), frame])
    one = table({"load": LABELLED["load"], "city": LABELLED["city"]})
    with pytest.raises(bf.ConfigError, match=r"^x: expected real numbers, got column 'city' .*Leave it out"):
        bf.Network(2, 4, 1, seed=0).predict(one)


@pytest.mark.parametrize("given, pattern", (
    (np.array([[1.0, "a"]], object), r"'a' at index \(0, 1\) in an array of dtype object"),
    (np.array([[1.0, None]], object), r"None at index \(0, 1\)"),
    (np.array([["1.5", "two"]]), r"'two'.* at index \(0, 1\)"),
    (np.array([["1.5", "2"]]), r"np.asarray\(..., dtype=float\)"),
    (np.array([[1.0, Fraction(1, 2)]], object), r"np.asarray\(..., dtype=float\)"),
    (np.array([[1j, 1]]), "dtype complex128.*x.real, x.imag"),
    (np.zeros((2, 2), [("a", float), ("b", float)]), "fields a, b.*structured_to_unstructured"),
    (None, "None in an array of dtype object"),
    (sparse.eye(2).tocsr(), r"a sparse matrix.*x\.toarray\(\)"),
    (pl.DataFrame({"a": [1.5], "b": [date(2020, 1, 1)]}), "column 'b' of dtype Date with .*2020"),
    (object, "<class 'object'> in an array"),
))  # fmt: skip
def test_arrays_that_are_no_numbers(given, pattern):
    with pytest.raises(bf.ConfigError, match=f"^x: expected real numbers, got .*{pattern}"):
        bf.Network(2, 4, 1, seed=0).predict(given)


def test_object_arrays_of_arrays():
    """They are the list of sequences; what has other parts is not."""
    parts = [RNG.normal(size=(length, 2)) for length in (5, 3, 4)]
    targets = [part[:, :1] for part in parts]
    weights = [np.abs(part[:, 0]) for part in parts]
    boxed = [np.empty(3, object) for _ in range(3)]
    for box, of in zip(boxed, (parts, targets, weights), strict=True):
        box[:] = of
    ends = []
    for x, y, weight in ((parts, targets, weights), boxed):
        net = bf.Network(2, 4, 1, readout="every", seed=0)
        options = dict(sample_weight=weight, validation_data=(x, y, weight), scaling="standard")
        history = net.fit(x, y, epochs=2, verbose=0, **options)
        closed = bf.Network(2, 4, 2, seed=0)
        outputs = np.concatenate([*net.predict(x), *closed.forecast(x, 3)], axis=None)
        ends.append([*history["val_loss"], *outputs])
    np.testing.assert_array_equal(*ends)
    deep = np.empty((1, 2), object)
    deep[0, 0], deep[0, 1] = np.ones(3), np.ones(4)
    with pytest.raises(bf.ConfigError, match=r"an array of arrays.*in a list of 2-D arrays"):
        bf.Network(2, 4, 1, seed=0).predict(deep)


# ---- pickles of what learns and runs


def test_a_learner_is_pickled_and_copied():
    """As saved and loaded: what it learns from then on is equal, and the first one continues too."""
    series = RNG.normal(size=(40, 1))
    net = bf.Network(1, 4, 1, cell="gru", seed=0)
    learner = net.learn_online(bf.SlidingBPTT(3), bf.Adam(0.01))
    for row in series[:20]:
        learner.observe(row, row)
    others = [pickle.loads(pickle.dumps(learner)), copy.deepcopy(learner), copy.copy(learner)]
    assert len({id(one.network) for one in [learner, *others]}) == 4
    expected = [learner.observe(row, row) for row in series[20:]]
    for other in others:
        assert [other.observe(row, row) for row in series[20:]] == expected
        assert other.network.params.tobytes() == net.params.tobytes()
    again, its_learner = pickle.loads(pickle.dumps((net, learner)))
    assert its_learner.network is again
    net.params = net.params * 0.5
    with pytest.raises(bf.ConfigError, match="only this learner trains"):
        pickle.dumps(learner)


def test_a_stream_says_what_to_do():
    stream = bf.Network(1, 4, 1, seed=0).stream()
    for function in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(bf.ConfigError, match=r"^Stream: .*stream\.network and stream\.state"):
            function(stream)


@pytest.mark.parametrize(
    "value", (np.datetime64("NaT"), np.array("x"), np.array(2)), ids=("NaT", "text", "number")
)
def test_values_without_axes(value):
    """An array or a scalar where rows are expected."""
    net = bf.Network(2, 3, 2, seed=0)
    calls = [
        net.predict,
        lambda x: bf.Sequences.windows(x, 3),
        net.stream().step,
        lambda a: bf.Scaling(a, [1.0]),
    ]
    calls.append(net.learn_online(bf.SlidingBPTT(2)).observe)
    for call in calls:
        with pytest.raises((bf.ConfigError, bf.ShapeError)):
            call(value)


def test_an_array_of_nonlinearities():
    with pytest.raises(bf.ConfigError, match="nonlinearity"):
        bf.Network(2, 3, 2, cell="gru", nonlinearity=np.zeros((6, 5)))
