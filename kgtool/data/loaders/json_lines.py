"""Reads JSON lines: each line is an object, or an array of head, relation and tail.

A file may also be one JSON array of such objects or arrays.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from kgtool.data.loaders.delimited_faults import not_utf8, start_of, unreadable
from kgtool.data.loaders.header import ColumnChoice, choose_columns, or_skip
from kgtool.data.loaders.reading import FIELDS, Reading
from kgtool.data.loaders.rows import MOST_VALUES, Rows, no_triples, rows_of
from kgtool.errors import DataError, fault, quoted
from kgtool.storage.compression import File


class _Fraction(str):
    """A number with a fraction or exponent, as it is written."""

    __slots__ = ()


_KINDS = {
    bool: "true or false",
    type(None): "null",
    float: "a number",
    _Fraction: "a number",
    list: "a list",
    dict: "an object",
}


def read_json_lines(file: File, reading: Reading, extra: Sequence[str] = ()) -> Rows:
    """The triples of a file of JSON lines; a whole number becomes the text of its digits.

    Raises:
        DataError: for a line that is not a triple; it names the first.
    """
    damage = unreadable(file)
    if damage is not None:
        raise damage
    found: list[list[str]] = []
    numbers: list[int] = []
    skipped: list[tuple[int, str]] = []
    first: dict[str, Any] | list[Any] = []
    chosen: ColumnChoice | None = None
    few: dict[int, set[str]] = {}
    whole = _whole_array(file)
    unit = "line" if whole is None else "item"
    for number, row in enumerate(whole, 1) if whole is not None else _rows(file, reading, skipped):
        place = f"{file.place}, {unit} {number}"
        try:
            row = _checked(place, row)
            if chosen is None:
                first, chosen = row, _chosen(file, row, reading, extra, place)
                few = {i: set() for i in chosen.left_out}
            found.append(_cells(place, row, first, chosen))
        except DataError as error:
            if chosen is None:
                raise
            if not reading.skip_bad_lines:
                raise or_skip(error) from error
            skipped.append((number, error.problem))
            continue
        numbers.append(number)
        keys: Sequence[Any] = list(first) if isinstance(first, dict) else range(len(first))
        for i, values in list(few.items()):
            values.add(str(row.get(keys[i]) if isinstance(row, dict) else row[i]))
            if len(values) > MOST_VALUES:
                del few[i]
    if chosen is None:
        raise no_triples(file.place)
    columns = [list(column) for column in zip(*found, strict=True)]
    return rows_of(
        columns[:3], np.array(numbers), file.place, unit, skip_bad=reading.skip_bad_lines,
        extra={name: tuple(column) for name, column in zip(chosen.extra, columns[3:], strict=True)},
        notes=chosen.notes,
        left_out=tuple(chosen.left_out.values()),
        few={chosen.left_out[i]: frozenset(values) for i, values in few.items()},
        guessed=chosen.guessed, skipped=tuple(skipped),
    )  # fmt: skip


def _whole_array(file: File) -> list[Any] | None:
    """The items of a file that is one JSON array of objects or arrays; None for JSON lines.

    Raises:
        DataError: for JSON of another shape over several lines, such as an object of columns.
    """
    text = file.data[start_of(file.data) :].strip()
    line, _, rest = text.partition(b"\n")
    if not line.startswith((b"[", b"{")) or (rest.strip() and _is_json(line)):
        return None
    try:
        whole = _loads(text)
    except (_TwiceError, ValueError, RecursionError):
        return None  # the fault is that of a line
    if isinstance(whole, list) and whole and all(isinstance(item, (list, dict)) for item in whole):
        return whole
    if isinstance(whole, list) and not rest.strip():
        return None  # one line with one triple
    if isinstance(whole, dict) and all(isinstance(value, str) for value in whole.values()):
        return [whole]
    raise fault(
        file.place,
        f"neither JSON lines nor an array of triples: {quoted(line)}",
        'write an array of objects, as in [{"head": "a", "relation": "r", "tail": "b"}]; pandas '
        'writes it by to_json(orient="records")',
    )


def _is_json(line: bytes) -> bool:
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        return False
    return True


def _loads(text: bytes) -> Any:
    return json.loads(
        text.decode(),
        parse_int=str,
        parse_float=_Fraction,
        parse_constant=float,
        object_pairs_hook=_without_twins,
    )


def _rows(
    file: File, reading: Reading, skipped: list[tuple[int, str]]
) -> Iterator[tuple[int, dict[str, Any] | list[Any]]]:
    """The number and the row of each line that is not blank; bad lines may be skipped."""
    for number, line in enumerate(io.BytesIO(file.data[start_of(file.data) :]), 1):
        if not line.strip():
            continue
        try:
            yield number, _parsed(file, line, number)
        except DataError as error:
            if not reading.skip_bad_lines:
                raise
            skipped.append((number, error.problem))


def _chosen(
    file: File, row: dict[str, Any] | list[Any], reading: Reading, extra: Sequence[str], place: str
) -> ColumnChoice:
    """The columns, by the keys of the first object or the length of the first array."""
    if isinstance(row, dict):
        return choose_columns(tuple(row), reading, extra, place, None)
    numbered = [str(i) for i in range(1, len(row) + 1)]  # an array has no names
    own = replace(reading, header=False)
    return replace(
        choose_columns(numbered, own, extra, file.place), guessed=reading.columns is None
    )


def _parsed(file: File, line: bytes, number: int) -> Any:
    try:
        return _loads(line)
    except UnicodeDecodeError:
        raise not_utf8(file, number, line) from None
    except _TwiceError as error:
        problem = f"the key {quoted(str(error))} occurs twice"
        raise fault(file.place, problem, "keep one", number) from None
    except (ValueError, RecursionError) as error:
        raise fault(
            file.place,
            f"invalid JSON ({error}): {quoted(line.strip())}",
            "write one object or array per line, in UTF-8",
            number,
        ) from None


def _checked(place: str, row: Any) -> dict[str, Any] | list[Any]:
    """The row, if it is an object or an array that is not empty."""
    if not isinstance(row, (dict, list)) or not row:
        problem = f"neither an object nor an array of three: {quoted(json.dumps(row))}"
        raise fault(place, problem, 'write ["head", "relation", "tail"] per line')
    return row


class _TwiceError(Exception):
    """A key occurs twice in an object."""


def _without_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    row: dict[str, Any] = {}
    for key, value in pairs:
        if key in row:
            raise _TwiceError(key)
        row[key] = value
    return row


def _cells(
    place: str, row: dict[str, Any] | list[Any], first: dict[str, Any] | list[Any],
    chosen: ColumnChoice,
) -> list[str]:  # fmt: skip
    """The texts of the chosen columns of a row."""
    if type(row) is not type(first):
        kinds = ["an array among objects", "objects"]
        if isinstance(first, list):
            kinds = ["an object among arrays", "arrays"]
        raise fault(place, kinds[0], f"write {kinds[1]} throughout")
    if isinstance(row, list) and len(row) != len(first):
        problem = f"an array of {len(row)} where {len(first)} are expected"
        raise fault(place, problem, "give each row as many cells as the first")
    keys: list[Any] = list(first) if isinstance(first, dict) else list(range(len(first)))
    cells: list[str] = []
    for field, i in zip((*FIELDS, *chosen.extra), chosen.columns, strict=True):
        if isinstance(row, dict) and keys[i] not in row:
            shown = ", ".join(map(quoted, row))
            problem = f"the key {quoted(keys[i])} of the {field} is missing among {shown}"
            raise fault(place, problem, "add it, or remove the line")
        cell = row[keys[i]]
        further = len(cells) >= len(FIELDS)
        if further and isinstance(cell, (bool, type(None))):
            cell = "" if cell is None else str(cell).lower()
        if not isinstance(cell, str) or (isinstance(cell, _Fraction) and not further):
            problem = f"the {field} is {_KINDS[type(cell)]}, not a text"
            raise fault(place, problem, "quote it, or remove the line")
        cells.append(str(cell))
    return cells
