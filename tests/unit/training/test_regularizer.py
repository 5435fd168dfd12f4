"""DURA, compared with a sum over triples."""

from __future__ import annotations

import torch

from kgtool.training.regularizer import dura
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


def test_training_with_dura_keeps_states_small(tmp_path):
    def size(weight: float) -> float:
        config = tiny_config(epochs=20, learning_rate=0.02, dura=weight)
        run = train(config, ring(), tmp_path / str(weight), progress=False)
        return float(run.model(ring()).scorer().entity_states().square().mean())

    assert size(1.0) < 0.5 * size(0.0)
