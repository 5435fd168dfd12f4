"""Next steps and routes, compared with scoring every step and enumerating every path."""

from __future__ import annotations

from itertools import product

import pytest
import torch

from kgtool.data.dataset import KGDataset
from kgtool.graph.knowledge_graph import KnowledgeGraph
from kgtool.inference.walks import likeliest_routes, next_steps, walk_ends
from tests.support.graphs import edges_of, random_dataset
from tests.unit.models.test_walk_gru import R, Slow, make_reader
from tests.unit.training.test_batches import ends

LONGEST = 3


@pytest.fixture(scope="module")
def graph() -> KnowledgeGraph:
    dataset: KGDataset = random_dataset(8)
    return KnowledgeGraph.from_dataset(dataset)


@torch.no_grad()
def every_route(slow: Slow, head: int, tail: int | None) -> dict[tuple[int, ...], float]:
    """The probability of every path of at most `LONGEST` steps."""
    return {
        path: float(slow.path(head, path, tail).prod())
        for length in range(1, LONGEST + 1)
        for path in product(range(R), repeat=length)
    }


@pytest.mark.parametrize("tail", [None, 4])
@pytest.mark.parametrize("seed", range(3))
def test_a_wide_beam_finds_what_enumeration_finds(
    graph: KnowledgeGraph, seed: int, tail: int | None
) -> None:
    reader = make_reader(seed)
    expected = every_route(Slow(reader), 1, tail)
    for top in (1, 7, len(expected)):
        found = likeliest_routes(reader, graph, 1, tail, max_length=LONGEST, top=top)
        best = sorted(expected, key=lambda path: -expected[path])[:top]
        assert [route.relations for route in found] == best
        values = [expected[path] for path in best]
        assert [route.probability for route in found] == pytest.approx(values)
        for route in found:
            reached = ends(graph, 1, list(route.relations))
            assert route.ends == len(reached)
            assert route.arrives == (None if tail is None else tail in reached)


def test_a_narrow_beam_gives_paths_of_the_same_probability(graph: KnowledgeGraph) -> None:
    reader = make_reader(1)
    expected = every_route(Slow(reader), 1, None)
    found = likeliest_routes(reader, graph, 1, None, max_length=LONGEST, top=5, beam=2)
    assert len(found) == 5
    assert len({route.relations for route in found}) == 5
    values = [route.probability for route in found]
    assert values == pytest.approx([expected[route.relations] for route in found])
    assert values == sorted(values, reverse=True)


def test_a_shorter_search_gives_the_short_paths(graph: KnowledgeGraph) -> None:
    reader = make_reader(2)
    expected = every_route(Slow(reader), 0, None)
    found = likeliest_routes(reader, graph, 0, None, max_length=1, top=50)
    assert {route.relations: route.probability for route in found} == pytest.approx(
        {path: p for path, p in expected.items() if len(path) == 1}
    )


@pytest.mark.parametrize("walk", [([3], []), ([3, 0, 2], [1, 5])])
@pytest.mark.parametrize("relations_at_a_time", [1, 16])
def test_next_steps_are_the_best_of_all(
    graph: KnowledgeGraph,
    monkeypatch: pytest.MonkeyPatch,
    walk: tuple[list[int], list[int]],
    relations_at_a_time: int,
) -> None:
    monkeypatch.setattr("kgtool.inference.walks.RELATIONS", relations_at_a_time)
    reader = make_reader(3)
    slow, (entities, relations) = Slow(reader), walk
    with torch.no_grad():
        state = slow.entities[entities[0]]
        for relation, entity in zip(relations, entities[1:], strict=True):
            state = slow.arrive(slow.take(state, relation), entity)
        first = slow.of_relation(state)
        both = {
            (r, e): float(first[r] * p)
            for r in range(R)
            for e, p in enumerate(slow.of_entity(slow.take(state, r)).tolist())
        }
    assert sum(both.values()) == pytest.approx(1)
    edges = set(edges_of(graph))
    for top in (1, 6, len(both) + 3):
        found = next_steps(reader, graph, entities, relations, top)
        best = sorted(both, key=lambda step: -both[step])[:top]
        assert [(step.relation, step.entity) for step in found] == best
        assert [step.probability for step in found] == pytest.approx([both[step] for step in best])
        for step in found:
            assert step.of_relation == pytest.approx(float(first[step.relation]))
            assert step.is_known == ((entities[-1], step.relation, step.entity) in edges)


def test_ends_of_walks(graph: KnowledgeGraph) -> None:
    for path in ([], [0], [0, 3], [5, 2, 2], [1, 1, 4]):
        for head in (0, 5, 11):
            found = torch.nonzero(walk_ends(graph, head, path)).flatten().tolist()
            assert set(found) == ends(graph, head, path)
