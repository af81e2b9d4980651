"""A Sphinx extension that writes formulas as MathML while the pages are built.

Browsers draw MathML themselves: the pages need no script, no font and nothing from a network for it.
"""

from __future__ import annotations

import re

from docutils import nodes
from latex2mathml.converter import convert
from sphinx.util import logging

logger = logging.getLogger(__name__)


def formula(writer, node):
    """Write a formula, in a line or in a block."""
    tag, display = ("div", "block") if isinstance(node, nodes.math_block) else ("span", "inline")
    source = re.sub(r"\\(begin|end)\{aligned\}", r"\\\1{align*}", node.astext())  # the name that is known
    text = convert(source, display=display)
    if unknown := re.findall(r"<m[io]>(\\\w*|&)</m[io]>", text):
        logger.warning("formula: expected what latex2mathml knows, got %s", unknown[0], location=node)
    writer.body.append(f"{writer.starttag(node, tag, '', CLASS='math notranslate')}{text}</{tag}>")
    raise nodes.SkipNode


def setup(app):
    app.add_html_math_renderer("mathml", (formula, None), (formula, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
