"""Draw MRR against minutes of training, from the histories of runs, and published results.

    cp runs/fb15k-237/history.tsv docs/results/history/fb15k-237.tsv
    python scripts/plot_mrr.py --runs docs/results/history --out docs/results/mrr.png

Above is the learning curve: MRR on valid, with train and valid as the filter. Its time is the wall
time of training, including validation. A curve from `*-and-one-path.tsv` continues a run: it adds
the training time of a second run, and ends at the MRR of both (`kgtool evaluate RUN --ensemble
RUN2`). Below is MRR on test, from `docs/results/history/test.tsv` and from the papers, which give
no time. Valid and test have axes of their own: other queries, and another filter.
"""

from __future__ import annotations

import argparse
from itertools import cycle
from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

# MRR on test: NBFNet (Zhu et al. 2021), AdaProp (Zhang et al. 2023), one-shot-subgraph (Zhou et al.
# 2024); the best of R-GCN and embeddings as Zhu et al. report them.
PUBLISHED = {
    "FB15k-237": {"NBFNet": 0.415, "AdaProp": 0.417, "embeddings": 0.37},
    "WN18RR": {"NBFNet": 0.551, "AdaProp": 0.562, "one-shot-subgraph": 0.568},
}
COLORS = ("#2a6fbb", "#c8553d", "#4a9d5b")
GREY = "#8a97a5"


def draw_curves(
    axes: Axes, name: str, runs: dict[str, pd.DataFrame], colors: dict[str, str]
) -> None:
    """Draw MRR on valid against minutes of training."""
    for run, history in runs.items():
        minutes = history["seconds"] / 60
        axes.plot(minutes, history["valid_mrr"], "o-", ms=3, color=colors[run], label=run)
    axes.set(
        title=f"{name}, valid", xlabel="minutes of training on two cores", ylabel="MRR on valid",
        xlim=(0, None),
    )  # fmt: skip
    axes.margins(y=0.1)
    axes.grid(alpha=0.25)
    axes.legend(loc="lower right", fontsize=8, frameon=False)


def draw_test(axes: Axes, name: str, runs: dict[str, float], colors: dict[str, str]) -> None:
    """Draw MRR on test: a row a model, published ones in grey, the best first."""
    rows = sorted((PUBLISHED[name] | runs).items(), key=lambda row: row[1])
    for place, (model, mrr) in enumerate(rows):
        color = colors.get(model, GREY)
        axes.plot([mrr], [place], "o", ms=6, color=color)
        axes.annotate(
            f"{mrr:.3f}", (mrr, place), (7, 0), textcoords="offset points", fontsize=8, va="center"
        )
    least, most = rows[0][1], rows[-1][1]
    axes.set_yticks(range(len(rows)), [model for model, _ in rows], fontsize=8)
    axes.set(
        title=f"{name}, test", xlabel="MRR on test (grey: published)",
        xlim=(least - 0.4 * (most - least), most + 0.4 * (most - least)),
        ylim=(-0.6, len(rows) - 0.4),
    )  # fmt: skip
    axes.grid(alpha=0.25)


def draw(folder: Path) -> Figure:
    """The figure of the histories `*.tsv` and of `test.tsv` in a folder."""
    test = pd.read_csv(folder / "test.tsv", sep="\t", index_col="run")["mrr"].to_dict()
    figure = Figure(figsize=(10, 6.2), layout="constrained")
    columns = figure.subplots(2, len(PUBLISHED), height_ratios=(3, 2)).T
    for (upper, lower), name in zip(columns, PUBLISHED, strict=True):
        files = sorted(folder.glob(f"{name.lower()}*.tsv"))
        colors = dict(zip([file.stem for file in files], cycle(COLORS), strict=False))
        histories = {file.stem: pd.read_csv(file, sep="\t") for file in files}
        draw_curves(upper, name, histories, colors)
        draw_test(lower, name, {run: test[run] for run in colors if run in test}, colors)
    return figure


def main() -> None:
    """Parse the arguments and write the image."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--runs", type=Path, default=Path("docs/results/history"), help="%(default)s"
    )
    parser.add_argument(
        "--out", type=Path, default=Path("docs/results/mrr.png"), help="%(default)s"
    )
    args = parser.parse_args()
    draw(args.runs).savefig(args.out, dpi=150)


if __name__ == "__main__":
    main()
