"""The script behind the pages of results: training, evaluation, printing, skipped rows."""

import json
import re
from dataclasses import replace
from functools import partial

import pytest

import kgtool
from kgtool.storage.files import write_json
from scripts import results
from tests.support.places import ROOT
from tests.support.runs import ring, write_folder

QUICK = results.Model("ring", "families", ("training.epochs=1", "dim=4", "all_paths.layers=2"))
ONE_PATH = ("training.epochs=1", "dim=4", "one_path.walk_ratio=0.25")
WALKER = results.Model("ring", "families-one-path", ONE_PATH)


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    place = tmp_path_factory.mktemp("place")
    write_folder(ring(), place / "ring")
    write_folder(replace(ring(), train=ring().train[1:]), place / "ring_ind")
    return results.Lab(place, place / "runs")


def lines_of(lab, *rows, **only):
    return list(results.make(results.Table(("a", "b"), rows), lab, **only))


def metrics_of(lab, model, file):
    return json.loads((lab.runs / model.name / file).read_text())["both"]["realistic"]


def cells(line):
    return line.strip("| ").split(" | ")


def test_a_row_is_trained_asked_and_printed(lab, capsys):
    absent = results.Model("nobody-has-it", "families")
    rows = (partial(results.link_row, model=model) for model in (absent, QUICK))
    header, rule, line = lines_of(lab, *rows)
    assert (header, rule) == ("| a | b |", "| --- | --- |")
    run = lab.runs / "ring.families,training.epochs=1,dim=4,all_paths.layers=2"
    metrics, trained = metrics_of(lab, QUICK, "metrics.test.json"), kgtool.Run.open(run)
    assert cells(line) == [
        "ring",
        "`families` `training.epochs=1` `dim=4` `all_paths.layers=2`",
        "1",
        f"{trained.best_validation()['valid_mrr']:.3f}",
        *(f"{metrics[name]:.3f}" for name in ("mrr", "hits@1", "hits@10")),
        f"{results.made(trained)['seconds'] / 60:.1f}",
        results.commit(),
    ]
    assert 0 < results.made(trained)["seconds"] != trained.history()[-1]["seconds"]
    err = capsys.readouterr().err
    for part in (
        f"nobody-has-it is not in {lab.data}",
        f"training {run}",
        f"writing {run}/metrics",
    ):
        assert part in err


def test_what_is_there_is_not_made_again(lab, capsys):
    row = partial(results.link_row, model=QUICK)
    first = lines_of(lab, row)
    capsys.readouterr()
    assert lines_of(lab, row) == first
    assert capsys.readouterr().err == ""
    assert lines_of(lab, row, only="umls") == first[:2]


def test_a_stopped_training_goes_on(lab):
    model = results.Model("ring", "families", ("training.epochs=2", "dim=4"))
    lab.trained(model)
    run = kgtool.Run.open(lab.runs / model.name)
    whole = (run.path / "best.safetensors").read_bytes()
    (run.path / "history.tsv").unlink()
    (run.path / "last.safetensors").unlink()  # stopped before the first validation
    assert lab.trained(model).history()[-1]["epoch"] == 2
    assert results.made(run)["seconds"] == run.history()[-1]["seconds"]
    assert (run.path / "best.safetensors").read_bytes() == whole


def test_another_run_is_added(lab):
    other = results.Model("ring", "families-one-path", ONE_PATH[:2])
    line = lines_of(lab, partial(results.link_row, model=QUICK, other=other))[2]
    _, model, _, valid, mrr, *_, minutes, _ = cells(line)
    added = f"metrics.with-{other.name}"
    assert model == f"{QUICK.label} with {other.label}"
    assert valid == f"{metrics_of(lab, QUICK, f'{added}.valid.json')['mrr']:.3f}"
    assert mrr == f"{metrics_of(lab, QUICK, f'{added}.test.json')['mrr']:.3f}"
    assert " + " in minutes


def test_the_other_graph_of_an_inductive_split(lab):
    line = lines_of(lab, partial(results.inductive_row, model=QUICK))[2]
    metrics = metrics_of(lab, QUICK, "metrics.ring_ind.test.json")
    assert cells(line)[:3] == ["ring, ring_ind", QUICK.label, "1"]
    assert cells(line)[4] == f"{metrics['mrr']:.3f}"


@pytest.mark.parametrize(
    ("row", "file"),
    [
        (results.link_row, "metrics.test.json"),
        (results.inductive_row, "metrics.ring_ind.test.json"),
    ],
)
def test_a_row_of_several_seeds_has_mean_and_deviation(lab, row, file):
    line = lines_of(lab, partial(row, model=QUICK, seeds=2))[2]
    mrr = [metrics_of(lab, model, file)["mrr"] for model in QUICK.seeds(2)]
    low, high = sorted(mrr)
    assert low < high
    assert cells(line)[2] == "2"
    assert cells(line)[4] == f"{sum(mrr) / 2:.3f} ± {(high - low) / 2**0.5:.3f}"


def test_the_commit_and_the_minutes_of_a_run_are_named(lab, monkeypatch, tmp_path):
    assert re.fullmatch(r"[0-9a-f]{7,40}\+?", results.commit())
    runs = [lab.trained(model) for model in QUICK.seeds(2)]
    for run, commit, seconds in zip(runs, ("1234567", "89abcde+"), (60, 180), strict=True):
        write_json(run.path / "made.json", {"commit": commit, "seconds": seconds})
    assert results.commits(*runs, None, runs[0]) == "1234567, 89abcde+"
    assert results.minutes(runs) == "2.0"
    (runs[0].path / "made.json").unlink()
    monkeypatch.setattr(results, "ROOT", tmp_path)
    assert results.commits(runs[0]) == results.commit() == "unknown"
    assert results.made(runs[0])["seconds"] == runs[0].history()[-1]["seconds"]


def test_other_questions(lab):
    found = lines_of(
        lab,
        partial(results.relations_row, model=QUICK),
        partial(results.relations_row, model=QUICK, other=WALKER),
        partial(results.classify_row, model=QUICK),
        partial(results.baselines_row, model=results.Model("ring", "")),
        partial(results.paths_row, model=WALKER),
        partial(results.paths_row, model=WALKER, compose=True),
        partial(results.walks_row, model=WALKER),
        partial(results.part_row, part="all paths", model=QUICK),
    )
    expected = {
        "`--task relations`": "counts alone: ",
        "`--task triples`, sampled negatives": "ROC-AUC ",
        "`evaluate --data`, MRR": "pagerank-frequency 0.",
        "`--task paths`, lengths 2 to 5, held-out answers": "MQ 0.",
        "`--task paths --compose`, lengths 2 to 5, held-out answers": "MQ 0.",
        "`--task walks`, perplexity per step": "model ",
        "all paths": "0.",
    }
    assert f"{QUICK.label} with {WALKER.label}" in found.pop(3)
    assert [cells(line)[0] for line in found[2:]] == list(expected)
    for line, words in zip(found[2:], expected.values(), strict=True):
        assert words in line


def test_every_row_names_a_preset_and_settings_that_there_are():
    for table in results.TABLES.values():
        for row in table.rows:
            for model in (row.keywords["model"], row.keywords.get("other")):
                if model and model.preset:
                    preset = ROOT / "configs" / f"{model.preset}.toml"
                    kgtool.load_config(preset, model.settings)


@pytest.mark.parametrize("name", results.TABLES)
def test_a_page_names_the_command_of_each_table(name):
    pages = ("results/results.md", "about/design-notes.md")
    text = "".join((ROOT / "docs" / page).read_text(encoding="utf-8") for page in pages)
    assert f"scripts/results.py {name} " in text
