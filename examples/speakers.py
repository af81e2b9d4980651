"""
Who is speaking?  Utterances of different length
================================================

Nine men say two Japanese vowels in a row; twelve numbers a step describe the sound, 7 to 29 steps an
utterance.  A bidirectional LSTM learns from 30 utterances of each man who of them it was.

The data are JapaneseVowels, of M. Kudo, J. Toyama and M. Shimbo, "Multidimensional curve classification using
passing-through regions", Pattern Recognition Letters 20 (1999), with the usual split.  The package aeon holds
them; its own requirements are not needed: ``pip install --no-deps aeon``.
"""

import sys
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

import bptt_fast as bf

try:
    import aeon
except ImportError:
    sys.exit("speakers.py: the data come with the package aeon; pip install --no-deps aeon")


def utterances(name):
    """A list of (T_i, 12), and the speaker of each, from 0.  A line is channel:channel:...:speaker."""
    path = Path(aeon.__file__).parent / "datasets" / "data" / "JapaneseVowels" / f"JapaneseVowels_{name}.ts"
    lines = path.read_text().partition("@data\n")[2].splitlines()
    rows = [line.split(":") for line in lines]
    x = [np.array([channel.split(",") for channel in row[:-1]], np.float32).T for row in rows]
    return x, np.array([int(row[-1]) - 1 for row in rows])


(x, y), (x_test, y_test) = utterances("TRAIN"), utterances("TEST")
mean, deviation = np.concatenate(x).mean(axis=0), np.concatenate(x).std(axis=0)
x, x_test = ([(a - mean) / deviation for a in part] for part in (x, x_test))
print(f"{len(x)} utterances to learn from, {len(x_test)} for the test")

# %%
# A list of arrays is all it takes for sequences of different length.  With so few of them the network must
# not learn them by heart: seven tenths of the state are hidden from the recurrent weights, others in each
# sequence.  The settings are those that did best in cross-validation over the 270 utterances alone.
net = bf.Network(12, 64, 9, cell="lstm", bidirectional=True, recurrent_dropout=0.7, seed=0)
history = net.fit(
    x,
    y,
    epochs=60,
    batch_size=16,
    optimizer=bf.AdamW(bf.Cosine(0.01, warmup=2), clip_norm=1.0),
    loss="cross_entropy",
    verbose=0,
)
named = net.predict(x_test).argmax(axis=1)
print(f"{np.mean(named == y_test):.1%} right after {sum(history['seconds']):.1f} s of training")

# %%
# How much has to be heard?  The same network with no more than the first steps of each utterance.
heard = np.arange(1, 30)
right = [np.mean(net.predict([a[:steps] for a in x_test]).argmax(axis=1) == y_test) for steps in heard]
for steps in (5, 10, 15):
    print(f"{right[steps - 1]:.1%} right after {steps} steps")

confusion = np.zeros((9, 9), int)
np.add.at(confusion, (y_test, named), 1)
figure, (left, other) = plt.subplots(1, 2, figsize=(9, 4), layout="constrained")
left.plot(heard, right, color="tab:blue")
left.axhline(1 / 9, color="0.7", linewidth=1)
left.text(29, 1 / 9 + 0.01, "chance", ha="right", color="0.4")
left.set(xlabel="steps heard", ylabel="share right", ylim=(0, 1.02), title="First steps only")
other.imshow(np.where(confusion, confusion, np.nan), cmap="Blues", vmin=0)
for i, j in np.argwhere(confusion):
    ink = "white" if confusion[i, j] > 45 else "black"
    other.text(j, i, confusion[i, j], ha="center", va="center", color=ink)
other.set(xlabel="speaker named", ylabel="speaker", title="Whole utterances")
other.set(xticks=range(9), xticklabels=range(1, 10), yticks=range(9), yticklabels=range(1, 10))
plt.show()
