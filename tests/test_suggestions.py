"""Words of other libraries and slips are answered with ours; signatures stay exact."""

import inspect
import pkgutil
import re
from pathlib import Path

import numpy as np
import pytest

import bptt_fast as bf
from bptt_fast.errors import ArgumentError

X, Y = np.zeros((4, 5, 2)), np.zeros((4, 1))


def net():
    return bf.Network(2, 3, 1, seed=0)


def sizes(**given):
    return lambda: bf.Network(**{"input_size": 2, "hidden_size": 3, "output_size": 1, **given})


def fit(**given):
    return lambda: net().fit(X, Y, verbose=0, **given)


VALUES = {
    'elman" for rnn': (sizes(cell="rnn"), "cell: .* got 'rnn'. Did you mean 'elman'"),
    "SimpleRNN": (sizes(cell="SimpleRNN"), "'elman'"),
    "LSTMCell": (sizes(cell="LSTMCell"), "'lstm'"),
    "a slip": (sizes(cell="lsmt"), "'lstm'"),
    "a blank": (fit(optimizer="adamw "), "'adamw'"),
    "crossentropy": (fit(loss="crossentropy"), "'cross_entropy'"),
    "MSE": (fit(loss="MSE"), "'mse'"),
    "CrossEntropyLoss": (fit(loss="CrossEntropyLoss"), "'cross_entropy'"),
    "mean_squared_error": (fit(loss="mean_squared_error"), "'mse'"),
    "Keras' classes": (fit(loss="sparse_categorical_crossentropy"), "'cross_entropy'"),
    "BCEWithLogitsLoss": (fit(loss="BCEWithLogitsLoss"), "'binary_cross_entropy'"),
    "z-score": (fit(scaling="z-score"), "'standard'"),
    "sigmoid": (sizes(nonlinearity="logistic"), "'sigmoid'"),
}


@pytest.mark.parametrize("what", VALUES)
def test_a_value_of_another_library(what):
    act, message = VALUES[what]
    with pytest.raises(bf.ConfigError, match=f"Did you mean.*{message.split('Did you mean ')[-1]}"):
        act()


ARGUMENTS = {
    "units": (sizes(units=4), "Network: got the unknown argument 'units'. Did you mean 'hidden_size'"),
    "hidden": (sizes(hidden=4), "'hidden_size'"),
    "return_sequences": (sizes(return_sequences=True), "'readout'"),
    "batch_first": (sizes(batch_first=True), "Leave it out: arrays are"),
    "activation": (sizes(activation="relu"), "'nonlinearity'"),
    "random_state": (sizes(random_state=0), "'seed'"),
    "another verb's": (sizes(loss="mse"), "Pass it to fit"),
    "nothing near": (sizes(zzz=1), "There are input_size, hidden_size"),
    "lr": (fit(lr=0.1), r"fit: .*'lr'.*Optimisers of first order have it: optimizer=bf.SGD\(learning_rate"),
    "learning_rate": (fit(learning_rate=0.1), "Optimisers of first order"),
    "epoch": (fit(epoch=3), "'epochs'"),
    "max_iter": (fit(max_iter=3), "'epochs'"),
    "validation": (fit(validation=0.1), "'validation_split'"),
    "scaling": (sizes(scaling="standard"), "fit of a Network has it, scaling="),
    "metrics": (fit(metrics=["mae"]), "bptt_fast.metrics"),
    "class_weight": (fit(class_weight={}), "The loss has it"),
    "reduction": (lambda: net().loss_and_grad(X, Y, reduction="none"), "weighted mean over target rows"),
    "predict": (lambda: net().predict(X, hx=0), "predict: .*'hx'. Did you mean 'x0'"),
    "evaluate": (lambda: net().evaluate(X, Y, metrics=1), "evaluate: "),
    "loss_and_grad": (lambda: net().loss_and_grad(X, Y, criterion="mse"), "'loss'"),
    "estimate_memory": (lambda: net().estimate_memory(1, 2, unfolding=None), "'bptt'"),
    "stream": (lambda: net().stream(batch_size=3), "'batch'"),
    "learn_online": (lambda: net().learn_online(bf.SlidingBPTT(2), criterion="mse"), "'loss'"),
    "forecast": (lambda: net().forecast(X, horizon=3), "'steps'"),
    "save": (lambda: net().save("x", overwrite=True), "There are path"),
    "load": (lambda: bf.load("x", device="cpu"), "load: .*CPU"),
    "an optimiser": (lambda: bf.Adam(lr=0.1), "Adam: .*'lr'. Did you mean 'learning_rate'"),
    "one without": (lambda: bf.LBFGS(lr=0.1), "Optimisers of first order"),
    "an unfolding": (lambda: bf.SlidingBPTT(lookback=3), "'k'"),
    "a schedule": (lambda: bf.Cosine(lr=1), "'learning_rate'"),
    "stopping": (lambda: bf.Stopping(earlystopping=3), "Stopping: .*'patience'"),
    "a loss": (lambda: bf.Loss("huber", detla=1), "Did you mean 'delta'"),
    "a rule": (lambda: bf.Rule(maks=[1]), "'mask'"),
    "windows": (lambda: bf.Sequences.windows(X[0], window=2), "'length'"),
    "a scaling": (lambda: bf.Scaling([0], [1], output_men=[0]), "'output_mean'"),
    "a forecaster": (lambda: bf.Forecaster("a", lags=3), "Forecaster: .*'window'"),
    "differences": (lambda: bf.Forecaster("a", differencing=1), r"Transform the data first, .*diff\(12\)"),
    "a season": (lambda: bf.Forecaster("a", season=12), "calendar="),
    "a likelihood": (lambda: bf.Forecaster("a", likelihood="gaussian"), "'loss'"),
    "quantiles": (lambda: bf.Forecaster("a", quantiles=[0.5]), 'bf.Loss."pinball", quantiles='),
    "its network": (lambda: bf.Forecaster("a", units=3), "Forecaster: .*'hidden_size'"),
}


@pytest.mark.parametrize("what", ARGUMENTS)
def test_an_unknown_argument(what):
    act, message = ARGUMENTS[what]
    with pytest.raises(ArgumentError, match=message) as caught:
        act()
    assert isinstance(caught.value, TypeError) and isinstance(caught.value, bf.ConfigError)


def test_the_estimators():
    estimators = pytest.importorskip("bptt_fast.estimators")
    for kind in (estimators.RNNRegressor, estimators.RNNClassifier, estimators.RNNForecaster):
        with pytest.raises(
            ArgumentError, match=f"{kind.__name__}: .*'lr'. Did you mean 'learning_rate_init'"
        ):
            kind(lr=0.1)
        with pytest.raises(ArgumentError, match=r"fit: .*'sampleweights'. Did you mean 'sample_weight'"):
            kind().fit(X, Y, sampleweights=1)
    with pytest.raises(ArgumentError, match=r"'scaling'.*StandardScaler.*TransformedTargetRegressor"):
        estimators.RNNRegressor(scaling="standard")
    with pytest.raises(bf.ConfigError, match="Did you mean 'squared_error'"):
        estimators.RNNRegressor(loss="mse").fit(X, Y)


RESULTS = {"Sequences", "Restarts", "Sweep", "Backtest", "History", "GradientFlow", "Dynamics", "FixedPoints"}
RESULTS |= {
    "Conditioning",
    "Surface",
    "Model",
    "Acceleration",
}  # classes that users get, rather than construct
BASES = {"Callback", "FirstOrder", "Schedule"}


def public_callables():
    """The functions, and the classes that users construct, of the reference."""
    module, found = "", {}
    for line in (Path(__file__).parents[1] / "docs" / "api.md").read_text().splitlines():
        module = line.split()[-1] if line.startswith(".. currentmodule::") else module
        name = f"{module}.{line.strip()}"
        if re.fullmatch(r"   [A-Za-z_][\w.]*", line) and name.split(".")[-1] not in RESULTS | BASES:
            try:
                found[name] = pkgutil.resolve_name(name)
            except ImportError:  # of an optional package
                continue
    return {name: value for name, value in found.items() if callable(value)}


def is_error(value):
    return isinstance(value, type) and issubclass(value, Exception)


def test_every_argument_misspelt():
    """A slip in any argument of the reference is answered with the right name."""
    tried = 0
    for label, public in public_callables().items():
        parameters = inspect.signature(public).parameters.values() if not is_error(public) else ()
        for parameter in parameters:
            name, kind = parameter.name, parameter.kind
            required = parameter.default is parameter.empty
            if kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY) or len(name) < 4:
                continue
            others = {p.name: None for p in parameters if p.default is p.empty and p.kind != p.VAR_KEYWORD}
            others.pop(name, None)
            if any(p.kind == p.VAR_KEYWORD for p in parameters) and not required:
                continue  # checked further inside, below
            with pytest.raises(ArgumentError, match="got the unknown argument") as caught:
                public(**others, **{slip(name): None})
            assert f"Did you mean {name!r}?" in str(caught.value), (label, str(caught.value))
            tried += 1
    assert tried > 250


def slip(name):
    return name[:2] + name[1:]


SERIES = {"a": np.sin(np.arange(40) / 3)}
OPEN_ENDED = {
    "restarts": (lambda **slip: bf.restarts(net(), X, Y, 2, epochs=1, **slip), [bf.restarts], ()),
    "sweep": (lambda **slip: bf.sweep(net(), X, Y, epochs=1, **slip), [bf.sweep], ()),
    "cross_validate": (lambda **slip: bf.cross_validate(net(), X, Y, epochs=1, **slip), [bf.sweep], ()),
    "Loss": (lambda **slip: bf.Loss("huber", **slip), [bf.Loss], ("name",)),
    "Forecaster": (lambda **slip: bf.Forecaster("a", **slip), [bf.Forecaster], ()),
    "error_surface": (
        lambda **slip: bf.diagnostics.error_surface(net(), X, Y, **slip),
        [bf.diagnostics.error_surface, bf.Network.evaluate],
        (),
    ),
    "backtest": (
        lambda **slip: bf.backtest(bf.Forecaster("a"), SERIES, **slip),
        [bf.backtest, bf.Forecaster.fit],
        (),
    ),
}


@pytest.mark.parametrize("what", OPEN_ENDED)
def test_every_argument_misspelt_of(what):
    """Functions that pass arguments on know their own, too."""
    act, functions, given = OPEN_ENDED[what]
    for function in functions:
        for name, parameter in inspect.signature(function).parameters.items():
            if len(name) < 4 or parameter.kind == parameter.VAR_KEYWORD or name in ("self", *given):
                continue
            with pytest.raises(ArgumentError, match=f"Did you mean '{name}'"):
                act(**{slip(name): 1})


def test_a_missing_argument_is_no_slip_of_another():
    """Arguments that are passed on are not taken for a slip of the one that is missing."""
    with pytest.raises(ArgumentError, match=r"restarts: .*'epoch'. Did you mean 'epochs'"):
        bf.restarts(net(), X, Y, epoch=3)
    with pytest.raises(TypeError, match="missing 1 required keyword-only argument: 'epochs'") as caught:
        bf.restarts(net(), X, Y, optimizer="adam", patience=3)
    assert not isinstance(caught.value, ArgumentError)
    with pytest.raises(ArgumentError, match=r"save: .*'pth'. Did you mean 'path'"):
        bf.Network(2, 3, 1, readout="last").learn_online(bf.SlidingBPTT(2)).save(pth="x")


def test_other_type_errors_are_pythons():
    with pytest.raises(TypeError, match="missing 1 required positional argument: 'output_size'"):
        bf.Network(2, 3)

    def fails(name, shape, random):
        raise TypeError("of the caller")

    with pytest.raises(TypeError) as caught:
        sizes(init=fails)()
    assert not isinstance(caught.value, ArgumentError)


def test_signatures_and_docstrings_stay():
    from bptt_fast.fit import fit as function

    assert inspect.signature(bf.Network.fit) == inspect.signature(function)
    assert bf.Network.fit.__doc__ == function.__doc__
    assert list(inspect.signature(bf.Adam).parameters)[:3] == ["learning_rate", "clip_norm", "clip_value"]
    kinds = {p.kind for p in inspect.signature(bf.Network).parameters.values()}
    assert inspect.Parameter.VAR_KEYWORD not in kinds and len(inspect.signature(bf.Network).parameters) > 30


def test_every_suggestion_is_a_name_of_ours():
    """An option that was renamed would be suggested no longer."""
    from bptt_fast import description, estimators, initialisation, losses, optimizers, suggestions

    functions = [bf.Network, bf.Forecaster, bf.SGD, bf.Adam, bf.SlidingBPTT, bf.Sequences.windows]
    functions += [bf.Network.fit, bf.Network.predict, bf.Network.forecast, bf.Network.stream]
    functions += [bf.Forecaster.fit, estimators.RNNRegressor, estimators.RNNForecaster, bf.Loss]
    ours = {name for function in functions for name in inspect.signature(function).parameters}
    ours |= {*initialisation.CELLS, *losses.TABLE, *optimizers.NAMES, *description.NONLINEARITIES}
    ours |= {*estimators.ACTIVATIONS, *estimators.REAL_LOSSES, "log_loss", "standard", "glorot"}
    assert set(suggestions.FOREIGN) <= ours
    words = " ".join([*suggestions.FOREIGN.values(), *suggestions.ELSEWHERE])
    assert re.fullmatch("[a-z0-9 ]+", words)
