"""Reads the configuration: a TOML file, a preset or a mapping, then `key=value` overrides."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

from kgtool.config.configuration import Config
from kgtool.errors import ConfigError, path_of

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

# The errors of the TOML parser. Its own error and that of too long a number are ValueErrors.
NOT_TOML = (ValueError, RecursionError)

# The section of `kgtool tune`, which belongs to no run: see `kgtool.training.space`.
TUNE = "tune"


def preset_folder() -> Path:
    """The folder of the presets: inside the installed package, next to it in the repository."""
    package = Path(__file__).parents[1]
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
