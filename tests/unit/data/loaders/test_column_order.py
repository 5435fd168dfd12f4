"""Columns that may not be head, relation, tail."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import kgtool
from kgtool.data.loaders import Reading, load_with_report
from kgtool.data.loaders.column_order import doubt_of
from kgtool.errors import DataError
from tests.support.runs import ring, write_folder


def columns(n: int, *sizes: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    return np.stack([rng.integers(0, size, n) for size in sizes], 1)


@pytest.mark.parametrize(
    ("triples", "option"),
    [
        (columns(3000, 900, 800, 30), "--columns 1,3,2"),  # as DBpedia50 was published
        (columns(3000, 30, 800, 900), "--columns 2,1,3"),
        (columns(3000, 2500, 2400, 2500), "--columns (kgtool"),
        (columns(2000, 14, 55, 14), ""),  # Nations: few triples a pair, many a relation
        (columns(3000, 900, 30, 800), ""),
        (columns(200, 100, 20, 9), ""),
        (columns(20, 9, 9, 9), ""),
        (columns(0, 9, 9, 9), ""),
    ],
)
def test_the_counts_of_values_raise_the_doubt(triples, option):
    found = doubt_of(triples)
    assert (option in found) if option else not found
    assert not option or "pass --columns 1,2,3" in found


def test_columns_that_are_given_or_named_raise_none(tmp_path):
    rows = columns(3000, 900, 800, 30).tolist()
    text = "".join(f"a{h}\tb{r}\tc{t}\n" for h, r, t in rows)
    (tmp_path / "g.tsv").write_text(text)
    data, report = load_with_report(tmp_path / "g.tsv")
    assert "the third may be the relation" in report.column_doubt
    assert report.column_doubt in report.warnings
    assert data.num_relations > 700
    for order in ("1,3,2", "1,2,3"):
        reading = Reading(columns=tuple(order.split(",")))
        assert load_with_report(tmp_path / "g.tsv", reading=reading)[1].column_doubt == ""
    (tmp_path / "g.tsv").write_text("head\trelation\ttail\n" + text)
    assert load_with_report(tmp_path / "g.tsv")[1].column_doubt == ""
    (tmp_path / "g.jsonl").write_text("".join(f'["a{h}","b{r}","c{t}"]\n' for h, r, t in rows))
    assert load_with_report(tmp_path / "g.jsonl")[1].column_doubt != ""


def test_a_split_refuses_doubtful_columns(tmp_path):
    text = "".join(f"a{h}\tb{r}\tc{t}\n" for h, r, t in columns(3000, 900, 800, 30).tolist())
    (tmp_path / "g.tsv").write_text(text)
    with pytest.raises(DataError, match=r"g\.tsv: the columns have .* pass --columns 1,3,2"):
        kgtool.split(tmp_path / "g.tsv", tmp_path / "kg")
    assert not (tmp_path / "kg").exists()
    made = kgtool.split(
        tmp_path / "g.tsv", tmp_path / "kg", reading=Reading(columns=("1", "3", "2"))
    )
    assert set(made.table["relations"]) == {30}
    assert load_with_report(tmp_path / "kg")[1].column_doubt == ""
    assert load_with_report(write_folder(ring(), tmp_path / "ring"))[1].column_doubt == ""


SWAPPED = columns(3000, 900, 800, 30)
LABELS = [(f"a{h}", f"b{r}", f"c{t}") for h, r, t in SWAPPED.tolist()]
NAMED = "name the columns in their order, .*columns=\\['head', 'tail', 'relation'\\]"


def in_folder(place) -> str:
    parts = {"train": LABELS[:2600], "valid": LABELS[2600:2800], "test": LABELS[2800:]}
    place.mkdir()
    for split, rows in parts.items():
        (place / f"{split}.txt").write_text("".join("\t".join(row) + "\n" for row in rows))
    return str(place)


@pytest.mark.parametrize(
    ("given", "remedy"),
    [
        ("folder", "folder: the columns have .* --columns 1,3,2 .*kgtool.Reading"),
        ("loaded", "folder: the columns have .* --columns 1,3,2 .*kgtool.Reading"),
        ("file", "g.tsv: the columns have .* --columns 1,3,2 .*kgtool.Reading"),
        ("list", f"memory: the columns have .* {NAMED}"),
        ("frame", f"memory: the columns have .* {NAMED}"),
    ],
)
def test_python_refuses_to_train_on_doubtful_columns(given, remedy, tmp_path):
    file = tmp_path / "g.tsv"
    file.write_text("".join("\t".join(row) + "\n" for row in LABELS))
    folder = in_folder(tmp_path / "folder")
    data = {
        "folder": lambda: folder,
        "loaded": lambda: kgtool.load_dataset(folder),
        "file": lambda: file,
        "list": lambda: kgtool.dataset_of(LABELS, LABELS[:9]),
        "frame": lambda: kgtool.dataset_of(pd.DataFrame(LABELS), LABELS[:9]),
    }[given]()
    with pytest.raises(DataError, match=f"(?s){remedy}"):
        kgtool.train({"dim": 4}, data, tmp_path / "run")
    assert not (tmp_path / "run").exists()
    with pytest.raises(DataError, match=f"(?s){remedy}"):
        kgtool.evaluate_baselines(data, "train")


@pytest.mark.parametrize("given", [LABELS, pd.DataFrame(LABELS), np.array(LABELS)])
def test_a_split_in_memory_refuses_doubtful_columns(given):
    with pytest.raises(DataError, match=f"memory: the columns have .* {NAMED}"):
        kgtool.split(given)
    with pytest.raises(DataError, match=NAMED):
        kgtool.split(kgtool.dataset_of(given))


def test_names_settle_the_doubt_in_memory(tmp_path):
    names = ["head", "tail", "relation"]
    data = kgtool.dataset_of(pd.DataFrame(LABELS, columns=names), valid=LABELS[:5])
    assert (data.guessed, data.num_relations) == (False, 30 + 5)
    assert kgtool.split(LABELS, reading=Reading(columns=("1", "3", "2"))).num_relations == 30
    loaded = kgtool.load_dataset(
        in_folder(tmp_path / "folder"), reading=Reading(columns=("1", "2", "3"))
    )
    assert loaded.guessed is False
    assert not kgtool.dataset_of([{"head": "a", "relation": "r", "tail": "b"}]).guessed
