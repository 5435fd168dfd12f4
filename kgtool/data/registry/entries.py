"""The registry of data sets, read from TOML files and validated."""

from __future__ import annotations

import difflib
import os
import re
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from kgtool.config import NOT_TOML, shown
from kgtool.errors import ConfigError, DataError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

BUNDLED = Path(__file__).with_name("data_sets.toml")
# The environment variable with the path of a file of further entries.
REGISTRY = "KGTOOL_REGISTRY"
# A name must be a valid file name on every system, without path separators.
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_ARCHIVE = re.compile(r"\.(zip|tar\.gz|tgz)$", re.IGNORECASE)
_THIS_MACHINE = ("127.0.0.1", "::1", "localhost")


class Entry(BaseModel):
    """A data set: the address and checksum of its archive, its counts, and its reference."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    name: str
    about: str = Field("", description="the content of the triples")
    address: str = Field(description="https, to a .zip, .tar.gz or .tgz")
    sha256: str = Field(pattern="^[0-9a-f]{64}$", description="of the archive, in lower case")
    size: int = Field(gt=0, description="bytes of the archive")
    train: int = Field(gt=0, description="triples of the split")
    valid: int = Field(gt=0, description="triples of the split")
    test: int = Field(gt=0, description="triples of the split")
    entities: int = Field(gt=0, description="of all three splits")
    relations: int = Field(gt=0, description="of all three splits")
    licence: str = Field("", description="of the triples")
    reference: str = Field("", description="the paper to cite")
    link: str = Field("", description="to the paper")

    @field_validator("name")
    @classmethod
    def _is_a_name(cls, name: str) -> str:
        if not NAME.fullmatch(name):
            raise ValueError("a name may have letters, digits, dots, dashes and underscores only")
        return name

    @field_validator("address")
    @classmethod
    def _leads_to_an_archive(cls, address: str) -> str:
        if not _ARCHIVE.search(urlsplit(check_address(address)).path):
            raise ValueError("the address must end in .zip, .tar.gz or .tgz")
        return address

    @property
    def file_name(self) -> str:
        """The name of the archive in the cache."""
        suffix = _ARCHIVE.search(urlsplit(self.address).path)
        assert suffix is not None  # the validator checked it
        return self.name + suffix[0].lower()


def check_address(address: str) -> str:
    """The address, if it is allowed: https, or http on this machine.

    Raises:
        ValueError: for any other address.
    """
    parts = urlsplit(address)
    if parts.scheme == "https" and parts.hostname:
        return address
    if parts.scheme == "http" and parts.hostname in _THIS_MACHINE:
        return address
    raise ValueError(f"{address!r} is not an https address")


def entries() -> dict[str, Entry]:
    """The data sets by name: those of the package, then those of the file in KGTOOL_REGISTRY.

    Raises:
        ConfigError: if that file cannot be read, or if an entry is invalid or repeats a name.
    """
    registry = _read(BUNDLED)
    own = os.environ.get(REGISTRY)
    if not own:
        return registry
    for name, entry in _read(Path(own)).items():
        # Names that differ in case only would share a file on some systems.
        taken = next((known for known in registry if known.casefold() == name.casefold()), None)
        if taken is not None:
            raise ConfigError(
                f"{own}: the name {name} is already used by {taken}. Remedy: choose another name."
            )
        registry[name] = entry
    return registry


def find_entry(name: str) -> Entry:
    """The entry with a name.

    Raises:
        DataError: for an unknown name; the message gives the nearest one.
        ConfigError: as `entries`.
    """
    known = entries()
    if name in known:
        return known[name]
    near = nearest_name(name)
    hint = f"did you mean {near}? " if near else ""
    raise DataError(f"unknown data set {name!r}. Remedy: {hint}kgtool data list shows all names.")


def nearest_name(name: str) -> str | None:
    """The name of a data set most similar to `name`, ignoring case, or None."""
    known = {entry.casefold(): entry for entry in entries()}
    matches = difflib.get_close_matches(name.casefold(), known, n=1)
    return known[matches[0]] if matches else None


def _read(path: Path) -> dict[str, Entry]:
    try:
        tables = tomllib.loads(path.read_bytes().decode("utf-8-sig"))
    except OSError as error:
        raise ConfigError(
            f"cannot read the registry {path}: {error.strerror}. Remedy: check {REGISTRY}."
        ) from error
    except NOT_TOML as error:
        raise ConfigError(f"{path}: not TOML in UTF-8: {error}") from error
    return {name: _parse(path, name, table) for name, table in tables.items()}


def _parse(path: Path, name: str, table: Any) -> Entry:
    if not isinstance(table, dict):
        raise ConfigError(
            f"{path}: {name} is outside of an entry. Remedy: put it below the name of a data set, "
            "such as [my-graph]."
        )
    try:
        return Entry.model_validate({**table, "name": name})
    except ValidationError as error:
        lines = (f"{path}, [{name}]: {_explain(one)}" for one in error.errors())
        raise ConfigError("\n".join(lines)) from None


def _explain(error: Any) -> str:
    """One line for one of pydantic's errors."""
    key = ".".join(str(part) for part in error["loc"])
    if error["type"] == "missing":
        return f"the key {key!r} is missing ({Entry.model_fields[key].description})"
    if error["type"] == "extra_forbidden":
        keys = [field for field in Entry.model_fields if field != "name"]
        return f"unknown key {key!r}; the keys are {', '.join(keys)}"
    return f"{key} = {shown(error['input'])}: {error['msg'].removeprefix('Value error, ')}"
