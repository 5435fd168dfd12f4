"""Entity features from memory: vectors by label, see `kgtool.data.features`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import torch
from numpy.typing import NDArray

from kgtool.data.features import BLOCK, Features
from kgtool.data.loaders.cells import names_by_id
from kgtool.errors import fault, quoted

Floats = NDArray[np.float32]
# Names of the column of labels; by default it is the first.
LABELS = ("label", "entity", "id", "node")
KIND = "kind"  # the column of `kgtool export` that says whether a row is an entity's


def features_of(given: Any, entities: Any = None, graph: Any = None) -> Features:
    """Vectors in memory.

    Args:
        given: a dictionary from label to vector; a data frame with a column of labels (or labels as
            its index) and columns of numbers; an `(n, D)` array or tensor with a row per id; the
            name of a field of the nodes of `graph`; or a list of these, whose vectors are
            concatenated.
        entities: the label of each id, as in `kgtool.dataset_of`; by default the digits of the id.
        graph: a DGL or PyTorch Geometric graph. The vectors of each node type are a source.

    Raises:
        DataError: for another object or shape, a vector with NaN, or a label with two vectors.
    """
    several = isinstance(given, (list, tuple)) and any(
        isinstance(part, (str, Mapping, pd.DataFrame)) or len(getattr(part, "shape", ())) == 2
        for part in given
    )
    parts = []
    for i, part in enumerate(given if several else [given]):
        place = f"features[{i}]" if several else "features"
        if isinstance(part, str):
            parts += _of_field(part, graph, entities, place)
        else:
            parts.append(checked(*_of_memory(part, entities, place), place))
    return side_by_side(parts)


def side_by_side(parts: Sequence[Features]) -> Features:
    """The vectors of several sources, by label; NaN where a source lacks a label."""
    if len(parts) == 1:
        return parts[0]
    labels = pa.array(
        dict.fromkeys(label for part in parts for label in part.labels.to_pylist()),
        pa.large_string(),
    )
    tables = [part.of(labels.to_pylist()) for part in parts]
    return Features(labels, torch.cat(tables, dim=1), tuple(part.widths[0] for part in parts))


def checked(labels: Sequence[str], table: Floats, place: str) -> Features:
    """One source, after checks; texts are also checked line by line before."""
    if not len(labels) or not table.shape[1]:
        problem = "no vectors" if not len(labels) else "vectors without numbers"
        raise fault(place, problem, "write a label and its numbers in each row")
    seen: dict[str, int] = {}
    for i, label in enumerate(labels):
        if seen.setdefault(label, i) != i:
            problem = f"a second vector of {quoted(label)}; the first is in row {seen[label] + 1}"
            raise fault(f"{place}, row {i + 1}", problem, "keep one")
    for begin in range(0, len(table), BLOCK):
        bad = ~np.isfinite(table[begin : begin + BLOCK])
        if bad.any():
            i, column = np.argwhere(bad)[0].tolist()
            problem = f"the vector of {quoted(labels[begin + i])} has {table[begin + i, column]}"
            raise fault(
                f"{place}, row {begin + i + 1}", f"{problem} as number {column + 1}",
                "give finite numbers of float32, or leave the row out",
            )  # fmt: skip
    return Features(pa.array(labels, pa.large_string()), torch.from_numpy(table), (table.shape[1],))


def float32(matrix: Any, place: str) -> Floats:
    """A matrix of numbers as float32; a number that is too large becomes infinite."""
    matrix = np.asarray(matrix)
    if matrix.ndim != 2:
        problem = f"an array of the shape {matrix.shape} where (n, numbers) is expected"
        raise fault(place, problem, "give a row per label")
    if matrix.dtype.kind not in "fiub":
        problem = f"numbers of the type {matrix.dtype}"
        raise fault(place, problem, "give floating point numbers or integers")
    with np.errstate(over="ignore"):
        return np.array(matrix, np.float32, order="C")


def _of_memory(given: Any, entities: Any, place: str) -> tuple[Sequence[str], Floats]:
    if hasattr(given, "to_pandas"):
        given = given.to_pandas()
    if isinstance(given, pd.DataFrame):
        return _of_frame(given, place)
    if isinstance(given, Mapping):
        labels = [str(label) for label in given]
        return labels, _stacked(given.values(), labels, place)
    matrix = float32(_array(given, place), place)
    names = names_by_id(entities, "entities") if entities is not None else None
    if names is None:
        return [str(i) for i in range(len(matrix))], matrix
    if len(names) != len(matrix):
        problem = f"{len(matrix):,} rows for {len(names):,} labels of entities"
        raise fault(place, problem, "give a row per id, or a dictionary from label to vector")
    return [names[i] for i in range(len(matrix))], matrix


def _array(given: Any, place: str) -> Any:
    try:
        if isinstance(given, torch.Tensor):
            given = given.detach().cpu()
            return (given.float() if given.dtype == torch.bfloat16 else given).numpy()
        return np.asarray(given)
    except (TypeError, ValueError, RuntimeError):
        problem = f"vectors of different lengths, or a {type(given).__name__} without numbers"
        remedy = "give an (n, numbers) array, a data frame, or a dictionary from label to vector"
        raise fault(place, problem, remedy) from None


def _of_frame(frame: pd.DataFrame, place: str) -> tuple[Sequence[str], Floats]:
    texts = [i for i, kind in enumerate(frame.dtypes) if kind.kind not in "fiub"]
    if not texts or (len(frame) and isinstance(frame.index[0], str)):
        labels, numbers = frame.index.tolist(), list(range(frame.shape[1]))
    else:
        label = columns_of([str(name) for name in frame.columns], place)[0]
        labels = frame.iloc[:, label].tolist()
        numbers = [i for i in range(frame.shape[1]) if i != label]
    labels = [str(cell) for cell in labels]
    if len(numbers) == 1 and numbers[0] in texts:  # a column of vectors
        return labels, _stacked(frame.iloc[:, numbers[0]], labels, place)
    wrong = [i for i in numbers if i in texts]
    if wrong:
        problem = f"the column {quoted(str(frame.columns[wrong[0]]))} does not hold numbers"
        raise fault(place, problem, "keep the labels and columns of numbers")
    return labels, float32(frame.iloc[:, numbers].to_numpy(), place)


def _stacked(vectors: Iterable[Any], labels: Sequence[str], place: str) -> Floats:
    rows = [
        np.ravel(_array(vector, f"{place}[{label!r}]"))
        for label, vector in zip(labels, vectors, strict=True)
    ]
    for label, row in zip(labels, rows, strict=True):
        if len(row) != len(rows[0]):
            problem = f"{len(row):,} numbers, where {quoted(labels[0])} has {len(rows[0]):,}"
            raise fault(f"{place}[{label!r}]", problem, "give each label as many numbers")
    return float32(np.stack(rows) if rows else np.empty((0, 1)), place)


def _of_field(name: str, graph: Any, entities: Any, place: str) -> list[Features]:
    """A source per node type that has the field."""
    fields = _fields(name, graph)
    if not fields:
        problem = f"the nodes have no field {quoted(name)}"
        if graph is None or isinstance(graph, pd.DataFrame):
            problem = f"the text {quoted(name)}, and the triples are not a graph"
        raise fault(place, problem, "name a field of the graph's nodes, or give the vectors")
    by_type = isinstance(entities, Mapping) and set(entities) >= set(fields)
    parts = []
    for kind, values in fields.items():
        where = f"{place}: {name}" + (f" of {kind}" if kind else "")
        own = entities[kind] if by_type else entities
        labels, table = _of_memory(values, own, where)
        if kind and not by_type:
            labels = [f"{kind}:{label}" for label in labels]
        parts.append(checked(labels, table, where))
    return parts


def _fields(name: str, graph: Any) -> dict[str, Any]:
    """The values of a field by node type; an empty text for a graph with one type."""
    if hasattr(graph, "ntypes"):
        several = len(graph.ntypes) > 1
        return {
            kind if several else "": graph.nodes[kind].data[name]
            for kind in graph.ntypes
            if name in graph.nodes[kind].data
        }
    if hasattr(graph, "node_types"):
        found = {kind: graph[kind] for kind in graph.node_types}
        several = len(found) > 1
        return {
            kind if several else "": getattr(store, name)
            for kind, store in found.items()
            if getattr(store, name, None) is not None
        }
    if graph is None or isinstance(graph, (pd.DataFrame, Mapping)):
        return {}
    value = getattr(graph, name, None)
    return {} if value is None or callable(value) else {"": value}


def columns_of(names: Sequence[str], place: str) -> tuple[int, list[int], int | None]:
    """The columns of the label, of the numbers, and of the kind of a row, by name."""
    folded = [name.strip().casefold() for name in names]
    label = next((folded.index(name) for name in LABELS if name in folded), 0)
    exported = KIND in folded and folded[label] == "label"
    others = {label, *([folded.index(KIND)] if exported else [])}
    if exported and "name" in folded:
        others.add(folded.index("name"))
    numbers = [i for i in range(len(names)) if i not in others]
    if not numbers:
        raise fault(place, "labels without numbers", "write a label and its numbers in each row")
    return label, numbers, folded.index(KIND) if exported else None
