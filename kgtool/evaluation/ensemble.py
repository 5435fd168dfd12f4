"""Models trained apart, their scores added: what one has not learned, another may have.

    score(h, r, t) = score_1(h, r, t) + λ · score_2(h, r, t)

λ is the one that ranks valid best; a third model is added to the sum of two. An embedding trained
within an all-paths model hurts it, since it has seen the edges that the paths may not; trained
apart it cannot.
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
        mrr: what each weight that was tried gives on valid: filtered, both sides, realistic.
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
    """Choose the weight on valid, filtered of train and valid; where two are level, the less.

    Raises:
        ValueError: when valid holds no triples.
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
