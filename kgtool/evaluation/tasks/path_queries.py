"""Samples path queries `(h, r_1/…/r_k, ?)` by random walks, with all their answers.

The answers are all entities that the path reaches from `h` in the whole graph. Some follow from
train edges, others need held-out edges; Guu et al. 2015 call this deduction and induction.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from kgtool.data.answer_index import AnswerIndex, answer_index
from kgtool.data.dataset import KGDataset

PARTS = ("held-out", "train")
LENGTHS = (2, 3, 4, 5)
QUERIES = 1000
MAX_ANSWERS = 1000
# The most rounds of draws; each round draws as many walks as the wanted queries.
MOST_DRAWS = 20
# Queries answered at a time, and the most edges of a step before a chunk is halved.
CHUNK = 256
CHUNK_EDGES = 2**22


@dataclass(frozen=True)
class Drawn:
    """Counts of the walks of one part and length.

    Attributes:
        part: of `PARTS`.
        length: k.
        walks: number of walks drawn, except those that turn back over their last edge.
        repeated: walks whose query repeats an earlier one.
        known: walks through a held-out edge whose answers all follow from train.
        too_many: walks whose query has more answers than the limit.
        queries: walks that became queries.
    """

    part: str
    length: int
    walks: int
    repeated: int
    known: int
    too_many: int
    queries: int


@dataclass(frozen=True, eq=False)
class PathQueries:
    """Path queries and their answers.

    Attributes:
        head: `(q,)` int64.
        path: `(q, max_length)` int64 relation ids, inverses included, 0 beyond a path's length.
        length: `(q,)` int64.
        held_out: `(q,)` bool: whether the walk took a held-out edge, not only train edges.
        offsets: `(q + 1,)` int64: the answers of query `i` are `offsets[i]` to `offsets[i + 1]`.
        answer: `(m,)` int64, ascending within a query: all answers in the whole graph.
        target: `(m,)` bool, the answers to rank: for a held-out query those that do not follow from
            train, for a train query those that do. The other answers are filtered out.
        drawn: counts of the draws, a row per length and part.
    """

    head: Tensor
    path: Tensor
    length: Tensor
    held_out: Tensor
    offsets: Tensor
    answer: Tensor
    target: Tensor
    drawn: tuple[Drawn, ...]

    def __len__(self) -> int:
        return len(self.head)


def path_answers(
    index: AnswerIndex, head: Tensor, path: Tensor, num_entities: int
) -> tuple[Tensor, Tensor]:
    """All entities that paths lead to, without a beam.

    Args:
        index: the edges, inverses included.
        head: `(q,)` int64.
        path: `(q, k)` int64 relation ids.
        num_entities: all ids are below it.

    Returns:
        `position` `(m,)` int64, ascending positions in `head`, and `entity` `(m,)`, ascending per
        position, without duplicates.
    """
    parts = [
        _expand(index, head[i : i + CHUNK], path[i : i + CHUNK], num_entities)
        for i in range(0, len(head), CHUNK)
    ] or [(head, head)]
    positions = [position + i * CHUNK for i, (position, _) in enumerate(parts)]
    return torch.cat(positions), torch.cat([entity for _, entity in parts])


def _expand(
    index: AnswerIndex, head: Tensor, path: Tensor, num_entities: int
) -> tuple[Tensor, Tensor]:
    position, entity = torch.arange(len(head)), head
    for relation in path.unbind(1):
        rows = index.rows(torch.stack([entity, relation[position]], dim=1))
        if len(head) > 1 and int(index.count(rows).sum()) > CHUNK_EDGES:
            half = len(head) // 2
            first = _expand(index, head[:half], path[:half], num_entities)
            second = _expand(index, head[half:], path[half:], num_entities)
            return torch.cat([first[0], second[0] + half]), torch.cat([first[1], second[1]])
        row, slot = index.expand(rows)
        reached = torch.unique(position[row] * num_entities + index.tails[slot])
        position, entity = reached // num_entities, reached % num_entities
    return position, entity


def sample_path_queries(
    dataset: KGDataset,
    split: str,
    lengths: Sequence[int] = LENGTHS,
    *,
    count: int = QUERIES,
    max_answers: int = MAX_ANSWERS,
    seed: int = 0,
) -> PathQueries:
    """Sample path queries: for each length, equally many that need held-out edges and that do not.

    A step of a walk draws a relation of the current entity, inverses included, then one of its
    tails, as in Guu et al. 2015; so a relation with many tails is not drawn more often. The walk of
    a held-out query takes an edge of the split, at a uniformly drawn position, and edges of the
    whole graph before and after it. The walk of a train query starts at a uniformly drawn entity
    and takes train edges. A walk does not turn back over its last edge. Queries with more answers
    than `max_answers`, and held-out queries without a new answer, are drawn again. If `MOST_DRAWS`
    walks per query do not suffice, there are fewer queries. `drawn` counts all walks.

    Args:
        dataset: the triples.
        split: `"valid"` or `"test"`, the held-out edges.
        lengths: k, distinct, each at least 1.
        count: number of queries of each length and part.
        max_answers: the most answers of a query in the whole graph.
        seed: of the walks. The walks of a length do not depend on the other lengths.

    Raises:
        ValueError: for any other split, or an empty one.
    """
    if split not in ("valid", "test"):
        raise ValueError(f"{split!r} is not a held-out split; choose valid or test")
    if not len(dataset.split(split)):
        raise ValueError(f"the {split} split holds no triples")
    num_relations = dataset.num_relations
    train, whole, held = (
        answer_index(triples, num_relations)
        for triples in (dataset.train, dataset.filter_triples(split), dataset.split(split))
    )
    edges = held.triples()
    edges = edges[~train.contains(edges)]  # an edge that is also in train is not held out
    graphs = _Graphs(train, whole, edges, dataset.num_entities, num_relations)
    drawn = [
        _draw(graphs, part, length, count, max_answers=max_answers, seed=seed)
        for length in lengths
        for part in PARTS
    ]
    longest = max(lengths)
    size = torch.cat([part.offsets.diff() for part in drawn])
    return PathQueries(
        head=torch.cat([part.head for part in drawn]),
        path=torch.cat([_padded(part.path, longest) for part in drawn]),
        length=torch.cat([part.length for part in drawn]),
        held_out=torch.cat([part.held_out for part in drawn]),
        offsets=_offsets(size),
        answer=torch.cat([part.answer for part in drawn]),
        target=torch.cat([part.target for part in drawn]),
        drawn=tuple(counts for part in drawn for counts in part.drawn),
    )


@dataclass(frozen=True, eq=False)
class _Graphs:
    """The edges of train, of the whole graph, and the held-out ones `(n, 3)`."""

    train: AnswerIndex
    whole: AnswerIndex
    held: Tensor
    num_entities: int
    num_relations: int


def _offsets(size: Tensor) -> Tensor:
    return torch.cat([size.new_zeros(1), size.cumsum(0)])


def _padded(path: Tensor, width: int) -> Tensor:
    return torch.cat([path, path.new_zeros(len(path), width - path.shape[1])], dim=1)


REPEATED, KNOWN, TOO_MANY, ACCEPTED = range(4)


def _draw(
    graphs: _Graphs, part: str, length: int, count: int, *, max_answers: int, seed: int
) -> PathQueries:
    """The queries of one part and length."""
    held_out = part == PARTS[0]
    random = torch.Generator().manual_seed((seed * 1_000_003 + 2 * length + held_out) % 2**63)
    seen: set[tuple[int, ...]] = set()
    none = torch.zeros(0, dtype=torch.long)
    accepted = [(none.new_zeros(0, 1 + length), none, none, none.bool())]
    fates = torch.zeros(4, dtype=torch.long)
    for _ in range(MOST_DRAWS if len(graphs.held if held_out else graphs.train) else 0):
        walks = (
            _walks_through(graphs, length, count, random)
            if held_out
            else _walks_from(graphs.train, _starts(graphs.train, count, random), length, random)
        )
        queries = _straight(*walks, graphs.num_relations)
        new = torch.zeros(len(queries), dtype=torch.bool)
        for i, query in enumerate(map(tuple, queries.tolist())):
            new[i] = query not in seen
            seen.add(query)
        position, answer, target = _answers(graphs, queries, held_out)
        size = torch.bincount(position, minlength=len(queries))
        has_target = torch.bincount(position[target], minlength=len(queries)) > 0
        fate = torch.where(has_target, ACCEPTED, KNOWN)
        fate[size > max_answers] = TOO_MANY
        fate[~new] = REPEATED
        # Walks after the last wanted query do not count.
        keep = fate == ACCEPTED
        fate = fate[keep.cumsum(0) - keep.long() < count - int(fates[ACCEPTED])]
        fates += torch.bincount(fate, minlength=4)
        keep[len(fate) :] = False
        accepted.append((queries[keep], size[keep], answer[keep[position]], target[keep[position]]))
        if int(fates[ACCEPTED]) == count:
            break
    queries, size, answer, target = (torch.cat(column) for column in zip(*accepted, strict=True))
    total = len(queries)
    return PathQueries(
        queries[:, 0], queries[:, 1:],
        torch.full((total,), length), torch.full((total,), held_out),
        _offsets(size), answer, target,
        (Drawn(part, length, int(fates.sum()), *fates.tolist()),),
    )  # fmt: skip


def _answers(graphs: _Graphs, queries: Tensor, held_out: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Position and entity of all answers to queries `(q, 1 + k)`, and whether each is a target."""
    head, path = queries[:, 0], queries[:, 1:]
    position, answer = path_answers(graphs.whole, head, path, graphs.num_entities)
    at, known = path_answers(graphs.train, head, path, graphs.num_entities)
    n = graphs.num_entities
    given = torch.isin(position * n + answer, at * n + known)
    return position, answer, ~given if held_out else given


Walks = tuple[Tensor, Tensor]  # `(q, k + 1)` nodes and `(q, k)` relations between them


def _starts(index: AnswerIndex, count: int, random: torch.Generator) -> Tensor:
    """`(count,)` int64: entities with an edge, drawn uniformly."""
    entities = torch.unique_consecutive(index.hr[:, 0])
    return entities[torch.randint(len(entities), (count,), generator=random)]


def _walks_from(index: AnswerIndex, start: Tensor, length: int, random: torch.Generator) -> Walks:
    """Walks from entities with an edge."""

    def below(size: Tensor) -> Tensor:
        return (torch.rand(len(size), dtype=torch.double, generator=random) * size).long()

    nodes = start.unsqueeze(1).repeat(1, length + 1)
    relations = start.new_zeros(len(start), length)
    heads = index.hr[:, 0].contiguous()
    for step in range(length):
        here = nodes[:, step].contiguous()
        first = torch.searchsorted(heads, here)
        row = first + below(torch.searchsorted(heads, here, right=True) - first)
        relations[:, step] = index.hr[row, 1]
        nodes[:, step + 1] = index.tails[index.offsets[row] + below(index.count(row))]
    return nodes, relations


def _walks_through(graphs: _Graphs, length: int, count: int, random: torch.Generator) -> Walks:
    """Walks of the whole graph with a held-out edge at a uniformly drawn position."""
    chosen = graphs.held[torch.randint(len(graphs.held), (count,), generator=random)]
    head, relation, tail = chosen.unbind(1)
    back, backwards = _walks_from(graphs.whole, head, length - 1, random)
    on, forwards = _walks_from(graphs.whole, tail, length - 1, random)
    before = _inverse(backwards, graphs.num_relations).flip(1)
    nodes = torch.cat([back.flip(1), on], dim=1)  # the held-out edge is between the middle two
    relations = torch.cat([before, relation.unsqueeze(1), forwards], dim=1)
    first = torch.randint(length, (count, 1), generator=random)
    place = first + torch.arange(length + 1)
    return nodes.gather(1, place), relations.gather(1, place[:, :-1])


def _inverse(relation: Tensor, num_relations: int) -> Tensor:
    return (relation + num_relations) % (2 * num_relations)


def _straight(nodes: Tensor, relations: Tensor, num_relations: int) -> Tensor:
    """`(p, 1 + k)`: head and relations of the walks that never turn back over their last edge."""
    same_place = nodes[:, 2:] == nodes[:, :-2]
    same_edge = relations[:, 1:] == _inverse(relations[:, :-1], num_relations)
    turns = (same_place & same_edge).any(1)
    return torch.cat([nodes[:, :1], relations], dim=1)[~turns]
