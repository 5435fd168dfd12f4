"""Data sets: list and fetch public ones, convert a data set, split loose triples."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor

from kgtool.data.dataset import SPLITS
from kgtool.data.loaders import (
    LOOK,
    LoadReport,
    Reading,
    Triples,
    load_negatives,
    load_with_report,
    read_triples,
)
from kgtool.data.loaders.write import check_folder, check_labels, write_dataset, write_triples
from kgtool.data.registry.cache import is_fetched
from kgtool.data.registry.entries import entries, find_entry
from kgtool.data.registry.fetching import fetch_entry
from kgtool.data.splitting import Division, distinct, reason_of, shortfalls, targets
from kgtool.data.timestamps import rank_timestamps
from kgtool.errors import ConfigError, DataError
from kgtool.ops import standard_state
from kgtool.storage.files import atomic_folder

LEFT_OUT = "left_out.txt"


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


@standard_state()
def convert(
    place: str | Path, out: str | Path, reading: Reading = LOOK, to: str = "tsv"
) -> tuple[LoadReport, list[Path]]:
    """Write a data set as TSV: `train.txt`, `valid.txt` and `test.txt`, and negatives if any.

    Or as DGL graphs: `train.dgl`, `valid.dgl` and `test.dgl`, which `dgl.load_graphs` reads.

    Args:
        place: a folder or archive, in any format that `kgtool.load_dataset` reads.
        out: the folder to write: new, empty, or with these three files only.
        reading: how to read the files; by default their format is inferred.
        to: the format to write, `"tsv"` or `"dgl"`.

    Returns:
        The report on the data set, and the files written.

    Raises:
        DataError: when the data cannot be used, or the folder holds other files of triples.
        KGToolError: when a file cannot be written.
    """
    check_folder(Path(out), to)
    data, report = load_with_report(place, reading=reading)
    negatives = load_negatives(place, data.vocabulary, reading)
    return report, write_dataset(data, Path(out), negatives, to)


@standard_state()
def split(
    places: str | Path | Sequence[str | Path],
    out: str | Path,
    *,
    valid: float = 0.1,
    test: float = 0.1,
    seed: int = 0,
    inductive: float | None = None,
    time: str | None = None,
    remove_leaks: float | None = None,
    reading: Reading | None = None,
) -> Division:
    """Split loose triples into a data set folder: `train.txt`, `valid.txt` and `test.txt`.

    By default random triples are held out whose entities and relations all stay in train; triples
    between the same two entities, in either direction, stay together. See `kgtool.data.splitting`.

    Args:
        places: one or more files of triples.
        out: the new folder; written whole or not at all.
        valid, test: shares of the distinct triples.
        seed: random seed.
        inductive: the share of the entities for a second graph, in a folder whose name ends in
            `_ind`: its `train` is the graph to reason over, `valid` and `test` are its queries.
        time: another column of the files, the time to split by: the earliest triples are train,
            the latest test. A repeated triple counts at its earliest time.
        remove_leaks: among relations whose pairs, or reversed pairs, overlap by at least this
            share of both, keep only the largest; 0.97 turned FB15k into FB15k-237.
        reading: how to read the files; by default their format is inferred.

    Raises:
        ConfigError: for shares out of range, or a folder that exists already.
        DataError: for triples that cannot be read, or that give no split.
        KGToolError: when the folder cannot be written.
    """
    for name, share in {"valid": valid, "test": test, "valid and test": valid + test}.items():
        _check_share(name, share)
    _check_share("inductive", inductive)
    if remove_leaks is not None and not 0 < remove_leaks <= 1:
        raise ConfigError(
            f"remove_leaks = {remove_leaks:g} is out of range. Remedy: choose a share such as 0.97."
        )
    if time is not None and inductive is not None:
        raise ConfigError("time and inductive exclude each other. Remedy: choose one of them.")
    places = [places] if isinstance(places, (str, Path)) else list(places)
    place = ", ".join(map(str, places))
    out = Path(out)
    folders = [out] if inductive is None else [out, out.parent / f"{out.name}_ind"]
    with ExitStack() as stack:
        # before the files are read: a taken name is an error at once
        temporary = [stack.enter_context(atomic_folder(folder)) for folder in folders]
        found = read_triples(places, reading or Reading(), extra=time)
        check_labels(found.vocabulary)
        rows, timestamp = _distinct(found, place)
        triples = found.triples[rows]
        sizes = len(found.vocabulary.entities), len(found.vocabulary.relations)
        target = targets(
            triples, *sizes, valid=valid, test=test, seed=seed, inductive=inductive,
            timestamp=timestamp, remove_leaks=remove_leaks,
        )  # fmt: skip
        parts = []
        for number, folder in enumerate(temporary):
            for code, name in enumerate(SPLITS):
                part = triples[target == number * len(SPLITS) + code]
                if not len(part):
                    raise _empty(place, folders[number], name)
                write_triples(folder / f"{name}.txt", part, found.vocabulary)
                entities, relations = torch.unique(part[:, ::2]), torch.unique(part[:, 1])
                parts.append((folders[number].name, name, len(part), len(entities), len(relations)))
        lost = target < 0
        why = [reason_of(code) for code in target[lost].tolist()]
        if why:
            write_triples(temporary[0] / LEFT_OUT, triples[lost], found.vocabulary, why)
    table = pd.DataFrame(parts, columns=["folder", "split", "triples", "entities", "relations"])
    drawn = [] if time is not None else shortfalls(table, valid, test)
    return Division(
        folders=tuple(folders),
        table=table,
        read=len(found.triples),
        duplicates=len(found.triples) - len(triples),
        left_out=dict(Counter(why)),
        notes=(*found.notes, *drawn),
    )


def _check_share(name: str, share: float | None) -> None:
    if share is not None and not 0 < share < 1:
        raise ConfigError(
            f"{name} = {share:g} is out of range. Remedy: choose a share above 0 and below 1."
        )


def _distinct(found: Triples, place: str) -> tuple[Tensor, Tensor | None]:
    """`(m,)` the rows of distinct triples in file order, and their earliest times, if known."""
    num_relations = len(found.vocabulary.relations)
    if found.extra is None:
        return distinct(found.triples, num_relations), None
    timestamp = rank_timestamps(found.extra, place)
    earliest = torch.argsort(timestamp, stable=True)
    rows = earliest[distinct(found.triples[earliest], num_relations)].sort().values
    return rows, timestamp[rows]


def _empty(place: str, folder: Path, name: str) -> DataError:
    return DataError(
        f"{place}: no triple is left for {name} of {folder} whose entities and relation train has "
        "too. Remedy: give more triples of the same entities and relations, or other shares."
    )
