"""Data sets in the formats of OpenKE, LibKGE and DGL-KE."""

from __future__ import annotations

import gzip
import tarfile
import zipfile
from pathlib import Path

import pytest

from kgtool.data.dataset import SPLITS, KGDataset
from kgtool.data.loaders import Reading, load_dataset, load_with_report
from kgtool.errors import DataError

TRIPLES = {
    "train": [("Beijing", "is_capital_of", "China"), ("London", "is_capital_of", "UK")],
    "valid": [("UK", "located_at", "Europe")],
    "test": [("the sea", "located_at", "Europe")],
}
ENTITIES = ["Beijing", "London", "China", "UK", "Europe", "the sea"]
RELATIONS = ["is_capital_of", "located_at"]


def ids(order: str, separator: str = "\t", count: bool = False) -> dict[str, str]:
    """The triples of each split as lines of ids."""
    found = {}
    for split, triples in TRIPLES.items():
        lines = [
            separator.join(
                {
                    "h": str(ENTITIES.index(h)),
                    "r": str(RELATIONS.index(r)),
                    "t": str(ENTITIES.index(t)),
                }[letter]
                for letter in order
            )
            for h, r, t in triples
        ]
        found[split] = "\n".join([str(len(lines))] * count + lines) + "\n"
    return found


def mapping(labels: list[str], id_first: bool = False, count: bool = False) -> str:
    pairs = [(str(i), label) if id_first else (label, str(i)) for i, label in enumerate(labels)]
    return "\n".join([str(len(labels))] * count + ["\t".join(pair) for pair in pairs]) + "\n"


def openke(separator: str = " ") -> dict[str, str]:
    files = {f"{split}2id.txt": text for split, text in ids("htr", separator, True).items()}
    maps = {"entity2id.txt": mapping(ENTITIES, count=True)}
    return files | maps | {"relation2id.txt": mapping(RELATIONS, count=True), "1-1.txt": "0\n"}


def libkge() -> dict[str, str]:
    files = {f"{split}.del": text for split, text in ids("hrt").items()}
    maps = {"entity_ids.del": mapping(ENTITIES, id_first=True)}
    # the raw files lie beside in LibKGE's own folders
    raw = {"train.txt": "not\tthis\tone\n"}
    return files | maps | raw | {"relation_ids.del": mapping(RELATIONS, id_first=True)}


def dglke(id_first: bool = False, order: str = "hrt") -> dict[str, str]:
    files = {f"{split}.tsv": text for split, text in ids(order).items()}
    maps = {"entities.dict": mapping(ENTITIES, id_first)}
    return files | maps | {"relations.dict": mapping(RELATIONS, id_first)}


def kb2e() -> dict[str, str]:
    """Labels in the order head, tail, relation, as in FB15k's first files, with mapping files."""
    files = {
        f"{split}.txt": "".join(f"{h}\t{t}\t{r}\n" for h, r, t in triples)
        for split, triples in TRIPLES.items()
    }
    return files | {"entity2id.txt": mapping(ENTITIES), "relation2id.txt": mapping(RELATIONS)}


def labels_beside_mappings() -> dict[str, str]:
    files = {
        f"{split}.txt": "".join("\t".join(triple) + "\n" for triple in triples)
        for split, triples in TRIPLES.items()
    }
    return files | {
        "entities.dict": mapping(ENTITIES, True),
        "relations.dict": "of\tanother\tkind\n",
    }


def folder_of(place: Path, files: dict[str, str]) -> Path:
    place.mkdir(exist_ok=True)
    for name, text in files.items():
        (place / name).write_text(text, encoding="utf-8")
    return place


def labelled(data: KGDataset) -> dict[str, list[tuple[str, str, str]]]:
    names = data.vocabulary
    return {
        split: [
            (names.entities[h], names.relations[r], names.entities[t])
            for h, r, t in data.split(split).tolist()
        ]
        for split in SPLITS
    }


LAYOUTS = {
    "OpenKE": openke(),
    "OpenKE by tabs": openke("\t"),
    "OpenKE with CRLF": {name: text.replace("\n", "\r\n") for name, text in openke().items()},
    "LibKGE": libkge(),
    "DGL-KE": dglke(),
    "DGL-KE, id first": dglke(id_first=True),
    "DGL-KE, htr": dglke(order="htr"),
    "KB2E": kb2e(),
    "labels": labels_beside_mappings(),
}


@pytest.mark.parametrize("files", LAYOUTS.values(), ids=LAYOUTS)
@pytest.mark.parametrize("kind", ["folder", "zip", "tar"])
def test_the_layouts_of_others_are_read(tmp_path, files, kind):
    place = folder_of(tmp_path / "kg", files)
    if kind == "zip":
        with zipfile.ZipFile(tmp_path / "kg.zip", "w") as archive:
            for name in files:
                archive.write(place / name, f"data/{name}")
        place = tmp_path / "kg.zip"
    if kind == "tar":
        with tarfile.open(tmp_path / "kg.tar.xz", "w:xz") as archive:
            archive.add(place, "kg")
        place = tmp_path / "kg.tar.xz"
    assert labelled(load_dataset(place)) == TRIPLES


def test_an_order_that_was_told_by_looking_is_noted(tmp_path):
    place = folder_of(tmp_path, dglke(order="htr"))
    report = load_with_report(place)[1]
    labelled_by = f"triples of ids, with labels from {place / 'entities.dict'}"
    assert report.notes == (
        f"{place / 'train.tsv'}: columns are head, tail, relation",
        f"{place / 'train.tsv'}: {labelled_by}",
    )
    place = folder_of(tmp_path / "2", labels_beside_mappings())
    assert load_with_report(place)[1].notes == ()


def test_an_order_that_cannot_be_told_is_asked_for(tmp_path):
    names = ["x", "y", "z"]
    files = {f"{split}.tsv": "0\t1\t2\n2\t0\t1\n" for split in SPLITS}
    files |= {"entities.dict": mapping(names), "relations.dict": mapping(["r", "s", "t"])}
    place = folder_of(tmp_path, files)
    with pytest.raises(DataError) as caught:
        load_dataset(place)
    assert str(caught.value).startswith(
        f"{place / 'train.tsv'}: the columns may be head, relation, tail"
    )
    assert "--columns" in str(caught.value)
    said = load_dataset(place, reading=Reading(columns=("1", "3", "2")))
    assert labelled(said)["train"] == [("x", "t", "y"), ("z", "s", "x")]


@pytest.mark.parametrize("files", [openke(), libkge(), dglke()])
def test_entities_in_no_triple_are_left_out_with_a_note(tmp_path, files):
    name = next(name for name in files if name.startswith("entit"))
    more = {"entity2id.txt": "7\n" + mapping([*ENTITIES, "Mars"])}
    more |= {"entity_ids.del": mapping([*ENTITIES, "Mars"], id_first=True)}
    more |= {"entities.dict": mapping([*ENTITIES, "Mars"])}
    place = folder_of(tmp_path, files | {name: more[name]})
    data, report = load_with_report(place)
    assert labelled(data) == TRIPLES
    assert report.notes[1:] == (f"{place / name}: 1 entity occurs in no triple; left out",)
    assert (
        "triples of ids, with labels" in report.notes[0]
        or "read as a data set of" in report.notes[0]
    )


def test_half_a_layout_beside_usual_files_does_not_matter(tmp_path):
    files = labels_beside_mappings() | {"train.del": "0\t0\t1\n", "train2id.txt": "x"}
    assert labelled(load_dataset(folder_of(tmp_path, files))) == TRIPLES


FAULTS = {
    "count of triples": (
        openke() | {"train2id.txt": "3\n0 2 0\n1 3 0\n"},
        "train2id.txt, line 1: the count is 3, but 2 triples follow",
    ),
    "no count": (
        openke() | {"train2id.txt": "0 2 0\n1 3 0\n"},
        "train2id.txt, line 1: '0 2 0' is not a count",
    ),
    "count of entities": (
        openke() | {"entity2id.txt": mapping(ENTITIES[:5], count=True).replace("5\n", "6\n", 1)},
        "entity2id.txt, line 1: the count is 6, but 5 labels follow",
    ),
    "id out of range": (
        openke() | {"valid2id.txt": "1\n3 17 1\n"},
        "valid2id.txt, line 2: the entity '17' is not among the",
    ),
    "relation out of range": (
        openke() | {"test2id.txt": "2\n3 1 1\n3 1 2\n"},
        "test2id.txt, line 3: the relation '2' is not among the",
    ),
    "negative id": (
        libkge() | {"test.del": "0\t0\t1\n0\t-1\t1\n"},
        "test.del, line 2: the relation '-1' is not among the",
    ),
    "two columns": (
        openke() | {"train2id.txt": "2\n0 2 0\n1 3\n"},
        "train2id.txt, line 3: 2 columns where",
    ),
    "blank line": (
        libkge() | {"train.del": "0\t0\t1\n\n0\t0\t1\n"},
        "train.del, line 2: a blank line",
    ),
    "missing file": (
        {name: text for name, text in openke().items() if name != "valid2id.txt"},
        ": this looks like a data set of OpenKE, but valid2id.txt is missing",
    ),
    "empty mapping": (libkge() | {"entity_ids.del": ""}, "entity_ids.del: no labels"),
    "three cells": (
        libkge() | {"entity_ids.del": "0\ta\tb\n"},
        "entity_ids.del, line 1: '0\\ta\\tb' is not a label and its id",
    ),
    "no id": (
        libkge() | {"relation_ids.del": "0\tr\nx\ts\n"},
        "relation_ids.del, line 2: the id 'x' is not a whole number",
    ),
    "id twice": (
        libkge() | {"relation_ids.del": "0\tr\n0\ts\n"},
        "relation_ids.del, line 2: the id '0' occurs twice",
    ),
    "label twice": (
        openke() | {"relation2id.txt": "2\nr\t0\nr\t1\n"},
        "relation2id.txt, line 3: the label 'r' occurs twice",
    ),
    "blank label": (
        libkge() | {"relation_ids.del": "0\tr\n1\t \n"},
        "relation_ids.del, line 2: a blank label",
    ),
    "DGL-KE's id out of range": (
        dglke() | {"test.tsv": "0\t0\t1\n0\t0\t99\n"},
        "test.tsv, line 2: the entity '99' is not among the",
    ),
    "both numbers": (
        dglke() | {"relations.dict": "1\t0\n0\t1\n"},
        "relations.dict: both columns are numeric",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("files", "problem"), FAULTS.values(), ids=FAULTS)
def test_an_error_names_the_file_and_the_line(tmp_path, files, problem):
    place = folder_of(tmp_path / "kg", files)
    with pytest.raises(DataError) as caught:
        load_dataset(place)
    message = str(caught.value)
    assert message.startswith(f"{place}{'' if problem.startswith(':') else '/'}{problem}")
    assert "Remedy: " in message


def mapped(*names: str, header: str = "", separator: str = "\t") -> dict[str, str]:
    """Mappings `id, label` under the given names, the entities' first."""
    tables = (ENTITIES, RELATIONS)
    return {
        name: header + "".join(f"{i}{separator}{label}\n" for i, label in enumerate(labels))
        for name, labels in zip(names, tables, strict=True)
    }


@pytest.mark.parametrize(
    "maps",
    [
        mapped("entities.tsv", "relations.tsv"),  # DGL-KE, raw_udd
        mapped("entity_to_id.tsv", "relation_to_id.tsv", header="id\tlabel\n"),  # PyKEEN
        mapped("entity2id.csv", "relation2id.csv", header="id,label\n", separator=","),
        mapped("entity_ids.del", "relation_ids.del"),
        {"entity2id.txt": mapping(ENTITIES), "relation2id.txt": mapping(RELATIONS)},
    ],
    ids=lambda maps: next(iter(maps)),
)
def test_labels_next_to_ids_are_used(tmp_path, maps):
    files = {f"{split}.txt": text for split, text in ids("hrt").items()} | maps
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    assert labelled(load_dataset(tmp_path)) == TRIPLES
    (tmp_path / "new").mkdir()
    for name, text in (maps | {"g.tsv": "".join(ids("hrt").values())}).items():
        (tmp_path / "new" / name).write_text(text)
    data, report = load_with_report(tmp_path / "new" / "g.tsv")
    assert set(data.vocabulary.entities) == set(ENTITIES)
    assert any("triples of ids, with labels from" in note for note in report.notes)


def pykeen(folder: Path) -> Path:
    """The files of `Dataset.to_directory_binary`."""
    parts = zip(SPLITS, ("training", "validation", "testing"), strict=True)
    for split, name in parts:
        (folder / name).mkdir(parents=True)
        triples = "head\trelation\ttail\n" + ids("hrt")[split]
        files = {"numeric_triples.tsv.gz": triples}
        files |= mapped("entity_to_id.tsv.gz", "relation_to_id.tsv.gz", header="id\tlabel\n")
        for file, text in files.items():
            (folder / name / file).write_bytes(gzip.compress(text.encode()))
    return folder


def test_a_folder_or_archive_of_pykeen(tmp_path):
    folder = pykeen(tmp_path / "kg")
    data, report = load_with_report(folder)
    assert labelled(data) == TRIPLES
    assert f"{folder}: read as a data set of PyKEEN" in report.notes
    with tarfile.open(tmp_path / "kg.tar", "w") as archive:
        archive.add(folder, "kg")
    assert labelled(load_dataset(tmp_path / "kg.tar")) == TRIPLES
    (folder / "testing" / "entity_to_id.tsv.gz").unlink()
    with pytest.raises(DataError, match=r"PyKEEN, but testing lacks a file of labels by id"):
        load_dataset(folder)
