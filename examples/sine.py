"""
The classical online algorithm on one series
============================================

A window of ten steps slides over the sum of two sines, with an update of the weights after every
step.  Then the network forecasts, with its outputs fed back as inputs.
"""

import matplotlib.pyplot as plt
import numpy as np

import bptt_fast as bf

t = np.arange(2000)
series = np.sin(2 * np.pi * t / 25) + 0.5 * np.sin(2 * np.pi * t / 40)

# %%
# One series (T, I).  The target of a window is the row after it, so inputs and targets are the same column.
# The first 1500 steps are used for training.
x = series[:, None]
net = bf.Network(input_size=1, hidden_size=16, output_size=1, seed=0)
history = net.fit(
    x[:1500], x[:1500], epochs=200, optimizer=bf.SGD(0.005), bptt=bf.SlidingBPTT(k=10), verbose=0
)
print(f"loss of the first epoch {history['loss'][0]:.4f}, of the last {history['loss'][-1]:.6f}")

# %%
# One-step predictions for the held-out steps: the network runs over the series, with an output at every step.
predicted = net.predict(x[:-1], readout="every")[:, 0]
error = np.mean((predicted[1499:] - series[1500:]) ** 2) / series.var()
print(f"mean squared error one step ahead, over the variance: {error:.6f}")

# %%
# From step 1500 on its outputs are fed back, and errors accumulate.  The rhythm is right, but
# levels are soon off by as much as the series varies: a small one-step error does not imply a
# good model of the series.  The example on the Mackey-Glass series does better, with exact gradients over
# longer sequences.
free = net.forecast(x[:1500], 200)[:, 0]
relative = (free - series[1500:1700]) ** 2 / series.var()
print(f"the same 1 to 5 steps ahead {relative[:5].mean():.3f}, 1 to 25 ahead {relative[:25].mean():.2f}")

figure, ax = plt.subplots(figsize=(6, 4), layout="constrained")
ax.plot(t[1450:1700], series[1450:1700], color="0.3", label="series")
ax.plot(t[1500:1700], free, color="tab:red", label="forecast from step 1500 on")
ax.axvline(1500, color="0.7", linewidth=1)
ax.set(xlabel="time (steps)", ylabel="value", title="Two sines, forecast by an Elman network")
ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.15), ncols=2, frameon=False)
plt.show()
