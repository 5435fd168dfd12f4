"""The triples that extended a run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text


def growth_table(info: Mapping[str, Any]) -> Group:
    """The table of `kgtool extend`, from the new run's `run.json`."""
    table = Table(box=box.SIMPLE, padding=(0, 1, 0, 0))
    table.add_column("triples")
    table.add_column("count", justify="right")
    counts = {name: n for name, n in info["extended"].items() if isinstance(n, int)}
    for name, count in counts.items():
        table.add_row(name, f"{count:,}")
    notes = []
    if counts["already in valid"] + counts["already in test"]:
        notes.append("Triples of valid and test stay there: they are not added to train.")
    return Group(table, *(Text(note) for note in notes))
