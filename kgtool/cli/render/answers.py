"""Tables of answers to queries, scored triples, new triples and nearest neighbours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from kgtool.data.labels import LabelIndex

# Answers with a lower probability share one line, without figures.
LEAST = 0.01
# Unlikely answers that this line names.
NAMED = 10
QUIET = "dim"


def meaning(missing: int, given: bool) -> Text:
    """The note that explains P.

    Args:
        missing: number of facts that the graph is assumed to lack.
        given: whether the user has given the number.
    """
    why = "as --assumed-missing says" if given else "as many as valid and test hold"
    note = f"P: probability that the triple holds, if the graph lacks {missing:,} facts ({why}"
    return Text(f"{note})." if given else f"{note}; --assumed-missing N changes this).")


def answers_table(
    frame: pd.DataFrame,
    questions: Sequence[Sequence[str]],
    labels: LabelIndex,
    note: Text,
    *,
    typed: bool = False,
    unread: Mapping[int, str] | None = None,
) -> Group:
    """The tables of `kgtool predict`, one per query.

    Args:
        frame: the answers, with `left_out` in its `attrs` for the queries that have answers.
        questions: all queries.
        labels: the readable names.
        note: the meaning of P.
        typed: whether an option chose the types.
        unread: number of a query that cannot be answered → the reason.
    """
    unread = unread or {}
    left_out = iter(frame.attrs["left_out"])
    tables: list[Any] = []
    for number, question in enumerate(questions):
        title = Text(" ".join(question))
        if number in unread:
            tables += [title, Text(f"  not answered: {unread[number]}"), Text()]
            continue
        rows = frame[frame["question"] == number]
        tables.append(title)
        tables += _left_out(next(left_out), labels, typed)
        tables += _answers(rows, labels) if len(rows) else [Text("  no new answers")]
        tables.append(Text())
    return Group(*tables, *([note] if frame["probability"].notna().any() else []))


def _left_out(left_out: Mapping[str, Any], labels: LabelIndex, typed: bool) -> list[Text]:
    """The answers to a query that are not in its table."""
    lines = []
    if left_out["known"]:
        named = ", ".join(_named(label, labels).plain for label in left_out["examples"])
        more = left_out["known"] - len(left_out["examples"])
        more_text = f" and {more:,} more" if more else ""
        lines.append(f"In the graph: {named}{more_text}. --include-known lists known answers.")
    if left_out["types"]:
        count = left_out["types"]
        what = "1 answer" if count == 1 else f"{count:,} answers"
        why = "" if typed else " --any-type lists other types."
        lines.append(f"Left out: {what} of another type with a higher score.{why}")
    return [Text(f"  {line}", QUIET) for line in lines]


def _answers(rows: pd.DataFrame, labels: LabelIndex) -> list[Any]:
    """The table of the answers to a query, and a line with the unlikely ones."""
    asked = rows["asked"].iloc[0]
    unlikely = rows["probability"] < LEAST
    shown = rows[~unlikely]
    parts: list[Any] = []
    if len(shown):
        table = _table()
        likely, any_known = shown["probability"].notna().any(), shown["known"].any()
        for name in ("P", "score") if likely else ("score",):
            table.add_column(name, justify="right", no_wrap=True)
        table.add_column("answer", overflow="fold")
        if any_known:
            table.add_column("known", no_wrap=True)
        for row in shown.itertuples():
            table.add_row(
                *([Text(chance(row.probability))] if likely else []),
                Text(f"{row.score:.3f}"),
                _named(getattr(row, asked), labels),
                *([_known(row.known)] if any_known else []),
            )
        parts.append(table)
    names = rows.loc[unlikely, asked].tolist()
    if names and not (shown["known"] == "").any():
        parts.append(_none_likely("answer", len(names)))
    elif names:
        some = ", ".join(_named(label, labels).plain for label in names[:NAMED])
        more = f" and {len(names) - NAMED:,} more" if len(names) > NAMED else ""
        parts.append(Text(f"  P below {LEAST:g}: {some}{more}", QUIET))
    return parts


def _none_likely(what: str, count: int) -> Text:
    """The line in place of unlikely answers or triples if none is likely."""
    candidates = "the candidate" if count == 1 else f"the {count:,} candidates"
    return Text(
        f"  No new {what} has P of {LEAST:g} or more; --out FILE.tsv writes {candidates}.", QUIET
    )


def scored_table(frame: pd.DataFrame, labels: LabelIndex, most: int | None = None) -> Group:
    """The table of `kgtool predict --triples`: the first rows, in the order of the file."""
    table = _table()
    some = frame.head(len(frame) if most is None else most)
    likely = some["probability"].notna().any()
    for name in ("P", "score") if likely else ("score",):
        table.add_column(name, justify="right", no_wrap=True)
    for name in ("head", "relation", "tail"):
        table.add_column(name, overflow="fold")
    with_notes = bool((some["known"] + some["reason"]).any())
    if with_notes:
        table.add_column("note", overflow="fold")
    for row in some.itertuples():
        note = Text(row.reason, "red") if row.reason else _known(row.known)
        table.add_row(
            *([chance(row.probability)] if likely else []),
            "" if pd.isna(row.score) else f"{row.score:.3f}",
            _named(row.head, labels), Text(row.relation), _named(row.tail, labels),
            *([note] if with_notes else []),
        )  # fmt: skip
    return Group(table)


def scored_count(frame: pd.DataFrame) -> str:
    """How many triples of `scored_table` have a score, and how many have none and why."""
    failed, known = int((frame["reason"] != "").sum()), int((frame["known"] != "").sum())
    text = f"{len(frame) - failed:,} of {len(frame):,} triples scored"
    text += f", {known:,} of them known facts" if known else ""
    return text + (f"; {failed:,} not scored, see the reasons." if failed else ".")


def completion_table(frame: pd.DataFrame, labels: LabelIndex, most: int, note: Text) -> Group:
    """The table of `kgtool complete`: the first rows."""
    table = _table()
    table.add_column("P", justify="right", no_wrap=True)
    for name in ("head", "relation", "tail"):
        table.add_column(name, overflow="fold")
    likely = frame[frame["probability"] >= LEAST]
    for row in likely.head(most).itertuples():
        table.add_row(
            chance(row.probability), _named(row.head, labels), Text(row.relation),
            _named(row.tail, labels),
        )  # fmt: skip
    lines = []
    if len(likely) > most:
        lines.append(Text(f"The first {most:,} of {len(likely):,}."))
    if len(frame) and not len(likely):
        lines.append(_none_likely("triple", len(frame)))
    elif len(likely) < len(frame):
        lines.append(Text(f"{len(frame) - len(likely):,} more with P below {LEAST:g}.", QUIET))
    return Group(*([table] if len(likely) else []), *lines, note)


def neighbours_table(frame: pd.DataFrame, labels: LabelIndex) -> Table:
    """The table of `kgtool predict --task neighbours`."""
    table = _table()
    table.add_column("cosine", justify="right", no_wrap=True)
    table.add_column("entity", overflow="fold")
    for row in frame.itertuples():
        table.add_row(f"{row.cosine:.4f}", _named(row.entity, labels))
    return table


def _table() -> Table:
    return Table(box=box.SIMPLE, padding=(0, 1, 0, 0))


def chance(probability: float) -> str:
    """A probability with three digits; empty for NaN."""
    if pd.isna(probability):
        return ""
    if probability < 0.001:
        return "<0.001"
    return ">0.999" if probability > 0.999 else f"{probability:.3f}"


def _known(split: str) -> Text:
    """Where the graph has a fact: a split, or `facts` for a path of known facts."""
    if not split:
        return Text("not in the graph", QUIET)
    return Text("by known facts" if split == "facts" else f"in {split}")


def _named(label: str, labels: LabelIndex) -> Text:
    """A label, with the readable name before it where there is one."""
    name = labels.names.get(label)
    return Text(label) if name is None else Text(f"{name} ({label})")
