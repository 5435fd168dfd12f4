"""The all-paths decoder conditioned on the relation of a query, for graphs never seen.

The parameters of relations are functions of the states `x_{r|q}` that
`kgtool.models.relation_encoder` gives each relation r for the relation q of a query:

    w_r^i = 1 + M_i x_{r|q},   init = a + B x_{q|q},   q_r = C x_{q|q}.

A pass belongs to a query `(h, q)`, and not to a head. For one q the decoder is an
`AllPathsDecoder`: `on` returns it.

A pass reads all edges within L steps. On a large graph that takes seconds and gigabytes. There, a
pass reads the part of the graph around its head (`kgtool.ops.all_paths.neighbourhood`), in training
as well, which needs no parameter of the graph. All relations keep the states that the whole graph
gives them. On FB15k-237 and WN18RR, parts take less time and have as high an MRR.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor, nn

from kgtool.graph.knowledge_graph import KnowledgeGraph
from kgtool.graph.relation_graph import RelationGraph
from kgtool.models.all_paths import AllPathsDecoder, Parts, PathGRU
from kgtool.models.model import Model
from kgtool.models.relation_encoder import RelationEncoder
from kgtool.models.scorers import ModelScorer, PassScorer, SparseScores
from kgtool.ops import Reach, in_threads, normal_, torch_in_one_thread

# Query relations that are encoded together: a few megabytes of states.
ENCODED = 32
# Chosen on valid of WN18RR and FB15k-237. A whole pass over more edges takes 10 ms or more.
PARTS = Parts(whole=100_000, nearest=500)


class Conditions(NamedTuple):
    """The parameters of relations in C contexts, one for each query relation.

    Attributes:
        init: `(C, d)`, the state of a head before the first layer.
        weights: `(L, C, R, d)`: `w_r^i`, inverses included.
        queries: `(C, d + m)`.
    """

    init: Tensor
    weights: Tensor
    queries: Tensor


class ConditionalDecoder(PathGRU):
    """A GRU that reads all paths at once, with weights from the states of relations.

    Args:
        dim, layers: see `PathGRU`; `dim` is also that of the states of relations.
        mlp_dim: m, dims of the non-linear part of the score.
    """

    def __init__(self, dim: int, layers: int, mlp_dim: int) -> None:
        super().__init__(dim, layers, parts=PARTS)
        self.add_cell(mlp_dim)
        self.init = nn.Linear(dim, dim)  # B, a
        self.weights = nn.Linear(dim, layers * dim)  # M_i
        self.queries = nn.Linear(dim, dim + mlp_dim)  # C
        self.reset_cell()
        normal_(self.init.bias, std=0.5)
        nn.init.ones_(self.weights.bias)

    def conditions(self, states: Tensor, relation: Tensor) -> Conditions:
        """The parameters for query relations `(C,)` int64, from the states `(C, R, d)` for each."""
        own = states[torch.arange(len(relation)), relation]
        weights = self.weights(states).unflatten(2, (self.layers, self.dim))
        return Conditions(self.init(own), weights.permute(2, 0, 1, 3), self.queries(own))

    def forward(self, reached: Reach, conditions: Conditions, context: Tensor) -> Tensor:
        """The last states of passes with contexts `(B,)` int64; see `PathGRU.run`."""
        start = conditions.init.index_select(0, context)
        return self.run(reached, start, conditions.weights, context)[-1]

    @torch.no_grad()
    def on(self, states: Tensor, relation: int) -> AllPathsDecoder:
        """The decoder for one query relation, from the states `(R, d)` for it; without gradients.

        The result scores queries of this relation only. It shares the parameters of the cell.
        """
        init, weights, queries = self.conditions(states[None], torch.tensor([relation]))
        with torch.device("meta"):
            decoder = AllPathsDecoder(0, self.dim, self.layers, self.hidden.out_features)
        for name in ("scalers", "messages_in", "state_in", "bias", "hidden"):
            setattr(decoder, name, getattr(self, name))
        query = queries.expand(len(states), -1)
        decoder.parts = self.parts
        decoder.init = nn.Parameter(init[0])
        decoder.weights = nn.Parameter(weights[:, 0])
        decoder.relations = nn.Parameter(query[:, : self.dim])
        decoder.relations_hidden = nn.Parameter(query[:, self.dim :])
        return decoder.eval()


@dataclass(frozen=True, eq=False)
class ConditionalScorer(ModelScorer):
    """The scorer of a conditional model: one pass for each distinct query `(h, q)`.

    Each relation is encoded once.

    Attributes:
        encoder, decoder: in evaluation mode.
        graph: the edges that paths take.
        relations: the graph of relations that the encoder reads.
    """

    encoder: RelationEncoder
    decoder: ConditionalDecoder
    graph: KnowledgeGraph
    relations: RelationGraph
    _states: dict[int, Tensor] = field(default_factory=dict)

    one_query_a_pass = True

    @torch_in_one_thread()
    @torch.no_grad()
    def prepare(self, relation: Tensor) -> None:
        """Encode those of the relation ids `(n,)` int64 that were not encoded yet."""
        new = [r for r in torch.unique(relation).tolist() if r not in self._states]
        for first in range(0, len(new), ENCODED):
            some = new[first : first + ENCODED]
            with torch.autocast("cpu", enabled=False):
                states = self.encoder(self.relations, torch.tensor(some))
            self._states.update(zip(some, states.contiguous(), strict=True))

    @property
    def passes(self) -> ConditionalScorer:
        """Itself: its scores sum over the paths of its passes."""
        return self

    def on_cpu(self) -> ConditionalScorer:
        """Itself: the kernels of the passes run on the CPU."""
        return self

    def of_relation(self, relation: int) -> PassScorer:
        """The scorer of the queries of one relation id."""
        self.prepare(torch.tensor([relation]))
        return PassScorer(self.decoder.on(self._states[relation], relation), self.graph)

    @property
    def is_sparse(self) -> bool:  # type: ignore[override]
        """Whether queries are answered on parts of the graph."""
        return bool(self.decoder.most(self.graph))

    def near(self, head: int) -> tuple[ConditionalScorer, Tensor]:
        """The scorer on the part around a head, and the ids of the part's entities, ascending.

        It gives the same scores, for queries of this head. It is the scorer itself, with all
        entities, if the graph is small enough.
        """
        most = self.decoder.most(self.graph)
        if not most:
            return self, torch.arange(self.graph.num_entities)
        graph, entities = self.graph.around(head, self.decoder.layers, most)
        decoder = copy(self.decoder)
        decoder.parts = None
        return replace(self, graph=graph, decoder=decoder), entities

    def score_t(self, hr: Tensor) -> Tensor:
        """`(n, num_entities)` scores of every tail of the queries `hr` `(n, 2)` int64."""
        scores = torch.empty(len(hr), self.graph.num_entities)

        def score(passes: PassScorer, rows: Tensor) -> None:
            scores[rows] = passes.score_t(hr[rows])

        self._by_relation(hr[:, 1], score)
        return scores

    def sparse_scores(self, hr: Tensor) -> SparseScores:
        """The scores of `score_t` in sparse form, of the queries `hr` `(n, 2)` int64."""
        found: dict[int, tuple[Tensor, Tensor, Tensor]] = {}

        def score(passes: PassScorer, rows: Tensor) -> None:
            some = passes.sparse_scores(hr[rows])
            sizes = some.first.diff().tolist()
            each = zip(some.entity.split(sizes), some.score.split(sizes), some.rest, strict=True)
            found.update(zip(rows.tolist(), each, strict=True))

        self._by_relation(hr[:, 1], score)
        queries = [found[row] for row in range(len(hr))]
        return SparseScores.of_queries(*([query[i] for query in queries] for i in range(3)))

    def score_hrt(self, hrt: Tensor) -> Tensor:
        """`(n,)` float scores of triples `(n, 3)` int64."""
        scores = torch.empty(len(hrt))

        def score(passes: PassScorer, rows: Tensor) -> None:
            scores[rows] = passes.score_hrt(hrt[rows])

        self._by_relation(hrt[:, 1], score)
        return scores

    def _by_relation(self, relation: Tensor, score: Callable[[PassScorer, Tensor], None]) -> None:
        """Call a function for each distinct one of relation ids `(n,)`, with its rows."""
        self.prepare(relation)

        def each(one: int) -> None:
            score(self.of_relation(one), torch.nonzero(relation == one).squeeze(1))

        in_threads(each, torch.unique(relation).tolist())


class ConditionalModel(Model):
    """The relation encoder and the conditional decoder over a knowledge graph.

    No parameter belongs to an entity or to a relation.

    Args:
        relation_encoder: computes the states of relations.
        decoder: reads the paths.
        graph: the edges that paths take; not a parameter, not saved with the weights.
    """

    encoder = None
    validates_as_trained = True

    def __init__(
        self, relation_encoder: RelationEncoder, decoder: ConditionalDecoder, graph: KnowledgeGraph
    ) -> None:
        super().__init__()
        self.relation_encoder, self.decoder, self.graph = relation_encoder, decoder, graph

    @cached_property
    def relations(self) -> RelationGraph:
        """The graph of relations."""
        return RelationGraph(self.graph)

    def on(self, graph: KnowledgeGraph) -> ConditionalModel:
        """The same weights on another graph."""
        return ConditionalModel(self.relation_encoder, self.decoder, graph)

    def conditions(self, relation: Tensor) -> Conditions:
        """The parameters of relations for query relations `(C,)` int64, with gradients.

        In float32 also under autocast: the kernels of a pass read these as the parameters they are.
        """
        with torch.autocast("cpu", enabled=False):
            states = self.relation_encoder(self.relations, relation)
            return self.decoder.conditions(states, relation)

    def embeddings(self) -> list[nn.Parameter]:
        """None: no parameter has a row for each entity or relation."""
        return []

    @torch.no_grad()
    def scorer(self) -> ConditionalScorer:
        """The model's scorer, in evaluation mode."""
        self.eval()
        return ConditionalScorer(self.relation_encoder, self.decoder, self.graph, self.relations)
