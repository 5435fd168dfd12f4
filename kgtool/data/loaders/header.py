"""Infers which columns of a table are head, relation and tail, and whether it has a header."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from kgtool.data.loaders.reading import FIELDS, Reading, position_of
from kgtool.errors import DataError, fault, nearest, quoted

_ENDS = (
    ("head", "tail"), ("subject", "object"), ("subj", "obj"), ("source", "target"),
    ("source", "destination"), ("src", "dst"), ("src", "dest"), ("from", "to"), ("start", "end"),
    ("node1", "node2"), ("entity1", "entity2"), ("head_id", "tail_id"),
    ("head_entity", "tail_entity"), ("source_id", "target_id"), ("subject_id", "object_id"),
)  # fmt: skip
_BETWEEN = (
    "relation", "rel", "relationship", "predicate", "pred", "edge", "type", "label", "link",
    "relation_id", "relation_type", "edge_type", "predicate_id", "interaction",
)  # fmt: skip
_NAMINGS = [(head, between, tail) for head, tail in _ENDS for between in _BETWEEN]
_NAMINGS += [("h", "r", "t"), ("s", "p", "o")]
_ORDERS = {frozenset(naming): naming for naming in _NAMINGS}
_COLUMN_NAMES = {name for naming in _NAMINGS for name in naming if len(name) > 1}
_ROLES = {name: role for naming in _NAMINGS for role, name in enumerate(naming)}
COMMANDS = "(kgtool data inspect, convert and split take it)"  # follows an option in a remedy
COLUMNS_OPTION = f"--columns {COMMANDS}"


@dataclass(frozen=True)
class ColumnChoice:
    """The columns of a table.

    Args:
        columns: the indices of head, relation, tail and, if requested, the extra column.
        header: whether the first line is a header.
        note: a note for the user about the header, or an empty text.
    """

    columns: tuple[int, ...]
    header: bool
    note: str = ""


def naming_of(names: Sequence[str]) -> tuple[int, int, int] | None:
    """The positions of head, relation and tail among three column names; None if unknown."""
    folded = [name.strip().casefold() for name in names]
    order = _ORDERS.get(frozenset(folded))
    if order is None or len(folded) != 3:
        return None
    head, relation, tail = (folded.index(name) for name in order)
    return head, relation, tail


def role_of(name: str) -> int | None:
    """The place of a column name among head, relation and tail; None for an unknown name."""
    return _ROLES.get(name.strip().casefold())


def choose_columns(
    first: Sequence[str], reading: Reading, extra: str | None, place: str, line: int | None = 1
) -> ColumnChoice:
    """Chooses the columns by the first row of a table, or by the names of its columns.

    Args:
        first: the cells of the first row, which may be a header. With `line=None`: the column
            names of a format that always has them.
        reading: the caller's options.
        extra: a further column, by name or by number from 1.
        place, line: the position of the row, for errors and notes.

    Raises:
        DataError: if the columns cannot be inferred, or if the options do not fit the table.
    """
    named = line is None
    wanted = tuple(reading.columns or ()) + ((extra,) if extra is not None else ())
    by_name = any(position_of(column) is None for column in wanted)
    chosen = tuple(_find(column, first, place, line) for column in wanted)
    if len(set(chosen)) < len(chosen):
        problem = f"two of the columns {', '.join(map(quoted, wanted))} are the same column"
        raise fault(place, problem, "give each column once", line)
    if reading.columns is not None:
        names = [first[i] for i in chosen[:3]]
        looks = naming_of(names) is not None
        header = named or by_name or (looks if reading.header is None else reading.header)
        note = _note(place, line, names) if header else ""
        return ColumnChoice(chosen, header, note)

    others = [i for i in range(len(first)) if i not in chosen]
    names = [first[i] for i in others]
    if len(others) != 3:
        raise wrong_number(first, place, line, extra)
    order = naming_of(names) if named or reading.header is not False else None
    if order is not None:
        return ColumnChoice(
            tuple(others[i] for i in order) + chosen,
            True,
            _note(place, line, [names[i] for i in order]),
        )
    if not named and reading.header is None and not by_name:
        if {name.strip().casefold() for name in names} <= _COLUMN_NAMES:
            shown = ", ".join(map(quoted, names))
            raise fault(
                place,
                f"this row may be a header or a triple: {shown}",
                f"for a header, give the columns of head, relation and tail by {COLUMNS_OPTION}, "
                "as in --columns 1,2,3 --header; for a triple, pass --no-header",
                line,
            )
        return ColumnChoice((*others, *chosen), False)
    if named:
        shown = ", ".join(map(quoted, first))
        raise fault(
            place,
            f"the columns of head, relation and tail cannot be inferred from the names {shown}",
            f"pass {COLUMNS_OPTION}, as in --columns {','.join(first)}",
        )
    header = by_name or bool(reading.header)
    note = _note(place, line, names, " (read as head, relation, tail)") if header else ""
    return ColumnChoice((*others, *chosen), header, note)


def wrong_number(
    first: Sequence[str], place: str, line: int | None, extra: str | None
) -> DataError:
    """The error for a table that does not have three columns, without `--columns`."""
    count = "1 column" if len(first) == 1 else f"{len(first)} columns"
    and_extra = f" in addition to {quoted(extra)}" if extra is not None else ""
    shown = ", ".join(map(quoted, first[:8])) + (", …" if len(first) > 8 else "")
    example = "1,2,3"
    if line is None and len(first) > 3:
        example = ",".join(first[:3])
    remedy = f"pass head, relation and tail by {COLUMNS_OPTION}, as in --columns {example}"
    if len(first) < 3:
        remedy = "give each row a head, a relation and a tail"
    return fault(place, f"{count} where 3 are expected{and_extra}: {shown}", remedy, line)


def _find(column: str, first: Sequence[str], place: str, line: int | None) -> int:
    """The index of a column, given by name or by number."""
    shown = ", ".join(map(quoted, first[:8])) + (", …" if len(first) > 8 else "")
    position = position_of(column)
    if position is not None and position < len(first):
        return position
    if position is not None:
        raise fault(place, f"no column {column} among {len(first)}: {shown}", "count from 1", line)
    if column not in first:
        like = nearest(column, first)
        remedy = f"use {quoted(like)}, the nearest, " if like else "use one of these names, "
        raise fault(
            place, f"no column named {quoted(column)}: {shown}", remedy + "or a number", line
        )
    if list(first).count(column) > 1:
        raise fault(
            place, f"two columns are named {quoted(column)}: {shown}", "give its number", line
        )
    return list(first).index(column)


def _note(place: str, line: int | None, names: Sequence[str], rest: str = "") -> str:
    shown = ", ".join(quoted(name)[1:-1] for name in names)
    if line is None:
        in_order = tuple(name.strip().casefold() for name in names) == FIELDS
        return "" if in_order else f"columns of {place}: {shown}"
    return f"header in line {line} of {place}: {shown}{rest}"
