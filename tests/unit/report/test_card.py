"""The model card of a run: its sections, its figures, and what it warns of."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pandas as pd
import pytest

import kgtool
from kgtool.api.report import card_of
from kgtool.errors import ConfigError
from kgtool.report import origin
from kgtool.report.card import SECTIONS, escaped, table
from kgtool.report.findings import Baseline, Weakness, summary, weaknesses
from kgtool.report.names import Names
from kgtool.report.stored import Stored
from kgtool.runs.pretrained import FOLDER, pretrained_names
from kgtool.runs.run import Run
from tests.support.pages import evaluated, nasty_ring
from tests.support.runs import all_paths_config


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return evaluated(tmp_path_factory.mktemp("all"), nasty_ring(), all_paths_config(epochs=2))


@pytest.fixture(scope="module")
def card(run: Run) -> str:
    return card_of(kgtool.report(run)).read_text(encoding="utf-8")


def sections(card: str) -> list[str]:
    return re.findall(r"^## (.*)$", card, flags=re.M)


def test_cards_of_runs_and_of_shipped_weights_have_the_same_sections(card):
    assert sections(card) == list(SECTIONS)
    assert pretrained_names()
    for name in pretrained_names():
        shipped = (FOLDER / f"{name}.md").read_text(encoding="utf-8")
        assert shipped.startswith(f"# Model card: {name}\n")
        assert sections(shipped) == list(SECTIONS)
    assert card.startswith("# Model card: run\n")


def test_it_has_the_figures_with_intervals(run, card):
    main = json.loads((run.path / "metrics.test.json").read_text())["both"]["realistic"]
    (row,) = re.findall(r"^\| \*\*this run\*\* \| (.*) \|$", card, flags=re.M)
    cells = row.split(" | ")
    for name, cell in zip(("mrr", "hits@1", "hits@3", "hits@10"), cells, strict=True):
        value, low, high = re.findall(r"[\d.]+", cell)
        assert value == f"{main[name]:.3f}"
        assert float(low) <= float(value) <= float(high)
    assert "| baseline: frequency |" in card


def test_it_says_where_the_weights_come_from(run, card):
    best = run.best_validation()
    assert f"filtered MRR {best['valid_mrr']:.4f} on valid. Test selected nothing." in card
    assert f"- seed: {run.config.seed}\n" in card
    assert f"    kgtool train {run.path / 'config.toml'} --out runs/again\n" in card
    assert "| train | 56 | 24 | 3 |" in card


def test_a_model_of_paths_says_how_far_it_reaches(run, card):
    layers = run.config.all_paths.layers
    assert f"- Answers more than {layers} edges away: no path reaches them" in card


def test_labels_do_not_become_markdown(card):
    tables = [line for line in card.splitlines() if line.startswith("|")]
    assert "<i>r</i>" not in card
    assert {line.replace("\\|", "").count("|") for line in tables} <= {3, 4, 5, 6}
    assert escaped("a|b\n*c* <i>") == r"a\|b \*c\* \<i\>"
    assert table(("x", "n"), [("a", "1")]) == ["| x | n |", "| --- | ---: |", "| a | 1 |"]


def test_a_page_of_ones_own_has_its_card_next_to_it(run, tmp_path):
    page = kgtool.report(run, out=tmp_path / "page.html")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["page.card.md", "page.html"]
    page.unlink()
    with pytest.raises(ConfigError, match=r"page\.card\.md"):
        kgtool.report(run, out=page)
    kgtool.report(run, out=page, overwrite=True)


def test_weights_that_were_not_trained_here_say_so(run, tmp_path):
    data = Path(shutil.copytree(run.config.data, tmp_path / "graph"))
    fresh = kgtool.pretrained(data, tmp_path / "fresh")
    kgtool.evaluate(fresh)
    page = kgtool.report(fresh)
    text, card = page.read_text(encoding="utf-8"), card_of(page).read_text(encoding="utf-8")
    for each in (text, card):
        assert "Nothing was trained on this graph. The weights “base” come with kgtool" in each
        assert "kgtool train" not in each
        assert "pre-trained on synthetic graphs." in each
    assert "- time:" not in card
    assert card.startswith(f"# Model card: {data.name}\n")
    assert f"kgtool predict {data} HEAD RELATION '?'" in card


def test_the_graphs_of_shipped_weights_are_listed(run, tmp_path, monkeypatch):
    shares = (("codex-s", 0.22), ("umls", 0.28))
    monkeypatch.setattr(origin, "_shares", lambda _: shares)
    data = Path(shutil.copytree(run.config.data, tmp_path / "graph"))
    fresh = kgtool.pretrained(data, tmp_path / "fresh")
    kgtool.evaluate(fresh)
    page = kgtool.report(fresh)
    text, card = page.read_text(encoding="utf-8"), card_of(page).read_text(encoding="utf-8")
    assert "On a graph of the same sources, figures are too good." in card
    assert "| codex-s | 22 % |" in card
    assert "codex-s (22 %)" in text


def stored(rows: list[tuple[str, str, int, float, float, float]], mrr: float = 0.5) -> Stored:
    """An evaluation with these groups: by, group, queries, MRR and its interval."""
    frame = pd.DataFrame(
        [
            {
                "by": by, "group": group, "side": "both", "filter": "filtered",
                "ties": "realistic", "metric": "mrr", "value": value, "low": low, "high": high,
                "queries": queries, "note": "",
            }
            for by, group, queries, value, low, high in rows
        ]
    )  # fmt: skip
    both = {"realistic": {"mrr": mrr, "hits@1": 0.4, "hits@10": 1.0}}
    counts = {"queries": 200, "entities": 1000, "unseen_triples": 0}
    return Stored({"both": both, "counts": counts, "split": "test"}, frame, frame, None)


def test_weak_groups_are_clearly_weak_and_have_enough_queries():
    found = weaknesses(
        stored(
            [
                ("relation", "r", 50, 0.2, 0.1, 0.3),
                ("relation", "few", 9, 0.0, 0.0, 0.1),
                ("relation", "unclear", 50, 0.3, 0.1, 0.6),
                ("relation", "good", 50, 0.9, 0.8, 1.0),
                ("half_links", "neither", 30, 0.1, 0.05, 0.2),
                ("reach", "cannot be reached by 3 layers", 20, 0.01, 0.0, 0.02),
                ("reach", "reached", 180, 0.4, 0.38, 0.45),
            ]
        )
    )
    names = Names({"r": "readable"})
    assert [each.where(names) for each in found] == [
        "answers that cannot be reached by 3 layers",
        "no edge of the relation in train at the question’s entity or the answer",
        "relation readable",
    ]
    assert found[-1] == Weakness("relation", "r", 50, 0.2, 0.1, 0.3)


@pytest.mark.parametrize(
    ("verdicts", "text"),
    [
        (("better", "better"), "The run is better than the best baseline here, b (MRR 0.300)."),
        (("better", "worse"), "The run is worse than the baseline b (MRR 0.300)"),
        (
            ("no significant difference", "better"),
            "The run is not significantly better than the baseline a (MRR 0.200)",
        ),
    ],
)
def test_a_poor_run_is_called_poor(verdicts, text):
    baselines = [
        Baseline(name, "", {"mrr": mrr}, verdict)
        for (name, mrr), verdict in zip((("a", 0.2), ("b", 0.3)), verdicts, strict=True)
    ]
    first, second = summary(stored([]), "data", baselines)
    assert first == (
        "For 40.0 % of the 200 questions about test triples of data, the right answer is the first "
        "of 1,000 entities, and for all is among the first 10."
    )
    assert second.startswith(text)
    poor = any(verdict != "better" for verdict in verdicts)
    assert ("Do not rely on its predictions." in second) == poor
