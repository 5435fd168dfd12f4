"""Binary search inside compiled kernels."""

from __future__ import annotations

import numba


@numba.njit(cache=True)
def lower_bound(values, begin, end, wanted):  # type: ignore[no-untyped-def] # pragma: no cover
    """The first index in `[begin, end)` whose value is at least `wanted`, or `end`."""
    while begin < end:
        middle = (begin + end) // 2
        if values[middle] < wanted:
            begin = middle + 1
        else:
            end = middle
    return begin
