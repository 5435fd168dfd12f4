"""The files of negatives next to the splits of a data set."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from kgtool.data.loaders import load_dataset, load_negatives
from kgtool.errors import DataError
from tests.support.runs import ring, write_folder


def folder_with(tmp_path: Path, **files: str) -> Path:
    folder = write_folder(ring(), tmp_path / "ring")
    for name, text in files.items():
        (folder / f"{name}.txt").write_text(text)
    return folder


def test_negatives_have_the_ids_of_the_data(tmp_path):
    folder = folder_with(tmp_path, valid_negatives="e003\tr001\te002\ne000\tr000\te000\n")
    vocabulary = load_dataset(folder).vocabulary
    found = load_negatives(folder, vocabulary)
    assert {split: ids.tolist() for split, ids in found.items()} == {
        "valid": [[3, 1, 2], [0, 0, 0]]
    }
    assert len(load_dataset(folder).valid) == 8  # they are no triples of the split


def test_an_archive_has_them_too(tmp_path):
    folder = folder_with(
        tmp_path, valid_negatives="e003\tr001\te002\n", test_negatives="e000\tr000\te001\n"
    )
    place = tmp_path / "ring.zip"
    with zipfile.ZipFile(place, "w") as archive:
        for file in folder.iterdir():
            archive.write(file, f"ring/{file.name}")
    found = load_negatives(place, load_dataset(place).vocabulary)
    assert {split: ids.tolist() for split, ids in found.items()} == {
        "valid": [[3, 1, 2]],
        "test": [[0, 0, 1]],
    }


def test_a_data_set_without_has_none(tmp_path):
    folder = folder_with(tmp_path)
    assert load_negatives(folder, load_dataset(folder).vocabulary) == {}


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("e003\tr001\n", ["valid_negatives.txt", "line 1"]),
        ("e003\tr001\te002\ne003\tr009\te002\n", ["line 2", "the relation 'r009' is not in"]),
        ("", ["valid_negatives.txt"]),
    ],
)
def test_negatives_that_are_none(tmp_path, text, parts):
    folder = folder_with(tmp_path, valid_negatives=text)
    with pytest.raises(DataError) as caught:
        load_negatives(folder, ring().vocabulary)
    for part in parts:
        assert part in str(caught.value)


def test_two_files_of_one_split_are_refused(tmp_path):
    folder = folder_with(tmp_path, valid_negatives="e003\tr001\te002\n")
    (folder / "valid_negatives.tsv").write_text("e003\tr001\te002\n")
    with pytest.raises(DataError, match="more than one file for the valid_negatives split"):
        load_negatives(folder, ring().vocabulary)
