"""Accuracy and training time of global forecasters: ours and darts' RNNModel.

Data: the 27 load profiles of consumers (households, business, farms, ...) of SimBench, in the wheel of
simbench: hourly means of 2016, each standardised by its rows before October.  One network for all profiles
forecasts 24 hours from midnight; it reads the 96 hours before, with hour and weekday as covariates.
Windows that end before October train, October chooses the learning rate and the number of epochs, November
and December test.  Both sides are GRUs of the same size, trained on one window a day to predict the next
hour, and fed their own forecasts.
"""

from __future__ import annotations

import argparse
import importlib.util
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from . import common

DAY, KNOWN, HIDDEN, BATCH = 24, 96, 32, 32
OCTOBER, NOVEMBER = 274 * DAY, 305 * DAY  # first hours of these months in a leap year
RATES = (0.003, 0.01)
LOOKS = (5, 10, 20)  # epochs after which October is forecast

Side = tuple[Callable[[float, int], Any], Callable[[Any, list[int]], Any]]


def profiles() -> Any:
    """A DataFrame of hours and profiles, standardised."""
    import pandas as pd

    spec = importlib.util.find_spec("simbench")
    if spec is None or spec.submodule_search_locations is None:
        sys.exit("bench.forecasting: needs the data in simbench: pip install --no-deps simbench")
    folder = Path(spec.submodule_search_locations[0]) / "networks" / "1-complete_data-mixed-all-0-sw"
    columns = pd.read_csv(folder / "LoadProfile.csv", sep=";", nrows=0).columns
    chosen = [name for name in columns if name[0] in "BGHLW" and name[2:3] == "-" and name.endswith("_pload")]
    table = pd.read_csv(folder / "LoadProfile.csv", sep=";", usecols=chosen)[chosen]
    hourly = table.groupby(table.index // 4).mean()
    hourly.index = pd.date_range("2016-01-01", periods=len(hourly), freq="h")
    known = hourly[:OCTOBER]
    return (hourly - known.mean()) / known.std()


def ours(loads: Any, seed: int) -> Side:
    """The function of (rate, epochs) that trains, and that of (model, origins) that forecasts."""
    import numpy as np

    import bptt_fast as bf

    series = [loads[[name]].set_axis(["load"], axis=1) for name in loads]
    train = [one[:OCTOBER] for one in series]

    def fit(rate: float, epochs: int) -> bf.Forecaster:
        model = bf.Forecaster(
            "load",
            calendar=["hour", "weekday"],
            horizon=DAY,
            window=KNOWN,
            stride=DAY,
            scaling=None,
            hidden_size=HIDDEN,
            seed=seed,
        )
        adam = bf.Adam(rate)
        model.fit(
            train, epochs=epochs, validation=0, patience=None, batch_size=BATCH, optimizer=adam, verbose=0
        )
        return model

    def forecast(model: bf.Forecaster, origins: list[int]) -> Any:
        histories = [one[origin - KNOWN : origin] for one in series for origin in origins]
        return np.stack([part["load"].to_numpy() for part in model.predict(histories)])

    return fit, forecast


def darts(loads: Any, seed: int) -> Side:
    """The same of darts."""
    import logging
    import warnings

    import numpy as np
    from darts import TimeSeries
    from darts.models import RNNModel

    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore")
    angles = [2 * np.pi * loads.index.hour / 24, 2 * np.pi * loads.index.day_of_week / 7]
    waves = [wave(angle) for angle in angles for wave in (np.sin, np.cos)]
    clock = TimeSeries.from_times_and_values(loads.index, np.column_stack(waves).astype("f4"))
    series = [TimeSeries.from_times_and_values(loads.index, loads[name].to_numpy("f4")) for name in loads]
    train = [one[:OCTOBER] for one in series]
    quiet = ("enable_progress_bar", "enable_model_summary", "logger", "enable_checkpointing")

    def fit(rate: float, epochs: int) -> RNNModel:
        model = RNNModel(
            input_chunk_length=KNOWN,
            training_length=KNOWN + 1,
            model="GRU",
            hidden_dim=HIDDEN,
            batch_size=BATCH,
            n_epochs=epochs,
            optimizer_kwargs={"lr": rate},
            random_state=seed,
            pl_trainer_kwargs={"accelerator": "cpu", **dict.fromkeys(quiet, False)},
        )
        model.fit(train, future_covariates=[clock] * len(train), stride=DAY, verbose=False)
        return model

    def forecast(model: RNNModel, origins: list[int]) -> Any:
        histories = [one[origin - KNOWN : origin] for one in series for origin in origins]
        covariates = [clock] * len(histories)
        found = model.predict(
            DAY, series=histories, future_covariates=covariates, verbose=False, show_warnings=False
        )
        return np.stack([part.values()[:, 0] for part in found])

    return fit, forecast


def following(loads: Any, origins: list[int]) -> Any:
    """The hours that follow the origins, (profiles x origins, 24)."""
    import numpy as np

    return np.stack([loads[name].to_numpy()[t : t + DAY] for name in loads for t in origins])


def judge(side: Callable[[Any, int], Side], loads: Any, seed: int, quick: bool) -> dict[str, Any]:
    """MAE of the forecasts of the test months, and seconds of the training that validation chooses."""
    from bptt_fast import metrics

    october = list(range(OCTOBER, NOVEMBER, DAY))
    test = list(range(NOVEMBER, len(loads) - DAY + 1, DAY))
    fit, forecast = side(loads, seed)
    tried = []
    for rate in RATES[1:] if quick else RATES:
        for epochs in LOOKS[:1] if quick else LOOKS:
            begin = time.perf_counter()
            model = fit(rate, epochs)
            took = time.perf_counter() - begin
            error = metrics.mae(following(loads, october), forecast(model, october))
            tried.append((error, took, rate, epochs, model))
    error, took, rate, epochs, model = min(tried, key=lambda entry: entry[0])
    return {
        "seed": seed,
        "validation": error,
        "mae": metrics.mae(following(loads, test), forecast(model, test)),
        "seconds": took,
        "rate": rate,
        "epochs": epochs,
    }


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seeds", type=int, default=3)


def main() -> int:
    args = common.start(__doc__, options)
    import numpy as np

    loads = profiles()
    common.print_environment()
    test = list(range(NOVEMBER, len(loads) - DAY + 1, DAY))
    week = np.abs(following(loads, test) - following(loads, [t - 7 * DAY for t in test])).mean()
    print(f"MAE of the same hours a week before: {week:.4f}")
    sides = {"bptt_fast": ours, "darts": darts}
    if common.missing("darts", "pytorch_lightning"):
        print("darts or pytorch_lightning is missing: that side is left out")
        del sides["darts"]
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in sides}
    widths = (10, 4, 10, 8, 8, 6, 6)
    common.print_row(("side", "seed", "validation", "MAE", "seconds", "rate", "epochs"), widths)
    for seed in range(1 if args.quick else args.seeds):
        for name, side in sides.items():
            one = judge(side, loads, seed, args.quick)
            found[name].append(one)
            common.print_row(
                (
                    name,
                    str(seed),
                    one["validation"],
                    one["mae"],
                    one["seconds"],
                    one["rate"],
                    str(one["epochs"]),
                ),
                widths,
            )
    medians = {
        name: {what: statistics.median(one[what] for one in runs) for what in ("mae", "seconds")}
        for name, runs in found.items()
    }
    for name, each in medians.items():
        print(f"{name:<10} median MAE {each['mae']:.4f}, median training {each['seconds']:.2f} s")
    common.finish(args, {"week before": float(week), "runs": found, "medians": medians})
    return 0


if __name__ == "__main__":
    sys.exit(main())
