"""Draws the pictures of these pages: `python docs/pictures.py [folder]`, needs matplotlib and pandas.

Two are figures of examples, which it runs: that takes some seconds.

Those of unfolding.md share their symbols.  A box is a time step, filled if its tape is in memory during the
highlighted backward pass; a bar left of a box is the state before that step, stored alone; a downward arrow
is an error that is injected; a leftward arrow is a backward pass, from its newest step to its oldest, with a
dot where an error is added; a diamond is an update of the weights.
"""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import matplotlib.pyplot as plt
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle

plt.rcParams.update({"svg.hashsalt": "bptt_fast", "font.size": 8})  # the same bytes each time
STEPS = 12
BLUE, RED, GREY, BLACK = "#4c78a8", "#c8372d", "#8a8a8a", "#1a1a1a"
STORED = {"facecolor": BLUE, "edgecolor": BLACK}
PASSED = {"facecolor": "white", "edgecolor": GREY}
LEFT, RIGHT, TOP = -2.1, STEPS + 0.9, 1.85  # edges of a picture, in steps
WIDTH, LEGEND = 6.2, 0.3  # inches
ROOM = 0.32  # between two passes, in steps


class Picture:
    """A row of boxes for the steps 1 to STEPS; box t spans [t - 1, t], passes lie below one another."""

    def __init__(self, lowest: float) -> None:
        height = LEGEND + (TOP - lowest) * WIDTH / (RIGHT - LEFT)
        self.figure = plt.figure(figsize=(WIDTH, height))
        self.ax = self.figure.add_axes((0, LEGEND / height, 1, 1 - LEGEND / height))
        self.ax.set(xlim=(LEFT, RIGHT), ylim=(lowest, TOP))
        self.ax.axis("off")
        self.legend: dict[str, object] = {}
        self.note(0.4, "steps")
        self.note(1.35, "errors")

    def note(self, y: float, text: str, x: float = LEFT + 0.1, **options: object) -> None:
        self.ax.text(x, y, text, **{"va": "center", "color": BLACK, **options})

    def steps(self, first: int, last: int, label: str, kind: dict[str, object]) -> None:
        """Boxes `first` to `last` of a kind."""
        for t in range(first, last + 1):
            self.ax.add_patch(Rectangle((t - 0.92, 0), 0.84, 0.8, linewidth=0.8, **kind))
            self.ax.text(
                t - 0.5, 0.4, str(t), ha="center", va="center", color="white" if kind is STORED else GREY
            )
        self.legend[label] = Patch(linewidth=0.8, **kind)

    def state(self, t: int) -> None:
        """A bar left of box `t`: only the state before it is stored."""
        self.ax.add_patch(Rectangle((t - 1.07, -0.12), 0.14, 1.04, facecolor=BLUE, linewidth=0))
        self.legend["state stored"] = Line2D([], [], color=BLUE, linewidth=3, linestyle="", marker="|")
        self.legend["state stored"].set(markersize=9, markeredgewidth=3)

    def errors(self, *steps: int) -> None:
        for t in steps:
            self._arrow((t - 0.5, 1.75), (t - 0.5, 0.86))
        self.legend["error"] = Line2D([], [], color=RED, linestyle="", marker=r"$\downarrow$", markersize=9)

    def back(self, y: float, newest: int, oldest: int, joined: range, *, faint: bool = False) -> None:
        """A backward pass at height `y`; the errors of the steps `joined` are added to it."""
        alpha = 0.4 if faint else 1
        self._arrow((newest - 0.5, y), (oldest - 0.95, y), alpha)
        self.ax.plot(
            [t - 0.5 for t in joined], [y] * len(joined), "o", color=RED, markersize=3.2, alpha=alpha
        )
        self.legend["backward pass"] = Line2D(
            [], [], color=RED, linestyle="", marker=r"$\leftarrow$", markersize=11
        )

    def update(self, t: int, y: float) -> None:
        """An update of the weights after step `t`."""
        self.ax.plot([t + 0.05], [y], "D", color=BLACK, markersize=4, clip_on=False)
        self.legend["update"] = Line2D([], [], color=BLACK, linestyle="", marker="D", markersize=4)

    def _arrow(self, start: tuple[float, float], end: tuple[float, float], alpha: float = 1) -> None:
        style = {"arrowstyle": "-|>", "color": RED, "linewidth": 1.1, "mutation_scale": 7, "alpha": alpha}
        self.ax.annotate("", end, start, arrowprops={**style, "shrinkA": 0, "shrinkB": 0})

    def save(self, path: Path) -> None:
        self.figure.legend(
            self.legend.values(),
            self.legend.keys(),
            loc="lower center",
            ncols=len(self.legend),
            frameon=False,
            handletextpad=0.4,
            columnspacing=1.4,
            handlelength=1.4,
        )
        self.figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None, dpi=150)
        plt.close(self.figure)


def full() -> Picture:
    """All steps are stored, all errors are injected, one backward pass reaches the first step."""
    picture = Picture(-0.9)
    picture.steps(1, STEPS, "stored", STORED)
    picture.errors(*range(1, STEPS + 1))
    picture.note(-0.6, "backward")
    picture.back(-0.6, STEPS, 1, range(1, STEPS + 1))
    picture.update(STEPS, -0.6)
    return picture


def sliding(k: int = 4) -> Picture:
    """Each window has one error and its own update; the last window is the one in memory."""
    picture = Picture(-0.8 - ROOM * (STEPS - k))
    picture.steps(1, STEPS - k, "not stored", PASSED)
    picture.steps(STEPS - k + 1, STEPS, "stored", STORED)
    picture.state(STEPS - k + 1)
    picture.errors(*range(k, STEPS + 1))
    _passes(picture, k, 1, k)
    return picture


def truncated(k1: int = 2, k2: int = 5) -> Picture:
    """A pass every k1 steps propagates the k1 newest errors, all to the same step, k2 steps back."""
    picture = Picture(-0.8 - ROOM * (STEPS // k1 - 1))
    picture.steps(1, STEPS - k2, "not stored", PASSED)
    picture.steps(STEPS - k2 + 1, STEPS, "stored", STORED)
    picture.errors(*range(1, STEPS + 1))
    _passes(picture, k1, k1, k2)
    return picture


def _passes(picture: Picture, first: int, k1: int, k2: int) -> None:
    """The passes whose newest steps are first, first + k1, ..., below one another."""
    for n, newest in enumerate(range(first, STEPS + 1, k1)):
        y = -0.5 - ROOM * n
        picture.back(
            y,
            newest,
            max(1, newest - k2 + 1),
            range(newest - k1 + 1, newest + 1),
            faint=newest < STEPS,
        )
        picture.update(newest, y)
    picture.note(-0.5, "backward")


def checkpointed(segment: int = 4) -> Picture:
    """Only states are stored; each segment runs forward again, then backward: here the second."""
    picture = Picture(-1.35)
    picture.steps(1, segment, "not stored", PASSED)
    picture.steps(segment + 1, 2 * segment, "stored", STORED)
    picture.steps(2 * segment + 1, STEPS, "not stored", PASSED)
    for n in range(3):
        picture.state(n * segment + 1)
    picture.errors(*range(1, STEPS + 1))
    for n, what in enumerate(("pending", "computed again, backward", "done")):
        first, last = n * segment + 1, (n + 1) * segment
        picture.back(-0.6, last, first, range(first, last + 1), faint=n != 1)
        picture.note(-1.05, what, x=(first + last - 1) / 2, ha="center", color=GREY)
    picture.note(-0.6, "backward")
    picture.update(STEPS, -0.6)
    return picture


class Flow:
    """Boxes on a grid, arrows between them; for the data flow of one epoch."""

    def __init__(self) -> None:
        self.figure = plt.figure(figsize=(7.6, 3.7))
        self.ax = self.figure.add_axes((0, 0, 1, 1))
        self.ax.set(xlim=(-0.53, 4.53), ylim=(-3.2, 0.55))
        self.ax.axis("off")

    def box(self, column: float, y: float, title: str, what: str, color: str) -> None:
        self.ax.add_patch(
            Rectangle(
                (column - 0.42, y - 0.31), 0.84, 0.62, facecolor="white", edgecolor=color, linewidth=1.1
            )
        )
        self.ax.text(column, y + 0.12, title, ha="center", va="center", weight="bold", color=color)
        self.ax.text(column, y - 0.14, what, ha="center", va="center", size=7, color=BLACK)

    def arrow(self, start: tuple[float, float], end: tuple[float, float], label: str = "") -> None:
        style = {"arrowstyle": "-|>", "color": GREY, "linewidth": 1, "mutation_scale": 8}
        self.ax.annotate("", end, start, arrowprops={**style, "shrinkA": 0, "shrinkB": 0})
        x, y = (start[0] + end[0]) / 2, (start[1] + end[1]) / 2
        self.ax.text(x + 0.1, y, label, va="center", size=7, color=GREY)

    def band(self, top: float, bottom: float, label: str) -> None:
        left, right = self.ax.get_xlim()
        self.ax.add_patch(
            Rectangle((left, bottom), right - left, top - bottom, facecolor="0.955", linewidth=0)
        )
        self.ax.text(2.5, bottom + 0.14, label, ha="center", va="center", size=7, color=GREY)

    def save(self, path: Path) -> None:
        self.figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None, dpi=150)
        plt.close(self.figure)


def flow() -> Flow:
    """From arrays in Python through a batch in C and back, with shapes."""
    picture = Flow()
    picture.band(0.5, -0.62, "Python, once per fit: data.py, plans.py, fit.py")
    picture.band(-0.67, -3.1, "C, for each batch of an epoch: epoch.c")
    for column, title, what in (
        (0, "sequences", "rows, offsets"),
        (1, "params", "(P,)"),
        (4, "history", "losses per epoch"),
    ):
        picture.box(column, 0, title, what, BLACK)
    forward = ("gather", "x (T, B, I)"), ("project", "zx (T, B, GH)"), ("scan forward", "states (T+1, B, SH)")
    for column, (title, what) in enumerate(
        (*forward, ("readout g", "y (T, B, O)"), ("loss", "dy (T, B, O)"))
    ):
        picture.box(column, -1.2, title, what, BLUE)
        if column:
            picture.arrow((column - 0.58, -1.2), (column - 0.43, -1.2))
    back = ("update", "(P,)"), ("norm, clip", "a scale factor"), ("weight gradients", "(P,)")
    for column, (title, what) in enumerate(
        (*back, ("scan backward", "dzx, dzr (T, B, GH)"), ("backward of g", "dh (T, B, H)"))
    ):
        picture.box(column, -2.4, title, what, RED)
        if column:
            picture.arrow((column - 0.43, -2.4), (column - 0.58, -2.4))
    picture.arrow((0, -0.31), (0, -0.87))
    picture.arrow((1, -0.31), (1, -0.87))
    picture.arrow((4, -0.87), (4, -0.33))
    picture.arrow((4, -1.51), (4, -2.07))
    picture.arrow((2.25, -1.51), (2.75, -2.07), "tape: states, gates")
    picture.arrow((0.2, -2.09), (0.8, -1.53), "new weights")
    return picture


CHOICES = {  # of choosing.md, by the question: the answer; the last one is for all that is left
    "class": {
        "forecasts from DataFrames, with\ncovariates, calendar, intervals": "Forecaster",
        "pipelines and searches\nof scikit-learn": "RNNClassifier, RNNRegressor,\nRNNForecaster",
        "part of a larger PyTorch model": "bptt_fast.torch:\nRNN, GRU, LSTM",
        "rows of a file, without Python": "bptt-fast train",
        "data that arrive one by one": "Network.learn_online: Learner",
        "many fits: subjects, folds,\nsettings, seeds": "sweep, cross_validate,\nrestarts: of a Network",
        "anything else": "Network",
    },
    "unfolding": {
        "an update after every row, or the\nclassical algorithm": "SlidingBPTT(k)",
        "the batch fits into memory\n(net.estimate_memory)": "FullBPTT()",
        "what matters lies within k2 steps": "TruncatedBPTT(k1, k2)",
        "anything else": "CheckpointedBPTT()",
    },
    "optimiser": {
        "an update after every row": "SGD(0.01) or Adam(0.001)",
        "least squares, at most some\nhundred parameters": "LevenbergMarquardt()",
        "all data in one batch, some\nthousand parameters": "LBFGS()",
        "anything else": "Adam(0.003, clip_norm=1.0)",
    },
}


class Choices:
    """A column of questions, each with its answer to the right; in inches."""

    ROW, WIDTH = 0.56, 5.4

    def __init__(self, questions: dict[str, str]) -> None:
        height = self.ROW * len(questions)
        self.figure = plt.figure(figsize=(self.WIDTH, height))
        self.ax = self.figure.add_axes((0, 0, 1, 1))
        self.ax.set(xlim=(0, self.WIDTH), ylim=(height, 0))
        self.ax.axis("off")
        for n, (question, answer) in enumerate(questions.items()):
            y = self.ROW * (n + 0.5)
            self.box(0.12, y, 2.35, question, BLACK)
            self.box(3.02, y, 2.26, answer, BLUE, weight="bold")
            self.arrow((2.47, y), (3.02, y))
            if n < len(questions) - 1:
                self.ax.text(2.72, y - 0.08, "yes", ha="center", color=GREY, size=7)
                self.arrow((1.3, y + 0.19), (1.3, y + self.ROW - 0.19))
                self.ax.text(1.36, y + self.ROW / 2, "no", va="center", color=GREY, size=7)

    def box(self, left: float, y: float, width: float, text: str, color: str, **options: object) -> None:
        corner = left, y - 0.19
        self.ax.add_patch(Rectangle(corner, width, 0.38, facecolor="white", edgecolor=color, linewidth=1.1))
        self.ax.text(left + width / 2, y, text, ha="center", va="center", color=color, **options)

    def arrow(self, start: tuple[float, float], end: tuple[float, float]) -> None:
        style = {"arrowstyle": "-|>", "color": GREY, "linewidth": 1, "mutation_scale": 8}
        self.ax.annotate("", end, start, arrowprops={**style, "shrinkA": 0, "shrinkB": 0})

    def save(self, path: Path) -> None:
        self.figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None, dpi=150)
        plt.close(self.figure)


EXAMPLES = {"forecast.svg": "forecasting", "restarts.png": "restarts"}  # picture: example


def first_figure(example: str, path: Path) -> None:
    """The first figure that an example shows."""
    figures: list[plt.Figure] = []
    with plt.rc_context():
        plt.rcdefaults()
        plt.rcParams["svg.hashsalt"] = "bptt_fast"
        plt.show = lambda: figures.append(plt.gcf())  # in place of a window
        runpy.run_path(str(Path(__file__).parents[1] / "examples" / f"{example}.py"))
        figures[0].savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)
        plt.close("all")


def main() -> None:
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent
    for draw in (full, sliding, truncated, checkpointed, flow):
        draw().save(folder / f"{draw.__name__}.svg")
    for name, questions in CHOICES.items():
        Choices(questions).save(folder / f"choose_{name}.svg")
    for name, example in EXAMPLES.items():
        first_figure(example, folder / name)


if __name__ == "__main__":
    main()
