"""The part of a graph around an entity, compared with a loop."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from kgtool.graph.knowledge_graph import KnowledgeGraph
from kgtool.ops import neighbourhood
from kgtool.ops.all_paths import neighbourhood as module
from tests.support.graphs import edges_of, random_dataset
from tests.support.runs import in_memory

STEPS = 3


def slow_walk(graph: KnowledgeGraph, head: int, most: int, reads: int) -> list[int]:
    """The entities that the random walk keeps, by its definition."""
    neighbours: list[list[int]] = [[] for _ in range(graph.num_entities)]
    for u, _, v in edges_of(graph):
        neighbours[v].append(u)
    weight = {head: 1.0}  # in the order of discovery
    for _ in range(STEPS):
        share = {u: w / max(len(neighbours[u]), 1) for u, w in weight.items()}
        brought = dict.fromkeys(weight, 0.0)
        left = reads
        for u in sorted(weight, key=lambda u: -share[u]):
            read = min(len(neighbours[u]), left)
            left -= read
            for i in range(read):
                v = neighbours[u][i * len(neighbours[u]) // read]
                brought[v] = brought.get(v, 0.0) + share[u]
        new = [v for v in brought if v not in weight]
        kept = set(sorted(new, key=lambda v: -brought[v])[:most])
        weight = {u: w + brought[u] for u, w in weight.items()}
        weight |= {v: brought[v] for v in new if v in kept}
    return sorted(weight)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("most", [1, 3, 8])
def test_the_part_is_that_of_a_loop(seed, most, monkeypatch):
    monkeypatch.setattr(module, "EDGES_AN_ENTITY", 5)
    dataset = random_dataset(seed, num_entities=40, num_train=120)
    graph = KnowledgeGraph.from_dataset(dataset)
    for head in (0, 5, 39):  # the last one has no edge
        part, entities = graph.around(head, STEPS, most)
        ids = entities.tolist()
        assert ids == slow_walk(graph, head, most, 5 * most)
        assert len(ids) <= 1 + STEPS * most
        inside = [(u, r, v) for u, r, v in edges_of(graph) if u in ids and v in ids]
        assert [(ids[u], r, ids[v]) for u, r, v in edges_of(part)] == inside


def test_a_large_budget_keeps_all_that_paths_reach():
    dataset = in_memory([(i, 0, i + 1) for i in range(9)], [], [], 10, 1)
    part, entities = KnowledgeGraph.from_dataset(dataset).around(4, STEPS, 100)
    assert entities.tolist() == list(range(1, 8))
    assert part.num_edges == 2 * 6


def test_of_the_edges_of_a_hub_some_of_each_relation_are_read(monkeypatch):
    monkeypatch.setattr(module, "EDGES_AN_ENTITY", 2)
    dataset = in_memory([(0, i // 50, 1 + i) for i in range(200)], [], [], 201, 4)
    part, entities = KnowledgeGraph.from_dataset(dataset).around(0, 1, 10)
    assert len(entities) == 11
    assert set(part.relation.tolist()) >= {0, 1}


def test_edges_keep_their_weights():
    dataset = random_dataset(1)
    weight = torch.linspace(0.1, 1, len(dataset.train))
    graph = KnowledgeGraph.from_dataset(replace(dataset, weights={"train": weight}))
    entity, edges = neighbourhood(graph.csc, 3, 1, 4)
    part = KnowledgeGraph(edges, graph.num_relation_ids)
    triples = part.triples()
    triples[:, ::2] = torch.from_numpy(entity).long()[triples[:, ::2]]
    assert part.weight is not None
    assert graph.weight is not None
    np.testing.assert_array_equal(part.weight, graph.weight[graph.find(triples)])
