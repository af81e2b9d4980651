"""The classical online algorithm on one series: learn the next value of two added sines, then forecast."""

import numpy as np

import bptt_fast as bf

t = np.arange(2000)
series = np.sin(2 * np.pi * t / 25) + 0.5 * np.sin(2 * np.pi * t / 40)

# One series (T, I).  The target of a window is the row after it, so inputs and targets are the same column.
x = series[:, None]
net = bf.Network(input_size=1, hidden_size=16, output_size=1, seed=0)
history = net.fit(
    x[:1500], x[:1500], epochs=200, optimizer=bf.SGD(0.005), bptt=bf.SlidingBPTT(k=10), verbose=0
)
print(f"loss of the first epoch {history['loss'][0]:.4f}, of the last {history['loss'][-1]:.6f}")

# Predictions of the values that were kept back: the network runs over the series and g is read at every step.
predicted = net.predict(x[:-1], readout="every")[:, 0]
error = np.mean((predicted[1500:] - series[1501:]) ** 2) / series.var()
print(f"mean squared error of one step ahead, over the variance: {error:.6f}")

# Feeding the predictions back: 50 steps into the future.
known = list(series)
for _ in range(50):
    known.append(float(net.predict(np.array(known)[:, None])[0]))
print("the next five of 50:", np.round(known[2000:2005], 3))
