"""What probabilities are worth: how often what has one holds."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
from numpy.typing import NDArray

Floats = NDArray[np.float64]
# Of equal width, for the calibration error (Guo et al. 2017).
BINS = 10
# The normal quantile of a 95 % interval.
Z = 1.96


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
