"""Nearest neighbours of an entity or relation, by the cosine of states."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def nearest_rows(states: Tensor, row: int, top: int) -> tuple[Tensor, Tensor]:
    """The nearest rows to a row of `states` `(n, d)`, and their cosines `(k,)`, best first.

    The cosine of a state of zeros is 0.
    """
    cosine = F.normalize(states, dim=1) @ F.normalize(states[row], dim=0)
    cosine[row] = -torch.inf
    value, nearest = cosine.topk(min(top, len(states) - 1))
    return nearest, value
