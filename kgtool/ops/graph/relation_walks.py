"""How walks of one and two edges lead from the heads of a relation to its tails.

They are counted by the relation r of their first edge. The shares are the support and the
confidence of rules (Galárraga et al. 2013, AMIE): `r → q`, and `r, any relation → q`.
"""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray

from kgtool.ops.graph.csc import CSC

# Pairs of a relation that are read at most: the shares are then good to about 0.02.
PAIRS = 1024
# Shares of each relation, see `relation_walks`; the last two are of walks of two edges.
NUM_WALKS, NUM_LONG_WALKS = 5, 2
# The rows of sums.
_JOINED, _LEAVING, _JOINED_BY_TWO, _ARRIVING, _WALKS = range(5)


@numba.njit(nogil=True, cache=True)
def _relation_walks(offsets, source, type_, inverse, edges, tails, sums):  # type: ignore[no-untyped-def] # pragma: no cover
    """Add up the sums by the type of the in-edge of h, whose inverse begins the walk."""
    to_tail = np.zeros(len(offsets) - 1, np.int32)  # edges from each entity to the tail
    last = -1
    for i in range(len(edges)):
        h, t = source[edges[i]], tails[i]
        if t != last:  # the edges are sorted by tail
            if last >= 0:
                for k in range(offsets[last], offsets[last + 1]):
                    to_tail[source[k]] = 0
            for k in range(offsets[t], offsets[t + 1]):
                to_tail[source[k]] += 1
            last = t
        pairs = 0
        for k in range(offsets[h], offsets[h + 1]):
            pairs += type_[k] == inverse
        counted = -1
        for k in range(offsets[h], offsets[h + 1]):
            u, kind = source[k], type_[k]
            sums[_JOINED, kind] += u == t
            # All pairs of a head together add the edges and the walks that leave it once.
            sums[_LEAVING, kind] += 1 / pairs
            sums[_WALKS, kind] += (offsets[u + 1] - offsets[u]) / pairs
            if to_tail[u]:
                sums[_ARRIVING, kind] += to_tail[u]
                sums[_JOINED_BY_TWO, kind] += counted != kind
                counted = kind


def relation_walks(csc: CSC, num_edges: NDArray[np.int64], relation: int) -> NDArray[np.float64]:
    """The shares of walks between the heads h and the tails t of a relation q, by their first edge.

    For each relation id r:

    0. of the pairs `(h, t)`, those with an edge `(h, r, t)`;
    1. of the edges `(u, r, v)`, those that are such a pair;
    2. of the edges `(h, r, v)` of all h, those that are such a pair;
    3. of the pairs, those with a walk `h, r, u, any relation, t`;
    4. of the walks `h, r, u, any relation, v` of all h, those that end at such a t.

    Reads at most `PAIRS` pairs, spread evenly over all.

    Args:
        csc: the edges, with inverses, sorted by tail, then relation.
        num_edges: `(R,)`, the edges of each relation id.
        relation: q, a relation id.

    Returns:
        `(R, NUM_WALKS)` float64, from 0 to 1; 0 for a share of nothing.
    """
    every = np.flatnonzero(csc.type == relation)
    edges = every[np.arange(PAIRS) * len(every) // PAIRS] if len(every) > PAIRS else every
    tails = np.searchsorted(csc.offsets, edges, side="right") - 1
    half = len(num_edges) // 2
    sums = np.zeros((NUM_WALKS, len(num_edges)))
    inverse = (relation + half) % len(num_edges)
    _relation_walks(csc.offsets, csc.source, csc.type, inverse, edges, tails, sums)
    sums = np.roll(sums, half, axis=1)  # from the type of an edge to that of its inverse
    pairs = max(len(edges), 1)
    unread = len(every) / pairs  # the pairs for each one that was read
    shares = (
        sums[_JOINED] / pairs,
        sums[_JOINED] * unread / np.maximum(num_edges, 1),
        _share(sums[_JOINED], sums[_LEAVING]),
        sums[_JOINED_BY_TWO] / pairs,
        _share(sums[_ARRIVING], sums[_WALKS]),
    )
    return np.stack(shares, axis=1)


def _share(part: NDArray[np.float64], whole: NDArray[np.float64]) -> NDArray[np.float64]:
    """The part divided by the whole; 0 where the whole is 0."""
    return part / np.where(whole > 0, whole, 1)
