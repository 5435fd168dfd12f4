"""Every task of evaluation returns a `Result`, whose files hold what it gives."""

from __future__ import annotations

import json

import pytest

import kgtool
from kgtool.data.loaders import load_dataset
from kgtool.errors import KGToolError
from kgtool.evaluation.analysis.results import Result
from kgtool.storage.tables import load_table, save_table
from kgtool.training.trainer import train
from tests.support.runs import ring, tiny_config, write_folder


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("results")
    data = load_dataset(write_folder(ring(), folder / "ring"))
    return train(tiny_config(epochs=1, walk_ratio=0.5), data, folder / "run", progress=False)


def baseline(run):
    out = run.path.parent / "baselines"
    return kgtool.evaluate_baselines(run.dataset(), out=out)["frequency"]


def paths(run):
    return kgtool.evaluate_paths(run, lengths=(2,), num_queries=10)


TASKS = {
    "links": (kgtool.evaluate, ["metrics.test.json", "breakdown.test.tsv", "ranks.test.tsv"]),
    "baselines": (baseline, ["metrics.test.json", "breakdown.test.tsv", "ranks.test.tsv"]),
    "relations": (kgtool.evaluate_relations, ["relations.test.json", "relations.test.tsv"]),
    "triples": (
        kgtool.evaluate_triples,
        ["triples.test.json", "calibration.test.tsv", "triples.test.tsv"],
    ),
    "paths": (paths, ["paths.test.json", "paths.test.tsv"]),
    "walks": (lambda run: kgtool.evaluate_walks(run, num_walks=20), ["walks.test.json"]),
}


@pytest.fixture(scope="module", params=TASKS)
def task(request, run):
    evaluate, names = TASKS[request.param]
    return evaluate(run), names


def test_write_leaves_the_files_that_the_result_names(task):
    result, names = task
    assert isinstance(result, Result)
    assert [file.name for file in result.files] == names
    folder = result.metrics_file.parent
    others = set(folder.iterdir()) - set(result.files)
    content = {file: file.read_bytes() for file in result.files}
    for file in result.files:
        file.unlink()
    result.write()
    assert set(folder.iterdir()) - others == set(result.files)
    assert {file: file.read_bytes() for file in result.files} == content


def test_the_metrics_are_json(task):
    result, _ = task
    assert json.loads(json.dumps(result.to_dict())) == json.loads(result.metrics_file.read_text())
    assert repr(str(result.metrics_file)) in repr(result)


def test_the_files_hold_the_tables(task, tmp_path):
    result, _ = task
    tables = result.tables()
    assert tables
    assert result.table_files.keys() <= tables.keys()
    for name, file in result.table_files.items():
        stored, table = load_table(file), tables[name]
        assert (list(stored), len(stored)) == (list(table), len(table))
        for column in table.select_dtypes("number"):
            numbers = stored[column].replace("", "nan").astype(float)
            assert numbers.to_numpy() == pytest.approx(
                table[column].to_numpy(dtype=float), rel=1e-6, nan_ok=True
            )
        save_table(table, tmp_path / file.name)
        assert (tmp_path / file.name).read_bytes() == file.read_bytes()


def test_a_file_that_cannot_be_written_is_an_error(task):
    result, _ = task
    content = result.metrics_file.read_bytes()
    result.metrics_file.unlink()
    result.metrics_file.mkdir()
    try:
        with pytest.raises(KGToolError):
            result.write()
    finally:
        result.metrics_file.rmdir()
        result.metrics_file.write_bytes(content)
