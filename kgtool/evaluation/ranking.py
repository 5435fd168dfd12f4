"""Ranks of true answers among entities, under every tie policy, filtered and raw.

Ranks begin at 1: optimistic counts better scores, pessimistic equal scores too, realistic is their
mean. The score of the answer is read from the same score matrix as the scores of the candidates.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from kgtool.data.answer_index import AnswerIndex
from kgtool.distributed import process_group
from kgtool.distributed.sharding import Shards
from kgtool.errors import ScoreError
from kgtool.evaluation.blockwise import CandidateSet, MixedScores, sweep
from kgtool.evaluation.sparse_ranking import compare_sparse
from kgtool.models.scorers import BlockScores, Scorer, ScoresTails, SparseScores, as_scorer
from kgtool.ops import Progress

# Size of a chunk of whole rows of scores: this many bytes of float32, which fit in the cache; at
# least this many rows, so that a large table of entities is not read once per query.
CHUNK_BYTES = 8 * 2**20
WHOLE_ROWS = 16
ENOUGH_ROWS = 128  # with so many queries per reading of the table, blocks gain nothing
# Blocks of scores are smaller, since the states of their entities must stay in the cache too.
BLOCK_BYTES = 4 * 2**20
# Answers per chunk if scores come in blocks: among all entities, and among chosen candidates, which
# are scored for every query of the chunk.
QUERIES = 512
CHOOSING_QUERIES = 64


class Candidates(Protocol):
    """Chooses the entities that an answer is ranked among."""

    @property
    def name(self) -> str:
        """The name of the protocol, also in file names."""
        ...

    def choose(self, triples: Tensor, known: AnswerIndex, num_entities: int) -> CandidateSet:
        """The candidates of triples `(n, 3)` int64; the answer counts as one even if not listed.

        Args:
            triples: `(h, r, t)`, t the answer; head queries as inverses.
            known: the known answers, which filtered ranks leave out.
            num_entities: number of entities.
        """
        ...


@dataclass(frozen=True, eq=False)
class Ranks:
    """Ranks of the answers of `n` queries.

    Attributes:
        better, equal: `(n,)` int64, the number of candidates with a higher score than the answer,
            and of others with an equal score.
        candidates: `(n,)` int64, the number of candidates, the answer included.
    """

    better: Tensor
    equal: Tensor
    candidates: Tensor

    @property
    def optimistic(self) -> Tensor:
        """`(n,)` float64: the answer comes first among equal scores."""
        return (self.better + 1).double()

    @property
    def pessimistic(self) -> Tensor:
        """`(n,)` float64: the answer comes last among equal scores."""
        return (self.better + self.equal + 1).double()

    @property
    def realistic(self) -> Tensor:
        """`(n,)` float64: the mean of optimistic and pessimistic."""
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
    """The ranks of the answers of `n` queries, among all entities or chosen candidates.

    Attributes:
        filtered: ranks without the other known answers to the query.
        raw: ranks among all candidates.
        score: `(n,)` float, the score of each answer.
    """

    filtered: Ranks
    raw: Ranks
    score: Tensor

    @classmethod
    def concatenate(cls, *parts: Ranking) -> Ranking:
        """The rankings of several sets of queries, pooled."""
        return cls(
            Ranks.concatenate(*(part.filtered for part in parts)),
            Ranks.concatenate(*(part.raw for part in parts)),
            torch.cat([part.score for part in parts]),
        )

    def __getitem__(self, index: Tensor | slice) -> Ranking:
        """The ranking at a mask, at indices or in a slice."""
        return Ranking(self.filtered[index], self.raw[index], self.score[index])


def not_finite(query: str) -> ScoreError:
    """The error for a query with a NaN or infinite score."""
    return ScoreError(
        f"the model gave a score that is NaN or infinite for {query}: such scores cannot be "
        "ranked. Remedy: train again with a lower learning rate, or check the weights."
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

    Memory does not grow with the number of triples. It holds one block of `BLOCK_BYTES` of scores
    if the scorer is `in_blocks`, else one chunk of whole rows.

    Args:
        model: a `Scorer`, or any object with `score_t`.
        triples: `(n, 3)` int64 `(h, r, t)`; head queries as inverses.
        known: the known answers, which filtered ranks leave out.
        num_entities: number of entities.
        chunk_size: answers per chunk; by default a fast size.
        progress: the label of a progress bar; None shows none.
        candidates: chooses the candidates; None for all entities.

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
    """`rank_tails` for mixtures of models; each model scores a query once.

    Args:
        models: the models.
        mix: maps the models' scores of some queries to the scores of each mixture in turn, all of
            one shape.
        triples, known, num_entities, chunk_size, progress, candidates: as in `rank_tails`.

    Returns:
        One ranking per mixture.

    Raises:
        ScoreError: when a score is NaN or infinite, naming the query.
        ValueError: for a mixture with a sharded model.
    """
    scorers = [as_scorer(model) for model in models]
    alone = scorers[0] if mix is iter else None
    shards = scorers[0].shards
    if shards and not alone:
        raise ValueError("a mixture cannot contain a model that is sharded over processes")
    sparse = alone if alone and alone.is_sparse and candidates is None else None
    in_blocks = all(scorer.in_blocks for scorer in scorers)
    chunk_size, width = block_shape(
        num_entities, chunk_size, in_blocks or sparse is not None, candidates is not None
    )
    # Equal queries come together, so that a chunk scores each once. Then come queries with the same
    # head, which share a pass, or with the same relation, which have similar candidates.
    order = torch.arange(len(triples))
    for column in (0, 1) if in_blocks and candidates else (1, 0):
        order = order[torch.argsort(triples[order, column], stable=True)]
    # Each process ranks its own part of the triples and gets all ranks. With a sharded model, all
    # processes rank all triples together.
    own = order if shards else order[process_group.chunk(len(order))]
    parts: list[list[Ranking]] = []
    shown = progress is not None and process_group.rank() == 0
    with Progress(len(triples), progress or "ranking", "query", shown=shown) as bar:
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
    if not len(order) or (process_group.world_size() > 1 and not shards):
        # Without triples, the number of rankings must be known too.
        mixed = range(len(list(mix([torch.zeros(0)] * len(models)))))
        return [_gathered([part[i] for part in parts], own, len(order)) for i in mixed]
    back = torch.argsort(order)
    return [Ranking.concatenate(*of_model)[back] for of_model in zip(*parts, strict=True)]


def block_shape(
    num_entities: int, chunk_size: int | None = None, in_blocks: bool = True, chosen: bool = False
) -> tuple[int, int]:
    """The number of answers per chunk, and of entities per block.

    Args:
        num_entities: number of entities.
        chunk_size: answers per chunk, if given.
        in_blocks: whether scores come in blocks, not in whole rows.
        chosen: whether candidates are chosen, not all entities.
    """
    rows = whole_rows(num_entities)
    whole = not in_blocks or rows >= ENOUGH_ROWS
    many = CHOOSING_QUERIES if chosen else QUERIES
    chunk_size = chunk_size or (rows if whole else many)
    return chunk_size, num_entities if whole else max(1, BLOCK_BYTES // (4 * chunk_size))


def whole_rows(num_entities: int) -> int:
    """The number of queries per chunk, if each is scored against all entities."""
    return max(WHOLE_ROWS, CHUNK_BYTES // (4 * num_entities))


def _mixed(
    scorers: Sequence[Scorer],
    mix: Callable[[Sequence[Tensor]], Iterable[Tensor]],
    hr: Tensor,
    num_entities: int,
) -> MixedScores:
    """The mixtures of the scores of queries; in whole rows unless all scorers are `in_blocks`."""
    if all(scorer.in_blocks for scorer in scorers):
        scores = [scorer.block_scores(hr) for scorer in scorers]
    else:
        scores = [_whole_rows(scorer, hr, num_entities) for scorer in scorers]
    return lambda entities: mix([of_scorer(entities) for of_scorer in scores])


def _whole_rows(scorer: Scorer, hr: Tensor, num_entities: int) -> BlockScores:
    """Blocks as slices of the scores of all entities."""
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
    """The ranks of the triples of a chunk, by each model.

    Args:
        score: the scores of the queries `hr`.
        hr, row: the distinct queries, and the position of each triple's query among them.
        triples, known, candidates: as in `rank_scores`.
        sizes: number of entities, in all and per block.
        shards: the shard of each entity, if the model is sharded.
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
    """The ranks of the triples of a chunk by sparse scores; see `_rank_chunk`."""
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
    """The ranking of all queries; this process has ranked those at positions `own`."""
    counts, score = torch.zeros(6, count, dtype=torch.long), torch.zeros(count)
    if parts:
        ranking = Ranking.concatenate(*parts)
        counts[:, own] = torch.stack(
            [
                count
                for ranks in (ranking.filtered, ranking.raw)
                for count in (ranks.better, ranks.equal, ranks.candidates)
            ]
        )
        score[own] = ranking.score.float()
    process_group.all_reduce([counts, score])
    return Ranking(Ranks(*counts[:3]), Ranks(*counts[3:]), score)


def distinct_in_chunks(hr: Tensor, size: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """The distinct queries of `hr` `(n, 2)` int64, sorted by head, with their positions in it.

    All chunks except the last have one size: large blocks of many sizes would fragment memory.

    Yields:
        `(k, 2)` distinct queries, at most `size`; `(m,)` int64 the positions of these queries in
        `hr`, ascending within each query; and `(m,)` int64 the query at each position, 0 to k - 1.
    """
    distinct, row = torch.unique(hr, dim=0, return_inverse=True)
    order = torch.argsort(row, stable=True)
    first = torch.searchsorted(row[order], torch.arange(0, len(distinct) + size, size))
    for i in range(len(first) - 1):
        position = order[first[i] : first[i + 1]]
        yield distinct[i * size : (i + 1) * size], position, row[position] - i * size
