"""The chance that any relation holds: of random pairs and of pairs with a missing fact."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from kgtool.data.answer_index import answer_index
from kgtool.data.dataset import KGDataset
from kgtool.errors import RunError
from kgtool.evaluation.tasks.relation_prediction import (
    RelationModel,
    evaluate_relations,
    fit_relations,
)
from kgtool.inference import pairs as module
from kgtool.inference.pairs import (
    PairChance,
    TripleChance,
    fit_pairs,
    held_out_relations,
    load_pairs,
    save_pairs,
)
from kgtool.inference.probability import fit_probability
from kgtool.inference.top_k import features, triple_scores
from kgtool.models.scorers import RowScorer
from tests.support.runs import Table, ring
from tests.unit.inference.test_top_k import oracle


def fitted(dataset: KGDataset, model: Table, missing: int | None = None) -> PairChance:
    probability = fit_probability(model, dataset, missing)
    assert probability is not None
    relations = fit_relations([RowScorer(model)], dataset)
    return fit_pairs(model, relations, probability, dataset)


def test_random_pairs_have_no_relation_and_held_out_ones_have_theirs():
    whole = ring()
    data = replace(whole, test=whole.test[:0])
    model = oracle(whole, whole.train, whole.valid, whole.test)
    chance = fitted(data, model)
    known = answer_index(data.filter_triples("test"), data.num_relations)
    n = data.num_entities
    every = torch.cartesian_prod(torch.arange(n), torch.arange(n))
    scores, probability = chance.of(every, data, known)
    assert scores.shape == probability.shape == (n * n, data.num_relations)
    # As many as test holds, not one per pair.
    assert float(probability.sum()) == pytest.approx(len(whole.test), rel=0.5)
    held = {(h, t) for h, _, t in whole.test.tolist()}
    is_held = torch.tensor([(h, t) in held for h, t in every.tolist()])
    assert float(probability[is_held].sum(1).mean()) > 0.5
    assert float(probability[~is_held].sum(1).mean()) < 0.1
    right = probability[whole.test[:, 0] * n + whole.test[:, 2], whole.test[:, 1]]
    assert float(right.mean()) > 0.5
    # Known facts are not new.
    facts = data.train
    assert not probability[facts[:, 0] * n + facts[:, 2], facts[:, 1]].any()
    more = fitted(data, model, 20 * len(whole.test)).of(every, data, known)[1]
    assert float(more.sum()) > 1.2 * float(probability.sum())


def test_the_fit_is_written_and_read(tmp_path):
    data = ring()
    chance = fitted(data, oracle(data, data.train, data.valid))
    save_pairs(chance, tmp_path / "pairs.safetensors")
    assert np.array_equal(load_pairs(tmp_path / "pairs.safetensors"), chance.fitted)
    (tmp_path / "pairs.safetensors").write_bytes(b"\x08" + bytes(20))
    with pytest.raises(RunError, match="damaged"):
        load_pairs(tmp_path / "pairs.safetensors")


def every_pair(dataset: KGDataset) -> torch.Tensor:
    entities = torch.arange(dataset.num_entities)
    return torch.cartesian_prod(entities, entities)


def test_a_triple_has_the_mean_log_odds_of_its_two_queries():
    data = ring()
    model = oracle(data, data.train, data.valid)
    probability = fit_probability(model, data)
    assert probability is not None
    known = answer_index(data.filter_triples("test"), data.num_relations)
    n, size = data.num_entities, data.num_relations
    pairs = every_pair(data)[:10]
    scores, chance = TripleChance.on(model, probability, data).of(pairs, data, known)
    for (h, t), row, own in zip(pairs.tolist(), scores, chance, strict=True):
        for r in range(size):
            odds = []
            for triple in ([h, r, t], [t, r + size, h]):
                x = torch.tensor([triple])
                each = triple_scores(model, x, known, n)
                each = features(model, x, each, known, num_entities=n, num_relations=size)
                share = probability.of(each, x[:, 1])[0]
                odds.append(np.log(share / (1 - share)))
            assert float(row[r]) == pytest.approx(np.mean(odds), abs=1e-6)
            assert float(own[r]) == pytest.approx(1 / (1 + np.exp(-np.mean(odds))), abs=1e-6)


def test_the_relation_of_a_missing_fact_comes_first():
    whole = ring()
    data = replace(whole, test=whole.test[:0])
    model = oracle(whole, whole.train, whole.valid, whole.test)
    known = answer_index(data.filter_triples("test"), data.num_relations)
    for probability in (fit_probability(model, data), None):
        chance = TripleChance.on(model, probability, data)
        scores, of = chance.of(whole.test[:, ::2], data, known)
        # A pair may have known relations as well, which are no new answers.
        every = [(h, r, t) for h, _, t in whole.test.tolist() for r in range(data.num_relations)]
        facts = known.contains(torch.tensor(every)).view(scores.shape)
        best = scores.masked_fill(facts, -torch.inf).argmax(1)
        assert float((best == whole.test[:, 1]).float().mean()) > 0.9
        assert bool(of.isnan().all()) == (probability is None)


def test_without_probabilities_bayes_rule_ranks_the_relations():
    data = replace(ring(), valid=ring().valid[:0])
    model = oracle(data, data.train)
    known = answer_index(data.train, data.num_relations)
    n, size = data.num_entities, data.num_relations
    pair = torch.tensor([[0, 1]])
    scores, _ = TripleChance.on(model, None, data).of(pair, data, known)
    for r in range(size):
        expected = 0.0
        for head, relation, tail, column in ((0, r, 1, 0), (1, r + size, 0, 2)):
            rows = model.score_t(torch.tensor([[head, relation]]))[0].double()
            own = [int(((data.train[:, column] == head) & (data.train[:, 1] == s)).sum())
                   for s in range(size)]  # fmt: skip
            share = (own[r] + 0.5) / (sum(own) + 0.5 * size)
            expected += float(rows.log_softmax(0)[tail]) + np.log(share)
        assert float(scores[0, r]) == pytest.approx(expected / 2, abs=1e-5)
    assert n > 2


def test_known_relations_are_scored_before_others(monkeypatch):
    data = ring()
    model = oracle(data, data.train, data.valid)
    probability = fit_probability(model, data)
    known = answer_index(data.filter_triples("test"), data.num_relations)
    pairs = every_pair(data)
    whole = TripleChance.on(model, probability, data)
    every, all_chances = whole.of(pairs, data, known)
    assert not all_chances.isnan().any()
    monkeypatch.setattr(module, "SCORED", 1)
    scores, chance_of = whole.of(pairs, data, known)
    scored = ~chance_of.isnan()
    assert scored.sum(1).tolist() == [1] * len(pairs)
    assert torch.equal(scores[scored], every[scored])
    assert bool((scores[~scored] == -torch.inf).all())
    rows = [(h, r, t) for h, t in pairs.tolist() for r in range(data.num_relations)]
    facts = known.contains(torch.tensor(rows)).view(scores.shape)
    some = facts.any(1)
    assert some.sum() > 3
    assert bool((scored & facts)[some].any(1).all())


class OneQueryAPass(RowScorer):
    """A scorer that takes a pass for each query, as a conditional model does."""

    one_query_a_pass = True


def test_an_evaluation_ranks_relations_as_predictions_do(monkeypatch):
    data = ring()
    model = OneQueryAPass(oracle(data, data.train, data.valid, data.test))
    found = evaluate_relations(held_out_relations([model], data, "test"), data)
    without = replace(data, test=data.test[:0])
    chance = TripleChance.on(model, fit_probability(model, without), data)
    known = answer_index(data.filter_triples("valid"), data.num_relations)
    expected, _ = chance.of(data.test[:, ::2], data, known)
    of_target = expected.gather(1, data.test[:, 1:2]).flatten()
    assert found.ranking.score.tolist() == pytest.approx(of_target.tolist())
    above = (expected > of_target.unsqueeze(1)).sum(1) + 1
    assert found.ranking.raw.optimistic.tolist() == above.tolist()
    assert found.weights == []
    # Relations that the model does not score are last, and tie.
    monkeypatch.setattr(module, "SCORED", 1)
    few = held_out_relations([model], data, "test").score_t(data.test[:, ::2])
    assert (few == few.min(1, keepdim=True).values).sum(1).tolist() == [
        data.num_relations - 1
    ] * len(data.test)


def test_no_test_triple_changes_the_scores_of_relations():
    data = ring()
    model = OneQueryAPass(oracle(data, data.train, data.valid))
    pairs = every_pair(data)
    ours, theirs = (
        held_out_relations([model], each, "test").score_t(pairs)
        for each in (data, replace(data, test=data.test.flip(0)[:2]))
    )
    assert torch.equal(ours, theirs)


def test_models_that_score_many_queries_a_pass_are_fitted():
    data = ring()
    model = RowScorer(oracle(data, data.train, data.valid))
    for models in ([model], [model, OneQueryAPass(model)]):
        ours = held_out_relations(models, data, "test")
        assert isinstance(ours, RelationModel)
        assert torch.equal(ours.weights, fit_relations(models, data).weights)
