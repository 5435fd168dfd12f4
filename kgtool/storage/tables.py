"""Result tables as files: TSV, Parquet (with types) or JSON lines, by the file's ending."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import pyarrow as pa

from kgtool.errors import DataError, KGToolError
from kgtool.storage.files import atomic_write
from kgtool.storage.parquet import open_parquet, read_columns

ENDINGS = (".tsv", ".parquet")
# The formats for writing; `ENDINGS` can also be read.
WRITTEN = (*ENDINGS, ".jsonl")


def save_table(frame: pd.DataFrame, path: str | Path) -> None:
    """Write a table, completely or not at all.

    TSV has a header, no quotes, and an empty cell for NaN. JSON lines have an object per row, and
    null for NaN.

    Raises:
        DataError: for another ending, or a text that a TSV file cannot hold.
        KGToolError: if the file cannot be written.
    """
    path = _known(path, WRITTEN)
    if path.suffix == ".parquet":
        with atomic_write(path, "wb") as file:
            frame.to_parquet(file, index=False)
        return
    if path.suffix == ".jsonl":
        with atomic_write(path) as file:
            frame.to_json(
                file, orient="records", lines=True, force_ascii=False, double_precision=15
            )
        return
    text = frame.select_dtypes(exclude=["number", "bool"])
    for name in text.columns:
        texts = pd.Series(text[name].unique(), dtype=object).astype(str)
        unfit = texts[texts.str.contains("[\t\n\r]")]
        if len(unfit):
            raise DataError(
                f"{path}: the {name} {unfit.iloc[0]!r} has a tab or a line break, so a TSV file "
                "cannot hold it. Remedy: write a .parquet or .jsonl file."
            )
    with atomic_write(path) as file:
        frame.to_csv(file, sep="\t", index=False, quoting=csv.QUOTE_NONE, lineterminator="\n")


def load_table(path: str | Path) -> pd.DataFrame:
    """Read a table. All cells of a TSV file are texts; none is read as a missing value.

    Raises:
        DataError: for a missing file, or one that is not a table.
    """
    path = _known(path, ENDINGS)
    if not path.is_file():
        raise DataError(f"{path}: no such file. Remedy: check the name.")
    try:
        if path.suffix == ".parquet":
            return _read_parquet(path)
        frame = pd.read_csv(
            path, sep="\t", dtype=str, keep_default_na=False, quoting=csv.QUOTE_NONE,
            encoding="utf-8-sig", skip_blank_lines=False,
        )  # fmt: skip
    except OSError as error:
        raise KGToolError(f"cannot read {path}: {error.strerror or error}") from error
    except (ValueError, UnicodeDecodeError) as error:  # pandas' and Arrow's errors are ValueErrors
        reason = " ".join(str(error).split())
        raise DataError(f"{path}: not a table ({reason}). Remedy: write it again.") from error
    if not isinstance(frame.index, pd.RangeIndex):  # pandas made an index of the first cells
        raise DataError(
            f"{path}, line 2: more cells than the header has. Remedy: separate cells by tabs, and "
            "do not use tabs inside cells."
        )
    return frame


def _read_parquet(path: Path) -> pd.DataFrame:
    data = path.read_bytes()
    file = open_parquet(data, str(path))
    names = file.schema_arrow.names
    columns = read_columns(file, range(len(names)), len(data), str(path))
    # A text that occurs often is one object, not one per row.
    frame = {
        name: column.to_pandas().astype(object)
        if pa.types.is_dictionary(column.type)
        else column.to_pandas()
        for name, column in zip(names, columns, strict=True)
    }
    return pd.DataFrame(frame)


def _known(path: str | Path, endings: Sequence[str]) -> Path:
    path = Path(path)
    if path.suffix not in endings:
        supported = f"{', '.join(endings[:-1])} or {endings[-1]}"
        raise DataError(f"{path}: unsupported table format. Remedy: use {supported}.")
    return path
