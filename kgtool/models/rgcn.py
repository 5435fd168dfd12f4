"""The R-GCN encoder: computes entity and relation states by messages over the train graph.

Schlichtkrull et al. 2018, "Modeling Relational Data with Graph Convolutional Networks", eq. 2-4:

    h_v' = σ(Σ_r Σ_{u ∈ N_r(v)} 1/c_{v,r} · h_u W_r + h_v W_0),   c_{v,r} = |N_r(v)|

with `W_r = Σ_b a_{rb} V_b` (basis) or `W_r` block-diagonal. States are rows, so matrices multiply
from the right. The kernels compute the basis sum as `Σ_b (A_b H) V_b`, with one weighted adjacency
`A_b` per basis: one sparse product for all bases and one dense product, instead of one dense
product per edge.

An entity starts from its embedding, or from the relations of its edges, as in NodePiece (Galkin et
al. 2022), which also serves entities that training never saw:

    h_v = mean of { u_r : N_r(v) not empty }

or from its features, see `kgtool.models.features`, which are otherwise added to these states.

Shapes: N entities, R relation ids with inverses, E edges, B bases, K blocks, d dims.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kgtool.distributed import process_group
from kgtool.graph.knowledge_graph import KnowledgeGraph
from kgtool.graph.sampling import Neighbourhood
from kgtool.models.features import FeatureProjection
from kgtool.ops import CSC, block_sum, common_size, normal_, product, relational_sum

if TYPE_CHECKING:
    import dgl

Decomposition = Literal["basis", "block"]
EntityInit = Literal["embedding", "relations", "features"]

ALL = slice(None)
# Without gradients, the encoder computes states for this many entities at a time: it saves memory.
ENTITIES = 1 << 17


class RGCNLayer(nn.Module):
    """One R-GCN layer, before its activation, with the interface of `dgl.nn.RelGraphConv`.

    Args:
        dim_in, dim_out: dims of the input and output states.
        num_relation_ids: R, inverses counted.
        decomposition: `"basis"` (eq. 3) or `"block"` (eq. 4; `dim_in` = `dim_out`).
        num_parts: B bases, or K blocks; K divides the dims.

    Raises:
        ValueError: when the blocks do not divide the dims.
    """

    # See `kgtool.models.model.Model.rows_of`.
    rows_of: Mapping[str, tuple[str, int]] = {
        "coefficients": ("relation", 0), "blocks": ("relation", 0),
    }  # fmt: skip

    def __init__(
        self,
        dim_in: int,
        dim_out: int,
        num_relation_ids: int,
        decomposition: Decomposition = "basis",
        num_parts: int = 2,
    ) -> None:
        super().__init__()
        self.decomposition = decomposition
        self.self_loop = nn.Parameter(torch.empty(dim_in, dim_out))  # W_0
        if decomposition == "basis":
            self.coefficients = nn.Parameter(torch.empty(num_relation_ids, num_parts))  # a_{rb}
            self.bases = nn.Parameter(torch.empty(num_parts, dim_in, dim_out))  # V_b
        else:
            if dim_in != dim_out or dim_in % num_parts:
                raise ValueError(f"{num_parts} blocks do not divide {dim_in} × {dim_out} dims")
            size = dim_in // num_parts
            self.blocks = nn.Parameter(torch.empty(num_relation_ids, num_parts, size, size))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Glorot-uniform matrices, and basis coefficients of variance 1 / B."""
        nn.init.xavier_uniform_(self.self_loop)
        if self.decomposition == "basis":
            normal_(self.coefficients, std=1 / math.sqrt(self.coefficients.shape[1]))
            for basis in self.bases:
                nn.init.xavier_uniform_(basis)
        else:
            bound = math.sqrt(3 / self.blocks.shape[-1])
            nn.init.uniform_(self.blocks, -bound, bound)

    def forward(
        self, graph: dgl.DGLGraph, h: Tensor, etype: Tensor, norm: Tensor | None = None
    ) -> Tensor:
        """One step of message passing over a DGL graph; the kernels read its CSC arrays.

        Args:
            graph: a homogeneous `dgl.DGLGraph`, or a `DGLBlock`, whose destinations are its first
                sources.
            h: `(n, dim_in)` states of the sources, float32 or float64.
            etype: `(e,)` int relation ids of the edges.
            norm: `(e,)` or `(e, 1)`, same dtype as `h`: `1/c_{v,r}` of each edge, 0 for a dropped
                edge. None for 1.

        Returns:
            `(N, dim_out)`, one state per destination; same dtype.

        Raises:
            ValueError: when shapes or dtypes do not fit.
        """
        offsets, source, ids = graph.adj_tensors("csc")
        scale = h.new_ones(len(source)) if norm is None else norm.flatten()
        if len(ids):  # edge ids that differ from CSC positions
            etype, scale = etype[ids.long()], scale[ids.long()]
        offsets, source, kind = (part.int().numpy() for part in (offsets, source, etype))
        edges = CSC(offsets, source, kind, graph.num_src_nodes())
        return self.propagate(h, edges, scale, slice(0, graph.num_dst_nodes()))

    @classmethod
    def from_dgl(cls, layer: Any) -> RGCNLayer:
        """Build the layer from the weights of a `dgl.nn.RelGraphConv`.

        Raises:
            ValueError: when it lacks a basis or block-diagonal decomposition or a self loop, or has
                a bias, an activation, dropout or layer norm.
        """
        typed, weight = layer.linear_r, getattr(layer, "loop_weight", None)
        kinds: dict[str, Decomposition] = {"basis": "basis", "bdd": "block"}
        extras = (layer.bias, layer.activation, layer.layer_norm, layer.dropout.p)
        if typed.regularizer not in kinds or weight is None or any(extras):
            raise ValueError(
                "expected a RelGraphConv with regularizer 'basis' or 'bdd' and a self loop, "
                "without bias, activation, layer norm and dropout"
            )
        dim_in, dim_out = weight.shape
        kind = kinds[typed.regularizer]
        own = cls(dim_in, dim_out, typed.num_types, kind, typed.num_bases)
        own = own.to(weight.dtype)
        with torch.no_grad():
            own.self_loop.copy_(weight)
            if own.decomposition == "basis":
                own.coefficients.copy_(typed.coeff)
                own.bases.copy_(typed.W)
            else:
                own.blocks.copy_(typed.W.view_as(own.blocks))
        return own

    def to_dgl(self) -> nn.Module:
        """A `dgl.nn.RelGraphConv` with the same weights."""
        from kgtool.ops.runtime.dgl import dgl

        basis = self.decomposition == "basis"
        num_types, num_parts = (self.coefficients if basis else self.blocks).shape[:2]
        dim_in, dim_out = self.self_loop.shape
        kind = "basis" if basis else "bdd"
        layer = dgl.nn.RelGraphConv(dim_in, dim_out, num_types, kind, num_parts, bias=False)
        layer = layer.to(self.self_loop.dtype)
        with torch.no_grad():
            layer.loop_weight.copy_(self.self_loop)
            if basis:
                layer.linear_r.coeff.copy_(self.coefficients)
                layer.linear_r.W.copy_(self.bases)
            else:
                layer.linear_r.W.copy_(self.blocks.flatten(1))
        module: nn.Module = layer
        return module

    def propagate(self, h: Tensor, edges: CSC, scale: Tensor, own: Tensor | slice = ALL) -> Tensor:
        """As `forward`, over the kernels' arrays, which cache their reverse order for later calls.

        Args:
            h: `(n, dim_in)` states of the edges' sources, float32 or float64.
            edges: the edges that carry messages to N destinations.
            scale: `(E,)`, same dtype: `1/c_{v,r}` of each edge, 0 for a dropped edge.
            own: the positions of the destinations among the sources.

        Returns:
            `(N, dim_out)`, same dtype.
        """
        times = _padded_product if isinstance(own, Tensor) else product
        if self.decomposition == "basis":
            neighbours = relational_sum(h, self.coefficients, scale, edges)  # (N, B, d)
            out = times(neighbours.flatten(1), self.bases.flatten(0, 1))  # (N, B·d) (B·d, d')
        else:
            out = block_sum(h, self.blocks, scale, edges)
        return (out + times(_rows(h, own), self.self_loop)).to(h.dtype)


class RGCNEncoder(nn.Module):
    """Entity and relation embeddings, followed by R-GCN layers.

    Each layer adds its normalised, activated message to its input states: a residual connection, so
    the embeddings stay in the states. Each layer also applies a linear map to the relation states,
    as in CompGCN (Vashishth et al. 2020, eq. 6). Without layers, the states are the embeddings.

    Args:
        num_entities: N.
        num_relations: relations, inverses not counted.
        dim: d.
        num_layers: 0 or more.
        decomposition, num_parts: of each layer's `W_r`.
        edge_dropout: fraction of edges dropped in training, each with its inverse.
        feature_dropout: dropout on a layer's input states.
        entity_init: `"embedding"`: an entity's state starts from its embedding; `"relations"`: from
            the relations of its edges, so the encoder has no parameter of an entity; `"features"`:
            from its features alone.
        features: the projection of the entities' features, added to their initial states; None for
            entities without features.
    """

    entities: nn.Parameter  # None with `entity_init="features"`

    def __init__(
        self,
        num_entities: int,
        num_relations: int,
        dim: int,
        num_layers: int = 1,
        *,
        decomposition: Decomposition = "basis",
        num_parts: int = 2,
        edge_dropout: float = 0.0,
        feature_dropout: float = 0.0,
        entity_init: EntityInit = "embedding",
        features: FeatureProjection | None = None,
    ) -> None:
        super().__init__()
        self.edge_dropout = edge_dropout
        self.feature_dropout = feature_dropout
        self.entity_init = entity_init
        if entity_init == "features" and features is None:
            raise ValueError("entity_init is 'features', but there are no features")
        # An embedding of each entity, or u_r of each relation id.
        rows = num_entities if entity_init == "embedding" else 2 * num_relations
        starts = None if entity_init == "features" else nn.Parameter(torch.empty(rows, dim))
        self.register_parameter("entities", starts)
        self.relations = nn.Parameter(torch.empty(2 * num_relations, dim))
        self.rows_of = {"relations": ("relation", 0)}  # see `kgtool.models.model.Model.rows_of`
        if starts is not None:
            kind = "entity" if entity_init == "embedding" else "relation"
            self.rows_of["entities"] = (kind, 0)
        self.layers = nn.ModuleList(
            RGCNLayer(dim, dim, 2 * num_relations, decomposition, num_parts)
            for _ in range(num_layers)
        )
        self.norms = nn.ModuleList(nn.LayerNorm(dim) for _ in range(num_layers))
        self.relation_maps = nn.ModuleList(
            nn.Linear(dim, dim, bias=False) for _ in range(num_layers)
        )
        self.features = features
        self.reset_parameters()

    def embeddings(self) -> list[nn.Parameter]:
        """The parameters with a row per entity or per relation."""
        own = [] if self.entity_init == "features" else [self.entities]
        return [*own, self.relations]

    def reset_parameters(self) -> None:
        """Embeddings with standard deviation 0.1, messages with a fifth of that, identity maps."""
        if self.entity_init != "features":
            normal_(self.entities, std=0.1)
        normal_(self.relations, std=0.1)
        for norm, relation_map in zip(self.norms, self.relation_maps, strict=True):
            nn.init.constant_(norm.get_parameter("weight"), 0.02)
            nn.init.eye_(relation_map.get_parameter("weight"))

    def forward(
        self,
        graph: KnowledgeGraph,
        excluded_edges: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """The states of all entities and relations.

        Without gradients, each of several processes computes its share of the states.

        Args:
            graph: the knowledge graph.
            excluded_edges: `(k,)` int64 edges that must not carry messages, such as the targets of
                the loss. Their inverses carry no messages either.

        Returns:
            `(N, d)` entity states and `(R, d)` relation states, inverses included.
        """
        if not len(self.layers) and self.entity_init != "relations":
            return self.initial(self.entities), self.relations
        scale = graph.scale(self._active(graph, excluded_edges), self.relations.dtype)
        by_edges = self.entity_init == "relations"
        h = self.initial(self._mean_relations(graph, scale) if by_edges else self.entities)
        for i in range(len(self.layers)):
            if torch.is_grad_enabled():
                h = self._layer(i, h, graph.csc, scale, ALL)
                continue
            share = process_group.chunk(graph.num_entities)
            h = self._in_blocks(i, h, graph.csc, scale, share)
            if process_group.world_size() > 1:
                h = torch.cat(process_group.all_gather(h))
        return h, self._relations()

    def initial(self, h: Tensor | None, entity: Tensor | None = None) -> Tensor:
        """The initial states of entities: their features are added.

        Args:
            h: `(n, d)` their embeddings or mean relations; None if there are only features.
            entity: `(n,)` int64; all entities by default.

        Returns:
            `(n, d)`.
        """
        if self.features is None:
            assert h is not None
            return h
        projected: Tensor = self.features(entity)
        return projected if h is None else h + projected

    def of_some(self, h: Tensor, around: Neighbourhood) -> tuple[Tensor, Tensor]:
        """The states of some entities, from their sampled neighbourhood, and of all relations.

        Args:
            h: `(m, d)`, the initial states of `around.entity`.
            around: a sampled neighbourhood with one hop per layer.

        Returns:
            `(n, d)` states of the entities whose neighbourhood was sampled, in their order, and
            `(R, d)` relation states.
        """
        for i, hop in enumerate(around.hops):
            h = self._layer(i, h, hop.edges, hop.scale.to(h.dtype), hop.own)
        return h, self._relations()

    def of_local(
        self, h: Tensor, around: Neighbourhood, fetch: Callable[[Tensor], Tensor]
    ) -> tuple[Tensor, Tensor]:
        """The states of this process's entities, from all their in-edges; without gradients.

        Args:
            h: `(n, d)` initial states of these entities.
            around: all edges into them, in one hop that every layer reads.
            fetch: takes this process's rows `(n, d)` of a table, and returns the rows of
                `around.entity`. All processes call it together.

        Returns:
            `(n, d)` entity states and `(R, d)` relation states.
        """
        (hop,) = around.hops
        for i in range(len(self.layers)):
            h = self._in_blocks(i, fetch(h), hop.edges, hop.scale, slice(0, len(h)), own=hop.own)
        return h, self._relations()

    def _in_blocks(
        self,
        i: int,
        h: Tensor,
        edges: CSC,
        scale: Tensor,
        destinations: slice,
        *,
        own: Tensor | None = None,
    ) -> Tensor:
        """As `_layer`, for the given destinations, a block at a time; without gradients."""
        start = destinations.start
        states = torch.empty(destinations.stop - start, h.shape[1], dtype=h.dtype)
        for into, places, rows in _blocks(edges, destinations):
            at = rows if own is None else own[rows]
            block = self._layer(i, h, into, scale[places], at)
            states[rows.start - start : rows.stop - start] = block
        return states

    def _layer(self, i: int, h: Tensor, edges: CSC, scale: Tensor, own: Tensor | slice) -> Tensor:
        """The states `h[own]` plus the layer's messages."""
        source = F.dropout(h, self.feature_dropout, self.training)
        layer: RGCNLayer = self.layers[i]  # type: ignore[assignment]
        message = layer.propagate(source, edges, scale, own)
        return _rows(h, own) + torch.tanh(self.norms[i](message))

    def _relations(self) -> Tensor:
        relations: Tensor = self.relations
        for relation_map in self.relation_maps:
            relations = relation_map(relations)
        return relations

    def _mean_relations(self, graph: KnowledgeGraph, scale: Tensor) -> Tensor:
        """`(N, d)`: the mean of `u_r` over the relations of each entity's edges."""
        # The sum of 1 / c over a group's c active edges: 1, or 0 for a group without one.
        present = scale.new_zeros(graph.num_groups).index_add_(0, graph.group, scale).round_()
        tail, relation = graph.groups.t().contiguous()
        count = torch.zeros(graph.num_entities, dtype=scale.dtype).index_add_(0, tail, present)
        offsets = torch.searchsorted(tail, torch.arange(graph.num_entities))
        return F.embedding_bag(
            relation, self.entities, offsets, mode="sum",
            per_sample_weights=present / count.clamp(min=1)[tail],
        )  # fmt: skip

    def _active(self, graph: KnowledgeGraph, excluded_edges: Tensor | None) -> Tensor | None:
        """`(E,)` bool: the edges that carry messages, or None for all."""
        dropping = self.training and self.edge_dropout > 0
        if excluded_edges is None and not dropping:
            return None
        active = torch.ones(graph.num_edges, dtype=torch.bool)
        if dropping:
            active = ~graph.draw(self.edge_dropout)
        if excluded_edges is not None:
            active[excluded_edges] = False
            active[graph.inverse[excluded_edges]] = False
        return active


def _rows(h: Tensor, own: Tensor | slice) -> Tensor:
    return h.index_select(0, own) if isinstance(own, Tensor) else h[own]


def _padded_product(x: Tensor, matrix: Tensor) -> Tensor:
    """`x @ matrix` for a sampled number of rows, computed at a padded size that repeats."""
    return product(F.pad(x, (0, 0, 0, common_size(len(x)) - len(x))), matrix)[: len(x)]


def _blocks(edges: CSC, rows: slice) -> Iterator[tuple[CSC, slice, slice]]:
    """Split the edges into some destinations into blocks of at most `ENTITIES` destinations.

    Yields:
        The edges of a block, see `CSC.into`; their positions among all edges; the destinations.
    """
    for first in range(rows.start, rows.stop, ENTITIES):
        last = min(first + ENTITIES, rows.stop)
        yield *edges.into(first, last), slice(first, last)
