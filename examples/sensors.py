"""
Activity recognition from an accelerometer
==========================================

Synthetic windows of 2.56 s at 50 Hz, as from a phone in a pocket: four activities; gait, strength and the
orientation of the phone differ between wearers.  A GRU classifies the raw windows.
"""

import matplotlib.pyplot as plt
import numpy as np

import bptt_fast as bf

RATE, STEPS = 50, 128  # samples per second, samples per window
ACTIVITIES = ("standing", "walking", "climbing", "running")
FREQUENCY = (0.0, 1.8, 1.5, 2.7)  # footsteps per second
STRENGTH = (0.0, 2.5, 2.5, 8.0)  # m/s^2


def window(random, activity):
    """(T, 3) accelerations in m/s^2 of one wearer, gravity included."""
    t = np.arange(STEPS) / RATE
    phase = 2 * np.pi * (FREQUENCY[activity] * random.uniform(0.85, 1.15) * t + random.random())
    strength = STRENGTH[activity] * random.uniform(0.6, 1.4)
    up = 9.81 + strength * (np.sin(phase) + 0.3 * np.sin(2 * phase))
    ahead = 0.5 * strength * np.sin(phase + 1.0)
    aside = 0.4 * strength * np.sin(phase / 2)  # left and right alternate
    if ACTIVITIES[activity] == "climbing":  # each footstep begins with a push
        up += strength * np.maximum(np.sin(phase), 0) ** 4
    axes, _ = np.linalg.qr(random.normal(size=(3, 3)))  # orientation of the phone
    return np.column_stack([aside, ahead, up]) @ axes + random.normal(scale=1.0, size=(STEPS, 3))


def windows(random, n):
    activities = random.integers(0, len(ACTIVITIES), n)
    return np.array([window(random, activity) for activity in activities]), activities


random = np.random.default_rng(0)
(x, y), (x_test, y_test) = windows(random, 1500), windows(random, 500)

# %%
# A baseline: the nearest of four class means of simple features, which are the sorted standard deviations
# of the axes and the standard deviation of the length of the vector.


def features(x):
    deviations = np.sort(x.std(axis=1), axis=1)
    return np.log(np.column_stack([deviations, np.linalg.norm(x, axis=2).std(axis=1)]))


means = np.array([features(x[y == activity]).mean(axis=0) for activity in range(4)])
nearest = np.linalg.norm(features(x_test)[:, None] - means, axis=2).argmin(axis=1)
print(f"nearest mean of four features: {np.mean(nearest == y_test):.1%} correct")

# %%
# The network reads raw numbers (divided by 10 m/s^2).  A tenth of the training windows is used for early
# stopping.
net = bf.Network(input_size=3, hidden_size=32, output_size=4, cell="gru", seed=0)
history = net.fit(
    x / 10,
    y,
    epochs=60,
    optimizer=bf.Adam(5e-3, clip_norm=1.0),
    loss="cross_entropy",
    validation_split=0.1,
    patience=10,
    verbose=0,
)
predicted = net.predict(x_test / 10).argmax(axis=1)
print(f"GRU, {net.num_parameters} parameters: {np.mean(predicted == y_test):.1%} correct")
print(f"{len(history['epoch'])} epochs in {sum(history['seconds']):.1f} s")

# %%
# Standing and running are easy.  Walking and climbing overlap in frequency and strength and differ only in
# the shape of a footstep, so most errors are there.  Synthetic data are easier than real ones: the figures
# show how to use the package, not how well activities can be recognised.
table = np.zeros((4, 4), int)
np.add.at(table, (y_test, predicted), 1)
figure, (left, right) = plt.subplots(
    1, 2, figsize=(9.5, 4), layout="constrained", gridspec_kw={"width_ratios": [1.3, 1]}
)
t = np.arange(STEPS) / RATE
for activity, name in enumerate(ACTIVITIES):
    length = np.linalg.norm(x[y == activity][0], axis=1)
    left.plot(t, length + 25 * activity, color="0.3", linewidth=1)
    left.text(2.6, 9.81 + 25 * activity, name, va="center")
left.set(
    xlabel="time (s)",
    ylabel="acceleration (m/s², shifted by 25)",
    title="One window per activity: length of the vector",
)
left.set(xlim=(0, 3.3))
right.imshow(table, cmap="Blues", vmax=1.6 * table.max())
for i in range(4):
    for j in range(4):
        right.text(j, i, table[i, j], ha="center", va="center")
right.set(xlabel="predicted", ylabel="true", title="500 test windows")
right.set_xticks(range(4), ACTIVITIES, rotation=30)
right.set_yticks(range(4), ACTIVITIES)
plt.show()
