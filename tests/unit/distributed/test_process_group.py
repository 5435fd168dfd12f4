"""Several processes train and rank together; tests/support/teamwork.py has their checks."""

from __future__ import annotations

import logging
import os
import shutil
import signal
import subprocess
import time
from itertools import product
from pathlib import Path

import pytest
import torch

import kgtool
from kgtool.config import load_config
from kgtool.distributed import process_group
from kgtool.evaluation.candidates import parse_candidates
from kgtool.evaluation.ensemble import fit_ensemble
from kgtool.evaluation.evaluator import evaluate_model
from kgtool.runs.run import BEST, LAST, Run
from kgtool.storage.checkpoint import load_tensors
from kgtool.storage.files import read_json
from kgtool.training.trainer import _Trainer, train
from tests.support.places import ROOT
from tests.support.runs import in_memory, ring, write_folder
from tests.support.teamwork import CONFIGS, ONE_THREAD, torchrun


def run(command: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, cwd=ROOT, env=os.environ | ONE_THREAD, capture_output=True, text=True,
        timeout=500, check=False,
    )  # fmt: skip


@pytest.fixture(scope="module", params=[2, pytest.param(4, marks=pytest.mark.slow)])
def place(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with the runs of the checks with 2 and with 4 processes."""
    folder = tmp_path_factory.mktemp("team")
    done = run(torchrun(request.param, "tests.support.teamwork", folder))
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


def test_one_process_finds_the_ranks_that_several_found(place):
    for name, told in product(CONFIGS, ("all", "sampled:5", "types")):
        scorer, among = Run.open(place / name).scorer(ring()), parse_candidates(told, ring())
        found = evaluate_model(scorer, ring(), "test", candidates=among).ranking
        better, equal, candidates, score = torch.load(place / f"{name}.{told}.ranks")
        assert torch.equal(found.filtered.better, better)
        assert torch.equal(found.filtered.equal, equal)
        assert torch.equal(found.filtered.candidates, candidates)
        torch.testing.assert_close(found.score, score)


def test_one_process_weighs_models_as_several_did(place):
    models = [Run.open(place / name).model(ring()).scorer() for name in ("one path", "all paths")]
    alone = fit_ensemble(models[0], models[1], ring())
    assert list(alone.mrr.values()) == pytest.approx(read_json(place / "ensemble.json"))


def test_what_several_trained_is_as_good_as_what_one_did(place, tmp_path):
    for name, config in CONFIGS.items():
        alone = train(config, ring(), tmp_path / name, progress=False)
        several = Run.open(place / name)
        assert [row["step"] for row in alone.history()] == [
            row["step"] for row in several.history()
        ]
        losses = [history[-1]["loss"] for history in (alone.history(), several.history())]
        first = alone.history()[0]["loss"]
        assert losses[1] < first
        assert losses[1] == pytest.approx(losses[0], rel=0.15)


def test_a_run_of_several_goes_on_alone(place, tmp_path):
    for name, config in CONFIGS.items():
        tensors, state = load_tensors(place / name / LAST)
        assert state["step"] == 16
        run = Run.create(tmp_path / name, config, ring())
        trainer = _Trainer(run, ring(), logging.Logger("none"), progress=False)
        for kind in (LAST, BEST):
            shutil.copy(place / name / kind, run.path / kind)
        trainer.restore()
        assert trainer.now.step == 16
        for parameter, tensor in trainer.model.state_dict().items():
            assert torch.equal(tensor, tensors[f"model.{parameter}"])


def test_a_process_alone_is_a_team_of_one():
    with process_group.joined_group():
        assert (process_group.rank(), process_group.world_size()) == (0, 1)
    tensor = torch.ones(3)
    process_group.all_reduce([tensor])
    assert tensor.tolist() == [1, 1, 1]
    assert process_group.all_to_all([tensor])[0] is tensor
    assert process_group.chunk(7) == slice(0, 7)
    assert torch.arange(5)[process_group.strided()].tolist() == [0, 1, 2, 3, 4]
    assert process_group.any_rank(True, False) == (True, False)


CONFIG = """
dim = 8
[encoder]
fanout = 3
[one_path]
batch_size = 4
training = "negative_sampling"
num_negatives = 8
[training]
optimizer = "adagrad"
epochs = {epochs}
validate_every = 50
"""


@pytest.fixture
def files(tmp_path: Path) -> list[str | Path]:
    """The arguments of a command that trains for a while, and its files."""
    config = tmp_path / "run.toml"
    config.write_text(CONFIG.format(epochs=60))
    return [config, "--data", write_folder(ring(), tmp_path / "ring"), "--out", tmp_path / "run"]


@pytest.mark.slow
def test_a_killed_worker_is_started_again_and_the_run_goes_on(files, tmp_path):
    command = torchrun(2, "kgtool", "train", *files, options=("--max-restarts", "3"))
    with subprocess.Popen(
        command, cwd=ROOT, env=os.environ | ONE_THREAD, stderr=subprocess.PIPE, text=True
    ) as started:
        deadline = time.monotonic() + 300
        while not (tmp_path / "run" / LAST).exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        workers = subprocess.run(
            ["pgrep", "-P", str(started.pid)], capture_output=True, text=True, check=True
        )  # fmt: skip
        os.kill(int(workers.stdout.split()[-1]), signal.SIGKILL)
        error = started.communicate(timeout=400)[1]
    assert started.returncode == 0, error[-3000:]
    log = (tmp_path / "run" / "train.log").read_text()
    assert "resumed at step" in log
    assert "finished after" in log
    assert Run.open(tmp_path / "run").history()[-1]["epoch"] == 60


PRETRAIN = """
dim = 8
encoder = {{ kind = "relations", layers = 1 }}
all_paths = {{ layers = 2, mlp_dim = 8, batch_size = {batch_size} }}
training = {{ epochs = 2, steps_per_epoch = 5, validate_every = 1 }}
pretrain = {{ graphs = {{ "{graph}" = 1.0 }}, synthetic = 0.4 }}
"""


def test_processes_pretrain_together(tmp_path):
    other = in_memory([(i, i % 2, (i + 4) % 9) for i in range(9)], [(0, 1, 3)], [(0, 0, 3)], 9, 2)
    graph, config = write_folder(other, tmp_path / "graph"), tmp_path / "run.toml"
    words = [config, "--data", write_folder(ring(), tmp_path / "ring"), "--out", tmp_path / "run"]
    config.write_text(PRETRAIN.format(graph=graph, batch_size=3))
    done = run(torchrun(2, "kgtool", "pretrain", *words))
    assert done.returncode != 0
    assert "all_paths.batch_size = 3 is not a multiple of 2" in done.stderr
    assert not (tmp_path / "run").exists()
    config.write_text(PRETRAIN.format(graph=graph, batch_size=4))
    done = run(torchrun(2, "kgtool", "pretrain", *words))
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stderr.count("ring is held out") == 1
    made = Run.open(tmp_path / "run")
    assert [row["step"] for row in made.history()] == [5, 10]
    assert made.read_info()["sources"][0]["name"] == str(graph)
    # It goes on alone.
    again = kgtool.pretrain(
        load_config(config, ["training.epochs=3"]), tmp_path / "ring", tmp_path / "run",
        resume=True, progress=False,
    )  # fmt: skip
    assert again.history()[-1]["step"] == 15


def test_other_commands_are_for_one_process(tmp_path):
    done = run(torchrun(2, "kgtool", "report", tmp_path))
    assert done.returncode == 1
    assert "report runs in one process" in done.stderr


def test_an_error_of_all_is_told_once_and_ends_all(files, tmp_path):
    done = run(torchrun(2, "kgtool", "train", *files[:2], tmp_path / "nowhere"))
    assert done.returncode != 0
    told = [line for line in done.stderr.splitlines() if line.startswith("kgtool")]
    (line,) = [line for line in told if not line.endswith("FAILED")]  # as torchrun sums up
    assert "no such file or folder. Remedy: check the path." in line
    assert "exitcode  : 2 " in done.stderr
    assert "kgtool/cli" not in done.stderr  # no traceback of ours


@pytest.mark.parametrize(
    ("gpus", "here", "nccl", "backend", "chosen"),
    [
        (0, 2, True, "gloo", []),
        (1, 2, True, "gloo", [0]),
        (2, 2, True, "cpu:gloo,cuda:nccl", [1]),
        (2, 2, False, "gloo", [1]),
    ],
)
def test_processes_talk_by_nccl_where_each_has_a_gpu(
    monkeypatch, gpus, here, nccl, backend, chosen
):
    seen: list[int] = []
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", str(here))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    monkeypatch.setattr(torch.cuda, "set_device", seen.append)
    monkeypatch.setattr(torch.distributed, "is_nccl_available", lambda: nccl)
    assert process_group.choose_backend() == backend
    assert seen == chosen
