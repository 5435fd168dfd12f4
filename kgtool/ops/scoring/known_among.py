"""Find the known answers of queries among given entities, in the knowledge graph."""

from __future__ import annotations

import numba
import numpy as np
import torch
from torch import Tensor

from kgtool.ops.graph.csc import CSC
from kgtool.ops.runtime.compiling import match_threads
from kgtool.ops.runtime.lower_bound import lower_bound


@numba.njit(parallel=True, cache=True)
def _mark(offsets, source, kind, head, relation, entity, known):  # type: ignore[no-untyped-def] # pragma: no cover
    for i in numba.prange(len(head)):
        start, stop = offsets[head[i]], offsets[head[i] + 1]
        begin = lower_bound(kind, start, stop, relation[i])
        end = lower_bound(kind, begin, stop, relation[i] + 1)
        # Look up the shorter of two ascending lists in the longer, from the last position on.
        if end - begin < len(entity):
            place = 0
            for e in range(begin, end):
                place = lower_bound(entity, place, len(entity), source[e])
                if place < len(entity) and entity[place] == source[e]:
                    known[i, place] = True
        else:
            for j in range(len(entity)):
                begin = lower_bound(source, begin, end, entity[j])
                known[i, j] = begin < end and source[begin] == entity[j]


def known_among(edges: CSC, head: Tensor, inverse: Tensor, entity: Tensor) -> Tensor:
    """Whether `(head, r, entity)` is an edge, for queries `(head, r, ?)` and entities.

    The answers to a query are the sources of the head's in-edges of the inverse relation.

    Args:
        edges: a knowledge graph with the inverse of every edge, sorted by destination, type and
            source.
        head, inverse: `(q,)` int64, the queries' heads and the ids of `r⁻¹`.
        entity: `(k,)` int64, ascending.

    Returns:
        `(q, k)` bool.
    """
    match_threads()
    known = np.zeros((len(head), len(entity)), np.bool_)
    _mark(
        edges.offsets, edges.source, edges.type, head.numpy(), inverse.numpy(), entity.numpy(),
        known,
    )  # fmt: skip
    return torch.from_numpy(known)
