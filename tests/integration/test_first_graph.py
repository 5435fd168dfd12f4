"""The page of the first graph: its commands run unchanged and print what the page shows."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from markdown_it import MarkdownIt

from tests.support.blocks import lines_run_by
from tests.support.places import ROOT
from tests.support.shell import mrr_in, prepare, printed

PAGE = ROOT / "docs" / "start" / "first-graph.md"
COMMANDS = lines_run_by(__file__, "docs/start/first-graph.md")
OUTPUTS = [
    token.content
    for token in MarkdownIt("commonmark").parse(PAGE.read_text(encoding="utf-8"))
    if token.type == "fence" and token.info == "text"
]
# The labels of parallel edges are in the order of their weights.
RULE = re.compile(
    r"Abena_Kimura_1924 --(\^brother_of, sister_of|sister_of, \^brother_of)--> "
    r"Javier_Kimura_1922 --father_of--> Flora_Kimura_1958"
)


def words(text: str) -> list[str]:
    """The words and labels of an output, without its numbers and rules."""
    return re.findall(r"[A-Za-z][\w^@]*", text)


@pytest.mark.slow
def test_the_first_graph(tmp_path: Path) -> None:
    prepare(tmp_path, "configs", "datasets")
    assert [line.split()[1] for line in COMMANDS] == [
        "data", "train", "evaluate", "predict", "explain",
    ]  # fmt: skip
    inspect, train, evaluate, predict, explain = (printed(line, tmp_path) for line in COMMANDS)
    assert [line.rstrip() for line in OUTPUTS[0].splitlines()] == [
        line.rstrip() for line in inspect.splitlines() if "compiling" not in line
    ]
    for shown, real in ((OUTPUTS[1], train), (OUTPUTS[2], evaluate)):
        assert set(words(shown)) <= set(words(real))
    mrr = mrr_in(evaluate)
    assert mrr == pytest.approx(0.95, abs=0.04)
    # Another CPU trains another model: the order of answers may change, and so may weaker paths.
    for answer in ("Thea_Kimura_1947", "Flora_Kimura_1958", "Luis_Kimura_1942"):
        assert answer in OUTPUTS[3]
        assert answer in predict
    for said in (OUTPUTS[4], explain):
        assert RULE.search(" ".join(said.split()))
