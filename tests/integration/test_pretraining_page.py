"""The commands of docs/guides/pretraining.md run unchanged."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from kgtool.config import load_config
from tests.support.blocks import lines_run_by
from tests.support.places import ROOT
from tests.support.shell import mrr_in, prepare
from tests.support.shell import printed as printed_by

PAGE = (ROOT / "docs" / "guides" / "pretraining.md").read_text(encoding="utf-8")
COMMANDS = lines_run_by(__file__, "docs/guides/pretraining.md")
BLOCKS = re.findall(r"```toml\n(.*?)```", PAGE, flags=re.S)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with `kgtool` and `python` on its path, and what the page needs."""
    prepare(tmp_path, "configs", "scripts", "datasets")
    (tmp_path / "mine.toml").write_text(BLOCKS[-1])
    return tmp_path


def test_every_command_of_the_page_runs(place: Path) -> None:
    assert len(COMMANDS) == 8
    printed = {line: printed_by(line, place) for line in COMMANDS}
    trained, evaluated = ([*printed.values()][i] for i in (2, 3))
    assert "my-graph is held out" in trained
    # Chance is 0.014 among 500 entities; the relations have names that training never saw.
    mrr = mrr_in(evaluated)
    assert mrr > 0.3
    fine = (place / "runs" / "mine" / "history.tsv").read_text().splitlines()
    assert fine[1].startswith("0\t")  # the initial weights were validated


def test_the_settings_of_the_page_are_settings(tmp_path: Path) -> None:
    configs = []
    for i, block in enumerate(BLOCKS):
        (tmp_path / f"{i}.toml").write_text(block)
        configs.append(load_config(tmp_path / f"{i}.toml"))
    first, last = configs
    assert first.pretrain
    assert first.pretrain.shares == pytest.approx({"datasets/families": 0.12, "CoDEx-S": 0.48})
    assert last.conditional
    assert last.pretrain is None
