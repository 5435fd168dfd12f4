"""Draw MRR against minutes of training, from the histories of runs, with published results.

    cp runs/fb15k-237/history.tsv docs/history/fb15k-237.tsv
    python scripts/plot_mrr.py --runs docs/history --out docs/mrr.png

A run's curve is its MRR on valid, with train and valid as the filter. Its time is the wall time of
training, including validation. The test MRR from `docs/history/test.tsv` is a point at the end of
the curve. A curve from `*-and-one-path.tsv` continues a run: it adds the training time of a second
run, and ends at the MRR of both (`kgtool evaluate RUN --ensemble RUN2`). Published results are on
test, without a time.
"""

from __future__ import annotations

import argparse
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


def draw(axes: Axes, name: str, runs: dict[str, pd.DataFrame], test: dict[str, float]) -> None:
    """Draw a data set: its curves, the test MRRs, and published results."""
    for color, (run, history) in zip(COLORS, runs.items(), strict=False):
        minutes = history["seconds"] / 60
        axes.plot(minutes, history["valid_mrr"], "o-", ms=3, color=color, label=f"{run}, valid")
        if run in test:
            end = float(minutes.iloc[-1])
            axes.plot([end], [test[run]], "*", ms=12, color=color, label=f"{run}, test")
            axes.annotate(
                f"{test[run]:.3f}", (end, test[run]), (-9, -12), textcoords="offset points",
                color=color, fontsize=9, ha="right",
            )  # fmt: skip
    best = max(PUBLISHED[name].values())
    for model, mrr in PUBLISHED[name].items():
        above = 3 if mrr == best else -10
        axes.axhline(mrr, color="#8a97a5", linewidth=0.9, linestyle="--")
        axes.annotate(
            f"{model} {mrr:g}", (0, mrr), (4, above), textcoords="offset points",
            xycoords=("axes fraction", "data"), fontsize=8, color="#5c6873", ha="left",
        )  # fmt: skip
    axes.set(title=name, xlabel="minutes of training on two cores", ylabel="MRR", xlim=(0, None))
    axes.margins(y=0.1)
    axes.grid(alpha=0.25)
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.13), ncols=2, fontsize=8, frameon=False)


def main() -> None:
    """Parse the arguments and write the image."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=Path, default=Path("docs/history"), help="%(default)s")
    parser.add_argument("--out", type=Path, default=Path("docs/mrr.png"), help="%(default)s")
    args = parser.parse_args()
    test = pd.read_csv(args.runs / "test.tsv", sep="\t", index_col="run")["mrr"].to_dict()
    figure = Figure(figsize=(10, 4.2), layout="constrained")
    for axes, name in zip(figure.subplots(1, len(PUBLISHED)), PUBLISHED, strict=True):
        files = sorted(args.runs.glob(f"{name.lower()}*.tsv"))
        draw(axes, name, {file.stem: pd.read_csv(file, sep="\t") for file in files}, test)
    figure.savefig(args.out, dpi=150)


if __name__ == "__main__":
    main()
