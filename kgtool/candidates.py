"""Fewer candidates than all entities, for graphs too large to rank in full.

Such numbers are no full ranking's, are far above them, and are named for what they are wherever
they stand: `sampled-500`, `types`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from kgtool.counts import PairCounts, tails_of_relations
from kgtool.errors import ConfigError
from kgtool.ranking import Candidates
from kgtool.triples import AnswerIndex, KGDataset

WORDS = "all, types, or sampled:NUMBER as in sampled:500"


@dataclass(frozen=True)
class Sampled:
    """Entities drawn at random for each answer, none of them known to be right.

    The protocol of OGB's wikikg2 and WikiKG90M (Hu et al. 2020 and 2021; 500 and 1,000 a side).
    What is drawn depends on the seed and the triple alone, so that all models are asked the same.
    Where fewer are left, all of them are candidates. Unfiltered, known answers are too.

    Attributes:
        number: of draws, without replacement.
        seed: of the draws.
    """

    number: int
    seed: int = 0

    @property
    def name(self) -> str:
        """Names the protocol."""
        return f"sampled-{self.number}"

    def mask(self, triples: Tensor, known: AnswerIndex, num_entities: int) -> Tensor:
        """`(n, num_entities)` bool, of the answers of triples `(n, 3)` int64."""
        mask = torch.zeros(len(triples), num_entities, dtype=torch.bool)
        mask[known.others(triples)] = True
        mask[torch.arange(len(triples)), triples[:, 2]] = True
        for triple, row in zip(triples.tolist(), mask.numpy(), strict=True):
            taken = np.flatnonzero(row)
            free = num_entities - len(taken)
            random = np.random.default_rng([self.seed, *triple])
            drawn = random.choice(free, min(self.number, free), replace=False, shuffle=False)
            # The i-th entity that is not taken, by the number of those taken before it.
            row[drawn + np.searchsorted(taken - np.arange(len(taken)), drawn, side="right")] = True
        return mask


@dataclass(frozen=True, eq=False)
class Types:
    """The entities that train has shown on that side of the relation, and the answer.

    A relation's domain and range under the local closed-world assumption (Krompass et al. 2015).

    Attributes:
        seen: relation ids by tails.
    """

    seen: PairCounts
    name: str = "types"

    @classmethod
    def of(cls, dataset: KGDataset) -> Types:
        """Learn them from the train triples."""
        return cls(tails_of_relations(dataset.train, dataset))

    def mask(self, triples: Tensor, known: AnswerIndex, num_entities: int) -> Tensor:
        """`(n, num_entities)` bool, of the answers of triples `(n, 3)` int64."""
        return self.of_relations(triples[:, 1])

    def of_relations(self, relation: Tensor) -> Tensor:
        """`(n, num_entities)` bool: the entities that may be tails of relation ids `(n,)` int64."""
        return self.seen.rows(relation) > 0


def parse_candidates(text: str, dataset: KGDataset) -> Candidates | None:
    """The candidates that `all`, `types` or `sampled:500` says; None for all.

    Raises:
        ConfigError: for another text.
    """
    if text == "all":
        return None
    if text == "types":
        return Types.of(dataset)
    kind, _, number = text.partition(":")
    if kind == "sampled" and number.isdecimal() and int(number):
        return Sampled(int(number))
    raise ConfigError(f"no candidates {text!r}. Remedy: {WORDS}")
