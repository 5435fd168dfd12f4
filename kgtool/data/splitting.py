"""Splits triples into train, valid and test: at random, by time, or into two graphs.

The split of a triple is an int8: 0, 1 or 2, in the order of `SPLITS`, or `LEFT_OUT`. A target is an
int64: 0 to 2 for a split of the first graph, 3 to 5 for a split of the second graph. A target below
0 is a code for the reason why the triple is left out.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from kgtool.data.dataset import SPLITS
from kgtool.data.leakage import near_duplicates, redundant
from kgtool.display import html
from kgtool.errors import DataError
from kgtool.ops import grow_region, hold_out

LEFT_OUT = -1


def distinct(triples: Tensor, num_relations: int) -> Tensor:
    """`(m,)` int64, ascending: the first row of each of the distinct triples `(n, 3)` int64."""
    head, relation, tail = triples.unbind(1)
    stride = int(torch.maximum(head, tail).max()) + 1 if len(triples) else 1
    pair = head * stride + tail
    if stride * stride * num_relations >= 2**63:  # then pairs are numbered first
        pair = torch.unique(pair, return_inverse=True)[1]
    key, order = torch.sort(pair * num_relations + relation, stable=True)
    first = torch.ones(len(key), dtype=torch.bool)
    first[1:] = key[1:] != key[:-1]
    return order[first].sort().values


# How one file of triples is split unless the caller says otherwise.
DEFAULT_SPLIT = {"valid": 0.1, "test": 0.1, "seed": 0}


def default_split(triples: Tensor, num_entities: int, num_relations: int) -> Tensor:
    """The `random_split` of `DEFAULT_SPLIT`; duplicates go to the split of their triple.

    Args:
        triples: `(n, 3)` int64, with or without duplicates.
        num_entities, num_relations: all ids are below them.

    Returns:
        `(n,)` int8: 0 for train, 1 for valid, 2 for test; all 0 if valid or test would be empty.
    """
    rows = distinct(triples, num_relations)
    split = random_split(
        triples[rows], num_entities, num_relations, valid=DEFAULT_SPLIT["valid"],
        test=DEFAULT_SPLIT["test"], seed=int(DEFAULT_SPLIT["seed"]),
    )  # fmt: skip
    if min((split == 1).sum(), (split == 2).sum()) == 0:
        split.zero_()
    if len(rows) == len(triples):
        return split
    head, relation, tail = triples.unbind(1)
    pair = torch.unique(head * num_entities + tail, return_inverse=True)[1]
    _, number = torch.unique(pair * num_relations + relation, return_inverse=True)
    of_triple = torch.empty(len(rows), dtype=torch.int8)
    of_triple[number[rows]] = split
    return of_triple[number]


def random_split(
    triples: Tensor,
    num_entities: int,
    num_relations: int,
    *,
    valid: float = 0.1,
    test: float = 0.1,
    seed: int = 0,
    allow_unseen: bool = False,
) -> Tensor:
    """Hold out random triples whose entities and relations all stay in train.

    Triples between the same two entities, in either direction, are one group and stay together: one
    of them would leak another (Toutanova & Chen 2015). Groups are visited in random order. A group
    is held out if train keeps all its entities and relations. Valid or test takes it, whichever is
    further from its share. The order of the rows does not matter.

    Args:
        triples: `(n, 3)` int64, distinct.
        num_entities, num_relations: all ids are below them.
        valid, test: shares of the triples, above 0, together below 1. Each gets at least one triple
            if possible. A split stays below its share if no further group fits, or if train needs
            the remaining triples; a tree, for example, needs all of them.
        seed: of the random order.
        allow_unseen: fill up the shares by further groups, in the same order, though train then
            lacks some of their entities or relations.

    Returns:
        `(n,)` int8: 0 for train, 1 for valid, 2 for test.
    """
    head, _, tail = triples.unbind(1)
    pair = torch.minimum(head, tail) * num_entities + torch.maximum(head, tail)
    key, row = torch.sort(pair)
    size = torch.unique_consecutive(key, return_counts=True)[1]
    offsets = torch.cat([size.new_zeros(1), size.cumsum(0)])
    order = np.random.default_rng(seed).permutation(len(size))
    wanted = wanted_counts(len(triples), valid, test)
    side = hold_out(order, offsets, triples[row], num_entities, num_relations, wanted)
    if allow_unseen:
        _fill_up(side, order, size, wanted)
    split = torch.empty(len(triples), dtype=torch.int8)
    split[row] = side.repeat_interleave(size)
    return split


def _fill_up(side: Tensor, order: NDArray[np.int64], size: Tensor, wanted: tuple[int, int]) -> None:
    """Hold out further groups, in order, until the shares are met; changes `side` in place.

    Args:
        side: `(g,)` int8, the side of each group that is held out, 0 for the others.
        order: `(g,)`, the groups in their order.
        size: `(g,)`, the number of triples of each group.
        wanted: the number of triples for side 1 and for side 2.
    """
    sizes, sides = size.tolist(), side.tolist()
    held = [int(size[side == number].sum()) for number in (1, 2)]
    in_train = int(size[side == 0].sum())
    for group in order.tolist():
        if sides[group] or sizes[group] >= in_train:
            continue
        shares = [held[0] / wanted[0], held[1] / wanted[1]]
        for number in sorted((0, 1), key=shares.__getitem__):
            # a group that is larger than the share still goes to an empty side
            if held[number] + sizes[group] <= wanted[number] or not held[number]:
                side[group] = number + 1
                held[number] += sizes[group]
                in_train -= sizes[group]
                break


def wanted_counts(count: int, valid: float, test: float) -> tuple[int, int]:
    """The wanted numbers of valid and of test triples, out of `count` triples."""
    return max(1, round(valid * count)), max(1, round(test * count))


def divide_entities(triples: Tensor, num_entities: int, share: float, seed: int = 0) -> Tensor:
    """Choose the entities of a second graph, so that both graphs keep most of their triples.

    The setting is GraIL's (Teru et al. 2020): the graphs share relations and no entity. GraIL
    samples neighbourhoods and drops the rest. Here the second graph grows from a random entity;
    each step adds the entity with the largest share of its triples inside. So the second graph is
    connected, and few triples lie between the two graphs.

    Args:
        triples: `(n, 3)` int64, distinct.
        num_entities: all entity ids are below it.
        share: share of the occurring entities for the second graph, above 0 and below 1.
        seed: of the first entity and of tie breaks.

    Returns:
        `(num_entities,)` bool.
    """
    ends = triples[:, ::2]
    occurring = torch.unique(ends)
    order = occurring.numpy()[np.random.default_rng(seed).permutation(len(occurring))]
    return grow_region(ends, order, num_entities, round(share * len(occurring)))


def time_split(
    triples: Tensor,
    timestamp: Tensor,
    valid: float = 0.1,
    test: float = 0.1,
    *,
    allow_unseen: bool = False,
) -> Tensor:
    """Split by time: the earliest triples are train, the next valid, the last test.

    Triples with the same timestamp stay together, so the shares are met approximately. A later
    triple may have the same pair of entities as a train triple: only `random_split` keeps pairs
    together.

    Args:
        triples: `(n, 3)` int64, distinct.
        timestamp: `(n,)` int64, numbered from 0 without gaps; three or more distinct ones.
        valid, test: shares of the triples, above 0, together below 1.
        allow_unseen: keep triples of valid and test with an entity or relation that train lacks.

    Returns:
        `(n,)` int8: 0 for train, 1 for valid, 2 for test, `LEFT_OUT` for one of valid or test with
        an entity or relation that train lacks, unless `allow_unseen`.

    Raises:
        ValueError: for fewer than three distinct timestamps.
    """
    until = torch.bincount(timestamp).cumsum(0)
    if len(until) < 3:
        raise ValueError(f"{len(until)} timestamps cannot make three splits")
    wanted_train, wanted_known = (1 - valid - test) * len(triples), (1 - test) * len(triples)
    train_end = int((until[:-2] - wanted_train).abs().argmin())
    valid_end = train_end + 1 + int((until[train_end + 1 : -1] - wanted_known).abs().argmin())
    split = (timestamp > train_end).to(torch.int8) + (timestamp > valid_end).to(torch.int8)
    if not allow_unseen:
        split[unseen(triples, split == 0)] = LEFT_OUT
    return split


def unseen(triples: Tensor, train: Tensor) -> Tensor:
    """`(n,)` bool: the triples with an entity or a relation that no train triple has.

    Args:
        triples: `(n, 3)` int64.
        train: `(n,)` bool, the train triples.
    """
    head, relation, tail = triples.unbind(1)
    entities, relations = torch.zeros(2, int(triples.max()) + 1, dtype=torch.bool)
    entities[head[train]] = entities[tail[train]] = relations[relation[train]] = True
    return ~(entities[head] & entities[tail] & relations[relation])


LEAK = "near-duplicate relation"


UNSEEN = "entity or relation unseen in train"


BETWEEN = "between the two graphs"


OTHER_RELATION = "relation not in the first graph"


NEGATIVE = "negative"


_REASONS = (LEAK, UNSEEN, BETWEEN, OTHER_RELATION, NEGATIVE)


@dataclass(frozen=True, eq=False)
class Division:
    """The result of a split.

    Attributes:
        folders: the folders written: one, or two with `inductive`.
        table: `folder, split, triples, entities, relations`, a row per file of triples.
        read: number of triples read, including duplicates.
        duplicates: number of duplicates; they are dropped.
        left_out: reason → number of triples that are in no split. `left_out.txt` in the first
            folder holds these triples, each with its reason.
        notes: further notes for the user, one sentence each.
    """

    folders: tuple[Path, ...]
    table: pd.DataFrame
    read: int
    duplicates: int
    left_out: dict[str, int]
    notes: tuple[str, ...]

    def __repr__(self) -> str:
        folders = ", ".join(repr(str(folder)) for folder in self.folders)
        sizes = ", ".join(f"{row.split} {row.triples:,}" for row in self.table.itertuples())
        return f"Division({folders}: {sizes})"

    def _repr_html_(self) -> str:
        counts = {"triples read": self.read, "duplicates": self.duplicates, **self.left_out}
        notes = {f"note {i}": note for i, note in enumerate(self.notes, 1)}
        return html("Split", self.table, {**counts, **notes})


def targets(
    triples: Tensor,
    num_entities: int,
    num_relations: int,
    *,
    valid: float,
    test: float,
    seed: int = 0,
    inductive: float | None = None,
    timestamp: Tensor | None = None,
    remove_leaks: float | None = None,
    allow_unseen: bool = False,
) -> Tensor:
    """The target of each triple.

    Args:
        triples: `(n, 3)` int64, distinct.
        num_entities, num_relations: all ids are below them.
        valid, test: shares of the triples that are not left out.
        seed: of all random draws.
        inductive: the share of entities for a second graph; see `divide_entities`.
        timestamp: `(n,)` int64, for a split by time; see `time_split`. Not together with
            `inductive`.
        remove_leaks: the `share` of `near_duplicates`; only the largest relation of each group of
            near-duplicates stays.
        allow_unseen: whether valid and test may have entities and relations that train lacks.

    Returns:
        `(n,)` int64.

    Raises:
        DataError: for fewer than three distinct timestamps.
    """
    sizes = num_entities, num_relations
    target = torch.zeros(len(triples), dtype=torch.long)
    if remove_leaks is not None:
        overlaps = near_duplicates(triples, num_relations, remove_leaks)
        leaks = torch.from_numpy(redundant(overlaps, triples, num_relations))
        target[leaks[triples[:, 1]]] = _code(LEAK)
    rest = target == 0
    remaining = triples[rest]
    shares: dict[str, Any] = {"valid": valid, "test": test, "allow_unseen": allow_unseen}
    if timestamp is not None:
        target[rest] = _by_time(remaining, timestamp[rest], **shares)
    elif inductive is not None:
        target[rest] = _over_two_graphs(remaining, sizes, inductive, seed=seed, **shares)
    else:
        target[rest] = random_split(remaining, *sizes, seed=seed, **shares).long()
    return target


def reason_of(target: int) -> str:
    """The reason why triples with a target below 0 are left out."""
    return _REASONS[-1 - target]


def _by_time(triples: Tensor, timestamp: Tensor, **shares: Any) -> Tensor:
    """`(n,)` int64 targets; `shares` are the keywords of `time_split`."""
    known, timestamp = torch.unique(timestamp, return_inverse=True)
    if len(known) < len(SPLITS):
        raise DataError(
            f"the time column has {len(known)} distinct values; three splits need at least three. "
            "Remedy: choose another column, or give more precise times."
        )
    target = time_split(triples, timestamp, **shares).long()
    return torch.where(target >= 0, target, _code(UNSEEN))


def _over_two_graphs(
    triples: Tensor, sizes: tuple[int, int], share: float, *, seed: int, **shares: Any
) -> Tensor:
    """`(n,)` int64 targets; `shares` are keywords of `random_split`."""
    second = divide_entities(triples, sizes[0], share, seed)[triples[:, ::2]]
    target = torch.full((len(triples),), _code(BETWEEN))
    first = ~second.any(1)
    known = torch.isin(triples[:, 1], triples[first, 1])  # its train has every relation of it
    target[second.all(1)] = _code(OTHER_RELATION)
    for graph, rows in enumerate((first, second.all(1) & known)):
        drawn = random_split(triples[rows], *sizes, seed=seed, **shares).long()
        target[rows] = graph * len(SPLITS) + drawn
    return target


def _code(reason: str) -> int:
    """The target of triples that are left out for a reason."""
    return -1 - _REASONS.index(reason)


def shortfalls(
    table: pd.DataFrame, valid: float, test: float, *, allow_unseen: bool = False
) -> list[str]:
    """A sentence for each split of a `Division`'s table that has fewer triples than wanted."""
    notes = []
    for folder, parts in table.groupby("folder", sort=False):
        count = parts.set_index("split")["triples"]
        wanted = wanted_counts(int(count.sum()), valid, test)
        for name, number in zip(SPLITS[1:], wanted, strict=True):
            if count[name] < number:
                why = "no group of triples between two entities fits"
                if not allow_unseen:
                    why = (
                        "without any further triple, train would lose an entity or a relation; "
                        "--allow-unseen allows it"
                    )
                notes.append(
                    f"{name} of {folder} has {count[name]:,} triples, not the requested "
                    f"{number:,}: {why}."
                )
    return notes
