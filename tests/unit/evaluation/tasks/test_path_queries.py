"""Path queries: the random walks and the answers, compared with enumeration."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from kgtool.data.answer_index import AnswerIndex
from kgtool.data.dataset import KGDataset, with_inverses
from kgtool.evaluation.tasks import path_queries
from kgtool.evaluation.tasks.path_queries import (
    PARTS,
    PathQueries,
    _Graphs,
    _straight,
    _walks_through,
    path_answers,
    sample_path_queries,
)
from tests.support.graphs import Triple, random_dataset, tuples_of
from tests.support.runs import in_memory, ring


def slow_answers(edges: set[Triple], head: int, path: list[int]) -> set[int]:
    """All ends of walks, found edge by edge."""
    reached = {head}
    for relation in path:
        reached = {t for h, r, t in edges if h in reached and r == relation}
    return reached


def edges_of(triples: Tensor, dataset: KGDataset) -> set[Triple]:
    return set(tuples_of(with_inverses(triples, dataset.num_relations)))


def index_of(triples: Tensor, dataset: KGDataset) -> AnswerIndex:
    return AnswerIndex(with_inverses(triples, dataset.num_relations), 2 * dataset.num_relations)


def queries_of(found: PathQueries) -> list[tuple[int, list[int], set[int], set[int]]]:
    """Head, path, answers and tested answers of each query."""
    rows = []
    for i in range(len(found)):
        own = slice(int(found.offsets[i]), int(found.offsets[i + 1]))
        answer = found.answer[own]
        assert answer.tolist() == sorted(set(answer.tolist()))
        path = found.path[i, : found.length[i]].tolist()
        asked = set(answer[found.target[own]].tolist())
        rows.append((int(found.head[i]), path, set(answer.tolist()), asked))
    return rows


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 50), st.integers(1, 5), st.sampled_from([1, 3, 256]))
def test_answers_are_those_of_enumeration(seed, length, chunk):
    dataset = random_dataset(seed)
    n = dataset.num_entities
    generator = torch.Generator().manual_seed(seed)
    head = torch.randint(n, (9,), generator=generator)
    path = torch.randint(2 * dataset.num_relations, (9, length), generator=generator)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(path_queries, "CHUNK", chunk)
        patch.setattr(path_queries, "CHUNK_EDGES", 12)  # so that large steps are parted
        position, entity = path_answers(index_of(dataset.train, dataset), head, path, n)
    edges = edges_of(dataset.train, dataset)
    expected = [
        (i, t)
        for i in range(9)
        for t in sorted(slow_answers(edges, int(head[i]), path[i].tolist()))
    ]
    assert list(zip(position.tolist(), entity.tolist(), strict=True)) == expected


def test_no_query_has_no_answer():
    dataset = random_dataset(0)
    none = torch.zeros(0, dtype=torch.long)
    found = path_answers(index_of(dataset.train, dataset), none, none.view(0, 2), 12)
    assert [len(part) for part in found] == [0, 0]


@pytest.mark.parametrize("split", ["valid", "test"])
@pytest.mark.parametrize("seed", range(4))
def test_each_query_and_its_answers(split, seed):
    dataset = random_dataset(seed)
    found = sample_path_queries(dataset, split, (1, 2, 4), count=20, seed=seed)
    whole = edges_of(dataset.filter_triples(split), dataset)
    train = edges_of(dataset.train, dataset)
    held = edges_of(dataset.split(split), dataset) - train
    asked_of = set()
    for (head, path, answers, asked), held_out in zip(
        queries_of(found), found.held_out.tolist(), strict=True
    ):
        everything, given_by_train = (slow_answers(edges, head, path) for edges in (whole, train))
        assert answers == everything
        assert asked == (everything - given_by_train if held_out else given_by_train)
        assert asked
        if held_out:  # without the split's edges it has fewer walks: some walk takes one
            assert any(r in path for _, r, _ in held)
        asked_of.add((held_out, len(path)))
    assert {(False, length) for length in (1, 2, 4)} <= asked_of
    assert (True, 2) in asked_of
    keys = [(h, *path) for h, path, _, _ in queries_of(found)]
    for held_out in (True, False):
        own = [
            key
            for key, is_held in zip(keys, found.held_out.tolist(), strict=True)
            if is_held == held_out
        ]
        assert len(own) == len(set(own))


def test_by_hand():
    # Train: a -0-> b, b -1-> c. Test: b -1-> d. From a, 0/1 leads to c, and by test to d.
    dataset = in_memory([(0, 0, 1), (1, 1, 2)], [], [(1, 1, 3)], 4, 2)
    found = sample_path_queries(dataset, "test", (2,), count=50, seed=0)
    rows = {
        (held_out, head, *path): (answers, asked)
        for (head, path, answers, asked), held_out in zip(
            queries_of(found), found.held_out.tolist(), strict=True
        )
    }
    inv0, inv1 = 2, 3
    assert rows == {
        (True, 0, 0, 1): ({2, 3}, {3}),
        (True, 3, inv1, inv0): ({0}, {0}),
        (True, 2, inv1, 1): ({2, 3}, {3}),  # train leads from c back to c, though no walk does
        (True, 3, inv1, 1): ({2, 3}, {2, 3}),
        (False, 0, 0, 1): ({2, 3}, {2}),
        (False, 2, inv1, inv0): ({0}, {0}),
    }
    assert [(d.part, d.queries) for d in found.drawn] == [("held-out", 4), ("train", 2)]
    for drawn in found.drawn:
        fates = drawn.repeated + drawn.known + drawn.too_many + drawn.queries
        assert drawn.walks == fates
        assert drawn.repeated > 0


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 30), st.integers(1, 5))
def test_walks_take_a_held_out_edge_and_only_edges(seed, length):
    dataset = random_dataset(seed)
    whole = index_of(dataset.filter_triples("test"), dataset)
    held = with_inverses(dataset.test, dataset.num_relations)
    graphs = _Graphs(whole, whole, held, dataset.num_entities, dataset.num_relations)
    nodes, relations = _walks_through(graphs, length, 30, torch.Generator().manual_seed(seed))
    edges, held_edges = edges_of(dataset.filter_triples("test"), dataset), set(tuples_of(held))
    for node, relation in zip(nodes.tolist(), relations.tolist(), strict=True):
        steps = list(zip(node[:-1], relation, node[1:], strict=True))
        assert len(steps) == length
        assert set(steps) <= edges
        assert set(steps) & held_edges


def test_walks_that_turn_back_are_left_out():
    nodes = torch.tensor([[0, 1, 0], [0, 1, 0], [0, 1, 2]])
    relations = torch.tensor([[0, 2], [0, 1], [0, 2]])
    assert _straight(nodes, relations, 2).tolist() == [[0, 0, 1], [0, 0, 2]]


def test_the_cap_is_on_all_answers_and_counted():
    dataset = random_dataset(1)
    free = sample_path_queries(dataset, "test", (3,), count=100)
    size = free.offsets.diff()
    cap = int(size.double().quantile(0.5))
    assert int(size.max()) > cap
    capped = sample_path_queries(dataset, "test", (3,), count=100, max_answers=cap)
    assert int(capped.offsets.diff().max()) <= cap
    assert all(drawn.too_many > 0 for drawn in capped.drawn)
    assert not any(drawn.too_many for drawn in free.drawn)
    none = sample_path_queries(dataset, "test", (3,), count=5, max_answers=0)
    assert len(none) == 0
    assert all(drawn.too_many > 0 for drawn in none.drawn)


def test_a_length_does_not_depend_on_the_others_and_a_seed_says_all():
    dataset = ring()
    both = sample_path_queries(dataset, "valid", (2, 4), count=15, seed=3)
    alone = sample_path_queries(dataset, "valid", (4,), count=15, seed=3)
    assert queries_of(alone) == [row for row in queries_of(both) if len(row[1]) == 4]
    assert queries_of(alone) == queries_of(
        sample_path_queries(dataset, "valid", (4,), count=15, seed=3)
    )
    assert queries_of(alone) != queries_of(
        sample_path_queries(dataset, "valid", (4,), count=15, seed=4)
    )
    assert len(both) == 4 * 15
    assert [(d.part, d.length) for d in both.drawn] == [(p, k) for k in (2, 4) for p in PARTS]


def test_valid_knows_nothing_of_test():
    dataset = random_dataset(2)
    without = in_memory(dataset.train.tolist(), dataset.valid.tolist(), [], dataset.num_entities, 3)
    found, expected = (sample_path_queries(d, "valid", count=10) for d in (dataset, without))
    assert queries_of(found) == queries_of(expected)


def test_what_train_holds_too_is_not_held_out():
    dataset = in_memory([(0, 0, 1), (1, 0, 2)], [], [(0, 0, 1)], 3)
    found = sample_path_queries(dataset, "test", (2,), count=3)
    assert not found.held_out.any()
    assert found.drawn[0].walks == 0


def test_a_split_that_holds_nothing_out():
    with pytest.raises(ValueError, match="'train' is not a held-out split"):
        sample_path_queries(ring(), "train")
    with pytest.raises(ValueError, match="the test split holds no triples"):
        sample_path_queries(in_memory([(0, 0, 1)], [], [], 2), "test")
