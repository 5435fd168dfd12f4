"""A large knowledge graph with the shape of Wikidata5M, whose composition rules are known.

Nothing is drawn from a stream: each fact is a function of the seed and of its number (`Facts`), so
that any of them can be made at any time, and memory holds those alone that are asked for.

Three steps, in reading order: numbers that look random (`scattered`, `shuffled`), relations as
functions from heads to tails (`Step`, `Facts`), and what the graph holds (`plan`). It is written by
`generate_large.py`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Words = NDArray[np.uint64]
T = TypeVar("T")

# The shape. Wikidata5M (Wang et al. 2021) has 4,594,485 entities, 822 relations and 20,614,279
# train triples; its relations follow Zipf's law, and "human" has over a million in-edges.
TYPES = 34  # relations for each type of entity; types follow Zipf's law too
CLASSES = 400  # entities for each class, which the first relation says every entity to be of
CLASS_POWER, FIRST_POWER = 8, 32  # of the first type nearly all are of one class, as persons are
LEADING = 4  # the most frequent relations beside that one are in no rule; then every other family
DOMAIN = 1.5  # a relation's heads are among so many times as many: the first ones of their type
RANGES = (1, 10, 100, 1000)  # a relation's tails are among one in so many of a type
RANGE = 16  # entities in a range at least
POWERS = (2, 3, 4, 6)
BLOCK = 64  # tails among which those of a head are, in a relation with communities
SLOTS = (1, 1, 1, 1, 1, 2, 4)  # tails of a head

# The rules: for each kind, relations of the graph for one rule, and how many facts each of the
# rule's relations has beside the first. The first step of a body is eight to one, so that what is
# between head and tail has few edges; of 70 % of the heads that have a body the conclusion is said.
KINDS = {"composition": 14, "chain": 200, "inverse": 40, "symmetry": 80}
PARTS = {
    "plain": (1.0,),
    "composition": (1.0, 1 / 8, 0.7),
    "chain": (1.0, 1 / 8, 1 / 16, 0.7),
    "inverse": (1.0, 0.7),
    "symmetry": (1.0, 0.7),
}
CONFIDENCE = (0.60, 0.95)


# --- numbers that look random


def key_of(*names: object) -> int:
    """64 bits of a name, such as the seed and what the numbers are for."""
    return int.from_bytes(hashlib.blake2b(repr(names).encode(), digest_size=8).digest(), "little")


def scattered(key: int, at: Ints) -> Words:
    """A 64-bit number for each place `at` `(n,)`: splitmix64's."""
    x = at.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(key)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def uniform(key: int, at: Ints) -> NDArray[np.float64]:
    """A number from 0 to below 1 for each place."""
    found: NDArray[np.float64] = (scattered(key, at) >> np.uint64(11)) * 2.0**-53
    return found


def skewed(key: int, at: Ints, size: Ints | int, power: int) -> Ints:
    """A number below `size` for each place, `i` in proportion to about (i + 1)^(1/power - 1)."""
    drawn = uniform(key, at)
    share = drawn.copy()
    for _ in range(power - 1):  # products are the same on every machine, `**` may not be
        share *= drawn
    return np.minimum((share * size).astype(np.int64), size - 1)


def shuffled(key: int, at: Ints, size: int) -> Ints:
    """Where a permutation of `size` numbers takes each of `at` `(n,)`.

    Multiplying by an odd number and folding high bits into low ones are one to one on numbers of so
    many bits; what falls beyond the size is moved on until it falls inside.
    """
    bits = max((size - 1).bit_length(), 1)
    mask, fold = np.uint64(2**bits - 1), np.uint64((bits + 1) // 2)
    rounds = [(np.uint64(key_of(key, i) | 1), np.uint64(key_of(i, key))) for i in range(4)]

    def moved(x: Words) -> Words:
        for factor, shift in rounds:
            x = (x * factor + shift) & mask
            x ^= x >> fold
        return x

    place = moved(at.astype(np.uint64))
    outside = np.flatnonzero(place >= size)
    while len(outside):
        place[outside] = moved(place[outside])
        outside = outside[place[outside] >= size]
    return place.astype(np.int64)


def order(key: int, size: int) -> list[int]:
    """A permutation of `size` numbers."""
    return shuffled(key, np.arange(size), size).tolist()


# --- relations as functions


@dataclass(frozen=True)
class Window:
    """Consecutive entities."""

    start: int
    size: int


@dataclass(frozen=True)
class Step:
    """A relation as a function: many heads to one tail.

    Args:
        key: of its random numbers.
        domain, range: where its heads and its tails are.
        power: how skewed tails are: the first of n is drawn with the chance n^(-1/power).
        blocks: parts of the domain and of the range; heads of the i-th have tails of the i-th.
        slots: tails of a head. Each is of its own share of the range, so that no two are one.
    """

    key: int
    domain: Window
    range: Window
    power: int
    blocks: int = 1
    slots: int = 1

    def heads(self, at: Ints) -> Ints:
        """`(n,)`: the heads at places below the size of the domain, in their random order."""
        return self.domain.start + shuffled(self.key, at, self.domain.size)

    def tails(self, head: Ints, slot: Ints | int = 0) -> Ints:
        """`(n,)`: a tail of each head."""
        block = (head - self.domain.start) * self.blocks // self.domain.size
        low, high = (b * self.range.size // self.blocks for b in (block, block + 1))
        tail = low + skewed(self.key, head * self.slots + slot, high - low, self.power)
        tail += slot - tail % self.slots
        tail[tail >= self.range.size] -= self.slots
        return self.range.start + tail


@dataclass(frozen=True)
class Facts:
    """Facts of one relation, numbered from 0.

    What a rule concludes is said of the first heads of its body, in their random order. With its
    confidence it is true; else its tail is drawn anew from where the body's are.

    Args:
        relation: the id.
        count: how many facts.
        steps: from start to end: one relation's, or those of a rule's body.
        backwards: whether start is the triple's tail.
        rule: the rule's number from 1; 0 for none.
        body: the relations of the rule's steps.
        bodies: how many starts have them.
        confidence: the rule's.
        hidden: whether facts are held out: not those that tell of classes or make a body.
    """

    relation: int
    count: int
    steps: tuple[Step, ...]
    backwards: bool = False
    rule: int = 0
    body: tuple[int, ...] = ()
    bodies: int = 0
    confidence: float = 1.0
    hidden: bool = False

    def ends(self, at: Ints) -> tuple[Ints, Ints]:
        """`(n,)` each: where the steps of each fact start, and where they end."""
        slot, place = np.divmod(at, self.steps[0].domain.size)
        start = end = self.steps[0].heads(place)
        for step in self.steps:
            end = step.tails(end, slot)
        return start, end

    def said(self, at: Ints) -> tuple[Ints, Ints, NDArray[np.bool_]]:
        """`(n,)` each: heads and tails of facts, and whether the rule gives them."""
        start, true = self.ends(at)
        end, last = true, self.steps[-1]
        if self.rule:
            key = key_of(self.steps[0].key, self.relation)
            other = skewed(key, start, last.range.size, last.power) + last.range.start
            end = np.where(uniform(key_of(key), start) < self.confidence, true, other)
        pair = (end, start) if self.backwards else (start, end)
        return *pair, (end == true) & (self.rule > 0)


@dataclass(frozen=True)
class Graph:
    """What there is: `facts`, and how entities and relations are labelled.

    Args:
        key: of the order of lines and the labels.
        entities, relations: how many.
        facts: all of them.
    """

    key: int
    entities: int
    relations: int
    facts: tuple[Facts, ...]

    @property
    def bounds(self) -> Ints:
        """`(len(facts) + 1,)`: where the numbers of each begin, when all facts are numbered."""
        return np.cumsum([0, *(facts.count for facts in self.facts)])

    def entity_numbers(self, ids: Ints) -> Ints:
        """The n of the labels Qn, from 1; in an order of their own, which tells of no type."""
        return 1 + shuffled(key_of(self.key, "Q"), ids, self.entities)

    def relation_numbers(self, ids: Ints) -> Ints:
        """The n of the labels Pn, from 1."""
        return 1 + shuffled(key_of(self.key, "P"), ids, self.relations)

    def triples(self, number: Ints) -> tuple[Ints, Ints]:
        """The facts of some numbers: `(n, 3)` ids, and `(n,)` the rule that gives each, or 0."""
        bounds = self.bounds
        part = np.searchsorted(bounds, number, side="right") - 1
        by_part = np.argsort(part, kind="stable")
        cuts = np.searchsorted(part[by_part], np.arange(len(bounds)))
        hrt, rule = np.empty((len(number), 3), np.int64), np.zeros(len(number), np.int64)
        for i, facts in enumerate(self.facts):
            rows = by_part[cuts[i] : cuts[i + 1]]
            if len(rows):
                head, tail, derived = facts.said(number[rows] - bounds[i])
                hrt[rows, 0], hrt[rows, 1], hrt[rows, 2] = head, facts.relation, tail
                rule[rows] = facts.rule * derived
        return hrt, rule


# --- what the graph holds


def plan(entities: int, relations: int, triples: int, seed: int) -> Graph:
    """A graph of so many entities, relations and facts.

    Raises:
        ValueError: for numbers that do not fit each other.
    """
    key = key_of(seed, entities, relations, triples)
    count = max(4, relations // TYPES)
    classes = Window(0, max(count, entities // CLASSES))
    sizes = apportioned([1 / i for i in range(1, count + 1)], entities - classes.size)
    starts = np.cumsum([classes.size, *sizes]).tolist()
    types = [Window(start, size) for start, size in zip(starts, sizes, strict=False)]

    kinds = _kinds(key, relations)
    # one family of relations after the other, as often as its place has it: Zipf's law
    weights = [part / place for place, kind in enumerate(kinds, 1) for part in PARTS[kind]]
    counts = iter(apportioned(weights, triples - entities))
    if min(sizes) < RANGE or triples < 2 * entities:
        raise ValueError(f"{entities} entities do not fit {triples} triples")
    facts = _of_classes(key, classes, types)
    number = len([kind for kind in kinds if kind != "plain"])
    low, high = CONFIDENCE
    trust = iter([low + (high - low) * i / max(number - 1, 1) for i in order(key, number)])
    relation, rule = 1, 0
    for kind in kinds:
        parts = [next(counts) for _ in PARTS[kind]]
        facts += _family(kind, key_of(key, relation), types, relation, parts)
        relation += 1 if kind == "symmetry" else len(parts)
        if kind != "plain":
            rule += 1
            facts[-1] = replace(facts[-1], rule=rule, confidence=round(next(trust), 4))
    return Graph(key, entities, relations, tuple(facts))


def _kinds(key: int, relations: int) -> list[str]:
    """The kind of each family, the most frequent family first."""
    planted = [kind for kind, share in KINDS.items() for _ in range(max(1, relations // share))]
    used = sum(1 if kind == "symmetry" else len(PARTS[kind]) for kind in planted)
    kinds = ["plain"] * (relations - 1 - used)
    for place, i in enumerate(order(key, len(planted))):
        kinds.insert(LEADING + 2 * place, planted[i])
    return kinds


def apportioned(weights: Sequence[float], total: int) -> list[int]:
    """Whole numbers in proportion to weights that add up to a total."""
    share = np.cumsum([0.0, *weights])
    return np.diff(np.rint(share / share[-1] * total).astype(np.int64)).tolist()


def _of_classes(key: int, classes: Window, types: Sequence[Window]) -> list[Facts]:
    """The class of every entity, each type's among its own classes: relation 0."""
    bounds = [i * classes.size // len(types) for i in range(len(types) + 1)]
    ranges = [Window(start, end - start) for start, end in pairwise(bounds)]
    powers = [FIRST_POWER] + [CLASS_POWER] * len(types)
    steps = [
        Step(key_of(key, "class", i), domain, among, power)
        for i, (domain, among, power) in enumerate(
            zip([*types, classes], [*ranges, classes], powers, strict=True)
        )
    ]
    return [Facts(0, step.domain.size, (step,)) for step in steps]


def _family(
    kind: str, key: int, types: Sequence[Window], relation: int, counts: Sequence[int]
) -> list[Facts]:
    """The facts of the relations of a family, from a first id on; a rule's conclusion last."""
    if min(counts) < 1:
        raise ValueError("too few triples for so many relations")
    if kind == "plain":
        return [Facts(relation, counts[0], (_plain(key, types, counts[0]),), hidden=True)]
    *body, said = counts
    if kind == "symmetry":
        whole = _fitting(key, types, 2 * body[0])
        half = whole.size // 2
        heads, tails = Window(whole.start, half), Window(whole.start + half, whole.size - half)
        steps = [Step(key, heads, tails, 2)]
    else:
        steps = _body(key, types, body)
    premises = [
        Facts(relation + i, count, (step,))
        for i, (count, step) in enumerate(zip(body, steps, strict=True))
    ]
    concluded = relation if kind == "symmetry" else relation + len(body)
    return [
        *premises,
        Facts(
            concluded, said, tuple(steps),
            backwards=len(body) == 1, body=tuple(facts.relation for facts in premises),
            bodies=body[0], hidden=True,
        ),
    ]  # fmt: skip


def _plain(key: int, types: Sequence[Window], count: int) -> Step:
    """A relation in no rule."""
    slots = max(_one(key_of(key, "slots"), SLOTS), -(-count // types[0].size))
    heads = -(-count // slots)
    if slots == 1:  # else all heads have as many tails
        heads = min(int(DOMAIN * heads), types[0].size)
    domain = _fitting(key, types, heads)
    tails = _range(key, types, domain)
    blocks = _one(key_of(key, "blocks"), (1, max(1, tails.size // BLOCK)))
    power = _one(key_of(key, "power"), POWERS)
    return Step(key, Window(domain.start, heads), tails, power, blocks, slots)


def _body(key: int, types: Sequence[Window], counts: Sequence[int]) -> list[Step]:
    """Relations one after the other, each with a fact of all that the one before ends at."""
    first = _fitting(key, types, counts[0])
    windows = [Window(first.start, min(int(DOMAIN * counts[0]), first.size))]
    for i, count in enumerate(counts[1:]):
        first = _fitting(key_of(key, i), types, count, first)
        windows.append(_within(key_of(key, i), first, count))
    windows.append(_range(key, types, first))
    return [
        Step(key_of(key, "step", i), heads, tails, 2 if i + 2 < len(windows) else 3)
        for i, (heads, tails) in enumerate(pairwise(windows))
    ]


def _range(key: int, types: Sequence[Window], domain: Window) -> Window:
    """Where a relation ends: at some entities of another type than its heads'."""
    kind = _fitting(key_of(key, "range"), types, RANGE, domain)
    size = max(kind.size // _one(key_of(key, "share"), RANGES), RANGE)
    return _within(key, kind, size)


def _within(key: int, kind: Window, size: int) -> Window:
    """So many entities of a type."""
    return Window(kind.start + key % (kind.size - size + 1), size)


def _fitting(key: int, types: Sequence[Window], size: int, but: Window | None = None) -> Window:
    """A type of so many entities or more, and not a given one."""
    return _one(key, [kind for kind in types if kind.size >= size and kind != but])


def _one(key: int, options: Sequence[T]) -> T:
    if not options:
        raise ValueError("too few entities for so many triples")
    return options[key % len(options)]
