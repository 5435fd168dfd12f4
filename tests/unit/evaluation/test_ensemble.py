"""Ensembles of two models: the weight with the best MRR on valid; command line and Python."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor
from typer.testing import CliRunner

import kgtool
from kgtool.cli import app
from kgtool.data.dataset import KGDataset, with_inverses
from kgtool.data.loaders import load_dataset
from kgtool.errors import RunError
from kgtool.evaluation.ensemble import (
    FOLDS,
    PART_WEIGHTS,
    PRIORS,
    WEIGHTS,
    Ensemble,
    fit_ensemble,
    fit_mixture,
)
from kgtool.evaluation.evaluator import evaluate_model
from kgtool.models.scorers import SumScorer, as_scorer
from kgtool.runs.run import Run
from kgtool.storage.files import read_json
from kgtool.training.trainer import train
from tests.support.graphs import random_dataset
from tests.support.runs import all_paths_config, ring, tiny_config, write_folder


class Table:
    """Random scores for every (head, relation)."""

    def __init__(self, dataset: KGDataset, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        n, r = dataset.num_entities, 2 * dataset.num_relations
        self.scores = torch.rand(n, r, n, generator=generator)

    def score_t(self, hr: Tensor) -> Tensor:
        return self.scores[hr[:, 0], hr[:, 1]]


def test_the_weight_is_the_best_on_valid():
    dataset = random_dataset(1, num_entities=12)
    first, second = Table(dataset, 0), Table(dataset, 1)
    second.scores[tuple(dataset.valid.t())] += 5  # it knows the answers to one side
    found = fit_ensemble(first, second, dataset)
    by_hand = {
        weight: evaluate_model(
            Ensemble(as_scorer(first), as_scorer(second), weight, {}), dataset, "valid"
        ).mrr
        for weight in WEIGHTS
    }
    assert found.mrr == pytest.approx(by_hand)
    assert found.mrr[found.weight] == max(found.mrr.values())
    assert found.weight > 0
    hr = dataset.valid[:3, :2]
    expected = first.score_t(hr) + found.weight * second.score_t(hr)
    assert torch.equal(found.score_t(hr), expected)


def test_a_second_model_that_says_nothing_has_no_weight():
    dataset = random_dataset(2)
    first, flat = Table(dataset, 0), Table(dataset, 1)
    flat.scores.fill_(0.5)
    assert fit_ensemble(first, flat, dataset).weight == 0


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("blend")
    data = load_dataset(write_folder(ring(), folder / "ring"))
    train(all_paths_config(epochs=2), data, folder / "paths", progress=False)
    train(tiny_config(epochs=2), data, folder / "embeddings", progress=False)
    return folder


def test_two_runs(runs):
    paths, embeddings = str(runs / "paths"), str(runs / "embeddings")
    alone = kgtool.evaluate(paths, "valid").mrr
    result = CliRunner().invoke(
        app, ["evaluate", paths, "--ensemble", embeddings, "--split", "valid"]
    )
    assert result.exit_code == 0, result.output
    metrics = read_json(runs / "paths" / "metrics.with-embeddings.valid.json")
    (told,) = metrics["with"]
    assert told["run"] == embeddings
    assert told["valid_mrr"]["0"] == pytest.approx(alone)
    best = told["valid_mrr"][f"{told['weight']:g}"]
    assert metrics["both"]["realistic"]["mrr"] == pytest.approx(best)
    assert f"valid MRR {best:.4f}, without {alone:.4f}" in " ".join(result.output.split())


def test_a_third_run_is_added_to_the_sum_of_two(runs):
    data = load_dataset(runs / "ring")
    paths, embeddings = runs / "paths", runs / "embeddings"
    kgtool.evaluate(paths, "valid", ensemble=[embeddings, paths])
    metrics = read_json(paths / "metrics.with-embeddings.with-paths.valid.json")
    first, second = metrics["with"]
    assert [Path(told["run"]) for told in (first, second)] == [embeddings, paths]
    assert second["valid_mrr"]["0"] == first["valid_mrr"][f"{first['weight']:g}"]
    one, other = (Run.open(path).model(data).scorer() for path in (paths, embeddings))
    both = Ensemble(one, other, first["weight"], {})
    expected = evaluate_model(Ensemble(both, one, second["weight"], {}), data, "valid").mrr
    assert metrics["both"]["realistic"]["mrr"] == pytest.approx(expected)


@pytest.mark.parametrize(
    ("config", "label"),
    [(tiny_config, "e0"), (tiny_config, "r000"), (all_paths_config, "r000")],
)
def test_runs_of_other_labels_are_refused(runs, tmp_path, config, label):
    other = write_folder(ring(), tmp_path / "other")
    for file in other.iterdir():
        file.write_text(file.read_text().replace(label, "x1"))
    run = train(config(epochs=1), load_dataset(other), tmp_path / "run", progress=False)
    with pytest.raises(RunError, match="has other labels, or other ids for them"):
        kgtool.evaluate(runs / "paths", ensemble=[run])


def large_valid(count: int) -> KGDataset:
    """A random data set; valid has the first half of `count` triples."""
    dataset = random_dataset(3, num_entities=30, num_relations=4, num_train=count)
    train = dataset.train
    half = len(train) // 2
    return replace(dataset, train=train[half:], valid=train[:half])


def planted(good: list[int], count: int = 400) -> tuple[KGDataset, Table, Table]:
    """Two models: the second one knows the answers to some relation ids, which the first does not.

    Args:
        good: these relation ids; 4 relations have 8 ids.
        count: number of triples.
    """
    dataset = large_valid(count)
    first, second = Table(dataset, 0), Table(dataset, 1)
    triples = with_inverses(dataset.valid, 4)
    for knows, relation in ((second, True), (first, False)):
        own = triples[torch.isin(triples[:, 1], torch.tensor(good)) == relation]
        knows.scores[tuple(own.t())] += 1
    return dataset, first, second


def test_relations_have_weights_of_their_own_where_these_are_better():
    dataset, first, second = planted([0, 1, 5])
    found = fit_mixture(first, second, dataset)
    assert found.prior < float("inf")
    assert found.weight.shape == (8,)
    assert found.weight[[0, 1, 5]].min() > found.weight[[2, 3, 4, 6, 7]].max()
    both = SumScorer(as_scorer(first), as_scorer(second), found.weight)
    evaluated = evaluate_model(both, dataset, "valid")
    assert found.evaluation.to_dict() == evaluated.to_dict()
    assert evaluated.mrr > fit_ensemble(first, second, dataset).mrr[1.0]


def test_relations_share_a_weight_where_their_own_is_no_better():
    dataset = large_valid(400)
    first, flat = Table(dataset, 0), Table(dataset, 1)
    flat.scores.fill_(0.5)
    found = fit_mixture(first, flat, dataset)
    assert (found.prior, found.weight.unique().tolist()) == (float("inf"), [0.0])
    # One weight is the best of each relation.
    triples = with_inverses(dataset.valid, 4)
    first.scores[tuple(triples.t())], flat.scores[tuple(triples.t())] = -1.0, 2.0
    found = fit_mixture(first, flat, dataset)
    assert found.prior == float("inf")
    assert found.evaluation.mrr == 1.0


def test_the_weights_are_those_of_a_slow_loop():
    dataset, first, second = planted([2, 6], count=150)
    found = fit_mixture(first, second, dataset)
    queries = with_inverses(dataset.valid, 4).tolist()
    ranks = {
        weight: 1 / evaluate_model(
            SumScorer(as_scorer(first), as_scorer(second), weight), dataset, "valid"
        ).ranking.filtered.realistic
        for weight in PART_WEIGHTS
    }  # fmt: skip

    def best(prior: float, rows: list[int]) -> dict[int, float]:
        mean = {w: float(mrr[rows].mean()) for w, mrr in ranks.items()}
        chosen = {}
        for relation in range(8):
            own = [i for i in rows if queries[i][1] == relation]
            total = {
                w: mean[w] if prior == float("inf")
                else sum(float(mrr[i]) for i in own) + prior * mean[w]
                for w, mrr in ranks.items()
            }  # fmt: skip
            chosen[relation] = max(total, key=lambda w: total[w])
        return chosen

    n = len(dataset.valid)
    held_out = {}
    for prior in PRIORS:
        held_out[prior] = 0.0
        for fold in range(FOLDS):
            weights = best(prior, [i for i in range(2 * n) if i % n % FOLDS != fold])
            held_out[prior] += sum(
                float(ranks[weights[queries[i][1]]][i])
                for i in range(2 * n) if i % n % FOLDS == fold
            )  # fmt: skip
    prior = max(held_out, key=lambda p: held_out[p])
    assert found.prior == prior
    expected = best(prior, list(range(2 * n)))
    assert found.weight.tolist() == pytest.approx([expected[r] for r in range(8)])


def test_one_valid_triple_is_enough_for_a_weight():
    dataset = random_dataset(3, num_entities=30, num_relations=4, num_train=60)
    dataset = replace(dataset, valid=dataset.valid[:1])
    found = fit_mixture(Table(dataset, 0), Table(dataset, 1), dataset)
    assert found.prior == float("inf")
    assert found.weight.isfinite().all()
