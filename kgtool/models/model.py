"""The models: an encoder's states read along one path, or all paths read from a head."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from kgtool.distributed.sharding import Shards
from kgtool.graph.knowledge_graph import KnowledgeGraph
from kgtool.graph.sampling import all_around, draw_around
from kgtool.models.all_paths import AllPathsDecoder, Feed
from kgtool.models.path_gru import OnePathDecoder
from kgtool.models.rgcn import RGCNEncoder
from kgtool.models.scorers import PathScorer, Scorer, SpreadScorer
from kgtool.models.walk_gru import WalkReader
from kgtool.ops import rows


class KGModel(nn.Module):
    """R-GCN encoder and GRU decoder over the knowledge graph.

    Args:
        encoder: gives entity and relation states.
        decoder: reads them along relation paths.
        graph: the edges that messages travel; not a parameter, not saved with the weights.
        shards: where the rows of entities are, whose embeddings, biases and edges into them are
            those of this process's entities; None where it holds all of them.
    """

    # The parameters with a row an entity, where embeddings are entities'.
    of_entities = ("encoder.entities", "decoder.bias")

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

    def states(self, hidden: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Entity and relation states, with gradients; `hidden` edges carry no message."""
        entities, relations = self.encoder(self.graph, hidden)
        return entities, relations

    def states_of(self, entity: Tensor, fanout: int, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """States of some entities and of every relation, by a few edges drawn around them.

        Args:
            entity: `(n,)` int64, ascending, each once.
            fanout: most in-edges of an entity that a layer reads.
            hidden: `(k, 3)` int64 edges that carry no message, nor do their inverses.
        """
        layers = len(self.encoder.layers)
        around = draw_around(self.graph, entity, layers, fanout, hidden, self.shards)
        return self.encoder.of_some(self.rows(self.encoder.entities, around.entity), around)

    def rows(self, table: Tensor, entity: Tensor) -> Tensor:
        """Some rows of a table by entity, with a sparse gradient.

        Args:
            table: the embeddings, or the biases.
            entity: `(n,)` int64, ascending, each once.
        """
        return rows(table, entity) if self.shards is None else self.shards.fetch(table, entity)

    @torch.no_grad()
    def scorer(self) -> Scorer:
        """Run the encoder once in evaluation mode, over the whole graph."""
        self.eval()
        entities, relations = self.states()
        return Scorer(entities, relations, self.decoder)

    @torch.no_grad()
    def spread_scorer(self, shards: Shards) -> SpreadScorer:
        """As `scorer`, of processes that each make the states of the entities that they hold.

        They must call it together.
        """
        self.eval()
        embeddings = self.encoder.entities
        around = all_around(self.graph, shards, embeddings.dtype)
        entities, relations = self.encoder.of_held(
            embeddings, around, lambda held: shards.fetch(held, around.entity)
        )
        return SpreadScorer(entities, relations, self.decoder, shards)

    def reader(self) -> WalkReader:
        """What reads walks, in evaluation mode."""
        scorer = self.scorer()
        return WalkReader(self.decoder, scorer.entities, scorer.relations)


def path_device() -> torch.device:
    """Where all-paths models run: on a GPU where torch has one.

    The one-path model stays on the CPU, which its kernels and DGL's are written for.
    """
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


class PathModel(nn.Module):
    """The all-paths decoder over the knowledge graph.

    Args:
        decoder: reads the paths.
        graph: the edges that paths take; not a parameter, not saved with the weights.
        encoder: gives entity and relation states that feed the decoder; None for none.
    """

    def __init__(
        self, decoder: AllPathsDecoder, graph: KnowledgeGraph, encoder: RGCNEncoder | None = None
    ) -> None:
        super().__init__()
        self.decoder = decoder
        self.encoder = encoder
        self.graph = graph

    def feed(self, hidden: Tensor | None = None) -> Feed | None:
        """The encoder's states, with gradients; `hidden` edges carry no message."""
        return Feed(*self.encoder(self.graph, hidden)) if self.encoder else None

    def embeddings(self) -> list[nn.Parameter]:
        """The parameters with a row a relation; the others are weights."""
        own = [self.decoder.relations, self.decoder.relations_hidden]
        if self.decoder.node_budget:
            own.append(self.decoder.priority)
        return own + ([self.encoder.entities, self.encoder.relations] if self.encoder else [])

    @torch.no_grad()
    def scorer(self) -> PathScorer:
        """What answers queries, in evaluation mode."""
        self.eval()
        return PathScorer(self.decoder, self.graph, self.feed())


def scorer_of(model: KGModel | PathModel) -> Scorer | SpreadScorer | PathScorer:
    """What answers queries by a model; where that is spread over processes, all ask together."""
    if isinstance(model, KGModel) and model.shards:
        return model.spread_scorer(model.shards)
    return model.scorer()
