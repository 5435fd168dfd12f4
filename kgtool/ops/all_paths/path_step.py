"""One step of an all-paths pass: messages along all reached edges, then a GRU at each entity.

    m_v = normalise([mean, deviation] of { ω · s_u ⊙ w_r : (u, r)→v }),   s_v' = GRU(m_v, s_v)

where ω is the weight of the edge, 1 for edges without weights.

Compiled kernels compute the messages and the gates, each in one pass over the rows. torch computes
the matrix product between them.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from kgtool.ops.all_paths.gru_gates import gates, gates_backward
from kgtool.ops.all_paths.path_messages import gather, scatter, spread
from kgtool.ops.all_paths.path_step_torch import torch_path_step
from kgtool.ops.all_paths.reach import Reach
from kgtool.ops.all_paths.region import Region
from kgtool.ops.runtime.bfloat16 import bits, product_dtype
from kgtool.ops.runtime.lanes import lanes_of


class _PathStep(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        state: Tensor,
        weight: Tensor,
        scaler: Tensor,
        matrix: Tensor,
        bias: Tensor,
        context: Tensor,
        reach: Reach | Region,
        step: int,
    ) -> Tensor:
        dims, num_rows, padded = state.shape[1], reach.rows(step), reach.padded_rows(step)
        width = lanes_of(dims)
        dtype = product_dtype(weight)
        weight = weight.to(dtype)
        rows = state.new_empty(padded, 3 * dims, dtype=dtype)
        rows[num_rows:] = 0
        about = scaler.new_empty(num_rows, 4)
        for heads, arrays in reach.gathered(step):
            gather(
                *arrays, bits(weight), context.numpy()[heads], bits(state), bits(scaler),
                bits(rows), bits(about), width,
            )  # fmt: skip
        matrix = matrix.to(dtype)
        products = rows @ matrix
        new = state.new_empty(padded, dims, dtype=dtype)
        new[num_rows:] = 0
        gates(bits(rows), bits(products), bits(bias), bits(new[:num_rows]), width)
        ctx.reach, ctx.step = reach, step
        ctx.save_for_backward(
            state, weight, scaler, matrix, context, rows, about, products
        )  # fmt: skip
        return new

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        state, weight, scaler, matrix, context, rows, about, products = ctx.saved_tensors
        reach: Reach | Region = ctx.reach
        dims, num_rows, padded = state.shape[1], reach.rows(ctx.step), len(rows)
        width = lanes_of(dims)
        grad_direct = rows.new_empty(num_rows, dims)
        grad_bias = scaler.new_empty(4 * dims)
        grad_products = products.new_empty(padded, 4 * dims)
        grad_products[num_rows:] = 0
        gates_backward(
            bits(rows), bits(products), bits(grads[0][:num_rows].contiguous()),
            bits(grad_products), bits(grad_direct), bits(grad_bias), width,
        )  # fmt: skip
        grad_rows = grad_products @ matrix.t()
        grad_matrix = rows.t() @ grad_products
        grad_sums = rows.new_empty(num_rows, 2 * dims)
        grad_state = torch.empty_like(state)
        grad_state[reach.rows(ctx.step - 1) :] = 0
        grad_scalers = scaler.new_empty(reach.num_heads, *scaler.shape)
        spread(
            reach.first[ctx.step - 1], reach.first[ctx.step], bits(rows), bits(grad_rows),
            bits(about), bits(scaler), bits(grad_direct), bits(grad_sums), bits(grad_state),
            bits(grad_scalers), width,
        )  # fmt: skip
        grad_weights = scaler.new_zeros(reach.num_heads, *weight.shape[1:])
        for heads, arrays in reach.scattered(ctx.step):
            scatter(
                *arrays, bits(weight), context.numpy()[heads], bits(state), bits(grad_sums),
                bits(grad_state), bits(grad_weights[heads]), width,
            )  # fmt: skip
        grad_weight = scaler.new_zeros(weight.shape).index_add_(0, context, grad_weights)
        return (
            grad_state, grad_weight, grad_scalers.sum(0), grad_matrix.to(scaler.dtype),
            grad_bias, None, None, None,
        )  # fmt: skip


def path_step(
    state: Tensor,
    weight: Tensor,
    scaler: Tensor,
    matrix: Tensor,
    bias: Tensor,
    context: Tensor,
    reach: Reach | Region,
    step: int,
) -> Tensor:
    """The states after one more step, with gradients to all five tensors of floats.

    Compiled kernels compute it on the CPU. torch's operations compute it on other devices, but
    not for a pass on a node budget.

    Args:
        state: `(rows(step - 1), d)` float32 or float64, or the bfloat16 of a step before: the
            states of the entities reached so far. Further rows are not read.
        weight: `(C, R, d)` float32 or float64: `w_r`, including inverses, in C contexts.
        scaler: `(2, d)`: α of the messages' mean and of their standard deviation.
        matrix: `(3 · d, 4 · d)`: from `[mean, deviation, state]` to `[z, r, x, s]`. For a GRU, the
            blocks from the messages to `s` and from the state to `x` must be zero.
        bias: `(4 · d,)`.
        context: `(B,)` int64: the context of each head's pass.
        reach: the reached entities; a `Region` for a pass on a node budget.
        step: 1 to L.

    Returns:
        `(padded_rows(step), d)`, same dtype; rows from `rows(step)` on are zero. Under CPU
        autocast, the matrix product, its input and its output have autocast's dtype, and all sums
        are float32.

    Raises:
        TypeError: if `weight` is bfloat16, which the kernels do not read.
    """
    if weight.dtype == torch.bfloat16:
        raise TypeError("path_step: the weights of relations are bfloat16, not float32")
    if state.device.type != "cpu" and isinstance(reach, Reach):
        return torch_path_step(state, weight, scaler, matrix, bias, context, reach, step)
    new: Tensor = _PathStep.apply(  # type: ignore[no-untyped-call]
        state.contiguous(), weight.contiguous(), scaler.contiguous(), matrix.contiguous(),
        bias.contiguous(), context, reach, step,
    )  # fmt: skip
    return new
