"""
The classical online algorithm on one series
============================================

A window of twenty steps slides over the sum of two sines, with an update of the weights after every
step.  Then the network forecasts, with its outputs fed back as inputs.
"""

import matplotlib.pyplot as plt
import numpy as np

import bptt_fast as bf
from bptt_fast import plots

t = np.arange(2000)
series = np.sin(2 * np.pi * t / 25) + 0.5 * np.sin(2 * np.pi * t / 40)

# %%
# One series (T, I).  The target of a window is the row after it, so inputs and targets are the same column.
# The first 1500 steps are used for training; three networks differ in their seed.
x, known = series[:, None], 1500
nets = [bf.Network(input_size=1, hidden_size=16, output_size=1, seed=seed) for seed in range(3)]
for net in nets:
    history = net.fit(
        x[:known],
        x[:known],
        epochs=400,
        optimizer=bf.SGD(bf.Cosine(0.02)),
        bptt=bf.SlidingBPTT(k=20),
        verbose=0,
    )
    print(f"loss of the first epoch {history['loss'][0]:.4f}, of the last {history['loss'][-1]:.6f}")

# %%
# A small error one step ahead does not imply a good model of the series: fed back, the outputs of one network
# keep to the rhythm, those of another drift away.  So let each forecast the last 200 of the known steps from
# those before them, and take the best.


def errors(net, begin, ahead=200):
    """Squared errors of a forecast from step `begin` on, over the variance of the series."""
    return (net.forecast(x[:begin], ahead)[:, 0] - series[begin : begin + ahead]) ** 2 / series.var()


seed = int(np.argmin([errors(net, known - 200).mean() for net in nets]))
net = nets[seed]
for other in nets:
    print(f"forecasts of known steps: {errors(other, known - 200).mean():.3f}, of the next 200 steps: "
          f"{errors(other, known).mean():.3f}{', taken' if other is net else ''}")  # fmt: skip

# %%
# One step ahead, the network runs over the series, with an output at every step.
predicted = net.predict(x[:-1], readout="every")[:, 0]
error = np.mean((predicted[known - 1 :] - series[known:]) ** 2) / series.var()
print(f"mean squared error one step ahead, over the variance: {error:.6f}")

free = net.forecast(x[:known], 200)[:, 0]
figure, ax = plt.subplots(figsize=(6, 4), layout="constrained")
ax.plot(t[known - 50 : known + 200], series[known - 50 : known + 200], color="0.3", label="series")
ax.plot(t[known : known + 200], free, color=plots.VERMILLION, label=f"forecast from step {known} on")
ax.axvline(known, color="0.7", linewidth=1)
ax.set(xlabel="time (steps)", ylabel="value", title="Two sines, forecast by an Elman network")
ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.15), ncols=2, frameon=False)
plt.show()
