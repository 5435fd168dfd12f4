"""Memory allocation on Linux: keep large blocks instead of returning them to the system."""

import ctypes
import sys

# mallopt's parameters, from glibc's malloc.h.
M_TRIM_THRESHOLD = -1
M_MMAP_MAX = -4


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
