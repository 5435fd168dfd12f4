"""Everything of kgtool's in docs/guides/coming-from.md runs, on tiny data.

The rule: a data set by name is a ring of 24 entities, epochs and trials are at most 2, and a
training without --out has a folder of its own. All other words are those of the page.
"""

from __future__ import annotations

import hashlib
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import kgtool
from kgtool.cli import app
from kgtool.errors import KGToolWarning
from tests.support.blocks import blocks, lines_run_by, run_by
from tests.support.places import ROOT
from tests.support.runs import ring, write_folder

NAME = "docs/guides/coming-from.md"
PAGE = (ROOT / NAME).read_text(encoding="utf-8")
CLASSIC = [each.text for each in blocks(ROOT / NAME) if each.kind == "toml"]
PYTHON = [each.text for each in run_by(__file__, NAME, "python")]
PREFIX = "kgtool train classic.toml --data my-graph "
TABLES = PAGE.split("## Names")[0]  # the names are no commands
COMMANDS = lines_run_by(__file__, NAME)
CELLS = re.findall(r"^\| .+ \| `([^`]+)` (?:\| [0-9. |]+)?\|$", TABLES, flags=re.M)
LINES = list(dict.fromkeys([*COMMANDS, *CELLS]))  # each once


def tiny(line: str, number: int) -> list[str]:
    """The words of a command line, or of settings for one, by the rule above."""
    if not re.match(r"(kgtool|torchrun) ", line):
        line = PREFIX + line
    line = re.sub(r"training\.epochs=\d+", "training.epochs=2", line)
    line = re.sub(r"--trials \d+", "--trials 1", line).replace("FB15k-237", "named-ring")
    if "train " in line and "--out" not in line:
        line += f" --out runs/{number}"
    if "train inductive " in line:
        line += " training.epochs=1"
    return shlex.split(line)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with all the files that the page names."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    (tmp_path / "classic.toml").write_text(CLASSIC[0].replace("epochs = 50", "epochs = 1"))
    folder = write_folder(ring(), tmp_path / "fb237_v1")
    parts = {path.name: path.read_text() for path in folder.glob("*.txt")}
    text = "".join(parts.values())
    for old, new in (("e000", "HEAD"), ("e007", "TAIL"), ("r000", "RELATION")):
        text = text.replace(old, new)
    rows = [row.split("\t") for row in text.splitlines()]
    header = "head,relation,tail"
    Path("triples.csv").write_text("\n".join([header, *(",".join(row) for row in rows)]) + "\n")
    weighted = [f"{','.join(row)},{1 - i % 2 / 2}" for i, row in enumerate(rows)]
    Path("weighted.csv").write_text("\n".join([header + ",weight", *weighted]) + "\n")
    Path("htr.tsv").write_text("".join(f"{h}\t{t}\t{r}\n" for h, r, t in rows))
    Path("candidates.tsv").write_text("HEAD\tRELATION\tTAIL\nTAIL\tRELATION\tHEAD\n")
    Path("queries.tsv").write_text("HEAD\tRELATION\t?\n?\tRELATION\tTAIL\n")
    labels = sorted({label for head, _, tail in rows for label in (head, tail)})
    Path("vectors.tsv").write_text("".join(f"{e}\t{i}\t{-i}\n" for i, e in enumerate(labels)))

    # The other graph has other entities. In LibKGE's and DGL-KE's folders are ids.
    entities, relations = ring().vocabulary.entities, ring().vocabulary.relations
    for name in ("fb237_v1_ind", "data/toy", "data/ids"):
        Path(name).mkdir(parents=True)
    Path("data/toy/dataset.yaml").write_text("dataset:\n  name: toy\n")
    for name, names in (("entity_ids.del", entities), ("relation_ids.del", relations)):
        Path("data/toy", name).write_text("".join(f"{i}\t{e}\n" for i, e in enumerate(names)))
    for name, names in (("entities.dict", entities), ("relations.dict", relations)):
        Path("data/ids", name).write_text("".join(f"{i}\t{e}\n" for i, e in enumerate(names)))
    for name, part in parts.items():
        Path("fb237_v1_ind", name).write_text(part.replace("e0", "f0"))
        ids = "".join(
            f"{entities.index(head)}\t{relations.index(relation)}\t{entities.index(tail)}\n"
            for head, relation, tail in (row.split("\t") for row in part.splitlines())
        )
        Path("data/toy", name.replace(".txt", ".del")).write_text(ids)
        Path("data/ids", name.replace(".txt", ".tsv")).write_text(ids)

    # A public data set whose archive is in the cache, as after a fetch.
    Path("cache").mkdir()
    archive = Path(shutil.make_archive("cache/named-ring", "gztar", folder))
    Path("own.toml").write_text(
        f"[named-ring]\nabout = 'a ring'\naddress = 'http://127.0.0.1:9/named-ring.tar.gz'\n"
        f"sha256 = '{hashlib.sha256(archive.read_bytes()).hexdigest()}'\n"
        f"size = {archive.stat().st_size}\ntrain = 56\nvalid = 8\ntest = 8\n"
        "entities = 24\nrelations = 3\n"
    )
    monkeypatch.setenv("KGTOOL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("KGTOOL_REGISTRY", str(tmp_path / "own.toml"))
    return tmp_path


def test_the_page_is_read():
    assert len(CLASSIC) == len(PYTHON) == 1
    rows = [line for line in TABLES.splitlines() if re.match(r"\| (?!---)", line)]
    assert len(rows) - len(re.findall(r"^\| ---", TABLES, flags=re.M)) == len(CELLS) > 60
    for toolkit in ("PyKEEN", "LibKGE", "DGL-KE"):
        assert f"\n## {toolkit}\n" in PAGE


def test_every_command_runs(place):
    pytest.importorskip("optuna")
    for number, line in enumerate(LINES):
        words = tiny(line, number)
        if words[0] == "torchrun":
            torchrun = [sys.executable, "-m", "torch.distributed.run", *words[1:]]
            env = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
            both = subprocess.run(torchrun, env=env, text=True, capture_output=True, timeout=300)
            assert both.returncode == 0, f"{line}\n{both.stdout}\n{both.stderr}"
            continue
        done = CliRunner().invoke(app, words[1:], catch_exceptions=False)
        assert done.exit_code == 0, f"{line}\n{done.output}"
    for table in ("answers.tsv", "links.tsv", "new.tsv", "scored.tsv", "scores.tsv"):
        assert len((place / table).read_text().splitlines()) > 1
    # The settings of the page reach the run.
    settings = [kgtool.Run.open(run.parent).config for run in place.glob("runs/*/config.toml")]
    decoders = [config.one_path for config in settings if config.one_path]
    assert {"transe", "complex", "rotate", "tucker", "distmult"} <= {d.cell for d in decoders}
    every = {"1vsAll", "1vsAll_unmasked", "KvsAll", "negative_sampling"}
    assert every == {d.training for d in decoders}
    assert np.load(place / "vectors" / "entity.npy").shape == (24, 256)


def test_the_python_code_runs(place, capsys):
    split = next(line for line in COMMANDS if line.startswith("kgtool data split triples.csv"))
    done = CliRunner().invoke(app, shlex.split(split)[1:], catch_exceptions=False)
    assert done.exit_code == 0
    code = PYTHON[0].replace("settings = {", 'settings = {"training": {"epochs": 1}, ')
    names: dict[str, object] = {}
    with pytest.warns(KGToolWarning, match="header in line 1"):
        exec(compile(code, "coming-from.md", "exec"), names)
    printed = capsys.readouterr().out
    assert re.search(r"0\.\d+", printed)
    assert "HEAD" in printed
    run = kgtool.Run.open(place / "runs" / "dictionary")
    assert run.config.one_path
    assert run.config.one_path.cell == "transe"
