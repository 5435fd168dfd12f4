"""Distances between pairs of nodes, by bidirectional breadth-first search."""

from __future__ import annotations

import numba
import numpy as np
import torch
from torch import Tensor

from kgtool.ops.graph.csc import offsets_of
from kgtool.ops.runtime.compiling import match_threads
from kgtool.ops.runtime.order_by import begins

BLOCKS = 64  # blocks of pairs; each block has its own queues


@numba.njit(parallel=True, cache=True)
def _search(offsets, neighbour, source, target, distance):  # type: ignore[no-untyped-def] # pragma: no cover
    num_nodes, num_pairs = len(offsets) - 1, len(source)
    for block in numba.prange(BLOCKS):
        first, last = num_pairs * block // BLOCKS, num_pairs * (block + 1) // BLOCKS
        if first == last:
            continue
        # Side 0 searches from the source, side 1 from the target.
        mark = np.full((2, num_nodes), -1, np.int32)  # the last pair that reached a node
        queue = np.empty((2, num_nodes), np.int32)
        begin, end = np.zeros(2, np.int64), np.zeros(2, np.int64)  # the frontier of each side
        edges = np.zeros(2, np.int64)  # number of edges that leave the frontier
        for i in range(first, last):
            distance[i] = 0 if source[i] == target[i] else -1
            if source[i] == target[i]:
                continue
            for side, node in enumerate((source[i], target[i])):
                queue[side, 0] = node
                mark[side, node] = i
                begin[side], end[side] = 0, 1
                edges[side] = offsets[node + 1] - offsets[node]
            steps = 0
            while distance[i] < 0 and edges[0] > 0 and edges[1] > 0:
                side = 0 if edges[0] <= edges[1] else 1
                other = 1 - side
                steps += 1
                filled, ahead = end[side], 0
                for place in range(begin[side], end[side]):
                    node = queue[side, place]
                    for edge in range(offsets[node], offsets[node + 1]):
                        next_node = neighbour[edge]
                        if mark[other, next_node] == i:
                            distance[i] = steps
                            break
                        if mark[side, next_node] != i:
                            mark[side, next_node] = i
                            queue[side, filled] = next_node
                            filled += 1
                            ahead += offsets[next_node + 1] - offsets[next_node]
                    if distance[i] >= 0:
                        break
                begin[side], end[side], edges[side] = end[side], filled, ahead


def distinct_ways(edges: Tensor, num_nodes: int) -> tuple[Tensor, Tensor]:
    """Both directions of each edge, without duplicates.

    Args:
        edges: `(e, 2)` int64.
        num_nodes: a number above all ids.

    Returns:
        The first and the second node of each direction, `(m,)` int64 each, sorted by both.
    """
    first, second = edges.unbind(1)
    keys = torch.cat([first * num_nodes + second, second * num_nodes + first])
    keys.numpy().sort()  # in place
    keys = keys[torch.from_numpy(begins(keys.numpy()))]
    return keys // num_nodes, keys % num_nodes


def distance(edges: Tensor, pairs: Tensor, num_nodes: int) -> Tensor:
    """The number of edges on a shortest path between two nodes; edges have no direction.

    Args:
        edges: `(e, 2)` int64.
        pairs: `(n, 2)` int64.
        num_nodes: a number above all ids.

    Returns:
        `(n,)` int64; 0 for a node and itself, -1 if there is no path.
    """
    first, second = distinct_ways(edges, num_nodes)
    offsets, neighbour = offsets_of(first, num_nodes), second.int()
    lengths = torch.empty(len(pairs), dtype=torch.long)
    source, target = pairs.t().contiguous().numpy()
    match_threads()
    _search(offsets.numpy(), neighbour.numpy(), source, target, lengths.numpy())
    return lengths
