"""What answers queries once a model has run: its states, or passes over its graph."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

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


class KeptScores(NamedTuple):
    """Scores of the entities that the passes of n queries keep, and the one score of all others.

    Attributes:
        first: `(n + 1,)` int64: what is kept of query `i` is `first[i]:first[i + 1]` of the next
            two.
        entity: `(p,)` int64, each once a query, in no order.
        score: `(p,)` float.
        rest: `(n,)` float, the score of every other entity.
    """

    first: Tensor
    entity: Tensor
    score: Tensor
    rest: Tensor


def _products(
    queries: Tensor, count: int, entities: Tensor, bias: Tensor
) -> Callable[[slice | Tensor], Tensor]:
    """What scores the first `count` of queries `(q, d)` against entities `(n, d)` with biases."""

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
class Scorer:
    """A model whose encoder has run: states that score any query without another pass.

    Attributes:
        entities: `(num_entities, d)` float entity states.
        relations: `(2 · num_relations, d)` float relation states, inverses included.
        decoder: in evaluation mode.
    """

    entities: Tensor
    relations: Tensor
    decoder: OnePathDecoder

    @torch.no_grad()
    def score_paths(self, head: Tensor, path: Tensor, length: Tensor) -> Tensor:
        """`(q, num_entities)` scores of every tail of `(h, r_1/…/r_k, ?)`.

        Args:
            head: `(q,)` int64.
            path: `(q, max_length)` int64 relation ids, padded with any value.
            length: `(q,)` int64.
        """
        queries = self.decoder(head, path, length, self.entities, self.relations)
        return torch.addmm(self.decoder.bias, queries, self.entities.t())

    def score_t(self, hr: Tensor) -> Tensor:
        """`(n, num_entities)` scores of every tail of the queries `hr` `(n, 2)` int64."""
        return self.score_paths(hr[:, 0], hr[:, 1:], torch.ones(len(hr), dtype=torch.long))

    @torch.no_grad()
    def block_scores(self, hr: Tensor) -> Callable[[slice | Tensor], Tensor]:
        """What scores queries `(n, 2)` int64 against entities, see `ranking.ScoresBlocks`.

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
class SpreadScorer:
    """As `Scorer`, of states of which each process has those of the entities that it holds.

    All processes ask the same queries, together.

    Attributes:
        entities: `(count, d)` float states of the entities held here.
        relations: `(2 · num_relations, d)` float relation states, inverses included.
        decoder: in evaluation mode, with the biases of the entities held here.
        shards: who holds which.
    """

    entities: Tensor
    relations: Tensor
    decoder: OnePathDecoder
    shards: Shards

    def score_t(self, hr: Tensor) -> Tensor:
        """`(n, num_entities)` scores of every tail of the queries `hr` `(n, 2)` int64."""
        own = self.block_scores(hr)(slice(None))
        return self.shards.whole(own.t().contiguous()).t()

    @torch.no_grad()
    def block_scores(self, hr: Tensor) -> Callable[[slice | Tensor], Tensor]:
        """What scores queries `(n, 2)` int64 against entities held here, by their rows.

        A score is the one of `Scorer`, to the bit.
        """
        asked = _padded(hr)
        head, place = torch.unique(asked[:, 0], return_inverse=True)
        with by_row(self.entities):
            states = self.shards.fetch(self.entities, head)
        length = torch.ones(len(asked), dtype=torch.long)
        queries = self.decoder(place, asked[:, 1:], length, states, self.relations)
        return _products(queries, len(hr), self.entities, self.decoder.bias)


@dataclass(frozen=True, eq=False)
class PathScorer:
    """Scores by passes over the knowledge graph, one for each distinct head that is asked.

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
    def kept_scores(self) -> Callable[[Tensor], KeptScores] | None:
        """`kept`, where a budget keeps few entities of each pass; None of whole passes."""
        return self.kept if self.decoder.node_budget else None

    @torch.no_grad()
    def kept(self, hr: Tensor) -> KeptScores:
        """The scores of `score_t`, of the queries `hr` `(n, 2)` int64, without a row of them all.

        Memory follows what passes reach, or what a budget keeps of it.
        """
        none = torch.empty(0)
        if not len(hr):
            return KeptScores(torch.zeros(1, dtype=torch.long), none.long(), none, none)
        entities, scores, rests = [none] * len(hr), [none] * len(hr), [none] * len(hr)

        def put(asked: Tensor, entity: Tensor, score: Tensor, rest: Tensor) -> None:
            for i, row, other in zip(asked.tolist(), score, rest, strict=True):
                entities[i], scores[i], rests[i] = entity, row, other

        self._score(hr, put)
        first = torch.tensor([0, *(len(entity) for entity in entities)]).cumsum(0)
        return KeptScores(first, torch.cat(entities), torch.cat(scores), torch.stack(rests))

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
    def own_states(self, entity: Tensor) -> Tensor:
        """`(n, d)`: the state that a pass from each of the entities `(n,)` leaves at itself.

        It tells what closed paths lead back to it, which is to say what surrounds it.
        """

        def own(head: Tensor) -> Tensor:
            reached = self.decoder.reach(self.graph, head)
            last = self.decoder(reached, self.feed)
            return last[torch.from_numpy(reached.first[-1][:-1])].cpu()

        return torch.cat(in_threads(own, self.decoder.split(self.graph, entity)))

    @cached_property
    def entities(self) -> Tensor:
        """`(num_entities, d)`: `own_states` of them all."""
        return self.own_states(torch.arange(self.graph.num_entities))

    @property
    def relations(self) -> Tensor:
        """`(2 · num_relations, d)`: the part of a query that is multiplied with states."""
        relation = torch.arange(len(self.decoder.relations))
        queries = self.decoder.queries(relation, self.feed)
        return queries.detach()[:, : self.decoder.dim].cpu()
