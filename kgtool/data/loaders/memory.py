"""Data sets of triples in memory: data frames, arrays, DGL and PyTorch Geometric graphs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch

from kgtool.data.dataset import SPLITS, KGDataset
from kgtool.data.loaders.encode import to_ids, vocabulary_of
from kgtool.data.loaders.header import naming_of
from kgtool.data.loaders.rows import Ints, Rows, rows_of
from kgtool.errors import DataError, fault, quoted
from kgtool.ops import standard_state

# Labels of entities by id: one list for all, or a list per node type.
Labels = Sequence[str] | Mapping[str, Sequence[str]]
# The edge masks of a DGL graph with all splits. The first group with a train mask is used.
_MASKS = (
    (("train", "train_edge_mask"), ("valid", "valid_edge_mask"), ("test", "test_edge_mask")),
    (
        ("train", "train_mask"),
        ("valid", "val_mask"),
        ("valid", "valid_mask"),
        ("test", "test_mask"),
    ),
)
_TYPE_FIELDS = ("edge_type", "etype", "rel_type", "relation", "_TYPE", "type")


@standard_state()
def dataset_of(
    train: Any,
    valid: Any = None,
    test: Any = None,
    name: str = "memory",
    *,
    entities: Labels | None = None,
    relations: Sequence[str] | None = None,
    edge_type: str | None = None,
) -> KGDataset:
    """A data set of triples in memory.

    Each split is one of

    - a pandas `DataFrame`: the columns with known names for head, relation and tail, else the first
      three;
    - `(n, 3)` labels or ids in head, relation, tail order: a list of tuples, an array, a tensor;
    - a DGL graph: with several edge types, each is a relation; with one edge type, an edge field
      holds the relation of each edge. A graph with all splits, such as DGL's own data sets, has an
      edge mask per split: `train_edge_mask`, `valid_edge_mask`, `test_edge_mask`, which leave out
      inverse edges, or else `train_mask`, `val_mask` (`valid_mask`), `test_mask`. The masks are
      read if neither valid nor test is given;
    - a PyTorch Geometric `Data` with `edge_index` and `edge_type`, or a `HeteroData`.

    A label is a string. An integer becomes its digits, or the label with that index if labels are
    given. Nodes of a graph with several node types get the labels `type:id`; relations that share a
    name get the labels `head type/name/tail type`.

    Args:
        train, valid, test: the triples; None for none.
        name: the name of the data set.
        entities: the label of each entity id; per node type for a graph with several node types.
        relations: the label of each relation id, or of each edge type of a graph with several.
        edge_type: the edge field that holds the relation; by default the first of `edge_type`,
            `etype`, `rel_type`, `relation`, `_TYPE`, `type` that the graph has.

    Returns:
        The data set, with ids in the code-point order of labels, and without duplicates in a split.

    Raises:
        DataError: for any other object, no triples in train, an invalid label, or an id without a
            label.
    """
    parts: dict[str, Rows] = {}
    masks = _masks(train) if valid is None and test is None else {}
    if masks:
        valid, test = (train if split in masks else None for split in SPLITS[1:])
    for split, given in zip(SPLITS, (train, valid, test), strict=True):
        if given is None and split != "train":
            continue
        mask = masks.get(split)
        columns = columns_of(given, split, entities, relations, field=edge_type, mask=mask)
        if len(columns[0]) or split == "train":
            numbers = np.arange(1, len(columns[0]) + 1)
            parts[split] = rows_of(columns, numbers, split, "row")
    vocabulary = vocabulary_of(list(parts.values()))
    ends = np.cumsum([len(rows.codes) for rows in parts.values()])[:-1]
    lines = np.split(to_ids(list(parts.values()), list(parts), vocabulary), ends)
    ids = dict(zip(parts, lines, strict=True))
    empty = torch.empty((0, 3), dtype=torch.int64)
    tensors = {
        split: torch.from_numpy(_distinct(ids[split])) if split in ids else empty
        for split in SPLITS
    }
    return KGDataset(name, None, vocabulary, **tensors)


def _distinct(ids: Ints) -> Ints:
    """The distinct triples, in their order."""
    repeated = pd.DataFrame(ids).duplicated().to_numpy()
    distinct: Ints = ids[~repeated]
    return distinct


def _masks(given: Any) -> dict[str, Any]:
    """The edge mask `(e,)` of each split of a DGL graph with one edge type; else {}."""
    if not hasattr(given, "canonical_etypes") or len(given.canonical_etypes) > 1:
        return {}
    for names in _MASKS:
        found = {split: given.edata[name].bool() for split, name in names if name in given.edata}
        if "train" in found:
            return found
    return {}


def columns_of(
    given: Any,
    split: str,
    entities: Labels | None = None,
    relations: Sequence[str] | None = None,
    *,
    field: str | None = None,
    mask: Any = None,
) -> list[Sequence[str]]:
    """Labels of head, relation and tail, see `dataset_of`.

    Args:
        given: the triples.
        split: the name of the triples in errors.
        entities, relations, field: labels, and the edge field that holds the relation.
        mask: `(e,)` bool, the edges to read of a DGL graph with one edge type; None for all.

    Raises:
        DataError: as `dataset_of`.
    """
    if isinstance(given, pd.DataFrame):
        return _of_cells(_frame_columns(given, split), split, entities, relations)
    if hasattr(given, "canonical_etypes"):
        edges = _dgl_edges(given, split, field, mask)
    elif hasattr(given, "edge_index_dict"):
        edges = {kind: (index[0], None, index[1]) for kind, index in given.edge_index_dict.items()}
    elif getattr(given, "edge_index", None) is not None:
        types = getattr(given, field or "edge_type", None)
        if types is None:
            raise _without_relations(split, field or "edge_type")
        edges = {("", "", ""): (given.edge_index[0], types, given.edge_index[1])}
    else:
        return _of_cells(_array_columns(given, split), split, entities, relations)
    return _of_edges(edges, split, entities, relations)


def _frame_columns(frame: pd.DataFrame, split: str) -> list[Any]:
    names = [str(name) for name in frame.columns]
    if len(names) < 3:
        problem = f"{len(names)} columns where 3 are expected: {', '.join(map(quoted, names))}"
        raise fault(split, problem, "give head, relation and tail")
    fits = [
        [trio[i] for i in order]
        for trio in _trios(len(names))
        if (order := naming_of([names[i] for i in trio])) is not None
    ]
    chosen = fits[0] if len(fits) == 1 else [0, 1, 2]
    return [frame.iloc[:, i].tolist() for i in chosen]


def _trios(count: int) -> list[tuple[int, int, int]]:
    return [(i, j, k) for i in range(count) for j in range(i) for k in range(j)]


def _array_columns(given: Any, split: str) -> list[Any]:
    rows = given.tolist() if hasattr(given, "tolist") else given
    try:
        if any(isinstance(row, str) for row in rows):
            raise TypeError
        rows = [tuple(row) for row in rows]
    except TypeError:
        raise fault(
            split,
            f"no triples: {quoted(type(given).__name__)}",
            "give a DataFrame, (n, 3) labels, or a DGL or PyTorch Geometric graph",
        ) from None
    wrong = next((i for i, row in enumerate(rows) if len(row) != 3), None)
    if wrong is not None:
        raise fault(
            f"{split}, row {wrong + 1}",
            f"{len(rows[wrong])} values where 3 are expected",
            "give head, relation and tail",
        )
    return [list(column) for column in zip(*rows, strict=True)] or [[], [], []]


def _of_cells(
    columns: list[Any], split: str, entities: Labels | None, relations: Sequence[str] | None
) -> list[Sequence[str]]:
    """Strings as they are, integers by their labels."""
    if isinstance(entities, Mapping):
        raise fault(split, "labels by node type need a graph", "give a list of labels")
    known = (entities, relations, entities)
    fields = ("head", "relation", "tail")
    return [
        [_label(cell, labels, split, row, field) for row, cell in enumerate(column, 1)]
        for column, labels, field in zip(columns, known, fields, strict=True)
    ]


def _label(cell: Any, labels: Sequence[str] | None, split: str, row: int, field: str) -> str:
    if isinstance(cell, str):
        return str(cell)
    if isinstance(cell, (int, np.integer)) and not isinstance(cell, bool):
        return _labels_of([int(cell)], labels, f"{split}, row {row}", field)[0]
    problem = f"the {field} is {quoted(repr(cell))}, neither a string nor an integer"
    raise fault(f"{split}, row {row}", problem, "make it a string")


def _labels_of(
    ids: Sequence[int], labels: Sequence[str] | None, place: str, kind: str, prefix: str = ""
) -> list[str]:
    """The labels of ids; without labels, the prefix and the digits of the id."""
    if labels is None:
        return [f"{prefix}{i}" for i in ids]
    beyond = next((i for i in ids if not 0 <= i < len(labels)), None)
    if beyond is not None:
        problem = f"the {kind} {beyond} has no label among {len(labels)}"
        raise fault(place, problem, "give a label for each id")
    return [labels[i] for i in ids]


def _dgl_edges(graph: Any, split: str, field: str | None, mask: Any) -> dict[Any, Any]:
    kinds = graph.canonical_etypes
    if len(kinds) > 1 or (kinds[0] != ("_N", "_E", "_N") and field is None and mask is None):
        return {kind: _ends(graph.edges(etype=kind)) for kind in kinds}
    fields = [field] if field else _TYPE_FIELDS
    found = next((name for name in fields if name in graph.edata), None)
    if found is None:
        raise _without_relations(split, fields[0])
    edges = (*graph.edges(), graph.edata[found])
    head, tail, kind = edges if mask is None else (ids[mask] for ids in edges)
    return {("", "", ""): (head, kind, tail)}


def _ends(edges: tuple[Any, Any]) -> tuple[Any, None, Any]:
    return edges[0], None, edges[1]


def _without_relations(split: str, field: str) -> DataError:
    return fault(
        split,
        f"the edges of the graph have no field {quoted(field)}",
        "name the edge field that holds the relation, as in edge_type='etype'",
    )


def _of_edges(
    edges: Mapping[tuple[str, str, str], Any],
    split: str,
    entities: Labels | None,
    relations: Sequence[str] | None,
) -> list[Sequence[str]]:
    """Labels of the edges of each edge type; an edge's relation is in a field, or its edge type."""
    node_types = {end for head, _, tail in edges for end in (head, tail)}
    names = [name for _, name, _ in edges]
    columns: list[list[str]] = [[], [], []]
    for i, ((head_type, name, tail_type), (heads, types, tails)) in enumerate(edges.items()):
        for column, end, nodes in ((0, head_type, heads), (2, tail_type, tails)):
            labels = entities.get(end) if isinstance(entities, Mapping) else entities
            prefix = f"{end}:" if len(node_types) > 1 else ""
            if prefix and entities is not None and not isinstance(entities, Mapping):
                raise fault(split, "the graph has several node types", "give labels by node type")
            columns[column] += _labels_of(nodes.tolist(), labels, split, "entity", prefix)
        if types is not None:
            columns[1] += _labels_of(types.tolist(), relations, split, "relation")
        elif relations is not None:
            columns[1] += _labels_of([i], relations, split, "edge type") * len(heads)
        else:
            label = name if names.count(name) == 1 else f"{head_type}/{name}/{tail_type}"
            columns[1] += [label] * len(heads)
    return list(columns)
