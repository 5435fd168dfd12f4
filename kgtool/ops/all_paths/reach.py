"""The entities that paths of at most L edges reach from each head, as arrays for the kernels.

A pass stores the states of reached entities only. Breadth-first search numbers them in the order of
discovery: the head has slot 0, and the entities within `i` edges have the first `sizes[i]` slots.
Edges between a head and its neighbours may be excluded for this head. In training these are the
target edges.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numba
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

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
        node: `(B, N)` int32, the entity at each slot; undefined after the reached entities.
        slot: `(B, N)` int32, the slot of each entity; N for an entity that is not reached.
        first: `(L + 1, B + 1)` int64.
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
    ) -> None:
        super().__init__(head, first)
        self.edges, self.opposite, self.node, self.slot = edges, opposite, node, slot
        self.excluded, self.excluded_first = excluded, excluded_first

    def gathered(self, step: int) -> Iterator[tuple[slice, tuple[Any, ...]]]:
        """All heads together, and the arguments of `path_messages.gather` for them."""
        yield slice(None), (self.edges.degree, *self._arrays(step))

    def scattered(self, step: int) -> Iterator[tuple[slice, tuple[Any, ...]]]:
        """All heads together, and the arguments of `path_messages.scatter` for them."""
        yield slice(None), self._arrays(step)

    def _arrays(self, step: int) -> tuple[Any, ...]:
        # With unsigned numbers, kernels do not check for negative indices.
        source, slot = self.edges.source.view(np.uint32), self.slot.view(np.uint32)
        return (
            self.edges.offsets, source, self.edges.type, self.opposite, self.head,
            self.excluded, self.excluded_first, self.node, slot,
            self.first[step - 1], self.first[step], self.edges.weight,
        )  # fmt: skip

    def entities(self) -> Tensor:
        """`(rows(L),)` int64: the entity of each row of the last step."""
        reached = zip(self.node, self.rows_of_heads(), strict=True)
        entities = [nodes[:size] for nodes, size in reached]
        return torch.from_numpy(np.concatenate([np.empty(0, np.int32), *entities])).long()

    def slot_of(self, position: Tensor, entity: Tensor) -> Tensor:
        """`(n,)` int64: the slots of entities reached from heads; N for those not reached.

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
        place, e = place[there], edge[there].numpy()
        source = torch.from_numpy(self.slot[0, self.edges.source[e]]).long()
        brings = source < int(self.first[step - 1, 1])
        type_ = torch.from_numpy(self.edges.type[e]).long()
        degree = torch.bincount(place, minlength=len(slot))
        weight = None
        if self.edges.weight is not None:
            weight = torch.from_numpy(self.edges.weight[e])[brings]
        return Arriving(place[brings], source[brings], type_[brings], degree, weight)


@numba.njit(nogil=True, cache=True)
def _search(offsets, source, head, excluded, excluded_first, node, slot, sizes):  # type: ignore[no-untyped-def] # pragma: no cover
    num_steps, num_entities = sizes.shape[0] - 1, slot.shape[1]
    for b in range(len(head)):
        slot[b, :] = num_entities
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
                    if slot[b, v] < num_entities:
                        continue
                    if excludes and k == 0 and excluded[excluded_first[b] + e - offsets[u]]:
                        continue
                    node[b, next_slot], slot[b, v] = v, next_slot
                    next_slot += 1
            begin, end = end, next_slot
            sizes[step + 1, b] = end


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
    opposite: NDArray[np.int32] = NO_EDGES,
) -> Reach:
    """Find the entities within L edges of each head, by breadth-first search.

    Args:
        edges: the knowledge graph, which must contain the inverse of every edge.
        head: `(B,)` int64.
        num_steps: L.
        excluded_edges: for each head, `(k,)` int64 ids of in-edges of the head. This head's search
            ignores them and their inverses. None excludes no edge.
        opposite: `(e,)` int32, the inverse of each edge; needed if edges are excluded.

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
    node = np.empty((len(h), edges.num_sources), np.int32)
    slot = np.empty_like(node)
    sizes = np.empty((num_steps + 1, len(h)), np.int64)
    _search(edges.offsets, edges.source, h, excluded, excluded_first, node, slot, sizes)
    first = np.zeros((num_steps + 1, len(h) + 1), np.int64)
    np.cumsum(sizes, axis=1, out=first[:, 1:])
    return Reach(edges, opposite, h, excluded, excluded_first, node, slot, first)
