"""Training queries: every (head, relation) with all its tails, and paths sampled from the graph."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from kgtool.graph import MessageGraph
from kgtool.triples import AnswerIndex


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


def epoch_order(num_queries: int, seed: int, epoch: int) -> Tensor:
    """`(num_queries,)` int64: the order of an epoch, a function of seed and epoch alone."""
    generator = torch.Generator().manual_seed((seed * 1_000_003 + epoch) % 2**63)
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


class WalkSampler:
    """Random walks over the message graph, whose ends answer the paths they took.

    Guu et al. 2015 train on such paths: they teach relations to compose.

    Args:
        graph: inverses included, so that walks go both ways.
        max_length: relations in the longest walk, at least 2.
    """

    def __init__(self, graph: MessageGraph, max_length: int) -> None:
        self.graph = graph
        self.max_length = max_length
        self._out = torch.argsort(graph.head, stable=True)  # edges by head
        degree = torch.bincount(graph.head, minlength=graph.num_entities)
        self._degree = degree
        self._first = degree.cumsum(0) - degree
        # Where an edge stands among the out-edges of its head.
        self._slot = torch.argsort(self._out) - self._first[graph.head]

    def sample(self, count: int) -> Batch:
        """Walks of 2 to `max_length` edges, lengths and first edges uniform.

        A walk does not turn back over the edge that it came by unless there is no other. Draws
        from torch's default generator.
        """
        graph, steps = self.graph, self.max_length
        length = torch.randint(2, steps + 1, (count,))
        edge = torch.randint(graph.num_edges, (count,))
        head, path = graph.head[edge], torch.zeros(count, steps, dtype=torch.long)
        path[:, 0] = graph.relation[edge]
        for step in range(1, steps):
            going = length > step
            edge = torch.where(going, self._next(edge), edge)
            path[:, step] = torch.where(going, graph.relation[edge], 0)
        return Batch(head, path, length, torch.arange(count), graph.tail[edge])

    def _next(self, edge: Tensor) -> Tensor:
        """A uniform out-edge of each edge's tail; its inverse only if there is no other."""
        node, back = self.graph.tail[edge], self._slot[self.graph.inverse[edge]]
        others = (self._degree[node] - 1).clamp(min=1)
        offset = (torch.rand(len(node), dtype=torch.double) * others).long()
        offset += (self._degree[node] > 1) & (offset >= back)
        return self._out[self._first[node] + offset]
