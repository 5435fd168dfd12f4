"""Data sets: list and fetch public ones, convert a data set, show an entity."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from kgtool.data.dataset import SPLITS, KGDataset
from kgtool.data.facts import EntityFacts, FactIndex
from kgtool.data.labels import LabelIndex
from kgtool.data.loaders import (
    LOOK,
    LoadReport,
    Reading,
    load_dataset,
    load_with_report,
    read_negatives,
)
from kgtool.data.loaders.labels import read_labels, read_types
from kgtool.data.loaders.write import (
    check_written,
    is_of_dataset,
    write_bad_lines,
    write_dataset,
)
from kgtool.data.registry.cache import is_fetched, resolve
from kgtool.data.registry.entries import Entry, entries, find_entry
from kgtool.data.registry.fetching import fetch_entry
from kgtool.errors import DataError, quoted
from kgtool.storage.files import atomic_folder


def data_sets(part: str = "") -> pd.DataFrame:
    """The public data sets of the catalogue, and those that KGTOOL_REGISTRY adds.

    Args:
        part: leave out data sets without this text in their name, in any case.

    Returns:
        One row per data set: `name`, `about`, the `address`, `files` below it, and `sha256` of what
        is fetched (commas between those of several files; empty where nobody published it), `size`
        in bytes, triples in `train`, `valid` and `test`, `triples` in all, `entities` and
        `relations`, `licence`, `reference` and `link` of the paper to cite, and whether the cache
        has it (`fetched`). Unknown numbers are `<NA>`.

    Raises:
        ConfigError: when the file that KGTOOL_REGISTRY names cannot be used.
    """
    rows = []
    for entry in entries().values():
        if part.casefold() in entry.name.casefold():
            row = entry.model_dump(exclude={"layout"}) | {"triples": entry.total}
            row |= {
                key: ",".join(row[key]) for key in ("files", "sha256") if type(row[key]) is list
            }
            rows.append({**row, "fetched": is_fetched(entry, thorough=False)})
    names = [*(name for name in Entry.model_fields if name != "layout"), "fetched"]
    frame = pd.DataFrame(rows, columns=names)
    counts = ("size", *SPLITS, "triples", "entities", "relations")
    return frame.astype(dict.fromkeys(counts, "Int64"))


def fetch(name: str, url: str | None = None, progress: bool = False) -> Path:
    """Fetch a data set into the cache, unless it is there undamaged.

    The cache is the folder that KGTOOL_CACHE names, by default the platform's cache folder of the
    user. Afterwards `load_dataset(name)` loads the data set. Where the catalogue has no checksum,
    the first fetch pins what came: see `kgtool.data.registry.fetching`.

    Args:
        name: a name of `data_sets()`.
        url: a mirror to fetch from; known checksums must match either way.
        progress: show a progress bar.

    Returns:
        The path of the archive, file or folder.

    Raises:
        DataError: for an unknown name; the message gives the nearest known one.
        ConfigError: for a URL that is not https, or a registry that cannot be used.
        FetchError: when the URL does not give the bytes that the registry describes, or what came
            is not a data set.
        KGToolError: when a file cannot be written. No error leaves half a file.
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

    Or as DGL graphs: `train.dgl`, `valid.dgl` and `test.dgl`, which `dgl.load_graphs` reads. The
    lines that `reading.skip_bad_lines` leaves out are listed in `bad_lines.tsv`.

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
        negatives, bad = read_negatives(place, data.vocabulary, reading)
        notes = (f"{place}: bad lines of negatives left out: {len(bad):,}",) if bad else ()
        report = replace(report, bad_lines=(*report.bad_lines, *bad), notes=(*report.notes, *notes))
        files = write_dataset(data, folder, negatives, to)
        files += write_bad_lines(folder, report.bad_lines)
    return report, [Path(out) / file.name for file in files]


@dataclass(frozen=True, eq=False)
class Shown:
    """The facts of an entity, ready to print.

    Attributes:
        facts: the facts.
        index: the index of all facts, which has the degrees.
        labels: labels and readable names.
        types: the types of the entity, if given.
    """

    facts: EntityFacts
    index: FactIndex
    labels: LabelIndex
    types: tuple[str, ...]


def show(
    data: KGDataset | str | Path,
    entity: str,
    labels: str | Path | None = None,
    types: str | Path | None = None,
    *,
    reading: Reading = LOOK,
) -> Shown:
    """What a data set holds about an entity; see `kgtool.data.facts`.

    Args:
        data: the data set or its path.
        entity: the label or readable name.
        labels, types: tables of names and of types; see `kgtool.data.loaders.labels`.
        reading: how to read the files.

    Raises:
        DataError: when the data cannot be used, or for an unknown entity; it names similar ones.
    """
    dataset = data if isinstance(data, KGDataset) else load_dataset(data, reading=reading)
    vocabulary = dataset.vocabulary
    names = {} if labels is None else read_labels(labels, vocabulary.entity_ids)
    index = LabelIndex(vocabulary, names)
    kinds = dataset.types if types is None else read_types(types, vocabulary.entity_ids)
    try:
        found = index.entity(entity)
    except DataError as error:
        similar = index.similar(entity)
        if entity in names.values() or not similar:
            raise
        shown = ", ".join(map(quoted, similar))
        raise DataError(
            f"unknown entity {quoted(entity)}. Remedy: use a label of the data, such as {shown}."
        ) from error
    facts = FactIndex(dataset)
    return Shown(facts.of(found), facts, index, kinds.get(vocabulary.entities[found], ()))
