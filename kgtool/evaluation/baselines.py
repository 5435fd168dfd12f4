"""What is trivial: answers without learning, to set a model's numbers beside.

Each is made of the train triples alone and has `score_t`, so that it is ranked like a model.
Inverse relations count like relations, `r⁻¹ = r + num_relations`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from kgtool.data.dataset import KGDataset, with_inverses
from kgtool.data.statistics import PairCounts, tails_of_relations
from kgtool.evaluation.ranking import ScoresTails
from kgtool.ops import CSC, in_edges, offsets_of, relational_sum

DAMPING = 0.85
STEPS = 20  # 0.85²⁰ = 0.04 of the walks have not yet started again; 50 rank WN18RR the same
SPARE = 0.1  # triples that every entity is given of every relation
HEADS = 64  # walked from at a time


@dataclass(frozen=True, eq=False)
class RelationFrequency:
    """How often each entity is a tail of the relation in train, whatever the head.

    Attributes:
        counts: relation ids by tails.
    """

    counts: PairCounts

    @classmethod
    def of(cls, dataset: KGDataset) -> RelationFrequency:
        """Count the train triples."""
        return cls(tails_of_relations(dataset.train, dataset))

    def score_t(self, hr: Tensor) -> Tensor:
        """`(n, num_entities)` float32 counts."""
        return self.counts.rows(hr[:, 1])


@dataclass(frozen=True, eq=False)
class InverseRule:
    """The most trusted edge between head and candidate, then the relation's frequency.

    The confidence of `r'(h, t) → r(h, t)` is the share of the pairs of r', any relation or inverse
    but r, that are pairs of r: near 1 where r' is an inverse or a duplicate of r. Test triples of
    FB15k and WN18 follow from such rules (Toutanova & Chen 2015; the inverse model of Dettmers et
    al. 2018, which asks for 0.99; here the best edge counts, whatever its confidence).

    Attributes:
        frequency: decides among candidates of one confidence, none included.
        offsets: `(num_entities + 1,)` int64; the edges of head h are `offsets[h]:offsets[h + 1]`.
        relation, tail: `(e,)` int64, of each edge.
        rules: `(p,)` int64, ascending: `r' · 2 · num_relations + r` of each confidence above 0.
        confidence: `(p,)` float64.
    """

    frequency: RelationFrequency
    offsets: Tensor
    relation: Tensor
    tail: Tensor
    rules: Tensor
    confidence: Tensor

    @classmethod
    def of(cls, dataset: KGDataset) -> InverseRule:
        """Count the pairs of train that two relations share."""
        n, num_relation_ids = dataset.num_entities, 2 * dataset.num_relations
        edges = with_inverses(dataset.train, dataset.num_relations)
        head, relation, tail = edges[torch.argsort(edges[:, 0], stable=True)].unbind(1)
        pair = torch.unique(head * n + tail, return_inverse=True)[1]
        of_pair = torch.argsort(pair, stable=True)
        # Every edge with every edge of the same two entities.
        num_pairs = int(pair.max()) + 1 if len(pair) else 0
        row, place = in_edges(offsets_of(pair[of_pair], num_pairs), pair)
        body, said = relation[row], relation[of_pair[place]]
        rules, shared = torch.unique(
            (body * num_relation_ids + said)[body != said], return_counts=True
        )
        size = torch.bincount(relation, minlength=num_relation_ids)
        confidence = shared.double() / size[rules // num_relation_ids]
        return cls(
            RelationFrequency.of(dataset), offsets_of(head, n), relation, tail, rules, confidence
        )

    def score_t(self, hr: Tensor) -> Tensor:
        """`(n, num_entities)` float64.

        By confidence, then by frequency, exactly: confidences are numbered in order from 1, and
        the number counts more than any frequency.
        """
        scores = self.frequency.score_t(hr).double()
        if not len(self.rules):
            return scores
        row, edge = in_edges(self.offsets, hr[:, 0])
        rule = self.relation[edge] * (len(self.frequency.counts.offsets) - 1) + hr[row, 1]
        place = torch.searchsorted(self.rules, rule).clamp(max=len(self.rules) - 1)
        holds = self.rules[place] == rule
        flat = row[holds] * scores.shape[1] + self.tail[edge[holds]]
        best = torch.zeros(scores.numel(), dtype=torch.long)
        best.scatter_reduce_(0, flat, self._level[place[holds]], "amax")
        return scores + best.view_as(scores) * (int(self.frequency.counts.count.max()) + 1)

    @cached_property
    def _level(self) -> Tensor:
        """`(p,)` int64: the number of each confidence."""
        return torch.unique(self.confidence, return_inverse=True)[1] + 1


@dataclass(frozen=True, eq=False)
class PageRank:
    """Personalised PageRank from the head, over the train triples walked either way.

    A walk takes one of an entity's triples at random, and with probability 0.15 starts at the head
    again (Page et al. 1999; Haveliwala 2002): power iteration, `p ← 0.15 · e_h + 0.85 · Pᵀ p`, for
    a batch of heads at once. The relation asked for plays no part.

    Attributes:
        edges: both ways of each triple.
        share: `(e,)` float32, one over the triples of each edge's source.
    """

    edges: CSC
    share: Tensor

    @classmethod
    def of(cls, dataset: KGDataset) -> PageRank:
        """Walk on the train triples."""
        n, edges = dataset.num_entities, with_inverses(dataset.train, dataset.num_relations)
        head, _, tail = edges[torch.argsort(edges[:, 2], stable=True)].unbind(1)
        share = 1 / torch.bincount(head, minlength=n)[head].float()
        return cls(CSC.from_edges(head, tail, None, n, n), share)

    def walk(self, head: Tensor) -> Tensor:
        """`(n, num_entities)` float32: where walks from heads `(n,)` are, rows adding up to 1."""
        restart = torch.zeros(self.edges.num_sources, len(head))
        restart[head, torch.arange(len(head))] = 1 - DAMPING
        weight, place = torch.ones(1, 1), restart / (1 - DAMPING)
        for _ in range(STEPS):
            moved = relational_sum(place, weight, self.share, self.edges)[:, 0]
            place = restart + DAMPING * moved
        return (place / place.sum(0)).t()  # from an entity without triples nothing moves

    def score_t(self, hr: Tensor) -> Tensor:
        """`(n, num_entities)` float32; a head's own is 0: that walks start there tells nothing."""
        heads, row = torch.unique(hr[:, 0], return_inverse=True)
        scores = torch.cat([self.walk(part) for part in heads.split(HEADS)])
        scores[torch.arange(len(heads)), heads] = 0
        return scores[row]


@dataclass(frozen=True, eq=False)
class RankedFrequency:
    """PageRank that knows the relation: `p_h(t) · (f_r(t) + 0.1) / (d(t) + 1)`.

    With f a tail's frequency in the relation and d its triples in all: Bayes' rule, were head and
    relation to tell of the tail independently, `P(t | h) · P(t | r) / P(t)`.

    Attributes:
        walks: gives p.
        frequency: gives f.
        degree: `(num_entities,)` float32, d.
    """

    walks: PageRank
    frequency: RelationFrequency
    degree: Tensor

    @classmethod
    def of(cls, dataset: KGDataset) -> RankedFrequency:
        """Of both."""
        degree = torch.bincount(dataset.train[:, [0, 2]].flatten(), minlength=dataset.num_entities)
        return cls(PageRank.of(dataset), RelationFrequency.of(dataset), degree.float())

    def score_t(self, hr: Tensor) -> Tensor:
        """`(n, num_entities)` float32."""
        likely = (self.frequency.score_t(hr) + SPARE) / (self.degree + 1)
        return self.walks.score_t(hr) * likely


BASELINES: Mapping[str, Callable[[KGDataset], ScoresTails]] = {
    "frequency": RelationFrequency.of,
    "inverse": InverseRule.of,
    "pagerank": PageRank.of,
    "pagerank-frequency": RankedFrequency.of,
}
