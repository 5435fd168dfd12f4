"""Typed edges between two node sets, sorted by destination (CSC), and by source if needed (CSR)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numba
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kgtool.ops.runtime.compiling import match_threads
from kgtool.ops.runtime.order_by import begins, order_by

# Kernels divide their work into this number of chunks with about equal numbers of edges. The number
# does not depend on threads, and the sums of chunks are added in order. So the number of threads
# cannot change a result.
NUM_CHUNKS = 64


def offsets_of(ids: Tensor, size: int) -> Tensor:
    """`(size + 1,)` int64: where each id below `size` begins among ascending `ids`, `(n,)`."""
    counts = torch.bincount(ids, minlength=size)
    return torch.cat([counts.new_zeros(1), counts.cumsum(0)])


def in_edges(offsets: Tensor, node: Tensor) -> tuple[Tensor, Tensor]:
    """The in-edges of nodes, one node after the other.

    Args:
        offsets: `(num_destinations + 1,)` int, as in `CSC`.
        node: `(n,)` int.

    Returns:
        `position` `(e,)`, ascending positions in `node`, and `edge` `(e,)`, int64.
    """
    first = offsets[node].long()
    degree = offsets[node + 1] - first
    position = torch.repeat_interleave(degree)
    before = degree.cumsum(0) - degree
    return position, (first - before)[position] + torch.arange(len(position), device=node.device)


class CSR(NamedTuple):
    """Edges sorted by source, then type.

    Attributes:
        offsets: `(num_sources + 1,)` int32; out-edges of `u` are `offsets[u]:offsets[u + 1]`.
        edge, destination: `(e,)` int32, each edge's id in the CSC, and its destination.
        chunks: `(c + 1,)` int64 bounds of sources with about equal edge counts.
    """

    offsets: NDArray[np.int32]
    edge: NDArray[np.int32]
    destination: NDArray[np.int32]
    chunks: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class CSC:
    """Typed edges from sources to destinations, sorted by destination: compressed columns.

    Attributes:
        offsets: `(num_destinations + 1,)` int32; in-edges of `v` are `offsets[v]:offsets[v + 1]`.
        source, type: `(e,)` int32, of each edge.
        num_sources: the number of source nodes.
        weight: `(e,)` float32, the weight of each edge, above 0; None if all are 1.
    """

    offsets: NDArray[np.int32]
    source: NDArray[np.int32]
    type: NDArray[np.int32]
    num_sources: int
    weight: NDArray[np.float32] | None = None

    @property
    def num_destinations(self) -> int:
        """The number of destination nodes."""
        return len(self.offsets) - 1

    @property
    def num_edges(self) -> int:
        """The number of edges."""
        return len(self.source)

    @cached_property
    def max_type(self) -> int:
        """The greatest edge type, or -1 without edges."""
        return int(self.type.max(initial=-1))

    @cached_property
    def degree(self) -> NDArray[np.int64]:
        """`(num_destinations,)` int64: the in-degree of each destination."""
        return np.diff(self.offsets).astype(np.int64)

    @cached_property
    def chunks(self) -> NDArray[np.int64]:
        """`(c + 1,)` int64 bounds of destinations with about equal edge counts."""
        return _chunks(self.offsets)

    def destinations(self) -> NDArray[np.int32]:
        """`(e,)` int32: the destination of each edge; a new array at each call."""
        return np.repeat(np.arange(self.num_destinations, dtype=np.int32), self.degree)

    @cached_property
    def weight_until(self) -> NDArray[np.float64] | None:
        """`(e + 1,)` float64: the sum of the weights before each edge; None without weights."""
        if self.weight is None:
            return None
        return np.concatenate([[0.0], self.weight.cumsum(dtype=np.float64)])

    @cached_property
    def group_begins(self) -> NDArray[np.bool_]:
        """`(e,)`: the first edge of each group of edges of one destination and type."""
        first: NDArray[np.bool_] = begins(self.type)
        first[self.offsets[:-1][self.degree > 0]] = True
        return first

    @cached_property
    def reverse(self) -> CSR:
        """The edges by source, computed at the first use; only backward passes need it."""
        order = order_by((self.source, self.type), (self.num_sources, self.max_type + 1))
        offsets = _offsets(self.source, self.num_sources)
        return CSR(offsets, order, self.destinations()[order], _chunks(offsets))

    @classmethod
    def from_edges(
        cls,
        source: Tensor,
        destination: Tensor,
        type_: Tensor | None,
        num_sources: int,
        num_destinations: int,
    ) -> CSC:
        """Index edges that are sorted by destination already.

        Args:
            source, destination: `(e,)` int; `destination` ascending.
            type_: `(e,)` int edge types; None means type 0 for all edges.
            num_sources, num_destinations: sizes of the two node sets.

        Raises:
            ValueError: if ids are out of range, types are negative or destinations do not ascend.
        """
        head, tail = source.numpy(), destination.numpy()
        for ids, size in ((head, num_sources), (tail, num_destinations)):
            if len(ids) and not (ids.min() >= 0 and ids.max() < size):
                raise ValueError(f"node ids from {ids.min()} to {ids.max()}, of {size} nodes")
        if (tail[1:] < tail[:-1]).any():
            raise ValueError("edges are not sorted by destination")
        kind = np.zeros(len(head), np.int32) if type_ is None else type_.numpy().astype(np.int32)
        if kind.min(initial=0) < 0:
            raise ValueError(f"edge type {kind.min()} is negative")
        offsets = _offsets(tail, num_destinations)
        return cls(offsets, head.astype(np.int32), kind, num_sources)

    @classmethod
    def with_inverses(
        cls,
        ends: Sequence[tuple[Tensor, Tensor]],
        num_nodes: int,
        held: Tensor | None = None,
    ) -> CSC:
        """The edges of each relation and their inverses, sorted by tail, relation and head.

        Args:
            ends: for each of R relations, its heads and tails, `(e_r,)` int32. The type of an edge
                is its relation `r`; the type of its inverse is `r + R`.
            num_nodes: a number above all ids.
            held: `(num_nodes,)` bool: only the edges to these nodes; None for all edges.

        Raises:
            ValueError: if there are 2³¹ edges or more.
        """
        size, num_types = 2 * sum(len(head) for head, _ in ends), 2 * len(ends)
        if size >= 2**31:
            raise ValueError(f"{size:,} edges, including inverses; the limit is 2³¹ - 1")
        keys, filled = np.empty(size, np.int64), 0
        into = np.empty(0, np.bool_) if held is None else held.numpy()
        for relation, (head, tail) in enumerate(ends):
            both = head.numpy(), tail.numpy()
            for kind, (one, other) in ((relation, both), (relation + len(ends), both[::-1])):
                filled = _pack(one, other, kind, num_nodes, num_types, into, keys, filled)
        keys = keys[:filled]
        keys.sort()  # in place; with one int64 per edge, this is faster than sorting by columns
        offsets = np.zeros(num_nodes + 1, np.int32)
        source, type_ = np.empty(filled, np.int32), np.empty(filled, np.int32)
        _unpack(keys, num_nodes, num_types, offsets, source, type_)
        return cls(offsets, source, type_, num_nodes)

    def into(self, first: int, last: int) -> tuple[CSC, slice]:
        """The in-edges of destinations from `first` to `last`.

        Returns:
            The edges, which share memory with these; their destinations count from 0. And their
            positions among these edges.
        """
        if (first, last) == (0, self.num_destinations):
            return self, slice(None)
        offsets = self.offsets[first : last + 1]
        taken = slice(int(offsets[0]), int(offsets[-1]))
        return CSC(
            offsets - offsets[0], self.source[taken], self.type[taken], self.num_sources
        ), taken

    def check(self, x: Tensor, scale: Tensor, num_types: int) -> None:
        """Refuse features, edge scales or per-type weights that do not fit these edges.

        Raises:
            ValueError: if shapes or dtypes do not fit.
        """
        if x.shape[0] != self.num_sources or scale.shape != self.source.shape:
            raise ValueError(
                f"x {tuple(x.shape)} and scale {tuple(scale.shape)} do not fit "
                f"{self.num_sources} sources and {len(self.source)} edges"
            )
        if x.dtype != scale.dtype:
            raise ValueError(f"dtypes differ: {x.dtype}, {scale.dtype}")
        if num_types <= self.max_type:
            raise ValueError(f"weights for {num_types} types, but an edge has type {self.max_type}")


def _offsets(ids: NDArray[np.integer], size: int) -> NDArray[np.int32]:
    return np.concatenate([[0], np.bincount(ids, minlength=size).cumsum()]).astype(np.int32)


def _chunks(offsets: NDArray[np.int32]) -> NDArray[np.int64]:
    """The node bounds of chunks; the weight of a node is its number of edges plus one."""
    weight = offsets + np.arange(len(offsets))
    targets = np.linspace(0, weight[-1], NUM_CHUNKS + 1)
    bounds: NDArray[np.int64] = np.searchsorted(weight, targets).astype(np.int64)
    bounds[0], bounds[-1] = 0, len(offsets) - 1
    return bounds


@numba.njit(nogil=True, cache=True)
def _pack(source, destination, kind, num_nodes, num_types, held, keys, filled):  # type: ignore[no-untyped-def] # pragma: no cover
    """Append a key per edge, in the order (destination, type, source); return the new length."""
    for i in range(len(source)):
        if len(held) == 0 or held[destination[i]]:
            keys[filled] = (destination[i] * num_types + kind) * num_nodes + source[i]
            filled += 1
    return filled


@numba.njit(nogil=True, cache=True)
def _unpack(keys, num_nodes, num_types, offsets, source, type_):  # type: ignore[no-untyped-def] # pragma: no cover
    nodes, types = np.uint64(num_nodes), np.uint64(num_types)
    for i in range(len(keys)):
        key = np.uint64(keys[i])
        pair = key // nodes
        destination = pair // types
        source[i] = key - pair * nodes
        type_[i] = pair - destination * types
        offsets[destination + np.uint64(1)] += 1
    for v in range(num_nodes):
        offsets[v + 1] += offsets[v]


@numba.njit(parallel=True, cache=True)
def _norm(chunks, offsets, type_, kept, norm):  # type: ignore[no-untyped-def] # pragma: no cover
    one = norm.dtype.type(1)
    for chunk in numba.prange(len(chunks) - 1):
        for v in range(chunks[chunk], chunks[chunk + 1]):
            begin, stop = np.int64(offsets[v]), np.int64(offsets[v + 1])
            while begin < stop:
                end, count = begin, 0
                while end < stop and type_[end] == type_[begin]:
                    count += len(kept) == 0 or kept[end]
                    end += 1
                for e in range(begin, end):
                    if len(kept) == 0 or kept[e]:
                        norm[e] = one / norm.dtype.type(count)
                    else:
                        norm[e] = 0
                begin = end


def edge_norm(edges: CSC, kept: Tensor | None, dtype: torch.dtype) -> Tensor:
    """The factor `1 / c_{v,r}` of each kept edge (R-GCN's equation 2), and 0 for other edges.

    Args:
        edges: sorted by destination, then type.
        kept: `(e,)` bool, or None for all edges. `c_{v,r}` is the number of kept in-edges of `v` of
            type `r`. With weights `ω`, the factor is `ω_e / Σ ω`, with the sum over these edges:
            the sum of the messages of a type becomes their weighted mean.
        dtype: float32 or float64.

    Returns:
        `(e,)` of `dtype`.
    """
    if edges.weight is not None:
        return _weighted_norm(edges, kept, dtype)
    match_threads()
    norm = torch.from_numpy(np.empty(edges.num_edges, torch.empty(0, dtype=dtype).numpy().dtype))
    mask = np.empty(0, np.bool_) if kept is None else kept.numpy()
    _norm(edges.chunks, edges.offsets, edges.type, mask, norm.numpy())
    return norm


def _weighted_norm(edges: CSC, kept: Tensor | None, dtype: torch.dtype) -> Tensor:
    """`edge_norm` of edges with weights."""
    weight = torch.from_numpy(edges.weight).to(dtype).numpy()
    if kept is not None:
        weight = weight * kept.numpy()
    first = edges.group_begins
    total = np.add.reduceat(weight, np.flatnonzero(first)) if len(weight) else weight
    norm = np.zeros_like(weight)
    np.divide(weight, total[np.cumsum(first) - 1], out=norm, where=weight > 0)
    return torch.from_numpy(norm)
