"""The classical online algorithm, microseconds a pattern: bptt_fast, JAX in one jit over the series, PyTorch.

All sides do the same work on the same numbers in float32: k instances of an Elman f and one linear g, an SGD
update of all weights after every pattern, the context advanced with the new weights.  Before anything is
timed their weights after an epoch are compared.  JAX is written in several ways, and the fastest counts:

  scan      lax.scan over the k instances, gradient by jax.value_and_grad
  unrolled  the same, the k instances unrolled at compile time
  by hand   unrolled, the backward pass written out, the weight gradients as one product over the k instances

With --jax-python PATH the JAX of another interpreter, say of an older version, is measured too: in a process
of its own that takes turns with this one on the same core.  BPTT_FAST_ISA=avx2 holds all sides to AVX2 but
this one: old versions of JAX cannot be held to an instruction set.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys

from . import ROOT, common

SIZES = [(3, 1, 8), (10, 1, 16), (10, 8, 64), (30, 8, 128)]
RATE = 1e-3
JAX_WAYS = ("scan", "unrolled", "by hand")


def problem(k, inputs, hidden, patterns):
    """A random series, targets, and start weights in PyTorch's shapes (one bias: the two only ever add)."""
    import numpy as np

    rng = np.random.default_rng(0)
    bound = hidden**-0.5

    def weight(*shape):
        return rng.uniform(-bound, bound, shape).astype(np.float32)

    series = rng.normal(size=(patterns + k, inputs)).astype(np.float32)
    targets = rng.normal(size=(patterns + k, 1)).astype(np.float32)
    weights = {
        "ih": weight(hidden, inputs),
        "hh": weight(hidden, hidden),
        "bias": weight(hidden),
        "out": weight(1, hidden),
        "out_bias": weight(1),
    }
    return series, targets, weights


def ours(k, series, targets, weights):
    """Run one epoch through the public interface, from the start weights, and return the weights."""
    import bptt_fast as bf

    net = bf.Network(series.shape[1], weights["hh"].shape[0], 1)
    names = {
        "ih": "weight_ih_l0",
        "hh": "weight_hh_l0",
        "bias": "bias_ih_l0",
        "out": "head.0.weight",
        "out_bias": "head.0.bias",
    }
    net["bias_hh_l0"][:] = 0
    for short, name in names.items():
        net[name] = weights[short]
    begin = net.params.copy()
    options = {"epochs": 1, "optimizer": bf.SGD(RATE), "bptt": bf.SlidingBPTT(k), "threads": 1, "verbose": 0}

    def epoch():
        net.params[:] = begin
        net.fit(series, targets, **options)
        out = {short: net[name] for short, name in names.items()}
        out["bias"] = out["bias"] + net["bias_hh_l0"]
        return out

    return epoch


def jax_side(way, k, series, targets, weights):
    """The epoch as one jitted lax.scan over the patterns."""
    import jax
    import jax.numpy as jnp
    from jax import lax

    def loss_scan(w, x, a, y):
        def f(h, z):
            return jnp.tanh(z + h @ w["hh"]), None

        h, _ = lax.scan(f, x, a @ w["ih"] + w["bias"], unroll=1 if way == "scan" else k)
        return jnp.mean((h @ w["out"] + w["out_bias"] - y) ** 2)

    def by_hand(w, x, a, y):
        zx, h = a @ w["ih"] + w["bias"], [x]
        for j in range(k):
            h.append(jnp.tanh(zx[j] + h[j] @ w["hh"]))
        e = h[k] @ w["out"] + w["out_bias"] - y
        dy = 2 * e / e.size
        dh, dz = w["out"] @ dy, [None] * k
        for j in reversed(range(k)):
            dz[j] = dh * (1 - h[j + 1] ** 2)
            if j:
                dh = w["hh"] @ dz[j]
        dz, before = jnp.stack(dz), jnp.stack(h[:k])
        return jnp.mean(e**2), {
            "ih": a.T @ dz,
            "hh": before.T @ dz,
            "bias": dz.sum(0),
            "out": jnp.outer(h[k], dy),
            "out_bias": dy,
        }

    gradient = by_hand if way == "by hand" else jax.value_and_grad(loss_scan)
    rates = {name: 2 * RATE if name == "bias" else RATE for name in weights}  # bias_ih and bias_hh both move

    @jax.jit
    def run(w, series, targets):
        def pattern(carry, t):
            w, x = carry
            loss, g = gradient(
                w,
                x,
                lax.dynamic_slice_in_dim(series, t, k),
                lax.dynamic_index_in_dim(targets, t + k, keepdims=False),
            )
            w = {name: w[name] - rates[name] * g[name] for name in w}
            return (w, jnp.tanh(series[t] @ w["ih"] + w["bias"] + x @ w["hh"])), loss

        x0 = jnp.zeros(w["hh"].shape[0], w["hh"].dtype)
        (w, _), losses = lax.scan(pattern, (w, x0), jnp.arange(series.shape[0] - k))
        return w, losses

    begin = {name: jnp.asarray(value.T) for name, value in weights.items()}
    series, targets = jnp.asarray(series), jnp.asarray(targets)

    def epoch():
        w, _ = jax.block_until_ready(run(begin, series, targets))
        return {name: value.T for name, value in w.items()}

    return epoch


class OtherJax:
    """The JAX of another interpreter, in a process that answers one line for each."""

    def __init__(self, python):
        flags = [flag for flag in os.environ.get("XLA_FLAGS", "").split() if "max_isa" not in flag]
        environ = os.environ | {"XLA_FLAGS": " ".join(flags)}
        environ.pop("BPTT_FAST_ISA", None)  # it would set the flag again
        self.process = subprocess.Popen(
            [python, "-m", "bench.online", "--serve"],
            cwd=ROOT,
            env=environ,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.version = self.ask("version")

    def ask(self, *question):
        self.process.stdin.write(json.dumps(question) + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            sys.exit("bench.online: the interpreter of --jax-python ended; expected one with jax and numpy")
        return json.loads(answer)

    def side(self, way, size, patterns):
        """As `jax_side`; an epoch returns its weights only if asked."""
        number = self.ask("make", way, *size, patterns)

        def epoch(weights=False):
            return self.ask("run", number, weights)

        return epoch

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def serve() -> int:
    """What the process of `OtherJax` does."""
    import jax

    sides = []
    for line in sys.stdin:
        verb, *arguments = json.loads(line)
        answer: object = jax.__version__
        if verb == "make":
            way, k, inputs, hidden, patterns = arguments
            sides.append(jax_side(way, k, *problem(k, inputs, hidden, patterns)))
            answer = len(sides) - 1
        elif verb == "run":
            number, weights = arguments
            found = sides[number]()
            answer = {name: value.tolist() for name, value in found.items()} if weights else None
        print(json.dumps(answer), flush=True)
    return 0


def torch_side(k, series, targets, weights):
    """Eager PyTorch with autograd; the input products of the k instances are one call."""
    import torch
    from torch.nn.functional import linear

    series, targets = torch.from_numpy(series), torch.from_numpy(targets)
    rates = [2 * RATE if name == "bias" else RATE for name in weights]

    def epoch():
        w = {name: torch.from_numpy(value.copy()).requires_grad_() for name, value in weights.items()}
        flat = list(w.values())
        x = torch.zeros(w["hh"].shape[0])
        for t in range(len(series) - k):
            h = x
            for z in linear(series[t : t + k], w["ih"], w["bias"]).unbind():
                h = torch.tanh(torch.addmv(z, w["hh"], h))
            loss = (linear(h, w["out"], w["out_bias"]) - targets[t + k]).square().mean()
            grads = torch.autograd.grad(loss, flat)
            with torch.no_grad():
                for value, grad, rate in zip(flat, grads, rates, strict=True):
                    value.sub_(grad, alpha=rate)
                x = torch.tanh(linear(series[t], w["ih"], w["bias"]) + w["hh"] @ x)
        return {name: value.detach().numpy() for name, value in w.items()}

    return epoch


def disagreement(a, b):
    """Largest difference of two sets of weights, relative to the largest weight of its block."""
    import numpy as np

    return max(
        float(np.abs(np.asarray(a[n]) - np.asarray(b[n])).max() / np.abs(np.asarray(b[n])).max()) for n in b
    )


def add_options(parser):
    parser.add_argument("--jax-python", metavar="PATH", help="another interpreter, whose JAX is measured too")
    parser.add_argument("--serve", action="store_true", help="what --jax-python runs")


def main() -> int:
    args = common.start(__doc__, add_options)
    if args.serve:
        return serve()
    if args.threads != 1:
        sys.exit("bench.online: patterns come one after another; expected one thread, leave --threads out")
    absent = common.missing("jax", "torch")
    if absent:
        print(f"not measured, not installed: {', '.join(absent)}")
    if "torch" not in absent:
        import torch

        torch.set_num_threads(1)
    other = OtherJax(args.jax_python) if args.jax_python else None
    common.print_environment()
    rounds, seconds = (3, 0.03) if args.quick else (9, 0.15)
    widths = (12, 9, 9, 9, 9, 10, 8, 9, 10, 10)
    common.print_row(
        (
            *("k, I, H", "ours us", *(f"jax {way}"[:9] for way in JAX_WAYS), "torch us", "x jax", "x torch"),
            *(("other us", "x other") if other else ("", "")),
        ),
        widths,
    )
    rows = []
    for k, inputs, hidden in SIZES:
        patterns = 20000 if hidden < 64 else 2000
        few = 20 if args.quick else 100  # PyTorch's: it is slow, and its cost a pattern is constant
        series, targets, weights = problem(k, inputs, hidden, patterns)
        sides = {"ours": ours(k, series, targets, weights)}
        counts = {"ours": patterns, "torch": few}
        if "jax" not in absent:
            for way in JAX_WAYS:
                sides[way] = jax_side(way, k, series, targets, weights)
                counts[way] = patterns
        for way in JAX_WAYS if other else ():
            sides[f"other {way}"] = other.side(way, (k, inputs, hidden), patterns)
            counts[f"other {way}"] = patterns
        if "torch" not in absent:
            sides["torch"] = torch_side(k, series[: few + k], targets[: few + k], weights)
        short = ours(k, series[: few + k], targets[: few + k], weights)
        for name, side in sides.items():
            found = side(weights=True) if name.startswith("other") else side()
            error = disagreement(found, short() if name == "torch" else sides["ours"]())
            if not error < 1e-3:
                sys.exit(
                    f"bench.online: weights of {name} differ from ours by {error:.1e} at {k, inputs, hidden}"
                )
        times = common.interleave(sides, rounds=rounds, seconds=seconds)
        us = {name: 1e6 * times[name] / counts[name] for name in times}
        nan = float("nan")
        older = {way: us.pop(f"other {way}") for way in JAX_WAYS if other}
        row = {
            "k": k,
            "I": inputs,
            "H": hidden,
            "us": us,
            "jax": min((us[way] for way in JAX_WAYS if way in us), default=nan) / us["ours"],
            "torch": us.get("torch", nan) / us["ours"],
        }
        if other:
            row |= {"other us": older, "other": min(older.values()) / us["ours"]}
        rows.append(row)
        common.print_row(
            (
                f"{k}, {inputs}, {hidden}",
                us["ours"],
                *(us.get(way, float("nan")) for way in JAX_WAYS),
                us.get("torch", float("nan")),
                row["jax"],
                row["torch"],
                *((min(older.values()), row["other"]) if other else ("", "")),
            ),
            widths,
        )
    peers = [peer for peer in ("jax", "torch") if peer not in absent] + ["other"] * bool(other)
    means = {peer: common.geomean([row[peer] for row in rows]) for peer in peers}
    print("geometric mean: " + ", ".join(f"{value:.1f} times {peer}" for peer, value in means.items()))
    results = {"rows": rows, "geometric_mean": means}
    if other:
        results["other jax"] = other.version
        print(f"other: JAX {other.version}")
        other.close()
    common.finish(args, results)
    return 0


if __name__ == "__main__":
    sys.exit(main())
