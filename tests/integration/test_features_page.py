"""Entity features on the command line; the commands of docs/guides/features.md run unchanged."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

import kgtool
from kgtool.cli import app
from kgtool.config import Config
from kgtool.data.dataset import KGDataset
from kgtool.errors import ConfigError, DataError, RunError
from tests.support.blocks import lines_run_by
from tests.support.runs import all_paths_config, ring, tiny_config, write_folder
from tests.support.shell import mrr_in, prepare
from tests.support.shell import printed as printed_by

COMMANDS = lines_run_by(__file__, "docs/guides/features.md")


def test_every_command_of_the_example_runs(tmp_path):
    prepare(tmp_path, "configs", "scripts")
    printed = {line: printed_by(line, tmp_path) for line in COMMANDS}
    (train, evaluate, extend, predict) = list(printed.values())[-4:]
    assert re.search(r"features names/names.npy: 64 numbers for (\d+) of \1 entities", train)
    # Chance is 0.04 among 150 entities.
    assert mrr_in(evaluate) > 0.07
    assert re.search(r"new entities without features +0", extend)
    assert "_Morozov_" in predict


def vectors(folder: Path, name: str, labels: list[str]) -> Path:
    path = folder / name
    path.write_text("".join(f"{label}\t{i}\t{i * i % 7}\n" for i, label in enumerate(labels)))
    return path


@dataclass(frozen=True)
class Place:
    """A run by features of its own data, the same graph with other labels, and their vectors."""

    data: Path
    own: Path
    other: Path
    new: Path

    def train(self, config: Config, out: Path) -> kgtool.Run:
        return kgtool.train(config, kgtool.load_dataset(self.data), out, progress=False)

    @property
    def settings(self) -> dict[str, str]:
        return {"entity_init": "features", "features": str(self.own)}

    @property
    def given(self) -> tuple[object, ...]:
        return "--data", self.other, "--features", self.new


@pytest.fixture
def place(tmp_path: Path) -> Place:
    data, other = write_folder(ring(), tmp_path / "ring"), tmp_path / "other"
    other.mkdir()
    for split in ("train", "valid", "test"):
        text = (data / f"{split}.txt").read_text()
        (other / f"{split}.txt").write_text(text.replace("e0", "f0"))
    own, new = (vectors(tmp_path, f"{e}.tsv", [f"{e}{i:03}" for i in range(24)]) for e in "ef")
    return Place(data, own, other, new)


def call(*words: object) -> str:
    done = CliRunner().invoke(app, list(map(str, words)), catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def test_the_command_line_takes_features(place, tmp_path):
    config = tiny_config(encoder=place.settings, epochs=1, validate_every=1)
    run = place.train(config, tmp_path / "run")
    assert "24 of 24 entities" in (run.path / "train.log").read_text()
    # The other graph has other labels and the same vectors.
    assert (
        call("evaluate", run.path, *place.given).splitlines()[:6]
        == (call("evaluate", run.path).splitlines()[:6])
    )
    assert "f0" in call("predict", run.path, "f001", "r000", "?", *place.given)
    with pytest.raises(RunError, match=r"evaluate .* --data .*other --features FILE --split"):
        call("report", run.path, "--split", "valid", *place.given)
    page = tmp_path / "page.html"
    call("report", run.path, "--out", page, *place.given)
    assert "f001" in page.read_text()
    tables = []
    for name, options in (("own", ()), ("other", place.given)):
        call("export", run.path, "--out", tmp_path / name, "--formats", "tsv", *options)
        tables.append((tmp_path / name / "embeddings.tsv").read_text())
    assert tables[0].replace("e0", "f0") == tables[1]
    more = tmp_path / "more.tsv"
    more.write_text("f003\tr000\te001\n")
    call("extend", run.path, more, "--features", place.new, "--out", tmp_path / "extended")
    extended = kgtool.Run.open(tmp_path / "extended").read_info()["extended"]
    assert extended["new entities without features"] == 0
    with pytest.raises(ConfigError, match="--features is for a run"):
        call("evaluate", *place.given)
    place.own.write_text("e001\t1\nx\t2\t3\n")
    with pytest.raises(DataError, match=r"e.tsv, line 2: 2 numbers, where rows before have 1"):
        kgtool.train(config, place.data, tmp_path / "failed", progress=False)
    assert not (tmp_path / "failed").exists()


def test_a_run_of_paths_reads_features_of_other_data_too(place, tmp_path, monkeypatch):
    config = all_paths_config(encoder=place.settings, epochs=1, validate_every=1)
    run = place.train(config, tmp_path / "run")
    assert "f001" in call("explain", run.path, "f001", "r000", "f002", *place.given)
    triples = [
        call("complete", run.path, "--top", 3, *options).splitlines()
        for options in ((), place.given)
    ]
    assert [line.replace("e0", "f0") for line in triples[0]] == triples[1]
    served: list[KGDataset] = []
    monkeypatch.setattr("kgtool.api.serve.serve", lambda run, data, *_, **__: served.append(data))
    call("serve", run.path, *place.given)
    assert served[0].features is not None
    assert served[0].features.labels[0].as_py() == "f000"


# Commands that take --features, with their other arguments.
TAKING = {
    "evaluate": (),
    "predict": ("e001", "r000", "?"),
    "complete": (),
    "explain": ("e001", "r000", "e002"),
    "export": ("--out", "vectors"),
    "report": (),
    "serve": (),
}


@pytest.mark.parametrize("command", TAKING)
def test_features_go_with_other_data(command):
    with pytest.raises(ConfigError, match="--features goes with --data"):
        call(command, "run", *TAKING[command], "--features", "new.tsv")


def test_every_command_that_reads_other_data_with_a_run_takes_features():
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    taking = set()
    for name, each in commands.items():
        options = {option for parameter in each.params for option in parameter.opts}
        if "--data" in options and "run" in {parameter.name for parameter in each.params}:
            assert "--features" in options, name
            taking.add(name)
    assert taking - {"extend"} == set(TAKING)
