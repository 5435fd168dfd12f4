"""The configuration: what a TOML file and `key=value` overrides may say, checked at once."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal, get_args

import tomli_w
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from kgtool.errors import ConfigError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

# What the parser raises. Its own error is a ValueError, as that of a number too long is.
NOT_TOML = (ValueError, RecursionError)

# Far above what anybody trains, and low enough that sizes can be multiplied out. What a machine's
# memory holds is asked when the model is built, see `kgtool.runs.run.build_model`.
LARGEST = 2**16  # dims and the like
LONGEST = 100  # layers, or edges of a path


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class EncoderConfig(_Section):
    """The R-GCN encoder. With 0 layers the states are the embeddings themselves."""

    layers: int = Field(1, ge=0, le=LONGEST)
    decomposition: Literal["basis", "block"] = "basis"
    parts: int = Field(
        2, ge=1, le=LARGEST, description="bases, or diagonal blocks, of each relation matrix"
    )
    edge_dropout: float = Field(0.0, ge=0, lt=1)
    feature_dropout: float = Field(0.0, ge=0, lt=1)
    fanout: int = Field(
        10,
        ge=1,
        description="most in-edges of an entity that a layer reads where a step draws negatives",
    )
    start: Literal["embedding", "relations"] = Field(
        "embedding",
        description="what an entity's state starts from: its own embedding, or its relations",
    )


class OnePathConfig(_Section):
    """The one-path decoder, and the queries that train it: (head, relation) with all tails."""

    cell: Literal["gru", "product"] = Field(
        "gru", description="what reads a relation: a GRU, or the product that DistMult is made of"
    )
    input_dropout: float = Field(0.3, ge=0, lt=1)
    output_dropout: float = Field(0.3, ge=0, lt=1)
    batch_size: int = Field(
        1024, ge=1, le=LARGEST, description="queries a step; triples, with negatives"
    )
    negatives: int = Field(
        0,
        ge=0,
        le=LARGEST,
        description="entities drawn a step that answers are told from; 0: all there are",
    )
    loss: Literal["softmax", "bce"] = "softmax"
    targets: Literal["1-vs-all", "k-vs-all"] = "1-vs-all"
    label_smoothing: float = Field(0.0, ge=0, lt=1)
    dura: float = Field(
        0.0, ge=0, description="weight of the squared norms of a query and its answer (DURA)"
    )
    hide_targets: bool = Field(
        True, description="take a step's target edges, and their inverses, out of the messages"
    )
    path_queries: float = Field(
        0.0, ge=0, le=100, description="path queries a step, as a share of batch"
    )
    walks: float = Field(
        0.0, ge=0, le=100,
        description="walks a step, asked for every next step, as a share of batch",
    )  # fmt: skip
    max_path_length: int = Field(
        3, ge=2, le=LONGEST, description="relations in the longest path query or walk"
    )


class AllPathsConfig(_Section):
    """The all-paths GRU decoder, and the passes that train it: a head with some of its edges."""

    steps: int = Field(4, ge=1, le=LONGEST, description="edges of the longest path")
    readout: int = Field(64, ge=1, le=LARGEST, description="dims of the score's non-linear part")
    max_entities: int = Field(
        0,
        ge=0,
        le=LARGEST,
        description="most entities that a pass adds a step, of 64 times as many edges; 0: no limit",
    )
    batch_size: int = Field(8, ge=1, le=LARGEST, description="heads a step, one pass each")
    targets: int = Field(
        16, ge=1, le=LARGEST, description="most edges of a head that one pass asks for"
    )
    target_share: float = Field(
        1 / 3, gt=0, le=1, description="largest part of a head's edges that one pass asks for"
    )
    hide: Literal["edge", "pair"] = Field(
        "edge",
        description="what leaves the graph for a target: its edge, or all between its two entities",
    )
    edge_dropout: float = Field(
        0.0, ge=0, lt=1, description="share of the other edges that training's passes do not take"
    )


class TrainingConfig(_Section):
    """Optimiser and schedule."""

    epochs: int = Field(
        100,
        ge=1,
        lt=2**63,
        description="an epoch asks every query once, or draws as many heads as there are",
    )
    epoch_steps: int | None = Field(
        None,
        ge=1,
        lt=2**63,
        description="steps after which an epoch ends, where it is not over before; unset: never",
    )
    optimizer: Literal["adam", "adamw", "adagrad"] = "adam"
    learning_rate: float = Field(5e-3, gt=0)
    weight_decay: float = Field(0.0, ge=0)
    warmup_steps: int = Field(200, ge=0, lt=2**63)
    decay: Literal["linear", "cosine", "none"] = "linear"
    clip_norm: float | None = Field(None, gt=0, description="largest gradient norm; unset: any")
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto", description="of matrix products in training; auto: bfloat16 where the CPU has it"
    )
    validate_every: int = Field(5, ge=1, lt=2**63, description="epochs between validations")
    patience: int | None = Field(
        None,
        ge=1,
        lt=2**63,
        description="validations without a better MRR before stopping; unset: never",
    )


class Config(_Section):
    """Everything that a training run is told.

    The decoder is the section that is there, `one_path` or `all_paths`; without either, it is
    all-paths. The one-path decoder reads the states of the encoder; passes start from them, and end
    with them, where there is an encoder section.
    """

    data: str | None = Field(
        None,
        description="folder, .zip or .tar.gz with train, valid, test; or a known name",
    )
    seed: int = Field(0, ge=0, lt=2**63)
    dim: int = Field(32, ge=1, le=LARGEST, description="dims of the states")
    encoder: EncoderConfig | None = None
    one_path: OnePathConfig | None = None
    all_paths: AllPathsConfig | None = None
    training: TrainingConfig = TrainingConfig()

    @property
    def draws_entities(self) -> bool:
        """Whether a step reads and changes only the rows of entities that it draws."""
        return bool(self.one_path and self.one_path.negatives)

    @model_validator(mode="before")
    @classmethod
    def _choose_decoder(cls, settings: Any) -> Any:
        """State the sections that are not, so that a configuration is whole."""
        if not isinstance(settings, dict):
            return settings
        if settings.get("one_path") is not None:
            return settings if settings.get("encoder") is not None else {**settings, "encoder": {}}
        return settings if settings.get("all_paths") is not None else {**settings, "all_paths": {}}

    @model_validator(mode="after")
    def _sections_fit(self) -> Config:
        if self.one_path and self.all_paths:
            raise ValueError("one_path and all_paths exclude each other: a model has one decoder")
        encoder = self.encoder
        if self.all_paths and encoder and (encoder.edge_dropout or encoder.feature_dropout):
            raise ValueError("an encoder that feeds all_paths has no dropout: leave it at 0")
        if self.one_path and self.one_path.negatives:
            self._fits_negatives(self.one_path, encoder or EncoderConfig())
        if self.all_paths and self.all_paths.max_entities and encoder:
            raise ValueError(
                "all_paths.max_entities and an encoder exclude each other: an encoder reads the "
                "whole graph at every step. Remedy: leave one of the two out"
            )
        in_blocks = encoder and encoder.layers and encoder.decomposition == "block"
        if encoder and in_blocks and self.dim % encoder.parts:
            raise ValueError(
                f"encoder.parts = {encoder.parts} blocks do not divide dim = {self.dim}"
            )
        return self

    def _fits_negatives(self, one_path: OnePathConfig, encoder: EncoderConfig) -> None:
        """Refuse what would read or change all entities at each step."""
        needed = {
            "one_path.loss": (one_path.loss, "softmax"),
            "one_path.targets": (one_path.targets, "1-vs-all"),
            "one_path.label_smoothing": (one_path.label_smoothing, 0),
            "one_path.path_queries": (one_path.path_queries, 0),
            "one_path.walks": (one_path.walks, 0),
            "encoder.start": (encoder.start, "embedding"),
            "encoder.edge_dropout": (encoder.edge_dropout, 0),
            "training.optimizer": (self.training.optimizer, "adagrad"),
            "training.weight_decay": (self.training.weight_decay, 0),
        }
        for key, (value, only) in needed.items():
            if value != only:
                raise ValueError(f"one_path.negatives needs {key} = {only!r}, not {value!r}")

    @property
    def inductive(self) -> bool:
        """Whether the model holds nothing of an entity, and serves other graphs."""
        return bool(self.all_paths) and not (self.encoder and self.encoder.start == "embedding")

    def to_toml(self) -> str:
        """The resolved configuration, every key stated but the unset ones."""
        return tomli_w.dumps(self.model_dump(exclude_none=True))


def load_config(path: str | Path, overrides: Iterable[str] = ()) -> Config:
    """Read a TOML file, then apply overrides.

    Args:
        path: the file.
        overrides: each `"key=value"`, nested keys with dots: `"training.epochs=10"`. The value is
            read as TOML, and as a string where it is none.

    Raises:
        ConfigError: for a file that cannot be read, a key that does not exist (the nearest right
            one is named), or a value that does not fit.
    """
    path = Path(path)
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise ConfigError(f"cannot read the configuration {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8. Remedy: save the file as UTF-8.") from error
    try:
        settings = tomllib.loads(text)
    except NOT_TOML as error:
        raise ConfigError(f"{path}: not TOML: {error}") from error
    for override in overrides:
        _apply(settings, override)
    return parse_config(settings, where=str(path))


def parse_config(settings: dict[str, Any], where: str = "the configuration") -> Config:
    """Check nested settings.

    Raises:
        ConfigError: as `load_config`; `where` names the settings in the message.
    """
    try:
        return Config.model_validate(settings)
    except ValidationError as error:
        raise ConfigError("\n".join(f"{where}: {_explain(e)}" for e in error.errors())) from None


def _apply(settings: dict[str, Any], override: str) -> None:
    key, equals, value = override.partition("=")
    if not equals or not all(key.split(".")):
        raise ConfigError(f"{override!r} is no setting. Remedy: write key=value, as in dim=128")
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
    known = list(_keys(Config))
    near = difflib.get_close_matches(key, known, n=1, cutoff=0.0) or known
    by_name = [k for k in known if k.split(".")[-1] == names[-1]]
    return f"unknown key {key!r}; the nearest is {(by_name or near)[0]!r}"


def shown(value: Any) -> str:
    """A value as a message shows it, shortened."""
    try:
        text = repr(value)
    except ValueError:  # a whole number too long for decimal digits
        return "a number of thousands of digits"
    return text if len(text) <= 80 else text[:79] + "…"


def _keys(section: type[BaseModel], prefix: str = "") -> Iterable[str]:
    for name, field in section.model_fields.items():
        kinds = (field.annotation, *get_args(field.annotation))
        inner = [kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)]
        if inner:
            yield from _keys(inner[0], f"{prefix}{name}.")
        else:
            yield prefix + name
