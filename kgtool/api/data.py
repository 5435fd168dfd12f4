"""Data sets: list and fetch public ones, convert a data set."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from kgtool.data.loaders import LOOK, LoadReport, Reading, load_negatives, load_with_report
from kgtool.data.loaders.write import check_written, is_of_dataset, write_dataset
from kgtool.data.registry.cache import is_fetched, resolve
from kgtool.data.registry.entries import entries, find_entry
from kgtool.data.registry.fetching import fetch_entry
from kgtool.storage.files import atomic_folder


def data_sets() -> pd.DataFrame:
    """The public data sets of the registry, and those that KGTOOL_REGISTRY adds.

    Returns:
        One row per data set: `name`, `about`, `address`, `sha256` and `size` (bytes) of the file,
        triples in `train`, `valid` and `test`, `entities` and `relations` of all three, `licence`,
        `reference` and `link` of the paper to cite, and whether the cache has it (`fetched`).

    Raises:
        ConfigError: when the file that KGTOOL_REGISTRY names cannot be used.
    """
    rows = [{**entry.model_dump(), "fetched": is_fetched(entry)} for entry in entries().values()]
    return pd.DataFrame(rows)


def fetch(name: str, url: str | None = None, progress: bool = False) -> Path:
    """Fetch a data set into the cache, unless it is there undamaged.

    The cache is the folder that KGTOOL_CACHE names, by default the platform's cache folder of the
    user. Afterwards `load_dataset(name)` loads the data set.

    Args:
        name: a name of `data_sets()`.
        url: a mirror to fetch from; the registry's checksum must match either way.
        progress: show a progress bar.

    Returns:
        The path of the archive.

    Raises:
        DataError: for an unknown name; the message gives the nearest known one.
        ConfigError: for a URL that is not https, or a registry that cannot be used.
        FetchError: when the URL does not give the bytes that the registry describes.
        KGToolError: when the file cannot be written. No error leaves half a file.
    """
    return fetch_entry(find_entry(name), url, progress)


def convert(
    place: str | Path,
    out: str | Path,
    reading: Reading = LOOK,
    to: str = "tsv",
    *,
    overwrite: bool = False,
) -> tuple[LoadReport, list[Path]]:
    """Write a data set as TSV: `train.txt`, `valid.txt` and `test.txt`, and negatives if any.

    Or as DGL graphs: `train.dgl`, `valid.dgl` and `test.dgl`, which `dgl.load_graphs` reads.

    Args:
        place: a data set in any format that `kgtool.load_dataset` reads.
        out: the new folder; written whole or not at all.
        reading: how to read the files; by default their format is inferred.
        to: the format to write, `"tsv"` or `"dgl"`.
        overwrite: replace a data set at `out` that kgtool wrote; never the data set that is read.

    Returns:
        The report on the data set, and the files written.

    Raises:
        ConfigError: when the folder exists and may not be replaced.
        DataError: when the data cannot be used.
        KGToolError: when a file cannot be written.
    """
    check_written(to)
    with atomic_folder(out, is_of_dataset if overwrite else None, [resolve(place)]) as folder:
        data, report = load_with_report(place, reading=reading)
        negatives = load_negatives(place, data.vocabulary, reading)
        files = write_dataset(data, folder, negatives, to)
    return report, [Path(out) / file.name for file in files]
