"""Triples divided into train, valid and test: at random, by time, or over two graphs.

The split of a triple is an int8: 0, 1 or 2, in the order of `SPLITS`, or `LEFT_OUT`. A target is an
int64: a split in the order of `SPLITS`, those of a second graph after those of the first; below 0
it gives the reason why the triple is left out.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from kgtool.data.dataset import SPLITS
from kgtool.data.leakage import near_duplicates, redundant
from kgtool.errors import DataError
from kgtool.ops import grow_region, hold_out

LEFT_OUT = -1


def distinct(triples: Tensor, num_relations: int) -> Tensor:
    """`(m,)` int64, ascending: the first row of each of the distinct triples `(n, 3)` int64."""
    head, relation, tail = triples.unbind(1)
    stride = int(torch.maximum(head, tail).max()) + 1 if len(triples) else 1
    # pairs are numbered first: entities² · relations may pass 2⁶³
    pair = torch.unique(head * stride + tail, return_inverse=True)[1]
    key, order = torch.sort(pair * num_relations + relation, stable=True)
    first = torch.ones(len(key), dtype=torch.bool)
    first[1:] = key[1:] != key[:-1]
    return order[first].sort().values


def random_split(
    triples: Tensor,
    num_entities: int,
    num_relations: int,
    valid: float = 0.1,
    test: float = 0.1,
    seed: int = 0,
) -> Tensor:
    """Hold out random triples whose entities and relations all stay in train.

    Triples between the same two entities, in either direction, are one group that is never divided:
    one of them would give another away (Toutanova & Chen 2015). In a random order a group is held
    out where train keeps every entity and relation of it; of the two sides, the one that is further
    from its share takes it. The order of the rows does not matter.

    Args:
        triples: `(n, 3)` int64, distinct.
        num_entities, num_relations: all ids are below them.
        valid, test: shares of the triples, above 0, together below 1. Each gets at least one triple
            where it can. They are reached but where groups do not fit into them or too few can be
            missed: a tree can miss none.
        seed: of the order.

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
    split = torch.empty(len(triples), dtype=torch.int8)
    split[row] = side.repeat_interleave(size)
    return split


def wanted_counts(count: int, valid: float, test: float) -> tuple[int, int]:
    """How many of `count` triples are asked for as valid and as test."""
    return max(1, round(valid * count)), max(1, round(test * count))


def divide_entities(triples: Tensor, num_entities: int, share: float, seed: int = 0) -> Tensor:
    """Choose the entities of a second graph, so that both keep most of their triples.

    The setting is GraIL's (Teru et al. 2020): the graphs share relations and no entity. They sample
    neighbourhoods and drop the rest; here the second graph grows from a random entity, each step by
    the one with the largest share of its triples inside, so that it is connected and as
    few triples as may be lie between the two.

    Args:
        triples: `(n, 3)` int64, distinct.
        num_entities: all entity ids are below it.
        share: of the entities that occur, for the second graph, above 0 and below 1.
        seed: of the first entity, and of which to take of two alike.

    Returns:
        `(num_entities,)` bool.
    """
    ends = triples[:, ::2]
    there = torch.unique(ends)
    order = there.numpy()[np.random.default_rng(seed).permutation(len(there))]
    return grow_region(ends, order, num_entities, round(share * len(there)))


def time_split(triples: Tensor, moment: Tensor, valid: float = 0.1, test: float = 0.1) -> Tensor:
    """Split by time: the earliest triples are train, the next valid, the last test.

    Triples of one moment stay together, so that the shares are met as nearly as they allow. What
    happens again is not held back from train: only a random split keeps pairs together.

    Args:
        triples: `(n, 3)` int64, distinct.
        moment: `(n,)` int64, when each holds, numbered from 0 without gaps; three or more.
        valid, test: shares of the triples, above 0, together below 1.

    Returns:
        `(n,)` int8: 0 for train, 1 for valid, 2 for test, `LEFT_OUT` for one of valid or test with
        an entity or relation that train lacks.

    Raises:
        ValueError: for fewer than three moments.
    """
    until = torch.bincount(moment).cumsum(0)
    if len(until) < 3:
        raise ValueError(f"{len(until)} moments do not make three splits")
    wanted_train, wanted_known = (1 - valid - test) * len(triples), (1 - test) * len(triples)
    train_end = int((until[:-2] - wanted_train).abs().argmin())
    valid_end = train_end + 1 + int((until[train_end + 1 : -1] - wanted_known).abs().argmin())
    split = (moment > train_end).to(torch.int8) + (moment > valid_end).to(torch.int8)
    head, relation, tail = triples.unbind(1)
    entities, relations = torch.zeros(2, int(triples.max()) + 1, dtype=torch.bool)  # in train
    train = split == 0
    entities[head[train]] = entities[tail[train]] = relations[relation[train]] = True
    known = entities[head] & entities[tail] & relations[relation]
    split[~known] = LEFT_OUT
    return split


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
