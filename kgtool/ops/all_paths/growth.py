"""How a budgeted pass grows by a step: which edges it reads, and which entities it keeps.

Both are chosen by a random walk with learned turns. The walk's weight at the head is 1. An entity
`u` of weight `y_u` gives to each edge that leaves it along the relation `r`

    y_u · exp(p_{u,r}) / degree(u),   p_{u,r} = ⟨a_r, s_u⟩ + b_r,

with `s` the pass's states and `a`, `b` learned, at first zero: the walk that takes each edge alike,
whose weights are personalised PageRank's but for restarts. The edges of one entity along one
relation, a group, weigh alike. Groups are read from the greatest weight of an edge on until the
budget of edges is spent; the one at which it ends is read in part. An entity that is found weighs
what the edges read bring to it. So a hub's million edges come last, and a step takes the time of
its budget, whatever degrees are.

Calls work on one head, and let other threads run beside them.
"""

from __future__ import annotations

import numba
import numpy as np

from kgtool.ops.runtime.lanes import add, fill, kernel, load, multiply, store, total

# Bins of groups by weight, to find by counting where the budget ends.
BINS = 4096
# Segments shorter than this are sorted by insertion.
SHORT = 24


@numba.njit(cache=True)
def mix(x, y):  # type: ignore[no-untyped-def] # pragma: no cover
    """64 bits that look like chance, of two numbers (Steele et al. 2014, SplitMix64)."""
    z = np.uint64(x) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(y)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


@numba.njit(cache=True)
def _group_end(type_, begin, end):  # type: ignore[no-untyped-def] # pragma: no cover
    """Where the group that begins at `begin` ends, in steps of the logarithm of its size."""
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
    """The groups that a step reads, of what leaves the entities kept, in their order.

    Returns:
        Of each: its first edge, its edges, how many of them are read, the place of the first that
        is read (they are read round from there), the slot of its entity and an edge's weight.
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
            # The edges that leave are the inverses of those that come.
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
        # Bins above are read, those below are not; in this one, in order until the budget ends.
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
    source, type_, entity, begin, size, count, turn, slot, weight, hidden, num_types, seed, dropout
):  # fmt: skip
    """Read the edges of groups, numbering the entities that are found, after those kept.

    Args:
        hidden: ascending, `source · num_types + type` of the head's in-edges that are hidden.
        seed, dropout: of edges that are left out, each with its inverse.

    Returns:
        Of each edge: its slot, the number of the entity that it leads to, the type of its inverse
        and its weight. Then, of each number, the entity, and the weight that edges bring to it.
    """
    known, edges, half, head = len(entity), count.sum(), num_types // 2, entity[0]
    capacity = 4
    while capacity < 2 * (known + edges):
        capacity *= 2
    # Open addressing; an entry is an entity and its number.
    table, last = np.full(capacity, -1, np.int64), capacity - 1
    name, gained = np.empty(known + edges, np.int32), np.zeros(known + edges, np.float64)
    out, into = np.empty(edges, np.int32), np.empty(edges, np.int32)
    kind, brings = np.empty(edges, np.int32), np.empty(edges, np.float64)
    found, n = 0, 0
    for k in range(known):
        x = np.int64(entity[k])
        at = (x * 0x9E3779B1 >> 12) & last
        while table[at] >= 0:
            at = (at + 1) & last
        table[at], name[k] = x << 32 | k, x
    found = known
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
                if len(hidden) > 0:
                    key = x * num_types + r if k == 0 else u * num_types + t
                    place = np.searchsorted(hidden, key)
                    if place < len(hidden) and hidden[place] == key:
                        continue
            elif dropout > 0:
                # Of an edge and its inverse, the one whose relation is none decides for both.
                one, other = (x, u) if r < half else (u, x)
                pair = mix(mix(seed, one), other * half + min(r, t))
                if np.float64(pair >> np.uint64(11)) < dropout * 2.0**53:
                    continue
            at = (x * 0x9E3779B1 >> 12) & last
            while table[at] >= 0 and table[at] >> 32 != x:
                at = (at + 1) & last
            if table[at] < 0:
                table[at], name[found] = x << 32 | found, x
                found += 1
            number = table[at] & 0xFFFFFFFF
            gained[number] += w
            out[n], into[n], kind[n], brings[n] = k, number, r, w
            n += 1
    return out[:n], into[:n], kind[:n], brings[:n], name[:found], gained[:found]


@kernel
def walk_loss(  # type: ignore[no-untyped-def] # pragma: no cover
    out, into, kind, brings, name, gained, known, wanted, states, before, grad_priorities, width
):  # fmt: skip
    """The loss of a step's walk; its gradient is added to `grad_priorities`.

    Over the wanted entities that the step finds, the sum of -log of each one's part of the weight
    of all that it finds: what is likely to be asked for shall be kept. States, and the weights of
    the entities that edges leave, are held fixed.

    Args:
        wanted: ascending entities.
    """
    dims, num_types = states.shape[1], len(grad_priorities)
    half, found, hits, loss = num_types // 2, len(name), 0, 0.0
    all_weight = gained[known:].sum()
    slope = np.zeros(found, np.float64)
    for i in range(known, found):
        place = np.searchsorted(wanted, name[i])
        if place < len(wanted) and wanted[place] == name[i]:
            slope[i] = -1 / gained[i]
            loss += np.log(all_weight / gained[i])
            hits += 1
    if hits == 0:
        return 0.0
    for i in range(known, found):
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
    """`(found,)` int32: the slot of each number; -1 where it is not kept.

    New entities of the greatest weight are kept, the earlier found of two alike.
    """
    slots, new = np.arange(len(gained)).astype(np.int32), len(gained) - known
    if new <= most:
        return slots
    least = -np.partition(-gained[known:], most - 1)[most - 1]
    alike, slot = most - (gained[known:] > least).sum(), known
    for i in range(known, known + new):
        kept = gained[i] > least
        if gained[i] == least and alike > 0:
            kept = True
            alike -= 1
        slots[i] = slot if kept else -1
        slot += kept
    return slots


@kernel
def connect(out, into, kind, slots, name, known, rows, num_types):  # type: ignore[no-untyped-def] # pragma: no cover
    """The edges between entities that are kept, by both ends, in the whole graph's order.

    Returns:
        By their sources: offsets `(known + 1,)`, each edge's slot and its inverse's type. By where
        they lead to: offsets `(rows + 1,)`, each edge's source and type.
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
            # The graph's in-edges stand by type, then by source.
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
