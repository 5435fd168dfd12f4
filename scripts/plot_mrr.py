"""Draw MRR against minutes of training, from the histories of runs, and published results.

    cp runs/fb15k-237/history.tsv docs/results/history/fb15k-237.tsv
    python scripts/plot_mrr.py --runs docs/results/history --out docs/pictures/mrr.svg

For each data set, the first plot is the learning curve: MRR on valid, with train and valid as the
filter. Its time is the wall time of training, including validation. A curve from
`*-and-one-path.tsv` continues a run: it adds the training time of a second run, and ends at the MRR
of both (`kgtool evaluate RUN --ensemble RUN2`). The second plot is MRR on test, from
`docs/results/history/test.tsv` and from the papers, with the minutes of our runs; the papers
give none. Valid and test have axes of their own: other queries, and another filter. The plots stand
below each other, so that a phone shows them in readable size. An .svg follows the reader's light or
dark style.
"""

from __future__ import annotations

import argparse
from itertools import cycle
from pathlib import Path

import pandas as pd
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from kgtool.inference.svg import BLUE, GREY, INK, RED, SVG_STYLE, svg_file

# MRR on test: NBFNet (Zhu et al. 2021), AdaProp (Zhang et al. 2023), one-shot-subgraph (Zhou et al.
# 2024); the best of R-GCN and embeddings as Zhu et al. report them.
PUBLISHED = {
    "FB15k-237": {"NBFNet": 0.415, "AdaProp": 0.417, "embeddings": 0.37},
    "WN18RR": {"NBFNet": 0.551, "AdaProp": 0.562, "one-shot-subgraph": 0.568},
}
COLORS = (BLUE, RED, "#4a9d5b")
STYLE = SVG_STYLE | {
    "axes.edgecolor": GREY, "axes.labelcolor": INK, "axes.titlecolor": INK, "font.size": 9,
    "grid.color": "#e6eaee", "text.color": INK, "xtick.color": INK, "ytick.color": INK,
}  # fmt: skip
TITLE = (
    "MRR against minutes of training on two cores, on valid; and MRR on test next to published "
    "figures."
)


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
    axes.grid()
    axes.legend(loc="lower right", fontsize=8, frameon=False)


def draw_test(
    axes: Axes, name: str, runs: dict[str, float], colors: dict[str, str], about: dict[str, str]
) -> None:
    """Draw MRR on test: a row a model, published ones in grey, the best first.

    Args:
        axes: the plot.
        name: the data set.
        runs: run → MRR.
        colors: run → colour.
        about: model → its minutes.
    """
    rows = sorted((PUBLISHED[name] | runs).items(), key=lambda row: row[1])
    for place, (model, mrr) in enumerate(rows):
        color = colors.get(model, GREY)
        axes.plot([mrr], [place], "o", ms=6, color=color)
        text = ", ".join(filter(None, [f"{mrr:.3f}", about.get(model)]))
        axes.annotate(
            text, (mrr, place), (7, 0), textcoords="offset points", fontsize=8, va="center"
        )
    least, most = rows[0][1], rows[-1][1]
    axes.set_yticks(range(len(rows)), [model for model, _ in rows], fontsize=8)
    axes.set(
        title=f"{name}, test", xlabel="MRR on test (grey: published)",
        xlim=(least - 0.2 * (most - least), most + 1.3 * (most - least)),
        ylim=(-0.6, len(rows) - 0.4),
    )  # fmt: skip
    axes.grid()


def draw(folder: Path) -> Figure:
    """The figure of the histories `*.tsv` and of `test.tsv` in a folder."""
    test = pd.read_csv(folder / "test.tsv", sep="\t", index_col="run")["mrr"].to_dict()
    figure = Figure(figsize=(4.8, 4.6 * len(PUBLISHED)), layout="constrained")
    plots = figure.subplots(2 * len(PUBLISHED), height_ratios=(3, 2) * len(PUBLISHED))
    for upper, lower, name in zip(plots[::2], plots[1::2], PUBLISHED, strict=True):
        files = sorted(folder.glob(f"{name.lower()}*.tsv"))
        colors = dict(zip([file.stem for file in files], cycle(COLORS), strict=False))
        histories = {file.stem: pd.read_csv(file, sep="\t") for file in files}
        draw_curves(upper, name, histories, colors)
        minutes = {run: f"{each['seconds'].max() / 60:.0f} min" for run, each in histories.items()}
        own = {run: test[run] for run in colors if run in test}
        draw_test(lower, name, own, colors, minutes)
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
        "--out", type=Path, default=Path("docs/pictures/mrr.svg"), help="%(default)s"
    )
    args = parser.parse_args()
    with rc_context(STYLE):
        figure = draw(args.runs)
        if args.out.suffix == ".svg":
            args.out.write_text(svg_file(figure, TITLE), encoding="utf-8")
        else:
            figure.savefig(args.out, dpi=150)


if __name__ == "__main__":
    main()
