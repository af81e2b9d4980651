"""Random calls of the Python API, most of them with a wrong argument: only errors of the package, and a
refused call changes nothing."""

import dataclasses
import datetime
import decimal
import fractions
import math
import os
import tempfile
import warnings

import numpy as np

import bptt_fast as bf

ALLOWED = (bf.ConfigError, bf.ShapeError, bf.DivergedError, bf.CorruptFileError)
ALLOWED += (OSError, KeyError, MemoryError)  # of a path, of net[name], of sizes that are right

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(6, 5, 2)), RNG.normal(size=(6, 2))
SERIES = RNG.normal(size=(12, 2))


class Strange:
    def __repr__(self):
        return "Strange()"


class Failing:
    """Its conversions raise what a user's class may raise."""

    def __array__(self, *_, **__):
        raise ValueError("no array")

    def __float__(self):
        raise OverflowError("no float")


ODD = [None, True, False, -1, 0, 1, 2, 3, 7, 0.5, -0.5, 1.0, math.nan, math.inf, -math.inf]
ODD += [2**40, 2**63, 10**30, 1j, "", "x", "tanh", "every", "a\0b", b"x", [], [1], [1, "a"], [[1, 2], [3]]]
ODD += [[None], {}, {"a": 1}, (), (1, 2), set(), {1}, iter([1]), Strange(), Strange, Failing(), len, range(3)]
ODD += [slice(1), Ellipsis, NotImplemented, decimal.Decimal("2"), fractions.Fraction(1, 3)]
ODD += [datetime.date(2026, 1, 1), np.float32(2), np.int64(2), np.bool_(True), np.datetime64("NaT")]
ODD += [
    np.array(2),
    np.array("x"),
    np.zeros(0),
    np.zeros(3),
    np.zeros((2, 3)),
    np.zeros((6, 0, 2)),
    X[0],
    X,
    Y,
]
ODD += [X.astype(complex), X.astype("f2"), X.astype(">f8"), X.astype(int), X[:, ::-1], np.asfortranarray(X)]
ODD += [1e-310 * X, 1e300 * X, np.full((6, 5, 2), np.nan), np.full((6, 2), np.inf), np.zeros((0, 5, 2))]
ODD += [np.array([1, "a"], object), np.ma.masked_array([1.0], [True])]
# numbers at the ends of both formats, denormal, or not finite
SPECIAL = [math.nan, math.inf, -math.inf, -0.0, 5e-324, 1e-310, 1e-45, 1e-40, 3e38, 1e39, 1e300, 1.7e308]
ODD += SPECIAL
# arguments whose large values are right, and take for ever
COUNTS = ("epochs", "steps", "batch", "max_seconds", "memory", "max_evaluations", "max_products", "threads")
FUNCTIONS = ("next_input", "init")

KINDS = [dict(), dict(cell="gru"), dict(cell="lstm", num_layers=2), dict(readout="every")]
KINDS += [dict(bidirectional=True), dict(cell="mlp", f=(3,), dtype="float64"), dict(initial_state="trained")]
KINDS += [dict(recurrent_dropout=0.2), dict(skip=True, head=(3,))]
FIT = dict(epochs=2, batch_size=2, optimizer="adam", loss="mse", teacher_forcing=1.0, verbose=0, threads=2)
FIT |= dict(validation_split=0.0, shuffle=True, initial_epoch=0, stateful=False, callbacks=None)
FIT |= dict.fromkeys(
    ("bptt", "validation_data", "sample_weight", "x0", "lengths", "scaling", "patience", "isa")
)
RUN = dict(readout=None, x0=None, lengths=None, batch_size=3, threads=1, isa=None)
NETWORK = dict(input_size=2, hidden_size=3, output_size=2, cell="gru", nonlinearity=None, f=(), head=())
NETWORK |= dict(readout="last", head_nonlinearity="tanh", num_layers=2, bidirectional=False, reset="after")
NETWORK |= dict(peephole=False, proj_size=0, dropout=0.1, recurrent_dropout=0.1, initial_state="zeros")
NETWORK |= dict(skip=False, categories={1: 3}, init=None, spectral_radius=None, forget_bias=None)
NETWORK |= dict(dtype="float32", seed=1)
SCALES = dict(input_mean=[0.0], input_scale=[1.0], output_mean=None, output_scale=None)
FOLDS = dict(cv=2, inner=None, groups=None, subjects=None, seeds=None, folder=None, keep=False)
ONLINE = dict(bptt=bf.SlidingBPTT(2), optimizer="sgd", loss="mse", x0=None)


def plan(rng):
    """(name, network or None, function, valid arguments by name, learner or None)."""
    net, plain = bf.Network(2, 3, 2, seed=1, **rng.choice(KINDS)), bf.Network(2, 3, 2, seed=1)
    every = net.readout == "every"
    if rng.random() < 0.05:
        net.params[:] = spoiled(net.params, rng)
    rows = dict(x=X, y=np.repeat(Y[:, None], 5, axis=1) if every else Y)
    judged = rows | dict(loss="mse", sample_weight=np.ones(6), x0=np.zeros((6, net.state_size)))
    if rng.random() < 0.2:
        learner = plain.learn_online(bf.SlidingBPTT(2), rng.choice(("sgd", "adam")))
        learner.observe(SERIES[0], SERIES[0])
        return "observe", plain, learner.observe, dict(x=SERIES[1], y=SERIES[1], weight=1.0), learner
    kind = rng.choice(list(bf.optimizers.OPTIMIZERS.values()))
    fields = {field.name: field.default for field in dataclasses.fields(kind) if field.init}
    stream = plain.stream()
    choices = [
        ("Network", None, bf.Network, NETWORK),
        ("fit", net, net.fit, FIT | judged | dict(optimizer=optimizer(rng))),
        ("fit", net, net.fit, FIT | judged),
        ("predict", net, net.predict, RUN | dict(x=X, return_state=True, x0=judged["x0"])),
        ("evaluate", net, net.evaluate, RUN | judged),
        ("loss_and_grad", net, net.loss_and_grad, judged | dict(with_inputs=True)),
        ("forecast", plain, plain.forecast, dict(series=SERIES, steps=3, next_input=None, x0=None)),
        ("stream", plain, plain.stream, dict(batch=2, isa=None)),
        ("step", None, stream.step, dict(x=SERIES[0])),
        ("state", None, lambda value: setattr(stream, "state", value), dict(value=stream.state)),
        ("load_state_dict", net, net.load_state_dict, dict(parameters=net.state_dict(), strict=True)),
        ("Scaling", None, bf.Scaling, SCALES),
        ("Sequences.windows", None, bf.Sequences.windows, dict(series=SERIES, length=3)),
        ("SlidingBPTT", None, bf.SlidingBPTT, dict(k=3, lead=1)),
        ("TruncatedBPTT", None, bf.TruncatedBPTT, dict(k1=2, k2=3)),
        ("CheckpointedBPTT", None, bf.CheckpointedBPTT, dict(segment=2)),
        ("Stopping", None, bf.Stopping, dict(patience=3, min_delta=0.1)),
        (kind.__name__, None, kind, fields),
        ("learn_online", plain, plain.learn_online, ONLINE),
        ("Loss", None, bf.Loss, dict(name="pinball", quantiles=[0.1, 0.9])),
        ("class_weight", None, bf.Loss, dict(name="cross_entropy", class_weight=[1.0, 2.0])),
        ("quantile", None, bf.Loss("gaussian").quantile, dict(outputs=Y, q=[0.1, 0.5])),
        ("mae", None, bf.metrics.mae, dict(actual=Y, forecast=Y)),
        ("sweep", None, bf.sweep, dict(net=plain, x=X, y=Y, epochs=1, verbose=0, threads=1) | FOLDS),
        ("Rule", None, bf.Rule, dict.fromkeys(field.name for field in dataclasses.fields(bf.Rule))),
        ("dale", plain, bf.dale, dict(net=plain, excitatory=0.8)),
        ("from_onnx", None, bf.from_onnx, dict(path="/nowhere/a.onnx")),
        ("load", None, bf.load, dict(path="/nowhere/a")),
        ("save", net, net.save, dict(path="/nowhere/a")),
    ]
    for name in ("params", "scaling", "input_names", "output_names", "lead", "columns"):
        value = dict(value=getattr(net, name))
        choices.append((name, net, lambda value, name=name: setattr(net, name, value), value))
    return (*rng.choice(choices), None)


def spoiled(value, rng):
    """Numbers like the given ones, some of them special."""
    if isinstance(value, float):
        return rng.choice(SPECIAL)
    if not isinstance(value, np.ndarray) or value.dtype.kind != "f" or not value.size:
        return rng.choice(ODD)
    with np.errstate(all="ignore"):
        spoiled = value * rng.choice((1, 1e-40, 1e-310, 1e30, 1e300))
        for _ in range(rng.choice((0, 1, 3))):
            spoiled.flat[rng.randrange(value.size)] = rng.choice(SPECIAL)
    return spoiled


def optimizer(rng):
    """An optimiser, one of its numbers perhaps a special one."""
    kind = rng.choice(list(bf.optimizers.OPTIMIZERS.values()))
    numbers = [field.name for field in dataclasses.fields(kind) if isinstance(field.default, float)]
    try:
        return kind(**{rng.choice(numbers): rng.choice(SPECIAL)})
    except bf.ConfigError:
        return kind()


def check_result(name, result, net):
    """What a call that was accepted gave has finite numbers only."""
    if name in ("predict", "evaluate", "loss_and_grad", "forecast", "step"):
        for part in result if isinstance(result, tuple) else (result,):
            numbers = part.flat if isinstance(part, bf.inference.Gradients) else part
            assert np.isfinite(numbers).all(), f"{name} gives numbers that are not finite"
    if name == "fit":
        assert np.isfinite(net.params).all(), "fit leaves parameters that are not finite"


def snapshot(net):
    if net is None:
        return None
    carried = None if net.carried_states is None else net.carried_states.tobytes()
    return net.params.tobytes(), net.columns, dict(net.extra), carried, net.description


class Calls:
    """A case is one call, in a folder of its own."""

    def __init__(self):
        self.folder = tempfile.TemporaryDirectory(prefix="attack")
        os.chdir(self.folder.name)

    def run(self, rng):
        name, net, call, arguments, learner = plan(rng)
        arguments = dict(arguments)
        for _ in range(rng.choice((0, 1, 1, 1, 2))):
            key = rng.choice(sorted(arguments))
            value = spoiled(arguments[key], rng) if rng.random() < 0.5 else rng.choice(ODD)
            called = key in FUNCTIONS and callable(value)  # it raises what it likes
            if not called and not (key in COUNTS and isinstance(value, int) and value > 10):
                arguments[key] = value
        before, held = snapshot(net), None if learner is None else (learner.seen, learner.updates)
        try:
            with warnings.catch_warnings(), np.errstate(all="ignore"):
                warnings.simplefilter("ignore")
                result = call(**arguments)
        except bf.DivergedError:
            return False
        except ALLOWED as error:
            assert str(error), (name, arguments)
            assert snapshot(net) == before, (name, arguments, "a refused call has changed the network")
            assert learner is None or held == (learner.seen, learner.updates), (name, arguments)
            return False
        except BaseException as error:
            error.add_note(f"{name}({arguments})")
            raise
        check_result(name, result, net)
        return True
