"""Reads files of triples that do not belong to a split."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from kgtool.data.dataset import Vocabulary
from kgtool.data.loaders.encode import to_ids, vocabulary_of
from kgtool.data.loaders.read import read_file
from kgtool.data.loaders.reading import FORMATS, LOOK, Reading, file_name
from kgtool.data.loaders.sources import missing, not_a_file, os_errors_as_data_errors
from kgtool.errors import ConfigError, fault
from kgtool.ops import standard_state
from kgtool.storage.archives import archive_suffix
from kgtool.storage.compression import File, unfold

STANDARD_INPUT = "-"


@dataclass(frozen=True, eq=False)
class Triples:
    """Triples that do not belong to a split.

    Args:
        vocabulary: their labels, sorted by code point.
        triples: `(n, 3)` int64, in the order of the files, including duplicates.
        extra: `(n,)` texts of the extra column, if requested.
        notes: notes for the user on how the files were read.
    """

    vocabulary: Vocabulary
    triples: Tensor
    extra: tuple[str, ...] | None
    notes: tuple[str, ...]


@standard_state()
def read_triples(
    places: Sequence[str | Path],
    reading: Reading = LOOK,
    extra: str | None = None,
    relations: tuple[str, ...] | None = None,
) -> Triples:
    """Reads files of triples, one after the other.

    Args:
        places: files of the formats of `kgtool.data.loaders.reading`, compressed or not; `-` is the
            standard input, which is TSV unless `reading` gives another format.
        reading: options for what cannot be inferred from the files.
        extra: a further column, by name or by number from 1, such as a date; `reading` may give it
            as a fourth column instead.
        relations: the relation labels by id; by default the files' own.

    Raises:
        DataError: for a file that cannot be used, or a relation that is not in `relations`; it
            names the line and the remedy.
        ConfigError: for no file, or two extra columns.
    """
    if not places:
        raise ConfigError("no file of triples. Remedy: give one, or - for the standard input.")
    if extra is not None and reading.columns is not None and len(reading.columns) > 3:
        raise ConfigError(
            f"two extra columns: {reading.columns[3]} and {extra}. Remedy: give only one."
        )
    names, parts = [], []
    for place in places:
        file = _open(place, reading)
        names.append(file.place)
        parts.append(read_file(file, reading, extra))
    own = vocabulary_of(parts)
    vocabulary = Vocabulary(own.entities, relations or own.relations)
    ids = to_ids(parts, names, vocabulary)
    texts = None
    if parts[0].extra is not None:
        texts = tuple(text for part in parts for text in part.extra or ())
    notes = tuple(note for part in parts for note in part.notes)
    return Triples(vocabulary, torch.from_numpy(ids), texts, notes)


def _open(place: str | Path, reading: Reading) -> File:
    """A file in memory, unfolded."""
    if str(place) == STANDARD_INPUT:
        separated = reading.delimiter not in (None, "\t")
        kind = reading.format or ("csv" if separated else "tsv")
        return File("standard input", "standard input", sys.stdin.buffer.read(), kind)
    path = Path(place)
    with os_errors_as_data_errors(path):
        if path.is_dir():
            raise not_a_file(path)
        if not path.exists():
            raise missing(path)
        name = file_name(path.name, reading)
        if archive_suffix(path.name) is not None:
            raise fault(path, "an archive where a file of triples is expected", "unpack it")
        if name.format is None:
            raise fault(
                path,
                "the file name does not show the format",
                f"pass --format with one of {', '.join(FORMATS)}",
            )
        data = path.read_bytes()
    return File(path.name, str(path), unfold(data, name.compression, str(path)), name.format)
