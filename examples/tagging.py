"""
Tagging every step
==================

A network colours Python source as an editor does: it says of every character whether it belongs to a keyword,
a name, a number, a string or a comment.  It is trained on functions of Python's standard library, whose tags
come from Python's own tokenizer, and tested on modules that it has not seen.
"""

import ast
import importlib.util
import io
import keyword
import textwrap
import tokenize
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

import bptt_fast as bf
from bptt_fast import plots

TAGS = ("space, operator", "keyword", "name", "number", "string", "comment")
TRAINING = (
    "argparse",
    "calendar",
    "configparser",
    "difflib",
    "fractions",
    "gettext",
    "tarfile",
)
TEST = ("shlex", "statistics", "textwrap")


def tags_of(source):
    """The tag of each character (T,)."""
    tags, starts = np.zeros(len(source), int), np.cumsum([0, *map(len, source.splitlines(keepends=True))])
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        kind = tokenize.tok_name[token.type]
        tag = {"NAME": 2, "NUMBER": 3, "STRING": 4, "COMMENT": 5}.get(kind, 4 if "FSTRING" in kind else 0)
        first, last = (starts[line - 1] + column for line, column in (token.start, token.end))
        tags[first:last] = 1 if keyword.iskeyword(token.string) else tag
    return tags


def functions(modules):
    """The functions of the modules, of up to 2000 characters, with their tags."""
    for module in modules:
        text = Path(importlib.util.find_spec(module).origin).read_text(encoding="utf-8")
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef):
                source = textwrap.dedent(ast.get_source_segment(text, node, padded=True))
                if len(source) <= 2000 and source.isascii():
                    yield source, tags_of(source)


def numbered(source):
    """The characters as integers (T, 1)."""
    return np.array([[ord(character)] for character in source], np.uint8)


training, test = list(functions(TRAINING)), list(functions(TEST))
x, y = [numbered(source) for source, _ in training], [tags for _, tags in training]
x_test, y_test = [numbered(source) for source, _ in test], [tags for _, tags in test]
print(f"{len(x)} functions of {sum(map(len, x)):,} characters; {len(x_test)} for the test")

# %%
# ``readout="every"`` has an output at each step, and the targets are a list of arrays (T_i,) like the inputs.
# A bidirectional network reads each function from both ends: whether a name is a keyword is seen at its end.
# ``categories`` says that inputs are integers below 128.
net = bf.Network(
    1, 32, len(TAGS), cell="gru", bidirectional=True, readout="every", categories={0: 128}, seed=0
)
history = net.fit(
    x,
    y,
    epochs=6,
    batch_size=8,
    optimizer=bf.Adam(bf.Cosine(0.01), clip_norm=1.0),
    loss="cross_entropy",
    verbose=0,
)
predicted = [outputs.argmax(axis=1) for outputs in net.predict(x_test)]
true, found = np.concatenate(y_test), np.concatenate(predicted)
print(f"{np.mean(true == found):.1%} of the characters correct after {sum(history['seconds']):.1f} s")

# %%
# For comparison: the most frequent tag of each character, whatever surrounds it.
counts = np.zeros((128, len(TAGS)))
np.add.at(counts, (np.concatenate(x)[:, 0], np.concatenate(y)), 1)
alone = counts.argmax(axis=1)[np.concatenate(x_test)[:, 0]]
print(f"the most frequent tag of each character: {np.mean(true == alone):.1%}")
for tag, name in enumerate(TAGS):
    among = true == tag
    print(f"{name:<16} {among.mean():6.1%} of the text, {np.mean(found[among] == tag):6.1%} found")

# %%
# A function of the test as the network colours it; what is underlined is wrong.
shown = min(range(len(test)), key=lambda i: abs(len(test[i][0]) - 700))
source, tags = test[shown]
colors = ("0.6", plots.BLUE, "0.1", plots.PURPLE, plots.GREEN, plots.VERMILLION)
lines = source.splitlines()
figure = plt.figure(figsize=(8, 0.4 + 0.2 * len(lines)))
ax = figure.add_axes((0, 0, 1, 1))
ax.set(xlim=(-1, 92), ylim=(len(lines) + 0.5, -2))
ax.axis("off")
row = column = 0
for character, tag, wanted in zip(source, predicted[shown], tags, strict=True):
    ax.text(column, row, character, color=colors[tag], family="monospace", size=9, va="center")
    if tag != wanted and not character.isspace():
        ax.plot([column, column + 0.8], [row + 0.42] * 2, color="black", linewidth=1)
    row, column = (row + 1, 0) if character == "\n" else (row, column + 1)
for tag, name in enumerate(TAGS[1:], 1):
    ax.text(16 * (tag - 1), -1.3, name, color=colors[tag], weight="bold", size=9, va="center")
plt.show()
