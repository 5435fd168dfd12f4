"""The graph of relations, compared with a loop over entities."""

from __future__ import annotations

from collections import Counter, defaultdict

import pytest
import torch

from kgtool.graph import relation_graph
from kgtool.graph.knowledge_graph import KnowledgeGraph
from kgtool.graph.relation_graph import KINDS, NUM_MET, NUM_STATISTICS, RelationGraph
from kgtool.ops import relation_walks
from tests.support.graphs import edges_of, random_dataset


def graph_of(seed: int) -> KnowledgeGraph:
    return KnowledgeGraph.from_dataset(random_dataset(seed))


def ends(graph: KnowledgeGraph) -> tuple[dict[int, set[int]], dict[int, set[int]]]:
    """The heads and the tails of each relation id."""
    heads, tails = defaultdict(set), defaultdict(set)
    for h, r, t in edges_of(graph):
        heads[r].add(h)
        tails[r].add(t)
    return heads, tails


@pytest.mark.parametrize("seed", range(3))
def test_each_kind_of_edge_counts_the_entities_where_two_relations_meet(seed: int) -> None:
    graph = graph_of(seed)
    heads, tails = ends(graph)
    found = RelationGraph(graph).heterograph
    assert found.etypes == sorted(KINDS)
    for kind in KINDS:
        source, target = (heads if end == "head" else tails for end in kind.split("-"))
        expected = Counter(
            {
                (r, other): len(source[r] & target[other])
                for r in range(graph.num_relation_ids)
                for other in range(graph.num_relation_ids)
                if source[r] & target[other] and (r != other or source is not target)
            }
        )
        ids = zip(*(end.tolist() for end in found.edges(etype=kind)), strict=True)
        counts = found.edges[kind].data["count"].tolist()
        assert dict(zip(ids, counts, strict=True)) == expected


def test_the_mean_equals_its_definition_dense_and_sparse(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = graph_of(0)
    heads, _ = ends(graph)
    size = graph.num_relation_ids
    mean = torch.zeros(size, size)
    for r in range(size):
        others = [o for o in range(size) if o != r and heads[o] & heads[r]]
        for o in others:
            mean[r, o] = 1 / len(others)
    torch.testing.assert_close(RelationGraph(graph).mean, mean)
    monkeypatch.setattr(relation_graph, "DENSE", 1)
    sparse = RelationGraph(graph).mean
    assert sparse.is_sparse
    states = torch.randn(size, 4, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(sparse @ states, mean @ states)


@pytest.mark.parametrize("seed", range(3))
def test_statistics_of_two_relations_are_those_of_their_entities_and_walks(seed: int) -> None:
    graph = graph_of(seed)
    heads, tails = ends(graph)
    size, met = graph.num_relation_ids, RelationGraph(graph)
    found = met.statistics(torch.arange(size))
    assert found.shape == (size, size, NUM_STATISTICS)
    counts = torch.bincount(graph.relation, minlength=size)
    for q in range(size):
        forth = relation_walks(graph.csc, counts.numpy(), q)
        back = relation_walks(graph.csc, counts.numpy(), int(met.opposite[q]))
        for r in range(size):
            inverse = int(met.opposite[r])
            shares = [
                len(of & to) / max(len(side), 1)
                for of in (heads[q], tails[q])
                for to in (heads[r], tails[r])
                for side in (of, to)
            ]
            assert len(shares) == NUM_MET
            shares += [*forth[r], *back[inverse][-2:]]
            sizes = [float(s) for i in (q, r) for s in (counts[i], len(heads[i]), len(tails[i]))]
            expected = torch.cat(
                [
                    torch.tensor(shares),
                    (999 * torch.tensor(shares)).log1p() / 7,
                    torch.tensor(sizes).log1p() / 5,
                ]
            )
            torch.testing.assert_close(found[q, r], expected.float())
