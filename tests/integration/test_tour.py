"""The tour in docs/ runs unchanged: a shell runs all its commands, in order."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import time
import urllib.request

import pytest

from kgtool.config import load_config
from tests.support.blocks import lines_run_by
from tests.support.shell import environment, mrr_in, prepare

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
    server = COMMANDS.index("kgtool serve tour/grown")
    said: dict[str, list[str]] = {}
    for line in COMMANDS[:server]:
        process = shell(line)
        out, err = process.communicate(timeout=600)
        assert process.returncode == 0, f"{line}\n{out}\n{err}"
        command = line.split("kgtool ")[-1].removeprefix("data ").split()[0]
        said.setdefault(command, []).append(out)
    assert "header in line 1" in said["split"][0]
    at_once, known, _, newcomer = said["predict"]
    assert "_Morozov_" in at_once
    assert "Clara_Morozov_1947" in known
    assert "_Morozov_" in newcomer
    assert "father_of--> Clara_Morozov_1947" in " ".join(said["explain"][0].split())
    assert mrr_in(said["evaluate"][0]) > 0.8
    assert len((tmp_path / "tour" / "new.tsv").read_text().splitlines()) == 21
    assert load_config(tmp_path / "tour" / "run" / "config.toml").combined
    for name in (
        "answers.tsv", "why.png", "grown/data/train.txt", "embeddings/embeddings.tsv",
        "run/report.test.html",
    ):  # fmt: skip
        assert (tmp_path / "tour" / name).stat().st_size > 0

    serving = shell(f"{COMMANDS[server]} --port 8943")
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
        requests = COMMANDS[server + 1 :]
        assert len(requests) == 2
        for request in requests:
            program, address = shlex.split(request)
            assert program == "curl"
            with urllib.request.urlopen(address.replace(":8000", ":8943"), timeout=60) as answer:
                body = json.load(answer)
            assert "message" not in body
            assert body.get("answers") or body.get("paths")
    finally:
        os.killpg(serving.pid, signal.SIGTERM)
        serving.communicate(timeout=60)
