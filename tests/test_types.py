"""Types: the annotations agree with the running package, and a user who checks strictly sees them."""

from pathlib import Path
from typing import Literal, get_args

import pytest
from support.cases import ROOT

import bptt_fast
from bptt_fast import choices

pytest.importorskip("mypy")
pytestmark = pytest.mark.slow
FOLDER = Path(bptt_fast.__file__).parents[1]
SEARCH = (
    {} if FOLDER.name == "site-packages" else {"MYPYPATH": str(FOLDER)}
)  # mypy finds the former by itself

USER = """
from typing import Any, assert_type

import numpy as np

import bptt_fast as bf

Array = np.ndarray[Any, Any]

x = np.zeros((8, 10, 1))
net = bf.Network(1, 16, 1, cell="gru", readout="every", seed=0)
history = net.fit(x, x, epochs=2, optimizer=bf.Adam(bf.Cosine(0.01)), bptt=bf.TruncatedBPTT(5), verbose=0)
assert_type(history, bf.History)
assert_type(net.params, Array)
assert_type(net["weight_hh_l0"], Array)
assert_type(net.evaluate(x, x), float)
assert_type(net.stream().step(x[0, 0]), Array)
loss, grads = net.loss_and_grad(x, x)
assert_type(loss, float)
assert_type(grads["weight_hh_l0"], Array)
best, copies = bf.restarts(net, x, x, epochs=4, verbose=0)
assert_type(best, bf.Network)
assert_type(copies, bf.Restarts)
assert_type(bf.diagnostics.gradient_flow(net, x, x).factor, float)
assert_type(bf.sweep(net, x, x, seeds=[0, 1], epochs=1, verbose=0), bf.Sweep)


class Frame:
    def to_numpy(self) -> Array:
        return x


table, windows = Frame(), bf.Sequences.windows(x[0], 5)
assert_type(net.predict(x), Array)
assert_type(net.predict(windows, readout="every", batch_size=3), Array)
assert_type(net.predict(x, return_state=True), tuple[Array, Array])
assert_type(net.predict(table, readout="last"), Array)
assert_type(net.predict([x[0], x[1]], readout="last", return_state=True)[1], Array)
assert_type(net.predict(table, readout="every"), Frame)
assert_type(net.predict([table, table], readout="every"), list[Frame])
assert_type(net.predict([net["weight_hh_l0"]], readout="every"), list[Array])
assert_type(net.predict([table]), Any)
assert_type(net.predict([table], return_state=True), tuple[Any, Array])
assert_type(net.forecast(x, 5), Array)
assert_type(net.forecast([x, x], 5), Array)
assert_type(net.forecast(table, 5), Frame)
assert_type(net.forecast([table], 5), list[Frame])
assert_type(net.forecast(table, 5, loss="gaussian", samples=3, rng=0), Array)
assert_type(net.learn_online(bf.SlidingBPTT(3)).predict(x[0, 0]), Array)
net.predict(x, batch=3)  # type: ignore[call-overload]
net.predict(x, batch_size="many")  # type: ignore[call-overload]
net.forecast(x, 5, samples="many")  # type: ignore[call-overload]

forecaster = bf.Forecaster("load", horizon=3)
assert_type(forecaster.predict(table), Frame)
assert_type(forecaster.predict([table]), list[Frame])
assert_type(forecaster.predict({"north": table}), dict[str, Frame])
assert_type(forecaster.sample_paths([table], 50), list[Array])
assert_type(forecaster.sample_paths({"north": table}, rng=0), dict[str, Array])
forecaster.predict_quantiles([table], paths=10)[0]
forecaster.predict_interval({"north": table}, 0.9)["north"]
forecaster.predict_interval({"north": table}, 0.9)["south", 1]  # type: ignore[index]

regressor = bf.estimators.RNNRegressor(8).fit(x, x[:, 0, 0])
assert_type(regressor, bf.estimators.RNNRegressor)
assert_type(regressor.predict(x), Array)
assert_type(regressor.predict(x, return_std=True), tuple[Array, Array])
assert_type(regressor.predict([x[0]], return_std=True), tuple[Any, Any])
assert_type(regressor.predict_quantiles(x), Array)
assert_type(regressor.sample_y(x), Array)
assert_type(bf.estimators.RNNClassifier().predict(x), Array)
assert_type(bf.estimators.RNNClassifier().predict_proba(x), Array)
assert_type(bf.estimators.RNNClassifier().predict_log_proba(x), Array)
assert_type(bf.estimators.RNNForecaster().predict(table, 3), Frame)
assert_type(bf.estimators.RNNForecaster().predict([x[0]]), Array)


class Stop(bf.Callback):
    def on_epoch_end(self, epoch: int, logs: dict[str, float]) -> bool:
        return self.model.num_parameters > epoch and logs["loss"] < 0.1


net.fit(x, x, callbacks=[Stop()], verbose=0)
try:
    net.predict(x)
except bf.DivergedError as error:
    assert_type(error.epoch, int | None)

bf.Network("one", 16, 1)  # type: ignore[arg-type]
net.fit(x, x, epoch=3)  # type: ignore[call-arg]
bf.SlidingBPTT()  # type: ignore[call-arg]
bf.Netwrok  # type: ignore[attr-defined]
bf.Network(1, 16, 1, cell=bf.build_cell("my_cell.h"), dtype=np.float64)
bf.Network(1, 16, 1, init=lambda name, shape, random: np.zeros(shape))
bf.Forecaster("load", strategy="direct", scaling=None, missing="indicator", cell="lstm")
bf.from_torch(None, readout="last")
"""
# arguments by what they accept; each also has a wrong name
ACCEPTED = {
    "bf.Network(1, 16, 1, cell={})": choices.CoreCell,
    "bf.Network(1, 16, 1, nonlinearity={})": choices.Nonlinearity,
    "bf.Network(1, 16, 1, cell='mlp', f=(4,), nonlinearity=({}, 'tanh'))": choices.Nonlinearity,
    "bf.Network(1, 16, 1, head_nonlinearity={})": choices.Nonlinearity,
    "bf.Network(1, 16, 1, readout={})": choices.Readout,
    "bf.Network(1, 16, 1, reset={})": choices.Reset,
    "bf.Network(1, 16, 1, equation={})": choices.Equation,
    "bf.Network(1, 16, 1, noise={})": choices.Noise,
    "bf.Network(1, 16, 1, initial_state={})": choices.InitialState,
    "bf.Network(1, 16, 1, init={})": choices.Init,
    "bf.Network(1, 16, 1, dtype={})": Literal["float32", "float64"],
    "net.fit(x, x, loss={})": choices.LossName,
    "net.evaluate(x, x, loss={})": choices.LossName,
    "bf.Loss({})": choices.LossName,
    "bf.Loss('mse', average={})": choices.Average,
    "net.fit(x, x, optimizer={})": choices.OptimizerName,
    "net.learn_online(bf.SlidingBPTT(3), {})": choices.FirstOrderName,
    "net.predict(x, readout={})": choices.Readout,
    "net.fit(x, x, scaling={})": Literal["standard"],
    "net.fit(x, x, verbose={})": Literal["auto"],
    "bf.restarts(net, x, x, epochs=4, keep={})": choices.Keep,
    "bf.Forecaster('load', strategy={})": choices.Strategy,
    "bf.Forecaster('load', scaling={})": choices.SeriesScaling,
    "bf.Forecaster('load', missing={})": choices.Missing,
    "bf.callbacks.EarlyStopping(mode={})": choices.Mode,
    "bf.estimators.RNNRegressor(cell={})": choices.CoreCell,
    "bf.estimators.RNNClassifier(activation={})": choices.Activation,
    "bf.estimators.RNNForecaster(noise={})": choices.Noise,
    "bf.torch.CTRNN(1, 2, equation={})": choices.Equation,
}


def names(kind):
    """The names in a Literal or a union of some."""
    for one in get_args(kind):
        yield from (one,) if isinstance(one, str) else names(one)


def user():
    """USER, with every name that is accepted, and one that is not in each place."""
    lines = [call.format(repr(name)) for call, kind in ACCEPTED.items() for name in names(kind)]
    wrong = [f"{call.format(repr('lsmt'))}  # type: ignore" for call in ACCEPTED]
    return "\n".join([USER, *lines, *wrong, ""])


INSTALLED = """[mypy]
[mypy-bptt_fast.*]
follow_imports = silent
"""


def test_the_annotations_are_those_of_the_running_package(python):
    for package in ("matplotlib", "onnx", "sklearn", "sktime", "torch"):  # else names from them are missing
        pytest.importorskip(package)
    config, allowed = ROOT / "pyproject.toml", ROOT / "tests" / "stubtest.txt"
    done = python(
        "-m",
        "mypy.stubtest",
        "bptt_fast",
        "--concise",
        "--mypy-config-file",
        config,
        "--allowlist",
        allowed,
        env=SEARCH,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_user_who_checks_strictly_sees_types(python, tmp_path):
    (tmp_path / "user.py").write_text(user())
    (tmp_path / "mypy.ini").write_text(INSTALLED)
    done = python("-m", "mypy", "--strict", "--config-file", "mypy.ini", "user.py", env=SEARCH)
    assert done.returncode == 0, done.stdout + done.stderr
