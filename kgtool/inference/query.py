"""Parses queries: a triple of labels with a `?` in place of the answer."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from kgtool.data.labels import LabelIndex
from kgtool.data.loaders.cells import cells_of, is_missing
from kgtool.data.loaders.reading import FIELDS
from kgtool.errors import DataError, fault, quoted

# Marks the missing part of a query. In Python, None and NaN mark it too.
ASKED = "?"
# Errors of a file that name the nearest label.
HINTS = 3
EXAMPLES = "HEAD RELATION ?, ? RELATION TAIL, HEAD ? TAIL, or HEAD r1/r2 ?"


@dataclass(frozen=True)
class Question:
    """A query for a head, a relation or a tail.

    Attributes:
        asked: the position of the `?`.
        head, tail: entity ids; -1 at the `?`.
        path: relation ids from head to tail, inverses included; empty if the relation is asked.
    """

    asked: Literal["head", "relation", "tail"]
    head: int
    path: tuple[int, ...]
    tail: int

    def walked(self, num_relations: int) -> tuple[int, tuple[int, ...]]:
        """The given entity, and the relation ids of the path from it to the answers."""
        if self.asked == "tail":
            return self.head, self.path
        return self.tail, tuple((r + num_relations) % (2 * num_relations) for r in self.path[::-1])


def questions_of(head: Any, relation: Any = None, tail: Any = None) -> list[tuple[Any, ...]]:
    """The queries that a caller asks: one by its parts, or many in place of the head.

    Args:
        head: a label, or `?`, None or NaN for the missing part of the query. Or many queries: a
            list, a data frame, dictionaries.
        relation, tail: as a single head; None with many queries.

    Returns:
        A head, a relation and a tail for each query, for `parse_question`.

    Raises:
        DataError: for columns or rows that are not queries.
    """
    if is_missing(head) or isinstance(head, (str, int, np.integer)):
        return [(head, relation, tail)]
    if relation is not None or tail is not None:
        raise DataError(
            "relation and tail do not go with many queries, which hold them. Remedy: give them in "
            "each query, and other arguments by name, such as top=5."
        )
    if getattr(head, "shape", None) == (3,) and not hasattr(head, "index"):
        head = head.tolist()  # an array
    if isinstance(head, (tuple, list)) and len(head) == 3 and all(map(_is_part, head)):
        return [tuple(head)]
    return list(zip(*cells_of(head, "queries", partial=True).columns, strict=True))


def _is_part(value: Any) -> bool:
    return is_missing(value) or isinstance(value, (str, int, np.integer))


def written(parts: Sequence[Any]) -> list[Any]:
    """A query with `?` in place of an empty text or a missing value, and as the tail of two."""
    parts = [ASKED if is_missing(part) or part == "" else part for part in parts]
    return [*parts, ASKED] if len(parts) == 2 and ASKED not in parts else parts


def parse_question(parts: Sequence[Any], labels: LabelIndex, *, hint: bool = True) -> Question:
    """Parse head, relation and tail: two labels and one `?`. The relation may be a path.

    Args:
        parts: an empty or missing part is a `?`; of two labels, the tail is missing.
        labels: the known labels.
        hint: whether an error names the nearest entity, see `LabelIndex.entity`.

    Raises:
        DataError: unless one of three parts is asked for; for an unknown label.
    """
    parts = written(parts)
    if len(parts) != 3 or parts.count(ASKED) != 1:
        shown = " ".join(quoted(str(part)) for part in parts)
        raise DataError(
            f"{shown} is not a query with one '?'. Remedy: write {EXAMPLES}, and quote the '?'."
        )
    head, relation, tail = parts
    if relation == ASKED:
        return Question("relation", labels.entity(head, hint), (), labels.entity(tail, hint))
    path = labels.path(relation)
    if head == ASKED:
        return Question("head", -1, path, labels.entity(tail, hint))
    return Question("tail", labels.entity(head, hint), path, -1)


class PathTriple(NamedTuple):
    """A triple whose relation is a path of several: ids, and its row."""

    row: int
    head: int
    path: tuple[int, ...]
    tail: int


@dataclass(frozen=True, eq=False)
class ParsedTriples:
    """Triples of labels, read as far as the labels are known.

    Attributes:
        texts: `n` triples as given, cells that are missing as empty texts.
        ids: `(m, 3)` int64 ids of the triples with one relation, relations inverses included.
        row: `(m,)` int64, ascending: their rows in `texts`.
        paths: the triples with a path of several relations.
        reasons: `n` texts: why a triple has no ids; empty if it has.
    """

    texts: list[tuple[str, str, str]]
    ids: Tensor
    row: Tensor
    paths: list[PathTriple]
    reasons: list[str]


def parse_triples(rows: Iterable[Sequence[object]], labels: LabelIndex) -> ParsedTriples:
    """Parse triples of labels or readable names; the relation may be `^r`, or a path `r1/r2`.

    A cell is a text, or an integer that stands for its digits. A triple with any other cell, or
    with an unknown label, gets a reason in place of ids.

    Raises:
        DataError: for a row that does not have three cells.
    """
    texts, ids, row, paths, reasons = [], [], [], [], []
    for number, cells in enumerate(rows):
        if isinstance(cells, str) or len(cells) != 3:
            raise fault(
                f"row {number + 1}", f"{quoted(str(cells))} is not a triple",
                "give head, relation and tail",
            )  # fmt: skip
        head, relation, tail = (_cell(cell) for cell in cells)
        texts.append((head, relation, tail))
        try:
            h, path, t = _ids_of(texts[-1], labels, hint=False)
        except DataError as error:
            reasons.append(str(error).partition(". Remedy: ")[0])
            continue
        reasons.append("")
        if len(path) > 1:
            paths.append(PathTriple(number, h, path, t))
            continue
        ids.append((h, *path, t))
        row.append(number)
    found = torch.tensor(ids, dtype=torch.long).view(-1, 3)
    return ParsedTriples(texts, found, torch.tensor(row, dtype=torch.long), paths, reasons)


def refusal(triple: Sequence[str], labels: LabelIndex, place: str | None) -> DataError:
    """The error for a triple that `parse_triples` gave a reason, with the nearest label."""
    try:
        _ids_of(triple, labels, hint=True)
    except DataError as error:
        return error if place is None else DataError(f"{place}: {error}")
    raise ValueError("the triple has no fault")


def _ids_of(
    triple: Sequence[str], labels: LabelIndex, hint: bool
) -> tuple[int, tuple[int, ...], int]:
    """The ids of a triple of labels: of the head, of the relations from it, of the tail."""
    for text, field in zip(triple, FIELDS, strict=True):
        if not text.strip():
            raise DataError(f"no {field}. Remedy: fill it in.")
    head, relation, tail = triple
    return labels.entity(head, hint), labels.path(relation, hint), labels.entity(tail, hint)


def is_label(cell: object) -> bool:
    """Whether a cell is a label: a text, or an integer that stands for its digits."""
    return isinstance(cell, (str, int, np.integer)) and not isinstance(cell, bool)


def _cell(cell: object) -> str:
    """A label as a text; empty for a missing value."""
    return str(cell) if is_label(cell) else ""


@dataclass(frozen=True, eq=False)
class ParsedQuestions:
    """Queries, read as far as their labels are known.

    Attributes:
        texts: all queries as given.
        questions: those that can be answered.
        number: the number of each of these in `texts`, ascending.
        reasons: number of any other query → its place and the reason.
    """

    texts: list[list[str]]
    questions: list[Question]
    number: list[int]
    reasons: dict[int, str]


def parse_questions(
    lines: Iterable[str], place: str, labels: LabelIndex, strict: bool = False
) -> ParsedQuestions:
    """Parse lines of three texts, separated by tabs; blank lines are skipped.

    Args:
        lines: the lines.
        place: the file, for errors.
        labels: the known labels.
        strict: refuse all queries if one cannot be answered.

    Raises:
        DataError: for no query that can be answered, naming the place and the first line; if
            `strict`, for the first query that cannot.
    """
    found = ParsedQuestions([], [], [], {})
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        cells = written(line.removesuffix("\r").split("\t"))
        found.texts.append(cells)
        try:
            # Finding the nearest label takes long: only for the first few.
            question = parse_question(cells, labels, hint=len(found.reasons) < HINTS)
        except DataError as error:
            if strict:
                raise DataError(f"{place}, line {number}: {error}") from None
            found.reasons[len(found.texts) - 1] = f"{place}, line {number}: {error}"
            continue
        found.questions.append(question)
        found.number.append(len(found.texts) - 1)
    if not found.texts:
        raise fault(place, "no queries", f"write one per line, with tabs: {EXAMPLES}")
    if not found.questions:
        raise DataError(found.reasons[0])
    return found


def read_lines(path: str | Path) -> list[str]:
    """The lines of a UTF-8 file, or of the standard input for `-`.

    Raises:
        DataError: if it cannot be read or is not UTF-8.
    """
    try:
        data = sys.stdin.buffer.read() if str(path) == "-" else Path(path).read_bytes()
        return data.decode("utf-8-sig").split("\n")
    except OSError as error:
        raise fault(path, f"cannot be read ({error.strerror})", "check the file") from error
    except UnicodeDecodeError as error:
        raise fault(path, "not UTF-8", "save it as UTF-8") from error
