"""The top-k answers to queries `(h, r, ?)`, and their features for calibration."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from kgtool.data.answer_index import AnswerIndex
from kgtool.data.dataset import invert
from kgtool.evaluation.likelihood import finite_scores, tail_likelihood
from kgtool.evaluation.ranking import distinct_in_chunks, whole_rows
from kgtool.models.scorers import ScoresTails, as_scorer
from kgtool.ops import Progress

# Number of features of an answer, see `features`; the first ones are of the query itself.
FEATURES, FORWARD_FEATURES = 7, 4


class AllowsTails(Protocol):
    """An object that leaves out some answers, such as entities of other types."""

    def of_queries(self, hr: Tensor) -> Tensor:
        """`(n, num_entities)` bool: the entities that may answer queries `(n, 2)` int64."""
        ...


@dataclass(frozen=True, eq=False)
class Answers:
    """Answers to queries, ordered by query, best first.

    Attributes:
        query: `(m,)` int64, ascending, the row of each answer's query.
        tail: `(m,)` int64 entities.
        is_known: `(m,)` bool, whether the answer is a known fact.
        scores: `(m, 3)` float64: the score, `log P(t | h, r)` among all entities, and among the
            entities that are not known answers.
        left_out: `(q,)` int64, for each query the entities that `types` left out although their
            scores are above that of the query's last answer.
    """

    query: Tensor
    tail: Tensor
    is_known: Tensor
    scores: Tensor
    left_out: Tensor

    @property
    def score(self) -> Tensor:
        """`(m,)` float64."""
        return self.scores[:, 0]

    def triples(self, hr: Tensor) -> Tensor:
        """`(m, 3)` int64 triples of the answers, given the queries `(q, 2)`."""
        return torch.cat([hr[self.query], self.tail.unsqueeze(1)], dim=1)


@torch.no_grad()
def best_answers(
    model: ScoresTails,
    hr: Tensor,
    known: AnswerIndex,
    num_entities: int,
    top: int,
    *,
    new: bool = True,
    types: AllowsTails | None = None,
) -> Answers:
    """The answers with the highest scores.

    Args:
        model: scores tails.
        hr: `(q, 2)` int64 queries, relations inverses included.
        known: the known facts, inverses included.
        num_entities: number of entities.
        top: the most answers per query.
        new: leave out known answers.
        types: leave out the entities that it does not allow, except known answers.

    Raises:
        ScoreError: if a score is NaN or infinite, naming the query.
    """
    parts = [_no_answers()]
    left_out = torch.zeros(len(hr), dtype=torch.long)
    # Sorted by head: an all-paths model makes one pass per head.
    for chunk in torch.argsort(hr[:, 0], stable=True).split(whole_rows(num_entities)):
        queries = hr[chunk]
        scores, norm = finite_scores(model, queries)
        position, slot = known.expand(known.rows(queries))
        fact = torch.zeros_like(scores, dtype=torch.bool)
        fact[position, known.tails[slot]] = True
        unknown = scores.masked_fill(fact, -torch.inf)
        norm_new = unknown.float().logsumexp(1).double()
        ranked = unknown if new else scores
        other = torch.zeros_like(fact)
        if types is not None:
            other = ~(types.of_queries(queries) | fact)
            ranked = ranked.masked_fill(other, -torch.inf)
        value, tail = ranked.topk(min(top, num_entities), dim=1)
        left_out[chunk] = (other & (scores > value[:, -1:])).sum(1)
        row, place = torch.nonzero(value > -torch.inf, as_tuple=True)
        tail, score = tail[row, place], value[row, place].double()
        # If all entities are known answers, the probability among new ones is undefined.
        among_new = torch.nan_to_num(score - norm_new[row], posinf=0.0)
        scores_of = torch.stack([score, score - norm[row], among_new], dim=1)
        parts.append((chunk[row], tail, fact[row, tail], scores_of))
    query, tail, is_known, all_scores = (torch.cat(column) for column in zip(*parts, strict=True))
    order = torch.argsort(query, stable=True)
    return Answers(query[order], tail[order], is_known[order], all_scores[order], left_out)


@torch.no_grad()
def triple_scores(
    model: ScoresTails,
    triples: Tensor,
    known: AnswerIndex,
    num_entities: int,
    *,
    progress: bool = False,
) -> Tensor:
    """`(m, 3)` float64: the scores of triples `(m, 3)` int64, as in `Answers.scores`.

    A known fact is compared with the new answers and itself.

    Args:
        model: scores tails.
        triples: relations inverses included.
        known: the known facts, inverses included.
        num_entities: number of entities.
        progress: show a progress bar.

    Raises:
        ScoreError: if a score is NaN or infinite, naming the query.
    """
    found = torch.empty(len(triples), 3, dtype=torch.double)
    chunks = distinct_in_chunks(triples[:, :2], whole_rows(num_entities))
    with Progress(len(triples), "triples", "triple", shown=progress) as bar:
        for hr, position, row in chunks:
            bar.update(len(position))
            scores, norm = finite_scores(model, hr)
            score = scores[row, triples[position, 2]].double()
            query, slot = known.expand(known.rows(hr))
            unknown = scores.index_put((query, known.tails[slot]), torch.tensor(-torch.inf))
            own = torch.where(known.contains(triples[position]), score, -torch.inf)
            norm_new = torch.logaddexp(unknown.float().logsumexp(1).double()[row], own)
            found[position] = torch.stack([score, score - norm[row], score - norm_new], dim=1)
    return found


def _no_answers() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    none = torch.empty(0, dtype=torch.long)
    return none, none, none.bool(), torch.empty(0, 3, dtype=torch.double)


def forward_features(triples: Tensor, scores: Tensor, known: AnswerIndex) -> Tensor:
    """`(m, FORWARD_FEATURES)` float64: `scores`, and `log(1 + number of known answers)`.

    Args:
        triples: `(m, 3)` int64, relations inverses included.
        scores: `(m, 3)`, see `Answers`.
        known: the known facts, inverses included.
    """
    return torch.cat([scores, _known_answers(triples, known)], dim=1)


def features(
    model: ScoresTails,
    triples: Tensor,
    scores: Tensor,
    known: AnswerIndex,
    *,
    num_entities: int,
    num_relations: int,
) -> Tensor:
    """`(m, FEATURES)` float64: the features of answers for `kgtool.inference.probability`.

    These are `forward_features`, then for the inverse query of the same triple its score, its
    log-likelihood, and the number of known answers. A model that takes a pass for each query does
    not score inverse queries: these features are 0.

    Args:
        model: scores tails.
        triples, scores, known: as for `forward_features`.
        num_entities, num_relations: inverses not counted.
    """
    back = invert(triples, num_relations)
    likelihood = torch.zeros(len(triples), 2, dtype=torch.double)
    if not as_scorer(model).one_query_a_pass:
        likelihood = tail_likelihood(model, back, num_entities)
    return torch.cat(
        [
            forward_features(triples, scores, known),
            likelihood,
            _known_answers(back, known),
        ],
        dim=1,
    )


def _known_answers(triples: Tensor, known: AnswerIndex) -> Tensor:
    """`(m, 1)` float64, `log(1 + n)` of the known answers to each triple's query."""
    return known.count(known.rows(triples[:, :2])).double().log1p().unsqueeze(1)
