"""Ranks among given candidates, compared with loops; sampled ones, with their expectation."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from kgtool.data.answer_index import AnswerIndex
from kgtool.data.dataset import KGDataset, with_inverses
from kgtool.errors import ConfigError, DataError
from kgtool.evaluation.blockwise import CandidateSet
from kgtool.evaluation.candidates import Sampled, Types, parse_candidates
from kgtool.evaluation.evaluator import evaluate_model
from kgtool.evaluation.metrics import metrics_of, sampled_metrics_of
from kgtool.evaluation.ranking import Candidates, Ranking, rank_tails
from kgtool.ops import offsets_of
from tests.support.graphs import random_dataset, tuples_of
from tests.support.runs import Table, in_memory, ring


@dataclass(frozen=True, eq=False)
class FromTable:
    """Candidates from a table, by head, relation and answer."""

    table: Tensor
    name: str = "chosen"

    def choose(self, triples: Tensor, known: AnswerIndex, num_entities: int) -> CandidateSet:
        position, entity = self.table[tuple(triples.t())].nonzero(as_tuple=True)
        offsets = offsets_of(position, len(triples))
        return CandidateSet(torch.arange(len(triples)), offsets, entity, num_entities)


def mask_of(candidates: Candidates, triples: Tensor, known: AnswerIndex, n: int) -> Tensor:
    """`(len(triples), n)` bool: the candidates of each triple."""
    chosen = candidates.choose(triples, known, n)
    mask = torch.zeros(len(triples), n, dtype=torch.bool)
    for i, row in enumerate(chosen.row.tolist()):
        mine = chosen.entity[chosen.offsets[row] : chosen.offsets[row + 1]]
        assert mine.tolist() == sorted(set(mine.tolist()))
        mask[i, mine] = True
    return mask


def slow_draws(sampled: Sampled, triples: Tensor, known: AnswerIndex, n: int) -> Tensor:
    """A slow version of `mask_of`, with a row per triple: the draws must not change."""
    mask = torch.zeros(len(triples), n, dtype=torch.bool)
    answers = set(tuples_of(known.triples()))
    for triple, row in zip(triples.tolist(), mask, strict=True):
        h, r, t = triple
        free = [e for e in range(n) if e != t and (h, r, e) not in answers]
        random = np.random.default_rng([sampled.seed, *triple])
        number = min(sampled.number, len(free))
        drawn = random.choice(len(free), number, replace=False, shuffle=False)
        row[[e for e in range(n) if e not in free]] = True
        row[[free[i] for i in drawn]] = True
    return mask


def few_scores(dataset: KGDataset, seed: int) -> Tensor:
    """Scores with many ties."""
    n = dataset.num_entities
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(4, (n, 2 * dataset.num_relations, n), generator=generator).float()


def all_known(dataset: KGDataset) -> AnswerIndex:
    everything = torch.cat([dataset.train, dataset.valid, dataset.test])
    triples = with_inverses(everything, dataset.num_relations)
    return AnswerIndex(triples, 2 * dataset.num_relations)


def ranked(
    dataset: KGDataset, scores: Tensor, candidates: Candidates | None, chunk: int | None = None
) -> Ranking:
    queries = with_inverses(torch.cat([dataset.test, dataset.train[:20]]), dataset.num_relations)
    return rank_tails(
        Table(scores), queries, all_known(dataset), dataset.num_entities, chunk_size=chunk,
        candidates=candidates,
    )  # fmt: skip


def same(one: Ranking, other: Ranking) -> bool:
    return all(
        torch.equal(getattr(getattr(one, kind), name), getattr(getattr(other, kind), name))
        for kind in ("filtered", "raw")
        for name in ("better", "equal", "candidates")
    )


@settings(deadline=None, max_examples=15)
@given(st.integers(0, 50), st.floats(0, 1), st.sampled_from([None, 1, 7]))
def test_ranks_are_those_of_a_loop(seed, share, chunk):
    dataset = random_dataset(seed % 5)
    scores, n = few_scores(dataset, seed), dataset.num_entities
    shape = (n, 2 * dataset.num_relations, n, n)
    table = torch.rand(shape, generator=torch.Generator().manual_seed(seed)) < share
    found = ranked(dataset, scores, FromTable(table), chunk)
    known = set(tuples_of(all_known(dataset).triples()))
    queries = with_inverses(torch.cat([dataset.test, dataset.train[:20]]), dataset.num_relations)
    for i, (h, r, t) in enumerate(queries.tolist()):
        for ranks, filtered in ((found.filtered, True), (found.raw, False)):
            others = [
                e for e in range(n)
                if e != t and bool(table[h, r, t, e]) and not (filtered and (h, r, e) in known)
            ]  # fmt: skip
            above = sum(bool(scores[h, r, e] > scores[h, r, t]) for e in others)
            level = sum(bool(scores[h, r, e] == scores[h, r, t]) for e in others)
            assert (int(ranks.better[i]), int(ranks.equal[i])) == (above, level)
            assert int(ranks.candidates[i]) == len(others) + 1


def test_all_entities_as_candidates_are_a_full_ranking():
    dataset = random_dataset(0)
    scores, n = few_scores(dataset, 0), dataset.num_entities
    everyone = torch.ones(n, 2 * dataset.num_relations, n, n, dtype=torch.bool)
    full = ranked(dataset, scores, None)
    assert same(ranked(dataset, scores, FromTable(everyone)), full)
    assert same(ranked(dataset, scores, Sampled(n)), full)  # more than there are
    assert not same(ranked(dataset, scores, Sampled(2)), full)


def test_draws_are_what_they_should_be():
    dataset = random_dataset(1)
    known, n = all_known(dataset), dataset.num_entities
    triples = with_inverses(dataset.test, dataset.num_relations)
    answers = set(tuples_of(known.triples()))
    times = torch.zeros(len(triples), n)
    for seed in range(400):
        mask = mask_of(Sampled(3, seed), triples, known, n)
        times += mask
    for (h, r, t), row in zip(triples.tolist(), times, strict=True):
        right = [e == t or (h, r, e) in answers for e in range(n)]
        free = right.count(False)
        for e, count in enumerate(row.tolist()):
            # Known answers are candidates of the unfiltered ranks; others are drawn equally often.
            expected = 400 if right[e] else 400 * min(3 / free, 1)
            assert count == pytest.approx(expected, abs=45 if not right[e] else 0)
    one = mask_of(Sampled(3), triples, known, n)
    assert torch.equal(one, mask_of(Sampled(3), triples, known, n))
    assert torch.equal(one.flip(0), mask_of(Sampled(3), triples.flip(0), known, n))
    assert not torch.equal(one, mask_of(Sampled(3, 1), triples, known, n))
    for sampled in (Sampled(1), Sampled(3, 1), Sampled(n)):
        slow = slow_draws(sampled, triples, known, n)
        assert torch.equal(mask_of(sampled, triples, known, n), slow)


def test_of_no_triples_nothing_is_chosen():
    dataset = random_dataset(1)
    none = torch.empty(0, 3, dtype=torch.long)
    for candidates in (Sampled(3), Types.of(dataset)):
        chosen = candidates.choose(none, all_known(dataset), dataset.num_entities)
        assert (len(chosen.row), len(chosen.entity)) == (0, 0)


@pytest.mark.parametrize("number", [1, 4])
def test_the_mean_of_draws_is_the_expectation(number):
    dataset = ring()
    scores = torch.rand(24, 6, 24, generator=torch.Generator().manual_seed(2))
    expected = sampled_metrics_of(ranked(dataset, scores, None).filtered, number, (1, 3))
    drawn = [
        metrics_of(ranked(dataset, scores, Sampled(number, seed)).filtered, (1, 3))["realistic"]
        for seed in range(60)
    ]
    for metric, value in expected.items():
        values = torch.tensor([found[metric] for found in drawn], dtype=torch.double)
        error = float(values.std()) / len(values) ** 0.5
        assert float(values.mean()) == pytest.approx(value, abs=4 * error + 1e-9)


def test_types_are_what_train_has_on_that_side():
    dataset = random_dataset(3)
    edges = tuples_of(with_inverses(dataset.train, dataset.num_relations))
    queries = with_inverses(dataset.test, dataset.num_relations)
    mask = mask_of(Types.of(dataset), queries, all_known(dataset), dataset.num_entities)
    for (_, relation, _), row in zip(queries.tolist(), mask, strict=True):
        expected = {t for _, r, t in edges if r == relation}
        assert set(row.nonzero().flatten().tolist()) == expected
    # An answer that train has never shown there is a candidate all the same.
    found = ranked(dataset, few_scores(dataset, 1), Types.of(dataset)).raw
    strange = ~mask[torch.arange(len(queries)), queries[:, 2]]
    assert bool(strange.any())
    sizes = mask.sum(1) + strange
    n = len(dataset.test)
    assert found.candidates[:n].tolist() == sizes[:n].tolist()


def test_an_evaluation_is_named_after_its_candidates():
    dataset = ring()
    model = Table(torch.rand(24, 6, 24, generator=torch.Generator().manual_seed(0)))
    full, sampled = (
        evaluate_model(model, dataset, candidates=chosen) for chosen in (None, Sampled(5))
    )
    assert (full.candidates, sampled.candidates) == ("all", "sampled-5")
    assert sampled.mrr > full.mrr
    assert sampled.sampled == {}
    assert sampled.to_dict()["candidates"] == "sampled-5"
    assert bool((sampled.ranking.filtered.candidates == 6).all())


def test_words_for_candidates():
    dataset = ring()
    assert parse_candidates("all", dataset) is None
    assert parse_candidates("sampled:500", dataset) == Sampled(500)
    assert isinstance(parse_candidates("types", dataset), Types)
    for wrong in ("", "some", "sampled", "sampled:", "sampled:-1", "types:"):
        with pytest.raises(ConfigError, match="sampled:NUMBER"):
            parse_candidates(wrong, dataset)


def test_given_types_widen_what_train_has_shown(tmp_path):
    # The tails of r000 in train are e003 and e004; e005 shares a type with e003, e006 has another.
    dataset = in_memory([(0, 0, 3), (1, 0, 4), (2, 1, 6)], [], [], 8, 2)
    file = tmp_path / "types.tsv"
    file.write_text("e003\tplace\ne003\tcity\ne005\tcity\ne006\tperson\nelsewhere\tcity\n")
    types = parse_candidates(f"types:{file}", dataset)
    assert isinstance(types, Types)
    found = types.of_relations(torch.tensor([0, 1, 2]))
    assert [row.nonzero().flatten().tolist() for row in found] == [[3, 4, 5], [6], [0, 1]]
    asked = torch.tensor([(0, 2, 0), (1, 0, 7), (5, 2, 3)])
    chosen = mask_of(types, asked, all_known(dataset), 8)
    assert torch.equal(chosen, types.of_relations(torch.tensor([2, 0, 2])))
    with pytest.raises(DataError, match=r"gone\.tsv"):
        parse_candidates("types:gone.tsv", dataset)
    file.write_text("e003\n")
    with pytest.raises(DataError, match="line 1: 'e003' is not a label and its type"):
        parse_candidates(f"types:{file}", dataset)
