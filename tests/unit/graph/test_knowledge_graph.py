"""The heterograph and the knowledge graph, compared with sets of triples."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import dgl
import pytest
import torch

import kgtool
from kgtool.config import Config
from kgtool.data.dataset import ENTITY, KGDataset, edge_type, invert, with_inverses
from kgtool.graph.knowledge_graph import KnowledgeGraph
from kgtool.ops import CSC
from tests.support.graphs import Triple, edges_of, random_dataset, tensor_of, tuples_of
from tests.support.runs import all_paths_config, in_memory, ring, tiny_config, write_folder

# 3 relations give ids of one digit, 12 of two (24 ids), 60 of three (120 ids).
SIZES = [(12, 3, 50), (15, 12, 60), (20, 60, 90)]


@pytest.fixture(params=SIZES, ids=lambda size: f"{size[1]} relations")
def dataset(request: pytest.FixtureRequest) -> KGDataset:
    num_entities, num_relations, num_train = request.param
    return random_dataset(1, num_entities, num_relations, num_train)


def expected_edges(dataset: KGDataset) -> list[Triple]:
    return tuples_of(with_inverses(dataset.train, dataset.num_relations))


def one_way_graph() -> KnowledgeGraph:
    """One edge, without its inverse."""
    return KnowledgeGraph(CSC.from_edges(torch.tensor([0]), torch.tensor([1]), None, 3, 3), 2)


def test_edge_types_sort_as_their_ids() -> None:
    assert edge_type(2, 11) == "r02"
    assert edge_type(2, 10) == "r2"
    assert edge_type(0, 1) == "r0"
    for size in (1, 10, 11, 100, 101, 474):
        names = [edge_type(relation, size) for relation in range(size)]
        assert names == sorted(names)


def test_heterograph_has_each_relation_as_its_own_type(dataset: KGDataset) -> None:
    graph = dataset.graph
    assert graph is dataset.graph
    assert graph.idtype == torch.int32
    assert graph.ntypes == [ENTITY]
    assert graph.num_nodes(ENTITY) == dataset.num_entities
    count = dataset.num_relations
    names = [edge_type(relation, count) for relation in range(count)]
    assert graph.canonical_etypes == [(ENTITY, name, ENTITY) for name in names]
    for relation, name in enumerate(names):
        assert graph.get_etype_id(name) == relation
        head, tail = graph.edges(etype=name)
        of_relation = dataset.train[dataset.train[:, 1] == relation]
        assert torch.equal(torch.stack([head, tail], dim=1), of_relation[:, [0, 2]].int())


def test_relations_without_train_edges_keep_a_type(dataset: KGDataset) -> None:
    empty = dataset.num_relations - 2
    assert empty not in dataset.train[:, 1]
    assert dataset.graph.num_edges(edge_type(empty, dataset.num_relations)) == 0


def typed(dataset: KGDataset) -> KGDataset:
    """Three node types: every third entity is a gene, the next a disease, the last has no type."""
    types: dict[str, tuple[str, ...]] = {}
    for i, label in enumerate(dataset.vocabulary.entities):
        if i % 3 < 2:
            types[label] = (("gene", "protein"), ("disease",))[i % 3]
    return replace(dataset, types=types)


def test_entity_types_are_node_types(dataset: KGDataset) -> None:
    graph = typed(dataset).graph
    assert graph.idtype == torch.int32
    assert graph.ntypes == ["disease", ENTITY, "gene"]
    for name, first in (("gene", 0), ("disease", 1), (ENTITY, 2)):
        ids = graph.nodes[name].data[dgl.NID]
        assert ids.tolist() == list(range(first, dataset.num_entities, 3))
    edges = []
    for kind in graph.canonical_etypes:
        head, tail = graph.edges(etype=kind)
        heads, tails = (graph.nodes[end].data[dgl.NID].long() for end in kind[::2])
        triples = zip(heads[head.long()].tolist(), tails[tail.long()].tolist(), strict=True)
        edges += [(h, int(kind[1][1:]), t) for h, t in triples]
    assert sorted(edges) == sorted(tuples_of(dataset.train))
    names = {edge_type(r, dataset.num_relations) for r in range(dataset.num_relations)}
    assert set(graph.etypes) == names  # a relation without train edges too


def test_entity_types_do_not_change_the_knowledge_graph(dataset: KGDataset) -> None:
    graph = KnowledgeGraph.from_dataset(typed(dataset))
    untyped = KnowledgeGraph.from_dataset(dataset)
    assert graph.num_entities == dataset.num_entities
    for ours, theirs in zip(
        graph.flat.adj_tensors("csc"), untyped.flat.adj_tensors("csc"), strict=True
    ):
        assert torch.equal(ours, theirs)
    assert torch.equal(graph.relation, untyped.relation)


def test_the_flat_graph_shares_the_arrays_of_the_kernels(dataset: KGDataset) -> None:
    graph = KnowledgeGraph.from_dataset(dataset)
    flat = graph.flat
    assert flat.idtype == torch.int32
    assert flat.is_homogeneous
    assert flat.formats()["created"] == ["csc"]
    indptr, indices, ids = flat.adj_tensors("csc")
    assert len(ids) == 0
    pairs = [
        (indptr, graph.csc.offsets), (indices, graph.csc.source),
        (flat.edata[dgl.ETYPE], graph.csc.type),
    ]  # fmt: skip
    for theirs, ours in pairs:
        assert theirs.dtype == torch.int32
        assert theirs.data_ptr() == ours.ctypes.data
        assert theirs.tolist() == ours.tolist()
    head, tail = flat.edges()
    triples = torch.stack([head, flat.edata[dgl.ETYPE], tail], dim=1)
    assert tuples_of(triples) == edges_of(graph)


def test_knowledge_graph_is_train_and_inverses_in_order(dataset: KGDataset) -> None:
    graph = KnowledgeGraph.from_dataset(dataset)
    edges = edges_of(graph)
    assert sorted(edges) == sorted(expected_edges(dataset))
    assert edges == sorted(edges, key=lambda edge: (edge[2], edge[1], edge[0]))
    assert (graph.num_entities, graph.num_relation_ids, graph.num_edges) == (
        dataset.num_entities,
        2 * dataset.num_relations,
        2 * len(dataset.train),
    )
    # What is to be predicted carries no message.
    held_out = with_inverses(torch.cat([dataset.valid, dataset.test]), dataset.num_relations)
    assert len(held_out) == 12
    assert set(edges).isdisjoint(tuples_of(held_out))


def test_knowledge_graph_is_that_of_dgl(dataset: KGDataset) -> None:
    """DGL's own flat graph of the heterograph holds the same edges, without the inverses."""
    graph = KnowledgeGraph.from_dataset(dataset)
    flat = dgl.to_homogeneous(dataset.graph)
    head, tail = flat.edges()
    direct = tuples_of(torch.stack([head, flat.edata[dgl.ETYPE], tail], dim=1))
    assert sorted(direct) == sorted(e for e in edges_of(graph) if e[1] < dataset.num_relations)
    for name in ("offsets", "head", "relation", "tail", "inverse"):
        assert getattr(graph, name).dtype == torch.int32, name


def test_some_entities_hold_the_edges_into_them(dataset: KGDataset) -> None:
    held = torch.arange(dataset.num_entities) % 3 == 1
    part = KnowledgeGraph.from_dataset(dataset, held)
    whole = edges_of(KnowledgeGraph.from_dataset(dataset))
    assert edges_of(part) == [edge for edge in whole if held[edge[2]]]
    assert part.num_entities == dataset.num_entities


def test_triples_of_some_edges(dataset: KGDataset) -> None:
    graph = KnowledgeGraph.from_dataset(dataset)
    edges = torch.randperm(graph.num_edges, generator=torch.Generator().manual_seed(1))
    assert torch.equal(graph.triples(edges), graph.triples()[edges])
    assert graph.triples().dtype == graph.triples(edges).dtype == torch.int64


def test_groups_are_numbered_by_tail_and_relation(dataset: KGDataset) -> None:
    graph = KnowledgeGraph.from_dataset(dataset)
    pairs = [(tail, relation) for _, relation, tail in edges_of(graph)]
    number = {pair: i for i, pair in enumerate(sorted(set(pairs)))}
    assert graph.group.tolist() == [number[pair] for pair in pairs]
    assert graph.num_groups == len(number)
    assert graph.groups.tolist() == [list(pair) for pair in number]


def test_a_subgraph_is_the_graph_of_some_triples(dataset: KGDataset) -> None:
    graph = KnowledgeGraph.from_dataset(dataset)
    kept = graph.draw(0.5, torch.Generator().manual_seed(0))
    part = graph.subgraph(kept)
    train = [t for t in edges_of(part) if t[1] < dataset.num_relations]
    assert 0 < len(train) < len(dataset.train)
    same = KnowledgeGraph.from_dataset(
        in_memory(train, [], [], dataset.num_entities, dataset.num_relations)
    )
    assert edges_of(part) == edges_of(same)
    assert torch.equal(part.group, same.group)
    assert torch.equal(part.inverse, same.inverse)


def test_find_and_inverse(dataset: KGDataset) -> None:
    graph = KnowledgeGraph.from_dataset(dataset)
    edges = edges_of(graph)
    shuffled = with_inverses(dataset.train, dataset.num_relations)
    assert [edges[i] for i in graph.find(shuffled).tolist()] == tuples_of(shuffled)
    half = dataset.num_relations
    assert [edges[i] for i in graph.inverse.tolist()] == [
        (tail, relation + half if relation < half else relation - half, head)
        for head, relation, tail in edges
    ]
    assert torch.equal(graph.inverse[graph.inverse], torch.arange(graph.num_edges))
    for absent in (dataset.valid, invert(dataset.test, half)):
        with pytest.raises(ValueError, match="not in the knowledge graph"):
            graph.find(torch.cat([shuffled, absent]))
    # Ids out of range are no edge either, whatever edge their key would stand for.
    num_entities, num_ids = graph.num_entities, graph.num_relation_ids
    head, relation, tail = next(edge for edge in edges if edge[1] and edge[2])
    for triple in [
        (head + num_entities, relation - 1, tail),
        (head, relation + num_ids, tail - 1),
        (head - num_entities, relation, tail),
        (0, 0, num_entities),
    ]:
        with pytest.raises(ValueError, match="not in the knowledge graph"):
            graph.find(tensor_of([triple]))


def test_an_edge_without_its_inverse_is_refused() -> None:
    graph = one_way_graph()
    assert edges_of(graph) == [(0, 0, 1)]
    with pytest.raises(ValueError, match="not in the knowledge graph"):
        _ = graph.inverse


def test_scale_is_one_over_the_kept_edges_of_the_group(dataset: KGDataset) -> None:
    graph = KnowledgeGraph.from_dataset(dataset)
    kept = torch.rand(graph.num_edges, generator=torch.Generator().manual_seed(2)) < 0.6
    kept[graph.group == graph.group[0]] = False  # a group that loses all
    for mask in (None, kept, torch.ones_like(kept), torch.zeros_like(kept)):
        here = [True] * graph.num_edges if mask is None else mask.tolist()
        pairs = [(tail, relation) for _, relation, tail in edges_of(graph)]
        count = Counter(pair for pair, present in zip(pairs, here, strict=True) if present)
        expected = [
            1 / count[pair] if present else 0.0 for pair, present in zip(pairs, here, strict=True)
        ]
        scale = graph.scale(mask, torch.float64)
        assert scale.tolist() == expected
        assert graph.scale(mask, torch.float32).dtype == torch.float32


def test_edge_types_out_of_order_are_refused() -> None:
    pair = (torch.tensor([0]), torch.tensor([1]))
    for names in (["likes", "knows"], [f"r{i}" for i in range(12)], ["r1", "r2"]):
        graph = dgl.heterograph({(ENTITY, name, ENTITY): pair for name in names})
        with pytest.raises(ValueError, match="relation ids in order"):
            KnowledgeGraph.from_heterograph(graph)


def test_graph_without_edges() -> None:
    nothing = torch.tensor([], dtype=torch.long)
    graph = KnowledgeGraph(CSC.from_edges(nothing, nothing, None, 3, 3), 4)
    assert (graph.num_edges, graph.num_groups) == (0, 0)
    assert graph.groups.shape == (0, 2)
    assert graph.inverse.tolist() == []
    assert graph.find(tensor_of([])).tolist() == []
    assert graph.scale(None, torch.float64).tolist() == []
    with pytest.raises(ValueError, match="not in the knowledge graph"):
        graph.find(tensor_of([(0, 0, 1)]))


@pytest.mark.parametrize(
    "config",
    [
        tiny_config(),
        all_paths_config(),
        tiny_config(encoder={"fanout": 3}, num_negatives=20, optimizer="adagrad"),
    ],
    ids=["one path", "all paths", "drawn"],
)
def test_runs_go_through_the_dgl_graph(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, config: Config
) -> None:
    folder = write_folder(ring(), tmp_path / "ring")
    run = kgtool.train(config, kgtool.load_dataset(folder), tmp_path / "run", progress=False)

    def refuse(*_: object, **__: object) -> None:
        raise LookupError("no DGL")

    monkeypatch.setattr(dgl, "heterograph", refuse)
    data = kgtool.load_dataset(folder)
    with pytest.raises(LookupError, match="no DGL"):
        kgtool.train(config, data, tmp_path / "other", progress=False)
    with pytest.raises(LookupError, match="no DGL"):
        kgtool.evaluate(run)
    with pytest.raises(LookupError, match="no DGL"):
        kgtool.predict(run, [("e000", "r002", "?")])


@pytest.mark.parametrize("seed", range(3))
def test_a_graph_without_some_edges_is_that_of_the_other_triples(seed):
    dataset = random_dataset(seed)
    graph = KnowledgeGraph.from_dataset(dataset)
    gone = dataset.train[torch.randperm(len(dataset.train))[:5]]
    left = [t for t in dataset.train.tolist() if t not in gone.tolist()]
    found = graph.without(graph.find(gone))
    expected = KnowledgeGraph.from_dataset(replace(dataset, train=torch.tensor(left)))
    for name in ("offsets", "head", "relation", "inverse"):
        ours, theirs = getattr(found, name), getattr(expected, name)
        assert torch.equal(ours, theirs), name
        assert ours.dtype == theirs.dtype
    same = graph.without(torch.empty(0, dtype=torch.long))
    assert torch.equal(same.inverse, graph.inverse)
