"""Triple classification: features by loops, thresholds by exhaustive search, negatives."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kgtool.data.dataset import KGDataset
from kgtool.errors import DataError, ScoreError
from kgtool.evaluation.calibration import calibration_table
from kgtool.evaluation.tasks.triple_classification import (
    best_threshold,
    evaluate_triples,
    fit_classifier,
    sample_negatives,
    triple_features,
)
from tests.support.runs import Table, in_memory, ring


def random(dataset: KGDataset, seed: int = 0) -> Table:
    n, generator = dataset.num_entities, torch.Generator().manual_seed(seed)
    return Table(torch.randn(n, 2 * dataset.num_relations, n, generator=generator))


def oracle(dataset: KGDataset) -> Table:
    """A scorer with high scores for true triples, with some noise."""
    scores = random(dataset).scores
    for h, r, t in torch.cat([dataset.train, dataset.valid, dataset.test]).tolist():
        scores[h, r, t] += 6
        scores[t, r + dataset.num_relations, h] += 6
    return Table(scores)


def test_features_are_scores_and_log_likelihoods_of_both_ends(monkeypatch):
    monkeypatch.setattr(
        "kgtool.evaluation.likelihood.whole_rows", lambda num_entities: 3
    )  # several chunks
    dataset = ring()
    models = [random(dataset), random(dataset, 1)]
    found = triple_features(models, dataset.test, 24, 3)
    assert found.shape == (len(dataset.test), 8)
    for i, (h, r, t) in enumerate(dataset.test.tolist()):
        expected = []
        for model in models:
            for a, b, c in ((h, r, t), (t, r + 3, h)):
                scores = model.scores[a, b].double()
                expected += [float(scores[c]), float(scores.log_softmax(0)[c])]
        assert found[i].tolist() == pytest.approx(expected)


PROBABILITIES = st.lists(
    st.sampled_from([0.0, 0.1, 0.4, 0.5, 0.7, 0.9, 1.0]), min_size=1, max_size=12
)


@given(PROBABILITIES, st.data())
def test_no_threshold_tells_more_right(values, data):
    probability = np.array(values)
    holds = np.array(data.draw(st.lists(st.booleans(), min_size=len(values), max_size=len(values))))
    found = best_threshold(probability, holds)

    def right(threshold: float) -> int:
        return int(((probability >= threshold) == holds).sum())

    tried = [0.0, 0.05, 0.25, 0.45, 0.5, 0.6, 0.8, 0.95, 1.0, 1.1]
    assert right(found) == max(right(threshold) for threshold in tried)


def test_a_threshold_is_in_the_middle_and_near_a_half():
    holds = np.array([False, True, True])
    assert best_threshold(np.array([0.2, 0.6, 0.9]), holds) == pytest.approx(0.4)
    # As many are right below 0.1 as above 0.8: the one nearer to a half is taken.
    assert best_threshold(np.array([0.1, 0.8]), np.array([True, False])) in (0.0, pytest.approx(1))


def test_thresholds_are_each_relations_own():
    generator = np.random.default_rng(0)
    features = generator.normal(size=(400, 1))
    relation = np.repeat([0, 1], 200)
    holds = features[:, 0] > np.where(relation == 0, -1.0, 1.0)
    found = fit_classifier(features, relation, holds, 3)
    taken = found.platt.probability(features, relation) >= found.thresholds[relation]
    assert (taken == holds).all()
    assert found.thresholds[2] == 0.5
    # A relation that valid does not show keeps to what all share.
    same = found.platt.probability(np.full((3, 1), 0.3), np.array([0, 1, 2]))
    assert same[0] > same[2] > same[1]


def test_an_oracle_is_told_and_chance_is_chance():
    dataset = ring()
    found = evaluate_triples([oracle(dataset)], dataset)
    assert found.negatives == "sampled"
    assert found.metrics["accuracy"] > 0.9
    assert found.metrics["roc_auc"] > 0.95
    assert len(found.predictions(dataset.vocabulary)) == len(found.triples)
    blind = evaluate_triples([random(dataset)], dataset)
    assert 0.2 < blind.metrics["roc_auc"] < 0.8


def test_given_negatives_are_the_ones_that_are_told():
    dataset = ring()
    false = {split: dataset.split(split)[:, [2, 1, 0]] for split in ("valid", "test")}
    found = evaluate_triples([oracle(dataset)], dataset, negatives=false)
    assert found.negatives == "given"
    assert torch.equal(found.triples[len(dataset.test) :], false["test"])
    told = found.to_dict()
    assert told["counts"] == {"hold": 8, "do not": 8}
    assert found.metrics["f1"] == pytest.approx(
        2 / (1 / found.metrics["precision"] + 1 / found.metrics["recall"])
    )


def test_the_classifier_is_fitted_on_valid_alone():
    # The scores of test are reversed: a classifier that had seen test would be right there.
    dataset = ring()
    false = {split: dataset.split(split)[:, [2, 1, 0]] for split in ("valid", "test")}
    model = Table(torch.zeros(24, 6, 24))
    for split, true in (("valid", 3.0), ("test", -3.0)):
        triples = torch.cat([dataset.split(split), false[split]])
        for i, (h, r, t) in enumerate(triples.tolist()):
            score = true if i < len(dataset.split(split)) else -true
            model.scores[h, r, t] = model.scores[t, r + 3, h] = score
    found = evaluate_triples([model], dataset, negatives=false)
    assert found.metrics["roc_auc"] < 0.2
    assert found.metrics["accuracy"] < 0.2
    seen = evaluate_triples([model], dataset, "valid", negatives=false)
    assert seen.metrics["accuracy"] == 1


@pytest.mark.parametrize("split", ["valid", "test"])
def test_a_split_without_negatives_is_refused(split):
    dataset = ring()
    false = {name: dataset.split(name)[:, [2, 1, 0]] for name in ("valid", "test")}
    false[split] = false[split][:0]
    with pytest.raises(DataError, match=f"no negative of {split}.*Remedy: "):
        evaluate_triples([oracle(dataset)], dataset, negatives=false)
    full = [(a, 0, b) for a in range(3) for b in range(3)]
    everything = in_memory(full, [(0, 0, 0)], [(0, 0, 1)], 3)
    with pytest.raises(DataError, match="no negative of valid"):
        evaluate_triples([random(everything)], everything, split)


def test_one_triple_of_one_relation_is_classified():
    dataset = in_memory([(0, 0, 1), (1, 0, 2)], [(2, 0, 3)], [(3, 0, 0)], 4)
    found = evaluate_triples([random(dataset)], dataset)
    assert np.isfinite(found.probability).all()
    assert all(np.isfinite(value) for value in found.metrics.values())


def test_what_is_fitted_is_blind_to_test():
    dataset = ring()
    model = random(dataset)
    moved = replace(dataset, test=dataset.test.flip(1))
    ours, theirs = (evaluate_triples([model], d, "valid") for d in (dataset, moved))
    assert ours.metrics == theirs.metrics


@pytest.mark.parametrize("split", ["valid", "test"])
def test_negatives_are_false_and_differ_in_one_place(split):
    dataset = ring()
    negatives = sample_negatives(dataset, split)
    assert len(negatives) == len(dataset.split(split))
    names = ("train", "valid", "test") if split == "test" else ("train", "valid")
    known = {tuple(t) for name in names for t in dataset.split(name).tolist()}
    sides = set()
    for true, false in zip(dataset.split(split).tolist(), negatives.tolist(), strict=True):
        assert tuple(false) not in known
        changed = [i for i in range(3) if true[i] != false[i]]
        assert changed in ([0], [2])
        sides.add(changed[0])
    assert sides == {0, 2}
    assert torch.equal(negatives, sample_negatives(dataset, split))
    assert not torch.equal(negatives, sample_negatives(dataset, split, seed=1))


def test_negatives_come_from_what_the_relation_shows():
    # r0 joins 0-4 to 5-9; nobody else stands at its ends in train.
    dataset = in_memory(
        [(a, 0, a + 5) for a in range(5)] + [(10, 1, 11)],
        [(0, 0, 9), (1, 0, 8)], [], 12, 2,
    )  # fmt: skip
    for seed in range(5):
        for h, r, t in sample_negatives(dataset, "valid", seed).tolist():
            assert (h < 5, r, 5 <= t < 10) == (True, 0, True)


def test_where_all_is_true_there_are_no_negatives():
    everything = [(a, 0, b) for a in range(2) for b in range(2)]
    assert len(sample_negatives(in_memory(everything, everything[:1], [], 2), "valid")) == 0


def test_the_calibration_table_by_hand():
    table = calibration_table(
        np.array([0.05, 0.05, 0.95, 0.95, 0.95, 1.0]),
        np.array([False, True, True, True, True, False]),
    )
    assert table["count"].tolist() == [2, 4]
    assert table["observed"].tolist() == [0.5, 0.75]
    assert table["probability"].tolist() == pytest.approx([0.05, 0.9625])
    # Wilson's interval of 3 in 4.
    assert table.iloc[1][["low", "high"]].tolist() == pytest.approx([0.3006, 0.9544], abs=1e-4)


def test_scores_that_are_not_finite_raise():
    dataset = ring()
    model = random(dataset)
    head, relation, _ = dataset.test[3].tolist()
    model.scores[head, relation, 0] = float("inf")
    with pytest.raises(ScoreError, match=f"head {head}, relation {relation}, "):
        evaluate_triples([model], dataset)
