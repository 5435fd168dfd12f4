"""Draw zero-shot MRR against processor minutes of pre-training, and published results.

    python scripts/plot_zero_shot.py

Its data are in `docs/results/history/zero-shot.tsv`: a row for each checkpoint and graph, with the
graphs that were learned from, the processor minutes until then, and MRR on test. No checkpoint was
selected by it. Published figures are of ULTRA (Galkin et al. 2024) and TRIX (Zhang et al. 2024);
with a star, the model learned a graph of the same source. An .svg follows the reader's light or
dark style.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import pandas as pd
from matplotlib import rc_context
from matplotlib.figure import Figure

sys.path.insert(0, str(Path(__file__).parents[1]))

from kgtool.inference.svg import BLUE, GREY, RED, svg_file
from scripts.plot_mrr import STYLE

PUBLISHED = {
    "nell_v1_ind": {"ULTRA": 0.717, "TRIX": 0.806},
    "fb237_v1_ind": {"ULTRA*": 0.486, "TRIX*": 0.515},
}
LONGER = "synthetic graphs, 55,000 steps"  # the last checkpoint of a run of its own
COLORS = {"synthetic graphs": BLUE, "real graphs": RED, "both": "#4a9d5b", LONGER: BLUE}
TITLE = (
    "Zero-shot MRR on test against processor minutes of pre-training, for synthetic graphs, real "
    "graphs and both, next to the published figures of ULTRA and TRIX."
)


def draw(checkpoints: pd.DataFrame) -> Figure:
    """A plot for each graph.

    Args:
        checkpoints: columns `sources` (a key of `COLORS`), `minutes`, `graph` and `mrr`.
    """
    figure = Figure(figsize=(4.8, 3.2 * len(PUBLISHED)), layout="constrained")
    plots = figure.subplots(len(PUBLISHED))
    for axes, (graph, published) in zip(plots, PUBLISHED.items(), strict=True):
        of_graph = checkpoints[checkpoints["graph"] == graph]
        for sources, color in COLORS.items():
            rows = of_graph[of_graph["sources"] == sources].sort_values("minutes")
            if len(rows):
                style = "D" if sources == LONGER else "o-"
                axes.plot(rows["minutes"], rows["mrr"], style, ms=3, color=color, label=sources)
        for model, mrr in published.items():
            axes.axhline(mrr, color=GREY, lw=1, ls="--")
            axes.annotate(
                f"{model} {mrr:.3f}", (0.75, mrr), (0, 2), xycoords=("axes fraction", "data"),
                textcoords="offset points", ha="right", fontsize=8,
            )  # fmt: skip
        axes.set(
            title=f"{graph}, nothing trained on it", ylabel="MRR on test", xlim=(0, None),
            xlabel="processor minutes of pre-training",
        )  # fmt: skip
        axes.margins(y=0.12)
        axes.grid()
    lines, labels = axes.get_legend_handles_labels()
    figure.legend(
        lines, labels, loc="outside lower center", ncols=3, fontsize=8, frameon=False
    )  # fmt: skip
    return figure


def main() -> None:
    """Parse the arguments and write the image."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--checkpoints", type=Path, default=Path("docs/results/history/zero-shot.tsv"),
        help="%(default)s",
    )  # fmt: skip
    parser.add_argument(
        "--out", type=Path, default=Path("docs/pictures/zero-shot.svg"), help="%(default)s"
    )
    args = parser.parse_args()
    with rc_context(STYLE):
        figure = draw(pd.read_csv(args.checkpoints, sep="\t"))
        args.out.write_text(svg_file(figure, TITLE), encoding="utf-8")


if __name__ == "__main__":
    main()
