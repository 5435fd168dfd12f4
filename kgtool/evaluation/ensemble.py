"""Ensembles: the weighted sum of the scores of two models that were trained apart.

    score(h, r, t) = score_1(h, r, t) + λ · score_2(h, r, t)

λ is fitted on valid. `--ensemble` adds whole runs, with one λ for all relations. The parts of a
model, see `kgtool.models.combined`, may have a λ for each relation.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from kgtool.data.answer_index import AnswerIndex
from kgtool.data.dataset import KGDataset, with_inverses
from kgtool.evaluation.evaluator import Evaluation, evaluation_of
from kgtool.evaluation.ranking import Ranking, Ranks, rank_scores
from kgtool.models.scorers import ScoresTails, SumScorer, as_scorer

WEIGHTS = (0.0, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.7, 1.0)
# The parts of a model: embeddings may be the better part of some relations.
PART_WEIGHTS = (*WEIGHTS, 1.5, 2.0, 3.0, 5.0)
# A relation's MRR by weight is averaged with that of all relations, which counts as this many of
# its queries. Cross-validation chooses; infinity gives all relations one weight.
PRIORS = (float("inf"), 200.0, 50.0, 20.0)
FOLDS = 5


@dataclass(frozen=True, eq=False)
class Ensemble(SumScorer):
    """The sum of two runs' scores, with one weight.

    Attributes:
        weight: λ.
        mrr: weight → MRR on valid: filtered, both sides, realistic ties.
    """

    weight: float
    mrr: dict[float, float]


def fit_ensemble(
    first: ScoresTails, second: ScoresTails, dataset: KGDataset, progress: bool = False
) -> Ensemble:
    """Choose the weight with the best filtered MRR on valid; with ties, the smallest.

    Raises:
        ValueError: if valid has no triples.
    """
    rankings = _rankings(first, second, dataset, WEIGHTS, progress=progress)
    mrr = {
        weight: float((1 / ranking.filtered.realistic).mean())
        for weight, ranking in zip(WEIGHTS, rankings, strict=True)
    }
    weight = max(mrr, key=lambda weight: mrr[weight])
    return Ensemble(as_scorer(first), as_scorer(second), weight, mrr)


@dataclass(frozen=True, eq=False)
class Mixed:
    """The weights of a sum, fitted on valid.

    Attributes:
        weight: `(2 · num_relations,)` float, λ by relation id.
        prior: the one of `PRIORS` that cross-validation chose.
        evaluation: the metrics of the sum on valid.
    """

    weight: Tensor
    prior: float
    evaluation: Evaluation


def fit_mixture(first: ScoresTails, second: ScoresTails, dataset: KGDataset) -> Mixed:
    """Choose a weight of `second` for each relation id, by the filtered MRR on valid.

    All weights of `PART_WEIGHTS` rank valid at once. The weight of a relation has the best mean of
    two MRRs: over the relation's queries, and, as often as `prior` says, over all queries.
    Cross-validation over `FOLDS` parts of valid chooses the prior; so relations get weights of
    their own only if these are better on triples that did not choose them.

    Raises:
        ValueError: if valid has no triples.
    """
    rankings = _rankings(first, second, dataset, PART_WEIGHTS)
    queries = with_inverses(dataset.valid, dataset.num_relations)
    relation, count = queries[:, 1], 2 * dataset.num_relations
    mrr = torch.stack([1 / ranking.filtered.realistic for ranking in rankings], dim=1)
    # A triple and its inverse are in one fold: their ranks depend on each other.
    fold = torch.arange(len(dataset.valid)).repeat(2) % FOLDS
    held_out = dict.fromkeys(PRIORS, 0.0)
    for i in range(min(FOLDS, len(dataset.valid)) if len(dataset.valid) > 1 else 0):
        others, own = fold != i, fold == i
        for prior in PRIORS:
            best = _best(mrr[others], relation[others], count, prior)
            held_out[prior] += float(mrr[own].gather(1, best[relation[own]].unsqueeze(1)).sum())
    prior = max(PRIORS, key=lambda prior: held_out[prior])
    best = _best(mrr, relation, count, prior)
    ranking = _chosen(rankings, best[relation])
    return Mixed(
        torch.tensor(PART_WEIGHTS)[best], prior, evaluation_of(ranking, queries, dataset, "valid")
    )


def _best(mrr: Tensor, relation: Tensor, count: int, prior: float) -> Tensor:
    """`(count,)` int64: the position of each relation's weight.

    Args:
        mrr: `(q, w)` float64, the reciprocal rank of each query by each weight.
        relation: `(q,)` int64, the queries' relation ids, below `count`.
        prior: see `PRIORS`.
    """
    mean = mrr.mean(0)
    if prior == float("inf"):
        return mean.argmax().repeat(count)
    sums = torch.zeros(count, mrr.shape[1], dtype=mrr.dtype).index_add_(0, relation, mrr)
    return (sums + prior * mean).argmax(1)


def _chosen(rankings: Sequence[Ranking], choice: Tensor) -> Ranking:
    """The ranking that each query `(n,)` chooses by its position among `rankings`."""

    def pick(parts: Sequence[Tensor]) -> Tensor:
        return torch.stack(list(parts)).gather(0, choice.unsqueeze(0)).squeeze(0)

    def ranks(parts: Sequence[Ranks]) -> Ranks:
        return Ranks(
            pick([part.better for part in parts]),
            pick([part.equal for part in parts]),
            pick([part.candidates for part in parts]),
        )

    return Ranking(
        ranks([ranking.filtered for ranking in rankings]),
        ranks([ranking.raw for ranking in rankings]),
        pick([ranking.score for ranking in rankings]),
    )


def _rankings(
    first: ScoresTails,
    second: ScoresTails,
    dataset: KGDataset,
    weights: Sequence[float],
    *,
    progress: bool = False,
) -> list[Ranking]:
    """The rankings of valid, both sides, by the sum with each weight."""
    if not len(dataset.valid):
        raise ValueError("the valid split holds no triples")
    num_relations = dataset.num_relations
    queries = with_inverses(dataset.valid, num_relations)
    triples = with_inverses(torch.cat([dataset.train, dataset.valid]), num_relations)

    def sums(scores: Sequence[Tensor]) -> Iterator[Tensor]:
        one, other = scores
        return (one + weight * other for weight in weights)

    return rank_scores(
        [first, second], sums, queries, AnswerIndex(triples, 2 * num_relations),
        dataset.num_entities, progress="weights on valid" if progress else None,
    )  # fmt: skip
