"""The search space of `kgtool tune`: settings of the configuration, each with its values.

The section `[tune]` of a TOML file names them:

    [tune]
    training.learning_rate = { log = [1e-3, 1e-1] }  # a range, on a logarithmic scale
    all_paths.edge_dropout = { range = [0.0, 0.5] }  # a range
    all_paths.layers = [3, 4, 5]                     # one of these
    dim = "default"                                  # values around the one of the configuration

Kinds and limits of values are those of the configuration. Without the section, the space is
`default_space`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from copy import deepcopy
from dataclasses import dataclass
from types import UnionType
from typing import Annotated, Any, Literal, TypeAlias, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from kgtool.config import (
    LARGEST,
    LONGEST,
    TUNE,
    Config,
    parse_config,
    setting_names,
    shown,
    unknown_key,
)
from kgtool.errors import ConfigError

FORMS = '[value, value], { range = [low, high] }, { log = [low, high] } or "default"'
# Settings of a run that are not a choice of the model or its training.
NOT_TUNED = ("data", "init_from", "seed")
# Settings that the default space has for a part, where the part uses them.
_ONE_PATH = (
    "encoder.layers", "one_path.input_dropout", "one_path.output_dropout", "one_path.n3",
    "one_path.dura", "one_path.relation_prediction", "one_path.margin",
    "one_path.adversarial_temperature",
)  # fmt: skip
_ALL_PATHS = ("all_paths.layers", "all_paths.edge_dropout", "all_paths.batch_size")


@dataclass(frozen=True)
class Choice:
    """One of several values."""

    values: tuple[str | int | float | bool, ...]

    def __str__(self) -> str:
        return f"one of {', '.join(map(str, self.values))}"


@dataclass(frozen=True)
class Range:
    """Numbers from `low` to `high`, both included.

    Attributes:
        log: whether they are drawn on a logarithmic scale.
        whole: whether they are whole numbers.
    """

    low: float
    high: float
    log: bool
    whole: bool

    def __str__(self) -> str:
        return f"{self.low:g} to {self.high:g}{', logarithmic' if self.log else ''}"


Domain: TypeAlias = Choice | Range
Space: TypeAlias = dict[str, Domain]


def parse_space(tune: object, config: Config, where: str = "the configuration") -> Space:
    """The space of a section `[tune]`; of `default_space` where it is None.

    Args:
        tune: the section: keys with dots, or nested tables.
        config: the configuration whose settings are tuned.
        where: the place of the section, for messages.

    Raises:
        ConfigError: for a key that does not exist (the error names the nearest) or that the model
            does not use, and for values that the setting cannot have; with all faults.
    """
    if tune is None:
        return default_space(config)
    if not isinstance(tune, Mapping) or not tune:
        raise ConfigError(
            f"{where}: [{TUNE}] has no settings. Remedy: name some, each with {FORMS}, or remove "
            "the section."
        )
    space: Space = {}
    faults = []
    for key, value in entries(tune, {*setting_names()}):
        try:
            space[key] = _domain(key, value, config)
        except ConfigError as error:
            faults.append(f"{where}: [{TUNE}]: {error}")
    if faults:
        raise ConfigError("\n".join(faults))
    return space


def default_space(config: Config) -> Space:
    """Values around those of the configuration, for the settings of its parts that matter most.

    These are learning rate, dimension, dropout and layers; the batch size of the all-paths part;
    and weights of the loss that are above 0. A value that does not fit the others is left out.
    """
    names: list[str] = []
    if config.one_path:
        inner = "training.one_path." if config.combined else "training."
        names += [f"{inner}learning_rate", "one_path.dim" if config.combined else "dim"]
        names += [name for name in _ONE_PATH if name.startswith("encoder") or _is_on(config, name)]
    if config.all_paths:
        names += ["training.learning_rate", "dim", *_ALL_PATHS]
    space: Space = {}
    for name in names:
        with suppress(ConfigError):
            domain = _default(name, _field(name), _value(config, name))
            if fitting := _fitting(name, domain, config):
                space[name] = fitting
    return space


def with_settings(settings: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """Nested settings with other values by name, as in `{"training.epochs": 20}`."""
    new = deepcopy(dict(settings))
    for name, value in values.items():
        *sections, key = name.split(".")
        section = new
        for part in sections:
            if not isinstance(section.get(part), dict):
                section[part] = {}
            section = section[part]
        section[key] = value
    return new


def base_settings(settings: Mapping[str, Any], config: Config) -> dict[str, Any]:
    """Nested settings to which values can be added without a change of the model's parts.

    A configuration that states no decoder has both parts; one with `one_path.dim` alone would have
    the one-path part alone.

    Args:
        settings: the settings as they were written.
        config: their configuration.
    """
    base = {key: value for key, value in settings.items() if key != TUNE}
    if any(base.get(name) is not None for name in ("one_path", "all_paths")):
        return deepcopy(base)
    return config.model_dump(exclude_none=True)


def values_of(config: Config, space: Space) -> dict[str, Any]:
    """The values of the configuration for the settings of a space that has them."""
    values = {name: _value(config, name) for name in space}
    return {name: value for name, value in values.items() if is_in(value, space[name])}


def is_in(value: Any, domain: Domain) -> bool:
    """Whether a domain has a value."""
    if isinstance(domain, Choice):
        return value in domain.values
    return value is not None and domain.low <= value <= domain.high


def entries(
    tune: Mapping[Any, Any], known: set[str], prefix: str = ""
) -> Iterator[tuple[str, Any]]:
    """The settings of nested tables with their values, as keys with dots.

    Args:
        tune: the tables.
        known: the names of settings, whose values may be tables.
        prefix: of all keys.
    """
    for key, value in tune.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping) and name not in known and not {"log", "range"} & {*value}:
            yield from entries(value, known, f"{name}.")
        else:
            yield name, value


def _domain(key: str, value: Any, config: Config) -> Domain:
    if key not in setting_names():
        raise ConfigError(unknown_key(key))
    if key in NOT_TUNED:
        raise ConfigError(f"{key} is not a setting to tune. Remedy: remove it")
    section, _, _ = key.rpartition(".")
    used = config.combined if section == "training.one_path" else getattr(config, section or "dim")
    if not used:
        raise ConfigError(
            f"{key}: the model does not use the section [{section}]. Remedy: remove the key, or "
            "add the section to the configuration"
        )
    if key == "one_path.dim" and not config.combined:
        raise ConfigError("one_path.dim is for a model with both parts. Remedy: tune dim")
    field, name = _field(key), f"{key} = {shown(value)}"
    if value == "default":
        return _default(key, field, _value(config, key))
    if isinstance(value, list | tuple):
        return _choice(name, field, value)
    if isinstance(value, Mapping) and len(value) == 1 and {*value} <= {"log", "range"}:
        ((form, ends),) = value.items()
        return _range(name, field, ends, log=form == "log")
    raise ConfigError(f"{name}: not values to choose from. Remedy: write {FORMS}")


def _choice(name: str, field: FieldInfo, values: list[Any] | tuple[Any, ...]) -> Choice:
    checked = tuple(dict.fromkeys(_checked(name, field, value) for value in values))
    if len(checked) < 2:
        raise ConfigError(
            f"{name}: fewer than two values. Remedy: add one, or set the one in the configuration"
        )
    return Choice(checked)


def _range(name: str, field: FieldInfo, ends: Any, log: bool) -> Range:
    kind = _kind(field)
    if kind not in (int, float):
        raise ConfigError(f"{name}: not a number. Remedy: list the values, as in [value, value]")
    if not isinstance(ends, list | tuple) or len(ends) != 2:
        raise ConfigError(f"{name}: a range has two ends. Remedy: write [low, high]")
    low, high = (_checked(name, field, end) for end in ends)
    if not low < high:
        raise ConfigError(f"{name}: the low end comes first and is below the high end")
    if log and low <= 0:
        raise ConfigError(f"{name}: a logarithmic scale begins above 0. Remedy: use range")
    return Range(low, high, log, kind is int)


def _checked(name: str, field: FieldInfo, value: Any) -> Any:
    """A value that the setting can have."""
    if not isinstance(value, str | int | float):
        raise ConfigError(f"{name}: {shown(value)} is not a number or text")
    rules = ConfigDict(strict=True, allow_inf_nan=False)
    kind: Any = field.annotation
    for rule in field.metadata:
        kind = Annotated[kind, rule]
    adapter: TypeAdapter[Any] = TypeAdapter(kind, config=rules)
    try:
        return adapter.validate_python(value)
    except ValidationError as error:
        raise ConfigError(f"{name}: {shown(value)}: {error.errors()[0]['msg']}") from None


def _default(key: str, field: FieldInfo, value: Any) -> Domain:
    """The values around one, by the kind and the limits of the setting.

    Raises:
        ConfigError: if the setting is unset or 0 and has no upper limit.
    """
    kind, limits = _kind(field), _limits(field)
    if get_origin(kind) is Literal:
        return Choice(get_args(kind))
    if kind is float and limits.get("high") == 1:
        return Range(0.0 if "low" in limits else 0.01, max(0.5, value), False, False)
    if kind is float and value:
        return Range(value / 10, value * 10, True, False)
    if kind is int and limits.get("high") == LONGEST:
        return Range(max(limits["low"], value - 1), min(LONGEST, value + 1), False, True)
    if kind is int and value and value > 1:
        most = limits.get("high", LARGEST**3)
        return Choice(tuple(v for v in (value // 2, value, 2 * value) if v <= most))
    raise ConfigError(
        f"{key}: {shown(value) if value is not None else 'unset'} gives no default values. Remedy: "
        f"write {FORMS.rpartition(' or ')[0]}"
    )


def _fitting(name: str, domain: Domain, config: Config) -> Domain | None:
    """The domain without values that do not fit the other settings; None if too few are left."""
    settings = config.model_dump(exclude_none=True)
    ends = domain.values if isinstance(domain, Choice) else (domain.low, domain.high)
    fits = []
    for value in ends:
        with suppress(ConfigError):
            parse_config(with_settings(settings, {name: value}))
            fits.append(value)
    if isinstance(domain, Range):
        return domain if len(fits) == 2 else None
    return Choice(tuple(fits)) if len(fits) > 1 else None


def _field(key: str) -> FieldInfo:
    """The field of a setting."""
    section: type[BaseModel] = Config
    *sections, name = key.split(".")
    for part in sections:
        kinds = get_args(section.model_fields[part].annotation) or (
            section.model_fields[part].annotation,
        )
        section = next(kind for kind in kinds if kind is not type(None))
    return section.model_fields[name]


def _kind(field: FieldInfo) -> Any:
    """The type of a setting's values, without None."""
    kind = field.annotation
    if get_origin(kind) in (Union, UnionType):
        kinds = [one for one in get_args(kind) if one is not type(None)]
        return kinds[0] if len(kinds) == 1 else kind
    return kind


def _limits(field: FieldInfo) -> dict[str, Any]:
    """The limits `low` and `high` of a number, where it has them; `low` if it may be reached."""
    limits: dict[str, Any] = {}
    for rule in field.metadata:
        for name, limit in (("ge", "low"), ("le", "high"), ("lt", "high")):
            if (value := getattr(rule, name, None)) is not None:
                limits[limit] = value
    return limits


def _value(config: Config, key: str) -> Any:
    """The value of a setting; for the one-path part, a common one where it has none of its own."""
    if config.one_path and config.combined:
        if key == "one_path.dim":
            return config.one_path.dim or config.dim
        if key.startswith("training.one_path.") and config.training.one_path is None:
            key = key.replace("one_path.", "")
    found: Any = config
    for part in key.split("."):
        found = getattr(found, part) if found is not None else None
    return found


def _is_on(config: Config, name: str) -> bool:
    """Whether a weight is above 0; dropout always counts."""
    return name.endswith("_dropout") or bool(_value(config, name))
