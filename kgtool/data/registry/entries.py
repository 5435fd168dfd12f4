"""The catalogue of data sets, read from TOML files and validated.

A file has a table for each data set. Keys before the first table hold for all of its data sets.
"""

from __future__ import annotations

import difflib
import os
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from kgtool.config import NOT_TOML, shown
from kgtool.errors import ConfigError, DataError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

BUNDLED = Path(__file__).with_name("catalogue")  # a file for each source
# The environment variable with the path of a file of further entries.
REGISTRY = "KGTOOL_REGISTRY"
# A name must be a valid file name on every system, without path separators.
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
# The endings of what loaders read as it is, alone.
_READABLE = re.compile(r"\.(zip|tar\.gz|tgz|(txt|tsv|csv)(\.gz)?)$", re.IGNORECASE)
# A file of a data set of several files: NAME, or NAME=PATH where the source has another path.
_FILE = re.compile(r"(?P<name>[\w-][\w.-]*(/[\w-][\w.-]*)?)(=(?P<path>[^=?#\s]+))?", re.ASCII)
_SHA256 = re.compile("[0-9a-f]{64}")
_THIS_MACHINE = ("127.0.0.1", "::1", "localhost")


@dataclass(frozen=True)
class Source:
    """A file to fetch: its name in the data set, its address, and its SHA-256, if it is known."""

    name: str
    address: str
    sha256: str


class Entry(BaseModel):
    """A data set: where it is, its counts, its licence and its reference.

    Counts, sizes and checksums that nobody published are None or empty.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    name: str
    about: str = Field("", description="the content of the triples")
    address: str = Field(
        description="https, to an archive, to a file of triples, or to the folder of `files`"
    )
    files: list[str] = Field(
        [], description="files below the address, as NAME or NAME=PATH; kgtool stores them as NAME"
    )
    layout: Literal["", "ogb", "hetionet"] = Field(
        "", description="the source's own layout, which kgtool converts"
    )
    sha256: str | list[str] = Field(
        "", description="of the archive or file, or of each of `files`; pinned at the first fetch "
        "if it is not known",
    )  # fmt: skip
    size: int | None = Field(None, gt=0, description="bytes to fetch")
    train: int | None = Field(None, gt=0, description="triples of the split")
    valid: int | None = Field(None, gt=0, description="triples of the split")
    test: int | None = Field(None, gt=0, description="triples of the split")
    triples: int | None = Field(None, gt=0, description="of a graph without splits")
    entities: int | None = Field(None, gt=0, description="of all splits")
    relations: int | None = Field(None, gt=0, description="of all splits")
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
    def _is_allowed(cls, address: str) -> str:
        return check_address(address)

    @field_validator("files")
    @classmethod
    def _are_names(cls, files: list[str]) -> list[str]:
        for file in files:
            if not _FILE.fullmatch(file) or ".." in file:
                raise ValueError(f"{file!r} is not NAME or NAME=PATH")
        return files

    @field_validator("sha256")
    @classmethod
    def _are_sums(cls, sums: str | list[str]) -> str | list[str]:
        for one in [sums] if isinstance(sums, str) else sums:
            if one and not _SHA256.fullmatch(one):
                raise ValueError("a SHA-256 has 64 digits from 0 to 9 and from a to f")
        return sums

    @model_validator(mode="after")
    def _fits(self) -> Entry:
        path = urlsplit(self.address).path
        if self.files and not path.endswith("/"):
            raise ValueError("the address of several files must end in /")
        if not self.files and not _READABLE.search(path):
            raise ValueError(
                "the address must end in .zip, .tar.gz, .tgz, or .txt, .tsv, .csv (also .gz); or "
                "in / where `files` names the files"
            )
        number = len(self.sha256) if isinstance(self.sha256, list) else None
        if number is not None and number != len(self.files):
            raise ValueError(f"sha256 has {number} sums for {len(self.files)} files")
        if self.files and isinstance(self.sha256, str) and self.sha256:
            raise ValueError("sha256 must be a list with the sum of each of `files`")
        return self

    @property
    def is_folder(self) -> bool:
        """Whether the cache has a folder of files, not an archive or a single file."""
        return bool(self.files or self.layout)

    @property
    def file_name(self) -> str:
        """The name of the archive, file or folder in the cache."""
        if self.is_folder:
            return self.name
        suffix = _READABLE.search(urlsplit(self.address).path)
        assert suffix is not None  # the validator checked it
        return self.name + suffix[0].lower()

    @property
    def total(self) -> int | None:
        """The number of all triples, if it is known."""
        splits = (self.train, self.valid, self.test)
        counts = [count for count in splits if count is not None]
        return self.triples if self.triples or len(counts) < len(splits) else sum(counts)

    def sources(self, address: str) -> list[Source]:
        """What to fetch.

        Args:
            address: the entry's, or that of a mirror.
        """
        if not self.files:
            assert isinstance(self.sha256, str)
            return [Source(urlsplit(self.address).path.rpartition("/")[2], address, self.sha256)]
        base = address if address.endswith("/") else f"{address}/"
        sums = self.sha256 if isinstance(self.sha256, list) else [""] * len(self.files)
        found = []
        for file, digest in zip(self.files, sums, strict=True):
            match = _FILE.fullmatch(file)
            assert match is not None  # the validator checked it
            name = match["name"]
            found.append(Source(name, base + (match["path"] or name), digest))
        return found


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
    registry: dict[str, Entry] = {}
    for path in sorted(BUNDLED.glob("*.toml")):
        registry |= _read(path)
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
    shared = {key: value for key, value in tables.items() if not isinstance(value, dict)}
    named = {key: value for key, value in tables.items() if isinstance(value, dict)}
    if shared and not named:
        raise ConfigError(
            f"{path}: {next(iter(shared))} is outside of an entry. Remedy: put it below the name "
            "of a data set, such as [my-graph]."
        )
    return {name: _parse(path, name, {**shared, **table}) for name, table in named.items()}


def _parse(path: Path, name: str, table: dict[str, Any]) -> Entry:
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
    problem = error["msg"].removeprefix("Value error, ")
    return f"{key} = {shown(error['input'])}: {problem}" if key else problem
