"""The entities that a pass on a node budget keeps; the set grows step by step.

`Region` gives the kernels of a pass the same arrays as `kgtool.ops.all_paths.reach.Reach`. But the
states before a step decide the entities and edges that the step adds: see
`kgtool.ops.all_paths.growth`. Memory and time depend on the budget and not on the graph. If the
budget is never exhausted, passes are the same as with `Reach`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kgtool.ops.all_paths.growth import (
    EDGES_AN_ENTITY,
    choose_groups,
    connect,
    keep_entities,
    read_edges,
    walk_loss,
)
from kgtool.ops.all_paths.reach import (
    NO_EDGES,
    NONE_EXCLUDED,
    Arriving,
    Rows,
    check_excluded,
)
from kgtool.ops.graph.csc import CSC, in_edges
from kgtool.ops.graph.find_edges import find_edges
from kgtool.ops.runtime.bfloat16 import bits
from kgtool.ops.runtime.lanes import lanes_of


class Task(NamedTuple):
    """The targets and the randomness of a training pass on a node budget.

    Attributes:
        position, entity: `(n,)` int64: each target entity, and the position of its head in the
            batch. The pass should keep the target.
        seed: the seed of random choices.
        dropout: the share of edges that the pass skips, each with its inverse. Edges at the head
            are not skipped. Skipped edges still count in degrees.
    """

    position: Tensor
    entity: Tensor
    seed: int
    dropout: float


class _Links(NamedTuple):
    """The edges of a step between the entities that a head keeps; see `growth.connect`.

    The last two are the weights of the edges outward and inward, float32; None if all are 1.
    """

    outward: NDArray[np.int64]
    to: NDArray[np.int32]
    inverse: NDArray[np.int32]
    inward: NDArray[np.int64]
    source: NDArray[np.int32]
    type: NDArray[np.int32]
    weight_outward: NDArray[np.float32] | None = None
    weight_inward: NDArray[np.float32] | None = None

    def weighted(self, edges: CSC, entity: NDArray[np.int32]) -> _Links:
        """The same with the weights of the graph's edges, given the entities `(k,)` by slot."""
        if edges.weight is None:
            return self
        weights = []
        for offsets, slot, kind in (
            (self.outward, self.to, self.inverse),
            (self.inward, self.source, self.type),
        ):
            into = np.repeat(entity[: len(offsets) - 1], np.diff(offsets))
            triples = np.stack([entity[slot], kind, into], axis=1).astype(np.int64)
            weights.append(edges.weight[find_edges(edges, torch.from_numpy(triples))])
        return self._replace(weight_outward=weights[0], weight_inward=weights[1])


class _Head(NamedTuple):
    """The entities and edges that a head keeps.

    Attributes:
        entity: `(k,)` int32, in the order of discovery, the head first.
        weight: `(k,)` float64, the weight of the random walk at each entity.
        degree: `(k,)` int64, the in-degree in the whole graph, without excluded edges.
        excluded: ascending int64, `source · R + type` of the head's excluded in-edges.
        target: ascending int64, the target entities.
        links: the edges of each step.
    """

    entity: NDArray[np.int32]
    weight: NDArray[np.float64]
    degree: NDArray[np.int64]
    excluded: NDArray[np.int64]
    target: NDArray[np.int64]
    links: tuple[_Links, ...]


class Region(Rows):
    """The entities that B heads keep, step by step.

    Args:
        edges: the knowledge graph, which must contain the inverse of every edge.
        head: `(B,)` int64.
        num_types: R, the number of edge types, including inverses.
        most: the maximum number of entities that a step adds for a head. The step reads at most
            `EDGES_AN_ENTITY` times as many edges.
        excluded_edges: for each head, `(k,)` int64 ids of in-edges of the head. Its pass ignores
            them and their inverses. None excludes no edge.
        task: targets and randomness in training; None for a pass without training, which makes no
            random choices.

    Raises:
        ValueError: if an excluded edge does not lead to its head.
    """

    def __init__(
        self,
        edges: CSC,
        head: Tensor,
        num_types: int,
        most: int,
        excluded_edges: Sequence[Tensor] | None = None,
        task: Task | None = None,
    ) -> None:
        super().__init__(head.numpy(), np.arange(len(head) + 1)[None])
        self.edges, self.num_types, self.most = edges, num_types, most
        none = torch.empty(0, dtype=torch.long)
        self._task = task or Task(none, none, seed=0, dropout=0.0)
        self._loss, self._grad = 0.0, np.zeros(0)
        self._heads = []
        excluded = check_excluded(edges, self.head, excluded_edges)
        for b, (h, gone) in enumerate(zip(self.head.tolist(), excluded, strict=True)):
            keys = edges.source[gone].astype(np.int64) * num_types + edges.type[gone]
            target = self._task.entity[self._task.position == b].unique().numpy()
            entity, degree = np.array([h], np.int32), edges.degree[h : h + 1] - len(gone)
            self._heads.append(_Head(entity, np.ones(1), degree, np.sort(keys), target, ()))

    def grow(self, state: Tensor, priority: Tensor) -> None:
        """Add a step.

        Args:
            state: `(rows(i), d)` float, or more rows: the states after the last step, i.
            priority: `(R, d + 1)` float: `a_r` and `b_r` of each edge type.
        """
        states, priorities = bits(state.contiguous()), bits(priority)
        if not self._grad.size:
            self._grad = np.zeros_like(priorities)
        first = self.first[-1, :-1].tolist()
        self._heads = [
            self._grown(head, states, row, priorities)
            for head, row in zip(self._heads, first, strict=True)
        ]
        sizes = [0, *(len(head.entity) for head in self._heads)]
        self.first = np.concatenate([self.first, np.cumsum(sizes)[None]])

    def _grown(
        self, head: _Head, states: NDArray[Any], row: int, priorities: NDArray[Any]
    ) -> _Head:
        edges, known, types = self.edges, len(head.entity), self.num_types
        width = lanes_of(states.shape[1])
        seed = np.uint64((self._task.seed * 1_000_003 + int(head.entity[0])) % 2**64)
        *groups, carried = choose_groups(
            edges.offsets, edges.type, head.entity, head.weight, states, row, priorities,
            self.most * EDGES_AN_ENTITY, seed, width,
        )  # fmt: skip
        out, into, kind, brings, name, gained = read_edges(
            edges.source, edges.type, head.entity, *groups, carried, head.excluded, types, seed,
            self._task.dropout,
        )  # fmt: skip
        self._loss += walk_loss(
            out, into, kind, brings, name, gained, known, head.target, states, row, self._grad,
            width,
        )  # fmt: skip
        slots = keep_entities(gained, known, self.most)
        entity = name[slots >= 0]
        links = _Links(*connect(out, into, kind, slots, name, known, len(entity), types))
        links = links.weighted(edges, entity)
        new, degree = entity[known:], edges.degree[entity[known:]]
        # The inverse of an excluded edge does not count as an in-edge of the head's neighbour.
        for neighbour in (head.excluded // types).tolist():
            degree -= new == neighbour
        return head._replace(
            entity=entity,
            weight=np.concatenate([head.weight, gained[known:][slots[known:] >= 0]]),
            degree=np.concatenate([head.degree, degree]),
            links=(*head.links, links),
        )

    def walk_loss(self, priority: Tensor) -> Tensor:
        """The loss of the random walk that chose the entities, given the target entities.

        It is a scalar, the sum of `growth.walk_loss` over heads and steps. Its gradient goes only
        to `priority`, which must be the argument of `grow`.
        """
        loss: Tensor = _WalkLoss.apply(priority, self._loss, self._grad)  # type: ignore[no-untyped-call]
        return loss

    def gathered(self, step: int) -> Iterator[tuple[slice, tuple[Any, ...]]]:
        """For each head, its position and the arguments of `path_messages.gather`."""
        for b, head in enumerate(self._heads):
            links = head.links[step - 1]
            graph = (links.inward, links.source, links.type)
            others = self._arrays(step, b)
            yield slice(b, b + 1), (head.degree, *graph, *others, links.weight_inward)

    def scattered(self, step: int) -> Iterator[tuple[slice, tuple[Any, ...]]]:
        """For each head, its position and the arguments of `path_messages.scatter`."""
        for b, head in enumerate(self._heads):
            links = head.links[step - 1]
            graph = (links.outward, links.to, links.inverse)
            others = self._arrays(step, b)
            yield slice(b, b + 1), (*graph, *others, links.weight_outward)

    def _arrays(self, step: int, b: int) -> tuple[NDArray[Any], ...]:
        """The other arrays of the kernels: nodes are slots, and no edge is excluded."""
        rows = int(self.first[step, b + 1] - self.first[step, b])
        slot = np.arange(rows, dtype=np.uint32)[None]
        return (
            NO_EDGES, np.zeros(1, np.int64), NONE_EXCLUDED, np.zeros(2, np.int64),
            slot.view(np.int32), slot, self.first[step - 1, b : b + 2], self.first[step, b : b + 2],
        )  # fmt: skip

    def entities(self) -> Tensor:
        """`(rows(L),)` int64: the entity of each row of the last step."""
        entities = [head.entity for head in self._heads]
        return torch.from_numpy(np.concatenate([np.empty(0, np.int32), *entities])).long()

    def slot_of(self, position: Tensor, entity: Tensor) -> Tensor:
        """`(n,)` int64: the slots of entities that heads keep; N for other entities.

        Args:
            position: `(n,)` int64, the position of each head in the batch.
            entity: `(n,)` int64.
        """
        stride = self.edges.num_sources
        head = torch.repeat_interleave(torch.tensor(self.rows_of_heads()))
        key, row = (head * stride + self.entities()).sort()
        query = position * stride + entity
        place = torch.searchsorted(key, query).clamp(max=len(key) - 1)
        slot = row[place] - torch.from_numpy(self.first[-1])[position]
        return torch.where(key[place] == query, slot, stride)

    def arriving(self, step: int, slot: Tensor) -> Arriving:
        """The edges of a step to slots `(n,)` of the first head, like `Reach.arriving`."""
        head = self._heads[0]
        links = head.links[step - 1]
        place, edge = in_edges(torch.from_numpy(links.inward), slot)
        source, type_ = (torch.from_numpy(a)[edge].long() for a in (links.source, links.type))
        weight = None
        if links.weight_inward is not None:
            weight = torch.from_numpy(links.weight_inward)[edge]
        return Arriving(place, source, type_, torch.from_numpy(head.degree)[slot], weight)


class _WalkLoss(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, priority: Tensor, loss: float, grad: NDArray[Any]) -> Tensor:
        ctx.grad = torch.from_numpy(grad)
        return priority.new_tensor(loss)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        return grads[0] * ctx.grad, None, None
