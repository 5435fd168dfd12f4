"""Initial values of parameters."""

from __future__ import annotations

from torch import Tensor, nn


def normal_(x: Tensor, mean: float = 0.0, std: float = 1.0) -> None:
    """As `torch.nn.init.normal_`, except that a tensor without memory is left as it is.

    For such a tensor (on the device meta), torch's first call imports for more than a second.
    """
    if not x.is_meta:
        nn.init.normal_(x, mean, std)
