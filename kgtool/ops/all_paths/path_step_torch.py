"""A step of an all-paths pass in torch's operations, on any device: what runs on a GPU.

The same numbers as the compiled kernels', which serve the CPU; see
`kgtool.ops.all_paths.path_step`. Messages are made for a chunk of edges at a time and added up at
once, and made again for the gradient.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn

from kgtool.ops.all_paths.path_messages import EPSILON, LEAST_VARIANCE
from kgtool.ops.all_paths.reach import Reach
from kgtool.ops.graph.incidence import Incidence, in_edges

# Edges whose messages exist at a time: at 32 dims of float32, 128 MiB.
EDGES = 1 << 20


class _Moments(torch.autograd.Function):
    """Sums of messages `s[source] ⊙ w[kind]` at their rows, and of their squares."""

    @staticmethod
    def forward(
        ctx: Any, state: Tensor, weight: Tensor, source: Tensor, kind: Tensor, row: Tensor,
        num_rows: int,
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        sums = state.new_zeros(num_rows, state.shape[1])
        squares = torch.zeros_like(sums)
        for part in _chunks(len(row)):
            message = state[source[part]] * weight[kind[part]]
            sums.index_add_(0, row[part], message)
            squares.index_add_(0, row[part], message.square())
        ctx.save_for_backward(state, weight, source, kind, row)
        return sums, squares

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        state, weight, source, kind, row = ctx.saved_tensors
        grad_state, grad_weight = torch.zeros_like(state), torch.zeros_like(weight)
        for part in _chunks(len(row)):
            s, w = state[source[part]], weight[kind[part]]
            g = grads[0][row[part]] + 2 * s * w * grads[1][row[part]]
            grad_state.index_add_(0, source[part], g * w)
            grad_weight.index_add_(0, kind[part], g * s)
        return grad_state, grad_weight, None, None, None, None


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
    """`kgtool.ops.all_paths.path_step.path_step` on whatever device its tensors are.

    Beside the states it keeps three numbers an edge for the gradient. On a GPU sums have no fixed
    order, so that two runs differ in the last digits.
    """
    source, row, kind, position, degree, old_row = _edges(reach, step, state.device)
    kind = kind + context.to(state.device)[position] * weight.shape[1]
    sums, squares = _Moments.apply(  # type: ignore[no-untyped-call]
        state, weight.flatten(0, 1), source, kind, row, len(degree)
    )
    before = state[: reach.rows(step - 1)]
    old = state.new_zeros(len(degree), state.shape[1]).index_copy(0, old_row, before)
    new = path_rows(sums, squares, degree, old, scaler, matrix, bias)
    return nn.functional.pad(new, (0, 0, 0, reach.padded_rows(step) - len(new)))


def _position_of_rows(reach: Reach, step: int, device: torch.device) -> Tensor:
    """`(rows(step),)` int64: the head of each row, by its place in the batch."""
    first = torch.from_numpy(reach.first[step]).to(device)
    return torch.repeat_interleave(first.diff(), output_size=reach.rows(step))


@lru_cache(maxsize=2)
def _on(device: torch.device, edges: Incidence) -> tuple[Tensor, Tensor, Tensor]:
    """Offsets, sources and types of edges, on a device."""
    arrays = (edges.offsets, edges.source, edges.type)
    offsets, source, type_ = (torch.from_numpy(a).to(device) for a in arrays)
    return offsets, source, type_


def _edges(reach: Reach, step: int, device: torch.device) -> tuple[Tensor, ...]:
    """The edges that bring something at a step.

    Returns:
        Each edge's source row, row, type and head's place in the batch; each row's in-degree
        without hidden edges; the row that each row of the step before has now.
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
    there = ~_hidden(reach, device)[b, edge]
    degree = torch.zeros_like(position).index_add_(0, row, there.long())
    from_slot = slot[b, source[edge]]
    brings = there & (from_slot < before.diff()[b])
    edge, row, b, from_slot = edge[brings], row[brings], b[brings], from_slot[brings]
    old_position = _position_of_rows(reach, step - 1, device)
    old_row = torch.arange(len(old_position), device=device) + (after - before)[old_position]
    return from_slot + before[b], row, type_[edge].long(), b, degree, old_row


def _hidden(reach: Reach, device: torch.device) -> Tensor:
    """`(B, e)` bool: the edges that are not there for a head."""
    where = reach.hidden.nonzero()[0]
    position = reach.hidden_first.searchsorted(where, side="right") - 1
    edge = where - reach.hidden_first[position] + reach.edges.offsets[reach.head[position]]
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
    """What `path_step` does at an entity once its messages are added up, in torch's operations.

    Args:
        sums, squares: `(n, d)` float, of the messages and of their squares.
        degree: `(n,)`, in-edges.
        state: `(n, d)`, before the step.
        scaler, matrix, bias: as of `path_step`.
        held: let gradients take the gates, the normalisation's divisor and the slope of tanh (as
            `tanh(a) / a`) for constants. A result is then its gradient times what it is made of,
            but for biases, where a true gradient says that nothing scales it: see Ali et al. 2022,
            "XAI for Transformers", and Arras et al. 2017 for gates.

    Returns:
        `(n, d)`.
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
