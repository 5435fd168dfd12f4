"""`kgtool train --data` without a configuration."""

from __future__ import annotations

import pytest

from kgtool.config import load_config
from kgtool.runs.run import Run
from tests.support.command_line import called
from tests.support.runs import ring, write_folder


@pytest.fixture
def train(monkeypatch, capsys, tmp_path):
    """Calls `kgtool train` in a folder with the data `ring`."""
    write_folder(ring(), tmp_path / "ring")
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str) -> tuple[int, str, str]:
        return called(monkeypatch, capsys, "train", *arguments)

    return call


def test_settings_are_chosen_printed_and_written(train, tmp_path):
    code, out, _ = train("--data", "ring", "--minutes", "0.02", "seed=5", "dim=8")
    assert code == 0
    assert "Settings for 56 triples of 24 entities" in out.replace("\n", " ")
    assert "all_paths.remove_target_edges" in out
    run = Run.open(tmp_path / "runs" / "ring")
    written = load_config(tmp_path / "runs" / "ring.toml")
    assert run.config == written
    assert (written.seed, written.dim, written.data) == (5, 8, "ring")


def test_a_run_goes_on_with_its_settings(train, tmp_path):
    assert train("--data", "ring", "--minutes", "0.02")[0] == 0
    before = Run.open(tmp_path / "runs" / "ring").config
    code, _, err = train("--data", "ring", "--resume")
    assert code == 0, err
    assert Run.open(tmp_path / "runs" / "ring").config == before
    epochs = before.training.epochs + 2
    code, _, err = train("--data", "ring", "--resume", f"training.epochs={epochs}")
    assert code == 0, err
    assert Run.open(tmp_path / "runs" / "ring").config.training.epochs == epochs


def test_chosen_settings_are_not_lost(train, tmp_path):
    assert train("--data", "ring", "--minutes", "0.02")[0] == 0
    code, _, err = train("--data", "ring")
    assert code == 2
    assert "ring exists already. Remedy: choose another --out, or continue with --resume" in err
    file = tmp_path / "runs" / "other.toml"
    file.write_text("dim = 5\n")
    code, _, err = train("--data", "ring", "--out", "runs/other")
    assert code == 2
    assert "other.toml exists: settings were chosen before. Remedy: train by kgtool train" in err
    assert file.read_text() == "dim = 5\n"
    assert not (tmp_path / "runs" / "other").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "neither a configuration nor data are given"),
        (("dim=8",), "neither a configuration nor data are given"),
        (("--data", "ring", "--minutes", "0"), "minutes is 0, not above 0"),
        (("--data", "ring", "--minutes", "nan"), "minutes is nan, not above 0"),
        (("--data", "ring", "dmi=8"), "unknown key 'dmi'"),
        (("--data", "ring", "--resume"), "is not a run to resume"),
        (("umls", "--data", "ring", "--minutes", "5"), "umls states them"),
    ],
)
def test_mistakes(train, tmp_path, arguments, message):
    code, _, err = train(*arguments)
    assert code == 2
    assert message in err
    assert not (tmp_path / "runs").exists()


def test_several_processes_choose_no_settings(train, monkeypatch):
    from kgtool.distributed import process_group

    monkeypatch.setattr(process_group, "world_size", lambda: 2)
    code, _, err = train("--data", "ring")
    assert code == 2
    assert "kgtool config --data ring > my.toml" in err
