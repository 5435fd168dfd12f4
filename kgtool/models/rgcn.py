"""The R-GCN encoder: entity and relation states from messages over the train graph.

Schlichtkrull et al. 2018, "Modeling Relational Data with Graph Convolutional Networks", eq. 2-4:

    h_v' = σ(Σ_r Σ_{u ∈ N_r(v)} 1/c_{v,r} · h_u W_r + h_v W_0),   c_{v,r} = |N_r(v)|

with `W_r = Σ_b a_{rb} V_b` (basis) or `W_r` block-diagonal. States are rows, so matrices multiply
from the right. The basis sum is taken as `Σ_b (A_b H) V_b`, with `A_b` one weighted adjacency a
basis: a sparse product for all bases at once and one dense product, and none per edge.

Entities start from an embedding each, or from the relations around them, as in NodePiece (Galkin et
al. 2022), which serves entities that training never saw:

    h_v = mean of { u_r : N_r(v) not empty }

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
from kgtool.ops import CSC, block_sum, common_size, relational_sum

if TYPE_CHECKING:
    import dgl

Decomposition = Literal["basis", "block"]
EntityInit = Literal["embedding", "relations"]

ALL = slice(None)
# Entities whose states are made at a time where no gradient needs all: what bounds the memory.
ENTITIES = 1 << 17


class RGCNLayer(nn.Module):
    """One R-GCN layer, before its activation; called as `dgl.nn.RelGraphConv` is.

    Args:
        dim_in, dim_out: dims of the states that come in and go out.
        num_relation_ids: R, inverses counted.
        decomposition: `"basis"` (eq. 3) or `"block"` (eq. 4; `dim_in` = `dim_out`).
        num_parts: B bases, or K blocks, which divide the dims.

    Raises:
        ValueError: when blocks do not fit the dims.
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
            nn.init.normal_(self.coefficients, std=1 / math.sqrt(self.coefficients.shape[1]))
            for basis in self.bases:
                nn.init.xavier_uniform_(basis)
        else:
            bound = math.sqrt(3 / self.blocks.shape[-1])
            nn.init.uniform_(self.blocks, -bound, bound)

    def forward(
        self, graph: dgl.DGLGraph, h: Tensor, etype: Tensor, norm: Tensor | None = None
    ) -> Tensor:
        """One step of message passing over a DGL graph, whose CSC arrays the kernels read.

        Args:
            graph: a homogeneous `dgl.DGLGraph`, or a `DGLBlock`, whose destinations are its first
                sources.
            h: `(n, dim_in)` states of its sources, float32 or float64.
            etype: `(e,)` int, the relation ids of its edges.
            norm: `(e,)` or `(e, 1)`, `1/c_{v,r}` of each edge, 0 where it is dropped; same dtype
                as `h`. None for 1.

        Returns:
            `(N, dim_out)`, a state for each destination; same dtype.

        Raises:
            ValueError: when shapes or dtypes do not fit.
        """
        offsets, source, ids = graph.adj_tensors("csc")
        scale = h.new_ones(len(source)) if norm is None else norm.flatten()
        if len(ids):  # the ids of edges where these are not their places
            etype, scale = etype[ids.long()], scale[ids.long()]
        offsets, source, kind = (part.int().numpy() for part in (offsets, source, etype))
        edges = CSC(offsets, source, kind, graph.num_src_nodes())
        return self.propagate(h, edges, scale, slice(0, graph.num_dst_nodes()))

    @classmethod
    def from_dgl(cls, layer: Any) -> RGCNLayer:
        """The same layer with the weights of a `dgl.nn.RelGraphConv`.

        Raises:
            ValueError: when it has no basis or block-diagonal decomposition or no self loop, or a
                bias, an activation, dropout or layer norm.
        """
        typed, weight = layer.linear_r, getattr(layer, "loop_weight", None)
        kinds: dict[str, Decomposition] = {"basis": "basis", "bdd": "block"}
        extras = (layer.bias, layer.activation, layer.layer_norm, layer.dropout.p)
        if typed.regularizer not in kinds or weight is None or any(extras):
            raise ValueError(
                "a RelGraphConv with regularizer 'basis' or 'bdd' and a self loop is expected, "
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
        """The same layer as a `dgl.nn.RelGraphConv` of the same weights."""
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
        """As `forward`, over the arrays that kernels read: a next call finds their reverse order.

        Args:
            h: `(n, dim_in)` states of the edges' sources, float32 or float64.
            edges: what messages travel, to N destinations.
            scale: `(E,)` `1/c_{v,r}` of each edge, 0 where the edge is dropped; same dtype.
            own: the destinations among the sources.

        Returns:
            `(N, dim_out)`, same dtype.
        """
        product = _padded_product if isinstance(own, Tensor) else torch.matmul
        if self.decomposition == "basis":
            neighbours = relational_sum(h, self.coefficients, scale, edges)  # (N, B, d)
            out = product(neighbours.flatten(1), self.bases.flatten(0, 1))  # (N, B·d) (B·d, d')
        else:
            out = block_sum(h, self.blocks, scale, edges)
        return (out + product(_rows(h, own), self.self_loop)).to(h.dtype)


class RGCNEncoder(nn.Module):
    """Entity and relation embeddings, refined by R-GCN layers.

    Each layer adds its normalised, activated message to the states it read (a residual, so that a
    layer can only add to what the embeddings hold). Relation states pass through one linear map a
    layer, as in CompGCN (Vashishth et al. 2020, eq. 6). Without layers, the states are the
    embeddings themselves.

    Args:
        num_entities: N.
        num_relations: relations, inverses not counted.
        dim: d.
        num_layers: 0 or more.
        decomposition, num_parts: of each layer's `W_r`.
        edge_dropout: share of edges dropped in training, each with its inverse.
        feature_dropout: dropout on the states that a layer reads.
        entity_init: what an entity's state starts from. From `"relations"`, nothing belongs to an
            entity.
    """

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
    ) -> None:
        super().__init__()
        self.edge_dropout = edge_dropout
        self.feature_dropout = feature_dropout
        self.entity_init = entity_init
        # An embedding of each entity, or u_r of each relation id.
        rows = num_entities if entity_init == "embedding" else 2 * num_relations
        self.entities = nn.Parameter(torch.empty(rows, dim))
        self.relations = nn.Parameter(torch.empty(2 * num_relations, dim))
        self.rows_of = {  # see `kgtool.models.model.Model.rows_of`
            "entities": ("entity" if entity_init == "embedding" else "relation", 0),
            "relations": ("relation", 0),
        }
        self.layers = nn.ModuleList(
            RGCNLayer(dim, dim, 2 * num_relations, decomposition, num_parts)
            for _ in range(num_layers)
        )
        self.norms = nn.ModuleList(nn.LayerNorm(dim) for _ in range(num_layers))
        self.relation_maps = nn.ModuleList(
            nn.Linear(dim, dim, bias=False) for _ in range(num_layers)
        )
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Embeddings of standard deviation 0.1, messages of a fifth of that, identity maps."""
        nn.init.normal_(self.entities, std=0.1)
        nn.init.normal_(self.relations, std=0.1)
        for norm, relation_map in zip(self.norms, self.relation_maps, strict=True):
            nn.init.constant_(norm.get_parameter("weight"), 0.02)
            nn.init.eye_(relation_map.get_parameter("weight"))

    def forward(
        self,
        graph: KnowledgeGraph,
        excluded_edges: Tensor | None = None,
        embeddings: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """The states of every entity and relation.

        Where no gradient is wanted, processes that work together make some states each.

        Args:
            graph: the knowledge graph.
            excluded_edges: `(k,)` int64 edges that must not carry messages, such as those that the
                loss asks for; their inverses carry none either.
            embeddings: `(N, d)`, of all entities; by default `entities`.

        Returns:
            `(N, d)` entity states and `(R, d)` relation states, inverses included.
        """
        h = self.entities if embeddings is None else embeddings
        if not len(self.layers) and self.entity_init == "embedding":
            return h, self.relations
        scale = graph.scale(self._kept(graph, excluded_edges), h.dtype)
        if self.entity_init == "relations":
            h = self._surroundings(graph, scale)
        for i in range(len(self.layers)):
            if torch.is_grad_enabled():
                h = self._layer(i, h, graph.csc, scale, ALL)
                continue
            share = process_group.chunk(graph.num_entities)
            h = self._made(i, h, graph.csc, scale, share)
            if process_group.world_size() > 1:
                h = torch.cat(process_group.all_gather(h))
        return h, self._relations()

    def of_some(self, h: Tensor, around: Neighbourhood) -> tuple[Tensor, Tensor]:
        """The states of some entities, by what was drawn around them, and of every relation.

        Args:
            h: `(m, d)`, the embeddings of `around.entity`.
            around: as many hops as there are layers.

        Returns:
            `(n, d)` states of the entities that the neighbourhood was drawn around, in their order,
            and `(R, d)` relation states.
        """
        for i, hop in enumerate(around.hops):
            h = self._layer(i, h, hop.edges, hop.scale.to(h.dtype), hop.own)
        return h, self._relations()

    def of_held(
        self, h: Tensor, around: Neighbourhood, fetch: Callable[[Tensor], Tensor]
    ) -> tuple[Tensor, Tensor]:
        """The states of the entities that this process holds, by all their edges; no gradients.

        Args:
            h: `(n, d)`, their embeddings.
            around: all edges into them, in one hop that each layer reads.
            fetch: gives, of a table `(n, d)` of which each process has its rows, those of
                `around.entity`; all processes call it together.

        Returns:
            `(n, d)` entity states and `(R, d)` relation states.
        """
        (hop,) = around.hops
        for i in range(len(self.layers)):
            h = self._made(i, fetch(h), hop.edges, hop.scale, slice(0, len(h)), own=hop.own)
        return h, self._relations()

    def _made(
        self,
        i: int,
        h: Tensor,
        edges: CSC,
        scale: Tensor,
        made: slice,
        *,
        own: Tensor | None = None,
    ) -> Tensor:
        """As `_layer` of the destinations `made`, a block at a time in a table; no gradients."""
        states = torch.empty(made.stop - made.start, h.shape[1], dtype=h.dtype)
        for into, taken, rows in _blocks(edges, made):
            there = slice(rows.start - made.start, rows.stop - made.start)
            at = rows if own is None else own[rows]
            states[there] = self._layer(i, h, into, scale[taken], at)
        return states

    def _layer(self, i: int, h: Tensor, edges: CSC, scale: Tensor, own: Tensor | slice) -> Tensor:
        """The states `h[own]` with what a layer adds to them."""
        read = F.dropout(h, self.feature_dropout, self.training)
        layer: RGCNLayer = self.layers[i]  # type: ignore[assignment]
        message = layer.propagate(read, edges, scale, own)
        return _rows(h, own) + torch.tanh(self.norms[i](message))

    def _relations(self) -> Tensor:
        relations: Tensor = self.relations
        for relation_map in self.relation_maps:
            relations = relation_map(relations)
        return relations

    def _surroundings(self, graph: KnowledgeGraph, scale: Tensor) -> Tensor:
        """`(N, d)`: the mean of `u_r` over the relations of each entity's edges."""
        # 1 where an edge of a group is there: it adds up 1 / c of each of c edges.
        present = scale.new_zeros(graph.num_groups).index_add_(0, graph.group, scale).round_()
        tail, relation = graph.groups.t().contiguous()
        count = torch.zeros(graph.num_entities, dtype=scale.dtype).index_add_(0, tail, present)
        offsets = torch.searchsorted(tail, torch.arange(graph.num_entities))
        return F.embedding_bag(
            relation, self.entities, offsets, mode="sum",
            per_sample_weights=present / count.clamp(min=1)[tail],
        )  # fmt: skip

    def _kept(self, graph: KnowledgeGraph, excluded_edges: Tensor | None) -> Tensor | None:
        """`(E,)` bool: the edges that carry messages, or None for all."""
        dropping = self.training and self.edge_dropout > 0
        if excluded_edges is None and not dropping:
            return None
        kept = torch.ones(graph.num_edges, dtype=torch.bool)
        if dropping:
            kept = ~graph.draw(self.edge_dropout)
        if excluded_edges is not None:
            kept[excluded_edges] = False
            kept[graph.inverse[excluded_edges]] = False
        return kept


def _rows(h: Tensor, own: Tensor | slice) -> Tensor:
    return h.index_select(0, own) if isinstance(own, Tensor) else h[own]


def _padded_product(x: Tensor, matrix: Tensor) -> Tensor:
    """`x @ matrix`, of as many rows as were drawn: in a product of a size that others share."""
    return (F.pad(x, (0, 0, 0, common_size(len(x)) - len(x))) @ matrix)[: len(x)]


def _blocks(edges: CSC, rows: slice) -> Iterator[tuple[CSC, slice, slice]]:
    """The edges into some destinations, a bounded number of these at a time.

    Yields:
        Edges, as of `CSC.into`, where they stand among all, and which destinations they are.
    """
    for first in range(rows.start, rows.stop, ENTITIES):
        last = min(first + ENTITIES, rows.stop)
        yield *edges.into(first, last), slice(first, last)
