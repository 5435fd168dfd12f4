"""Look up edges by head, relation and tail, with binary search among sorted edges."""

from __future__ import annotations

import numba
import numpy as np
from numba import prange
from numpy.typing import NDArray
from torch import Tensor

from kgtool.ops.graph.csc import CSC
from kgtool.ops.runtime.compiling import match_threads


@numba.njit(inline="always")
def _edge(offsets, type_, source, head, relation, tail):  # type: ignore[no-untyped-def] # pragma: no cover
    """The edge of a triple, by binary search among the in-edges of its tail; -1 for no edge."""
    if not 0 <= tail < len(offsets) - 1:
        return -1
    low, end = np.int64(offsets[tail]), np.int64(offsets[tail + 1])
    high = end
    while low < high:
        middle = (low + high) // 2
        if type_[middle] < relation or (type_[middle] == relation and source[middle] < head):
            low = middle + 1
        else:
            high = middle
    if low < end and type_[low] == relation and source[low] == head:
        return low
    return -1


@numba.njit(nogil=True, parallel=True, cache=True)
def _find(offsets, type_, source, triples, found):  # type: ignore[no-untyped-def] # pragma: no cover
    for i in prange(len(found)):
        found[i] = _edge(offsets, type_, source, triples[i, 0], triples[i, 1], triples[i, 2])


@numba.njit(nogil=True, parallel=True, cache=True)
def _invert(chunks, offsets, type_, source, half, found):  # type: ignore[no-untyped-def] # pragma: no cover
    for chunk in prange(len(chunks) - 1):
        for v in range(chunks[chunk], chunks[chunk + 1]):
            for e in range(offsets[v], offsets[v + 1]):
                r = np.int64(type_[e])
                inverse = r + half if r < half else r - half
                found[e] = _edge(offsets, type_, source, v, inverse, source[e])


def find_edges(edges: CSC, triples: Tensor) -> NDArray[np.int64]:
    """The edge id of each triple, by binary search among the in-edges of its tail.

    Args:
        edges: sorted by destination, type and source: by tail, relation and head.
        triples: `(n, 3)` int64 heads, relations and tails. Ids may be out of range.

    Returns:
        `(n,)` int64: edge ids, or -1 for a triple that is not an edge.
    """
    found = np.empty(len(triples), np.int64)
    match_threads()
    _find(edges.offsets, edges.type, edges.source, triples.contiguous().numpy(), found)
    return found


def inverse_edges(edges: CSC, num_types: int) -> NDArray[np.int32]:
    """The edge id of the inverse `(t, r⁻¹, h)` of each edge `(h, r, t)`.

    Args:
        edges: as for `find_edges`.
        num_types: R, including inverses: `r⁻¹` is `r + R / 2` for `r < R / 2`, else `r - R / 2`.

    Returns:
        `(e,)` int32: edge ids, or -1 for an edge without an inverse.
    """
    found = np.empty(edges.num_edges, np.int32)
    match_threads()
    _invert(edges.chunks, edges.offsets, edges.type, edges.source, num_types // 2, found)
    return found
