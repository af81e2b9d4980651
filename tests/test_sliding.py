"""The classical online algorithm and minibatch training: after an epoch the C weights are the oracle's."""

import cases
import numpy as np
import pytest
import reference as ref

FORMS = {k: form for k, form in cases.FORMS.items() if form["cell"] in ("elman", "mlp")}
SGD = dict(optimizer="sgd", learning_rate=0.02)
OPTIMIZERS = {
    "sgd": SGD,
    "momentum": SGD | dict(momentum=0.8),
    "nesterov": SGD | dict(momentum=0.8, nesterov=True),
    "decay": SGD | dict(weight_decay=0.01),
    "clip": SGD | dict(clip_norm=0.3),
    "adam": dict(optimizer="adam", learning_rate=0.01),
    "adam-all": dict(
        optimizer="adam",
        learning_rate=0.01,
        beta1=0.8,
        beta2=0.95,
        eps=1e-6,
        weight_decay=0.01,
        clip_norm=0.3,
    ),
}


def hyper(options):
    """A plan's hyper dict with every key."""
    full = vars(ref.Optimizer(**options))
    return {k: v for k, v in full.items() if k not in ("m", "v")}


class Training:
    """A problem with a target row a step, trained by the oracle and by C from the same weights."""

    def __init__(self, dtype="float64", isa=None, threads=1, optimizer=SGD, **case):
        self.problem = cases.Problem(**dict(every=True, gain=0.5) | case)
        self.run = self.problem.run(dtype, isa, threads)
        self.hyper, self.oracle = hyper(optimizer), ref.Optimizer(**optimizer)
        core = cases.core()
        vectors = core.state_vectors(self.hyper["optimizer"])
        self.slots = np.zeros(vectors * core.size(self.problem.desc), dtype)

    def plan(self, **sizes):
        self.sizes = sizes
        p, run = self.problem, self.run
        return cases.core().Plan(run.desc, loss=p.loss, isa=run.plan.isa, threads=run.plan.threads, **sizes)

    def slide(self, k, lead):
        """-> (losses, weights) of C and of the oracle."""
        p, run = self.problem, self.run
        patterns = sum(max(0, n - k - lead + 1) for n in p.lengths)
        losses = np.full(patterns, np.nan)
        status, done = self.plan(batch=1, steps=k).slide(
            run.params, self.slots, self.hyper, run.data, run.order, k, lead, losses
        )
        assert (status, done) == ("OK", patterns)
        weights = dict(p.params)
        expected = ref.slide(
            p.desc, weights, self.oracle, zip(p.x, p.y, p.state, strict=True), k, lead, p.loss
        )
        return (losses, run.named(run.params)), (expected, weights)

    def epoch(self, batch):
        p, run = self.problem, self.run
        n = len(p.lengths)
        losses, sizes = np.full((2, -(-n // batch)), np.nan)
        plan = self.plan(batch=batch, steps=max(p.lengths), readout_every_step=True)
        order = np.random.default_rng(0).permutation(n)
        status, done = plan.epoch(run.params, self.slots, self.hyper, run.data, order, losses, sizes)
        assert (status, done) == ("OK", losses.size) and sizes.sum() == sum(p.lengths)
        weights = dict(p.params)
        batches = [
            [[a[i] for i in order[s : s + batch]] for a in (p.x, p.y, p.state)] for s in range(0, n, batch)
        ]
        expected = ref.train_epoch(p.desc, weights, self.oracle, batches, loss=p.loss, every=True)
        return (losses, run.named(run.params)), (expected, weights)


def check(got, expected, tolerance, start):
    (losses, weights), (expected_losses, expected_weights) = got, expected
    np.testing.assert_allclose(losses, expected_losses, rtol=tolerance, atol=tolerance)
    for name, w in expected_weights.items():
        assert abs(w - start[name]).max() > 1e-5, f"{name} did not move: the test proves nothing"
        assert abs(weights[name] - w).max() <= tolerance * abs(w).max(), name


def check_slide(k, lead=1, tolerance=1e-10, **options):
    training = Training(**options)
    check(*training.slide(k, lead), tolerance, training.problem.params)
    assert training.hyper["step"] == training.oracle.step  # written back


@pytest.mark.parametrize("k", (1, 3, 10))
@pytest.mark.parametrize("head", ((), (6, 4)), ids=("g1", "g3"))
@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_weights_after_200_steps(form, head, k):
    check_slide(k, **form, head=head, lengths=(200,))


@pytest.mark.parametrize("isa", cases.isas())
@pytest.mark.parametrize("hidden_size", cases.WIDTHS)
def test_widths(hidden_size, isa):
    check_slide(3, isa=isa, hidden_size=hidden_size, input_size=hidden_size, lengths=(30,))
    check_slide(3, isa=isa, hidden_size=hidden_size, lengths=(30,), dtype="float32", tolerance=1e-4)


@pytest.mark.parametrize("form", sorted(set(cases.FORMS) - set(FORMS)))
def test_gated_cells(form):
    check_slide(4, **cases.FORMS[form], lengths=(60,))


@pytest.mark.parametrize("lead", (0, 1, 2))
@pytest.mark.parametrize("k", (1, 4))
def test_lead_and_several_sequences(k, lead):
    """Each sequence from its own x0; one is too short for any pattern, one has exactly one."""
    check_slide(k, lead, lengths=(20, k + lead - 1 or 1, 13, k + lead))


@pytest.mark.parametrize("form", ("elman-tanh", "mlp-6-7"))
def test_layers(form):
    check_slide(3, **cases.FORMS[form], num_layers=2, lengths=(50,))


@pytest.mark.parametrize("loss", cases.LOSSES)
def test_losses(loss):
    check_slide(3, loss=loss, output_size=3, lengths=(50,))


@pytest.mark.parametrize("optimizer", OPTIMIZERS.values(), ids=OPTIMIZERS)
@pytest.mark.parametrize("form", ("elman-tanh", "mlp-4"))
def test_optimizers(form, optimizer):
    check_slide(3, optimizer=optimizer, **cases.FORMS[form], lengths=(50, 20))


@pytest.mark.parametrize("optimizer", OPTIMIZERS.values(), ids=OPTIMIZERS)
@pytest.mark.parametrize("form", cases.FORMS.values(), ids=cases.FORMS)
def test_minibatches(form, optimizer):
    """The last batch is smaller than the others."""
    training = Training(optimizer=optimizer, **form, head=(4,), lengths=(5, 3, 6, 1, 4, 2, 3), data_seed=1)
    check(*training.epoch(batch=3), 1e-10, training.problem.params)
    assert training.hyper["step"] == 3


def test_constant_weights_make_a_plain_run():
    """With a learning rate of zero the losses are those of one forward run over the series."""
    training = Training(optimizer=dict(optimizer="sgd", learning_rate=0.0), lengths=(40,))
    p, (got, _) = training.problem, training.slide(k=5, lead=1)
    outputs, _ = ref.predict(p.desc, p.params, p.x, p.state, every=True)
    np.testing.assert_allclose(
        got[0], [ref.mse(outputs[0][t + 4], p.y[0][t + 5])[0] for t in range(35)], rtol=1e-12
    )
