"""DURA, the regulariser of queries and tails that keeps a bilinear score from overfitting.

Zhang, Cai & Wang 2020, "Duality-Induced Regularizer for Tensor Factorization Based Knowledge Graph
Completion", eq. 4: `‖e_t - s_k‖² = ‖s_k‖² + ‖e_t‖² - 2⟨s_k, e_t⟩`, so the score `⟨s_k, e_t⟩` of a
distance model comes with the two squared norms. Each triple adds them once: frequent entities are
held back more.
"""

from __future__ import annotations

import torch
from torch import Tensor


def dura(queries: Tensor, entities: Tensor, position: Tensor, tail: Tensor) -> Tensor:
    """The mean over answers of `‖s_k‖² + ‖e_t‖²`.

    Args:
        queries: `(q, d)` float, the states `s_k` that the paths end in.
        entities: `(N, d)`, same dtype.
        position, tail: `(p,)` int64: `tail[i]` answers query `position[i]`.

    Returns:
        A scalar with gradients to `queries` and `entities`.
    """
    # How often each is asked for, so that no row is copied.
    asked = torch.bincount(position, minlength=len(queries)).to(queries.dtype)
    told = torch.bincount(tail, minlength=len(entities)).to(entities.dtype)
    total = asked @ queries.square().sum(1) + told @ entities.square().sum(1)
    return total / max(len(tail), 1)
