"""The configuration: settings from a TOML file and `key=value` overrides, checked at once."""

from kgtool.config.configuration import Config, setting_names, unknown_key
from kgtool.config.reading import (
    NOT_TOML,
    TUNE,
    load_config,
    parse_config,
    preset_folder,
    read_settings,
)
from kgtool.config.sections import (
    CELLS_OF,
    LARGEST,
    LONGEST,
    AllPathsConfig,
    EncoderConfig,
    OnePathConfig,
    PretrainConfig,
    TrainingConfig,
)
from kgtool.config.writing import differences, short_value, shown, toml_value

__all__ = [
    "CELLS_OF",
    "LARGEST",
    "LONGEST",
    "NOT_TOML",
    "TUNE",
    "AllPathsConfig",
    "Config",
    "EncoderConfig",
    "OnePathConfig",
    "PretrainConfig",
    "TrainingConfig",
    "differences",
    "load_config",
    "parse_config",
    "preset_folder",
    "read_settings",
    "setting_names",
    "short_value",
    "shown",
    "toml_value",
    "unknown_key",
]
