"""Counts of a data set: entities by relation, and which relations an entity is likely to have."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_array
from torch import Tensor

from kgtool.data.dataset import KGDataset, with_inverses
from kgtool.ops import in_edges, offsets_of


@dataclass(frozen=True, eq=False)
class PairCounts:
    """The distinct pairs (row, column), by row, each with its count.

    Attributes:
        num_columns: all columns are below it.
        offsets: `(num_rows + 1,)` int64; the pairs of row i are `offsets[i]:offsets[i + 1]`.
        column: `(m,)` int64, ascending within a row.
        count: `(m,)` int64, at least 1.
    """

    num_columns: int
    offsets: Tensor
    column: Tensor
    count: Tensor

    @classmethod
    def of(cls, row: Tensor, column: Tensor, num_rows: int, num_columns: int) -> PairCounts:
        """Count the pairs of rows and columns `(n,)` int64."""
        pair, count = torch.unique(row * num_columns + column, return_counts=True)
        offsets = offsets_of(pair // num_columns, num_rows)
        return cls(num_columns, offsets, pair % num_columns, count)

    def rows(self, row: Tensor) -> Tensor:
        """`(n, num_columns)` float32 counts of rows `(n,)` int64."""
        counts = torch.zeros(len(row), self.num_columns)
        position, pair = in_edges(self.offsets, row)
        counts[position, self.column[pair]] = self.count[pair].float()
        return counts


def tails_of_relations(triples: Tensor, dataset: KGDataset) -> PairCounts:
    """The tails of each relation id in `triples` `(n, 3)`, inverses included, with counts."""
    _, relation, tail = with_inverses(triples, dataset.num_relations).unbind(1)
    return PairCounts.of(relation, tail, 2 * dataset.num_relations, dataset.num_entities)


def heads_of_relations(triples: Tensor, num_entities: int, num_relations: int) -> csr_array:
    """`(num_entities, 2 · num_relations)` float32: 1 where an entity is the head of a relation id.

    Args:
        triples: `(n, 3)` int64; their inverses count too.
        num_entities, num_relations: inverses not counted.
    """
    head, relation, tail = triples.int().unbind(1)
    pairs = torch.cat([head, tail]).numpy(), torch.cat([relation, relation + num_relations]).numpy()
    ones = np.ones(2 * len(triples), np.float32)
    found = csr_array((ones, pairs), shape=(num_entities, 2 * num_relations))
    found.data[:] = 1  # of equal pairs, it has the sum
    return found


# A query (entity, relation) is asked if this share of similar entities has the relation.
LEAST_SHARE = 0.05


class Expected:
    """How likely each entity is to have each relation.

    A share of the entities that have relation a in train also has relation b. The expectation of b
    for an entity is the largest such share over the relations a of the entity. It is 1 for the
    relations that the entity has.

    Args:
        triples: `(n, 3)` int64, those of train.
        num_entities, num_relations: inverses not counted.
    """

    def __init__(self, triples: Tensor, num_entities: int, num_relations: int) -> None:
        self._has = heads_of_relations(triples, num_entities, num_relations).astype(np.float64)
        together = (self._has.T @ self._has).toarray()
        self._share = together / np.maximum(together.diagonal()[:, None], 1)

    def shares(self, entity: Tensor) -> NDArray[np.float64]:
        """`(n, 2 · num_relations)` expectations for entities `(n,)` int64, inverses included."""
        ends = self._has.indptr
        shares = np.zeros((len(entity), len(self._share)))
        for row, i in zip(shares, entity.tolist(), strict=True):
            self._share[self._has.indices[ends[i] : ends[i + 1]]].max(0, initial=0.0, out=row)
        return shares

    def questions(
        self, entity: Tensor, wanted: NDArray[np.bool_] | None = None
    ) -> tuple[Tensor, NDArray[np.float64]]:
        """`(q, 2)` int64 queries of entities `(n,)`, and the expectation `(q,)` of each.

        Args:
            entity: the entities.
            wanted: `(2 · num_relations,)`, the relations to ask for; None for all.
        """
        shares = self.shares(entity)
        if wanted is not None:
            shares = shares * wanted
        row, relation = np.nonzero(shares >= LEAST_SHARE)
        hr = torch.stack([entity[torch.from_numpy(row)], torch.from_numpy(relation)], dim=1)
        return hr, shares[row, relation]
