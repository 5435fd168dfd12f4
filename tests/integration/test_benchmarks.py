"""The table of all benchmarks: each part has its rows, and a failure does not hide other parts."""

from __future__ import annotations

import itertools
import json
import os
import random
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch

import kgtool
from benchmarks import __main__ as table
from benchmarks import (
    budget,
    common,
    explanations,
    mapped,
    ranking,
    scale,
    teamwork,
    throughput,
    zero_shot,
)
from benchmarks.common import Row
from kgtool import KGDataset, Vocabulary
from kgtool.training.step import Updater
from tests.support.runs import all_paths_config, ring, write_folder


def lost() -> list[Row]:
    raise ValueError("no luck")


def left() -> list[Row]:
    raise SystemExit("told in a sentence")


def stopped() -> list[Row]:
    raise KeyboardInterrupt


@pytest.fixture
def shown(monkeypatch, capsys) -> Any:
    """Print the table of given parts; its text and the exit status."""

    def show(**calls: Any) -> tuple[str, int]:
        parts = [table.Part(name, call, f"command of {name}") for name, call in calls.items()]
        monkeypatch.setattr(table, "parts", lambda folder: parts)
        monkeypatch.setattr(common, "in_own_process", lambda call: call())
        status = table.main([])
        return capsys.readouterr().out, status

    return show


def test_all_rows_are_shown(shown):
    rows = {name: [Row(f"{name} {i}", "7 s", "6 s", "1.2") for i in range(2)] for name in "ab"}
    out, status = shown(**{name: lambda name=name: rows[name] for name in rows})
    assert status == 0
    for name in rows:
        for i in range(2):
            line = next(line for line in out.splitlines() if line.startswith(f"│ {name} {i} "))
            cells = [cell.strip() for cell in line.strip("│").split("│")]
            assert cells == [f"{name} {i}", "7 s", "6 s", "1.2", f"command of {name}"]


@pytest.mark.parametrize(("call", "words"), [(lost, "no luck"), (left, "told in a sentence")])
def test_a_part_that_fails_is_shown_and_hides_no_other(shown, call, words):
    out, status = shown(first=call, second=lambda: [Row("sound", "1", "1", "1")])
    assert status == 1
    assert words in out
    assert "first" in out
    assert "sound" in out


def test_ctrl_c_ends_with_the_rows_that_there_are(shown):
    rows = [Row("sound", "1", "1", "1")]
    out, status = shown(first=lambda: rows, second=stopped, third=lambda: pytest.fail("it ran"))
    assert status == 1
    assert "sound" in out
    assert "stopped" in out


def test_a_figure_that_is_no_good_gives_the_exit_status(shown):
    assert shown(bad=lambda: [Row("bad", "1", "2", "0.5", failed=True)])[1] == 1


def test_every_script_of_the_table_says_its_command(tmp_path):
    parts = table.parts(tmp_path)
    assert {part.large.split()[2] for part in parts} == {f"benchmarks.{p.name}" for p in parts}


def test_peaks_are_laid_beside_a_line(monkeypatch, tmp_path):
    def measure(folder: Any, sizes: Any) -> dict[int, list[scale.Step]]:
        return {
            n: [
                scale.Step("imports", 0.0, 500),
                scale.Step("load", 1.0, 600 + 7 * n + 60 * (n == 20)),
            ]
            for n in sizes
        }

    monkeypatch.setattr(scale, "measure", measure)
    (row,) = scale.summary(tmp_path, (10, 20, 30))
    assert row.what == "peak memory: load, of 10 to 30 triples"
    assert row.figure == "7 bytes a triple"
    assert row.ratio == "within 13 %"  # 40 of 300, imports left out
    slope, farthest = scale.fit((10, 20, 30), (1070, 1141, 1210))
    assert slope == pytest.approx(7)
    assert farthest == pytest.approx(100 * np.abs((1141 - 2 / 3) / 1141 - 1))


@pytest.mark.slow
def test_what_is_measured_on_a_generated_graph(tmp_path):
    triples = 6000
    assert scale.making(tmp_path, triples, 0).peak > 0
    taken = scale.steps(scale.generate(tmp_path, triples))
    assert [step.name for step in taken][:2] == ["imports", "load, with report"]
    (passes,) = budget.summary(tmp_path, triples)
    assert float(passes.figure.split()[0]) > 0
    every, sampled = ranking.summary(tmp_path, triples)
    assert every.what.endswith("120 queries among 1,440")
    assert "500 sampled" in sampled.what
    step, ranks, own = mapped.summary(tmp_path, triples)
    assert step.figure.endswith(" ms")
    assert ranks.figure.endswith(" s")
    assert own.figure.endswith(" MB") or not sys.platform.startswith("linux")
    assert not any(row.failed for row in (passes, every, sampled, step, ranks, own))


def test_mapped_tables_that_rank_otherwise_are_an_error(monkeypatch):
    found = {False: mapped.Found(1.0, 1.0, 1, 0.5), True: mapped.Found(1.0, 1.0, 1, 0.4)}
    monkeypatch.setattr(common, "in_own_process", lambda work, args, way: found[way])
    with pytest.raises(RuntimeError, match=r"0\.5 in memory, 0\.4 mapped"):
        mapped.measure(mapped.arguments().parse_args(["--synthetic"]))


TINY = "--synthetic --entities 200 --triples 400 --relations 3 --held-out 20".split()


def test_a_process_alone_is_a_team_of_one(tmp_path, capsys):
    into = tmp_path / "speeds.json"
    once = ["--steps", "2", "--repeats", "1", "--into", str(into)]
    assert teamwork.main([*TINY, *once]) == 0
    speeds = json.loads(into.read_text())
    assert list(speeds) == list(teamwork.configs())
    assert min(speeds.values()) > 0


def test_edges_that_a_row_asks_for():
    data = common.synthetic(200, 3, 400, 20, seed=1)
    for config in teamwork.configs().values():
        updater = Updater(config, data)
        order = updater.objective.order(0, 0)
        mean = teamwork.edges_a_row(updater, data, order)
        if config.all_paths:
            assert 1 <= mean <= config.all_paths.max_targets
        else:  # an epoch asks for every edge, in both directions
            assert mean * len(order) == pytest.approx(800)


def test_two_processes_are_laid_beside_one(monkeypatch):
    monkeypatch.setattr(teamwork, "measure", lambda argv, count: {"all paths": 1000.0 * count**0.5})
    monkeypatch.setattr(teamwork, "between", lambda data: 0.11)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})
    row, cut = teamwork.summary(TINY)
    assert row.what == "training with 2 processes: all paths"
    assert row[1:] == ("1,414 edges a second", "1 process: 1,000", "1.41 times", False)
    assert cut[1:] == ("11 %", "random parts: 50 %", "0.22 times", False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {1})
    assert teamwork.summary(TINY)[0].what == "training with 2 processes on 1 core: all paths"


@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")  # of DGL's METIS
def test_edges_between_two_parts():
    """METIS separates two cliques of 20 entities at the edge between them."""
    pairs = [(i, j) for i in range(40) for j in range(i) if i // 20 == j // 20]
    triples = torch.tensor([(i, 0, j) for i, j in [*pairs, (0, 20)]])
    names = Vocabulary(tuple(f"e{i:02}" for i in range(40)), ("r",))
    data = KGDataset("cliques", None, names, triples, triples[:0], triples[:0])
    assert teamwork.between(data) == pytest.approx(1 / len(triples))


def test_a_team_that_fails_says_why(monkeypatch):
    done = subprocess.CompletedProcess([], 1, "", "its last words")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: done)
    with pytest.raises(RuntimeError, match="2 processes failed: its last words"):
        teamwork.measure(TINY, 2)


QUICK = [*TINY, "--repeats", "1", "--batch", "64", "--negatives", "8", "--dim", "4"]


def test_training_is_timed_alone_where_pykeen_is_missing(monkeypatch):
    monkeypatch.setattr(common, "installed", lambda module: False)
    rows = throughput.summary([*QUICK, "--part", "100"])
    assert [row.what.split("over ")[1] for row in rows] == ["all entities", "8 sampled negatives"]
    for row in rows:
        assert int(row.figure.split()[0].replace(",", "")) > 0
        assert "pip install" in row.baseline
        assert (row.ratio, row.failed) == ("", False)


def test_training_is_laid_beside_pykeen(monkeypatch, capsys):
    off = {"of": 0.0}
    monkeypatch.setattr(common, "installed", lambda module: True)
    monkeypatch.setattr(throughput, "kgtool_seconds", lambda task: 0.1)
    monkeypatch.setattr(throughput, "pykeen_seconds", lambda task: 0.8 if task.negatives else 0.2)
    monkeypatch.setattr(throughput, "difference", lambda task: off["of"])
    rows = [row[1:] for row in throughput.summary([*QUICK, "--part", "100"])]
    assert rows == [
        ("1,000 triples a second", "PyKEEN: 500", "2.0 times as fast", False),
        ("1,000 triples a second", "PyKEEN: 125", "8.0 times as fast", False),
    ]
    assert throughput.main(QUICK) == 0
    off["of"] = 0.01
    assert throughput.main([*QUICK, "--only", "sampled"]) == 0  # each samples its own negatives
    capsys.readouterr()
    assert throughput.main(QUICK) == 1
    assert "unfair comparison" in capsys.readouterr().out


def test_a_part_of_train_has_all_entities():
    data = common.synthetic(200, 3, 400, 20, seed=1)
    part = throughput.part_of(data, 50, seed=1)
    triples = set(map(tuple, part.train.tolist()))
    assert len(triples) == 50
    assert triples < set(map(tuple, data.train.tolist()))
    assert part.num_entities == 200
    assert throughput.part_of(data, None, seed=1) is data


@pytest.mark.filterwarnings("ignore")  # its own
@pytest.mark.parametrize("negatives", [0, 8])
def test_pykeen_trains_the_same_model(negatives):
    pytest.importorskip("pykeen")
    data = common.synthetic(200, 3, 400, 20, seed=1)
    task = throughput.Task(data, dim=4, batch=64, negatives=negatives, repeats=1, seed=1)
    _, theirs = throughput.pykeen_parts(task)
    ours = Updater(task.config, data).model
    sizes = sorted(tuple(parameter.shape) for parameter in theirs.parameters())
    assert sizes == sorted(tuple(p.shape) for p in ours.parameters() if p.dim() == 2)
    assert throughput.pykeen_seconds(task) > 0
    if not negatives:
        assert throughput.difference(task) < throughput.TOLERANCE


def test_questions_to_the_pretrained_model_are_timed(capsys):
    assert zero_shot.main([*TINY, "--repeats", "4"]) == 0
    out = capsys.readouterr().out
    cells = {
        line.split("│")[1].strip(): line.split("│")[2:4] for line in out.splitlines() if "│" in line
    }
    seconds = {name: float(cell[0]) for name, cell in cells.items()}
    assert seconds["the first question after loading"] > seconds["a further question"] > 0
    assert (
        zero_shot.main([*TINY, "--nearest", "0", "1000", "--ranked", "5", "--split", "test"]) == 0
    )
    rows = [line.split("│")[1:3] for line in capsys.readouterr().out.splitlines() if "│" in line]
    mrr = {name.strip(): float(value) for name, value in rows}
    assert set(mrr) == {"whole passes", "1,000"}
    assert 0 < min(mrr.values()) <= max(mrr.values()) <= 1


def test_explanations_are_perturbed(tmp_path, capsys, monkeypatch):
    data = write_folder(ring(), tmp_path / "ring")
    config = all_paths_config(epochs=8, learning_rate=0.02).model_copy(update={"data": str(data)})
    run = kgtool.train(config, kgtool.load_dataset(data), tmp_path / "run", progress=False)
    monkeypatch.setattr("sys.argv", ["explanations", str(run.path), "--links", "6", "--top", "5"])
    assert explanations.main() == 0
    out = capsys.readouterr().out
    for way in explanations.WAYS:
        cells = next(line for line in out.splitlines() if line.startswith(f"│ {way}")).split("│")
        first, listed, drawn, wrong_sign = (float(cell.strip(" %")) for cell in cells[2:6])
        assert first >= 0
        assert listed >= 0
        assert drawn >= 0
        assert way == explanations.GRADIENTS or wrong_sign == 0
    found, draw = kgtool.open_predictor(run).passes, random.Random(0)
    assert found is not None
    head, relation, tail = ring().test[0].tolist()
    passes = found.of_relation(relation)
    edges = {(h, t) for h, _, t in passes.graph.triples().tolist()}
    for length in (2, 3):
        path = explanations.random_path(passes, (head, relation, tail), length, draw)
        assert path == [] or (len(path) == length + 1 and (path[0], path[-1]) == (head, tail))
        assert all(step in edges for step in itertools.pairwise(path))
