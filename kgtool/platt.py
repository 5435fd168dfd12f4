"""Platt scaling (1999): a logistic regression that makes one probability of what models say.

Its weights are a part that all relations share and a part of each relation's own, both penalised,
so that a relation with few triples keeps to what all share.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.special import expit
from sklearn.linear_model import LogisticRegression

Floats = NDArray[np.float64]


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
