"""A trained model's weights carried over to more entities and relations, by label.

An all-paths model without embeddings holds nothing of an entity: over the grown graph the same
weights answer at once. Where entities have embeddings, those that training did not see are given
one, see `start_entities`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from kgtool.config import Config
from kgtool.data.dataset import Vocabulary
from kgtool.errors import RunError
from kgtool.graph.knowledge_graph import KnowledgeGraph
from kgtool.models.model import KGModel, PathModel
from kgtool.models.scorers import Scorer
from kgtool.storage.checkpoint import unfit

ROUNDS = 8  # new entities farther than that from all old ones start from the mean


SAMPLE = 20_000  # edges, about, that say how an edge scores


# The axis of a parameter's rows by relation id; behind them may be rows of what is no relation.
_RELATION_AXIS = {
    "encoder.relations": 0,
    "decoder.walks.steps.weight": 0,
    "decoder.walks.steps.bias": 0,
    "decoder.weights": 1,
    "decoder.priority": 0,
    "decoder.relations": 0,
    "decoder.relations_hidden": 0,
}


_OF_LAYERS = ("coefficients", "blocks")


def sizes(config: Config) -> dict[str, object]:
    """The settings that say which weights there are, by key; two runs' weights fit if all agree."""
    found: dict[str, object] = {"dim": config.dim, "encoder": config.encoder is not None}
    if encoder := config.encoder:
        found |= {"encoder.entity_init": encoder.entity_init, "encoder.layers": encoder.layers}
        if encoder.layers:
            found["encoder.num_bases"] = encoder.num_bases
            found["encoder.num_blocks"] = encoder.num_blocks
    found["one_path"] = config.one_path is not None
    if one := config.one_path:
        found |= {"one_path.cell": one.cell, "one_path.walk_ratio > 0": one.walk_ratio > 0}
    if all_paths := config.all_paths:
        found |= {"all_paths.layers": all_paths.layers, "all_paths.mlp_dim": all_paths.mlp_dim}
        found["all_paths.node_budget > 0"] = all_paths.node_budget > 0
    return found


def check_sizes(start: Config, config: Config, place: Path) -> None:
    """Raise a RunError that names the settings by which a run's weights do not fit another's."""
    theirs, ours = sizes(start), sizes(config)
    keys = dict.fromkeys((*theirs, *ours))
    differ = [
        f"{key} is {_said(theirs.get(key))} there and {_said(ours.get(key))} here"
        for key in keys if theirs.get(key) != ours.get(key)
    ]  # fmt: skip
    if differ:
        raise RunError(
            f"the weights of {place} do not fit: {'; '.join(differ)}. Remedy: give these settings "
            f"as {place / 'config.toml'} has them, or train without --init-from."
        )


def _said(value: object) -> str:
    if value is None:
        return "not set"
    return str(value).lower() if isinstance(value, bool) else str(value)


@torch.no_grad()
def carry(
    model: KGModel | PathModel,
    weights: Mapping[str, Tensor],
    old: Vocabulary,
    new: Vocabulary,
    path: Path,
) -> Tensor:
    """Give a model the weights of another of its sizes; rows are matched by label.

    Rows of entities and relations that the weights lack stay as they are.

    Args:
        model: over data with the labels `new`; changed in place.
        weights: the other's state, by name.
        old, new: the labels of the other's ids and of the model's.
        path: where the weights are from, for errors.

    Returns:
        `(n,)` int64: the model's entities that the weights lack.

    Raises:
        RunError: when the weights are not of the model's sizes and the labels `old`.
    """
    entity = [old.entity_ids.get(label, -1) for label in new.entities]
    relation = [old.relation_ids.get(label, -1) for label in new.relations]
    relation += [row if row < 0 else row + len(old.relations) for row in relation]
    sources = {
        "entity": (entity, len(old.entities)),
        "relation": (relation, 2 * len(old.relations)),
    }
    own = model.state_dict()
    if own.keys() != weights.keys():
        raise unfit(path)
    for name, parameter in own.items():
        told, rows = weights[name], _rows_of(model, name)
        if told.dtype != parameter.dtype or told.ndim != parameter.ndim:
            raise unfit(path)
        if rows is None:
            if told.shape != parameter.shape:
                raise unfit(path)
            parameter.copy_(told)
            continue
        (source, many), axis = sources[rows[0]], rows[1]
        behind = parameter.shape[axis] - len(source)
        expected = list(parameter.shape)
        expected[axis] = many + behind
        if list(told.shape) != expected:
            raise unfit(path)
        row = torch.tensor([*source, *range(many, many + behind)], dtype=torch.long)
        here = torch.nonzero(row >= 0).flatten()
        found = told.index_select(axis, row[here])
        parameter.index_copy_(axis, here.to(parameter.device), found.to(parameter.device))
    return torch.nonzero(torch.tensor(entity, dtype=torch.long) < 0).flatten()


def _rows_of(model: KGModel | PathModel, name: str) -> tuple[str, int] | None:
    """Of what a parameter has rows, and along which axis; None where it is of no such thing."""
    if name == "encoder.entities" and model.encoder is not None:
        return ("entity" if model.encoder.entity_init == "embedding" else "relation"), 0
    if name == "decoder.bias" and isinstance(model, KGModel):
        return "entity", 0
    if name in _RELATION_AXIS:
        return "relation", _RELATION_AXIS[name]
    return ("relation", 0) if name.endswith(_OF_LAYERS) else None


@torch.no_grad()
def start_entities(model: KGModel | PathModel, unseen: Tensor) -> None:
    """Give entities that training did not see an embedding to start from, where they have one.

    A one-path model answers `(u, r, ?)` by a state whose product with a tail is the tail's score.
    So an entity starts in the direction of the sum of these states over its edges `(u, r, v)`,
    inverses included, and at the length, one for all, at which embeddings score such an edge as
    high as an edge of the trained entities; an encoder's messages reach old and new alike. Longer,
    new entities would be found before old ones, whatever is asked. Entities that hang on new ones
    alone come after those. The bias, and an embedding of which no edge tells, is the mean of the
    trained. All-paths models that are fed by embeddings have no such states: there an entity starts
    from that mean.

    Args:
        model: over the graph that has edges of the entities; changed in place.
        unseen: `(n,)` int64.
    """
    if model.encoder is None or model.encoder.entity_init != "embedding" or not len(unseen):
        return
    graph, rows = model.graph, model.encoder.entities
    settled = torch.ones(graph.num_entities, dtype=torch.bool)
    settled[unseen] = False
    old_edges = torch.nonzero(settled[graph.head] & settled[graph.tail]).flatten()
    if not len(old_edges):
        return
    trained = torch.unique(graph.tail[old_edges]).long()
    rows[unseen] = rows[trained].mean(0)
    longest = float(rows[trained].norm(dim=1).max())
    if isinstance(model, PathModel):
        return
    bias = model.decoder.bias
    bias[unseen] = bias[trained].mean()
    old_edges = old_edges[:: len(old_edges) // SAMPLE + 1]
    asked = _asked(model.scorer(), graph, old_edges)
    usual = (asked * rows[graph.tail[old_edges]]).sum(1).mean()
    for _ in range(ROUNDS):
        edges = torch.nonzero(settled[graph.head] & ~settled[graph.tail]).flatten()
        if not len(edges):
            return
        asked = _asked(model.scorer(), graph, edges)
        tail, place = torch.unique(graph.tail[edges].long(), return_inverse=True)
        sums = torch.zeros(len(tail), asked.shape[1]).index_add_(0, place, asked)
        direction = F.normalize(sums, dim=1)
        scored = (asked * direction[place]).sum(1).mean()
        length = (usual / scored.clamp(min=1e-6)).clamp(min=0, max=longest)
        rows[tail] = length * direction
        settled[tail] = True


def _asked(scorer: Scorer, graph: KnowledgeGraph, edges: Tensor) -> Tensor:
    """`(e, d)`: the states that the tails of edges `(e,)` are scored by."""
    head, path = graph.head[edges].long(), graph.relation[edges].long().unsqueeze(1)
    ones = torch.ones_like(head)
    states: Tensor = scorer.decoder(head, path, ones, scorer.entities, scorer.relations)
    return states
