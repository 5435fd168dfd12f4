"""The configuration as text: TOML, and values in messages."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import tomli_w

from kgtool.config.sections import Section


def sections_of(section: Section, name: str = "") -> Iterator[tuple[str, Section]]:
    """A section and those inside it, each with its name, as in `training.one_path`."""
    yield name, section
    for key, value in section:
        if isinstance(value, Section):
            yield from sections_of(value, f"{name}.{key}" if name else key)


def to_toml(config: Section, comments: bool) -> str:
    """See `kgtool.config.Config.to_toml`."""
    if not comments:
        return tomli_w.dumps(config.model_dump(exclude_none=True))
    return "\n\n".join(_described(section, name) for name, section in sections_of(config)) + "\n"


def _described(section: Section, name: str) -> str:
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


def short_value(value: object) -> str:
    """`toml_value`, with three digits of a number that is not whole."""
    return f"{value:.3g}" if isinstance(value, float) else toml_value(value)


def shown(value: Any) -> str:
    """A value as a message shows it, shortened."""
    try:
        text = repr(value)
    except ValueError:  # a whole number too long for decimal digits
        return "a number of thousands of digits"
    return text if len(text) <= 80 else text[:79] + "…"
