"""Reads columns of a Parquet file, with a limit on the memory that they need.

A small file may decompress to very large columns. Texts stay dictionary codes, as in the file, for
one long text may occur in a million rows. The sizes in the footer are checked before a page is
decompressed. With false sizes in the footer, Arrow may allocate 2 GiB per page, or more for
delta-encoded prefixes.
"""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa
import pyarrow.parquet as pq

from kgtool.errors import fault, quoted
from kgtool.storage.compression import most_bytes, too_large

_LEAST = 4  # bytes of a cell


def open_parquet(data: bytes, place: str) -> pq.ParquetFile:
    """The open file; texts are read as dictionary codes.

    Raises:
        DataError: if it is damaged or not a Parquet file.
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
        file: from `open_parquet`.
        columns: the positions of the columns.
        size: the size of the file in bytes.
        place: the file, for errors.

    Returns:
        A chunked array per column, dictionary-encoded for texts.

    Raises:
        DataError: if the file is damaged, a column has a nested type, two columns have one name, or
            the columns exceed `most_bytes`.
    """
    schema = file.schema_arrow
    for i in columns:
        if schema.names.count(schema.names[i]) > 1:
            problem = f"two columns are named {quoted(schema.names[i])}"
            raise fault(place, problem, "give each column its own name")
        if pa.types.is_nested(schema.types[i]):
            problem = f"the column {quoted(schema.names[i])} holds {str(schema.types[i])[:80]}"
            raise fault(place, f"{problem}, not text", "write it as text")
    try:
        groups = [file.metadata.row_group(i) for i in range(file.metadata.num_row_groups)]
        rows = sum(max(group.num_rows, 0) for group in groups)
        # nested columns are not read, but they may come before these
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
        table.validate(full=True)  # checks that texts are UTF-8
    except DAMAGE as error:
        raise damaged(place, error) from error
    return [table.column(schema.names[i]) for i in columns]


# The errors that Arrow raises on damaged bytes.
DAMAGE = (pa.ArrowException, OSError, ValueError, OverflowError)


def damaged(place: str, error: Exception) -> Exception:
    """The error for a damaged file."""
    reason = " ".join(str(error).split())
    return fault(
        place,
        f"damaged, cut short or not a Parquet file ({reason[:200]})",
        "fetch or write it again",
    )
