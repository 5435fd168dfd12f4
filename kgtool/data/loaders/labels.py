"""Reads files about entities: readable names, as in `/m/0d05w3⇥China`, and entity types."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from kgtool.errors import DataError, fault, quoted


def read_labels(path: str | Path) -> dict[str, str]:
    """Label → readable name, from a UTF-8 file of `label⇥name` lines without a header.

    Blank lines are skipped.

    Raises:
        DataError: for a missing file, a line without two cells, or a label with two names. The
            message names the line and the remedy.
    """
    names: dict[str, str] = {}
    for number, label, name in _pairs(Path(path), "a label and its name"):
        if names.setdefault(label, name) != name:
            raise fault(path, f"{quoted(label)} has another name above", "keep one", number)
    return names


def read_types(path: str | Path) -> dict[str, tuple[str, ...]]:
    """Label → entity types, from a UTF-8 file of `label⇥type` lines; a label may have several.

    Raises:
        DataError: for a missing file, or a line without two cells.
    """
    types: dict[str, dict[str, None]] = {}
    for _, label, kind in _pairs(Path(path), "a label and its type"):
        types.setdefault(label, {})[kind] = None
    return {label: tuple(kinds) for label, kinds in types.items()}


def _pairs(path: Path, what: str) -> Iterator[tuple[int, str, str]]:
    """The number and the two cells of each line."""
    try:
        lines = path.read_bytes().decode("utf-8-sig").split("\n")
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}. Remedy: check the name.") from error
    except UnicodeDecodeError as error:
        raise fault(path, "not UTF-8", "save the file as UTF-8") from error
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        cells = line.removesuffix("\r").split("\t")
        if len(cells) != 2 or not all(cell.strip() for cell in cells):
            problem = f"{quoted(line)} is not {what}"
            raise fault(path, problem, "write two cells, separated by a tab", number)
        yield number, cells[0], cells[1]
