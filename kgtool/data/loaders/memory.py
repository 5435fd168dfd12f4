"""Data sets of triples in memory: data frames, arrays, DGL and PyTorch Geometric graphs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from kgtool.data.dataset import SPLITS, KGDataset, Vocabulary
from kgtool.data.loaders.cells import (
    Cells,
    cells_of,
    is_missing,
    labels_of,
    labels_of_ids,
    names_by_id,
)
from kgtool.data.loaders.encode import to_ids, vocabulary_of
from kgtool.data.loaders.features import features_of
from kgtool.data.loaders.reading import FIELDS
from kgtool.data.loaders.rows import Rows, Triples, rows_of
from kgtool.data.loaders.weights import weighted
from kgtool.errors import DataError, described, fault, nearest, quoted
from kgtool.ops import standard_state

# Labels by id: a list, or a dictionary from label to id or from id to label.
LabelsById = Sequence[str] | Mapping[str, int] | Mapping[int, str]
# Labels of entities: one object for all, or one per node type.
Labels = LabelsById | Mapping[str, LabelsById]
_Names = Mapping[int, str] | Mapping[str, Mapping[int, str] | None] | None
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
    relations: LabelsById | None = None,
    edge_type: str | None = None,
    types: Mapping[str, Sequence[str]] | None = None,
    features: Any = None,
) -> KGDataset:
    """A data set of triples in memory.

    Each split is one of

    - a data frame of pandas, pyarrow or polars: the columns named head, relation and tail, or other
      names that are known together, such as subject, predicate and object; and the column named
      weight, the confidence of each triple from 0 to 1. Further columns are not read. Three
      columns without names are head, relation and tail. A list of dictionaries or named tuples, and
      a dictionary of columns, are read as a data frame;
    - `(n, 3)` labels or ids in head, relation, tail order: a list of tuples, an array, a tensor;
    - a DGL graph: with several edge types, each is a relation; with one edge type, an edge field
      holds the relation of each edge. A graph with all splits, such as DGL's own data sets, has an
      edge mask per split: `train_edge_mask`, `valid_edge_mask`, `test_edge_mask`, which leave out
      inverse edges, or else `train_mask`, `val_mask` (`valid_mask`), `test_mask`. The masks are
      read if neither valid nor test is given;
    - a PyTorch Geometric `Data` with `edge_index` `(2, e)` and `edge_type` `(e,)` of integers, or a
      `HeteroData`. A `Data` with `train_edge_index`, `valid_edge_index` and `test_edge_index`,
      such as those of `RelLinkPredDataset`, has all splits.

    A label is a string. An integer from 0 becomes its digits, or the label with that id if labels
    are given. Nodes of a graph with several node types get the labels `type:id`; relations that
    share a name get the labels `head type/name/tail type`.

    Args:
        train, valid, test: the triples; None for none.
        name: the name of the data set.
        entities: the label of each entity id, all different; a list, or a dictionary from label to
            id or from id to label. A dictionary of these, from node type to labels, for a graph
            with several node types.
        relations: the label of each relation id, or of each edge type of a graph with several; in
            the same forms.
        edge_type: the edge field that holds the relation; by default the first of `edge_type`,
            `etype`, `rel_type`, `relation`, `_TYPE`, `type` that the graph has.
        types: entity label → its types; by default the node types of graphs with several.
        features: vectors of entities, which a model reads if `encoder.features` is `"data"`: a
            dictionary from label to vector; a data frame with labels, as a column or as its index,
            and columns of numbers; an `(n, D)` array or tensor with a row per id; the name of a
            field of the graph's nodes, such as `"feat"` or `"x"`; or a list of these, whose vectors
            are concatenated. Entities may lack a vector.

    Returns:
        The data set, with ids in the code-point order of labels, and without duplicates in a split.

    Raises:
        DataError: for any other object, shape or type; for no triples in train, an invalid or
            missing label, a negative id or one without a label, labels that are not distinct, or
            column names that are not known. The message names the argument, the row and the remedy.
    """
    for argument, value in (("name", name), ("edge_type", edge_type)):
        if not isinstance(value, str) and not (argument == "edge_type" and value is None):
            problem = f"the type {type(value).__name__} where a name is expected"
            remedy = "give a text" if argument == "name" else "name a field of the graph's edges"
            raise fault(argument, problem, remedy)
    own_features = None if features is None else features_of(features, entities, train)
    if types is not None and not isinstance(types, Mapping):
        problem = f"{described(types)} where types by label are expected"
        raise fault("types", problem, "give a dictionary, as in {'ada': ['person']}")
    parts: dict[str, Rows] = {}
    node_types: dict[str, tuple[str, ...]] = {}
    masks: dict[str, Any] = {}
    guessed = False
    if valid is None and test is None:
        train, valid, test = _edge_splits(train)
        masks = _masks(train)
    if masks:
        valid, test = (train if split in masks else None for split in SPLITS[1:])
    for split, given in zip(SPLITS, (train, valid, test), strict=True):
        if given is None and split != "train":
            continue
        mask = masks.get(split)
        edges = _edges(given, split, edge_type, mask)
        columns, unnamed, cells = _columns(
            given, edges, split, entities, relations, field=edge_type
        )
        guessed |= unnamed and split == "train"
        node_types |= _node_types(edges or {}, columns)
        if not columns[0] and split == "train":
            raise _nothing(split)
        if len(columns[0]):
            numbers = np.arange(1, len(columns[0]) + 1)
            rows = rows_of(columns, numbers, split, "row")
            parts[split] = rows if cells is None else weighted(rows, _texts(cells), split)
    vocabulary = vocabulary_of(list(parts.values()))
    ends = np.cumsum([len(rows.codes) for rows in parts.values()])[:-1]
    lines = np.split(to_ids(list(parts.values()), list(parts), vocabulary), ends)
    ids = dict(zip(parts, lines, strict=True))
    empty = torch.empty((0, 3), dtype=torch.int64)
    tensors, weights = [], {}
    for split in SPLITS:
        if split not in ids:
            tensors.append(empty)
            continue
        table = pd.DataFrame(ids[split])
        tensors.append(torch.from_numpy(ids[split][~table.duplicated().to_numpy()]))
        own_weights = parts[split].weights
        if own_weights is not None:
            number = table.groupby([0, 1, 2], sort=False).ngroup().to_numpy()
            most = np.zeros(len(tensors[-1]), np.float32)
            np.maximum.at(most, number, own_weights)
            weights[split] = torch.from_numpy(most)
    own = {label: tuple(kinds) for label, kinds in types.items()} if types else node_types
    return KGDataset(
        name, None, vocabulary, *tensors,
        types=own, features=own_features, guessed=guessed, weights=weights,
    )  # fmt: skip


def triples_of(
    given: Any,
    place: str,
    columns: Sequence[str] | None = None,
    *,
    extra: str | None = None,
    relations: tuple[str, ...] | None = None,
) -> Triples:
    """Triples in memory that do not belong to a split.

    Args:
        given: as a split of `dataset_of`; or a data set, for the triples of all its splits.
        place: the name of the triples in errors.
        columns: the columns of head, relation and tail, by name or by number from 1; the fourth is
            the weight.
        extra: a further column, such as a time.
        relations: the relation labels by id; by default those of the triples.

    Returns:
        The triples, with duplicates, and the texts of the extra column, if requested.

    Raises:
        DataError: as `dataset_of`; for a relation that is not in `relations`, or a graph where
            columns are requested.
    """
    if isinstance(given, KGDataset):
        given = given.to_frame()
    texts = {}
    if columns is None and extra is None:
        found, guessed, weights = _columns(
            given, _edges(given, place, None, None), place, None, None
        )
    else:
        if _edges(given, place, None, None) is not None:
            wanted = ", ".join(map(quoted, (*(columns or ()), *([extra] if extra else ()))))
            raise fault(place, f"a graph has no columns {wanted}", "give a data frame")
        cells, guessed, weights = cells_of(given, place, columns=columns, extra=extra)
        found = [labels_of(cells[i], None, place, field) for i, field in enumerate(FIELDS)]
        if extra is not None:
            times = [_time(cell, f"{place}, row {row}") for row, cell in enumerate(cells[3], 1)]
            texts[extra] = tuple(times)
    if not found[0]:
        raise _nothing(place)
    rows = rows_of(found, np.arange(1, len(found[0]) + 1), place, "row")
    if weights is not None:
        rows = weighted(replace(rows, extra=texts), _texts(weights), place)
        texts = dict(rows.extra)
    own = vocabulary_of([rows])
    vocabulary = Vocabulary(own.entities, relations or own.relations)
    ids = torch.from_numpy(to_ids([rows], [place], vocabulary))
    return Triples(
        vocabulary, ids, texts, rows.notes, ids[:0], guessed=guessed,
        weights=None if rows.weights is None else torch.from_numpy(rows.weights),
    )  # fmt: skip


def _texts(cells: Sequence[Any]) -> list[str]:
    """The texts of cells; a missing one has none."""
    return ["" if is_missing(cell) else str(cell) for cell in cells]


def _time(cell: Any, place: str) -> str:
    """The text of a time: a number, a date, or the text itself."""
    if is_missing(cell):
        raise fault(place, f"the time is missing: {cell!r}", "fill it in, or drop the row")
    return str(cell.isoformat() if hasattr(cell, "isoformat") else cell)


def _nothing(place: str) -> DataError:
    return fault(place, "no triples", "give at least one (head, relation, tail)")


def _edge_splits(given: Any) -> tuple[Any, Any, Any]:
    """The splits of a graph of PyTorch Geometric that has them all, else the graph alone."""
    if isinstance(given, pd.DataFrame):  # whose attributes are columns
        return given, None, None
    graphs: list[Any] = [
        SimpleNamespace(edge_index=index, edge_type=getattr(given, f"{split}_edge_type", None))
        for split in SPLITS
        if (index := getattr(given, f"{split}_edge_index", None)) is not None
    ]
    if len(graphs) < len(SPLITS):
        return given, None, None
    train, valid, test = graphs
    return train, valid, test


def _masks(given: Any) -> dict[str, Any]:
    """The edge mask `(e,)` of each split of a DGL graph with one edge type; else {}."""
    if not hasattr(given, "canonical_etypes") or len(given.canonical_etypes) != 1:
        return {}
    for names in _MASKS:
        found = {
            split: _mask(given.edata[name], name, given.num_edges())
            for split, name in names
            if name in given.edata
        }
        if "train" in found:
            return found
    return {}


def _mask(values: Any, name: str, count: int) -> Tensor:
    mask = torch.as_tensor(values)
    if tuple(mask.shape) != (count,):
        raise _wrong_shape(name, mask, f"({count},)", "give True or False for each edge")
    return mask.bool()


def columns_of(
    given: Any,
    split: str,
    entities: Labels | None = None,
    relations: LabelsById | None = None,
) -> list[Sequence[str]]:
    """Labels of head, relation and tail, see `dataset_of`.

    Args:
        given: the triples.
        split: the name of the triples in errors.
        entities, relations: labels.

    Raises:
        DataError: as `dataset_of`.
    """
    edges = _edges(given, split, None, None)
    return _columns(given, edges, split, entities, relations).columns


def _columns(
    given: Any,
    edges: dict[Any, Any] | None,
    split: str,
    entities: Labels | None,
    relations: LabelsById | None,
    *,
    field: str | None = None,
) -> Cells:
    """Like `columns_of`, with what `_edges` returned for the triples and the edge field."""
    names = _entity_names(entities)
    # Several edge types may be one relation.
    relation_names = names_by_id(relations, "relations", edges is None or len(edges) == 1)
    if edges is not None:
        return Cells([*_of_edges(edges, split, names, relation_names)])
    cells, guessed, weights = cells_of(given, split)
    if field is not None:
        problem = "names an edge field, but the triples are not a graph"
        raise fault("edge_type", problem, "do not pass it")
    if entities is not None and _by_type(entities):
        raise fault("entities", "labels by node type need a graph", "give a list of labels")
    known = (names, relation_names, names)
    labelled: list[Sequence[Any]] = [
        labels_of(column, labels, split, field)  # type: ignore[arg-type]
        for column, labels, field in zip(cells, known, FIELDS, strict=True)
    ]
    return Cells(labelled, guessed, weights)


def _node_types(
    edges: Mapping[tuple[str, str, str], Any], columns: Sequence[Sequence[str]]
) -> dict[str, tuple[str, ...]]:
    """The node type of each entity of a graph with several, from its edges and their labels."""
    if len({end for kind in edges for end in kind[::2]}) < 2:
        return {}
    types: dict[str, tuple[str, ...]] = {}
    begin = 0
    for (head_type, _, tail_type), (heads, _, _) in edges.items():
        end = begin + len(heads)
        types |= dict.fromkeys(columns[0][begin:end], (head_type,))
        types |= dict.fromkeys(columns[2][begin:end], (tail_type,))
        begin = end
    return types


def _edges(given: Any, split: str, field: str | None, mask: Any) -> dict[Any, Any] | None:
    """The ends of the edges of each edge type, and the relation of each edge; None for no graph."""
    if isinstance(given, (pd.DataFrame, Mapping)):  # whose attributes are columns
        return None
    if hasattr(given, "canonical_etypes"):
        return _dgl_edges(given, split, field, mask)
    if hasattr(given, "edge_index_dict"):
        for kind in given.edge_index_dict:
            if not isinstance(kind, tuple) or len(kind) != 3:
                problem = f"the edge type {quoted(repr(kind))}"
                raise fault(split, problem, "name edge types (head type, relation, tail type)")
        return {
            kind: _pyg_edges(index, None, f"the edge_index of {kind}")
            for kind, index in given.edge_index_dict.items()
        }
    if getattr(given, "edge_index", None) is None:
        return None
    name = field or "edge_type"
    if getattr(given, name, None) is None:
        raise _without_relations(split, name)
    return {("", "", ""): _pyg_edges(given.edge_index, getattr(given, name), "edge_index", name)}


def _pyg_edges(index: Any, kinds: Any, name: str, kinds_name: str = "") -> tuple[Any, Any, Any]:
    """Heads, relation ids if any, and tails."""
    index = _integers(index, name)
    if index.dim() != 2 or len(index) != 2:
        turned = index.dim() == 2 and index.shape[1] == 2
        remedy = "pass edge_index.t()" if turned else "give the heads and the tails of the edges"
        raise _wrong_shape(name, index, "(2, number of edges)", remedy)
    head, tail = index
    return head, None if kinds is None else _relation_ids(kinds, kinds_name, len(head)), tail


def _relation_ids(values: Any, name: str, count: int) -> Tensor:
    """`(count,)` ids of relations from an edge field."""
    ids = _integers(values, name)
    if tuple(ids.shape) == (count, 1):
        raise _wrong_shape(name, ids, f"({count},)", f"pass {name}.squeeze(1)")
    if ids.dim() != 1:
        remedy = f"give one relation id per edge; for one-hot rows, {name}.argmax(1)"
        raise _wrong_shape(name, ids, f"({count},)", remedy)
    if len(ids) != count:
        problem = f"{len(ids):,} relations for {count:,} edges"
        raise fault(name, problem, "give one relation id per edge")
    return ids


def _integers(values: Any, name: str) -> Tensor:
    """A tensor of integers on the CPU."""
    try:
        tensor = torch.as_tensor(values).detach().cpu()
    except (TypeError, ValueError, RuntimeError):
        problem = f"a {type(values).__name__} that is not an array of integers"
        raise fault(
            name, problem, "give ids, and their labels by entities= and relations="
        ) from None
    if tensor.dtype.is_floating_point or tensor.dtype.is_complex or tensor.dtype == torch.bool:
        problem = f"the type {str(tensor.dtype).removeprefix('torch.')} where integers are expected"
        raise fault(name, problem, "give ids, as in .long(), or .argmax(1) for one-hot rows")
    return tensor.long()


def _wrong_shape(name: str, values: Tensor, expected: str, remedy: str) -> DataError:
    return fault(name, f"the shape {tuple(values.shape)} where {expected} is expected", remedy)


def _by_type(entities: Labels) -> bool:
    """Whether the labels are given by node type."""
    return isinstance(entities, Mapping) and any(
        not isinstance(labels, (str, int, np.integer)) for labels in entities.values()
    )


def _entity_names(entities: Labels | None) -> _Names:
    """Id → label, or node type → id → label."""
    if entities is None or not _by_type(entities):
        return names_by_id(entities, "entities")
    assert isinstance(entities, Mapping)
    names: dict[str, Mapping[int, str] | None] = {
        str(kind): names_by_id(given, f"entities[{kind!r}]") for kind, given in entities.items()
    }
    type_of: dict[str, str] = {}
    for kind, labels in names.items():
        for label in (labels or {}).values():
            if type_of.setdefault(label, kind) != kind:
                problem = f"{type_of[label]!r} and {kind!r} both have the label {quoted(label)}"
                remedy = f"give each node its own label, such as {quoted(f'{kind}:{label}')}"
                raise fault("entities", problem, remedy)
    return names


def _dgl_edges(graph: Any, split: str, field: str | None, mask: Any) -> dict[Any, Any]:
    graph = graph.cpu()
    kinds = graph.canonical_etypes
    if not kinds:
        raise _nothing(split)
    if len(kinds) > 1 or (kinds[0] != ("_N", "_E", "_N") and field is None and mask is None):
        return {kind: _ends(graph.edges(etype=kind)) for kind in kinds}
    fields = [field] if field else _TYPE_FIELDS
    found = next((name for name in fields if name in graph.edata), None)
    if found is None:
        raise _without_relations(split, fields[0])
    head, tail = graph.edges()
    edges = (head, _relation_ids(graph.edata[found], found, len(head)), tail)
    head, kind, tail = edges if mask is None else (ids[mask.cpu()] for ids in edges)
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
    entities: _Names,
    relations: Mapping[int, str] | None,
) -> list[Sequence[str]]:
    """Labels of the edges of each edge type; an edge's relation is in a field, or its edge type."""
    node_types = sorted({end for head, _, tail in edges for end in (head, tail)})
    by_type = bool(entities) and all(isinstance(key, str) for key in entities or ())
    if by_type:
        _check_node_types(entities or {}, node_types)
    elif entities is not None and len(node_types) > 1:
        problem = f"one list of labels for several node types: {', '.join(node_types)}"
        raise fault("entities", problem, "give labels by node type, as in {'drug': ['a', 'b']}")
    names = [name for _, name, _ in edges]
    with_types = [types is not None for _, types, _ in edges.values()]
    if (
        relations is not None
        and not all(with_types)
        and sorted(relations) != list(range(len(edges)))
    ):
        problem = f"{len(relations)} labels for {len(edges)} edge types"
        raise fault("relations", problem, "give one label per edge type, in their order")
    columns: list[list[str]] = [[], [], []]
    for i, ((head_type, name, tail_type), (heads, types, tails)) in enumerate(edges.items()):
        for column, end, nodes in ((0, head_type, heads), (2, tail_type, tails)):
            labels: Any = (entities or {}).get(end) if by_type else entities  # type: ignore[call-overload]
            prefix = f"{end}:" if len(node_types) > 1 else ""
            columns[column] += labels_of_ids(nodes.tolist(), labels, split, "entity", prefix)
        if types is not None:
            columns[1] += labels_of_ids(types.tolist(), relations, split, "relation")
        elif relations is not None:
            columns[1] += [relations[i]] * len(heads)
        else:
            label = name if names.count(name) == 1 else f"{head_type}/{name}/{tail_type}"
            columns[1] += [label] * len(heads)
    return list(columns)


def _check_node_types(given: Mapping[Any, Any], node_types: Sequence[str]) -> None:
    for kind in given:
        if kind not in node_types:
            like = nearest(kind, node_types)
            hint = f"did you mean {quoted(like)}? " if like else ""
            problem = f"the graph has no nodes of the type {quoted(kind)}"
            remedy = f"{hint}its node types are {', '.join(map(quoted, node_types))}"
            raise fault("entities", problem, remedy)
