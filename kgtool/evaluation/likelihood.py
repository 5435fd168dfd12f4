"""Scores of triples, and their log-likelihoods among all tails."""

from __future__ import annotations

import torch
from torch import Tensor

from kgtool.evaluation.ranking import distinct_in_chunks, not_finite, whole_rows
from kgtool.models.scorers import ScoresTails


@torch.no_grad()
def finite_scores(model: ScoresTails, hr: Tensor) -> tuple[Tensor, Tensor]:
    """Scores `(n, num_entities)` of queries `(n, 2)`, and `(n,)` float64 their log-sum-exp.

    Raises:
        ScoreError: when a score is NaN or infinite, naming the query.
    """
    scores = model.score_t(hr)
    norm = scores.float().logsumexp(1).double()
    finite = norm.isfinite() & scores.amin(1).isfinite()  # -inf leaves no trace in the sum
    if not bool(finite.all()):
        head, relation = hr[~finite][0].tolist()
        raise not_finite(f"query (head {head}, relation {relation}, ?)")
    return scores, norm


def tail_likelihood(model: ScoresTails, triples: Tensor, num_entities: int) -> Tensor:
    """`(n, 2)` float64: the score of triples `(n, 3)` int64 and `log P(t | h, r)`, among all tails.

    Raises:
        ScoreError: when a score is NaN or infinite, naming the query.
    """
    found = torch.empty(len(triples), 2, dtype=torch.double)
    # Sorted by head: an all-paths model makes one pass per head.
    for hr, position, row in distinct_in_chunks(triples[:, :2], whole_rows(num_entities)):
        scores, norm = finite_scores(model, hr)
        score = scores[row, triples[position, 2]].double()
        found[position] = torch.stack([score, score - norm[row]], dim=1)
    return found
