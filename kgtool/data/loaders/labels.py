"""What is said of entities beside the triples: readable labels, as in `/m/0d05w3⇥China`; types."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from kgtool.errors import DataError, fault, quoted


def read_labels(path: str | Path) -> dict[str, str]:
    """Label by id, of a file of `id⇥label` lines, UTF-8, without a header; blank lines are skipped.

    Raises:
        DataError: when there is no such file, or a line is not two cells, or an id comes twice. The
            message names the line and the remedy.
    """
    labels: dict[str, str] = {}
    for number, name, label in _pairs(Path(path), "an id and its label"):
        if labels.setdefault(name, label) != label:
            raise fault(path, f"{quoted(name)} has another label above", "keep one", number)
    return labels


def read_types(path: str | Path) -> dict[str, tuple[str, ...]]:
    """Types by id, of a file of `id⇥type` lines like that of labels; an id may have several.

    Raises:
        DataError: when there is no such file, or a line is not two cells.
    """
    types: dict[str, dict[str, None]] = {}
    for _, name, kind in _pairs(Path(path), "an id and its type"):
        types.setdefault(name, {})[kind] = None
    return {name: tuple(kinds) for name, kinds in types.items()}


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
            raise fault(path, problem, "two cells, with a tab between them", number)
        yield number, cells[0], cells[1]
