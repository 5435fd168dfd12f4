"""Sampled neighbourhoods as DGL blocks, for `dgl.dataloading.DataLoader` and any DGL layer.

DGL's own sampler on the CPU gives other samples with another number of threads. This one gives
those of `draw_around`, which depend on torch's default generator alone.
"""

from __future__ import annotations

import torch
from torch import Tensor

from kgtool.graph.knowledge_graph import KnowledgeGraph
from kgtool.graph.sampling import Hop, draw_around
from kgtool.ops import CSC
from kgtool.ops.runtime.dgl import dgl


class InEdgeSampler(dgl.dataloading.BlockSampler):  # type: ignore[misc] # DGL has no types
    """A `dgl.dataloading.BlockSampler` over `KnowledgeGraph.flat`, for `num_workers=0`.

    In a block, the edges are in CSC order. Its data are `dgl.NID` of sources and destinations, and
    of edges `dgl.EID`, `dgl.ETYPE`, int32, and `"norm"`, `(e, 1)` float32, see `sample_in_edges`.

    Args:
        graph: the knowledge graph.
        fanout: the maximum number of in-edges of an entity in a block.
        num_layers: the number of blocks, 1 or more.
        excluded_edges: `(k,)` int edges that no block contains, nor their inverses.

    Raises:
        ValueError: when there are no layers.
    """

    def __init__(
        self,
        graph: KnowledgeGraph,
        fanout: int,
        num_layers: int,
        excluded_edges: Tensor | None = None,
    ) -> None:
        super().__init__()
        if num_layers < 1:
            raise ValueError(f"{num_layers} layers: a sample has one block or more")
        self.graph, self.fanout, self.num_layers = graph, fanout, num_layers
        no_edges = torch.empty(0, dtype=torch.long)
        self.excluded_edges = no_edges if excluded_edges is None else excluded_edges.long()

    def sample_blocks(
        self, g: dgl.DGLGraph, seed_nodes: Tensor, exclude_eids: Tensor | None = None
    ) -> tuple[Tensor, Tensor, list[dgl.DGLGraph]]:
        """Sample by torch's default generator.

        Args:
            g: the `flat` of the sampler's knowledge graph.
            seed_nodes: `(n,)` int, without duplicates.
            exclude_eids: `(k,)` int, more excluded edges; their inverses are excluded too.

        Returns:
            `(m,)` int32 sources of the first block, `seed_nodes`, and the blocks. The destinations
            of a block are its first sources, in the order of the next block's sources; those of the
            last block are `seed_nodes`.

        Raises:
            ValueError: when `g` is another graph, or a seed node is repeated.
        """
        if g is not self.graph.flat:
            raise ValueError("the sampler has another knowledge graph: pass its `flat`")
        entity, position = torch.unique(seed_nodes.long(), return_inverse=True)
        if len(entity) < len(seed_nodes):
            raise ValueError("a seed node is repeated")
        excluded_edges = self.excluded_edges
        if exclude_eids is not None:
            excluded_edges = torch.cat([excluded_edges, exclude_eids.long()])
        around = draw_around(self.graph, entity, self.num_layers, self.fanout, excluded_edges)
        layers, sources = [], around.entity
        for hop in around.hops:
            layers.append((hop, sources))
            sources = sources[hop.own]
        blocks: list[dgl.DGLGraph] = []
        for hop, sources in reversed(layers):
            block, position = _block(self.graph, hop, sources, position)
            blocks.insert(0, block)
        return blocks[0].srcdata[dgl.NID], seed_nodes, blocks


def _block(
    graph: KnowledgeGraph, hop: Hop, sources: Tensor, order: Tensor
) -> tuple[dgl.DGLGraph, Tensor]:
    """A hop as a block.

    Args:
        graph: the knowledge graph.
        hop: from m sources to n destinations.
        sources: `(m,)` int64 entities, ascending.
        order: `(n,)` int64, the destinations of the block, as positions among those of the hop.

    Returns:
        The block, and its sources `(m,)` int64, as positions among those of the hop.
    """
    own = hop.own[order]
    other = torch.ones(len(sources), dtype=torch.bool)
    other[own] = False
    source_order = torch.cat([own, other.nonzero().flatten()])
    # CSC order by the destinations of the block.
    destination = torch.argsort(order)[torch.from_numpy(hop.edges.destinations()).long()]
    by = torch.argsort(destination, stable=True)
    destination = destination[by]
    source, relation = (torch.from_numpy(ids)[by] for ids in (hop.edges.source, hop.edges.type))
    source = torch.argsort(source_order)[source.long()]
    edges = CSC.from_edges(source, destination, relation, len(sources), len(order))
    # DGL's float32 kernels fail where edges lack ids.
    ids = torch.arange(edges.num_edges, dtype=torch.int32)
    arrays = torch.from_numpy(edges.offsets), torch.from_numpy(edges.source), ids
    block = dgl.create_block(
        ("csc", arrays), num_src_nodes=edges.num_sources, num_dst_nodes=edges.num_destinations
    )
    node = sources[source_order]
    triples = torch.stack([node[source], relation.long(), node[destination]], dim=1)
    block.srcdata[dgl.NID] = node.int()
    block.dstdata[dgl.NID] = node[: len(order)].int()
    block.edata[dgl.EID] = graph.find(triples).int()
    block.edata[dgl.ETYPE] = relation
    block.edata["norm"] = hop.scale[by, None]
    return block, source_order
