"""Training batches: (head, relation) with all tails, sampled paths, heads with some edges."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from kgtool.data.answer_index import AnswerIndex
from kgtool.graph.knowledge_graph import KnowledgeGraph
from kgtool.graph.random_walk import Walks
from kgtool.ops import in_edges


@dataclass(frozen=True, eq=False)
class Batch:
    """Queries `(h, r_1/…/r_k, ?)` and their answers.

    Attributes:
        head: `(q,)` int64.
        path: `(q, max_length)` int64 relation ids, zero after the end of a path.
        length: `(q,)` int64.
        position, tail: `(p,)` int64, ascending in `position`: `tail[i]` answers `position[i]`.
    """

    head: Tensor
    path: Tensor
    length: Tensor
    position: Tensor
    tail: Tensor

    @classmethod
    def of_walks(cls, walks: Walks) -> Batch:
        """Turn walks into queries: the path of a walk, answered by its last entity."""
        path = torch.where(walks.taken, walks.relation, 0)
        position = torch.arange(len(walks.length))
        return cls(walks.entity[:, 0], path, walks.length, position, walks.end)


def generator_of(seed: int, epoch: int) -> torch.Generator:
    """The generator that draws the order of an epoch."""
    return torch.Generator().manual_seed((seed * 1_000_003 + epoch) % 2**63)


def draw_queries(answers: AnswerIndex, count: int, generator: torch.Generator) -> Tensor:
    """Draw rows of the index, `(count,)` int64: half are uniform, half are by their answers.

    So frequent queries and rare ones both have their share.
    """
    uniform = torch.randint(len(answers), (count,), generator=generator)
    slot = torch.randint(len(answers.tails), (count,), generator=generator)
    by_answer = torch.searchsorted(answers.offsets, slot, right=True) - 1
    return torch.where(torch.rand(count, generator=generator) < 0.5, uniform, by_answer)


def epoch_order(num_queries: int, seed: int, epoch: int) -> Tensor:
    """The order of an epoch, `(num_queries,)` int64; it depends on seed and epoch only."""
    generator = generator_of(seed, epoch)
    return torch.randperm(num_queries, generator=generator)


def link_queries(answers: AnswerIndex, rows: Tensor) -> tuple[Batch, Tensor]:
    """The queries at rows of the index, with all their answers.

    Returns:
        The batch, with paths of length 1, and `(p,)` int64, the slot of each answer in the index.
    """
    head, relation = answers.hr[rows].unbind(1)
    position, slot = answers.expand(rows)
    length = torch.ones_like(head)
    return Batch(head, relation.unsqueeze(1), length, position, answers.tails[slot]), slot


@dataclass(frozen=True, eq=False)
class PassBatch:
    """Heads, the target edges of each pass, and the edges that the pass may not use.

    Attributes:
        graph: the edges that the passes use.
        head: `(b,)` int64.
        excluded_edges: for each head, `(k,)` int64 edge ids in `graph`: the in-edges of the head
            that its pass may not use.
        excluded_of_any: int64 edge ids in the whole graph: the excluded edges of all heads of the
            batch, also in a part of it.
        position, relation, tail: `(q,)` int64, ascending in `position`: `(head[position], relation,
            tail)` are the targets.
        seed: the seed of further draws in the passes.
        weight: `(q,)` float32, the weight of each target; None if all are 1.
        contexts: `(C,)` int64, ascending, the distinct relation ids of the queries of the batch,
            also in a part of it, if a pass belongs to a query; None if it belongs to a head.
        context: `(b,)` int64, the position in `contexts` of the relation of each pass.
    """

    graph: KnowledgeGraph
    head: Tensor
    excluded_edges: tuple[Tensor, ...]
    excluded_of_any: Tensor
    position: Tensor
    relation: Tensor
    tail: Tensor
    seed: int
    weight: Tensor | None
    contexts: Tensor | None = None
    context: Tensor | None = None

    def parts(self, sizes: Sequence[int]) -> list[PassBatch]:
        """Split the batch into parts with the given numbers of heads, which sum to `b`."""
        bounds = [0]
        for size in sizes:
            bounds.append(bounds[-1] + size)
        first = torch.searchsorted(self.position, torch.tensor(bounds)).tolist()
        parts = []
        for i in range(len(sizes)):
            heads, own = slice(bounds[i], bounds[i + 1]), slice(first[i], first[i + 1])
            parts.append(
                replace(
                    self,
                    head=self.head[heads],
                    excluded_edges=self.excluded_edges[heads],
                    position=self.position[own] - bounds[i],
                    relation=self.relation[own],
                    tail=self.tail[own],
                    weight=None if self.weight is None else self.weight[own],
                    context=None if self.context is None else self.context[heads],
                )
            )
        return parts


class PassSampler:
    """Draws heads by the square root of their degree, each with some of its edges as targets.

    Args:
        graph: the edges, with inverses.
        max_targets: maximum number of targets per head.
        max_target_ratio: maximum fraction of a head's edges that are targets; a head has at least
            one target.
        remove_target_edges: `"edge"`: remove the target triple and its inverse from the pass;
            `"pair"`: remove every edge between its head and tail.
        edge_dropout: fraction of the edges that do not touch a head of the batch; no pass of the
            batch uses them. Each batch draws them again. The model then memorises fewer paths.
    """

    def __init__(
        self,
        graph: KnowledgeGraph,
        max_targets: int,
        max_target_ratio: float,
        remove_target_edges: Literal["edge", "pair"],
        edge_dropout: float = 0.0,
    ) -> None:
        self.graph, self.edge_dropout = graph, edge_dropout
        self.max_targets, self.max_target_ratio = max_targets, max_target_ratio
        self.remove_target_edges = remove_target_edges
        self._degree = graph.offsets.diff().long()
        self._odds = self._degree.double().sqrt().cumsum(0)

    def order(self, seed: int, epoch: int) -> Tensor:
        """Draw one head per entity that has an edge; the draw depends on seed and epoch only."""
        generator = generator_of(seed, epoch)
        count = int((self._degree > 0).sum())
        drawn = torch.rand(count, dtype=torch.double, generator=generator) * self._odds[-1]
        return torch.searchsorted(self._odds, drawn, right=True)

    def batch(
        self,
        head: Tensor,
        generator: torch.Generator | None = None,
        query: Tensor | None = None,
    ) -> PassBatch:
        """Draw the targets of heads `(b,)`.

        Args:
            head: `(b,)` int64.
            generator: draws; None for torch's default generator.
            query: `(b,)` int64: the targets of each head are edges of this relation id, and the
                ratio is of these edges; each head has one at least. None for edges of all
                relations.
        """
        graph = self.graph
        position, edge = in_edges(graph.offsets, head)
        source, kind = graph.head[edge].long(), graph.relation[edge].long()
        inverse = graph.inverse_of(kind)
        # Shuffle the in-edges of each head, and take the first few.
        drawn = torch.rand(len(position), dtype=torch.double, generator=generator)
        order = torch.argsort(position + drawn)
        if query is not None:
            order = order[(inverse == query[position])[order]]
        degree = torch.bincount(position[order], minlength=len(head))
        count = (degree * self.max_target_ratio).long().clamp(min=1, max=self.max_targets)
        before = degree.cumsum(0) - degree
        place = torch.arange(len(order)) - before[position[order]]
        chosen = order[place < count[position[order]]].sort().values
        if self.remove_target_edges == "pair":
            pair = position * graph.num_entities + source
            excluded = torch.isin(pair, pair[chosen])
        else:
            # The inverse of a self loop is also an in-edge of the head.
            ends = (position * graph.num_entities + source) * graph.num_relation_ids
            loops = chosen[source[chosen] == head[position[chosen]]]
            removed = torch.cat([(ends + kind)[chosen], (ends + inverse)[loops]])
            excluded = torch.isin(ends + kind, removed)
        thinned = self._thinned(head, generator)
        # Dropout keeps the in-edges of the heads and their order.
        edge_of_thinned = edge if thinned is graph else in_edges(thinned.offsets, head)[1]
        counts = torch.bincount(position[excluded], minlength=len(head)).tolist()
        return PassBatch(
            thinned, head, edge_of_thinned[excluded].split(counts), edge[excluded],
            position[chosen], inverse[chosen], source[chosen],
            int(torch.randint(2**62, (1,), generator=generator)),
            None if graph.weight is None else graph.weight[edge[chosen]],
            *(torch.unique(query, return_inverse=True) if query is not None else ()),
        )  # fmt: skip

    def _thinned(self, head: Tensor, generator: torch.Generator | None) -> KnowledgeGraph:
        """Drop random edges that touch no head; the other edges keep their order."""
        if not self.edge_dropout:
            return self.graph
        at_head = torch.zeros(self.graph.num_entities, dtype=torch.bool)
        at_head[head] = True
        dropped = self.graph.draw(self.edge_dropout, generator)
        return self.graph.subgraph(~dropped | at_head[self.graph.head] | at_head[self.graph.tail])
