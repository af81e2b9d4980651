"""Settings of Sphinx: `pip install ".[docs]"`, then `sphinx-build -W docs docs/_build`.

The examples run while the pages are built; `-D plot_gallery=0` builds the pages without running them.
"""

from __future__ import annotations

import ast
import importlib.util
import inspect
import re
import sys
from pathlib import Path

import bptt_fast
from bptt_fast.optimizers import FirstOrder, SecondOrder
from bptt_fast.unfolding import Unfolding

sys.path.append(str(Path(__file__).parent))  # formulas.py
EXAMPLES = Path(__file__).parents[1] / "examples"

project = "bptt_fast"
author = "The bptt_fast developers"
copyright = author
version = release = bptt_fast.__version__

extensions = [
    "formulas",
    "myst_parser",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx_copybutton",
    "sphinx_design",
    "sphinx_gallery.gen_gallery",
]
exclude_patterns = ["_build", "README.md", "templates", "examples/*.ipynb", "examples/*.py", "examples/*.md5"]
templates_path = ["templates"]
html_theme = "furo"
html_title = f"bptt_fast {release}"
html_static_path = ["static"]
html_css_files = ["pages.css"]
html_show_sourcelink = False
html_math_renderer = "mathml"  # of formulas.py

copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True

myst_enable_extensions = ["amsmath", "colon_fence", "dollarmath"]
myst_heading_anchors = 3

# Reference: the shapes and defaults are in the numpydoc text, so annotations are left out of the signatures.
# A name in single backticks is linked where it is something public, and set in italics where it is not.
nitpicky = True
suppress_warnings = ["myst.xref_missing"]  # links to folders; tests/test_docs.py looks at every link
nitpick_ignore_regex = [("py:obj", "[a-z_0-9]+")]  # arguments stand in single backticks as well
default_role = "autolink"
autodoc_typehints = "none"
autodoc_mock_imports = [] if importlib.util.find_spec("torch") else ["torch"]  # not of the extra
autodoc_member_order = "bysource"
autodoc_class_signature = "mixed"
autosummary_generate = True
numpydoc_show_class_members = False
INTERNAL = {  # methods without an underscore that the package calls itself
    "core",
    "get_metadata_routing",
    "desc",
    "rebuilt",
    "restored",
    "snapshot",
    "store",
    "place_outputs",
    "arrange",
    "write",
    "value",
    "better",
    "check_steps",
    "check_unseen",
    "fit_series",
    "forecast_rows",
    "minimum_rows",
    "quantile_rows",
}
# and what `fit` asks of every unfolding and optimiser
for protocol in (Unfolding, FirstOrder, SecondOrder):
    INTERNAL |= {name for name, thing in vars(protocol).items() if inspect.isfunction(thing)}


def lacking(example: Path) -> set[str]:
    """The packages that an example imports and that are not installed here."""
    nodes = list(ast.walk(ast.parse(example.read_text(encoding="utf-8"))))
    wanted = {node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module}
    wanted |= {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    return {name for name in wanted if importlib.util.find_spec(name.split(".")[0]) is None}


not_run = [path.stem for path in sorted(EXAMPLES.glob("*.py")) if lacking(path)]
sphinx_gallery_conf = {
    "examples_dirs": str(EXAMPLES),
    "gallery_dirs": "examples",
    "filename_pattern": rf"/(?!({'|'.join(not_run)})\.py$)\w+\.py$",
    "ignore_pattern": r"__init__\.py$",
    "within_subsection_order": "FileNameSortKey",
    "abort_on_example_error": True,
    "download_all_examples": False,
    "show_signature": False,
    "min_reported_time": 1,
    "write_computation_times": False,  # that page loads scripts from a network
}


def skip(app, what, name, thing, leave_out, options):
    """Leave out what users do not call: INTERNAL, what scikit-learn adds, the hooks of ready callbacks."""
    hook = name.startswith("on_") and not thing.__qualname__.startswith("Callback.")
    return True if name in INTERNAL or hook or re.fullmatch(r"set_\w+_request", name) else None


def resolve(app, env, node, contnode):
    """Link a name of the package in the docstring of a submodule that imports it."""
    target = node["reftarget"]
    if node["reftype"] != "obj" or target not in bptt_fast.__all__:
        return None
    python = env.get_domain("py")
    return python.resolve_xref(env, node["refdoc"], app.builder, "obj", f"bptt_fast.{target}", node, contnode)


def setup(app):
    app.connect("autodoc-skip-member", skip)
    app.connect("missing-reference", resolve)
