"""The splits of a new data set."""

from __future__ import annotations

from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from kgtool.data.splitting import Division


def split_table(made: Division) -> Group:
    """The table of `kgtool data split`: each split, and the triples in none."""
    table = Table(title=Text(f"{made.read:,} triples read"), box=box.SIMPLE, padding=(0, 1, 0, 0))
    table.add_column("", overflow="fold")
    for name in ("triples", "entities", "relations"):
        table.add_column(name, justify="right", no_wrap=True)
    several = len(made.folders) > 1
    for row in made.table.itertuples():
        table.add_row(
            Text(f"{row.folder}: {row.split}" if several else row.split),
            f"{row.triples:,}", f"{row.entities:,}", f"{row.relations:,}",
            end_section=row.split == "test",
        )  # fmt: skip
    if made.duplicates:
        table.add_row("duplicates, removed", f"{made.duplicates:,}")
    for reason, count in made.left_out.items():
        table.add_row(f"left out: {reason}", f"{count:,}")
    return Group(table, *(Text(note) for note in made.notes))
