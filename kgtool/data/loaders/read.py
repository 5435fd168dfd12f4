"""Reads the triples of one file, whatever its format."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from kgtool.data.loaders.delimited import read_delimited
from kgtool.data.loaders.header import COMMANDS
from kgtool.data.loaders.json_lines import read_json_lines
from kgtool.data.loaders.parquet import read_parquet
from kgtool.data.loaders.reading import Reading
from kgtool.data.loaders.rows import Rows, no_triples
from kgtool.errors import fault, quoted
from kgtool.storage.compression import File

LEAST = 10  # rows of a file whose first row may be an unknown header


def read_file(file: File, reading: Reading, extra: str | None = None) -> Rows:
    """The triples of a file.

    Args:
        file: the file and its format.
        reading: the caller's options.
        extra: a further column, by name or by number from 1, whose texts to keep.

    Raises:
        DataError: for a file that cannot be read with these options; it names the line and the
            remedy.
    """
    if not file.data:
        raise no_triples(file.place)
    if file.format in ("tsv", "csv"):
        return _with_note(read_delimited(file, reading, extra), file.place, reading)
    if file.format == "jsonl":
        return read_json_lines(file, reading, extra)
    if file.format == "parquet":
        return read_parquet(file, reading, extra)
    if file.format == "dgl":
        if reading.columns is not None or extra is not None:
            raise fault(file.place, "a graph has no columns to choose", "leave out --columns")
        from kgtool.data.loaders.dgl_graph import read_graph

        return read_graph(file)
    if reading.columns is not None or extra is not None:
        raise fault(file.place, "an RDF file has no columns", "do not pass --columns")
    from kgtool.data.loaders.rdf import read_rdf

    return read_rdf(file)


def _with_note(rows: Rows, place: str, reading: Reading) -> Rows:
    """The rows, with a note if the first row may be a header with unknown names.

    The labels of such a row occur nowhere else in the file. In a short file this may be chance.
    """
    if reading.header is not None or len(rows.codes) < LEAST or rows.numbers[0] > 1:
        return rows
    if any(np.count_nonzero(rows.codes == code) > 1 for code in rows.codes[0]):
        return rows
    names = ", ".join(quoted(rows.labels[code].as_py()) for code in rows.codes[0])
    note = (
        f"{place}, line 1 was read as a triple, but {names} occur nowhere else: if they are "
        f"column names, pass --columns or --header {COMMANDS}"
    )
    return replace(rows, notes=(*rows.notes, note))
