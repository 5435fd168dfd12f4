"""The elementwise half of a GRU cell, and its gradient, in one pass over each row.

The cell is torch's: `z = σ(·)`, `r = σ(·)`, `n = tanh(x + r ∗ s)`, `h' = (1 - z) ∗ n + z ∗ h`. A
row of matrix products is `[z, r, x, s]` before the activations.
"""

from __future__ import annotations

from kgtool.ops.runtime.lanes import (
    add,
    fill,
    kernel,
    load,
    multiply,
    sigmoid,
    store,
    subtract,
    zero,
)


@kernel
def gates(rows, products, bias, states, width):  # type: ignore[no-untyped-def] # pragma: no cover
    """Compute new states; `[z, r, n, s]` overwrites the products."""
    dims = states.shape[1]
    row, gate, state = rows.reshape(-1), products.reshape(-1), states.reshape(-1)
    b_z, b_r = load(bias, 0, width), load(bias, dims, width)
    b_x, b_s = load(bias, 2 * dims, width), load(bias, 3 * dims, width)
    nothing = zero(bias, width)
    one = fill(nothing, 1)
    for i in range(len(states)):
        place = i * 4 * dims
        z = sigmoid(add(load(gate, place, width), b_z))
        r = sigmoid(add(load(gate, place + dims, width), b_r))
        s = add(load(gate, place + 3 * dims, width), b_s)
        n = add(add(load(gate, place + 2 * dims, width), b_x), multiply(r, s))
        n = sigmoid(add(n, n))
        n = subtract(add(n, n), one)  # tanh
        h = load(row, (i * 3 + 2) * dims, width)
        store(gate, place, z)
        store(gate, place + dims, r)
        store(gate, place + 2 * dims, n)
        store(gate, place + 3 * dims, s)
        store(state, i * dims, add(n, multiply(z, subtract(h, n))))


@kernel
def gates_backward(rows, products, grad_states, grad_products, grad_direct, grad_bias, width):  # type: ignore[no-untyped-def] # pragma: no cover
    """Compute the gradients of the products and of the bias from `[z, r, n, s]`.

    `grad_direct` is the gradient of the old state along `z ∗ h`.
    """
    dims = grad_states.shape[1]
    row, gate, grad = rows.reshape(-1), products.reshape(-1), grad_states.reshape(-1)
    grad_gate = grad_products.reshape(-1)
    direct, grad_b = grad_direct.reshape(-1), grad_bias.reshape(-1)
    nothing = zero(grad_b, width)
    one = fill(nothing, 1)
    b_z, b_r, b_x, b_s = nothing, nothing, nothing, nothing
    for i in range(len(grad_states)):
        place = i * 4 * dims
        z, r = load(gate, place, width), load(gate, place + dims, width)
        n, s = load(gate, place + 2 * dims, width), load(gate, place + 3 * dims, width)
        h, g = load(row, (i * 3 + 2) * dims, width), load(grad, i * dims, width)
        g_h = multiply(g, z)
        store(direct, i * dims, g_h)
        g_n = multiply(subtract(g, g_h), subtract(one, multiply(n, n)))
        g_z = multiply(multiply(g_h, subtract(one, z)), subtract(h, n))
        g_s = multiply(g_n, r)
        g_r = multiply(multiply(g_s, s), subtract(one, r))
        b_z, b_r = add(b_z, g_z), add(b_r, g_r)
        b_x, b_s = add(b_x, g_n), add(b_s, g_s)
        store(grad_gate, place, g_z)
        store(grad_gate, place + dims, g_r)
        store(grad_gate, place + 2 * dims, g_n)
        store(grad_gate, place + 3 * dims, g_s)
    store(grad_b, 0, b_z)
    store(grad_b, dims, b_r)
    store(grad_b, 2 * dims, b_x)
    store(grad_b, 3 * dims, b_s)
