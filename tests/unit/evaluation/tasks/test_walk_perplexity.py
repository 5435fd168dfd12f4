"""Perplexities computed by hand, and counts by loops."""

from __future__ import annotations

import math
from collections import Counter
from itertools import pairwise

import pytest
import torch

from kgtool.errors import ConfigError
from kgtool.evaluation.tasks.walk_perplexity import counted_steps, perplexity, read_steps
from kgtool.graph.knowledge_graph import KnowledgeGraph
from kgtool.graph.random_walk import Walks, WalkSampler
from tests.support.graphs import edges_of, random_dataset
from tests.support.runs import in_memory, ring
from tests.unit.models.test_walk_gru import R, Slow, make_reader, of


def draw(graph: KnowledgeGraph, count: int, seed: int) -> Walks:
    return WalkSampler(graph, 3, torch.Generator().manual_seed(seed)).walks(count)


@torch.no_grad()
def test_steps_are_read_as_one_walk_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kgtool.evaluation.tasks.walk_perplexity.CHUNK", 8)
    reader, graph = make_reader(), KnowledgeGraph.from_dataset(random_dataset(8))
    walks = draw(graph, 21, 1)
    relation, entity = read_steps(reader, walks)
    assert len(relation) == len(entity) == int(walks.length.sum())
    slow, first, second = Slow(reader), [], []
    for i in range(len(walks.length)):
        of_relations, of_entities = slow.walk(*of(walks, i))
        first += of_relations
        second += of_entities
    torch.testing.assert_close(relation, torch.stack(first).log())
    torch.testing.assert_close(entity, torch.stack(second).log())


def backed_off(seen: list[tuple[object, object]], context: object, outcome: object, lower: float):
    """`(n(c, x) + t(c) P'(x)) / (n(c) + t(c))`."""
    after = Counter(x for c, x in seen if c == context)
    if not after:
        return lower
    return (after[outcome] + len(after) * lower) / (after.total() + len(after))


def test_counting_is_that_of_loops() -> None:
    dataset = random_dataset(8)
    graph = KnowledgeGraph.from_dataset(dataset)
    edges = edges_of(graph)
    seen = draw(graph, 40, 2)
    pairs: list[tuple[object, object]] = []
    for i in range(len(seen.length)):
        path = of(seen, i)[1]
        pairs += [("begin", path[0]), *pairwise(path)]
    # Of another graph, so that some steps are not of this one.
    walks = draw(KnowledgeGraph.from_dataset(random_dataset(9)), 30, 3)
    expected: dict[str, list[tuple[float, float]]] = {
        name: [] for name in ("uniform", "frequency", "bigram", "edges")
    }
    for i in range(len(walks.length)):
        entities, path = of(walks, i)
        for before, relation, here, there in zip(
            ["begin", *path], path, entities, entities[1:], strict=False
        ):
            r, e = 1 / R, 1 / dataset.num_entities
            expected["uniform"].append((r, e))
            r = backed_off([("", r) for _, r, _ in edges], "", relation, r)
            e = backed_off([("", t) for *_, t in edges], "", there, e)
            expected["frequency"].append((r, e))
            r = backed_off(pairs, before, relation, r)
            e = backed_off([(r, t) for _, r, t in edges], relation, there, e)
            expected["bigram"].append((r, e))
            r = backed_off([(h, r) for h, r, _ in edges], here, relation, r)
            e = backed_off([((h, r), t) for h, r, t in edges], (here, relation), there, e)
            expected["edges"].append((r, e))
    found = counted_steps(graph, seen, walks)
    assert found.keys() == expected.keys()
    for name, logs in found.items():
        both = torch.tensor(expected[name], dtype=torch.double)
        torch.testing.assert_close(torch.stack(logs, dim=1), both.log())


def test_a_model_that_knows_nothing_is_uniform() -> None:
    dataset, reader = ring(), make_reader(num_entities=24)
    assert reader.decoder.walks is not None
    for parameter in (*reader.decoder.walks.steps.parameters(), reader.decoder.bias):
        torch.nn.init.zeros_(parameter)
    reader.entities.detach().zero_()
    found = perplexity(reader, dataset, "valid", max_length=3, count=50, seed=0)
    table = found.table.set_index(["steps", "by"])
    for steps in ("all", "held-out"):
        for by in ("model", "uniform"):
            row = table.loc[steps, by]
            assert row["relation"] == pytest.approx(6)
            assert row["entity"] == pytest.approx(24)
            assert row["both"] == pytest.approx(144)


def test_the_table_counts_the_steps_and_is_the_same_every_time() -> None:
    dataset, reader = ring(), make_reader(num_entities=24)
    found = perplexity(reader, dataset, "test", max_length=2, count=80, seed=5)
    again = perplexity(reader, dataset, "test", max_length=2, count=80, seed=5)
    assert found.to_dict() == again.to_dict()
    assert (
        found.to_dict()
        != perplexity(reader, dataset, "test", max_length=2, count=80, seed=6).to_dict()
    )
    counts = found.table.groupby("steps")["count"].unique()
    # Of 1 or 2 steps each, and at least one of them held out.
    assert 80 < counts["all"].item() < 160
    assert 80 <= counts["held-out"].item() < counts["all"].item()
    for row in found.table.to_dict("records"):
        assert row["both"] == pytest.approx(row["relation"] * row["entity"])


def test_a_perplexity_by_hand() -> None:
    """One relation between two entities, walked in both directions; the edge is held out."""
    dataset = in_memory([(0, 0, 1)], [(0, 0, 1)], [], num_entities=2)
    reader = make_reader(num_entities=2, num_relation_ids=2)
    table = perplexity(reader, dataset, "valid", max_length=1, count=9, seed=0).table.set_index(
        ["steps", "by"]
    )
    slow = Slow(reader)
    walks = WalkSampler(
        KnowledgeGraph.from_dataset(dataset), 1, torch.Generator().manual_seed(0)
    ).walks_through(torch.tensor([1, 0]), 9)
    logs = [math.log(float(p.detach())) for i in range(9) for p in slow.walk(*of(walks, i))[0]]
    assert table.loc[("all", "model"), "relation"] == pytest.approx(math.exp(-sum(logs) / 9))
    # The edge leads from 0 by the relation, from 1 by its inverse: of each context one outcome,
    # seen once. Its part that is unseen goes to the frequencies, which are even.
    assert table.loc[("all", "edges"), "entity"] == pytest.approx(1 / ((1 + (1 + 0.5) / 2) / 2))


def test_a_split_that_is_empty_or_unknown() -> None:
    dataset, reader = in_memory([(0, 0, 1)], [], [], num_entities=2), make_reader(num_entities=2)
    with pytest.raises(ValueError, match="holds no triples"):
        perplexity(reader, dataset, "valid", max_length=2, count=5, seed=0)
    with pytest.raises(ConfigError, match="did you mean 'valid'"):
        perplexity(reader, dataset, "vaild", max_length=2, count=5, seed=0)
