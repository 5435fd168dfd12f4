"""Random walks over the graph."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from kgtool.graph.knowledge_graph import KnowledgeGraph
from kgtool.ops import order_by


@dataclass(frozen=True, eq=False)
class Walks:
    """Walks `e_0 r_1 e_1 … r_k e_k`.

    Attributes:
        entity: `(q, max_length + 1)` int64 entity ids.
        relation: `(q, max_length)` int64 relation ids.
        length: `(q,)` int64, k. Columns beyond a walk's length do not belong to the walk.
        edge: `(q, max_length)` int64 edge ids.
    """

    entity: Tensor
    relation: Tensor
    length: Tensor
    edge: Tensor

    def __getitem__(self, rows: Tensor) -> Walks:
        """The walks at rows `(n,)` int64."""
        return Walks(self.entity[rows], self.relation[rows], self.length[rows], self.edge[rows])

    @property
    def taken(self) -> Tensor:
        """`(q, max_length)` bool: the steps within the length of each walk."""
        return torch.arange(self.relation.shape[1]) < self.length.unsqueeze(1)

    @property
    def end(self) -> Tensor:
        """`(q,)` int64, e_k."""
        return self.entity.gather(1, self.length.unsqueeze(1)).squeeze(1)


class WalkSampler:
    """Random walks over the knowledge graph.

    Guu et al. 2015 train on the relation paths of random walks, to learn how relations compose.

    A walk takes the inverse of its last edge only if there is no other edge. So all edges are
    equally likely at every step.

    Args:
        graph: inverses included, so that walks go both ways.
        max_length: relations in the longest walk.
        generator: draws the walks; None for torch's default generator.
    """

    def __init__(
        self, graph: KnowledgeGraph, max_length: int, generator: torch.Generator | None = None
    ) -> None:
        self.graph = graph
        self.max_length = max_length
        self._generator = generator
        out = order_by((graph.csc.source,), (graph.num_entities,))
        self._out = torch.from_numpy(out)  # edges by head
        # Every edge has its inverse, so in-degree and out-degree are equal.
        self._degree = graph.offsets.diff().long()
        self._first = graph.offsets[:-1].long()
        # The position of each edge among the out-edges of its head.
        self._slot = torch.empty_like(self._out)
        self._slot[self._out] = torch.arange(graph.num_edges, dtype=torch.int32)
        self._slot -= graph.offsets[graph.head]

    def walks(self, count: int, least: int = 1) -> Walks:
        """Walks of `least` to `max_length` edges, with uniform lengths and first edges."""
        length = self._draw(least, self.max_length + 1, count)
        edge = self._draw(0, self.graph.num_edges, count)
        return self._walks(self._follow(edge), length)

    def walks_through(self, edges: Tensor, count: int) -> Walks:
        """Walks of 1 to `max_length` edges, each through an edge drawn from `edges` `(k,)`.

        The length, the edge and its position in the walk are uniform. The walk extends from this
        edge in both directions.
        """
        length = self._draw(1, self.max_length + 1, count)
        edge = edges[self._draw(0, len(edges), count)]
        uniform = torch.rand(count, dtype=torch.double, generator=self._generator)
        place = (uniform * length).long()
        forth = self._follow(edge)
        back = self.graph.inverse[self._follow(self.graph.inverse[edge].long())].long()
        both = torch.cat([back.flip(1)[:, :-1], forth], dim=1)  # the edge drawn in the middle
        first = self.max_length - 1 - place
        columns = first.unsqueeze(1) + torch.arange(self.max_length)
        return self._walks(both.gather(1, columns), length)

    def _walks(self, edge: Tensor, length: Tensor) -> Walks:
        graph = self.graph
        triples = graph.triples(edge.flatten()).view(*edge.shape, 3)
        entity = torch.cat([triples[:, :1, 0], triples[:, :, 2]], dim=1)
        return Walks(entity, triples[:, :, 1].contiguous(), length, edge)

    def _draw(self, low: int, high: int, count: int) -> Tensor:
        return torch.randint(low, high, (count,), generator=self._generator)

    def _follow(self, edge: Tensor) -> Tensor:
        """`(q, max_length)`: each edge, followed by the next edges of a walk."""
        edges = [edge]
        while len(edges) < self.max_length:
            edges.append(self._next(edges[-1]))
        return torch.stack(edges, dim=1)

    def _next(self, edge: Tensor) -> Tensor:
        """A uniform out-edge of each edge's tail; the edge's inverse only if there is no other."""
        node, back = self.graph.triples(edge)[:, 2], self._slot[self.graph.inverse[edge]]
        others = (self._degree[node] - 1).clamp(min=1)
        drawn = torch.rand(len(node), dtype=torch.double, generator=self._generator)
        offset = (drawn * others).long()
        offset += (self._degree[node] > 1) & (offset >= back)
        return self._out[self._first[node] + offset].long()
