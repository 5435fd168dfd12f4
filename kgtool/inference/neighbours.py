"""What is most alike, by the cosine of states."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def nearest_rows(states: Tensor, row: int, top: int) -> tuple[Tensor, Tensor]:
    """The rows of `states` `(n, d)` most like one of them, and their cosines `(k,)`, best first.

    A state of zeros is like no other: its cosine is 0.
    """
    cosine = F.normalize(states, dim=1) @ F.normalize(states[row], dim=0)
    cosine[row] = -torch.inf
    value, found = cosine.topk(min(top, len(states) - 1))
    return found, value
