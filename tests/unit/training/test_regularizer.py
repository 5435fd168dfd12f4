"""DURA and N3, compared with sums over triples."""

from __future__ import annotations

import pytest
import torch

from kgtool.training.regularizer import dura, n3
from kgtool.training.trainer import train
from tests.support.runs import ring, tiny_config


def test_dura_is_the_mean_over_triples():
    torch.manual_seed(0)
    queries = torch.randn(3, 4, dtype=torch.double, requires_grad=True)
    entities = torch.randn(6, 4, dtype=torch.double, requires_grad=True)
    position, tail = torch.tensor([0, 0, 1, 2]), torch.tensor([5, 1, 5, 0])
    slow = torch.stack(
        [
            queries[i].square().sum() + entities[t].square().sum()
            for i, t in zip(position, tail, strict=True)
        ]
    ).mean()
    fast = dura(queries, entities, position, tail)
    torch.testing.assert_close(fast, slow)
    for ours, theirs in zip(
        torch.autograd.grad(fast, (queries, entities)),
        torch.autograd.grad(slow, (queries, entities)),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("complex_numbers", [False, True])
def test_n3_is_the_mean_over_triples(complex_numbers):
    torch.manual_seed(0)
    factors = tuple(torch.randn(5, 6, dtype=torch.double, requires_grad=True) for _ in range(3))
    total = torch.zeros((), dtype=torch.double)
    for factor in factors:
        for row in factor:
            numbers = torch.complex(row[:3], row[3:]) if complex_numbers else row
            total = total + (numbers.abs() ** 3).sum()
    fast = n3(factors, complex_numbers)
    torch.testing.assert_close(fast, total / 5)
    for ours, theirs in zip(
        torch.autograd.grad(2 * fast, factors),
        torch.autograd.grad(2 * total / 5, factors),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs)
    assert torch.autograd.gradcheck(lambda *x: n3(x, complex_numbers), factors)
    zeros = torch.zeros(2, 6, requires_grad=True)
    (gradient,) = torch.autograd.grad(n3((zeros,), complex_numbers), zeros)
    assert torch.equal(gradient, torch.zeros(2, 6))


@pytest.mark.parametrize("cell", ["distmult", "complex"])
def test_training_with_n3_keeps_states_small(tmp_path, cell):
    def size(weight: float) -> float:
        config = tiny_config(epochs=20, learning_rate=0.02, n3=weight, cell=cell)
        run = train(config, ring(), tmp_path / str(weight), progress=False)
        return float(run.model(ring()).scorer().entity_states().square().mean())

    assert size(1.0) < 0.5 * size(0.0)


def test_training_with_dura_keeps_states_small(tmp_path):
    def size(weight: float) -> float:
        config = tiny_config(epochs=20, learning_rate=0.02, dura=weight)
        run = train(config, ring(), tmp_path / str(weight), progress=False)
        return float(run.model(ring()).scorer().entity_states().square().mean())

    assert size(1.0) < 0.5 * size(0.0)
