"""Restarts: each copy is a single fit to the bit, whatever the number of workers; halving; tables; errors."""

import inspect
import signal
import threading
import time

import numpy as np
import pytest
from support.signals import interrupted

import bptt_fast as bf

RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(24, 7, 2))
Y = X[:, -2:, :1].sum(axis=1)
SERIES = np.sin(np.arange(60) / 3)[:, None]


def network(**words):
    return bf.Network(**({"input_size": 2, "hidden_size": 5, "output_size": 1, "seed": 3} | words))


def run(net=None, x=X, y=Y, n=6, epochs=8, **options):
    return bf.restarts(net or network(), x, y, n, epochs=epochs, **({"verbose": 0} | options))


def equal(a, b):
    return np.array_equal(a.params, b.params)


# options of the network, of fit
JOBS = {
    "plain": ({}, {"batch_size": 5}),
    "validation": ({"cell": "gru"}, {"validation_split": 0.25, "optimizer": bf.Adam(clip_norm=0.5)}),
    "validation data": ({"dtype": "float64"}, {"validation_data": (X[:5], Y[:5])}),
    "weights, states": ({"cell": "lstm"}, {"sample_weight": np.arange(24.0), "x0": np.full(10, 0.1)}),
    "dropout": ({"recurrent_dropout": 0.3}, {"batch_size": 7}),
    "patience": ({}, {"optimizer": bf.Adam(0.3), "patience": 2}),
    "schedule": (
        {"init": "orthogonal"},
        {"optimizer": bf.AdamW(bf.Cosine(0.02), gradient_noise=0.01)},
    ),
    "truncated": ({"readout": "last"}, {"bptt": bf.TruncatedBPTT(3), "stateful": True, "batch_size": 4}),
    "target": ({}, {"optimizer": bf.Adam(0.02), "patience": bf.Stopping(target_loss=0.5)}),
}


@pytest.mark.parametrize("job", JOBS)
def test_copies_equal_single_fits(job):
    words, options = JOBS[job]
    best, table = run(network(**words), keep="all", threads=3, **options)
    for row, copy, history in zip(table.rows(), table.networks, table.histories, strict=True):
        single = network(**words | {"seed": row["seed"]})
        record = single.fit(X, Y, epochs=8, verbose=0, **options)
        assert equal(single, copy)
        assert all(record[name] == history[name] for name in record if name != "seconds")
        assert (record.stopped, record.best_epoch) == (history.stopped, history.best_epoch)
    assert best is table.networks[0]


@pytest.mark.parametrize("split", [0, 0.3])
def test_copies_of_the_online_algorithm_equal_single_fits(split):
    net = network(input_size=1)
    options = {"bptt": bf.SlidingBPTT(4), "validation_split": split}
    _, table = run(net, SERIES, SERIES, n=3, keep="all", threads=2, **options)
    for seed, copy in zip(table["seed"], table.networks, strict=True):
        single = network(input_size=1, seed=seed)
        single.fit(SERIES, SERIES, epochs=8, verbose=0, **options)
        assert equal(single, copy)


# options of the network, of restarts; whether copies are trained at once, if this processor can
ONLINE = {
    "plain": ({}, {}, True),
    "sweep, diverging": ({}, {"draws": {"learning_rate": [1e-3, 1e-2, 1e7]}, "nonlinearity": "relu"}, True),
    "patience": ({}, {"optimizer": bf.SGD(0.1), "patience": 2, "validation_split": 0.3}, True),
    "target": ({}, {"patience": bf.Stopping(target_loss=0.05), "optimizer": bf.SGD(0.1)}, True),
    "clip": ({"dtype": "float64"}, {"optimizer": bf.Adam(0.01, clip_norm=0.5)}, True),
    "schedule": ({}, {"optimizer": bf.SGD(bf.Cosine(0.02), momentum=0.5)}, True),
    "series": ({}, {"lengths": True}, True),
    "scaling": ({}, {"scaling": "standard"}, True),
    "two sizes": ({}, {"grid": {"hidden_size": [3, 5]}}, True),
    "two optimisers": ({}, {"grid": {"optimizer": ["sgd", "adam"], "bptt": [bf.SlidingBPTT(2)]}}, True),
    "noise": ({}, {"optimizer": bf.SGD(0.01, gradient_noise=0.01)}, False),
    "gru": ({"cell": "gru"}, {}, False),
    "wide": ({"hidden_size": 60}, {}, False),
}


@pytest.fixture
def teams(monkeypatch):
    """The sizes of the teams whose epochs the core has trained at once."""
    from bptt_fast import restarts

    sizes, epoch = [], inspect.unwrap(restarts).__globals__["epoch_of_copies"]

    def counted(plan, runners, poll):
        sizes.append(len(runners))
        return epoch(plan, runners, poll)

    monkeypatch.setitem(inspect.unwrap(restarts).__globals__, "epoch_of_copies", counted)
    return sizes


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("job", ONLINE)
def test_copies_in_lanes_equal_single_fits(job, threads, teams):
    words, options, at_once = ONLINE[job]
    words, options = {"input_size": 1} | words, {"bptt": bf.SlidingBPTT(4)} | options
    if "nonlinearity" in options:
        words["nonlinearity"] = options.pop("nonlinearity")
    x = [SERIES, SERIES[:20], SERIES[5:]] if options.pop("lengths", False) else SERIES
    _, table = run(network(**words), x, x, n=37, keep="all", threads=threads, **options)
    assert bool(teams) == (at_once and bf.show_config.__globals__["_core"].isas()[-1].startswith("avx"))
    varied = options.pop("draws", None) or options.pop("grid", None) or {}
    for row, copy, history in zip(table.rows(), table.networks, table.histories, strict=True):
        own, given = {"seed": row["seed"]}, dict(options)
        for name in varied:
            (own if name == "hidden_size" else given)[name] = row[name]
        if "learning_rate" in given:
            given["optimizer"] = bf.SGD(given.pop("learning_rate"))
        single = network(**words | own)
        try:
            record = single.fit(x, x, epochs=8, verbose=0, **given)
        except bf.DivergedError:
            assert row["stopped"] == "diverged"
            assert equal(single, copy)
            continue
        assert equal(single, copy)
        assert all(record[name] == history[name] for name in record if name != "seconds")
        assert (record.stopped, record.best_epoch) == (history.stopped, history.best_epoch)
    if job.endswith("diverging"):
        assert 0 < table["stopped"].count("diverged") < 37


def test_halving_of_copies_in_lanes(teams):
    """The survivors of a rung are put together again; a few are trained one by one."""
    net, options = network(input_size=1), {"bptt": bf.SlidingBPTT(4), "threads": 1}
    _, table = run(net, SERIES, SERIES, n=32, epochs=16, **options)
    for seed, copy, epochs in zip(table["seed"], table.networks, table["epochs"], strict=True):
        single = network(input_size=1, seed=seed)
        single.fit(SERIES, SERIES, epochs=epochs, verbose=0, bptt=bf.SlidingBPTT(4))
        assert equal(single, copy)
    if teams:
        assert max(teams) in (8, 16) and min(teams) >= 2


@pytest.mark.parametrize("threads", [1, 2])
def test_ctrl_c_within_an_epoch_of_copies_in_lanes(threads):
    series = RANDOM.normal(size=(4_000_000, 1))
    with interrupted(1.5), pytest.raises(KeyboardInterrupt) as caught:
        net, options = network(input_size=1), {"bptt": bf.SlidingBPTT(10), "keep": "all"}
        run(net, series, series, n=24, epochs=10**9, threads=threads, **options)
    assert caught.value.table["stopped"] == ["interrupted"] * 24
    assert all(np.isfinite(copy.params).all() for copy in caught.value.table.networks)


def test_dropped_copies_equal_fits_of_fewer_epochs():
    _, table = run(n=8, epochs=12, threads=2)
    for seed, copy, epochs in zip(table["seed"], table.networks, table["epochs"], strict=True):
        single = network(seed=seed)
        single.fit(X, Y, epochs=epochs, verbose=0)
        assert equal(single, copy)


@pytest.mark.parametrize("options", [{}, {"keep": "all"}, {"draws": {"learning_rate": [1e-3, 1e-2, 1e-1]}}])
def test_the_number_of_workers_changes_nothing(options):
    tables = [run(n=9, epochs=16, threads=threads, **options)[1] for threads in (1, 2, 5)]
    for table in tables[1:]:
        assert table.keys() == tables[0].keys()
        assert all(table[name] == tables[0][name] for name in table if name != "seconds")
        assert all(map(equal, table.networks, tables[0].networks))


def test_one_worker_makes_no_thread(monkeypatch):
    monkeypatch.setattr(threading.Thread, "start", None)
    run(threads=1, n=2)


# ---- halving


def test_the_worse_half_is_dropped_at_each_rung():
    _, table = run(n=8, epochs=8, rungs=[1, 3, 6])
    assert table.rungs == [1, 3, 6]
    assert sorted(table["epochs"]) == [1, 1, 1, 1, 3, 3, 6, 8]
    for rung in table.rungs:
        alive = [
            h["loss"][rung - 1] for h, e in zip(table.histories, table["epochs"], strict=True) if e > rung
        ]
        gone = [h["loss"][-1] for h, e in zip(table.histories, table["epochs"], strict=True) if e == rung]
        assert max(alive) <= min(gone)
    ends = dict(zip(table["epochs"], table["stopped"], strict=True))
    assert ends == {1: "halving", 3: "halving", 6: "halving", 8: "epochs"}


@pytest.mark.parametrize(
    "n, epochs, survivors, rungs, left",
    [
        (32, 320, 1, [10, 20, 40, 80, 160], 1),
        (32, 320, 4, [40, 80, 160], 4),
        (5, 100, 1, [12, 25, 50], 1),
        (5, 100, 2, [25, 50], 2),
        (1, 10, 1, [], 1),
        (8, 3, 1, [1], 4),
        (4, 1, 1, [], 4),
    ],
)
def test_rungs_by_default(n, epochs, survivors, rungs, left):
    _, table = run(x=X[:2], y=Y[:2], n=n, epochs=epochs, survivors=survivors)
    assert table.rungs == rungs
    assert sum(e == epochs for e in table["epochs"]) == left


def test_the_best_comes_first_by_validation_loss():
    best, table = run(validation_split=0.25, keep="all")
    assert table["val_loss"] == sorted(table["val_loss"])
    assert best.evaluate(X[18:], Y[18:]) == pytest.approx(table["val_loss"][0])


def test_target_loss_ends_it_at_the_next_rung():
    _, table = run(n=8, epochs=400, rungs=[1, 300], patience=bf.Stopping(target_loss=0.3),
                   optimizer=bf.Adam(0.02))  # fmt: skip
    stopped = table["stopped"]
    assert stopped[0] == "target_loss" and set(stopped) <= {"target_loss", "halving", "not needed"}
    assert max(table["epochs"]) <= 300 and table["loss"][0] <= 0.3


def test_diverged_copies_come_last():
    rates = [1e-2, 1e30]
    with np.errstate(all="ignore"):
        _, table = run(n=4, grid={"learning_rate": rates}, optimizer=bf.SGD(), keep="all")
    assert table["stopped"] == ["epochs", "epochs", "diverged", "diverged"]
    assert table["learning_rate"] == [1e-2, 1e-2, 1e30, 1e30]
    with pytest.raises(bf.DivergedError, match="all 3 copies diverged") as caught:
        run(n=3, optimizer=bf.SGD(1e30))
    assert caught.value.table["stopped"] == ["diverged"] * 3


def test_max_seconds_is_for_all_together():
    begin = time.process_time()
    _, table = run(n=4, epochs=10**9, keep="all", patience=bf.Stopping(max_seconds=0.3), threads=2)
    assert time.process_time() - begin < 3
    assert set(table["stopped"]) == {"max_seconds"}


# ---- what is varied


def test_a_grid_goes_through_all_combinations():
    grid = {"learning_rate": [0.01, 0.02], "hidden_size": [3, 4], "batch_size": [6]}
    best, table = run(n=8, grid=grid, keep="all")
    rows = {(r["learning_rate"], r["hidden_size"], r["batch_size"]) for r in table.rows()}
    assert rows == {(a, b, 6) for a in (0.01, 0.02) for b in (3, 4)}
    row = table.rows()[0]
    single = network(hidden_size=row["hidden_size"], seed=row["seed"])
    single.fit(X, Y, epochs=8, verbose=0, batch_size=6, optimizer=bf.Adam(row["learning_rate"]))
    assert equal(single, best)


def test_draws_come_from_lists_distributions_and_functions():
    from scipy.stats import loguniform

    draws = {
        "learning_rate": loguniform(1e-4, 1e-1),
        "cell": ["elman", "gru"],
        "clip_norm": lambda random: random.uniform(0.1, 1),
    }
    tables = [run(n=8, draws=draws)[1] for _ in range(2)]
    assert all(tables[0][name] == tables[1][name] for name in draws)
    assert set(tables[0]["cell"]) == {"elman", "gru"}
    assert all(1e-4 <= rate <= 1e-1 for rate in tables[0]["learning_rate"])
    assert len(set(tables[0]["clip_norm"])) == 8
    other = run(network(seed=4), n=8, draws=draws)[1]
    assert sorted(other["clip_norm"]) != sorted(tables[0]["clip_norm"])


def test_the_momentum_of_sgd_where_sgd_is_the_default():
    _, table = run(network(input_size=1), SERIES, SERIES, n=2, bptt=bf.SlidingBPTT(3), keep="all",
                   grid={"momentum": [0.0, 0.5]})  # fmt: skip
    for row, copy in zip(table.rows(), table.networks, strict=True):
        single = network(input_size=1, seed=row["seed"])
        single.fit(SERIES, SERIES, bptt=bf.SlidingBPTT(3), epochs=8, verbose=0,
                   optimizer=bf.SGD(momentum=row["momentum"]))  # fmt: skip
        assert equal(single, copy)


# ---- data, network, table


def test_the_data_are_made_once(monkeypatch):
    from bptt_fast import data

    calls = []
    made = data.sequences
    monkeypatch.setattr(data, "sequences", lambda *a, **k: calls.append(a) or made(*a, **k))
    run(network(), list(X), Y, validation_data=(list(X), Y), threads=2)
    assert len(calls) == 2
    calls.clear()
    run(n=4, draws={"dtype": ["float32", "float64"]})
    assert len(calls) <= 2


def test_the_network_given_is_left_alone():
    net = network()
    net.extra["note"] = "mine"
    before = net.params.copy()
    best, _ = run(net)
    assert np.array_equal(net.params, before) and best is not net and best.extra == {"note": "mine"}
    net.params[:] = 0
    assert equal(run(net)[0], best), "copies start from initial parameters of their own"


def test_seeds():
    assert sorted(run(n=3)[1]["seed"]) == [3, 4, 5]
    assert sorted(run(n=3, seeds=[7, 1, 2])[1]["seed"]) == [1, 2, 7]
    assert set(run(network(seed=2**64 - 1), n=2)[1]["seed"]) == {2**64 - 1, 0}


def test_the_table(tmp_path):
    _, table = run(n=4, draws={"learning_rate": [0.01, 0.02]}, validation_split=0.25)
    assert list(table) == ["seed", "learning_rate", "loss", "val_loss", "epochs", "seconds", "stopped"]
    assert {len(column) for column in table.values()} == {4}
    table.to_csv(tmp_path / "table.csv")
    lines = (tmp_path / "table.csv").read_text().splitlines()
    assert lines[0] == ",".join(table) and len(lines) == 5
    assert lines[1].split(",")[0] == str(table["seed"][0])
    assert len(str(table).splitlines()) == 5 and str(table).split()[:2] == ["seed", "learning_rate"]
    assert all(s > 0 for s in table["seconds"]) and table.seconds > 0


def test_lines(capsys):
    run(n=4, epochs=4, verbose=2)
    out = capsys.readouterr().out.splitlines()
    assert [line.split()[1] for line in out] == ["1/4", "2/4", "4/4"]
    assert "4 copies: best" in out[0] and out[0].endswith("2 continue") and "1 copy: best" in out[2]
    run(n=4, epochs=4)
    assert not capsys.readouterr().out


@pytest.mark.parametrize("threads", [1, 2])
def test_ctrl_c_keeps_the_best_so_far(threads):
    timer = threading.Timer(0.5, lambda: signal.pthread_kill(threading.main_thread().ident, signal.SIGINT))
    before = threading.active_count()
    timer.start()
    with pytest.raises(KeyboardInterrupt) as caught:
        run(n=4, epochs=10**9, rungs=[5], threads=threads)
    timer.join()
    error = caught.value
    assert error.best is error.table.networks[0] and len(error.table["loss"]) == 4
    assert sorted(error.table["stopped"]) == ["halving"] * 2 + ["interrupted"] * 2
    assert error.table["loss"][0] == min(error.table["loss"])
    assert error.__notes__ == [
        "restarts: the attributes best and table of the exception are the best copy so far and the table."
    ]
    assert threading.active_count() == before


@pytest.mark.parametrize("threads", [1, 2])
def test_ctrl_c_within_a_long_epoch(threads):
    """The poll of the core ends the epochs of the workers; the table says why, as for other copies."""
    x = RANDOM.normal(size=(256, 800, 2))
    with interrupted(1.0), pytest.raises(KeyboardInterrupt) as caught:
        run(network(hidden_size=64), x, x[:, 0, :1], n=3, epochs=10**9, keep="all", threads=threads)
    assert caught.value.table["stopped"] == ["interrupted"] * 3


def test_an_error_in_a_worker_is_raised(monkeypatch):
    from bptt_fast import restarts

    def broken(self, until, halt):
        raise MemoryError("no more")

    monkeypatch.setattr(inspect.unwrap(restarts).__globals__["_Copy"], "advance", broken)
    with pytest.raises(MemoryError, match="no more"):
        run(threads=2)


# ---- error messages


@pytest.mark.parametrize(
    "options, text",
    [
        ({"net": 3}, "net: expected a Network, got int"),
        ({"n": 0}, "n: expected an integer of at least 1"),
        ({"epochs": 0}, "epochs: expected an integer of at least 1"),
        ({"keep": "half"}, "keep: expected one of 'halving', 'all'"),
        ({"keep": "all", "rungs": [1]}, 'rungs: expected None with keep="all"'),
        ({"rungs": [3, 2]}, "rungs: expected increasing epochs below epochs=8"),
        ({"rungs": [8]}, "rungs: expected increasing epochs below epochs=8"),
        ({"rungs": 3}, "rungs: expected a list of epochs"),
        ({"survivors": 7}, "survivors: expected at most 6"),
        ({"seeds": [1, 2]}, "seeds: expected 6 of them"),
        ({"seeds": 1}, "seeds: expected a list of 6"),
        ({"callbacks": []}, "callbacks: restarts does not accept it; a callback watches one fit"),
        ({"initial_epoch": 1}, "initial_epoch: restarts does not accept it"),
        ({"batchsize": 1}, "Did you mean 'batch_size'"),
        ({"grid": {"learning_rat": [1]}}, "Did you mean 'learning_rate'"),
        ({"grid": {"seed": [1]}}, "'seed' cannot be varied; pass seeds"),
        ({"grid": {"x0": [1]}}, "'x0' cannot be varied"),
        ({"grid": {"learning_rate": 0.1}}, "grid['learning_rate']: expected a list"),
        ({"grid": {"learning_rate": [1] * 7}}, "n: expected at least 7"),
        ({"grid": [1]}, "grid: expected a dict"),
        ({"grid": {}, "draws": {}}, "draws: expected None with grid"),
        ({"draws": {"learning_rate": 0.1}}, "draws['learning_rate']: expected a list of values"),
        ({"grid": {"learning_rate": [0.1, -1]}}, "copy 1 with learning_rate=-1: Adam(learning_rate)"),
        ({"grid": {"hidden_size": [0]}}, "copy 0 with hidden_size=0: hidden_size"),
        ({"batch_size": 0}, "batch_size: expected an integer of at least 1"),
        ({"y": Y[:3]}, "y: expected"),
        ({"verbose": 5}, "verbose: expected"),
        ({"threads": 0}, "threads: expected"),
    ],
)  # fmt: skip
def test_errors(options, text):
    with pytest.raises((bf.ConfigError, bf.ShapeError)) as caught:
        run(**options)
    assert text in str(caught.value)
