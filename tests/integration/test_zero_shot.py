"""The README's first example: a CSV and a question, with nothing trained."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from tests.support.blocks import lines_run_by
from tests.support.command_line import called
from tests.support.places import ROOT

pytestmark = pytest.mark.filterwarnings("default::kgtool.errors.KGToolWarning")

COMMANDS = lines_run_by(__file__, "README.md")
BUNDLED = [line for line in COMMANDS if "datasets/families" in line]
COMMANDS = [line for line in COMMANDS if line not in BUNDLED]
NAMES = {"HEAD": "ada0", "RELATION": "grandparent_of", "TAIL": "cleo0"}


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KGTOOL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.chdir(tmp_path)
    lines = ["head,relation,tail"]
    for i in range(60):
        lines += [f"ada{i},parent_of,ben{i}", f"ben{i},parent_of,cleo{i}"]
        lines += [f"ben{i},child_of,ada{i}", f"cleo{i},child_of,ben{i}"]
        if i:
            lines.append(f"ada{i},grandparent_of,cleo{i}")
    Path("triples.csv").write_text("\n".join(lines) + "\n")


def test_the_commands_answer_and_explain(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert [command.split()[1] for command in COMMANDS] == ["predict", "explain"]
    predict, explain = (
        [NAMES.get(word, word) for word in shlex.split(command, comments=True)[1:]]
        for command in COMMANDS
    )
    code, output, errors = called(monkeypatch, capsys, *predict)
    assert code == 0, errors
    assert "not trained on this graph" in errors
    assert "not trained on this graph" not in output
    answers = re.findall(r"^ *\d\.\d+ +-?[\d.]+ +(\S+) *$", output, flags=re.M)
    assert answers[0] == "cleo0"
    code, output, errors = called(monkeypatch, capsys, *explain)
    assert code == 0, errors
    step = r"--(?:parent_of|\^child_of|, )+-->"  # the two relations say the same
    assert re.search(f"ada0 {step} ben0 {step} cleo0", " ".join(output.split()))


def test_the_output_in_the_readme_is_real(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The answers and the path; scores of other CPUs differ in their last digits."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    shown = re.findall("```text\n(.*?)```", readme, flags=re.S)[0]
    output = ""
    for line in BUNDLED:
        words = [str(ROOT / word) if "/" in word else word for word in shlex.split(line)[1:]]
        code, printed, errors = called(monkeypatch, capsys, *words)
        assert code == 0, errors
        output += printed
    names = r"[A-Za-z]+_[\w^]+|--|in (?:test|valid)"
    assert set(re.findall(names, shown)) == set(re.findall(names, output))
    answers = r"\d\.\d+ +(\S+) +in (?:test|valid)"
    assert re.findall(answers, shown) == re.findall(answers, output)


def test_a_header_that_is_read_as_a_triple_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = Path("triples.csv").read_text().replace("head,relation,tail", "person,link,relative")
    Path("people.csv").write_text(text)
    code, _, errors = called(monkeypatch, capsys, "predict", "people.csv", "ada0", "parent_of", "?")
    assert code == 0
    assert "people.csv, line 1 was read as a triple, but 'person', 'link', 'relative'" in errors
    asked = ("predict", "people.csv", "ada0", "parent_of", "?", "--header")
    code, _, errors = called(monkeypatch, capsys, *asked)
    assert code == 2
    assert "pass it to kgtool data split FILE --out FOLDER, and ask FOLDER" in errors
    split = ("data", "split", "people.csv", "--header", "--out", "people")
    assert called(monkeypatch, capsys, *split)[0] == 0
    code, _, errors = called(monkeypatch, capsys, "predict", "people", "ada0", "parent_of", "?")
    assert code == 0
    assert "read as a triple" not in errors


@pytest.mark.parametrize(
    "command",
    [
        "evaluate triples.csv",
        "complete triples.csv --top 3 --out new.tsv",
        "predict triples.csv ada0 ? cleo0",
        "predict triples.csv ada0 grandparent_of cleo0",
        "report triples.csv --out report.html",
    ],
)
def test_where_a_command_takes_a_run_it_takes_data(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if command.startswith("report"):
        assert called(monkeypatch, capsys, "evaluate", "triples.csv")[0] == 0
    code, output, errors = called(monkeypatch, capsys, *command.split())
    assert code == 0, errors
    assert output
    assert errors.count("not trained on this graph") == 1


def test_data_are_compared_with_a_run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for command in (
        "data split triples.csv --out data",
        "train families --data data --out run training.epochs=1 training.one_path.epochs=1",
        "evaluate run",
    ):
        code, _, errors = called(monkeypatch, capsys, *command.split())
        assert code == 0, errors
    code, _, errors = called(monkeypatch, capsys, "compare", "data", "run")
    assert code == 2
    assert "data holds no ranks.test.tsv. Remedy: kgtool evaluate data" in errors
    assert called(monkeypatch, capsys, "evaluate", "data")[0] == 0
    code, output, errors = called(monkeypatch, capsys, "compare", "data", "run")
    assert code == 0, errors
    assert "data" in output
    assert "run" in output


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        ("export triples.csv --out vectors", "no embeddings"),
        ("predict triples.csv ada0 --task neighbours", "no embeddings"),
        ("predict triples.csv ada0 knows ?", "such as 'child_of', 'grandparent_of', 'parent_of'"),
        ("predict triples.csv ada0 child_of ? --data triples.csv", "in the place of the run"),
        ("predict missing.csv ada0 child_of ?", "is not a run"),
    ],
)
def test_what_cannot_be_answered_is_refused(
    command: str, reason: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, errors = called(monkeypatch, capsys, *command.split())
    assert code == 2
    assert reason in " ".join(errors.split())
    assert "Traceback" not in errors
