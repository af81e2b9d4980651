"""Learning-rate schedules: their formulas, PyTorch's numbers, and that every update gets its own rate."""

import numpy as np
import pytest
from support import cases
from support import reference as ref
from support.training import Training, check

import bptt_fast as bf

EPOCHS, UPDATES = 6, 5
K = np.arange(EPOCHS * UPDATES)
E = K / UPDATES
FORMULAS = {
    bf.Constant(0.3): 0.3 + 0 * K,
    bf.Step(0.3, every=2, factor=0.5): 0.3 * 0.5 ** (K // 10),
    bf.Step(0.3, every=0.6, factor=0.5): 0.3 * 0.5 ** (K // 3),
    bf.Exponential(0.3, 0.8): 0.3 * 0.8**E,
    bf.Cosine(0.3): 0.15 * (1 + np.cos(np.pi * K / 30)),
    bf.Cosine(0.3, final=0.1): 0.1 + 0.1 * (1 + np.cos(np.pi * K / 30)),
    bf.Cosine(0.3, warmup=1.2): np.where(
        K < 6, 0.3 * (K + 1) / 7, 0.15 * (1 + np.cos(np.pi * (K - 6) / 24))
    ),
    bf.Cosine(0.3, final=0.1, epochs=4): np.where(K < 20, 0.1 + 0.1 * (1 + np.cos(np.pi * K / 20)), 0.1),
    bf.OneCycle(0.3): np.where(
        K < 9,
        0.3 - 0.144 * (1 + np.cos(np.pi * K / 8)),
        1.2e-6 + 0.1499994 * (1 + np.cos(np.pi * (K - 8) / 21)),
    ),
    bf.ReduceOnPlateau(0.3): 0.3 + 0 * K,
}  # fmt: skip


@pytest.mark.parametrize("schedule, expected", FORMULAS.items())
def test_formulas(schedule, expected):
    rates = schedule.rates(EPOCHS, UPDATES)
    np.testing.assert_allclose(rates, expected, rtol=1e-13)
    np.testing.assert_array_equal(schedule.rates(EPOCHS, UPDATES, first=2), rates[10:])
    assert rates.max() <= schedule.learning_rate * (1 + 1e-15)
    assert (rates >= 0).all()


def torch_rates(make, steps, every=1):
    torch = pytest.importorskip("torch")
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=0.3)
    schedule, out = make(torch.optim.lr_scheduler, optimizer), []
    for step in range(steps):
        out.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if (step + 1) % every == 0 and step + 1 < steps:
            schedule.step()
    return np.array(out)


TORCH = {
    "StepLR": (bf.Step(0.3, every=2, factor=0.5), lambda m, o: m.StepLR(o, 2, 0.5), UPDATES),
    "ExponentialLR": (bf.Exponential(0.3, 0.8), lambda m, o: m.ExponentialLR(o, 0.8 ** (1 / UPDATES)), 1),
    "CosineAnnealingLR": (bf.Cosine(0.3, final=0.01), lambda m, o: m.CosineAnnealingLR(o, len(K), 0.01), 1),
    "OneCycleLR": (
        bf.OneCycle(0.3, pct_start=0.4, div_factor=10, final_div_factor=50),
        lambda m, o: m.OneCycleLR(
            o, 0.3, len(K), pct_start=0.4, div_factor=10, final_div_factor=50, cycle_momentum=False
        ),
        1,
    ),
}


@pytest.mark.parametrize("schedule, make, every", TORCH.values(), ids=TORCH)
def test_pytorch_has_the_same_rates(schedule, make, every):
    np.testing.assert_allclose(
        schedule.rates(EPOCHS, UPDATES), torch_rates(make, len(K), every), rtol=1e-9, atol=1e-15
    )


PLATEAU = (
    bf.ReduceOnPlateau(0.3, patience=2, factor=0.5),
    bf.ReduceOnPlateau(0.3, patience=0, factor=0.1, threshold=0.2, final=0.01),
    bf.ReduceOnPlateau(0.3, patience=1, factor=0.5, cooldown=3),
)


@pytest.mark.parametrize("schedule", PLATEAU)
def test_plateau_is_that_of_pytorch(schedule):
    torch = pytest.importorskip("torch")
    from bptt_fast.schedules import Rates

    losses = np.random.default_rng(1).uniform(0.5, 1.5, 40) * 0.97 ** np.arange(40)
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=0.3)
    s = schedule
    theirs = torch.optim.lr_scheduler.ReduceLROnPlateau(
        optimizer,
        factor=s.factor,
        patience=s.patience,
        threshold=s.threshold,
        cooldown=s.cooldown,
        min_lr=s.final,
    )
    ours, seen = Rates(schedule, 40, 3), []
    for epoch, loss in enumerate(losses):
        seen.append(ours.of(epoch))
        assert seen[-1].shape == (3,)
        np.testing.assert_allclose(seen[-1], optimizer.param_groups[0]["lr"], rtol=1e-12)
        theirs.step(loss)
        ours.after(loss)
    assert seen[-1][0] < 0.2, "nothing was reduced: the test proves nothing"


# ---- what an update gets


X = np.random.default_rng(0).normal(size=(10, 7, 2))
Y = np.random.default_rng(1).normal(size=(10, 1))


class Path(bf.Callback):
    def on_train_begin(self, logs):
        self.weights, self.logs = [], []

    def on_epoch_end(self, epoch, logs):
        self.weights.append(self.model.params.copy())
        self.logs.append(dict(logs))


@pytest.mark.parametrize("sliding", (False, True), ids=("full", "sliding"))
def test_every_update_has_its_rate(sliding):
    """The oracle with the rate changed by hand before each update."""

    class Scheduled(ref.Optimizer):
        def update(self, p, grads, loss=0.0):
            self.learning_rate = rates[self.step]
            super().update(p, grads, loss)

    rates = bf.OneCycle(0.1).rates(1, 30 - 3) if sliding else bf.OneCycle(0.3).rates(1, 4)
    training = Training(
        optimizer=dict(optimizer="adam", learning_rate=0.3),
        lengths=(30,) if sliding else (5, 3, 6, 1, 4, 2, 3),
    )
    training.oracle = Scheduled("adam")
    training.hyper["rates"] = rates
    got, expected = training.slide(3, 1) if sliding else training.epoch(batch=2)
    check(got, expected, 1e-9, training.problem.params)


@pytest.mark.parametrize("bptt, y", ((None, Y), (bf.SlidingBPTT(3), X[..., :1])), ids=("full", "sliding"))
def test_a_fit_follows_its_schedule(bptt, y):
    """One epoch with each rate, one after the other, is a fit with a schedule of steps."""
    options = dict(bptt=bptt, batch_size=4, verbose=0)
    scheduled, single = bf.Network(2, 5, 1, seed=0), bf.Network(2, 5, 1, seed=0)
    path = Path()
    steps = bf.SGD(bf.Step(0.1, every=1, factor=0.5), weight_decay=0.01)
    history = scheduled.fit(X, y, epochs=4, optimizer=steps, callbacks=[path], **options)
    for epoch in range(4):
        optimizer = bf.SGD(0.1 * 0.5**epoch, weight_decay=0.01)
        single.fit(X, y, epochs=epoch + 1, initial_epoch=epoch, optimizer=optimizer, **options)
        np.testing.assert_array_equal(path.weights[epoch], single.params)
    assert history["learning_rate"] == [0.1 * 0.5**epoch for epoch in range(4)]
    assert [logs["learning_rate"] for logs in path.logs] == history["learning_rate"]
    assert list(history) == ["epoch", "loss", "learning_rate", "seconds"]


@pytest.mark.parametrize("kind", (bf.SGD, bf.Adam, bf.AdamW, bf.NAdam, bf.RMSprop, bf.Adagrad))
def test_a_constant_is_a_number(kind):
    ends = []
    for rate in (0.01, bf.Constant(0.01), bf.Exponential(0.01, 1.0)):
        net = bf.Network(2, 5, 1, seed=0)
        net.fit(X, Y, epochs=3, batch_size=4, optimizer=kind(rate), verbose=0)
        ends.append(net.params.tobytes())
    assert len(set(ends)) == 1


def test_a_fit_in_two_parts():
    """The schedule continues where initial_epoch says; its end is the last epoch."""
    options = dict(optimizer=bf.SGD(bf.Cosine(0.1, warmup=1, epochs=6)), batch_size=4, verbose=0)
    whole, parts = bf.Network(2, 5, 1, seed=0), bf.Network(2, 5, 1, seed=0)
    first = whole.fit(X, Y, epochs=6, **options)["learning_rate"]
    second = parts.fit(X, Y, epochs=2, **options)["learning_rate"]
    second += parts.fit(X, Y, epochs=6, initial_epoch=2, **options)["learning_rate"]
    assert first == second
    np.testing.assert_array_equal(whole.params, parts.params)


def test_the_end_is_that_of_the_fit():
    history = bf.Network(2, 5, 1, seed=0).fit(
        X, Y, epochs=5, optimizer=bf.Adam(bf.Cosine(0.1, final=0.02)), batch_size=10, verbose=0
    )
    expected = 0.02 + 0.04 * (1 + np.cos(np.pi * np.arange(5) / 5))
    np.testing.assert_allclose(history["learning_rate"], expected)


@pytest.mark.parametrize("validation", (0.0, 0.3))
def test_a_plateau(validation):
    """Judged by the validation loss if there is any."""
    schedule = bf.ReduceOnPlateau(0.05, patience=1, factor=0.5, threshold=0.01)
    net = bf.Network(2, 30, 1, seed=0)
    history = net.fit(
        X, Y, epochs=60, optimizer=bf.Adam(schedule), validation_split=validation, batch_size=10, verbose=0
    )
    rate, best, waited, expected = 0.05, np.inf, 0, []
    for loss in history["val_loss" if validation else "loss"]:
        expected.append(rate)
        best, waited = (loss, 0) if loss < 0.99 * best else (best, waited + 1)
        if waited > 1:
            rate, waited = rate / 2, 0
    np.testing.assert_allclose(history["learning_rate"], expected, rtol=1e-12)
    assert history["learning_rate"][-1] < 0.05


def test_shown_and_saved(tmp_path, capsys):
    net = bf.Network(2, 5, 1, seed=0)
    history = net.fit(X, Y, epochs=2, optimizer=bf.SGD(bf.Step(0.1, every=1)), verbose=2)
    assert "learning_rate 0.01" in capsys.readouterr().out
    history.to_csv(tmp_path / "history.csv")
    assert (tmp_path / "history.csv").read_text().splitlines()[0] == "epoch,loss,learning_rate,seconds"


def test_rates_need_one_number_an_update():
    training = Training(lengths=(5, 3, 6))
    training.hyper["rates"] = np.full(2, 0.1)
    with pytest.raises(ValueError, match="expected at least 3 rates"):
        training.epoch(batch=1)


WRONG = [
    (lambda: bf.Schedule(0.1), "expected one of Constant, Step"),
    (lambda: bf.Constant(0), r"Constant\(learning_rate\): .* above 0"),
    (lambda: bf.Step("0.1", 3), r"Step\(learning_rate\): expected a finite number"),
    (lambda: bf.Step(0.1, 0), r"Step\(every\): .* above 0"),
    (lambda: bf.Step(0.1, 1, factor=1.5), r"Step\(factor\): .* at most 1"),
    (lambda: bf.Exponential(0.1, 0.0), r"Exponential\(factor\): .* above 0"),
    (lambda: bf.Cosine(0.1, warmup=-1), r"Cosine\(warmup\)"),
    (lambda: bf.Cosine(0.1, final=0.2), r"Cosine\(final\): .* at most 0.1"),
    (lambda: bf.Cosine(0.1, warmup=3, epochs=2), r"Cosine\(epochs\): .* above 3"),
    (lambda: bf.OneCycle(0.1, pct_start=1.1), r"OneCycle\(pct_start\)"),
    (lambda: bf.OneCycle(0.1, div_factor=0.5), r"OneCycle\(div_factor\)"),
    (lambda: bf.OneCycle(0.1, final_div_factor=0.5), r"OneCycle\(final_div_factor\)"),
    (lambda: bf.OneCycle(0.1, epochs=0), r"OneCycle\(epochs\)"),
    (lambda: bf.ReduceOnPlateau(0.1, factor=1.0), r"ReduceOnPlateau\(factor\): .* below 1"),
    (lambda: bf.ReduceOnPlateau(0.1, patience=-1), r"ReduceOnPlateau\(patience\)"),
    (lambda: bf.ReduceOnPlateau(0.1, threshold=1.0), r"ReduceOnPlateau\(threshold\)"),
    (lambda: bf.ReduceOnPlateau(0.1, cooldown=0.5), r"ReduceOnPlateau\(cooldown\): expected an integer"),
    (lambda: bf.ReduceOnPlateau(0.1, final=0.2), r"ReduceOnPlateau\(final\)"),
    (lambda: bf.Step(0.1, 2).rates(3, 0), "updates: expected an integer of at least 1"),
]


@pytest.mark.parametrize("make, words", WRONG)
def test_numbers_out_of_range(make, words):
    with pytest.raises(bf.ConfigError, match=words):
        make()


@pytest.mark.parametrize("pct", (0.0, 0.02, 0.5, 1.0))
@pytest.mark.parametrize("epochs, updates", ((1, 1), (1, 2), (3, 1), (4, 7)))
def test_short_cycles(pct, epochs, updates):
    rates = bf.OneCycle(0.3, pct_start=pct).rates(epochs, updates)
    assert np.isfinite(rates).all() and (rates > 0).all() and (rates <= 0.3).all()
    rates = bf.Cosine(0.3, warmup=pct * 3, final=0.01).rates(epochs, updates)
    assert np.isfinite(rates).all() and (rates >= 0.01).all() and (rates <= 0.3).all()


def test_the_isa_does_not_matter():
    ends = []
    for isa in cases.isas():
        net = bf.Network(2, 5, 1, seed=0, dtype="float64")
        net.fit(X, Y, epochs=5, optimizer=bf.Adam(bf.OneCycle(0.05)), batch_size=4, isa=isa, verbose=0)
        ends.append(net.params)
    for end in ends:
        np.testing.assert_allclose(end, ends[0], rtol=1e-9)
