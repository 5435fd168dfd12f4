"""Finds data whose columns may not be head, relation, tail: a relation has too few triples."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from kgtool.data.dataset import SPLITS, KGDataset
from kgtool.data.loaders.reading import FIELDS
from kgtool.errors import DataError

LEAST = 20  # relations: fewer are no reason to doubt
SHARE = 0.05  # of the triples: a relation column seldom has as many distinct values
_COMMANDS = (
    "(kgtool data inspect, convert and split, train and evaluate take it; in Python, "
    "kgtool.Reading(columns=...) does)"
)


def refuse_doubtful(place: object, triples: NDArray[np.int64], *, memory: bool) -> None:
    """Refuse triples whose columns were guessed and may not be head, relation, tail.

    Args:
        place: the file or the data set, for the error.
        triples: `(n, 3)` ids.
        memory: whether the triples were in memory, where names choose the columns.

    Raises:
        DataError: with the counts that raise the doubt, and the remedy.
    """
    if doubt := doubt_of(triples, memory=memory):
        raise DataError(f"{place}: {doubt}.")


def check_columns(data: KGDataset) -> None:
    """Refuse a data set whose columns were guessed and may not be head, relation, tail.

    Raises:
        DataError: as `refuse_doubtful`.
    """
    if data.guessed:
        triples = torch.cat([data.split(split) for split in SPLITS]).numpy()
        refuse_doubtful(data.path or data.name, triples, memory=data.path is None)


def doubt_of(triples: NDArray[np.int64], *, memory: bool = False) -> str:
    """A sentence with a remedy if the second column does not look like relations, or nothing.

    DBpedia50, for example, was published as head, tail, relation: 8,359 values of 32,203 triples
    in the second column, and 351 in the third.

    Args:
        triples: `(n, 3)` ids, read as head, relation, tail without a header and `--columns`.
        memory: whether they were in memory, where names choose the columns.
    """
    heads, relations, tails = (
        int(np.count_nonzero(np.bincount(column))) if len(column) else 0 for column in triples.T
    )
    if relations <= LEAST or relations < SHARE * len(triples):
        return ""
    few = min(heads, tails)
    counts = f"{heads:,}, {relations:,} and {tails:,} distinct values in {len(triples):,} triples"
    if 2 * few <= relations:
        order, which = ("2,1,3", "first") if heads < tails else ("1,3,2", "third")
        problem = f"so the {which} may be the relation"
    elif 5 * relations >= 4 * few:
        problem, order = "and the second has too many for a relation", ""
    else:
        return ""
    return f"the columns have {counts}, {problem}. Remedy: {_remedy(order, memory)}"


def _remedy(order: str, memory: bool) -> str:
    """How to name the columns: by an option for files, by a data frame in memory.

    Args:
        order: the likely numbers of head, relation and tail; empty if none is likelier.
        memory: whether the triples were in memory.
    """
    if memory:
        names = dict(zip((order or "1,2,3").split(","), FIELDS, strict=True))
        named = [names[number] for number in "123"]
        return f"name the columns in their order, as in pandas.DataFrame(triples, columns={named})"
    asis = "if the second is the relation, pass --columns 1,2,3"
    if order:
        return f"pass --columns {order} {_COMMANDS}; {asis}"
    return (
        "pass the numbers of the head's, the relation's and the tail's column by --columns "
        f"{_COMMANDS}; {asis}"
    )
