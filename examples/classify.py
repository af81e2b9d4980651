"""
Classifying sequences of different lengths
==========================================

Which of two symbols is more frequent?  A GRU is trained on a list of sequences, without padding.
"""

import matplotlib.pyplot as plt
import numpy as np

import bptt_fast as bf
from bptt_fast import plots

random = np.random.default_rng(0)
sequences = [random.integers(0, 2, (random.integers(10, 40), 1)).astype(float) for _ in range(1000)]
classes = np.array([int(x.mean() > 0.5) for x in sequences])

# %%
# The last 200 sequences are held out.  Training stops when their loss has not improved for five epochs,
# and the weights of the best epoch are restored.
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
correct = net.predict(sequences[800:]).argmax(axis=1) == classes[800:]
print(f"{len(history['epoch'])} epochs, loss {min(history['val_loss']):.4f}, {correct.mean():.0%} correct")

# %%
# It errs where both symbols are almost equally frequent.
lead = np.array([abs(int(2 * x.sum() - len(x))) for x in sequences[800:]])
for low, high in ((0, 2), (3, 5), (6, 40)):
    among = (lead >= low) & (lead <= high)
    print(f"one symbol leads by {low} to {high}: {correct[among].mean():.0%} of {among.sum()} correct")

figure, ax = plt.subplots(figsize=(6, 4), layout="constrained")
plots.history(history, ax=ax)
figure.suptitle("Which symbol is more frequent?  GRU, 16 units")
ax.set_ylabel("cross-entropy (nats)")
plt.show()
