"""The shares of walks, compared with an enumeration of all walks."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import pytest
from numpy.typing import NDArray

from kgtool.graph.knowledge_graph import KnowledgeGraph
from kgtool.ops import relation_walks
from kgtool.ops.graph import relation_walks as module
from tests.support.graphs import edges_of, random_dataset


def walks_of(graph: KnowledgeGraph, q: int) -> NDArray[np.float64]:
    counts = np.bincount(graph.csc.type, minlength=graph.num_relation_ids)
    return relation_walks(graph.csc, counts, q)


def share(part: int, whole: int) -> float:
    return part / whole if whole else 0.0


def enumerated(graph: KnowledgeGraph, q: int) -> list[list[float]]:
    """The shares of each relation id, edge by edge and walk by walk."""
    edges = edges_of(graph)
    leaving = defaultdict(list)
    for h, r, t in edges:
        leaving[h].append((r, t))
    pairs = {(h, t) for h, r, t in edges if r == q}
    heads = {h for h, _ in pairs}
    found = []
    for r in range(graph.num_relation_ids):
        of_type = [(h, t) for h, kind, t in edges if kind == r]
        of_heads = [each for each in of_type if each[0] in heads]
        walks = [(h, v) for h, u in of_heads for _, v in leaving[u]]
        both = len(pairs & set(of_type))
        found.append(
            [
                share(both, len(pairs)),
                share(both, len(of_type)),
                share(both, len(of_heads)),
                share(len(pairs & set(walks)), len(pairs)),
                share(sum(walk in pairs for walk in walks), len(walks)),
            ]
        )
    return found


@pytest.mark.parametrize("seed", range(4))
def test_shares_equal_an_enumeration(seed: int) -> None:
    graph = KnowledgeGraph.from_dataset(random_dataset(seed, num_train=30))
    for q in range(graph.num_relation_ids):
        found = walks_of(graph, q)
        np.testing.assert_allclose(found, enumerated(graph, q), atol=1e-12)


def test_a_relation_without_edges_has_no_walks() -> None:
    graph = KnowledgeGraph.from_dataset(random_dataset(0))
    found = walks_of(graph, 1)
    assert found.shape == (6, module.NUM_WALKS)
    assert not found.any()


def test_of_many_pairs_some_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = KnowledgeGraph.from_dataset(random_dataset(1, num_entities=300, num_train=2000))
    whole = walks_of(graph, 0)
    assert len(graph.find(graph.triples()[graph.relation == 0])) > 600
    monkeypatch.setattr(module, "PAIRS", 400)
    part = walks_of(graph, 0)
    assert not np.array_equal(part, whole)
    np.testing.assert_allclose(part, whole, atol=0.1)
    np.testing.assert_allclose(part[0, :3], [1, 1, 1])  # the relation itself
