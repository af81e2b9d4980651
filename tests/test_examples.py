"""Every example runs from beginning to end, as a reader would start it, and says something."""

import runpy
import shutil

import pytest
from support.cases import ROOT

from bptt_fast import own_cell

EXAMPLES = [*sorted((ROOT / "examples").glob("*.py")), ROOT / "examples/own_cell/adding.py"]
lacking = runpy.run_path(str(ROOT / "docs" / "conf.py"))["lacking"]

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_example(example, python, tmp_path, monkeypatch):
    if missing := lacking(example):
        pytest.skip(f"needs {', '.join(missing)}")
    if example.parent.name == "own_cell" and not shutil.which(own_cell._compiler()[0]):
        pytest.skip("needs a C compiler")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    done = python("-W", "error::UserWarning", example)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()
