"""
A PyTorch model made faster
===========================

A classifier written in PyTorch is trained twice: with ``torch.nn.GRU``, and with one import
changed.  Data, initial weights and optimiser are the same; the losses agree up to rounding, the times do
not.
"""

import time

import matplotlib.pyplot as plt
import torch

import bptt_fast.torch
from bptt_fast import plots

torch.set_num_threads(1)


class Classifier(torch.nn.Module):
    """Which of three tones is hidden in the noise?"""

    def __init__(self, recurrent):
        super().__init__()
        self.recurrent = recurrent
        self.readout = torch.nn.Linear(recurrent.hidden_size, 3)

    def forward(self, x):
        return self.readout(self.recurrent(x)[0].mean(1))


torch.manual_seed(0)
kinds = torch.randint(3, (512,))
steps = torch.arange(60.0)
tones = torch.sin(steps * (0.2 + 0.1 * kinds[:, None]) + 6.3 * torch.rand(512, 1))
x = (tones + 0.5 * torch.randn(512, 60))[..., None]  # (n, T, 1)

# %%
# The training loop is the same for both modules.


def train(recurrent, epochs=10):
    """The loss of each update, and the seconds until then."""
    torch.manual_seed(1)
    model = Classifier(recurrent)
    model.load_state_dict(first)
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    losses, seconds, begin = [], [], time.perf_counter()
    for _ in range(epochs):
        for batch in torch.randperm(512).split(32):
            optimizer.zero_grad()
            loss = torch.nn.functional.cross_entropy(model(x[batch]), kinds[batch])
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
            seconds.append(time.perf_counter() - begin)
    return torch.tensor(losses), torch.tensor(seconds)


first = Classifier(torch.nn.GRU(1, 32, batch_first=True)).state_dict()
results = {
    "torch.nn.GRU": train(torch.nn.GRU(1, 32, batch_first=True)),
    "bptt_fast.torch.GRU": train(bptt_fast.torch.GRU(1, 32, batch_first=True)),
}
for name, (losses, seconds) in results.items():
    print(f"{name:20}  loss {losses[-16:].mean():.4f} after {len(losses)} updates, {seconds[-1]:.2f} s")
(theirs, slow), (ours, fast) = results.values()
print(f"{slow[-1] / fast[-1]:.1f} times as fast; losses of the first 50 updates differ by at most ", end="")
print(f"{(theirs - ours)[:50].abs().max():.0e}")

# %%
# Both losses follow the same curve, at different speeds.
figure, ax = plt.subplots(figsize=(6, 4), layout="constrained")
for (name, (losses, seconds)), color in zip(results.items(), ("0.5", plots.VERMILLION), strict=True):
    smooth = losses.unfold(0, 16, 1).mean(1)
    ax.plot(seconds[15:], smooth, color=color, label=name)
ax.set(xlabel="time (s)", ylabel="cross-entropy (nats), mean of 16 updates", ylim=(0, None))
figure.suptitle("The same training, one import changed")
ax.legend(frameon=False, loc="lower left", bbox_to_anchor=(0, 1), ncols=2)
plt.show()
