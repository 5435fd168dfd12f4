"""Split files of any format, mixed, in parts and in archives; and writing them."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pytest
import torch

import kgtool
from kgtool.data.dataset import SPLITS, KGDataset, Vocabulary
from kgtool.data.loaders import Reading, load_dataset, load_negatives, load_with_report
from kgtool.data.loaders.write import write_dataset
from kgtool.errors import ConfigError, DataError

TRIPLES = {
    "train": [("a", "r", "b"), ("b", "s", "c"), ("c", "r", "a")],
    "valid": [("a", "s", "c")],
    "test": [("c", "s", "b")],
}


def tsv(rows) -> bytes:
    return "".join("\t".join(row) + "\n" for row in rows).encode()


def csv(rows) -> bytes:
    return b"tail,relation,head\n" + "".join(f"{t},{r},{h}\n" for h, r, t in rows).encode()


def parquet(rows) -> bytes:
    file = io.BytesIO()
    pd.DataFrame(rows, columns=["source", "relation", "target"]).to_parquet(file)
    return file.getvalue()


def jsonl(rows) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def nt(rows) -> bytes:
    return "".join(f"_:{h} <{r}:> _:{t} .\n" for h, r, t in rows).encode()


def zst(data: bytes) -> bytes:
    packed: bytes = pa.compress(data, codec="zstd", asbytes=True)
    return packed


def written(place: Path, files: dict[str, bytes]) -> Path:
    for name, data in files.items():
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_bytes(data)
    return place


def labelled(data: KGDataset) -> dict[str, list[tuple[str, ...]]]:
    names = data.vocabulary
    return {
        split: [
            (names.entities[h], names.relations[r], names.entities[t])
            for h, r, t in data.split(split).tolist()
        ]
        for split in SPLITS
    }


MIXED = {
    "train.csv.gz": gzip.compress(csv(TRIPLES["train"])),
    "valid.parquet": parquet(TRIPLES["valid"]),
    "test.jsonl.bz2": bz2.compress(jsonl(TRIPLES["test"])),
}
PARTS = {
    "train/part-2.parquet": parquet(TRIPLES["train"][2:]),
    "train/part-1.csv": csv(TRIPLES["train"][:2]),
    "train/_SUCCESS": b"",
    "train/.part-1.csv.crc": b"\0",
    "valid.tsv.xz": lzma.compress(tsv(TRIPLES["valid"])),
    "test/a.tsv.zst": zst(tsv(TRIPLES["test"])),
    "test/b.tsv": tsv(TRIPLES["test"]),
}


def archive(place: Path, files: dict[str, bytes]) -> Path:
    if place.suffix == ".zip":
        with zipfile.ZipFile(place, "w") as packed:
            for name, data in files.items():
                packed.writestr(f"kg/{name}", data)
        return place
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as packed_tar:
        for name, data in files.items():
            member = tarfile.TarInfo(f"kg/{name}")
            member.size = len(data)
            packed_tar.addfile(member, io.BytesIO(data))
    pack: dict[str, Callable[[bytes], bytes]] = {
        "gz": gzip.compress,
        "bz2": bz2.compress,
        "xz": lzma.compress,
        "zst": zst,
        "tar": bytes,
    }
    place.write_bytes(pack[place.name.rsplit(".", 1)[1]](stream.getvalue()))
    return place


@pytest.mark.parametrize("files", [MIXED, PARTS], ids=["mixed", "parts"])
@pytest.mark.parametrize(
    "name", ["kg", "kg.zip", "kg.tar", "kg.tar.gz", "kg.tar.bz2", "kg.tar.xz", "kg.tar.zst"]
)
def test_any_format_in_any_place(tmp_path, files, name):
    place = tmp_path / name
    data = load_dataset(written(place, files) if name == "kg" else archive(place, files))
    assert labelled(data) == TRIPLES
    assert data.name == "kg"


@pytest.mark.parametrize("ending", ["bz2", "xz", "zst", "tar"])
def test_an_archive_cut_in_half_is_refused(tmp_path, ending):
    name = "kg.tar" if ending == "tar" else f"kg.tar.{ending}"
    place = archive(tmp_path / name, MIXED)
    # half of a small .tar is padding: it is cut within its first file
    place.write_bytes(place.read_bytes()[: 520 if ending == "tar" else place.stat().st_size // 2])
    with pytest.raises(DataError, match="damaged, cut short or not a") as caught:
        load_dataset(place)
    assert str(caught.value).startswith(f"{place}: ")


def test_numbers_in_the_report_are_those_of_the_file(tmp_path):
    twice = csv([*TRIPLES["train"], TRIPLES["train"][0]])
    place = written(
        tmp_path,
        {
            "train.csv": twice,
            "valid.parquet": parquet(TRIPLES["valid"] * 3),
            "test.nt": b'_:c <s:> "5" .\n' + nt(TRIPLES["test"] * 2),
        },
    )
    report = load_with_report(place)[1]
    assert report.notes == (
        f"header in line 1 of {place / 'train.csv'}: head, relation, tail",
        f"columns of {place / 'valid.parquet'}: source, relation, target",
        f"{place / 'test.nt'}: 1 triple with a literal as object left out: statement 1",
    )
    assert report.warnings[0] == "train.csv: 1 duplicate line dropped: line 5"
    assert report.warnings[1] == "valid.parquet: 2 duplicate rows dropped: rows 2, 3"
    assert "test.nt: 1 duplicate statement dropped: statement 3" in report.warnings
    assert report.to_dict()["notes"] == list(report.notes)


def test_rows_of_several_files_are_counted_over_all(tmp_path):
    report = load_with_report(written(tmp_path, PARTS))[1]
    assert (report.test.file, report.test.unit) == ("test/", "row")
    assert report.test.duplicates.first == (2,)


@pytest.mark.parametrize(
    ("extra", "problem"),
    [
        (
            {"train.csv": b"a,r,b\n"},
            "more than one file for the train split: 'train.csv', 'train.tsv'",
        ),
        ({"train.tsv.gz": b""}, "more than one file for the train split"),
        ({"train/x.csv": b"a,r,b\n"}, "more than one file for the train split"),
        ({"test.tsv": None}, "no test.txt (or"),
        ({"test.tsv": None, "test/notes.md": b"x"}, "no test.txt (or"),
    ],
)
def test_files_that_do_not_make_three_splits(tmp_path, extra, problem):
    files = {f"{split}.tsv": tsv(rows) for split, rows in TRIPLES.items()} | extra
    place = written(tmp_path, {name: data for name, data in files.items() if data is not None})
    with pytest.raises(DataError) as caught:
        load_dataset(place)
    assert str(caught.value).startswith(f"{place}: {problem}")
    assert "Remedy: " in str(caught.value)


def test_the_one_file_of_a_folder_is_named(tmp_path):
    place = written(tmp_path, {"graph.csv": b"a,r,b\n"})
    with pytest.raises(DataError, match=r"Remedy: give the file itself: .*graph\.csv"):
        load_dataset(place)


def test_columns_that_need_telling(tmp_path):
    files = {f"{split}.tsv": tsv([("1", *row) for row in rows]) for split, rows in TRIPLES.items()}
    place = written(tmp_path, files)
    with pytest.raises(
        DataError,
        match=r"line 1: 4 columns .*--columns .*kgtool data inspect, convert",
    ):
        load_dataset(place)
    assert labelled(load_dataset(place, reading=Reading(columns=("2", "3", "4")))) == TRIPLES
    # A fourth column is the weight, here 1 for each triple.
    assert labelled(load_dataset(place, reading=Reading(columns=("2", "3", "4", "1")))) == TRIPLES
    with pytest.raises(ConfigError, match="more than head, relation, tail and weight"):
        load_dataset(place, reading=Reading(columns=("2", "3", "4", "1", "1")))


def test_a_format_that_is_told_goes_before_the_names(tmp_path):
    place = written(tmp_path, {f"{split}.dat": tsv(rows) for split, rows in TRIPLES.items()})
    assert labelled(load_dataset(place, reading=Reading(format="tsv"))) == TRIPLES


def test_convert_writes_what_reads_back_the_same(tmp_path):
    files = MIXED | {"valid_negatives.csv": csv([("b", "r", "a")])}
    place = written(tmp_path / "kg", files)
    report, written_files = kgtool.convert(place, tmp_path / "out")
    assert [file.name for file in written_files] == [
        "train.txt", "valid.txt", "test.txt", "valid_negatives.txt",
    ]  # fmt: skip
    one, two = load_dataset(place), load_dataset(tmp_path / "out")
    assert one.fingerprint == two.fingerprint
    assert report.triples == 5
    negatives = load_negatives(tmp_path / "out", two.vocabulary)
    assert negatives["valid"].tolist() == [[1, 0, 0]]


def test_convert_replaces_only_what_it_may(tmp_path):
    place, out = written(tmp_path / "kg", MIXED), tmp_path / "out"
    kgtool.convert(place, out)
    before = {file.name: file.read_bytes() for file in out.iterdir()}
    other = written(tmp_path / "2", {f"{split}.tsv": tsv([("x", "r", "y")]) for split in SPLITS})
    with pytest.raises(ConfigError, match=r"out exists already\. Remedy: .*--overwrite"):
        kgtool.convert(other, out)
    assert {file.name: file.read_bytes() for file in out.iterdir()} == before
    kgtool.convert(other, out, overwrite=True)
    assert load_dataset(out).vocabulary.entities == ("x", "y")
    (out / "notes.md").touch()
    with pytest.raises(ConfigError, match=r"out holds notes\.md, which is not replaced"):
        kgtool.convert(place, out, overwrite=True)
    assert load_dataset(out).vocabulary.entities == ("x", "y")


@pytest.mark.parametrize("overwrite", [False, True])
def test_convert_in_place_keeps_the_source(tmp_path, overwrite):
    place = written(tmp_path / "kg", {f"{split}.txt": tsv(TRIPLES[split]) for split in SPLITS})
    before = {file.name: file.read_bytes() for file in place.iterdir()}
    with pytest.raises(ConfigError, match=r"kg (exists already|holds the input)"):
        kgtool.convert(place, place, overwrite=overwrite)
    (tmp_path / "link").symlink_to(place)
    with pytest.raises(ConfigError, match=r"link (exists already|holds the input)"):
        kgtool.convert(place, tmp_path / "link", overwrite=overwrite)
    assert {file.name: file.read_bytes() for file in place.iterdir()} == before


def test_a_first_label_with_a_byte_order_mark_comes_back(tmp_path):
    names = Vocabulary(("b", "\ufeffa"), ("r",))
    triples = torch.tensor([[1, 0, 0]])
    data = KGDataset("x", None, names, triples, triples, triples)
    write_dataset(data, tmp_path)
    assert load_dataset(tmp_path).vocabulary == names


def test_a_first_triple_that_reads_as_a_header_is_not_written(tmp_path):
    names = Vocabulary(("head", "tail"), ("relation",))
    triples = torch.tensor([[0, 0, 1]])
    data = KGDataset("x", None, names, triples, triples, triples)
    with pytest.raises(DataError, match="looks like a header"):
        write_dataset(data, tmp_path / "out")
    assert not (tmp_path / "out").exists()
