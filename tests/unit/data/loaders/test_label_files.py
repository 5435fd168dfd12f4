"""Tables of readable names and of types."""

from __future__ import annotations

import gzip

import pandas as pd
import pytest

from kgtool.data.dataset import Vocabulary
from kgtool.data.labels import LabelIndex
from kgtool.data.loaders.labels import read_labels, read_types
from kgtool.errors import DataError


def test_labels_are_read_as_they_stand(tmp_path):
    file = tmp_path / "labels.tsv"
    file.write_bytes('\ufeffa\tAda, "the first"\r\n\nNA\t1e5\nb\t  Émile\nb\t  Émile'.encode())
    assert read_labels(file) == {"a": 'Ada, "the first"', "NA": "1e5", "b": "  Émile"}


NODES = 'id,name,type\ng1,"BRCA2, gene",Gene\ng2,,Gene\nd1,Pain,Disease\n'
TABS = NODES.replace('"BRCA2, gene"', "BRCA2").replace(",", "\t").replace("BRCA2", "BRCA2, gene")
OBJECTS = (
    '{"id":"g1","name":"BRCA2, gene","type":"Gene"}\n{"id":"g2","name":null,"type":"Gene"}\n'
    '{"id":"d1","name":"Pain","type":"Disease"}\n'
)
NAMES = {"g1": "BRCA2, gene", "d1": "Pain"}
TYPES = {"g1": ("Gene",), "g2": ("Gene",), "d1": ("Disease",)}


@pytest.mark.parametrize(
    ("name", "data", "chosen"),
    [
        ("nodes.csv", NODES.encode(), ""),
        ("nodes.csv.gz", gzip.compress(NODES.encode(), mtime=0), ""),
        ("nodes.csv", NODES.replace("id,name,type", "gene,symbol,sort").encode(), "gene,"),
        ("nodes.csv", NODES.replace("id,name,type", "label,name,category").encode(), ""),
        ("nodes.csv", NODES.replace("id,name,type", ":ID,name,:LABEL").encode(), ""),
        (
            "nodes.csv",
            b'sep=;\n"kind";Name;ID\nGene;"BRCA2, gene";g1\nGene;;g2\nDisease;Pain;d1\n',
            "",
        ),
        ("nodes.txt", TABS.replace("id\tname\ttype", "node_id\tnode_name\tnode_type").encode(), ""),
        ("nodes.jsonl", OBJECTS.encode(), ""),
        ("nodes.parquet", b"", ""),
    ],
)
def test_a_node_table_has_names_and_types(tmp_path, name, data, chosen):
    file = tmp_path / name
    file.write_bytes(data)
    if name.endswith("parquet"):
        rows = {"id": ["g1", "g2", "d1"], "name": ["BRCA2, gene", None, "Pain"], "n": [1, 2, 3]}
        pd.DataFrame({**rows, "type": ["Gene", "Gene", "Disease"]}).to_parquet(file)
    names, types = (f"{file}:{chosen}{of}" if chosen else file for of in ("symbol", "3"))
    assert read_labels(names, {"g1": 0}) == NAMES
    assert read_types(types, {"g1": 0}) == TYPES


def test_two_columns_need_no_header(tmp_path):
    for name, text in (("t.csv", 'a,"x, y"\nb,z\n'), ("t.tsv", "label\tname\na\tx, y\nb\tz\n")):
        (tmp_path / name).write_text(text)
        assert read_labels(tmp_path / name) == {"a": "x, y", "b": "z"}
    (tmp_path / "u.tsv").write_text("a\tT1\na\tT2\na\tT1\n")
    assert read_types(tmp_path / "u.tsv") == {"a": ("T1", "T2")}


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (
            b"a\tA\nb\n",
            r"labels.tsv, line 2: 'b' is not a label and its name. Remedy: write two cells",
        ),
        (b"a\tA\tB\n", r"line 1: the columns of labels and of names cannot .*labels.tsv:a,A"),
        (b"a\n", r"line 1: 'a' is not a label and its name"),
        (b"a\t \n", r"line 1: .*is not a label and its name"),
        (b"a\tA\n\na\tB\n", r"line 3: 'a' has another name above. Remedy: keep one"),
        (b"a\t\xff\n", r"labels.tsv: not UTF-8. Remedy: save the file as UTF-8"),
        (b"id\tage\ttype\na\t1\tT\n", r"cannot be inferred from 'id', 'age', 'type'"),
        (b"id\tname\nx\tX\n", r"none of its labels \('x', …\) is a label of the data \('a', …\)"),
    ],
)
def test_a_fault_names_its_line(tmp_path, data, message):
    file = tmp_path / "labels.tsv"
    file.write_bytes(data)
    with pytest.raises(DataError, match=message):
        read_labels(file, {"a": 0})


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        ("id,nme", "no column 'nme' among 'id', 'name'. Remedy: use 'name', the nearest"),
        ("id", "'id' are not two columns"),
        ("1,3", "no column '3'"),
    ],
)
def test_columns_that_are_not_there(tmp_path, chosen, message):
    (tmp_path / "n.csv").write_text("id,name\na,A\n")
    with pytest.raises(DataError, match=message):
        read_labels(f"{tmp_path / 'n.csv'}:{chosen}")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(DataError, match=r"cannot read .*gone.tsv: No such file"):
        read_labels(tmp_path / "gone.tsv")


def test_names_stand_next_to_labels():
    index = LabelIndex(Vocabulary(("a", "b"), ("r",)), {"a": "Ada"})
    frame = pd.DataFrame({"head": ["a", "b"], "relation": "r", "tail": ["b", "a"], "score": 1.0})
    frame.attrs["of"] = 2
    named = index.with_names(frame)
    assert list(named) == ["head", "head_name", "relation", "tail", "tail_name", "score"]
    assert named["head_name"].tolist() == ["Ada", "b"]
    assert named["tail_name"].tolist() == ["b", "Ada"]
    assert named.attrs == {"of": 2}
    assert list(index.with_names(named)) == list(named)
    assert list(frame) == ["head", "relation", "tail", "score"]
    assert LabelIndex(index.vocabulary).with_names(frame) is frame
