"""Baselines, compared with results by hand, loops and networkx."""

from __future__ import annotations

import networkx
import pytest
import torch

from kgtool.data.dataset import KGDataset, with_inverses
from kgtool.evaluation import baselines
from kgtool.evaluation.baselines import (
    BASELINES,
    DAMPING,
    InverseRule,
    PageRank,
    RankedFrequency,
    RelationFrequency,
)
from kgtool.evaluation.evaluator import evaluate_model
from tests.support.graphs import random_dataset, tuples_of
from tests.support.runs import in_memory, ring

SEEDS = range(4)


def every_query(dataset: KGDataset) -> torch.Tensor:
    """`(q, 2)`: every head with every relation and inverse, shuffled, with some duplicates."""
    hr = torch.cartesian_prod(
        torch.arange(dataset.num_entities), torch.arange(2 * dataset.num_relations)
    )
    return hr[torch.randint(len(hr), (2 * len(hr),), generator=torch.Generator().manual_seed(0))]


def slow_frequency(dataset: KGDataset, relation: int, tail: int) -> int:
    edges = tuples_of(with_inverses(dataset.train, dataset.num_relations))
    return sum(r == relation and t == tail for _, r, t in edges)


def test_frequencies_are_counts():
    dataset = in_memory([(0, 0, 2), (1, 0, 2), (0, 0, 3), (0, 1, 1)], [], [], 5, 2)
    scores = RelationFrequency.of(dataset).score_t(torch.tensor([(4, 0), (0, 2), (0, 3), (1, 0)]))
    assert scores.tolist() == [
        [0, 0, 2, 1, 0], [2, 1, 0, 0, 0], [1, 0, 0, 0, 0], [0, 0, 2, 1, 0],
    ]  # fmt: skip


@pytest.mark.parametrize("seed", SEEDS)
def test_frequencies_are_those_of_a_loop(seed):
    dataset = random_dataset(seed)
    hr = every_query(dataset)
    expected = [
        [slow_frequency(dataset, r, t) for t in range(dataset.num_entities)] for _, r in hr.tolist()
    ]
    assert RelationFrequency.of(dataset).score_t(hr).tolist() == expected


def test_an_inverse_relation_answers():
    # r1 is the inverse of r0 for two of its three pairs; r2 says the same as r0 for one of two.
    train = [(0, 0, 1), (2, 0, 3), (1, 1, 0), (3, 1, 2), (5, 1, 4), (0, 2, 1), (4, 2, 0)]
    dataset = in_memory(train, [], [(4, 0, 5)], 6, 3)
    rule = InverseRule.of(dataset)
    told = dict(zip(rule.rules.tolist(), rule.confidence.tolist(), strict=True))
    # body · 6 + head; inverses of r0, r1, r2 are 3, 4, 5.
    assert told[4 * 6 + 0] == pytest.approx(2 / 3)
    assert told[2 * 6 + 0] == told[0 * 6 + 2] == told[5 * 6 + 3] == 0.5
    assert told[0 * 6 + 4] == 1
    assert 0 * 6 + 1 not in told
    # (4, r0, ?): 5 by the inverse of r1, then 0 by r2, then the frequent tails 1 and 3.
    scores = rule.score_t(torch.tensor([(4, 0)]))[0]
    assert scores.argsort(descending=True, stable=True).tolist()[:2] == [5, 0]
    assert scores[1] == scores[3] == 1
    assert scores[2] == scores[4] == 0
    assert evaluate_model(rule, dataset).filtered["tail"]["realistic"]["mrr"] == 1


@pytest.mark.parametrize("seed", SEEDS)
def test_the_rule_is_that_of_a_loop(seed):
    dataset = random_dataset(seed)
    edges = set(tuples_of(with_inverses(dataset.train, dataset.num_relations)))
    pairs = {
        r: {(h, t) for h, relation, t in edges if relation == r}
        for r in range(2 * dataset.num_relations)
    }
    rule = InverseRule.of(dataset)
    for head, relation in every_query(dataset)[:60].tolist():
        keys = []
        for tail in range(dataset.num_entities):
            bodies = [r for h, r, t in edges if h == head and t == tail and r != relation]
            confidence = max(
                (len(pairs[r] & pairs[relation]) / len(pairs[r]) for r in bodies), default=0.0
            )
            keys.append((confidence, slow_frequency(dataset, relation, tail)))
        ranks = {key: i for i, key in enumerate(sorted(set(keys)))}
        found = rule.score_t(torch.tensor([(head, relation)]))[0]
        assert torch.unique(found, return_inverse=True)[1].tolist() == [ranks[key] for key in keys]


@pytest.mark.parametrize("seed", SEEDS)
def test_walks_are_networkxs(seed, monkeypatch):
    monkeypatch.setattr(baselines, "STEPS", 60)  # to the end
    dataset = random_dataset(seed)
    graph = networkx.MultiDiGraph()
    graph.add_nodes_from(range(dataset.num_entities))
    graph.add_edges_from((h, t) for h, _, t in with_inverses(dataset.train, 3).tolist())
    heads = [0, 5, dataset.num_entities - 1, 3]  # the last entity has no triple
    found = PageRank.of(dataset).walk(torch.tensor(heads))
    for head, row in zip(heads, found, strict=True):
        expected = networkx.pagerank(graph, DAMPING, {head: 1}, max_iter=500, tol=1e-9)
        assert row.tolist() == pytest.approx(
            [expected[t] for t in range(dataset.num_entities)], abs=3e-4
        )
        assert float(row.sum()) == pytest.approx(1, abs=1e-5)


def test_walks_worked_by_hand(monkeypatch):
    monkeypatch.setattr(baselines, "STEPS", 60)
    # Between two entities: p_0 = 0.15 + 0.85 p_1 and p_1 = 0.85 p_0.
    dataset = in_memory([(0, 0, 1)], [], [], 3)
    rank = PageRank.of(dataset)
    home = 0.15 / (1 - 0.85**2)
    assert rank.walk(torch.tensor([0]))[0].tolist() == pytest.approx(
        [home, 0.85 * home, 0], abs=1e-3
    )
    scores = rank.score_t(torch.tensor([(0, 0), (1, 1), (0, 1), (2, 0)]))
    assert scores[0].tolist() == pytest.approx([0, 0.85 * home, 0], abs=1e-3)
    assert scores[0].tolist() == scores[2].tolist()
    assert scores[1].tolist() == pytest.approx([0.85 * home, 0, 0], abs=1e-3)
    assert scores[3].tolist() == pytest.approx([0, 0, 0])


def test_many_heads_are_walked_from_in_parts(monkeypatch):
    dataset = random_dataset(1)
    hr = torch.tensor([(5, 0), (0, 1), (2, 3), (5, 2)])
    together = PageRank.of(dataset).score_t(hr)
    monkeypatch.setattr("kgtool.evaluation.baselines.HEADS", 2)
    assert torch.allclose(PageRank.of(dataset).score_t(hr), together, atol=1e-7)


def test_the_product_is_of_its_parts():
    dataset = random_dataset(2)
    hr = every_query(dataset)[:50]
    walks = PageRank.of(dataset).score_t(hr)
    degree = [
        sum((h == e) + (t == e) for h, _, t in dataset.train.tolist())
        for e in range(dataset.num_entities)
    ]
    found = RankedFrequency.of(dataset).score_t(hr)
    for i, (_, relation) in enumerate(hr.tolist()):
        for t in range(dataset.num_entities):
            likely = (slow_frequency(dataset, relation, t) + 0.1) / (degree[t] + 1)
            assert float(found[i, t]) == pytest.approx(float(walks[i, t]) * likely, abs=1e-7)


@pytest.mark.parametrize("name", BASELINES)
def test_a_baseline_is_ranked_and_the_same_every_time(name):
    dataset = ring()
    found = [evaluate_model(BASELINES[name](dataset), dataset, split) for split in ("test",) * 2]
    assert found[0].filtered == found[1].filtered
    assert torch.equal(found[0].ranking.score, found[1].ranking.score)


@pytest.mark.parametrize("name", BASELINES)
@pytest.mark.parametrize("train", [[], [(0, 0, 1)], [(0, 0, 0)]])
def test_a_graph_of_almost_nothing(name, train):
    dataset = in_memory(train, [], [(1, 0, 2)], 3)
    found = evaluate_model(BASELINES[name](dataset), dataset)
    assert 0 < found.mrr <= 1
