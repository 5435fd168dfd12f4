"""Extended runs, and runs that start from others: the same model over more triples."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import kgtool
from kgtool.config import Config
from kgtool.data.dataset import SPLITS, KGDataset, Vocabulary, with_inverses
from kgtool.data.growth import grow
from kgtool.data.loaders import load_dataset, load_negatives
from kgtool.data.loaders.write import write_dataset
from kgtool.errors import ConfigError, DataError, Interrupted, KGToolError, RunError
from kgtool.evaluation.evaluator import evaluate_model
from kgtool.models.factory import build_model
from kgtool.models.model import OnePathModel
from kgtool.runs.run import BEST, LAST, PREVIOUS, Run
from kgtool.storage.checkpoint import load_tensors
from kgtool.storage.files import read_json
from kgtool.training.trainer import train
from kgtool.training.warm_start import carry, sizes
from tests.support.graphs import tensor_of, tuples_of
from tests.support.runs import (
    all_paths_config,
    in_memory,
    random_config,
    ring,
    tiny_config,
    write_folder,
)
from tests.unit.training.test_trainer import assert_same, before_step, interrupt, weights

CONFIGS: dict[str, Callable[..., Config]] = {
    "all paths": all_paths_config,
    "all paths fed": lambda **s: all_paths_config(encoder={"layers": 1}, **s),
    "all paths fed from relations": lambda **s: all_paths_config(
        encoder={"entity_init": "relations"}, **s
    ),
    "one path": lambda **s: tiny_config(walk_ratio=0.5, **s),
    "one path, blocks": lambda **s: tiny_config(encoder={"num_blocks": 2}, **s),
    "one path from relations": lambda **s: tiny_config(encoder={"entity_init": "relations"}, **s),
    "one path alone": lambda **s: tiny_config(encoder={"layers": 0}, **s),
}
NEW = "new\tr000\te001\ne003\tr001\tnew\na new one\tr002\tnew\n"


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Run]:
    """A trained run of each kind, with its data next to it; tests must not change it."""
    place = tmp_path_factory.mktemp("runs")
    data = load_dataset(write_folder(ring(), place / "ring"))
    made: dict[str, Run] = {}

    def run(kind: str) -> Run:
        if kind not in made:
            made[kind] = train(CONFIGS[kind](epochs=1), data, place / kind, progress=False)
        return made[kind]

    return run


@pytest.fixture
def new(tmp_path: Path) -> Path:
    file = tmp_path / "new.tsv"
    file.write_text(NEW)
    return file


def files_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# Triples.


def test_growing_appends_and_counts():
    data = in_memory([(0, 0, 1), (1, 1, 2)], [(2, 0, 3)], [(3, 1, 0), (1, 0, 3)], 5, 2)
    words = Vocabulary(("z", "e001", "e000", "a", "e003", "e002", "e004"), ("r001", "r000"))
    given = [
        (0, 0, 1),  # z r001 e001: new
        (2, 1, 1),  # e000 r000 e001: train
        (5, 1, 4),  # e002 r000 e003: valid
        (4, 0, 2),  # e003 r001 e000: test
        (0, 0, 1),  # again
        (2, 1, 1),  # again
        (3, 1, 6),  # a r000 e004: new
        (1, 1, 0),  # e001 r000 z: new
    ]  # fmt: skip
    growth = grow(data, words, tensor_of(given))
    grown = growth.dataset
    assert grown.vocabulary.entities == (*data.vocabulary.entities, "a", "z")
    assert grown.vocabulary.relations == data.vocabulary.relations
    assert tuples_of(grown.train) == [(0, 0, 1), (1, 1, 2), (6, 1, 1), (5, 0, 4), (1, 0, 6)]
    assert torch.equal(grown.valid, data.valid)
    assert torch.equal(grown.test, data.test)
    assert growth.counts() == {
        "added": 3, "given twice": 2, "already in train": 1, "already in valid": 1,
        "already in test": 1, "new entities": 2, "entities without an edge before": 3,
    }  # fmt: skip
    assert growth.unseen.tolist() == [4, 5, 6]  # e004 had its label, and no fact


def test_new_relations_are_appended():
    data = in_memory([(0, 0, 1), (1, 1, 2)], [(2, 1, 3)], [], 4, 2)
    words = Vocabulary(("e000", "e002", "e003"), ("r001", "a", "z"))
    growth = grow(data, words, tensor_of([(0, 2, 1), (1, 0, 2), (2, 1, 0)]))  # z; valid; a
    grown = growth.dataset
    assert grown.vocabulary.relations == ("r000", "r001", "a", "z")
    assert tuples_of(grown.train) == [(0, 0, 1), (1, 1, 2), (0, 3, 2), (3, 2, 0)]
    assert torch.equal(grown.valid, data.valid)
    counts = growth.counts()
    assert (growth.new_relations, counts["new relations"], counts["already in valid"]) == (2, 2, 1)


def test_growing_leaves_what_it_grew():
    data = ring()
    before = data.fingerprint
    grow(data, Vocabulary(("x", "e000"), data.vocabulary.relations), tensor_of([(0, 0, 1)]))
    assert replace(data).fingerprint == before


def test_a_written_data_set_is_read_again(tmp_path):
    labels = ("\ufeffx", " a ", "#", "'\"", "NA", "u2028\u2028x", "x\x85y", "日本")
    triples = torch.tensor([(i, i % 2, (i + 1) % len(labels)) for i in range(len(labels))])
    words = Vocabulary(labels, ("\ufeffr", "null"))
    data = KGDataset("odd", None, words, triples, triples[:1], triples[2:3])
    write_dataset(data, tmp_path / "data")
    assert load_dataset(tmp_path / "data", vocabulary=words).fingerprint == data.fingerprint


@pytest.mark.parametrize("label", ["a\tb", "a\nb", "a\rb", "a\0b", " ", ""])
def test_labels_that_no_line_holds_are_not_written(tmp_path, label):
    data = ring()
    words = Vocabulary((label, *data.vocabulary.entities[1:]), data.vocabulary.relations)
    with pytest.raises(DataError, match="Remedy: change the label"):
        write_dataset(replace(data, vocabulary=words), tmp_path / "data")
    with pytest.raises(DataError, match="valid holds no triples"):
        write_dataset(replace(data, valid=data.valid[:0]), tmp_path / "data")
    assert not (tmp_path / "data").exists()


# Weights.


@pytest.mark.parametrize("kind", CONFIGS)
def test_rows_are_carried_by_label(kind):
    """Parameters whose size depends on labels are copied row by row; all others whole."""
    config, data = CONFIGS[kind](), ring()
    small = build_model(config, data)
    with torch.no_grad():
        for parameter in small.parameters():
            parameter.copy_(torch.rand_like(parameter))
    words = data.vocabulary
    # Other labels before, between and behind; the old ones the other way around.
    entities = ("aaa", *words.entities[::-1], "zzz")
    relations = ("a", words.relations[2], "b", words.relations[0], words.relations[1])
    large = build_model(config, replace(data, vocabulary=Vocabulary(entities, relations)))
    drawn = {name: tensor.clone() for name, tensor in large.state_dict().items()}
    told = small.state_dict()
    missing = carry(large, told, words, Vocabulary(entities, relations), Path("x"))
    assert missing.tolist() == [0, len(entities) - 1]
    new_entity = {i: words.entity_ids.get(label) for i, label in enumerate(entities)}
    new_relation = {i: words.relation_ids.get(label) for i, label in enumerate(relations)}
    new_relation |= {
        i + len(relations): old if old is None else old + len(words.relations)
        for i, old in list(new_relation.items())
    }
    of_size = {
        len(entities): (len(words.entities), new_entity),
        2 * len(relations): (2 * len(words.relations), new_relation),
        2 * len(relations) + 1: (
            2 * len(words.relations) + 1,
            new_relation | {2 * len(relations): 2 * len(words.relations)},
        ),
    }
    by_row = 0
    for name, tensor in large.state_dict().items():
        if tensor.shape == told[name].shape:
            assert torch.equal(tensor, told[name]), name
            continue
        by_row += 1
        (axis,) = (i for i, n in enumerate(tensor.shape) if n != told[name].shape[i])
        size, rows = of_size[tensor.shape[axis]]
        assert told[name].shape[axis] == size
        for here, there in rows.items():
            expected = drawn[name].select(axis, here)
            if there is not None:
                expected = told[name].select(axis, there)
            assert torch.equal(tensor.select(axis, here), expected), (name, here)
    assert by_row >= 3 - (kind == "one path alone")


def test_weights_of_other_labels_are_refused():
    data, config = ring(), tiny_config()
    told = build_model(config, data).state_dict()
    fewer = Vocabulary(data.vocabulary.entities[1:], data.vocabulary.relations)
    with pytest.raises(RunError, match=r"x: the weights do not fit"):
        carry(build_model(config, data), told, fewer, data.vocabulary, Path("x"))
    del told["decoder.bias"]
    with pytest.raises(RunError, match=r"x: the weights do not fit"):
        carry(build_model(config, data), told, data.vocabulary, data.vocabulary, Path("x"))


@pytest.mark.parametrize("layers", [0, 1])
def test_where_a_new_entity_starts(layers):
    """Compared with a loop over its edges; entities with only new neighbours come last."""
    data = in_memory(
        [(0, 0, 1), (1, 1, 2), (2, 0, 0), (3, 0, 1), (2, 1, 3), (3, 1, 4)], [], [], 6, 2
    )
    torch.manual_seed(5)
    model, twin = (build_model(tiny_config(encoder={"layers": layers}), data) for _ in range(2))
    assert isinstance(model, OnePathModel)
    assert isinstance(twin, OnePathModel)
    with torch.no_grad():
        model.decoder.bias.copy_(torch.rand(6))
        model.encoder.entities.mul_(4)
    twin.load_state_dict(model.state_dict())
    twin.eval()
    model.start_entities(torch.tensor([3, 4, 5]))
    with torch.no_grad():
        rows, bias = twin.encoder.entities, twin.decoder.bias
        rows[3:], bias[3:] = rows[:3].mean(0), bias[:3].mean()
        both = with_inverses(data.train, 2).tolist()

        def asked(head: int, relation: int) -> Tensor:
            entities, relations = twin.states()
            return twin.decoder.cell(relations[relation].view(1, -1), entities[head].view(1, -1))[0]

        usual = torch.stack([asked(h, r) @ rows[t] for h, r, t in both if max(h, t) < 3]).mean()
        assert usual > 0
        longest = rows[:3].norm(dim=1).max()
        for entity, told_by in ((3, (0, 1, 2)), (4, (3,))):
            queries = [asked(h, r) for h, r, t in both if t == entity and h in told_by]
            direction = torch.nn.functional.normalize(torch.stack(queries).sum(0), dim=0)
            scored = torch.stack([query @ direction for query in queries]).mean()
            rows[entity] = (usual / scored).clamp(max=longest) * direction
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(tensor, twin.state_dict()[name], atol=1e-6, rtol=1e-4)


def test_where_entities_start_without_an_encoders_embedding(runs):
    """A fed encoder starts from the mean of trained rows; without entity rows nothing starts."""
    data = ring()
    for kind in ("all paths fed", "one path from relations", "all paths"):
        model = build_model(CONFIGS[kind](), data)
        before = {name: t.clone() for name, t in model.state_dict().items()}
        model.start_entities(torch.tensor([4]))
        if kind == "all paths fed":
            told = before["encoder.entities"]
            others = [i for i in range(len(told)) if i != 4]
            before["encoder.entities"] = told.clone()
            before["encoder.entities"][4] = told[others].mean(0)
        for name, tensor in model.state_dict().items():
            torch.testing.assert_close(tensor, before[name])


# Extended runs.


@pytest.mark.parametrize("kind", CONFIGS)
def test_an_extended_run_is_the_same_weights_over_the_grown_graph(runs, new, tmp_path, kind):
    run = runs(kind)
    before = {path.name: path.read_bytes() for path in run.path.iterdir()}
    grown = kgtool.extend(run, new, tmp_path / "grown")
    assert {path.name: path.read_bytes() for path in run.path.iterdir()} == before
    words = run.vocabulary
    assert grown.vocabulary == Vocabulary((*words.entities, "a new one", "new"), words.relations)
    data, old = grown.dataset(), run.dataset()
    one, other = old.num_entities, old.num_entities + 1
    added = torch.tensor([(other, 0, 1), (3, 1, other), (one, 2, other)])
    assert torch.equal(data.train, torch.cat([old.train, added]))
    assert torch.equal(data.valid, old.valid)
    assert torch.equal(data.test, old.test)
    assert data.fingerprint == grown.read_info()["fingerprint"]
    # Built by hand: the old weights, the new rows as they are, over the grown graph.
    told, found = load_tensors(run.path / BEST)[0], load_tensors(grown.path / BEST)[0]
    by_hand = build_model(run.config, data)
    for name, parameter in by_hand.named_parameters():
        rows = told[name]
        if rows.shape != parameter.shape:
            assert name in ("encoder.entities", "decoder.bias")
            rows = torch.cat([rows, found[name][one:]])
        parameter.data.copy_(rows)
    asked = torch.tensor([(i, r) for i in range(data.num_entities) for r in range(6)])
    scores = grown.model(data).scorer().score_t(asked)
    assert torch.equal(scores, by_hand.eval().scorer().score_t(asked))
    assert bool(scores.isfinite().all())
    assert evaluate_model(grown.model(data).scorer(), data, "valid").mrr > 0


def test_scores_that_no_new_edge_can_change_do_not_change(runs, tmp_path):
    """With passes of 3 edges: scores of heads farther than 3 edges from all new edges."""
    run = runs("all paths")
    old = run.dataset()
    file = tmp_path / "apart.tsv"
    file.write_text("island\tr000\tisle\n")  # joined to nothing old
    grown = kgtool.extend(run, file, tmp_path / "grown")
    asked = torch.tensor([(i, r) for i in range(old.num_entities) for r in range(6)])
    before = run.model(old).scorer().score_t(asked)
    after = grown.model(grown.dataset()).scorer().score_t(asked)
    torch.testing.assert_close(after[:, : old.num_entities], before, atol=1e-6, rtol=0)


def test_new_edges_answer_at_once(runs, new, tmp_path):
    run = runs("all paths")
    grown = kgtool.extend(run, new, tmp_path / "grown")
    paths = kgtool.explain(grown, "e003", "r000", "e001").paths
    assert any("new" in str(path) for path in paths)  # two steps, by new edges alone
    kgtool.evaluate(grown)


def test_what_an_extended_run_says_of_itself(runs, new, tmp_path):
    run = runs("one path")
    grown = kgtool.extend(run.path, [str(new)], tmp_path / "a" / "grown")
    assert files_in(grown.path) == [
        "best.safetensors", "config.toml", "data", "entities.tsv", "history.tsv", "relations.tsv",
        "run.json", "train.log",
    ]  # fmt: skip
    assert files_in(grown.path / "data") == ["test.txt", "train.txt", "valid.txt"]
    assert files_in(tmp_path / "a") == ["grown"]
    info = grown.read_info()
    assert (info["data"], info["entities"], info["relations"]) == ("data", 26, 3)
    assert info["extended"] == {
        "run": str(run.path), "fingerprint": run.read_info()["fingerprint"], "files": [str(new)],
        "added": 3, "given twice": 0, "already in train": 0, "already in valid": 0,
        "already in test": 0, "new entities": 2, "entities without an edge before": 2,
    }  # fmt: skip
    assert grown.config == run.config.model_copy(
        update={"data": str(tmp_path / "a" / "grown" / "data")}
    )
    assert grown.history() == run.history()
    assert (
        (grown.path / "train.log").read_text().endswith(f"extended from {run.path} by 3 triples\n")
    )
    moved = Run.open(shutil.move(grown.path, tmp_path / "moved"))
    assert moved.dataset().fingerprint == info["fingerprint"]
    again = kgtool.extend(moved, write_more(tmp_path), tmp_path / "twice")
    assert again.vocabulary.entities[-3:] == ("a new one", "new", "newer")


def write_more(folder: Path) -> Path:
    file = folder / "more.tsv"
    file.write_text("newer\tr000\tnew\n")
    return file


def test_what_does_not_hold_is_kept(runs, new, tmp_path):
    """The data set's negatives, which triple classification reads, are copied."""
    run = runs("all paths")
    data = write_folder(ring(), tmp_path / "ring")
    for split in ("valid", "test"):
        (data / f"{split}_negatives.txt").write_text("e000\tr000\te007\ne001\tr000\te009\n")
    grown = kgtool.extend(run, new, tmp_path / "grown", data=data)
    found = load_negatives(tmp_path / "grown" / "data", grown.vocabulary)
    assert {split: tuples_of(part) for split, part in found.items()} == {
        split: [(0, 0, 7), (1, 0, 9)] for split in ("valid", "test")
    }


def test_what_is_held_out_stays_held_out(runs, tmp_path):
    run = runs("all paths")
    data, words = run.dataset(), run.vocabulary
    lines = [
        f"{words.entities[h]}\t{words.relations[r]}\t{words.entities[t]}\n"
        for split in SPLITS
        for h, r, t in data.split(split)[:2].tolist()
    ]
    file = tmp_path / "known.tsv"
    file.write_text("".join(lines))
    with pytest.raises(DataError, match=r"known\.tsv: the data hold all 6 triples already"):
        kgtool.extend(run, file, tmp_path / "grown")
    assert not (tmp_path / "grown").exists()
    file.write_text("".join([*lines, "e000\tr000\tnew\n"]))
    grown = kgtool.extend(run, file, tmp_path / "grown")
    counts = grown.read_info()["extended"]
    assert [counts[f"already in {split}"] for split in SPLITS] == [2, 2, 2]
    found = grown.dataset()
    assert len(found.train) == len(data.train) + 1
    assert torch.equal(found.test, data.test)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            "e000\tr000\tx\ne000\tr0000\tx\n",
            r"line 2: the relation 'r0000' .*\(did you mean 'r000'\?\)",
        ),
        ("e000\tr000\n", "line 1: 2 columns where 3 are expected"),
        ("", "the file is empty"),
        (None, "no such file"),
    ],
)
def test_bad_triples_leave_nothing(runs, tmp_path, content, message):
    file = tmp_path / "bad.tsv"
    if content is not None:
        file.write_text(content)
    good = write_more(tmp_path)
    with pytest.raises(DataError, match=rf"bad\.tsv.*{message}"):
        kgtool.extend(runs("all paths"), [good, file], tmp_path / "grown")
    assert set(files_in(tmp_path)) <= {"bad.tsv", "more.tsv"}


def test_a_new_relation_is_told_to_train(runs, tmp_path):
    file = tmp_path / "new.tsv"
    file.write_text("e000\tlikes\te001\n")
    with pytest.raises(DataError, match=r"line 1: the relation 'likes' is not in .*or train"):
        kgtool.extend(runs("all paths"), file, tmp_path / "grown")


def test_nothing_is_written_over_and_nothing_half(runs, new, tmp_path, monkeypatch):
    run = runs("one path")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").touch()
    with pytest.raises(RunError, match=r"full exists already\. Remedy: choose another --out"):
        kgtool.extend(run, new, tmp_path / "full")
    with pytest.raises(RunError, match="exists already"):
        kgtool.extend(run, new, run.path)
    assert files_in(tmp_path / "full") == ["thesis.txt"]
    (tmp_path / "empty").mkdir()
    kgtool.extend(run, new, tmp_path / "empty")

    def fail(*_: Any) -> None:
        raise KGToolError("no room")

    monkeypatch.setattr("kgtool.api.extend.save_tensors", fail)
    with pytest.raises(KGToolError, match="no room"):
        kgtool.extend(run, new, tmp_path / "half")
    assert files_in(tmp_path) == ["empty", "full", "new.tsv"]


def test_an_extended_run_holds_no_training_to_resume(runs, new, tmp_path):
    grown = kgtool.extend(runs("one path"), new, tmp_path / "grown")
    before = (grown.path / BEST).read_bytes()
    with pytest.raises(RunError, match=r"made by extend.* Remedy: train with --init-from"):
        train(grown.config, grown.dataset(), grown.path, resume=True, progress=False)
    assert (grown.path / BEST).read_bytes() == before


# Training that begins from a run.


@pytest.mark.parametrize("kind", CONFIGS)
def test_training_begins_where_the_start_is(runs, new, tmp_path, kind):
    """Epoch 0 has the start's weights, for the ids of the new data."""
    grown = kgtool.extend(runs(kind), new, tmp_path / "grown")
    data = load_dataset(tmp_path / "grown" / "data")  # ids of its own
    assert data.vocabulary.entities != grown.vocabulary.entities
    run = train(grown.config, data, tmp_path / "run", progress=False, init_from=grown)
    expected = evaluate_model(grown.model(grown.dataset()).scorer(), grown.dataset(), "valid").mrr
    first = run.history()[0]
    assert first["epoch"] == first["step"] == 0
    assert first["valid_mrr"] == pytest.approx(expected, rel=1e-6)
    assert [row["epoch"] for row in run.history()] == [0, 1]
    assert run.read_info()["start"] == {
        "run": str(grown.path), "fingerprint": grown.read_info()["fingerprint"],
    }  # fmt: skip
    assert load_tensors(run.path / LAST)[1]["epoch"] == 1
    assert weights(run, LAST) != weights(runs(kind), LAST)


def test_what_training_makes_worse_is_not_kept(runs, tmp_path):
    start = runs("one path")
    config = CONFIGS["one path"](epochs=2, learning_rate=5.0, optimizer="adagrad", warmup_steps=0)
    run = train(config, start.dataset(), tmp_path / "run", progress=False, init_from=start)
    rows = run.history()
    assert rows[0]["valid_mrr"] > max(row["valid_mrr"] for row in rows[1:])
    assert weights(run, BEST) == weights(start, BEST)


@pytest.mark.parametrize(
    ("make", "step"), [(random_config, 6), (all_paths_config, 1), (all_paths_config, 16)]
)
def test_a_run_begun_from_another_resumes_bit_for_bit(tmp_path, new, make, step):
    data = load_dataset(write_folder(ring(), tmp_path / "ring"))
    first = train(make(epochs=1), data, tmp_path / "first", progress=False)
    start = kgtool.extend(first, new, tmp_path / "grown")
    grown, config = start.dataset(), make()
    whole = train(config, grown, tmp_path / "whole", progress=False, init_from=start)
    with pytest.MonkeyPatch.context() as patch:
        before_step(patch, step, interrupt)
        with pytest.raises(Interrupted):
            train(config, grown, tmp_path / "run", progress=False, init_from=start)
    shutil.rmtree(start.path)  # needed no more
    torch.rand(3)
    again = train(config, grown, tmp_path / "run", resume=True, progress=False)
    assert_same(again, whole)


def test_a_run_that_died_in_its_first_step_resumes(runs, tmp_path):
    """The start's weights are in a checkpoint before the first step."""
    start = runs("one path")
    data, config = start.dataset(), start.config
    whole = train(config, data, tmp_path / "whole", progress=False, init_from=start)

    def die(_: Any) -> None:
        raise MemoryError

    with pytest.MonkeyPatch.context() as patch:
        before_step(patch, 1, die)
        with pytest.raises(MemoryError):
            train(config, data, tmp_path / "run", progress=False, init_from=start)
    assert_same(train(config, data, tmp_path / "run", resume=True, progress=False), whole)
    # Even without it: the same command begins again.
    for name in (LAST, PREVIOUS, BEST, "history.tsv"):
        (tmp_path / "run" / name).unlink()
    again = train(config, data, tmp_path / "run", resume=True, progress=False, init_from=start)
    assert_same(again, whole)


def test_a_resumed_run_has_the_start_it_had(runs, tmp_path):
    one, other = runs("one path"), runs("one path from relations")
    data, config = one.dataset(), one.config
    run = train(config, data, tmp_path / "run", progress=False, init_from=one)
    train(config, data, run.path, resume=True, progress=False, init_from=one)
    copy = Run.open(shutil.copytree(one.path, tmp_path / "copy"))
    with pytest.raises(RunError, match=r"was begun from .*Remedy: resume with --init-from"):
        train(config, data, run.path, resume=True, progress=False, init_from=copy)
    for name in (LAST, PREVIOUS):
        (run.path / name).unlink()
    with pytest.raises(RunError, match=r"was begun from .*Remedy: resume with --init-from"):
        train(config, data, run.path, resume=True, progress=False)
    with pytest.raises(RunError, match="was begun at random"):
        train(config, data, one.path, resume=True, progress=False, init_from=copy)
    assert other.read_info().get("start") is None


def test_the_configuration_names_the_initial_weights(runs, tmp_path):
    start, other = runs("one path"), runs("one path from relations")
    data = start.dataset()
    given = train(start.config, data, tmp_path / "given", progress=False, init_from=start)
    config = start.config.model_copy(update={"init_from": str(start.path)})
    run = train(config, data, tmp_path / "run", progress=False)
    assert_same(run, given)
    assert run.read_info()["start"] == given.read_info()["start"]
    # A finished run goes on without them; an argument goes before the setting.
    gone = start.config.model_copy(update={"init_from": str(tmp_path / "gone")})
    with pytest.raises(RunError, match="gone is not a run"):
        train(gone, data, tmp_path / "new", progress=False)
    assert_same(train(gone, data, tmp_path / "new", progress=False, init_from=start), given)
    assert_same(train(gone, data, tmp_path / "new", progress=False, resume=True), given)
    assert other.config.init_from is None
    with pytest.raises(ConfigError, match="init_from"):
        start.config.model_copy(update={"init_from": ""})


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (all_paths_config(dim=4), "dim is 8 there and 4 here"),
        (
            all_paths_config(layers=2, mlp_dim=4),
            "all_paths.layers is 3 there and 2 here; all_paths",
        ),
        (all_paths_config(encoder={}), "encoder is false there and true here"),
        (tiny_config(), "one_path is false there and true here"),
    ],
)
def test_settings_that_do_not_fit_are_named(runs, tmp_path, config, message):
    run = runs("all paths")
    with pytest.raises(RunError, match=f"do not fit: .*{message}.*Remedy: .*config.toml"):
        train(config, run.dataset(), tmp_path / "run", progress=False, init_from=run)
    assert not (tmp_path / "run").exists()


def test_sizes_are_all_that_shapes_hang_on():
    """Equal sizes give equal shapes of weights; different sizes give different shapes."""
    kinds = [make() for make in CONFIGS.values()]
    kinds += [
        tiny_config(dim=4),
        tiny_config(cell="distmult"),
        tiny_config(encoder={"num_bases": 3}),
    ]
    kinds += [all_paths_config(layers=2), all_paths_config(mlp_dim=4), tiny_config(epochs=9)]
    shapes = [
        {name: tuple(t.shape) for name, t in build_model(config, ring()).state_dict().items()}
        for config in kinds
    ]
    said = [sizes(config) for config in kinds]
    for i in range(len(kinds)):
        for j in range(i):
            assert (said[i] == said[j]) == (shapes[i] == shapes[j]), (kinds[i], kinds[j])


def test_a_start_may_know_other_relations(runs, tmp_path):
    """The rows of a new relation are initialised at random, because training follows."""
    data = ring()
    words = Vocabulary(data.vocabulary.entities, (*data.vocabulary.relations, "r9"))
    train_ = torch.cat([data.train, torch.tensor([(0, 3, 1)])])
    more = replace(data, vocabulary=words, train=train_)
    start = runs("all paths")
    run = train(start.config, more, tmp_path / "run", progress=False, init_from=start)
    assert run.vocabulary.relations[-1] == "r9"
    assert len(run.history()) == 2


def test_the_log_and_json_say_where_it_began(runs, tmp_path):
    start = runs("all paths")
    run = train(
        start.config, start.dataset(), tmp_path / "run", progress=False, init_from=start.path
    )
    assert f"initial weights from {start.path}" in (run.path / "train.log").read_text()
    assert json.loads((run.path / "run.json").read_text())["start"] == start.origin()
    assert read_json(run.path / "run.json")["fingerprint"] == start.read_info()["fingerprint"]
