"""Second order: J, J'J and J'r of csrc/ against finite differences and the oracle; products, steps, fits."""

import importlib
import math
from itertools import pairwise

import numpy as np
import pytest
from support import cases
from support import reference as ref

import bptt_fast as bf
from bptt_fast import losses, second_order
from bptt_fast.inference import training_data
from bptt_fast.runners import Job

ISAS = cases.isas()


def never(done):
    return False


MORE = {
    "last": dict(),
    "every": dict(every=True, weighted=True),
    "stack": dict(num_layers=2, every=True, head=(4, 3)),
    "both-ways-last": dict(bidirectional=True, weighted=True, head=(3,)),
    "skip-last": dict(skip=True, input_size=5, head=(3,)),
    "skip-every": dict(skip=True, every=True, weighted=True),
    "skip-both-ways": dict(skip=True, bidirectional=True, every=True, num_layers=2, head=(9,)),
    "both-ways-every": dict(bidirectional=True, every=True, num_layers=2, lengths=(3, 1, 5)),
}


def oracle(problem):
    """{target row: rows [J r]} of every residual with a weight, one backward pass of the oracle each."""
    d, run = problem.desc, problem.run()
    found = {}
    for i, (x, y, state) in enumerate(zip(problem.x, problem.y, problem.state, strict=True)):
        masks = ref.no_masks(d, len(x))
        out, _, tape = ref.layers_forward(d, problem.params, x, state, masks)
        q, head_tape = ref.head_forward(d, problem.params, ref.readout(d, out, x, problem.every))
        for t, o in np.ndindex(*q.shape):
            weight = problem.weight[i][t] if problem.weight else 1.0
            seed = np.zeros(q.shape)
            seed[t, o] = np.sqrt(weight)
            grads = {k: np.zeros(shape) for k, shape in ref.blocks(d).items()}
            drows = ref.head_backward(d, problem.params, head_tape, seed, grads)
            dout, _ = ref.readout_backward(d, out, x, problem.every, drows)
            ref.layers_backward(d, problem.params, tape, dout, masks, grads)
            if weight:
                row = np.append(run.flat(grads), seed[t, o] * (q[t, o] - y[t, o]))
                found[run.target_offset[i] + t, o] = row
    return found


def gauss_newton(problem, dtype="float64", isa=None, batch=None, residuals=5):
    """[J r]'[J r] and {target row: rows [J r]} of the core."""
    run = problem.run(dtype)
    size = run.params.size + 1
    plan = run.core.Plan(
        run.desc, readout_every_step=problem.every, batch=batch or len(problem.lengths),
        steps=max(problem.lengths), isa=isa, residuals=residuals,
    )  # fmt: skip
    gram = np.full((size, size), np.nan, dtype)
    rows = np.full((*run.targets.shape, size), np.nan, dtype)
    assert plan.gauss_newton(run.params, run.data, run.order, gram, rows) == "OK"
    assert np.isfinite(gram[np.triu_indices(size)]).all()
    return np.triu(gram) + np.triu(gram, 1).T, rows


def check(problem, dtype="float64", isa=None, expected=None, **options):
    expected = expected or oracle(problem)
    gram, rows = gauss_newton(problem, dtype, isa, **options)
    tolerance = 10 * problem.tolerance(dtype)
    for at, row in expected.items():
        assert abs(rows[at] - row).max() <= tolerance * abs(row).max(), (at, problem.line)
        rows[at] = np.nan
    assert np.isnan(rows).all(), "rows without a residual were written"
    whole = np.array(list(expected.values()))
    product = whole.T @ whole
    assert abs(gram - product).max() <= tolerance * abs(product).max(), problem.line


@pytest.mark.parametrize("more", MORE.values(), ids=MORE)
@pytest.mark.parametrize("form", cases.FORMS.values(), ids=cases.FORMS)
def test_products_against_numpy(form, more):
    """Every cell, ragged lengths, weights, both readouts, layers and directions, on every instance."""
    problem = cases.Problem(**({"hidden_size": 4} | form | more))
    expected = oracle(problem)
    for isa in ISAS:
        for dtype in ("float64", "float32"):
            check(problem, dtype, isa, expected)


@pytest.mark.slow
@pytest.mark.parametrize("form", ("elman-tanh", "elman-sigmoid", "gru-after", "lstm", "lstm-peephole"))
def test_long_sequences(form):
    """Where J is made forwards, from tangents of the parameters; the last form has none."""
    for more in (
        dict(weighted=True),
        dict(head=(3,), head_activation="sigmoid"),
        dict(hidden_size=9, output_size=4, lengths=(30, 2)),
    ):
        problem = cases.Problem(
            **({"hidden_size": 4, "lengths": (45, 2)} | cases.FORMS[form] | more), every=True
        )
        check(problem, isa=ISAS[-1], residuals=7)
        check(problem, "float32", isa=ISAS[0], batch=1)


@pytest.mark.parametrize(
    "more", (dict(), dict(every=True, weighted=True, bidirectional=True)), ids=("last", "every")
)
@pytest.mark.parametrize("form", cases.FORMS.values(), ids=cases.FORMS)
def test_finite_differences(form, more):
    """J against central differences of the residuals."""
    problem = cases.Problem(**({"hidden_size": 4, "lengths": (3, 1, 4)} | form | more))
    run = problem.run()
    _, rows = gauss_newton(problem)
    weights = problem.weight or [np.ones(len(y)) for y in problem.y]

    def residuals():
        y = run.predict(problem.every)[0]
        parts = zip(y, problem.y, weights, strict=True)
        return np.concatenate([(np.sqrt(w)[:, None] * (p - q)).ravel() for p, q, w in parts])

    targets = [
        rows[at : at + len(y)].reshape(-1, rows.shape[-1])
        for at, y in zip(run.target_offset, problem.y, strict=True)
    ]
    found = np.nan_to_num(np.concatenate(targets))  # rows of weight 0 are not written
    np.testing.assert_allclose(found[:, -1], residuals(), rtol=0, atol=1e-12)
    for i in range(run.params.size):
        kept = run.params[i]
        run.params[i] = kept + 1e-5
        above = residuals()
        run.params[i] = kept - 1e-5
        slope = (above - residuals()) / 2e-5
        run.params[i] = kept
        np.testing.assert_allclose(
            found[:, i], slope, rtol=0, atol=1e-8, err_msg=f"parameter {i} of {problem.line}"
        )


@pytest.mark.parametrize("more", MORE.values(), ids=MORE)
def test_batches_and_blocks(more):
    """However the sequences and the rows of J are cut, the sums are the same; and J'r is the gradient's."""
    problem = cases.Problem(**({"lengths": (4, 1, 7, 4, 2)} | more))
    expected, _ = gauss_newton(problem)
    for batch, residuals in ((5, 1), (2, 3), (1, 64), (3, 2)):
        gram, _ = gauss_newton(problem, batch=batch, residuals=residuals)
        np.testing.assert_allclose(gram, expected, rtol=1e-11, atol=1e-12)
    loss, grads = problem.run().loss_and_grad()
    total = sum(w.sum() for w in problem.weight) if problem.weight else sum(map(len, problem.y))
    scale = total * problem.desc["output_size"]
    assert expected[-1, -1] == pytest.approx(loss * scale)
    flat = problem.run().flat(grads)
    np.testing.assert_allclose(expected[:-1, -1], flat * scale / 2, rtol=1e-9, atol=1e-12)


def test_what_the_core_refuses():
    problem = cases.Problem()
    run = problem.run()
    gram = np.empty((run.params.size + 1,) * 2)
    with pytest.raises(ValueError, match=r"capacity|more sequences"):
        run.plan.gauss_newton(run.params, run.data, run.order, gram)
    for more in (dict(loss="mae"), dict(desc=run.desc | {"recurrent_dropout": 0.5})):
        words = dict(desc=run.desc, loss="mse") | more
        plan = run.core.Plan(words.pop("desc"), batch=4, steps=7, residuals=4, **words)
        with pytest.raises(ValueError, match="description"):
            plan.gauss_newton(run.params, run.data, run.order, gram)
    for words in (
        dict(update_every=2, look_back=4),
        dict(segment=3),
        dict(window_stride=1),
        dict(desc=run.desc | {"initial_state": "trained"}),
        dict(
            desc=run.desc | {"input_size": 2, "output_size": 2},
            readout_every_step=True,
            sampling_probability=0.5,
        ),
    ):
        with pytest.raises(ValueError, match="cannot plan"):
            run.core.Plan(**(dict(desc=run.desc, batch=4, steps=7, residuals=4) | words))
        assert run.core.nbytes(**(dict(desc=run.desc, batch=4, steps=7) | words)) > 0


# ---- products and steps


def network(**options):
    return bf.Network(
        **(
            dict(input_size=2, hidden_size=4, output_size=2, dtype="float64", seed=3, readout="every")
            | options
        )
    )


def series(net, n=5, steps=9, seed=0, classes=False):
    """Ragged sequences, weights with a zero among them, targets of the network's readout."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(2, steps, n)
    x = [rng.normal(size=(m, net.input_size)) for m in lengths]
    for column, (size, _) in net.description.categories:
        for part in x:
            part[:, column] = rng.integers(size, size=len(part))
    shapes = [(m,) if net.readout == "every" else () for m in lengths]
    y = [
        rng.integers(net.output_size, size=s) if classes else rng.normal(size=(*s, net.output_size))
        for s in shapes
    ]
    weight = [rng.uniform(0.5, 2, s) for s in shapes]
    if net.readout == "last":
        return x, np.array(y), np.array(weight)
    weight[0][0] = 0
    return x, y, weight


def job_of(net, x, y, weight, loss="mse"):
    """A fit on these data, as second order sees it."""
    data = training_data(net, x, y, losses.get(loss), net.readout == "every", weight, None, None)
    return Job(
        net=net,
        loss=losses.get(loss),
        unfold=bf.FullBPTT(),
        hyper={},
        first_epoch=0,
        batch_size=None,
        shuffle=False,
        stateful=False,
        sampling_probability=0.0,
        threads=1,
        isa=None,
        train=data,
        split=0.0,
        validation=None,
        given_states=False,
    )


def problem_of(net, x, y, weight, loss="mse"):
    return second_order.Problem(job_of(net, x, y, weight, loss), len(x))


def full(matrix):
    return np.triu(matrix) + np.triu(matrix, 1).T


def product(problem):
    """J'J and J'r of the problem."""
    size = problem.weights.size
    plan = problem.plan(2, 3)
    gram = np.empty((size + 1, size + 1))
    assert plan.gauss_newton(problem.weights, problem.data, problem.order, gram) == "OK"
    return full(gram)


def numbers_of(problem):
    """Weights times outputs: what makes sums of squares of the loss."""
    s = problem.sequences
    return s.weight.sum() * s.targets.shape[1]


EMBEDDING = {"categories": {1: (5, 3)}, "skip": True}


@pytest.mark.parametrize("readout", ("last", "every"))
@pytest.mark.parametrize(
    "more", ({"cell": "elman"}, {"cell": "gru"}, {"cell": "lstm"}, {"cell": "mlp"}, EMBEDDING)
)
def test_gauss_newton_products(more, readout):
    """G v of Hessian-free against J'J of the core."""
    net = network(readout=readout, num_layers=2, head=(3,), **more)
    problem = problem_of(net, *series(net))
    matrix = 2 / numbers_of(problem) * product(problem)[:-1, :-1]
    curvature = second_order._Curvature(problem)
    curvature.begin(problem.weights)
    for v in np.random.default_rng(1).normal(size=(3, net.num_parameters)) * [[1e-6], [1], [1e3]]:
        expected = matrix @ v
        got = curvature.times(v, lambda done: False)
        np.testing.assert_allclose(got, expected, rtol=0, atol=1e-7 * abs(expected).max())
    assert not curvature.times(np.zeros(net.num_parameters), lambda done: False).any()


@pytest.mark.parametrize("loss", ("cross_entropy", "binary_cross_entropy"))
def test_products_of_the_cross_entropies(loss):
    """G = J' H J with the second derivative by the outputs written out, J by differences of the outputs."""
    net = network(output_size=3, readout="last")
    x, y, weight = series(net, classes=loss == "cross_entropy")
    if loss == "binary_cross_entropy":
        y = (y > 0).astype(float)
    problem = problem_of(net, x, y, weight, loss)
    out, start, columns = net.predict(x), net.params.copy(), []
    for i in range(net.num_parameters):
        net.params[i] = start[i] + 1e-6
        above = net.predict(x)
        net.params[i] = start[i] - 1e-6
        columns.append((above - net.predict(x)) / 2e-6)
        net.params[i] = start[i]
    jacobian = np.moveaxis(np.array(columns), 0, -1)  # (n, O, P)
    expected = 0
    for j, o, w in zip(jacobian, out, weight / weight.sum(), strict=True):
        if loss == "cross_entropy":
            p = np.exp(o) / np.exp(o).sum()
            h = np.diag(p) - np.outer(p, p)
        else:
            h = np.diag(1 / (1 + np.exp(-o)) / (1 + np.exp(o))) / len(o)
        expected = expected + w * j.T @ h @ j
    curvature = second_order._Curvature(problem)
    curvature.begin(problem.weights)
    v = np.random.default_rng(1).normal(size=net.num_parameters)
    got = curvature.times(v, lambda done: False)
    np.testing.assert_allclose(got, expected @ v, rtol=0, atol=1e-7 * abs(expected @ v).max())


@pytest.mark.parametrize("more", ({}, EMBEDDING))
def test_structural_damping_is_the_square_of_the_change_of_the_states(more):
    net = network(cell="lstm", proj_size=2, bidirectional=True, head=(3,), **more)
    problem = problem_of(net, *series(net))
    states = second_order._States(problem)
    states.begin(problem.weights)
    wide = second_order._Curvature(problem, states.curvature.desc)
    v = np.random.default_rng(1).normal(size=net.num_parameters)
    got = states.times(v, lambda done: False)
    at = np.concatenate([problem.weights[: states.recurrent], states.identity])
    along = np.concatenate([v[: states.recurrent], 0 * states.identity])
    above, below = (np.zeros_like(wide.outputs[0]) for _ in range(2))
    wide._run(at + 1e-5 * along, above)
    wide._run(at - 1e-5 * along, below)
    change = (above - below) / 2e-5
    assert v @ got == pytest.approx(2 * (change**2).sum() / change.size, rel=1e-6)
    assert not got[states.recurrent :].any() and got.any()


# ---- Levenberg-Marquardt's path


@pytest.mark.parametrize("few", (False, True), ids=("primal", "dual"))
def test_a_step_of_levenberg_marquardt(few):
    """Accepted: w - (J'J + mu I)^-1 J'r, mu divided; with fewer residuals than parameters too."""
    net = network()
    solver = bf.LevenbergMarquardt(100.0, decrease=4.0).runner(job_of(net, *series(net, n=2 if few else 9)))
    problem = solver.problem
    gram = product(problem)
    assert (solver.rows is not None) == few
    start = problem.weights.copy()
    assert solver.iterate(never) == "OK"
    step = np.linalg.solve(gram[:-1, :-1] + 100 * np.eye(start.size), gram[:-1, -1])
    np.testing.assert_allclose(net.params, start - step, rtol=1e-8, atol=1e-10)
    assert solver.damping == 25
    assert solver.loss == problem.loss(net.params) < gram[-1, -1] / numbers_of(problem)


def test_levenberg_marquardt_rejects():
    """A step that does not lower the loss is not made; the same J is tried with more damping."""
    net = network()
    solver = bf.LevenbergMarquardt(1e-6, increase=7.0, decrease=5.0).runner(job_of(net, *series(net, n=9)))
    problem = solver.problem
    gram = product(problem)
    start, tried, calls = problem.weights.copy(), [], 0
    real = problem.loss

    def loss(weights):
        nonlocal calls
        calls += 1
        if 1 < calls < 5:  # after that of the start, three steps fail
            tried.append(weights)
            return [math.inf, 1e9, real(start)][calls - 2]
        return real(weights)

    problem.loss = loss
    solver.damping = 10.0
    assert solver.iterate(never) == "OK"
    for weights, damping in zip([*tried, net.params], 10 * 7.0 ** np.arange(4), strict=True):
        step = np.linalg.solve(gram[:-1, :-1] + damping * np.eye(start.size), gram[:-1, -1])
        np.testing.assert_allclose(weights, start - step, rtol=1e-7, atol=1e-9)
    assert solver.damping == pytest.approx(10 * 7.0**3 / 5)


def test_levenberg_marquardt_gives_up():
    """Where no damping helps the network stays as it was."""
    net = network()
    solver = bf.LevenbergMarquardt().runner(job_of(net, *series(net)))
    problem = solver.problem
    problem.loss = lambda weights: 1.0
    before = net.params.copy()
    assert solver.iterate(never) == "CONVERGED"
    assert (net.params == before).all()


def equations(dtype, isa):
    """A plan that solves linear equations."""
    desc = dict(input_size=1, hidden_size=3, output_size=1, dtype=dtype)
    return importlib.import_module("bptt_fast._core").Plan(desc, batch=1, steps=1, isa=isa, residuals=1)


def system(matrix, right, dtype):
    """What the core's `solve` overwrites, with numbers where it must not read any."""
    n = len(right)
    width = -(-(n + 1) // 16) * 16
    rows = np.zeros((width, width), dtype)
    rows[:n, :n], rows[:n, n] = -matrix, -right
    rows[np.tril_indices(n, -1)] = 7
    return rows


@pytest.mark.parametrize("isa", cases.isas())
@pytest.mark.parametrize("size", (1, 15, 16, 17, 63, 64, 65, 200))
def test_linear_algebra(size, isa):
    for dtype, tolerance in (("float64", 1e-11), ("float32", 1e-3)):
        a = np.random.default_rng(size).normal(size=(size + 9, -(-size // 16) * 16)).astype(dtype)
        plan, product = equations(dtype, isa), np.zeros((a.shape[1],) * 2, dtype)
        assert plan.gram(a, product) == "OK"
        np.testing.assert_allclose(np.triu(product), np.triu(a.T @ a), rtol=tolerance, atol=10 * tolerance)
        matrix, solution = product[:size, :size] + np.eye(size), np.empty(size, dtype)
        assert plan.solve(system(matrix, a[0, :size], dtype), solution) == "OK"
        symmetric = np.triu(matrix) + np.triu(matrix, 1).T
        np.testing.assert_allclose(symmetric @ solution, a[0, :size], rtol=tolerance, atol=30 * tolerance)


@pytest.mark.parametrize("at", (0, 2, 70, 199))
@pytest.mark.parametrize("value", (0.0, -1.0, np.nan, np.inf))
def test_a_singular_system_is_a_rejection(value, at):
    matrix, solution = np.eye(200), np.empty(200)
    matrix[at, at] = value
    assert equations("float64", None).solve(system(matrix, np.ones(200), "float64"), solution) == "DIVERGED"


def test_linear_algebra_can_be_interrupted():
    size, plan = 2000, equations("float64", None)
    rows, solution = system(np.eye(size), np.ones(size), "float64"), np.empty(size)
    assert plan.solve(rows, solution, lambda done: True) == "INTERRUPTED"
    assert plan.gram(np.ones_like(rows), np.zeros_like(rows), lambda done: True) == "INTERRUPTED"
    with pytest.raises(ZeroDivisionError):
        plan.gram(np.ones_like(rows), rows, lambda done: 1 / 0)


def test_linear_algebra_of_other_shapes():
    plan = equations("float64", None)
    for rows, solution in ((np.zeros((12, 12)), np.empty(3)), (np.zeros((16, 16)), np.empty(16))):
        with pytest.raises(ValueError, match="than the plan"):
            plan.solve(rows, solution)
    with pytest.raises(ValueError):
        plan.gram(np.zeros((3, 16)), np.zeros((16, 12)))
    with pytest.raises(ValueError, match="than the plan"):
        cases.Problem().run().plan.gram(np.zeros((3, 16)), np.zeros((16, 16)))


BLAS = """
import hashlib
import numpy as np
import bptt_fast as bf
digest = hashlib.sha256()
for method, units, samples in (
    (bf.LevenbergMarquardt(), 16, 40),
    (bf.LevenbergMarquardt(), 30, 1),
    (bf.LBFGS(), 110, 2),
    (bf.HessianFree(), 110, 2),
):
    x = np.sin(np.arange(samples * 30.0)).reshape(samples, 30, 1)
    net = bf.Network(1, units, 1, readout="every", dtype="float64", seed=0)
    net.fit(x, np.cos(x), optimizer=method, epochs=4, verbose=0)
    digest.update(net.params)
print(digest.hexdigest())
"""


def test_bits_do_not_depend_on_the_threads_of_blas(python):
    """Of products of 300 parameters, of 30 residuals with more parameters, and sums over 12,000 of them."""
    found = set()
    for threads in ("1", "2"):
        done = python("-c", BLAS, env={"OPENBLAS_NUM_THREADS": threads})
        assert done.returncode == 0, done.stderr
        found.add(done.stdout)
    assert len(found) == 1


# ---- in fit

METHODS = (bf.LBFGS(), bf.LevenbergMarquardt(), bf.HessianFree(), bf.HessianFree(structural_damping=0.1))


def by_name(method):
    return type(method).__name__


def wave(dtype="float64", **options):
    x = np.sin(np.arange(240) / 5).reshape(24, 10, 1)
    return bf.Network(1, 4, 1, dtype=dtype, seed=0, **options), x[:, :-1], x[:, -1]


@pytest.mark.parametrize("method", METHODS, ids=by_name)
@pytest.mark.parametrize("dtype", ("float32", "float64"))
def test_losses_fall_and_are_those_of_the_network(method, dtype):
    net, x, y = wave(dtype)
    start = net.evaluate(x, y)
    history = net.fit(x, y, optimizer=method, epochs=40, verbose=0)
    assert all(b < a for a, b in pairwise(history["loss"])), "an iteration did not lower the loss"
    assert history["loss"][0] < start and history["loss"][-1] < 1e-3 * start
    assert net.evaluate(x, y) == pytest.approx(history["loss"][-1], rel=1e-9 if dtype == "float64" else 1e-2)


@pytest.mark.parametrize("method", METHODS, ids=by_name)
def test_equal_seeds_give_equal_bits(method):
    runs = []
    for threads in (1, 2):
        net, x, y = wave()
        net.fit(x, y, optimizer=method, epochs=5, verbose=0, threads=threads)
        runs.append(net.params.tobytes())
    assert runs[0] == runs[1]


@pytest.mark.parametrize("method", METHODS, ids=by_name)
@pytest.mark.parametrize("options", (dict(cell="gru", readout="every"), dict(cell="lstm", num_layers=2)))
def test_ragged_weighted_validated(method, options):
    net = network(**({"readout": "last"} | options))
    x, y, weight = series(net, n=12)
    history = net.fit(
        x, y, optimizer=method, epochs=4, sample_weight=weight, validation_split=0.25, verbose=0,
        x0=np.full((12, net.state_size), 0.3),
    )  # fmt: skip
    assert (
        list(history) == ["epoch", "loss", "val_loss", "seconds"] and history["loss"][-1] < history["loss"][0]
    )
    got = net.evaluate(x[:9], y[:9], sample_weight=weight[:9], x0=np.full((9, net.state_size), 0.3))
    assert got == pytest.approx(history["loss"][-1])


@pytest.mark.parametrize("method", (bf.LBFGS(), bf.HessianFree()), ids=by_name)
def test_classes(method):
    net = network(readout="last", output_size=3)
    x, y, _ = series(net, n=12, classes=True)
    history = net.fit(x, y, optimizer=method, loss="cross_entropy", epochs=15, verbose=0)
    assert history["loss"][-1] < 0.5 * history["loss"][0]


@pytest.mark.parametrize("method", METHODS[:3], ids=by_name)
def test_the_loop_is_the_usual_one(method):
    """Callbacks, patience, target, time: as with any optimiser."""
    calls = []

    class Watch(bf.Callback):
        def on_epoch_begin(self, epoch, logs):
            calls.append(("begin", epoch))

        def on_epoch_end(self, epoch, logs):
            calls.append(("end", epoch, logs["loss"]))
            return epoch == 2

    net, x, y = wave()
    history = net.fit(x, y, optimizer=method, epochs=9, callbacks=[Watch()], verbose=0)
    assert [call[:2] for call in calls] == [(what, i) for i in range(3) for what in ("begin", "end")]
    assert [call[2] for call in calls[1::2]] == history["loss"]
    assert history.stopped == "callback" and history["epoch"] == [1, 2, 3]

    net, x, y = wave()
    history = net.fit(x, y, optimizer=method, epochs=200, patience=bf.Stopping(target_loss=1e-3), verbose=0)
    assert history.stopped == "target_loss" and history["loss"][-1] <= 1e-3 < history["loss"][-2]

    net, x, y = wave()
    rules = bf.Stopping(patience=2, min_delta=1.0)
    history = net.fit(x, y, optimizer=method, epochs=200, patience=rules, verbose=0)
    assert history.stopped == "patience" and history.best_epoch == 1
    assert net.evaluate(x, y) == pytest.approx(history["loss"][0])

    net, x, y = wave()
    before = net.params.copy()
    history = net.fit(x, y, optimizer=method, epochs=200, patience=bf.Stopping(max_seconds=1e-9), verbose=0)
    assert history.stopped == "max_seconds" and len(history["loss"]) <= 1
    assert history["loss"] or (net.params == before).all()


@pytest.mark.parametrize("method", METHODS[:3], ids=by_name)
def test_convergence_is_told(method):
    """At a minimum with residuals left no step lowers the loss: no further epoch is recorded."""
    net = bf.Network(1, 1, 1, nonlinearity="linear", dtype="float64", seed=1)
    x, y = np.random.default_rng(0).normal(size=(2, 30, 1))
    history = net.fit(x[:, None], y, optimizer=method, epochs=500, verbose=0)
    assert history.stopped == "converged" and 0 < len(history["loss"]) < 500
    assert abs(net.loss_and_grad(x[:, None], y)[1].flat).max() < 1e-5
    again = net.fit(x[:, None], y, optimizer=method, epochs=9, verbose=0)
    assert again.stopped == "converged" and len(again["loss"]) <= 2


@pytest.mark.parametrize("method", METHODS[:3], ids=by_name)
def test_errors_of_callbacks_and_numbers_pass_through(method):
    class Fails(bf.Callback):
        def on_epoch_end(self, epoch, logs):
            raise RuntimeError("mine")

    net, x, y = wave()
    with pytest.raises(RuntimeError, match="mine"):
        net.fit(x, y, optimizer=method, epochs=3, callbacks=[Fails()], verbose=0)

    class Stops(bf.Callback):
        def on_epoch_begin(self, epoch, logs):
            if epoch == 2:
                raise KeyboardInterrupt

    net, x, y = wave()
    with pytest.raises(KeyboardInterrupt) as caught:
        net.fit(x, y, optimizer=method, epochs=5, callbacks=[Stops()], verbose=0)
    assert len(caught.value.history["loss"]) == 2
    assert net.evaluate(x, y) == pytest.approx(caught.value.history["loss"][-1])

    net, x, y = wave()
    before = net.params.copy()
    with pytest.raises(bf.DivergedError, match="epoch 1, iteration 1"):
        net.fit(x, y * 1e200, optimizer=method, verbose=0)
    assert (net.params == before).all()


def test_a_callback_may_change_the_weights():
    """Levenberg-Marquardt continues from what it finds in the network."""

    class Reset(bf.Callback):
        def on_epoch_end(self, epoch, logs):
            if epoch == 3:
                self.model.params[:] = self.start

    net, x, y = wave()
    hook = Reset()
    hook.start = net.params.copy()
    history = net.fit(x, y, optimizer=bf.LevenbergMarquardt(), epochs=5, callbacks=[hook], verbose=0)
    assert history["loss"][4] > history["loss"][3]


def test_by_name():
    for name in ("lbfgs", "levenberg_marquardt", "hessian_free"):
        net, x, y = wave()
        assert len(net.fit(x, y, optimizer=name, epochs=2, verbose=0)["loss"]) == 2


NAMES = ("LBFGS", "LevenbergMarquardt", "HessianFree")


@pytest.mark.parametrize("method", METHODS[:3], ids=by_name)
def test_impossible_with_every_method(method):
    name = by_name(method)
    net, x, y = wave()
    before = net.params.copy()
    for options, text in (
        (dict(batch_size=8), f"batch_size: expected None, or at least all 24 sequences, with {name}.*got 8"),
        (dict(stateful=True), f"stateful: expected False with {name}"),
        (dict(teacher_forcing=0.5), f"teacher_forcing: expected 1 with {name}"),
        (dict(bptt=bf.CheckpointedBPTT()), rf"bptt: {name} .*expects FullBPTT\(\), got CheckpointedBPTT"),
        (dict(bptt=bf.SlidingBPTT(3)), rf"bptt: {name} .*expects FullBPTT\(\), got SlidingBPTT"),
        (dict(loss="mae" if name != "LBFGS" else "nothing"), "loss: .*"),
    ):
        with pytest.raises(bf.ConfigError, match=text):
            net.fit(x, y, optimizer=method, verbose=0, **options)
    dropping = bf.Network(1, 4, 1, recurrent_dropout=0.2)
    with pytest.raises(bf.ConfigError, match=f"{name} expects a network without dropout"):
        dropping.fit(x, y, optimizer=method, verbose=0)
    trained = bf.Network(1, 4, 1, initial_state="trained")
    with pytest.raises(bf.ConfigError, match=f'{name} expects a network with initial_state="zeros"'):
        trained.fit(x, y, optimizer=method, verbose=0)
    wave_ = np.sin(np.arange(40) / 5)[:, None]
    with pytest.raises(bf.ConfigError, match=f"x: .*{name}, got windows"):
        net.fit(bf.Sequences.windows(wave_, 5), wave_, optimizer=method, verbose=0)
    with pytest.raises(bf.ConfigError, match=f"learn_online: .*{name}"):
        net.learn_online(bf.SlidingBPTT(3), optimizer=method)
    assert (net.params == before).all()


def test_what_to_use_instead():
    net, x, y = wave()
    for loss, instead in (("cross_entropy", r"HessianFree\(\) or LBFGS"), ("huber", r"LBFGS\(\)")):
        with pytest.raises(
            bf.ConfigError, match=f'sum of squares and expects "mse", got "{loss}".*Use {instead}'
        ):
            net.fit(x, y, optimizer=bf.LevenbergMarquardt(), loss=loss, verbose=0)
    with pytest.raises(bf.ConfigError, match=r'curvature everywhere.*got "huber".*Use LBFGS'):
        net.fit(x, y, optimizer=bf.HessianFree(), loss="huber", verbose=0)
    large = bf.Network(1, 100, 1)
    with pytest.raises(bf.ConfigError, match=r"at most 5000, got 10401.*Use HessianFree"):
        large.fit(x, y, optimizer=bf.LevenbergMarquardt(), verbose=0)
    with pytest.raises(bf.ConfigError, match=r"optimizer: expected one of SGD\(...\).*LBFGS\(...\)"):
        net.fit(x, y, optimizer=3, verbose=0)


@pytest.mark.parametrize("method", METHODS[:3], ids=by_name)
def test_restarts_are_fits(method):
    """Also where the copies take turns."""
    net, x, y = wave()
    options = dict(optimizer=method, epochs=6)
    _, table = bf.restarts(net, x, y, n=3, seeds=[5, 6, 7], keep="all", verbose=0, **options)
    for seed in (5, 6, 7):
        single = bf.Network(1, 4, 1, dtype="float64", seed=seed)
        history = single.fit(x, y, verbose=0, **options)
        row = table["seed"].index(seed)
        assert table["loss"][row] == history["loss"][-1] and table["epochs"][row] == 6
    with pytest.raises(bf.ConfigError, match=f"learning_rate: {by_name(method)} has none"):
        grid = {"optimizer": [method], "learning_rate": [0.1]}
        bf.restarts(net, x, y, n=1, epochs=2, grid=grid, verbose=0)


@pytest.mark.parametrize("method", METHODS[:3], ids=by_name)
def test_copies_are_dropped_at_rungs(method):
    net, x, y = wave()
    _, table = bf.restarts(net, x, y, n=4, epochs=8, optimizer=method, verbose=0)
    assert table["epochs"] == [8, 4, 2, 2] and table.rungs == [2, 4]


def test_a_line_search_ends_at_a_point_that_is_flat_and_lower():
    """The strong Wolfe conditions, for long and short first steps, also where the loss overflows."""
    net, x, y = wave()
    job = job_of(net, x, y, None)
    for scale in (1e-6, 1e-3, 1.0, 1e3, 1e6, 1e160):
        solver = bf.LBFGS(max_evaluations=200).runner(job)
        weights = solver.problem.begin()
        solver.loss, solver.grad = solver.gradients(weights)
        solver.pairs = [(weights, weights)]  # the first step is then 1
        direction = -scale * solver.grad
        found, slope = solver._search(weights, direction, never), float((solver.grad * direction).sum())
        loss, grad = solver.gradients(weights + found.step * direction)
        assert (loss, found.slope) == (found.loss, (grad * direction).sum())
        assert loss <= solver.loss + 1e-3 * found.step * slope and abs(found.slope) <= -0.9 * slope
        assert solver._search(weights, -direction, never) is None


@pytest.mark.parametrize("method", METHODS[:3], ids=by_name)
def test_callbacks_without_a_learning_rate(method, tmp_path):
    net, x, y = wave()
    log = bf.callbacks.CSVLogger(tmp_path / "log.csv")
    net.fit(x, y, optimizer=method, epochs=2, callbacks=log, verbose=0)
    assert (tmp_path / "log.csv").read_text().splitlines()[1].endswith("nan")
    with pytest.raises(bf.ConfigError, match=r"ReduceLROnPlateau: .*second order"):
        reduce = bf.callbacks.ReduceLROnPlateau()
        net.fit(x, y, optimizer=method, epochs=2, callbacks=reduce, verbose=0)


@pytest.mark.parametrize(
    "call",
    (
        lambda: bf.LBFGS(0),
        lambda: bf.LBFGS(max_evaluations=1),
        lambda: bf.LBFGS(gradient_tolerance=0),
        lambda: bf.LevenbergMarquardt(0),
        lambda: bf.LevenbergMarquardt(increase=1),
        lambda: bf.LevenbergMarquardt(decrease=0.5),
        lambda: bf.LevenbergMarquardt(max_damping=1),
        lambda: bf.HessianFree(-1),
        lambda: bf.HessianFree(structural_damping=-1),
        lambda: bf.HessianFree(max_products=0),
        lambda: bf.HessianFree(warm_start=1.1),
        lambda: bf.HessianFree(tolerance=0),
        lambda: bf.HessianFree(max_damping=1e-9),
    ),
)
def test_numbers_out_of_range(call):
    with pytest.raises(bf.ConfigError, match=r"(LBFGS|LevenbergMarquardt|HessianFree)\(\w+\): expected"):
        call()
