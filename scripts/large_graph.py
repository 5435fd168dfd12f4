"""A large knowledge graph with the shape of Wikidata5M and with known composition rules.

The graph is not drawn from a stream of random numbers. Each fact is a function of the seed and of
the fact's number (`Facts`). So any fact can be computed at any time, and memory holds only the
facts in use.

Three steps, in reading order: pseudo-random numbers (`scattered`, `shuffled`), relations as
functions from heads to tails (`Step`, `Facts`), and the content of the graph (`plan`).
`generate_large.py` writes it.
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
# train triples. Its relations follow Zipf's law, and "human" has more than a million in-edges.
TYPES = 34  # relations per type of entity; types follow Zipf's law too
CLASSES = 400  # entities per class; relation 0 gives the class of each entity
CLASS_POWER, FIRST_POWER = 8, 32  # nearly all entities of the first type have one class, as persons
LEADING = 4  # number of most frequent families that are in no rule; then every other family is
DOMAIN = 1.5  # size of a relation's domain per head; the domain is the first entities of a type
RANGES = (1, 10, 100, 1000)  # a relation's range is the type's entities divided by one of these
RANGE = 16  # minimum number of entities in a range
POWERS = (2, 3, 4, 6)
BLOCK = 64  # tails that a head may have, in a relation with communities
SLOTS = (1, 1, 1, 1, 1, 2, 4)  # tails of a head

# The rules. KINDS: the number of relations in the graph per rule of a kind. PARTS: the number of
# facts of each relation of a rule, relative to the first. In the first step of a body, 8 heads have
# the same tail, so the entities between head and tail have few edges. The conclusion is in the
# graph for 70 % of the heads with a body.
KINDS = {"composition": 14, "chain": 200, "inverse": 40, "symmetry": 80}
PARTS = {
    "plain": (1.0,),
    "composition": (1.0, 1 / 8, 0.7),
    "chain": (1.0, 1 / 8, 1 / 16, 0.7),
    "inverse": (1.0, 0.7),
    "symmetry": (1.0, 0.7),
}
CONFIDENCE = (0.60, 0.95)


# --- pseudo-random numbers


def key_of(*names: object) -> int:
    """A 64-bit key: the hash of names, such as the seed and the purpose of the numbers."""
    return int.from_bytes(hashlib.blake2b(repr(names).encode(), digest_size=8).digest(), "little")


def scattered(key: int, at: Ints) -> Words:
    """A 64-bit number for each index in `at` `(n,)`, by SplitMix64."""
    x = at.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(key)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def uniform(key: int, at: Ints) -> NDArray[np.float64]:
    """A uniform number in [0, 1) for each index."""
    numbers: NDArray[np.float64] = (scattered(key, at) >> np.uint64(11)) * 2.0**-53
    return numbers


def skewed(key: int, at: Ints, size: Ints | int, power: int) -> Ints:
    """An integer below `size` for each index; P(i) is roughly proportional to i^(1/power - 1)."""
    drawn = uniform(key, at)
    share = drawn.copy()
    for _ in range(power - 1):  # products are equal on all machines; `**` may differ
        share *= drawn
    return np.minimum((share * size).astype(np.int64), size - 1)


def shuffled(key: int, at: Ints, size: int) -> Ints:
    """The image of each number of `at` `(n,)` under a permutation of `size` numbers.

    Multiplication by an odd number, and adding high bits to low bits by XOR, are one-to-one on
    numbers of a fixed number of bits. A number that leaves the range is mapped again until it is in
    the range.
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
    """A range of consecutive entities."""

    start: int
    size: int


@dataclass(frozen=True)
class Step:
    """A relation as a function: many heads to one tail.

    Args:
        key: the key of its random numbers.
        domain, range: the windows of its heads and of its tails.
        power: the skew of tails: the first of n tails has the probability n^(-1/power).
        blocks: number of parts of the domain and of the range; heads of part i have tails of part
            i.
        slots: number of tails of a head. Each comes from its own share of the range, so they
            differ.
    """

    key: int
    domain: Window
    range: Window
    power: int
    blocks: int = 1
    slots: int = 1

    def heads(self, at: Ints) -> Ints:
        """`(n,)`: the heads at given positions in the random order of the domain."""
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

    The graph states the conclusions of a rule for the first starts of its body, in random order. A
    conclusion is true with the rule's confidence. Else its end is drawn anew from the body's range.

    Args:
        relation: the relation id.
        count: the number of facts.
        steps: the steps from start to end: one relation, or a rule's body.
        backwards: whether the start is the tail of the triple.
        rule: the number of the rule, from 1; 0 for no rule.
        body: the relations of the rule's body.
        bodies: the number of starts with a body path.
        confidence: the confidence of the rule.
        hidden: whether facts may be held out; False for classes and for bodies of rules.
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
        """`(n,)` each: the start and the end of the steps of each fact."""
        slot, place = np.divmod(at, self.steps[0].domain.size)
        start = end = self.steps[0].heads(place)
        for step in self.steps:
            end = step.tails(end, slot)
        return start, end

    def stated(self, at: Ints) -> tuple[Ints, Ints, NDArray[np.bool_]]:
        """`(n,)` each: heads and tails of the graph's facts, and whether the rule gives them."""
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
    """The content of a graph: `facts`, and the labels of entities and relations.

    Args:
        key: the key of the order of lines and of labels.
        entities, relations: their numbers.
        facts: all facts, by relation.
    """

    key: int
    entities: int
    relations: int
    facts: tuple[Facts, ...]

    @property
    def bounds(self) -> Ints:
        """`(len(facts) + 1,)`: the first number of each of `facts`, if all facts are numbered."""
        return np.cumsum([0, *(facts.count for facts in self.facts)])

    def entity_numbers(self, ids: Ints) -> Ints:
        """The n of the labels Qn, from 1, in a random order that does not reveal types."""
        return 1 + shuffled(key_of(self.key, "Q"), ids, self.entities)

    def relation_numbers(self, ids: Ints) -> Ints:
        """The n of the labels Pn, from 1."""
        return 1 + shuffled(key_of(self.key, "P"), ids, self.relations)

    def triples(self, number: Ints) -> tuple[Ints, Ints]:
        """The facts of given numbers: `(n, 3)` ids, and `(n,)` the rule that gives each, or 0."""
        bounds = self.bounds
        part = np.searchsorted(bounds, number, side="right") - 1
        by_part = np.argsort(part, kind="stable")
        cuts = np.searchsorted(part[by_part], np.arange(len(bounds)))
        hrt, rule = np.empty((len(number), 3), np.int64), np.zeros(len(number), np.int64)
        for i, facts in enumerate(self.facts):
            rows = by_part[cuts[i] : cuts[i + 1]]
            if len(rows):
                head, tail, derived = facts.stated(number[rows] - bounds[i])
                hrt[rows, 0], hrt[rows, 1], hrt[rows, 2] = head, facts.relation, tail
                rule[rows] = facts.rule * derived
        return hrt, rule


# --- the content of the graph


def plan(entities: int, relations: int, triples: int, seed: int) -> Graph:
    """Plan a graph with given numbers of entities, relations and facts.

    Raises:
        ValueError: if the numbers do not fit each other.
    """
    key = key_of(seed, entities, relations, triples)
    count = max(4, relations // TYPES)
    classes = Window(0, max(count, entities // CLASSES))
    sizes = apportioned([1 / i for i in range(1, count + 1)], entities - classes.size)
    starts = np.cumsum([classes.size, *sizes]).tolist()
    types = [Window(start, size) for start, size in zip(starts, sizes, strict=False)]

    kinds = _kinds(key, relations)
    # The frequency of a family of relations follows from its place: Zipf's law.
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
    """Integers in proportion to weights; their sum is `total`."""
    share = np.cumsum([0.0, *weights])
    return np.diff(np.rint(share / share[-1] * total).astype(np.int64)).tolist()


def _of_classes(key: int, classes: Window, types: Sequence[Window]) -> list[Facts]:
    """Relation 0: the class of each entity, from the classes of its type."""
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
    """The facts of a family of relations, with ids from `relation` on; the conclusion is last."""
    if min(counts) < 1:
        raise ValueError("too few triples for so many relations")
    if kind == "plain":
        return [Facts(relation, counts[0], (_plain(key, types, counts[0]),), hidden=True)]
    *body, conclusions = counts
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
            concluded, conclusions, tuple(steps),
            backwards=len(body) == 1, body=tuple(facts.relation for facts in premises),
            bodies=body[0], hidden=True,
        ),
    ]  # fmt: skip


def _plain(key: int, types: Sequence[Window], count: int) -> Step:
    """A relation that is not in a rule."""
    slots = max(_one(key_of(key, "slots"), SLOTS), -(-count // types[0].size))
    heads = -(-count // slots)
    if slots == 1:  # with more slots, all heads have the same number of tails
        heads = min(int(DOMAIN * heads), types[0].size)
    domain = _fitting(key, types, heads)
    tails = _range(key, types, domain)
    blocks = _one(key_of(key, "blocks"), (1, max(1, tails.size // BLOCK)))
    power = _one(key_of(key, "power"), POWERS)
    return Step(key, Window(domain.start, heads), tails, power, blocks, slots)


def _body(key: int, types: Sequence[Window], counts: Sequence[int]) -> list[Step]:
    """Relations of a path; each relation has a fact for all ends of the one before."""
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
    """The range of a relation: some entities of a type that differs from its heads' type."""
    kind = _fitting(key_of(key, "range"), types, RANGE, domain)
    size = max(kind.size // _one(key_of(key, "share"), RANGES), RANGE)
    return _within(key, kind, size)


def _within(key: int, kind: Window, size: int) -> Window:
    """A window of `size` entities of a type."""
    return Window(kind.start + key % (kind.size - size + 1), size)


def _fitting(key: int, types: Sequence[Window], size: int, but: Window | None = None) -> Window:
    """A type with at least `size` entities, other than `but`."""
    return _one(key, [kind for kind in types if kind.size >= size and kind != but])


def _one(key: int, options: Sequence[T]) -> T:
    if not options:
        raise ValueError("too few entities for so many triples")
    return options[key % len(options)]
