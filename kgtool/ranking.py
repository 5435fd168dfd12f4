"""Ranks of true answers among entities, under every tie policy, filtered and raw.

Ranks are 1-based: optimistic counts better scores, pessimistic equal ones too, realistic is their
mean. The true score is read from the same score matrix that it is ranked in.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from tqdm.auto import tqdm

from kgtool import processes
from kgtool.errors import ScoreError
from kgtool.ops import count_better
from kgtool.triples import AnswerIndex

# Scores made at a time: this many bytes of float32, so that what reads them finds them cached.
CHUNK_BYTES = 8 * 2**20


class ScoresTails(Protocol):
    """Anything that scores every tail of a batch of queries."""

    def score_t(self, hr: Tensor) -> Tensor:
        """`(n, num_entities)` float scores of the queries `hr` `(n, 2)` int64."""
        ...


class Candidates(Protocol):
    """Anything that says which entities an answer is ranked among."""

    @property
    def name(self) -> str:
        """Names the protocol, also in file names."""
        ...

    def mask(self, triples: Tensor, known: AnswerIndex, num_entities: int) -> Tensor:
        """`(n, num_entities)` bool for triples `(n, 3)` int64; an answer is always a candidate.

        Args:
            triples: `(h, r, t)`, t the answer; head queries as inverses.
            known: all answers that do not count against an answer.
            num_entities: number of entities.
        """
        ...


@dataclass(frozen=True, eq=False)
class Ranks:
    """Ranks of the answers of `n` queries.

    Attributes:
        better, equal: `(n,)` int64, candidates scored above the answer, and others level with it.
        candidates: `(n,)` int64, entities ranked, the answer included.
    """

    better: Tensor
    equal: Tensor
    candidates: Tensor

    @property
    def optimistic(self) -> Tensor:
        """`(n,)` float64: an answer comes first among its equals."""
        return (self.better + 1).double()

    @property
    def pessimistic(self) -> Tensor:
        """`(n,)` float64: an answer comes last among its equals."""
        return (self.better + self.equal + 1).double()

    @property
    def realistic(self) -> Tensor:
        """`(n,)` float64: the mean of the two."""
        return (self.optimistic + self.pessimistic) / 2

    @classmethod
    def concatenate(cls, *parts: Ranks) -> Ranks:
        """The ranks of several sets of queries, pooled."""
        return cls(
            better=torch.cat([part.better for part in parts]),
            equal=torch.cat([part.equal for part in parts]),
            candidates=torch.cat([part.candidates for part in parts]),
        )

    def __getitem__(self, index: Tensor | slice) -> Ranks:
        """The ranks at a mask, at indices or in a slice."""
        return Ranks(self.better[index], self.equal[index], self.candidates[index])


@dataclass(frozen=True, eq=False)
class Ranking:
    """Answers of `n` queries among all entities, or among chosen candidates.

    Attributes:
        filtered: among those not known as answers to the same query.
        raw: among all of them.
        score: `(n,)` float, of each answer.
    """

    filtered: Ranks
    raw: Ranks
    score: Tensor


def not_finite(query: str) -> ScoreError:
    """The error for a query that has a score which cannot be ranked."""
    return ScoreError(
        f"the model gave a score that is NaN or infinite for {query}: such scores cannot be "
        "ranked. Remedy: train again with a lower learning rate, or look at the weights."
    )


def rank_tails(
    model: ScoresTails,
    triples: Tensor,
    known: AnswerIndex,
    num_entities: int,
    chunk_size: int | None = None,
    progress: str | None = None,
    candidates: Candidates | None = None,
) -> Ranking:
    """Filtered and raw ranks of the tails of triples.

    Memory is bounded by the chunk, whatever the number of triples.

    Args:
        model: gives the scores.
        triples: `(n, 3)` int64 `(h, r, t)`; for head queries their inverses.
        known: all answers that do not count against an answer.
        num_entities: number of candidates.
        chunk_size: answers ranked at a time; by default what fits the cache.
        progress: a label for a progress bar; None shows none.
        candidates: what answers are ranked among; None for all entities.

    Returns:
        Ranks and scores, in the order of the triples.

    Raises:
        ScoreError: when a score is NaN or infinite, naming the query.
    """

    def score(hr: Tensor) -> tuple[Tensor]:
        return (model.score_t(hr),)

    found = rank_scores(score, 1, triples, known, num_entities, chunk_size, progress, candidates)
    return found[0]


@torch.no_grad()
def rank_scores(
    score: Callable[[Tensor], Iterable[Tensor]],
    num_models: int,
    triples: Tensor,
    known: AnswerIndex,
    num_entities: int,
    chunk_size: int | None = None,
    progress: str | None = None,
    candidates: Candidates | None = None,
) -> list[Ranking]:
    """`rank_tails` of several models whose scores are made together.

    Args:
        score: gives each model's `(q, num_entities)` scores of queries `(q, 2)`, one after the
            other.
        num_models: how many.
        triples, known, num_entities, chunk_size, progress, candidates: as of `rank_tails`.
    """
    # Processes that work together rank some each: all have the same model, and get all ranks.
    chunk_size = chunk_size or max(1, CHUNK_BYTES // (4 * num_entities))
    # Equal queries side by side, so that a chunk scores each once.
    order = torch.argsort(triples[:, 1], stable=True)
    order = order[torch.argsort(triples[order, 0], stable=True)]
    counts = torch.zeros(num_models, 6, len(triples), dtype=torch.long)
    answers = torch.zeros(num_models, len(triples))
    bar = tqdm(total=len(triples), desc=progress, unit="query", disable=progress is None)
    with bar:
        for chunk in order[processes.share(len(order))].split(chunk_size):
            hr, row = torch.unique_consecutive(triples[chunk, :2], dim=0, return_inverse=True)
            among = None
            if candidates is not None:
                among = _among(candidates, triples[chunk], known, num_entities)
            for i, scores in enumerate(score(hr)):
                counts[i, :, chunk] = _count(
                    scores, hr, row, triples[chunk], known, num_entities, among
                )
                answers[i, chunk] = scores[row, triples[chunk, 2]].float()
            bar.update(len(chunk))
    processes.add_up([counts, answers])
    return [
        Ranking(
            Ranks(better - known_better, equal - known_equal, total - known_others),
            Ranks(better, equal, total),
            answer,
        )
        for (better, equal, total, known_better, known_equal, known_others), answer in zip(
            counts, answers, strict=True
        )
    ]


def _count(
    scores: Tensor,
    hr: Tensor,
    row: Tensor,
    triples: Tensor,
    known: AnswerIndex,
    num_entities: int,
    among: Tensor | None,
) -> Tensor:
    """`(6, n)`: candidates better, level, in all, and the same of other known answers.

    Args:
        scores: of the queries `hr`; `row` is that of each triple's.
        hr, row, triples, known, num_entities: the chunk.
        among: `(n, num_entities)` bool, the candidates; None for all.
    """
    tail = triples[:, 2]
    if scores.shape != (len(hr), num_entities):
        raise ValueError(f"score_t gave {tuple(scores.shape)} for {len(hr)} × {num_entities}")
    better, equal, finite = count_better(scores, row, tail)
    if not bool((finite == num_entities).all()):
        head, relation = hr[row[finite < num_entities][0]].tolist()
        raise not_finite(f"query (head {head}, relation {relation}, ?)")
    position, answer = known.others(triples)
    total = torch.full_like(tail, num_entities)
    if among is not None:
        of_answer = scores[row, tail].unsqueeze(1)
        better = ((scores[row] > of_answer) & among).sum(1)
        equal = ((scores[row] == of_answer) & among).sum(1)
        total = among.sum(1)
        inside = among[position, answer]
        position, answer = position[inside], answer[inside]
    score, true = scores[row[position], answer], scores[row, tail][position]
    known_better = torch.bincount(position[score > true], minlength=len(tail))
    known_equal = torch.bincount(position[score == true], minlength=len(tail))
    known_others = torch.bincount(position, minlength=len(tail))
    return torch.stack([better, equal - 1, total, known_better, known_equal, known_others])


def _among(
    candidates: Candidates, triples: Tensor, known: AnswerIndex, num_entities: int
) -> Tensor:
    """`(n, num_entities)` bool: the candidates of each triple, its answer among them."""
    mask = candidates.mask(triples, known, num_entities)
    mask[torch.arange(len(triples)), triples[:, 2]] = True
    return mask
