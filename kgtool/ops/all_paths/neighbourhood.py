"""The neighbourhood of an entity, for a pass over a part of a graph that is too large for it.

A random walk from the entity chooses the part. A step of the walk divides the weight of each entity
equally among its edges. It reads the edges of the greatest weights, as many as its budget allows,
and adds the new entities of the greatest weights. So the edges of a hub, which each bring little,
are read last. All edges between the chosen entities belong to the part: a pass over it reads fewer
messages than a pass over the graph, and the same ones.

`neighbourhood` makes the part as a graph of its own. `kgtool.ops.all_paths.reach` needs the
entities alone.
"""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray

from kgtool.ops.all_paths.growth import EDGES_AN_ENTITY, keep_entities
from kgtool.ops.graph.csc import CSC


@numba.njit(nogil=True, cache=True)
def _walk(offsets, neighbour, head, num_steps, most, reads, excluded):  # type: ignore[no-untyped-def] # pragma: no cover
    """The entities that the walk keeps, in the order of discovery.

    It does not take the edges of the head that `excluded` marks, which may be empty.
    """
    slot = np.full(len(offsets) - 1, -1, np.int32)
    node = np.empty(1 + num_steps * most + reads, np.int32)
    weight = np.zeros(len(node))
    node[0], weight[0], slot[head], known = head, 1.0, 0, 1
    for _ in range(num_steps):
        share = np.empty(known)
        for k in range(known):
            share[k] = weight[k] / max(offsets[node[k] + 1] - offsets[node[k]], 1)
        if len(excluded) > 0:
            share[0] = weight[0] / max(len(excluded) - excluded.sum(), 1)
        brought = np.zeros(known)
        left, count = reads, known
        for k in np.argsort(-share, kind="mergesort"):
            begin, size = offsets[node[k]], offsets[node[k] + 1] - offsets[node[k]]
            read = min(size, left)
            left -= read
            for i in range(read):  # of too many edges, some at equal distances
                if k == 0 and len(excluded) > 0 and excluded[i * size // read]:
                    continue
                v = neighbour[begin + i * size // read]
                if slot[v] < 0:
                    node[count], weight[count], slot[v] = v, 0.0, count
                    count += 1
                if slot[v] >= known:
                    weight[slot[v]] += share[k]
                else:
                    brought[slot[v]] += share[k]
            if left == 0:
                break
        for k in range(known):
            weight[k] += brought[k]
        place = keep_entities(weight[:count], known, most)
        for k in range(known, count):
            slot[node[k]] = place[k]
            if place[k] >= 0:  # it moves to the front, over one that has moved or is not kept
                node[place[k]], weight[place[k]] = node[k], weight[k]
        known += min(count - known, most)
    return node[:known].copy()


@numba.njit(nogil=True, cache=True)
def _edges_between(offsets, source, entity):  # type: ignore[no-untyped-def] # pragma: no cover
    """The edges between entities, ascending: offsets, sources by position, and edge ids."""
    position = np.full(len(offsets) - 1, -1, np.int32)
    degrees = 0
    for i in range(len(entity)):
        position[entity[i]] = i
        degrees += offsets[entity[i] + 1] - offsets[entity[i]]
    first = np.zeros(len(entity) + 1, np.int32)
    into, edge, n = np.empty(degrees, np.int32), np.empty(degrees, np.int32), 0
    for i in range(len(entity)):
        for e in range(offsets[entity[i]], offsets[entity[i] + 1]):
            if position[source[e]] >= 0:
                into[n], edge[n] = position[source[e]], e
                n += 1
        first[i + 1] = n
    return first, into[:n].copy(), edge[:n].copy()


def nearest(
    edges: CSC, head: int, num_steps: int, most: int, excluded: NDArray[np.bool_]
) -> NDArray[np.int32]:
    """The entities of the part of a graph around an entity, the entity first.

    Args:
        edges: the graph, which must contain the inverse of every edge.
        head: the entity.
        num_steps: steps of the walk.
        most: the largest number of entities that a step adds. It reads at most `EDGES_AN_ENTITY`
            times as many edges.
        excluded: for each in-edge of the entity, whether the walk may not take it; or empty.
    """
    reads = most * EDGES_AN_ENTITY
    found: NDArray[np.int32] = _walk(
        edges.offsets, edges.source, head, num_steps, most, reads, excluded
    )
    return found


def neighbourhood(
    edges: CSC, head: int, num_steps: int, most: int
) -> tuple[NDArray[np.int32], CSC]:
    """The part of a graph around an entity.

    The time depends on `most` and on the degrees of the chosen entities. The result depends on the
    graph alone.

    Args:
        edges, head, num_steps, most: see `nearest`.

    Returns:
        `(k,)` int32, the chosen entities, ascending; and the edges between them in the order of the
        graph, with the positions of these entities as ids.
    """
    entity = np.sort(nearest(edges, head, num_steps, most, np.empty(0, np.bool_)))
    offsets, source, edge = _edges_between(edges.offsets, edges.source, entity)
    weight = None if edges.weight is None else edges.weight[edge]
    return entity, CSC(offsets, source, edges.type[edge], len(entity), weight)
