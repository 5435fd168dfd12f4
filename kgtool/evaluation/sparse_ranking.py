"""Compares answers with the few entities that sparse scores list, and with the others at once."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from kgtool.data.answer_index import AnswerIndex
from kgtool.models.scorers import SparseScores


class Compared(NamedTuple):
    """The comparison of each answer with all entities, `(n,)` each.

    Attributes:
        better, equal: int64, the number of entities with a higher score than the answer, and of
            others with an equal score.
        known_better, known_equal: int64, the number of known answers among these.
        num_known: int64, the number of other known answers.
        score: float, the score of the answer.
        finite: bool: whether all scores of the query are finite.
    """

    better: Tensor
    equal: Tensor
    known_better: Tensor
    known_equal: Tensor
    num_known: Tensor
    score: Tensor
    finite: Tensor


def compare_sparse(
    scores: SparseScores, row: Tensor, triples: Tensor, known: AnswerIndex, num_entities: int
) -> Compared:
    """Compare answers with all entities, in time proportional to the listed entities.

    A query may have millions of known answers; the comparison does not list them either.

    Args:
        scores: the scores of q queries.
        row: `(n,)` int64, the query of each triple.
        triples: `(n, 3)` int64 `(h, r, t)`, t the answer.
        known: the known answers, with or without those of the triples.
        num_entities: number of entities.
    """
    known_row = known.rows(triples[:, :2])
    known_count = known.count(known_row)
    compared = []
    for i, (query, index, count) in enumerate(
        zip(row.tolist(), known_row.tolist(), known_count.tolist(), strict=True)
    ):
        inside = slice(int(scores.first[query]), int(scores.first[query + 1]))
        entity, score, rest = scores.entity[inside], scores.score[inside], scores.rest[query]
        tail = triples[i, 2:]
        answer = known.contains_tails(index, entity) if count else torch.zeros(0, dtype=torch.bool)
        itself = entity == tail
        own = score[itself] if bool(itself.any()) else rest.unsqueeze(0)  # the answer's score
        above, level = score > own, score == own
        others = answer & ~itself if count else torch.zeros_like(itself)
        outside = num_entities - len(entity)
        count -= count and int(known.contains_tails(index, tail))
        far = count - int(others.sum())  # other known answers that are not listed
        rest_above, rest_level = bool(rest > own), bool(rest == own)
        compared.append(
            (
                int(above.sum()) + outside * rest_above,
                int(level.sum()) + outside * rest_level - 1,
                int((above & others).sum()) + far * rest_above,
                int((level & others).sum()) + far * rest_level,
                count,
                float(own),
                bool(score.isfinite().all() & rest.isfinite()),
            )
        )
    columns = [torch.tensor(column) for column in zip(*compared, strict=True)]
    return Compared(*columns)
