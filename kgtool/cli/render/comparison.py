"""Tables of runs side by side, and of the groups of queries that gain or lose."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd
from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from kgtool.cli.render.ranking import MOST_GROUPS
from kgtool.evaluation.analysis.significance import BETTER, NOISE, WORSE
from kgtool.evaluation.metrics import LEVEL, RESAMPLES

TITLES = {"mrr": "MRR", "mr": "MR", "amri": "AMRI"}


def comparison_table(frame: pd.DataFrame, hits: Sequence[int]) -> Group:
    """All queries of both sides: each metric of each run, then a summary in words.

    Args:
        frame: of `kgtool.evaluation.analysis.significance`.
        hits: the k of Hits@k.
    """
    rows = frame[(frame["by"] == "all") & (frame["side"] == "both")]
    titles = TITLES | {f"hits@{k}": f"Hits@{k}" for k in hits}
    queries = int(rows["queries"].iloc[0])
    first, *others = rows["run"].unique()
    table = Table(
        title=Text(f"{queries:,} queries; differences are to {first}"),
        box=box.SIMPLE,
        padding=(0, 1, 0, 0),
    )
    table.add_column("metric, run", overflow="fold")
    percent = f"{100 * LEVEL:g} %"
    for name in ("value", percent, "difference", percent, "p"):
        table.add_column(name, justify="right", no_wrap=True)
    for metric, title in titles.items():
        of_metric = rows[rows["metric"] == metric]
        table.add_row(Text(title, style="bold"))
        for row in of_metric.itertuples():
            form = ",.1f" if metric == "mr" else ".4f"
            short = ",.1f" if metric == "mr" else ".3f"
            table.add_row(
                Text(f"  {row.run}"), _number(row.value, form),
                _span(row.low, row.high, short), *_difference(row, form),
                end_section=row.run == of_metric["run"].iloc[-1],
            )  # fmt: skip
    notes = []
    for run in others:
        verdict = rows[rows["run"] == run].set_index("metric")["verdict"]
        summary = [
            f"{kind}: {', '.join(names)}"
            for kind in (BETTER, WORSE, NOISE)
            if (names := [title for metric, title in titles.items() if verdict[metric] == kind])
        ]
        notes.append(f"{run} against {first}: {'; '.join(summary)}.")
    notes.append(
        "Filtered, both sides, realistic ties. Differences, their intervals and two-sided p come "
        f"from a paired bootstrap over triples with {RESAMPLES:,} resamples; p below "
        f"{1 - LEVEL:.2f} counts as a difference."
    )
    return Group(table, *(Text(note) for note in notes))


def group_comparison_table(frame: pd.DataFrame, by: str) -> Group:
    """Which groups of one kind gain and which lose: MRR, both sides.

    Args:
        frame: of `kgtool.evaluation.analysis.significance`.
        by: what to group by.
    """
    rows = frame[(frame["by"] == by) & (frame["side"] == "both") & (frame["metric"] == "mrr")]
    first, *others = rows["run"].unique()
    base = rows[rows["run"] == first].set_index("group")["value"]
    parts: list[Table | Text] = []
    for run in others:
        of_run = rows[rows["run"] == run]
        moved = (of_run["difference"].abs() * of_run["queries"]).nlargest(MOST_GROUPS).index
        table = Table(
            title=Text(f"MRR of {run} against {first}"), box=box.SIMPLE, padding=(0, 1, 0, 0)
        )
        table.add_column(by, overflow="fold")
        for name in ("queries", "first", "here", "difference", f"{100 * LEVEL:g} %", "p"):
            table.add_column(name, justify="right", no_wrap=True)
        for row in of_run[of_run.index.isin(moved)].itertuples():
            style = {BETTER: "green", WORSE: "red"}.get(row.verdict, "")
            table.add_row(
                Text(row.group), f"{row.queries:,}", f"{base[row.group]:.4f}", f"{row.value:.4f}",
                *_difference(row, ".4f"), style=style,
            )  # fmt: skip
        parts.append(table)
        counts = of_run["verdict"].value_counts()
        note = (
            f"{counts.get(BETTER, 0)} of {len(of_run):,} groups gain, {counts.get(WORSE, 0)} lose; "
            f"{1 - LEVEL:.0%} of equal groups do so by chance."
        )
        if len(moved) < len(of_run):
            note += f" The table shows the {len(moved)} that change the total most."
        parts.append(Text(note))
    return Group(*parts)


def _number(value: float, form: str) -> str:
    return "" if pd.isna(value) else format(value, form)


def _span(low: float, high: float, form: str) -> str:
    return "" if pd.isna(low) else f"{low:{form}}-{high:{form}}"


def _difference(row: Any, form: str) -> tuple[str, str, str]:
    """The difference of a row, its interval and p; empty strings without a difference."""
    if pd.isna(row.difference):
        return "", "", ""
    low, high = (f"{end:+{form}}" for end in (row.difference_low, row.difference_high))
    return f"{row.difference:+{form}}", f"{low} to {high}", f"{row.p:.3f}"
