"""Averaged weights: the definition, where they are used, and that runs resume exactly."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from kgtool.config import Config
from kgtool.errors import ConfigError, RunError
from kgtool.evaluation.evaluator import evaluate_model
from kgtool.runs.run import BEST, LAST, Run
from kgtool.storage.checkpoint import load_tensors, save_tensors
from kgtool.training.step import Updater
from kgtool.training.trainer import train
from tests.support.graphs import random_dataset
from tests.support.runs import all_paths_config, combined_config, random_config, ring, tiny_config
from tests.unit.training.test_determinism import MANY
from tests.unit.training.test_trainer import assert_same, stop_and_go_on

SHARE = 0.3
KINDS: dict[str, Callable[..., Config]] = {
    "one path": random_config,
    "all paths": all_paths_config,
    "both": combined_config,
}


def fit(config: Config, out: Path, resume: bool = False) -> Run:
    return train(config, ring(), out, resume=resume, progress=False)


@pytest.fixture(scope="module", params=KINDS)
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Run:
    config = KINDS[request.param](average_weights=SHARE)
    return fit(config, tmp_path_factory.mktemp("average") / "run")


def averages(config: Config, steps: int) -> tuple[list[list[Tensor]], list[Tensor]]:
    """The weights after each step, and the average after the last."""
    updater = Updater(config, random_dataset(1, num_entities=300, num_train=2000))
    seen = []
    for rows in updater.batches(updater.objective.order(config.seed, 0))[:steps]:
        updater.make_step(rows)
        updater.step += 1
        seen.append([parameter.detach().clone() for parameter in updater.parameters])
    return seen, [updater.average[name] for name in updater.names]


def test_the_average_follows_its_definition():
    seen, found = averages(random_config(average_weights=SHARE), 12)
    assert len(seen) == 12
    for i, average in enumerate(found):
        expected = seen[0][i].double()
        for step, weights in enumerate(seen, start=1):
            share = min(1.0, 1 / (SHARE * step))
            expected = (1 - share) * expected + share * weights[i]
        torch.testing.assert_close(average.double(), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "config",
    [random_config(average_weights=SHARE, **MANY), all_paths_config(average_weights=SHARE)],
    ids=["one path", "all paths"],
)
def test_threads_change_no_bit_of_it(config):
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 4):
            torch.set_num_threads(threads)
            found.append([tensor.numpy().tobytes() for tensor in averages(config, 5)[1]])
    finally:
        torch.set_num_threads(before)
    assert found[1] == found[0]
    assert found[2] == found[0]


def test_the_steps_are_those_of_a_run_without(run, tmp_path):
    training = run.config.training
    own = training.one_path and training.one_path.model_copy(update={"average_weights": 0.0})
    training = training.model_copy(update={"average_weights": 0.0, "one_path": own})
    plain = fit(run.config.model_copy(update={"training": training}), tmp_path / "plain")
    ours, theirs = (load_tensors(each.path / LAST)[0] for each in (run, plain))
    averaged = {name for name in ours if name.startswith("average.")}
    assert ours.keys() - averaged == theirs.keys()
    # The passes of a combined model are trained apart from the embeddings that it restores.
    trained = [name for name in theirs if not name.startswith(("model.one_path", "model.mixture"))]
    assert all(torch.equal(ours[name], theirs[name]) for name in trained)
    ours, theirs = (load_tensors(each.path / BEST)[0] for each in (run, plain))
    assert not all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_the_best_weights_are_the_averages_that_were_validated(run):
    found = evaluate_model(run.scorer(ring()), ring(), "valid")
    assert found.mrr == pytest.approx(run.best_validation()["valid_mrr"], abs=1e-9)
    last, best = load_tensors(run.path / LAST)[0], load_tensors(run.path / BEST)
    if best[1]["epoch"] == run.history()[-1]["epoch"]:
        prefix = "all_paths." if run.config.combined else ""
        for name, tensor in last.items():
            if name.startswith("average."):
                assert torch.equal(best[0][prefix + name.removeprefix("average.")], tensor)


@pytest.mark.parametrize("step", [1, 6, 8, 14])
def test_a_run_stopped_and_resumed_is_the_run_never_stopped(run, tmp_path, step):
    assert_same(stop_and_go_on(run.config, tmp_path / "run", step), run)


def test_a_longer_run_is_the_run_that_was_long_from_the_start(tmp_path):
    settings = {"average_weights": SHARE, "lr_schedule": "constant"}
    long = fit(random_config(epochs=5, **settings), tmp_path / "long")
    fit(random_config(epochs=3, **settings), tmp_path / "run")
    assert_same(fit(long.config, tmp_path / "run", resume=True), long)


def test_weights_of_another_run_are_validated_as_they_are(run, tmp_path):
    config = run.config.model_copy(update={"seed": 8})
    again = train(config, ring(), tmp_path / "run", init_from=run, progress=False)
    first = again.history()[0]
    assert first["epoch"] == 0
    assert again.best_validation()["valid_mrr"] >= first["valid_mrr"]


def test_a_checkpoint_with_a_damaged_average_is_refused(run, tmp_path):
    fit(run.config, tmp_path / "run")
    last = tmp_path / "run" / LAST
    tensors, state = load_tensors(last)
    name = next(name for name in tensors if name.startswith("average."))
    less = {key: tensor.clone() for key, tensor in tensors.items() if key != name}
    save_tensors(last, less, state)
    with pytest.raises(RunError, match="incomplete checkpoint"):
        fit(run.config, tmp_path / "run", resume=True)
    save_tensors(last, less | {name: torch.zeros(1, 2, 3, 4)}, state)
    with pytest.raises(RunError, match=r"damaged checkpoint \(the average of .* wrong shape"):
        fit(run.config, tmp_path / "run", resume=True)


def test_negative_sampling_refuses_it():
    with pytest.raises(ConfigError, match=r"needs training\.average_weights = 0, not 0\.3"):
        tiny_config(num_negatives=4, optimizer="adagrad", average_weights=SHARE)
