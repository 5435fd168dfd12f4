"""How often pairs occur, a row looked up at a time: tails of a relation, relations of an entity."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from kgtool.ops import in_edges, offsets_of
from kgtool.triples import KGDataset, with_inverses


@dataclass(frozen=True, eq=False)
class PairCounts:
    """The distinct pairs (row, column), by row, with how often each occurred.

    Attributes:
        num_columns: above every column.
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
        """Count pairs, given by rows and columns `(n,)` int64."""
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
    """Relation ids, inverses included, by the entities that they end at in `triples` `(n, 3)`."""
    _, relation, tail = with_inverses(triples, dataset.num_relations).unbind(1)
    return PairCounts.of(relation, tail, 2 * dataset.num_relations, dataset.num_entities)
