"""Builds the model of a configuration: a new one to train, or one with trained weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import torch

from kgtool.config import Config, EncoderConfig
from kgtool.data.dataset import KGDataset
from kgtool.distributed.sharding import Shards
from kgtool.errors import ConfigError
from kgtool.graph.knowledge_graph import KnowledgeGraph
from kgtool.models.all_paths import AllPathsDecoder
from kgtool.models.cells import CELLS
from kgtool.models.combined import CombinedModel
from kgtool.models.conditional import ConditionalDecoder, ConditionalModel
from kgtool.models.features import FeatureProjection
from kgtool.models.model import AllPathsModel, Model, OnePathModel, path_device
from kgtool.models.path_gru import OnePathDecoder, WalkReadout
from kgtool.models.relation_encoder import RelationEncoder
from kgtool.models.rgcn import RGCNEncoder
from kgtool.ops import large, machine_bytes
from kgtool.storage.checkpoint import Tensors, check_fit


def build_model(
    config: Config,
    dataset: KGDataset,
    shards: Shards | None = None,
    mapped: bool = False,
    *,
    graph: KnowledgeGraph | None = None,
) -> Model:
    """Build a new model for a data set. The train triples make its knowledge graph.

    Args:
        config: describes the model.
        dataset: the triples.
        shards: assigns entities to processes. The model holds the rows of this process's entities
            and the edges into them. None for all entities. Only for negative sampling.
        mapped: tables may be larger than the memory, see `kgtool.storage.memmap`.
        graph: the knowledge graph, if another model of the same data has made it.

    Raises:
        ConfigError: when the model's weights alone are larger than the machine's memory.
    """
    graph = _graph(dataset, shards) if graph is None else graph
    with torch.device("meta"):  # shapes without memory
        planned = _build(config, dataset, graph, shards)
    need = sum(p.numel() * p.element_size() for p in planned.parameters())
    memory = machine_bytes()
    if memory is not None and need > memory and not mapped:
        raise ConfigError(
            f"the model's weights need {need / 1e9:,.1f} GB, this machine has {memory / 1e9:,.1f} "
            f"GB: dim = {config.dim} with {dataset.num_entities:,} entities and "
            f"{dataset.num_relations:,} relations. Remedy: smaller sizes in the configuration."
        )
    model = _build(config, dataset, graph, shards)
    if model.encoder and model.encoder.features:
        model.encoder.features.fit(torch.unique(dataset.train[:, ::2]))
    return _on_device(config, model)


def load_model(
    config: Config,
    dataset: KGDataset,
    weights: Tensors,
    path: Path,
    shards: Shards | None = None,
) -> Model:
    """Build a model with the given weights, in evaluation mode.

    Large tables stay in their file, where `kgtool.storage.checkpoint.load_tensors` mapped them.

    Args:
        config, dataset, shards: see `build_model`.
        weights: the state of the model, by name, with the rows of all entities.
        path: the file of the weights, for errors.

    Raises:
        RunError: when the weights do not fit the model.
    """
    graph = _graph(dataset, shards)
    with torch.device("meta"):
        check_fit(_build(config, dataset, graph, None), weights, path)
        model = _build(config, dataset, graph, shards)
    if shards:
        weights = shards.local_tensors(weights, model.of_entities)
    bound = large()
    model.load_state_dict(
        {name: t if t.nbytes >= bound else t.clone() for name, t in weights.items()}, assign=True
    )
    return _on_device(config, model).eval()


def _graph(dataset: KGDataset, shards: Shards | None) -> KnowledgeGraph:
    local = shards.is_local(torch.arange(dataset.num_entities)) if shards else None
    return KnowledgeGraph.from_dataset(dataset, local)


def _on_device(config: Config, model: Model) -> Model:
    """Move the parts of the model to the devices that run them."""
    for name, part in config.parts.items():
        # The kernels of the encoder and of a node budget run on the CPU only.
        if not (part.encoder or (part.all_paths and part.all_paths.node_budget)):
            (model.get_submodule(name) if config.combined else model).to(path_device())
    return model


def _build(
    config: Config, dataset: KGDataset, graph: KnowledgeGraph, shards: Shards | None
) -> Model:
    parts = {name: _build_part(part, dataset, graph, shards) for name, part in config.parts.items()}
    return CombinedModel.of(parts) if config.combined else parts[kind_of(config)]


def _build_part(
    config: Config, dataset: KGDataset, graph: KnowledgeGraph, shards: Shards | None
) -> Model:
    rows = shards.count if shards else dataset.num_entities
    encoder = None
    if config.encoder and config.encoder.kind == "entities":
        encoder = _build_encoder(config.encoder, config.dim, rows, dataset)
    return MODELS[kind_of(config)](config, dataset, graph, encoder, shards)


def _build_encoder(
    e: EncoderConfig, dim: int, num_entities: int, dataset: KGDataset
) -> RGCNEncoder:
    features = None
    if e.features is not None:
        if dataset.features is None:
            raise ConfigError(
                f"encoder.features = {e.features!r}, but the data set {dataset.name} has none. "
                "Remedy: train with kgtool.train, or make the data set with features."
            )
        features = FeatureProjection(dataset.entity_features, dataset.features.widths, dim)
    return RGCNEncoder(
        num_entities, dataset.num_relations, dim, e.layers,
        decomposition=e.decomposition, num_parts=e.num_blocks or e.num_bases or 0,
        edge_dropout=e.edge_dropout, feature_dropout=e.feature_dropout, entity_init=e.entity_init,
        features=features,
    )  # fmt: skip


def _one_path(
    config: Config,
    dataset: KGDataset,
    graph: KnowledgeGraph,
    encoder: RGCNEncoder | None,
    shards: Shards | None,
) -> OnePathModel:
    d = config.one_path
    if not (d and encoder):
        raise ValueError("the configuration has no one_path decoder with an encoder")
    walks = WalkReadout(2 * dataset.num_relations, config.dim) if d.walk_ratio else None
    rows = shards.count if shards else dataset.num_entities
    cell = CELLS[d.cell](config.dim, d.norm)
    decoder = OnePathDecoder(
        rows, config.dim, input_dropout=d.input_dropout, output_dropout=d.output_dropout,
        cell=cell, bias=not config.inductive, walks=walks,
    )  # fmt: skip
    if cell.init_scale != 1:
        for table in encoder.embeddings():
            table.data.mul_(cell.init_scale)
    return OnePathModel(encoder, decoder, graph, shards)


def _all_paths(
    config: Config,
    dataset: KGDataset,
    graph: KnowledgeGraph,
    encoder: RGCNEncoder | None,
    shards: Shards | None,  # unused: the rows of this model are not sharded
) -> AllPathsModel | ConditionalModel:
    a = config.all_paths
    if not a:
        raise ValueError("the configuration has no all_paths decoder")
    if config.conditional:
        assert config.encoder
        relations = RelationEncoder(config.dim, config.encoder.layers)
        return ConditionalModel(
            relations, ConditionalDecoder(config.dim, a.layers, a.mlp_dim), graph
        )
    decoder = AllPathsDecoder(dataset.num_relations, config.dim, a.layers, a.mlp_dim, a.node_budget)
    return AllPathsModel(decoder, graph, encoder)


Build = Callable[[Config, KGDataset, KnowledgeGraph, RGCNEncoder | None, Shards | None], Model]
# Builds the model of each part, by the part's section in the configuration.
MODELS: Mapping[str, Build] = {"one_path": _one_path, "all_paths": _all_paths}


def kind_of(config: Config) -> str:
    """The decoder's section in the configuration of one part, a key of `MODELS`."""
    return "all_paths" if config.all_paths else "one_path"
