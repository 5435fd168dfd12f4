"""Weights of triples: the column of confidences, through every loader and writer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor

import kgtool
from kgtool.data.dataset import SPLITS, KGDataset
from kgtool.data.growth import grow
from kgtool.data.loaders import Reading, load_dataset, load_with_report
from kgtool.data.loaders.write import write_dataset
from kgtool.errors import ConfigError, DataError
from tests.support.runs import ring

NAMED = Reading(columns=("head", "relation", "tail", "confidence"))


def weights_of(data: KGDataset, split: str) -> dict[tuple[str, str, str], float]:
    """The weight of each triple, by labels."""
    words, weight = data.vocabulary, data.weights[split].tolist()
    return {
        (words.entities[h], words.relations[r], words.entities[t]): w
        for (h, r, t), w in zip(data.split(split).tolist(), weight, strict=True)
    }


def folder_of(folder: Path, train: str, valid: str = "b r a", test: str = "b r c") -> Path:
    """Splits as TSV; `train` is `"a r b 0.5, ..."`, with a header if it has four columns."""
    folder.mkdir()
    for split, text in zip(SPLITS, (train, valid, test), strict=True):
        rows = [row.split() for row in text.split(",")]
        header = [["head", "relation", "tail", "weight"]] if len(rows[0]) == 4 else []
        lines = ["\t".join(row) for row in header + rows]
        (folder / f"{split}.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def test_the_column_named_weight_is_read_and_reported(tmp_path: Path) -> None:
    place = folder_of(tmp_path / "kg", "a r b 0.5, b r c 1, c r a 0.25, a r b 0.75", "b r a 0.1")
    data, report = load_with_report(place)
    assert weights_of(data, "train") == {
        ("a", "r", "b"): 0.75, ("b", "r", "c"): 1.0, ("c", "r", "a"): 0.25,
    }  # fmt: skip
    assert weights_of(data, "valid") == {("b", "r", "a"): pytest.approx(0.1)}
    assert data.weights.keys() == {"train", "valid"}
    assert data.weight("test").tolist() == [1]
    assert report.weight_notes == (
        "weights of train: 0.25 to 1, mean 0.667; 1 of 3 triples have the weight 1; 1 triple has "
        "several weights, and the largest counts",
        "weights of valid: 0.1 to 0.1, mean 0.100; 0 of 1 triples have the weight 1",
    )
    found = json.loads(json.dumps(report.to_dict()))
    assert found["train"]["weights"]["raised"] == 1
    assert "weights" not in found["test"]


def test_another_column_is_the_weight_only_if_asked(tmp_path: Path) -> None:
    place = folder_of(tmp_path / "kg", "a r b 0.5, b r c 1, c r a 0.25")
    file = place / "train.txt"
    file.write_text(file.read_text().replace("weight", "confidence"))
    for split in SPLITS[1:]:
        (place / f"{split}.txt").write_text("head\trelation\ttail\nb\tr\ta\n")
    data, report = load_with_report(place)
    assert not data.weights
    hint = (
        "train.txt: confidence was not read; if it is a weight from 0 to 1, pass it as the fourth "
        "of --columns"
    )
    assert hint in report.notes
    assert load_dataset(place, reading=NAMED).weights["train"].tolist() == [0.5, 1, 0.25]
    assert not load_dataset(place, reading=Reading(columns=("head", "relation", "tail"))).weights


def test_columns_without_a_header(tmp_path: Path) -> None:
    place = folder_of(tmp_path / "kg", "a r b, b r c, c r a")
    (place / "train.txt").write_text("a\tr\tb\t0.5\nb\tr\tc\t1e-3\n")
    with pytest.raises(DataError, match="4 columns where 3 are expected"):
        load_dataset(place)
    data = load_dataset(place, reading=Reading(columns=("1", "2", "3", "4")))
    assert data.weights["train"].tolist() == pytest.approx([0.5, 1e-3])
    assert data.weights.keys() == {"train"}


def test_a_relation_named_weight_is_a_relation(tmp_path: Path) -> None:
    place = folder_of(tmp_path / "kg", "a weight b, b weight a", "a weight a", "b weight b")
    assert load_dataset(place).vocabulary.relations == ("weight",)


@pytest.mark.parametrize("text", ["1.01", "-0.5", "nan", "inf", "high", "", "0,5", "1_0"])
def test_another_number_is_an_error_with_its_line(tmp_path: Path, text: str) -> None:
    place = folder_of(tmp_path / "kg", "a r b 0.5, b r c 1, c r a 0.25")
    file = place / "train.txt"
    file.write_text(file.read_text().replace("c\t1\n", f"c\t{text}\n"))
    with pytest.raises(DataError) as raised:
        load_dataset(place)
    problem = f"the weight is '{text}', not a number from 0 to 1"
    assert f"train.txt, line 3: {problem}" in str(raised.value)
    assert "Remedy: write a confidence from 0 to 1, or name the columns without it" in str(
        raised.value
    )
    data, report = load_with_report(place, reading=Reading(skip_bad_lines=True))
    assert data.weights["train"].tolist() == [0.5, 0.25]
    assert [line.number for line in report.bad_lines] == [3]


def test_a_triple_of_the_weight_0_is_left_out_and_counted(tmp_path: Path) -> None:
    place = folder_of(tmp_path / "kg", "a r b 0.5, b r c 0, c r a 1e-60")
    data, report = load_with_report(place)
    assert len(data.train) == 2
    assert float(data.weights["train"].min()) > 0
    assert f"{place / 'train.txt'}: 1 line of the weight 0 left out" in report.notes
    place = folder_of(tmp_path / "none", "a r b 0, b r c 0.0")
    with pytest.raises(DataError, match="no triples: all weights are 0"):
        load_dataset(place)


def test_every_format_holds_weights(tmp_path: Path) -> None:
    rows = [("a", "r", "b", 0.5), ("b", "r", "c", 1.0), ("c", "r", "a", 0.1)]
    table = pd.DataFrame(rows, columns=["head", "relation", "tail", "weight"])
    writers = {
        "csv": lambda file: table.to_csv(file, index=False),
        "parquet": lambda file: table.to_parquet(file),
        "jsonl": lambda file: table.to_json(file, orient="records", lines=True),
    }
    for ending, write in writers.items():
        folder = tmp_path / ending
        folder.mkdir()
        for split in SPLITS:
            write(folder / f"{split}.{ending}")
        data = load_dataset(folder)
        assert weights_of(data, "train") == pytest.approx({row[:3]: row[3] for row in rows})
    data = kgtool.dataset_of(table, table.rename(columns={"weight": "other"}))
    assert weights_of(data, "train") == pytest.approx({row[:3]: row[3] for row in rows})
    assert data.weights.keys() == {"train"}


def test_a_data_frame_keeps_the_largest_weight_of_duplicates() -> None:
    table: dict[str, list[Any]] = {
        "head": ["a", "b", "a", "b"], "relation": ["r"] * 4, "tail": ["b", "c", "b", "a"],
        "weight": [0.5, 0.2, 0.75, 0.0],
    }  # fmt: skip
    data = kgtool.dataset_of(table)
    assert weights_of(data, "train") == pytest.approx({("a", "r", "b"): 0.75, ("b", "r", "c"): 0.2})
    table["weight"][1] = 2
    with pytest.raises(DataError, match=r"train, row 2: the weight is '2', .* or drop the column"):
        kgtool.dataset_of(table)


def with_weights(data: KGDataset, *splits: str) -> KGDataset:
    generator = torch.Generator().manual_seed(3)
    weights = {s: 1 - torch.rand(len(data.split(s)), generator=generator) for s in splits}
    return kgtool.KGDataset(
        data.name, data.path, data.vocabulary, data.train, data.valid, data.test, weights=weights
    )


@pytest.mark.parametrize("to", ["tsv", "dgl"])
def test_written_weights_load_again_exactly(tmp_path: Path, to: str) -> None:
    data = with_weights(ring(), "train", "test")
    write_dataset(data, tmp_path / "kg", to=to)
    again = load_dataset(tmp_path / "kg")
    assert weights_of(again, "train") == weights_of(data, "train")
    assert weights_of(again, "test") == weights_of(data, "test")
    assert again.weights.keys() == {"train", "test"}
    assert torch.equal(again.weights["train"], data.weights["train"])


def test_convert_and_split_keep_weights(tmp_path: Path) -> None:
    data = with_weights(ring(), "train")
    file = tmp_path / "all.tsv"
    table = data.to_frame("train")
    assert list(table) == ["head", "relation", "tail", "weight"]
    table = table.rename(columns={"weight": "score"}).assign(year=range(len(table)))
    table.iloc[[*range(len(table)), 0]].to_csv(file, sep="\t", index=False)
    reading = Reading(columns=("head", "relation", "tail", "score"))
    kgtool.split([file], tmp_path / "kg", reading=reading, allow_unseen=True)
    again = load_dataset(tmp_path / "kg")
    found: dict[tuple[str, str, str], float] = {}
    for split in SPLITS:
        found |= weights_of(again, split)
    assert found == weights_of(data, "train")
    whole = load_dataset(file, reading=reading)  # one file, split by the same rule
    found = {key: w for split in SPLITS for key, w in weights_of(whole, split).items()}
    assert found == weights_of(data, "train")
    parts = kgtool.split(table.rename(columns={"score": "weight"}), allow_unseen=True)
    found = {key: w for split in SPLITS for key, w in weights_of(parts, split).items()}
    assert found == weights_of(data, "train")
    report = kgtool.split([file], tmp_path / "other", allow_unseen=True, reading=Reading(
        columns=("head", "relation", "tail")))  # fmt: skip
    assert any("score was not read; if it is a weight" in note for note in report.notes)


def test_the_fingerprint_and_the_checks_of_weights() -> None:
    data = ring()
    ones = torch.ones(len(data.train))
    half = {"train": ones / 2}

    def other(weights: dict[str, Tensor]) -> KGDataset:
        return KGDataset(
            data.name, None, data.vocabulary, data.train, data.valid, data.test, weights=weights
        )

    assert len({data.fingerprint, other(half).fingerprint, other({"train": ones}).fingerprint}) == 3
    for weights, problem in (
        ({"train": ones[1:]}, "the shape"),
        ({"train": ones.double()}, "the type torch.float64"),
        ({"train": ones * 2}, "the weight 2 in row 1"),
        ({"train": ones * 0}, "the weight 0 in row 1"),
        ({"train": ones * np.nan}, "the weight nan in row 1"),
    ):
        with pytest.raises(DataError, match=problem):
            other(weights)
    with pytest.raises(ConfigError, match="did you mean"):
        other({"trian": ones})
    grown = grow(other(half), data.vocabulary, torch.tensor([[0, 0, 0]])).dataset
    assert grown.weights["train"].tolist() == [*half["train"].tolist(), 1]


def test_more_than_four_columns_are_an_error() -> None:
    with pytest.raises(ConfigError, match="more than head, relation, tail and weight"):
        Reading(columns="a,b,c,d,e")  # type: ignore[arg-type]


def test_a_table_without_columns_is_an_error(tmp_path: Path) -> None:
    for split in SPLITS:
        pd.DataFrame(index=range(3)).to_parquet(tmp_path / f"{split}.parquet", index=False)
    with pytest.raises(DataError, match=r"\.parquet.*Remedy: "):
        load_dataset(tmp_path)
