"""Platt scaling: the design matrix by hand, the fit compared with sklearn's probabilities."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit
from sklearn.linear_model import LogisticRegression

from kgtool.evaluation.calibration import design, fit_marked, fit_platt


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
    regression = LogisticRegression(tol=1e-10, max_iter=1000).fit(rows, holds)
    twin = regression.predict_proba(rows)[:, 1]
    assert found.probability(features, relation) == pytest.approx(twin, abs=1e-6)
    assert ((found.probability(features, relation) > 0.5) == holds).mean() > 0.7


def test_a_feature_that_never_changes_is_no_matter():
    features = np.array([[1.0, 3.0], [2.0, 3.0], [3.0, 3.0], [4.0, 3.0]])
    holds = np.array([False, False, True, True])
    found = fit_platt(features, np.zeros(4, int), holds, 1)
    assert np.isfinite(found.probability(features, np.zeros(4, int))).all()


def marked_rows(marked: float, count: int = 20_000) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """One feature, what is true by a known curve, and the marks of a share of the true rows."""
    generator = np.random.default_rng(1)
    x = generator.normal(-2, 2, size=(count, 1))
    true = generator.random(count) < expit(2 * x[:, 0] + 1)
    return x, true, true & (generator.random(count) < marked)


@pytest.mark.parametrize("marked", [0.2, 0.5, 0.9])
def test_marks_on_a_share_of_the_true_rows_give_the_curve_of_all(marked):
    x, true, marks = marked_rows(marked)
    (slope,), (constant,) = fit_marked(x, marks, marked, penalty=1e-9)
    assert (slope, constant) == pytest.approx((2, 1), abs=0.25)
    # Of the rows without a mark, as many are true as the shifted odds say.
    chance = expit(slope * x[:, 0] + constant + np.log(1 - marked))[~marks]
    rest = true[~marks]
    assert chance.sum() == pytest.approx(rest.sum(), rel=0.1)
    likely = chance > 0.5
    assert chance[likely].mean() == pytest.approx(rest[likely].mean(), abs=0.05)
    # Marks alone, taken for the truth, say too little.
    odds = LogisticRegression(C=np.inf).fit(x, marks).predict_proba(x)[:, 1]
    assert odds[~marks].sum() < 0.8 * chance.sum() or marked > 0.6


def test_with_all_marked_the_fit_is_that_of_the_regression():
    x, _, marks = marked_rows(0.5, 500)
    weight = np.random.default_rng(2).random(500)
    w, b = fit_marked(x, marks, 1.0, weight)
    twin = LogisticRegression(tol=1e-10, max_iter=1000).fit(x, marks, weight)
    assert (w[0], b[0]) == pytest.approx((twin.coef_[0, 0], twin.intercept_[0]), abs=1e-3)


def test_the_penalty_pulls_toward_the_given_weights():
    x, _, marks = marked_rows(0.5, 500)
    assert fit_marked(x, marks, 0.5, penalty=1e9, toward=1.0)[0] == pytest.approx([1.0], abs=1e-3)
    assert fit_marked(x, marks, 0.5, penalty=1e9)[0] == pytest.approx([0.0], abs=1e-3)


def test_weights_are_repetitions():
    x, _, marks = marked_rows(0.5, 300)
    weight = np.random.default_rng(3).integers(0, 4, 300)
    repeated = np.repeat(np.arange(300), weight)
    one = fit_marked(x, marks, 0.5, weight.astype(float))
    other = fit_marked(x[repeated], marks[repeated], 0.5)
    assert np.concatenate(one) == pytest.approx(np.concatenate(other), abs=1e-3)


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


def test_sharper_log_odds_keep_the_order():
    generator = np.random.default_rng(0)
    features, relation = generator.normal(size=(50, 2)), generator.integers(0, 2, 50)
    fitted = fit_platt(features, relation, features[:, 0] > 0, 2)
    before = fitted.log_odds(features, relation)
    assert expit(before) == pytest.approx(fitted.probability(features, relation))
    sharper = fitted.sharpened(2.0, 0.5)
    assert sharper.log_odds(features, relation) == pytest.approx(2 * before + 0.5)
    assert fitted.log_odds(features, relation) == pytest.approx(before)
