"""Every optimiser against its formula in NumPy and against PyTorch; clipping, noise, decay, overflow."""

import contextlib
import dataclasses
import inspect

import numpy as np
import pytest
from support import cases
from support import reference as ref
from support.training import Training, check

import bptt_fast as bf
from bptt_fast.optimizers import OPTIMIZERS, FirstOrder

FORMULAS, LAYOUTS = ref.FORMULAS, cases.LAYOUTS


def test_every_optimizer_is_here():
    vectors = cases.core().optimizers()
    assert set(vectors) == {numbers["optimizer"] for numbers in FORMULAS.values()} == set(OPTIMIZERS)
    assert vectors["sgd"] == 1 and vectors["adam"] == 2 and vectors["rmsprop"] == 3
    assert all(getattr(bf, kind.__name__) is kind for kind in OPTIMIZERS.values())


@pytest.mark.parametrize("numbers", FORMULAS.values(), ids=FORMULAS)
@pytest.mark.parametrize("form", LAYOUTS.values(), ids=LAYOUTS)
def test_minibatches(form, numbers):
    """Two epochs of three batches, the last one smaller; what is kept passes from epoch to epoch."""
    training = Training(optimizer=numbers, **form, lengths=(5, 3, 6, 1, 4, 2, 3), data_seed=1)
    start = training.problem.params
    for _ in range(2):
        got, expected = training.epoch(batch=3)
        check(got, expected, 1e-10, start)
        training.problem.params = expected[1]
    assert training.hyper["step"] == 6


@pytest.mark.parametrize("numbers", FORMULAS.values(), ids=FORMULAS)
def test_online(numbers):
    training = Training(optimizer=numbers, lengths=(50, 20), head=(4,))
    check(*training.slide(3, 1), 1e-9, training.problem.params)


@pytest.mark.parametrize("isa", cases.isas())
@pytest.mark.parametrize("numbers", FORMULAS.values(), ids=FORMULAS)
def test_single_precision_on_every_instance(numbers, isa):
    """One update: later ones of those that divide by a root of squares would magnify the rounding."""
    training = Training("float32", isa, optimizer=numbers, hidden_size=7, lengths=(5, 3, 6))
    check(*training.epoch(batch=3), 1e-4, training.problem.params)
    training = Training("float64", isa, optimizer=numbers, hidden_size=7, lengths=(5, 3, 6, 4))
    check(*training.epoch(batch=2), 1e-10, training.problem.params)


@pytest.mark.parametrize("numbers", FORMULAS.values(), ids=FORMULAS)
def test_threads(numbers):
    ends = []
    for threads in (1, 3):
        training = Training("float32", threads=1, optimizer=numbers, hidden_size=37, lengths=(160,) * 32)
        training.run = training.problem.run("float32", threads=threads)
        plan = training.plan(batch=16, steps=160, readout_every_step=True)
        losses, weights = np.empty(2), np.empty(2)
        options = training.hyper | dict(no_bias_decay=True, clip_value=0.01, noise=0.1, noise_seed=5)
        plan.epoch(
            training.run.params,
            training.slots,
            options,
            training.run.data,
            training.run.order,
            losses,
            weights,
        )
        assert plan.threads == threads
        ends.append((training.run.params.tobytes(), losses.tobytes(), training.slots.tobytes()))
    assert ends[0] == ends[1]


# ---- PyTorch


TORCH = {
    "SGD": ("SGD", dict(learning_rate=0.05, momentum=0.8, nesterov=True, weight_decay=1e-3), {}),
    "Adam": ("Adam", dict(weight_decay=1e-3), {}),
    "AdamW": ("AdamW", dict(weight_decay=0.1), {}),
    "NAdam": ("NAdam", dict(weight_decay=1e-3, momentum_decay=0.02), {}),
    "RMSprop": ("RMSprop", dict(weight_decay=1e-3), {}),
    "RMSprop-momentum": ("RMSprop", dict(alpha=0.9, momentum=0.7), {}),
    "RMSprop-centered": ("RMSprop", dict(alpha=0.9, momentum=0.7, centered=True, eps=1e-4), {}),
    "Adagrad": ("Adagrad", dict(weight_decay=1e-3), {}),
    "Adagrad-decay": (
        "Adagrad",
        dict(initial_accumulator=0.1, rate_decay=0.05),
        dict(initial_accumulator_value=0.1, lr_decay=0.05),
    ),
    "Rprop": ("Rprop", dict(backtrack=False), {}),
}


@pytest.mark.slow
@pytest.mark.parametrize("kind, ours, theirs", TORCH.values(), ids=TORCH)
@pytest.mark.parametrize("cell", ("elman", "lstm"))
def test_fifty_steps_of_pytorch(cell, kind, ours, theirs):
    """The weights after 50 updates, to 1e-6 in float64."""
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    ours = dict(learning_rate=0.01) | ours
    make = {"elman": torch.nn.RNN, "lstm": torch.nn.LSTM}[cell]
    rnn, head = make(3, 6, batch_first=True, dtype=torch.float64), torch.nn.Linear(6, 2, dtype=torch.float64)
    named = dict(rnn.named_parameters()) | {f"head.0.{k}": v for k, v in head.named_parameters()}
    net = bf.Network(3, 6, 2, cell=cell, dtype="float64", seed=0)
    net.load_state_dict({name: p.detach() for name, p in named.items()})
    before = net.params.copy()
    renamed = {"learning_rate": "lr", "beta1": None, "backtrack": None, "rate_decay": None}
    theirs = theirs | {
        renamed.get(k, k): v
        for k, v in ours.items()
        if renamed.get(k, k) and k not in ("initial_accumulator", "rate_decay")
    }
    optimizer = getattr(torch.optim, kind)(list(named.values()), **theirs)
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(8, 12, 3)), rng.normal(size=(8, 2))
    losses = []
    for _ in range(50):
        optimizer.zero_grad()
        loss = ((head(rnn(torch.tensor(x))[0][:, -1]) - torch.tensor(y)) ** 2).mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    options = dict(epochs=50, batch_size=8, shuffle=False, verbose=0)
    history = net.fit(x, y, optimizer=getattr(bf, kind)(**ours), **options)
    np.testing.assert_allclose(history["loss"], losses, rtol=1e-6)
    for name, p in named.items():
        np.testing.assert_allclose(net[name], p.detach().numpy(), rtol=0, atol=1e-6, err_msg=name)
    assert abs(net.params - before).max() > 0.05


@pytest.mark.parametrize("kind", OPTIMIZERS.values(), ids=lambda kind: kind.__name__)
def test_defaults_are_those_of_pytorch(kind):
    torch = pytest.importorskip("torch")
    theirs = {
        name: parameter.default
        for name, parameter in inspect.signature(getattr(torch.optim, kind.__name__)).parameters.items()
    }
    ours, renamed = kind(), {"rate_decay": "lr_decay", "initial_accumulator": "initial_accumulator_value"}
    pairs = {
        "betas": ("beta1", "beta2"),
        "etas": ("eta_minus", "eta_plus"),
        "step_sizes": ("step_min", "step_max"),
    }
    given = {renamed.get(name, name): value for name, value in vars(ours).items()}
    given |= {name: tuple(given.pop(k) for k in keys) for name, keys in pairs.items() if keys[0] in given}
    rate = given.pop("learning_rate")
    assert kind is bf.SGD or rate == theirs["lr"]  # SGD's default here is 0.01, for the online algorithm
    for name, value in given.items():
        if name not in ("decay_biases", "backtrack", *FirstOrder.__dataclass_fields__):
            assert value == theirs[name], name


# ---- iRprop+ takes a step back


def test_rprop_takes_back_only_when_the_loss_is_worse():
    """One weight in a valley: a jump too far is taken back, and the next step is half as long."""
    net = bf.Network(1, 1, 1, nonlinearity="linear", dtype="float64", seed=0)
    x, y = np.ones((1, 1, 1)), np.zeros((1, 1))
    for name in net:
        net[name] = 0
    net["head.0.weight"], net["head.0.bias"] = 0, 1.0  # y = bias alone: its loss is bias^2
    path = []

    class Look(bf.Callback):
        def on_epoch_end(self, epoch, logs):
            path.append(net["head.0.bias"][0])

    net.fit(x, y, epochs=4, optimizer=bf.Rprop(0.8, eta_plus=3.0), callbacks=[Look()], verbose=0)
    # 1 -> 0.2 -> (2.4 further) -2.2, which is worse: back to 0.2 -> half of 2.4
    np.testing.assert_allclose(path, [0.2, -2.2, 0.2, -1.0])
    path.clear()
    net["head.0.bias"] = 1.0
    rprop = bf.Rprop(0.8, eta_plus=3.0, backtrack=False)
    net.fit(x, y, epochs=4, optimizer=rprop, callbacks=[Look()], verbose=0)
    np.testing.assert_allclose(path, [0.2, -2.2, -2.2, -1.0])


# ---- weight decay


@pytest.mark.parametrize("name", [n for n in OPTIMIZERS if n != "rprop"])
@pytest.mark.parametrize("form", LAYOUTS.values(), ids=LAYOUTS)
def test_decay_without_biases(form, name):
    numbers = dict(optimizer=name, learning_rate=0.01, weight_decay=0.5, no_bias_decay=True, eps=1e-5)
    training = Training(optimizer=numbers, **form, lengths=(5, 3, 6, 1), data_seed=1)
    check(*training.epoch(batch=2), 1e-10, training.problem.params)


def test_what_counts_as_a_bias():
    """Where there is no gradient only the decay moves a weight: peepholes are weights, the rest by name."""
    net = bf.Network(2, 4, 1, cell="lstm", peephole=True, proj_size=3, head=(3,), seed=0)
    before = net.state_dict()
    x, y = np.zeros((2, 3, 2)), np.zeros((2, 1))
    sgd = bf.SGD(0.1, weight_decay=0.5, decay_biases=False, clip_norm=1e-12)
    net.fit(x, y, optimizer=sgd, sample_weight=[1e-30, 1e-30], verbose=0)
    for name, value in before.items():
        expected = value if "bias" in name else 0.95 * value
        np.testing.assert_allclose(net[name], expected, rtol=1e-5, atol=1e-10, err_msg=name)


# ---- clipping


@pytest.mark.parametrize("numbers", (dict(clip_value=0.02), dict(clip_norm=0.2, clip_value=0.02)))
@pytest.mark.parametrize("form", LAYOUTS.values(), ids=LAYOUTS)
def test_clipping_by_value(form, numbers):
    """First the norm, then the values."""
    numbers = dict(optimizer="sgd", learning_rate=0.5, weight_decay=0.01) | numbers
    training = Training(optimizer=numbers, **form, lengths=(5, 3, 6, 1, 4, 2), data_seed=1)
    start = training.problem.params
    got, expected = training.epoch(batch=2)
    check(got, expected, 1e-10, start)
    training = Training(optimizer=numbers, head=(4,), lengths=(40,))
    check(*training.slide(3, 1), 1e-10, training.problem.params)


CLIPPED = dict(optimizer="sgd", learning_rate=0.5, clip_state=0.02)


@pytest.mark.parametrize("structure", (dict(), dict(num_layers=2, bidirectional=True)), ids=("one", "both"))
@pytest.mark.parametrize("form", cases.FORMS.values(), ids=cases.FORMS)
def test_clipping_of_the_state_gradient(form, structure):
    """dLoss/dh at every step, in every cell."""
    given = dict(form, **structure, lengths=(6, 1, 7, 4), gain=1.0, data_seed=3)
    free = Training(optimizer=CLIPPED | dict(clip_state=0.0), **given)
    training = Training(optimizer=CLIPPED, **given)
    start = training.problem.params
    got, expected = training.epoch(batch=4)
    check(got, expected, 1e-10, start)
    other = free.epoch(batch=4)[1][1]
    name = next(n for n in expected[1] if n.startswith("weight_ih"))
    assert abs(other[name] - expected[1][name]).max() > 1e-4, "nothing was clipped: the test proves nothing"


@pytest.mark.parametrize("form", cases.FORMS.values(), ids=cases.FORMS)
def test_clipping_of_the_state_gradient_online(form):
    training = Training(optimizer=CLIPPED | dict(learning_rate=0.1), **form, lengths=(25,))
    check(*training.slide(4, 1), 1e-10, training.problem.params)


def test_a_plan_that_has_clipped_gives_exact_gradients():
    problem = cases.Problem(every=True)
    run = problem.run()
    value, grads = run.loss_and_grad()
    slots = np.zeros(run.params.size)
    run.plan.epoch(run.params.copy(), slots, CLIPPED, run.data, run.order, np.empty(1), np.empty(1))
    again, same = run.loss_and_grad()
    assert again == value
    for name, grad in grads.items():
        np.testing.assert_array_equal(same[name], grad)


# ---- noise


MASK = (1 << 64) - 1
GOLDEN = 0x9E3779B97F4A7C15


def hash64(x):
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9 & MASK
    x = (x ^ (x >> 27)) * 0x94D049BB133111EB & MASK
    return x ^ (x >> 31)


def noise(eta, seed, update, size):
    """The same numbers in plain Python."""
    key = (seed + update * 0xD1342543DE82EF95) & MASK
    out = []
    for index in range(size):
        a = hash64((key + hash64((index + GOLDEN) & MASK)) & MASK)
        b = hash64((a + GOLDEN) & MASK)
        u, v = ((a >> 11) + 1) * 2.0**-53, (b >> 11) * 2.0**-53
        out.append(np.sqrt(-2 * np.log(u)) * np.cos(2 * np.pi * v))
    return np.sqrt(eta / (1 + update) ** 0.55) * np.array(out)


def data():
    rng = np.random.default_rng(0)
    return rng.normal(size=(12, 7, 3)), rng.normal(size=(12, 2))


@pytest.mark.parametrize("isa", cases.isas())
@pytest.mark.parametrize("form", (dict(), dict(cell="gru", reset="before"), dict(cell="lstm", peephole=True)))
def test_noise(form, isa):
    """Added to the clipped gradient, keyed by seed, update and place in `params`; padding keeps out of it."""
    x, y = data()
    net = bf.Network(3, 5, 2, dtype="float64", seed=7, **form)
    for update in range(3):
        _, grads = net.loss_and_grad(x, y, isa=isa)
        before = net.params.copy()
        expected = np.clip(grads.flat, -0.05, 0.05) + noise(0.3, 7, update, net.num_parameters)
        options = dict(
            batch_size=12, shuffle=False, isa=isa, verbose=0, initial_epoch=update, epochs=update + 1
        )
        net.fit(x, y, optimizer=bf.SGD(0.1, clip_value=0.05, gradient_noise=0.3), **options)
        np.testing.assert_allclose((before - net.params) / 0.1, expected, rtol=0, atol=1e-11)


def test_noise_is_normal():
    drawn = np.concatenate([noise(1.0, seed, 0, 5000) for seed in range(4)])
    assert abs(drawn.mean()) < 0.03 and abs(drawn.std() - 1) < 0.03 and abs((drawn**3).mean()) < 0.1
    assert abs(np.corrcoef(drawn[:-1], drawn[1:])[0, 1]) < 0.03


@pytest.mark.parametrize("bptt", (None, bf.SlidingBPTT(3)), ids=("full", "sliding"))
def test_noise_does_not_depend_on_threads_or_pauses(bptt):
    x, y = data()
    y = y if bptt is None else x[..., :2]
    ends = []
    for stops, threads in (([4], 1), ([1, 4], 1), ([4], 3)):
        net, begin = bf.Network(3, 5, 2, seed=3), 0
        for stop in stops:
            options = dict(batch_size=4, optimizer=bf.SGD(0.05, gradient_noise=0.5), bptt=bptt, verbose=0)
            net.fit(x, y, epochs=stop, initial_epoch=begin, threads=threads, **options)
            begin = stop
        ends.append(net.params.tobytes())
    assert len(set(ends)) == 1
    other = bf.Network(3, 5, 2, seed=3)
    other.fit(x, y, epochs=4, batch_size=4, optimizer=bf.SGD(0.05), bptt=bptt, verbose=0)
    assert other.params.tobytes() != ends[0]


# ---- what must not happen


HUGE = (
    bf.SGD(1e38, weight_decay=2.0),
    bf.Adam(1e3, beta1=0.99, beta2=0.5, eps=1e-300),
    bf.Adam(1e-3, weight_decay=1e30),
    bf.AdamW(1e38),
    bf.AdamW(1e20, weight_decay=1e20),
    bf.AdamW(10.0, weight_decay=100.0),
    bf.NAdam(1e38),
    bf.NAdam(1e30, beta1=0.999),
    bf.RMSprop(1e38),
    bf.RMSprop(1e30, alpha=0.999999, momentum=0.999),
    bf.RMSprop(1e10, centered=True, eps=1e-300),
    bf.RMSprop(1e-3, centered=True, weight_decay=1e30),
    bf.Adagrad(1e38),
    bf.Adagrad(1e30, initial_accumulator=1e-300),
    bf.Adagrad(1e-3, weight_decay=1e30),
    bf.Rprop(1e38, step_max=1e300),
    bf.Rprop(1.0, step_max=1e300, eta_plus=1e300),
)


@pytest.mark.parametrize("dtype", ("float32", "float64"))
@pytest.mark.parametrize("bptt", (bf.FullBPTT(), bf.SlidingBPTT(3)), ids=("full", "sliding"))
@pytest.mark.parametrize("optimizer", HUGE)
def test_an_update_that_overflows_is_not_written(optimizer, bptt, dtype):
    x = np.random.default_rng(0).normal(size=(64, 10, 3))
    y = x.sum(2)[:, :, None] if isinstance(bptt, bf.SlidingBPTT) else x.sum((1, 2))[:, None]
    options = dict(epochs=12, batch_size=64, optimizer=optimizer, bptt=bptt, verbose=0)
    changed = dataclasses.replace(optimizer, gradient_noise=1.0, clip_value=1.0)
    for more in (dict(), dict(loss="mae"), dict(optimizer=changed)):
        for start in (1.0, 1e18):
            net = bf.Network(3, 8, 1, seed=0, dtype=dtype)
            net.params *= start
            with contextlib.suppress(bf.DivergedError):
                net.fit(x, y, **options | more)
            assert np.isfinite(net.params).all()


@pytest.mark.parametrize("options", (dict(gradient_noise=1e300), dict(gradient_noise=1e60)))
def test_noise_that_overflows_is_not_written(options):
    x, y = data()
    net = bf.Network(3, 5, 2, seed=0)
    before = net.params.copy()
    with pytest.raises(bf.DivergedError, match="NaN or infinite"):
        net.fit(x, y, optimizer=bf.SGD(0.1, **options), verbose=0)
    np.testing.assert_array_equal(net.params, before)


# ---- the outside


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_by_name_and_learns(name):
    x = np.random.default_rng(0).normal(size=(64, 6, 2))
    y = np.tanh(x.sum((1, 2)))[:, None]
    ends = []
    for optimizer in (name, OPTIMIZERS[name]()):
        net = bf.Network(2, 8, 1, seed=0)
        ends.append(net.fit(x, y, epochs=60, batch_size=64, optimizer=optimizer, verbose=0)["loss"])
    assert ends[0] == ends[1] and ends[0][-1] < (0.97 if name == "sgd" else 0.9) * ends[0][0]


WRONG = {
    "optimizer": [
        ("newton", "expected one of 'sgd', 'adam'"),
        ("nadm", "Did you mean 'nadam'?"),
        (3, r"SGD\(...\)"),
    ],
}


@pytest.mark.parametrize("argument", WRONG)
def test_wrong_arguments(argument):
    x, y = data()
    net = bf.Network(3, 5, 2, seed=0)
    before = net.params.copy()
    for value, words in WRONG[argument]:
        with pytest.raises(bf.ConfigError, match=f"^{argument}: .*{words}"):
            net.fit(x, y, verbose=0, **{argument: value})
    np.testing.assert_array_equal(net.params, before)


NUMBERS = [
    (bf.Adam, dict(clip_norm=-1.0), r"Adam\(clip_norm\): .* above 0, got -1"),
    (bf.SGD, dict(clip_value=0), r"SGD\(clip_value\): .* above 0"),
    (bf.SGD, dict(clip_value=np.inf), r"SGD\(clip_value\): .* finite"),
    (bf.RMSprop, dict(clip_value="1"), r"RMSprop\(clip_value\): .* finite number"),
    (bf.Rprop, dict(clip_state=0.0), r"Rprop\(clip_state\): .* above 0"),
    (bf.NAdam, dict(clip_state=np.nan), r"NAdam\(clip_state\): .* finite"),
    (bf.Adagrad, dict(gradient_noise=-0.1), r"Adagrad\(gradient_noise\): .* of at least 0"),
    (bf.AdamW, dict(gradient_noise=None), r"AdamW\(gradient_noise\): .* finite number"),
    (bf.AdamW, dict(weight_decay=-1), r"AdamW\(weight_decay\): .* of at least 0, got -1"),
    (bf.AdamW, dict(beta1=1.0), r"AdamW\(beta1\): .* below 1"),
    (bf.NAdam, dict(momentum_decay=-1), r"NAdam\(momentum_decay\)"),
    (bf.NAdam, dict(eps=0), r"NAdam\(eps\): .* above 0"),
    (bf.RMSprop, dict(alpha=1), r"RMSprop\(alpha\): .* below 1"),
    (bf.RMSprop, dict(centered=1), r"RMSprop\(centered\): expected True or False"),
    (bf.Adagrad, dict(initial_accumulator=-1), r"Adagrad\(initial_accumulator\)"),
    (bf.Adagrad, dict(rate_decay=-1), r"Adagrad\(rate_decay\)"),
    (bf.Adagrad, dict(decay_biases="no"), r"Adagrad\(decay_biases\): expected True or False"),
    (bf.Rprop, dict(eta_minus=1.0), r"Rprop\(eta_minus\)"),
    (bf.Rprop, dict(eta_plus=1.0), r"Rprop\(eta_plus\): .* above 1"),
    (bf.Rprop, dict(step_min=1.0, step_max=0.1), r"Rprop\(step_max\): .* at least 1"),
    (bf.Rprop, dict(learning_rate=100.0), r"Rprop\(learning_rate\): .* at most 50"),
    (bf.Rprop, dict(learning_rate=bf.Cosine(0.1)), "expected a number.*adapts by itself"),
    *(
        (kind, dict(learning_rate=rate), r"\(learning_rate\)")
        for kind in OPTIMIZERS.values()
        for rate in (0, "1")
    ),
]


@pytest.mark.parametrize("kind, numbers, words", NUMBERS)
def test_numbers_out_of_range(kind, numbers, words):
    with pytest.raises(bf.ConfigError, match=words):
        kind(**numbers)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_from_the_command_line(name, tmp_path, capsys):
    """Numbers that the optimiser does not have are wrong usage, reported with the names of those that do."""
    from bptt_fast.cli import main

    table = tmp_path / "series.csv"
    table.write_text("a\n" + "\n".join(str(np.sin(t / 3)) for t in range(60)))
    train = [
        "train",
        str(table),
        "--inputs",
        "a",
        "--targets",
        "a",
        "--epochs",
        "2",
        "--quiet",
        "--optimizer",
        name,
    ]
    assert main(train) == 0
    fields = OPTIMIZERS[name].__dataclass_fields__
    for option in ("momentum", "weight_decay"):
        words = [*train, f"--{option.replace('_', '-')}", "0.1"]
        if option in fields:
            assert main(words) == 0
        else:
            with pytest.raises(SystemExit) as caught:
                main(words)
            assert caught.value.code == 2
            assert (
                f"with --optimizer sgd, {'rmsprop' if option == 'momentum' else 'adam'}"
                in capsys.readouterr().err
            )


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("kind", (bf.Adam, bf.AdamW, bf.NAdam, bf.RMSprop, bf.Adagrad))
def test_an_eps_that_the_dtype_cannot_hold(kind, dtype):
    """It became zero, and weights without a gradient 0 / 0, without an error."""
    x = np.zeros((8, 5, 2))
    x[..., 0] = 1  # no gradient of the weights of the other input
    for eps in (5e-324, 1e-46):
        net = bf.Network(2, 3, 2, dtype=dtype, nonlinearity="relu", seed=0)
        net.fit(x, np.ones((8, 2)), optimizer=kind(eps=eps), epochs=2, verbose=0)
        assert np.isfinite(net.params).all()
