"""Look up edges by head, relation and tail, with binary search among sorted edges."""

from __future__ import annotations

import numba
import numpy as np
from numba import prange
from numpy.typing import NDArray
from torch import Tensor

from kgtool.ops.runtime.compiling import match_threads


@numba.njit(nogil=True, parallel=True, cache=True)
def _find(offsets, relation, head, query_head, query_relation, query_tail, edge):  # type: ignore[no-untyped-def] # pragma: no cover
    for i in prange(len(edge)):
        tail = query_tail[i]
        edge[i] = -1
        if 0 <= tail < len(offsets) - 1:
            low, high, end = offsets[tail], offsets[tail + 1], offsets[tail + 1]
            while low < high:
                middle = (low + high) // 2
                if relation[middle] < query_relation[i] or (
                    relation[middle] == query_relation[i] and head[middle] < query_head[i]
                ):
                    low = middle + 1
                else:
                    high = middle
            if low < end and relation[low] == query_relation[i] and head[low] == query_head[i]:
                edge[i] = low


def find_edges(
    offsets: Tensor, relation: Tensor, head: Tensor, asked: tuple[Tensor, Tensor, Tensor]
) -> NDArray[np.int64]:
    """The edge id of each triple, by a search among the in-edges of its tail.

    Args:
        offsets: `(num_entities + 1,)` int64; the edges of tail v are `offsets[v]:offsets[v + 1]`.
        relation, head: `(e,)` int64, of edges sorted by tail, then relation, then head.
        asked: the triples' heads, relations and tails, `(n,)` int64 each. Ids may be out of range.

    Returns:
        `(n,)` int64: edge ids, or -1 for a triple that is not an edge.
    """
    edge = np.empty(len(asked[0]), np.int64)
    match_threads()
    query_head, query_relation, query_tail = (ids.numpy() for ids in asked)
    _find(
        offsets.numpy(), relation.numpy(), head.numpy(),
        query_head, query_relation, query_tail, edge,
    )  # fmt: skip
    return edge
