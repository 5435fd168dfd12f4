"""Reads the files of other tools that map ids to labels."""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from dataclasses import dataclass

from kgtool.data.loaders.delimited_faults import not_utf8, start_of
from kgtool.data.loaders.rows import problem_of
from kgtool.errors import fault, quoted
from kgtool.storage.compression import File

# The names in a header of a mapping.
_HEADER = {
    "id", "label", "name", "entity", "relation", "entity_id", "relation_id", "entity_label",
    "relation_label", "index",
}  # fmt: skip


@dataclass(frozen=True)
class IdLabels:
    """Labels by id.

    Args:
        place: the file, for errors.
        ids: the ids, as they are written.
        labels: the label of each.
    """

    place: str
    ids: tuple[str, ...]
    labels: tuple[str, ...]


def read_id_labels(file: File, id_first: bool | None, counted: bool | None) -> IdLabels:
    """Reads a mapping: lines of a label and its id, separated by a tab or a space.

    A first line of two names, such as `id⇥label`, is a header. A `.csv` is separated by commas.

    Args:
        file: the file.
        id_first: whether the id comes first; None to infer it from which column is numeric.
        counted: whether the first line is a count; None to infer it.

    Raises:
        DataError: for a line that is not a label and an id, for a duplicate, or for a wrong count.
    """
    lines = _lines(file)
    count = None
    if counted or (counted is None and lines and _is_id(lines[0].strip())):
        count = count_of(file)
    begin = 0 if count is None else 1
    if len(lines) == begin:
        raise fault(
            file.place, "no labels: the file is empty", "write one label and its id per line"
        )
    # the separator is the tab, or else the space next to the id
    last = id_first is not True
    pairs: list[list[str]] = []
    if begin == 0 and {name.strip().casefold() for name in re.split("[\t, ]", lines[0])} <= _HEADER:
        begin = 1
    for number, line in enumerate(lines[begin:], begin + 1):
        if file.format == "csv":
            cells = next(csv.reader([line]), [])
        else:
            cells = line.split("\t") if "\t" in line else _spaced(line, last)
        if len(cells) != 2:
            problem = f"{quoted(line)} is not a label and its id"
            raise fault(file.place, problem, "write two cells, separated by a tab", number)
        pairs.append(cells)
    if id_first is None:
        id_first = _is_id_first(file, pairs)
    ids = tuple(pair[not id_first] for pair in pairs)
    labels = tuple(pair[id_first] for pair in pairs)
    for number, (name, label) in enumerate(zip(ids, labels, strict=True), begin + 1):
        if not _is_id(name):
            problem = f"the id {quoted(name)} is not a whole number"
            raise fault(file.place, problem, "restore the file", number)
        wrong = problem_of(label, "label")
        if wrong is not None:
            raise fault(file.place, *wrong, line=number)
    for kind, texts in (("id", ids), ("label", labels)):
        twice = _first_twice(texts)
        if twice is not None:
            problem = f"the {kind} {quoted(texts[twice])} occurs twice"
            raise fault(file.place, problem, "keep one", begin + twice + 1)
    if count is not None and count != len(ids):
        problem = f"the count is {count}, but {len(ids)} labels follow"
        raise fault(file.place, problem, "restore the file, or correct the count", 1)
    return IdLabels(file.place, ids, labels)


def count_of(file: File) -> int:
    """The count in the first line of a file.

    Raises:
        DataError: if the first line is not a whole number.
    """
    line = file.data[start_of(file.data) :].partition(b"\n")[0].strip()
    if not line.isdigit() or len(line) > 18:
        remedy = "write the number of the following lines in the first line"
        raise fault(file.place, f"{quoted(line)} is not a count", remedy, 1)
    return int(line)


def _lines(file: File) -> list[str]:
    data = file.data[start_of(file.data) :]
    try:
        lines = [line.removesuffix("\r") for line in data.decode().split("\n")]
    except UnicodeDecodeError as error:
        number = data.count(b"\n", 0, error.start) + 1
        raise not_utf8(file, number, data.split(b"\n", number)[number - 1]) from None
    while lines and not lines[-1]:
        lines.pop()
    return lines


def _spaced(line: str, last: bool) -> list[str]:
    return line.rsplit(" ", 1) if last else line.split(" ", 1)


def _is_id(text: str) -> bool:
    return text.isascii() and text.isdecimal()


def _is_id_first(file: File, pairs: Sequence[Sequence[str]]) -> bool:
    """Whether the first of two columns holds the ids: the ids are whole numbers."""
    numeric = [all(_is_id(pair[i]) for pair in pairs) for i in (0, 1)]
    if numeric == [True, True] and any(pair[0] != pair[1] for pair in pairs):
        raise fault(
            file.place,
            "both columns are numeric, so the ids cannot be inferred",
            "add a letter to the labels; or move the file away if the triples hold labels",
        )
    if numeric == [False, False]:
        row = next((i for i, pair in enumerate(pairs) if not any(map(_is_id, pair))), 0)
        shown = " nor ".join(map(quoted, pairs[row]))
        problem = f"neither {shown} is a whole number, so the ids cannot be inferred"
        raise fault(file.place, problem, "write a label and a whole number per line")
    return numeric[0]


def _first_twice(texts: Sequence[str]) -> int | None:
    """The position of the first text that repeats an earlier one."""
    if len(set(texts)) == len(texts):
        return None
    seen: set[str] = set()
    for i, text in enumerate(texts):
        if text in seen:
            return i
        seen.add(text)
    return None
