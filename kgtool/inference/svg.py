"""SVG of matplotlib figures that follows the reader's light or dark style.

A plot is drawn in light colours. Style rules replace each of them where the reader prefers dark.
A program without such rules, as most editors of drawings are, shows the light colours.
"""

from __future__ import annotations

import html
import io
import re
from typing import Any

from matplotlib.figure import Figure

BLUE, RED, GREY, INK = "#2a6fbb", "#c8553d", "#8a97a5", "#2b3440"
PAPER = "#ffffff"
# Colour on light paper → colour on dark paper.
DARK = {
    PAPER: "#14191f",
    INK: "#e4e9ef",
    BLUE: "#5b9fe3",
    RED: "#e58069",
    GREY: "#7d8b99",
    "#e6eaee": "#2e3945",  # lines of a grid
    "#c9dcf0": "#2b4a69",  # bars
    "#f3f5f7": "#1f272f",  # boxes of entities
    "#dbe8f6": "#1d3853",  # boxes of head and tail
    "#c3cad2": "#5f6e7d",  # points of lesser interest
    "#0072b2": "#3b9ddb",
    "#7a5fa8": "#a88ed6",
    "#8c6d31": "#c09c55",
    "#4a9d5b": "#6fc281",
}
# Real text in the reader's font, and equal ids for equal drawings.
SVG_STYLE: dict[Any, Any] = {"svg.fonttype": "none", "svg.hashsalt": "kgtool"}
_NO_METADATA = {"Creator": None, "Date": None, "Format": None, "Type": None}


def dark_rules() -> str:
    """Style rules for dark paper; they belong into a rule `@media (prefers-color-scheme: dark)`."""
    return "\n".join(
        f'[style*="{kind}: {light}"] {{ {kind}: {dark} !important; }}'
        for light, dark in DARK.items()
        for kind in ("fill", "stroke")
    )


def inline_svg(figure: Figure, title: str) -> str:
    """The SVG of a figure for a page that has `dark_rules`, as wide as its place; equal bytes for
    equal data.

    Args:
        figure: the figure.
        title: what it shows, for readers who cannot see it.
    """
    stream = io.StringIO()
    figure.savefig(stream, format="svg", metadata=_NO_METADATA, transparent=True)
    text = stream.getvalue()
    text = re.sub(r'<g id="[^"]*">', "<g>", text[text.index("<svg") :])
    text = re.sub(r"<style[^>]*>.*?</style>", "", text, count=1, flags=re.DOTALL)
    sized = re.compile(r' (?:width|height)="[\d.]+pt"')
    head, body = text.split(">", 1)
    head = sized.sub("", head) + f' role="img" aria-label="{html.escape(title)}"'
    return f"{head}>{body}"


def svg_file(figure: Figure, title: str) -> str:
    """The SVG of a figure as a file of its own, with its own paper and style rules.

    Args:
        figure: the figure.
        title: what it shows, for readers who cannot see it.
    """
    stream = io.StringIO()
    figure.savefig(stream, format="svg", metadata=_NO_METADATA, facecolor=PAPER)
    head, rest = stream.getvalue().split("<svg", 1)
    attributes, body = rest.split(">", 1)
    style = f"<style>@media (prefers-color-scheme: dark) {{\n{dark_rules()}\n}}</style>"
    about = f"<title>{html.escape(title)}</title>"
    return f'{head}<svg{attributes} role="img">{about}{style}{body}'
