"""Tables of results as files: TSV to read, Parquet to keep types, JSON lines; the ending says."""

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
# What tables are written as, beside what they are read from too.
WRITTEN = (*ENDINGS, ".jsonl")


def save_table(frame: pd.DataFrame, path: str | Path) -> None:
    """Write a table, whole or not at all. TSV has a header, no quotes, and nothing for NaN.

    JSON lines have an object a row, and null for NaN.

    Raises:
        DataError: for another ending, or a text that a TSV cannot hold.
        KGToolError: when the file cannot be written.
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
        words = pd.Series(text[name].unique(), dtype=object).astype(str)
        unfit = words[words.str.contains("[\t\n\r]")]
        if len(unfit):
            raise DataError(
                f"{path}: the {name} {unfit.iloc[0]!r} holds a tab or a line break, "
                "which a TSV cannot. Remedy: write a .parquet or .jsonl file."
            )
    with atomic_write(path) as file:
        frame.to_csv(file, sep="\t", index=False, quoting=csv.QUOTE_NONE, lineterminator="\n")


def load_table(path: str | Path) -> pd.DataFrame:
    """Read a table: of a TSV, every cell as text, none taken for missing.

    Raises:
        DataError: when there is no such file, or it is no table.
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
        raise DataError(f"{path}: no table ({reason}). Remedy: write it again.") from error
    if not isinstance(frame.index, pd.RangeIndex):  # made of what the header does not name
        raise DataError(
            f"{path}, line 2: more cells than the header has. Remedy: a tab between two cells, "
            "none inside one."
        )
    return frame


def _read_parquet(path: Path) -> pd.DataFrame:
    data = path.read_bytes()
    file = open_parquet(data, str(path))
    names = file.schema_arrow.names
    columns = read_columns(file, range(len(names)), len(data), str(path))
    # Of a text that comes often there is one object, not one a row.
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
        raise DataError(f"{path}: no table's name. Remedy: end it in {' or '.join(endings)}.")
    return path
