"""Candidate sets smaller than all entities, for graphs too large for a full ranking.

Their metrics are far higher than those of a full ranking and not comparable to them. Every output
therefore names the candidates: `sampled-500`, `types`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
import torch
from scipy.sparse import csr_array
from torch import Tensor

from kgtool.data.answer_index import AnswerIndex
from kgtool.data.dataset import KGDataset
from kgtool.data.loaders.labels import read_types
from kgtool.data.statistics import PairCounts, tails_of_relations
from kgtool.errors import ConfigError
from kgtool.evaluation.blockwise import CandidateSet
from kgtool.evaluation.ranking import Candidates
from kgtool.ops import in_edges, offsets_of

CHOICES = "all, types, types:FILE, or sampled:NUMBER, such as sampled:500"


@dataclass(frozen=True)
class Sampled:
    """Random entities for each answer, without the known answers.

    The protocol of OGB's wikikg2 and WikiKG90M (Hu et al. 2020 and 2021; 500 and 1,000 per side).
    The draws depend on the seed and the triple only, so all models get the same candidates. If
    fewer entities remain, all of them are candidates. Raw ranks also count the known answers.

    Attributes:
        number: number of entities per answer, drawn without replacement.
        seed: of the draws.
    """

    number: int
    seed: int = 0

    @property
    def name(self) -> str:
        """The name of the protocol, such as `sampled-500`."""
        return f"sampled-{self.number}"

    def choose(self, triples: Tensor, known: AnswerIndex, num_entities: int) -> CandidateSet:
        """See `Candidates`; one row per answer."""
        position, entity = known.others(triples)
        # The answer, then the other known answers: the draws exclude them.
        position = torch.cat([torch.arange(len(triples)), position])
        taken, order = torch.sort(position * num_entities + torch.cat([triples[:, 2], entity]))
        ends = offsets_of(position[order], len(triples)).tolist()
        rows = []
        for i, triple in enumerate(triples.tolist()):
            mine = taken[ends[i] : ends[i + 1]].numpy() - i * num_entities
            free = num_entities - len(mine)
            random = np.random.default_rng([self.seed, *triple])
            drawn = random.choice(free, min(self.number, free), replace=False, shuffle=False)
            # Turns the number of a free entity into its id: skips the taken entities before it.
            drawn += np.searchsorted(mine - np.arange(len(mine)), drawn, side="right")
            rows.append(np.sort(np.concatenate([mine, drawn])))
        sizes = torch.tensor([0, *map(len, rows)])
        entity = torch.from_numpy(np.concatenate(rows)) if rows else entity
        return CandidateSet(torch.arange(len(triples)), sizes.cumsum(0), entity, num_entities)


@dataclass(frozen=True, eq=False)
class Types:
    """The entities that occur in train on that side of the relation, and the answer.

    This is a relation's domain and range under the local closed-world assumption (Krompass et al.
    2015). With entity types, an entity that shares a type with one of these is a candidate too.

    Attributes:
        seen: the tails of each relation id in train.
        of_type: `(num_entities, T)` and `(relation ids, T)` 0 or 1: the types of each entity, and
            of the tails of each relation id in train; None without entity types.
    """

    seen: PairCounts
    of_type: tuple[csr_array, csr_array] | None = None
    name: str = "types"

    @classmethod
    def of(cls, dataset: KGDataset, given: Mapping[str, Sequence[str]] | None = None) -> Types:
        """Count them on the train triples.

        Args:
            dataset: the data.
            given: entity label → types; it may have labels that are not in the data. By default
                the types of the data set, if it has any.
        """
        seen = tails_of_relations(dataset.train, dataset)
        given = given or dataset.types
        if not given:
            return cls(seen)
        kinds = {kind: i for i, kind in enumerate(dict.fromkeys(chain(*given.values())))}
        ids = dataset.vocabulary.entity_ids
        pairs = np.array(
            [
                (ids[label], kinds[kind])
                for label, own in given.items()
                if label in ids
                for kind in own
            ]
        ).reshape(-1, 2)
        shape = (dataset.num_entities, len(kinds))
        of_entity = csr_array((np.ones(len(pairs)), pairs.T), shape=shape)
        shown = csr_array(
            (np.ones(len(seen.column)), seen.column.numpy(), seen.offsets.numpy()),
            shape=(2 * dataset.num_relations, dataset.num_entities),
        )
        return cls(seen, (of_entity, (shown @ of_entity).tocsr()))

    def choose(self, triples: Tensor, known: AnswerIndex, num_entities: int) -> CandidateSet:
        """See `Candidates`; one row per relation."""
        relation, row = torch.unique(triples[:, 1], return_inverse=True)
        position, entity = self._pairs(relation)
        pair = torch.unique(position * num_entities + entity)
        offsets = offsets_of(pair // num_entities, len(relation))
        return CandidateSet(row, offsets, pair % num_entities, num_entities)

    def of_relations(self, relation: Tensor) -> Tensor:
        """`(n, num_entities)` bool: the entities that may be tails of relation ids `(n,)` int64."""
        allowed = torch.zeros(len(relation), self.seen.num_columns, dtype=torch.bool)
        allowed[self._pairs(relation)] = True
        return allowed

    def of_queries(self, hr: Tensor) -> Tensor:
        """`(n, num_entities)` bool: the entities that may answer queries `(n, 2)` int64."""
        return self.of_relations(hr[:, 1])

    def of_triples(self, triples: Tensor) -> Tensor:
        """`(n,)` bool: whether the tails of triples `(n, 3)` int64 may be tails of the relation."""
        relation, row = torch.unique(triples[:, 1], return_inverse=True)
        return self.of_relations(relation)[row, triples[:, 2]]

    def _pairs(self, relation: Tensor) -> tuple[Tensor, Tensor]:
        """Positions in `relation` `(n,)` int64 and their possible tails, with duplicates."""
        position, pair = in_edges(self.seen.offsets, relation)
        entity = self.seen.column[pair]
        if self.of_type is None:
            return position, entity
        of_entity, of_relation = self.of_type
        shared = (of_relation[relation.numpy()] @ of_entity.T).nonzero()
        row, column = (torch.from_numpy(index).long() for index in shared)
        return torch.cat([position, row]), torch.cat([entity, column])


def parse_candidates(text: str, dataset: KGDataset) -> Candidates | None:
    """The candidates for `all`, `types`, `types:FILE` or `sampled:500`; None for all.

    Raises:
        ConfigError: for any other text.
        DataError: for a file of types that cannot be read.
    """
    if text == "all":
        return None
    kind, colon, rest = text.partition(":")
    if kind == "types" and (rest or not colon):
        return Types.of(dataset, read_types(rest) if rest else None)
    if kind == "sampled" and rest.isdecimal() and int(rest):
        return Sampled(int(rest))
    raise ConfigError(f"unknown candidates {text!r}. Remedy: use {CHOICES}.")
