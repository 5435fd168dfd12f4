"""The models: an encoder's states read along one path, or all paths read from a head."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kgtool.distributed.sharding import Shards
from kgtool.graph.knowledge_graph import KnowledgeGraph
from kgtool.graph.sampling import all_around, draw_around
from kgtool.models.all_paths import AllPathsDecoder, Feed
from kgtool.models.path_gru import OnePathDecoder
from kgtool.models.rgcn import RGCNEncoder
from kgtool.models.scorers import EmbeddingScorer, ModelScorer, PassScorer, Scorer, ShardedScorer
from kgtool.models.walk_gru import WalkReader
from kgtool.ops import rows

# New entities more edges away from all old ones start from the mean.
ROUNDS = 8
# Edges, about, that show how an edge scores.
SAMPLE = 20_000


class Model(nn.Module, ABC):
    """A model of one kind: an encoder, a decoder, and the edges they read.

    Attributes:
        graph: the edges; not a parameter, not saved with the weights.
        encoder: gives entity and relation states; None for none.
        shards: which process holds which entity's row; None if this process has them all.
        validates_as_trained: ranks of the valid split are made in the precision of training.
    """

    graph: KnowledgeGraph
    encoder: RGCNEncoder | None
    shards: Shards | None = None
    validates_as_trained: bool = False

    @abstractmethod
    def embeddings(self) -> list[nn.Parameter]:
        """The parameters with a row an entity or a relation; the others are weights."""

    @abstractmethod
    def scorer(self) -> ModelScorer:
        """The model's scorer, in evaluation mode."""

    def reader(self) -> WalkReader:
        """The reader of walks, in evaluation mode, of a model that has learned to read them."""
        raise NotImplementedError("the model reads no walks")

    def distributed_scorer(self) -> Scorer:
        """As `scorer`, for processes that score together: each scores the entities that it holds.

        They must call it together.
        """
        return self.scorer()

    @property
    def rows_of(self) -> Mapping[str, tuple[str, int]]:
        """Each parameter with a row an entity or a relation id: what of, and along which axis.

        Modules declare their own parameters in an attribute `rows_of`. Behind the rows by relation
        id may be rows of something else.
        """
        return {
            f"{prefix}.{name}": rows
            for prefix, module in self.named_modules()
            if module is not self
            for name, rows in getattr(module, "rows_of", {}).items()
        }

    @property
    def of_entities(self) -> tuple[str, ...]:
        """The names of the parameters with a row an entity."""
        return tuple(name for name, (of, _) in self.rows_of.items() if of == "entity")

    @torch.no_grad()
    def start_entities(self, unseen: Tensor) -> None:
        """Give entities that training did not see an embedding, if entities have one.

        It is the mean of the trained ones, those with an edge to an entity that training saw. A
        kind of model may improve on it.

        Args:
            unseen: `(n,)` int64; the graph has their edges.
        """
        if "encoder.entities" not in self.of_entities or not len(unseen):
            return
        graph, rows = self.graph, self.get_parameter("encoder.entities")
        settled = torch.ones(graph.num_entities, dtype=torch.bool)
        settled[unseen] = False
        old_edges = torch.nonzero(settled[graph.head] & settled[graph.tail]).flatten()
        if not len(old_edges):
            return
        rows[unseen] = rows[torch.unique(graph.tail[old_edges])].mean(0)
        self._start_by_edges(settled, old_edges)

    def _start_by_edges(self, settled: Tensor, old_edges: Tensor) -> None:
        """Improve on the mean; see `start_entities`.

        Args:
            settled: `(num_entities,)` bool, the entities that training saw.
            old_edges: `(e,)` int64, the edges between them, at least one.
        """


class OnePathModel(Model):
    """R-GCN encoder and GRU decoder over the knowledge graph.

    Args:
        encoder: gives entity and relation states.
        decoder: reads them along relation paths.
        graph: the edges that messages travel; not a parameter, not saved with the weights.
        shards: where the rows of entities are, whose embeddings, biases and edges into them are
            those of this process's entities; None where it holds all of them.
    """

    encoder: RGCNEncoder

    def __init__(
        self,
        encoder: RGCNEncoder,
        decoder: OnePathDecoder,
        graph: KnowledgeGraph,
        shards: Shards | None = None,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder
        self.graph = graph
        self.shards = shards

    def embeddings(self) -> list[nn.Parameter]:
        """The parameters with a row an entity or a relation; the others are weights."""
        return [self.encoder.entities, self.encoder.relations, self.decoder.bias]

    def states(self, excluded_edges: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Entity and relation states, with gradients; excluded edges carry no message."""
        entities, relations = self.encoder(self.graph, excluded_edges)
        return entities, relations

    def states_of(
        self, entity: Tensor, fanout: int, excluded_edges: Tensor
    ) -> tuple[Tensor, Tensor]:
        """States of some entities and of every relation, by a few edges drawn around them.

        Args:
            entity: `(n,)` int64, ascending, each once.
            fanout: most in-edges of an entity that a layer reads.
            excluded_edges: `(k,)` int64 edges that carry no message, nor do their inverses.
        """
        layers = len(self.encoder.layers)
        around = draw_around(self.graph, entity, layers, fanout, excluded_edges, self.shards)
        return self.encoder.of_some(self.rows(self.encoder.entities, around.entity), around)

    def rows(self, table: Tensor, entity: Tensor) -> Tensor:
        """Some rows of a table by entity, with a sparse gradient.

        Args:
            table: the embeddings, or the biases.
            entity: `(n,)` int64, ascending, each once.
        """
        return rows(table, entity) if self.shards is None else self.shards.fetch(table, entity)

    @torch.no_grad()
    def scorer(self) -> EmbeddingScorer:
        """Run the encoder once in evaluation mode, over the whole graph."""
        self.eval()
        entities, relations = self.states()
        return EmbeddingScorer(entities, relations, self.decoder)

    @torch.no_grad()
    def sharded_scorer(self, shards: Shards) -> ShardedScorer:
        """As `scorer`, of processes that each make the states of the entities that they hold.

        They must call it together.
        """
        self.eval()
        embeddings = self.encoder.entities
        around = all_around(self.graph, shards, embeddings.dtype)
        entities, relations = self.encoder.of_held(
            embeddings, around, lambda held: shards.fetch(held, around.entity)
        )
        return ShardedScorer(entities, relations, self.decoder, shards)

    def distributed_scorer(self) -> EmbeddingScorer | ShardedScorer:
        """As `Model.distributed_scorer`, by the `shards` of the model if it has any."""
        return self.sharded_scorer(self.shards) if self.shards else self.scorer()

    def reader(self) -> WalkReader:
        """The reader of walks, in evaluation mode."""
        scorer = self.scorer()
        return WalkReader(self.decoder, scorer.entities, scorer.relations)

    def _start_by_edges(self, settled: Tensor, old_edges: Tensor) -> None:
        """Start new entities where they score their edges as high as trained entities do.

        The model answers `(u, r, ?)` by a state whose product with a tail is the tail's score. So
        an entity starts in the direction of the sum of these states over its edges `(u, r, v)`,
        inverses included, and at the length, one for all, at which embeddings score such an edge as
        high as an edge of the trained entities; an encoder's messages reach old and new alike.
        Longer, new entities would be found before old ones, whatever the query. Entities whose
        edges all lead to new ones come after those. The bias, and an embedding without an edge, is
        the mean of the trained.
        """
        graph, rows, bias = self.graph, self.encoder.entities, self.decoder.bias
        trained = torch.unique(graph.tail[old_edges])
        longest = float(rows[trained].norm(dim=1).max())
        bias[~settled] = bias[trained].mean()
        old_edges = old_edges[:: len(old_edges) // SAMPLE + 1]
        queries = self._queries_of(old_edges)
        usual = (queries * rows[graph.tail[old_edges]]).sum(1).mean()
        for _ in range(ROUNDS):
            edges = torch.nonzero(settled[graph.head] & ~settled[graph.tail]).flatten()
            if not len(edges):
                return
            queries = self._queries_of(edges)
            tail, place = torch.unique(graph.tail[edges], return_inverse=True)
            sums = torch.zeros(len(tail), queries.shape[1]).index_add_(0, place, queries)
            direction = F.normalize(sums, dim=1)
            scored = (queries * direction[place]).sum(1).mean()
            length = (usual / scored.clamp(min=1e-6)).clamp(min=0, max=longest)
            rows[tail] = length * direction
            settled[tail] = True

    def _queries_of(self, edges: Tensor) -> Tensor:
        """`(e, d)`: the states that score the tails of edges `(e,)`."""
        scorer, head = self.scorer(), self.graph.head[edges]
        path, length = self.graph.relation[edges].unsqueeze(1), torch.ones_like(head)
        states: Tensor = self.decoder(head, path, length, scorer.entities, scorer.relations)
        return states


def path_device() -> torch.device:
    """Where all-paths models run: on a GPU where torch has one.

    The one-path model stays on the CPU, which its kernels and DGL's are written for.
    """
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


class AllPathsModel(Model):
    """The all-paths decoder over the knowledge graph.

    Args:
        decoder: reads the paths.
        graph: the edges that paths take; not a parameter, not saved with the weights.
        encoder: gives entity and relation states that feed the decoder; None for none.
    """

    # Passes of float32 take twice the time, for the same MRR to 0.001.
    validates_as_trained = True

    def __init__(
        self, decoder: AllPathsDecoder, graph: KnowledgeGraph, encoder: RGCNEncoder | None = None
    ) -> None:
        super().__init__()
        self.decoder = decoder
        self.encoder = encoder
        self.graph = graph

    def feed(self, excluded_edges: Tensor | None = None) -> Feed | None:
        """The encoder's states, with gradients; excluded edges carry no message."""
        return Feed(*self.encoder(self.graph, excluded_edges)) if self.encoder else None

    def embeddings(self) -> list[nn.Parameter]:
        """The parameters with a row a relation; the others are weights."""
        own = [self.decoder.relations, self.decoder.relations_hidden]
        if self.decoder.node_budget:
            own.append(self.decoder.priority)
        return own + ([self.encoder.entities, self.encoder.relations] if self.encoder else [])

    @torch.no_grad()
    def scorer(self) -> PassScorer:
        """The model's scorer, in evaluation mode."""
        self.eval()
        return PassScorer(self.decoder, self.graph, self.feed())
