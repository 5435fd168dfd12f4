"""A hash of two numbers inside compiled kernels, in place of a random number generator."""

from __future__ import annotations

import numba
import numpy as np


@numba.njit(cache=True)
def mix(x, y):  # type: ignore[no-untyped-def] # pragma: no cover
    """Draw number `x` of SplitMix64 from the seed `y`, as uint64 (Steele, Lea & Flood 2014)."""
    z = np.uint64(x) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(y)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))
