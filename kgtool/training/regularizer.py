"""Regularisers against the overfitting of bilinear scores: DURA and N3.

DURA: Zhang, Cai & Wang 2020, "Duality-Induced Regularizer for Tensor Factorization Based Knowledge
Graph Completion", eq. 4: `‖e_t - s_k‖² = ‖s_k‖² + ‖e_t‖² - 2⟨s_k, e_t⟩`, so the score of a distance
model is `⟨s_k, e_t⟩` minus half of the two squared norms.

N3: Lacroix, Usunier & Obozinski 2018, "Canonical Tensor Decomposition for Knowledge Base
Completion", eq. 4: the sum of the cubed absolute values of head, relation and tail.

Each triple adds its norms once, so frequent entities are regularised more.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def dura(
    queries: Tensor,
    entities: Tensor,
    position: Tensor,
    tail: Tensor,
    *,
    weight: Tensor | None = None,
) -> Tensor:
    """The mean over answers of `‖s_k‖² + ‖e_t‖²`.

    Args:
        queries: `(q, d)` float, the last states `s_k` of the paths.
        entities: `(N, d)`, same dtype.
        position, tail: `(p,)` int64: `tail[i]` answers query `position[i]`.
        weight: `(p,)` float, the weight of each answer in the mean; None for 1.

    Returns:
        A scalar with gradients to `queries` and `entities`.
    """
    # Weighting each row by its count copies no row.
    query_count = torch.bincount(position, weight, len(queries)).to(queries.dtype)
    tail_count = torch.bincount(tail, weight, len(entities)).to(entities.dtype)
    total = query_count @ queries.square().sum(1) + tail_count @ entities.square().sum(1)
    return total / (max(len(tail), 1) if weight is None else weight.sum())


class _Cubes(torch.autograd.Function):
    """`Σ |x|³`, with the gradient `3 |x| x`, and fewer passes over memory than autograd."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, complex_numbers: bool) -> Tensor:
        numbers = x.unflatten(1, (1 + complex_numbers, -1))  # (p, parts, numbers)
        moduli = numbers.square().sum(1).sqrt_()
        ctx.save_for_backward(x, moduli)
        return (moduli * moduli * moduli).sum()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        x, moduli = ctx.saved_tensors
        numbers = x.unflatten(1, (-1, moduli.shape[1]))
        return (numbers * (3 * grads[0] * moduli).unsqueeze(1)).flatten(1), None


def n3(factors: tuple[Tensor, ...], complex_numbers: bool, weight: Tensor | None = None) -> Tensor:
    """The mean over triples of `Σ |x|³` of all factors.

    Args:
        factors: `(p, d)` float each: the states of heads, relations and tails.
        complex_numbers: `|x|` is the modulus of complex numbers, see `kgtool.models.cells`.
        weight: `(p,)` float, the weight of each triple in the mean; None for 1.

    Returns:
        A scalar with gradients to the factors.
    """
    if weight is not None:  # ω |x|³ = |ω^(1/3) x|³
        root = weight.pow(1 / 3).unsqueeze(1)
        factors = tuple(factor * root.to(factor.dtype) for factor in factors)
    cubes: list[Tensor] = [
        _Cubes.apply(factor, complex_numbers)  # type: ignore[no-untyped-call]
        for factor in factors
    ]
    count = max(len(factors[0]), 1) if weight is None else weight.sum()
    return torch.stack(cubes).sum() / count
