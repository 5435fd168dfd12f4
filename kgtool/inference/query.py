"""Parses queries: a triple of labels with a `?` in place of the answer."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

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
