"""PROMISES.md: every page says what is promised in these words, and every test that holds it exists."""

import ast
import re
from functools import cache

import pytest
from support.cases import ROOT

ROWS = re.findall(
    r"^\| (?!promise \|)(.+?) \| (\S+\.md) \| (.+) \|$", (ROOT / "tests/PROMISES.md").read_text(), re.M
)


def words(text):
    return " ".join(text.split())


@cache
def names_in(file):
    """The names of the tests in a file that pytest collects."""
    tree = ast.parse((ROOT / "tests" / f"{file}.py").read_text())
    return {
        node.name for node in tree.body if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    }


def test_the_table_is_read():
    lines = (ROOT / "tests/PROMISES.md").read_text().splitlines()
    assert len(ROWS) == sum(line.count("::") > 0 and line.startswith("| ") for line in lines) >= 30


@pytest.mark.parametrize("promise, page, tests", ROWS, ids=range(len(ROWS)))
def test_a_promise_is_made_and_held(promise, page, tests):
    assert words(promise) in words((ROOT / page).read_text()), f"{page} does not say: {promise}"
    found = re.findall(r"`(test_\w+)::(test_\w+)`", tests)
    assert len(found) == len(tests.split(",")), tests
    for file, test in found:
        assert test in names_in(file), f"{file}.py has no {test}"
