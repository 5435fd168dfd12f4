"""Compilation of the kernels: fused sums, inlined helpers, the number of threads."""

from __future__ import annotations

from typing import Any

import numba
import torch

from kgtool.ops.runtime.standard_state import refuse_fork
from kgtool.ops.runtime.threads import num_workers

# The compiler may reorder and fuse sums, but must treat NaN and infinity correctly.
FASTMATH = {"reassoc", "contract", "nsz", "arcp"}

# The same options as `inlined`, for numba's `overload`.
INLINED: Any = {"fastmath": FASTMATH, "forceinline": True}


def inlined(function: Any) -> Any:
    """Compile a function into each kernel that calls it, and never as a symbol of its own.

    Kernels with a common symbol share the copy that was loaded first. Two copies may fuse their
    additions differently. So results would depend on the kernels that ran before, and on whether
    they were compiled or read from the cache.
    """
    return numba.njit(fastmath=FASTMATH, forceinline=True, cache=True)(function)


def match_threads() -> None:
    """Set the threads of the compiled kernels to `num_workers`; see also `refuse_fork`."""
    limit: int = numba.config.NUMBA_NUM_THREADS  # type: ignore[attr-defined]
    layer: str = numba.config.THREADING_LAYER  # type: ignore[attr-defined]
    if limit > 1 or layer != "workqueue":  # a single thread of the work queue survives a fork
        refuse_fork()
    threads = torch.get_num_threads()
    numba.set_num_threads(min(num_workers(), limit))
    if torch.get_num_threads() != threads:  # Numba's first call starts all its threads
        torch.set_num_threads(threads)
