"""Every plot at 6 x 4 inches: labelled axes, nothing cut off, a legend off the curves, safe colours."""

import numpy as np
import pytest

import bptt_fast as bf
from bptt_fast import diagnostics

matplotlib = pytest.importorskip("matplotlib")

X = np.random.default_rng(0).normal(size=(12, 20, 1))
Y = X[:, -5]


def network(seed=0, **options):
    return bf.Network(1, 3, 1, seed=seed, **options)


def draw_history(plots, ax):
    plots.history(network().fit(X, Y, epochs=9, validation_split=0.3, verbose=0), ax=ax)


def draw_one_epoch(plots, ax):
    plots.history(network().fit(X, Y, epochs=1, verbose=0), ax=ax)


def draw_prediction(plots, ax):
    spans = {"training": (0, 40), "test": (40, 60)}
    plots.prediction(np.arange(60), np.sin(np.arange(60)), np.cos(np.arange(60)), spans=spans, ax=ax)


def draw_restarts(plots, ax):
    plots.restarts(bf.restarts(network(), X, Y, n=8, epochs=8, verbose=0)[1], ax=ax)


def draw_kept_restarts(plots, ax):
    _, table = bf.restarts(network(), X, Y, n=4, epochs=5, keep="all", verbose=0)
    plots.restarts(table, ax=ax)


def draw_gradient_flow(plots, ax):
    cells = ("elman", "gru", "lstm", "mingru")
    flows = {cell: diagnostics.gradient_flow(network(cell=cell), X, Y) for cell in cells}
    plots.gradient_flow(flows, ax=ax)


def draw_error_surface(plots, ax):
    others = [network(seed=1), network(seed=2)]
    plots.error_surface(network(), X, Y, along=others, points=9, ax=ax)


def draw_phase_plane(plots, ax):
    net = bf.Network(1, 2, 1, seed=0)
    net.params[:], net["weight_hh_l0"] = 0, 2 * np.eye(2)  # two flip-flops: nine points
    plots.phase_plane(diagnostics.fixed_points(net, [0.0]), ax=ax)


def draw_forecast(plots, ax):
    pd = pytest.importorskip("pandas")
    days = pd.date_range("2024-01-01", periods=60, name="day")
    load = pd.Series(np.sin(np.arange(60) / 5), days, name="load (MW)")
    ahead = 0.9 * load[50:]
    quantiles = pd.DataFrame({q: ahead + (q - 0.5) for q in (0.05, 0.25, 0.5, 0.75, 0.95)})
    plots.forecast(load[:50], ahead, quantiles=quantiles, actual=load[50:], ax=ax)


DRAWINGS = [drawing for name, drawing in list(globals().items()) if name.startswith("draw_")]


def drawn_figures(monkeypatch, drawing):
    """The picture on axes of its own and on the caller's, which have no layout engine."""
    monkeypatch.setattr(matplotlib, "use", lambda *_: None)
    from matplotlib import pyplot

    from bptt_fast import plots

    pyplot.switch_backend("Agg")
    for figure in (None, pyplot.figure(figsize=(6, 4))):
        ax = figure.subplots() if figure else None
        drawing(plots, ax)
        ax = ax or pyplot.gcf().axes[0]
        ax.figure.canvas.draw()
        yield ax
        pyplot.close(ax.figure)


@pytest.mark.parametrize("drawing", DRAWINGS)
def test_picture(drawing, monkeypatch):
    from bptt_fast.plots import COLORS

    for ax in drawn_figures(monkeypatch, drawing):
        figure = ax.figure
        assert tuple(figure.get_size_inches()) == (6, 4)
        assert ax.get_xlabel() and ax.get_ylabel()
        box = figure.get_tightbbox()
        assert box.x0 >= 0 and box.y0 >= 0 and box.x1 <= 6 and box.y1 <= 4, box
        legend = ax.get_legend()
        assert (legend is None) == (drawing is draw_one_epoch)
        if legend:
            assert legend.get_window_extent().y0 >= ax.bbox.y1 - 1e-6  # above the axes
            title = ax._left_title
            if title.get_text():
                assert title.get_window_extent().y0 >= legend.get_window_extent().y1
        for line in ax.lines:
            red, green, blue = matplotlib.colors.to_rgb(line.get_color())
            assert red == green == blue or matplotlib.colors.to_hex(line.get_color()) in COLORS
