"""Public data sets by name: which there are, and their archives."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from kgtool.data.registry.cache import is_fetched
from kgtool.data.registry.entries import entries, find_entry
from kgtool.data.registry.fetching import fetch_entry


def data_sets() -> pd.DataFrame:
    """The data sets that kgtool knows by name, and those that KGTOOL_REGISTRY adds.

    Returns:
        A row a data set: `name`, `about`, `address`, `sha256` and `size` (bytes) of its archive,
        triples in `train`, `valid` and `test`, `entities` and `relations` of all three, `licence`,
        `reference` and `link` of the paper to cite, and whether it is `fetched`.

    Raises:
        ConfigError: when the file that KGTOOL_REGISTRY names cannot be used.
    """
    rows = [{**entry.model_dump(), "fetched": is_fetched(entry)} for entry in entries().values()]
    return pd.DataFrame(rows)


def fetch(name: str, address: str | None = None, progress: bool = False) -> Path:
    """Fetches a data set into the cache, if it is not there yet or is damaged.

    The cache is the folder that KGTOOL_CACHE names, else the platform's for a user's caches. From
    then on `load_dataset(name)` loads it.

    Args:
        name: a name of `data_sets()`.
        address: a mirror to fetch from. The checksum of the registry decides either way.
        progress: show a progress bar.

    Returns:
        The path of the archive.

    Raises:
        DataError: for a name that is not known; the message gives the nearest.
        ConfigError: for an address that is not https, or a registry that cannot be used.
        FetchError: when the address does not give the bytes that the registry describes.
        KGToolError: when the file cannot be written. In no case is half a file left.
    """
    return fetch_entry(find_entry(name), address, progress)
