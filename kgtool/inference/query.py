"""Parses queries: a triple of labels with a `?` in place of the answer."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from kgtool.data.labels import LabelIndex
from kgtool.errors import DataError, fault, quoted

ASKED = "?"
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


def parse_question(parts: Sequence[str], labels: LabelIndex) -> Question:
    """Parse three texts: labels, and one `?`. The relation may be a path.

    Raises:
        DataError: unless there are three texts with one `?`; for an unknown label.
    """
    if len(parts) != 3 or list(parts).count(ASKED) != 1:
        shown = " ".join(map(quoted, parts))
        raise DataError(
            f"{shown} is not a query with one '?'. Remedy: write {EXAMPLES}, and quote the '?'."
        )
    head, relation, tail = parts
    if relation == ASKED:
        return Question("relation", labels.entity(head), (), labels.entity(tail))
    path = labels.path(relation)
    if head == ASKED:
        return Question("head", -1, path, labels.entity(tail))
    return Question("tail", labels.entity(head), path, -1)


@dataclass(frozen=True, eq=False)
class ParsedTriples:
    """Triples of labels, read as far as the labels are known.

    Attributes:
        texts: `n` triples as given, cells that are missing as empty texts.
        ids: `(m, 3)` int64 ids of the triples with known labels, relations inverses included.
        row: `(m,)` int64, ascending: their rows in `texts`.
        reasons: `n` texts: why a triple has no ids; empty if it has.
    """

    texts: list[tuple[str, str, str]]
    ids: Tensor
    row: Tensor
    reasons: list[str]


def parse_triples(rows: Iterable[Sequence[object]], labels: LabelIndex) -> ParsedTriples:
    """Parse triples of labels or readable names; `^r` is the inverse of the relation `r`.

    A cell is a text, or an integer that stands for its digits. A triple with any other cell, or
    with an unknown label, gets a reason in place of ids.

    Raises:
        DataError: for a row that does not have three cells.
    """
    texts, ids, row, reasons = [], [], [], []
    for number, cells in enumerate(rows):
        if isinstance(cells, str) or len(cells) != 3:
            raise fault(
                f"row {number + 1}", f"{quoted(str(cells))} is not a triple",
                "give head, relation and tail",
            )  # fmt: skip
        head, relation, tail = (_cell(cell) for cell in cells)
        texts.append((head, relation, tail))
        try:
            triple = (
                labels.entity(_filled(head, "head"), hint=False),
                labels.relation(_filled(relation, "relation"), hint=False),
                labels.entity(_filled(tail, "tail"), hint=False),
            )
        except DataError as error:
            reasons.append(str(error).partition(". Remedy: ")[0])
            continue
        ids.append(triple)
        row.append(number)
        reasons.append("")
    found = torch.tensor(ids, dtype=torch.long).view(-1, 3)
    return ParsedTriples(texts, found, torch.tensor(row, dtype=torch.long), reasons)


def is_label(cell: object) -> bool:
    """Whether a cell is a label: a text, or an integer that stands for its digits."""
    return isinstance(cell, (str, int, np.integer)) and not isinstance(cell, bool)


def _cell(cell: object) -> str:
    """A label as a text; empty for a missing value."""
    return str(cell) if is_label(cell) else ""


def _filled(text: str, field: str) -> str:
    if not text.strip():
        raise DataError(f"no {field}")
    return text


def parse_questions(
    lines: Iterable[str], place: str, labels: LabelIndex
) -> tuple[list[list[str]], list[Question]]:
    """Parse lines of three texts, separated by tabs; blank lines are skipped.

    Returns:
        The texts and the parsed queries.

    Raises:
        DataError: as `parse_question`, naming the place and the line; for no query.
    """
    texts, questions = [], []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        cells = line.removesuffix("\r").split("\t")
        try:
            questions.append(parse_question(cells, labels))
        except DataError as error:
            raise DataError(f"{place}, line {number}: {error}") from None
        texts.append(cells)
    if not questions:
        raise fault(place, "no queries", f"write one per line, with tabs: {EXAMPLES}")
    return texts, questions


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
