"""Reads tables about entities: readable names, as in `/m/0d05w3⇥China`, and entity types.

A table is a file of two columns without a header, or a table of any width whose header names the
columns: `id,name,type` has both names and types. Formats are TSV, CSV, Parquet and JSON lines,
compressed or not. `FILE:ID,NAME` chooses the columns by name or by number from 1.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path, PurePosixPath

from kgtool.data.loaders.loose import open_loose
from kgtool.data.loaders.reading import FORMATS, LOOK, file_name, position_of
from kgtool.data.loaders.sources import TYPES, Store
from kgtool.data.loaders.table import rows_of_table
from kgtool.errors import DataError, fault, nearest, quoted
from kgtool.storage.compression import File

# Names of the column of labels in a header, and of names and of types, the surest first.
_LABELS = (
    "id", "entity", "entity_id", "node", "node_id", ":id", "key", "identifier", "curie", "iri",
    "uri", "label", "entity_label",
)  # fmt: skip
_NAMES = (
    "name", "entity_name", "node_name", "display_name", "preferred_name", "title", "label",
    "description",
)  # fmt: skip
_TYPES = (
    "type", "types", "entity_type", "node_type", ":label", "category", "kind", "class", "label",
)  # fmt: skip


def read_labels(path: str | Path, known: Collection[str] | None = None) -> dict[str, str]:
    """Label → readable name, from a table with a column of labels and one of names.

    Blank lines are skipped, and so are rows of a table with a header that have no name.

    Args:
        path: the file, or `FILE:LABEL,NAME`.
        known: the labels of the data; the file must name at least one of them.

    Raises:
        DataError: for a missing file, columns that cannot be inferred, a label with two names, or
            a file that names no label of the data. The message names the line and the remedy.
    """
    names: dict[str, str] = {}
    for number, label, name in _pairs(path, _NAMES, "name"):
        if names.setdefault(label, name) != name:
            raise fault(path, f"{quoted(label)} has another name above", "keep one", number)
    _check_known(path, names, known)
    return names


def read_types(
    path: str | Path, known: Collection[str] | None = None
) -> dict[str, tuple[str, ...]]:
    """Label → entity types, from a table with a column of labels and one of types.

    A label may have several rows, each with a type. The arguments are those of `read_labels`.

    Raises:
        DataError: as `read_labels`.
    """
    return _types(path, _pairs(path, _TYPES, "type"), known)


def types_of_store(store: Store, known: Collection[str]) -> dict[str, tuple[str, ...]]:
    """The types of the entities of a data set, from its file `types.tsv`; {} without this file.

    Raises:
        DataError: as `read_types`.
    """
    found = [member for member in store.members if PurePosixPath(member).name == TYPES]
    if not found:
        return {}
    member = min(found, key=len)
    return _types(
        store.place(member), _pairs_of(store.file(member, "tsv"), None, _TYPES, "type"), known
    )


def _types(
    place: str | Path, pairs: Iterable[tuple[int, str, str]], known: Collection[str] | None
) -> dict[str, tuple[str, ...]]:
    types: dict[str, dict[str, None]] = {}
    for _, label, kind in pairs:
        types.setdefault(label, {})[kind] = None
    _check_known(place, types, known)
    return {label: tuple(kinds) for label, kinds in types.items()}


def _check_known(path: str | Path, found: Collection[str], known: Collection[str] | None) -> None:
    """Raise a DataError if the file has rows, but none about a label of the data."""
    if known and found and not any(label in known for label in found):
        shown = ", ".join(quoted(label) for label in list(found)[:3])
        theirs = ", ".join(quoted(label) for label in list(known)[:3])
        raise fault(
            path,
            f"none of its labels ({shown}, …) is a label of the data ({theirs}, …)",
            f"choose the columns, as in {_plain(path)}:LABEL,NAME with their names or numbers",
        )


def _plain(path: str | Path) -> str:
    """The path without chosen columns."""
    text = str(path)
    return text if Path(text).exists() else text.rpartition(":")[0] or text


def _pairs(path: str | Path, values: Sequence[str], what: str) -> Iterator[tuple[int, str, str]]:
    """The number of each row, its label, and its value."""
    place, chosen = str(path), None
    if not Path(place).exists() and ":" in place and Path(_plain(place)).exists():
        place, _, columns = place.rpartition(":")
        chosen = [name.strip() for name in columns.split(",")]
        if len(chosen) != 2:
            problem = f"{quoted(columns)} are not two columns"
            raise fault(place, problem, f"give two, as in {place}:id,{what}")
    if not Path(place).exists():
        raise DataError(f"cannot read {place}: No such file or directory. Remedy: check the name.")
    if file_name(Path(place).name, LOOK).format not in ("tsv", "csv", "parquet", "jsonl"):
        endings = ", ".join(e for name in ("tsv", "csv", "parquet", "jsonl") for e in FORMATS[name])
        raise fault(place, "the file name does not show a table", f"let it end in one of {endings}")
    yield from _pairs_of(open_loose(place, LOOK), chosen, values, what)


def _pairs_of(
    file: File, chosen: Sequence[str] | None, values: Sequence[str], what: str
) -> Iterator[tuple[int, str, str]]:
    """As `_pairs`, of a file in memory."""
    rows, place = rows_of_table(file), file.place
    first = next(rows, None)
    if first is None:
        return
    label, value, header = _columns(place, first[1], chosen, values, what, named=first[0] == 0)
    expected = len(first[1])
    for number, cells in rows if header else chain([first], rows):
        bad = len(cells) != expected or not cells[label].strip()
        if bad or (not cells[value].strip() and not header):
            shown = quoted(cells[0] if len(cells) == 1 else ", ".join(cells))
            article = f"a label and its {what}"
            count = "two cells" if expected == 2 else f"{expected} cells"
            raise fault(
                place, f"{shown} is not {article}", f"write {count}, separated by a tab", number
            )
        if cells[value].strip():
            yield number, cells[label], cells[value]


def _columns(
    place: str, first: Sequence[str], chosen: Sequence[str] | None, values: Sequence[str],
    what: str, *, named: bool,
) -> tuple[int, int, bool]:  # fmt: skip
    """The columns of labels and of values, and whether the first row is a header."""
    names = [name.strip() for name in first]
    folded = [name.casefold() for name in names]
    shown = ", ".join(map(quoted, names[:8])) + (", …" if len(names) > 8 else "")
    if chosen is not None:
        found = [_position(place, column, names, shown) for column in chosen]
        by_name = any(position_of(column) is None for column in chosen)
        known = {*_LABELS, *values}
        return found[0], found[1], named or by_name or all(folded[i] in known for i in found)
    label = next((folded.index(name) for name in _LABELS if name in folded), None)
    rest = [name for name in values if name in folded and folded.index(name) != label]
    value = folded.index(rest[0]) if rest else None
    if label is not None and value is not None and len(set(folded)) == len(folded):
        return label, value, True
    if len(names) == 2 and not named:
        return 0, 1, False
    if len(names) < 2:
        problem = f"{shown} is not a label and its {what}"
        raise fault(place, problem, "write two cells, separated by a tab", 1)
    raise fault(
        place,
        f"the columns of labels and of {what}s cannot be inferred from {shown}",
        f"name both columns, as in {place}:{names[0]},{names[1]}",
        None if named else 1,
    )


def _position(place: str, column: str, names: Sequence[str], shown: str) -> int:
    """The index of a column, given by name or by number from 1."""
    position = position_of(column)
    if position is not None and 0 <= position < len(names):
        return position
    if column in names:
        return list(names).index(column)
    like = nearest(column, names)
    remedy = f"use {quoted(like)}, the nearest" if like else "use one of them, or its number"
    raise fault(place, f"no column {quoted(column)} among {shown}", remedy)
