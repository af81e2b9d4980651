"""
What is the wearer doing?  Three axes of an accelerometer
=========================================================

Windows of 2.56 s at 50 Hz from a phone in a pocket, made up here: four activities, every wearer with a gait,
a strength and a direction of the phone of his own.  A GRU reads the windows as they are.
"""

import matplotlib.pyplot as plt
import numpy as np

import bptt_fast as bf

RATE, STEPS = 50, 128  # samples a second, samples in a window
ACTIVITIES = ("standing", "walking", "climbing", "running")
FREQUENCY = (0.0, 1.8, 1.5, 2.7)  # steps a second
STRENGTH = (0.0, 2.5, 2.5, 8.0)  # m/s^2, of the step itself


def window(random, activity):
    """(T, 3) accelerations in m/s^2 of one wearer, gravity included."""
    t = np.arange(STEPS) / RATE
    phase = 2 * np.pi * (FREQUENCY[activity] * random.uniform(0.85, 1.15) * t + random.random())
    strength = STRENGTH[activity] * random.uniform(0.6, 1.4)
    up = 9.81 + strength * (np.sin(phase) + 0.3 * np.sin(2 * phase))
    ahead = 0.5 * strength * np.sin(phase + 1.0)
    aside = 0.4 * strength * np.sin(phase / 2)  # left and right take turns
    if ACTIVITIES[activity] == "climbing":  # each step begins with a push and ends softly
        up += strength * np.maximum(np.sin(phase), 0) ** 4
    axes, _ = np.linalg.qr(random.normal(size=(3, 3)))  # how the phone lies in the pocket
    return np.column_stack([aside, ahead, up]) @ axes + random.normal(scale=1.0, size=(STEPS, 3))


def windows(random, n):
    activities = random.integers(0, len(ACTIVITIES), n)
    return np.array([window(random, activity) for activity in activities]), activities


random = np.random.default_rng(0)
(x, y), (x_test, y_test) = windows(random, 1500), windows(random, 500)

# %%
# What there is to beat: the nearest of the four means of a few plain features, the deviation of each axis in
# the order of size, and that of the length of the vector.


def features(x):
    deviations = np.sort(x.std(axis=1), axis=1)
    return np.log(np.column_stack([deviations, np.linalg.norm(x, axis=2).std(axis=1)]))


means = np.array([features(x[y == activity]).mean(axis=0) for activity in range(4)])
nearest = np.linalg.norm(features(x_test)[:, None] - means, axis=2).argmin(axis=1)
print(f"nearest mean of four features: {np.mean(nearest == y_test):.1%} right")

# %%
# The network reads raw numbers (divided by 10 m/s^2).  A tenth of the training windows decides when to stop.
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
found = net.predict(x_test / 10).argmax(axis=1)
print(f"GRU, {net.num_parameters} parameters: {np.mean(found == y_test):.1%} right")
print(f"{len(history['epoch'])} epochs in {sum(history['seconds']):.1f} s")

# %%
# Standing and running are easy.  Walking and climbing overlap in frequency and strength and differ in the
# form of the step only; that is what the network has to find, and where its errors are.  Data made up are
# easier than those of real pockets: the figures say how the tool works, not how well activities can be told
# apart.
table = np.zeros((4, 4), int)
np.add.at(table, (y_test, found), 1)
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
    title="A window each: length of the vector",
)
left.set(xlim=(0, 3.3))
right.imshow(table, cmap="Blues", vmax=1.6 * table.max())
for i in range(4):
    for j in range(4):
        right.text(j, i, table[i, j], ha="center", va="center")
right.set(xlabel="found", ylabel="true", title="500 windows not seen before")
right.set_xticks(range(4), ACTIVITIES, rotation=30)
right.set_yticks(range(4), ACTIVITIES)
plt.show()
