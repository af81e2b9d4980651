"""tanh, sigmoid and exp of the vector code: at most 2.5 units in the last place; softplus: at most 3.5."""

import numpy as np
import pytest
from support import cases

APPLY = cases.core().apply
EXACT = {
    "tanh": np.tanh,
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "exp": np.exp,
    "softplus": lambda x: np.logaddexp(x, 0),
}
# exp saturates there (sigmoid and softplus with it), tanh nowhere
LIMIT = {"float32": 87, "float64": 708}
WIDE = {"float32": np.float64, "float64": np.longdouble}


def sample(name, dtype):
    """Every exponent with many mantissas, both signs; and densely where the functions bend."""
    rng = np.random.default_rng(0)
    if dtype == "float32":
        everywhere = np.arange(0, 2**32, 4099, dtype=np.uint64).astype(np.uint32).view(np.float32)
    else:
        everywhere = rng.integers(0, 2**64, 300_000, dtype=np.uint64).view(np.float64)
    everywhere = everywhere[np.isfinite(everywhere)]
    x = np.concatenate([everywhere, rng.uniform(-1, 1, 300_000), rng.uniform(-20, 20, 600_000)]).astype(dtype)
    return x[(name == "tanh") | (abs(x) <= LIMIT[dtype])]


@pytest.mark.parametrize("isa", cases.isas())
@pytest.mark.parametrize("dtype", WIDE)
@pytest.mark.parametrize("name", EXACT)
def test_accuracy(name, dtype, isa):
    if np.finfo(WIDE[dtype]).nmant < np.finfo(dtype).nmant + 10:
        pytest.skip("no wider float here to compare with")
    x, tiny = sample(name, dtype), np.finfo(dtype).tiny
    exact, got = EXACT[name](x.astype(WIDE[dtype])), APPLY(name, x, isa)
    normal = abs(exact) >= tiny
    ulp = np.spacing(abs(exact[normal]).astype(dtype)).astype(exact.dtype)
    error = abs(got[normal] - exact[normal]) / ulp
    worst = error.argmax()
    allowed = 3.5 if name == "softplus" else 2.5
    assert error[worst] <= allowed, f"{name}({x[normal][worst]!r}) is off by {error[worst]:.2f} ulp"
    assert (abs(got[~normal]) <= tiny).all()  # what is not normal may be flushed to zero


@pytest.mark.parametrize("isa", cases.isas())
@pytest.mark.parametrize("dtype", WIDE)
@pytest.mark.parametrize("name, low, high", (("tanh", -1, 1), ("sigmoid", 0, 1)))
def test_edges(name, low, high, dtype, isa):
    """Infinities saturate, NaN stays NaN, zero is exact, and no length is special."""
    info = np.finfo(dtype)
    x = np.array([-np.inf, np.inf, np.nan, 0, -0.0, -info.max, info.max] * 5, dtype)
    expected = np.array([low, high, np.nan, *[EXACT[name](0.0)] * 2, low, high] * 5, dtype)
    for n in range(1, len(x) + 1):
        np.testing.assert_allclose(APPLY(name, x[:n].copy(), isa), expected[:n], rtol=0, atol=2 * info.tiny)


@pytest.mark.parametrize("dtype", WIDE)
def test_symmetry_and_range(dtype):
    x = sample("sigmoid", dtype)
    tanh, sigmoid = APPLY("tanh", x, None), APPLY("sigmoid", x, None)
    np.testing.assert_array_equal(APPLY("tanh", -x, None), -tanh)
    assert abs(tanh).max() <= 1
    assert sigmoid.min() >= 0 and sigmoid.max() <= 1
