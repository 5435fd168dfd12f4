"""Reads entity features from files: vectors by label.

A file is one of

- TSV, CSV or text separated by spaces, compressed or not: a label, then its numbers, one row per
  label. A first row that names the columns, and the line `count width` of word2vec, are skipped;
- Parquet: a column of labels, and columns of numbers or one column of lists of numbers;
- `.npy`: a matrix with a row per label. The labels are in the file of the same name that ends in
  `.txt` or `.tsv`, or else in `entities.tsv` of the same folder: a label per line, or `id⇥label`.
  Without such a file, the rows are those of the entities of the data set, by id.

The tables that `kgtool export` writes are read too; their rows of relations are left out. Numbers
become float32.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from kgtool.data.dataset import KGDataset
from kgtool.data.features import Coverage, Features, coverage
from kgtool.data.loaders.delimited_faults import start_of
from kgtool.data.loaders.features import (
    KIND,
    LABELS,
    Floats,
    checked,
    columns_of,
    features_of,
    float32,
    side_by_side,
)
from kgtool.data.loaders.loose import open_loose
from kgtool.data.loaders.reading import FORMATS, LOOK, file_name
from kgtool.data.loaders.sources import missing, os_errors_as_data_errors
from kgtool.data.loaders.table import rows_of_table
from kgtool.errors import ConfigError, DataError, KGToolWarning, fault, quoted
from kgtool.storage.compression import File
from kgtool.storage.parquet import open_parquet, read_columns

OWN = "data"  # for `encoder.features`: the features of the data set in memory
_FORMATS = ("tsv", "csv", "parquet")


def read_features(paths: str | Sequence[str], entities: Sequence[str]) -> Features:
    """The vectors of one or more files, side by side.

    Args:
        paths: the files.
        entities: the labels of the entities by id, for a matrix without labels.

    Raises:
        DataError: for a file that cannot be used; it names the line and the remedy.
    """
    parts = []
    for path in [paths] if isinstance(paths, str) else paths:
        labels, table = _read(Path(path), entities)
        parts.append(checked(labels, table, str(path)))
    return side_by_side(parts)


def any_features(given: Any, dataset: KGDataset) -> Features:
    """The features of files or of memory, by the labels of a data set.

    Args:
        given: one or more paths, see `read_features`, or vectors, see `features_of`.
        dataset: the rows of a matrix without labels are those of its entities, by id.

    Raises:
        DataError: as `read_features` and `features_of`.
    """
    paths = [given] if isinstance(given, (str, Path)) else given
    entities = dataset.vocabulary.entities
    if isinstance(paths, (list, tuple)) and all(isinstance(p, (str, Path)) for p in paths):
        return read_features([str(path) for path in paths], entities)
    return features_of(given, entities)


def with_features(dataset: KGDataset, wanted: str | Sequence[str] | None) -> KGDataset:
    """The data set with the features that `encoder.features` names; None for none.

    Raises:
        DataError: if they cannot be read, or no entity of train has one.
        ConfigError: if they are files, and the data set has other features.
    """
    if wanted is None:
        if dataset.features is not None:
            warnings.warn(
                f"{dataset.name} has features, and this model does not read them. To use them, set "
                "encoder.features = 'data'.",
                KGToolWarning,
                stacklevel=3,
            )
        return dataset
    if wanted != OWN:
        if dataset.features is not None:
            raise ConfigError(
                f"encoder.features = {wanted!r}, and {dataset.name} has features of its own. "
                "Remedy: set encoder.features = 'data', or make the data set without features"
            )
        given = read_features(wanted, dataset.vocabulary.entities)
        dataset = replace(dataset, features=given)
    if dataset.features is None:
        raise DataError(
            f"{dataset.name}: encoder.features = 'data', and the data set has no features. Remedy: "
            "pass them, as in kgtool.dataset_of(..., features=...), or set encoder.features to a "
            "file of vectors."
        )
    for each in coverages(dataset, wanted):
        if not each.of_train:
            first, theirs = dataset.features.labels[:3].to_pylist(), dataset.vocabulary.entities[:3]
            raise fault(
                each.source,
                f"none of its labels ({', '.join(map(quoted, first))}, …) is an entity of train "
                f"({', '.join(map(quoted, theirs))}, …)",
                "give vectors of the labels of the data",
            )
    return dataset


def coverages(dataset: KGDataset, wanted: str | Sequence[str] | None) -> list[Coverage]:
    """The coverage of each source of the features that `encoder.features` names."""
    features = dataset.features
    if wanted is None or features is None:
        return []
    names = [wanted] if isinstance(wanted, str) else list(wanted)
    if wanted == OWN or len(names) != len(features.widths):
        names = [f"{OWN}[{i}]" for i in range(len(features.widths))]
        names = [OWN] if len(names) == 1 else names
    return coverage(features, names, dataset.vocabulary.entities, dataset.train)


def _read(path: Path, entities: Sequence[str]) -> tuple[Sequence[str], Floats]:
    with os_errors_as_data_errors(path):
        if not path.exists():
            raise missing(path)
        if path.suffix.lower() == ".npy":
            return _of_npy(path, entities)
    kind = file_name(path.name, LOOK).format
    if kind not in _FORMATS:
        endings = ", ".join(ending for name in _FORMATS for ending in FORMATS[name])
        raise fault(path, "not a file of vectors", f"let its name end in one of .npy, {endings}")
    file = open_loose(path, LOOK)
    return _of_parquet(file) if kind == "parquet" else _of_text(file)


# NumPy.


def _of_npy(path: Path, entities: Sequence[str]) -> tuple[Sequence[str], Floats]:
    try:
        matrix = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError) as error:
        reason = " ".join(str(error).split())
        problem = f"not a matrix of numbers in NumPy's format ({reason[:200]})"
        raise fault(path, problem, "save it with numpy.save as float32") from error
    table = float32(matrix, str(path))
    labels: Sequence[str] = entities
    of = "entities of the data set"
    names = path.with_suffix(".txt"), path.with_suffix(".tsv"), path.with_name("entities.tsv")
    if own := next((name for name in names if name.is_file()), None):
        labels, of = _labels_of(own), f"labels in {own}"
    if len(labels) != len(table):
        raise fault(
            path, f"{len(table):,} rows for {len(labels):,} {of}",
            f"write the label of each row into {path.with_suffix('.txt')}, a label per line",
        )  # fmt: skip
    return labels, table


def _labels_of(path: Path) -> list[str]:
    """The labels of a matrix: a label per line, or lines of `id⇥label`, with or without header."""
    with os_errors_as_data_errors(path):
        data = path.read_bytes()
    try:
        lines = data[start_of(data) :].decode().split("\n")
    except UnicodeDecodeError as error:
        raise fault(path, "not UTF-8", "save the file as UTF-8") from error
    lines = [line.removesuffix("\r") for line in lines]
    while lines and not lines[-1]:
        lines.pop()
    if not lines or "\t" not in lines[0]:
        return lines
    header = int(lines[0] == "id\tlabel")
    labels: dict[int, str] = {}
    for number, line in enumerate(lines[header:], header + 1):
        first, tab, label = line.partition("\t")
        if not (first.isascii() and first.isdecimal()) or not tab or "\t" in label:
            problem = f"{quoted(line)} is not an id and its label"
            raise fault(path, problem, "write id⇥label in each line", number)
        if labels.setdefault(int(first), label) is not label:
            raise fault(path, f"a second label of the id {first}", "keep one", number)
    if labels and max(labels) != len(labels) - 1:
        problem = f"the ids do not count from 0 to {len(labels) - 1:,}"
        raise fault(path, problem, "give the label of each row")
    return [labels[i] for i in range(len(labels))]


# Text and Parquet.


def _of_text(file: File) -> tuple[list[str], Floats]:
    labels: list[str] = []
    rows: list[Floats] = []
    seen: dict[str, int] = {}
    columns: tuple[int, list[int], int | None] | None = None
    for number, cells in _text_rows(file):
        if columns is None:
            if _is_count(cells, number):
                continue
            named = _is_header(cells)
            columns = columns_of(cells if named else [""] * len(cells), file.place)
            width = len(cells)
            if named:
                continue
        label_at, number_at, kind_at = columns
        if len(cells) != width:
            problem = f"{len(cells) - 1:,} numbers, where rows before have {width - 1:,}"
            raise fault(file.place, problem, "give each label as many numbers", number)
        if kind_at is not None and cells[kind_at] != "entity":
            continue
        label = cells[label_at]
        if not label.strip():
            raise fault(file.place, "no label", "write the label first", number)
        if label in seen:
            problem = f"a second vector of {quoted(label)}; the first is in line {seen[label]}"
            raise fault(file.place, problem, "keep one", number)
        seen[label] = number
        labels.append(label)
        rows.append(_numbers([cells[i] for i in number_at], file.place, number))
    table = np.stack(rows) if rows else np.empty((0, 1), np.float32)
    return labels, table


def _text_rows(file: File) -> Iterator[tuple[int, list[str]]]:
    """The number of each row, and its cells; spaces separate them in a text without tabs."""
    if file.format == "tsv" and _is_spaced(file.data):
        try:
            text = file.data[start_of(file.data) :].decode()
        except UnicodeDecodeError as error:
            raise fault(file.place, "not UTF-8", "save the file as UTF-8") from error
        for number, line in enumerate(text.split("\n"), 1):
            if line.strip():
                yield number, line.rstrip().split(" ")
        return
    yield from rows_of_table(file)


def _is_spaced(data: bytes) -> bool:
    """Whether the first two lines have spaces, and no tabs, commas and the like."""
    lines = [line for line in data[: 1 << 20].split(b"\n", 2)[:2] if line.strip()]
    return bool(lines) and all(
        b" " in line and not any(mark in line for mark in (b"\t", b",", b";", b"|"))
        for line in lines
    )


def _is_count(cells: Sequence[str], number: int) -> bool:
    """Whether a row is the first line of word2vec's format: the number of rows and the width."""
    return number == 1 and len(cells) == 2 and all(cell.isdecimal() for cell in cells)


def _is_header(cells: Sequence[str]) -> bool:
    """Whether the first row names the columns; names of numbers may be 0, 1, …"""
    first = cells[0].strip().casefold()
    numbers = [_number(cell) for cell in cells[1:]]
    counted = [list(range(begin, begin + len(numbers))) for begin in (0, 1)]
    return (
        (len(cells) > 1 and all(number is None for number in numbers))
        or first in ("", KIND)
        or (first in LABELS and numbers in counted)
    )


def _number(cell: str) -> float | None:
    try:
        return float(cell)
    except ValueError:
        return None


def _numbers(cells: Sequence[str], place: str, line: int) -> Floats:
    try:
        values = np.array(list(map(float, cells)))
    except ValueError:
        bad = next(cell for cell in cells if _number(cell) is None)
        remedy = "write numbers after the label; leave out rows without a vector"
        raise fault(place, f"{quoted(bad)} is not a number", remedy, line) from None
    with np.errstate(over="ignore"):
        numbers = values.astype(np.float32)
    if not np.isfinite(numbers).all():
        bad = cells[int(np.argmin(np.isfinite(numbers)))]
        remedy = "give finite numbers of float32, or leave the row out"
        raise fault(place, f"the number {bad} is not finite", remedy, line)
    return numbers


def _of_parquet(file: File) -> tuple[list[str], Floats]:
    opened = open_parquet(file.data, file.place)
    schema = opened.schema_arrow
    label, numbers, kind = columns_of(schema.names, file.place)
    lists = [i for i in numbers if pa.types.is_list(schema.types[i])]
    lists += [i for i in numbers if pa.types.is_fixed_size_list(schema.types[i])]
    lists += [i for i in numbers if pa.types.is_large_list(schema.types[i])]
    if lists:
        if len(numbers) > 1:
            names = ", ".join(quoted(schema.names[i]) for i in numbers)
            remedy = "keep the labels and one column of lists"
            raise fault(file.place, f"several columns with a column of lists: {names}", remedy)
        table = _of_lists(opened, schema.names[lists[0]], file.place)
    else:
        columns = read_columns(opened, numbers, len(file.data), file.place)
        for i, column in zip(numbers, columns, strict=True):
            if not (pa.types.is_floating(column.type) or pa.types.is_integer(column.type)):
                problem = f"the column {quoted(schema.names[i])} holds {column.type}, not numbers"
                raise fault(file.place, problem, "keep the labels and columns of numbers")
            _refuse_null(column, schema.names[i], file.place)
        table = float32(np.stack([c.to_numpy() for c in columns], axis=1), file.place)
    keys = [label] if kind is None else [label, kind]
    texts = read_columns(opened, keys, len(file.data), file.place)
    _refuse_null(texts[0], schema.names[label], file.place)
    labels = [str(cell) for cell in texts[0].to_pylist()]
    if kind is not None:
        own = [i for i, cell in enumerate(texts[1].to_pylist()) if cell == "entity"]
        return [labels[i] for i in own], table[own]
    return labels, table


def _of_lists(opened: Any, name: str, place: str) -> Floats:
    column = opened.read(columns=[name]).column(name)
    _refuse_null(column, name, place)
    lists = column.combine_chunks()
    lists = lists.combine_chunks() if isinstance(lists, pa.ChunkedArray) else lists
    width = pa.compute.list_value_length(lists).to_numpy()
    if len(width) and (width != width[0]).any():
        row = int(np.argmax(width != width[0]))
        problem = f"{width[row]:,} numbers, where rows before have {width[0]:,}"
        raise fault(f"{place}, row {row + 1}", problem, "give each label as many numbers")
    flat = lists.flatten()
    if not (pa.types.is_floating(flat.type) or pa.types.is_integer(flat.type)):
        problem = f"the column {quoted(name)} holds lists of {flat.type}"
        raise fault(place, problem, "give lists of numbers")
    if flat.null_count:
        row = int(np.argmax(flat.is_null().to_numpy(zero_copy_only=False))) // int(width[0])
        raise fault(f"{place}, row {row + 1}", "a number is missing", "leave the row out")
    many = int(width[0]) if len(width) else 1
    return float32(flat.to_numpy(zero_copy_only=False).reshape(-1, many), place)


def _refuse_null(column: pa.ChunkedArray, name: str, place: str) -> None:
    if column.null_count:
        row = int(np.argmax(column.is_null().to_numpy()))
        problem = f"the cell of the column {quoted(name)} is missing"
        raise fault(f"{place}, row {row + 1}", problem, "fill it in, or leave the row out")
