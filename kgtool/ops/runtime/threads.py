"""Division of work into parts for threads, so that no bit depends on the number of threads.

Libraries of matrix products, and some of torch's operations (sigmoid, softplus, sums, the gradient
of a layer norm), round otherwise if they divide their work among more threads. So torch works in
one thread here. Work that takes long is divided into parts by its own size. Each thread computes
whole parts, and the results of the parts are added in order.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TypeVar

import torch

Part = TypeVar("Part")
Result = TypeVar("Result")

# Multiplications of a part of a matrix product, and the largest number of parts.
PRODUCT, PARTS = 1 << 26, 8


@dataclass
class _Work:
    """The work of the process.

    Attributes:
        depth: number of threads in `torch_in_one_thread`.
        threads: the number of threads that the user gave to torch.
    """

    lock: threading.Lock = field(default_factory=threading.Lock)
    depth: int = 0
    threads: int = 1


class _Here(threading.local):
    """The work of a thread.

    Attributes:
        inside: torch has one thread.
        part: the thread computes a part.
        owed: the user's number of threads, if the last block could not put it back.
    """

    inside: bool = False
    part: bool = False
    owed: int = 0


_work = _Work()
_here = _Here()


@contextmanager
def torch_in_one_thread() -> Iterator[None]:
    """Compute torch's operations in one thread; also a decorator of functions.

    `in_threads` and compiled kernels still use as many threads as torch has outside the block.
    """
    if _here.inside:
        yield
        return
    with _work.lock:
        if not _work.depth:
            _work.threads = _here.owed or torch.get_num_threads()
        _work.depth += 1
        torch.set_num_threads(1)
    _here.inside = True
    try:
        yield
    finally:
        _here.inside = False
        with _work.lock:
            _work.depth = max(0, _work.depth - 1)
            if _work.depth:
                # MKL has one number for the whole process, and other threads are in a block.
                _here.owed = _work.threads
            else:
                torch.set_num_threads(_work.threads)
                _here.owed = 0


def num_workers() -> int:
    """The number of threads that share work: torch's outside of `torch_in_one_thread`."""
    if _here.part:
        return 1
    return _work.threads if _here.inside else torch.get_num_threads()


def in_threads(function: Callable[[Part], Result], parts: Sequence[Part]) -> list[Result]:
    """Call a function for each part, in as many threads as torch has.

    Each thread computes a part from beginning to end on one core: its data stays in that core's
    cache, and it does not wait for other threads. Torch computes a single part in one thread, too.
    The results do not depend on the number of threads. The threads inherit CPU autocast and the
    gradient mode of the caller.

    Args:
        function: called for each part.
        parts: arguments of the calls.

    Returns:
        The results, in the order of the parts.
    """
    with torch_in_one_thread():
        threads = min(num_workers(), len(parts))
        if threads <= 1:
            return [function(part) for part in parts]
        grad, half = torch.is_grad_enabled(), torch.is_autocast_enabled("cpu")
        dtype = torch.get_autocast_dtype("cpu")

        def work(part: Part) -> Result:
            with torch.set_grad_enabled(grad), autocast("cpu", dtype, half):
                return function(part)

        futures = [_pool(num_workers()).submit(work, part) for part in parts]
        try:
            return [future.result() for future in futures]
        finally:  # after a failure, no thread works on
            for future in futures:
                future.cancel()
            wait(futures)


def autocast(device: str, dtype: torch.dtype, enabled: bool) -> torch.autocast:
    """Autocast without its cache of weights.

    All threads of the process share the cache, and the first that leaves its block clears it. The
    gradient of a weight is added up in another precision if the weight comes from the cache.
    """
    return torch.autocast(device, dtype, enabled=enabled, cache_enabled=False)


@lru_cache(maxsize=1)
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, "kgtool", _begin)


def _begin() -> None:
    """Begin a thread of the pool."""
    _here.inside = _here.part = True
    torch.set_num_threads(1)


def product_parts(rows: int, multiplications: int, align: int = 16) -> list[slice]:
    """Divide the rows of a matrix product into parts; the division depends on the sizes only.

    Args:
        rows: number of rows.
        multiplications: number of multiplications of a row.
        align: all parts except the last have a multiple of this many rows. If there are several
            parts, each has at least this many.
    """
    parts = min(PARTS, 1 << max(0, (rows * multiplications // PRODUCT).bit_length() - 1))
    size = max(1, -(-rows // (parts * align)) * align)
    starts = [0, *(start for start in range(size, rows, size) if rows - start >= align)]
    return [slice(*ends) for ends in zip(starts, [*starts[1:], rows], strict=True)]


def _begin_child() -> None:
    """A forked process has no threads of its parent, and no locks that they hold."""
    global _work
    before = _work
    _work = _Work(threads=before.threads)
    _here.inside = _here.part = False
    _pool.cache_clear()
    if before.depth:
        torch.set_num_threads(before.threads)


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_begin_child)
