"""Pre-training on several graphs: draws, the shares of graphs, and a resumed run."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import kgtool
from kgtool.config import Config
from kgtool.data.dataset import KGDataset
from kgtool.distributed import process_group
from kgtool.errors import ConfigError, DataError, Interrupted, KGToolWarning, RunError
from kgtool.graph.knowledge_graph import KnowledgeGraph
from kgtool.models.factory import build_model
from kgtool.training import pretraining
from kgtool.training.factory import make_objective
from kgtool.training.pretraining import ROWS, PretrainingObjective
from kgtool.training.trainer import train
from tests.support.graphs import edges_of
from tests.support.runs import in_memory, ring, write_folder


def settings(graphs: dict[str, float], synthetic: float, **training: Any) -> Config:
    return kgtool.load_config(
        {
            "dim": 8,
            "encoder": {"kind": "relations", "layers": 1},
            "all_paths": {"layers": 2, "mlp_dim": 8, "batch_size": 4},
            "training": {"epochs": 2, "steps_per_epoch": 6, "validate_every": 1, **training},
            "pretrain": {"graphs": graphs, "synthetic": synthetic},
        }
    )


def two_cycles() -> KGDataset:
    """Another graph, with another number of relations."""
    train_ = [(i, r, (i + 1 + r) % 9) for i in range(9) for r in range(2)]
    made = in_memory(train_, train_[:1], train_[1:2], 9, 2)
    return replace(made, vocabulary=replace(made.vocabulary, relations=("up", "down")))


@pytest.fixture
def folders(tmp_path: Path) -> dict[str, Path]:
    return {
        "ring": write_folder(ring(), tmp_path / "ring"),
        "cycles": write_folder(two_cycles(), tmp_path / "cycles"),
    }


def objective_of(config: Config, dataset: KGDataset) -> PretrainingObjective:
    torch.manual_seed(0)
    made = make_objective(config, build_model(config, dataset), dataset)
    assert isinstance(made, PretrainingObjective)
    return made


def test_graphs_are_drawn_by_their_shares(folders: dict[str, Path]) -> None:
    graphs = {str(folders["ring"]): 3.0, str(folders["cycles"]): 1.0}
    config = settings(graphs, 0.5, steps_per_epoch=2000)
    made = objective_of(config, ring())
    rows = made.order(0, 0)
    assert len(rows) == 2000 * 4
    number = (rows[::4] // ROWS).tolist()
    shares = [sum(n == k for n in number) / 2000 for k in (0, 1)]
    assert shares == pytest.approx([0.375, 0.125], abs=0.04)
    # A step takes one of the latest synthetic graphs.
    for step, n in enumerate(number):
        newest = 2 + step // pretraining.FRESH
        assert n < 2 or max(2, newest - pretraining.RECENT) < n + 1 <= newest + 1
    assert torch.equal(made.order(0, 1), objective_of(config, ring()).order(0, 1))
    assert not torch.equal(made.order(0, 1), rows)


def test_the_graph_of_relations_lacks_the_targets_of_a_step(folders: dict[str, Path]) -> None:
    made = objective_of(settings({str(folders["cycles"]): 1.0}, 0.0), ring())
    parts = made.parts(made.order(0, 0)[: made.batch_size])
    shared = made.shared(parts)
    graph = made.now.graph
    edges = [part.excluded_of_any for part in parts]
    targets = graph.triples(torch.cat(edges)).tolist()
    gone = {(h, r, t) if r < 2 else (t, r - 2, h) for h, r, t in targets}
    triples = [each for each in edges_of(graph) if each[1] < 2]
    left = [each for each in triples if each not in gone]
    assert 0 < len(left) < len(triples)
    without = KnowledgeGraph.from_dataset(in_memory(left, [], [], 9, 2))
    assert parts[0].contexts is not None
    expected = made.model.on(without).conditions(parts[0].contexts)
    whole = made.model.on(graph).conditions(parts[0].contexts)
    for found, same, other in zip(shared, expected, whole, strict=True):
        torch.testing.assert_close(found, same)
        assert not torch.allclose(found, other)


def test_all_queries_of_a_step_are_of_one_graph(folders: dict[str, Path]) -> None:
    made = objective_of(settings({str(folders["cycles"]): 1.0}, 0.5), ring())
    for rows in made.order(0, 0).split(made.batch_size):
        parts = made.parts(rows)
        assert sum(len(part.head) for part in parts) == 4
        loss, count = made.loss(parts[0], *made.shared(parts))
        assert torch.isfinite(loss)
        assert count >= 1


def test_a_resumed_pretraining_equals_one_that_never_stopped(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    config = settings({str(folders["cycles"]): 1.0}, 0.5)
    whole = train(config, ring(), tmp_path / "whole", progress=False)

    class Once:
        steps = 0

        def is_over(self) -> bool:
            self.steps += 1
            return self.steps == 8

        def goes_on(self, done: float, mrr: float) -> bool:
            return True

    with pytest.raises(Interrupted):
        train(config, ring(), tmp_path / "parts", progress=False, watch=Once())
    parts = train(config, ring(), tmp_path / "parts", resume=True, progress=False)
    assert parts.weights_digest() == whole.weights_digest()


def test_a_pretrained_run_answers_on_a_graph_with_other_relations(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    config = settings({str(folders["cycles"]): 1.0}, 0.0)
    run = train(config, ring(), tmp_path / "run", progress=False)
    found = kgtool.evaluate(run, data=two_cycles(), split="test", progress=False)
    assert 0 < found.mrr <= 1


def test_the_sources_are_recorded_and_named(
    folders: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    graphs = {str(folders["cycles"]): 3.0, str(write_folder(far(), tmp_path / "far")): 1.0}
    run = train(settings(graphs, 0.5, epochs=1), ring(), tmp_path / "run")
    names = [*graphs]
    expected = [
        {"name": name, "fingerprint": kgtool.load_dataset(name).fingerprint, "share": share}
        for name, share in zip(names, (0.375, 0.125), strict=True)
    ]
    assert run.read_info()["sources"] == expected
    lines = [
        f"pre-training on {names[0]}: 9 entities, 2 relations, 18 triples, 38 % of the steps",
        f"pre-training on {names[1]}: 5 entities, 1 relations, 5 triples, 12 % of the steps",
        "pre-training on synthetic graphs: 50 % of the steps",
        "small is held out: training validates on it and does not learn from it",
    ]
    log, shown = (run.path / "train.log").read_text(), capsys.readouterr().err
    for line in lines:
        assert line in log
        assert line in shown


def test_a_run_with_damaged_sources_is_refused(folders: dict[str, Path], tmp_path: Path) -> None:
    run = train(settings({str(folders["cycles"]): 1.0}, 0.5, epochs=1), ring(), tmp_path / "run")
    info = json.loads((run.path / "run.json").read_text())
    (run.path / "run.json").write_text(json.dumps(info | {"sources": "none"}))
    with pytest.raises(RunError, match=r"run\.json: invalid content"):
        run.read_info()


def test_changed_sources_are_refused(folders: dict[str, Path], tmp_path: Path) -> None:
    config = settings({str(folders["cycles"]): 1.0}, 0.5, epochs=1)
    train(config, ring(), tmp_path / "run", progress=False)
    longer = settings({str(folders["cycles"]): 1.0}, 0.5, epochs=2)
    with (folders["cycles"] / "train.txt").open("a") as file:
        file.write("e000\tup\te005\n")
    with pytest.raises(RunError, match=r"other triples or labels in \S*cycles\. Remedy: resume"):
        train(longer, ring(), tmp_path / "run", resume=True, progress=False)


def far() -> KGDataset:
    """A small graph with labels of its own."""
    made = in_memory([(i, 0, (i + 1) % 5) for i in range(5)], [(0, 0, 2)], [(0, 0, 3)], 5)
    labels = kgtool.Vocabulary(tuple(f"x{i}" for i in range(5)), ("next",))
    return replace(made, vocabulary=labels)


def test_a_source_that_cannot_be_used_is_refused(tmp_path: Path) -> None:
    empty = write_folder(replace(far(), train=far().train[:0]), tmp_path / "empty")
    for place, problem in (
        (tmp_path / "absent", "no such file or folder"),
        (empty, "train.txt: no triples: the file is empty"),
        ("YAGO3-10", "not fetched yet. Remedy: kgtool data fetch YAGO3-10"),
    ):
        config = settings({str(place): 1.0}, 0.0)
        with pytest.raises(DataError, match=rf"pretrain\.graphs, {place}: .*{problem}"):
            train(config, ring(), tmp_path / "run", progress=False)
    assert not (tmp_path / "run").exists()


def test_the_data_set_that_is_held_out_is_not_a_source(tmp_path: Path) -> None:
    held_out, rest = ring(), two_cycles().train[:1]
    # The same triples with other ids, in another order.
    order = torch.randperm(24)
    labels = tuple(held_out.vocabulary.entities[i] for i in order.argsort())
    ids = torch.stack([order[held_out.train[:, 0]], held_out.train[:, 1]], 1)
    triples = torch.cat([ids, order[held_out.train[:, 2:]]], 1).flip(0)
    same = replace(
        held_out, vocabulary=kgtool.Vocabulary(labels, held_out.vocabulary.relations),
        train=triples, valid=rest, test=rest,
    )  # fmt: skip
    config = settings({str(write_folder(same, tmp_path / "same")): 1.0}, 0.0, epochs=1)
    with pytest.raises(DataError, match=r"same: its train triples are those of small, .*--data"):
        train(config, held_out, tmp_path / "run", progress=False)
    assert not (tmp_path / "run").exists()
    leaky = replace(held_out, train=torch.cat([held_out.train, held_out.test[:3]]))
    config = settings({str(write_folder(leaky, tmp_path / "leaky")): 1.0}, 0.0, epochs=1)
    with pytest.warns(KGToolWarning, match=r"leaky has 3 of the 8 test triples of small: figures"):
        train(config, held_out, tmp_path / "run", progress=False)


def test_weights_of_the_triples_of_a_source_weigh_the_loss(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    weighted = tmp_path / "weighted"
    weighted.mkdir()
    for split in ("train", "valid", "test"):
        lines = (folders["cycles"] / f"{split}.txt").read_text().splitlines()
        text = "".join(f"{line}\t{0.25 if 'up' in line else 1.0}\n" for line in lines)
        (weighted / f"{split}.tsv").write_text("head\trelation\ttail\tweight\n" + text)
    plain, made = (
        objective_of(settings({str(place): 1.0}, 0.0), ring())
        for place in (folders["cycles"], weighted)
    )
    rows = made.order(0, 0)[:4]
    losses = []
    for each in (plain, made):
        torch.manual_seed(3)
        parts = each.parts(rows)
        loss, count = each.loss(parts[0], *each.shared(parts))
        losses.append((loss.item(), count))
    part = parts[0]
    assert part.weight is not None
    up = part.relation % 2 == 1  # the relations are "down", "up"
    expected = torch.where(up, 0.25, 1.0)
    torch.testing.assert_close(part.weight, expected)
    assert 0 < int(up.sum()) < len(up)
    assert losses[1][1] == pytest.approx(float(expected.sum()))
    assert losses[1][0] < losses[0][0]


def test_processes_share_the_queries_of_a_step(
    folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = settings({str(folders["cycles"]): 1.0}, 0.5)
    alone = objective_of(config, ring()).order(3, 1)
    monkeypatch.setattr(process_group, "world_size", lambda: 2)
    made = objective_of(config, ring())
    orders = []
    for rank in range(2):
        monkeypatch.setattr(process_group, "rank", lambda rank=rank: rank)
        orders.append(made.order(3, 1))
    assert [len(order) for order in orders] == [6 * 2] * 2  # of 4 queries a step
    assert torch.equal(orders[0] // ROWS, orders[1] // ROWS)  # the same graphs
    assert not (orders[0] == orders[1]).any()  # and other queries
    assert len(alone) == 6 * 4
    monkeypatch.setattr(process_group, "world_size", lambda: 3)
    with pytest.raises(ConfigError, match=r"all_paths\.batch_size = 4 is not a multiple of 3"):
        objective_of(config, ring())


def test_train_and_pretrain_refuse_the_configuration_of_the_other(tmp_path: Path) -> None:
    pretrained = settings({"umls": 1.0}, 0.5)
    with pytest.raises(ConfigError, match=r"section \[pretrain\].* Remedy: use kgtool pretrain"):
        kgtool.train(pretrained, ring(), tmp_path / "run")
    plain = pretrained.model_copy(update={"pretrain": None})
    with pytest.raises(ConfigError, match=r"has none\. Remedy: name graphs as in configs/pretrai"):
        kgtool.pretrain(plain, ring(), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_initial_weights_of_another_kind_are_refused(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    config = settings({str(folders["cycles"]): 1.0}, 0.0, epochs=1)
    run = kgtool.pretrain(config, ring(), tmp_path / "run", progress=False)
    again = kgtool.pretrain(config, far(), tmp_path / "again", init_from=run, progress=False)
    assert [row["epoch"] for row in again.history()] == [0, 1]
    other = {"dim": 8, "encoder": {"layers": 1}, "all_paths": {"layers": 2, "mlp_dim": 8}}
    with pytest.raises(RunError, match=r"encoder\.kind is relations there and entities here"):
        kgtool.train(other, ring(), tmp_path / "other", init_from=run, progress=False)


@pytest.mark.parametrize(
    ("section", "fault"),
    [
        ({"graphs": {}, "synthetic": 0.5}, "names no graph"),
        ({"graphs": {"a": 0.0}}, "not above 0"),
        ({"synthetic": 1.5}, "synthetic"),
        ({"graphs": {"a": 1.0}, "synthetic": 1.0}, "leaves no step"),
    ],
)
def test_wrong_settings_are_refused(section: dict[str, Any], fault: str) -> None:
    with pytest.raises(ConfigError, match=fault):
        kgtool.load_config({"encoder": {"kind": "relations"}, "all_paths": {}, "pretrain": section})


def test_pretraining_needs_an_encoder_of_relations() -> None:
    models: list[dict[str, Any]] = [{"all_paths": {}}, {}, {"one_path": {}, "encoder": {}}]
    for sections in models:
        with pytest.raises(ConfigError, match=r"Remedy: set encoder\.kind = 'relations'"):
            kgtool.load_config({**sections, "pretrain": {"synthetic": 1.0}})
