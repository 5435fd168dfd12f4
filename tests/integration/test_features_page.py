"""The commands of docs/features.md run unchanged, and features help there."""

from __future__ import annotations

import os
import re
import subprocess
import sys

from tests.support.places import ROOT

PAGE = (ROOT / "docs" / "features.md").read_text(encoding="utf-8")
EXAMPLE = PAGE.split("## Example", 1)[1].split("### Figures")[0]
COMMANDS = [line.strip() for line in re.findall(r"^    (.+)$", EXAMPLE, flags=re.M)]


def run(line: str, folder: str) -> str:
    env = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "80"}
    env["PATH"] = f"{folder}/bin{os.pathsep}{env['PATH']}"
    done = subprocess.run(
        ["/bin/sh", "-ec", line], cwd=folder, env=env, text=True, capture_output=True, timeout=600
    )
    assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
    return done.stdout + done.stderr


def test_every_command_of_the_example_runs(tmp_path):
    (tmp_path / "bin").mkdir()
    for name, words in (("kgtool", "-m kgtool"), ("python", "")):
        script = tmp_path / "bin" / name
        script.write_text(f'#!/bin/sh\nexec "{sys.executable}" {words} "$@"\n')
        script.chmod(0o755)
    for name in ("configs", "scripts"):
        (tmp_path / name).symlink_to(ROOT / name)
    printed = {line: run(line, str(tmp_path)) for line in COMMANDS}
    (train, evaluate, extend, predict) = list(printed.values())[-4:]
    assert re.search(r"features names/names.npy: 64 numbers for (\d+) of \1 entities", train)
    assert float(re.findall(r"both +realistic +(0\.\d+)", evaluate)[0]) > 0.3
    assert re.search(r"new entities without features +0", extend)
    assert "_Morozov_" in predict
