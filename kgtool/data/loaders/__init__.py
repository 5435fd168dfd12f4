"""Loaders of triples from many file formats, with a report on the content of the files."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kgtool.data.dataset import SPLITS, KGDataset, Vocabulary
from kgtool.data.loaders.audit import Origin, audit
from kgtool.data.loaders.encode import to_ids, vocabulary_of
from kgtool.data.loaders.feature_files import any_features
from kgtool.data.loaders.foreign import (
    find_layout,
    find_pykeen,
    read_layout,
    read_pykeen,
    with_names,
    with_own_names,
)
from kgtool.data.loaders.header import ANY_TIME
from kgtool.data.loaders.labels import types_of_store
from kgtool.data.loaders.loose import open_data, read_triples
from kgtool.data.loaders.memory import dataset_of
from kgtool.data.loaders.near_equal import merged, merged_into
from kgtool.data.loaders.read import read_file
from kgtool.data.loaders.reading import LOOK, NO_TRUTH, Reading, file_name, options_of
from kgtool.data.loaders.report import LoadReport
from kgtool.data.loaders.rows import BadLine, Rows, Triples, weights_of
from kgtool.data.loaders.sources import (
    Store,
    dataset_name,
    find_negatives,
    find_splits,
    read_members,
)
from kgtool.data.loaders.weights import weight_hint
from kgtool.data.registry.cache import resolve
from kgtool.data.splitting import DEFAULT_SPLIT, default_split
from kgtool.data.timestamps import rank_timestamps
from kgtool.errors import DataError, KGToolWarning
from kgtool.ops import standard_state
from kgtool.storage.compression import File

__all__ = [
    "LOOK",
    "LoadReport",
    "Reading",
    "Triples",
    "dataset_of",
    "load_dataset",
    "load_negatives",
    "load_with_report",
    "read_negatives",
    "read_triples",
]


@standard_state()
def load_dataset(
    path: str | Path,
    vocabulary: Vocabulary | None = None,
    relations: tuple[str, ...] | None = None,
    reading: Reading = LOOK,
    *,
    features: Any = None,
    times: bool = False,
) -> KGDataset:
    """Loads the triples of a folder or archive; see `load_with_report`.

    Args:
        path, vocabulary, relations, reading: see `load_with_report`.
        features: vectors of entities: one or more files, see `kgtool.data.loaders.features`, or
            vectors in memory, see `dataset_of`.
        times: read the times of train, too, if a header names a column time, timestamp, date,
            datetime or year; see `KGDataset.dated`.
    """
    data = _load(path, vocabulary, relations, reading, times=times)[0]
    return data if features is None else replace(data, features=any_features(features, data))


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
            set in the layout of OpenKE, LibKGE, PyKEEN or DGL-KE. Or the name of a fetched data set
            of `kgtool.data_sets()`. Or one file of triples, alone or in an archive, which is split
            as `kgtool data split` splits it by default. Labels are exact strings; only blanks
            around the cells of a CSV are removed.
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
    """
    dataset, report = _load(path, vocabulary, relations, reading)
    return dataset, report()


def _load(
    path: str | Path,
    vocabulary: Vocabulary | None,
    relations: tuple[str, ...] | None,
    reading: Reading,
    *,
    times: bool = False,
) -> tuple[KGDataset, Callable[[], LoadReport]]:
    """As `load_with_report`, with a function that computes the report."""
    path = resolve(path)
    options = options_of(reading)
    loading: dict[str, Any] = {"reading": options} if options else {}
    opened, extra = open_data(path, reading), [ANY_TIME] if times else []
    if isinstance(opened, File):
        splits, how = _split_file(opened, reading, extra)
        loading |= how
        if doubt := splits["train"][0][1].doubt:
            loading["doubt"] = doubt
        places = [opened.place] * len(SPLITS)
        name = file_name(path.name, reading).stem
    else:
        splits = _read_splits(opened, reading, extra)
        places = [opened.place(member) for split in SPLITS for member, _ in splits[split]]
        name = dataset_name(path)
    parts = [rows for split in SPLITS for _, rows in splits[split]]
    if reading.merge_labels is not None and isinstance(opened, Store):
        parts, notes = merged(parts, reading.merge_labels)
        parts[0] = replace(parts[0], notes=(*parts[0].notes, *notes))
        splits = _regrouped(splits, parts)
    if vocabulary is None:
        found = vocabulary_of(parts)
        vocabulary = Vocabulary(found.entities, relations or found.relations)
    if any(rows.facts is not None for rows in parts):
        parts = [rows if rows.facts is None else rows.select(rows.facts) for rows in parts]
        splits = _regrouped(splits, parts)
    lines = to_ids(parts, places, vocabulary)
    origins = {split: _origin(splits[split]) for split in SPLITS}
    dated = _dated(splits["train"], lines, path) if times else None
    del parts, splits
    triples, weights, report = audit(name, path, origins, lines, vocabulary)
    tensors = [torch.from_numpy(triples[split]) for split in SPLITS]
    types = types_of_store(opened, vocabulary.entity_ids) if isinstance(opened, Store) else {}
    data = KGDataset(
        name, path, vocabulary, *tensors,
        types=types, loading=loading, guessed=origins["train"].guessed,
        dated=dated,
        weights={split: torch.from_numpy(each) for split, each in weights.items()},
    )  # fmt: skip
    return data, report


def _split_file(
    file: File, reading: Reading, extra: Sequence[str]
) -> tuple[dict[str, list[tuple[str, Rows]]], dict[str, Any]]:
    """The rows of one file by split, as `default_split` splits them; and the rule, JSON-ready."""
    rows = with_own_names(file, read_file(file, reading, extra), reading)
    if rows.facts is not None:
        rows = rows.select(rows.facts)
    notes: tuple[str, ...] = ()
    if reading.merge_labels is not None:
        (rows,), notes = merged([rows], reading.merge_labels)
    vocabulary = vocabulary_of([rows])
    triples = torch.from_numpy(to_ids([rows], [file.place], vocabulary))
    sizes = len(vocabulary.entities), len(vocabulary.relations)
    code = default_split(triples, *sizes).numpy()
    shares = " and ".join(f"{100 * DEFAULT_SPLIT[split]:g} % for {split}" for split in SPLITS[1:])
    how = f"split at random: {shares}, seed {DEFAULT_SPLIT['seed']}, as kgtool data split does it"
    if not code.any():
        how = (
            "all triples are train: a random split has none whose entities and relation stay in "
            f"train; kgtool data split {file.place} --out FOLDER --allow-unseen splits them"
        )
    rows = replace(rows, notes=(*rows.notes, *notes, f"{file.place}: {how}"))
    splits = {}
    for number, split in enumerate(SPLITS):
        part = rows.select(code == number)
        member = f"{file.member} ({split})"
        if split != "train":  # the file's notes are given once
            part = replace(part, notes=(), left_out=(), bad_lines=())
        splits[split] = [(member, part)]
    return splits, {"split": dict(DEFAULT_SPLIT) if code.any() else {}, "note": how}


def _regrouped(
    splits: Mapping[str, list[tuple[str, Rows]]], parts: Sequence[Rows]
) -> dict[str, list[tuple[str, Rows]]]:
    """The splits with other rows, in the same order."""
    rest = iter(parts)
    return {split: [(member, next(rest)) for member, _ in files] for split, files in splits.items()}


@standard_state()
def load_negatives(
    path: str | Path, vocabulary: Vocabulary, reading: Reading = LOOK
) -> dict[str, Tensor]:
    """Loads the negatives of `valid` and `test` that a data set provides; see `read_negatives`."""
    return read_negatives(path, vocabulary, reading)[0]


@standard_state()
def read_negatives(
    path: str | Path, vocabulary: Vocabulary, reading: Reading
) -> tuple[dict[str, Tensor], list[BadLine]]:
    """Loads the negatives of `valid` and `test` that a data set provides.

    The files `valid_negatives` and `test_negatives` are next to the split files, in their formats.

    Args:
        path: the folder or archive.
        vocabulary: labels with their ids.
        reading: how to read the files, if their names and first lines are not enough.

    Returns:
        Split → `(n, 3)` int64, for the splits with such a file; and the bad lines of these files
        that were left out.

    Raises:
        DataError: for a file that cannot be used, or a label that the vocabulary lacks.
    """
    store = open_data(resolve(path), reading)
    if isinstance(store, File):
        return {}, []
    bad: list[BadLine] = []
    parts: dict[str, list[tuple[str, Rows]]] = {}
    for split, members in find_negatives(store, reading).items():
        for file in read_members(store, members, reading):
            rows = read_file(file, reading)
            bad += rows.bad_lines
            parts.setdefault(split, []).append((file.place, rows))
    if reading.truth not in (None, NO_TRUTH):
        for split, files in _read_splits(store, reading).items():
            for member, rows in files:
                if split != "train" and rows.facts is not None and not rows.facts.all():
                    negatives = rows.select(~rows.facts)
                    parts.setdefault(split, []).append((store.place(member), negatives))
    found = {}
    for split, rows_of_split in parts.items():
        places, tables = zip(*rows_of_split, strict=True)
        if reading.merge_labels is not None:
            tables = tuple(merged_into(rows, vocabulary, reading.merge_labels) for rows in tables)
        found[split] = torch.from_numpy(to_ids(tables, places, vocabulary))
    return found, bad


def _dated(
    files: Sequence[tuple[str, Rows]], lines: NDArray[np.int64], place: Path
) -> Tensor | None:
    """`KGDataset.dated` of the files of train, which are the first of the lines.

    None without times. Times that have no order are left out with a warning.
    """
    texts: list[str] = []
    for _, rows in files:
        if rows.times is None:
            return None
        texts += rows.times
    try:
        time = rank_timestamps(texts, str(place))
    except DataError as error:
        warnings.warn(KGToolWarning(f"the times are not read: {error}"), stacklevel=2)
        return None
    return torch.cat([torch.from_numpy(lines[: len(texts)]), time.unsqueeze(1)], dim=1)


def _read_splits(
    store: Store, reading: Reading, extra: Sequence[str] = ()
) -> dict[str, list[tuple[str, Rows]]]:
    """The files of each split and their rows."""
    layout = find_layout(store) if reading.format is None else None
    if layout is not None:
        return {split: [found] for split, found in read_layout(store, *layout).items()}
    folder = find_pykeen(store) if reading.format is None else None
    if folder is not None:
        return {split: [found] for split, found in read_pykeen(store, folder, reading).items()}
    members = find_splits(store, reading)
    splits = {
        # one file at a time: its bytes are freed before the next file is read
        split: [
            (file.member, read_file(file, reading, extra if split == "train" else ()))
            for file in read_members(store, members[split], reading)
        ]
        for split in SPLITS
    }
    return with_names(store, splits, reading)


def _origin(files: Sequence[tuple[str, Rows]]) -> Origin:
    """Where the triples of a split come from."""
    notes = tuple(note for _, rows in files for note in rows.notes)
    (member, rows), *others = files
    if rows.left_out:
        notes += (f"{member}: columns left out: {', '.join(rows.left_out)}",)
        notes += tuple(f"{member}: {hint}" for name in rows.left_out if (hint := weight_hint(name)))
    guessed = any(rows.guessed for _, rows in files)
    bad = tuple(line for _, rows in files for line in rows.bad_lines)
    if not others:
        return Origin(member, rows.numbers, rows.unit, notes, guessed, bad, rows.weights)
    # for several files, rows are counted over all of them, in their order
    count = sum(len(rows.codes) for _, rows in files)
    weights = None
    if any(rows.weights is not None for _, rows in files):
        weights = np.concatenate([weights_of(rows) for _, rows in files])
    return Origin(
        f"{PurePosixPath(member).parent}/", np.arange(1, count + 1), "row", notes, guessed, bad,
        weights,
    )  # fmt: skip
