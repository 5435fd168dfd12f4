"""What a data set holds about one entity: its facts by relation, its degree, its neighbours."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from kgtool.data.dataset import SPLITS, KGDataset
from kgtool.data.splitting import distinct


@dataclass(frozen=True, eq=False)
class RelationFacts:
    """The facts of one entity with one relation, in one direction.

    Attributes:
        relation: the relation's id; that of the inverse where the entity is the tail.
        entities: `(n,)` int64, the other ends, those of highest degree first.
        splits: `(n,)` int64, the split of each fact, as a position in `SPLITS`.
    """

    relation: int
    entities: Tensor
    splits: Tensor


@dataclass(frozen=True, eq=False)
class EntityFacts:
    """What is known of an entity.

    Attributes:
        entity: the entity's id.
        as_head, as_tail: the numbers of its facts, which make its degree.
        by_relation: its facts by relation: first those where it is the head, then those where it is
            the tail, each with the largest groups first.
        neighbours: `(m,)` int64, the entities that it shares a fact with, most facts first, and
            of as many facts those of highest degree first.
        shared: `(m,)` int64, the number of facts shared with each neighbour.
    """

    entity: int
    as_head: int
    as_tail: int
    by_relation: tuple[RelationFacts, ...]
    neighbours: Tensor
    shared: Tensor


class FactIndex:
    """Looks up the facts of entities; the index is built at the first look-up, in O(n log n).

    Args:
        dataset: the data.
        splits: the splits whose triples are facts.
    """

    def __init__(self, dataset: KGDataset, splits: Sequence[str] = SPLITS) -> None:
        self.dataset, self.splits = dataset, tuple(splits)

    @property
    def triples(self) -> Tensor:
        """`(n, 3)` int64, the facts; a fact of two splits counts once, for the first."""
        return self._facts[0]

    @cached_property
    def _facts(self) -> tuple[Tensor, Tensor]:
        """The facts `(n, 3)`, and the split `(n,)` of each."""
        parts = [self.dataset.split(name) for name in self.splits]
        triples = torch.cat(parts)
        numbers = torch.tensor([SPLITS.index(name) for name in self.splits])
        split = torch.repeat_interleave(numbers, torch.tensor([len(part) for part in parts]))
        rows = distinct(triples, self.dataset.num_relations)
        return triples[rows], split[rows]

    @cached_property
    def _by_end(self) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
        """For heads and for tails: the rows of `triples` by entity, and where each begins."""
        found = []
        for column in (0, 2):
            ends = self.triples[:, column]
            count = torch.bincount(ends, minlength=self.dataset.num_entities)
            offsets = torch.cat([count.new_zeros(1), count.cumsum(0)])
            found.append((torch.argsort(ends, stable=True), offsets))
        return found[0], found[1]

    @cached_property
    def degree(self) -> Tensor:
        """`(num_entities,)` int64, the number of facts of each entity, as head and as tail."""
        (_, of_heads), (_, of_tails) = self._by_end
        return of_heads.diff() + of_tails.diff()

    def of(self, entity: int) -> EntityFacts:
        """The facts of an entity."""
        groups: list[RelationFacts] = []
        counts, others = [], []
        for column, (order, offsets) in zip((0, 2), self._by_end, strict=True):
            rows = order[offsets[entity] : offsets[entity + 1]]
            counts.append(len(rows))
            relations, ends = self.triples[rows, 1], self.triples[rows, 2 - column]
            others.append(ends)
            inverse = self.dataset.num_relations if column else 0
            values, sizes = torch.unique(relations, return_counts=True)
            for relation in values[torch.argsort(sizes, descending=True, stable=True)].tolist():
                own = relations == relation
                best = torch.argsort(self.degree[ends[own]], descending=True, stable=True)
                splits = self._facts[1][rows[own]][best]
                groups.append(RelationFacts(relation + inverse, ends[own][best], splits))
        ends = torch.cat(others)
        neighbours, shared = torch.unique(ends[ends != entity], return_counts=True)
        by_degree = torch.argsort(self.degree[neighbours], descending=True, stable=True)
        by_size = by_degree[torch.argsort(shared[by_degree], descending=True, stable=True)]
        return EntityFacts(
            entity, counts[0], counts[1], tuple(groups), neighbours[by_size], shared[by_size]
        )
