"""Answers compared with the few entities that sparse scores list, and all others at once."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from kgtool.data.answer_index import AnswerIndex
from kgtool.models.scorers import SparseScores


class Compared(NamedTuple):
    """How answers compare, `(n,)` each.

    Attributes:
        better, equal: int64, entities scored above each answer, and others level with it.
        known_better, known_equal: int64, those of them that are known answers too.
        num_known: int64, other known answers.
        score: float, of the answers.
        finite: bool: whether all scores of the query are numbers.
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
    """Compare answers with all entities, in the time that the few listed take.

    Neither the entities nor a query's known answers, of which there may be millions, are listed.

    Args:
        scores: of q queries.
        row: `(n,)` int64, the query of each triple.
        triples: `(n, 3)` int64 `(h, r, t)`, t the answer.
        known: known answers, those of the triples among them or not.
        num_entities: number of entities.
    """
    asked = known.rows(triples[:, :2])
    told = known.count(asked)
    compared = []
    for i, (query, index, count) in enumerate(
        zip(row.tolist(), asked.tolist(), told.tolist(), strict=True)
    ):
        inside = slice(int(scores.first[query]), int(scores.first[query + 1]))
        entity, score, rest = scores.entity[inside], scores.score[inside], scores.rest[query]
        tail = triples[i, 2:]
        answer = known.contains_tails(index, entity) if count else torch.zeros(0, dtype=torch.bool)
        itself = entity == tail
        own = score[itself] if bool(itself.any()) else rest.unsqueeze(0)
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
