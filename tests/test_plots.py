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


def test_quantiles_of_all_targets():
    """The table of a forecaster as it is, if there is one target."""
    plots, pd = pytest.importorskip("bptt_fast.plots"), pytest.importorskip("pandas")
    load = pd.Series(np.sin(np.arange(20) / 5), name="load")
    one = pd.DataFrame({q: load[15:] + q for q in (0.1, 0.5, 0.9)})
    both = pd.concat({"load": one, "wind": one}, axis=1)
    drawn = [plots.forecast(load[:15], load[15:], quantiles=q) for q in (one, both[["load"]])]
    first, second = ([c.get_paths()[0].vertices for c in ax.collections] for ax in drawn)
    assert len(first) == 1 and np.array_equal(first, second)
    with pytest.raises(
        bf.ShapeError, match=r"quantiles: expected those of one target, got load, wind.*'load'"
    ):
        plots.forecast(load[:15], load[15:], quantiles=both)


def series_and_forecast(known, steps, scale=1.0, spans=()):
    """A prediction, as `bptt-fast plot --steps` draws it."""
    time = np.arange(known + steps)
    actual = np.r_[np.sin(time[:known] / 5), np.full(steps, np.nan)] * scale
    spans = {"forecast": (time[known], time[-1])} if steps else spans
    return lambda plots: plots.prediction(time, actual, np.cos(time / 5) * scale, spans=spans)


def forecast_by(plots, pd, freq, steps, levels=(0.05, 0.25, 0.5, 0.75, 0.95), known=60):
    times = pd.date_range("2024-01-01", periods=known + steps, freq=freq)
    name = "a very long name of a target, in megawatts per hour and per square metre of the area"
    load = pd.Series(np.sin(np.arange(known + steps) / 5), times, name=name)
    quantiles = pd.DataFrame({q: load[known:] + q - 0.5 for q in levels})
    return plots.forecast(load[:known], load[known:], quantiles=quantiles, actual=load[known:])


def backtest_of(plots, pd, horizon):
    series = pd.DataFrame({"load": np.sin(np.arange(60) / 4)})
    model = bf.Forecaster("load", horizon=horizon, hidden_size=2, window=8, loss="gaussian", seed=0)
    model.fit(series[:20], epochs=1, verbose=0)
    return plots.backtest(bf.backtest(model, series, start=60 - 3 * horizon, quantiles=[0.1, 0.9]))


NARROW = {"training": (0, 170), "validation": (170, 185), "test": (185, 192), "forecast": (192, 199)}
EXTREMES = {
    "one epoch": lambda plots, pd: plots.history({"epoch": [1], "loss": [0.5], "val_loss": [0.7]}),
    "two epochs": lambda plots, pd: plots.history({"epoch": [1, 2], "loss": [1e300, 1e299]}),
    "a constant loss": lambda plots, pd: plots.history({"epoch": [1, 2, 3], "loss": [0.5] * 3}),
    "NaN": lambda plots, pd: plots.history({"epoch": [1, 2], "loss": [0.5, 0.4], "val_loss": [np.nan] * 2}),
    "one step ahead": lambda plots, pd: series_and_forecast(200, 1)(plots),
    "two steps ahead": lambda plots, pd: series_and_forecast(200, 2)(plots),
    "five steps ahead": lambda plots, pd: series_and_forecast(200, 5)(plots),
    "one row": lambda plots, pd: series_and_forecast(1, 0)(plots),
    "one row and one step": lambda plots, pd: series_and_forecast(1, 1)(plots),
    "huge values": lambda plots, pd: series_and_forecast(200, 3, 1e300)(plots),
    "narrow spans": lambda plots, pd: series_and_forecast(200, 0, spans=NARROW)(plots),
    "missing values": lambda plots, pd: series_and_forecast(200, 3, np.nan)(plots),
    "hours": lambda plots, pd: forecast_by(plots, pd, "h", 1),
    "minutes": lambda plots, pd: forecast_by(plots, pd, "min", 2),
    "years": lambda plots, pd: forecast_by(plots, pd, "YS", 24, np.arange(1, 20) / 20),
    "a row of history": lambda plots, pd: forecast_by(plots, pd, "D", 1, known=1),
    "tested one step ahead": lambda plots, pd: backtest_of(plots, pd, 1),
    "tested twelve steps ahead": lambda plots, pd: backtest_of(plots, pd, 12),
    "one restart": lambda plots, pd: plots.restarts(bf.restarts(network(), X, Y, 1, epochs=1, verbose=0)[1]),
    "two restarts": lambda plots, pd: plots.restarts(bf.restarts(network(), X, Y, 2, epochs=2, verbose=0)[1]),
    "one lag": lambda plots, pd: plots.gradient_flow(diagnostics.gradient_flow(network(), X[:, :1], Y)),
    "twelve flows": lambda plots, pd: plots.gradient_flow(
        {f"network number {i} of a long name": diagnostics.gradient_flow(network(i), X, Y) for i in range(12)}
    ),
    "a flat surface": lambda plots, pd: plots.error_surface(network(), X, Y * 1e5, points=5),
}


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


def check_texts(ax):
    """Nothing is cut off; names in the axes and the factor of the numbers overlap nothing."""
    box = ax.figure.get_tightbbox()
    assert box.x0 >= 0 and box.y0 >= 0 and box.x1 <= 6 and box.y1 <= 4, box
    shown = [*ax.texts, *[text for text in (ax.yaxis.get_offset_text(),) if text.get_text()]]
    boxes = [text.get_window_extent() for text in shown]
    for text, place in zip(ax.texts, boxes, strict=False):
        assert ax.bbox.x0 <= place.x0 and place.x1 <= ax.bbox.x1, text
    if ax.get_legend():
        boxes.append(ax.get_legend().get_window_extent())
    for i, one in enumerate(boxes):
        assert not any(one.overlaps(other) for other in boxes[:i])


@pytest.mark.parametrize("which", EXTREMES)
def test_extreme_pictures(which, monkeypatch):
    pd = pytest.importorskip("pandas")
    from matplotlib import pyplot

    from bptt_fast import plots

    pyplot.switch_backend("Agg")
    ax = EXTREMES[which](plots, pd)
    ax.figure.canvas.draw()
    check_texts(ax)
    assert ax.bbox.width > 0.5 * ax.figure.bbox.width and ax.bbox.height > 0.4 * ax.figure.bbox.height
    for line in ax.lines:  # a single point has a marker
        assert np.isfinite(line.get_ydata()).sum() != 1 or line.get_marker() != "None", line
    labels = [text.get_text() for text in ax.figure.axes[-1].get_yticklabels()]
    assert len(set(labels)) == len(labels), labels
    pyplot.close(ax.figure)


@pytest.mark.parametrize("drawing", DRAWINGS)
def test_picture(drawing, monkeypatch):
    from bptt_fast.plots import COLORS

    for ax in drawn_figures(monkeypatch, drawing):
        figure = ax.figure
        assert tuple(figure.get_size_inches()) == (6, 4)
        assert ax.get_xlabel() and ax.get_ylabel()
        check_texts(ax)
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


def test_measured_data_stand_out_from_a_dark_background_and_its_intervals():
    pd = pytest.importorskip("pandas")
    from matplotlib import pyplot
    from matplotlib.colors import to_rgb

    from bptt_fast import plots

    pyplot.switch_backend("Agg")
    brightness = {}
    for style in ("default", "dark_background"):
        with pyplot.style.context(style):
            figures = [forecast_by(plots, pd, "D", 5), backtest_of(plots, pd, 2), backtest_of(plots, pd, 1)]
            figures.append(series_and_forecast(20, 3)(plots))
        for ax in figures:
            data = {line.get_label(): np.mean(to_rgb(line.get_color())) for line in ax.lines}
            grey = data.get("actual", data.get("history"))
            assert abs(grey - np.mean(ax.get_facecolor()[:3])) > 0.6
            for area in ax.collections:
                assert abs(grey - np.mean(np.r_[area.get_facecolor(), area.get_edgecolor()][0][:3])) > 0.1
            brightness.setdefault(style, []).append(grey)
            pyplot.close(ax.figure)
    assert max(brightness["default"]) < 0.5 < min(brightness["dark_background"])
    with pyplot.style.context({"axes.facecolor": "none"}):  # transparent, on white pages
        assert plots._grey(pyplot.figure().add_subplot()) == "0.25"
        pyplot.close()


def test_names_may_be_numbers(monkeypatch):
    flow = diagnostics.gradient_flow(network(), X, Y)

    def named(plots, ax):
        plots.prediction(np.arange(9), np.arange(9), np.arange(9), spans={2023: (0, 4), None: (4, 8)}, ax=ax)

    for ax in drawn_figures(monkeypatch, named):
        assert [text.get_text() for text in ax.texts] == ["2023", "None"]
    for ax in drawn_figures(monkeypatch, lambda plots, ax: plots.gradient_flow({0: flow, 16: flow}, ax=ax)):
        labels = [text.get_text().split(":")[0] for text in ax.get_legend().get_texts()]
        assert labels == ["0", "16"]


def test_copies_that_diverged_in_the_first_epoch(monkeypatch):
    grid = {"learning_rate": [1e-3, 1e30, 1e38]}
    options = {"epochs": 3, "verbose": 0, "optimizer": bf.SGD(0.1)}
    table = bf.restarts(network(), X * 1e3, Y, 3, grid=grid, **options)[1]
    assert table.rungs and not all(record["epoch"] for record in table.histories)
    for ax in drawn_figures(monkeypatch, lambda plots, ax: plots.restarts(table, ax=ax)):
        assert list(ax.get_xticks()) == [1, 3]
