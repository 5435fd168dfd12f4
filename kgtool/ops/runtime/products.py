"""Matrix products of many rows, in parts of rows that threads share.

The gradient of the small matrix is a sum over all rows. Libraries divide this sum by the number of
threads, which changes its bits. Here it is divided by the number of rows: see
`kgtool.ops.runtime.threads`.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from kgtool.ops.runtime.bfloat16 import product_dtype
from kgtool.ops.runtime.threads import in_threads, product_parts


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, matrix: Tensor) -> Tensor:
        ctx.save_for_backward(x, matrix)
        return row_product(x, matrix)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None]:
        x, matrix = ctx.saved_tensors
        grad = grads[0].contiguous()
        grad_x = row_product(grad, matrix.t()) if ctx.needs_input_grad[0] else None
        if not ctx.needs_input_grad[1]:
            return grad_x, None
        parts = product_parts(len(x), matrix.numel())
        sums = in_threads(lambda part: x[part].t() @ grad[part], parts)
        total = sums[0].float() if sums[0].dtype == torch.bfloat16 else sums[0]
        for each in sums[1:]:
            total += each
        return grad_x, total.to(matrix.dtype)


def row_product(x: Tensor, matrix: Tensor) -> Tensor:
    """`x @ matrix` without a gradient: `(n, k)` and `(k, m)`, of one dtype."""
    parts = product_parts(len(x), matrix.numel())
    if len(parts) <= 1:
        return x @ matrix
    out = x.new_empty(len(x), matrix.shape[1])
    in_threads(lambda part: torch.mm(x[part], matrix, out=out[part]), parts)
    return out


def product(x: Tensor, matrix: Tensor) -> Tensor:
    """`x @ matrix` for many rows `(n, k)` and a small matrix `(k, m)`, with gradients to both.

    Under CPU autocast, the product has autocast's dtype.
    """
    dtype = product_dtype(x)
    out: Tensor = _Product.apply(x.to(dtype), matrix.to(dtype))  # type: ignore[no-untyped-call]
    return out
