"""Reads Parquet: columns of text or whole numbers, by name or by number."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from kgtool.loaders.faults import fault, quoted
from kgtool.loaders.files import File
from kgtool.loaders.header import choose_columns
from kgtool.loaders.reading import EXTRA, FIELDS, Reading
from kgtool.loaders.rows import Rows, rows_of


def read_parquet(file: File, reading: Reading, extra: str | None = None) -> Rows:
    """The triples of a Parquet file; whole numbers become their decimal digits, with a note.

    Raises:
        DataError: for a file that is damaged, without the columns, of other types, or with a null.
    """
    try:
        table = pq.ParquetFile(pa.BufferReader(file.data))
        names = table.schema_arrow.names
        chosen = choose_columns(names, reading, extra, file.place, None)
        found = table.read(columns=[names[i] for i in chosen.columns])
        found.validate(full=True)  # that text is UTF-8
    except (pa.ArrowException, OSError) as error:
        reason = " ".join(str(error).split())
        raise fault(
            file.place,
            f"damaged, cut short or not a Parquet file ({reason[:200]})",
            "fetch or write it again",
        ) from error
    notes = [chosen.note] if chosen.note else []
    columns = []
    for field, i in zip((*FIELDS, EXTRA), chosen.columns, strict=False):
        column = found.column(names[i])
        kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
        if column.null_count:
            row = 1 + int(np.flatnonzero(column.is_null().to_numpy())[0])
            raise fault(
                f"{file.place}, row {row}",
                f"the {field} is null",
                "fill it in, or leave the row out",
            )
        if field in FIELDS and not _is_text(kind):
            if not pa.types.is_integer(kind):
                problem = f"the column {quoted(names[i])} holds {kind}, not text"
                raise fault(file.place, problem, "write it as text")
            notes.append(f"{file.place}: the {field} is {kind}, read as its digits")
        try:
            columns.append(column.cast(pa.large_string()))
        except pa.ArrowException as error:  # an extra column of lists, say
            problem = f"the column {quoted(names[i])} holds {kind}, which is no text"
            raise fault(file.place, problem, "write it as text") from error
    kept = tuple(columns[3].to_pylist()) if len(columns) == 4 else None
    numbers = np.arange(1, len(found) + 1)
    return rows_of(columns[:3], numbers, file.place, "row", kept, tuple(notes))


def _is_text(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
    )
