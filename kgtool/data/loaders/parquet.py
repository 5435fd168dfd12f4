"""Reads Parquet: columns of text or whole numbers, by name or by number."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain, repeat

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from kgtool.data.loaders.header import choose_columns
from kgtool.data.loaders.reading import FIELDS, Reading
from kgtool.data.loaders.rows import MOST_VALUES, Rows, no_triples, rows_of
from kgtool.errors import fault, quoted
from kgtool.storage.compression import File, most_bytes, too_large
from kgtool.storage.parquet import open_parquet, read_columns

_FURTHER = "further column"


def read_parquet(file: File, reading: Reading, extra: Sequence[str] = ()) -> Rows:
    """The triples of a Parquet file; a whole number becomes the text of its digits, with a note.

    Raises:
        DataError: for a damaged file, a missing column, a column of another type, or a null.
    """
    opened = open_parquet(file.data, file.place)
    names = opened.schema_arrow.names
    chosen = choose_columns(names, reading, extra, file.place, None)
    chosen_columns = read_columns(opened, chosen.columns, len(file.data), file.place)
    notes = list(chosen.notes)
    numbers = np.arange(1, opened.metadata.num_rows + 1)
    missing = np.zeros(len(numbers), np.bool_)
    if reading.skip_bad_lines:
        for column in chosen_columns[:3]:
            missing |= column.is_null().to_numpy()
        if missing.all():
            raise no_triples(file.place, "all rows are bad")
        chosen_columns = [column.filter(pa.array(~missing)) for column in chosen_columns]
    columns = []
    fields = chain(FIELDS, repeat(_FURTHER))
    for field, i, column in zip(fields, chosen.columns, chosen_columns, strict=False):
        kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
        if column.null_count and field == _FURTHER:
            column = pc.fill_null(column.cast(pa.large_string()), "")
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
    extras = zip(chosen.extra, columns[3:], strict=True)
    return rows_of(
        columns[:3], numbers[~missing], file.place, "row", skip_bad=reading.skip_bad_lines,
        extra={name: _texts(column, file) for name, column in extras},
        notes=tuple(notes),
        left_out=tuple(chosen.left_out.values()),
        few=_few(opened, chosen.left_out, file),
        skipped=tuple((number, "a null") for number in numbers[missing].tolist()),
    )  # fmt: skip


def _few(
    opened: pq.ParquetFile, left_out: Mapping[int, str], file: File
) -> dict[str, frozenset[str]]:
    """The texts of each left-out column of text, numbers or booleans that has few of them."""
    names, kinds = opened.schema_arrow.names, opened.schema_arrow.types
    flat = [i for i in left_out if not pa.types.is_nested(kinds[i]) and names.count(names[i]) == 1]
    few = {}
    for i in flat:
        (column,) = read_columns(opened, [i], len(file.data), file.place)
        values = pc.unique(column)
        if len(values) <= MOST_VALUES:
            few[left_out[i]] = frozenset(map(str, values.to_pylist()))
    return few


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
