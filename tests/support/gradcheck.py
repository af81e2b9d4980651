"""Gradients against finite differences.  One case again, from its line:

python tests/support/gradcheck.py cell=gru hidden_size=5 lengths=7,1 loss=huber every=1
"""

from __future__ import annotations

import numpy as np

TOLERANCE = 1e-6  # of the largest entry of a block
STEP = 1e-5
NOISE = 4 * np.finfo(float).eps / STEP  # of the loss: what its rounding makes of the differences
VANISHING = 1e-7  # a block whose gradient is nowhere larger proves nothing


class GradientError(AssertionError):
    """An analytic gradient that is not the slope of its loss, or that is zero."""


def numeric_gradient(loss, array):
    """Central differences of loss() by each entry of `array`, which is changed in place and restored."""
    slope = np.zeros(array.shape)
    for i in np.ndindex(*array.shape):
        kept = array[i]
        array[i] = kept + STEP
        above = loss()
        array[i] = kept - STEP
        slope[i] = (above - loss()) / (2 * STEP)
        array[i] = kept
    return slope


def check(loss, arrays, grads, line=""):
    """GradientError unless every grads[name] is the slope of loss() by arrays[name], and not zero."""
    noise = NOISE * abs(loss())
    assert arrays.keys() == grads.keys(), (sorted(arrays), sorted(grads))
    for name, array in arrays.items():
        slope = numeric_gradient(loss, array)
        size = abs(slope).max()
        error = abs(slope - grads[name]).max()
        where = f"{name} of shape {array.shape}; again: python tests/support/gradcheck.py {line}"
        if not size > VANISHING:
            raise GradientError(f"the gradient is zero: {where}")
        if not error <= TOLERANCE * size + noise:
            raise GradientError(f"off by {error / size:.1e} of the largest entry {size:.1e}: {where}")


if __name__ == "__main__":
    import sys
    from pathlib import Path

    sys.path[0] = str(Path(__file__).parents[1])
    from support import cases

    problem = cases.Problem(**cases.parse(sys.argv[1:]))
    problem.check_reference()
    for isa in cases.isas():
        problem.check_core(isa=isa)
        for dtype in ("float64", "float32"):
            problem.check_agreement(dtype=dtype, isa=isa)
    print("gradients are right:", problem.line)
