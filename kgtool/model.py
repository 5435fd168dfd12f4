"""The model: an encoder's states, read by a decoder."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from kgtool.decoder import GRUDecoder
from kgtool.encoder import RGCNEncoder
from kgtool.graph import MessageGraph


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
    decoder: GRUDecoder

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
    def score_hrt(self, hrt: Tensor) -> Tensor:
        """`(n,)` scores of triples `(n, 3)` int64."""
        head, relation, tail = hrt.unbind(1)
        length = torch.ones(len(hrt), dtype=torch.long)
        queries = self.decoder(head, relation.unsqueeze(1), length, self.entities, self.relations)
        return (queries * self.entities[tail]).sum(1) + self.decoder.bias[tail]


class KGModel(nn.Module):
    """R-GCN encoder and GRU decoder over one message graph.

    Args:
        encoder: gives entity and relation states.
        decoder: reads them along relation paths.
        graph: the edges that messages travel; not a parameter, not saved with the weights.
    """

    def __init__(self, encoder: RGCNEncoder, decoder: GRUDecoder, graph: MessageGraph) -> None:
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder
        self.graph = graph

    def embeddings(self) -> list[nn.Parameter]:
        """The parameters with a row an entity or a relation; the others are weights."""
        return [self.encoder.entities, self.encoder.relations, self.decoder.bias]

    def states(self, hidden: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Entity and relation states, with gradients; `hidden` edges carry no message."""
        entities, relations = self.encoder(self.graph, hidden)
        return entities, relations

    @torch.no_grad()
    def scorer(self) -> Scorer:
        """Run the encoder once in evaluation mode, over the whole graph."""
        self.eval()
        entities, relations = self.states()
        return Scorer(entities, relations, self.decoder)
