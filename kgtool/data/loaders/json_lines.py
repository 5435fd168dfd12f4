"""Reads JSON lines: each line is an object, or an array of head, relation and tail."""

from __future__ import annotations

import io
import json
from typing import Any

import numpy as np

from kgtool.data.loaders.delimited_faults import not_utf8, start_of, unreadable
from kgtool.data.loaders.header import ColumnChoice, choose_columns
from kgtool.data.loaders.reading import EXTRA, FIELDS, Reading
from kgtool.data.loaders.rows import Rows, no_triples, rows_of
from kgtool.errors import fault, quoted
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


def read_json_lines(file: File, reading: Reading, extra: str | None = None) -> Rows:
    """The triples of a file of JSON lines; a whole number becomes the text of its digits.

    Raises:
        DataError: for a line that is not a triple; it names the first.
    """
    damage = unreadable(file)
    if damage is not None:
        raise damage
    columns: list[list[str]] = [[], [], [], []]
    numbers: list[int] = []
    first: dict[str, Any] | list[Any] = []
    chosen: ColumnChoice | None = None
    for number, line in enumerate(io.BytesIO(file.data[start_of(file.data) :]), 1):
        if not line.strip():
            continue
        row = _parsed(file, line, number)
        if chosen is None:
            first = row
            chosen = _chosen(file, row, reading, extra, number)
        numbers.append(number)
        for column, cell in zip(columns, _cells(file, row, first, chosen, number), strict=False):
            column.append(cell)
    if chosen is None:
        raise no_triples(file.place)
    extra_texts = tuple(columns[3]) if len(chosen.columns) == 4 else None
    notes = (chosen.note,) if chosen.note else ()
    return rows_of(
        columns[:3], np.array(numbers), file.place, "line", extra=extra_texts, notes=notes
    )


def _chosen(
    file: File, row: dict[str, Any] | list[Any], reading: Reading, extra: str | None, line: int
) -> ColumnChoice:
    """The columns, by the keys of the first object or the length of the first array."""
    if isinstance(row, dict):
        return choose_columns(tuple(row), reading, extra, f"{file.place}, line {line}", None)
    numbered = [str(i) for i in range(1, len(row) + 1)]  # an array has no names
    return choose_columns(numbered, Reading(columns=reading.columns), extra, file.place, line)


def _parsed(file: File, line: bytes, number: int) -> dict[str, Any] | list[Any]:
    try:
        row = json.loads(
            line.decode(),
            parse_int=str,
            parse_float=_Fraction,
            parse_constant=float,
            object_pairs_hook=_without_twins,
        )
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
    if not isinstance(row, (dict, list)) or not row:
        problem = f"neither an object nor an array of three: {quoted(line.strip())}"
        raise fault(file.place, problem, 'write ["head", "relation", "tail"] per line', number)
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
    file: File, row: dict[str, Any] | list[Any], first: dict[str, Any] | list[Any],
    chosen: ColumnChoice, line: int,
) -> list[str]:  # fmt: skip
    """The texts of the chosen columns of a row."""
    if type(row) is not type(first):
        kinds = ["an array among objects", "objects"]
        if isinstance(first, list):
            kinds = ["an object among arrays", "arrays"]
        raise fault(file.place, kinds[0], f"write {kinds[1]} throughout", line)
    if isinstance(row, list) and len(row) != len(first):
        problem = f"an array of {len(row)} where {len(first)} are expected"
        raise fault(file.place, problem, "give each row as many cells as the first", line)
    keys: list[Any] = list(first) if isinstance(first, dict) else list(range(len(first)))
    cells = []
    for field, i in zip((*FIELDS, EXTRA), chosen.columns, strict=False):
        if isinstance(row, dict) and keys[i] not in row:
            shown = ", ".join(map(quoted, row))
            problem = f"the key {quoted(keys[i])} of the {field} is missing among {shown}"
            raise fault(file.place, problem, "add it, or remove the line", line)
        cell = row[keys[i]]
        if not isinstance(cell, str) or (isinstance(cell, _Fraction) and field != EXTRA):
            problem = f"the {field} is {_KINDS[type(cell)]}, not a text"
            raise fault(file.place, problem, "quote it, or remove the line", line)
        cells.append(cell)
    return cells
