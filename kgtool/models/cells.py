"""Cells: how a relation path is composed, and how its last state is compared with a tail.

With the states `e` of entities and `w` of relations, a path `r_1 … r_k` from h has the states
`s_0 = e_h` and `s_i = cell(w_{r_i}, s_{i-1})`, and a tail t has the score `sim(s_k, e_t) + b_t`.
For one relation this is the model of the cell's paper; for a path it is that model's composition
(Guu et al. 2015). Complex numbers are stored with all real parts before all imaginary parts.

| cell | `cell(w, s)` | `sim(s, e)` |
|---|---|---|
| `gru` (Cho et al. 2014) | `GRU(w, s)` | `⟨s, e⟩` |
| `transe` (Bordes et al. 2013) | `s + w` | `-‖s - e‖` |
| `distmult` (Yang et al. 2015) | `s ∗ w` | `⟨s, e⟩` |
| `complex` (Trouillon et al. 2016) | `s ∗ w`, complex | `Re⟨s, ē⟩` |
| `rotate` (Sun et al. 2019) | `s ∗ w / |w|`, complex | `-‖s - e‖` |
| `tucker` (Balažević et al. 2019) | `W ×₁ w ×₂ s` | `⟨s, e⟩` |

The inverse of each relation has a state of its own, which answers head queries (Lacroix et al.
2018).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kgtool.ops import PRODUCT, Euclidean, Manhattan, Similarity, normal_, product


class Cell(nn.Module):
    """Composes paths. A cell defines `forward`, and overrides the rest where it differs.

    Attributes:
        similarity: compares the last state of a path with the states of entities.
        complex_numbers: the states are complex numbers.
        init_scale: the encoder's initial embeddings are multiplied by it.
    """

    similarity: Similarity = PRODUCT
    complex_numbers: bool = False
    init_scale: float = 1.0

    def forward(self, relation: Tensor, state: Tensor) -> Tensor:
        """The new states `(…, d)`, from relation states and states that broadcast to `(…, d)`."""
        raise NotImplementedError

    def of_pairs(self, inputs: Tensor, states: Tensor) -> Tensor:
        """The new state of each pair of an old state and an input.

        Args:
            inputs: `(k, d)` relation states.
            states: `(b, d)`.

        Returns:
            `(b, k, d)`.
        """
        new: Tensor = self(inputs, states.unsqueeze(1))
        return new

    def between(self, head: Tensor, tail: Tensor) -> Tensor:
        """States `(n, d)` that are as similar to a relation's state as the triple's score says.

        That is, `sim(between(h, t), w) = sim(cell(w, h), t)` for all w. A cell whose score is not a
        function of this form has none.

        Args:
            head, tail: `(n, d)` states of entities.
        """
        raise NotImplementedError


class GRUCell(nn.GRUCell, Cell):
    """torch's cell, which can also read every input from every state at once.

    `s' = (1 - z) ∗ n + z ∗ s` with `n = tanh(W w + b + r ∗ (U s + c))`: `z` keeps the old state,
    and `r` gates after the product.
    """

    def forward(self, relation: Tensor, state: Tensor) -> Tensor:  # type: ignore[override]
        """See `Cell`; relation states and states `(q, d)`."""
        of_input = (product(relation, self.weight_ih.t()) + self.bias_ih).chunk(3, dim=1)
        of_state = (product(state, self.weight_hh.t()) + self.bias_hh).chunk(3, dim=1)
        return _gated(of_input, of_state, state)

    def of_pairs(self, inputs: Tensor, states: Tensor) -> Tensor:
        """See `Cell`. It multiplies each input and each state once, not once per pair."""
        of_input = F.linear(inputs, self.weight_ih, self.bias_ih).chunk(3, dim=1)
        of_state = F.linear(states, self.weight_hh, self.bias_hh).unsqueeze(1).chunk(3, dim=2)
        return _gated(of_input, of_state, states.unsqueeze(1))


def _gated(of_input: Sequence[Tensor], of_state: Sequence[Tensor], state: Tensor) -> Tensor:
    """The new state of a GRU, from its three products with the input and with the old state."""
    gates = zip(of_input[:2], of_state[:2], strict=True)
    reset, update = (torch.sigmoid(x + s) for x, s in gates)
    new = torch.tanh(of_input[2] + reset * of_state[2])
    return torch.lerp(new, state.to(new.dtype), update)


class TransE(Cell):
    """A relation translates: `s + w`."""

    def __init__(self, similarity: Similarity) -> None:
        super().__init__()
        self.similarity = similarity

    def forward(self, relation: Tensor, state: Tensor) -> Tensor:
        """See `Cell`."""
        return state + relation

    def between(self, head: Tensor, tail: Tensor) -> Tensor:
        """The translation from head to tail."""
        return tail - head


class DistMult(Cell):
    """A relation scales each dimension: `s ∗ w`."""

    def forward(self, relation: Tensor, state: Tensor) -> Tensor:
        """See `Cell`."""
        return relation * state

    def between(self, head: Tensor, tail: Tensor) -> Tensor:
        """`h ∗ t`."""
        return head * tail


class ComplEx(Cell):
    """A relation scales and rotates each complex dimension: `s ∗ w`."""

    complex_numbers = True
    init_scale = 0.01

    def forward(self, relation: Tensor, state: Tensor) -> Tensor:
        """See `Cell`."""
        return complex_product(relation, state)

    def between(self, head: Tensor, tail: Tensor) -> Tensor:
        """`h̄ ∗ t`, since `Re⟨h ∗ w, t̄⟩ = Re⟨h̄ ∗ t, w̄⟩`."""
        return complex_product(conjugate(head), tail)


class RotatE(Cell):
    """A relation rotates each complex dimension by the angle of `w`: `s ∗ w / |w|`."""

    complex_numbers = True

    def __init__(self, similarity: Similarity) -> None:
        super().__init__()
        self.similarity = similarity

    def forward(self, relation: Tensor, state: Tensor) -> Tensor:
        """See `Cell`."""
        modulus = complex_moduli(relation)
        return complex_product(relation / torch.cat([modulus, modulus], dim=-1), state)


class TuckER(Cell):
    """A core tensor, which relations share, combines: `s'_k = Σ_ij W_ijk w_i s_j`.

    Args:
        dim: d.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.core = nn.Parameter(torch.empty(dim, dim, dim))
        normal_(self.core, std=dim**-0.5)

    def forward(self, relation: Tensor, state: Tensor) -> Tensor:
        """See `Cell`; relation states `(n, d)`."""
        matrix = product(relation, self.core.flatten(1)).unflatten(1, self.core.shape[1:])
        new: Tensor = (state.unsqueeze(-2) @ matrix).squeeze(-2)
        return new

    def between(self, head: Tensor, tail: Tensor) -> Tensor:
        """`W ×₂ h ×₃ t`."""
        matrix = torch.tensordot(tail, self.core, dims=([1], [2]))  # (n, i, j)
        new: Tensor = (matrix @ head.unsqueeze(-1)).squeeze(-1)
        return new


def complex_product(x: Tensor, y: Tensor) -> Tensor:
    """The product of complex numbers."""
    (a, b), (c, d) = x.chunk(2, dim=-1), y.chunk(2, dim=-1)
    return torch.cat([a * c - b * d, a * d + b * c], dim=-1)


def conjugate(x: Tensor) -> Tensor:
    """The conjugates of complex numbers."""
    real, imaginary = x.chunk(2, dim=-1)
    return torch.cat([real, -imaginary], dim=-1)


def complex_moduli(x: Tensor) -> Tensor:
    """`(…, d / 2)`: the moduli of complex numbers; their gradient is 0 at 0."""
    real, imaginary = x.chunk(2, dim=-1)
    return (real * real + imaginary * imaginary).clamp(min=1e-30).sqrt()


# A new cell by its name in the configuration, from the dimension and the norm of distances.
CELLS: Mapping[str, Callable[[int, int], Cell]] = {
    "gru": lambda dim, _: GRUCell(dim, dim),
    "transe": lambda _, norm: TransE(Euclidean() if norm == 2 else Manhattan()),
    "distmult": lambda *_: DistMult(),
    "complex": lambda *_: ComplEx(),
    "rotate": lambda _, norm: RotatE(Euclidean() if norm == 2 else Manhattan(True)),
    "tucker": lambda dim, _: TuckER(dim),
}
