"""Options for reading files of triples, and formats by file name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import PurePosixPath
from typing import Any

from kgtool.errors import ConfigError, described, nearest, quoted

# The file endings of each format; the first is the usual one.
FORMATS = {
    "tsv": (".txt", ".tsv"),
    "csv": (".csv",),
    "parquet": (".parquet", ".pq"),
    "jsonl": (".jsonl", ".ndjson", ".json"),
    "ntriples": (".nt",),
    "nquads": (".nq",),
    "turtle": (".ttl",),
    "trig": (".trig",),
    "rdfxml": (".rdf", ".owl"),
    "jsonld": (".jsonld",),
    "dgl": (".dgl",),
}
COMPRESSIONS = (".gz", ".bz2", ".xz", ".zst")
FIELDS = ("head", "relation", "tail")
NO_TRUTH = "none"  # for `Reading.truth`: each row is a fact, whatever its columns look like
# How far labels may differ that `Reading.merge_labels` merges; each includes those before it.
MERGING = ("blanks", "unicode", "case")
_FORMAT_OF = {ending: name for name, endings in FORMATS.items() for ending in endings}


@dataclass(frozen=True)
class Reading:
    """How to read files of triples; an option that is None is inferred from the files.

    Args:
        format: a key of `FORMATS`. By default it is inferred from the file name.
        columns: the columns of head, relation and tail, and of the weight if there is one; as
            names, or as numbers from 1; a tuple, or a text with commas. A weight is the confidence
            of a triple, from 0 to 1. Without `columns`, the weight is the column of that name.
        delimiter: one character; any character except a tab implies CSV, unless the format is
            `tsv`, which has no quoting.
        header: whether the first line names the columns.
        truth: the column that is 1 for a fact and -1 or 0 for a negative; `NO_TRUTH` for none.
        skip_bad_lines: leave out lines that are not triples, with a note, in place of an error.
        merge_labels: one of `MERGING`: labels that differ only so become the most frequent of them.

    Raises:
        ConfigError: for options that are invalid or contradict each other.
    """

    format: str | None = None
    columns: tuple[str, ...] | None = None
    delimiter: str | None = None
    header: bool | None = None
    truth: str | None = None
    skip_bad_lines: bool = False
    merge_labels: str | None = None

    def __post_init__(self) -> None:
        if isinstance(self.columns, str):  # as on the command line
            object.__setattr__(self, "columns", tuple(self.columns.split(",")))
        for name in ("format", "delimiter", "truth"):
            if not isinstance(getattr(self, name), str | None):
                raise ConfigError(f"{name} is {getattr(self, name)!r}. Remedy: pass a text.")
        for name in ("header", "skip_bad_lines"):
            if not isinstance(getattr(self, name), bool | None):
                raise ConfigError(f"{name} is {getattr(self, name)!r}. Remedy: pass True or False.")
        if self.format is not None and self.format not in FORMATS:
            like = nearest(self.format, FORMATS)
            hint = f"did you mean {like}? " if like else ""
            raise ConfigError(
                f"unknown format {quoted(self.format)}. "
                f"Remedy: {hint}use one of {', '.join(FORMATS)}."
            )
        if self.delimiter is not None:
            self._check_delimiter(self.delimiter)
        if self.columns is not None:
            self._check_columns(self.columns)
        if self.merge_labels is not None and self.merge_labels not in MERGING:
            raise ConfigError(
                f"labels cannot be merged by {quoted(self.merge_labels)}. "
                f"Remedy: use one of {', '.join(MERGING)}."
            )

    def _check_delimiter(self, delimiter: str) -> None:
        if len(delimiter) != 1 or delimiter in '"\r\n\0':
            raise ConfigError(
                f"the delimiter {quoted(delimiter)} cannot separate columns. Remedy: give one "
                "character, such as ';', but not a quote or a line end."
            )

    def _check_columns(self, columns: tuple[str, ...]) -> None:
        shown = quoted(",".join(columns))
        example = "as in head,relation,tail or 1,3,2"
        if len(columns) > 4 and all(columns):
            more = ",".join(columns[3:])
            raise ConfigError(
                f"the columns {shown} are more than head, relation, tail and weight. Remedy: pass "
                f"--columns {','.join(columns[:3])}; kgtool data split takes --time {columns[3]} "
                f"to split by time, and --keep-columns {more} to keep further columns."
            )
        if len(columns) < 3 or not all(columns):
            raise ConfigError(
                f"the columns {shown} are not three columns, or four with a weight. "
                f"Remedy: give three column names, or numbers from 1, {example}."
            )
        if len(set(columns)) < len(columns):
            raise ConfigError(
                f"the columns {shown} repeat a column. Remedy: give three columns, {example}."
            )
        if any(position_of(column) == -1 for column in columns):
            raise ConfigError(f"the columns {shown} contain a 0. Remedy: count from 1.")
        if self.header is False and any(position_of(column) is None for column in columns):
            raise ConfigError(
                f"the columns {shown} are names, but --no-header excludes a header. "
                "Remedy: give numbers from 1, or do not pass --no-header."
            )


LOOK = Reading()  # infer all options from the files


def check_reading(reading: object) -> None:
    """Raise a ConfigError for an object that is not a `Reading`."""
    if not isinstance(reading, Reading):
        raise ConfigError(f"reading is {described(reading)}. Remedy: pass a kgtool.Reading.")


def options_of(reading: Reading) -> dict[str, Any]:
    """The options that are not the default, JSON-ready: `Reading(**options)` reads likewise."""
    check_reading(reading)
    return {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in asdict(reading).items()
        if value != getattr(LOOK, name)
    }


def reading_from(options: Mapping[str, Any]) -> Reading:
    """The reading with the options of `options_of`.

    Raises:
        ConfigError, TypeError: for options that `options_of` does not give.
    """
    given: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in options.items()
    }
    return Reading(**given)


def position_of(column: str) -> int | None:
    """The index of a column given as a number from 1; None for a name."""
    return int(column) - 1 if column.isascii() and column.isdecimal() else None


@dataclass(frozen=True)
class FileName:
    """The parts of a file name.

    Args:
        stem: the name without its endings.
        format: a key of `FORMATS`; None for an unknown ending.
        compression: one of `COMPRESSIONS`, or an empty text.
    """

    stem: str
    format: str | None
    compression: str


def file_name(name: str, reading: Reading) -> FileName:
    """Parses a file name such as `train.csv.gz`; the caller's options take precedence."""
    path = PurePosixPath(name)
    compression = path.suffix.lower() if path.suffix.lower() in COMPRESSIONS else ""
    inner = PurePosixPath(path.name[: len(path.name) - len(compression)])
    known = _FORMAT_OF.get(inner.suffix.lower())
    if reading.format is not None:
        known = reading.format
    elif known in ("tsv", "csv") and reading.delimiter is not None:
        known = "tsv" if reading.delimiter == "\t" else "csv"
    return FileName(inner.stem, known, compression)
