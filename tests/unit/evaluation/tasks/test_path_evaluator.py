"""Metrics of path queries, compared with counting entity by entity."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import pandas as pd
import pytest
import torch
from torch import Tensor
from typer.testing import CliRunner

import kgtool
from kgtool.cli import app
from kgtool.data.answer_index import AnswerIndex
from kgtool.data.dataset import KGDataset, with_inverses
from kgtool.data.loaders import load_dataset
from kgtool.errors import ConfigError, DataError, ScoreError
from kgtool.evaluation.evaluator import evaluate_model
from kgtool.evaluation.tasks import path_evaluator
from kgtool.evaluation.tasks.path_composition import ComposedSteps
from kgtool.evaluation.tasks.path_evaluator import (
    COLUMNS,
    METRICS,
    PathEvaluation,
    evaluate_path_queries,
)
from kgtool.evaluation.tasks.path_queries import PARTS, PathQueries, sample_path_queries
from kgtool.models.scorers import EmbeddingScorer
from kgtool.runs.run import Run
from kgtool.storage.files import read_json
from kgtool.storage.tables import load_table
from kgtool.training.trainer import train
from tests.support.graphs import random_dataset, tuples_of
from tests.support.runs import (
    Table,
    all_paths_config,
    in_memory,
    ring,
    tiny_config,
    write_folder,
)


@dataclass(frozen=True, eq=False)
class Drawn:
    """Integer scores with ties that depend on the whole query."""

    num_entities: int

    def score_paths(self, head: Tensor, path: Tensor, length: Tensor) -> Tensor:
        rows = []
        for h, p, k in zip(head.tolist(), path.tolist(), length.tolist(), strict=True):
            generator = torch.Generator().manual_seed(hash((h, *p[:k])) % 2**40)
            rows.append(torch.randint(6, (self.num_entities,), generator=generator).float())
        return torch.stack(rows)


@dataclass(frozen=True, eq=False)
class Always:
    """The same scores for every query."""

    scores: Tensor

    def score_paths(self, head: Tensor, path: Tensor, length: Tensor) -> Tensor:
        return self.scores.repeat(len(head), 1)


def slow_metrics(
    model: Drawn, dataset: KGDataset, split: str, queries: PathQueries, part: str, length: int
) -> tuple[list[float], int, int]:
    """The mean of each metric over queries, the number of typed queries, the number of ranks."""
    edges = tuples_of(with_inverses(dataset.filter_triples(split), dataset.num_relations))
    totals, typed_queries, ranked = [], 0, 0
    sums = [0.0] * len(METRICS)
    for i in range(len(queries)):
        if queries.held_out[i] != (part == "held-out") or queries.length[i] != length:
            continue
        path = queries.path[i, :length]
        (scores,) = model.score_paths(queries.head[i : i + 1], path[None], torch.tensor([length]))
        own = slice(int(queries.offsets[i]), int(queries.offsets[i + 1]))
        true = queries.answer[own].tolist()
        of_type = {t for _, r, t in edges if r == path[-1]}
        rows = []
        for answer in queries.answer[own][queries.target[own]].tolist():
            negatives = [e for e in range(dataset.num_entities) if e not in true]
            typed = [e for e in negatives if e in of_type]

            def rank(among: list[int], score: Tensor = scores[answer], all_=scores) -> float:
                return 1 + sum(
                    float(all_[e] > score) + 0.5 * float(all_[e] == score) for e in among
                )

            quantile = math.nan
            if typed:
                below = sum(float(scores[e] < scores[answer]) for e in typed)
                level = sum(float(scores[e] == scores[answer]) for e in typed)
                quantile = (below + level / 2) / len(typed)
            full = rank(negatives)
            rows.append([quantile, rank(typed) <= 10, 1 / full, full <= 1, full <= 10])
        ranked += len(rows)
        means = [sum(column) / len(rows) for column in zip(*rows, strict=True)]
        has_typed = not math.isnan(means[0])
        typed_queries += has_typed
        for j, mean in enumerate(means):
            if j > 1 or has_typed:
                sums[j] += mean
        totals.append(means)
    counts = [typed_queries] * 2 + [len(totals)] * (len(METRICS) - 2)
    return (
        [s / c if c else math.nan for s, c in zip(sums, counts, strict=True)],
        typed_queries,
        ranked,
    )


@pytest.mark.parametrize("block_bytes", [1, 2**20])
def test_metrics_are_those_of_counting(monkeypatch, block_bytes):
    monkeypatch.setattr(path_evaluator, "BLOCK_BYTES", block_bytes)
    dataset = random_dataset(1)
    model = Drawn(dataset.num_entities)
    queries = sample_path_queries(dataset, "test", (2, 3), count=12)
    found = evaluate_path_queries(model, dataset, "test", queries)
    checked = 0
    for part in PARTS:
        for length in (2, 3):
            expected, typed, ranked = slow_metrics(model, dataset, "test", queries, part, length)
            rows = found.table[
                (found.table["answers"] == part) & (found.table["length"] == str(length))
            ].set_index("metric")
            for metric, value in zip(METRICS, expected, strict=True):
                if metric not in rows.index:
                    assert metric in METRICS[:2]
                    assert typed == 0
                    continue
                row = rows.loc[metric]
                assert row["value"] == pytest.approx(value), (part, length, metric)
                assert row["ranked"] == ranked
                assert row["low"] <= row["value"] <= row["high"]
                checked += 1
            assert rows.loc["mrr", "queries"] == 12
            if typed:
                assert rows.loc["mean_quantile", "queries"] == typed
    assert checked > 12


def test_all_lengths_are_their_queries_pooled():
    dataset = random_dataset(2)
    queries = sample_path_queries(dataset, "test", (1, 2, 3), count=9)
    found = evaluate_path_queries(Drawn(dataset.num_entities), dataset, "test", queries)
    for part in PARTS:
        rows = found.table[(found.table["answers"] == part) & (found.table["metric"] == "mrr")]
        each = rows[rows["length"] != "all"]
        pooled = float((each["value"] * each["queries"]).sum() / each["queries"].sum())
        assert found.value(part, "all", "mrr") == pytest.approx(pooled)
        (row,) = rows[rows["length"] == "all"].to_dict("records")
        assert (row["queries"], row["ranked"]) == (each["queries"].sum(), each["ranked"].sum())


def test_constant_scores_are_chance():
    dataset = random_dataset(3)
    queries = sample_path_queries(dataset, "test", (2,), count=10)
    found = evaluate_path_queries(Always(torch.zeros(12)), dataset, "test", queries)
    for part in PARTS:
        assert found.value(part, 2, "mean_quantile") == pytest.approx(0.5)
    assert torch.equal(found.ranks.optimistic, torch.ones(len(found.ranks.better)).double())
    assert torch.equal(found.ranks.pessimistic, found.ranks.candidates.double())


def test_knowing_the_answers_is_best():
    dataset = random_dataset(4)
    queries = sample_path_queries(dataset, "test", (2, 3), count=10)
    edges = AnswerIndex(
        with_inverses(dataset.filter_triples("test"), dataset.num_relations),
        2 * dataset.num_relations,
    )
    n = dataset.num_entities
    scores = torch.zeros(n, 2 * dataset.num_relations, n)
    scores[tuple(edges.triples().t())] = 20
    composed = ComposedSteps(Table(scores), edges, n, beam=n)
    found = evaluate_path_queries(composed, dataset, "test", queries)
    assert found.table["value"].tolist() == pytest.approx([1.0] * len(found.table))


def test_one_relation_is_link_prediction():
    dataset = random_dataset(5)
    generator = torch.Generator().manual_seed(0)
    scores = torch.rand(12, 6, 12, generator=generator)
    model = Table(scores)
    known = AnswerIndex(with_inverses(dataset.train, 3), 6)
    queries = sample_path_queries(dataset, "test", (1,), count=50)
    found = evaluate_path_queries(ComposedSteps(model, known, 12), dataset, "test", queries)
    ranking = evaluate_model(model, dataset, "test")
    by_triple = {
        triple: float(rank)
        for triple, rank in zip(
            tuples_of(ranking.queries), ranking.ranking.filtered.realistic, strict=True
        )
    }
    query = torch.repeat_interleave(queries.offsets.diff())[queries.target]
    checked = 0
    for i, tail, rank in zip(
        query.tolist(), queries.answer[queries.target].tolist(), found.ranks.realistic, strict=True
    ):
        triple = (int(queries.head[i]), int(queries.path[i, 0]), tail)
        if triple in by_triple:
            assert float(rank) == by_triple[triple]
            checked += 1
    assert checked == len(by_triple)


def test_a_query_without_negatives_of_its_type_has_no_quantile():
    # Relation 0 ends at 1 alone, which is the answer; ^0 at 0 and 2, both answers.
    dataset = in_memory([(0, 0, 1)], [], [(2, 0, 1)], 4)
    queries = sample_path_queries(dataset, "test", (1,), count=5)
    found: PathEvaluation = evaluate_path_queries(Always(torch.rand(4)), dataset, "test", queries)
    assert set(found.table["metric"]) == set(METRICS[2:])


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_scores_that_are_not_finite_are_refused(value):
    dataset = random_dataset(6)
    queries = sample_path_queries(dataset, "test", (2,), count=3)
    scores = torch.zeros(12)
    scores[5] = value
    path = "/".join(map(str, queries.path[0].tolist()))
    text = rf"for the path query \(head {int(queries.head[0])}, relations {path}, \?\)"
    with pytest.raises(ScoreError, match=text):
        evaluate_path_queries(Always(scores), dataset, "test", queries)


def test_scores_of_another_shape_and_no_queries():
    dataset = random_dataset(6)
    queries = sample_path_queries(dataset, "test", (2,), count=3)
    with pytest.raises(ValueError, match="score_paths gave"):
        evaluate_path_queries(Always(torch.zeros(5)), dataset, "test", queries)
    none = sample_path_queries(dataset, "test", (2,), count=3, max_answers=0)
    with pytest.raises(ValueError, match="no path queries"):
        evaluate_path_queries(Always(torch.zeros(12)), dataset, "test", none)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("path-runs")
    data = load_dataset(write_folder(ring(), folder / "ring"))
    train(all_paths_config(epochs=1), data, folder / "all", progress=False)
    train(tiny_config(epochs=1), data, folder / "one", progress=False)
    return folder


QUICK = ["--lengths", "2,3", "--num-queries", "15"]


@pytest.mark.parametrize(
    ("run", "flags", "kind", "how"),
    [
        ("one", [], "paths", "path read"),
        ("one", ["--compose"], "paths.composed", "steps composed"),
        ("all", [], "paths", "steps composed"),
    ],
)
def test_the_command(runs, monkeypatch, run, flags, kind, how):
    monkeypatch.setenv("COLUMNS", "80")
    result = CliRunner().invoke(
        app, ["evaluate", str(runs / run), "--task", "paths", "--split", "valid", *QUICK, *flags]
    )
    assert result.exit_code == 0, result.output
    lines = result.output.splitlines()
    table = lines[: next(i for i, line in enumerate(lines) if line.startswith("Written"))]
    assert max(map(len, table)) <= 80
    assert f"valid: 60 path queries, {how}" in result.output
    told = read_json(runs / run / f"{kind}.valid.json")
    assert told["answered"] == how
    assert [told["seed"], told["max_answers"], told["split"]] == [0, 1000, "valid"]
    assert sum(drawn["queries"] for drawn in told["drawn"]) == 60
    frame = load_table(runs / run / f"{kind}.valid.tsv")
    assert tuple(frame) == COLUMNS
    for row in frame.to_dict("records"):
        cell = told[row["answers"]][row["length"]][row["metric"]]
        assert float(row["value"]) == pytest.approx(cell["value"])
        assert int(row["ranked"]) == cell["ranked"]
    mrr = told["held-out"]["3"]["mrr"]["value"]
    assert f"{mrr:.4f}" in result.output


def test_the_notebooks_function_says_the_same(runs):
    data = load_dataset(runs / "ring")
    run = Run.open(runs / "one")
    results = kgtool.evaluate_paths(run, "valid", lengths=(2, 3), num_queries=15)
    queries = sample_path_queries(data, "valid", (2, 3), count=15)
    scorer = run.model(data).scorer()
    assert isinstance(scorer, EmbeddingScorer)
    expected = evaluate_path_queries(scorer, data, "valid", queries)
    pd.testing.assert_frame_equal(results.table, expected.table)
    steps = kgtool.evaluate_paths(run, "valid", lengths=(1,), num_queries=15, compose=True)
    whole = kgtool.evaluate_paths(run, "valid", lengths=(1,), num_queries=15)
    pd.testing.assert_frame_equal(steps.table, whole.table)


def test_mistakes(runs, tmp_path):
    refused = CliRunner().invoke(
        app, ["evaluate", str(runs / "one"), "--task", "paths", "--split", "train"]
    )
    assert isinstance(refused.exception, ConfigError)
    assert "split is 'train'. Remedy: pass one of valid, test." in str(refused.exception)
    refused = CliRunner().invoke(
        app, ["evaluate", str(runs / "one"), "--task", "paths", "--lengths", "2,0"]
    )
    assert "--lengths 2,0: not whole numbers above 0" in str(refused.exception)
    bare = in_memory(ring().train.tolist(), [], [], 24, 3)
    star = in_memory([(0, 0, 2), (1, 0, 2), (0, 0, 3), (1, 0, 3)], [], [(4, 0, 2)], 24, 3)
    with pytest.raises(DataError, match="ring: test holds no triples"):
        kgtool.evaluate_paths(runs / "one", data=replace(bare, name="ring"))
    with pytest.raises(DataError, match="no path query with at most 1 answers"):
        kgtool.evaluate_paths(runs / "one", data=star, lengths=(2,), num_queries=3, max_answers=1)
