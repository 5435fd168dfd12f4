"""Lines that are not triples: each is listed, in the report, in memory and next to the data."""

from __future__ import annotations

import json

import pytest

import kgtool
from kgtool.api.data import convert
from kgtool.data.loaders import Reading, load_with_report, read_triples

SKIP = Reading(skip_bad_lines=True)
GOOD = [f"a{i % 7}\tr{i % 2}\ta{i * 3 % 11}" for i in range(60)]
HEADER = "file\tunit\tnumber\tproblem"


def with_bad(good: list[str], every: int = 2) -> str:
    """Lines with a bad one after each `every` good ones; the file begins with a good one."""
    lines = []
    for i, line in enumerate(good):
        lines += [line, f"bad\t{i}"] if i % every == 0 else [line]
    return "\n".join(lines) + "\n"


@pytest.fixture
def folder(tmp_path):
    place = tmp_path / "kg"
    place.mkdir()
    (place / "train.txt").write_text(with_bad(GOOD))
    (place / "valid.txt").write_text(GOOD[1] + "\n\tr0\ta1\n")
    (place / "test.txt").write_text(GOOD[2] + "\n")
    return place


def test_the_report_has_every_bad_line(folder):
    data, report = load_with_report(folder, reading=SKIP)
    assert len(report.bad_lines) == 31
    place = folder / "train.txt"
    assert str(report.bad_lines[1]).startswith(f"{place}, line 5: 2 columns where 3 are expected")
    assert (report.bad_lines[-1].file, report.bad_lines[-1].number) == (
        str(folder / "valid.txt"),
        2,
    )
    assert len(json.loads(json.dumps(report.to_dict()))["bad_lines"]) == 31
    assert load_with_report(folder.parent / "kg", reading=SKIP)[0].fingerprint == data.fingerprint


def test_convert_writes_every_bad_line_and_reads_its_own_data(folder, tmp_path):
    (folder / "valid_negatives.txt").write_text(GOOD[3] + "\nx\n")
    report, files = convert(folder, tmp_path / "new", SKIP)
    assert files[-1] == tmp_path / "new" / "bad_lines.tsv"
    lines = files[-1].read_text().splitlines()
    assert (len(lines), lines[0]) == (33, HEADER)
    assert lines[1].startswith(f"{folder / 'train.txt'}\tline\t2\t2 columns where 3 are expected")
    assert lines[-1].startswith(f"{folder / 'valid_negatives.txt'}\tline\t2\t1 column")
    assert report.notes[-1] == f"{folder}: bad lines of negatives left out: 1"
    assert load_with_report(tmp_path / "new")[1].bad_lines == ()
    convert(folder, tmp_path / "new", SKIP, overwrite=True)  # a folder with the table is its own
    (folder / "train.txt").write_text("\n".join(GOOD) + "\n")
    (folder / "valid.txt").write_text(GOOD[1] + "\n")
    (folder / "valid_negatives.txt").unlink()
    convert(folder, tmp_path / "new", SKIP, overwrite=True)
    assert not (tmp_path / "new" / "bad_lines.tsv").exists()


@pytest.mark.parametrize("inductive", [None, 0.4])
def test_split_writes_every_bad_line(inductive, tmp_path):
    good = [f"a{i % 20}\tr{i % 2}\ta{i * 7 % 20}" for i in range(300)]
    (tmp_path / "g.tsv").write_text(with_bad(good, 10))
    (tmp_path / "h.jsonl").write_text('["a0", "r0", "a1"]\n["x"]\n')
    files = [tmp_path / "g.tsv", tmp_path / "h.jsonl"]
    made = kgtool.split(files, tmp_path / "new", reading=SKIP, inductive=inductive)
    lines = (tmp_path / "new" / "bad_lines.tsv").read_text().splitlines()
    assert (len(lines), lines[0]) == (32, HEADER)
    assert lines[-1].split("\t")[:3] == [str(tmp_path / "h.jsonl"), "line", "2"]
    assert f"{tmp_path / 'new' / 'bad_lines.tsv'} lists all 31 bad lines" in made.notes
    assert len(read_triples(files, SKIP).bad_lines) == 31
    assert load_with_report(tmp_path / "new")[1].bad_lines == ()


def test_one_file_counts_a_bad_line_once(tmp_path):
    (tmp_path / "g.tsv").write_text(with_bad(GOOD))
    report = load_with_report(tmp_path / "g.tsv", reading=SKIP)[1]
    assert len(report.bad_lines) == 30
    assert sum("30 bad lines left out" in note for note in report.notes) == 1
