"""Every example runs from beginning to end, as a reader would start it, and says something."""

import runpy

import pytest
from support.cases import ROOT

EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
lacking = runpy.run_path(str(ROOT / "docs" / "conf.py"))["lacking"]

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_example(example, python):
    if missing := lacking(example):
        pytest.skip(f"needs {', '.join(missing)}")
    done = python("-W", "error::UserWarning", example)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()
