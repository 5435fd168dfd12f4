"""Ensembles: the weighted sum of the scores of models that were trained separately.

    score(h, r, t) = score_1(h, r, t) + λ · score_2(h, r, t)

λ is the weight with the best MRR on valid; a third model is added to the sum of two. Embeddings
that are trained inside an all-paths model hurt it, since they see the edges that are removed from
the paths. Embeddings that are trained separately cannot hurt it so.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from kgtool.data.answer_index import AnswerIndex
from kgtool.data.dataset import KGDataset, with_inverses
from kgtool.evaluation.ranking import rank_scores
from kgtool.models.scorers import BlockScores, Scorer, ScoresTails, as_scorer

WEIGHTS = (0.0, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.7, 1.0)


@dataclass(frozen=True, eq=False)
class Ensemble(Scorer):
    """The sum of two models' scores.

    Attributes:
        first, second: score the same entities under the same ids.
        weight: λ.
        mrr: weight → MRR on valid: filtered, both sides, realistic ties.
    """

    first: Scorer
    second: Scorer
    weight: float
    mrr: dict[float, float]

    def score_t(self, hr: Tensor) -> Tensor:
        """`(n, num_entities)` scores of every tail of the queries `hr` `(n, 2)` int64."""
        return self.first.score_t(hr) + self.weight * self.second.score_t(hr)

    def score_hrt(self, hrt: Tensor) -> Tensor:
        """`(n,)` float scores of triples `(n, 3)` int64."""
        return self.first.score_hrt(hrt) + self.weight * self.second.score_hrt(hrt)

    def score_r(self, ht: Tensor, relation: Tensor) -> Tensor:
        """`(n, k)` scores of pairs `(n, 2)` int64 with each relation `(k,)` int64."""
        first, second = (scorer.score_r(ht, relation) for scorer in (self.first, self.second))
        return first + self.weight * second

    @property
    def in_blocks(self) -> bool:  # type: ignore[override]
        """Whether both models score blocks of entities."""
        return self.first.in_blocks and self.second.in_blocks

    def block_scores(self, hr: Tensor) -> BlockScores:
        """Reads queries `(n, 2)` int64 once; the result scores them against a block of entities."""
        one, other = self.first.block_scores(hr), self.second.block_scores(hr)
        return lambda entities: one(entities) + self.weight * other(entities)


def fit_ensemble(
    first: ScoresTails, second: ScoresTails, dataset: KGDataset, progress: bool = False
) -> Ensemble:
    """Choose the weight with the best filtered MRR on valid; with ties, the smallest.

    Raises:
        ValueError: if valid has no triples.
    """
    if not len(dataset.valid):
        raise ValueError("the valid split holds no triples")
    num_relations = dataset.num_relations
    queries = with_inverses(dataset.valid, num_relations)
    triples = with_inverses(torch.cat([dataset.train, dataset.valid]), num_relations)

    def sums(scores: Sequence[Tensor]) -> Iterator[Tensor]:
        one, other = scores
        return (one + weight * other for weight in WEIGHTS)

    rankings = rank_scores(
        [first, second], sums, queries, AnswerIndex(triples, 2 * num_relations),
        dataset.num_entities, progress="weights on valid" if progress else None,
    )  # fmt: skip
    mrr = {
        weight: float((1 / ranking.filtered.realistic).mean())
        for weight, ranking in zip(WEIGHTS, rankings, strict=True)
    }
    return Ensemble(
        as_scorer(first), as_scorer(second), max(mrr, key=lambda weight: mrr[weight]), mrr
    )
