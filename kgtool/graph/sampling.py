"""Neighbour sampling: a training step reads a few in-edges per entity, not the whole graph.

GraphSAGE (Hamilton, Ying & Leskovec 2017): the state of an entity after l layers reads a few of its
in-edges. The states of their sources after l - 1 layers read a few in-edges of these, and so on.
DGL calls a hop a block, or message flow graph: see `kgtool.graph.block_sampler.InEdgeSampler`.
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
    """The sampled edges of one layer.

    Attributes:
        edges: from the m sources to the n destinations of the layer.
        own: `(n,)` int64, the position of each destination among the sources.
        scale: `(e,)` float32, see `sample_in_edges`.
    """

    edges: CSC
    own: Tensor
    scale: Tensor


@dataclass(frozen=True, eq=False)
class Neighbourhood:
    """The sampled neighbourhood of some entities; the farthest hop is first.

    Attributes:
        entity: `(n,)` int64, ascending, without duplicates: the sources of the first hop; without
            hops, the entities themselves.
        hops: one hop per layer.
    """

    entity: Tensor
    hops: tuple[Hop, ...]


# The sampled in-edges of some entities: positions among these entities `(e,)`, ascending, heads and
# relations `(e, 2)`, and scales `(e,)`.
_Drawn = tuple[Tensor, Tensor, Tensor]


def draw_around(
    graph: KnowledgeGraph,
    entity: Tensor,
    num_hops: int,
    fanout: int,
    excluded_edges: Tensor,
    shards: Shards | None = None,
) -> Neighbourhood:
    """Sample the neighbourhood of entities with torch's default generator.

    Args:
        graph: the knowledge graph.
        entity: `(n,)` int64, ascending, without duplicates.
        num_hops: number of hops, one per layer.
        fanout: maximum number of in-edges per entity and hop.
        excluded_edges: `(k,)` int64 edge ids of `graph`. These edges and their inverses are not
            sampled.
        shards: the owner of each entity, when each process has only the in-edges of its own
            entities. Each process then samples for all processes; all call this function together.
            The sample is the same as in one process.
    """
    excluded = graph.triples(excluded_edges)
    excluded = torch.cat([excluded, invert(excluded, graph.num_relation_ids // 2)])
    if shards is None:
        draw = _draws(graph, fanout, excluded)
    else:
        draw = _draws_of_owners(graph, fanout, excluded, shards)
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
    """One hop of all in-edges of the entities of this process, in the order of its rows.

    Args:
        graph: the graph of these edges.
        shards: the owner of each entity.
        dtype: the dtype of the scales.
    """
    held = shards.entities
    entities, place = torch.unique(torch.cat([held, graph.head]), return_inverse=True)
    own, source = place.split([len(held), graph.num_edges])
    edges = CSC.from_edges(source, shards.row(graph.tail), graph.relation, len(entities), len(held))
    return Neighbourhood(entities, (Hop(edges, own, graph.scale(None, dtype)),))


def _draws(
    graph: KnowledgeGraph, fanout: int, excluded: Tensor
) -> Callable[[Tensor, Tensor], _Drawn]:
    """A function that samples in-edges of entities `(n,)` with a seed `(1,)`.

    It never samples the excluded triples `(k, 3)`.
    """
    excluded_edges = torch.unique(graph.find(excluded))

    def draw(entity: Tensor, seed: Tensor) -> _Drawn:
        position, edge, scale = sample_in_edges(
            graph.csc, entity, fanout, excluded_edges, int(seed)
        )
        return position, torch.stack([graph.head[edge], graph.relation[edge]], dim=1).long(), scale

    return draw


def _draws_of_owners(
    graph: KnowledgeGraph, fanout: int, excluded: Tensor, shards: Shards
) -> Callable[[Tensor, Tensor], _Drawn]:
    """Like `_draws`, but each process samples the in-edges of its own entities."""
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
