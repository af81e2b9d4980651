"""
Speaker recognition from utterances of different lengths
=========================================================

Nine men say two Japanese vowels; each utterance has 7 to 29 steps of twelve numbers that describe the sound.
A bidirectional LSTM is trained on 30 utterances per speaker to recognise the speaker.

The data are JapaneseVowels, of M. Kudo, J. Toyama and M. Shimbo, "Multidimensional curve classification using
passing-through regions", Pattern Recognition Letters 20 (1999), with the usual split.  The package aeon holds
them; its dependencies are not needed: ``pip install --no-deps aeon``.
"""

import sys
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

import bptt_fast as bf
from bptt_fast import plots

try:
    import aeon
except ImportError:
    sys.exit("speakers.py: the data come with the package aeon; pip install --no-deps aeon")


def utterances(name):
    """A list of (T_i, 12), and their speakers, from 0.  A line is channel:channel:...:speaker."""
    path = Path(aeon.__file__).parent / "datasets" / "data" / "JapaneseVowels" / f"JapaneseVowels_{name}.ts"
    lines = path.read_text().partition("@data\n")[2].splitlines()
    rows = [line.split(":") for line in lines]
    x = [np.array([channel.split(",") for channel in row[:-1]], np.float32).T for row in rows]
    return x, np.array([int(row[-1]) - 1 for row in rows])


(x, y), (x_test, y_test) = utterances("TRAIN"), utterances("TEST")
mean, deviation = np.concatenate(x).mean(axis=0), np.concatenate(x).std(axis=0)
x, x_test = ([(a - mean) / deviation for a in part] for part in (x, x_test))
print(f"{len(x)} training utterances, {len(x_test)} test utterances")

# %%
# Sequences of different lengths are passed as a list of arrays.  Against overfitting on so few sequences,
# recurrent dropout sets seven tenths of the state to zero in the recurrent product, with a different mask
# for each sequence.  The settings were chosen by cross-validation on the 270 training utterances.
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
predicted = net.predict(x_test).argmax(axis=1)
print(f"{np.mean(predicted == y_test):.1%} correct after {sum(history['seconds']):.1f} s of training")

# %%
# How many steps are needed?  The same network with only the first steps of each utterance.
heard = np.arange(1, 30)
right = [np.mean(net.predict([a[:steps] for a in x_test]).argmax(axis=1) == y_test) for steps in heard]
for steps in (5, 10, 15):
    print(f"{right[steps - 1]:.1%} correct after {steps} steps")

confusion = np.zeros((9, 9), int)
np.add.at(confusion, (y_test, predicted), 1)
figure, (left, other) = plt.subplots(1, 2, figsize=(9, 4), layout="constrained")
left.plot(heard, right, color=plots.BLUE)
left.axhline(1 / 9, color="0.7", linewidth=1)
left.text(29, 1 / 9 + 0.01, "chance", ha="right", color="0.4")
left.set(xlabel="steps", ylabel="accuracy", ylim=(0, 1.02), title="First steps only")
other.imshow(np.where(confusion, confusion, np.nan), cmap="Blues", vmin=0)
for i, j in np.argwhere(confusion):
    ink = "white" if confusion[i, j] > 45 else "black"
    other.text(j, i, confusion[i, j], ha="center", va="center", color=ink)
other.set(xlabel="predicted speaker", ylabel="speaker", title="Whole utterances")
other.set(xticks=range(9), xticklabels=range(1, 10), yticks=range(9), yticklabels=range(1, 10))
plt.show()
