"""Turns the labels of rows into ids."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch

from kgtool.data.dataset import SPLITS, KGDataset, Vocabulary
from kgtool.data.loaders.rows import Ints, Rows
from kgtool.errors import DataError, fault, nearest, quoted


def vocabulary_of(parts: Sequence[Rows]) -> Vocabulary:
    """The labels of the rows, sorted by code point, so that ids do not depend on row order."""
    return Vocabulary(_sorted(parts, [0, 2]), _sorted(parts, [1]))


def _sorted(parts: Sequence[Rows], columns: list[int]) -> tuple[str, ...]:
    chunks = []
    for part in parts:
        used = np.zeros(len(part.labels), dtype=np.bool_)
        for column in columns:
            used[part.codes[:, column]] = True
        chunks.append(part.labels.filter(pa.array(used)))
    labels = pc.unique(pa.chunked_array(chunks, pa.large_string()))
    # Arrow compares bytes; in UTF-8 their order is that of code points
    return tuple(labels.take(pc.sort_indices(labels)).to_pylist())


def to_ids(parts: Sequence[Rows], places: Sequence[str], vocabulary: Vocabulary) -> Ints:
    """The ids of the rows.

    Args:
        parts: the rows.
        places: the file of each part, for errors.
        vocabulary: the labels whose ids to use.

    Returns:
        `(n, 3)` int64, the parts concatenated.

    Raises:
        DataError: for a label that the vocabulary lacks; it names the first.
    """
    labels = pa.chunked_array([part.labels for part in parts], pa.large_string())
    entity_ids = _ids(labels, vocabulary.entities)
    relation_ids = _ids(labels, vocabulary.relations)
    triples = np.empty((sum(len(part.codes) for part in parts), 3), np.int64)
    row = label = 0
    for part, place in zip(parts, places, strict=True):
        hrt = triples[row : row + len(part.codes)]
        own = slice(label, label + len(part.labels))
        for column, ids in enumerate((entity_ids[own], relation_ids[own], entity_ids[own])):
            hrt[:, column] = ids[part.codes[:, column]]
        if hrt.min(initial=0) < 0:
            at, column = np.argwhere(hrt < 0)[0].tolist()
            text = part.labels[part.codes[at, column]].as_py()
            raise _unknown(f"{place}, {part.where(at)}", column, text, vocabulary)
        row, label = row + len(hrt), own.stop
    return triples


def with_vocabulary(data: KGDataset, vocabulary: Vocabulary) -> KGDataset:
    """The same triples with the ids of another vocabulary.

    Raises:
        DataError: for a label that the vocabulary lacks and a triple uses.
    """
    own = data.vocabulary
    if own == vocabulary:
        return data
    entity, relation = (
        _ids(pa.chunked_array([pa.array(labels, pa.large_string())]), known)
        for labels, known in (
            (own.entities, vocabulary.entities),
            (own.relations, vocabulary.relations),
        )
    )
    splits = []
    for split in SPLITS:
        triples = data.split(split).numpy()
        tables = (entity, relation, entity)
        ids = [table[triples[:, i]] for i, table in enumerate(tables)]
        found = np.stack(ids, axis=1).reshape(-1, 3)
        if found.min(initial=0) < 0:
            row, column = np.argwhere(found < 0)[0].tolist()
            label = (own.relations if column == 1 else own.entities)[triples[row, column]]
            raise _unknown(f"{split} of {data.name}, row {row + 1}", column, label, vocabulary)
        splits.append(torch.from_numpy(found))
    return KGDataset(
        data.name, data.path, vocabulary, *splits,
        types=data.types, features=data.features, weights=data.weights,
    )  # fmt: skip


def _ids(labels: pa.ChunkedArray, vocabulary: tuple[str, ...]) -> Ints:
    """The id of each label, -1 for an unknown label."""
    index = pc.index_in(labels, pa.array(vocabulary, pa.large_string()))
    ids: Ints = index.fill_null(-1).to_numpy().astype(np.int64)
    return ids


def _unknown(where: str, column: int, label: str, vocabulary: Vocabulary) -> DataError:
    kind = "relation" if column == 1 else "entity"
    like = nearest(label, vocabulary.relations if column == 1 else vocabulary.entities)
    hint = f" (did you mean {quoted(like)}?)" if like is not None else ""
    return fault(
        where,
        f"the {kind} {quoted(label)} is not in the vocabulary",
        f"use a label of the vocabulary{hint}, or train a new run on this data",
    )
