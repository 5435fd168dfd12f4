"""The softmax loss of an all-paths pass: each target against all entities, reached or not.

    score(s, q) = ⟨s, q_1⟩ + ⟨relu(V s + b), q_2⟩

Entities that no path reaches all have the state zero, and so one score for each query. The kernel
counts them and does not list them. torch computes the product with `V`. Then a compiled kernel
reads the states twice, for the scores and for the gradients. It makes no tensor of (entities ×
features).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from kgtool.ops.runtime.bfloat16 import bits, product_dtype
from kgtool.ops.runtime.compiling import inlined
from kgtool.ops.runtime.lanes import (
    add,
    fill,
    greater,
    kernel,
    lanes_of,
    load,
    multiply,
    store,
    total,
    where_greater,
    zero,
)
from kgtool.ops.scoring.softmax_rows import MASKED, exp, softmax


@inlined
def _loss_of_row(row, outside, target, masked, others):  # type: ignore[no-untyped-def] # pragma: no cover
    """The loss of a query, and the gradient of `outside`; the gradient overwrites the scores.

    `outside` is the score of an entity that is not reached.
    """
    real, size = row.dtype.type, len(row)
    target_score = row[target] if target < size else outside
    for k in masked:
        row[k] = real(MASKED)
    sum_, inside = softmax(row)
    high = max(inside, outside)
    mass = real(others) * exp(outside - high)
    log_z = high + np.log(exp(inside - high) + mass)
    factor = exp(inside - log_z) / sum_
    for j in range(size):
        row[j] *= factor
    grad_outside = mass * exp(high - log_z)
    if target < size:
        row[target] -= real(1)
    else:
        grad_outside -= real(1)
    return log_z - target_score, grad_outside


@kernel
def _losses(  # type: ignore[no-untyped-def] # pragma: no cover
    states, hiddens, bias, queries, rows, counts, target, first, masked, others, weights,
    losses, grad_states, grad_hiddens, grad_bias, grad_queries, width, width_hidden
):  # fmt: skip
    """Compute the loss of each query, and the gradients of the sum of losses."""
    dims, m = states.shape[1], hiddens.shape[1]
    state, hidden, query = states.reshape(-1), hiddens.reshape(-1), queries.reshape(-1)
    grad_state, grad_hidden = grad_states.reshape(-1), grad_hiddens.reshape(-1)
    grad_query = grad_queries.reshape(-1)
    b, nothing, nothing_hidden = (
        load(bias, 0, width_hidden), zero(bias, width), zero(bias, width_hidden)
    )  # fmt: skip
    nowhere, sum_b = greater(b, nothing_hidden), nothing_hidden
    begin = start = 0
    for head in range(len(rows)):
        size, count = rows[head], counts[head]
        scores = np.empty((count, size), losses.dtype)
        for j in range(size):
            s = load(state, (begin + j) * dims, width)
            h = add(load(hidden, (begin + j) * m, width_hidden), b)
            h = greater(h, nothing_hidden)
            for i in range(count):
                place = (start + i) * (dims + m)
                score = total(multiply(s, load(query, place, width)))
                score += total(multiply(h, load(query, place + dims, width_hidden)))
                scores[i, j] = score
        for i in range(count):
            place = (start + i) * (dims + m) + dims
            q = load(query, place, width_hidden)
            known = masked[first[start + i] : first[start + i + 1]]
            losses[start + i], g = _loss_of_row(
                scores[i], total(multiply(nowhere, q)), target[start + i], known,
                others[start + i],
            )  # fmt: skip
            if weights is not None:
                share = weights[start + i]
                losses[start + i] *= share
                g *= share
                for j in range(size):
                    scores[i, j] *= share
            gs = fill(nothing_hidden, g)
            sum_b = add(sum_b, where_greater(b, nothing_hidden, multiply(gs, q)))
            store(grad_query, place - dims, nothing)
            store(grad_query, place, multiply(gs, nowhere))
        for j in range(size):
            s = load(state, (begin + j) * dims, width)
            h = add(load(hidden, (begin + j) * m, width_hidden), b)
            h = greater(h, nothing_hidden)
            g_s, g_h = nothing, nothing_hidden
            for i in range(count):
                place = (start + i) * (dims + m)
                g = fill(nothing, scores[i, j])
                g_s = add(g_s, multiply(g, load(query, place, width)))
                store(grad_query, place, add(load(grad_query, place, width), multiply(g, s)))
                place += dims
                g = fill(nothing_hidden, scores[i, j])
                g_h = add(g_h, multiply(g, load(query, place, width_hidden)))
                g_q = add(load(grad_query, place, width_hidden), multiply(g, h))
                store(grad_query, place, g_q)
            g_h = where_greater(h, nothing_hidden, g_h)
            sum_b = add(sum_b, g_h)
            store(grad_state, (begin + j) * dims, g_s)
            store(grad_hidden, (begin + j) * m, g_h)
        begin += size
        start += count
    store(grad_bias, 0, sum_b)


class _PathLoss(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, state: Tensor, weight: Tensor, bias: Tensor, queries: Tensor, rows: Tensor,
        counts: Tensor, target: Tensor, first: Tensor, masked: Tensor, others: Tensor,
        weights: Tensor | None,
    ) -> Tensor:  # fmt: skip
        weight = weight.to(product_dtype(state))
        hidden = state @ weight.t()
        losses, grad_queries = queries.new_empty(len(queries)), torch.empty_like(queries)
        grad_state, grad_hidden = torch.empty_like(state), torch.empty_like(hidden)
        grad_bias = torch.empty_like(bias)
        reached = int(rows.sum())
        grad_state[reached:], grad_hidden[reached:] = 0, 0
        _losses(
            bits(state), bits(hidden), bits(bias), bits(queries), rows.numpy(), counts.numpy(),
            target.numpy(), first.numpy(), masked.numpy(), others.numpy(),
            None if weights is None else weights.to(losses.dtype).numpy(), bits(losses),
            bits(grad_state), bits(grad_hidden), bits(grad_bias), bits(grad_queries),
            lanes_of(state.shape[1]), lanes_of(len(bias)),
        )  # fmt: skip
        ctx.save_for_backward(state, weight, grad_state, grad_hidden, grad_bias, grad_queries)
        return losses.sum()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        state, weight, grad_state, grad_hidden, grad_bias, grad_queries = ctx.saved_tensors
        scale = grads[0]
        if float(scale) != 1:
            grad_state, grad_hidden = grad_state * scale, grad_hidden * scale
            grad_bias, grad_queries = grad_bias * scale, grad_queries * scale
        grad_weight = (grad_hidden.t() @ state).to(grad_bias.dtype)
        grad_state = torch.addmm(grad_state, grad_hidden, weight)
        return grad_state, grad_weight, grad_bias, grad_queries, *[None] * 7


def path_loss(
    state: Tensor,
    weight: Tensor,
    bias: Tensor,
    queries: Tensor,
    rows: Tensor,
    counts: Tensor,
    target: Tensor,
    first: Tensor,
    masked: Tensor,
    others: Tensor,
    weights: Tensor | None = None,
) -> Tensor:
    """Sum over queries of `log Σ_t exp(score(s_t, q)) - score(s_target, q)`.

    A compiled kernel computes it on the CPU; torch's operations compute it on other devices.

    Args:
        state: `(T, d)` float: the states of the entities reached from each head, one head after the
            other; then at least one row of zeros.
        weight, bias: `(m, d)` and `(m,)`: V and b.
        queries: `(q, d + m)` float, `[q_1, q_2]`, one head after the other.
        rows, counts: `(B,)` int64, the number of states and of queries of each head.
        target: `(q,)` int64: the row of the target, counted from its head's first row. A target
            that is not reached has any number from the head's number of rows on.
        first: `(q + 1,)` int64: the masked rows of query `i` are `masked[first[i]:first[i + 1]]`.
        masked: int64: the rows of the query's other known answers that its head reaches, counted
            from the head's first row. They are excluded from the loss.
        others: `(q,)` int64: the number of entities that are not reached and not masked, including
            the target if it is not reached.
        weights: `(q,)` float, the factor of each query's loss; None for 1.

    Returns:
        A scalar with gradients to the four tensors of floats. Under CPU autocast, products run in
        autocast's dtype, and the loss in float32.

    Raises:
        TypeError: if `queries` are bfloat16, which the kernel does not read.
    """
    if queries.dtype == torch.bfloat16:
        raise TypeError("path_loss: the queries are bfloat16, not float32")
    arguments = (
        state.contiguous(), weight, bias, queries.contiguous(), rows, counts, target, first,
        masked, others, weights,
    )  # fmt: skip
    if state.device.type != "cpu":
        return torch_path_loss(*arguments)
    loss: Tensor = _PathLoss.apply(*arguments)  # type: ignore[no-untyped-call]
    return loss


def torch_path_loss(
    state: Tensor,
    weight: Tensor,
    bias: Tensor,
    queries: Tensor,
    rows: Tensor,
    counts: Tensor,
    target: Tensor,
    first: Tensor,
    masked: Tensor,
    others: Tensor,
    weights: Tensor | None = None,
) -> Tensor:
    """`path_loss` in torch's operations, on the device of its floats."""
    features = torch.cat([state, torch.relu(state @ weight.t() + bias)], dim=1)
    outside = queries @ features[-1]
    position = torch.repeat_interleave(first.diff())  # the query of each masked row
    losses, query = [], 0
    reached = features[: int(rows.sum())].split(rows.tolist())
    for rows_of_head, queries_of_head in zip(reached, queries.split(counts.tolist()), strict=True):
        size, scores = len(rows_of_head), queries_of_head @ rows_of_head.t()
        here = slice(query, query + len(queries_of_head))
        mine = (position >= here.start) & (position < here.stop)
        known = ((position[mine] - query).to(scores.device), masked[mine].to(scores.device))
        row = target[here].to(scores.device)
        own = scores.gather(1, row.clamp(max=size - 1).unsqueeze(1)).squeeze(1)
        own = torch.where(row < size, own, outside[here])
        scores = scores.index_put(known, scores.new_tensor(MASKED))
        rest = outside[here] + others[here].to(scores).log()
        log_z = torch.logsumexp(torch.cat([scores, rest.unsqueeze(1)], dim=1), dim=1)
        each = log_z - own
        losses.append((each if weights is None else each * weights[here].to(each)).sum())
        query += len(queries_of_head)
    return torch.stack(losses).sum()
