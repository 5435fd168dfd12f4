"""The load report: counts of a data set, and warnings about its triples."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Group
from rich.table import Table
from rich.text import Text

from kgtool.data.dataset import SPLITS
from kgtool.data.leakage import SHARE
from kgtool.data.loaders.rows import BadLine
from kgtool.errors import quoted

MOST_EXAMPLES = 5


@dataclass(frozen=True)
class Lines:
    """The lines of a split file with some property.

    Args:
        count: the number of lines.
        first: the line numbers of the first `MOST_EXAMPLES`, ascending, counted from 1.
    """

    count: int
    first: tuple[int, ...]


@dataclass(frozen=True)
class Unseen:
    """The labels of a split that train lacks.

    Args:
        count: the number of distinct labels.
        first: the first `MOST_EXAMPLES`, in file order.
        triples: the triples with such a label.
    """

    count: int
    first: tuple[str, ...]
    triples: Lines


@dataclass(frozen=True)
class Twins:
    """Two relations that hold between nearly the same pairs of entities.

    Args:
        relation, other: their labels.
        inverse: whether the pairs of the other are reversed.
        of_relation, of_other: the share of each relation's pairs that the other has too, 0 to 1.
    """

    relation: str
    other: str
    inverse: bool
    of_relation: float
    of_other: float


@dataclass(frozen=True)
class Redundancy:
    """The redundant relations of all splits: near-duplicates, near-inverses and symmetric ones.

    They leak answers: a train triple may contain the answer of a test triple. See
    `kgtool.data.leakage`.

    Args:
        twins: number of near-duplicate or near-inverse pairs of relations.
        first_twins: the `MOST_EXAMPLES` of them with most pairs in common.
        symmetric: number of relations that hold both ways for nearly all of their pairs.
        first_symmetric: the labels of the `MOST_EXAMPLES` symmetric relations with most pairs.
    """

    twins: int
    first_twins: tuple[Twins, ...]
    symmetric: int
    first_symmetric: tuple[str, ...]

    @property
    def warnings(self) -> tuple[str, ...]:
        """A sentence for each of `first_twins`, one with their number, and one about symmetry."""
        sentences = [
            f"relations {quoted(one.relation)} and {quoted(one.other)} share at least "
            f"{int(100 * min(one.of_relation, one.of_other))} % of their pairs"
            f"{', reversed' if one.inverse else ''}"
            for one in self.first_twins
        ]
        if self.twins:
            many = "pairs of relations leak" if self.twins > 1 else "pair of relations leaks"
            sentences.append(
                f"{self.twins:,} {many} answers to each other: `kgtool data split --remove-leaks "
                f"{SHARE:g}` keeps one relation of each pair"
            )
        if self.symmetric:
            labels = _listed([quoted(label) for label in self.first_symmetric], self.symmetric)
            are = "relation is" if self.symmetric == 1 else "relations are"
            sentences.append(f"{self.symmetric:,} {are} symmetric: {labels}")
        return tuple(sentences)


@dataclass(frozen=True)
class NearEqual:
    """Labels that differ only in blanks, in Unicode form, or in case.

    Args:
        kind: `"entity"` or `"relation"`.
        by: the difference: `"blanks"`, `"unicode"` or `"case"`; a group by the later ones may
            differ in the earlier ones too.
        groups: number of groups of such labels.
        first: the `MOST_EXAMPLES` groups with most triples: the labels of each group, the most
            frequent first, each with its number of triples.
    """

    kind: str
    by: str
    groups: int
    first: tuple[tuple[tuple[str, int], ...], ...]

    @property
    def warning(self) -> str:
        """A sentence with the first groups and the remedy."""
        plural = {"entity": "entities", "relation": "relations"}[self.kind]
        difference = {"blanks": "blanks", "unicode": "Unicode form", "case": "case"}[self.by]
        show = ascii if self.by == "unicode" else quoted
        groups = [
            " and ".join(f"{show(label)} ({count:,})" for label, count in group[:MOST_EXAMPLES])
            for group in self.first
        ]
        count = "1 group" if self.groups == 1 else f"{self.groups:,} groups"
        differ = "differs" if self.groups == 1 else "differ"
        return (
            f"{count} of {plural} {differ} only in {difference} (with the number of triples): "
            f"{'; '.join(groups)}{'; …' if self.groups > len(groups) else ''}. If they are the "
            f"same, pass --merge-labels {self.by} to kgtool data convert or split"
        )


@dataclass(frozen=True)
class Weights:
    """The weights of the triples of a split.

    Args:
        least, mean, most: of the distinct triples.
        ones: number of triples of the weight 1.
        raised: number of triples whose duplicates have several weights; the largest counts.
    """

    least: float
    mean: float
    most: float
    ones: int
    raised: int

    @classmethod
    def of(cls, weights: NDArray[np.float32], raised: int) -> Weights:
        """The summary of weights `(n,)`, at least one."""
        return cls(
            float(weights.min()), float(weights.mean(dtype=np.float64)), float(weights.max()),
            int(np.count_nonzero(weights == 1)), raised,
        )  # fmt: skip


@dataclass(frozen=True)
class SplitReport:
    """The counts of a split. All except `duplicates` count distinct triples.

    Args:
        file: the path of its file inside the folder or archive.
        triples: number of triples.
        entities: number of entities.
        relations: number of relations.
        unit: the unit of the line numbers: lines, rows or statements.
        duplicates: lines that repeat an earlier line; they are dropped.
        self_loops: triples whose head is their tail. The data set contains these and all below.
        unseen_entities: entities of valid or test that train lacks.
        unseen_relations: relations of valid or test that train lacks.
        in_train: triples of valid and test that train has too.
        in_valid: triples of test that valid has too.
        reversed_in_train: triples `(h, r, t)` of valid and test, except self loops, for which train
            has `(t, r', h)` with any `r'`.
        same_pair_in_train: triples `(h, r, t)` of valid and test for which train has `(h, r', t)`
            with another `r'`.
        weights: of the triples; None without weights.
    """

    file: str
    triples: int
    entities: int
    relations: int
    unit: str
    duplicates: Lines
    self_loops: Lines
    unseen_entities: Unseen
    unseen_relations: Unseen
    in_train: Lines
    in_valid: Lines
    reversed_in_train: Lines
    same_pair_in_train: Lines
    weights: Weights | None = None

    @property
    def warnings(self) -> tuple[str, ...]:
        """The warnings about the file, one sentence each, with line numbers."""
        findings = (
            (_counted(self.duplicates, f"duplicate {self.unit}", " dropped"), self.duplicates),
            (_counted(self.self_loops, "self loop"), self.self_loops),
            _unseen(self.unseen_entities, "entity", "entities"),
            _unseen(self.unseen_relations, "relation", "relations"),
            (_counted(self.in_train, "triple", " also in train"), self.in_train),
            (_counted(self.in_valid, "triple", " also in valid"), self.in_valid),
            (
                _counted(self.reversed_in_train, "triple", " reversed in train"),
                self.reversed_in_train,
            ),
            (
                _counted(
                    self.same_pair_in_train, "triple", " whose pair has another relation in train"
                ),
                self.same_pair_in_train,
            ),
        )
        return tuple(
            f"{self.file}: {text}: {self.unit}{'' if lines.count == 1 else 's'} "
            + _listed([str(number) for number in lines.first], lines.count)
            for text, lines in findings
            if lines.count
        )


@dataclass(frozen=True)
class LoadReport:
    """The counts and warnings of a data set.

    Args:
        name: the name of the data set.
        source: its folder or archive.
        entities: number of entities in any split.
        relations: number of relations in any split.
        train, valid, test: the splits.
        redundancy: redundant relations.
        notes: for the user: how the files were read.
        near_equal: labels that differ only in blanks, in Unicode form, or in case.
        bad_lines: the lines that `Reading.skip_bad_lines` left out; a note lists the first.
        column_doubt: why the columns may not be head, relation, tail, with a remedy; or empty.
    """

    name: str
    source: str
    entities: int
    relations: int
    train: SplitReport
    valid: SplitReport
    test: SplitReport
    redundancy: Redundancy
    notes: tuple[str, ...] = ()
    near_equal: tuple[NearEqual, ...] = ()
    bad_lines: tuple[BadLine, ...] = ()
    column_doubt: str = ""

    def __repr__(self) -> str:
        sizes = (
            f"{self.entities:,} entities, {self.relations:,} relations, {self.triples:,} triples"
        )
        return f"LoadReport({self.name!r}: {sizes}; {len(self.warnings)} warnings)"

    @property
    def splits(self) -> tuple[SplitReport, SplitReport, SplitReport]:
        """Train, valid and test."""
        return self.train, self.valid, self.test

    @property
    def triples(self) -> int:
        """Number of triples, over the splits."""
        return sum(split.triples for split in self.splits)

    @property
    def warnings(self) -> tuple[str, ...]:
        """All warnings, one sentence each, with file and line numbers where they exist."""
        of_splits = tuple(warning for split in self.splits for warning in split.warnings)
        near_equal = tuple(one.warning for one in self.near_equal)
        doubt = (self.column_doubt,) if self.column_doubt else ()
        return doubt + of_splits + near_equal + self.redundancy.warnings

    @property
    def weight_notes(self) -> tuple[str, ...]:
        """A sentence about the weights of each split that has some."""
        notes = []
        for name, split in zip(SPLITS, self.splits, strict=True):
            found = split.weights
            if found is None:
                continue
            note = (
                f"weights of {name}: {found.least:.3g} to {found.most:.3g}, mean {found.mean:.3f}; "
                f"{found.ones:,} of {split.triples:,} triples have the weight 1"
            )
            if found.raised:
                have = "triple has" if found.raised == 1 else "triples have"
                note += f"; {found.raised:,} {have} several weights, and the largest counts"
            notes.append(note)
        return tuple(notes)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready: the report with its warnings."""
        report = {key: _plain(value) for key, value in asdict(self).items()}
        for split in SPLITS:
            if report[split]["weights"] is None:
                del report[split]["weights"]
        return {**report, "triples": self.triples, "warnings": list(self.warnings)}

    def table(self) -> Table:
        """The counts, with a column per split; the table fits in 80 columns."""
        # labels and names are Text, because rich reads [brackets] in a string as markup
        table = Table(title=Text(f"Load report of {self.name}"), title_justify="left")
        table.add_column("", no_wrap=True)
        for header in (*SPLITS, "all"):
            table.add_column(header, justify="right", no_wrap=True)
        totals = {
            "triples": self.triples,
            "entities": self.entities,
            "relations": self.relations,
            "entities unseen in train": self.entities - self.train.entities,
            "relations unseen in train": self.relations - self.train.relations,
        }
        for name, first, count in _ROWS:
            counts = [count(split) for split in self.splits[first:]]
            total = totals.get(name, sum(counts))
            blanks = [""] * first
            table.add_row(name, *blanks, *(f"{number:,}" for number in (*counts, total)))
        weights = [split.weights for split in self.splits]
        if any(weights):
            means = ["" if each is None else f"{each.mean:.3f}" for each in weights]
            table.add_row("mean weight", *means, "")
        return table

    def render(self) -> Group:
        """The table with notes and warnings under it, for a rich console."""
        lines = [f"- {line}" for line in (*self.notes, *self.weight_notes, *self.warnings)]
        lines += [] if self.warnings else ["no warnings"]
        return Group(self.table(), *map(Text, lines))


# Name, index of the first split with a count, count.
_ROWS: tuple[tuple[str, int, Callable[[SplitReport], int]], ...] = (
    ("triples", 0, lambda split: split.triples),
    ("entities", 0, lambda split: split.entities),
    ("relations", 0, lambda split: split.relations),
    ("duplicate lines dropped", 0, lambda split: split.duplicates.count),
    ("self loops", 0, lambda split: split.self_loops.count),
    ("entities unseen in train", 1, lambda split: split.unseen_entities.count),
    ("- triples with them", 1, lambda split: split.unseen_entities.triples.count),
    ("relations unseen in train", 1, lambda split: split.unseen_relations.count),
    ("- triples with them", 1, lambda split: split.unseen_relations.triples.count),
    ("triples also in train", 1, lambda split: split.in_train.count),
    ("triples also in valid", 2, lambda split: split.in_valid.count),
    ("triples reversed in train", 1, lambda split: split.reversed_in_train.count),
    ("pair in train, other relation", 1, lambda split: split.same_pair_in_train.count),
)


def _counted(lines: Lines, noun: str, rest: str = "") -> str:
    return f"{lines.count:,} {noun}{'' if lines.count == 1 else 's'}{rest}"


def _unseen(unseen: Unseen, singular: str, plural: str) -> tuple[str, Lines]:
    labels = _listed([quoted(label) for label in unseen.first], unseen.count)
    noun = singular if unseen.count == 1 else plural
    text = _counted(unseen.triples, "triple", f" with {unseen.count:,} {noun} unseen in train")
    return f"{text} ({labels})", unseen.triples


def _listed(items: Sequence[str], count: int) -> str:
    return ", ".join(items) + (", …" if count > len(items) else "")


def _plain(value: Any) -> Any:
    """The value with lists instead of tuples."""
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    return [_plain(inner) for inner in value] if isinstance(value, tuple) else value
