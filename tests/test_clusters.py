"""Sweeps and restarts on real clusters of this machine: Dask, Ray and Spark, with workers that are killed.

Each test needs the packages of its cluster, which the extra `test` doesn't bring.
"""

import logging
import os
import shutil
import signal
import sys
from pathlib import Path

import numpy as np
import pytest
from support.fits import SWEPT, X, Y, network, same_restarts, same_table

import bptt_fast as bf

joblib = pytest.importorskip("joblib")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]
FOLDERS = os.pathsep.join([str(Path(bf.__file__).parents[1]), str(Path(__file__).parent)])


@pytest.fixture(scope="module")
def client():
    distributed = pytest.importorskip("distributed")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", FOLDERS)
        options = {"threads_per_worker": 1, "dashboard_address": None, "silence_logs": logging.CRITICAL}
        with distributed.LocalCluster(2, **options) as cluster, distributed.Client(cluster) as client:
            yield client


@pytest.fixture
def dask(client):
    client.wait_for_workers(2)  # which an earlier test has killed: with one, joblib calls in this process
    return {"backend": "dask"}


@pytest.fixture(scope="module")
def ray(tmp_path_factory):
    ray = pytest.importorskip("ray")
    from ray.util.joblib import register_ray

    environment = {"env_vars": {"PYTHONPATH": FOLDERS}}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("ray"))  # workers import from here first, not from the sources
        ray.init(num_cpus=2, include_dashboard=False, logging_level="error", log_to_driver=False,
                 runtime_env=environment)  # fmt: skip
    register_ray()
    yield {"backend": "ray"}
    ray.shutdown()


@pytest.fixture(scope="module")
def spark():
    joblibspark = pytest.importorskip("joblibspark")
    if shutil.which("java") is None:
        pytest.skip("Spark needs Java")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYSPARK_PYTHON", sys.executable)
        patch.setenv("PYTHONPATH", FOLDERS)
        joblibspark.register_spark()
        yield {"backend": "spark", "n_jobs": 2}


@pytest.fixture
def deadly(tmp_path):
    """deadly(calls, n): a loss that after so many calls kills n processes, but not this one."""

    def loss_that_kills(calls, n):
        here, log = os.getpid(), tmp_path / "calls"

        def loss(y, target, weight):
            if os.getpid() != here:
                with log.open("ab") as file:
                    file.write(b".")
                for i in range(n if log.stat().st_size > calls else 0):
                    try:
                        os.close(os.open(tmp_path / f"killed {i}", os.O_CREAT | os.O_EXCL))
                    except FileExistsError:
                        continue
                    os.kill(os.getpid(), signal.SIGKILL)
            return ((y - target) ** 2).mean(), 2 * (y - target) / y.size

        return loss

    return loss_that_kills


def killed(tmp_path):
    return len(list(tmp_path.glob("killed*")))


def raced(**options):
    return bf.restarts(network(), X, Y, 6, **{"epochs": 4, "verbose": 0, **options})


def test_dask_repeats_the_tasks_of_killed_workers(dask, deadly, tmp_path):
    """Of both workers, so that one had the data."""
    options = {**SWEPT, "loss": deadly(10, 2)}
    with joblib.parallel_config(**dask):
        there = bf.sweep(network(), X, Y, folder=tmp_path / "results", **options)
    assert killed(tmp_path) == 2
    same_table(bf.sweep(network(), X, Y, **options), there)


def test_dask_repeats_restarts_of_killed_workers(dask, deadly, tmp_path):
    loss = deadly(5, 2)
    with joblib.parallel_config(**dask):
        there = raced(loss=loss)
    assert killed(tmp_path) == 2
    same_restarts(raced(loss=loss), there)


def test_a_folder_continues_after_a_killed_worker_of_ray(ray, deadly, tmp_path):
    folder = tmp_path / "results"
    options = {**SWEPT, "loss": deadly(10, 1)}
    with joblib.parallel_config(**ray):
        with pytest.raises(sys.modules["ray"].exceptions.RayActorError):
            bf.sweep(network(), X, Y, folder=folder, **options)
        assert 0 < (folder / "fits.jsonl").read_bytes().count(b"\n") < 8
        there = bf.sweep(network(), X, Y, folder=folder, **options)
    same_table(bf.sweep(network(), X, Y, **options), there)


def test_ray_repeats_if_its_actors_restart(ray, deadly, tmp_path):
    loss, again = deadly(5, 1), {"max_restarts": -1, "max_task_retries": -1}
    with joblib.parallel_config(**ray, ray_remote_args=again):
        there = raced(loss=loss)
    assert killed(tmp_path) == 1
    same_restarts(raced(loss=loss), there)


def test_spark_gives_the_same_bits(spark):
    with joblib.parallel_config(**spark):
        swept, there = bf.sweep(network(), X, Y, **SWEPT), raced()
    same_table(bf.sweep(network(), X, Y, **SWEPT), swept)
    same_restarts(raced(), there)


@pytest.mark.filterwarnings("ignore:`get_trial_id` is meant")
def test_ray_tune_gets_each_epoch_and_checkpoints(ray, tmp_path):
    tune = pytest.importorskip("ray.tune", exc_type=ImportError)
    options = {"epochs": 3, "validation_split": 0.25, "optimizer": bf.Adam(bf.Cosine(0.01)), "verbose": 0}
    x, y = X, Y

    def train(config):
        import bptt_fast as bf

        net = bf.Network(2, config["hidden_size"], 1, readout="every", seed=0)
        net.fit(x, y, callbacks=bf.callbacks.RayTuneReport(checkpoint_every=2), threads=1, **options)

    tuner = tune.Tuner(train, param_space={"hidden_size": tune.grid_search([2, 3])},
                       run_config=tune.RunConfig(storage_path=str(tmp_path), verbose=0))  # fmt: skip
    results = tuner.fit()
    assert not results.errors
    for result in results:
        net = bf.Network(2, result.config["hidden_size"], 1, readout="every", seed=0)
        history = net.fit(x, y, **options)
        reported = result.metrics_dataframe
        for name in ("epoch", "loss", "val_loss", "learning_rate"):
            assert reported[name].tolist() == history[name]
        with result.checkpoint.as_directory() as folder:
            kept = bf.load(os.path.join(folder, "network.safetensors"))
        single = bf.Network(2, result.config["hidden_size"], 1, readout="every", seed=0)
        single.fit(x, y, **{**options, "callbacks": [StopAfter(2)]})
        assert np.array_equal(kept.params, single.params)
    with pytest.raises(bf.ConfigError, match="RayTuneReport: expected a fit in a trial"):
        network().fit(X, Y, callbacks=bf.callbacks.RayTuneReport(), **options)


class StopAfter(bf.Callback):
    def __init__(self, epochs):
        self.epochs = epochs

    def on_epoch_end(self, epoch, logs):
        return epoch + 1 == self.epochs
