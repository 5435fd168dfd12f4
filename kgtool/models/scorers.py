"""Scorers: score (h, r, ?), (h, ?, t) and (h, r, t) with a trained model."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from copy import deepcopy
from dataclasses import dataclass, field, replace
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from kgtool.distributed.sharding import Shards
from kgtool.graph.knowledge_graph import KnowledgeGraph
from kgtool.models.all_paths import AllPathsDecoder, Feed, PathGRU
from kgtool.models.path_gru import OnePathDecoder
from kgtool.ops import by_row, in_threads

# Pairs are scored with this many (head, relation) queries at a time: a few megabytes of states.
QUERY_ROWS = 4096
# For fewer than 12 rows or columns, MKL sums products in another order, which changes bits.
PRODUCT_ROWS = 16
# Triples are scored this many at a time, by whole rows of scores.
TRIPLES = 256

# Returns the scores `(n, k)` of n queries against entities: a slice, or ids `(k,)` int64.
BlockScores = Callable[[slice | Tensor], Tensor]


class SparseScores(NamedTuple):
    """Scores of a few entities for each of n queries, and one score for all other entities.

    Attributes:
        first: `(n + 1,)` int64: `first[i]:first[i + 1]` of `entity` and `score` belong to query
            `i`.
        entity: `(p,)` int64, each once per query, in any order.
        score: `(p,)` float.
        rest: `(n,)` float, the score of every other entity.
    """

    first: Tensor
    entity: Tensor
    score: Tensor
    rest: Tensor

    @classmethod
    def of_queries(
        cls, entities: Sequence[Tensor], scores: Sequence[Tensor], rests: Sequence[Tensor]
    ) -> SparseScores:
        """Join the scores of n queries: `(k,)` entities, `(k,)` scores and the rest of each."""
        none = torch.empty(0)
        first = torch.tensor([0, *map(len, entities)]).cumsum(0)
        rest = torch.stack([*rests]) if rests else none
        return cls(first, torch.cat([none.long(), *entities]), torch.cat([none, *scores]), rest)

    def of(self, query: Tensor, entity: Tensor) -> Tensor:
        """`(m,)` float: the scores of entities `(m,)` int64 for queries `(m,)` int64."""
        if not len(self.entity) or not len(query):
            return self.rest[query]
        width = int(max(self.entity.max(), entity.max())) + 1
        listed = torch.repeat_interleave(self.first.diff()) * width + self.entity
        listed, order = torch.sort(listed)
        wanted = query * width + entity
        place = torch.searchsorted(listed, wanted).clamp(max=len(listed) - 1)
        return torch.where(listed[place] == wanted, self.score[order[place]], self.rest[query])


class ScoresTails(Protocol):
    """Any object that scores every tail of a batch of queries; see `as_scorer`."""

    def score_t(self, hr: Tensor) -> Tensor:
        """`(n, num_entities)` float scores of the queries `hr` `(n, 2)` int64."""
        ...


class Scorer(ABC):
    """Scores queries, and states the fastest way to compare the scores of many queries.

    A scorer must define `score_t`. It overrides the other methods where it has a faster way.

    Attributes:
        in_blocks: `block_scores` scores a few entities in less time than all of them. Equal
            entities of one call get the same score, to the bit.
        is_sparse: `sparse_scores` scores queries without a row of all entities for each query.
        one_query_a_pass: scoring a query of another relation takes another pass, even for the same
            head. So the inverse queries of answers take as many passes as there are answers.
        shards: the owner process of each entity, if each process scores its own entities. All
            processes then score the same queries together. None if this process has all entities.
    """

    in_blocks: bool = False
    is_sparse: bool = False
    one_query_a_pass: bool = False
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
        """The scores of `score_t` in sparse form, of queries `(n, 2)` int64, if `is_sparse`."""
        raise NotImplementedError("the scorer is not sparse")


class Passes(Protocol):
    """A scorer whose passes explain its scores by paths."""

    @property
    def decoder(self) -> PathGRU:
        """The decoder, in evaluation mode."""
        ...

    @property
    def graph(self) -> KnowledgeGraph:
        """The edges that paths take."""
        ...

    def score_hrt(self, hrt: Tensor) -> Tensor:
        """`(n,)` float scores of triples `(n, 3)` int64."""
        ...

    def on_cpu(self) -> Passes:
        """The same passes on the CPU."""
        ...

    def of_relation(self, relation: int) -> PassScorer:
        """The scorer of the queries of one relation id."""
        ...

    def near(self, head: int) -> tuple[Passes, Tensor]:
        """The passes over the part of the graph that answers queries of a head.

        Returns:
            The passes, and the ids `(k,)` int64 of the entities of their graph, ascending.
        """
        ...


class ModelScorer(Scorer):
    """The scorer of one model. It may also have embeddings, and score or explain paths.

    Attributes:
        has_states: the model has embeddings: states of entities and relations.
        scores_paths: `score_paths` scores a path of several relations as a whole.
    """

    has_states: bool = False
    scores_paths: bool = False

    def entity_states(self, entity: Tensor | None = None) -> Tensor:
        """`(n, d)` float states of the entities `(n,)` int64, if `has_states`; all by default."""
        raise NotImplementedError("the model has no embeddings")

    def relation_states(self) -> Tensor:
        """`(2 · num_relations, d)` float states of relations, with inverses, if `has_states`."""
        raise NotImplementedError("the model has no embeddings")

    @property
    def passes(self) -> Passes | None:
        """The scorer whose passes explain a score by paths; None for a model without passes."""
        return None

    def beyond_passes(self, hrt: Tensor) -> Tensor | None:
        """`(n,)`: the part of the scores of triples `(n, 3)` int64 that `passes` does not have."""
        return None

    def score_paths(self, head: Tensor, path: Tensor, length: Tensor) -> Tensor:
        """`(q, num_entities)` scores of every tail of `(h, r_1/…/r_k, ?)`, if `scores_paths`.

        Args:
            head: `(q,)` int64.
            path: `(q, max_length)` int64 relation ids, padded with any value.
            length: `(q,)` int64.
        """
        raise NotImplementedError("the model cannot score a path of several relations as a whole")


@dataclass(frozen=True, eq=False)
class RowScorer(Scorer):
    """A scorer that calls `score_t` of any object.

    Attributes:
        model: the object.
    """

    model: ScoresTails

    def score_t(self, hr: Tensor) -> Tensor:
        """`(n, num_entities)` scores of every tail of the queries `hr` `(n, 2)` int64."""
        return self.model.score_t(hr)


@dataclass(frozen=True, eq=False)
class SumScorer(Scorer):
    """The weighted sum of two models' scores: `first + λ · second`.

    Attributes:
        first, second: score the same entities under the same ids.
        weight: λ; one number, or `(2 · num_relations,)`, one for each relation id.
    """

    first: Scorer
    second: Scorer
    weight: float | Tensor

    def scale(self, relation: Tensor) -> Tensor:
        """λ of relation ids: their shape, or one number."""
        weight = torch.as_tensor(self.weight)
        return weight[relation] if weight.ndim else weight

    def score_t(self, hr: Tensor) -> Tensor:
        """`(n, num_entities)` scores of every tail of the queries `hr` `(n, 2)` int64."""
        return self.first.score_t(hr) + self._column(hr) * self.second.score_t(hr)

    def score_hrt(self, hrt: Tensor) -> Tensor:
        """`(n,)` float scores of triples `(n, 3)` int64."""
        return self.first.score_hrt(hrt) + self.scale(hrt[:, 1]) * self.second.score_hrt(hrt)

    def score_r(self, ht: Tensor, relation: Tensor) -> Tensor:
        """`(n, k)` scores of pairs `(n, 2)` int64 with each relation `(k,)` int64."""
        first, second = (scorer.score_r(ht, relation) for scorer in (self.first, self.second))
        return first + self.scale(relation) * second

    @property
    def in_blocks(self) -> bool:  # type: ignore[override]
        """Whether both models score blocks of entities."""
        return self.first.in_blocks and self.second.in_blocks

    def block_scores(self, hr: Tensor) -> BlockScores:
        """Reads queries `(n, 2)` int64 once; the result scores them against a block of entities."""
        one, other = self.first.block_scores(hr), self.second.block_scores(hr)
        weight = self._column(hr)
        return lambda entities: one(entities) + weight * other(entities)

    def _column(self, hr: Tensor) -> Tensor:
        """λ of queries `(n, 2)`, to multiply their rows of scores with."""
        scale = self.scale(hr[:, 1])
        return scale.unsqueeze(1) if scale.ndim else scale


def as_scorer(model: ScoresTails) -> Scorer:
    """The model itself if it is a `Scorer`; else a scorer that calls the model's `score_t`."""
    return model if isinstance(model, Scorer) else RowScorer(model)


def _block_scores(
    queries: Tensor, count: int, entities: Tensor, decoder: OnePathDecoder
) -> BlockScores:
    """A function that scores the first `count` of queries `(q, d)` against entities `(n, d)`."""
    bias = decoder.bias

    @torch.no_grad()
    def score(rows: slice | Tensor) -> Tensor:
        with by_row(entities) if isinstance(rows, Tensor) else nullcontext():
            states = _padded(entities[rows])
        scores = decoder.similarity.scores(queries, states, _padded(bias[rows]))
        return scores[:count, : len(bias[rows])]

    return score


def _padded(rows: Tensor) -> Tensor:
    """The rows; if they are fewer than `PRODUCT_ROWS`, with copies of the last one."""
    if not 0 < len(rows) < PRODUCT_ROWS:
        return rows
    return rows[torch.arange(PRODUCT_ROWS).clamp(max=len(rows) - 1)]


@dataclass(frozen=True, eq=False)
class EmbeddingScorer(ModelScorer):
    """The scorer of the one-path model, with the states that its encoder computed.

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
        """`(n, d)` states of the entities `(n,)` int64; of all entities by default."""
        return self.entities if entity is None else self.entities[entity]

    def relation_states(self) -> Tensor:
        """`relations`."""
        return self.relations

    @torch.no_grad()
    def score_paths(self, head: Tensor, path: Tensor, length: Tensor) -> Tensor:
        """See `ModelScorer.score_paths`."""
        with torch.autocast("cpu", enabled=False):  # rounded scores would cause ties
            queries = self.decoder(head, path, length, self.entities, self.relations)
            return self.decoder.similarity.scores(queries, self.entities, self.decoder.bias)

    def score_t(self, hr: Tensor) -> Tensor:
        """`(n, num_entities)` scores of every tail of the queries `hr` `(n, 2)` int64."""
        return self.score_paths(hr[:, 0], hr[:, 1:], torch.ones(len(hr), dtype=torch.long))

    @torch.no_grad()
    def block_scores(self, hr: Tensor) -> BlockScores:
        """Read queries `(n, 2)` int64 once, to score them against any block of entities.

        A score does not depend on the number of queries and entities in the call, to the bit.
        """
        padded = _padded(hr)
        head, path = padded[:, 0], padded[:, 1:]
        length = torch.ones(len(padded), dtype=torch.long)
        with by_row(self.entities):
            queries = self.decoder(head, path, length, self.entities, self.relations)
        return _block_scores(queries, len(hr), self.entities, self.decoder)

    @torch.no_grad()
    def score_r(self, ht: Tensor, relation: Tensor) -> Tensor:
        """`(n, k)` scores of pairs `(n, 2)` int64 with each relation `(k,)` int64 between them."""
        head, position = torch.unique(ht[:, 0], return_inverse=True)
        scores = torch.empty(len(ht), len(relation), dtype=self.entities.dtype)
        order = torch.argsort(position)
        first = torch.searchsorted(position[order], torch.arange(len(head) + 1))
        step = max(1, QUERY_ROWS // max(1, len(relation)))  # heads at a time
        for start in range(0, len(head), step):
            heads = self.entities[head[start : start + step]]
            of_head = self.decoder.cell.of_pairs(self.relations[relation], heads)
            for i, query in enumerate(of_head, start):
                row = order[first[i] : first[i + 1]]
                tail = ht[row, 1]
                scores[row] = self.decoder.similarity.scores(
                    self.entities[tail], query, self.decoder.bias[tail].unsqueeze(1)
                )
        return scores

    @torch.no_grad()
    def score_hrt(self, hrt: Tensor) -> Tensor:
        """`(n,)` scores of triples `(n, 3)` int64."""
        head, relation, tail = hrt.unbind(1)
        length = torch.ones(len(hrt), dtype=torch.long)
        queries = self.decoder(head, relation.unsqueeze(1), length, self.entities, self.relations)
        similar = self.decoder.similarity.of_rows(queries, self.entities[tail])
        return similar + self.decoder.bias[tail]


@dataclass(frozen=True, eq=False)
class ShardedScorer(Scorer):
    """As `EmbeddingScorer`, where each process has the states of its own entities.

    All processes must score the same queries together.

    Attributes:
        entities: `(count, d)` float states of this process's entities.
        relations: `(2 · num_relations, d)` float relation states, inverses included.
        decoder: in evaluation mode, with the biases of this process's entities.
        shards: the owner process of each entity.
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
        """Read queries `(n, 2)` int64 once, to score this process's entities, by their rows.

        The scores equal those of `EmbeddingScorer`, to the bit.
        """
        padded = _padded(hr)
        head, place = torch.unique(padded[:, 0], return_inverse=True)
        with by_row(self.entities):
            states = self.shards.fetch(self.entities, head)
        length = torch.ones(len(padded), dtype=torch.long)
        queries = self.decoder(place, padded[:, 1:], length, states, self.relations)
        return _block_scores(queries, len(hr), self.entities, self.decoder)


@dataclass(frozen=True, eq=False)
class PassScorer(ModelScorer):
    """The scorer of the all-paths model: one pass over the graph per distinct head of the queries.

    Attributes:
        decoder: in evaluation mode.
        graph: the edges that paths take.
        feed: the encoder's states; None for a model without an encoder.
    """

    decoder: AllPathsDecoder
    graph: KnowledgeGraph
    feed: Feed | None = None

    @torch.no_grad()
    def score_t(self, hr: Tensor) -> Tensor:
        """`(n, num_entities)` scores of every tail of the queries `hr` `(n, 2)` int64.

        Under CPU autocast, passes have its dtype. Scores are float32: rounding would cause ties.
        """
        dtype = self.decoder.relations.dtype
        scores = torch.empty(len(hr), self.graph.num_entities, dtype=dtype)

        def store(rows: Tensor, entity: Tensor, score: Tensor, rest: Tensor) -> None:
            block = rest.unsqueeze(1).repeat(1, scores.shape[1])
            block[:, entity] = score
            scores[rows] = block

        self._score(hr, store)
        return scores

    @property
    def is_sparse(self) -> bool:  # type: ignore[override]
        """Whether passes reach a limited number of entities."""
        return bool(self.decoder.most(self.graph))

    @torch.no_grad()
    def sparse_scores(self, hr: Tensor) -> SparseScores:
        """The scores of `score_t` in sparse form, of the queries `hr` `(n, 2)` int64.

        The memory depends on the entities that passes reach, not on all entities.
        """
        none = torch.empty(0)
        entities, scores, rests = [none] * len(hr), [none] * len(hr), [none] * len(hr)

        def store(rows: Tensor, entity: Tensor, score: Tensor, rest: Tensor) -> None:
            for i, row, other in zip(rows.tolist(), score, rest, strict=True):
                entities[i], scores[i], rests[i] = entity, row, other

        self._score(hr, store)
        return SparseScores.of_queries(entities, scores, rests)

    def _score(self, hr: Tensor, store: Callable[[Tensor, Tensor, Tensor, Tensor], None]) -> None:
        """Score queries one head at a time.

        Args:
            hr: `(n, 2)` int64.
            store: takes the rows `(q,)` of `hr` with one head, the entities `(k,)` of its pass,
                their scores `(q, k)` and the score `(q,)` of every other entity. Several threads
                call it.
        """
        head, position = torch.unique(hr[:, 0], return_inverse=True)
        queries = self.decoder.queries(hr[:, 1], self.feed)

        def score(part: Tensor) -> None:
            """Score the queries of some heads, given as positions in `head`."""
            reached = self.decoder.reach(self.graph, head[part])
            features = self.decoder.features(self.decoder(reached, self.feed)).to(queries.dtype)
            unreached, sizes = features[-1], reached.rows_of_heads()
            of_heads = features[: reached.rows(self.decoder.layers)].split(sizes)
            entities = reached.entities().split(sizes)
            for i, of_head, entity in zip(part.tolist(), of_heads, entities, strict=True):
                rows = torch.nonzero(position == i).squeeze(1)
                with torch.autocast(features.device.type, enabled=False):
                    scores, rest = queries[rows] @ of_head.t(), queries[rows] @ unreached
                store(rows, entity, scores.cpu(), rest.cpu())

        in_threads(score, self.decoder.split(self.graph, torch.arange(len(head))))

    def features(self, ht: Tensor) -> Tensor:
        """`(n, d + m)` features of the tail after a pass from the head, of pairs `(n, 2)` int64."""
        head, position = torch.unique(ht[:, 0], return_inverse=True)
        size = self.decoder.dim + self.decoder.hidden.out_features
        features = torch.empty(len(ht), size, dtype=self.decoder.relations.dtype)
        order = torch.argsort(position)
        first = torch.searchsorted(position[order], torch.arange(len(head) + 1))

        def fill(part: Tensor) -> None:
            """Fill in the pairs of some heads, given as consecutive positions in `head`."""
            pair = order[first[part[0]] : first[part[-1] + 1]]
            place = position[pair] - part[0]
            reached = self.decoder.reach(self.graph, head[part])
            last = self.decoder(reached, self.feed)
            slot = reached.slot_of(place, ht[pair, 1])
            rows = torch.tensor([0, *reached.rows_of_heads()]).cumsum(0)
            # The row after the last is the state of an entity that no path reaches.
            row = torch.where(slot < self.graph.num_entities, rows[place] + slot, rows[-1])
            of_tail = self.decoder.features(last[row.to(last.device)])
            features[pair] = of_tail.to(features.dtype).cpu()

        in_threads(fill, self.decoder.split(self.graph, torch.arange(len(head))))
        return features

    @torch.no_grad()
    def score_r(self, ht: Tensor, relation: Tensor) -> Tensor:
        """`(n, k)` scores of pairs `(n, 2)` int64 with each relation `(k,)` int64 between them."""
        return self.features(ht) @ self.decoder.queries(relation, self.feed).t().cpu()

    @torch.no_grad()
    def score_hrt(self, hrt: Tensor) -> Tensor:
        """`(n,)` scores of triples `(n, 3)` int64."""
        queries = self.decoder.queries(hrt[:, 1], self.feed).cpu()
        return (self.features(hrt[:, [0, 2]]) * queries).sum(1)

    @property
    def passes(self) -> PassScorer:
        """Itself: its scores sum over the paths of its passes."""
        return self

    def on_cpu(self) -> PassScorer:
        """The same passes on the CPU, with a copy of the weights."""
        return replace(self, decoder=deepcopy(self.decoder).cpu())

    def of_relation(self, relation: int) -> PassScorer:
        """Itself: a pass answers the queries of all relations."""
        return self

    def near(self, head: int) -> tuple[PassScorer, Tensor]:
        """Itself, and all entities."""
        return self, torch.arange(self.graph.num_entities)
