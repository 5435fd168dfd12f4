"""The cache: the folder of fetched data sets, and records of what was fetched."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import platformdirs

from kgtool.data.registry.entries import NAME, Entry, entries
from kgtool.errors import DataError, RunError, path_of
from kgtool.storage.files import read_json, sha256_of

# The environment variable that overrides the cache folder of the platform.
CACHE = "KGTOOL_CACHE"


@dataclass(frozen=True)
class Record:
    """What a fetch found, in the file NAME.json of the cache.

    Attributes:
        sources: the SHA-256 of each fetched file, by its name in `Entry.sources`.
        files: the size and SHA-256 of each file of the data set, by its path in the folder; the
            path of an archive or single file is empty.
    """

    sources: dict[str, str]
    files: dict[str, tuple[int, str]]


def cache_folder() -> Path:
    """The folder in KGTOOL_CACHE, or else kgtool's folder in the user's cache; it may not exist.

    An archive with the right name and bytes in this folder counts as fetched.
    """
    folder = os.environ.get(CACHE)
    if folder:
        return Path(folder).expanduser().absolute()
    return platformdirs.user_cache_path("kgtool", appauthor=False)


def cached_file(entry: Entry) -> Path:
    """The path of a data set in the cache: an archive, a file or a folder; it may not exist."""
    return cache_folder() / entry.file_name


def record_file(entry: Entry) -> Path:
    """The path of the record of a data set; it may not exist."""
    return cache_folder() / f"{entry.name}.json"


def needs_record(entry: Entry) -> bool:
    """Whether the registry alone cannot tell if a data set is fetched and whole."""
    return entry.is_folder or not entry.sha256


def read_record(entry: Entry) -> Record | None:
    """The record of a data set; None if there is none, or it is damaged."""
    try:
        read: Any = read_json(record_file(entry))
        sources = {str(name): str(digest) for name, digest in read["sources"].items()}
        files = {
            str(name): (int(size), str(digest)) for name, (size, digest) in read["files"].items()
        }
    except (RunError, AttributeError, KeyError, TypeError, ValueError):
        return None
    return Record(sources, files)


def is_fetched(entry: Entry, thorough: bool = True) -> bool:
    """Whether a data set is in the cache.

    Args:
        entry: the data set.
        thorough: compare the checksums too, not the sizes alone.
    """
    place = cached_file(entry)
    if not needs_record(entry):
        assert isinstance(entry.sha256, str)
        return _is_whole(place, entry.size, entry.sha256 if thorough else None)
    record = read_record(entry)
    return record is not None and all(
        _is_whole(place / name if name else place, size, digest if thorough else None)
        for name, (size, digest) in record.files.items()
    )


def _is_whole(path: Path, size: int | None, digest: str | None) -> bool:
    """Whether a file has this size and this SHA-256; None stands for any."""
    try:
        with path.open("rb") as file:
            if size is not None and os.fstat(file.fileno()).st_size != size:
                return False
            return digest is None or sha256_of(file) == digest
    except OSError:
        return False


def resolve(place: str | Path) -> Path:
    """The path of a data set, given as a path or as a name of the registry.

    An existing path takes precedence over a name. This function does not fetch.

    Returns:
        The path; for a name of the registry, its archive, file or folder in the cache.

    Raises:
        DataError: if the data set is not fetched yet, or is damaged.
        ConfigError: if the user's registry cannot be used.
    """
    wanted = "the path of a data set, or its name; frames go to kgtool.dataset_of or kgtool.split"
    name, path = str(place), path_of(place, "path", expected=wanted)
    if not NAME.fullmatch(name) or path.exists():
        return path
    entry = entries().get(name)
    if entry is None:
        return path
    file = cached_file(entry)
    if not is_fetched(entry):
        state = f"damaged ({file})" if file.exists() else "not fetched yet"
        raise DataError(
            f"{name}: no such file or folder; the data set with this name is {state}. "
            f"Remedy: kgtool data fetch {name}"
        )
    return file
