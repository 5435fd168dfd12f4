"""Ranking in blocks of entities, compared with loops and with whole rows of scores."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from kgtool.data.answer_index import AnswerIndex
from kgtool.data.dataset import KGDataset, with_inverses
from kgtool.errors import ScoreError
from kgtool.evaluation import ranking
from kgtool.evaluation.candidates import Sampled, Types
from kgtool.evaluation.ensemble import WEIGHTS, Ensemble, fit_ensemble
from kgtool.evaluation.ranking import Candidates, Ranking, Ranks, rank_tails
from kgtool.models.path_gru import OnePathDecoder
from kgtool.models.scorers import EmbeddingScorer, Scorer, as_scorer
from tests.support.graphs import random_dataset, tuples_of
from tests.support.runs import Table

ENTITIES, RELATIONS = 30, 4  # relation ids, inverses counted


@dataclass(frozen=True, eq=False)
class BlockTable(Table, Scorer):
    """A table whose entities are scored in blocks; it notes how many at a time.

    Attributes:
        wobble: this number, times the width of a block, is added to the block's scores. So their
            bits depend on the shape of blocks.
    """

    in_blocks = True
    wobble: float = 0.0
    asked: list[tuple[int, int]] = field(default_factory=list)

    def block_scores(self, hr: Tensor) -> Callable[[slice | Tensor], Tensor]:
        rows = self.scores[hr[:, 0], hr[:, 1]]

        def score(entities: slice | Tensor) -> Tensor:
            found = rows[:, entities]
            self.asked.append((found.shape[0], found.shape[1]))
            return found + self.wobble * found.shape[1]

        return score


def few_scores(seed: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Scores with many ties."""
    generator = torch.Generator().manual_seed(seed)
    shape = (ENTITIES, RELATIONS, ENTITIES)
    return torch.randint(4, shape, generator=generator).to(dtype)


def some_triples(seed: int, count: int = 40) -> Tensor:
    """`(count, 3)`: with few heads, so that queries repeat and have several answers."""
    generator = torch.Generator().manual_seed(seed)
    high = torch.tensor([5, RELATIONS, ENTITIES])
    return (torch.rand(count, 3, generator=generator) * high).long()


def same(one: Ranking, other: Ranking) -> bool:
    return all(
        torch.equal(getattr(getattr(one, kind), name), getattr(getattr(other, kind), name))
        for kind in ("filtered", "raw")
        for name in ("better", "equal", "candidates")
    ) and torch.equal(one.score, other.score)


def slow_ranks(scores: Tensor, triples: Tensor, known: Tensor, filtered: bool) -> Ranks:
    """A slow version with loops, in float64."""
    answers, found = set(tuples_of(known)), []
    for h, r, t in triples.tolist():
        row = scores[h, r].double().tolist()
        others = [e for e in range(len(row)) if e != t and not (filtered and (h, r, e) in answers)]
        better = sum(row[e] > row[t] for e in others)
        found.append((better, sum(row[e] == row[t] for e in others), len(others) + 1))
    return Ranks(*torch.tensor(found).t())


def in_blocks(monkeypatch: pytest.MonkeyPatch, queries: int, width: int) -> None:
    """Rank with given sizes of chunks and blocks, also if the graph is small."""
    monkeypatch.setattr(ranking, "ENOUGH_ROWS", 10**9)
    monkeypatch.setattr(ranking, "QUERIES", queries)
    monkeypatch.setattr(ranking, "CHOOSING_QUERIES", queries)
    monkeypatch.setattr(ranking, "BLOCK_BYTES", 4 * queries * width)


@settings(deadline=None, max_examples=25)
@given(
    st.integers(0, 99), st.integers(3, 50), st.integers(2, 40),
    st.sampled_from([torch.float32, torch.float64]), st.sampled_from([0.0, 0.5]),
)  # fmt: skip
def test_ranks_in_blocks_are_those_of_a_loop(seed, queries, width, dtype, wobble):
    scores, triples, known = few_scores(seed, dtype), some_triples(seed), some_triples(seed, 90)
    model = BlockTable(scores, wobble)
    with pytest.MonkeyPatch.context() as patch:
        in_blocks(patch, queries, width)
        found = rank_tails(model, triples, AnswerIndex(known, RELATIONS), ENTITIES)
    for ranks, filtered in ((found.filtered, True), (found.raw, False)):
        slow = slow_ranks(scores, triples, known, filtered)
        for name in ("better", "equal", "candidates"):
            assert torch.equal(getattr(ranks, name), getattr(slow, name)), name
    assert max(k for _, k in model.asked if k != 512) <= width
    assert max(q for q, _ in model.asked) <= queries
    if wobble:  # all blocks were of one shape, whose scores are the ones compared
        [shift] = {float(s) for s in (found.score - scores[tuple(triples.t())].float())}
        assert shift <= wobble * width


def test_a_table_is_read_once_where_its_bits_hold_still_and_else_twice(monkeypatch):
    in_blocks(monkeypatch, 50, 10)
    triples = some_triples(0)
    for wobble, times in ((0.0, 1), (0.5, 2)):
        model = BlockTable(few_scores(0), wobble)
        rank_tails(model, triples, AnswerIndex(triples, RELATIONS), ENTITIES)
        widths = [width for _, width in model.asked]
        assert widths == [0, 512, *[10] * 3 * times]  # first what kind of numbers they are


def test_where_every_entity_is_an_answer_all_are_first_of_one(monkeypatch):
    in_blocks(monkeypatch, 7, 4)
    triples = torch.tensor([(1, 0, t) for t in range(ENTITIES)])
    found = rank_tails(BlockTable(few_scores(1)), triples, AnswerIndex(triples, 1), ENTITIES)
    assert bool((found.filtered.pessimistic == 1).all())
    assert bool((found.filtered.candidates == 1).all())
    assert bool((found.raw.candidates == ENTITIES).all())
    assert int(found.raw.better.sum()) > 0


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("place", range(0, ENTITIES, 3))
def test_a_score_that_is_not_finite_in_any_block_names_its_query(monkeypatch, value, place):
    in_blocks(monkeypatch, 7, 4)
    scores, triples = few_scores(2), some_triples(2)
    head, relation, _ = triples[17].tolist()
    scores[head, relation, place] = value
    known = AnswerIndex(some_triples(3, 90), RELATIONS)
    with pytest.raises(ScoreError, match=rf"head {head}, relation {relation}, \?"):
        rank_tails(BlockTable(scores), triples, known, ENTITIES)


def test_of_chosen_candidates_only_those_are_looked_at(monkeypatch):
    in_blocks(monkeypatch, 3, 100)
    triples = some_triples(4)
    known = AnswerIndex(triples, RELATIONS)
    model = BlockTable(few_scores(4))
    sampled = Sampled(2)
    fine = rank_tails(model, triples, known, ENTITIES, candidates=sampled)
    widest = max(width for _, width in model.asked)
    assert widest < ENTITIES
    # What no answer draws may be anything; what one draws may not.
    chosen = sampled.choose(triples, known, ENTITIES)
    scores, drawn = model.scores.clone(), torch.zeros_like(model.scores, dtype=torch.bool)
    for i, (h, r, t) in enumerate(triples.tolist()):
        drawn[h, r, chosen.entity[chosen.offsets[i] : chosen.offsets[i + 1]]] = True
        drawn[h, r, t] = True
    scores[~drawn] = torch.nan
    broken = BlockTable(scores)
    assert same(rank_tails(broken, triples, known, ENTITIES, candidates=sampled), fine)
    h, r, _ = triples[0].tolist()
    scores[h, r, chosen.entity[0]] = torch.nan
    with pytest.raises(ScoreError, match=rf"head {h}, relation {r}, \?"):
        rank_tails(broken, triples, known, ENTITIES, candidates=sampled)


def model_of(dataset: KGDataset, dim: int = 24, seed: int = 0) -> EmbeddingScorer:
    """States of ordinary values, where every other entity has a twin with its state and bias."""
    torch.manual_seed(seed)
    n = dataset.num_entities
    entities, decoder = torch.randn(n, dim), OnePathDecoder(n, dim).eval()
    with torch.no_grad():
        decoder.bias.copy_(torch.randn(n))
        entities[n // 2 :: 2] = entities[: n - n // 2 : 2]
        decoder.bias[n // 2 :: 2] = decoder.bias[: n - n // 2 : 2]
    return EmbeddingScorer(entities, torch.randn(2 * dataset.num_relations, dim), decoder)


@pytest.mark.parametrize("kind", ["all", "sampled", "types"])
@pytest.mark.parametrize("shape", [(1, 40), (5, 16), (64, 13), (64, 200), (200, 37)])
def test_a_models_ranks_are_the_same_to_the_bit_in_blocks_of_any_shape(monkeypatch, kind, shape):
    dataset = random_dataset(0, num_entities=150)
    candidates: Candidates | None = {
        "all": None, "sampled": Sampled(30), "types": Types.of(dataset),
    }[kind]  # fmt: skip
    triples = with_inverses(torch.cat([dataset.test, dataset.train]), dataset.num_relations)
    known = AnswerIndex(triples, 2 * dataset.num_relations)
    model = model_of(dataset)

    def ranked() -> Ranking:
        return rank_tails(model, triples, known, 150, candidates=candidates)

    whole = ranked()
    assert int((whole.raw.equal > 0).sum()) > (10 if kind == "all" else 0)  # the twins
    in_blocks(monkeypatch, *shape)
    assert same(ranked(), whole)


def test_blocks_are_parts_of_whole_rows():
    dataset = random_dataset(0)
    one, other = model_of(dataset), model_of(dataset, dim=16, seed=1)
    ensemble = Ensemble(one, other, 0.3, {})
    hr = dataset.test[:3, :2]
    for model in (one, ensemble, Ensemble(ensemble, other, 0.1, {})):
        assert model.in_blocks
        score, rows = model.block_scores(hr), model.score_t(hr)
        for entities in (slice(0, 5), slice(4, None), torch.tensor([7, 2, 2])):
            torch.testing.assert_close(score(entities), rows[:, entities])
    table = as_scorer(Table(torch.rand(dataset.num_entities, 2 * dataset.num_relations, 3)))
    assert not table.in_blocks
    assert not Ensemble(one, table, 0.3, {}).in_blocks
    assert not Ensemble(table, ensemble, 0.3, {}).in_blocks


def test_an_ensemble_is_fitted_in_blocks_as_it_is_in_whole_rows(monkeypatch):
    dataset = random_dataset(1, num_entities=40)
    one, other = model_of(dataset), model_of(dataset, dim=16, seed=1)
    whole = fit_ensemble(one, other, dataset)
    in_blocks(monkeypatch, 16, 13)
    found = fit_ensemble(one, other, dataset)
    assert list(found.mrr) == list(WEIGHTS)
    assert (found.weight, found.mrr) == (whole.weight, whole.mrr)
