"""Reads walks step by step: the one-path decoder's GRU predicts each next step.

A walk `e_0 r_1 e_1 … r_k e_k` has the probability

    ∏_i P(r_i | e_0 r_1 e_1 … e_{i-1}) · P(e_i | e_0 r_1 e_1 … e_{i-1} r_i).

Before a step the state is `u_{i-1}`, with `u_0 = e_0`. After the relation it is
`s_i = GRU(w_{r_i}, u_{i-1})`, and after the entity `u_i = GRU'(e_i, s_i)`. `WalkReadout` predicts
the next relation from `u_{i-1}`. The probability of the next entity is the softmax of the decoder's
scores, such as `⟨s_i, e_t⟩ + b_t`; in a walk's first step, these are the scores of link prediction.

A relation path leaves out the entities between: `s_i = GRU(w_{r_i}, s_{i-1})`, as in path queries.
After each step it continues or ends, to any tail or to a given one:

    P(r_1 … r_k | h) = ∏_i P(r_i | s_{i-1}) · P(end | s_k),
    P(r_1 … r_k | h, t) = ∏_i P(r_i | s_{i-1}, e_t) · P(end | s_k, e_t).

The probabilities of all paths of one step or more sum to 1. They describe the random walks of
training, whose length is uniform from 1 to `max_path_length` steps.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from kgtool.graph.random_walk import Walks
from kgtool.models.path_gru import OnePathDecoder, WalkReadout
from kgtool.ops import entity_loss


@dataclass(frozen=True, eq=False)
class WalkStates:
    """The states of walks.

    Attributes:
        before: `(q, max_length, d)`, u_0 to u_{k-1}: the walk up to each step.
        after: `(q, max_length, d)`, s_1 to s_k from `before`: the walk and the step's relation.
        path: `(q, max_length + 1, d)`, s_0 to s_k of the relation path.
    """

    before: Tensor
    after: Tensor
    path: Tensor


@dataclass(frozen=True, eq=False)
class WalkReader:
    """Reads walks with a decoder, over given states.

    Attributes:
        decoder: a decoder that has `walks`.
        entities: `(N, d)` entity states.
        relations: `(R, d)` relation states, inverses included.
    """

    decoder: OnePathDecoder
    entities: Tensor
    relations: Tensor

    @property
    def _readout(self) -> WalkReadout:
        if self.decoder.walks is None:
            raise ValueError("the decoder does not read walks")
        return self.decoder.walks

    def begin(self, head: Tensor) -> Tensor:
        """`(q, d)` states of walks at their heads `(q,)`."""
        return self._drop_out(self.entities.index_select(0, head), self.decoder.input_dropout)

    def take(self, state: Tensor, relation: Tensor) -> Tensor:
        """`(q, d)` states after a step along relations `(q,)`."""
        rows = self.relations.index_select(0, relation)
        taken: Tensor = self.decoder.cell(self._drop_out(rows, self.decoder.input_dropout), state)
        return taken

    def arrive(self, state: Tensor, entity: Tensor) -> Tensor:
        """`(q, d)` states after the step has ended at entities `(q,)`."""
        rows = self.entities.index_select(0, entity)
        arrived: Tensor = self._readout.cell(
            self._drop_out(rows, self.decoder.input_dropout), state
        )
        return arrived

    def read(self, walks: Walks) -> WalkStates:
        """All states of walks, also beyond their ends."""
        of_walk = of_path = self.begin(walks.entity[:, 0])
        before, after, path = [], [], [of_path]
        for step in range(walks.relation.shape[1]):
            before.append(of_walk)
            after.append(self.take(of_walk, walks.relation[:, step]))
            of_walk = self.arrive(after[-1], walks.entity[:, step + 1])
            of_path = self.take(of_path, walks.relation[:, step])
            path.append(of_path)
        return WalkStates(*(torch.stack(states, dim=1) for states in (before, after, path)))

    def next_relation(self, state: Tensor) -> Tensor:
        """`(q, R)` log P of a walk's next relation, if it continues."""
        logits = self._readout(self._drop_out(state, self.decoder.output_dropout))
        return logits[:, :-1].log_softmax(dim=1)

    def next_entity(self, state: Tensor) -> Tensor:
        """`(q, N)` log P of the entity where a walk's step ends."""
        scores = self.decoder.similarity.scores(state, self.entities, self.decoder.bias)
        return scores.log_softmax(dim=1)

    def next_or_end(self, state: Tensor, begins: Tensor, tail: Tensor | None = None) -> Tensor:
        """`(q, R + 1)` log P of a path's next relation; the last column is its end.

        Args:
            state: `(q, d)`.
            begins: `(q,)` bool, whether a path is before its first step, where it cannot end.
            tail: `(q,)` int64 given tails of the paths; None for any tail.
        """
        tails = None if tail is None else self.entities.index_select(0, tail)
        logits = self._readout(self._drop_out(state, self.decoder.output_dropout), tails)
        end = logits[:, -1:].masked_fill(begins.unsqueeze(1), -torch.inf)
        return torch.cat([logits[:, :-1], end], dim=1).log_softmax(dim=1)

    def loss(self, walks: Walks) -> Tensor:
        """The sum of four means of -log P.

        Two are over the steps of walks: of their relations, and of their entities. Two are over the
        steps and ends of the walks' relation paths: to any tail, and to the tail where they end.
        """
        read, taken, decoder = self.read(walks), walks.taken, self.decoder
        relation, entity = walks.relation[taken], walks.entity[:, 1:][taken]
        after = self._drop_out(_where(read.after, taken), decoder.output_dropout)
        after = after.to(self.entities.dtype)
        # The end comes after the last step.
        end = len(self.relations)
        place = torch.arange(taken.shape[1] + 1).expand(len(taken), -1)
        stands = place <= walks.length.unsqueeze(1)
        step = F.pad(torch.where(taken, walks.relation, end), (0, 1), value=end)[stands]
        state, begins = _where(read.path, stands), (place == 0)[stands]
        tail = walks.end.unsqueeze(1).expand_as(stands)[stands]
        return (
            F.nll_loss(self.next_relation(_where(read.before, taken)), relation)
            + self._loss_of_entities(after, entity)
            + F.nll_loss(self.next_or_end(state, begins), step)
            + F.nll_loss(self.next_or_end(state, begins, tail), step)
        )

    def _loss_of_entities(self, state: Tensor, entity: Tensor) -> Tensor:
        each = torch.arange(len(entity))
        return entity_loss(
            state, self.entities, self.decoder.bias, each, entity,
            similarity=self.decoder.similarity,
        )  # fmt: skip

    def _drop_out(self, states: Tensor, share: float) -> Tensor:
        return F.dropout(states, share, self.decoder.training)


def _where(states: Tensor, mask: Tensor) -> Tensor:
    """`(n, d)`: the states `(q, k, d)` where a mask `(q, k)` is true."""
    return states.flatten(0, 1).index_select(0, mask.flatten().nonzero().squeeze(1))
