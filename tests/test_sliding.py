"""The classical online algorithm and minibatch training: after an epoch the C weights are the oracle's."""

import numpy as np
import pytest
from support import cases
from support import reference as ref
from support.training import OPTIMIZERS, Training, check

FORMS = {k: form for k, form in cases.FORMS.items() if form["cell"] in ("elman", "mlp")}


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


@pytest.mark.parametrize("isa", cases.isas())
@pytest.mark.parametrize("hidden_size", (1, 7, 8, 9, 16, 17))
@pytest.mark.parametrize("form", ("elman-relu", "gru-after", "lstm-peephole", "lstm"))
def test_widths_of_gated_cells(form, hidden_size, isa):
    check_slide(3, isa=isa, **cases.FORMS[form], hidden_size=hidden_size, lengths=(20,))


@pytest.mark.parametrize("isa", cases.isas())
@pytest.mark.parametrize("output_size", (1, 3, 8, 9, 17))
@pytest.mark.parametrize("hidden_size", (8, 16))
def test_outputs_of_constant_sizes(hidden_size, output_size, isa):
    """Of one vector and of several, with few inputs and many."""
    for input_size in (1, 3, 4, 9):
        sizes = dict(hidden_size=hidden_size, output_size=output_size, input_size=input_size)
        check_slide(2, isa=isa, **sizes, lengths=(20,))


@pytest.mark.parametrize("optimizer", OPTIMIZERS.values(), ids=OPTIMIZERS)
@pytest.mark.parametrize("hidden_size", (8, 16))
def test_optimizers_of_constant_sizes(hidden_size, optimizer):
    check_slide(3, optimizer=optimizer, hidden_size=hidden_size, lengths=(50, 20))


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
