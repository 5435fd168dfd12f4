"""The entities that can answer a query, as far as the known facts speak.

An entity has a slot if it is the head of a relation, or its tail. Two slots exclude each other if
no entity has both, although chance would give both to many: husbands are never mothers, drugs never
have symptoms. An entity that has a slot does then not get the other one. And no entity answers its
own query, unless the relation has self loops. Where the facts are too few, all entities may answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_array
from torch import Tensor

from kgtool.data.statistics import heads_of_relations

# Two slots exclude each other if chance would give both to this many entities, but none has both.
EXPECTED = 10
# A relation has no self loops if none of this many triples is one, or none of the whole graph.
ENOUGH = 100


@dataclass(frozen=True, eq=False)
class Plausible:
    """Answers that the known facts do not speak against.

    Attributes:
        slots: `(num_entities, 2 · num_relations)` 0 or 1: an entity has slot r if it is the head of
            relation id r, inverses included.
        excludes: `(2 · num_relations, 2 · num_relations)` 0 or 1, symmetric.
        loops: `(2 · num_relations,)` bool, whether an entity may answer its own query.
    """

    slots: csr_array
    excludes: csr_array
    loops: Tensor

    @classmethod
    def of(cls, triples: Tensor, num_entities: int, num_relations: int) -> Plausible:
        """Count slots and self loops.

        Args:
            triples: `(n, 3)` int64, the known facts.
            num_entities, num_relations: inverses not counted.
        """
        slots = heads_of_relations(triples, num_entities, num_relations)
        count = np.bincount(slots.indices, minlength=2 * num_relations)
        # Rare slots exclude nothing.
        often = np.flatnonzero(count * count.max(initial=0) >= EXPECTED * num_entities)
        some = slots[:, often]
        by_chance = np.outer(count[often], count[often]) / num_entities
        apart = ((some.T @ some).toarray() == 0) & (by_chance >= EXPECTED)
        row, column = (often[index] for index in np.nonzero(apart))
        excludes = csr_array(
            (np.ones(len(row), np.float32), (row, column)), shape=(len(count),) * 2
        )
        of_relation = torch.bincount(triples[:, 1], minlength=num_relations)
        own = torch.bincount(triples[triples[:, 0] == triples[:, 2], 1], minlength=num_relations)
        loops = (own > 0) | ((of_relation < ENOUGH) & bool(own.any()))
        return cls(slots, excludes, loops.repeat(2))

    def of_relations(self, relation: Tensor) -> Tensor:
        """`(n, num_entities)` bool: the entities that may be tails of relation ids `(n,)` int64."""
        distinct, row = torch.unique(relation, return_inverse=True)
        slot = self._inverse(distinct.numpy())
        against = (self.slots @ self.excludes[:, slot]).toarray().T
        return torch.from_numpy(against == 0)[row]

    def of_queries(self, hr: Tensor) -> Tensor:
        """`(n, num_entities)` bool: the entities that may answer queries `(n, 2)` int64."""
        allowed = self.of_relations(hr[:, 1])
        query = torch.nonzero(~self.loops[hr[:, 1]]).flatten()
        allowed[query, hr[query, 0]] = False
        return allowed

    def of_triples(self, triples: Tensor) -> Tensor:
        """`(n,)` bool: whether head and tail of triples `(n, 3)` int64 may have the relation."""
        head, relation, tail = triples.unbind(1)
        allowed = self.loops[relation] | (head != tail)
        slots = relation.numpy()
        for entity, slot in ((head, slots), (tail, self._inverse(slots))):
            of_entity = self.slots[entity.numpy()].multiply(self.excludes[slot])
            allowed &= torch.from_numpy(np.asarray(of_entity.sum(1)).ravel() == 0)
        return allowed

    def _inverse(self, relation: NDArray[np.int64] | Sequence[int]) -> NDArray[np.int64]:
        half = self.slots.shape[1] // 2
        return (np.asarray(relation) + half) % (2 * half)
