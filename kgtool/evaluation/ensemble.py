"""Ensembles: the weighted sum of the scores of models that were trained separately.

    score(h, r, t) = score_1(h, r, t) + λ · score_2(h, r, t)

λ is the weight with the best MRR on valid; a third model is added to the sum of two. Embeddings
that are trained inside an all-paths model hurt it, since they see the edges that are removed from
the paths. Embeddings that are trained separately cannot hurt it so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from kgtool.data.answer_index import AnswerIndex
from kgtool.data.dataset import KGDataset, with_inverses
from kgtool.evaluation.ranking import AskBlocks, ScoresTails, blocks_of, rank_scores

WEIGHTS = (0.0, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.7, 1.0)


@dataclass(frozen=True, eq=False)
class Ensemble:
    """The sum of two models' scores.

    Attributes:
        first, second: score the same entities under the same ids.
        weight: λ.
        mrr: the MRR on valid for each weight tried: filtered, both sides, realistic.
    """

    first: ScoresTails
    second: ScoresTails
    weight: float
    mrr: dict[float, float]

    def score_t(self, hr: Tensor) -> Tensor:
        """`(n, num_entities)` scores of every tail of the queries `hr` `(n, 2)` int64."""
        return self.first.score_t(hr) + self.weight * self.second.score_t(hr)

    @property
    def block_scores(self) -> AskBlocks | None:
        """As of `ScoresBlocks`, where both models have it."""
        first, second = blocks_of(self.first), blocks_of(self.second)
        if first is None or second is None:
            return None

        def ask(hr: Tensor) -> Callable[[slice | Tensor], Tensor]:
            one, other = first(hr), second(hr)
            return lambda entities: one(entities) + self.weight * other(entities)

        return ask


def fit_ensemble(
    first: ScoresTails, second: ScoresTails, dataset: KGDataset, progress: bool = False
) -> Ensemble:
    """Choose the weight with the best filtered MRR on valid; of equal ones the smallest.

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
    return Ensemble(first, second, max(mrr, key=lambda weight: mrr[weight]), mrr)
