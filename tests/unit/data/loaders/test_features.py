"""Vectors of entities: every source gives the same numbers, and every fault has its place."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from torch import Tensor

import kgtool
from kgtool.data.features import Features
from kgtool.data.loaders.feature_files import any_features, coverages, read_features
from kgtool.data.loaders.feature_files import with_features as with_config
from kgtool.data.loaders.features import features_of
from kgtool.errors import ConfigError, DataError, KGToolWarning
from kgtool.export import export_embeddings
from kgtool.ops.runtime.dgl import dgl
from tests.support.runs import ring

LABELS = ["e003", "e001", "not an entity", "e000", "日本"]
VECTORS = np.random.default_rng(3).normal(size=(5, 7)).astype(np.float32)


def lines(delimiter: str, vectors: Any = VECTORS) -> str:
    rows = zip(LABELS, vectors.tolist(), strict=True)
    return "".join(delimiter.join([label, *map(repr, row)]) + "\n" for label, row in rows)


def write(folder: Path) -> list[Path]:
    """The vectors in each format; returns the files."""
    texts = {
        "plain.tsv": lines("\t"),
        "header.tsv": "entity\t" + "\t".join(f"x{i}" for i in range(7)) + "\n" + lines("\t"),
        "counted.tsv": "label\t" + "\t".join(map(str, range(7))) + "\n" + lines("\t"),
        "crlf.tsv": lines("\t").replace("\n", "\r\n"),
        "bom.txt": "\ufeff" + lines("\t"),
        "plain.csv": lines(","),
        "semicolons.csv": lines(";"),
        "pandas.csv": "," + ",".join(map(str, range(7))) + "\n" + lines(","),
    }
    for name, text in texts.items():
        (folder / name).write_bytes(text.encode())
    spaced = lines(" ").replace("not an entity", "not_an_entity")
    (folder / "glove.txt").write_bytes(spaced.encode())
    (folder / "word2vec.txt").write_bytes(f"5 7\n{spaced}".encode())
    (folder / "packed.tsv.gz").write_bytes(gzip.compress(lines("\t").encode()))
    columns = {f"x{i}": VECTORS[:, i] for i in range(7)}
    pd.DataFrame({"label": LABELS, **columns}).to_parquet(folder / "wide.parquet", index=False)
    for name, kind in {
        "lists": pa.list_(pa.float64()),
        "fixed": pa.list_(pa.float32(), 7),
        "large": pa.large_list(pa.float32()),
    }.items():
        table = pa.table({"id": LABELS, "vector": pa.array(VECTORS.tolist(), kind)})
        pq.write_table(table, folder / f"{name}.parquet")
    matrices: dict[str, Any] = {
        "float32": VECTORS,
        "float64": VECTORS.astype(np.float64),
        "fortran": np.asfortranarray(VECTORS),
        "big": VECTORS.astype(">f8"),
    }
    for name, matrix in matrices.items():
        np.save(folder / f"{name}.npy", matrix)
        (folder / f"{name}.txt").write_text("\n".join(LABELS) + "\n", encoding="utf-8")
    for name, header in {"ids": "", "run": "id\tlabel\n"}.items():
        np.save(folder / f"{name}.npy", VECTORS)
        text = "".join(f"{i}\t{label}\n" for i, label in enumerate(LABELS))
        (folder / f"{name}.tsv").write_text(header + text, encoding="utf-8")
    beside = {f.with_suffix(ending) for f in folder.glob("*.npy") for ending in (".txt", ".tsv")}
    return sorted(set(folder.iterdir()) - beside)


def by_label(features: Features) -> dict[str, list[float]]:
    labels = [label.replace("_", " ") for label in features.labels.to_pylist()]
    return dict(zip(labels, features.table.tolist(), strict=True))


def test_every_format_gives_the_same_bits(tmp_path):
    expected = dict(zip(LABELS, VECTORS.tolist(), strict=True))
    files = write(tmp_path)
    assert len(files) == 21
    for file in files:
        features = read_features(str(file), ())
        assert features.table.dtype == torch.float32
        assert by_label(features) == expected, file.name


def test_every_object_gives_the_same_bits():
    expected = dict(zip(LABELS, VECTORS.tolist(), strict=True))
    graph = dgl.graph(([0, 1], [1, 2]), num_nodes=5)
    graph.ndata["feat"] = torch.from_numpy(VECTORS)
    wide = pd.DataFrame(VECTORS)
    for given in (
        dict(zip(LABELS, VECTORS, strict=True)),
        dict(zip(LABELS, VECTORS.tolist(), strict=True)),
        dict(zip(LABELS, torch.from_numpy(VECTORS), strict=True)),
        wide.set_index(pd.Index(LABELS)),
        pd.DataFrame({"label": LABELS, "vector": list(VECTORS)}),
        wide.assign(entity=LABELS),
        VECTORS,
        VECTORS.astype(np.float64),
        VECTORS.tolist(),
        torch.from_numpy(VECTORS).requires_grad_(),
        "feat",
    ):
        assert by_label(features_of(given, LABELS, graph)) == expected
    digits = features_of(VECTORS)
    assert digits.labels.to_pylist() == ["0", "1", "2", "3", "4"]


def test_integers_and_small_floats_are_read(tmp_path):
    for kind in (np.float16, np.int64, np.int8, np.uint16, np.bool_):
        matrix = np.array([[1, 0], [1, 1]], kind)
        np.save(tmp_path / "x.npy", matrix)
        features = read_features(str(tmp_path / "x.npy"), ("a", "b"))
        assert features.table.tolist() == [[1, 0], [1, 1]]


def test_what_export_writes_is_read(tmp_path):
    data = ring()
    entities, relations = torch.randn(24, 4), torch.randn(6, 4)
    export_embeddings(data.vocabulary, entities, relations, tmp_path)
    for name in ("embeddings.tsv", "embeddings.parquet", "entity.npy", "entities.word2vec.txt"):
        features = read_features(str(tmp_path / name), ())
        assert features.labels.to_pylist() == list(data.vocabulary.entities)
        assert torch.equal(features.table, entities), name


def test_several_files_are_side_by_side(tmp_path):
    (tmp_path / "a.tsv").write_text("e001\t1\t2\ne000\t3\t4\n")
    (tmp_path / "b.csv").write_text("e002,5\ne000,6\n")
    features = read_features([str(tmp_path / "a.tsv"), str(tmp_path / "b.csv")], ())
    assert features.widths == (2, 1)
    assert features.starts == [0, 2]
    rows = features.of(["e000", "e001", "e002", "e003"])
    assert str(rows.tolist()) == (
        "[[3.0, 4.0, 6.0], [1.0, 2.0, nan], [nan, nan, 5.0], [nan, nan, nan]]"
    )
    assert features.lacks(rows).tolist() == [
        [False, False], [False, True], [True, False], [True, True]
    ]  # fmt: skip
    memory = features_of([{"e001": [1, 2], "e000": [3, 4]}, {"e002": [5], "e000": [6]}])
    assert memory.fingerprint == features.fingerprint


FAULTS = {
    "wide.tsv": ("a\t1\t2\nb\t1\t2\t3\n", "line 2: 3 numbers, where rows before have 2"),
    "text.tsv": ("a\t1\t2\nb\tx\t3\n", "line 2: 'x' is not a number"),
    "first.tsv": ("a\t1\tx\nb\t1\t3\n", "line 1: 'x' is not a number"),
    "empty cell.tsv": ("a\t1\t2\nb\t\t3\n", "line 2: '' is not a number"),
    "nan.tsv": ("a\t1\t2\nb\tnan\t3\n", "line 2: the number nan is not finite"),
    "inf.csv": ("a,1,2\n\nb,1,-inf\n", "line 3: the number -inf is not finite"),
    "large.tsv": ("a\t1e39\n", "line 1: the number 1e39 is not finite"),
    "twice.tsv": ("a\t1\nb\t1\na\t1\n", "line 3: a second vector of 'a'; the first is in line 1"),
    "blank.tsv": ("a\t1\n \t1\n", "line 2: no label"),
    "empty.tsv": ("", "empty"),
    "header.tsv": ("entity\tx\ty\n", "no vectors"),
    "alone.tsv": ("a\nb\n", "labels without numbers"),
    "vectors.json": ("{}", "not a file of vectors"),
    "text.npy": ("a\t1\n", "not a matrix of numbers in NumPy's format"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_faults_have_their_place(tmp_path, name):
    text, problem = FAULTS[name]
    (tmp_path / name).write_text(text)
    with pytest.raises(DataError) as caught:
        read_features(str(tmp_path / name), ())
    assert str(caught.value).startswith(str(tmp_path / name))
    assert problem in str(caught.value)
    assert "Remedy: " in str(caught.value)


def saved(path: Path, matrix: Any, labels: str | None = None) -> str:
    np.save(path, matrix, allow_pickle=True)
    if labels is not None:
        path.with_suffix(".txt").write_text(labels)
    return str(path)


MATRICES: dict[str, tuple[Any, str | None, str]] = {
    "flat": (np.ones(3), None, "an array of the shape (3,)"),
    "objects": (np.array([[1, None]], dtype=object), None, "not a matrix of numbers"),
    "complex": (np.ones((2, 2), complex), "a\nb\n", "numbers of the type complex128"),
    "texts": (np.array([["a"]]), "a\n", "numbers of the type <U1"),
    "dates": (np.zeros((1, 1), "M8[s]"), "a\n", "numbers of the type datetime64[s]"),
    "rows": (np.ones((3, 2)), "a\nb\n", "3 rows for 2 labels in"),
    "no labels": (np.ones((3, 2)), None, "3 rows for 24 entities of the data set"),
    "nan": (np.array([[1.0], [np.nan]]), "a\nb\n", "row 2: the vector of 'b' has nan as number 1"),
    "twice": (np.ones((2, 1)), "a\na\n", "row 2: a second vector of 'a'; the first is in row 1"),
    "no rows": (np.ones((0, 2)), "", "no vectors"),
    "no numbers": (np.ones((1, 0)), "a\n", "vectors without numbers"),
    "ids": (np.ones((2, 1)), "0\ta\n2\tb\n", "the ids do not count from 0 to 1"),
    "an id twice": (np.ones((2, 1)), "0\ta\n0\tb\n", "line 2: a second label of the id 0"),
    "no id": (np.ones((2, 1)), "0\ta\nx\tb\n", "line 2: 'x\\tb' is not an id and its label"),
}


@pytest.mark.parametrize("name", MATRICES)
def test_faults_of_matrices(tmp_path, name):
    matrix, labels, problem = MATRICES[name]
    path = saved(tmp_path / f"{name}.npy", matrix, labels)
    with pytest.raises(DataError) as caught:
        read_features(path, ring().vocabulary.entities)
    assert problem in str(caught.value)


def test_faults_of_parquet(tmp_path):
    path = tmp_path / "x.parquet"
    for columns, problem in (
        (
            {"id": ["a", "b"], "v": [[1.0], [1.0, 2.0]]},
            "row 2: 2 numbers, where rows before have 1",
        ),
        ({"id": ["a", None], "v": [1.0, 2.0]}, "row 2: the cell of the column 'id' is missing"),
        ({"id": ["a", "b"], "v": [1.0, None]}, "row 2: the cell of the column 'v' is missing"),
        ({"id": ["a", "b"], "v": [[1.0], None]}, "row 2: the cell of the column 'v' is missing"),
        ({"id": ["a", "b"], "v": [[1.0], [None]]}, "row 2: a number is missing"),
        ({"id": ["a", "b"], "v": [["x"], ["y"]]}, "holds lists of string"),
        ({"id": ["a"], "v": [[1.0]], "w": [1.0]}, "several columns with a column of lists"),
        ({"id": ["a"], "v": ["x"]}, "not numbers"),
    ):
        pq.write_table(pa.table(columns), path)
        with pytest.raises(DataError, match="Remedy") as caught:
            read_features(str(path), ())
        assert problem in str(caught.value)


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"a": [1], "b": [1, 2]}, r"features\['b'\]: 2 numbers, where 'a' has 1"),
        ({"a": [np.inf]}, "row 1: the vector of 'a' has inf as number 1"),
        ({}, "no vectors"),
        ([[1, 2], [3]], "vectors of different lengths"),
        (np.ones((2, 2), complex), "numbers of the type complex128"),
        (np.ones((3, 2)), "3 rows for 2 labels of entities"),
        ("feat", "the text 'feat', and the triples are not a graph"),
        (pd.DataFrame({"label": ["a"], "x": ["y"], "z": [1]}), "the column 'x' does not hold"),
    ],
)
def test_faults_of_objects(given, problem):
    with pytest.raises(DataError, match=problem):
        features_of(given, ["a", "b"])


def test_a_data_set_has_features_by_label():
    rows = [("b", "r", "a"), ("a", "r", "c")]
    data = kgtool.dataset_of(rows, features={"a": [1.0], "x": [2.0], "c": [3.0]})
    assert str(data.entity_features.tolist()) == "[[1.0], [nan], [3.0]]"
    ids = kgtool.dataset_of([(1, 0, 0), (0, 0, 2)], features=np.arange(3.0)[:, None])
    assert ids.entity_features.tolist() == [[0.0], [1.0], [2.0]]
    named = kgtool.dataset_of(
        [(1, 0, 0)], entities=["z", "y"], features=torch.tensor([[5.0], [6.0]])
    )
    assert named.vocabulary.entities == ("y", "z")
    assert named.entity_features.tolist() == [[6.0], [5.0]]


def test_node_data_of_graphs_are_features():
    graph = dgl.heterograph(
        {("drug", "treats", "disease"): ([0, 1], [0, 0]), ("drug", "like", "drug"): ([0], [1])}
    )
    graph.nodes["drug"].data["feat"] = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    graph.nodes["disease"].data["feat"] = torch.tensor([[5.0]])
    data = kgtool.dataset_of(graph, features="feat")
    assert data.features is not None
    assert data.features.widths == (1, 2)  # one source per type
    assert data.vocabulary.entities == ("disease:0", "drug:0", "drug:1")
    assert [str(row) for row in data.entity_features.tolist()] == [
        "[5.0, nan, nan]", "[nan, 1.0, 2.0]", "[nan, 3.0, 4.0]"
    ]  # fmt: skip
    named = kgtool.dataset_of(
        graph, entities={"drug": ["a", "b"], "disease": ["c"]}, features="feat"
    )
    assert str(named.entity_features[2].tolist()) == "[5.0, nan, nan]"
    with pytest.raises(DataError, match="the nodes have no field 'x'"):
        kgtool.dataset_of(graph, features="x")


def test_a_matrix_without_labels_has_the_rows_of_the_entities(tmp_path):
    matrix = np.arange(24, dtype=np.float32)[:, None]
    np.save(tmp_path / "x.npy", matrix)
    data = with_config(ring(), str(tmp_path / "x.npy"))
    assert data.entity_features.tolist() == matrix.tolist()
    assert torch.equal(any_features(tmp_path / "x.npy", ring()).table, torch.from_numpy(matrix))


def test_coverage_is_counted(tmp_path):
    data = kgtool.dataset_of([("a", "r", "b")], [("a", "r", "c")], features=None)
    (tmp_path / "x.tsv").write_text("a\t1\nc\t2\nx\t3\ny\t4\n")
    file = str(tmp_path / "x.tsv")
    (line,) = map(str, coverages(with_config(data, file), file))
    assert line == (
        f"features {file}: 1 numbers for 2 of 3 entities (1 of 2 of train); the others get a "
        "learned vector; 2 labels are not an entity of the data"
    )
    (tmp_path / "y.tsv").write_text("c\t2\n")
    with pytest.raises(DataError, match=r"none of its labels \('c', …\) is an entity of train"):
        with_config(data, str(tmp_path / "y.tsv"))


def test_the_configuration_and_the_data_must_name_the_same_features(tmp_path):
    data = kgtool.dataset_of([("a", "r", "b")])
    own = kgtool.dataset_of([("a", "r", "b")], features={"a": [1.0]})
    with pytest.raises(DataError, match="the data set has no features"):
        with_config(data, "data")
    with pytest.raises(ConfigError, match="has features of its own"):
        with_config(own, "x.npy")
    with pytest.warns(KGToolWarning, match="this model does not read them"):
        with_config(own, None)
    assert with_config(own, "data") is own


def rows(features: Features, labels: list[str]) -> Tensor:
    return features.of(labels).nan_to_num(nan=-1)


def test_newer_vectors_replace_older_ones():
    old = features_of([{"a": [1], "b": [2]}, {"a": [3]}])
    new = features_of([{"b": [5], "c": [6]}, {"b": [7]}])
    merged = old.merged(new, "here")
    assert rows(merged, ["a", "b", "c"]).tolist() == [[1, 3], [5, 7], [6, -1]]
    with pytest.raises(DataError, match=r"here: the features have 1 numbers, .* with 1 \+ 1"):
        old.merged(features_of({"a": [1]}), "here")


def test_features_are_stored_and_ordered():
    features = features_of([{"a": [1], "é": [2]}, {"a": [3], "": [4]}])
    ordered = features.ordered(["x", "é"])
    assert ordered.labels.to_pylist()[:2] == ["x", "é"]
    assert ordered.of(["x", "é"]).data_ptr() == ordered.table.data_ptr()  # no copy
    again = Features.from_tensors(ordered.tensors(), ordered.widths)
    assert again.fingerprint == ordered.fingerprint != features.fingerprint
    labels = ["a", "é", "", "x"]
    assert torch.equal(rows(again, labels), rows(features, labels))
    tensors = ordered.tensors()
    for broken in (
        {"ends": tensors["ends"] + 1},
        {"ends": tensors["ends"].flip(0)},
        {"table": tensors["table"][1:]},
        {"table": tensors["table"].double()},
        {"labels": tensors["labels"] | 128},
    ):
        with pytest.raises(ValueError, match=r"."):
            Features.from_tensors(tensors | broken, ordered.widths)
    with pytest.raises(ValueError, match="fit"):
        Features.from_tensors(tensors, (1, 2))
