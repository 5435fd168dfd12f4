"""The best answers to queries `(h, r, ?)`, and what a model says of each."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from kgtool.data.answer_index import AnswerIndex
from kgtool.data.dataset import invert
from kgtool.evaluation.candidates import Types
from kgtool.evaluation.likelihood import finite_scores, tail_likelihood
from kgtool.evaluation.ranking import ScoresTails, whole_rows

# Of an answer, see `features`; the first of them are of the question as it was asked.
FEATURES, ASKED_FEATURES = 7, 4


@dataclass(frozen=True, eq=False)
class Answers:
    """Answers of queries, by query, best first.

    Attributes:
        query: `(m,)` int64, ascending, the row of each answer's query.
        tail: `(m,)` int64 entities.
        known: `(m,)` bool, whether it is a known fact.
        said: `(m, 3)` float64: the score, `log P(t | h, r)` among all entities, and among those
            that are no known answers.
    """

    query: Tensor
    tail: Tensor
    known: Tensor
    said: Tensor

    @property
    def score(self) -> Tensor:
        """`(m,)` float64."""
        return self.said[:, 0]

    def triples(self, hr: Tensor) -> Tensor:
        """`(m, 3)` int64, of the queries `(q, 2)` that were asked."""
        return torch.cat([hr[self.query], self.tail.unsqueeze(1)], dim=1)


@torch.no_grad()
def best_answers(
    model: ScoresTails,
    hr: Tensor,
    known: AnswerIndex,
    num_entities: int,
    top: int,
    new: bool = True,
    types: Types | None = None,
) -> Answers:
    """The answers of highest score.

    Args:
        model: gives the scores.
        hr: `(q, 2)` int64 queries, relations inverses included.
        known: the facts, inverses included.
        num_entities: number of entities.
        top: most answers of a query.
        new: leave known answers out.
        types: leave out entities that it does not allow, known answers excepted.

    Raises:
        ScoreError: when a score is NaN or infinite, naming the query.
    """
    found = [_no_answers()]
    # A head is one pass of a model that makes passes.
    for chunk in torch.argsort(hr[:, 0], stable=True).split(whole_rows(num_entities)):
        asked = hr[chunk]
        scores, norm = finite_scores(model, asked)
        position, slot = known.expand(known.rows(asked))
        fact = torch.zeros_like(scores, dtype=torch.bool)
        fact[position, known.tails[slot]] = True
        unknown = scores.masked_fill(fact, -torch.inf)
        norm_new = unknown.float().logsumexp(1).double()
        ranked = unknown if new else scores
        if types is not None:
            ranked = ranked.masked_fill(~(types.of_relations(asked[:, 1]) | fact), -torch.inf)
        value, tail = ranked.topk(min(top, num_entities), dim=1)
        row, place = torch.nonzero(value > -torch.inf, as_tuple=True)
        tail, score = tail[row, place], value[row, place].double()
        # Where all that is left are known answers, nothing shares the chances of new ones.
        among_new = torch.nan_to_num(score - norm_new[row], posinf=0.0)
        said = torch.stack([score, score - norm[row], among_new], dim=1)
        found.append((chunk[row], tail, fact[row, tail], said))
    query, tail, is_known, said = (torch.cat(parts) for parts in zip(*found, strict=True))
    order = torch.argsort(query, stable=True)
    return Answers(query[order], tail[order], is_known[order], said[order])


def _no_answers() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    none = torch.empty(0, dtype=torch.long)
    return none, none, none.bool(), torch.empty(0, 3, dtype=torch.double)


def asked_features(triples: Tensor, said: Tensor, known: AnswerIndex) -> Tensor:
    """`(m, ASKED_FEATURES)` float64: `said`, and how many answers are known, `log(1 + n)`.

    Args:
        triples: `(m, 3)` int64, relations inverses included.
        said: `(m, 3)`, see `Answers`.
        known: the facts, inverses included.
    """
    return torch.cat([said, _known_answers(triples, known)], dim=1)


def features(
    model: ScoresTails,
    triples: Tensor,
    said: Tensor,
    known: AnswerIndex,
    num_entities: int,
    num_relations: int,
) -> Tensor:
    """`(m, FEATURES)` float64: what speaks for answers, for `kgtool.inference.probability`.

    That is `asked_features`, then of the same triple asked the other way round its score, its
    likelihood, and how many answers are known.

    Args:
        model: gives the scores.
        triples, said, known: as of `asked_features`.
        num_entities, num_relations: inverses not counted.
    """
    back = invert(triples, num_relations)
    return torch.cat(
        [
            asked_features(triples, said, known),
            tail_likelihood(model, back, num_entities),
            _known_answers(back, known),
        ],
        dim=1,
    )


def _known_answers(triples: Tensor, known: AnswerIndex) -> Tensor:
    """`(m, 1)` float64, `log(1 + n)` of the known answers to each triple's query."""
    return known.count(known.rows(triples[:, :2])).double().log1p().unsqueeze(1)
