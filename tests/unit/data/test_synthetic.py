"""Synthetic graphs are valid, bounded, reproducible, and hold each kind of regularity."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from itertools import product

import numpy as np
import pytest
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components

from kgtool.data import synthetic
from kgtool.data.dataset import KGDataset
from kgtool.data.synthetic import synthetic_graph
from tests.support.graphs import tuples_of

SEEDS = range(200)
Pairs = set[tuple[int, int]]


@cache
def graph(seed: int) -> KGDataset:
    return synthetic_graph(seed)


@cache
def relations(seed: int) -> list[Pairs]:
    """The pairs of each relation with at least 20 triples."""
    found: dict[int, Pairs] = {}
    for head, relation, tail in tuples_of(graph(seed).train):
        found.setdefault(relation, set()).add((head, tail))
    return [pairs for pairs in found.values() if len(pairs) >= 20]


def inverse(pairs: Pairs) -> Pairs:
    return {(tail, head) for head, tail in pairs}


def composed(a: Pairs, b: Pairs) -> Pairs:
    ahead: dict[int, list[int]] = {}
    for head, tail in b:
        ahead.setdefault(head, []).append(tail)
    return {(head, tail) for head, middle in a for tail in ahead.get(middle, ()) if head != tail}


def predicts(premise: Pairs, conclusion: Pairs, precision: float) -> bool:
    hits = len(premise & conclusion)
    return hits >= 20 and hits >= precision * len(premise)


def test_a_seed_gives_the_same_graph_again():
    for seed in range(5):
        assert synthetic_graph(seed).fingerprint == graph(seed).fingerprint


def test_seeds_give_different_graphs():
    assert len({graph(seed).fingerprint for seed in SEEDS}) == len(SEEDS)


def test_a_seed_is_not_negative():
    with pytest.raises(ValueError, match="non-negative"):
        synthetic_graph(-1)


@pytest.mark.parametrize("seed", SEEDS)
def test_graphs_are_valid_and_bounded(seed):
    data = graph(seed)  # a data set checks the range of ids
    triples = tuples_of(data.train)
    assert len(data.valid) == len(data.test) == 0
    assert len(set(triples)) == len(triples)
    assert all(head != tail for head, _, tail in triples)
    assert {end for head, _, tail in triples for end in (head, tail)} == {*range(data.num_entities)}
    assert {relation for _, relation, _ in triples} == {*range(data.num_relations)}
    assert 150 <= data.num_entities <= synthetic.MOST_ENTITIES
    assert 4 <= data.num_relations <= synthetic.MOST_RELATIONS
    assert 400 <= len(triples) <= synthetic.MOST_TRIPLES
    assert data.vocabulary.entities[-1] == f"e{data.num_entities - 1}"
    assert data.vocabulary.relations[-1] == f"r{data.num_relations - 1}"


def test_sizes_spread():
    degree = np.array([2 * len(graph(seed)) / graph(seed).num_entities for seed in SEEDS])
    assert np.quantile(degree, 0.1) < 5 < 20 < np.quantile(degree, 0.95)
    triples = np.array([len(graph(seed)) for seed in SEEDS])
    assert np.quantile(triples, 0.1) < 1500 < 6000 < np.quantile(triples, 0.95)


def inverses(all_: list[Pairs]) -> Iterator[bool]:
    for a, b in product(all_, repeat=2):
        yield a is not b and predicts(inverse(a), b, 0.8)


def symmetry(all_: list[Pairs]) -> Iterator[bool]:
    return (predicts(inverse(a), a, 0.8) for a in all_)


def subrelations(all_: list[Pairs]) -> Iterator[bool]:
    for a, b in product(all_, repeat=2):
        yield a is not b and predicts(a, b, 0.8) and 2 * len(a) < len(b)


def near_duplicates(all_: list[Pairs]) -> Iterator[bool]:
    for a, b in product(all_, repeat=2):
        yield a is not b and predicts(a, b, 0.7) and predicts(b, a, 0.7)


def intersections(all_: list[Pairs]) -> Iterator[bool]:
    """The pairs of a relation that another or a composition has, too, predict twice as well."""
    steps = steps_of(*all_)
    others = all_ + [composed(a, b) for a, b in product(steps, repeat=2)]
    for a, b, c in product(all_, others, all_):
        if c not in (a, b) and predicts(a & b, c, 0.5):
            precision = len(a & b & c) / len(a & b)
            yield 2 * max(len(a & c) / len(a), len(b & c) / len(b)) <= precision


def compositions(all_: list[Pairs]) -> Iterator[bool]:
    steps = steps_of(*all_)
    for a, b in product(steps, repeat=2):
        joined = composed(a, b)
        yield any(c not in (a, b) and predicts(joined, c, 0.5) for c in all_)


def transitivity(all_: list[Pairs]) -> Iterator[bool]:
    return (predicts(composed(a, a), a, 0.5) and not predicts(inverse(a), a, 0.1) for a in all_)


def same_tails(all_: list[Pairs]) -> Iterator[bool]:
    for a in all_:
        joined = composed(a, inverse(a))
        yield any(a is not b and predicts(joined, b, 0.5) for b in all_)


def inheritance(all_: list[Pairs]) -> Iterator[bool]:
    for a, b in product(all_, repeat=2):
        yield a is not b and predicts(composed(a, b), b, 0.5)


def functions(all_: list[Pairs]) -> Iterator[bool]:
    for a in all_:
        heads, tails = Counter(h for h, _ in a), Counter(t for _, t in a)
        yield len(heads) == len(a) > 2 * len(tails)


def one_to_one(all_: list[Pairs]) -> Iterator[bool]:
    return (len({h for h, _ in a}) == len({t for _, t in a}) == len(a) for a in all_)


def attributes(all_: list[Pairs]) -> Iterator[bool]:
    return (len({t for _, t in a}) <= 10 and len({h for h, _ in a}) >= 100 for a in all_)


def hubs(all_: list[Pairs]) -> Iterator[bool]:
    degree = Counter(end for a in all_ for pair in a for end in pair)
    yield max(degree.values()) >= 20 * sum(degree.values()) / len(degree)


def even_degrees(all_: list[Pairs]) -> Iterator[bool]:
    degree = Counter(end for a in all_ for pair in a for end in pair)
    yield max(degree.values()) <= 5 * sum(degree.values()) / len(degree)


def hierarchies(all_: list[Pairs]) -> Iterator[bool]:
    """Each child has one parent, there is no cycle, and some have a great-grandparent."""
    for a in all_:
        parent = dict(a)
        depth, at = 0, set(parent)
        while at and depth <= len(parent):
            depth, at = depth + 1, {parent[node] for node in at if node in parent}
        yield len(parent) == len(a) >= 50 and 3 <= depth <= len(parent)


def correlated_attributes(all_: list[Pairs]) -> Iterator[bool]:
    """x a u → x b v with a precision of 0.7, where v is the tail of a quarter of b at most."""
    for a, b in product(all_, repeat=2):
        if a is not b:
            tails = Counter(tail for _, tail in b)
            of_head: dict[int, list[int]] = {}
            for head, tail in b:
                of_head.setdefault(head, []).append(tail)
            both = Counter((u, v) for x, u in a for v in of_head.get(x, ()))
            with_u = Counter(u for x, u in a if x in of_head)
            yield any(
                count >= max(20, 0.7 * with_u[u]) and 4 * tails[v] <= len(b)
                for (u, v), count in both.items()
            )


def separate_parts(all_: list[Pairs]) -> Iterator[bool]:
    """No part that paths join has more than a tenth of the entities."""
    pairs = np.array([pair for a in all_ for pair in a])
    ends, ids = np.unique(pairs, return_inverse=True)
    head, tail = ids.reshape(-1, 2).T
    size = (len(ends), len(ends))
    joined = csr_array((np.ones(len(head), dtype=bool), (head, tail)), shape=size)
    part = connected_components(joined, directed=False)[1]
    yield np.bincount(part).max() <= 0.1 * len(ends)


def distractors(all_: list[Pairs]) -> Iterator[bool]:
    """No rule of one or two steps predicts the relation with a precision of 0.1."""
    steps = steps_of(*all_)
    premises = steps + [composed(a, b) for a, b in product(steps, repeat=2)]
    for a in all_:
        yield not any(predicts(each, a, 0.1) for each in premises if each is not a)


@pytest.mark.parametrize(
    "kind",
    [
        inverses, symmetry, subrelations, near_duplicates, intersections, compositions,
        transitivity, same_tails, inheritance, functions, one_to_one, attributes, hubs,
        even_degrees, hierarchies, correlated_attributes, separate_parts, distractors,
    ],
)  # fmt: skip
def test_each_regularity_occurs_and_is_not_everywhere(kind):
    """It stops at the first graph with the regularity, and at the first one without."""
    small = [seed for seed in SEEDS if len(graph(seed)) < 2000]
    assert any(any(kind(relations(seed))) for seed in small)
    assert not all(any(kind(relations(seed))) for seed in small)


def world(seed: int, n: int = 60) -> synthetic._World:
    return synthetic._World.draw(np.random.default_rng(seed), n, 3)


def pairs_of(relation: csr_array) -> Pairs:
    return set(zip(*(ids.tolist() for ids in relation.nonzero()), strict=True))


@pytest.mark.parametrize("seed", range(20))
def test_rules_equal_those_of_sets(seed):
    of = world(seed)
    a, b = (of.matrix(*of.rng.integers(60, size=(2, 80))) for _ in range(2))
    one, other = pairs_of(a), pairs_of(b)
    assert pairs_of(synthetic._symmetric(of, a, [])) == inverse(one)
    assert pairs_of(synthetic._product(of, a, b, 1000)) == composed(one, other)
    up_to_two = one | composed(one, one)
    assert pairs_of(synthetic._transitive(of, a, [])) == composed(up_to_two, up_to_two)
    assert pairs_of(synthetic._copied(of, [a], 9)) == one
    assert pairs_of(synthetic._inverse(of, [a], 9)) == inverse(one)
    assert pairs_of(synthetic._union(of, [a, b], 9)) in (one, other, one | other)
    two = {frozenset(composed(x, y)) for x, y in product(steps_of(one, other), repeat=2)}
    assert pairs_of(synthetic._composition(of, [a, b], 1000)) in two
    met = pairs_of(synthetic._intersection(of, [a, b], 1000))
    assert met in [x & y for x in (one, other) for y in (one, other, *two)]
    shared = [composed(x, inverse(x)) for x in steps_of(one, other)]
    assert pairs_of(synthetic._same_tail(of, [a, b], 1000)) in shared


def steps_of(*all_: Pairs) -> list[Pairs]:
    return [pairs for a in all_ for pairs in (a, inverse(a))]


@pytest.mark.parametrize("draw", dict.fromkeys(synthetic._DRAWN))
def test_drawn_relations_stay_in_their_domain(draw):
    for seed in range(20):
        of = world(seed, 200)
        heads, tails = np.arange(0, 120), np.arange(80, 200)
        for size in (4, 50, 400):
            found = draw(of, heads, tails, size)
            head, tail = found.nonzero()
            assert len(head) <= size
            if draw is synthetic._tree:
                tails = heads
            assert np.isin(head, heads).all()
            assert np.isin(tail, tails).all()


def test_relations_of_a_separate_world_stay_within_parts():
    for seed in range(20):
        of = replace(world(seed, 200), part=np.arange(200) // 20, separate=1.0)
        relation = of.matrix(np.repeat(np.arange(200), 2), of.rng.integers(200, size=400))
        head, tail = of.in_parts(relation).nonzero()
        assert len(head) > 20
        assert (of.part[head] == of.part[tail]).all()
        many = of.matrix(np.arange(200), of.rng.integers(5, size=200))
        head, tail = of.in_parts(many).nonzero()
        assert len(np.unique(head)) == len(head)  # a functional relation stays functional
        tree = synthetic._tree(of, np.arange(200), np.arange(200), 200)
        head, tail = tree.nonzero()
        assert len(head) == 190
        assert (of.part[head] == of.part[tail]).all()


def test_a_part_keeps_the_types_of_ends():
    for seed in range(20):
        of = world(seed, 200)
        of = replace(of, part=np.arange(200) // 20)
        head, tail = of.rng.integers(200, size=(2, 300))
        found, near = of.nearby(head, tail)
        assert len(found) > 100
        at = {(h, of.type[t]) for h, t in zip(head.tolist(), tail.tolist(), strict=True)}
        kinds = zip(found.tolist(), of.type[near].tolist(), strict=True)
        assert {(h, int(kind)) for h, kind in kinds} <= {(h, int(kind)) for h, kind in at}
        assert (of.part[found] == of.part[near]).all()


def test_a_limited_relation_keeps_whole_ends():
    """Where ends are many, all pairs of an end stay or go, except for the last one."""
    for seed in range(20):
        of = world(seed)
        relation = of.matrix(*of.rng.integers(60, size=(2, 400)))
        less = synthetic._limited(of, relation, 200)
        assert less.nnz == 200
        partial = []
        for axis in (0, 1):
            before, after = relation.sum(axis=axis), less.sum(axis=axis)
            partial.append(int(((after > 0) & (after < before)).sum()))
        assert min(partial) <= 1
