"""Counting, in one reading of a score matrix, what is scored above an answer or level with it."""

from __future__ import annotations

import numba
import numpy as np
import torch
from torch import Tensor

from kgtool.ops.incidence import match_threads


@numba.njit(parallel=True, cache=True)
def _count(scores, row, tail, better, equal, finite):  # type: ignore[no-untyped-def] # pragma: no cover
    num_candidates = scores.shape[1]
    for i in numba.prange(len(row)):
        r = row[i]
        true = scores[r, tail[i]]
        above, level, sound = np.int32(0), np.int32(0), np.int32(0)
        for j in range(num_candidates):
            score = scores[r, j]
            above += np.int32(score > true)
            level += np.int32(score == true)
            sound += np.int32(abs(score) < np.inf)
        better[i], equal[i], finite[i] = above, level, sound


def count_better(scores: Tensor, row: Tensor, tail: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Compare answers with every candidate of their query.

    Args:
        scores: `(q, num_candidates)` float32 or float64.
        row, tail: `(n,)` int64: answer `i` is candidate `tail[i]` of query `row[i]`.

    Returns:
        Three `(n,)` int64: candidates scored above the answer; candidates level with it, itself
        among them; candidates whose score is finite.
    """
    match_threads()
    counts = torch.empty(3, len(row), dtype=torch.long)
    better, equal, finite = counts.numpy()
    _count(scores.contiguous().numpy(), row.numpy(), tail.numpy(), better, equal, finite)
    return counts[0], counts[1], counts[2]
