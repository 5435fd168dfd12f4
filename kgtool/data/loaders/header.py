"""Which columns of a table hold head, relation and tail, and whether its first line names them."""

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
_WORDS = {word for naming in _NAMINGS for word in naming if len(word) > 1}
TAKEN = "(kgtool inspect, convert and split take it)"  # behind an option in a remedy
TELL = f"--columns {TAKEN}"


@dataclass(frozen=True)
class ColumnChoice:
    """Where the columns of a table are.

    Args:
        columns: the indices of head, relation, tail and, if asked for, the extra column.
        header: whether the first line names columns, and holds no triple.
        note: what to tell a user of it, or nothing.
    """

    columns: tuple[int, ...]
    header: bool
    note: str = ""


def naming_of(names: Sequence[str]) -> tuple[int, int, int] | None:
    """The positions of head, relation and tail where three names are a known naming of them."""
    words = [name.strip().casefold() for name in names]
    order = _ORDERS.get(frozenset(words))
    if order is None or len(words) != 3:
        return None
    head, relation, tail = (words.index(word) for word in order)
    return head, relation, tail


def choose_columns(
    first: Sequence[str], reading: Reading, extra: str | None, place: str, line: int | None = 1
) -> ColumnChoice:
    """Looks at the first row of a table, or at the names of its columns.

    Args:
        first: the cells of the first row. With `line=None`: the names of the columns, which are
            no row and which the file has for certain.
        reading: what the caller says.
        extra: a further column, by name or by number from 1.
        place, line: where the row stands, for errors and notes.

    Raises:
        DataError: where it cannot be told by looking, or what the caller says does not fit.
    """
    named = line is None
    wanted = tuple(reading.columns or ()) + ((extra,) if extra is not None else ())
    by_name = any(position_of(column) is None for column in wanted)
    found = tuple(_find(column, first, place, line) for column in wanted)
    if len(set(found)) < len(found):
        problem = f"of the columns {', '.join(map(quoted, wanted))}, two are one column"
        raise fault(place, problem, "give each column once", line)
    if reading.columns is not None:
        names = [first[i] for i in found[:3]]
        looks = naming_of(names) is not None
        header = named or by_name or (looks if reading.header is None else reading.header)
        note = _note(place, line, names) if header else ""
        return ColumnChoice(found, header, note)

    others = [i for i in range(len(first)) if i not in found]
    names = [first[i] for i in others]
    if len(others) != 3:
        raise too_many(first, place, line, extra)
    order = naming_of(names) if named or reading.header is not False else None
    if order is not None:
        return ColumnChoice(
            tuple(others[i] for i in order) + found,
            True,
            _note(place, line, [names[i] for i in order]),
        )
    if not named and reading.header is None and not by_name:
        if {name.strip().casefold() for name in names} <= _WORDS:
            shown = ", ".join(map(quoted, names))
            raise fault(
                place,
                f"is this a header or a triple? {shown}",
                f"for a header say which are head, relation and tail, as in {TELL} 1,2,3 "
                "--header; for a triple --no-header",
                line,
            )
        return ColumnChoice((*others, *found), False)
    if named:
        shown = ", ".join(map(quoted, first))
        raise fault(
            place,
            f"none of the columns is known as head, relation or tail: {shown}",
            f"say which they are, by {TELL}, as in --columns {','.join(first)}",
        )
    header = by_name or bool(reading.header)
    note = _note(place, line, names, " (taken as head, relation, tail)") if header else ""
    return ColumnChoice((*others, *found), header, note)


def too_many(first: Sequence[str], place: str, line: int | None, extra: str | None) -> DataError:
    """The error for more or fewer columns than three where nobody says which to take."""
    count = "1 column" if len(first) == 1 else f"{len(first)} columns"
    beside = f" beside {quoted(extra)}" if extra is not None else ""
    shown = ", ".join(map(quoted, first[:8])) + (", …" if len(first) > 8 else "")
    example = "1,2,3"
    if line is None and len(first) > 3:
        example = ",".join(first[:3])
    remedy = f"say which are head, relation and tail by {TELL}, as in --columns {example}"
    if len(first) < 3:
        remedy = "give each row a head, a relation and a tail"
    return fault(place, f"{count} where 3 are expected{beside}: {shown}", remedy, line)


def _find(column: str, first: Sequence[str], place: str, line: int | None) -> int:
    """The index of a column that is given by name or by number."""
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
