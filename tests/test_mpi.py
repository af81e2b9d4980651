"""Data-parallel training: equal bits for every number of ranks, and errors that reach all of them."""

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from support import together

import bptt_fast as bf
from bptt_fast import data, losses, persistence, plans, ranks

MPIEXEC = shutil.which("mpiexec", path=Path(sys.executable).parent) or shutil.which("mpiexec")
ALLOWED = {  # Open MPI asks for them where ranks outnumber cores, and in containers
    "OMPI_ALLOW_RUN_AS_ROOT": "1",
    "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
    "OMPI_MCA_rmaps_base_oversubscribe": "1",
    "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe",
}


@pytest.fixture
def launch(python):
    """launch(n, *names): the finished process, and what each rank returned for each name."""
    pytest.importorskip("mpi4py")
    if MPIEXEC is None:
        pytest.skip("no mpiexec")

    def call(n, *names):
        done = python(together.__file__, *names, launcher=[MPIEXEC, "-n", n], env=ALLOWED)
        return done, [json.loads(line) for line in done.stdout.splitlines() if line.startswith("[")]

    return call


@pytest.fixture(scope="module")
def alone():
    """The results of this process, without MPI."""
    return together.results()


# ---- the sums


SIZES = [(shards, size) for shards in (1, 2, 3, 6, 7, 12) for size in (1, 2, 3, 4, 5, 12) if size <= shards]


@pytest.mark.parametrize("shards, size", SIZES)
def test_every_rank_adds_up_the_same_tree(shards, size):
    """The nodes of all ranks are the shards, once each and in order; their sum has the bits of one rank's."""
    values = np.random.default_rng(0).normal(size=shards) * 10.0 ** np.arange(shards)
    known, covered = {}, []
    for rank in range(size):
        some = ranks.Ranks(bf.Shards(shards))
        some.divide(shards)
        some.rank, some.part = rank, (shards * rank // size, shards * (rank + 1) // size)
        some.nodes = [ranks.nodes_of(some.part, (0, shards))] * size
        sums = ranks.Sums(some, 1, float)
        assert len(sums.rows) <= 2 * np.log2(shards) + 2
        for _ in range(2):  # the second update begins like the first
            row = 0
            for shard in range(*some.part):
                sums.rows[row] = values[shard]
                row = sums.add(shard, values[shard])
        assert sums.nodes == some.nodes[rank] and sums.losses == sums.rows[:row, 0].tolist()
        known |= dict(zip(sums.nodes, sums.losses, strict=True))
        covered += [shard for node in sums.nodes for shard in range(*node)]
    assert covered == list(range(shards))
    leaves = {(i, i + 1): values[i] for i in range(shards)}
    assert ranks.tree_sum(known, (0, shards)) == ranks.tree_sum(leaves, (0, shards))


@pytest.mark.parametrize("name", together.CASES)
def test_shards_are_the_batch(name):
    """One shard is the batch, to the bit; several differ by rounding alone."""
    hows = {}, {"comm": bf.Shards(1)}, {"comm": bf.Shards(together.SHARDS)}
    nets = [together.train(name, **how)[0] for how in hows]
    assert nets[0].params.tobytes() == nets[1].params.tobytes()
    np.testing.assert_allclose(nets[2].params, nets[0].params, rtol=2e-3, atol=2e-4)
    if name != "rprop":  # which takes the signs of the gradient alone
        assert nets[2].params.tobytes() != nets[0].params.tobytes(), "the test sees no shards"


def test_threads_change_nothing():
    x, y = np.random.default_rng(0).normal(size=(2, 48, 30, 24)).astype(np.float32)
    found = set()
    for threads in (1, 2, 3):
        for bptt in (bf.FullBPTT(), bf.TruncatedBPTT(30)):
            net = bf.Network(24, 48, 24, cell="lstm", readout="every", seed=0)
            net.fit(x, y, epochs=2, batch_size=24, bptt=bptt, comm=bf.Shards(3), threads=threads, verbose=0)
            found.add(net.params.tobytes())
    assert len(found) == 1


# ---- ranks


@pytest.mark.parametrize(
    "n, names", ((2, "results"), (3, "some_results"), pytest.param(4, "results", marks=pytest.mark.slow))
)
def test_equal_bits(launch, alone, n, names):
    done, found = launch(n, names, "histories")
    assert done.returncode == 0, done.stderr
    results, histories = found
    assert len(results) == n, "mpiexec and mpi4py belong to different installations of MPI"
    for of_rank in results:
        assert of_rank and of_rank == {name: alone[name] for name in of_rank}
    assert all(history == histories[0] for history in histories) and histories[0]["val_loss"]


SAME = "expected the same on all ranks, got"


def test_errors_reach_all_ranks(launch):
    done, found = launch(2, "failures")
    assert done.returncode == 0, done.stderr
    first, second = found[0]
    for name, text in {
        "epochs": f"ConfigError: epochs: {SAME} 3 on rank 0 and 4 on rank 1.",
        "batch_size": f"ConfigError: batch_size: {SAME} 8 on rank 0 and 9 on rank 1.",
        "shards": f"ConfigError: shards: {SAME} 4 on rank 0 and 5 on rank 1.",
        "bptt": f"ConfigError: bptt: {SAME} FullBPTT() on rank 0 and TruncatedBPTT(k1=3, k2=7) on rank 1.",
        "seed": f"ConfigError: seed: {SAME} 3 on rank 0 and 4 on rank 1.",
        "weights": f"ConfigError: weights: {SAME} ",
        "rules": f"ConfigError: rules: {SAME} none on rank 0 and ",
        "x and y": f"ConfigError: x and y: {SAME} 26 sequences with the checksum ",
        "lengths": f"ConfigError: x and y: {SAME} 26 sequences with the checksum ",
        "wrong on both": "ConfigError: loss: expected one of ",
        "diverged": "DivergedError: fit: the loss, the gradient or the update is NaN or infinite in epoch 1",
        "time": "max_seconds after ",
        "second order": "ConfigError: comm: expected an optimiser of first order with it, and FullBPTT",
        "stateful": "ConfigError: stateful: expected False with comm,",
        "own loss": "ConfigError: loss: expected a loss by name with comm,",
        "too many ranks": "ConfigError: comm: expected at most 1 ranks for batches of 8 sequences",
        "one more": "epochs after 3",
    }.items():
        assert first[name].startswith(text), (name, first[name])
        assert text[-1] != "." or first[name].endswith(" (unchanged)")
        assert first[name] == second[name]
    assert first["online"].startswith("ConfigError") and first["online"] == second["online"]
    assert first["callback"] == "OSError: no space left (changed)"
    assert second["callback"] == "RankError: rank 0: OSError: no space left (changed)"
    assert first["setup"] == "OSError: no such folder (unchanged)"
    assert second["setup"] == f"RankError: rank 0: {first['setup'].removesuffix(' (unchanged)')} (unchanged)"
    assert second["wrong on one"].startswith("ConfigError: loss: expected one of ")
    assert first["wrong on one"] == f"RankError: rank 1: {second['wrong on one']}"
    for name, what in (("missing", "x"), ("missing on one", "validation_data[0]")):
        assert second[name].startswith(f"ConfigError: {what}: ") and "sequence 20" in second[name]
        assert first[name] == f"RankError: rank 1: {second[name]}"


def test_a_killed_rank(launch, tmp_path, monkeypatch):
    """It ends all of them, and the backup continues, here on one rank, to the weights of a whole fit."""
    done, found = launch(2, "killed")
    assert done.returncode != 0 and not found
    assert "KILLED" in (done.stdout + done.stderr).upper()
    monkeypatch.chdir(tmp_path)
    assert persistence.load_state("backup/backup.safetensors")[1]["epoch"] == 3
    continued = together.long_fit(None)
    assert not Path("backup").exists() and together.long_fit(None) == continued


def test_shards_are_checked():
    net = bf.Network(1, 2, 1, seed=0)
    x, y = np.ones((4, 3, 1)), np.ones((4, 1))
    with pytest.raises(bf.ConfigError, match=r"Shards\(count\): expected at most 4, got 5"):
        net.fit(x, y, comm=bf.Shards(5), verbose=0)
    for count in (0, 1.5, None):
        with pytest.raises(bf.ConfigError, match=r"Shards\(count\): expected "):
            bf.Shards(count)
    with pytest.raises(bf.ConfigError, match="'comm'"):
        bf.restarts(net, x, y, seeds=[0, 1], epochs=1, comm=bf.Shards(2), verbose=0)


def test_a_communicator_is_checked(monkeypatch):
    net = bf.Network(1, 2, 1, seed=0)
    x, y = np.ones((4, 3, 1)), np.ones((4, 1))
    pytest.importorskip("mpi4py")
    with pytest.raises(bf.ConfigError, match=r"comm: expected a communicator.* or Shards.*got 'world'"):
        net.fit(x, y, comm="world", verbose=0)
    with pytest.raises(bf.ConfigError, match=r"Shards\(comm\): expected a communicator.*got 'world'"):
        bf.Shards(2, "world")
    monkeypatch.setitem(sys.modules, "mpi4py", None)
    with pytest.raises(ImportError, match=r"comm: expected mpi4py to be installed.*bptt-fast\[mpi\]"):
        net.fit(x, y, comm="world", verbose=0)
    with pytest.raises(ImportError, match=r"Shards\(comm\): expected mpi4py to be installed"):
        bf.Shards(2, "world")


# ---- the core


def test_the_core_refuses_shards_that_do_not_fit():
    """And computes those that do, as before."""
    x = np.random.default_rng(0).normal(size=(4, 6, 2)).astype(np.float32)
    net = bf.Network(2, 3, 1, readout="every", seed=0)
    sequences = data.sequences(x, 2, np.float32)
    data.set_targets(sequences, x[:, :, :1], 1, losses.get("mse"), True)
    core, order = plans.core_data(sequences), data.counting(4)

    def status(batch=4, count=2, begin=0, end=2, size=2, others=0, order=order, options=None):
        size = plans.PlanSize("mse", True, size, 6, 1, None)
        plan, *more = (plans.make_plan(net.desc(), size, options) for _ in range(1 + others))
        sums = np.empty((abs(end - begin), plan.sum_size), np.float32)
        rows = (
            np.zeros(2 * net.num_parameters, np.float32),
            {"optimizer": "sgd", "learning_rate": 0.1},
            core,
        )
        shards = (batch, count, begin, end, more, sums, lambda shard, loss: shard, lambda: 0.0)
        records = np.zeros(9), np.zeros(9)
        return plan.epoch(
            net.params.copy(), rows[0][: net.num_parameters], *rows[1:], order, *records, shards=shards
        )

    truncated = {"update_every": 3, "look_back": 3}
    assert status() == ("OK", 1) and status(others=1, options=truncated) == ("OK", 2)
    for wrong in (dict(batch=0), dict(count=1), dict(begin=-1, end=1), dict(batch=6), dict(size=1)):
        with pytest.raises(ValueError, match="more sequences or steps than the plan"):
            status(**wrong)
    with pytest.raises(ValueError, match="more sequences or steps than the plan"):
        status(options=truncated)
    with pytest.raises(ValueError, match="expected no further plan or one for each of 1 shards, got 2"):
        status(others=2, options=truncated)
