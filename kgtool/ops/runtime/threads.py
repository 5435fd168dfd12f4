"""Independent work in threads: kernels and torch's operations let go of Python's lock."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

Part = TypeVar("Part")
Result = TypeVar("Result")


def hold_threads() -> None:
    """Tell MKL torch's number of threads; untold, it multiplies by other code for a single one."""
    torch.set_num_threads(torch.get_num_threads())


def in_threads(function: Callable[[Part], Result], parts: Sequence[Part]) -> list[Result]:
    """The results of a function of each part, in order, worked out by as many threads as torch's.

    Each thread works alone: one that computes from beginning to end on one core keeps its data in
    that core's cache and waits for no other. What the results are does not depend on the number of
    threads. Autocast on the CPU and gradient mode are the caller's.
    """
    threads = torch.get_num_threads()
    if min(threads, len(parts)) <= 1:
        return [function(part) for part in parts]
    grad, half = torch.is_grad_enabled(), torch.is_autocast_enabled("cpu")
    dtype = torch.get_autocast_dtype("cpu")

    def work(part: Part) -> Result:
        with torch.set_grad_enabled(grad), torch.autocast("cpu", dtype, enabled=half):
            return function(part)

    torch.set_num_threads(1)  # in this thread, in new ones, and in MKL everywhere
    try:
        with ThreadPoolExecutor(min(threads, len(parts))) as pool:
            return list(pool.map(work, parts))
    finally:
        torch.set_num_threads(threads)
