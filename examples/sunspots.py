"""
Sunspots, one to twelve years ahead
===================================

The yearly sunspot numbers are a classical benchmark of forecasting.  A small Elman network is trained on
the years up to 1920 and forecasts up to twelve years from every later year, with its outputs fed back as
inputs.  It is compared with a linear model of twelve years, AR(12).
"""

import matplotlib.pyplot as plt
import numpy as np

import bptt_fast as bf
from bptt_fast import plots
from bptt_fast.demo import sunspots

years, numbers = sunspots()  # (309,) each, 1700 to 2008
known = years <= 1920
series = numbers[:, None] / 100  # (T, 1), of order 1
ORDER, AHEAD = 12, 12  # order of the linear model, years ahead

# %%
# The network: one input, one output, eight units; the window of the online algorithm is five years.  These
# settings were chosen on the years before 1920 only, where they were among the best five (see the page on
# benchmarks).  Five seeds.
nets = [bf.Network(input_size=1, hidden_size=8, output_size=1, seed=seed) for seed in range(5)]
for net in nets:
    net.fit(
        series[known],
        series[known],
        epochs=900,
        optimizer=bf.SGD(0.005, weight_decay=1e-4),
        bptt=bf.SlidingBPTT(k=5),
        verbose=0,
    )

# %%
# The linear model, fitted by least squares to the same years.
rows = np.lib.stride_tricks.sliding_window_view(numbers, ORDER)[:-1]  # (T - 12, 12), the latest last
design = np.column_stack([rows, np.ones(len(rows))])
fitted = known[ORDER:]
weights = np.linalg.lstsq(design[fitted], numbers[ORDER:][fitted], rcond=None)[0]


def autoregression(past):
    """AHEAD years after `past`, each predicted from the years before it."""
    years_so_far = list(past)
    for _ in range(AHEAD):
        years_so_far.append(np.dot(years_so_far[-ORDER:], weights[:-1]) + weights[-1])
    return years_so_far[len(past) :]


# %%
# Forecasts from every year; errors are mean squares divided by the variance of 1700 to 1979 (the "average
# relative variance" of the literature).
variance = numbers[years <= 1979].var()


def errors(first, last):
    """Errors of forecasts within first..last by years ahead: of AR(12), and of each network."""
    begin, end = np.searchsorted(years, (first, last))
    origins = range(begin, end - AHEAD + 2)
    actual = np.array([numbers[t : t + AHEAD] for t in origins])
    forecasts = [[autoregression(numbers[:t]) for t in origins]]
    forecasts += [[100 * net.forecast(series[:t], AHEAD)[:, 0] for t in origins] for net in nets]
    linear, *networks = [np.mean((np.array(f) - actual) ** 2, axis=0) / variance for f in forecasts]
    return linear, np.array(networks)


spans = {span: errors(*span) for span in ((1921, 1955), (1956, 2008))}
print("years ahead             " + "".join(f"{h:7d}" for h in range(1, AHEAD + 1)))
for (first, last), (linear, networks) in spans.items():
    print(f"{first}-{last}  AR(12)        " + "".join(f"{e:7.2f}" for e in linear))
    print(f"{first}-{last}  network       " + "".join(f"{e:7.2f}" for e in np.median(networks, axis=0)))

# %%
# Up to 1955 the network is as good as the linear model, with 97 parameters instead of 13.  The cycles
# after 1955 are higher than all before 1920: the network, whose units saturate, does not reach them; the
# linear model does, and is clearly better there.  The figure shows 1921 to 1955.
figure, (left, right) = plt.subplots(1, 2, figsize=(9, 4), layout="constrained")
ahead = np.arange(1, AHEAD + 1)
linear, networks = spans[1921, 1955]
left.plot(ahead, linear, color="0.3", marker="o", markersize=4, label="AR(12)")
left.plot(
    ahead, np.median(networks, axis=0), color=plots.VERMILLION, marker="o", markersize=4, label="network"
)
left.fill_between(
    ahead, networks.min(axis=0), networks.max(axis=0), color=plots.VERMILLION, alpha=0.2, label="five seeds"
)
left.set(xlabel="years ahead", ylabel="squared error / variance", xticks=ahead, ylim=(0, None))
left.legend(frameon=False, ncols=3, loc="lower left", bbox_to_anchor=(0, 1), borderaxespad=0)
predicted = 100 * np.median([net.predict(series[:-1], readout="every")[:, 0] for net in nets], axis=0)
shown = (years[1:] > 1920) & (years[1:] <= 1955)
plots.prediction(years[1:][shown], numbers[1:][shown], predicted[shown], ax=right)
right.set(xlabel="year", ylabel="sunspots, yearly mean; one year ahead")
plt.show()
