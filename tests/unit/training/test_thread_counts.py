"""The number of threads changes no bit of training, of ranks and of scores, for any model."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import kgtool
from kgtool.config import Config, load_config
from kgtool.data.dataset import KGDataset
from kgtool.evaluation.evaluator import evaluate_model
from kgtool.models.model import AllPathsModel
from kgtool.training.objectives import AllPathsObjective
from kgtool.training.step import Updater
from tests.support.graphs import random_dataset
from tests.support.places import ROOT
from tests.support.runs import all_paths_config, tiny_config
from tests.unit.training.test_determinism import CONFIGS, MANY

# Kinds of draws that threads might share, in addition to the kinds of models.
DRAWING: dict[str, Config] = {
    "dropout": tiny_config(
        encoder={"feature_dropout": 0.2, "edge_dropout": 0.2}, input_dropout=0.2,
        output_dropout=0.2, **MANY,
    ),
    "all paths, thinned": all_paths_config(batch_size=100, edge_dropout=0.3),
    "all paths, fed, thinned": all_paths_config(
        batch_size=100, edge_dropout=0.3, encoder={"layers": 1}
    ),
    "conditional, thinned": all_paths_config(
        batch_size=100, edge_dropout=0.3, encoder={"kind": "relations", "layers": 2}
    ),
    "on a budget, thinned": all_paths_config(batch_size=100, node_budget=40, edge_dropout=0.3),
}  # fmt: skip
KINDS = CONFIGS | DRAWING


@cache
def small() -> KGDataset:
    return random_dataset(1, num_entities=300, num_train=2000)


def bits(config: Config, dataset: KGDataset, steps: int, precision: str) -> list[Any]:
    """The losses and weights of some steps, and the ranks and scores after them."""
    if config.combined:
        parts = config.parts.values()
        return [bits(part, dataset, steps, precision) for part in parts]
    training = config.training.model_copy(update={"precision": precision})
    updater = Updater(config.model_copy(update={"training": training}), dataset)
    losses = []
    for rows in updater.batches(updater.objective.order(config.seed, 0))[:steps]:
        losses.append(updater.make_step(rows))
        updater.step += 1
    ranking = evaluate_model(updater.scorer(), dataset, "test").ranking
    weights = [parameter.detach().numpy().tobytes() for parameter in updater.parameters]
    ranks = (ranking.filtered.better, ranking.filtered.equal, ranking.score)
    return [losses, weights, [rank.numpy().tobytes() for rank in ranks]]


@pytest.fixture(autouse=True)
def _put_threads_back() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture
def _small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Divide small work, too."""
    monkeypatch.setattr("kgtool.ops.runtime.threads.PRODUCT", 1 << 16)
    monkeypatch.setattr("kgtool.models.all_paths.PART_EDGES", 1 << 12)


def on_threads(config: Config, dataset: KGDataset, steps: int, precision: str) -> list[list[Any]]:
    """The bits on 1, 2 and 4 threads."""
    found = []
    for threads in (1, 2, 4):
        torch.set_num_threads(threads)
        found.append(bits(config, dataset, steps, precision))
        assert torch.get_num_threads() == threads
    return found


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.usefixtures("_small_parts")
def test_bits_are_those_of_one_thread(kind, precision):
    one, *others = on_threads(KINDS[kind], small(), 2, precision)
    for other in others:
        assert other == one


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize(
    ("archive", "preset", "steps"),
    [
        ("inductive-fb237_v1.tar.gz", "inductive", 12),
        ("kinship.tar.gz", "kinship", 11),
        ("kinship.tar.gz", "kinship-one-path", 11),
        ("WN18RR.tar.gz", "wn18rr", 9),
        ("WN18RR.tar.gz", "wn18rr-one-path", 3),
        ("FB15k-237.tar.gz", "fb15k-237-one-path", 2),
    ],
)
def test_bits_of_the_presets(
    benchmark_archive: Callable[[str], Path], tmp_path: Path, archive: str, preset: str, steps: int,
    precision: str,
):  # fmt: skip
    place = benchmark_archive(archive)
    if archive.startswith("inductive-"):  # it holds two graphs
        with tarfile.open(place) as packed:
            packed.extractall(tmp_path, filter="data")
        place = tmp_path / archive.removeprefix("inductive-").removesuffix(".tar.gz")
    dataset = kgtool.load_dataset(place)
    some = KGDataset(
        dataset.name, dataset.path, dataset.vocabulary,
        dataset.train, dataset.valid, dataset.test[:100],
    )  # fmt: skip
    config = load_config(ROOT / "configs" / f"{preset}.toml")
    one, *others = on_threads(config, some, steps, precision)
    for other in others:
        assert other == one


PROGRAM = """
import hashlib, json, sys
from tests.unit.training.test_thread_counts import KINDS, bits, small
for kind in sys.argv[1:]:
    found = repr(bits(KINDS[kind], small(), 2, "float32"))
    print(hashlib.sha256(found.encode()).hexdigest())
"""


def test_threads_set_by_the_environment():
    """A product, softplus and a layer norm round otherwise on more threads of torch."""

    def printed(threads: str) -> str:
        environment = os.environ | {"OMP_NUM_THREADS": threads, "PYTHONPATH": str(ROOT)}
        run = [sys.executable, "-c", PROGRAM, "a layer", "k-vs-all", "on a budget"]
        return subprocess.run(
            run, env=environment, capture_output=True, text=True, check=True
        ).stdout

    assert printed("1") == printed("3") != ""


@pytest.mark.parametrize("budget", [0, 40])
def test_draws_do_not_depend_on_the_parts(monkeypatch, budget):
    """The targets of a batch and its dropped edges are drawn once, for any number of parts."""
    updater = Updater(all_paths_config(edge_dropout=0.3, node_budget=budget), small())
    objective = updater.objective
    assert isinstance(objective, AllPathsObjective)
    rows = objective.order(0, 0)[:16]

    def drawn(edges: int) -> tuple[int, list[Tensor]]:
        monkeypatch.setattr("kgtool.models.all_paths.PART_EDGES", edges)
        torch.manual_seed(3)
        parts = objective.parts(rows)
        assert len({id(part.graph) for part in parts}) == 1
        assert len({part.seed for part in parts}) == 1
        excluded = [edge for part in parts for edge in part.excluded_edges]
        heads = torch.cat([part.head for part in parts])
        of_head = torch.cat([part.head[part.position] for part in parts])
        relations, tails = (
            torch.cat([getattr(part, name) for part in parts]) for name in ("relation", "tail")
        )
        return len(parts), [heads, of_head, relations, tails, *excluded]

    (one, whole), (many, divided) = drawn(1 << 40), drawn(1)
    assert (one, many) == (1, 16)
    assert all(map(torch.equal, whole, divided))
    assert len(whole) == len(divided)


def test_parts_do_not_depend_on_threads(monkeypatch):
    monkeypatch.setattr("kgtool.models.all_paths.PART_EDGES", 1 << 16)
    model, sizes = Updater(all_paths_config(), small()).model, []
    assert isinstance(model, AllPathsModel)
    for threads in (1, 2, 4):
        torch.set_num_threads(threads)
        parts = model.decoder.split(model.graph, torch.arange(64))
        sizes.append([len(part) for part in parts])
    assert len(sizes[0]) > 4
    assert sizes[0] == sizes[1] == sizes[2]
