"""The configuration: settings from a TOML file and `key=value` overrides, checked at once."""

from __future__ import annotations

import difflib
import os
import sys
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from copy import deepcopy
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

import tomli_w
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from kgtool.display import html
from kgtool.errors import ConfigError, path_of

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

# The errors of the TOML parser. Its own error and that of too long a number are ValueErrors.
NOT_TOML = (ValueError, RecursionError)

# The section of `kgtool tune`, which belongs to no run: see `kgtool.training.space`.
TUNE = "tune"

# New settings, by key, from an old value and its section.
_Renaming: TypeAlias = Callable[[Any, Mapping[str, Any]], dict[str, Any]]

# Far above any trained model, and low enough that products of sizes fit in an int64. The machine's
# memory is checked when the model is built, see `kgtool.runs.run.build_model`.
LARGEST = 2**16  # dims and the like
LONGEST = 100  # layers, or edges of a path


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    def __setattr__(self, name: str, value: Any) -> None:
        raise ConfigError(
            f"{name} cannot be set: a configuration does not change. Remedy: make a new one, as in "
            "kgtool.load_config(config.model_dump(), ['training.epochs=5'])."
        )


class EncoderConfig(_Section):
    """The R-GCN encoder (Schlichtkrull et al. 2018). With 0 layers, states are the embeddings."""

    kind: Literal["entities", "relations"] = Field(
        "entities",
        description="Nodes of the encoder's graph. `entities`: the knowledge graph; `relations`: "
        "how its relations meet, for a model that answers on any graph (all_paths only).",
    )
    layers: int = Field(
        1,
        ge=0,
        le=LONGEST,
        description="Number of R-GCN layers, 0 to 100. With 0, the states are the embeddings.",
    )
    num_bases: int | None = Field(
        None,
        ge=1,
        le=LARGEST,
        description="Number of bases that the relation matrices share (basis decomposition). "
        "Unset: 2, unless num_blocks is set.",
    )
    num_blocks: int | None = Field(
        None,
        ge=1,
        le=LARGEST,
        description="Number of diagonal blocks of each relation matrix (block-diagonal "
        "decomposition). Must divide dim. Excludes num_bases.",
    )
    edge_dropout: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="Fraction of edges that each training step drops, each with its inverse. "
        "0 to below 1.",
    )
    feature_dropout: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="Dropout on the states that each layer reads. 0 to below 1.",
    )
    fanout: int = Field(
        10,
        ge=1,
        description="Maximum number of in-edges that a layer samples per entity. "
        "Only negative sampling uses it.",
    )
    entity_init: Literal["embedding", "relations", "features"] = Field(
        "embedding",
        description="Initial state of an entity. `embedding`: its own; `relations`: the mean "
        "of the relations at its edges (NodePiece); `features`: features alone.",
    )
    features: str | list[str] | None = Field(
        None,
        description="Vectors of entities, projected and added to initial states: a .npy, .parquet, "
        ".tsv or .csv, or a list of them; `data`: those of the data set.",
    )

    @model_validator(mode="before")
    @classmethod
    def _choose_decomposition(cls, settings: Any) -> Any:
        """Two bases, where neither bases nor blocks are set; and the features of the data set."""
        if not isinstance(settings, dict):
            return settings
        if settings.get("entity_init") == "features" and settings.get("features") is None:
            settings = {**settings, "features": "data"}
        if settings.get("features") in ("", []):
            raise ValueError("features names no file. Remedy: name one, or leave features out")
        if settings.get("kind") == "relations":
            return settings
        if settings.get("num_bases") is None and settings.get("num_blocks") is None:
            return {**settings, "num_bases": 2}
        return settings

    @property
    def decomposition(self) -> Literal["basis", "block"]:
        """How the relation matrices share parameters."""
        return "basis" if self.num_blocks is None else "block"


# The cells that a setting of `one_path` fits, for settings that do not fit all.
CELLS_OF: dict[str, tuple[str, ...]] = {
    "norm": ("transe", "rotate"),
    "margin": ("transe", "rotate"),
    "dura": ("gru", "distmult", "complex", "tucker"),
    "n3": ("distmult", "complex"),
    "relation_prediction": ("transe", "distmult", "complex", "tucker"),
}


class OnePathConfig(_Section):
    """The one-path decoder, and how it is trained: on queries (head, relation, ?)."""

    dim: int | None = Field(
        None,
        ge=1,
        le=LARGEST,
        description="Dimension of the one-path part where the model has all paths too. Unset: dim.",
    )
    cell: Literal["gru", "transe", "distmult", "complex", "rotate", "tucker"] = Field(
        "gru",
        description="How the decoder reads a relation. `gru`: a GRU cell; or as in TransE, "
        "DistMult, ComplEx, RotatE or TuckER, each with states of inverse relations.",
    )
    norm: Literal[1, 2] = Field(
        2,
        description="Norm of the distance in TransE and RotatE. `1`: the sum of absolute values, "
        "of complex numbers in RotatE; `2`: the Euclidean distance.",
    )
    input_dropout: float = Field(
        0.3,
        ge=0,
        lt=1,
        description="Dropout on the head state and on the relation states. 0 to below 1.",
    )
    output_dropout: float = Field(
        0.3,
        ge=0,
        lt=1,
        description="Dropout on the last state of the path. 0 to below 1.",
    )
    batch_size: int = Field(
        1024,
        ge=1,
        le=LARGEST,
        description="Number of queries (head, relation) per step; of triples with negative "
        "sampling.",
    )
    training: Literal["1vsAll", "KvsAll", "negative_sampling"] = Field(
        "1vsAll",
        description="`1vsAll`: one answer against all non-answers (Lacroix et al. 2018); `KvsAll`: "
        "all at once (Dettmers et al. 2018); or `negative_sampling`.",
    )
    num_negatives: int = Field(
        0,
        ge=0,
        le=LARGEST,
        description="Negative entities sampled per step, shared by its queries. At least 1 with "
        "negative sampling, 0 otherwise.",
    )
    adversarial_temperature: float = Field(
        0.0,
        ge=0,
        description="Self-adversarial negative sampling (Sun et al. 2019): negatives count by a "
        "softmax of their scores times this. 0: equally. Needs loss = 'bce'.",
    )
    margin: float = Field(
        0.0,
        ge=0,
        description="Added to the scores of TransE and RotatE in the loss; `gamma` of Sun et al. "
        "2019. Needs loss = 'bce'.",
    )
    loss: Literal["softmax", "bce"] = Field(
        "softmax",
        description="`softmax`: cross-entropy over the entities; `bce`: binary cross-entropy of "
        "each entity.",
    )
    label_smoothing: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="Share of the target probability that is spread evenly over all entities. "
        "0 to below 1.",
    )
    dura: float = Field(
        0.0,
        ge=0,
        description="Weight of the DURA regulariser: squared norms of query and answer "
        "(Zhang et al. 2020). 0 turns it off.",
    )
    n3: float = Field(
        0.0,
        ge=0,
        description="Weight of the N3 regulariser: cubed absolute values of head, relation and "
        "answer (Lacroix et al. 2018). 0 turns it off.",
    )
    relation_prediction: float = Field(
        0.0,
        ge=0,
        description="Weight of a further loss: predict the relation between head and answer "
        "(Chen et al. 2021). 0 turns it off.",
    )
    remove_target_edges: Literal["none", "edge"] = Field(
        "edge",
        description="Edges removed from message passing in training. `edge`: the target triples "
        "of the step and their inverses; `none`: no edge.",
    )
    path_query_ratio: float = Field(
        0.0,
        ge=0,
        le=100,
        description="Path queries (Guu et al. 2015) per step, as a ratio of the batch size; also "
        "the weight of their loss. 0 to 100.",
    )
    walk_ratio: float = Field(
        0.0,
        ge=0,
        le=100,
        description="Random walks per step that the model learns to continue, as a ratio of the "
        "batch size; also the weight of their loss. 0 to 100.",
    )
    max_path_length: int = Field(
        3,
        ge=2,
        le=LONGEST,
        description="Maximum number of relations in a path query or walk of training. 2 to 100.",
    )

    def check(self, dim: int) -> None:
        """Refuse settings that do not fit each other, or the dimension of states.

        Raises:
            ValueError: naming the setting.
        """
        for key, cells in CELLS_OF.items():
            if (
                getattr(self, key) != type(self).model_fields[key].default
                and self.cell not in cells
            ):
                raise ValueError(
                    f"one_path.{key} does not fit one_path.cell = {self.cell!r}: it is for "
                    f"{', '.join(cells)}"
                )
        if self.cell in ("complex", "rotate") and dim % 2:
            raise ValueError(
                f"one_path.cell = {self.cell!r} needs an even dim, not {dim}: half of it are real "
                "parts, half imaginary parts"
            )
        if self.margin and self.loss != "bce":
            raise ValueError("one_path.margin needs one_path.loss = 'bce': a softmax ignores it")
        if self.adversarial_temperature and not (
            self.training == "negative_sampling" and self.loss == "bce"
        ):
            raise ValueError(
                "one_path.adversarial_temperature needs one_path.training = 'negative_sampling' "
                "and one_path.loss = 'bce'"
            )


class AllPathsConfig(_Section):
    """The all-paths GRU decoder, and how it is trained: one pass per head serves its targets."""

    layers: int = Field(
        4,
        ge=1,
        le=LONGEST,
        description="Number of message passing layers, and so the maximum path length in edges. "
        "1 to 100.",
    )
    mlp_dim: int = Field(
        64,
        ge=1,
        le=LARGEST,
        description="Width of the hidden layer in the score function. A power of two is fastest.",
    )
    node_budget: int = Field(
        0,
        ge=0,
        le=LARGEST,
        description="Maximum number of entities that a layer adds to a pass; it reads at most 64 "
        "edges for each. 0: no limit.",
    )
    batch_size: int = Field(
        8, ge=1, le=LARGEST, description="Number of heads per step. Each head takes one pass."
    )
    max_targets: int = Field(
        16, ge=1, le=LARGEST, description="Maximum number of target edges per head."
    )
    max_target_ratio: float = Field(
        1 / 3,
        gt=0,
        le=1,
        description="Maximum fraction of the edges of a head that become targets (at least one "
        "edge does). Above 0 to 1.",
    )
    remove_target_edges: Literal["edge", "pair"] = Field(
        "edge",
        description="`edge`: remove the target triple and its inverse; `pair`: remove every edge "
        "between its head and tail (NBFNet).",
    )
    edge_dropout: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="Fraction of the other edges that each training step drops. 0 to below 1.",
    )


class PretrainConfig(_Section):
    """Pre-training on several graphs; the data set of the run is held out, for validation."""

    graphs: dict[str, float] = Field(
        {},
        description="Graphs to learn from: a path or a name from `kgtool data list`, with its "
        "share of the steps that take real graphs. Only their train split is used.",
    )
    synthetic: float = Field(
        0.4, ge=0, le=1, description="Fraction of the steps that take a synthetic graph. 0 to 1."
    )

    @property
    def shares(self) -> dict[str, float]:
        """The share of all steps that each graph takes; synthetic graphs take the rest."""
        scale = (1 - self.synthetic) / (sum(self.graphs.values()) or 1)
        return {name: share * scale for name, share in self.graphs.items()}

    def check(self, conditional: bool) -> None:
        """Check the settings, for a model that is conditional or not.

        Raises:
            ValueError: if they do not fit; the message gives the remedy.
        """
        if not conditional:
            raise ValueError(
                "[pretrain] is for a model that answers on any graph. Remedy: set encoder.kind = "
                "'relations', with the section [all_paths], or leave [pretrain] out"
            )
        if any(share <= 0 for share in self.graphs.values()):
            raise ValueError("a share of pretrain.graphs is not above 0. Remedy: leave it out")
        if not self.graphs and self.synthetic < 1:
            raise ValueError(
                "pretrain.graphs names no graph. Remedy: name some, or set pretrain.synthetic = 1.0"
            )
        if self.graphs and self.synthetic == 1:
            raise ValueError(
                "pretrain.synthetic = 1.0 leaves no step to pretrain.graphs. Remedy: lower it, or "
                "name no graphs"
            )


class PartTrainingConfig(_Section):
    """Optimiser, learning rate, precision and validation."""

    epochs: int = Field(
        100,
        ge=1,
        lt=2**63,
        description="Number of epochs. An epoch is one pass over all queries; for all paths, as "
        "many heads as the graph has, sampled by degree.",
    )
    steps_per_epoch: int | None = Field(
        None,
        ge=1,
        lt=2**63,
        description="Maximum number of steps per epoch. Unset: no limit.",
    )
    optimizer: Literal["adam", "adamw", "adagrad"] = Field(
        "adam",
        description="Optimiser. `adagrad` trains matrices at a tenth of the learning rate of "
        "embeddings. Negative sampling needs `adagrad`.",
    )
    learning_rate: float = Field(
        5e-3, gt=0, description="Learning rate after the warm-up. Above 0."
    )
    weight_decay: float = Field(
        0.0, ge=0, description="Weight decay of the optimiser; decoupled in `adamw`. 0 or more."
    )
    warmup_steps: int = Field(
        200,
        ge=0,
        lt=2**63,
        description="Steps over which the learning rate rises linearly to its full value.",
    )
    lr_schedule: Literal["linear", "cosine", "constant"] = Field(
        "linear",
        description="Learning rate after the warm-up. `linear` and `cosine` fall to 0 at the last "
        "step.",
    )
    max_grad_norm: float | None = Field(
        None, gt=0, description="Gradients are clipped to this norm. Unset: no clipping."
    )
    average_weights: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="Fraction of the steps so far whose weights are averaged, 0 to below 1. "
        "Validation and the finished run use the average, a copy in memory. 0: off.",
    )
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto",
        description="Precision of matrix products in training. `auto`: bfloat16 where the CPU has "
        "instructions for it, else float32.",
    )
    validate_every: int = Field(
        5, ge=1, lt=2**63, description="Number of epochs between two validations."
    )
    patience: int | None = Field(
        None,
        ge=1,
        lt=2**63,
        description="Early stopping: number of validations in a row without a better MRR. Unset: "
        "train all epochs.",
    )


class TrainingConfig(PartTrainingConfig):
    """Optimiser, learning rate, precision and validation."""

    one_path: PartTrainingConfig | None = None

    @model_validator(mode="before")
    @classmethod
    def _complete_one_path(cls, settings: Any) -> Any:
        """Settings that `[training.one_path]` does not state are those of `[training]`."""
        if not isinstance(settings, dict) or not isinstance(settings.get("one_path"), dict):
            return settings
        common = {key: value for key, value in settings.items() if key != "one_path"}
        return {**settings, "one_path": {**common, **settings["one_path"]}}


# The one-path part of a model whose configuration states no decoder.
ONE_PATH: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "one_path": {"dim": 128},
        "encoder": {},
        "training": {"optimizer": "adagrad", "learning_rate": 0.1, "warmup_steps": 0},
    }
)


class Config(_Section):
    """The settings of a training run.

    A model has a section for each of its parts, `one_path` and `all_paths`; without either, it has
    both. The two parts are trained apart, and their scores are added, see
    `kgtool.models.combined`. `dim` and `training` are those of the all-paths part; the one-path
    part may have its own in `one_path.dim` and `[training.one_path]`.

    The one-path decoder reads the states of the encoder. A model with all paths alone uses an
    encoder only where there is an encoder section; the encoder then feeds the passes.
    """

    data: str | None = Field(
        None,
        description="Data set: a folder or archive with train, valid and test, or a name from "
        "`kgtool data list`.",
    )
    seed: int = Field(0, ge=0, lt=2**63, description="Seed of all random numbers. 0 or more.")
    dim: int = Field(
        32,
        ge=1,
        le=LARGEST,
        description="Dimension of entity and relation states, 1 to 65,536. A power of two is "
        "fastest.",
    )
    encoder: EncoderConfig | None = None
    one_path: OnePathConfig | None = None
    all_paths: AllPathsConfig | None = None
    training: TrainingConfig = TrainingConfig()
    pretrain: PretrainConfig | None = None

    if not TYPE_CHECKING:  # type checkers know the settings by name

        def __init__(self, /, **settings: Any) -> None:
            """Check the settings.

            Raises:
                ConfigError: as `load_config`.
            """
            if old := list(_renamed(settings)):
                raise ConfigError("\n".join(old))
            try:
                super().__init__(**settings)
            except ValidationError as error:
                faults = {e["loc"]: e for e in error.errors()}
                # A setting of [training] that [training.one_path] takes over has its fault once.
                own = [e for loc, e in faults.items() if _taken_from(loc) not in faults]
                raise ConfigError("\n".join(map(_explain, own))) from None

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Config:
        """A copy, with other settings if given.

        Raises:
            ConfigError: for settings that do not exist or do not fit.
        """
        copy = super().model_copy(deep=deep)
        return Config(**{**dict(copy), **update}) if update else copy

    @property
    def parts(self) -> dict[str, Config]:
        """The parts of the model, in the order of their training, each as its own configuration.

        The keys are `one_path` and `all_paths`. A model of one part is its own only part.
        """
        if not self.one_path or not self.all_paths:
            return {"one_path" if self.one_path else "all_paths": self}
        own = self.training.one_path or self.training
        common = TrainingConfig.model_validate(self.training.model_dump(exclude={"one_path"}))
        one_path = self.model_copy(
            update={
                "dim": self.one_path.dim or self.dim,
                "one_path": self.one_path.model_copy(update={"dim": None}),
                "all_paths": None,
                "training": TrainingConfig.model_validate(own.model_dump(exclude={"one_path"})),
            }
        )
        all_paths = {"one_path": None, "encoder": None, "training": common}
        return {"one_path": one_path, "all_paths": self.model_copy(update=all_paths)}

    @property
    def combined(self) -> bool:
        """Whether the model is the sum of a one-path and an all-paths part."""
        return self.one_path is not None and self.all_paths is not None

    @property
    def conditional(self) -> bool:
        """Whether passes read the states of relations that an encoder of relations computes."""
        return bool(self.encoder and self.encoder.kind == "relations")

    @property
    def samples_negatives(self) -> bool:
        """Whether a step reads and changes only the rows of the entities that it samples."""
        return bool(self.one_path and self.one_path.training == "negative_sampling")

    @model_validator(mode="before")
    @classmethod
    def _choose_decoder(cls, settings: Any) -> Any:
        """Add the sections that a configuration needs and does not state."""
        if not isinstance(settings, dict):
            return settings
        stated = [name for name in ("one_path", "all_paths") if settings.get(name) is not None]
        if stated == ["all_paths"]:
            return settings
        if stated:
            return settings if settings.get("encoder") is not None else {**settings, "encoder": {}}
        training = settings.get("training", {})
        if isinstance(training, TrainingConfig):
            training = training.model_dump(exclude_unset=True)
        if isinstance(training, dict):
            own = training.get("one_path")
            own = {**ONE_PATH["training"], **own} if isinstance(own, dict) else ONE_PATH["training"]
            settings = {**settings, "training": {**training, "one_path": dict(own)}}
        defaults = {name: dict(ONE_PATH[name]) for name in ("one_path", "encoder")}
        return {**defaults, **settings, "all_paths": {}}

    @model_validator(mode="after")
    def _sections_fit(self) -> Config:
        if self.pretrain:
            self.pretrain.check(self.conditional)
        parts = self.parts
        for part in parts.values():
            part._part_fits()
        if len(parts) == 1 and (self.training.one_path or (self.one_path and self.one_path.dim)):
            raise ValueError(
                "one_path.dim and [training.one_path] are for a model with one_path and all_paths. "
                "Remedy: set dim and [training]"
            )
        return self

    def _part_fits(self) -> None:
        """Check the settings of a part."""
        encoder = self.encoder
        if encoder and self.conditional:
            self._fits_relations(encoder)
        if self.all_paths and encoder and (encoder.edge_dropout or encoder.feature_dropout):
            raise ValueError("an encoder that feeds all_paths has no dropout: leave it at 0")
        if encoder and encoder.num_bases is not None and encoder.num_blocks is not None:
            raise ValueError(
                "encoder.num_bases and encoder.num_blocks exclude each other. Remedy: set one of "
                "the two"
            )
        if encoder and encoder.layers and encoder.num_blocks and self.dim % encoder.num_blocks:
            raise ValueError(
                f"encoder.num_blocks = {encoder.num_blocks} does not divide dim = {self.dim}"
            )
        if self.all_paths and self.all_paths.node_budget and encoder:
            raise ValueError(
                "all_paths.node_budget and an encoder exclude each other: an encoder reads the "
                "whole graph at every step. Remedy: leave one of the two out"
            )
        if self.one_path and self.one_path.num_negatives and not self.samples_negatives:
            raise ValueError(
                "one_path.num_negatives needs one_path.training = 'negative_sampling', not "
                f"{self.one_path.training!r}"
            )
        if self.one_path:
            self.one_path.check(self.dim)
        if self.one_path and self.samples_negatives:
            self._fits_negatives(self.one_path, encoder or EncoderConfig())

    def _fits_relations(self, encoder: EncoderConfig) -> None:
        """Refuse settings that an encoder of relations does not use."""
        if not self.all_paths or self.one_path:
            raise ValueError(
                "encoder.kind = 'relations' is for a model of paths. Remedy: add the section "
                "[all_paths], and leave [one_path] out"
            )
        own = {"kind", "layers"}
        for key, value in encoder:
            default = type(encoder).model_fields[key].get_default()
            if key not in own and value != default:
                raise ValueError(
                    f"encoder.{key} is not used with encoder.kind = 'relations'. Remedy: leave it "
                    "out"
                )

    def _fits_negatives(self, one_path: OnePathConfig, encoder: EncoderConfig) -> None:
        """Refuse settings that would read or change all entities at each step."""
        if not one_path.num_negatives:
            raise ValueError("negative sampling needs one_path.num_negatives above 0")
        needed = {
            "one_path.label_smoothing": (one_path.label_smoothing, 0),
            "one_path.path_query_ratio": (one_path.path_query_ratio, 0),
            "one_path.walk_ratio": (one_path.walk_ratio, 0),
            "encoder.edge_dropout": (encoder.edge_dropout, 0),
            "training.optimizer": (self.training.optimizer, "adagrad"),
            "training.weight_decay": (self.training.weight_decay, 0),
            "training.average_weights": (self.training.average_weights, 0),
        }
        for key, (value, only) in needed.items():
            if value != only:
                raise ValueError(f"negative sampling needs {key} = {only!r}, not {value!r}")
        if encoder.entity_init == "relations":
            raise ValueError(
                "negative sampling needs encoder.entity_init = 'embedding' or 'features', not "
                "'relations'"
            )

    @property
    def inductive(self) -> bool:
        """Whether a part of the model serves other graphs: it has no parameters of an entity."""
        if self.combined:
            return any(part.inductive for part in self.parts.values())
        encoder = self.encoder
        if encoder and encoder.kind == "entities" and encoder.entity_init == "embedding":
            return False
        # A one-path model has a bias per entity, except one that reads features instead.
        return bool(self.all_paths) or bool(encoder and encoder.features)

    def differences(self, other: Config) -> list[str]:
        """The settings that another configuration has otherwise, one text each."""
        return differences(dict(self.settings()), dict(other.settings()))

    def __repr__(self) -> str:
        if self == Config():
            return "Config()"
        changed = [f"{name}={toml_value(value)}" for name, value in self.settings(changed=True)]
        return f"Config({', '.join(changed)})"

    def _repr_html_(self) -> str:
        return html("Configuration", dict(self.settings()))

    def settings(self, changed: bool = False) -> list[tuple[str, Any]]:
        """The settings by name, as in `("training.epochs", 20)`, without unset ones.

        Args:
            changed: only those that are not the default.
        """
        found = []
        for name, section in _sections(self):
            prefix = f"{name}." if name else ""
            for key, field in type(section).model_fields.items():
                value = getattr(section, key)
                if not isinstance(value, _Section):
                    found.append((f"{prefix}{key}", value, field.get_default()))
        return [
            (name, value)
            for name, value, default in found
            if value is not None and not (changed and value == default)
        ]

    def to_toml(self, comments: bool = False) -> str:
        """The configuration as TOML: every setting, defaults included, except unset ones.

        Args:
            comments: put its description before each setting, mark defaults, and name unset
                settings.
        """
        if not comments:
            return tomli_w.dumps(self.model_dump(exclude_none=True))
        return "\n\n".join(_described(section, name) for name, section in _sections(self)) + "\n"


def _sections(section: _Section, name: str = "") -> Iterator[tuple[str, _Section]]:
    """A section and those inside it, each with its name, as in `training.one_path`."""
    yield name, section
    for key, value in section:
        if isinstance(value, _Section):
            yield from _sections(value, f"{name}.{key}" if name else key)


def differences(there: Mapping[str, Any], here: Mapping[str, Any]) -> list[str]:
    """The settings, by key, that two sides do not share, one text each; None is `not set`."""
    return [
        f"{key} is {toml_value(there.get(key))} there and {toml_value(here.get(key))} here"
        for key in dict.fromkeys((*there, *here))
        if there.get(key) != here.get(key)
    ]


def toml_value(value: object) -> str:
    """A value as TOML writes it, for messages; `not set` for None."""
    if value is None:
        return "not set"
    return str(value).lower() if isinstance(value, bool) else str(value)


def _described(section: _Section, name: str) -> str:
    """The lines of a section, each setting below its description."""
    defaults, lines = type(section)(), []
    if name:
        lines += [f"# {(type(section).__doc__ or '').splitlines()[0]}", f"[{name}]"]
    for key, field in type(section).model_fields.items():
        if field.description is None:  # a section of its own
            continue
        value, default = getattr(section, key), getattr(defaults, key)
        mark = "default" if value == default else f"default: {_toml(default)}"
        lines.append(f"# {field.description}")
        lines.append(
            f"{key} = {_toml(value)}  # {mark}" if value is not None else f"# {key}: unset"
        )
    return "\n".join(lines)


def _toml(value: object) -> str:
    if isinstance(value, Mapping):  # a table in one line
        pairs = (tomli_w.dumps({key: part}).strip() for key, part in value.items())
        return f"{{ {', '.join(pairs)} }}" if value else "{}"
    return "unset" if value is None else tomli_w.dumps({"": value}).split("=", 1)[1].strip()


def preset_folder() -> Path:
    """The folder of the presets: inside the installed package, next to it in the repository."""
    package = Path(__file__).parent
    inside = package / "configs"
    return inside if inside.is_dir() else package.parent / "configs"


def load_config(path: str | Path | Mapping[str, Any], overrides: Iterable[str] = ()) -> Config:
    """Read a TOML file, then apply overrides.

    Args:
        path: the file, or the name of a preset: `"families"`; or nested settings, as in
            `{"dim": 32, "training": {"epochs": 5}}`.
        overrides: each `"key=value"`, nested keys with dots: `"training.epochs=10"`. The value is
            read as TOML, and as a string where it is not TOML.

    Raises:
        ConfigError: for a file that cannot be read, a key that does not exist (the error names the
            nearest one), an old key (the error names the new one), or a value that does not fit.
    """
    for override in overrides:
        if override.startswith((f"{TUNE}.", f"{TUNE}=")):
            raise ConfigError(f"{override!r} is a setting of kgtool tune. Remedy: leave it out")
    settings, where = read_settings(path, overrides)
    settings.pop(TUNE, None)  # the section of kgtool tune may stand in the same file
    return parse_config(settings, where=where)


def read_settings(
    path: str | Path | Mapping[str, Any], overrides: Iterable[str] = ()
) -> tuple[dict[str, Any], str]:
    """The nested settings that `load_config` checks, with the section `[tune]` if there is one.

    Returns:
        The settings, and the name of their place for messages.

    Raises:
        ConfigError: for a file that cannot be read, or an override that is not a setting.
    """
    if isinstance(path, Mapping):
        settings, where = deepcopy(dict(path)), "the configuration"
    else:
        path = _file_of(path_of(path, "path", ConfigError, "a TOML file, a preset or a dictionary"))
        settings, where = _read_toml(path), str(path)
    for override in overrides:
        _apply(settings, override)
    return settings, where


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        message = f"cannot read the configuration {path}: {error.strerror}"
        if path.name == str(path) and not path.suffix:
            presets = sorted(file.stem for file in preset_folder().glob("*.toml"))
            message += f". Remedy: pass a file or a preset. The presets are {', '.join(presets)}."
        raise ConfigError(message) from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8. Remedy: save the file as UTF-8.") from error
    try:
        return tomllib.loads(text)
    except NOT_TOML as error:
        raise ConfigError(f"{path}: not TOML: {error}") from error


def _file_of(name: str | Path) -> Path:
    path, preset = Path(name), preset_folder() / f"{name}.toml"
    by_name = path.name == str(name) and not os.path.exists(path)  # noqa: PTH110  # no OSError
    return preset if by_name and os.path.isfile(preset) else path  # noqa: PTH113


def parse_config(settings: dict[str, Any], where: str = "the configuration") -> Config:
    """Check nested settings.

    Raises:
        ConfigError: as `load_config`; `where` names the settings in the message.
    """
    try:
        return Config(**{str(key): value for key, value in settings.items()})
    except ConfigError as error:
        lines = str(error).splitlines()
        raise ConfigError("\n".join(f"{where}: {line}" for line in lines)) from None


def _taken_from(loc: tuple[int | str, ...]) -> tuple[int | str, ...] | None:
    """The place of a setting of `[training]` that `[training.one_path]` may have taken over."""
    return ("training", *loc[2:]) if loc[:2] == ("training", "one_path") else None


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


def _renamed(settings: Mapping[str, Any]) -> Iterator[str]:
    """A line for each old setting."""
    for old, rename in RENAMED.items():
        name, key = old.split(".")
        section = settings.get(name)
        if isinstance(section, dict) and key in section:
            new = rename(section[key], section)
            if new != {key: section[key]}:
                now = " and ".join(f"{name}.{k} = {shown(v)}" for k, v in new.items())
                yield f"{old} = {shown(section[key])} is now {now}"


def _apply(settings: dict[str, Any], override: str) -> None:
    key, equals, value = override.partition("=")
    if not equals or not all(key.split(".")):
        raise ConfigError(f"{override!r} is not a setting. Remedy: write key=value, as in dim=128")
    try:
        parsed = tomllib.loads(f"value = {value}")["value"]
    except NOT_TOML:
        parsed = value
    *sections, name = key.split(".")
    for section in sections:
        settings = settings.setdefault(section, {})
        if not isinstance(settings, dict):
            raise ConfigError(f"{override!r}: {section} is a value, not a section")
    settings[name] = parsed


def _explain(error: Any) -> str:
    """One line for one of pydantic's errors."""
    names = [str(part) for part in error["loc"]]
    key = ".".join(names)
    if error["type"] != "extra_forbidden":
        message = error["msg"].removeprefix("Value error, ")
        return f"{key} = {shown(error['input'])}: {message}" if key else message
    return unknown_key(key)


def unknown_key(key: str) -> str:
    """The problem of a key that does not exist, with the nearest one that does."""
    known = list(setting_names())
    near = difflib.get_close_matches(key, known, n=1, cutoff=0.0) or known
    by_name = [k for k in known if k.split(".")[-1] == key.split(".")[-1]]
    return f"unknown key {key!r}; the nearest is {(by_name or near)[0]!r}"


def shown(value: Any) -> str:
    """A value as a message shows it, shortened."""
    try:
        text = repr(value)
    except ValueError:  # a whole number too long for decimal digits
        return "a number of thousands of digits"
    return text if len(text) <= 80 else text[:79] + "…"


def setting_names(section: type[BaseModel] = Config, prefix: str = "") -> Iterator[str]:
    """The names of all settings, as in `training.epochs`."""
    for name, field in section.model_fields.items():
        kinds = (field.annotation, *get_args(field.annotation))
        inner = [kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)]
        if inner:
            yield from setting_names(inner[0], f"{prefix}{name}.")
        else:
            yield prefix + name
