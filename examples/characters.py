"""
A character-level language model
================================

A GRU is trained on Python's help texts, half a million characters, to predict the next character.  It is
evaluated in bits per character on a held-out part, and then generates text.

The texts are those of ``help("topics")``; they come with Python.
"""

from pydoc_data.topics import topics

import matplotlib.pyplot as plt
import numpy as np

import bptt_fast as bf

text = "\n".join(topics[name] for name in sorted(topics))
alphabet, codes = np.unique(list(text), return_inverse=True)
cut = len(text) * 9 // 10  # the last tenth is the test
one_hot = np.eye(len(alphabet), dtype=np.float32)
print(f"{len(text):,} characters, {len(alphabet)} different ones")

# %%
# Eight streams read eight parts of the text in parallel.  `TruncatedBPTT` makes an update every 50 steps,
# and the states are carried on: errors are propagated back over at most 50 characters, while the state
# can remember more.
STREAMS, STEPS = 8, 50
length = (cut - 1) // STREAMS
x, y = (codes[i : i + STREAMS * length].reshape(STREAMS, length) for i in (0, 1))

net = bf.Network(len(alphabet), 128, len(alphabet), cell="gru", readout="every", seed=0)
history = net.fit(
    one_hot[x],
    y,
    epochs=4,
    batch_size=STREAMS,
    optimizer=bf.Adam(bf.Cosine(4e-3), clip_norm=1.0),
    loss="cross_entropy",
    bptt=bf.TruncatedBPTT(STEPS),
    validation_data=(one_hot[codes[cut:-1]], codes[cut + 1 :]),
    verbose=0,
)
bits = np.array(history["val_loss"]) / np.log(2)
print(f"{x.size / min(history['seconds']):,.0f} characters per second; bits per character {bits.round(2)}")

# %%
# For comparison: the frequency of each character after the two before it, counted in the same part of the
# text.
counts = np.full((len(alphabet),) * 3, 0.01)
np.add.at(counts, (codes[: cut - 2], codes[1 : cut - 1], codes[2:cut]), 1)
counts /= counts.sum(axis=2, keepdims=True)
counted = -np.log2(counts[codes[cut - 2 : -2], codes[cut - 1 : -1], codes[cut:]]).mean()
print(f"from the two characters before: {counted:.2f} bits")

# %%
# Generating text: each character is sampled from the predicted probabilities and becomes the next input.
# A stream makes a step in microseconds.  Logits are divided by a temperature; below 1 it favours probable
# characters.
random, stream = np.random.default_rng(0), net.stream()
temperature, written = 0.6, "The class"
for character in written:
    logits = stream.step(one_hot[alphabet.searchsorted(character)])
while len(written) < 500:
    chances = np.exp((logits - logits.max()) / temperature)
    code = random.choice(len(alphabet), p=chances / chances.sum())
    written += alphabet[code]
    logits = stream.step(one_hot[code])
print(written)

# %%
# Which characters are hard to predict?  Mostly those at the beginning of a word.
begin, shown = text.index("\n\n", cut + 2000) + 2, 90
logits = net.predict(one_hot[codes[cut : begin + shown - 1]])[-shown:]
chances = np.exp(logits - logits.max(axis=1, keepdims=True))
chances /= chances.sum(axis=1, keepdims=True)
surprise = -np.log2(chances[np.arange(shown), codes[begin : begin + shown]])

figure, (upper, lower) = plt.subplots(2, 1, figsize=(9, 5.5), layout="constrained")
epochs = np.array(history["epoch"])
upper.plot(epochs, bits, "o-", color="tab:blue", label="GRU")
upper.axhline(counted, color="0.6", linewidth=1, label="counts of three characters")
upper.set(xlabel="epochs", ylabel="bits per character", xticks=epochs, ylim=(0, 3))
upper.legend(frameon=False, loc="lower right")
lower.bar(range(shown), surprise, color="tab:red", width=0.8)
lower.set(ylabel="surprise (bits)", xlim=(-1, shown), title="Bits per character of a held-out passage")
lower.set_xticks(range(shown), text[begin : begin + shown].replace("\n", "/"), va="baseline")
lower.tick_params(axis="x", length=0, pad=10)
plt.show()
