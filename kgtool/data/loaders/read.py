"""Reads the triples of one file, whatever its format."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from kgtool.data.loaders.delimited import read_delimited
from kgtool.data.loaders.header import (
    ANY_TIME,
    COMMANDS,
    TIME,
    TRUTH,
    WEIGHT,
)
from kgtool.data.loaders.json_lines import read_json_lines
from kgtool.data.loaders.parquet import read_parquet
from kgtool.data.loaders.reading import NO_TRUTH, Reading
from kgtool.data.loaders.rows import BadLine, Rows, no_triples
from kgtool.data.loaders.weights import weighted
from kgtool.errors import fault, quoted
from kgtool.storage.compression import File

RDF = ("ntriples", "nquads", "turtle", "trig", "rdfxml", "jsonld")
_TRUE = {"1", "1.0", "+1", "true", "t", "yes", "y", "positive", "pos"}
_FALSE = {"-1", "-1.0", "0", "0.0", "false", "f", "no", "n", "negative", "neg"}
# A column of 0 and 1, or of true and false, is the truth of rows only under such a name, or none.
_TRUTH_NAMES = {
    "label", "labels", "truth", "true", "is_true", "y", "class", "target", "correct", "positive",
    "polarity", "sign", "fact", "is_fact", "valid", "negative",
}  # fmt: skip
LISTED = 10  # bad lines that a note lists


def read_file(file: File, reading: Reading, extra: Sequence[str] = ()) -> Rows:
    """The triples of a file, negatives included: see `Rows.facts`.

    Args:
        file: the file and its format.
        reading: the caller's options.
        extra: further columns, by name or by number from 1, whose texts to keep.

    Raises:
        DataError: for a file that cannot be read with these options; it names the line and the
            remedy.
    """
    rows = _read(file, reading, extra)
    if TIME in rows.extra:
        times = rows.extra[TIME]
        others = {name: texts for name, texts in rows.extra.items() if name != TIME}
        rows = replace(rows, extra=others, times=times)
    if WEIGHT in rows.extra:
        rows = _with_weights(rows, file.place, reading)
    if TRUTH in rows.extra:
        rows = _with_facts(rows, file.place)
    elif reading.truth is None:
        _refuse_truth(rows, file.place)
    unit = "line" if rows.unit == "statement" else rows.unit
    bad = tuple(BadLine(file.place, unit, number, problem) for number, problem in rows.skipped)
    return replace(rows, notes=(*file.notes, *rows.notes, *_note(bad)), bad_lines=bad)


def _read(file: File, reading: Reading, extra: Sequence[str]) -> Rows:
    if not file.data:
        raise no_triples(file.place)
    if file.format in ("tsv", "csv"):
        return read_delimited(file, reading, extra)
    if file.format == "jsonl":
        return read_json_lines(file, reading, extra)
    if file.format == "parquet":
        return read_parquet(file, reading, extra)
    extra = [column for column in extra if column != ANY_TIME]
    if reading.columns is not None or extra:
        what = "a graph" if file.format == "dgl" else "an RDF file"
        given = "--columns" if reading.columns else f"the column {quoted(extra[0])}"
        raise fault(file.place, f"{what} has no columns to choose", f"leave out {given}")
    if file.format == "dgl":
        from kgtool.data.loaders.dgl_graph import read_graph

        return read_graph(file)
    from kgtool.data.loaders.rdf import read_rdf

    return read_rdf(file, reading)


def _with_weights(rows: Rows, place: str, reading: Reading) -> Rows:
    """The rows with `weights`, from the further column of that name."""
    extra = dict(rows.extra)
    texts = extra.pop(WEIGHT)
    given = reading.columns
    other = "name the columns without it by --columns"
    if given is not None:
        other = (
            f"pass --columns {shlex.quote(','.join(given[:3]))} to read no weights; for a time, "
            f"kgtool data split takes --time {shlex.quote(given[3])}"
        )
    return weighted(
        replace(rows, extra=extra), texts, place, other, skip_bad=reading.skip_bad_lines
    )


def _with_facts(rows: Rows, place: str) -> Rows:
    """The rows with `facts`, from the column of their truth."""
    extra = dict(rows.extra)
    texts = [text.strip().casefold() for text in extra.pop(TRUTH)]
    odd = next((i for i, text in enumerate(texts) if text not in _TRUE | _FALSE), None)
    if odd is not None:
        raise fault(
            f"{place}, {rows.where(odd)}",
            f"the truth of the row is {quoted(rows.extra[TRUTH][odd])}",
            "write 1 for a fact, and -1 or 0 for a negative",
        )
    facts = np.array([text in _TRUE for text in texts])
    note = f"{place}: {np.count_nonzero(~facts):,} rows are negatives, not facts"
    return replace(rows, extra=extra, facts=facts, notes=(*rows.notes, note))


def _refuse_truth(rows: Rows, place: str) -> None:
    """Raise a DataError if a column that is not read may mark rows as negatives."""
    for name, values in rows.few.items():
        texts = {value.casefold() for value in values}
        number = name.removeprefix("column ")
        named = name == number
        signed = bool(texts & {"-1", "-1.0"}) and texts <= {"-1", "-1.0", "1", "1.0", "+1"}
        both = texts & _TRUE and texts & _FALSE and texts <= _TRUE | _FALSE
        if signed or (both and (not named or name.casefold() in _TRUTH_NAMES)):
            shown = " and ".join(map(quoted, sorted(values)))
            option = shlex.quote(name if named else number)
            raise fault(
                place,
                f"{quoted(name) if named else name} holds {shown}: rows may be negatives",
                f"if so, pass --truth {option} {COMMANDS}; if all rows are facts, pass --truth "
                f"{NO_TRUTH}",
            )


def _note(bad: Sequence[BadLine]) -> tuple[str, ...]:
    """A note on the bad lines of a file that were left out, if there are any."""
    if not bad:
        return ()
    listed = [f"{line.unit} {line.number} ({line.problem})" for line in bad[:LISTED]]
    more = ["…"] if len(bad) > LISTED else []
    count = f"{len(bad):,} bad {bad[0].unit}{'' if len(bad) == 1 else 's'}"
    return (f"{bad[0].file}: {count} left out: {'; '.join(listed + more)}",)
