"""A data set grown by more triples, whose ids stay."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from kgtool.data.answer_index import AnswerIndex
from kgtool.data.dataset import SPLITS, KGDataset, Vocabulary
from kgtool.data.splitting import distinct


@dataclass(frozen=True, eq=False)
class Growth:
    """A data set with more train triples, and what became of the triples that were given.

    Attributes:
        dataset: the old ids kept, new entities appended; valid and test as they were.
        added: given triples that are train's now.
        repeated: given triples that were given before.
        known: given triples that the data held already, by split. Those of valid and test stay
            there and are not added: a triple is never both a fact and a question.
        new: entities that the data had not, the last ones.
        unseen: `(n,)` int64, entities that have an edge in train now and had none, the new ones
            among them: whatever training made of them was made without a fact.
    """

    dataset: KGDataset
    added: int
    repeated: int
    known: Mapping[str, int]
    new: int
    unseen: Tensor

    def counts(self) -> dict[str, int]:
        """What became of the given triples, and how many entities are new, by words."""
        return {
            "added": self.added,
            "given twice": self.repeated,
            **{f"already in {split}": count for split, count in self.known.items()},
            "new entities": self.new,
            "entities without an edge before": len(self.unseen),
        }


def grow(dataset: KGDataset, words: Vocabulary, triples: Tensor) -> Growth:
    """Add triples to train.

    Args:
        dataset: what to add to.
        words: the labels of the triples' ids; the relations are the data set's, in any order.
        triples: `(n, 3)` int64.

    Raises:
        KeyError: for a relation that the data set has not.
    """
    own = dataset.vocabulary
    fresh = sorted(set(words.entities) - own.entity_ids.keys())
    vocabulary = Vocabulary((*own.entities, *fresh), own.relations)
    entity = torch.tensor([vocabulary.entity_ids[label] for label in words.entities])
    relation = torch.tensor([own.relation_ids[label] for label in words.relations])
    head, kind, tail = triples.unbind(1)
    given = torch.stack([entity[head], relation[kind], entity[tail]], dim=1)

    different = given[distinct(given, len(own.relations))]
    known = {
        split: AnswerIndex(dataset.split(split), len(own.relations)).contains(different)
        for split in SPLITS
    }
    added = different[~torch.stack(list(known.values())).any(0)]
    grown = replace(
        dataset, path=None, vocabulary=vocabulary, train=torch.cat([dataset.train, added])
    )
    before, after = (
        _has_edges(train, grown.num_entities) for train in (dataset.train, grown.train)
    )
    return Growth(
        grown, len(added), len(given) - len(different),
        {split: int(there.sum()) for split, there in known.items()},
        len(fresh), torch.nonzero(after & ~before).flatten(),
    )  # fmt: skip


def _has_edges(train: Tensor, num_entities: int) -> Tensor:
    """`(num_entities,)` bool."""
    return torch.bincount(train[:, [0, 2]].flatten(), minlength=num_entities) > 0
