"""Memory: its size, and, on Linux, hints on its use to the system."""

import ctypes
import math
import mmap
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

from torch import Tensor

# mallopt's parameters, from glibc's malloc.h.
M_TRIM_THRESHOLD = -1
M_MMAP_MAX = -4
# Share of the machine's memory from which a table is large. A table of embeddings of this size and
# the optimiser's sums together take half of the memory.
LARGE = 0.25


@cache
def machine_bytes() -> int | None:
    """The memory of this machine or the limit of its container; None if the system reports none."""
    try:
        own = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):
        return None
    return min(own, *_limits())


def _limits(system: Path = Path("/")) -> Iterator[int]:
    """The memory limits of this process's control group and its parents (Linux, version 1 or 2)."""
    try:
        groups = (system / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    for line in groups:
        _, kinds, place = line.split(":", 2)
        if "memory" in kinds.split(","):
            top, name = system / "sys/fs/cgroup/memory", "memory.limit_in_bytes"
        elif not kinds:
            top, name = system / "sys/fs/cgroup", "memory.max"
        else:
            continue
        inside = Path(place.lstrip("/"))
        for group in (inside, *inside.parents):
            # A container sees only its own group. "max" means no limit.
            with suppress(OSError, ValueError):
                yield int((top / group / name).read_text())


def large() -> float:
    """The size in bytes from which a table is too large for memory.

    The processes of a run on this machine share its memory.
    """
    there = machine_bytes() or math.inf
    return there * LARGE / int(os.environ.get("LOCAL_WORLD_SIZE", "1"))  # torchrun's


@contextmanager
def by_row(*tables: Tensor) -> Iterator[None]:
    """Announce to the system that the `with` block reads single rows of large tables.

    For tables that are mapped to files, the system then reads a row without the bytes around it,
    which may be megabytes. Outside the block, tables are read from beginning to end.
    """
    large_tables = [table for table in tables if table.nbytes >= large()]
    _advise(large_tables, "MADV_RANDOM")
    try:
        yield
    finally:
        _advise(large_tables, "MADV_NORMAL")


def _advise(tables: Sequence[Tensor], advice: str) -> None:
    if not sys.platform.startswith("linux"):
        return
    libc = ctypes.CDLL(None)
    for table in tables:
        before = table.data_ptr() % mmap.PAGESIZE
        start, size = table.data_ptr() - before, table.nbytes + before
        libc.madvise(ctypes.c_void_p(start), ctypes.c_size_t(size), getattr(mmap, advice))


def keep_large_blocks() -> None:
    """Make glibc allocate large blocks from the heap and keep freed blocks.

    By default glibc maps each large temporary tensor anew, and the system loads it page by page.
    This takes longer than the arithmetic on the tensor. Does nothing with other C libraries.
    """
    if not sys.platform.startswith("linux"):
        return
    libc = ctypes.CDLL(None)
    if hasattr(libc, "gnu_get_libc_version"):
        libc.mallopt(M_MMAP_MAX, 0)
        libc.mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
