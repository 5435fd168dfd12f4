"""Data sets from Python objects in a notebook."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import dgl
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import scipy.sparse
import torch

import kgtool
from kgtool.data.dataset import SPLITS, KGDataset
from kgtool.errors import DataError


class Named(NamedTuple):
    relation: str
    tail: str
    head: str


TRIPLES = [("b", "s", "NA"), ("a", "r", "b"), ("b", "s", "NA"), ("1e5", "r", "a")]
DISTINCT = [TRIPLES[0], TRIPLES[1], TRIPLES[3]]


def labelled(data: KGDataset, split: str = "train") -> list[tuple[str, str, str]]:
    names = data.vocabulary
    return [
        (names.entities[h], names.relations[r], names.entities[t])
        for h, r, t in data.split(split).tolist()
    ]


@pytest.mark.parametrize(
    "given",
    [
        pytest.param(TRIPLES, id="tuples"),
        pytest.param([list(triple) for triple in TRIPLES], id="lists"),
        pytest.param(np.array(TRIPLES), id="array"),
        pytest.param(np.array(TRIPLES, dtype=object), id="array of objects"),
        pytest.param(pd.DataFrame(TRIPLES), id="frame"),
        pytest.param(
            {
                "t": [t for _, _, t in TRIPLES],
                "h": ["b", "a", "b", "1e5"],
                "r": [r for _, r, _ in TRIPLES],
            },
            id="columns",
        ),
        pytest.param(
            [
                dict(zip(("tail", "head", "relation"), (t, h, r), strict=True))
                for h, r, t in TRIPLES
            ],
            id="dictionaries",
        ),
        pytest.param([Named(r, t, h) for h, r, t in TRIPLES], id="named tuples"),
        pytest.param(iter(TRIPLES), id="iterator"),
        pytest.param(pd.Series(TRIPLES), id="series of tuples"),
        pytest.param(np.array(TRIPLES, dtype="U3"), id="array of texts"),
        pytest.param(
            np.array(
                [(r, t, h) for h, r, t in TRIPLES], dtype=[("p", "U3"), ("o", "U3"), ("s", "U3")]
            ),
            id="structured",
        ),
        pytest.param(
            pa.table(
                {
                    "Target": [t for _, _, t in TRIPLES],
                    "Type": [r for _, r, _ in TRIPLES],
                    "Weight": [1.0] * 4,
                    "Source": [h for h, _, _ in TRIPLES],
                }
            ),
            id="arrow",
        ),
        pytest.param(
            pd.DataFrame(TRIPLES, columns=["head", "relation", "tail"], dtype="string"),
            id="pandas strings",
        ),
        pytest.param(
            pd.DataFrame(TRIPLES, columns=["head", "relation", "tail"], dtype="category"),
            id="categories",
        ),
        pytest.param(
            pd.DataFrame(TRIPLES, columns=["head", "relation", "tail"]).assign(
                type="x", label="y", source="z", target="w"
            )[["type", "source", "target", "tail", "label", "head", "relation"]],
            id="head, relation, tail among other known names",
        ),
        pytest.param(
            pd.DataFrame(TRIPLES, columns=["Subject", "Predicate", "Object"])[
                ["Object", "Subject", "Predicate"]
            ],
            id="by name",
        ),
        pytest.param(
            pd.DataFrame(TRIPLES, columns=["head", "relation", "tail"]).assign(w=1.5)[
                ["w", "tail", "head", "relation"]
            ],
            id="by name among others",
        ),
    ],
)
def test_labels_come_as_they_stand(given):
    data = kgtool.dataset_of(given, valid=TRIPLES[:1], name="mine")
    assert labelled(data) == DISTINCT
    assert labelled(data, "valid") == TRIPLES[:1]
    assert (data.name, data.path, data.test.shape) == ("mine", None, (0, 3))
    assert data.vocabulary.entities == ("1e5", "NA", "a", "b")
    assert all(data.split(split).dtype == torch.int64 for split in SPLITS)


IDS = [(0, 1, 2), (10, 0, 2)]


@pytest.mark.parametrize("given", [IDS, np.array(IDS), torch.tensor(IDS), pd.DataFrame(IDS)])
def test_ids_become_labels(given):
    data = kgtool.dataset_of(given)
    assert labelled(data) == [("0", "1", "2"), ("10", "0", "2")]
    names = [f"e{i}" for i in range(11)]
    data = kgtool.dataset_of(given, entities=names, relations=["r", "s"])
    assert labelled(data) == [("e0", "s", "e2"), ("e10", "r", "e2")]
    with pytest.raises(DataError, match="train, row 2: the head 10 has no label among 3"):
        kgtool.dataset_of(given, entities=names[:3])


def test_a_dgl_heterograph():
    graph = dgl.heterograph(
        {
            ("drug", "treats", "disease"): ([0, 1], [1, 0]),
            ("drug", "like", "drug"): ([0], [1]),
            ("disease", "like", "disease"): ([1], [0]),
        }
    )
    assert sorted(labelled(kgtool.dataset_of(graph))) == [
        ("disease:1", "disease/like/disease", "disease:0"),
        ("drug:0", "drug/like/drug", "drug:1"),
        ("drug:0", "treats", "disease:1"),
        ("drug:1", "treats", "disease:0"),
    ]
    named = kgtool.dataset_of(graph, entities={"drug": ["x", "y"], "disease": ["p", "q"]})
    assert ("x", "treats", "q") in labelled(named)
    with pytest.raises(DataError, match="labels by node type"):
        kgtool.dataset_of(graph, entities=["x", "y"])


def test_a_dgl_graph_of_one_type():
    graph = dgl.graph(([0, 1], [1, 2]))
    with pytest.raises(
        DataError, match=r"train: the edges of the graph have no field 'edge_type'.*Remedy"
    ):
        kgtool.dataset_of(graph)
    graph.edata["kind"] = torch.tensor([1, 0])
    data = kgtool.dataset_of(graph, edge_type="kind", relations=["r", "s"])
    assert labelled(data) == [("0", "s", "1"), ("1", "r", "2")]
    graph.edata["etype"] = torch.tensor([0, 0])
    assert labelled(kgtool.dataset_of(graph)) == [("0", "0", "1"), ("1", "0", "2")]


def test_a_pytorch_geometric_graph():
    ends = torch.tensor([[0, 1], [1, 2]])
    graph = SimpleNamespace(edge_index=ends, edge_type=torch.tensor([1, 0]))
    assert labelled(kgtool.dataset_of(graph)) == [("0", "1", "1"), ("1", "0", "2")]
    with pytest.raises(DataError, match="no field 'edge_type'"):
        kgtool.dataset_of(SimpleNamespace(edge_index=ends))
    mixed = SimpleNamespace(
        edge_index_dict={("a", "to", "b"): ends, ("b", "rev_to", "a"): ends.flip(0)}
    )
    assert labelled(kgtool.dataset_of(mixed)) == [
        ("a:0", "to", "b:1"),
        ("a:1", "to", "b:2"),
        ("b:1", "rev_to", "a:0"),
        ("b:2", "rev_to", "a:1"),
    ]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (3, "train: no triples: 'int'"),
        (["abc"], "train: no triples: 'list'"),
        ([], "train: no triples"),
        ([("a", "r", "b"), ("a", "r")], "train, row 2: 2 values where 3 are expected"),
        ([("a", "r", None)], "train, row 1: the tail is missing: None"),
        ([("a", "r", pd.NA)], "train, row 1: the tail is missing: <NA>"),
        ([("a", True, "b")], "train, row 1: the relation is 'True', neither a string"),
        ([("a", b"r", "b")], "train, row 1: the relation is \"b'r'\", neither a string"),
        (
            torch.eye(3),
            "train, row 1: the head is '1.0', neither a string nor an integer. "
            "Remedy: make ids integers",
        ),
        ([("a", 1.5, "b")], "train, row 1: the relation is '1.5', neither a string"),
        (
            pd.DataFrame({"h": ["a", float("nan")], "r": "r", "t": "b"}),
            "row 2: the head is missing",
        ),
        (pd.DataFrame({"h": ["a"], "r": ["r"]}), "train: 2 columns where 3 are expected"),
        ([("a", "r", "b\tc")], "train, row 1: a tab in the tail"),
        ([("a", "r", "b"), ("a", "\ud800", "b")], "row 2: a lone surrogate in the relation"),
        ([("a", "r", " ")], "train, row 1: a blank tail"),
        ([(-1, 0, 1)], "train, row 1: the head -1 is below 0"),
        (torch.tensor([(0, 0, 1), (0, -1, 1)]), "train, row 2: the relation -1 is below 0"),
        ("my-graph", "train: the text 'my-graph'"),
        (Path("my-graph"), "read files with kgtool.load_dataset"),
        ({"train": "a", "test": "b"}, "train: 2 columns where 3 are expected"),
        ({"head": ["a"], "relation": ["r", "s"], "tail": ["b"]}, "columns of one length"),
        ([{"head": "a", "relation": "r"}], "train: 2 columns where 3 are expected"),
        ([{"head": "a", "relation": "r", "tail": "b"}, {"head": "a"}], "row 2: the relation is mi"),
        ([{"head": "a", "relation": "r", "tail": "b"}, TRIPLES[0]], "row 2: some rows have names"),
        ([{"from": "a", "how": "r", "to": "b"}], "do not show head, relation and tail: 'from', "),
        (pd.DataFrame(TRIPLES, columns=["x", "y", "z"]), "rename the columns to head, relation"),
        (pd.DataFrame(TRIPLES).assign(w=1), "do not show head, relation and tail"),
        (pd.DataFrame([(*TRIPLES[0], 1)]), "train: 4 columns without names where 3 are expected"),
        (pd.DataFrame([TRIPLES[0] * 2], columns=["s", "p", "o", "h", "r", "t"]), "choose three"),
        (
            pd.DataFrame([(*TRIPLES[0], "b")], columns=["head", "relation", "tail", "tail"]),
            "several columns may be head, relation and tail",
        ),
        (
            np.zeros((3, 5), int),
            "train: an array of the shape (3, 5) where (n, 3) is expected. "
            "Remedy: turn rows into columns, as in triples.T",
        ),
        (torch.zeros(2, 5, dtype=torch.long), "give a graph that has edge_index and edge_type"),
        (np.zeros(3, int), "an array of the shape (3,)"),
        (np.zeros((1, 3, 3), int), "an array of the shape (1, 3, 3)"),
        ((np.arange(3), np.arange(3), np.arange(3)), "three arrays, which may be columns or rows"),
        (kgtool.dataset_of(TRIPLES), "train: a data set where triples are expected"),
        (torch.eye(3).to_sparse(), "train: no triples: 'Tensor'"),
        (scipy.sparse.eye_array(3), "train: no triples: 'dia_array'"),
        (SimpleNamespace(edge_index_dict={"r": torch.zeros(2, 1)}), "train: the edge type \"'r'\""),
        (pd.DataFrame(columns=["head", "relation", "tail"]), "train: no triples. Remedy: give"),
        (pd.Series(["a", "r", "b"], dtype=object), "train: no triples: 'Series'"),
    ],
)
def test_what_is_no_triple_is_named(given, message):
    with pytest.raises(DataError) as caught:
        kgtool.dataset_of(given)
    assert message in str(caught.value)
    assert "Remedy: " in str(caught.value)


ENDS = torch.tensor([[0, 1, 2, 0, 1, 2], [1, 2, 0, 2, 0, 1]])


@pytest.mark.parametrize(
    ("index", "kinds", "message"),
    [
        (ENDS, torch.zeros(3, dtype=torch.long), "edge_type: 3 relations for 6 edges"),
        (ENDS, torch.zeros(6), "edge_type: the type float32 where integers are expected"),
        (ENDS, torch.zeros(6, dtype=torch.bool), "edge_type: the type bool"),
        (ENDS, torch.zeros(6, 1, dtype=torch.long), "Remedy: pass edge_type.squeeze(1)"),
        (ENDS, torch.eye(6, dtype=torch.long), "for one-hot rows, edge_type.argmax(1)"),
        (ENDS, torch.eye(6), "or .argmax(1) for one-hot rows"),
        (ENDS, torch.tensor(0), "edge_type: the shape ()"),
        (ENDS, ["r"] * 6, "edge_type: a list that is not an array of integers"),
        (ENDS, torch.tensor([0, 0, 0, 0, 0, -1]), "the relation -1 is below 0"),
        (ENDS.t(), torch.zeros(6, dtype=torch.long), "Remedy: pass edge_index.t()"),
        (ENDS[0], torch.zeros(6, dtype=torch.long), "edge_index: the shape (6,)"),
        (ENDS.float(), torch.zeros(6, dtype=torch.long), "edge_index: the type float32"),
        (-ENDS, torch.zeros(6, dtype=torch.long), "train: the entity -1 is below 0"),
        (ENDS[:, :3], torch.zeros(2, dtype=torch.long), "edge_type: 2 relations for 3 edges"),
    ],
)
def test_a_graph_whose_edges_do_not_fit_is_named(index, kinds, message):
    for graph in (
        SimpleNamespace(edge_index=index, edge_type=kinds),
        SimpleNamespace(edge_index=np.asarray(index), edge_type=np.asarray(kinds)),
    ):
        if "a list" in message:
            graph.edge_type = list(graph.edge_type)
        with pytest.raises(DataError) as caught:
            kgtool.dataset_of(graph)
        assert message in str(caught.value)
        assert "Remedy: " in str(caught.value)


def test_a_dgl_graph_whose_edges_do_not_fit_is_named():
    graph = dgl.graph(([0, 1], [1, 2]))
    for values, message in (
        (torch.zeros(2), "etype: the type float32"),
        (torch.zeros(2, 1, dtype=torch.long), "pass etype.squeeze"),
        (torch.eye(2, dtype=torch.long), "etype.argmax"),
        (torch.tensor([0, -1]), "the relation -1 is below 0"),
    ):
        graph.edata["etype"] = values
        with pytest.raises(DataError, match=re.escape(message)):
            kgtool.dataset_of(graph)
    graph.edata["etype"] = torch.tensor([0, 0])
    graph.edata["train_mask"] = torch.ones(2, 1)
    with pytest.raises(DataError, match="train_mask: the shape"):
        kgtool.dataset_of(graph)


def test_the_splits_of_a_graph_of_pytorch_geometric():
    """As `RelLinkPredDataset` has them: `edge_index` also has the inverse edges."""
    kinds = torch.tensor([0, 1, 0, 1, 0, 1])
    graph = SimpleNamespace(edge_index=ENDS, edge_type=kinds)
    for split, part in (("train", slice(0, 4)), ("valid", slice(4, 5)), ("test", slice(5, 6))):
        setattr(graph, f"{split}_edge_index", ENDS[:, part])
        setattr(graph, f"{split}_edge_type", kinds[part])
    data = kgtool.dataset_of(graph)
    assert [len(data.split(split)) for split in SPLITS] == [4, 1, 1]
    assert labelled(data, "test") == [("2", "1", "1")]


LABELS: Any = [
    ["x", "y", "z"],
    ("x", "y", "z"),
    np.array(["x", "y", "z"]),
    pd.Series(["x", "y", "z"]),
    pd.Index(["x", "y", "z"]),
    {"z": 2, "x": 0, "y": 1},
    {0: "x", 1: "y", 2: "z"},
    {0: "x", 1: "y", 2: "z", 70: "beyond"},
]


@pytest.mark.parametrize("labels", LABELS, ids=lambda labels: type(labels).__name__)
def test_labels_of_ids_come_in_several_forms(labels):
    data = kgtool.dataset_of([(0, 1, 2), (1, 0, 0)], entities=labels, relations=labels)
    assert labelled(data) == [("x", "y", "z"), ("y", "x", "x")]
    graph = SimpleNamespace(edge_index=ENDS[:, :2], edge_type=torch.tensor([1, 0]))
    assert labelled(kgtool.dataset_of(graph, entities=labels, relations=labels)) == [
        ("x", "y", "y"),
        ("y", "x", "z"),
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"entities": ["x", "x", "y"]}, "entities: the ids 0 and 1 have the same label 'x'"),
        ({"relations": ["r", "r"]}, "relations: the ids 0 and 1 have the same label 'r'"),
        ({"relations": {"r": 0, "s": 0}}, "relations: 'r' and 's' have the same id 0"),
        ({"relations": {"r": 0}}, "the relation 1 has no label among 1"),
        ({"relations": {"r": "s"}}, "relations: a dictionary that has no ids"),
        ({"entities": ["x", None, "y"]}, "entities: the label of id 1 is 'None', not a string"),
        ({"entities": ["x", float("nan"), "y"]}, "the label of id 1 is 'nan', not a string"),
        ({"entities": "xyz"}, "entities: the type str where labels are expected"),
        ({"entities": {"x", "y", "z"}}, "entities: the type set where labels are expected"),
        ({"entities": pd.DataFrame({"x": ["a"]})}, "entities: the type DataFrame where labels"),
        ({"entities": 3}, "entities: the type int where labels are expected"),
        ({"entities": {"drug": ["x", "y", "z"]}}, "labels by node type need a graph"),
        ({"entities": ["x", "y", ""]}, "an empty tail"),
        ({"edge_type": "kind"}, "edge_type: names an edge field, but the triples are not a graph"),
        ({"edge_type": torch.zeros(3)}, "edge_type: the type Tensor where a name is expected"),
        ({"name": 3}, "name: the type int where a name is expected"),
    ],
)
def test_labels_that_do_not_fit_are_named(arguments, message):
    with pytest.raises(DataError) as caught:
        kgtool.dataset_of([(0, 1, 2), (1, 0, 0)], **arguments)
    assert message in str(caught.value)
    assert "Remedy: " in str(caught.value)


def test_texts_must_be_among_the_labels():
    assert labelled(kgtool.dataset_of([("x", "r", "y")], entities=["x", "y"])) == [("x", "r", "y")]
    with pytest.raises(DataError, match="row 1: the tail 'b' is not among the 2 given labels"):
        kgtool.dataset_of([("x", "r", "b")], entities=["x", "y"])


def test_labels_by_node_type_that_do_not_fit_are_named():
    graph = dgl.heterograph(
        {("drug", "treats", "disease"): ([0], [0]), ("drug", "like", "drug"): ([0], [1])}
    )
    for arguments, message in (
        ({"entities": {"drug": ["a", "b"], "disease": ["b"]}}, "both have the label 'b'"),
        ({"entities": {"drgu": ["a", "b"]}}, "no nodes of the type 'drgu'. Remedy: did you mean"),
        ({"entities": {"drug": ["a"]}}, "the entity 1 has no label among 1"),
        ({"relations": ["one"]}, "relations: 1 labels for 2 edge types"),
    ):
        with pytest.raises(DataError, match=re.escape(message)):
            kgtool.dataset_of(graph, **arguments)
    named = kgtool.dataset_of(graph, entities={"drug": {"a": 0, "b": 1}})
    assert ("a", "treats", "disease:0") in labelled(named)


def test_a_set_of_triples_does_not_depend_on_its_order():
    assert (
        kgtool.dataset_of(set(TRIPLES)).fingerprint
        == kgtool.dataset_of(sorted(set(TRIPLES))).fingerprint
    )
