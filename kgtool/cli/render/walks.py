"""Walks: perplexity, next steps and routes."""

from __future__ import annotations

import pandas as pd
from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from kgtool.evaluation.tasks.walk_perplexity import WalkPerplexity


def perplexity_table(found: WalkPerplexity) -> Group:
    """The table of `kgtool evaluate --task walks`."""
    table = Table(
        title=f"Perplexity of {found.walks:,} walks with an edge of {found.split}",
        box=box.SIMPLE,
        padding=(0, 1, 0, 0),
    )
    for name in ("steps", "predicted by"):
        table.add_column(name)
    for name in ("relation", "entity", "both"):
        table.add_column(name, justify="right")
    rows = found.table.to_dict("records")
    for row, after in zip(rows, [*rows[1:], None], strict=True):
        values = (f"{row[name]:,.2f}" for name in ("relation", "entity", "both"))
        ends = after is not None and after["steps"] != row["steps"]
        steps = f"{row['steps']} {row['count']:,}"
        table.add_row(steps, row["by"], *values, end_section=ends)
    note = (
        f"Walks of 1 to {found.max_length} steps over train and {found.split}. Model and counts "
        "use the edges of train; each kind of counts backs off to the one above."
    )
    return Group(table, Text(note))


def steps_table(frame: pd.DataFrame) -> Table:
    """The table of `kgtool predict --task next`."""
    table = Table(box=box.SIMPLE, padding=(0, 1, 0, 0))
    for name in ("P", "P of relation"):
        table.add_column(name, justify="right", no_wrap=True)
    for name in ("relation", "entity", ""):
        table.add_column(name, overflow="fold")
    for row in frame.itertuples():
        known = "in train" if row.known else ""
        table.add_row(
            f"{row.probability:.4f}", f"{row.of_relation:.4f}",
            Text(row.relation), Text(row.entity), known,
        )  # fmt: skip
    return table


def routes_table(frame: pd.DataFrame) -> Group:
    """The table of `kgtool predict --task routes`."""
    bound = "arrives" in frame
    table = Table(box=box.SIMPLE, padding=(0, 1, 0, 0))
    table.add_column("P", justify="right", no_wrap=True)
    table.add_column("path", overflow="fold")
    table.add_column("reaches tail" if bound else "entities reached", justify="right")
    for row in frame.itertuples():
        leads = f"{row.ends:,}" if not bound else "yes" if row.arrives else ""
        table.add_row(f"{row.probability:.4f}", Text(" / ".join(row.path)), leads)
    note = f"Sum of P: {frame['probability'].sum():.4f}. Reached entities are counted in train."
    return Group(table, Text(note))
