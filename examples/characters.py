"""
A character-level language model
================================

A GRU is trained on Python's help texts, half a million characters, to predict the next character.  It is
evaluated in bits per character on a held-out part, and then writes a page of text.

The texts are those of ``help("topics")``; they come with Python.
"""

import textwrap
from pydoc_data.topics import topics

import matplotlib.pyplot as plt
import numpy as np

import bptt_fast as bf
from bptt_fast import plots

text = "\n".join(topics[name] for name in sorted(topics))
alphabet, codes = np.unique(list(text), return_inverse=True)
cut = len(text) * 9 // 10  # the last tenth is the test
inputs = codes[:, None].astype(np.uint8)
print(f"{len(text):,} characters, {len(alphabet)} different ones")

# %%
# Eight streams read eight parts of the text in parallel.  `TruncatedBPTT` makes an update every 50 steps,
# and the states are carried on: errors are propagated back over at most 50 characters, while the state
# can remember more.  The inputs are the numbers of the characters: `categories` looks each one up among the
# columns of the input weights, so that no one-hot vectors are formed.
STREAMS, STEPS = 8, 50
length = (cut - 1) // STREAMS
x = inputs[: STREAMS * length].reshape(STREAMS, length, 1)
y = codes[1 : 1 + STREAMS * length].reshape(STREAMS, length)

net = bf.Network(1, 128, len(alphabet), categories={0: len(alphabet)}, cell="gru", readout="every", seed=0)
history = net.fit(
    x,
    y,
    epochs=4,
    batch_size=STREAMS,
    optimizer=bf.Adam(bf.Cosine(4e-3), clip_norm=1.0),
    loss="cross_entropy",
    bptt=bf.TruncatedBPTT(STEPS),
    validation_data=(inputs[cut:-1], codes[cut + 1 :]),
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
# Writing a page: each character is sampled from the predicted probabilities of the `top` most probable ones
# and becomes the next input.  A stream makes a step in microseconds.  Logits are divided by a temperature;
# below 1 it favours probable characters.
random, stream = np.random.default_rng(0), net.stream()


def sample(logits, temperature=0.6, top=20):
    """The number of a character."""
    best = np.argpartition(logits, -top)[-top:]
    chances = np.exp((logits[best] - logits.max()) / temperature)
    return random.choice(best, p=chances / chances.sum())


written = "The class"
for code in alphabet.searchsorted(list(written)):
    logits = stream.step([code])
while len(written) < 2000:
    code = sample(logits)
    written += alphabet[code]
    logits = stream.step([code])
for line in written.splitlines():
    print(textwrap.fill(line, 100))

# %%
# Which characters are hard to predict?  Mostly those at the beginning of a word.
begin, shown = text.index("\n\n", cut + 2000) + 2, 90
logits = net.predict(inputs[cut : begin + shown - 1])[-shown:]
chances = np.exp(logits - logits.max(axis=1, keepdims=True))
chances /= chances.sum(axis=1, keepdims=True)
surprise = -np.log2(chances[np.arange(shown), codes[begin : begin + shown]])

figure, (upper, lower) = plt.subplots(2, 1, figsize=(9, 5.5), layout="constrained")
epochs = np.array(history["epoch"])
upper.plot(epochs, bits, "o-", color=plots.BLUE, label="GRU")
upper.axhline(counted, color="0.6", linewidth=1.5, linestyle="--", label="counts of three characters")
upper.set(xlabel="epochs", ylabel="bits per character", xticks=epochs, ylim=(0, 3))
upper.legend(frameon=False, loc="lower left", bbox_to_anchor=(0, 1), ncols=2, borderaxespad=0)
lower.bar(range(shown), surprise, color=plots.VERMILLION, width=0.8)
lower.set(
    xlabel="character",
    ylabel="surprise (bits)",
    xlim=(-1, shown),
    title="Bits per character of a held-out passage",
)
lower.set_xticks(range(shown), text[begin : begin + shown].replace("\n", "/"), va="baseline")
lower.tick_params(axis="x", length=0, pad=10)
plt.show()
