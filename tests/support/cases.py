"""Small problems: a network, data with a non-zero initial state, and the same run in the oracle and in C.

A case is a dict of keywords: a network's description, and lengths, loss, every, weighted, gain, data_seed."""

from __future__ import annotations

import ast
import importlib
import sys
from pathlib import Path

import numpy as np

from . import covering, gradcheck
from . import reference as ref

ROOT = Path(__file__).resolve().parents[2]
LOSSES = tuple(ref.LOSSES)
CANCELLING = (
    "mae",
    "huber",
    "pinball",
    "ordered_pinball",
)  # slopes of one size may add up to exactly zero, unless rows have different weights
# 1, a prime, and VL-1, VL, VL+1 for VL = 2, 4, 8, 16
WIDTHS = (1, 2, 3, 4, 5, 7, 8, 9, 13, 15, 16, 17)
RAGGED = (4, 1, 7, 4)
# enough work for several threads
LARGE = dict(hidden_size=64, input_size=24, output_size=5, head=(32,))

# Every form of every cell that has several; another cell has one form, its name.
FORMS = {
    "elman-tanh": dict(cell="elman", activation=("tanh",)),
    "elman-relu": dict(cell="elman", activation=("relu",)),
    "elman-sigmoid": dict(cell="elman", activation=("sigmoid",)),
    "elman-linear": dict(cell="elman", activation=("linear",)),
    "mlp-4": dict(cell="mlp", f=(4,), activation=("tanh", "tanh")),
    "mlp-6-7": dict(cell="mlp", f=(6, 7), activation=("sigmoid", "relu", "tanh")),
    "gru-after": dict(cell="gru", activation=()),
    "gru-before": dict(cell="gru_reset_before", activation=()),
    "lstm": dict(cell="lstm", activation=()),
    "lstm-peephole": dict(cell="lstm_peephole", activation=()),
    "lstm-projection": dict(cell="lstm", activation=(), proj_size=3),
    "lstm-both": dict(cell="lstm_peephole", activation=(), proj_size=2),
    "indrnn": dict(cell="indrnn", activation=("tanh",)),
    "ctrnn": dict(cell="ctrnn", activation=("tanh",)),
    "ctrnn-potential": dict(cell="ctrnn_potential", activation=("softplus",)),
    "ctrnn-tau": dict(cell="ctrnn", activation=("softplus",), train_tau=True),
    "ctrnn-potential-tau": dict(cell="ctrnn_potential", activation=("tanh",), train_tau=True),
}
FORMS |= {
    name: dict(cell=name, activation=())
    for name in ref.CELLS
    if name not in {form["cell"] for form in FORMS.values()}
}

# Forms that lay their parameters out in every way there is.
LAYOUTS = {
    "elman": dict(num_layers=2, bidirectional=True, head=(4,)),
    "mlp": FORMS["mlp-6-7"],
    "gru": FORMS["gru-before"],
    "lstm": FORMS["lstm-both"],
}

# What the gradients are checked for; a form of FORMS, by name, comes with each.
FACTORS = dict(
    loss=LOSSES,
    every=(False, True),
    weighted=(False, True),
    lengths=((1, 1), (5, 5), RAGGED, (6,), (2, 4, 6, 7)),
    num_layers=(1, 2, 3),
    bidirectional=(False, True),
    head=((), (4,), (7,), (8, 5, 6)),
    head_activation=("tanh", "relu", "sigmoid"),
    input_size=(1, 2, 3, 4, 5),
    hidden_size=(4, 5, 6, 7),
    output_size=(2, 3, 4),
)
STRUCTURE = dict(
    num_layers=(1, 2, 3),
    bidirectional=(False, True),
    every=(False, True),
    head=((), (4,)),
    lengths=(RAGGED, (3, 1, 5)),
)
SIZES = dict(hidden_size=WIDTHS, input_size=WIDTHS, output_size=WIDTHS, head=((), (9,), (4, 7)))


def bench(name):
    """A module of bench/, which lies beside the package and not in it."""
    before = sys.path[:]
    sys.path.append(str(ROOT))  # last, so that the package under test stays what it is
    try:
        return importlib.import_module(f"bench.{name}")
    finally:
        sys.path[:] = before


def core():
    from bptt_fast import _core

    return _core


def isas():
    return core().isas()


def line(case):
    """A case as one line that parse() reads back."""
    return " ".join(
        f"{k}={','.join(map(str, v)) + ',' if isinstance(v, tuple) else v}" for k, v in case.items()
    )


def parse(words):
    def value(text):
        try:
            return ast.literal_eval(text)
        except (ValueError, SyntaxError):
            return tuple(text.rstrip(",").split(",")) if "," in text else text

    return {k: value(v) if v != "," else () for k, v in (word.split("=", 1) for word in words)}


def scale(d, name, shape):
    """Of the uniform values of a block: neither states nor gradients vanish or explode over ten steps."""
    if len(shape) == 1:
        return 1.5 if "weight_hh" in name else 0.4  # u of indrnn; biases
    if name.startswith("head"):
        return 1.2 / np.sqrt(shape[-1])
    layer = int(name[2]) if name.startswith("f.") else 0
    phi = d["activation"][layer] if d["activation"] else "tanh"
    wide = {"tanh": 2.2, "retanh": 2.2, "sigmoid": 4.0, "relu": 1.8, "leaky_relu": 1.8, "linear": 1.4}
    return (wide | {"softplus": 1.4})[phi] / np.sqrt(shape[-1])


class Problem:
    """Description, weights and data of one case.  All numbers are float32's: both precisions see the same."""

    def __init__(
        self, lengths=RAGGED, loss="mse", every=False, weighted=False, gain=1.0, data_seed=0, **desc
    ):
        given = dict(
            lengths=lengths, loss=loss, every=every, weighted=weighted, gain=gain, data_seed=data_seed
        )
        self.line = line(desc | given)
        self.desc = d = ref.DESC | dict(input_size=3, hidden_size=5, output_size=2) | desc
        columns = d["output_size"]  # of the targets
        d["output_size"] *= core().losses()[loss]["outputs"] or 1
        if not core().cells()[d["cell"]]["recurrent"]:
            d["recurrent_dropout"] = 0.0  # it is for the recurrent product
        if core().cells()[d["cell"]]["leak"] and not d.get("train_tau"):
            d.setdefault("alpha", tuple(np.resize((0.5, 0.25, 1.0, 0.125), d["hidden_size"]).tolist()))
        self.lengths, self.loss, self.every, n = lengths, loss, bool(every), len(lengths)
        rng = np.random.default_rng(data_seed)

        def uniform(shape, scale=1.0):
            return rng.uniform(-scale, scale, shape).astype(np.float32).astype(float)

        self.params = {k: uniform(s, gain * scale(d, k, s)) for k, s in ref.blocks(d).items()}
        kinds = {*d["activation"], d["head_activation"]}
        if kinds & {"relu", "retanh"}:  # with biases above 0 hardly a layer is dead
            self.params = {k: abs(w) if w.ndim == 1 else w for k, w in self.params.items()}
        self.state = uniform((n, ref.state_size(d)), 0.9)
        if d["initial_state"] == "trained":
            self.state = None  # the parameters have it
        self.x = [uniform((steps, d["input_size"]), 1.5) for steps in lengths]
        rows = [steps if every else 1 for steps in lengths]
        targets = core().losses()[loss]["targets"]
        if targets == "class":
            self.y = [rng.integers(d["output_size"], size=r) for r in rows]
        elif targets == "probability":
            self.y = [rng.integers(2, size=(r, columns)).astype(float) for r in rows]
        elif targets == "count":
            self.y = [rng.poisson(3.0, (r, columns)).astype(float) for r in rows]
        else:
            self.y = [uniform((r, columns), 2.5) for r in rows]
        self.weight = None
        if weighted:
            self.weight = [abs(uniform(r, 2.0)) for r in rows]
            self.weight[0][0] = 0.0 if sum(rows) > 1 else 0.7

    def network(self, dtype="float64", **options):
        """The network with these weights, as a user makes it."""
        import bptt_fast as bf

        words = {"nonlinearity": "activation", "head_nonlinearity": "head_activation"}
        given = {k: v for k, v in self.desc.items() if k not in (*words.values(), "dtype")}
        given |= {k: self.desc[v] for k, v in words.items()} | {"readout": ("last", "every")[self.every]}
        if given["initial_state"] == "zeros":
            del given["initial_state"]
        if "alpha" in given:
            given["tau"] = [1 / alpha for alpha in given.pop("alpha")]
        net = bf.Network(**given | {"dtype": dtype} | options)
        net.load_state_dict(self.params)
        return net

    def targets(self):
        """The targets as a user gives them: a list of one row a step, or an array of one row a sequence."""
        return self.y if self.every else np.concatenate(self.y)

    def weights(self):
        """The weights as a user gives them."""
        return self.weight if self.every or self.weight is None else np.concatenate(self.weight)

    def reference(self, module=ref, masks=None):
        """The oracle's loss and gradients {block, "x", "state": array}; x concatenated."""
        value, grads, dxs, dstate = module.loss_and_grad(
            self.desc, self.params, self.x, self.y, loss=self.loss, every=self.every, states=self.state,
            weights=self.weight, masks=masks,
        )  # fmt: skip
        return value, grads | self.arrays(np.concatenate(dxs), dstate)

    def arrays(self, x, state):
        """What a gradient is taken by beside the weights."""
        return {"x": x} if self.state is None else {"x": x, "state": state}

    def check_reference(self, module=ref):
        """The oracle's gradient against finite differences of the oracle."""
        flat = np.concatenate(self.x)
        self.x = np.split(flat, np.cumsum(self.lengths)[:-1])
        arrays = self.params | self.arrays(flat, self.state)
        gradcheck.check(lambda: self.reference(module)[0], arrays, self.reference(module)[1], self.line)

    def run(self, dtype="float64", isa=None, threads=1, capacity=None, **how):
        return Run(self, dtype, isa, threads, capacity, **how)

    def check_core(self, isa=None, **how):
        """The C gradient against finite differences of the C loss."""
        run = self.run(isa=isa, **how)
        x = run.values[run.rows]
        arrays = run.named(run.params) | self.arrays(x, run.state)
        gradcheck.check(lambda: run.loss(x), arrays, run.loss_and_grad()[1], self.line)

    def tolerance(self, dtype):
        """Of the largest entry: 1e-10 in float64; in float32 oneDNN's bound, 4 * 2 * ceil(log2(K T)) * eps,
        with K the terms of the sums and T the instances of layers in a row."""
        if dtype == "float64":
            return 1e-10
        d = self.desc
        layer = (1 + d["bidirectional"]) * (d["input_size"] + d["hidden_size"] + sum(d["f"]))
        terms = d["num_layers"] * layer + sum(d["head"]) + d["output_size"] + len(self.lengths)
        depth = d["num_layers"] * (1 + len(d["f"])) * max(self.lengths)
        return 4 * 2 * np.ceil(np.log2(terms * depth)) * np.finfo(np.float32).eps

    def check_agreement(self, dtype="float64", isa=None, threads=1, masks=None, expected=None, **how):
        """The C loss and gradients against the oracle's."""
        value, grads = expected or self.reference(masks=masks)
        got_value, got = self.run(dtype, isa, threads, **how).loss_and_grad()
        tolerance = self.tolerance(dtype)
        again = f"{dtype} {isa}; again: python tests/support/gradcheck.py {self.line}"
        assert abs(got_value - value) <= tolerance * max(1, abs(value)), (
            f"loss {got_value} for {value}: {again}"
        )
        for name, grad in grads.items():
            assert abs(grad).max() > gradcheck.VANISHING, f"the gradient of {name} is zero: {again}"
            error = abs(got[name] - grad).max() / abs(grad).max()
            assert error <= tolerance, (
                f"{name} off by {error:.1e} of its largest entry, allowed {tolerance:.1e}: {again}"
            )


class Run:
    """A problem in C: the sequences lie in reverse order with a row of NaN between them."""

    def __init__(self, problem, dtype, isa, threads, capacity=None, **how):
        self.problem, self.core = problem, core()
        self.desc = problem.desc | {"dtype": dtype}
        n, lengths = len(problem.lengths), np.array(problem.lengths)
        self.values, self.offset = self.scatter(problem.x, dtype)
        self.rows = np.concatenate(
            [o + np.arange(steps) for o, steps in zip(self.offset, lengths, strict=True)]
        )
        classes = core().losses()[problem.loss]["targets"] == "class"
        self.targets, self.target_offset = self.scatter(problem.y, np.int64 if classes else dtype)
        weight = self.scatter(problem.weight, dtype)[0] if problem.weight else None
        self.state = None if problem.state is None else problem.state.astype(dtype)
        self.data = self.core.Data(
            self.values, self.offset, lengths, self.target_offset, weight=weight, state=self.state,
            **{"classes" if classes else "targets": self.targets},
        )  # fmt: skip
        self.order = np.arange(n)
        self.params = self.flat(problem.params)
        batch, steps = capacity or (n, int(lengths.max()))
        self.plan = self.core.Plan(
            self.desc,
            loss=problem.loss,
            readout_every_step=problem.every,
            batch=batch,
            steps=steps,
            threads=threads,
            isa=isa,
            input_gradient=True,
            **how,
        )

    @staticmethod
    def scatter(pieces, dtype):
        """Pieces in reverse order with a row of NaN (integers: -1) before each -> array, offsets by piece."""
        pieces = [np.asarray(p, dtype) for p in pieces]
        gap = np.full((1, *pieces[0].shape[1:]), -1 if dtype is np.int64 else np.nan, dtype)
        values = np.concatenate([part for p in reversed(pieces) for part in (gap, p)])
        ends = np.cumsum([1 + len(p) for p in reversed(pieces)])[::-1]
        return values, np.array([end - len(p) for end, p in zip(ends, pieces, strict=True)], np.int64)

    def named(self, flat):
        """{block: view} of a flat vector."""
        pieces = {}
        for name, rows, cols, offset in self.core.blocks(self.desc):
            pieces[name] = flat[offset : offset + rows * (cols or 1)].reshape((rows, cols) if cols else rows)
        return pieces

    def flat(self, named):
        out = np.zeros(self.core.size(self.desc), self.desc["dtype"])
        for name, view in self.named(out).items():
            view[...] = named[name]
        return out

    def loss(self, x):
        """With these inputs, the rows of all sequences."""
        self.values[self.rows] = x
        grad = np.empty_like(self.params)
        status, value = self.plan.loss_and_grad(self.params, self.data, self.order, grad)
        assert status == "OK", status
        return value

    def loss_and_grad(self):
        """Loss and {block, "x", "state": gradient}; outputs are full of NaN before."""
        outputs = (self.params, self.values, self.state)
        grad, dx, dstate = (None if a is None else np.full_like(a, np.nan) for a in outputs)
        status, value = self.plan.loss_and_grad(self.params, self.data, self.order, grad, dx, dstate)
        assert status == "OK", status
        assert np.isnan(np.delete(dx, self.rows, axis=0)).all(), "rows of dx outside the batch were written"
        return value, self.named(grad) | self.problem.arrays(dx[self.rows], dstate)

    def predict(self, every):
        """Outputs, one (rows, O) a sequence, and the final states; "every" needs a problem with it."""
        n, steps = len(self.problem.lengths), [m if every else 1 for m in self.problem.lengths]
        state = np.full((n, ref.state_size(self.problem.desc)), np.nan, self.desc["dtype"])
        starts = np.cumsum([0, *steps])
        data = self.core.Data(
            self.values,
            self.offset,
            np.array(self.problem.lengths),
            starts[:-1].astype(np.int64),
            state=self.state,
        )
        y = np.full((starts[-1], self.desc["output_size"]), np.nan, self.desc["dtype"])
        status = self.plan.predict(self.params, data, np.arange(n), y, every, state)
        assert status == "OK", status
        return np.split(y, starts[1:-1]), state


def named_cases(rows):
    """{id: case} from rows with the name of a form, each with data of its own.

    The bound of float32 is narrow for so many: of half of the seeds one to three of the cases exceed it.
    """
    found = {}
    for n, row in enumerate(rows):
        name = row["form"]
        case = FORMS[name] | {k: v for k, v in row.items() if k != "form"} | {"data_seed": 6000 + n}
        if case.get("loss") in CANCELLING:
            case["weighted"] = True
        found[f"{name}-{n}"] = case
    return found


def gradient_cases():
    """Every pair of values of FACTORS, every triple of STRUCTURE's, and random draws; {id: case}."""
    rows = covering.design({"form": sorted(FORMS)} | FACTORS)
    rows += covering.design({"form": sorted(FORMS)} | STRUCTURE, 3)
    rng = np.random.default_rng(8)
    for _ in range(50):
        draws = {"form": sorted(FORMS)} | FACTORS | {"head_activation": ("tanh", "sigmoid")}  # no kinks
        rows.append({name: values[rng.integers(len(values))] for name, values in draws.items()})
    return named_cases(rows)


def width_cases():
    """Every form at every width, of every two of the sizes; {id: case}."""
    cases = named_cases(covering.design({"form": sorted(FORMS)} | SIZES))
    for case in cases.values():
        case |= dict(
            every=True, data_seed=2, hidden_size=case["hidden_size"] + bool(case.get("proj_size")) * 3
        )
    return cases
