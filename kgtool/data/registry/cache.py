"""The cache: the folder of downloaded archives."""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs

from kgtool.data.registry.entries import NAME, Entry, entries
from kgtool.errors import DataError, path_of
from kgtool.storage.files import sha256_of

# The environment variable that overrides the cache folder of the platform.
CACHE = "KGTOOL_CACHE"


def cache_folder() -> Path:
    """The folder in KGTOOL_CACHE, or else kgtool's folder in the user's cache; it may not exist.

    An archive with the right name and bytes in this folder counts as fetched.
    """
    folder = os.environ.get(CACHE)
    if folder:
        return Path(folder).expanduser().absolute()
    return platformdirs.user_cache_path("kgtool", appauthor=False)


def cached_file(entry: Entry) -> Path:
    """The path of a data set's archive in the cache; the file may not exist."""
    return cache_folder() / entry.file_name


def is_fetched(entry: Entry) -> bool:
    """Whether the archive is in the cache, with the size and checksum of the registry."""
    try:
        with cached_file(entry).open("rb") as file:
            if os.fstat(file.fileno()).st_size != entry.size:
                return False
            return sha256_of(file) == entry.sha256
    except OSError:
        return False


def resolve(place: str | Path) -> Path:
    """The path of a data set, given as a path or as a name of the registry.

    An existing path takes precedence over a name. This function does not fetch.

    Returns:
        The path; for a name of the registry, its archive in the cache.

    Raises:
        DataError: if that archive is not fetched yet, or is damaged.
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
