"""Training survives faults; `tests.stress.faults` strikes runs in their own processes."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from kgtool.errors import KGToolError, TrainingError
from kgtool.runs import log as run_log
from kgtool.runs.log import log_to
from kgtool.runs.run import BEST, LAST
from kgtool.storage.checkpoint import load_tensors, save_tensors
from kgtool.training import trainer
from kgtool.training.trainer import train
from tests.stress import faults
from tests.support.places import ROOT
from tests.support.runs import all_paths_config, random_config, ring

KILLS = 50


@pytest.fixture(scope="module")
def found() -> faults.Results:
    return faults.strike_all(KILLS, seed=1)


@pytest.mark.slow
@pytest.mark.parametrize("fault", faults.FAULTS)
def test_no_run_is_lost(found, fault):
    if fault in found.skipped:
        pytest.skip(f"no small disk here: {found.skipped[fault]}")
    assert [line for line in found.lost if line.startswith(fault)] == []
    assert found.counts[fault]["times"] == found.counts[fault]["survived"] > 0


@pytest.mark.slow
def test_as_many_kills_as_asked_for(found):
    assert found.counts[faults.RANDOM]["times"] == KILLS


def test_a_fault_that_loses_a_run_is_counted(monkeypatch, capsys):
    lost = faults.Results()
    lost.note("bad fault", True, 2)
    lost.note("bad fault", False)
    monkeypatch.setattr(faults, "strike_all", lambda kills, seed: lost)
    assert faults.main(["--kills", "3"]) == 1
    row = next(line for line in capsys.readouterr().out.splitlines() if "bad fault" in line)
    assert [cell.strip() for cell in row.strip("│").split("│")] == ["bad fault", "3", "2", "1"]


def test_what_is_not_whole_is_seen(tmp_path):
    train(random_config(epochs=1), ring(), tmp_path / "run", progress=False)
    assert faults.files_whole(tmp_path / "run")
    for path in (tmp_path / "run").iterdir():
        whole = path.read_bytes()
        path.write_bytes(whole[: len(whole) // 2].rstrip(b"\n"))
        assert not faults.files_whole(tmp_path / "run"), path.name
        path.write_bytes(whole)
    assert faults.files_whole(tmp_path / "run")


def full(*_: Any) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_full_disk_stops_training_in_words(tmp_path, monkeypatch):
    """Without a checkpoint, the message is the error; with a checkpoint, it also gives a remedy."""
    with monkeypatch.context() as patch:
        patch.setattr(trainer, "save_tensors", lambda *_, **__: refuse())
        with pytest.raises(KGToolError) as early:
            train(random_config(), ring(), tmp_path / "none", progress=False)
    assert str(early.value) == "cannot write it"
    saved: list[Path] = []
    original = save_tensors

    def once(path: Path, *args: Any, **others: Any) -> None:
        if saved:
            refuse()
        saved.append(path)
        original(path, *args, **others)

    monkeypatch.setattr(trainer, "save_tensors", once)
    with pytest.raises(TrainingError, match=r"cannot write it .* free space .* --resume") as late:
        train(random_config(), ring(), tmp_path / "run", progress=False)
    assert late.value.exit_code == 1
    assert load_tensors(tmp_path / "run" / LAST)[1]["step"] == 0


def refuse() -> None:
    raise KGToolError("cannot write it")


class Full:
    """A file on a disk with space for a number of bytes."""

    def __init__(self, file: Any, room: int) -> None:
        self.file, self.room = file, room

    def write(self, data: bytes) -> int:
        if not self.room:
            full()
        written = self.file.write(data[: self.room])
        self.room -= written
        return written

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)


def test_a_log_on_a_full_disk_has_whole_lines_and_says_nothing(tmp_path, capfd):
    path = tmp_path / "train.log"
    with log_to(path) as log:
        log.info("first")
        handler = log.handlers[0]
        assert isinstance(handler, run_log._Lines)
        real = handler._file
        handler._file = Full(real, 10)  # type: ignore[assignment]
        log.info("cut")
        log.info("lost")
        handler._file = real
        log.info("last")
    lines = path.read_text().splitlines()
    assert [line.split()[-1] for line in lines] == ["first", "last"]
    assert capfd.readouterr() == ("", "")


def test_a_log_goes_on_behind_half_a_line(tmp_path):
    path = tmp_path / "train.log"
    path.write_text("one\nhal")
    with log_to(path) as log:
        log.info("two")
        log.info("three")
    lines = path.read_text().split("\n")
    assert lines[:2] == ["one", "hal"]
    assert [line.split()[-1] for line in lines[2:-1]] == ["two", "three"]
    assert lines[-1] == ""


def test_a_log_that_cannot_be_opened(tmp_path):
    def begin() -> None:
        with log_to(tmp_path):
            pytest.fail("the block must not run")

    with pytest.raises(KGToolError, match=r"cannot write .*: Is a directory"):
        begin()


CONFIGS = {"one path": random_config, "all paths": all_paths_config}
ALONE = """
import sys
from pathlib import Path

from kgtool.training.trainer import train
from tests.support.runs import ring
from tests.stress.test_faults import CONFIGS

for name, make in reversed(CONFIGS.items()):
    train(make(), ring(), Path(sys.argv[1]) / name, progress=False)
"""


@pytest.mark.slow
def test_one_seed_and_one_number_of_threads_give_one_result_in_every_process(tmp_path):
    # There the kernels are compiled anew and loaded in another order, and its threads are told by
    # the environment.
    env = {**os.environ, "OMP_NUM_THREADS": "1", "NUMBA_CACHE_DIR": str(tmp_path / "kernels")}
    command = [sys.executable, "-c", ALONE, str(tmp_path / "there")]
    subprocess.run(command, check=True, cwd=ROOT, env=env)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for name, make in CONFIGS.items():
            train(make(), ring(), tmp_path / "here" / name, progress=False)
    finally:
        torch.set_num_threads(threads)
    for name in CONFIGS:
        for file in (BEST, LAST):
            ours, theirs = (
                load_tensors(tmp_path / place / name / file)[0] for place in ("here", "there")
            )
            assert ours.keys() == theirs.keys()
            assert [key for key in ours if not torch.equal(ours[key], theirs[key])] == []
