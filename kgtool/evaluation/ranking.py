"""Ranks of true answers among entities, under every tie policy, filtered and raw.

Ranks are 1-based: optimistic counts better scores, pessimistic equal ones too, realistic is their
mean. The true score is read from the same score matrix that it is ranked in.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from tqdm.auto import tqdm

from kgtool.data.answer_index import AnswerIndex
from kgtool.distributed import process_group
from kgtool.distributed.sharding import Shards
from kgtool.errors import ScoreError
from kgtool.evaluation.blockwise import CandidateSet, MixedScores, sweep
from kgtool.evaluation.sparse_ranking import compare_sparse
from kgtool.models.scorers import BlockScores, Scorer, ScoresTails, SparseScores, as_scorer

# Whole rows of scores made at a time: this many bytes of float32, so that what reads them finds
# them cached; or this many rows, so that a large table is not read again for each.
CHUNK_BYTES = 8 * 2**20
WHOLE_ROWS = 16
ENOUGH_ROWS = 128  # a table that is read once for so many queries need not be read in blocks
# Blocks of scores are smaller: beside them, the entities' states are to stay in the cache too.
BLOCK_BYTES = 4 * 2**20
# Answers ranked at a time where scores are made in blocks: among all entities, and among chosen
# ones, which are scored for every query of the chunk.
QUERIES = 512
CHOOSING_QUERIES = 64


class Candidates(Protocol):
    """Anything that says which entities an answer is ranked among."""

    @property
    def name(self) -> str:
        """Names the protocol, also in file names."""
        ...

    def choose(self, triples: Tensor, known: AnswerIndex, num_entities: int) -> CandidateSet:
        """The candidates of triples `(n, 3)` int64; an answer is always one, listed or not.

        Args:
            triples: `(h, r, t)`, t the answer; head queries as inverses.
            known: all answers that do not count against an answer.
            num_entities: number of entities.
        """
        ...


@dataclass(frozen=True, eq=False)
class Ranks:
    """Ranks of the answers of `n` queries.

    Attributes:
        better, equal: `(n,)` int64, candidates scored above the answer, and others level with it.
        candidates: `(n,)` int64, entities ranked, the answer included.
    """

    better: Tensor
    equal: Tensor
    candidates: Tensor

    @property
    def optimistic(self) -> Tensor:
        """`(n,)` float64: an answer comes first among its equals."""
        return (self.better + 1).double()

    @property
    def pessimistic(self) -> Tensor:
        """`(n,)` float64: an answer comes last among its equals."""
        return (self.better + self.equal + 1).double()

    @property
    def realistic(self) -> Tensor:
        """`(n,)` float64: the mean of the two."""
        return (self.optimistic + self.pessimistic) / 2

    @classmethod
    def concatenate(cls, *parts: Ranks) -> Ranks:
        """The ranks of several sets of queries, pooled."""
        return cls(
            better=torch.cat([part.better for part in parts]),
            equal=torch.cat([part.equal for part in parts]),
            candidates=torch.cat([part.candidates for part in parts]),
        )

    def __getitem__(self, index: Tensor | slice) -> Ranks:
        """The ranks at a mask, at indices or in a slice."""
        return Ranks(self.better[index], self.equal[index], self.candidates[index])


@dataclass(frozen=True, eq=False)
class Ranking:
    """Answers of `n` queries among all entities, or among chosen candidates.

    Attributes:
        filtered: among those not known as answers to the same query.
        raw: among all of them.
        score: `(n,)` float, of each answer.
    """

    filtered: Ranks
    raw: Ranks
    score: Tensor

    @classmethod
    def concatenate(cls, *parts: Ranking) -> Ranking:
        """The answers of several sets of queries, pooled."""
        return cls(
            Ranks.concatenate(*(part.filtered for part in parts)),
            Ranks.concatenate(*(part.raw for part in parts)),
            torch.cat([part.score for part in parts]),
        )

    def __getitem__(self, index: Tensor | slice) -> Ranking:
        """The answers at a mask, at indices or in a slice."""
        return Ranking(self.filtered[index], self.raw[index], self.score[index])


def not_finite(query: str) -> ScoreError:
    """The error for a query that has a score which cannot be ranked."""
    return ScoreError(
        f"the model gave a score that is NaN or infinite for {query}: such scores cannot be "
        "ranked. Remedy: train again with a lower learning rate, or look at the weights."
    )


def rank_tails(
    model: ScoresTails,
    triples: Tensor,
    known: AnswerIndex,
    num_entities: int,
    *,
    chunk_size: int | None = None,
    progress: str | None = None,
    candidates: Candidates | None = None,
) -> Ranking:
    """Filtered and raw ranks of the tails of triples.

    Memory is bounded, whatever the number of triples: by a block of `BLOCK_BYTES` of scores of a
    scorer that is `in_blocks`, and by a chunk of whole rows of scores of any other.

    Args:
        model: a `Scorer`, or any object that has `score_t`.
        triples: `(n, 3)` int64 `(h, r, t)`; for head queries their inverses.
        known: all answers that do not count against an answer.
        num_entities: number of candidates.
        chunk_size: answers ranked at a time; by default what is fast.
        progress: a label for a progress bar; None shows none.
        candidates: what answers are ranked among; None for all entities.

    Returns:
        Ranks and scores, in the order of the triples.

    Raises:
        ScoreError: when a score is NaN or infinite, naming the query.
    """
    found = rank_scores(
        [model],
        iter,
        triples,
        known,
        num_entities,
        chunk_size=chunk_size,
        progress=progress,
        candidates=candidates,
    )
    return found[0]


@torch.no_grad()
def rank_scores(
    models: Sequence[ScoresTails],
    mix: Callable[[Sequence[Tensor]], Iterable[Tensor]],
    triples: Tensor,
    known: AnswerIndex,
    num_entities: int,
    *,
    chunk_size: int | None = None,
    progress: str | None = None,
    candidates: Candidates | None = None,
) -> list[Ranking]:
    """`rank_tails` of mixtures of models, each of which is asked once.

    Args:
        models: give the scores.
        mix: makes the scores that are ranked, one after the other, of those of the models, all of
            one shape.
        triples, known, num_entities, chunk_size, progress, candidates: as of `rank_tails`.

    Raises:
        ValueError: for a mixture of models that are spread over processes.
    """
    scorers = [as_scorer(model) for model in models]
    alone = scorers[0] if mix is iter else None
    shards = scorers[0].shards
    if shards and not alone:
        raise ValueError("a model that is spread over processes ranks alone")
    sparse = alone if alone and alone.is_sparse and candidates is None else None
    in_blocks = all(scorer.in_blocks for scorer in scorers)
    chunk_size, width = block_shape(
        num_entities, chunk_size, in_blocks or sparse is not None, candidates is not None
    )
    # Equal queries side by side, so that a chunk scores each once; then those of a head, which are
    # one pass of a model that makes passes, or of a relation, whose candidates are alike.
    order = torch.arange(len(triples))
    for column in (0, 1) if in_blocks and candidates else (1, 0):
        order = order[torch.argsort(triples[order, column], stable=True)]
    # Processes that work together rank some each: all have the same models, and get all ranks. Of
    # a model that is spread over them, they rank all together.
    own = order if shards else order[process_group.chunk(len(order))]
    parts: list[list[Ranking]] = []
    bar = tqdm(total=len(triples), desc=progress, unit="query", disable=progress is None)
    with bar:
        for chunk in own.split(chunk_size) if len(own) else ():
            hr, row = torch.unique_consecutive(triples[chunk, :2], dim=0, return_inverse=True)
            part = triples[chunk]
            if sparse:
                scores = sparse.sparse_scores(hr)
                parts.append(
                    [_rank_sparse(scores, hr, row, part, known, num_entities=num_entities)]
                )
            else:
                score, sizes = _mixed(scorers, mix, hr, num_entities), (num_entities, width)
                parts.append(
                    _rank_chunk(
                        score,
                        hr,
                        row,
                        part,
                        known,
                        sizes=sizes,
                        candidates=candidates,
                        shards=shards,
                    )
                )
            bar.update(len(chunk))
    if process_group.world_size() > 1 and not shards:
        # A process may have nothing to rank, and yet is to know how many rankings there are.
        mixed = range(len(list(mix([torch.zeros(0)] * len(models)))))
        return [_gathered([part[i] for part in parts], own, len(order)) for i in mixed]
    back = torch.argsort(order)
    return [Ranking.concatenate(*of_model)[back] for of_model in zip(*parts, strict=True)]


def block_shape(
    num_entities: int, chunk_size: int | None = None, in_blocks: bool = True, chosen: bool = False
) -> tuple[int, int]:
    """How many answers are ranked at a time, against how many entities at a time.

    Args:
        num_entities: number of entities.
        chunk_size: answers, where it was said.
        in_blocks: scores are made in blocks, not in whole rows.
        chosen: candidates are chosen, not all entities.
    """
    rows = whole_rows(num_entities)
    whole = not in_blocks or rows >= ENOUGH_ROWS
    many = CHOOSING_QUERIES if chosen else QUERIES
    chunk_size = chunk_size or (rows if whole else many)
    return chunk_size, num_entities if whole else max(1, BLOCK_BYTES // (4 * chunk_size))


def whole_rows(num_entities: int) -> int:
    """How many queries' scores are made together, where all entities' are."""
    return max(WHOLE_ROWS, CHUNK_BYTES // (4 * num_entities))


def _mixed(
    scorers: Sequence[Scorer],
    mix: Callable[[Sequence[Tensor]], Iterable[Tensor]],
    hr: Tensor,
    num_entities: int,
) -> MixedScores:
    """The mixtures of all scorers' scores of queries; in whole rows unless all are `in_blocks`."""
    if all(scorer.in_blocks for scorer in scorers):
        scores = [scorer.block_scores(hr) for scorer in scorers]
    else:
        scores = [_whole_rows(scorer, hr, num_entities) for scorer in scorers]
    return lambda entities: mix([of_scorer(entities) for of_scorer in scores])


def _whole_rows(scorer: Scorer, hr: Tensor, num_entities: int) -> BlockScores:
    """The scores of all entities at once, of which blocks are parts."""
    scores = scorer.score_t(hr)
    if scores.shape != (len(hr), num_entities):
        raise ValueError(f"score_t gave {tuple(scores.shape)} for {len(hr)} × {num_entities}")
    return lambda entities: scores[:, entities]


def _rank_chunk(
    score: MixedScores,
    hr: Tensor,
    row: Tensor,
    triples: Tensor,
    known: AnswerIndex,
    *,
    sizes: tuple[int, int],
    candidates: Candidates | None,
    shards: Shards | None,
) -> list[Ranking]:
    """The ranks of some triples, by each model.

    Args:
        score: of the queries `hr`; `row` is that of each triple's.
        hr, row, triples, known, candidates: the chunk.
        sizes: number of entities, and how many are scored at a time.
        shards: who holds which, where the model is spread over processes.
    """
    n, tail = len(triples), triples[:, 2]
    num_entities, width = sizes
    position, answer = known.others(triples)
    total = torch.full((n,), num_entities)
    chosen = None
    if candidates is not None:
        chosen = candidates.choose(triples, known, num_entities)
        inside = chosen.contains(position, answer)
        position, answer = position[inside], answer[inside]
        total = chosen.size + ~chosen.contains(torch.arange(n), tail)
    others = torch.bincount(position, minlength=n)
    rankings = []
    pairs = (position, answer)
    for found in sweep(
        score, num_entities, width, row, tail, others=pairs, chosen=chosen, shards=shards
    ):
        if not bool(found.finite.all()):
            head, relation = hr[row[~found.finite][0]].tolist()
            raise not_finite(f"query (head {head}, relation {relation}, ?)")
        true = found.score[position]
        better = torch.bincount(position[found.others > true], minlength=n)
        equal = torch.bincount(position[found.others == true], minlength=n)
        rankings.append(
            Ranking(
                Ranks(found.better - better, found.equal - equal, total - others),
                Ranks(found.better, found.equal, total),
                found.score.float(),
            )
        )
    return rankings


def _rank_sparse(
    scores: SparseScores,
    hr: Tensor,
    row: Tensor,
    triples: Tensor,
    known: AnswerIndex,
    *,
    num_entities: int,
) -> Ranking:
    """The ranks of some triples by sparse scores; see `_rank_chunk`."""
    found = compare_sparse(scores, row, triples, known, num_entities)
    if not bool(found.finite.all()):
        head, relation = hr[row[~found.finite][0]].tolist()
        raise not_finite(f"query (head {head}, relation {relation}, ?)")
    total = torch.full_like(found.num_known, num_entities)
    better, equal = found.better - found.known_better, found.equal - found.known_equal
    return Ranking(
        Ranks(better, equal, total - found.num_known),
        Ranks(found.better, found.equal, total),
        found.score.float(),
    )


def _gathered(parts: Sequence[Ranking], own: Tensor, count: int) -> Ranking:
    """The ranking of all queries, of which this process has ranked those at places `own`."""
    counts, score = torch.zeros(6, count, dtype=torch.long), torch.zeros(count)
    if parts:
        found = Ranking.concatenate(*parts)
        told = [(of.better, of.equal, of.candidates) for of in (found.filtered, found.raw)]
        counts[:, own] = torch.stack([*told[0], *told[1]])
        score[own] = found.score.float()
    process_group.all_reduce([counts, score])
    return Ranking(Ranks(*counts[:3]), Ranks(*counts[3:]), score)


def distinct_in_chunks(hr: Tensor, size: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Queries `(n, 2)` int64, each once, by head, and where they are asked.

    All chunks but the last are of one size: large blocks of many sizes would leave gaps in memory.

    Yields:
        `(k, 2)` distinct queries, at most `size`; `(m,)` int64, ascending within each query, the
        places of `hr` that ask them, and `(m,)` which of the k each place asks.
    """
    distinct, row = torch.unique(hr, dim=0, return_inverse=True)
    order = torch.argsort(row, stable=True)
    first = torch.searchsorted(row[order], torch.arange(0, len(distinct) + size, size))
    for i in range(len(first) - 1):
        asked = order[first[i] : first[i + 1]]
        yield distinct[i * size : (i + 1) * size], asked, row[asked] - i * size
