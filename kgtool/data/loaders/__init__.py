"""Loaders of triples from many file formats, with a report on the content of the files."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath

import numpy as np
import torch
from torch import Tensor

from kgtool.data.dataset import SPLITS, KGDataset, Vocabulary
from kgtool.data.loaders.audit import Origin, audit
from kgtool.data.loaders.encode import to_ids, vocabulary_of
from kgtool.data.loaders.foreign import NAMES, find_layout, read_layout, with_names
from kgtool.data.loaders.loose import Triples, read_triples
from kgtool.data.loaders.memory import dataset_of
from kgtool.data.loaders.read import read_file
from kgtool.data.loaders.reading import LOOK, Reading
from kgtool.data.loaders.report import LoadReport
from kgtool.data.loaders.rows import Rows
from kgtool.data.loaders.sources import (
    Store,
    dataset_name,
    find_negatives,
    find_splits,
    open_store,
    read_members,
    split_of,
)
from kgtool.data.registry.cache import resolve
from kgtool.errors import ConfigError
from kgtool.ops import standard_state

__all__ = [
    "LOOK",
    "LoadReport",
    "Reading",
    "Triples",
    "dataset_of",
    "load_dataset",
    "load_negatives",
    "load_with_report",
    "read_triples",
]


@standard_state()
def load_dataset(
    path: str | Path,
    vocabulary: Vocabulary | None = None,
    relations: tuple[str, ...] | None = None,
    reading: Reading = LOOK,
) -> KGDataset:
    """Loads the triples of a folder or archive; see `load_with_report`."""
    return _load(path, vocabulary, relations, reading)[0]


@standard_state()
def load_with_report(
    path: str | Path,
    vocabulary: Vocabulary | None = None,
    relations: tuple[str, ...] | None = None,
    reading: Reading = LOOK,
) -> tuple[KGDataset, LoadReport]:
    """Loads the triples of a folder or archive, and reports on them.

    Args:
        path: a folder, `.zip` or `.tar` (also compressed) that holds `train`, `valid` and `test`
            at its root or in one folder. Each is a file of a format of
            `kgtool.data.loaders.reading`, compressed or not, or a folder of such files. Or a data
            set in the layout of OpenKE, LibKGE or DGL-KE. Or the name of a fetched data set of
            `kgtool.data_sets()`. Labels are exact strings: the loaders change nothing in them.
        vocabulary: labels with their ids, such as a run's. By default the labels of all three
            splits, sorted by code point, so that ids do not depend on the order of lines.
        relations: without a vocabulary, relations with their ids; entities are those of the data.
        reading: how to read the files, if their names and first lines are not enough.

    Returns:
        The data set and its report. Each split has its distinct triples in file order, each at its
        first place.

    Raises:
        DataError: for a path, archive or file that cannot be used, or a label that the given
            vocabulary lacks. The message names the file, the line and the remedy.
        ConfigError: for a `reading` with more than three columns.
    """
    dataset, report = _load(path, vocabulary, relations, reading)
    return dataset, report()


def _load(
    path: str | Path,
    vocabulary: Vocabulary | None,
    relations: tuple[str, ...] | None,
    reading: Reading,
) -> tuple[KGDataset, Callable[[], LoadReport]]:
    """As `load_with_report`, with a function that computes the report."""
    path = resolve(path)
    store = _open(path, reading)
    splits = _read_splits(store, reading)
    parts = [rows for split in SPLITS for _, rows in splits[split]]
    places = [store.place(member) for split in SPLITS for member, _ in splits[split]]
    if vocabulary is None:
        found = vocabulary_of(parts)
        vocabulary = Vocabulary(found.entities, relations or found.relations)
    lines = to_ids(parts, places, vocabulary)
    origins = {split: _origin(splits[split]) for split in SPLITS}
    del parts, splits
    name = dataset_name(path)
    triples, report = audit(name, path, origins, lines, vocabulary)
    tensors = {split: torch.from_numpy(triples[split]) for split in SPLITS}
    return KGDataset(name=name, path=path, vocabulary=vocabulary, **tensors), report


@standard_state()
def load_negatives(
    path: str | Path, vocabulary: Vocabulary, reading: Reading = LOOK
) -> dict[str, Tensor]:
    """Loads the negatives of `valid` and `test` that a data set provides.

    The files `valid_negatives` and `test_negatives` are next to the split files, in their formats.

    Args:
        path: the folder or archive.
        vocabulary: labels with their ids.
        reading: how to read the files, if their names and first lines are not enough.

    Returns:
        Split → `(n, 3)` int64, for the splits with such a file.

    Raises:
        DataError: for a file that cannot be used, or a label that the vocabulary lacks.
    """
    store = _open(resolve(path), reading)
    found = {}
    for split, members in find_negatives(store, reading).items():
        files = list(read_members(store, members, reading))
        parts = [read_file(file, reading) for file in files]
        ids = to_ids(parts, [file.place for file in files], vocabulary)
        found[split] = torch.from_numpy(ids)
    return found


def _open(path: Path, reading: Reading) -> Store:
    if reading.columns is not None and len(reading.columns) > 3:
        raise ConfigError(
            f"a data set has three columns, not {','.join(reading.columns)}. Remedy: give three."
        )

    def wanted(member: str) -> bool:
        return PurePosixPath(member).name in NAMES or split_of(member, reading) is not None

    return open_store(path, wanted)


def _read_splits(store: Store, reading: Reading) -> dict[str, list[tuple[str, Rows]]]:
    """The files of each split and their rows."""
    layout = find_layout(store) if reading.format is None else None
    if layout is not None:
        return {split: [found] for split, found in read_layout(store, *layout).items()}
    members = find_splits(store, reading)
    splits = {
        # one file at a time: its bytes are freed before the next file is read
        split: [
            (file.member, read_file(file, reading))
            for file in read_members(store, members[split], reading)
        ]
        for split in SPLITS
    }
    return with_names(store, splits, reading)


def _origin(files: Sequence[tuple[str, Rows]]) -> Origin:
    """Where the triples of a split come from."""
    notes = tuple(note for _, rows in files for note in rows.notes)
    (member, rows), *others = files
    if not others:
        return Origin(member, rows.numbers, rows.unit, notes)
    # for several files, rows are counted over all of them, in their order
    count = sum(len(rows.codes) for _, rows in files)
    return Origin(f"{PurePosixPath(member).parent}/", np.arange(1, count + 1), "row", notes)
