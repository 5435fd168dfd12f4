"""Relation prediction `(h, ?, t)` with a model that scores triples.

A model is trained to compare the tails of one query, not the relations of a pair. The frequency of
a relation at the head or at the tail is informative as well. Bayes' rule from either end,

    P(r | h, t) ∝ P(t | h, r) P(r | h),    P(r | h, t) ∝ P(h | t, r⁻¹) P(r⁻¹ | t),

motivates a conditional logit (McFadden 1974) whose weights are fitted on valid:

    P(r | h, t) = softmax_r(⟨w, x(h, r, t)⟩ + b_r),
    x = [score(h, r, t), score(t, r⁻¹, h), log n(h, r), log n(r, t), log n(r)],

with n counted on train. Each of several models adds two scores. Without valid triples the weights
are 1 for scores and 0 for counts, and b is 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor

from kgtool.data.answer_index import AnswerIndex
from kgtool.data.dataset import KGDataset, Vocabulary
from kgtool.data.statistics import PairCounts
from kgtool.evaluation.metrics import HITS, Metrics, metrics_of
from kgtool.evaluation.ranking import Ranking, not_finite, rank_tails
from kgtool.models.scorers import ScoresTails

COUNTS = ("count with head", "count with tail", "count")
# A pseudo-count: an unseen pair is unlikely, not impossible.
PRIOR = 0.5
# The weight of the squared norm in the fit. Without it, perfectly separable relations would have no
# finite optimum, and the bias of rare relations would be arbitrary.
PENALTY = 1e-3
# Bytes of scores per chunk of pairs; an all-paths model makes one pass per entity of a chunk.
CHUNK_BYTES = 64 * 2**20


class ScoresRelations(Protocol):
    """An object that scores the relations between pairs."""

    def score_r(self, ht: Tensor, relation: Tensor) -> Tensor:
        """`(n, k)` scores of each relation `(k,)` int64 between pairs `(n, 2)` int64."""
        ...


@dataclass(frozen=True, eq=False)
class RelationModel:
    """The conditional logit over relations.

    Attributes:
        models: score triples; empty for a model of the counts only.
        weights: `(2 · models + 3,)` float, for the scores from head and from tail of each model,
            then for `COUNTS`.
        bias: `(R,)` float.
        with_head, with_tail: the relations of each entity as head, and as tail, in train.
        count: `(R,)` int64, number of train triples of each relation.
    """

    models: Sequence[ScoresRelations]
    weights: Tensor
    bias: Tensor
    with_head: PairCounts
    with_tail: PairCounts
    count: Tensor

    def features(self, pairs: Tensor) -> Tensor:
        """`(n, R, 2 · models + 3)` float features of pairs `(n, 2)` int64.

        Raises:
            ScoreError: if a score is NaN or infinite, naming the pair.
        """
        head, tail = pairs.unbind(1)
        alone = self.count.float().expand(len(pairs), -1)
        counts = torch.stack([self.with_head.rows(head), self.with_tail.rows(tail), alone], dim=2)
        relation = torch.arange(len(self.count))
        scores = [
            model.score_r(ends, direction).float().unsqueeze(2)
            for model in self.models
            for ends, direction in ((pairs, relation), (pairs.flip(1), relation + len(relation)))
        ]
        features = torch.cat([*scores, (counts + PRIOR).log()], dim=2)
        finite = features.isfinite().flatten(1).all(1)
        if not bool(finite.all()):
            h, t = pairs[~finite][0].tolist()
            raise not_finite(f"the pair (head {h}, ?, tail {t})")
        return features

    def score_t(self, pairs: Tensor) -> Tensor:
        """`(n, R)` float scores of every relation; their softmax is `P(r | h, t)`."""
        return self.features(pairs) @ self.weights + self.bias


def count_relations(models: Sequence[ScoresRelations], dataset: KGDataset) -> RelationModel:
    """The model before the fit: counts from train, weights 1 for scores and 0 for counts.

    Args:
        models: score triples; empty for a model of the counts only.
        dataset: the data; only train is used.
    """
    n, num_relations = dataset.num_entities, dataset.num_relations
    head, relation, tail = dataset.train.unbind(1)
    with_head, with_tail = (
        PairCounts.of(entity, relation, n, num_relations) for entity in (head, tail)
    )
    count = torch.bincount(relation, minlength=num_relations)
    weights = torch.tensor([1.0] * 2 * len(models) + [0.0] * len(COUNTS))
    return RelationModel(models, weights, torch.zeros(num_relations), with_head, with_tail, count)


def fit_relations(models: Sequence[ScoresRelations], dataset: KGDataset) -> RelationModel:
    """Count on train, then fit the weights on valid by maximum likelihood.

    Other known relations of a pair are not candidates.

    Args:
        models: score triples; empty for a model of the counts only.
        dataset: the data; train and valid are used.
    """
    unfitted = count_relations(models, dataset)
    if not len(dataset.valid):
        return unfitted
    filtered = _known_relations(dataset, "valid").others(dataset.valid[:, [0, 2, 1]])
    features = unfitted.features(dataset.valid[:, [0, 2]])
    weights, bias = _fit(features, dataset.valid[:, 1], filtered)
    return replace(unfitted, weights=weights, bias=bias)


def _fit(
    features: Tensor, relation: Tensor, filtered: tuple[Tensor, Tensor]
) -> tuple[Tensor, Tensor]:
    """The weights `(k,)` and biases `(R,)` of maximum likelihood.

    Args:
        features: `(n, R, k)`.
        relation: `(n,)` int64.
        filtered: rows and relations that are not candidates.
    """
    # Scaled by the standard deviation of these values, for the optimiser. One value has none, and
    # that of equal values is a rounding error: such a feature has no effect, and is not scaled.
    spread, mean = torch.std_mean(features, dim=(0, 1), correction=0)
    spread = torch.where(spread > 1e-6 * (1 + mean.abs()), spread, 1.0)
    scaled = features / spread
    weights = torch.zeros(features.shape[2], requires_grad=True)
    bias = torch.zeros(features.shape[1], requires_grad=True)
    search = torch.optim.LBFGS([weights, bias], max_iter=100, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        search.zero_grad()
        scores = (scaled @ weights + bias).index_put(filtered, torch.tensor(-torch.inf))
        size = weights.square().sum() + bias.square().sum()
        value = F.cross_entropy(scores, relation) + PENALTY * size
        value.backward()
        return value

    with torch.enable_grad():
        search.step(loss)
    return weights.detach() / spread, bias.detach()


def _known_relations(dataset: KGDataset, split: str) -> AnswerIndex:
    """The relations of each pair; rows of triples are `(h, t, r)`."""
    return AnswerIndex(dataset.filter_triples(split)[:, [0, 2, 1]], dataset.num_entities)


@dataclass(frozen=True, eq=False)
class RelationEvaluation:
    """Ranks of a split's relations by the model, and by a baseline of the counts only.

    Attributes:
        split: the split.
        weights: those of a `RelationModel`; empty for another model.
        filtered, raw: tie policy → metric.
        counted: as `filtered`, for the baseline of the counts only, also fitted on valid.
        ranking: of the relations of `triples`.
        triples: `(n, 3)` int64.
    """

    split: str
    weights: list[float] = field(repr=False)
    filtered: dict[str, Metrics]
    raw: dict[str, Metrics] = field(repr=False)
    counted: dict[str, Metrics] = field(repr=False)
    ranking: Ranking = field(repr=False)
    triples: Tensor = field(repr=False)

    def ranks(self, vocabulary: Vocabulary) -> pd.DataFrame:
        """A row per triple: labels, and the filtered ranks and score of its relation."""
        head, relation, tail = self.triples.T.tolist()
        filtered = self.ranking.filtered
        return pd.DataFrame(
            {
                "head": [vocabulary.entities[i] for i in head],
                "relation": [vocabulary.relations[i] for i in relation],
                "tail": [vocabulary.entities[i] for i in tail],
                "rank": filtered.realistic.numpy(),
                "optimistic": filtered.optimistic.long().numpy(),
                "pessimistic": filtered.pessimistic.long().numpy(),
                "candidates": filtered.candidates.numpy(),
                "score": self.ranking.score.numpy(),
            }
        )

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {
            "split": self.split,
            "queries": len(self.triples),
            **self.filtered,
            "raw": self.raw,
            "counts alone": self.counted,
            "weights": self.weights,
        }


def evaluate_relations(
    model: ScoresTails,
    dataset: KGDataset,
    split: str = "test",
    hits: tuple[int, ...] = HITS,
    progress: bool = False,
) -> RelationEvaluation:
    """Rank the relation of every triple of a split among all relations.

    The filter is that of entity ranking: train and valid, and test too for the split test.

    Args:
        model: its `score_t` gives `(n, R)` scores of the relations of pairs `(n, 2)` int64, such as
            a `RelationModel`.
        dataset: the data.
        split: `"train"`, `"valid"` or `"test"`. A model is fitted on valid, so the metrics on valid
            are too optimistic.
        hits: the k of Hits@k.
        progress: show a progress bar.

    Raises:
        ScoreError: if a score is NaN or infinite.
        ValueError: if the split has no triples.
    """
    triples = dataset.split(split)
    if not len(triples):
        raise ValueError(f"the {split} split holds no triples")
    known = _known_relations(dataset, split)
    chunk = max(1, CHUNK_BYTES // (4 * dataset.num_relations))

    def ranked(model: ScoresTails, label: str | None = None) -> Ranking:
        pairs_first = triples[:, [0, 2, 1]]
        return rank_tails(
            model, pairs_first, known, dataset.num_relations, chunk_size=chunk, progress=label
        )

    ranking = ranked(model, f"relations of {split}" if progress else None)
    return RelationEvaluation(
        split,
        model.weights.tolist() if isinstance(model, RelationModel) else [],
        metrics_of(ranking.filtered, hits),
        metrics_of(ranking.raw, hits),
        metrics_of(ranked(fit_relations((), dataset)).filtered, hits),
        ranking,
        triples,
    )
