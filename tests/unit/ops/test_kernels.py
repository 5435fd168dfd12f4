"""The compiled operations, compared with loops, dense autograd and finite differences."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from itertools import product

import numba
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from kgtool.ops import (
    CSC,
    block_sum,
    count_better,
    count_better_listed,
    entity_loss,
    product_parts,
    relational_sum,
)
from kgtool.ops.graph.csc import NUM_CHUNKS
from kgtool.ops.runtime.bfloat16 import bits, read, store_as
from kgtool.ops.scoring.entity_loss import CHUNK, Loss
from kgtool.ops.scoring.softmax_rows import Training

Op = Callable[[Tensor, Tensor, Tensor, CSC], Tensor]
OPS = pytest.mark.parametrize("op", [relational_sum, block_sum])
NUM_TYPES = 4


class Edges:
    """Random edges from `sources` to `destinations` nodes, some of scale 0, and their inputs."""

    def __init__(self, seed: int, sources: int, destinations: int, count: int) -> None:
        torch.manual_seed(seed)
        # Squares of uniform numbers: hubs at low ids, and nodes without an edge.
        self.source = (torch.rand(count) ** 2 * sources).long()
        destination = (torch.rand(count) ** 2 * destinations).long()
        type_ = torch.randint(NUM_TYPES - 1, (count,))  # the last type has no edge
        order = torch.argsort(destination * NUM_TYPES + type_, stable=True)
        self.destination, self.type = destination[order], type_[order]
        self.scale = torch.rand(count, dtype=torch.float64) + 0.1
        self.scale[torch.rand(count) < 0.3] = 0
        self.index = CSC.from_edges(self.source, self.destination, self.type, sources, destinations)

    def inputs(self, op: Op, dims: int = 6) -> tuple[Tensor, Tensor]:
        """Features, and coefficients `(types, 3)` or blocks `(types, 3, dims / 3, dims / 3)`."""
        shape = (NUM_TYPES, 3) if op is relational_sum else (NUM_TYPES, 3, dims // 3, dims // 3)
        x = torch.randn(self.index.num_sources, dims, dtype=torch.float64)
        return x.requires_grad_(), torch.randn(shape, dtype=torch.float64).requires_grad_()


def slow_sum(op: Op, x: Tensor, weights: Tensor, edges: Edges) -> Tensor:
    """The sum edge by edge, in plain torch."""
    width = (weights.shape[1], x.shape[1]) if op is relational_sum else (x.shape[1],)
    parts = [x.new_zeros(width) for _ in range(edges.index.num_destinations)]
    for u, v, r, scale in zip(
        edges.source.tolist(),
        edges.destination.tolist(),
        edges.type.tolist(),
        edges.scale.tolist(),
        strict=True,
    ):
        if op is relational_sum:
            message = torch.outer(weights[r], x[u])
        else:
            message = x[u] @ torch.block_diag(*weights[r])
        parts[v] = parts[v] + scale * message
    return torch.stack(parts)


# More nodes than chunks, fewer, and a single destination.
@OPS
@pytest.mark.parametrize("sizes", [(150, 130, 300), (9, 14, 60), (5, 1, 20)])
def test_sums_equal_a_loop_over_edges(op: Op, sizes: tuple[int, int, int]) -> None:
    edges = Edges(0, *sizes)
    x, weights = edges.inputs(op)
    fast, slow = op(x, weights, edges.scale, edges.index), slow_sum(op, x, weights, edges)
    torch.testing.assert_close(fast, slow)
    weight = torch.randn_like(slow)
    fast_grads = torch.autograd.grad((fast * weight).sum(), [x, weights])
    slow_grads = torch.autograd.grad((slow * weight).sum(), [x, weights])
    for fast_grad, slow_grad in zip(fast_grads, slow_grads, strict=True):
        torch.testing.assert_close(fast_grad, slow_grad)


@OPS
def test_gradcheck_of_sums(op: Op) -> None:
    edges = Edges(1, 5, 4, 12)
    assert 0 in edges.scale
    x, weights = edges.inputs(op)
    assert torch.autograd.gradcheck(
        lambda x, weights: op(x, weights, edges.scale, edges.index), (x, weights)
    )


@OPS
def test_sums_read_tensors_of_any_layout(op: Op) -> None:
    edges = Edges(2, 8, 8, 40)
    x, weights = edges.inputs(op)
    plain = op(x, weights, edges.scale, edges.index)
    loose_x = x.detach().t().contiguous().t().requires_grad_()
    loose_weights = weights.detach().transpose(0, 1).contiguous().transpose(0, 1).requires_grad_()
    loose = op(loose_x, loose_weights, edges.scale, edges.index)
    assert torch.equal(loose, plain)
    # The gradient that comes back may be no block of memory either: here it is expanded.
    plain.sum().backward()
    loose.sum().backward()
    torch.testing.assert_close(loose_x.grad, x.grad)
    torch.testing.assert_close(loose_weights.grad, weights.grad)


@OPS
def test_an_edge_of_scale_zero_is_not_there(op: Op) -> None:
    edges = Edges(3, 8, 8, 40)
    x, weights = edges.inputs(op)
    edges.scale[edges.source == 0] = 0
    sound = op(x, weights, edges.scale, edges.index)
    with torch.no_grad():
        x[0] = torch.nan
    out = op(x, weights, edges.scale, edges.index)
    assert torch.equal(out, sound)
    out.sum().backward()
    assert weights.grad is not None
    assert weights.grad.isfinite().all()


@OPS
def test_sums_without_edges(op: Op) -> None:
    edges = Edges(4, 3, 5, 0)
    x, weights = edges.inputs(op)
    out = op(x, weights, edges.scale, edges.index)
    assert out.shape == ((5, 3, 6) if op is relational_sum else (5, 6))
    assert not out.any()
    out.sum().backward()
    assert x.grad is not None
    assert not x.grad.any()


@pytest.fixture
def _restore_threads() -> Iterator[None]:
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@OPS
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.usefixtures("_restore_threads")
def test_the_number_of_threads_changes_no_bit(op: Op, dtype: torch.dtype) -> None:
    if numba.config.NUMBA_NUM_THREADS < 2:  # type: ignore[attr-defined]
        pytest.skip("numba has one thread")
    edges = Edges(5, 300, 300, 4000)
    x, weights = (tensor.detach().to(dtype).requires_grad_() for tensor in edges.inputs(op))
    results = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        out = op(x, weights, edges.scale.to(dtype), edges.index)
        results.append([out, *torch.autograd.grad((out * out.detach()).sum(), [x, weights])])
    for one, two in zip(*results, strict=True):
        assert torch.equal(one, two)


def test_basis_sum_under_autocast_is_close() -> None:
    edges = Edges(8, 60, 50, 500)
    x, weights = single = [
        tensor.detach().float().requires_grad_() for tensor in edges.inputs(relational_sum, 16)
    ]

    def run() -> list[Tensor]:
        out = relational_sum(x, weights, edges.scale.float(), edges.index)
        return [out.detach(), *torch.autograd.grad((out * out.detach()).sum(), single)]

    full = run()
    with torch.autocast("cpu", torch.bfloat16):
        half = run()
    assert half[0].dtype == torch.bfloat16
    for low, high in zip(half, full, strict=True):
        assert 0 < float((low - high).norm()) < 0.02 * float(high.norm())
    assert half[1].dtype == half[2].dtype == torch.float32


def test_bfloat16_is_read_and_rounded_as_torch_does() -> None:
    @numba.njit
    def copy(source, target):
        for i in range(len(source)):
            target[i] = store_as(target[i], read(source[i]))

    torch.manual_seed(0)
    wide = torch.cat([torch.randn(500) * 10 ** torch.randint(-30, 30, (500,)), torch.zeros(1)])
    half = (1 + torch.arange(256) / 256).float()  # ties, to even
    x = torch.cat([wide, half, torch.tensor([torch.inf, -torch.inf])])
    rounded, back = torch.empty(len(x), dtype=torch.bfloat16), torch.empty(len(x))
    copy(bits(x), bits(rounded))
    assert torch.equal(rounded, x.bfloat16())
    copy(bits(rounded), bits(back))
    assert torch.equal(back, rounded.float())


@OPS
def test_sums_refuse_what_does_not_fit(op: Op) -> None:
    edges = Edges(6, 6, 7, 30)
    x, weights = (tensor.detach() for tensor in edges.inputs(op))
    scale, index = edges.scale, edges.index
    wrong = [
        (x[:-1], weights, scale),
        (x, weights, scale[:-1]),
        (x, weights, scale.unsqueeze(1)),
        (x, weights[: NUM_TYPES - 2], scale),
        (x.float(), weights, scale),
        (x, weights.float(), scale),
        (x, weights, scale.float()),
    ]
    if op is block_sum:
        wrong += [
            (x[:, :-1], weights, scale),
            (x, weights[:, :, :, :-1], scale),
            (x, torch.cat([weights, weights], dim=3), scale),
            (x, weights[:, 0], scale),
        ]
    for arguments in wrong:
        with pytest.raises(ValueError, match=r"fit|differ|weights for"):
            op(*arguments, index)


@pytest.mark.parametrize(
    ("source", "destination", "type_", "message"),
    [
        ([0, 3], [0, 1], [0, 0], "node ids"),
        ([0, -1], [0, 1], [0, 0], "node ids"),
        ([0, 1], [0, 2], [0, 0], "node ids"),
        ([0, 1], [-1, 0], [0, 0], "node ids"),
        ([0, 1], [1, 0], [0, 0], "not sorted"),
        ([0, 1], [0, 1], [0, -1], "edge type"),
    ],
)
def test_csc_refuses_bad_ids(
    source: list[int], destination: list[int], type_: list[int], message: str
) -> None:
    heads, tails, types = (torch.tensor(ids) for ids in (source, destination, type_))
    with pytest.raises(ValueError, match=message):
        CSC.from_edges(heads, tails, types, num_sources=3, num_destinations=2)


def test_csc_chunks_cover_every_node_once() -> None:
    for sizes in [(1, 1, 0), (3, 200, 50), (200, 3, 5000)]:
        index = Edges(7, *sizes).index
        for chunks, size in ((index.chunks, sizes[1]), (index.reverse.chunks, sizes[0])):
            assert len(chunks) == NUM_CHUNKS + 1
            assert (chunks[0], chunks[-1]) == (0, size)
            assert (chunks[1:] >= chunks[:-1]).all()


# The loss


def loss_inputs(
    num_queries: int, num_entities: int = 7, dims: int = 3
) -> tuple[tuple[Tensor, Tensor, Tensor], Tensor, Tensor]:
    """Queries, entities and bias with gradients; queries have from one to all answers."""
    torch.manual_seed(num_queries)
    wanted = torch.rand(num_queries, num_entities) < 0.3
    wanted[torch.arange(num_queries), torch.randint(num_entities, (num_queries,))] = True
    wanted[0] = True  # every entity answers the first query
    position, tail = wanted.nonzero(as_tuple=True)
    floats = (
        torch.randn(num_queries, dims, dtype=torch.float64, requires_grad=True),
        torch.randn(num_entities, dims, dtype=torch.float64, requires_grad=True),
        torch.randn(num_entities, dtype=torch.float64, requires_grad=True),
    )
    return floats, position, tail


def dense_loss(
    floats: tuple[Tensor, Tensor, Tensor],
    position: Tensor,
    tail: Tensor,
    loss: Loss,
    training: Training,
    smoothing: float,
) -> Tensor:
    """The loss by its definition, one target distribution at a time."""
    queries, entities, bias = floats
    num_entities = len(entities)
    losses = []
    for i, query in enumerate(queries):
        scores = entities @ query + bias
        answers = tail[position == i].tolist()
        others = [j for j in range(num_entities) if j not in answers]
        if training == "1vsAll":
            cases = [([answer], [answer, *others]) for answer in answers]
        elif training == "1vsAll_unmasked":
            cases = [([answer], [*answers, *others]) for answer in answers]
        else:
            cases = [(answers, [*answers, *others])]
        for right, candidates in cases:
            s = scores[candidates]
            label = torch.tensor([j in right for j in candidates], dtype=s.dtype)
            if loss == "softmax":
                y = (1 - smoothing) * label / len(right) + smoothing / len(candidates)
                losses.append(-(y * F.log_softmax(s, 0)).sum())
            else:
                y = (1 - smoothing) * label + smoothing / num_entities
                losses.append(-(y * F.logsigmoid(s) + (1 - y) * F.logsigmoid(-s)).sum())
    return torch.stack(losses).mean()


LOSSES: list[tuple[Loss, Training]] = [
    ("softmax", "1vsAll"),
    ("softmax", "1vsAll_unmasked"),
    ("softmax", "KvsAll"),
    ("bce", "1vsAll"),
    ("bce", "KvsAll"),
]
EACH_LOSS = pytest.mark.parametrize(("loss", "training"), LOSSES)


@EACH_LOSS
@pytest.mark.parametrize("smoothing", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("num_queries", [1, CHUNK, CHUNK + 9])
@pytest.mark.parametrize("num_entities", [7, 40])
def test_loss_equals_dense_autograd(
    loss: Loss, training: Training, smoothing: float, num_queries: int, num_entities: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Also if threads share the entities: 40 entities are two blocks."""
    monkeypatch.setattr("kgtool.ops.runtime.threads.PRODUCT", 1)
    assert len(product_parts(num_entities, num_queries)) == 1 + (num_entities == 40)
    floats, position, tail = loss_inputs(num_queries, num_entities)
    fast = entity_loss(*floats, position, tail, loss, training, smoothing)
    slow = dense_loss(floats, position, tail, loss, training, smoothing)
    torch.testing.assert_close(fast, slow)
    # Thrice the loss: the gradient that comes from above counts.
    fast_grads = torch.autograd.grad(3 * fast, floats)
    slow_grads = torch.autograd.grad(3 * slow, floats)
    for fast_grad, slow_grad in zip(fast_grads, slow_grads, strict=True):
        torch.testing.assert_close(fast_grad, slow_grad)


@EACH_LOSS
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_gradcheck_of_loss(loss: Loss, training: Training, smoothing: float) -> None:
    floats, position, tail = loss_inputs(3, num_entities=5, dims=2)
    assert torch.autograd.gradcheck(
        lambda q, e, b: entity_loss(q, e, b, position, tail, loss, training, smoothing), floats
    )


@EACH_LOSS
def test_loss_of_extreme_scores(loss: Loss, training: Training) -> None:
    # exp(1000) is not finite, but the loss is.
    floats, position, tail = loss_inputs(4)
    large = [(500 * tensor.detach()).requires_grad_() for tensor in floats]
    queries, entities, bias = large
    fast = entity_loss(queries, entities, bias, position, tail, loss, training, 0.1)
    slow = dense_loss((queries, entities, bias), position, tail, loss, training, 0.1)
    torch.testing.assert_close(fast, slow)
    for grad in torch.autograd.grad(fast, large):
        assert grad.isfinite().all()


@EACH_LOSS
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_score_that_is_not_finite_shows_in_the_loss(
    loss: Loss, training: Training, value: float, dtype: torch.dtype
) -> None:
    floats, position, tail = loss_inputs(4)
    queries, entities, bias = (f.detach().to(dtype) for f in floats)
    bias[-1] = value
    assert not entity_loss(queries, entities, bias, position, tail, loss, training).isfinite()


@EACH_LOSS
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_loss_in_single_precision(loss: Loss, training: Training, smoothing: float) -> None:
    floats, position, tail = loss_inputs(40, num_entities=3000, dims=16)
    queries, entities, bias = single = [f.detach().float().requires_grad_() for f in floats]
    low = entity_loss(queries, entities, bias, position, tail, loss, training, smoothing)
    high = entity_loss(*floats, position, tail, loss, training, smoothing)
    torch.testing.assert_close(low.double(), high, rtol=2e-6, atol=0)
    for ours, theirs in zip(
        torch.autograd.grad(low, single), torch.autograd.grad(high, floats), strict=True
    ):
        assert float((ours.double() - theirs).norm()) < 1e-5 * float(theirs.norm())


@EACH_LOSS
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_loss_under_autocast_is_close(loss: Loss, training: Training, smoothing: float) -> None:
    floats, position, tail = loss_inputs(CHUNK + 9, num_entities=40, dims=16)
    queries, entities, bias = single = [f.detach().float().requires_grad_() for f in floats]

    def run() -> list[Tensor]:
        value = entity_loss(queries, entities, bias, position, tail, loss, training, smoothing)
        return [value.detach(), *torch.autograd.grad(value, single)]

    full = run()
    with torch.autocast("cpu", torch.bfloat16):
        half = run()
    assert not torch.equal(half[1], full[1])  # or it ran in float32
    for low, high in zip(half, full, strict=True):
        assert low.dtype == torch.float32
        assert float((low - high).norm()) < 0.02 * float(high.norm())


@EACH_LOSS
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_nan_in_gives_nan_out(loss: Loss, training: Training, smoothing: float) -> None:
    # The trainer refuses a loss that is not finite: no NaN may hide behind a mask or a maximum.
    for which, row in product(range(3), (0, -1)):
        floats, position, tail = loss_inputs(CHUNK + 2)
        with torch.no_grad():
            floats[which][row] = torch.nan
        assert entity_loss(*floats, position, tail, loss, training, smoothing).isnan()


# Counting


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("first", [0, 7])
def test_counts_equal_a_loop(dtype: torch.dtype, first: int) -> None:
    values = torch.tensor([-torch.inf, -1.0, 0.0, -0.0, 1.0, 2.0, torch.inf, torch.nan])
    generator = torch.Generator().manual_seed(0)
    scores = values.to(dtype)[torch.randint(len(values), (6, 40), generator=generator)]
    scores[0] = 1.0
    scores[1] = torch.nan
    row, tail = (torch.tensor(ids) for ids in zip(*product(range(6), range(40)), strict=True))
    counts = count_better(scores, row, scores[row, tail], first)
    # Every third column, from 0, 1 or 2; none for some answers. Columns are counted from 100.
    column = torch.cat([torch.arange(start, 40, 3) for start in range(3)])
    ends = torch.tensor([0, 14, 27, 40, 40])
    kind = torch.arange(len(row)) % 4
    span = (ends[kind], ends[kind + 1])
    listed = count_better_listed(scores, row, scores[row, tail], span, column + 100, 100)
    table = scores.tolist()
    for i, (r, t) in enumerate(product(range(6), range(40))):
        true = table[r][t]
        mine = table[r][i % 4 :: 3] if i % 4 < 3 else []
        for (better, equal, finite), among in ((counts, table[r][first:]), (listed, mine)):
            assert int(better[i]) == sum(score > true for score in among)
            assert int(equal[i]) == sum(score == true for score in among)
            assert int(finite[i]) == sum(abs(score) < float("inf") for score in among)
    assert {part.dtype for part in (*counts, *listed)} == {torch.long}


def test_count_better_of_nothing_and_of_a_transposed_matrix() -> None:
    nothing = torch.tensor([], dtype=torch.long)
    found = count_better(torch.rand(2, 3), nothing, torch.tensor([]))
    assert [len(counts) for counts in found] == [0] * 3
    scores = torch.tensor([[3.0, 1.0], [1.0, 2.0], [2.0, 3.0]]).t()  # rows 3 1 2 and 1 2 3
    counts = count_better(scores, torch.tensor([0, 1]), torch.tensor([2.0, 1.0]))
    assert [part.tolist() for part in counts] == [[1, 2], [1, 1], [3, 3]]
