"""What a budget keeps of the entities that paths reach, grown as a pass goes on.

It serves the kernels of a pass as `kgtool.ops.all_paths.reach.Reach` does, but which entities and
edges it has after a step is told by the states before it: see `kgtool.ops.all_paths.growth`. Memory
and time follow the budget and not the graph. Where the budget is never spent, passes are those of
`Reach`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kgtool.ops.all_paths.growth import (
    choose_groups,
    connect,
    keep_entities,
    read_edges,
    walk_loss,
)
from kgtool.ops.all_paths.reach import Rows
from kgtool.ops.graph.incidence import Incidence, in_edges
from kgtool.ops.runtime.bfloat16 import bits
from kgtool.ops.runtime.lanes import lanes_of

# Edges that a step may read for each entity that it may add. Reading so many takes about as long as
# what a pass does at an entity.
EDGES_AN_ENTITY = 64


class Task(NamedTuple):
    """What a budgeted pass of training is for.

    Attributes:
        position, entity: `(n,)` int64, places of heads in the batch and entities that each is asked
            for, which it should keep.
        seed: of what is random.
        dropout: share of the edges away from the head that the pass does not take, each with its
            inverse. They still count in degrees.
    """

    position: Tensor
    entity: Tensor
    seed: int
    dropout: float


class _Links(NamedTuple):
    """The edges of a step between the entities that a head keeps; see `growth.connect`."""

    outward: NDArray[np.int64]
    to: NDArray[np.int32]
    inverse: NDArray[np.int32]
    inward: NDArray[np.int64]
    source: NDArray[np.int32]
    type: NDArray[np.int32]


class _Kept(NamedTuple):
    """What one head keeps.

    Attributes:
        entity: `(k,)` int32, in the order of their discovery, the head first.
        weight: `(k,)` float64, of the walk that found each.
        degree: `(k,)` int64, in-edges in the whole graph but for hidden ones.
        hidden: ascending int64, `source · R + type` of the head's in-edges that are not there.
        wanted: ascending int64, entities.
        links: of each step.
    """

    entity: NDArray[np.int32]
    weight: NDArray[np.float64]
    degree: NDArray[np.int64]
    hidden: NDArray[np.int64]
    wanted: NDArray[np.int64]
    links: tuple[_Links, ...]


class Region(Rows):
    """The kept entities of B heads, step by step.

    Args:
        edges: the message graph, which must hold the inverse of every edge.
        head: `(B,)` int64.
        num_types: R, edge types, inverses counted.
        most: new entities that a step may add to a head's; it reads `EDGES_AN_ENTITY` times as many
            edges at most.
        hidden: bool, of the in-edges of each head, one head after the other: whether it and its
            inverse are not there for this head; None hides none.
        task: what training tells; None for a pass that answers, where nothing is random.

    Raises:
        ValueError: when `hidden` has not one value an in-edge.
    """

    def __init__(
        self,
        edges: Incidence,
        head: Tensor,
        num_types: int,
        most: int,
        hidden: Tensor | None = None,
        task: Task | None = None,
    ) -> None:
        super().__init__(head.numpy(), np.arange(len(head) + 1)[None])
        self.edges, self.num_types, self.most = edges, num_types, most
        none = torch.empty(0, dtype=torch.long)
        self._task = task or Task(none, none, seed=0, dropout=0.0)
        self._loss, self._grad = 0.0, np.zeros(0)
        total = int(edges.degree[self.head].sum())
        if hidden is not None and hidden.shape != (total,):
            raise ValueError(f"hidden {tuple(hidden.shape)} does not fit {total} in-edges of heads")
        self._heads, start = [], 0
        for b, h in enumerate(self.head.tolist()):
            degree = edges.degree[h : h + 1]
            gone = np.empty(0, np.int64)
            if hidden is not None:
                gone = hidden[start : start + int(degree[0])].numpy().nonzero()[0]
            start += int(degree[0])
            gone += edges.offsets[h]
            keys = edges.source[gone].astype(np.int64) * num_types + edges.type[gone]
            wanted = self._task.entity[self._task.position == b].unique().numpy()
            entity, degree = np.array([h], np.int32), degree - len(gone)
            self._heads.append(_Kept(entity, np.ones(1), degree, np.sort(keys), wanted, ()))

    def grow(self, state: Tensor, priority: Tensor) -> None:
        """Add a step.

        Args:
            state: `(rows(i), d)` float, or more rows, after the last step, i.
            priority: `(R, d + 1)` float, `a_r` and `b_r` of each edge type.
        """
        states, priorities = bits(state.contiguous()), bits(priority)
        if not self._grad.size:
            self._grad = np.zeros_like(priorities)
        first = self.first[-1, :-1].tolist()
        self._heads = [
            self._grown(kept, states, row, priorities)
            for kept, row in zip(self._heads, first, strict=True)
        ]
        sizes = [0, *(len(kept.entity) for kept in self._heads)]
        self.first = np.concatenate([self.first, np.cumsum(sizes)[None]])

    def _grown(
        self, kept: _Kept, states: NDArray[Any], row: int, priorities: NDArray[Any]
    ) -> _Kept:
        edges, known, types = self.edges, len(kept.entity), self.num_types
        width = lanes_of(states.shape[1])
        seed = np.uint64((self._task.seed * 1_000_003 + int(kept.entity[0])) % 2**64)
        *groups, carried = choose_groups(
            edges.offsets, edges.type, kept.entity, kept.weight, states, row, priorities,
            self.most * EDGES_AN_ENTITY, seed, width,
        )  # fmt: skip
        out, into, kind, brings, name, gained = read_edges(
            edges.source, edges.type, kept.entity, *groups, carried, kept.hidden, types, seed,
            self._task.dropout,
        )  # fmt: skip
        self._loss += walk_loss(
            out, into, kind, brings, name, gained, known, kept.wanted, states, row, self._grad,
            width,
        )  # fmt: skip
        slots = keep_entities(gained, known, self.most)
        entity = name[slots >= 0]
        links = _Links(*connect(out, into, kind, slots, name, known, len(entity), types))
        new, degree = entity[known:], edges.degree[entity[known:]]
        # An edge that is hidden is no in-edge of the head's neighbour either.
        for neighbour in (kept.hidden // types).tolist():
            degree -= new == neighbour
        return kept._replace(
            entity=entity,
            weight=np.concatenate([kept.weight, gained[known:][slots[known:] >= 0]]),
            degree=np.concatenate([kept.degree, degree]),
            links=(*kept.links, links),
        )

    def walk_loss(self, priority: Tensor) -> Tensor:
        """What the walk that chose the entities pays for those that were wanted, a scalar.

        It is the sum over heads and steps of `growth.walk_loss`. All its gradient is to `priority`,
        which must be what `grow` was given.
        """
        loss: Tensor = _WalkLoss.apply(priority, self._loss, self._grad)  # type: ignore[no-untyped-call]
        return loss

    def gathered(self, step: int) -> Iterator[tuple[slice, tuple[NDArray[Any], ...]]]:
        """Of each head, its place and what `path_messages.gather` reads of it."""
        for b, kept in enumerate(self._heads):
            links = kept.links[step - 1]
            graph = (links.inward, links.source, links.type)
            yield slice(b, b + 1), (kept.degree, *graph, *self._arrays(step, b, len(links.source)))

    def scattered(self, step: int) -> Iterator[tuple[slice, tuple[NDArray[Any], ...]]]:
        """Of each head, its place and what `path_messages.scatter` reads of it."""
        for b, kept in enumerate(self._heads):
            links = kept.links[step - 1]
            graph = (links.outward, links.to, links.inverse)
            yield slice(b, b + 1), (*graph, *self._arrays(step, b, len(links.to)))

    def _arrays(self, step: int, b: int, edges: int) -> tuple[NDArray[Any], ...]:
        """The other arrays of the kernels: slots are their own nodes, and no edge is hidden."""
        rows = int(self.first[step, b + 1] - self.first[step, b])
        slot = np.arange(rows, dtype=np.uint32)[None]
        none = np.zeros(edges, np.bool_)
        return (
            np.zeros(edges, np.int32), np.zeros(1, np.int64), none, np.array([0, edges]),
            slot.view(np.int32), slot, self.first[step - 1, b : b + 2], self.first[step, b : b + 2],
        )  # fmt: skip

    def entities(self) -> Tensor:
        """`(rows(L),)` int64: the entity of each row of the last step."""
        return torch.from_numpy(np.concatenate([kept.entity for kept in self._heads])).long()

    def slot_of(self, position: Tensor, entity: Tensor) -> Tensor:
        """`(n,)` int64: the slot of entities that heads keep; N where they do not.

        Args:
            position: `(n,)` int64, the head's place in the batch.
            entity: `(n,)` int64.
        """
        stride = self.edges.num_sources
        head = torch.repeat_interleave(torch.tensor(self.rows_of_heads()))
        key, row = (head * stride + self.entities()).sort()
        asked = position * stride + entity
        place = torch.searchsorted(key, asked).clamp(max=len(key) - 1)
        slot = row[place] - torch.from_numpy(self.first[-1])[position]
        return torch.where(key[place] == asked, slot, stride)

    def arriving(self, step: int, slot: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The edges of a step into slots `(n,)` of the first head, as `Reach.arriving`."""
        kept = self._heads[0]
        links = kept.links[step - 1]
        place, edge = in_edges(torch.from_numpy(links.inward), slot)
        source, type_ = (torch.from_numpy(a)[edge].long() for a in (links.source, links.type))
        return place, source, type_, torch.from_numpy(kept.degree)[slot]


class _WalkLoss(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, priority: Tensor, loss: float, grad: NDArray[Any]) -> Tensor:
        ctx.grad = torch.from_numpy(grad)
        return priority.new_tensor(loss)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        return grads[0] * ctx.grad, None, None
