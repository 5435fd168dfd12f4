"""The layout of explanations as small graphs, for the report's template."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass

from kgtool.inference.explain import Explanation, main_relations
from kgtool.report.names import Names

WIDTH = 1000.0  # of the drawing, in units of a pixel at full size
ROW = 46.0  # height of a row
MARGIN = 64.0  # from the border to the centre of the first and last entity
LINE = 15  # columns per line of a label; a label has at most two lines
COLUMN = 6.4  # width of a column in an entity's label
LETTER = 5.4  # width of a column in a step's label
WIDEST = COLUMN / 2 * LINE + 7  # half the width of the widest entity
ARROW = 4.0  # free space before an entity


@dataclass(frozen=True)
class Node:
    """An entity: centre, half width, lines of its label, and whether it is the head or tail."""

    x: float
    y: float
    half: float
    lines: tuple[str, ...]
    label: str
    end: bool


@dataclass(frozen=True)
class Edge:
    """A step: SVG path, centre, half width and lines of its label, and stroke width.

    `speaks_for` is whether its contribution to the score is positive.
    """

    path: str
    x: float
    y: float
    half: float
    lines: tuple[str, ...]
    label: str
    stroke: float
    speaks_for: bool


@dataclass(frozen=True)
class Drawing:
    """A graph of paths from the head to the tail."""

    width: float
    height: float
    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...]


def draw(explanation: Explanation, names: Names) -> Drawing | None:
    """Lay out the paths from left to right, one row per path, strongest on top.

    A wider line means a larger contribution. Only head and tail are shared between rows. Another
    entity is drawn in each row of its paths: drawn once, its steps would cross each other.

    Returns:
        The drawing; None without paths.
    """
    if not explanation.paths:
        return None
    head, tail = explanation.paths[0].entities[0], explanation.paths[0].entities[-1]
    middle = ROW * len(explanation.paths) / 2
    first = _node(head, MARGIN, middle, names, end=True)
    last = _node(tail, WIDTH - MARGIN, middle, names, end=True)
    most = max(abs(path.weight) for path in explanation.paths) or 1.0
    nodes, edges = [first, last], []
    # The smallest distance between neighbouring entities.
    pitch = (last.x - first.x) / max(len(path.steps) for path in explanation.paths)
    fan = max(pitch - 2 * WIDEST - ARROW, 30.0)
    for row, path in enumerate(explanation.paths):
        y = ROW * (row + 0.5)
        part = (last.x - first.x) / len(path.steps)
        inner = [
            _node(entity, first.x + part * i, y, names, end=entity in (head, tail))
            for i, entity in enumerate(path.entities[1:-1], 1)
        ]
        nodes += inner
        along = [first, *inner, last]
        for step, a, b in zip(path.steps, along, along[1:], strict=False):
            relation, *more = [names(relation) for relation in main_relations(step)]
            lines = two_lines(relation, f" +{len(more)}" if more else "")
            edges.append(
                Edge(
                    *_step(a, b, y, fan), LETTER / 2 * max(map(_columns, lines)) + 2, lines,
                    ", ".join([relation, *more]), 1 + 4 * abs(path.weight) / most,
                    path.weight >= 0,
                )
            )  # fmt: skip
    return Drawing(WIDTH, ROW * len(explanation.paths), tuple(nodes), tuple(edges))


def _node(label: str, x: float, y: float, names: Names, end: bool) -> Node:
    shown = names(label)
    lines = two_lines(shown)
    return Node(x, y, COLUMN / 2 * max(map(_columns, lines)) + 7, lines, shown, end)


def _step(a: Node, b: Node, row: float, fan: float) -> tuple[str, float, float]:
    """An SVG path from the side of `a` to the side of `b`, and the centre of its label.

    The line bends into its row near the head and out of it near the tail, so that it does not cross
    entities of other rows. Between them it is straight.

    Args:
        a, b: the left and the right entity.
        row: the centre of the path's row.
        fan: the distance from head or tail within which lines bend.
    """
    x0, x3 = a.x + a.half, b.x - b.half - ARROW
    left = min(x0 + fan, x3) if a.y != row else x0
    right = max(x3 - fan, left) if b.y != row else x3
    path = f"M{x0:.1f} {a.y:.1f}"
    if left > x0:
        path += (
            f"C{(x0 + left) / 2:.1f} {a.y:.1f} {(x0 + left) / 2:.1f} {row:.1f} {left:.1f} {row:.1f}"
        )
    path += f"L{right:.1f} {row:.1f}"
    if right < x3:
        middle = (right + x3) / 2
        path += f"C{middle:.1f} {row:.1f} {middle:.1f} {b.y:.1f} {x3:.1f} {b.y:.1f}"
    if right - left >= fan / 2:  # on the straight part
        return path, (left + right) / 2, row
    t = 0.62  # on the bend, near the row
    near = t * t * (3 - 2 * t)
    if a.y != row:
        return path, x0 + t * (left - x0), a.y + near * (row - a.y)
    return path, x3 - t * (x3 - right), b.y + near * (row - b.y)


def two_lines(label: str, after: str = "") -> tuple[str, ...]:
    """A label in one or two lines, broken at a non-letter; the middle of a long label is left out.

    Args:
        label: the label.
        after: text after the label, which is not shortened.
    """
    if _columns(label + after) <= LINE:
        return (label + after,)
    if _columns(label) > 2 * LINE - 2:
        label = f"{_cut(label, LINE - 2)}…{_cut(label[::-1], LINE - 2)[::-1]}"
    middle = len(label) / 2
    breaks = [i + 1 for i, c in enumerate(label[:-1]) if not c.isalnum() and c not in "^'’("]
    near = min(breaks, key=lambda i: abs(i - middle), default=0)
    at = near if abs(near - middle) <= 4 else round(middle)
    return (label[:at].strip(), label[at:].strip() + after)


def _cut(text: str, columns: int) -> str:
    """The longest prefix with at most `columns` columns."""
    while _columns(text) > columns:
        text = text[:-1]
    return text


def _columns(text: str) -> int:
    """The width of a text in columns; a wide character has two."""
    return sum(2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)
