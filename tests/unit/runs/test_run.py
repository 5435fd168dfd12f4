"""Run folders: begun once, opened as they were written, refused if they are damaged."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import kgtool
from kgtool.data.dataset import SPLITS, KGDataset, Vocabulary
from kgtool.data.loaders import load_dataset
from kgtool.errors import ConfigError, DataError, Interrupted, KGToolWarning, RunError
from kgtool.evaluation.evaluator import evaluate_model
from kgtool.models.factory import build_model
from kgtool.runs.run import BEST, LAST, TRIPLES, Run, machine, versions
from kgtool.storage.checkpoint import load_tensors, save_tensors
from kgtool.storage.files import read_json
from kgtool.training.step import Updater
from kgtool.training.trainer import train
from tests.support.runs import all_paths_config, ring, tiny_config, write_folder

ODD = (
    " a ", "#x", "'", '"quoted', "1e5", "NA", "\\t", "a b", "form\x0cfeed", "id", "nan", "null",
    "u2028\u2028x", "x\x85y", "\xe9", "e\u0301", "日本", "\ufeffx", "🙂",
)  # fmt: skip


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run, with its data next to it; tests that change the run copy it."""
    place = tmp_path_factory.mktemp("finished")
    folder = write_folder(ring(), place / "ring")
    train(tiny_config(epochs=2), load_dataset(folder), place / "run", progress=False)
    return place / "run"


@pytest.fixture
def run_folder(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "run"))


def odd_dataset() -> KGDataset:
    labels = tuple(sorted(ODD))
    n = len(labels)
    triples = torch.tensor([(i, i % n, (i + 1) % n) for i in range(n)])
    return KGDataset("odd", None, Vocabulary(labels, labels), triples, triples[:2], triples[2:4])


def test_a_run_opens_as_it_was_begun(tmp_path):
    dataset, config = ring(), tiny_config()
    begun = Run.create(tmp_path / "a" / "run", config, dataset)
    opened = Run.open(str(tmp_path / "a" / "run"))
    assert (opened.path, opened.config, opened.vocabulary) == (
        begun.path, config, dataset.vocabulary,
    )  # fmt: skip
    assert opened.read_info() == {
        "data": None,
        "fingerprint": dataset.fingerprint,
        "labels": dataset.vocabulary.fingerprint,
        "entities": dataset.num_entities,
        "relations": dataset.num_relations,
        "versions": versions(),
        "machine": machine(),
    }


def test_a_run_is_never_begun_over_something(tmp_path):
    dataset, config = ring(), tiny_config()
    (tmp_path / "empty").mkdir()
    Run.create(tmp_path / "empty", config, dataset)
    (tmp_path / "file").touch()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("all of it")
    for name in ("empty", "file", "full"):
        with pytest.raises(RunError, match=r"exists already\. Remedy: ") as caught:
            Run.create(tmp_path / name, config, dataset)
        assert ("--resume" in str(caught.value)) == (name == "empty")  # now the only run
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["thesis.txt"]


def test_something_else_is_no_run(tmp_path):
    (tmp_path / "file").touch()
    for path in (tmp_path, tmp_path / "none", tmp_path / "file"):
        with pytest.raises(RunError, match="is not a run") as caught:
            Run.open(path)
        assert str(path) in str(caught.value)


def test_odd_labels_survive(tmp_path):
    dataset = odd_dataset()
    Run.create(tmp_path / "run", tiny_config(), dataset)
    assert Run.open(tmp_path / "run").vocabulary == dataset.vocabulary
    for name in ("entities.tsv", "relations.tsv"):
        data = (tmp_path / "run" / name).read_bytes()
        assert data.startswith(b"id\tlabel\n0\t")
        assert data.count(b"\n") == len(ODD) + 1
        assert b"\r" not in data


def test_a_run_of_odd_labels_finds_its_data_again(tmp_path):
    dataset = odd_dataset()
    folder = write_folder(dataset, tmp_path / "odd")
    loaded = load_dataset(folder)
    assert loaded.fingerprint == dataset.fingerprint
    run = train(tiny_config(epochs=1), loaded, tmp_path / "run", progress=False)
    again = Run.open(tmp_path / "run").dataset()
    assert again.fingerprint == loaded.fingerprint
    assert [path.name for path in kgtool.export(run, tmp_path / "out")]


@pytest.mark.parametrize("label", ["a\tb", "a\nb"])
def test_labels_that_no_file_can_hold_are_refused_before_anything_is_written(tmp_path, label):
    dataset = ring()
    vocabulary = Vocabulary((label, *dataset.vocabulary.entities[1:]), ("a", "b", "c"))
    with pytest.raises(DataError, match="tab or line feed"):
        Run.create(tmp_path / "run", tiny_config(), replace(dataset, vocabulary=vocabulary))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("entities.tsv", b""),
        ("entities.tsv", b"id\tlabel\n0\ta\n1\tb"),
        ("entities.tsv", b"id\tlabel\n0\ta\n2\tb\n"),
        ("entities.tsv", b"id\tlabel\n0\ta\tb\n"),
        ("entities.tsv", b"id\tlabel\nx\ta\n"),
        ("entities.tsv", b"id\tlabel\n0\t\xff\n"),
        ("relations.tsv", b"label\n0\ta\n"),
        ("relations.tsv", None),
    ],
)
def test_a_damaged_vocabulary(run_folder, name, content):
    if content is None:
        (run_folder / name).unlink()
    else:
        (run_folder / name).write_bytes(content)
    with pytest.raises(RunError, match=name):
        Run.open(run_folder)


def test_other_damaged_files(run_folder):
    run = Run.open(run_folder)
    for content in ("", "{", "[1]"):
        (run_folder / "run.json").write_text(content)
        with pytest.raises(RunError, match=r"run\.json"):
            run.dataset()
    (run_folder / "history.tsv").write_text("")
    with pytest.raises(RunError, match=r"history\.tsv"):
        run.history()
    (run_folder / "history.tsv").unlink()
    with pytest.raises(RunError, match=r"history\.tsv"):
        run.history()
    (run_folder / "config.toml").write_text("dimm = 3")
    with pytest.raises(ConfigError, match=r"config\.toml.*dimm"):
        Run.open(run_folder)


def test_the_data_where_it_was(finished, tmp_path):
    run = Run.open(finished)
    assert run.dataset().fingerprint == ring().fingerprint == run.read_info()["fingerprint"]
    assert Path(run.read_info()["data"]).is_absolute()


def test_the_data_gone_and_elsewhere(run_folder, tmp_path):
    place = tmp_path / "was-here"
    info = read_json(run_folder / "run.json")
    Path(run_folder / "run.json").write_text(
        f'{{"data": "{place}", "fingerprint": "{info["fingerprint"]}"}}'
    )
    run = Run.open(run_folder)
    with pytest.raises(
        RunError, match=r"does not exist any more\. Remedy: pass --data PATH"
    ) as caught:
        run.dataset()
    assert str(place) in str(caught.value)
    elsewhere = write_folder(ring(), tmp_path / "elsewhere")
    assert run.dataset(elsewhere).fingerprint == info["fingerprint"]
    with pytest.raises(DataError, match="nowhere"):
        run.dataset(tmp_path / "nowhere")


def test_a_run_of_triples_made_in_memory_holds_them(tmp_path):
    run = Run.create(tmp_path / "run", tiny_config(), ring())
    assert run.dataset().fingerprint == ring().fingerprint
    (run.path / TRIPLES).unlink()
    with pytest.raises(RunError, match=r"records no data path\. Remedy: pass --data"):
        run.dataset()


def test_data_with_labels_that_the_run_does_not_know(finished, tmp_path):
    folder = write_folder(ring(), tmp_path / "other")
    with (folder / "test.txt").open("a") as file:
        file.write("e000\tr000\te999\n")
    with pytest.raises(DataError, match=r"test\.txt, line 9: the entity .*e999.* not in the voc"):
        Run.open(finished).dataset(folder)


def test_fewer_labels_keep_the_ids_of_the_run(finished, tmp_path):
    dataset = ring()
    some = replace(dataset, train=dataset.train[5:9])
    loaded = Run.open(finished).dataset(write_folder(some, tmp_path / "some"))
    assert torch.equal(loaded.train, some.train)
    assert loaded.num_entities == dataset.num_entities


ASKING = {
    "evaluate": lambda run: kgtool.evaluate(run),
    "predict": lambda run: kgtool.predict(run, [("e000", "r000", "?")]),
    "complete": lambda run: kgtool.complete(run),
    "report": lambda run: kgtool.report(run),
    "serve": lambda run: kgtool.serve(run, port=0, echo=lambda line: None),
    "export": lambda run: kgtool.export(run, Path(run) / "out"),
}


@pytest.fixture
def own_data(tmp_path: Path) -> Path:
    """A run with its data in a folder that the test may change."""
    folder = write_folder(ring(), tmp_path / "ring")
    train(tiny_config(epochs=1), load_dataset(folder), tmp_path / "run", progress=False)
    return tmp_path / "run"


@pytest.mark.parametrize("ask", ASKING.values(), ids=ASKING)
def test_data_that_changed_since_training_are_refused(own_data, ask):
    folder = own_data.parent / "ring"
    with (folder / "train.txt").open("a") as file:
        file.write((folder / "test.txt").read_text())
    with pytest.raises(RunError, match="has other triples or labels than when") as caught:
        ask(own_data)
    assert f"pass --data {folder}" in str(caught.value)
    assert not list(own_data.glob("*.test.*"))


def test_changed_data_are_used_where_they_are_named(own_data):
    folder = own_data.parent / "ring"
    with (folder / "train.txt").open("a") as file:
        file.write((folder / "test.txt").read_text())
    result = kgtool.evaluate(own_data, data=folder)
    assert result.metrics_file.name == "metrics.ring.test.json"  # not the run's own


@pytest.mark.parametrize("name", ["entities.tsv", "relations.tsv"])
def test_labels_that_changed_since_training_are_refused(own_data, name):
    lines = (own_data / name).read_text().splitlines()
    (first, one), (second, other) = lines[1].split("\t"), lines[2].split("\t")
    lines[1:3] = [f"{first}\t{other}", f"{second}\t{one}"]
    (own_data / name).write_text("\n".join(lines) + "\n")
    for data in (None, own_data.parent / "ring"):
        with pytest.raises(RunError, match=r"has other labels, or another order") as caught:
            kgtool.evaluate(own_data, data=data)
        assert str(own_data) in str(caught.value)
    info = read_json(own_data / "run.json")
    del info["labels"]  # a run of an earlier version: its data do not fit the labels
    (own_data / "run.json").write_text(json.dumps(info))
    with pytest.raises(RunError, match="has other triples or labels than when"):
        kgtool.evaluate(own_data)


def test_a_data_set_with_other_ids_is_read_by_its_labels(own_data):
    data = load_dataset(own_data.parent / "ring")
    names = data.vocabulary
    last = torch.tensor([len(names.entities), len(names.relations), len(names.entities)]) - 1
    turned = Vocabulary(names.entities[::-1], names.relations[::-1])
    backwards = KGDataset("turned", None, turned, *(last - data.split(split) for split in SPLITS))
    assert kgtool.evaluate(own_data, data=backwards).mrr == kgtool.evaluate(own_data, data=data).mrr


def test_a_run_of_an_earlier_version_opens(own_data):
    info = read_json(own_data / "run.json")
    del info["labels"]
    (own_data / "run.json").write_text(json.dumps(info))
    assert kgtool.evaluate(own_data).mrr > 0


def test_an_extended_run_has_its_own_labels_and_data(own_data, tmp_path):
    (tmp_path / "new.tsv").write_text("e000\tr000\tnew\n")
    grown = kgtool.extend(own_data, tmp_path / "new.tsv", tmp_path / "grown")
    assert "new" in Run.open(grown.path).vocabulary.entities
    assert kgtool.evaluate(grown.path).mrr > 0


def stopped(place: Path, step: int) -> Path:
    """A run that Ctrl-C stopped in a step of its first epoch, before a validation."""
    folder = write_folder(ring(), place / "ring")

    def interrupted(trainer: Any, rows: Any) -> float:
        if trainer.step + 1 == step:
            os.kill(os.getpid(), signal.SIGINT)
        return original(trainer, rows)

    original = Updater.make_step
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Updater, "make_step", interrupted)
        with pytest.raises(Interrupted):
            train(tiny_config(), load_dataset(folder), place / "run", progress=False)
    assert not (place / "run" / BEST).exists()
    return place / "run"


def test_before_the_first_validation_the_last_weights_answer_and_say_so(tmp_path):
    run = stopped(tmp_path, 3)
    with pytest.warns(KGToolWarning, match="no validation yet: the weights are those of step 3"):
        answers = kgtool.predict(run, [("e000", "r000", "?")])
    assert len(answers)
    with pytest.warns(KGToolWarning, match="step 3"):
        assert kgtool.evaluate(run).mrr > 0
    with pytest.warns(KGToolWarning, match="step 3"):
        assert kgtool.report(run).is_file()
    (tmp_path / "new.tsv").write_text("e000\tr000\tnew\n")
    with pytest.warns(KGToolWarning, match="step 3"):
        grown = kgtool.extend(run, tmp_path / "new.tsv", tmp_path / "grown")
    assert (grown.path / BEST).is_file()
    with pytest.warns(KGToolWarning, match="step 3"):
        train(
            tiny_config(epochs=1), load_dataset(tmp_path / "ring"), tmp_path / "next",
            progress=False, init_from=run,
        )  # fmt: skip
    # The remedy is true: the same run goes on, and then answers without a warning.
    train(tiny_config(), load_dataset(tmp_path / "ring"), run, resume=True, progress=False)
    assert kgtool.evaluate(run).mrr > 0


def test_a_run_that_has_learned_nothing_does_not_answer(tmp_path):
    folder = write_folder(ring(), tmp_path / "ring")
    run = Run.create(tmp_path / "run", tiny_config(), load_dataset(folder))
    with pytest.raises(RunError, match=r"no weights\. Remedy: run the training again .*--resume"):
        kgtool.evaluate(run)
    run = Run.open(stopped(tmp_path / "other", 1))
    tensors, state = load_tensors(run.path / LAST)
    save_tensors(run.path / LAST, tensors, state | {"step": 0})
    with pytest.raises(RunError, match=r"before its first step.*--resume"):
        kgtool.evaluate(run)


def test_best_weights_that_are_lost_are_not_replaced_by_others(own_data):
    (own_data / BEST).unlink()
    with pytest.raises(RunError, match="no such checkpoint, though the run was validated"):
        kgtool.evaluate(own_data)
    # The remedy is true here: the last weights are the best.
    train(
        tiny_config(epochs=1), load_dataset(own_data.parent / "ring"), own_data, resume=True,
        progress=False,
    )  # fmt: skip
    assert kgtool.evaluate(own_data).mrr > 0


def test_the_weights_are_those_of_the_best_validation(finished):
    run = Run.open(finished)
    dataset = run.dataset()
    model = run.model(dataset)
    assert not model.training
    best = max(row["valid_mrr"] for row in run.history())
    assert evaluate_model(model.scorer(), dataset, "valid").mrr == pytest.approx(best, rel=1e-9)


def test_weights_missing_damaged_pickled_or_of_another_model(run_folder):
    run = Run.open(run_folder)
    dataset, path = run.dataset(), run_folder / BEST
    whole = path.read_bytes()

    def refused(reason: str) -> None:
        with pytest.raises(RunError, match=reason) as caught:
            run.model(dataset)
        assert str(path) in str(caught.value)

    path.write_bytes(whole[:-1])
    refused("damaged")
    path.write_bytes(pickle.dumps({"weights": [1.0]}))
    refused("damaged")
    path.unlink()
    refused("no such checkpoint")
    save_tensors(path, build_model(tiny_config(dim=4), dataset).state_dict(), {})
    refused("do not fit")
    path.write_bytes((run_folder / LAST).read_bytes())
    refused("do not fit")
    path.write_bytes(whole)
    run.model(dataset)


def test_evaluate_and_export_take_a_run_a_folder_and_a_dataset(run_folder, tmp_path):
    run = Run.open(run_folder)
    dataset = run.dataset()
    found = kgtool.evaluate(run, data=dataset)
    again = kgtool.evaluate(str(run_folder))
    assert again.evaluation == found.evaluation
    metrics = read_json(run_folder / "metrics.test.json")
    assert metrics["both"]["realistic"]["mrr"] == found.mrr
    assert metrics["dataset"] == {"name": "ring", "fingerprint": dataset.fingerprint}
    assert metrics["versions"] == versions()
    files = kgtool.export(run_folder, tmp_path / "out")
    assert sorted(files) == sorted((tmp_path / "out").iterdir())


@pytest.mark.parametrize("encoder", [None, {"entity_init": "relations"}])
def test_an_all_paths_run_answers_on_another_graph(tmp_path, encoder):
    own, other = write_folder(ring(), tmp_path / "ring"), tmp_path / "other"
    write_folder(ring(), other)
    for file in other.iterdir():  # other entities, the same relations
        file.write_text(file.read_text().replace("e0", "x1"))
    dataset = load_dataset(own)
    config = all_paths_config(epochs=2, encoder=encoder)
    run = train(config, dataset, tmp_path / "run", progress=False)
    assert kgtool.explain(run, "x100", "r002", "x105", data=other).paths
    found, elsewhere = kgtool.evaluate(run), kgtool.evaluate(run, data=other)
    assert elsewhere.evaluation == found.evaluation
    assert read_json(run.path / "metrics.other.test.json")["dataset"]["name"] == "other"
    first = other / "train.txt"
    first.write_text(first.read_text().replace("r002", "r003"))
    with pytest.raises(DataError, match="the relation 'r003' is not in the vocabulary"):
        kgtool.evaluate(run, data=other)


def test_passes_fed_with_embeddings_refuse_other_entities(tmp_path):
    dataset = load_dataset(write_folder(ring(), tmp_path / "ring"))
    config = all_paths_config(epochs=1, encoder={"layers": 1})
    run = train(config, dataset, tmp_path / "run", progress=False)
    other = write_folder(ring(), tmp_path / "other")
    train_file = other / "train.txt"
    train_file.write_text(train_file.read_text().replace("e000", "new"))
    with pytest.raises(DataError, match="the entity 'new' is not in the vocabulary"):
        kgtool.evaluate(run, data=other)


def test_a_run_of_embeddings_refuses_other_entities(run_folder, tmp_path):
    other = write_folder(ring(), tmp_path / "other")
    train_file = other / "train.txt"
    train_file.write_text(train_file.read_text().replace("e000", "new"))
    with pytest.raises(DataError, match="the entity 'new' is not in the vocabulary"):
        kgtool.evaluate(run_folder, data=other)
