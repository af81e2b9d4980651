"""
Learning while the data arrive
==============================

Heat demand follows the clock; in one night the clock of the heating is changed.  A network that was trained
before is wrong from then on; a learner, which trains with every hour, adapts within days.
"""

import tempfile
import time
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

import bptt_fast as bf
from bptt_fast import plots

random = np.random.default_rng(0)
hours, KNOWN, CHANGE = np.arange(24 * 300), 24 * 100, 24 * 180
clock = 2 * np.pi * hours / 24
shifted = np.where(hours < CHANGE, clock, clock - 2 * np.pi * 5 / 24)  # five hours later
weather = np.zeros(len(hours))
for t in range(1, len(hours)):
    weather[t] = 0.98 * weather[t - 1] + random.normal(scale=0.05)
demand = (
    3 + np.sin(shifted) + 0.6 * np.cos(2 * shifted) + weather + random.normal(scale=0.05, size=len(hours))
)
rows = np.column_stack([demand - 3, np.sin(clock), np.cos(clock)])  # what is known at each hour
targets = rows[:, :1]

# %%
# The first hundred days train the network as usual: twelve hours predict the demand of the next one.
net = bf.Network(input_size=3, hidden_size=16, output_size=1, seed=0)
net.fit(rows[:KNOWN], targets[:KNOWN], epochs=30, bptt=bf.SlidingBPTT(12), optimizer=bf.SGD(0.02), verbose=0)
predicted = net.predict(rows[:-1], readout="every")  # row t predicts hour t + 1
frozen = (predicted[KNOWN - 1 :] - targets[KNOWN:])[:, 0] ** 2

# %%
# From then on a learner receives one row per hour.  ``observe`` returns the squared error of the hour that
# has just come, as predicted before, and then makes an update.  Halfway the program ends: a file has all that
# the learner needs to continue.
learner = net.learn_online(bf.SlidingBPTT(12), bf.SGD(0.02))
file = Path(tempfile.mkdtemp(), "learner.safetensors")
errors, seconds = [], time.perf_counter()
for hour in range(KNOWN - 12, len(rows)):
    if hour == len(rows) // 2:
        learner.save(file)
        learner = bf.load(file)
    errors.append(learner.observe(rows[hour], targets[hour]))
seconds = time.perf_counter() - seconds
adapting = np.array(errors[12:])
print(f"{learner.seen} hours in {seconds:.2f} s, {1e6 * seconds / learner.seen:.1f} microseconds per hour")

# %%
# Root mean squared errors: of both networks, and of the demand of the hour before.
same = (targets[KNOWN:] - targets[KNOWN - 1 : -1])[:, 0] ** 2
days = {"before": (KNOWN, CHANGE), "first week": (CHANGE, CHANGE + 168), "later": (CHANGE + 168, len(rows))}
for name, (begin, end) in days.items():
    part = slice(begin - KNOWN, end - KNOWN)
    found = {"trained before": frozen, "learner": adapting, "hour before": same}
    print(
        f"{name:<12}"
        + ",  ".join(f"{who} {np.sqrt(squared[part].mean()):.3f}" for who, squared in found.items())
    )

figure, ax = plt.subplots(figsize=(6, 4), layout="constrained")
day = hours[KNOWN:].reshape(-1, 24)[:, 0] / 24
for squared, name, color in ((frozen, "trained before", "0.5"), (adapting, "learner", plots.VERMILLION)):
    ax.plot(day, np.sqrt(squared.reshape(-1, 24).mean(axis=1)), color=color, label=name)
ax.axvline(CHANGE / 24, color="0.7", linewidth=1, linestyle=":")
ax.set(xlabel="time (days)", ylabel="error one hour ahead (RMS of each day)", ylim=(0, None))
ax.legend(frameon=False, ncols=2, loc="lower left", bbox_to_anchor=(0, 1), borderaxespad=0)
plt.show()
