"""Triples as tensors: the vocabulary and the data set.

Shapes: triples are `(n, 3)` int64 in head, relation, tail order; a query batch `hr` is `(n, 2)`
int64. The inverse of relation `r` is `r + num_relations`; `num_relations` never counts inverses,
and the head query `(?, r, t)` is the tail query `(t, r + num_relations, ?)`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from kgtool.data.features import Features
from kgtool.display import frame_of, html
from kgtool.errors import ConfigError, DataError, described, fault, nearest, quoted
from kgtool.ops.runtime.order_by import begins, order_by

if TYPE_CHECKING:
    import dgl

    from kgtool.display import DataFrame

SPLITS = ("train", "valid", "test")
# The node type of entities without a type in `KGDataset.graph`.
ENTITY = "entity"


# The filter of each split: the splits whose triples are known facts when it is evaluated. Test is
# not in the filter of valid, because a model is selected on valid.
KNOWN_BY = {"train": SPLITS[:2], "valid": SPLITS[:2], "test": SPLITS}


def check_split(name: object, splits: Sequence[str] = SPLITS) -> None:
    """Check the name of a split.

    Raises:
        ConfigError: for a name that is not one of `splits`; it gives the nearest one.
    """
    if isinstance(name, str) and name in splits:
        return
    like = nearest(name, splits) if isinstance(name, str) else None
    hint = f"did you mean {quoted(like)}? Pass" if like else "pass"
    raise ConfigError(f"split is {described(name)}. Remedy: {hint} one of {', '.join(splits)}.")


def check_not_empty(dataset: KGDataset, splits: Sequence[str]) -> None:
    """Check that splits have triples.

    Raises:
        DataError: for the first split that has none.
    """
    for split in splits:
        if not len(dataset.split(split)):
            raise DataError(
                f"{dataset.name}: {split} holds no triples. Remedy: make the three splits with "
                "kgtool.split or kgtool data split."
            )


@dataclass(frozen=True)
class Vocabulary:
    """Labels by id: `entities[i]` is the label of entity `i`, `relations[i]` of relation `i`.

    Raises:
        DataError: for labels that are not a tuple of texts; at the first look-up, for a label that
            has two ids.
    """

    entities: tuple[str, ...]
    relations: tuple[str, ...]

    def __post_init__(self) -> None:
        for name in ("entities", "relations"):
            labels = getattr(self, name)
            if not isinstance(labels, tuple) or not all(isinstance(each, str) for each in labels):
                problem = f"{described(labels)} where a tuple of labels is expected"
                raise fault(name, problem, "give texts, as in ('ada', 'ben')")

    def __repr__(self) -> str:
        return f"Vocabulary({len(self.entities):,} entities, {len(self.relations):,} relations)"

    @cached_property
    def entity_ids(self) -> dict[str, int]:
        """Entity id by label."""
        return _ids_of(self.entities, "entities")

    @cached_property
    def relation_ids(self) -> dict[str, int]:
        """Relation id by label."""
        return _ids_of(self.relations, "relations")

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


def _ids_of(labels: Sequence[str], name: str) -> dict[str, int]:
    """The position of each label."""
    ids = {label: i for i, label in enumerate(labels)}
    if len(ids) < len(labels):
        twice = next(label for i, label in enumerate(labels) if ids[label] != i)
        raise fault(name, f"the label {quoted(twice)} has two ids", "give each label once")
    return ids


@dataclass(frozen=True, eq=False)
class KGDataset:
    """A knowledge graph with its splits.

    Args:
        name: the name of the folder or archive with the triples.
        path: that folder or archive; None for triples in memory.
        vocabulary: the labels of entities and relations, by id.
        train, valid, test: `(n, 3)` int64, without duplicates inside a split.
        types: entity label → its types; an entity without a type is not a key.
        features: vectors of entities by label; also of labels that are not entities here.
        loading: JSON-ready, what loading needs apart from the path: `reading`, the options that
            are not the default, and `split`, the shares and the seed if one file was split.
        guessed: whether nothing named the columns of head, relation and tail.
        weights: split → `(n,)` float32, the confidence of each of its triples, above 0 and at most
            1; a split without an entry has no weights.
        dated: `(m, 4)` int64: head, relation, tail and time of the lines of train, with repeated
            triples; times are numbered from 0 in order. None without times, or if they were not
            asked for. It is not part of the fingerprint, because models do not read it.

    Raises:
        DataError: for a split of another shape or dtype, an id without a label, or weights that do
            not fit.
    """

    name: str
    path: Path | None
    vocabulary: Vocabulary
    train: Tensor
    valid: Tensor
    test: Tensor
    types: Mapping[str, tuple[str, ...]] = field(default_factory=dict, kw_only=True)
    features: Features | None = field(default=None, kw_only=True)
    loading: Mapping[str, Any] = field(default_factory=dict, kw_only=True)
    guessed: bool = field(default=False, kw_only=True)
    weights: Mapping[str, Tensor] = field(default_factory=dict, kw_only=True)
    dated: Tensor | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        if not isinstance(self.vocabulary, Vocabulary):
            problem = f"the type {type(self.vocabulary).__name__} where labels are expected"
            raise fault("vocabulary", problem, "give a kgtool.Vocabulary")
        for split in SPLITS:
            triples = getattr(self, split)
            _check_triples(triples, split, self.num_entities, self.num_relations)
            if triples.is_inference():  # training could not use them
                with torch.inference_mode(False):
                    object.__setattr__(self, split, triples.clone())
        for split, weights in self.weights.items():
            check_split(split)
            _check_weights(weights, split, len(self.split(split)))

    def __repr__(self) -> str:
        sizes = ", ".join(f"{split} {len(self.split(split)):,}" for split in SPLITS)
        return (
            f"KGDataset({self.name!r}: {self.num_entities:,} entities, "
            f"{self.num_relations:,} relations; {sizes})"
        )

    def _repr_html_(self) -> str:
        parts = {name: part for name in SPLITS if len(part := self.split(name))}
        entities = [len(part[:, ::2].unique()) for part in parts.values()]
        relations = [len(part[:, 1].unique()) for part in parts.values()]
        counts = {
            "split": [*parts, "all"],
            "triples": [*map(len, parts.values()), len(self)],
            "entities": [*entities, self.num_entities],
            "relations": [*relations, self.num_relations],
        }
        return html(
            f"Data set {self.name}", frame_of(counts), labelled(self.train[:3], self.vocabulary)
        )

    def __len__(self) -> int:
        """Number of triples in all splits."""
        return sum(len(self.split(split)) for split in SPLITS)

    def to_frame(self, split: str | None = None) -> DataFrame:
        """The triples as labels, in the columns `head`, `relation` and `tail`.

        With weights there is a column `weight`; of several splits, one without weights has 1.

        Args:
            split: `"train"`, `"valid"` or `"test"`; by default all splits, with a column `split`.

        Raises:
            ConfigError: for any other name; it gives the nearest one.
        """
        names = SPLITS if split is None else (split,)
        frame = labelled(torch.cat([self.split(name) for name in names]), self.vocabulary)
        if any(name in self.weights for name in names):
            frame = frame.assign(weight=torch.cat([self.weight(name) for name in names]).numpy())
        if split is not None:
            return frame
        return frame.assign(split=[name for name in SPLITS for _ in range(len(self.split(name)))])

    @property
    def num_entities(self) -> int:
        """Number of entities, in any split."""
        return len(self.vocabulary.entities)

    @property
    def num_relations(self) -> int:
        """Number of relations, in any split, inverses not counted."""
        return len(self.vocabulary.relations)

    @cached_property
    def entity_features(self) -> Tensor:
        """`(num_entities, D)` float32, the features by entity; NaN where a vector is missing.

        Raises:
            ValueError: if the data set has no features.
        """
        if self.features is None:
            raise ValueError(f"{self.name} has no features")
        return self.features.of(self.vocabulary.entities)

    @cached_property
    def graph(self) -> dgl.DGLGraph:
        """The train triples as a DGL heterograph, int32: one edge type per relation, no inverses.

        The canonical edge type of relation `r` is `("entity", edge_type(r, num_relations),
        "entity")`, so that DGL's order of edge types is the order of ids; its label is
        `vocabulary.relations[r]`. A relation without a train triple keeps an empty edge type. Edges
        of a type are in the order of the triples.

        With `types`, the first type of an entity is its node type, and a relation has a canonical
        edge type for each pair of node types that it joins. The node data `dgl.NID` of a node type
        are the ids of its entities.
        """
        names = [edge_type(relation, self.num_relations) for relation in range(self.num_relations)]
        nodes = NodeTypes.of(self.vocabulary.entities, self.types)
        rows = edges_by_type(self.train, names, nodes)
        return heterograph_of(self.train, rows, self.num_entities, nodes)

    def split(self, name: str) -> Tensor:
        """The `(n, 3)` int64 triples of `"train"`, `"valid"` or `"test"`.

        Raises:
            ConfigError: for any other name; it gives the nearest one.
        """
        check_split(name)
        triples: Tensor = getattr(self, name)
        return triples

    def weight(self, name: str) -> Tensor:
        """`(n,)` float32: the weight of each triple of a split; 1 without weights.

        Raises:
            ConfigError: for a name that is not a split.
        """
        check_split(name)
        return self.weights.get(name, torch.ones(len(self.split(name))))

    def filter_triples(self, split: str) -> Tensor:
        """`(n, 3)` int64, the known facts for a split: the triples of `KNOWN_BY[split]`.

        Filtered ranks leave out the other answers that these triples give.

        Raises:
            ConfigError: for a name that is not a split.
        """
        check_split(split)
        return torch.cat([self.split(name) for name in KNOWN_BY[split]])

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 (hex) of the labels in id order and the triples of each split in file order.

        It includes the weights, if there are any.
        """
        digest = hashlib.sha256()
        for labels in (self.vocabulary.entities, self.vocabulary.relations):
            digest.update("\n".join(labels).encode())
            digest.update(b"\0")
        for split in SPLITS:
            triples = self.split(split)
            digest.update(len(triples).to_bytes(8, "little"))
            digest.update(triples.contiguous().numpy().reshape(-1).data)  # no copy
        for split in SPLITS:
            if split in self.weights:
                digest.update(b"\0weights of " + split.encode())
                digest.update(self.weights[split].contiguous().numpy().data)
        return digest.hexdigest()


def _check_triples(triples: object, split: str, num_entities: int, num_relations: int) -> None:
    """Raise a DataError unless the triples are `(n, 3)` int64 with ids below the numbers."""
    make = "make data sets with kgtool.dataset_of, or give (n, 3) int64 ids"
    if not isinstance(triples, Tensor) or triples.dtype != torch.int64:
        kind = triples.dtype if isinstance(triples, Tensor) else type(triples).__name__
        raise fault(split, f"triples of the type {kind} where a tensor of int64 is expected", make)
    if triples.dim() != 2 or triples.shape[1] != 3:
        raise fault(split, f"the shape {tuple(triples.shape)} where (n, 3) is expected", make)
    if not len(triples):
        return
    least, most = triples.amin(0).tolist(), triples.amax(0).tolist()
    sizes = (num_entities, num_relations, num_entities)
    names = ("head", "relation", "tail")
    for name, low, high, size in zip(names, least, most, sizes, strict=True):
        if low < 0 or high >= size:
            wrong = low if low < 0 else high
            raise fault(split, f"the {name} {wrong} has no label among {size:,}", make)


def _check_weights(weights: object, split: str, count: int) -> None:
    """Raise a DataError unless the weights are `(count,)` float32, above 0 and at most 1."""
    place, make = f"weights of {split}", "give a weight above 0 and at most 1 for each triple"
    if not isinstance(weights, Tensor) or weights.dtype != torch.float32:
        kind = weights.dtype if isinstance(weights, Tensor) else type(weights).__name__
        raise fault(place, f"the type {kind} where a tensor of float32 is expected", make)
    if weights.shape != (count,):
        raise fault(place, f"the shape {tuple(weights.shape)} where ({count},) is expected", make)
    wrong = torch.nonzero(~((weights > 0) & (weights <= 1)))
    if len(wrong):
        row = int(wrong[0])
        raise fault(place, f"the weight {weights[row]:g} in row {row + 1}", make)


def labelled(triples: Tensor, vocabulary: Vocabulary) -> DataFrame:
    """Triples `(n, 3)` int64 as labels, in the columns `head`, `relation` and `tail`."""
    head, relation, tail = triples.T.tolist()
    entities, relations = vocabulary.entities, vocabulary.relations
    columns = {
        "head": [entities[i] for i in head],
        "relation": [relations[i] for i in relation],
        "tail": [entities[i] for i in tail],
    }
    return frame_of(columns, texts=tuple(columns))


def edge_type(relation: int, num_relations: int) -> str:
    """A heterograph's name of a relation id, zero-padded: DGL sorts edge types as strings."""
    return f"r{relation:0{len(str(max(num_relations - 1, 0)))}d}"


@dataclass(frozen=True, eq=False)
class NodeTypes:
    """The node types of a heterograph, and the node of each entity.

    Attributes:
        entities: the ids of the entities of each node type, `(n,)` int32, ascending; node `i` of
            the type is the entity `entities[type][i]`.
        type: `(N,)` int32, the node type of each entity, as a position in `entities`.
        node: `(N,)` int32, the node of each entity.
    """

    entities: Mapping[str, Tensor]
    type: Tensor
    node: Tensor

    @classmethod
    def of(cls, labels: Sequence[str], types: Mapping[str, Sequence[str]]) -> NodeTypes | None:
        """The node type of a label is its first type, or `"entity"` without a type.

        None without types: all entities have the type `"entity"`, and their ids are the nodes.
        """
        if not types:
            return None
        first = [types[label][0] if types.get(label) else ENTITY for label in labels]
        names = sorted(set(first)) or [ENTITY]
        place = {name: i for i, name in enumerate(names)}
        type_ = torch.tensor([place[name] for name in first], dtype=torch.int32)
        order = torch.argsort(type_, stable=True).int()
        entities = order.split(torch.bincount(type_, minlength=len(names)).tolist())
        node = torch.empty_like(order)
        for ids in entities:
            node[ids.long()] = torch.arange(len(ids), dtype=torch.int32)
        return cls(dict(zip(names, entities, strict=True)), type_, node)


def edges_by_type(
    triples: Tensor, names: Sequence[str], nodes: NodeTypes | None
) -> dict[tuple[str, str, str], Tensor]:
    """The rows of the triples of each canonical edge type, `(n,)` int32, ascending.

    Args:
        triples: `(n, 3)` int64.
        names: the name of each relation, ascending, since DGL sorts edge types. A relation without
            triples has an edge type, too.
        nodes: the node types, see `NodeTypes.of`.
    """
    kinds = [ENTITY] if nodes is None else list(nodes.entities)
    columns, sizes = [triples[:, 1]], [len(names)]
    if nodes is not None:
        columns += [nodes.type[ids] for ids in (triples[:, 0], triples[:, 2])]
        sizes += [len(kinds)] * 2
    keys = [column.int().numpy() for column in columns]
    order = order_by(keys, sizes)
    keys = [key[order] for key in keys]
    start = np.flatnonzero(np.logical_or.reduce([begins(key) for key in keys]))
    found: dict[tuple[str, str, str], Tensor] = {}
    for begin, end in zip(start, [*start[1:], len(order)], strict=True):
        relation, *ends = (key[begin] for key in keys)
        head, tail = (kinds[i] for i in ends) if ends else (ENTITY, ENTITY)
        found[head, names[relation], tail] = torch.from_numpy(order[begin:end])
    for name in set(names) - {name for _, name, _ in found}:
        found[kinds[0], name, kinds[0]] = torch.empty(0, dtype=torch.int32)
    return found


def heterograph_of(
    triples: Tensor,
    rows: Mapping[tuple[str, str, str], Tensor],
    num_entities: int,
    nodes: NodeTypes | None = None,
) -> dgl.DGLGraph:
    """Triples as a DGL heterograph, int32, without inverses.

    Args:
        triples: `(n, 3)` int64.
        rows: the rows of each canonical edge type, see `edges_by_type`.
        num_entities: number of entities; all entity ids are below it.
        nodes: the node types, see `NodeTypes.of`.
    """
    from kgtool.ops.runtime.dgl import dgl

    head, tail = (ids.int() for ids in (triples[:, 0], triples[:, 2]))
    counts = {ENTITY: num_entities}
    if nodes is not None:
        head, tail = (nodes.node[ids.long()] for ids in (head, tail))
        counts = {name: len(ids) for name, ids in nodes.entities.items()}
    edges = {kind: (head[some], tail[some]) for kind, some in rows.items()}
    graph = dgl.heterograph(edges, num_nodes_dict=counts)
    if nodes is not None:
        for name, ids in nodes.entities.items():
            graph.nodes[name].data[dgl.NID] = ids
    return graph


def invert(triples: Tensor, num_relations: int) -> Tensor:
    """The inverse triples `(t, r⁻¹, h)`, `(n, 3)` int64; the inverse of an inverse is direct."""
    head, relation, tail = triples.unbind(1)
    return torch.stack([tail, (relation + num_relations) % (2 * num_relations), head], dim=1)


def with_inverses(triples: Tensor, num_relations: int) -> Tensor:
    """`(2n, 3)` int64: the triples, then their inverses in the same order."""
    return torch.cat([triples, invert(triples, num_relations)])
