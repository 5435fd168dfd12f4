"""Baselines without learning, for comparison with a model.

A baseline uses the train triples only. It has `score_t`, so it is ranked like a model. Inverse
relations are treated as relations, `r⁻¹ = r + num_relations`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from kgtool.data.dataset import KGDataset, with_inverses
from kgtool.data.statistics import PairCounts, tails_of_relations
from kgtool.evaluation.evaluator import evaluate_model
from kgtool.models.scorers import ScoresTails
from kgtool.ops import CSC, in_edges, offsets_of, relational_sum

DAMPING = 0.85
STEPS = 20  # 0.85²⁰ = 0.04 of the walks have not restarted yet; 50 steps rank WN18RR the same
SPARE = 0.1  # pseudo-count of triples for every entity and relation
HEADS = 64  # heads per batch of walks
RECENCY = 0.999  # α of the recency of a triple; the rest is the weight of counting
DECAYS = (0.1, 1.0, 0.01, 0.0)  # λ, tried on valid


@dataclass(frozen=True, eq=False)
class RelationFrequency:
    """Scores a tail by its frequency as a tail of the relation in train.

    Attributes:
        counts: the tails of each relation id.
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
    """Scores a candidate by the most confident rule over an edge from the head, then by frequency.

    The confidence of the rule `r'(h, t) → r(h, t)` is the share of the pairs of r' that are pairs
    of r. Here r' is any other relation or inverse. The confidence is near 1 if r' is an inverse or
    a duplicate of r. Many test triples of FB15k and WN18 follow from such rules (Toutanova & Chen
    2015). The inverse model of Dettmers et al. 2018 requires a confidence of 0.99; this baseline
    takes the best edge, whatever its confidence.

    Attributes:
        frequency: breaks ties between candidates of equal confidence, including 0.
        offsets: `(num_entities + 1,)` int64; the edges of head h are `offsets[h]:offsets[h + 1]`.
        relation, tail: `(e,)` int64, of each edge.
        rules: `(p,)` int64, ascending: `r' · 2 · num_relations + r` for each confidence above 0.
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
        # Pairs every edge with every edge between the same two entities.
        num_pairs = int(pair.max()) + 1 if len(pair) else 0
        row, place = in_edges(offsets_of(pair[of_pair], num_pairs), pair)
        body, head_of_rule = relation[row], relation[of_pair[place]]
        rules, shared = torch.unique(
            (body * num_relation_ids + head_of_rule)[body != head_of_rule], return_counts=True
        )
        size = torch.bincount(relation, minlength=num_relation_ids)
        confidence = shared.double() / size[rules // num_relation_ids]
        return cls(
            RelationFrequency.of(dataset), offsets_of(head, n), relation, tail, rules, confidence
        )

    def score_t(self, hr: Tensor) -> Tensor:
        """`(n, num_entities)` float64.

        The order is by confidence, then by frequency, without rounding: confidences are numbered
        in ascending order, and one level outweighs every frequency.
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
    """Personalised PageRank from the head, over the train triples in both directions.

    A walk takes a random triple of an entity, and restarts at the head with probability 0.15 (Page
    et al. 1999; Haveliwala 2002). The scores come from power iteration,
    `p ← 0.15 · e_h + 0.85 · Pᵀ p`, for a batch of heads at once. They do not depend on the relation
    of the query.

    Attributes:
        edges: the triples in both directions.
        share: `(e,)` float32, 1 / number of triples of each edge's source.
    """

    edges: CSC
    share: Tensor

    @classmethod
    def of(cls, dataset: KGDataset) -> PageRank:
        """Build the walk over the train triples."""
        n, edges = dataset.num_entities, with_inverses(dataset.train, dataset.num_relations)
        head, _, tail = edges[torch.argsort(edges[:, 2], stable=True)].unbind(1)
        share = 1 / torch.bincount(head, minlength=n)[head].float()
        return cls(CSC.from_edges(head, tail, None, n, n), share)

    def walk(self, head: Tensor) -> Tensor:
        """`(n, num_entities)` float32: PageRank of each entity from heads `(n,)`; rows sum to 1."""
        restart = torch.zeros(self.edges.num_sources, len(head))
        restart[head, torch.arange(len(head))] = 1 - DAMPING
        weight, place = torch.ones(1, 1), restart / (1 - DAMPING)
        for _ in range(STEPS):
            moved = relational_sum(place, weight, self.share, self.edges)[:, 0]
            place = restart + DAMPING * moved
        return (place / place.sum(0)).t()  # mass is lost at an entity without triples

    def score_t(self, hr: Tensor) -> Tensor:
        """`(n, num_entities)` float32; the head itself scores 0, because all walks start there."""
        heads, row = torch.unique(hr[:, 0], return_inverse=True)
        scores = torch.cat([self.walk(part) for part in heads.split(HEADS)])
        scores[torch.arange(len(heads)), heads] = 0
        return scores[row]


@dataclass(frozen=True, eq=False)
class RankedFrequency:
    """PageRank combined with the relation's frequencies: `p_h(t) · (f_r(t) + 0.1) / (d(t) + 1)`.

    f is a tail's frequency in the relation, d its degree. This is Bayes' rule under the assumption
    that head and relation are independent given the tail: `P(t | h) · P(t | r) / P(t)`.

    Attributes:
        walks: p.
        frequency: f.
        degree: `(num_entities,)` float32, d.
    """

    walks: PageRank
    frequency: RelationFrequency
    degree: Tensor

    @classmethod
    def of(cls, dataset: KGDataset) -> RankedFrequency:
        """Count the train triples."""
        degree = torch.bincount(dataset.train[:, [0, 2]].flatten(), minlength=dataset.num_entities)
        return cls(PageRank.of(dataset), RelationFrequency.of(dataset), degree.float())

    def score_t(self, hr: Tensor) -> Tensor:
        """`(n, num_entities)` float32."""
        likely = (self.frequency.score_t(hr) + SPARE) / (self.degree + 1)
        return self.walks.score_t(hr) * likely


@dataclass(frozen=True, eq=False)
class RecencyCounting:
    """Scores a tail by how recently the triple held, and by how often it was a tail lately.

    After the recurrency baseline of Gastinger et al. 2024, "History Repeats Itself: A Baseline for
    Temporal Knowledge Graph Forecasting": with T the time after the last time of train,

        score(h, r, t) = α · 2^(λ (k - T)) + (1 - α) · Σ_i 2^(λ (k_i - T)) / Z_r

    where k is the last time of `(h, r, t)` in train, k_i are the times of all `(·, r, t)`, and Z_r
    is the sum over all tails of r. There, the second part counts without decay (λ = 0 here), and
    facts after train are known up to the time of the query; here they are not, as for a model.

    Attributes:
        rows: `(q,)` int64, ascending: `h · 2 · num_relations + r` of each query that train answers.
        answers: the offsets `(q + 1,)` and the tails `(m,)` int64 of their answers.
        recent: `(m,)` float64, the first part of each answer's score.
        lately: `(2 · num_relations, num_entities)` as offsets, tails and values float64: the second
            part.
        num_entities: N.
        decay: λ.
    """

    rows: Tensor
    answers: tuple[Tensor, Tensor]
    recent: Tensor
    lately: tuple[Tensor, Tensor, Tensor]
    num_entities: int
    decay: float

    @classmethod
    def of(cls, dataset: KGDataset) -> RecencyCounting:
        """The baseline with the decay that is best on valid, or `DECAYS[0]` without valid.

        Raises:
            ValueError: if the train triples have no times.
        """
        found = [cls.decaying(dataset, decay) for decay in DECAYS]
        if not len(dataset.valid):
            return found[0]
        mrr = [evaluate_model(one, dataset, "valid").mrr for one in found]
        return found[mrr.index(max(mrr))]

    @classmethod
    def decaying(cls, dataset: KGDataset, decay: float) -> RecencyCounting:
        """The baseline with a decay λ per time, 0 or more."""
        if dataset.dated is None:
            raise ValueError(f"the train triples of {dataset.name} have no times")
        n, num_relation_ids = dataset.num_entities, 2 * dataset.num_relations
        time = dataset.dated[:, 3].repeat(2).double()
        share = torch.exp2(decay * (time - (time.max() + 1)))
        head, relation, tail = with_inverses(dataset.dated[:, :3], dataset.num_relations).unbind(1)
        rows, row = torch.unique(head * num_relation_ids + relation, return_inverse=True)
        pair, where = torch.unique(row * n + tail, return_inverse=True)
        # An answer's greatest share is that of its last time.
        recent = torch.zeros(len(pair)).double().scatter_reduce(0, where, share, "amax")
        answers = offsets_of(pair // n, len(rows)), pair % n
        pair, where = torch.unique(relation * n + tail, return_inverse=True)
        count = torch.zeros(len(pair)).double().index_add_(0, where, share)
        total = torch.zeros(num_relation_ids).double().index_add_(0, relation, share)
        often = count / total[pair // n]
        lately = offsets_of(pair // n, num_relation_ids), pair % n, (1 - RECENCY) * often
        return cls(rows, answers, RECENCY * recent, lately, n, decay)

    def score_t(self, hr: Tensor) -> Tensor:
        """`(n, num_entities)` float64."""
        scores = torch.zeros(len(hr), self.num_entities).double()
        offsets, tail, value = self.lately
        position, place = in_edges(offsets, hr[:, 1])
        scores[position, tail[place]] = value[place]
        wanted = hr[:, 0] * (len(offsets) - 1) + hr[:, 1]
        row = torch.searchsorted(self.rows, wanted).clamp(max=len(self.rows) - 1)
        known = torch.nonzero(self.rows[row] == wanted).squeeze(1)
        offsets, tail = self.answers
        position, place = in_edges(offsets, row[known])
        scores[known[position], tail[place]] += self.recent[place]
        return scores


BASELINES: Mapping[str, Callable[[KGDataset], ScoresTails]] = {
    "frequency": RelationFrequency.of,
    "inverse": InverseRule.of,
    "pagerank": PageRank.of,
    "pagerank-frequency": RankedFrequency.of,
}


def baselines_of(dataset: KGDataset) -> Mapping[str, Callable[[KGDataset], ScoresTails]]:
    """The baselines for a data set, the fastest first: `recency-count` needs times."""
    if dataset.dated is None:
        return BASELINES
    return {"recency-count": RecencyCounting.of, **BASELINES}
