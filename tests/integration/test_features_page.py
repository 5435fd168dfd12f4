"""Entity features on the command line; the commands of docs/guides/features.md run unchanged."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

import kgtool
from kgtool.cli import app
from kgtool.errors import ConfigError, DataError
from tests.support.blocks import lines_run_by
from tests.support.runs import ring, tiny_config, write_folder
from tests.support.shell import prepare
from tests.support.shell import printed as printed_by

COMMANDS = lines_run_by(__file__, "docs/guides/features.md")


def test_every_command_of_the_example_runs(tmp_path):
    prepare(tmp_path, "configs", "scripts")
    printed = {line: printed_by(line, tmp_path) for line in COMMANDS}
    (train, evaluate, extend, predict) = list(printed.values())[-4:]
    assert re.search(r"features names/names.npy: 64 numbers for (\d+) of \1 entities", train)
    # Chance is 0.04 among 150 entities.
    assert float(re.findall(r"both +realistic +(0\.\d+)", evaluate)[0]) > 0.07
    assert re.search(r"new entities without features +0", extend)
    assert "_Morozov_" in predict


def vectors(folder: Path, name: str, labels: list[str]) -> Path:
    path = folder / name
    path.write_text("".join(f"{label}\t{i}\t{i * i % 7}\n" for i, label in enumerate(labels)))
    return path


def test_the_command_line_takes_features(tmp_path):
    data = write_folder(ring(), tmp_path / "ring")
    own = vectors(tmp_path, "own.tsv", [f"e{i:03}" for i in range(24)])
    config = tiny_config(
        encoder={"entity_init": "features", "features": str(own)}, epochs=1, validate_every=1
    )
    run = kgtool.train(config, kgtool.load_dataset(data), tmp_path / "run", progress=False)
    assert "24 of 24 entities" in (run.path / "train.log").read_text()
    other = tmp_path / "other"
    other.mkdir()
    for split in ("train", "valid", "test"):
        text = (data / f"{split}.txt").read_text()
        (other / f"{split}.txt").write_text(text.replace("e0", "f0"))
    new = vectors(tmp_path, "new.tsv", [f"f{i:03}" for i in range(24)])

    def call(*words: object) -> str:
        done = CliRunner().invoke(app, list(map(str, words)), catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return done.output

    given = ("--data", other, "--features", new)
    # The other graph is the same graph with other labels, and has the same vectors.
    assert (
        call("evaluate", run.path, *given).splitlines()[:6]
        == (call("evaluate", run.path).splitlines()[:6])
    )
    assert "f0" in call("predict", run.path, "f001", "r000", "?", *given)
    more = tmp_path / "more.tsv"
    more.write_text("f003\tr000\te001\n")
    call("extend", run.path, more, "--features", new, "--out", tmp_path / "extended")
    extended = kgtool.Run.open(tmp_path / "extended").read_info()["extended"]
    assert extended["new entities without features"] == 0
    for words, problem in (
        (("evaluate", run.path, "--features", new), "--features goes with --data"),
        (("evaluate", *given), "--features is for a run"),
    ):
        with pytest.raises(ConfigError, match=problem):
            call(*words)
    own.write_text("e001\t1\nx\t2\t3\n")
    with pytest.raises(DataError, match=r"own.tsv, line 2: 2 numbers, where rows before have 1"):
        kgtool.train(config, data, tmp_path / "failed", progress=False)
    assert not (tmp_path / "failed").exists()
