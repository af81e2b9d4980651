"""A gated cell, a loss with a parameter and an optimiser with a new number are added to a copy of the tree,
by editing at most four files for each, the reference and the documentation included."""

import os
import re
import shutil
import subprocess
import sys

import pytest
from support.cases import ROOT

pytestmark = pytest.mark.slow


class Edits:
    """Edits of a copy of the tree, and the files they touched."""

    def __init__(self, tree):
        self.tree, self.files = tree, set()

    def create(self, path, text):
        assert not (self.tree / path).exists()
        (self.tree / path).write_text(text.lstrip("\n"))
        self.files.add(path)

    def before(self, path, mark, text):
        """Put the text before a mark that stands in the file once."""
        old = (self.tree / path).read_text()
        assert old.count(mark) == 1, (path, mark, old.count(mark))
        (self.tree / path).write_text(old.replace(mark, text + mark))
        self.files.add(path)


def cell(edit):
    """The minimal gated unit: Zhou et al. 2016."""
    edit.create(
        "csrc/cells/mgu.h",
        """
/* mgu.h:  f = s(zx_f + zr_f),  n = tanh(zx_n + zr_n),  h = n + f * (h_prev - n)
   gates f n      kept: f n */
#define GATES 2
#define STATES 1
#define GATE_VALUES 2
#define PASSES_STATE 1
#define KEEP_GATE 0

INLINE void mgu_forward(int act, const V *peep, const V *zx, const V *zr, const V *s_prev, V *s,
                        V *saved) {
    (void)act, (void)peep;
    V f = v_sigmoid(zx[0] + zr[0]), n = v_tanh(zx[1] + zr[1]);
    s[0] = n + f * (s_prev[0] - n);
    saved[0] = f, saved[1] = n;
}
INLINE void mgu_backward(int act, const V *peep, const V *saved, const V *s_prev, const V *s, V *ds,
                         V *dzx, V *dzr) {
    (void)act, (void)peep, (void)s;
    V f = saved[0], n = saved[1];
    dzx[0] = dzr[0] = ds[0] * (s_prev[0] - n) * f * (1 - f);
    dzx[1] = dzr[1] = ds[0] * (1 - f) * (1 - n * n);
    ds[0] = ds[0] * f;
}
""",
    )
    edit.before("csrc/cells.def", "#define CELL mlp\n", '#define CELL mgu\n#include "cell.h"\n')
    edit.before(
        "tests/support/reference.py",
        "# name: blocks, forward, backward, number of states\n",
        """def mgu_blocks(d, inputs):
    n = d["hidden_size"]
    return {"weight_ih": (2 * n, inputs), "weight_hh": (2 * n, n), "bias_ih": (2 * n,), "bias_hh": (2 * n,)}


def mgu_forward(d, w, x, s, m):
    h = m * s[0]
    zf, zn = np.split(w["weight_ih"] @ x + w["bias_ih"] + w["weight_hh"] @ h + w["bias_hh"], 2)
    f, n = sigmoid(zf), np.tanh(zn)
    return ((1 - f) * n + f * s[0],), (h, f, n)


def mgu_backward(d, w, x, s, m, saved, ds):
    (h, f, n), (dh,) = saved, ds
    dz = np.concatenate([dh * (s[0] - n) * f * (1 - f), dh * (1 - f) * (1 - n * n)])
    dw = {"weight_ih": np.outer(dz, x), "weight_hh": np.outer(dz, h), "bias_ih": dz, "bias_hh": dz}
    return w["weight_ih"].T @ dz, (dh * f + m * (w["weight_hh"].T @ dz),), dw


""",
    )
    row = '    "gru": (gru_blocks, gru_forward, gru_backward, 1),\n'
    edit.before("tests/support/reference.py", row, '    "mgu": (mgu_blocks, mgu_forward, mgu_backward, 1),\n')
    edit.before("docs/cells.md", "## The readout and the losses\n", "## mgu\n\nf = ..., n = ...\n\n")


def loss(edit):
    """scale^2 log(cosh(e / scale))"""
    row = 'LOSS(log_cosh, NUMBERS, UNCURVED, { "scale", 1, 0, INFINITY })\n'
    edit.before("csrc/losses.def", "CLASS_LOSS(cross_entropy", row)
    edit.before(
        "csrc/losses.h",
        "/* log(1 + exp(p)) - y p, without overflow */\n",
        """/* scale^2 log(cosh(e / scale)) */
INLINE double log_cosh_loss(const double *with, double p, double y, double *dp) {
    const double scale = with[0], e = (p - y) / scale;
    *dp = scale * tanh(e);
    return scale * scale * (fabs(e) + log1p(exp(-2 * fabs(e))) - 0.69314718055994531);
}
""",
    )
    edit.before(
        "tests/support/reference.py",
        "def cross_entropy(p, y):\n",
        """def log_cosh(p, y, scale=1.0):
    e = (p - y) / scale
    return scale**2 * np.mean(np.log(np.cosh(e))), scale * np.tanh(e) / p.size


""",
    )
    edit.before("tests/support/reference.py", "cross_entropy, binary_cross_entropy)}", "log_cosh, ")
    edit.before("docs/cells.md", '| `"cross_entropy"` |', '| `"log_cosh"` | real | log cosh | tanh |\n')


def optimizer(edit):
    """m = beta1 m + (1 - beta1) g;  rate m / (|m| + softness)"""
    number = 'NUMBER(REAL, softness, GIVEN, 0, "soft_sign: of the sign")\n'
    edit.before("csrc/optimizers.def", "NUMBER(REAL, clip_norm,", number)
    edit.before("csrc/optimizers.def", "OPTIMIZER(rprop,", "OPTIMIZER(soft_sign, 1, 1, 1, 1 / h->softness)\n")
    edit.before(
        "csrc/optimizers.h",
        "/* What an update's step needs, once per update",
        """/* m = b1 m + (1 - b1) g;  rate m / (|m| + softness) */
static void soft_sign_prepare(bptt_hyper *h, update *u) {
    (void)h, (void)u;
}
INLINE V soft_sign_step(const bptt_hyper *h, const update *u, V g, V w, real *s, int64_t stride) {
    (void)w, (void)stride;
    const V m = (real)h->beta1 * v_load(s) + (real)(1 - h->beta1) * g;
    v_store(s, m);
    return (real)u->rate * m / (v_max(m, -m) + (real)h->softness);
}

""",
    )
    edit.before(
        "bptt_fast/optimizers.py",
        "Optimizer = FirstOrder | SecondOrder\n",
        '''@dataclass(frozen=True, repr=False)
class SoftSign(FirstOrder):
    """w <- w - r m / (|m| + softness), m <- beta1 m + (1 - beta1) g."""

    name: ClassVar[str] = "soft_sign"
    learning_rate: float | Schedule = 0.01
    beta1: float = field(default=0.9, kw_only=True)
    softness: float = field(default=0.1, kw_only=True)


''',
    )
    edit.before("bptt_fast/optimizers.py", "SGD, Adam, AdamW, NAdam, RMSprop,", "SoftSign, ")
    edit.before(
        "tests/support/reference.py",
        "    def rprop(self, k, g):\n",
        """    def soft_sign(self, k, g):
        self.m[k] = self.beta1 * self.m.get(k, 0) + (1 - self.beta1) * g
        return self.learning_rate * self.m[k] / (abs(self.m[k]) + self.softness)

""",
    )
    edit.before("tests/support/reference.py", "no_bias_decay=False, beta1=0.9", "softness=0.1, ")
    numbers = '    "soft_sign": dict(softness=0.3, beta1=0.7),\n'
    edit.before("tests/support/reference.py", '    "rprop": dict(),\n', numbers)


CHECK = """
import numpy as np
import bptt_fast as bf
from bptt_fast import optimizers
from support import cases, gradcheck, reference as ref
from support.training import Training, check

assert "mgu" in cases.FORMS and "log_cosh" in cases.LOSSES and "soft_sign" in optimizers.OPTIMIZERS
deep = dict(every=True, num_layers=2, bidirectional=True, head=(3,))
for more in (dict(), deep, dict(loss="log_cosh", weighted=True)):
    problem = cases.Problem(**cases.FORMS["mgu"], **more)
    problem.check_reference()
    for isa in cases.isas():
        problem.check_core(isa)
        for dtype in ("float64", "float32"):
            problem.check_agreement(dtype, isa)

net = bf.Network(2, 4, 3, cell="mgu", dtype="float64", forget_bias=1.0, seed=0)
x, y = np.random.default_rng(0).normal(size=(2, 5, 6, 2))[0], np.random.default_rng(1).normal(size=(5, 3))
chosen = bf.Loss("log_cosh", scale=0.3)
slope = net.loss_and_grad(x, y, loss=chosen)[1].flat
gradcheck.check(lambda: net.evaluate(x, y, loss=chosen), {"params": net.params}, {"params": slope})
p, expected = net.predict(x), 0.0
for row, target in zip(p, y):
    expected += ref.log_cosh(row, target, 0.3)[0] / len(p)
assert abs(net.evaluate(x, y, loss=chosen) - expected) < 1e-12

training = Training(optimizer=ref.FORMULAS["soft_sign"], lengths=(5, 3, 6, 1, 4, 2, 3), data_seed=1)
check(*training.epoch(batch=3), 1e-10, training.problem.params)
history = net.fit(x, y, epochs=30, optimizer=optimizers.SoftSign(0.01), loss=chosen, verbose=0)
assert history["loss"][-1] < history["loss"][0]
print("right")
"""


@pytest.mark.skipif(not shutil.which("gcc"), reason="needs gcc")
def test_one_of_each(tmp_path):
    pytest.importorskip("Cython")
    tree = tmp_path / "tree"
    ignored = shutil.ignore_patterns("*.so", "_core.c", "__pycache__", "build", ".*")
    for name in ("csrc", "bptt_fast", "tests", "docs"):
        shutil.copytree(ROOT / name, tree / name, ignore=ignored)
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tree)
    for add in (cell, loss, optimizer):
        edit = Edits(tree)
        add(edit)
        assert len(edit.files) <= 4, (add.__name__, edit.files)
    instances = tree / "csrc/instances.c"
    rows = re.sub(r" X\(avx512,.*?YES\)", "", instances.read_text().replace("\\\n", " "), flags=re.DOTALL)
    instances.write_text(rows)
    for instance in tree.glob("csrc/instances/*avx512*"):
        instance.unlink()
    flags = tree / "csrc/flags"
    flags.write_text(flags.read_text().replace("-O3", "-O1"))
    environment = os.environ | {"PYTHONPATH": f"{tree}{os.pathsep}{tree / 'tests'}"}
    for command in (("setup.py", "build_ext", "--inplace"), ("-c", CHECK)):
        done = subprocess.run(
            [sys.executable, *command],
            cwd=tree,
            env=environment,
            capture_output=True,
            text=True,
            timeout=1200,
        )
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert done.stdout.strip().endswith("right")
