"""What users give: everything reasonable is accepted and cast once, everything wrong is a named error."""
# ruff: noqa: E501

import numpy as np
import pytest

import bptt_fast as bf

RNG = np.random.default_rng(0)
X, Y = RNG.standard_normal((6, 5, 3)), RNG.standard_normal((6, 2))
Y_EVERY = RNG.standard_normal((6, 5, 2))
SERIES, TARGETS = RNG.standard_normal((20, 3)), RNG.standard_normal((20, 2))
LIST = [X[0], X[1, :3], X[2, :1]]
LIST_Y = [Y_EVERY[0], Y_EVERY[1, :3], Y_EVERY[2, :1]]


def network(**options):
    return bf.Network(**(dict(input_size=3, hidden_size=4, output_size=2, seed=0) | options))


def with_value(a, where, value):
    a = a.copy()
    a[where] = value
    return a


SHAPE, CONFIG = bf.ShapeError, bf.ConfigError
LAST, EVERY, CLASSES = {}, {"readout": "every"}, {"output_size": 3}
# network options, method, arguments, keywords, error, what its text must contain: what, where, expected, got
WRONG_CALLS = {
    "x: features": (LAST, "fit", (X[..., :2], Y), {}, SHAPE, ("x", "3", "2", "input_size")),
    "x: features of one in a list": (EVERY, "fit", ([X[0], X[1, :, :2]], LIST_Y[:2]), {}, SHAPE, ("x[1]", "3", "2")),
    "x: inputs before steps": (LAST, "fit", (X.swapaxes(1, 2), Y), {}, SHAPE, ("x.swapaxes(-1, -2)",)),
    "x: steps before sequences": (LAST, "fit", (X.swapaxes(0, 1), Y), {}, SHAPE, ("5 sequences of 6 steps", "x.swapaxes(0, 1)")),
    "y: of sequences, for one series": (LAST, "loss_and_grad", (X[0], Y), {}, SHAPE, ("y", "(2,)", "(6, 2)")),
    "y: outputs before steps": (EVERY, "fit", (X, Y_EVERY.swapaxes(1, 2)), {}, SHAPE, ("y.swapaxes(-1, -2)",)),
    "y: a row a step of one series": (LAST, "fit", (SERIES, TARGETS), {}, SHAPE, ("y", "(2,)", "(20, 2)", "readout=\"every\"", "SlidingBPTT")),
    "y: a row a step of one series, evaluated": (LAST, "evaluate", (SERIES, TARGETS), {}, SHAPE, ("y", "(2,)", "(20, 2)", "evaluate")),
    "x: axes": (LAST, "fit", (X[0, 0], Y), {}, SHAPE, ("x", "(3,)")),
    "x: no sequences": (LAST, "fit", (X[:0], Y[:0]), {}, SHAPE, ("x", "(0, 5, 3)")),
    "x: no steps": (LAST, "fit", (X[:, :0], Y), {}, SHAPE, ("x", "(6, 0, 3)")),
    "x: an empty sequence in a list": (EVERY, "fit", ([X[0], X[1, :0]], [Y_EVERY[0], Y_EVERY[1, :0]]), {}, SHAPE, ("x[1]", "0")),
    "x: an empty list": (LAST, "fit", ([], Y[:0]), {}, SHAPE, ("x",)),
    "x: text": (LAST, "fit", (X.astype(str), Y), {}, CONFIG, ("x", "<U")),
    "x: complex": (LAST, "fit", (X + 1j, Y), {}, CONFIG, ("x", "complex128")),
    "x: objects": (LAST, "fit", (X.astype(object), Y), {}, CONFIG, ("x", "object")),
    "x: NaN": (LAST, "fit", (with_value(X, (2, 4, 1), np.nan), Y), {}, CONFIG, ("x", "nan", "2", "4", "1")),
    "x: infinity": (LAST, "fit", (with_value(X, (2, 4, 1), -np.inf), Y), {}, CONFIG, ("x", "-inf", "2", "4", "1")),
    "x: too large for float32": (LAST, "fit", (with_value(X, (2, 4, 1), 1e300), Y), {}, CONFIG, ("x", "inf", "float32", "2", "4", "1")),
    "x: NaN in a series": (EVERY, "fit", (with_value(SERIES, (7, 2), np.nan), TARGETS), {}, CONFIG, ("x", "nan", "row 7", "column 2")),
    "y: rows": (LAST, "fit", (X, Y[:5]), {}, SHAPE, ("y", "(6, 2)", "(5, 2)")),
    "y: outputs": (LAST, "fit", (X, Y[:, :1]), {}, SHAPE, ("y", "(6, 2)", "(6, 1)")),
    "y: a row a step for readout last": (LAST, "fit", (X, Y_EVERY), {}, SHAPE, ("y", "(6, 2)", "(6, 5, 2)", "every")),
    "y: a row a sequence for readout every": (EVERY, "fit", (X, Y), {}, SHAPE, ("y", "(6, 5, 2)", "(6, 2)", "last")),
    "y: a list of other lengths": (EVERY, "fit", (LIST, LIST_Y[::-1]), {}, SHAPE, ("y[0]", "(5, 2)", "(1, 2)")),
    "y: a shorter list": (EVERY, "fit", (LIST, LIST_Y[:2]), {}, SHAPE, ("y", "3", "2")),
    "y: NaN": (LAST, "fit", (X, with_value(Y, (3, 1), np.nan)), {}, CONFIG, ("y", "nan", "3", "1")),
    "y: NaN in a series": (EVERY, "fit", (SERIES, with_value(TARGETS, (7, 1), np.nan)), {}, CONFIG, ("y", "nan", "row 7", "column 1")),
    "y: classes as floats": (CLASSES, "fit", (X, np.ones(6)), dict(loss="cross_entropy"), CONFIG, ("y", "integer", "float64")),
    "y: class too large": (CLASSES, "fit", (X, np.array([0, 1, 2, 3, 0, 0])), dict(loss="cross_entropy"), CONFIG, ("y", "2", "3", "sequence 3")),
    "y: class negative": (CLASSES, "fit", (X, np.array([0, 1, -1, 0, 0, 0])), dict(loss="cross_entropy"), CONFIG, ("y", "-1", "sequence 2", "A sample_weight of 0")),
    "y: one-hot": (CLASSES, "fit", (X, np.eye(3, dtype=int)[[0, 1, 2] * 2]), dict(loss="cross_entropy"), SHAPE, ("y", "(6,)", "(6, 3)", "argmax")),
    "y: no probability": (LAST, "fit", (X, Y * 0 + 1.5), dict(loss="binary_cross_entropy"), CONFIG, ("y", "0", "1", "1.5")),
    "sliding: series too short": (LAST, "fit", (SERIES[:4], TARGETS[:4]), dict(bptt=bf.SlidingBPTT(4)), SHAPE, ("x", "4", "5")),
    "sliding: y a row a sequence": (LAST, "fit", (X, Y), dict(bptt=bf.SlidingBPTT(2)), SHAPE, ("y", "(6, 5, 2)", "(6, 2)")),
    "sliding: readout every": (EVERY, "fit", (SERIES, TARGETS), dict(bptt=bf.SlidingBPTT(2)), CONFIG, ("SlidingBPTT", "readout", "last", "every")),
    "sliding: both directions": (dict(bidirectional=True), "fit", (SERIES, TARGETS), dict(bptt=bf.SlidingBPTT(2)), CONFIG, ("SlidingBPTT", "bidirectional")),
    "sliding: weights": (LAST, "fit", (SERIES, TARGETS), dict(bptt=bf.SlidingBPTT(2), sample_weight=np.ones(20)), CONFIG, ("sample_weight", "SlidingBPTT")),
    "epochs: zero": (LAST, "fit", (X, Y), dict(epochs=0), CONFIG, ("epochs", "1", "0")),
    "epochs: fraction": (LAST, "fit", (X, Y), dict(epochs=1.5), CONFIG, ("epochs", "integer", "1.5")),
    "batch_size: zero": (LAST, "fit", (X, Y), dict(batch_size=0), CONFIG, ("batch_size", "1", "0")),
    "batch_size: text": (LAST, "fit", (X, Y), dict(batch_size="8"), CONFIG, ("batch_size", "integer", "'8'")),
    "optimizer: name": (LAST, "fit", (X, Y), dict(optimizer="sdg"), CONFIG, ("optimizer", "sgd", "adam", "sdg")),
    "optimizer: class": (LAST, "fit", (X, Y), dict(optimizer=bf.Adam), CONFIG, ("optimizer", "Adam")),
    "loss: name": (LAST, "fit", (X, Y), dict(loss="mean"), CONFIG, ("loss", "mse", "huber", "'mean'")),
    "bptt: number": (LAST, "fit", (X, Y), dict(bptt=3), CONFIG, ("bptt", "got 3.  For windows of 3 steps: SlidingBPTT(3).")),
    "y: none": (LAST, "fit", (X,), {}, CONFIG, ("y: expected targets for x", "None")),
    "y: none for a list": (EVERY, "fit", (LIST,), {}, CONFIG, ("y: expected targets for x", "None")),
    "y: none for a series": (LAST, "evaluate", (SERIES, None), {}, CONFIG, ("y: expected targets for x", "None")),
    "sample_weight: shape": (LAST, "fit", (X, Y), dict(sample_weight=np.ones(5)), SHAPE, ("sample_weight", "(6,)", "(5,)")),
    "sample_weight: shape by step": (EVERY, "fit", (X, Y_EVERY), dict(sample_weight=np.ones((6, 4))), SHAPE, ("sample_weight", "(6, 5)", "(6, 4)")),
    "sample_weight: negative": (LAST, "fit", (X, Y), dict(sample_weight=with_value(np.ones(6), 4, -1)), CONFIG, ("sample_weight", "0", "-1", "4")),
    "sample_weight: NaN": (LAST, "fit", (X, Y), dict(sample_weight=with_value(np.ones(6), 4, np.nan)), CONFIG, ("sample_weight", "nan", "4")),
    "sample_weight: nothing": (LAST, "fit", (X, Y), dict(sample_weight=np.zeros(6)), CONFIG, ("sample_weight", "0")),
    "x0: shape": (LAST, "fit", (X, Y), dict(x0=np.ones((6, 3))), SHAPE, ("x0", "(6, 4)", "(6, 3)")),
    "x0: infinity": (LAST, "fit", (X, Y), dict(x0=with_value(np.ones((6, 4)), (5, 2), np.inf)), CONFIG, ("x0", "inf", "(5, 2)")),
    "lengths: with a list": (EVERY, "fit", (LIST, LIST_Y), dict(lengths=[5, 3, 1]), CONFIG, ("lengths", "list")),
    "lengths: count": (LAST, "fit", (X, Y), dict(lengths=[5, 3]), SHAPE, ("lengths", "(6,)", "(2,)")),
    "lengths: too long": (LAST, "fit", (X, Y), dict(lengths=[5, 3, 6, 1, 1, 1]), CONFIG, ("lengths", "5", "6", "2")),
    "lengths: zero": (LAST, "fit", (X, Y), dict(lengths=[5, 0, 5, 1, 1, 1]), CONFIG, ("lengths", "1", "0")),
    "lengths: fractions": (LAST, "fit", (X, Y), dict(lengths=np.ones(6)), CONFIG, ("lengths", "integers", "float64")),
    "validation_split: one": (LAST, "fit", (X, Y), dict(validation_split=1.0), CONFIG, ("validation_split", "1")),
    "validation_split: negative": (LAST, "fit", (X, Y), dict(validation_split=-0.1), CONFIG, ("validation_split", "-0.1")),
    "validation_data: three arrays too many": (LAST, "fit", (X, Y), dict(validation_data=(X, Y, Y, Y, Y)), CONFIG, ("validation_data",)),
    "validation_data: features": (LAST, "fit", (X, Y), dict(validation_data=(X[..., :2], Y)), SHAPE, ("validation_data", "3", "2")),
    "validation: both": (LAST, "fit", (X, Y), dict(validation_data=(X, Y), validation_split=0.5), CONFIG, ("validation_data", "validation_split")),
    "callbacks: a function": (LAST, "fit", (X, Y), dict(callbacks=[print]), CONFIG, ("callbacks[0]", "Callback")),
    "callbacks: a number": (LAST, "fit", (X, Y), dict(callbacks=3), CONFIG, ("callbacks", "3")),
    "verbose: word": (LAST, "fit", (X, Y), dict(verbose="loud"), CONFIG, ("verbose", "auto", "'loud'")),
    "initial_epoch: negative": (LAST, "fit", (X, Y), dict(initial_epoch=-1), CONFIG, ("initial_epoch", "0", "-1")),
    "shuffle: number": (LAST, "fit", (X, Y), dict(shuffle=2), CONFIG, ("shuffle", "True", "2")),
    "patience: zero": (LAST, "fit", (X, Y), dict(patience=0), CONFIG, ("patience", "1", "0")),
    "patience: word": (LAST, "fit", (X, Y), dict(patience="long"), CONFIG, ("patience", "Stopping", "'long'")),
    "threads: zero": (LAST, "fit", (X, Y), dict(threads=0), CONFIG, ("threads", "1", "0")),
    "isa: name": (LAST, "fit", (X, Y), dict(isa="sse9"), CONFIG, ("isa", "base", "sse9")),
    "predict: features": (LAST, "predict", (X[..., :2],), {}, SHAPE, ("x", "3", "2")),
    "predict: readout": (LAST, "predict", (X,), dict(readout="all"), CONFIG, ("readout", "last", "every", "all")),
    "predict: batch_size": (LAST, "predict", (X,), dict(batch_size=0), CONFIG, ("batch_size", "1", "0")),
    "predict: x0": (LAST, "predict", (X,), dict(x0=np.ones(5)), SHAPE, ("x0", "(6, 4)", "(5,)")),
    "predict: return_state": (LAST, "predict", (X,), dict(return_state="no"), CONFIG, ("return_state", "no")),
    "evaluate: y": (LAST, "evaluate", (X, Y[:5]), {}, SHAPE, ("y", "(6, 2)", "(5, 2)")),
    "evaluate: loss": (LAST, "evaluate", (X, Y), dict(loss="l2"), CONFIG, ("loss", "mse", "l2")),
    "loss_and_grad: y": (LAST, "loss_and_grad", (X, Y[:5]), {}, SHAPE, ("y", "(6, 2)", "(5, 2)")),
    "loss_and_grad: with_inputs": (LAST, "loss_and_grad", (X, Y), dict(with_inputs=3), CONFIG, ("with_inputs", "3")),
}  # fmt: skip


def contains(error, fragments):
    text = str(error.value)
    missing = [fragment for fragment in fragments if fragment not in text]
    assert not missing, f"{missing} missing in: {text}"


@pytest.mark.parametrize(
    "options, method, arguments, keywords, error, fragments", WRONG_CALLS.values(), ids=WRONG_CALLS
)
def test_wrong_argument(options, method, arguments, keywords, error, fragments):
    net = network(**options)
    before, given = net.params.copy(), [np.array(a) for a in arguments if isinstance(a, np.ndarray)]
    with pytest.raises(error) as caught:
        getattr(net, method)(*arguments, **({"verbose": 0} if method == "fit" else {}) | keywords)
    contains(caught, fragments)
    np.testing.assert_array_equal(net.params, before)
    for a, kept in zip([a for a in arguments if isinstance(a, np.ndarray)], given, strict=True):
        assert (a == kept).all() or not np.isfinite(kept.astype(float)).all()


WRONG_NETWORKS = {
    "input_size": (dict(input_size=0), ("input_size", "1", "0")),
    "hidden_size": (dict(hidden_size=-3), ("hidden_size", "1", "-3")),
    "output_size": (dict(output_size=2.5), ("output_size", "integer", "2.5")),
    "too large": (dict(hidden_size=2**40), ("hidden_size", str(2**40))),
    "overflow": (dict(hidden_size=2**31 - 1, num_layers=16), ("hidden_size",)),
    "cell": (dict(cell="elmann"), ("cell", "'elman'", "'elmann'")),
    "nonlinearity": (dict(nonlinearity="tanhh"), ("nonlinearity", "'tanh'", "'tanhh'")),
    "nonlinearity of a gated cell": (dict(cell="lstm", nonlinearity="relu"), ("nonlinearity", "lstm")),
    "nonlinearities of an mlp": (dict(cell="mlp", f=(3,), nonlinearity=("tanh",)), ("nonlinearity", "2", "1")),
    "f of an elman cell": (dict(f=(3,)), ("f", "mlp", "elman")),
    "f: width": (dict(cell="mlp", f=(3, 0)), ("f", "0")),
    "f: too deep": (dict(cell="mlp", f=(2,) * 17), ("f", "17")),
    "head: width": (dict(head=(0,)), ("head", "0")),
    "head: number": (dict(head=4), ("head", "4")),
    "head: too deep": (dict(head=(2,) * 17), ("head", "17")),
    "head_nonlinearity": (dict(head=(3,), head_nonlinearity="gelu"), ("head_nonlinearity", "'tanh'", "'gelu'")),
    "readout": (dict(readout="first"), ("readout", "'last'", "'every'", "'first'")),
    "num_layers": (dict(num_layers=0), ("num_layers", "1", "0")),
    "num_layers: too many": (dict(num_layers=17), ("num_layers", "16", "17")),
    "bidirectional": (dict(bidirectional="yes"), ("bidirectional", "True", "'yes'")),
    "reset": (dict(cell="gru", reset="never"), ("reset", "'after'", "'before'", "'never'")),
    "reset of another cell": (dict(reset="before"), ("reset", "gru", "elman")),
    "peephole of another cell": (dict(peephole=True), ("peephole", "lstm", "elman")),
    "proj_size of another cell": (dict(proj_size=2), ("proj_size", "lstm", "elman")),
    "proj_size: too large": (dict(cell="lstm", proj_size=4), ("proj_size", "hidden_size", "4")),
    "dropout": (dict(num_layers=2, dropout=1.0), ("dropout", "1")),
    "dropout: one layer": (dict(dropout=0.5), ("dropout", "num_layers")),
    "recurrent_dropout": (dict(recurrent_dropout=-0.5), ("recurrent_dropout", "0", "-0.5")),
    "dtype": (dict(dtype="float16"), ("dtype", "float32", "float64", "float16")),
    "seed": (dict(seed="one"), ("seed", "'one'")),
}  # fmt: skip


@pytest.mark.parametrize("options, fragments", WRONG_NETWORKS.values(), ids=WRONG_NETWORKS)
def test_wrong_network(options, fragments):
    with pytest.raises(bf.ConfigError) as caught:
        network(**options)
    contains(caught, fragments)


WRONG_OBJECTS = {
    "learning rate zero": (lambda: bf.SGD(0), ("learning_rate", "0")),
    "learning rate NaN": (lambda: bf.Adam(np.nan), ("learning_rate", "nan")),
    "momentum one": (lambda: bf.SGD(0.1, momentum=1.0), ("momentum", "1")),
    "nesterov alone": (lambda: bf.SGD(0.1, nesterov=True), ("nesterov", "momentum")),
    "nesterov": (lambda: bf.SGD(0.1, momentum=0.5, nesterov="x"), ("nesterov", "'x'")),
    "weight decay": (lambda: bf.SGD(0.1, weight_decay=-1), ("weight_decay", "-1")),
    "beta1": (lambda: bf.Adam(beta1=1.0), ("beta1", "1")),
    "beta2": (lambda: bf.Adam(beta2=-0.1), ("beta2", "-0.1")),
    "eps": (lambda: bf.Adam(eps=0), ("eps", "0")),
    "adam's decay": (lambda: bf.Adam(weight_decay=np.inf), ("weight_decay", "inf")),
    "k": (lambda: bf.SlidingBPTT(0), ("k", "1", "0")),
    "k: fraction": (lambda: bf.SlidingBPTT(2.0), ("k", "integer", "2.0")),
    "lead": (lambda: bf.SlidingBPTT(2, -1), ("lead", "0", "-1")),
}


@pytest.mark.parametrize("make, fragments", WRONG_OBJECTS.values(), ids=WRONG_OBJECTS)
def test_wrong_object(make, fragments):
    with pytest.raises(bf.ConfigError) as caught:
        make()
    contains(caught, fragments)


def test_errors_are_of_python_kinds():
    for error, kind in (
        (bf.ShapeError, ValueError),
        (bf.ConfigError, ValueError),
        (bf.CorruptFileError, ValueError),
    ):
        assert issubclass(error, kind)
    assert issubclass(bf.DivergedError, ArithmeticError)


class Table:
    """What a DataFrame looks like from here."""

    def __init__(self, a, columns):
        self.a, self.columns, self.shape, self.ndim = a, columns, a.shape, a.ndim

    def to_numpy(self):
        return self.a

    def __len__(self):
        return len(self.a)


SAME = {
    "float32": lambda a: a.astype(np.float32),
    "fortran order": np.asfortranarray,
    "reversed twice": lambda a: np.ascontiguousarray(a[::-1])[::-1],
    "every other row": lambda a: np.repeat(a, 2, axis=0)[::2],
    "big-endian": lambda a: a.astype(">f8"),
    "read-only": lambda a: np.frombuffer(a.tobytes()).reshape(a.shape),
    "table": lambda a: Table(a, ["a", "b", "c"]),
    "nested list": lambda a: a.tolist(),
}


@pytest.mark.parametrize("change", SAME.values(), ids=SAME)
def test_accepted_forms(change):
    """A series in any of these forms gives the same outputs and gradients, and is not modified."""
    x, y = SERIES.astype(np.float32).astype(float), TARGETS.astype(np.float32).astype(float)
    net = network(readout="every")
    given = change(x)
    loss, grads = net.loss_and_grad(given, change(y))
    expected_loss, expected = net.loss_and_grad(x, y)
    assert loss == expected_loss
    np.testing.assert_array_equal(grads.flat, expected.flat)
    np.testing.assert_array_equal(net.predict(given), net.predict(x))
    np.testing.assert_array_equal(getattr(given, "a", given), x)


@pytest.mark.parametrize("dtype", (np.int8, np.uint16, np.int64, bool))
def test_integers_are_accepted(dtype):
    x = RNG.integers(0, 2, (4, 5, 3)).astype(dtype)
    np.testing.assert_array_equal(network().predict(x), network().predict(x.astype(float)))


def test_a_table_names_its_column():
    broken = Table(with_value(SERIES, (7, 2), np.nan), ["year", "month", "spots"])
    with pytest.raises(bf.ConfigError, match="spots"):
        network().predict(broken)


def test_forms_of_x_agree():
    net = network(dtype="float64")
    from_array = net.predict(X)
    assert from_array.shape == (6, 2) and from_array.dtype == np.float64
    np.testing.assert_allclose(net.predict(list(X)), from_array, rtol=1e-13)
    np.testing.assert_allclose(net.predict(X[3]), from_array[3], rtol=1e-13)
    every = net.predict(X, readout="every")
    assert every.shape == (6, 5, 2)
    as_list = net.predict(LIST, readout="every")
    assert [part.shape for part in as_list] == [(5, 2), (3, 2), (1, 2)]
    np.testing.assert_allclose(as_list[1], every[1, :3], rtol=1e-12)
    assert net.predict(X[3], readout="every").shape == (5, 2)


def test_forms_of_y_agree():
    net = network(output_size=1, readout="every", dtype="float64")
    column = Y_EVERY[..., :1]
    assert net.evaluate(X, column) == net.evaluate(X, column[..., 0])
    one = network(output_size=1, dtype="float64")
    assert one.evaluate(X[0], [0.5]) == one.evaluate(X[0], [[0.5]]) == one.evaluate(X[:1], [0.5])


def test_padding_is_not_read():
    """What stands after a sequence's length can be anything, in x, y and the weights."""
    lengths = [5, 1, 3, 2, 5, 4]
    for readout, y in (("last", Y), ("every", Y_EVERY)):
        net = network(readout=readout, dtype="float64", bidirectional=True)
        x, y, weight = X.copy(), y.copy(), np.ones((6, 5))
        for i, n in enumerate(lengths):
            x[i, n:] = weight[i, n:] = np.nan
            if readout == "every":
                y[i, n:] = np.inf
        every = {"sample_weight": weight} if readout == "every" else {}
        loss, grads = net.loss_and_grad(x, y, lengths=lengths, **every)
        parts = [x[i, :n] for i, n in enumerate(lengths)]
        targets = [y[i, :n] for i, n in enumerate(lengths)] if readout == "every" else y
        expected_loss, expected = net.loss_and_grad(parts, targets)
        assert loss == pytest.approx(expected_loss, rel=1e-13)
        np.testing.assert_allclose(grads.flat, expected.flat, rtol=1e-12, atol=1e-15)
        outputs = net.predict(x, lengths=lengths)
        for i in range(6):
            alone = net.predict(parts[i])
            np.testing.assert_allclose(
                outputs[i, : lengths[i]] if readout == "every" else outputs[i], alone, rtol=1e-12
            )


def test_weights():
    """0 takes a row out, 2 counts it twice, NaN in a target of weight 0 does not matter; per sequence is per its steps."""
    net = network(dtype="float64")
    y = with_value(Y, 1, np.nan)
    got = net.loss_and_grad(X, y, sample_weight=[1, 0, 1, 2, 1, 1])
    keep = [0, 2, 3, 3, 4, 5]
    expected = net.loss_and_grad(X[keep], Y[keep])
    assert got[0] == pytest.approx(expected[0], rel=1e-13)
    np.testing.assert_allclose(got[1].flat, expected[1].flat, rtol=1e-12, atol=1e-15)
    every = network(readout="every", dtype="float64")
    w = np.arange(1.0, 7.0)
    by_step = every.evaluate(X, Y_EVERY, sample_weight=np.repeat(w[:, None], 5, axis=1))
    assert every.evaluate(X, Y_EVERY, sample_weight=w) == by_step != every.evaluate(X, Y_EVERY)


# ---- what users of other libraries pass

SEQUENCES = np.random.default_rng(0).normal(size=(6, 5, 3))
CODES = np.arange(30).reshape(6, 5) % 3


def fit(y, x=SEQUENCES, loss="mse", **options):
    sizes = {"input_size": 3, "hidden_size": 4, "output_size": 3, "seed": 0} | options
    return lambda: bf.Network(**sizes).fit(x, y, loss=loss, verbose=0)


CLASSES = {
    "text": (fit(list("abcabc")), "y: expected real numbers, got 'a' .*loss=.cross_entropy"),
    "an array of text": (fit(np.array(list("abcabc")), loss="mae"), "got 'a' .*RNNClassifier"),
    "text for classes": (fit(list("abcabc"), loss="cross_entropy"), "return_inverse=True"),
    "text of each step": (
        fit([list("abcab")] * 6, list(SEQUENCES), readout="every"),
        r"y\[0\]: .*loss=.cross_entropy",
    ),
    "truth": (fit(np.arange(6) > 2, output_size=1), "got True and False.*binary_cross_entropy"),
    "integers": (
        fit(CODES[:, 0]),
        r"y: expected \(6, 3\), .*got \(6,\).  Class indices: loss=.cross_entropy",
    ),
    "a column": (fit(CODES[:, :1], loss="huber"), r"got \(6, 1\).  Class indices"),
    "integers of each step": (fit(CODES, readout="every"), r"got \(6, 5\).  Class indices"),
    "integers of lists": (fit(list(CODES), list(SEQUENCES), readout="every"), r"y\[0\]: .*  Class indices"),
    "one output": (fit(CODES[:, 0], loss="cross_entropy", output_size=1), "with output_size=1.*binary_cross"),
}


@pytest.mark.parametrize("what", CLASSES)
def test_labels_of_classes(what):
    act, message = CLASSES[what]
    with pytest.raises((bf.ConfigError, bf.ShapeError), match=message):
        act()


def test_numbers_are_no_labels():
    """Counts, and integers that cannot be class indices, are numbers."""
    fit(CODES[:, 0], output_size=1)()
    fit(np.arange(18).reshape(6, 3))()
    for y in (CODES[:, 0] + 5, CODES[:, 0] * 0.5, np.zeros((6, 2), int)):
        with pytest.raises(bf.ShapeError) as caught:
            fit(y)()
        assert "cross_entropy" not in str(caught.value)


ONE_HOT = {
    "many": lambda net: net.predict(CODES),
    "one": lambda net: net.predict(CODES[0]),
    "with an axis": lambda net: net.predict(CODES[..., None]),
    "a list": lambda net: net.predict([CODES[0][:, None]]),
    "a step": lambda net: net.stream().step(2),
    "an observation": lambda net: net.learn_online(bf.SlidingBPTT(2)).observe(np.array([2])),
}


@pytest.mark.parametrize("what", ONE_HOT)
def test_integers_in_place_of_one_hot_vectors(what):
    with pytest.raises(bf.ShapeError, match=r"one of 3 values: one-hot rows np.eye\(3\).*categories={0: 3}"):
        ONE_HOT[what](bf.Network(3, 4, 1, seed=0))
    with pytest.raises(bf.ShapeError) as caught:
        ONE_HOT[what](bf.Network(2, 4, 1, seed=0))  # the integers are too large for it
    assert "one-hot" not in str(caught.value)


def test_a_matrix_that_may_be_one_series_or_many():
    rows = np.zeros((7, 5))
    with pytest.raises(
        bf.ShapeError, match=r"one series of 7 steps; 7 series of 5 single .* x\[:, :, None\]"
    ):
        bf.Network(1, 4, 1, seed=0).predict(rows)
    with pytest.raises(
        bf.ShapeError, match=r"one series of 7 steps.*readout=.every.*7 series of single numbers"
    ):
        fit(np.zeros(7), rows, input_size=5, output_size=1)()


def test_tensors_that_numpy_cannot_read():
    """Types and views that NumPy lacks are converted; others are an error of ours."""
    torch = pytest.importorskip("torch")
    net, x = network(), torch.arange(90).reshape(6, 5, 3) / 64
    assert np.array_equal(net.predict(x.bfloat16()), net.predict(x.bfloat16().float().numpy()))
    assert np.array_equal(net.predict(torch.complex(x, x).conj().imag), net.predict(-x.numpy()))
    for wrong in (x.to_sparse(), x.to("meta"), torch.zeros(6, 5, 3).to_mkldnn()):
        with pytest.raises(bf.ShapeError, match="x: expected an array of numbers, got Tensor") as caught:
            net.predict(wrong)
        assert "different length" not in str(caught.value)


@pytest.mark.parametrize("kind", ("array", "category"))
def test_labels_for_a_regressor(kind):
    """Text targets are labels, not inputs to number for `categories`."""
    estimators, pandas = pytest.importorskip("bptt_fast.estimators"), pytest.importorskip("pandas")
    labels = np.array(list("ababab"))
    y = labels if kind == "array" else pandas.Series(labels, dtype="category")
    with pytest.raises(bf.ConfigError, match=r"y: .*RNNClassifier takes them as they are"):
        estimators.RNNRegressor(max_iter=2).fit(X, y)


def test_the_hint_on_constant_targets():
    with pytest.warns(UserWarning, match="mean 40 and deviation 0"):
        network(output_size=1).fit(X, np.full(6, 40.0), verbose=0)
