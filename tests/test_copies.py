"""Copies of a network in the lanes of vectors: each is a single fit to the bit, whatever the others do."""

import itertools

import numpy as np
import pytest
from support import cases

import bptt_fast as bf

VECTORS = [
    (isa, dtype, nbytes // np.dtype(dtype).itemsize)
    for isa, nbytes in (("avx2", 32), ("avx512", 64))
    for dtype in ("float32", "float64")
    if isa in cases.isas()
]
OPTIMIZERS = {
    "sgd": bf.SGD(0.03),
    "momentum": bf.SGD(0.02, momentum=0.9),
    "nesterov": bf.SGD(0.02, momentum=0.9, nesterov=True, weight_decay=0.01),
    "decay of weights": bf.SGD(0.02, weight_decay=0.01, decay_biases=False),
    "amplifying decay": bf.SGD(0.02, weight_decay=1.5),
    "clip": bf.SGD(0.05, clip_norm=0.3),
    "clip by value": bf.SGD(0.05, clip_norm=0.5, clip_value=0.05),
    "clip of states": bf.SGD(0.05, clip_state=0.05),
    "adam": bf.Adam(0.01),
    "adam with all": bf.Adam(0.01, clip_norm=0.2, weight_decay=0.01),
    "adamw": bf.AdamW(0.01, weight_decay=0.1, decay_biases=False),
    "nadam": bf.NAdam(0.01),
    "rmsprop": bf.RMSprop(0.01),
    "rmsprop with all": bf.RMSprop(0.01, centered=True, momentum=0.5),
    "adagrad": bf.Adagrad(0.05),
    "rprop": bf.Rprop(0.01),
}
by_vector = pytest.mark.parametrize("isa, dtype, lanes", VECTORS, ids=lambda value: str(value))


class Copies:
    """Copies of a network with their numbers, and what single runs make of each."""

    def __init__(
        self,
        isa,
        dtype,
        optimizer="sgd",
        *,
        k=3,
        lead=1,
        loss="mse",
        lengths=(40, 4, 23),
        weighted=False,
        count=None,
        rates=None,
        single_isa=None,
        **network,
    ):
        random = np.random.default_rng(0)
        network = {"input_size": 2, "hidden_size": 5, "output_size": 1, "dtype": dtype} | network
        inputs, outputs, rows = network["input_size"], network["output_size"], sum(lengths)
        network["output_size"] *= cases.core().losses()[loss]["outputs"] or 1
        self.k, self.lead, self.dtype = k, lead, dtype
        self.x = random.normal(size=(rows, inputs)).astype(dtype)
        self.y = random.normal(size=(rows, outputs)).astype(dtype)
        self.classes = None
        if loss == "binary_cross_entropy":
            self.y = (self.y > 0).astype(dtype)
        if loss in ("poisson", "negative_binomial"):
            self.y = random.poisson(3.0, self.y.shape).astype(dtype)
        if loss == "cross_entropy":
            self.y, self.classes = None, random.integers(0, outputs, rows)
        self.weight = random.integers(0, 3, rows).astype(dtype) if weighted else None
        self.state = random.normal(size=(len(lengths), network["hidden_size"])).astype(dtype)
        self.length, self.order = np.array(lengths), np.arange(len(lengths))[::-1].copy()
        self.desc = bf.Network(**network).desc()
        self.how = dict(loss=loss, batch=1, steps=k, isa=single_isa or isa)
        self.together = cases.core().Plan(
            self.desc, **self.how | {"isa": isa}, lanes="copies", single_isa=single_isa
        )
        assert self.together.lanes == "copies"
        self.count = count or self.together.copies
        self.params = [bf.Network(**network, seed=seed).params for seed in range(self.count)]
        self.hyper = [OPTIMIZERS[optimizer].hyper(seed) for seed in range(self.count)]
        for hyper, rate in zip(self.hyper, () if rates is None else rates, strict=False):
            hyper["learning_rate"] *= rate

    def data(self, length=None):
        length = self.length if length is None else length
        offset = np.concatenate([[0], np.cumsum(self.length)[:-1]])
        return cases.core().Data(
            self.x, offset, length, offset, self.y, self.classes, self.weight, self.state
        )

    def start(self):
        """The arguments of a run for each copy, which it changes."""
        vectors = cases.core().state_vectors(self.hyper[0]["optimizer"])
        patterns = np.maximum(0, self.length - self.k - self.lead + 1).sum()
        return [
            (
                params.copy(),
                np.zeros(vectors * params.size, self.dtype),
                dict(hyper),
                np.full(patterns, np.nan),
            )
            for params, hyper in zip(self.params, self.hyper, strict=True)
        ]

    def run(self, start, poll=None):
        return self.together.slide_copies(start, self.data(), self.order, self.k, self.lead, poll)

    def run_single(self, one, length=None):
        plan = cases.core().Plan(self.desc, **self.how)
        params, vectors, hyper, losses = one
        return plan.slide(params, vectors, hyper, self.data(length), self.order, self.k, self.lead, losses)

    def check(self, epochs=2):
        """Runs both, and returns the statuses of the last epoch."""
        singles, copies = self.start(), self.start()
        for _ in range(epochs):
            with np.errstate(all="ignore"):
                ends = [self.run_single(one) for one in singles]
                assert self.run(copies) == ends
            for single, copy in zip(singles, copies, strict=True):
                assert same(single, copy)
        return [status for status, _ in ends]


def same(single, copy):
    """Weights, optimiser state, counters and losses, to the bit."""
    return single[2] == copy[2] and all(
        a.tobytes() == b.tobytes() for a, b in zip(single, copy, strict=True) if isinstance(a, np.ndarray)
    )


@by_vector
def test_sizes(isa, dtype, lanes):
    widths = (1, 2, 3, lanes - 1, lanes, lanes + 1)
    for hidden in widths:
        for inputs, k in zip(widths, (1, 2, 3, 5, 1, 4), strict=True):
            Copies(isa, dtype, k=k, input_size=inputs, hidden_size=hidden).check(1)
    for hidden, outputs in itertools.product((8, 16, 5), (1, 2, 5, lanes, lanes + 1)):
        Copies(isa, dtype, hidden_size=hidden, output_size=outputs).check(1)


@by_vector
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_optimizers(optimizer, isa, dtype, lanes):
    """Copies with one learning rate, and with a rate each; with constant sizes and without."""
    for hidden, outputs, rates in ((8, 1, None), (5, 3, None), (lanes + 1, 1, np.linspace(0.5, 2, lanes))):
        sizes = dict(hidden_size=hidden, output_size=outputs)
        Copies(isa, dtype, optimizer, **sizes, weighted=True, rates=rates).check()


@by_vector
@pytest.mark.parametrize("loss", cases.LOSSES)
def test_losses(loss, isa, dtype, lanes):
    for outputs in (2, 3, lanes, lanes + 1):
        Copies(isa, dtype, loss=loss, output_size=outputs, weighted=True).check(1)


@by_vector
@pytest.mark.parametrize("loss", cases.LOSSES)
def test_units_that_fill_a_vector(loss, isa, dtype, lanes):
    """Single runs of these, with one output, keep states and updates in registers."""
    for hidden, inputs, k, weighted in ((lanes, 1, 3, False), (lanes, 5, 1, True), (2 * lanes, 1, 2, True)):
        sizes = dict(hidden_size=hidden, input_size=inputs, output_size=1 + (loss == "cross_entropy"))
        Copies(isa, dtype, loss=loss, k=k, **sizes, weighted=weighted).check(1)


@by_vector
def test_large_gradients_of_units_that_fill_a_vector(isa, dtype, lanes):
    """Whatever is large: weights, inputs, targets, the context, the rate.  None may pass for small."""
    huge = np.sqrt(np.finfo(dtype).max) * np.logspace(-12, 12, 5)
    for what in ("params", "x", "y", "state"):
        copies = Copies(isa, dtype, hidden_size=lanes)
        for j, params in enumerate(copies.params if what == "params" else ()):
            params[:: 1 + j] = huge[j % len(huge)]
        if what != "params":
            getattr(copies, what).flat[7 : 7 + len(huge)] = huge
        copies.check()
    assert set(Copies(isa, dtype, hidden_size=lanes, rates=np.logspace(0, 36, lanes)).check()) == {
        "OK",
        "DIVERGED",
    }


@pytest.mark.skipif("avx512" not in cases.isas(), reason="needs two instruction sets")
@pytest.mark.parametrize("dtype", ("float32", "float64"))
def test_single_runs_on_another_instruction_set(dtype):
    for optimizer in OPTIMIZERS:
        Copies("avx512", dtype, optimizer, single_isa="avx2", hidden_size=8).check()
    for loss in cases.LOSSES:
        Copies("avx512", dtype, loss=loss, output_size=4, single_isa="avx2").check(1)
    with pytest.raises(AssertionError):
        Copies("avx512", dtype, loss="cross_entropy", output_size=9, single_isa="avx2")
    with pytest.raises(AssertionError):
        Copies("avx512", dtype, single_isa="base")


@by_vector
@pytest.mark.parametrize("activation", cases.core().activations())
def test_activations(activation, isa, dtype, lanes):
    Copies(isa, dtype, nonlinearity=activation, lead=0).check()


@by_vector
@pytest.mark.parametrize("optimizer", ("sgd", "adam with all", "nadam"))
def test_fewer_copies_than_lanes(optimizer, isa, dtype, lanes):
    for count in (1, 2, lanes - 1):
        Copies(isa, dtype, optimizer, count=count).check()


@by_vector
@pytest.mark.parametrize("optimizer", ("sgd", "clip", "adam with all", "nadam", "rprop"))
def test_a_copy_that_diverges_leaves_the_others_alone(optimizer, isa, dtype, lanes):
    """Whichever it is: the first, whose numbers are those of all, one in the middle, the last."""
    for bad in ((0,), (1, lanes - 1), tuple(range(lanes - 1))):
        copies = Copies(isa, dtype, optimizer, nonlinearity="relu", weighted=True)
        with np.errstate(over="ignore"):
            for j in bad:
                copies.params[j] *= np.float64(1e4) ** (1 + j)
        copies.params[bad[0]][:] = np.inf
        ends = copies.check()
        assert ends[bad[0]] == "DIVERGED" and ends.count("OK") >= lanes - len(bad)
    for rates in ([1e36] * lanes, np.logspace(0, 36, lanes)):
        Copies(isa, dtype, optimizer, nonlinearity="relu", rates=rates).check()


@by_vector
def test_schedules(isa, dtype, lanes):
    """Rates of their own for each update: the same for all copies, or not."""
    for factor in (0, 1):
        copies = Copies(isa, dtype, "adam")
        for j, hyper in enumerate(copies.hyper):
            hyper["rates"] = np.linspace(0.01, 0.001, 100) / (1 + factor * j)
        copies.check()


@by_vector
def test_an_interrupted_run_ends_between_two_patterns(isa, dtype, lanes):
    copies = Copies(isa, dtype, "momentum", lengths=(200000,), k=10, hidden_size=16)
    start, calls = copies.start(), []

    def poll(done):
        calls.append(done)
        return len(calls) == 2

    ends = copies.run(start, poll)
    assert {status for status, _ in ends} == {"INTERRUPTED"}
    (done,) = {done for _, done in ends}
    assert 0 < done < copies.length[0] - 100
    singles = copies.start()
    for single, copy in zip(singles[:2], start, strict=False):
        assert copies.run_single(single, np.array([done + copies.k + copies.lead - 1])) == ("OK", done)
        single[3][done:] = copy[3][done:]
        assert same(single, copy)


def test_an_error_of_the_poll_is_raised():
    isa, dtype, _ = VECTORS[0] if VECTORS else pytest.skip("no instance with lanes along copies")
    copies = Copies(isa, dtype, lengths=(200000,))
    start = copies.start()

    def poll(done):
        raise KeyError("of the caller")

    with pytest.raises(KeyError, match="of the caller"):
        copies.run(start, poll)
    assert all(
        np.isfinite(params).all() and (params != old).any()
        for (params, *_), old in zip(start, copies.params, strict=True)
    )


# what is wrong: how it changes the weights and the numbers of a single run
MUTANTS = {
    "the weights of the next lane": lambda single, other: single[0].__setitem__(slice(None), other[0]),
    "one weight of the next lane": lambda single, other: single[0].__setitem__(-1, other[0][-1]),
    "one bit of a weight": lambda single, other: single[0].__setitem__(0, np.nextafter(single[0][0], 9)),
    "the rate of the next lane": lambda single, other: single[2].update(
        learning_rate=other[2]["learning_rate"]
    ),
    "the limit of the next lane": lambda single, other: single[2].update(clip_norm=other[2]["clip_norm"]),
    "no sums of squares": lambda single, other: single[2].update(clip_norm=0.0),
}


@by_vector
@pytest.mark.parametrize("mutant", MUTANTS)
def test_mutants_are_caught(mutant, isa, dtype, lanes):
    """What `check` compares differs if a copy is not trained as its single run is."""
    copies = Copies(isa, dtype, "clip", rates=np.linspace(0.5, 2, lanes))
    for j, hyper in enumerate(copies.hyper):
        hyper["clip_norm"] = 0.1 + 0.01 * j
    singles, together = copies.start(), copies.start()
    copies.run(together)
    MUTANTS[mutant](singles[1], singles[2])
    copies.run_single(singles[1])
    assert not same(singles[1], together[1])
    copies.run_single(singles[0])
    assert same(singles[0], together[0])


def test_what_cannot_be_copies():
    """Other forms have another plan; numbers that copies must have in common are checked."""
    isa, dtype, _ = VECTORS[0] if VECTORS else pytest.skip("no instance with lanes along copies")

    def plan(batch=1, **network):
        desc = bf.Network(**{"input_size": 2, "hidden_size": 5, "output_size": 1} | network).desc()
        return cases.core().Plan(desc, batch=batch, steps=3, isa=isa, lanes="copies")

    for form in (dict(num_layers=2), dict(head=(3,)), dict(hidden_size=200), dict(bidirectional=True)):
        assert (plan(**form).copies, plan(**form).lanes) == (0, "units")
    assert plan(batch=2).copies == 0
    for name, value in (("clip_value", 0.5), ("nesterov", True), ("noise", 0.1), ("optimizer", "adam")):
        copies = Copies(isa, dtype, "momentum")
        start = copies.start()
        start[1][2][name] = value
        before = [params.copy() for params, *_ in start]
        with pytest.raises(ValueError):
            copies.run(start)
        assert all((params == old).all() for (params, *_), old in zip(start, before, strict=True))
    copies = Copies(isa, dtype)
    with pytest.raises(ValueError, match="more sequences"):
        copies.run(copies.start() + copies.start()[:1])
