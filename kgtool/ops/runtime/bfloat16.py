"""bfloat16 in compiled kernels: numba has no such type, so arrays hold the 16 bits as uint16."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
import torch
from numba.extending import overload
from numpy.typing import NDArray
from torch import Tensor

from kgtool.ops.runtime.compiling import INLINED


def bits(x: Tensor) -> NDArray[Any]:
    """The tensor's memory as an array; bfloat16 as uint16."""
    x = x.detach()
    return x.view(torch.uint16).numpy() if x.dtype == torch.bfloat16 else x.numpy()


def product_dtype(x: Tensor) -> torch.dtype:
    """The dtype of matrix products with `x`: autocast's dtype in CPU autocast, else `x.dtype`."""
    if torch.is_autocast_enabled("cpu") and x.dtype == torch.float32:
        return torch.get_autocast_dtype("cpu")
    return x.dtype


def read(x: Any) -> Any:
    """Convert an array's value to a float.

    The 16 bits of a bfloat16 are the upper half of a float32.
    """


@overload(read, jit_options=INLINED)
def _read(x):  # type: ignore[no-untyped-def]
    if x == numba.uint16:
        return lambda x: np.uint32(np.uint32(x) << np.uint32(16)).view(np.float32)
    return lambda x: x


def store_as(like: Any, x: Any) -> Any:
    """Convert `x` to the type of `like`; bfloat16 rounds to nearest, ties to even."""


@overload(store_as, jit_options=INLINED)
def _store_as(like, x):  # type: ignore[no-untyped-def]
    if like != numba.uint16:
        return lambda like, x: x

    def round_to_bfloat16(like, x):  # type: ignore[no-untyped-def] # pragma: no cover
        word = np.float32(x).view(np.uint32)
        odd = np.uint32(np.uint32(word >> np.uint32(16)) & np.uint32(1))
        rounded = np.uint32(np.uint32(word + np.uint32(0x7FFF)) + odd)
        return np.uint16(rounded >> np.uint32(16))

    return round_to_bfloat16
