"""Copy the weights of a trained model to a graph with more entities and relations, by label.

An all-paths model without embeddings has no weights per entity: on the grown graph, the same
weights answer at once. If entities have embeddings, new entities get initial ones, see
`kgtool.models.model.Model.start_entities`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from kgtool.config import Config, differences
from kgtool.data.dataset import Vocabulary
from kgtool.errors import RunError
from kgtool.models.model import Model
from kgtool.storage.checkpoint import unfit


def sizes(config: Config) -> dict[str, object]:
    """The settings that determine the shapes of the weights, by key."""
    settings: dict[str, object] = {"dim": config.dim, "encoder": config.encoder is not None}
    if config.combined:
        settings["one_path.dim"] = config.parts["one_path"].dim
    if encoder := config.encoder:
        settings |= {"encoder.kind": encoder.kind, "encoder.layers": encoder.layers}
        settings["encoder.entity_init"] = encoder.entity_init
        settings["encoder.features"] = "set" if encoder.features else None
        if encoder.layers:
            settings["encoder.num_bases"] = encoder.num_bases
            settings["encoder.num_blocks"] = encoder.num_blocks
    settings["one_path"] = config.one_path is not None
    if one := config.one_path:
        settings |= {"one_path.cell": one.cell, "one_path.walk_ratio > 0": one.walk_ratio > 0}
    settings["all_paths"] = config.all_paths is not None
    if all_paths := config.all_paths:
        settings |= {"all_paths.layers": all_paths.layers, "all_paths.mlp_dim": all_paths.mlp_dim}
        settings["all_paths.node_budget > 0"] = all_paths.node_budget > 0
    return settings


def check_sizes(start: Config, config: Config, place: Path) -> None:
    """Raise a RunError that names the settings that differ, if the weights do not fit."""
    if differ := differences(sizes(start), sizes(config)):
        raise RunError(
            f"the weights of {place} do not fit: {'; '.join(differ)}. Remedy: set them as in "
            f"{place / 'config.toml'}, or train without initial weights."
        )


@torch.no_grad()
def carry(
    model: Model,
    weights: Mapping[str, Tensor],
    old: Vocabulary,
    new: Vocabulary,
    path: Path,
) -> Tensor:
    """Copy weights into a model of the same sizes; rows of entities and relations go by label.

    Rows that the weights do not have stay unchanged.

    Args:
        model: a model for data with the labels `new`; changed in place.
        weights: the state of the other model, by name.
        old, new: the labels of the other model and of this model.
        path: the file of the weights, for errors.

    Returns:
        `(n,)` int64: the entities of the model that the weights do not have.

    Raises:
        RunError: when the weights do not fit the sizes of the model and the labels `old`.
    """
    entity = [old.entity_ids.get(label, -1) for label in new.entities]
    relation = [old.relation_ids.get(label, -1) for label in new.relations]
    relation += [row if row < 0 else row + len(old.relations) for row in relation]
    sources = {
        "entity": (entity, len(old.entities)),
        "relation": (relation, 2 * len(old.relations)),
    }
    own, rows_of = model.state_dict(), model.rows_of
    if own.keys() != weights.keys():
        raise unfit(path)
    for name, parameter in own.items():
        weight, rows = weights[name], rows_of.get(name)
        if weight.dtype != parameter.dtype or weight.ndim != parameter.ndim:
            raise unfit(path)
        if rows is None:
            if weight.shape != parameter.shape:
                raise unfit(path)
            parameter.copy_(weight)
            continue
        (source, many), axis = sources[rows[0]], rows[1]
        behind = parameter.shape[axis] - len(source)
        expected = list(parameter.shape)
        expected[axis] = many + behind
        if list(weight.shape) != expected:
            raise unfit(path)
        row = torch.tensor([*source, *range(many, many + behind)], dtype=torch.long)
        here = torch.nonzero(row >= 0).flatten()
        chosen = weight.index_select(axis, row[here])
        parameter.index_copy_(axis, here.to(parameter.device), chosen.to(parameter.device))
    return torch.nonzero(torch.tensor(entity, dtype=torch.long) < 0).flatten()
