"""Count the candidates with a higher or an equal score, in one pass over a score matrix."""

from __future__ import annotations

import numba
import numpy as np
import torch
from torch import Tensor

from kgtool.ops.runtime.compiling import match_threads


@numba.njit(parallel=True, cache=True)
def _count(scores, row, true, first, better, equal, finite):  # type: ignore[no-untyped-def] # pragma: no cover
    num_columns = scores.shape[1]
    for i in numba.prange(len(row)):
        r, mine = row[i], true[i]
        above, level, sound = np.int32(0), np.int32(0), np.int32(0)
        for j in range(first, num_columns):
            score = scores[r, j]
            above += np.int32(score > mine)
            level += np.int32(score == mine)
            sound += np.int32(abs(score) < np.inf)
        better[i], equal[i], finite[i] = above, level, sound


@numba.njit(parallel=True, cache=True)
def _count_listed(scores, row, true, start, end, column, first, better, equal, finite):  # type: ignore[no-untyped-def] # pragma: no cover
    for i in numba.prange(len(row)):
        r, mine = row[i], true[i]
        above, level, sound = 0, 0, 0
        for p in range(start[i], end[i]):
            score = scores[r, column[p] - first]
            above += score > mine
            level += score == mine
            sound += abs(score) < np.inf
        better[i], equal[i], finite[i] = above, level, sound


def count_better(
    scores: Tensor, row: Tensor, true: Tensor, first: int = 0
) -> tuple[Tensor, Tensor, Tensor]:
    """Compare the score of each answer with the scores of all candidates of its query.

    Args:
        scores: `(q, num_candidates)` float32 or float64.
        row: `(n,)` int64: answer `i` belongs to query `row[i]`.
        true: `(n,)`, the scores of the answers, of the dtype of `scores`.
        first: the first column to compare with; earlier candidates are ignored.

    Returns:
        Three `(n,)` int64 counts: candidates with a higher score; candidates with an equal score,
        including the answer; candidates with a finite score.
    """
    match_threads()
    counts = torch.empty(3, len(row), dtype=torch.long)
    of = (scores.contiguous().numpy(), row.numpy(), true.numpy(), first)
    _count(*of, *counts.numpy())
    return counts[0], counts[1], counts[2]


def count_better_listed(
    scores: Tensor,
    row: Tensor,
    true: Tensor,
    span: tuple[Tensor, Tensor],
    column: Tensor,
    first: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """Like `count_better`, but with a list of candidates for each answer.

    Args:
        scores, row, true: as for `count_better`.
        span: `(n,)` int64 each: the candidates of answer `i` are `column[span[0][i]:span[1][i]]`.
        column: `(m,)` int64, candidate ids.
        first: the candidate id of the first column of `scores`.

    Returns:
        The three counts of `count_better`.
    """
    match_threads()
    counts = torch.empty(3, len(row), dtype=torch.long)
    start, end = (bound.numpy() for bound in span)
    of = (scores.contiguous().numpy(), row.numpy(), true.numpy(), start, end)
    _count_listed(*of, column.numpy(), first, *counts.numpy())
    return counts[0], counts[1], counts[2]
