"""The index of known answers: the tails of each query `(h, r)`."""

from __future__ import annotations

from functools import cached_property

import torch
from torch import Tensor

from kgtool.data.dataset import invert
from kgtool.ops import begins


class AnswerIndex:
    """The distinct queries `(h, r)` of a set of triples, each with its known tails.

    It is built once from all known triples (and their inverses, for head queries), in compressed
    rows: the tails of query `i` are `tails[offsets[i]:offsets[i + 1]]`.

    Args:
        triples: `(n, 3)` int64, relation ids below `num_relation_ids`. Duplicates are dropped.
        num_relation_ids: number of relation ids, inverses counted.
        inverses: whether to index the inverse of each triple too.

    Attributes:
        hr: `(q, 2)` int64, the distinct queries, sorted by head, then relation.
        offsets: `(q + 1,)` int64.
        tails: `(m,)` int64, ascending within a query.
    """

    def __init__(self, triples: Tensor, num_relation_ids: int, inverses: bool = False) -> None:
        self._num_relation_ids = num_relation_ids
        columns = (2, 0) if inverses else (2,)
        self._stride = max(
            (int(triples[:, i].max()) + 1 for i in columns if len(triples)), default=1
        )
        code = self._code(triples)
        if inverses:
            code = torch.cat([code, self._code(invert(triples, num_relation_ids // 2))])
        code.numpy().sort()  # in place; one int64 per triple sorts faster than rows
        code = code[torch.from_numpy(begins(code.numpy()))]
        self.tails = code % self._stride
        key = code.div_(self._stride, rounding_mode="floor")
        start = torch.from_numpy(begins(key.numpy())).nonzero().flatten()
        self._keys = key[start]
        self.hr = torch.stack(
            [self._keys // num_relation_ids, self._keys % num_relation_ids], dim=1
        )
        self.offsets = torch.cat([start, start.new_full((1,), len(key))])

    def _code(self, triples: Tensor) -> Tensor:
        """`(n,)` int64, a code per triple that sorts by head, then relation, then tail."""
        return self._key(triples[:, :2]).mul_(self._stride).add_(triples[:, 2])

    def _key(self, hr: Tensor) -> Tensor:
        return hr[:, 0] * self._num_relation_ids + hr[:, 1]

    def __len__(self) -> int:
        return len(self.hr)

    def triples(self) -> Tensor:
        """`(m, 3)` int64: every query with each of its tails, in the order of `tails`."""
        hr = self.hr.repeat_interleave(self.offsets.diff(), dim=0)
        return torch.cat([hr, self.tails.unsqueeze(1)], dim=1)

    def rows(self, hr: Tensor) -> Tensor:
        """`(n,)` int64: the row of each query of `hr` `(n, 2)`, or -1 without answers."""
        if not len(self._keys):
            return torch.full((len(hr),), -1)
        key = self._key(hr)
        row = torch.searchsorted(self._keys, key).clamp_(max=len(self._keys) - 1)
        return torch.where(self._keys[row] == key, row, -1)

    def count(self, rows: Tensor) -> Tensor:
        """`(n,)` int64: the number of answers of each row; 0 for row -1."""
        return torch.where(rows >= 0, self.offsets[rows + 1] - self.offsets[rows.clamp(min=0)], 0)

    def contains(self, triples: Tensor) -> Tensor:
        """`(n,)` bool: whether each triple `(n, 3)` is one of the index."""
        inside = triples[:, 2] < self._stride
        if not len(self._codes):
            return torch.zeros_like(inside)
        code = self._code(triples)
        place = torch.searchsorted(self._codes, code).clamp_(max=len(self._codes) - 1)
        return inside & (self._codes[place] == code)

    def contains_tails(self, row: Tensor, tail: Tensor) -> Tensor:
        """`(n,)` bool: which of `tail` `(n,)` answer the query at `row`, which must have some."""
        tails = self.tails[self.offsets[row] : self.offsets[row + 1]]
        return tails[torch.searchsorted(tails, tail).clamp(max=len(tails) - 1)] == tail

    @cached_property
    def _codes(self) -> Tensor:
        """`(m,)` int64, a code per triple, ascending."""
        return self._keys.repeat_interleave(self.offsets.diff()) * self._stride + self.tails

    def others(self, triples: Tensor) -> tuple[Tensor, Tensor]:
        """The known answers to the queries of triples `(n, 3)`, each triple's own tail left out.

        Returns:
            `position` `(p,)`, ascending positions in `triples`, and `answer` `(p,)`, entities.
        """
        position, slot = self.expand(self.rows(triples[:, :2]))
        answer = self.tails[slot]
        other = answer != triples[position, 2]
        return position[other], answer[other]

    def expand(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """All answers of a batch of rows, as pairs.

        Args:
            rows: `(n,)` int64 rows of this index; -1 stands for a query without answers.

        Returns:
            `position` `(p,)`, ascending positions in `rows`, and `slot` `(p,)`, so that
            `tails[slot]` are the tails of the queries at `rows[position]`.
        """
        start = self.offsets[rows.clamp(min=0)]
        count = self.count(rows)
        position = torch.repeat_interleave(count)
        first = start - (count.cumsum(0) - count)
        return position, first[position] + torch.arange(len(position))


def answer_index(triples: Tensor, num_relations: int) -> AnswerIndex:
    """The answers that triples `(n, 3)` int64 give to head queries and tail queries."""
    return AnswerIndex(triples, 2 * num_relations, inverses=True)


def answers_at_heads(queries: Tensor, triples: Tensor, num_relations: int) -> AnswerIndex:
    """`answer_index` of the triples that can answer some queries: those with a query's head.

    Args:
        queries: `(n, 3)` or `(n, 2)` int64, head and relation first; head queries as inverses.
        triples: `(m, 3)` int64, without inverses; both their ends are compared with the heads.
        num_relations: inverses not counted.
    """
    ends = triples[:, ::2]
    entities = 1 + max((int(ids.max()) for ids in (queries[:, 0], ends) if len(ids)), default=0)
    is_head = torch.zeros(entities, dtype=torch.bool)
    is_head[queries[:, 0]] = True
    direct = triples[is_head[ends[:, 0]]]
    inverse = invert(triples[is_head[ends[:, 1]]], num_relations)
    return AnswerIndex(torch.cat([direct, inverse]), 2 * num_relations)
