"""Baselines, compared with results by hand, loops and networkx."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import networkx
import pytest
import torch

import kgtool
from kgtool.data.dataset import KGDataset, with_inverses
from kgtool.data.loaders import load_dataset
from kgtool.errors import KGToolWarning
from kgtool.evaluation import baselines
from kgtool.evaluation.baselines import (
    BASELINES,
    DAMPING,
    DECAYS,
    InverseRule,
    PageRank,
    RankedFrequency,
    RecencyCounting,
    RelationFrequency,
    baselines_of,
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


def dated_dataset(seed: int = 0) -> KGDataset:
    """A random data set whose train triples hold at one to three times of 0 to 9."""
    dataset = random_dataset(seed)
    generator = torch.Generator().manual_seed(seed)
    times = torch.randint(10, (3 * len(dataset.train), 1), generator=generator)
    lines = torch.cat([dataset.train.repeat(3, 1), times], dim=1)
    return replace(dataset, dated=lines[torch.rand(len(lines), generator=generator) < 0.6])


@pytest.mark.parametrize("decay", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("seed", SEEDS)
def test_recency_and_counting_follow_their_formula(seed: int, decay: float) -> None:
    dataset = dated_dataset(seed)
    assert dataset.dated is not None
    lines = dataset.dated.tolist()
    lines += [(t, r + dataset.num_relations, h, k) for h, r, t, k in lines]
    now = max(k for *_, k in lines) + 1
    hr = every_query(dataset)[:60]
    expected = torch.zeros(len(hr), dataset.num_entities).double()
    for i, (h, r) in enumerate(hr.tolist()):
        total = sum(2 ** (decay * (k - now)) for _, r2, _, k in lines if r2 == r)
        for t in range(dataset.num_entities):
            own = [k for h2, r2, t2, k in lines if (h2, r2, t2) == (h, r, t)]
            often = sum(2 ** (decay * (k - now)) for _, r2, t2, k in lines if (r2, t2) == (r, t))
            recent = 2 ** (decay * (max(own) - now)) if own else 0.0
            expected[i, t] = 0.999 * recent + (0.001 * often / total if total else 0.0)
    found = RecencyCounting.decaying(dataset, decay).score_t(hr)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-15)


def test_the_decay_is_the_best_on_valid() -> None:
    # Lately, r leads to 2; it has led to 1 more often.
    train = [(0, 0, 1), (3, 0, 1), (4, 0, 1), (0, 0, 2)]
    dated = torch.tensor([(0, 0, 1, 0), (3, 0, 1, 1), (4, 0, 1, 2), (0, 0, 2, 60)])
    late = replace(in_memory(train, [(4, 0, 2), (3, 0, 2)], [(5, 0, 2)], 6), dated=dated)
    early = replace(late, valid=torch.tensor([(5, 0, 1)]))
    assert RecencyCounting.of(late).decay == 0.1
    assert RecencyCounting.of(early).decay == 0.01  # the first of the best
    assert RecencyCounting.of(replace(late, valid=late.valid[:0])).decay == DECAYS[0]
    with pytest.raises(ValueError, match="have no times"):
        RecencyCounting.of(ring())
    assert "recency-count" not in baselines_of(ring())


def test_evaluate_reads_times_by_the_name_of_a_column(tmp_path: Path) -> None:
    rows = [("a", "r", "b", "2014-01-01"), ("a", "r", "c", "2014-02"), ("b", "r", "a", "2014-03")]
    lines = ["head\trelation\ttail\tdate", *("\t".join(row) for row in rows), "a\tr\tb\t2015"]
    for split in ("train", "valid", "test"):
        (tmp_path / f"{split}.txt").write_text("\n".join(lines) + "\n")
    data = load_dataset(tmp_path, times=True)
    assert data.dated is not None
    assert data.dated.tolist() == [[0, 0, 1, 0], [0, 0, 2, 1], [1, 0, 0, 2], [0, 0, 1, 3]]
    plain = load_dataset(tmp_path)
    assert plain.dated is None
    assert plain.fingerprint == data.fingerprint
    found = kgtool.evaluate_baselines(tmp_path)
    assert list(found) == ["recency-count", *BASELINES]
    (tmp_path / "train.txt").write_text("\n".join(lines[:-1]) + "\na\tr\tb\tlast year\n")
    with pytest.warns(KGToolWarning, match=r"the time 'last year' of triple 4 is not an ISO"):
        assert list(kgtool.evaluate_baselines(tmp_path)) == list(BASELINES)


def test_where_facts_repeat_recency_beats_frequency() -> None:
    """A planted sequence: each pair holds again and again, with a partner that changes."""
    n, lines = 30, []
    partner = {h: (7 * h + 1) % n for h in range(n)}
    for time in range(20):
        for h in range(n):
            if (h + time) % 7 == 0:
                partner[h] = (partner[h] + 5) % n
            lines.append((h, 0, partner[h], time))
    split = [[line for line in lines if low <= line[3] < high] for low, high in
             ((0, 16), (16, 18), (18, 20))]  # fmt: skip
    parts = [sorted({line[:3] for line in each}) for each in split]
    train, valid, test = parts
    dataset = replace(in_memory(train, valid, test, n), dated=torch.tensor(split[0]))
    recent = evaluate_model(RecencyCounting.of(dataset), dataset, "test").mrr
    assert recent > 2 * evaluate_model(RelationFrequency.of(dataset), dataset, "test").mrr
