"""Triples and the index of known answers, compared with Python sets and dicts."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from itertools import pairwise

import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kgtool.data.answer_index import AnswerIndex, answer_index, answers_at_heads
from kgtool.data.dataset import SPLITS, Vocabulary, invert, with_inverses
from kgtool.data.labels import LabelIndex
from kgtool.data.loaders import dataset_of
from kgtool.errors import ConfigError, DataError
from tests.support.graphs import Triple, random_dataset, tensor_of, tuples_of

NUM_HEADS, NUM_RELATIONS, NUM_TAILS = 3, 2, 8  # few queries, so that some have many tails
ids = st.tuples(
    st.integers(0, NUM_HEADS - 1), st.integers(0, NUM_RELATIONS - 1), st.integers(0, NUM_TAILS - 1)
)
triple_lists = st.lists(ids, max_size=40)
# Among them the queries of a head that the index never sees.
ALL_QUERIES = [(head, r) for head in range(NUM_HEADS + 1) for r in range(NUM_RELATIONS)]


def answers_by_query(triples: list[Triple]) -> dict[tuple[int, int], list[int]]:
    tails = defaultdict(set)
    for head, relation, tail in triples:
        tails[head, relation].add(tail)
    return {query: sorted(tails[query]) for query in sorted(tails)}


@given(triple_lists)
def test_inverses(triples: list[Triple]) -> None:
    inverted = [(tail, relation + NUM_RELATIONS, head) for head, relation, tail in triples]
    given_triples = tensor_of(triples)
    before = given_triples.clone()
    assert tuples_of(invert(given_triples, NUM_RELATIONS)) == inverted
    assert tuples_of(with_inverses(given_triples, NUM_RELATIONS)) == triples + inverted
    assert torch.equal(given_triples, before)


@given(triple_lists)
def test_answer_index_holds_each_query_with_its_tails(triples: list[Triple]) -> None:
    expected = answers_by_query(triples)
    index = AnswerIndex(tensor_of(triples), NUM_RELATIONS)
    assert len(index) == len(expected)
    assert [tuple(query) for query in index.hr.tolist()] == list(expected)
    bounds = index.offsets.tolist()
    assert len(bounds) == len(expected) + 1
    assert bounds[0] == 0
    tails = [index.tails[first:last].tolist() for first, last in pairwise(bounds)]
    assert tails == list(expected.values())
    assert tuples_of(index.triples()) == sorted(set(triples))
    assert index.hr.shape == (len(expected), 2)
    assert index.hr.dtype == index.tails.dtype == index.offsets.dtype == torch.long


@given(triple_lists, st.lists(st.sampled_from(ALL_QUERIES), max_size=30))
def test_answer_index_looks_up_any_batch(
    triples: list[Triple], queries: list[tuple[int, int]]
) -> None:
    expected = answers_by_query(triples)
    index = AnswerIndex(tensor_of(triples), NUM_RELATIONS)
    rows = index.rows(torch.tensor(queries, dtype=torch.long).view(-1, 2))
    row_of = {query: row for row, query in enumerate(expected)}
    assert rows.tolist() == [row_of.get(query, -1) for query in queries]
    assert index.count(rows).tolist() == [len(expected.get(query, [])) for query in queries]

    position, slot = index.expand(rows)
    pairs = list(zip(position.tolist(), index.tails[slot].tolist(), strict=True))
    assert pairs == [
        (i, tail) for i, query in enumerate(queries) for tail in expected.get(query, [])
    ]
    # The slot is that of this query's answer, not of another with the same tail.
    assert torch.equal(index.triples()[slot][:, :2], index.hr[rows[position]])


@given(triple_lists, triple_lists)
def test_answers_at_heads_are_all_of_the_queries_and_of_few_others(
    triples: list[Triple], asked: list[Triple]
) -> None:
    queries = with_inverses(tensor_of(asked), NUM_RELATIONS)
    found = answers_at_heads(queries, tensor_of(triples), NUM_RELATIONS)
    whole = answer_index(tensor_of(triples), NUM_RELATIONS)
    assert all(map(torch.equal, found.others(queries), whole.others(queries)))
    assert set(found.hr[:, 0].tolist()) <= set(queries[:, 0].tolist())


def test_empty_answer_index() -> None:
    index = AnswerIndex(tensor_of([]), NUM_RELATIONS)
    rows = index.rows(torch.tensor([[0, 0], [4, 1]]))
    assert len(index) == 0
    assert rows.tolist() == [-1, -1]
    assert index.count(rows).tolist() == [0, 0]
    assert [part.tolist() for part in index.expand(rows)] == [[], []]
    assert index.triples().shape == (0, 3)


def test_split_by_name() -> None:
    dataset = random_dataset(0)
    assert dataset.split("valid") is dataset.valid
    for call in (dataset.split, dataset.to_frame, dataset.filter_triples):
        with pytest.raises(
            ConfigError,
            match=r"split is 'tset'\. Remedy: did you mean 'test'\? Pass one of train, valid, ",
        ):
            call("tset")
        for other in ("fingerprint", 3, ["test"]):
            with pytest.raises(ConfigError, match="pass one of train, valid, test"):
                call(other)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("entities", "message"),
    [
        (3, "entities: 3 where a tuple of labels is expected"),
        (["a"], r"entities: \['a'\] where a tuple of labels is expected"),
        ((1, 2), r"entities: \(1, 2\) where a tuple of labels is expected"),
    ],
)
def test_a_vocabulary_holds_texts(entities, message) -> None:
    with pytest.raises(DataError, match=message):
        Vocabulary(entities, ("r",))


def test_types_are_a_dictionary() -> None:
    with pytest.raises(
        DataError, match=r"types: 3 where types by label are expected\. Remedy: giv"
    ):
        dataset_of([("a", "r", "b")], types=3)  # type: ignore[arg-type]


def test_a_label_has_one_id() -> None:
    with pytest.raises(DataError, match="entities: the label 'x' has two ids"):
        _ = Vocabulary(("x", "x", "y"), ("r",)).entity_ids
    with pytest.raises(DataError, match="relations: the label 'r' has two ids"):
        _ = Vocabulary(("x",), ("s", "r", "r")).relation_ids


def test_fingerprint_is_of_labels_and_triples_alone() -> None:
    dataset = random_dataset(0)
    assert replace(dataset, name="other").fingerprint == dataset.fingerprint
    assert random_dataset(0).fingerprint == dataset.fingerprint
    # A column-major copy holds the same triples.
    assert replace(dataset, train=dataset.train.t().contiguous().t()).fingerprint == (
        dataset.fingerprint
    )

    entities, relations = dataset.vocabulary.entities, dataset.vocabulary.relations
    swapped = dataset.train.clone()
    swapped[[0, 1]] = swapped[[1, 0]]
    changed = dataset.train.clone()
    changed[0, 2] = (changed[0, 2] + 1) % dataset.num_entities
    others = [
        replace(dataset, vocabulary=Vocabulary(("new", *entities[1:]), relations)),
        replace(dataset, vocabulary=Vocabulary(entities[::-1], relations)),
        replace(dataset, vocabulary=Vocabulary(entities, ("new", *relations[1:]))),
        # A label that moves from the relations to the entities.
        replace(dataset, vocabulary=Vocabulary((*entities, "z"), relations)),
        replace(dataset, vocabulary=Vocabulary(entities, ("z", *relations))),
        # The same letters, cut elsewhere between entities and relations.
        replace(
            dataset,
            vocabulary=Vocabulary(
                (*entities[:-1], entities[-1] + relations[0][0]),
                (relations[0][1:], *relations[1:]),
            ),
        ),
        replace(dataset, train=swapped),
        replace(dataset, train=changed),
        replace(dataset, train=dataset.train[1:]),
        replace(dataset, valid=dataset.test, test=dataset.valid),
        # A triple that moves from one split to the next.
        replace(
            dataset,
            valid=torch.cat([dataset.valid, dataset.test[:1]]),
            test=dataset.test[1:],
        ),
    ]
    prints = [dataset.fingerprint, *(other.fingerprint for other in others)]
    assert len(set(prints)) == len(prints)


def test_names_of_steps() -> None:
    words = Vocabulary(("a",), ("r", "^r", "s"))
    assert words.steps == ("r", "^r", "s", "^r", "^^r", "^s")
    # A label of the data is itself.
    assert words.step_ids == {"r": 0, "^r": 1, "s": 2, "^^r": 4, "^s": 5}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"train": torch.zeros(2, 3)}, "train: triples of the type torch.float32"),
        ({"valid": [(0, 0, 0)]}, "valid: triples of the type list"),
        ({"test": torch.zeros(3, 2, dtype=torch.long)}, r"test: the shape \(3, 2\)"),
        ({"vocabulary": None}, "vocabulary: the type NoneType where labels are expected"),
        ({"test": torch.tensor([[0, 0, 99]])}, "test: the tail 99 has no label among"),
        ({"test": torch.tensor([[0, -1, 0]])}, "test: the relation -1 has no label"),
    ],
)
def test_triples_that_do_not_fit_the_labels_are_named(change, message) -> None:
    with pytest.raises(DataError, match=message):
        replace(random_dataset(0), **change)


def test_a_data_set_is_short_to_look_at() -> None:
    data = random_dataset(0, num_entities=3000, num_train=5000)
    assert repr(data) == (
        f"KGDataset('small': 3,000 entities, 3 relations; train {len(data.train):,}, "
        "valid 3, test 3)"
    )
    assert repr(data.vocabulary) == "Vocabulary(3,000 entities, 3 relations)"
    page = data._repr_html_()
    assert len(page) < 3000
    assert f"<td>{len(data.train):,}</td>" in page
    odd = replace(data, name="<b>")
    assert "<b>" not in odd._repr_html_()
    assert "&lt;b&gt;" in odd._repr_html_()


def test_a_data_set_as_a_frame() -> None:
    data = random_dataset(0)
    frame = data.to_frame()
    assert len(frame) == len(data) == sum(len(data.split(split)) for split in SPLITS)
    assert list(frame) == ["head", "relation", "tail", "split"]
    for split in SPLITS:
        own = frame[frame["split"] == split].drop(columns="split").reset_index(drop=True)
        pd.testing.assert_frame_equal(data.to_frame(split), own)
        again = LabelIndex(data.vocabulary)
        rows = [(again.entity(h), again.relation(r), again.entity(t)) for h, r, t in own.to_numpy()]
        assert rows == [tuple(triple) for triple in data.split(split).tolist()]
    empty = replace(data, valid=data.valid[:0])
    assert list(empty.to_frame("valid")) == ["head", "relation", "tail"]
