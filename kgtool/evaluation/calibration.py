"""Probabilities of scores: Platt scaling, and how well probabilities are calibrated."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.special import expit
from sklearn.linear_model import LogisticRegression

Floats = NDArray[np.float64]

# Of equal width, for the calibration error (Guo et al. 2017).
BINS = 10
# The normal quantile of a 95 % interval.
Z = 1.96


@dataclass(frozen=True, eq=False)
class Platt:
    """What was fitted: plain numbers, so that they can be kept in a file.

    Attributes:
        mean, spread: `(k,)` float64, of features.
        weights: `(k + R · (k + 1),)` float64, of `design` of features in units of their spread.
        bias: `(1,)` float64.
    """

    mean: Floats
    spread: Floats
    weights: Floats
    bias: Floats

    def probability(self, features: Floats, relation: NDArray[np.int64]) -> Floats:
        """`(n,)` float64, that each triple holds, of features `(n, k)` and relations `(n,)`."""
        k = len(self.mean)
        scaled = (features - self.mean) / self.spread
        rows = design(scaled, relation, (len(self.weights) - k) // (k + 1))
        found: Floats = expit(rows @ self.weights + self.bias)
        return found


def design(features: Floats, relation: NDArray[np.int64], num_relations: int) -> csr_array:
    """Features once for all relations, and once more, with a constant, in their relation's place.

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
) -> Platt:
    """Fit weights.

    Args:
        features: `(n, k)`.
        relation: `(n,)`, below `num_relations`.
        holds: `(n,)`, what is to be told; some hold and some do not.
        num_relations: R.
        weight: `(n,)`, what each counts for; one each by default.
    """
    mean, spread = features.mean(0), features.std(0).clip(min=1e-9)
    fitted = LogisticRegression(max_iter=1000)
    fitted.fit(design((features - mean) / spread, relation, num_relations), holds, weight)
    return Platt(mean, spread, fitted.coef_[0], fitted.intercept_)


def calibration_table(probability: Floats, holds: NDArray[np.bool_]) -> pd.DataFrame:
    """How often what has a probability holds, by bins of it.

    Args:
        probability: `(n,)`.
        holds: `(n,)`.

    Returns:
        A row a bin: `probability` (mean), `observed` (the share that holds), `count`, and the ends
        `low`, `high` of its 95 % interval (Wilson 1927).
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
    """The mean distance of probability and observed share, over bins (Guo et al. 2017).

    Args:
        probability: `(n,)`.
        holds: `(n,)`.
        weight: `(n,)`, what each counts for; one each by default.
    """
    bins = np.minimum((probability * BINS).astype(int), BINS - 1)
    weight = np.ones(len(bins)) if weight is None else weight
    gap = np.bincount(bins, weight * (probability - holds), BINS)
    return float(np.abs(gap).sum() / weight.sum())
