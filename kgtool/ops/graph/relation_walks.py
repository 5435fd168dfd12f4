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
def _relation_walks(offsets, source, type_, num_types, relation, edges, tails, sums):  # type: ignore[no-untyped-def] # pragma: no cover
    half = num_types // 2
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
        inverse, pairs = relation - half if relation >= half else relation + half, 0
        for k in range(offsets[h], offsets[h + 1]):  # the in-edges of h, whose inverses leave it
            pairs += type_[k] == inverse
        counted = -1
        for k in range(offsets[h], offsets[h + 1]):
            u = source[k]
            r = type_[k] - half if type_[k] >= half else type_[k] + half
            sums[_JOINED, r] += u == t
            # All pairs of a head together add the edges and the walks that leave it once.
            sums[_LEAVING, r] += 1 / pairs
            sums[_WALKS, r] += (offsets[u + 1] - offsets[u]) / pairs
            if to_tail[u]:
                sums[_ARRIVING, r] += to_tail[u]
                sums[_JOINED_BY_TWO, r] += counted != r
                counted = r


def relation_walks(csc: CSC, num_types: int, relation: int) -> NDArray[np.float64]:
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
        num_types: R, the number of relation ids.
        relation: q, a relation id.

    Returns:
        `(R, NUM_WALKS)` float64, from 0 to 1; 0 for a share of nothing.
    """
    every = np.flatnonzero(csc.type == relation)
    edges = every[np.arange(PAIRS) * len(every) // PAIRS] if len(every) > PAIRS else every
    tails = np.searchsorted(csc.offsets, edges, side="right") - 1
    sums = np.zeros((NUM_WALKS, num_types))
    _relation_walks(csc.offsets, csc.source, csc.type, num_types, relation, edges, tails, sums)
    pairs = max(len(edges), 1)
    unread = len(every) / pairs  # the pairs for each one that was read
    of_type = np.maximum(np.bincount(csc.type, minlength=num_types), 1)
    shares = (
        sums[_JOINED] / pairs,
        sums[_JOINED] * unread / of_type,
        _share(sums[_JOINED], sums[_LEAVING]),
        sums[_JOINED_BY_TWO] / pairs,
        _share(sums[_ARRIVING], sums[_WALKS]),
    )
    return np.stack(shares, axis=1)


def _share(part: NDArray[np.float64], whole: NDArray[np.float64]) -> NDArray[np.float64]:
    """The part divided by the whole; 0 where the whole is 0."""
    return part / np.where(whole > 0, whole, 1)
