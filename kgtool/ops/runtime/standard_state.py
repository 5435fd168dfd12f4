"""The global state that results depend on: standard while kgtool works, then the user's again.

Torch has settings of the whole process or thread: the default dtype and device, autocast, grad and
inference mode, the precision of products. They belong to the user, whose notebook may have changed
them for another purpose. Each public function works under `standard_state`, so that its numbers do
not depend on them.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

import numpy as np
import torch
from threadpoolctl import threadpool_limits

from kgtool.ops.runtime.threads import torch_in_one_thread


@dataclass
class _Process:
    """The settings of the whole process while at least one thread is in `standard_state`.

    Attributes:
        depth: number of blocks that are open, in all threads.
        dtype, precision: the user's default dtype and precision of float32 products.
        worked: whether a block was ever opened, so that pools of threads may exist.
        forked: whether this process is the child of one that had worked; `limited` whether its
            pools are set to one thread.
    """

    lock: threading.Lock = field(default_factory=threading.Lock)
    depth: int = 0
    dtype: torch.dtype = torch.float32
    precision: str = "highest"
    worked: bool = False
    forked: bool = False
    limited: bool = False


_process = _Process()
# Held by the thread that trains: torch has one random state for all threads.
_training = threading.Lock()


@contextmanager
def standard_state() -> Iterator[None]:
    """Work under torch's own defaults; also a decorator of functions (not of generators).

    The default dtype is float32 and the default device the CPU; autocast and inference mode are
    off, gradients are on; numpy warns of invalid numbers; torch works in one thread, see
    `kgtool.ops.runtime.threads`. All of this is the user's again after the block. The default dtype
    and the precision of products belong to the process: other threads see the standard ones until
    the last block ends.

    In a process that was forked after kgtool had worked in its parent, torch works in one thread.
    """
    _process.worked = True
    if _process.forked and not _process.limited:
        # A fork copies the pools of threads, but not their threads: the child would wait for them.
        threadpool_limits(limits=1)
        torch.set_num_threads(1)
        _process.limited = True
    with _process.lock:
        if not _process.depth:
            _process.dtype = torch.get_default_dtype()
            _process.precision = torch.get_float32_matmul_precision()
            torch.set_default_dtype(torch.float32)
            if _process.precision != "highest":
                torch.set_float32_matmul_precision("highest")
        _process.depth += 1
    try:
        with ExitStack() as stack:
            stack.enter_context(torch_in_one_thread())
            stack.enter_context(torch.inference_mode(False))
            stack.enter_context(torch.enable_grad())
            stack.enter_context(np.errstate(all="warn", under="ignore"))
            if torch.get_default_device().type != "cpu":
                stack.enter_context(torch.device("cpu"))
            for device in ("cpu", "cuda"):
                if torch.is_autocast_enabled(device):
                    stack.enter_context(torch.autocast(device, enabled=False))
            yield
    finally:
        with _process.lock:
            _process.depth = max(0, _process.depth - 1)
            if not _process.depth:
                torch.set_default_dtype(_process.dtype)
                if _process.precision != "highest":
                    torch.set_float32_matmul_precision(_process.precision)


def refuse_fork() -> None:
    """Raise an error before kernels of several threads start in a forked process.

    They would wait forever for threads of the parent, or end the process without a word.

    Raises:
        RuntimeError: in a process that was forked after kgtool had worked in its parent.
    """
    if _process.forked:
        raise RuntimeError(
            "this process was forked after kgtool had worked in its parent, and the threads of "
            "compiled kernels do not survive a fork. Remedy: start processes with "
            'multiprocessing.get_context("spawn"), or use kgtool only in the child processes.'
        )


def _begin_child() -> None:
    """Locks that another thread of the parent holds are open in a forked process."""
    global _process, _training
    before = _process
    if before.depth:
        torch.set_default_dtype(before.dtype)
    _process = _Process(forked=before.worked or before.forked)
    _training = threading.Lock()


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_begin_child)


@contextmanager
def own_random_state(waits: Callable[[], None] | None = None) -> Iterator[None]:
    """Work with torch's random generators alone; afterwards they continue where the user left them.

    Torch has one default generator in a process. Other threads that enter this block wait, so that
    two trainings in two threads give the same numbers as one after the other.

    Args:
        waits: called before this thread waits for another one.
    """
    if not _training.acquire(blocking=False):
        if waits is not None:
            waits()
        _training.acquire()
    try:
        gpus = range(torch.cuda.device_count()) if torch.cuda.is_available() else ()
        with torch.random.fork_rng(gpus):
            yield
    finally:
        _training.release()
