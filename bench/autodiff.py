"""One training step (forward, backward, SGD update) of bptt_fast, PyTorch and JAX, pinned to the same cores.

Batches lie in memory beforehand, each side in the layout it likes best; mean squared error of a linear
readout of the last state; all sides start from the same weights, and their weights after a few steps are
compared before anything is timed.  PyTorch is nn.RNN / nn.GRU / nn.LSTM, eager (--compile adds
torch.compile).  JAX is one jitted update with the projection of the inputs hoisted out of lax.scan, in
several ways of which the fastest counts: "plain", gradient of the whole by jax.grad; "collect", the gradient
of the recurrent weights hoisted out of the backward scan as well; "collect x4", the same with four steps
unrolled.

Fraction of peak: the operations of the matrix products that the step needs (no gradient of the inputs, no
product with the zero initial state), over the time, over the peak of fused multiply-adds that a kernel of
this benchmark reaches on the same cores.

--predict, --fit, --ragged and --scaling print another table instead: inference, the fit loop compared with
the bare steps, sequences of different lengths, and the cost over T and over B.
"""

from __future__ import annotations

import argparse
import math
import statistics
import sys
from dataclasses import dataclass, field
from typing import Any

from . import common

CELLS = ("elman", "gru", "lstm")
GRID = [
    (100, 1, 8, 16),
    (100, 1, 32, 32),
    (100, 32, 32, 32),
    (100, 32, 32, 64),
    (100, 32, 64, 128),
    (100, 64, 128, 256),
    (50, 128, 256, 512),
    (20, 128, 1024, 1024),
]
GATES = {"elman": 1, "gru": 3, "lstm": 4}
RATE = 1e-3


@dataclass
class Problem:
    """Batches of random sequences and a network that every side starts from."""

    cell: str
    steps: int
    batch: int
    inputs: int
    hidden: int
    dtype: str
    threads: int
    batches: int
    lengths: Any = None  # of a batch's sequences; None: all have `steps`
    x: Any = field(init=False)  # (batches, B, T, I)
    y: Any = field(init=False)  # (batches, B, 1)
    net: Any = field(init=False)

    def __post_init__(self) -> None:
        import numpy as np

        import bptt_fast as bf

        rng = np.random.default_rng(0)
        shape = (self.batches, self.batch, self.steps, self.inputs)
        self.x = rng.standard_normal(shape, np.float32).astype(self.dtype)
        self.y = rng.standard_normal((self.batches, self.batch, 1), np.float32).astype(self.dtype)
        if self.lengths is not None:
            for b in range(self.batch):
                self.x[:, b, self.lengths[b] :] = 0
        self.net = bf.Network(self.inputs, self.hidden, 1, cell=self.cell, dtype=self.dtype, seed=0)

    def flops(self, *, training: bool = True) -> float:
        """Operations of the products that one step needs; without the readout, it is below a thousandth."""
        gate_rows = GATES[self.cell] * self.hidden
        active = self.batch * self.steps if self.lengths is None else int(sum(self.lengths))
        project = 2.0 * active * gate_rows * self.inputs
        recur = 2.0 * (active - self.batch) * gate_rows * self.hidden
        return 2 * project + 3 * recur if training else project + recur


class Ours:
    """Plan.epoch over the batches: the bare steps, one call."""

    def __init__(self, problem: Problem) -> None:
        import numpy as np
        from bptt_fast._core import Data, Plan, state_vectors

        from bptt_fast.machine import machine_for

        p = problem
        self.net, self.problem = p.net, p
        count = p.batches * p.batch
        offset = np.arange(count, dtype=np.int64) * p.steps
        length = np.tile(
            p.steps if p.lengths is None else p.lengths, count if p.lengths is None else p.batches
        )
        self.data = Data(
            p.x.reshape(-1, p.inputs),
            offset,
            length.astype(np.int64),
            np.arange(count, dtype=np.int64),
            targets=p.y.reshape(-1, 1),
        )
        threads, isa = machine_for(p.threads, None)
        self.plan = Plan(p.net.desc(), batch=p.batch, steps=p.steps, threads=threads, isa=isa)
        self.order = np.arange(count, dtype=np.int64)
        self.losses, self.sizes = np.empty(p.batches), np.empty(p.batches)
        self.slots = np.zeros(state_vectors("sgd") * p.net.num_parameters, p.dtype)
        self.hyper = {
            "optimizer": "sgd",
            "learning_rate": RATE,
            "momentum": 0.0,
            "nesterov": False,
            "weight_decay": 0.0,
            "beta1": 0.9,
            "beta2": 0.999,
            "eps": 1e-8,
            "clip_norm": 0.0,
            "step": 0,
        }
        self.params = p.net.params.copy()
        self.out = np.empty((count, 1), p.dtype)

    def train(self) -> None:
        status, _ = self.plan.epoch(
            self.params, self.slots, self.hyper, self.data, self.order, self.losses, self.sizes
        )
        if status != "OK":
            sys.exit(f"bench.autodiff: {status}")

    def predict(self):
        self.plan.predict(self.params, self.data, self.order, self.out, False)
        return self.out

    def weights(self) -> dict[str, Any]:
        self.net.params[:] = self.params
        return self.net.state_dict()


class Torch:
    """nn.RNN, nn.GRU or nn.LSTM and nn.Linear, time first."""

    def __init__(self, problem: Problem, compiled: bool = False, packed: bool = False) -> None:
        import torch

        p = problem
        torch.set_num_threads(p.threads)
        dtype = getattr(torch, p.dtype)
        self.rnn = {"elman": torch.nn.RNN, "gru": torch.nn.GRU, "lstm": torch.nn.LSTM}[p.cell](
            p.inputs, p.hidden, dtype=dtype
        )
        self.head = torch.nn.Linear(p.hidden, 1, dtype=dtype)
        state = {name: torch.from_numpy(value) for name, value in p.net.state_dict().items()}
        self.rnn.load_state_dict({name: v for name, v in state.items() if not name.startswith("head")})
        self.head.load_state_dict({"weight": state["head.0.weight"], "bias": state["head.0.bias"]})
        self.parameters = [*self.rnn.parameters(), *self.head.parameters()]
        optimizer = torch.optim.SGD(self.parameters, lr=RATE)
        xs = torch.from_numpy(p.x).transpose(1, 2).contiguous()
        ys = torch.from_numpy(p.y)
        last = None if p.lengths is None else torch.as_tensor(p.lengths) - 1
        rows = torch.arange(p.batch)
        if packed:
            pack = torch.nn.utils.rnn.pack_padded_sequence
            xs = [pack(x, torch.as_tensor(p.lengths), enforce_sorted=False) for x in xs]

        def forward(x):
            output, state = self.rnn(x)
            if packed:
                h = state[0][0] if p.cell == "lstm" else state[0]
            else:
                h = output[-1] if last is None else output[last, rows]
            return self.head(h)

        def step(x, y):
            optimizer.zero_grad(set_to_none=True)
            loss = torch.nn.functional.mse_loss(forward(x), y)
            loss.backward()
            optimizer.step()

        if compiled:
            torch._dynamo.config.allow_rnn = p.cell != "lstm"  # nn.LSTM as one graph fails in torch 2.13
            forward = torch.compile(forward)
        self.data, self.step, self.forward, self.torch = list(zip(xs, ys, strict=True)), step, forward, torch

    def train(self) -> None:
        for x, y in self.data:
            self.step(x, y)

    def predict(self):
        with self.torch.inference_mode():
            return self.torch.cat([self.forward(x) for x, _ in self.data]).numpy()

    def weights(self) -> dict[str, Any]:
        weights = {name: value.numpy() for name, value in self.rnn.state_dict().items()}
        return weights | {f"head.0.{name}": value.numpy() for name, value in self.head.state_dict().items()}


class Jax:
    """lax.scan over time in one jitted update; way "plain" or "collect"."""

    def __init__(self, problem: Problem, way: str, unroll: int = 1) -> None:
        import jax

        p = problem
        if p.dtype == "float64":
            jax.config.update("jax_enable_x64", True)
        import jax.numpy as jnp
        from jax import lax

        self.jax, self.cell = jax, p.cell
        state = p.net.state_dict()
        self.params = {name: jnp.asarray(state[name].T) for name in state}
        hidden = p.hidden

        def f(state, zx, zr):
            if p.cell == "elman":
                return (jnp.tanh(zx + zr),)
            if p.cell == "gru":
                r, z = jnp.split(jax.nn.sigmoid(zx[:, : 2 * hidden] + zr[:, : 2 * hidden]), 2, axis=1)
                n = jnp.tanh(zx[:, 2 * hidden :] + r * zr[:, 2 * hidden :])
                return (n + z * (state[0] - n),)
            i, f, g, o = jnp.split(zx + zr, 4, axis=1)
            c = jax.nn.sigmoid(f) * state[1] + jax.nn.sigmoid(i) * jnp.tanh(g)
            return jax.nn.sigmoid(o) * jnp.tanh(c), c

        zeros = (jnp.zeros((p.batch, hidden), p.dtype),) * (2 if p.cell == "lstm" else 1)

        def run(zx, recurrent, offset):
            """The last state, and h before every step; offset: what to add to h U, a row or (T, B, .)."""
            varying = offset.ndim == 3

            def step(state, xs):
                zx, more = xs if varying else (xs, offset)
                zr = state[0] @ recurrent
                if p.cell == "gru":  # the reset gate multiplies this bias, so it can't be added to zx
                    zr = zr.at[:, 2 * hidden :].add(more)
                return f(state, zx, zr), state[0]

            state, before = lax.scan(step, zeros, (zx, offset) if varying else zx, unroll=unroll)
            return state[0], before

        def project(w, x):
            bias = (
                w["bias_ih_l0"] + w["bias_hh_l0"]
                if p.cell != "gru"
                else w["bias_ih_l0"].at[: 2 * hidden].add(w["bias_hh_l0"][: 2 * hidden])
            )
            return x @ w["weight_ih_l0"] + bias

        def readout(w, h):
            return h @ w["head.0.weight"] + w["head.0.bias"]

        def loss(w, x, y):
            h, _ = run(project(w, x), w["weight_hh_l0"], w["bias_hh_l0"][2 * hidden :])
            return jnp.mean((readout(w, h) - y) ** 2)

        def collect(w, x, y):
            def inner(zx, offset, head):
                h, before = run(zx, w["weight_hh_l0"], offset)
                return jnp.mean((readout(head, h) - y) ** 2), before

            head = {name: w[name] for name in w if name.startswith("head")}
            offset = w["bias_hh_l0"][2 * hidden :]
            if p.cell == "gru":
                offset = jnp.broadcast_to(offset, (p.steps, p.batch, hidden))
            (dzx, doffset, g), before = jax.grad(inner, argnums=(0, 1, 2), has_aux=True)(
                project(w, x), offset, head
            )
            dzr = jnp.concatenate([dzx[..., : 2 * hidden], doffset], axis=2) if p.cell == "gru" else dzx
            rows = p.steps * p.batch
            return g | {
                "weight_ih_l0": x.reshape(rows, -1).T @ dzx.reshape(rows, -1),
                "weight_hh_l0": before.reshape(rows, -1).T @ dzr.reshape(rows, -1),
                "bias_ih_l0": dzx.sum((0, 1)),
                "bias_hh_l0": dzr.sum((0, 1)),
            }

        gradient = collect if way == "collect" else jax.grad(loss)

        def step(w, x, y):
            g = gradient(w, x, y)
            return {name: w[name] - RATE * g[name] for name in w}

        self.step = jax.jit(step, donate_argnums=0)
        self.forward = jax.jit(
            lambda w, x: readout(w, run(project(w, x), w["weight_hh_l0"], w["bias_hh_l0"][2 * hidden :])[0])
        )
        self.data = [(jnp.asarray(x.swapaxes(0, 1)), jnp.asarray(y)) for x, y in zip(p.x, p.y, strict=True)]

    def train(self) -> None:
        for x, y in self.data:
            self.params = self.step(self.params, x, y)
        self.jax.block_until_ready(self.params)

    def predict(self):
        import numpy as np

        return np.concatenate([self.forward(self.params, x) for x, _ in self.data])

    def weights(self) -> dict[str, Any]:
        return {name: value.T for name, value in self.params.items()}


JAX_WAYS = {"plain": ("plain", 1), "collect": ("collect", 1), "collect x4": ("collect", 4)}


def peers(problem: Problem, absent: list[str], compiled: bool) -> dict[str, Any]:
    """Every way of PyTorch and JAX that is here, by name."""
    sides: dict[str, Any] = {}
    if "torch" not in absent:
        sides["torch"] = Torch(problem)
        if compiled:
            sides["torch.compile"] = Torch(problem, compiled=True)
    if "jax" not in absent:
        sides |= {f"jax {name}": Jax(problem, *way) for name, way in JAX_WAYS.items()}
    return sides


def fastest(times: dict[str, float], prefix: str = "") -> float:
    return min(
        (t for name, t in times.items() if name != "ours" and name.startswith(prefix)), default=math.nan
    )


def check(sides: dict[str, Any], *, predict: bool = False) -> None:
    """Stop unless every side reaches the same weights (or predictions) from the same start."""
    import numpy as np

    results = {}
    for name, side in sides.items():
        if predict:
            results[name] = {"predictions": np.array(side.predict())}
        else:
            side.train()
            results[name] = {key: np.array(value) for key, value in side.weights().items()}
    ours = results["ours"]
    for name, theirs in results.items():
        for key, value in ours.items():
            error = float(np.abs(value - theirs[key]).max() / np.abs(value).max())
            if not error < 1e-3:
                sys.exit(f"bench.autodiff: {key} of {name} and of bptt_fast differ by {error:.1e}")


def batches_for(hidden: int) -> int:
    return 8 if hidden <= 128 else 2 if hidden <= 256 else 1


def summary(rows: list[dict[str, Any]]) -> dict[str, float]:
    """Geometric means of the ratios, and the worst cell."""
    out = {}
    for name in ("faster peer", "torch", "jax"):
        ratios = [row[name] for row in rows if not math.isnan(row[name])]
        if ratios:
            out[name] = common.geomean(ratios)
            out[f"{name}, worst"] = min(ratios)
            print(
                f"against {name}: geometric mean {out[name]:.2f}, worst {min(ratios):.2f}, of {len(ratios)}"
            )
    return out


def grid(args: argparse.Namespace, absent: list[str], *, predict: bool) -> dict[str, Any]:
    """The table of the grid, for training or for inference."""
    rounds, seconds = (3, 0.03) if args.quick else (7, 0.2)
    peak_call, peak_flops = common.fma_peak(args.dtype, args.threads)
    widths = (6, 22, 9, 9, 9, 11, 7, 7, 7)
    common.print_row(
        ("cell", "T, B, I, H", "ours ms", "torch ms", "jax ms", "faster peer", "torch", "jax", "of peak"),
        widths,
    )
    rows = []
    for cell in args.cells:
        for size in args.sizes:
            problem = Problem(cell, *size, args.dtype, args.threads, batches_for(size[3]))
            sides = {"ours": Ours(problem), **peers(problem, absent, args.compile)}
            check(sides, predict=predict)
            calls = {name: side.predict if predict else side.train for name, side in sides.items()}
            found = common.interleave(calls | {"peak": peak_call}, rounds=rounds, seconds=seconds)
            peak = peak_flops / found.pop("peak")
            times = {name: t / problem.batches for name, t in found.items()}
            ours = times["ours"]
            row = {
                "cell": cell,
                "size": size,
                "ms": {name: 1e3 * t for name, t in times.items()},
                "faster peer": fastest(times) / ours,
                "torch": fastest(times, "torch") / ours,
                "jax": fastest(times, "jax") / ours,
                "peak": peak / 1e9,
                "of peak": problem.flops(training=not predict) / ours / peak,
            }
            rows.append(row)
            common.print_row(
                (
                    cell,
                    ", ".join(map(str, size)),
                    1e3 * ours,
                    1e3 * fastest(times, "torch"),
                    1e3 * fastest(times, "jax"),
                    row["faster peer"],
                    row["torch"],
                    row["jax"],
                    row["of peak"],
                ),
                widths,
            )
    print(f"peak of fused multiply-adds, median: {statistics.median(row['peak'] for row in rows):.0f} GF/s")
    return {"rows": rows, "geometric_mean": summary(rows)}


def fit_loop(args: argparse.Namespace) -> dict[str, Any]:
    """net.fit, one epoch, compared with Plan.epoch over the same batches."""
    import bptt_fast as bf

    rounds, seconds = (3, 0.03) if args.quick else (9, 0.3)
    widths = (6, 22, 9, 9, 7)
    common.print_row(("cell", "T, B, I, H", "bare ms", "fit ms", "ratio"), widths)
    rows = []
    for cell in args.cells:
        for size in args.sizes:
            problem = Problem(cell, *size, args.dtype, args.threads, 4 * batches_for(size[3]))
            bare, net = Ours(problem), problem.net
            x, y = problem.x.reshape(-1, *problem.x.shape[2:]), problem.y.reshape(-1, 1)

            def fit(net=net, x=x, y=y, batch=problem.batch):
                net.fit(
                    x, y, epochs=1, batch_size=batch, optimizer=bf.SGD(RATE), threads=args.threads, verbose=0
                )

            times = common.interleave({"bare": bare.train, "fit": fit}, rounds=rounds, seconds=seconds)
            row = {
                "cell": cell,
                "size": size,
                "ms": {name: 1e3 * t / problem.batches for name, t in times.items()},
                "ratio": times["fit"] / times["bare"],
            }
            rows.append(row)
            common.print_row((cell, ", ".join(map(str, size)), *row["ms"].values(), row["ratio"]), widths)
    return {"rows": rows}


def ragged(args: argparse.Namespace, absent: list[str]) -> dict[str, Any]:
    """32 sequences of 10 % to 100 % of 1000 steps, I 32, H 64, compared with 32 of 1000 steps."""
    import numpy as np

    rounds, seconds = (3, 0.03) if args.quick else (7, 0.2)
    batch, longest = 32, 1000
    lengths = np.sort(np.random.default_rng(1).integers(longest // 10, longest + 1, batch))[::-1]
    lengths = np.ascontiguousarray(lengths)
    lengths[0] = longest
    share = lengths.sum() / (batch * longest)
    print(f"sum of the lengths over the padded steps: {share:.3f}")
    widths = (6, 9, 10, 12, 10, 10, 8, 8)
    common.print_row(
        ("cell", "ours ms", "padded ms", "over share", "torch pad", "torch pack", "x pad", "x pack"), widths
    )
    rows = []
    for cell in args.cells:
        problem = Problem(cell, longest, batch, 32, 64, args.dtype, args.threads, 1, lengths)
        full = Problem(cell, longest, batch, 32, 64, args.dtype, args.threads, 1)
        sides = {"ours": Ours(problem)}
        if "torch" not in absent:
            sides |= {"torch padded": Torch(problem), "torch packed": Torch(problem, packed=True)}
        check(sides)
        calls = {name: side.train for name, side in sides.items()} | {"padded": Ours(full).train}
        ms = {name: 1e3 * t for name, t in common.interleave(calls, rounds=rounds, seconds=seconds).items()}
        pad, pack = ms.get("torch padded", math.nan), ms.get("torch packed", math.nan)
        row = {
            "cell": cell,
            "ms": ms,
            "over share": ms["ours"] / (share * ms["padded"]),
            "torch padded": pad / ms["ours"],
            "torch packed": pack / ms["ours"],
        }
        rows.append(row)
        common.print_row(
            (
                cell,
                ms["ours"],
                ms["padded"],
                row["over share"],
                pad,
                pack,
                row["torch padded"],
                row["torch packed"],
            ),
            widths,
        )
    return {"share": float(share), "rows": rows}


def scaling(args: argparse.Namespace) -> dict[str, Any]:
    """Cost of a step over T (B = 1) and over B (T = 100), I 8, H 32; slope of the logarithms, 1 is linear."""
    import numpy as np

    rounds, seconds = (3, 0.03) if args.quick else (5, 0.1)
    result = {}
    for axis, values in (("T", (10, 100, 1000, 10_000, 100_000)), ("B", (1, 4, 16, 64, 256, 1024))):
        for cell in args.cells:
            ms = []
            for value in values:
                steps, batch = (value, 1) if axis == "T" else (100, value)
                side = Ours(Problem(cell, steps, batch, 8, 32, args.dtype, args.threads, 1))
                ms.append(
                    1e3 * common.interleave({"ours": side.train}, rounds=rounds, seconds=seconds)["ours"]
                )
            slope = float(np.polyfit(np.log(values), np.log(ms), 1)[0])
            result[f"{cell} over {axis}"] = {"values": values, "ms": ms, "slope": slope}
            print(
                f"{cell} over {axis}: slope {slope:.3f}   "
                + "   ".join(f"{value}: {t:.3g} ms" for value, t in zip(values, ms, strict=True)),
                flush=True,
            )
    return result


def options(parser: argparse.ArgumentParser) -> None:
    """Add what this benchmark knows beyond the common options."""
    parser.add_argument("--dtype", choices=("float32", "float64"), default="float32")
    parser.add_argument(
        "--cells",
        type=lambda text: text.split(","),
        default=list(CELLS),
        metavar="A,B",
        help="some of elman,gru,lstm",
    )
    parser.add_argument(
        "--sizes",
        type=lambda text: [GRID[int(i)] for i in text.split(",")],
        default=GRID,
        metavar="0,1,...",
        help="some of the eight sizes, by number from 0",
    )
    parser.add_argument("--compile", action="store_true", help="also measure torch.compile")
    mode = parser.add_mutually_exclusive_group()
    for name, text in (
        ("predict", "inference"),
        ("fit", "the fit loop compared with the bare steps"),
        ("ragged", "sequences of different lengths"),
        ("scaling", "cost over T and over B"),
    ):
        mode.add_argument(f"--{name}", action="store_true", help=text)


def main() -> int:
    args = common.start(__doc__, options)
    common.print_environment()
    absent = common.missing("torch", "jax")
    if absent:
        print(f"not measured, not installed: {', '.join(absent)}")
    if args.fit:
        results = fit_loop(args)
    elif args.ragged:
        results = ragged(args, absent)
    elif args.scaling:
        results = scaling(args)
    else:
        results = grid(args, absent, predict=args.predict)
    mode = next((name for name in ("predict", "fit", "ragged", "scaling") if getattr(args, name)), "")
    dtype = "" if args.dtype == "float32" else args.dtype
    threads = f"threads{args.threads}" if args.threads > 1 else ""
    common.finish(args, results, "_".join(filter(None, (mode, dtype, threads))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
