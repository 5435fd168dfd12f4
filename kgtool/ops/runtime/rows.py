"""Rows of a table with a sparse gradient, and common sizes for matrix products."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


class _Rows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, table: Tensor, ids: Tensor, distinct: bool) -> Tensor:
        ctx.shape, ctx.distinct = table.shape, distinct
        ctx.save_for_backward(ids)
        return table.index_select(0, ids)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        (ids,) = ctx.saved_tensors
        gradient = torch.sparse_coo_tensor(
            ids.unsqueeze(0), grads[0], ctx.shape, check_invariants=False,
            is_coalesced=ctx.distinct,
        )  # fmt: skip
        return gradient, None, None


def rows(table: Tensor, ids: Tensor) -> Tensor:
    """The rows of a table at `ids`, with a gradient that holds only these rows.

    Args:
        table: `(N, ...)` float.
        ids: `(n,)` int64, ascending, without duplicates.

    Returns:
        `(n, ...)`. The gradient of the table is a coalesced sparse tensor of these rows.
    """
    out: Tensor = _Rows.apply(table, ids, True)  # type: ignore[no-untyped-call]
    return out


def rows_of_whole(table: Tensor, ids: Tensor) -> Tensor:
    """The rows of a table at `ids`, where another loss gives a gradient to the whole table.

    This gradient is sparse, and torch adds it to the other one. The gradient of `index_select`
    would be a second table of zeros, written and read at each step.

    Args:
        table: `(N, ...)` float.
        ids: `(n,)` int64, in any order.

    Returns:
        `(n, ...)`.
    """
    out: Tensor = _Rows.apply(table, ids, False)  # type: ignore[no-untyped-call]
    return out


def common_size(count: int) -> int:
    """A size greater than `count` that many similar counts share.

    Libraries of matrix products compile a program for each new shape. Compiling takes longer than
    running it. They also keep a thousand such programs, which fragment the free memory.
    """
    grid = max(16, 1 << max(0, count.bit_length() - 5))
    return (count // grid + 1) * grid
