"""Public data sets: a table of all, and the details of one."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from rich import box
from rich.console import Group
from rich.filesize import decimal
from rich.table import Table
from rich.text import Text

from kgtool.data.registry.entries import Entry


def data_sets_table(frame: pd.DataFrame, cache: Path) -> Group:
    """The table of `kgtool data list`.

    Args:
        frame: of `kgtool.data_sets`.
        cache: the folder of the archives.
    """
    table = Table(box=box.SIMPLE, padding=(0, 1, 0, 0))
    table.add_column("name", overflow="fold")
    for name in ("triples", "entities", "relations", "size"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("fetched")
    for row in frame.itertuples():
        counts = (row.train + row.valid + row.test, row.entities, row.relations)
        table.add_row(
            Text(row.name), *(f"{count:,}" for count in counts), decimal(row.size),
            "yes" if row.fetched else "no",
        )  # fmt: skip
    note = "kgtool data info NAME prints details, kgtool data fetch NAME fetches a data set."
    return Group(table, Text(note), Text(f"The cache is {cache}"))


def data_set_list(entry: Entry, file: Path, fetched: bool) -> Table:
    """The list of `kgtool data info`.

    Args:
        entry: the data set.
        file: where its archive is in the cache, or would be.
        fetched: whether it is there.
    """
    splits = f"{entry.train:,} train, {entry.valid:,} valid, {entry.test:,} test"
    table = Table(box=None, show_header=False, padding=(0, 1, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for key, value in (
        ("name", entry.name),
        ("about", entry.about),
        ("triples", splits),
        ("entities", f"{entry.entities:,}"),
        ("relations", f"{entry.relations:,}"),
        ("licence", entry.licence),
        ("cite", entry.reference),
        ("", entry.link),
        ("address", entry.address),
        ("size", f"{entry.size:,} bytes"),
        ("SHA-256", entry.sha256),
        ("fetched", "yes" if fetched else "no"),
        ("cached as", str(file)),
    ):
        if value:
            table.add_row(key, Text(value))
    return table
