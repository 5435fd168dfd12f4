"""Similarities of query states and candidate states: the product, or a negative distance.

Each compares all queries with all candidates. The Euclidean distance needs matrix products only,
`‖q - e‖² = ‖q‖² + ‖e‖² - 2⟨q, e⟩`. The others are sums of absolute values, of real numbers or of
complex ones, which a compiled kernel adds up. No sum depends on the number of threads.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import numba
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from kgtool.ops.runtime.bfloat16 import product_dtype
from kgtool.ops.runtime.compiling import FASTMATH, inlined, match_threads
from kgtool.ops.runtime.products import product
from kgtool.ops.runtime.threads import in_threads, product_parts

# From the gradient of similarities `(q, n)`: adds the gradient of the candidates to a tensor
# `(n, d)`, and returns that of the queries `(q, d)` in the dtype of this tensor.
Pull = Callable[[Tensor, Tensor], Tensor]

# Candidates and queries that a kernel compares before it reads the next ones: they stay in cache.
TILE = 32


class Similarity(ABC):
    """How similar two states are: a higher value is a better score. It is symmetric."""

    @abstractmethod
    def compare(self, queries: Tensor, candidates: Tensor, out: Tensor) -> Pull:
        """Write the similarities of queries and a block of candidates; see `with_gradient`."""

    def with_gradient(
        self, queries: Tensor, candidates: Tensor, out: Tensor
    ) -> tuple[Tensor, Pull]:
        """The similarities of queries `(q, d)` and candidates `(n, d)`, and their gradient.

        Threads share the candidates in blocks, which depend on the sizes only.

        Args:
            queries, candidates: float, of one dtype.
            out: `(q, n)`, same dtype. It takes the similarities, and may be overwritten before
                their gradient is known.
        """
        blocks = product_parts(len(candidates), queries.numel())
        pulls = in_threads(
            lambda block: self.compare(queries, candidates[block], out[:, block]), blocks
        )

        def pull(grad: Tensor, into: Tensor) -> Tensor:
            def of_block(i: int) -> Tensor:
                return pulls[i](grad[:, blocks[i]], into[blocks[i]])

            first, *others = in_threads(of_block, range(len(blocks)))
            return sum(others, first)

        return out, pull

    @abstractmethod
    def scores(self, queries: Tensor, candidates: Tensor, bias: Tensor) -> Tensor:
        """`(q, n)` similarities plus a bias that broadcasts, without gradients of their own.

        An entry does not depend on the other queries and candidates, to the bit, if there are a
        dozen of each.
        """

    @abstractmethod
    def of_rows(self, queries: Tensor, candidates: Tensor) -> Tensor:
        """`(n,)` similarities of each query with the candidate in the same row, by autograd."""

    @abstractmethod
    def best(self, queries: Tensor, row: Tensor, usual: Tensor, longest: float) -> Tensor:
        """States `(n, d)` that are similar to their queries `(q, d)`, on average.

        Args:
            queries: float.
            row: `(q,)` int64, the state of each query, 0 to n - 1.
            usual: the mean similarity to reach, where states may be of any length.
            longest: the largest length of a state.
        """

    def dtype(self, queries: Tensor) -> torch.dtype:
        """The dtype in which queries are compared."""
        return queries.dtype

    def pairs(self, queries: Tensor, candidates: Tensor) -> Tensor:
        """`(q, n)` similarities, with gradients."""
        out: Tensor = _Pairs.apply(queries, candidates, self)  # type: ignore[no-untyped-call]
        return out


class _Pairs(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, queries: Tensor, candidates: Tensor, similarity: Similarity) -> Tensor:
        dtype = similarity.dtype(queries)
        out = queries.new_empty(len(queries), len(candidates), dtype=dtype)
        scores, pull = similarity.with_gradient(queries.to(dtype), candidates.to(dtype), out)
        ctx.pull, ctx.dtypes = pull, (queries.dtype, candidates.dtype)
        ctx.shape = candidates.shape
        return scores

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        of_queries, of_candidates = ctx.dtypes
        into = torch.zeros(ctx.shape, dtype=of_candidates)
        return ctx.pull(grads[0].contiguous(), into).to(of_queries), into, None


class Product(Similarity):
    """`⟨q, e⟩`."""

    def dtype(self, queries: Tensor) -> torch.dtype:
        """Autocast's dtype under CPU autocast."""
        return product_dtype(queries)

    def compare(self, queries: Tensor, candidates: Tensor, out: Tensor) -> Pull:
        """See `Similarity`."""
        torch.mm(queries, candidates.t(), out=out)

        def pull(grad: Tensor, into: Tensor) -> Tensor:
            if grad.dtype == into.dtype:
                into.addmm_(grad.t(), queries)
            else:
                into += grad.t() @ queries
            return (grad @ candidates).to(into.dtype)

        return pull

    def pairs(self, queries: Tensor, candidates: Tensor) -> Tensor:
        """See `Similarity`."""
        return product(queries, candidates.t())

    @torch.no_grad()
    def scores(self, queries: Tensor, candidates: Tensor, bias: Tensor) -> Tensor:
        """See `Similarity`."""
        out = queries.new_empty(len(queries), len(candidates))
        bias = bias.expand(out.shape)

        def score(block: slice) -> None:
            torch.addmm(bias[:, block], queries, candidates[block].t(), out=out[:, block])

        in_threads(score, product_parts(len(candidates), queries.numel()))
        return out

    def of_rows(self, queries: Tensor, candidates: Tensor) -> Tensor:
        """See `Similarity`."""
        return (queries * candidates).sum(1)

    def best(self, queries: Tensor, row: Tensor, usual: Tensor, longest: float) -> Tensor:
        """In the direction of the sum of the queries, all of the length that scores as usual."""
        direction = F.normalize(_sums(queries, row), dim=1)
        scored = self.of_rows(queries, direction[row]).mean()
        return (usual / scored.clamp(min=1e-6)).clamp(min=0, max=longest) * direction


class _Distance(Similarity):
    """A negative distance; products would be too coarse in bfloat16."""

    @torch.no_grad()
    def scores(self, queries: Tensor, candidates: Tensor, bias: Tensor) -> Tensor:
        """See `Similarity`."""
        out = queries.new_empty(len(queries), len(candidates))
        return self.with_gradient(queries, candidates, out)[0] + bias

    def best(self, queries: Tensor, row: Tensor, usual: Tensor, longest: float) -> Tensor:
        """The mean of the queries."""
        sums = _sums(queries, row)
        return sums / torch.bincount(row, minlength=len(sums)).unsqueeze(1)


class Euclidean(_Distance):
    """`-‖q - e‖₂`, also of complex numbers."""

    def compare(self, queries: Tensor, candidates: Tensor, out: Tensor) -> Pull:
        """See `Similarity`."""
        norms = candidates.square().sum(1)
        with torch.autocast("cpu", enabled=False):
            squares = torch.addmm(norms, queries, candidates.t(), alpha=-2)
        squares.add_(queries.square().sum(1, keepdim=True)).clamp_(min=0)
        distance = squares.sqrt_()
        torch.neg(distance, out=out)

        def pull(grad: Tensor, into: Tensor) -> Tensor:
            # Equal states have no direction: their gradient is 0.
            weight = torch.where(distance > 0, grad / distance, 0)
            with torch.autocast("cpu", enabled=False):
                into += weight.t() @ queries - weight.sum(0).unsqueeze(1) * candidates
                return weight @ candidates - weight.sum(1, keepdim=True) * queries

        return pull

    def of_rows(self, queries: Tensor, candidates: Tensor) -> Tensor:
        """See `Similarity`."""
        return -torch.linalg.vector_norm(queries - candidates, dim=1)


class Manhattan(_Distance):
    """`-Σ |q_k - e_k|`; of complex numbers, with all real parts before all imaginary parts.

    Args:
        complex_numbers: `|·|` is the modulus of a complex number.
    """

    def __init__(self, complex_numbers: bool = False) -> None:
        self.complex_numbers = complex_numbers

    def compare(self, queries: Tensor, candidates: Tensor, out: Tensor) -> Pull:
        """See `Similarity`."""
        q, e = queries.detach().contiguous(), candidates.detach().contiguous()
        match_threads()
        _sum_moduli(q.numpy(), e.numpy(), self.complex_numbers, out.numpy())

        def pull(grad: Tensor, into: Tensor) -> Tensor:
            match_threads()
            pulled = torch.zeros_like(q)
            for of, others, weight, sums in (
                (q, e, grad, pulled), (e, q, grad.t().contiguous(), into)
            ):  # fmt: skip
                _pull(
                    of.numpy(), others.numpy(), self.complex_numbers, weight.numpy(), sums.numpy()
                )
            return pulled

        return pull

    def of_rows(self, queries: Tensor, candidates: Tensor) -> Tensor:
        """See `Similarity`."""
        apart = queries - candidates
        if self.complex_numbers:
            real, imaginary = apart.square().chunk(2, dim=1)
            apart = (real + imaginary).clamp(min=1e-30).sqrt()  # its gradient is 0 at 0
        return -apart.abs().sum(1)


PRODUCT = Product()


def _sums(queries: Tensor, row: Tensor) -> Tensor:
    sums = queries.new_zeros(int(row.max()) + 1, queries.shape[1])
    return sums.index_add_(0, row, queries)


@inlined
def _modulus_sum(x, y, complex_numbers):  # type: ignore[no-untyped-def] # pragma: no cover
    total = x.dtype.type(0)
    if complex_numbers:
        half = len(x) // 2
        for k in range(half):
            real, imaginary = x[k] - y[k], x[half + k] - y[half + k]
            total += np.sqrt(real * real + imaginary * imaginary)
    else:
        for k in range(len(x)):
            total += abs(x[k] - y[k])
    return total


@inlined
def _add_gradient(x, y, complex_numbers, weight, into):  # type: ignore[no-untyped-def] # pragma: no cover
    """Add `weight` times the gradient of `-Σ |x - y|` in x; it is 0 where x and y are equal."""
    zero, tiny = x.dtype.type(0), x.dtype.type(1e-30)
    if complex_numbers:
        half = len(x) // 2
        for k in range(half):
            real, imaginary = x[k] - y[k], x[half + k] - y[half + k]
            share = weight / np.sqrt(max(real * real + imaginary * imaginary, tiny))
            into[k] -= share * real
            into[half + k] -= share * imaginary
    else:
        for k in range(len(x)):
            into[k] -= weight if x[k] > y[k] else (-weight if x[k] < y[k] else zero)


@numba.njit(parallel=True, fastmath=FASTMATH, cache=True)
def _sum_moduli(queries, candidates, complex_numbers, out):  # type: ignore[no-untyped-def] # pragma: no cover
    num_queries, num_candidates = out.shape
    for tile in numba.prange((num_candidates + TILE - 1) // TILE):
        for i in range(num_queries):
            for j in range(tile * TILE, min((tile + 1) * TILE, num_candidates)):
                out[i, j] = -_modulus_sum(queries[i], candidates[j], complex_numbers)


@numba.njit(parallel=True, fastmath=FASTMATH, cache=True)
def _pull(of, others, complex_numbers, weight, into):  # type: ignore[no-untyped-def] # pragma: no cover
    """Add up the gradient of each row of `of`, in the order of the other rows."""
    num_rows, num_others = weight.shape
    for tile in numba.prange((num_rows + TILE - 1) // TILE):
        for start in range(0, num_others, TILE):
            for i in range(tile * TILE, min((tile + 1) * TILE, num_rows)):
                for j in range(start, min(start + TILE, num_others)):
                    if weight[i, j] != 0:
                        _add_gradient(of[i], others[j], complex_numbers, weight[i, j], into[i])
