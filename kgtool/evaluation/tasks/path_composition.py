"""Scores of path queries: a path read as a whole, or its steps answered one after the other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from kgtool.data.answer_index import AnswerIndex
from kgtool.evaluation.ranking import ScoresTails, distinct_in_chunks, not_finite, whole_rows

# Entities that a path may stand at between two steps.
BEAM = 32
# How far the probability of a train edge may be from 1: so the likelier of them go first.
DOUBT = 1e-3
# Rows of scores added up at a time.
ROWS = 512


class ScoresPaths(Protocol):
    """Anything that scores every tail of a batch of path queries."""

    def score_paths(self, head: Tensor, path: Tensor, length: Tensor) -> Tensor:
        """`(q, num_entities)` float scores of every tail of `(h, r_1/…/r_k, ?)`.

        Args:
            head: `(q,)` int64.
            path: `(q, max_length)` int64 relation ids, padded with any value.
            length: `(q,)` int64.
        """
        ...


@dataclass(frozen=True, eq=False)
class ComposedSteps:
    """Path queries by a model of `(h, r, ?)`, one step after the other.

        score(h, r_1/…/r_k, t) = log Σ over e_1 … e_{k-1} of Π_i p(e_i | e_{i-1}, r_i)

    with `e_0 = h` and `e_k = t`, `p` the softmax over all entities of a query's scores, and only
    the likeliest `beam` entities kept between two steps. That is CQD-beam (Arakelyan et al. 2021)
    with the product for the t-norm, but for the sum in the place of the maximum: many ways to an
    answer speak for it. An edge of train has the probability `1 - DOUBT · (1 - p)` instead: what
    is known is (almost) sure. A path of one relation has no steps to compose, and the model's own
    scores.

    Attributes:
        model: answers each step.
        known: the train triples, inverses included.
        num_entities: N.
        beam: entities kept.
    """

    model: ScoresTails
    known: AnswerIndex
    num_entities: int
    beam: int = BEAM

    @torch.no_grad()
    def score_paths(self, head: Tensor, path: Tensor, length: Tensor) -> Tensor:
        """See `ScoresPaths`. Queries take a step together, so that each question is asked once.

        Raises:
            ScoreError: when a score of a step is NaN or infinite, naming the step.
        """
        scores = torch.empty(len(head), self.num_entities)
        single = torch.nonzero(length == 1).squeeze(1)
        for part in single.split(whole_rows(self.num_entities)) if len(single) else ():
            scores[part] = self._answer(torch.stack([head[part], path[part, 0]], dim=1))
        kept = min(self.beam, self.num_entities)
        for step in range(path.shape[1]):
            going = torch.nonzero((length > step) & (length > 1)).squeeze(1)
            if not len(going):
                break
            if step == 0:
                value, entity = torch.zeros(len(going), 1), head[going].unsqueeze(1)
            else:
                value, entity = scores[going].topk(kept, dim=1)
            relation = path[going, step].unsqueeze(1).expand_as(entity)
            scores[going] = self._step(entity, relation, value)
        return scores

    def _step(self, entity: Tensor, relation: Tensor, value: Tensor) -> Tensor:
        """`(q, N)`: the summed chances of a step from where each query's paths stand, as logs.

        Args:
            entity, relation, value: `(q, b)`: where they stand, what comes next, the log chance.
        """
        q, b = entity.shape
        best = value.amax(dim=1, keepdim=True)  # left out of the sums, which then are no zeros
        weight = (value - best).exp().view(-1, 1)
        asked = torch.stack([entity.flatten(), relation.flatten()], dim=1)
        sums = torch.zeros(q, self.num_entities)
        for hr, places, row in distinct_in_chunks(asked, whole_rows(self.num_entities)):
            chance = self._answer(hr).softmax(1)
            position, slot = self.known.expand(self.known.rows(hr))
            sure = (position, self.known.tails[slot])
            chance[sure] = 1 - DOUBT * (1 - chance[sure])
            for mine, of_part in zip(places.split(ROWS), row.split(ROWS), strict=True):
                sums.index_add_(0, mine // b, chance[of_part] * weight[mine])
        return sums.clamp_(min=torch.finfo(sums.dtype).tiny).log_().add_(best)

    def _answer(self, hr: Tensor) -> Tensor:
        """The model's scores, float32."""
        scores = self.model.score_t(hr).float()
        wrong = ~scores.isfinite().all(1)
        if bool(wrong.any()):
            head, relation = hr[wrong][0].tolist()
            raise not_finite(f"query (head {head}, relation {relation}, ?)")
        return scores
