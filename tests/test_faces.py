"""Cells, losses and rules at the other faces: estimators, command line, PyTorch and ONNX.

Each works there, or is refused by a named error.
"""

import contextlib
import csv
import json

import numpy as np
import pytest

import bptt_fast as bf
from bptt_fast import cli

CELLS = {
    "mingru": dict(cell="mingru"),
    "minlstm": dict(cell="minlstm"),
    "indrnn": dict(cell="indrnn", nonlinearity="relu"),
    "rate": dict(cell="ctrnn", nonlinearity="retanh", tau=20.0, dt=4.0, recurrent_noise=0.1, noise="step"),
    "potential": dict(
        cell="ctrnn", equation="potential", nonlinearity="softplus", tau=(20.0, 8.0, 40.0), dt=8.0
    ),
    "skip": dict(cell="ctrnn", skip=True),
    "input noise": dict(cell="gru", input_noise=0.1),
}
RULES = {"weight_ih_l0": bf.Rule(sign=1, bounds=(None, 0.5)), "head.0.weight": bf.Rule(l1=0.01)}
X = np.random.default_rng(0).normal(size=(30, 6, 2))
Y = X[:, -1, 0] + np.random.default_rng(1).normal(size=30)
COUNTS = np.random.default_rng(2).poisson(3.0, 30) * 1.0
by_cell = pytest.mark.parametrize("options", CELLS.values(), ids=CELLS)


def network(**options):
    return bf.Network(2, 3, 1, **dict(dtype="float64", seed=0) | options)


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "series.csv"
    with open(path, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["a", "b", "y", "n"])
        writer.writerows(np.column_stack([X[:, 0], 500 + 20 * Y, COUNTS]).tolist())
    return path


def train(table, *arguments, targets="y"):
    """The model that the command writes, and its path."""
    path = table.with_name("model.safetensors")
    shared = ["--inputs", "a,b", "--targets", targets, "--hidden", "3", "--seed", "0", "--epochs", "3"]
    words = ["train", str(table), *shared, "--out", str(path), "--quiet"]
    assert cli.main([*words, *map(str, arguments)]) == 0
    return bf.load(path), str(path)


def predict(path, table, *arguments):
    """The columns that the command writes."""
    out = table.with_name("out.csv")
    assert cli.main(["predict", path, str(table), "--out", str(out), *arguments]) == 0
    with open(out) as file:
        names, *rows = csv.reader(file)
    return dict(zip(names, np.array(rows, float).T, strict=True))


# ---- estimators


def of(kind, **options):
    estimators = pytest.importorskip("bptt_fast.estimators")
    defaults = dict(hidden_size=3, max_iter=2, random_state=0, tol=0.0, n_iter_no_change=2)
    return getattr(estimators, kind)(**defaults | options)


@contextlib.contextmanager
def unfinished():
    import warnings

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Rnn|RNN")  # max_iter
        yield


@by_cell
@pytest.mark.parametrize("kind", ("RNNRegressor", "RNNClassifier", "RNNForecaster"))
def test_cells_of_estimators(kind, options):
    given = {{"nonlinearity": "activation"}.get(name, name): value for name, value in options.items()}
    y = {"RNNRegressor": Y, "RNNClassifier": np.sign(Y), "RNNForecaster": None}[kind]
    with unfinished():
        model = of(kind, **given).fit(X, y)
    config = model.network_.config()
    wanted = options | {"nonlinearity": (options["nonlinearity"],)} if "nonlinearity" in options else options
    assert {name: config[name] for name in wanted} == wanted
    assert np.isfinite(model.predict(X) if kind != "RNNClassifier" else model.predict_proba(X)).all()


@pytest.mark.parametrize("loss", ("gaussian", "laplace", "student_t", "poisson", "negative_binomial"))
@pytest.mark.parametrize("readout", ("last", "every"))
def test_distributions_of_the_regressor(loss, readout):
    """Shapes are those of y, with quantiles and draws in a last axis."""
    rng, known = np.random.default_rng(3), bf.Loss(loss)
    for shape in ((), (2,)):
        y = rng.poisson(2.0, (30, *((6,) if readout == "every" else ()), *shape)) * 1.0
        with unfinished():
            model = of("RNNRegressor", loss=loss, readout=readout).fit(X, y)
        mean, std = model.predict(X, return_std=True)
        quantiles, draws = model.predict_quantiles(X, [0.2, 0.8]), model.sample_y(X, 5, random_state=1)
        assert mean.shape == std.shape == y.shape
        assert quantiles.shape == (*y.shape, 2) and draws.shape == (*y.shape, 5)
        outputs = model.network_.predict(X)
        np.testing.assert_array_equal(mean.ravel(), known.mean(outputs).ravel())
        np.testing.assert_array_equal(quantiles[..., 1].ravel(), known.quantile(outputs, 0.8).ravel())
        assert model.sample_y(X, 5, random_state=1).tobytes() == draws.tobytes()
        assert np.isfinite(model.score(X, y))
    ragged, parts = [X[0], X[1][:4]], [y[0], y[1][:4]] if readout == "every" else y[:2]
    with unfinished():
        model.fit(ragged, parts)
    several = model.predict_quantiles(ragged)
    assert [np.shape(part) for part in several] == [(*np.shape(part), 3) for part in parts]


def test_quantiles_of_the_regressor():
    with unfinished():
        ordered = of("RNNRegressor", loss=bf.Loss("ordered_pinball", quantiles=[0.1, 0.5, 0.9])).fit(X, Y)
        high = of("RNNRegressor", loss=bf.Loss("pinball", quantiles=0.9)).fit(X, Y)
        plain = of("RNNRegressor").fit(X, Y)
    assert (np.diff(ordered.predict_quantiles(X), axis=-1) > 0).all()
    np.testing.assert_array_equal(ordered.predict(X), ordered.predict_quantiles(X, [0.5])[:, 0])
    np.testing.assert_array_equal(high.predict(X), high.network_.predict(X)[:, 0])
    high.set_params(loss="gaussian")  # of the next fit
    np.testing.assert_array_equal(high.predict(X), high.network_.predict(X)[:, 0])
    for call in (
        lambda: ordered.predict(X, return_std=True),
        lambda: ordered.sample_y(X),
        lambda: ordered.predict_quantiles(X, [0.95]),
        lambda: plain.predict_quantiles(X),
        lambda: of("RNNRegressor", loss="poisson").fit(X, -abs(Y)),
        lambda: of("RNNRegressor", loss="binary_cross_entropy").fit(X, Y),
        lambda: of("RNNRegressor", loss=bf.Loss("cross_entropy")).fit(X, Y),
        lambda: of("RNNForecaster", loss=bf.Loss("gaussian")).fit(X),
        lambda: of("RNNRegressor", tau=3.0).fit(X, Y),
    ):
        with pytest.raises((bf.ConfigError, bf.ShapeError)):
            call()


# ---- the command line


@by_cell
def test_cells_of_the_command_line(options, table):
    words = ["--truncate", "5"]  # noise is not for windows
    for name, value in options.items():
        text = ",".join(map(str, value)) if isinstance(value, tuple) else value
        words += [f"--{name.replace('_', '-')}", *([text] if value is not True else [])]
    net, path = train(table, *words)
    config = net.config()
    wanted = options | {"nonlinearity": (options["nonlinearity"],)} if "nonlinearity" in options else options
    assert {name: config[name] for name in wanted} == wanted
    assert np.isfinite(predict(path, table)["y"]).all()


@pytest.mark.parametrize("unfolding", ((), ("--truncate", "4")))
@pytest.mark.parametrize("loss", [name for name in cli.LOSSES if name != "cross_entropy"])
def test_losses_of_the_command_line(loss, unfolding, table):
    """Predictions, deviations and quantiles are in the units of the file."""
    known, target = bf.Loss(loss), "n" if bf.Loss(loss).targets == "count" else "y"
    several = known.has_quantiles and not unfolding
    text = json.dumps({"name": loss, "quantiles": [0.1, 0.5, 0.9]}) if several else loss
    net, path = train(table, "--loss", text, "--validation-split", 0.2, *unfolding, targets=target)
    assert net.output_size == (3 if several else known.outputs)
    words = ["--quantiles", "0.1,0.9"] if several or known.has_distribution else []
    found = predict(path, table, *words, *["--std"] * known.has_distribution)
    if target == "y":
        assert abs(found["y"] - 500).max() < 100
    assert (target + " std" in found) == known.has_distribution
    if words:
        assert (found[f"{target} 0.1"] <= found[f"{target} 0.9"]).all()
    outputs = net.predict(np.float64(X[:, 0]), readout="every")
    if target == "n":
        np.testing.assert_allclose(found["n"], known.mean(outputs)[:, 0], rtol=1e-6)


def test_rules_of_the_command_line(table):
    given = {"weight_ih_l0": {"sign": 1, "bounds": [None, 0.5]}, "head.0.weight": {"l1": 0.01}}
    net, _ = train(table, "--rules", json.dumps(given))
    assert dict(net.rules) == RULES and 0 <= net["weight_ih_l0"].min() <= net["weight_ih_l0"].max() <= 0.5
    config = table.with_name("run.toml")
    config.write_text(
        'cell = "ctrnn"\nnonlinearity = "relu"\ntau = [20, 8, 40]\ndt = 8\ndale = 0.7\n'
        'loss = {name = "huber", delta = 0.5}\n'
        '[rules.weight_ih_l0]\nsign = 1\nbounds = [-inf, 0.5]\n[rules."head.0.weight"]\nl1 = 0.01\n'
    )
    net, _ = train(table, "--config", config)
    assert net.config()["tau"] == (20.0, 8.0, 40.0) and json.loads(net.extra["train"])["loss"]["delta"] == 0.5
    assert {name: net.rules[name] for name in RULES} == RULES
    np.testing.assert_array_equal(net.rules["weight_hh_l0"].sign, [1, 1, -1])


LINES_WRONG = {
    "loss": (("--loss", "binary_cross_entropy"), "real targets, counts or classes"),
    "classes of numbers": (("--classes", "2"), "--classes: expected with --loss cross_entropy"),
    "numbers as classes": (("--loss", "cross_entropy"), "--classes: expected with --loss cross_entropy"),
    "parameter": (("--loss", '{"name": "huber", "gamma": 1}'), "gamma"),
    "JSON": (("--loss", "{name"), "JSON object"),
    "rule": (("--rules", '{"weight_hh_l0": {"l3": 1}}'), "rules, weight_hh_l0: expected one of"),
    "no rule": (("--rules", '{"weight_hh_l0": 1}'), "rules, weight_hh_l0: expected an object"),
    "list": (("--rules", "[1]"), "JSON object"),
    "value": (("--rules", '{"weight_hh_l0": {"l1": -1}}'), "l1"),
    "block": (("--rules", '{"weight": {"l1": 1}}'), "expected one of 'weight_ih_l0'"),
    "dale": (("--dale", "0.5", "--cell", "mingru"), "dale: expected a cell with a recurrent matrix"),
    "tau": (("--tau", "3"), "tau: expected 10 for cell="),
    "each tau": (("--cell", "ctrnn", "--tau", "10,x"), "expected a number, got 'x'"),
    "short tau": (("--cell", "ctrnn", "--tau", "0.1"), "tau"),
}


@pytest.mark.parametrize("words, message", LINES_WRONG.values(), ids=LINES_WRONG)
def test_wrong_lines(words, message, table, capsys):
    with pytest.raises(SystemExit) as ended:
        train(table, *words)
    assert ended.value.code == 2 and message in capsys.readouterr().err


def test_wrong_questions_to_models(table, capsys):
    for words, asked, message in (
        ((), ("--std",), "std: expected a loss with a distribution"),
        ((), ("--quantiles", "0.5"), "quantile: expected a loss with a distribution"),
        (("--loss", "pinball"), ("--quantiles", "0.1"), "q: expected a finite number of at least 0.5"),
    ):
        _, path = train(table, *words)
        assert cli.main(["predict", path, str(table), *asked]) == 1
        assert message in capsys.readouterr().err
    net, path = train(table, "--loss", "gaussian")
    notes = json.loads(net.extra["train"])
    for changed in ({"loss": 3}, {"targets": ["a", "b"]}, {"scaling": {"mean": [0]}}, {"scaling": 1}):
        net.extra["train"] = json.dumps(notes | changed)
        net.save(path)
        assert cli.main(["predict", path, str(table)]) == 1
        assert "notes on the loss" in capsys.readouterr().err


# ---- PyTorch and ONNX


@by_cell
@pytest.mark.parametrize("readout", ("last", "every"))
def test_files_of_onnx(options, readout, tmp_path):
    """Written, run and read again, to the bit; noise and rules are of training."""
    pytest.importorskip("onnx")
    runtime = pytest.importorskip("onnxruntime")
    net = network(readout=readout, num_layers=2, **options)
    net.rules = RULES
    path = str(tmp_path / "net.onnx")
    net.to_onnx(path)
    y = runtime.InferenceSession(path).run(["y"], {"x": X})[0]
    np.testing.assert_allclose(y, net.predict(X), rtol=1e-9)
    again = bf.from_onnx(path)
    assert again.params.tobytes() == net.params.tobytes() and not again.rules
    assert again.config() == net.config()


@by_cell
def test_modules_of_pytorch(options):
    torch = pytest.importorskip("torch")
    net = network(**options)
    net.rules = RULES
    if "input_noise" in options:
        with pytest.raises(bf.ConfigError, match=r"to_torch: .*input_noise"):
            net.to_torch()
        return
    model = net.to_torch()
    np.testing.assert_allclose(model.eval()(torch.tensor(X)).detach(), net.predict(X), rtol=1e-9)
    again = bf.from_torch(model)
    assert again.params.tobytes() == net.params.tobytes() and not again.rules


# ---- streams and learners


@by_cell
def test_streams_and_learners(options):
    net = network(**options)
    rows, stream = X.reshape(-1, 2), net.stream()
    outputs = [stream.step(row) for row in rows[:9]]
    np.testing.assert_allclose(outputs[-1], net.predict(rows[:9]), rtol=1e-9)
    if net.config()["recurrent_noise"] or net.config()["input_noise"]:
        with pytest.raises(bf.ConfigError, match="noise"):
            net.learn_online(bf.SlidingBPTT(3))
        return
    learner = net.learn_online(bf.SlidingBPTT(3))
    assert np.isfinite([learner.observe(row, row[:1]) for row in rows[:9]][3:]).all()
