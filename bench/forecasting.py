"""Accuracy and training time of global forecasters: ours and darts' RNNModel.

Data: ItalyPowerDemand in the wheel of sktime, 1096 days of hourly electrical demand, standardised per day.
Each day is a series of 24 steps; the last 12 are forecast from the first 12, with the hour as a covariate.
400 days train, 100 choose the learning rate and the number of epochs, the others test.  Both sides
are GRUs of the same size, trained to predict the next step and fed their own forecasts.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import statistics
import sys
import time
from pathlib import Path

from . import common

HOURS, KNOWN, HIDDEN, BATCH = 24, 12, 32, 32
TRAIN, VALIDATION = 400, 100
RATES = (0.005, 0.01)
LOOKS = (40, 80, 160)  # epochs after which the validation days are forecast


def days():
    """The demand of all days, (1096, 24), shuffled with a fixed seed."""
    import numpy as np

    spec = importlib.util.find_spec("sktime")
    if spec is None:
        sys.exit("bench.forecasting: needs the data in sktime: pip install --no-deps sktime")
    folder = Path(spec.submodule_search_locations[0]) / "datasets" / "data" / "ItalyPowerDemand"
    rows = []
    for name in ("TRAIN", "TEST"):
        text = (folder / f"ItalyPowerDemand_{name}.ts").read_text()
        rows += [line.partition(":")[0].split(",") for line in text.partition("@data")[2].split("\n") if line]
    demand = np.array(rows, dtype=float)
    return demand[np.random.default_rng(0).permutation(len(demand))]


def ours(demand, seed):
    """The function of (rate, epochs) that trains, and that of (model, rows) that forecasts, (n, 12)."""
    import numpy as np
    import pandas as pd

    import bptt_fast as bf

    def tables(rows, steps):
        index = pd.date_range("2000-01-01", periods=steps, freq="h")
        return [pd.DataFrame({"demand": row[:steps]}, index=index) for row in rows]

    train = tables(demand[:TRAIN], HOURS)

    def fit(rate, epochs, model=None):
        model = bf.Forecaster(
            "demand",
            calendar=["hour"],
            horizon=HOURS - KNOWN,
            window=HOURS - 1,
            scaling=None,
            hidden_size=HIDDEN,
            seed=seed,
        )
        model.fit(
            train,
            epochs=epochs,
            validation=0,
            patience=None,
            batch_size=BATCH,
            optimizer=bf.Adam(rate),
            verbose=0,
        )
        return model

    def forecast(model, rows):
        return np.stack([part["demand"].to_numpy() for part in model.predict(tables(rows, KNOWN))])

    return fit, forecast


def darts(demand, seed):
    """The same of darts."""
    import logging
    import warnings

    import numpy as np
    import pandas as pd
    from darts import TimeSeries
    from darts.models import RNNModel

    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore")
    index = pd.date_range("2000-01-01", periods=HOURS + 1, freq="h")
    angle = 2 * np.pi * index.hour.to_numpy() / 24
    clock = TimeSeries.from_times_and_values(
        index, np.column_stack([np.sin(angle), np.cos(angle)]).astype("f4")
    )

    def series(rows, steps):
        return [TimeSeries.from_times_and_values(index[:steps], row[:steps].astype("f4")) for row in rows]

    train = series(demand[:TRAIN], HOURS)

    def fit(rate, epochs, model=None):
        model = RNNModel(
            input_chunk_length=KNOWN,
            training_length=HOURS - 1,
            model="GRU",
            hidden_dim=HIDDEN,
            batch_size=BATCH,
            n_epochs=epochs,
            optimizer_kwargs={"lr": rate},
            random_state=seed,
            pl_trainer_kwargs={
                "accelerator": "cpu",
                "enable_progress_bar": False,
                "enable_model_summary": False,
                "logger": False,
                "enable_checkpointing": False,
            },
        )
        model.fit(train, future_covariates=[clock] * len(train), verbose=False)
        return model

    def forecast(model, rows):
        found = model.predict(
            HOURS - KNOWN,
            series=series(rows, KNOWN),
            future_covariates=[clock] * len(rows),
            verbose=False,
            show_warnings=False,
        )
        return np.stack([part.values()[:, 0] for part in found])

    return fit, forecast


def judge(side, demand, seeds, rates, looks):
    """Median MAE on the test days and median seconds of the training that validation chooses."""
    from bptt_fast import metrics

    errors, seconds, chosen = [], [], []
    validation, test = demand[TRAIN : TRAIN + VALIDATION], demand[TRAIN + VALIDATION :]
    for seed in range(seeds):
        fit, forecast = side(demand, seed)
        tried = []
        for rate in rates:
            for epochs in looks:
                begin = time.perf_counter()
                model = fit(rate, epochs)
                took = time.perf_counter() - begin
                error = metrics.mae(validation[:, KNOWN:], forecast(model, validation))
                tried.append((error, took, rate, epochs, model))
        _, took, rate, epochs, model = min(tried, key=lambda entry: entry[0])
        errors.append(metrics.mae(test[:, KNOWN:], forecast(model, test)))
        seconds.append(took)
        chosen.append((rate, epochs))
    return {"mae": statistics.median(errors), "seconds": statistics.median(seconds), "chosen": chosen}


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--side", choices=["both", "ours", "darts"], default="both")


def main() -> int:
    args = common.start(__doc__, options)
    import numpy as np

    demand = days()
    naive = np.abs(demand[TRAIN + VALIDATION :, KNOWN:] - demand[:TRAIN, KNOWN:].mean(axis=0)).mean()
    print(f"MAE of the mean day: {naive:.4f}")
    sides = {"ours": ours, "darts": darts}
    if common.missing("darts"):
        print("darts is missing: its side is left out")
        del sides["darts"]
    if args.side != "both":
        sides = {args.side: sides[args.side]}
    rates, looks = (RATES[1:2], LOOKS[:2]) if args.quick else (RATES, LOOKS)
    for name, side in sides.items():
        result = judge(side, demand, 1 if args.quick else args.seeds, rates, looks)
        print(json.dumps({"side": name, **result}), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
