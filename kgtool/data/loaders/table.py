"""Reads the rows of a table of any columns, as texts."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator

from kgtool.data.loaders.delimited import table_of
from kgtool.data.loaders.delimited_faults import start_of, unreadable
from kgtool.data.loaders.reading import LOOK
from kgtool.errors import fault
from kgtool.storage.compression import File
from kgtool.storage.parquet import open_parquet, read_columns


def rows_of_table(file: File) -> Iterator[tuple[int, list[str]]]:
    """The number of each row from 1, and its cells.

    A row 0 has the names of the columns, for formats that always have them. Rows of TSV and CSV may
    have any number of cells; blank lines are skipped.

    Args:
        file: a TSV, CSV or Parquet file, or JSON lines of objects.

    Raises:
        DataError: for a file that is damaged or not of its format.
    """
    if file.format == "parquet":
        yield from _of_parquet(file)
    elif file.format == "jsonl":
        yield from _of_json(file)
    else:
        yield from _of_text(file)


def _of_text(file: File) -> Iterator[tuple[int, list[str]]]:
    damage = unreadable(file)
    if damage is not None:
        raise damage
    table = table_of(file, LOOK, 0, least=1)
    try:
        text = file.data[start_of(file.data) :].decode()
    except UnicodeDecodeError as error:
        raise fault(file.place, "not UTF-8", "save the file as UTF-8") from error
    if not table.quoted:
        for number, line in enumerate(text.split("\n"), 1):
            if line.strip() and number > table.skip:
                yield number, line.removesuffix("\r").split(table.delimiter)
        return
    lines = csv.reader(
        io.StringIO(text, newline="\n"), delimiter=table.delimiter, strict=True,
        skipinitialspace=table.delimiter != " ",
    )  # fmt: skip
    begun = 1
    try:
        for cells in lines:
            if cells and begun > table.skip:
                yield begun, [cell.strip() for cell in cells]
            begun = lines.line_num + 1
    except csv.Error as error:
        remedy = "close each quote and double the quotes inside a cell"
        raise fault(file.place, f"invalid quotes ({error})", remedy, begun) from None


def _of_parquet(file: File) -> Iterator[tuple[int, list[str]]]:
    opened = open_parquet(file.data, file.place)
    names = opened.schema_arrow.names
    flat = [i for i, kind in enumerate(opened.schema_arrow.types) if not kind.num_fields]
    columns = read_columns(opened, flat, len(file.data), file.place)
    yield 0, [names[i] for i in flat]
    texts = [column.to_pylist() for column in columns]
    for number, cells in enumerate(zip(*texts, strict=True), 1):
        yield number, ["" if cell is None else str(cell) for cell in cells]


def _of_json(file: File) -> Iterator[tuple[int, list[str]]]:
    names: list[str] | None = None
    for number, line in enumerate(io.BytesIO(file.data[start_of(file.data) :]), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            problem = f"invalid JSON ({error})"
            raise fault(file.place, problem, "write one object per line", number) from None
        if not isinstance(row, dict):
            raise fault(file.place, "not an object", 'write {"id": ..., "name": ...}', number)
        if names is None:
            names = list(row)
            yield 0, names
        yield number, ["" if row.get(name) is None else str(row[name]) for name in names]
