"""The softmax loss of an all-paths pass: each target against every entity, reached or not.

Entities that no path reaches share one state, zero, and so one score a query: they are counted, not
listed. A row of scores becomes its own gradient while it lies in the cache.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
import torch
from torch import Tensor

from kgtool.ops.bfloat16 import bits, product_dtype, read, store_as
from kgtool.ops.incidence import FASTMATH, match_threads
from kgtool.ops.softmax_rows import MASKED, exp, softmax


@numba.njit(parallel=True, fastmath=FASTMATH, cache=True)
def _rows(scores, outside, target, first, masked, unreached, losses, grad_outside):  # type: ignore[no-untyped-def] # pragma: no cover
    num_rows, size = scores.shape
    for i in numba.prange(num_rows):
        real = losses.dtype.type
        row = np.empty(size, losses.dtype)
        for j in range(size):
            row[j] = read(scores[i, j])
        reached = target[i] < size
        told = row[target[i]] if reached else outside[i]
        others = unreached
        for k in range(first[i], first[i + 1]):
            if masked[k] < size:
                row[masked[k]] = real(MASKED)
            else:
                others -= 1
        total, inside = softmax(row)
        high = max(inside, outside[i])
        mass = real(others) * exp(outside[i] - high)
        log_z = high + np.log(exp(inside - high) + mass)
        losses[i] = log_z - told
        factor = exp(inside - log_z) / total
        for j in range(size):
            row[j] *= factor
        grad_outside[i] = mass * exp(high - log_z)
        if reached:
            row[target[i]] -= real(1)
        else:
            grad_outside[i] -= real(1)
        for j in range(size):
            scores[i, j] = store_as(scores[i, j], row[j])


class _PathLoss(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, features: Tensor, queries: Tensor, rows: list[int], counts: list[int],
        target: Tensor, first: Tensor, masked: Tensor, num_entities: int,
    ) -> Tensor:  # fmt: skip
        match_threads()
        dtype = product_dtype(features)
        f, q = features.to(dtype), queries.to(dtype)
        real = torch.float64 if dtype == torch.float64 else torch.float32
        outside = (q @ f[-1]).to(real)
        grad_f, grad_q = torch.empty_like(f), torch.empty_like(queries)
        grad_outside, losses = torch.empty_like(outside), torch.empty_like(outside)
        row = query = 0
        for size, count in zip(rows, counts, strict=True):
            states, asked = f[row : row + size], q[query : query + count]
            scores = asked @ states.t()  # (count, size)
            part = slice(query, query + count)
            _rows(
                bits(scores), bits(outside[part]), target[part].numpy(),
                first[query : query + count + 1].numpy(), masked.numpy(), num_entities - size,
                bits(losses[part]), bits(grad_outside[part]),
            )  # fmt: skip
            torch.mm(scores.t(), asked, out=grad_f[row : row + size])
            grad_q[part] = scores @ states
            row, query = row + size, query + count
        grad_f[-1] = (grad_outside.unsqueeze(1) * q).sum(0)
        grad_q += grad_outside.unsqueeze(1) * f[-1]
        ctx.save_for_backward(grad_f, grad_q)
        ctx.count, ctx.dtype = len(queries), features.dtype
        return losses.mean().to(queries.dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        grad_f, grad_q = ctx.saved_tensors
        scale = grads[0] / ctx.count
        return (grad_f * scale).to(ctx.dtype), grad_q * scale, *[None] * 6


def path_loss(
    features: Tensor,
    queries: Tensor,
    rows: list[int],
    counts: list[int],
    target: Tensor,
    first: Tensor,
    masked: Tensor,
    num_entities: int,
) -> Tensor:
    """Mean over queries of `log Σ_t exp(⟨features[t], query⟩) - ⟨features[target], query⟩`.

    Args:
        features: `(T + 1, m)` float: of the entities reached from each head, one head after the
            other; the last row is that of every entity not reached.
        queries: `(q, m)` float, one head after the other.
        rows, counts: rows and queries of each head.
        target: `(q,)` int64: the target's row among its head's, or at least that head's number of
            rows where it is not reached.
        first: `(q + 1,)` int64 into `masked`.
        masked: int64 rows, as of `target`, that count neither for nor against a query: its other
            known answers.
        num_entities: N.

    Returns:
        A scalar with gradients to `features` and `queries`. Under CPU autocast products run in its
        dtype, the loss in float32.
    """
    if features.device.type != "cpu":
        return torch_path_loss(features, queries, rows, counts, target, first, masked, num_entities)
    loss: Tensor = _PathLoss.apply(  # type: ignore[no-untyped-call]
        features.contiguous(), queries.contiguous(), rows, counts, target, first, masked,
        num_entities,
    )  # fmt: skip
    return loss


def torch_path_loss(
    features: Tensor,
    queries: Tensor,
    rows: list[int],
    counts: list[int],
    target: Tensor,
    first: Tensor,
    masked: Tensor,
    num_entities: int,
) -> Tensor:
    """`path_loss` in torch's operations, on whatever device its floats are."""
    outside = queries @ features[-1]
    position = torch.repeat_interleave(first.diff())  # the query that each masked row is of
    losses, query = [], 0
    parts = zip(features[:-1].split(rows), queries.split(counts), strict=True)
    for (states, asked), size in zip(parts, rows, strict=True):
        scores = asked @ states.t()
        here = slice(query, query + len(asked))
        mine = (position >= here.start) & (position < here.stop)
        i, known = position[mine] - query, masked[mine]
        inside = known < size
        others = num_entities - size - torch.bincount(i[~inside], minlength=len(asked))
        told = target[here].to(scores.device)
        reached = (told < size).unsqueeze(1)
        own = scores.gather(1, told.clamp(max=size - 1).unsqueeze(1))
        own = torch.where(reached, own, outside[here].unsqueeze(1))
        where = (i[inside].to(scores.device), known[inside].to(scores.device))
        scores = scores.index_put(where, scores.new_tensor(MASKED))
        rest = outside[here] + others.to(scores).log()
        total = torch.logsumexp(torch.cat([scores, rest.unsqueeze(1)], dim=1), dim=1)
        losses.append(total - own.squeeze(1))
        query += len(asked)
    return torch.cat(losses).mean()
