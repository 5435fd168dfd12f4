"""Training queries: (head, relation) with all tails, sampled paths, and heads with some edges."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from kgtool.data.answer_index import AnswerIndex
from kgtool.graph import MessageGraph
from kgtool.ops import in_edges


@dataclass(frozen=True, eq=False)
class Batch:
    """Queries `(h, r_1/…/r_k, ?)` and their answers.

    Attributes:
        head: `(q,)` int64.
        path: `(q, max_length)` int64 relation ids, zero beyond a path's length.
        length: `(q,)` int64.
        position, tail: `(p,)` int64, ascending in `position`: `tail[i]` answers `position[i]`.
    """

    head: Tensor
    path: Tensor
    length: Tensor
    position: Tensor
    tail: Tensor


def _generator(seed: int, epoch: int) -> torch.Generator:
    """The random numbers of an epoch's order."""
    return torch.Generator().manual_seed((seed * 1_000_003 + epoch) % 2**63)


def epoch_order(num_queries: int, seed: int, epoch: int) -> Tensor:
    """`(num_queries,)` int64: the order of an epoch, a function of seed and epoch alone."""
    generator = _generator(seed, epoch)
    return torch.randperm(num_queries, generator=generator)


def link_queries(answers: AnswerIndex, rows: Tensor) -> tuple[Batch, Tensor]:
    """The queries at rows of the index, with all their answers.

    Returns:
        The batch, of paths of length 1, and `(p,)` int64, the slot of each answer in the index.
    """
    head, relation = answers.hr[rows].unbind(1)
    position, slot = answers.expand(rows)
    length = torch.ones_like(head)
    return Batch(head, relation.unsqueeze(1), length, position, answers.tails[slot]), slot


def distinct_in_chunks(hr: Tensor, size: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Queries `(n, 2)` int64, each once, by head, and where they are asked.

    All chunks but the last are of one size: large blocks of many sizes would leave gaps in memory.

    Yields:
        `(k, 2)` distinct queries, at most `size`; `(m,)` int64, ascending within each query, the
        places of `hr` that ask them, and `(m,)` which of the k each place asks.
    """
    distinct, row = torch.unique(hr, dim=0, return_inverse=True)
    order = torch.argsort(row, stable=True)
    first = torch.searchsorted(row[order], torch.arange(0, len(distinct) + size, size))
    for i in range(len(first) - 1):
        asked = order[first[i] : first[i + 1]]
        yield distinct[i * size : (i + 1) * size], asked, row[asked] - i * size


@dataclass(frozen=True, eq=False)
class Walks:
    """Walks `e_0 r_1 e_1 … r_k e_k`.

    Attributes:
        entity: `(q, max_length + 1)` int64.
        relation: `(q, max_length)` int64 relation ids.
        length: `(q,)` int64, k. What stands beyond is some way on, and not of the walk.
        edge: `(q, max_length)` int64, the edges walked.
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
        """`(q, max_length)` bool: the steps that are of a walk."""
        return torch.arange(self.relation.shape[1]) < self.length.unsqueeze(1)

    @property
    def end(self) -> Tensor:
        """`(q,)` int64, e_k."""
        return self.entity.gather(1, self.length.unsqueeze(1)).squeeze(1)


class WalkSampler:
    """Random walks over the message graph.

    Guu et al. 2015 train on the paths that they take: these teach relations to compose.

    A walk does not turn back over the edge that it came by unless there is no other. So every edge
    is as likely as any other at every step.

    Args:
        graph: inverses included, so that walks go both ways.
        max_length: relations in the longest walk.
        generator: draws them, torch's default where None.
    """

    def __init__(
        self, graph: MessageGraph, max_length: int, generator: torch.Generator | None = None
    ) -> None:
        self.graph = graph
        self.max_length = max_length
        self._generator = generator
        self._out = torch.argsort(graph.head, stable=True)  # edges by head
        degree = torch.bincount(graph.head, minlength=graph.num_entities)
        self._degree = degree
        self._first = degree.cumsum(0) - degree
        # Where an edge stands among the out-edges of its head.
        self._slot = torch.argsort(self._out) - self._first[graph.head]

    def sample(self, count: int) -> Batch:
        """The paths of walks of 2 edges or more, answered by where the walks end."""
        walks = self.walks(count, 2)
        path = torch.where(walks.taken, walks.relation, 0)
        return Batch(walks.entity[:, 0], path, walks.length, torch.arange(count), walks.end)

    def walks(self, count: int, least: int = 1) -> Walks:
        """Walks of `least` to `max_length` edges, lengths and first edges uniform."""
        length = self._draw(least, self.max_length + 1, count)
        edge = self._draw(0, self.graph.num_edges, count)
        return self._walks(self._follow(edge), length)

    def walks_through(self, edges: Tensor, count: int) -> Walks:
        """Walks of 1 to `max_length` edges, one of them drawn from `edges` `(k,)`.

        Length, edge and its place in the walk are uniform. The walk goes on from there both ways.
        """
        length = self._draw(1, self.max_length + 1, count)
        edge = edges[self._draw(0, len(edges), count)]
        uniform = torch.rand(count, dtype=torch.double, generator=self._generator)
        place = (uniform * length).long()
        forth = self._follow(edge)
        back = self.graph.inverse[self._follow(self.graph.inverse[edge])]
        both = torch.cat([back.flip(1)[:, :-1], forth], dim=1)  # the edge drawn in the middle
        first = self.max_length - 1 - place
        columns = first.unsqueeze(1) + torch.arange(self.max_length)
        return self._walks(both.gather(1, columns), length)

    def _walks(self, edge: Tensor, length: Tensor) -> Walks:
        graph = self.graph
        entity = torch.cat([graph.head[edge[:, :1]], graph.tail[edge]], dim=1)
        return Walks(entity, graph.relation[edge], length, edge)

    def _draw(self, low: int, high: int, count: int) -> Tensor:
        return torch.randint(low, high, (count,), generator=self._generator)

    def _follow(self, edge: Tensor) -> Tensor:
        """`(q, max_length)`: each edge and what a walk takes after it."""
        edges = [edge]
        while len(edges) < self.max_length:
            edges.append(self._next(edges[-1]))
        return torch.stack(edges, dim=1)

    def _next(self, edge: Tensor) -> Tensor:
        """A uniform out-edge of each edge's tail; its inverse only if there is no other."""
        node, back = self.graph.tail[edge], self._slot[self.graph.inverse[edge]]
        others = (self._degree[node] - 1).clamp(min=1)
        drawn = torch.rand(len(node), dtype=torch.double, generator=self._generator)
        offset = (drawn * others).long()
        offset += (self._degree[node] > 1) & (offset >= back)
        return self._out[self._first[node] + offset]


@dataclass(frozen=True, eq=False)
class PassBatch:
    """Heads, the edges that each one's pass is asked for, and those that it may not see.

    Attributes:
        graph: the edges that the passes take.
        head: `(b,)` int64.
        hidden: bool, of the in-edges of each head, one head after the other.
        gone: int64, the edges that are hidden, as the whole graph numbers them.
        position, relation, tail: `(q,)` int64, ascending in `position`: `(head[position], relation,
            tail)` are the targets.
    """

    graph: MessageGraph
    head: Tensor
    hidden: Tensor
    gone: Tensor
    position: Tensor
    relation: Tensor
    tail: Tensor


class PassSampler:
    """Heads by the square root of their degree, each with some of its edges as targets.

    Args:
        graph: inverses included.
        targets: most targets a head.
        share: largest part of a head's edges that are targets, though always one.
        hide: what a pass may not see: each target's edge and its inverse, or all edges between its
            two entities.
        edge_dropout: share of the edges away from a batch's heads that none of its passes take,
            drawn anew for each batch. Fewer paths to learn by heart.
    """

    def __init__(
        self,
        graph: MessageGraph,
        targets: int,
        share: float,
        hide: Literal["edge", "pair"],
        edge_dropout: float = 0.0,
    ) -> None:
        self.graph, self.targets, self.share, self.hide = graph, targets, share, hide
        self.edge_dropout = edge_dropout
        self._degree = torch.bincount(graph.tail, minlength=graph.num_entities)
        self._offsets = torch.from_numpy(graph.incidence.offsets)
        self._odds = self._degree.double().sqrt().cumsum(0)

    def order(self, seed: int, epoch: int) -> Tensor:
        """The heads of an epoch, as many as have an edge: a function of seed and epoch alone."""
        generator = _generator(seed, epoch)
        count = int((self._degree > 0).sum())
        drawn = torch.rand(count, dtype=torch.double, generator=generator) * self._odds[-1]
        return torch.searchsorted(self._odds, drawn, right=True)

    def batch(self, head: Tensor, generator: torch.Generator | None = None) -> PassBatch:
        """The targets of heads `(b,)`, drawn from a generator, torch's default where None."""
        graph, degree = self.graph, self._degree[head]
        position, edge = in_edges(self._offsets, head)
        # In an order at random, the first few of each head.
        drawn = torch.rand(len(position), dtype=torch.double, generator=generator)
        order = torch.argsort(position + drawn)
        count = (degree * self.share).long().clamp(min=1, max=self.targets)
        before = degree.cumsum(0) - degree
        place = torch.arange(len(position)) - before[position]
        chosen = order[place < count[position]].sort().values
        source, kind = graph.head[edge], graph.relation[edge]
        inverse = graph.inverse_of(kind)
        if self.hide == "pair":
            pair = position * graph.num_entities + source
            hidden = torch.isin(pair, pair[chosen])
        else:
            # A loop's inverse is an in-edge of the head too.
            ends = (position * graph.num_entities + source) * graph.num_relation_ids
            loops = chosen[source[chosen] == head[position[chosen]]]
            gone = torch.cat([(ends + kind)[chosen], (ends + inverse)[loops]])
            hidden = torch.isin(ends + kind, gone)
        return PassBatch(
            self._thinned(head, generator), head, hidden, edge[hidden],
            position[chosen], inverse[chosen], source[chosen],
        )  # fmt: skip

    def _thinned(self, head: Tensor, generator: torch.Generator | None) -> MessageGraph:
        """The graph without the edges that drop out; those of heads stay, in their order."""
        if not self.edge_dropout:
            return self.graph
        at_head = torch.zeros(self.graph.num_entities, dtype=torch.bool)
        at_head[head] = True
        dropped = self.graph.draw(self.edge_dropout, generator)
        return self.graph.subgraph(~dropped | at_head[self.graph.head] | at_head[self.graph.tail])
