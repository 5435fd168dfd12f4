"""Memory: how much there is, and on Linux how it is to be used."""

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
# Of the machine's memory: a table of embeddings and its optimiser's sums take half of it then.
LARGE = 0.25


@cache
def machine_bytes() -> int | None:
    """The memory of this machine, or what its container may have; None where nobody tells."""
    try:
        own = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):
        return None
    return min(own, *_limits())


def _limits(system: Path = Path("/")) -> Iterator[int]:
    """What Linux's control groups, of either version, allow this process and those around it."""
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
            # A container sees its own group alone, and "max" is no limit.
            with suppress(OSError, ValueError):
                yield int((top / group / name).read_text())


def large() -> float:
    """From how many bytes on a table is too large for the memory, which processes here share."""
    there = machine_bytes() or math.inf
    return there * LARGE / int(os.environ.get("LOCAL_WORLD_SIZE", "1"))  # torchrun's


@contextmanager
def by_row(*tables: Tensor) -> Iterator[None]:
    """Tell the system that in the `with` block rows are read here and there, of tables so large.

    Of those that are mapped, what stands around a row is then not read with it, which may be
    megabytes. Elsewhere they are read from one end to the other.
    """
    found = [table for table in tables if table.nbytes >= large()]
    _advise(found, "MADV_RANDOM")
    try:
        yield
    finally:
        _advise(found, "MADV_NORMAL")


def _advise(tables: Sequence[Tensor], advice: str) -> None:
    if not sys.platform.startswith("linux"):
        return
    libc = ctypes.CDLL(None)
    for table in tables:
        before = table.data_ptr() % mmap.PAGESIZE
        start, size = table.data_ptr() - before, table.nbytes + before
        libc.madvise(ctypes.c_void_p(start), ctypes.c_size_t(size), getattr(mmap, advice))


def keep_large_blocks() -> None:
    """Tell glibc to serve large blocks from the heap and to keep them when they are freed.

    By default each large temporary is mapped anew and faults in page by page, which costs more
    than the arithmetic on it. Does nothing where the C library is not glibc.
    """
    if not sys.platform.startswith("linux"):
        return
    libc = ctypes.CDLL(None)
    if hasattr(libc, "gnu_get_libc_version"):
        libc.mallopt(M_MMAP_MAX, 0)
        libc.mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
