"""Finds the first fault of a TSV or CSV file; slow, used only for a file that has one."""

from __future__ import annotations

import io
from collections.abc import Iterator
from itertools import chain, repeat

import numpy as np
from numpy.typing import NDArray

from kgtool.data.loaders.header import COMMANDS, ColumnChoice, or_skip
from kgtool.data.loaders.reading import FIELDS
from kgtool.data.loaders.rows import problem_of
from kgtool.errors import DataError, fault, quoted
from kgtool.storage.compression import File

_FURTHER = "further column"
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_NAMES = {b"\t": "tabs", b",": "commas", b";": "semicolons", b"|": "bars", b" ": "spaces"}
# The first bytes of binary files.
_MAGIC = (
    (b"\x1f\x8b", "compressed twice by gzip", "decompress it"),
    (b"BZh91AY&SY", "compressed twice by bzip2", "decompress it"),
    (b"\xfd7zXZ\0", "compressed twice by xz", "decompress it"),
    (b"\x28\xb5\x2f\xfd", "compressed twice by zstd", "decompress it"),
    (b"PK\x03\x04", "a zip archive", "let its name end in .zip"),
    (
        b"PAR1",
        "a Parquet file",
        f"let its name end in .parquet, or pass --format parquet {COMMANDS}",
    ),
)


def start_of(data: bytes) -> int:
    """The position of the text, after a byte order mark."""
    return len(_BYTE_ORDER_MARK) if data.startswith(_BYTE_ORDER_MARK) else 0


def unreadable(file: File) -> DataError | None:
    """The error for a file whose first bytes are not those of UTF-8 text."""
    if file.data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return fault(file.place, "UTF-16 where UTF-8 is expected", "save it as UTF-8", 1)
    for magic, problem, remedy in _MAGIC:
        if file.data.startswith(magic):
            return fault(file.place, f"{problem}, not text", remedy)
    return None


def not_utf8(file: File, line: int, text: bytes) -> DataError:
    """The error for a line that is not UTF-8."""
    try:
        text.decode()
    except UnicodeDecodeError as error:
        problem = f"not UTF-8: byte 0x{text[error.start]:02x} in {quoted(text)}"
        return fault(file.place, problem, "save the file as UTF-8", line)
    raise AssertionError(f"{file.place}: line {line} is UTF-8")


def first_fault(
    file: File, delimiter: bytes, chosen: ColumnChoice, width: int, skip: int
) -> DataError:
    """The error for the first line that is not a triple.

    Args:
        file: the file.
        delimiter: the separator of the columns.
        chosen: the columns of head, relation and tail.
        width: the number of columns.
        skip: number of lines at the start to skip.
    """
    for number, _, problem in _lines(file, delimiter, chosen, width, skip):
        if problem is not None:
            error = fault(file.place, *problem, line=number)
            return or_skip(error) if number > skip + 1 else error
    raise AssertionError(f"{file.place}: no fault found")


def sift(
    file: File, delimiter: bytes, chosen: ColumnChoice, width: int, skip: int
) -> tuple[bytes, NDArray[np.int64], list[tuple[int, str]]]:
    """The lines that are triples, their numbers, and the number and problem of each other line.

    The arguments are those of `first_fault`.
    """
    good, numbers, bad = [], [], []
    for number, line, problem in _lines(file, delimiter, chosen, width, skip):
        if problem is None:
            good.append(line)
            numbers.append(number)
        else:
            bad.append((number, problem[0]))
    return b"\n".join(good), np.array(numbers, np.int64), bad


def _lines(
    file: File, delimiter: bytes, chosen: ColumnChoice, width: int, skip: int
) -> Iterator[tuple[int, bytes, tuple[str, str] | None]]:
    """The number of each line, the line, and its problem with a remedy, if it has one."""
    blanks: list[int] = []  # allowed at the end of a file only
    for number, ended in enumerate(io.BytesIO(file.data), 1):
        line = ended[start_of(ended) :] if number == 1 else ended
        if number <= skip:
            continue
        if line.endswith(b"\n"):
            line = line[:-2] if line.endswith(b"\r\n") else line[:-1]
        if not line:
            blanks.append(number)
            continue
        for blank in blanks:
            yield blank, b"", ("a blank line", "remove the line, or restore it")
        blanks.clear()
        yield number, line, _problem(line, delimiter, chosen.columns, width)


def wrong_width(file: File, line: int, count: int, width: int) -> DataError:
    """The error for a row of a quoted CSV that has more or fewer cells than the first."""
    problem = f"{_columns(count)} where {width} are expected, as in the first row"
    remedy = "quote cells that contain the delimiter, or add the missing cells"
    return or_skip(fault(file.place, problem, remedy, line))


def _problem(
    line: bytes, delimiter: bytes, columns: tuple[int, ...], width: int
) -> tuple[str, str] | None:
    """The problem of a line that is not blank, and the remedy; None for a triple."""
    shown = quoted(line)
    if b"\0" in line:
        return f"a NUL byte: {shown}", "restore the file: it is damaged, or not text"
    if b"\r" in line:
        return (
            f"a carriage return without a line feed: {shown}",
            "end the lines by LF or CRLF, and keep carriage returns out of labels",
        )
    cells = line.split(delimiter)
    if len(cells) != width:
        expected = f"{width} are expected, as in the first line"
        if width == 3:
            separator = _NAMES.get(delimiter, quoted(delimiter))
            expected = f"3 are expected (head, relation, tail, separated by {separator})"
        problem = f"{_columns(len(cells))} where {expected}: {shown}"
        return problem, _column_remedy(line, cells, delimiter, width)
    for field, i in zip(chain(FIELDS, repeat(_FURTHER)), columns, strict=False):
        cell = cells[i]
        try:
            label = cell.decode()
        except UnicodeDecodeError as error:
            return (
                f"not UTF-8: byte 0x{cell[error.start]:02x} in the {field} {quoted(cell)}",
                "save the file as UTF-8",
            )
        fault_of_label = None if field == _FURTHER else problem_of(label, field)
        if fault_of_label is not None:
            problem, remedy = fault_of_label
            return problem if label.strip() else f"{problem}: {shown}", remedy
    return None


def _columns(count: int) -> str:
    return "1 column" if count == 1 else f"{count} columns"


def _column_remedy(line: bytes, cells: list[bytes], delimiter: bytes, width: int) -> str:
    name = _NAMES.get(delimiter, quoted(delimiter))
    if len(cells) == 1:
        for separator, other in _NAMES.items():
            if separator not in (delimiter, b" ") and line.count(separator) >= 2:
                return (
                    f"separate the columns by {name}, not {other}, or pass --delimiter "
                    f"{quoted(separator)} {COMMANDS}"
                )
        if len(line.split()) == 3:
            return f"separate the columns by {name}, not spaces"
    if len(cells) > width and not cells[-1]:
        return f"remove the {name} at the end of the line"
    if len(cells) > width:
        return f"keep the first {width} columns only, and {name} out of labels"
    return f"give the line a head, a relation and a tail, separated by single {name}"
