"""Reads files of triples that do not belong to a split."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from itertools import chain, compress
from pathlib import Path, PurePosixPath

import numpy as np
import torch

from kgtool.data.dataset import SPLITS, Vocabulary
from kgtool.data.loaders.encode import to_ids, vocabulary_of
from kgtool.data.loaders.foreign import is_of_tool, with_own_names
from kgtool.data.loaders.near_equal import merged
from kgtool.data.loaders.read import read_file
from kgtool.data.loaders.reading import LOOK, Reading, check_reading, file_name
from kgtool.data.loaders.rows import Triples, weights_of
from kgtool.data.loaders.sources import (
    TYPES,
    Store,
    listed,
    missing,
    not_a_file,
    open_store,
    os_errors_as_data_errors,
    split_of,
    unknown_format,
)
from kgtool.errors import ConfigError, fault, path_of
from kgtool.ops import standard_state
from kgtool.storage.archives import archive_suffix, read_archive
from kgtool.storage.compression import File, unfolded

STANDARD_INPUT = "-"


@standard_state()
def read_triples(
    places: str | Path | Sequence[str | Path],
    reading: Reading = LOOK,
    extra: Sequence[str] = (),
    relations: tuple[str, ...] | None = None,
) -> Triples:
    """Reads files of triples, one after the other.

    Args:
        places: one or more files of the formats of `kgtool.data.loaders.reading`, compressed or
            not, or archives that hold one; `-` is the standard input, which is TSV unless `reading`
            gives another format.
        reading: options for what cannot be inferred from the files.
        extra: further columns, by name or by number from 1, such as a date.
        relations: the relation labels by id; by default the files' own.

    Raises:
        DataError: for a file that cannot be used, or a relation that is not in `relations`; it
            names the line and the remedy.
        ConfigError: for no file.
    """
    if isinstance(places, (str, Path)) or not isinstance(places, (list, tuple)):
        places = [path_of(places, "places", expected="one or more files of triples")]
    if not places:
        raise ConfigError("no file of triples. Remedy: give one, or - for the standard input.")
    check_reading(reading)
    names, parts = [], []
    for place in places:
        file = open_loose(place, reading)
        names.append(file.place)
        parts.append(with_own_names(file, read_file(file, reading, extra), reading))
    notes = tuple(note for part in parts for note in part.notes)
    if reading.merge_labels is not None:
        parts, merges = merged(parts, reading.merge_labels)
        notes += merges
    own = vocabulary_of(parts)
    vocabulary = Vocabulary(own.entities, relations or own.relations)
    ids = torch.from_numpy(to_ids(parts, names, vocabulary))
    is_fact = np.concatenate(
        [np.ones(len(each.codes), np.bool_) if each.facts is None else each.facts for each in parts]
    )
    texts = {}
    for i, name in enumerate(parts[0].extra):  # a column by number may have another name elsewhere
        columns = (tuple(part.extra.values())[i] for part in parts)
        texts[name] = tuple(compress(chain.from_iterable(columns), is_fact))
    weights = None
    if any(part.weights is not None for part in parts):
        weights = torch.from_numpy(np.concatenate([weights_of(part) for part in parts]))[is_fact]
    left_out = dict.fromkeys(name for part in parts for name in part.left_out)
    return Triples(
        vocabulary, ids[is_fact], texts, notes, ids[~is_fact],
        left_out=tuple(left_out), guessed=any(part.guessed for part in parts),
        bad_lines=tuple(line for part in parts for line in part.bad_lines),
        weights=weights,
    )  # fmt: skip


def open_loose(place: str | Path, reading: Reading) -> File:
    """A file of triples in memory, decompressed; an archive may hold it.

    Raises:
        DataError: for a path that is not a file or does not show its format.
    """
    if str(place) == STANDARD_INPUT:
        separated = reading.delimiter not in (None, "\t")
        kind = reading.format or ("csv" if separated else "tsv")
        data = sys.stdin.buffer.read()
        return unfolded("standard input", "standard input", data, kind, compression="")
    path = Path(place)
    with os_errors_as_data_errors(path):
        if path.is_dir():
            raise not_a_file(path)
        if not path.exists():
            raise missing(path)
        if archive_suffix(path.name) is not None:
            return _only_member(path, reading)
        name = file_name(path.name, reading)
        if name.format is None:
            raise unknown_format(path)
        data = path.read_bytes()
    return unfolded(path.name, str(path), data, name.format, compression=name.compression)


def open_data(path: Path, reading: Reading) -> Store | File:
    """A data set of several files, or the one file of triples at a path or in an archive.

    Raises:
        DataError: for a path that cannot be used.
    """
    if path.is_file() and archive_suffix(path.name) is None and _is_loose(path, reading):
        return open_loose(path, reading)

    def wanted(member: str) -> bool:
        return is_of_tool(member) or split_of(member, reading) is not None

    store = open_store(path, lambda member: wanted(member) or PurePosixPath(member).name == TYPES)
    of_data_set = store.contents is None or any(map(wanted, store.members))
    if not of_data_set and len(_readable(store.members, reading)) == 1:
        return open_loose(path, reading)
    return store


def _is_loose(path: Path, reading: Reading) -> bool:
    """Whether a file is data of its own.

    A file that is named like a split, next to the other splits, is part of a data set.
    """
    name = file_name(path.name, reading)
    siblings = [split_of(other.name, reading) for other in path.parent.iterdir()]
    others = {found[0] for found in siblings if found} - {name.stem}
    return name.format is not None and not (name.stem in SPLITS and others & set(SPLITS))


def _only_member(path: Path, reading: Reading) -> File:
    """The only file of triples in an archive."""
    members, _ = read_archive(path, lambda member: False)
    found = _readable(members, reading)
    if len(found) != 1:
        shown = f"it holds {listed(found)}" if found else f"it holds {listed(members)}"
        remedy = "unpack it, and give the files of triples"
        raise fault(path, f"not an archive of one file of triples: {shown}", remedy)
    (member,) = found
    name = file_name(PurePosixPath(member).name, reading)
    assert name.format is not None
    store = open_store(path, lambda each: each == member)
    return store.file(member, name.format, name.compression)


def _readable(members: Sequence[str], reading: Reading) -> list[str]:
    """The members whose names show a format."""
    named = [(member, PurePosixPath(member).name) for member in members]
    return [member for member, name in named if file_name(name, reading).format is not None]
