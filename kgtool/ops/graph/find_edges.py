"""Edges looked up by what they join, among edges in order."""

from __future__ import annotations

import numba
import numpy as np
from numba import prange
from numpy.typing import NDArray
from torch import Tensor

from kgtool.ops.runtime.compiling import match_threads


@numba.njit(nogil=True, parallel=True, cache=True)
def _find(offsets, relation, head, asked_head, asked_relation, asked_tail, found):  # type: ignore[no-untyped-def] # pragma: no cover
    for i in prange(len(found)):
        tail = asked_tail[i]
        found[i] = -1
        if 0 <= tail < len(offsets) - 1:
            low, high, end = offsets[tail], offsets[tail + 1], offsets[tail + 1]
            while low < high:
                middle = (low + high) // 2
                if relation[middle] < asked_relation[i] or (
                    relation[middle] == asked_relation[i] and head[middle] < asked_head[i]
                ):
                    low = middle + 1
                else:
                    high = middle
            if low < end and relation[low] == asked_relation[i] and head[low] == asked_head[i]:
                found[i] = low


def find_edges(
    offsets: Tensor, relation: Tensor, head: Tensor, asked: tuple[Tensor, Tensor, Tensor]
) -> NDArray[np.int64]:
    """`(n,)`: the edge of each triple, or -1; a search among the edges of its tail.

    Args:
        offsets: `(num_entities + 1,)` int64; the edges of tail v are `offsets[v]:offsets[v + 1]`.
        relation, head: `(e,)` int64, of edges sorted by tail, then relation, then head.
        asked: heads, relations and tails, `(n,)` int64 each; no edge has ids out of range.
    """
    found = np.empty(len(asked[0]), np.int64)
    match_threads()
    asked_head, asked_relation, asked_tail = (ids.numpy() for ids in asked)
    _find(
        offsets.numpy(), relation.numpy(), head.numpy(),
        asked_head, asked_relation, asked_tail, found,
    )  # fmt: skip
    return found
