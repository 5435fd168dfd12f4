"""Infers which columns of a table are head, relation and tail, and whether it has a header."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from kgtool.data.loaders.reading import FIELDS, NO_TRUTH, Reading, position_of
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
# The names that each of head, relation and tail may have.
_ROLES = tuple({naming[i] for naming in _NAMINGS} for i in range(3))
# Namings that leave no doubt among further columns. Not `type`, say: Gephi writes "Directed" there.
_SURE = {
    frozenset(naming)
    for naming in (FIELDS, ("subject", "predicate", "object"), ("h", "r", "t"), ("s", "p", "o"))
}
# Follows an option in a remedy.
COMMANDS = "(kgtool data inspect, convert and split take it; then use the new folder)"
SKIP_OPTION = f"--skip-bad-lines {COMMANDS}"
COLUMNS_OPTION = f"--columns {COMMANDS}"
TRUTH = "truth"  # the name of the column of `Reading.truth` among the further columns
# The name of a column of weights in a header, and of the weights among the further columns.
WEIGHT = "weight"
# The further column with the time of each row: the only one named like a time, if there is one.
TIME = "time"
ANY_TIME = "\0time"  # no column has this name
_TIME_NAMES = {"time", "timestamp", "date", "datetime", "year"}
_MOST_LISTED = 8


@dataclass(frozen=True)
class ColumnChoice:
    """The columns of a table.

    Args:
        columns: the indices of head, relation and tail, and of the further columns to read.
        header: whether the first line is a header.
        note: a note for the user about the header, or an empty text.
        extra: the names of the further columns; the weight of a row is called `WEIGHT` and comes
            first, its truth is called `TRUTH`; `TIME` is the time that the caller asks for.
        left_out: index → name, for the columns that are not read.
        guessed: whether the columns are neither the caller's nor named by a header.
    """

    columns: tuple[int, ...]
    header: bool
    note: str = ""
    extra: tuple[str, ...] = ()
    left_out: Mapping[int, str] = field(default_factory=dict)
    guessed: bool = False

    @property
    def notes(self) -> tuple[str, ...]:
        """The note, if there is one."""
        return (self.note,) if self.note else ()


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
    folded = name.strip().casefold()
    return next((i for i, names in enumerate(_ROLES) if folded in names), None)


def choose_columns(
    first: Sequence[str], reading: Reading, extra: Sequence[str], place: str, line: int | None = 1
) -> ColumnChoice:
    """Chooses the columns by the first row of a table, or by the names of its columns.

    Args:
        first: the cells of the first row, which may be a header. With `line=None`: the column
            names of a format that always has them.
        reading: the caller's options.
        extra: further columns, by name or by number from 1; `ANY_TIME` is the time, if the names
            of the columns show one. The time is left out of other uses: see `left_out`.
        place, line: the position of the row, for errors and notes.

    Raises:
        DataError: if the columns cannot be inferred, or if the options do not fit the table.
    """
    truth = () if reading.truth in (None, NO_TRUTH) else (reading.truth,)
    position = position_of(truth[0]) if truth else None
    # a file of facts alone, as train often is, lacks the column
    if (
        truth
        and len(first) == 3
        and (position == 3 or (position is None and _not_in(truth, first)))
    ):
        truth = ()
    weight = _weight(first, reading, extra, line)
    time = _time(first, reading, line) if ANY_TIME in extra else ()
    extra = tuple(column for column in extra if column != ANY_TIME)
    more = (*weight, *extra, *time, *truth)
    wanted = tuple(reading.columns or ())[:3] + more
    by_name = any(position_of(column) is None for column in wanted)
    chosen = tuple(_find(column, first, place, line) for column in wanted)
    if len(set(chosen)) < len(chosen):
        problem = f"two of the columns {', '.join(map(quoted, wanted))} are the same column"
        raise fault(place, problem, "give each column once", line)
    if reading.columns is not None:
        triple, rest = chosen[:3], chosen[3:]
        looks = naming_of([first[i] for i in triple]) is not None
        header = line is None or by_name or (looks if reading.header is None else reading.header)
        guessed = False
    else:
        rest = chosen
        triple, header, guessed = _inferred(first, reading, more, rest, (place, line))
    shown = [first[i] for i in triple]
    doubt = " (read as head, relation, tail)" if guessed and header and line is not None else ""
    names = [name.strip() for name in first] if header else _numbered(first)
    return ColumnChoice(
        columns=(*triple, *rest),
        header=header,
        note=_note(place, line, shown, doubt) if header else "",
        extra=(
            *([WEIGHT] if weight else []),
            *(names[i] for i in rest[len(weight) : len(weight) + len(extra)]),
            *([TIME] if time else []),
            *([TRUTH] if truth else []),
        ),
        left_out={
            i: names[i]
            for i in range(len(first))
            if i not in (*triple, *rest) or str(i + 1) in time
        },
        guessed=guessed,
    )


def _weight(
    first: Sequence[str], reading: Reading, extra: Sequence[str], line: int | None
) -> tuple[str, ...]:
    """The column of weights: the fourth of `reading.columns`, else the one named `WEIGHT`.

    The names must show head, relation and tail without a doubt, too. A file of three columns may
    lack the fourth of `reading.columns`, as a file of test triples often does.
    """
    if reading.columns is not None:
        given = reading.columns[3:]
        if given and len(first) == 3:
            position = position_of(given[0])
            if position == 3 or (position is None and _not_in(given, first)):
                return ()
        return tuple(given)
    names = [name.strip().casefold() for name in first]
    if names.count(WEIGHT) != 1 or len(first) < 4:
        return ()
    at = names.index(WEIGHT)
    if any(column in (first[at].strip(), str(at + 1)) for column in extra):
        return ()
    if line is not None and reading.header is False:
        return ()
    if not any(_is_sure(first, order) for order in _proposals(first)):
        return ()
    return (str(at + 1),)


def _time(first: Sequence[str], reading: Reading, line: int | None) -> tuple[str, ...]:
    """The only column that is named like a time, in a row of names of head, relation and tail."""
    at = [i for i, name in enumerate(first) if name.strip().casefold() in _TIME_NAMES]
    named = not (line is not None and reading.header is False)
    by_name = any(position_of(column) is None for column in reading.columns or ())
    sure = by_name or any(_is_sure(first, order) for order in _proposals(first))
    if len(at) != 1 or len(first) < 4 or not named or not sure:
        return ()
    taken = {first[at[0]].strip(), str(at[0] + 1)}
    return () if taken & set(reading.columns or ()) else (str(at[0] + 1),)


def _inferred(
    first: Sequence[str], reading: Reading, more: Sequence[str], rest: Sequence[int],
    where: tuple[str, int | None],
) -> tuple[tuple[int, ...], bool, bool]:  # fmt: skip
    """The columns of head, relation and tail; whether there is a header; whether it is a guess."""
    place, line = where
    named, by_name = line is None, any(position_of(column) is None for column in more)
    others = [i for i in range(len(first)) if i not in rest]
    names = [first[i] for i in others]
    may_be_header = named or reading.header is not False
    if len(others) != 3:
        sure = [order for order in _proposals(names) if _is_sure(names, order)]
        if len(others) < 3 or not may_be_header or len(sure) != 1:
            raise wrong_number(first, place, line, more, may_be_header=may_be_header)
        return tuple(others[i] for i in sure[0]), True, False
    order = naming_of(names) if may_be_header else None
    if order is not None:
        return tuple(others[i] for i in order), True, False
    if named:
        shown = ", ".join(map(quoted, first))
        raise fault(
            place,
            f"the columns of head, relation and tail cannot be inferred from the names {shown}",
            _column_remedy(first, True, True),
        )
    if reading.header is None and not by_name:
        if {name.strip().casefold() for name in names} <= _COLUMN_NAMES:
            shown = ", ".join(map(quoted, names))
            raise fault(
                place,
                f"this row may be a header or a triple: {shown}",
                f"for a header, {_column_remedy(first, True, False)}; for a triple, pass "
                "--no-header",
                line,
            )
        return tuple(others), False, True
    return tuple(others), by_name or bool(reading.header), True


def _not_in(column: Sequence[str], first: Sequence[str]) -> bool:
    return column[0] not in [name.strip() for name in first]


def _proposals(names: Sequence[str]) -> list[tuple[int, int, int]]:
    """The columns that the names allow as head, relation and tail; [] if a role has no name."""
    folded = [name.strip().casefold() for name in names]
    if len(set(folded)) < len(folded):
        return []
    orders = [
        (folded.index(head), folded.index(between), folded.index(tail))
        for head, between, tail in _NAMINGS
        if {head, between, tail} <= set(folded)
    ]
    if orders:
        return orders
    heads, relations, tails = (
        [i for i, name in enumerate(folded) if name in role] for role in _ROLES
    )
    one_each = len(heads) == len(relations) == len(tails) == 1
    return [(heads[0], relations[0], tails[0])] if one_each else []


def _is_sure(names: Sequence[str], order: tuple[int, int, int]) -> bool:
    return frozenset(names[i].strip().casefold() for i in order) in _SURE


def _column_remedy(first: Sequence[str], named: bool, always: bool) -> str:
    """Proposes `--columns` by the names that are known; lists the columns if none are.

    Args:
        first: the first row.
        named: whether it may be the names of the columns.
        always: whether the format always has names, so that the columns need no numbers.
    """
    orders = _proposals(first) if named else []
    if orders:
        proposed = [_option([first[i].strip() for i in order], order) for order in orders[:3]]
        return f"pass {' or '.join(proposed)} {COMMANDS}"
    shown = first if always else [f"{i} is {quoted(cell)}" for i, cell in enumerate(first, 1)]
    names = map(quoted, shown) if always else shown
    listed = ", ".join(list(names)[:_MOST_LISTED]) + (", …" if len(shown) > _MOST_LISTED else "")
    by = "names" if always else "numbers"
    return f"pass the {by} of head, relation and tail, in this order, by {COLUMNS_OPTION}: {listed}"


def _option(names: Sequence[str], order: Sequence[int]) -> str:
    """`--columns` as a shell takes it: by name, or by number where a comma is in a name."""
    if any("," in name or position_of(name) is not None for name in names):
        names = [str(i + 1) for i in order]
    return f"--columns {shlex.quote(','.join(names))}"


def _numbered(first: Sequence[str]) -> list[str]:
    return [f"column {i}" for i in range(1, len(first) + 1)]


def wrong_number(
    first: Sequence[str],
    place: str,
    line: int | None,
    more: Sequence[str] = (),
    *,
    may_be_header: bool = True,
) -> DataError:
    """The error for a table that does not have three columns, without `--columns`.

    Args:
        first: the first row.
        place, line: its position.
        more: the further columns that the caller wants.
        may_be_header: whether the row may be the names of the columns.
    """
    count = "1 column" if len(first) == 1 else f"{len(first)} columns"
    further = f" in addition to {', '.join(map(quoted, more))}" if more else ""
    shown = ", ".join(map(quoted, first[:8])) + (", …" if len(first) > 8 else "")
    remedy = _column_remedy(first, may_be_header, line is None)
    if len(first) < 3:
        remedy = "give each row a head, a relation and a tail"
    return fault(place, f"{count} where 3 are expected{further}: {shown}", remedy, line)


def or_skip(error: DataError) -> DataError:
    """The error about one line among others, with the option that leaves it out as a remedy."""
    longer = DataError(f"{str(error)[:-1]}, or pass {SKIP_OPTION}.")
    longer.problem = error.problem
    return longer


def _find(column: str, first: Sequence[str], place: str, line: int | None) -> int:
    """The index of a column, given by name or by number."""
    shown = ", ".join(map(quoted, first[:8])) + (", …" if len(first) > 8 else "")
    position = position_of(column)
    if position is not None and position < len(first):
        return position
    if position is not None:
        raise fault(place, f"no column {column} among {len(first)}: {shown}", "count from 1", line)
    first = [name.strip() for name in first]
    if column not in first:
        like = nearest(column, first)
        remedy = f"use {quoted(like)}, the nearest, " if like else "use one of these names, "
        raise fault(
            place, f"no column named {quoted(column)}: {shown}", remedy + "or a number", line
        )
    if first.count(column) > 1:
        raise fault(
            place, f"two columns are named {quoted(column)}: {shown}", "give its number", line
        )
    return first.index(column)


def _note(place: str, line: int | None, names: Sequence[str], rest: str = "") -> str:
    shown = ", ".join(quoted(name)[1:-1] for name in names)
    if line is None:
        in_order = tuple(name.strip().casefold() for name in names) == FIELDS
        return "" if in_order else f"columns of {place}: {shown}"
    return f"header in line {line} of {place}: {shown}{rest}"
