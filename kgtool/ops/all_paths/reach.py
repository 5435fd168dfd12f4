"""The entities that paths of at most L edges reach from each head, as arrays for the kernels.

A pass stores the states of reached entities only. Breadth-first search numbers them in the order of
discovery: the head has slot 0, and the entities within `i` edges have the first `sizes[i]` slots.
Edges between a head and its neighbours may be excluded for this head. In training these are the
target edges.

A pass may be limited to the part of the graph around its head, see
`kgtool.ops.all_paths.neighbourhood`. Then it reads the edges between the part's entities.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numba
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kgtool.ops.all_paths.neighbourhood import nearest
from kgtool.ops.graph.csc import CSC, in_edges
from kgtool.ops.runtime.rows import common_size

# The arguments of kernels where no edge is excluded.
NO_EDGES, NONE_EXCLUDED = np.empty(0, np.int32), np.empty(0, np.bool_)


class Rows:
    """The layout of states of B heads in rows, for each step.

    The rows of step `i` are the states of all heads. Those of head `b` are the rows `first[i, b]`
    to `first[i, b + 1]`, a row per slot.

    Args:
        head: `(B,)` int64.
        first: `(steps + 1, B + 1)` int64.
    """

    def __init__(self, head: NDArray[np.int64], first: NDArray[np.int64]) -> None:
        self.head, self.first = head, first

    @property
    def num_heads(self) -> int:
        """B, the number of heads."""
        return len(self.head)

    @property
    def num_steps(self) -> int:
        """L, the number of steps."""
        return len(self.first) - 1

    def rows(self, step: int) -> int:
        """The number of states after `step` steps."""
        return int(self.first[step, -1])

    def padded_rows(self, step: int) -> int:
        """A larger number of rows, by at least one: see `common_size`."""
        return common_size(self.rows(step))

    def rows_of_heads(self) -> list[int]:
        """The number of entities of each head after the last step."""
        return [int(size) for size in np.diff(self.first[-1])]


class Arriving(NamedTuple):
    """The edges with a message to n slots.

    Attributes:
        place, source, type: `(e,)` int64, the position among the slots of each edge's destination,
            ascending; the slot of its source; and its type.
        degree: `(n,)` int64, the in-degree of each slot without excluded edges.
        weight: `(e,)` float32, the weight of each edge; None if all are 1.
    """

    place: Tensor
    source: Tensor
    type: Tensor
    degree: Tensor
    weight: Tensor | None


class Reach(Rows):
    """The entities that B heads reach in L steps.

    Args:
        edges: the knowledge graph.
        opposite: `(e,)` int32, the inverse of each edge; empty if no edge is excluded.
        head: `(B,)` int64.
        excluded: `(m,)` bool, for the in-edges of each head, one head after the other: whether the
            edge and its inverse are excluded for this head; empty if no edge is excluded.
        excluded_first: `(B + 1,)` int64, where the in-edges of each head begin in `excluded`; all
            0 if no edge is excluded.
        node: `(B, n)` int32, the entity at each slot; undefined after the reached entities.
        slot: `(B, N)` int32, the slot of each entity; N for an entity that is not reached, and
            N + 1 for one that is outside of the part.
        first: `(L + 1, B + 1)` int64.
        degree: `(B, N)` int64, the in-degrees of the entities of each part, excluded edges of the
            head included; None for passes over the whole graph.
    """

    def __init__(
        self,
        edges: CSC,
        opposite: NDArray[np.int32],
        head: NDArray[np.int64],
        excluded: NDArray[np.bool_],
        excluded_first: NDArray[np.int64],
        node: NDArray[np.int32],
        slot: NDArray[np.int32],
        first: NDArray[np.int64],
        degree: NDArray[np.int64] | None = None,
    ) -> None:
        super().__init__(head, first)
        self.edges, self.opposite, self.node, self.slot = edges, opposite, node, slot
        self.excluded, self.excluded_first = excluded, excluded_first
        self.degree = degree

    def gathered(self, step: int) -> Iterator[tuple[slice, tuple[Any, ...]]]:
        """All heads together, or those of parts one by one, and the arguments of `gather`.

        See `kgtool.ops.all_paths.path_messages`.
        """
        if self.degree is None:
            yield slice(None), (self.edges.degree, *self._arrays(step, slice(0, self.num_heads)))
        else:
            for b, degree in enumerate(self.degree):
                yield slice(b, b + 1), (degree, *self._arrays(step, slice(b, b + 1)))

    def scattered(self, step: int) -> Iterator[tuple[slice, tuple[Any, ...]]]:
        """All heads together, and the arguments of `path_messages.scatter` for them."""
        yield slice(None), self._arrays(step, slice(0, self.num_heads))

    def _arrays(self, step: int, heads: slice) -> tuple[Any, ...]:
        # With unsigned numbers, kernels do not check for negative indices.
        source, slot = self.edges.source.view(np.uint32), self.slot.view(np.uint32)
        bounds = slice(heads.start, heads.stop + 1)
        return (
            self.edges.offsets, source, self.edges.type, self.opposite, self.head[heads],
            self.excluded, self.excluded_first[bounds], self.node[heads], slot[heads],
            self.first[step - 1, bounds], self.first[step, bounds], self.edges.weight,
        )  # fmt: skip

    def entities(self) -> Tensor:
        """`(rows(L),)` int64: the entity of each row of the last step."""
        reached = zip(self.node, self.rows_of_heads(), strict=True)
        entities = [nodes[:size] for nodes, size in reached]
        return torch.from_numpy(np.concatenate([np.empty(0, np.int32), *entities])).long()

    def slot_of(self, position: Tensor, entity: Tensor) -> Tensor:
        """`(n,)` int64: the slots of entities reached from heads; N or more for the others.

        Args:
            position: `(n,)` int64, the position of each head in the batch.
            entity: `(n,)` int64.
        """
        return torch.from_numpy(self.slot[position.numpy(), entity.numpy()]).long()

    def arriving(self, step: int, slot: Tensor) -> Arriving:
        """The edges with a message, in a step, to slots `(n,)` of the first head."""
        place, edge = in_edges(
            torch.from_numpy(self.edges.offsets), torch.from_numpy(self.node[0])[slot].long()
        )
        own = np.nonzero(self.excluded[: self.excluded_first[1]])[0]
        own += self.edges.offsets[self.head[0]]
        gone = torch.from_numpy(np.concatenate([own, self.opposite[own]]))
        there = ~torch.isin(edge, gone)
        source = torch.from_numpy(self.slot[0, self.edges.source[edge.numpy()]]).long()
        there &= source <= self.edges.num_sources  # within the part
        place, e, source = place[there], edge[there].numpy(), source[there]
        brings = source < int(self.first[step - 1, 1])
        type_ = torch.from_numpy(self.edges.type[e]).long()
        degree = torch.bincount(place, minlength=len(slot))
        weight = None
        if self.edges.weight is not None:
            weight = torch.from_numpy(self.edges.weight[e])[brings]
        return Arriving(place[brings], source[brings], type_[brings], degree, weight)


@numba.njit(nogil=True, cache=True)
def _search(offsets, source, head, excluded, excluded_first, node, slot, sizes):  # type: ignore[no-untyped-def] # pragma: no cover
    """Fill in nodes, slots and sizes; slots are N before, or N + 1 where a pass may not go."""
    num_steps, num_entities = sizes.shape[0] - 1, slot.shape[1]
    for b in range(len(head)):
        h = head[b]
        node[b, 0], slot[b, h] = h, 0
        begin, end = 0, 1
        excludes = excluded_first[b] < excluded_first[b + 1]
        sizes[0, b] = 1
        for step in range(num_steps):
            next_slot = end
            for k in range(begin, end):
                u = node[b, k]
                # The graph contains the inverse of every edge: the sources of in-edges are all
                # neighbours.
                for e in range(offsets[u], offsets[u + 1]):
                    v = source[e]
                    if slot[b, v] != num_entities:
                        continue
                    if excludes and k == 0 and excluded[excluded_first[b] + e - offsets[u]]:
                        continue
                    node[b, next_slot], slot[b, v] = v, next_slot
                    next_slot += 1
            begin, end = end, next_slot
            sizes[step + 1, b] = end


@numba.njit(nogil=True, cache=True)
def _degrees(offsets, source, head, excluded, slot, entity, degree):  # type: ignore[no-untyped-def] # pragma: no cover
    """Count the in-edges from entities of the part, and all excluded edges of the head."""
    outside = len(slot) + 1
    for v in entity:
        count = 0
        for e in range(offsets[v], offsets[v + 1]):
            own = v == head and len(excluded) > 0 and excluded[e - offsets[v]]
            count += own or slot[source[e]] != outside
        degree[v] = count


def check_excluded(
    edges: CSC, head: NDArray[np.int64], excluded_edges: Sequence[Tensor] | None
) -> list[NDArray[np.int64]]:
    """Of each head, the excluded edges into it, ascending, each once.

    Raises:
        ValueError: when an excluded edge does not lead to its head, or not each head has some.
    """
    if excluded_edges is None:
        return [np.empty(0, np.int64)] * len(head)
    found = [np.unique(ids.numpy()) for ids in excluded_edges]
    if len(found) != len(head):
        raise ValueError(f"excluded edges of {len(found)} heads, not of {len(head)}")
    for h, ids in zip(head, found, strict=True):
        if len(ids) and not edges.offsets[h] <= ids[0] <= ids[-1] < edges.offsets[h + 1]:
            raise ValueError(f"an excluded edge does not lead to its head, {h}")
    return found


def reach(
    edges: CSC,
    head: Tensor,
    num_steps: int,
    excluded_edges: Sequence[Tensor] | None = None,
    opposite: NDArray[np.int32] | None = None,
    most: int = 0,
) -> Reach:
    """Find the entities within L edges of each head, by breadth-first search.

    Args:
        edges: the knowledge graph, which must contain the inverse of every edge.
        head: `(B,)` int64.
        num_steps: L.
        excluded_edges: for each head, `(k,)` int64 ids of in-edges of the head. This head's search
            ignores them and their inverses. None excludes no edge.
        opposite: `(e,)` int32, the inverse of each edge; only needed if edges are excluded.
        most: entities that a step may add to the part of a pass, see
            `kgtool.ops.all_paths.neighbourhood`; 0 for passes over the whole graph.

    Raises:
        ValueError: if an excluded edge does not lead to its head.
    """
    h = head.numpy()
    excluded, excluded_first = NONE_EXCLUDED, np.zeros(len(h) + 1, np.int64)
    if excluded_edges is not None:
        np.cumsum(edges.degree[h], out=excluded_first[1:])
        excluded = np.zeros(excluded_first[-1], np.bool_)
        for b, ids in enumerate(check_excluded(edges, h, excluded_edges)):
            excluded[excluded_first[b] + ids - edges.offsets[h[b]]] = True
    size = edges.num_sources
    slot, degree = np.full((len(h), size), size, np.int32), None
    if most:
        slot += 1
        degree, size = np.empty(slot.shape, np.int64), min(size, 1 + num_steps * most)
        for b, into in enumerate(degree):
            own = excluded[excluded_first[b] : excluded_first[b + 1]]
            entity = nearest(edges, int(h[b]), num_steps, most, own)
            slot[b, entity] -= 1
            _degrees(edges.offsets, edges.source, h[b], own, slot[b], entity, into)
    node = np.empty((len(h), size), np.int32)
    sizes = np.empty((num_steps + 1, len(h)), np.int64)
    _search(edges.offsets, edges.source, h, excluded, excluded_first, node, slot, sizes)
    first = np.zeros((num_steps + 1, len(h) + 1), np.int64)
    np.cumsum(sizes, axis=1, out=first[:, 1:])
    opposite = NO_EDGES if opposite is None else opposite
    return Reach(edges, opposite, h, excluded, excluded_first, node, slot, first, degree)
