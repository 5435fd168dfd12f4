"""Similarities, compared with a loop over pairs."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from kgtool.ops import PRODUCT, Euclidean, Manhattan, Similarity, entity_loss
from kgtool.ops.scoring.similarity import TILE
from tests.unit.ops.test_kernels import EACH_LOSS, loss_inputs

SIMILARITIES = {
    "product": PRODUCT,
    "euclidean": Euclidean(),
    "manhattan": Manhattan(),
    "moduli": Manhattan(complex_numbers=True),
}
EACH = pytest.mark.parametrize("name", SIMILARITIES)
SIZES = [(1, 1), (3, TILE), (TILE + 1, 2 * TILE + 5)]


def by_hand(name: str, q: Tensor, e: Tensor) -> Tensor:
    if name == "product":
        return (q * e).sum()
    if name == "euclidean":
        return -(q - e).square().sum().sqrt()
    apart = q - e
    if name == "moduli":
        half = len(q) // 2
        apart = torch.complex(apart[:half], apart[half:])
    return -apart.abs().sum()


def states(num: int, dim: int = 6, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randn(num, dim, dtype=torch.double, generator=generator)
    return drawn.requires_grad_()


@EACH
@pytest.mark.parametrize("sizes", SIZES)
def test_every_pair_is_compared(name, sizes):
    similarity, (q, e) = SIMILARITIES[name], (states(n, seed=i) for i, n in enumerate(sizes))
    slow = torch.stack([torch.stack([by_hand(name, x, y) for y in e]) for x in q])
    pairs = similarity.pairs(q, e)
    torch.testing.assert_close(pairs, slow)
    bias = torch.randn(len(e), dtype=torch.double)
    torch.testing.assert_close(similarity.scores(q, e, bias), slow + bias)
    one = e[:1].expand(len(q), -1)
    torch.testing.assert_close(similarity.of_rows(q, one), slow[:, 0])
    weight = torch.randn_like(slow)
    fast = torch.autograd.grad((weight * pairs).sum(), (q, e))
    for ours, theirs in zip(fast, torch.autograd.grad((weight * slow).sum(), (q, e)), strict=True):
        torch.testing.assert_close(ours, theirs)


@EACH
def test_gradients(name):
    similarity = SIMILARITIES[name]
    assert torch.autograd.gradcheck(similarity.pairs, (states(3, 4), states(5, 4, seed=1)))
    assert torch.autograd.gradcheck(similarity.of_rows, (states(3, 4), states(3, 4, seed=1)))


@EACH
@EACH_LOSS
def test_the_loss_over_all_candidates(name, loss, training):
    """Equal to the loss of precomputed scores: unit vectors have any scores as products."""
    (queries, entities, bias), position, tail = loss_inputs(9, num_entities=40, dims=6)
    similarity = SIMILARITIES[name]
    fast = entity_loss(queries, entities, bias, position, tail, loss, training, 0.1, similarity)
    rows = torch.stack([torch.stack([by_hand(name, q, e) for e in entities]) for q in queries])
    unit = torch.eye(len(entities), dtype=torch.double)
    slow = entity_loss(rows, unit, bias, position, tail, loss, training, 0.1)
    torch.testing.assert_close(fast, slow)
    inputs = (queries, entities, bias)
    for ours, theirs in zip(
        torch.autograd.grad(fast, inputs), torch.autograd.grad(slow, inputs), strict=True
    ):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("name", ["euclidean", "manhattan", "moduli"])
def test_equal_states_have_distance_0_and_no_gradient(name):
    similarity = SIMILARITIES[name]
    same = torch.full((2, 4), 0.5, requires_grad=True)
    pairs = similarity.pairs(same, same.detach())
    assert torch.equal(pairs, torch.zeros(2, 2))
    (gradient,) = torch.autograd.grad(pairs.sum(), same)
    assert torch.equal(gradient, torch.zeros(2, 4))
    if name != "euclidean":  # torch.linalg's own gradient is 0 there
        of_rows = similarity.of_rows(same, same.detach()).sum()
        assert torch.equal(torch.autograd.grad(of_rows, same)[0], torch.zeros(2, 4))


@EACH
def test_a_score_does_not_depend_on_the_others(name):
    """To the bit: ranks compare scores of different calls."""
    similarity: Similarity = SIMILARITIES[name]
    q, e = states(40, 24).detach().float(), states(300, 24, seed=1).detach().float()
    bias = torch.zeros(300)
    whole = similarity.scores(q, e, bias)
    for start in (0, 16, 100, 284):
        block = similarity.scores(q[8:24], e[start : start + 16], bias[start : start + 16])
        assert torch.equal(block, whole[8:24, start : start + 16])


@EACH
@pytest.mark.parametrize("threads", [2, 4])
def test_the_bits_do_not_depend_on_the_number_of_threads(name, threads):
    similarity, before = SIMILARITIES[name], torch.get_num_threads()

    def run(count: int) -> list[Tensor]:
        torch.set_num_threads(count)
        q, e = states(70, 32), states(333, 32, seed=1)
        pairs = similarity.pairs(q, e)
        return [pairs, *torch.autograd.grad(pairs.square().sum(), (q, e))]

    try:
        for one, many in zip(run(1), run(threads), strict=True):
            assert torch.equal(one, many)
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("name", ["euclidean", "manhattan", "moduli"])
def test_distances_stay_precise_under_autocast(name):
    similarity = SIMILARITIES[name]
    (queries, entities, bias), position, tail = loss_inputs(9, num_entities=40, dims=6)
    single = [x.detach().float().requires_grad_() for x in (queries, entities, bias)]

    def run() -> list[Tensor]:
        q, e, b = single
        value = entity_loss(q, e, b, position, tail, similarity=similarity)
        return [value.detach(), *torch.autograd.grad(value, single)]

    full = run()
    with torch.autocast("cpu", torch.bfloat16):
        half = run()
    for low, high in zip(half, full, strict=True):
        assert torch.equal(low, high)


@EACH
def test_the_best_states_of_queries(name):
    similarity, queries = SIMILARITIES[name], states(5).detach()
    row, usual = torch.tensor([1, 0, 1, 1, 0]), torch.tensor(0.7)
    best = similarity.best(queries, row, usual, 100.0)
    assert best.shape == (2, 6)
    if name == "product":
        assert float(similarity.of_rows(queries, best[row]).mean()) == pytest.approx(0.7)
        lengths = best.norm(dim=1)
        torch.testing.assert_close(lengths[0], lengths[1])
        assert float(similarity.best(queries, row, usual, 0.01).norm(dim=1).max()) < 0.0101
    else:
        torch.testing.assert_close(best[0], queries[[1, 4]].mean(0))
        torch.testing.assert_close(best[1], queries[[0, 2, 3]].mean(0))
