"""Scorers: score (h, r, ?), (h, ?, t) and (h, r, t) with a trained model."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from kgtool.distributed.sharding import Shards
from kgtool.graph.knowledge_graph import KnowledgeGraph
from kgtool.models.all_paths import AllPathsDecoder, Feed
from kgtool.models.path_gru import OnePathDecoder
from kgtool.ops import by_row, in_threads

# Queries that a head's pairs are scored by at a time: their states are a few megabytes.
QUERY_ROWS = 4096
# MKL adds up products of fewer than 12 rows or columns in another order, with other bits.
PRODUCT_ROWS = 16
# Triples that are scored at a time by whole rows of scores.
TRIPLES = 256

# Gives the scores `(n, k)` of n queries against entities: a slice, or ids `(k,)` int64.
BlockScores = Callable[[slice | Tensor], Tensor]


class SparseScores(NamedTuple):
    """Scores of a few entities for each of n queries, and the one score of all others.

    Attributes:
        first: `(n + 1,)` int64: the entities of query `i` are `first[i]:first[i + 1]` of the next
            two.
        entity: `(p,)` int64, each once a query, in no order.
        score: `(p,)` float.
        rest: `(n,)` float, the score of every other entity.
    """

    first: Tensor
    entity: Tensor
    score: Tensor
    rest: Tensor


class ScoresTails(Protocol):
    """Any object that scores every tail of a batch of queries; see `as_scorer`."""

    def score_t(self, hr: Tensor) -> Tensor:
        """`(n, num_entities)` float scores of the queries `hr` `(n, 2)` int64."""
        ...


class Scorer(ABC):
    """Scores queries, and says how the scores of many queries are best compared.

    `score_t` is enough. A scorer that can do more in less time overrides the other methods.

    Attributes:
        in_blocks: `block_scores` scores a few entities in less time than all of them. Equal
            entities of one call get the same score, to the bit.
        is_sparse: `sparse_scores` scores queries without a row of all entities for each.
        shards: which process holds which entity, if each process scores its own entities; all
            processes then ask for the same queries together. None if this process has them all.
    """

    in_blocks: bool = False
    is_sparse: bool = False
    shards: Shards | None = None

    @abstractmethod
    def score_t(self, hr: Tensor) -> Tensor:
        """`(n, num_entities)` float scores of every tail of the queries `hr` `(n, 2)` int64."""

    def score_hrt(self, hrt: Tensor) -> Tensor:
        """`(n,)` float scores of triples `(n, 3)` int64."""
        scores = []
        for part in hrt.split(TRIPLES):
            hr, row = torch.unique(part[:, :2], dim=0, return_inverse=True)
            scores.append(self.score_t(hr)[row, part[:, 2]])
        return torch.cat(scores)

    def score_r(self, ht: Tensor, relation: Tensor) -> Tensor:
        """`(n, k)` scores of pairs `(n, 2)` int64 with each relation `(k,)` int64 between them."""
        n, k = len(ht), len(relation)
        head, tail = (end.repeat_interleave(k) for end in ht.unbind(1))
        return self.score_hrt(torch.stack([head, relation.repeat(n), tail], dim=1)).view(n, k)

    def block_scores(self, hr: Tensor) -> BlockScores:
        """Read queries `(n, 2)` int64 once, to score them against any block of entities."""
        scores = self.score_t(hr)
        return lambda entities: scores[:, entities]

    def sparse_scores(self, hr: Tensor) -> SparseScores:
        """The scores of `score_t`, of queries `(n, 2)` int64, where `is_sparse`."""
        raise NotImplementedError("the scorer is not sparse")


class ModelScorer(Scorer):
    """The scorer of one model, which also has states, and may read or explain paths.

    Attributes:
        has_states: the states of entities are at hand; if not, each takes a pass over the graph.
        scores_paths: `score_paths` reads a path of several relations as a whole.
    """

    has_states: bool = False
    scores_paths: bool = False

    @abstractmethod
    def entity_states(self, entity: Tensor | None = None) -> Tensor:
        """`(n, d)` float states of the entities `(n,)` int64, by default of all."""

    @abstractmethod
    def relation_states(self) -> Tensor:
        """`(2 · num_relations, d)` float states of the relations, inverses included."""

    @property
    def passes(self) -> PassScorer | None:
        """The passes whose paths explain a score; None for a model without such paths."""
        return None

    def score_paths(self, head: Tensor, path: Tensor, length: Tensor) -> Tensor:
        """`(q, num_entities)` scores of every tail of `(h, r_1/…/r_k, ?)`, if `scores_paths`.

        Args:
            head: `(q,)` int64.
            path: `(q, max_length)` int64 relation ids, padded with any value.
            length: `(q,)` int64.
        """
        raise NotImplementedError("the model reads no path of several relations as a whole")


@dataclass(frozen=True, eq=False)
class RowScorer(Scorer):
    """The scorer of any object that has `score_t`.

    Attributes:
        model: the object.
    """

    model: ScoresTails

    def score_t(self, hr: Tensor) -> Tensor:
        """`(n, num_entities)` scores of every tail of the queries `hr` `(n, 2)` int64."""
        return self.model.score_t(hr)


def as_scorer(model: ScoresTails) -> Scorer:
    """The model itself where it is a `Scorer`; else a scorer that only calls its `score_t`."""
    return model if isinstance(model, Scorer) else RowScorer(model)


def _products(queries: Tensor, count: int, entities: Tensor, bias: Tensor) -> BlockScores:
    """Score the first `count` of queries `(q, d)` against entities `(n, d)` with biases."""

    @torch.no_grad()
    def score(rows: slice | Tensor) -> Tensor:
        with by_row(entities) if isinstance(rows, Tensor) else nullcontext():
            states = _padded(entities[rows])
        scores = torch.addmm(_padded(bias[rows]), queries, states.t())
        return scores[:count, : len(bias[rows])]

    return score


def _padded(rows: Tensor) -> Tensor:
    """The rows, the last one again and again where they are fewer than `PRODUCT_ROWS`."""
    if not 0 < len(rows) < PRODUCT_ROWS:
        return rows
    return rows[torch.arange(PRODUCT_ROWS).clamp(max=len(rows) - 1)]


@dataclass(frozen=True, eq=False)
class EmbeddingScorer(ModelScorer):
    """The one-path model after its encoder has run: states that score any query.

    Attributes:
        entities: `(num_entities, d)` float entity states.
        relations: `(2 · num_relations, d)` float relation states, inverses included.
        decoder: in evaluation mode.
    """

    entities: Tensor
    relations: Tensor
    decoder: OnePathDecoder

    in_blocks = has_states = scores_paths = True

    def entity_states(self, entity: Tensor | None = None) -> Tensor:
        """`(n, d)` states of the entities `(n,)` int64, by default of all."""
        return self.entities if entity is None else self.entities[entity]

    def relation_states(self) -> Tensor:
        """`relations`."""
        return self.relations

    @torch.no_grad()
    def score_paths(self, head: Tensor, path: Tensor, length: Tensor) -> Tensor:
        """See `ModelScorer.score_paths`."""
        queries = self.decoder(head, path, length, self.entities, self.relations)
        return torch.addmm(self.decoder.bias, queries, self.entities.t())

    def score_t(self, hr: Tensor) -> Tensor:
        """`(n, num_entities)` scores of every tail of the queries `hr` `(n, 2)` int64."""
        return self.score_paths(hr[:, 0], hr[:, 1:], torch.ones(len(hr), dtype=torch.long))

    @torch.no_grad()
    def block_scores(self, hr: Tensor) -> BlockScores:
        """Read queries `(n, 2)` int64 once, to score them against any block of entities.

        A score is the same to the bit however many queries and entities it is made with.
        """
        asked = _padded(hr)
        length = torch.ones(len(asked), dtype=torch.long)
        with by_row(self.entities):
            queries = self.decoder(asked[:, 0], asked[:, 1:], length, self.entities, self.relations)
        return _products(queries, len(hr), self.entities, self.decoder.bias)

    @torch.no_grad()
    def score_r(self, ht: Tensor, relation: Tensor) -> Tensor:
        """`(n, k)` scores of pairs `(n, 2)` int64 with each relation `(k,)` int64 between them."""
        head, position = torch.unique(ht[:, 0], return_inverse=True)
        scores = torch.empty(len(ht), len(relation), dtype=self.entities.dtype)
        order = torch.argsort(position)
        first = torch.searchsorted(position[order], torch.arange(len(head) + 1))
        many = max(1, QUERY_ROWS // len(relation))  # heads at a time
        for start in range(0, len(head), many):
            heads = self.entities[head[start : start + many]]
            of_head = self.decoder.cell.of_pairs(self.relations[relation], heads)
            for i, query in enumerate(of_head, start):
                asked = order[first[i] : first[i + 1]]
                tail = ht[asked, 1]
                scores[asked] = torch.addmm(
                    self.decoder.bias[tail].unsqueeze(1), self.entities[tail], query.t()
                )
        return scores

    @torch.no_grad()
    def score_hrt(self, hrt: Tensor) -> Tensor:
        """`(n,)` scores of triples `(n, 3)` int64."""
        head, relation, tail = hrt.unbind(1)
        length = torch.ones(len(hrt), dtype=torch.long)
        queries = self.decoder(head, relation.unsqueeze(1), length, self.entities, self.relations)
        return (queries * self.entities[tail]).sum(1) + self.decoder.bias[tail]


@dataclass(frozen=True, eq=False)
class ShardedScorer(Scorer):
    """As `EmbeddingScorer`, where each process has the states of the entities that it holds.

    All processes ask for the same queries, together.

    Attributes:
        entities: `(count, d)` float states of the entities held here.
        relations: `(2 · num_relations, d)` float relation states, inverses included.
        decoder: in evaluation mode, with the biases of the entities held here.
        shards: who holds which.
    """

    entities: Tensor
    relations: Tensor
    decoder: OnePathDecoder
    shards: Shards = field()

    in_blocks = True

    def score_t(self, hr: Tensor) -> Tensor:
        """`(n, num_entities)` scores of every tail of the queries `hr` `(n, 2)` int64."""
        own = self.block_scores(hr)(slice(None))
        return self.shards.whole(own.t().contiguous()).t()

    @torch.no_grad()
    def block_scores(self, hr: Tensor) -> BlockScores:
        """Read queries `(n, 2)` int64 once, to score the entities held here, by their rows.

        A score is the one of `EmbeddingScorer`, to the bit.
        """
        asked = _padded(hr)
        head, place = torch.unique(asked[:, 0], return_inverse=True)
        with by_row(self.entities):
            states = self.shards.fetch(self.entities, head)
        length = torch.ones(len(asked), dtype=torch.long)
        queries = self.decoder(place, asked[:, 1:], length, states, self.relations)
        return _products(queries, len(hr), self.entities, self.decoder.bias)


@dataclass(frozen=True, eq=False)
class PassScorer(ModelScorer):
    """The all-paths model: a pass over the graph for each distinct head of the queries.

    Attributes:
        decoder: in evaluation mode.
        graph: the edges that paths take.
        feed: an encoder's states, where there is one.
    """

    decoder: AllPathsDecoder
    graph: KnowledgeGraph
    feed: Feed | None = None

    @torch.no_grad()
    def score_t(self, hr: Tensor) -> Tensor:
        """`(n, num_entities)` scores of every tail of the queries `hr` `(n, 2)` int64.

        Under CPU autocast passes are of its dtype, scores float32: rounded, they would be ties.
        """
        dtype = self.decoder.relations.dtype
        scores = torch.empty(len(hr), self.graph.num_entities, dtype=dtype)

        def put(asked: Tensor, entity: Tensor, score: Tensor, rest: Tensor) -> None:
            row = rest.unsqueeze(1).repeat(1, scores.shape[1])
            row[:, entity] = score
            scores[asked] = row

        self._score(hr, put)
        return scores

    @property
    def is_sparse(self) -> bool:  # type: ignore[override]
        """Whether a budget limits the entities of each pass."""
        return bool(self.decoder.node_budget)

    @torch.no_grad()
    def sparse_scores(self, hr: Tensor) -> SparseScores:
        """The scores of `score_t`, of the queries `hr` `(n, 2)` int64, without a row of them all.

        Memory follows what passes reach, or the budget.
        """
        none = torch.empty(0)
        if not len(hr):
            return SparseScores(torch.zeros(1, dtype=torch.long), none.long(), none, none)
        entities, scores, rests = [none] * len(hr), [none] * len(hr), [none] * len(hr)

        def put(asked: Tensor, entity: Tensor, score: Tensor, rest: Tensor) -> None:
            for i, row, other in zip(asked.tolist(), score, rest, strict=True):
                entities[i], scores[i], rests[i] = entity, row, other

        self._score(hr, put)
        first = torch.tensor([0, *(len(entity) for entity in entities)]).cumsum(0)
        return SparseScores(first, torch.cat(entities), torch.cat(scores), torch.stack(rests))

    def _score(self, hr: Tensor, put: Callable[[Tensor, Tensor, Tensor, Tensor], None]) -> None:
        """Score queries a head at a time.

        Args:
            hr: `(n, 2)` int64.
            put: is given the rows `(q,)` of `hr` that ask one head, its pass's entities `(k,)`,
                their scores `(q, k)` and the score `(q,)` of every other; in any thread.
        """
        head, position = torch.unique(hr[:, 0], return_inverse=True)
        queries = self.decoder.queries(hr[:, 1], self.feed)

        def score(part: Tensor) -> None:
            """Score the queries of some heads, given by their places among them all."""
            reached = self.decoder.reach(self.graph, head[part])
            features = self.decoder.features(self.decoder(reached, self.feed)).to(queries.dtype)
            nowhere, rows = features[-1], reached.rows_of_heads()
            found_of = features[: reached.rows(self.decoder.layers)].split(rows)
            entities = reached.entities().split(rows)
            for i, found, entity in zip(part.tolist(), found_of, entities, strict=True):
                asked = torch.nonzero(position == i).squeeze(1)
                with torch.autocast(features.device.type, enabled=False):
                    of_found, rest = queries[asked] @ found.t(), queries[asked] @ nowhere
                put(asked, entity, of_found.cpu(), rest.cpu())

        in_threads(score, self.decoder.split(self.graph, torch.arange(len(head))))

    def features(self, ht: Tensor) -> Tensor:
        """`(n, d + m)`: what a pass from the head leaves at the tail, of pairs `(n, 2)` int64."""
        head, position = torch.unique(ht[:, 0], return_inverse=True)
        size = self.decoder.dim + self.decoder.hidden.out_features
        found = torch.empty(len(ht), size, dtype=self.decoder.relations.dtype)
        order = torch.argsort(position)
        first = torch.searchsorted(position[order], torch.arange(len(head) + 1))

        def fill(part: Tensor) -> None:
            """Pass from some heads, given by their places, which are neighbours."""
            asked = order[first[part[0]] : first[part[-1] + 1]]
            place = position[asked] - part[0]
            reached = self.decoder.reach(self.graph, head[part])
            last = self.decoder(reached, self.feed)
            slot = reached.slot_of(place, ht[asked, 1])
            rows = torch.tensor([0, *reached.rows_of_heads()]).cumsum(0)
            # The row beyond all is the state of what no path reaches.
            row = torch.where(slot < self.graph.num_entities, rows[place] + slot, rows[-1])
            found[asked] = self.decoder.features(last[row.to(last.device)]).to(found.dtype).cpu()

        in_threads(fill, self.decoder.split(self.graph, torch.arange(len(head))))
        return found

    @torch.no_grad()
    def score_r(self, ht: Tensor, relation: Tensor) -> Tensor:
        """`(n, k)` scores of pairs `(n, 2)` int64 with each relation `(k,)` int64 between them."""
        return self.features(ht) @ self.decoder.queries(relation, self.feed).t().cpu()

    @torch.no_grad()
    def score_hrt(self, hrt: Tensor) -> Tensor:
        """`(n,)` scores of triples `(n, 3)` int64."""
        queries = self.decoder.queries(hrt[:, 1], self.feed).cpu()
        return (self.features(hrt[:, [0, 2]]) * queries).sum(1)

    @torch.no_grad()
    def entity_states(self, entity: Tensor | None = None) -> Tensor:
        """`(n, d)`: the state that a pass from each of the entities `(n,)` leaves at itself.

        Closed paths lead back to it: it describes what surrounds the entity.
        """
        if entity is None:
            entity = torch.arange(self.graph.num_entities)

        def own(head: Tensor) -> Tensor:
            reached = self.decoder.reach(self.graph, head)
            last = self.decoder(reached, self.feed)
            return last[torch.from_numpy(reached.first[-1][:-1])].cpu()

        return torch.cat(in_threads(own, self.decoder.split(self.graph, entity)))

    def relation_states(self) -> Tensor:
        """`(2 · num_relations, d)`: the part of a query that is multiplied with states."""
        relation = torch.arange(len(self.decoder.relations))
        queries = self.decoder.queries(relation, self.feed)
        return queries.detach()[:, : self.decoder.dim].cpu()

    @property
    def passes(self) -> PassScorer:
        """Itself: all paths of its passes are in its scores."""
        return self
