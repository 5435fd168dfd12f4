"""Parses queries: a triple of labels with a `?` in place of the answer."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from kgtool.data.labels import LabelIndex
from kgtool.data.loaders.cells import cells_of, is_missing
from kgtool.errors import DataError, fault, quoted

# How what is asked for is written; in Python it may be missing too: None, NaN.
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


def questions_of(head: Any, relation: Any = None, tail: Any = None) -> list[tuple[Any, ...]]:
    """The queries that a caller asks: one by its parts, or many in place of the head.

    Args:
        head: a label or what is asked for; or a list of queries, a data frame, dictionaries.
        relation, tail: labels or what is asked for; nothing if there are many queries.

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
    if isinstance(head, (tuple, list)) and len(head) == 3 and all(map(_is_part, head)):
        return [tuple(head)]
    columns = cells_of(head, "queries", partial=True)
    return list(zip(*columns, strict=True))


def _is_part(value: Any) -> bool:
    return is_missing(value) or isinstance(value, (str, int, np.integer))


def parse_question(parts: Sequence[Any], labels: LabelIndex) -> Question:
    """Parse a head, a relation and a tail: two labels, and what is asked for. The relation may be a
    path.

    Args:
        parts: what is asked for is `?`, an empty text or missing; of two parts it is the tail.
        labels: finds the ids.

    Raises:
        DataError: unless one of three parts is asked for; for an unknown label.
    """
    parts = [ASKED if is_missing(part) or part == "" else part for part in parts]
    if len(parts) == 2 and ASKED not in parts:
        parts = [*parts, ASKED]
    if len(parts) != 3 or parts.count(ASKED) != 1:
        shown = " ".join(quoted(str(part)) for part in parts)
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
