"""Questions as people write them: a triple with a `?` for what is asked."""

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
    """What is asked, and of what.

    Attributes:
        asked: the place of the `?`.
        head, tail: entity ids; -1 where asked.
        path: relation ids from head to tail, inverses included; none where a relation is asked.
    """

    asked: Literal["head", "relation", "tail"]
    head: int
    path: tuple[int, ...]
    tail: int

    def walked(self, num_relations: int) -> tuple[int, tuple[int, ...]]:
        """The entity that is given, and the relations that lead from it to the answers."""
        if self.asked == "tail":
            return self.head, self.path
        return self.tail, tuple((r + num_relations) % (2 * num_relations) for r in self.path[::-1])


def parse_question(parts: Sequence[str], labels: LabelIndex) -> Question:
    """The question of three texts: labels, of which one is `?`, the relation may be a path.

    Raises:
        DataError: for another number of texts or of `?`, or a label that is not known.
    """
    if len(parts) != 3 or list(parts).count(ASKED) != 1:
        shown = " ".join(map(quoted, parts))
        raise DataError(f"{shown} asks for no one thing. Remedy: {EXAMPLES}; quote the '?'.")
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
    """The questions of lines, three texts each with a tab between them; blank lines are skipped.

    Returns:
        The texts, and what they ask.

    Raises:
        DataError: as `parse_question`, naming the place and the line.
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
        raise fault(place, "no questions", f"a line each, with tabs: {EXAMPLES}")
    return texts, questions


def read_lines(path: str | Path) -> list[str]:
    """The lines of a file in UTF-8, or of standard input for `-`.

    Raises:
        DataError: when it cannot be read, or is not UTF-8.
    """
    try:
        data = sys.stdin.buffer.read() if str(path) == "-" else Path(path).read_bytes()
        return data.decode("utf-8-sig").split("\n")
    except OSError as error:
        raise fault(path, f"cannot be read ({error.strerror})", "check the file") from error
    except UnicodeDecodeError as error:
        raise fault(path, "not UTF-8", "save it as UTF-8") from error
