"""Sequences of different length, a class each: which of two symbols came more often?  A GRU and FullBPTT."""

import numpy as np

import bptt_fast as bf

random = np.random.default_rng(0)
sequences = [random.integers(0, 2, (random.integers(10, 40), 1)).astype(float) for _ in range(1000)]
classes = np.array([int(x.mean() > 0.5) for x in sequences])

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
print(
    f"{len(history['epoch'])} epochs, loss {min(history['val_loss']):.4f}, {right.mean():.0%} right"
)
