"""Grows a data set by more triples; the ids of its entities and relations stay the same.

A new relation changes the ids of inverses, which follow those of all relations.
"""

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
    """A data set with more train triples, and counts of the given triples.

    Attributes:
        dataset: the old entities and relations keep their ids, new ones follow; valid and test are
            unchanged.
        added: number of given triples that were added to train.
        repeated: number of given triples that repeat another given triple.
        num_known: number of given triples that a split already had, by split. Triples of valid and
            test stay there and are not added: a triple is never both a fact and a question.
        new: number of new entities; they have the last ids.
        new_relations: number of new relations; they have the last ids.
        unseen: `(n,)` int64, the entities that have an edge in train now and had none before, new
            entities included. Training has seen no fact about them.
    """

    dataset: KGDataset
    added: int
    repeated: int
    num_known: Mapping[str, int]
    new: int
    new_relations: int
    unseen: Tensor

    def counts(self) -> dict[str, int]:
        """The counts of added, repeated and known triples and of new labels, by description.

        New relations are counted if there are any: few models accept them.
        """
        return {
            "added": self.added,
            "given twice": self.repeated,
            **{f"already in {split}": count for split, count in self.num_known.items()},
            "new entities": self.new,
            **({"new relations": self.new_relations} if self.new_relations else {}),
            "entities without an edge before": len(self.unseen),
        }


def grow(dataset: KGDataset, vocabulary: Vocabulary, triples: Tensor) -> Growth:
    """Add triples to train; where train has weights, theirs is 1.

    Args:
        dataset: the data set to grow.
        vocabulary: the labels of the triples.
        triples: `(n, 3)` int64, ids of `vocabulary`.
    """
    own = dataset.vocabulary
    new_labels = sorted(set(vocabulary.entities) - own.entity_ids.keys())
    new_relations = sorted(set(vocabulary.relations) - own.relation_ids.keys())
    merged = Vocabulary((*own.entities, *new_labels), (*own.relations, *new_relations))
    entity = torch.tensor([merged.entity_ids[label] for label in vocabulary.entities])
    relation = torch.tensor([merged.relation_ids[label] for label in vocabulary.relations])
    head, kind, tail = triples.unbind(1)
    given = torch.stack([entity[head], relation[kind], entity[tail]], dim=1)

    different = given[distinct(given, len(merged.relations))]
    known = {
        split: AnswerIndex(dataset.split(split), len(merged.relations)).contains(different)
        for split in SPLITS
    }
    added = different[~torch.stack(list(known.values())).any(0)]
    train = torch.cat([dataset.train, added])
    weights = dict(dataset.weights)
    if "train" in weights:
        weights["train"] = torch.cat([weights["train"], torch.ones(len(added))])
    grown = replace(
        dataset, path=None, vocabulary=merged, train=train, loading={}, weights=weights, dated=None
    )
    before, after = (
        _has_edges(train, grown.num_entities) for train in (dataset.train, grown.train)
    )
    return Growth(
        grown, len(added), len(given) - len(different),
        {split: int(is_known.sum()) for split, is_known in known.items()},
        len(new_labels), len(new_relations), torch.nonzero(after & ~before).flatten(),
    )  # fmt: skip


def _has_edges(train: Tensor, num_entities: int) -> Tensor:
    """`(num_entities,)` bool."""
    return torch.bincount(train[:, [0, 2]].flatten(), minlength=num_entities) > 0
