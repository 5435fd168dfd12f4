"""The picture of a search over settings: the valid MRR of each trial, and what matters for it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from kgtool.storage.files import atomic_write

_BEST, _FINISHED, _PRUNED, _INK, _GRID = "#c8553d", "#2a6fbb", "#8a97a5", "#3b4754", "#e3e8ed"


def save_plot(trials: pd.DataFrame, importance: Mapping[str, float], file: Path) -> None:
    """Draw the trials by number; next to them the importance of settings, if it is known.

    Args:
        trials: a row per trial, with trial, state and valid_mrr.
        importance: setting → share, largest first.
        file: the PNG file to write.
    """
    height = max(3.6, 0.32 * len(importance) + 1.4)
    figure = Figure(figsize=(10.5 if importance else 6.5, height), layout="constrained")
    if importance:
        history, bars = figure.subplots(1, 2, width_ratios=[3, 2])
        _draw_importance(bars, importance)
    else:
        history = figure.subplots()
    _draw_history(history, trials)
    with atomic_write(file, "wb") as stream:
        figure.savefig(stream, format="png", dpi=150)


def _draw_history(axes: Axes, trials: pd.DataFrame) -> None:
    finished = trials[trials["state"] == "finished"]
    others = trials[(trials["state"] != "finished") & trials["valid_mrr"].notna()]
    axes.step(
        finished["trial"], finished["valid_mrr"].cummax(), where="post", color=_BEST,
        linewidth=1.5, label="best so far",
    )  # fmt: skip
    if len(others):
        axes.scatter(
        others["trial"], others["valid_mrr"], s=26, marker="x", color=_PRUNED, linewidth=1.2,
        label="pruned or unfinished", zorder=3,
    )  # fmt: skip
    axes.scatter(
        finished["trial"], finished["valid_mrr"], s=26, color=_FINISHED, edgecolor="white",
        linewidth=0.6, label="finished", zorder=4,
    )  # fmt: skip
    axes.set_xlabel("trial")
    axes.set_ylabel("valid MRR")
    axes.set_title("Trials", fontsize=11, loc="left")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(color=_GRID, linewidth=0.8)
    axes.legend(
        fontsize=8, frameon=False, ncols=3, loc="lower right", bbox_to_anchor=(1, 1), borderpad=0
    )
    _plain(axes)


def _draw_importance(axes: Axes, importance: Mapping[str, float]) -> None:
    names = [*importance][::-1]
    shares = [importance[name] for name in names]
    bars = axes.barh(names, shares, color=_FINISHED, height=0.6)
    axes.bar_label(bars, [f"{share:.2f}" for share in shares], padding=3, fontsize=8, color=_INK)
    axes.set_xlim(0, max(shares) * 1.18 or 1)
    axes.set_title("Importance of settings", fontsize=11, loc="left")
    axes.tick_params(axis="y", length=0, labelsize=8)
    axes.xaxis.set_visible(False)
    _plain(axes)
    axes.spines[["left", "bottom"]].set_visible(False)


def _plain(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_axisbelow(True)
