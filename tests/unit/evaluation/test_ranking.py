"""Ranks, compared with Python loops, with ranks by hand, and with PyKEEN."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from kgtool.data.answer_index import AnswerIndex
from kgtool.errors import ScoreError
from kgtool.evaluation.metrics import metrics_of
from kgtool.evaluation.ranking import CHUNK_BYTES, Ranks, rank_tails
from tests.support.runs import Table

Triple = tuple[int, int, int]
POLICIES = ("optimistic", "realistic", "pessimistic")


class Case:
    """A table with few distinct scores, triples to rank, and known triples."""

    def __init__(self, scores: Tensor, triples: list[Triple], known: set[Triple]) -> None:
        self.scores, self.triples, self.known = scores, triples, known

    def __repr__(self) -> str:
        return f"Case({self.scores.tolist()}, {self.triples}, {self.known})"

    def ranks(self, chunk_size: int | None = None) -> tuple[Ranks, Ranks]:
        num_entities, num_relations, _ = self.scores.shape
        known = torch.tensor(sorted(self.known), dtype=torch.long).view(-1, 3)
        ranking = rank_tails(
            Table(self.scores),
            torch.tensor(self.triples, dtype=torch.long).view(-1, 3),
            AnswerIndex(known, num_relations),
            num_entities,
            chunk_size=chunk_size,
        )
        return ranking.filtered, ranking.raw


def slow_rank(case: Case, triple: Triple, filtered: bool) -> tuple[int, float, int, int]:
    """Optimistic, realistic and pessimistic rank and the number of candidates, by a loop."""
    head, relation, tail = triple
    better = equal = 0
    candidates = 1
    for other in range(len(case.scores)):
        if other == tail or (filtered and (head, relation, other) in case.known):
            continue
        candidates += 1
        score, true = case.scores[head, relation, other], case.scores[head, relation, tail]
        better += int(score > true)
        equal += int(score == true)
    return better + 1, better + 1 + equal / 2, better + 1 + equal, candidates


@st.composite
def cases(draw: st.DrawFn) -> Case:
    entities, relations = draw(st.integers(1, 6)), draw(st.integers(1, 2))
    size = entities * relations * entities
    values = draw(st.lists(st.integers(-1, 1), min_size=size, max_size=size))
    dtype = draw(st.sampled_from([torch.float32, torch.float64]))
    scores = torch.tensor(values, dtype=dtype).view(entities, relations, entities)
    entity = st.integers(0, entities - 1)
    triple = st.tuples(entity, st.integers(0, relations - 1), entity)
    triples = draw(st.lists(triple, min_size=1, max_size=12))
    known = draw(st.sets(triple, max_size=20))
    # Mostly what is ranked is known; the definition holds where it is not, too.
    return Case(scores, triples, known | set(triples) if draw(st.booleans()) else known)


def same(left: Ranks, right: Ranks) -> bool:
    return all(
        torch.equal(getattr(left, name), getattr(right, name))
        for name in ("better", "equal", "candidates")
    )


@settings(deadline=None)
@given(cases())
def test_ranks_are_those_of_a_loop(case):
    for ranks, is_filtered in zip(case.ranks(), (True, False), strict=True):
        expected = [slow_rank(case, triple, is_filtered) for triple in case.triples]
        found = [getattr(ranks, policy).tolist() for policy in POLICIES]
        assert list(zip(*found, ranks.candidates.tolist(), strict=True)) == expected


@settings(deadline=None)
@given(cases())
def test_ranks_are_ordered(case):
    filtered, raw = case.ranks()
    for ranks in (filtered, raw):
        assert bool((ranks.optimistic >= 1).all())
        assert bool((ranks.optimistic <= ranks.realistic).all())
        assert bool((ranks.realistic <= ranks.pessimistic).all())
        assert bool((ranks.pessimistic <= ranks.candidates).all())
    for policy in POLICIES:
        assert bool((getattr(filtered, policy) <= getattr(raw, policy)).all())


@settings(deadline=None)
@given(cases(), st.randoms(use_true_random=False), st.integers(1, 13))
def test_what_ranks_do_not_depend_on(case, random, chunk_size):
    filtered, raw = case.ranks()

    def unchanged(other: Case, order: list[int] | None = None, chunk: int | None = None) -> bool:
        index = torch.tensor(range(len(case.triples)) if order is None else order)
        pairs = zip(other.ranks(chunk), (filtered, raw), strict=True)
        return all(same(found, expected[index]) for found, expected in pairs)

    assert unchanged(case, chunk=chunk_size)
    assert unchanged(Case(case.scores * 2, case.triples, case.known))

    order = list(range(len(case.triples)))
    random.shuffle(order)
    assert unchanged(Case(case.scores, [case.triples[i] for i in order], case.known), order)

    new = list(range(len(case.scores)))  # entity i becomes entity new[i]
    random.shuffle(new)
    old = torch.tensor(new).argsort()
    assert unchanged(
        Case(
            case.scores[old][:, :, old],
            [(new[h], r, new[t]) for h, r, t in case.triples],
            {(new[h], r, new[t]) for h, r, t in case.known},
        )
    )


# Worked by hand. Query (0, r0, ?): tail 1 is the answer; 2 and 3 are known too.
# scores    e0  e1  e2  e3  e4  e5
GOLDEN = [2.0, 1.0, 3.0, 1.0, 1.0, 0.0]
# raw:      above 1.0: e0, e2; level: e3, e4      -> optimistic 3, pessimistic 5 of 6
# filtered: above 1.0: e0; level: e4              -> optimistic 2, pessimistic 3 of 4


def test_ranks_worked_by_hand():
    scores = torch.zeros(6, 1, 6)
    scores[0, 0] = torch.tensor(GOLDEN)
    known = {(0, 0, 1), (0, 0, 2), (0, 0, 3), (1, 0, 4)}
    filtered, raw = Case(scores, [(0, 0, 1), (0, 0, 2), (1, 0, 4)], known).ranks()
    assert raw.optimistic.tolist() == [3, 1, 1]
    assert raw.realistic.tolist() == [4, 1, 3.5]
    assert raw.pessimistic.tolist() == [5, 1, 6]
    assert raw.candidates.tolist() == [6, 6, 6]
    assert filtered.optimistic.tolist() == [2, 1, 1]
    assert filtered.realistic.tolist() == [2.5, 1, 3.5]
    assert filtered.pessimistic.tolist() == [3, 1, 6]
    assert filtered.candidates.tolist() == [4, 4, 6]
    assert metrics_of(filtered)["realistic"] == pytest.approx(
        {
            "mrr": (1 / 2.5 + 1 + 1 / 3.5) / 3,
            "mr": 7 / 3,
            "gmr": (2.5 * 1 * 3.5) ** (1 / 3),
            "amr": (7 / 3) / ((2.5 + 2.5 + 3.5) / 3),
            "amri": 1 - (7 / 3 - 1) / ((2.5 + 2.5 + 3.5) / 3 - 1),
            "hits@1": 1 / 3,
            "hits@3": 2 / 3,
            "hits@10": 1.0,
        }
    )


@pytest.mark.parametrize("entities", [1, 2, 7])
def test_constant_scores_rank_in_the_middle(entities):
    scores = torch.full((entities, 1, entities), 0.5)
    triples = [(0, 0, tail) for tail in range(entities)]
    raw = Case(scores, triples, set(triples)).ranks()[1]
    metrics = metrics_of(raw)
    assert metrics["realistic"]["mr"] == (entities + 1) / 2
    assert metrics["realistic"]["amr"] == 1.0
    assert metrics["optimistic"]["mr"] == 1
    assert metrics["pessimistic"]["mr"] == entities


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("place", [0, 1, 3], ids=["the answer", "a known answer", "another"])
@pytest.mark.parametrize("chunk_size", [1, None])
def test_scores_that_are_not_finite_raise_and_name_the_query(value, place, chunk_size):
    scores = torch.rand(4, 3, 4, generator=torch.Generator().manual_seed(0))
    scores[2, 1, place] = value
    triples = [(0, 0, 1), (2, 1, 0), (3, 2, 2)]
    with pytest.raises(ScoreError, match=r"head 2, relation 1, \?"):
        Case(scores, triples, {*triples, (2, 1, 1)}).ranks(chunk_size)


def test_scores_of_the_wrong_shape_raise():
    with pytest.raises(ValueError, match=r"score_t gave \(1, 3\) for 1 × 4"):
        rank_tails(
            Table(torch.zeros(4, 1, 3)), torch.tensor([[0, 0, 1]]),
            AnswerIndex(torch.tensor([[0, 0, 1]]), 1), 4,
        )  # fmt: skip


def test_a_model_that_tracks_gradients_can_be_ranked():
    scores = torch.zeros(2, 1, 2, requires_grad=True)
    raw = Case(scores, [(0, 0, 1)], {(0, 0, 1)}).ranks()[1]
    assert raw.realistic.tolist() == [1.5]


def test_equal_queries_are_scored_once_and_chunks_bound_memory():
    asked: list[Tensor] = []

    class Counting(Table):
        def score_t(self, hr: Tensor) -> Tensor:
            asked.append(hr)
            return super().score_t(hr)

    entities = 5
    triples = torch.tensor([(h, 0, t) for t in range(entities) for h in range(entities)])
    model = Counting(torch.zeros(entities, 1, entities))
    known = AnswerIndex(triples, 1)
    rank_tails(model, triples, known, entities)
    assert [len(hr) for hr in asked] == [entities]
    asked.clear()
    rank_tails(model, triples, known, entities, chunk_size=2)
    assert max(len(hr) for hr in asked) <= 2
    assert CHUNK_BYTES // (4 * entities) > len(triples)  # so the first was one chunk


def test_pooling_and_picking_ranks():
    first = Ranks(*(torch.tensor(x) for x in ([0, 1], [0, 2], [9, 9])))
    second = Ranks(*(torch.tensor(x) for x in ([4], [0], [7])))
    pooled = Ranks.concatenate(first, second)
    assert pooled.realistic.tolist() == [1, 3, 5]
    assert pooled[torch.tensor([False, True, True])].candidates.tolist() == [9, 7]
    assert same(pooled[2:], second)
    assert not same(replace(second, better=torch.tensor([3])), second)


@settings(max_examples=20, deadline=None)
@given(case=cases())
def test_metrics_are_pykeens(case):
    evaluator: Any = pytest.importorskip("pykeen.evaluation").RankBasedEvaluator(filtered=True)
    triples = torch.tensor(case.triples)
    head, relation, tail = triples.unbind(1)
    scores = case.scores[head, relation].double()
    true = scores.gather(1, tail.unsqueeze(1))
    for i, (h, r, t) in enumerate(case.triples):  # PyKEEN leaves out what is NaN
        for other in range(scores.shape[1]):
            if other != t and (h, r, other) in case.known:
                scores[i, other] = float("nan")
    evaluator.process_scores_(triples, "tail", scores, true)
    theirs = evaluator.finalize()
    names = {
        "mrr": "inverse_harmonic_mean_rank",
        "mr": "arithmetic_mean_rank",
        "gmr": "geometric_mean_rank",
        "hits@1": "hits_at_1",
        "hits@3": "hits_at_3",
        "hits@10": "hits_at_10",
    }
    ranks = case.ranks()[0]
    chance = float((ranks.candidates + 1).double().mean()) / 2
    for policy, ours in metrics_of(ranks).items():
        for name, their_name in names.items():
            assert ours[name] == pytest.approx(theirs.get_metric(f"tail.{policy}.{their_name}"))
        if policy == "realistic":
            amr = theirs.get_metric("tail.realistic.adjusted_arithmetic_mean_rank")
            assert ours["amr"] == pytest.approx(amr)
            if chance > 1:
                amri = theirs.get_metric("tail.realistic.adjusted_arithmetic_mean_rank_index")
                assert ours["amri"] == pytest.approx(amri)


@settings(max_examples=50, deadline=None)
@given(case=cases())
def test_ranks_are_libkges(case):
    """A transcription of LibKGE's evaluator: ranks from 0; `num_ties` includes the answer.

    It follows `EntityRankingJob._get_ranks_and_num_ties` and `_get_ranks`, with filtered scores set
    to minus infinity. LibKGE's default, `rounded_mean_rank`, is the realistic rank, rounded up.
    """
    filtered = case.ranks()[0]
    for i, (head, relation, tail) in enumerate(case.triples):
        scores = case.scores[head, relation].clone()
        true = scores[tail].clone()
        for other in range(len(scores)):
            if other != tail and (head, relation, other) in case.known:
                scores[other] = -torch.inf
        rank, num_ties = int((scores > true).sum()), int((scores == true).sum())
        assert int(filtered.optimistic[i]) == rank + 1  # best_rank
        assert int(filtered.pessimistic[i]) == rank + num_ties - 1 + 1  # worst_rank
        assert math.ceil(float(filtered.realistic[i])) == rank + num_ties // 2 + 1
