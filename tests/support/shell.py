"""Runs the lines of a page in a shell, with the `kgtool` and `python` of this environment."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from tests.support.places import ROOT


def prepare(folder: Path, *links: str) -> None:
    """Put `kgtool` and `python` into a folder, and links to folders of the project."""
    (folder / "bin").mkdir()
    for name, words in (("kgtool", "-m kgtool"), ("python", "")):
        script = folder / "bin" / name
        script.write_text(f'#!/bin/sh\nexec "{sys.executable}" {words} "$@"\n')
        script.chmod(0o755)
    for name in links:
        (folder / name).symlink_to(ROOT / name)


def environment(folder: Path) -> dict[str, str]:
    """The environment of commands in a prepared folder."""
    env = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "80"}
    env["PATH"] = f"{folder / 'bin'}{os.pathsep}{env['PATH']}"
    return env


def printed(line: str, folder: Path) -> str:
    """What a line prints in a prepared folder, where it must succeed."""
    done = subprocess.run(
        ["/bin/sh", "-ec", line],
        cwd=folder, env=environment(folder), text=True, capture_output=True, timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
    return done.stdout + done.stderr


def mrr_in(evaluation: str) -> float:
    """The realistic MRR of both sides in what `kgtool evaluate` prints; it may be 1.0000."""
    return float(re.findall(r"both +realistic +([01]\.\d{4})", evaluation)[0])
