"""Answers by loops, calibrated probabilities, and the most probable triples by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.special import expit

from kgtool.data.answer_index import answer_index
from kgtool.data.dataset import KGDataset, with_inverses
from kgtool.data.statistics import LEAST_SHARE, Expected
from kgtool.errors import RunError, ScoreError
from kgtool.evaluation.candidates import Types
from kgtool.inference import probability as probability_of
from kgtool.inference.completion import Completion, _corrected, complete
from kgtool.inference.neighbours import nearest_rows
from kgtool.inference.predictor import follow
from kgtool.inference.probability import (
    LEAST_SLOPE,
    Probability,
    _sharpness,
    fit_probability,
)
from kgtool.inference.top_k import best_answers, features, forward_features, triple_scores
from kgtool.models.factory import build_model
from kgtool.models.scorers import ScoresTails
from tests.support.graphs import random_dataset
from tests.support.runs import Table, all_paths_config, in_memory, ring, tiny_config


def random(dataset: KGDataset, seed: int = 0) -> Table:
    n, generator = dataset.num_entities, torch.Generator().manual_seed(seed)
    return Table(torch.randn(n, 2 * dataset.num_relations, n, generator=generator))


def oracle(dataset: KGDataset, *splits: torch.Tensor) -> Table:
    """A scorer with high scores for the triples of given splits and their inverses."""
    model = random(dataset)
    for h, r, t in with_inverses(torch.cat(splits), dataset.num_relations).tolist():
        model.scores[h, r, t] += 8
    return model


@pytest.mark.parametrize("new", [True, False])
@pytest.mark.parametrize("typed", [True, False])
def test_the_best_answers_are_those_of_a_loop(new, typed):
    dataset = random_dataset(3)
    model = random(dataset)
    facts = {tuple(t) for t in with_inverses(dataset.train, dataset.num_relations).tolist()}
    known = answer_index(dataset.train, dataset.num_relations)
    types = Types.of(dataset)
    hr = torch.tensor([(h, r) for h in (5, 0, 3) for r in range(2 * dataset.num_relations)])
    found = best_answers(
        model, hr, known, dataset.num_entities, 4, new=new, types=types if typed else None
    )
    rows = iter(zip(found.query.tolist(), found.tail.tolist(), found.scores.tolist(), strict=True))
    for query, (h, r) in enumerate(hr.tolist()):
        scores = model.scores[h, r].double()
        unknown = [t for t in range(dataset.num_entities) if (h, r, t) not in facts]
        seen = {t for _, s, t in facts if s == r}
        ranked = unknown if new else range(dataset.num_entities)
        ranked = [t for t in ranked if not typed or t in seen]
        for tail in sorted(ranked, key=lambda t: -float(scores[t]))[:4]:
            got_query, got, said = next(rows)
            assert (got_query, got) == (query, tail)
            alone = scores[tail] - scores.logsumexp(0)
            among = scores[tail] - scores[unknown].logsumexp(0)
            assert said == pytest.approx(
                [float(scores[tail]), float(alone), float(among)], abs=1e-5
            )
    assert next(rows, None) is None
    assert found.is_known.tolist() == known.contains(found.triples(hr)).tolist()


def test_features_are_those_of_both_ends():
    dataset = random_dataset(4)
    model, r = random(dataset), dataset.num_relations
    known = answer_index(dataset.train, r)
    hr = torch.tensor([[0, 0], [1, r]])
    found = best_answers(model, hr, known, dataset.num_entities, 2)
    triples = found.triples(hr)
    x = features(
        model, triples, found.scores, known, num_entities=dataset.num_entities, num_relations=r
    )
    assert torch.equal(x[:, :4], forward_features(triples, found.scores, known))
    for (h, s, t), row in zip(triples.tolist(), x.tolist(), strict=True):
        back = model.scores[t, (s + r) % (2 * r)].double()
        asked = torch.tensor([[h, s], [t, (s + r) % (2 * r)]])
        one, other = np.log1p(known.count(known.rows(asked)).numpy())
        alone = float(back[h] - back.logsumexp(0))
        assert row[3:] == pytest.approx([one, float(back[h]), alone, other], abs=1e-5)


@pytest.mark.parametrize("score", [torch.nan, torch.inf, -torch.inf])
def test_scores_that_are_not_finite_name_the_query(score):
    dataset = random_dataset(4)
    model = random(dataset)
    model.scores[1, 0, 2] = score
    known = answer_index(dataset.train, dataset.num_relations)
    with pytest.raises(ScoreError, match=r"head 1, relation 0"):
        best_answers(model, torch.tensor([[1, 0]]), known, dataset.num_entities, 2)


def test_no_queries_have_no_answers():
    dataset = random_dataset(4)
    known = answer_index(dataset.train, dataset.num_relations)
    none = torch.empty(0, 2, dtype=torch.long)
    assert len(best_answers(random(dataset), none, known, dataset.num_entities, 3).tail) == 0


def test_probabilities_tell_what_is_missing(tmp_path):
    dataset = ring()
    # It knows all facts: those that valid holds out are answers of high probability.
    model = oracle(dataset, dataset.train, dataset.valid, dataset.test)
    found = fit_probability(model, dataset)
    assert found is not None
    assert found.right == 2 * len(dataset.valid)
    assert found.ece < 0.05
    known = answer_index(dataset.train, dataset.num_relations)

    def chance(triples: torch.Tensor) -> np.ndarray:
        hr = triples[:, :2]
        best = best_answers(model, hr, known, dataset.num_entities, 1)
        x = features(
            model,
            best.triples(hr),
            best.scores,
            known,
            num_entities=dataset.num_entities,
            num_relations=dataset.num_relations,
        )
        return found.of(x, hr[:, 1])

    missing = chance(dataset.test)  # none of which the fit has seen
    assert missing.mean() > 0.5
    nothing = chance(dataset.train[:8])  # their questions have no other answer
    assert nothing.mean() < 0.1
    assert (found.missing, found.held_out) == (
        len(dataset.valid) + len(dataset.test), len(dataset.valid)
    )  # fmt: skip
    found.save(tmp_path / "p.safetensors")
    again = Probability.load(tmp_path / "p.safetensors", dataset.num_relations)
    x = torch.randn(5, 7, dtype=torch.double)
    relation = torch.arange(5)
    assert (again.of(x, relation) == found.of(x, relation)).all()
    assert (again.of_asked(x[:, :4], relation) == found.of_asked(x[:, :4], relation)).all()
    assert (again.ece, again.right) == (found.ece, found.right)
    assert again.marked == found.marked == pytest.approx(8 / 24)
    # What valid does not have is true with the odds of the fit, times the share that valid lacks.
    every, rest = again.platt.probability(x.numpy(), relation.numpy()), again.of(x, relation)
    assert rest / (1 - rest) == pytest.approx(every / (1 - every) * 16 / 24)
    with pytest.raises(RunError, match="does not belong to this run"):
        Probability.load(tmp_path / "p.safetensors", dataset.num_relations + 1)


def test_held_out_log_odds_give_the_sharpness_of_a_fit():
    generator = np.random.default_rng(0)
    log_odds = generator.normal(-1, 2, 20_000)
    true = generator.random(20_000) < expit(2 * log_odds + 0.5)  # the fit was too cautious
    holds = true & (generator.random(20_000) < 0.5)
    weight = np.ones(20_000)
    slope, shift = _sharpness(log_odds, holds, weight, 0.5)
    assert [slope, shift] == pytest.approx([2, 0.5], abs=0.15)
    # Scores that say nothing, or that fold after fold are wrong, keep their order.
    assert _sharpness(-log_odds, holds, weight, 0.5)[0] == LEAST_SLOPE
    assert _sharpness(log_odds[:9], holds[:9] & False, weight[:9], 0.5) == (1, 0)


def test_held_out_queries_correct_a_fit_that_is_too_cautious(monkeypatch):
    """The fit takes the slope and the shift of its held-out log odds; the order stays."""
    whole = ring()
    dataset = replace(whole, test=whole.test[:0])  # the graph lacks the facts of test
    model = oracle(dataset, whole.train, whole.valid, whole.test)
    found = fit_probability(model, dataset, len(whole.test))
    monkeypatch.setattr(probability_of, "_sharpness", lambda *_: (1.0, 0.0))
    before = fit_probability(model, dataset, len(whole.test))
    assert found is not None
    assert before is not None
    x, relation = np.random.default_rng(0).normal(size=(40, 7)), np.arange(40) % 6
    cautious, sharp = (each.platt.log_odds(x, relation) for each in (before, found))
    slope = np.polyfit(cautious, sharp, 1)[0]
    assert slope > 0
    assert sharp != pytest.approx(cautious)
    assert sharp - slope * cautious == pytest.approx(np.full(40, sharp[0] - slope * cautious[0]))
    assert found.ece < 0.7 * before.ece


def test_without_valid_there_are_no_probabilities():
    dataset = replace(ring(), valid=torch.empty(0, 3, dtype=torch.long))
    assert fit_probability(random(dataset), dataset) is None


def test_expected_relations_by_hand():
    # 0 and 1 have both relations, 2 the first alone, 3 none.
    triples = torch.tensor([[0, 0, 3], [0, 1, 3], [1, 0, 3], [1, 1, 3], [2, 0, 3]])
    expected = Expected(triples, 5, 2)
    shares = expected.shares(torch.tensor([0, 2, 3, 4]))
    assert shares[0].tolist() == [1, 1, 0, 0]
    assert shares[1].tolist() == [1, pytest.approx(2 / 3), 0, 0]
    assert shares[2].tolist() == [0, 0, 1, 1]
    assert shares[3].tolist() == [0, 0, 0, 0]
    hr, share = expected.questions(torch.tensor([2, 4]), np.array([False, True, True, True]))
    assert hr.tolist() == [[2, 1]]
    assert share.tolist() == [pytest.approx(2 / 3)]
    assert share[0] >= LEAST_SHARE


def completed(dataset: KGDataset, model: ScoresTails, top: int = 8, **options) -> Completion:
    probability = fit_probability(model, dataset)
    assert probability is not None
    return complete(model, dataset, probability, top, **options)


def test_a_graph_is_completed_by_what_is_missing():
    dataset = ring()
    hidden = dataset.test
    rest = replace(dataset, test=hidden[:0])
    found = completed(rest, oracle(dataset, dataset.train, dataset.valid, hidden))
    assert {tuple(t) for t in found.triples.tolist()} == {tuple(t) for t in hidden.tolist()}
    assert (np.diff(found.probability) <= 0).all()
    assert found.asked == found.of == dataset.num_entities
    # What any split holds is not new.
    everything = answer_index(
        torch.cat([dataset.train, dataset.valid, hidden]), dataset.num_relations
    )
    more = completed(dataset, oracle(dataset, dataset.train, dataset.valid, hidden), top=50)
    assert not everything.contains(more.triples).any()
    assert len(torch.unique(more.triples, dim=0)) == len(more.triples) == 50


def test_probabilities_of_a_completed_graph_sum_to_what_it_lacks():
    whole = ring()
    rest = replace(whole, test=whole.test[:0])
    model = oracle(rest, whole.train, whole.valid, whole.test)
    lacks = len(whole.test)
    probability = fit_probability(model, rest, lacks)
    assert probability is not None
    found = complete(model, rest, probability, 200)
    assert found.probability.sum() == pytest.approx(lacks, rel=0.3)
    # Under another assumption, the same answers have other probabilities.
    probability = fit_probability(model, rest, lacks // 4)
    assert probability is not None
    fewer = complete(model, rest, probability, 200)
    assert fewer.probability.sum() < 0.8 * found.probability.sum()


@pytest.mark.parametrize("marked", [0.3, 0.5])
def test_the_confirmed_share_of_the_pool_corrects_probabilities(marked):
    generator, n = np.random.default_rng(0), 40_000
    odds, relation = generator.normal(0, 3, n), generator.integers(0, 2, n)
    # The best of many: less sure than they seem, and less often true, the more so of relation 1.
    true = generator.random(n) < expit(0.5 * odds - 1 - 2 * relation)
    confirmed = true & (generator.random(n) < marked)
    chance = _corrected(expit(odds), relation, confirmed, marked)
    for r in (0, 1):
        rest = ~confirmed & (relation == r)
        assert chance[rest].sum() == pytest.approx(true[rest].sum(), rel=0.1)
        high = rest & (chance > 0.4)
        assert chance[high].mean() == pytest.approx(true[high].mean(), abs=0.06)
    assert expit(odds)[~confirmed].sum() > 1.5 * true[~confirmed].sum()
    none = np.zeros(n, dtype=bool)
    assert (_corrected(expit(odds), relation, none, marked) == expit(odds)).all()


def test_given_triples_have_the_scores_of_answers():
    dataset = random_dataset(3)
    model, n = random(dataset), dataset.num_entities
    known = answer_index(dataset.train, dataset.num_relations)
    hr = torch.tensor([(h, r) for h in (5, 0, 3) for r in range(2 * dataset.num_relations)])
    found = best_answers(model, hr, known, n, n, new=False)
    order = torch.randperm(len(found.tail), generator=torch.Generator().manual_seed(0))
    triples = found.triples(hr)[order]
    scores = triple_scores(model, triples, known, n)
    new = ~found.is_known[order]
    assert torch.allclose(scores[new], found.scores[order][new])
    assert torch.allclose(scores[:, :2], found.scores[order][:, :2])
    assert bool((scores[~new, 2] <= 0).all())
    assert len(triple_scores(model, triples[:0], known, n)) == 0


def test_what_types_leave_out_above_the_last_answer_is_counted():
    dataset = random_dataset(3)
    model, n = random(dataset), dataset.num_entities
    known = answer_index(dataset.train, dataset.num_relations)
    types = Types.of(dataset)
    hr = torch.tensor([(h, r) for h in (5, 0) for r in range(2 * dataset.num_relations)])
    for top in (2, n):
        found = best_answers(model, hr, known, n, top, types=types)
        for query, (h, r) in enumerate(hr.tolist()):
            last = found.score[found.query == query].tolist()[top - 1 : top]
            allowed = types.of_queries(hr[query : query + 1])[0]
            other = [
                t
                for t in range(n)
                if not allowed[t] and not known.contains(torch.tensor([[h, r, t]]))
            ]
            above = [t for t in other if not last or float(model.scores[h, r, t]) > last[0]]
            assert found.left_out[query] == len(above)


def test_a_graph_is_completed_for_some_relations_and_types():
    dataset = ring()
    found = completed(dataset, random(dataset), top=1000, relations=[1])
    assert set(found.triples[:, 1].tolist()) == {1}
    one_way = in_memory([(0, 0, 5), (1, 0, 5), (2, 0, 6), (3, 0, 6)], [(4, 0, 5)], [], 7)
    found = completed(one_way, random(one_way), top=100, types=Types.of(one_way))
    assert set(found.triples[:, 2].tolist()) <= {5, 6}


@pytest.mark.parametrize(
    "config", [tiny_config(), all_paths_config(node_budget=4), all_paths_config()]
)
def test_a_graph_is_completed_where_many_entities_are_never_heads(config):
    # The first 64 entities, a whole batch, have no query.
    train = [(64 + i, 0, (7 * i + j) % 64) for i in range(40) for j in range(3)]
    dataset = in_memory(train[:-8], train[-8:-4], train[-4:], 104)
    torch.manual_seed(0)
    scorer = build_model(config, dataset).scorer()
    probability = fit_probability(oracle(dataset, dataset.train, dataset.valid), dataset)
    assert probability is not None
    found = complete(scorer, dataset, probability, 20)
    assert (found.asked, found.of, len(found.triples)) == (104, 104, 20)
    assert found.triples[:, 0].min() >= 64


def test_ctrl_c_gives_what_was_found(monkeypatch):
    ends = [(i, 0, (i + 1) % 150) for i in range(150)]
    dataset = in_memory(ends[10:], ends[:10], [], 150)
    model = oracle(dataset, dataset.valid)
    probability = fit_probability(model, dataset)
    assert probability is not None
    calls = []

    def interrupted(*args, **options):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return best_answers(*args, **options)

    monkeypatch.setattr("kgtool.inference.completion.best_answers", interrupted)
    found = complete(model, dataset, probability, 5)
    assert (found.asked, found.of) == (64, 150)
    assert len(found.triples) == 5
    assert found.triples[:, 0].max() < 64


def test_following_facts():
    facts = answer_index(torch.tensor([[0, 0, 1], [0, 0, 2], [1, 1, 3], [2, 1, 4]]), 2)
    assert follow(facts, 0, (0, 1)).tolist() == [3, 4]
    assert follow(facts, 3, (3, 2)).tolist() == [0]
    assert follow(facts, 0, (1,)).tolist() == []


def test_the_most_alike():
    states = torch.tensor([[1.0, 0.0], [2.0, 0.1], [0.0, 1.0], [0.0, 0.0], [-1.0, 0.0]])
    row, cosine = nearest_rows(states, 0, 10)
    assert row.tolist()[0] == 1
    assert row.tolist()[-1] == 4
    assert cosine[0] == pytest.approx(2 / (4.01**0.5))
    assert sorted(row.tolist()) == [1, 2, 3, 4]
