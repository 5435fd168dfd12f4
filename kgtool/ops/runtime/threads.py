"""Independent work in threads; kernels and torch's operations release Python's lock."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

Part = TypeVar("Part")
Result = TypeVar("Result")


def hold_threads() -> None:
    """Set MKL's number of threads to torch's; else MKL uses other code for a single thread."""
    torch.set_num_threads(torch.get_num_threads())


def in_threads(function: Callable[[Part], Result], parts: Sequence[Part]) -> list[Result]:
    """Call a function for each part, in as many threads as torch has.

    Each thread computes a part from beginning to end on one core: its data stays in that core's
    cache, and it does not wait for other threads. The results do not depend on the number of
    threads. The threads inherit CPU autocast and the gradient mode of the caller.

    Args:
        function: called for each part.
        parts: arguments of the calls.

    Returns:
        The results, in the order of the parts.
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
