"""No option is ignored in silence: it changes the result, or its value is refused by an error that names it.

Values that ask for what happens anyway, such as ``shuffle=False`` where nothing is shuffled, are no wish
that is ignored.
"""

import copy
import importlib.util
import pickle
from dataclasses import fields

import numpy as np
import pytest

import bptt_fast as bf
from bptt_fast.cli import main
from bptt_fast.description import VARIANTS, Description
from bptt_fast.files import write_table
from bptt_fast.initialisation import CELLS, is_own

RANDOM = np.random.default_rng(0)
X, Y, EACH = RANDOM.normal(size=(6, 5, 3)), RANDOM.normal(size=(6, 2)), RANDOM.normal(size=(6, 5, 2))
X[..., 2] = RANDOM.integers(0, 4, size=(6, 5))  # for categories

# every option of a network, with a value that is not the default
OPTIONS = dict(
    categories={2: 4}, nonlinearity="relu", f=(4,), head=(4,), head_nonlinearity="relu", skip=True,
    readout="every", num_layers=2, bidirectional=True, reset="before", peephole=True, equation="potential",
    tau=5.0, dt=0.5, train_tau=True, recurrent_noise=0.1, noise="step", input_noise=0.1, rate_penalty=0.1,
    rate_target=0.2, proj_size=3, dropout=0.3, recurrent_dropout=0.3, initial_state="trained",
    dtype="float32", seed=1, init="orthogonal", spectral_radius=0.7, forget_bias=1.5,
)  # fmt: skip
CONTEXTS = [{name: OPTIONS[name]} for name in ("head", "num_layers", "categories", "recurrent_noise", "init")]


def test_each_option_of_a_network_is_here():
    sizes = {"cell", "input_size", "hidden_size", "output_size"}
    assert {field.name for field in fields(Description)} == OPTIONS.keys() | sizes


def trained(**options):
    net = bf.Network(3, 5, 2, **{"seed": 0, "dtype": "float64"} | options)
    y = Y if net.readout == "last" else EACH
    net.fit(X, y, epochs=2, optimizer=bf.SGD(0.05), verbose=0)
    return net.dtype, net.params.tobytes(), net.predict(X).tobytes()


@pytest.mark.parametrize("context", [{}, *CONTEXTS], ids=str)
@pytest.mark.parametrize("cell", [name for name in CELLS if name not in VARIANTS and not is_own(name)])
def test_an_option_of_a_network_has_an_effect_or_is_refused(cell, context):
    try:
        plain = trained(cell=cell, **context)
    except bf.ConfigError as error:
        assert str(error).startswith(next(iter(context)))
        return
    refused = set()
    for name in OPTIONS.keys() - context:
        try:
            assert trained(cell=cell, **context, **{name: OPTIONS[name]}) != plain, name
        except bf.ConfigError as error:
            assert name in str(error).split(":")[0], error
            refused.add(name)
    assert ("head_nonlinearity" in refused) == ("head" not in context)
    assert ("noise" in refused) == ("recurrent_noise" not in context)


def network(**options):
    return bf.Network(3, 4, 2, **{"seed": 0, "readout": "every"} | options)


def fitted(**options):
    pandas = pytest.importorskip("pandas")
    series = pandas.DataFrame({"load": np.sin(np.arange(40.0))})
    model = bf.Forecaster("load", **{"hidden_size": 3, "window": 8, "seed": 0, "loss": "gaussian"} | options)
    model.fit(series[:30], epochs=1, verbose=0)
    return model, series


def quantiles(made, **options):
    model, series = made
    return model.predict_quantiles(series, [0.3, 0.7], **options)


def backtested(**options):
    model, series = fitted(horizon=2)
    return bf.backtest(model, series, start=32, **options)


def fit(bptt=None, readout="every", **options):
    return network(readout=readout).fit(X, EACH, bptt=bptt, verbose=0, **options)


def regressor(**options):
    pytest.importorskip("sklearn")
    return bf.estimators.RNNRegressor(3, max_iter=2, **options)


SLIDING = {"bptt": bf.SlidingBPTT(2), "readout": "last"}
FEW = {"epochs": 2, "verbose": 0}
REFUSED = {  # the argument that is named, and of what: what is called
    "shuffle of the online algorithm": lambda: fit(shuffle=True, **SLIDING),
    "stateful of the online algorithm": lambda: fit(stateful=True, **SLIDING),
    "teacher_forcing of the online algorithm": lambda: fit(teacher_forcing=0.5, **SLIDING),
    "batch_size of second order": lambda: fit(optimizer="lbfgs", batch_size=2),
    "shuffle of stateful": lambda: fit(stateful=True, shuffle=True),
    "validation_split": lambda: fit(validation_split=0.2, validation_data=(X, EACH)),
    "lengths": lambda: network().predict(list(X), lengths=[3] * 6),
    "min_delta": lambda: fit(patience=bf.Stopping(min_delta=0.1)),
    "SGD(nesterov)": lambda: bf.SGD(nesterov=True),
    "class_weight": lambda: bf.Loss("mse", class_weight=[1, 2]),
    "rng of forecast": lambda: bf.Network(3, 4, 3, seed=0).forecast(X[0], 3, rng=0),
    "samples": lambda: bf.Network(3, 4, 3, seed=0).forecast(X[0], 3, samples=4),
    "rungs": lambda: bf.restarts(network(), X, EACH, 2, keep="all", rungs=[1], **FEW),
    "survivors": lambda: bf.restarts(network(), X, EACH, 4, keep="all", survivors=2, **FEW),
    "n of sweep": lambda: bf.sweep(network(), X, EACH, n=3, **FEW),
    "groups": lambda: bf.sweep(network(), X, EACH, groups=[0, 0, 1, 1, 2, 2], **FEW),
    "holidays": lambda: bf.Forecaster("load", holidays=["2024-01-01"]),
    "categorical": lambda: bf.Forecaster("load", categorical=["load"]),
    "past": lambda: bf.Forecaster("load", past=["wind"], horizon=3),
    "future": lambda: quantiles(fitted(), future=fitted()[1]),
    "backtest of epochs": lambda: backtested(epochs=2),
    "early_stopping": lambda: regressor(early_stopping=True).partial_fit(X, Y),
    "noise of an estimator": lambda: regressor(noise="step").fit(X, Y),
    "nonlinearity of an estimator": lambda: regressor(activation="relu").fit(X, Y),
}  # fmt: skip


@pytest.mark.parametrize("which", REFUSED)
def test_an_option_without_effect_is_refused(which):
    with pytest.raises(bf.ConfigError, match=r"expected|is for|needs") as raised:
        REFUSED[which]()
    assert which.split(" of ")[0] in str(raised.value).split(":")[0]


def test_the_command_line(tmp_path, capsys):
    path, model = tmp_path / "rows.csv", tmp_path / "model.safetensors"
    path.write_text("a\n" + "\n".join(f"{value:.4f}" for value in np.sin(np.arange(40.0))))
    train = ["train", path, "--inputs", "a", "--targets", "a", "--epochs", 1, "--seed", 0]
    main([*map(str, train), "--out", str(model), "--log", str(tmp_path / "log.csv"), "--quiet"])
    picture = ["plot", "--history", tmp_path / "log.csv", "--out", tmp_path / "losses.png"]
    refused = {  # what is named: the arguments
        "noise": [*train, "--cell", "ctrnn", "--noise", "step"],
        "tau": [*train, "--tau", 5],
        "--seed": ["forecast", model, path, "--steps", 2, "--seed", 1],
        "last": [*picture, "--last", 10],
        "decimal": [*picture, "--decimal", ","],
    }
    if importlib.util.find_spec("pyarrow"):
        rows = str(tmp_path / "rows.parquet")
        write_table(rows, ["a"], [np.arange(40.0).tolist()])
        refused["no --sep"] = ["predict", model, rows, "--sep", ";"]
    for name, value in {"steps": 3, "last": 5, "sep": '";"', "model": '"model.safetensors"'}.items():
        config = tmp_path / f"{name}.toml"
        config.write_text(f"{name} = {value}\n")
        shown = name.upper() if name == "model" else f"--{name}"
        refused[f"not allowed with {shown}"] = [*picture, "--config", config]
    for name, arguments in refused.items():
        try:
            code = main([str(one) for one in arguments])
        except SystemExit as stop:
            code = stop.code
        assert code and name in capsys.readouterr().err, name


def with_leftovers(**options):
    """A network as earlier versions made them, with options that have no effect."""
    net = bf.Network(3, 4, 2, seed=0, **options)
    for name, value in {"head_nonlinearity": "relu", "noise": "step"}.items():
        object.__setattr__(net.description, name, value)
    return net


@pytest.mark.parametrize("cell", ["elman", "lstm", "ctrnn"])
def test_files_of_earlier_versions_with_such_options_are_read(cell, tmp_path):
    net = with_leftovers(cell=cell)
    net.save(tmp_path / "net.safetensors")
    copies = [bf.load(tmp_path / "net.safetensors"), pickle.loads(pickle.dumps(net)), copy.copy(net)]
    if importlib.util.find_spec("onnx"):
        net.to_onnx(tmp_path / "net.onnx")
        copies.append(bf.from_onnx(tmp_path / "net.onnx"))
    for one in copies:
        description = one.description
        assert (description.head_nonlinearity, description.noise) == ("tanh", "sde")
        np.testing.assert_array_equal(one.predict(X), net.predict(X))
        bf.Network(**one.config())  # accepted again


@pytest.mark.parametrize(
    "name, option, values",
    [
        ("noise", "recurrent_noise", {"noise": "step", "recurrent_noise": 0.1}),
        ("head_nonlinearity", "head", {"head_nonlinearity": "relu", "head": (4,)}),
        ("rate_target", "rate_penalty", {"rate_target": 0.2, "rate_penalty": 0.1}),
    ],
)
def test_an_option_of_the_network_is_dropped_where_a_sweep_leaves_it_no_effect(name, option, values):
    net = bf.Network(3, 4, 2, cell="ctrnn", seed=0, **values)
    grid = {option: [getattr(Description, option), values[option]]}
    networks = bf.restarts(net, X, Y, 2, grid=grid, seeds=[0, 0], keep="all", **FEW)[1].networks
    found = {getattr(one.description, option): getattr(one.description, name) for one in networks}
    assert found == dict(zip(grid[option], [getattr(Description, name), values[name]], strict=True))
    with pytest.raises(bf.ConfigError, match=f"{name}: expected"):
        bf.sweep(net, X, Y, grid=grid | {name: [values[name]]}, **FEW)


@pytest.mark.parametrize("noise", ["step", "scaled"])
def test_diagnostics_leave_out_noise_of_any_kind(noise):
    net = bf.Network(3, 4, 2, cell="ctrnn", recurrent_noise=0.1, noise=noise, seed=0)
    quiet = bf.Network(3, 4, 2, cell="ctrnn", seed=0)
    flow, expected = (bf.diagnostics.gradient_flow(one, X, Y) for one in (net, quiet))
    np.testing.assert_array_equal(flow.norm, expected.norm)
