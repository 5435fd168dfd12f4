"""The triples of a file before they have ids: distinct labels, and rows of three label codes.

A run stores its vocabulary as TSV, so a label is any text that fits a TSV cell: it is not empty or
blank, and has no tab, line end or NUL. Labels are otherwise taken exactly.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from kgtool.data.loaders.reading import FIELDS
from kgtool.errors import DataError, fault, quoted

Ints = NDArray[np.int64]
# Texts that may not be labels; `problem_of` decides. RE2's \s is ASCII only.
_SUSPECT = r"[\x00\t\r\n]|^[^!-~]*$"


@dataclass(frozen=True)
class Rows:
    """The triples of a file, including duplicates.

    Args:
        codes: `(n, 3)` integers, positions in `labels`.
        labels: `LargeStringArray`, each used by some row; the label of an entity and a relation may
            be one entry or two.
        numbers: `(n,)` int64, ascending: the number of each row in the file, from 1.
        unit: the unit of `numbers`: `"line"`, `"row"` or `"statement"`.
        extra: `(n,)` texts of the extra column, if there is one.
        notes: notes for the user on how the file was read.
    """

    codes: NDArray[np.integer]
    labels: pa.LargeStringArray
    numbers: Ints
    unit: str = "line"
    extra: tuple[str, ...] | None = None
    notes: tuple[str, ...] = ()

    def where(self, row: int) -> str:
        """The place of a row in its file, as in `line 12`."""
        return f"{self.unit} {self.numbers[row]}"


def problem_of(label: str, field: str) -> tuple[str, str] | None:
    """The reason why a text cannot be a label, and the remedy; None for a label."""
    if not label or label.isspace():
        return f"{'a blank' if label else 'an empty'} {field}", "fill it in, or remove the line"
    for character, name in (
        ("\0", "NUL byte"),
        ("\t", "tab"),
        ("\n", "line end"),
        ("\r", "line end"),
    ):
        if character in label:
            remedy = f"replace the {name}: a label must fit a cell of a TSV file"
            return f"a {name} in the {field} {quoted(label)}", remedy
    return None


def suspects(labels: pa.LargeStringArray) -> list[int]:
    """The positions of the texts that cannot be labels."""
    matches = np.flatnonzero(
        pc.match_substring_regex(labels, _SUSPECT).to_numpy(zero_copy_only=False)
    )
    return [i for i in matches.tolist() if problem_of(labels[i].as_py(), "")]


def rows_of(
    columns: Sequence[Sequence[str] | pa.ChunkedArray],
    numbers: Ints,
    place: str,
    unit: str,
    *,
    extra: tuple[str, ...] | None = None,
    notes: tuple[str, ...] = (),
) -> Rows:
    """The rows of three columns of text.

    Args:
        columns: head, relation and tail, each `(n,)` texts or codes of texts, without nulls.
        numbers, unit, extra, notes: as in `Rows`.
        place: the file, for errors.

    Raises:
        DataError: for no rows, or a text that cannot be a label; it names the first.
    """
    if not len(numbers):
        raise no_triples(place)
    chunks: list[pa.Array] = []
    for field, column in zip(FIELDS, columns, strict=True):
        if isinstance(column, pa.ChunkedArray):
            chunks += column.chunks
            continue
        try:
            chunks.append(pa.array(column, pa.large_string()).dictionary_encode())
        except UnicodeEncodeError as error:  # a lone surrogate; `object` is the text
            row = next(i for i, text in enumerate(column) if text == error.object)
            raise fault(
                f"{place}, {unit} {numbers[row]}",
                f"a lone surrogate in the {field} {quoted(error.object)}",
                "write both halves of the surrogate pair",
            ) from None
    parts = pa.chunked_array(chunks).unify_dictionaries().chunks
    codes = np.concatenate([part.indices.to_numpy() for part in parts]).reshape(3, -1).T
    rows = Rows(*used(codes, parts[-1].dictionary), numbers, unit, extra, notes)
    codes = rows.codes
    bad = suspects(rows.labels)
    if bad:
        row, column = np.argwhere(np.isin(codes, bad))[0].tolist()
        problem = problem_of(rows.labels[codes[row, column]].as_py(), FIELDS[column])
        assert problem is not None
        raise fault(f"{place}, {rows.where(row)}", *problem)
    return rows


def used(codes: NDArray[Any], labels: pa.Array) -> tuple[NDArray[np.int32], pa.Array]:
    """The same rows, without the labels that no row uses."""
    is_used = np.zeros(len(labels), dtype=np.bool_)
    is_used[codes] = True
    return (np.cumsum(is_used, dtype=np.int32) - 1)[codes], labels.filter(pa.array(is_used))


def no_triples(place: str, why: str = "the file is empty") -> DataError:
    """The error for a file without triples."""
    return fault(place, f"no triples: {why}", "write one triple per line")
