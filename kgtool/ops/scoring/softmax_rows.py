"""Softmax loss and gradient of rows of scores, in one pass over each row.

The gradient of a row overwrites its scores while the row is in the cache. Scores may be bfloat16,
the dtype of the matrix products before and after; all computations in between are float32.
"""

from __future__ import annotations

import math
from typing import Any, Literal

import numba
import numpy as np
from numba.extending import overload
from torch import Tensor

from kgtool.ops.runtime.bfloat16 import bits, read, store_as
from kgtool.ops.runtime.compiling import FASTMATH, INLINED, inlined, match_threads

Training = Literal["1vsAll", "1vsAll_unmasked", "KvsAll"]

# The gradient of the bias is summed in this many groups of rows, in order.
NUM_GROUPS = 8
# The value of a masked score: finite, with weight 0 in a softmax.
MASKED = -1e30


def exp(x: Any) -> Any:
    """`exp(x)` for `x <= 0`."""


@overload(exp, jit_options=INLINED)
def _exp_overload(x):  # type: ignore[no-untyped-def]
    if x == numba.float64:
        return lambda x: math.exp(x)

    # Cody & Waite: 2^n · 2^f with |f| <= 1/2. The compiler can vectorise the polynomial.
    def exp32(x):  # type: ignore[no-untyped-def] # pragma: no cover
        t = max(x * np.float32(1.4426950408889634), np.float32(-126))
        n = np.floor(t + np.float32(0.5))
        f = t - n
        p = np.float32(0.000154035)
        p = p * f + np.float32(0.0013333558)
        p = p * f + np.float32(0.009618129)
        p = p * f + np.float32(0.05550411)
        p = p * f + np.float32(0.2402265)
        p = p * f + np.float32(0.6931472)
        p = p * f + np.float32(1)
        power = np.int32((np.int32(n) + np.int32(127)) << np.int32(23)).view(np.float32)
        return p * power

    return exp32


# The compiler vectorises the maximum only if it may ignore NaN. The sum of the row reports NaN.
@numba.njit(fastmath=FASTMATH | {"nnan"}, forceinline=True, cache=True)
def _peak(row):  # type: ignore[no-untyped-def] # pragma: no cover
    peak = row[0]
    for j in range(len(row)):
        peak = max(peak, row[j])
    return peak


@inlined
def softmax(row):  # type: ignore[no-untyped-def] # pragma: no cover
    """Replace a row by `exp(row - max)`; return its sum, and the log-sum-exp of the scores."""
    peak, total = _peak(row), row.dtype.type(0)
    for j in range(len(row)):
        value = exp(row[j] - peak)
        row[j] = value
        total += value
    return total, peak + np.log(total)


@inlined
def _loss_of_row(row, tails, weights, smoothing, masked, per_answer):  # type: ignore[no-untyped-def] # pragma: no cover
    """The loss of one query; the gradient overwrites the scores."""
    real = row.dtype.type
    num_entities, num_answers = len(row), len(tails)
    sum_all = real(0)
    for j in range(num_entities):
        sum_all += row[j]
    answer = np.empty(num_answers, row.dtype)
    sum_answers = real(0)
    for k in range(num_answers):
        answer[k] = row[tails[k]]
        sum_answers += answer[k]
    loss = sum_all * real(0)  # 0, or NaN if a score is not finite
    if masked:
        # Each answer against all entities except the other answers.
        uniform = real(smoothing / (num_entities + 1 - num_answers))
        for k in range(num_answers):
            row[tails[k]] = real(MASKED)
        total, others = softmax(row)
        mass = real(0)
        if weights is None:
            for k in range(num_answers):
                high = max(others, answer[k])
                log_z = high + np.log(exp(others - high) + exp(answer[k] - high))
                loss += log_z - real(1 - smoothing) * answer[k]
                loss -= uniform * (sum_all - sum_answers + answer[k])
                mass += exp(others - log_z)
                answer[k] = exp(answer[k] - log_z) - real(1 - smoothing) - uniform
            factor, shift = mass / total, uniform * real(num_answers)
        else:
            sum_weights = real(0)
            for k in range(num_answers):
                high, share = max(others, answer[k]), weights[k]
                log_z = high + np.log(exp(others - high) + exp(answer[k] - high))
                loss += share * (log_z - real(1 - smoothing) * answer[k])
                loss -= share * (uniform * (sum_all - sum_answers + answer[k]))
                mass += share * exp(others - log_z)
                answer[k] = share * (exp(answer[k] - log_z) - real(1 - smoothing) - uniform)
                sum_weights += share
            factor, shift = mass / total, uniform * sum_weights
    else:
        # The answers share the target distribution equally.
        share, uniform = real((1 - smoothing) / num_answers), real(smoothing / num_entities)
        total, log_z = softmax(row)
        if weights is None:
            loss += log_z - share * sum_answers - uniform * sum_all
            factor, shift = real(1) / total, uniform
            for k in range(num_answers):
                answer[k] = row[tails[k]] * factor - shift - share
        else:
            # The distribution is by weight, and the row counts by the mean weight.
            mean, weighted = real(0), real(0)
            for k in range(num_answers):
                mean += weights[k] / real(num_answers)
                weighted += weights[k] * answer[k]
            loss += mean * (log_z - uniform * sum_all) - share * weighted
            factor, shift = mean / total, mean * uniform
            for k in range(num_answers):
                answer[k] = row[tails[k]] * factor - shift - share * weights[k]
        if per_answer:  # the sum over answers of the loss of each against all entities
            scale = real(num_answers)
            loss, factor, shift = loss * scale, factor * scale, shift * scale
            for k in range(num_answers):
                answer[k] *= scale
    for j in range(num_entities):
        row[j] = row[j] * factor - shift
    for k in range(num_answers):
        row[tails[k]] = answer[k]
    return loss


@numba.njit(parallel=True, fastmath=FASTMATH, cache=True)
def _rows(scores, bias, first, tail, weight, smoothing, masked, per_answer, losses, grad_bias):  # type: ignore[no-untyped-def] # pragma: no cover
    num_rows, num_entities = scores.shape
    groups = len(grad_bias)
    for group in numba.prange(groups):
        row = np.empty(num_entities, bias.dtype)
        for i in range(group * num_rows // groups, (group + 1) * num_rows // groups):
            for j in range(num_entities):
                row[j] = read(scores[i, j]) + bias[j]
            answers = tail[first[i] : first[i + 1]]
            if weight is None:
                losses[i] = _loss_of_row(row, answers, None, smoothing, masked, per_answer)
            else:
                shares = weight[first[i] : first[i + 1]]
                losses[i] = _loss_of_row(row, answers, shares, smoothing, masked, per_answer)
            for j in range(num_entities):
                grad_bias[group, j] += row[j]
                scores[i, j] = store_as(scores[i, j], row[j])


def softmax_rows(
    scores: Tensor, bias: Tensor, first: Tensor, tail: Tensor, smoothing: float, training: Training,
    weight: Tensor | None = None,
) -> tuple[float, Tensor]:  # fmt: skip
    """The softmax loss of each row; its gradient overwrites the row.

    Args:
        scores: `(q, num_entities)` bfloat16, float32 or float64, contiguous. The gradient of the
            summed loss overwrites them.
        bias: `(num_entities,)` float32, or float64 for float64 scores; added to every row.
        first: `(q + 1,)` int64: the answers of row `i` are `tail[first[i]:first[i + 1]]`, at least
            one.
        tail: `(p,)` int64, without duplicates in a row.
        smoothing: label smoothing ε.
        training: see `kgtool.ops.entity_loss`.
        weight: `(p,)` float, the weight of each answer; None for 1. See `entity_loss`.

    Returns:
        The summed loss, NaN if a score is not finite; and the gradient of the bias,
        `(num_entities,)`.
    """
    match_threads()
    losses = bias.new_empty(len(scores))
    grad_bias = bias.new_zeros(NUM_GROUPS, len(bias))
    _rows(
        bits(scores), bias.numpy(), first.numpy(), tail.numpy(),
        None if weight is None else weight.to(bias.dtype).numpy(), smoothing,
        training == "1vsAll", training == "1vsAll_unmasked",
        losses.numpy(), grad_bias.numpy(),
    )  # fmt: skip
    return float(losses.double().sum()), grad_bias.sum(0)
