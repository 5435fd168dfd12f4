"""The configuration as a whole: its sections, and what they need of each other."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, get_args

from pydantic import BaseModel, Field, ValidationError, model_validator

from kgtool.config.renamed import renamed
from kgtool.config.sections import (
    LARGEST,
    AllPathsConfig,
    EncoderConfig,
    OnePathConfig,
    PretrainConfig,
    Section,
    TrainingConfig,
)
from kgtool.config.writing import differences, sections_of, shown, to_toml, toml_value
from kgtool.display import html
from kgtool.errors import ConfigError

# The one-path part of a model whose configuration states no decoder.
ONE_PATH: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "one_path": {"dim": 128},
        "encoder": {},
        "training": {"optimizer": "adagrad", "learning_rate": 0.1, "warmup_steps": 0},
    }
)


class Config(Section):
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
    init_from: str | None = Field(
        None,
        min_length=1,
        description="Initial weights: the folder of a run, or `pretrained`, for the weights that "
        "come with kgtool. Unset: random weights.",
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
            if old := list(renamed(settings)):
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
        for name, section in sections_of(self):
            prefix = f"{name}." if name else ""
            for key, field in type(section).model_fields.items():
                value = getattr(section, key)
                if not isinstance(value, Section):
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
        return to_toml(self, comments)


def _taken_from(loc: tuple[int | str, ...]) -> tuple[int | str, ...] | None:
    """The place of a setting of `[training]` that `[training.one_path]` may have taken over."""
    return ("training", *loc[2:]) if loc[:2] == ("training", "one_path") else None


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


def setting_names(section: type[BaseModel] = Config, prefix: str = "") -> Iterator[str]:
    """The names of all settings, as in `training.epochs`."""
    for name, field in section.model_fields.items():
        kinds = (field.annotation, *get_args(field.annotation))
        inner = [kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)]
        if inner:
            yield from setting_names(inner[0], f"{prefix}{name}.")
        else:
            yield prefix + name
