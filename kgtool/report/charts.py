"""The report's plots by matplotlib, as SVG with real text; equal data give equal bytes."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from kgtool.inference.plot import short
from kgtool.inference.svg import BLUE, GREY, INK, PAPER, RED, SVG_STYLE, inline_svg
from kgtool.report.embedding_map import EmbeddingMap
from kgtool.report.names import Names
from kgtool.report.tables import Group

# Colours that most colour-blind readers can distinguish (Okabe & Ito 2008).
COLORS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#7a5fa8", "#8c6d31")
SIDE_COLORS = {"both": INK, "head": RED, "tail": BLUE}
WIDTH = 4.6  # inches: the width of a phone, or half of a desktop page
MOST_RELATIONS = 25
FEW = 10  # answers of a bin whose share of true ones says little
MOST_NAMED = 10  # entities with names on the map
_STYLE: dict[Any, Any] = {
    "axes.edgecolor": GREY,
    "axes.grid": True,
    "axes.labelcolor": INK,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.axisbelow": True,
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],  # comes with matplotlib: equal sizes on every machine
    "font.size": 9,
    "grid.color": "#e6eaee",
    "legend.frameon": False,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
}


@contextmanager
def _drawing(salt: str) -> Iterator[None]:
    """The plot style; `salt` keeps the SVG ids of different plots distinct."""
    with rc_context(SVG_STYLE | _STYLE | {"svg.hashsalt": salt}), warnings.catch_warnings():
        # The reader's browser chooses the fonts, so missing glyphs do not matter here.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        warnings.filterwarnings("ignore", message="Matplotlib currently does not support")
        yield


def learning_curve(history: Sequence[dict[str, Any]]) -> str:
    """MRR on valid and the loss, over minutes of training; a line for each part of the model."""
    minutes = np.array([row["seconds"] / 60 for row in history])
    mrr = np.array([row["valid_mrr"] for row in history])
    loss = np.array([row["loss"] for row in history])
    part = np.array([row.get("part", "") for row in history])
    own = np.flatnonzero(part == part[-1])
    best = int(own[np.argmax(mrr[own])])
    with _drawing("learning-curve"):
        figure = Figure(figsize=(WIDTH, 3.4), layout="constrained")
        upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 2))
        for name in dict.fromkeys(part.tolist()):
            rows = part == name
            style = {"marker": "o", "markersize": 3}
            upper.plot(minutes[rows], mrr[rows], color=BLUE if name == part[-1] else GREY, **style)
            lower.plot(minutes[rows], loss[rows], color=GREY, **style)
        upper.plot(minutes[best], mrr[best], "o", color=RED, markersize=6)
        late = minutes[best] > (minutes[0] + minutes[-1]) / 2
        upper.annotate(
            f"{mrr[best]:.4f}", (minutes[best], mrr[best]), (4 if late else -4, 5),
            textcoords="offset points", color=RED, ha="right" if late else "left",
        )  # fmt: skip
        upper.margins(y=0.15)
        upper.set_ylabel("MRR on valid")
        lower.set(ylabel="loss", xlabel="minutes of training")
        lower.set_xlim(left=0)
        figure.align_ylabels()
        return inline_svg(figure, "MRR on valid and the loss, over minutes of training")


def by_relation(groups: Sequence[Group], names: Names) -> str:
    """MRR of the relations with most queries, with intervals."""
    shown = groups[:MOST_RELATIONS]
    with _drawing("by-relation"):
        figure = Figure(figsize=(WIDTH, 0.25 * len(shown) + 0.7), layout="constrained")
        axes: Axes = figure.add_subplot()
        y = np.arange(len(shown))
        mrr = np.array([group.metrics["both"]["mrr"] for group in shown])
        low = np.array([group.low["both"] for group in shown])
        high = np.array([group.high["both"] for group in shown])
        axes.barh(y, mrr, color="#c9dcf0", height=0.68)
        axes.hlines(y, low, high, color=BLUE, linewidth=1.6)
        axes.plot(mrr, y, "o", color=BLUE, markersize=3.5, clip_on=False)
        axes.set_yticks(y)
        axes.set_yticklabels([short(names(group.name), 26) for group in shown], parse_math=False)
        axes.tick_params("y", length=0)
        axes.grid(axis="y", visible=False)
        axes.set(xlim=(0, 1), ylim=(len(shown) - 0.4, -0.6), xlabel="MRR")
        return inline_svg(figure, "MRR by relation, with 95 % intervals")


def by_category(groups: Sequence[Group]) -> str:
    """MRR by cardinality category and side, with intervals."""
    with _drawing("by-category"):
        figure = Figure(figsize=(WIDTH, 2.7), layout="constrained")
        axes: Axes = figure.add_subplot()
        for shift, (side, color) in zip((-0.2, 0.0, 0.2), SIDE_COLORS.items(), strict=True):
            points = [(i, group) for i, group in enumerate(groups) if side in group.metrics]
            x = np.array([i for i, _ in points]) + shift
            mrr = np.array([group.metrics[side]["mrr"] for _, group in points])
            low = np.array([group.low[side] for _, group in points])
            high = np.array([group.high[side] for _, group in points])
            axes.vlines(x, low, high, color=color, linewidth=1.8)
            axes.plot(x, mrr, "o", color=color, markersize=5, label=side, clip_on=False)
        axes.set_xticks(range(len(groups)))
        axes.set_xticklabels(
            [f"{group.name}\n{group.queries['both']:,} queries" for group in groups]
        )
        axes.grid(axis="x", visible=False)
        axes.set(ylim=(0, 1), xlim=(-0.5, len(groups) - 0.5), ylabel="MRR")
        figure.legend(loc="outside upper right", ncols=3, handletextpad=0.2)
        return inline_svg(figure, "MRR by cardinality category and side, with 95 % intervals")


def rank_histogram(ranks: pd.DataFrame) -> str:
    """Histogram of ranks in bins of doubling width, and Hits@k for every k."""
    rank = ranks["rank"].to_numpy()
    doublings = int(np.ceil(np.log2(max(rank.max(), 2) + 1)))
    edges = np.arange(doublings + 1)  # of the bins, in doublings: bin i has the ranks from 2^i on
    with _drawing("ranks"):
        figure = Figure(figsize=(WIDTH, 2.9), layout="constrained")
        axes: Axes = figure.add_subplot()
        for i, side in enumerate(("head", "tail")):
            own = rank[(ranks["side"] == side).to_numpy()]
            share = np.histogram(own, 2.0**edges)[0] / max(len(own), 1)
            axes.bar(
                edges[:-1] + 0.08 + 0.42 * i, share, 0.42, align="edge",
                color=SIDE_COLORS[side], alpha=0.75, label=f"{side} queries",
            )  # fmt: skip
        k, count = np.unique(rank, return_counts=True)
        hits = count.cumsum() / len(rank)
        axes.step(np.append(np.log2(k), edges[-1]), np.append(hits, 1.0), where="post", color=INK,
                  linewidth=1.2, label="Hits@k")  # fmt: skip
        shown = edges[:: 1 if len(edges) < 9 else 2]
        axes.set_xticks(shown, [f"{2 ** int(i):,}" for i in shown])
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.0f} %"))
        axes.set(xlim=(0, edges[-1]), ylim=(0, 1), xlabel="rank, k", ylabel="queries")
        axes.grid(axis="x", visible=False)
        figure.legend(loc="outside upper right", ncols=3)
        return inline_svg(figure, "Histogram of ranks, and Hits@k for every k")


def calibration_curve(table: pd.DataFrame) -> str:
    """The observed share of true answers by predicted probability, and the number of answers."""
    with _drawing("calibration"):
        figure = Figure(figsize=(WIDTH, 4.0), layout="constrained")
        upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(4, 1))
        x, y = table["probability"].to_numpy(), table["observed"].to_numpy()
        upper.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle="--")
        upper.vlines(x, table["low"], table["high"], color=BLUE, linewidth=1.6)
        many = table["count"].to_numpy() >= FEW
        upper.plot(x[many], y[many], "o", color=BLUE, markersize=4.5, clip_on=False)
        upper.plot(x[~many], y[~many], "o", color=BLUE, markersize=4.5, clip_on=False,
                   markerfacecolor=PAPER)  # fmt: skip
        upper.set(xlim=(0, 1), ylim=(0, 1), ylabel="share of true answers")
        lower.vlines(x, 0, table["count"], color=GREY, linewidth=6)
        lower.set(xlabel="predicted probability", ylabel="answers")
        lower.set_ylim(bottom=0)
        lower.yaxis.set_major_locator(MaxNLocator(2))
        lower.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
        figure.align_ylabels()
        return inline_svg(figure, "Observed share of true answers by predicted probability")


def calibration_error(table: pd.DataFrame) -> float:
    """The expected calibration error: the mean distance of bins, weighted by their counts."""
    gap = (table["probability"] - table["observed"]).abs()
    return float((gap * table["count"]).sum() / max(table["count"].sum(), 1))


def map_plot(
    entity_map: EmbeddingMap, role_name: Callable[[int], str], labels: Sequence[str]
) -> str:
    """The map, coloured by role, with names for the entities with most triples.

    Args:
        entity_map: the map.
        role_name: the name of a role.
        labels: names of the shown entities.
    """
    kinds, count = np.unique(entity_map.role.numpy(), return_counts=True)
    often = [int(kinds[i]) for i in np.argsort(-count, kind="stable") if kinds[i] >= 0]
    often = often[: len(COLORS)]
    place = entity_map.place
    with _drawing("map"):
        figure = Figure(figsize=(5.2, 5.0 + 0.17 * (len(often) + 1)), layout="constrained")
        axes: Axes = figure.add_subplot()
        axes.set_axis_off()
        role = entity_map.role.numpy()
        rest = ~np.isin(role, often)
        size = 7 if len(place) > 500 else 16
        if rest.any():
            axes.scatter(
                place[rest, 0],
                place[rest, 1],
                s=size * 0.7,
                color="#c3cad2",
                linewidths=0,
                label="other",
            )
        for kind, color in zip(often, COLORS, strict=False):
            own = place[role == kind]
            axes.scatter(
                own[:, 0], own[:, 1], s=size, color=color, linewidths=0, label=role_name(kind)
            )
        spread = np.ptp(place, axis=0).max() or 1.0
        axes.set_aspect("equal", "datalim")
        named: list[np.ndarray] = []
        for i in np.argsort(-entity_map.degree.numpy(), kind="stable"):
            x, y = place[i]
            # Names are wide and low; they must not overlap.
            if any(abs(x - a) < 0.24 * spread and abs(y - b) < 0.03 * spread for a, b in named):
                continue
            named.append(place[i])
            axes.annotate(
                short(labels[int(i)]), (x, y), (0, 4), textcoords="offset points", fontsize=8,
                ha="center", va="bottom", parse_math=False,
                bbox={"boxstyle": "round,pad=0.1", "facecolor": f"{PAPER}cc", "edgecolor": "none"},
            )  # fmt: skip
            axes.plot(
                x, y, "o", markersize=4, markerfacecolor="none", color=INK, markeredgewidth=0.7
            )
            if len(named) == MOST_NAMED:
                break
        handles, texts = axes.get_legend_handles_labels()
        order = [*range(1, len(texts)), 0] if rest.any() else [*range(len(texts))]
        legend = figure.legend(
            [handles[i] for i in order], [texts[i] for i in order],
            loc="outside lower left", ncols=1, markerscale=1.6, handletextpad=0.2,
        )  # fmt: skip
        for text in legend.get_texts():
            text.set_parse_math(False)
        return inline_svg(figure, "Map of entity states")
