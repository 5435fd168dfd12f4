"""Builds the training objective of a configuration."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from kgtool.config import Config
from kgtool.data.answer_index import answer_index
from kgtool.data.dataset import KGDataset
from kgtool.models.conditional import ConditionalModel
from kgtool.models.factory import kind_of
from kgtool.models.model import AllPathsModel, Model, OnePathModel
from kgtool.training.objectives import (
    AllPathsObjective,
    ConditionalObjective,
    Objective,
    OnePathObjective,
    SampledObjective,
)
from kgtool.training.pretraining import PretrainingObjective, Source, load_sources

Sources = Sequence[Source] | None


def _one_path(config: Config, model: OnePathModel, dataset: KGDataset, _: Sources) -> Objective:
    settings = config.one_path
    assert settings
    if config.samples_negatives and config.encoder:
        return SampledObjective(settings, config.encoder.fanout, model)
    return OnePathObjective(settings, model, answer_index(dataset.train, dataset.num_relations))


def _all_paths(
    config: Config, model: AllPathsModel | ConditionalModel, dataset: KGDataset, sources: Sources
) -> Objective:
    assert config.all_paths
    if isinstance(model, ConditionalModel) and config.pretrain:
        graphs = load_sources(config) if sources is None else sources
        return PretrainingObjective(config, config.all_paths, model, graphs)
    answers = answer_index(dataset.train, dataset.num_relations)
    if isinstance(model, ConditionalModel):
        return ConditionalObjective(config.all_paths, model, answers)
    return AllPathsObjective(config.all_paths, model, answers)


# The objective of each model of `kgtool.models.factory.MODELS`, by the same keys.
OBJECTIVES: Mapping[str, Callable[[Config, Any, KGDataset, Sources], Objective]] = {
    "one_path": _one_path, "all_paths": _all_paths,
}  # fmt: skip


def make_objective(
    config: Config, model: Model, dataset: KGDataset, sources: Sources = None
) -> Objective:
    """The objective of a configuration, for the model that `build_model` returns for it.

    Args:
        config, model, dataset: the configuration, its model, and the data set of the run.
        sources: the graphs of `[pretrain]`, if they are loaded already.

    Raises:
        DataError: for a graph of `[pretrain]` that cannot be used.
        ConfigError: if several processes cannot share the steps of a pre-training.
    """
    return OBJECTIVES[kind_of(config)](config, model, dataset, sources)
