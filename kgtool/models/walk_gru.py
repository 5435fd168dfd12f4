"""Walks read step by step: the one-path decoder's GRU says where each goes on.

A walk `e_0 r_1 e_1 … r_k e_k` has the probability

    ∏_i P(r_i | e_0 r_1 e_1 … e_{i-1}) · P(e_i | e_0 r_1 e_1 … e_{i-1} r_i).

Before a step the state is `u_{i-1}`, with `u_0 = e_0`; after it, `s_i = GRU(w_{r_i}, u_{i-1})`;
once the entity is known, `u_i = GRU'(e_i, s_i)`. The next relation is read off `u_{i-1}`, see
`WalkReadout`; the next entity is the softmax of the decoder's scores, `⟨s_i, e_t⟩ + b_t`: in a
walk's first step, those of link prediction.

A relation path does not tell the entities between: `s_i = GRU(w_{r_i}, s_{i-1})`, as in path
queries. After each step it goes on or ends, wherever it may lead or bound for a tail:

    P(r_1 … r_k | h) = ∏_i P(r_i | s_{i-1}) · P(end | s_k),
    P(r_1 … r_k | h, t) = ∏_i P(r_i | s_{i-1}, e_t) · P(end | s_k, e_t).

The probabilities of all paths of one step or more sum to 1. They are of random walks as long as
those of training: of 1 to `max_path_length` steps, each length as likely.
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
class Read:
    """The states of walks that were read.

    Attributes:
        before: `(q, max_length, d)`, u_0 to u_{k-1}: all of a walk up to each step.
        after: `(q, max_length, d)`, s_1 to s_k of these: the step's relation too.
        path: `(q, max_length + 1, d)`, s_0 to s_k of the relations alone.
    """

    before: Tensor
    after: Tensor
    path: Tensor


@dataclass(frozen=True, eq=False)
class WalkReader:
    """A decoder that reads walks over given states.

    Attributes:
        decoder: one that has `walks`.
        entities: `(N, d)` entity states.
        relations: `(R, d)` relation states, inverses included.
    """

    decoder: OnePathDecoder
    entities: Tensor
    relations: Tensor

    @property
    def _readout(self) -> WalkReadout:
        if self.decoder.walks is None:
            raise ValueError("the decoder reads no walks")
        return self.decoder.walks

    def begin(self, head: Tensor) -> Tensor:
        """`(q, d)` states of walks that stand at their heads `(q,)`."""
        return self._drop_out(self.entities.index_select(0, head), self.decoder.input_dropout)

    def take(self, state: Tensor, relation: Tensor) -> Tensor:
        """`(q, d)` states after a step along relations `(q,)`."""
        word = self._drop_out(self.relations.index_select(0, relation), self.decoder.input_dropout)
        taken: Tensor = self.decoder.cell(word, state)
        return taken

    def arrive(self, state: Tensor, entity: Tensor) -> Tensor:
        """`(q, d)` states when the step is known to have ended at entities `(q,)`."""
        word = self._drop_out(self.entities.index_select(0, entity), self.decoder.input_dropout)
        known: Tensor = self._readout.cell(word, state)
        return known

    def read(self, walks: Walks) -> Read:
        """All states of walks, beyond their ends too."""
        known = told = self.begin(walks.entity[:, 0])
        before, after, path = [], [], [told]
        for step in range(walks.relation.shape[1]):
            before.append(known)
            after.append(self.take(known, walks.relation[:, step]))
            known = self.arrive(after[-1], walks.entity[:, step + 1])
            told = self.take(told, walks.relation[:, step])
            path.append(told)
        return Read(*(torch.stack(states, dim=1) for states in (before, after, path)))

    def next_relation(self, state: Tensor) -> Tensor:
        """`(q, R)` log P of the relation that a walk takes next, if it goes on."""
        logits = self._readout(self._drop_out(state, self.decoder.output_dropout))
        return logits[:, :-1].log_softmax(dim=1)

    def next_entity(self, state: Tensor) -> Tensor:
        """`(q, N)` log P of the entity that a walk is at after its step."""
        return torch.addmm(self.decoder.bias, state, self.entities.t()).log_softmax(dim=1)

    def next_or_end(self, state: Tensor, begins: Tensor, tail: Tensor | None = None) -> Tensor:
        """`(q, R + 1)` log P of the relation that a path takes next, last of its end.

        Args:
            state: `(q, d)`.
            begins: `(q,)` bool, whether a path is before its first step, where none ends.
            tail: `(q,)` int64 entities that the paths are bound for.
        """
        bound = None if tail is None else self.entities.index_select(0, tail)
        logits = self._readout(self._drop_out(state, self.decoder.output_dropout), bound)
        end = logits[:, -1:].masked_fill(begins.unsqueeze(1), -torch.inf)
        return torch.cat([logits[:, :-1], end], dim=1).log_softmax(dim=1)

    def loss(self, walks: Walks) -> Tensor:
        """The sum of four means of -log P.

        Over the steps of walks, of their relations and of their entities; over the steps and ends
        of the paths that they take, in general and bound for where they end.
        """
        read, taken, decoder = self.read(walks), walks.taken, self.decoder
        relation, entity = walks.relation[taken], walks.entity[:, 1:][taken]
        after = self._drop_out(_where(read.after, taken), decoder.output_dropout)
        after = after.to(self.entities.dtype)
        # After the last step comes the end.
        end = len(self.relations)
        place = torch.arange(taken.shape[1] + 1).expand(len(taken), -1)
        stands = place <= walks.length.unsqueeze(1)
        step = F.pad(torch.where(taken, walks.relation, end), (0, 1), value=end)[stands]
        state, begins = _where(read.path, stands), (place == 0)[stands]
        tail = walks.end.unsqueeze(1).expand_as(stands)[stands]
        return (
            F.nll_loss(self.next_relation(_where(read.before, taken)), relation)
            + entity_loss(after, self.entities, decoder.bias, torch.arange(len(entity)), entity)
            + F.nll_loss(self.next_or_end(state, begins), step)
            + F.nll_loss(self.next_or_end(state, begins, tail), step)
        )

    def _drop_out(self, states: Tensor, share: float) -> Tensor:
        return F.dropout(states, share, self.decoder.training)


def _where(states: Tensor, mask: Tensor) -> Tensor:
    """Those of `(q, k, d)` where a mask `(q, k)` is true."""
    return states.flatten(0, 1).index_select(0, mask.flatten().nonzero().squeeze(1))
