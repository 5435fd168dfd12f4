"""The smallest graphs: one relation, and one triple in valid and in test."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from typer.testing import CliRunner

import kgtool
from kgtool.cli import app
from kgtool.service.app import build_app
from tests.support.runs import all_paths_config, tiny_config

CONFIGS = {"one path": tiny_config(), "all paths": all_paths_config()}


def command(*arguments: str | Path) -> str:
    result = CliRunner().invoke(app, [*map(str, arguments)])
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture(scope="module", params=CONFIGS)
def run(request, tmp_path_factory) -> Path:
    """A run on 14 triples of one relation: valid and test have one each."""
    folder = tmp_path_factory.mktemp(request.param.replace(" ", "-"))
    lines = (f"u{i}\tr\tu{(3 * i + 1) % 14}\n" for i in range(14))
    (folder / "graph.tsv").write_text("".join(lines))
    command("data", "split", folder / "graph.tsv", "--out", folder / "data")
    config = CONFIGS[request.param].model_copy(update={"data": str(folder / "data")})
    data = kgtool.load_dataset(folder / "data")
    assert (data.num_relations, len(data.valid), len(data.test)) == (1, 1, 1)
    return kgtool.train(config, data, folder / "run", progress=False).path


def test_the_relation_of_a_pair_is_predicted(run):
    table = kgtool.predict(run, "u1", "?", "u9")
    assert table["relation"].tolist() == ["r"]
    assert all(math.isfinite(score) for score in table["score"])
    # Valid may be too small to fit probabilities.
    assert all(math.isnan(p) or 0 <= p <= 1 for p in table["probability"])
    assert "r" in command("predict", run, "u1", "?", "u9")


def test_a_line_of_one_pair_loses_no_other_answer(run, tmp_path):
    queries, out = tmp_path / "queries.tsv", tmp_path / "answers.tsv"
    queries.write_text("u1\tr\t?\nu1\t?\tu9\n?\tr\tu3\n")
    command("predict", run, "--queries", queries, "--out", out)
    asked = [line.split("\t")[:2] for line in out.read_text().splitlines()[1:]]
    assert len({tuple(each) for each in asked}) >= 3


def test_all_is_ready_for_the_service(run):
    predictor = kgtool.open_predictor(run)
    predictor.prepare()
    build_app(predictor, ["localhost"])


def test_all_tasks_have_a_value(run):
    for task in ("relations", "triples"):
        command("evaluate", run, "--task", task)
    found = kgtool.evaluate_relations(run)
    assert found.evaluation.filtered["realistic"]["mrr"] == 1
    assert all(math.isfinite(weight) for weight in found.evaluation.weights)
