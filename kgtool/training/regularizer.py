"""DURA, a regulariser of queries and tails against the overfitting of bilinear scores.

Zhang, Cai & Wang 2020, "Duality-Induced Regularizer for Tensor Factorization Based Knowledge Graph
Completion", eq. 4: `‖e_t - s_k‖² = ‖s_k‖² + ‖e_t‖² - 2⟨s_k, e_t⟩`, so the score of a
distance model is `⟨s_k, e_t⟩` minus half of the two squared norms. Each triple adds its norms once,
so frequent entities are regularised more.
"""

from __future__ import annotations

import torch
from torch import Tensor


def dura(queries: Tensor, entities: Tensor, position: Tensor, tail: Tensor) -> Tensor:
    """The mean over answers of `‖s_k‖² + ‖e_t‖²`.

    Args:
        queries: `(q, d)` float, the last states `s_k` of the paths.
        entities: `(N, d)`, same dtype.
        position, tail: `(p,)` int64: `tail[i]` answers query `position[i]`.

    Returns:
        A scalar with gradients to `queries` and `entities`.
    """
    # Weighting each row by its count copies no row.
    query_count = torch.bincount(position, minlength=len(queries)).to(queries.dtype)
    tail_count = torch.bincount(tail, minlength=len(entities)).to(entities.dtype)
    total = query_count @ queries.square().sum(1) + tail_count @ entities.square().sum(1)
    return total / max(len(tail), 1)
