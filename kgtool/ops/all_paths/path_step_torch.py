"""A step of an all-paths pass in torch's operations, for a GPU or any other device.

It computes the same numbers as the compiled kernels for the CPU; see
`kgtool.ops.all_paths.path_step`. It makes and adds up the messages of a chunk of edges at a time,
and makes them again for the gradient.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn

from kgtool.ops.all_paths.path_messages import EPSILON, LEAST_VARIANCE
from kgtool.ops.all_paths.reach import Reach
from kgtool.ops.graph.csc import CSC, in_edges

# Edges per chunk: at 32 dims of float32, their messages take 128 MiB.
EDGES = 1 << 20


class _Moments(torch.autograd.Function):
    """Sums of the messages `ω · s[source] ⊙ w[kind]` of each row, and of their squares."""

    @staticmethod
    def forward(
        ctx: Any, state: Tensor, weight: Tensor, source: Tensor, kind: Tensor, row: Tensor,
        num_rows: int, confidence: Tensor | None,
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        sums = state.new_zeros(num_rows, state.shape[1])
        squares = torch.zeros_like(sums)
        for part in _chunks(len(row)):
            message = state[source[part]] * weight[kind[part]]
            if confidence is not None:
                message = message * confidence[part]
            sums.index_add_(0, row[part], message)
            squares.index_add_(0, row[part], message.square())
        ctx.save_for_backward(state, weight, source, kind, row, confidence)
        return sums, squares

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        state, weight, source, kind, row, confidence = ctx.saved_tensors
        grad_state, grad_weight = torch.zeros_like(state), torch.zeros_like(weight)
        for part in _chunks(len(row)):
            s, w = state[source[part]], weight[kind[part]]
            if confidence is None:
                g = grads[0][row[part]] + 2 * s * w * grads[1][row[part]]
            else:
                share = confidence[part]
                g = share * (grads[0][row[part]] + 2 * share * s * w * grads[1][row[part]])
            grad_state.index_add_(0, source[part], g * w)
            grad_weight.index_add_(0, kind[part], g * s)
        return grad_state, grad_weight, None, None, None, None, None


def _chunks(count: int) -> list[slice]:
    return [slice(start, start + EDGES) for start in range(0, count, EDGES)]


def torch_path_step(
    state: Tensor,
    weight: Tensor,
    scaler: Tensor,
    matrix: Tensor,
    bias: Tensor,
    context: Tensor,
    reach: Reach,
    step: int,
) -> Tensor:
    """`kgtool.ops.all_paths.path_step.path_step` on the device of its tensors.

    In addition to the states, it stores three numbers for each edge for the gradient. On a GPU the
    order of additions is not fixed, so two runs differ in the last digits.
    """
    source, row, kind, position, edge, degree, old_row = _edges(reach, step, state.device)
    confidence = None
    if reach.edges.weight is not None:
        every = torch.from_numpy(reach.edges.weight).to(state.device, state.dtype)
        confidence = every[edge].unsqueeze(1)
    kind = kind + context.to(state.device)[position] * weight.shape[1]
    sums, squares = _Moments.apply(  # type: ignore[no-untyped-call]
        state, weight.flatten(0, 1), source, kind, row, len(degree), confidence
    )
    before = state[: reach.rows(step - 1)]
    old = state.new_zeros(len(degree), state.shape[1]).index_copy(0, old_row, before)
    new = path_rows(sums, squares, degree, old, scaler, matrix, bias)
    return nn.functional.pad(new, (0, 0, 0, reach.padded_rows(step) - len(new)))


def _position_of_rows(reach: Reach, step: int, device: torch.device) -> Tensor:
    """`(rows(step),)` int64: the position in the batch of each row's head."""
    first = torch.from_numpy(reach.first[step]).to(device)
    return torch.repeat_interleave(first.diff(), output_size=reach.rows(step))


@lru_cache(maxsize=2)
def _on(device: torch.device, edges: CSC) -> tuple[Tensor, Tensor, Tensor]:
    """The offsets, sources and types of edges, on a device."""
    arrays = (edges.offsets, edges.source, edges.type)
    offsets, source, type_ = (torch.from_numpy(a).to(device) for a in arrays)
    return offsets, source, type_


def _edges(reach: Reach, step: int, device: torch.device) -> tuple[Tensor, ...]:
    """The edges with a message at a step.

    Returns:
        For each edge: the row of its source before the step, the row of its destination after the
        step, its type, the position of its head in the batch, and its id. For each row: its
        in-degree without excluded edges. For each row of the step before: its row after the step.
    """
    offsets, source, type_ = _on(device, reach.edges)
    position = _position_of_rows(reach, step, device)
    before = torch.from_numpy(reach.first[step - 1]).to(device)
    after = torch.from_numpy(reach.first[step]).to(device)
    place = torch.arange(len(position), device=device) - after[position]
    node = torch.from_numpy(reach.node).to(device)[position, place]
    slot = torch.from_numpy(reach.slot).to(device)
    row, edge = in_edges(offsets, node)
    b = position[row]
    from_slot = slot[b, source[edge]]
    within = from_slot <= reach.edges.num_sources  # the part of the graph
    there = within & ~_excluded(reach, device)[b, edge]
    degree = torch.zeros_like(position).index_add_(0, row, there.long())
    brings = there & (from_slot < before.diff()[b])
    edge, row, b, from_slot = edge[brings], row[brings], b[brings], from_slot[brings]
    old_position = _position_of_rows(reach, step - 1, device)
    old_row = torch.arange(len(old_position), device=device) + (after - before)[old_position]
    return from_slot + before[b], row, type_[edge].long(), b, edge, degree, old_row


def _excluded(reach: Reach, device: torch.device) -> Tensor:
    """`(B, e)` bool: the edges that are excluded for each head."""
    where = reach.excluded.nonzero()[0]
    position = reach.excluded_first.searchsorted(where, side="right") - 1
    edge = where - reach.excluded_first[position] + reach.edges.offsets[reach.head[position]]
    gone = torch.zeros(reach.num_heads, len(reach.edges.source), dtype=torch.bool, device=device)
    b = torch.from_numpy(position).to(device)
    for edges in (edge, reach.opposite[edge]):
        gone[b, torch.from_numpy(edges).long().to(device)] = True
    return gone


def path_rows(
    sums: Tensor,
    squares: Tensor,
    degree: Tensor,
    state: Tensor,
    scaler: Tensor,
    matrix: Tensor,
    bias: Tensor,
    held: bool = False,
) -> Tensor:
    """The part of `path_step` after the messages are summed, in torch's operations.

    Args:
        sums, squares: `(n, d)` float, the sums of messages and of their squares.
        degree: `(n,)`, the number of in-edges.
        state: `(n, d)`, the states before the step.
        scaler, matrix, bias: as for `path_step`.
        held: treat the gates, the divisor of the normalisation and the slope of tanh
            (`tanh(a) / a`) as constants in the gradient. Apart from biases, a result is then the
            product of its gradient and its inputs. With the true gradient, this product is zero
            after a normalisation. See Ali et al. 2022, "XAI for Transformers", and, for gates,
            Arras et al. 2017.

    Returns:
        `(n, d)`, the states after the step.
    """
    hold = Tensor.detach if held else _as_it_is
    count = degree.unsqueeze(1).to(sums.dtype)
    mean = sums / count.clamp(min=1)
    variance = squares / count.clamp(min=1) - mean.square()
    deviation = variance.clamp(min=LEAST_VARIANCE).sqrt()
    both = torch.cat([mean, deviation], dim=1) * torch.exp(scaler.flatten() * count.log1p())
    both = both - both.mean(1, keepdim=True)
    divisor = hold(torch.sqrt(both.square().mean(1, keepdim=True) + EPSILON))
    products = torch.cat([both / divisor, state], dim=1) @ matrix + bias
    z, r, x, s = products.chunk(4, dim=1)
    z, r = hold(torch.sigmoid(z)), hold(torch.sigmoid(r))
    before = x + r * s
    new = before * (torch.tanh(before) / before).detach() if held else torch.tanh(before)
    return (1 - z) * new + z * state


def _as_it_is(x: Tensor) -> Tensor:
    return x
