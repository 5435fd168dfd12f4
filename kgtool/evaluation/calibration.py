"""Platt scaling of scores to probabilities, and calibration metrics."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.sparse import csr_array
from scipy.special import expit

Floats = NDArray[np.float64]

# Bins of equal width for the calibration error (Guo et al. 2017).
BINS = 10
# The normal quantile of a 95 % interval.
Z = 1.96


@dataclass(frozen=True, eq=False)
class Platt:
    """A fitted Platt scaling, as plain arrays that can be saved.

    Attributes:
        mean, spread: `(k,)` float64, mean and standard deviation of the features.
        weights: `(k + R · (k + 1),)` float64, of the `design` of standardised features.
        bias: `(1,)` float64.
    """

    mean: Floats
    spread: Floats
    weights: Floats
    bias: Floats

    def probability(
        self, features: Floats, relation: NDArray[np.int64], odds: float = 1.0
    ) -> Floats:
        """`(n,)` float64: the probability that each triple is true.

        Args:
            features: `(n, k)`.
            relation: `(n,)`.
            odds: a factor of the odds.
        """
        probability: Floats = expit(self.log_odds(features, relation) + np.log(odds))
        return probability

    def log_odds(self, features: Floats, relation: NDArray[np.int64]) -> Floats:
        """`(n,)` float64: the log odds of triples, as for `probability`."""
        k = len(self.mean)
        scaled = (features - self.mean) / self.spread
        rows = design(scaled, relation, (len(self.weights) - k) // (k + 1))
        log_odds: Floats = rows @ self.weights + self.bias
        return log_odds

    def sharpened(self, slope: float, shift: float) -> Platt:
        """The same with the log odds `slope · f + shift`."""
        weights, bias = slope * self.weights, slope * self.bias + shift
        return replace(self, weights=weights, bias=bias)


def design(features: Floats, relation: NDArray[np.int64], num_relations: int) -> csr_array:
    """The design matrix: shared features, then features and a constant for each relation.

    Args:
        features: `(n, k)`.
        relation: `(n,)`, below `num_relations`, R.

    Returns:
        `(n, k + R · (k + 1))`.
    """
    n, k = features.shape
    own = k + relation[:, None] * (k + 1) + np.arange(k + 1)
    columns = np.concatenate([np.broadcast_to(np.arange(k), (n, k)), own], axis=1)
    values = np.concatenate([features, features, np.ones((n, 1))], axis=1)
    first = np.arange(n + 1) * (2 * k + 1)
    shape = (n, k + num_relations * (k + 1))
    return csr_array((values.ravel(), columns.ravel(), first), shape=shape)


def fit_platt(
    features: Floats,
    relation: NDArray[np.int64],
    holds: NDArray[np.bool_],
    num_relations: int,
    weight: Floats | None = None,
    *,
    marked: float = 1.0,
) -> Platt:
    """Fit the weights by logistic regression.

    Args:
        features: `(n, k)`.
        relation: `(n,)`, below `num_relations`.
        holds: `(n,)`, whether each triple is known to be true; both values must occur.
        num_relations: R.
        weight: `(n,)`, sample weights; 1 by default.
        marked: the share of the true triples that `holds` marks, see `fit_marked`; 1 if all.
    """
    mean, spread = features.mean(0), features.std(0)
    # The deviation of equal values is a rounding error: their feature is not scaled by it.
    spread = np.where(spread > 1e-9 * (1 + np.abs(mean)), spread, 1.0)
    rows = design((features - mean) / spread, relation, num_relations)
    return Platt(mean, spread, *fit_marked(rows, holds, marked, weight))


def fit_marked(
    rows: csr_array | Floats,
    holds: NDArray[np.bool_],
    marked: float,
    weight: Floats | None = None,
    *,
    penalty: float = 1.0,
    toward: float | Floats = 0.0,
    bias_penalty: float = 0.0,
) -> tuple[Floats, Floats]:
    """Logistic regression where only some of the true rows are marked as true.

    Each true row is marked with the same chance c, so `P(marked | x) = c σ(⟨w, x⟩ + b)`: learning
    from positive and unlabelled data (Elkan & Noto 2008), by maximum likelihood. A row that is not
    marked is true with the probability `σ(⟨w, x⟩ + b + log(1 - c))`.

    Args:
        rows: `(n, k)`.
        holds: `(n,)`, the marks.
        marked: c, above 0 and at most 1.
        weight: `(n,)`, sample weights; 1 by default.
        penalty: of half the squared distance of w from `toward`; scikit-learn's is 1 from 0.
        toward: the weights without data, one for all or `(k,)`.
        bias_penalty: of half the squared b.

    Returns:
        w `(k,)` and b `(1,)`, of the probability that a row is true, marked or not.
    """
    weight = np.ones(len(holds)) if weight is None else weight
    unmarked = np.log1p(-marked) if marked < 1 else -np.inf

    def loss(w: Floats) -> tuple[float, Floats]:
        f = rows @ w[:-1] + w[-1]
        # -log(1 - c σ(f)), without its cancellation
        of_rest = np.logaddexp(0, f) - np.logaddexp(0, f + unmarked)
        value = weight @ np.where(holds, np.logaddexp(0, -f), of_rest)
        slope = weight * np.where(holds, -expit(-f), expit(f) - expit(f + unmarked))
        away = w[:-1] - toward
        value += penalty / 2 * (away @ away) + bias_penalty / 2 * w[-1] ** 2
        return value, np.append(rows.T @ slope + penalty * away, slope.sum() + bias_penalty * w[-1])

    start = np.append(np.broadcast_to(toward, rows.shape[1]), 0.0)
    options = {"maxiter": 1000, "ftol": 1e-12, "gtol": 1e-8}
    found = minimize(loss, start, jac=True, method="L-BFGS-B", options=options).x
    return found[:-1], found[-1:]


def calibration_table(probability: Floats, holds: NDArray[np.bool_]) -> pd.DataFrame:
    """The observed frequency of true triples by bins of predicted probability.

    Args:
        probability: `(n,)`.
        holds: `(n,)`.

    Returns:
        A row per bin: `probability` (mean), `observed` (share of true triples), `count`, and the
        ends `low`, `high` of the 95 % interval of `observed` (Wilson 1927).
    """
    bins = np.minimum((probability * BINS).astype(int), BINS - 1)
    rows = []
    for b in np.unique(bins):
        inside = bins == b
        count, observed = int(inside.sum()), float(holds[inside].mean())
        centre = (observed + Z**2 / (2 * count)) / (1 + Z**2 / count)
        spread = observed * (1 - observed) / count + Z**2 / (4 * count**2)
        reach = Z * math.sqrt(spread) / (1 + Z**2 / count)
        rows.append((probability[inside].mean(), observed, count, centre - reach, centre + reach))
    return pd.DataFrame(rows, columns=["probability", "observed", "count", "low", "high"])


def expected_calibration_error(
    probability: Floats, holds: NDArray[np.bool_], weight: Floats | None = None
) -> float:
    """The mean distance between predicted probability and observed share (Guo et al. 2017).

    Args:
        probability: `(n,)`.
        holds: `(n,)`.
        weight: `(n,)`, sample weights; 1 by default.
    """
    bins = np.minimum((probability * BINS).astype(int), BINS - 1)
    weight = np.ones(len(bins)) if weight is None else weight
    gap = np.bincount(bins, weight * (probability - holds), BINS)
    return float(np.abs(gap).sum() / weight.sum())
