"""scripts/test-versions: the pairs that it runs, its table and its status. No test installs."""

from __future__ import annotations

import os
import runpy
import subprocess
import sys

import pytest

from tests.support.places import ROOT

SCRIPT = ROOT / "scripts" / "test-versions"

# Says that it is Python 3.10, makes environments of itself, and notes calls of pip and pytest; a
# call fails where its text matches the pattern in the file `fails`.
FAKE_PYTHON = """#!/bin/sh
case "$1 $2" in
    "-c "*) echo 3.10; exit ;;
    "-m venv") mkdir -p "$3/bin" && cp "$0" "$3/bin/python"; exit ;;
esac
echo "$*" >>"{place}/calls"
! echo "$*" | grep -q -f "{place}/fails"
"""


@pytest.fixture
def place(tmp_path):
    program = tmp_path / "bin" / "python3.10"
    program.parent.mkdir()
    program.write_text(FAKE_PYTHON.format(place=tmp_path))
    program.chmod(0o755)
    (tmp_path / "fails").touch()
    return tmp_path


def run(place, *pairs):
    """The exit status, the rows of the table, and the calls of the fake Python."""
    done = subprocess.run(
        [sys.executable, SCRIPT, *pairs],
        env={
            "PATH": f"{place / 'bin'}{os.pathsep}/usr/bin{os.pathsep}/bin",
            "PYENV_ROOT": str(place / "pyenv"),
            "KGTOOL_VENVS": str(place / "environments"),
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert not done.stderr
    rows = [line for line in done.stdout.splitlines() if "|" in line]
    calls = (place / "calls").read_text().splitlines() if (place / "calls").exists() else []
    return done.returncode, [row.split("|")[-1].strip() for row in rows[1:]], calls


@pytest.mark.skipif(sys.platform != "linux", reason="CPU builds are named so on Linux only")
def test_a_pair_is_installed_once_and_tested_each_time(place):
    status, results, calls = run(place, "3.10/1.1.3/2.13.0")
    assert (status, results) == (0, ["yes"])
    assert [call.split()[2] for call in calls] == ["install", "install", "-q"]
    assert calls[0].endswith("--no-deps torch==2.13.0+cpu")
    (pins,) = (place / "environments").glob("*/constraints.txt")
    lines = pins.read_text().splitlines()
    assert {"torch==2.13.0+cpu", "dgl==1.1.3"} <= set(lines)
    assert sum(line.startswith(("torch==", "dgl==")) for line in lines) == 2

    assert run(place, "3.10/1.1.3/2.13.0")[2][3:] == calls[2:]


@pytest.mark.skipif(sys.platform != "linux", reason="CPU builds are named so on Linux only")
def test_only_cpu_builds_are_installed(place):
    (place / "fails").write_text("cpu\n")
    status, results, calls = run(place, "3.10/1.1.3/2.13.0")
    assert (status, results) == (1, ["skipped: no CPU build of torch"])
    assert all("+cpu" in call for call in calls)


def test_a_pair_that_fails_fails_the_run(place):
    (place / "fails").write_text("^-m pytest\n")
    assert run(place, "3.10/1.1.3/2.13.0")[:2] == (1, ["FAILED: tests"])
    (place / "fails").write_text("dev\n")
    status, results, _ = run(place, "3.10/1.1.3/2.4.0", "3.9/1.1.3/2.4.0")
    assert status == 1
    assert results[0].startswith("FAILED: pip")
    assert results[1] == "skipped: Python not found"


def test_the_smoke_set_is_there():
    assert all((ROOT / path).exists() for path in runpy.run_path(str(SCRIPT))["SMOKE"])
