"""Typed edges between two node sets, indexed from both ends for the kernels."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kgtool.ops.runtime.order_by import order_by

# Work is cut into this many chunks of about equal numbers of edges, whatever the thread count:
# what chunks add up is added in order, so the number of threads cannot change a result.
NUM_CHUNKS = 64


def offsets_of(ids: Tensor, size: int) -> Tensor:
    """`(size + 1,)` int64: where each id, below `size`, begins among ids `(n,)` in order."""
    counts = torch.bincount(ids, minlength=size)
    return torch.cat([counts.new_zeros(1), counts.cumsum(0)])


def in_edges(offsets: Tensor, node: Tensor) -> tuple[Tensor, Tensor]:
    """The in-edges of nodes, one node after the other.

    Args:
        offsets: `(num_destinations + 1,)` int64, as of `Incidence`.
        node: `(n,)` int.

    Returns:
        `position` `(e,)`, ascending positions in `node`, and `edge` `(e,)`, int64.
    """
    first, degree = offsets[node], offsets[node + 1] - offsets[node]
    position = torch.repeat_interleave(degree)
    before = degree.cumsum(0) - degree
    return position, (first - before)[position] + torch.arange(len(position), device=node.device)


@dataclass(frozen=True, eq=False)
class Incidence:
    """Typed edges from sources to destinations, sorted by destination, with the reverse order.

    Attributes:
        num_sources, num_destinations: sizes of the two node sets.
        source, type: `(e,)` int32, of each edge, edges sorted by destination.
        offsets: `(num_destinations + 1,)` int64; in-edges of `v` are `offsets[v]:offsets[v + 1]`.
        reverse_edge, reverse_destination: `(e,)` int32, edges sorted by source, then type.
        reverse_offsets: `(num_sources + 1,)` int64 into those.
        chunks, reverse_chunks: `(c + 1,)` int64 bounds of nodes with about equal edge counts.
    """

    num_sources: int
    num_destinations: int
    source: NDArray[np.int32]
    type: NDArray[np.int32]
    offsets: NDArray[np.int64]
    reverse_edge: NDArray[np.int32]
    reverse_destination: NDArray[np.int32]
    reverse_offsets: NDArray[np.int64]
    chunks: NDArray[np.int64]
    reverse_chunks: NDArray[np.int64]

    @cached_property
    def max_type(self) -> int:
        """The greatest edge type, or -1 without edges."""
        return int(self.type.max(initial=-1))

    @cached_property
    def degree(self) -> NDArray[np.int64]:
        """`(num_destinations,)` int64: in-edges of each destination."""
        return np.diff(self.offsets)

    @classmethod
    def from_edges(
        cls,
        source: Tensor,
        destination: Tensor,
        type_: Tensor | None,
        num_sources: int,
        num_destinations: int,
    ) -> Incidence:
        """Index edges that are sorted by destination already.

        Args:
            source, destination: `(e,)` int64; `destination` ascending.
            type_: `(e,)` int64 edge types; None stands for one type, 0.
            num_sources, num_destinations: sizes of the two node sets.

        Raises:
            ValueError: for ids out of range, negative types or destinations that do not ascend.
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
        order = order_by((head, kind), (num_sources, int(kind.max(initial=-1)) + 1))
        offsets, reverse_offsets = _offsets(tail, num_destinations), _offsets(head, num_sources)
        return cls(
            num_sources=num_sources,
            num_destinations=num_destinations,
            source=head.astype(np.int32),
            type=kind,
            offsets=offsets,
            reverse_edge=order,
            reverse_destination=tail.astype(np.int32)[order],
            reverse_offsets=reverse_offsets,
            chunks=_chunks(offsets),
            reverse_chunks=_chunks(reverse_offsets),
        )

    def into(self, first: int, last: int) -> tuple[Incidence, slice]:
        """The in-edges of destinations from `first` to `last`, to be read from that end alone.

        Returns:
            The edges, which share the memory of these and have no reverse order; their
            destinations count from 0. And where they stand among these.
        """
        if (first, last) == (0, self.num_destinations):
            return self, slice(None)
        offsets = self.offsets[first : last + 1]
        taken = slice(int(offsets[0]), int(offsets[-1]))
        offsets = offsets - offsets[0]
        none, nothing = np.empty(0, np.int32), np.zeros(1, np.int64)
        part = Incidence(
            self.num_sources, last - first, self.source[taken], self.type[taken], offsets,
            none, none, nothing, _chunks(offsets), nothing,
        )  # fmt: skip
        return part, taken

    def check(self, x: Tensor, scale: Tensor, num_types: int) -> None:
        """Refuse features, edge scales or per-type weights that do not fit these edges.

        Raises:
            ValueError: when shapes or dtypes do not fit.
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


def _offsets(ids: NDArray[np.int64], size: int) -> NDArray[np.int64]:
    return np.concatenate([[0], np.bincount(ids, minlength=size).cumsum()]).astype(np.int64)


def _chunks(offsets: NDArray[np.int64]) -> NDArray[np.int64]:
    """Node bounds of chunks; a node weighs its edges and one."""
    weight = offsets + np.arange(len(offsets))
    targets = np.linspace(0, weight[-1], NUM_CHUNKS + 1)
    bounds: NDArray[np.int64] = np.searchsorted(weight, targets).astype(np.int64)
    bounds[0], bounds[-1] = 0, len(offsets) - 1
    return bounds
