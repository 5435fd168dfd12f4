"""The facts of an entity, compared with loops over all triples."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import kgtool.api.data as api
from kgtool.data.dataset import SPLITS, KGDataset, Vocabulary
from kgtool.data.facts import FactIndex
from kgtool.errors import DataError
from tests.support.runs import in_memory, ring

N, R = 6, 3
triples = st.lists(
    st.tuples(st.integers(0, N - 1), st.integers(0, R - 1), st.integers(0, N - 1)),
    max_size=30, unique=True,
)  # fmt: skip


@settings(max_examples=100, deadline=None)
@given(triples, triples, triples)
def test_facts_are_those_of_a_loop(train, valid, test):
    data = in_memory(train, valid, test, N, R)
    split: dict[tuple[int, int, int], int] = {}
    for number, part in enumerate((train, valid, test)):
        for triple in part:
            split.setdefault(triple, number)  # a triple of two splits is one fact
    degree = Counter(end for h, _, t in split for end in (h, t))
    index = FactIndex(data)
    assert index.degree.tolist() == [degree[entity] for entity in range(N)]
    for entity in range(N):
        found = index.of(entity)
        as_head = [(r, t, s) for (h, r, t), s in split.items() if h == entity]
        as_tail = [(r + R, h, s) for (h, r, t), s in split.items() if t == entity]
        assert (found.as_head, found.as_tail) == (len(as_head), len(as_tail))
        listed = [
            (group.relation, end, of)
            for group in found.by_relation
            for end, of in zip(group.entities.tolist(), group.splits.tolist(), strict=True)
        ]
        assert sorted(listed) == sorted(as_head + as_tail)
        sizes = [(group.relation >= R, -len(group.entities)) for group in found.by_relation]
        assert sizes == sorted(sizes)
        for group in found.by_relation:
            degrees = [degree[end] for end in group.entities.tolist()]
            assert degrees == sorted(degrees, reverse=True)
        others = Counter(end for _, end, _ in as_head + as_tail if end != entity)
        shared = dict(zip(found.neighbours.tolist(), found.shared.tolist(), strict=True))
        assert shared == dict(others)
        order = [(-n, -degree[e]) for e, n in shared.items()]
        assert order == sorted(order)


def test_some_splits_can_be_left_out():
    data = in_memory([(0, 0, 1)], [(0, 0, 2)], [(0, 0, 3)], 4)
    assert FactIndex(data, ("train",)).of(0).by_relation[0].entities.tolist() == [1]
    valid = FactIndex(data, ("valid", "test")).of(0).by_relation[0]
    assert [SPLITS[i] for i in valid.splits.tolist()] == ["valid", "test"]


def test_an_unknown_entity_brings_similar_ones():
    names = ("Acute myeloid leukemia", "Leukemia", "Leukemia, acute lymphoid", "Pain")
    rows = torch.tensor([[0, 0, 1], [2, 0, 3]])
    data = KGDataset("x", None, Vocabulary(names, ("r",)), rows, rows[:1], rows[1:])
    with pytest.raises(DataError) as caught:
        api.show(data, "leukemia acute")
    assert str(caught.value) == (
        "unknown entity 'leukemia acute'. Remedy: use a label of the data, such as "
        "'Acute myeloid leukemia', 'Leukemia, acute lymphoid', 'Leukemia'."
    )
    with pytest.raises(DataError, match="such as 'Pain'"):
        api.show(data, "Pian")


def test_names_and_types_are_shown(tmp_path):
    (tmp_path / "nodes.csv").write_text(
        'id,name,kind\ne000,"Zero, the first",Digit\ne001,One,Odd\n'
    )
    file = tmp_path / "nodes.csv"
    found = api.show(ring(), "Zero, the first", file, file)
    assert (found.facts.entity, found.types) == (0, ("Digit",))
    assert found.labels.shown(1) == "One"
