"""Data sets from Python objects in a notebook."""

from __future__ import annotations

from types import SimpleNamespace

import dgl
import numpy as np
import pandas as pd
import pytest
import torch

import kgtool
from kgtool.data.dataset import SPLITS, KGDataset
from kgtool.errors import DataError

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
        pytest.param(pd.DataFrame(TRIPLES, columns=["x", "y", "z"]).assign(w=1), id="first three"),
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
        ([("a", "r", None)], "train, row 1: the tail is 'None', neither a string"),
        ([("a", 1.5, "b")], "train, row 1: the relation is '1.5', neither a string"),
        (pd.DataFrame({"h": ["a", float("nan")], "r": "r", "t": "b"}), "row 2: the head is 'nan'"),
        (pd.DataFrame({"h": ["a"], "r": ["r"]}), "train: 2 columns where 3 are expected"),
        ([("a", "r", "b\tc")], "train, row 1: a tab in the tail"),
        ([("a", "r", "b"), ("a", "\ud800", "b")], "row 2: a lone surrogate in the relation"),
        ([("a", "r", " ")], "train, row 1: a blank tail"),
        ([(-1, 0, 1)], None),
    ],
)
def test_what_is_no_triple_is_named(given, message):
    if message is None:
        assert labelled(kgtool.dataset_of(given)) == [("-1", "0", "1")]
        return
    with pytest.raises(DataError) as caught:
        kgtool.dataset_of(given)
    assert message in str(caught.value)
    assert "Remedy: " in str(caught.value)
