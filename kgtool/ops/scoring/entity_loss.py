"""The loss of a batch of queries against all entities, without a (queries × entities) tensor.

The forward pass handles a chunk of queries at a time. It computes their scores in a buffer that
stays in the cache, turns the scores into loss and gradient, and multiplies the gradient back. Only
the gradients of queries and entities are stored.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from kgtool.ops.runtime.threads import in_threads
from kgtool.ops.scoring.similarity import PRODUCT, Similarity
from kgtool.ops.scoring.softmax_rows import Training, softmax_rows

Loss = Literal["softmax", "bce"]

# Queries per chunk: enough rows for the matrix products, few enough for the cache.
CHUNK = 256
# Rows of scores that a thread turns into binary cross-entropy at a time.
BCE_ROWS = 32


def _bce(
    scores: Tensor, bias: Tensor, row: Tensor, col: Tensor, smoothing: float, one: bool,
    weight: Tensor | None,
) -> tuple[float, Tensor]:  # fmt: skip
    """Like `softmax_rows`, but with the binary cross-entropy of all entities.

    With 1vsAll (`one`), the negatives count once for each answer. `row` is the row of each answer
    `col`.
    """
    s = scores + bias
    # Label smoothing as in ConvE: y (1 - ε) + ε / N.
    uniform = smoothing / s.shape[1]
    target = s[row, col]
    count = torch.bincount(row, minlength=len(s)).to(s.dtype)
    share = s.new_ones(len(row)) if weight is None else weight.to(s.dtype)
    if weight is not None:
        times = s.new_zeros(len(s)).index_add_(0, row, share)
        times = times if one else times / count.clamp(min=1)
    else:
        times = count if one else s.new_ones(len(s))
    each = F.softplus(s) - uniform * s
    each[row, col] = 0
    loss = float((each.sum(1) * times).sum())
    loss += float(((F.softplus(target) - (1 - smoothing + uniform) * target) * share).sum())
    s.sigmoid_().sub_(uniform).mul_(times.unsqueeze(1))
    s[row, col] = (torch.sigmoid(target) - (1 - smoothing) - uniform) * share
    scores.copy_(s)
    return loss, s.sum(0)


def _bce_in_parts(
    scores: Tensor, bias: Tensor, row: Tensor, col: Tensor, smoothing: float, one: bool,
    weight: Tensor | None,
) -> tuple[float, Tensor]:  # fmt: skip
    """`_bce` of a few rows at a time."""
    first = torch.searchsorted(row, torch.arange(0, len(scores) + BCE_ROWS, BCE_ROWS)).tolist()

    def bce(i: int) -> tuple[float, Tensor]:
        start, answers = i * BCE_ROWS, slice(first[i], first[i + 1])
        part = scores[start : start + BCE_ROWS]
        share = None if weight is None else weight[answers]
        return _bce(part, bias, row[answers] - start, col[answers], smoothing, one, share)

    losses, grads = zip(*in_threads(bce, range(len(first) - 1)), strict=True)
    return sum(losses), torch.stack(grads).sum(0)


class _EntityLoss(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, queries: Tensor, entities: Tensor, bias: Tensor, position: Tensor, tail: Tensor,
        loss: Loss, training: Training, smoothing: float, similarity: Similarity,
        weight: Tensor | None,
    ) -> Tensor:  # fmt: skip
        dtype = similarity.dtype(queries)
        q, e = queries.to(dtype), entities.to(dtype)
        one = training != "KvsAll"
        count: float = len(tail) if one else len(q)
        if weight is not None:
            share = weight.double()
            if not one:  # a query counts by the mean weight of its answers
                share = share / torch.bincount(position, minlength=len(q))[position]
            count = float(share.sum())
        grad_q, grad_e = torch.empty_like(queries), torch.zeros_like(entities)
        grad_bias = torch.zeros_like(bias)
        buffer = q.new_empty(min(CHUNK, len(q)), len(e))
        first = torch.searchsorted(position, torch.arange(len(q) + 1))
        total = 0.0
        for start in range(0, len(q), CHUNK):
            chunk = q[start : start + CHUNK]
            s, pull = similarity.with_gradient(chunk, e, buffer[: len(chunk)])  # (c, N)
            rows = first[start : start + len(chunk) + 1]
            answers = tail[rows[0] : rows[-1]]
            own = None if weight is None else weight[rows[0] : rows[-1]]
            if loss == "softmax":
                part, grad = softmax_rows(
                    s, bias, rows - rows[0], answers, smoothing, training, own
                )
            else:
                row = position[rows[0] : rows[-1]] - start
                part, grad = _bce_in_parts(s, bias, row, answers, smoothing, one, own)
            total += part
            grad_bias += grad
            grad_q[start : start + CHUNK] = pull(s, grad_e)
        ctx.save_for_backward(grad_q, grad_e, grad_bias)
        ctx.count = count
        return queries.new_tensor(total / count)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        return *(grads[0] / ctx.count * grad for grad in ctx.saved_tensors), *[None] * 7


def entity_loss(
    queries: Tensor,
    entities: Tensor,
    bias: Tensor,
    position: Tensor,
    tail: Tensor,
    loss: Loss = "softmax",
    training: Training = "1vsAll",
    smoothing: float = 0.0,
    similarity: Similarity = PRODUCT,
    weight: Tensor | None = None,
) -> Tensor:
    """The mean loss of the scores `⟨queries, entities⟩ + bias`, given each query's answers.

    The candidates may be the relations, too: any rows that a query is compared with.

    Args:
        queries: `(q, d)` float.
        entities: `(num_entities, d)`, same dtype.
        bias: `(num_entities,)`, same dtype.
        position, tail: `(p,)` int64, ascending in `position`: `tail[i]` answers query
            `position[i]`. Every query has at least one answer, without duplicates.
        loss: `"softmax"` (cross-entropy) or `"bce"` (binary cross-entropy).
        training: `"1vsAll"`: a loss for each answer, with the query's other answers masked; mean
            over answers (Lacroix et al. 2018, with the mask added). `"1vsAll_unmasked"`: without
            the mask; for the softmax alone. `"KvsAll"`: a loss for all answers of a query together;
            mean over queries (Dettmers et al. 2018).
        smoothing: label smoothing ε: the target is mixed with the uniform distribution.
        similarity: what replaces the product in the score, such as a negative distance.
        weight: `(p,)` float, the weight of each answer, above 0; None for 1. The loss of an answer
            is multiplied by its weight, and the mean is by the sum of weights. With `"KvsAll"` a
            query's answers have a share of `1 / K` of its loss each, so a query counts by the mean
            weight of its K answers.

    Returns:
        A scalar with gradients to `queries`, `entities` and `bias`. Under CPU autocast, the three
        matrix products run in autocast's dtype, and the loss in the dtype of the queries.
        Distances stay in the dtype of the queries.
    """
    out: Tensor = _EntityLoss.apply(  # type: ignore[no-untyped-call]
        queries, entities, bias, position, tail, loss, training, smoothing, similarity, weight
    )
    return out
