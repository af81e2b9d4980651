"""Tables and plots that pages show are those that the benchmarks' results make."""

import json
import re

import pytest
from support import cases

tables, plot = cases.bench("tables"), cases.bench("plot")
TEXTS = {str(page.relative_to(cases.ROOT)): page.read_text(encoding="utf-8") for page in tables.PAGES}
MARKED = {page: re.findall(r"<!-- table:(\w+) -->", text) for page, text in TEXTS.items()}


def test_every_table_has_a_place():
    assert {name for names in MARKED.values() for name in names} == tables.TABLES.keys()


@pytest.mark.parametrize("page", [page for page, names in MARKED.items() if names])
def test_tables_are_those_of_the_results(page):
    text = TEXTS[page]
    assert len(tables.MARKED.findall(text)) == len(MARKED[page]), "a mark has no end"
    assert tables.filled(text) == text, "run python -m bench.tables"


@pytest.mark.parametrize("page", [page for page in TEXTS if re.match("bench|docs/(bench|decisions)", page)])
def test_no_figures_are_written_by_hand(page):
    assert not tables.by_hand(TEXTS[page])


def test_a_table_by_hand_is_found():
    row = "| elman | 3.4 |\n"
    assert tables.by_hand(f"a\n{row}") == [row.strip()]
    assert not tables.by_hand(f"<!-- table:x -->\n{row}<!-- /table:x -->\n")


@pytest.mark.parametrize(
    "name", sorted(str(path.relative_to(tables.RESULTS)) for path in tables.RESULTS.rglob("*.json"))
)
def test_results_say_where_and_when(name):
    environment = json.loads((tables.RESULTS / name).read_text(encoding="utf-8"))["environment"]
    assert environment.get("commit") or environment.get("recorded_in")
    machine = name.rpartition("/")[0]
    if machine != tables.ANY:
        assert environment["machine"] == machine
        assert re.fullmatch(r"\d{4}-\d\d-\d\d", environment["date"])


def test_the_plot_is_that_of_the_results():
    assert plot.digest() in plot.PICTURE.read_text(encoding="utf-8"), "run python -m bench.plot"


def test_machines_have_short_names():
    common = cases.bench("common")
    assert common.machine("Intel(R) Xeon(R) Processor", "avx512") == tables.XEON
    assert common.machine("AMD Ryzen 7 7700X 8-Core Processor", "avx2") == "amd-ryzen-7-7700x-avx2"
    assert common.machine("Intel(R) Core(TM) i7-9750H CPU @ 2.60GHz", "avx2") == "intel-core-i7-9750h-avx2"
