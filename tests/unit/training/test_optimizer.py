"""The learning rate of each parameter."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from kgtool.config import parse_config
from kgtool.models.factory import build_model
from kgtool.training.optimizer import ADAGRAD_WEIGHTS, make_optimizer, set_rate
from tests.support.runs import ring, tiny_config


@pytest.mark.parametrize(
    ("optimizer", "share"), [("adam", 1.0), ("adamw", 1.0), ("adagrad", ADAGRAD_WEIGHTS)]
)
def test_weights_take_their_share_of_the_rate(optimizer: str, share: float) -> None:
    settings = parse_config({"training": {"optimizer": optimizer}}).training
    embedding, weight = nn.Parameter(torch.zeros(3, 2)), nn.Parameter(torch.zeros(3, 2))
    made = make_optimizer(settings, [embedding, weight], [embedding])
    set_rate(made, 0.01)
    (embedding.sum() + weight.sum()).backward()
    made.step()
    # The first step of each of the three is the rate, whatever the gradient.
    torch.testing.assert_close(embedding.detach(), torch.full((3, 2), -0.01))
    torch.testing.assert_close(weight.detach(), torch.full((3, 2), -0.01 * share))


def test_every_parameter_learns_and_the_embeddings_are_among_them() -> None:
    model = build_model(tiny_config(), ring())
    own = {id(parameter) for parameter in model.parameters()}
    assert {id(parameter) for parameter in model.embeddings()} < own
    for parameter in model.embeddings():
        assert len(parameter) in (ring().num_entities, 2 * ring().num_relations)
