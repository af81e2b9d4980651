"""The tables that pages show are those that the benchmarks' results make."""

import re

import cases
import pytest

tables = cases.bench("tables")
MARK = re.compile(r"<!-- table:(\w+) -->")
MARKED = {name: page for page in tables.PAGES for name in MARK.findall(page.read_text(encoding="utf-8"))}


def test_every_table_has_a_place():
    assert MARKED.keys() == tables.TABLES.keys()


@pytest.mark.parametrize(
    "page", sorted(set(MARKED.values())), ids=lambda page: str(page.relative_to(cases.ROOT))
)
def test_tables_are_those_of_the_results(page):
    text = page.read_text(encoding="utf-8")
    assert tables.filled(text) == text, "python -m bench.tables writes them anew"
