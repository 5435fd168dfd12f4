"""Reads columns of a Parquet file, which a small file can make very large: within bounds.

Texts stay codes of a dictionary, as files hold them, for one long text may stand in a million rows.
What the footer says of rows and sizes is asked before a page is unfolded. A footer that lies about
sizes makes Arrow take 2 GiB for a page at most, or more with prefixes coded as differences.
"""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa
import pyarrow.parquet as pq

from kgtool.errors import fault, quoted
from kgtool.storage.compression import most_bytes, too_large

_LEAST = 4  # bytes of a cell


def open_parquet(data: bytes, place: str) -> pq.ParquetFile:
    """The file, texts as codes.

    Raises:
        DataError: when it is damaged, or no Parquet file.
    """
    try:
        schema = pq.ParquetFile(pa.BufferReader(data)).schema_arrow
        names = [field.name for field in schema if not pa.types.is_nested(field.type)]
        return pq.ParquetFile(pa.BufferReader(data), read_dictionary=names)
    except DAMAGE as error:
        raise damaged(place, error) from error


def read_columns(
    file: pq.ParquetFile, columns: Sequence[int], size: int, place: str
) -> list[pa.ChunkedArray]:
    """Some columns of a Parquet file.

    Args:
        file: of `open_parquet`.
        columns: their positions.
        size: bytes of the file.
        place: the file, for errors.

    Returns:
        A chunked array for each column, of dictionaries where it holds texts.

    Raises:
        DataError: when the file is damaged, a column holds lists or the like, two have one name, or
            there is more than `most_bytes` in them.
    """
    schema = file.schema_arrow
    for i in columns:
        if schema.names.count(schema.names[i]) > 1:
            problem = f"two columns are named {quoted(schema.names[i])}"
            raise fault(place, problem, "name each by itself")
        if pa.types.is_nested(schema.types[i]):
            problem = f"the column {quoted(schema.names[i])} holds {str(schema.types[i])[:80]}"
            raise fault(place, f"{problem}, which is no text", "write it as text")
    try:
        groups = [file.metadata.row_group(i) for i in range(file.metadata.num_row_groups)]
        rows = sum(max(group.num_rows, 0) for group in groups)
        # no nested columns are read, but there may be some before these
        wanted = {schema.names[i] for i in columns}
        need = sum(
            chunk.total_uncompressed_size
            for group in groups
            for chunk in map(group.column, range(group.num_columns))
            if chunk.path_in_schema in wanted
        )
        if max(need, _LEAST * rows * len(columns)) > most_bytes(size):
            raise too_large(place, most_bytes(size))
        table = file.read(columns=[schema.names[i] for i in columns])
        table.validate(full=True)  # that text is UTF-8
    except DAMAGE as error:
        raise damaged(place, error) from error
    return [table.column(schema.names[i]) for i in columns]


# What Arrow raises on damaged bytes.
DAMAGE = (pa.ArrowException, OSError, ValueError, OverflowError)


def damaged(place: str, error: Exception) -> Exception:
    """The error for a file that is damaged."""
    reason = " ".join(str(error).split())
    return fault(
        place,
        f"damaged, cut short or not a Parquet file ({reason[:200]})",
        "fetch or write it again",
    )
