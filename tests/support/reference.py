"""The oracle: what csrc/ computes, in NumPy float64, one sequence at a time, one line of mathematics a line.

A network is described by the dict that a plan of the C core takes; its weights are a dict of arrays under
PyTorch's names.  Every backward function stands below its forward one and takes its lines from the last to
the first.  A new cell is a forward, a backward and a blocks function here and one row in CELLS; a new
loss is a function and its name in LOSSES; a new optimiser is a method of Optimizer and an entry of
FORMULAS."""

from __future__ import annotations

import math
from functools import cache

import numpy as np

DESC = {
    "cell": "elman", "dtype": "float64", "activation": ("tanh",), "f": (), "head": (),
    "head_activation": "tanh", "input_size": 1, "hidden_size": 1, "output_size": 1, "num_layers": 1,
    "bidirectional": False, "proj_size": 0, "dropout": 0.0,
    "recurrent_dropout": 0.0, "seed": 0, "initial_state": "zeros", "skip": False,
}  # fmt: skip


def sigmoid(z):
    return 0.5 + 0.5 * np.tanh(0.5 * z)


# name: the function of z, and its derivative as a function of the value
NONLINEARITY = {
    "tanh": (np.tanh, lambda a: 1 - a * a),
    "sigmoid": (sigmoid, lambda a: a * (1 - a)),
    "relu": (lambda z: np.maximum(z, 0), lambda a: (a > 0) * 1.0),
    "linear": (lambda z: z, np.ones_like),
    "leaky_relu": (lambda z: np.where(z > 0, z, 0.01 * z), lambda a: np.where(a > 0, 1.0, 0.01)),
    "retanh": (lambda z: np.maximum(np.tanh(z), 0), lambda a: (a > 0) * (1 - a * a)),
    "softplus": (lambda z: np.logaddexp(z, 0), lambda a: -np.expm1(-a)),
}


# ---- cells.  d: description, w: weights of one layer and direction, x: input, s: state (h,) or (h, c),
# ---- m: recurrent dropout's mask on h.  forward -> new state, saved;  backward -> dx, ds_prev, dw.


def mlp_blocks(d, inputs):
    n = (*d["f"], d["hidden_size"])
    h = d["hidden_size"]
    blocks = {"weight_ih": (n[0], inputs), "weight_hh": (n[0], h), "bias_ih": (n[0],), "bias_hh": (n[0],)}
    for i in range(1, len(n)):
        blocks |= {f"f.{i}.weight": (n[i], n[i - 1]), f"f.{i}.bias": (n[i],)}
    return blocks


def mlp_forward(d, w, x, s, m):
    h = m * s[0]
    phi = [NONLINEARITY[name][0] for name in d["activation"]]
    a = [phi[0](w["weight_ih"] @ x + w["bias_ih"] + w["weight_hh"] @ h + w["bias_hh"])]
    for i in range(1, len(phi)):
        a.append(phi[i](w[f"f.{i}.weight"] @ a[i - 1] + w[f"f.{i}.bias"]))
    return (a[-1],), (h, a)


def mlp_backward(d, w, x, s, m, saved, ds):
    (h, a), (da,) = saved, ds
    dphi = [NONLINEARITY[name][1] for name in d["activation"]]
    dw = {}
    for i in reversed(range(1, len(a))):
        dz = da * dphi[i](a[i])
        dw |= {f"f.{i}.weight": np.outer(dz, a[i - 1]), f"f.{i}.bias": dz}
        da = w[f"f.{i}.weight"].T @ dz
    dz = da * dphi[0](a[0])
    dw |= {"weight_ih": np.outer(dz, x), "weight_hh": np.outer(dz, h), "bias_ih": dz, "bias_hh": dz}
    return w["weight_ih"].T @ dz, (m * (w["weight_hh"].T @ dz),), dw


def gru_blocks(d, inputs):
    n = d["hidden_size"]
    return {"weight_ih": (3 * n, inputs), "weight_hh": (3 * n, n), "bias_ih": (3 * n,), "bias_hh": (3 * n,)}


def before(d):
    """Whether the reset gate acts before the recurrent product."""
    return d["cell"] == "gru_reset_before"


def gru_forward(d, w, x, s, m):
    h = m * s[0]
    zx = np.split(w["weight_ih"] @ x + w["bias_ih"], 3)
    u, b = np.split(w["weight_hh"], 3), np.split(w["bias_hh"], 3)
    r = sigmoid(zx[0] + u[0] @ h + b[0])
    z = sigmoid(zx[1] + u[1] @ h + b[1])
    if not before(d):
        q = u[2] @ h + b[2]
        n = np.tanh(zx[2] + r * q)
    else:
        q = r * h
        n = np.tanh(zx[2] + u[2] @ q + b[2])
    return ((1 - z) * n + z * s[0],), (h, r, z, q, n)


def gru_backward(d, w, x, s, m, saved, ds):
    (h, r, z, q, n), (dnew,) = saved, ds
    u = np.split(w["weight_hh"], 3)
    dh = dnew * z
    dz = dnew * (s[0] - n) * z * (1 - z)
    dn = dnew * (1 - z) * (1 - n * n)
    if not before(d):
        dq = dn * r
        dr = dn * q * r * (1 - r)
        dzr = np.concatenate([dr, dz, dq])
        dweight_hh = np.outer(dzr, h)
        dh = dh + m * (w["weight_hh"].T @ dzr)
    else:
        dq = u[2].T @ dn
        dr = dq * h * r * (1 - r)
        dzr = np.concatenate([dr, dz, dn])
        dweight_hh = np.concatenate([np.outer(dr, h), np.outer(dz, h), np.outer(dn, q)])
        dh = dh + m * (dq * r + u[0].T @ dr + u[1].T @ dz)
    dzx = np.concatenate([dr, dz, dn])
    dw = {"weight_ih": np.outer(dzx, x), "weight_hh": dweight_hh, "bias_ih": dzx, "bias_hh": dzr}
    return w["weight_ih"].T @ dzx, (dh,), dw


def lstm_blocks(d, inputs):
    n, p = d["hidden_size"], d["proj_size"]
    k = 4 * n
    blocks = {"weight_ih": (k, inputs), "weight_hh": (k, p or n), "bias_ih": (k,), "bias_hh": (k,)}
    if d["cell"] == "lstm_peephole":
        blocks |= {"weight_peephole": (3 * n,)}
    return blocks | ({"weight_hr": (p, n)} if p else {})


def lstm_forward(d, w, x, s, m):
    h, c = m * s[0], s[1]
    pi, pf, po = np.split(w["weight_peephole"], 3) if "weight_peephole" in w else (0.0, 0.0, 0.0)
    zi, zf, zg, zo = np.split(w["weight_ih"] @ x + w["bias_ih"] + w["weight_hh"] @ h + w["bias_hh"], 4)
    i, f, g = sigmoid(zi + pi * c), sigmoid(zf + pf * c), np.tanh(zg)
    c_new = f * c + i * g
    o = sigmoid(zo + po * c_new)
    y = o * np.tanh(c_new)
    h_new = w["weight_hr"] @ y if d["proj_size"] else y
    return (h_new, c_new), (h, i, f, g, o, c_new, y)


def lstm_backward(d, w, x, s, m, saved, ds):
    (h, i, f, g, o, c_new, y), (dh_new, dc), c = saved, ds, s[1]
    pi, pf, po = np.split(w["weight_peephole"], 3) if "weight_peephole" in w else (0.0, 0.0, 0.0)
    dy = w["weight_hr"].T @ dh_new if d["proj_size"] else dh_new
    do = dy * np.tanh(c_new) * o * (1 - o)
    dc = dc + dy * o * (1 - np.tanh(c_new) ** 2) + po * do
    di = dc * g * i * (1 - i)
    df = dc * c * f * (1 - f)
    dg = dc * i * (1 - g * g)
    dz = np.concatenate([di, df, dg, do])
    dw = {"weight_ih": np.outer(dz, x), "weight_hh": np.outer(dz, h), "bias_ih": dz, "bias_hh": dz}
    if "weight_peephole" in w:
        dw |= {"weight_peephole": np.concatenate([di * c, df * c, do * c_new])}
    if d["proj_size"]:
        dw |= {"weight_hr": np.outer(dh_new, y)}
    return w["weight_ih"].T @ dz, (m * (w["weight_hh"].T @ dz), dc * f + pi * di + pf * df), dw


def positive(v):
    """g of the minimal gated cells, and below its slope as a function of the value."""
    return np.where(v >= 0, v + 0.5, sigmoid(v))


def positive_slope(a):
    return np.where(a >= 0.5, 1.0, a * (1 - a))


def mingru_blocks(d, inputs):
    n = d["hidden_size"]
    return {"weight_ih": (2 * n, inputs), "bias_ih": (2 * n,)}


def mingru_forward(d, w, x, s, m):
    vz, vn = np.split(w["weight_ih"] @ x + w["bias_ih"], 2)
    z, n = sigmoid(vz), positive(vn)
    return ((1 - z) * s[0] + z * n,), (z, n)


def mingru_backward(d, w, x, s, m, saved, ds):
    (z, n), (dh,) = saved, ds
    da = np.concatenate([dh * (n - s[0]) * z * (1 - z), dh * z * positive_slope(n)])
    return w["weight_ih"].T @ da, (dh * (1 - z),), {"weight_ih": np.outer(da, x), "bias_ih": da}


def minlstm_blocks(d, inputs):
    n = d["hidden_size"]
    return {"weight_ih": (3 * n, inputs), "bias_ih": (3 * n,)}


def minlstm_forward(d, w, x, s, m):
    vf, vi, vn = np.split(w["weight_ih"] @ x + w["bias_ih"], 3)
    keep = sigmoid(np.logaddexp(0, -vi) - np.logaddexp(0, -vf))  # f / (f + i), also where both are 0
    n = positive(vn)
    return (keep * s[0] + (1 - keep) * n,), (sigmoid(vf), sigmoid(vi), n, keep)


def minlstm_backward(d, w, x, s, m, saved, ds):
    (f, i, n, keep), (dh,) = saved, ds
    d = dh * (s[0] - n) * keep * (1 - keep)
    da = np.concatenate([d * (1 - f), -d * (1 - i), dh * (1 - keep) * positive_slope(n)])
    return w["weight_ih"].T @ da, (dh * keep,), {"weight_ih": np.outer(da, x), "bias_ih": da}


def indrnn_blocks(d, inputs):
    n = d["hidden_size"]
    return {"weight_ih": (n, inputs), "weight_hh": (n,), "bias_ih": (n,)}


def indrnn_forward(d, w, x, s, m):
    phi = NONLINEARITY[d["activation"][0]][0]
    h = phi(w["weight_ih"] @ x + w["bias_ih"] + w["weight_hh"] * s[0])
    return (h,), (h,)


def indrnn_backward(d, w, x, s, m, saved, ds):
    (h,), (dh,) = saved, ds
    dz = dh * NONLINEARITY[d["activation"][0]][1](h)
    dw = {"weight_ih": np.outer(dz, x), "weight_hh": dz * s[0], "bias_ih": dz}
    return w["weight_ih"].T @ dz, (w["weight_hh"] * dz,), dw


def leak(d, w):
    if d.get("train_tau"):
        return 1 / (1 + np.logaddexp(0, w["raw_tau"]))
    return 1.0 if d.get("alpha") is None else np.array(d["alpha"])


def leak_backward(d, w, dalpha):
    return {"raw_tau": -(leak(d, w) ** 2) * sigmoid(w["raw_tau"]) * dalpha} if d.get("train_tau") else {}


def ctrnn_blocks(d, inputs):
    n = d["hidden_size"]
    blocks = {"weight_ih": (n, inputs), "weight_hh": (n, n), "bias_ih": (n,), "bias_hh": (n,)}
    return blocks | ({"raw_tau": (n,)} if d.get("train_tau") else {})


def ctrnn_forward(d, w, x, s, m):
    h = m * s[0]
    a = NONLINEARITY[d["activation"][0]][0](
        w["weight_ih"] @ x + w["bias_ih"] + w["weight_hh"] @ h + w["bias_hh"]
    )
    return ((1 - leak(d, w)) * s[0] + leak(d, w) * a,), (h, [a])


def ctrnn_backward(d, w, x, s, m, saved, ds):
    (h, [a]), (dh,) = saved, ds
    dz = leak(d, w) * dh * NONLINEARITY[d["activation"][0]][1](a)
    dw = {"weight_ih": np.outer(dz, x), "weight_hh": np.outer(dz, h), "bias_ih": dz, "bias_hh": dz}
    dw |= leak_backward(d, w, dh * (a - s[0]))
    return w["weight_ih"].T @ dz, ((1 - leak(d, w)) * dh + m * (w["weight_hh"].T @ dz),), dw


def potential_forward(d, w, x, s, m):
    h, v = m * s[0], s[1]
    drive = w["weight_ih"] @ x + w["bias_ih"] + w["weight_hh"] @ h + w["bias_hh"]
    v = (1 - leak(d, w)) * v + leak(d, w) * drive
    r = NONLINEARITY[d["activation"][0]][0](v)
    return (r, v), (h, [drive, r])


def potential_backward(d, w, x, s, m, saved, ds):
    (h, [drive, r]), (dr, dv) = saved, ds
    dv = dv + dr * NONLINEARITY[d["activation"][0]][1](r)
    dz = leak(d, w) * dv
    dw = {"weight_ih": np.outer(dz, x), "weight_hh": np.outer(dz, h), "bias_ih": dz, "bias_hh": dz}
    dw |= leak_backward(d, w, dv * (drive - s[1]))
    return w["weight_ih"].T @ dz, (m * (w["weight_hh"].T @ dz), (1 - leak(d, w)) * dv), dw


# name: blocks, forward, backward, number of states
CELLS = {
    "elman": (mlp_blocks, mlp_forward, mlp_backward, 1),
    "mlp": (mlp_blocks, mlp_forward, mlp_backward, 1),
    "gru": (gru_blocks, gru_forward, gru_backward, 1),
    "lstm": (lstm_blocks, lstm_forward, lstm_backward, 2),
    "lstm_peephole": (lstm_blocks, lstm_forward, lstm_backward, 2),
    "gru_reset_before": (gru_blocks, gru_forward, gru_backward, 1),
    "mingru": (mingru_blocks, mingru_forward, mingru_backward, 1),
    "minlstm": (minlstm_blocks, minlstm_forward, minlstm_backward, 1),
    "indrnn": (indrnn_blocks, indrnn_forward, indrnn_backward, 1),
    "ctrnn": (ctrnn_blocks, ctrnn_forward, ctrnn_backward, 1),
    "ctrnn_potential": (ctrnn_blocks, potential_forward, potential_backward, 2),
}

# Cells whose first state is the nonlinearity of the second, which alone is the state of a sequence.
FOLLOWS = {"ctrnn_potential"}


# ---- layers and directions


def width(d):
    """Width of h: what one direction of one layer hands on."""
    return d["proj_size"] or d["hidden_size"]


INITIAL = ("initial_h", "initial_c")


def directions(d):
    return ("", "_reverse")[: 1 + d["bidirectional"]]


def suffixes(d):
    """The recurrent pieces in the order of the blocks and of the state."""
    return [f"_l{layer}{way}" for layer in range(d["num_layers"]) for way in directions(d)]


def blocks(d):
    """{name: shape} of every parameter block."""
    out = {}
    for layer in range(d["num_layers"]):
        inputs = len(directions(d)) * width(d) if layer else d["input_size"]
        for way in directions(d):
            out |= {f"{k}_l{layer}{way}": shape for k, shape in CELLS[d["cell"]][0](d, inputs).items()}
            if d["initial_state"] == "trained":
                out |= {f"{k}_l{layer}{way}": (n,) for k, n in zip(INITIAL, state_widths(d), strict=False)}
    n = (len(directions(d)) * width(d) + d["skip"] * d["input_size"], *d["head"], d["output_size"])
    for i in range(len(n) - 1):
        out |= {f"head.{i}.weight": (n[i + 1], n[i]), f"head.{i}.bias": (n[i + 1],)}
    return out


def state_widths(d):
    return [width(d), d["hidden_size"]][: CELLS[d["cell"]][3] - (d["cell"] in FOLLOWS)]


def state_size(d):
    return len(suffixes(d)) * sum(state_widths(d))


def split_pieces(d, flat):
    """State of one sequence (state_size,) -> {suffix: (h,) or (h, c)}, or where h follows from c (c,)."""
    cuts = np.cumsum([n for _ in suffixes(d) for n in state_widths(d)])
    pieces, k = np.split(flat, cuts[:-1]), len(state_widths(d))
    return {suffix: tuple(pieces[i * k : (i + 1) * k]) for i, suffix in enumerate(suffixes(d))}


def split_state(d, flat):
    """State of one sequence (state_size,) -> {suffix: (h,) or (h, c)}."""
    phi = NONLINEARITY[d["activation"][0]][0] if d["cell"] in FOLLOWS else None
    return {k: (phi(s[0]), *s) if phi else s for k, s in split_pieces(d, flat).items()}


def join_state(d, states):
    first = d["cell"] in FOLLOWS
    return np.concatenate([piece for suffix in suffixes(d) for piece in states[suffix][first:]])


def split_state_backward(d, states, ds):
    """From the gradients of the states of a sequence to that of what split_state was given."""
    if d["cell"] in FOLLOWS:
        slope = NONLINEARITY[d["activation"][0]][1]
        ds = {k: (None, dv + dr * slope(states[k][0])) for k, (dr, dv) in ds.items()}
    return join_state(d, ds)


def initial_state(d, p):
    """Where a sequence without a state of its own begins: (state_size,)."""
    if d["initial_state"] == "zeros":
        return np.zeros(state_size(d))
    return np.concatenate([p[k + suffix] for suffix in suffixes(d) for k in INITIAL if k + suffix in p])


def initial_state_backward(d, dstate, grads):
    if d["initial_state"] == "trained":
        for suffix, pieces in split_pieces(d, dstate).items():
            add(grads, dict(zip(INITIAL, pieces, strict=False)), suffix)


def part(p, suffix):
    """The weights of one layer and direction, without its suffix."""
    return {k.removesuffix(suffix): v for k, v in p.items() if k.endswith(suffix)}


def add(grads, dw, suffix=""):
    for k, v in dw.items():
        grads[k + suffix] = grads[k + suffix] + v


def no_masks(d, steps):
    """The dropout masks of a sequence: between layers (T, D*W), and on h (W,); these drop nothing."""
    between = {layer: np.ones((steps, len(directions(d)) * width(d))) for layer in range(1, d["num_layers"])}
    return {"between": between, "recurrent": {suffix: np.ones(width(d)) for suffix in suffixes(d)}}


def layers_forward(d, p, x, state, masks):
    """f over one sequence x (T, I): outputs of the last layer (T, D*W), final state, tape."""
    forward, tape, states = CELLS[d["cell"]][1], {}, split_state(d, state)
    for layer in range(d["num_layers"]):
        x = x * masks["between"][layer] if layer else x
        out = []
        for way in directions(d):
            suffix = f"_l{layer}{way}"
            w, s, m, steps = part(p, suffix), states[suffix], masks["recurrent"][suffix], []
            for xt in x[::-1] if way else x:
                new, saved = forward(d, w, xt, s, m)
                steps.append((xt, s, new, saved))
                s = new
            h = np.array([new[0] for _, _, new, _ in steps])
            out.append(h[::-1] if way else h)
            states[suffix], tape[suffix] = s, steps
        x = np.concatenate(out, axis=1)
    return x, join_state(d, states), tape


def clipped(dh, limit):
    return np.clip(dh, -limit, limit) if limit else dh


def layers_backward(d, p, tape, dout, masks, grads, clip=0.0):
    """From the gradient of the outputs (T, D*W): dx (T, I) and that of the initial state; adds to grads."""
    backward, dstates = CELLS[d["cell"]][2], {}
    for layer in reversed(range(d["num_layers"])):
        dx = 0
        for way, dh in zip(directions(d), np.split(dout, len(directions(d)), axis=1), strict=True):
            suffix = f"_l{layer}{way}"
            w, m, ds, dxs = part(p, suffix), masks["recurrent"][suffix], None, []
            for (xt, s, _, saved), dht in zip(reversed(tape[suffix]), dh if way else dh[::-1], strict=True):
                ds = [np.zeros_like(v) for v in s] if ds is None else ds
                dxt, ds, dw = backward(d, w, xt, s, m, saved, (clipped(ds[0] + dht, clip), *ds[1:]))
                add(grads, dw, suffix)
                dxs.append(dxt)
            dx = dx + np.array(dxs if way else dxs[::-1])
            dstates[suffix] = ds
        dout = dx * masks["between"][layer] if layer else dx
    return dout, split_state_backward(d, {suffix: steps[0][1] for suffix, steps in tape.items()}, dstates)


def last(d, out):
    """What g reads with readout "last": each direction's state after its last step, (1, D*W)."""
    return np.concatenate([out[-1, : width(d)], out[0, width(d) :]])[None]


def last_backward(d, out, dlast):
    dout = np.zeros_like(out)
    dout[-1, : width(d)] = dlast[0, : width(d)]
    dout[0, width(d) :] += dlast[0, width(d) :]
    return dout


# ---- g.  rows: what it reads, of h (n, D*W) and with skip of the inputs x (n, I) of the same steps


def joined(d, h, x):
    return np.concatenate([h, x], axis=1) if d["skip"] else h


def joined_backward(d, drows):
    """dh, and dx, which without skip is zero."""
    n = len(directions(d)) * width(d)
    return drows[:, :n], drows[:, n:] if d["skip"] else 0


def readout(d, out, x, every):
    """What g reads of the outputs of f over a sequence x."""
    return joined(d, out, x) if every else joined(d, last(d, out), x[-1:])


def readout_backward(d, out, x, every, drows):
    dh, dx_read = joined_backward(d, drows)
    dx = np.zeros_like(x)
    dx[slice(None) if every else slice(-1, None)] += dx_read
    return dh if every else last_backward(d, out, dh), dx


def head_forward(d, p, rows):
    phi, tape = NONLINEARITY[d["head_activation"]][0], [rows]
    for i in range(len(d["head"]) + 1):
        z = tape[i] @ p[f"head.{i}.weight"].T + p[f"head.{i}.bias"]
        tape.append(phi(z) if i < len(d["head"]) else z)
    return tape[-1], tape


def head_backward(d, p, tape, dy, grads):
    dphi = NONLINEARITY[d["head_activation"]][1]
    for i in reversed(range(len(d["head"]) + 1)):
        dz = dy * dphi(tape[i + 1]) if i < len(d["head"]) else dy
        add(grads, {f"head.{i}.weight": dz.T @ tape[i], f"head.{i}.bias": dz.sum(axis=0)})
        dy = dz @ p[f"head.{i}.weight"]
    return dy


# ---- losses of one target row: p (O,), y (O,) or a class -> loss, dloss/dp


def mse(p, y):
    return np.mean((p - y) ** 2), 2 * (p - y) / p.size


def mae(p, y):
    return np.mean(abs(p - y)), np.sign(p - y) / p.size


def huber(p, y, delta=1.0):
    e = p - y
    value = np.where(abs(e) <= delta, 0.5 * e * e, delta * (abs(e) - 0.5 * delta))
    return np.mean(value), np.clip(e, -delta, delta) / p.size


def cross_entropy(p, y):
    q = np.exp(p - p.max()) / np.exp(p - p.max()).sum()
    return -np.log(q[y]), q - np.eye(p.size)[y]


def binary_cross_entropy(p, y):
    return np.mean(np.logaddexp(0, p) - y * p), (sigmoid(p) - y) / p.size


def smoothed_cross_entropy(p, y, label_smoothing):
    value, slope = cross_entropy(p, y)
    return value + label_smoothing * (p[y] - p.mean()), slope + label_smoothing * (
        np.eye(p.size)[y] - 1 / p.size
    )


# of several outputs per target: p (O,) is a block of D outputs for each parameter, y (D,)


def poisson(p, y):
    return np.mean(np.exp(p) - y * p), (np.exp(p) - y) / p.size


def pinball(p, y, quantiles=(0.5,)):
    q, e = np.array(quantiles)[:, None], y - p.reshape(len(quantiles), -1)
    return np.mean(np.maximum(q * e, (q - 1) * e)), ((e < 0) - q * (e != 0)).ravel() / p.size


def softplus(a):
    return np.logaddexp(0, a)


def ordered_pinball(p, y, quantiles=(0.5,)):
    low, *more = np.split(p, len(quantiles))
    ordered = np.cumsum([low, *map(softplus, more)], axis=0)
    value, slope = pinball(ordered.ravel(), y, quantiles)
    above = np.cumsum(slope.reshape(ordered.shape)[::-1], axis=0)[::-1]
    return value, np.concatenate([above[0], *(a * sigmoid(m) for a, m in zip(above[1:], more, strict=True))])


def gaussian(p, y):
    mu, s = np.split(p, 2)
    sigma = softplus(s) + 1e-6
    z = (mu - y) / sigma
    slopes = z / sigma, (1 - z**2) / sigma * sigmoid(s)
    return np.mean(np.log(sigma) + z**2 / 2), np.concatenate(slopes) / y.size


def laplace(p, y):
    mu, s = np.split(p, 2)
    sigma = softplus(s) + 1e-6
    z = (mu - y) / sigma
    slopes = np.sign(z) / sigma, (1 - abs(z)) / sigma * sigmoid(s)
    return np.mean(np.log(2 * sigma) + abs(z)), np.concatenate(slopes) / y.size


log_gamma = np.vectorize(math.lgamma, otypes=[float])


def digamma(x):
    steps = x[..., None] + np.arange(20)
    x = x + 20
    series = 1 / (12 * x**2) - 1 / (120 * x**4) + 1 / (252 * x**6) - 1 / (240 * x**8)
    return np.log(x) - 1 / (2 * x) - series - (1 / steps).sum(axis=-1)


def student_t(p, y):
    mu, s, n = np.split(p, 3)
    sigma, nu = softplus(s) + 1e-6, 2 + softplus(n)
    z = (mu - y) / sigma
    w = z**2 / nu
    value = np.log(sigma) + np.log(np.pi * nu) / 2 - log_gamma((nu + 1) / 2) + log_gamma(nu / 2)
    by_z = (nu + 1) * z / nu / (1 + w)
    by_nu = (1 / nu - digamma((nu + 1) / 2) + digamma(nu / 2) + np.log1p(w) - (nu + 1) / nu * w / (1 + w)) / 2
    slopes = by_z / sigma, (1 - z * by_z) / sigma * sigmoid(s), by_nu * sigmoid(n)
    return np.mean(value + (nu + 1) / 2 * np.log1p(w)), np.concatenate(slopes) / y.size


def negative_binomial(p, y):
    m, a = np.split(p, 2)
    mu, alpha = softplus(m), softplus(a) + 1e-6
    r, u = 1 / alpha, alpha * mu
    value = log_gamma(y + 1) + log_gamma(r) - log_gamma(r + y) - y * np.log(u / (1 + u)) + r * np.log1p(u)
    by_mu = (1 + alpha * y) / (1 + u) - y / mu
    by_alpha = r**2 * (digamma(r + y) - digamma(r) - np.log1p(u)) + (mu - y) * r / (1 + u)
    return np.mean(value), np.concatenate([by_mu * sigmoid(m), by_alpha * sigmoid(a)]) / y.size


SEVERAL = (pinball, ordered_pinball, gaussian, laplace, student_t, negative_binomial)
LOSSES = {f.__name__: f for f in (*SEVERAL, poisson, mse, mae, huber, cross_entropy, binary_cross_entropy)}


# ---- a batch


def predict(d, p, xs, states, every):
    """Raw outputs of g, one (rows, O) a sequence, and the final states (n, state_size)."""
    ys, finals = [], []
    states = [initial_state(d, p)] * len(xs) if states is None else states
    for x, state in zip(xs, states, strict=True):
        out, final, _ = layers_forward(d, p, x, state, no_masks(d, len(x)))
        ys.append(head_forward(d, p, readout(d, out, x, every))[0])
        finals.append(final)
    return ys, np.array(finals)


def loss_and_grad(d, p, xs, ys, *, loss, every, states, weights=None, masks=None, clip=0.0):
    """Weighted mean loss over the target rows; {block: gradient}, dx [(T, I)], dstate (n, state_size).

    states None: those of the parameters, or zeros."""
    own, states = states is None, [initial_state(d, p)] * len(xs) if states is None else states
    weights = weights or [np.ones(len(y)) for y in ys]
    masks = masks or [no_masks(d, len(x)) for x in xs]
    total, scale = 0.0, 1 / sum(w.sum() for w in weights)
    grads = {k: np.zeros(shape) for k, shape in blocks(d).items()}
    dxs, dstates = [], []
    for x, y, w, state, mask in zip(xs, ys, weights, states, masks, strict=True):
        out, _, tape = layers_forward(d, p, x, state, mask)
        q, head_tape = head_forward(d, p, readout(d, out, x, every))
        losses = [LOSSES[loss](qt, yt) for qt, yt in zip(q, y, strict=True)]
        total += scale * sum(wt * value for wt, (value, _) in zip(w, losses, strict=True))
        dq = np.array([scale * wt * slope for wt, (_, slope) in zip(w, losses, strict=True)])
        dout, dx_read = readout_backward(d, out, x, every, head_backward(d, p, head_tape, dq, grads))
        dx, dstate = layers_backward(d, p, tape, dout, mask, grads, clip)
        dxs.append(dx + dx_read)
        dstates.append(dstate)
        if own:
            initial_state_backward(d, dstate, grads)
    return total, grads, dxs, np.array(dstates)


# ---- updates


class Optimizer:
    """p <- p - change(gradient), PyTorch's formulas; the keywords are those of a plan's hyper dict."""

    def __init__(self, optimizer="sgd", learning_rate=0.01, momentum=0.0, nesterov=False, weight_decay=0.0,
                 no_bias_decay=False, beta1=0.9, beta2=0.999, eps=1e-8, centered=False, momentum_decay=4e-3,
                 rate_decay=0.0, initial_accumulator=0.0, eta_minus=0.5, eta_plus=1.2, step_min=1e-6,
                 step_max=50.0, backtrack=True, clip_norm=0.0, clip_value=0.0, clip_state=0.0, product=1.0,
                 previous=np.inf, step=0):  # fmt: skip
        self.__dict__.update({k: v for k, v in dict(locals()).items() if k != "self"})
        self.m, self.v, self.rules = {}, {}, {}  # rules: of some blocks, see `obeyed`

    def obeyed(self, k, old, w):
        """Weights after a step from `old` by a rule: low, high (equal: fixed), l1, l2, rows, columns."""
        rule, rate = self.rules[k], self.learning_rate
        w = np.sign(w) * np.maximum(abs(w) - rate * rule["l1"], 0)
        fixed = rule["low"] == rule["high"]
        for name, axis in (("rows", 1), ("columns", 0)):
            if rule[name]:
                norm = np.sqrt(((w * ~fixed) ** 2).sum(axis, keepdims=True))
                w = w * np.maximum(1 - rate * rule[name] / np.maximum(norm, 1e-300), 0)
        return np.where(fixed, old, np.minimum(np.maximum(w, rule["low"]), rule["high"]))

    def update(self, p, grads, loss=0.0):
        self.step += 1
        for k, rule in self.rules.items():
            grads = grads | {k: np.where(rule["low"] == rule["high"], 0, grads[k])}
        norm = np.sqrt(sum((g * g).sum() for g in grads.values()))
        if self.clip_norm and norm > self.clip_norm:
            grads = {k: g * (self.clip_norm / norm) for k, g in grads.items()}
        if self.clip_value:
            grads = {k: np.clip(g, -self.clip_value, self.clip_value) for k, g in grads.items()}
        self.worse, self.previous = loss > self.previous, loss
        if self.optimizer == "nadam":
            self.mu, self.next = (
                self.beta1 * (1 - 0.5 * 0.96 ** (t * self.momentum_decay)) for t in (self.step, self.step + 1)
            )
            self.product *= self.mu
        for k, g in grads.items():
            old = p[k]
            if k in self.rules:
                g = g + self.rules[k]["l2"] * old
            decays = self.weight_decay and (not self.no_bias_decay or "bias" not in k)
            if decays and self.optimizer == "adamw":
                p[k] = p[k] * (1 - self.learning_rate * self.weight_decay)
            elif decays:
                g = g + self.weight_decay * p[k]
            p[k] = p[k] - getattr(self, self.optimizer)(k, g)
            if k in self.rules:
                p[k] = self.obeyed(k, old, p[k])

    def sgd(self, k, g):
        if self.momentum:
            self.m[k] = self.momentum * self.m.get(k, 0) + g
            g = g + self.momentum * self.m[k] if self.nesterov else self.m[k]
        return self.learning_rate * g

    def adam(self, k, g):
        self.m[k] = self.beta1 * self.m.get(k, 0) + (1 - self.beta1) * g
        self.v[k] = self.beta2 * self.v.get(k, 0) + (1 - self.beta2) * g * g
        m, v = self.m[k] / (1 - self.beta1**self.step), self.v[k] / (1 - self.beta2**self.step)
        return self.learning_rate * m / (np.sqrt(v) + self.eps)

    adamw = adam

    def nadam(self, k, g):
        self.m[k] = self.beta1 * self.m.get(k, 0) + (1 - self.beta1) * g
        self.v[k] = self.beta2 * self.v.get(k, 0) + (1 - self.beta2) * g * g
        root = np.sqrt(self.v[k] / (1 - self.beta2**self.step)) + self.eps
        ahead = self.next / (1 - self.product * self.next) * self.m[k]
        return self.learning_rate * ((1 - self.mu) / (1 - self.product) * g + ahead) / root

    def rmsprop(self, k, g):
        self.v[k] = self.beta2 * self.v.get(k, 0) + (1 - self.beta2) * g * g
        v = self.v[k]
        if self.centered:
            self.v[k, "mean"] = self.beta2 * self.v.get((k, "mean"), 0) + (1 - self.beta2) * g
            v = v - self.v[k, "mean"] ** 2
        self.m[k] = g / (np.sqrt(v) + self.eps) + self.momentum * self.m.get(k, 0)
        return self.learning_rate * self.m[k]

    def adagrad(self, k, g):
        self.v[k] = self.v.get(k, self.initial_accumulator) + g * g
        rate = self.learning_rate / (1 + (self.step - 1) * self.rate_decay)
        return rate * g / (np.sqrt(self.v[k]) + self.eps)

    def rprop(self, k, g):
        """iRprop+ as its authors write it, with the last change of every weight; else iRprop-."""
        step, last, moved = self.m.get(k, (np.full(g.shape, self.learning_rate), 0 * g, 0 * g))
        same, flipped = last * g > 0, last * g < 0
        step = np.where(same, np.minimum(step * self.eta_plus, self.step_max), step)
        step = np.where(flipped, np.maximum(step * self.eta_minus, self.step_min), step)
        back = -moved if self.worse and self.backtrack else 0 * g
        g = np.where(flipped, 0, g)
        change = np.where(flipped, back, -np.sign(g) * step)
        self.m[k] = step, g, change
        return -change


# the optimiser and its numbers, in the words of a plan's hyper dict; all of them move a weight by about 0.01
FORMULAS = {
    "sgd": dict(learning_rate=0.05, momentum=0.5, weight_decay=0.01),
    "adam": dict(beta1=0.8, beta2=0.9, eps=1e-5, weight_decay=0.01),
    "adamw": dict(beta1=0.8, beta2=0.9, eps=1e-5, weight_decay=0.5),
    "nadam": dict(beta1=0.8, beta2=0.9, eps=1e-5, momentum_decay=0.1, weight_decay=0.01),
    "rmsprop": dict(beta2=0.9, eps=1e-4, weight_decay=0.01),
    "rmsprop-momentum": dict(beta2=0.9, eps=1e-4, momentum=0.6),
    "rmsprop-centered": dict(beta2=0.9, eps=1e-2, centered=True),
    "rmsprop-both": dict(beta2=0.9, eps=1e-2, momentum=0.6, centered=True, weight_decay=0.01),
    "adagrad": dict(eps=1e-6, weight_decay=0.01),
    "adagrad-decay": dict(eps=1e-6, rate_decay=0.3, initial_accumulator=0.01),
    "rprop": dict(),
    "rprop-without": dict(backtrack=False, step_min=0.002, step_max=0.03),
}
FORMULAS = {
    name: dict(optimizer=name.split("-")[0], learning_rate=0.01) | numbers
    for name, numbers in FORMULAS.items()
}


def train_epoch(d, p, optimizer, batches, *, loss, every):
    """Minibatch training: (xs, ys, states) a batch -> the loss of each before its update."""
    out = []
    for xs, ys, states in batches:
        options = dict(loss=loss, every=every, states=states, clip=optimizer.clip_state)
        value, grads, _, _ = loss_and_grad(d, p, xs, ys, **options)
        optimizer.update(p, grads, value)
        out.append(value)
    return out


# ---- the classical online algorithm, line by line


def f_forward(d, p, s, a):
    """One instance of f: s {suffix: state}, input a (I,) -> s_next, tape."""
    out, tape = {}, {}
    for suffix in suffixes(d):
        out[suffix], saved = CELLS[d["cell"]][1](d, part(p, suffix), a, s[suffix], 1.0)
        tape[suffix] = a, s[suffix], saved
        a = out[suffix][0]
    return out, tape


def f_backward(d, p, tape, ds, grads, clip=0.0):
    ds, da = dict(ds), 0.0
    for suffix in reversed(suffixes(d)):
        a, s, saved = tape[suffix]
        dh, *rest = ds[suffix]
        dh = clipped(dh + da, clip)
        da, ds[suffix], dw = CELLS[d["cell"]][2](d, part(p, suffix), a, s, 1.0, saved, (dh, *rest))
        add(grads, dw, suffix)
    return da, ds


def slide(d, p, optimizer, sequences, k, lead, loss):
    """One epoch over [(a (n, I), y (n, O), x0 (state_size,))]; changes p; the loss of every pattern."""
    losses, top = [], suffixes(d)[-1]
    for a, y, x0 in sequences:
        x = split_state(d, x0)
        for t in range(len(a) - k - lead + 1):
            grads = {name: np.zeros_like(w) for name, w in p.items()}
            s, tape = [x], []
            for j in range(k):
                s_next, saved = f_forward(d, p, s[j], a[t + j])
                s.append(s_next)
                tape.append(saved)
            q, head_tape = head_forward(d, p, joined(d, s[k][top][0][None], a[t + k - 1][None]))
            value, dq = LOSSES[loss](q[0], y[t + k - 1 + lead])
            ds = {suffix: [np.zeros_like(v) for v in s[k][suffix]] for suffix in suffixes(d)}
            ds[top][0] = joined_backward(d, head_backward(d, p, head_tape, dq[None], grads))[0][0]
            for j in reversed(range(k)):
                _, ds = f_backward(d, p, tape[j], ds, grads, optimizer.clip_state)
            optimizer.update(p, grads, value)
            x, _ = f_forward(d, p, x, a[t])
            losses.append(value)
    return losses


# ---- truncated backpropagation through time, line by line


def passes(steps, k1, k2):
    """(the step an error travels back to, the first new step, the end) of every pass over `steps` steps."""
    found = []
    for start in range(0, steps, k1):
        found.append((max(0, start - (k2 - k1)), start, min(start + k1, steps)))
    return found


def truncated_passes(d, p, xs, ys, states, *, k1, k2, loss, every, weights=None, dxs=None, dstates=None):
    """The passes of one batch, one after the other; `p` may be changed in between.

    Each gives the loss of its new steps and the gradient, both as sums over the targets, and the weight of
    these.  `states` become those after the last step of the pass; dxs and dstates are added to."""
    top = suffixes(d)[-1]
    weights = weights or [np.ones(len(y)) for y in ys]
    s = [[split_state(d, np.array(state))] for state in states]  # s[i][t]: sequence i before its step t
    tape = [[] for _ in xs]
    for edge, start, end in passes(max(map(len, xs)), k1, k2):
        value, size = 0.0, 0.0
        grads = {k: np.zeros(shape) for k, shape in blocks(d).items()}
        for i, (x, y, w) in enumerate(zip(xs, ys, weights, strict=True)):
            stop = min(end, len(x))
            if stop <= start:
                continue
            for t in range(start, stop):
                s_next, saved = f_forward(d, p, s[i][t], x[t])
                s[i].append(s_next)
                tape[i].append(saved)
            errors = {}
            for t in range(start, stop) if every else [len(x) - 1] * (stop == len(x)):
                row = t if every else 0
                q, head_tape = head_forward(d, p, joined(d, s[i][t + 1][top][0][None], x[t][None]))
                at, dq = LOSSES[loss](q[0], y[row])
                value, size = value + w[row] * at, size + w[row]
                drows = head_backward(d, p, head_tape, w[row] * dq[None], grads)
                errors[t], dx_read = (a[0] for a in map(np.atleast_1d, joined_backward(d, drows)))
                if dxs is not None:
                    dxs[i][t] += dx_read
            ds = {suffix: tuple(np.zeros_like(v) for v in s[i][0][suffix]) for suffix in suffixes(d)}
            for t in reversed(range(edge, stop)):
                ds[top] = (ds[top][0] + errors.get(t, 0), *ds[top][1:])
                dx, ds = f_backward(d, p, tape[i][t], ds, grads)
                if dxs is not None:
                    dxs[i][t] += dx
            if edge == 0 and dstates is not None:
                dstates[i] += split_state_backward(d, s[i][0], ds)
            states[i] = join_state(d, s[i][stop])
        yield value, size, grads


def truncated_loss_and_grad(d, p, xs, ys, *, states, weights=None, **options):
    """As loss_and_grad, summed over all passes with one set of weights."""
    total, scale = 0.0, 1 / sum(sum(w) for w in weights or [np.ones(len(y)) for y in ys])
    own, states = states is None, [initial_state(d, p)] * len(xs) if states is None else list(states)
    grads = {k: np.zeros(shape) for k, shape in blocks(d).items()}
    dxs, dstates = [np.zeros_like(x) for x in xs], np.zeros((len(xs), state_size(d)))
    options |= dict(weights=weights, dxs=dxs, dstates=dstates)
    for value, _, dw in truncated_passes(d, p, xs, ys, states, **options):
        total += scale * value
        add(grads, {k: scale * g for k, g in dw.items()})
    if own:
        initial_state_backward(d, scale * dstates.sum(axis=0), grads)
    return total, grads, [scale * dx for dx in dxs], scale * dstates


def truncated_epoch(d, p, optimizer, batches, **options):
    """(xs, ys, states, weights) a batch -> its mean loss; changes p after every pass that has targets, and
    the states of each batch."""
    losses, sizes = [], []
    for xs, ys, states, weights in batches:
        for value, size, grads in truncated_passes(d, p, xs, ys, states, weights=weights, **options):
            if size > 0:
                optimizer.update(p, {k: g / size for k, g in grads.items()})
                losses.append(value / size)
                sizes.append(size)
    return np.average(losses, weights=sizes)


# ---- checkpoints


@cache
def advances(steps, slots):
    """The fewest forward steps, each counted every time, with `slots` stored states (the first included)."""
    if slots == 1:
        return steps * (steps + 1) // 2
    if slots >= steps:
        return 2 * steps - 1
    return min(y + advances(steps - y, slots - 1) + advances(y, slots) for y in range(1, steps))


# ---- outputs that are fed back


def closed_loop(d, p, x, state, own, next_input=lambda y, step: y):
    """The outputs of one sequence: the input of step t is made of the output of step t-1 where own[t]."""
    s, ys, top = split_state(d, state), [], suffixes(d)[-1]
    for t in range(len(own)):
        a = next_input(ys[-1], t - 1) if own[t] else x[t]
        s, _ = f_forward(d, p, s, a)
        ys.append(head_forward(d, p, joined(d, s[top][0][None], a[None]))[0][0])
    return np.array(ys)


def forecast(d, p, x, state, steps, next_input=lambda y, step: y):
    """`steps` outputs: the one after the last step of x, and those that follow when outputs become inputs."""
    before = len(x) - 1
    own = np.arange(before + steps) > before
    return closed_loop(d, p, x, state, own, lambda y, step: next_input(y, step - before))[before:]
