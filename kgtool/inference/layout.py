"""The layout of explanations as small graphs, for the report and for the page of the service.

An entity is one box and a pair of entities is one line, whatever the number of paths over them.
Columns of boxes and columns of lines' labels take turns. A line over several columns has a place of
its own in each. So no line and no label lies under a box, and no label on another one.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from kgtool.inference.explain import Explanation, NamedPath, main_relations

Names = Callable[[str], str]

# All sizes are in pixels at full size.
MARGIN = 8.0
SPACE = 10.0  # between the items of a column
BEND = (22.0, 60.0)  # the least and largest width in which lines change their height
TALL = 9.0  # height of a box in addition to its lines
ROW, SMALL_ROW = 13.0, 11.0  # heights of a line of an entity's and of a step's label
PASS = 8.0  # height of a line's place without a label
UNDER = 5.0  # from a line to the bottom of its place
LOOP = 16.0  # height of the line from an entity to itself
PITCH = 9.0  # between the lines that meet a box
STROKE = 5.0  # width of the widest line, in addition to 1
ARROW = 4.0  # free space before a box, for the arrowhead
LINE = 15  # columns per line of a label; a label has at most two lines
COLUMN, LETTER = 6.4, 5.4  # width of a column in an entity's and in a step's label
TURNS, SORTING = 24, 8  # passes that find heights, and those that also find the order


@dataclass(frozen=True)
class Node:
    """An entity: its box, lines of its name, and whether it is the head or tail."""

    x: float
    y: float
    half: float
    height: float
    lines: tuple[str, ...]
    label: str
    name: str
    end: bool


@dataclass(frozen=True)
class Edge:
    """A pair of entities: SVG path, label with its centre and half width, and stroke width.

    `title` has all relations with their weights, a line each. `speaks_for` is whether its
    contribution to the score is positive. `back` is whether the arrow is at the start of the path.
    """

    path: str
    x: float
    y: float
    half: float
    lines: tuple[str, ...]
    title: str
    stroke: float
    speaks_for: bool
    back: bool


@dataclass(frozen=True)
class Drawing:
    """A graph of paths from the head to the tail."""

    width: float
    height: float
    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...]


@dataclass(eq=False)
class _Place:
    """An item of a column: a box, or the place of a line; `shift` is from its centre to the line.

    `before` and `after` are the places that lines join it to, in the columns next to it.
    """

    column: int = 0
    width: float = 0.0
    height: float = PASS
    shift: float = 0.0
    y: float = 0.0
    left: float = 0.0
    right: float = 0.0
    before: list[_Place] = field(default_factory=list)
    after: list[_Place] = field(default_factory=list)


@dataclass(eq=False)
class _Box(_Place):
    label: str = ""
    lines: tuple[str, ...] = ()
    out: list[_Line] = field(default_factory=list)


@dataclass(eq=False)
class _Line:
    """The steps from one entity to another: their weight, and that of each relation.

    `stops` are its places from left to right; a line that leads `back` ends at the first.
    """

    start: _Box
    end: _Box
    weight: float = 0.0
    relations: dict[str, float] = field(default_factory=dict)
    back: bool = False
    stops: list[_Place] = field(default_factory=list)
    lines: tuple[str, ...] = ()

    @property
    def order(self) -> list[str]:
        """Its relations, strongest first."""
        return sorted(self.relations, key=lambda relation: -abs(self.relations[relation]))

    def title(self, names: Names) -> str:
        """The readable names of its relations and their weights, strongest first."""
        return "\n".join(f"{names(each)}: {self.relations[each]:.2f}" for each in self.order)


def draw(explanation: Explanation, names: Names) -> Drawing | None:
    """Lay out the paths from left to right. A wider line means a larger contribution.

    Args:
        explanation: the paths.
        names: the readable name of a label.

    Returns:
        The drawing; None without paths.
    """
    if not explanation.paths:
        return None
    boxes, lines = _collect(explanation.paths)
    along = explanation.paths[0].entities
    ends = boxes[along[0]], boxes[along[-1]]
    loops = [line for line in lines if line.start is line.end]
    lines = [line for line in lines if line.start is not line.end]
    _layer(list(boxes.values()), *ends)
    for box in boxes.values():
        box.lines = two_lines(names(box.label))
        box.width = COLUMN * max(map(_columns, box.lines)) + 14
    places = [*boxes.values(), *(place for line in lines for place in _stops(line, names))]
    for box in boxes.values():
        meeting = PITCH * max(len(box.before), len(box.after))
        box.height = max(ROW * len(box.lines) + TALL, meeting + 8)
    columns: list[list[_Place]] = [[] for _ in range(1 + max(place.column for place in places))]
    for place in places:
        columns[place.column].append(place)
    _find_heights(columns)
    _find_columns(columns)
    top = min(place.y - place.height / 2 for place in places) - MARGIN - bool(loops) * LOOP
    for place in places:
        place.y -= top
    most = max(abs(line.weight) for line in [*lines, *loops]) or 1.0
    return Drawing(
        max(place.right for place in places) + MARGIN,
        max(place.y + place.height / 2 for place in places) + MARGIN,
        tuple(
            Node((box.left + box.right) / 2, box.y, box.width / 2, box.height, box.lines,
                 box.label, names(box.label), box in ends)
            for box in boxes.values()
        ),
        (
            *(_edge(line, names, most) for line in lines),
            *(_loop(line, names, most) for line in loops),
        ),
    )  # fmt: skip


def _collect(paths: Sequence[NamedPath]) -> tuple[dict[str, _Box], list[_Line]]:
    """The boxes by label, and the lines between them, with the sums of the paths' weights."""
    boxes: dict[str, _Box] = {}
    lines: dict[tuple[str, str], _Line] = {}
    for path in paths:
        for label in path.entities:
            boxes.setdefault(label, _Box(label=label))
        for step, start, end in zip(path.steps, path.entities, path.entities[1:], strict=False):
            line = lines.setdefault((start, end), _Line(boxes[start], boxes[end]))
            line.weight += path.weight
            main = main_relations(step)
            for relation, weight in step:
                if relation in main:
                    line.relations[relation] = line.relations.get(relation, 0.0) + weight
    for line in lines.values():
        if line.start is not line.end:
            line.start.out.append(line)
    return boxes, list(lines.values())


def _layer(boxes: Sequence[_Box], head: _Box, tail: _Box) -> None:
    """Give each box its column: twice the length of the longest way from the head.

    Lines that close a circle lead back, and those that leave the tail, which is in the last column.
    """
    order: list[_Box] = []
    state: dict[_Box, str] = {}

    def visit(box: _Box) -> None:
        state[box] = "open"
        for line in box.out:
            if state.get(line.end) == "open" or (box is tail and head is not tail):
                line.back = True
            elif line.end not in state:
                visit(line.end)
        state[box] = "done"
        order.insert(0, box)

    for box in boxes:
        if box not in state:
            visit(box)
    for box in order:
        box.column = 0 if box is head else 2
    for box in order:
        for line in box.out:
            if not line.back:
                line.end.column = max(line.end.column, box.column + 2)
    if head is not tail:
        tail.column = max(box.column + 2 * (box is not tail) for box in boxes)
    # A box that only lines back lead to stands before the boxes that it leads to.
    led = {line.end for box in boxes for line in box.out if not line.back}
    for box in reversed(order):
        onward = [line.end.column for line in box.out if not line.back]
        if box is not head and box not in led and onward:
            box.column = max(2, min(onward) - 2)


def _stops(line: _Line, names: Names) -> list[_Place]:
    """Give a line its places; returns those between its boxes. The first one has the label."""
    main, *more = line.order
    line.lines = two_lines(names(main), f" +{len(more)}" if more else "")
    first, last = (line.end, line.start) if line.back else (line.start, line.end)
    height = SMALL_ROW * len(line.lines) + STROKE + 7
    between = [_Place(column) for column in range(first.column + 1, last.column)]
    between[0].width = LETTER * max(map(_columns, line.lines)) + 6
    between[0].height, between[0].shift = height, height / 2 - UNDER
    line.stops = [first, *between, last]
    for place, following in pairwise(line.stops):
        place.after.append(following)
        following.before.append(place)
    return between


def _settle(places: Sequence[_Place], wanted: Mapping[_Place, float]) -> None:
    """Heights nearest to the wanted ones, and far enough apart, by isotonic regression."""
    offsets = [0.0]
    for above, below in pairwise(places):
        offsets.append(offsets[-1] + (above.height + below.height) / 2 + SPACE)
    blocks: list[list[float]] = []  # of equal shifts: their sum and number
    for place, offset in zip(places, offsets, strict=True):
        blocks.append([wanted[place] - offset, 1])
        while len(blocks) > 1 and blocks[-2][0] / blocks[-2][1] > blocks[-1][0] / blocks[-1][1]:
            value, count = blocks.pop()
            blocks[-1][0] += value
            blocks[-1][1] += count
    shifts = [value / count for value, count in blocks for _ in range(int(count))]
    for place, offset, shift in zip(places, offsets, shifts, strict=True):
        place.y = offset + shift


def _find_heights(columns: Sequence[list[_Place]]) -> None:
    """Order each column, and set heights near those of the places that lines lead to."""
    for column in columns:
        _settle(column, dict.fromkeys(column, 0.0))
    near: Sequence[Callable[[_Place], list[_Place]]] = (
        lambda place: place.before, lambda place: place.after,
        lambda place: [*place.before, *place.after],
    )  # fmt: skip
    for turn in range(TURNS):
        of = near[2 if turn >= SORTING else turn % 2]
        for column in reversed(columns) if turn % 2 else columns:
            wanted = {place: _mean(place, of(place)) for place in column}
            if turn < SORTING:
                column.sort(key=wanted.__getitem__)
            _settle(column, wanted)


def _mean(place: _Place, near: Sequence[_Place]) -> float:
    """The height at which the line of a place has the mean height of those near it."""
    if not near:
        return place.y
    return sum(each.y + each.shift for each in near) / len(near) - place.shift


def _find_columns(columns: Iterable[Sequence[_Place]]) -> None:
    """Set the left and right ends of all places; lines bend on both sides of a label's column."""
    x = MARGIN
    for at, column in enumerate(columns):
        width, bend = max(place.width for place in column), 0.0
        if at % 2:
            steep = max(
                abs(each.y - place.y)
                for place in column
                for each in (*place.before, *place.after)
            )  # fmt: skip
            bend = min(max(steep / 4, BEND[0]), BEND[1])
        for place in column:
            own = place.width if isinstance(place, _Box) else width
            place.left = x + bend + (width - own) / 2
            place.right = place.left + own
        x += width + 2 * bend


def _port(box: _Place, places: Sequence[_Place], place: _Place) -> float:
    """The height at which the line from a place meets a box; lines meet it apart."""
    order = sorted(places, key=lambda each: each.y)
    return box.y + PITCH * (order.index(place) - (len(order) - 1) / 2)


def _edge(line: _Line, names: Names, most: float) -> Edge:
    stops = line.stops
    stroke = 1 + STROKE * abs(line.weight) / most
    heights = [stop.y + stop.shift for stop in stops]
    heights[0] = _port(stops[0], stops[0].after, stops[1])
    heights[-1] = _port(stops[-1], stops[-1].before, stops[-2])
    x = stops[0].right + ARROW * line.back
    path = f"M{x:.1f} {heights[0]:.1f}"
    for place, (y, next_y) in zip(stops[1:], pairwise(heights), strict=True):
        to = place.left - ARROW * (place is stops[-1] and not line.back)
        path += f"C{(x + to) / 2:.1f} {y:.1f} {(x + to) / 2:.1f} {next_y:.1f} {to:.1f} {next_y:.1f}"
        x = place.right
        if place is not stops[-1]:
            path += f"H{x:.1f}"
    label = stops[1]
    return Edge(
        path, (label.left + label.right) / 2,
        heights[1] - stroke / 2 - 2 - SMALL_ROW * len(line.lines) / 2,
        _label_half(line.lines), line.lines, line.title(names),
        stroke, line.weight >= 0, line.back,
    )  # fmt: skip


def _loop(line: _Line, names: Names, most: float) -> Edge:
    """The line from an entity to itself, above its box; its label shows on pointing."""
    x, top = (line.start.left + line.start.right) / 2, line.start.y - line.start.height / 2
    path = (
        f"M{x + 10:.1f} {top:.1f}C{x + 18:.1f} {top - LOOP:.1f} {x - 18:.1f} {top - LOOP:.1f} "
        f"{x - 10:.1f} {top - ARROW / 2:.1f}"
    )
    stroke = 1 + STROKE * abs(line.weight) / most
    return Edge(path, x, top, 0.0, (), line.title(names), stroke, line.weight >= 0, False)


def _label_half(lines: Sequence[str]) -> float:
    """Half the width of a step's label."""
    return LETTER / 2 * max(map(_columns, lines))


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


def _columns(text: str) -> float:
    """The width of a text in columns, generously; a wide character has two."""
    return sum(map(_column, text))


def _column(c: str) -> float:
    if unicodedata.east_asian_width(c) in "WF":
        return 2.0
    return 1.6 if c in "MWm@%" else 1.3 if c.isupper() or c == "w" else 1.0
