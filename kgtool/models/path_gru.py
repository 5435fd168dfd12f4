"""The one-path decoder: a cell reads a relation path from a head and scores every tail at once.

Optionally, it also reads whole walks, see `kgtool.models.walk_gru`.

Guu et al. 2015 ("Traversing Knowledge Graphs in Vector Space") and Das et al. 2017 ("Chains of
Reasoning"): `s_0 = e_h`, `s_i = GRU(input = w_{r_i}, state = s_{i-1})`,
`score(h, r_1 … r_k, t) = ⟨s_k, e_t⟩ + b_t`. Link prediction is `k = 1`. Other cells compose a path
as TransE, DistMult, ComplEx, RotatE or TuckER do, see `kgtool.models.cells`.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kgtool.models.cells import Cell, GRUCell
from kgtool.ops import Similarity, rows_of_whole


class WalkReadout(nn.Module):
    """Reads the entities of a walk, and predicts the walk's next relation.

    A second GRU cell reads an entity's state, as the decoder's cell reads a relation's. With the
    state `s`, and `e = e_t` if the walk has a given tail t, else `e = 0`,

        P(a | s, e) = softmax_a(⟨v_a, tanh(A s + B e + C (s ∗ e) + b)⟩ + c_a),

    with a row `v_a` for each relation id and a last row for the end of the walk. The entries of
    `s ∗ e` sum to the tail's score, which shows how near the tail is.

    Args:
        num_relation_ids: R, inverses counted.
        dim: d.
    """

    # See `kgtool.models.model.Model.rows_of`.
    rows_of: Mapping[str, tuple[str, int]] = {
        "steps.weight": ("relation", 0), "steps.bias": ("relation", 0),
    }  # fmt: skip

    def __init__(self, num_relation_ids: int, dim: int) -> None:
        super().__init__()
        self.cell = nn.GRUCell(dim, dim)
        self.state = nn.Linear(dim, dim)  # A, b
        self.tail = nn.Linear(2 * dim, dim, bias=False)  # B, C
        self.steps = nn.Linear(dim, num_relation_ids + 1)  # v, c

    def forward(self, state: Tensor, tail: Tensor | None = None) -> Tensor:
        """`(q, R + 1)` logits; the last column is the end of the walk.

        Args:
            state: `(q, d)` states of walks.
            tail: `(q, d)` states of the given tails; None for walks without one.
        """
        hidden = self.state(state)
        if tail is not None:
            hidden = hidden + self.tail(torch.cat([tail, state * tail], dim=1))
        logits: Tensor = self.steps(torch.tanh(hidden))
        return logits


class OnePathDecoder(nn.Module):
    """A cell over one relation path of any length.

    Args:
        num_entities: N.
        dim: d, of entity states, relation states and the cell's state.
        input_dropout: dropout on the head's state and the relations' states.
        output_dropout: dropout on the path's last state.
        cell: composes a path; None for a GRU.
        bias: whether entities have a bias `b_t`, a parameter; otherwise it is 0.
        walks: reads whole walks; None for a decoder of relation paths alone.
    """

    # See `kgtool.models.model.Model.rows_of`.
    rows_of: Mapping[str, tuple[str, int]] = {"bias": ("entity", 0)}

    def __init__(
        self,
        num_entities: int,
        dim: int,
        *,
        input_dropout: float = 0.0,
        output_dropout: float = 0.0,
        cell: Cell | None = None,
        bias: bool = True,
        walks: WalkReadout | None = None,
    ) -> None:
        super().__init__()
        self.input_dropout = input_dropout
        self.output_dropout = output_dropout
        self.cell: Cell = GRUCell(dim, dim) if cell is None else cell
        self.bias: Tensor = (
            nn.Parameter(torch.zeros(num_entities))  # b_t
            if bias
            else torch.zeros(num_entities, device="cpu")  # also in a model without memory
        )
        if not bias:
            self.rows_of = {}
        self.walks = walks

    def forward(
        self, head: Tensor, path: Tensor, length: Tensor, entities: Tensor, relations: Tensor
    ) -> Tensor:
        """The state that each path ends in; its similarity to a tail's state is the score.

        Args:
            head: `(q,)` int64 entity ids.
            path: `(q, max_length)` int64 relation ids. The decoder does not read beyond a path's
                length, so any padding serves.
            length: `(q,)` int64, 1 to `max_length`.
            entities: `(N, d)` entity states.
            relations: `(R, d)` relation states, inverses included.

        Returns:
            `(q, d)`. Their gradient to the entity states is sparse, see `rows_of_whole`.
        """
        # Longest first, so that the unfinished paths are the first rows of every step.
        order = torch.argsort(length, descending=True, stable=True)
        unfinished = torch.bincount(length, minlength=path.shape[1] + 1).flip(0).cumsum(0).flip(0)
        state = rows_of_whole(entities, head[order])
        state = F.dropout(state, self.input_dropout, self.training)
        ended = []
        for step in range(path.shape[1]):
            active = int(unfinished[step + 1])
            ended.append(state[active:])
            state = state[:active]
            if not active:
                break
            relation = relations.index_select(0, path[order[:active], step])
            relation = F.dropout(relation, self.input_dropout, self.training)
            state = self.cell(relation, state)
        ended.append(state)
        last = torch.cat(ended[::-1]).index_select(0, torch.argsort(order))
        return F.dropout(last, self.output_dropout, self.training)

    @property
    def similarity(self) -> Similarity:
        """The cell's similarity of last states and the states of tails."""
        return self.cell.similarity
