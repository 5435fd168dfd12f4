"""Path queries `(h, r_1/…/r_k, ?)` drawn from a graph by random walks, with all their answers.

The answers are all entities that the path leads to from `h` in the whole graph. Some the train
edges give, some only edges that were held out: what Guu et al. 2015 call deduction and induction.
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
# Times that as many walks are drawn as queries are wanted, at most.
MOST_DRAWS = 20
# Queries answered at a time, and edges that they may follow in a step before they are parted.
CHUNK = 256
CHUNK_EDGES = 2**22


@dataclass(frozen=True)
class Drawn:
    """What became of the walks of one part and length.

    Attributes:
        part: of `PARTS`.
        length: k.
        walks: drawn, those that turn back over the edge they came by left out.
        repeated: those that ask what one before them asks.
        known: those through a held-out edge whose answers train gives all the same.
        too_many: those with more answers than the cap.
        queries: those kept.
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
        held_out: `(q,)` bool: whether the walk took a held-out edge, or only edges of train.
        offsets: `(q + 1,)` int64: the answers of query `i` are `offsets[i]` to `offsets[i + 1]`.
        answer: `(m,)` int64, ascending within a query: all that the whole graph gives.
        asked: `(m,)` bool, those to rank: of a held-out query those that train does not give, of
            the others those that it gives. The rest are true, and count against none.
        drawn: how the queries came to be, a row a length and part.
    """

    head: Tensor
    path: Tensor
    length: Tensor
    held_out: Tensor
    offsets: Tensor
    answer: Tensor
    asked: Tensor
    drawn: tuple[Drawn, ...]

    def __len__(self) -> int:
        return len(self.head)


def path_answers(
    index: AnswerIndex, head: Tensor, path: Tensor, num_entities: int
) -> tuple[Tensor, Tensor]:
    """All entities that paths lead to, exactly: every set on the way is expanded whole.

    Args:
        index: the edges, inverses included.
        head: `(q,)` int64.
        path: `(q, k)` int64 relation ids.
        num_entities: all ids are below it.

    Returns:
        `position` `(m,)` int64, ascending places in `head`, and `entity` `(m,)`, ascending within
        one, without duplicates.
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
    count: int = QUERIES,
    max_answers: int = MAX_ANSWERS,
    seed: int = 0,
) -> PathQueries:
    """Draw path queries: as many for each length that need held-out edges as that do not.

    A step of a walk draws one of the relations that leave an entity, inverses included, then one of
    its tails, as Guu et al. 2015 do, so that large groups draw no more walks than others. The walk
    of a held-out query takes an edge of the split, at a place drawn uniformly, and edges of the
    whole graph on both sides of it; that of a train query starts at an entity drawn uniformly and
    takes edges of train. A walk does not turn back over the edge it came by. Queries of more
    answers than the cap, and held-out queries without a new answer, are drawn again; where
    `MOST_DRAWS` walks a query do not suffice, there are fewer queries. `drawn` counts them all.

    Args:
        dataset: the triples.
        split: `"valid"` or `"test"`, the held-out edges.
        lengths: k, distinct, each at least 1.
        count: queries of each length and part.
        max_answers: the cap on the answers that the whole graph gives.
        seed: of the walks. Those of a length do not depend on what other lengths are drawn.

    Raises:
        ValueError: for another or an empty split.
    """
    if split not in ("valid", "test"):
        raise ValueError(f"{split!r} holds nothing out; choose valid or test")
    if not len(dataset.split(split)):
        raise ValueError(f"the {split} split holds no triples")
    num_relations = dataset.num_relations
    train, whole, held = (
        answer_index(triples, num_relations)
        for triples in (dataset.train, dataset.known(split), dataset.split(split))
    )
    edges = held.triples()
    edges = edges[~train.contains(edges)]  # what train holds as well was not held out
    graphs = _Graphs(train, whole, edges, dataset.num_entities, num_relations)
    found = [
        _draw(graphs, part, length, count, max_answers, seed)
        for length in lengths
        for part in PARTS
    ]
    longest = max(lengths)
    size = torch.cat([part.offsets.diff() for part in found])
    return PathQueries(
        head=torch.cat([part.head for part in found]),
        path=torch.cat([_padded(part.path, longest) for part in found]),
        length=torch.cat([part.length for part in found]),
        held_out=torch.cat([part.held_out for part in found]),
        offsets=_offsets(size),
        answer=torch.cat([part.answer for part in found]),
        asked=torch.cat([part.asked for part in found]),
        drawn=tuple(drawn for part in found for drawn in part.drawn),
    )


@dataclass(frozen=True, eq=False)
class _Graphs:
    """Where walks go: edges of train, of the whole graph, and those held out, `(n, 3)`."""

    train: AnswerIndex
    whole: AnswerIndex
    held: Tensor
    num_entities: int
    num_relations: int


def _offsets(size: Tensor) -> Tensor:
    return torch.cat([size.new_zeros(1), size.cumsum(0)])


def _padded(path: Tensor, width: int) -> Tensor:
    return torch.cat([path, path.new_zeros(len(path), width - path.shape[1])], dim=1)


REPEATED, KNOWN, TOO_MANY, KEPT = range(4)


def _draw(
    graphs: _Graphs, part: str, length: int, count: int, max_answers: int, seed: int
) -> PathQueries:
    """The queries of one part and length."""
    held_out = part == PARTS[0]
    random = torch.Generator().manual_seed((seed * 1_000_003 + 2 * length + held_out) % 2**63)
    seen: set[tuple[int, ...]] = set()
    none = torch.zeros(0, dtype=torch.long)
    kept = [(none.new_zeros(0, 1 + length), none, none, none.bool())]
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
        position, answer, asked = _answers(graphs, queries, held_out)
        size = torch.bincount(position, minlength=len(queries))
        asks = torch.bincount(position[asked], minlength=len(queries)) > 0
        fate = torch.where(asks, KEPT, KNOWN)
        fate[size > max_answers] = TOO_MANY
        fate[~new] = REPEATED
        # What comes after the last query that is wanted is as good as never drawn.
        keep = fate == KEPT
        fate = fate[keep.cumsum(0) - keep.long() < count - int(fates[KEPT])]
        fates += torch.bincount(fate, minlength=4)
        keep[len(fate) :] = False
        kept.append((queries[keep], size[keep], answer[keep[position]], asked[keep[position]]))
        if int(fates[KEPT]) == count:
            break
    queries, size, answer, asked = (torch.cat(column) for column in zip(*kept, strict=True))
    total = len(queries)
    return PathQueries(
        queries[:, 0], queries[:, 1:],
        torch.full((total,), length), torch.full((total,), held_out),
        _offsets(size), answer, asked,
        (Drawn(part, length, int(fates.sum()), *fates.tolist()),),
    )  # fmt: skip


def _answers(graphs: _Graphs, queries: Tensor, held_out: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Position and entity of all answers to queries `(q, 1 + k)`, and whether each is asked for."""
    head, path = queries[:, 0], queries[:, 1:]
    position, answer = path_answers(graphs.whole, head, path, graphs.num_entities)
    at, known = path_answers(graphs.train, head, path, graphs.num_entities)
    n = graphs.num_entities
    given = torch.isin(position * n + answer, at * n + known)
    return position, answer, ~given if held_out else given


Walks = tuple[Tensor, Tensor]  # `(q, k + 1)` nodes and `(q, k)` relations between them


def _starts(index: AnswerIndex, count: int, random: torch.Generator) -> Tensor:
    """`(count,)` int64: entities that have an edge, one as likely as another."""
    entities = torch.unique_consecutive(index.hr[:, 0])
    return entities[torch.randint(len(entities), (count,), generator=random)]


def _walks_from(index: AnswerIndex, start: Tensor, length: int, random: torch.Generator) -> Walks:
    """Walks from entities that have an edge."""

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
    """Walks of the whole graph that take a held-out edge, each place of it as likely."""
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
    """`(p, 1 + k)`: head and relations of the walks that do not turn back over an edge."""
    same_place = nodes[:, 2:] == nodes[:, :-2]
    same_edge = relations[:, 1:] == _inverse(relations[:, :-1], num_relations)
    turns = (same_place & same_edge).any(1)
    return torch.cat([nodes[:, :1], relations], dim=1)[~turns]
