"""
Local optima and restarts
=========================

A third of the networks that learn the XOR of two distant bits get stuck.  ``bptt_fast.restarts`` trains many
copies from different seeds and drops the worse half several times (successive halving).
"""

import matplotlib.pyplot as plt
import numpy as np

import bptt_fast as bf
from bptt_fast import plots

random = np.random.default_rng(0)
bits = random.choice([-1.0, 1.0], size=(256, 12, 1))
wanted = (bits[:, 0] != bits[:, 1]).astype(float)  # needed after ten irrelevant bits

# %%
# 32 copies from seeds 0 to 31.  The worse half is dropped after 12, 25, 50, 100 and 200 epochs.
net = bf.Network(input_size=1, hidden_size=4, output_size=1, seed=0)
options = {"optimizer": bf.Adam(0.01, clip_norm=1.0), "verbose": 0}
best, table = bf.restarts(net, bits, wanted, n=32, epochs=400, **options)
print(f"best of 32: seed {table['seed'][0]}, loss {table['loss'][0]:.2g}, all in {table.seconds:.1f} s")
print("\n".join(str(table).splitlines()[:6]))

# %%
# Without dropping any copy: how many succeed?
_, everyone = bf.restarts(net, bits, wanted, n=32, epochs=400, keep="all", **options)
solved = sum(loss < 0.01 for loss in everyone["loss"])
print(f"{solved} of 32 solve the task within 400 epochs; the worst has a loss of {max(everyone['loss']):.2f}")

# %%
# The norm of the gradient of the last loss, from the last step back to the relevant bits.
flow = bf.diagnostics.gradient_flow(net, bits, wanted)
print(f"before training the gradient is multiplied by {flow.factor:.2f} per step back in time")

# %%
# Left: the losses of all copies.  Right: the loss on the plane through three solutions.
figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4), layout="constrained")
plots.restarts(table, ax=left)
solutions = everyone.networks[:3]
plots.error_surface(solutions[0], bits, wanted, along=solutions[1:], points=61, ax=right)
plt.show()
