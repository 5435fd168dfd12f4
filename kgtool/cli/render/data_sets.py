"""Public data sets: a table of all, and the details of one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from rich import box
from rich.console import Group
from rich.filesize import decimal
from rich.table import Table
from rich.text import Text

from kgtool.data.registry.entries import Entry

UNKNOWN = "?"


def data_sets_table(frame: pd.DataFrame, cache: Path, width: int) -> Group:
    """The table of `kgtool data list`.

    Args:
        frame: of `kgtool.data_sets`.
        cache: the folder of the archives.
        width: columns of the terminal; the size of what is fetched needs some room.
    """
    wide = width >= 60
    table = Table(box=box.SIMPLE, padding=(0, 1, 0, 0))
    table.add_column("name", overflow="fold")
    for name in ("triples", "entities", "relations", "size")[: 4 if wide else 3]:
        table.add_column(name, justify="right", no_wrap=True)
    for row in frame.itertuples():
        numbers = [*map(_count, (row.triples, row.entities, row.relations))]
        size = UNKNOWN if pd.isna(row.size) else decimal(row.size)
        table.add_row(Text(row.name), *numbers, *([size] if wide else []))
    names = frame.loc[frame["fetched"].astype(bool), "name"]
    notes = (
        f"Fetched: {', '.join(names) if len(names) else 'none'}. The cache is {cache}",
        "kgtool data info NAME prints details, kgtool data fetch NAME fetches a data set.",
    )
    return Group(table, *map(Text, notes))


def _count(count: Any) -> str:
    return UNKNOWN if pd.isna(count) else f"{count:,}"


def data_set_list(entry: Entry, file: Path, pins: Mapping[str, str], fetched: bool) -> Table:
    """The list of `kgtool data info`.

    Args:
        entry: the data set.
        file: where it is in the cache, or would be.
        pins: the SHA-256 of each source that the first fetch got.
        fetched: whether it is there.
    """
    splits = {"train": entry.train, "valid": entry.valid, "test": entry.test}
    triples = f"{_count(entry.total)}, which kgtool splits by a rule"
    if entry.triples is None:
        triples = ", ".join(f"{_count(count)} {split}" for split, count in splits.items())
    table = Table(box=None, show_header=False, padding=(0, 1, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for key, value in (
        ("name", entry.name),
        ("about", entry.about),
        ("triples", triples),
        ("entities", _count(entry.entities)),
        ("relations", _count(entry.relations)),
        ("licence", entry.licence),
        ("cite", entry.reference),
        ("", entry.link),
        ("address", entry.address),
        ("files", ", ".join(file.replace("=", " from ") for file in entry.files)),
        ("size", f"{entry.size:,} bytes" if entry.size else "unknown"),
        ("SHA-256", "\n".join(_sums(entry, pins))),
        ("fetched", "yes" if fetched else "no"),
        ("cached as", str(file)),
    ):
        if value:
            table.add_row(key, Text(value))
    return table


def _sums(entry: Entry, pins: Mapping[str, str]) -> Iterator[str]:
    """The checksum of each source, and where it is from."""
    for source in entry.sources(entry.address):
        digest = source.sha256 or pins.get(source.name, "")
        state = "" if source.sha256 else " (pinned at the first fetch)"
        text = digest + state if digest else "unknown; the first fetch pins it"
        yield f"{source.name}: {text}" if entry.files else text
