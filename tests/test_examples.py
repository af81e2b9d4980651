"""Every example runs from beginning to end, as a reader would start it, and says something."""

import importlib.util
import re

import pytest
from cases import ROOT

EXAMPLES = sorted((ROOT / "examples").glob("*.py"))


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_example(example, python):
    text = example.read_text(encoding="utf-8")
    for package in re.findall(r"^(?:import|from) (\w+)", text, flags=re.M):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"needs {package}")
    done = python("-W", "error::UserWarning", example)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()
