"""The settings that were chosen for a data set, with their reasons."""

from __future__ import annotations

from rich import box
from rich.table import Table
from rich.text import Text

from kgtool.training.automatic import ChosenSettings


def settings_table(found: ChosenSettings) -> Table:
    """A row per setting that depends on the graph, the machine or the time."""
    table = Table(
        title=Text(f"Settings for {found.about()}"), box=box.SIMPLE, padding=(0, 1, 0, 0),
        caption=Text(f"Expected: {found.expected()} of training."), title_justify="left",
        caption_justify="left",
    )  # fmt: skip
    table.add_column("setting", overflow="fold")
    table.add_column("value", justify="right", no_wrap=True)
    table.add_column("why", overflow="fold")
    for row in found.to_frame().itertuples():
        table.add_row(*(Text(str(cell)) for cell in row[1:]))
    return table
