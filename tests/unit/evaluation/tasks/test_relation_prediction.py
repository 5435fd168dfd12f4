"""Relation prediction: features and ranks compared with loops; the fit of known weights."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import kgtool
from kgtool.data.dataset import KGDataset
from kgtool.errors import ScoreError
from kgtool.evaluation.tasks.relation_prediction import (
    PRIOR,
    RelationEvaluation,
    _fit,
    evaluate_relations,
    fit_relations,
)
from kgtool.storage.tables import load_table
from kgtool.training.trainer import train
from tests.support.runs import all_paths_config, in_memory, ring, tiny_config


@dataclass(frozen=True, eq=False)
class Table:
    """Scores of triples in a table `(num_entities, relation ids, num_entities)`."""

    scores: Tensor

    def score_r(self, ht: Tensor, relation: Tensor) -> Tensor:
        return self.scores[ht[:, :1], relation.unsqueeze(0), ht[:, 1:]]


def random(dataset: KGDataset, seed: int = 0) -> Table:
    n, generator = dataset.num_entities, torch.Generator().manual_seed(seed)
    return Table(torch.randn(n, 2 * dataset.num_relations, n, generator=generator))


def evaluated(model: Table, dataset: KGDataset, split: str = "test") -> RelationEvaluation:
    return evaluate_relations(fit_relations([model], dataset), dataset, split)


def test_features_are_scores_from_both_ends_and_counts():
    dataset = in_memory([(0, 0, 1), (0, 0, 2), (3, 1, 1)], [], [(0, 1, 1)], 4, 2)
    first, second = random(dataset), random(dataset, 1)
    found = fit_relations([first, second], dataset)
    assert found.weights.tolist() == [1, 1, 1, 1, 0, 0, 0]  # there is no valid to fit on
    features = found.features(torch.tensor([[0, 1], [3, 2]]))
    for pair, (h, t) in enumerate([(0, 1), (3, 2)]):
        for r in (0, 1):
            triples = dataset.train.tolist()
            expected = [
                float(x)
                for m in (first, second)
                for x in (m.scores[h, r, t], m.scores[t, r + 2, h])
            ]
            expected += [
                math.log(PRIOR + sum(a == h and b == r for a, b, _ in triples)),
                math.log(PRIOR + sum(c == t and b == r for _, b, c in triples)),
                math.log(PRIOR + sum(b == r for _, b, _ in triples)),
            ]  # fmt: skip
            assert features[pair, r].tolist() == pytest.approx(expected)


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_ranks_are_those_of_loops(data):
    triple = st.tuples(st.integers(0, 3), st.integers(0, 3), st.integers(0, 3))
    triples = st.lists(triple, min_size=1, max_size=6, unique=True)
    dataset = in_memory(data.draw(triples), [], data.draw(triples), 4, 4)
    scores = data.draw(st.lists(st.integers(-1, 1), min_size=128, max_size=128))
    model = Table(torch.tensor(scores).float().view(4, 8, 4))
    found = evaluated(model, dataset)
    known = {tuple(t) for part in (dataset.train, dataset.test) for t in part.tolist()}
    for i, (h, r, t) in enumerate(dataset.test.tolist()):
        score = [float(model.scores[h, k, t] + model.scores[t, k + 4, h]) for k in range(4)]
        for ranks, filtered in ((found.ranking.filtered, True), (found.ranking.raw, False)):
            others = [k for k in range(4) if k != r and not (filtered and (h, k, t) in known)]
            better = sum(score[k] > score[r] for k in others)
            equal = sum(score[k] == score[r] for k in others)
            assert float(ranks.realistic[i]) == better + 1 + equal / 2
            assert int(ranks.candidates[i]) == len(others) + 1


def test_the_fit_finds_the_weights_that_drew_the_relations():
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(20_000, 6, 3, generator=generator) * torch.tensor([1.0, 5.0, 0.2])
    weights, bias = torch.tensor([1.5, -0.2, 3.0]), torch.tensor([0, 0, 1, 0, -1, 0.0])
    chance = (features @ weights + bias).softmax(1)
    relation = torch.multinomial(chance, 1, generator=generator).squeeze(1)
    nobody = torch.zeros(0, dtype=torch.long)
    found, offset = _fit(features, relation, (nobody, nobody))
    assert found.tolist() == pytest.approx(weights.tolist(), rel=0.1, abs=0.02)
    assert (offset - offset.mean()).tolist() == pytest.approx(bias.tolist(), abs=0.1)


def test_other_relations_of_a_pair_do_not_count_in_the_fit():
    # Relation 1 always holds beside 0: with it among the candidates, 0 would be even odds.
    features = torch.zeros(50, 2, 1)
    features[:, 1] = 1.0
    rows = torch.arange(50)
    relation = torch.zeros(50, dtype=torch.long)
    weights, bias = _fit(features, relation, (rows, torch.ones_like(rows)))
    assert weights.tolist() == pytest.approx([0], abs=1e-3)
    assert bias.tolist() == pytest.approx([0, 0], abs=1e-3)


@pytest.mark.parametrize("shape", [(1, 1, 5), (1, 2, 5), (3, 1, 5)])
def test_one_pair_and_one_relation_have_a_fit(shape):
    generator = torch.Generator().manual_seed(1)
    features = torch.randn(shape, generator=generator)
    nobody = torch.zeros(0, dtype=torch.long)
    weights, bias = _fit(features, torch.zeros(shape[0], dtype=torch.long), (nobody, nobody))
    chance = (features @ weights + bias).softmax(1)
    assert chance[:, 0].tolist() == pytest.approx([1.0] * shape[0], abs=0.2)
    assert shape[1] > 1 or weights.abs().max() < 1e-6  # nothing to choose from


def test_a_feature_that_is_constant_in_the_fit_has_no_effect():
    # 0.1 in float32 is not exact: the deviation of many equal values is a rounding error, not 0.
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(501, 3, 2, generator=generator)
    relation = features[:, :, 0].argmax(1)
    features[:, :, 1] = 0.1
    nobody = torch.zeros(0, dtype=torch.long)
    weights, _ = _fit(features, relation, (nobody, nobody))
    assert weights[0] > 1
    assert abs(float(weights[1])) < 1e-3


def test_a_relation_model_of_one_relation_and_one_valid_triple():
    dataset = in_memory([(0, 0, 1), (1, 0, 2)], [(2, 0, 0)], [(0, 0, 2)], 3, 1)
    found = evaluated(random(dataset), dataset)
    assert found.filtered["pessimistic"]["mrr"] == 1
    assert all(math.isfinite(weight) for weight in found.weights)


def test_the_filter_of_test_has_test():
    # The pair (0, 1) has both relations in test: neither may lose to the other.
    dataset = in_memory([(1, 0, 2), (2, 1, 0)], [(2, 0, 1)], [(0, 0, 1), (0, 1, 1)], 3, 3)
    model = Table(torch.zeros(3, 6, 3))
    model.scores[0, 1, 1] = model.scores[1, 4, 0] = 2  # relation 1, from both ends
    model.scores[0, 0, 1] = model.scores[1, 3, 0] = 1  # relation 0
    found = evaluated(model, replace(dataset, valid=dataset.valid[:0]))
    assert found.ranking.raw.realistic.tolist() == [2, 1]
    assert found.ranking.filtered.realistic.tolist() == [1, 1]
    assert found.ranking.filtered.candidates.tolist() == [2, 2]


def test_what_is_known_of_test_moves_nothing_of_valid():
    dataset = ring()
    model = random(dataset)
    moved = replace(dataset, test=dataset.test.flip(1))
    ours, theirs = (evaluated(model, d, "valid") for d in (dataset, moved))
    assert ours.to_dict() == theirs.to_dict()


def test_an_oracle_is_perfect_and_the_counts_do_not_know_it():
    dataset = ring()
    oracle = torch.zeros(dataset.num_entities, 6, dataset.num_entities)
    for h, r, t in torch.cat([dataset.train, dataset.valid, dataset.test]).tolist():
        oracle[h, r, t] = oracle[t, r + 3, h] = 1
    told, guessed = (evaluated(model, dataset) for model in (Table(oracle), random(dataset)))
    assert told.filtered["pessimistic"]["mrr"] == 1
    assert told.counted == guessed.counted


def test_scores_that_are_not_finite_raise():
    dataset = ring()
    model = random(dataset)
    head, relation, tail = dataset.test[2].tolist()
    model.scores[head, relation, tail] = float("nan")
    with pytest.raises(ScoreError, match=rf"pair \(head {head}, \?, tail {tail}\)"):
        evaluated(model, dataset)


@pytest.mark.parametrize("config", [tiny_config(epochs=1), all_paths_config(epochs=1)])
def test_a_run_predicts_relations(tmp_path, config):
    dataset = ring()
    run = train(config, dataset, tmp_path / "run", progress=False)
    found = kgtool.evaluate_relations(run, data=dataset, ensemble=[run])
    table = load_table(run.path / "relations.with-run.test.tsv")
    assert table["rank"].astype(float).rdiv(1).mean() == pytest.approx(
        found.evaluation.filtered["realistic"]["mrr"]
    )
    assert (run.path / "relations.with-run.test.json").exists()
