"""Training queries, compared with sets of triples and with walks on the graph."""

from __future__ import annotations

from collections import Counter, defaultdict
from itertools import pairwise

import pytest
import torch

from kgtool.data.answer_index import AnswerIndex
from kgtool.data.dataset import KGDataset, with_inverses
from kgtool.graph.knowledge_graph import KnowledgeGraph
from kgtool.graph.random_walk import Walks, WalkSampler
from kgtool.training.batches import Batch, epoch_order, link_queries
from tests.support.graphs import edges_of, random_dataset, tuples_of
from tests.support.runs import in_memory, ring


@pytest.fixture(scope="module")
def dataset() -> KGDataset:
    return random_dataset(8)


def test_link_queries_give_every_known_tail_once(dataset: KGDataset) -> None:
    num_ids = 2 * dataset.num_relations
    triples = with_inverses(dataset.train, dataset.num_relations)
    answers = AnswerIndex(triples, num_ids)
    graph = KnowledgeGraph.from_dataset(dataset)
    edges = edges_of(graph)
    edge_of_answer = graph.find(answers.triples())
    tails = defaultdict(set)
    for head, relation, tail in tuples_of(triples):
        tails[head, relation].add(tail)

    order = torch.randperm(len(answers), generator=torch.Generator().manual_seed(9))
    seen = Counter[tuple[int, int, int]]()
    for rows in order.split(7):
        batch, slot = link_queries(answers, rows)
        assert batch.path.shape == (len(rows), 1)
        assert batch.length.tolist() == [1] * len(rows)
        assert batch.position.tolist() == sorted(batch.position.tolist())
        queries = list(zip(batch.head.tolist(), batch.path[:, 0].tolist(), strict=True))
        asked = [
            (*queries[position], tail)
            for position, tail in zip(batch.position.tolist(), batch.tail.tolist(), strict=True)
        ]
        for i, query in enumerate(queries):
            mine = batch.tail[batch.position == i].tolist()
            assert len(mine) == len(tails[query])
            assert set(mine) == tails[query]
        # The slot of an answer leads to the edge that says it.
        assert [edges[edge] for edge in edge_of_answer[slot].tolist()] == asked
        seen.update(asked)
    # An epoch asks for each train triple from both of its ends, once.
    assert seen == Counter(tuples_of(triples))


def test_epoch_order_is_a_permutation_by_seed_and_epoch() -> None:
    orders = {
        (seed, epoch): epoch_order(50, seed, epoch) for seed in range(3) for epoch in range(4)
    }
    torch.manual_seed(123)
    state = torch.get_rng_state()
    for (seed, epoch), order in orders.items():
        assert order.dtype == torch.long
        assert sorted(order.tolist()) == list(range(50))
        assert torch.equal(epoch_order(50, seed, epoch), order)
    assert len({tuple(order.tolist()) for order in orders.values()}) == len(orders)
    assert torch.equal(torch.get_rng_state(), state)  # it draws from no shared generator
    assert sorted(epoch_order(5, 2**62, 10**6).tolist()) == list(range(5))


def ends(graph: KnowledgeGraph, head: int, path: list[int]) -> set[int]:
    """The entities at the end of a path, found by following every edge of each relation."""
    reached = {head}
    for relation in path:
        reached = {t for h, r, t in edges_of(graph) if r == relation and h in reached}
    return reached


def paths_of(batch: Batch) -> list[list[int]]:
    return [
        path[:length]
        for path, length in zip(batch.path.tolist(), batch.length.tolist(), strict=True)
    ]


@pytest.mark.parametrize("max_length", [2, 4])
def test_walks_follow_edges(dataset: KGDataset, max_length: int) -> None:
    graph = KnowledgeGraph.from_dataset(dataset)
    torch.manual_seed(10)
    batch = Batch.of_walks(WalkSampler(graph, max_length).walks(300, least=2))
    assert batch.path.shape == (300, max_length)
    assert batch.position.tolist() == list(range(300))  # one answer a walk
    assert set(batch.length.tolist()) == set(range(2, max_length + 1))
    beyond = torch.arange(max_length) >= batch.length.unsqueeze(1)
    assert not batch.path[beyond].any()
    for head, path, tail in zip(
        batch.head.tolist(), paths_of(batch), batch.tail.tolist(), strict=True
    ):
        assert tail in ends(graph, head, path)


def test_walks_start_at_every_edge_and_draw_from_the_default_generator(
    dataset: KGDataset,
) -> None:
    graph = KnowledgeGraph.from_dataset(dataset)
    sampler = WalkSampler(graph, 3)
    torch.manual_seed(11)
    batch = Batch.of_walks(sampler.walks(5000, least=2))
    starts = set(zip(batch.head.tolist(), batch.path[:, 0].tolist(), strict=True))
    assert starts == {(head, relation) for head, relation, _ in edges_of(graph)}
    torch.manual_seed(11)
    again = Batch.of_walks(sampler.walks(5000, least=2))
    assert torch.equal(again.path, batch.path)
    assert torch.equal(again.tail, batch.tail)
    assert not torch.equal(Batch.of_walks(sampler.walks(5000, least=2)).path, batch.path)


def test_walks_never_turn_back_where_there_is_another_way() -> None:
    dataset = ring()
    # Every entity of the whole ring has six edges out, one of each relation id.
    whole = torch.cat([dataset.train, dataset.valid, dataset.test]).tolist()
    graph = KnowledgeGraph.from_dataset(
        in_memory(whole, [], [], dataset.num_entities, dataset.num_relations)
    )
    torch.manual_seed(12)
    batch = Batch.of_walks(WalkSampler(graph, 4).walks(4000, least=2))
    half = dataset.num_relations
    steps = Counter((b - a) % (2 * half) for path in paths_of(batch) for a, b in pairwise(path))
    assert steps[half] == 0  # r⁻¹ after r
    # All else is as likely: five of six edges, 8,000 steps, standard deviation 0.45 points.
    assert all(abs(count / steps.total() - 0.2) < 0.02 for count in steps.values())
    followed = Counter(pair for path in paths_of(batch) for pair in pairwise(path))
    assert len(followed) == 2 * half * (2 * half - 1)


def test_walks_turn_back_where_there_is_no_other_way() -> None:
    graph = KnowledgeGraph.from_dataset(in_memory([(0, 0, 1)], [], [], num_entities=2))
    torch.manual_seed(13)
    batch = Batch.of_walks(WalkSampler(graph, 5).walks(50, least=2))
    for head, path, tail in zip(
        batch.head.tolist(), paths_of(batch), batch.tail.tolist(), strict=True
    ):
        assert path == [(head + step) % 2 for step in range(len(path))]
        assert tail == (head + len(path)) % 2


def test_walks_tell_their_entities_and_edges(dataset: KGDataset) -> None:
    graph = KnowledgeGraph.from_dataset(dataset)
    torch.manual_seed(14)
    walks = WalkSampler(graph, 3).walks(300)
    assert set(walks.length.tolist()) == {1, 2, 3}
    edges, lengths = edges_of(graph), walks.length.tolist()
    for i, length in enumerate(lengths):
        assert walks.taken[i].tolist() == [step < length for step in range(3)]
        assert walks.end[i] == walks.entity[i, length]
        for step in range(length):
            head, relation, tail = edges[walks.edge[i, step]]
            assert head == walks.entity[i, step]
            assert relation == walks.relation[i, step]
            assert tail == walks.entity[i, step + 1]
    some = walks[torch.tensor([7, 2])]
    assert torch.equal(some.entity, walks.entity[[7, 2]])
    assert some.length.tolist() == [lengths[7], lengths[2]]


def test_walks_with_a_generator_leave_the_default_alone(dataset: KGDataset) -> None:
    graph = KnowledgeGraph.from_dataset(dataset)
    state = torch.get_rng_state()
    first, again, other = (
        WalkSampler(graph, 3, torch.Generator().manual_seed(seed)).walks(50) for seed in (1, 1, 2)
    )
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(first.edge, again.edge)
    assert not torch.equal(first.edge, other.edge)


def test_walks_through_edges_take_one_of_them_anywhere() -> None:
    dataset = ring()
    graph = KnowledgeGraph.from_dataset(dataset)
    wanted = torch.tensor([3, 40])
    sampler = WalkSampler(graph, 3, torch.Generator().manual_seed(15))
    walks = sampler.walks_through(wanted, 6000)
    edges = edges_of(graph)
    places: dict[int, Counter[int]] = {1: Counter(), 2: Counter(), 3: Counter()}
    for i, length in enumerate(walks.length.tolist()):
        path = walks.edge[i, :length].tolist()
        assert all(edges[a][2] == edges[b][0] for a, b in pairwise(path))
        assert all(graph.inverse[a] != b for a, b in pairwise(path))  # of several ways on
        assert walks.entity[i, : length + 1].tolist() == [
            edges[path[0]][0],
            *(edges[e][2] for e in path),
        ]
        assert set(path) & set(wanted.tolist())
        places[length].update([place for place, edge in enumerate(path) if edge in wanted][:1])
    for length, counted in places.items():
        assert abs(counted.total() / 6000 - 1 / 3) < 0.03
        # As likely at each place; standard deviation 1 point.
        assert all(abs(n / counted.total() - 1 / length) < 0.05 for n in counted.values())


def test_walks_conditioned_on_an_edge_are_walks_through_it() -> None:
    """A walk from the edge in both directions has its probability given that it has the edge."""
    graph = KnowledgeGraph.from_dataset(in_memory(
        [(0, 0, 1), (1, 0, 2), (1, 0, 3), (3, 0, 4), (3, 0, 0)], [], [], num_entities=5
    ))  # fmt: skip
    edge = 2
    sampler = WalkSampler(graph, 3, torch.Generator().manual_seed(16))
    through = sampler.walks_through(torch.tensor([edge]), 10_000)
    whole = sampler.walks(60_000)

    def counted(walks: Walks) -> Counter[tuple[int, ...]]:
        paths = walks.edge[(walks.length == 3) & (walks.edge[:, 1] == edge)].tolist()
        return Counter(map(tuple, paths))

    mine, expected = counted(through), counted(whole)
    assert mine.keys() == expected.keys()
    for path, count in expected.items():
        assert abs(mine[path] / mine.total() - count / expected.total()) < 0.06
