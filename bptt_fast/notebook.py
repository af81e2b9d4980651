"""HTML for notebooks: tables, a small chart, and a display that an exported page keeps.

Charts are SVG within the HTML, so they need neither matplotlib nor a script.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from typing import Any

COLORS = ("#0072b2", "#d55e00")  # the first of `plots.COLORS`
WIDTH, HEIGHT, LEFT, BOTTOM, TOP = 420, 150, 64, 34, 10


def is_active() -> bool:
    """Whether Python runs in the kernel of a notebook; a script may import ipykernel, too."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return getattr(shell, "kernel", None) is not None


class Display:
    """A place in the output of a notebook's cell for a bar of progress, and its text for other outputs."""

    def __init__(self) -> None:
        from IPython.display import display

        self._handle = display({"text/html": "", "text/plain": ""}, raw=True, display_id=True)

    def show(self, share: float, text: str) -> None:
        """Replace the bar, `share` from 0 to 1, and its text."""
        self._handle.update({"text/html": bar(share, text), "text/plain": text}, raw=True)


def escape(text: str) -> str:
    """A text as HTML; the module is imported here, since a network is rarely shown."""
    from html import escape

    return escape(text)


def bar(share: float, text: str) -> str:
    """A bar of progress, `share` from 0 to 1, with a text."""
    done = round(100 * min(max(share, 0), 1))
    label = f"{done} %"
    return (
        f'<div><progress value="{done}" max="100" style="width: 16em" title="{label}">{label}</progress> '
        f"{escape(text)}</div>"
    )


def short(value: Any) -> str:
    """A value as text; floats with four significant digits."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def table(rows: Sequence[Sequence[Any]], head: Sequence[str] = ()) -> str:
    """A table, with a line of titles if there is a `head`; numbers and their titles stand to the right."""

    def line(values: Sequence[Any], tag: str, sides: Sequence[Any]) -> str:
        cells = (
            f'<{tag} style="text-align: {"right" if isinstance(side, (int, float)) else "left"}">'
            f"{escape(short(value))}</{tag}>"
            for value, side in zip(values, sides, strict=True)
        )
        return f"<tr>{''.join(cells)}</tr>"

    titles = f"<thead>{line(head, 'th', rows[0] if rows else head)}</thead>" if head else ""
    return f"<table>{titles}<tbody>{''.join(line(row, 'td', row) for row in rows)}</tbody></table>"


def folded(title: str, content: str) -> str:
    """A part that opens with a click."""
    return f"<details><summary>{escape(title)}</summary>{content}</details>"


def titled(title: str, *parts: str) -> str:
    """A title with what belongs to it."""
    return f"<div><p><strong>{escape(title)}</strong></p>{''.join(parts)}</div>"


def chart(x: Sequence[float], curves: Mapping[str, Sequence[float]], label: str) -> str:
    """An SVG of curves over x, on a logarithmic axis if all values are positive.

    The axis has the lowest and the highest value.  Values that are not finite leave a gap.
    """
    finite = [value for values in curves.values() for value in values if math.isfinite(value)]
    if len(x) < 2 or not finite:
        return ""
    log = min(finite) > 0
    low, high = min(finite), max(finite)
    scaled = math.log if log else float
    span = scaled(high) - scaled(low) or 1.0

    def place(when: float, value: float) -> tuple[float, float]:
        across = (when - x[0]) / (x[-1] - x[0])
        up = (scaled(value) - scaled(low)) / span
        return LEFT + across * (WIDTH - LEFT - 8), TOP + (1 - up) * (HEIGHT - BOTTOM - TOP)

    lines = []
    for colour, (name, values) in zip(COLORS, curves.items(), strict=False):
        points: list[str] = []
        pen = "M"
        for when, value in zip(x, values, strict=True):
            if math.isfinite(value):
                points.append("{}{:.1f} {:.1f}".format(pen, *place(when, value)))
            pen = "L" if math.isfinite(value) else "M"
        lines.append(
            f'<path d="{" ".join(points)}" fill="none" stroke="{colour}" stroke-width="1.5">'
            f"<title>{escape(name)}</title></path>"
        )
    floor = HEIGHT - BOTTOM
    axes = f'<path d="M{LEFT} {TOP}V{floor}H{WIDTH - 8}" fill="none" stroke="currentColor"/>'
    marks = [(LEFT - 6, TOP + 8, "end", short(high)), (LEFT - 6, floor, "end", short(low))]
    marks += [(LEFT, floor + 14, "middle", short(x[0])), (WIDTH - 8, floor + 14, "end", short(x[-1]))]
    marks.append(((LEFT + WIDTH) // 2, floor + 14, "middle", label))
    texts = "".join(
        f'<text x="{across}" y="{down}" text-anchor="{anchor}" fill="currentColor">{escape(text)}</text>'
        for across, down, anchor, text in marks
    )
    legend = "".join(
        f'<text x="{LEFT + 110 * i}" y="{HEIGHT - 3}" fill="{colour}">{escape(name)}</text>'
        for i, (colour, name) in enumerate(zip(COLORS, curves, strict=False))
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" role="img" width="{WIDTH}" height="{HEIGHT}" '
        f'viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="11">'
        f"{axes}{''.join(lines)}{texts}{legend}</svg>"
    )
