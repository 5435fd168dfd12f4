"""Removes duplicate triples, and computes the load report."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from kgtool.data.dataset import SPLITS, Vocabulary
from kgtool.data.leakage import near_duplicates
from kgtool.data.loaders.column_order import doubt_of
from kgtool.data.loaders.near_equal import near_equal_of
from kgtool.data.loaders.report import (
    MOST_EXAMPLES,
    Lines,
    LoadReport,
    Redundancy,
    SplitReport,
    Twins,
    Unseen,
    Weights,
)
from kgtool.data.loaders.rows import BadLine
from kgtool.ops import begins, order_by

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Origin:
    """Where the triples of a split come from.

    Args:
        file: the file, or the folder of several.
        numbers: `(n,)` int64, the position of each triple in it, from 1; ascending.
        unit: the unit of these positions, such as `"line"`.
        notes: for the user: how the file was read.
        guessed: whether neither the caller nor a header gave its columns.
        bad_lines: the lines that were left out.
        weights: `(n,)` float32, the weight of each triple; None without weights.
    """

    file: str
    numbers: Ints
    unit: str
    notes: tuple[str, ...]
    guessed: bool = False
    bad_lines: tuple[BadLine, ...] = ()
    weights: NDArray[np.float32] | None = None


def audit(
    name: str, source: Path, origins: Mapping[str, Origin], lines: Ints, vocabulary: Vocabulary
) -> tuple[dict[str, Ints], dict[str, NDArray[np.float32]], Callable[[], LoadReport]]:
    """Removes the duplicates of each split except the first, and prepares the load report.

    Of duplicates with weights, the largest weight counts.

    Args:
        name: the name of the data set.
        source: its folder or archive.
        origins: split → where its triples come from; every split has one.
        lines: `(n, 3)` ids, one split after the other, in the order of `Origin.numbers`.
        vocabulary: the labels of those ids.

    Returns:
        The `(m, 3)` distinct triples of each split, in file order; the `(m,)` weights of each split
        that has some; and a function that computes the report, which takes longer than the loading
        itself.
    """
    lines_in_order = _Order.of(lines, origins, vocabulary)

    def report() -> LoadReport:
        (train, valid, test), distinct = _splits(lines_in_order, origins, vocabulary)
        entities, relations = _seen(lines, vocabulary)
        return LoadReport(
            name=name,
            source=str(source),
            entities=int(entities.sum()),
            relations=int(relations.sum()),
            train=weighed(_report_of(train, origins["train"], vocabulary), "train"),
            valid=weighed(_report_of(valid, origins["valid"], vocabulary, train=train), "valid"),
            test=weighed(
                _report_of(test, origins["test"], vocabulary, train=train, valid=valid), "test"
            ),
            notes=tuple(note for split in SPLITS for note in origins[split].notes),
            redundancy=_redundancy(distinct, vocabulary),
            near_equal=near_equal_of(distinct, vocabulary),
            bad_lines=tuple(line for split in SPLITS for line in origins[split].bad_lines),
            column_doubt=doubt_of(distinct) if origins["train"].guessed else "",
        )

    triples = {split: lines[at][own] for split, at, own in lines_in_order.distinct(origins)}
    weights, raised = lines_in_order.weights(origins)

    def weighed(report: SplitReport, split: str) -> SplitReport:
        if split not in weights:
            return report
        return replace(report, weights=Weights.of(weights[split], raised[split]))

    return triples, weights, report


@dataclass(frozen=True)
class _Order:
    """The lines of all splits, sorted by head, tail and relation.

    Args:
        lines: `(n, 3)` ids, in file order.
        order: `(n,)`, the line numbers in sorted order; equal lines in file order.
        new_pair, new_key: `(n,)`, in sorted order: the first line of each pair of head and tail,
            and the first line of each triple.
        repeated: `(n,)`, in file order: the lines that repeat an earlier line of their split.
    """

    lines: Ints
    order: NDArray[np.int32]
    new_pair: Bools
    new_key: Bools
    repeated: Bools

    @classmethod
    def of(cls, lines: Ints, origins: Mapping[str, Origin], vocabulary: Vocabulary) -> _Order:
        num_entities, num_relations = len(vocabulary.entities), len(vocabulary.relations)
        head, relation, tail = lines.T
        order = order_by((head, tail, relation), (num_entities, num_entities, num_relations))
        new_pair = begins(head[order]) | begins(tail[order])
        new_key = new_pair | begins(relation[order])
        ends = np.cumsum([len(origins[split].numbers) for split in SPLITS])
        # of equal lines the earlier comes first, so those of one split stand together
        repeated = np.empty(len(lines), np.bool_)
        repeated[order] = ~(new_key | begins(np.searchsorted(ends, order, side="right")))
        return cls(lines, order, new_pair, new_key, repeated)

    def distinct(self, origins: Mapping[str, Origin]) -> Iterator[tuple[str, slice, Bools | slice]]:
        """Each split, the slice of its lines, and which of these are its distinct triples."""
        start = 0
        for split in SPLITS:
            at = slice(start, start + len(origins[split].numbers))
            repeated = self.repeated[at]
            yield split, at, ~repeated if repeated.any() else slice(None)  # a view needs no copy
            start = at.stop

    def weights(
        self, origins: Mapping[str, Origin]
    ) -> tuple[dict[str, NDArray[np.float32]], dict[str, int]]:
        """The weights of the distinct triples of each split with weights.

        And the number of these whose duplicates have another weight.
        """
        if all(origin.weights is None for origin in origins.values()):
            return {}, {}
        none = np.ones(1, np.float32)
        every = np.concatenate(
            [
                none.repeat(len(origin.numbers)) if origin.weights is None else origin.weights
                for origin in (origins[split] for split in SPLITS)
            ]
        )
        # In sorted order, the first of the equal lines of a split is the one that stays.
        first = np.flatnonzero(~self.repeated[self.order])
        ordered = every[self.order]
        most, least = (each.reduceat(ordered, first) for each in (np.maximum, np.minimum))
        largest, differs = every, np.zeros(len(every), np.bool_)
        largest[self.order[first]], differs[self.order[first]] = most, most > least
        found, raised = {}, {}
        for split, at, own in self.distinct(origins):
            if origins[split].weights is not None:
                found[split] = largest[at][own]
                raised[split] = int(np.count_nonzero(differs[at][own]))
        return found, raised


@dataclass(frozen=True)
class _Split:
    """The `m` distinct triples of a split, in file order. Keys mean the same in every split.

    Args:
        numbers: `(m,)`, their positions in the file.
        repeated: the positions of lines that repeat an earlier line.
        hrt: `(m, 3)` ids.
        key: `(m,)` int32, the number of the triple, from 0.
        pair: `(m,)` int32, the number of the pair of head and tail, from 0.
        reverse: `(m,)`, the number of the pair of tail and head, or -1 if no triple has that pair;
            empty for train, which is by far the largest and does not need it.
    """

    numbers: Ints
    repeated: Ints
    hrt: Ints
    key: NDArray[np.int32]
    pair: NDArray[np.int32]
    reverse: Ints


def _splits(
    ordered: _Order, origins: Mapping[str, Origin], vocabulary: Vocabulary
) -> tuple[list[_Split], Ints]:
    """The splits, and the distinct triples of all of them, in any order."""
    num_entities, lines, order = len(vocabulary.entities), ordered.lines, ordered.order
    pair, key = _numbered(ordered.new_pair, order), _numbered(ordered.new_key, order)
    starts = lines[order[ordered.new_pair]]
    pairs = starts[:, 0] * num_entities + starts[:, 2]
    splits = []
    for split, at, own in ordered.distinct(origins):
        numbers, hrt = origins[split].numbers, lines[at][own]
        reversible = hrt[:0] if split == "train" else hrt
        splits.append(
            _Split(
                numbers[own], numbers[ordered.repeated[at]], hrt, key[at][own], pair[at][own],
                reverse=_position(reversible[:, 2] * num_entities + reversible[:, 0], pairs),
            )
        )  # fmt: skip
    return splits, lines if ordered.new_key.all() else lines[order[ordered.new_key]]


def _numbered(new: Bools, order: NDArray[np.int32]) -> NDArray[np.int32]:
    """`(n,)`: the number of each item's group, from 0; `new` marks the first of a group."""
    number = np.empty(len(order), np.int32)
    number[order] = np.cumsum(new, dtype=np.int32) - 1
    return number


def _position(values: Ints, ascending: Ints) -> Ints:
    """The position of each value in a sorted array, or -1."""
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
    """The report of a split, compared with the earlier splits."""
    head, tail = split.hrt[:, 0], split.hrt[:, 2]
    nothing = np.zeros(len(split.numbers), dtype=np.bool_)
    in_train = in_valid = reversed_in_train = same_pair = nothing
    entities, relations = seen_entities, seen_relations = _seen(split.hrt, vocabulary)
    if train is not None:
        in_train = np.isin(split.key, train.key)
        last_pair = max(split.pair.max(initial=-1), split.reverse.max(initial=-1))
        count = np.bincount(train.pair, minlength=last_pair + 1)  # train's triples by pair
        same_pair = count[split.pair] - in_train > 0
        reversed_in_train = (split.reverse >= 0) & (count[split.reverse] > 0) & (head != tail)
        seen_entities, seen_relations = _seen(train.hrt, vocabulary)
    if valid is not None:
        in_valid = np.isin(split.key, valid.key)
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


def _redundancy(distinct: Ints, vocabulary: Vocabulary) -> Redundancy:
    """The redundancy over all splits: after a random split, train has too few shared pairs."""
    relations = vocabulary.relations
    found = near_duplicates(torch.from_numpy(distinct), len(relations))
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
    """The labels in some columns of the split that are not `seen` in train."""
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
    """`(num_entities,)` and `(num_relations,)`: which entities and relations occur."""
    entities = np.zeros(len(vocabulary.entities), dtype=np.bool_)
    relations = np.zeros(len(vocabulary.relations), dtype=np.bool_)
    entities[hrt[:, 0]] = entities[hrt[:, 2]] = True
    relations[hrt[:, 1]] = True
    return entities, relations
