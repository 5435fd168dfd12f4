"""Where each triple of a new data set goes, and why some go nowhere.

A target is an int64: a split in the order of `SPLITS`, those of a second graph behind those of the
first; below 0 it says why the triple is left out.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor

from kgtool.errors import DataError
from kgtool.leakage import near_duplicates, redundant
from kgtool.splits import divide_entities, random_split, time_split, wanted_counts
from kgtool.triples import SPLITS

LEAK = "near-duplicate relation"
UNSEEN = "entity or relation unseen in train"
BETWEEN = "between the two graphs"
OTHER_RELATION = "relation not in the first graph"
_REASONS = (LEAK, UNSEEN, BETWEEN, OTHER_RELATION)


@dataclass(frozen=True, eq=False)
class Division:
    """A data set made of loose triples.

    Attributes:
        folders: those written: one, or two with `inductive`.
        table: `folder, split, triples, entities, relations`, a row a file of triples.
        read: number of triples read, duplicates counted.
        duplicates: how many repeated another; they are dropped.
        left_out: why triples are in no split, and how many; they are in `left_out.txt`, why behind
            each, in the first folder.
        notes: what else a user should know, a sentence each.
    """

    folders: tuple[Path, ...]
    table: pd.DataFrame
    read: int
    duplicates: int
    left_out: dict[str, int]
    notes: tuple[str, ...]


def targets(
    triples: Tensor,
    num_entities: int,
    num_relations: int,
    valid: float,
    test: float,
    seed: int = 0,
    inductive: float | None = None,
    moment: Tensor | None = None,
    remove_leaks: float | None = None,
) -> Tensor:
    """The target of each triple.

    Args:
        triples: `(n, 3)` int64, distinct.
        num_entities, num_relations: all ids are below them.
        valid, test: shares of the triples that are not left out.
        seed: of what is drawn.
        inductive: the share of the entities that is for a second graph; see `divide_entities`.
        moment: `(n,)` int64, by which to split; see `time_split`. Not beside `inductive`.
        remove_leaks: the share of `near_duplicates`, of which only the largest are kept.

    Returns:
        `(n,)` int64.

    Raises:
        DataError: for fewer than three moments.
    """
    sizes = num_entities, num_relations
    target = torch.zeros(len(triples), dtype=torch.long)
    if remove_leaks is not None:
        found = near_duplicates(triples, num_relations, remove_leaks)
        leaks = torch.from_numpy(redundant(found, triples, num_relations))
        target[leaks[triples[:, 1]]] = _code(LEAK)
    rest = target == 0
    kept = triples[rest]
    if moment is not None:
        target[rest] = _by_time(kept, moment[rest], valid, test)
    elif inductive is not None:
        target[rest] = _over_two_graphs(kept, sizes, inductive, valid, test, seed)
    else:
        target[rest] = random_split(kept, *sizes, valid, test, seed).long()
    return target


def reason_of(target: int) -> str:
    """Why triples of a target below 0 are left out."""
    return _REASONS[-1 - target]


def _by_time(triples: Tensor, moment: Tensor, valid: float, test: float) -> Tensor:
    """`(n,)` int64 targets."""
    known, moment = torch.unique(moment, return_inverse=True)
    if len(known) < len(SPLITS):
        raise DataError(
            f"number of different times: {len(known)}; three splits need three. Remedy: name "
            "another column, or write a finer time."
        )
    target = time_split(triples, moment, valid, test).long()
    return torch.where(target >= 0, target, _code(UNSEEN))


def _over_two_graphs(
    triples: Tensor, sizes: tuple[int, int], share: float, valid: float, test: float, seed: int
) -> Tensor:
    """`(n,)` int64 targets."""
    second = divide_entities(triples, sizes[0], share, seed)[triples[:, ::2]]
    target = torch.full((len(triples),), _code(BETWEEN))
    first = ~second.any(1)
    known = torch.isin(triples[:, 1], triples[first, 1])  # its train has every relation of it
    target[second.all(1)] = _code(OTHER_RELATION)
    for graph, rows in enumerate((first, second.all(1) & known)):
        drawn = random_split(triples[rows], *sizes, valid, test, seed).long()
        target[rows] = graph * len(SPLITS) + drawn
    return target


def _code(reason: str) -> int:
    """The target of triples that are left out."""
    return -1 - _REASONS.index(reason)


def shortfalls(table: pd.DataFrame, valid: float, test: float) -> list[str]:
    """A sentence for each random split, of a `Division`'s table, that is short of its share."""
    notes = []
    for folder, parts in table.groupby("folder", sort=False):
        count = parts.set_index("split")["triples"]
        wanted = wanted_counts(int(count.sum()), valid, test)
        for name, number in zip(SPLITS[1:], wanted, strict=True):
            if count[name] < number:
                notes.append(
                    f"{name} of {folder} has {count[name]:,} triples where {number:,} were asked "
                    "for: train would lose an entity or a relation by any other."
                )
    return notes
