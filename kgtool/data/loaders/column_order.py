"""Finds data whose columns may not be head, relation, tail: a relation has too few triples."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

LEAST = 20  # relations: fewer are no reason to doubt
SHARE = 0.05  # of the triples: a relation column seldom has as many distinct values
_COMMANDS = "(kgtool data inspect, convert and split, train and evaluate take it)"


def doubt_of(triples: NDArray[np.int64]) -> str:
    """A sentence with a remedy if the second column does not look like relations, or nothing.

    DBpedia50, for example, was published as head, tail, relation: 8,359 values of 32,203 triples
    in the second column, and 351 in the third.

    Args:
        triples: `(n, 3)` ids, read as head, relation, tail without a header and `--columns`.
    """
    heads, relations, tails = (
        int(np.count_nonzero(np.bincount(column))) if len(column) else 0 for column in triples.T
    )
    if relations <= LEAST or relations < SHARE * len(triples):
        return ""
    few = min(heads, tails)
    counts = f"{heads:,}, {relations:,} and {tails:,} distinct values in {len(triples):,} triples"
    asis = "if the second is the relation, pass --columns 1,2,3"
    if 2 * few <= relations:
        order = "2,1,3" if heads < tails else "1,3,2"
        which = "first" if heads < tails else "third"
        return (
            f"the columns have {counts}, so the {which} may be the relation. Remedy: pass "
            f"--columns {order} {_COMMANDS}; {asis}"
        )
    if 5 * relations >= 4 * few:
        return (
            f"the columns have {counts}: the second has too many for a relation. Remedy: pass the "
            f"numbers of the head's, the relation's and the tail's column by "
            f"--columns {_COMMANDS}; {asis}"
        )
    return ""
