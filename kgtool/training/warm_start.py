"""A trained model's weights carried over to more entities and relations, by label.

An all-paths model without embeddings holds nothing of an entity: over the grown graph the same
weights answer at once. Where entities have embeddings, those that training did not see are given
one, see `kgtool.models.model.Model.start_entities`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from kgtool.config import Config
from kgtool.data.dataset import Vocabulary
from kgtool.errors import RunError
from kgtool.models.model import Model
from kgtool.storage.checkpoint import unfit


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
    model: Model,
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
    own, rows_of = model.state_dict(), model.rows_of
    if own.keys() != weights.keys():
        raise unfit(path)
    for name, parameter in own.items():
        told, rows = weights[name], rows_of.get(name)
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
