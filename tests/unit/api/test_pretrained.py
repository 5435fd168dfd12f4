"""The weights that come with kgtool: runs on data, with nothing trained."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import kgtool
from kgtool.data.dataset import KGDataset
from kgtool.errors import KGToolWarning, RunError
from kgtool.report.origin import origin_of
from kgtool.runs.pretrained import FOLDER, pretrained_names
from kgtool.storage.checkpoint import load_tensors

PRETRAINED = "answers by pre-trained weights"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache"
    monkeypatch.setenv("KGTOOL_CACHE", str(folder))
    return folder


@pytest.fixture
def csv(tmp_path: Path) -> Path:
    """A chain of families: a grandparent is the parent of a parent; one is missing."""
    lines = ["head,relation,tail"]
    for i in range(60):
        lines += [f"a{i},parent,b{i}", f"b{i},parent,c{i}", f"b{i},child,a{i}"]
        lines += [f"a{i},lives_in,city{i % 5}", f"c{i},lives_in,city{i % 5}"]
        if i:
            lines.append(f"a{i},grandparent,c{i}")
    file = tmp_path / "triples.csv"
    file.write_text("\n".join(lines) + "\n")
    return file


def test_each_shipped_model_is_small_and_documented() -> None:
    assert "base" in pretrained_names()
    for name in pretrained_names():
        assert (FOLDER / f"{name}.safetensors").stat().st_size < 2_000_000
        config = kgtool.load_config(FOLDER / f"{name}.toml")
        assert config.conditional
        assert config.pretrain
        assert not any(os.sep in place for place in config.pretrain.graphs)
        card = (FOLDER / f"{name}.md").read_text()
        for word in ("## Trained on", "## Figures", "## Where it fails", "## Licence", "pretrain"):
            assert word in card
        tensors, _ = load_tensors(FOLDER / f"{name}.safetensors")
        assert all(torch.isfinite(t).all() for t in tensors.values())


def test_a_question_about_a_csv_is_answered_with_nothing_trained(csv: Path) -> None:
    with pytest.warns(KGToolWarning, match=PRETRAINED):
        predictor = kgtool.open_predictor(csv)
    answers = kgtool.predict(predictor, "a0", "grandparent", top=3)
    assert answers["tail"].iloc[0] == "c0"
    assert answers["probability"].notna().all()
    found = kgtool.explain(predictor, "a0", "grandparent", "c0")
    assert any(path.entities == ("a0", "b0", "c0") for path in found.paths[:3])


def test_predictions_read_the_facts_of_all_splits(csv: Path) -> None:
    with pytest.warns(KGToolWarning, match=PRETRAINED):
        predictor = kgtool.open_predictor(csv)
    data = predictor.dataset
    assert len(data.valid)
    assert len(data.test)
    passes = predictor.passes
    assert passes is not None
    facts = {tuple(t) for t in data.filter_triples("test").tolist()}
    edges = {tuple(t) for t in passes.graph.triples().tolist() if t[1] < data.num_relations}
    assert edges == facts


def test_the_run_of_a_graph_is_kept(csv: Path, cache: Path, tmp_path: Path) -> None:
    first, again = kgtool.pretrained(csv), kgtool.pretrained(csv)
    assert first.path == again.path
    assert first.path.is_relative_to(cache)
    assert list((cache / "pretrained").iterdir()) == [first.path]
    own = kgtool.pretrained(csv, tmp_path / "run")
    assert own.path == tmp_path / "run"
    assert kgtool.Run.open(own.path).dataset().fingerprint == first.dataset().fingerprint
    with pytest.raises(RunError, match="exists already"):
        kgtool.pretrained(csv, tmp_path / "run")
    assert own.history() == []


def test_without_a_cache_the_run_is_temporary(
    csv: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache.write_text("a file, and not a folder")
    run = kgtool.pretrained(csv)
    assert not run.path.is_relative_to(cache)
    assert 0 < kgtool.evaluate(run, progress=False).mrr <= 1


def test_data_in_memory_have_a_run(csv: Path, tmp_path: Path) -> None:
    data = replace(kgtool.load_dataset(csv), path=None, loading={})
    run = kgtool.pretrained(data, tmp_path / "run")
    assert kgtool.Run.open(run.path).dataset().num_relations == 4
    assert kgtool.evaluate(run, progress=False).mrr > 0.3  # 0.02 by chance


def test_weights_of_triples_count(csv: Path) -> None:
    data = kgtool.load_dataset(csv)
    weights = {split: torch.full((len(data.split(split)),), 0.5) for split in ("train", "valid")}
    weighted: KGDataset = replace(data, weights=weights)
    found = kgtool.open_predictor(kgtool.pretrained(weighted), weighted)
    passes = found.passes
    assert passes is not None
    assert passes.graph.weight is not None
    assert sorted(set(passes.graph.weight.tolist())) == [0.5, 1.0]


def test_a_missing_file_is_neither_run_nor_data(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="is not a run"):
        kgtool.predict(tmp_path / "nothing.csv", "a", "r")


def test_other_data_are_refused(csv: Path) -> None:
    with pytest.raises(RunError, match="in the place of the run"):
        kgtool.predict(csv, "a0", "parent", data=csv)
    with pytest.raises(RunError, match="Remedy: use one of base"):
        kgtool.pretrained(csv, name="huge")


def test_training_goes_on_from_the_shipped_weights(csv: Path, tmp_path: Path) -> None:
    overrides = ["training.epochs=1", "training.steps_per_epoch=2", "training.precision=float32"]
    config = kgtool.load_config("fine-tune", overrides)
    assert config.init_from == "pretrained"
    run = kgtool.train(config, csv, tmp_path / "tuned", progress=False)
    assert run.read_info()["start"]["run"] == "pretrained"
    origin = origin_of(run)
    assert origin.trained.endswith("Training began from the weights that come with kgtool.")
    assert origin.command
    assert "--init-from" not in origin.command  # the configuration names them
    given = kgtool.load_config("fine-tune", [*overrides, 'init_from="nothing"'])
    same = kgtool.train(given, csv, tmp_path / "same", init_from="pretrained", progress=False)
    assert "--init-from pretrained" in str(origin_of(same).command)
    assert same.history()[-1]["valid_mrr"] == run.history()[-1]["valid_mrr"]
    rows = run.history()
    assert [row["epoch"] for row in rows] == [0, 1]
    zero_shot = kgtool.evaluate(kgtool.pretrained(csv), split="valid", progress=False)
    assert rows[0]["valid_mrr"] == pytest.approx(zero_shot.mrr, abs=1e-3)
