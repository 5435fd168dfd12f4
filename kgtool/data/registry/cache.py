"""The cache: the folder that archives are fetched into, and what a name stands for there."""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs

from kgtool.data.registry.entries import NAME, Entry, entries
from kgtool.errors import DataError
from kgtool.storage.files import sha256_of

# The variable that names another folder than the platform's.
CACHE = "KGTOOL_CACHE"


def cache_folder() -> Path:
    """The folder that KGTOOL_CACHE names, else kgtool's among the user's caches; it may not exist.

    Archives of the right names and bytes that lie there already count as fetched.
    """
    named = os.environ.get(CACHE)
    if named:
        return Path(named).expanduser().absolute()
    return platformdirs.user_cache_path("kgtool", appauthor=False)


def cached_file(entry: Entry) -> Path:
    """Where the archive of a data set is, once it is fetched."""
    return cache_folder() / entry.file_name


def is_fetched(entry: Entry) -> bool:
    """Whether the archive is in the cache, with the bytes that the registry says."""
    try:
        with cached_file(entry).open("rb") as file:
            if os.fstat(file.fileno()).st_size != entry.size:
                return False
            return sha256_of(file) == entry.sha256
    except OSError:
        return False


def resolve(place: str | Path) -> Path:
    """The path that a place of data means: a path, or the name of a data set that is fetched.

    What exists under that name is meant first. Nothing is fetched here.

    Returns:
        The path; for a name of the registry that is no path, its archive in the cache.

    Raises:
        DataError: when that archive is not fetched yet, or no longer whole.
        ConfigError: when the user's registry cannot be used.
    """
    name, path = str(place), Path(place)
    if not NAME.fullmatch(name) or path.exists():
        return path
    entry = entries().get(name)
    if entry is None:
        return path
    file = cached_file(entry)
    if not is_fetched(entry):
        state = f"damaged ({file})" if file.exists() else "not fetched yet"
        raise DataError(
            f"{name}: no such file or folder; the data set of that name is {state}. "
            f"Remedy: kgtool data fetch {name}"
        )
    return file
