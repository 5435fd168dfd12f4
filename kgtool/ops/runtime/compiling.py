"""How the kernels are compiled: fused sums, inlined helpers, as many threads as torch."""

from __future__ import annotations

from typing import Any

import numba
import torch

# Sums may be reordered and fused, but NaN and infinity keep their meaning.
FASTMATH = {"reassoc", "contract", "nsz", "arcp"}


# To numba's `overload`, what `inlined` is to `njit`.
INLINED: Any = {"fastmath": FASTMATH, "forceinline": True}


def inlined(function: Any) -> Any:
    """Compile a function into each kernel that calls it, and never as a symbol of its own.

    Kernels with a symbol in common share the copy that was loaded first, whose additions need not
    be fused as in another's: results would depend on which kernels ran before, and on which were
    compiled and which read from the cache.
    """
    return numba.njit(fastmath=FASTMATH, forceinline=True, cache=True)(function)


def match_threads() -> None:
    """Let the compiled kernels use as many threads as torch does."""
    limit: int = numba.config.NUMBA_NUM_THREADS  # type: ignore[attr-defined]
    threads = torch.get_num_threads()
    numba.set_num_threads(min(threads, limit))
    if torch.get_num_threads() != threads:  # Numba's first call starts all that it may use
        torch.set_num_threads(threads)
