"""Training objectives: the loss of a batch of queries or of a batch of passes.

With weights, the confidences of train's triples, the loss of a triple is multiplied by its weight,
and the mean over a batch is by the sum of weights. Sampled walks and paths have no weight.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kgtool.config import AllPathsConfig, OnePathConfig
from kgtool.data.answer_index import AnswerIndex
from kgtool.distributed import process_group
from kgtool.graph.knowledge_graph import KnowledgeGraph
from kgtool.graph.random_walk import WalkSampler
from kgtool.models.all_paths import AllPathsDecoder, Feed, PathGRU
from kgtool.models.cells import Cell
from kgtool.models.conditional import ConditionalDecoder, ConditionalModel, Conditions
from kgtool.models.model import AllPathsModel, OnePathModel
from kgtool.models.walk_gru import WalkReader
from kgtool.ops import (
    Reach,
    Region,
    Task,
    common_size,
    entity_loss,
    known_among,
    path_loss,
    rows_of_whole,
)
from kgtool.training.batches import (
    Batch,
    PassBatch,
    PassSampler,
    draw_queries,
    epoch_order,
    generator_of,
    link_queries,
)
from kgtool.training.regularizer import dura, n3


class Objective(Protocol):
    """The loss of a model on the batches of a data set."""

    batch_size: int
    sparse: Sequence[nn.Parameter]  # parameters whose gradient holds some rows only

    def order(self, seed: int, epoch: int) -> Tensor:
        """The rows of this process in an epoch, in order; they depend on seed and epoch only."""
        ...

    def parts(self, rows: Tensor) -> Sequence[Any]:
        """Split a batch (rows of the order of an epoch) into parts for threads, by its size.

        If there are several parts, all random draws of the batch happen here, or use a seed that
        is drawn here, from torch's default generator.
        """
        ...

    def shared(self, parts: Sequence[Any]) -> Sequence[Tensor]:
        """What all parts of a batch read and what is computed once, with gradients."""
        ...

    def loss(self, part: Any, *shared: Tensor) -> tuple[Tensor, float]:
        """The summed loss of a part, and the number of its terms, or the sum of their weights."""
        ...


class OnePathObjective:
    """The loss of every (head, relation) query of train, and of paths sampled from the graph.

    Args:
        settings: settings of the decoder.
        model: computes the states and encodes the paths.
        answers: the train triples, with inverses.
    """

    sparse: Sequence[nn.Parameter] = ()

    def __init__(self, settings: OnePathConfig, model: OnePathModel, answers: AnswerIndex) -> None:
        self.settings, self.model, self.answers = settings, model, answers
        self.batch_size = settings.batch_size
        self._edge_of_answer = model.graph.find(answers.triples())
        self._walks = WalkSampler(model.graph, settings.max_path_length)

    def order(self, seed: int, epoch: int) -> Tensor:
        """Each row of the answers once."""
        return epoch_order(len(self.answers), seed, epoch)[process_group.strided()]

    def parts(self, rows: Tensor) -> list[Tensor]:
        """One part with all rows, since they share one pass of the encoder."""
        return [rows] if len(rows) else []

    def shared(self, parts: Sequence[Tensor]) -> Sequence[Tensor]:
        """Nothing: there is one part."""
        return ()

    def loss(self, rows: Tensor, *shared: Tensor) -> tuple[Tensor, float]:
        """The mean loss of the queries, plus the losses of path queries and walks if configured."""
        s = self.settings
        batch, slot = link_queries(self.answers, rows)
        count = max(1, round(s.walk_ratio * len(rows)))
        walks = self._walks.walks(count) if s.walk_ratio else None
        excluded_edges = self._edge_of_answer[slot] if s.remove_target_edges == "edge" else None
        if excluded_edges is not None and walks is not None:
            excluded_edges = torch.cat([excluded_edges, walks.edge[walks.taken]])
        entities, relations = self.model.states(excluded_edges)
        weight = None
        if self.model.graph.weight is not None:
            weight = self.model.graph.weight[self._edge_of_answer[slot]]
        loss = self._loss(batch, entities, relations, weight)
        if s.n3 or s.relation_prediction:
            head, relation = (ids[batch.position] for ids in (batch.head, batch.path[:, 0]))
            heads, tails = rows_of_whole(entities, torch.cat([head, batch.tail])).chunk(2)
            loss = loss + _loss_of_triples(
                s, self.model.decoder.cell, (heads, relation, tails), relations, weight
            )
        if s.path_query_ratio:
            count = max(1, round(s.path_query_ratio * len(rows)))
            paths = Batch.of_walks(self._walks.walks(count, least=2))
            loss = loss + s.path_query_ratio * self._loss(paths, entities, relations)
        if walks is not None:
            reader = WalkReader(self.model.decoder, entities, relations)
            loss = loss + s.walk_ratio * reader.loss(walks)
        return loss, 1

    def _loss(
        self, batch: Batch, entities: Tensor, relations: Tensor, weight: Tensor | None = None
    ) -> Tensor:
        s = self.settings
        assert s.training != "negative_sampling"  # see `make_objective`
        queries = self.model.decoder(batch.head, batch.path, batch.length, entities, relations)
        queries = queries.to(entities.dtype)
        decoder = self.model.decoder
        bias = decoder.bias + s.margin if s.margin else decoder.bias
        loss = entity_loss(
            queries, entities, bias, batch.position, batch.tail,
            s.loss, s.training, s.label_smoothing, decoder.similarity, weight,
        )  # fmt: skip
        if s.dura:
            norms = dura(queries, entities, batch.position, batch.tail, weight=weight)
            loss = loss + s.dura * norms
        return loss


class SampledObjective:
    """Negative sampling: the tail of each edge against K sampled entities.

    It is for graphs of millions of entities: a step reads and changes only the rows that it
    samples. Importance sampling estimates the softmax over all entities (Bengio & Senécal 2003).
    Half of the K entities are uniform, half are the tails of uniform edges. So a draw gives the
    entity v with probability `q_v = (1/N + d_v/E) / 2`, and

        loss(h, r, t) = log(exp s_t + Σ_v n_v exp(s_v) / (K q_v)) - s_t,

    with the sum over the distinct sampled v, each sampled `n_v` times, without the known answers of
    (h, r). All queries of a step share one sample.

    The binary cross-entropy is that of Sun et al. 2019 with the margin γ and, for uniform
    negatives, the weights `p_v ∝ exp(α s_v)` of the adversarial temperature α, which have no
    gradient; the sample estimates them, too:

        loss(h, r, t) = -log σ(s_t + γ) - Σ_v p_v log σ(-s_v - γ), p_v ∝ n_v exp(α s_v) / q_v.

    Args:
        settings: settings of the decoder.
        fanout: maximum number of in-edges of an entity that an encoder layer reads.
        model: computes the states and encodes the paths.
    """

    def __init__(self, settings: OnePathConfig, fanout: int, model: OnePathModel) -> None:
        self.settings, self.fanout, self.model = settings, fanout, model
        self.batch_size = settings.batch_size
        self.sparse: Sequence[nn.Parameter] = [model.get_parameter(n) for n in model.of_entities]
        self._degree = model.graph.offsets.diff().long()
        if model.shards:
            process_group.all_reduce([self._degree])
        self._ends = self._degree.cumsum(0)

    def order(self, seed: int, epoch: int) -> Tensor:
        """Each edge of this process once: all edges, or the in-edges of its own entities."""
        return epoch_order(self.model.graph.num_edges, seed, epoch)

    def parts(self, rows: Tensor) -> list[Tensor]:
        """One part, even if it is empty, since all processes draw and fetch together."""
        return [rows]

    def shared(self, parts: Sequence[Tensor]) -> Sequence[Tensor]:
        """Nothing: there is one part."""
        return ()

    def loss(self, part: Tensor, *shared: Tensor) -> tuple[Tensor, float]:
        """The summed loss of the inverses of edges; this process has all answers of their tails."""
        s, graph, decoder = self.settings, self.model.graph, self.model.decoder
        tail, inverse, head = graph.triples(part).unbind(1)
        relation = graph.inverse_of(inverse)
        negatives, log_weight = self._draw()
        entity, place = torch.unique(torch.cat([head, tail, negatives]), return_inverse=True)
        excluded_edges = part if s.remove_target_edges == "edge" else part[:0]
        states, relations = self.model.states_of(entity, self.fanout, excluded_edges)
        hr, query = torch.unique(torch.stack([head, relation], 1), dim=0, return_inverse=True)
        hr = _with_copies(hr)
        at_head, at_tail, at_negatives = place.split([len(head), len(tail), len(negatives)])
        of_query = at_head.new_zeros(len(hr)).index_copy_(0, query, at_head)
        length = torch.ones_like(of_query)
        queries = decoder(of_query, hr[:, 1:], length, states, relations)  # (q, d)
        bias = self.model.rows(decoder.bias, entity)
        scores = decoder.similarity.pairs(queries, states.index_select(0, at_negatives)).float()
        biases = bias.index_select(0, at_negatives)
        inverse = graph.inverse_of(hr[:, 1])
        known = known_among(graph.csc, hr[:, 0], inverse, negatives)
        # Also mask copies: if all drawn entities are known, their gradient would be NaN.
        masked = known | log_weight.isneginf()
        tails = states.index_select(0, at_tail)
        positive = decoder.similarity.of_rows(queries.index_select(0, query), tails)
        positive = positive.float() + bias.index_select(0, at_tail)
        if s.loss == "softmax":
            scores = (scores + (biases + log_weight)).masked_fill(masked, -torch.inf)
            each = F.softplus(scores.logsumexp(1).index_select(0, query) - positive)
        else:
            scores = scores + biases
            weight = s.adversarial_temperature * scores.detach() + log_weight
            weight = weight.masked_fill(masked, -torch.inf).softmax(1).masked_fill(masked, 0)
            negative = (weight * F.softplus(scores + s.margin)).sum(1).index_select(0, query)
            each = negative + F.softplus(-positive - s.margin)
        own = None if graph.weight is None else graph.weight[part]
        count: float = len(part) if own is None else float(own.sum(dtype=torch.double))
        loss = (each if own is None else each * own).sum()
        if s.n3 or s.relation_prediction:
            heads = states.index_select(0, at_head)
            mean = _loss_of_triples(s, decoder.cell, (heads, relation, tails), relations, own)
            loss = loss + count * mean
        if s.dura:
            norms = dura(queries.to(states.dtype), states, query, at_tail, weight=own)
            loss = loss + s.dura * count * norms
        return loss, count

    def _draw(self) -> tuple[Tensor, Tensor]:
        """Entities `(k,)`, ascending, and `log(n_v / (K q_v))`; -inf for copies of the last."""
        num_entities, num_edges = len(self._ends), int(self._ends[-1])
        count = self.settings.num_negatives
        uniform = torch.randint(num_entities, ((count + 1) // 2,))
        edge = torch.randint(num_edges, (count // 2,))
        tail = torch.searchsorted(self._ends, edge, right=True)
        entity, times = torch.unique(torch.cat([uniform, tail]), return_counts=True)
        chance = (1 / num_entities + self._degree[entity] / num_edges) / 2
        log_weight = (times / (count * chance)).log()
        copies = common_size(len(entity)) - len(entity)
        return _with_copies(entity), F.pad(log_weight, (0, copies), value=-torch.inf)


def _loss_of_triples(
    settings: OnePathConfig,
    cell: Cell,
    triples: tuple[Tensor, Tensor, Tensor],
    relations: Tensor,
    weight: Tensor | None,
) -> Tensor:
    """The mean over triples of the regulariser N3 and of relation prediction, if configured.

    Relation prediction (Chen et al. 2021, "Relation Prediction as an Auxiliary Training Objective
    for Improving Multi-Relational Graph Representations") is a softmax over all relation ids of
    the scores of `(h, ?, t)`.

    Args:
        settings: the weights.
        cell: of the decoder.
        triples: `(p, d)` states of the heads, `(p,)` int64 relation ids, `(p, d)` states of the
            tails.
        relations: `(R, d)` states.
        weight: `(p,)` float32, the weight of each triple in the mean; None for 1.
    """
    heads, relation, tails = triples
    loss = heads.new_zeros(())
    if settings.n3:
        factors = (heads, relations.index_select(0, relation), tails)
        loss = settings.n3 * n3(factors, cell.complex_numbers, weight)
    if settings.relation_prediction:
        between = cell.between(heads, tails).to(relations.dtype)
        loss = loss + settings.relation_prediction * entity_loss(
            between, relations, relations.new_zeros(len(relations)),
            torch.arange(len(between)), relation, similarity=cell.similarity, weight=weight,
        )  # fmt: skip
    return loss


def _with_copies(rows: Tensor) -> Tensor:
    """Repeat the last of the rows `(n, ...)` up to a common size; no rows stay no rows."""
    many = common_size(len(rows)) if len(rows) else 0
    return rows[torch.arange(many).clamp(max=len(rows) - 1)]


class PassObjective(ABC):
    """Passes that each predict some edges of their head, which leave its graph.

    Args:
        settings: settings of the decoder.
        model: computes the passes, on the graph of the answers.
        answers: the train triples, with inverses.
    """

    sparse: Sequence[nn.Parameter] = ()

    def __init__(
        self,
        settings: AllPathsConfig,
        model: AllPathsModel | ConditionalModel,
        answers: AnswerIndex,
    ) -> None:
        self.model, self.answers = model, answers
        self.graph: KnowledgeGraph = model.graph
        self.decoder: PathGRU = model.decoder
        self.batch_size = settings.batch_size
        # A pass with a budget drops edges while it reads them, other passes before they start.
        self._dropout = settings.edge_dropout if self.decoder.node_budget else 0.0
        self._passes = PassSampler(
            self.graph, settings.max_targets, settings.max_target_ratio,
            settings.remove_target_edges, settings.edge_dropout - self._dropout,
        )  # fmt: skip

    @abstractmethod
    def _read(
        self, reached: Reach | Region, batch: PassBatch, shared: Sequence[Tensor]
    ) -> tuple[Tensor, Tensor]:
        """The last states of the passes, and the query vector of each target."""

    def _split(self, batch: PassBatch) -> list[PassBatch]:
        """A few passes in each part; all draws of the batch are made."""
        return batch.parts([len(part) for part in self.decoder.split(self.graph, batch.head)])

    def loss(self, part: PassBatch, *shared: Tensor) -> tuple[Tensor, float]:
        """A softmax of each target over all entities except the other answers of its query."""
        batch, decoder = part, self.decoder
        task = Task(batch.position, batch.tail, batch.seed, self._dropout)
        reached = decoder.reach(batch.graph, batch.head, batch.excluded_edges, task)
        last, queries = self._read(reached, batch, shared)
        head = batch.head[batch.position]
        targets = torch.stack([head, batch.relation, batch.tail], dim=1)
        rows = torch.tensor(reached.rows_of_heads())
        query, row, missed = self._others(reached, batch.position, targets)
        loss = path_loss(
            last, decoder.hidden.weight, decoder.hidden.bias, queries,
            rows=rows,
            counts=torch.bincount(batch.position, minlength=len(batch.head)),
            target=reached.slot_of(batch.position, batch.tail),
            first=torch.searchsorted(query, torch.arange(len(targets) + 1)),
            masked=row,
            others=batch.graph.num_entities - rows[batch.position] - missed,
            weights=batch.weight,
        )  # fmt: skip
        walk_loss = self._walk_loss(reached)
        count = (
            len(targets) if batch.weight is None else float(batch.weight.sum(dtype=torch.double))
        )
        return (loss if walk_loss is None else loss + walk_loss), count

    def _walk_loss(self, reached: Reach | Region) -> Tensor | None:
        """A further loss of the passes."""
        return None

    def _others(
        self, reached: Reach | Region, position: Tensor, targets: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Find the other known answers of targets `(q, 3)` of heads at positions `(q,)`.

        Returns:
            `query` `(p,)` int64, ascending, and `row` `(p,)` of the answers that the head reaches;
            `(q,)`, the number of answers that it does not reach.
        """
        answers, num_entities = self.answers, self.graph.num_entities
        rows = answers.rows(targets[:, :2])
        count, size = answers.count(rows), torch.tensor(reached.rows_of_heads())[position]
        # Look up the fewer among the more: a query may have more answers than the head reaches.
        many = torch.nonzero(count > size).squeeze(1)
        few = torch.nonzero(count <= size).squeeze(1)
        place, answer = answers.others(targets[few])
        row = reached.slot_of(position[few[place]], answer)
        reached_rows = [(few[place[row < num_entities]], row[row < num_entities])]
        entities = reached.entities().split(reached.rows_of_heads()) if len(many) else ()
        for query in many.tolist():
            entity = entities[int(position[query])]
            other = answers.contains_tails(rows[query], entity) & (entity != targets[query, 2])
            row = torch.nonzero(other).squeeze(1)
            reached_rows.append((torch.full_like(row, query), row))
        where, row = (torch.cat(parts) for parts in zip(*reached_rows, strict=True))
        where, order = torch.sort(where, stable=True)
        inside = torch.bincount(where, minlength=len(targets))
        return where, row[order], count - 1 - inside


class AllPathsObjective(PassObjective):
    """Passes from heads, drawn by the square root of their degree.

    With a node budget, the loss of the walk is added: the walk learns to lead to targets.

    Args:
        settings, model, answers: see `PassObjective`.
    """

    model: AllPathsModel
    decoder: AllPathsDecoder

    def order(self, seed: int, epoch: int) -> Tensor:
        """Heads, drawn by the square root of their degree."""
        return self._passes.order(seed, epoch)[process_group.strided()]

    def parts(self, rows: Tensor) -> list[PassBatch]:
        """The heads with their targets, a few heads in each part.

        The targets of all heads and the dropped edges are drawn once for the batch.
        """
        return self._split(self._passes.batch(rows)) if len(rows) else []

    def shared(self, parts: Sequence[PassBatch]) -> Sequence[Tensor]:
        """The encoder's states, if there is one."""
        feed = self.model.feed(parts[0].excluded_of_any) if parts else None
        return feed or ()

    def _read(
        self, reached: Reach | Region, batch: PassBatch, shared: Sequence[Tensor]
    ) -> tuple[Tensor, Tensor]:
        feed = Feed(*shared) if shared else None
        return self.decoder(reached, feed), self.decoder.queries(batch.relation, feed)

    def _walk_loss(self, reached: Reach | Region) -> Tensor | None:
        return self.decoder.walk_loss(reached)


class ConditionalObjective(PassObjective):
    """Passes from queries, half of them uniform and half drawn by their answers.

    Args:
        settings, model, answers: see `PassObjective`.
    """

    model: ConditionalModel
    decoder: ConditionalDecoder

    def order(self, seed: int, epoch: int) -> Tensor:
        """Rows of the answers, half uniform and half by their answers."""
        draw = generator_of(seed, epoch)
        return draw_queries(self.answers, len(self.answers), draw)[process_group.strided()]

    def draw(self, count: int, seed: int) -> Tensor:
        """`(count,)` rows of the answers, drawn as those of an epoch."""
        return draw_queries(self.answers, count, torch.Generator().manual_seed(seed))

    def parts(self, rows: Tensor) -> list[PassBatch]:
        """The queries with their targets, a few queries in each part."""
        if not len(rows):
            return []
        head, relation = self.answers.hr[rows].unbind(1)
        return self._split(self._passes.batch(head, query=relation))

    def shared(self, parts: Sequence[PassBatch]) -> Sequence[Tensor]:
        """The parameters of relations, in a context for each query relation of the batch.

        The graph of relations is without the targets of the batch, as it is for later queries.
        """
        if not parts:
            return ()
        assert parts[0].contexts is not None
        without = self.model.on(self.graph.without(parts[0].excluded_of_any))
        return without.conditions(parts[0].contexts)

    def _read(
        self, reached: Reach | Region, batch: PassBatch, shared: Sequence[Tensor]
    ) -> tuple[Tensor, Tensor]:
        conditions, context = Conditions(*shared), batch.context
        assert context is not None
        assert isinstance(reached, Reach)
        last = self.decoder(reached, conditions, context)
        return last, conditions.queries.index_select(0, context[batch.position])
