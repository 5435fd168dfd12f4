"""Sample in-edges of nodes, with weights that keep sums unbiased.

GraphSAGE (Hamilton, Ying & Leskovec 2017) samples neighbours this way. The weights are those of
R-GCN's mean over all edges of a type.
"""

from __future__ import annotations

import numba
import numpy as np
import torch
from torch import Tensor

from kgtool.ops.graph.csc import CSC
from kgtool.ops.runtime.compiling import match_threads
from kgtool.ops.runtime.lower_bound import lower_bound
from kgtool.ops.runtime.mix import mix

NODES = 64  # nodes that a thread processes at a time


@numba.njit(parallel=True, cache=True)
def _sample(offsets, kind, excluded, node, fanout, seed, weight, until, edge, scale, num_edges):  # type: ignore[no-untyped-def] # pragma: no cover
    for chunk in numba.prange((len(node) + NODES - 1) // NODES):
        for i in range(chunk * NODES, min((chunk + 1) * NODES, len(node))):
            start, stop = offsets[node[i]], offsets[node[i] + 1]
            drawn, count = edge[i], min(stop - start, fanout)
            if count == stop - start:
                for j in range(count):
                    drawn[j] = start + j
            else:
                # Floyd's sampling without replacement (Bentley & Floyd 1987).
                for j in range(count):
                    last = stop - start - count + j
                    key = mix(1, np.uint64(node[i]) * np.uint64(fanout) + np.uint64(j))
                    place = start + np.int64(mix(1, seed ^ key) % np.uint64(last + 1))
                    for k in range(j):
                        if drawn[k] == place:
                            place = start + last
                            break
                    drawn[j] = place
                drawn[:count] = np.sort(drawn[:count])
            first = lower_bound(excluded, 0, len(excluded), start)
            last = lower_bound(excluded, first, len(excluded), stop)
            left = 0
            for j in range(count):
                e = drawn[j]
                place = lower_bound(excluded, first, last, e)
                if place < last and excluded[place] == e:
                    continue
                begin = lower_bound(kind, start, e, kind[e])
                end = lower_bound(kind, e, stop, kind[e] + 1)
                drawn[left] = e
                if weight is None:
                    gone = lower_bound(excluded, first, last, end) - lower_bound(
                        excluded, first, last, begin
                    )
                    scale[i, left] = 1.0 / (end - begin - gone)
                else:
                    total = until[end] - until[begin]
                    for k in range(
                        lower_bound(excluded, first, last, begin),
                        lower_bound(excluded, first, last, end),
                    ):
                        total -= weight[excluded[k]]
                    scale[i, left] = weight[e] / max(total, np.float64(weight[e]))
                left += 1
            there = stop - start - (last - first)
            for j in range(left):
                scale[i, j] *= there / left
            num_edges[i] = left


def sample_in_edges(
    edges: CSC, node: Tensor, fanout: int, excluded_edges: Tensor, seed: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Sample at most `fanout` in-edges of each node, uniformly and without replacement.

    The sample depends on the seed and the node, and not on the number of threads. A node with at
    most `fanout` in-edges gets all of them, with the same weights as in the whole graph.

    Args:
        edges: the graph, sorted by destination, then type.
        node: `(n,)` int64.
        fanout: the maximum number of edges for each node.
        excluded_edges: `(k,)` int64 edge ids, ascending, without duplicates.
        seed: the seed of the sample.

    Returns:
        `position` `(e,)` int64, ascending positions in `node`; `edge` `(e,)` int64, ascending
        within a node; and `scale` `(e,)` float32, `1 / c_{v,r} · |N(v)| / m`. Here `c_{v,r}` is the
        number of in-edges of v of the edge's type, `N(v)` the set of all in-edges of v (both
        without the excluded edges), and m the number of sampled edges of v. With weights `ω`,
        `ω_e / Σ ω` takes the place of `1 / c_{v,r}`, with the sum over the same edges. The expected
        value of the sum over sampled edges, weighted by `scale`, is the sum over all edges,
        weighted by `1 / c_{v,r}`.
    """
    match_threads()
    place = np.empty((len(node), fanout), np.int64)
    scale = np.empty((len(node), fanout), np.float32)
    num_edges = np.empty(len(node), np.int64)
    _sample(
        edges.offsets, edges.type, excluded_edges.numpy(), node.numpy(), fanout, np.uint64(seed),
        edges.weight, edges.weight_until, place, scale, num_edges,
    )  # fmt: skip
    sampled = np.arange(fanout) < num_edges[:, None]
    position = torch.repeat_interleave(torch.from_numpy(num_edges))
    return position, torch.from_numpy(place[sampled]), torch.from_numpy(scale[sampled])
