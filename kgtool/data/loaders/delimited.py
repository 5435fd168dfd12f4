"""Reads TSV and CSV: text whose columns are separated by one character.

TSV is exact: it has no quoting and no escapes, and its cells are not stripped. CSV is quoted by RFC
4180, and blanks around its cells are removed, with a note. Both are UTF-8, with or without a byte
order mark, with a row per line. Lines end with LF or CRLF; blank lines may stand at the end only.
There are no comments, numbers or missing values. Only LF ends a line, so U+2028, U+0085 and form
feeds are part of a label.

The fast path works on bytes: in UTF-8 a tab, comma or line feed is never part of another
character, and only distinct labels need decoding. It only detects that a file has a fault;
`delimited_faults` then searches the lines for it. A CSV with quotes is read row by row.
"""

from __future__ import annotations

import csv
import io
import re
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from kgtool.data.loaders.delimited_faults import (
    first_fault,
    not_utf8,
    sift,
    start_of,
    unreadable,
    wrong_width,
)
from kgtool.data.loaders.header import COMMANDS, ColumnChoice, choose_columns
from kgtool.data.loaders.reading import FIELDS, Reading
from kgtool.data.loaders.rows import (
    MOST_VALUES,
    Rows,
    no_triples,
    problem_of,
    rows_of,
    suspects,
    used,
)
from kgtool.errors import fault, quoted
from kgtool.storage.compression import File

_CHUNK = 2**24
DELIMITERS = {"tsv": "\t", "csv": ","}
_SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
LEAST = 10  # rows of a file whose first row may be an unknown header
_SAMPLE = 2**16  # bytes at the start of a file that show its delimiter
_SEP = re.compile(rb"sep=([^\r\n\"\0])\r?\n", re.IGNORECASE)  # the first line that Excel writes


@dataclass(frozen=True)
class Table:
    """How the text of a file is a table.

    Args:
        delimiter: the character between two cells.
        quoted: whether cells may be quoted and may have blanks around them, as in CSV.
        skip: number of lines at the start that are not rows.
        notes: for the user.
    """

    delimiter: str
    quoted: bool
    skip: int
    notes: tuple[str, ...] = ()


def read_delimited(file: File, reading: Reading, extra: Sequence[str] = (), skip: int = 0) -> Rows:
    """The triples of a TSV or CSV file.

    Without `reading.delimiter`, the first lines show it where they have none of the usual one.

    Args:
        file: the file; with the format `csv` it may be quoted.
        reading: the caller's options.
        extra: further columns whose texts to keep.
        skip: number of lines at the start to skip.

    Raises:
        DataError: for a file that is empty, is not UTF-8, or has a row that is not a triple; it
            names the first such line.
    """
    damage = unreadable(file)
    if damage is not None:
        raise damage
    table = table_of(file, reading, skip)
    if table.quoted and (b'"' in file.data or not table.delimiter.isascii()):
        rows = _read_quoted(file, table, reading, extra)
    else:
        rows = _read_plain(file, table, reading, extra)
    return replace(rows, notes=(*table.notes, *rows.notes))


def table_of(file: File, reading: Reading, skip: int, least: int = 2) -> Table:
    """How a file is a table: the delimiter is the caller's, or Excel's, or that of its rows.

    Args:
        file: the file.
        reading: the caller's options.
        skip: number of lines at the start to skip.
        least: the least number of delimiters in a row.
    """
    is_csv = file.format == "csv"
    begin = start_of(file.data)
    match = _SEP.match(file.data, begin) if skip == 0 else None
    if match is not None:
        skip, begin = 1, match.end()
        delimiter = reading.delimiter or match[1].decode(errors="replace")
        note = f"{file.place}: line 1 names the delimiter {delimiter!r}"
        return Table(delimiter, True, skip, (note,))
    own = DELIMITERS[file.format]
    if reading.delimiter is not None:
        return Table(reading.delimiter, is_csv, skip)
    start, stop = _inner(file.data, skip)
    sample = file.data[start : min(stop, start + _SAMPLE)].decode(errors="replace")
    lines = [line for line in sample.split("\n") if line.strip()]
    lines = lines[: max(1, len(lines) - (stop - start > _SAMPLE))]  # the last one may be cut
    cells = [re.sub(r'"[^"]*"', "", line) if is_csv else line for line in lines]
    fits = [mark for mark in (own, *_SEPARATORS) if cells and _separates(mark, cells, least)]
    if not cells or own in fits or (cells[0].count(own) >= least and not fits):
        return Table(own, is_csv, skip)
    if fits:
        note = f"{file.place}: the columns are separated by {_SEPARATORS[fits[0]]}"
        quoted = is_csv or (fits[0] != "\t" and reading.format is None)
        return Table(fits[0], quoted, skip, (note,))
    spaced = (line.rstrip("\r").split(" ") for line in cells)
    if own not in cells[0] and all(len(row) == 3 and all(row) for row in spaced):
        note = f"{file.place}: the columns are separated by spaces"
        return Table(" ", is_csv, skip, (note,))
    return Table(own, is_csv, skip)


def _separates(mark: str, lines: Sequence[str], least: int) -> bool:
    """Whether a character occurs as often in each line, and `least` times or more."""
    counts = {line.count(mark) for line in lines}
    return len(counts) == 1 and min(counts) >= least


def _read_plain(file: File, table: Table, reading: Reading, extra: Sequence[str]) -> Rows:
    delimiter, skip = table.delimiter.encode(), table.skip
    start, stop = _inner(file.data, skip)
    if start >= stop:
        raise no_triples(file.place)
    bad: list[tuple[int, str]] = []
    while True:
        end = file.data.find(b"\n", start, stop)
        line = file.data[start : stop if end < 0 else end]
        line = line if end < 0 else line.removesuffix(b"\r")
        cells = line.split(delimiter)
        if line and len(cells) >= 3 and b"\r" not in line and b"\0" not in line:
            break
        problem = first_fault(file, delimiter, ColumnChoice((0, 1, 2), False), 3, skip)
        if not reading.skip_bad_lines or end < 0:
            raise problem
        skip += 1
        bad.append((skip, problem.problem))
        start = end + 1
    try:
        first = [cell.decode() for cell in cells]
    except UnicodeDecodeError:
        raise not_utf8(file, skip + 1, line) from None
    first = [cell.strip() for cell in first] if table.quoted else first
    chosen = choose_columns(first, reading, extra, file.place, skip + 1)
    if chosen.header:
        skip += 1
        start = stop if end < 0 else end + 1
    if start >= stop:
        raise no_triples(file.place, "the file holds nothing but a header")
    data, numbers = file.data, None
    while True:
        try:
            parts = [_encoded(chunk, delimiter, len(cells)) for chunk in _chunks(data, start, stop)]
            codes, labels = _merged(parts, len(cells), chosen.columns)
            codes, labels, blanks = _stripped(codes, labels) if table.quoted else (codes, labels, 0)
            few = _few(parts, len(cells), chosen)
            extra_texts = {
                name: tuple(labels.take(pa.array(codes[:, i])).to_pylist())
                for i, name in enumerate(chosen.extra, 3)
            }
            if extra_texts:
                codes, labels = used(codes[:, :3], labels)
            if suspects(labels):
                raise _NotTriples
            break
        except _NotTriples:
            if numbers is not None or not reading.skip_bad_lines:
                raise first_fault(file, delimiter, chosen, len(cells), skip) from None
            data, numbers, wrong = sift(file, delimiter, chosen, len(cells), skip)
            bad += wrong
            start, stop = 0, len(data)
            if not len(numbers):
                raise no_triples(file.place, "all lines are bad") from None
    if numbers is None:
        numbers = np.arange(skip + 1, skip + 1 + len(codes))
    notes = (*chosen.notes, *_trimmed(file, blanks))
    if not table.quoted and pc.all(pc.match_substring_regex(labels, '^".*"$')).as_py():
        notes += (
            f"{file.place}: all labels are in quotes: if these are not part of the labels, pass "
            f"--format csv --delimiter {quoted(table.delimiter)} {COMMANDS}",
        )
    rows = Rows(
        codes, labels, numbers, "line", extra_texts, notes,
        left_out=tuple(chosen.left_out.values()), few=few, guessed=chosen.guessed,
        skipped=tuple(bad),
    )  # fmt: skip
    return _with_doubt(rows, chosen, file.place, reading)


def _with_doubt(rows: Rows, chosen: ColumnChoice, place: str, reading: Reading) -> Rows:
    """The rows, with a note if the first row may be a header with unknown names.

    The labels of such a row occur nowhere else in the file. In a short file this may be chance.
    """
    if reading.header is not None or chosen.header or len(rows.codes) < LEAST:
        return rows
    if any(np.count_nonzero(rows.codes == code) > 1 for code in rows.codes[0]):
        return rows
    first = [rows.labels[code].as_py() for code in rows.codes[0]]
    note = (
        f"{place}, {rows.where(0)} was read as a triple, but {', '.join(map(quoted, first))} occur "
        f"nowhere else: if they are column names, pass --header {COMMANDS}"
    )
    return replace(rows, notes=(*rows.notes, note), doubt=note)


def _few(
    parts: Sequence[pa.DictionaryArray], width: int, chosen: ColumnChoice
) -> dict[str, frozenset[str]]:
    """The texts of each left-out column that has at most `MOST_VALUES` of them."""
    few = {}
    for i, name in chosen.left_out.items():
        values: set[bytes] = set()
        for part in parts:
            column = part.indices.to_numpy()[i::width]
            # most columns show at their start that they have many values
            if len(np.unique(column[:1000])) <= MOST_VALUES:
                values |= set(part.dictionary.take(pa.array(np.unique(column))).to_pylist())
            else:
                break
            if len(values) > MOST_VALUES:
                break
        else:
            if len(values) <= MOST_VALUES:
                texts = (value[:-1].decode(errors="replace").strip() for value in values)
                few[name] = frozenset(texts)
    return few


def _stripped(
    codes: NDArray[np.int32], labels: pa.LargeStringArray
) -> tuple[NDArray[np.int32], pa.LargeStringArray, int]:
    """The cells without blanks around them, and the number of labels' cells that had some."""
    stripped = pc.utf8_trim_whitespace(labels)
    changed = pc.not_equal(stripped, labels).to_numpy(zero_copy_only=False)
    if not changed.any():
        return codes, labels, 0
    encoded = stripped.dictionary_encode()
    blanks = int(np.count_nonzero(changed[codes[:, :3]]))
    return encoded.indices.to_numpy()[codes], encoded.dictionary, blanks


def _trimmed(file: File, blanks: int) -> tuple[str, ...]:
    """A note on the cells whose blanks were removed, if there are any."""
    cells = "cell" if blanks == 1 else "cells"
    return (f"{file.place}: blanks around {blanks:,} {cells} removed",) if blanks else ()


class _NotTriples(Exception):
    """The fast path met something that is not a triple."""


def _inner(data: bytes, skip: int) -> tuple[int, int]:
    """Where the rows begin, behind the byte order mark and `skip` lines, and where they end."""
    start, stop = start_of(data), len(data)
    while data.endswith(b"\n", start, stop):
        stop -= 2 if data.endswith(b"\r\n", start, stop) else 1
    for _ in range(skip):
        end = data.find(b"\n", start, stop)
        start = stop if end < 0 else end + 1
    return start, stop


def _chunks(data: bytes, start: int, stop: int) -> Iterator[bytes]:
    """Whole lines, each ended by LF."""
    while start < stop:
        end = data.find(b"\n", min(start + _CHUNK, stop), stop)
        end = stop if end < 0 else end
        chunk = data[start:end].replace(b"\r\n", b"\n")
        yield (chunk[:-1] if end < stop and chunk.endswith(b"\r") else chunk) + b"\n"
        start = end + 1


def _encoded(chunk: bytes, delimiter: bytes, width: int) -> pa.DictionaryArray:
    """The cells of whole lines, row by row, each with the delimiter behind it."""
    others = bytes(sorted(set(range(256)) - set(delimiter + b"\n\r\0")))
    row = delimiter * (width - 1) + b"\n"
    marks = chunk.translate(None, others)
    if marks != row * (len(marks) // len(row)):
        raise _NotTriples
    cells = chunk.replace(b"\n", delimiter)
    ends = np.flatnonzero(np.frombuffer(cells, np.uint8) == delimiter[0]) + 1
    offsets = np.concatenate([[0], ends])
    buffers = [None, pa.py_buffer(offsets), pa.py_buffer(cells)]
    return pa.LargeBinaryArray.from_buffers(
        pa.large_binary(), len(ends), buffers
    ).dictionary_encode()


def _merged(
    parts: list[pa.DictionaryArray], width: int, columns: tuple[int, ...]
) -> tuple[NDArray[np.int32], pa.LargeStringArray]:
    """The chosen columns of all chunks: `(n, columns)` codes, and the labels that they use."""
    shared = pa.chunked_array([part.dictionary for part in parts]).dictionary_encode().chunks
    codes = np.empty((sum(len(part) for part in parts) // width, len(columns)), np.int32)
    row = 0
    for part, new in zip(parts, shared, strict=True):
        of_part = part.indices.to_numpy().reshape(-1, width)[:, columns]
        codes[row : row + len(of_part)] = new.indices.to_numpy()[of_part]
        row += len(of_part)
    codes, cells = used(codes, shared[-1].dictionary)
    try:
        return codes, pc.binary_slice(cells, 0, -1).cast(pa.large_string())
    except pa.ArrowInvalid:
        raise _NotTriples from None


def _read_quoted(file: File, table: Table, reading: Reading, extra: Sequence[str]) -> Rows:
    data = file.data[_inner(file.data, table.skip)[0] :]
    skip_bad = reading.skip_bad_lines
    try:
        text = data.decode(errors="surrogateescape" if skip_bad else "strict")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        part = data.split(b"\n", line)[line - 1]
        raise not_utf8(file, table.skip + line, part) from None
    if "\0" in text:
        line = table.skip + text[: text.index("\0")].count("\n") + 1
        raise fault(file.place, "a NUL byte", "restore the file: it is damaged, or not text", line)
    rows = _quoted_rows(file, text, table, skip_bad)
    line, first = next(rows, (1, []))
    if not first:
        raise no_triples(file.place)
    first = [cell.strip() for cell in first]
    chosen = choose_columns(first, reading, extra, file.place, line)
    columns: list[list[str]] = [[] for _ in chosen.columns]
    numbers, blanks = [], 0
    skipped: list[tuple[int, str]] = []
    few: dict[int, set[str]] = {i: set() for i in chosen.left_out}
    for number, cells in rows if chosen.header else chain([(line, first)], rows):
        if len(cells) != len(first):
            wrong = wrong_width(file, number, len(cells), len(first))
            if not skip_bad:
                raise wrong
            skipped.append((number, wrong.problem))
            continue
        stripped = [cells[i].strip() for i in chosen.columns]
        problem = _bad(stripped) if skip_bad else None
        if problem is not None:
            skipped.append((number, problem))
            continue
        numbers.append(number)
        blanks += sum(
            cells[i] != cell for i, cell in zip(chosen.columns[:3], stripped, strict=False)
        )
        for column, cell in zip(columns, stripped, strict=True):
            column.append(cell)
        for i in [i for i, values in few.items() if not _add(values, cells[i].strip())]:
            del few[i]
    if not numbers:
        why = "all lines are bad" if skipped else "the file holds nothing but a header"
        raise no_triples(file.place, why)
    found = rows_of(
        columns[:3], np.array(numbers), file.place, "line",
        extra={name: tuple(column) for name, column in zip(chosen.extra, columns[3:], strict=True)},
        notes=(*chosen.notes, *_trimmed(file, blanks)),
        left_out=tuple(chosen.left_out.values()),
        few={chosen.left_out[i]: frozenset(values) for i, values in few.items()},
        guessed=chosen.guessed, skipped=tuple(skipped),
    )  # fmt: skip
    return _with_doubt(found, chosen, file.place, reading)


def _add(values: set[str], cell: str) -> bool:
    """Add a text; whether there are still at most `MOST_VALUES`."""
    values.add(cell)
    return len(values) <= MOST_VALUES


def _bad(cells: Sequence[str]) -> str | None:
    """The problem of the first three cells of a row, if they are not a triple."""
    for field, cell in zip(FIELDS, cells, strict=False):
        wrong = problem_of(cell, field)
        if wrong is not None:
            return wrong[0]
    if any("\ud800" <= character <= "\udfff" for cell in cells for character in cell):
        return "not UTF-8"
    return None


def _quoted_rows(
    file: File, text: str, table: Table, skip_bad: bool
) -> Iterator[tuple[int, list[str]]]:
    """The rows of a CSV, each with the line on which it begins."""
    lines = csv.reader(
        io.StringIO(text, newline="\n"), delimiter=table.delimiter, strict=True,
        skipinitialspace=table.delimiter != " ",
    )  # fmt: skip
    begun, blank = 1, None
    try:
        for cells in lines:
            if cells and blank is not None and not skip_bad:
                raise fault(
                    file.place, "a blank line", "remove the line, or restore it", table.skip + blank
                )
            if cells:
                yield table.skip + begun, cells
            else:
                blank = blank or begun
            begun = lines.line_num + 1
    except csv.Error as error:
        raise fault(
            file.place,
            f"invalid quotes ({error})",
            "close each quote and double the quotes inside a cell; or, for a file without "
            f"quoting, pass --format tsv --delimiter {shlex.quote(table.delimiter)} {COMMANDS}",
            table.skip + begun,
        ) from None
