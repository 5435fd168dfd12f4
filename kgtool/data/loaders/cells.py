"""Rows in memory as columns of head, relation and tail: data frames, dictionaries, tuples, arrays.

A data frame, dictionaries and named tuples give the columns by name, as a file with a header does:
by names that `kgtool.data.loaders.header` knows. Other rows are in head, relation, tail order.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from kgtool.data.dataset import KGDataset
from kgtool.data.loaders.header import WEIGHT, choose_columns, naming_of, role_of
from kgtool.data.loaders.reading import FIELDS, Reading, position_of
from kgtool.errors import DataError, fault, quoted

_SHOWN = 8


class Cells(NamedTuple):
    """Rows in memory as columns.

    Attributes:
        columns: the cells of head, relation and tail, and of an extra column, `n` each.
        guessed: whether nothing named the columns.
        weights: the cells of a column of weights, `n`; None without one.
    """

    columns: list[Sequence[Any]]
    guessed: bool = False
    weights: Sequence[Any] | None = None


def cells_of(
    given: Any,
    place: str,
    *,
    columns: Sequence[str] | None = None,
    extra: str | None = None,
    partial: bool = False,
) -> Cells:
    """The cells of head, relation and tail, and of an extra column.

    Args:
        given: a data frame, also of pyarrow or polars; a dictionary of columns; a list of
            dictionaries, named tuples or triples; an `(n, 3)` array or tensor.
        place: the name of the rows in errors.
        columns: the columns of head, relation and tail, by name or by number from 1; the fourth is
            the weight. Without them, a further column named weight is the weight.
        extra: a further column, by name or by number from 1.
        partial: one of the three named columns may be missing; its cells are None.

    Raises:
        DataError: for another object, another number of columns, or columns whose names do not
            show head, relation and tail.
    """
    table = _table(given, place)
    if not isinstance(table, pd.DataFrame):
        if columns is None and extra is None:
            _check_width(table, 3, place)
            return Cells(list(zip(*table, strict=True)) or [(), (), ()], guessed=True)
        _check_width(table, len(table[0]) if table else 0, place)
        table = pd.DataFrame(table, dtype=object)
    names = list(table.columns)
    texts = [str(name) for name in names]
    weight: int | None = None
    if columns is not None:
        choice = choose_columns(
            texts, Reading(columns=tuple(columns)), [] if extra is None else [extra], place, None
        )
        chosen: Sequence[int | None] = choice.columns
        if WEIGHT in choice.extra[:1] and len(columns) > 3:
            weight, chosen = choice.columns[3], (*choice.columns[:3], *choice.columns[4:])
    else:
        chosen = _choose(names, extra, place, partial)
        folded = [text.strip().casefold() for text in texts]
        if len(names) > 3 and folded.count(WEIGHT) == 1 and folded.index(WEIGHT) not in chosen:
            weight = folded.index(WEIGHT)
    count = len(table)
    cells: list[Sequence[Any]] = [
        [None] * count if i is None else table.iloc[:, i].tolist() for i in chosen
    ]
    return Cells(
        cells,
        guessed=columns is None and _are_numbers(names),
        weights=None if weight is None else table.iloc[:, weight].tolist(),
    )


def _table(given: Any, place: str) -> pd.DataFrame | list[tuple[Any, ...]]:
    """A data frame where the cells have names, else rows."""
    if isinstance(given, pd.DataFrame):
        return given
    if isinstance(given, KGDataset):
        raise fault(place, "a data set where triples are expected", "use the data set as it is")
    if isinstance(given, (str, bytes, os.PathLike)):
        problem = f"the text {quoted(str(given))} where triples are expected"
        raise fault(place, problem, "read files with kgtool.load_dataset or kgtool.split")
    if hasattr(given, "to_pandas"):
        return given.to_pandas()
    if isinstance(given, np.ndarray) and given.dtype.names:
        given = {name: given[name].tolist() for name in given.dtype.names}
    if isinstance(given, pd.Series) and any(role_of(str(name)) is not None for name in given.index):
        given = dict(given)  # a row of a data frame
    if isinstance(given, Mapping) and given and all(map(_is_cell, given.values())):
        return pd.DataFrame([dict(given)], dtype=object)
    if isinstance(given, Mapping):
        try:
            return pd.DataFrame(dict(given), dtype=object)
        except ValueError:  # no columns, or columns of different lengths
            problem = "a dictionary whose values are not columns of one length"
            raise fault(place, problem, "give the columns head, relation and tail") from None
    shape = tuple(getattr(given, "shape", ()))
    if len(shape) == 2 and (shape[1] == 3 or shape[0] not in (2, 3)):
        try:
            return [tuple(row) for row in given.tolist()]
        except (AttributeError, RuntimeError):  # a sparse matrix
            raise no_rows(given, place) from None
    if len(shape) > 1 or (shape and str(given.dtype) != "object"):
        raise _wrong_shape(shape, place)
    return _rows(given, place)


def _is_cell(value: Any) -> bool:
    return isinstance(value, (str, int, np.integer)) or is_missing(value)


def _rows(given: Any, place: str) -> pd.DataFrame | list[tuple[Any, ...]]:
    if isinstance(given, (set, frozenset)):
        given = sorted(given, key=repr)  # a set has no order, and splits depend on it
    try:
        rows = list(given)
    except TypeError:
        raise no_rows(given, place) from None
    if any(isinstance(row, (str, bytes)) for row in rows):
        raise no_rows(given, place)
    named = [isinstance(row, Mapping) or hasattr(row, "_fields") for row in rows]
    if any(named):
        if not all(named):
            row = named.index(not named[0]) + 1
            problem = "some rows have names for their cells and others do not"
            raise fault(f"{place}, row {row}", problem, "give rows of one kind")
        rows = [dict(row) if isinstance(row, Mapping) else row._asdict() for row in rows]
        return pd.DataFrame(rows, dtype=object)
    if isinstance(given, tuple) and len(rows) == 3 and all(hasattr(row, "shape") for row in rows):
        remedy = "give rows, as in list(zip(heads, relations, tails))"
        raise fault(place, "three arrays, which may be columns or rows", remedy)
    try:
        return [tuple(row.tolist() if hasattr(row, "tolist") else row) for row in rows]
    except TypeError:
        raise no_rows(given, place) from None


def _check_width(rows: list[tuple[Any, ...]], width: int, place: str) -> None:
    wrong = next((i for i, row in enumerate(rows) if len(row) != width), None)
    if wrong is not None:
        problem = f"{len(rows[wrong])} values where {width} are expected"
        remedy = "give a head, a relation and a tail in each row"
        raise fault(f"{place}, row {wrong + 1}", problem, remedy)


def _wrong_shape(shape: tuple[int, ...], place: str) -> DataError:
    remedy = "give a row per triple: head, relation, tail"
    if len(shape) == 2 and shape[0] == 3:
        remedy = "turn rows into columns, as in triples.T"
    elif len(shape) == 2 and shape[0] == 2:
        remedy = "for an edge_index, give a graph that has edge_index and edge_type"
    return fault(place, f"an array of the shape {shape} where (n, 3) is expected", remedy)


def no_rows(given: Any, place: str) -> DataError:
    """The error for an object that does not hold triples."""
    return fault(
        place,
        f"no triples: {quoted(type(given).__name__)}",
        "give a data frame, a list of (head, relation, tail), an (n, 3) array, or a DGL or "
        "PyTorch Geometric graph",
    )


def _choose(names: list[Any], extra: str | None, place: str, partial: bool) -> list[int | None]:
    """The positions of head, relation and tail, then of an extra column, by their names.

    Columns named head, relation and tail come first. Otherwise three columns must have names that
    are known together, such as subject, predicate and object.
    """
    texts = [str(name) for name in names]
    taken = None if extra is None else position_of(extra)
    if taken is None and extra in texts:
        taken = texts.index(extra)
    others = [i for i in range(len(texts)) if i != taken]
    if _are_numbers(names):
        if len(others) != 3:
            problem = f"{len(others)} columns without names where 3 are expected"
            raise fault(place, problem, "give head, relation and tail, as in frame[[0, 1, 2]]")
        chosen: list[int | None] = list(others)
    else:
        chosen = _by_name(texts, others, place, partial)
    if extra is None:
        return chosen
    numbers = tuple(str(1 if i is None else i + 1) for i in chosen)
    return list(choose_columns(texts, Reading(columns=numbers), [extra], place, None).columns)


def _are_numbers(names: list[Any]) -> bool:
    """Whether columns have only numbers, no names."""
    return all(isinstance(name, (int, np.integer)) for name in names)


def _by_name(texts: list[str], others: list[int], place: str, partial: bool) -> list[int | None]:
    folded = [text.strip().casefold() for text in texts]
    exact = [[i for i in others if folded[i] == field] for field in FIELDS]
    present = sum(map(bool, exact))
    if all(len(found) <= 1 for found in exact) and (present == 3 or (partial and present == 2)):
        return [found[0] if found else None for found in exact]
    fits = [
        [trio[i] for i in order]
        for trio in combinations(others, 3)
        if (order := naming_of([texts[i] for i in trio])) is not None
    ]
    if len(fits) == 1:
        return list(fits[0])
    shown = ", ".join(map(quoted, texts[:_SHOWN])) + (", …" if len(texts) > _SHOWN else "")
    if len(fits) > 1:
        problem = f"several columns may be head, relation and tail: {shown}"
        example = ", ".join(repr(texts[i]) for i in fits[0])
        raise fault(place, problem, f"choose three, as in frame[[{example}]]")
    if partial:
        roles = [[i for i in others if role_of(texts[i]) == role] for role in range(3)]
        if sorted(map(len, roles)) == [0, 1, 1]:
            return [found[0] if found else None for found in roles]
    if len(others) < 3 and not partial:
        problem = f"{len(texts)} columns where 3 are expected: {shown}"
        raise fault(place, problem, "give head, relation and tail")
    problem = f"the names of the columns do not show head, relation and tail: {shown}"
    raise fault(place, problem, "rename the columns to head, relation and tail")


def is_missing(cell: Any) -> bool:
    """Whether a cell is None, NaN or one of the missing values of pandas."""
    return (
        cell is None
        or cell is pd.NA
        or cell is pd.NaT
        or (isinstance(cell, (float, np.floating)) and bool(cell != cell))
    )


def labels_of(
    cells: Sequence[Any], names: Mapping[int, str] | None, place: str, field: str
) -> list[str]:
    """The labels of cells: a text is its own label, an integer has the label with that id.

    Args:
        cells: texts and integers.
        names: id → label; None for the digits of the id.
        place, field: the rows and the column, for errors.

    Raises:
        DataError: for a cell that is neither, an id below 0 or without a label, or a text that is
            not among the labels.
    """
    known = None if names is None else set(names.values())
    if known is None and pd.api.types.infer_dtype(cells, skipna=False) == "string":
        return list(cells)
    labels = []
    for row, cell in enumerate(cells, 1):
        if getattr(cell, "shape", None) == () and hasattr(cell, "item"):
            cell = cell.item()  # a number of NumPy or torch
        if isinstance(cell, str):
            if known is not None and cell not in known:
                problem = f"the {field} {quoted(cell)} is not among the {len(known):,} given labels"
                raise fault(f"{place}, row {row}", problem, "add it to them, or do not pass them")
            labels.append(str(cell))
        elif isinstance(cell, int) and not isinstance(cell, bool):
            labels.append(_label_of_id(cell, names, f"{place}, row {row}", field))
        else:
            raise _not_a_label(cell, f"{place}, row {row}", field)
    return labels


def labels_of_ids(
    ids: Sequence[int], names: Mapping[int, str] | None, place: str, kind: str, prefix: str = ""
) -> list[str]:
    """The labels of ids; without names, the prefix and the digits of the id.

    Raises:
        DataError: for an id below 0 or without a label.
    """
    try:
        if names is not None:
            return [names[i] for i in ids]
    except KeyError:
        pass
    return [_label_of_id(i, names, place, kind, prefix) for i in ids]


def _label_of_id(
    number: int, names: Mapping[int, str] | None, place: str, kind: str, prefix: str = ""
) -> str:
    if number < 0:
        remedy = "give ids from 0, or a string if it is a label"
        raise fault(place, f"the {kind} {number} is below 0", remedy)
    if names is None:
        return f"{prefix}{number}"
    if number not in names:
        problem = f"the {kind} {number} has no label among {len(names)}"
        raise fault(place, problem, "give a label for each id")
    return names[number]


def _not_a_label(cell: Any, place: str, field: str) -> DataError:
    if is_missing(cell):
        remedy = "fill it in, or drop the row, as in frame.dropna()"
        return fault(place, f"the {field} is missing: {cell!r}", remedy)
    problem = f"the {field} is {quoted(repr(cell))}, neither a string nor an integer"
    if isinstance(cell, float) and cell.is_integer():
        return fault(place, problem, "make ids integers, as in .astype('int64')")
    return fault(place, problem, "make it a string")


def names_by_id(given: Any, argument: str, unique: bool = True) -> dict[int, str] | None:
    """Id → label, from labels in the order of ids, or a dictionary from label to id or back.

    Args:
        given: a list, array or series of labels, or a dictionary; None for no labels.
        argument: its name in errors.
        unique: whether two ids may not have one label.

    Raises:
        DataError: for another object, a label that is not a text, or two ids with one label.
    """
    if given is None:
        return None
    if isinstance(given, Mapping):
        pairs = _pairs(given, argument)
    else:
        refused = (str, bytes, set, frozenset, pd.DataFrame)
        if isinstance(given, refused) or not hasattr(given, "__len__"):
            problem = f"the type {type(given).__name__} where labels are expected"
            raise fault(argument, problem, "give a list: the label of id 0, of id 1 and so on")
        pairs = list(enumerate(given.tolist() if hasattr(given, "tolist") else given))
    names: dict[int, str] = {}
    id_of: dict[str, int] = {}
    for number, label in pairs:
        if isinstance(label, (int, np.integer)) and not isinstance(label, bool):
            label = str(label)
        if not isinstance(label, str):
            problem = f"the label of id {number} is {quoted(repr(label))}, not a string"
            raise fault(argument, problem, "make each label a string")
        if unique and label in id_of:
            problem = f"the ids {id_of[label]} and {number} have the same label {quoted(label)}"
            raise fault(argument, problem, "give each id its own label")
        if number in names:
            problem = f"{quoted(names[number])} and {quoted(label)} have the same id {number}"
            raise fault(argument, problem, "give each label its own id")
        names[number], id_of[label] = label, number
    return names


def _pairs(given: Mapping[Any, Any], argument: str) -> list[tuple[int, Any]]:
    """The id and the label of each entry of a dictionary."""
    for turned in (False, True):
        items = [(key, value) if turned else (value, key) for key, value in given.items()]
        if all(isinstance(i, (int, np.integer)) and not isinstance(i, bool) for i, _ in items):
            return [(int(i), label) for i, label in items]
    problem = "a dictionary that has no ids"
    raise fault(argument, problem, "give label → id, such as {'treats': 0}, or a list of labels")
