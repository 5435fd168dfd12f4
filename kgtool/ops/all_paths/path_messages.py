"""Messages of one step of an all-paths pass: gathered at each entity, summarised, normalised.

An entity `v` receives the message `m = s[u] ⊙ w[r]` along each edge `(u, r)→v`. The message is zero
if no path reaches `u` yet. An edge of the weight ω, the confidence of its triple, brings
`m = ω · s[u] ⊙ w[r]`; it counts in the in-degree like any other. The mean and the standard
deviation of the messages are each multiplied by `(1 + in-degree)^α`, and then normalised together
to mean 0 and variance 1. The learned power α goes from the mean (0) to the sum (1). It takes the
place of the degree scalers of Corso et al. 2020 (PNA).

A call runs in one thread; other threads may run at the same time (see
`kgtool.ops.runtime.threads`). The kernels make no tensor of (edges × dims), and add in a fixed
order.
"""

from __future__ import annotations

import numpy as np

from kgtool.ops.runtime.lanes import (
    add,
    divide,
    exp,
    fill,
    greater,
    kernel,
    load,
    multiply,
    square_root,
    store,
    subtract,
    total,
    where_greater,
    zero,
)

# A smaller variance is a rounding error: it is replaced by this constant, without a gradient. The
# gradients of the two sums (bfloat16 in training) are divided by the deviation and nearly cancel.
LEAST_VARIANCE = 1e-6
# Added to the variance of the normalisation, so that very small messages stay small.
EPSILON = 1e-5


@kernel
def gather(  # type: ignore[no-untyped-def] # pragma: no cover
    degrees, offsets, source, type_, opposite, head, excluded, excluded_first, nodes, slots,
    first_in, first_out, confidence, weights, context, states, scalers, rows, abouts, width
):  # fmt: skip
    """Write a row `[mean, deviation, state]` for each entity; mean and deviation are normalised.

    `abouts` gets four numbers for the gradient: the centre and the factor of the normalisation,
    log(1 + in-degree) and 1 / in-degree.
    """
    dims = states.shape[1]
    for b in range(len(head)):
        node, slot = nodes[b], slots[b]
        weight, state, scaler = weights.reshape(-1), states.reshape(-1), scalers.reshape(-1)
        row, about = rows.reshape(-1), abouts.reshape(-1)
        real = scaler.dtype.type
        start, table = offsets[head[b]], context[b] * weights.shape[1]
        mask = excluded[excluded_first[b] : excluded_first[b + 1]]
        masks = len(mask) > 0
        before, after = first_in[b], first_out[b]
        known = first_in[b + 1] - before
        nothing = zero(scaler, width)
        least = fill(nothing, LEAST_VARIANCE)
        power_mean, power_deviation = load(scaler, 0, width), load(scaler, dims, width)
        for j in range(first_out[b + 1] - after):
            v = node[j]
            sums, squares = nothing, nothing
            degree = degrees[v]
            for e in range(offsets[v], offsets[v + 1]):
                # Only edges of the head, slot 0, can be excluded.
                if masks and j == 0 and mask[e - start]:
                    degree -= 1
                    continue
                k = slot[source[np.uintp(e)]]
                if k >= known:
                    continue
                if masks and k == 0 and mask[opposite[e] - start]:
                    degree -= 1
                    continue
                message = multiply(
                    load(state, (before + k) * dims, width),
                    load(weight, (table + type_[np.uintp(e)]) * dims, width),
                )
                if confidence is not None:
                    message = multiply(message, fill(nothing, confidence[np.uintp(e)]))
                sums = add(sums, message)
                squares = add(squares, multiply(message, message))
            share, size = real(1) / real(max(degree, 1)), real(np.log(real(1 + degree)))
            shares, sizes = fill(nothing, share), fill(nothing, size)
            mean = multiply(sums, shares)
            variance = subtract(multiply(squares, shares), multiply(mean, mean))
            deviation = square_root(greater(variance, least))
            mean = multiply(mean, exp(multiply(power_mean, sizes)))
            deviation = multiply(deviation, exp(multiply(power_deviation, sizes)))
            centre = total(add(mean, deviation)) / real(2 * dims)
            centres = fill(nothing, centre)
            mean, deviation = subtract(mean, centres), subtract(deviation, centres)
            spread = total(add(multiply(mean, mean), multiply(deviation, deviation)))
            factor = real(1) / np.sqrt(spread / real(2 * dims) + real(EPSILON))
            factors = fill(nothing, factor)
            place = (after + j) * 3 * dims
            store(row, place, multiply(mean, factors))
            store(row, place + dims, multiply(deviation, factors))
            old = load(state, (before + j) * dims, width) if j < known else nothing
            store(row, place + 2 * dims, old)
            place = (after + j) * 4
            about[place], about[place + 1] = centre, factor
            about[place + 2], about[place + 3] = size, share


@kernel
def spread(  # type: ignore[no-untyped-def] # pragma: no cover
    first_in, first_out, rows, grad_rows, abouts, scalers,
    grad_direct, grad_sums, grad_states, grad_scalers, width
):  # fmt: skip
    """Turn the gradients of rows into those of sums, of sums of squares and of old states."""
    dims = grad_states.shape[1]
    for b in range(len(first_in) - 1):
        row, grad_row, about = rows.reshape(-1), grad_rows.reshape(-1), abouts.reshape(-1)
        grad_state, direct = grad_states.reshape(-1), grad_direct.reshape(-1)
        grad_sum, scaler = grad_sums.reshape(-1), scalers.reshape(-1)
        grad_scaler = grad_scalers.reshape(-1)
        real = about.dtype.type
        before, after = first_in[b], first_out[b]
        known = first_in[b + 1] - before
        nothing = zero(about, width)
        half = fill(nothing, 0.5)
        # If the variance was below LEAST_VARIANCE, the deviation is a constant.
        least = fill(nothing, np.sqrt(real(LEAST_VARIANCE)) * real(1.01))
        power_mean, power_deviation = load(scaler, 0, width), load(scaler, dims, width)
        change_mean, change_deviation = nothing, nothing
        for j in range(first_out[b + 1] - after):
            place = (after + j) * 4
            centres, factor = fill(nothing, about[place]), about[place + 1]
            sizes, shares = fill(nothing, about[place + 2]), fill(nothing, about[place + 3])
            place = (after + j) * 3 * dims
            if j < known:
                old = load(grad_row, place + 2 * dims, width)
                old = add(old, load(direct, (after + j) * dims, width))
                store(grad_state, (before + j) * dims, old)
            # The gradient of the normalisation.
            g1, g2 = load(grad_row, place, width), load(grad_row, place + dims, width)
            x1, x2 = load(row, place, width), load(row, place + dims, width)
            centre = fill(nothing, total(add(g1, g2)) / real(2 * dims))
            along = total(add(multiply(g1, x1), multiply(g2, x2))) / real(2 * dims)
            along_rows, factors = fill(nothing, along), fill(nothing, factor)
            g1 = multiply(factors, subtract(subtract(g1, centre), multiply(x1, along_rows)))
            g2 = multiply(factors, subtract(subtract(g2, centre), multiply(x2, along_rows)))
            # The gradient of the powers, from the mean and the deviation before the normalisation.
            one_by = fill(nothing, real(1) / factor)
            x1, x2 = add(multiply(x1, one_by), centres), add(multiply(x2, one_by), centres)
            change_mean = add(change_mean, multiply(multiply(g1, x1), sizes))
            change_deviation = add(change_deviation, multiply(multiply(g2, x2), sizes))
            scale = exp(multiply(power_mean, sizes))
            mean, g1 = divide(x1, scale), multiply(g1, scale)
            scale = exp(multiply(power_deviation, sizes))
            deviation, g2 = divide(x2, scale), multiply(g2, scale)
            # The gradient of mean and deviation.
            g2 = where_greater(deviation, least, divide(g2, deviation))
            place = (after + j) * 2 * dims
            store(grad_sum, place, multiply(shares, subtract(g1, multiply(g2, mean))))
            store(grad_sum, place + dims, multiply(multiply(shares, half), g2))
        store(grad_scaler, b * 2 * dims, change_mean)
        store(grad_scaler, (b * 2 + 1) * dims, change_deviation)


@kernel
def scatter(  # type: ignore[no-untyped-def] # pragma: no cover
    offsets, source, type_, opposite, head, excluded, excluded_first, nodes, slots, first_in,
    first_out, confidence, weights, context, states, grad_sums, grad_states, grad_weights, width
):  # fmt: skip
    """Carry the gradients of sums back along the edges; add them to those of old states."""
    dims = states.shape[1]
    num_types = weights.shape[1]
    half = num_types // 2
    for b in range(len(head)):
        node, slot = nodes[b], slots[b]
        weight, state, grad = weights.reshape(-1), states.reshape(-1), grad_sums.reshape(-1)
        grad_state, grad_weight = grad_states.reshape(-1), grad_weights.reshape(-1)
        start, table = offsets[head[b]], context[b] * num_types
        mask = excluded[excluded_first[b] : excluded_first[b + 1]]
        masks = len(mask) > 0
        before, after = first_in[b], first_out[b]
        reached = first_out[b + 1] - after
        for k in range(first_in[b + 1] - before):
            u = node[k]
            s = load(state, (before + k) * dims, width)
            grad_s = load(grad_state, (before + k) * dims, width)
            sums, squares = zero(grad, width), zero(grad, width)
            last, end = -1, offsets[u + 1]
            # The out-edges of u are the inverses of its in-edges, which are sorted by relation.
            # Gradients along edges of one relation are added first and multiplied once.
            for e in range(offsets[u], end + 1):
                r, j = -1, 0
                if e < end:
                    j = slot[source[np.uintp(e)]]
                    if j >= reached:  # outside of the part of the graph
                        continue
                    if masks and k == 0 and mask[e - start]:
                        continue
                    if masks and j == 0 and mask[opposite[e] - start]:
                        continue
                    r = type_[np.uintp(e)]
                if r != last:
                    if last >= 0:
                        t = last + half if last < half else last - half
                        w = load(weight, (table + t) * dims, width)
                        message = multiply(s, w)
                        g = add(sums, multiply(add(message, message), squares))
                        grad_s = add(grad_s, multiply(w, g))
                        place = (b * num_types + t) * dims
                        g = add(load(grad_weight, place, width), multiply(s, g))
                        store(grad_weight, place, g)
                        sums, squares = zero(grad, width), zero(grad, width)
                    last = r
                if e < end:
                    place = (after + j) * 2 * dims
                    if confidence is None:
                        sums = add(sums, load(grad, place, width))
                        squares = add(squares, load(grad, place + dims, width))
                    else:  # an edge has the weight of its inverse
                        share = fill(sums, confidence[np.uintp(e)])
                        sums = add(sums, multiply(share, load(grad, place, width)))
                        share = multiply(share, share)
                        squares = add(squares, multiply(share, load(grad, place + dims, width)))
            store(grad_state, (before + k) * dims, grad_s)
