"""What is drawn around some entities, so that a step of training need not read the whole graph.

Neighbour-sampled message passing (GraphSAGE; Hamilton, Ying & Leskovec 2017): an entity's state
after l layers is made of a few of its in-edges, whose sources' states after l - 1 layers are made
of a few of theirs. DGL calls a hop a block, or message flow graph.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from kgtool.graph import MessageGraph
from kgtool.ops import Incidence, sample_in_edges


@dataclass(frozen=True, eq=False)
class Hop:
    """The edges drawn for one layer.

    Attributes:
        edges: from what the layer reads to what it makes.
        own: `(n,)` int64, where the n destinations stand among the sources.
        scale: `(e,)` float32, see `sample_in_edges`.
    """

    edges: Incidence
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


def draw_around(
    graph: MessageGraph, entity: Tensor, num_hops: int, fanout: int, hidden: Tensor
) -> Neighbourhood:
    """Draw a neighbourhood, by torch's default generator.

    Args:
        graph: the message graph.
        entity: `(n,)` int64, ascending, each once.
        num_hops: how many layers are to read it.
        fanout: most in-edges of an entity and hop.
        hidden: `(k,)` int64 edges that must not carry messages, nor may their inverses.
    """
    gone = torch.unique(torch.cat([hidden, graph.inverse[hidden]]))
    hops = []
    for _ in range(num_hops):
        seed = int(torch.randint(2**62, ()))
        position, edge, scale = sample_in_edges(graph.incidence, entity, fanout, gone, seed)
        found, place = torch.unique(torch.cat([entity, graph.head[edge]]), return_inverse=True)
        own, source = place.split([len(entity), len(edge)])
        edges = Incidence.from_edges(
            source, position, graph.relation[edge], len(found), len(entity)
        )
        hops.append(Hop(edges, own, scale))
        entity = found
    return Neighbourhood(entity, tuple(reversed(hops)))
