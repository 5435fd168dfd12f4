"""Split triples, of files or in memory, into train, valid and test."""

from __future__ import annotations

import os
import tempfile
import warnings
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any, overload

import pandas as pd
import torch
from torch import Tensor

from kgtool.api.data import check_options
from kgtool.api.data import split as split_files
from kgtool.data.dataset import SPLITS, KGDataset, Vocabulary
from kgtool.data.loaders import LOOK, Reading, Triples, load_dataset, read_triples
from kgtool.data.loaders.memory import triples_of
from kgtool.data.loaders.write import write_dataset
from kgtool.data.splitting import Division, distinct, reason_of, shortfalls, targets
from kgtool.data.timestamps import rank_timestamps
from kgtool.errors import DataError
from kgtool.storage.files import atomic_folder

# The name of triples in memory, in data sets and in errors.
MEMORY = "memory"


@overload
def split(
    triples: Any, out: None = None, *, valid: float = ..., test: float = ..., seed: int = ...,
    inductive: None = None, time: str | None = ..., remove_leaks: float | None = ...,
    reading: Reading = ...,
) -> KGDataset: ...  # fmt: skip
@overload
def split(
    triples: Any, out: None = None, *, valid: float = ..., test: float = ..., seed: int = ...,
    inductive: float, time: str | None = ..., remove_leaks: float | None = ...,
    reading: Reading = ...,
) -> tuple[KGDataset, KGDataset]: ...  # fmt: skip
@overload
def split(
    triples: Any, out: str | Path, *, valid: float = ..., test: float = ..., seed: int = ...,
    inductive: float | None = ..., time: str | None = ..., remove_leaks: float | None = ...,
    reading: Reading = ...,
) -> Division: ...  # fmt: skip
def split(
    triples: Any,
    out: str | Path | None = None,
    *,
    valid: float = 0.1,
    test: float = 0.1,
    seed: int = 0,
    inductive: float | None = None,
    time: str | None = None,
    remove_leaks: float | None = None,
    reading: Reading = LOOK,
) -> KGDataset | tuple[KGDataset, KGDataset] | Division:
    """Split triples into train, valid and test: a data set, or with `out` a folder of files.

    By default random triples are held out whose entities and relations all stay in train; triples
    between the same two entities, in either direction, stay together. See `kgtool.data.splitting`.

    Args:
        triples: one or more files of triples; or triples in memory as for `kgtool.dataset_of`, such
            as a data frame; or a data set, whose triples are split anew.
        out: the new folder; written whole or not at all.
        valid, test: shares of the distinct triples.
        seed: random seed.
        inductive: the share of the entities for a second graph: its `train` is the graph to reason
            over, `valid` and `test` are its queries. Its folder has a name that ends in `_ind`.
        time: another column, the time to split by: the earliest triples are train, the latest
            test. A repeated triple counts at its earliest time.
        remove_leaks: among relations whose pairs, or reversed pairs, overlap by at least this
            share of both, keep only the largest; 0.97 turned FB15k into FB15k-237.
        reading: how to read the files; by default their format is inferred. Of triples in memory,
            `reading.columns` are the columns of head, relation and tail.

    Returns:
        Without `out`, the data set, or with `inductive` both; warnings count the triples that are
        in no split, and name the splits below their shares. With `out`, the report on the files.

    Raises:
        ConfigError: for shares out of range, or a folder that exists already.
        DataError: for triples that cannot be read, or that give no split.
        KGToolError: when the folder cannot be written.
    """
    options: dict[str, Any] = {
        "valid": valid, "test": test, "seed": seed, "inductive": inductive,
        "remove_leaks": remove_leaks,
    }  # fmt: skip
    check_options(valid, test, inductive=inductive, time=time, remove_leaks=remove_leaks)
    files = files_of(triples)
    if files is not None and out is not None:
        return split_files(files, out, **options, time=time, reading=reading)
    with ExitStack() as stack:
        if files is not None:
            scratch = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            name = scratch / Path(files[0]).name.split(".")[0]
            division = split_files(files, name, **options, time=time, reading=reading)
            made = [replace(load_dataset(folder), path=None) for folder in division.folders]
        else:
            names = [MEMORY] if out is None else [Path(out).name]
            names += [] if inductive is None else [f"{names[0]}_ind"]
            folders = [] if out is None else [Path(out).parent / name for name in names]
            # before the work: a taken name is an error at once
            written = [stack.enter_context(atomic_folder(folder)) for folder in folders]
            made, division = _split(triples, names, time, reading, **options)
            for data, folder in zip(made, written, strict=False):
                write_dataset(data, folder)
            division = replace(division, folders=tuple(folders))
    if out is not None:
        return division
    lost = [f"{count:,} triples are in no split: {why}" for why, count in division.left_out.items()]
    for note in (*division.notes, *lost):
        warnings.warn(note, stacklevel=3)  # the caller of what the package gives, `checked`
    return made[0] if inductive is None else (made[0], made[1])


def files_of(triples: Any) -> list[str | Path] | None:
    """The files, if triples are given as one or more paths; None for triples in memory."""
    given = triples if isinstance(triples, (list, tuple)) else [triples]
    if not given or not all(isinstance(each, (str, os.PathLike)) for each in given):
        return None
    return [each if isinstance(each, str) else Path(each) for each in given]


def read_any(
    triples: Any, reading: Reading, relations: tuple[str, ...]
) -> tuple[Vocabulary, Tensor, list[str]]:
    """Triples of files or in memory.

    Args:
        triples, reading: as for `split`.
        relations: the labels of relations by id.

    Returns:
        Their labels, the triples `(n, 3)` int64 with duplicates, and the names of the files.

    Raises:
        DataError: for triples that cannot be read, or a relation that is not among `relations`.
    """
    files = files_of(triples)
    if files is None:
        found = triples_of(triples, MEMORY, reading.columns, relations=relations)
        return found[0], found[1], [MEMORY]
    read: Triples = read_triples(files, reading, relations=relations)
    return read.vocabulary, read.triples, [str(file) for file in files]


def _split(
    given: Any, names: Sequence[str], time: str | None, reading: Reading, **options: Any
) -> tuple[list[KGDataset], Division]:
    """Split triples in memory, see `split`.

    Args:
        given: the triples.
        names: the names of the data sets.
        time, reading: as for `split`.
        options: the keywords of `kgtool.data.splitting.targets`.
    """
    vocabulary, triples, texts = triples_of(given, MEMORY, reading.columns, extra=time)
    read = len(triples)
    rows = torch.arange(read)
    timestamp = None
    if texts is not None:
        timestamp = rank_timestamps(texts, MEMORY)
        rows = torch.argsort(timestamp, stable=True)  # a duplicate counts at its earliest time
    sizes = len(vocabulary.entities), len(vocabulary.relations)
    rows = rows[distinct(triples[rows], sizes[1])].sort().values
    triples = triples[rows]
    timestamp = None if timestamp is None else timestamp[rows]
    target = targets(triples, *sizes, timestamp=timestamp, **options)
    made, table = [], []
    for number, name in enumerate(names):
        parts = {
            split: triples[target == number * len(SPLITS) + code]
            for code, split in enumerate(SPLITS)
        }
        for split, part in parts.items():
            if not len(part):
                raise DataError(
                    f"{MEMORY}: no triple is left for {split} of {name} whose entities and "
                    "relation train has too. Remedy: give more triples of the same entities and "
                    "relations, or other shares."
                )
            counts = len(part), len(part[:, ::2].unique()), len(part[:, 1].unique())
            table.append((name, split, *counts))
        made.append(_dataset(name, vocabulary, parts))
    columns = ["folder", "split", "triples", "entities", "relations"]
    frame = pd.DataFrame(table, columns=columns)
    drawn = [] if time is not None else shortfalls(frame, options["valid"], options["test"])
    lost = Counter(reason_of(code) for code in target[target < 0].tolist())
    return made, Division((), frame, read, read - len(triples), dict(lost), tuple(drawn))


def _dataset(name: str, vocabulary: Vocabulary, parts: dict[str, Tensor]) -> KGDataset:
    """A data set with the labels of its own triples, in the same order."""
    every = torch.cat(list(parts.values()))
    entity, relation = torch.unique(every[:, ::2]), torch.unique(every[:, 1])
    own = Vocabulary(
        tuple(vocabulary.entities[i] for i in entity.tolist()),
        tuple(vocabulary.relations[i] for i in relation.tolist()),
    )
    ids = []
    for split in SPLITS:
        columns = zip((entity, relation, entity), parts[split].unbind(1), strict=True)
        new = [torch.searchsorted(known, column.contiguous()) for known, column in columns]
        ids.append(torch.stack(new, dim=1))
    return KGDataset(name, None, own, *ids)
