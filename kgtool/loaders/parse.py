"""Turns the bytes of split files into columns of label codes.

A file is UTF-8, with or without a byte order mark, one triple a line: head, relation and tail
separated by tabs, lines ended by LF or CRLF. Labels are exact: no quoting, no escapes, no
comments, no numbers, no missing values, no stripping. Only LF ends a line, so U+2028, U+0085 and
form feeds are part of a label.

The fast path works on bytes: in UTF-8 a tab or line feed is never part of another character, and
only distinct labels need decoding. It says no more than that a file is sound; where it is not,
`first_fault` walks the lines.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from kgtool.errors import DataError
from kgtool.loaders.faults import fault, quoted
from kgtool.loaders.sources import SplitFile

_CHUNK = 2**22
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_LABEL_BYTES = bytes(sorted(set(range(256)) - set(b"\t\n\r\0")))
_FIELDS = ("head", "relation", "tail")
_EXPECTED = "3 are expected (head, relation, tail, separated by tabs)"


class _Codes(dict[bytes, int]):
    """Consecutive codes for labels, in the order in which they are first asked for."""

    def __missing__(self, label: bytes) -> int:
        code = self[label] = len(self)
        return code


class TripleReader:
    """Reads split files; entities and relations have the same codes in all of them.

    Attributes:
        entities, relations: the labels seen so far, by code.
    """

    def __init__(self) -> None:
        """Starts without labels."""
        self.entities: list[str] = []
        self.relations: list[str] = []
        self._entity_codes = _Codes()
        self._relation_codes = _Codes()

    def read(self, file: SplitFile) -> NDArray[np.int64]:
        """The triples of a file.

        Returns:
            `(n, 3)` int64 codes in head, relation, tail order; row `i` is line `i + 1`.

        Raises:
            DataError: for a file that is empty, is not UTF-8, or has a line that is not three
                labels; it names the first such line.
        """
        try:
            columns = [self._codes_of(chunk) for chunk in _chunks(file.data)]
            self.entities += _decoded(self._entity_codes, len(self.entities))
            self.relations += _decoded(self._relation_codes, len(self.relations))
        except _NotTriples:
            raise first_fault(file) from None
        if not columns:
            raise _empty(file)
        codes: NDArray[np.int64] = np.concatenate(columns, axis=1).T.copy()
        return codes

    def _codes_of(self, chunk: bytes) -> NDArray[np.int64]:
        """`(3, n)` codes of whole lines, each ended by LF but for the last."""
        count = chunk.count(b"\n") + 1
        # what is left of a chunk of triples when its labels are taken out
        if chunk.translate(None, _LABEL_BYTES) != b"\n".join([b"\t\t"] * count):
            raise _NotTriples
        cells = chunk.replace(b"\n", b"\t").split(b"\t")
        tables = (self._entity_codes, self._relation_codes, self._entity_codes)
        columns = np.empty((3, count), dtype=np.int64)
        for i, codes in enumerate(tables):
            columns[i] = np.fromiter(map(codes.__getitem__, cells[i::3]), np.int64, count)
        return columns


class _NotTriples(Exception):
    """The fast path met something that is not a triple."""


def _chunks(data: bytes) -> Iterator[bytes]:
    """Whole lines, joined by LF, of a file without its byte order mark and last line ends."""
    start = _start(data)
    stop = len(data)
    while data.endswith(b"\n", start, stop):
        stop -= 2 if data.endswith(b"\r\n", start, stop) else 1
    while start < stop:
        end = data.find(b"\n", min(start + _CHUNK, stop), stop)
        end = stop if end < 0 else end
        chunk = data[start:end]
        yield (chunk[:-1] if end < stop and chunk.endswith(b"\r") else chunk).replace(
            b"\r\n", b"\n"
        )
        start = end + 1


def _decoded(codes: _Codes, known: int) -> list[str]:
    """The labels from code `known` on."""
    try:
        labels = [label.decode() for label in islice(codes, known, None)]
    except UnicodeDecodeError:
        raise _NotTriples from None
    if any(not label or label.isspace() for label in labels):
        raise _NotTriples
    return labels


def first_fault(file: SplitFile) -> DataError:
    """The error for the first line that is not a triple; slow, for a file that has one."""
    data = file.data
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return fault(file.place, "UTF-16 where UTF-8 is expected", "save it as UTF-8", 1)
    blank: int | None = None
    for number, ended in enumerate(io.BytesIO(data), 1):
        line = ended[_start(data) :] if number == 1 else ended
        if line.endswith(b"\n"):
            line = line[:-2] if line.endswith(b"\r\n") else line[:-1]
        if not line:
            blank = blank or number
            continue
        if blank is not None:
            # sound at the end of a file only
            return fault(file.place, "a blank line", "remove the line, or restore it", blank)
        problem = _problem(line)
        if problem is not None:
            return fault(file.place, *problem, line=number)
    raise AssertionError(f"{file.place}: no fault found")


def _problem(line: bytes) -> tuple[str, str] | None:
    """What is wrong with a line that is not blank, and the remedy; None for a triple."""
    shown = quoted(line)
    if b"\0" in line:
        return f"a NUL byte: {shown}", "restore the file: it is damaged, or not text"
    if b"\r" in line:
        return (
            f"a carriage return without a line feed: {shown}",
            "end the lines by LF or CRLF, and keep carriage returns out of labels",
        )
    cells = line.split(b"\t")
    if len(cells) != 3:
        columns = "1 column" if len(cells) == 1 else f"{len(cells)} columns"
        return f"{columns} where {_EXPECTED}: {shown}", _column_remedy(line, cells)
    for i, field in enumerate(_FIELDS):
        cell = cells[i]
        try:
            label = cell.decode()
        except UnicodeDecodeError as error:
            return (
                f"not UTF-8: byte 0x{cell[error.start]:02x} in the {field} {quoted(cell)}",
                "save the file as UTF-8",
            )
        if not label or label.isspace():
            kind = "a blank" if label else "an empty"
            return f"{kind} {field}: {shown}", "fill it in, or remove the line"
    return None


def _column_remedy(line: bytes, cells: list[bytes]) -> str:
    if len(cells) == 1:
        for separator, name in ((b",", "commas"), (b";", "semicolons"), (b"|", "bars")):
            if line.count(separator) == 2:
                return f"separate the columns by tabs, not {name}"
        if len(line.split()) == 3:
            return "separate the columns by tabs, not spaces"
    if len(cells) > 3 and not cells[-1]:
        return "remove the tabs at the end of the line"
    if len(cells) > 3:
        return "keep the first three columns only, and tabs out of labels"
    return "give the line a head, a relation and a tail, separated by single tabs"


def _empty(file: SplitFile) -> DataError:
    return fault(
        file.place,
        "no triples: the file is empty",
        f"put the triples of the {file.split} split there, one a line",
    )


def _start(data: bytes) -> int:
    return len(_BYTE_ORDER_MARK) if data.startswith(_BYTE_ORDER_MARK) else 0
