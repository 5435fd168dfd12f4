"""What a caller says about files of triples, and what their names say."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePosixPath

from kgtool.errors import ConfigError, nearest, quoted

# The endings by which each format is known; the first is the usual one.
FORMATS = {
    "tsv": (".txt", ".tsv"),
    "csv": (".csv",),
    "parquet": (".parquet", ".pq"),
    "jsonl": (".jsonl", ".ndjson"),
    "ntriples": (".nt",),
    "turtle": (".ttl",),
}
COMPRESSIONS = (".gz", ".bz2", ".xz", ".zst")
FIELDS = ("head", "relation", "tail")
EXTRA = "extra column"
_FORMAT_OF = {ending: name for name, endings in FORMATS.items() for ending in endings}


@dataclass(frozen=True)
class Reading:
    """What the caller says about the files; None leaves it to a look at them.

    Args:
        format: a key of `FORMATS`. By default the file's name says it.
        columns: those of head, relation and tail, and where asked a fourth: names of a header or of
            a table's columns, or numbers from 1.
        delimiter: one character; another than a tab separates CSV.
        header: whether the first line names the columns.

    Raises:
        ConfigError: for words that no file can be read by.
    """

    format: str | None = None
    columns: tuple[str, ...] | None = None
    delimiter: str | None = None
    header: bool | None = None

    def __post_init__(self) -> None:
        if self.format is not None and self.format not in FORMATS:
            like = nearest(self.format, FORMATS)
            hint = f"is it {like}? " if like else ""
            raise ConfigError(
                f"no format {quoted(self.format)}. Remedy: {hint}one of {', '.join(FORMATS)}."
            )
        if self.delimiter is not None:
            self._check_delimiter(self.delimiter)
        if self.columns is not None:
            self._check_columns(self.columns)

    def _check_delimiter(self, delimiter: str) -> None:
        if len(delimiter) != 1 or delimiter in '"\r\n\0':
            raise ConfigError(
                f"the delimiter {quoted(delimiter)} cannot separate columns. Remedy: give one "
                "character, as in ';', that is no quote and no line end."
            )
        if self.format == "tsv" and delimiter != "\t":
            raise ConfigError(
                f"the format tsv is separated by tabs, not by {quoted(delimiter)}. "
                "Remedy: give the format csv."
            )

    def _check_columns(self, columns: tuple[str, ...]) -> None:
        shown = quoted(",".join(columns))
        example = "as in head,relation,tail or 1,3,2"
        if len(columns) not in (3, 4) or not all(columns):
            raise ConfigError(
                f"the columns {shown} are not those of head, relation and tail. "
                f"Remedy: give three names of columns, or numbers from 1, {example}."
            )
        if len(set(columns)) < len(columns):
            raise ConfigError(
                f"the columns {shown} name one twice. Remedy: give three columns, {example}."
            )
        if any(position_of(column) == -1 for column in columns):
            raise ConfigError(f"the columns {shown} hold a 0. Remedy: count from 1.")
        if self.header is False and any(position_of(column) is None for column in columns):
            raise ConfigError(
                f"the columns {shown} are names, and there is to be no header that holds them. "
                "Remedy: give numbers from 1, or leave out --no-header."
            )


LOOK = Reading()  # says nothing: look


def position_of(column: str) -> int | None:
    """The index of a column that is given by its number from 1; None for a name."""
    return int(column) - 1 if column.isascii() and column.isdecimal() else None


@dataclass(frozen=True)
class FileName:
    """What a file's name says.

    Args:
        stem: the name without its endings.
        format: a key of `FORMATS`; None where the ending is not known.
        compression: one of `COMPRESSIONS`, or nothing.
    """

    stem: str
    format: str | None
    compression: str


def file_name(name: str, reading: Reading) -> FileName:
    """Reads the endings of a name, as in `train.csv.gz`; what the caller says goes first."""
    path = PurePosixPath(name)
    compression = path.suffix.lower() if path.suffix.lower() in COMPRESSIONS else ""
    inner = PurePosixPath(path.name[: len(path.name) - len(compression)])
    known = _FORMAT_OF.get(inner.suffix.lower())
    if reading.format is not None:
        known = reading.format
    elif known in ("tsv", "csv") and reading.delimiter is not None:
        known = "tsv" if reading.delimiter == "\t" else "csv"
    return FileName(inner.stem, known, compression)
