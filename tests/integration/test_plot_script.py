"""The plot of MRR: curves of valid and rows of test are apart; published figures are of test."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.lines import Line2D

from kgtool.inference.svg import GREY
from scripts import plot_mrr

VALID = {
    "fb15k-237": [0.31, 0.32], "fb15k-237-b": [0.33], "fb15k-237-c": [0.34],
    "fb15k-237-d": [0.35], "wn18rr": [0.5, 0.51],
}  # fmt: skip
TEST = {"fb15k-237-b": 0.44, "wn18rr": 0.6}


@pytest.fixture
def histories(tmp_path: Path) -> Path:
    for run, values in VALID.items():
        rows = "".join(f"{60 * (i + 1)}\t{value}\n" for i, value in enumerate(values))
        (tmp_path / f"{run}.tsv").write_text(f"seconds\tvalid_mrr\n{rows}", encoding="utf-8")
    rows = "".join(f"{run}\t{mrr}\n" for run, mrr in TEST.items())
    (tmp_path / "test.tsv").write_text(f"run\tmrr\n{rows}", encoding="utf-8")
    return tmp_path


def xs(line: Line2D) -> list[float]:
    return np.asarray(line.get_xdata()).tolist()


def of(runs: dict[str, Any], name: str) -> dict[str, Any]:
    return {run: each for run, each in runs.items() if run.startswith(name.lower())}


def known(label: str) -> str | None:
    """What the plot says of the time of a model."""
    return f"{len(VALID[label])} min" if label in VALID else None


def test_valid_and_test_are_in_plots_of_their_own(histories):
    plots = {axes.get_title(): axes for axes in plot_mrr.draw(histories).axes}
    assert len(plots) == 2 * len(plot_mrr.PUBLISHED)
    for name, published in plot_mrr.PUBLISHED.items():
        curves, rows = plots[f"{name}, valid"], plots[f"{name}, test"]
        shown = {line.get_label(): np.asarray(line.get_ydata()).tolist() for line in curves.lines}
        assert shown == of(VALID, name)
        minutes = {line.get_label(): xs(line) for line in curves.lines}
        assert minutes[name.lower()] == [1, 2]
        assert curves.get_ylabel() == "MRR on valid"
        own = of(TEST, name)
        labels = [label.get_text() for label in rows.get_yticklabels()]
        assert labels == sorted([*published, *own], key=(published | own).__getitem__)
        values = [value for line in rows.lines for value in xs(line)]
        notes = [text.get_text() for text in rows.texts]
        assert notes == [
            f"{value:.3f}{f', {about}' if (about := known(label)) else ''}"
            for label, value in zip(labels, values, strict=True)
        ]
        assert values == sorted([*published.values(), *own.values()])
        assert rows.get_xlabel() == "MRR on test (grey: published)"
        # A run has one colour in both plots.
        colors = {line.get_label(): line.get_color() for line in curves.lines}
        assert [line.get_color() for line in rows.lines] == [
            colors.get(label, GREY) for label in labels
        ]


@pytest.mark.parametrize(("name", "begin"), [("mrr.png", b"\x89PNG"), ("mrr.svg", b"<?xml")])
def test_the_script_writes_an_image(histories, name, begin):
    out = histories / name
    subprocess.run(
        [sys.executable, plot_mrr.__file__, "--runs", histories, "--out", out],
        check=True,
        timeout=120,
    )
    assert out.read_bytes().startswith(begin)
