"""Processes on different hosts train and rank together; see tests/support/hosts.py."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
import torch

from kgtool.evaluation.evaluator import evaluate_model
from kgtool.runs.run import BEST, LAST, LOG, Run
from kgtool.storage.checkpoint import load_tensors
from kgtool.storage.files import read_json
from kgtool.training.trainer import train
from tests.support.hosts import two_hosts
from tests.support.runs import ring, write_folder
from tests.support.teamwork import CONFIGS, ONE_THREAD, torchrun

CONFIG = CONFIGS["drawn"]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which two hosts trained and evaluated `run`, and then trained `again`.

    In the training of `run`, a process of one host is killed. The hosts only know the name of one
    of them.
    """
    place = tmp_path_factory.mktemp("hosts")
    (place / "run.toml").write_text(CONFIG.to_toml())
    data = write_folder(ring(), place / "ring")
    words: list[str | Path] = ["train", place / "run.toml", "--data", data, "--out"]
    with two_hosts(place) as hosts:
        command = torchrun(
            1, "tests.support.struck", *words, place / "run", "+", "evaluate", place / "run",
            "+", *words, place / "again",
            options=("--nnodes", "2", "--max-restarts", "1"), meeting="one:29500",
        )  # fmt: skip
        said = [place / "one.said", place / "two.said"]
        started = []
        for host, path in zip(hosts, said, strict=True):
            with path.open("w") as file:
                started.append(
                    subprocess.Popen(
                        host.command(*command),
                        env=os.environ | ONE_THREAD,
                        stdout=file,
                        stderr=subprocess.STDOUT,
                    )
                )
        try:
            ends = [process.wait(timeout=200) for process in started]
        finally:
            for process in started:
                process.kill()
    assert ends == [0, 0], "\n".join(path.read_text()[-5000:] for path in said)
    return place


@pytest.mark.slow
def test_hosts_train_as_one_process(place, tmp_path):
    several, alone = Run.open(place / "again"), train(CONFIG, ring(), tmp_path, progress=False)
    assert [row["step"] for row in several.history()] == [row["step"] for row in alone.history()]
    losses = [history[-1]["loss"] for history in (alone.history(), several.history())]
    assert losses[1] < several.history()[0]["loss"]
    assert losses[1] == pytest.approx(losses[0], rel=0.15)


@pytest.mark.slow
def test_a_process_that_was_killed_on_a_host_changes_nothing(place):
    said = (place / "one.said").read_text()
    assert "another process has ended" in said
    assert "Traceback" not in said
    log = (place / "run" / LOG).read_text()
    assert "resumed at step 4" in log
    assert "resumed" not in (place / "again" / LOG).read_text()
    for name in (LAST, BEST):
        one, other = (load_tensors(place / run / name)[0] for run in ("run", "again"))
        assert one.keys() == other.keys()
        for key, tensor in one.items():
            assert torch.equal(tensor, other[key]), key


def test_hosts_find_the_metrics_that_one_process_finds(place):
    run = Run.open(place / "run")
    found = evaluate_model(run.model(run.dataset()).scorer(), run.dataset(), "test")
    told = read_json(place / "run" / "metrics.test.json")
    assert {side: told[side] for side in found.filtered} == found.filtered
