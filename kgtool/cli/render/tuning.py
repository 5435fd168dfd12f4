"""The best trials of a search over settings, and the importance of settings."""

from __future__ import annotations

from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from kgtool.config import short_value
from kgtool.training.tuning import Tuning

# Trials that the table shows; trials.tsv has all.
MOST = 3


def tuning_table(result: Tuning) -> Group:
    """The settings of the best trials, most important first, and the counts of all trials."""
    frame = result.trials
    finished = frame[frame["state"] == "finished"]
    ranked = finished.sort_values("valid_mrr", ascending=False, kind="stable")
    counts = frame["state"].value_counts()
    states = ("finished", "pruned", "invalid", "unfinished")
    listed = ", ".join(f"{counts[state]} {state}" for state in states if state in counts)
    note = Text(f"{len(frame)} trials: {listed}." if listed else "No trials.")
    best = ranked.head(MOST).to_dict("records")
    if not best:
        return Group(note)
    table = Table(title=Text("The best trials"), box=box.SIMPLE, padding=(0, 1, 0, 0))
    table.add_column("setting", overflow="fold")
    if result.importance:
        table.add_column("importance", justify="right", no_wrap=True)
    for row in best:
        table.add_column(f"trial {row['trial']}", justify="right", no_wrap=True)
    space = [""] if result.importance else []
    table.add_row("valid MRR", *space, *(f"{row['valid_mrr']:.4f}" for row in best))
    seconds = [f"{row['seconds']:.0f}" for row in best]
    table.add_row("seconds", *space, *seconds, end_section=True)
    for name in dict.fromkeys((*result.importance, *result.space)):
        share = [f"{result.importance.get(name, 0):.2f}"] if result.importance else []
        table.add_row(Text(name), *share, *(Text(short_value(row[name])) for row in best))
    return Group(table, note)
