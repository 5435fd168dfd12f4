"""The triples of a file before they have ids: distinct labels, and rows of three label codes.

A run stores its vocabulary as TSV, so a label is any text that fits a TSV cell: it is not empty or
blank, and has no tab, line end or NUL. Labels are otherwise taken exactly.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from dataclasses import field as field_of
from itertools import compress
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from torch import Tensor

from kgtool.data.dataset import Vocabulary, labelled
from kgtool.data.loaders.reading import FIELDS
from kgtool.errors import DataError, fault, quoted

if TYPE_CHECKING:
    from kgtool.display import DataFrame

Ints = NDArray[np.int64]
MOST_VALUES = 2
# Texts that may not be labels; `problem_of` decides. RE2's \s is ASCII only.
_SUSPECT = r"[\x00\t\r\n]|^[^!-~]*$"


@dataclass(frozen=True)
class BadLine:
    """A line that `Reading.skip_bad_lines` left out.

    Attributes:
        file: the file.
        unit: what `number` counts, see `Rows.unit`; lines for RDF.
        number: the number of the line, from 1.
        problem: why it is not a triple.
    """

    file: str
    unit: str
    number: int
    problem: str

    def __str__(self) -> str:
        return f"{self.file}, {self.unit} {self.number}: {self.problem}"


@dataclass(frozen=True)
class Rows:
    """The triples of a file, including duplicates.

    Args:
        codes: `(n, 3)` integers, positions in `labels`.
        labels: `LargeStringArray`, each used by some row; the label of an entity and a relation may
            be one entry or two.
        numbers: `(n,)` int64, ascending: the number of each row in the file, from 1.
        unit: the unit of `numbers`: `"line"`, `"row"`, `"item"` or `"statement"`.
        extra: `(n,)` texts of each further column that the caller wants, by its name.
        notes: notes for the user on how the file was read.
        facts: `(n,)` bool, whether a row is a fact and not a negative; None if all are facts.
        left_out: the names of the columns that were not read.
        few: the left-out columns of at most `MOST_VALUES` distinct texts, each with these texts.
        guessed: whether neither the caller nor a header gave the columns.
        doubt: a note if the first row may be a header with unknown names, or an empty text.
        skipped: with `Reading.skip_bad_lines`, the number of each bad line and its problem.
        bad_lines: the same with the file; `kgtool.data.loaders.read` adds it.
        weights: `(n,)` float32, the weight of each row, above 0; None without a column of weights.
        times: `(n,)` texts, the time of each row; None if it was not asked for, or not there.
    """

    codes: NDArray[np.integer]
    labels: pa.LargeStringArray
    numbers: Ints
    unit: str = "line"
    extra: Mapping[str, tuple[str, ...]] = field_of(default_factory=dict)
    notes: tuple[str, ...] = ()
    facts: NDArray[np.bool_] | None = None
    left_out: tuple[str, ...] = ()
    few: Mapping[str, frozenset[str]] = field_of(default_factory=dict)
    guessed: bool = False
    doubt: str = ""
    skipped: tuple[tuple[int, str], ...] = ()
    bad_lines: tuple[BadLine, ...] = ()
    weights: NDArray[np.float32] | None = None
    times: tuple[str, ...] | None = None

    def select(self, mask: NDArray[np.bool_]) -> Rows:
        """The rows of a mask `(n,)`, without labels that none of them uses."""
        codes, labels = used(self.codes[mask], self.labels)
        extra = {name: tuple(compress(texts, mask)) for name, texts in self.extra.items()}
        facts = None if self.facts is None else self.facts[mask]
        weights = None if self.weights is None else self.weights[mask]
        return replace(
            self, codes=codes, labels=labels, numbers=self.numbers[mask], extra=extra, facts=facts,
            weights=weights,
            times=None if self.times is None else tuple(compress(self.times, mask)),
        )  # fmt: skip

    def where(self, row: int) -> str:
        """The place of a row in its file, as in `line 12`."""
        return f"{self.unit} {self.numbers[row]}"


@dataclass(frozen=True, eq=False)
class Triples:
    """Triples that do not belong to a split.

    Args:
        vocabulary: their labels, sorted by code point.
        triples: `(n, 3)` int64, in the order of the files, including duplicates.
        extra: name → `(n,)` texts, for the further columns.
        notes: notes for the user on how the files were read.
        negatives: `(m, 3)` int64, the rows that `Reading.truth` marks as no facts.
        left_out: the names of the columns that were not read.
        guessed: whether the columns of a file were neither the caller's nor named by a header.
        bad_lines: the lines that `Reading.skip_bad_lines` left out.
        weights: `(n,)` float32, the weight of each triple; None without a column of weights.
    """

    vocabulary: Vocabulary
    triples: Tensor
    extra: Mapping[str, tuple[str, ...]]
    notes: tuple[str, ...]
    negatives: Tensor
    left_out: tuple[str, ...] = ()
    guessed: bool = False
    bad_lines: tuple[BadLine, ...] = ()
    weights: Tensor | None = None

    def __len__(self) -> int:
        """Number of triples, duplicates included."""
        return len(self.triples)

    def __repr__(self) -> str:
        return f"Triples({len(self):,} triples, {self.vocabulary!r})"

    def to_frame(self) -> DataFrame:
        """The triples as labels, in `head`, `relation` and `tail`, and `weight` if they have it."""
        frame = labelled(self.triples, self.vocabulary)
        return frame if self.weights is None else frame.assign(weight=self.weights.numpy())


def weights_of(rows: Rows) -> NDArray[np.float32]:
    """`(n,)` float32: the weight of each row, 1 without a column of weights."""
    return np.ones(len(rows.codes), np.float32) if rows.weights is None else rows.weights


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
    skip_bad: bool = False,
    **others: Any,
) -> Rows:
    """The rows of three columns of text.

    Args:
        columns: head, relation and tail, each `(n,)` texts or codes of texts, without nulls.
        numbers, unit: as in `Rows`.
        place: the file, for errors.
        skip_bad: whether to leave out rows with a text that cannot be a label.
        others: further fields of `Rows`.

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
    rows = Rows(*used(codes, parts[-1].dictionary), numbers, unit, **others)
    bad = suspects(rows.labels)
    if not bad:
        return rows
    skipped = list(rows.skipped)
    wrong = np.isin(rows.codes, bad)
    keep: NDArray[np.bool_] = np.logical_not(wrong.any(axis=1))
    for row in np.flatnonzero(~keep).tolist():
        column = int(wrong[row].argmax())
        problem = problem_of(rows.labels[rows.codes[row, column]].as_py(), FIELDS[column])
        assert problem is not None
        if not skip_bad:
            raise fault(f"{place}, {rows.where(row)}", *problem)
        skipped.append((int(numbers[row]), problem[0]))
    if not keep.any():
        raise no_triples(place, "all lines are bad")
    return replace(rows.select(keep), skipped=tuple(sorted(skipped)))


def used(codes: NDArray[Any], labels: pa.Array) -> tuple[NDArray[np.int32], pa.Array]:
    """The same rows, without the labels that no row uses."""
    is_used = np.zeros(len(labels), dtype=np.bool_)
    is_used[codes] = True
    return (np.cumsum(is_used, dtype=np.int32) - 1)[codes], labels.filter(pa.array(is_used))


def no_triples(place: str, why: str = "the file is empty") -> DataError:
    """The error for a file without triples."""
    return fault(place, f"no triples: {why}", "write one triple per line")
