"""What is drawn around some entities, so that a step of training need not read the whole graph.

Neighbour-sampled message passing (GraphSAGE; Hamilton, Ying & Leskovec 2017): an entity's state
after l layers is made of a few of its in-edges, whose sources' states after l - 1 layers are made
of a few of theirs. DGL calls a hop a block, or message flow graph: see `InEdgeSampler`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from kgtool.data.dataset import invert
from kgtool.distributed import process_group
from kgtool.distributed.sharding import Shards
from kgtool.graph.knowledge_graph import KnowledgeGraph
from kgtool.ops import CSC, sample_in_edges


@dataclass(frozen=True, eq=False)
class Hop:
    """The edges drawn for one layer.

    Attributes:
        edges: from what the layer reads to what it makes.
        own: `(n,)` int64, where the n destinations stand among the sources.
        scale: `(e,)` float32, see `sample_in_edges`.
    """

    edges: CSC
    own: Tensor
    scale: Tensor


@dataclass(frozen=True, eq=False)
class Neighbourhood:
    """What is drawn around some entities, from the farthest.

    Attributes:
        entity: `(n,)` int64, ascending, each once: the sources of the first hop. Without a hop,
            what it was drawn around.
        hops: one a layer.
    """

    entity: Tensor
    hops: tuple[Hop, ...]


# In-edges drawn of some entities: positions among these `(e,)`, ascending, heads and relations
# `(e, 2)`, and scales `(e,)`.
_Drawn = tuple[Tensor, Tensor, Tensor]


def draw_around(
    graph: KnowledgeGraph,
    entity: Tensor,
    num_hops: int,
    fanout: int,
    excluded_edges: Tensor,
    shards: Shards | None = None,
) -> Neighbourhood:
    """Draw a neighbourhood, by torch's default generator.

    Args:
        graph: the knowledge graph.
        entity: `(n,)` int64, ascending, each once.
        num_hops: how many layers are to read it.
        fanout: most in-edges of an entity and hop.
        excluded_edges: `(k,)` int64 edges of `graph` that must not carry messages, nor may their
            inverses.
        shards: who holds which entity, where each process has the edges into its own alone, and
            draws among them for the others: all call together. What is drawn is the same.
    """
    excluded = graph.triples(excluded_edges)
    gone = torch.cat([excluded, invert(excluded, graph.num_relation_ids // 2)])
    draw = _draws(graph, fanout, gone) if shards is None else _far(graph, fanout, gone, shards)
    hops = []
    for _ in range(num_hops):
        position, edge, scale = draw(entity, torch.randint(2**62, (1,)))
        entities, place = torch.unique(torch.cat([entity, edge[:, 0]]), return_inverse=True)
        own, source = place.split([len(entity), len(edge)])
        edges = CSC.from_edges(source, position, edge[:, 1], len(entities), len(entity))
        hops.append(Hop(edges, own, scale))
        entity = entities
    return Neighbourhood(entity, tuple(reversed(hops)))


def all_around(graph: KnowledgeGraph, shards: Shards, dtype: torch.dtype) -> Neighbourhood:
    """One hop of all edges into the entities that this process holds, in the order of its rows.

    Args:
        graph: of these edges.
        shards: who holds which entity.
        dtype: of the scales.
    """
    held = shards.entities
    entities, place = torch.unique(torch.cat([held, graph.head]), return_inverse=True)
    own, source = place.split([len(held), graph.num_edges])
    edges = CSC.from_edges(source, shards.row(graph.tail), graph.relation, len(entities), len(held))
    return Neighbourhood(entities, (Hop(edges, own, graph.scale(None, dtype)),))


def _draws(
    graph: KnowledgeGraph, fanout: int, excluded: Tensor
) -> Callable[[Tensor, Tensor], _Drawn]:
    """What draws in-edges of entities `(n,)` by a seed `(1,)`, excluded triples `(k, 3)` aside."""
    gone = torch.unique(graph.find(excluded))

    def draw(entity: Tensor, seed: Tensor) -> _Drawn:
        position, edge, scale = sample_in_edges(graph.csc, entity, fanout, gone, int(seed))
        return position, torch.stack([graph.head[edge], graph.relation[edge]], dim=1).long(), scale

    return draw


def _far(
    graph: KnowledgeGraph, fanout: int, excluded: Tensor, shards: Shards
) -> Callable[[Tensor, Tensor], _Drawn]:
    """Like `_draws`, but each process draws for the entities that it holds."""
    received = process_group.all_to_all([excluded[part] for part in shards.split(excluded[:, 2])])
    draws = [_draws(graph, fanout, triples) for triples in received]

    def draw(entity: Tensor, seed: Tensor) -> _Drawn:
        parts = shards.split(entity)
        wanted = process_group.all_to_all([entity[part] for part in parts])
        seeds = process_group.all_gather(seed)
        drawn = [
            draw_for(ids, its) for draw_for, ids, its in zip(draws, wanted, seeds, strict=True)
        ]
        where, edge, scale = map(process_group.all_to_all, zip(*drawn, strict=True))
        position = torch.cat([part[of] for part, of in zip(parts, where, strict=True)])
        order = torch.argsort(position, stable=True)
        return position[order], torch.cat(edge)[order], torch.cat(scale)[order]

    return draw
