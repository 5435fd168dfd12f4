"""Rows of a table with a sparse gradient, and common sizes for matrix products."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


class _Rows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, table: Tensor, ids: Tensor) -> Tensor:
        ctx.shape = table.shape
        ctx.save_for_backward(ids)
        return table.index_select(0, ids)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        (ids,) = ctx.saved_tensors
        gradient = torch.sparse_coo_tensor(
            ids.unsqueeze(0), grads[0], ctx.shape, check_invariants=False, is_coalesced=True
        )
        return gradient, None


def rows(table: Tensor, ids: Tensor) -> Tensor:
    """The rows of a table at `ids`, with a gradient that holds only these rows.

    Args:
        table: `(N, ...)` float.
        ids: `(n,)` int64, ascending, without duplicates.

    Returns:
        `(n, ...)`. The gradient of the table is a coalesced sparse tensor of these rows.
    """
    out: Tensor = _Rows.apply(table, ids)  # type: ignore[no-untyped-call]
    return out


def common_size(count: int) -> int:
    """A size greater than `count` that many similar counts share.

    Libraries of matrix products compile a program for each new shape. Compiling takes longer than
    running it. They also keep a thousand such programs, which fragment the free memory.
    """
    grid = max(16, 1 << max(0, count.bit_length() - 5))
    return (count // grid + 1) * grid
