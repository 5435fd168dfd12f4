"""The sparse half of a basis R-GCN layer: the weighted neighbour sums of all bases in one pass.

`out[v, b] = Σ_{e: u→v} scale[e] · coefficients[type[e], b] · x[u]`

The kernel reads the edges once for any number of bases, and makes no tensor of (edges × dims). It
adds in a fixed order, so the result does not depend on the number of threads.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
import torch
from torch import Tensor

from kgtool.ops.graph.csc import CSC
from kgtool.ops.runtime.bfloat16 import bits, product_dtype, read, store_as
from kgtool.ops.runtime.compiling import FASTMATH, match_threads


@numba.njit(parallel=True, fastmath=FASTMATH, cache=True)
def _forward(chunks, offsets, source, type_, scale, coefficients, x, out):  # type: ignore[no-untyped-def] # pragma: no cover
    bases, dims = out.shape[1], out.shape[2]
    for chunk in numba.prange(len(chunks) - 1):
        total = np.empty((bases, dims), scale.dtype)
        for v in range(chunks[chunk], chunks[chunk + 1]):
            total[:] = 0
            for e in range(offsets[v], offsets[v + 1]):
                if scale[e] == 0:
                    continue
                u = source[e]
                for b in range(bases):
                    weight = scale[e] * coefficients[type_[e], b]
                    for d in range(dims):
                        total[b, d] += weight * read(x[u, d])
            for b in range(bases):
                for d in range(dims):
                    out[v, b, d] = store_as(out[v, b, d], total[b, d])


@numba.njit(parallel=True, fastmath=FASTMATH, cache=True)
def _backward(  # type: ignore[no-untyped-def] # pragma: no cover
    chunks, offsets, edge, destination, type_, scale, coefficients, x, grad_out, grad_x, grad_c
):
    bases, dims = grad_out.shape[1], grad_out.shape[2]
    for chunk in numba.prange(len(chunks) - 1):
        for u in range(chunks[chunk], chunks[chunk + 1]):
            for j in range(offsets[u], offsets[u + 1]):
                e = edge[j]
                if scale[e] == 0:
                    continue
                v = destination[j]
                for b in range(bases):
                    weight = scale[e] * coefficients[type_[e], b]
                    dot = scale.dtype.type(0)
                    for d in range(dims):
                        grad = read(grad_out[v, b, d])
                        grad_x[u, d] += weight * grad
                        dot += grad * read(x[u, d])
                    grad_c[chunk, type_[e], b] += scale[e] * dot


class _RelationalSum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, coefficients: Tensor, scale: Tensor, edges: CSC) -> Tensor:
        match_threads()
        x = x.to(product_dtype(x))
        out = x.new_empty(edges.num_destinations, coefficients.shape[1], x.shape[1])
        _forward(
            edges.chunks, edges.offsets, edges.source, edges.type,
            scale.numpy(), coefficients.detach().numpy(), bits(x), bits(out),
        )  # fmt: skip
        ctx.edges = edges
        ctx.save_for_backward(x, coefficients, scale)
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None, None]:
        x, coefficients, scale = ctx.saved_tensors
        edges: CSC = ctx.edges
        back = edges.reverse
        match_threads()
        grad_x = scale.new_zeros(x.shape)
        grad_coefficients = scale.new_zeros(len(back.chunks) - 1, *coefficients.shape)
        _backward(
            back.chunks, back.offsets, back.edge, back.destination, edges.type,
            scale.numpy(), coefficients.detach().numpy(), bits(x), bits(grads[0].contiguous()),
            grad_x.numpy(), grad_coefficients.numpy(),
        )  # fmt: skip
        return grad_x, grad_coefficients.sum(0), None, None


def relational_sum(x: Tensor, coefficients: Tensor, scale: Tensor, edges: CSC) -> Tensor:
    """Sum over in-edges, weighted for each basis; gradients go to `x` and `coefficients`.

    Args:
        x: `(num_sources, d)` float32 or float64, contiguous.
        coefficients: `(num_types, num_bases)`, same dtype: `a_{rb}` of R-GCN's equation 3.
        scale: `(e,)`, same dtype, no gradient: `1 / c_{v,r}` of equation 2; scale 0 excludes an
            edge.
        edges: the edges.

    Returns:
        `(num_destinations, num_bases, d)`: `Σ_{e: u→v} scale[e] · coefficients[type[e]] ⊗ x[u]`.
        Under CPU autocast, the result and the values read from `x` have autocast's dtype, and sums
        are float32.

    Raises:
        ValueError: if shapes or dtypes do not fit the edges.
    """
    edges.check(x, scale, len(coefficients))
    if x.dtype != coefficients.dtype:
        raise ValueError(f"dtypes differ: {x.dtype}, {coefficients.dtype}")
    out: Tensor = _RelationalSum.apply(x.contiguous(), coefficients.contiguous(), scale, edges)  # type: ignore[no-untyped-call]
    return out
