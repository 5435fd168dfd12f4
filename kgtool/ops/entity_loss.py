"""The loss of a batch of queries against every entity, without a (queries × entities) tensor.

Scores are made, turned into loss and gradient, and multiplied back a chunk of queries at a time,
in one buffer that stays in the cache; only the gradients of queries and entities are kept.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

Loss = Literal["softmax", "bce"]
Targets = Literal["1-vs-all", "k-vs-all"]

# Queries a chunk: enough rows for the matrix product, few enough for the cache.
CHUNK = 128
# What a masked score is set to: no weight in a softmax, and finite.
MASKED = -1e30


def _softmax(s: Tensor) -> Tensor:
    """Turn each row of scores into its softmax, in place; `(c,)` log-sum-exp of the scores."""
    peak, at = s.max(1, keepdim=True)
    torch.softmax(s, 1, out=s)  # torch fuses it, three times faster than exp and sum
    return (peak - s.gather(1, at).log()).squeeze(1)


def _softmax_one(s: Tensor, row: Tensor, col: Tensor, smoothing: float) -> float:
    """1-vs-all: each target against all entities but the other targets of its query."""
    target = s[row, col]
    candidates = s.shape[1] + 1 - torch.bincount(row, minlength=len(s))[row]
    uniform = smoothing / candidates.to(s.dtype)
    loss = 0.0
    if smoothing:
        s[row, col] = 0
        loss -= float((uniform * (s.sum(1)[row] + target)).sum())
    s[row, col] = MASKED
    others = _softmax(s)[row]
    log_z = torch.logaddexp(others, target)
    loss += float((log_z - (1 - smoothing) * target).sum())
    # Of each query's probability mass of the non-targets, summed over its targets.
    mass = s.new_zeros(len(s)).index_add_(0, row, (others - log_z).exp())
    s.mul_(mass.unsqueeze(1))
    if smoothing:
        s.sub_(s.new_zeros(len(s)).index_add_(0, row, uniform).unsqueeze(1))
    s[row, col] = (target - log_z).exp() - (1 - smoothing) - uniform
    return loss


def _softmax_all(s: Tensor, row: Tensor, col: Tensor, smoothing: float) -> float:
    """K-vs-all: the targets of a query share its probability mass."""
    share = (1 - smoothing) / torch.bincount(row, minlength=len(s)).to(s.dtype)[row]
    loss = -float((share * s[row, col]).sum())
    if smoothing:
        loss -= smoothing / s.shape[1] * float(s.sum())
    loss += float(_softmax(s).sum())
    if smoothing:
        s.sub_(smoothing / s.shape[1])
    s[row, col] -= share
    return loss


def _bce(s: Tensor, row: Tensor, col: Tensor, smoothing: float, one: bool) -> float:
    """Binary cross-entropy of every entity; for 1-vs-all each target has the negatives anew."""
    # Label smoothing as ConvE has it: y (1 - ε) + ε / N.
    uniform = smoothing / s.shape[1]
    target = s[row, col]
    times = torch.bincount(row, minlength=len(s)).to(s.dtype) if one else s.new_ones(len(s))
    each = F.softplus(s) - uniform * s
    each[row, col] = 0
    loss = float((each.sum(1) * times).sum())
    loss += float((F.softplus(target) - (1 - smoothing + uniform) * target).sum())
    s.sigmoid_().sub_(uniform).mul_(times.unsqueeze(1))
    s[row, col] = torch.sigmoid(target) - (1 - smoothing) - uniform
    return loss


def _loss_and_gradient(
    s: Tensor, row: Tensor, col: Tensor, loss: Loss, targets: Targets, smoothing: float
) -> float:
    """The summed loss of scores `s` `(c, N)`, which its gradient overwrites."""
    if loss == "bce":
        return _bce(s, row, col, smoothing, one=targets == "1-vs-all")
    if targets == "1-vs-all":
        return _softmax_one(s, row, col, smoothing)
    return _softmax_all(s, row, col, smoothing)


class _EntityLoss(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, queries: Tensor, entities: Tensor, bias: Tensor, position: Tensor, tail: Tensor,
        loss: Loss, targets: Targets, smoothing: float,
    ) -> Tensor:  # fmt: skip
        low = torch.is_autocast_enabled("cpu")
        dtype = torch.get_autocast_dtype("cpu") if low else queries.dtype
        q, e = queries.to(dtype), entities.to(dtype)
        count = len(tail) if targets == "1-vs-all" else len(q)
        grad_q, grad_e = torch.empty_like(queries), torch.zeros_like(entities)
        grad_bias = torch.zeros_like(bias)
        buffer = queries.new_empty(min(CHUNK, len(q)), len(e))
        starts = range(0, len(q), CHUNK)
        bounds = torch.searchsorted(position, torch.tensor([*starts, len(q)])).tolist()
        total = 0.0
        for i, start in enumerate(starts):
            chunk = q[start : start + CHUNK]
            s = torch.add(chunk @ e.t(), bias, out=buffer[: len(chunk)])  # (c, N)
            span = slice(bounds[i], bounds[i + 1])
            total += _loss_and_gradient(
                s, position[span] - start, tail[span], loss, targets, smoothing
            )
            grad_bias += s.sum(0)
            s_low = s.to(dtype)
            grad_q[start : start + CHUNK] = s_low @ e
            grad_e += s_low.t() @ chunk
        ctx.save_for_backward(grad_q / count, grad_e / count, grad_bias / count)
        return queries.new_tensor(total / count)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        return *(grads[0] * grad for grad in ctx.saved_tensors), *[None] * 5


def entity_loss(
    queries: Tensor,
    entities: Tensor,
    bias: Tensor,
    position: Tensor,
    tail: Tensor,
    loss: Loss = "softmax",
    targets: Targets = "1-vs-all",
    smoothing: float = 0.0,
) -> Tensor:
    """The mean loss of `⟨queries, entities⟩ + bias` against the known tails of each query.

    Args:
        queries: `(q, d)` float.
        entities: `(num_entities, d)`, same dtype.
        bias: `(num_entities,)`, same dtype.
        position, tail: `(p,)` int64, ascending in `position`: `tail[i]` answers query
            `position[i]`. Every query has at least one answer, and no answer twice.
        loss: `"softmax"` cross-entropy or `"bce"`.
        targets: `"1-vs-all"`: each answer alone against the non-answers, mean over answers (the
            other answers are masked; Lacroix et al. 2018, with that mask); `"k-vs-all"`: all
            answers of a query at once, mean over queries (Dettmers et al. 2018).
        smoothing: label smoothing ε: the target is mixed with the uniform distribution.

    Returns:
        A scalar with gradients to `queries`, `entities` and `bias`. Under CPU autocast the three
        matrix products run in its dtype, the loss itself in the queries'.
    """
    out: Tensor = _EntityLoss.apply(  # type: ignore[no-untyped-call]
        queries, entities, bias, position, tail, loss, targets, smoothing
    )
    return out
