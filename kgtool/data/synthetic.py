"""Synthetic knowledge graphs with the regularities of real ones, in ever new mixtures.

A model that answers any graph (kin: ULTRA, Galkin et al. 2024; TRIX, Zhang et al. 2024) holds
nothing of a graph, so it learns how relations interact. Each graph here mixes what Freebase,
WordNet, NELL, Wikidata, biomedical and kinship graphs are made of: types, latent clusters and
tastes, separate parts, hierarchies, rules with a confidence, and facts that follow no rule.

A relation is a boolean `(n, n)` sparse matrix over the n entities, with heads as rows. First come
the entities (`_World`), then the relations one by one (`_relation`): some are drawn anew, others
follow by a rule from earlier ones. At the end a part of all facts is dropped (`_observed`). A graph
depends on its seed alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_array

from kgtool.data.dataset import KGDataset, Vocabulary

Ids = NDArray[np.int64]

FEWEST_ENTITIES, MOST_ENTITIES, MOST_RELATIONS, MOST_TRIPLES = 150, 3000, 100, 30_000
_CLUSTERS = 64  # at most, per type and facet
_FEWEST = 4  # pairs of a relation; those with fewer get random ones


def synthetic_graph(seed: int) -> KGDataset:
    """A synthetic knowledge graph: train triples alone, valid and test are empty.

    Drawn per graph, log-uniformly: 150 to 3,000 entities, 4 to 100 relations, and 800 to
    30,000 triples, the lesser of one or two draws. In three of ten graphs the entities fall into
    parts, and most or all relations stay within parts; such graphs have down to half as many
    triples. The mean degree (2 · triples / entities) is about 2.5 to 100. The sizes of relations
    are a power law with an exponent of 0.2 to 2. A share of 0 to 0.9 of the relations follows from
    others by rules. Each kind of relation and of rule has a weight per graph from a Dirichlet
    distribution of 0.4, so that few kinds prevail in a graph. Each relation loses 5 to 40 % of its
    facts at random, be they premises or conclusions.

    Args:
        seed: at least 0; the only source of the draws.

    Returns:
        The graph, with labels `e0`, `e1`, … and `r0`, `r1`, …: without duplicates or self loops,
        and each entity and each relation has a triple.

    Raises:
        ValueError: for a negative seed.
    """
    rng = np.random.default_rng(seed)
    n = _log_uniform(rng, FEWEST_ENTITIES, MOST_ENTITIES)
    num_relations = _log_uniform(rng, 4, MOST_RELATIONS)
    bounds = max(800, 1.1 * n), min(MOST_TRIPLES, 80 * n)
    num_triples = min(_log_uniform(rng, *bounds) for _ in range(int(rng.integers(1, 3))))
    least, most = 0.05 + 0.35 * np.sort(rng.random(2) ** 1.5)
    dropped = rng.uniform(least, most, num_relations)

    world = _World.draw(rng, n, min(8, 1 + num_relations // 2))
    mixture = _Mixture.draw(rng)
    relations: list[csr_array] = []
    budget = num_triples / (1 - dropped.mean())
    weight = rng.permutation(np.arange(1, num_relations + 1) ** -rng.uniform(0.2, 2))
    for i in range(num_relations):
        # What a relation leaves of its share goes to the later ones.
        size = max(_FEWEST, int(budget * weight[i] / weight[i:].sum()))
        relations.append(_relation(world, mixture, relations, size))
        budget -= relations[-1].nnz
    for i in rng.integers(num_relations, size=8):  # a further sense of a relation
        if budget > 0.2 * num_triples:
            sense = _relation(world, mixture, [], int(budget))
            relations[i] = relations[i] + sense
            budget -= sense.nnz
    triples = _observed(world, relations, dropped)
    entities = tuple(f"e{i}" for i in range(int(triples[:, ::2].max()) + 1))
    labels = tuple(f"r{i}" for i in range(num_relations))
    none = torch.empty((0, 3), dtype=torch.int64)
    return KGDataset(
        f"synthetic-{seed}", None, Vocabulary(entities, labels), torch.from_numpy(triples),
        none, none,
    )  # fmt: skip


@dataclass(frozen=True)
class _World:
    """The entities and the source of all draws.

    Attributes:
        rng: the generator.
        type: `(n,)`, 1 to 8 types of unequal sizes; fewer where relations are few.
        cluster: `(facets, n)`, 1 to 3 facets: independent divisions of each type into 1 to
            `_CLUSTERS` clusters, numbered over all types. They are latent: relations prefer pairs
            of clusters, so that the attributes of an entity depend on each other.
        part: `(n,)`, the part of each entity: one part, or 2 to n / 3 with a probability of 0.3.
        separate: the probability that a drawn relation stays within parts: 1, or uniform with a
            probability of 0.5.
        taste: `(n, k)`, normal: 2 to 8 latent tastes.
        rank: `(n,)`, popularity from 0 for the most popular.
        skew: the largest Zipf exponent of the ends of relations, 1.3 times one from Beta(0.5, 0.8).
        functional: the probability that a relation is functional, from Beta(1, 0.5).
        certain: the probability that a rule has no exception, from Beta(0.6, 1).
    """

    rng: np.random.Generator
    type: Ids
    cluster: Ids
    part: Ids
    separate: float
    taste: NDArray[np.float64]
    rank: Ids
    skew: float
    functional: float
    certain: float

    @classmethod
    def draw(cls, rng: np.random.Generator, n: int, most_types: int) -> _World:
        """Draw n entities of at most that number of types."""
        num_types, facets = int(rng.integers(1, most_types + 1)), int(rng.integers(1, 4))
        share = 0.3 / num_types + 0.7 * rng.dirichlet(np.ones(num_types))
        type_ = rng.choice(num_types, n, p=share)
        most = np.exp(rng.uniform(0, np.log(_CLUSTERS), (facets, num_types)))[:, type_]
        within = most * rng.random((facets, n)) ** rng.uniform(1, 2)
        cluster = type_ * _CLUSTERS + within.astype(np.int64)
        num_parts = _log_uniform(rng, 2, n / 3) if rng.random() < 0.3 else 1
        return cls(
            rng=rng,
            type=type_,
            cluster=cluster,
            part=rng.integers(num_parts, size=n),
            separate=1.0 if rng.random() < 0.5 else rng.random(),
            taste=rng.normal(size=(n, int(rng.integers(2, 9)))),
            rank=rng.permutation(n),
            skew=1.3 * rng.beta(0.5, 0.8),
            functional=rng.beta(1, 0.5),
            certain=rng.beta(0.6, 1),
        )

    @property
    def n(self) -> int:
        """Number of entities."""
        return len(self.type)

    def chance(self, probability: float) -> bool:
        """Whether an event of this probability happens."""
        return bool(self.rng.random() < probability)

    def confidence(self) -> float:
        """The confidence of a rule: 1 with a probability of `certain`, else 0.3 to 1."""
        return 1.0 if self.chance(self.certain) else self.rng.uniform(0.3, 1)

    def facet(self) -> Ids:
        """`(n,)`, the clusters of a random facet."""
        return self.cluster[self.rng.integers(len(self.cluster))]

    def domain(self) -> Ids:
        """The entities of one type, or of two or three types with a probability of 0.25.

        With a probability of 0.3, half of the clusters of a facet are left out.
        """
        kinds, size = np.unique(self.type, return_counts=True)
        count = int(self.rng.integers(2, 4)) if self.chance(0.25) else 1
        weight = np.sqrt(size) / np.sqrt(size).sum()
        chosen = self.rng.choice(kinds, min(count, len(kinds)), replace=False, p=weight)
        inside = np.isin(self.type, chosen)
        if self.chance(0.3):
            kept = inside & (self.rng.random(self.cluster.max() + 1) < 0.5)[self.facet()]
            inside = kept if kept.sum() > _FEWEST else inside
        return np.flatnonzero(inside)

    def popularity(self, entities: Ids) -> NDArray[np.float64]:
        """The Zipf weights of entities, with an exponent of 0 to `skew`.

        They are ranked by `rank`, as in other relations, or anew.
        """
        count = len(entities)
        order = np.argsort(self.rank[entities]) if self.chance(0.5) else self.rng.permutation(count)
        weight = np.empty(count)
        weight[order] = np.arange(1, count + 1) ** -self.rng.uniform(0, self.skew)
        return weight

    def matrix(self, head: Ids, tail: Ids) -> csr_array:
        """The relation of these pairs, without self loops."""
        other = head != tail
        ones = np.ones(int(other.sum()), dtype=bool)
        return csr_array((ones, (head[other], tail[other])), shape=(self.n, self.n))

    def stays(self) -> bool:
        """Whether a relation that is drawn now stays within parts."""
        return bool(self.part.any()) and self.chance(self.separate)

    def nearby(self, head: Ids, tail: Ids) -> tuple[Ids, Ids]:
        """Heads, and for each an entity of its part with the type of its tail.

        Equal tails stay equal within a part. Pairs go where the part has no entity of this type.
        """
        group = self.part * (self.type.max() + 1)
        order = np.argsort(group + self.type, kind="stable")
        wanted = group[head] + self.type[tail]
        low, high = (
            np.searchsorted((group + self.type)[order], wanted, side) for side in ("left", "right")
        )
        found = low < high
        low, high, head, tail = low[found], high[found], head[found], tail[found]
        return head, order[low + self.rank[tail] % (high - low)]

    def in_parts(self, relation: csr_array) -> csr_array:
        """The relation with its pairs moved into parts, with a probability of `separate`.

        The end with fewer entities moves, so that a functional relation stays functional.
        """
        if not self.stays():
            return relation
        head, tail = relation.nonzero()
        if len(np.unique(head)) < len(np.unique(tail)):
            return self.matrix(*self.nearby(tail, head)).T.tocsr()
        return self.matrix(*self.nearby(head, tail))

    def some(self, relation: csr_array, share: float) -> csr_array:
        """The relation with each pair kept with a probability of `share`."""
        head, tail = relation.nonzero()
        kept = self.rng.random(len(head)) < share
        return self.matrix(head[kept], tail[kept])


@dataclass(frozen=True)
class _Mixture:
    """The probabilities of a graph's kinds of relations, in the order of the tables below.

    Attributes:
        rules: the probability that a relation follows from earlier ones.
        drawn: the probability of each entry of `_DRAWN`.
        closed: the probability of each entry of `_CLOSURES`.
        derived: the probability of each entry of `_RULES`.
    """

    rules: float
    drawn: NDArray[np.float64]
    closed: NDArray[np.float64]
    derived: NDArray[np.float64]

    @classmethod
    def draw(cls, rng: np.random.Generator) -> _Mixture:
        """Draw the probabilities of a graph."""
        weights = (rng.dirichlet(np.full(len(kinds), 0.4)) for kinds in (_DRAWN, _CLOSURES, _RULES))
        return cls(rng.uniform(0, 0.9), *weights)


def _relation(world: _World, mixture: _Mixture, relations: list[csr_array], size: int) -> csr_array:
    """A new relation of about `size` pairs at most.

    A rule holds for a share of its conclusions, its confidence. Half of the relations that follow
    by a rule have facts of their own as well, 5 to 50 % of them: the rule's heads and tails in new
    pairs.
    """
    rng, confidence = world.rng, world.confidence()
    if relations and world.chance(mixture.rules):
        rule = _RULES[rng.choice(len(_RULES), p=mixture.derived)]
        implied = rule(world, relations, size)
        own = rng.uniform(0.05, 0.5) if world.chance(0.5) else 0.0
        found = _limited(world, world.some(implied, confidence), int(size * (1 - own)))
        if own:
            found = found + _rewired(world, [found], int(found.nnz * own / (1 - own)))
    else:
        closure = _CLOSURES[rng.choice(len(_CLOSURES), p=mixture.closed)]
        same = closure in (_symmetric, _transitive)
        draw = _DRAWN[rng.choice(len(_DRAWN), p=mixture.drawn)]
        heads = world.domain()
        tails = heads if same or world.chance(0.25) else world.domain()
        first = draw(world, heads, tails, size // 2 if closure else size)
        first = first if draw is _tree else world.in_parts(first)  # a tree is made in parts
        added = closure(world, first, relations) if closure else first
        room = max(size - first.nnz, _FEWEST)
        found = first + _limited(world, world.some(added, confidence), room)
    if found.nnz < _FEWEST:  # facts without any regularity
        found = found + world.matrix(*rng.integers(world.n, size=(2, 2 * _FEWEST)))
    return found


# Relations that are drawn anew: from heads, tails and a number of pairs.


def _linked(world: _World, heads: Ids, tails: Ids, size: int) -> csr_array:
    """Pairs with Zipf ends and preferred pairs of clusters.

    Functional relations give each head one tail (N-1), each tail one head (1-N), or both (1-1);
    half of the others have a pair for each head. A cluster of heads prefers one to three clusters
    of tails, or itself; a share of 0 to 1 of the pairs follows the preference.
    """
    rng = world.rng
    inverted = world.chance(0.5)
    if inverted:
        heads, tails = tails, heads
    functional = size <= 1.5 * len(heads) and world.chance(world.functional)
    head = rng.permutation(heads)[:size]
    if not functional:
        weight = world.popularity(heads)
        more = rng.choice(heads, 2 * size, p=weight / weight.sum())
        head = np.concatenate([head, more])[: 2 * size] if world.chance(0.5) else more
    tail = _preferred_tails(world, head, tails, world.facet(), rng.beta(1, 0.4))
    if functional and world.chance(0.25):
        tail, first = np.unique(tail, return_index=True)
        head = head[first]
    found = _limited(world, world.matrix(head, tail), size, by_head=False)
    return found.T.tocsr() if inverted else found


def _attribute(world: _World, heads: Ids, tails: Ids, size: int) -> csr_array:
    """Many heads with one of few values, or with two or more, such as a country or genres.

    The 2 to 40 values fall into groups of about two, and a cluster of heads prefers some groups.
    """
    rng = world.rng
    values = rng.permutation(tails)[: _log_uniform(rng, 2, 40)]
    group = np.zeros(world.n, dtype=np.int64)
    group[values] = rng.integers(len(values) // 2 + 1, size=len(values))
    per_head = 1 if world.chance(world.functional) else int(rng.integers(2, 5))
    per_head = max(per_head, size // len(heads))
    head = np.repeat(rng.permutation(heads)[: max(size // per_head, 1)], per_head)
    tail = _preferred_tails(world, head, values, group, rng.beta(1, 0.4))
    return _limited(world, world.matrix(head, tail), size)


def _preferred_tails(world: _World, head: Ids, tails: Ids, group: Ids, strength: float) -> Ids:
    """A tail for each head, by popularity, with a probability of `strength` in a preferred group.

    Args:
        world: the entities.
        head: `(m,)`.
        tails: the candidates.
        group: `(n,)`, the group of each candidate.
        strength: 0 to 1.
    """
    rng, cluster = world.rng, world.facet()
    tails = tails[np.argsort(group[tails], kind="stable")]
    group = group[tails]
    width = int(rng.integers(1, 4))
    preferred = rng.choice(group, (int(cluster.max()) + 1, width))
    if world.chance(0.3):
        preferred[:, 0] = np.arange(len(preferred))  # without effect where tails lack this cluster
    wanted = preferred[cluster[head], rng.integers(width, size=len(head))]
    low, high = np.searchsorted(group, wanted), np.searchsorted(group, wanted, side="right")
    free = (rng.random(len(head)) >= strength) | (low == high)
    low, high = np.where(free, 0, low), np.where(free, len(tails), high)
    until = np.concatenate([[0], world.popularity(tails).cumsum()])
    mass = until[low] + rng.random(len(head)) * (until[high] - until[low])
    return tails[np.clip(np.searchsorted(until, mass, side="right") - 1, low, high - 1)]


def _tasted(world: _World, heads: Ids, tails: Ids, size: int) -> csr_array:
    """Tails that suit the tastes of heads, as a person's languages, genres and occupations do.

    Head h has tail t in proportion to the popularity of t and to exp(β ⟨z_h ∗ a, z_t⟩), where z are
    the latent tastes of entities and a says which of them this relation follows. Of many entities,
    it takes 1,000 heads and 500 tails.
    """
    rng, taste = world.rng, world.taste
    heads, tails = rng.permutation(heads)[:1000], rng.permutation(tails)[:500]
    weight = world.popularity(heads)
    head = rng.choice(len(heads), size, p=weight / weight.sum())
    follows = rng.normal(size=taste.shape[1]) * (rng.random(taste.shape[1]) < 0.5)
    liking = (taste[heads] * follows * rng.uniform(0.5, 3)) @ taste[tails].T
    mass = np.exp(liking - liking.max(axis=1, keepdims=True)) * world.popularity(tails)
    until = mass.cumsum(axis=1)
    drawn = rng.random(size) * until[head, -1]
    tail = np.array([np.searchsorted(until[h], x) for h, x in zip(head, drawn, strict=True)], int)
    return world.matrix(heads[head], tails[np.minimum(tail, len(tails) - 1)])


def _blocks(world: _World, heads: Ids, tails: Ids, size: int) -> csr_array:
    """All pairs of some clusters of heads with some clusters of tails, a share of them true."""
    rng, of_head, of_tail = world.rng, world.facet(), world.facet()
    density = world.confidence()
    heads, tails = (rng.permutation(ids)[: 4 * int(size**0.5) + 8] for ids in (heads, tails))
    rows, row_count = np.unique(of_head[heads], return_counts=True)
    columns, column_count = np.unique(of_tail[tails], return_counts=True)
    order = rng.permutation(len(rows) * len(columns))
    area = (row_count[:, None] * column_count).reshape(-1)[order]
    order = order[: max(1, int((area.cumsum() * density <= size).sum()))]
    chosen = np.zeros((len(rows), len(columns)), dtype=bool)
    chosen.reshape(-1)[order] = True
    of_row = np.searchsorted(rows, of_head[heads])
    of_column = np.searchsorted(columns, of_tail[tails])
    head, tail = np.nonzero(chosen[of_row[:, None], of_column])
    kept = rng.random(len(head)) < density
    return _limited(world, world.matrix(heads[head[kept]], tails[tail[kept]]), size)


def _tree(world: _World, heads: Ids, _: Ids, size: int) -> csr_array:
    """Each entity but the root with its parent: an even tree, or a random one, deep to flat.

    With parts, each part has a tree, with a probability of `separate`.
    """
    nodes = world.rng.permutation(heads)[: size + 1]
    root = np.zeros(len(nodes), dtype=np.int64)  # the place of each node's root
    if world.stays():
        nodes = nodes[np.argsort(world.part[nodes], kind="stable")]
        root = np.searchsorted(world.part[nodes], world.part[nodes])
    child = np.arange(len(nodes)) - root
    if world.chance(0.3):
        parent = (child - 1) // _log_uniform(world.rng, 2, 20)
    else:
        parent = (
            child * world.rng.random(len(child)) ** world.rng.uniform(0.3, 0.3 + 3 * world.skew)
        ).astype(int)
    below = child > 0
    found = world.matrix(nodes[below], nodes[(root + parent)[below]])
    return found.T.tocsr() if world.chance(0.3) else found


_DRAWN: tuple[Callable[[_World, Ids, Ids, int], csr_array], ...] = (
    _linked, _linked, _attribute, _blocks, _tree, _tasted,
)  # fmt: skip


# What a drawn relation may imply for itself, before the confidence.


def _symmetric(_: _World, relation: csr_array, __: list[csr_array]) -> csr_array:
    """x r y → y r x."""
    return relation.T.tocsr()


def _transitive(world: _World, relation: csr_array, _: list[csr_array]) -> csr_array:
    """x r y, y r z → x r z, over up to four steps: ancestors from parents."""
    near = relation + _product(world, relation, relation, relation.nnz)
    return _product(world, near, near, relation.nnz)


def _inherited(world: _World, relation: csr_array, relations: list[csr_array]) -> csr_array:
    """x s y, y r z → x r z, as a kind has what its superior has."""
    return _composed(world, relations, relation.nnz, relation) if relations else relation


_CLOSURES: tuple[Callable[[_World, csr_array, list[csr_array]], csr_array] | None, ...] = (
    None, None, None, None, _symmetric, _transitive, _inherited,
)  # fmt: skip


# Relations that follow from earlier ones: what the rule implies, before its confidence.


def _copied(world: _World, relations: list[csr_array], _: int) -> csr_array:
    """x a y → x s y: a subrelation, or equivalence and near-duplicates at high confidence."""
    return _one(world, relations)


def _inverse(world: _World, relations: list[csr_array], _: int) -> csr_array:
    """x a y → y s x."""
    return _one(world, relations).T.tocsr()


def _union(world: _World, relations: list[csr_array], _: int) -> csr_array:
    """x a y or x b y → x s y."""
    return _one(world, relations) + _one(world, relations)


def _intersection(world: _World, relations: list[csr_array], size: int) -> csr_array:
    """x a y, x b y → x s y, where b may be a composition of two steps.

    Of several draws of a, it takes the one that has most pairs in common with b.
    """
    b = _composed(world, relations, size) if world.chance(0.5) else _one(world, relations)
    tried = [_one(world, relations) * b for _ in range(6)]
    return max(tried, key=lambda each: int(each.nnz) * (each.nnz < b.nnz))


def _composition(world: _World, relations: list[csr_array], size: int) -> csr_array:
    """x a z, z b y → x s y, where steps may be inverted."""
    return _composed(world, relations, size)


def _chain(world: _World, relations: list[csr_array], size: int) -> csr_array:
    """x a z, z b w, w c y → x s y, where steps may be inverted."""
    return _composed(world, relations, size, _composed(world, relations, size))


def _same_tail(world: _World, relations: list[csr_array], size: int) -> csr_array:
    """x a z, y a z → x s y, or the same with heads: co-occurrence, siblings."""
    steps = [_step(world, relations) for _ in range(4)]
    step = min(steps, key=lambda each: _miss(each, each.T, size))
    return _product(world, step, step.T.tocsr(), size)


def _rewired(world: _World, relations: list[csr_array], size: int) -> csr_array:
    """No rule: the heads and tails of a relation, as often as there, in new pairs."""
    head, tail = _one(world, relations).nonzero()
    if not len(head):
        return world.matrix(head, tail)
    rows = world.rng.integers(len(head), size=(2, size))
    return world.in_parts(world.matrix(head[rows[0]], tail[rows[1]]))


_RULES: tuple[Callable[[_World, list[csr_array], int], csr_array], ...] = (
    _copied, _inverse, _union, _intersection, _composition, _composition, _chain, _same_tail,
    _rewired,
)  # fmt: skip


def _one(world: _World, relations: list[csr_array]) -> csr_array:
    """A random relation."""
    return relations[world.rng.integers(len(relations))]


def _step(world: _World, relations: list[csr_array]) -> csr_array:
    """A random relation, inverted with a probability of 0.4."""
    relation = _one(world, relations)
    return relation.T.tocsr() if world.chance(0.4) else relation


def _composed(
    world: _World, relations: list[csr_array], size: int, last: csr_array | None = None
) -> csr_array:
    """The composition of a random step with `last`, or of two random steps.

    Of several draws it takes the one whose number of paths is nearest to `size`.
    """
    tried = [
        (_step(world, relations), _step(world, relations) if last is None else last)
        for _ in range(6)
    ]
    return _product(world, *min(tried, key=lambda steps: _miss(steps[0], steps[1], size)), size)


def _paths(a: csr_array, b: csr_array) -> int:
    """The number of paths by `a`, then `b`."""
    return int(a.sum(axis=0, dtype=np.int64) @ b.sum(axis=1, dtype=np.int64))


def _miss(a: csr_array, b: csr_array, size: int) -> float:
    """How far the number of paths is from `size`, as a ratio's logarithm."""
    return abs(np.log((_paths(a, b) + 1) / (size + 1)))


def _product(world: _World, a: csr_array, b: csr_array, size: int) -> csr_array:
    """The pairs that `a`, then `b` join; for a random share of heads if paths exceed 50 · size."""
    share = 50 * size / max(_paths(a, b), 1)
    if share < 1:
        head, tail = a.nonzero()
        kept = (world.rng.random(world.n) < share)[head]
        a = world.matrix(head[kept], tail[kept])
    return world.matrix(*(a @ b).nonzero())


def _limited(world: _World, relation: csr_array, size: int, *, by_head: bool = True) -> csr_array:
    """At most `size` pairs of a relation.

    Args:
        world: the entities.
        relation: the relation.
        size: at least 1.
        by_head: keep all pairs of random heads, or of random tails, so that a rule still holds
            there. Otherwise keep random pairs.
    """
    head, tail = relation.nonzero()
    if len(head) <= size:
        return relation
    order = world.rng.permutation(len(head))
    end = head if world.chance(0.7) else tail
    if by_head and len(np.unique(end)) * size > 10 * len(end):  # else few of them would remain
        order = order[np.argsort(world.rng.permutation(world.n)[end[order]], kind="stable")]
    return world.matrix(head[order[:size]], tail[order[:size]])


def _observed(world: _World, relations: list[csr_array], dropped: NDArray[np.float64]) -> Ids:
    """`(m, 3)`, the triples that remain, with ids and rows in random order.

    Each relation loses its share of `dropped`, but keeps one triple at least. With a probability of
    0.5, up to 5 % random triples are added. Entities without a triple get one each, up to 30 % of
    all; the others go, as long as `FEWEST_ENTITIES` remain.
    """
    rng, n = world.rng, world.n
    parts = [np.stack([*relation.nonzero()]) for relation in relations]
    size = np.array([part.shape[1] for part in parts])
    relation = np.repeat(np.arange(len(relations)), size)
    head, tail = np.concatenate(parts, axis=1)
    kept = rng.random(len(head)) >= dropped[relation]
    most = int(0.95 * MOST_TRIPLES - 0.4 * n)  # leaves room for what is added
    kept[rng.permutation(len(head))[most:]] = False
    kept[size.cumsum() - 1] = True
    triples = np.stack([head, relation, tail], axis=1)[kept].astype(np.int64)
    if world.chance(0.5) and not world.stays():
        count = int(rng.uniform(0, 0.05) * len(triples))
        noise = triples[rng.integers(len(triples), size=count)]
        noise[:, ::2] = rng.integers(n, size=(count, 2))
        triples = np.concatenate([triples, noise[noise[:, 0] != noise[:, 2]]])
    alone = rng.permutation(np.setdiff1d(np.arange(n), triples[:, ::2]))
    alone = alone[: max(int(0.3 * n), FEWEST_ENTITIES - n + len(alone))]
    triples = np.concatenate([triples, _attached(world, triples, alone)])
    triples = np.unique(triples, axis=0)
    entities, ids = np.unique(triples[:, ::2], return_inverse=True)
    triples[:, ::2] = rng.permutation(len(entities))[ids].reshape(-1, 2)
    triples[:, 1] = rng.permutation(len(relations))[triples[:, 1]]
    return rng.permutation(triples)


def _attached(world: _World, triples: Ids, alone: Ids) -> Ids:
    """`(m, 3)`, a triple for each entity of `alone`.

    It takes the place of an entity of its part and cluster in a random triple; if these have no
    triple, the place of one of a cluster near by, most likely of its part and type.
    """
    both = np.concatenate([triples, triples])
    at_head = np.repeat([True, False], len(triples))
    cluster = world.facet()
    cluster = world.part * (cluster.max() + 1) + cluster
    of_end = cluster[np.where(at_head, both[:, 0], both[:, 2])]
    order = world.rng.permutation(len(both))
    order = order[np.argsort(of_end[order], kind="stable")]
    low, high = (np.searchsorted(of_end[order], cluster[alone], side) for side in ("left", "right"))
    near = low == high
    low = np.where(near, np.maximum(low - 20, 0), low)
    high = np.where(near, np.minimum(high + 20, len(order)), high)
    row = order[world.rng.integers(low, high)]
    found = both[row]
    found[np.arange(len(row)), np.where(at_head[row], 0, 2)] = alone
    return found


def _log_uniform(rng: np.random.Generator, low: float, high: float) -> int:
    """A whole number from `low` to `high` whose logarithm is uniform."""
    return round(float(np.exp(rng.uniform(np.log(low), np.log(high)))))
