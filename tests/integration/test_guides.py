"""The commands and the Python of the guides run, on a small graph.

The rule: files that a page names are made from a graph of 60 entities; presets have one epoch,
`training.epochs` is 2, `--trials` is 1, `--minutes` is short, and a server stops once it has
printed its address. All other words are those of the page.
"""

from __future__ import annotations

import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

import kgtool
from kgtool.cli import app
from kgtool.config import reading
from tests.support.blocks import PAGES, PYTHON, SHELL, TOML, blocks, run_by
from tests.support.places import ROOT
from tests.support.shell import environment, prepare

pytestmark = pytest.mark.filterwarnings("default::kgtool.errors.KGToolWarning")

NAMES = [page.relative_to(ROOT).as_posix() for page in PAGES]
GUIDES = [name for name in NAMES if run_by(__file__, name) or run_by(__file__, name, PYTHON)]
LABELS = {40: "HEAD", 41: "TAIL", 9: "aspirin"}
# The header of triples.csv, where a page names other columns.
HEADERS = {"README.md": "person,relation,relative"}


def triples() -> list[tuple[str, str, str]]:
    """A ring of 60 entities, with edges that follow from two others."""
    labels = [LABELS.get(i, f"e{i:02}") for i in range(60)]
    names = {1: "RELATION", 2: "two_on", 3: "three_on"}
    return [
        (labels[i], name, labels[(i + step) % 60])
        for step, name in names.items()
        for i in range(60)
    ]


def short(text: str) -> str:
    """A configuration with one epoch of a few steps."""
    text = re.sub(r"^(epochs|validate_every) = \d+", r"\1 = 1", text, flags=re.M)
    text = re.sub(r"^steps_per_epoch = \d+.*\n", "", text, flags=re.M)
    return text.replace("[training]\n", "[training]\nsteps_per_epoch = 20\n")


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Path:
    """A folder with the files that the page of the test names."""
    page = request.getfixturevalue("page")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("KGTOOL_CACHE", str(tmp_path / "cache"))
    prepare(tmp_path, "scripts")
    Path("configs").mkdir()
    for preset in (ROOT / "configs").glob("*.toml"):
        Path("configs", preset.name).write_text(short(preset.read_text("utf-8")), "utf-8")
    monkeypatch.setattr(reading, "preset_folder", lambda: tmp_path / "configs")
    Path("CONFIG").write_text(Path("configs/families.toml").read_text())
    for block in blocks(ROOT / page):
        if block.kind == TOML:
            Path("mine.toml").write_text(short(block.text))

    rows = triples()
    for name, header in (
        ("triples.csv", HEADERS.get(page, "head,relation,tail,confidence")),
        ("genes.csv", "gene,effect,disease"),
    ):
        more = ",0.5" if "confidence" in header else ""
        Path(name).write_text("\n".join([header, *(",".join(row) + more for row in rows)]) + "\n")
    made = " ".join(line for block in blocks(ROOT / page) for line in block.lines)
    for graph in ("my-graph", "datasets/families", "other-graph"):
        if f"--out {graph}" not in made:
            kgtool.split(rows, graph)
    nodes = [f"{entity},name of {entity},thing" for entity, _, _ in rows[:60]]
    Path("nodes.csv").write_text("\n".join(["id,name,type", *nodes]) + "\n")
    # The first row of a file is not HEAD RELATION TAIL: it would be read as a header.
    Path("candidates.tsv").write_text("e05\ttwo_on\te07\nHEAD\tRELATION\tTAIL\n")
    Path("queries.tsv").write_text("e05\ttwo_on\t?\nHEAD\tRELATION\t?\n")
    Path("new-facts.tsv").write_text("e05\ttwo_on\tNEWCOMER\nNEWCOMER\tRELATION\tTAIL\n")
    for run in ("runs/mine", "runs/other"):
        if f"--out {run}" not in made and run in made:
            kgtool.train("families", "my-graph", run, progress=False)
            kgtool.evaluate(run)
    return tmp_path


def run_line(line: str) -> None:
    """Run a command line of a page, by the rule above."""
    line = re.sub(r"--minutes \d+", "--minutes 0.05", line)
    line = re.sub(r"training\.epochs=\d+", "training.epochs=2", line)
    line = re.sub(r" --trials \d+", "", line)
    line += " --trials 1" if line.startswith("kgtool tune") else ""
    words = shlex.split(line, comments=True)
    if words[:2] == ["kgtool", "serve"]:
        serve(words)
        return
    if words[0] != "kgtool":
        env = environment(Path.cwd())
        subprocess.run(["/bin/sh", "-ec", line], env=env, check=True, timeout=300)
        return
    words, file = (words[:-2], words[-1]) if words[-2] == ">" else (words, None)
    done = CliRunner().invoke(app, words[1:], catch_exceptions=False)
    assert done.exit_code == 0, f"{line}\n{done.output}"
    if file is not None:
        Path(file).write_text(done.stdout)


def serve(words: list[str]) -> None:
    """Start a service; once it has printed its address, stop it."""
    command = [sys.executable, "-m", *words, "--port", "0"]
    env = environment(Path.cwd())
    with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        printed = next((line for line in process.stdout if "http://127.0.0.1:" in line), "")
        process.send_signal(signal.SIGINT)
        assert process.wait(60) in (0, 130)
    assert printed, "the service printed no address"


def test_the_guides_are_found():
    assert "README.md" in GUIDES
    assert len(GUIDES) > 8


@pytest.mark.parametrize("page", GUIDES)
def test_a_guide_runs(page: str, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("optuna")
    names: dict[str, object] = {}
    for block in blocks(ROOT / page):
        if block.run_by != Path(__file__).relative_to(ROOT).as_posix():
            continue
        if block.kind == SHELL:
            for line in block.lines:
                run_line(line)
        elif block.kind == PYTHON:
            code = block.text.replace("trials=30", "trials=1")
            exec(compile(code, f"{page}:{block.line}", "exec"), names)
