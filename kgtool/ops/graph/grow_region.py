"""Grow a connected region of a graph, node by node, so that few edges leave it."""

from __future__ import annotations

import heapq

import numba
import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from torch import Tensor


@numba.njit(nogil=True, cache=True)
def _grow(offsets, neighbour, weight, order, place, size, taken):  # type: ignore[no-untyped-def] # pragma: no cover
    degree = np.zeros(len(taken), np.int64)
    for node in range(len(taken)):
        for edge in range(offsets[node], offsets[node + 1]):
            degree[node] += weight[edge]
    inside = np.zeros(len(taken), np.int64)
    queue = [(0.0, np.int64(0))]
    queue.clear()  # numba has inferred its type; now it is empty
    begun, count = 0, 0
    while count < size:
        node = -1
        while len(queue) > 0 and node < 0:
            at = heapq.heappop(queue)[1]
            # Each outdated entry has a newer entry in front of it, with a larger share inside.
            if not taken[order[at]]:
                node = order[at]
        while node < 0:
            if not taken[order[begun]]:
                node = order[begun]
            begun += 1
        taken[node] = True
        count += 1
        for edge in range(offsets[node], offsets[node + 1]):
            v = neighbour[edge]
            inside[v] += weight[edge]
            if not taken[v]:
                heapq.heappush(queue, (1.0 - inside[v] / degree[v], place[v]))


def grow_region(edges: Tensor, order: NDArray[np.int64], num_nodes: int, size: int) -> Tensor:
    """Grow a region from the first node of an order.

    Each step takes the node with the largest share of its edges going into the region. Of nodes
    with equal shares it takes the first in `order`. If no edge leaves the region, it takes the next
    node of `order`.

    Args:
        edges: `(e, 2)` int64, without direction. Each parallel edge counts; self loops do not.
        order: `(n,)` int64, the candidate nodes. They must include all nodes with edges.
        num_nodes: a number above all ids.
        size: the number of nodes to take, at most `n`.

    Returns:
        `(num_nodes,)` bool: whether each node is in the region.
    """
    one, other = edges[edges[:, 0] != edges[:, 1]].numpy().T
    ends = np.concatenate([one, other]), np.concatenate([other, one])
    graph = csr_matrix((np.ones(2 * len(one), np.int32), ends), shape=(num_nodes, num_nodes))
    place = np.zeros(num_nodes, np.int64)
    place[order] = np.arange(len(order))
    taken = np.zeros(num_nodes, np.bool_)
    _grow(graph.indptr, graph.indices, graph.data, order, place, size, taken)
    return torch.from_numpy(taken)
