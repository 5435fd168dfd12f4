"""The triples of a file, before there are ids: distinct labels, and three of them a row.

A label is any text that a cell of a TSV file can hold, since that is how a run keeps its
vocabulary: not empty, not blank, no tab, line end or NUL. It is otherwise exact.
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
# What may be no label; `problem_of` looks closer. RE2's \s is ASCII alone.
_SUSPECT = r"[\x00\t\r\n]|^[^!-~]*$"


@dataclass(frozen=True)
class Rows:
    """The triples of a file, duplicates kept.

    Args:
        codes: `(n, 3)` integers, positions in `labels`.
        labels: `LargeStringArray`, each used by a row; an entity and a relation may share one, or
            have it twice.
        numbers: `(n,)` int64, where each row stands in the file, from 1; rows are ascending.
        unit: what `numbers` count: `"line"`, `"row"` or `"statement"`.
        extra: `(n,)` texts of the extra column, if there is one.
        notes: what a user should know of how the file was read.
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
    """Why a text is no label, and the remedy; None for a label."""
    if not label or label.isspace():
        return f"{'a blank' if label else 'an empty'} {field}", "fill it in, or remove the line"
    for character, name in (
        ("\0", "NUL byte"),
        ("\t", "tab"),
        ("\n", "line end"),
        ("\r", "line end"),
    ):
        if character in label:
            remedy = f"put something else for the {name}: a label is a cell of a TSV file"
            return f"a {name} in the {field} {quoted(label)}", remedy
    return None


def suspects(labels: pa.LargeStringArray) -> list[int]:
    """The positions of the texts that are no labels."""
    found = np.flatnonzero(
        pc.match_substring_regex(labels, _SUSPECT).to_numpy(zero_copy_only=False)
    )
    return [i for i in found.tolist() if problem_of(labels[i].as_py(), "")]


def rows_of(
    columns: Sequence[Sequence[str] | pa.ChunkedArray],
    numbers: Ints,
    place: str,
    unit: str,
    extra: tuple[str, ...] | None = None,
    notes: tuple[str, ...] = (),
) -> Rows:
    """The rows of three columns of text.

    Args:
        columns: head, relation and tail, each `(n,)` texts or codes of texts, none of them null.
        numbers, unit, extra, notes: as in `Rows`.
        place: the file, for errors.

    Raises:
        DataError: for no rows, or a text that is no label; it names the first.
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
                f"half a character in the {field} {quoted(error.object)}",
                "write both halves of a surrogate pair",
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
    """The same rows, with those labels only that they use."""
    found = np.zeros(len(labels), dtype=np.bool_)
    found[codes] = True
    return (np.cumsum(found, dtype=np.int32) - 1)[codes], labels.filter(pa.array(found))


def no_triples(place: str, why: str = "the file is empty") -> DataError:
    """The error for a file without triples."""
    return fault(place, f"no triples: {why}", "put the triples there, one a line")
