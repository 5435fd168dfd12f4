"""What paths of at most L edges reach from each head, packed for the kernels that follow.

A pass keeps states of reached entities only. Breadth-first search numbers them in the order of
their discovery: the head has slot 0, and those reached within `i` edges have the first
`sizes[i]` slots. Edges may be taken away for one head: those between it and some of its
neighbours, which are the edges that training asks for.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numba
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kgtool.ops.graph.incidence import Incidence, in_edges
from kgtool.ops.runtime.rows import common_size


class Rows:
    """States of B heads, step by step: which rows are whose.

    Rows of step `i` are the states of all heads: those of head `b` are rows `first[i, b]` to
    `first[i, b + 1]`, one a slot.

    Args:
        head: `(B,)` int64.
        first: `(steps + 1, B + 1)` int64.
    """

    def __init__(self, head: NDArray[np.int64], first: NDArray[np.int64]) -> None:
        self.head, self.first = head, first

    @property
    def num_heads(self) -> int:
        """B."""
        return len(self.head)

    @property
    def num_steps(self) -> int:
        """How many steps there are."""
        return len(self.first) - 1

    def rows(self, step: int) -> int:
        """How many states there are after `step` steps."""
        return int(self.first[step, -1])

    def padded_rows(self, step: int) -> int:
        """More rows than that, at least one: see `common_size`."""
        return common_size(self.rows(step))

    def rows_of_heads(self) -> list[int]:
        """How many entities each head has after the last step."""
        return [int(size) for size in np.diff(self.first[-1])]


class Reach(Rows):
    """The reached entities of B heads, in the first L steps.

    Args:
        edges: the message graph.
        opposite: `(e,)` int32, the inverse of each edge.
        head: `(B,)` int64.
        hidden: `(h,)` bool, of the in-edges of each head, one after the other: whether it and its
            inverse are not there for this head.
        hidden_first: `(B + 1,)` int64 into those.
        node: `(B, N)` int32, the entity at each slot; beyond what is reached, undefined.
        slot: `(B, N)` int32, the slot of each entity; N where it is not reached.
        first: `(L + 1, B + 1)` int64.
    """

    def __init__(
        self,
        edges: Incidence,
        opposite: NDArray[np.int32],
        head: NDArray[np.int64],
        hidden: NDArray[np.bool_],
        hidden_first: NDArray[np.int64],
        node: NDArray[np.int32],
        slot: NDArray[np.int32],
        first: NDArray[np.int64],
    ) -> None:
        super().__init__(head, first)
        self.edges, self.opposite, self.node, self.slot = edges, opposite, node, slot
        self.hidden, self.hidden_first = hidden, hidden_first

    def gathered(self, step: int) -> Iterator[tuple[slice, tuple[NDArray[Any], ...]]]:
        """Heads, all at once, and what `path_messages.gather` reads of them."""
        yield slice(None), (self.edges.degree, *self._arrays(step))

    def scattered(self, step: int) -> Iterator[tuple[slice, tuple[NDArray[Any], ...]]]:
        """Heads, all at once, and what `path_messages.scatter` reads of them."""
        yield slice(None), self._arrays(step)

    def _arrays(self, step: int) -> tuple[NDArray[Any], ...]:
        # As unsigned numbers, so that no kernel asks whether an index counts from the end.
        source, slot = self.edges.source.view(np.uint32), self.slot.view(np.uint32)
        return (
            self.edges.offsets, source, self.edges.type, self.opposite, self.head,
            self.hidden, self.hidden_first, self.node, slot,
            self.first[step - 1], self.first[step],
        )  # fmt: skip

    def entities(self) -> Tensor:
        """`(rows(L),)` int64: the entity of each row of the last step."""
        reached = zip(self.node, self.rows_of_heads(), strict=True)
        return torch.from_numpy(np.concatenate([nodes[:size] for nodes, size in reached])).long()

    def slot_of(self, position: Tensor, entity: Tensor) -> Tensor:
        """`(n,)` int64: the slot of entities reached from heads; N where they are not.

        Args:
            position: `(n,)` int64, the head's place in the batch.
            entity: `(n,)` int64.
        """
        return torch.from_numpy(self.slot[position.numpy(), entity.numpy()]).long()

    def arriving(self, step: int, slot: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The edges that bring something in a step to slots `(n,)` of the first head.

        Returns:
            Of each edge, `(e,)` int64: the place in `slot` of the one that it comes to, ascending,
            the slot of its source and its type. Then `(n,)`, the in-edges of each slot, those that
            are hidden left out.
        """
        place, edge = in_edges(
            torch.from_numpy(self.edges.offsets), torch.from_numpy(self.node[0])[slot].long()
        )
        own = np.nonzero(self.hidden[: self.hidden_first[1]])[0]
        own += self.edges.offsets[self.head[0]]
        gone = torch.from_numpy(np.concatenate([own, self.opposite[own]]))
        there = ~torch.isin(edge, gone)
        place, e = place[there], edge[there].numpy()
        source = torch.from_numpy(self.slot[0, self.edges.source[e]]).long()
        brings = source < int(self.first[step - 1, 1])
        type_ = torch.from_numpy(self.edges.type[e]).long()
        degree = torch.bincount(place, minlength=len(slot))
        return place[brings], source[brings], type_[brings], degree


@numba.njit(nogil=True, cache=True)
def _search(offsets, source, head, hidden, hidden_first, node, slot, sizes):  # type: ignore[no-untyped-def] # pragma: no cover
    num_steps, num_entities = sizes.shape[0] - 1, slot.shape[1]
    for b in range(len(head)):
        slot[b, :] = num_entities
        h = head[b]
        node[b, 0], slot[b, h] = h, 0
        begin, end = 0, 1
        sizes[0, b] = 1
        for step in range(num_steps):
            found = end
            for k in range(begin, end):
                u = node[b, k]
                # The graph holds every edge's inverse: sources of in-edges are the neighbours.
                for e in range(offsets[u], offsets[u + 1]):
                    v = source[e]
                    if slot[b, v] < num_entities:
                        continue
                    if k == 0 and hidden[hidden_first[b] + e - offsets[u]]:
                        continue
                    node[b, found], slot[b, v] = v, found
                    found += 1
            begin, end = end, found
            sizes[step + 1, b] = end


def reach(
    edges: Incidence,
    opposite: NDArray[np.int32],
    head: Tensor,
    num_steps: int,
    hidden: Tensor | None = None,
) -> Reach:
    """Search from each head.

    Args:
        edges: the message graph, which must hold the inverse of every edge.
        opposite: `(e,)` int32, the inverse of each edge.
        head: `(B,)` int64.
        num_steps: L.
        hidden: bool, of the in-edges of each head, one head after the other; None hides none.

    Raises:
        ValueError: when `hidden` has not one value an in-edge.
    """
    h = head.numpy()
    degree = edges.offsets[h + 1] - edges.offsets[h]
    hidden_first = np.concatenate([[0], degree.cumsum()])
    total = int(hidden_first[-1])
    taken = np.zeros(total, np.bool_) if hidden is None else hidden.numpy()
    if taken.shape != (total,):
        raise ValueError(f"hidden {taken.shape} does not fit {total} in-edges of the heads")
    node = np.empty((len(h), edges.num_sources), np.int32)
    slot = np.empty_like(node)
    sizes = np.empty((num_steps + 1, len(h)), np.int64)
    _search(edges.offsets, edges.source, h, taken, hidden_first, node, slot, sizes)
    first = np.zeros((num_steps + 1, len(h) + 1), np.int64)
    np.cumsum(sizes, axis=1, out=first[:, 1:])
    return Reach(edges, opposite, h, taken, hidden_first, node, slot, first)
