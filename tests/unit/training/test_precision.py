"""bfloat16 rounds the products of a step; the loss stays near that of float32 for every model."""

from __future__ import annotations

import pytest

from kgtool.training.step import Updater
from tests.unit.training.test_thread_counts import KINDS, small


@pytest.mark.parametrize("kind", KINDS)
def test_bfloat16_gives_nearly_the_loss_of_float32(kind):
    losses = []
    for precision in ("float32", "bfloat16"):
        training = KINDS[kind].training.model_copy(update={"precision": precision})
        updater = Updater(KINDS[kind].model_copy(update={"training": training}), small())
        losses.append(updater.make_step(updater.batches(updater.objective.order(0, 0))[0]))
    assert losses[1] == pytest.approx(losses[0], rel=0.03)
