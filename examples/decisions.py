"""
Rate networks: three classical tasks
====================================

Perceptual decision, context-dependent integration and delayed match to sample: networks of 64 rates, of which
80 % are excitatory (Dale's law), with noise in their dynamics, are trained until 90 % of fresh trials are
correct.
"""

import time

import matplotlib.pyplot as plt
import numpy as np

import bptt_fast as bf
from bptt_fast import plots

DT, TAU = 20, 100  # ms
EVIDENCE = (-0.4, -0.2, -0.1, 0.1, 0.2, 0.4)
random = np.random.default_rng(0)


def ms(duration):
    """The number of steps."""
    return duration // DT


def trials_of(n, duration, inputs):
    """Inputs with noise (n, T, inputs), targets (n, T, 1), and weights (n, T), both zeros."""
    steps = ms(duration)
    x = random.normal(0, 0.1, (n, steps, inputs)).astype(np.float32)
    return x, np.zeros((n, steps, 1), np.float32), np.zeros((n, steps), np.float32)


# %%
# **Perceptual decision.** Which of two inputs is stronger on average?  The decision counts in the last
# 200 ms, after a delay.


def perceptual(n):
    x, y, weight = trials_of(n, 1200, 2)
    evidence = random.choice(EVIDENCE, n)
    x[:, ms(200) : ms(800)] += (0.5 + np.stack([evidence, -evidence], 1) / 2)[:, None]
    y[:] = (evidence > 0)[:, None, None]
    weight[:, ms(1000) :] = 1
    return x, y, weight, evidence


# %%
# **Context-dependent integration** (Mante et al. 2013). Both motion and colour are shown; two further inputs
# tell which of them to judge.


def contextual(n):
    x, y, weight = trials_of(n, 1200, 6)
    evidence, context = random.choice(EVIDENCE, (n, 2)), random.integers(2, size=n)
    both = 0.5 + np.stack([evidence, -evidence], 2).reshape(n, 4) / 2
    x[:, ms(200) : ms(800), :4] += both[:, None]
    x[np.arange(n), :, 4 + context] += 1
    relevant = evidence[np.arange(n), context]
    y[:] = (relevant > 0)[:, None, None]
    weight[:, ms(1000) :] = 1
    return x, y, weight, relevant, evidence[np.arange(n), 1 - context]


# %%
# **Delayed match to sample.** Two stimuli, A or B, are separated by a delay of 300 to 900 ms: are they the
# same?  The answer counts for 200 ms, which begin 200 ms after the second stimulus does.


def matching(n):
    x, y, weight = trials_of(n, 2000, 2)
    sample, test, delay = random.integers(2, size=n), random.integers(2, size=n), random.integers(300, 900, n)
    for i in range(n):
        begin = ms(500 + delay[i])
        x[i, ms(200) : ms(500), sample[i]] += 1
        x[i, begin : begin + ms(300), test[i]] += 1
        weight[i, begin + ms(200) : begin + ms(400)] = 1
    y[:] = (sample == test)[:, None, None]
    return x, y, weight, delay


# %%
# One network for each task. Fresh trials come until 90 % are correct: a trial is correct if the output at
# the steps that count is on the right side on average.


def correct(net, trials):
    x, y, weight = trials[:3]
    output = (net.predict(x)[..., 0] * weight).sum(axis=1)
    return (output > 0) == (y[:, 0, 0] > 0)


def train(task, seed, **options):
    first = task(500)
    net = bf.Network(
        first[0].shape[2], 64, 1, cell="ctrnn", equation="potential", nonlinearity="relu", tau=TAU, dt=DT,
        recurrent_noise=0.05, readout="every", spectral_radius=1.2, init="orthogonal", seed=seed, **options,
    )  # fmt: skip
    bf.dale(net, excitatory=0.8)
    loss, adam = bf.Loss("binary_cross_entropy", average="sequences"), bf.Adam(0.003, clip_norm=1.0)
    start, score = time.perf_counter(), []
    while not score or score[-1] < 0.9:
        if len(score) == 100:
            raise SystemExit(f"{task.__name__}: {score[-1]:.0%} correct after 50,000 trials")
        x, y, weight = task(500)[:3]
        net.fit(x, y, sample_weight=weight, loss=loss, optimizer=adam, epochs=4, batch_size=50, verbose=0)
        score.append(correct(net, task(500)).mean())
    seconds = time.perf_counter() - start
    print(f"{task.__name__}: {score[-1]:.0%} correct after {500 * len(score):,} trials, {seconds:.1f} s")
    return net, score


TASKS = {"Perceptual decision": perceptual, "Context-dependent integration": contextual}
TASKS |= {"Delayed match to sample": matching}
decide, integrate, match = ((*train(task, seed=i), task) for i, task in enumerate(TASKS.values()))

# %%
# Left: how fast they learn. Middle: psychometric curves; the second network ignores the evidence of the other
# context. Right: outputs of the third network in four trials; the stimuli are shown where it is grey, and
# the answer counts between the dotted lines.
plt.rc("axes", prop_cycle=plt.cycler(color=plots.COLORS))  # safe for colour-blind eyes
figure, (left, middle, right) = plt.subplots(1, 3, figsize=(11, 4), layout="constrained")
for (_, score, _), name in zip((decide, integrate, match), TASKS, strict=True):
    left.plot(500 * np.arange(1, len(score) + 1), np.multiply(100, score), marker=".", label=name)
left.axhline(90, color="0.6", linewidth=0.8)
left.set(xlabel="trials", ylabel="correct, fresh trials (%)", ylim=(40, 102), title="Learning")


def psychometric(net, trials, evidence, label):
    x, _, weight = trials[:3]
    right = (net.predict(x)[..., 0] * weight).sum(axis=1) > 0
    share = [100 * right[np.isclose(evidence, e)].mean() for e in EVIDENCE]
    middle.plot(EVIDENCE, share, marker="o", markersize=4, label=label)


trials = perceptual(2000)
psychometric(decide[0], trials, trials[3], "decision")
trials = contextual(4000)
psychometric(integrate[0], trials, trials[3], "context, relevant")
psychometric(integrate[0], trials, trials[4], "context, irrelevant")
middle.set(xlabel="evidence (difference of the inputs)", ylabel="choice of the first (%)", title="Decisions")

stimuli = [(a, b) for a in (0, 1) for b in (0, 1)]
x = np.zeros((4, ms(2000), 2), np.float32)
for trial, (sample, test) in zip(x, stimuli, strict=True):
    trial[ms(200) : ms(500), sample] = 1
    trial[ms(1100) : ms(1400), test] = 1
output = 1 / (1 + np.exp(-match[0].predict(x)[..., 0]))
for y, (sample, test) in zip(output, stimuli, strict=True):
    right.plot(np.arange(len(y)) * DT / 1000, y, label=f"{'AB'[sample]}, then {'AB'[test]}")
for begin in (0.2, 1.1):
    right.axvspan(begin, begin + 0.3, color="0.92")
right.set(xlabel="time (s)", ylabel="output, probability of a match", title="Match to sample, delay 600 ms")
for counted in (1.3, 1.5):
    right.axvline(counted, color="0.4", linewidth=0.8, linestyle=":")
for ax in (left, middle, right):
    ax.legend(fontsize="x-small", frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.18), ncols=2)
plt.show()
