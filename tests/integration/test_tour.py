"""The tour in docs/ runs unchanged: a shell runs all its commands, in order."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
import urllib.request

import pytest

from kgtool.config import load_config
from tests.support.blocks import lines_run_by
from tests.support.shell import environment, prepare

COMMANDS = lines_run_by(__file__, "docs/start/tour.md")


@pytest.fixture
def shell(tmp_path):
    """Runs a line with the `kgtool` and `python` of this environment."""
    prepare(tmp_path, "configs", "scripts")
    env = {**environment(tmp_path), "KGTOOL_CACHE": str(tmp_path / "cache")}

    def run(line: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            ["/bin/sh", "-ec", line],
            cwd=tmp_path, env=env, text=True, start_new_session=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    return run


def test_every_command_of_the_tour_runs(shell, tmp_path):
    pytest.importorskip("optuna")
    commands = [line for line in COMMANDS if "kgtool " in line]
    assert len(commands) == 14
    said = {}
    for line in COMMANDS[:-1]:
        process = shell(line)
        out, err = process.communicate(timeout=600)
        assert process.returncode == 0, f"{line}\n{out}\n{err}"
        command = line.split("kgtool ")[-1].removeprefix("data ").split()[0]
        said[command] = out
    assert "header in line 1" in said["split"]
    assert "Clara_Morozov_1947" in said["predict"]
    assert "father_of--> Clara_Morozov_1947" in " ".join(said["explain"].split())
    assert float(re.findall(r"both +realistic +(0\.\d+)", said["evaluate"])[0]) > 0.8
    assert len((tmp_path / "tour" / "new.tsv").read_text().splitlines()) == 21
    log = (tmp_path / "tour" / "named" / "train.log").read_text()
    assert "64 numbers for 500 of 500 entities" in log
    assert re.search(r"^4 trials: [1-4] finished", said["tune"], flags=re.M)
    assert float(re.findall(r"Test MRR of the best run (0\.\d+)", said["tune"])[0]) > 0.35
    chosen = load_config(tmp_path / "tour" / "family.toml")
    assert chosen.combined
    assert chosen.data == "tour/family"
    for name in ("why.png", "grown/data/train.txt", "embeddings/embeddings.tsv", "tune/best.toml"):
        assert (tmp_path / "tour" / name).stat().st_size > 0
    assert "Nina_New_2001" in (tmp_path / "tour" / "embeddings" / "embeddings.tsv").read_text()

    serving = shell(f"{COMMANDS[-1]} --port 8943")
    try:
        for _ in range(240):
            try:
                page = urllib.request.urlopen("http://127.0.0.1:8943/", timeout=5)
                break
            except OSError:
                assert serving.poll() is None, serving.communicate()
                time.sleep(0.5)
        else:
            pytest.fail("the service did not start")
        with page:
            assert page.status == 200
    finally:
        os.killpg(serving.pid, signal.SIGTERM)
        serving.communicate(timeout=60)
