"""Explanations as small graphs: where entities and steps stand, for the page's template to draw."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass

from kgtool.inference.explain import Explanation, main_relations
from kgtool.report.names import Names

WIDTH = 1000.0  # of the drawing, in its own units, which are pixels where there is room
ROW = 46.0  # between paths
MARGIN = 64.0  # from the border to the middle of the first and last entity
LINE = 15  # columns of a line of a label; two lines are shown
COLUMN = 6.4  # units a column of an entity's label takes
LETTER = 5.4  # of a step's label
WIDEST = COLUMN / 2 * LINE + 7  # half of the widest entity
ARROW = 4.0  # kept free before an entity


@dataclass(frozen=True)
class Node:
    """An entity: its middle, half its width, the lines of its label, and whether it is an end."""

    x: float
    y: float
    half: float
    lines: tuple[str, ...]
    label: str
    end: bool


@dataclass(frozen=True)
class Edge:
    """A step: an SVG path, its label's middle, half width and lines, and its own width.

    `speaks_for` is whether it carried a positive part of the score.
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
    """A graph of paths that part at the head and meet at the tail."""

    width: float
    height: float
    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...]


def draw(found: Explanation, names: Names) -> Drawing | None:
    """Lay the paths out from left to right, a row each, strongest on top; wider ones carried more.

    Only the ends are shared. An entity between them stands in every row that it is on: drawn once,
    its steps would cross each other.

    Returns:
        None where there is no path.
    """
    if not found.paths:
        return None
    head, tail = found.paths[0].entities[0], found.paths[0].entities[-1]
    middle = ROW * len(found.paths) / 2
    first = _node(head, MARGIN, middle, names, end=True)
    last = _node(tail, WIDTH - MARGIN, middle, names, end=True)
    most = max(abs(path.weight) for path in found.paths) or 1.0
    nodes, edges = [first, last], []
    # As far as the nearest entities between the ends may stand.
    pitch = (last.x - first.x) / max(len(path.steps) for path in found.paths)
    fan = max(pitch - 2 * WIDEST - ARROW, 30.0)
    for row, path in enumerate(found.paths):
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
    return Drawing(WIDTH, ROW * len(found.paths), tuple(nodes), tuple(edges))


def _node(label: str, x: float, y: float, names: Names, end: bool) -> Node:
    shown = names(label)
    lines = two_lines(shown)
    return Node(x, y, COLUMN / 2 * max(map(_columns, lines)) + 7, lines, shown, end)


def _step(a: Node, b: Node, row: float, fan: float) -> tuple[str, float, float]:
    """An SVG path from the side of `a` to the side of `b`, and where its label stands.

    From the head it bends into its row, and out of it towards the tail, before any entity of
    another row could be in its way; between them it is straight.

    Args:
        a, b: left and right.
        row: the middle of the path's row.
        fan: how far from the ends of the graph all paths are in their rows.
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
    t = 0.62  # on the bend, where it is nearly in its row
    near = t * t * (3 - 2 * t)
    if a.y != row:
        return path, x0 + t * (left - x0), a.y + near * (row - a.y)
    return path, x3 - t * (x3 - right), b.y + near * (row - b.y)


def two_lines(label: str, after: str = "") -> tuple[str, ...]:
    """A label on one line or two, its middle left out where it is too long, cut at a break.

    Args:
        label: the label.
        after: what follows it, whole.
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
    """The beginning that takes at most so many columns."""
    while _columns(text) > columns:
        text = text[:-1]
    return text


def _columns(text: str) -> int:
    """Columns that a text takes; a wide character takes two."""
    return sum(2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)
