"""Finds near-duplicate and near-inverse relations, which leak answers to each other.

The test is the one that made FB15k-237 of FB15k (Toutanova & Chen 2015, section 4.1).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import coo_matrix, csr_matrix
from scipy.sparse.csgraph import connected_components
from torch import Tensor

from kgtool.ops import begins, order_by

SHARE = 0.97  # Toutanova & Chen's


class Overlap(NamedTuple):
    """Two relations that hold between nearly the same pairs of entities.

    Attributes:
        relation, other: ids, `relation` below `other`; the same for a symmetric relation.
        inverse: whether the pairs of `other` are reversed.
        of_relation, of_other: the share of each relation's pairs that the other has too, 0 to 1.
        pairs: the number of shared pairs.
    """

    relation: int
    other: int
    inverse: bool
    of_relation: float
    of_other: float
    pairs: int

    @property
    def symmetric(self) -> bool:
        """Whether this is a symmetric relation, not two relations."""
        return self.relation == self.other


def near_duplicates(triples: Tensor, num_relations: int, share: float = SHARE) -> list[Overlap]:
    """The relations that share nearly all pairs, or reversed pairs, with another relation.

    Args:
        triples: `(n, 3)` int64, distinct.
        num_relations: all relation ids are below it.
        share: the least share of each relation's pairs that the other must have, above 0.

    Returns:
        Overlaps with most shared pairs first. Two relations come once: if they are duplicates and
        inverses of each other, as symmetric relations may be, they come as duplicates. A self loop
        has no reverse.
    """
    head, relation, tail = triples.numpy().T
    size = np.bincount(relation, minlength=num_relations)
    low, high = np.minimum(head, tail), np.maximum(head, tail)
    bound = int(high.max(initial=-1)) + 1
    order = order_by((low, high), (bound, bound))
    low, high = low[order], high[order]
    # Marks the first triple of each pair of entities, and the end.
    new = np.append(begins(low) | begins(high), True)
    # most pairs of entities have a single triple, which no other relation can share
    multiple = ~(new[:-1] & new[1:])
    couple, order = np.cumsum(new[:-1][multiple]) - 1, order[multiple]
    head, relation, tail = triples.numpy()[order].T
    pair = 2 * couple + (head > tail)  # the last bit is the direction; it is 0 for a self loop
    shape = (num_relations, 2 * (couple.max(initial=-1) + 1))
    of, reversed_of = _members(relation, pair, shape), _members(relation, pair ^ 1, shape)

    direct = _alike(of @ of.T, size, share, inverse=False)
    known = {(one.relation, one.other) for one in direct}
    inverse = _alike(of @ reversed_of.T, size, share, inverse=True)
    overlaps = direct + [one for one in inverse if (one.relation, one.other) not in known]
    return sorted(overlaps, key=lambda one: (-one.pairs, one.relation, one.other))


def redundant(
    overlaps: Sequence[Overlap], triples: Tensor, num_relations: int
) -> NDArray[np.bool_]:
    """`(num_relations,)`: every relation of a cluster of overlapping relations except the largest.

    Args:
        overlaps: from `near_duplicates`.
        triples: `(n, 3)` int64, the distinct triples given to `near_duplicates`.
        num_relations: all relation ids are below it.
    """
    edges = np.array([(one.relation, one.other) for one in overlaps], np.int64).reshape(-1, 2)
    one, other = edges.T
    shape = (num_relations, num_relations)
    links = coo_matrix((np.ones(len(one), np.int8), (one, other)), shape=shape)
    cluster = connected_components(links, directed=False)[1]
    size = torch.bincount(triples[:, 1], minlength=num_relations).numpy()
    by_size = np.argsort(-size, kind="stable")  # of two equally large ones the first stays
    largest = by_size[np.unique(cluster[by_size], return_index=True)[1]]
    smaller = np.ones(num_relations, np.bool_)
    smaller[largest] = False
    return smaller


def _members(
    relation: NDArray[np.int64], pair: NDArray[np.int64], shape: tuple[int, int]
) -> csr_matrix:
    """Relations by pairs, 1 where the relation has the pair."""
    ones = np.ones(len(pair), np.int32)
    return coo_matrix((ones, (relation, pair)), shape=shape).tocsr()


def _alike(shared: Any, size: NDArray[np.int64], share: float, inverse: bool) -> list[Overlap]:
    """The overlaps, each once, from shared pair counts `(num_relations, num_relations)`."""
    table = shared.tocoo()
    of_one, of_other = table.data / size[table.row], table.data / size[table.col]
    once = table.row <= table.col if inverse else table.row < table.col
    rows = once & (of_one >= share) & (of_other >= share)
    columns = (table.row, table.col, of_one, of_other, table.data)
    return [
        Overlap(one, other, inverse, first, second, pairs)
        for one, other, first, second, pairs in zip(
            *(column[rows].tolist() for column in columns), strict=True
        )
    ]
