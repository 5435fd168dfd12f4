"""Triples as tensors: the vocabulary and the data set.

Shapes: triples are `(n, 3)` int64 in head, relation, tail order; a query batch `hr` is `(n, 2)`
int64. The inverse of relation `r` is `r + num_relations`; `num_relations` never counts inverses,
and the head query `(?, r, t)` is the tail query `(t, r + num_relations, ?)`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from kgtool.ops.runtime.order_by import order_by

if TYPE_CHECKING:
    import dgl

SPLITS = ("train", "valid", "test")
# The node type of `KGDataset.graph`.
ENTITY = "entity"


# The filter of each split: the splits whose triples are known facts when it is evaluated. Test is
# not in the filter of valid, because a model is selected on valid.
KNOWN_BY = {"train": SPLITS[:2], "valid": SPLITS[:2], "test": SPLITS}


@dataclass(frozen=True)
class Vocabulary:
    """Labels by id: `entities[i]` is the label of entity `i`, `relations[i]` of relation `i`."""

    entities: tuple[str, ...]
    relations: tuple[str, ...]

    @cached_property
    def entity_ids(self) -> dict[str, int]:
        """Entity id by label."""
        return {label: i for i, label in enumerate(self.entities)}

    @cached_property
    def relation_ids(self) -> dict[str, int]:
        """Relation id by label."""
        return {label: i for i, label in enumerate(self.relations)}

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 (hex) of the labels in id order."""
        digest = hashlib.sha256()
        for labels in (self.entities, self.relations):
            digest.update("\n".join(labels).encode())
            digest.update(b"\0")
        return digest.hexdigest()

    @cached_property
    def steps(self) -> tuple[str, ...]:
        """The relations by id, inverses included: `^r` is the inverse of the relation `r`."""
        return (*self.relations, *(f"^{label}" for label in self.relations))

    @cached_property
    def step_ids(self) -> dict[str, int]:
        """Relation id by the name of the step; a relation whose label begins with ^ comes first."""
        return {name: i for i, name in enumerate(self.steps)} | self.relation_ids


@dataclass(frozen=True, eq=False)
class KGDataset:
    """A knowledge graph with its splits.

    Args:
        name: the name of the folder or archive with the triples.
        path: that folder or archive; None for triples in memory.
        vocabulary: the labels of entities and relations, by id.
        train, valid, test: `(n, 3)` int64, without duplicates inside a split.
    """

    name: str
    path: Path | None
    vocabulary: Vocabulary
    train: Tensor
    valid: Tensor
    test: Tensor

    def __post_init__(self) -> None:
        """Copy triples that were made in inference mode: training could not use them."""
        for split in SPLITS:
            if (triples := self.split(split)).is_inference():
                with torch.inference_mode(False):
                    object.__setattr__(self, split, triples.clone())

    @property
    def num_entities(self) -> int:
        """Number of entities, in any split."""
        return len(self.vocabulary.entities)

    @property
    def num_relations(self) -> int:
        """Number of relations, in any split, inverses not counted."""
        return len(self.vocabulary.relations)

    @cached_property
    def graph(self) -> dgl.DGLGraph:
        """The train triples as a DGL heterograph, int32: one edge type a relation, no inverses.

        The canonical edge type of relation `r` is `("entity", edge_type(r, num_relations),
        "entity")`, so that DGL's order of edge types is the order of ids; its label is
        `vocabulary.relations[r]`. A relation without a train triple keeps an empty edge type. Edges
        of a type are in the order of the triples.
        """
        names = [edge_type(relation, self.num_relations) for relation in range(self.num_relations)]
        return heterograph_of(self.train, names, self.num_entities)

    def split(self, name: str) -> Tensor:
        """The `(n, 3)` int64 triples of `"train"`, `"valid"` or `"test"`.

        Raises:
            ValueError: for any other name.
        """
        if name not in SPLITS:
            raise ValueError(f"no split {name!r}; the splits are {', '.join(SPLITS)}")
        triples: Tensor = getattr(self, name)
        return triples

    def filter_triples(self, split: str) -> Tensor:
        """`(n, 3)` int64, the known facts for a split: the triples of `KNOWN_BY[split]`.

        Filtered ranks leave out the other answers that these triples give.
        """
        return torch.cat([self.split(name) for name in KNOWN_BY[split]])

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 (hex) of the labels in id order and the triples of each split in file order."""
        digest = hashlib.sha256()
        for labels in (self.vocabulary.entities, self.vocabulary.relations):
            digest.update("\n".join(labels).encode())
            digest.update(b"\0")
        for split in SPLITS:
            triples = self.split(split)
            digest.update(len(triples).to_bytes(8, "little"))
            digest.update(triples.contiguous().numpy().reshape(-1).data)  # no copy
        return digest.hexdigest()


def edge_type(relation: int, num_relations: int) -> str:
    """A heterograph's name of a relation id, zero-padded: DGL sorts edge types as strings."""
    return f"r{relation:0{len(str(max(num_relations - 1, 0)))}d}"


def heterograph_of(triples: Tensor, names: Sequence[str], num_entities: int) -> dgl.DGLGraph:
    """Triples as a DGL heterograph, int32, without inverses.

    Args:
        triples: `(n, 3)` int64.
        names: the edge type of each relation, ascending, since DGL sorts them. The edge type of a
            relation without triples is empty. Edges of a type are in the order of the triples.
        num_entities: number of entities; all entity ids are below it.
    """
    from kgtool.ops.runtime.dgl import dgl

    head, relation, tail = (ids.int().contiguous() for ids in triples.unbind(1))
    order = torch.from_numpy(order_by((relation.numpy(),), (len(names),)))
    counts = torch.bincount(relation, minlength=len(names)).tolist()
    ends = zip(head[order].split(counts), tail[order].split(counts), strict=True)
    edges = {
        (ENTITY, name, ENTITY): of_relation for name, of_relation in zip(names, ends, strict=True)
    }
    return dgl.heterograph(edges, num_nodes_dict={ENTITY: num_entities})


def invert(triples: Tensor, num_relations: int) -> Tensor:
    """The inverse triples `(t, r⁻¹, h)`, `(n, 3)` int64; the inverse of an inverse is direct."""
    head, relation, tail = triples.unbind(1)
    return torch.stack([tail, (relation + num_relations) % (2 * num_relations), head], dim=1)


def with_inverses(triples: Tensor, num_relations: int) -> Tensor:
    """`(2n, 3)` int64: the triples, then their inverses in the same order."""
    return torch.cat([triples, invert(triples, num_relations)])
