"""
Sequences of different length, a class each
===========================================

Which of two symbols came more often?  A GRU reads lists of sequences as they are, without padding.
"""

import matplotlib.pyplot as plt
import numpy as np

import bptt_fast as bf
from bptt_fast import plots

random = np.random.default_rng(0)
sequences = [random.integers(0, 2, (random.integers(10, 40), 1)).astype(float) for _ in range(1000)]
classes = np.array([int(x.mean() > 0.5) for x in sequences])

# %%
# The last 200 are kept back.  Training ends when their loss has not become better for five epochs, with the
# weights of the best one.
net = bf.Network(input_size=1, hidden_size=16, output_size=2, cell="gru", seed=0)
history = net.fit(
    sequences[:800],
    classes[:800],
    epochs=30,
    batch_size=32,
    optimizer=bf.Adam(0.01),
    loss="cross_entropy",
    validation_data=(sequences[800:], classes[800:]),
    patience=5,
    verbose=0,
)
right = net.predict(sequences[800:]).argmax(axis=1) == classes[800:]
print(f"{len(history['epoch'])} epochs, loss {min(history['val_loss']):.4f}, {right.mean():.0%} right")

# %%
# Where it errs, the two symbols come almost equally often.
lead = np.array([abs(int(2 * x.sum() - len(x))) for x in sequences[800:]])
for least, most in ((0, 2), (3, 5), (6, 40)):
    among = (lead >= least) & (lead <= most)
    print(f"one symbol leads by {least} to {most}: {right[among].mean():.0%} of {among.sum()} right")

figure, ax = plt.subplots(figsize=(6, 4), layout="constrained")
plots.history(history, ax=ax)
ax.set(title="Which symbol came more often?  GRU, 16 units", ylabel="cross-entropy (nats)")
plt.show()
