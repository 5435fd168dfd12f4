"""Readable labels for the ids of a graph, as in `/m/0d05w3⇥China`."""

from __future__ import annotations

from pathlib import Path

from kgtool.errors import DataError
from kgtool.loaders.faults import fault, quoted


def read_labels(path: str | Path) -> dict[str, str]:
    """Label by id, of a file of `id⇥label` lines, UTF-8, without a header; blank lines are skipped.

    Raises:
        DataError: when there is no such file, or a line is not two cells, or an id comes twice. The
            message names the line and the remedy.
    """
    path = Path(path)
    try:
        lines = path.read_bytes().decode("utf-8-sig").split("\n")
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}. Remedy: check the name.") from error
    except UnicodeDecodeError as error:
        raise fault(path, "not UTF-8", "save the file as UTF-8") from error
    labels: dict[str, str] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        cells = line.removesuffix("\r").split("\t")
        if len(cells) != 2 or not all(cell.strip() for cell in cells):
            problem = f"{quoted(line)} is not an id and its label"
            raise fault(path, problem, "two cells, with a tab between them", number)
        name, label = cells
        if labels.setdefault(name, label) != label:
            raise fault(path, f"{quoted(name)} has another label above", "keep one", number)
    return labels
