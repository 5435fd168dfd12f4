"""Equal seeds and numbers of threads give equal bits, also if threads share a step."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from kgtool.config import Config
from kgtool.training.step import Updater
from tests.support.graphs import random_dataset
from tests.support.runs import all_paths_config, tiny_config

# So that a step gathers more numbers than torch gives to one thread, 32,768.
MANY: dict[str, Any] = {"dim": 96, "batch_size": 400}
CONFIGS: dict[str, Config] = {
    "no layer": tiny_config(encoder={"layers": 0}, **MANY),
    "a layer": tiny_config(encoder={"layers": 1}, dura=0.1, **MANY),
    "from relations": tiny_config(encoder={"entity_init": "relations"}, **MANY),
    "blocks": tiny_config(encoder={"num_blocks": 4}, **MANY),
    "product": tiny_config(encoder={"layers": 0}, cell="distmult", **MANY),
    "k-vs-all": tiny_config(loss="bce", training="KvsAll", **MANY),
    "paths": tiny_config(path_query_ratio=1.0, **MANY),
    "walks": tiny_config(walk_ratio=1.0, max_path_length=3, **MANY),
    "drawn": tiny_config(encoder={"fanout": 3}, num_negatives=400, optimizer="adagrad", **MANY),
    "all paths": all_paths_config(batch_size=100),
    "all paths, fed": all_paths_config(batch_size=100, encoder={"layers": 1}),
    "on a budget": all_paths_config(batch_size=100, node_budget=40),
}


@pytest.fixture(params=CONFIGS)
def config(request: pytest.FixtureRequest) -> Config:
    return CONFIGS[request.param]


def trained(config: Config, steps: int) -> list[torch.Tensor]:
    updater = Updater(config, random_dataset(1, num_entities=300, num_train=2000))
    for rows in updater.batches(updater.objective.order(config.seed, 0))[:steps]:
        updater.make_step(rows)
    return [parameter.detach() for parameter in updater.parameters]


def test_steps_give_the_same_bits_again(config):
    first = trained(config, 2)
    for _ in range(3):
        assert all(map(torch.equal, trained(config, 2), first))


def test_no_gradient_is_added_up_in_the_order_of_threads(config):
    """`x[rows]` adds gradients of repeated rows in any order; `index_select` has a fixed order."""
    updater = Updater(config, random_dataset(1, num_entities=300, num_train=2000))
    updater.model.train()
    rows = updater.batches(updater.objective.order(config.seed, 0))[0]
    seen, ahead = set(), [updater.objective.loss(updater.objective.parts(rows)[0])[0].grad_fn]
    while ahead:
        function = ahead.pop()
        if function is not None and function not in seen:
            seen.add(function)
            ahead += [before for before, _ in function.next_functions]
    names = {function.name() for function in seen}
    assert "IndexSelectBackward0" in names
    assert "IndexBackward0" not in names
