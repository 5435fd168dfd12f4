"""The setup script: the Pythons it accepts, and when and what it installs. No test installs."""

from __future__ import annotations

import os
import re
import shutil
import stat
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from tests.support.places import ROOT

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
PYTHON_NAMES = ("python3.11", "python3.12", "python3.10", "python3", "python")

# Says that it has the version, makes environments that hold nothing but itself, and notes how it
# was called; `-m NAME` fails where the file `NAME.fails` lies beside it.
FAKE_PYTHON = """#!/bin/sh
case "$1 ${{2:-}}" in
    "-c "*) echo "{version} {path}"; exit ;;
    "-m venv") mkdir -p "$3/bin" && ln -s "{path}" "$3/bin/python" ;;
esac
echo "$*" >>"{calls}"
[ ! -e "{bin}/$2.fails" ]
"""


@dataclass(frozen=True)
class Checkout:
    """A copy of the scripts in a folder with a space in its name; a fake Python is on the path."""

    root: Path
    bin: Path
    calls_file: Path

    def python(self, version: str, *names: str) -> Path:
        """Put a fake Python on the path under each of the names."""
        for name in names:
            path = self.bin / name
            text = FAKE_PYTHON.format(
                version=version, path=path, calls=self.calls_file, bin=self.bin
            )
            path.write_text(text)
            path.chmod(path.stat().st_mode | stat.S_IXUSR)
        return self.bin / names[0]

    def run(self, script: str, *args: str, **env: str) -> subprocess.CompletedProcess[str]:
        """Start a script from another folder."""
        path = f"{self.bin}{os.pathsep}{os.environ['PATH']}"
        clean = {k: v for k, v in os.environ.items() if k != "PYTHON"}
        return subprocess.run(
            [self.root / "scripts" / script, *args],
            cwd=self.bin,
            env={**clean, "PATH": path, **env},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    def calls(self) -> list[str]:
        """The calls of the fake Python since the last call of this method."""
        if not self.calls_file.exists():
            return []
        calls = self.calls_file.read_text().splitlines()
        self.calls_file.unlink()
        return calls


@pytest.fixture
def checkout(tmp_path):
    root = tmp_path / "a clone"
    (root / "scripts").mkdir(parents=True)
    for script in ("setup", "test", "demo"):
        shutil.copy(ROOT / "scripts" / script, root / "scripts")
    for file in ("pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / file, root)
    (tmp_path / "bin").mkdir()
    made = Checkout(root, tmp_path / "bin", tmp_path / "calls")
    made.python("3.11.7", *PYTHON_NAMES)
    return made


def installs(calls: list[str]) -> list[str]:
    return [call for call in calls if call.startswith("-m pip install")]


@pytest.mark.parametrize("minor", range(8, 16))
def test_takes_the_range_of_pyproject_and_refuses_others_with_a_sentence(checkout, minor):
    version = f"3.{minor}.1"
    checkout.python(version, *PYTHON_NAMES)

    done = checkout.run("setup")

    if version in SpecifierSet(PROJECT["requires-python"]):
        assert done.returncode == 0, done.stderr
        assert installs(checkout.calls())
    else:
        assert done.returncode == 2
        assert done.stderr.startswith("kgtool needs Python 3.10, 3.11 or 3.12")
        assert f"python3 is {version}" in done.stderr
        assert done.stderr.count("\n") == 1
        assert not checkout.calls()
        assert not (checkout.root / ".venv").exists()


def test_passes_over_pythons_outside_the_range(checkout):
    checkout.python("3.13.0", "python3.11", "python3.12", "python3")  # named 3.11, and is not
    checkout.python("3.10.4", "python3.10")

    assert "Python 3.10.4" in checkout.run("setup").stdout


def test_a_python_that_is_named_is_taken_or_refused(checkout):
    named = checkout.python("3.10.9", "named")
    newer = checkout.python("3.13.0", "newer")

    assert "Python 3.10.9" in checkout.run("setup", PYTHON=str(named)).stdout
    refused = checkout.run("setup", PYTHON=str(newer))
    assert refused.returncode == 2
    assert f"{newer} is 3.13.0" in refused.stderr
    assert "does not run" in checkout.run("setup", PYTHON="/nowhere/python").stderr


def test_installs_the_pins_and_a_second_start_nothing(checkout):
    first = checkout.run("setup")
    assert first.returncode == 0, first.stderr
    calls = checkout.calls()
    assert calls[0] == "-m venv .venv"
    assert installs(calls)[-1] == "-m pip install -c constraints.txt -e ."
    assert "bin/kgtool. To call it as kgtool: . " in first.stdout

    second = checkout.run("setup")
    assert (second.returncode, second.stdout, second.stderr) == (0, "", "")
    assert not checkout.calls()


def test_the_extras_of_the_tests_come_when_asked_and_stay(checkout):
    checkout.run("setup")
    checkout.calls()
    checkout.run("setup", "--dev")
    calls = checkout.calls()
    assert installs(calls)[-1] == "-m pip install -c constraints.txt -e .[dev]"
    assert not any("venv" in call for call in calls)  # they are added
    for words in ((), ("--dev",)):
        again = checkout.run("setup", *words)
        assert (again.returncode, again.stdout, again.stderr) == (0, "", "")
        assert not checkout.calls()
    with (checkout.root / "constraints.txt").open("a") as file:
        file.write("# changed\n")
    checkout.run("setup")
    assert installs(checkout.calls())[-1] == "-m pip install -c constraints.txt -e .[dev]"
    refused = checkout.run("setup", "--devel")
    assert (refused.returncode, refused.stderr) == (2, "usage: scripts/setup [--dev]\n")


def test_it_takes_the_build_of_torch_that_is_asked_for_and_keeps_it(checkout):
    cpu = checkout.run("setup")
    assert any("+cpu" in call for call in checkout.calls()) == sys.platform.startswith("linux")
    if sys.platform.startswith("linux"):
        assert "torch: the CPU build; for a GPU, KGTOOL_TORCH=cuda scripts/setup" in cpu.stdout
    cuda = checkout.run("setup", KGTOOL_TORCH="cuda")
    calls = checkout.calls()
    assert "with CUDA (several GB)" in cuda.stdout
    assert calls[0] == "-m venv .venv"  # pip would take the CPU build for the same version
    assert not any("+cpu" in call for call in calls)
    checkout.run("setup")
    assert not checkout.calls()
    checkout.run("setup", KGTOOL_TORCH="cpu")
    assert "-m venv .venv" in checkout.calls()
    refused = checkout.run("setup", KGTOOL_TORCH="rocm")
    assert (refused.returncode, refused.stderr) == (2, "KGTOOL_TORCH is cpu or cuda, not rocm\n")


PYPI_TORCH = re.search(r"^torch==\S+", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
CPU_INDEX = "--extra-index-url https://download.pytorch.org/whl/cpu"


def test_for_a_gpu_pip_takes_the_pinned_torch_of_the_package_index(checkout):
    """The plain wheel of the index has CUDA: no call may name a build or another index."""
    done = checkout.run("setup", KGTOOL_TORCH="cuda")
    assert done.returncode == 0, done.stderr
    assert checkout.calls() == ["-m venv .venv", "-m pip install -c constraints.txt -e ."]
    assert PYPI_TORCH
    (pin,) = Requirement(PYPI_TORCH.group()).specifier
    assert pin.operator == "=="
    assert "+" not in pin.version  # a local version would choose a build
    (needed,) = (r for r in map(Requirement, PROJECT["dependencies"]) if r.name == "torch")
    assert pin.version in needed.specifier


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="elsewhere there is one build")
def test_without_a_gpu_pip_takes_the_cpu_build_of_the_pin(checkout):
    assert PYPI_TORCH
    cpu = f"-m pip install --no-deps {PYPI_TORCH.group()}+cpu"
    checkout.run("setup")
    assert checkout.calls() == [
        "-m venv .venv", cpu, "-m pip install -c constraints.txt -e .",
    ]  # fmt: skip
    shutil.rmtree(checkout.root / ".venv")
    (checkout.bin / "pip.fails").touch()  # the configured index lacks the build: PyTorch's own
    checkout.run("setup")
    calls = installs(checkout.calls())
    assert calls[0] == cpu
    assert calls[1].startswith(cpu)
    assert calls[1].endswith(CPU_INDEX)


def test_an_environment_from_before_there_was_a_choice_is_kept(checkout):
    checkout.run("setup", "--dev")
    stamp = checkout.root / ".venv" / ".complete"
    stamp.write_text(stamp.read_text().replace(" torch=cpu", "").replace(" [dev]", ""))
    checkout.calls()
    checkout.run("setup")
    assert not checkout.calls()


def test_an_install_that_fails_is_made_anew_at_the_next_start(checkout):
    fails = checkout.bin / "pip.fails"
    fails.touch()
    assert checkout.run("setup").returncode != 0
    checkout.calls()
    (checkout.root / ".venv" / "half-written").touch()

    fails.unlink()
    assert checkout.run("setup").returncode == 0
    assert "-m venv .venv" in checkout.calls()
    assert not (checkout.root / ".venv" / "half-written").exists()


@pytest.mark.parametrize("file", ["pyproject.toml", "constraints.txt"])
def test_other_ranges_or_pins_are_installed(checkout, file):
    checkout.run("setup")
    checkout.calls()
    with (checkout.root / file).open("a") as f:
        f.write("# changed\n")

    # The environment is complete: it is changed, not made anew, unless that fails.
    fails = checkout.bin / "pip.fails"
    fails.touch()
    assert checkout.run("setup").returncode != 0
    assert not any("venv" in call for call in checkout.calls())
    fails.unlink()
    assert checkout.run("setup").returncode == 0
    assert "-m venv .venv" in checkout.calls()
    checkout.run("setup")
    assert not checkout.calls()


def test_another_python_or_place_makes_the_environment_anew(checkout):
    checkout.run("setup")
    checkout.calls()
    checkout.run("setup", PYTHON=str(checkout.python("3.11.9", "other")))
    assert "-m venv .venv" in checkout.calls()

    moved = Checkout(
        checkout.root.rename(checkout.root.with_name("moved")), checkout.bin, checkout.calls_file
    )
    moved.run("setup")
    assert "-m venv .venv" in moved.calls()


def test_starts_from_inside_its_own_environment(checkout):
    """If .venv is activated, the first Python on the path is in the folder that setup removes."""
    checkout.run("setup")
    own = checkout.root / ".venv" / "bin"
    (own / "python3.11").symlink_to(own / "python")
    (own.parent / ".complete").unlink()

    done = checkout.run("setup", PATH=f"{own}{os.pathsep}{os.environ['PATH']}")

    assert done.returncode == 0, done.stderr
    assert (own / "python").resolve().parent == checkout.bin


PYTEST = "-m pytest --numprocesses=logical --maxprocesses=4 --dist=worksteal"


def test_test_command_runs_every_check_and_fails_if_one_does(checkout):
    checks = ["-m ruff check", "-m ruff format --check", "-m codespell_lib", "-m mypy", PYTEST]
    done = checkout.run("test")
    assert done.returncode == 0, done.stderr
    calls = checkout.calls()
    assert installs(calls)[-1].endswith(" -e .[dev]")
    assert calls[-5:] == checks

    (checkout.bin / "mypy.fails").touch()
    done = checkout.run("test")
    assert done.returncode == 1
    assert done.stderr == "failed: mypy\n"
    assert checkout.calls() == checks


def test_test_command_hands_arguments_to_pytest(checkout):
    checkout.run("test", "-k", "a b")
    assert checkout.calls()[-1] == f"{PYTEST} -k a b"
    checkout.run("test", "--all", "-x")
    assert checkout.calls()[-1] == f"{PYTEST} -m  -x"  # the empty marker expression: every test
    checkout.run("test", "--nightly", "-x")
    assert checkout.calls()[-1] == f"{PYTEST} -m  --hypothesis-profile=nightly -x"


def test_demo_takes_the_next_free_folder_and_says_where_things_are(checkout):
    (checkout.root / "runs" / "families").mkdir(parents=True)

    done = checkout.run("demo")

    assert done.returncode == 0, done.stderr
    assert [call for call in checkout.calls() if "kgtool" in call] == [
        "-m kgtool train configs/families.toml --out runs/families-2",
        "-m kgtool evaluate runs/families-2",
        "-m kgtool export runs/families-2 --out runs/families-2/export",
    ]
    assert f"{checkout.root}/runs/families-2/export" in done.stdout


def test_demo_stops_at_the_first_failure(checkout):
    (checkout.bin / "kgtool.fails").touch()
    assert checkout.run("demo").returncode != 0
    assert [call for call in checkout.calls() if "kgtool" in call][1:] == []


def pins(python: str) -> dict[str, str]:
    """The pinned version of each package for a Python; fails if a line pins none or two."""
    found: dict[str, str] = {}
    for line in (ROOT / "constraints.txt").read_text("utf-8").splitlines():
        if not line or line.startswith("#"):
            continue
        pin = Requirement(line)
        there = {"python_version": python, "sys_platform": "linux"}
        if pin.marker is None or pin.marker.evaluate(there):
            version = re.fullmatch(r"==([^*,]+)", str(pin.specifier))
            assert version, line
            assert canonicalize_name(pin.name) not in found, line
            found[canonicalize_name(pin.name)] = version[1]
    return found


@pytest.mark.parametrize("python", ["3.10", "3.11", "3.12"])
def test_every_dependency_has_a_pin_in_its_range(python):
    extras = PROJECT["optional-dependencies"]
    # The outside models are tried on 3.11 only.
    groups = [PROJECT["dependencies"], extras["dev"]]
    groups += [extras["benchmarks"]] if python == "3.11" else []
    for line in (line for group in groups for line in group):
        requirement = Requirement(line)
        if requirement.marker is None or requirement.marker.evaluate({"python_version": python}):
            assert pins(python)[canonicalize_name(requirement.name)] in requirement.specifier, line


@pytest.mark.parametrize("python", ["3.10", "3.11", "3.12"])
def test_pins_name_the_pair_that_works_and_no_cuda(python):
    pinned = pins(python)
    dgl = "2.1.0" if python == "3.12" else "1.1.3"  # 1.1.3 has no wheel for 3.12
    assert (pinned["torch"], pinned["dgl"]) == ("2.13.0", dgl)
    assert not [name for name in pinned if re.match(r"nvidia|cuda|triton", name)]


@pytest.mark.parametrize(
    "command",
    [
        "scripts/setup", "scripts/demo", "scripts/docs", "scripts/test", "scripts/test-versions",
        ".ci/run",
    ],
)  # fmt: skip
def test_commands_are_executable(command):
    assert os.access(ROOT / command, os.X_OK)
