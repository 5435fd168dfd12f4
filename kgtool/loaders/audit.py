"""Drops duplicates, and counts what a load report tells of the triples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from kgtool.leakage import near_duplicates
from kgtool.loaders.report import (
    MOST_EXAMPLES,
    Lines,
    LoadReport,
    Redundancy,
    SplitReport,
    Twins,
    Unseen,
)
from kgtool.triples import SPLITS, Vocabulary

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Origin:
    """Where the triples of a split come from.

    Args:
        file: the file, or the folder of several.
        numbers: `(n,)` int64, where each triple stands there, from 1; ascending.
        unit: what they count, such as `"line"`.
        notes: what a user should know of how it was read.
    """

    file: str
    numbers: Ints
    unit: str
    notes: tuple[str, ...]


def audit(
    name: str,
    source: Path,
    origins: Mapping[str, Origin],
    lines: Mapping[str, Ints],
    vocabulary: Vocabulary,
) -> tuple[dict[str, Ints], LoadReport]:
    """Drops the duplicates of each split, keeping the first, and reports on the rest.

    Args:
        name: the name of the data set.
        source: its folder or archive.
        origins: where the triples of each split come from, by split.
        lines: `(n, 3)` ids by split, `n > 0`; row `i` stands at `numbers[i]` of its origin.
        vocabulary: the labels of those ids.

    Returns:
        The `(m, 3)` distinct triples of each split, in file order, and the report.
    """
    train, valid, test = splits = _distinct(lines, origins, vocabulary)
    entities, relations = _seen(np.concatenate([split.hrt for split in splits]), vocabulary)
    report = LoadReport(
        name=name,
        source=str(source),
        entities=int(entities.sum()),
        relations=int(relations.sum()),
        train=_report_of(train, origins["train"], vocabulary),
        valid=_report_of(valid, origins["valid"], vocabulary, train=train),
        test=_report_of(test, origins["test"], vocabulary, train=train, valid=valid),
        notes=tuple(note for split in SPLITS for note in origins[split].notes),
        redundancy=_redundancy(splits, vocabulary),
    )
    return {"train": train.hrt, "valid": valid.hrt, "test": test.hrt}, report


@dataclass(frozen=True)
class _Split:
    """The `m` distinct triples of a split, in file order. Keys mean the same in every split.

    Args:
        numbers: `(m,)` where they stand in the file.
        repeated: where those stand that repeat an earlier one.
        hrt: `(m, 3)` ids.
        key: `(m,)` one for each triple.
        pair: `(m,)` one for each pair of head and tail, numbered from 0.
        reverse: `(m,)` the pair of tail and head, or -1 where no triple has it; train's are -1.
        ascending: `(m,)` the keys, sorted.
    """

    numbers: Ints
    repeated: Ints
    hrt: Ints
    key: Ints
    pair: Ints
    reverse: Ints
    ascending: Ints


def _distinct(
    lines: Mapping[str, Ints], origins: Mapping[str, Origin], vocabulary: Vocabulary
) -> list[_Split]:
    num_entities = len(vocabulary.entities)
    hrt = np.concatenate([lines[split] for split in SPLITS])
    head, relation, tail = hrt.T
    # pairs are numbered first: entities² · relations may pass 2⁶³, lines · relations does not
    pairs, pair = np.unique(head * num_entities + tail, return_inverse=True)
    key = pair * len(vocabulary.relations) + relation
    # train is not asked for it, and is by far the largest
    reverse = np.full(len(hrt), -1)
    asked = slice(len(lines[SPLITS[0]]), None)
    reverse[asked] = _position(tail[asked] * num_entities + head[asked], pairs)

    splits = []
    start = 0
    for split in SPLITS:
        stop = start + len(lines[split])
        first = np.zeros(stop - start, dtype=np.bool_)
        ascending, at = np.unique(key[start:stop], return_index=True)
        first[at] = True
        rows = np.flatnonzero(first)
        numbers = origins[split].numbers
        hrt_, key_, pair_, reverse_ = (c[start:stop][rows] for c in (hrt, key, pair, reverse))
        splits.append(
            _Split(numbers[rows], numbers[~first], hrt_, key_, pair_, reverse_, ascending)
        )
        start = stop
    return splits


def _position(values: Ints, ascending: Ints) -> Ints:
    """Where each value stands in a sorted array, or -1."""
    found = np.searchsorted(ascending, values).clip(max=len(ascending) - 1)
    position: Ints = np.where(ascending[found] == values, found, -1)
    return position


def _report_of(
    split: _Split,
    origin: Origin,
    vocabulary: Vocabulary,
    train: _Split | None = None,
    valid: _Split | None = None,
) -> SplitReport:
    """The report of a split beside the splits that come before it."""
    head, tail = split.hrt[:, 0], split.hrt[:, 2]
    nothing = np.zeros(len(split.numbers), dtype=np.bool_)
    in_train = in_valid = reversed_in_train = same_pair = nothing
    entities, relations = seen_entities, seen_relations = _seen(split.hrt, vocabulary)
    if train is not None:
        in_train = _position(split.key, train.ascending) >= 0
        last_pair = max(split.pair.max(), split.reverse.max())
        count = np.bincount(train.pair, minlength=last_pair + 1)  # train's triples by pair
        same_pair = count[split.pair] - in_train > 0
        reversed_in_train = (split.reverse >= 0) & (count[split.reverse] > 0) & (head != tail)
        seen_entities, seen_relations = _seen(train.hrt, vocabulary)
    if valid is not None:
        in_valid = _position(split.key, valid.ascending) >= 0
    return SplitReport(
        file=origin.file,
        unit=origin.unit,
        triples=len(split.numbers),
        entities=int(entities.sum()),
        relations=int(relations.sum()),
        duplicates=_lines(split.repeated),
        self_loops=_lines(split.numbers[head == tail]),
        unseen_entities=_unseen(split, (0, 2), seen_entities, vocabulary.entities),
        unseen_relations=_unseen(split, (1,), seen_relations, vocabulary.relations),
        in_train=_lines(split.numbers[in_train]),
        in_valid=_lines(split.numbers[in_valid]),
        reversed_in_train=_lines(split.numbers[reversed_in_train]),
        same_pair_in_train=_lines(split.numbers[same_pair]),
    )


def _redundancy(splits: Sequence[_Split], vocabulary: Vocabulary) -> Redundancy:
    """Of all splits: where they were drawn at random, train has too few of the pairs to tell."""
    key, hrt = (
        np.concatenate([getattr(split, name) for split in splits]) for name in ("key", "hrt")
    )
    distinct = torch.from_numpy(hrt[np.unique(key, return_index=True)[1]])
    relations = vocabulary.relations
    found = near_duplicates(distinct, len(relations))
    twins = [one for one in found if not one.symmetric]
    symmetric = [relations[one.relation] for one in found if one.symmetric]
    return Redundancy(
        twins=len(twins),
        first_twins=tuple(
            Twins(
                relations[one.relation], relations[one.other],
                one.inverse, one.of_relation, one.of_other,
            )
            for one in twins[:MOST_EXAMPLES]
        ),
        symmetric=len(symmetric),
        first_symmetric=tuple(symmetric[:MOST_EXAMPLES]),
    )  # fmt: skip


def _lines(numbers: Ints) -> Lines:
    return Lines(len(numbers), tuple(numbers[:MOST_EXAMPLES].tolist()))


def _unseen(
    split: _Split, columns: tuple[int, ...], seen: Bools, labels: tuple[str, ...]
) -> Unseen:
    """What train has not `seen` of the ids in some columns of the split."""
    ids = split.hrt[:, columns]
    unseen = ~seen[ids]
    distinct, first = np.unique(ids[unseen], return_index=True)
    in_file_order = distinct[np.argsort(first)][:MOST_EXAMPLES]
    return Unseen(
        count=len(distinct),
        first=tuple(labels[i] for i in in_file_order.tolist()),
        triples=_lines(split.numbers[unseen.any(axis=1)]),
    )


def _seen(hrt: Ints, vocabulary: Vocabulary) -> tuple[Bools, Bools]:
    """`(num_entities,)` and `(num_relations,)`: which of them occur."""
    entities = np.zeros(len(vocabulary.entities), dtype=np.bool_)
    relations = np.zeros(len(vocabulary.relations), dtype=np.bool_)
    entities[hrt[:, 0]] = entities[hrt[:, 2]] = True
    relations[hrt[:, 1]] = True
    return entities, relations
