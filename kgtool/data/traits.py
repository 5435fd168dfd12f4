"""Counts of a graph that a choice of settings depends on."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from kgtool.data.dataset import KGDataset, with_inverses
from kgtool.data.leakage import near_duplicates


@dataclass(frozen=True)
class Traits:
    """Counts of the train triples, and of valid where a name says so.

    Attributes:
        entities: number of entities with a triple.
        relations: number of relations, inverses not counted.
        triples: number of triples.
        queries: number of distinct queries (h, r, ?) and (?, r, t).
        degree: mean number of triples of an entity.
        symmetric: number of relations that hold both ways for nearly all of their pairs.
        many_to_many: the share of triples whose query has several answers on both sides.
        joined, valid_joined: the share of triples, of train and of valid, whose head and tail are
            joined by another train triple too, in any direction.
    """

    entities: int
    relations: int
    triples: int
    queries: int
    degree: float
    symmetric: int
    many_to_many: float
    joined: float
    valid_joined: float

    @classmethod
    def of(cls, dataset: KGDataset) -> Traits:
        """Count a data set whose train and valid have triples."""
        train, n = dataset.train, dataset.num_relations
        entities = len(torch.unique(train[:, [0, 2]]))
        queries, answers = _queries(train, n)
        several = (answers > 1).view(2, -1).all(0)
        pairs, row, count = torch.unique(
            _pairs(train, dataset.num_entities), return_inverse=True, return_counts=True
        )
        return cls(
            entities=entities,
            relations=n,
            triples=len(train),
            queries=queries,
            degree=2 * len(train) / entities,
            symmetric=sum(each.symmetric for each in near_duplicates(train, n)),
            many_to_many=several.double().mean().item(),
            joined=(count[row] > 1).double().mean().item(),
            valid_joined=torch.isin(_pairs(dataset.valid, dataset.num_entities), pairs)
            .double()
            .mean()
            .item(),
        )


def _queries(triples: Tensor, num_relations: int) -> tuple[int, Tensor]:
    """The number of distinct queries, and `(2n,)` the number of answers of each triple's query."""
    hr = with_inverses(triples, num_relations)[:, :2]
    key = hr[:, 0] * 2 * num_relations + hr[:, 1]
    distinct, row, count = torch.unique(key, return_inverse=True, return_counts=True)
    return len(distinct), count[row]


def _pairs(triples: Tensor, num_entities: int) -> Tensor:
    """`(n,)` int64, a number for head and tail of each triple, equal in both directions."""
    low, high = triples[:, [0, 2]].sort(dim=1)[0].unbind(1)
    return low * num_entities + high
