"""One reading of the scores of a batch of queries, a block of entities at a time.

A block's scores are few enough to be read from the cache, and a table of entities is read once for
all queries of the batch. An answer is compared by its score in the block where it stands, which is
not known before that block has been read. So it is first taken from a product with the answers
alone; where that was not the same number to the bit, all is read again. (MKL gives a score the same
bits in all products of a dozen queries or more, see `PRODUCT_ROWS` in `kgtool.models.scorers`.)
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

# Answers that are scored before the sweep in one product, whose shape is to be an ordinary one.
ANSWERS = 512

# Each model's scores `(q, k)` of the same queries against entities: a slice, or ids `(k,)` int64.
MixedScores = Callable[[slice | Tensor], Iterable[Tensor]]


@dataclass(frozen=True, eq=False)
class CandidateSet:
    """The candidates of `n` answers, in rows that answers may share.

    Attributes:
        row: `(n,)` int64, each answer's.
        offsets: `(rows + 1,)` int64; row `i` is `entity[offsets[i]:offsets[i + 1]]`.
        entity: `(m,)` int64, ascending within a row.
        num_entities: above every entity.
    """

    row: Tensor
    offsets: Tensor
    entity: Tensor
    num_entities: int

    @property
    def size(self) -> Tensor:
        """`(n,)` int64: candidates of each answer."""
        return self.offsets.diff()[self.row]

    def place(self, position: Tensor, entity: Tensor, right: bool = False) -> Tensor:
        """`(p,)` int64: where entities belong in the rows of the answers at these positions."""
        asked = self.row[position] * self.num_entities + entity
        return torch.searchsorted(self._codes, asked, right=right)

    def contains(self, position: Tensor, entity: Tensor) -> Tensor:
        """`(p,)` bool: whether entities are candidates of the answers at these positions."""
        return self.place(position, entity) < self.place(position, entity, right=True)

    def held(self, shards: Shards) -> CandidateSet:
        """Those that this process holds, by their rows here."""
        held = shards.is_local(self.entity)
        offsets = F.pad(held.cumsum(0), (1, 0))[self.offsets]
        return CandidateSet(self.row, offsets, shards.row(self.entity[held]), shards.count)

    @cached_property
    def _codes(self) -> Tensor:
        """`(m,)` int64, ascending."""
        rows = torch.arange(len(self.offsets) - 1).repeat_interleave(self.offsets.diff())
        return rows * self.num_entities + self.entity


@dataclass(frozen=True, eq=False)
class BlockCounts:
    """What a sweep found of one model.

    Attributes:
        better, equal: `(n,)` int64, candidates scored above each answer, and others level with it.
        finite: `(n,)` bool: whether all its candidates' scores are numbers, and its own.
        score: `(n,)` float, of the answers.
        others: `(p,)` float, of the other pairs that were asked for.
    """

    better: Tensor
    equal: Tensor
    finite: Tensor
    score: Tensor
    others: Tensor


@dataclass(frozen=True, eq=False)
class _Block:
    """What one model says of one block.

    Attributes:
        model: its number.
        scores: `(q, width)`, of the columns from `start`.
        start, first: the block's first column, and its first that no block before it held.
        pairs: `(p,)`, the scores that were asked for, as far as they have been read.
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
    """Compare answers with all entities, or with chosen ones, and note other scores on the way.

    Args:
        score: of `q` queries.
        num_entities: how many there are.
        width: entities in a block; no more scores of a model are held than `(q, width)`.
        row, tail: `(n,)` int64: the query of each answer, and the answer.
        others: `(p,)` int64 positions of answers, and entities, candidates where some are chosen.
        chosen: the candidates; None for all entities.
        shards: who holds which entity, of processes that each score those that they hold, by their
            rows there. They call it together, and get the same.

    Returns:
        One a model.
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
        chosen = chosen.held(shards) if chosen else None
    own_answers = slice(int((here < n).sum()))
    answers = rows[own_answers], column[own_answers]
    entity = None
    ids = listed = torch.empty(0, dtype=torch.long)
    if chosen is not None:
        # Columns are what is chosen for any answer; or all entities, where that is most of them.
        ids = torch.unique(torch.cat([chosen.entity, column]))
        if 2 * len(ids) > num:
            ids = torch.arange(num)
        else:
            entity, num = ids, len(ids)
        column, listed = (torch.searchsorted(ids, of) for of in (column, chosen.entity))
    blocks = max(1, -(-num // width))
    width = max(1, -(-num // blocks))  # blocks of one shape that overlap by next to nothing

    def told(pairs: Sequence[Tensor]) -> list[Tensor]:
        """Each model's scores `(k,)` of the first pairs held here, as all processes know them."""
        if shards is None:
            return list(pairs)
        found = [torch.zeros(count, dtype=kind) for kind in kinds]
        for scores, known in zip(found, pairs, strict=False):  # of no pairs there may be none
            scores[here[: len(known)]] = known
        process_group.all_reduce(found)
        return found

    true = told(_of_answers(score, *answers)) if shards or num > width else []
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
        before, true = true, told(pairs)
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
    """All blocks of `num` columns, of the same shape, so that the last may overlap the one before.

    Args:
        score: gives the scores.
        entity: `(num,)` int64, of each column; None where column `i` is entity `i`.
        num, width: of columns in all, and in a block.
        row, column: `(p,)` int64: the pairs that are asked for.
    """
    pairs: list[Tensor] = []
    order = torch.argsort(column)
    ends = torch.arange(0, num + width, width)
    bounds = torch.searchsorted(column[order], ends).tolist()
    for i, first in enumerate(range(0, num, width)):
        start = min(first, num - width)
        columns = slice(start, start + width)
        inside = order[bounds[i] : bounds[i + 1]]
        asked = (row[inside], column[inside] - start)
        for model, scores in enumerate(score(columns if entity is None else entity[columns])):
            if model == len(pairs):
                pairs.append(scores.new_empty(len(column)))
            pairs[model][inside] = scores[asked]
            yield _Block(model, scores, start, first, pairs[model])


def _of_answers(score: MixedScores, row: Tensor, tail: Tensor) -> list[Tensor]:
    """The scores `(n,)` of answers, one tensor a model, in products of their own."""
    entity, column = torch.unique(tail, return_inverse=True)
    entity = torch.cat([entity, entity[-1:].expand(-len(entity) % ANSWERS)])
    blocks = _read(score, entity, len(entity), ANSWERS, row=row, column=column)
    return list({block.model: block.pairs for block in blocks}.values())
