"""A step of a pass on a node budget: choose the edges to read and the entities to keep.

A random walk with learned transition weights chooses both. The weight of the walk at the head is 1.
An entity `u` of weight `y_u` gives each out-edge of relation `r` the weight

    y_u · exp(p_{u,r}) / degree(u),   p_{u,r} = ⟨a_r, s_u⟩ + b_r.

Here `s` are the states of the pass, and `a` and `b` are learned. Both begin at zero: then the walk
takes all edges alike, and its weights are those of personalised PageRank without restarts. A group
is the edges of one entity along one relation; they have equal weights. A step reads groups in
descending order of the weight of an edge, until the budget of edges is exhausted. It reads the last
group in part. The weight of a new entity is the sum of the weights of the edges read to it. So a
step reads the million edges of a hub last, and its time depends on its budget and not on degrees.

A call works on one head; other threads may run at the same time.
"""

from __future__ import annotations

import numba
import numpy as np

from kgtool.ops.runtime.lanes import add, fill, kernel, load, multiply, store, total
from kgtool.ops.runtime.mix import mix

# Edges that a step may read for each entity that it may add. Reading them takes about as long as
# the computation of a pass at an entity.
EDGES_AN_ENTITY = 64
# Bins of the histogram of groups by weight, which finds the weight at which the budget ends.
BINS = 4096
# Insertion sort is used for segments shorter than this.
SHORT = 24


@numba.njit(cache=True)
def _group_end(type_, begin, end):  # type: ignore[no-untyped-def] # pragma: no cover
    """The end of the group that begins at `begin`, in time logarithmic in its size."""
    r, step, low = type_[begin], 1, begin
    while low + step < end and type_[low + step] == r:
        low += step
        step *= 2
    high = min(low + step, end)
    while high - low > 1:
        middle = (low + high) // 2
        if type_[middle] == r:
            low = middle
        else:
            high = middle
    return high


@kernel
def choose_groups(offsets, type_, entity, weight, states, before, priorities, most, seed, width):  # type: ignore[no-untyped-def] # pragma: no cover
    """Choose the groups that a step reads, among the out-edges of the kept entities.

    Returns:
        For each group, in the order of entities: its first edge; its number of edges; the number of
        edges to read; the offset of the first edge to read (reading wraps round at the end of the
        group); the slot of its entity; and the weight of each edge.
    """
    num_types, dims = len(priorities), states.shape[1]
    state, priority = states.reshape(-1), priorities.reshape(-1)
    most_groups, edges = 0, 0
    for k in range(len(entity)):
        degree = offsets[entity[k] + 1] - offsets[entity[k]]
        most_groups += min(degree, num_types)
        edges += degree
    begin, size = np.empty(most_groups, np.int64), np.empty(most_groups, np.int64)
    slot, log_weight = np.empty(most_groups, np.int32), np.empty(most_groups, np.float64)
    n = 0
    for k in range(len(entity)):
        s = load(state, (before + k) * dims, width)
        first, end = offsets[entity[k]], offsets[entity[k] + 1]
        base = np.log(weight[k] / max(end - first, 1))
        while first < end:
            last, r = _group_end(type_, first, end), np.int64(type_[first])
            # The out-edges are the inverses of the in-edges.
            t = r + num_types // 2 if r < num_types // 2 else r - num_types // 2
            place = t * (dims + 1)
            p = total(multiply(s, load(priority, place, width))) + priority[place + dims]
            begin[n], size[n], slot[n], log_weight[n] = first, last - first, k, base + p
            n += 1
            first = last
    begin, size, slot, log_weight = begin[:n], size[:n], slot[:n], log_weight[:n]
    count, turn = size.copy(), np.zeros(n, np.int64)
    if edges > most:
        low, high = log_weight.min(), log_weight.max()
        scale = (BINS - 1) / (high - low) if high > low else 0.0
        edges_of_bin = np.zeros(BINS, np.int64)
        for g in range(n):
            edges_of_bin[int((log_weight[g] - low) * scale)] += size[g]
        left, at = most, BINS - 1
        while edges_of_bin[at] <= left:
            left -= edges_of_bin[at]
            at -= 1
        # Groups in higher bins are read, groups in lower bins are not. Groups in this bin are read
        # in descending order of weight until the budget ends.
        inside = np.nonzero(((log_weight - low) * scale).astype(np.int64) == at)[0]
        for g in range(n):
            if int((log_weight[g] - low) * scale) < at:
                count[g] = 0
        for g in inside[np.argsort(-log_weight[inside], kind="mergesort")]:
            count[g] = min(size[g], left)
            left -= count[g]
            if 0 < count[g] < size[g]:
                turn[g] = mix(seed, begin[g]) % np.uint64(size[g])
        read = np.nonzero(count)[0]
        begin, size, count, turn = begin[read], size[read], count[read], turn[read]
        slot, log_weight = slot[read], log_weight[read]
    return begin, size, count, turn, slot, np.exp(log_weight)


@kernel
def read_edges(  # type: ignore[no-untyped-def] # pragma: no cover
    source, type_, entity, begin, size, count, turn, slot, weight, excluded, num_types, seed,
    dropout
):  # fmt: skip
    """Read the edges of groups, and number new entities after the kept ones.

    Args:
        excluded: ascending, `source · num_types + type` of the head's excluded in-edges.
        seed, dropout: the seed and the share of edges to skip, each with its inverse.

    Returns:
        For each edge: the slot of its source, the number of its destination, the type of its
        inverse and its weight. For each number: its entity and the sum of the weights of the edges
        read to it.
    """
    known, edges, half, head = len(entity), count.sum(), num_types // 2, entity[0]
    capacity = 4
    while capacity < 2 * (known + edges):
        capacity *= 2
    # A hash table with open addressing; an entry holds an entity and its number.
    table, last = np.full(capacity, -1, np.int64), capacity - 1
    name, gained = np.empty(known + edges, np.int32), np.zeros(known + edges, np.float64)
    out, into = np.empty(edges, np.int32), np.empty(edges, np.int32)
    kind, brings = np.empty(edges, np.int32), np.empty(edges, np.float64)
    n = 0
    for k in range(known):
        x = np.int64(entity[k])
        at = (x * 0x9E3779B1 >> 12) & last
        while table[at] >= 0:
            at = (at + 1) & last
        table[at], name[k] = x << 32 | k, x
    num_entities = known
    for g in range(len(begin)):
        k, w = slot[g], weight[g]
        u, r = np.int64(entity[k]), np.int64(type_[begin[g]])
        t = r + half if r < half else r - half
        e, end = begin[g] + turn[g], begin[g] + size[g]
        for _ in range(count[g]):
            x = np.int64(source[e])
            e += 1
            if e == end:
                e = begin[g]
            if k == 0 or x == head:
                if len(excluded) > 0:
                    key = x * num_types + r if k == 0 else u * num_types + t
                    place = np.searchsorted(excluded, key)
                    if place < len(excluded) and excluded[place] == key:
                        continue
            elif dropout > 0:
                # An edge and its inverse share a random number: the key is the same for both.
                one, other = (x, u) if r < half else (u, x)
                pair = mix(mix(seed, one), other * half + min(r, t))
                if np.float64(pair >> np.uint64(11)) < dropout * 2.0**53:
                    continue
            at = (x * 0x9E3779B1 >> 12) & last
            while table[at] >= 0 and table[at] >> 32 != x:
                at = (at + 1) & last
            if table[at] < 0:
                table[at], name[num_entities] = x << 32 | num_entities, x
                num_entities += 1
            number = table[at] & 0xFFFFFFFF
            gained[number] += w
            out[n], into[n], kind[n], brings[n] = k, number, r, w
            n += 1
    return out[:n], into[:n], kind[:n], brings[:n], name[:num_entities], gained[:num_entities]


@kernel
def walk_loss(  # type: ignore[no-untyped-def] # pragma: no cover
    out, into, kind, brings, name, gained, known, target, states, before, grad_priorities, width
):  # fmt: skip
    """The loss of the random walk in a step; the gradient is added to `grad_priorities`.

    It is the sum, over the target entities among the new entities, of -log of the target's share of
    the weight of all new entities. So the walk learns to keep likely targets. The states and the
    weights of the edges' sources are constants for the gradient.

    Args:
        target: the target entities, ascending.
    """
    dims, num_types = states.shape[1], len(grad_priorities)
    half, num_entities, hits, loss = num_types // 2, len(name), 0, 0.0
    all_weight = gained[known:].sum()
    slope = np.zeros(num_entities, np.float64)
    for i in range(known, num_entities):
        place = np.searchsorted(target, name[i])
        if place < len(target) and target[place] == name[i]:
            slope[i] = -1 / gained[i]
            loss += np.log(all_weight / gained[i])
            hits += 1
    if hits == 0:
        return 0.0
    for i in range(known, num_entities):
        slope[i] += hits / all_weight
    state, grad_priority = states.reshape(-1), grad_priorities.reshape(-1)
    e = 0
    while e < len(out):
        k, r, g = out[e], kind[e], 0.0
        while e < len(out) and out[e] == k and kind[e] == r:
            g += slope[into[e]]
            e += 1
        if g != 0:
            g *= brings[e - 1]
            t = np.int64(r + half if r < half else r - half)
            at = t * (dims + 1)
            s = load(state, (before + k) * dims, width)
            s = multiply(s, fill(s, g))
            store(grad_priority, at, add(load(grad_priority, at, width), s))
            grad_priority[at + dims] += g
    return loss


@kernel
def keep_entities(gained, known, most):  # type: ignore[no-untyped-def] # pragma: no cover
    """Keep the new entities of the greatest weights; of equal weights, those with lower numbers.

    Returns:
        int32, the slot of each number; -1 for an entity that is not kept.
    """
    slots, new = np.arange(len(gained)).astype(np.int32), len(gained) - known
    if new <= most:
        return slots
    least = -np.partition(-gained[known:], most - 1)[most - 1]
    alike, slot = most - (gained[known:] > least).sum(), known
    for i in range(known, known + new):
        keep = gained[i] > least
        if gained[i] == least and alike > 0:
            keep = True
            alike -= 1
        slots[i] = slot if keep else -1
        slot += keep
    return slots


@kernel
def connect(out, into, kind, slots, name, known, rows, num_types):  # type: ignore[no-untyped-def] # pragma: no cover
    """Index the edges between kept entities from both ends, in the order of the whole graph.

    Returns:
        By source: offsets `(known + 1,)`, and for each edge the slot of its destination and the
        type of its inverse. By destination: offsets `(rows + 1,)`, and for each edge the slot of
        its source and its type.
    """
    half = num_types // 2
    outward, inward = np.zeros(known + 1, np.int64), np.zeros(rows + 1, np.int64)
    n = 0
    for e in range(len(out)):
        j = slots[into[e]]
        if j >= 0:
            outward[out[e] + 1] += 1
            inward[j + 1] += 1
            n += 1
    for k in range(known):
        outward[k + 1] += outward[k]
    for j in range(rows):
        inward[j + 1] += inward[j]
    to, inverse = np.empty(n, np.int32), np.empty(n, np.int32)
    source, key = np.empty(n, np.int32), np.empty(n, np.int64)
    place, n = inward[:-1].copy(), 0
    for e in range(len(out)):
        j = slots[into[e]]
        if j >= 0:
            r = np.int64(kind[e])
            to[n], inverse[n] = j, r
            at = place[j]
            source[at] = out[e]
            # The in-edges of the graph are sorted by type, then by source.
            t = r + half if r < half else r - half
            key[at] = t << 32 | np.int64(name[out[e]])
            place[j] += 1
            n += 1
    type_ = np.empty(n, np.int32)
    for j in range(rows):
        first, end = inward[j], inward[j + 1]
        if end - first < SHORT:
            for i in range(first + 1, end):
                this, e, at = key[i], source[i], i
                while at > first and key[at - 1] > this:
                    key[at], source[at] = key[at - 1], source[at - 1]
                    at -= 1
                key[at], source[at] = this, e
        else:
            by_key = np.argsort(key[first:end])
            key[first:end] = key[first:end][by_key]
            source[first:end] = source[first:end][by_key]
        for i in range(first, end):
            type_[i] = key[i] >> 32
    return outward, to, inverse, inward, source, type_
