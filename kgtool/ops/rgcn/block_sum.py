"""The neighbour sum of a block-diagonal R-GCN layer, without a product per edge.

`out[v] = Σ_r (Σ_{e: u→v, type r} scale[e] · x[u]) W_r`, with `W_r` block-diagonal.

By linearity, the kernel first sums each (destination, type) group and then multiplies it once.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
import torch
from torch import Tensor

from kgtool.ops.graph.csc import CSC
from kgtool.ops.runtime.compiling import FASTMATH, inlined, match_threads

# The gradient of the blocks is summed in this number of copies, in order: a copy a group of chunks.
NUM_COPIES = 8


@inlined
def _multiply(blocks, type_, total, out, row):  # type: ignore[no-untyped-def] # pragma: no cover
    """`out[row] += total · blocks[type_]`, block by block."""
    size = blocks.shape[2]
    for block in range(blocks.shape[1]):
        first = block * size
        for i in range(size):
            value = total[first + i]
            for j in range(size):
                out[row, first + j] += value * blocks[type_, block, i, j]


@numba.njit(parallel=True, fastmath=FASTMATH, cache=True)
def _forward(chunks, offsets, source, type_, scale, blocks, x, out):  # type: ignore[no-untyped-def] # pragma: no cover
    dims = x.shape[1]
    for chunk in numba.prange(len(chunks) - 1):
        total, summed = np.zeros(dims, x.dtype), 0
        for v in range(chunks[chunk], chunks[chunk + 1]):
            for e in range(offsets[v], offsets[v + 1]):
                if scale[e] != 0:
                    u = source[e]
                    summed += 1
                    for d in range(dims):
                        total[d] += scale[e] * x[u, d]
                if summed and (e + 1 == offsets[v + 1] or type_[e + 1] != type_[e]):
                    _multiply(blocks, type_[e], total, out, v)
                    total[:], summed = 0, 0


@numba.njit(parallel=True, fastmath=FASTMATH, cache=True)
def _backward(  # type: ignore[no-untyped-def] # pragma: no cover
    chunks, offsets, edge, destination, type_, scale, transposed, x, grad_out, grad_x, grad_blocks
):
    dims, size = x.shape[1], transposed.shape[2]
    copies = len(grad_blocks)
    for copy in numba.prange(copies):
        first_chunk = copy * (len(chunks) - 1) // copies
        last_chunk = (copy + 1) * (len(chunks) - 1) // copies
        total, summed = np.zeros(dims, x.dtype), 0
        for u in range(chunks[first_chunk], chunks[last_chunk]):
            for j in range(offsets[u], offsets[u + 1]):
                e, v = edge[j], destination[j]
                if scale[e] != 0:
                    summed += 1
                    for d in range(dims):
                        total[d] += scale[e] * grad_out[v, d]
                if summed and (j + 1 == offsets[u + 1] or type_[edge[j + 1]] != type_[e]):
                    _multiply(transposed, type_[e], total, grad_x, u)
                    for block in range(transposed.shape[1]):
                        first = block * size
                        for i in range(size):
                            value = x[u, first + i]
                            for k in range(size):
                                grad_blocks[copy, type_[e], block, i, k] += value * total[first + k]
                    total[:], summed = 0, 0


class _BlockSum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, blocks: Tensor, scale: Tensor, edges: CSC) -> Tensor:
        match_threads()
        out = x.new_zeros(edges.num_destinations, x.shape[1])
        _forward(
            edges.chunks, edges.offsets, edges.source, edges.type,
            scale.numpy(), blocks.detach().numpy(), x.detach().numpy(), out.numpy(),
        )  # fmt: skip
        ctx.edges = edges
        ctx.save_for_backward(x, blocks, scale)
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None, None]:
        x, blocks, scale = ctx.saved_tensors
        edges: CSC = ctx.edges
        back = edges.reverse
        match_threads()
        grad_x = torch.zeros_like(x)
        grad_blocks = x.new_zeros(NUM_COPIES, *blocks.shape)
        _backward(
            back.chunks, back.offsets, back.edge, back.destination, edges.type, scale.numpy(),
            blocks.detach().transpose(2, 3).contiguous().numpy(), x.detach().numpy(),
            grads[0].contiguous().numpy(), grad_x.numpy(), grad_blocks.numpy(),
        )  # fmt: skip
        return grad_x, grad_blocks.sum(0), None, None


def block_sum(x: Tensor, blocks: Tensor, scale: Tensor, edges: CSC) -> Tensor:
    """Sum over in-edges with block-diagonal matrices; gradients go to `x` and `blocks`.

    Args:
        x: `(num_sources, num_blocks · k)` float32 or float64.
        blocks: `(num_types, num_blocks, k, k)`, same dtype: the diagonal blocks of each `W_r`
            (R-GCN's equation 4); `x` is a row vector on their left.
        scale: `(e,)`, same dtype, no gradient: `1 / c_{v,r}`; scale 0 excludes an edge.
        edges: the edges, sorted by destination, then type.

    Returns:
        `(num_destinations, num_blocks · k)`.

    Raises:
        ValueError: if shapes or dtypes do not fit.
    """
    edges.check(x, scale, len(blocks))
    num_types, num_blocks, size = blocks.shape[:3]
    if blocks.shape != (num_types, num_blocks, size, size) or x.shape[1] != num_blocks * size:
        raise ValueError(f"x {tuple(x.shape)} does not fit blocks {tuple(blocks.shape)}")
    if x.dtype != blocks.dtype:
        raise ValueError(f"dtypes differ: {x.dtype}, {blocks.dtype}")
    out: Tensor = _BlockSum.apply(x.contiguous(), blocks.contiguous(), scale, edges)  # type: ignore[no-untyped-call]
    return out
