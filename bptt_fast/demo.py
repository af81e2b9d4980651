"""The demonstration: an Elman network learns the yearly sunspot numbers with the classical online algorithm.

The settings were chosen on the years up to 1920 only, by bench/sunspots.py.
"""

from __future__ import annotations

import importlib.util
import os
import statistics
import time
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from .network import Network
from .optimizers import SGD
from .persistence import load
from .unfolding import SlidingBPTT

Array = np.ndarray[Any, Any]

LAST_TRAINING_YEAR = 1920
TESTS = ((1921, 1955), (1956, 1979))
RECORD = (1700, 1979)  # the years whose variance divides the errors
SEEDS = range(5)

SCALE = 100.0  # sunspots per unit of the network's inputs and outputs
DELAYS = 2  # inputs: the numbers of this many years, the latest first
K = 5
HIDDEN = 8
EPOCHS = 1100
OPTIMIZER = SGD(0.01, weight_decay=1e-3)


def sunspots() -> tuple[Array, Array]:
    """The yearly mean sunspot numbers 1700-2008: years (309,) and numbers (309,)."""
    text = (resources.files("bptt_fast") / "datasets" / "sunspots.csv").read_text(encoding="utf-8")
    table = np.loadtxt([line for line in text.splitlines() if line[:1].isdigit()], delimiter=",")
    return table[:, 0].astype(int), table[:, 1]


def delayed(numbers: Array, delays: int) -> Array:
    """Rows (n - delays + 1, delays) of the last `delays` numbers, the latest first."""
    return np.lib.stride_tricks.sliding_window_view(numbers, delays)[:, ::-1]


def variance(years: Array, numbers: Array) -> float:
    """Variance of the record, by which the errors are divided."""
    return float(numbers[(years >= RECORD[0]) & (years <= RECORD[1])].var())


def relative_variance(years: Array, numbers: Array, predicted: Array, first: int, last: int) -> float:
    """Average relative variance: mean squared error in first..last over the variance of the record."""
    among = (years >= first) & (years <= last)
    return float(np.mean((numbers[among] - predicted[among]) ** 2) / variance(years, numbers))


def persistence(numbers: Array) -> Array:
    """Predictions (n,) by the number of the year before; NaN at the start."""
    return np.concatenate([[np.nan], numbers[:-1]])


def autoregression(years: Array, numbers: Array, order: int, last: int) -> Array:
    """Predictions (n,) of a linear model of `order` years and a constant, fitted up to the year `last`."""
    before = np.column_stack([delayed(numbers[:-1], order), np.ones(len(numbers) - order)])
    fitted = years[order:] <= last
    weights = np.linalg.lstsq(before[fitted], numbers[order:][fitted], rcond=None)[0]
    return np.concatenate([np.full(order, np.nan), before @ weights])


def train(
    years: Array,
    numbers: Array,
    seed: int,
    *,
    last: int = LAST_TRAINING_YEAR,
    delays: int = DELAYS,
    k: int = K,
    hidden: int = HIDDEN,
    epochs: int = EPOCHS,
    optimizer: SGD = OPTIMIZER,
    net: Network | None = None,
) -> tuple[Network, int]:
    """Train a new network, or `net`, on the years up to `last`; the network and its number of patterns."""
    net = net or Network(delays, hidden, 1, seed=seed)
    series = numbers[years <= last] / SCALE
    inputs, targets = delayed(series, delays), series[delays - 1 :, None]
    net.fit(inputs, targets, epochs=epochs, optimizer=optimizer, bptt=SlidingBPTT(k), verbose=0)
    return net, epochs * (len(inputs) - k)


def predict(net: Network, numbers: Array) -> Array:
    """Predictions (n,) of the network in one run over the series; NaN at the start."""
    delays = net.input_size
    outputs = net.predict(delayed(numbers[:-1] / SCALE, delays), readout="every")[:, 0]
    return np.concatenate([np.full(delays, np.nan), SCALE * outputs])


def run(folder: str | os.PathLike[str] = ".") -> None:
    """Train, compare, save, reload and plot; prints the results and writes into `folder`.

    Parameters
    ----------
    folder : path-like, default "."
        Folder of sunspots.safetensors and, with matplotlib, sunspots.png.

    Raises
    ------
    OSError
        If a file cannot be written.
    RuntimeError
        If the reloaded network does not predict the same bits.

    Examples
    --------
    >>> from bptt_fast import demo
    >>> demo.run("/tmp")  # doctest: +SKIP
    """
    model, picture = Path(folder, "sunspots.safetensors"), Path(folder, "sunspots.png")
    years, numbers = sunspots()
    print(f"Yearly sunspot numbers {years[0]}-{years[-1]}, trained on the years up to {LAST_TRAINING_YEAR}.")
    print(
        f"Elman network, {DELAYS} inputs, {HIDDEN} states; SlidingBPTT(k={K}), {EPOCHS} epochs\n{OPTIMIZER}\n"
    )

    def row(name: str, predicted: Array) -> list[float]:
        errors = [relative_variance(years, numbers, predicted, *span) for span in TESTS]
        print(f"  {name:<26}" + "".join(f"{error:>12.3f}" for error in errors))
        return errors

    print(
        "Average relative variance: mean squared error over the variance of "
        f"{RECORD[0]}-{RECORD[1]}, {variance(years, numbers):.1f}"
    )
    print(" " * 28 + "".join(f"{f'{first}-{last}':>12}" for first, last in TESTS))
    row("persistence", persistence(numbers))
    row("AR(12), least squares", autoregression(years, numbers, 12, LAST_TRAINING_YEAR))
    nets, errors, patterns = [], [], 0
    begin = time.perf_counter()
    for seed in SEEDS:
        net, seen = train(years, numbers, seed)
        nets.append(net)
        patterns += seen
    seconds = time.perf_counter() - begin
    for seed, net in zip(SEEDS, nets, strict=True):
        errors.append(row(f"network, seed {seed}", predict(net, numbers)))
    medians = [statistics.median(column) for column in zip(*errors, strict=True)]
    print(f"  {'network, median':<26}" + "".join(f"{median:>12.3f}" for median in medians))
    print(f"\n{patterns} patterns in {seconds:.2f} s: {patterns / seconds:,.0f} patterns per second")

    predicted = predict(nets[0], numbers)
    nets[0].save(model)
    if not np.array_equal(predict(load(model), numbers), predicted, equal_nan=True):
        raise RuntimeError(
            f"{model}: expected the predictions of the saved network to the bit, got different ones."
        )
    print(f"Saved the network of seed {SEEDS[0]} as {model}; reloaded, it predicts the same to the bit.")
    if importlib.util.find_spec("matplotlib") is None:
        print('No picture: matplotlib is not installed.  pip install ".[plots]" brings it.')
        return
    _draw(years, numbers, predicted, picture)
    print(f"Picture: {picture}")


def _draw(years: Array, numbers: Array, predicted: Array, path: Path) -> None:
    """Plot actual and predicted numbers over the whole record and over the test years."""
    from matplotlib.figure import Figure

    from . import plots

    figure = Figure(figsize=(11, 6.5), layout="constrained")
    spans: dict[str, tuple[float, float]] = {"training": (float(years[0]), LAST_TRAINING_YEAR + 0.5)}
    spans |= {f"{first}-{last}": (first - 0.5, last + 0.5) for first, last in TESTS}
    for ax, in_span in zip(
        figure.subplots(2), (years >= years[0], years > LAST_TRAINING_YEAR - 20), strict=True
    ):
        plots.prediction(
            years[in_span],
            numbers[in_span],
            predicted[in_span],
            ax=ax,
            spans={name: (max(a, float(years[in_span][0])), b) for name, (a, b) in spans.items()},
        )
        ax.set(xlabel="year", ylabel="sunspots, yearly mean")
    figure.suptitle("Predicted one year ahead by an Elman network (SlidingBPTT)")
    figure.savefig(path, dpi=120)
