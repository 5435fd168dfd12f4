"""Hold out groups of triples, one by one, so that each entity and relation stays in the graph."""

from __future__ import annotations

import numba
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


@numba.njit(nogil=True, cache=True)
def _hold_out(order, offsets, one, other, relation, left, left_of_relation, wanted, side):  # type: ignore[no-untyped-def] # pragma: no cover
    held = np.zeros(3, np.int64)
    for group in order:
        first, last = offsets[group], offsets[group + 1]
        size = last - first
        # The side that is further from its share is next: both sides shrink the graph alike.
        to = 1 if held[1] * wanted[2] <= held[2] * wanted[1] else 2
        if held[to] + size > wanted[to]:
            to = 3 - to
            if held[to] + size > wanted[to]:
                if held[1] == wanted[1] and held[2] == wanted[2]:
                    break
                continue
        a, b = one[first], other[first]
        if left[a] <= size or left[b] <= size:
            continue
        bare = False
        for i in range(first, last):
            left_of_relation[relation[i]] -= 1
            bare |= left_of_relation[relation[i]] == 0
        if bare:
            for i in range(first, last):
                left_of_relation[relation[i]] += 1
            continue
        left[a] -= size
        if b != a:
            left[b] -= size
        held[to] += size
        side[group] = to


def hold_out(
    order: NDArray[np.int64],
    offsets: Tensor,
    triples: Tensor,
    num_entities: int,
    num_relations: int,
    wanted: tuple[int, int],
) -> Tensor:
    """Hold out groups of triples, in order, if other triples contain their entities and relations.

    Args:
        order: `(g,)` int64, each group once.
        offsets: `(g + 1,)` int64; the triples of group `i` are `offsets[i]:offsets[i + 1]`.
        triples: `(n, 3)` int64; all triples of a group join the same two entities.
        num_entities, num_relations: numbers above all ids.
        wanted: the maximum number of triples for side 1 and for side 2.

    Returns:
        `(g,)` int8: the side, 1 or 2, of each group that is held out; 0 for the others.
    """
    head, relation, tail = triples.t().contiguous()
    # A self loop counts once for its entity.
    left = torch.bincount(head, minlength=num_entities)
    left += torch.bincount(tail[head != tail], minlength=num_entities)
    left_of_relation = torch.bincount(relation, minlength=num_relations)
    side = torch.zeros(len(order), dtype=torch.int8)
    _hold_out(
        order, offsets.numpy(), head.numpy(), tail.numpy(), relation.numpy(), left.numpy(),
        left_of_relation.numpy(), np.array((0, *wanted), np.int64), side.numpy(),
    )  # fmt: skip
    return side
