"""Reads TSV and CSV: text whose columns are separated by one character.

TSV is exact: it has no quoting and no escapes. CSV is quoted by RFC 4180. Both are UTF-8, with or
without a byte order mark, with a row per line. Lines end with LF or CRLF; blank lines may stand at
the end only. There are no comments, numbers or missing values, and cells are not stripped. Only LF
ends a line, so U+2028, U+0085 and form feeds are part of a label.

The fast path works on bytes: in UTF-8 a tab, comma or line feed is never part of another
character, and only distinct labels need decoding. It only detects that a file has a fault;
`delimited_faults` then searches the lines for it. A CSV with quotes is read row by row.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from itertools import chain

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from kgtool.data.loaders.delimited_faults import (
    first_fault,
    not_utf8,
    start_of,
    unreadable,
    wrong_width,
)
from kgtool.data.loaders.header import COMMANDS, ColumnChoice, choose_columns
from kgtool.data.loaders.reading import Reading
from kgtool.data.loaders.rows import Rows, no_triples, rows_of, suspects, used
from kgtool.errors import fault
from kgtool.storage.compression import File

_CHUNK = 2**24
DELIMITERS = {"tsv": "\t", "csv": ","}


def read_delimited(file: File, reading: Reading, extra: str | None = None, skip: int = 0) -> Rows:
    """The triples of a TSV or CSV file.

    Args:
        file: the file; with the format `csv` it may be quoted.
        reading: the caller's options.
        extra: a further column whose texts to keep.
        skip: number of lines at the start to skip.

    Raises:
        DataError: for a file that is empty, is not UTF-8, or has a row that is not a triple; it
            names the first such line.
    """
    delimiter = reading.delimiter or DELIMITERS[file.format]
    damage = unreadable(file)
    if damage is not None:
        raise damage
    if file.format == "csv" and (b'"' in file.data or not delimiter.isascii()):
        return _read_quoted(file, delimiter, reading, extra)
    return _read_plain(file, delimiter.encode(), reading, extra, skip)


def _read_plain(
    file: File, delimiter: bytes, reading: Reading, extra: str | None, skip: int
) -> Rows:
    start, stop = _inner(file.data, skip)
    if start >= stop:
        raise no_triples(file.place)
    end = file.data.find(b"\n", start, stop)
    line = file.data[start : stop if end < 0 else end]
    line = line if end < 0 else line.removesuffix(b"\r")
    cells = line.split(delimiter)
    if not line or len(cells) < 3 or b"\r" in line or b"\0" in line:
        raise first_fault(file, delimiter, ColumnChoice((0, 1, 2), False), 3, skip)
    try:
        first = [cell.decode() for cell in cells]
    except UnicodeDecodeError:
        raise not_utf8(file, skip + 1, line) from None
    chosen = choose_columns(first, reading, extra, file.place, skip + 1)
    if chosen.header:
        skip += 1
        start = stop if end < 0 else end + 1
    if start >= stop:
        raise no_triples(file.place, "the file holds nothing but a header")
    try:
        parts = [
            _encoded(chunk, delimiter, len(cells)) for chunk in _chunks(file.data, start, stop)
        ]
        codes, labels = _merged(parts, len(cells), chosen.columns)
    except _NotTriples:
        raise first_fault(file, delimiter, chosen, len(cells), skip) from None
    numbers = np.arange(skip + 1, skip + 1 + len(codes))
    extra_texts = None
    if len(chosen.columns) == 4:
        extra_texts = tuple(labels.take(pa.array(codes[:, 3])).to_pylist())
        codes, labels = used(codes[:, :3], labels)
    if suspects(labels):
        raise first_fault(file, delimiter, chosen, len(cells), skip)
    notes = (chosen.note,) if chosen.note else ()
    return Rows(codes, labels, numbers, "line", extra_texts, notes)


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


def _read_quoted(file: File, delimiter: str, reading: Reading, extra: str | None) -> Rows:
    data = file.data[start_of(file.data) :]
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise not_utf8(file, line, data.split(b"\n", line)[line - 1]) from None
    if "\0" in text:
        line = text[: text.index("\0")].count("\n") + 1
        raise fault(file.place, "a NUL byte", "restore the file: it is damaged, or not text", line)
    rows = _quoted_rows(file, text, delimiter)
    line, first = next(rows, (1, []))
    if not first:
        raise no_triples(file.place)
    chosen = choose_columns(first, reading, extra, file.place, line)
    columns: list[list[str]] = [[] for _ in chosen.columns]
    numbers = []
    for number, cells in rows if chosen.header else chain([(line, first)], rows):
        if len(cells) != len(first):
            raise wrong_width(file, number, len(cells), len(first))
        numbers.append(number)
        for column, i in zip(columns, chosen.columns, strict=True):
            column.append(cells[i])
    if not numbers:
        raise no_triples(file.place, "the file holds nothing but a header")
    extra_texts = tuple(columns[3]) if len(columns) == 4 else None
    notes = (chosen.note,) if chosen.note else ()
    return rows_of(
        columns[:3], np.array(numbers), file.place, "line", extra=extra_texts, notes=notes
    )


def _quoted_rows(file: File, text: str, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """The rows of a CSV, each with the line on which it begins."""
    lines = csv.reader(io.StringIO(text, newline="\n"), delimiter=delimiter, strict=True)
    begun, blank = 1, None
    try:
        for cells in lines:
            if cells and blank is not None:
                raise fault(file.place, "a blank line", "remove the line, or restore it", blank)
            if cells:
                yield begun, cells
            else:
                blank = blank or begun
            begun = lines.line_num + 1
    except csv.Error as error:
        raise fault(
            file.place,
            f"invalid quotes ({error})",
            "close each quote and double the quotes inside a cell; or, for a file without "
            f"quoting, pass --format tsv {COMMANDS}",
            begun,
        ) from None
