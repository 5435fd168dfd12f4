"""Plots of explanations: the paths from head to tail that carry a score."""

from __future__ import annotations

from pathlib import Path

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

from kgtool.errors import ConfigError
from kgtool.inference.explain import Explanation, NamedPath, main_relations
from kgtool.inference.svg import BLUE, GREY, INK, PAPER, RED, SVG_STYLE, svg_file
from kgtool.storage.files import atomic_write

SUFFIXES = (".png", ".svg", ".pdf")
_ENTITY, _ENDS = "#f3f5f7", "#dbe8f6"
_LABEL = 22  # characters of a label that are shown
# Sizes in inches. A picture is two paths wide, so that a phone shows it in readable size.
_PATH, _BOX, _STEP, _HEAD, _TOP, _UNDER = 2.35, 0.3, 0.5, 0.34, 0.75, 0.35


def save_picture(explanation: Explanation, file: Path) -> None:
    """Draw the paths from top to bottom, strongest first; a wider line means a larger weight.

    The number above a path is its weight. Under the paths stand the score, and the score without
    the edges of these paths. An .svg follows the reader's light or dark style.

    Args:
        explanation: the explanation.
        file: the output file; its suffix is .png, .svg or .pdf.

    Raises:
        ConfigError: for any other suffix.
        KGToolError: if the file cannot be written.
    """
    if file.suffix not in SUFFIXES:
        supported = f"{', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]}"
        raise ConfigError(f"{file}: unsupported picture format. Remedy: use {supported}.")
    with rc_context(SVG_STYLE):
        figure = _draw(explanation)
        if file.suffix == ".svg":
            with atomic_write(file) as text:
                text.write(svg_file(figure, in_words(explanation)))
            return
        with atomic_write(file, "wb") as stream:
            figure.savefig(stream, format=file.suffix[1:], dpi=200)


def in_words(explanation: Explanation) -> str:
    """What the picture shows, for readers who cannot see it."""
    head, relation, tail = explanation.triple
    text = f"Why ({head}, {relation}, {tail}) has the score {explanation.score:.2f}."
    if not explanation.paths:
        return f"{text} No path leads from head to tail."
    paths = (
        path.entities[0]
        + "".join(
            f" —{', '.join(main_relations(step))}→ {entity}"
            for step, entity in zip(path.steps, path.entities[1:], strict=True)
        )
        + f", weight {path.weight:.2f}"
        for path in explanation.paths
    )
    return f"{text} Paths: {'; '.join(paths)}."


def _draw(explanation: Explanation) -> Figure:
    paths = explanation.paths
    rows = [paths[i : i + 2] for i in range(0, len(paths), 2)]
    heights = [_HEAD + max(_height(path) for path in row) for row in rows]
    width, height = 2 * _PATH, _TOP + sum(heights) + _UNDER
    figure = Figure(figsize=(width, height))
    axes: Axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    axes.set(xlim=(0, width), ylim=(height, 0))  # inches from the top
    head, relation, tail = (short(label, 44) for label in explanation.triple)
    # Labels are not formulas, though they may contain dollar signs.
    axes.text(
        width / 2, _TOP / 2, f"{head}\n—{relation}→\n{tail}", ha="center", va="center",
        color=INK, fontsize=9.5, linespacing=1.15, parse_math=False,
    )  # fmt: skip
    note = f"score {explanation.score:.2f}, without these paths {explanation.rest:.2f}"
    axes.text(
        width / 2, height - _UNDER / 2, note if paths else "No path from head to tail.",
        ha="center", va="center", color=INK, fontsize=8.5,
    )  # fmt: skip
    most = max((abs(path.weight) for path in paths), default=1.0) or 1.0
    top = _TOP
    for row, tall in zip(rows, heights, strict=True):
        for column, path in enumerate(row):
            # A single path of a row stands in the middle.
            middle = width / 2 if len(row) == 1 else (column + 0.5) * _PATH
            _draw_path(axes, path, middle, top, most)
        top += tall
    return figure


def _height(path: NamedPath) -> float:
    return _BOX * len(path.entities) + _STEP * len(path.steps) + 0.12


def _draw_path(axes: Axes, path: NamedPath, middle: float, top: float, most: float) -> None:
    """Draw one path downwards from `top`; its weight stands above."""
    color = BLUE if path.weight >= 0 else RED
    axes.text(middle, top + _HEAD / 2, f"{path.weight:.2f}", color=color, fontsize=9.5,
              fontweight="bold", ha="center", va="center")  # fmt: skip
    top += _HEAD
    for i, entity in enumerate(path.entities):
        y = top + i * (_BOX + _STEP)
        ends = i in (0, len(path.entities) - 1)
        axes.add_patch(
            FancyBboxPatch(
                (middle - _PATH / 2 + 0.16, y + 0.03), _PATH - 0.32, _BOX - 0.06,
                boxstyle="round,pad=0.03,rounding_size=0.06", linewidth=0.9,
                facecolor=_ENDS if ends else _ENTITY, edgecolor=BLUE if ends else GREY,
            )
        )  # fmt: skip
        axes.text(middle, y + _BOX / 2, short(entity), color=INK, fontsize=8.5, ha="center",
                  va="center", parse_math=False)  # fmt: skip
    for i, step in enumerate(path.steps):
        begin = top + i * (_BOX + _STEP) + _BOX
        arrow = {
            "arrowstyle": "-|>", "color": color, "shrinkA": 0, "shrinkB": 0,
            "linewidth": 0.8 + 3.2 * abs(path.weight) / most,
        }  # fmt: skip
        axes.annotate("", (middle, begin + _STEP), (middle, begin), arrowprops=arrow)
        axes.text(
            middle, begin + 0.4 * _STEP, "\n".join(map(short, main_relations(step))), color=color,
            fontsize=8, linespacing=1.0, ha="center", va="center", zorder=4, parse_math=False,
            bbox={"boxstyle": "round,pad=0.1", "facecolor": PAPER, "edgecolor": "none"},
        )  # fmt: skip


def short(label: str, most: int = _LABEL) -> str:
    """The label; its middle is left out if it has more than `most` characters."""
    return label if len(label) <= most else label[: most // 2] + "…" + label[-most // 2 :]
