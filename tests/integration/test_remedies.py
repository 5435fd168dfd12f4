"""The remedies that loaders print, followed: each leads to the right triples."""

from __future__ import annotations

import gzip
import re
import shlex
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path

import pytest

from kgtool import cli
from kgtool.data.dataset import SPLITS
from kgtool.data.loaders import load_dataset

ROWS = [
    (f"g{i % 7}", ("treats", "causes", "binds")[(i // 7 + i) % 3], f"d{i % 11}") for i in range(77)
]
EXPECTED = set(ROWS)


def text(rows: Sequence[tuple[str, ...]], separator: str = ",", header: str = "") -> bytes:
    lines = [header] * bool(header) + [separator.join(row) for row in rows]
    return ("\n".join(lines) + "\n").encode()


def gephi(rows: list[tuple[str, str, str]]) -> list[tuple[str, ...]]:
    return [(h, t, r, "0.5") for h, r, t in rows]


def htr(rows: list[tuple[str, str, str]]) -> list[tuple[str, ...]]:
    return [(h, t, r) for h, r, t in rows]


# many tails and few relations: read as head, relation, tail, it has too many relations
WIDE = [(f"g{i % 7}", ("treats", "causes")[i % 2], f"d{i % 38}") for i in range(77)]
LABELLED = [(*row, "1") for row in ROWS] + [("g0", "treats", "zzz", "-1")]


def run(arguments: list[str], monkeypatch, capsys) -> tuple[int, str]:
    """The exit code and the output of a command, with lines joined."""
    monkeypatch.setattr(sys, "argv", ["kgtool", *arguments])
    with pytest.raises(SystemExit) as caught:
        cli.main()
    out = capsys.readouterr()
    return int(caught.value.code or 0), " ".join((out.out + out.err).split())


def followed(arguments: list[str], message: str) -> list[str]:
    """The command with the first remedy of a message applied to it."""
    remedy = message.partition("Remedy: ")[2] or message
    option = re.search(r"(?:[Pp]ass |data split )(--\S+(?: (?!\()\S+)?)", remedy)
    place = re.search(
        r"give (?:its folder|the file itself|the folder of the split files): (\S+)\.$", remedy
    )
    nearest = re.search(r"give (\S+), the nearest name there", remedy)
    if place or nearest:
        found = place or nearest
        assert found is not None
        return [arguments[0], arguments[1], found[1], *arguments[3:]]
    assert option is not None, message
    given = option[1].rstrip(".,;")
    flags = shlex.split(given)
    if flags[0] in ("--header", "--no-header", "--skip-bad-lines", "--allow-unseen"):
        flags = flags[:1]
    return [*arguments, *flags]


CASES = {
    # name: (file, bytes, most steps, expected triples)
    "gephi": ("g.csv", text(gephi(ROWS), header="Source,Target,Type,Weight"), 1, EXPECTED),
    "mixed roles": ("g.csv", text(gephi(ROWS), header="from,object,predicate,w"), 1, EXPECTED),
    "a comma in a name": (
        "g.csv",
        text(gephi(ROWS), ";", 'source;target;"type";"w, kg"'),
        1,
        EXPECTED,
    ),
    "roles of a header": ("g.csv", text(htr(ROWS), header="source,tail,relation"), 1, EXPECTED),
    "head, tail, relation": ("g.tsv", text(htr(WIDE), "\t"), 1, set(WIDE)),
    "negatives": ("g.tsv", text([(*r[:3], r[3]) for r in LABELLED], "\t"), 2, EXPECTED),
    "negatives by name": (
        "g.csv",
        text(LABELLED, header="head,relation,tail,label"),
        1,
        EXPECTED,
    ),
    "delimiter": ("g.tsv", text(ROWS, ";") + b"g0;treats\n", 2, EXPECTED),
    "no quoting": ("g.csv", text(ROWS) + b'g"0,treats,d0\n"g0,treats,d0\n', 1, None),
    "a bad IRI": (
        "g.nt",
        "".join(f"<x:{h}> <x:{r}> <x:{t}> .\n" for h, r, t in ROWS).encode()
        + b"<x:a b> <x:r> <x:c> .\n",
        1,
        {(f"x:{h}", f"x:{r}", f"x:{t}") for h, r, t in ROWS},
    ),
    "a format": ("g.data", text(ROWS, "\t"), 1, EXPECTED),
    "a parquet file": ("g.txt", b"", 1, EXPECTED),
    "five columns in --columns": (
        "g.csv",
        text(gephi(ROWS), header="Source,Target,Type,Weight"),
        1,
        EXPECTED,
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_the_remedy_of_an_error_works(name, tmp_path, monkeypatch, capsys):
    file, data, steps, expected = CASES[name]
    place = tmp_path / file
    place.write_bytes(data)
    arguments = ["data", "split", str(place), "--out", str(tmp_path / "kg")]
    if name == "a parquet file":
        import pandas as pd

        pd.DataFrame(ROWS, columns=["head", "relation", "tail"]).to_parquet(place, index=False)
    if name == "five columns in --columns":
        arguments += ["--columns", "Source,Type,Target,Weight,Weight"]
    taken = 0
    code, said = run(arguments, monkeypatch, capsys)
    assert code == 2
    while code and taken < steps:
        if name == "five columns in --columns":
            arguments = arguments[:-2]
        if "the numbers of head, relation and tail" in said:  # the choice is the reader's
            assert ": 1 is 'g0', 2 is 'treats', 3 is 'd0', 4 is '1'." in said
            arguments = [*arguments, "--columns", "1,2,3"]
        else:
            arguments = followed(arguments, said)
        if arguments[-2:-1] == ["--format"] and name == "a format":
            arguments[-1] = "tsv"
        taken += 1
        code, said = run(arguments, monkeypatch, capsys)
    assert (code, taken) == (0, steps), said
    found = load_dataset(tmp_path / "kg")
    names = found.vocabulary
    triples = {
        (names.entities[h], names.relations[r], names.entities[t])
        for split in SPLITS
        for h, r, t in found.split(split).tolist()
    }
    assert expected is None or triples == expected
    assert expected is not None or ('g"0', "treats", "d0") in triples


def test_the_remedy_names_a_place_that_loads(tmp_path, monkeypatch, capsys):
    folder = tmp_path / "outer" / "kg"
    folder.mkdir(parents=True)
    for split in SPLITS:
        (folder / f"{split}.txt").write_bytes(text(ROWS, "\t"))
    one = tmp_path / "one"
    one.mkdir()
    (one / "g.csv").write_bytes(text(ROWS))
    for wrong in (folder / "train.txt", tmp_path / "outer", one, tmp_path / "outerr"):
        code, said = run(["data", "inspect", str(wrong)], monkeypatch, capsys)
        assert code == 2
        arguments = followed(["data", "inspect", str(wrong)], said)
        if wrong.name == "outerr":  # the nearest name is a folder around the data set
            arguments = followed(arguments, run(arguments, monkeypatch, capsys)[1])
        code, said = run(arguments, monkeypatch, capsys)
        assert code == 0, said


def test_the_remedy_of_a_note_works(tmp_path, monkeypatch, capsys):
    rows = [*ROWS, ("g0 ", "treats", "d5"), ("G0", "binds", "d6")]
    place = tmp_path / "g.tsv"
    place.write_bytes(text(rows, "\t", "Kopf\tArt\tZiel"))
    command = ["data", "split", str(place), "--out", str(tmp_path / "kg")]
    code, said = run(command, monkeypatch, capsys)
    assert code == 0
    assert "'Kopf', 'Art', 'Ziel' occur nowhere else" in said
    assert "'g0' (11) and 'g0 ' (1). If they are the same, pass --merge-labels blanks" in said
    command = followed(followed(command, said), said.partition("differs only in case")[2])
    assert command[-3:] == ["--header", "--merge-labels", "case"]
    code, said = run([*command, "--overwrite"], monkeypatch, capsys)
    assert code == 0, said
    assert "2 entities merged with near-equal ones" in said
    entities = load_dataset(tmp_path / "kg").vocabulary.entities
    assert "g0" in entities
    assert not {"g0 ", "G0", "Kopf"} & set(entities)


def test_quotes_of_a_tsv_are_named(tmp_path, monkeypatch, capsys):
    place = tmp_path / "g.tsv"
    place.write_bytes(text([tuple(f'"{cell}"' for cell in row) for row in ROWS], "\t"))
    command = ["data", "split", str(place), "--out", str(tmp_path / "kg")]
    code, said = run(command, monkeypatch, capsys)
    assert code == 0
    option = re.search(r"all labels are in quotes: .* pass (--format csv --delimiter \S+) ", said)
    assert option is not None
    command += [*shlex.split(option[1]), "--overwrite"]
    code, said = run(command, monkeypatch, capsys)
    assert (code, "in quotes" in said) == (0, False)
    assert "g0" in load_dataset(tmp_path / "kg").vocabulary.entities


def test_columns_that_a_split_leaves_out_can_be_kept(tmp_path, monkeypatch, capsys):
    place = tmp_path / "g.csv"
    rows = [(*row, str(2000 + i % 9), f'"n, {i}"') for i, row in enumerate(ROWS)]
    place.write_bytes(text(rows, header="head,relation,tail,year,a note"))
    command = ["data", "split", str(place), "--out", str(tmp_path / "kg"), "--time", "year"]
    code, said = run(command, monkeypatch, capsys)
    assert code == 0
    assert "columns left out: a note, year; --keep-columns 'a note,year' keeps them" in said
    option = re.search(r"(--keep-columns '.*?') keeps", said)
    assert option is not None
    code, said = run([*command, *shlex.split(option[1]), "--overwrite"], monkeypatch, capsys)
    assert (code, "left out" in said) == (0, False), said
    first, second = (tmp_path / "kg" / "train.txt").read_text().splitlines()[:2]
    assert first == "head\trelation\ttail\ta note\tyear"
    assert second.split("\t")[3:] == ["n, 0", "2000"]
    assert len(load_dataset(tmp_path / "kg").test) > 0
    code, said = run(["data", "inspect", str(tmp_path / "kg")], monkeypatch, capsys)
    assert "train.txt: columns left out: a note, year" in said


def test_files_in_disguise_are_read(tmp_path, monkeypatch, capsys):
    with zipfile.ZipFile(tmp_path / "g.zip", "w") as archive:
        archive.writestr("data/g.csv", text(ROWS))
        archive.writestr("README.md", "about")
    (tmp_path / "h.txt").write_bytes(gzip.compress(text(ROWS, "\t")))
    (tmp_path / "i.tsv.gz").write_bytes(text(ROWS, "\t"))
    for name, note in (("g.zip", ""), ("h.txt", "is compressed"), ("i.tsv.gz", "not compressed")):
        code, said = run(["data", "inspect", str(tmp_path / name)], monkeypatch, capsys)
        assert (code, "18 " in said, note in said) == (0, True, True), said


def test_an_archive_of_several_files_is_refused_with_their_names(tmp_path, monkeypatch, capsys):
    with zipfile.ZipFile(tmp_path / "g.zip", "w") as archive:
        for name in ("a.csv", "b.csv"):
            archive.writestr(name, text(ROWS))
    out = str(tmp_path / "kg")
    code, said = run(["data", "split", str(tmp_path / "g.zip"), "--out", out], monkeypatch, capsys)
    assert code == 2
    assert "not an archive of one file of triples: it holds 'a.csv', 'b.csv'" in said
    assert not Path(out).exists()


def test_bad_lines_are_counted_and_listed(tmp_path, monkeypatch, capsys):
    bad = b"g0,treats\n" + b"".join(b"x,,%d\n" % i for i in range(11)) + b"\n" + text(ROWS[:1])
    place = tmp_path / "g.csv"
    place.write_bytes(text(ROWS) + bad)
    code, said = run(["data", "inspect", str(place), "--skip-bad-lines"], monkeypatch, capsys)
    assert code == 0
    assert "g.csv: 13 bad lines left out: line 78 (2 columns where 3 are expected" in said
    assert "; line 79 (an empty relation: 'x,,0'); " in said
    assert said.count("(an empty relation") == 9
    assert "All 13 bad lines:" in said
    assert said.endswith(f"{place}, line 90: a blank line")
    code, said = run(["data", "inspect", str(place)], monkeypatch, capsys)
    assert (code, "line 78" in said) == (2, True)


def test_a_sparse_graph_is_split_with_unseen_entities(tmp_path, monkeypatch, capsys):
    """A matching: each entity is in one triple, so train needs all of them."""
    place = tmp_path / "g.csv"
    place.write_bytes(text([(f"a{i}", "r", f"b{i}") for i in range(50)]))
    command = ["data", "split", str(place), "--out", str(tmp_path / "kg")]
    code, said = run(command, monkeypatch, capsys)
    assert code == 2
    assert "no triple is left for valid" in said
    command = followed(command, said)
    assert command[-1] == "--allow-unseen"
    code, said = run(command, monkeypatch, capsys)
    assert code == 0
    assert "10 of the triples of valid and test have an entity or relation that train lacks" in said
    assert [len(load_dataset(tmp_path / "kg").split(split)) for split in SPLITS] == [40, 5, 5]
