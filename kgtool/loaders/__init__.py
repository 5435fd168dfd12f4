"""Loads triples from a folder, `.zip` or `.tar.gz`, and reports on what is in them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kgtool.errors import DataError
from kgtool.loaders.audit import audit
from kgtool.loaders.faults import fault, nearest, quoted
from kgtool.loaders.parse import TripleReader
from kgtool.loaders.report import LoadReport
from kgtool.loaders.sources import dataset_name, read_negatives, read_splits
from kgtool.registry.cache import resolve
from kgtool.triples import SPLITS, KGDataset, Vocabulary

__all__ = ["LoadReport", "load_dataset", "load_negatives", "load_with_report"]


def load_dataset(
    path: str | Path,
    vocabulary: Vocabulary | None = None,
    relations: tuple[str, ...] | None = None,
) -> KGDataset:
    """Loads the triples of a folder or archive; see `load_with_report`."""
    return load_with_report(path, vocabulary, relations)[0]


def load_with_report(
    path: str | Path,
    vocabulary: Vocabulary | None = None,
    relations: tuple[str, ...] | None = None,
) -> tuple[KGDataset, LoadReport]:
    """Loads the triples of a folder or archive, and reports on them.

    Args:
        path: a folder that holds `train`, `valid` and `test` as `.txt` or `.tsv`, or a `.zip`,
            `.tar.gz` or `.tgz` that holds them at its root or in one folder. A line is
            `head⇥relation⇥tail`, UTF-8, each label taken exactly as it stands. A name of
            `kgtool.data_sets()` that is no path means that data set, once it is fetched.
        vocabulary: the labels whose ids to use, such as a run's. By default the labels of all
            three splits, sorted by code point, so that ids do not depend on the order of lines.
        relations: without a vocabulary, the relations whose ids to use; entities are the data's.

    Returns:
        The data set and its report. Each split has its distinct triples in file order: of
        triples that occur twice in a split the first is kept.

    Raises:
        DataError: for a path, archive or file that cannot be used, or a label that the given
            vocabulary lacks. The message names the file, the line and the remedy.
    """
    path = resolve(path)
    reader = TripleReader()
    codes: dict[str, NDArray[np.int64]] = {}
    members: dict[str, str] = {}
    places: dict[str, str] = {}
    files = read_splits(path)
    for split in SPLITS:
        # popped, so that its bytes go as soon as they are read
        file = files.pop(split)
        codes[split] = reader.read(file)
        members[split], places[split] = file.member, file.place

    if vocabulary is None:
        known = relations or tuple(sorted(reader.relations))
        vocabulary = Vocabulary(tuple(sorted(reader.entities)), known)
    lines = _to_ids(reader, codes, places, vocabulary)
    name = dataset_name(path)
    triples, report = audit(name, path, members, lines, vocabulary)
    tensors = {split: torch.from_numpy(triples[split]) for split in SPLITS}
    return KGDataset(name=name, path=path, vocabulary=vocabulary, **tensors), report


def load_negatives(path: str | Path, vocabulary: Vocabulary) -> dict[str, Tensor]:
    """Loads the triples that a data set says do not hold, of `valid` and `test`.

    They stand in `valid_negatives` and `test_negatives`, beside the splits and like them.

    Args:
        path: the folder or archive.
        vocabulary: the labels whose ids to use.

    Returns:
        Split → `(n, 3)` int64; of those splits that have such a file.

    Raises:
        DataError: for a file that cannot be used, or a label that the vocabulary lacks.
    """
    reader = TripleReader()
    files = read_negatives(resolve(path))
    codes = {split: reader.read(file) for split, file in files.items()}
    places = {split: file.place for split, file in files.items()}
    found = _to_ids(reader, codes, places, vocabulary)
    return {split: torch.from_numpy(ids) for split, ids in found.items()}


def _to_ids(
    reader: TripleReader,
    codes: Mapping[str, NDArray[np.int64]],
    places: Mapping[str, str],
    vocabulary: Vocabulary,
) -> dict[str, NDArray[np.int64]]:
    """Ids of a vocabulary for a reader's codes, by split."""
    entity_ids = _ids(reader.entities, vocabulary.entity_ids)
    relation_ids = _ids(reader.relations, vocabulary.relation_ids)
    found = {
        split: np.stack([entity_ids[head], relation_ids[relation], entity_ids[tail]], axis=1)
        for split, (head, relation, tail) in ((split, code.T) for split, code in codes.items())
    }
    for split, ids in found.items():
        unknown = np.argwhere(ids < 0)
        if len(unknown):
            row, column = unknown[0].tolist()
            labels = reader.relations if column == 1 else reader.entities
            label = labels[codes[split][row, column]]
            raise _unknown(places[split], row + 1, column, label, vocabulary)
    return found


def _ids(labels: list[str], ids: Mapping[str, int]) -> NDArray[np.int64]:
    """The id of each label, -1 for one that has none."""
    return np.fromiter((ids.get(label, -1) for label in labels), np.int64, len(labels))


def _unknown(place: str, line: int, column: int, label: str, vocabulary: Vocabulary) -> DataError:
    kind = "relation" if column == 1 else "entity"
    known = vocabulary.relations if column == 1 else vocabulary.entities
    like = nearest(label, known)
    hint = f" (is it {quoted(like)}?)" if like is not None else ""
    return fault(
        place,
        f"the {kind} {quoted(label)} is not in the vocabulary",
        f"use a label of the vocabulary{hint}, or train a new run on this data",
        line,
    )
