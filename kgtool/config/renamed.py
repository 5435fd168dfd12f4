"""Old settings: the error that gives the new ones."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping
from types import MappingProxyType
from typing import Any, TypeAlias

from kgtool.config.writing import shown

# New settings, by key, from an old value and its section.
_Renaming: TypeAlias = Callable[[Any, Mapping[str, Any]], dict[str, Any]]


def _new(key: str, values: Mapping[Any, str] = MappingProxyType({})) -> _Renaming:
    def rename(value: Any, section: Mapping[str, Any]) -> dict[str, Any]:
        return {key: values.get(value, value) if isinstance(value, Hashable) else value}

    return rename


def _new_decomposition(_: Any, encoder: Mapping[str, Any]) -> dict[str, Any]:
    key = "num_blocks" if encoder.get("decomposition") == "block" else "num_bases"
    return {key: encoder.get("parts", 2)}


def _new_training(_: Any, one_path: Mapping[str, Any]) -> dict[str, Any]:
    if negatives := one_path.get("negatives"):
        return {"training": "negative_sampling", "num_negatives": negatives}
    return {"training": "KvsAll" if one_path.get("targets") == "k-vs-all" else "1vsAll"}


# Old settings: the new ones of the same section, from the old value and the old section. A key
# whose value does not change here is not old.
RENAMED: dict[str, _Renaming] = {
    "encoder.decomposition": _new_decomposition,
    "encoder.parts": _new_decomposition,
    "encoder.start": _new("entity_init"),
    "one_path.cell": _new("cell", {"product": "distmult"}),
    "one_path.targets": _new_training,
    "one_path.negatives": _new_training,
    "one_path.hide_targets": _new("remove_target_edges", {True: "edge", False: "none"}),
    "one_path.path_queries": _new("path_query_ratio"),
    "one_path.walks": _new("walk_ratio"),
    "all_paths.steps": _new("layers"),
    "all_paths.readout": _new("mlp_dim"),
    "all_paths.max_entities": _new("node_budget"),
    "all_paths.targets": _new("max_targets"),
    "all_paths.target_share": _new("max_target_ratio"),
    "all_paths.hide": _new("remove_target_edges"),
    "training.epoch_steps": _new("steps_per_epoch"),
    "training.decay": _new("lr_schedule", {"none": "constant"}),
    "training.clip_norm": _new("max_grad_norm"),
}


def renamed(settings: Mapping[str, Any]) -> Iterator[str]:
    """A line for each old setting."""
    for old, rename in RENAMED.items():
        name, key = old.split(".")
        section = settings.get(name)
        if isinstance(section, dict) and key in section:
            new = rename(section[key], section)
            if new != {key: section[key]}:
                now = " and ".join(f"{name}.{k} = {shown(v)}" for k, v in new.items())
                yield f"{old} = {shown(section[key])} is now {now}"
