"""Compares answers with all entities, one block of entities at a time.

The scores of a block fit in the cache, and a table of entities is read once for all queries of a
batch. The score of an answer must come from the same scores as those of its rivals, but the block
with the answer may come last. So the first sweep takes the answers' scores from a product with the
answers only. If a block then gives other bits, a second sweep uses the scores of the blocks. (MKL
gives a score the same bits in all products of a dozen queries or more, see `PRODUCT_ROWS` in
`kgtool.models.scorers`.)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor

from kgtool.distributed import process_group
from kgtool.distributed.sharding import Shards
from kgtool.ops import count_better, count_better_listed

# Number of answers in a product before the sweep: the shape must be an ordinary one.
ANSWERS = 512

# Each model's scores `(q, k)` of the same queries against entities: a slice, or ids `(k,)` int64.
MixedScores = Callable[[slice | Tensor], Iterable[Tensor]]


@dataclass(frozen=True, eq=False)
class CandidateSet:
    """The candidates of `n` answers, in rows; several answers may have the same row.

    Attributes:
        row: `(n,)` int64, the row of each answer.
        offsets: `(rows + 1,)` int64; row `i` is `entity[offsets[i]:offsets[i + 1]]`.
        entity: `(m,)` int64, ascending within a row.
        num_entities: number of entities.
    """

    row: Tensor
    offsets: Tensor
    entity: Tensor
    num_entities: int

    @property
    def size(self) -> Tensor:
        """`(n,)` int64: the number of candidates of each answer."""
        return self.offsets.diff()[self.row]

    def place(self, position: Tensor, entity: Tensor, right: bool = False) -> Tensor:
        """`(p,)` int64: the place of each entity in the row of the answer at its position."""
        code = self.row[position] * self.num_entities + entity
        return torch.searchsorted(self._codes, code, right=right)

    def contains(self, position: Tensor, entity: Tensor) -> Tensor:
        """`(p,)` bool: whether each entity is a candidate of the answer at its position."""
        return self.place(position, entity) < self.place(position, entity, right=True)

    def local(self, shards: Shards) -> CandidateSet:
        """The candidates in this process's shard, by their local rows."""
        local = shards.is_local(self.entity)
        offsets = F.pad(local.cumsum(0), (1, 0))[self.offsets]
        return CandidateSet(self.row, offsets, shards.row(self.entity[local]), shards.count)

    @cached_property
    def _codes(self) -> Tensor:
        """`(m,)` int64, ascending."""
        rows = torch.arange(len(self.offsets) - 1).repeat_interleave(self.offsets.diff())
        return rows * self.num_entities + self.entity


@dataclass(frozen=True, eq=False)
class BlockCounts:
    """One model's result of a sweep.

    Attributes:
        better, equal: `(n,)` int64, the number of candidates with a higher score than each answer,
            and of others with an equal score.
        finite: `(n,)` bool: whether the scores of the answer and of all its candidates are finite.
        score: `(n,)` float, the scores of the answers.
        others: `(p,)` float, the scores of the pairs `others` of `sweep`.
    """

    better: Tensor
    equal: Tensor
    finite: Tensor
    score: Tensor
    others: Tensor


@dataclass(frozen=True, eq=False)
class _Block:
    """One model's scores of one block.

    Attributes:
        model: the number of the model.
        scores: `(q, width)`, of the columns from `start`.
        start, first: the block's first column, and its first column that is in no earlier block.
        pairs: `(p,)`, the scores of the requested pairs; those of later blocks are not filled yet.
    """

    model: int
    scores: Tensor
    start: int
    first: int
    pairs: Tensor


def sweep(
    score: MixedScores,
    num_entities: int,
    width: int,
    row: Tensor,
    tail: Tensor,
    *,
    others: tuple[Tensor, Tensor],
    chosen: CandidateSet | None = None,
    shards: Shards | None = None,
) -> list[BlockCounts]:
    """Compare answers with all entities or with chosen candidates, and return some other scores.

    Args:
        score: the scores of `q` queries.
        num_entities: number of entities.
        width: entities per block; memory holds at most `(q, width)` scores of a model.
        row, tail: `(n,)` int64: the query of each answer, and the answer.
        others: the pairs to score: `(p,)` int64 positions of answers, and `(p,)` int64 entities,
            which must be candidates.
        chosen: the candidates; None for all entities.
        shards: the shard of each entity, if each process scores the entities of its shard only, by
            their local rows. All processes make the call together and get equal results.

    Returns:
        One result per model.
    """
    n, everyone = len(tail), torch.arange(len(tail))
    kinds = [scores.dtype for scores in score(slice(0, 0))]
    own, size = torch.ones(n, dtype=torch.bool), torch.full((n,), num_entities)
    if chosen is not None:
        own, size = chosen.contains(everyone, tail), chosen.size
    num, rows, column = num_entities, torch.cat([row, row[others[0]]]), torch.cat([tail, others[1]])
    count, here = len(column), torch.arange(len(column))
    if shards is not None:
        here = shards.is_local(column).nonzero().squeeze(1)
        num, rows, column = shards.count, rows[here], shards.row(column[here])
        chosen = chosen.local(shards) if chosen else None
    own_answers = slice(int((here < n).sum()))
    answers = rows[own_answers], column[own_answers]
    entity = None
    ids = listed = torch.empty(0, dtype=torch.long)
    if chosen is not None:
        # The columns are the candidates of all answers; all entities, if these are most of them.
        ids = torch.unique(torch.cat([chosen.entity, column]))
        if 2 * len(ids) > num:
            ids = torch.arange(num)
        else:
            entity, num = ids, len(ids)
        column, listed = (torch.searchsorted(ids, of) for of in (column, chosen.entity))
    blocks = max(1, -(-num // width))
    width = max(1, -(-num // blocks))  # blocks of one shape that overlap by next to nothing

    def all_gathered(pairs: Sequence[Tensor]) -> list[Tensor]:
        """Each model's scores `(count,)` of all pairs, from the first local pairs `(k,)`."""
        if shards is None:
            return list(pairs)
        gathered = [torch.zeros(count, dtype=kind) for kind in kinds]
        for scores, local in zip(gathered, pairs, strict=False):  # empty without local pairs
            scores[here[: len(local)]] = local
        process_group.all_reduce(gathered)
        return gathered

    true = all_gathered(_of_answers(score, *answers)) if shards or num > width else []
    for _ in range(2):
        counts = [torch.zeros(3, n, dtype=torch.long) for _ in kinds]
        pairs = [torch.zeros(len(column), dtype=kind) for kind in kinds]
        for block in _read(score, entity, num, width, row=rows, column=column):
            pairs[block.model] = block.pairs
            mine = (true[block.model] if true else block.pairs)[:n]
            if chosen is None:
                found = count_better(block.scores, row, mine, block.first - block.start)
            else:
                last = block.start + width - 1
                span = (
                    chosen.place(everyone, ids[block.first]),
                    chosen.place(everyone, ids[last], right=True),
                )
                found = count_better_listed(block.scores, row, mine, span, listed, block.start)
            counts[block.model] += torch.stack(found)
        before, true = true, all_gathered(pairs)
        if not before or all(torch.equal(b[:n], t[:n]) for b, t in zip(before, true, strict=True)):
            break
    if shards is not None:
        process_group.all_reduce(counts)
    return [
        BlockCounts(
            better, equal - own.long(), (finite == size) & scores[:n].isfinite(),
            scores[:n], scores[n:],
        )
        for (better, equal, finite), scores in zip(counts, true, strict=True)
    ]  # fmt: skip


def _read(
    score: MixedScores, entity: Tensor | None, num: int, width: int, *, row: Tensor, column: Tensor
) -> Iterator[_Block]:
    """All blocks of `num` columns. They have one shape: the last may overlap the one before.

    Args:
        score: gives the scores.
        entity: `(num,)` int64, the entity of each column; None if column `i` is entity `i`.
        num, width: number of columns in all, and per block.
        row, column: `(p,)` int64: the requested pairs.
    """
    pairs: list[Tensor] = []
    order = torch.argsort(column)
    ends = torch.arange(0, num + width, width)
    bounds = torch.searchsorted(column[order], ends).tolist()
    for i, first in enumerate(range(0, num, width)):
        start = min(first, num - width)
        columns = slice(start, start + width)
        inside = order[bounds[i] : bounds[i + 1]]
        index = (row[inside], column[inside] - start)
        for model, scores in enumerate(score(columns if entity is None else entity[columns])):
            if model == len(pairs):
                pairs.append(scores.new_empty(len(column)))
            pairs[model][inside] = scores[index]
            yield _Block(model, scores, start, first, pairs[model])


def _of_answers(score: MixedScores, row: Tensor, tail: Tensor) -> list[Tensor]:
    """The scores `(n,)` of answers, one tensor per model, from products with answers only."""
    entity, column = torch.unique(tail, return_inverse=True)
    entity = torch.cat([entity, entity[-1:].expand(-len(entity) % ANSWERS)])
    blocks = _read(score, entity, len(entity), ANSWERS, row=row, column=column)
    return list({block.model: block.pairs for block in blocks}.values())
