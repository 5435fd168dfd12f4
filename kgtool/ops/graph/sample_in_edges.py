"""A few in-edges of each of some nodes, drawn at random, weighed so that sums stay unbiased.

GraphSAGE (Hamilton, Ying & Leskovec 2017) draws them; the weights are those of a mean over all.
"""

from __future__ import annotations

import numba
import numpy as np
import torch
from torch import Tensor

from kgtool.ops.graph.incidence import Incidence
from kgtool.ops.runtime.compiling import match_threads
from kgtool.ops.runtime.lower_bound import lower_bound

NODES = 64  # a thread's share at a time


@numba.njit(inline="always")
def _mixed(x):  # type: ignore[no-untyped-def] # pragma: no cover
    """SplitMix64 (Steele, Lea & Flood 2014): a number as if at random, for each number."""
    x = (x + np.uint64(0x9E3779B97F4A7C15)) & np.uint64(0xFFFFFFFFFFFFFFFF)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


@numba.njit(parallel=True, cache=True)
def _sample(offsets, kind, hidden, node, fanout, seed, edge, scale, kept):  # type: ignore[no-untyped-def] # pragma: no cover
    for chunk in numba.prange((len(node) + NODES - 1) // NODES):
        for i in range(chunk * NODES, min((chunk + 1) * NODES, len(node))):
            start, stop = offsets[node[i]], offsets[node[i] + 1]
            drawn, count = edge[i], min(stop - start, fanout)
            if count == stop - start:
                for j in range(count):
                    drawn[j] = start + j
            else:
                # Floyd's way to draw without replacement (Bentley & Floyd 1987).
                for j in range(count):
                    last = stop - start - count + j
                    key = _mixed(np.uint64(node[i]) * np.uint64(fanout) + np.uint64(j))
                    place = start + np.int64(_mixed(seed ^ key) % np.uint64(last + 1))
                    for k in range(j):
                        if drawn[k] == place:
                            place = start + last
                            break
                    drawn[j] = place
                drawn[:count] = np.sort(drawn[:count])
            first = lower_bound(hidden, 0, len(hidden), start)
            last = lower_bound(hidden, first, len(hidden), stop)
            left = 0
            for j in range(count):
                e = drawn[j]
                place = lower_bound(hidden, first, last, e)
                if place < last and hidden[place] == e:
                    continue
                begin = lower_bound(kind, start, e, kind[e])
                end = lower_bound(kind, e, stop, kind[e] + 1)
                gone = lower_bound(hidden, first, last, end) - lower_bound(
                    hidden, first, last, begin
                )
                drawn[left] = e
                scale[i, left] = 1.0 / (end - begin - gone)
                left += 1
            there = stop - start - (last - first)
            for j in range(left):
                scale[i, j] *= there / left
            kept[i] = left


def sample_in_edges(
    edges: Incidence, node: Tensor, fanout: int, hidden: Tensor, seed: int
) -> tuple[Tensor, Tensor, Tensor]:
    """At most `fanout` in-edges of each node, without replacement, all alike.

    The same for any number of threads. Where a node has no more than `fanout`, they are all there,
    and weigh what they do in the whole graph.

    Args:
        edges: the graph, sorted by destination, then type.
        node: `(n,)` int64.
        fanout: most edges of a node.
        hidden: `(k,)` int64 edges that are not there, ascending, each once.
        seed: of the draws, a function of it and the node.

    Returns:
        `position` `(e,)` int64, ascending positions in `node`; `edge` `(e,)` int64, ascending
        within a node; and `scale` `(e,)` float32, `1 / c_{v,r} · |N(v)| / m`, with `c_{v,r}` the
        edges of v of the same type, `N(v)` all of its edges, both without the hidden ones, and m
        those drawn: summed with it, what is drawn has the mean of the sum over all edges with
        `1 / c_{v,r}`.
    """
    match_threads()
    place = np.empty((len(node), fanout), np.int64)
    scale = np.empty((len(node), fanout), np.float32)
    kept = np.empty(len(node), np.int64)
    _sample(
        edges.offsets, edges.type, hidden.numpy(), node.numpy(), fanout, np.uint64(seed), place,
        scale, kept,
    )  # fmt: skip
    there = np.arange(fanout) < kept[:, None]
    position = torch.repeat_interleave(torch.from_numpy(kept))
    return position, torch.from_numpy(place[there]), torch.from_numpy(scale[there])
