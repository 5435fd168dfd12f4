"""Tables of answers to queries, new triples and nearest neighbours."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from kgtool.data.labels import LabelIndex

MEANING = "P: probability of the triple, if the graph lacks as many triples as valid holds out."


def answers_table(
    frame: pd.DataFrame, questions: Sequence[Sequence[str]], labels: LabelIndex
) -> Group:
    """The tables of `kgtool predict`, one per query."""
    tables = []
    for number, question in enumerate(questions):
        rows = frame[frame["question"] == number]
        title = Text(" ".join(question))
        if rows.empty:
            tables.append(Group(title, Text("  no new answers")))
            continue
        table = _table(title)
        for name in ("P", "score"):
            table.add_column(name, justify="right", no_wrap=True)
        table.add_column("answer", overflow="fold")
        any_known = rows["known"].any()
        if any_known:
            table.add_column("known", no_wrap=True)
        asked = rows["asked"].iloc[0]
        for row in rows.itertuples():
            label = getattr(row, asked)
            cells = [
                Text(_chance(row.probability)),
                Text(f"{row.score:.3f}"),
                _named(label, labels),
            ]
            table.add_row(*cells, *([Text(row.known)] if any_known else []))
        tables.append(Group(table))
    note = [Text(MEANING)] if (frame["asked"] != "relation").any() else []
    if (frame["asked"] == "relation").any():
        note.append(Text("P of a relation: given that one of the new relations holds."))
    return Group(*tables, *note)


def completion_table(frame: pd.DataFrame, labels: LabelIndex, most: int) -> Group:
    """The table of `kgtool complete`: the first rows."""
    table = _table()
    table.add_column("P", justify="right", no_wrap=True)
    for name in ("head", "relation", "tail"):
        table.add_column(name, overflow="fold")
    for row in frame.head(most).itertuples():
        table.add_row(
            _chance(row.probability), _named(row.head, labels), Text(row.relation),
            _named(row.tail, labels),
        )  # fmt: skip
    shown = f"The first {most:,} of {len(frame):,}. " if len(frame) > most else ""
    return Group(table, Text(shown + MEANING))


def neighbours_table(frame: pd.DataFrame, labels: LabelIndex) -> Table:
    """The table of `kgtool predict --task neighbours`."""
    table = _table()
    table.add_column("cosine", justify="right", no_wrap=True)
    table.add_column("entity", overflow="fold")
    for row in frame.itertuples():
        table.add_row(f"{row.cosine:.4f}", _named(row.entity, labels))
    return table


def _table(title: Text | None = None) -> Table:
    return Table(title=title, title_justify="left", box=box.SIMPLE, padding=(0, 1, 0, 0))


def _chance(probability: float) -> str:
    return "" if pd.isna(probability) else f"{probability:.3f}"


def _named(label: str, labels: LabelIndex) -> Text:
    """A label, with the readable name before it where there is one."""
    name = labels.names.get(label)
    return Text(label) if name is None else Text(f"{name} ({label})")
