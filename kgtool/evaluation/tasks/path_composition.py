"""Scores of path queries: by a model of whole paths, or by composing single steps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from kgtool.data.answer_index import AnswerIndex
from kgtool.evaluation.ranking import distinct_in_chunks, not_finite, whole_rows
from kgtool.models.scorers import ScoresTails

# Entities kept between two steps of a path.
BEAM = 32
# The probability of a train edge is at least 1 - DOUBT; likelier edges still come first.
DOUBT = 1e-3
# Rows of scores summed at a time.
ROWS = 512


class ScoresPaths(Protocol):
    """An object that scores every tail of a batch of path queries."""

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
    """Answers path queries step by step, with a model of `(h, r, ?)`.

        score(h, r_1/…/r_k, t) = log Σ over e_1 … e_{k-1} of Π_i p(e_i | e_{i-1}, r_i)

    Here `e_0 = h`, `e_k = t`, and `p` is the softmax of a query's scores over all entities. Only
    the `beam` likeliest entities are kept between two steps. This is CQD-beam (Arakelyan et al.
    2021) with the product t-norm, but with a sum in place of the maximum, so that several paths to
    an answer add up. A train edge has the probability `1 - DOUBT · (1 - p)`, because it is known. A
    path of one relation gets the model's own scores.

    Attributes:
        model: scores each step.
        known: the train triples, inverses included.
        num_entities: N.
        beam: entities kept between two steps.
    """

    model: ScoresTails
    known: AnswerIndex
    num_entities: int
    beam: int = BEAM

    @torch.no_grad()
    def score_paths(self, head: Tensor, path: Tensor, length: Tensor) -> Tensor:
        """See `ScoresPaths`. All queries take a step together, so equal steps are scored once.

        Raises:
            ScoreError: if a score of a step is NaN or infinite, naming the step.
        """
        scores = torch.empty(len(head), self.num_entities)
        single = torch.nonzero(length == 1).squeeze(1)
        for part in single.split(whole_rows(self.num_entities)) if len(single) else ():
            scores[part] = self._answer(torch.stack([head[part], path[part, 0]], dim=1))
        beam = min(self.beam, self.num_entities)
        for step in range(path.shape[1]):
            going = torch.nonzero((length > step) & (length > 1)).squeeze(1)
            if not len(going):
                break
            if step == 0:
                value, entity = torch.zeros(len(going), 1), head[going].unsqueeze(1)
            else:
                value, entity = scores[going].topk(beam, dim=1)
            relation = path[going, step].unsqueeze(1).expand_as(entity)
            scores[going] = self._step(entity, relation, value)
        return scores

    def _step(self, entity: Tensor, relation: Tensor, value: Tensor) -> Tensor:
        """`(q, N)`: the log of the summed probabilities after one more step.

        Args:
            entity: `(q, b)`, the entities that each query's paths have reached.
            relation: `(q, b)`, the next relation.
            value: `(q, b)`, the log-probabilities of the entities.
        """
        q, b = entity.shape
        best = value.amax(dim=1, keepdim=True)  # factored out, so that the sums do not underflow
        weight = (value - best).exp().view(-1, 1)
        queries = torch.stack([entity.flatten(), relation.flatten()], dim=1)
        sums = torch.zeros(q, self.num_entities)
        for hr, places, row in distinct_in_chunks(queries, whole_rows(self.num_entities)):
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
