"""The checks catch what they are for: every mutant of the oracle below must fail them."""
# ruff: noqa: E501

import types
from pathlib import Path

import numpy as np
import pytest
from support import cases, gradcheck
from support import reference as ref
from support.ruled import Ruled
from support.training import SGD
from support.truncated import Truncated

SOURCE = Path(ref.__file__).read_text()
ADD_STEP = "add(grads, dw, suffix)\n                dxs"


def mutant(old, new):
    """The oracle with `old`, which stands in it exactly once, replaced."""
    assert SOURCE.count(old) == 1, f"{SOURCE.count(old)} times in reference.py: {old}"
    module = types.ModuleType("mutant")
    exec(compile(SOURCE.replace(old, new), "mutant", "exec"), module.__dict__)
    return module


# what is wrong: the form that shows it, the line, the wrong line
MUTANTS = {
    "h[t] for h[t-1]": ("elman-tanh", '"weight_hh": np.outer(dz, h), "bias_ih": dz, "bias_hh": dz}\n    return w["weight_ih"].T @ dz, (m * (w["weight_hh"].T @ dz),)', '"weight_hh": np.outer(dz, a[-1]), "bias_ih": dz, "bias_hh": dz}\n    return w["weight_ih"].T @ dz, (m * (w["weight_hh"].T @ dz),)'),
    "h[t] for h[t-1], gru": ("gru-after", "dweight_hh = np.outer(dzr, h)\n", "dweight_hh = np.outer(dzr, (1 - z) * n + z * s[0])\n"),
    "h[t] for h[t-1], lstm": ("lstm", '"weight_hh": np.outer(dz, h), "bias_ih": dz, "bias_hh": dz}\n    if', '"weight_hh": np.outer(dz, y), "bias_ih": dz, "bias_hh": dz}\n    if'),
    "first step dropped": ("elman-tanh", ADD_STEP, f"if s is not tape[suffix][0][1]:\n                    {ADD_STEP}"),
    "last step dropped": ("elman-tanh", ADD_STEP, f"if saved is not tape[suffix][-1][3]:\n                    {ADD_STEP}"),
    "a weight added to its gradient": ("elman-tanh", ADD_STEP, ADD_STEP.replace("dw,", "{k: v + 0.1 * w[k] for k, v in dw.items()},")),
    "mean over the instances": ("elman-tanh", ADD_STEP, ADD_STEP.replace("dw,", "{k: v / len(dh) for k, v in dw.items()},")),
    "derivative of tanh missing": ("elman-tanh", "dz = da * dphi[0](a[0])", "dz = da"),
    "derivative inside f missing": ("mlp-4", "dz = da * dphi[i](a[i])", "dz = da"),
    "derivative of sigmoid wrong": ("elman-sigmoid", "lambda a: a * (1 - a)", "lambda a: 1 - a * a"),
    "gru: r is not differentiated": ("gru-after", "dr = dn * q * r * (1 - r)", "dr = dn * q * r"),
    "gru: z is not differentiated": ("gru-after", "(s[0] - n) * z * (1 - z)", "(s[0] - n) * z"),
    "gru: one third block for both sides": ("gru-after", "dzr = np.concatenate([dr, dz, dq])", "dzr = np.concatenate([dr, dz, dn])"),
    "gru: h_prev past the gate forgotten": ("gru-after", "dh = dnew * z\n", "dh = 0 * dnew\n"),
    "gru before: h for r * h": ("gru-before", "np.outer(dn, q)", "np.outer(dn, h)"),
    "lstm: carried c forgotten": ("lstm", "dc * f + pi * di + pf * df", "0 * dc + pi * di + pf * df"),
    "lstm: tanh(c) is not differentiated": ("lstm", "o * (1 - np.tanh(c_new) ** 2)", "o"),
    "lstm: old c at the output peephole": ("lstm-peephole", "do * c_new])", "do * c])"),
    "lstm: output peephole's backward pass": ("lstm-peephole", " + po * do\n", "\n"),
    "lstm: projection's input": ("lstm-projection", "np.outer(dh_new, y)", "np.outer(dh_new, o)"),
    "ctrnn: alpha forgotten": ("ctrnn", "dz = leak(d, w) * dh * ", "dz = dh * "),
    "ctrnn: h past the nonlinearity forgotten": ("ctrnn", "((1 - leak(d, w)) * dh + m", "(0 * dh + m"),
    "ctrnn: v past the product forgotten": ("ctrnn-potential", "(1 - leak(d, w)) * dv), dw", "0 * dv), dw"),
    "ctrnn: the first rate is not differentiated": ("ctrnn-potential", "dv + dr * slope(states[k][0])", "dv"),
    "reverse direction's outputs reversed": ("both-ways", "dh if way else dh[::-1]", "dh[::-1]"),
    "reverse direction's dx reversed": ("both-ways", "dxs if way else dxs[::-1]", "dxs[::-1]"),
    "only one direction's dx": ("both-ways", "dx = dx + np.array", "dx = np.array"),
    "last state of the reverse direction": ("both-ways-last", "dout[0, width(d) :] += dlast[0, width(d) :]", "dout[-1, width(d) :] += dlast[0, width(d) :]"),
    "derivative inside g missing": ("head", "dz = dy * dphi(tape[i + 1]) if i < len(d[\"head\"]) else dy", "dz = dy"),
    "mse without its 2": ("elman-tanh", "2 * (p - y) / p.size", "(p - y) / p.size"),
    "mae as a sum over the outputs": ("mae", "np.sign(p - y) / p.size", "np.sign(p - y)"),
    "huber's corner": ("huber", "np.clip(e, -delta, delta)", "e"),
    "poisson without its target": ("poisson", "(np.exp(p) - y) / p.size", "np.exp(p) / p.size"),
    "sigma is not differentiated": ("gaussian", "(1 - z**2) / sigma * sigmoid(s)", "(1 - z**2) / sigma"),
    "student: nu for nu + 1": ("student_t", "by_z = (nu + 1) * z", "by_z = nu * z"),
    "negative binomial: alpha's log1p": ("negative_binomial", " - np.log1p(u)) + (mu - y)", ") + (mu - y)"),
    "softmax without its 1": ("cross_entropy", "q - np.eye(p.size)[y]", "q"),
    "weights of rows ignored": ("weighted", "scale * wt * slope", "scale * slope"),
}  # fmt: skip
CONTEXT = {
    **{name: dict(form, every=True) for name, form in cases.FORMS.items()},
    "both-ways": dict(bidirectional=True, num_layers=2, every=True),
    "both-ways-last": dict(bidirectional=True),
    "head": dict(head=(4,)),
    "weighted": dict(weighted=True, every=True),
    **{loss: dict(loss=loss, every=True) for loss in cases.LOSSES},
}


@pytest.mark.parametrize("context, old, new", MUTANTS.values(), ids=MUTANTS)
def test_gradient_mutants_are_caught(context, old, new):
    case = CONTEXT[context]
    problem = cases.Problem(**case, lengths=(4, 3), hidden_size=1 + case.get("proj_size", 2))
    problem.check_reference()
    with pytest.raises(gradcheck.GradientError, match="again: python tests/support/gradcheck"):
        problem.check_reference(mutant(old, new))


@pytest.mark.slow
@pytest.mark.parametrize("old, new", [lines[1:] for lines in MUTANTS.values()], ids=MUTANTS)
def test_the_covering_cases_show_every_mutant(old, new):
    """At least two of the few cases of test_gradients.py tell each mutant from the reference."""
    module, caught = mutant(old, new), 0
    for case in cases.gradient_cases().values():
        problem = cases.Problem(**case)
        try:
            right, wrong = problem.reference()[1], problem.reference(module)[1]
        except ValueError:  # its shapes do not fit this form
            continue
        caught += any(abs(wrong[k] - g).max() > gradcheck.TOLERANCE * abs(g).max() for k, g in right.items())
        if caught == 2:
            return
    pytest.fail(f"{caught} cases show it")


@pytest.mark.parametrize("every", (False, True), ids=("last", "every"))
def test_a_zero_gradient_is_caught(every):
    """Both the one that is wrong and the one that is right: a network that is dead proves nothing."""
    problem = cases.Problem(activation=("relu",), every=every)
    for name in ("bias_ih_l0", "bias_hh_l0"):
        problem.params[name] -= 100
    with pytest.raises(gradcheck.GradientError, match="zero"):
        problem.check_reference()


def test_a_dropped_first_step_needs_an_initial_state():
    """Why every problem here has one: with h = 0 this mutant's weight_hh is right."""
    _, old, new = MUTANTS["first step dropped"]
    problem = cases.Problem(lengths=(4, 3))
    assert all(abs(problem.state).min(axis=1) > 0)
    problem.state[:] = 0
    right, wrong = problem.reference()[1], problem.reference(mutant(old, new))[1]
    np.testing.assert_array_equal(right["weight_hh_l0"], wrong["weight_hh_l0"])
    assert abs(right["weight_ih_l0"] - wrong["weight_ih_l0"]).max() > 1e-3


SLIDE_MUTANTS = {
    "mean over the instances": ("ds = f_backward(d, p, tape[j], ds, grads, optimizer.clip_state)\n            optimizer", "ds = f_backward(d, p, tape[j], ds, grads, optimizer.clip_state)\n            grads = {n: g if n.startswith('head') else g / k for n, g in grads.items()}\n            optimizer"),
    "context with the old weights": ("x, _ = f_forward(d, p, x, a[t])", "x = s[1]"),
    "context not advanced": ("x, _ = f_forward(d, p, x, a[t])", "pass"),
    "first instance's change forgotten": ("for j in reversed(range(k)):", "for j in reversed(range(1, k)):"),
    "target one step early": ("y[t + k - 1 + lead]", "y[t + k - 2 + lead]"),
    "one pattern too few": ("range(len(a) - k - lead + 1)", "range(len(a) - k - lead)"),
    "x0 ignored": ("x = split_state(d, x0)", "x = split_state(d, 0 * x0)"),
    "x0 only for the first sequence": ("for a, y, x0 in sequences:\n        x = split_state(d, x0)", "x = None\n    for a, y, x0 in sequences:\n        x = x or split_state(d, x0)"),
    "momentum forgets": ("self.momentum * self.m.get(k, 0) + g", "g"),
    "weight decay the wrong way": ("g + self.weight_decay * p[k]", "g - self.weight_decay * p[k]"),
    "clipping without the clip": ("g * (self.clip_norm / norm)", "g / norm"),
}  # fmt: skip


@pytest.mark.parametrize("old, new", SLIDE_MUTANTS.values(), ids=SLIDE_MUTANTS)
def test_online_mutants_are_caught(old, new):
    """What test_sliding compares at 1e-10 moves by far more when the algorithm is another one."""
    problem = cases.Problem(every=True, lengths=(40, 20), head=(4,))
    end = []
    for module in (ref, mutant(old, new)):
        weights = dict(problem.params)
        optimizer = module.Optimizer(**SGD, momentum=0.5, weight_decay=0.01, clip_norm=0.3)
        data = zip(problem.x, problem.y, problem.state, strict=True)
        module.slide(problem.desc, weights, optimizer, data, 3, 1, "mse")
        end.append(np.concatenate([w.ravel() for w in weights.values()]))
    assert not abs(end[0] - end[1]).max() <= 1e-6 * abs(end[0]).max()


RULE_MUTANTS = {
    "fixed weights count in the clip": ('np.where(rule["low"] == rule["high"], 0, grads[k])', "grads[k]"),
    "l2 not halved": ('g + self.rules[k]["l2"] * old', 'g + 2 * self.rules[k]["l2"] * old'),
    "l2 of the new weight": ('p[k] = self.obeyed(k, old, p[k])', 'p[k] = self.obeyed(k, old, p[k] - 1e-3 * self.rules[k]["l2"] * p[k])'),
    "threshold without the rate": ('abs(w) - rate * rule["l1"]', 'abs(w) - rule["l1"]'),
    "a threshold that is passed": ('np.sign(w) * np.maximum(abs(w) - rate * rule["l1"], 0)', 'w - np.sign(w) * rate * rule["l1"]'),
    "frozen weights in their group": ("((w * ~fixed) ** 2)", "(w ** 2)"),
    "rows for columns": ('(("rows", 1), ("columns", 0))', '(("rows", 0), ("columns", 1))'),
    "the group lasso after the bounds": ('w = w * np.maximum(1 - rate * rule[name]', 'w = np.clip(w, rule["low"], rule["high"]) * np.maximum(1 - rate * rule[name]'),
    "frozen weights move": ('np.where(fixed, old, np.minimum', 'np.where(rule["low"] == 0, 0, np.minimum'),
    "no lower bound": ('np.maximum(w, rule["low"])', "w"),
    "no upper bound": ('np.minimum(np.maximum(w, rule["low"]), rule["high"])', 'np.maximum(w, rule["low"])'),
}  # fmt: skip


@pytest.mark.parametrize("old, new", RULE_MUTANTS.values(), ids=RULE_MUTANTS)
def test_rule_mutants_are_caught(old, new):
    """What test_rules compares at 1e-10 moves by far more when a rule is another one."""
    options = dict(learning_rate=0.1, weight_decay=0.1, clip_norm=1.0)
    ruled = Ruled(optimizer=options, lengths=(40, 20), head=(4,))
    problem, end = ruled.problem, []
    for module in (ref, mutant(old, new)):
        weights = dict(problem.params)
        optimizer = module.Optimizer(**options)
        optimizer.rules = ruled.oracle.rules
        data = zip(problem.x, problem.y, problem.state, strict=True)
        module.slide(problem.desc, weights, optimizer, data, 3, 1, "mse")
        end.append(np.concatenate([w.ravel() for w in weights.values()]))
    assert not abs(end[0] - end[1]).max() <= 1e-6 * abs(end[0]).max()


BACK = "for t in reversed(range(edge, stop)):"
TRUNCATED_MUTANTS = {
    "an error that enters in every pass that reaches it": ("for t in range(start, stop) if every", "for t in range(edge, stop) if every"),
    "the loss of every pass that reaches it": ("for t in range(start, stop) if every", "for t in range(max(0, start - 1), stop) if every"),
    "mean over the steps": ("dx, ds = f_backward(d, p, tape[i][t], ds, grads)", "dx, ds = f_backward(d, p, tape[i][t], ds, dw := {k: 0 * g for k, g in grads.items()})\n                add(grads, {k: g / (stop - edge) for k, g in dw.items()})"),
    "one step too far": (BACK, BACK.replace("edge", "max(0, edge - 1)")),
    "one step too short": (BACK, BACK.replace("edge", "min(edge + 1, start)")),
    "only the new steps": (BACK, BACK.replace("edge", "start")),
    "first step of the series dropped": (BACK, BACK.replace("edge", "max(1, edge)")),
    "last step dropped": (BACK, BACK.replace("stop", "stop - 1")),
    "k2 from the first new step": ("start - (k2 - k1)", "start - k2"),
    "k2 from the end of a shorter pass": ("start - (k2 - k1)", "min(start + k1, steps) - k2"),
    "the last, shorter pass forgotten": ("for start in range(0, steps, k1):", "for start in range(0, steps - k1 + 1, k1):"),
    "every pass from x0": ("s_next, saved = f_forward(d, p, s[i][t], x[t])", "s_next, saved = f_forward(d, p, s[i][t if t > start else 0], x[t])"),
    "the newest error alone": ("(ds[top][0] + errors.get(t, 0)", "(ds[top][0] + errors.get(t, 0) * (t == stop - 1)"),
    "errors end where the next one enters": ("(ds[top][0] + errors.get(t, 0)", "(errors.get(t, ds[top][0])"),
    "weights of steps ignored": ("w[row] * dq[None]", "dq[None]"),
}  # fmt: skip


@pytest.mark.parametrize("old, new", TRUNCATED_MUTANTS.values(), ids=TRUNCATED_MUTANTS)
def test_truncated_mutants_are_caught(old, new):
    truncated = Truncated(2, 5, lengths=(11,), hidden_size=3, weighted=True)
    truncated.check_reference()
    with pytest.raises(gradcheck.GradientError, match="k1=2 k2=5"):
        truncated.check_reference(mutant(old, new))


TRUNCATED_FIT_MUTANTS = {
    **TRUNCATED_MUTANTS,
    "sum over the targets": ("{k: g / size for k, g in grads.items()}", "grads"),
    "mean over the whole batch": ("{k: g / size for k, g in grads.items()}", "{k: g / len(xs[0]) for k, g in grads.items()}"),
    "stored steps again with the new weights": (BACK, f"for t in range(edge, start):\n                s[i][t + 1], tape[i][t] = f_forward(d, p, s[i][t], x[t])\n            {BACK}"),
    "an update without targets": ("if size > 0:", "size = size or 1\n            if size:"),
    "the state forgotten by the next epoch": ("states[i] = join_state(d, s[i][stop])", "pass"),
}  # fmt: skip


@pytest.mark.parametrize("old, new", TRUNCATED_FIT_MUTANTS.values(), ids=TRUNCATED_FIT_MUTANTS)
def test_truncated_fit_mutants_are_caught(old, new):
    """What test_truncated compares at 1e-10 moves by far more when the algorithm is another one."""
    truncated = Truncated(2, 5, lengths=(11, 7), weighted=True)
    for w in truncated.problem.weight:
        w[2:4] = 0
    ends = []
    for module in (ref, mutant(old, new)):
        optimizer = module.Optimizer("adam", learning_rate=0.01)
        losses, weights, _ = truncated.train(optimizer, 3, module=module, stateful=True)
        ends.append(np.concatenate([losses, *(w.ravel() for w in weights.values())]))
    assert not abs(ends[0] - ends[1]).max() <= 1e-6 * abs(ends[0]).max()


def test_stored_steps_matter_only_where_they_are_older():
    """Old activations and new weights differ only when an update comes between them: not with k1 = k2."""
    old, new = TRUNCATED_FIT_MUTANTS["stored steps again with the new weights"]
    ends = []
    for module in (ref, mutant(old, new)):
        truncated = Truncated(3, 3)
        ends.append(truncated.train(module.Optimizer(**SGD), module=module)[0])
    assert ends[0] == ends[1]
