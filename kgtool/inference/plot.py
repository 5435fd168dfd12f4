"""Plots of explanations: the paths from head to tail that carry a score."""

from __future__ import annotations

from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from kgtool.errors import ConfigError
from kgtool.inference.explain import Explanation, main_relations
from kgtool.storage.files import atomic_write

SUFFIXES = (".png", ".svg", ".pdf")
_FOR, _AGAINST = "#2a6fbb", "#c8553d"  # positive and negative weights
_ENTITY, _ENDS, _EDGE = "#f3f5f7", "#dbe8f6", "#8a97a5"
_LABEL = 22  # characters of a label that are shown
_STEP, _ROW = 3.0, 0.6  # inches between entities, and between paths


def save_picture(explanation: Explanation, file: Path) -> None:
    """Draw a row per path, strongest on top; a wider line means a larger weight.

    Under the rows stand the score, and the score without the edges of these paths.

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
    figure = _draw(explanation)
    with atomic_write(file, "wb") as stream:
        figure.savefig(stream, format=file.suffix[1:], dpi=150)


def _draw(explanation: Explanation) -> Figure:
    longest = max((len(path.steps) for path in explanation.paths), default=1)
    rows = max(len(explanation.paths), 1)
    figure = Figure(
        figsize=(_STEP * longest + 2.8, _ROW * (rows + 0.5) + 0.7), layout="constrained"
    )
    axes: Axes = figure.add_subplot()
    axes.set_axis_off()
    axes.set(xlim=(-0.35, longest + 0.6), ylim=(-rows, 0.5))
    head, relation, tail = explanation.triple
    # Labels are not formulas, though they may contain dollar signs.
    axes.set_title(f"{head}  —{relation}→  {tail}", fontsize=11, parse_math=False)
    if not explanation.paths:
        axes.text(longest / 2, 0, "No path from head to tail.", ha="center")
    else:
        note = f"score {explanation.score:.2f}, without these paths {explanation.rest:.2f}"
        axes.text(longest + 0.58, 0.3 - rows, note, fontsize=9, ha="right", va="center")
    most = max((abs(path.weight) for path in explanation.paths), default=1.0) or 1.0
    for row, path in enumerate(explanation.paths):
        color = _FOR if path.weight >= 0 else _AGAINST
        width = 0.8 + 4.2 * abs(path.weight) / most
        places = [longest * i / len(path.steps) for i in range(len(path.entities))]
        boxes = []
        for i, (place, entity) in enumerate(zip(places, path.entities, strict=True)):
            fill = _ENDS if i in (0, len(places) - 1) else _ENTITY
            box = {"boxstyle": "round,pad=0.35", "edgecolor": _EDGE, "facecolor": fill}
            text = axes.text(
                place, -row, short(entity), fontsize=9, ha="center", va="center", bbox=box,
                parse_math=False,
            )  # fmt: skip
            boxes.append(text.get_bbox_patch())
        for i, step in enumerate(path.steps):
            begin, end = places[i], places[i + 1]
            arrow = {
                "arrowstyle": "-|>", "color": color, "linewidth": width,
                "shrinkA": 0, "shrinkB": 0, "patchA": boxes[i], "patchB": boxes[i + 1],
            }  # fmt: skip
            axes.annotate("", (end, -row), (begin, -row), arrowprops=arrow)
            axes.text(
                (begin + end) / 2, -row, _step_label(step), color=color, fontsize=8,
                linespacing=1.05,
                ha="center", va="center", zorder=4, parse_math=False,
                bbox={"boxstyle": "round,pad=0.15", "facecolor": "white", "edgecolor": "none"},
            )  # fmt: skip
        axes.text(longest + 0.58, -row, f"{path.weight:.2f}", color=color, ha="right", va="center")
    return figure


def _step_label(step: tuple[tuple[str, float], ...]) -> str:
    return "\n".join(short(relation) for relation in main_relations(step))


def short(label: str, most: int = _LABEL) -> str:
    """The label; its middle is left out if it has more than `most` characters."""
    return label if len(label) <= most else label[: most // 2] + "…" + label[-most // 2 :]
