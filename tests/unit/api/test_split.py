"""Splitting triples in memory gives what splitting the same triples in a file gives."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import kgtool
from kgtool.data.dataset import SPLITS
from kgtool.errors import ConfigError, DataError
from tests.support.runs import ring

FRAME = ring().to_frame().drop(columns="split").sample(frac=1, random_state=0, ignore_index=True)
DATED = FRAME.assign(year=np.arange(len(FRAME)) // 3 + 1990)
# Triples that come again, and earlier, at the end.
REPEATED = pd.concat([DATED, DATED.tail(25).assign(year=1980)], ignore_index=True)
ROWS = list(FRAME.itertuples(index=False, name=None))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "memory.tsv"
    REPEATED.to_csv(path, sep="\t", index=False)
    return path


OPTIONS: list[dict[str, Any]] = [
    {},
    {"valid": 0.2, "test": 0.05, "seed": 3},
    {"time": "year"},
    {"inductive": 0.4},
    {"remove_leaks": 0.9},
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_a_frame_is_split_as_its_file_is(file, options, tmp_path) -> None:
    reading = kgtool.Reading(columns=("head", "relation", "tail"))
    division = kgtool.split(file, tmp_path / "kg", reading=reading, **options)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        memory = kgtool.split(REPEATED, **options)
        loaded = kgtool.split(file, reading=reading, **options)
    for made in (memory, loaded):
        datasets = made if isinstance(made, tuple) else (made,)
        expected = [kgtool.load_dataset(folder).fingerprint for folder in division.folders]
        assert [data.fingerprint for data in datasets] == expected
        assert [data.path for data in datasets] == [None] * len(expected)
        assert [data.name for data in datasets] == ["memory", "memory_ind"][: len(expected)]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_a_frame_is_written_as_its_file_is(file, options, tmp_path) -> None:
    reading = kgtool.Reading(columns=("head", "relation", "tail"))
    ours = kgtool.split(REPEATED, tmp_path / "ours", **options)
    theirs = kgtool.split(file, tmp_path / "theirs", reading=reading, **options)
    assert len(ours.folders) == len(theirs.folders)
    for one, other in zip(ours.folders, theirs.folders, strict=True):
        for split in SPLITS:
            assert (one / f"{split}.txt").read_bytes() == (other / f"{split}.txt").read_bytes()
    columns = ["split", "triples", "entities", "relations"]
    pd.testing.assert_frame_equal(ours.table[columns], theirs.table[columns])
    assert (ours.read, ours.duplicates) == (theirs.read, theirs.duplicates) == (97, 25)
    assert ours.left_out == theirs.left_out
    with pytest.raises(ConfigError, match="exists already"):
        kgtool.split(DATED, tmp_path / "ours", **options)


@pytest.mark.parametrize(
    "given",
    [
        ROWS,
        FRAME.to_dict("records"),
        FRAME.to_dict("list"),
        FRAME.to_numpy(),
        kgtool.dataset_of(FRAME),
        FRAME.set_axis(["Object", "Subject", "Predicate"], axis=1)[
            ["Object", "Subject", "Predicate"]
        ].pipe(lambda frame: frame.set_axis(["Subject", "Predicate", "Object"], axis=1)),
    ],
    ids=["rows", "dictionaries", "columns", "array", "data set", "other names"],
)
def test_triples_come_in_several_forms(given) -> None:
    assert kgtool.split(given).fingerprint == kgtool.split(FRAME).fingerprint


def test_columns_are_chosen_as_of_a_file() -> None:
    odd = DATED.set_axis(["from", "how", "to", "when"], axis=1)[["when", "to", "from", "how"]]
    reading = kgtool.Reading(columns=("from", "how", "to"))
    assert kgtool.split(odd, reading=reading).fingerprint == kgtool.split(FRAME).fingerprint
    with pytest.raises(DataError, match="do not show head, relation and tail"):
        kgtool.split(odd)
    rows = list(odd.itertuples(index=False, name=None))
    numbers = kgtool.Reading(columns=("3", "4", "2"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        timed = kgtool.split(rows, reading=numbers, time="1")
        assert timed.fingerprint == kgtool.split(DATED, time="year").fingerprint


@pytest.mark.parametrize(
    "times",
    [
        pd.Series(DATED["year"]).astype(str),
        pd.to_datetime(DATED["year"].astype(str)),
        pd.to_datetime(DATED["year"].astype(str)).dt.date,
        DATED["year"].astype(float),
    ],
    ids=["texts", "timestamps", "dates", "floats"],
)
def test_times_have_several_types(times) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = kgtool.split(DATED, time="year").fingerprint
        assert kgtool.split(FRAME.assign(when=times), time="when").fingerprint == expected


def test_what_is_left_out_and_what_falls_short_is_a_warning() -> None:
    tree = [(f"n{i // 2}", "child", f"n{i}") for i in range(1, 40)]
    looped = [*tree, *[("n3", "child", f"n{i}") for i in range(20, 24)]]
    with pytest.warns(UserWarning, match="not the requested") as caught:
        kgtool.split(looped, valid=0.3, test=0.3)
    assert [str(each.message).split(", not the requested")[0] for each in caught] == [
        "valid of memory has 8 triples",
        "test of memory has 8 triples",
    ]
    assert {each.filename for each in caught} == {__file__}
    new = pd.DataFrame([("x", "r000", "y", 3000)], columns=list(DATED))
    with pytest.warns(UserWarning, match="triples in no split, entity or relation unseen in train"):
        kgtool.split(pd.concat([DATED, new]), time="year")


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"valid": 0.6, "test": 0.5}, ConfigError, "valid and test = 1.1 is out of range"),
        ({"time": "year", "inductive": 0.5}, ConfigError, "exclude each other"),
        ({"time": "yaer"}, DataError, "memory: no column named 'yaer'"),
        ({"time": "year", "triples": DATED.assign(year=None)}, DataError, "row 1: the time is mi"),
        ({"time": "year", "triples": DATED.assign(year="soon")}, DataError, "'soon'"),
        ({"triples": []}, DataError, "memory: no triples"),
        ({"triples": "none.csv"}, DataError, "none.csv"),
        ({"triples": ROWS[:2]}, DataError, "no triple is left for valid of"),
    ],
)
def test_what_cannot_be_split_is_named(options, error, message, tmp_path) -> None:
    for out in (None, tmp_path / "kg"):
        with pytest.raises(error, match=message):
            kgtool.split(**({"triples": DATED} | options), out=out)
    assert not list(tmp_path.iterdir())
