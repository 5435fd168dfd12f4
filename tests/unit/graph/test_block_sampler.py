"""Sampled neighbourhoods as DGL blocks, in DGL's data loader and in layers."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import dgl
import pytest
import torch
from torch import Tensor

from kgtool.graph.block_sampler import InEdgeSampler
from kgtool.graph.knowledge_graph import KnowledgeGraph
from kgtool.graph.sampling import draw_around
from kgtool.models.rgcn import Decomposition, RGCNEncoder, RGCNLayer
from tests.support.graphs import edges_of, random_dataset

FANOUT = 3
EXCLUDED = torch.tensor([2, 9, 30])


@pytest.fixture(scope="module")
def graph() -> KnowledgeGraph:
    return KnowledgeGraph.from_dataset(random_dataset(3))


def check_blocks(
    graph: KnowledgeGraph, seeds: Tensor, result: tuple[Tensor, Tensor, list[dgl.DGLGraph]]
) -> None:
    """The blocks lead to the seeds by edges of the graph, at most `FANOUT` and none excluded."""
    inputs, outputs, blocks = result
    triples, gone = edges_of(graph), {*EXCLUDED.tolist(), *graph.inverse[EXCLUDED].tolist()}
    assert torch.equal(outputs, seeds)
    assert torch.equal(inputs, blocks[0].srcdata[dgl.NID])
    assert torch.equal(blocks[-1].dstdata[dgl.NID], seeds.int())
    for before, after in pairwise(blocks):
        assert torch.equal(before.dstdata[dgl.NID], after.srcdata[dgl.NID])
    degree = Counter(t for e, (_, _, t) in enumerate(triples) if e not in gone)
    for block in blocks:
        assert block.is_block
        assert block.idtype == torch.int32
        source, target = block.srcdata[dgl.NID].tolist(), block.dstdata[dgl.NID].tolist()
        assert source[: len(target)] == target
        assert len(set(source)) == len(source)
        heads, tails = (ids.tolist() for ids in block.edges())
        kinds, edges = block.edata[dgl.ETYPE].tolist(), block.edata[dgl.EID].tolist()
        expected = [triples[e] for e in edges]
        found = zip(heads, kinds, tails, strict=True)
        assert [(source[h], r, target[t]) for h, r, t in found] == expected
        assert len(set(edges)) == len(edges)
        assert not set(edges) & gone
        num_drawn = Counter(t for _, _, t in expected)
        assert max(num_drawn.values()) <= FANOUT
        few = [t for t in target if graph.csc.degree[t] <= FANOUT]
        assert [num_drawn[t] for t in few] == [degree[t] for t in few]
        assert set(source[len(target) :]) <= {h for h, _, _ in expected}


@pytest.mark.filterwarnings("ignore:Dataloader CPU affinity opt is not enabled")
def test_blocks_of_a_data_loader(graph):
    sampler = InEdgeSampler(graph, FANOUT, 2, EXCLUDED)
    nodes = torch.randperm(graph.num_entities, generator=torch.Generator().manual_seed(1))
    loader = dgl.dataloading.DataLoader(graph.flat, nodes, sampler, batch_size=5, num_workers=0)
    batches = list(loader)
    assert len(batches) == 3
    for seeds, result in zip(nodes.split(5), batches, strict=True):
        check_blocks(graph, seeds, result)


@pytest.mark.filterwarnings("ignore:Dataloader CPU affinity opt is not enabled")
def test_target_edges_and_their_inverses_carry_no_message(graph):
    edges = dgl.dataloading.as_edge_prediction_sampler(
        InEdgeSampler(graph, 1000, 1), exclude="self"
    )
    indices = torch.arange(graph.num_edges, dtype=torch.int32)
    loader = dgl.dataloading.DataLoader(graph.flat, indices, edges, batch_size=20)
    for _, pairs, (block,) in loader:
        gone = pairs.edata[dgl.EID].long()
        gone = {*gone.tolist(), *graph.inverse[gone].tolist()}
        nodes = set(block.dstdata[dgl.NID].tolist())
        into = {e for e, (_, _, tail) in enumerate(edges_of(graph)) if tail in nodes}
        assert sorted(block.edata[dgl.EID].tolist()) == sorted(into - gone)


def test_samples_are_those_of_any_number_of_threads(graph):
    seeds, threads = torch.tensor([7, 0, 5, 2]), torch.get_num_threads()
    sampler, samples = InEdgeSampler(graph, 2, 2, EXCLUDED), []
    try:
        for num_threads in (1, 2):
            torch.set_num_threads(num_threads)
            torch.manual_seed(3)
            samples.append(sampler.sample_blocks(graph.flat, seeds)[2])
    finally:
        torch.set_num_threads(threads)
    for one, two in zip(*samples, strict=True):
        for name in (dgl.EID, dgl.ETYPE, "norm"):
            assert torch.equal(one.edata[name], two.edata[name])
        assert torch.equal(one.srcdata[dgl.NID], two.srcdata[dgl.NID])
    torch.manual_seed(4)
    other = sampler.sample_blocks(graph.flat, seeds)[2]
    assert other[1].edata[dgl.EID].tolist() != samples[0][1].edata[dgl.EID].tolist()


@pytest.mark.parametrize("decomposition", ["basis", "block"])
def test_layers_read_blocks_as_the_encoder_reads_its_sample(graph, decomposition: Decomposition):
    torch.manual_seed(1)
    encoder = RGCNEncoder(
        graph.num_entities, 3, 6, 2, decomposition=decomposition, num_parts=3
    ).eval()
    seeds = torch.tensor([7, 0, 11, 5])
    entity, position = torch.unique(seeds, return_inverse=True)
    torch.manual_seed(2)
    around = draw_around(graph, entity, 2, FANOUT, EXCLUDED)
    expected = encoder.of_some(encoder.entities[around.entity], around)[0][position]
    torch.manual_seed(2)
    inputs, _, blocks = InEdgeSampler(graph, FANOUT, 2, EXCLUDED).sample_blocks(graph.flat, seeds)
    h = encoder.entities[inputs.long()]
    for block, layer, norm in zip(blocks, encoder.layers, encoder.norms, strict=True):
        assert isinstance(layer, RGCNLayer)
        etype, scale = block.edata[dgl.ETYPE], block.edata["norm"]
        message = layer(block, h, etype, scale)
        torch.testing.assert_close(message, layer.to_dgl()(block, h, etype, scale))
        h = h[: block.num_dst_nodes()] + torch.tanh(norm(message))
    torch.testing.assert_close(h, expected)


def test_a_block_without_edges(graph):
    isolated = torch.tensor([graph.num_entities - 1])
    assert graph.csc.degree[-1] == 0
    _, _, (block,) = InEdgeSampler(graph, FANOUT, 1).sample_blocks(graph.flat, isolated)
    assert (block.num_src_nodes(), block.num_dst_nodes(), block.num_edges()) == (1, 1, 0)
    layer, h = RGCNLayer(6, 6, graph.num_relation_ids), torch.randn(1, 6)
    message = layer(block, h, block.edata[dgl.ETYPE], block.edata["norm"])
    torch.testing.assert_close(message, h @ layer.self_loop)


def test_wrong_calls(graph):
    with pytest.raises(ValueError, match="0 layers"):
        InEdgeSampler(graph, FANOUT, 0)
    sampler = InEdgeSampler(graph, FANOUT, 1)
    with pytest.raises(ValueError, match="another knowledge graph"):
        sampler.sample_blocks(graph.flat.clone(), torch.tensor([1]))
    with pytest.raises(ValueError, match="repeated"):
        sampler.sample_blocks(graph.flat, torch.tensor([1, 1]))
