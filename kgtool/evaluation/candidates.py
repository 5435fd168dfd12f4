"""Fewer candidates than all entities, for graphs too large to rank in full.

Such numbers are no full ranking's, are far above them, and are named for what they are wherever
they stand: `sampled-500`, `types`.
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

WORDS = "all, types, types:FILE, or sampled:NUMBER as in sampled:500"


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

    def choose(self, triples: Tensor, known: AnswerIndex, num_entities: int) -> CandidateSet:
        """See `Candidates`; a row an answer."""
        position, entity = known.others(triples)
        # An answer, then those known beside it: what no draw may give.
        position = torch.cat([torch.arange(len(triples)), position])
        taken, order = torch.sort(position * num_entities + torch.cat([triples[:, 2], entity]))
        ends = offsets_of(position[order], len(triples)).tolist()
        rows = []
        for i, triple in enumerate(triples.tolist()):
            mine = taken[ends[i] : ends[i + 1]].numpy() - i * num_entities
            free = num_entities - len(mine)
            random = np.random.default_rng([self.seed, *triple])
            drawn = random.choice(free, min(self.number, free), replace=False, shuffle=False)
            # The i-th entity that is not taken, by the number of those taken before it.
            drawn += np.searchsorted(mine - np.arange(len(mine)), drawn, side="right")
            rows.append(np.sort(np.concatenate([mine, drawn])))
        sizes = torch.tensor([0, *map(len, rows)])
        entity = torch.from_numpy(np.concatenate(rows)) if rows else entity
        return CandidateSet(torch.arange(len(triples)), sizes.cumsum(0), entity, num_entities)


@dataclass(frozen=True, eq=False)
class Types:
    """The entities that train has shown on that side of the relation, and the answer.

    A relation's domain and range under the local closed-world assumption (Krompass et al. 2015).
    Where types of entities are given, those that share a type with one that train has shown too.

    Attributes:
        seen: relation ids by tails.
        of_type: `(num_entities, T)` and `(relation ids, T)` 0 or 1: types of entities, and of what
            train has shown of relations; None where none are given.
    """

    seen: PairCounts
    of_type: tuple[csr_array, csr_array] | None = None
    name: str = "types"

    @classmethod
    def of(cls, dataset: KGDataset, given: Mapping[str, Sequence[str]] | None = None) -> Types:
        """Learn them from the train triples.

        Args:
            dataset: the data.
            given: types by the label of an entity; of labels that the data have not, too.
        """
        seen = tails_of_relations(dataset.train, dataset)
        if given is None:
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
        """See `Candidates`; a row a relation."""
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

    def _pairs(self, relation: Tensor) -> tuple[Tensor, Tensor]:
        """Positions in `relation` `(n,)` int64, and entities that may be tails; some twice."""
        position, pair = in_edges(self.seen.offsets, relation)
        entity = self.seen.column[pair]
        if self.of_type is None:
            return position, entity
        of_entity, of_relation = self.of_type
        shared = (of_relation[relation.numpy()] @ of_entity.T).nonzero()
        row, column = (torch.from_numpy(index).long() for index in shared)
        return torch.cat([position, row]), torch.cat([entity, column])


def parse_candidates(text: str, dataset: KGDataset) -> Candidates | None:
    """The candidates that `all`, `types`, `types:FILE` or `sampled:500` says; None for all.

    Raises:
        ConfigError: for another text.
        DataError: for a file of types that cannot be read.
    """
    if text == "all":
        return None
    kind, colon, rest = text.partition(":")
    if kind == "types" and (rest or not colon):
        return Types.of(dataset, read_types(rest) if rest else None)
    if kind == "sampled" and rest.isdecimal() and int(rest):
        return Sampled(int(rest))
    raise ConfigError(f"no candidates {text!r}. Remedy: {WORDS}")
