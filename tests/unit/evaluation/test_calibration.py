"""Platt scaling: the design matrix by hand, the fit compared with sklearn's probabilities."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from kgtool.evaluation.calibration import design, fit_platt


def test_the_design_has_a_part_of_all_and_one_of_each_relation():
    found = design(np.array([[2.0, 3.0], [4.0, 5.0]]), np.array([1, 0]), 2).toarray()
    assert found.tolist() == [[2, 3, 0, 0, 0, 2, 3, 1], [4, 5, 4, 5, 1, 0, 0, 0]]


def test_probabilities_are_those_of_the_regression():
    generator = np.random.default_rng(0)
    features = generator.normal(size=(300, 3)) * [1.0, 5.0, 0.1] + 2
    relation = generator.integers(0, 4, 300)
    holds = features[:, 0] + generator.normal(size=300) > 2
    found = fit_platt(features, relation, holds, 4)
    rows = design((features - found.mean) / found.spread, relation, 4)
    twin = LogisticRegression(max_iter=1000).fit(rows, holds).predict_proba(rows)[:, 1]
    assert found.probability(features, relation) == pytest.approx(twin)
    assert ((found.probability(features, relation) > 0.5) == holds).mean() > 0.7


def test_a_feature_that_never_changes_is_no_matter():
    features = np.array([[1.0, 3.0], [2.0, 3.0], [3.0, 3.0], [4.0, 3.0]])
    holds = np.array([False, False, True, True])
    found = fit_platt(features, np.zeros(4, int), holds, 1)
    assert np.isfinite(found.probability(features, np.zeros(4, int))).all()


def test_a_feature_that_is_constant_in_the_fit_has_no_effect():
    generator = np.random.default_rng(0)
    features = np.full((400, 2), 0.1)  # its mean is not 0.1 to the bit
    features[:, 0] = generator.normal(size=400)
    holds = features[:, 0] + generator.normal(size=400) > 0
    relation = np.zeros(400, dtype=np.int64)
    fitted = fit_platt(features, relation, holds, 1)
    elsewhere = features.copy()
    elsewhere[:, 1] = 50.0
    near = fitted.probability(features, relation)
    assert np.allclose(fitted.probability(elsewhere, relation), near, atol=1e-6)
    assert near.min() < 0.1 < 0.9 < near.max()


def test_two_triples_have_a_fit():
    features, relation = np.array([[1.0, 2.0], [1.0, 2.0]]), np.zeros(2, dtype=np.int64)
    fitted = fit_platt(features, relation, np.array([True, False]), 1)
    assert fitted.probability(features, relation).tolist() == pytest.approx([0.5, 0.5])
