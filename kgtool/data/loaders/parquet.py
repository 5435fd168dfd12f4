"""Reads Parquet: columns of text or whole numbers, by name or by number."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from kgtool.data.loaders.header import choose_columns
from kgtool.data.loaders.reading import EXTRA, FIELDS, Reading
from kgtool.data.loaders.rows import Rows, rows_of
from kgtool.errors import fault, quoted
from kgtool.storage.compression import File, most_bytes, too_large
from kgtool.storage.parquet import open_parquet, read_columns


def read_parquet(file: File, reading: Reading, extra: str | None = None) -> Rows:
    """The triples of a Parquet file; a whole number becomes the text of its digits, with a note.

    Raises:
        DataError: for a damaged file, a missing column, a column of another type, or a null.
    """
    opened = open_parquet(file.data, file.place)
    names = opened.schema_arrow.names
    chosen = choose_columns(names, reading, extra, file.place, None)
    chosen_columns = read_columns(opened, chosen.columns, len(file.data), file.place)
    notes = [chosen.note] if chosen.note else []
    columns = []
    for field, i, column in zip((*FIELDS, EXTRA), chosen.columns, chosen_columns, strict=False):
        kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
        if column.null_count:
            row = 1 + int(np.flatnonzero(column.is_null().to_numpy())[0])
            raise fault(
                f"{file.place}, row {row}",
                f"the {field} is null",
                "fill it in, or remove the row",
            )
        if field in FIELDS and not _is_text(kind):
            if not pa.types.is_integer(kind):
                problem = f"the column {quoted(names[i])} holds {kind}, not text"
                raise fault(file.place, problem, "write it as text")
            notes.append(f"{file.place}: the {field} is {kind}, read as its digits")
        try:
            columns.append(_coded(column))
        except pa.ArrowException as error:  # an extra column of bytes, say
            problem = f"the column {quoted(names[i])} holds {kind}, not text"
            raise fault(file.place, problem, "write it as text") from error
    extra_texts = _texts(columns[3], file) if len(columns) == 4 else None
    numbers = np.arange(1, len(columns[0]) + 1)
    return rows_of(columns[:3], numbers, file.place, "row", extra=extra_texts, notes=tuple(notes))


def _coded(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """The column as codes of a dictionary of large strings."""
    coded = pa.dictionary(pa.int32(), pa.large_string())
    if pa.types.is_dictionary(column.type):
        return column.cast(coded)
    return column.cast(pa.large_string()).dictionary_encode().cast(coded)


def _texts(column: pa.ChunkedArray, file: File) -> tuple[str, ...]:
    """The texts of an extra column; a DataError if they would fill the memory."""
    sizes = [pc.binary_length(chunk.dictionary).take(chunk.indices) for chunk in column.chunks]
    most = most_bytes(len(file.data))
    if sum(pc.sum(size).as_py() or 0 for size in sizes) > most:
        raise too_large(file.place, most)
    return tuple(column.to_pylist())


def _is_text(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
    )
