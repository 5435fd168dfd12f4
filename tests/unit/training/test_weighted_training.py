"""Training on a graph where half of train is noise of low weight: weights help on test."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from rich.console import Console

from kgtool.cli.render.ranking import metrics_table
from kgtool.config import Config
from kgtool.data.dataset import KGDataset
from kgtool.evaluation.evaluator import evaluate_model
from kgtool.runs.run import Run
from kgtool.training.step import Updater
from kgtool.training.trainer import train
from tests.support.runs import all_paths_config, in_memory, tiny_config

ENTITIES, STEPS, EPOCHS, LOW = 60, (1, 2, 3, 5), 8, 0.05


def planted(seed: int) -> KGDataset:
    """Relation r leads from i to i + STEPS[r]; random triples of the weight LOW are as many."""
    generator = torch.Generator().manual_seed(seed)
    true = torch.tensor(
        [(i, r, (i + s) % ENTITIES) for i in range(ENTITIES) for r, s in enumerate(STEPS)]
    )
    order = torch.randperm(len(true), generator=generator)
    valid, test, train = true[order].split([24, 48, len(true) - 72])
    noise = [
        torch.randint(size, (len(train),), generator=generator)
        for size in (ENTITIES, len(STEPS), ENTITIES)
    ]
    known = set(map(tuple, true.tolist()))
    extra = sorted(set(map(tuple, torch.stack(noise, dim=1).tolist())) - known)
    rows = [*train.tolist(), *extra]
    data = in_memory(rows, valid.tolist(), test.tolist(), ENTITIES, len(STEPS))
    weight = torch.cat([torch.ones(len(train)), torch.full((len(extra),), LOW)])
    return replace(data, weights={"train": weight})


def mrr_of(dataset: KGDataset, config: Config) -> float:
    updater = Updater(config, dataset)
    for epoch in range(EPOCHS):
        for rows in updater.batches(updater.objective.order(updater.seed, epoch)):
            updater.make_step(rows)
    return evaluate_model(updater.scorer(), dataset, "test").mrr


@pytest.mark.parametrize(
    ("config", "gain"), [(tiny_config(dim=24), 1.2), (all_paths_config(dim=16), 1.5)],
    ids=["R-GCN", "all paths"],
)  # fmt: skip
def test_weights_help_where_half_of_train_is_noise(config: Config, gain: float) -> None:
    plain, weighted = 0.0, 0.0
    for seed in range(3):
        data, own = planted(seed), config.model_copy(update={"seed": seed})
        weighted += mrr_of(data, own) / 3
        plain += mrr_of(replace(data, weights={}), own) / 3
    assert weighted > gain * plain


def test_weighted_metrics_count_queries_by_weight() -> None:
    data = planted(0)
    updater = Updater(tiny_config(), data)
    plain = evaluate_model(updater.scorer(), data, "test")
    assert not plain.weighted
    assert "weighted" not in plain.to_dict()
    weight = 1 - 0.9 * torch.rand(len(data.test), generator=torch.Generator().manual_seed(0))
    found = evaluate_model(updater.scorer(), replace(data, weights={"test": weight}), "test")
    assert found.filtered == plain.filtered
    n = len(weight)
    for policy in ("realistic", "optimistic", "pessimistic"):
        rank = getattr(found.ranking.filtered, policy).tolist()
        sides = {"tail": range(n), "head": range(n, 2 * n), "both": range(2 * n)}
        for side, queries in sides.items():
            of = [(float(weight[i % n]), rank[i]) for i in queries]
            total = sum(w for w, _ in of)
            expected = {
                "mrr": sum(w / r for w, r in of) / total,
                "mr": sum(w * r for w, r in of) / total,
                "hits@10": sum(w for w, r in of if r <= 10) / total,
            }
            metrics = found.weighted[side][policy]
            assert {name: metrics[name] for name in expected} == pytest.approx(expected, rel=1e-5)
    assert found.to_dict()["weighted"]["both"]["realistic"] == found.weighted["both"]["realistic"]
    assert "both, weighted" in found.to_frame()["side"].tolist()
    console = Console(width=80, color_system=None)
    with console.capture() as capture:
        console.print(metrics_table(found))
    row = next(line for line in capture.get().splitlines() if "both, weighted" in line)
    assert f"{found.weighted['both']['realistic']['mrr']:.4f}" in row
    assert "a query counts by the weight of its triple" in capture.get()
    ones = evaluate_model(updater.scorer(), replace(data, weights={"test": weight * 0 + 1}), "test")
    assert ones.weighted == ones.filtered


def test_a_run_on_data_in_memory_holds_their_weights(tmp_path: Path) -> None:
    data = planted(0)
    run = train(tiny_config(), data, tmp_path / "run")
    again = Run.open(run.path).dataset()
    assert again.weights.keys() == {"train"}
    assert torch.equal(again.weights["train"], data.weights["train"])
    assert again.fingerprint == data.fingerprint
