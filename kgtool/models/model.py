"""The models: a decoder that reads one path over an encoder's states, or all paths of a head."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping

import torch
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

# New entities farther than this many edges from every old one start from the mean.
ROUNDS = 8
# About this many edges serve to estimate the mean score of an edge.
SAMPLE = 20_000


class Model(nn.Module, ABC):
    """A model: an encoder, a decoder, and the graph that they read.

    Attributes:
        graph: the edges; not a parameter, not saved with the weights.
        encoder: computes entity and relation states; None for a model without an encoder.
        shards: the owner process of each entity's row; None if this process has all rows.
        validates_as_trained: validation ranks in the precision of training.
    """

    graph: KnowledgeGraph
    encoder: RGCNEncoder | None
    shards: Shards | None = None
    validates_as_trained: bool = False

    @abstractmethod
    def embeddings(self) -> list[nn.Parameter]:
        """The parameters with a row per entity or per relation; the others are weights."""

    @abstractmethod
    def scorer(self) -> ModelScorer:
        """The model's scorer, in evaluation mode."""

    def reader(self) -> WalkReader:
        """The reader of walks, in evaluation mode, if the model was trained to read walks."""
        raise NotImplementedError("the model does not read walks")

    def distributed_scorer(self) -> Scorer:
        """As `scorer`, for processes that score together: each scores its own entities.

        All processes must call it together.
        """
        return self.scorer()

    @property
    def rows_of(self) -> Mapping[str, tuple[str, int]]:
        """Each parameter with a row per entity or relation id, with `"entity"` or `"relation"` and
        the axis of the rows.

        Modules declare their own parameters in an attribute `rows_of`. Other rows may follow the
        rows of relation ids.
        """
        return {
            f"{prefix}.{name}": rows
            for prefix, module in self.named_modules()
            if module is not self
            for name, rows in getattr(module, "rows_of", {}).items()
        }

    @property
    def of_entities(self) -> tuple[str, ...]:
        """The names of the parameters with a row per entity."""
        return tuple(name for name, (of, _) in self.rows_of.items() if of == "entity")

    @torch.no_grad()
    def start_entities(self, unseen: Tensor) -> None:
        """Initialise the embeddings of entities that training did not see, if there are any.

        An embedding starts from the mean of the trained ones, those with an edge to an entity that
        training saw. A subclass may improve on it.

        Args:
            unseen: `(n,)` int64; the graph contains their edges.
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
            settled: `(num_entities,)` bool, true for entities that training saw.
            old_edges: `(e,)` int64, the edges between them, at least one.
        """


class OnePathModel(Model):
    """An R-GCN encoder and a one-path decoder over the knowledge graph.

    Args:
        encoder: computes entity and relation states.
        decoder: reads them along relation paths.
        graph: the edges that carry messages; not a parameter, not saved with the weights.
        shards: the owner process of each entity's row. This process has the embeddings, the biases
            and the in-edges of its own entities. None if it has those of all entities.
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
        """The parameters with a row per entity or per relation; the others are weights."""
        bias = self.decoder.bias
        return [*self.encoder.embeddings(), *([bias] if isinstance(bias, nn.Parameter) else [])]

    def states(self, excluded_edges: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Entity and relation states, with gradients; excluded edges carry no messages."""
        entities, relations = self.encoder(self.graph, excluded_edges)
        return entities, relations

    def states_of(
        self, entity: Tensor, fanout: int, excluded_edges: Tensor
    ) -> tuple[Tensor, Tensor]:
        """States of some entities, from a sample of the edges around them, and of every relation.

        Args:
            entity: `(n,)` int64, ascending, each once.
            fanout: the largest number of in-edges of an entity that a layer reads.
            excluded_edges: `(k,)` int64. Neither these edges nor their inverses carry messages.
        """
        layers = len(self.encoder.layers)
        around = draw_around(self.graph, entity, layers, fanout, excluded_edges, self.shards)
        own = self.encoder.entities
        h = None if own is None else self.rows(own, around.entity)
        return self.encoder.of_some(self.encoder.initial(h, around.entity), around)

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
        entities, relations = (states.detach() for states in self.states())  # may be parameters
        return EmbeddingScorer(entities, relations, self.decoder)

    @torch.no_grad()
    def sharded_scorer(self, shards: Shards) -> ShardedScorer:
        """As `scorer`, for several processes: each computes the states of its own entities.

        All processes must call it together.
        """
        self.eval()
        embeddings = self.encoder.initial(self.encoder.entities, shards.entities)
        around = all_around(self.graph, shards, embeddings.dtype)
        entities, relations = self.encoder.of_local(
            embeddings, around, lambda local: shards.fetch(local, around.entity)
        )
        return ShardedScorer(entities, relations, self.decoder, shards)

    def distributed_scorer(self) -> EmbeddingScorer | ShardedScorer:
        """As `Model.distributed_scorer`: a sharded scorer if the model has shards."""
        return self.sharded_scorer(self.shards) if self.shards else self.scorer()

    def reader(self) -> WalkReader:
        """The reader of walks, in evaluation mode."""
        scorer = self.scorer()
        return WalkReader(self.decoder, scorer.entities, scorer.relations)

    def _start_by_edges(self, settled: Tensor, old_edges: Tensor) -> None:
        """Start new entities where they score their edges as high as trained entities do.

        The model scores a tail of `(u, r, ?)` by the similarity of a query state and the tail's
        state. With products, a new entity starts in the direction of the sum of these query states
        over its edges `(u, r, v)`, inverses included. All new entities of a round have the same
        length: embeddings of this length score such an edge as high as an edge between trained
        entities. (An encoder's messages reach old and new entities alike.) If they were longer, new
        entities would rank above old ones for any query. With distances, a new entity starts at the
        mean of the query states. Entities whose edges all lead to new entities start in a later
        round. The bias, and the embedding of an entity without an edge, is the mean of the trained
        ones.
        """
        graph, rows, bias = self.graph, self.get_parameter("encoder.entities"), self.decoder.bias
        similarity = self.decoder.similarity
        trained = torch.unique(graph.tail[old_edges])
        longest = float(rows[trained].norm(dim=1).max())
        bias[~settled] = bias[trained].mean()
        old_edges = old_edges[:: len(old_edges) // SAMPLE + 1]
        queries = self._queries_of(old_edges)
        usual = similarity.of_rows(queries, rows[graph.tail[old_edges]]).mean()
        for _ in range(ROUNDS):
            edges = torch.nonzero(settled[graph.head] & ~settled[graph.tail]).flatten()
            if not len(edges):
                return
            tail, place = torch.unique(graph.tail[edges], return_inverse=True)
            rows[tail] = similarity.best(self._queries_of(edges), place, usual, longest)
            settled[tail] = True

    def _queries_of(self, edges: Tensor) -> Tensor:
        """`(e, d)` query states that score the tails of edges `(e,)`."""
        scorer, head = self.scorer(), self.graph.head[edges]
        path, length = self.graph.relation[edges].unsqueeze(1), torch.ones_like(head)
        states: Tensor = self.decoder(head, path, length, scorer.entities, scorer.relations)
        return states


def path_device() -> torch.device:
    """The device of all-paths models: a GPU if torch has one.

    The one-path model stays on the CPU: its kernels and DGL's run there only.
    """
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


class AllPathsModel(Model):
    """The all-paths decoder over the knowledge graph.

    Args:
        decoder: reads the paths.
        graph: the edges that paths take; not a parameter, not saved with the weights.
        encoder: computes entity and relation states that feed the decoder; None for none.
    """

    # float32 passes take twice as long and give the same MRR to 0.001.
    validates_as_trained = True

    def __init__(
        self, decoder: AllPathsDecoder, graph: KnowledgeGraph, encoder: RGCNEncoder | None = None
    ) -> None:
        super().__init__()
        self.decoder = decoder
        self.encoder = encoder
        self.graph = graph

    def feed(self, excluded_edges: Tensor | None = None) -> Feed | None:
        """The encoder's states, with gradients; excluded edges carry no messages."""
        return Feed(*self.encoder(self.graph, excluded_edges)) if self.encoder else None

    def embeddings(self) -> list[nn.Parameter]:
        """The parameters with a row per relation or per entity; the others are weights."""
        own = [self.decoder.relations, self.decoder.relations_hidden]
        if self.decoder.node_budget:
            own.append(self.decoder.priority)
        return own + (self.encoder.embeddings() if self.encoder else [])

    @torch.no_grad()
    def scorer(self) -> PassScorer:
        """The model's scorer, in evaluation mode."""
        self.eval()
        return PassScorer(self.decoder, self.graph, self.feed())
