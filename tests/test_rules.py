"""Rules on parameters: every update against NumPy, what holds after each epoch, and what is refused."""

import copy
import dataclasses
import json
import pickle

import numpy as np
import pytest
from support import cases
from support import reference as ref
from support.ruled import Ruled, obeys, oracle, several
from support.training import Training, check
from support.truncated import Truncated, assert_weights

import bptt_fast as bf

FORMULAS, LAYOUTS = ref.FORMULAS, cases.LAYOUTS


# ---- every optimiser against NumPy


@pytest.mark.parametrize("numbers", FORMULAS.values(), ids=FORMULAS)
@pytest.mark.parametrize("form", LAYOUTS.values(), ids=LAYOUTS)
def test_minibatches(form, numbers):
    """Two epochs of three batches; the clip counts only the gradient of weights that may change."""
    training = Ruled(optimizer=numbers | dict(clip_norm=0.3), **form, lengths=(5, 3, 6, 1, 4, 2, 3))
    start = training.problem.params
    for _ in range(2):
        got, expected = training.epoch(batch=3)
        check(got, expected, 1e-12 if "rprop" in numbers["optimizer"] else 1e-11, start)
        training.problem.params = expected[1]


@pytest.mark.parametrize("numbers", FORMULAS.values(), ids=FORMULAS)
def test_online(numbers):
    training = Ruled(optimizer=numbers, lengths=(30, 20), head=(4,))
    check(*training.slide(3, 1), 1e-9, training.problem.params)


@pytest.mark.parametrize("isa", cases.isas())
@pytest.mark.parametrize("lanes", ("units", "rows"))
@pytest.mark.parametrize("form", LAYOUTS.values(), ids=LAYOUTS)
def test_every_instance(form, lanes, isa):
    """Vectors of units and of rows, both number types, widths that fill no vector."""
    for dtype, tolerance in (("float64", 1e-11), ("float32", 1e-4)):
        sizes = form | dict(hidden_size=7, lengths=(5, 3, 6, 4))
        training = Ruled(dtype, isa, optimizer=FORMULAS["sgd"] | dict(clip_norm=0.1), **sizes)
        plan = training.plan
        training.plan = lambda plan=plan, **more: plan(lanes=lanes, **more)
        check(*training.epoch(batch=4), tolerance, training.problem.params)


@pytest.mark.parametrize("every", (False, True), ids=("last", "every"))
@pytest.mark.parametrize("form", LAYOUTS.values(), ids=LAYOUTS)
def test_truncated(form, every):
    if form.get("bidirectional"):
        form = form | dict(bidirectional=False)
    t = Truncated(3, 5, **form, lengths=(20, 7, 1, 13), every=every, gain=0.5)
    net = t.problem.network()
    net.rules = several(net)
    t.problem.params = net.state_dict()
    reference = ref.Optimizer("adam", learning_rate=0.01)
    reference.rules = oracle(net)
    losses, expected, _ = t.train(reference, 2, 3)
    got = t.fit(net, optimizer=bf.Adam(0.01), epochs=2, batch_size=3)[1]
    np.testing.assert_allclose(got, losses, rtol=1e-11)
    assert_weights(net, expected, t.problem.params, 1e-10)


def test_schedules_set_the_threshold():
    """The proximal step is the learning rate of each update."""
    net = bf.Network(1, 2, 1, dtype="float64", seed=0)
    for name in net:
        net[name] = 1.0
    net.rules["weight_hh_l0"] = bf.Rule(l1=0.5)
    x = np.zeros((3, 1, 1))  # one step from zeros: weight_hh has no gradient
    net.fit(x, x[:, 0], epochs=2, batch_size=3, optimizer=bf.SGD(bf.Exponential(0.2, 0.5)), verbose=0)
    rates = [0.2, 0.1]
    np.testing.assert_allclose(net["weight_hh_l0"], 1 - 0.5 * sum(rates), rtol=1e-14)


# ---- the bits


THREADED = dict(hidden_size=37, lengths=(160,) * 32)


@pytest.mark.parametrize("numbers", [FORMULAS[name] for name in ("sgd", "adam", "rprop")])
@pytest.mark.parametrize("lanes", ("units", "rows"))
@pytest.mark.parametrize("cell", ("elman-tanh", "gru-before"))
def test_threads(cell, lanes, numbers):
    ends = []
    for threads in (1, 2, 3):
        training = Ruled("float32", threads=threads, optimizer=numbers, **cases.FORMS[cell], **THREADED)
        plan = training.plan(batch=16, steps=160, readout_every_step=True, lanes=lanes)
        losses, weights, run = np.empty(2), np.empty(2), training.run
        options = training.hyper | dict(no_bias_decay=True, clip_value=0.01, noise=0.1, noise_seed=5)
        plan.epoch(run.params, training.slots, options, run.data, run.order, losses, weights)
        assert plan.threads == threads
        ends.append((run.params.tobytes(), losses.tobytes(), training.slots.tobytes()))
    assert ends[0] == ends[1] == ends[2]


@pytest.mark.parametrize("lanes", ("units", "rows"))
def test_rules_that_allow_everything_change_no_bit(lanes):
    def free(net):
        return {name: bf.Rule() for name in net}

    ends = []
    for kind in (Ruled, Training):
        more = dict(make=free) if kind is Ruled else {}
        training = kind("float32", **more, optimizer=FORMULAS["adam"], cell="gru", activation=(), head=(4,))
        plan = training.plan
        training.plan = lambda plan=plan, **sizes: plan(lanes=lanes, **sizes)
        ends.append([w.tobytes() for w in training.epoch(batch=2)[0][1].values()])
    assert ends[0] == ends[1]


@pytest.mark.parametrize("dtype", ("float32", "float64"))
@pytest.mark.parametrize(
    "optimizer", (bf.SGD(0.1, momentum=0.5, weight_decay=0.1), bf.AdamW(0.1), bf.Rprop())
)
def test_frozen_weights_keep_their_bits(optimizer, dtype):
    """Minus zero, denormals and large numbers included; noise and decay do not move them."""
    net = bf.Network(2, 6, 1, dtype=dtype, seed=0)
    odd = np.array([-0.0, 1e-40 if dtype == "float32" else 1e-310, -3.0, 0.25, 1e-30, 2.0])
    net["weight_hh_l0"][2] = odd
    net["bias_hh_l0"] = 0.1
    net.rules["weight_hh_l0"] = bf.Rule(trainable=False, l1=0.1, l2=0.1, group=("rows", 0.1))
    net.rules["bias_hh_l0"] = bf.Rule(trainable=np.arange(6) > 2)
    start = net.state_dict()
    optimizer = dataclasses.replace(optimizer, gradient_noise=0.01)
    x = np.random.default_rng(0).normal(size=(12, 5, 2))
    net.fit(x, x[:, 0, :1], epochs=3, batch_size=12, optimizer=optimizer, verbose=0)
    obeys(net, start)
    assert start["weight_hh_l0"][2].tobytes() == odd.astype(dtype).tobytes()
    assert (net["bias_hh_l0"][3:] != start["bias_hh_l0"][3:]).all()


# ---- every unfolding, entry and file


class Obey(bf.Callback):
    """Asserts after each epoch that the rules hold."""

    epochs = 0

    def on_train_begin(self, logs):
        self.start = self.model.state_dict()

    def on_epoch_end(self, epoch, logs):
        obeys(self.model, self.start)
        self.epochs += 1


UNFOLDINGS = {
    "full": (bf.FullBPTT(), "every"),
    "truncated": (bf.TruncatedBPTT(3, 7), "every"),
    "checkpointed": (bf.CheckpointedBPTT(4), "every"),
    "sliding": (bf.SlidingBPTT(3), "last"),
}


def data(n=6, steps=25, seed=0):
    x = np.random.default_rng(seed).normal(size=(n, steps, 2))
    return x, x.cumsum(axis=1)


def ruled(readout="every", make=several, **more):
    net = bf.Network(2, 9, 2, readout=readout, **{"seed": 1} | more)
    net.rules = make(net)
    return net


@pytest.mark.parametrize("dtype", ("float32", "float64"))
@pytest.mark.parametrize("name", UNFOLDINGS)
@pytest.mark.parametrize("cell", ("elman", "gru", "lstm", "mlp"))
def test_after_each_epoch(cell, name, dtype):
    unfolding, readout = UNFOLDINGS[name]
    more = dict(f=(5,)) if cell == "mlp" else {}
    ends = []
    for threads in (1, 3):
        net, check = ruled(readout, cell=cell, dtype=dtype, **more), Obey()
        start, (x, y) = net.params.copy(), data()
        options = dict(epochs=2, batch_size=4, bptt=unfolding, callbacks=[check], threads=threads, verbose=0)
        net.fit(x, y, optimizer=bf.Adam(0.02, clip_norm=1.0), **options)
        assert check.epochs == 2 and (net.params != start).mean() > 0.3
        ends.append(net.params.tobytes())
    assert ends[0] == ends[1]


def test_learner_and_fit_are_the_same():
    x, y = data(1, 60)
    fitted, learned = ruled("last"), ruled("last")
    start = fitted.state_dict()
    fitted.fit(x[0], y[0], bptt=bf.SlidingBPTT(3), optimizer=bf.Adam(0.01), verbose=0)
    learner = learned.learn_online(bf.SlidingBPTT(3), bf.Adam(0.01))
    for row, target in zip(x[0], y[0], strict=True):
        learner.observe(row, target)
        obeys(learned, start)
    assert fitted.params.tobytes() == learned.params.tobytes()
    stream, expected = learned.stream(), learned.predict(x[0], readout="every")
    np.testing.assert_allclose([stream.step(row) for row in x[0].astype("f4")], expected, atol=1e-6)


def test_a_saved_learner_goes_on(tmp_path):
    x, y = data(1, 60)
    ends = []
    for save in (False, True):
        net = ruled("last")
        learner = net.learn_online(bf.SlidingBPTT(3), bf.Adam(0.01))
        for i, (row, target) in enumerate(zip(x[0], y[0], strict=True)):
            if save and i == 30:
                learner.save(tmp_path / "learner.safetensors")
                learner = bf.load(tmp_path / "learner.safetensors")
                assert learner.network.rules == dict(net.rules)
            learner.observe(row, target)
        ends.append(learner.network.params.tobytes())
    assert ends[0] == ends[1]


@pytest.mark.parametrize("way", ("file", "pickle", "copy", "deepcopy"))
def test_saved_and_copied(way, tmp_path):
    net = ruled()
    net.fit(*data(), verbose=0)
    if way == "file":
        net.save(tmp_path / "net.safetensors")
        again = bf.load(tmp_path / "net.safetensors")
    else:
        again = pickle.loads(pickle.dumps(net)) if way == "pickle" else getattr(copy, way)(net)
    assert again.rules == dict(net.rules) and repr(again) == repr(net)
    assert again.params.tobytes() == net.params.tobytes()
    for each in (net, again):
        each.fit(*data(seed=1), epochs=2, verbose=0)
    assert again.params.tobytes() == net.params.tobytes()


def test_a_network_without_rules_is_saved_as_before(tmp_path):
    net = bf.Network(1, 2, 1, seed=0)
    net.rules["head.0.bias"] = bf.Rule(trainable=False)
    del net.rules["head.0.bias"]
    net.save(tmp_path / "net.safetensors")
    header = (tmp_path / "net.safetensors").read_bytes()
    assert b"rules" not in header and bf.load(tmp_path / "net.safetensors").constraints is None
    assert "Rule" not in repr(net)


def test_damaged_rules(tmp_path):
    """Each change of a file's rules is found, or is an error that names the file."""
    import safetensors.numpy

    from bptt_fast import storage

    net = ruled()
    path = tmp_path / "net.safetensors"
    net.save(path)
    header = json.loads(path.read_bytes()[8 : 8 + int.from_bytes(path.read_bytes()[:8], "little")])
    metadata, tensors = header["__metadata__"], safetensors.numpy.load(path.read_bytes())
    rules = json.loads(metadata["rules"])
    for name, value in (("l1", -1.0), ("nothing", 0), ("group", ["diagonals", 1.0]), ("sign", 7)):
        changed = copy.deepcopy(rules)
        changed["weight_hh_l0"][name] = value
        spoiled = metadata | {"rules": json.dumps(changed)}
        parts = "".join(spoiled.get(key, "") for key in ("network", "extra", "learner", "columns", "rules"))
        kept = {k: t for k, t in tensors.items() if name != "sign" or k != "rules.weight_hh_l0.sign"}
        spoiled["sha256"] = storage.digest(parts, kept)
        path.write_bytes(safetensors.numpy.save(kept, spoiled))
        with pytest.raises(bf.CorruptFileError, match=r"net\.safetensors"):
            bf.load(path)
    path.write_bytes(safetensors.numpy.save(tensors, metadata | {"rules": "{}"}))
    with pytest.raises(bf.CorruptFileError, match="damaged"):
        bf.load(path)


@pytest.mark.parametrize("optimizer", (bf.Adam(0.01), bf.LBFGS(), bf.LevenbergMarquardt()))
def test_a_backup_goes_on(optimizer, tmp_path):
    def make(net):
        return {k: bf.Rule(sign=r.sign, mask=r.mask, l1=1e-3) for k, r in several(net).items()}

    class Stop(Exception):
        pass

    def stop(epoch, logs):
        if epoch == 2:
            raise Stop

    def fit(net, *more):
        backup = bf.callbacks.BackupAndRestore(tmp_path / "backup")
        return net.fit(*data(), epochs=5, optimizer=optimizer, callbacks=[*more, backup], verbose=0)

    with pytest.raises(Stop):
        fit(ruled(make=make), bf.callbacks.LambdaCallback(on_epoch_begin=stop))
    other = ruled(make=make)
    other.rules["weight_hh_l0"] = bf.Rule(l1=0.5)
    with pytest.raises(bf.ConfigError, match=r"^rules: expected .* as in the backup"):
        fit(other)
    resumed, whole = ruled(make=make), ruled(make=make)
    fit(resumed)
    whole.fit(*data(), epochs=5, optimizer=optimizer, verbose=0)
    assert resumed.params.tobytes() == whole.params.tobytes()


def test_restarts():
    """Each copy is drawn again, obeys from the start, and equals a single fit."""
    net, (x, y) = ruled(), data()
    _, table = bf.restarts(net, x, y, n=3, epochs=2, keep="all", verbose=0)
    for copied in table.networks:
        assert copied.rules == dict(net.rules)
        alone = bf.Network(**net.config() | {"seed": copied.seed})
        alone.rules = net.rules
        obeys(alone, alone.state_dict())
        alone.fit(x, y, epochs=2, verbose=0)
        assert alone.params.tobytes() == copied.params.tobytes()
    with pytest.raises(bf.ShapeError, match=r"copy 0 with hidden_size=4.*rules\['weight_ih_l0'\]"):
        bf.restarts(net, x, y, n=1, epochs=2, grid={"hidden_size": [4]}, verbose=0)


def test_estimators():
    pytest.importorskip("sklearn")
    from sklearn.base import clone

    from bptt_fast.estimators import RNNForecaster, RNNRegressor

    x, y = data(20)
    for model in (RNNRegressor(6, max_iter=3, random_state=0), RNNForecaster(6, max_iter=3, random_state=0)):
        model = clone(model.set_params(rules={"weight_hh_l0": bf.Rule(sign=1, trainable=False)}))
        with pytest.warns(UserWarning):
            model.fit(x, *[y[:, -1]] * isinstance(model, RNNRegressor))
        assert (model.network_["weight_hh_l0"] >= 0).all()
        start = model.network_["weight_hh_l0"].tobytes()
        with pytest.warns(UserWarning):
            model.set_params(warm_start=True).fit(x, *[y[:, -1]] * isinstance(model, RNNRegressor))
        assert model.network_["weight_hh_l0"].tobytes() == start
    with pytest.raises(bf.ConfigError, match="rules"):
        RNNRegressor(rules=[1]).fit(x, y[:, -1])


def test_exports_have_plain_weights(tmp_path):
    pytest.importorskip("onnx")
    net = ruled(make=lambda net: {"weight_hh_l0": bf.Rule(mask=np.eye(9, dtype=bool))})
    net.to_onnx(tmp_path / "net.onnx")
    again = bf.from_onnx(tmp_path / "net.onnx")
    assert not again.rules and again.params.tobytes() == net.params.tobytes()
    pytest.importorskip("torch")
    module = net.to_torch()
    np.testing.assert_array_equal(module.rnn.weight_hh_l0.detach().numpy(), net["weight_hh_l0"])


def test_the_command_line_shows_rules(tmp_path, capsys):
    from bptt_fast.cli import main

    net = ruled(make=lambda net: {"head.0.bias": bf.Rule(bounds=(0, 1), l1=0.5)})
    net.save(tmp_path / "net.safetensors")
    assert main(["info", str(tmp_path / "net.safetensors")]) == 0
    assert "Rule(bounds=(0.0, 1.0), l1=0.5)" in capsys.readouterr().out
    assert main(["info", str(tmp_path / "net.safetensors"), "--json"]) == 0
    model = json.loads(capsys.readouterr().out)["model"]
    assert model["rules"] == {"head.0.bias": "Rule(bounds=(0.0, 1.0), l1=0.5)"}


def test_estimate_memory_counts_the_rules():
    net = ruled()
    expected = net.estimate_memory(4, 25)
    net.fit(*data(), batch_size=4, verbose=0)
    assert [pooled.plan.nbytes for pooled in net.plans._plans] == [expected]
    assert bf.Network(**net.config()).estimate_memory(4, 25) < expected


# ---- second order


def convex(rules, dtype="float64"):
    """A linear readout of a fixed state: least squares in the head, frozen in f, with the rules."""
    net = bf.Network(3, 8, 2, dtype=dtype, seed=0)
    for name in net:
        if not name.startswith("head"):
            net.rules[name] = bf.Rule(trainable=False)
    net.rules["head.0.weight"] = rules
    x = np.random.default_rng(1).normal(size=(40, 4, 3))
    return net, x, np.random.default_rng(2).normal(size=(40, 2)) + x[:, -1, :2]


def solution(net, x, y, steps=200_000):
    """Proximal gradients until nothing moves, in NumPy."""
    identity = copy.copy(net)
    states = []
    for unit in range(8):
        identity["head.0.weight"], identity["head.0.bias"] = 0, 0
        identity["head.0.weight"][0, unit] = 1
        states.append(identity.predict(x)[:, 0])
    h = np.stack([*states, np.ones(len(x))], axis=1)
    o = oracle(net)["head.0.weight"]
    low, high = (np.c_[o[k], [[free]] * 2] for k, free in (("low", -np.inf), ("high", np.inf)))
    l1, l2 = (np.r_[np.full(8, o[k]), 0] for k in ("l1", "l2"))
    w = np.c_[net["head.0.weight"], net["head.0.bias"]]
    curvature = 2 * h.T @ h / y.size
    rate, target = 1 / (np.linalg.eigvalsh(curvature).max() + o["l2"]), 2 * y.T @ h / y.size
    for _ in range(steps):
        old = w
        w = w - rate * (w @ curvature - target + l2 * w)
        w = np.sign(w) * np.maximum(abs(w) - rate * l1, 0)
        w = np.minimum(np.maximum(w, low), high)
        if abs(w - old).max() < 1e-14:
            break
    return w


SECOND = (bf.LBFGS(), bf.LevenbergMarquardt(), bf.HessianFree(1e-3))
KINDS = {
    "frozen": bf.Rule(trainable=np.arange(16).reshape(2, 8) % 3 > 0),
    "mask": bf.Rule(mask=np.arange(16).reshape(2, 8) % 3 > 0),
    "sign": bf.Rule(sign=[1, -1, 1, -1, 1, 0, 0, -1]),
    "bounds": bf.Rule(bounds=(-0.3, 0.2)),
    "l2": bf.Rule(l2=0.05),
    "l1": bf.Rule(l1=0.03),
    "all": bf.Rule(
        mask=np.arange(16).reshape(2, 8) % 5 > 0, sign=[1, -1, 1, -1, 1, 0, 0, -1], l1=0.01, l2=0.02
    ),
}


@pytest.mark.parametrize("optimizer", SECOND, ids=lambda o: o.name)
@pytest.mark.parametrize("rule", KINDS.values(), ids=KINDS)
def test_second_order_finds_the_minimum(rule, optimizer):
    """Convex problems with known minima."""
    net, x, y = convex(rule)
    start = net.state_dict()
    expected = solution(net, x, y)
    history = net.fit(x, y, epochs=300, optimizer=optimizer, callbacks=[Obey()], verbose=0)
    obeys(net, start)
    got = np.c_[net["head.0.weight"], net["head.0.bias"]]
    np.testing.assert_allclose(got, expected, rtol=0, atol=2e-5)
    if rule.l1:
        assert ((got == 0) == (expected == 0)).all() and (expected == 0).sum() > 2
    assert history["loss"][-1] == pytest.approx(net.evaluate(x, y), rel=1e-9)


@pytest.mark.parametrize("optimizer", SECOND, ids=lambda o: o.name)
@pytest.mark.parametrize("dtype", ("float32", "float64"))
def test_second_order_through_time(dtype, optimizer):
    """All blocks ruled: the rules hold after each iteration, and the penalised loss falls."""

    def make(net):
        return {k: bf.Rule(**vars(r) | dict(group=None, l1=r.l1 / 30)) for k, r in several(net).items()}

    net, (x, y) = ruled(make=make, dtype=dtype), data(4, 8)
    start, losses = net.state_dict(), []

    def penalised(epoch, logs):
        losses.append(net.evaluate(x, y) + net.constraints.penalty(net.params.astype(float)))

    look = bf.callbacks.LambdaCallback(on_epoch_end=penalised)
    net.fit(x, y, epochs=8, optimizer=optimizer, callbacks=[Obey(), look], verbose=0)
    obeys(net, start)
    slack = 1e-4 if dtype == "float32" else 0
    assert (np.diff(losses) <= slack).all() and losses[-1] < 0.95 * losses[0]


def test_second_order_with_weights_of_targets():
    """The methods agree on where the penalised loss of weighted rows, some of weight 0, is least."""
    ends = []
    for optimizer in SECOND:
        net, x, y = convex(bf.Rule(l1=0.02, l2=0.01, sign=1))
        weight = np.random.default_rng(3).integers(0, 3, len(x))
        net.fit(x, y, epochs=300, optimizer=optimizer, sample_weight=weight, verbose=0)
        ends.append(net.params.copy())
    np.testing.assert_allclose(ends, np.tile(ends[0], (3, 1)), rtol=0, atol=2e-5)


@pytest.mark.parametrize("optimizer", SECOND, ids=lambda o: o.name)
def test_all_frozen(optimizer):
    net = bf.Network(2, 3, 2, readout="every", seed=0)
    net.rules = {name: bf.Rule(trainable=False) for name in net}
    start = net.params.tobytes()
    assert net.fit(*data(3, 5), epochs=3, optimizer=optimizer, verbose=0).stopped == "converged"
    assert net.params.tobytes() == start


@pytest.mark.parametrize("optimizer", SECOND, ids=lambda o: o.name)
def test_second_order_refuses_the_group_lasso(optimizer):
    net = bf.Network(2, 3, 2, readout="every", seed=0)
    net.rules["weight_hh_l0"] = bf.Rule(group=("rows", 0.1))
    with pytest.raises(bf.ConfigError, match=r"rules\['weight_hh_l0'\]: expected no group with .*Use l1"):
        net.fit(*data(3, 5), optimizer=optimizer, verbose=0)


# ---- assigning


def test_setting_a_rule_changes_the_weights_once():
    net = bf.Network(1, 4, 1, dtype="float64", seed=0)
    before = net["weight_hh_l0"].copy()
    signs, mask = np.array([1, 1, -1, 0]), ~np.eye(4, dtype=bool)
    net.rules["weight_hh_l0"] = bf.Rule(sign=signs, mask=mask, bounds=(-0.25, 0.25))
    expected = np.clip(np.where(signs != 0, signs * abs(before), before), -0.25, 0.25) * mask
    np.testing.assert_array_equal(net["weight_hh_l0"], expected)
    del net.rules["weight_hh_l0"]
    np.testing.assert_array_equal(net["weight_hh_l0"], expected)


def test_assigned_weights_are_projected():
    net = bf.Network(1, 2, 1, dtype="float64", seed=0)
    net.rules["head.0.weight"] = bf.Rule(sign=1)
    net.rules["head.0.bias"] = bf.Rule(trainable=False)
    net["head.0.weight"] = [[-1.0, 2.0]]
    assert net["head.0.weight"].tolist() == [[0.0, 2.0]]
    net["head.0.bias"] = 3.0  # frozen is for training
    net.params = -np.ones(net.num_parameters)
    assert net["head.0.weight"].tolist() == [[0.0, 0.0]]
    net.load_state_dict({"head.0.weight": [[-5.0, 1.0]]}, strict=False)
    assert net["head.0.weight"].tolist() == [[0.0, 1.0]]
    net["head.0.weight"][:] = -1  # a view: from the next epoch on
    net.fit(np.ones((1, 2, 1)), [[0.0]], optimizer=bf.SGD(1e-6), verbose=0)
    assert (net["head.0.weight"] >= 0).all()


def test_bounds_are_rounded_inward():
    """float32 has no 0.1 and no 0.3: the nearest ones inside."""
    net = bf.Network(1, 2, 1, seed=0)
    net["head.0.weight"] = [[-1.0, 1.0]]
    net.rules["head.0.weight"] = bf.Rule(bounds=(0.1, 0.3))
    assert (net["head.0.weight"].astype(float) >= 0.1).all()
    assert (net["head.0.weight"].astype(float) <= 0.3).all()
    assert abs(net["head.0.weight"] - [[0.3, 0.3]]).max() < 1e-7
    net.rules["head.0.weight"] = bf.Rule(bounds=(0.1, 0.1))
    assert (net["head.0.weight"] == np.float32(0.1)).all()


def test_a_mapping():
    net = bf.Network(1, 2, 1, seed=0)
    rules = {"weight_hh_l0": bf.Rule(l1=0.1), "head.0.bias": bf.Rule(trainable=False)}
    net.rules = dict(reversed(rules.items()))
    assert list(net.rules) == ["weight_hh_l0", "head.0.bias"] and net.rules == rules and len(net.rules) == 2
    assert repr(net.rules) == ("Rules({'weight_hh_l0': Rule(l1=0.1), 'head.0.bias': Rule(trainable=False)})")
    assert "Rule(l1=0.1)" in repr(net)
    assert net.rules.pop("weight_hh_l0") == bf.Rule(l1=0.1) and "weight_hh_l0" not in net.rules
    with pytest.raises(KeyError):
        del net.rules["weight_hh_l0"]
    net.rules.clear()
    assert not net.rules and net.constraints is None


def test_a_rule_keeps_no_array_of_the_caller():
    mask = np.ones((2, 2), bool)
    rule = bf.Rule(mask=mask)
    mask[:] = False
    assert rule.mask.all() and rule != bf.Rule(mask=mask) and rule == bf.Rule(mask=np.ones((2, 2), bool))
    with pytest.raises(ValueError):
        rule.mask[0, 0] = False


WRONG = {
    "no such block": (dict(), "weight_hh_l1", bf.ConfigError, r"rules: .*Did you mean 'weight_hh_l0'"),
    "mask of another shape": (
        dict(mask=np.ones(4, bool)),
        None,
        bf.ShapeError,
        r"mask: expected \(4, 4\), got",
    ),
    "trainable of another shape": (dict(trainable=np.ones((4, 1), bool)), None, bf.ShapeError, "trainable"),
    "sign of another shape": (
        dict(sign=[1, -1]),
        None,
        bf.ShapeError,
        r"expected \(4, 4\) or \(4,\), got \(2,\)",
    ),
    "bounds of another shape": (dict(bounds=(np.zeros(3), None)), None, bf.ShapeError, "bounds"),
    "bounds against sign": (dict(sign=1, bounds=(-2, -1)), None, bf.ConfigError, "allow the sign"),
    "group of a vector": (dict(group=("rows", 1.0)), "bias_hh_l0", bf.ConfigError, "vector"),
    "no number of float32": (dict(bounds=(1e300, None)), None, bf.ConfigError, "float32"),
    "nothing between": (dict(bounds=(1 + 1e-12, 1 + 2e-12)), None, bf.ConfigError, "float32"),
}


@pytest.mark.parametrize("fields, block, error, match", WRONG.values(), ids=WRONG)
def test_wrong_assignments_change_nothing(fields, block, error, match):
    net = bf.Network(1, 4, 1, seed=0)
    net.rules["head.0.bias"] = bf.Rule(l1=1)
    before = net.params.tobytes()
    for assign in (
        lambda name, rule: net.rules.__setitem__(name, rule),
        lambda name, rule: net.rules.update(
            {"head.0.weight": bf.Rule(mask=np.zeros((1, 4), bool)), name: rule}
        ),
        lambda name, rule: setattr(net, "rules", {name: rule}),
    ):
        with pytest.raises(error, match=match):
            assign(block or "weight_hh_l0", bf.Rule(**fields))
        assert net.params.tobytes() == before and net.rules == {"head.0.bias": bf.Rule(l1=1)}


WRONG_RULES = (
    dict(mask=np.ma.array([True])), dict(mask=[[0, 1]]), dict(mask="all"), dict(mask=np.zeros(2)),
    dict(mask=True), dict(trainable=1), dict(trainable=None), dict(trainable=[1.0]), dict(sign=2),
    dict(sign="positive"), dict(sign=[0.5]), dict(sign=True), dict(bounds=1), dict(bounds=(1, 0)),
    dict(bounds=(np.nan, 1)), dict(bounds=(np.inf, None)),
    dict(bounds=(None, -np.inf)), dict(bounds=("a", 1)), dict(bounds=([0, 1], [2, 0])), dict(l1=-1),
    dict(l1=np.inf), dict(l2=np.nan), dict(l2="a"), dict(group="rows"), dict(group=("rows", 0)),
    dict(group=("diagonals", 1)), dict(group=("rows", np.inf)), dict(mask=[[True], [True, False]]),
)  # fmt: skip


@pytest.mark.parametrize("fields", WRONG_RULES, ids=range(len(WRONG_RULES)))
def test_wrong_rules(fields):
    with pytest.raises((bf.ConfigError, bf.ShapeError), match=rf"^Rule\({next(iter(fields))}\): expected"):
        bf.Rule(**fields)


@pytest.mark.parametrize("rules", (None, 3, [("head.0.bias", bf.Rule())], {"head.0.bias": 1}, {3: bf.Rule()}))
def test_wrong_mappings(rules):
    net = bf.Network(1, 4, 1, seed=0)
    with pytest.raises(bf.ConfigError, match=r"^rules"):
        net.rules = rules
    assert not net.rules


def test_rules_do_not_change_within_a_fit():
    net = bf.Network(1, 4, 1, seed=0)

    def change(epoch, logs):
        net.rules["head.0.bias"] = bf.Rule(l1=1)

    look = bf.callbacks.LambdaCallback(on_epoch_end=change)
    with pytest.raises(bf.ConfigError, match="rules: expected those with which the fit began"):
        net.fit(np.ones((2, 3, 1)), np.ones((2, 1)), epochs=3, callbacks=[look], verbose=0)


def test_setting_a_rule_ends_a_learner():
    net = bf.Network(1, 4, 1, seed=0)
    learner = net.learn_online(bf.SlidingBPTT(2))
    net.rules["head.0.bias"] = bf.Rule(l1=1)
    with pytest.raises(bf.ConfigError, match=r"changed by .* an assignment"):
        learner.observe([1.0], [1.0])


def test_a_refused_learner_changes_no_weight():
    """Not even one that breaks a rule."""
    net = bf.Network(1, 4, 1, seed=0)
    net.rules["head.0.bias"] = bf.Rule(bounds=(0, 1))
    net["head.0.bias"][...] = -0.5
    for wrong in ({"loss": "none"}, {"optimizer": "lbfgs"}, {"isa": "none"}):
        with pytest.raises(bf.ConfigError):
            net.learn_online(bf.SlidingBPTT(2), **wrong)
    assert net["head.0.bias"] == -0.5
    learner = net.learn_online(bf.SlidingBPTT(2))
    assert net["head.0.bias"] == 0 and learner.seen == 0


def test_the_gradient_is_that_of_the_loss():
    """loss_and_grad and evaluate know no rules."""
    x, y = data()
    net, free = ruled(), ruled(make=lambda net: {})
    free.params = net.params
    assert net.evaluate(x, y) == free.evaluate(x, y)
    (loss, grads), (other, others) = net.loss_and_grad(x, y), free.loss_and_grad(x, y)
    assert loss == other and all(grads[k].tobytes() == others[k].tobytes() for k in grads)
    history = net.fit(x, y, optimizer=bf.SGD(1e-9), batch_size=6, verbose=0)
    assert history["loss"][0] == pytest.approx(loss, rel=1e-6)


def test_the_core_checks_its_arguments():
    net = bf.Network(1, 2, 1, seed=0)
    net.rules["head.0.bias"] = bf.Rule(l1=1)
    low, high, penalties = net.constraints.core
    plan = cases.core().Plan(net.desc(), rules=True)
    plan.set_rules(low, high, penalties)
    with pytest.raises(ValueError):
        cases.core().Plan(net.desc()).set_rules(low, high, penalties)  # it has no room for them
    with pytest.raises(ValueError):
        plan.set_rules(low[1:], high, penalties)
    with pytest.raises(ValueError):
        plan.set_rules(low, high, penalties[1:].copy())
    with pytest.raises(TypeError):
        plan.set_rules(low.astype(float), high, penalties)
    for wrong in ([-1.0, 0, 0, 0], [0, np.inf, 0, 0], [0, 0, np.nan, 0], [0, 0, 1, 1]):
        spoiled = penalties.copy()
        spoiled[1] = wrong
        with pytest.raises(ValueError):
            plan.set_rules(low, high, spoiled)


def test_dale_keeps_what_contradicts():
    net = bf.Network(1, 4, 1, num_layers=2, seed=0)
    net.rules["weight_hh_l1"] = bf.Rule(bounds=(-2, -1))
    before = net.params.tobytes()
    with pytest.raises(bf.ConfigError, match=r"rules\['weight_hh_l1'\]: expected bounds that allow the sign"):
        bf.dale(net)
    assert net.params.tobytes() == before and list(net.rules) == ["weight_hh_l1"]


# ---- Dale's law


@pytest.mark.parametrize("more", (dict(), dict(num_layers=2, bidirectional=True), dict(cell="gru")))
def test_dale(more):
    net = bf.Network(2, 10, 2, readout="every", seed=0, **more)
    before = net.state_dict()
    net.rules["weight_hh_l0"] = bf.Rule(l1=1e-3)
    signs = bf.dale(net, excitatory=0.7)
    assert signs.tolist() == [1] * 7 + [-1] * 3 and net.rules["weight_hh_l0"].l1 == 1e-3
    out = [name for name in net if "weight_hh" in name or "weight_ih_l1" in name]
    assert set(net.rules) == set(out)
    net.fit(*data(), epochs=3, optimizer=bf.Adam(0.05), callbacks=[Obey()], verbose=0)
    for name in out:
        columns = np.tile(signs, before[name].shape[1] // 10)
        assert (net[name] * columns >= 0).all() and (net[name] != before[name]).any()


def test_dale_keeps_the_size_of_weights():
    net = bf.Network(2, 10, 2, seed=0)
    before = abs(net["weight_hh_l0"])
    bf.dale(net)
    np.testing.assert_array_equal(abs(net["weight_hh_l0"]), before)


@pytest.mark.parametrize("share", (-0.1, 1.1, "most", None, True))
def test_wrong_shares(share):
    net = bf.Network(2, 10, 2, seed=0)
    with pytest.raises(bf.ConfigError, match="excitatory"):
        bf.dale(net, share)
    with pytest.raises(bf.ConfigError, match="projections"):
        bf.dale(bf.Network(2, 10, 2, cell="lstm", proj_size=3, seed=0))
    for cell in ("mingru", "indrnn"):
        with pytest.raises(bf.ConfigError, match=f"recurrent matrix.*{cell}"):
            bf.dale(bf.Network(2, 10, 2, cell=cell, seed=0))
    assert not net.rules
