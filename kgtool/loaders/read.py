"""Reads the triples of one file, whatever its format."""

from __future__ import annotations

from kgtool.loaders.delimited import read_delimited
from kgtool.loaders.faults import fault
from kgtool.loaders.files import File
from kgtool.loaders.json_lines import read_json_lines
from kgtool.loaders.parquet import read_parquet
from kgtool.loaders.reading import Reading
from kgtool.loaders.rows import Rows, no_triples


def read_file(file: File, reading: Reading, extra: str | None = None) -> Rows:
    """The triples of a file.

    Args:
        file: the file, whose format is known.
        reading: what the caller says of it.
        extra: a further column, by name or by number from 1, whose texts to keep.

    Raises:
        DataError: for a file that cannot be read so; it names the line and the remedy.
    """
    if not file.data:
        raise no_triples(file.place)
    if file.format in ("tsv", "csv"):
        return read_delimited(file, reading, extra)
    if file.format == "jsonl":
        return read_json_lines(file, reading, extra)
    if file.format == "parquet":
        return read_parquet(file, reading, extra)
    if reading.columns is not None or extra is not None:
        raise fault(file.place, "RDF has no columns to choose", "leave out --columns")
    from kgtool.loaders.rdf import read_rdf  # not before: it loads a parser that few need

    return read_rdf(file)
