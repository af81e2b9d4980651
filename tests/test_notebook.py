"""What a notebook shows: well-formed HTML with the right figures, and a progress display that stays in it."""

import re
import sys
import types
from xml.etree import ElementTree

import numpy as np
import pytest

import bptt_fast as bf
from bptt_fast import callbacks, notebook

X = np.sin(np.arange(200) / 5).reshape(20, 10, 1)


def network(**options):
    return bf.Network(1, 4, 1, cell="gru", seed=0, **options)


def parsed(html):
    """The root of a page, which must be well formed."""
    return ElementTree.fromstring(f"<page>{html}</page>")


def rows(html):
    return [[cell.text or "" for cell in line] for line in parsed(html).iter("tr")]


def test_a_record_is_a_chart_and_its_last_epochs():
    history = network().fit(X, X[:, 0], epochs=12, validation_split=0.2, patience=20, verbose=0)
    html = history._repr_html_()
    assert rows(html)[0] == ["epoch", "loss", "val_loss", "seconds"]
    assert [row[0] for row in rows(html)[1:]] == ["8", "9", "10", "11", "12"]
    assert rows(html)[-1][1] == f"{history['loss'][-1]:.4g}"
    curves = [path.get("d") for path in parsed(html).iter("{http://www.w3.org/2000/svg}path")][1:]
    assert [curve.count("L") for curve in curves] == [11, 11]
    assert f"lowest {min(history['val_loss']):.4g}" in repr(history) and 'stopped: "epochs"' in repr(history)
    assert repr(callbacks.History("epoch", "loss")) == "History(0 epochs)"
    parsed(callbacks.History("epoch", "loss")._repr_html_())


def test_a_chart_is_logarithmic_for_positive_values_and_has_gaps():
    def heights(values):
        found = notebook.chart(range(len(values)), {"loss": values}, "epoch")
        path = re.findall(r'<path d="([^"]*)"', found)[1]
        return path, [float(y) for y in re.findall(r"[ML][\d.]+ ([\d.]+)", path)]

    _, (low, middle, high) = heights([1.0, 10.0, 100.0])
    assert middle == pytest.approx((low + high) / 2, abs=0.1)
    _, (low, middle, high) = heights([-1.0, 10.0, 100.0])
    assert middle == pytest.approx(low + 11 / 101 * (high - low), abs=0.1)
    path, found = heights([1.0, np.nan, 2.0, 3.0])
    assert len(found) == 3 and path.count("M") == 2
    assert (
        notebook.chart([1], {"loss": [1.0]}, "epoch") == "" == notebook.chart([1, 2], {"a": [np.nan] * 2}, "")
    )


def test_networks_tables_and_sequences_have_html():
    net = network(head=(3,), spectral_radius=0.5)
    net.rules["weight_hh_l0"] = bf.Rule(l1=0.01)
    found = dict(row[:2] for row in rows(net._repr_html_()))
    assert found["cell"] == "gru" and found["head"] == "(3,)" and "dropout" not in found
    assert ["weight_hh_l0", "12 x 4", "48", "Rule(l1=0.01)"] in rows(net._repr_html_())
    result = bf.restarts(net, X, X[:, 0], n=40, epochs=1, verbose=0)
    best, table = result
    assert isinstance(result, tuple) and result == (best, table) and best is result.best is table.networks[0]
    assert "\n" not in repr(result) and f"loss {table['loss'][0]:.4g}" in repr(result)
    assert rows(result._repr_html_()) == rows(table._repr_html_()) + rows(best._repr_html_())
    assert len(rows(table._repr_html_())) == 11 and "40 fits, the first 10" in table._repr_html_()
    assert repr(table).splitlines()[0].split() == list(table)
    assert len(repr(table).splitlines()) == 32 and repr(table).endswith("40 rows in all")
    windows = bf.Sequences.windows(np.zeros((100, 3)), length=10)
    assert ["sequences", "91"] in rows(windows._repr_html_())
    assert repr(windows).startswith("Sequences(form=windows, sequences=91, steps=10, inputs=3")


def test_text_is_escaped():
    assert rows(notebook.table([("<b>", 1)], ("a & b", "n"))) == [["a & b", "n"], ["<b>", "1"]]
    parsed(notebook.titled("<&>", notebook.folded("<", "")) + notebook.bar(2, "<"))


@pytest.fixture
def shown(monkeypatch):
    """The HTML that a stand-in for IPython is given to show."""
    pages = []

    def update(data, raw):
        assert raw and data["text/plain"] in data["text/html"]
        pages.append(data["text/html"])

    fake = types.ModuleType("IPython.display")
    fake.display = lambda data, raw, display_id: types.SimpleNamespace(update=update)
    python = types.ModuleType("IPython")
    python.get_ipython = lambda: types.SimpleNamespace(kernel=object())
    monkeypatch.setitem(sys.modules, "IPython.display", fake)
    monkeypatch.setitem(sys.modules, "IPython", python)
    return pages


def test_progress_of_a_fit_stays_in_the_notebook(shown, capsys):
    history = network().fit(X, X[:, 0], epochs=5)
    bar = parsed(shown[-1]).find("div/progress")
    assert bar.get("value") == "100"
    assert f"epoch 5/5, loss {history['loss'][-1]:.4g}, " in shown[-1] and "left" not in shown[-1]
    assert capsys.readouterr() == ("", "")


def test_progress_of_many_fits_stays_in_the_notebook(shown, capsys):
    folds = np.arange(20) % 2
    bf.cross_validate(network(), X, X[:, 0], cv=folds, epochs=2)
    assert "fit 2/2, " in shown[-1] and parsed(shown[-1]).find("div/progress").get("value") == "100"
    assert capsys.readouterr() == ("", "")


def test_an_interrupted_fit_has_no_time_left(shown):
    def interrupt(epoch, logs):
        if epoch == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        network().fit(X, X[:, 0], epochs=100, callbacks=[callbacks.LambdaCallback(on_epoch_end=interrupt)])
    assert "epoch 4/100" in shown[-1]
    assert "left" not in shown[-1]


@pytest.mark.parametrize("shell", [None, types.SimpleNamespace()])
def test_a_script_that_imports_ipykernel_is_no_notebook(monkeypatch, capsys, shell):
    """Also the shell of IPython in a terminal has no kernel."""
    python = types.ModuleType("IPython")
    python.get_ipython = lambda: shell
    monkeypatch.setitem(sys.modules, "IPython", python)
    monkeypatch.setitem(sys.modules, "ipykernel", types.ModuleType("ipykernel"))
    network().fit(X, X[:, 0], epochs=2)
    assert capsys.readouterr().out.count("epoch") == 2


def test_the_lowest_loss_is_a_number_although_some_are_nan():
    history = callbacks.History("epoch", "loss")
    for epoch, loss in enumerate((np.nan, 2.0, 1.0, np.nan), 1):
        history.add({"epoch": epoch, "loss": loss})
    assert repr(history) == "History(4 epochs, loss nan, lowest 1)"
    parsed(history._repr_html_())


def test_forecasters_and_backtests_have_html():
    pandas = pytest.importorskip("pandas")
    series = pandas.DataFrame({"load <MW>": np.sin(np.arange(60.0)), "price": np.arange(60.0)})
    model = bf.Forecaster("load <MW>", known=["price"], window=8, hidden_size=3, seed=0, horizon=2)
    assert "not fitted" in model._repr_html_()
    assert ["known", "['price']"] in rows(model._repr_html_())
    model.fit(series[:40], epochs=1, verbose=0)
    assert ["cell", "gru"] in rows(model._repr_html_()) and "not fitted" not in model._repr_html_()
    result = bf.backtest(model, series, start=50)
    assert "<strong>Backtest(1 series, 5 origins)</strong>" in result._repr_html_()
    assert repr(result).startswith("Backtest(1 series, 5 origins)\n")
    found = rows(result._repr_html_())
    assert found[0] == ["target", "n", "mae", "rmse", "mase", "smape"] and found[1][:2] == ["load <MW>", "10"]
    days = pandas.date_range("2024-01-01", periods=300).strftime("%Y-%m-%d").tolist()
    model = bf.Forecaster("load", holidays=days, calendar=["holiday"])
    assert len(repr(model)) < 400 and len(model._repr_html_()) < 2000 and days[0] in repr(model)
